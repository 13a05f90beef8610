"""Samples as files: class folders with a table, or one array file; each a data set in itself."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgan.core.saving import versions
from medgan.core.spec import Batch, DataSpec
from medgan.core.trainer import make_accelerator
from medgan.data.dicom_writer import ModelIdentity, write_dicom
from medgan.data.nifti_writer import write_nifti
from medgan.data.pairs import stem_of
from medgan.data.pixels import to_uint8, to_uint16
from medgan.errors import ConfigError, nearest
from medgan.pages import make_comparison, make_grid, save_image

if TYPE_CHECKING:
    from torch import Tensor

    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["write_samples"]

_FORMS = ("png", "npz", "dicom", "nifti")
_SUFFIXES = {"png": "png", "dicom": "dcm", "nifti": "nii.gz"}
_GRID_IMAGES = 64
_READ = 256  # sources at a time
_TABLE, _FACTS = "samples.csv", "synthetic.json"


def write_samples(
    gan: GAN,
    out: Path,
    *,
    seeds: Sequence[int],
    labels: Sequence[str] | Tensor | None = None,
    sources: ImageDataset | None = None,
    truncation: float = 1.0,
    form: str = "png",
    bits: int = 8,
    grid: bool = False,
    device: str = "auto",
) -> Path:
    """Sample images to disk in constant memory.

    The folder gets its name only when everything in it is written. Whatever the form, every file says that it is
    synthetic, and ``synthetic.json`` says which model made them from which data.

    Args:
        gan: The model.
        out: Folder to create.
        seeds: Seed of each image.
        labels: Class names, or values such as ``Effusion=1,Edema=0`` (see `LabelSpec.encode`), taken in turn, or
            one for each image as in `Batch`; None for all classes.
        sources: Images to translate, one for each seed, for an architecture that does so. Their translations are called
            as they are, and ``samples.csv`` tells which is of which in the column ``source``.
        truncation: As in `GAN.sample`.
        form: ``png``, ``dicom`` or, of volumes, ``nifti``, with ``samples.csv`` beside the class folders, a manifest
            with the columns path, label (or, of findings and quantities, ``label:NAME`` for each) and seed; or ``npz``,
            ``samples.npz`` with ``train_images``, ``train_labels``, ``label_names``, ``label_kind``, ``seeds`` and
            ``comment``, and of translations ``sources``. DICOM files are Secondary Capture images; see
            `medgan.data.dicom_writer`. NIfTI files have the spacing of the training data where that is known, else
            1 mm; see `medgan.data.nifti_writer`.
        bits: Bits per sample, 8 or 16; 16 for DICOM only. From -1 to 1 the images fill 0 to 255 or 0 to 65535. More
            bits keep finer steps of the model; they hold no detail that its training images had not.
        grid: Also write an overview of the first 64 images to ``<out>-grid.png``, beside the folder
            so that it does not become one of its images.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The folder.

    Raises:
        ConfigError: If the folder holds something already, a label or seed does not fit, or the form cannot hold
            such images.
    """
    if form not in _FORMS:
        raise ConfigError(f"Format {form!r} is unknown. {nearest(form, _FORMS)}")
    if bits not in (8, 16) or (bits == 16 and form != "dicom"):
        raise ConfigError(f"Samples as {form} cannot have {bits} bits: DICOM has 8 or 16, the others have 8.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    _check_form(gan.data, form)
    wanted = gan.make_labels(len(seeds), labels)  # a wrong label is said before anything is written
    gan.generator.to(make_accelerator(device).device)
    names = None if sources is None else _names_of(sources)
    first: list[Batch] = []

    def watched() -> Iterator[Batch]:
        for batch in _sample(gan, seeds, wanted, sources, truncation):
            if grid and sum(len(part.images) for part in first) < _GRID_IMAGES:
                first.append(batch)
            yield batch

    model = _identify(gan)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            aside.chmod(0o755)
            if form == "npz":
                _write_npz(gan, aside, watched(), seeds, names)
            else:
                _write_pictures(gan, aside, watched(), seeds, model, form, bits, names)
            _write_facts(gan, aside, model, images=len(seeds), truncation=truncation, bits=bits)
            if out.exists():
                out.rmdir()
            aside.replace(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"Images could not be written to {out}: {error.strerror or error}.") from error
    if grid:
        shown = Batch.join(first).select(slice(_GRID_IMAGES))
        if shown.sources is None:
            picture = make_grid(shown, gan.data)
        else:
            picture = make_comparison({"source": shown.sources, "translated": shown.images})
        save_image(picture, out.with_name(f"{out.name}-grid.png"))
    return out


def _sample(
    gan: GAN, seeds: Sequence[int], labels: Tensor | None, sources: ImageDataset | None, truncation: float
) -> Iterator[Batch]:
    """Make the images, some at a time, so that sources are read as they are needed."""
    step = len(seeds) if sources is None else _READ
    for start in range(0, len(seeds), step):
        rows = range(start, min(start + step, len(seeds)))
        yield from gan.sample_batches(
            seeds[rows.start : rows.stop],
            labels=None if labels is None else labels[rows.start : rows.stop],
            sources=None if sources is None else sources.images_at(rows),
            truncation=truncation,
        )


def _names_of(sources: ImageDataset) -> list[tuple[str, str]]:
    """Return for each source what its translation is called, without a suffix, and what it is called itself."""
    names: list[tuple[str, str]] = []
    taken: set[str] = set()
    parts = sources.index["part"] if "part" in sources.index else [""] * len(sources)
    for file, part in zip(sources.index["file"], parts, strict=True):
        path = PurePosixPath(file)
        # A name from a table may be a path that leads elsewhere, or hold what a file system does not take.
        folders = [] if path.is_absolute() or ".." in path.parts else list(path.parts[:-1])
        stem = f"{stem_of(path.name)} {part}" if part else stem_of(path.name)
        name = "/".join(re.sub(r"[^\w .+-]", "_", piece).strip(" .") or "_" for piece in [*folders, stem])
        number, free = 1, name
        while free.casefold() in taken:
            number, free = number + 1, f"{name}-{number + 1}"
        taken.add(free.casefold())
        names.append((free, f"{file} {part}".rstrip()))
    return names


def _check_form(data: DataSpec, form: str) -> None:
    """Raise if files of a form cannot hold such images."""
    grey_volumes = len(data.size) == 3 and data.channels == 1
    if form == "nifti" and not grey_volumes:
        other = "png" if len(data.size) == 2 and data.channels in (1, 3) else "npz"
        raise ConfigError(f"NIfTI holds grey volumes, but this model makes {data}. Use --format {other}.")
    if form in ("png", "dicom") and (len(data.size) != 2 or data.channels not in (1, 3)):
        holder = "PNG" if form == "png" else "DICOM Secondary Capture"
        other = "nifti or --format npz" if grey_volumes else "npz"
        raise ConfigError(f"{holder} holds grey or RGB pictures, but this model makes {data}. Use --format {other}.")


def _identify(gan: GAN) -> ModelIdentity:
    """Return what tells this model from all others: the checksum is the one in a saved model's facts."""
    return ModelIdentity(
        architecture=gan.name,
        weights=gan.weights_sha256,
        fingerprint=str(gan.provenance.get("fingerprint") or ""),
        licence=str(gan.provenance.get("licence") or ""),
    )


def _comment(gan: GAN) -> str:
    """Return the words that go into every file."""
    return f"Synthetic image made by medgan ({gan.name}); not for diagnosis."


def _write_facts(gan: GAN, folder: Path, model: ModelIdentity, **how: Any) -> None:
    """Write where the images come from, for those who get the folder without the model."""
    facts = {
        "synthetic": True,
        "comment": f"{_comment(gan)} Not anonymous by itself: a generator can reproduce training images.",
        "architecture": model.architecture,
        "weights_sha256": model.weights,
        "training_data": gan.provenance,
        **how,
        "versions": versions(),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    (folder / _FACTS).write_text(f"{text}\n", encoding="utf-8")


def _write_pictures(
    gan: GAN,
    folder: Path,
    batches: Iterator[Batch],
    seeds: Sequence[int],
    model: ModelIdentity,
    form: str,
    bits: int,
    sources: Sequence[tuple[str, str]] | None,
) -> None:
    """Write one file an image, and the table."""
    names = _folder_names(gan.data)
    note = PngInfo()
    note.add_text("Comment", _comment(gan))
    suffix = _SUFFIXES[form]
    spacing = gan.provenance.get("spacing_mm") or (1.0, 1.0, 1.0)
    # File names that are not UTF-8 are written as they are.
    with (folder / _TABLE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        table = csv.writer(stream)
        table.writerow(["path", *_label_columns(gan.data), "seed", *([] if sources is None else ["source"])])
        position = 0
        for batch in batches:
            for row, array in enumerate(to_uint8(batch.images) if bits == 8 else to_uint16(batch.images)):
                seed = seeds[position]
                label, place = _label(gan.data, batch, row, names)
                # The position keeps two images of the same label and seed apart.
                file = f"{place}synthetic-{position:06d}-seed{seed}.{suffix}"
                if sources is not None:
                    file = f"{sources[position][0]}.{suffix}"
                # Only classes that have images: an empty class folder is no data set.
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                if form == "png":
                    picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
                    picture.save(folder / file, pnginfo=note)
                elif form == "nifti":
                    write_nifti(folder / file, array[..., 0], spacing_mm=spacing, comment=_comment(gan))
                else:
                    write_dicom(folder / file, array, label=label, seed=seed, model=model)
                origin = [] if sources is None else [sources[position][1]]
                table.writerow([file, *_label_cells(gan.data, batch, row), seed, *origin])
                position += 1


def _label_columns(data: DataSpec) -> list[str]:
    """Return the names of the table's columns for the labels, as a manifest has them."""
    if data.labels is None:
        return []
    if data.labels.kind in ("categorical", "ordinal"):
        return ["label"]
    return [f"label:{name}" for name in data.labels.names]


def _label_cells(data: DataSpec, batch: Batch, row: int) -> list[str]:
    """Return an image's label in these columns; empty where it is not known."""
    if batch.labels is None or data.labels is None:
        return []
    value = batch.labels[row]
    if value.ndim == 0:
        return [data.labels.names[int(value)]]
    return ["" if math.isnan(number) else f"{number:.9g}" for number in value.tolist()]


def _label(data: DataSpec, batch: Batch, row: int, names: Sequence[str]) -> tuple[str, str]:
    """Return an image's label as text, and its folder with a slash."""
    if batch.labels is None or data.labels is None:
        return "", ""
    value = batch.labels[row]
    if value.ndim == 0:
        return data.labels.names[int(value)], f"{names[int(value)]}/"
    return json.dumps(dict(zip(data.labels.names, value.tolist(), strict=True))), ""


def _folder_names(data: DataSpec) -> list[str]:
    """Return a folder for each class; a name from a model file must not lead elsewhere."""
    if data.labels is None or data.labels.kind not in ("categorical", "ordinal"):
        return []
    safe = [re.sub(r"[^\w .+-]", "_", name).strip(" .") or "_" for name in data.labels.names]
    if len({name.casefold() for name in safe} | {_TABLE, _FACTS}) < len(safe) + 2:
        safe = [f"{index}_{name}" for index, name in enumerate(safe)]
    return safe


def _write_npz(
    gan: GAN,
    folder: Path,
    batches: Iterator[Batch],
    seeds: Sequence[int],
    sources: Sequence[tuple[str, str]] | None,
) -> None:
    """Write the images into the archive as they come: 30,000 of them need no memory."""
    data = gan.data
    shape = (len(seeds), *data.size) if data.channels == 1 else (len(seeds), *data.size, data.channels)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    labels: list[Any] = []
    with zipfile.ZipFile(folder / "samples.npz", "w", zipfile.ZIP_STORED) as archive:
        with archive.open("train_images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for batch in batches:
                stream.write(to_uint8(batch.images).tobytes())
                if batch.labels is not None:
                    labels.append(batch.labels.numpy())
        arrays: dict[str, Any] = {"seeds": np.asarray(seeds, dtype=np.int64), "comment": np.asarray(_comment(gan))}
        if sources is not None:
            arrays["sources"] = np.asarray([source for _, source in sources], dtype=np.str_)
        if labels and data.labels is not None:
            stacked = np.concatenate(labels)
            if data.labels.kind == "multilabel" and np.isin(stacked, (0, 1)).all():
                stacked = stacked.astype(np.uint8)  # as MedMNIST's files have findings
            arrays["train_labels"] = stacked[:, None] if stacked.ndim == 1 else stacked
            arrays["label_names"] = np.asarray(data.labels.names)
            arrays["label_kind"] = np.asarray(data.labels.kind)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
