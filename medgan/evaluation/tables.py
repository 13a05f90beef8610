"""The summary of a study as tables: for a spreadsheet and for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["as_markdown", "as_table"]


def as_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the scores as a table, one row an arm and fraction.

    Args:
        summary: From `medgan.evaluation.summary.summarise`.

    Returns:
        Columns ``arm``, ``title``, ``fraction``, ``seeds`` (how many), ``real_images``, ``synthetic_images`` and
        ``real_patients``, and for each score its name and the name with ``_low`` and ``_high``. NaN where undefined.
    """
    rows = []
    for result in summary["results"]:
        row = {"arm": result["arm"], "title": result["title"], "fraction": result["fraction"]}
        row |= {"seeds": len(result["seeds"]), **result["counts"]}
        for name, estimate in result["scores"].items():
            row |= {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
        rows.append(row)
    table = pd.DataFrame(rows)
    numbers = table.columns[3:]
    return table.astype(dict.fromkeys(numbers, np.float64)).astype({"seeds": np.int64})


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Return the scores, the comparisons and the sentences as Markdown, for a paper.

    Args:
        summary: From `medgan.evaluation.summary.summarise`.

    Returns:
        Text with two tables; intervals in brackets.
    """
    names = list(summary["scores"])
    titles = [summary["scores"][name]["title"] for name in names]
    test = summary["cohorts"]["test"]
    lines = [
        f"Test cohort: {test['images']} images of {test['patients']} patients. Values are means over the seeds with "
        f"{100 * summary['settings']['confidence']:.0f} % intervals.",
        "",
        _markdown_row(["Training images", "Real data", "Seeds", *titles]),
        _markdown_row(["---"] * (3 + len(names))),
    ]
    lines += [
        _markdown_row(
            [result["title"], f"{100 * result['fraction']:g} %", str(len(result["seeds"]))]
            + [_in_words(result["scores"][name]) for name in names]
        )
        for result in summary["results"]
    ]
    floor = summary["floor"]
    lines.append(
        _markdown_row(
            ["No images: shares of the classes", "", ""] + [_in_words(floor["scores"][name]) for name in names]
        )
    )
    if summary["comparisons"]:
        score = summary["settings"]["primary"]
        lines += [
            "",
            _markdown_row(["Comparison", f"Difference in {summary['scores'][score]['title']}", "p", "p (Holm)"]),
            _markdown_row(["---"] * 4),
        ]
    for entry in summary["comparisons"]:
        difference = entry["scores"][score]
        p_values = ["–" if difference[key] is None else f"{difference[key]:.4f}" for key in ("p", "p_holm")]
        lines.append(
            _markdown_row(
                [f"{entry['title']} − {entry['reference_title']}", _in_words(difference, signed=True), *p_values]
            )
        )
    for part in ("sentences", "notes"):
        lines += ["", *(f"- {text}" for text in summary["verdict"][part])] if summary["verdict"][part] else []
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _in_words(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    """Write a value with its interval."""
    if estimate["value"] is None:
        return "–"
    form = "{:+.3f}" if signed else "{:.3f}"
    value = form.format(estimate["value"]).replace("-", "−")
    if estimate["low"] is None:
        return value
    low, high = (form.format(estimate[key]).replace("-", "−") for key in ("low", "high"))
    return f"{value} ({low} to {high})"
