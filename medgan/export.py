"""Samples as files: class folders with a table, or one array file; each a data set in itself."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgan.core.spec import Batch, DataSpec
from medgan.core.trainer import make_accelerator
from medgan.errors import ConfigError
from medgan.training.pictures import make_grid, save_image, to_uint8

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["write_samples"]

_GRID_IMAGES = 64


def write_samples(
    gan: GAN,
    out: Path,
    *,
    seeds: Sequence[int],
    labels: Sequence[str] | None = None,
    truncation: float = 1.0,
    form: str = "png",
    grid: bool = False,
    device: str = "auto",
) -> Path:
    """Sample images to disk in constant memory.

    The folder gets its name only when everything in it is written.

    Args:
        gan: The model.
        out: Folder to create.
        seeds: Seed of each image.
        labels: Class names, taken in turn; None for all classes.
        truncation: As in `GAN.sample`.
        form: ``png``, with ``samples.csv`` (file, label, seed) beside the class folders; or ``npz``,
            ``samples.npz`` with ``train_images``, ``train_labels``, ``label_names`` and ``seeds``.
        grid: Also write an overview of the first 64 images to ``<out>-grid.png``, beside the folder
            so that it does not become one of its images.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The folder.

    Raises:
        ConfigError: If the folder holds something already, or a label or seed does not fit.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    if form == "png" and (len(gan.data.size) != 2 or gan.data.channels not in (1, 3)):
        raise ConfigError(f"PNG holds grey or RGB pictures, but this model makes {gan.data}. Use --format npz.")
    gan.make_labels(len(seeds), labels)  # a wrong label is said before anything is written
    gan.generator.to(make_accelerator(device).device)
    first: list[Batch] = []

    def watched() -> Iterator[Batch]:
        for batch in gan.sample_batches(seeds, labels=labels, truncation=truncation):
            if sum(len(part.images) for part in first) < _GRID_IMAGES:
                first.append(batch)
            yield batch

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            aside.chmod(0o755)
            if form == "png":
                _write_png(gan, aside, watched(), seeds)
            else:
                _write_npz(gan.data, aside, watched(), seeds)
            if out.exists():
                out.rmdir()
            aside.replace(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"Images could not be written to {out}: {error.strerror or error}.") from error
    if grid:
        shown = Batch(
            torch.cat([part.images for part in first])[:_GRID_IMAGES],
            torch.cat([part.labels for part in first if part.labels is not None])[:_GRID_IMAGES]
            if first[0].labels is not None
            else None,
        )
        save_image(make_grid(shown, gan.data), out.with_name(f"{out.name}-grid.png"))
    return out


def _write_png(gan: GAN, folder: Path, batches: Iterator[Batch], seeds: Sequence[int]) -> None:
    """Write one PNG an image, and the table."""
    names = _folder_names(gan.data)
    note = PngInfo()
    note.add_text("Comment", f"Synthetic image made by medgan ({gan.name}); not for diagnosis.")
    with (folder / "samples.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label", "seed"])
        position = 0
        for batch in batches:
            for row, array in enumerate(to_uint8(batch.images)):
                seed = seeds[position]
                label, place = _label(gan.data, batch, row, names)
                # The position keeps two images of the same label and seed apart.
                file = f"{place}{position:06d}-seed{seed}.png"
                picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
                # Only classes that have images: an empty class folder is no data set.
                (folder / place).mkdir(exist_ok=True)
                picture.save(folder / file, pnginfo=note)
                table.writerow([file, label, seed])
                position += 1


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
    if len({name.casefold() for name in safe} | {"samples.csv"}) <= len(safe):
        safe = [f"{index}_{name}" for index, name in enumerate(safe)]
    return safe


def _write_npz(data: DataSpec, folder: Path, batches: Iterator[Batch], seeds: Sequence[int]) -> None:
    """Write the images into the archive as they come: 30,000 of them need no memory."""
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
        arrays: dict[str, Any] = {"seeds": np.asarray(seeds, dtype=np.int64)}
        if labels and data.labels is not None:
            stacked = np.concatenate(labels)
            arrays["train_labels"] = stacked[:, None] if stacked.ndim == 1 else stacked
            arrays["label_names"] = np.asarray(data.labels.names)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
