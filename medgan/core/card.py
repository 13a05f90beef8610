"""The model card: the README.md of a saved model, with a header that model hubs understand.

A card says what the model is, what it was trained on and under which terms, what it is for and what it must not be used
for, and what has been measured. What has not been measured is there, too, as "not run". It is rendered when a model is
saved, from the facts of the model alone; results are put in by `medgan.model_card`.

Whoever publishes the model adds text between two markers, which every rendering keeps. A checksum at the end tells a
card that was edited elsewhere: such a card is never overwritten.

All text that comes from files (names of labels, licences, results) is escaped, so that none of it becomes markup.

References: Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv:1810.03993; the header is that of the
Hugging Face Hub (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["PARTS", "Card", "CardWarning", "Part", "escape", "markdown_rows", "read_card", "render_card"]

_BEGIN = "<!-- medgan: your own text begins here; it is kept whenever the card is written anew -->"
_END = "<!-- medgan: your own text ends here -->"
_INVITATION = "*Nothing yet. Write here, between the markers of this file: contact, funding, what you know besides.*"
_CHECKSUM = re.compile(r"^<!-- medgan: card sha256 ([0-9a-f]{64}) -->\n?\Z", re.MULTILINE)
_LICENCE = re.compile(r"^license: ([a-z0-9][a-z0-9.+-]*)$", re.MULTILINE)
_OURS = frozenset({"other", "unknown"})  # what is written where nobody says under which licence the model is
_ROWS = 40  # of a table by class


class CardWarning(UserWarning):
    """A model card that was edited by hand, where a model is saved anew."""


class Part(NamedTuple):
    """A part of a card that is about results.

    Attributes:
        title: Its heading.
        command: What to type to get them; RUN stands for the run folder.
    """

    title: str
    command: str


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "metrics": Part("Likeness to real images", "medgan metrics --synthetic RUN --per-class --out RUN/metrics"),
        "evaluation": Part("Worth for training classifiers", "medgan evaluate --model RUN --out RUN/downstream"),
        "study": Part("Judgement of readers", "medgan study analyze RUN/study --out RUN/study/analysis"),
        "audit": Part("Privacy", "medgan audit --model RUN --out RUN/audit"),
        "subgroups": Part("Subgroups", "medgan evaluate --model RUN --out RUN/downstream"),
    }
)
"""The parts that are about results, in the order of the card."""

_INTENDED = (
    "Research on generative models of medical images, and on what synthetic images are worth.",
    "Adding synthetic images to real ones for training other models, where the parts below show a gain on real "
    "patients that nobody has seen.",
    "Teaching and software tests, where no image has to be of a patient.",
)
_FORBIDDEN = (
    "Diagnosis, treatment or any decision about a patient. This is no medical device.",
    "As evidence: an image of this model shows nobody, and what it shows need not occur.",
    "Testing a diagnostic model on synthetic images alone, or mixing them unmarked into data of patients.",
    "Publishing images as anonymous data without an audit of what the model repeats of its training images.",
    "Conclusions about people, hospitals or groups that the training data does not hold.",
    "Anything that the terms of the training data forbid; they may extend to this model and its images.",
)


@dataclass(frozen=True)
class Card:
    """What a card in a file says of itself.

    Attributes:
        own: The owner's text between the markers; "" if there is none.
        licence: The licence of the model that the owner has named; None if none.
        edited: Whether it was changed outside of the markers, or is no card of medgan's at all.
    """

    own: str
    licence: str | None
    edited: bool


def escape(text: object, *, begins_line: bool = False) -> str:
    """Return text for one line of Markdown in which nothing is markup: no HTML, no link, no emphasis, no table cell.

    Args:
        text: Whatever a file says.
        begins_line: Whether it stands at the begin of a line or list item, where a number or dash begins a list.
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in str(text))
    plain = " ".join(plain.encode("utf-8", "replace").decode().split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = plain.replace("://", ":&#47;&#47;").replace("$", "&#36;")
    plain = re.sub(r"(?i)\bwww\.", "www&#46;", plain)
    plain = re.sub(r"(?<!&)#|[\\`*_\[\]|~!]", lambda match: "\\" + match.group(), plain)
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", plain) if begins_line else plain


def markdown_rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table whose cells are escaped.

    Args:
        columns: Headings, which may be empty.
        rows: Cells, as text.
    """
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(escape, row)) + " |" for row in rows)])


def read_card(path: Path) -> Card | None:
    """Read what of a card is the owner's.

    Args:
        path: The card's file.

    Returns:
        Its text and licence; None if there is no file.
    """
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return Card("", None, edited=True)
    begin, end = text.find(_BEGIN), text.rfind(_END)
    if begin < 0 or end < begin or text.count(_BEGIN) > 1:
        return Card("", None, edited=True)
    own = text[begin + len(_BEGIN) : end].strip("\n")
    found = _CHECKSUM.search(text)
    edited = found is None or found.group(1) != _checksum(text[:begin] + text[end : found.start()])
    licence = _LICENCE.search(text.split("\n---\n", 1)[0])
    named = licence.group(1) if licence is not None and licence.group(1) not in _OURS else None
    return Card("" if own.strip() == _INVITATION else own, named, edited)


def render_card(
    facts: Mapping[str, Any],
    *,
    results: Mapping[str, str] | None = None,
    remarks: Mapping[str, str] | None = None,
    held_out: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    run: str = "RUN",
    licence: str | None = None,
    own: str = "",
) -> str:
    """Return a card.

    Args:
        facts: What ``model.json`` says.
        results: Markdown of what was found, by name of the part; others are "not run".
        remarks: Markdown of what else is to be said of a part that is not run, by its name.
        held_out: Who was held out from the training, and what else its run knows, row by row.
        environment: What it was trained with, beside the versions of the facts.
        run: The run folder, for what to type.
        licence: Licence of the model, in the words of the Hugging Face Hub; None if nobody has said.
        own: The owner's text, kept as it is.

    Returns:
        The file's text.
    """
    data, source = facts["data"], facts["training_data"]
    name, results = source.get("name") or "unknown data", results or {}
    parts = []
    for key, part in PARTS.items():
        command = part.command.replace("RUN", run)
        missing = f"**Not run.** To do it, type:\n\n```console\n{_code(command)}\n```"
        before = f"{remarks[key]}\n\n" if remarks and key in remarks else ""
        parts.append(f"## {part.title}\n\n{results.get(key) or before + missing}")
    sections = [
        _header(facts, licence),
        f"# {escape(facts['architecture'])}, trained on {escape(name)}",
        "> The images of this model are synthetic. They show no patient, and are not for diagnosis. They are not "
        "anonymous by themselves: a generator can reproduce its training images.",
        "## Model\n\n" + _model(facts, data),
        "## Intended use\n\n" + "\n".join(f"- {line}" for line in _INTENDED),
        "## Forbidden use\n\n" + "\n".join(f"- {line}" for line in _FORBIDDEN),
        "## Training data\n\n" + _training_data(data, source, held_out or {}),
        *parts,
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(source, results)),
        "## Environment\n\n" + markdown_rows(("", ""), _environment(facts, environment or {})),
        "## Use\n\n```python\nfrom medgan.models import load_model\n\n"
        'images = load_model("path/to/this/folder").sample(8).images\n```',
        "## How to cite\n\n" + "\n".join(f"- {line}" for line in _citations(facts, source)),
        "## From the owner of this model",
    ]
    head, tail = "\n\n".join(sections) + "\n\n", f"{_END}\n\n"
    checksum = f"<!-- medgan: card sha256 {_checksum(head + tail)} -->\n"
    return f"{head}{_BEGIN}\n\n{own.strip(chr(10)) or _INVITATION}\n\n{tail}{checksum}"


def _checksum(text: str) -> str:
    """Hash text, whatever ends its lines."""
    lines = [line.rstrip() for line in text.splitlines()]
    return hashlib.sha256("\n".join(line for line in lines if line).encode("utf-8", "replace")).hexdigest()


def _code(text: str) -> str:
    """Return text for a block of code: one line, that does not end the block."""
    return " ".join(text.split()).replace("```", "'''")


def _quoted(text: object) -> str:
    """Return text as a string of YAML."""
    plain = str(text).encode("utf-8", "replace").decode()
    return json.dumps("".join(letter if letter.isprintable() else " " for letter in plain))


def _header(facts: Mapping[str, Any], licence: str | None) -> str:
    """Return the header that model hubs read."""
    data, source = facts["data"], facts["training_data"]
    tags = ["gan", "medical-imaging", "synthetic", "3d" if len(data["size"]) == 3 else "2d", facts["architecture"]]
    known = licence or ("other" if source.get("licence") else "unknown")
    lines = ["---", "library_name: medgan", f"license: {known}"]
    if known == "other":
        lines += ["license_name: terms-of-the-training-data", "license_link: README.md"]
    lines += ["tags:", *(f"- {_quoted(tag)}" for tag in tags)]
    lines += ["datasets:", f"- {_quoted(source.get('name') or 'unknown')}"]
    if len(data["size"]) == 2:
        lines.append("pipeline_tag: unconditional-image-generation")
    return "\n".join([*lines, "---"])


def _model(facts: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return the table of what the model is."""
    labels, source = data["labels"], facts["training_data"]
    reference = f" ({facts['reference']})" if facts["reference"] else ""
    rows: list[tuple[str, object]] = [
        ("Architecture", f"{facts['architecture']}{reference}"),
        ("Images", f"{data['channels']} channel(s), {' × '.join(map(str, data['size']))} pixels, values in [-1, 1]"),
        ("Labels", "none" if labels is None else f"{labels['kind']}: {', '.join(labels['names'])}"),
        ("Training", f"{facts['training']['steps']:,} steps, {facts['training']['images_seen']:,} images seen"),
        ("Seed", facts["config"].get("seed", "unknown")),
    ]
    if "initial_model" in source:
        rows.append(("Began from", _describe_initial(source["initial_model"])))
    evaluation = facts.get("evaluation")
    if evaluation:
        score, step = evaluation.get("score"), evaluation.get("step")
        text = f"best score on validation patients, {score:.3f} at step {step:,}" if score is not None else "best"
        rows.append(("Chosen as", f"{text}; the choice makes it optimistic, see what was measured on others below"))
    rows.append(("SHA-256 of the weights", facts["sha256"]))
    return markdown_rows(("", ""), rows)


def _training_data(data: Mapping[str, Any], source: Mapping[str, Any], held_out: Mapping[str, str]) -> str:
    """Return what the model was trained on, and under which terms."""
    patients = source.get("patients")
    rows: list[tuple[str, object]] = [
        ("Name", source.get("name") or "unknown"),
        ("Images", _count(source.get("images"))),
        ("Patients", "unknown: one patient may be on both sides of a split" if patients is None else _count(patients)),
        ("Licence", source.get("licence") or "unknown: no right to share this model or its images follows from it"),
        ("Citation", source.get("citation") or "unknown"),
    ]
    counts = source.get("class_counts") or {}
    rows += [(f"Images of {label}", _count(count)) for label, count in list(counts.items())[:_ROWS]]
    if len(counts) > _ROWS:
        rows.append(("Further classes", len(counts) - _ROWS))
    if source.get("synthetic_images"):
        rows.append(("Synthetic among them", _count(source["synthetic_images"])))
    rows += list(held_out.items())
    rows.append(("Fingerprint", source.get("fingerprint") or "unknown"))
    return markdown_rows(("", ""), rows)


def _count(number: object) -> str:
    """Write a count."""
    return f"{number:,}" if isinstance(number, int) else "unknown"


def _limits(source: Mapping[str, Any], results: Mapping[str, str]) -> list[str]:
    """Return what a reader must know."""
    lines = [
        "The model knows what its training data holds: its hospitals, devices, ages and proportions, and its biases.",
        "It can invent findings, lose them, and mix those of different patients in one image.",
    ]
    if source.get("patients") is None:
        lines.append("The patients of the training images are not known, so nothing can be said about other patients.")
    missing = [part.title for key, part in PARTS.items() if not results.get(key)]
    if missing:
        lines.append(f"Not run, so that nothing is known of it: {'; '.join(missing)}.")
    if not results.get("audit"):
        lines.append("That it does not repeat training images has not been shown.")
    return lines


def _environment(facts: Mapping[str, Any], environment: Mapping[str, str]) -> list[tuple[str, object]]:
    """Return what the model was trained with."""
    return [*environment.items(), *((name, number) for name, number in facts["versions"].items())]


def _citations(facts: Mapping[str, Any], source: Mapping[str, Any]) -> list[str]:
    """Return what to cite."""
    lines = [f"This model: {escape(facts['architecture'])}, weights SHA-256 {escape(str(facts['sha256'])[:16])}."]
    if facts["reference"]:
        lines.append(f"The architecture: {escape(facts['reference'])}.")
    cited = source.get("citation") or "unknown; ask whoever gave you the data"
    lines.append(f"The training data: {escape(cited)}.")
    lines.append(f"medgan {escape(facts['versions'].get('medgan', ''))}, as its CITATION.cff says.")
    return lines


def _describe_initial(initial: Mapping[str, Any]) -> str:
    """Return a line on the model that a training began from, and on those before it."""
    source = initial["training_data"]
    text = f"{initial['architecture']} {initial['sha256'][:12]}, trained on {source.get('name', 'unknown data')}"
    before = source.get("initial_model")
    return text if before is None else f"{text}; which began from {_describe_initial(before)}"
