"""How many synthetic images lie nearer to a training image than images of new patients do?

Images of one kind are alike, so that a synthetic image always has a training image near it. How near is near is told
by **held-out patients**: the distances of their images to the *same* training images are what a generator that draws
new patients would show. The ratio of the numbers of training and held-out patients does not matter then. To search the
held-out images and to compare with the training images, as is also done, flags more and more honest images as the
training set grows.

With one image of each of n held-out patients, exchangeable with the images of an honest generator, the chance that
such an image is nearer than the k-th of them is k / (n + 1) (V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning
in a Random World", 2005, doi:10.1007/b106715). k is the largest number for which that is at most the level asked for.
Where the synthetic images are of other classes than the held-out ones, these are weighted to the same shares, and the
image that is compared has a weight, too. The chance that it is nearer than a held-out image is then ``(v + w) / (W +
w)``, with W the weight of all held-out images, v that of the nearer ones, and w its own (R. J. Tibshirani et al., 2019,
arXiv:1904.06019). w depends on its class, and there is one threshold for all: w is taken to be the largest weight that
there is, with which the chance is at most that. Held-out images of weight 0 count for nothing.

The **excess copy rate** is what is above that, ``(rate - level) / (1 - level)``: the share of images that are copies,
if all copies are flagged. Its interval holds the chance of both sides: the share of honest images that the threshold
flags is drawn by a Bayesian bootstrap over the held-out patients (D. B. Rubin, 1981, doi:10.1214/aos/1176345338), that
of the flagged synthetic images by Clopper and Pearson's distributions (1934, doi:10.1093/biomet/26.4.404). Without
weights the interval's lower end is above 0 just when the exact test of precedence rejects (J. I. Rosenbaum, 1954,
doi:10.1214/aoms/1177728846), whose p-value it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import ConfigError, DataError
from medgan.evaluation.fidelity.replicates import clopper_pearson

__all__ = ["CONFIDENCE", "CopyRate", "class_weights", "effective_number", "fewest_patients", "measure_copies"]

CONFIDENCE = 0.95
"""Of every interval; two-sided."""

_DRAWS = 10_000
_BLOCK_VALUES = 2**22

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CopyRate:
    """What `measure_copies` found.

    Attributes:
        level: Share of an honest generator's images that is flagged.
        threshold: Distance below which an image is flagged.
        images: Synthetic images.
        flagged: Those below the threshold.
        rate: Their share.
        rate_low: Lower bound of its interval (Clopper and Pearson).
        rate_high: Upper bound.
        excess: Excess copy rate; below 0 by chance, or because synthetic images are unlike real ones.
        low: Lower bound of its interval.
        high: Upper bound.
        p_value: Of the hypothesis that synthetic images are no nearer than those of new patients; one-sided.
        patients: Held-out patients, one image each; their effective number where they are weighted.
    """

    level: float
    threshold: float
    images: int
    flagged: int
    rate: float
    rate_low: float
    rate_high: float
    excess: float
    low: float
    high: float
    p_value: float
    patients: float


def fewest_patients(level: float) -> int:
    """Return how many held-out patients a level needs: with fewer, not even the nearest image is rare enough.

    Args:
        level: Share of honest images that may be flagged, above 0 and at most 0.5.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> fewest_patients(0.01)
        99
    """
    if not 0 < level <= 0.5:
        raise ConfigError(f"The level is {level:g}, expected a share above 0 and up to 0.5; 0.01 is usual.")
    return math.ceil(1 / level - 1e-9) - 1


def class_weights(held_out: ArrayLike, synthetic: ArrayLike) -> Floats:
    """Return weights with which held-out images have the classes' shares of the synthetic ones.

    Args:
        held_out: Class of each held-out image, ``(n,)``.
        synthetic: Class of each synthetic image, ``(m,)``.

    Returns:
        ``(n,)``, with mean 1.

    Raises:
        DataError: If there are synthetic images of a class of which there is no held-out one.
    """
    ours, theirs = np.asarray(held_out), np.asarray(synthetic)
    weights = np.zeros(len(ours))
    for name in np.unique(theirs):
        inside = ours == name
        if not inside.any():
            raise DataError(
                f"There are synthetic images of the class {name} and no held-out patient of it to compare them with. "
                "Hold patients of every class out, or leave these images out."
            )
        weights[inside] = np.mean(theirs == name) / inside.mean()
    return weights


def effective_number(weights: ArrayLike) -> float:
    """Return how many images of equal weight tell as much (L. Kish, "Survey Sampling", 1965); 0 if none has a weight.

    Args:
        weights: Shape ``(n,)``, none below 0.
    """
    found = np.asarray(weights, np.float64)
    return float(found.sum() ** 2 / np.square(found).sum()) if found.any() else 0.0


def measure_copies(
    synthetic: ArrayLike, held_out: ArrayLike, *, level: float = 0.01, weights: ArrayLike | None = None, seed: int = 0
) -> CopyRate:
    """Compare distances of synthetic images to training images with those of held-out patients.

    Args:
        synthetic: Distance of each synthetic image to its nearest training image, ``(m,)``.
        held_out: The same of held-out images, ``(n,)``, one of each patient.
        level: Share of honest images that may be flagged.
        weights: Of the held-out images, see `class_weights`; None for equal ones.
        seed: Of the draws behind the interval.

    Returns:
        The rate and what it takes to judge it.

    Raises:
        ConfigError: If the level is no share.
        DataError: If there are too few patients for it, no synthetic image, or distances that are not finite.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> copies = measure_copies(rng.uniform(0.5, 1, 1000), rng.uniform(0.5, 1, 199))
        >>> copies.level, copies.patients
        (0.01, 199.0)
    """
    ours, null = np.asarray(synthetic, np.float64), np.asarray(held_out, np.float64)
    if not len(ours) or not (np.isfinite(ours).all() and np.isfinite(null).all()):
        raise DataError(f"Finite distances of at least one synthetic image are needed, got {len(ours)}.")
    least = fewest_patients(level)
    relative = np.ones(len(null)) if weights is None else np.asarray(weights, np.float64)
    total = len(null)
    null, relative = null[relative > 0], relative[relative > 0]
    patients = effective_number(relative)
    if patients < least - 1e-9:
        raise DataError(
            f"A level of {level:g} needs {least} held-out patients, and there are {patients:,.0f}"
            f"{'' if weights is None else f' (in effect; {total} of other classes than the synthetic images)'}. "
            f"Give more, or a higher level: {_affordable(patients)}"
        )
    order = np.argsort(null, kind="stable")
    scaled = relative[order] * (patients / relative.sum())
    own = float(scaled.max())  # of the image that is compared: with equal weights 1, as that of any
    below = own + np.cumsum(scaled) - scaled
    allowed = level * (patients + own) + 1e-9
    chosen = int(np.searchsorted(below, allowed, side="right")) - 1
    if chosen < 0:  # the image that is compared weighs more than the level allows
        raise DataError(
            f"The weights of the held-out images are too unequal for a level of {level:g}: there are too few patients "
            f"of a class that the synthetic images are of. Give more of them, or a higher level."
        )
    threshold, attained = float(null[order[chosen]]), float(below[chosen] / (patients + own))
    flagged = int((ours < threshold).sum())
    rng = np.random.default_rng([seed, 29])
    honest = _draw_honest(np.append(own, scaled), chosen, rng)
    m = len(ours)
    least_rate = rng.beta(flagged, m - flagged + 1, _DRAWS) if flagged else np.zeros(_DRAWS)
    most_rate = rng.beta(flagged + 1, m - flagged, _DRAWS) if flagged < m else np.ones(_DRAWS)
    tail = (1 - CONFIDENCE) / 2
    rate = flagged / m
    rate_low, rate_high = clopper_pearson(flagged, m)
    return CopyRate(
        level=attained,
        threshold=threshold,
        images=m,
        flagged=flagged,
        rate=rate,
        rate_low=rate_low,
        rate_high=rate_high,
        excess=(rate - attained) / (1 - attained),
        low=float(np.quantile((least_rate - honest) / (1 - honest), tail)),
        high=float(np.quantile((most_rate - honest) / (1 - honest), 1 - tail)),
        p_value=float((1 + np.count_nonzero(least_rate <= honest)) / (1 + _DRAWS)),
        patients=patients,
    )


def _draw_honest(weights: Floats, last: int, rng: np.random.Generator) -> Floats:
    """Draw the share of honest images that lies below an ordered image: the patients' weights are random.

    Args:
        weights: Of whoever is compared, and of the ordered held-out images.
        last: The image, counted from 0.
        rng: Decides.
    """
    step = max(1, _BLOCK_VALUES // len(weights))
    found = []
    for start in range(0, _DRAWS, step):
        drawn = rng.standard_exponential((min(step, _DRAWS - start), len(weights))) * weights
        found.append(drawn[:, : last + 1].sum(axis=1) / drawn.sum(axis=1))
    return np.concatenate(found)


def _affordable(patients: float) -> str:
    """Say which level so many patients allow."""
    if patients < 1:
        return "there is none that so few allow."
    level = math.ceil(1000 / (patients + 1)) / 1000
    return f"--level {level:g}." if level <= 0.5 else "there is none that so few allow."
