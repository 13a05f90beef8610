"""How different the images of one set are, and which images of another set they are nearest to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError, DataError, nearest
from medgan.metrics.functional.images import SCALE_WEIGHTS, DataRange, check_images, multiscale_ssim

__all__ = ["Neighbours", "PairSimilarity", "nearest_neighbours", "pair_similarity"]

_BLOCK_VALUES = 2**22  # of images held as float64 at a time
_MOST_ROWS = 1024  # of a block; bounds the table of scores where images are small
_CONFIDENCE = 0.95
_METRICS = ("correlation", "euclidean")

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class PairSimilarity:
    """How alike the images of a set are to each other.

    Attributes:
        mean: Mean MS-SSIM of the pairs, 1 if all are identical; the higher, the less diverse the images.
        standard_error: Of the mean, as the estimate for the source of the images; NaN if there are too few to tell.
        interval: 95 % confidence interval of the mean, at most 1; NaN if there are too few to tell.
        pairs: Number of pairs compared.
        images: Number of images that pairs were drawn from.
        groups: Number of groups, such as patients; the number of images if none were given.
        scales: Number of scales of MS-SSIM.
    """

    mean: float
    standard_error: float
    interval: tuple[float, float]
    pairs: int
    images: int
    groups: int
    scales: int


class Neighbours(NamedTuple):
    """The references nearest to each query, the nearest first.

    Attributes:
        indices: Shape ``(N, k)``, int64: positions in the references.
        values: Shape ``(N, k)``, float64: their correlation, or their distance.
    """

    indices: NDArray[np.int64]
    values: NDArray[np.float64]


def pair_similarity(
    images: NDArray[Any],
    *,
    data_range: DataRange,
    pairs: int = 1000,
    scales: int = len(SCALE_WEIGHTS),
    groups: Sequence[Any] | NDArray[Any] | None = None,
    seed: int = 0,
) -> PairSimilarity:
    """Return the mean MS-SSIM of random pairs of images: the diversity of a set (lower is more diverse).

    No level is good in itself: noise has the lowest. Compare the value of synthetic images with that of as many real
    ones, **class by class** and with the same `scales`: a higher value of the synthetic ones means that they vary less.

    Pairs are drawn at random, without repetition, from all pairs of different images; all of them are taken if there
    are no more than `pairs`. Images of one patient resemble each other: give the patients of real images as `groups`,
    and only pairs of different patients are drawn.

    Each image is in several pairs, so these are not independent, and their plain standard error is far too small: in
    simulations with 50 images and 1,000 pairs its 95 % interval covered the truth in 37 % of cases. A bootstrap over
    images is no remedy, as it pairs images with copies of themselves. The standard error is the jackknife's over
    groups (leave one out with all its pairs), which errs on the safe side. In the same simulations it covered 95 to
    98 % from 20 groups of a normal distribution on, or 200 of a skewed one, and 89 to 95 % with 20 to 50 of a skewed
    one; do not trust it with fewer.

    Args:
        images: Shape ``(N, channels, *size)`` with 2 or 3 axes of size, finite, within `data_range`; may be
            memory-mapped.
        data_range: The range that the values can have, see `medgan.metrics.functional.images`.
        pairs: Most pairs to compare, 1 or more.
        scales: Number of scales of MS-SSIM, see `medgan.metrics.functional.images.multiscale_ssim`; 1 is SSIM.
        groups: Shape ``(N,)``: names or numbers of patients, for example. None if every image has its own.
        seed: Of the drawing of pairs.

    Returns:
        Mean, its standard error and interval, and how many of what they come from.

    Raises:
        ConfigError: If `pairs`, `scales` or `data_range` cannot be used.
        DataError: If there is no pair, `groups` do not fit, or the images cannot be compared.

    Reference: the use of MS-SSIM for the diversity of a class is of A. Odena, C. Olah, J. Shlens, "Conditional Image
    Synthesis with Auxiliary Classifier GANs", 2017, https://arxiv.org/abs/1610.09585; for the jackknife see B. Efron,
    C. Stein, "The jackknife estimate of variance", 1981, https://doi.org/10.1214/aos/1176345462.
    """
    if pairs < 1:
        raise ConfigError(f"pairs is {pairs}, it must be 1 or more.")
    images = np.asarray(images)
    members = _members(groups, len(images))
    length = math.prod(images.shape[1:])
    for rows in _row_blocks(len(images), length):
        check_images(images[rows], "images", start=rows.start, data_range=data_range)
    first, second = _draw_pairs(members, pairs, np.random.default_rng(seed))
    values = np.empty(len(first))
    for rows in _row_blocks(len(first), length):
        values[rows] = multiscale_ssim(images[first[rows]], images[second[rows]], data_range=data_range, scales=scales)
    mean = float(values.mean())
    count = int(members.max()) + 1
    error = _jackknife_error(values, members[first], members[second], count)
    return PairSimilarity(
        mean=mean,
        standard_error=error,
        interval=_interval(mean, error, count - 1),
        pairs=len(values),
        images=len(images),
        groups=count,
        scales=scales,
    )


def _members(groups: Sequence[Any] | NDArray[Any] | None, count: int) -> NDArray[np.int64]:
    """Return the number of the group of each image, from 0."""
    if groups is None:
        members = np.arange(count)
    else:
        names = np.asarray(groups)
        if names.shape != (count,):
            raise DataError(f"groups must name the group of each of {count} images, got the shape {names.shape}.")
        members = np.unique(names, return_inverse=True)[1].astype(np.int64)
    if count < 2 or members.max() == 0:
        what = "images" if groups is None else "images of different groups"
        raise DataError(f"There is no pair to compare: at least two {what} are needed, got {count} images.")
    return members


def _draw_pairs(
    members: NDArray[np.int64], pairs: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw different pairs of images of different groups, each pair as likely as any other.

    Sorted by group, the partners of an image are all those after its group, so pairs can be numbered without a list
    of them, and no draw is in vain.
    """
    order = np.argsort(members, kind="stable")
    partners_from = np.cumsum(np.bincount(members))[members[order]]
    last = np.cumsum(len(members) - partners_from)  # number of the last pair of each image, from 1
    total = int(last[-1])
    drawn = np.arange(total) if total <= pairs else np.sort(rng.choice(total, size=pairs, replace=False))
    first = np.searchsorted(last, drawn, side="right")
    second = len(members) - (last[first] - drawn)
    return order[first], order[second]


def _jackknife_error(values: _Floats, first: NDArray[np.int64], second: NDArray[np.int64], groups: int) -> float:
    """Return the standard error of the mean of pairs, whose groups are given, all different within a pair."""
    counts = np.bincount(first, minlength=groups) + np.bincount(second, minlength=groups)
    if counts.max() == len(values):
        return math.nan  # without that group no pair is left
    # The mean without a group differs from the mean of all by minus the sum of that group's deviations over the rest.
    deviations = values - values.mean()
    sums = np.bincount(first, deviations, groups) + np.bincount(second, deviations, groups)
    shifts = sums / (len(values) - counts)
    shifts -= shifts.mean()
    return math.sqrt((groups - 1) / groups * float(shifts @ shifts))


def _interval(mean: float, error: float, freedom: int) -> tuple[float, float]:
    """Return the confidence interval of a mean of similarities."""
    from scipy.special import stdtrit

    if math.isnan(error):
        return math.nan, math.nan
    width = float(stdtrit(freedom, (1 + _CONFIDENCE) / 2)) * error
    return mean - width, min(1.0, mean + width)


def nearest_neighbours(
    queries: NDArray[Any],
    references: NDArray[Any],
    *,
    k: int = 1,
    metric: Literal["correlation", "euclidean"] = "correlation",
) -> Neighbours:
    """Find the references nearest to each query, such as the training images nearest to each synthetic one.

    For the inspection of copies: look at the pairs, and compare the values with those of held-out real images against
    the same references, as two radiographs of one view are always alike. Every query is compared with every reference,
    block by block, so memory does not grow with their number. Shifted, turned or mirrored copies are not found in
    pixels; features find them.

    Args:
        queries: Shape ``(N, ...)``: images or features, finite, any real dtype; may be memory-mapped.
        references: Shape ``(M, ...)``, the rest as of `queries`.
        k: Number of neighbours, 1...M.
        metric: ``correlation``: Pearson's, over all pixels and channels, which brightness and contrast do not change; a
            constant image has 0 with every other. ``euclidean``: the root of the sum of squared differences.

    Returns:
        Indices and values, each ``(N, k)``, the nearest first: correlations fall from 1, distances rise from 0. Of
        equals the first is taken.

    Raises:
        ConfigError: If `k` or `metric` cannot be used.
        DataError: If shapes do not fit, one side is empty, or values are not finite.

    Example:
        >>> import numpy as np
        >>> real = np.random.default_rng(0).uniform(size=(20, 1, 16, 16))
        >>> found = nearest_neighbours(real[[7, 3]], real)
        >>> found.indices[:, 0]
        array([7, 3])
    """
    queries, references = np.asarray(queries), np.asarray(references)
    if metric not in _METRICS:
        raise ConfigError(f"There is no metric {metric!r}. {nearest(metric, _METRICS)}")
    if queries.ndim < 2 or queries.shape[1:] != references.shape[1:]:
        raise DataError(
            "Queries and references must have the shapes (N, ...) and (M, ...) and agree but for the first number, got "
            f"{queries.shape} and {references.shape}."
        )
    if 0 in queries.shape or 0 in references.shape:
        raise DataError(f"There is nothing to compare in {queries.shape} and {references.shape}.")
    if not 1 <= k <= len(references):
        raise ConfigError(f"k is {k}, it must be from 1 to the number of references, {len(references)}.")
    length = math.prod(queries.shape[1:])
    # Euclidean distances are compared by way of squares, which a common offset would swamp.
    offset = float(check_images(references[:1], "references").mean())
    indices = np.empty((len(queries), k), dtype=np.int64)
    values = np.empty((len(queries), k))
    for rows in _row_blocks(len(queries), length):
        ones = _vectors(queries, rows, "queries", metric, offset)
        best = np.full((len(ones), k), -np.inf)
        found = np.zeros((len(ones), k), dtype=np.int64)
        for columns in _row_blocks(len(references), length):
            others = _vectors(references, columns, "references", metric, offset)
            scores = ones @ others.T
            if metric == "euclidean":
                scores -= np.einsum("ij,ij->i", others, others) / 2  # the nearest has the highest
            positions = np.broadcast_to(np.arange(len(others)) + columns.start, scores.shape)
            scores, positions = np.hstack([best, scores]), np.hstack([found, positions])
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            best, found = np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)
        indices[rows] = found
        values[rows] = best.clip(-1, 1) if metric == "correlation" else _distances(queries[rows], references, found)
    return Neighbours(indices, values)


def _row_blocks(count: int, length: int) -> Iterator[slice]:
    """Yield slices of rows of the given length, a bounded number of values each."""
    step = min(_MOST_ROWS, max(1, _BLOCK_VALUES // max(1, length)))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _vectors(images: NDArray[Any], rows: slice, name: str, metric: str, offset: float) -> _Floats:
    """Return images as rows; for correlation with mean 0 and length 1, those that are constant with length 0."""
    vectors = check_images(images[rows], name, start=rows.start).reshape(rows.stop - rows.start, -1)
    if metric == "euclidean":
        return vectors - offset
    constant = vectors.min(axis=1) == vectors.max(axis=1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors[constant] = 0  # what rounding left would be blown up
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(constant[:, None], 1, lengths))


def _distances(queries: NDArray[Any], references: NDArray[Any], indices: NDArray[np.int64]) -> _Floats:
    """Return Euclidean distances ``(n, k)`` of queries to the references found, from differences: 0 for copies."""
    ones = queries.astype(np.float64).reshape(len(queries), -1)
    columns = [
        np.linalg.norm(ones - references[column].astype(np.float64).reshape(len(ones), -1), axis=1)
        for column in indices.T
    ]
    return np.stack(columns, axis=1)
