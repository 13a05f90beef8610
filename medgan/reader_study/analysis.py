"""What a reader study has shown: numbers with their intervals, and the sentence that may be claimed.

Only readers who have answered every case count, and of repeated cases the first answer. Numbers of one reader hold for
other images; numbers of all readers hold for other images and other readers, and need at least three of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.core.saving import versions
from medgan.errors import DataError
from medgan.reader_study import statistics
from medgan.reader_study.folder import ReaderStudy, require_extra
from medgan.reader_study.statistics import Agreement, Pooled

if TYPE_CHECKING:
    from medgan.reader_study.statistics import Equivalence

__all__ = ["FEWEST_READERS", "Result", "StudyAnalysis", "analyze_study"]

FEWEST_READERS = 3
"""For numbers that are to hold for other readers."""

_FEWEST_OF_CLASS = 10  # images of each kind, for the area of a class
_FEWEST_REPEATS = 10  # of all readers together
_HURRIED_SECONDS = 1.0

ALL = "all readers"
"""Who a result is of, if it is of all."""


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        measure: What it is.
        who: A reader's name, or `ALL`.
        value: The number.
        low: Lower bound of its 95 % interval; NaN if there is none.
        high: Upper bound.
        count: Images, pairs or repeats that it is computed from.
        interval_for: What the interval holds for; "" if there is none.
    """

    measure: str
    who: str
    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    interval_for: str = ""


@dataclass(frozen=True)
class StudyAnalysis:
    """What was found.

    Attributes:
        study: The study.
        finished: Names of the readers who have answered all cases; only these count.
        primary: The mean area under the curve, or the mean share of correct pairs.
        equivalence: Its two one-sided tests; None with fewer than `FEWEST_READERS` readers.
        claim: What may be claimed: sentences; the first has the numbers.
        limits: What limits it.
        results: All numbers.
        judgements: From `ReaderStudy.judgements`, of all readers.
        facts: Where images and answers come from.
    """

    study: ReaderStudy
    finished: tuple[str, ...]
    primary: Pooled
    equivalence: Equivalence | None
    claim: tuple[str, ...]
    limits: tuple[str, ...]
    results: tuple[Result, ...]
    judgements: pd.DataFrame = field(repr=False)
    facts: dict[str, str] = field(default_factory=dict)

    def of(self, measure: str, who: str = ALL) -> Result | None:
        """Return one of the results; None if it could not be computed."""
        return next((each for each in self.results if (each.measure, each.who) == (measure, who)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return what is true of all readers as plain JSON values, for model cards; None where there is no number."""
        results = [
            {name: None if value != value else value for name, value in vars(each).items()}  # NaN is no JSON
            for each in self.results
            if each.who == ALL
        ]
        return {
            "readers": len(self.finished),
            "claim": list(self.claim),
            "limits": list(self.limits),
            "results": results,
            "facts": dict(self.facts),
        }

    def table(self) -> pd.DataFrame:
        """Return the results as a table, one row a number."""
        columns = ("measure", "who", "value", "low", "high", "count", "interval_for")
        return pd.DataFrame([[getattr(each, name) for name in columns] for each in self.results], columns=list(columns))


def analyze_study(study: ReaderStudy, database: str | None = None, *, key: Path | None = None) -> StudyAnalysis:
    """Analyse a study.

    Args:
        study: The study.
        database: SQLAlchemy address of the answers; None for the study's own file.
        key: The key, if it is kept elsewhere.

    Raises:
        ConfigError: If the extra ``study`` is not installed.
        DataError: If no reader has finished, or key or answers cannot be read.
    """
    require_extra()
    from medgan.reader_study.store import AnswerStore

    table = study.judgements(database, key=key)
    key_facts = study.read_key(key)
    with AnswerStore.open(study, database) as store:
        consents = store.consents()
    counted = table.groupby("reader")["position"].nunique()
    done = {reader.name: int(counted.get(reader.name, 0)) for reader in study.readers}
    total = {reader.name: len(reader.presentations) for reader in study.readers}
    finished = tuple(name for name in done if done[name] == total[name])
    missing = [f"{name} has answered {done[name]} of {total[name]}" for name in done if name not in finished]
    if not finished:
        raise DataError(
            f"No reader has answered all cases, so that no number can be given: {'; '.join(missing)}. Let readers "
            "finish first; their links go on where they were."
        )
    used = table[table["reader"].isin(finished)]
    answers = _Answers(study, used, finished)
    limits = list(_limits(study, used, answers, missing, consents, key_facts))
    results: list[Result] = []
    primary = _primary(answers, results)
    equivalence = None
    if len(finished) >= FEWEST_READERS:
        equivalence = statistics.equivalence(primary, 0.5, margin=study.config.margin)
    _secondary(answers, results)
    return StudyAnalysis(
        study=study,
        finished=finished,
        primary=primary,
        equivalence=equivalence,
        claim=tuple(_claim(study, primary, equivalence, answers)),
        limits=tuple(limits),
        results=tuple(results),
        judgements=table,
        facts=_facts(study, key_facts, used),
    )


class _Answers:
    """The answers of those who have finished, as arrays: one row a reader, one column a case, in the study's order."""

    def __init__(self, study: ReaderStudy, table: pd.DataFrame, readers: Sequence[str]) -> None:
        self.study = study
        self.readers = list(readers)
        self.forced = study.config.mode == "forced-choice"
        # Of a pair the row of the synthetic image says all: whether the reader took it for synthetic.
        self.rows = table[table["kind"] == "synthetic"] if self.forced else table
        self.first = self.rows[~self.rows["repeat"]]
        cases = self.first.drop_duplicates("case").set_index("case").sort_index()
        self.synthetic = (cases["kind"] == "synthetic").to_numpy()
        self.labels = cases["label"].to_numpy()
        self.count = len(cases)

    def matrix(self, column: str, *, repeat: bool | None = None) -> NDArray[np.float64]:
        """Return a column as ``(readers, cases)``; of the repeated cases alone, their first or second time."""
        rows = self.first
        if repeat is not None:
            twice = set(self.rows.loc[self.rows["repeat"], "case"])
            rows = self.rows[(self.rows["repeat"] == repeat) & self.rows["case"].isin(twice)]
        wide = rows.pivot(index="reader", columns="case", values=column).loc[self.readers]
        return wide.sort_index(axis=1).to_numpy(dtype=np.float64, na_value=np.nan)

    @property
    def correct(self) -> NDArray[np.float64]:
        """1 where a reader was right, ½ where unsure."""
        said = np.nan_to_num(self.matrix("said_synthetic"), nan=0.5)
        return said if self.forced else np.where(self.synthetic, said, 1 - said)


def _pool(values: Any, covariance: Any, bounds: tuple[float, float] | None = None) -> Pooled:
    """Return a mean over readers; without interval where there are too few for one."""
    pooled = statistics.pool_readers(values, covariance, bounds=bounds)
    if pooled.readers >= FEWEST_READERS:
        return pooled
    nothing = math.nan
    return Pooled(pooled.value, nothing, nothing, nothing, nothing, pooled.readers)


def _add_pooled(results: list[Result], measure: str, pooled: Pooled, count: int) -> None:
    """Add a mean over readers, if there are enough of them."""
    if pooled.readers >= FEWEST_READERS:
        holds = "" if math.isnan(pooled.low) else "other readers and images"
        results.append(Result(measure, ALL, pooled.value, pooled.low, pooled.high, count, holds))


def _primary(answers: _Answers, results: list[Result]) -> Pooled:
    """Add the primary measure, of each reader and of all."""
    count = answers.count
    if answers.forced:
        correct = answers.correct
        for name, row in zip(answers.readers, correct, strict=True):
            low, high = statistics.share_interval(int(row.sum()), count)
            results.append(Result("correct pairs", name, float(row.mean()), low, high, count, "other images"))
        primary = _pool(*statistics.mean_of_cases(correct), (0, 1))
        _add_pooled(results, "correct pairs", primary, count)
        return primary
    ratings = answers.matrix("confidence")
    areas, covariance = statistics.area_under_curve(ratings[:, ~answers.synthetic], ratings[:, answers.synthetic])
    for place, name in enumerate(answers.readers):
        low, high = statistics.area_interval(float(areas[place]), float(covariance[place, place]))
        holds = "" if math.isnan(low) else "other images"
        results.append(Result("area under the curve", name, float(areas[place]), low, high, count, holds))
    primary = _pool(areas, covariance, (0, 1))
    _add_pooled(results, "area under the curve", primary, count)
    return primary


def _secondary(answers: _Answers, results: list[Result]) -> None:
    """Add everything else."""
    if not answers.forced:
        _add_accuracy(answers, results)
        _add_classes(answers, results)
    _add_sensitivity(answers, results)
    _add_agreement(answers, results)
    if answers.study.config.realism:
        _add_realism(answers, results)
    if answers.study.config.diagnosis:
        _add_diagnosis(answers, results)
    _add_repeatability(answers, results)
    for name in answers.readers:
        seconds = answers.rows.loc[answers.rows["reader"] == name, "seconds"]
        results.append(Result("median seconds a case", name, float(seconds.median()), count=len(seconds)))


def _add_accuracy(answers: _Answers, results: list[Result]) -> None:
    """Add how many were called rightly, unsure answers counted half."""
    shares, covariance = statistics.mean_of_cases(answers.correct)
    for name, share in zip(answers.readers, shares, strict=True):
        results.append(Result("accuracy", name, float(share), count=answers.count))
    _add_pooled(results, "accuracy", _pool(shares, covariance, (0, 1)), answers.count)


def _add_classes(answers: _Answers, results: list[Result]) -> None:
    """Add the area of each class that has enough images."""
    ratings = answers.matrix("confidence")
    for name in answers.study.classes:
        mine = answers.labels == name
        real, synthetic = ratings[:, mine & ~answers.synthetic], ratings[:, mine & answers.synthetic]
        if min(real.shape[1], synthetic.shape[1]) >= _FEWEST_OF_CLASS and len(answers.study.classes) > 1:
            pooled = _pool(*statistics.area_under_curve(real, synthetic), (0, 1))
            _add_pooled(results, f"area under the curve, {name}", pooled, int(mine.sum()))


def _add_sensitivity(answers: _Answers, results: list[Result]) -> None:
    """Add d′ and bias: towards calling an image real; of pairs, towards the right side."""
    if answers.forced:
        left = [
            [shown.items[0] for shown in reader.presentations if not shown.repeat]
            for name in answers.readers
            for reader in answers.study.readers
            if reader.name == name
        ]
        order = [
            [shown.case for shown in reader.presentations if not shown.repeat]
            for name in answers.readers
            for reader in answers.study.readers
            if reader.name == name
        ]
        synthetic_items = set(answers.first["item"])
        signal = np.array(
            [
                [item in synthetic_items for _, item in sorted(zip(cases, items, strict=True))]
                for cases, items in zip(order, left, strict=True)
            ]
        )
        right = answers.correct == 1
        said = np.where(right, signal, ~signal).astype(np.float64)
        bias_name = "bias (above 0: towards the right side)"
    else:
        said = np.nan_to_num(answers.matrix("said_synthetic"), nan=0.5)
        signal, bias_name = answers.synthetic, "bias (above 0: towards real)"
    found = statistics.sensitivity_and_bias(said, signal, forced_choice=answers.forced)
    for measure, (values, covariance) in zip(("d′", bias_name), found, strict=True):
        for name, value in zip(answers.readers, values, strict=True):
            results.append(Result(measure, name, float(value), count=answers.count))
        _add_pooled(results, measure, _pool(values, covariance), answers.count)


def _add_agreement(answers: _Answers, results: list[Result]) -> None:
    """Add how much readers agree."""
    if len(answers.readers) < 2:
        return
    decisions = np.nan_to_num(answers.matrix("said_synthetic"), nan=0.5) * 2
    kappa = statistics.fleiss_kappa(decisions.astype(np.int64))
    what = "Fleiss’ κ of the choices" if answers.forced else "Fleiss’ κ of real, unsure and synthetic"
    _add_coefficient(results, what, kappa, answers.count, "other images, these readers")
    for column in ("confidence", "realism"):
        asked = not answers.forced and (column == "confidence" or answers.study.config.realism)
        if not asked or len(answers.readers) < FEWEST_READERS:
            continue
        single, mean = statistics.intraclass_correlation(answers.matrix(column))
        holds = "other readers and images"
        _add_coefficient(results, f"ICC(2,1) of {column}", single, answers.count, holds)
        _add_coefficient(results, f"ICC(2,k) of {column}", mean, answers.count, holds)


def _add_coefficient(results: list[Result], measure: str, found: Agreement, count: int, holds: str) -> None:
    """Add a coefficient, if it is defined."""
    if not math.isnan(found.value):
        interval = "" if math.isnan(found.low) else holds
        results.append(Result(measure, ALL, found.value, found.low, found.high, count, interval))


def _add_realism(answers: _Answers, results: list[Result]) -> None:
    """Add the realism of real and synthetic images, and the difference."""
    _add_contrast(results, answers, "realism", answers.matrix("realism"), bounds=(1, 5))


def _add_diagnosis(answers: _Answers, results: list[Result]) -> None:
    """Add how often the diagnosis was the label, of real and of synthetic images, and the difference."""
    rows = answers.first.assign(agrees=(answers.first["diagnosis"] == answers.first["label"]).astype(float))
    wide = rows.pivot(index="reader", columns="case", values="agrees").loc[answers.readers].sort_index(axis=1)
    _add_contrast(results, answers, "diagnosis agrees with the label", wide.to_numpy(np.float64), bounds=(0, 1))


def _add_contrast(
    results: list[Result], answers: _Answers, what: str, values: NDArray[np.float64], *, bounds: tuple[float, float]
) -> None:
    """Add means of real and of synthetic images, and their difference."""
    parts = [statistics.mean_of_cases(values[:, kind]) for kind in (~answers.synthetic, answers.synthetic)]
    for kind, (means, covariance) in zip(("real", "synthetic"), parts, strict=True):
        measure, count = f"{what}, {kind} images", int((answers.synthetic == (kind == "synthetic")).sum())
        for name, mean in zip(answers.readers, means, strict=True):
            results.append(Result(measure, name, float(mean), count=count))
        _add_pooled(results, measure, _pool(means, covariance, bounds), count)
    (real, of_real), (synthetic, of_synthetic) = parts
    difference = _pool(synthetic - real, of_synthetic + of_real)
    _add_pooled(results, f"{what}, synthetic less real", difference, answers.count)


def _add_repeatability(answers: _Answers, results: list[Result]) -> None:
    """Add how often readers said the same the second time, and the weighted κ of all of them together."""
    if not answers.rows["repeat"].any():
        return
    column = "said_synthetic" if answers.forced else "confidence"
    first, second = answers.matrix(column, repeat=False), answers.matrix(column, repeat=True)
    for place, name in enumerate(answers.readers):
        same = float((first[place] == second[place]).mean())
        results.append(Result("repeats answered alike", name, same, count=first.shape[1]))
        if not answers.forced:
            near = float((np.abs(first[place] - second[place]) <= 1).mean())
            results.append(Result("repeats within one point", name, near, count=first.shape[1]))
    if first.size >= _FEWEST_REPEATS:
        kappa = statistics.weighted_kappa(first, second)
        name = "κ of repeats" if answers.forced else "weighted κ of repeats"
        _add_coefficient(results, name, kappa, int(first.size), "other images, these readers")


# ------------------------------------------------------------------------------------------ sentences


def _limits(
    study: ReaderStudy,
    table: pd.DataFrame,
    answers: _Answers,
    missing: Sequence[str],
    consents: dict[str, str],
    key: dict[str, Any],
) -> Iterator[str]:
    """Say what limits the study."""
    number = len(answers.readers)
    if number < FEWEST_READERS:
        yield (
            f"{'Only one reader has' if number == 1 else f'Only {number} readers have'} answered all cases. Nothing "
            f"can be said about readers in general, nor whether the images can be told apart: that needs at least "
            f"{FEWEST_READERS}. Numbers below are of these readers alone."
        )
    if missing:
        yield (
            f"Left out, as answers are missing: {'; '.join(missing)}. If they stopped because of what they saw, those "
            "who finished are not like them."
        )
    for name in answers.readers:
        mine = table[table["reader"] == name]
        said = mine["said_synthetic"] if answers.forced else mine["confidence"]
        if not answers.forced and said.nunique() == 1:
            yield f"{name} gave the same answer to every image: an area of 0.5 that says nothing about the images."
        if float(mine["seconds"].median()) < _HURRIED_SECONDS:
            yield f"{name} took less than {_HURRIED_SECONDS:g} s for half of the cases."
        if name not in consents:
            yield f"There is no record that {name} agreed to take part."
    if answers.study.config.mode == "rating":
        small = [
            name
            for name in study.classes
            if len(study.classes) > 1
            and min(
                ((answers.labels == name) & answers.synthetic).sum(),
                ((answers.labels == name) & ~answers.synthetic).sum(),
            )
            < _FEWEST_OF_CLASS
        ]
        if small:
            yield f"Too few images for an area of their own: {', '.join(small)}."
    power = statistics.equivalence_power(
        readers=number,
        real=study.config.real_images,
        synthetic=0 if answers.forced else study.config.real_images,
        margin=study.config.margin,
    )
    if number >= FEWEST_READERS and power < 0.8:
        yield (
            f"With {number} readers and {answers.count} {'pairs' if answers.forced else 'images'} even pure guessing "
            f"would be shown to be within the margin of {study.config.margin:g} with a chance of {power:.0%} at most."
        )
    if key["trained_on"].get("whole_fingerprint") != key["real"].get("whole_fingerprint"):
        yield (
            "The real images are not of the data set that the model was trained on: a difference between hospitals or "
            "devices tells them apart, too."
        )


def _claim(study: ReaderStudy, primary: Pooled, equivalence: Equivalence | None, answers: _Answers) -> Iterator[str]:
    """Say what may be claimed."""
    images = f"{study.image['width']} × {study.image['height']} pixels"
    if answers.forced:
        what, seen = "share of pairs in which the synthetic image was found", f"{answers.count} pairs"
    else:
        half = int(answers.synthetic.sum())
        what, seen = "area under the ROC curve", f"{answers.count - half} real and {half} synthetic images"
    if equivalence is None:
        names = ", ".join(answers.readers)
        yield (
            f"Nothing may be claimed about whether readers can tell these images from real ones: {names} alone "
            f"{'has' if len(answers.readers) == 1 else 'have'} finished, and at least {FEWEST_READERS} readers are "
            "needed."
        )
        return
    if math.isnan(primary.error):
        yield (
            f"All {primary.readers} readers had the same {what}, {primary.value:.3f}, on {seen} ({images}). As nothing "
            "varies, it cannot be said how sure that is."
        )
        return
    margin = study.config.margin
    yield (
        f"The mean {what} of {primary.readers} readers was {primary.value:.3f} (95 % interval {primary.low:.3f} to "
        f"{primary.high:.3f}, for other readers and other images; {seen}, {images}); guessing gives 0.5."
    )
    within = f"{equivalence.low:.3f} to {equivalence.high:.3f}"
    tested = f"two one-sided tests, p {_p(equivalence.p_value)}; 90 % interval {within}"
    range_text = f"{0.5 - margin:.3g} to {0.5 + margin:.3g}"
    equivalent = equivalence.p_value < 0.05
    better, worse = primary.low > 0.5, primary.high < 0.5
    if equivalent and not (better or worse):
        yield (
            f"In this task readers cannot tell the synthetic images from real ones, within the margin of {range_text} "
            f"that was set beforehand ({tested})."
        )
    elif equivalent:
        yield (
            f"Readers tell them apart {'better' if better else 'worse'} than by guessing (p "
            f"{_p(primary.p_value(0.5))}), but by less than the margin of {range_text} that was set beforehand "
            f"({tested})."
        )
    elif better:
        yield f"Readers can tell the synthetic images from real ones (p {_p(primary.p_value(0.5))})."
    elif worse:
        yield (
            f"Readers see a difference, but take it for the opposite: they call synthetic images real more often than "
            f"real ones (p {_p(primary.p_value(0.5))}). Told what to look for, they may tell them apart."
        )
    else:
        yield (
            f"Neither is shown: that readers can tell them apart (p {_p(primary.p_value(0.5))}), or that they cannot, "
            f"within the margin of {range_text} that was set beforehand ({tested}). That a difference is not "
            "significant does not show that there is none."
        )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _facts(study: ReaderStudy, key: dict[str, Any], table: pd.DataFrame) -> dict[str, str]:
    """Return where images and answers come from."""
    model, real = key["model"], key["real"]
    revised = int((table["attempts"] > 1).sum()) // study.config.images_per_case
    return {
        "study": study.id,
        "drawn": study.created,
        "design, sha256": study.design_sha256,
        "seed": str(key["seed"]),
        "model": f"{model['name']} ({model['architecture']})",
        "weights_sha256": str(model["weights_sha256"]),
        "trained on": f"{key['trained_on'].get('name')}, {key['trained_on'].get('images')} images",
        "truncation": f"{key['truncation']:g}",
        "real images": f"{real['name']}, one a patient, drawn from {real['images']:,} images",
        "answers": f"{table['answered_at'].min()} to {table['answered_at'].max()}",
        "answers changed": str(revised),
        "margin": f"{study.config.margin:g}",
        **{f"version of {name}": value for name, value in versions().items()},
    }
