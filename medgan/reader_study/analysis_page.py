"""The analysis of a reader study for people: a page, and tables for a spreadsheet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

from medgan.core.saving import write_aside
from medgan.pages import COLOURS, Code, Figure, Gallery, Note, Page, Section, Table, Text, figure_png, make_figure
from medgan.pages.page import Block
from medgan.reader_study.analysis import ALL, Result, StudyAnalysis

__all__ = ["make_page", "write_analysis"]

_READING = (
    "The area under the ROC curve is the chance that a reader finds a synthetic image more suspect than a real one: "
    "0.5 is guessing, 1 is always. Of pairs the share that was found is the same number.",
    "The interval of all readers holds for other readers and other images (Obuchowski and Rockette 1995; its variance "
    "has a part between readers and a part that readers share, as they see the same images). The interval of one "
    "reader holds for other images, and for this reader alone.",
    "d′ and bias come from the decisions, unsure answers counted half for each; d′ of 0 is guessing. Agreement near 0 "
    "is what guessing readers have: it is no flaw of the study.",
    "Whether readers can be fooled says nothing of whether the images are diverse, medically right, or copies of "
    "patients.",
)


def make_page(analysis: StudyAnalysis, *, command: str = "") -> Page:
    """Return the page of an analysis.

    Args:
        analysis: What was found.
        command: What was typed, to be shown.
    """
    study = analysis.study
    opening: list[Block] = [Note(analysis.claim[0], "verdict", points=analysis.claim[1:])]
    if analysis.limits:
        opening.append(Note("What limits it", "warning", points=analysis.limits))
    measures = list(dict.fromkeys(result.measure for result in analysis.results))
    pooled = [result for result in analysis.results if result.who == ALL]
    sections = [Section("Readers", [_figures(analysis), _reader_table(analysis, measures)])]
    if pooled:
        rows = [
            [each.measure, _number(each.value), _interval(each), each.interval_for, f"{each.count:,}"]
            for each in pooled
        ]
        caption = f"{len(analysis.finished)} readers. Of repeated cases the first answer counts."
        sections.insert(
            0, Section("All readers", [Table(("measure", "value", "95 % interval", "for", "N"), rows, caption)])
        )
    if analysis.equivalence is not None and not math.isnan(analysis.primary.error):
        sections.append(Section("The test", [_test_table(analysis)]))
    comments = analysis.judgements[analysis.judgements["comment"] != ""].drop_duplicates(["reader", "position"])
    if len(comments):
        listed = [[str(row.reader), str(row.kind), str(row.label), str(row.comment)] for row in comments.itertuples()]
        sections.append(Section("Comments", [Table(("reader", "image", "label", "comment"), listed)], folded=True))
    sections.append(Section("How to read it", [Text(sentence) for sentence in _READING]))
    if command:
        sections.append(Section("Command", [Code(command)]))
    shown = "pairs" if study.config.mode == "forced-choice" else "images"
    return Page(
        title=f"{study.config.title}: analysis",
        lead=f"{len(analysis.finished)} of {len(study.readers)} readers, {len(study.cases)} {shown}, "
        f"{len(study.readers[0].presentations) - len(study.cases)} of them twice, read blind.",
        opening=opening,
        sections=sections,
        footer=analysis.facts,
    )


def write_analysis(analysis: StudyAnalysis, out: Path, *, command: str = "") -> dict[str, Path]:
    """Write ``analysis.html``, ``analysis.json``, ``results.csv`` and ``judgements.csv``; earlier ones are replaced.

    Args:
        analysis: What was found.
        out: Folder.
        command: What was typed, to be shown.

    Returns:
        The files, by name.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    paths = {name: out / name for name in ("analysis.html", "analysis.json", "results.csv", "judgements.csv")}
    make_page(analysis, command=command).write(paths["analysis.html"])
    with write_aside(paths["analysis.json"]) as temporary:
        text = json.dumps(analysis.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")
    judgements = analysis.judgements.assign(comment=analysis.judgements["comment"].map(_harmless))
    for name, table in (("results.csv", analysis.table()), ("judgements.csv", judgements)):
        with write_aside(paths[name]) as temporary:
            table.to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL)
    return paths


def _harmless(comment: str) -> str:
    """Return a comment that no spreadsheet takes for a formula."""
    return f"'{comment}" if comment.lstrip()[:1] in ("=", "+", "-", "@") else comment


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".replace("-", "−")


def _interval(result: Result) -> str:
    return "" if math.isnan(result.low) else f"{_number(result.low)} to {_number(result.high)}"


def _reader_table(analysis: StudyAnalysis, measures: Sequence[str]) -> Table:
    """Return one row a reader, one column a measure."""
    shown = [name for name in measures if any(analysis.of(name, reader) for reader in analysis.finished)]
    rows = []
    for reader in analysis.finished:
        cells = [reader]
        for name in shown:
            found = analysis.of(name, reader)
            interval = "" if found is None or not _interval(found) else f" ({_interval(found)})"
            cells.append("" if found is None else f"{_number(found.value)}{interval}")
        rows.append(cells)
    return Table(("reader", *shown), rows, "Each reader alone; in brackets the 95 % interval for other images.")


def _test_table(analysis: StudyAnalysis) -> Table:
    """Return what the test was computed with."""
    primary, tested = analysis.primary, analysis.equivalence
    assert tested is not None
    low, high = primary.hillis_interval()
    rows = [
        ["variance between readers, MS(R)", f"{primary.between:.3g}"],
        ["shared by readers, J · Cov₂", f"{primary.together:.3g}"],
        ["standard error", f"{primary.error:.4f}"],
        ["p of 0.5, two-sided", f"{primary.p_value(0.5):.4f}"],
        ["margin, set beforehand", f"{0.5 - tested.margin:g} to {0.5 + tested.margin:g}"],
        ["90 % interval", f"{tested.low:.3f} to {tested.high:.3f}"],
        ["p of equivalence (the larger of two one-sided)", f"{tested.p_value:.4f}"],
        ["for comparison: degrees of freedom and 95 % interval after Hillis", _hillis(primary.freedom, low, high)],
    ]
    return Table(("", "value"), rows)


def _hillis(freedom: float, low: float, high: float) -> str:
    return f"{freedom:.1f}; {low:.3f} to {high:.3f}"


def _figures(analysis: StudyAnalysis) -> Gallery:
    """Return each reader's number with its interval; and for ratings the ROC curves."""
    forced = analysis.study.config.mode == "forced-choice"
    measure = "correct pairs" if forced else "area under the curve"
    figures = [_forest(analysis, measure)]
    if not forced:
        figures.append(_curves(analysis))
    return Gallery(figures, width=24)


def _forest(analysis: StudyAnalysis, measure: str) -> Figure:
    names = [*analysis.finished, *([ALL] if analysis.of(measure) else [])]
    figure, panels = make_figure(width=5.2, height=1.2 + 0.34 * len(names))
    panel = panels[0, 0]
    margin = analysis.study.config.margin
    panel.axvspan(0.5 - margin, 0.5 + margin, color=COLOURS[2], alpha=0.15, linewidth=0)
    panel.axvline(0.5, color="#5b5b5b", linewidth=1)
    for place, name in enumerate(reversed(names)):
        found = analysis.of(measure, name)
        if found is None:
            continue
        colour = COLOURS[1] if name == ALL else COLOURS[0]
        panel.plot([found.value], [place], "D" if name == ALL else "o", color=colour)
        if not math.isnan(found.low):
            panel.plot([found.low, found.high], [place, place], color=colour, linewidth=2.5 if name == ALL else 1.5)
    panel.set_yticks(range(len(names)), list(reversed(names)))
    panel.set_xlim(0, 1)
    panel.set_ylim(-0.7, len(names) - 0.3)
    panel.set_xlabel(measure)
    alt = f"{measure} of each reader with its interval, and the margin around 0.5"
    return Figure(
        figure_png(figure), alt, f"{measure[0].upper()}{measure[1:]}, 95 % intervals; the band is the margin."
    )


def _curves(analysis: StudyAnalysis) -> Figure:
    figure, panels = make_figure(width=4.6, height=4.4)
    panel = panels[0, 0]
    rows = analysis.judgements
    rows = rows[~rows["repeat"] & rows["reader"].isin(analysis.finished)]
    for name, mine in rows.groupby("reader"):
        synthetic = mine["kind"] == "synthetic"
        steps = [mine["confidence"] >= least for least in (5, 4, 3, 2)]
        alarms = [0.0, *(float(step[~synthetic].mean()) for step in steps), 1.0]
        hits = [0.0, *(float(step[synthetic].mean()) for step in steps), 1.0]
        panel.plot(alarms, hits, marker=".", linewidth=1.2, label=str(name), color=None)
    panel.plot([0, 1], [0, 1], color="#5b5b5b", linewidth=1, linestyle="--")
    panel.set_xlabel("real images called synthetic")
    panel.set_ylabel("synthetic images called synthetic")
    panel.set_aspect("equal")
    if len(analysis.finished) <= 8:
        panel.legend(fontsize=8, frameon=False, loc="lower right")
    alt = "ROC curve of each reader; the diagonal is guessing"
    return Figure(figure_png(figure), alt, "Empirical ROC curves, a point for each step of confidence.")
