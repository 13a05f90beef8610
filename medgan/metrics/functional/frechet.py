"""The Fréchet distance between two sets of features; on features of Inception v3 it is known as FID.

With means μ and covariances Σ (dividing by N − 1) it is

    ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂),

the squared 2-Wasserstein distance between two Gaussians with these moments. Here the trace of the root is a sum of
singular values: where FᵀF = Σ, it is the nuclear norm of F₁F₂ᵀ. For fewer images than features F is the centred
features themselves, otherwise the Cholesky factor, of which one is enough: with Σ₁ = LLᵀ, LᵀΣ₂L is symmetric, and its
eigenvalues are the squares. Nothing in it can become imaginary, and the noise of a singular covariance has no part in
it, unlike in the square root of the matrix Σ₁Σ₂ that is usual.

The estimate is biased: it shrinks as N grows, even between two samples of one distribution, and depends on N of both
sides. Compare numbers of equal N only, with a real-against-real number of that N beside them. A bootstrap of it is not
valid, as repeated images shrink the covariance; take several seeds and disjoint samples instead.

References:
    - M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
      arXiv:1706.08500.
    - D. C. Dowson and B. V. Landau, "The Fréchet distance between multivariate normal distributions", 1982,
      doi:10.1016/0047-259X(82)90077-X.
    - A. Mathiasen and F. Hvilshøj, "Backpropagating through Fréchet Inception Distance", 2020, arXiv:2009.14075
      (the trace for N < D).
    - M. J. Chong and D. Forsyth, "Effectively Unbiased FID and Inception Score and where to find them", 2020,
      arXiv:1911.07023 (the extrapolation).
    - T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for Computing the Sample Variance", 1983,
      doi:10.1080/00031305.1983.10483115 (merging).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas, lapack

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional.feature_checks import check_pair, check_raw_features, check_raw_pair

__all__ = [
    "ExtrapolationResult",
    "FeatureStatistics",
    "frechet_distance",
    "frechet_distance_from_statistics",
    "frechet_distance_infinity",
]

_BLOCK_BYTES = 2**23  # of centred features at a time
_TILE = 256
_SMALLEST_SHARE = 0.25  # of the images, in the smallest subsets that are extrapolated from
_EIGENVALUE_NOISE = 10 * np.finfo(np.float64).eps  # of the largest one
_TOLERANCE = 1e-7  # share of the distance that the noise of eigenvalues may make up


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """All that the Fréchet distance needs of a set of features; sets can be merged without their features.

    Attributes:
        count: Number of images N, at least 1.
        mean: Shape ``(D,)``, float64.
        scatter: Shape ``(D, D)``, float64: sum over the images of the products of features minus `mean`, which is
            N − 1 times the covariance.
    """

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check what was given."""
        features = len(self.mean)
        if self.count < 1 or self.mean.shape != (features,) or self.scatter.shape != (features, features):
            raise DataError(
                f"Statistics of {self.count} images with a mean of the shape {self.mean.shape} and a scatter matrix of "
                f"the shape {self.scatter.shape} do not fit: expected at least 1 image, (D,) and (D, D)."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scatter).all()):
            raise DataError("Statistics of features are NaN or infinite. Compute them again from finite features.")

    @classmethod
    def from_features(cls, features: ArrayLike) -> FeatureStatistics:
        """Compute them.

        Args:
            features: Shape ``(N, D)``, N ≥ 1.

        Returns:
            The statistics.

        Raises:
            DataError: As in `frechet_distance`.
        """
        return cls._of(check_raw_features(features, "given"))

    @classmethod
    def _of(cls, features: NDArray[Any]) -> FeatureStatistics:
        mean = features.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((len(mean), len(mean)), order="F")
        # In blocks: a float64 copy of all features costs more than the conversion.
        step = max(1, _BLOCK_BYTES // (8 * len(mean)))
        for start in range(0, len(features), step):
            centred = features[start : start + step].astype(np.float64)
            centred -= mean
            scatter = blas.dsyrk(1.0, centred.T, beta=1.0, c=scatter, overwrite_c=1)
        _mirror(scatter)
        return cls(len(features), mean, scatter)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance ``(D, D)``; needs two images."""
        return self.scatter / (self.count - 1)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Return the statistics of both sets together, by the formula of Chan et al., which does not cancel.

        Args:
            other: Statistics of other images, from the same extractor.

        Returns:
            What `from_features` gives for all images, but for rounding.

        Raises:
            DataError: If D differs.
        """
        if self.mean.shape != other.mean.shape:
            raise DataError(
                f"Statistics of {len(self.mean)} and of {len(other.mean)} features cannot be merged. Use the same "
                "extractor, with the same weights and layer, for all images."
            )
        count = self.count + other.count
        shift = other.mean - self.mean
        scatter = np.multiply.outer(shift, shift * (self.count * other.count / count))
        scatter += self.scatter
        scatter += other.scatter
        return FeatureStatistics(count, self.mean + shift * (other.count / count), scatter)


class ExtrapolationResult(NamedTuple):
    """An estimate for infinitely many images."""

    value: float
    standard_error: float


def frechet_distance(real: ArrayLike, synthetic: ArrayLike) -> float:
    """Return the Fréchet distance between two sets of features.

    Args:
        real: Shape ``(N, D)``, N ≥ 2; any real numbers, computed in float64.
        synthetic: Shape ``(M, D)``, M ≥ 2.

    Returns:
        0 or more, lower is better; in squared units of the features. What rounding brings below 0 is 0. Two sets
        without any variance have the squared distance of their means.

    Raises:
        DataError: If the shapes do not fit, a side has fewer than 2 images, or a number is not finite.
    """
    return _distance(*check_raw_pair(real, synthetic, at_least=2))


def frechet_distance_from_statistics(real: FeatureStatistics, synthetic: FeatureStatistics) -> float:
    """Return the Fréchet distance between two sets of which only the moments are known.

    For fewer images than features `frechet_distance` is the faster way, and loses fewer digits.

    Args:
        real: Of 2 images or more.
        synthetic: Of 2 images or more.

    Returns:
        As `frechet_distance`.

    Raises:
        DataError: If D differs, or a side has fewer than 2 images.
    """
    for side, statistics in (("real", real), ("synthetic", synthetic)):
        if statistics.count < 2:
            raise DataError(
                f"There is {statistics.count} {side} image, and the Fréchet distance needs at least 2. Give more."
            )
    if real.mean.shape != synthetic.mean.shape:
        raise DataError(
            f"The real statistics are of {len(real.mean)} features, the synthetic ones of {len(synthetic.mean)}. Use "
            "the same extractor, with the same weights and layer, for both."
        )
    return _distance_of_statistics(real, synthetic)


def frechet_distance_infinity(
    real: ArrayLike, synthetic: ArrayLike, *, points: int = 8, seed: int = 0
) -> ExtrapolationResult:
    """Estimate what the Fréchet distance would be with infinitely many images on both sides.

    The bias of the Fréchet distance falls as 1/N. It is computed for random subsets that hold the same share of both
    sides, from a quarter to all of the images, and a line in 1/share is followed to 0 (FID∞, where only the synthetic
    side is varied; here the bias of both sides is taken away).

    The line holds where the subsets have more images than there are features; below, the curve bends, and the estimate
    is too low by an amount that the standard error does not show.

    Args:
        real: Shape ``(N, D)``, N ≥ 8.
        synthetic: Shape ``(M, D)``, M ≥ 8.
        points: Number of subsets, at least 3.
        seed: Chooses the subsets.

    Returns:
        The value, which may be negative where the true distance is small, and the standard error of the fit, by which
        the points scatter around the line. It is no confidence interval, as all subsets are of the same images.

    Raises:
        ConfigError: If there are fewer than 3 points.
        DataError: If the shapes do not fit, a side has fewer than 8 images, or a number is not finite.
    """
    if points < 3:
        raise ConfigError(f"points is {points}, but a line with a standard error needs at least 3. Leave it at 8.")
    sides = check_pair(real, synthetic, at_least=round(2 / _SMALLEST_SHARE))
    rng = np.random.default_rng(seed)
    distances, inverse_shares = [], []
    for inverse_share in np.linspace(1, 1 / _SMALLEST_SHARE, points):
        sizes = [round(len(side) / inverse_share) for side in sides]
        subsets = [side[rng.choice(len(side), size, replace=False)] for side, size in zip(sides, sizes, strict=True)]
        distances.append(_distance(*subsets))
        inverse_shares.append(np.mean([len(side) / size for side, size in zip(sides, sizes, strict=True)]))
    design = np.stack([np.ones(points), inverse_shares], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, distances, rcond=None)
    residual = distances - design @ coefficients
    variance = residual @ residual / (points - 2) * np.linalg.inv(design.T @ design)[0, 0]
    return ExtrapolationResult(float(coefficients[0]), float(np.sqrt(variance)))


def _mirror(matrix: NDArray[np.float64]) -> None:
    """Copy the upper triangle of a square matrix to the lower one, in tiles that fit a cache."""
    for start in range(0, len(matrix), _TILE):
        tile = slice(start, start + _TILE)
        corner = matrix[tile, tile]
        corner += np.triu(corner, 1).T - np.tril(corner, -1)
        matrix[start + _TILE :, tile] = matrix[tile, start + _TILE :].T


def _distance(real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """Return the distance between checked features."""
    if min(len(real), len(synthetic)) > real.shape[1]:
        return _distance_of_statistics(FeatureStatistics._of(real), FeatureStatistics._of(synthetic))
    (first_mean, first), (second_mean, second) = _mean_and_root(real), _mean_and_root(synthetic)
    return _combine(first_mean, first, second_mean, second)


def _distance_of_statistics(real: FeatureStatistics, synthetic: FeatureStatistics) -> float:
    """Return the distance between checked statistics."""
    value = _distance_by_one_factor(real, synthetic)
    if value is None:
        value = _combine(real.mean, _root_of_covariance(real), synthetic.mean, _root_of_covariance(synthetic))
    return value


def _distance_by_one_factor(real: FeatureStatistics, synthetic: FeatureStatistics) -> float | None:
    """Return the distance in the fastest way; None where a covariance is singular, or too many digits would be lost."""
    if min(real.count, synthetic.count) <= len(real.mean):
        return None
    factor, failed = lapack.dpotrf(real.covariance, lower=1, clean=0, overwrite_a=1)
    if failed:
        return None
    second = synthetic.covariance
    difference = real.mean - synthetic.mean
    rest = float(difference @ difference + np.trace(real.scatter) / (real.count - 1) + np.trace(second))
    product, _ = lapack.dsygst(second, factor, itype=2, lower=1)
    squares = scipy.linalg.eigh(
        product, lower=True, eigvals_only=True, driver="evd", overwrite_a=True, check_finite=False
    )
    return _subtract_root(rest, squares)


def _subtract_root(rest: float, squares: NDArray[np.float64]) -> float | None:
    """Return the distance from the rest of it and the squares of singular values, rising; None if they are too noisy.

    Squares are the fast way to singular values, at the price of the small ones.
    """
    squares = np.maximum(squares, 0)
    singular = np.sqrt(squares)
    value = rest - 2 * float(singular.sum())
    noise = _EIGENVALUE_NOISE * squares[-1]
    if not np.sum(noise / np.maximum(singular, np.sqrt(noise))) <= _TOLERANCE * value:
        return None
    return max(0.0, value)


def _mean_and_root(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and a matrix F ``(r, D)`` with FᵀF = Σ."""
    if len(features) <= features.shape[1]:
        features = features.astype(np.float64, copy=False)
        mean = features.mean(axis=0)
        centred = (features - mean) / np.sqrt(len(features) - 1)
        # These sum to 0. Reflected so that the last one is 0 and left out, they give no singular value that is 0 but
        # for rounding.
        return mean, centred[:-1] - centred[-1] / (np.sqrt(len(features)) + 1)
    statistics = FeatureStatistics._of(features)
    return statistics.mean, _root_of_covariance(statistics)


def _root_of_covariance(statistics: FeatureStatistics) -> NDArray[np.float64]:
    """Return a matrix F ``(r, D)`` with FᵀF = Σ."""
    covariance = statistics.covariance
    rank = min(statistics.count - 1, len(covariance))
    if rank == len(covariance):
        try:
            return np.asarray(scipy.linalg.cholesky(covariance, check_finite=False))
        except scipy.linalg.LinAlgError:  # singular all the same: constant features, or repeated images
            pass
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    # Beyond the rank there is nothing but rounding, of which the square root would be far too large.
    keep = values > values[-1] * len(values) * np.finfo(np.float64).eps
    keep[: len(values) - rank] = False
    return np.asarray(np.sqrt(values[keep])[:, None] * vectors[:, keep].T)


def _combine(
    first_mean: NDArray[np.float64],
    first: NDArray[np.float64],
    second_mean: NDArray[np.float64],
    second: NDArray[np.float64],
) -> float:
    """Return the distance from means ``(D,)`` and roots of covariances ``(r, D)``."""
    difference = first_mean - second_mean
    rest = float(difference @ difference + np.square(first).sum() + np.square(second).sum())
    product = first @ second.T if len(first) <= len(second) else second @ first.T
    if not product.any():  # no variance on one side
        return rest
    value = _subtract_root(rest, np.asarray(np.linalg.eigvalsh(product @ product.T), np.float64))
    if value is None:
        value = rest - 2 * float(scipy.linalg.svdvals(product, overwrite_a=True, check_finite=False).sum())
    return max(0.0, value)
