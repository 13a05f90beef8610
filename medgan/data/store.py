"""Images decoded and resized once, kept as one memory-mapped array: the first opening decodes, the next ones map.

A store is a folder ``<cache>/datasets/<key>/`` of plain files, none of them a pickle::

    images.npy      uint8 or uint16, (N, *size, channels): gathered rows are channels_last tensors already
    index.csv       one row an image
    quarantine.csv  one row a refused file or image
    store.json      shape, checksum, fingerprint

The key hashes the path, size and times of every file, what its source says of it, and all that shapes pixels, so a
changed file, another label or another size opens another store. A store grows aside, in constant memory, and is renamed
into place, whole. A build that was interrupted goes on where its last mark was; of two processes that want the same
store one builds and the other waits.
"""

from __future__ import annotations

import array
import contextlib
import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.cache import default_cache_dir
from medgan.data.decoded import FACTS, DecodedImage, PassingError, ReadError, Reading, is_constant
from medgan.data.pipelines import Contrast, Pipeline, make_pipeline
from medgan.data.sources import Entry, Source
from medgan.data.transforms import Fit
from medgan.errors import DataError

__all__ = ["STORE_VERSION", "Preprocessing", "Progress", "Store", "open_store"]

STORE_VERSION = 4
"""Raise it whenever the same files would give other pixels, another index or another layout."""
_FINGERPRINT_VERSION = 2  # of its form; other pixels change the fingerprint by themselves

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""

# What reading a file of the store can raise if it is absent, cut off, or something else.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError)
_CHUNK = 32  # entries a task of a worker process
_MARK_SECONDS = 5.0  # between marks from which an interrupted build goes on
_TRIAL_SECONDS, _LONG_SECONDS = 3.0, 30.0
_HEADER_BYTES = 128  # of an .npy file; room for any shape
_FULLY_CHECKED_BYTES = 2 * 1024**3
_READERS = (
    *("monai", "pillow", "pydicom", "scikit-image", "nibabel", "SimpleITK"),
    *("python-gdcm", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-libjpeg"),
)  # packages that decide which pixels a file gives
_INDEX_COLUMNS = ("file", "part", "label", "patient_id", "width", "height", "depth", "mode", "bits", *FACTS)
_OPTIONAL_COLUMNS = frozenset({"part", "depth", *FACTS})  # kept only where they say something
_NUMBERS = {"width": "int64", "height": "int64", "depth": "int64", "bits": "int64"}
_QUARANTINE_COLUMNS = ("file", "part", "label", "stage", "error", "hint")


@dataclass(frozen=True)
class Preprocessing:
    """All that shapes the stored pixels.

    Attributes:
        size: Height and width in pixels, or depth, height and width.
        channels: 1, 3, or ``auto``: 1 if every image is grey in content, else 3.
        fit: See `medgan.data.transforms.Resizer`.
        pipeline: See `medgan.data.pipelines.PIPELINES`.
        contrast: See `medgan.data.pipelines.make_pipeline`.
        crop_border: Whether dark borders are cut off.
        mask_markers: Whether markers in the corners are masked.
        transforms: ``module:object`` of the user's own transforms.
        transforms_identity: What changes with the code of `transforms`.
        reading: How files become images.
    """

    size: tuple[int, ...]
    channels: int | Literal["auto"] = "auto"
    fit: Fit = "stretch"
    pipeline: str = "auto"
    contrast: Contrast = "none"
    crop_border: bool = False
    mask_markers: bool = False
    transforms: str | None = None
    transforms_identity: str = ""
    reading: Reading = field(default_factory=Reading)

    def make_pipeline(self) -> Pipeline:
        """Return the transforms, ready to run."""
        return make_pipeline(
            self.pipeline,
            size=self.size,
            fit=self.fit,
            channels=self.channels,
            contrast=self.contrast,
            crop_border=self.crop_border,
            mask_markers=self.mask_markers,
            transforms=self.transforms,
        )


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    Attributes:
        images: uint8 or uint16 of shape ``(N, *size, channels)``, memory-mapped, read-only.
        index: One row an image: file, label, patient_id, width, height, mode, bits, and what else is known of any
            (part, depth and `medgan.data.decoded.FACTS`).
        quarantine: One row a refused file or image: file, part, label, stage, error, hint.
        values: Float labels of a multi-label or continuous source, ``(N, K)``, or None.
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
    """What a worker returns for one image: its pixels, and its row of the index less file, label and patient."""

    pixels: NDArray[Any]
    part: str
    size: tuple[int, ...]
    mode: str
    bits: int
    facts: dict[str, str]


class _Refused(NamedTuple):
    """What a worker returns for one image, or a whole file, that cannot be used."""

    part: str
    error: ReadError


_Result = list[_Done | _Refused]


def open_store(
    source: Source,
    preprocessing: Preprocessing,
    *,
    cache_dir: Path | None = None,
    workers: int | None = 0,
    progress: Progress | None = None,
) -> Store:
    """Open the store of a source, and make it first if there is none or it is damaged.

    Args:
        source: The images.
        preprocessing: How to bring them into shape.
        cache_dir: Folder for stores; `default_cache_dir` if None.
        workers: Number of processes that decode; 0 decodes in this one, None begins so and starts one for each core if
            that takes long.
        progress: Told of the decoding, if there is any.

    Returns:
        The store; it may hold no image at all, if all were refused.

    Raises:
        DataError: If the cache folder cannot be written, or a process that decodes dies.
    """
    from filelock import FileLock

    cache = (cache_dir or default_cache_dir()).expanduser()
    folder = cache / "datasets"
    key = _key(source, preprocessing)
    with contextlib.suppress(*_DAMAGED):  # none yet, or damaged
        return _load(folder / key)
    try:
        for place in (folder, cache / "locks"):
            place.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "locks" / f"{key}.lock"):
            # Another process may have made it while this one waited.
            with contextlib.suppress(*_DAMAGED):
                return _load(folder / key)
            aside = folder / f".{key}"
            _build(source, preprocessing, aside, workers=workers, progress=progress)
            _move_into_place(aside, folder / key)
    except OSError as error:
        raise _not_written(folder, error) from error
    try:
        return _load(folder / key)
    except _DAMAGED as error:  # a disk that does not keep what it is given
        raise _not_written(folder, error) from error


def _not_written(folder: Path, error: Exception) -> DataError:
    """Say that a store could not be written."""
    return DataError(
        f"The store in {folder} could not be written ({error}). Free some space, or set MEDGAN_CACHE to another "
        "folder: export MEDGAN_CACHE=/path/with/space"
    )


def _key(source: Source, preprocessing: Preprocessing) -> str:
    """Hash all that the stored pixels depend on."""
    # An image that was refused for want of a decoder is read once the decoder is there.
    versions = {package: _version(package) for package in _READERS}
    digest = hashlib.sha256(_json([STORE_VERSION, asdict(preprocessing), versions]))
    for value in source.identity():
        digest.update(_json(value))
    return digest.hexdigest()


def _version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _json(value: Any) -> bytes:
    """Canonical JSON, for hashing; ASCII, so that file names of any encoding pass."""
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def _move_into_place(aside: Path, target: Path) -> None:
    """Rename a finished store; what stands in its place is damaged, and goes."""
    if target.exists():
        damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=target.parent))
        target.replace(damaged / "store")
        shutil.rmtree(damaged, ignore_errors=True)
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
    values = None
    if facts["labels_checksum"] is not None:
        if _file_checksum(folder / "labels.npy") != facts["labels_checksum"]:
            raise ValueError(f"{folder}: labels.npy has changed")
        values = np.load(folder / "labels.npy", allow_pickle=False)
    return Store(images, index, quarantine, values, facts["fingerprint"], folder)


def _checksum(images: NDArray[Any]) -> str:
    """Return the sha256 of the pixels, read in pieces."""
    digest = hashlib.sha256()
    rows = max(1, 2**24 // max(1, images[:1].nbytes))
    for start in range(0, len(images), rows):
        digest.update(np.ascontiguousarray(images[start : start + rows]).data)
    return digest.hexdigest()


def _read_table(path: Path, checksum: str) -> pd.DataFrame:
    """Read a table of the store; a class called "NA" stays a string, and columns that say nothing are left out."""
    if _file_checksum(path) != checksum:
        raise ValueError(f"{path} has changed")
    with path.open(encoding="utf-8", errors="surrogateescape") as stream:
        columns = stream.readline().rstrip("\n").split(",")
    table = pd.read_csv(
        path,
        dtype={column: _NUMBERS.get(column, "object") for column in columns},
        keep_default_na=False,
        encoding="utf-8",
        encoding_errors="surrogateescape",
        lineterminator="\n",
    )
    empty = [column for column in columns if column in _OPTIONAL_COLUMNS and not _says_something(table[column])]
    return table.drop(columns=empty)


def _says_something(column: pd.Series[Any]) -> bool:
    """Whether any row has a value."""
    return bool(column.astype(bool).any())


def _file_checksum(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Growing:
    """A store that grows aside: files that are only ever appended to, and a mark to go back to.

    Whether any image has colour or more than 8 bits is known only at the end, so each kind of pixels (channels, dtype)
    has a file of its own. As a rule there is one kind, whose file becomes ``images.npy`` as it is.
    """

    def __init__(self, folder: Path, size: tuple[int, ...]) -> None:
        """Go on from the last mark in `folder`, or begin."""
        self.folder = folder
        self.size = size
        self.kinds: list[tuple[int, str]] = []
        self.kind_of = array.array("B")  # of each image, an index into kinds
        self.entries_done = 0
        self._streams: dict[str, BinaryIO] = {}
        self._lengths: dict[str, int] = {}
        self._marked = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(*_DAMAGED):
            mark = json.loads((folder / "mark.json").read_text(encoding="utf-8"))
            kinds = [(int(channels), str(dtype)) for channels, dtype in mark["kinds"]]
            lengths = {str(name): int(length) for name, length in mark["lengths"].items()}
            # Before the first entry there is nothing to go on from.
            if mark["entries"] and all((folder / name).stat().st_size >= length for name, length in lengths.items()):
                self.kinds, self._lengths, self.entries_done = kinds, lengths, int(mark["entries"])
        for path in folder.iterdir():
            if path.name not in self._lengths:
                path.unlink()
        for name, length in self._lengths.items():
            os.truncate(folder / name, length)
        if self.entries_done:
            self.kind_of.frombytes((folder / "kinds.bin").read_bytes())
        else:
            self._append("kinds.bin", b"")
            self._append("index.csv", _csv_line(_INDEX_COLUMNS))
            self._append("quarantine.csv", _csv_line(_QUARANTINE_COLUMNS))

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the files; the next build goes on where an interrupted one was."""
        with contextlib.ExitStack() as stack:
            for stream in self._streams.values():
                stack.callback(stream.close)
            if kind is not None and not issubclass(kind, OSError):  # a full disk has no room for a mark either
                self.mark()

    def add(self, entry: Entry, results: _Result) -> None:
        """Append what became of an entry."""
        for result in results:
            if isinstance(result, _Refused):
                error = result.error
                refused = (entry.file, result.part, entry.label, error.stage, error.error, error.hint)
                self._append("quarantine.csv", _csv_line(refused))
                continue
            kind = (result.pixels.shape[-1], result.pixels.dtype.name)
            if kind not in self.kinds:
                self.kinds.append(kind)
                self._append(_pixel_file(kind), bytes(_HEADER_BYTES))
            self._append(_pixel_file(kind), np.ascontiguousarray(result.pixels).data)
            self._append("kinds.bin", bytes([self.kinds.index(kind)]))
            self.kind_of.append(self.kinds.index(kind))
            facts = {**result.facts, **entry.facts}
            if result.facts.get("origin") == "synthetic":  # whatever a table says, it must not be held out
                facts["origin"] = "synthetic"
            depth = result.size[0] if len(result.size) == 3 else 0
            in_file = facts.get("patient_id", "") if entry.patient_in_file else ""
            patient = entry.patient_id or in_file
            row: list[Any] = [entry.file, result.part, entry.label, patient, result.size[-1], result.size[-2], depth]
            row += [result.mode, result.bits, *(facts.get(name, "") for name in FACTS)]
            self._append("index.csv", _csv_line(row))
            if entry.values:
                self._append("labels.bin", np.array(entry.values, dtype="<f4").tobytes())
        self.entries_done += 1
        if time.monotonic() - self._marked > _MARK_SECONDS:
            self.mark()

    def mark(self) -> None:
        """Make what was added so far survive a kill or a power cut."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        mark = {"entries": self.entries_done, "kinds": self.kinds, "lengths": self._lengths}
        with (self.folder / "mark.json.new").open("wb") as written:
            written.write(json.dumps(mark).encode())
            written.flush()
            os.fsync(written.fileno())
        (self.folder / "mark.json.new").replace(self.folder / "mark.json")
        self._marked = time.monotonic()

    def finish(self, channels: int | Literal["auto"], columns: int) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Turn the grown files into ``images.npy`` and ``labels.npy``.

        Args:
            channels: As in `Preprocessing`.
            columns: Values of each image's label in ``labels.bin``; 0 for none.

        Returns:
            The images and the labels' values.
        """
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        count = len(self.kind_of)
        depth = max((kind[0] for kind in self.kinds), default=1) if channels == "auto" else channels
        dtype = "uint16" if any(kind[1] == "uint16" for kind in self.kinds) else "uint8"
        target = self.folder / "images.npy"
        for number, kind in enumerate(self.kinds):
            _write_header(self.folder / _pixel_file(kind), (self.kind_of.count(number), *self.size, kind[0]), kind[1])
        shape = (count, *self.size, depth)
        if self.kinds == [(depth, dtype)]:
            (self.folder / _pixel_file(self.kinds[0])).replace(target)
        elif count:
            self._merge(target, shape, dtype)
        # A store may be larger than memory; an empty file cannot be mapped
        images: NDArray[Any] = np.load(target, mmap_mode="r") if count else np.empty(shape, dtype)
        values = None
        if columns:
            values = np.zeros((0, columns), np.float32)
            if count:
                values = np.fromfile(self.folder / "labels.bin", "<f4").reshape(count, columns).astype(np.float32)
            np.save(self.folder / "labels.npy", values)
        for name in ("kinds.bin", "labels.bin", "mark.json", *map(_pixel_file, self.kinds)):
            (self.folder / name).unlink(missing_ok=True)
        return images, values

    def _merge(self, target: Path, shape: tuple[int, ...], dtype: str) -> None:
        """Bring images of several kinds into one array, in their order."""
        images = np.lib.format.open_memmap(target, mode="w+", dtype=dtype, shape=shape)
        kinds = np.frombuffer(self.kind_of, dtype=np.uint8)
        for number, kind in enumerate(self.kinds):
            part = np.load(self.folder / _pixel_file(kind), mmap_mode="r")
            rows = np.flatnonzero(kinds == number)
            for start in range(0, len(rows), 256):
                pixels = part[start : start + 256]
                # One channel spreads over three; 8 bits spread over 16.
                images[rows[start : start + 256]] = pixels if pixels.dtype == dtype else pixels.astype(dtype) * 257
        images.flush()

    def _append(self, name: str, content: Any) -> None:
        """Write at the end of a file."""
        if name not in self._streams:
            self._streams[name] = (self.folder / name).open("ab", buffering=2**20)
        self._lengths[name] = self._lengths.get(name, 0) + self._streams[name].write(content)


def _pixel_file(kind: tuple[int, str]) -> str:
    """Name the file of one kind of pixels."""
    return f"pixels-{kind[0]}-{kind[1]}.npy"


def _csv_line(row: Sequence[Any]) -> bytes:
    """Return a line of a table."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue().encode("utf-8", "surrogateescape")


def _write_header(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Fill the room that was left for the header of an .npy file."""
    text = repr({"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape})
    magic = np.lib.format.magic(1, 0)
    length = _HEADER_BYTES - len(magic) - 2
    with path.open("r+b") as stream:
        stream.write(magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode("ascii") + b"\n")


def _build(
    source: Source, preprocessing: Preprocessing, folder: Path, *, workers: int | None, progress: Progress | None
) -> None:
    """Decode all images of a source into a store."""
    entries, total = source.entries, len(source.entries)
    with _Growing(folder, preprocessing.size) as growing:
        start = growing.entries_done
        for position, results in zip(range(start, total), _results(source, preprocessing, start, workers), strict=True):
            growing.add(entries[position], results)
            if progress is not None:
                progress(position + 1, total)
        growing.mark()
        images, values = growing.finish(
            preprocessing.channels, max((len(entry.values) for entry in entries), default=0)
        )
    checksum = _checksum(images)
    digest = hashlib.sha256(_json([_FINGERPRINT_VERSION, asdict(preprocessing), checksum]))
    index_checksum, quarantine_checksum = (_file_checksum(folder / f"{name}.csv") for name in ("index", "quarantine"))
    index = _read_table(folder / "index.csv", index_checksum)
    for row in zip(index["file"], index["part"] if "part" in index else index["file"], index["label"], strict=True):
        digest.update(_json(row))
    if values is not None:
        digest.update(np.ascontiguousarray(values).data)
    facts = {
        "source": source.description,
        "preprocessing": asdict(preprocessing),
        "shape": list(images.shape),
        "dtype": images.dtype.name,
        "checksum": checksum,
        "index_checksum": index_checksum,
        "quarantine_checksum": quarantine_checksum,
        "labels_checksum": None if values is None else _file_checksum(folder / "labels.npy"),
        "fingerprint": digest.hexdigest(),
    }
    (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")


def _results(source: Source, preprocessing: Preprocessing, start: int, workers: int | None) -> Iterator[_Result]:
    """Decode every entry from `start` on, in order, in this process or several."""
    total = len(source.entries)
    if not workers:
        pipeline = preprocessing.make_pipeline()
        begin = time.monotonic()
        for done, position in enumerate(range(start, total)):
            seconds = time.monotonic() - begin
            left = seconds / max(1, done) * (total - position)
            # A process takes some seconds to start; it is worth them if there is much left to do.
            if workers is None and done and seconds > _TRIAL_SECONDS and left > _LONG_SECONDS and _cores() > 1:
                yield from _results(source, preprocessing, position, _cores())
                return
            yield _process(source, preprocessing, pipeline, position)
        return
    chunks = iter([range(first, min(first + _CHUNK, total)) for first in range(start, total, _CHUNK)])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (source, preprocessing)) as executor:
        # A few chunks ahead only: results that wait to be written take memory.
        waiting: deque[tuple[range, Future[list[_Result]]]] = deque()
        done = start
        try:
            while True:
                while len(waiting) < 4 * workers and (chunk := next(chunks, None)) is not None:
                    waiting.append((chunk, executor.submit(_process_in_worker, chunk)))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                yield from future.result()
                done = chunk.stop
        except BrokenProcessPool as error:
            first, last = (source.entries[place].file for place in (done, min(total, done + 4 * workers * _CHUNK) - 1))
            advice = "Type --workers 1, so that only one reads" if workers > 1 else "Free some memory"
            raise DataError(
                f"A process that read images has died, perhaps for want of memory, among {first} ... {last} of "
                f"{source.description}. {advice}, or leave out the file that ends it; what has been read is kept."
            ) from error
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_worker: dict[str, Any] = {}  # of a worker process: its source, preprocessing and pipeline


def _start_worker(source: Source, preprocessing: Preprocessing) -> None:
    """Prepare a worker process."""
    import torch

    torch.set_num_threads(1)
    _worker.update(source=source, preprocessing=preprocessing, pipeline=preprocessing.make_pipeline())


def _process_in_worker(positions: range) -> list[_Result]:
    """Decode some entries in a worker process."""
    return [_process(position=position, **_worker) for position in positions]


def _process(source: Source, preprocessing: Preprocessing, pipeline: Pipeline, position: int) -> _Result:
    """Read the images of an entry, and bring each into shape."""
    entry = source.entries[position]
    if entry.refused is not None:
        return [_Refused("", entry.refused)]
    try:
        return [_shape(image, preprocessing, pipeline) for image in source.read(position)]
    except ReadError as error:
        return [_Refused("", error)]
    except (PassingError, MemoryError) as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{entry.file} of {source.description} could not be read ({cause!r}), which may pass. "
            "See that the disk or network share is there and that there is memory left, and try again: what has been "
            "read is kept. If it is this file each time, leave it out."
        ) from error


def _shape(found: DecodedImage, preprocessing: Preprocessing, pipeline: Pipeline) -> _Done | _Refused:
    """Bring one image to its size and channels, and check it."""
    wanted = len(preprocessing.size)
    try:
        if len(found.size) != wanted:
            kinds = {2: "a picture", 3: "a volume"}
            hint = "leave --depth out" if wanted == 3 else "type --slices axial, or --depth 64"
            raise ReadError("check", f"{kinds[len(found.size)]} where {kinds[wanted]} is wanted", hint)
        image = np.moveaxis(found.pixels, -1, 0).astype(np.float32)
        if found.pixels.dtype.kind == "u":
            image /= np.float32(np.iinfo(found.pixels.dtype).max)
        image, facts = pipeline(image)
        dtype = np.uint8 if found.bits <= 8 else np.uint16
        pixels = np.rint(np.moveaxis(image, 0, -1) * np.float32(np.iinfo(dtype).max)).astype(dtype)
        if is_constant(pixels):
            raise ReadError("check", "constant image after resizing", "delete the file, or choose a larger size")
        if int(pixels.max()) - int(pixels.min()) < np.iinfo(dtype).max // 255:
            error = "nearly constant image: all its values lie within 1/255 of the range that they could have"
            window = "--window percentile or " if "window" in found.facts else ""  # pictures have none
            raise ReadError("check", error, f"type {window}--contrast percentile, or delete the file")
    except ReadError as error:
        return _Refused(found.part, error)
    return _Done(pixels, found.part, found.size, found.mode, found.bits, {**found.facts, **facts})
