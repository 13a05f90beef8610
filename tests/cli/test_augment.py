from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image


@pytest.fixture
def run(medgan, tmp_path: Path) -> tuple[Path, Path]:
    """Class folders, and a run that was trained on them."""
    rng = np.random.default_rng(0)
    root = tmp_path / "scans"
    for label, count in (("NORMAL", 8), ("PNEUMONIA", 20)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).resize((32, 32))
            image.save(root / label / f"{label}{number // 2}_{number}.png")
    common = ("--size", 32, "--preset", "tiny", "--steps", 1, "--patient-regex", r"[A-Z]+\d+", "--validation", 0.3)
    medgan.works("fit", "--data", root, *common, "--outdir", tmp_path / "runs", "--name", "first")
    return root, tmp_path / "runs" / "first"


def test_balance_leaves_held_out_patients_alone(medgan, here: Path, run: tuple[Path, Path]) -> None:
    root, folder = run
    result = medgan.works("augment", "--real", root, "--model", folder, "--balance", "--patient-regex", r"[A-Z]+\d+")
    assert "medgan fit --data mixture/manifest.csv" in result.stdout.replace("\\", "/")
    table = pd.read_csv(here / "mixture" / "manifest.csv", dtype=str, keep_default_na=False)
    training = table[table["split"] == "train"]
    assert training["label"].value_counts().nunique() == 1
    held_out = table[table["split"] == "validation"]
    assert set(held_out["origin"]) == {"real"}
    assert 6 <= len(held_out) <= 10
    assert not set(held_out["patient_id"]) & set(training.loc[training["origin"] == "real", "patient_id"])
    assert len(table[table["origin"] == "real"]) == 28


def test_one_trains_on_the_mixture_and_tests_on_real_patients(medgan, here: Path, run: tuple[Path, Path]) -> None:
    root, folder = run
    medgan.works("augment", "--real", root, "--model", folder, "--ratio", 1, "--out", "mixed")
    small = ("--size", 32, "--preset", "tiny", "--steps", 1)
    medgan.works("fit", "--data", "mixed/manifest.csv", *small, "--name", "second")
    table = pd.read_csv(here / "runs" / "second" / "data" / "index.csv", dtype=str, keep_default_na=False)
    assert table["origin"].value_counts()["synthetic"] > 0


def test_mistakes(medgan, here: Path, run: tuple[Path, Path]) -> None:
    root, folder = run
    message = medgan.fails("augment", "--real", root, "--model", folder)
    assert "exactly one of --balance, --ratio R and --per-class N" in message
    assert "exactly one" in medgan.fails("augment", "--real", root, "--model", folder, "--balance", "--ratio", 1)
    assert "There is no" in medgan.fails("augment", "--real", "nowhere", "--model", folder, "--balance")
    assert "no folder" in medgan.fails("augment", "--real", root, "--model", "nowhere", "--balance")
    assert not list(here.iterdir())
