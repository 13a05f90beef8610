from __future__ import annotations

import json
import shutil

import pytest

SOURCE = "phantom://chest?n=40&seed=1"


@pytest.fixture(autouse=True)
def _quick_classifier(monkeypatch):
    monkeypatch.setattr("medgan.exploration.exploring._CLASSIFIER_SECONDS", 0.2)


def test_a_run(medgan, fitted, tmp_path):
    run = shutil.copytree(fitted, tmp_path / "run")
    options = ("--device", "cpu", "--inversions", 1, "--seed", 4)
    first = medgan.works("explore", "--model", run, *options)
    assert first.stdout == f"Page: {run / 'explore' / 'explore.html'}\n"
    second = medgan.works("explore", "--model", run / "model", *options)
    assert second.stdout == f"Page: {run / 'explore-2' / 'explore.html'}\n"
    texts = [json.loads((run / name / "explore.json").read_text()) for name in ("explore", "explore-2")]
    assert texts[0]["inversion"] == texts[1]["inversion"]
    assert texts[0]["seed"] == 4
    assert texts[0]["held_out"]["part"] == "validation"


def test_a_saved_model(medgan, fitted, here):
    shutil.copytree(fitted / "model", here / "alone")
    output = medgan.works("explore", "--model", "alone", "--device", "cpu", "--synthetic-only").stdout
    assert "Left out: nearest training images: it needs the run's data" in output
    assert "Page: explore-alone/explore.html" in output
    output = medgan.works("explore", "--model", "alone", "--data", SOURCE, "--inversions", 1, "--device", "cpu",
                          "--out", "given").stdout  # fmt: skip
    assert "Left out: real images" not in output
    assert json.loads((here / "given" / "explore.json").read_text())["inversion"]["part"] == "given"


def test_bad_input(medgan, fitted, tmp_path):
    out = tmp_path / "out"
    assert "'FLU' is unknown" in medgan.fails("explore", "--model", fitted, "--to", "FLU", "--out", out)
    assert "Both labels are" in medgan.fails("explore", "--model", fitted, "--from", "PNEUMONIA", "--to", "PNEUMONIA")
    assert "a run's are read as they were" in medgan.fails("explore", "--model", fitted, "--layout", "folder")
    assert "There is no" in medgan.fails("explore", "--model", fitted, "--data", tmp_path / "gone", "--out", out)
    medgan.fails("explore", "--model", tmp_path / "gone", "--out", out)
    assert not out.exists()
    (out / "kept").mkdir(parents=True)
    assert "not an empty folder" in medgan.fails("explore", "--model", fitted, "--out", out)
