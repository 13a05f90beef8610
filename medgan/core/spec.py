"""Facts of the data (`DataSpec`, `LabelSpec`) and the unit that training moves (`Batch`).

Nothing here imports torch at run time, so that the command line can start quickly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from medgan.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "DataSpec", "LabelKind", "LabelSpec"]

LabelKind = Literal["categorical", "multilabel", "ordinal", "continuous"]
"""What labels are; see `LabelSpec`."""


@dataclass(frozen=True)
class LabelSpec:
    """What a label means.

    Attributes:
        names: For ``categorical`` and ``ordinal`` labels the classes, in the order of their
            indices; for ``multilabel`` the findings and for ``continuous`` the quantities, in the
            order of their columns.
        kind: ``categorical`` and ``ordinal`` labels are class indices, int64 of shape ``(N,)``;
            ``multilabel`` (0 or 1) and ``continuous`` labels are float32 of shape ``(N, K)``, NaN where
            not known: such an entry conditions nothing and is not learnt.

    Raises:
        ConfigError: If `kind` is unknown, or `names` is empty or repeats a name.
    """

    names: tuple[str, ...]
    kind: LabelKind = "categorical"

    def __post_init__(self) -> None:
        """Check the fields and turn any sequence of names into a tuple."""
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if self.kind not in get_args(LabelKind):
            raise ConfigError(f"Label kind {self.kind!r} is unknown. {nearest(self.kind, get_args(LabelKind))}")
        if not self.names:
            raise ConfigError("LabelSpec got no names. Pass at least one, or use labels=None for data without labels.")
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f"LabelSpec names must differ from each other, got {self.names}.")

    def __len__(self) -> int:
        """Return the number of classes, findings or quantities."""
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the class index or column of `name`.

        Args:
            name: One of `names`.

        Returns:
            Its position in `names`.

        Raises:
            ConfigError: If there is no such name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigError(f"Label {name!r} is unknown. {nearest(name, self.names)}") from None

    def encode(self, label: str | Mapping[str, float]) -> int | tuple[float, ...]:
        """Return a label as `Batch` has it.

        Args:
            label: A name: of a class, or of the one finding or quantity that is 1 while the others are 0. Or values by
                name, as a mapping or as a text such as ``Effusion=1,Edema=0``: findings 0 or 1, and 0 where not named;
                quantities any number, and not known (NaN) where not named; NaN is not known in both. Of ordinal labels
                a single ``severity=2``, under any name, which is the class called 2 or, where no class is called by a
                number, the grade, counted from 0.

        Returns:
            A class index; or the values of all columns.

        Raises:
            ConfigError: If a name is unknown or repeated, or a value does not fit.

        Example:
            >>> LabelSpec(("Effusion", "Edema", "Mass"), "multilabel").encode("Effusion=1,Mass=0")
            (1.0, 0.0, 0.0)
        """
        classes = self.kind in ("categorical", "ordinal")
        if isinstance(label, str) and (label in self.names or "=" not in label or self.kind == "categorical"):
            position = self.index(label)
            return position if classes else tuple(float(column == position) for column in range(len(self)))
        pairs = _pairs(label) if isinstance(label, str) else list(label.items())
        if classes:
            return self._class(pairs, label)
        values = dict.fromkeys(self.names, 0.0 if self.kind == "multilabel" else math.nan)
        if len({name for name, _ in pairs}) < len(pairs):
            raise ConfigError(f"Label {label!r} names something twice. Give each finding or quantity once.")
        for name, given in pairs:
            self.index(name)
            try:
                value = float(given)
            except (TypeError, ValueError):
                value = math.inf
            if math.isinf(value) or (self.kind == "multilabel" and value not in (0, 1) and not math.isnan(value)):
                wanted = "0 (absent), 1 (present)" if self.kind == "multilabel" else "a number"
                raise ConfigError(f"Label {name} got {given!r}, expected {wanted} or nan (not known).")
            values[name] = value
        return tuple(values.values())

    def _class(self, pairs: Sequence[tuple[str, Any]], label: object) -> int:
        """Return the class index that a single value stands for."""
        if self.kind == "categorical" or len(pairs) != 1:
            raise ConfigError(
                f"{self.kind} labels are one of {', '.join(self.names)}, got {label!r}. Name one of them"
                + (", or its grade, such as severity=2." if self.kind == "ordinal" else ".")
            )
        value = pairs[0][1]
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if text in self.names:
            return self.names.index(text)
        numbered = any(_is_number(name) for name in self.names)
        if not numbered and text.isdecimal() and int(text) < len(self):
            return int(text)
        grades = "" if numbered else f", or 0 to {len(self) - 1}"
        raise ConfigError(f"Label {label!r} is no class. Expected one of {', '.join(self.names)}{grades}.")


def _pairs(text: str) -> list[tuple[str, str]]:
    """Read names with values, such as ``Effusion=1,Edema=0``."""
    pairs = []
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        if not equals or not name.strip():
            raise ConfigError(f"Label {text!r} cannot be read: {part.strip()!r} has no value. Type NAME=1,OTHER=0.")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class DataSpec:
    """Facts of a data set: they come from the data, never from a flag, and travel with the model.

    Attributes:
        channels: Number of image channels, for example 1 for grey and 3 for RGB.
        size: Spatial size in pixels, ``(height, width)`` or ``(depth, height, width)``.
        labels: What the labels mean, or None for data without labels.
        source_channels: Number of channels of the source images that the images are to be translated from; 0 for data
            without such. Sources have the size of the images.
        paired: Whether each image shows what its source shows. If not, any source may come with any image.

    Raises:
        ConfigError: If a number is below 1 (of source channels, 0), or `size` has no entry.
    """

    channels: int
    size: tuple[int, ...]
    labels: LabelSpec | None = None
    source_channels: int = 0
    paired: bool = True

    def __post_init__(self) -> None:
        """Check the fields and turn any sequence of sizes into a tuple of int."""
        object.__setattr__(self, "size", tuple(int(length) for length in self.size))
        if self.channels < 1:
            raise ConfigError(f"DataSpec.channels must be at least 1, got {self.channels}.")
        if not self.size or min(self.size) < 1:
            raise ConfigError(f"DataSpec.size must hold positive lengths such as (64, 64), got {self.size}.")
        if self.source_channels < 0:
            raise ConfigError(f"DataSpec.source_channels must be at least 0, got {self.source_channels}.")
        if not self.source_channels:
            object.__setattr__(self, "paired", True)  # nothing to be apart from; specs without sources are equal

    @property
    def numel(self) -> int:
        """How many numbers an image has, in all channels."""
        return self.channels * math.prod(self.size)

    @property
    def num_labels(self) -> int:
        """Number of classes, findings or quantities; 0 without labels."""
        return 0 if self.labels is None else len(self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON values; the inverse of `from_dict`."""
        labels = None if self.labels is None else {"kind": self.labels.kind, "names": list(self.labels.names)}
        # Data without sources is written as it was before there were any, and its checkpoints fit.
        sources = {"source_channels": self.source_channels, "paired": self.paired} if self.source_channels else {}
        return {"channels": self.channels, "size": list(self.size), "labels": labels, **sources}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataSpec:
        """Rebuild a spec from `to_dict`'s values.

        Args:
            values: Keys ``channels``, ``size`` and ``labels``; of data with sources ``source_channels`` and ``paired``.

        Returns:
            The spec.

        Raises:
            ConfigError: If a key is missing or a value is not usable.
        """
        try:
            labels = values["labels"]
            return cls(
                channels=int(values["channels"]),
                size=tuple(values["size"]),
                labels=None if labels is None else LabelSpec(tuple(labels["names"]), labels["kind"]),
                source_channels=int(values.get("source_channels", 0)),
                paired=bool(values.get("paired", True)),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"A data spec needs channels, size and labels (kind, names); got {values!r}.") from error

    def __str__(self) -> str:
        """Return a short description, for messages."""
        size = "×".join(str(length) for length in self.size)
        labels = "no labels" if self.labels is None else f"{self.labels.kind} {', '.join(self.labels.names)}"
        sources = f", {'' if self.paired else 'unpaired '}sources of {self.source_channels} channel(s)"
        return f"{self.channels}×{size}, {labels}{sources if self.source_channels else ''}"


@dataclass(frozen=True, eq=False)
class Batch:
    """Images with their labels: what a data source yields and a GAN samples.

    Iterating yields what a discriminator takes: images, labels and, where there are any, sources. So
    ``discriminator(*batch)`` judges a batch of any kind, and without sources ``images, labels = batch`` is all.

    Attributes:
        images: Shape ``(N, channels, *size)``, float32 in [-1, 1].
        labels: Shape ``(N,)`` int64 for categorical and ordinal labels, ``(N, K)`` float32 for
            multilabel and continuous ones, or None.
        sources: Images to translate from, shape ``(N, source_channels, *size)``, float32 in [-1, 1], or None. Of paired
            data each shows what the image beside it shows; of unpaired data it is one of another patient, as a rule.
    """

    images: Tensor
    labels: Tensor | None = None
    sources: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        """Yield images, labels and, where there are any, sources."""
        yield self.images
        yield self.labels
        if self.sources is not None:
            yield self.sources

    def select(self, rows: Any) -> Batch:
        """Return some of the images with what belongs to them.

        Args:
            rows: What a tensor can be indexed by along its first axis, such as a slice.
        """
        parts: list[Any] = [None if part is None else part[rows] for part in self]
        return Batch(*parts)

    def chunk(self, parts: int) -> Sequence[Batch]:
        """Split into `parts` batches of equal size.

        Args:
            parts: Number of parts; must divide the number of images.

        Returns:
            The parts, in order.

        Raises:
            ConfigError: If the images cannot be divided so.
        """
        count = len(self.images)
        if count % parts:
            raise ConfigError(f"A batch of {count} images cannot be split into {parts} equal parts.")
        step = count // parts
        return [self.select(slice(start, start + step)) for start in range(0, count, step)]

    @staticmethod
    def join(parts: Sequence[Batch]) -> Batch:
        """Put batches together, in order; the inverse of `chunk`.

        Args:
            parts: At least one batch; all of them with labels, or none, and likewise with sources.

        Returns:
            One batch.

        Raises:
            ConfigError: If there is none.
        """
        import torch

        if not parts:
            raise ConfigError("There is no batch to join.")
        joined: list[Any] = [None if some[0] is None else torch.cat(some) for some in zip(*parts, strict=True)]
        return Batch(*joined)
