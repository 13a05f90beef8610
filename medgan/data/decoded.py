"""What every reader gives: `DecodedImage`, or a `ReadError`; and `Reading`, what every reader is told."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.window import Window
from medgan.errors import DataError

__all__ = [
    "FACTS",
    "DecodedImage",
    "PassingError",
    "ReadError",
    "Reading",
    "is_constant",
    "raise_if_passing",
    "without_equal_channels",
]

# Errors of the operating system that come of a file or its name, and stay; damaged files raise some without a number
_FAULTS_OF_FILES = frozenset(
    {
        None,
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EFBIG, errno.EOVERFLOW),
    }
)

FACTS = (
    "modality",
    "view",
    "photometric",
    "inverted",
    "window",
    "spacing_mm",
    "transfer_syntax",
    "presentation_intent",
    "burned_in_annotation",
    "patient_identity_removed",
    "masked_area",
    "age",
    "sex",
    "split",
    "origin",
    "source_path",
)
"""Names of what may be known of an image beside its pixels; each is a column of the index, "" where unknown."""


@dataclass(frozen=True)
class Reading:
    """How files become images.

    Attributes:
        window: How stored values become black and white.
        frame: The only frame wanted of a multi-frame file, from 1; None for all.
        slices: Slices of volumes to take as images, such as ``axial:0.3-0.7``; None for none.
        volumes: Whether an image is a whole volume.
        spacing_mm: Resample volumes to this spacing, along depth, height and width, in mm; None for as they are.
    """

    window: Window = field(default_factory=Window)
    frame: int | None = None
    slices: str | None = None
    volumes: bool = False
    spacing_mm: tuple[float, float, float] | None = None


class ReadError(Exception):
    """One image that cannot be used; goes to the quarantine table and stops nothing.

    Attributes:
        stage: Where it failed: ``list``, ``open``, ``decode`` or ``check``.
        error: What is wrong.
        hint: What to do about it.
    """

    def __init__(self, stage: str, error: str, hint: str) -> None:
        """Say where it failed, what is wrong, and what to do."""
        super().__init__(stage, error, hint)  # all of them, so that the exception survives pickling
        self.stage, self.error, self.hint = stage, error, hint


class PassingError(DataError):
    """Reading that failed for no fault of the file, such as a network share that is gone or memory that ran out.

    It ends the reading: were the file put into the quarantine, it would stay there after the fault has passed.
    """


def raise_if_passing(exception: BaseException) -> None:
    """Raise what a file is not to blame for.

    Args:
        exception: What reading it raised.

    Raises:
        PassingError: If memory ran out, or the operating system reports an error that says nothing of the file.
    """
    faulty_system = isinstance(exception, OSError) and exception.errno not in _FAULTS_OF_FILES
    if faulty_system or isinstance(exception, MemoryError):
        said = f"{type(exception).__name__}: {exception}".rstrip(": ")
        raise PassingError(
            f"Reading ended with {said}, which may pass. See that the disk or network share is there and that there is "
            "memory left, and try again."
        ) from exception


@dataclass(frozen=True)
class DecodedImage:
    """One image as found.

    Attributes:
        pixels: Shape ``(height, width, channels)``, or ``(depth, height, width, channels)`` for a volume, with 1 or 3
            channels: uint8 with the range 0...255, uint16 with the range 0...65535, or float32 with the range 0...1.
            An RGB image whose channels are equal has 1 channel.
        mode: Pillow's mode of the file, such as ``L``, ``RGB``, ``I;16``; or the kind of file, such as ``DICOM``.
        bits: Bits per sample in the file.
        part: Which of several images of its file it is, such as ``frame 3`` or ``axial 42``; "" for the only one.
        facts: What else is known, by names of `FACTS` and ``patient_id``; all values are text.
    """

    pixels: NDArray[Any]
    mode: str
    bits: int
    part: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width, or depth, height and width; after orientation."""
        return tuple(self.pixels.shape[:-1])


def is_constant(pixels: NDArray[Any]) -> bool:
    """Whether all pixels of an image are alike, each channel by itself.

    Args:
        pixels: Shape ``(..., channels)``.
    """
    flat = pixels.reshape(-1, pixels.shape[-1])
    # Every 997th pixel settles it for all but a few images, at no cost.
    return not (flat[::997] != flat[0]).any() and not (flat != flat[0]).any()


def without_equal_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Reduce an RGB image that is grey in content to one channel.

    Args:
        pixels: Shape ``(..., channels)``.

    Returns:
        Shape ``(..., 1)`` if all channels are equal, else the image unchanged.
    """
    grey = all(np.array_equal(pixels[..., 0], pixels[..., channel]) for channel in range(1, pixels.shape[-1]))
    return pixels[..., :1] if grey else pixels
