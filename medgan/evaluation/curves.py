"""Curves of classifiers as a reader sees them: mean over seeds, with bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.core.spec import LabelSpec
from medgan.evaluation.intervals import interval_of_mean
from medgan.evaluation.scores import (
    ProblemKind,
    calibration_bins,
    mean_where_defined,
    precision_at_recall,
    sensitivity_at_false_positive_rate,
)

__all__ = ["curves_with_bands"]

_GRID = np.linspace(0, 1, 101)

Values = NDArray[np.float64]


def curves_with_bands(
    labels: NDArray[Any], probabilities: Sequence[Values], *, spec: LabelSpec, kind: ProblemKind, weights: Values
) -> dict[str, Any]:
    """Return curves of each class, mean over the seeds, with 95 % bands point by point.

    Args:
        labels: Truth, ``(N,)`` class indices or ``(N, K)`` of 0, 1 and NaN for findings.
        probabilities: ``(N, K)`` for each seed.
        spec: What the labels mean.
        kind: What is predicted.
        weights: Draws of patients, ``(B, N)``.

    Returns:
        ``roc``, ``precision_recall`` and ``calibration`` as `medgan.evaluation.summary` describes them, with arrays. A
        point at which nothing varies has a band without width.

    Raises:
        DataError: If shapes do not fit or a number is unfit.
    """
    weights = np.concatenate([np.ones((1, weights.shape[1])), weights])  # the cohort itself first
    roc, precision_recall, calibration = [], [], []
    roc_curves, precision_curves = [], []
    for column in [1] if kind == "binary" else range(len(spec)):
        known = ~np.isnan(labels[:, column]) if kind == "multilabel" else np.ones(len(labels), np.bool_)
        truth = labels[known, column] if kind == "multilabel" else labels == column
        of_known, name = weights[:, known], spec.names[column]
        own = [p[known, column] for p in probabilities]
        roc_curves.append(
            np.stack([sensitivity_at_false_positive_rate(truth, p, rates=_GRID, weights=of_known) for p in own])
        )
        precision_curves.append(np.stack([precision_at_recall(truth, p, recalls=_GRID, weights=of_known) for p in own]))
        roc.append(_roc_entry(name, roc_curves[-1]))
        precision_recall.append(_precision_entry(name, precision_curves[-1]))
        calibration.append(_calibration_entry(name, [calibration_bins(truth, p, weights=of_known) for p in own]))
    if len(roc) > 1:
        roc.insert(0, _roc_entry(None, mean_where_defined(np.stack(roc_curves), axis=0)))
        precision_recall.insert(0, _precision_entry(None, mean_where_defined(np.stack(precision_curves), axis=0)))
    return {"roc": roc, "precision_recall": precision_recall, "calibration": calibration}


def _roc_entry(name: str | None, curves: Values) -> dict[str, Any]:
    value, low, high = _band(curves)
    return {"class": name, "false_positive_rate": _GRID, "sensitivity": value, "low": low, "high": high}


def _precision_entry(name: str | None, curves: Values) -> dict[str, Any]:
    value, low, high = _band(curves)
    return {"class": name, "recall": _GRID, "precision": value, "low": low, "high": high}


def _calibration_entry(name: str, bins: Sequence[tuple[Values, Values, Values]]) -> dict[str, Any]:
    predicted, observed, images = (np.stack(arrays) for arrays in zip(*bins, strict=True))
    filled = images[:, 0].sum(axis=0) > 0
    value, low, high = _band(observed[:, :, filled])
    return {
        "class": name,
        "predicted": mean_where_defined(predicted[:, 0, filled], axis=0),
        "observed": value,
        "low": low,
        "high": high,
        "images": images[:, 0, filled].mean(axis=0),
    }


def _band(curves: Values) -> tuple[Values, Values, Values]:
    """Return mean and interval, point by point, of curves ``(S, 1 + B, G)``; where nothing varies, no width."""
    interval = interval_of_mean(curves[:, 0], curves[:, 1:])
    still = np.isnan(interval.low)
    low = np.where(still, interval.value, np.clip(interval.low, 0, 1))
    return interval.value, low, np.where(still, interval.value, np.clip(interval.high, 0, 1))
