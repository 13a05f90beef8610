from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medgan.data import ImageDataset
from medgan.evaluation.fidelity import FidelityReport, make_page, measure_fidelity, to_markdown, write_report
from medgan.evaluation.fidelity.page import COLUMNS, FLOOR_OF_ALL, group_rows, groups_of, summarise_report
from medgan.metrics.extractors import Extractor

Make = Callable[..., ImageDataset]


@pytest.fixture
def report(make_textures: Make, moments: Extractor) -> FidelityReport:
    return measure_fidelity(
        make_textures(80, 0),
        [make_textures(80, seed, shift=30) for seed in (1, 2, 3)],
        extractors=[moments],
        training=make_textures(40, 7),
        per_class=True,
        facts={"command": "medgan metrics --synthetic <b>run</b>", "reference": "held-out patients"},
    )


def test_every_number_is_in_all_three_files(report: FidelityReport, tmp_path: Path) -> None:
    files = write_report(report, tmp_path / "new" / "folder")
    assert set(files) == {"metrics.json", "metrics.md", "metrics.html"}
    stored = json.loads(files["metrics.json"].read_text(encoding="utf-8"))
    assert stored == report.to_dict()
    markdown, html = (files[name].read_text(encoding="utf-8") for name in ("metrics.md", "metrics.html"))
    for group in groups_of(report):
        for row in group_rows(report, group):
            assert len(row) == len(COLUMNS)
            assert "| " + " | ".join(row) + " |" in markdown
            for cell in row:
                assert cell.replace("→ 0", "→ 0") in html
    for warning in report.warnings:
        assert warning in markdown
    assert FLOOR_OF_ALL in markdown
    of_all = {each.title for each in report.scores if each.floor is not None and each.floor.halvings == 0}
    assert len(of_all) == 2
    assert all(title in FLOOR_OF_ALL for title in of_all)
    write_report(report, tmp_path / "new" / "folder")


def test_cells(report: FidelityReport) -> None:
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in group_rows(report, "all images")}
    row = rows["Fréchet distance (moments)"]
    score = next(each for each in report.scores if each.metric == "frechet_distance")
    assert score.floor is not None
    assert score.value is not None
    assert row["best"] == "↓"
    assert float(row["value"]) == pytest.approx(score.value, rel=0.01)
    assert row["floor's N"] == str(score.floor.images)
    assert float(row["relative"]) == pytest.approx(score.relative, abs=0.005)
    assert re.fullmatch(r"\S+ to \S+", row["95 % interval"])
    assert rows["kernel distance (moments)"]["p"] == "0.001"
    assert rows["kernel distance (moments)"]["relative"] == ""
    scores = tuple(replace(each, p_corrected=0.03) if each.p_value else each for each in report.scores)
    corrected = group_rows(replace(report, scores=scores), "all images")
    assert next(row[-1] for row in corrected if row[0] == "kernel distance (moments)") == "0.03"


def test_an_interval_for_another_number_of_images_says_so(make_textures: Make, moments: Extractor) -> None:
    report = measure_fidelity(make_textures(80, 0), make_textures(150, 1), extractors=[moments], metrics=["frechet"])
    ((_, _, _, interval, *_),) = group_rows(report, "all images")
    assert re.fullmatch(r"\S+ to \S+ at N = (28|29|30)", interval)


def test_a_number_that_could_not_be_computed(make_textures: Make, moments: Extractor) -> None:
    report = measure_fidelity(
        make_textures(80, 0), make_textures(3, 1), extractors=[moments], metrics=["precision-recall"]
    )
    assert group_rows(report, "all images")[0][2] == "not computed"
    assert "needs at least 4" in to_markdown(report)


def test_what_was_found_is_said(report: FidelityReport) -> None:
    first, *rest = summarise_report(report)
    assert re.search(r"^Fréchet distance \(moments\): \S+ at N = 40, .* times the floor; precision", first)
    assert [sentence.split(":")[0] for sentence in rest] == ["NORMAL", "PNEUMONIA"]


def test_names_are_escaped(report: FidelityReport) -> None:
    nasty = "<script>alert(1)</script>"
    scores = tuple(replace(score, group=nasty if score.group == "NORMAL" else score.group) for score in report.scores)
    changed = replace(report, scores=scores, real={**report.real, "source": nasty, "name": nasty}, warnings=(nasty,))
    html = make_page(changed).html()
    assert nasty not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<b>run</b>" not in html


def test_a_report_of_images_only_has_no_figure(make_textures: Make) -> None:
    page = make_page(measure_fidelity(make_textures(40, 0), make_textures(40, 1), metrics=["diversity"]))
    assert "Beside real images" not in [section.title for section in page.sections]
