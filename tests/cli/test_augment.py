from __future__ import annotations

import json
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medgan.core import DataSpec, LabelSpec
from medgan.data import open_dataset
from medgan.models import ACGAN


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
    """By the command that is printed; whom only a model has seen which the run began from trains."""
    root, folder = run
    held_out = json.loads((folder / "data" / "splits.json").read_text())["parts"]["validation"]
    (folder / "data" / "initial_images.json").write_text(json.dumps({"images": held_out[-1:]}))
    patient = Path(held_out[-1]).name.partition("_")[0]
    common = ("augment", "--real", root, "--model", folder, "--patient-regex", r"[A-Z]+\d+")
    printed = medgan.works(*common, "--ratio", 1, "--out", "mixed images").stdout.splitlines()[-1]
    table = pd.read_csv(here / "mixed images" / "manifest.csv", dtype=str, keep_default_na=False)
    assert set(table["split"]) == {"train", "validation"}
    assert set(table.loc[table["patient_id"] == patient, "split"]) == {"train"}
    program, *command = shlex.split(printed.partition(": ")[2])
    assert program == "medgan"
    medgan.works(*command, "--size", 32, "--preset", "tiny", "--steps", 1, "--name", "second")
    table = pd.read_csv(here / "runs" / "second" / "data" / "index.csv", dtype=str, keep_default_na=False)
    assert table["origin"].value_counts()["synthetic"] > 0


def test_held_out_images_by_other_names(medgan, here: Path, run: tuple[Path, Path]) -> None:
    root, folder = run
    files = [path.relative_to(root.parent) for path in sorted(root.rglob("*.png"))]
    table = root.parent / "table.csv"
    table.write_text("\n".join(["path,label", *(f"{file},{file.parts[1]}" for file in files)]) + "\n")
    common = ("augment", "--real", table, "--model", folder, "--per-class", 1)
    message = medgan.fails(*common)
    assert "are not among those of" in message
    assert f"--real {root}" in message
    assert not list(here.iterdir())
    medgan.works(*common, "--other-images")
    mixed = pd.read_csv(here / "mixture" / "manifest.csv", dtype=str, keep_default_na=False)
    assert set(mixed.loc[mixed["origin"] == "real", "split"]) == {""}
    held_out = json.loads((folder / "data" / "splits.json").read_text())["parts"]["validation"]
    gone = next(file for file in held_out if file.startswith("PNEUMONIA"))
    (root / gone).unlink()  # fewer images are no others
    medgan.works("augment", "--real", root, *common[3:], "--out", "fewer")


def test_grades_stay_grades(medgan, here: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,label"]
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(here / f"{number}.png")
        rows.append(f"{number}.png,{number % 3}")
    Path("table.csv").write_text("\n".join(rows) + "\n")
    model = ACGAN(DataSpec(1, (32, 32), LabelSpec(("0", "1", "2"), "ordinal")), preset="tiny").save(here / "model")
    common = ("augment", "--real", "table.csv", "--model", model, "--per-class", 1)
    assert medgan.works(*common, "--label-kind", "ordinal").stdout.endswith("manifest.csv --label-kind ordinal\n")


def test_volumes(medgan, here: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        file = here / "scans" / "AB"[number % 2] / f"{number}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(rng.integers(0, 256, (16, 16, 16)).astype(np.uint8), np.eye(4)), file)
    data = DataSpec(1, (16, 16, 16), LabelSpec(("A", "B")))
    model = ACGAN(data, preset="tiny").save(here / "model")
    result = medgan.works("augment", "--real", "scans", "--model", model, "--per-class", 1)
    assert result.stdout.endswith("manifest.csv --size 16 --depth 16\n")
    mixed = open_dataset(here / "mixture" / "manifest.csv", size=data.size)
    assert mixed.spec == data
    assert mixed.index["origin"].value_counts().to_dict() == {"real": 4, "synthetic": 2}


def test_mistakes(medgan, here: Path, run: tuple[Path, Path]) -> None:
    root, folder = run
    message = medgan.fails("augment", "--real", root, "--model", folder)
    assert "exactly one of --balance, --ratio R and --per-class N" in message
    assert "exactly one" in medgan.fails("augment", "--real", root, "--model", folder, "--balance", "--ratio", 1)
    assert "There is no" in medgan.fails("augment", "--real", "nowhere", "--model", folder, "--balance")
    assert "no folder" in medgan.fails("augment", "--real", root, "--model", "nowhere", "--balance")
    assert not list(here.iterdir())
