"""Precision and recall, density and coverage: do the synthetic images look real, and are all kinds of them there?

Each image stands for a ball that reaches to its k-th nearest neighbour of the same set, itself not counted. An image
on the rim is inside: copies and repeated images are compared as they should be, balls of radius 0 included. Of other
images none lies on a rim, and implementations that ask for less than the radius agree. Distances that differ by
rounding only (1 part in 10¹²) are equal.

All four depend on N, M and k, and lie below 1 for two samples of one distribution: give the same numbers for real
against real beside them.

References:
    - T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
      arXiv:1904.06991.
    - M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, arXiv:2002.09797.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import ConfigError
from medgan.metrics.functional.feature_checks import check_pair

__all__ = [
    "DensityCoverageResult",
    "ManifoldMembers",
    "PrecisionRecallResult",
    "density_coverage",
    "manifold_members",
    "precision_recall",
]

_BLOCK_BYTES = 2**26  # of distances at a time
_ROUNDING = 1e-12


class PrecisionRecallResult(NamedTuple):
    """Both in [0, 1], higher is better."""

    precision: float
    recall: float


class DensityCoverageResult(NamedTuple):
    """Density is 0 or more, coverage in [0, 1]; higher is better, for density up to about 1."""

    density: float
    coverage: float


class ManifoldMembers(NamedTuple):
    """Which images lie in balls around real images.

    Attributes:
        inside: Shape ``(M,)``: whether each synthetic image lies in a ball; their share is the precision.
        nearest: Shape ``(M,)``: position of the real image nearest to each synthetic one.
        covered: Shape ``(N,)``: whether each real image has a synthetic one in its ball; their share is the coverage.
    """

    inside: NDArray[np.bool_]
    nearest: NDArray[np.int64]
    covered: NDArray[np.bool_]


def manifold_members(real: ArrayLike, synthetic: ArrayLike, *, k: int = 5) -> ManifoldMembers:
    """Return precision and coverage image by image, to be added up for groups of images.

    Args:
        real: Shape ``(N, D)``, N > k.
        synthetic: Shape ``(M, D)``.
        k: A ball reaches to the k-th nearest neighbour among the real images.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the shapes do not fit, there are k real images or fewer or no synthetic one, or a number is not
            finite.
    """
    x, y = _prepare(real, synthetic, k, synthetic_at_least=1)
    radii = _squared_radii(x, k)
    inside, nearest = np.zeros(len(y), dtype=np.bool_), np.zeros(len(y), dtype=np.int64)
    covered = np.zeros(len(x), dtype=np.bool_)
    for rows, distances in _squared_distances(y, x):
        within = distances <= radii
        inside[rows], nearest[rows] = within.any(axis=1), distances.argmin(axis=1)
        covered |= within.any(axis=0)
    return ManifoldMembers(inside, nearest, covered)


def precision_recall(real: ArrayLike, synthetic: ArrayLike, *, k: int = 3) -> PrecisionRecallResult:
    """Return precision and recall: the shares of images that lie in a ball around an image of the other side.

    Args:
        real: Shape ``(N, D)``, N > k; any real numbers, computed in float64 and in blocks of 64 MiB.
        synthetic: Shape ``(M, D)``, M > k.
        k: A ball reaches to the k-th nearest neighbour.

    Returns:
        Precision, the share of synthetic images in the ball of a real one, and recall, the share of real images in the
        ball of a synthetic one. A single outlier has a large ball, in which it lets everything in.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the shapes do not fit, a side has k images or fewer, or a number is not finite.
    """
    x, y = _prepare(real, synthetic, k)
    x_radii, y_radii = _squared_radii(x, k), _squared_radii(y, k)
    precise = np.zeros(len(y), dtype=np.bool_)
    recalled = np.zeros(len(x), dtype=np.bool_)
    for rows, distances in _squared_distances(y, x):
        precise[rows] = (distances <= x_radii).any(axis=1)
        recalled |= (distances <= y_radii[rows, None]).any(axis=0)
    return PrecisionRecallResult(float(precise.mean()), float(recalled.mean()))


def density_coverage(real: ArrayLike, synthetic: ArrayLike, *, k: int = 5) -> DensityCoverageResult:
    """Return density and coverage, which use balls around real images only and suffer less from outliers.

    Args:
        real: Shape ``(N, D)``, N > k; any real numbers, computed in float64 and in blocks of 64 MiB.
        synthetic: Shape ``(M, D)``, M ≥ 1.
        k: A ball reaches to the k-th nearest neighbour.

    Returns:
        Density, the number of real balls that a synthetic image lies in, on average, divided by k. It is about 1 for
        two samples of one distribution, (k + 1) / k for a set and itself, more if synthetic images crowd where real
        ones are dense. Coverage, the share of real balls with a synthetic image inside.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the shapes do not fit, there are k real images or fewer or no synthetic one, or a number is not
            finite.
    """
    x, y = _prepare(real, synthetic, k, synthetic_at_least=1)
    radii = _squared_radii(x, k)
    inside = 0
    covered = np.zeros(len(x), dtype=np.bool_)
    for _, distances in _squared_distances(y, x):
        within = distances <= radii
        inside += int(np.count_nonzero(within))
        covered |= within.any(axis=0)
    return DensityCoverageResult(inside / (k * len(y)), float(covered.mean()))


def _prepare(
    real: ArrayLike, synthetic: ArrayLike, k: int, *, synthetic_at_least: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both sides, moved to around 0, as large common offsets would cost digits."""
    if k < 1:
        raise ConfigError(f"k is {k}, expected at least 1; 3 and 5 are usual.")
    x, y = check_pair(real, synthetic, at_least=k + 1, synthetic_at_least=synthetic_at_least)
    centre = (x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y))
    return x - centre, y - centre


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of `a` with the squared distances of its rows to all of `b`."""
    step = max(1, _BLOCK_BYTES // (8 * len(b)))
    a_lengths, b_lengths = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        distances = a[rows] @ b.T
        distances *= -2
        distances += a_lengths[rows, None]
        distances += b_lengths
        yield rows, np.maximum(distances, 0, out=distances)


def _squared_radii(features: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the squared distance of each image to its k-th nearest neighbour, with room for rounding."""
    radii = np.empty(len(features))
    for rows, distances in _squared_distances(features, features):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return np.asarray(radii + _ROUNDING * (radii + np.square(features).sum(axis=1)))
