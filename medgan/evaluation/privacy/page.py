"""A privacy audit for readers: sentences, a page, and the files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from medgan.core.saving import write_aside
from medgan.core.spec import Batch, DataSpec
from medgan.data.dataset import ImageDataset
from medgan.evaluation.privacy.copies import CopyRate
from medgan.evaluation.privacy.data_copying import COPYING
from medgan.evaluation.privacy.records import AuditReport, SpaceResult, Verdict
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
)
from medgan.pages.page import Block

__all__ = ["make_page", "summarise_audit", "write_audit"]

_VERDICTS: dict[Verdict, str] = {
    "leakage": "Leakage was detected.",
    "unclear": "Not clear: what was found need not be copying, as it is not beyond a control. Synthetic images may be "
    "just as near to patients whom the generator has not seen, or training and held-out patients differ in themselves.",
    "none": "No leakage detected under these tests.",
}
_TONES: dict[Verdict, Literal["verdict", "warning", "danger"]] = {
    "leakage": "danger",
    "unclear": "warning",
    "none": "verdict",
}
_CAVEAT = (
    "The tests find what they look for, in the spaces named here. They are no proof that no patient can be recognised."
)
_READING = (
    "Copies. An image is flagged if it is nearer to a training image than all but a small share (the level) of the "
    "held-out patients' images are. A generator that draws new patients has that share flagged by chance; the excess "
    "copy rate is what is above it, with a 95 % interval over held-out patients and synthetic images.",
    "Control. The same with the roles exchanged: how many synthetic images are nearer to a held-out patient than "
    "training patients are? The generator has never seen the held-out patients, so that whatever is in excess here is "
    "a lack of variety or a difference of quality, not copying.",
    "Data copying. C_T compares all distances, not the smallest alone, in cells of similar training images. Around 0 "
    f"if synthetic images are as near as held-out ones, far below if nearer; a cell below {COPYING:g} holds copies. "
    "Above 0: synthetic images are unlike training images.",
    "Authenticity. The share of synthetic images whose nearest training image has another training patient nearer to "
    "it than the synthetic image is. Only the difference from the held-out patients means anything.",
    "Membership. Whoever has the synthetic images and images of other patients scores a candidate. The area under the "
    "curve is 0.5 if training and held-out patients cannot be told apart. The caught members are those above a score "
    "that few held-out patients reach; they are the harm, even if the area is near 0.5. Random halves of the members, "
    "told from each other, show how far chance goes; the blind attack, which sees no synthetic image, shows whether "
    "the two groups differ in themselves.",
    "The verdict counts a test if its p-value is below 0.05 after Holm's correction for all tests listed, and, of "
    "copies, C_T and authenticity, if it goes beyond the control: synthetic images are nearer to training patients "
    "than they would be if chance had held others out, by a test in which patients of both sides change places (the "
    "larger of the two p-values then counts, corrected likewise: the column exchanged). Of all but copies, the blind "
    "attack must not tell the groups apart. Or if a synthetic image is a training image, pixel by pixel.",
)
_PATIENTS = (
    "This page shows images of real patients and names their files. Treat it as you treat the training data; with "
    "--pairs 0 it has neither."
)


def summarise_audit(report: AuditReport) -> list[str]:
    """Say in a few sentences what was found, the verdict first.

    Args:
        report: The audit.
    """
    sentences = [f"{_VERDICTS[report.verdict]} {_CAVEAT}"]
    if report.identical:
        sentences.append(
            f"{report.identical:,} of the {report.synthetic['images']:,} synthetic images are, pixel by pixel, "
            "training images."
        )
    for each in report.spaces:
        copies = each.copies
        sentences.append(
            f"Copies ({each.space}): {copies.flagged:,} of {copies.images:,} synthetic images are nearer to a training "
            f"image than {1 - copies.level:.1%} of {_patients(copies)} held-out patients are, {copies.level:.1%} would "
            f"be by chance: excess copy rate {_rate(copies)}{_control(each)}."
        )
        attack, caught = each.membership.attack, each.membership.caught
        found = (
            f"Membership ({each.space}): area under the curve {attack.area:.3f} ({attack.low:.3f} to "
            f"{attack.high:.3f}; members against members {each.membership.control.area_low:.3f} to "
            f"{each.membership.control.area_high:.3f})"
        )
        if caught is not None:
            found += (
                f"; {caught.rate:.1%} ({caught.rate_low:.1%} to {caught.rate_high:.1%}) of the members are caught at "
                f"{caught.level:.1%} false positives"
            )
        sentences.append(found + ".")
    worst = [each for each in report.subgroups if each.worst and each.copies is not None]
    if worst:
        highest = max(worst, key=lambda each: each.copies.excess if each.copies else 0.0)
        assert highest.copies is not None
        sentences.append(
            f"Subgroup with the highest excess copy rate: {highest.column} {highest.group} ({highest.space}), "
            f"{_rate(highest.copies)}. By chance alone one group is the highest."
        )
    return sentences


def make_page(
    report: AuditReport, *, training: ImageDataset | None = None, synthetic: ImageDataset | None = None
) -> Page:
    """Return the page of an audit.

    Args:
        report: The audit.
        training: The training images, to show the closest pairs side by side; None to list them only.
        synthetic: The synthetic images.
    """
    verdict, *rest = summarise_audit(report)
    opening: list[Block] = [Note(verdict, _TONES[report.verdict], points=rest)]
    if report.warnings:
        opening.append(Note("What limits it", "warning", points=report.warnings))
    if report.pairs:
        opening.append(Note(_PATIENTS, "warning"))
    sections = [
        Section("Copies", [_copies_table(report), Gallery([_figure(each) for each in report.spaces], _FIGURE)]),
        Section("Who was in the training?", [_membership_table(report)]),
        Section("Other tests", [_others_table(report)]),
    ]
    groups = _subgroup_blocks(report)
    if groups:
        sections.append(Section("Subgroups", groups))
    if report.pairs:
        sections.append(Section("Closest pairs", _pair_blocks(report, training, synthetic)))
    sections += [
        *([Section("Cells of C_T", [_cells_table(report)], folded=True)] if _has_cells(report) else []),
        Section("The verdict's tests", [_findings_table(report)]),
        Section("How to read it", [*map(Text, _READING)]),
        Section("Spaces", [Table(("space", "nearness"), [[each.space, each.description] for each in report.spaces])]),
        Section("Images", [Table(("", "training", "held-out", "synthetic"), _image_rows(report))]),
    ]
    if "command" in report.settings:
        sections.append(Section("Command", [Code(str(report.settings["command"]))]))
    return Page(
        title=f"Privacy audit of {report.synthetic['name']}",
        lead=(
            f"{report.synthetic['images']:,} synthetic images beside {report.training['images']:,} training images"
            f"{_of_patients(report.training)} and {report.held_out['images']:,} images{_of_patients(report.held_out)} "
            "whom the generator has not seen."
        ),
        opening=opening,
        sections=sections,
        footer={
            **{name: str(value) for name, value in report.settings.items() if name != "command"},
            **{f"sha256 of {each['name']}": str(each["sha256"]) for each in report.extractors},
            **{f"version of {name}": value for name, value in report.versions.items()},
        },
    )


def write_audit(
    report: AuditReport, out: Path, *, training: ImageDataset | None = None, synthetic: ImageDataset | None = None
) -> dict[str, Path]:
    """Write ``audit.json`` and ``audit.html``; earlier ones are replaced.

    Args:
        report: The audit.
        out: Folder.
        training: See `make_page`.
        synthetic: See `make_page`.

    Returns:
        The files, by name.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    found = {**report.to_dict(), "sentences": summarise_audit(report)}
    with write_aside(out / "audit.json") as aside:
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        aside.write_text(text, encoding="utf-8", errors="replace")
    make_page(report, training=training, synthetic=synthetic).write(out / "audit.html")
    return {name: out / name for name in ("audit.json", "audit.html")}


# ---------------------------------------------------------------------------------------- words


def _percent(value: float) -> str:
    """Return a share as text."""
    return f"{value:.1%}".replace("-", "−")


def _rate(copies: CopyRate) -> str:
    """Return an excess copy rate with its interval."""
    return f"{_percent(copies.excess)} ({_percent(copies.low)} to {_percent(copies.high)})"


def _p(value: float) -> str:
    """Return a p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _patients(copies: CopyRate) -> str:
    """Return the number of held-out patients behind a rate."""
    whole = math.isclose(copies.patients, round(copies.patients))
    return f"{copies.patients:,.0f}" + ("" if whole else " (in effect)")


def _control(result: SpaceResult) -> str:
    """Say what the control found."""
    return "" if result.control is None else f"; with unseen patients in their place {_rate(result.control)}"


def _of_patients(facts: dict[str, Any]) -> str:
    """Say of how many patients images are."""
    return f" of {facts['patients']:,} patients" if facts["patients"] else ""


# --------------------------------------------------------------------------------------- tables

_FIGURE = (
    "Distances to the nearest training image, of synthetic images and of held-out patients' images. Copies are left of "
    "the threshold."
)


def _copies_table(report: AuditReport) -> Table:
    rows = []
    for each in report.spaces:
        for name, copies in (("training patients", each.copies), ("control: unseen ones", each.control)):
            if copies is None:
                continue
            rows.append(
                [
                    each.space,
                    name,
                    f"{copies.flagged:,} of {copies.images:,}",
                    _percent(copies.rate),
                    _percent(copies.level),
                    _percent(copies.excess),
                    f"{_percent(copies.low)} to {_percent(copies.high)}",
                    _p(copies.p_value),
                    f"{each.matched_patients:,}" if copies is each.copies else "",
                ]
            )
    columns = ("space", "near to", "flagged", "rate", "by chance", "excess", "95 % interval", "p", "patients")
    caption = (
        "Synthetic images that are nearer than new patients' images are; last, how many training patients have one."
    )
    return Table(columns, rows, caption=caption)


def _membership_table(report: AuditReport) -> Table:
    rows = []
    for each in report.spaces:
        found = each.membership
        caught = ["", "", ""]
        if found.caught is not None:
            caught = [
                _percent(found.caught.rate),
                f"{_percent(found.caught.rate_low)} to {_percent(found.caught.rate_high)}",
                _percent(found.caught.level),
            ]
        area = [f"{found.attack.area:.3f}", f"{found.attack.low:.3f} to {found.attack.high:.3f}"]
        rows.append([each.space, "members against held-out patients", *area, *caught])
        control = found.control
        chance = [f"{control.area:.3f}", f"{control.area_low:.3f} to {control.area_high:.3f}"]
        rate = ["", ""]
        if control.rate is not None and control.rate_high is not None:
            rate = [_percent(control.rate), f"up to {_percent(control.rate_high)}"]
        rows.append(["", "control: members against members", *chance, *rate, ""])
        blind = [f"{found.blind.area:.3f}", f"{found.blind.low:.3f} to {found.blind.high:.3f}"]
        rows.append(["", "control: blind", *blind, "", "", ""])
    members, others = report.spaces[0].membership.members, report.spaces[0].membership.non_members
    return Table(
        ("space", "attack", "area", "95 % interval", "members caught", "95 % interval ", "false positives"),
        rows,
        caption=f"{members:,} training and {others:,} held-out patients, one image each. Of the control, the interval "
        "holds 95 % of 200 random halvings.",
    )


def _others_table(report: AuditReport) -> Table:
    rows = []
    for each in report.spaces:
        for name, found in (("", each.authenticity), ("control: ", each.control_authenticity)):
            if found is not None:
                shares = [_percent(found.synthetic), _percent(found.held_out)]
                difference = f"{_percent(found.difference)} ({_percent(found.low)} to {_percent(found.high)})"
                rows.append([each.space, f"{name}authenticity", *shares, difference, _p(found.p_value)])
        for name, test in (("", each.data_copying), ("control: ", each.control_data_copying)):
            if test is not None:
                value, z = (f"{number:.2f}".replace("-", "−") for number in (test.value, test.z))
                rows.append([each.space, f"{name}data copying, C_T", value, "0", f"z = {z}", _p(test.p_value)])
    return Table(("space", "test", "synthetic", "new patients", "difference", "p"), rows)


def _has_cells(report: AuditReport) -> bool:
    return any(each.data_copying is not None for each in report.spaces)


def _cells_table(report: AuditReport) -> Table:
    rows = [
        [
            each.space,
            str(number + 1),
            f"{cell.held_out:,}",
            f"{cell.synthetic:,}",
            "too few" if cell.z is None else f"{cell.z:.2f}".replace("-", "−"),
        ]
        for each in report.spaces
        if each.data_copying is not None
        for number, cell in enumerate(each.data_copying.cells)
    ]
    caption = f"C_T by cell of similar training images; below {COPYING:g} a cell holds copies."
    low = [
        number for number, row in enumerate(rows) if row[4] != "too few" and float(row[4].replace("−", "-")) < COPYING
    ]
    return Table(("space", "cell", "held-out patients", "synthetic images", "z"), rows, caption, strong=low)


def _findings_table(report: AuditReport) -> Table:
    rows = [
        [
            each.test,
            each.space,
            _p(each.p_value),
            _p(each.corrected),
            _p(each.exchanged),
            ("detected" if each.specific else "not beyond the control") if each.detected else "not detected",
        ]
        for each in report.findings
    ]
    strong = [number for number, each in enumerate(report.findings) if each.detected and each.specific]
    return Table(("test", "space", "p", "corrected", "exchanged", "result"), rows, strong=strong)


def _subgroup_blocks(report: AuditReport) -> list[Block]:
    blocks: list[Block] = []
    columns = list(dict.fromkeys(each.column for each in report.subgroups))
    for column in columns:
        rows: list[list[str]] = []
        strong = []
        for each in report.subgroups:
            if each.column != column:
                continue
            cells = ["too few for a verdict", "", "", ""]
            if each.copies is not None:
                copies = each.copies
                cells = [
                    _percent(copies.rate),
                    _percent(copies.level),
                    _percent(copies.excess),
                    f"{_percent(copies.low)} to {_percent(copies.high)}",
                ]
                if each.worst:
                    strong.append(len(rows))
            name = each.group + (" (few patients)" if each.small else "")
            counts = [f"{number:,}" for number in (each.training_patients, each.held_out, each.synthetic)]
            rows.append([each.space, name, *counts, *cells])
        headings = ("space", column, "training", "held-out", "synthetic", "flagged", "by chance", "excess")
        caption = "Training patients of each group; held-out patients and synthetic images that are nearest to it."
        blocks.append(Table((*headings, "95 % interval"), rows, caption, strong=strong))
    if blocks:
        text = (
            "A synthetic image has no sex and no age of its own; it counts for the group of the training patient whom "
            "it is nearest to, and so do the held-out patients with whom it is compared. Nothing is corrected for the "
            "number of groups, and by chance alone one is the highest. Groups have no control of their own: where that "
            "of all images finds as much as the test, a group's excess is no sign of copying either."
        )
        blocks.insert(0, Text(text))
    if report.left_out:
        blocks.append(Note("Not reported:", "warning", report.left_out))
    return blocks


def _image_rows(report: AuditReport) -> list[list[str]]:
    sides = [report.training, report.held_out, report.synthetic]
    rows = []
    for name in ("name", "source", "images", "patients", "class_counts", "size", "channels", "fingerprint"):
        cells = []
        for side in sides:
            value = side.get(name)
            if isinstance(value, dict):
                value = ", ".join(f"{label} {count:,}" for label, count in value.items())
            elif isinstance(value, list):
                value = " × ".join(f"{each:g}" for each in value)
            elif isinstance(value, int):
                value = f"{value:,}"
            elif name == "fingerprint" and value:
                value = f"{value[:16]}…"
            cells.append("" if value is None else str(value))
        rows.append([name.replace("_", " "), *cells])
    return rows


# ------------------------------------------------------------------------------------- pictures


def _figure(result: SpaceResult) -> Figure:
    """Draw both distributions of distances, and the threshold."""
    figure, panels = make_figure(width=5.6, height=2.8)
    panel = panels[0, 0]
    both = (result.held_out_to_training, result.to_training)
    edges = np.linspace(0, max(1e-9, float(np.quantile(np.concatenate(both), 0.995))), 50)
    for values, colour, name in zip(both, COLOURS, ("held-out patients", "synthetic images"), strict=False):
        shares = np.full(len(values), 1 / len(values))
        panel.hist(np.minimum(values, edges[-1]), edges, weights=shares, color=colour, alpha=0.55, label=name)
    panel.axvline(result.copies.threshold, color="#5b5b5b", linewidth=1.2, linestyle="--", label="threshold")
    panel.set_xlabel(f"distance to the nearest training image ({result.space})", fontsize=9)
    panel.set_ylabel("share", fontsize=9)
    panel.tick_params(labelsize=9)
    figure.legend(loc="outside upper right", ncols=3, fontsize=9, frameon=False)
    return Figure(figure_png(figure), f"Histograms of distances to the nearest training image in {result.space}.")


def _pair_blocks(report: AuditReport, training: ImageDataset | None, synthetic: ImageDataset | None) -> Sequence[Block]:
    """Show and list the closest pairs."""
    rows = [
        [
            str(number + 1),
            pair.synthetic_file,
            pair.training_file,
            pair.patient,
            pair.space,
            f"{pair.distance:.3f}",
            f"{pair.relative:.2f}",
            _percent(pair.as_near),
        ]
        for number, pair in enumerate(report.pairs)
    ]
    columns = (
        "",
        "synthetic",
        "training image",
        "patient",
        "space",
        "distance",
        "of the threshold",
        "patients as near",
    )
    text = (
        "Synthetic images on the left, the nearest training image on the right. A distance of less than 1 times the "
        "threshold is flagged. Radiographs of one view are always alike: look for what only one patient can have."
    )
    blocks: list[Block] = [Text(text)]
    if training is not None and synthetic is not None:
        data = DataSpec(training.spec.channels, training.spec.size, None)
        figures = []
        for number, pair in enumerate(report.pairs):
            images = [synthetic.images_at([pair.synthetic]), training.images_at([pair.training])]
            picture = make_grid(Batch(torch.cat(images), None), data, columns=2)
            alt = f"Pair {number + 1}: synthetic image, and nearest training image."
            caption = f"{number + 1}: {pair.space}, {pair.relative:.2f} of the threshold"
            figures.append(Figure.of_image(picture, alt, caption))
        blocks.append(Gallery(figures, width=13))
    blocks.append(Table(columns, rows))
    return blocks
