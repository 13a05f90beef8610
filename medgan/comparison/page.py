"""A comparison for readers: tables, figures and one page. All of it comes from the facts of ``comparison.json``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medgan.core.budget import format_duration
from medgan.core.saving import write_aside
from medgan.core.spec import Batch, DataSpec
from medgan.evaluation.fidelity.groups import ALL
from medgan.evaluation.fidelity.page import FLOOR_OF_ALL
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
    make_grid,
    markdown_table,
    save_image,
)
from medgan.pages.page import Block

__all__ = ["make_table", "narrow_tables", "summarise", "write_pictures", "write_tables"]

Facts = Mapping[str, Any]

_ARROWS = {"lower": "↓", "higher": "↑", "as real": "≈", "near 0": "→ 0"}
_CURVES = (
    ("kernel_distance", "kernel distance ↓"),
    ("coverage", "coverage ↑"),
    ("class_consistency", "class consistency ↑"),
)
_REAL = "real beside real"
_LINES: tuple[Any, ...] = ("-", "--", ":", "-.")

_READING = (
    "One training of each, with one seed: another seed gives other figures, and the intervals do not hold that. They "
    "hold the chance of the sampling of synthetic images and, where medgan metrics says so, of the patients. Do not "
    "take a small difference for a rank."
)
_COSTS = (
    "Time is that of the training with its evaluations, grids and checkpoints, from the log; reading the data is not "
    "in it. Images a second are the images seen in that time. Memory is the highest resident memory of the training's "
    "own process, with the image file that it maps, and what PyTorch took of a CUDA device."
)
_FLOORS = (
    "What stands for real beside real is the floor: the same number between two halves of the held-out real images "
    "that share no patient, mean ± standard deviation over random halvings, at the number of images N. Nothing is to "
    "be gained beyond it. As most numbers depend on how many images are compared, × floor compares the synthetic "
    "images with the floor at its N; 1 is as near as other real patients are. " + FLOOR_OF_ALL
)


class _Key(NamedTuple):
    """Which number it is: a metric, and whose images; subgroups of two columns may have the same name."""

    metric: str
    column: str
    group: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> _Key:
        return cls(found["metric"], found["column"], found["group"])


# ---------------------------------------------------------------------------------------- tables


def write_tables(facts: Facts, out: Path) -> None:
    """Write ``table.csv`` and ``table.md``.

    Args:
        facts: Of the comparison.
        out: Folder.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    rows = make_table(facts)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    costs, quality = _cost_table(facts), _quality_table(facts)
    parts = [f"# {_title(facts)}", _lead(facts), markdown_table(costs.columns, costs.rows).rstrip(), _COSTS]
    if quality is not None:
        parts += [markdown_table(quality.columns, quality.rows).rstrip(), _FLOORS]
    parts += [f"{entry['name']} failed: {entry['error']}" for entry in _failed(facts)]
    parts.append(_READING)
    for name, text in {"table.csv": stream.getvalue(), "table.md": "\n\n".join(parts) + "\n"}.items():
        with write_aside(out / name) as aside:
            aside.write_text(text, encoding="utf-8", errors="replace")


def make_table(facts: Facts) -> list[dict[str, Any]]:
    """Return all figures as rows of a table, those of one training each and, last, the floor.

    Args:
        facts: Of the comparison.

    Returns:
        What a training took and, for each number, its ``value`` under its name, with ``_low`` and ``_high`` of the 95 %
        interval, ``_at_floor_n`` and ``_relative`` (times the floor); in the row of the floor its mean and ``_spread``.
        None where there is nothing.
    """
    rows: list[dict[str, Any]] = []
    keys = _keys(facts)
    for entry in facts["trainings"]:
        best = entry["best"] or {}
        row: dict[str, Any] = {
            "name": entry["name"],
            "architecture": entry["architecture"],
            "preset": entry["preset"],
            "status": entry["status"],
            "error": entry["error"],
            "generator_parameters": entry["parameters"]["generator"],
            "discriminator_parameters": entry["parameters"]["discriminator"],
            "steps": entry["steps"],
            "images_seen": entry["images_seen"],
            "images_per_second": entry["images_per_second"],
            "seconds": entry["seconds"],
            "peak_memory_bytes": entry["peak_memory_bytes"],
            "peak_device_memory_bytes": entry["peak_device_memory_bytes"],
            "best_step": best.get("steps"),
            "best_images_seen": best.get("images_seen"),
        }
        for key in keys:
            row |= dict(zip(_column_names(key), _numbers(_score(entry, key)), strict=True))
        rows.append(row)
    floor: dict[str, Any] = dict.fromkeys(rows[0]) | {"name": _REAL}
    for each in facts["floors"]:
        value, *_, spread = _column_names(_Key.of(each))
        floor |= {value: each["mean"], spread: each["spread"]}
    return [*rows, floor]


def narrow_tables(facts: Facts) -> list[Table]:
    """Return the tables of a page: what each training took and, a number in each row, what the best models are like.

    Args:
        facts: Of the comparison.
    """
    keys, finished = _keys(facts), _finished(facts)
    if not keys:
        return [_cost_table(facts)]
    rows: list[list[str]] = []
    strong: set[tuple[int, int]] = set()
    for key in keys:
        scores = [_score(entry, key) for entry in finished]
        floor = _floor(facts, key)
        best = None if _is_small(facts, key) else _best(scores)
        if best is not None:
            strong.add((len(rows), best + 1))
        rows.append([_heading(facts, key), *(_cell(score) for score in scores), _floor_cell(floor)])
        if floor is not None and any(score and score["relative"] is not None for score in scores):
            relatives = ["" if score is None else _number(score["relative"]) for score in scores]
            rows.append([f"× floor, at N = {floor['images']:,}", *relatives, "1"])
    columns = ["number", *(entry["name"] for entry in finished), _REAL]
    return [_cost_table(facts), Table(columns, rows, caption=_quality_caption(facts), strong=strong)]


def _column_names(key: _Key) -> list[str]:
    """Return the columns of a number in the CSV file."""
    name = "/".join([key.metric, *([key.column] if key.column else []), *([] if key.group == ALL else [key.group])])
    return [name, *(f"{name}_{end}" for end in ("low", "high", "at_floor_n", "relative", "spread"))]


def _numbers(score: Mapping[str, Any] | None) -> list[Any]:
    """Return the figures of a number, in the order of its columns."""
    if score is None:
        return [None] * 6
    interval, floor = score["interval"] or {}, score["floor"] or {}
    return [
        score["value"], interval.get("low"), interval.get("high"), floor.get("synthetic"), score["relative"], None
    ]  # fmt: skip


def _keys(facts: Facts) -> list[_Key]:
    """Return the numbers that there are, those of all images first and those of subgroups last."""
    found = dict.fromkeys(_Key.of(score) for entry in facts["trainings"] for score in entry["scores"])
    return sorted(found, key=lambda key: (key.column != "", key.group != ALL))


def _score(entry: Facts, key: _Key) -> dict[str, Any] | None:
    """Return a number of a training; None if it has none of that name."""
    return next((score for score in entry["scores"] if _Key.of(score) == key), None)


def _failed(facts: Facts) -> list[Facts]:
    """Return the trainings that failed."""
    return [entry for entry in facts["trainings"] if entry["status"] != "done"]


def _finished(facts: Facts) -> list[Facts]:
    """Return the trainings that did not."""
    return [entry for entry in facts["trainings"] if entry["status"] == "done"]


def _cost_table(facts: Facts) -> Table:
    """Return the table of what each training took."""
    columns = ["training", "preset", "parameters of G", "of D", "images seen", "images/s", "time", "peak memory"]
    device = any(entry["peak_device_memory_bytes"] is not None for entry in facts["trainings"])
    columns += ["of the device"] if device else []
    columns += ["best at"]
    rows = []
    for entry in facts["trainings"]:
        speed, seconds, seen = entry["images_per_second"], entry["seconds"], entry["images_seen"]
        best = f"{entry['best']['images_seen']:,} images" if entry["best"] else "failed"
        row = [entry["name"], entry["preset"]]
        row += [f"{entry['parameters'][name]:,}" for name in ("generator", "discriminator")]
        row += [
            "" if seen is None else f"{seen:,}",
            _number(speed),
            "" if seconds is None else format_duration(seconds),
        ]
        row += [_memory(entry["peak_memory_bytes"])]
        row += [_memory(entry["peak_device_memory_bytes"])] if device else []
        rows.append([*row, best])
    return Table(columns, rows, caption=f"Each trained for {_length(facts)}, on {_machine(facts)}.")


def _quality_table(facts: Facts) -> Table | None:
    """Return the table of what the best models are like, a training in each row; None if there is none."""
    keys, finished = _keys(facts), _finished(facts)
    if not keys:
        return None
    rows = [[entry["name"], *(_whole_cell(_score(entry, key)) for key in keys)] for entry in finished]
    floor = [_REAL, *(_floor_cell(_floor(facts, key)) for key in keys)]
    columns = ["training", *(_heading(facts, key) for key in keys)]
    return Table(columns, [*rows, floor], caption=_quality_caption(facts))


def _quality_caption(facts: Facts) -> str:
    """Say what the best models were compared with."""
    score = _finished(facts)[0]["scores"][0]
    samples = f" in each of {score['samples']} samples" if score["samples"] > 1 else ""
    return (
        f"The best model of each beside {_reference(facts)}: value and 95 % interval; {score['real_images']:,} real "
        f"and {score['synthetic_images']:,} synthetic images{samples}. Bold is the best value, whether the next is far "
        "from it or not."
    )


def _heading(facts: Facts, key: _Key) -> str:
    """Return the name of a number, with the direction in which it is better."""
    score = next(score for score in (_score(entry, key) for entry in _finished(facts)) if score is not None)
    group = "" if key.group == ALL else f", {key.column} {key.group}" if key.column else f", {key.group}"
    few = " (few patients)" if _is_small(facts, key) else ""
    return f"{score['title']}{group}{few} {_ARROWS[score['direction']]}"


def _is_small(facts: Facts, key: _Key) -> bool:
    """Whether a number is of too few real patients for a verdict; they are the same for all trainings."""
    scores = (_score(entry, key) for entry in _finished(facts))
    return any(score is not None and score["small"] for score in scores)


def _floor(facts: Facts, key: _Key) -> dict[str, Any] | None:
    """Return what real images give for a number; None where there is nothing to compare."""
    return next((each for each in facts["floors"] if _Key.of(each) == key), None)


def _floor_cell(floor: Mapping[str, Any] | None) -> str:
    """Return the floor of a number."""
    if floor is None:
        return ""
    return f"{_number(floor['mean'])} ± {_number(floor['spread'])}, N = {floor['images']:,}"


def _cell(score: Mapping[str, Any] | None) -> str:
    """Return a number with its interval."""
    if score is None:
        return ""
    if score["value"] is None:
        return "not computed"
    text = _number(score["value"])
    if score["interval"] is None:
        return text
    low, high, images = (score["interval"][name] for name in ("low", "high", "images"))
    at = "" if images == score["synthetic_images"] else f" at N = {images:,}"
    return f"{text} ({_number(low)} to {_number(high)}{at})"


def _whole_cell(score: Mapping[str, Any] | None) -> str:
    """Return a number with its interval, and how many times the floor it is."""
    if score is None or score["relative"] is None:
        return _cell(score)
    return f"{_cell(score)}, {_number(score['relative'])} × floor"


def _best(scores: Sequence[Mapping[str, Any] | None]) -> int | None:
    """Return the position of the best value; None unless there are two to choose from, and one is ahead."""
    distances = [math.inf if score is None else _distance(score) for score in scores]
    first, second = sorted(distances)[:2] if len(distances) > 1 else (math.inf, math.inf)
    return distances.index(first) if first < second < math.inf else None


def _distance(score: Mapping[str, Any]) -> float:
    """Return what is the smaller, the better a number is."""
    value = score["value"]
    if value is None:
        return math.inf
    if score["direction"] == "as real":
        floor = score["floor"]
        return math.inf if floor is None else abs(floor["synthetic"] - floor["mean"])  # of equally many images
    distances = {"lower": value, "higher": -value, "near 0": abs(value)}
    return float(distances[score["direction"]])


def summarise(facts: Facts) -> list[str]:
    """Say in sentences which training is ahead in what, and whether the next one is within its interval.

    Args:
        facts: Of the comparison.
    """
    finished = _finished(facts)
    sentences = []
    for key in [key for key in _keys(facts) if key.group == ALL]:
        found = [
            (_distance(score), entry["name"], score)
            for entry, score in ((entry, _score(entry, key)) for entry in finished)
            if score is not None and score["relative"] is not None
        ]
        ranked = sorted(found, key=lambda each: each[0])
        if len(ranked) < 2 or ranked[0][0] == ranked[1][0]:
            continue
        (_, first, best), (_, second, next_) = ranked[:2]
        doubt = "" if _apart(best, next_) else " Their intervals overlap, or there are none: this shows no difference."
        sentences.append(
            f"{best['title']}: {first} is ahead with {_whole_cell(best)}; {second} follows with {_whole_cell(next_)}."
            + doubt
        )
    return sentences


def _apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two numbers have intervals that do not overlap."""
    one, other = first["interval"], second["interval"]
    return bool(one and other and (one["high"] < other["low"] or other["high"] < one["low"]))


# --------------------------------------------------------------------------- figures and the page


def write_pictures(
    facts: Facts,
    out: Path,
    *,
    samples: Sequence[tuple[str, Batch, DataSpec]],
    real: tuple[Batch, DataSpec] | None,
) -> Path:
    """Write ``figures/*.png`` and ``index.html``.

    Args:
        facts: Of the comparison.
        out: Folder.
        samples: Images of each finished training, all of the same seeds and labels: its name, and what they are.
        real: Real images of the same labels; None to show none.

    Returns:
        The page.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    folder = out / "figures"
    best = {entry["name"]: entry["best"] for entry in facts["trainings"]}
    grids = []
    for name, batch, spec in samples:
        grid = make_grid(batch, spec)
        save_image(grid, folder / f"samples-{name}.png")
        caption = f"{name}: the best model, after {best[name]['images_seen']:,} images"
        grids.append(Figure.of_image(grid, f"Samples of {name}.", caption))
    (folder / "real.png").unlink(missing_ok=True)
    if real is not None:
        grid = make_grid(*real)
        save_image(grid, folder / "real.png")
        who = "computed, of nobody" if _is_phantom(facts) else "of patients"
        caption = f"Real images of the {facts['reference']['part']}, {who}"
        grids.append(Figure.of_image(grid, "Real images.", caption))
    drawn: dict[str, Figure | None] = {"quality": _draw_curves(facts), "metrics": _draw_metrics(facts)}
    for name, figure in drawn.items():
        if figure is None:
            (folder / f"{name}.png").unlink(missing_ok=True)
            continue
        with write_aside(folder / f"{name}.png") as aside:
            aside.write_bytes(figure.png)
    page = out / "index.html"
    _make_page(facts, grids, drawn["quality"], drawn["metrics"], shows_real=real is not None).write(page)
    return page


def _make_page(
    facts: Facts, grids: Sequence[Figure], curves: Figure | None, dots: Figure | None, *, shows_real: bool
) -> Page:
    """Return the page."""
    opening: list[Block] = []
    if shows_real and grids and not _is_phantom(facts):
        opening.append(
            Note(
                "This page shows images of real patients. It is under the rules of that data: do not publish or pass "
                "it on where they may not be. medgan compare --no-real-images leaves them out.",
                "danger",
            )
        )
    found = summarise(facts)
    if found:
        opening.append(Note("What was found", "verdict", points=found))
    opening += [Note(f"{entry['name']} failed: {entry['error']}", "danger") for entry in _failed(facts)]
    opening.append(Note("What limits it", "warning", points=[_READING, *_limits(facts)]))
    costs, *quality = narrow_tables(facts)
    sections = [Section("What each took", [costs, Text(_COSTS)])]
    if quality:
        blocks: list[Block] = [*quality, Text(_FLOORS), *([dots] if dots else [])]
        sections.append(Section("The best models beside real patients", blocks))
    if curves is not None:
        sections.append(Section("Quality as the trainings went on", [curves]))
    else:
        sections.append(
            Section(
                "Quality as the trainings went on",
                [
                    Text(
                        "No training was looked at in its course: nobody was held out for validation, or they were too "
                        "short for that. --evaluate-every N looks all the same, each N steps."
                    )
                ],
            )
        )
    if grids:
        caption = "Unselected, of the same seeds for all, and of the same labels where the architecture learns any."
        sections.append(Section("Samples", [Gallery(grids, caption)]))
    sections.append(Section("What differs in the options", [_option_table(facts)], folded=True))
    if facts["command"]:
        sections.append(Section("Command", [Code(facts["command"])]))
    measured = facts["measured"].get("settings", {})
    return Page(
        title=_title(facts),
        lead=_lead(facts),
        opening=opening,
        sections=sections,
        footer={
            "seed": str(_seed(facts)),
            "data": str(facts["data"]["source"]),
            "fingerprint": str(facts["data"]["fingerprint"]),
            **{f"extractor {each['name']}": each["sha256"] for each in facts["measured"].get("extractors", [])},
            **{name: str(measured[name]) for name in ("image_seeds", "halvings", "permutations") if name in measured},
            **{f"version of {name}": value for name, value in facts["versions"].items()},
        },
    )


def _title(facts: Facts) -> str:
    return f"{len(facts['trainings'])} architectures on {facts['data']['name']}"


def _lead(facts: Facts) -> str:
    names = ", ".join(entry["name"] for entry in facts["trainings"])
    train = facts["parts"]["train"]
    return (
        f"{names}: each trained for {_length(facts)} on the same {train['images']:,} images"
        f"{_patients(train)} of {facts['data']['name']}, seed {_seed(facts)}, and measured beside {_reference(facts)}."
    )


def _seed(facts: Facts) -> Any:
    """Return the seed of all trainings."""
    return facts["trainings"][0]["options"]["seed"]


def _length(facts: Facts) -> str:
    """Say how long each training is."""
    options = facts["plan"]["options"]
    if options["budget"] is not None:
        return str(options["budget"])
    return f"{options['kimg']:g} thousand images"


def _patients(part: Facts) -> str:
    """Say of how many patients images are."""
    return f" of {part['patients']:,} patients" if part["patients"] else ""


def _reference(facts: Facts) -> str:
    """Say what real images all are measured by."""
    part = facts["reference"]
    return f"{part['images']:,} held-out images{_patients(part)} ({part['part']})"


def _is_phantom(facts: Facts) -> bool:
    """Whether the real images are computed ones."""
    return str(facts["data"]["source"]).startswith("phantom:")


def _machine(facts: Facts) -> str:
    """Say what the trainings were done on."""
    machines = dict.fromkeys(
        f"{machine['machine']}, {machine['threads']} thread{'s' * (machine['threads'] != 1)}"
        for machine in (entry["machine"] for entry in facts["trainings"])
        if machine["machine"]
    )
    return " and ".join(machines) or "an unknown machine"


def _limits(facts: Facts) -> list[str]:
    """Say what else limits the figures."""
    sentences = []
    if facts["reference"]["part"] == "validation":
        sentences.append(
            "The held-out patients are those that chose the best model of each training, so that all look a little "
            "better than on others. With --test 0.2 they are measured by patients who chose nothing."
        )
    finished = _finished(facts)
    features = {entry["best"]["features"] for entry in finished if entry["best"]["features"]}
    if len(features) > 1:
        sentences.append("Not all trainings were looked at with the same features: their curves cannot be compared.")
    latest = [entry["name"] for entry in finished if not entry["best"]["features"]]
    if latest:
        sentences.append(f"No evaluation chose the model of {', '.join(latest)}: it is the last one.")
    unlike = [entry["name"] for entry in finished if not entry["synthetic"]["class_counts"]]
    if unlike and facts["data"]["class_counts"]:
        sentences.append(f"{', '.join(unlike)} makes images without labels; the others are asked for each class.")
    if len({str(entry["machine"]) for entry in finished}) > 1:
        sentences.append("Not all trainings were done on the same machine: times and speeds cannot be compared.")
    shared = dict.fromkeys(warning for entry in finished for warning in entry["warnings"])
    for warning in shared:
        names = [entry["name"] for entry in finished if warning in entry["warnings"]]
        sentences.append(warning if len(names) == len(finished) else f"{', '.join(names)}: {warning}")
    return sentences


def _option_table(facts: Facts) -> Table:
    """Return the options that not all trainings have alike; those of the run are the same for all."""
    options = {entry["name"]: entry["options"] for entry in facts["trainings"]}
    names = dict.fromkeys(name for each in options.values() for name in each)
    rows = []
    for name in names:
        values = [_option(each[name]) if name in each else "" for each in options.values()]
        if len(set(values)) > 1:
            rows.append([name, *values])
    caption = (
        "Options of the presets that are not the same for all; empty where an architecture has no such option. How a "
        "run is evaluated and watched is the same for all."
    )
    return Table(["option", *options], rows, caption=caption)


def _option(value: Any) -> str:
    """Return the value of an option as text."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _draw_curves(facts: Facts) -> Figure | None:
    """Draw the evaluations of all trainings over time and over images; None if there are none."""
    entries = [entry for entry in facts["trainings"] if entry["evaluations"]]
    curves = [
        (name, title)
        for name, title in _CURVES
        if any(name in each for entry in entries for each in entry["evaluations"])
    ]
    if not curves:
        return None
    longest = max(each["seconds"] for entry in entries for each in entry["evaluations"])
    unit, word = (60.0, "minutes") if longest >= 120 else (1.0, "seconds")
    figure, panels = make_figure(len(curves), 2, width=9.5, height=2.5)
    order = [entry["name"] for entry in facts["trainings"]]
    for row, (name, title) in zip(panels, curves, strict=True):
        for panel, axis in zip(row, ("seconds", "images"), strict=True):
            scale = unit if axis == "seconds" else 1000
            for entry in entries:
                points = [(each[axis] / scale, each[name]) for each in entry["evaluations"] if name in each]
                if not points:
                    continue
                place = order.index(entry["name"])
                colour, line = COLOURS[place % len(COLOURS)], _LINES[place // len(COLOURS) % len(_LINES)]
                panel.plot(
                    *zip(*points, strict=True), color=colour, linestyle=line, linewidth=1.4, marker="o", markersize=3.2
                )
                best = entry["best"]
                kept = [
                    (each[axis] / scale, each[name])
                    for each in entry["evaluations"]
                    if name in each and best and each["step"] == best["steps"]
                ]
                if kept:
                    panel.scatter(*zip(*kept, strict=True), s=60, facecolors="none", edgecolors=colour)
            of_real = [each.get(f"real_{name}") for entry in entries for each in entry["evaluations"]]
            level = next((value for value in of_real if value is not None), None)
            if level is not None:
                panel.axhline(level, color="#5b5b5b", linewidth=1, linestyle="--")
            panel.tick_params(labelsize=9)
        row[0].set_ylabel(title, fontsize=9)
    panels[-1, 0].set_xlabel(f"{word} of training", fontsize=9)
    panels[-1, 1].set_xlabel("thousand images seen", fontsize=9)
    _legend(figure, facts, [entry["name"] for entry in entries])
    part = facts["parts"].get("validation")
    who = "held-out patients" if part is None else f"{part['images']:,} validation images{_patients(part)}"
    caption = (
        f"Each training's own evaluations, beside {who}, of the same features for all. The circle is the model that "
        "was kept, the dashed line what held-out real images reach. The kernel distance is that of the kernel rbf: 0 "
        "for images of the same distribution."
    )
    return Figure(figure_png(figure), "Kernel distance, coverage and class consistency over time and images.", caption)


def _draw_metrics(facts: Facts) -> Figure | None:
    """Draw the numbers of the best models with their intervals, beside the floor; None if there are none."""
    finished = _finished(facts)
    floors = {key: floor for key in _keys(facts) if (floor := _floor(facts, key)) is not None}
    keys = [key for key, floor in floors.items() if key.group == ALL and floor["mean"] is not None]
    if not keys or not finished:
        return None
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure, panels = make_figure(rows, columns, width=3.2 * columns, height=0.9 + 0.25 * len(finished))
    order = [entry["name"] for entry in facts["trainings"]]
    for panel in list(panels.flat)[len(keys) :]:
        panel.set_axis_off()
    for panel, key in zip(panels.flat, keys, strict=False):
        floor = floors[key]
        panel.axvline(floor["mean"], color="#5b5b5b", linewidth=1, linestyle="--")
        if floor["spread"] is not None:
            low, high = floor["mean"] - floor["spread"], floor["mean"] + floor["spread"]
            panel.axvspan(low, high, color="#5b5b5b", alpha=0.15, linewidth=0)
        for place, entry in enumerate(finished):
            score = _score(entry, key)
            if score is None or score["value"] is None:
                continue
            colour = COLOURS[order.index(entry["name"]) % len(COLOURS)]
            panel.plot([score["value"]], [place], "o", color=colour, markersize=5)
            if score["interval"] is not None:
                bounds = [score["interval"]["low"], score["interval"]["high"]]
                panel.plot(bounds, [place, place], color=colour, linewidth=1.6)
            if score["floor"] is not None and score["floor"]["images"] != score["synthetic_images"]:
                panel.plot([score["floor"]["synthetic"]], [place], "o", mfc="none", color=colour, markersize=5)
        panel.set_yticks(range(len(finished)), [entry["name"] for entry in finished], fontsize=8)
        panel.set_ylim(len(finished) - 0.5, -0.5)
        panel.set_title(f"{floor['title']} {_ARROWS[floor['direction']]}", fontsize=9)
        panel.tick_params(labelsize=8)
    caption = (
        f"The best models beside {_reference(facts)}. Filled: the value, with its 95 % interval; hollow: the value at "
        "the number of images of the floor, which is what to compare with it. Dashed with its band: the floor."
    )
    return Figure(
        figure_png(figure), "Metrics of the best models with intervals, beside those of real images.", caption
    )


def _legend(figure: Any, facts: Facts, names: Sequence[str]) -> None:
    """Add a legend of trainings above a figure."""
    from matplotlib.lines import Line2D

    order = [entry["name"] for entry in facts["trainings"]]
    places = [order.index(name) for name in names]
    handles = [
        Line2D([], [], color=COLOURS[place % len(COLOURS)], linestyle=_LINES[place // len(COLOURS) % len(_LINES)])
        for place in places
    ]
    figure.legend(handles, names, loc="outside upper center", ncols=min(6, len(names)), fontsize=9, frameon=False)


def _number(value: float | None) -> str:
    """Return a number with three digits."""
    if value is None:
        return ""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.2e}"


def _memory(value: int | None) -> str:
    """Return a number of bytes in MiB or GiB."""
    if value is None:
        return "not known"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
