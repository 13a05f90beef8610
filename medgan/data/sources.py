"""Where images come from: a source lists its images, names their labels, and reads one at a time.

A source knows nothing of sizes, caches or batches. `list_folder` makes the one for class folders;
`medgan.data.npz` and `medgan.data.phantom` make the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medgan.core.spec import LabelSpec
from medgan.data.readers import IMAGE_SUFFIXES, DecodedImage, ReadError, looks_like_image, read_image
from medgan.errors import DataError

__all__ = ["Entry", "FolderSource", "Source", "list_folder"]

_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_IGNORED_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})


@dataclass(frozen=True)
class Entry:
    """One image of a source, before it is read.

    Attributes:
        file: Posix path relative to the source, unique in it.
        label: Name of its class, or "".
        patient_id: The patient, where the source knows it, or "".
        values: Its label where a class name does not say it: the columns of a multi-label set.
        refused: A reason not to read it, found while listing.
    """

    file: str
    label: str = ""
    patient_id: str = ""
    values: tuple[float, ...] = ()
    refused: ReadError | None = None


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

    def identity(self) -> Iterator[Any]:
        """Yield plain values that change whenever the images may have changed."""

    def read(self, position: int) -> DecodedImage:
        """Read one image.

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

    @property
    def description(self) -> str:
        """The root folder."""
        return str(self.root)

    def identity(self) -> Iterator[Any]:
        """Yield the root, and path, size and times of every file."""
        yield ["folder", str(self.root)]
        for entry in self.entries:
            try:
                status = (self.root / entry.file).stat()
                yield [entry.file, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            except OSError:
                yield [entry.file, None]

    def read(self, position: int) -> DecodedImage:
        """Read one image; see `medgan.data.readers.read_image`."""
        return read_image(self.root / self.entries[position].file)


def list_folder(root: Path, name: str) -> FolderSource:
    """List the images of a folder, without opening them.

    Every folder right under `root` is a class, unless all images lie directly in `root`: then they have no labels.
    Hidden files and folders are skipped, files with other extensions are counted in ``ignored``. Links that leave
    `root`, and links to folders, are refused: such an entry ends in the quarantine.

    Args:
        root: The folder.
        name: Short name of the data set.

    Returns:
        The source; it may have classes without images.

    Raises:
        DataError: If images lie both in `root` and in folders under it, the folders are splits such as "train" and
            "val" rather than classes, or there is no image at all.
    """
    ignored: dict[str, int] = {}
    top = _list(root, root, ignored, deep=False)
    folders = sorted(path.name for path in _visible(root) if path.is_dir() and not path.is_symlink())
    linked = [path for path in _visible(root) if path.is_dir() and path.is_symlink()]
    classes = {folder: _list(root / folder, root, ignored, deep=True) for folder in folders}
    nested = sum(len(entries) for entries in classes.values())

    if not nested and not top and not linked:
        raise DataError(_nothing_found(root, ignored))
    if nested and top:
        raise DataError(
            f"{root} holds {len(top)} images beside the class folders {', '.join(folders)}. Move them into a class "
            f"folder, or give a folder that holds images only; first one: {top[0].file}"
        )
    if nested and len(folders) > 1 and {folder.lower() for folder in folders} <= _SPLIT_NAMES:
        raise DataError(
            f"The folders of {root} are splits ({', '.join(folders)}), not classes. "
            f"Give one of them: {root / folders[0]}"
        )
    top += [Entry(path.name, refused=_refused_folder(path, root)) for path in linked]
    if not nested:
        return FolderSource(root, name, None, tuple(top), ignored)
    entries = [Entry(entry.file, label, refused=entry.refused) for label in folders for entry in classes[label]]
    return FolderSource(root, name, LabelSpec(tuple(folders)), tuple(entries + top), ignored)


def _visible(folder: Path) -> list[Path]:
    """Entries of a folder in order, less the hidden ones and what operating systems leave behind."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names that are not UTF-8 survive as well
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}. Allow it, or move it away.") from error
    return [folder / name for name in names if not name.startswith(".") and name.lower() not in _IGNORED_NAMES]


def _list(folder: Path, root: Path, ignored: dict[str, int], *, deep: bool) -> list[Entry]:
    """Images of a folder, with all folders under it if `deep`."""
    entries = []
    for path in _visible(folder):
        file = path.relative_to(root).as_posix()
        if path.is_dir():
            if deep and path.is_symlink():
                entries.append(Entry(file, refused=_refused_folder(path, root)))
            elif deep:
                entries += _list(path, root, ignored, deep=True)
        elif path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and looks_like_image(path)):
            entries.append(Entry(file, refused=_refused_link(path, root) if path.is_symlink() else None))
        else:
            ignored[path.suffix.lower()] = ignored.get(path.suffix.lower(), 0) + 1
    return entries


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
    others = ", ".join(f"{count} x {suffix or 'no extension'}" for suffix, count in sorted(ignored.items()))
    dicom = " DICOM files cannot be opened as a folder yet: convert them to PNG." if ".dcm" in ignored else ""
    return (
        f"No images found in the dataset. Given: {root} (other files: {others or 'none'}).{dicom} Expected PNG, JPEG, "
        "TIFF or BMP files in one folder a class, such as DATA/NORMAL/1.png and DATA/PNEUMONIA/2.png."
    )
