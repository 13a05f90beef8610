"""The metrics of a fidelity report: what each one is called, which way is better, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError, nearest
from medgan.metrics.functional import (
    density_coverage,
    frechet_distance,
    frechet_distance_infinity,
    inception_score,
    kernel_distance,
    median_distance,
    monge_distance,
    precision_recall,
)
from medgan.metrics.functional.kernel import KernelName

__all__ = [
    "DEFAULT_METRICS",
    "FEATURE_METRICS",
    "IMAGE_METRICS",
    "METRICS",
    "Direction",
    "FeatureMetric",
    "Number",
    "at_scale_of",
    "check_metrics",
]

Direction = Literal["lower", "higher", "as real", "near 0"]
"""Which value is the best, the lowest, the highest, that of real images, or 0."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """One number of a metric.

    Attributes:
        key: Its name in files, such as ``frechet_distance``.
        title: Its name in words, without the extractor.
        known_as: What it is called on features of Inception v3 with the published weights, and there only.
        direction: Which value is the best.
        bounds: The values that it can have.
    """

    key: str
    title: str
    known_as: str
    direction: Direction
    bounds: tuple[float, float] = (0.0, np.inf)


@dataclass(frozen=True)
class FeatureMetric:
    """A metric of two sets of features, or of the scores of one.

    Attributes:
        numbers: What it returns.
        compute: Takes the features of real and synthetic images, ``(N, D)`` and ``(M, D)``, and a seed.
        ratio: Whether a value can be divided by that of real images; not where that is 0 but for noise.
        kernel: The kernel of a kernel distance, which has an interval and a test of its own; None of others.
        bandwidth: That of the kernel, once it is known, see `at_scale_of`.
        of_scores: Whether it takes a classifier's logits of synthetic images alone.
        note: How it was computed, for the report.
    """

    numbers: tuple[Number, ...]
    compute: Callable[[Floats, Floats, int], Sequence[float]]
    ratio: bool = True
    kernel: KernelName | None = None
    bandwidth: float | None = None
    of_scores: bool = False
    note: str = ""


_SHARE = (0.0, 1.0)
_ANY = (-np.inf, np.inf)

FEATURE_METRICS: Mapping[str, FeatureMetric] = {
    "frechet": FeatureMetric(
        (Number("frechet_distance", "Fréchet distance", "FID", "lower"),),
        lambda real, synthetic, _: [frechet_distance(real, synthetic)],
    ),
    "frechet-infinity": FeatureMetric(
        (Number("frechet_distance_infinity", "Fréchet distance, extrapolated", "FID∞", "lower", _ANY),),
        lambda real, synthetic, seed: [frechet_distance_infinity(real, synthetic, seed=seed).value],
        ratio=False,
        note="extrapolated to infinitely many images",
    ),
    "kernel": FeatureMetric(
        (Number("kernel_distance", "kernel distance", "KID", "lower", _ANY),),
        lambda real, synthetic, _: [kernel_distance(real, synthetic)],
        ratio=False,
        kernel="cubic",
        note="cubic kernel, all images, unbiased",
    ),
    "kernel-rbf": FeatureMetric(
        (Number("kernel_distance_rbf", "kernel distance, RBF", "KID, RBF", "lower", _ANY),),
        lambda real, synthetic, _: [kernel_distance(real, synthetic, kernel="rbf")],
        ratio=False,
        kernel="rbf",
        note="RBF kernel, bandwidth the median distance of the real images, all images, unbiased",
    ),
    "monge": FeatureMetric(
        (Number("monge_distance", "Monge distance", "MIND", "lower"),),
        lambda real, synthetic, seed: [monge_distance(real, synthetic, projections=500, seed=seed)],
        note="500 projections",
    ),
    "precision-recall": FeatureMetric(
        (
            Number("precision", "precision", "precision", "higher", _SHARE),
            Number("recall", "recall", "recall", "higher", _SHARE),
        ),
        lambda real, synthetic, _: precision_recall(real, synthetic, k=3),
        note="k = 3",
    ),
    "density-coverage": FeatureMetric(
        (
            Number("density", "density", "density", "as real"),  # above it images crowd in the middle
            Number("coverage", "coverage", "coverage", "higher", _SHARE),
        ),
        lambda real, synthetic, _: density_coverage(real, synthetic, k=5),
        note="k = 5",
    ),
    "inception-score": FeatureMetric(
        (Number("inception_score", "score of classes", "inception score", "higher", (1.0, np.inf)),),
        lambda _, synthetic, seed: [inception_score(synthetic, kind="logits", seed=seed).mean],
        of_scores=True,
        note="10 splits; the floor is the score of real images",
    ),
}
"""Metrics of features, by the name that ``--metrics`` takes."""

IMAGE_METRICS = ("diversity", "nearest-real", "paired")
"""Metrics of the images themselves."""

METRICS = (*FEATURE_METRICS, *IMAGE_METRICS)
"""All metrics."""

DEFAULT_METRICS = (
    *("frechet", "kernel", "monge", "precision-recall", "density-coverage"),
    *("diversity", "nearest-real"),
)
"""What is computed unless told otherwise."""


def at_scale_of(metric: FeatureMetric, real: Floats) -> FeatureMetric:
    """Return a metric that measures all that is compared with some real images with one kernel.

    By itself the kernel ``rbf`` takes its bandwidth from the two sides, and that of two halves of the real images would
    not be that of real and synthetic ones.

    Args:
        metric: The metric; one without a bandwidth is returned as it is.
        real: Features of the real images, ``(N, D)``, whose median distance becomes the bandwidth.
    """
    if metric.kernel != "rbf":
        return metric
    bandwidth = median_distance(real)
    return replace(
        metric,
        bandwidth=bandwidth,
        compute=lambda one, other, _: [kernel_distance(one, other, kernel="rbf", bandwidth=bandwidth)],
    )


def check_metrics(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the metrics of some names, each once; the default ones of None.

    Raises:
        ConfigError: If there is none of a name, or no name.
    """
    if names is None:
        return DEFAULT_METRICS
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"There is no metric {name!r}. {nearest(name, METRICS)}")
    if not names:
        raise ConfigError(f"No metric was asked for. Known: {', '.join(METRICS)}.")
    return tuple(dict.fromkeys(names))
