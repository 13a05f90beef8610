"""Cross-validation of a whole study, with a generator of its own for each fold.

A generator that has seen the test patients makes every figure void, so each fold trains one anew, with the options of
an earlier run, on the patients of the other folds. Scores of folds depend on each other, as their training sets
overlap; intervals and tests use the correction of the variance by C. Nadeau and Y. Bengio, "Inference for the
Generalization Error", Machine Learning 52, 2003, doi:10.1023/A:1024068626366.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medgan.core.saving import write_aside
from medgan.data.splits import Splits, image_identities, make_folds, whole_unit
from medgan.errors import CheckpointError, ConfigError, DataError
from medgan.evaluation import DownstreamEvaluator, StudyConfig
from medgan.evaluation.intervals import holm
from medgan.models import Which, load_model
from medgan.pages import Note, Page, Section, Table, Text
from medgan.runs import Run, read_config, read_parts, reopen

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["CorrectedMean", "corrected_mean", "cross_validate"]

_VALIDATION = 0.1  # share of the patients of the other folds that choose weights and thresholds
_SCORES = ("auroc", "auprc", "balanced_accuracy", "brier")
_CONFIDENCE = 0.95


class CorrectedMean(NamedTuple):
    """Mean over folds, its 95 % interval, and the p-value of its being 0."""

    mean: float
    low: float
    high: float
    p: float


def corrected_mean(values: ArrayLike, *, test_share: float) -> CorrectedMean:
    """Return the mean over folds with the corrected resampled t-test.

    The variance of the mean is (1 / J + n_test / n_train) s², for J folds with the sample variance s², instead of
    s² / J.

    Args:
        values: One number a fold, ``(J,)``, J ≥ 2.
        test_share: n_test / n_train, such as 1 / 4 for five folds.

    Returns:
        The mean, its interval from Student's t with J - 1 degrees of freedom, and the two-sided p-value.

    Raises:
        DataError: If there are fewer than 2 values, or one is not finite.
    """
    from scipy.stats import t as student

    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise DataError(f"Finite scores of at least 2 folds are needed, got {numbers.tolist()}.")
    mean = float(numbers.mean())
    error = float(np.sqrt((1 / len(numbers) + test_share) * numbers.var(ddof=1)))
    if error == 0:
        return CorrectedMean(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    freedom = len(numbers) - 1
    width = float(student.ppf((1 + _CONFIDENCE) / 2, freedom)) * error
    return CorrectedMean(mean, mean - width, mean + width, float(2 * student.sf(abs(mean) / error, freedom)))


def cross_validate(
    run: Path,
    *,
    folds: int,
    out: Path,
    config: StudyConfig,
    data: str | None = None,
    transforms: str | None = None,
    resume: bool = False,
    jobs: int | None = None,
    device: str = "auto",
    truncation: float = 1.0,
    which: Which = "best",
    say: Callable[[str], None] = print,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train a generator for each fold, do a study with it, and put the folds together.

    Everything that is finished is kept in `out`: ``fold-0/generator`` is a run folder, ``fold-0/study`` a study.

    Args:
        run: Run folder whose options and images are used.
        folds: Number of folds, at least 2; each patient is tested in one, whatever the source's own division.
        out: Folder of the results.
        config: Options of the studies.
        data: Where the images are now, if they have been moved.
        transforms: As the run was given it.
        resume: Whether to go on in `out`.
        jobs: Classifiers trained at a time.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        truncation: As in `GAN.sample`.
        which: Which generator of a fold's run is tested, as in `medgan.models.find_model`.
        say: Takes lines for the user.
        progress: As of `DownstreamEvaluator`.

    Returns:
        The page, and the numbers.

    Raises:
        CheckpointError: If `out` cannot be written, or is damaged.
        ConfigError: If `out` holds something and `resume` is not set, or is of another plan, or options do not fit.
        DataError: If there are too few patients for so many folds.
        MedganError: As training and study.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not resume:
        raise ConfigError(f"{out} exists and is not an empty folder. Go on with --resume, or name another --out.")
    whole = reopen(run, data=data, transforms=transforms).whole
    _check_plan(out, {"folds": folds, "seed": config.seed, "options": read_config(run / "config.json")})
    summaries = []
    for number, splits in enumerate(_divide(whole, folds, config.seed)):
        folder = out / f"fold-{number}"
        parts = whole.apply_splits(splits)
        say(f"Fold {number + 1} of {folds}: {len(parts['train']):,} images train, {len(parts['test']):,} test.")
        gan = _train_generator(run, folder, splits, data, transforms, device, say, which)
        evaluator = DownstreamEvaluator(
            parts["train"],
            parts["validation"],
            parts["test"],
            out=folder / "study",
            generators=[gan],
            config=config,
            resume=True,
            trained_on=[read_parts(folder / "generator")],
            truncation=truncation,
            device=device,
            jobs=jobs,
            facts={"division": f"Fold {number + 1} of {folds} is the test."},
            progress=progress,
        )
        summaries.append(evaluator.report(evaluator.run())[1])
    facts = _join(summaries, folds, whole, run)
    with write_aside(out / "cross-validation.json") as aside:
        aside.write_text(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    page = out / "index.html"
    _page(facts).write(page)
    return page, facts


def _check_plan(out: Path, plan: dict[str, Any]) -> None:
    """Write down what the generators of the folds depend on; refuse to go on with those of another plan."""
    path = out / "plan.json"
    wanted = json.loads(json.dumps(plan))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            raise ValueError("it is no plan")
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Name another --out.") from error
    if found is None:
        with write_aside(path) as aside:
            aside.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    elif found != wanted:
        other = next(key for key in wanted if found[key] != wanted[key])
        what = {"folds": f"--cv {found['folds']}", "seed": f"--seed {found['seed']}"}.get(other, "another --model")
        raise ConfigError(f"The generators in {out} are of {what}. Go on with that, or name another --out.")


def _divide(whole: ImageDataset, folds: int, seed: int) -> list[Splits]:
    """Return a split for each fold, which is its test, with some patients of the others for validation."""
    # Not by auto: the source's own test patients are tested as all others.
    divided = make_folds(whole.index, whole.labels, folds=folds, seed=seed, by=whole_unit(whole.index))
    splits = []
    for number in range(folds):
        held = divided.fold(number)
        others = whole.apply_splits(held)["train"]
        train, validation = others.split(_VALIDATION, seed=seed, by=whole_unit(others.index))
        parts = {
            "train": tuple(sorted(image_identities(train.index))),
            "validation": tuple(sorted(image_identities(validation.index))),
            "test": held.parts["validation"],
        }
        splits.append(Splits(held.by, held.seed, parts))
    return splits


def _train_generator(
    run: Path,
    folder: Path,
    splits: Splits,
    data: str | None,
    transforms: str | None,
    device: str,
    say: Callable[[str], None],
    which: Which,
) -> GAN:
    """Train a generator with the options of a run, or go on with one, or take a finished one."""
    place = folder / "generator"
    splits.write(folder / "splits.json")
    flags: dict[str, Any] = {
        "splits": str(folder / "splits.json"),
        "outdir": str(folder),
        "name": place.name,
        "device": device,
        **({} if data is None else {"data": data}),
    }
    if (place / "checkpoints" / "latest" / "trainer.pt").is_file():
        training = Run({"device": device}, resume=place, transforms=transforms, say=say)
        if training.is_done():
            return load_model(place, which=which)
    else:
        options = read_config(run / "config.json")
        training = Run(flags, options, begin_again=True, transforms=transforms, say=say)
    training.fit()
    return load_model(place, which=which)


def _join(summaries: Sequence[dict[str, Any]], folds: int, whole: ImageDataset, run: Path) -> dict[str, Any]:
    """Put the numbers of the folds together."""
    first = summaries[0]["results"]
    share = 1 / ((folds - 1) * (1 - _VALIDATION))  # patients that test, for each that trains
    arms: list[dict[str, Any]] = []
    for place, result in enumerate(first):
        scores: dict[str, Any] = {}
        for name in _SCORES:
            values = [summary["results"][place]["scores"][name]["value"] for summary in summaries]
            reference = [_real(summary, result["fraction"])["scores"][name]["value"] for summary in summaries]
            scores[name] = {"folds": values, **_estimate(values, share)}
            if result["arm"] != "real":
                differences = [
                    None if one is None or other is None else one - other
                    for one, other in zip(values, reference, strict=True)
                ]
                scores[name]["difference"] = {"folds": differences, **_estimate(differences, share)}
        arms.append({key: result[key] for key in ("arm", "title", "fraction")} | {"scores": scores})
    for name in _SCORES:
        compared: list[dict[str, Any]] = [arm["scores"][name] for arm in arms]
        tests: list[dict[str, Any]] = [entry["difference"] for entry in compared if "difference" in entry]
        corrected = holm([np.nan if test["p"] is None else test["p"] for test in tests])
        for test, p_value in zip(tests, corrected, strict=True):
            test["p_holm"] = None if np.isnan(p_value) else float(p_value)
    return {
        "protocol": "cross-validation",
        "folds": folds,
        "run": run.name,
        "real": {
            "name": whole.name,
            "images": len(whole),
            "class_counts": whole.class_counts(),
            "unit": whole_unit(whole.index),
        },
        "scores": {name: summaries[0]["scores"][name] for name in _SCORES},
        "arms": arms,
        "studies": [summary["facts"] for summary in summaries],
    }


def _real(summary: dict[str, Any], fraction: float) -> dict[str, Any]:
    """Return the result of real images alone: with as many patients, or, if there is none, with most of them."""
    found = {result["fraction"]: result for result in summary["results"] if result["arm"] == "real"}
    of_fraction: dict[str, Any] = found.get(fraction, found[max(found)])
    return of_fraction


def _estimate(values: Sequence[float | None], share: float) -> dict[str, float | None]:
    """Return mean, interval and p-value; None where a fold has no value."""
    if any(value is None for value in values):
        return dict.fromkeys(("value", "low", "high", "p"))
    found = corrected_mean([value for value in values if value is not None], test_share=share)
    return {"value": found.mean, "low": found.low, "high": found.high, "p": found.p}


def _page(facts: dict[str, Any]) -> Page:
    """Return the page of a cross-validation."""

    def cell(entry: dict[str, Any] | None, form: str = ".3f") -> str:
        if entry is None or entry["value"] is None:
            return ""
        return f"{entry['value']:{form}} [{entry['low']:{form}}, {entry['high']:{form}}]"

    names = list(facts["scores"])
    titles = [facts["scores"][name]["title"] for name in names]
    rows = [
        [arm["title"], f"{arm['fraction']:g}", *(cell(arm["scores"][name]) for name in names)] for arm in facts["arms"]
    ]
    compared = [arm for arm in facts["arms"] if "difference" in arm["scores"]["auroc"]]
    differences = []
    for arm in compared:
        entry = arm["scores"]["auroc"]["difference"]
        p = "" if entry.get("p_holm") is None else f"{entry['p_holm']:.3f}"
        differences.append([arm["title"], f"{arm['fraction']:g}", cell(entry, "+.3f"), p])
    per_fold = [
        [arm["title"], f"{arm['fraction']:g}"]
        + ["" if value is None else f"{value:.3f}" for value in arm["scores"]["auroc"]["folds"]]
        for arm in facts["arms"]
    ]
    folds = facts["folds"]
    whole = {
        "patient": "of whole patients",
        "image": "of whole files (patients are not known, so one may be in two folds)",
    }[facts["real"]["unit"]]
    method = (
        f"Each of {folds} folds was tested once, by classifiers whose generator was trained without its patients. "
        "All images are in the folds, those too that the data itself sets aside for a test. "
        "Intervals and p-values use the variance correction of Nadeau and Bengio (2003) for folds whose training sets "
        "overlap; with few folds they are wide. p-values are corrected by Holm's method."
    )
    return Page(
        title=f"Cross-validation of {facts['real']['name']}",
        lead=f"{facts['real']['images']:,} real images in {folds} folds {whole}, a generator for each fold.",
        opening=[Note(method, "warning")],
        sections=[
            Section("Mean over the folds", [Table(["Trained on", "Share of real patients", *titles], rows)]),
            Section(
                "AUROC against real images only",
                [Table(["Trained on", "Share of real patients", "Difference", "p (Holm)"], differences)],
            ),
            Section(
                "AUROC, fold by fold",
                [
                    Table(["Trained on", "Share of real patients", *(f"Fold {n + 1}" for n in range(folds))], per_fold),
                    Text("Each fold has a report of its own: fold-0/study/index.html and so on, beside this page."),
                ],
            ),
        ],
    )
