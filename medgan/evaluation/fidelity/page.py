"""A fidelity report for readers: cells of tables, a page, and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgan.core.saving import write_aside
from medgan.evaluation.fidelity.groups import ALL
from medgan.evaluation.fidelity.metrics import Direction
from medgan.evaluation.fidelity.records import FidelityReport, Score
from medgan.evaluation.subgroups import UNKNOWN
from medgan.pages import (
    COLOURS,
    Code,
    Figure,
    Gallery,
    Note,
    Page,
    Section,
    Table,
    Text,
    figure_png,
    make_figure,
    markdown_table,
)
from medgan.pages.page import Block

__all__ = [
    "COLUMNS",
    "FLOOR_OF_ALL",
    "SUBGROUP_COLUMNS",
    "group_caption",
    "group_rows",
    "groups_of",
    "make_page",
    "subgroup_tables",
    "summarise_report",
    "to_markdown",
    "write_report",
]

COLUMNS = (
    "metric",
    "best",
    "value",
    "95 % interval",
    "floor",
    "floor's N",
    "value there",
    "relative",
    "p",
)
"""Headings of the tables."""

_BEST: dict[Direction, str] = {"lower": "↓", "higher": "↑", "as real": "≈", "near 0": "→ 0"}

FLOOR_OF_ALL = (
    "For MS-SSIM of pairs and the correlation with the nearest training image nothing is halved: the floor is the "
    "value of all real images ± its standard error."
)
"""What the floor is of numbers that tell of one set of images alone."""

_READING = (
    "Best is the lowest value (↓), the highest (↑), that of real images (≈), or 0 (→ 0).",
    "The floor is the same number between two halves of the real images that share no patient: mean ± standard "
    "deviation over random halvings. Nothing is to be gained beyond it. As most numbers depend on how many images are "
    "compared, the synthetic images are measured at the floor's N once more; relative is that value over the floor, "
    "and 1 is as near as other real patients are. Compare values of the same N, extractor and resizer only. "
    + FLOOR_OF_ALL,
    "An interval is for the N that is beside it, else for that of the value. It holds the chance of the sampling of "
    "synthetic images, and where it says so that of the patients; not that of another training.",
    "p is how often chance alone gives such a kernel distance, by a test that exchanges whole patients. It is "
    "corrected for the number of extractors and kernels that are tested in a group (Holm), and not for the number of "
    "groups; metrics.json has it uncorrected, too.",
)


_SUBGROUPS = (
    "A synthetic image has no age and no sex of its own. Coverage of a group: the share of its real images that have a "
    "synthetic image as near as their own neighbours, so that low coverage says that patients like these are missing. "
    "Precision near a group: of the synthetic images whose nearest real image is of the group, the share that lies "
    "among real ones. The floors are those of other real patients. Groups with few patients get no verdict."
)

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def groups_of(report: FidelityReport) -> list[str]:
    """Return the groups of a report but for subgroups, all images first."""
    return list(dict.fromkeys(score.group for score in report.scores if not score.column))


def group_caption(report: FidelityReport, group: str) -> str:
    """Say how many images of a group were compared."""
    score = next(score for score in report.scores if score.group == group)
    of_each = f" in each of {score.samples} samples" if score.samples > 1 else ""
    return f"{score.real_images:,} real and {score.synthetic_images:,} synthetic images{of_each}."


def group_rows(report: FidelityReport, group: str) -> list[list[str]]:
    """Return the cells of the numbers of a group, one row each, below `COLUMNS`."""
    return [_row(score) for score in report.scores if score.group == group and not score.column]


def summarise_report(report: FidelityReport) -> list[str]:
    """Say in a few sentences what was found: each extractor's distance, and the diversity of each class."""
    sentences = []
    whole = [score for score in report.scores if score.group == ALL and not score.column]
    for score in whole:
        if score.metric != "frechet_distance" or score.floor is None or score.relative is None:
            continue
        shares = [
            f"{each.metric} {each.relative:.2f}"
            for each in whole
            if each.extractor == score.extractor
            and each.relative is not None
            and each.direction in ("higher", "as real")
        ]
        sentences.append(
            f"{score.title}: {_number(score.floor.synthetic)} at N = {score.floor.images:,}, where two halves of the "
            f"real patients give {_number(score.floor.mean)} ± {_number(score.floor.spread)}: {score.relative:.2g} "
            "times the floor" + (f"; {', '.join(shares)} times it." if shares else ".")
        )
    for score in report.scores:
        if score.metric != "pair_similarity_gap" or score.value is None:
            continue
        who = "" if score.group == ALL else f"{score.group}: "
        if score.interval is None or score.interval.low <= 0 <= score.interval.high:
            found = "no difference in diversity is shown"
        else:
            found = f"synthetic images vary {'less' if score.interval.low > 0 else 'more'} than real ones"
        number = f"{_number(score.value)}{_within(score)}"
        sentences.append(f"{who}{found} (MS-SSIM of pairs, synthetic less real, {number}).")
    return [*sentences, *_worst_groups(report)]


def _worst_groups(report: FidelityReport) -> list[str]:
    """Name the subgroup of each column that is represented worst, by each extractor and number."""
    found: dict[tuple[str, str], Score] = {}
    for score in report.scores:
        if not score.column or score.small or score.relative is None or score.group == UNKNOWN:
            continue
        lowest = found.get((score.column, score.title))
        if lowest is None or lowest.relative is None or score.relative < lowest.relative:
            found[score.column, score.title] = score
    return [
        f"{score.column}: the lowest {score.title} is that of {score.group}, {score.relative:.2f} times the floor; by "
        "chance alone one group is the lowest."
        for score in found.values()
    ]


SUBGROUP_COLUMNS = (
    "real images",
    "real patients",
    "number",
    "value",
    "95 % interval",
    "floor",
    "value there",
    "relative",
)
"""Headings of the tables of subgroups, after the column itself."""


def subgroup_tables(report: FidelityReport) -> list[Table]:
    """Return a table for each column that divides the real images into subgroups."""
    tables = []
    worst = _worst_groups(report)
    for column in dict.fromkeys(score.column for score in report.scores if score.column):
        rows: list[list[str]] = []
        strong = []
        for score in report.scores:
            if score.column != column:
                continue
            value, interval, floor, _, there, relative = _row(score)[2:8]
            if any(
                sentence.startswith(f"{column}: the lowest {score.title} is that of {score.group},")
                for sentence in worst
            ):
                strong.append(len(rows))
            name = score.group + (" (few patients)" if score.small else "")
            counts = [f"{score.real_images:,}", "" if score.patients is None else f"{score.patients:,}"]
            rows.append([name, *counts, score.title, value, interval, floor, there, relative])
        tables.append(Table((column, *SUBGROUP_COLUMNS), rows, strong=strong))
    return tables


def make_page(report: FidelityReport) -> Page:
    """Return the page of a report."""
    real, synthetic = report.real, report.synthetic
    opening: list[Block] = []
    found = summarise_report(report)
    if found:
        opening.append(Note("What was found", "verdict", points=found))
    if report.warnings:
        opening.append(Note("What limits it", "warning", points=report.warnings))
    groups = groups_of(report)
    sections = []
    for group in groups:
        blocks: list[Block] = [Table(COLUMNS, group_rows(report, group), caption=group_caption(report, group))]
        sections.append(Section(group[:1].upper() + group[1:] if group == ALL else group, blocks))
    tables = subgroup_tables(report)
    if tables:
        sections.append(Section("Subgroups", [Text(_SUBGROUPS), *tables]))
    figures = _figures(report, groups)
    if figures:
        caption = "Synthetic against real over real against real, at the same number of images. The line is the floor."
        sections.insert(0, Section("Beside real images", [Gallery(figures, caption)]))
    sections += [
        Section("How to read it", [*map(Text, _READING), Table(("metric", "interval", "how"), _methods(report))]),
        Section("Images", [Table(("", "real", "synthetic", "training"), _image_rows(report))]),
        Section("Extractors", [Table(_EXTRACTOR_COLUMNS, _extractor_rows(report))]),
    ]
    if "command" in report.settings:
        sections.append(Section("Command", [Code(str(report.settings["command"]))]))
    patients = f" of {real['patients']:,} patients" if real["patients"] else ""
    samples = f"{synthetic['samples']} × " if synthetic["samples"] > 1 else ""
    reference = f" ({report.settings['reference']})" if "reference" in report.settings else ""
    return Page(
        title=f"Fidelity of {synthetic['name']}",
        lead=(
            f"{samples}{synthetic['images']:,} synthetic images, beside {real['images']:,} real ones{patients} of "
            f"{real['name']}{reference}."
        ),
        opening=opening,
        sections=sections,
        footer={
            **{name: _text(value) for name, value in report.settings.items() if name != "command"},
            **{f"version of {name}": value for name, value in report.versions.items()},
        },
    )


def to_markdown(report: FidelityReport) -> str:
    """Return a report as Markdown, for notes and supplements."""
    page = make_page(report)
    lines = [f"# {page.title}", page.lead]
    for title, sentences in (("What was found", summarise_report(report)), ("What limits it", report.warnings)):
        if sentences:
            lines += [f"## {title}", "\n".join(f"- {sentence}" for sentence in sentences)]
    for section in page.sections:
        tables = [block for block in section.blocks if not isinstance(block, Figure | Gallery)]
        if tables:
            lines.append(f"## {section.title}")
        for block in tables:
            if isinstance(block, Table):
                lines += [block.caption] if block.caption else []
                lines.append(markdown_table(block.columns, block.rows).rstrip())
            elif isinstance(block, Code):
                lines.append(f"```console\n{block.text}\n```")
            elif isinstance(block, Text):
                lines.append(block.text)
    facts = [[name, value] for name, value in page.footer.items()]
    lines += ["## Settings", markdown_table(("", ""), facts).rstrip()]
    return "\n\n".join(lines) + "\n"


def write_report(report: FidelityReport, out: Path) -> dict[str, Path]:
    """Write ``metrics.json``, ``metrics.md`` and ``metrics.html``; earlier ones are replaced.

    Args:
        report: The report.
        out: Folder.

    Returns:
        The files, by name.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    texts = {
        "metrics.json": json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "metrics.md": to_markdown(report),
    }
    for name, text in texts.items():
        with write_aside(out / name) as aside:
            aside.write_text(text, encoding="utf-8", errors="replace")
    make_page(report).write(out / "metrics.html")
    return {name: out / name for name in (*texts, "metrics.html")}


def _row(score: Score) -> list[str]:
    """Return the cells of a number."""
    floor, interval = score.floor, score.interval
    cells = [score.title, _BEST[score.direction]]
    cells.append("not computed" if score.value is None else _number(score.value))
    if interval is None:
        cells.append("")
    else:
        at = "" if interval.images == score.synthetic_images else f" at N = {interval.images:,}"
        cells.append(f"{_number(interval.low)} to {_number(interval.high)}{at}")
    cells.append("" if floor is None else f"{_number(floor.mean)} ± {_number(floor.spread)}")
    cells.append("" if floor is None else f"{floor.images:,}")
    cells.append("" if floor is None else _number(floor.synthetic))
    cells.append("" if score.relative is None else f"{score.relative:.2f}")
    cells.append("" if score.p_corrected is None else f"{score.p_corrected:.2g}")
    return cells


def _number(value: float | None) -> str:
    """Return a number with three digits."""
    if value is None or not math.isfinite(value):
        return "" if value is None else str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.2e}"


def _within(score: Score) -> str:
    """Return an interval in words."""
    if score.interval is None:
        return ""
    return f", 95 % interval {_number(score.interval.low)} to {_number(score.interval.high)}"


def _text(value: Any) -> str:
    """Return a setting as text."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _methods(report: FidelityReport) -> list[list[str]]:
    """Say how numbers and their intervals were computed; those with the same method share a row."""
    of: dict[tuple[str, str], dict[str, None]] = {}
    for score in report.scores:
        method = "none" if score.interval is None else score.interval.method
        of.setdefault((method, score.note), {})[score.title.removesuffix(f" ({score.extractor})")] = None
    return [[", ".join(titles), method, note] for (method, note), titles in of.items()]


def _image_rows(report: FidelityReport) -> list[list[str]]:
    """Return what is known of the images."""
    sides = [report.real, report.synthetic, report.training or {}]
    names = ("name", "source", "images", "patients", "class_counts", "size", "channels", "intensity_range")
    rows = []
    for name in (*names, "fingerprint"):
        cells = []
        for side in sides:
            value = side.get(name)
            if isinstance(value, dict):
                value = ", ".join(f"{label} {count:,}" for label, count in value.items())
            elif isinstance(value, list):
                value = (" × " if name == "size" else " to ").join(f"{each:g}" for each in value)
            elif isinstance(value, int):
                value = f"{value:,}"
            elif name == "fingerprint" and value:
                value = f"{value[:16]}…"
            cells.append("" if value is None else str(value))
        rows.append([name.replace("_", " "), *cells])
    return rows


_EXTRACTOR_COLUMNS = ("extractor", "features", "layer", "resizer", "bits", "device", "standardised", "sha256")


def _extractor_rows(report: FidelityReport) -> list[list[str]]:
    """Return the facts of the extractors."""
    return [
        [
            each["name"],
            f"{each['features']:,}",
            each["layer"],
            each["resizer"],
            each["bits"],
            each["device"],
            "yes" if each["standardised"] else "no",
            f"{each['sha256'][:16]}…",
        ]
        for each in report.extractors
    ]


def _figures(report: FidelityReport, groups: Sequence[str]) -> list[Figure]:
    """Draw the relative values: one figure of distances, and one of shares."""
    scores = [
        score for score in report.scores if score.relative is not None and score.relative > 0 and not score.column
    ]
    titles = list(dict.fromkeys(score.title for score in scores))
    figures = []
    for word, best in (("distances", ("lower",)), ("shares", ("higher", "as real"))):
        side = [title for title in titles if _direction(scores, title) in best]
        if not side:
            continue
        figure, panels = make_figure(width=5.6, height=1.4 + 0.32 * len(side))
        panel = panels[0, 0]
        for place, group in enumerate(groups):
            points = [score for score in scores if score.title in side and score.group == group]
            shift = (place - (len(groups) - 1) / 2) * min(0.18, 0.8 / len(groups))
            panel.scatter(
                [score.relative for score in points],
                [side.index(score.title) + shift for score in points],
                s=26,
                color=COLOURS[place % len(COLOURS)],
                label=group,
            )
        panel.axvline(1, color="#5b5b5b", linewidth=1, linestyle="--")
        panel.set_yticks(range(len(side)), side, fontsize=9)
        panel.set_ylim(len(side) - 0.5, -0.5)
        if word == "distances":
            low, high = min(0.7, *panel.get_xlim()), max(1.5, *panel.get_xlim())
            panel.set_xscale("log")
            panel.set_xlim(max(low, 0.05), high * 1.1)
            ticks = [tick for tick in _TICKS if max(low, 0.05) <= tick <= high * 1.1]
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
        else:
            panel.set_xlim(0, max(1.1, panel.get_xlim()[1]))
        near = "; of density, near 1" if any(_direction(scores, title) == "as real" for title in side) else ""
        panel.set_xlabel(f"times the floor; {best[0]} is better{near}", fontsize=9)
        panel.tick_params(labelsize=9)
        if len(groups) > 1:
            figure.legend(loc="outside upper right", ncols=min(4, len(groups)), fontsize=9, frameon=False)
        alt = f"Values of {word} between synthetic and real images, divided by those of real against real."
        figures.append(Figure(figure_png(figure), alt))
    return figures


def _direction(scores: Sequence[Score], title: str) -> str:
    """Return which value of a number is the best."""
    return next(score.direction for score in scores if score.title == title)
