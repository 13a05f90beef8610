"""The three-sample test of data copying, C_T (C. Meehan, K. Chaudhuri, S. Dasgupta, 2020, arXiv:2004.05675).

In each cell of the space of images it asks whether synthetic images lie nearer to training images than held-out ones
do, over all distances and not the smallest alone. A generator that copies in one cell only is found there, where others
that underfit would hide it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from medgan.errors import DataError

__all__ = ["COPYING", "Cell", "DataCopying", "data_copying"]

COPYING = -3.0
"""A cell whose z is below this one is said to hold copies."""

_FEWEST = 10  # images of each kind in a cell; with fewer, U is not nearly normal


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        held_out: Held-out images in it.
        synthetic: Synthetic images in it.
        z: Mann and Whitney's U of the distances, synthetic against held-out, as a normal number: around 0 if they are
            alike, far below 0 if synthetic images are nearer; None in a cell with too few images.
    """

    held_out: int
    synthetic: int
    z: float | None


@dataclass(frozen=True)
class DataCopying:
    """The result of `data_copying`.

    Attributes:
        value: C_T: mean of the cells' z, weighted by their held-out images; far below 0 for copying.
        z: The same over its standard deviation for a generator that does not copy.
        p_value: One-sided.
        cells: All cells.
        left_out: Synthetic images in cells with too few images.
    """

    value: float
    z: float
    p_value: float
    cells: tuple[Cell, ...]
    left_out: int


def data_copying(
    synthetic: ArrayLike, held_out: ArrayLike, *, cells_of_synthetic: ArrayLike, cells_of_held_out: ArrayLike
) -> DataCopying:
    """Compare distances to the nearest training image, cell by cell.

    Args:
        synthetic: Distance of each synthetic image, ``(m,)``.
        held_out: The same of held-out images, ``(n,)``, one of each patient: images of one patient do not count twice.
        cells_of_synthetic: Cell of each synthetic image, ``(m,)`` whole numbers from 0, such as of k-means of the
            training images.
        cells_of_held_out: The same of held-out images.

    Returns:
        C_T and its cells.

    Raises:
        DataError: If no cell has 10 images of each kind.
    """
    ours, null = np.asarray(synthetic, np.float64), np.asarray(held_out, np.float64)
    places, null_places = np.asarray(cells_of_synthetic), np.asarray(cells_of_held_out)
    cells: list[Cell] = []
    for number in range(int(max(places.max(initial=-1), null_places.max(initial=-1))) + 1):
        inside, null_inside = ours[places == number], null[null_places == number]
        few = min(len(inside), len(null_inside)) < _FEWEST
        cells.append(Cell(len(null_inside), len(inside), None if few else _z(inside, null_inside)))
    weights = np.array([cell.held_out for cell in cells if cell.z is not None], np.float64)
    if not len(weights):
        raise DataError(
            f"No cell has {_FEWEST} held-out patients and {_FEWEST} synthetic images. Give more, or fewer cells."
        )
    scores = np.array([cell.z for cell in cells if cell.z is not None])
    value = float(weights @ scores / weights.sum())
    # Given who is in which cell, the cells' z are independent, and normal for a generator that does not copy.
    z = value * float(weights.sum()) / math.sqrt(float(weights @ weights))
    return DataCopying(value, z, float(special.ndtr(z)), tuple(cells), _left_out(cells))


def _left_out(cells: Sequence[Cell]) -> int:
    """Count synthetic images in cells with too few images."""
    return sum(cell.synthetic for cell in cells if cell.z is None)


def _z(ours: NDArray[np.float64], null: NDArray[np.float64]) -> float:
    """Return U as a normal number, corrected for ties."""
    m, n = len(ours), len(null)
    pooled = np.concatenate([ours, null])
    u = float(stats.rankdata(pooled)[:m].sum()) - m * (m + 1) / 2
    ties = np.unique(pooled, return_counts=True)[1].astype(np.float64)
    total = m + n
    variance = m * n / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    return (u - m * n / 2) / math.sqrt(variance) if variance > 0 else 0.0
