"""Curves with their bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from medgan.core.spec import LabelSpec
from medgan.evaluation.curves import curves_with_bands
from medgan.evaluation.intervals import interval_of_mean, patient_draws
from medgan.evaluation.scores import ProblemKind, sensitivity_at_false_positive_rate

Array = NDArray[Any]


def _classes(count: int, seeds: int = 3, images: int = 90) -> tuple[Array, list[Array], Array]:
    rng = np.random.default_rng(count)
    truth = rng.integers(0, count, images)
    probabilities = []
    for _ in range(seeds):
        powers = np.exp(1.2 * np.eye(count)[truth] + rng.standard_normal((images, count)))
        probabilities.append(powers / powers.sum(axis=1, keepdims=True))
    return truth, probabilities, patient_draws(np.arange(images), replicates=60, seed=0)


def test_a_binary_curve_is_that_of_the_positive_class() -> None:
    truth, probabilities, weights = _classes(2)
    curves = curves_with_bands(truth, probabilities, spec=LabelSpec(("healthy", "ill")), kind="binary", weights=weights)
    assert {name: [entry["class"] for entry in entries] for name, entries in curves.items()} == {
        "roc": ["ill"],
        "precision_recall": ["ill"],
        "calibration": ["ill"],
    }
    (roc,) = curves["roc"]
    rates = np.linspace(0, 1, 101)
    own = [metrics.roc_curve(truth, p[:, 1], drop_intermediate=False)[:2] for p in probabilities]
    means = [np.mean([hits[alarms <= rate + 1e-12][-1] for alarms, hits in own]) for rate in (0.0, 1.0)]
    assert [roc["sensitivity"][0], roc["sensitivity"][-1]] == pytest.approx(means)
    values = np.concatenate([sensitivity_at_false_positive_rate(truth, p[:, 1], rates=rates) for p in probabilities])
    drawn = np.stack(
        [sensitivity_at_false_positive_rate(truth, p[:, 1], rates=rates, weights=weights) for p in probabilities]
    )
    interval = interval_of_mean(values, drawn)
    np.testing.assert_allclose(roc["sensitivity"], values.mean(axis=0))
    still = np.isnan(interval.low)  # where nothing varies, such as at the upper end
    assert still[-1]
    assert not still[1:50].any()
    for name, bound in (("low", interval.low), ("high", interval.high)):
        np.testing.assert_allclose(roc[name], np.where(still, interval.value, np.clip(bound, 0, 1)))


def test_calibration_points_are_of_bins_with_images() -> None:
    truth, probabilities, weights = _classes(2, seeds=1)
    probabilities = [np.stack([1 - p, p], axis=1) for p in [0.2 + 0.1 * q[:, 1] for q in probabilities]]
    (entry,) = curves_with_bands(truth, probabilities, spec=LabelSpec(("no", "yes")), kind="binary", weights=weights)[
        "calibration"
    ]
    assert ((entry["predicted"] >= 0.2) & (entry["predicted"] <= 0.3)).all()
    assert entry["images"].sum() == pytest.approx(len(truth))
    assert (entry["low"] <= entry["observed"]).all()
    assert (entry["high"] >= entry["observed"]).all()
    assert (entry["observed"] * entry["images"]).sum() == pytest.approx(truth.sum())
    assert (entry["predicted"] * entry["images"]).sum() == pytest.approx(probabilities[0][:, 1].sum())


@pytest.mark.parametrize(("kind", "count"), [("multiclass", 3), ("multilabel", 2)])
def test_several_classes_have_their_mean_first(kind: ProblemKind, count: int) -> None:
    truth, probabilities, weights = _classes(count)
    labels: Array = truth
    if kind == "multilabel":
        labels = np.eye(count)[truth]
        labels[:20, 0] = np.nan
    names = tuple("abc"[:count])
    spec = LabelSpec(names, "multilabel" if kind == "multilabel" else "categorical")
    curves = curves_with_bands(labels, probabilities, spec=spec, kind=kind, weights=weights)
    for name, height in (("roc", "sensitivity"), ("precision_recall", "precision")):
        assert [entry["class"] for entry in curves[name]] == [None, *names]
        mean = np.mean([entry[height] for entry in curves[name][1:]], axis=0)
        np.testing.assert_allclose(curves[name][0][height], mean)
    assert [entry["class"] for entry in curves["calibration"]] == list(names)
    if kind == "multilabel":
        assert curves["calibration"][0]["images"].sum() == pytest.approx(len(truth) - 20)
