"""What every metric on features asks of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import DataError

__all__ = ["check_features", "check_pair", "check_raw_features", "check_raw_pair"]

_LARGEST = 1e40  # the cube of a sum of squares must stay below 1e308


def check_raw_features(features: ArrayLike, side: str, *, at_least: int = 1) -> NDArray[Any]:
    """Return features in the type in which they come, or say what is wrong with them.

    Args:
        features: Shape ``(N, D)``: one row an image, any real numbers.
        side: Whose they are, for messages, such as ``real``.
        at_least: Number of images that the metric needs.

    Returns:
        The same, as an array; not a copy where it is one.

    Raises:
        DataError: If they have another shape, are too few, are no real numbers, NaN, infinite or above 1e40.
    """
    given = np.asarray(features)
    if given.dtype.kind not in "fiu":
        raise DataError(f"The {side} features are {given.dtype}, expected real numbers, such as float32.")
    if given.ndim != 2 or given.shape[1] == 0:
        raise DataError(
            f"The {side} features have the shape {given.shape}, expected (N, D): a row for each image. "
            "Average or flatten what an extractor gives for several places of an image."
        )
    if len(given) < at_least:
        raise DataError(
            f"There are {len(given)} {side} images, and this metric needs at least {at_least}. Give more images."
        )
    if given.size and not (float(given.min()) >= -_LARGEST and float(given.max()) <= _LARGEST):  # NaN is neither
        bad = ~(np.abs(given.astype(np.float64)) <= _LARGEST).all(axis=1)
        raise DataError(
            f"The {side} features of {np.count_nonzero(bad)} of {len(given)} images are NaN, infinite or above "
            f"{_LARGEST:g}, first in row {int(np.argmax(bad))}. Look at these images and at the extractor's weights; "
            "leave out what cannot be mended."
        )
    return given


def check_features(features: ArrayLike, side: str, *, at_least: int = 1) -> NDArray[np.float64]:
    """Return features as float64, or say what is wrong with them.

    Args:
        features: As in `check_raw_features`.
        side: As there.
        at_least: As there.

    Returns:
        The same numbers, float64 ``(N, D)``; not a copy where they are float64 already.

    Raises:
        DataError: As there.
    """
    return check_raw_features(features, side, at_least=at_least).astype(np.float64, copy=False)


def check_raw_pair(
    real: ArrayLike, synthetic: ArrayLike, *, at_least: int, synthetic_at_least: int | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the features of both sides in the type in which they come, or say what is wrong with them.

    Args:
        real: Shape ``(N, D)``.
        synthetic: Shape ``(M, D)``.
        at_least: Number of images that the metric needs on each side.
        synthetic_at_least: Number of synthetic images, where it is another one.

    Returns:
        Both.

    Raises:
        DataError: As in `check_raw_features`, and if D differs.
    """
    x = check_raw_features(real, "real", at_least=at_least)
    y = check_raw_features(synthetic, "synthetic", at_least=synthetic_at_least or at_least)
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"The real features have {x.shape[1]} numbers an image, the synthetic ones {y.shape[1]}. Use the same "
            "extractor, with the same weights and layer, for both."
        )
    return x, y


def check_pair(
    real: ArrayLike, synthetic: ArrayLike, *, at_least: int, synthetic_at_least: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of both sides as float64, or say what is wrong with them; see `check_raw_pair`."""
    x, y = check_raw_pair(real, synthetic, at_least=at_least, synthetic_at_least=synthetic_at_least)
    return x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
