"""The scripts of the tutorials write what their pages say, and run on what they write."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan.data import open_dataset
from medgan.data.dose import read_doses

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"

Script = Callable[..., dict[str, Any]]


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """Return a function that runs a script of the tutorials in an empty folder, and returns what it defines."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(TUTORIALS / name), run_name="__main__")

    return run


def test_the_hospital(run_script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defined = run_script("make_hospital.py", "--patients", "22")
    images = int(re.match(r"(\d+) images of 22 patients: hospital\n", capsys.readouterr().out)[1])  # type: ignore[index]
    dataset = open_dataset(tmp_path / "hospital" / "labels.csv", size=32, max_bad=0.1)
    assert len(dataset) == images - 1
    assert list(dataset.quarantine["stage"]) == ["decode"]
    index = dataset.index
    assert set(zip(index["photometric"], index["bits"], strict=True)) == {("MONOCHROME1", 16), ("MONOCHROME2", 12)}
    assert set(index["view"]) == {"AP", "PA"}
    assert (index["burned_in_annotation"] == "YES").equals(index["view"] == "AP")
    assert index["patient_id"].nunique() == 22 - (dataset.quarantine["file"].iloc[0].endswith("image0.dcm"))
    text = index.to_csv()
    assert "NOBODY" not in text
    assert not re.search(r"H4\d{6}", text)

    # What both units store is what was drawn, air black.
    for number in range(0, len(dataset), 5):
        patient, exposure = map(int, re.findall(r"\d+", index["file"][number]))
        drawn = defined["draw_chest"](
            patient,
            exposure,
            pneumonia=index["label"][number] == "PNEUMONIA",
            portable=index["view"][number] == "AP",
        )
        read = (dataset.images_at([number]).numpy()[0, 0] + 1) / 2
        assert np.abs(read - drawn.reshape(32, 4, 32, 4).mean(axis=(1, 3))).max() < 0.02

    values = read_doses(tmp_path / "hospital").values
    assert {value.quantity for value in values} == {"dose_area_product", "entrance_dose"}
    assert len(values) >= 2 * len(dataset)


def test_a_rare_class_and_a_classifier(run_script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_script("make_rare.py", "--share", "0.1")
    assert capsys.readouterr().out == f"124 images: {Path('rare', 'manifest.csv')}\n"
    run_script("my_classifier.py", "rare/manifest.csv", "--steps", "2", "--seeds", "2")
    first, *scores = capsys.readouterr().out.splitlines()
    assert first == ("Trained on {'NORMAL': 60, 'PNEUMONIA': 4}, tested on {'NORMAL': 20, 'PNEUMONIA': 20}")
    assert [line.partition(":")[0] for line in scores] == ["AUROC", "sensitivity", "specificity"]
    for line in scores:
        mean, low, high = map(float, re.findall(r"\d\.\d{3}", line))
        assert 0 <= low <= mean <= high <= 1
