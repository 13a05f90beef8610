"""Dividing images at random for floors and intervals, and the intervals themselves.

Distances between sets of images have no ordinary bootstrap: a set drawn with replacement repeats images, which changes
what is measured (a Fréchet distance of 0 gets an interval that does not hold 0). Here every replicate is of images that
no other replicate has, so that replicates are independent and their mean has Student's interval.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import ConfigError

__all__ = [
    "CONFIDENCE",
    "clopper_pearson",
    "difference_interval",
    "divide",
    "grouped_mean_interval",
    "mean_interval",
    "median_interval",
    "share_interval",
]

CONFIDENCE = 0.95
"""Of every interval; two-sided."""

_DRAWS = 2_000
_DRAWS_AT_A_TIME = 100
_ROUNDING = 1e-9  # an error of a share

Positions = NDArray[np.int64]
Bounds = tuple[float, float]


def divide(groups: NDArray[Any], strata: NDArray[Any], parts: int, *, rng: np.random.Generator) -> list[Positions]:
    """Divide images at random into parts of nearly equal size, with all images of a group in one.

    Groups come in random order; each goes to the part that has the fewest images of its stratum so far, and of these to
    the one with the fewest images.

    Args:
        groups: Shape ``(N,)``: who each image is of.
        strata: Shape ``(N,)``: what each image shows; every part gets its share of each. A group of several strata
            counts as of the one of its first image.
        parts: Number of parts, at least 2.
        rng: Decides.

    Returns:
        Positions of the images of each part, rising; a part is empty if there are fewer groups than parts.

    Raises:
        ConfigError: If there are fewer than 2 parts.
    """
    if parts < 2:
        raise ConfigError(f"Images cannot be divided into {parts} parts; 2 or more are needed.")
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    sizes = np.bincount(group.reshape(-1))
    filled = np.zeros((parts, int(stratum.max(initial=0)) + 1), dtype=np.int64)
    totals = np.zeros(parts, dtype=np.int64)
    part_of = np.empty(len(sizes), dtype=np.int64)
    for each in rng.permutation(len(sizes)):
        of = stratum.reshape(-1)[first[each]]
        # Ties are broken at random, or the first part would be the largest one always.
        part = int(np.lexsort((rng.random(parts), totals, filled[:, of]))[0])
        part_of[each] = part
        filled[part, of] += sizes[each]
        totals[part] += sizes[each]
    return [np.flatnonzero(part_of[group.reshape(-1)] == part) for part in range(parts)]


def mean_interval(values: ArrayLike) -> Bounds:
    """Return Student's interval of the mean of independent replicates; NaN for fewer than 2.

    Args:
        values: Shape ``(K,)``.
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return math.nan, math.nan
    width = _quantile(len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return float(found.mean()) - width, float(found.mean()) + width


def grouped_mean_interval(values: ArrayLike, groups: NDArray[Any]) -> tuple[float, Bounds]:
    """Return the standard error and the interval of a mean over images, of which those of a group go together.

    The variance is that between groups (the ratio estimator of cluster sampling, W. G. Cochran, "Sampling Techniques",
    1977, section 11.5), with Student's t for one less than the number of groups.

    Args:
        values: Shape ``(N,)``.
        groups: Shape ``(N,)``: who each image is of.

    Returns:
        Standard error and bounds; NaN for fewer than 2 groups.
    """
    found = np.asarray(values, dtype=np.float64)
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group.reshape(-1), found - found.mean())
    count = len(sums)
    if count < 2:
        return math.nan, (math.nan, math.nan)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(found)
    width = _quantile(count - 1) * error
    return error, (float(found.mean()) - width, float(found.mean()) + width)


def share_interval(values: ArrayLike, groups: NDArray[Any]) -> tuple[str, Bounds]:
    """Return the interval of a share of images, of which those of a group go together, and whose method it is.

    Where all groups are alike, such as all 1, there is no variance to see, and `grouped_mean_interval` has no width.
    The interval is then that of as many single images as there are groups, as if a group told no more than one.

    Args:
        values: Shape ``(N,)``, in [0, 1].
        groups: Shape ``(N,)``: who each image is of.

    Returns:
        Student's t or Clopper and Pearson, and bounds; NaN for fewer than 2 groups.
    """
    found = np.asarray(values, dtype=np.float64)
    error, bounds = grouped_mean_interval(found, groups)
    if not error < _ROUNDING:
        return "Student's t", bounds
    count = len(np.unique(groups))
    return "Clopper and Pearson", clopper_pearson(min(count, count * float(found.mean())), count)


def clopper_pearson(hits: float, count: int) -> Bounds:
    """Return Clopper and Pearson's interval of a share (1934, doi:10.1093/biomet/26.4.404).

    Args:
        hits: How many there are; parts of one are allowed.
        count: Of how many.
    """
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, count - hits + 1, tail)) if hits > 0 else 0.0
    return low, float(betaincinv(hits + 1, count - hits, 1 - tail)) if hits < count else 1.0


def difference_interval(difference: float, first: tuple[float, int], second: tuple[float, int]) -> Bounds:
    """Return the interval of the difference of two independent means (B. L. Welch, doi:10.1093/biomet/34.1-2.28).

    Args:
        difference: The difference.
        first: Standard error of the one mean, and its degrees of freedom.
        second: The same of the other.
    """
    variances = [error**2 for error, _ in (first, second)]
    total = sum(variances)
    if not total > 0:
        return (difference, difference) if total == 0 else (math.nan, math.nan)
    terms = (variance**2 / max(freedom, 1) for variance, (_, freedom) in zip(variances, (first, second), strict=True))
    width = _quantile(total**2 / sum(terms)) * math.sqrt(total)
    return difference - width, difference + width


def median_interval(values: ArrayLike, groups: NDArray[Any], *, seed: int) -> Bounds:
    """Return a percentile interval of the median over images, by a bootstrap of whole groups (2,000 draws).

    A bootstrap is valid here, as each image has a value of its own.

    Args:
        values: Shape ``(N,)``; infinite ones are allowed.
        groups: Shape ``(N,)``: who each image is of.
        seed: Of the draws.

    Returns:
        Bounds; NaN for fewer than 2 groups.
    """
    found = np.asarray(values, dtype=np.float64)
    _, group = np.unique(groups, return_inverse=True)
    order = np.argsort(found, kind="stable")
    found, group = found[order], group.reshape(-1)[order]
    count = int(group.max(initial=-1)) + 1
    if count < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    medians = np.empty(_DRAWS)
    for start in range(0, _DRAWS, _DRAWS_AT_A_TIME):
        times = rng.multinomial(count, np.full(count, 1 / count), size=_DRAWS_AT_A_TIME)[:, group]
        reached = np.cumsum(times, axis=1)
        middle = (reached * 2 >= reached[:, -1:]).argmax(axis=1)
        medians[start : start + _DRAWS_AT_A_TIME] = found[middle]
    medians.sort()
    # Of the drawn medians themselves: between a number and infinity there is none to interpolate.
    cut = round((1 - CONFIDENCE) / 2 * _DRAWS)
    return float(medians[cut]), float(medians[-cut - 1])


def _quantile(freedom: float) -> float:
    """Return the upper quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
