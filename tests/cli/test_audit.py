from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

LEVEL = ("--level", 0.05)  # 19 held-out patients are enough


def write_scans(folder: Path, patients: range, seed: int = 0, size: int = 32) -> Path:
    """Write two images each of some patients."""
    rng = np.random.default_rng(seed)
    for number in patients:
        label = "NORMAL" if number % 4 else "PNEUMONIA"
        for image in range(2):
            file = folder / label / f"patient{number}-{image}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
            coarse.resize((size, size), Image.Resampling.BICUBIC).save(file)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scans(tmp_path_factory.mktemp("data") / "scans", range(100))


@pytest.fixture(scope="module")
def run(medgan: Any, scans: Path) -> Path:
    """A run that held patients out; look, but do not write."""
    options = ("--size", 32, "--preset", "tiny", "--steps", 1, "--device", "cpu", "--patient-regex", r"patient\d+")
    options += ("--contrast", "percentile")
    shares = ("--validation", 0.1, "--test", 0.25)
    runs = scans.parent / "runs"
    medgan.works("fit", "--data", scans, *options, *shares, "--outdir", runs, "--name", "first")
    return runs / "first"


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    return found


def test_a_run_beside_its_own_held_out_patients(medgan: Any, here: Path, run: Path) -> None:
    result = medgan.works("audit", "--model", run, "-n", 60, *LEVEL)
    assert {path.name for path in (here / "audit-first").iterdir()} == {"audit.json", "audit.html"}
    found = report(here / "audit-first")
    parts = json.loads((run / "data" / "splits.json").read_text())["parts"]
    assert found["training"]["images"] == len(parts["train"])
    assert found["held_out"]["images"] == len(parts["test"])
    assert found["synthetic"]["images"] == 60
    assert found["settings"]["image_seeds"] == "0-59"
    assert "test patients of" in found["settings"]["patients"]
    assert [each["space"] for each in found["spaces"]] == ["pixels", "random-conv"]
    assert any(verdict in result.stdout for verdict in ("under these tests", "Leakage was detected", "Not clear"))
    assert "anonym" not in result.stdout.lower()
    assert "Report: " in result.stdout


def test_a_run_whose_data_has_moved(medgan: Any, here: Path, run: Path, scans: Path) -> None:
    moved = here / "moved"
    shutil.copytree(scans, moved)
    away = scans.rename(scans.with_name("away"))
    try:
        few = ("-n", 20, *LEVEL, "--extractor", "none", "--pairs", 0)
        assert "if that has moved, say where" in medgan.fails("audit", "--model", run, *few)
        medgan.works("audit", "--model", run, "--data", moved, *few)
    finally:
        away.rename(scans)
    assert report(here / "audit-first")["training"]["images"] > 0
    # A second one does not take its place, and a model of the run is called after the run.
    again = medgan.works("audit", "--model", run / "model", *few, "--json")
    assert again.stderr.endswith("Report: audit-first-2/audit.html\n")


def test_a_planted_copier(medgan: Any, here: Path, run: Path, scans: Path) -> None:
    """A folder of images that are new, and of training images among them."""
    write_scans(here / "made", range(50), seed=1)
    parts = json.loads((run / "data" / "splits.json").read_text())["parts"]
    for number, name in enumerate(parts["train"][:40]):
        file = here / "made" / Path(name).parent / f"copy{number}.png"
        with Image.open(scans / name) as image:
            Image.fromarray((np.asarray(image) * 0.9).astype(np.uint8)).save(file)
    arguments = ("--model", run, "--synthetic", "made", *LEVEL, "--extractor", "none")
    result = medgan.works("audit", *arguments, "--json", "--out", "new")
    found = report(here / "new")
    assert found["verdict"] == "leakage"
    assert {key: value for key, value in found.items() if key != "sentences"} == json.loads(result.stdout)
    assert found["spaces"][0]["copies"]["flagged"] >= 40
    assert all("copy" in pair["synthetic_file"] for pair in found["pairs"][:40])


def test_any_generator_with_images_named(medgan: Any, here: Path) -> None:
    for name, patients, seed in (("train", range(60), 0), ("new", range(60, 90), 2), ("made", range(100, 120), 3)):
        write_scans(here / name, patients, seed)
    data = ("--size", 32, "--channels", 1, "--patient-regex", r"patient\d+")
    named = ("--train", "train", "--holdout", "new", "--synthetic", "made")
    medgan.works("audit", *named, *data, *LEVEL, "--pairs", 0, "--extractor", "none")
    found = report(here / "audit-made")
    assert found["pairs"] == []
    assert any("not known which images the generator was trained on" in each for each in found["warnings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give --model RUN, or --synthetic IMAGES"),
        (("--synthetic", "made"), "--train and --holdout are needed"),
        (("--synthetic", "made", "--train", "made"), "without --holdout"),
        (("--model", "nowhere"), "nowhere is no run and no model"),
        (("--model", "RUN", "--size", 16), "--size is not for a run"),
        (("--model", "RUN", "--train", "made", "--data", "made"), "--data says where the images of a run lie now"),
        (("--model", "RUN", "--train", "made"), "A run knows its training patients"),
        (("--model", "RUN", "--synthetic", "made", "--truncation", 0.5), "--truncation is for sampling a model"),
        (("--model", "RUN", "--extractor", "none", "--extractor", "random-conv"), "leave the others out"),
        (("--model", "RUN", "--level", 0.9), "--level"),
        (("--model", "RUN", "-n", 20), "A level of 0.01 needs 99 held-out patients"),
        (("--model", "RUN", "-n", 20, *LEVEL, "--subgroups", "ward"), "no column 'ward'"),
        (("--model", "RUN", "-n", 20, *LEVEL, "--extractor", "random-cov"), "random-conv"),
    ],
)
def test_bad_input(medgan: Any, here: Path, run: Path, arguments: tuple[object, ...], message: str) -> None:
    write_scans(here / "made", range(3))
    assert message in medgan.fails("audit", *(run if each == "RUN" else each for each in arguments))
    assert not list(here.glob("audit-*"))


def test_held_out_patients_of_the_training(medgan: Any, here: Path, run: Path, scans: Path) -> None:
    shutil.copytree(scans, here / "same")
    options = ("--holdout", "same", "--patient-regex", r"patient\d+", "-n", 20, *LEVEL)
    assert "are among the training and the held-out images" in medgan.fails("audit", "--model", run, *options)
    # Found by their pixels, as they are read as the training's were.
    message = medgan.fails("audit", "--model", run, *options[:2], *options[4:])
    assert "held-out images are, pixel by pixel, training images" in message


def test_a_run_that_held_nobody_out(medgan: Any, here: Path) -> None:
    medgan.fit(here / "runs" / "alone", "--steps", 1, "--validation", 0)
    assert "held nobody out" in medgan.fails("audit", "--model", here / "runs" / "alone")
