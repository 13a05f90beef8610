"""Numbers of a reader study: many readers, the same cases, and intervals that hold for other readers and other cases.

**The mean over readers** has the variance of Obuchowski and Rockette (1995, doi:10.1080/03610919508813243), for one
modality. With ``J`` readers, each with a figure of merit ``θ_j`` on the same cases::

    MS(R) = Σ_j (θ_j − θ̄)² / (J − 1)                    between readers
    Cov₂  = mean over j ≠ k of Cov(θ_j, θ_k)              of two readers, over cases; 0 if it is negative
    Var   = (MS(R) + J · Cov₂) / J                        of θ̄
    interval = θ̄ ± q · √Var,   q = (MS(R) · t + J · Cov₂ · z) / (MS(R) + J · Cov₂)

``q`` lies between the quantile t with J − 1 degrees of freedom and the normal one, by their shares of the variance
(Cochran 1964, Biometrics 20:191), as in `medgan.evaluation.intervals`. The usual way is a quantile t_ν with the degrees
of freedom of Hillis (2007, doi:10.1002/sim.2532), ν = (MS(R) + J · Cov₂)² / (MS(R)² / (J − 1)); it is given beside, for
those who compare. With few readers that one is too narrow. In simulations of 3 and 4 readers (50 real and 50 synthetic
images, areas of 0.5 and 0.7, readers alike and different, sharing their errors and not; 800 studies each) its nominal
95 % were 91.6 to 95.3 %, and those of ``q`` 93.9 to 97.8 %. A small version of the simulation is among the tests.

Covariances over cases are those of DeLong et al. (1988, doi:10.2307/2531595) for areas under the curve, those of means
for shares, and a jackknife over cases for d′ and bias. One reader has no ``MS(R)``: nothing can be said then about
other readers.

**Equivalence** is shown by two one-sided tests (Schuirmann 1987, doi:10.1007/BF01068419) on the same distribution. That
a difference is not significant shows no equivalence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from medgan.errors import DataError

__all__ = [
    "Agreement",
    "Equivalence",
    "Pooled",
    "area_interval",
    "area_under_curve",
    "equivalence",
    "equivalence_power",
    "fleiss_kappa",
    "intraclass_correlation",
    "mean_of_cases",
    "pool_readers",
    "sensitivity_and_bias",
    "share_interval",
    "weighted_kappa",
]

Values = NDArray[np.float64]

_LEVEL = 0.95
_ROUNDING = 1e-24  # a variance
_LEAST_TAILS = 1e-30


@dataclass(frozen=True)
class Pooled:
    """A mean over readers.

    Attributes:
        value: The mean.
        low: Lower bound of the 95 % interval for other readers and other cases; NaN if there is none.
        high: Upper bound.
        between: MS(R), the variance between readers.
        together: J · Cov₂, what they share.
        readers: How many, J.
    """

    value: float
    low: float
    high: float
    between: float
    together: float
    readers: int

    @property
    def error(self) -> float:
        """Standard error; NaN if nothing varies, or there is one reader."""
        return math.sqrt((self.between + self.together) / self.readers)

    @property
    def freedom(self) -> float:
        """Degrees of freedom after Hillis; infinite if readers do not vary."""
        if self.between <= _ROUNDING:
            return math.inf
        return (self.between + self.together) ** 2 / (self.between**2 / (self.readers - 1))

    def quantile(self, tails: float) -> float:
        """Return how many standard errors leave out the two tails."""
        of_readers = self.between * special.stdtrit(self.readers - 1, tails / 2)
        return float(-(of_readers + self.together * special.ndtri(tails / 2)) / (self.between + self.together))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of a level, such as 0.9; bounds do not cut it."""
        reach = self.quantile(1 - level) * self.error
        return self.value - reach, self.value + reach

    def hillis_interval(self) -> tuple[float, float]:
        """Return the 95 % interval with the degrees of freedom of Hillis; NaN if there is none."""
        if math.isnan(self.error):
            return math.nan, math.nan
        reach = float(stats.t.ppf((1 + _LEVEL) / 2, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    def p_value(self, null: float) -> float:
        """Return the two-sided p-value of a true mean of `null`; NaN where there is no standard error."""
        if math.isnan(self.error):
            return math.nan
        errors = abs(self.value - null) / self.error
        if errors == 0 or self.quantile(_LEAST_TAILS) < errors:
            return 0.0 if errors else 1.0
        # The tails that so many standard errors leave out, by bisection of their logarithm.
        least = math.log(_LEAST_TAILS)
        return math.exp(optimize.brentq(lambda place: self.quantile(math.exp(place)) - errors, least, 0.0, xtol=1e-10))


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests.

    Attributes:
        margin: Distance from the reference that would still be called equivalent.
        low: Lower bound of the 90 % interval; it is equivalent at 5 % if the interval lies within the margin.
        high: Upper bound.
        p_value: The larger of the two p-values; NaN where there is no standard error.
    """

    margin: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


# ----------------------------------------------------------------------------- over readers and cases


def pool_readers(values: ArrayLike, covariance: ArrayLike, *, bounds: tuple[float, float] | None = None) -> Pooled:
    """Return the mean over readers with an interval for other readers and other cases; see the module.

    Args:
        values: ``(J,)``, a figure of merit of each reader, on the same cases.
        covariance: ``(J, J)``, their covariance over cases.
        bounds: Least and largest value there can be, at which the interval is cut.

    Raises:
        DataError: If the shapes do not fit, or there is no reader.

    Example:
        >>> pooled = pool_readers([0.5, 0.6, 0.55], [[4e-3, 1e-3, 1e-3], [1e-3, 4e-3, 1e-3], [1e-3, 1e-3, 4e-3]])
        >>> round(pooled.value, 3), round(pooled.error, 4), round(pooled.freedom, 1)
        (0.55, 0.0428, 9.7)
    """
    theta, shared = np.asarray(values, np.float64), np.asarray(covariance, np.float64)
    count = len(theta)
    if theta.ndim != 1 or not count or shared.shape != (count, count):
        raise DataError(f"Readers' values have the shape {theta.shape} and covariances {shared.shape}.")
    mean = float(theta.mean())
    between = float(theta.var(ddof=1)) if count > 1 else math.nan
    together = max(0.0, float((shared.sum() - np.trace(shared)) / (count - 1))) if count > 1 else math.nan
    if count < 2 or between + together <= _ROUNDING:
        return Pooled(mean, math.nan, math.nan, math.nan, math.nan, count)
    pooled = Pooled(mean, math.nan, math.nan, between, together, count)
    low, high = pooled.interval(_LEVEL)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return replace(pooled, low=low, high=high)


def equivalence(pooled: Pooled, reference: float, *, margin: float) -> Equivalence:
    """Test whether a mean is within a margin of a reference.

    Args:
        pooled: The mean over readers.
        reference: For example 0.5, an area by guessing.
        margin: Above 0, said before the study.

    Raises:
        DataError: If the margin is not above 0.
    """
    if not 0 < margin < math.inf:
        raise DataError(f"The margin of equivalence is {margin:g}, expected above 0, for example 0.05.")
    if math.isnan(pooled.error):
        return Equivalence(margin, math.nan, math.nan, math.nan)
    low, high = pooled.interval(0.9)
    nearer = min(pooled.value - (reference - margin), reference + margin - pooled.value)
    tail = pooled.p_value(pooled.value - nearer) / 2
    return Equivalence(margin, low, high, tail if nearer > 0 else 1 - tail)


def equivalence_power(*, readers: int, real: int, synthetic: int, margin: float) -> float:
    """Return the chance of showing equivalence if all readers purely guess, each for themselves: the best case.

    Args:
        readers: How many.
        real: Real images that each reads; of pairs, how many pairs.
        synthetic: Synthetic ones; 0 for pairs.
        margin: Of the area under the curve, or of the share of pairs, around 0.5.

    Returns:
        From 0 to 1; 0 for one reader.
    """
    if readers < 2:
        return 0.0
    variance = (real + synthetic + 1) / (12 * real * synthetic) if synthetic else 0.25 / real
    # Under guessing the standard error is estimated from the readers alone, with J - 1 degrees of freedom.
    freedom = readers - 1
    errors = np.sqrt(variance / readers * stats.chi2.ppf((np.arange(400) + 0.5) / 400, freedom) / freedom)
    room = (margin - stats.t.ppf(0.95, freedom) * errors) / math.sqrt(variance / readers)
    return float(np.mean(np.where(room > 0, 2 * stats.norm.cdf(room) - 1, 0.0)))


# --------------------------------------------------------------------------------- figures of merit


def area_under_curve(real: ArrayLike, synthetic: ArrayLike) -> tuple[Values, Values]:
    """Return each reader's area under the empirical ROC curve, with the covariances of DeLong.

    Args:
        real: ``(J, m)``, ratings of the real images, higher for synthetic.
        synthetic: ``(J, n)``, ratings of the synthetic ones.

    Returns:
        ``(J,)`` and ``(J, J)``; the area is the chance that a synthetic image is rated above a real one, ties half.

    Raises:
        DataError: Unless there are at least two images of each kind.
    """
    low, high = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    if low.ndim != 2 or high.ndim != 2 or len(low) != len(high) or min(low.shape[1], high.shape[1]) < 2:
        raise DataError(f"Ratings of real images have the shape {low.shape}, of synthetic ones {high.shape}.")
    of_synthetic, of_real = np.empty(high.shape), np.empty(low.shape)
    for place in range(len(low)):
        above = np.sign(high[place][:, None] - low[place]) / 2 + 0.5  # (n, m)
        of_synthetic[place], of_real[place] = above.mean(axis=1), above.mean(axis=0)
    covariance = np.atleast_2d(np.cov(of_synthetic)) / high.shape[1] + np.atleast_2d(np.cov(of_real)) / low.shape[1]
    return of_synthetic.mean(axis=1), covariance


def area_interval(area: float, variance: float) -> tuple[float, float]:
    """Return the 95 % interval of one reader's area, for other cases; made on the logit, so that it stays inside.

    Args:
        area: The area.
        variance: Its variance over cases.

    Returns:
        Bounds; NaN where nothing varies, as for a reader without a mistake.
    """
    if variance <= _ROUNDING or not 0 < area < 1:
        return math.nan, math.nan
    place = math.log(area / (1 - area))
    reach = float(stats.norm.ppf((1 + _LEVEL) / 2)) * math.sqrt(variance) / (area * (1 - area))
    return 1 / (1 + math.exp(-(place - reach))), 1 / (1 + math.exp(-(place + reach)))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    found = stats.binomtest(count, total).proportion_ci(_LEVEL)
    return float(found.low), float(found.high)


def mean_of_cases(values: ArrayLike) -> tuple[Values, Values]:
    """Return each reader's mean over cases, with covariances: of correct pairs, or of realism.

    Args:
        values: ``(J, N)``.

    Raises:
        DataError: If there are fewer than two cases.
    """
    given = np.asarray(values, np.float64)
    if given.ndim != 2 or given.shape[1] < 2:
        raise DataError(f"Values of cases have the shape {given.shape}, expected (readers, at least 2 cases).")
    return given.mean(axis=1), np.atleast_2d(np.cov(given)) / given.shape[1]


def sensitivity_and_bias(
    said: ArrayLike, signal: ArrayLike, *, forced_choice: bool = False
) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
    """Return each reader's d′ and bias, with the covariances of a jackknife over cases.

    Shares are corrected log-linearly, (x + ½) / (n + 1), so that none is 0 or 1 (Hautus 1995, doi:10.3758/BF03203619).

    Args:
        said: ``(J, N)``, 1 where the reader said yes (synthetic; or left), 0 for no, ½ for unsure.
        signal: ``(N,)`` or ``(J, N)``, whether it was so.
        forced_choice: Two alternatives: d′ is divided by √2 (Macmillan and Creelman 2005, chapter 7).

    Returns:
        d′ and its covariances, ``(J,)`` and ``(J, J)``; then those of the bias c = −(z(hits) + z(false alarms)) / 2:
        above 0 for a reader who says no too often.

    Raises:
        DataError: If a reader has no case with, or none without the signal.
    """
    yes = np.asarray(said, np.float64)
    truth = np.broadcast_to(np.asarray(signal, bool), yes.shape)
    number = yes.shape[1]
    signals = truth.sum(axis=1)
    if yes.ndim != 2 or signals.min() < 1 or signals.max() >= number:
        raise DataError("d′ needs cases with and cases without the signal.")

    def scores(hits: Values, alarms: Values, with_signal: Values, cases: int) -> Values:
        z_hits = stats.norm.ppf((hits + 0.5) / (with_signal + 1))
        z_alarms = stats.norm.ppf((alarms + 0.5) / (cases - with_signal + 1))
        scale = math.sqrt(2) if forced_choice else 1
        return np.stack([(z_hits - z_alarms) / scale, -(z_hits + z_alarms) / 2])

    hits, alarms = np.where(truth, yes, 0), np.where(truth, 0, yes)
    both = scores(hits.sum(axis=1), alarms.sum(axis=1), signals, number)
    left_out = scores(
        hits.sum(axis=1, keepdims=True) - hits,
        alarms.sum(axis=1, keepdims=True) - alarms,
        signals[:, None] - truth,
        number - 1,
    )  # (2, J, N)
    centred = left_out - left_out.mean(axis=2, keepdims=True)
    covariance = np.einsum("ajn,akn->ajk", centred, centred) * (number - 1) / number
    return (both[0], covariance[0]), (both[1], covariance[1])


# --------------------------------------------------------------------------------------- agreement


def fleiss_kappa(answers: ArrayLike, *, replicates: int = 2000, seed: int = 0) -> Agreement:
    """Return the agreement of readers on categories beyond chance (Fleiss 1971, doi:10.1037/h0031619).

    Args:
        answers: ``(J, N)`` category of each case, by each reader; any whole numbers.
        replicates: Of a bootstrap over cases, from which the interval is; readers stay the same.
        seed: Of the bootstrap.

    Returns:
        The coefficient; NaN if all said the same of all.
    """
    given = np.asarray(answers)
    readers, number = given.shape
    categories = np.unique(given)
    counts = (given[:, :, None] == categories).sum(axis=0).astype(np.float64)  # (N, categories)
    if readers < 2 or len(categories) < 2:
        return Agreement(math.nan, math.nan, math.nan)
    agreement = ((counts**2).sum(axis=1) - readers) / (readers * (readers - 1))
    weights = _draws(number, replicates, seed)

    def kappa(weight: Values) -> Values:
        shares = weight @ counts / (number * readers)
        by_chance = (shares**2).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weight @ agreement / number - by_chance) / (1 - by_chance))

    return _agreement(kappa(np.ones(number)), kappa(weights))


def weighted_kappa(first: ArrayLike, second: ArrayLike, *, replicates: int = 2000, seed: int = 0) -> Agreement:
    """Return the agreement of two ratings of the same cases, with quadratic weights (Cohen 1968, doi:10.1037/h0026256).

    Args:
        first: ``(J, N)``, the first ratings of all readers.
        second: ``(J, N)``, the second ones. All readers are taken together.
        replicates: Of a bootstrap over cases, from which the interval is.
        seed: Of the bootstrap.

    Returns:
        The coefficient; NaN if there is one rating only.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    number = a.shape[1]

    def kappa(weight: Values) -> Values:
        total = number * len(a)
        mean_a, mean_b = weight @ a.sum(axis=0) / total, weight @ b.sum(axis=0) / total
        spread = (weight @ (a**2).sum(axis=0) + weight @ (b**2).sum(axis=0)) / total - 2 * mean_a * mean_b
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 - weight @ ((a - b) ** 2).sum(axis=0) / total / np.where(spread > 1e-12, spread, 0))

    return _agreement(kappa(np.ones(number)), kappa(_draws(number, replicates, seed)))


def intraclass_correlation(ratings: ArrayLike) -> tuple[Agreement, Agreement]:
    """Return ICC(2,1) and ICC(2,k): absolute agreement of random readers, of one and of the mean of all.

    After Shrout and Fleiss (1979, doi:10.1037/0033-2909.86.2.420), intervals after McGraw and Wong (1996,
    doi:10.1037/1082-989X.1.1.30).

    Args:
        ratings: ``(J, N)``.

    Returns:
        Both; NaN if cases do not differ at all, or there are fewer than two readers or cases.
    """
    given = np.asarray(ratings, np.float64).T
    cases, readers = given.shape
    nothing = Agreement(math.nan, math.nan, math.nan)
    if cases < 2 or readers < 2:
        return nothing, nothing
    grand = given.mean()
    rows = readers * ((given.mean(axis=1) - grand) ** 2).sum() / (cases - 1)
    columns = cases * ((given.mean(axis=0) - grand) ** 2).sum() / (readers - 1)
    residual = given - given.mean(axis=1, keepdims=True) - given.mean(axis=0) + grand
    error = (residual**2).sum() / ((cases - 1) * (readers - 1))
    whole = rows + (readers - 1) * error + readers * (columns - error) / cases
    if rows <= _ROUNDING or error <= _ROUNDING or whole <= _ROUNDING:
        return nothing, nothing
    single = float((rows - error) / whole)
    a = readers * single / (cases * (1 - single))
    b = 1 + readers * single * (cases - 1) / (cases * (1 - single))
    freedom = (a * columns + b * error) ** 2 / (
        (a * columns) ** 2 / (readers - 1) + (b * error) ** 2 / ((cases - 1) * (readers - 1))
    )
    upper, lower = stats.f.ppf(0.975, cases - 1, freedom), stats.f.ppf(0.975, freedom, cases - 1)
    rest = readers * columns + (readers * cases - readers - cases) * error
    low = float(cases * (rows - upper * error) / (upper * rest + cases * rows))
    high = float(cases * (lower * rows - error) / (rest + cases * lower * rows))

    def of_mean(value: float) -> float:
        below = 1 + (readers - 1) * value
        return readers * value / below if below > 0 else math.nan

    mean = float((rows - error) / (rows + (columns - error) / cases))
    return Agreement(single, low, high), Agreement(mean, of_mean(low), of_mean(high))


def _draws(number: int, replicates: int, seed: int) -> Values:
    """Return how often each case is drawn, ``(replicates, number)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(number, np.full(number, 1 / number), size=replicates).astype(np.float64)


def _agreement(value: Any, replicates: Values) -> Agreement:
    """Return a coefficient with the percentiles of its replicates; those without a value are left out."""
    known = replicates[np.isfinite(replicates)]
    if not math.isfinite(float(value)):
        return Agreement(math.nan, math.nan, math.nan)
    # Where most replicates have no value, percentiles of the rest mean nothing.
    if len(known) < 0.9 * len(replicates) or float(np.ptp(known)) == 0:
        return Agreement(float(value), math.nan, math.nan)
    low, high = np.percentile(known, [2.5, 97.5])
    return Agreement(float(value), float(low), float(high))
