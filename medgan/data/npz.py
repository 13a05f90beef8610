"""MedMNIST files, and others of their make: ``train_images``, ``train_labels``, ``val_images``, ... in one ``.npz``.

The names of the classes are not in MedMNIST's files; they are known here by the file's name. Samples say theirs in
``label_names``, and in ``label_kind`` what their labels are.

Reference: Yang et al., MedMNIST v2, Scientific Data 10, 41, 2023, doi:10.1038/s41597-022-01721-8.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from medgan.core.spec import LabelKind, LabelSpec
from medgan.data.decoded import DecodedImage, ReadError, is_constant, without_equal_channels
from medgan.data.labels import LabelForm, Missing, settle
from medgan.data.manifest import check_names
from medgan.data.sources import Entry
from medgan.errors import DataError, nearest

__all__ = ["CLASS_NAMES", "NpzSource", "open_npz"]

_SPLITS = ("train", "val", "test")
_VALUES: dict[LabelKind, str] = {
    "categorical": "class indices 0, 1, 2",
    "ordinal": "class indices 0, 1, 2",
    "multilabel": "0 and 1, or NaN where not known",
    "continuous": "finite numbers, or NaN where not known",
}

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast", "immature granulocyte"),
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "breastmnist": ("malignant", "normal, benign"),
    "chestmnist": (
        *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
        *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma",
        *("basal cell carcinoma", "benign keratosis-like lesions", "dermatofibroma"),
        *("melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle"),
        *("normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
    "nodulemnist3d": ("benign", "malignant"),
    "organmnist3d": (
        *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder"),
        *("heart", "lung-right", "lung-left", "spleen", "pancreas"),
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
        "Thick Ascending Limb",
    ),
}
"""Names of MedMNIST's classes (or findings, of chestmnist), in the order of their indices."""


@dataclass(frozen=True)
class NpzSource:
    """One split of a ``.npz`` file."""

    path: Path
    split: str
    name: str
    labels: LabelSpec | None
    entries: tuple[Entry, ...]
    licence: str | None = None
    citation: str | None = None
    missing: Missing | None = None  # what has been made of labels that are not known

    @property
    def description(self) -> str:
        """The file and its split."""
        return f"{self.path}#{self.split}"

    @property
    def ignored(self) -> dict[str, int]:
        """Nothing is left aside."""
        return {}

    @cached_property
    def _images(self) -> NDArray[Any]:
        """All images; read anew in each worker process."""
        return _images(self.path, self.split)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the images out when a worker process gets a copy."""
        return {key: value for key, value in self.__dict__.items() if key != "_images"}

    def identity(self) -> Iterator[Any]:
        """Yield the path, size and times of the file, and the labels' names."""
        status = self.path.stat()
        names = None if self.labels is None else [self.labels.kind, *self.labels.names]
        yield ["npz", str(self.path), self.split, status.st_size, status.st_mtime_ns, status.st_ctime_ns, names]
        if self.missing is not None:
            yield ["missing", self.missing]

    def read(self, position: int) -> Sequence[DecodedImage]:
        """Return one image of the array."""
        row = int(self.entries[position].file.rpartition("/")[2])  # entries may be some of the images
        pixels = self._images[row]
        pixels = pixels[..., None] if pixels.ndim == 2 or _holds_volumes(self._images) else pixels
        if is_constant(pixels):
            error = f"constant image: every pixel is {', '.join(map(str, pixels.reshape(-1, pixels.shape[-1])[0]))}"
            raise ReadError("check", error, "an image without content teaches nothing")
        return [DecodedImage(without_equal_channels(pixels), "array", pixels.dtype.itemsize * 8)]


def open_npz(
    source: str, *, volumes: bool = False, labels: Sequence[str] | None = None, missing: Missing | None = None
) -> NpzSource:
    """Open a ``.npz`` file of images and labels; nothing in it is ever unpickled.

    Args:
        source: Path of the file, with ``#val`` or ``#test`` for another split than ``train``.
        volumes: Whether the images are volumes, ``(N, depth, height, width)``.
        labels: Labels to keep, in this order; None for all. Images of other classes are left out; a single finding
            gives two classes, without and with it.
        missing: What to make of findings and quantities that are NaN; see `medgan.data.labels.settle`. None keeps them
            as not known, as long as they are not to be a class.

    Returns:
        The source. Its labels are what the array ``label_kind`` says; without, one column gives classes, several give a
        multi-label set.

    Raises:
        DataError: If the file, the split or a label does not exist, or the arrays are not images with labels.
    """
    path, split = Path(source), "train"
    if not path.exists() and "#" in source:
        stem, split = source.rsplit("#", 1)
        path = Path(stem)
    if not path.is_file():
        raise DataError(f"There is no file {path} (looked in {Path.cwd()}). Give a file such as pneumoniamnist.npz.")
    path = path.resolve()
    if split not in _SPLITS:
        raise DataError(f"{path.name} has no split {split!r}. {nearest(split, _SPLITS)} Type {path}#val.")
    images = _images(path, split)
    if volumes != _holds_volumes(images):
        shape = images.shape[1:]
        advice = f"Type --depth {shape[0]} --size {shape[1]}." if not volumes else "Leave out --depth."
        raise DataError(f"{path.name} holds {'pictures' if volumes else 'volumes'} of the shape {shape}. {advice}")
    licence, citation = None, None
    if (known := re.sub(r"_\d+$", "", path.stem.lower())) in CLASS_NAMES:
        licence = "CC BY-NC 4.0" if known == "dermamnist" else "CC BY 4.0"
        citation = "Yang et al., Scientific Data 10, 41, 2023, doi:10.1038/s41597-022-01721-8, and its source data set"
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "data"
    files = [f"{split}/{row:06d}" for row in range(len(images))]
    found = _array(path, f"{split}_labels", required=False)
    if found is None:
        if labels is not None:
            raise DataError(f"{path} has no labels: there is no array {split}_labels. Leave --labels out.")
        return NpzSource(path, split, name, None, tuple(map(Entry, files)), licence, citation)
    spec, values = _read_labels(path, split, found, len(images))
    if labels is not None:
        check_names(labels, spec.names, f"label of {path}")
    chosen = spec.names if labels is None else tuple(labels)
    if spec.kind in ("categorical", "ordinal"):
        words = [spec.names[int(number)] for number in values[:, 0]]
        entries = [Entry(file, word) for file, word in zip(files, words, strict=True) if word in chosen]
        spec, missing = replace(spec, names=chosen), None
    else:
        spec, entries = _settle(spec, values, chosen, files, missing)
    return NpzSource(path, split, name, spec, tuple(entries), licence, citation, missing)


def _settle(
    spec: LabelSpec, values: NDArray[np.float64], chosen: tuple[str, ...], files: Sequence[str], missing: Missing | None
) -> tuple[LabelSpec, list[Entry]]:
    """Take some of the findings or quantities, and apply the policy for those that are not known."""
    binary = spec.kind == "multilabel" and len(chosen) == 1
    form: LabelForm = "numbers" if spec.kind == "continuous" else "finding" if binary else "findings"
    policy = missing if binary else missing or "mask"
    columns = [spec.names.index(name) for name in chosen]
    settled, keep = settle(values[:, columns], chosen, form, uncertain=None, missing=policy)
    kept = [(file, row) for file, row, wanted in zip(files, settled.tolist(), keep, strict=True) if wanted]
    if not binary:
        return replace(spec, names=chosen), [Entry(file, values=tuple(row)) for file, row in kept]
    words = (f"no {chosen[0]}", chosen[0])
    return LabelSpec(words), [Entry(file, words[int(row[0])]) for file, row in kept]


def _names(path: Path) -> tuple[str, ...] | None:
    """Return the classes' names: those in the file, as `medgan sample` writes them, or MedMNIST's."""
    written = _array(path, "label_names", required=False)
    if written is not None:
        return tuple(str(name) for name in written.reshape(-1))
    return CLASS_NAMES.get(re.sub(r"_\d+$", "", path.stem.lower()))


def _read_labels(path: Path, split: str, labels: NDArray[Any], count: int) -> tuple[LabelSpec, NDArray[np.float64]]:
    """Check the labels of a split, and say what they are; their values have the shape ``(N, K)``."""
    labels = labels.reshape(-1, 1) if labels.ndim < 2 else labels
    written = _array(path, "label_kind", required=False)
    kind: Any = None if written is None else str(written)
    if kind not in (None, *get_args(LabelKind)):
        raise DataError(f"{path}: label_kind is {kind!r}. {nearest(kind, get_args(LabelKind))}")
    if kind is None:
        grades = path.stem.lower().startswith("retinamnist")
        kind = "multilabel" if labels.shape[1] > 1 else "ordinal" if grades else "categorical"
    classes = kind in ("categorical", "ordinal")
    if (
        labels.ndim != 2
        or len(labels) != count
        or labels.dtype.kind not in "iubf"
        or (classes and labels.shape[1] != 1)
    ):
        raise DataError(
            f"{path}: {split}_labels has the shape {labels.shape} and type {labels.dtype} for {count} images. "
            "Expected class indices of shape (N, 1), or 0 and 1 of shape (N, findings)."
        )
    values = labels.astype(np.float64)
    if classes:
        fitting = (values >= 0) & (values == np.floor(values)) & np.isfinite(values)
    elif kind == "multilabel":
        fitting = np.isin(values, (0, 1)) | np.isnan(values)
    else:
        fitting = ~np.isinf(values)
    if not fitting.all():
        raise DataError(f"{path}: {split}_labels holds {values[~fitting][0]:g}. Expected {_VALUES[kind]}.")
    known = _names(path)
    if not classes:
        if known is None or len(known) != values.shape[1]:
            word = "finding" if kind == "multilabel" else "quantity"
            known = tuple(f"{word} {column}" for column in range(values.shape[1]))
        return LabelSpec(known, kind), values
    highest = int(values.max(initial=0))
    if known is None and highest >= max(2, len(values)):
        raise DataError(f"{path}: labels go up to {highest:,} for {len(values):,} images. Expected {_VALUES[kind]}.")
    if known is None or len(known) <= highest:
        known = tuple(f"class {number}" for number in range(highest + 1))
    return LabelSpec(known, kind), values


def _images(path: Path, split: str) -> NDArray[Any]:
    """Read and check the images of a split."""
    images = _array(path, f"{split}_images", required=True)
    assert images is not None
    if images.dtype not in (np.uint8, np.uint16) or images.ndim not in {3, 4}:
        raise DataError(
            f"{path}: {split}_images has the shape {images.shape} and type {images.dtype}. Expected (N, height, "
            "width), (N, height, width, 3) or (N, depth, height, width) of uint8 or uint16."
        )
    if not len(images):
        raise DataError(f"No images found in the dataset. Given: {path}#{split}. Give another split: {path}#val.")
    return images


def _holds_volumes(images: NDArray[Any]) -> bool:
    """Whether an array is ``(N, depth, height, width)`` rather than pictures."""
    return images.ndim == 4 and images.shape[3] not in {1, 3}


def _array(path: Path, key: str, *, required: bool) -> NDArray[Any] | None:
    """Read one array of the file."""
    try:
        # Opened here, as numpy leaves a file open that is no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if key in arrays.files:
                array: NDArray[Any] = arrays[key]
                return array
            if not required:
                return None
            raise DataError(
                f"No images found in the dataset. Given: {path}, whose arrays are {', '.join(arrays.files) or 'none'}. "
                f"Expected an array {key}, as MedMNIST files have."
            )
    except DataError:
        raise
    except (OSError, ValueError, EOFError, TypeError, MemoryError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as a .npz file of plain arrays ({error}). Download it again; a file that needs "
            "pickle is never opened, as it could run any program."
        ) from error
