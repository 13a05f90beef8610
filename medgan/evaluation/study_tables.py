"""Tables of a study's report, made from its summary; numbers as they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medgan.evaluation.records import Study
from medgan.pages import Table, markdown_table

__all__ = [
    "CALIBRATION",
    "DECISIONS",
    "RANKING",
    "arms_table",
    "cell",
    "comparisons_table",
    "largest",
    "p_cell",
    "paper_table",
    "per_class_table",
    "predictions_frame",
    "runs_frame",
    "runs_table",
    "signed_cell",
    "subgroups_table",
]

RANKING = ("auroc", "auprc", "balanced_accuracy")
"""Scores of the first table."""
DECISIONS = ("accuracy", "sensitivity", "specificity", "precision", "f1")
"""Scores that depend on a threshold."""
CALIBRATION = ("brier", "calibration_error", "calibration_slope")
"""Scores of the probabilities themselves."""

_PER_CLASS = ("auroc", "sensitivity", "precision", "f1")
_COUNTS = {"real_images": "Real images", "synthetic_images": "Synthetic images"}
_OFTEN_UNDEFINED = 0.05  # share of bootstrap samples
_NONINFERIORITY = {"noninferior": "shown", "inferior": "inferior", "not_shown": "not shown", "undefined": "undefined"}

Estimate = Mapping[str, Any]
Result = Mapping[str, Any]
Summary = Mapping[str, Any]


def cell(estimate: Estimate | None) -> str:
    """Write a value with its interval, such as ``0.953 [0.941, 0.964]``.

    Args:
        estimate: Of the summary; a dagger marks one that many bootstrap samples could not tell.
    """
    return _cell(estimate, "{:.3f}")


def signed_cell(estimate: Estimate | None) -> str:
    """Write a difference with its interval, such as ``+0.012 [−0.003, +0.027]``.

    Args:
        estimate: Of the summary.
    """
    return _cell(estimate, "{:+.3f}")


def p_cell(p: float | None) -> str:
    """Write a p-value.

    Args:
        p: The value; None if there is none.
    """
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def largest(summary: Summary) -> list[Result]:
    """Return the result of every arm at its largest share of real patients.

    Args:
        summary: Of a study.
    """
    found: dict[str, Result] = {}
    for result in summary["results"]:
        if result["arm"] not in found or result["fraction"] > found[result["arm"]]["fraction"]:
            found[result["arm"]] = result
    return list(found.values())


def arms_table(
    summary: Summary, results: Sequence[Result], names: Sequence[str], *, caption: str, training: bool = False
) -> Table:
    """Return scores of arms, the image-blind floor below them.

    Args:
        summary: Of the study.
        results: Of the summary; several fractions of an arm get a column of their own.
        names: The scores; those that the summary lacks are left out.
        caption: See `Table`.
        training: Whether to say how many images the arms were trained on.
    """
    names = [name for name in names if name in summary["scores"]]
    shares = any(result["fraction"] != 1 for result in results)
    counts = [key for key in _COUNTS if training and any(_count(result, key) for result in results)]
    columns = ["Arm", *(["Share"] if shares else []), *(summary["scores"][name]["title"] for name in names)]
    rows = [
        [result["title"], *([f"{result['fraction']:g}"] if shares else [])]
        + [cell(result["scores"].get(name)) for name in names]
        + [_count(result, key) for key in counts]
        for result in results
    ]
    strong = [] if shares else _outstanding(summary, results, names, 1)
    floor = summary["floor"]
    rows.append(
        [_floor_title(floor), *([""] if shares else [])]
        + [cell(floor["scores"].get(name)) for name in names]
        + [""] * len(counts)
    )
    return Table([*columns, *(_COUNTS[key] for key in counts)], rows, caption, strong)


def comparisons_table(summary: Summary, names: Sequence[str], *, caption: str) -> Table:
    """Return differences of arms from their reference; of the primary score with p-values and non-inferiority.

    Args:
        summary: Of the study.
        names: The scores; the primary one alone, or others.
        caption: See `Table`.
    """
    primary = summary["settings"]["primary"]
    names = [name for name in names if name in summary["scores"]]
    only = list(names) == [primary]
    columns = ["Arm − reference"]
    for name in names:
        columns += [f"Difference in {summary['scores'][name]['title']}", *(["p", "p (Holm)"] if only else [])]
    rows = []
    for comparison in summary["comparisons"]:
        row = [f"{_shared(comparison, '')} − {_shared(comparison, 'reference_')}"]
        for name in names:
            score = comparison["scores"].get(name)
            row.append(signed_cell(score))
            if only:
                row += [p_cell(score and score["p"]), p_cell(score and score["p_holm"])]
        if only:
            row.append(_NONINFERIORITY.get(comparison["noninferiority"]["outcome"], "–"))
        rows.append(row)
    if only:
        columns.append(f"Non-inferiority, margin {summary['settings']['margin']:g}")
    return Table(columns, rows, caption)


def per_class_table(summary: Summary, results: Sequence[Result], *, caption: str) -> Table:
    """Return scores of each class against all others, by arm.

    Args:
        summary: Of the study.
        results: Of the summary.
        caption: See `Table`.
    """
    names = [name for name in _PER_CLASS if name in summary["scores"]]
    rows = [
        ["" if place else label, result["title"]]
        + [cell(result["per_class"].get(label, {}).get(name)) for name in names]
        for label in summary["classes"]
        for place, result in enumerate(results)
    ]
    word = "Finding" if summary["kind"] == "multilabel" else "Class"
    return Table([word, "Arm", *(summary["scores"][name]["title"] for name in names)], rows, caption)


def subgroups_table(summary: Summary, column: Mapping[str, Any], names: Sequence[str], *, caption: str) -> Table:
    """Return scores of groups of test images, by arm.

    Args:
        summary: Of the study.
        column: One of the columns of ``subgroups`` of the summary.
        names: The scores.
        caption: See `Table`.
    """
    names = [name for name in names if name in summary["scores"]]
    rows = []
    for group in column["groups"]:
        few = " (few patients)" if group["small"] else ""
        first = [group["group"] + few, f"{group['images']:,}", f"{group['patients']:,}"]
        for result in column["results"]:
            scores = result["groups"].get(group["group"], {})
            rows.append([*first, result["title"], *(cell(scores.get(name)) for name in names)])
            first = ["", "", ""]
    titles = [summary["scores"][name]["title"] for name in names]
    units = f"{summary['cohorts']['test']['unit'].capitalize()}s"
    return Table([column["column"], "Images", units, "Arm", *titles], rows, caption)


def runs_table(summary: Summary, *, caption: str) -> Table:
    """Return the primary score of every run, and when its weights were kept.

    Args:
        summary: Of the study.
        caption: See `Table`.
    """
    primary = summary["settings"]["primary"]
    title = summary["scores"][primary]["title"]
    known = [
        (key, heading)
        for key, heading in (("best_step", "Weights of step"), ("seconds", "Seconds"))
        if any(run["facts"].get(key) is not None for result in summary["results"] for run in result["runs"])
    ]
    thresholds = any(len(run["thresholds"]) == 1 for result in summary["results"] for run in result["runs"])
    rows = []
    for result in summary["results"]:
        for run in result["runs"]:
            value = run["scores"].get(primary)
            row = [
                result["title"],
                f"{result['fraction']:g}",
                str(run["seed"]),
                "–" if value is None else f"{value:.3f}",
            ]
            if thresholds:
                row.append(f"{run['thresholds'][0]:.3f}" if len(run["thresholds"]) == 1 else "–")
            rows.append(row + [_number(run["facts"].get(key)) for key, _ in known])
    columns = [
        "Arm",
        "Share",
        "Seed",
        title,
        *(["Threshold"] if thresholds else []),
        *(heading for _, heading in known),
    ]
    return Table(columns, rows, caption)


def paper_table(summary: Summary) -> str:
    """Return arms, their main scores and the difference from the baseline as a Markdown table with a legend.

    Args:
        summary: Of the study.
    """
    results = largest(summary)
    settings, primary = summary["settings"], summary["settings"]["primary"]
    wanted = dict.fromkeys((primary, *RANKING, "sensitivity", "specificity", "f1", "brier"))
    names = [name for name in wanted if name in summary["scores"]]
    counts = [key for key in _COUNTS if any(_count(result, key) for result in results)]
    title = summary["scores"][primary]["title"]
    rows = []
    for result in results:
        found = next((item for item in summary["comparisons"] if _compares(item, result, settings["baseline"])), None)
        score = found["scores"].get(primary) if found else None
        rows.append(
            [result["title"], *(_count(result, key) for key in counts)]
            + [cell(result["scores"].get(name)) for name in names]
            + ([signed_cell(score), p_cell(score["p_holm"])] if score else ["", ""])
        )
    columns = ["Arm", *(_COUNTS[key] for key in counts), *(summary["scores"][name]["title"] for name in names)]
    seeds = sorted({len(result["seeds"]) for result in results})
    test = summary["cohorts"]["test"]
    baseline = next((result["title"] for result in results if result["arm"] == settings["baseline"]), "the baseline")
    legend = (
        f"Mean over {' or '.join(map(str, seeds))} trainings [{settings['confidence']:.0%} interval], tested on "
        f"{test['images']:,} real images of {test['patients']:,} {test['unit']}s. Δ: difference from {baseline} on the "
        f"same {test['unit']}s and seeds, with p-values after Holm. {_positive(summary)}"
    ).strip()
    return f"{markdown_table([*columns, f'Δ {title}', 'p (Holm)'], rows)}\n{legend}\n"


def runs_frame(summary: Summary) -> pd.DataFrame:
    """Return every run with its scores, thresholds and facts.

    Args:
        summary: Of the study.
    """
    rows = []
    for result in summary["results"]:
        for run in result["runs"]:
            row = {"arm": result["arm"], "title": result["title"], "fraction": result["fraction"], "seed": run["seed"]}
            thresholds = run["thresholds"]
            if len(thresholds) == 1:
                row["threshold"] = thresholds[0]
            elif thresholds:
                row |= {f"threshold/{name}": value for name, value in zip(summary["classes"], thresholds, strict=True)}
            rows.append(row | run["scores"] | {key: run["facts"][key] for key in run["facts"]})
    return pd.DataFrame(rows)


def predictions_frame(study: Study) -> pd.DataFrame:
    """Return the truth and the mean probability over the seeds of every test image.

    Args:
        study: The study.

    Returns:
        ``file``, ``patient``, ``truth`` (of findings one column each, ``truth/FINDING``), and a column
        ``ARM@FRACTION/CLASS`` an arm, fraction and class; of two classes only the second one.
    """
    names, labels = study.labels.names, study.test.labels
    # As objects: names of files need not be UTF-8, which strings of pandas have to be.
    columns: dict[str, Any] = {"file": study.test.files.astype(object), "patient": study.test.patients.astype(object)}
    columns = {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    if labels.ndim == 1:
        columns["truth"] = np.asarray(names, dtype=object)[labels.astype(np.int64)]
        shown = [1] if len(names) == 2 else range(len(names))
    else:
        columns |= {f"truth/{name}": labels[:, place] for place, name in enumerate(names)}
        shown = range(len(names))
    for arm, fraction in dict.fromkeys((run.arm, run.fraction) for run in study.runs):
        runs = [run.test for run in study.runs if (run.arm, run.fraction) == (arm, fraction)]
        mean = np.mean([test.astype(np.float64) for test in runs], axis=0)
        columns |= {f"{arm}@{fraction:g}/{names[place]}": mean[:, place] for place in shown}
    return pd.DataFrame(columns)


def _cell(estimate: Estimate | None, pattern: str) -> str:
    """Write an estimate; true minus signs, and no minus before a zero."""
    if estimate is None or estimate["value"] is None:
        return "–"

    def write(number: float) -> str:
        return pattern.format(round(number, 3) + 0.0).replace("-", "−")

    interval = ""
    if estimate["low"] is not None and estimate["high"] is not None:
        interval = f" [{write(estimate['low'])}, {write(estimate['high'])}]"
    dagger = "†" if (estimate.get("undefined_share") or 0) > _OFTEN_UNDEFINED else ""
    return write(estimate["value"]) + interval + dagger


def _count(result: Result, key: str) -> str:
    """Write how many images an arm was trained on; empty where it is not known."""
    count = (result.get("counts") or {}).get(key)
    return "" if count is None else f"{count:,.0f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _floor_title(floor: Mapping[str, Any]) -> str:
    """Name what needs no image."""
    return "no image: shares only" if floor["class"] is None else f"no image: always {floor['class']}"


def _shared(comparison: Mapping[str, Any], which: str) -> str:
    """Name an arm of a comparison, with its fraction where it is not all."""
    fraction = comparison["fraction" if not which else "reference_fraction"]
    return str(comparison[f"{which}title"]) + ("" if fraction == 1 else f" (share {fraction:g})")


def _compares(comparison: Mapping[str, Any], result: Result, baseline: str) -> bool:
    """Whether a comparison is of this result with the baseline."""
    return bool(
        comparison["arm"] == result["arm"]
        and comparison["fraction"] == result["fraction"]
        and comparison["reference"] == baseline
    )


def _positive(summary: Summary) -> str:
    return f"Positive class: {summary['positive']}." if summary["positive"] else ""


def _outstanding(
    summary: Summary, results: Sequence[Result], names: Iterable[str], first: int
) -> list[int | tuple[int, int]]:
    """Return the cells whose interval is better than, and apart from, those of all other arms."""
    found: list[int | tuple[int, int]] = []
    for column, name in enumerate(names, start=first):
        better = summary["scores"][name]["better"]
        estimates = [result["scores"].get(name) for result in results]
        bounds = [(item["low"], item["high"]) for item in estimates if item and item["low"] is not None]
        if better == "one" or len(bounds) < max(2, len(results)):
            continue
        sign = 1 if better == "higher" else -1
        near = [min(sign * low, sign * high) for low, high in bounds]
        far = [max(sign * low, sign * high) for low, high in bounds]
        best = int(np.argmax(near))
        if near[best] > max(value for row, value in enumerate(far) if row != best):
            found.append((best, column))
    return found
