"""Where images come from: a source lists its images, names their labels, and reads one at a time.

A source knows nothing of sizes, caches or batches. `list_folder` makes the one for class folders;
`medgan.data.npz` and `medgan.data.phantom` make the others.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from medgan.core.spec import LabelSpec
from medgan.data.decoded import DecodedImage, ReadError, Reading
from medgan.data.readers import DICOM_SUFFIXES, IMAGE_SUFFIXES, looks_like_image, read_file
from medgan.data.volumes import data_files, is_volume
from medgan.errors import DataError, nearest

__all__ = ["Entry", "FolderSource", "Source", "file_identity", "list_folder", "open_file"]

_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_IGNORED_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "dicomdir"})
_NO_SUFFIX = re.compile(r"(\.\d+)?")  # a number is the last of a UID, by which DICOM files are often called
_OUTPUT = "folders that medgan wrote"
_LISTED = 10  # kinds of files that are no images, in a message


@dataclass(frozen=True)
class Entry:
    """One image of a source, before it is read.

    Attributes:
        file: Posix path relative to the source, unique in it.
        label: Name of its class, or "".
        patient_id: The patient, where the source knows it, or "".
        patient_in_file: Whether the file's own header may say the patient where the source does not.
        values: Its label where a class name does not say it: the columns of a multi-label set.
        refused: A reason not to read it, found while listing.
        facts: What else the source knows of it, by names of `medgan.data.decoded.FACTS`; all values are text.
    """

    file: str
    label: str = ""
    patient_id: str = ""
    patient_in_file: bool = field(default=True, kw_only=True)
    values: tuple[float, ...] = ()
    refused: ReadError | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """What `medgan.data.store` needs of a source. Must pickle, as worker processes read from it."""

    @property
    def name(self) -> str:
        """Short name for run folders."""

    @property
    def description(self) -> str:
        """The source as the user gave it, made absolute."""

    @property
    def labels(self) -> LabelSpec | None:
        """What the labels mean."""

    @property
    def entries(self) -> Sequence[Entry]:
        """All images, in their order."""

    @property
    def ignored(self) -> dict[str, int]:
        """Number of files left aside, by extension."""

    @property
    def licence(self) -> str | None:
        """Licence of the images, where known."""

    @property
    def citation(self) -> str | None:
        """How to cite the images, where known."""

    def identity(self) -> Iterator[Any]:
        """Yield plain values that change whenever the images may have changed."""

    def read(self, position: int) -> Sequence[DecodedImage]:
        """Read the image of an entry, or its images if its file holds several.

        Raises:
            ReadError: If it cannot be used.
        """


@dataclass(frozen=True)
class FolderSource:
    """Images in class folders, ``root/CLASS/**/image.png``, or unlabelled right under the root."""

    root: Path
    name: str
    labels: LabelSpec | None
    entries: tuple[Entry, ...]
    ignored: dict[str, int] = field(default_factory=dict)
    licence: str | None = None
    citation: str | None = None
    reading: Reading = field(default_factory=Reading)

    @property
    def description(self) -> str:
        """The root folder."""
        return str(self.root)

    def identity(self) -> Iterator[Any]:
        """Yield the root, path, size and times of every file, and what is known of one that its path does not say."""
        yield ["folder", str(self.root)]
        for entry in self.entries:
            folder, slash, _ = entry.file.partition("/")
            said = [entry.label, dict(entry.facts), None if entry.refused is None else entry.refused.error]
            if said != [folder if slash else "", {}, None]:
                yield said
            yield from file_identity(self.root / entry.file, entry.file)

    def read(self, position: int) -> Sequence[DecodedImage]:
        """Read the images of an entry; see `medgan.data.readers.read_file`."""
        return read_file(self.root / self.entries[position].file, self.reading)

    def with_labels(self, names: Sequence[str]) -> FolderSource:
        """Return the source with some of its classes, in the given order.

        Raises:
            DataError: If there is no such class.
        """
        known = () if self.labels is None else self.labels.names
        for name in names:
            if name not in known:
                raise DataError(f"{self.root} has no class folder {name!r}. {nearest(name, known)}")
        entries = tuple(entry for entry in self.entries if entry.label in names)
        return replace(self, labels=LabelSpec(tuple(names)), entries=entries)


def file_identity(path: Path, name: str) -> Iterator[Any]:
    """Yield name, size and times of a file and of what belongs to it: the files of a folder, a volume's data files."""
    try:
        status = path.stat()
        yield [name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        if stat.S_ISDIR(status.st_mode):
            for child in sorted(path.iterdir()):
                if child.is_file():
                    yield from file_identity(child, f"{name}/{child.name}")
        elif is_volume(path):
            for part in data_files(path):
                yield from file_identity(part, f"{name}/{part.name}")
    except OSError:
        yield [name, None]


def list_folder(root: Path, name: str, reading: Reading) -> FolderSource:
    """List the images of a folder, without opening them.

    Every folder right under `root` is a class, unless all images lie directly in `root`: then they have no labels.
    Hidden files and folders are skipped, files with other extensions are counted in ``ignored``; those without one, or
    with a number for one, are looked into. Links that leave `root`, and links to folders, are refused: such an entry
    ends in the quarantine. Where volumes or their slices are wanted, the DICOM files of a folder are one entry, the
    folder: a series. Folders of runs, samples and inspections that medgan wrote are skipped and counted, wherever they
    lie under `root`; `root` itself may be one.

    Args:
        root: The folder.
        name: Short name of the data set.
        reading: How files become images.

    Returns:
        The source; it may have classes without images.

    Raises:
        DataError: If images lie both in `root` and in folders under it, several folders are splits such as "train"
            and "val" rather than classes, the name of a class is not UTF-8, or there is no image at all.
    """
    ignored: dict[str, int] = {}
    folders = sorted(path.name for path in _visible(root) if path.is_dir() and not path.is_symlink())
    linked = [path for path in _visible(root) if path.is_dir() and path.is_symlink()]
    top = _list(root, root, ignored, reading, deep=False)
    classes = {}
    for folder in folders:
        outputs = ignored.get(_OUTPUT, 0)
        entries = _list(root / folder, root, ignored, reading, deep=True)
        if entries or ignored.get(_OUTPUT, 0) == outputs:  # else it is such a folder, or holds nothing else
            classes[folder] = entries
    folders = list(classes)
    nested = sum(len(entries) for entries in classes.values())

    if not nested and not top and not linked:
        raise DataError(_nothing_found(root, ignored))
    if nested and top:
        raise DataError(
            f"{root} holds {len(top)} images beside the class folders {', '.join(folders)}. Move them into a class "
            f"folder, or give a folder that holds images only; first one: {top[0].file}"
        )
    splits = [folder for folder in folders if folder.lower() in _SPLIT_NAMES]
    if nested and len(splits) > 1:  # whatever lies beside them: masks, notes, another copy
        # The training images are what one trains with; the others are for later.
        first = next((folder for folder in splits if folder.lower().startswith("train")), splits[0])
        raise DataError(
            f"Folders of {root} are splits ({', '.join(splits)}), not classes. Give one of them: {root / first}; "
            "or say which known data set it is with --layout."
        )
    top += [Entry(path.name, refused=_refused_folder(path, root)) for path in linked]
    if not nested:
        return FolderSource(root, name, None, tuple(top), ignored, reading=reading)
    for folder in folders:
        try:
            folder.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"The class folder {folder!r} of {root} has a name that is not UTF-8, with which no model could be "
                "saved. Rename it."
            ) from None
    labelled = [replace(entry, label=label) for label in folders for entry in classes[label]]
    return FolderSource(root, name, LabelSpec(tuple(folders)), tuple(labelled + top), ignored, reading=reading)


def open_file(path: Path, name: str, reading: Reading) -> FolderSource:
    """Return a source of a single file, such as a volume whose slices are wanted.

    Raises:
        DataError: If it is no image by its name.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES and not is_volume(path) and not looks_like_image(path):
        raise DataError(
            f"{path} is a file, and neither an image, a table nor an .npz file. Give the folder that holds the images: "
            f"{path.parent}"
        )
    return FolderSource(path.parent, name, None, (Entry(path.name),), reading=reading)


def _visible(folder: Path) -> list[Path]:
    """Entries of a folder in order, less the hidden ones and what operating systems and DICOM media add."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names that are not UTF-8 survive as well
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}. Allow it, or move it away.") from error
    return [folder / name for name in names if not name.startswith(".") and name.lower() not in _IGNORED_NAMES]


def _list(folder: Path, root: Path, ignored: dict[str, int], reading: Reading, *, deep: bool) -> list[Entry]:
    """Images of a folder, with all folders under it if `deep`."""
    entries: list[Entry] = []
    slices: list[Path] = []
    paths = _visible(folder)
    if deep and _is_output(folder, {path.name for path in paths}):
        ignored[_OUTPUT] = ignored.get(_OUTPUT, 0) + 1
        return []
    for path in paths:
        file = path.relative_to(root).as_posix()
        suffix = path.suffix.lower()
        unnamed = _NO_SUFFIX.fullmatch(suffix) is not None
        if path.is_dir():
            if deep and path.is_symlink():
                entries.append(Entry(file, refused=_refused_folder(path, root)))
            elif deep:
                entries += _list(path, root, ignored, reading, deep=True)
        elif suffix in IMAGE_SUFFIXES or is_volume(path) or (unnamed and looks_like_image(path)):
            if (reading.volumes or reading.slices) and (suffix in DICOM_SUFFIXES or unnamed):
                slices.append(path)
            else:
                entries.append(Entry(file, refused=_refused_link(path, root) if path.is_symlink() else None))
        else:
            ignored[suffix] = ignored.get(suffix, 0) + 1
    if slices:
        # An enhanced multi-frame object holds a whole series
        series = slices[0] if len(slices) == 1 else folder
        entries.append(Entry(series.relative_to(root).as_posix(), refused=_refused_slice(slices, root)))
    return entries


def _refused_slice(paths: Sequence[Path], root: Path) -> ReadError | None:
    """Return why the first link among the slices of a series is not followed, as the others make no whole volume."""
    for path in paths:
        if path.is_symlink() and (refused := _refused_link(path, root)) is not None:
            return ReadError(refused.stage, f"{path.name}: {refused.error}", refused.hint)
    return None


def _is_output(folder: Path, names: set[str]) -> bool:
    """Whether a folder with entries of these names is of samples, an inspection or a run, as medgan writes them."""
    if names & {"synthetic.json", "inspection.json"}:
        return True
    return {"config.json", "data"} <= names and (folder / "data" / "splits.json").is_file()


def _refused_link(path: Path, root: Path) -> ReadError | None:
    """Return why a link to a file is not followed, or None if it stays inside the root."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return ReadError("list", "link without a target", "delete the link, or mend it")
    if target.is_relative_to(root):
        return None
    return ReadError("list", f"link that leaves the data set, to {target}", "copy the file here in place of the link")


def _refused_folder(path: Path, root: Path) -> ReadError:
    """Return why a link to a folder is not followed."""
    if path.resolve().is_relative_to(root):
        error = "link to a folder of the data set, whose images would count twice"
        return ReadError("list", error, "delete the link")
    error = f"link that leaves the data set, to {path.resolve()}"
    return ReadError("list", error, "copy the folder in place of the link")


def _nothing_found(root: Path, ignored: dict[str, int]) -> str:
    """Message for a folder without images."""
    kinds = [f"{count} x {suffix or 'no extension'}" for suffix, count in sorted(ignored.items())]
    others = ", ".join(kinds[:_LISTED]) + (f" and {len(kinds) - _LISTED} more kinds" if len(kinds) > _LISTED else "")
    return (
        f"No images found in the dataset. Given: {root} (other files: {others or 'none'}). Expected PNG, JPEG, TIFF, "
        "BMP, DICOM, NIfTI, MHA or NRRD files in one folder a class, such as DATA/NORMAL/1.png and "
        "DATA/PNEUMONIA/2.png; or a manifest, such as DATA/table.csv."
    )
