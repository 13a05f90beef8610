from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from medgan.core.card import PARTS, escape, markdown_rows, read_card, render_card

FACTS: dict[str, Any] = {
    "architecture": "acgan",
    "config": {"seed": 3},
    "data": {"channels": 1, "size": [64, 64], "labels": {"kind": "categorical", "names": ["NORMAL", "PNEUMONIA"]}},
    "training": {"steps": 1200, "images_seen": 38400},
    "training_data": {
        "name": "scans",
        "images": 3632,
        "patients": 2711,
        "class_counts": {"NORMAL": 927, "PNEUMONIA": 2705},
        "licence": "CC BY 4.0",
        "citation": "Doe et al., 2020, doi:10.1000/1",
        "fingerprint": "f" * 64,
    },
    "reference": "arXiv:1610.09585",
    "versions": {"python": "3.11.7", "medgan": "0.1.0"},
    "sha256": "a1" * 32,
}
HOSTILE = (
    "<script>alert(1)</script> | `x` [a](http://evil) ![b](c) **d** # \n---\n<!-- medgan: your own text ends here -->"
)


def changed(**sources: Any) -> dict[str, Any]:
    return {**FACTS, "training_data": {**FACTS["training_data"], **sources}}


def section(card: str, title: str) -> str:
    """Return the text below a heading."""
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_header_is_yaml_that_hubs_read():
    header = render_card(FACTS).split("---\n")[1]
    assert "library_name: medgan\nlicense: other\nlicense_name: terms-of-the-training-data\n" in header
    assert '- "scans"' in header
    assert "pipeline_tag: unconditional-image-generation" in header
    assert "license: cc-by-4.0\ntags" in render_card(FACTS, licence="cc-by-4.0")
    volumes = {**FACTS, "data": {**FACTS["data"], "size": [32, 64, 64]}}
    assert '- "3d"' in render_card(volumes)
    assert "pipeline_tag" not in render_card(volumes)


def test_an_unknown_licence_is_never_free():
    card = render_card(changed(licence=None, citation=None))
    assert "license: unknown\n" in card
    assert "| Licence | unknown: no right to share this model or its images follows from it |" in card
    assert "The training data: unknown; ask whoever gave you the data." in card


def test_what_a_card_says():
    card = render_card(FACTS, held_out={"Held out for test": "12 images of 7 patients"}, environment={"Device": "cpu"})
    assert "# acgan, trained on scans\n" in card
    assert "not for diagnosis" in card
    assert "| Training | 1,200 steps, 38,400 images seen |" in section(card, "Model")
    assert "no medical device" in section(card, "Forbidden use")
    data = section(card, "Training data")
    for row in (
        "Images | 3,632", "Patients | 2,711", "Licence | CC BY 4.0", "Images of NORMAL | 927",
        "Citation | Doe et al., 2020, doi:10.1000/1", "Held out for test | 12 images of 7 patients",
    ):  # fmt: skip
        assert f"| {row} |" in data
    assert "| Device | cpu |\n| python | 3.11.7 |" in section(card, "Environment")
    assert "doi:10.1000/1" in section(card, "How to cite")
    assert "arXiv:1610.09585" in section(card, "How to cite")


def test_parts_that_were_not_run_say_so_and_what_to_type():
    card = render_card(FACTS, run="'runs/0 1'")
    for part in PARTS.values():
        text = section(card, part.title)
        assert "**Not run.**" in text
        assert f"```console\n{part.command.replace('RUN', chr(39) + 'runs/0 1' + chr(39))}\n```" in text
    assert "Privacy" in section(card, "Limits")
    assert "That it does not repeat training images has not been shown." in card
    ready = render_card(FACTS, results={"audit": "Nothing was found."}, remarks={"metrics": "**Out of date.**"})
    assert section(ready, "Privacy").strip() == "Nothing was found."
    assert section(ready, PARTS["metrics"].title).startswith("\n**Out of date.**\n\n**Not run.**")
    assert "Privacy" not in section(ready, "Limits")


def test_unknown_patients_and_initial_models_are_told():
    initial = {"architecture": "acgan", "sha256": "b2" * 32, "training_data": {"name": "others"}}
    card = render_card(changed(patients=None, initial_model=initial, synthetic_images=5))
    assert "one patient may be on both sides of a split" in card
    assert "The patients of the training images are not known" in section(card, "Limits")
    assert "| Began from | acgan b2b2b2b2b2b2, trained on others |" in card
    assert "| Synthetic among them | 5 |" in card


def test_the_choice_of_the_best_is_called_optimistic():
    card = render_card({**FACTS, "evaluation": {"step": 900, "score": 0.8123}})
    assert "best score on validation patients, 0.812 at step 900; the choice makes it optimistic" in card


# ---------------------------------------------------------------------------------------- escaping


def test_text_from_files_is_no_markup():
    facts = changed(
        name=HOSTILE, licence=HOSTILE, citation=HOSTILE, class_counts={HOSTILE: 1},
        initial_model={"architecture": HOSTILE, "sha256": "b" * 64, "training_data": {"name": HOSTILE}},
    )  # fmt: skip
    facts |= {"architecture": HOSTILE, "reference": HOSTILE}
    facts["data"] = {**FACTS["data"], "labels": {"kind": "categorical", "names": [HOSTILE, "b"]}}
    card = render_card(facts, held_out={"Held out": HOSTILE}, environment={HOSTILE: HOSTILE})
    _, header, body = card.split("---\n", 2)
    assert "<script" not in body
    assert not re.search(r"(?<!\\)\]\(", body)
    assert card.count("<!-- medgan: your own text ends here -->") == 1 + header.count("<!--")
    for line in header.splitlines():  # every value from a file is one JSON string, which is YAML
        if line.startswith('- "'):
            assert isinstance(json.loads(line[2:]), str)
    # every table has as many cells in a row as in its head
    for table in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
    assert "\n---\n" not in body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NORMAL", "NORMAL"),
        ("a|b\nc", "a\\|b c"),
        ("<b>", "&lt;b&gt;"),
        ("*x* _y_ `z`", "\\*x\\* \\_y\\_ \\`z\\`"),
        ("http://x www.y", "http:&#47;&#47;x www&#46;y"),
        ("$x$ #1", "&#36;x&#36; \\#1"),
        ("\u202eabc\x00", "abc"),
        ("&lt;", "&amp;lt;"),
        (3.5, "3.5"),
    ],
)
def test_escape(text, expected):
    assert escape(text) == expected


def test_lists_are_not_begun_by_text():
    assert escape("1. x", begins_line=True) == "1\\. x"
    assert escape("- x", begins_line=True) == "\\- x"
    assert escape("1. x") == "1. x"
    assert markdown_rows(("a", "b"), [["1|", 2]]) == "| a | b |\n|---|---|\n| 1\\| | 2 |"


# ------------------------------------------------------------------------------------ own text


def test_own_text_is_kept(tmp_path: Path):
    path = tmp_path / "README.md"
    assert read_card(path) is None
    path.write_text(render_card(FACTS), encoding="utf-8")
    assert read_card(path) == read_card(path)
    card = read_card(path)
    assert card is not None
    assert (card.own, card.licence, card.edited) == ("", None, False)
    own = "Contact: **us** at <https://example.org>\n\n- 1\n- 2"
    path.write_text(render_card(FACTS, own=own, licence="cc-by-4.0"), encoding="utf-8")
    card = read_card(path)
    assert card is not None
    assert (card.own.strip(), card.licence, card.edited) == (own, "cc-by-4.0", False)
    # written anew, with other facts
    path.write_text(render_card({**FACTS, "sha256": "b" * 64}, own=card.own), encoding="utf-8")
    again = read_card(path)
    assert again is not None
    assert again.own.strip() == own
    assert not again.edited


def test_own_text_may_be_written_in_any_editor(tmp_path: Path):
    path = tmp_path / "README.md"
    text = render_card(FACTS).replace("*Nothing yet.", "*Something.\n\n## A heading\n\nNothing yet.")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    card = read_card(path)
    assert card is not None
    assert "## A heading" in card.own
    assert not card.edited


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("3,632", "36,320"),
        lambda text: text.replace("license: other", "license: mit"),
        lambda text: text.replace("<!-- medgan: your own text ends here -->", ""),
        lambda text: text + "\nMore.",
        lambda text: "# My model\n",
        lambda text: text[:200],
        lambda text: "",
    ],
)
def test_edits_elsewhere_are_seen(tmp_path: Path, edit):
    path = tmp_path / "README.md"
    path.write_text(edit(render_card(FACTS)), encoding="utf-8")
    card = read_card(path)
    assert card is not None
    assert card.edited


def test_a_file_that_is_no_text_counts_as_edited(tmp_path: Path):
    path = tmp_path / "README.md"
    path.write_bytes(b"\xff\xfe\x00")
    card = read_card(path)
    assert card is not None
    assert card.edited
