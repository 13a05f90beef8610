"""A study as numbers: every score with its interval, comparisons of arms, and the sentences that may be claimed.

`summarise` returns plain JSON values; pages, tables and papers are made from them and from nothing else. Its keys:

``format``
    1.
``kind``
    ``binary``, ``multiclass`` or ``multilabel``.
``classes``
    Names of the classes, or of the findings, in their order.
``positive``
    Name of the positive class (the one of index 1) of a binary problem, else None.
``settings``
    ``baseline``, ``primary`` (name of a score), ``margin``, ``confidence`` (0.95), ``replicates``, ``seed``, ``bins`` (of
    the calibration) and ``small_group`` (patients below which a subgroup is small).
``facts``
    The study's own facts, unchanged.
``scores``
    What the scores are, in the order of a table: ``{name: {"title", "better", "definition"}}``; better is ``higher``,
    ``lower`` or ``one`` (the slope, best at 1). The names are ``auroc``, ``auprc``, ``balanced_accuracy``, ``accuracy``,
    ``sensitivity``, ``specificity``, ``precision``, ``f1``, ``brier``, ``calibration_error`` and ``calibration_slope``.
``cohorts``
    ``{"test": ..., "validation": ...}``, each ``{"images", "patients", "classes": [{"class", "images", "patients"}]}``;
    of a finding, the images and patients that have it, and as ``"unknown"`` the images of which that is not known (0 for
    classes).
``results``
    One entry an arm and fraction, in the order of the runs:

    ``arm``, ``title``, ``fraction``
        Which; the title is ``facts["titles"][arm]`` of the study, or the name.
    ``seeds``
        The seeds, in the order of the runs.
    ``counts``
        ``real_images``, ``synthetic_images`` and ``real_patients``: mean over the runs, None where not told.
    ``scores``
        ``{name: estimate}``. An **estimate** is ``{"value", "low", "high", "undefined_share"}``: mean over the seeds, its
        95 % interval, and the share of replicates that had no value, such as an AUROC without a positive image. Each of
        the first three is None where it is undefined; an interval is, too, where no replicate differs from another.
    ``per_class``
        ``{class: {name: estimate}}``, each class against all others; of a binary problem both classes.
    ``confusion``
        One entry, or for findings one each: ``{"class", "labels", "counts", "shares"}``. Rows are the truth, columns the
        prediction, both in the order of ``labels``. Counts are summed over the seeds; shares are the mean over the seeds
        of each row divided by its sum, None in a row without images. ``class`` is the finding, else None; the labels of
        a finding are ``["absent", "present"]``.
    ``curves``
        ``{"roc": [...], "precision_recall": [...], "calibration": [...]}``. Each has one entry a class (only the
        positive one if binary), and before these, of several classes, their mean with ``"class": None`` (not for the
        calibration). ROC: ``{"class", "false_positive_rate", "sensitivity", "low", "high"}``, precision and recall:
        ``{"class", "recall", "precision", "low", "high"}``, lists of 101 points, mean over the seeds at a fixed rate,
        with a 95 % interval point by point. Calibration: ``{"class", "predicted", "observed", "low", "high",
        "images"}``, mean probability, share of positives and mean number of images by bin; bins that are empty for
        every seed are left out.
    ``runs``
        One entry a seed: ``{"seed", "thresholds", "scores": {name: value}, "history", "facts"}``. Thresholds is one number
        if binary, one a finding if multilabel, and empty otherwise; history is rows of ``step``, ``training_loss`` and
        ``validation_loss``: the learning curves.
``floor``
    What needs no image: ``{"class", "scores": {name: estimate}}``, every image getting the shares of the classes in the
    validation cohort as its probabilities, and so the commonest class (named; None for findings) as its prediction.
``comparisons``
    One entry an arm and reference: ``{"arm", "title", "reference", "reference_title", "fraction", "reference_fraction",
    "seeds", "scores", "noninferiority", "sentences"}``. ``seeds`` are those that both have. ``scores`` is ``{name:
    {"value", "low", "high", "p", "p_holm", "undefined_share"}}``: arm minus reference on the same patients and seeds, the
    95 % interval, the two-sided p-value and the one corrected by Holm's method over the comparisons of this list. A
    positive difference is good or bad as ``better`` says. ``noninferiority`` is ``{"margin", "outcome"}`` for the primary
    score; the outcome is ``noninferior``, ``inferior``, ``not_shown`` or ``undefined``. ``sentences`` are what may be
    claimed of the primary score.
``verdict``
    ``{"sentences", "notes"}``: the sentences of all comparisons in their order, and what a reader must know with them.
``subgroups``
    ``columns``
        One entry a property of the images: ``{"column", "numeric", "groups": [{"group", "images", "patients",
        "small"}], "results": [...], }``; a result is ``{"arm", "title", "fraction", "groups": {group: {name:
        estimate}}, "worst": {"group", "score", "value", "low", "high"} or None}``, for every arm at its largest
        fraction. The worst group is that with the lowest AUROC among those that are not small. Images of which the
        property is unknown are the group ``unknown``, which is never the worst.
    ``worst``
        The worst over all columns, one entry an arm that has one: ``{"arm", "title", "fraction", "column", "group",
        "score", "value", "low", "high"}``.
    ``left_out``
        ``[{"column", "reason"}]``, for columns of which no groups could be made.
``fractions``
    One entry an arm that has several: ``{"arm", "title", "score", "points"}``; a point is ``{"fraction", "counts",
    "value", "low", "high", "difference"}``, of the primary score. The difference is from the baseline at the same
    fraction, ``{"value", "low", "high"}``, or None; it is not corrected for the number of fractions.
``flips``
    One entry a comparison: ``{"arm", "title", "reference", "reference_title", "fraction", "reference_fraction",
    "judged", "changed", "mended", "broken", "images_mended", "images_broken"}``. Judged are the test images (for findings,
    the known image-finding pairs), changed those whose prediction by the majority of the seeds differs between the two;
    mended are those that only the arm has right, broken those that only the reference has right; the rest of changed is
    wrong in both. The lists hold up to 24 images each, those whose probability moved the furthest first: ``{"file",
    "patient", "truth", "predicted", "predicted_reference", "of", "probability", "probability_reference"}``. The
    probabilities are means over the seeds, of the class ``of``: the positive one, if binary; the truth, of several
    classes; the finding, of findings, whose ``truth`` and predictions are ``present`` or ``absent``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medgan.evaluation.records import Study

__all__ = ["summarise"]


def summarise(
    study: Study,
    *,
    baseline: str = "real",
    comparisons: Sequence[tuple[str, str]] | None = None,
    margin: float = 0.02,
    replicates: int = 2000,
    seed: int = 0,
    primary: str = "auroc",
) -> dict[str, Any]:
    """Return the numbers of a study as plain JSON values; the module's text describes every key."""
    raise NotImplementedError
