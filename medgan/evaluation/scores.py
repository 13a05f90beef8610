"""Scores of classifiers, for many weightings of the images at once, as a bootstrap needs them.

Every function takes ``weights`` of shape ``(B, N)``, one row a weighting of the N images, and returns one row for each;
None is one weighting with 1 everywhere. A value that is undefined for a weighting, such as a sensitivity without a
positive image, is NaN there, never 0 and never left out in silence. Equal values are ties and never put in an order:
the areas equal scikit-learn's.

The scores, for a class against all others (one-vs-rest), with ``p`` its probability and ``y`` 1 where it is the truth:

==================== ==================================================================================================
auroc                Area under the ROC curve by the trapezoidal rule: the probability that a positive has the larger
                     ``p`` than a negative, ties counted half. Undefined without a positive or without a negative.
auprc                Average precision: the mean of the precision at each positive, without interpolation. Undefined
                     without a positive. By chance it is the share of positives.
balanced_accuracy    Mean of sensitivity and specificity.
accuracy             Share of right predictions.
sensitivity          Share of positives that are predicted (recall). Undefined without a positive.
specificity          Share of negatives that are not predicted. Undefined without a negative.
precision            Share of predictions that are positives. Undefined without a prediction.
f1                   ``2 TP / (2 TP + FP + FN)``. Undefined without a positive and without a prediction.
brier                Mean of ``(p - y)²``.
calibration_error    Expected calibration error: the mean distance between the share of positives and the mean
                     ``p`` in `BINS` bins of equal width, ``[0, 1/15), ..., [14/15, 1]``, weighted by their images.
calibration_slope    Slope of a logistic regression, without penalty, of ``y`` on the logit of ``p``, with ``p`` clipped
                     to [`CLIP`, 1 − `CLIP`]. 1 is right, below 1 is too extreme. Undefined where ``p`` separates
                     the classes, or is constant.
==================== ==================================================================================================

The score of the whole problem is

- ``binary``: that of class 1, the positive class; it is predicted where ``p`` is at or above the threshold.
- ``multiclass``: the mean over the classes (macro), with the class of the largest probability predicted and the first
  of equals. Others are the accuracy, the share of right predictions; the balanced accuracy, the mean of the
  sensitivities; the Brier score, half the sum over the classes, so that it means the same for two classes as for more;
  and the calibration error, which compares the probability of the predicted class with the share of right predictions
  (Guo et al. 2017, arXiv:1706.04599).
- ``multilabel``: the mean over the findings (macro); of each finding the images of which it is known.

A mean is over the classes of which the images, all weights aside, have the positives and negatives that the score
needs: the same for all classifiers of these images and for all weightings. Where the score of one of these classes is
undefined, so is the mean. But a class that has positives and is never predicted counts with a precision of 0, as with
an F1 of 0; else a classifier would gain by never naming what it finds hard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.core.spec import LabelSpec
from medgan.errors import ConfigError, DataError

__all__ = [
    "BINS",
    "CLIP",
    "SCORES",
    "ProblemKind",
    "Score",
    "ScoreTable",
    "area_under_roc",
    "average_precision",
    "brier_score",
    "calibration_bins",
    "calibration_error",
    "calibration_slope",
    "choose_threshold",
    "choose_thresholds",
    "confusion_matrices",
    "mean_where_defined",
    "precision_at_recall",
    "predict",
    "problem_kind",
    "score_table",
    "sensitivity_at_false_positive_rate",
]

ProblemKind = Literal["binary", "multiclass", "multilabel"]
"""What is to be predicted, namely one of two classes, one of several classes, or each of several findings."""

BINS = 15
"""Bins of the calibration, of equal width."""
CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 where their logit is taken, as float32 rounds to 1 what is nearer."""

# Scores of a class that are undefined without a positive or a negative image; those of a class that images do not show
# say nothing.
_OF_POSITIVES = {"auroc", "auprc", "balanced_accuracy", "sensitivity", "precision", "f1", "calibration_slope"}
_OF_NEGATIVES = {"auroc", "balanced_accuracy", "specificity", "calibration_slope"}

_BLOCK_NUMBERS = 2**17  # numbers at a time, which a processor's cache holds
_NEWTON_STEPS = 100
_NEWTON_TOLERANCE = 1e-6  # the last step squares it

Values = NDArray[np.float64]


class Score(NamedTuple):
    """What a score is.

    Attributes:
        title: As it is called in tables.
        better: Which values are better; ``one`` is a score that is best at 1.
        definition: One sentence.
    """

    title: str
    better: Literal["higher", "lower", "one"]
    definition: str


SCORES: dict[str, Score] = {
    "auroc": Score("AUROC", "higher", "Probability that a positive image is ranked above a negative one."),
    "auprc": Score("AUPRC", "higher", "Average precision; by chance the share of positives."),
    "balanced_accuracy": Score("Balanced accuracy", "higher", "Mean of sensitivity and specificity, or of recalls."),
    "accuracy": Score("Accuracy", "higher", "Share of right predictions."),
    "sensitivity": Score("Sensitivity", "higher", "Share of positives that are predicted."),
    "specificity": Score("Specificity", "higher", "Share of negatives that are not predicted."),
    "precision": Score("Precision", "higher", "Share of predictions that are positives."),
    "f1": Score("F1", "higher", "Harmonic mean of precision and sensitivity."),
    "brier": Score("Brier", "lower", "Mean squared distance of probabilities from the truth, from 0 to 1."),
    "calibration_error": Score("ECE", "lower", f"Expected calibration error, {BINS} bins of equal width."),
    "calibration_slope": Score("Calibration slope", "one", "Slope of the truth on the logit; below 1 is too extreme."),
}
"""Every score by its name, in the order of a table."""


def problem_kind(labels: LabelSpec) -> ProblemKind:
    """Return what kind of problem labels make.

    Args:
        labels: What the images show.

    Returns:
        ``binary`` for 2 classes, ``multiclass`` for more, ``multilabel`` for findings. Ordinal labels are classes.

    Raises:
        ConfigError: If the labels are quantities, or there is only one class.
    """
    if labels.kind == "multilabel":
        return "multilabel"
    if labels.kind == "continuous":
        raise ConfigError("Labels that are quantities have no classes to be told apart. Give classes or findings.")
    if len(labels) < 2:
        raise ConfigError(f"A classifier needs at least 2 classes, got only {labels.names[0]!r}.")
    return "binary" if len(labels) == 2 else "multiclass"


# ----------------------------------------------------------------------------- one class against all others


def area_under_roc(truth: ArrayLike, values: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Return the area under the ROC curve.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        values: ``(N,)``, larger where a positive is likelier.
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B,)``, in [0, 1]; NaN without a positive or without a negative.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, values, weights)
    areas = np.full(len(w), np.nan)
    for rows, true_positives, false_positives in _ranked(y, p, w):
        below = np.diff(false_positives, axis=1, prepend=0)
        beside = np.diff(true_positives, axis=1, prepend=0)
        beside *= -0.5
        beside += true_positives
        pairs = true_positives[:, -1] * false_positives[:, -1]
        areas[rows] = _ratio(np.einsum("ij,ij->i", below, beside), pairs)
    return areas


def average_precision(truth: ArrayLike, values: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Return the average precision, also called the area under the precision-recall curve.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        values: ``(N,)``, larger where a positive is likelier.
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B,)``, in [0, 1]; NaN without a positive.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, values, weights)
    averages = np.full(len(w), np.nan)
    for rows, true_positives, false_positives in _ranked(y, p, w):
        predicted = true_positives + false_positives
        predicted[predicted == 0] = 1  # no positive is there either
        precision = true_positives / predicted
        gained = np.diff(true_positives, axis=1, prepend=0)
        averages[rows] = _ratio(np.einsum("ij,ij->i", gained, precision), true_positives[:, -1])
    return averages


def sensitivity_at_false_positive_rate(
    truth: ArrayLike, values: ArrayLike, *, rates: ArrayLike, weights: ArrayLike | None = None
) -> Values:
    """Return the ROC curve at fixed false positive rates, with straight lines between its thresholds.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        values: ``(N,)``, larger where a positive is likelier.
        rates: ``(G,)``, in [0, 1].
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B, G)``, where the curve rises straight up its upper end; NaN without a positive or without a negative.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, values, weights)
    grid = np.asarray(rates, np.float64)
    curves = np.full((len(w), len(grid)), np.nan)
    for rows, true_positives, false_positives in _ranked(y, p, w):
        for row, (hits, alarms) in enumerate(zip(true_positives, false_positives, strict=True), rows.start):
            if hits[-1] > 0 and alarms[-1] > 0:
                x, height = np.append(0, alarms / alarms[-1]), np.append(0, hits / hits[-1])
                curves[row] = np.interp(grid, x, height)
    return curves


def precision_at_recall(
    truth: ArrayLike, values: ArrayLike, *, recalls: ArrayLike, weights: ArrayLike | None = None
) -> Values:
    """Return the precision at fixed recalls: that of the highest threshold which reaches the recall.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        values: ``(N,)``, larger where a positive is likelier.
        recalls: ``(G,)``, in [0, 1].
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B, G)``: the step function of which `average_precision` is the area; NaN without a positive.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, values, weights)
    grid = np.asarray(recalls, np.float64)
    curves = np.full((len(w), len(grid)), np.nan)
    for rows, true_positives, false_positives in _ranked(y, p, w):
        for row, (hits, alarms) in enumerate(zip(true_positives, false_positives, strict=True), rows.start):
            if hits[-1] > 0:
                predicted = hits + alarms
                needed = grid * hits[-1] * (1 - 1e-12)  # 0.3 of 10 is 3, whatever the last digit says
                first = np.maximum(np.searchsorted(hits, needed), np.argmax(predicted > 0))
                curves[row] = hits[first] / predicted[first]
    return curves


def brier_score(truth: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Return the mean squared distance of probabilities from the truth.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        probabilities: ``(N,)``, in [0, 1].
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B,)``, in [0, 1].

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, probabilities, weights, are_probabilities=True)
    return _ratio(w @ (p - y) ** 2, w.sum(axis=1))


def calibration_error(truth: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Return the expected calibration error, with `BINS` bins of equal width.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        probabilities: ``(N,)``, in [0, 1].
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B,)``, in [0, 1]. It is too large for few images, as chance moves the shares in the bins.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, probabilities, weights, are_probabilities=True)
    return _ratio(np.abs(w @ (_in_bins(p) * (y - p)[:, None])).sum(axis=1), w.sum(axis=1))


def calibration_bins(
    truth: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None
) -> tuple[Values, Values, Values]:
    """Return the points of a calibration curve.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        probabilities: ``(N,)``, in [0, 1].
        weights: ``(B, N)``, at least 0.

    Returns:
        Three ``(B, BINS)``, namely the mean probability and the share of positives, both NaN in an empty bin, and the
        sum of the weights.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, probabilities, weights, are_probabilities=True)
    bins = _in_bins(p)
    images = w @ bins
    return _ratio(w @ (bins * p[:, None]), images), _ratio(w @ (bins * y[:, None]), images), images


def calibration_slope(truth: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Return the slope of a logistic regression of the truth on the logit of the probabilities.

    Args:
        truth: ``(N,)``, true or 1 for positives.
        probabilities: ``(N,)``, in [0, 1]; clipped to [`CLIP`, 1 − `CLIP`].
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B,)``: 1 where probabilities are neither too extreme (below 1) nor too timid. NaN where there is no best
        slope, as the probabilities separate positives from negatives, or all are the same.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p, w = _check(truth, probabilities, weights, are_probabilities=True)
    clipped = np.clip(p, CLIP, 1 - CLIP)
    logits = np.log(clipped) - np.log1p(-clipped)
    slopes = np.full(len(w), np.nan)
    scale = float(logits.std()) if len(p) else 0.0
    if scale < 1e-9:
        return slopes
    logits -= logits.mean()
    logits /= scale
    order = np.argsort(logits, kind="stable")
    y, logits = y[order], logits[order]
    for rows in _blocks(len(w), len(y)):
        block = w[rows][:, order]
        fitted = np.flatnonzero(_overlaps(y, logits, block))
        slopes[rows.start + fitted] = _logistic_slopes(y, logits, block[fitted]) / scale
    return slopes


def _overlaps(y: Values, values: Values, weights: Values) -> NDArray[np.bool_]:
    """Say for which weightings neither class lies wholly on one side of the other; values are sorted."""
    if not y.any() or y.all():
        return np.zeros(len(weights), np.bool_)
    ends = []
    for side in (y > 0, y == 0):
        there, own = weights[:, side] > 0, values[side]
        low, high = own[there.argmax(axis=1)], own[there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)]
        ends.append((np.where(there.any(axis=1), low, np.nan), np.where(there.any(axis=1), high, np.nan)))
    (low, high), (other_low, other_high) = ends
    return np.asarray((low < other_high) & (other_low < high))  # false where an end is NaN


def _logistic_slopes(y: Values, x: Values, weights: Values) -> Values:
    """Return the slopes of logistic regressions on one variable, by Newton's method; NaN where it does not arrive."""
    coefficients, steps = np.zeros((len(weights), 2)), np.zeros((len(weights), 2))
    descent = np.zeros(len(weights))  # along the last step, at its start
    slopes = np.full(len(weights), np.nan)
    moving = np.arange(len(weights))
    powers = np.stack([np.ones_like(x), x, x * x], axis=1)
    for _ in range(_NEWTON_STEPS):
        if not len(moving):
            break
        w = weights[moving]
        probability = coefficients[moving, 1:] * x
        probability += coefficients[moving, :1]
        np.negative(probability, out=probability)
        with np.errstate(over="ignore"):  # exp(large) is infinite, and 1 / infinity is the 0 that is meant
            np.exp(probability, out=probability)
        probability += 1
        np.reciprocal(probability, out=probability)
        gradient = (w * (y - probability)) @ powers[:, :2]
        along = np.einsum("ij,ij->i", gradient, steps[moving])
        too_far = -along > descent[moving]  # past the summit, and steeper there than at the start: take half the step
        w *= probability * (1 - probability)
        curvature = w @ powers
        determinant = curvature[:, 0] * curvature[:, 2] - curvature[:, 1] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = np.stack(
                [
                    (curvature[:, 2] * gradient[:, 0] - curvature[:, 1] * gradient[:, 1]) / determinant,
                    (curvature[:, 0] * gradient[:, 1] - curvature[:, 1] * gradient[:, 0]) / determinant,
                ],
                axis=1,
            )
        half = steps[moving] / 2
        coefficients[moving] += np.where(too_far[:, None], -half, newton)
        steps[moving] = np.where(too_far[:, None], half, newton)
        descent[moving] = np.where(too_far, descent[moving], np.einsum("ij,ij->i", gradient, newton))
        arrived = ~too_far & (np.abs(newton) <= _NEWTON_TOLERANCE * (1 + np.abs(coefficients[moving]))).all(axis=1)
        slopes[moving[arrived]] = coefficients[moving[arrived], 1]
        moving = moving[~arrived & np.isfinite(coefficients[moving]).all(axis=1)]
    return slopes


# ------------------------------------------------------------------------------- predictions and whole problems


def choose_threshold(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the threshold with the largest balanced accuracy, and so with the largest Youden's J.

    To be used on a validation cohort: chosen on the images it is judged on, it flatters.

    Args:
        truth: ``(N,)``, true or 1 for positives; images of which it is NaN are left out.
        probabilities: ``(N,)``, in [0, 1].

    Returns:
        0 or halfway between two neighbouring probabilities, to be compared with ``>=``. Of thresholds that are equally
        good it is the one nearest to 0.5, and of two such the lower one. Without a positive or a negative it is 0.5.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    known = ~np.isnan(np.asarray(truth, np.float64))
    y, p, _ = _check(np.asarray(truth)[known], np.asarray(probabilities)[known], None, are_probabilities=True)
    if not y.any() or y.all():
        return 0.5
    distinct, place = np.unique(p, return_inverse=True)
    candidates = np.append(0, (distinct[:-1] + distinct[1:]) / 2)
    positives, negatives = np.bincount(place, y), np.bincount(place, 1 - y)
    hits = positives.sum() - np.append(0, np.cumsum(positives)[:-1])
    alarms = negatives.sum() - np.append(0, np.cumsum(negatives)[:-1])
    # In whole numbers, so that ties are ties.
    advantage = np.rint(hits) * np.rint(negatives.sum()) - np.rint(alarms) * np.rint(positives.sum())
    best = candidates[advantage == advantage.max()]
    return float(best[np.lexsort((best, np.abs(best - 0.5)))[0]])


def choose_thresholds(labels: ArrayLike, probabilities: ArrayLike, *, kind: ProblemKind) -> Values:
    """Return the thresholds of a problem, by `choose_threshold`.

    Args:
        labels: Truth of a validation cohort, ``(N,)`` classes or ``(N, K)`` findings.
        probabilities: ``(N, K)``.
        kind: What is predicted.

    Returns:
        One threshold if binary, one a finding if multilabel, none if multiclass.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p = _check_problem(labels, probabilities, kind)
    if kind == "multiclass":
        return np.empty(0)
    if kind == "binary":
        return np.array([choose_threshold(y == 1, p[:, 1])])
    return np.array([choose_threshold(y[:, column], p[:, column]) for column in range(p.shape[1])])


def predict(probabilities: ArrayLike, *, kind: ProblemKind, thresholds: ArrayLike) -> NDArray[np.int64]:
    """Return what is predicted.

    Args:
        probabilities: ``(N, K)``.
        kind: What is predicted.
        thresholds: As `choose_thresholds` returns them.

    Returns:
        ``(N,)`` classes, or ``(N, K)`` of 0 and 1 for findings.

    Raises:
        ConfigError: If there is another number of thresholds.
    """
    p, limits = np.asarray(probabilities, np.float64), np.asarray(thresholds, np.float64)
    expected = {"binary": 1, "multiclass": 0, "multilabel": p.shape[1]}[kind]
    if limits.shape != (expected,):
        raise ConfigError(f"A {kind} problem needs {expected} thresholds, got the shape {limits.shape}.")
    if kind == "multiclass":
        return np.asarray(p.argmax(axis=1), np.int64)
    return np.asarray(p[:, 1] >= limits[0] if kind == "binary" else p >= limits, np.int64)


def confusion_matrices(
    truth: ArrayLike, predicted: ArrayLike, *, classes: int, weights: ArrayLike | None = None
) -> Values:
    """Return confusion matrices: rows are the truth, columns the prediction.

    Args:
        truth: ``(N,)``, class indices.
        predicted: ``(N,)``, class indices.
        classes: Number of classes, K.
        weights: ``(B, N)``, at least 0.

    Returns:
        ``(B, K, K)``, sums of the weights.

    Raises:
        DataError: If shapes do not fit or an index is not of a class.
    """
    rows, columns = np.asarray(truth), np.asarray(predicted)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise DataError(
            f"The truth has the shape {rows.shape} and the predictions {columns.shape}, expected one of both."
        )
    for name, indices in (("truth", rows), ("prediction", columns)):
        if not np.isin(indices, np.arange(classes)).all():
            raise DataError(f"The {name} holds {np.unique(indices)}, expected class indices from 0 to {classes - 1}.")
    cells = np.zeros((len(rows), classes * classes))
    cells[np.arange(len(rows)), rows.astype(np.int64) * classes + columns.astype(np.int64)] = 1
    return (_check_weights(weights, len(rows)) @ cells).reshape(-1, classes, classes)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """All scores for B weightings.

    Attributes:
        overall: ``(B,)`` by the score's name, of the whole problem.
        per_class: ``(B, K)`` by the score's name, of each class against all others, or of each finding.
    """

    overall: dict[str, Values]
    per_class: dict[str, Values]


def score_table(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    kind: ProblemKind,
    thresholds: ArrayLike,
    weights: ArrayLike | None = None,
) -> ScoreTable:
    """Return every score of `SCORES`, as the module's text defines them.

    Args:
        labels: Truth, ``(N,)`` class indices, or ``(N, K)`` of 0, 1 and NaN for findings.
        probabilities: ``(N, K)``, in [0, 1]; of classes, rows sum to 1.
        kind: What is predicted.
        thresholds: As `choose_thresholds` returns them.
        weights: ``(B, N)``, at least 0.

    Returns:
        The scores of the problem and of each class.

    Raises:
        ConfigError: If there is another number of thresholds.
        DataError: If shapes do not fit or a number is unfit.
    """
    y, p = _check_problem(labels, probabilities, kind)
    w = _check_weights(weights, len(y))
    predicted = predict(p, kind=kind, thresholds=thresholds)
    columns = []
    for column in range(p.shape[1]):
        if kind == "multilabel":
            known = ~np.isnan(y[:, column])
            of_known = w if known.all() else w[:, known]
            columns.append(_one_against_rest(y[known, column], p[known, column], predicted[known, column], of_known))
        elif kind == "binary" and column == 0:
            # The same for both classes but for these, and spared the time.
            own = {"auprc": average_precision(y == 0, p[:, 0], weights=w)}
            own["calibration_error"] = calibration_error(y == 0, p[:, 0], weights=w)
            columns.append({**own, **_rates(y == 0, predicted == 0, w)})
        else:
            columns.append(_one_against_rest(y == column, p[:, column], predicted == column, w))
    if kind == "binary":
        columns[0] = {**columns[1], **columns[0]}
    per_class = {name: np.stack([scores[name] for scores in columns], axis=1) for name in SCORES}
    if kind == "binary":
        return ScoreTable({name: values[:, 1] for name, values in per_class.items()}, per_class)
    never_predicted = np.isnan(per_class["precision"]) & ~np.isnan(per_class["sensitivity"])
    averaged = per_class | {"precision": np.where(never_predicted, 0, per_class["precision"])}
    if kind == "multilabel":
        truths = [y[~np.isnan(y[:, column]), column] == 1 for column in range(p.shape[1])]
    else:
        truths = [y == column for column in range(p.shape[1])]
    overall = {name: _mean_over_classes(name, values, truths) for name, values in averaged.items()}
    if kind == "multiclass":
        right = predicted == y
        overall["accuracy"] = _ratio(w @ right.astype(np.float64), w.sum(axis=1))
        overall["balanced_accuracy"] = overall["sensitivity"]
        overall["brier"] = per_class["brier"].sum(axis=1) / 2
        overall["calibration_error"] = calibration_error(right, p.max(axis=1), weights=w)
    return ScoreTable(overall, per_class)


def _mean_over_classes(name: str, values: Values, truths: Sequence[NDArray[np.bool_]]) -> Values:
    """Return the mean of a score ``(B, K)`` over the classes of which the images can tell it."""
    lacks_nothing = [
        bool(len(truth)) and (truth.any() or name not in _OF_POSITIVES) and not (truth.all() and name in _OF_NEGATIVES)
        for truth in truths
    ]
    counted = values[:, np.array(lacks_nothing, np.bool_)]
    return _ratio(counted.sum(axis=1), np.full(len(values), float(counted.shape[1])))


def _one_against_rest(
    truth: NDArray[Any], probabilities: Values, predicted: NDArray[Any], weights: Values
) -> dict[str, Values]:
    """Return every score of one class against all others."""
    return {
        "auroc": area_under_roc(truth, probabilities, weights=weights),
        "auprc": average_precision(truth, probabilities, weights=weights),
        "brier": brier_score(truth, probabilities, weights=weights),
        "calibration_error": calibration_error(truth, probabilities, weights=weights),
        "calibration_slope": calibration_slope(truth, probabilities, weights=weights),
        **_rates(truth, predicted, weights),
    }


def _rates(truth: NDArray[Any], predicted: NDArray[Any], weights: Values) -> dict[str, Values]:
    """Return the scores that are made of the four counts of a prediction."""
    matrices = confusion_matrices(truth, predicted, classes=2, weights=weights)
    true_negatives, false_positives = matrices[:, 0, 0], matrices[:, 0, 1]
    false_negatives, true_positives = matrices[:, 1, 0], matrices[:, 1, 1]
    sensitivity = _ratio(true_positives, true_positives + false_negatives)
    specificity = _ratio(true_negatives, true_negatives + false_positives)
    return {
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": _ratio(true_positives + true_negatives, matrices.sum(axis=(1, 2))),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": _ratio(true_positives, true_positives + false_positives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
    }


# ----------------------------------------------------------------------------------------------- parts


def _check(
    truth: ArrayLike, values: ArrayLike, weights: ArrayLike | None, *, are_probabilities: bool = False
) -> tuple[Values, Values, Values]:
    """Return truth, values and weights as numbers that fit each other."""
    y, p = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise DataError(f"The truth has the shape {y.shape} and the values {p.shape}, expected one of both, (N,).")
    if not ((y == 0) | (y == 1)).all():
        raise DataError("The truth holds something else than 0 and 1. Leave images out of which it is unknown.")
    if not np.isfinite(p).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(p))} of {len(p)} values are not finite.")
    if are_probabilities and len(p) and not (p.min() >= 0 and p.max() <= 1):
        raise DataError(f"Probabilities go from {p.min():g} to {p.max():g}, expected [0, 1]. Apply softmax or sigmoid.")
    return y, p, _check_weights(weights, len(y))


def _check_weights(weights: ArrayLike | None, images: int) -> Values:
    """Return weights ``(B, N)``."""
    if weights is None:
        return np.ones((1, images))
    w = np.asarray(weights, np.float64)
    if w.ndim != 2 or w.shape[1] != images:
        raise DataError(f"Weights have the shape {w.shape}, expected (weightings, {images}).")
    if w.size and not (w.min() >= 0 and np.isfinite(w.max())):
        raise DataError("A weight is negative or not finite.")
    return w


def _check_problem(labels: ArrayLike, probabilities: ArrayLike, kind: ProblemKind) -> tuple[NDArray[Any], Values]:
    """Return labels and probabilities that fit the kind of problem."""
    if kind not in get_args(ProblemKind):
        raise ConfigError(f"The kind {kind!r} is unknown, expected one of {', '.join(get_args(ProblemKind))}.")
    y, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    least = {"binary": 2, "multiclass": 3, "multilabel": 1}[kind]
    if p.ndim != 2 or p.shape[1] < least or (kind == "binary" and p.shape[1] != 2):
        raise DataError(
            f"Probabilities of a {kind} problem have the shape {p.shape}, expected (N, K) with K as it needs."
        )
    if y.shape != (p.shape if kind == "multilabel" else p.shape[:1]):
        raise DataError(f"Labels of a {kind} problem have the shape {y.shape} for probabilities {p.shape}.")
    if kind == "multilabel":
        y = y.astype(np.float64)
        if not (np.isnan(y) | (y == 0) | (y == 1)).all():
            raise DataError("Labels of findings are 0 or 1, and NaN where unknown; there is something else.")
    elif not np.isin(y, np.arange(p.shape[1])).all():
        raise DataError(f"Labels hold {np.unique(y)}, expected class indices from 0 to {p.shape[1] - 1}.")
    if not (np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()):
        raise DataError("Probabilities must be in [0, 1], and some are not. Apply softmax or sigmoid to outputs.")
    if kind != "multilabel" and len(p) and np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise DataError("Probabilities of classes must sum to 1 for each image, and some do not. Apply softmax.")
    return y, p


def _ranked(y: Values, p: Values, weights: Values) -> Iterator[tuple[slice, Values, Values]]:
    """Yield, for blocks of weightings, true and false positives at every distinct value as threshold, highest first."""
    if not len(p):
        return  # there is no threshold
    order = np.argsort(-p, kind="stable")
    last_of_equals = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))
    positive = y[order]
    distinct = len(last_of_equals) == len(p)
    for rows in _blocks(len(weights), len(p)):
        block = weights[rows].take(order, axis=1)
        everything = np.cumsum(block, axis=1)
        block *= positive
        np.cumsum(block, axis=1, out=block)
        if not distinct:
            everything, block = everything[:, last_of_equals], block[:, last_of_equals]
        everything -= block
        yield rows, block, everything


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of rows that hold not too many numbers."""
    step = max(1, _BLOCK_NUMBERS // max(1, columns))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _in_bins(p: Values) -> Values:
    """Return ones in the bin of each probability, ``(N, BINS)``."""
    bins = np.zeros((len(p), BINS))
    bins[np.arange(len(p)), np.minimum((p * BINS).astype(np.int64), BINS - 1)] = 1
    return bins


def _ratio(part: Values, whole: Values) -> Values:
    """Divide; NaN where there is nothing to divide by."""
    ratio: Values = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return ratio


def mean_where_defined(values: ArrayLike, *, axis: int) -> Values:
    """Return the mean of what is not NaN, without a warning where nothing is.

    Args:
        values: Any shape.
        axis: Over which to take the mean.

    Returns:
        Values without that axis; NaN if all are.
    """
    given = np.asarray(values, np.float64)
    defined = ~np.isnan(given)
    return _ratio(np.where(defined, given, 0).sum(axis=axis), defined.sum(axis=axis).astype(np.float64))
