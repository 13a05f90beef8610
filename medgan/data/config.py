"""Options that say what images there are and how they become arrays: one declaration for Python, flags and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from medgan.core.config import Config, option
from medgan.core.spec import DataSpec

__all__ = ["PHANTOM", "READING", "DataConfig", "shape_options"]

PHANTOM = "phantom://chest"
"""The embedded chest radiographs; see `medgan.data.defaults` for what is used when no data is named."""

READING = (
    "slices",
    "spacing",
    "frame",
    "window",
    "pipeline",
    "fit",
    "contrast",
    "crop_border",
    "mask_markers",
    "channels",
)
"""Options of `DataConfig` that say how a file becomes an image, but for its size; see `shape_options`."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Options of a data set; see `medgan.data.open_dataset`, which takes each of them by name."""

    data: str = option(
        PHANTOM,
        "Images: a class folder, a manifest (.csv), a known data set's folder, an .npz, or phantom://chest, "
        "phantom://chest-lowdose (with sources) or phantom://thorax (volumes).",
    )
    layout: Literal[
        "auto",
        "folder",
        "manifest",
        "kermany",
        "nih-chestxray14",
        "chexpert",
        "mimic-cxr-jpg",
        "rsna-pneumonia",
        "vindr-cxr",
        "padchest",
        "medmnist",
        "pairs",
        "side-by-side",
        "unpaired",
    ] = option(
        "auto",
        "How the data is laid out; auto: by what was given, a manifest for a .csv, pairs for folders source and target "
        "with files of the same names, else class folders.",
    )
    labels: str | None = option(
        None, "Labels to keep, joined by commas. A single finding of several becomes a yes-or-no class."
    )
    label_kind: Literal["categorical", "multilabel", "ordinal", "continuous"] | None = option(
        None, "What the labels are, where the data does not show it; classes of folders may be ordinal."
    )
    uncertain: Literal["drop", "negative", "positive", "mask"] | None = option(
        None, "What to make of uncertain labels (-1); needed where there are any."
    )
    missing: Literal["drop", "negative", "mask"] | None = option(
        None, "What to make of missing labels; needed where there are any."
    )
    view: str | None = option(None, "Only images of this view, such as PA or frontal.")
    size: int = option(
        64,
        "Height and width of the images, in pixels; of phantoms the smallest from 32 that the architecture makes.",
        ge=2,
        le=4096,
    )
    depth: int | None = option(
        None, "Slices of a volume: images are whole volumes, depth × size × size.", ge=2, le=4096
    )
    slices: str | None = option(None, "Slices of volumes as images: axial, coronal or sagittal, such as axial:0.3-0.7.")
    spacing: str | None = option(None, "Resample volumes to this spacing in mm: one number, or depth,height,width.")
    frame: int | None = option(None, "Only this frame of files with several, from 1.", ge=1)
    window: str | None = option(
        None,
        "Black and white of DICOM files and volumes: auto, none, percentile or CENTER,WIDTH; pictures have none.  "
        "[default: the pipeline's]",
    )
    pipeline: Literal["auto", "xray", "ct", "mri", "rgb", "raw"] = option(
        "auto", "Named preprocessing; auto shows images as their files say."
    )
    channels: Literal["auto", "1", "3"] = option("auto", "1 for grey, 3 for RGB, auto for what the images are.")
    fit: Literal["stretch", "pad", "crop"] = option("stretch", "How images of other proportions come to their size.")
    contrast: Literal["none", "clahe", "percentile"] = option(
        "none", "Stretch the contrast: locally (clahe), or between the percentiles 0.5 and 99.5 of each image."
    )
    crop_border: bool = option(False, "Cut off dark borders.")
    mask_markers: bool = option(False, "Mask bright letters near the corners; may take devices with them.")
    patient_regex: str | None = option(
        None, "Where the patient is in a file name: a regular expression's groups, or the preset kermany."
    )
    max_bad: float = option(0.01, "Largest share of unusable images.", ge=0, le=1)
    licence: str | None = option(
        None, "Terms of the images, for the model card, such as 'CC BY 4.0'; those of known data sets are known."
    )
    citation: str | None = option(None, "How to cite the images, for the model card.")
    workers: int | None = option(
        None, "Processes that decode images; 0 for none but this one.  [default: by need]", ge=0
    )


def shape_options(spec: DataSpec) -> dict[str, Any]:
    """Return the options of `DataConfig` that give images the size and the channels of others.

    Args:
        spec: Of the others, or of a model.
    """
    size = spec.size
    return {"size": size[-1], "channels": str(spec.channels), **({"depth": size[0]} if len(size) == 3 else {})}
