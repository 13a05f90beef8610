"""Source images beside the images: what a translation starts from, found in folders, files of two halves and tables.

Where the data is paired, each image has one source, which shows the same thing; both are prepared alike. Where it is
not, sources and images are two sets, of other patients as a rule, and which come together is left to chance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from medgan.core.spec import LabelSpec
from medgan.data.decoded import DecodedImage, ReadError, Reading, without_equal_channels
from medgan.data.layouts import TableSource
from medgan.data.manifest import check_files
from medgan.data.readers import IMAGE_SUFFIXES
from medgan.data.sources import Entry, FolderSource, Source, list_folder
from medgan.data.volumes import VOLUME_SUFFIXES
from medgan.errors import DataError

__all__ = ["PAIR_LAYOUTS", "Found", "are_pairs", "find_translation", "stem_of", "with_named_sources"]

PAIR_LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        "pairs": "Folders source and target (or A and B): an image of the one belongs to that of the same name in the "
        "other.",
        "side-by-side": "Each file holds a pair: the source is its left half, the image its right half.",
        "unpaired": "Folders source and target (or A and B) of images that do not belong to each other.",
    }
)
"""Layouts of data with source images, each with a line about it."""

_SIDES = (("source", "target"), ("A", "B"), ("trainA", "trainB"))
_SUFFIX = re.compile(
    "|".join(re.escape(suffix) for suffix in sorted({*IMAGE_SUFFIXES, *VOLUME_SUFFIXES}, key=len, reverse=True)) + "$",
    re.IGNORECASE,
)


class Found(NamedTuple):
    """A source of images, and one of what they are translated from.

    Attributes:
        images: The images.
        sources: The source images; None where there are none.
        paired: Whether each entry of `images` names its source, in its fact ``source_path``.
    """

    images: Source
    sources: Source | None = None
    paired: bool = True


def are_pairs(root: Path, reading: Reading) -> bool:
    """Whether a folder holds two folders, named as pairs are, whose files have the same names.

    Args:
        root: The folder.
        reading: How files become images.
    """
    sides = _find_sides(root)
    if sides is None:
        return False
    try:
        names = [{stem_of(entry.file) for entry in list_folder(root / side, "", reading).entries} for side in sides]
    except DataError:
        return False
    return names[0] == names[1]


def find_translation(root: Path, name: str, layout: str, reading: Reading) -> Found:
    """List source images and images, without opening them.

    Args:
        root: The folder.
        name: Short name of the data set.
        layout: One of `PAIR_LAYOUTS`.
        reading: How files become images.

    Raises:
        DataError: If the folder does not hold such data.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. For --layout {layout}, give the folder that holds the images.")
    if layout == "side-by-side":
        folder = list_folder(root, name, reading)
        entries = tuple(replace(entry, facts={**entry.facts, "source_path": entry.file}) for entry in folder.entries)
        return Found(_Half(replace(folder, entries=entries), "right"), _Half(folder, "left"))
    sides = _find_sides(root)
    if sides is None:
        raise DataError(
            f"{root} has no folders source and target (nor A and B). Put the images to translate into "
            f"{root / 'source'} and those to make of them into {root / 'target'}; or type --layout side-by-side for "
            "files that hold both halves."
        )
    sources, images = (_under(root, side, name, reading) for side in sides)
    if layout == "unpaired":
        return Found(_without_labels(images), _without_labels(sources), paired=False)
    return _pair_by_name(images, _without_labels(sources), sides)


def with_named_sources(images: TableSource) -> Found:
    """Return images of a table with the sources that it names in its column ``source_path``, if it has one.

    Args:
        images: The images; their entries have the facts of the table.
    """
    named = [entry.facts.get("source_path", "") for entry in images.entries]
    if not any(named):
        return Found(images)
    distinct = sorted({path for path in named if path})
    files, refused = check_files(distinct, images.root)
    file_of = dict(zip(distinct, files, strict=True))
    absent = ReadError("list", "no source image: source_path is empty", "fill it in, or delete the row")
    entries = tuple(
        replace(entry, facts={**entry.facts, "source_path": file_of[path]})
        if path
        else replace(entry, refused=entry.refused or absent)
        for entry, path in zip(images.entries, named, strict=True)
    )
    reasons = {files[position]: error for position, error in refused.items()}
    others = tuple(Entry(file, refused=reasons.get(file)) for file in dict.fromkeys(files))
    sources = replace(images, name=f"{images.name}-sources", labels=None, entries=others, ignored={})
    return Found(replace(images, entries=entries), sources)


@dataclass(frozen=True)
class _Half:
    """One half, left or right, of each image of a folder."""

    folder: FolderSource
    side: Literal["left", "right"]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def description(self) -> str:
        return self.folder.description

    @property
    def citation(self) -> str | None:
        return self.folder.citation

    @property
    def labels(self) -> LabelSpec | None:
        return self.folder.labels if self.side == "right" else None

    @property
    def entries(self) -> Sequence[Entry]:
        return self.folder.entries

    @property
    def ignored(self) -> dict[str, int]:
        return self.folder.ignored

    @property
    def licence(self) -> str | None:
        return self.folder.licence

    def identity(self) -> Iterator[Any]:
        yield ["half", self.side, "channels of its own"]
        yield from self.folder.identity()

    def read(self, position: int) -> Sequence[DecodedImage]:
        return [self._cut(image) for image in self.folder.read(position)]

    def _cut(self, image: DecodedImage) -> DecodedImage:
        width = image.pixels.shape[-2]
        if width % 2 or width < 4:
            hint = "join source and image at the same width, or leave the file out"
            raise ReadError("check", f"an image {width} pixels wide has no two halves", hint)
        chosen = slice(width // 2) if self.side == "left" else slice(width // 2, None)
        return replace(image, pixels=without_equal_channels(image.pixels[..., chosen, :]))  # one may be grey


def _find_sides(root: Path) -> tuple[str, str] | None:
    """Return the names of the folders of sources and of images; None if there are no such."""
    if not root.is_dir():
        return None
    found = {path.name.lower(): path.name for path in root.iterdir() if path.is_dir() and not path.is_symlink()}
    for source, target in _SIDES:
        if source.lower() in found and target.lower() in found:
            return found[source.lower()], found[target.lower()]
    return None


def _under(root: Path, side: str, name: str, reading: Reading) -> FolderSource:
    """List one of the two folders; its files are named from the root, as both have files of the same names."""
    folder = list_folder(root / side, name, reading)
    entries = tuple(replace(entry, file=f"{side}/{entry.file}") for entry in folder.entries)
    return replace(folder, root=root, entries=entries)


def _without_labels(folder: FolderSource) -> FolderSource:
    """Return a folder without its classes."""
    return replace(folder, labels=None, entries=tuple(replace(entry, label="") for entry in folder.entries))


def _pair_by_name(images: FolderSource, sources: FolderSource, sides: tuple[str, str]) -> Found:
    """Let each image name the source that is called as it is."""
    source_of = _by_stem(sources, sides[0])
    _by_stem(images, sides[1])
    entries, paired = [], set()
    for entry in images.entries:
        partner = source_of.get(stem_of(entry.file.partition("/")[2]))
        if partner is None:
            refused = ReadError("list", f"no source of the same name in {sides[0]}", "add it there, or delete the file")
            entries.append(replace(entry, refused=entry.refused or refused))
        else:
            paired.add(partner)
            entries.append(replace(entry, facts={**entry.facts, "source_path": partner}))
    if not paired:
        raise DataError(
            f"No image of {images.root / sides[1]} has the name of one of {sources.root / sides[0]}. Name both files "
            "of a pair alike; or type --layout unpaired for images that do not belong to each other."
        )
    alone = len(sources.entries) - len(paired)
    ignored = images.ignored | ({"sources without an image": alone} if alone else {})
    kept = tuple(entry for entry in sources.entries if entry.file in paired)
    return Found(replace(images, entries=tuple(entries), ignored=ignored), replace(sources, entries=kept))


def _by_stem(folder: FolderSource, side: str) -> dict[str, str]:
    """Return the files of one of the two folders by their names in it, without extension."""
    stems = [stem_of(entry.file.partition("/")[2]) for entry in folder.entries]
    repeated = [stem for stem, count in Counter(stems).items() if count > 1]
    if repeated:
        raise DataError(f"{folder.root / side} has several files called {repeated[0]}, so that pairs are not clear.")
    return {stem: entry.file for stem, entry in zip(stems, folder.entries, strict=True)}


def stem_of(file: str) -> str:
    """Return a file's name without the extension of an image or a volume.

    Args:
        file: A name or a path; what follows its last dot, such as ``1.2.840.7``, need not be an extension.
    """
    return _SUFFIX.sub("", file)
