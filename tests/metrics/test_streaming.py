"""Metrics of features that arrive in parts."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional.frechet import frechet_distance
from medgan.metrics.functional.inception_score import inception_score
from medgan.metrics.functional.kernel import kernel_distance
from medgan.metrics.functional.manifold import density_coverage, precision_recall
from medgan.metrics.functional.wasserstein import monge_distance
from medgan.metrics.streaming import (
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    MongeDistance,
    PrecisionRecall,
    StreamingMetric,
)

Metric = StreamingMetric[Any, Any]

_RNG = np.random.default_rng(0)
REAL, SYNTHETIC = _RNG.standard_normal((50, 5)), _RNG.standard_normal((43, 5)) + 1

CASES: dict[str, tuple[Callable[[], Metric], Any]] = {
    "frechet": (FrechetDistance, frechet_distance(REAL, SYNTHETIC)),
    "kernel": (KernelDistance, kernel_distance(REAL, SYNTHETIC)),
    "rbf": (
        lambda: KernelDistance(kernel="rbf", bandwidth=2.0),
        kernel_distance(REAL, SYNTHETIC, kernel="rbf", bandwidth=2.0),
    ),
    "precision_recall": (lambda: PrecisionRecall(k=4), precision_recall(REAL, SYNTHETIC, k=4)),
    "density_coverage": (lambda: DensityCoverage(k=2), density_coverage(REAL, SYNTHETIC, k=2)),
    "monge": (lambda: MongeDistance(projections=9, seed=4), monge_distance(REAL, SYNTHETIC, projections=9, seed=4)),
}


def _filled(make: Callable[[], Metric], real: slice = slice(None), synthetic: slice = slice(None)) -> Metric:
    metric = make()
    metric.update(real=REAL[real], synthetic=SYNTHETIC[synthetic])
    return metric


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)
def test_batches_give_what_the_function_gives_for_all(make: Callable[[], Metric], expected: Any) -> None:
    metric = make()
    for start in range(0, 50, 7):  # the last one has a single image
        metric.update(real=REAL[start : start + 7])
    for start in range(0, 43, 20):
        metric.update(synthetic=SYNTHETIC[start : start + 20])
    assert metric.compute() == pytest.approx(expected, rel=1e-9)
    assert metric.compute() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)
def test_metrics_of_several_processes_are_merged(make: Callable[[], Metric], expected: Any) -> None:
    first, second = _filled(make, slice(20), slice(30)), _filled(make, slice(20, None), slice(30, None))
    before = second.compute()
    total = make()
    total.merge(first)
    total.merge(pickle.loads(pickle.dumps(second)))
    total.merge(make())  # a process that had no images
    assert total.compute() == pytest.approx(expected, rel=1e-9)
    assert second.compute() == before
    first.update(real=REAL[:9] + 100)
    assert total.compute() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)
def test_a_saved_state_goes_on(make: Callable[[], Metric], expected: Any) -> None:
    state = _filled(make, slice(20), slice(30)).state_dict()
    for side in state.values():
        assert all(isinstance(value, int | np.ndarray) for value in side.values())
    metric = make()
    metric.update(real=REAL[:3])  # forgotten
    metric.load_state_dict(state)
    metric.update(real=REAL[20:], synthetic=SYNTHETIC[30:])
    assert metric.compute() == pytest.approx(expected, rel=1e-9)
    metric.load_state_dict(make().state_dict())
    with pytest.raises(DataError, match="no real features yet"):
        metric.compute()
    metric.update(real=np.zeros((2, 3)))  # the old number of features is forgotten, too


def test_the_inception_score_takes_synthetic_scores_only() -> None:
    metric = InceptionScore(kind="logits", splits=3, seed=1)
    metric.update(synthetic=SYNTHETIC[:10])
    metric.update(synthetic=SYNTHETIC[10:])
    assert metric.compute() == pytest.approx(inception_score(SYNTHETIC, kind="logits", splits=3, seed=1), rel=1e-12)
    with pytest.raises(ConfigError, match=r"given real features. Type update\(synthetic=features\)"):
        metric.update(real=REAL)


def test_the_frechet_distance_takes_the_same_memory_for_any_number_of_images() -> None:
    metric = FrechetDistance()
    for _ in range(3):
        metric.update(real=REAL, synthetic=SYNTHETIC)
    assert sorted(np.size(value) for value in metric.state_dict()["real"].values()) == [1, 5, 25]


def test_the_frechet_distance_of_fewer_images_than_features() -> None:
    rng = np.random.default_rng(1)
    real, synthetic = rng.standard_normal((30, 100)), rng.standard_normal((25, 100)) + 0.5
    metric = FrechetDistance()
    for start in range(0, 30, 4):
        metric.update(real=real[start : start + 4])
    metric.update(synthetic=synthetic)
    assert metric.compute() == pytest.approx(frechet_distance(real, synthetic), rel=1e-9)


def test_an_array_that_is_used_again_changes_nothing() -> None:
    metric, buffer = PrecisionRecall(), REAL.copy()
    metric.update(real=buffer, synthetic=SYNTHETIC)
    buffer[:] = 0
    assert metric.compute() == precision_recall(REAL, SYNTHETIC)


def test_features_are_kept_in_the_type_in_which_they_come() -> None:
    metric = KernelDistance()
    metric.update(real=REAL.astype(np.float32))
    assert metric.state_dict()["real"]["features"].dtype == np.float32


@pytest.mark.parametrize("make", [FrechetDistance, PrecisionRecall])
def test_bad_features_are_refused_and_leave_no_trace(make: Callable[[], Metric]) -> None:
    metric = _filled(make)
    before = metric.compute()
    with pytest.raises(DataError, match="first in row 2"):
        metric.update(real=REAL, synthetic=np.array([[0.0] * 5, [1.0] * 5, [np.nan] * 5]))
    with pytest.raises(DataError, match="Features of 4 and 5 numbers an image"):
        metric.update(real=REAL[:, :4])
    with pytest.raises(DataError, match="There are 0 real images"):
        metric.update(real=REAL[:0])
    with pytest.raises(DataError, match="Features of 3 and 5 numbers an image"):
        make().update(real=REAL, synthetic=SYNTHETIC[:, :3])
    with pytest.raises(ConfigError, match="was given no features"):
        metric.update()
    assert metric.compute() == before


def test_too_few_features_are_told_when_they_are_needed() -> None:
    metric = FrechetDistance()
    with pytest.raises(DataError, match="no real features yet"):
        metric.compute()
    metric.update(real=REAL)
    with pytest.raises(DataError, match="no synthetic features yet"):
        metric.compute()
    metric.update(synthetic=SYNTHETIC[:1])
    with pytest.raises(DataError, match="1 synthetic image"):
        metric.compute()


def test_what_is_not_alike_is_not_merged() -> None:
    with pytest.raises(ConfigError, match=r"PrecisionRecall with {'k': 3} cannot be merged into FrechetDistance"):
        FrechetDistance().merge(PrecisionRecall())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"{'k': 4} cannot be merged into PrecisionRecall with {'k': 3}"):
        PrecisionRecall().merge(PrecisionRecall(k=4))
    narrow = FrechetDistance()
    narrow.update(real=REAL[:, :2])
    with pytest.raises(DataError, match="Features of 2 and 5"):
        _filled(FrechetDistance).merge(narrow)


def test_a_state_of_something_else_is_refused() -> None:
    metric = _filled(FrechetDistance)
    before = metric.compute()
    wide = FrechetDistance()
    wide.update(real=np.eye(7))
    for state in (
        _filled(PrecisionRecall).state_dict(),
        {"real": None},
        {"real": {"count": 3, "mean": 1.0, "scatter": 2.0}},
        {"left": metric.state_dict()["real"]},
        {**wide.state_dict(), "synthetic": metric.state_dict()["synthetic"]},
    ):
        with pytest.raises(DataError, match="no state of a FrechetDistance"):
            metric.load_state_dict(state)
    damaged = metric.state_dict()["real"] | {"mean": np.full(5, np.nan)}
    with pytest.raises(DataError, match="NaN or infinite"):
        metric.load_state_dict({"real": damaged})
    assert metric.compute() == before
