from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "scans"
    for label in ("[bold]A", "B"):  # a name that looks like markup stays what it is
        (root / label).mkdir(parents=True)
        for number in range(10):
            coarse = rng.integers(0, 256, (9, 8), dtype=np.uint8)
            Image.fromarray(coarse).resize((40, 30)).save(root / label / f"p{number // 2}_{number}.png")
    return root


def test_says_what_is_there_and_draws_it(medgan, here: Path, scans: Path) -> None:
    output = medgan.works("inspect", scans, "--size", 32, "--patient-regex", r"p\d+").stdout
    assert "20 usable, 0 not" in output
    assert "B 10, [bold]A 10" in output
    assert "5; 4.0 images each, at most 4" in output
    names = {path.name for path in (here / "inspection-scans").iterdir()}
    assert {"inspection.json", "index.csv", "histograms.png", "contact-sheet-0-B.png"} <= names
    with Image.open(here / "inspection-scans" / "contact-sheet-0-B.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 20
    again = medgan.works("inspect", scans, "--size", 32, "--json")
    assert again.stderr.endswith("Pictures and tables: inspection-scans-2\n")  # nothing of another time lies beside it


def test_json(medgan, tmp_path: Path, scans: Path) -> None:
    facts = json.loads(medgan.works("inspect", scans, "--size", 32, "--json", "--out", tmp_path / "o").stdout)
    assert facts["images"] == 20
    assert "No patient is known" in " ".join(facts["concerns"])


def test_a_folder_of_other_files_is_left_alone(medgan, tmp_path: Path, scans: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "index.csv").write_text("path\n")
    message = medgan.fails("inspect", scans, "--out", tmp_path / "tables")
    assert "neither an empty folder nor an earlier inspection" in message
    assert "another --out" in message
    assert (tmp_path / "tables" / "index.csv").read_text() == "path\n"
    assert len(list((tmp_path / "tables").iterdir())) == 1


def test_too_many_bad_images_end_with_exit_code_2_after_the_report(medgan, tmp_path: Path, scans: Path) -> None:
    (scans / "B" / "empty.png").touch()
    result = medgan("inspect", scans, "--size", 32, "--out", tmp_path / "o")
    assert result.exit_code == 2
    assert "20 usable, 1 not" in result.stdout
    assert "empty file (0 bytes)" in result.stdout
    assert "1 of 21 images cannot be used" in result.stderr
    assert "empty.png" in (tmp_path / "o" / "quarantine.csv").read_text()
    medgan.works("inspect", scans, "--size", 32, "--max-bad", 0.1, "--out", tmp_path / "o")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_not_utf8(medgan, tmp_path: Path, scans: Path) -> None:
    for number in (2, 3):
        (scans / "B" / f"p1_{number}.png").rename(os.fsdecode(os.fsencode(scans / "B") + b"/p1_\xff%d.png" % number))
    shutil.copy(os.fsencode(scans / "B") + b"/p1_\xff3.png", os.fsencode(scans / "B") + b"/p1_\xfe.png")
    result = medgan.works("inspect", scans, "--size", 32, "--patient-regex", r"p\d+", "--out", tmp_path / "o")
    assert "21 usable" in result.stdout
    assert b"p1_\xff3.png" in (tmp_path / "o" / "duplicates.csv").read_bytes()
    medgan.works("fit", "--data", scans, "--size", 32, "--preset", "tiny", "--steps", 1, "--outdir", tmp_path / "runs",
                 "--patient-regex", r"p\d+")  # fmt: skip


def test_the_phantom(medgan, here: Path) -> None:
    assert "40 usable" in medgan.works("inspect", "phantom://chest?n=40&seed=1", "--size", 32).stdout


def test_mistakes(medgan, here: Path, scans: Path) -> None:
    assert "There is no" in medgan.fails("inspect", "nowhere")
    assert "nterpercentile" in medgan.fails("inspect", scans, "--window", "interpercentile")
    assert "--spacing 'x' is not usable" in medgan.fails("inspect", scans, "--spacing", "x")
    assert not list(here.iterdir())
