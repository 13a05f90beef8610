"""Scores of classifiers, against scikit-learn and against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from medgan.core.spec import LabelSpec
from medgan.errors import ConfigError, DataError
from medgan.evaluation import scores as module
from medgan.evaluation.scores import (
    BINS,
    CLIP,
    SCORES,
    area_under_roc,
    average_precision,
    brier_score,
    calibration_bins,
    calibration_error,
    calibration_slope,
    choose_threshold,
    choose_thresholds,
    confusion_matrices,
    mean_where_defined,
    precision_at_recall,
    predict,
    problem_kind,
    score_table,
    sensitivity_at_false_positive_rate,
)

Array = NDArray[Any]


def _binary(images: int = 80, decimals: int | None = 1, seed: int = 0) -> tuple[Array, Array]:
    """Truth, and probabilities with many ties."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(images) < 0.4).astype(np.int64)
    values = 1 / (1 + np.exp(-(rng.standard_normal(images) + 1.2 * truth - 0.5)))
    return truth, values if decimals is None else values.round(decimals)


def _weights(images: int, seed: int = 1) -> Array:
    """Ones, draws with replacement, fractions, and zeros in places."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=3)
    fractions = rng.random((2, images))
    return np.concatenate([np.ones((1, images)), drawn, fractions, fractions * (rng.random((2, images)) < 0.5)])


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


# -------------------------------------------------------------------------------- one class against all others


@pytest.mark.parametrize("decimals", [1, 2, None])
@pytest.mark.parametrize("block", [2**17, 100])
def test_areas_equal_scikit_learn_with_ties_and_weights(
    decimals: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", block)
    truth, values = _binary(decimals=decimals)
    weights = _weights(len(truth))
    roc = [metrics.roc_auc_score(truth, values, sample_weight=w) for w in weights]
    precision_recall = [metrics.average_precision_score(truth, values, sample_weight=w) for w in weights]
    np.testing.assert_allclose(area_under_roc(truth, values, weights=weights), roc, rtol=1e-12)
    np.testing.assert_allclose(average_precision(truth, values, weights=weights), precision_recall, rtol=1e-12)
    assert area_under_roc(truth, values).shape == (1,)
    assert area_under_roc(truth, values)[0] == pytest.approx(roc[0], rel=1e-12)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    truth, values = _binary(30)
    pairs = values[truth == 1][:, None] - values[truth == 0]
    assert area_under_roc(truth, values)[0] == pytest.approx((np.sign(pairs) + 1).mean() / 2, rel=1e-12)


def test_what_is_undefined_is_nan_for_that_weighting_only() -> None:
    truth, values = np.array([1, 0, 0, 1]), np.array([0.8, 0.3, 0.6, 0.4])
    weights = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    assert np.isnan(area_under_roc(truth, values, weights=weights)).tolist() == [False, True, True, True]
    assert np.isnan(average_precision(truth, values, weights=weights)).tolist() == [False, True, False, True]
    assert average_precision(truth, values, weights=weights)[2] == 1
    assert np.isnan(brier_score(truth, values, weights=weights)).tolist() == [False, False, False, True]
    assert np.isnan(calibration_error(truth, values, weights=weights)).tolist() == [False, False, False, True]
    for undefined in (
        sensitivity_at_false_positive_rate(truth, values, rates=[0.5], weights=weights),
        precision_at_recall(truth, values, recalls=[0.5], weights=weights),
    ):
        assert np.isnan(undefined[[1, 3]]).all()
        assert not np.isnan(undefined[0]).any()
    table = score_table(
        truth, np.stack([1 - values, values], axis=1), kind="binary", thresholds=[0.9], weights=weights
    ).overall
    assert np.isnan(table["precision"]).all()  # nothing is predicted
    assert table["f1"].tolist()[:1] == [0]  # but there are positives to be missed
    assert np.isnan(table["f1"]).tolist() == [False, True, False, True]
    assert np.isnan(table["sensitivity"]).tolist() == [False, True, False, True]
    assert np.isnan(table["specificity"]).tolist() == [False, False, True, True]


def test_the_brier_score_equals_scikit_learn() -> None:
    truth, values = _binary(decimals=None)
    weights = _weights(len(truth))
    expected = [metrics.brier_score_loss(truth, values, sample_weight=w) for w in weights]
    np.testing.assert_allclose(brier_score(truth, values, weights=weights), expected, rtol=1e-12)


def test_the_calibration_error_equals_a_plain_loop() -> None:
    truth, values = _binary(200, decimals=2)
    values[:2] = 0, 1  # the ends belong to the first and the last bin
    weights = _weights(len(truth))
    predicted, observed, images = calibration_bins(truth, values, weights=weights)
    for row, w in enumerate(weights):
        error = 0.0
        for number in range(BINS):
            upper = values <= 1 if number == BINS - 1 else values < (number + 1) / BINS
            inside = (values >= number / BINS) & upper
            assert images[row, number] == pytest.approx(w[inside].sum())
            if w[inside].sum() > 0:
                confidence = np.average(values[inside], weights=w[inside])
                share = np.average(truth[inside], weights=w[inside])
                assert predicted[row, number] == pytest.approx(confidence)
                assert observed[row, number] == pytest.approx(share)
                error += w[inside].sum() / w.sum() * abs(confidence - share)
            else:
                assert np.isnan(observed[row, number])
        assert calibration_error(truth, values, weights=weights)[row] == pytest.approx(error, rel=1e-10)


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (4.0, 2.0), (0.1, -1.0)])
def test_the_slope_equals_scikit_learn_without_penalty(stretch: float, shift: float) -> None:
    rng = np.random.default_rng(3)
    logits = 1.5 * rng.standard_normal(300)
    truth = (rng.random(300) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    values = 1 / (1 + np.exp(-(stretch * logits + shift)))
    values[:3] = 0, 1, 1 - 1e-9  # clipped
    weights = _weights(300)
    clipped = np.clip(values, CLIP, 1 - CLIP)
    x = np.log(clipped / (1 - clipped))[:, None]
    expected = [
        LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000, solver="newton-cholesky")
        .fit(x, truth, sample_weight=w)
        .coef_[0, 0]
        for w in weights
    ]
    np.testing.assert_allclose(calibration_slope(truth, values, weights=weights), expected, rtol=1e-6)


def test_the_slope_is_one_for_right_probabilities_and_below_for_extreme_ones() -> None:
    rng = np.random.default_rng(4)
    logits = rng.standard_normal(200_000)
    truth = rng.random(200_000) < 1 / (1 + np.exp(-logits))
    assert calibration_slope(truth, 1 / (1 + np.exp(-logits)))[0] == pytest.approx(1, abs=0.03)
    assert calibration_slope(truth, 1 / (1 + np.exp(-2 * logits)))[0] == pytest.approx(0.5, abs=0.015)


def test_there_is_no_slope_where_the_classes_do_not_overlap() -> None:
    truth, values = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.6, 0.4, 0.7, 0.9])
    overlapping = np.ones(6)
    separated = np.array([1, 1, 0, 1, 1, 1])
    one_class = np.array([1, 1, 1, 0, 0, 0])
    weights = np.array([overlapping, separated, one_class, 1e-3 * overlapping])
    slopes = calibration_slope(truth, values, weights=weights)
    assert np.isnan(slopes).tolist() == [False, True, True, False]
    assert slopes[3] == pytest.approx(slopes[0], rel=1e-6)
    assert np.isnan(calibration_slope(1 - truth, values, weights=weights)).tolist() == [False, True, True, False]
    assert np.isnan(calibration_slope([0, 1, 1], [0.3, 0.3, 0.3]))[0]
    assert np.isnan(calibration_slope([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.6]))[0]  # they only touch


def test_newton_arrives_from_far_with_few_overlapping_images() -> None:
    logits = np.concatenate([np.linspace(-13, -8, 400), [-7.0, 5.0], np.linspace(8, 13, 5)])
    truth = np.concatenate([np.zeros(400), [1.0, 0.0], np.ones(5)])
    values = 1 / (1 + np.exp(-logits))
    slope = calibration_slope(truth, values)[0]
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(logits[:, None], truth).coef_[0, 0]
    assert slope == pytest.approx(reference, rel=1e-4)


def test_the_roc_curve_equals_scikit_learn_at_fixed_rates() -> None:
    truth, values = _binary()
    weights, grid = _weights(len(truth)), np.linspace(0, 1, 11)
    curves = sensitivity_at_false_positive_rate(truth, values, rates=grid, weights=weights)
    for curve, w in zip(curves, weights, strict=True):
        alarms, hits, _ = metrics.roc_curve(truth, values, sample_weight=w, drop_intermediate=False)
        for rate, sensitivity in zip(grid, curve, strict=True):
            left = np.flatnonzero(alarms <= rate + 1e-12)[-1]
            if alarms[left] >= rate - 1e-12:
                expected = hits[left]
            else:
                share = (rate - alarms[left]) / (alarms[left + 1] - alarms[left])
                expected = hits[left] + share * (hits[left + 1] - hits[left])
            assert sensitivity == pytest.approx(expected, abs=1e-9)
    fine = sensitivity_at_false_positive_rate(truth, values, rates=np.linspace(0, 1, 20_001))[0]
    assert fine.mean() == pytest.approx(area_under_roc(truth, values)[0], abs=1e-3)


def test_the_precision_recall_curve_is_the_step_function_of_the_average_precision() -> None:
    truth, values = _binary()
    weights, grid = _weights(len(truth)), np.linspace(0, 1, 11)
    curves = precision_at_recall(truth, values, recalls=grid, weights=weights)
    for curve, w in zip(curves, weights, strict=True):
        precision, recall, _ = metrics.precision_recall_curve(truth, values, sample_weight=w)
        precision, recall = precision[:-1][::-1], recall[:-1][::-1]  # without the point (0, 1) that is no threshold
        for needed, found in zip(grid, curve, strict=True):
            reached = (recall >= needed - 1e-9) & ~np.isnan(precision)
            assert found == pytest.approx(precision[np.argmax(reached)], abs=1e-9)
    middles = (np.arange(20_000) + 0.5) / 20_000
    fine = precision_at_recall(truth, values, recalls=middles)[0]
    assert fine.mean() == pytest.approx(average_precision(truth, values)[0], abs=1e-3)


# --------------------------------------------------------------------------------------------- thresholds


def test_the_threshold_has_the_largest_balanced_accuracy() -> None:
    for seed in range(5):
        truth, values = _binary(60, decimals=2, seed=seed)
        chosen = choose_threshold(truth, values)
        assert not np.isin(chosen, values)
        between = np.arange(101) / 100 - 0.005
        best = max(metrics.balanced_accuracy_score(truth, values >= limit) for limit in between)
        assert metrics.balanced_accuracy_score(truth, values >= chosen) == pytest.approx(best, rel=1e-12)


def test_of_equally_good_thresholds_the_nearest_to_a_half_and_then_the_lower() -> None:
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)
    truth, values = [0, 1, 0, 1], [0.125, 0.375, 0.625, 0.875]  # 0.25 and 0.75 are equally good
    assert choose_threshold(truth, values) == pytest.approx(0.25)
    assert choose_threshold([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]) == 0  # worse than chance: all or nothing


def test_thresholds_of_each_kind_of_problem() -> None:
    truth, values = _binary(40, decimals=None)
    expected = choose_threshold(truth, values)
    both = np.stack([1 - values, values], axis=1)
    assert choose_thresholds(truth, both, kind="binary").tolist() == [expected]
    assert choose_thresholds([0, 1, 2], np.eye(3), kind="multiclass").shape == (0,)
    findings = np.stack([truth, np.full(40, np.nan), np.zeros(40)], axis=1)
    findings[7, 0] = np.nan
    known = np.arange(40) != 7
    chosen = choose_thresholds(findings, np.stack([values] * 3, axis=1), kind="multilabel")
    assert chosen.tolist() == [choose_threshold(truth[known], values[known]), 0.5, 0.5]
    assert predict(both, kind="binary", thresholds=[expected]).tolist() == (values >= expected).astype(int).tolist()
    assert predict([[0.2, 0.4, 0.4]], kind="multiclass", thresholds=[]).tolist() == [1]
    assert predict([[0.2, 0.7]], kind="multilabel", thresholds=[0.2, 0.8]).tolist() == [[1, 0]]
    with pytest.raises(ConfigError, match="needs 2 thresholds"):
        predict([[0.2, 0.7]], kind="multilabel", thresholds=[0.2])


# ----------------------------------------------------------------------------------------- whole problems


def test_confusion_matrices_have_the_truth_in_rows() -> None:
    rng = np.random.default_rng(5)
    truth, found = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    weights = _weights(50)
    tables = confusion_matrices(truth, found, classes=4, weights=weights)
    for table, w in zip(tables, weights, strict=True):
        np.testing.assert_allclose(
            table, metrics.confusion_matrix(truth, found, labels=range(4), sample_weight=w), atol=1e-12
        )
    assert confusion_matrices([0, 0], [1, 1], classes=2)[0].tolist() == [[0, 2], [0, 0]]


def test_a_binary_problem_equals_scikit_learn() -> None:
    truth, values = _binary(120, decimals=2)
    probabilities = np.stack([1 - values, values], axis=1)
    weights = _weights(120)
    table = score_table(truth, probabilities, kind="binary", thresholds=[0.45], weights=weights)
    found = values >= 0.45
    for row, w in enumerate(weights):
        for positive in (0, 1):
            y, p, hits = truth == positive, probabilities[:, positive], found == positive
            expected = {
                "auroc": metrics.roc_auc_score(y, p, sample_weight=w),
                "auprc": metrics.average_precision_score(y, p, sample_weight=w),
                "balanced_accuracy": metrics.balanced_accuracy_score(y, hits, sample_weight=w),
                "accuracy": metrics.accuracy_score(y, hits, sample_weight=w),
                "sensitivity": metrics.recall_score(y, hits, sample_weight=w),
                "specificity": metrics.recall_score(y, hits, pos_label=False, sample_weight=w),
                "precision": metrics.precision_score(y, hits, sample_weight=w),
                "f1": metrics.f1_score(y, hits, sample_weight=w),
                "brier": metrics.brier_score_loss(y, p, sample_weight=w),
                "calibration_error": calibration_error(y, p, weights=w[None])[0],
                "calibration_slope": calibration_slope(y, p, weights=w[None])[0],
            }
            assert expected.keys() == SCORES.keys()
            for name, value in expected.items():
                assert table.per_class[name][row, positive] == pytest.approx(value, rel=1e-9), name
                if positive == 1:
                    assert table.overall[name][row] == table.per_class[name][row, 1]


def test_several_classes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 3, 150)
    probabilities = _softmax(1.5 * np.eye(3)[truth] + rng.standard_normal((150, 3)))
    weights = _weights(150)
    table = score_table(truth, probabilities, kind="multiclass", thresholds=[], weights=weights)
    found, one_hot = probabilities.argmax(axis=1), np.eye(3)[truth]
    for row, w in enumerate(weights):
        each = {"sample_weight": w, "average": None, "zero_division": np.nan}
        expected = {
            "auroc": metrics.roc_auc_score(one_hot, probabilities, average="macro", sample_weight=w),
            "auprc": metrics.average_precision_score(one_hot, probabilities, average="macro", sample_weight=w),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, found, sample_weight=w),
            "accuracy": metrics.accuracy_score(truth, found, sample_weight=w),
            "sensitivity": metrics.recall_score(truth, found, **each).mean(),
            "specificity": np.mean([metrics.recall_score(truth != k, found != k, sample_weight=w) for k in range(3)]),
            "precision": metrics.precision_score(truth, found, **each).mean(),
            "f1": metrics.f1_score(truth, found, **each).mean(),
            "brier": np.average(((probabilities - one_hot) ** 2).sum(axis=1) / 2, weights=w),
            "calibration_error": calibration_error(truth == found, probabilities.max(axis=1), weights=w[None])[0],
            "calibration_slope": np.mean(
                [calibration_slope(truth == k, probabilities[:, k], weights=w[None])[0] for k in range(3)]
            ),
        }
        assert expected.keys() == SCORES.keys()
        for name, value in expected.items():
            assert table.overall[name][row] == pytest.approx(value, rel=1e-9), name
        recalls = metrics.recall_score(truth, found, **each)
        np.testing.assert_allclose(table.per_class["sensitivity"][row], recalls, rtol=1e-12)


def test_two_classes_have_the_same_brier_score_as_a_binary_problem_and_as_classes() -> None:
    truth, values = _binary()
    classes = np.stack([1 - values, values, np.zeros_like(values)], axis=1)
    as_classes = score_table(truth, classes, kind="multiclass", thresholds=[]).overall["brier"]
    assert as_classes[0] == pytest.approx(brier_score(truth, values)[0], rel=1e-12)


def test_a_class_that_is_absent_is_left_out_of_the_mean() -> None:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 2, 40)
    probabilities = _softmax(rng.standard_normal((40, 3)))
    table = score_table(truth, probabilities, kind="multiclass", thresholds=[])
    assert np.isnan(table.per_class["auroc"][0]).tolist() == [False, False, True]
    assert table.overall["auroc"][0] == pytest.approx(table.per_class["auroc"][0, :2].mean())
    balanced = metrics.recall_score(
        truth, probabilities.argmax(axis=1), labels=[0, 1], average="macro", zero_division=np.nan
    )
    assert table.overall["balanced_accuracy"][0] == pytest.approx(balanced)


def test_a_finding_that_is_never_predicted_does_not_leave_the_mean() -> None:
    truth = np.zeros((40, 2))
    truth[:9, 0] = truth[:1, 1] = 1
    named = np.zeros((40, 2))
    named[:10, :] = 0.9  # 10 images are named for each: 9 are right for the first finding, 1 for the second
    silent = named * [1, 0.1]  # the second finding is never named
    weights = np.array([[1.0] * 40, [0.0] * 9 + [1.0] * 31, [0.0] + [1.0] * 39])
    naming, other = (
        score_table(truth, p, kind="multilabel", thresholds=[0.5, 0.5], weights=weights) for p in (named, silent)
    )
    assert naming.per_class["precision"][0].tolist() == pytest.approx([0.9, 0.1])
    assert np.isnan(other.per_class["precision"][0]).tolist() == [False, True]
    assert (naming.overall["precision"][0], other.overall["precision"][0]) == pytest.approx((0.5, 0.45))
    # A draw that has lost the positives of a finding cannot tell the mean of all findings.
    for table in (naming, other):
        assert np.isnan(table.overall["auroc"]).tolist() == [False, True, True]
        assert np.isnan(table.overall["specificity"]).tolist() == [False] * 3
    # A finding that no image has is left out whatever is predicted.
    nobody = np.concatenate([truth[:, :1], np.zeros((40, 1))], axis=1)
    means = [
        score_table(nobody, p, kind="multilabel", thresholds=[0.5, 0.5]).overall[name][0]
        for p in (named, silent)
        for name in ("precision", "f1")
    ]
    assert means[:2] == pytest.approx(means[2:])


def test_findings_are_scored_where_they_are_known() -> None:
    rng = np.random.default_rng(8)
    truth = (rng.random((90, 3)) < 0.4).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-(rng.standard_normal((90, 3)) + truth)))
    truth[rng.random((90, 3)) < 0.3] = np.nan
    thresholds = [0.4, 0.5, 0.7]
    weights = _weights(90)
    table = score_table(truth, probabilities, kind="multilabel", thresholds=thresholds, weights=weights)
    for row, w in enumerate(weights):
        by_finding = {name: [] for name in ("auroc", "auprc", "f1", "accuracy", "brier")}
        for column in range(3):
            known = ~np.isnan(truth[:, column])
            y, p, own = truth[known, column].astype(int), probabilities[known, column], w[known]
            hits = p >= thresholds[column]
            by_finding["auroc"].append(metrics.roc_auc_score(y, p, sample_weight=own))
            by_finding["auprc"].append(metrics.average_precision_score(y, p, sample_weight=own))
            by_finding["f1"].append(metrics.f1_score(y, hits, sample_weight=own))
            by_finding["accuracy"].append(metrics.accuracy_score(y, hits, sample_weight=own))
            by_finding["brier"].append(metrics.brier_score_loss(y, p, sample_weight=own))
        for name, values in by_finding.items():
            np.testing.assert_allclose(table.per_class[name][row], values, rtol=1e-9)
            assert table.overall[name][row] == pytest.approx(np.mean(values), rel=1e-9)
    nothing = np.concatenate([truth, np.full((90, 1), np.nan)], axis=1)
    table = score_table(nothing, np.c_[probabilities, probabilities[:, 0]], kind="multilabel", thresholds=[0.5] * 4)
    assert all(np.isnan(values[0, 3]) for values in table.per_class.values())
    assert not any(np.isnan(values).any() for values in table.overall.values())


def test_many_weightings_are_the_same_as_each_alone() -> None:
    truth, values = _binary(50)
    probabilities = np.stack([1 - values, values], axis=1)
    weights = _weights(50)
    together = score_table(truth, probabilities, kind="binary", thresholds=[0.5], weights=weights).overall
    repeated = np.repeat(np.arange(50), weights[1].astype(int))
    alone = score_table(truth[repeated], probabilities[repeated], kind="binary", thresholds=[0.5]).overall
    for name in SCORES:
        assert together[name][1] == pytest.approx(alone[name][0], rel=1e-8), name


def test_kinds_of_problems() -> None:
    assert problem_kind(LabelSpec(("a", "b"))) == "binary"
    assert problem_kind(LabelSpec(("a", "b", "c"), "ordinal")) == "multiclass"
    assert problem_kind(LabelSpec(("a",), "multilabel")) == "multilabel"
    with pytest.raises(ConfigError, match="quantities"):
        problem_kind(LabelSpec(("weight",), "continuous"))
    with pytest.raises(ConfigError, match="at least 2 classes"):
        problem_kind(LabelSpec(("a",)))


def test_the_mean_of_nothing_is_nan_without_a_warning() -> None:
    assert mean_where_defined([[1, np.nan, 3], [np.nan] * 3], axis=1).tolist()[0] == 2
    assert np.isnan(mean_where_defined([[1, np.nan, 3], [np.nan] * 3], axis=1)[1])


def test_input_that_does_not_fit() -> None:
    good, values = [0, 1, 1], [0.1, 0.5, 0.9]
    for arguments, message in (
        (([0, 1], values), r"shape \(2,\) and the values \(3,\)"),
        (([0, 2, 1], values), "something else than 0 and 1"),
        ((good, [0.1, np.nan, 0.3]), "1 of 3 values are not finite"),
    ):
        with pytest.raises(DataError, match=message):
            area_under_roc(*arguments)
    with pytest.raises(DataError, match=r"go from 0.1 to 9, expected \[0, 1\]"):
        brier_score(good, [0.1, 0.2, 9])
    for weights, message in (([1, 1, 1], "Weights have the shape"), ([[1, -1, 1]], "negative or not finite")):
        with pytest.raises(DataError, match=message):
            area_under_roc(good, values, weights=weights)
    with pytest.raises(DataError, match="expected class indices from 0 to 1"):
        confusion_matrices([0, 2], [0, 1], classes=2)
    with pytest.raises(DataError, match="expected one of both"):
        confusion_matrices([0, 1], [0], classes=2)
    both = np.array([[0.5, 0.5], [0.2, 0.8]])
    for labels, probabilities, kind, message in (
        ([0, 1], both[:, :1], "binary", r"have the shape \(2, 1\)"),
        ([0, 1], both, "multiclass", r"have the shape \(2, 2\)"),
        ([0, 1, 1], both, "binary", r"Labels of a binary problem have the shape \(3,\)"),
        ([0, 2], both, "binary", "expected class indices from 0 to 1"),
        ([[0, 2], [0, 1]], both, "multilabel", "NaN where unknown"),
        ([0, 1], both * 3, "binary", r"must be in \[0, 1\]"),
        ([0, 1], both / 2, "binary", "must sum to 1"),
    ):
        with pytest.raises(DataError, match=message):
            score_table(labels, probabilities, kind=kind, thresholds=[0.5])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="The kind 'two' is unknown"):
        choose_thresholds([0, 1], both, kind="two")  # type: ignore[arg-type]
