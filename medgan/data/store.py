"""Images decoded and resized once, kept as one memory-mapped array: the first opening decodes, the next ones map.

A store is a folder ``<cache>/datasets/<key>/`` of plain files, none of them a pickle::

    images.npy      uint8 or uint16, (N, height, width, channels): gathered rows are channels_last tensors already
    index.csv       one row an image
    quarantine.csv  one row a refused file
    store.json      shape, checksum, fingerprint

The key hashes the path, size and times of every file with all that shapes pixels, so a changed file or another size
opens another store. A store is written aside and renamed into place, whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.readers import ReadError
from medgan.data.sources import Entry, Source
from medgan.data.transforms import Aspect, Resizer, to_grey
from medgan.errors import DataError

__all__ = ["STORE_VERSION", "Preprocessing", "Progress", "Store", "default_cache_dir", "open_store"]

STORE_VERSION = 1
"""Raise it whenever the same files would give other pixels or another layout."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""

_CHUNK = 32  # images a task of a worker process
_FULLY_CHECKED_BYTES = 2 * 1024**3
_INDEX_COLUMNS = ["file", "label", "patient_id", "width", "height", "mode", "bits"]
_QUARANTINE_COLUMNS = ["file", "label", "stage", "error", "hint"]


@dataclass(frozen=True)
class Preprocessing:
    """All that shapes the stored pixels.

    Attributes:
        size: Height and width in pixels.
        channels: 1, 3, or ``auto``: 1 if every image is grey in content, else 3.
        aspect: See `medgan.data.transforms.Resizer`.
    """

    size: tuple[int, int]
    channels: int | Literal["auto"] = "auto"
    aspect: Aspect = "stretch"


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    Attributes:
        images: uint8 or uint16 of shape ``(N, height, width, channels)``, memory-mapped, read-only.
        index: One row an image: file, label, patient_id, width, height, mode, bits.
        quarantine: One row a refused file: file, label, stage, error, hint.
        values: Float labels of a multi-label source, ``(N, K)``, or None.
        fingerprint: sha256 of the stored pixels, their labels and the preprocessing: the same images give the same
            fingerprint, wherever they lie.
        folder: Where the store lies.
    """

    images: NDArray[Any]
    index: pd.DataFrame
    quarantine: pd.DataFrame
    values: NDArray[np.float32] | None
    fingerprint: str
    folder: Path


class _Done(NamedTuple):
    """What a worker returns for one image."""

    pixels: NDArray[Any]
    width: int
    height: int
    mode: str
    bits: int


def default_cache_dir() -> Path:
    """Return ``$MEDGAN_CACHE``, or medgan's folder in the user's cache directory."""
    if chosen := os.environ.get("MEDGAN_CACHE"):
        return Path(chosen).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "medgan" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medgan"


def open_store(
    source: Source,
    preprocessing: Preprocessing,
    *,
    cache_dir: Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Store:
    """Open the store of a source, and make it first if there is none or it is damaged.

    Args:
        source: The images.
        preprocessing: How to bring them into shape.
        cache_dir: Folder for stores; `default_cache_dir` if None.
        workers: Number of processes that decode; 0 decodes in this one.
        progress: Told of the decoding, if there is any.

    Returns:
        The store; it may hold no image at all, if all were refused.

    Raises:
        DataError: If the cache folder cannot be written.
    """
    folder = (cache_dir or default_cache_dir()).expanduser() / "datasets"
    key = _key(source, preprocessing)
    try:
        return _load(folder / key)
    except (OSError, ValueError, KeyError):  # none yet, or damaged
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-", dir=folder))
    except OSError as error:
        raise DataError(
            f"The cache folder {folder} cannot be written ({error}). Set MEDGAN_CACHE to a folder that can: "
            "export MEDGAN_CACHE=/path/with/space"
        ) from error
    try:
        _build(source, preprocessing, aside, workers=workers, progress=progress)
        _move_into_place(aside, folder / key)
        return _load(folder / key)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"The store in {folder} could not be written ({error}). Free some space, or set MEDGAN_CACHE to another "
            "folder: export MEDGAN_CACHE=/path/with/space"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _key(source: Source, preprocessing: Preprocessing) -> str:
    """Hash all that the stored pixels depend on."""
    versions = {package: version(package) for package in ("monai", "pillow")}
    digest = hashlib.sha256(_json([STORE_VERSION, asdict(preprocessing), versions]))
    for value in source.identity():
        digest.update(_json(value))
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    """Canonical JSON, for hashing; ASCII, so that file names of any encoding pass."""
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def _move_into_place(aside: Path, target: Path) -> None:
    """Rename a finished store; give way to one that another process finished meanwhile, replace a damaged one."""
    try:
        aside.replace(target)
    except OSError:
        with contextlib.suppress(OSError, ValueError, KeyError):
            _load(target)
            return
        damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=target.parent))
        with contextlib.suppress(OSError):
            target.replace(damaged / "store")
        shutil.rmtree(damaged, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster; loading will tell
            aside.replace(target)


def _load(folder: Path) -> Store:
    """Map a store; raises OSError, ValueError or KeyError if it is absent or damaged."""
    facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
    images: NDArray[Any] = np.empty(shape, dtype) if not shape[0] else np.load(folder / "images.npy", mmap_mode="r")
    if images.shape != shape or images.dtype != dtype:
        raise ValueError(f"{folder}: images.npy is not what store.json says")
    if images.nbytes <= _FULLY_CHECKED_BYTES and _checksum(images) != facts["checksum"]:
        raise ValueError(f"{folder}: images.npy has changed")
    index = _read_table(folder / "index.csv", facts["index_checksum"])
    quarantine = _read_table(folder / "quarantine.csv", facts["quarantine_checksum"])
    values = np.array(facts["values"], dtype=np.float32) if facts["values"] is not None else None
    return Store(images, index, quarantine, values, facts["fingerprint"], folder)


def _checksum(images: NDArray[Any]) -> str:
    """Return the sha256 of the pixels, read in pieces."""
    digest = hashlib.sha256()
    rows = max(1, 2**24 // max(1, images[:1].nbytes))
    for start in range(0, len(images), rows):
        digest.update(np.ascontiguousarray(images[start : start + rows]).data)
    return digest.hexdigest()


def _write_table(table: pd.DataFrame, path: Path) -> str:
    """Write a table as CSV; returns its checksum."""
    table.to_csv(path, index=False, encoding="utf-8", errors="surrogateescape", lineterminator="\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_table(path: Path, checksum: str) -> pd.DataFrame:
    """Read a table of `_write_table`; a class called "NA" stays a string."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
        raise ValueError(f"{path} has changed")
    numbers = {"width": "int64", "height": "int64", "bits": "int64"}
    columns = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n", 1)[0].split(",")
    return pd.read_csv(
        path,
        dtype={column: numbers.get(column, "object") for column in columns},
        keep_default_na=False,
        encoding="utf-8",
        encoding_errors="surrogateescape",
        lineterminator="\n",
    )


def _build(
    source: Source, preprocessing: Preprocessing, folder: Path, *, workers: int, progress: Progress | None
) -> None:
    """Decode all images of a source into a store.

    Whether any image has colour or 16 bits is known only at the end. Until then each kind has an array file of its own
    (sparse: what is not written takes no space), which are merged last.
    """
    entries, total = source.entries, len(source.entries)
    parts: dict[tuple[int, str], NDArray[Any]] = {}
    kinds: list[tuple[int, str]] = []
    positions: list[int] = []
    rows: list[tuple[str, str, str, int, int, str, int]] = []
    refused: list[tuple[str, str, str, str, str]] = []
    for position, result in enumerate(_results(source, preprocessing, workers)):
        entry = entries[position]
        if isinstance(result, ReadError):
            refused.append((entry.file, entry.label, result.stage, result.error, result.hint))
        else:
            kind = (result.pixels.shape[2], result.pixels.dtype.name)
            if kind not in parts:
                shape = (total, *preprocessing.size, kind[0])
                path = folder / f"part-{kind[0]}-{kind[1]}.npy"
                parts[kind] = np.lib.format.open_memmap(path, mode="w+", dtype=kind[1], shape=shape)
            parts[kind][position] = result.pixels
            kinds.append(kind)
            positions.append(position)
            rows.append((entry.file, entry.label, entry.patient_id, *result[1:]))
        if progress is not None:
            progress(position + 1, total)

    wanted = preprocessing.channels
    channels = max((kind[0] for kind in kinds), default=1) if wanted == "auto" else wanted
    dtype = np.dtype("uint16" if any(kind[1] == "uint16" for kind in kinds) else "uint8")
    shape = (len(rows), *preprocessing.size, channels)
    images: NDArray[Any] = np.empty(shape, dtype)
    if rows:
        images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=dtype, shape=shape)
    for row, (position, kind) in enumerate(zip(positions, kinds, strict=True)):
        pixels = parts[kind][position]
        images[row] = pixels.astype(dtype) * 257 if dtype != pixels.dtype else pixels  # one channel spreads over three
    if isinstance(images, np.memmap):
        images.flush()
    parts.clear()
    for path in folder.glob("part-*.npy"):
        path.unlink()
    _write_facts(folder, images, source, preprocessing, rows, refused, [entries[position] for position in positions])


def _write_facts(
    folder: Path,
    images: NDArray[Any],
    source: Source,
    preprocessing: Preprocessing,
    rows: list[tuple[str, str, str, int, int, str, int]],
    refused: list[tuple[str, str, str, str, str]],
    good: list[Entry],
) -> None:
    """Write the tables and, last, ``store.json``."""
    index = pd.DataFrame(rows, columns=_INDEX_COLUMNS)
    values = [list(entry.values) for entry in good] if any(entry.values for entry in good) else None
    checksum = _checksum(images)
    content = [STORE_VERSION, asdict(preprocessing), checksum, values]
    digest = hashlib.sha256(_json(content))
    for file, label in zip(index["file"], index["label"], strict=True):
        digest.update(_json([file, label]))
    facts = {
        "source": source.description,
        "preprocessing": asdict(preprocessing),
        "shape": list(images.shape),
        "dtype": images.dtype.name,
        "checksum": checksum,
        "index_checksum": _write_table(index, folder / "index.csv"),
        "quarantine_checksum": _write_table(
            pd.DataFrame(refused, columns=_QUARANTINE_COLUMNS), folder / "quarantine.csv"
        ),
        "values": values,
        "fingerprint": digest.hexdigest(),
    }
    (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")


def _results(source: Source, preprocessing: Preprocessing, workers: int) -> Iterator[_Done | ReadError]:
    """Decode every image in order, in this process or several."""
    positions = range(len(source.entries))
    if not workers:
        resizer = Resizer(preprocessing.size, preprocessing.aspect)
        for position in positions:
            yield _process(source, preprocessing, resizer, position)
        return
    chunks = [positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (source, preprocessing)) as executor:
        for results in executor.map(_process_in_worker, chunks):
            yield from results


_worker: dict[str, Any] = {}  # of a worker process: its source, preprocessing and resizer


def _start_worker(source: Source, preprocessing: Preprocessing) -> None:
    """Prepare a worker process."""
    import torch

    torch.set_num_threads(1)
    _worker.update(source=source, preprocessing=preprocessing)
    _worker.update(resizer=Resizer(preprocessing.size, preprocessing.aspect))


def _process_in_worker(positions: range) -> list[_Done | ReadError]:
    """Decode some images in a worker process."""
    return [_process(position=position, **_worker) for position in positions]


def _process(source: Source, preprocessing: Preprocessing, resizer: Resizer, position: int) -> _Done | ReadError:
    """Read one image, bring it to its size and channels, and check it."""
    refused = source.entries[position].refused
    if refused is not None:
        return refused
    try:
        found = source.read(position)
        peak = np.iinfo(found.pixels.dtype).max
        image = np.moveaxis(found.pixels, 2, 0).astype(np.float32) / np.float32(peak)
        image = resizer(to_grey(image) if preprocessing.channels == 1 else image)
        if not np.isfinite(image).all():
            raise ReadError("check", "NaN or infinite values after resizing", "delete the file")
        pixels = np.rint(np.moveaxis(image, 0, 2) * peak).astype(found.pixels.dtype)
        if pixels.min() == pixels.max():
            raise ReadError("check", "constant image after resizing", "delete the file, or choose a larger size")
    except ReadError as error:
        return error
    return _Done(pixels, found.width, found.height, found.mode, found.bits)
