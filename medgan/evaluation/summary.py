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
    ``baseline``, ``primary`` (name of a score), ``margin``, ``confidence`` (0.95), ``replicates``, ``band_replicates``
    (at most that many draws for curves and subgroups), ``seed``, ``bins`` (of the calibration) and ``small_group``
    (patients below which a subgroup is small).
``facts``
    The study's own facts, unchanged.
``scores``
    What the scores are, in the order of a table: ``{name: {"title", "better", "definition"}}``; better is ``higher``,
    ``lower`` or ``one`` (the slope, best at 1). The names are ``auroc``, ``auprc``, ``balanced_accuracy``,
    ``accuracy``, ``sensitivity``, ``specificity``, ``precision``, ``f1``, ``brier``, ``calibration_error`` and
    ``calibration_slope``.
``cohorts``
    ``{"test": ..., "validation": ...}``, each ``{"images", "patients", "unit", "unknown_patients", "classes":
    [{"class", "images", "patients"}]}``; of a finding, the images and patients that have it, and as ``"unknown"`` the
    images of which that is not known (0 for classes). Of ``unknown_patients`` images it is not known who they are of,
    and each file counts as a patient; ``unit`` is ``file`` where that is all of them, else ``patient``.
``results``
    One entry an arm and fraction, in the order of the runs:

    ``arm``, ``title``, ``fraction``
        Which; the title is ``facts["titles"][arm]`` of the study, or the name.
    ``seeds``
        The seeds, in the order of the runs.
    ``counts``
        ``real_images``, ``synthetic_images`` and ``real_patients``: mean over the runs, None where not told.
    ``scores``
        ``{name: estimate}``. An **estimate** is ``{"value", "low", "high", "undefined_share"}``: mean over the seeds,
        its 95 % interval, and the share of replicates that had no value, such as an AUROC without a positive image of
        one of the classes.
        Each of the first three is None where it is undefined; an interval is, too, where no replicate differs from
        another.
    ``per_class``
        ``{class: {name: estimate}}``, each class against all others; of a binary problem both classes.
    ``confusion``
        One entry, or for findings one each: ``{"class", "labels", "counts", "shares"}``. Rows are the truth, columns
        the prediction, both in the order of ``labels``. Counts are summed over the seeds; shares are the mean over the
        seeds of each row divided by its sum, None in a row without images. ``class`` is the finding, else None; the
        labels of a finding are ``["absent", "present"]``.
    ``curves``
        ``{"roc": [...], "precision_recall": [...], "calibration": [...]}``. Each has one entry a class (only the
        positive one if binary), and before these, of several classes, their mean with ``"class": None`` (not for the
        calibration). ROC: ``{"class", "false_positive_rate", "sensitivity", "low", "high"}``, precision and recall:
        ``{"class", "recall", "precision", "low", "high"}``, lists of 101 points, mean over the seeds at a fixed rate,
        with a 95 % interval point by point. Calibration: ``{"class", "predicted", "observed", "low", "high",
        "images"}``, mean probability, share of positives and mean number of images by bin; bins that are empty for
        every seed are left out.
    ``runs``
        One entry a seed: ``{"seed", "thresholds", "scores": {name: value}, "history", "facts"}``. Thresholds is one
        number if binary, one a finding if multilabel, and empty otherwise; history is rows of ``step``,
        ``training_loss`` and ``validation_loss``: the learning curves.
``floor``
    What needs no image: ``{"class", "scores": {name: estimate}}``, every image getting the shares of the classes in the
    validation cohort as its probabilities, and so the commonest class (named; None for findings) as its prediction.
``comparisons``
    One entry an arm and reference: ``{"arm", "title", "reference", "reference_title", "fraction", "reference_fraction",
    "seeds", "scores", "noninferiority", "sentences"}``. ``seeds`` are those that both have. ``scores`` is ``{name:
    {"value", "low", "high", "p", "p_holm", "undefined_share"}}``: arm minus reference on the same patients and seeds,
    the 95 % interval, the two-sided p-value and the one corrected by Holm's method over the comparisons of this list. A
    positive difference is good or bad as ``better`` says. ``noninferiority`` is ``{"margin", "outcome"}`` for the
    primary score; the outcome is ``noninferior``, ``inferior``, ``not_shown`` or ``undefined``. ``sentences`` are what
    may be claimed of the primary score.
``verdict``
    ``{"sentences", "notes"}``: the sentences of all comparisons in their order, and what a reader must know with them.
``subgroups``
    ``columns``
        One entry a property of the images: ``{"column", "numeric", "groups": [{"group", "images", "patients",
        "small"}], "results": [...]}``; a result is ``{"arm", "title", "fraction", "groups": {group: {name:
        estimate}}, "worst": {"group", "score", "value", "low", "high"} or None}``, for every arm at its largest
        fraction. The worst group is that with the lowest AUROC among those that are not small. Images of which the
        property is unknown are the group ``unknown``, which is never the worst. A column is numeric if all known values
        are numbers and there are more than 6 of them: ``age`` is then cut at 18, 40, 60 and 80, others at their
        quartiles.
    ``worst``
        The worst over all columns, one entry an arm that has one: ``{"arm", "title", "fraction", "column", "group",
        "score", "value", "low", "high"}``.
    ``left_out``
        ``[{"column", "reason"}]``, for columns of which no groups could be made.
``on_synthetic``
    One entry an arm and fraction whose classifiers judged the study's synthetic cohort (trained on real, tested on
    synthetic): ``{"arm", "title", "fraction", "images", "scores"}``. Low scores there mean images that do not show what
    their labels say, or that look like nothing in the real ones. Every file counts as a patient.
``fractions``
    One entry an arm that has several: ``{"arm", "title", "score", "points"}``; a point is ``{"fraction", "counts",
    "value", "low", "high", "difference"}``, of the primary score. The difference is from the baseline at the same
    fraction, ``{"value", "low", "high"}``, or None; it is not corrected for the number of fractions.
``flips``
    One entry a comparison: ``{"arm", "title", "reference", "reference_title", "fraction", "reference_fraction",
    "judged", "changed", "mended", "broken", "images_mended", "images_broken"}``. Judged are the test images (for
    findings, the known image-finding pairs), changed those whose prediction by the majority of the seeds differs
    between the two; mended are those that only the arm has right, broken those that only the reference has right; the
    rest of changed is wrong in both. The lists hold up to 24 images each, those whose probability moved the furthest
    first: ``{"file", "patient", "truth", "predicted", "predicted_reference", "of", "probability",
    "probability_reference"}``. The probabilities are means over the seeds, of the class ``of``: the positive one, if
    binary; the truth, of several classes; the finding, of findings, whose ``truth`` and predictions are ``present`` or
    ``absent``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.core.spec import LabelSpec
from medgan.errors import ConfigError, DataError, nearest
from medgan.evaluation.claims import Compared, sentences_of
from medgan.evaluation.curves import curves_with_bands
from medgan.evaluation.intervals import (
    CONFIDENCE,
    Interval,
    holm,
    interval_of_difference,
    interval_of_mean,
    patient_draws,
)
from medgan.evaluation.records import ClassifierRun, Cohort, Study
from medgan.evaluation.scores import (
    BINS,
    SCORES,
    ProblemKind,
    choose_thresholds,
    confusion_matrices,
    mean_where_defined,
    predict,
    problem_kind,
    score_table,
)
from medgan.evaluation.subgroups import SMALL_GROUP, UNKNOWN, groups_of

__all__ = ["summarise", "summarise_runs"]

_BAND_REPLICATES = 500  # the spread of curves and subgroups is known well enough from fewer draws
_FLIPS = 24  # images in a list
_PRESENCE = ("absent", "present")
_COUNTS = ("real_images", "synthetic_images", "real_patients")

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Arm:
    """The runs of an arm and fraction, with their scores on the test cohort, rows by seed."""

    name: str
    title: str
    fraction: float
    runs: list[ClassifierRun]
    thresholds: list[Values]
    values: dict[str, Values]
    replicates: dict[str, Values]

    def named(self) -> str:
        """Return the title, with the share of the real patients where it is not all of them."""
        return self.title if self.fraction == 1 else f"{self.title}, {self.fraction:.3g} of the real patients"

    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    def of_seeds(self, seeds: Sequence[int], score: str) -> tuple[Values, Values]:
        """Return values and replicates of a score for some of the seeds."""
        rows = [self.seeds().index(seed) for seed in seeds]
        return self.values[score][rows], self.replicates[score][rows]


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
    """Return the numbers of a study as plain JSON values; the module's text describes every key.

    Args:
        study: All runs; every arm that is compared with another has a seed in common with it.
        baseline: Name of the arm that others are compared with.
        comparisons: Pairs of an arm and its reference, chosen before the study, for which p-values are corrected; every
            other arm against the baseline by default. Each is made at the largest fraction that both have, or, if they
            have none in common, at the largest of each.
        margin: Loss of the primary score that would be accepted for non-inferiority, chosen before the study.
        replicates: Draws of patients.
        seed: Chooses them.
        primary: Name of the score of which something is claimed.

    Returns:
        The summary. Thresholds are chosen for each run on its validation probabilities.

    Raises:
        ConfigError: If an arm, a score or the margin is unfit.
        DataError: If runs do not fit the cohorts or each other.
    """
    kind = problem_kind(study.labels)
    if primary not in SCORES:
        raise ConfigError(f"The primary score {primary!r} is unknown. {nearest(primary, SCORES)}")
    if SCORES[primary].better == "one":
        raise ConfigError(f"The primary score cannot be {primary!r}, of which more is neither better nor worse.")
    if not 0 < margin < math.inf:
        raise ConfigError(f"The margin is {margin:g}, expected above 0, for example 0.02.")
    _check_runs(study)
    titles = study.facts.get("titles") or {}
    weights = patient_draws(study.test.patients, replicates=replicates, seed=seed)
    notes = _notes(study, kind)

    arms: list[_Arm] = []
    results = []
    groups: dict[tuple[str, float], list[ClassifierRun]] = {}
    for run in study.runs:
        groups.setdefault((run.arm, run.fraction), []).append(run)
    for (name, fraction), runs in groups.items():
        thresholds = [choose_thresholds(study.validation.labels, run.validation, kind=kind) for run in runs]
        block, values, drawn = _judge(
            study.test.labels, [run.test for run in runs], thresholds, spec=study.labels, weights=weights
        )
        arm = _Arm(name, str(titles.get(name, name)), fraction, runs, thresholds, values, drawn)
        arms.append(arm)
        results.append(_result(arm, block))
    pairs = _comparison_pairs(arms, baseline, comparisons)
    compared = _compare(pairs, primary=primary, margin=margin, cohort=study.test)
    if compared:
        notes.append(
            f"Non-inferior is said with the margin of {margin:g}, which counts if it was chosen before the study."
        )
    if len(compared) > 1:
        notes.append(
            "Non-inferiority is judged for each comparison by itself, without a correction for their number: claim it "
            "of the one that was named beforehand."
        )
    summary = {
        "format": 1,
        "kind": kind,
        "classes": list(study.labels.names),
        "positive": study.labels.names[1] if kind == "binary" else None,
        "settings": {
            "baseline": baseline,
            "primary": primary,
            "margin": margin,
            "confidence": CONFIDENCE,
            "replicates": replicates,
            "band_replicates": min(replicates, _BAND_REPLICATES),
            "seed": seed,
            "bins": BINS,
            "small_group": SMALL_GROUP,
        },
        "facts": study.facts,
        "scores": {name: score._asdict() for name, score in SCORES.items()},
        "cohorts": {
            "test": _cohort_facts(study.test, study.labels, kind),
            "validation": _cohort_facts(study.validation, study.labels, kind),
        },
        "results": results,
        "floor": _floor(study, kind, weights),
        "comparisons": compared,
        "verdict": {"sentences": [text for entry in compared for text in entry["sentences"]], "notes": notes},
        "subgroups": _subgroups(study, arms, weights[:_BAND_REPLICATES], kind),
        "on_synthetic": _on_synthetic(study, arms, replicates, seed),
        "fractions": _fractions(arms, baseline, primary),
        "flips": [_flips(study, arm, reference, kind) for arm, reference in pairs],
    }
    plain: dict[str, Any] = _plain(summary)
    return plain


def summarise_runs(
    labels: ArrayLike,
    patients: ArrayLike,
    *,
    spec: LabelSpec,
    probabilities: Sequence[ArrayLike],
    thresholds: Sequence[ArrayLike],
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the scores of runs on any cohort, such as those of classifiers of real images on synthetic ones.

    Args:
        labels: Truth, ``(N,)`` class indices or ``(N, K)`` of 0, 1 and NaN for findings.
        patients: ``(N,)``, who each image is of; names of the files where each is its own, as synthetic ones are.
        spec: What the labels mean.
        probabilities: ``(N, K)`` for each seed.
        thresholds: For each seed, as `medgan.evaluation.scores.choose_thresholds` returns them.
        replicates: Draws of patients.
        seed: Chooses them.

    Returns:
        The keys ``scores``, ``per_class``, ``confusion`` and ``curves`` of an entry of ``results``, in plain JSON
        values.

    Raises:
        ConfigError: If the number of thresholds is unfit.
        DataError: If shapes do not fit or a number is unfit.
    """
    if not probabilities or len(probabilities) != len(thresholds):
        raise DataError(
            f"There are probabilities of {len(probabilities)} seeds and thresholds of {len(thresholds)}, expected one "
            "or more, and as many."
        )
    weights = patient_draws(patients, replicates=replicates, seed=seed)
    block, _, _ = _judge(np.asarray(labels), probabilities, thresholds, spec=spec, weights=weights)
    plain: dict[str, Any] = _plain(block)
    return plain


# ------------------------------------------------------------------------------------------- an arm and a fraction


def _judge(
    labels: NDArray[Any],
    probabilities: Sequence[ArrayLike],
    thresholds: Sequence[ArrayLike],
    *,
    spec: LabelSpec,
    weights: Values,
) -> tuple[dict[str, Any], dict[str, Values], dict[str, Values]]:
    """Return a block of the summary, and the values ``(S,)`` and replicates ``(S, B)`` of every score."""
    kind = problem_kind(spec)
    arrays = [np.asarray(array, np.float64) for array in probabilities]
    pairs = list(zip(arrays, thresholds, strict=True))
    exact = [score_table(labels, p, kind=kind, thresholds=limits) for p, limits in pairs]
    drawn = [score_table(labels, p, kind=kind, thresholds=limits, weights=weights) for p, limits in pairs]
    values = {name: np.concatenate([table.overall[name] for table in exact]) for name in SCORES}
    replicates = {name: np.stack([table.overall[name] for table in drawn]) for name in SCORES}
    of_class = {
        name: interval_of_mean(
            np.concatenate([table.per_class[name] for table in exact]),
            np.stack([table.per_class[name] for table in drawn]),
            bounds=_bounds(name),
        )
        for name in SCORES
    }
    predictions = [predict(p, kind=kind, thresholds=limits) for p, limits in pairs]
    block = {
        "scores": _estimates(values, replicates),
        "per_class": {
            label: {name: _estimate(interval, column) for name, interval in of_class.items()}
            for column, label in enumerate(spec.names)
        },
        "confusion": _confusion(labels, predictions, spec, kind),
        "curves": curves_with_bands(labels, arrays, spec=spec, kind=kind, weights=weights[:_BAND_REPLICATES]),
    }
    return block, values, replicates


def _bounds(score: str) -> tuple[float, float] | None:
    """Return between which numbers a score lies."""
    return None if SCORES[score].better == "one" else (0.0, 1.0)


def _estimates(values: Mapping[str, Values], replicates: Mapping[str, Values]) -> dict[str, Any]:
    """Return an estimate of every score."""
    return {name: _estimate(interval_of_mean(values[name], replicates[name], bounds=_bounds(name))) for name in SCORES}


def _estimate(interval: Interval, place: int | tuple[()] = ()) -> dict[str, Any]:
    """Return one of the intervals as an entry of the summary."""
    return {
        "value": interval.value[place],
        "low": interval.low[place],
        "high": interval.high[place],
        "undefined_share": interval.undefined_share[place],
    }


def _on_synthetic(study: Study, arms: Sequence[_Arm], replicates: int, seed: int) -> list[dict[str, Any]]:
    """Return the scores of real-trained classifiers on synthetic images."""
    cohort = study.synthetic
    if cohort is None:
        return []
    entries = []
    for arm in arms:
        asked = [
            (run, limits) for run, limits in zip(arm.runs, arm.thresholds, strict=True) if run.synthetic is not None
        ]
        if not asked:
            continue
        block = summarise_runs(
            cohort.labels,
            cohort.patients,
            spec=study.labels,
            probabilities=[run.synthetic for run, _ in asked if run.synthetic is not None],
            thresholds=[limits for _, limits in asked],
            replicates=replicates,
            seed=seed,
        )
        names = {"arm": arm.name, "title": arm.title, "fraction": arm.fraction}
        entries.append({**names, "images": len(cohort), "scores": block["scores"]})
    return entries


def _result(arm: _Arm, block: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the results."""
    return {
        "arm": arm.name,
        "title": arm.title,
        "fraction": arm.fraction,
        "seeds": arm.seeds(),
        "counts": _counts(arm),
        **block,
        "runs": [
            {
                "seed": run.seed,
                "thresholds": limits,
                "scores": {name: values[row] for name, values in arm.values.items()},
                "history": run.history,
                "facts": run.facts,
            }
            for row, (run, limits) in enumerate(zip(arm.runs, arm.thresholds, strict=True))
        ],
    }


def _counts(arm: _Arm) -> dict[str, float | None]:
    """Return the mean counts of what the runs were trained with."""
    told = {name: [run.facts[name] for run in arm.runs if run.facts.get(name) is not None] for name in _COUNTS}
    return {name: float(np.mean(values)) if values else None for name, values in told.items()}


def _confusion(
    labels: NDArray[Any], predictions: Sequence[NDArray[np.int64]], spec: LabelSpec, kind: ProblemKind
) -> list[dict[str, Any]]:
    """Return confusion matrices, summed and as shares of their rows."""
    if kind != "multilabel":
        tables = np.concatenate([confusion_matrices(labels, found, classes=len(spec)) for found in predictions])
        return [{"class": None, "labels": list(spec.names), **_counts_and_shares(tables)}]
    entries = []
    for column, name in enumerate(spec.names):
        known = ~np.isnan(labels[:, column])
        tables = np.concatenate(
            [confusion_matrices(labels[known, column], found[known, column], classes=2) for found in predictions]
        )
        entries.append({"class": name, "labels": list(_PRESENCE), **_counts_and_shares(tables)})
    return entries


def _counts_and_shares(tables: Values) -> dict[str, Any]:
    """Return the sum of confusion matrices ``(S, K, K)`` and the mean of their shares."""
    rows = tables.sum(axis=2, keepdims=True)
    shares = np.divide(tables, rows, out=np.full(tables.shape, np.nan), where=rows > 0)
    return {"counts": np.rint(tables.sum(axis=0)).astype(np.int64), "shares": shares.mean(axis=0)}


# ---------------------------------------------------------------------------------------------------- comparisons


def _comparison_pairs(
    arms: Sequence[_Arm], baseline: str, comparisons: Sequence[tuple[str, str]] | None
) -> list[tuple[_Arm, _Arm]]:
    """Return which arms to compare, each at the fraction at which it is done."""
    names = list(dict.fromkeys(arm.name for arm in arms))
    if baseline not in names:
        raise ConfigError(f"The baseline {baseline!r} is not an arm of the study. {nearest(baseline, names)}")
    chosen = [(name, baseline) for name in names if name != baseline] if comparisons is None else list(comparisons)
    pairs = []
    for name, reference in chosen:
        for given in (name, reference):
            if given not in names:
                raise ConfigError(f"The arm {given!r} of a comparison is not in the study. {nearest(given, names)}")
        if name == reference:
            raise ConfigError(f"The arm {name!r} is to be compared with itself. Name two arms.")
        ours = {arm.fraction: arm for arm in arms if arm.name == name}
        theirs = {arm.fraction: arm for arm in arms if arm.name == reference}
        common = ours.keys() & theirs.keys()
        pairs.append((ours[max(common or ours)], theirs[max(common or theirs)]))
    return pairs


def _common_seeds(arm: _Arm, reference: _Arm) -> list[int]:
    """Return the seeds that both have."""
    seeds = [seed for seed in arm.seeds() if seed in reference.seeds()]
    if not seeds:
        raise DataError(
            f"The arms {arm.name!r} (seeds {arm.seeds()}) and {reference.name!r} (seeds {reference.seeds()}) have no "
            "seed in common, and cannot be compared in pairs. Run both with the same seeds."
        )
    return seeds


def _compare(
    pairs: Sequence[tuple[_Arm, _Arm]], *, primary: str, margin: float, cohort: Cohort
) -> list[dict[str, Any]]:
    """Return the comparisons, with p-values corrected for their number, score by score."""
    seeds = [_common_seeds(arm, reference) for arm, reference in pairs]
    scores: list[dict[str, Any]] = [{} for _ in pairs]
    for name in SCORES:
        differences = [
            interval_of_difference(
                arm.of_seeds(common, name),
                reference.of_seeds(common, name),
                width=None if _bounds(name) is None else 1.0,
            )
            for (arm, reference), common in zip(pairs, seeds, strict=True)
        ]
        corrected = holm([float(difference.p_value) for difference in differences])
        for entry, difference, p_holm in zip(scores, differences, corrected, strict=True):
            entry[name] = {**_estimate(difference), "p": difference.p_value, "p_holm": p_holm}
    entries = []
    for (arm, reference), common, of_pair in zip(pairs, seeds, scores, strict=True):
        main = of_pair[primary]
        ours, theirs = arm.of_seeds(common, primary)[0], reference.of_seeds(common, primary)[0]
        both = ~np.isnan(ours - theirs)
        compared = Compared(
            arm=arm.named(),
            reference=reference.named(),
            score=SCORES[primary].title,
            value=float(mean_where_defined(ours[both], axis=0)),
            reference_value=float(mean_where_defined(theirs[both], axis=0)),
            difference=float(main["value"]),
            low=float(main["low"]),
            high=float(main["high"]),
            p_holm=float(main["p_holm"]),
            comparisons=len(pairs),
            higher_is_better=SCORES[primary].better == "higher",
            seeds=int(both.sum()),
            patients=len(np.unique(cohort.patients)),
            unit=cohort.unit,
        )
        entries.append(
            {
                **_names_of(arm, reference),
                "seeds": common,
                "scores": of_pair,
                "noninferiority": {"margin": margin, "outcome": compared.outcome(margin)},
                "sentences": sentences_of(compared, margin=margin),
            }
        )
    return entries


def _names_of(arm: _Arm, reference: _Arm) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "title": arm.title,
        "reference": reference.name,
        "reference_title": reference.title,
        "fraction": arm.fraction,
        "reference_fraction": reference.fraction,
    }


def _fractions(arms: Sequence[_Arm], baseline: str, primary: str) -> list[dict[str, Any]]:
    """Return the primary score by the fraction of real patients, for arms that have several."""
    references = {arm.fraction: arm for arm in arms if arm.name == baseline}
    entries = []
    for name in dict.fromkeys(arm.name for arm in arms):
        own = sorted((arm for arm in arms if arm.name == name), key=lambda arm: arm.fraction)
        if len(own) < 2:
            continue
        points = []
        for arm in own:
            estimate = _estimate(
                interval_of_mean(arm.values[primary], arm.replicates[primary], bounds=_bounds(primary))
            )
            reference = references.get(arm.fraction)
            difference = None
            if reference is not None and name != baseline:
                common = _common_seeds(arm, reference)
                full = interval_of_difference(
                    arm.of_seeds(common, primary), reference.of_seeds(common, primary), width=1.0
                )
                difference = {key: _estimate(full)[key] for key in ("value", "low", "high")}
            shown = {key: estimate[key] for key in ("value", "low", "high")}
            points.append({"fraction": arm.fraction, "counts": _counts(arm), **shown, "difference": difference})
        entries.append({"arm": name, "title": own[0].title, "score": primary, "points": points})
    return entries


# ------------------------------------------------------------------------------------------------------ the cohort


def _check_runs(study: Study) -> None:
    """Check that runs fit the cohorts and do not repeat each other."""
    if not study.runs:
        raise DataError("The study has no runs.")
    seen = set()
    for run in study.runs:
        what = f"The run of {run.arm!r}, fraction {run.fraction:g}, seed {run.seed}"
        if (run.arm, run.fraction, run.seed) in seen:
            raise DataError(f"{what} is there twice. Keep one.")
        seen.add((run.arm, run.fraction, run.seed))
        for part, array, cohort in (
            ("validation", run.validation, study.validation),
            ("test", run.test, study.test),
        ):
            expected = (len(cohort), len(study.labels))
            if array.shape != expected:
                raise DataError(f"{what} has {part} probabilities of the shape {array.shape}, expected {expected}.")


def _cohort_facts(cohort: Cohort, spec: LabelSpec, kind: ProblemKind) -> dict[str, Any]:
    """Return counts of images and patients."""
    classes = []
    for column, name in enumerate(spec.names):
        has = cohort.labels[:, column] == 1 if kind == "multilabel" else cohort.labels == column
        unknown = int(np.isnan(cohort.labels[:, column]).sum()) if kind == "multilabel" else 0
        patients = len(np.unique(cohort.patients[has]))
        classes.append({"class": name, "images": int(has.sum()), "patients": patients, "unknown": unknown})
    return {
        "images": len(cohort),
        "patients": len(np.unique(cohort.patients)),
        "unit": cohort.unit,
        "unknown_patients": cohort.unknown_patients,
        "classes": classes,
    }


def _floor(study: Study, kind: ProblemKind, weights: Values) -> dict[str, Any]:
    """Return the scores of always giving the shares of the classes in the validation cohort."""
    labels, classes = study.validation.labels, len(study.labels)
    if kind == "multilabel":
        known = ~np.isnan(labels)
        shares = np.where(known, labels, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    else:
        shares = np.bincount(labels, minlength=classes) / len(labels)
    probabilities = np.tile(shares, (len(study.test), 1))
    limits = np.full({"binary": 1, "multiclass": 0, "multilabel": classes}[kind], 0.5)
    exact = score_table(study.test.labels, probabilities, kind=kind, thresholds=limits)
    drawn = score_table(study.test.labels, probabilities, kind=kind, thresholds=limits, weights=weights)
    commonest = None
    if kind != "multilabel":
        commonest = study.labels.names[int(predict(probabilities[:1], kind=kind, thresholds=limits)[0])]
    replicates = {name: values[None] for name, values in drawn.overall.items()}
    return {"class": commonest, "scores": _estimates(exact.overall, replicates)}


def _notes(study: Study, kind: ProblemKind) -> list[str]:
    """Return what a reader must know with the verdict."""
    notes = [
        "Intervals and p-values hold for other test patients and other seeds of training; another draw of training or "
        "validation patients is not in them.",
        "Thresholds were chosen on the validation cohort."
        if kind != "multiclass"
        else "The class of the largest probability is predicted.",
        "The worst subgroup is the lowest of several; by chance alone the lowest is low.",
    ]
    models = len(study.facts.get("generators") or [])
    if models < 2 and any(run.facts.get("synthetic_images") for run in study.runs):
        notes.append("The generator is fixed: what another training of it would change is not in the intervals.")
    seeds = len({run.seed for run in study.runs})
    if seeds == 1:
        notes.append("There is one seed: what another seed would change is not in the intervals. Run at least 3.")
    if kind != "multiclass":
        labels = study.validation.labels
        columns = {study.labels.names[1]: labels}
        if kind == "multilabel":
            columns = {name: labels[:, column] for column, name in enumerate(study.labels.names)}
        missing = [name for name, truth in columns.items() if not ((truth == 1).any() and (truth == 0).any())]
        if missing:
            notes.append(
                f"Validation has not both kinds of images of {', '.join(missing)}; the threshold is 0.5 there."
            )
    return notes


# ------------------------------------------------------------------------------------------------------- subgroups


def _subgroups(study: Study, arms: Sequence[_Arm], weights: Values, kind: ProblemKind) -> dict[str, Any]:
    """Return scores by subgroup, for every arm at its largest fraction."""
    largest: dict[str, _Arm] = {}
    for arm in arms:
        if arm.name not in largest or arm.fraction > largest[arm.name].fraction:
            largest[arm.name] = arm
    columns: list[dict[str, Any]] = []
    left_out = []
    worst: dict[str, dict[str, Any]] = {}
    for column in study.test.subgroups.columns:
        divided = groups_of(study.test.subgroups[column], str(column))
        if isinstance(divided, str):
            left_out.append({"column": str(column), "reason": divided})
            continue
        members = divided.members
        patients = {group: len(np.unique(study.test.patients[inside])) for group, inside in members.items()}
        groups = [
            {
                "group": group,
                "images": int(inside.sum()),
                "patients": patients[group],
                "small": patients[group] < SMALL_GROUP,
            }
            for group, inside in members.items()
        ]
        eligible = [group for group in members if patients[group] >= SMALL_GROUP and group != UNKNOWN]
        results = []
        for arm in largest.values():
            scores = {group: _in_group(study, arm, inside, weights, kind) for group, inside in members.items()}
            defined = [group for group in eligible if not np.isnan(scores[group]["auroc"]["value"])]
            lowest = None
            if defined:
                group = min(defined, key=lambda name: float(scores[name]["auroc"]["value"]))
                shown = {key: scores[group]["auroc"][key] for key in ("value", "low", "high")}
                lowest = {"group": group, "score": "auroc", **shown}
                if arm.name not in worst or lowest["value"] < worst[arm.name]["value"]:
                    place = {"arm": arm.name, "title": arm.title, "fraction": arm.fraction, "column": str(column)}
                    worst[arm.name] = {**place, **lowest}
            results.append(
                {"arm": arm.name, "title": arm.title, "fraction": arm.fraction, "groups": scores, "worst": lowest}
            )
        columns.append({"column": str(column), "numeric": divided.numeric, "groups": groups, "results": results})
    return {"columns": columns, "worst": list(worst.values()), "left_out": left_out}


def _in_group(study: Study, arm: _Arm, inside: NDArray[np.bool_], weights: Values, kind: ProblemKind) -> dict[str, Any]:
    """Return the scores of an arm on some of the images."""
    labels, of_group = study.test.labels[inside], np.concatenate([np.ones((1, inside.sum())), weights[:, inside]])
    tables = [
        score_table(labels, run.test[inside], kind=kind, thresholds=limits, weights=of_group).overall
        for run, limits in zip(arm.runs, arm.thresholds, strict=True)
    ]
    stacked = {name: np.stack([table[name] for table in tables]) for name in SCORES}
    return _estimates(
        {name: values[:, 0] for name, values in stacked.items()},
        {name: values[:, 1:] for name, values in stacked.items()},
    )


# ----------------------------------------------------------------------------------------------------------- flips


def _flips(study: Study, arm: _Arm, reference: _Arm, kind: ProblemKind) -> dict[str, Any]:
    """Return the test images that two arms see differently."""
    labels, names, test = study.test.labels, study.labels.names, study.test
    common = _common_seeds(arm, reference)
    (ours, our_mean), (theirs, their_mean) = (_majority(side, common, kind) for side in (arm, reference))
    if kind == "multilabel":
        known = ~np.isnan(labels)
        rows, columns = np.nonzero(known)
        truth, found, found_before = labels[known].astype(np.int64), ours[known], theirs[known]
    else:
        rows = np.arange(len(labels))
        columns = np.ones(len(labels), np.int64) if kind == "binary" else labels
        truth, found, found_before = labels, ours, theirs
    words = _PRESENCE if kind == "multilabel" else names
    after, before = our_mean[rows, columns], their_mean[rows, columns]
    changed = found != found_before

    def furthest(chosen: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Return the entries whose probability moved the furthest."""
        places = np.flatnonzero(chosen)
        places = places[np.argsort(-np.abs(after - before)[places], kind="stable")][:_FLIPS]
        return [
            {
                "file": str(test.files[rows[place]]),
                "patient": str(test.patients[rows[place]]),
                "truth": words[truth[place]],
                "predicted": words[found[place]],
                "predicted_reference": words[found_before[place]],
                "of": names[columns[place]],
                "probability": after[place],
                "probability_reference": before[place],
            }
            for place in places
        ]

    mended, broken = changed & (found == truth), changed & (found_before == truth)
    return {
        **_names_of(arm, reference),
        "judged": len(truth),
        "changed": int(changed.sum()),
        "mended": int(mended.sum()),
        "broken": int(broken.sum()),
        "images_mended": furthest(mended),
        "images_broken": furthest(broken),
    }


def _majority(arm: _Arm, seeds: Sequence[int], kind: ProblemKind) -> tuple[NDArray[np.int64], Values]:
    """Return what most seeds predict, and the mean probabilities; these decide where the seeds are divided."""
    chosen = [(run, limits) for run, limits in zip(arm.runs, arm.thresholds, strict=True) if run.seed in seeds]
    probabilities = np.stack([run.test.astype(np.float64) for run, _ in chosen])
    mean: Values = probabilities.mean(axis=0)
    votes = np.stack([predict(run.test, kind=kind, thresholds=limits) for run, limits in chosen])
    if kind == "multiclass":
        counted = (votes[:, :, None] == np.arange(mean.shape[1])).sum(axis=0)
        return (counted + mean / 2).argmax(axis=1), mean
    limits = np.mean([limits for _, limits in chosen], axis=0)
    above = predict(mean, kind=kind, thresholds=limits)
    doubled = 2 * votes.sum(axis=0)
    return np.where(doubled == len(chosen), above, (doubled > len(chosen)).astype(np.int64)), mean


def _plain(value: Any) -> Any:
    """Return plain JSON values, with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
