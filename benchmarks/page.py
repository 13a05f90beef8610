"""Results as a page of Markdown, with figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measurements
from medgan.pages import COLOURS, figure_png, make_figure, markdown_table

_UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))


def write_page(folder: Path) -> Path:
    """Write the page of all results in a folder, with the figures it shows.

    Args:
        folder: Holds one JSON file a measurement.

    Returns:
        The page.
    """
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    parts = [
        "# What was measured\n",
        "Written by `python -m benchmarks`; [how](../README.md). Seconds are medians with quartiles. A ratio is formed "
        "in each turn, in which the sides work one after the other; it is told as the median with a 95 % interval of "
        "it in brackets, where there are turns enough. CPU is the processor time of all threads. Memory is the most "
        "that the process held, or one that it waited for, with its libraries and the data.\n",
    ]
    targets = [_target_row(result, comparison, target) for result, comparison, target in _targets(results)]
    if targets:
        parts += ["## Aims\n", markdown_table(["measurement", "aim", "found", "met"], targets)]
    for result in results:
        module = measurements.get(result["name"])
        parts += [
            f"## {module.TITLE}\n",
            str(module.__doc__).strip() + "\n",
            _describe_machine(result["machine"]) + "\n",
        ]
        for number, comparison in enumerate(result["comparisons"]):
            parts += [f"### {comparison['title']}\n", _table(comparison), _missing(comparison)]
            name = f"{result['name']}-{number}.png"
            if _draw(comparison, folder / name):
                parts.append(f"![{_alt(comparison)}]({name})\n")
    path = folder / "README.md"
    path.write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return path


def _targets(results: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any, Any]]:
    return [(one, two, three) for one in results for two in one["comparisons"] for three in two["targets"]]


def _target_row(result: Any, comparison: Any, target: Any) -> list[str]:
    form = format_seconds if target["of"] == "seconds" else format_ratio
    what = f"{target['side']}: {target['bound']} {form(target['value'])}"
    if target["of"] == "ratio":
        what += f" the time of {comparison['sides'][0]['name']}"
    found = "not measured" if target["found"] is None else form(target["found"])
    quick = " (quick: says nothing)" if result["machine"]["quick"] else ""
    met = {True: "yes", False: "no", None: ""}[target["met"]]
    if interval := target.get("interval"):  # measured before there were any
        found += " [{}, {}]".format(*map(form, interval))
        met += "" if target["beyond_chance"] else ", not beyond chance"
    title = f"{measurements.get(result['name']).TITLE}: {comparison['title']}"
    return [title, what, found + quick, met]


def _table(comparison: Mapping[str, Any]) -> str:
    sides = [side for side in comparison["sides"] if "seconds" in side]
    with_values = not comparison["axis"] and len({_digits(side["value"]) for side in sides} - {""}) > 1
    columns = [
        comparison["axis"] or "",
        f"time per {comparison['unit']}",
        "CPU",
        "memory, MiB",
        f"times {comparison['sides'][0]['name']}",
    ]
    rows = []
    for side in sides:
        low, high = side["seconds"]["quartiles"]
        median = side["seconds"]["median"]
        row = [
            side["name"],
            f"{format_seconds(median)} ({format_seconds(low)} to {format_seconds(high)})",
            format_seconds(side["cpu_seconds"]["median"]),
            f"{side['peak_mib']:,.0f}",
            _ratio_cell(side.get("ratio")),
        ]
        rows.append(row + ([_digits(side["value"])] if with_values else []))
    turns = f"{comparison['rounds']} × {comparison['turns']} turns.\n"
    return markdown_table(columns + (["value"] if with_values else []), rows) + "\n" + turns


def _ratio_cell(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return "1"
    interval = ratio["interval"]
    where = "" if interval is None else f" [{format_ratio(interval[0])}, {format_ratio(interval[1])}]"
    return format_ratio(ratio["median"]) + where


def _missing(comparison: Mapping[str, Any]) -> str:
    left_out = [f"{side['name']} ({side['missing']})" for side in comparison["sides"] if side["missing"]]
    return f"Left out: {'; '.join(left_out)}.\n" if left_out else ""


def _describe_machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in machine["versions"].items())
    keras = machine["keras_versions"]
    text = (
        f"*{machine['date']}, commit {machine['commit']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} thread(s) a side, {machine['memory_gib']} GiB, {machine['system']}; load "
        f"{machine['load_before']} before and {machine['load_after']} after. Python {machine['python']}, {versions}"
    )
    if keras:
        text += f"; for Keras {', '.join(f'{name} {version}' for name, version in keras.items())}"
    text += ".*"
    if machine["quick"]:
        text += "\n\n**Measured with `--quick`: smallest sizes, two turns; these numbers say nothing.**"
    return text


def _draw(comparison: Mapping[str, Any], path: Path) -> bool:
    """Draw times by side, or along the axis; return whether there is something to be seen."""
    sides = [side for side in comparison["sides"] if "seconds" in side]
    if len(sides) < 2:
        return False
    medians = [side["seconds"]["median"] for side in sides]
    errors = [
        [median - side["seconds"]["quartiles"][0] for median, side in zip(medians, sides, strict=True)],
        [side["seconds"]["quartiles"][1] - median for median, side in zip(medians, sides, strict=True)],
    ]
    if comparison["axis"]:
        figure, panels = make_figure(width=6, height=3)
        (panel,) = panels.flat
        panel.errorbar([side["place"] for side in sides], medians, yerr=errors, marker="o", capsize=3)
        panel.set(xscale="log", yscale="log", xlabel=comparison["axis"], ylabel=f"seconds per {comparison['unit']}")
    else:
        figure, panels = make_figure(width=7, height=0.8 + 0.35 * len(sides))
        (panel,) = panels.flat
        colours = [COLOURS[0], *[COLOURS[6]] * (len(sides) - 1)]
        names = [side["name"] for side in sides]
        panel.barh(range(len(sides)), medians, xerr=errors, color=colours, capsize=3)
        panel.set(xlabel=f"seconds per {comparison['unit']}", yticks=range(len(sides)), yticklabels=names)
        panel.invert_yaxis()
        if max(medians) > 30 * min(medians):
            panel.set_xscale("log")
    path.write_bytes(figure_png(figure, dpi=110))
    return True


def _alt(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['title']}: seconds per {comparison['unit']}, medians and quartiles"


def format_seconds(seconds: float) -> str:
    """Return a time with three digits, in seconds, milli- or microseconds."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), _UNITS[-1])
    return f"{_three(seconds / size)} {unit}"


def format_ratio(ratio: float) -> str:
    """Return a ratio with three digits."""
    return _three(ratio)


def _three(value: float) -> str:
    if value <= 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
