"""How a run is told about its data: splits that are used again, transforms of one's own, labels, volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

TINY = ("--size", 32, "--preset", "tiny", "--steps", 1)


def parts(run: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((run / "data" / "splits.json").read_text())["parts"]
    return found


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("A", "B"):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for number in range(12):
            image = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).resize((36, 32))
            image.save(tmp_path / "scans" / label / f"p{label}{number // 2}_{number}.png")
    return tmp_path / "scans"


def test_splits_are_used_again(medgan, here: Path, scans: Path) -> None:
    common = ("fit", "--data", scans, *TINY, "--patient-regex", r"p[AB]\d+")
    medgan.works(*common, "--name", "one", "--validation", 0.2, "--test", 0.3)
    first = parts(here / "runs" / "one")
    assert {name: len(images) for name, images in first.items()} == {"train": 12, "validation": 4, "test": 8}
    result = medgan.works(*common, "--name", "two", "--seed", 5, "--splits", "runs/one/data/splits.json")
    assert parts(here / "runs" / "two") == first
    assert "12 images (A 6, B 6), 4 held out for validation, 8 held out for test" in result.stdout
    (here / "runs" / "one").rename(here / "elsewhere")
    medgan.works("fit", "--resume", "runs/two", "--steps", 2)  # by its own copy
    assert parts(here / "runs" / "two") == first
    (scans / "A" / "pA5_11.png").unlink()
    message = medgan.fails(*common, "--name", "three", "--splits", "elsewhere/data/splits.json")
    assert "1 of 24 images of the split are not in the data (for example 'A/pA5_11.png')" in message
    assert "No such file" in medgan.fails(*common, "--splits", "nowhere.json")
    assert not (here / "runs" / "three").exists()


def test_transforms_of_ones_own(medgan, here: Path, scans: Path) -> None:
    Path("mine.py").write_text("def invert(image):\n    return 1 - image\n")
    common = ("fit", "--data", scans, *TINY, "--patient-regex", r"p[AB]\d+")
    medgan.works(*common, "--name", "plain")
    medgan.works(*common, "--name", "inverted", "--transforms", "mine:invert")
    plain, inverted = (
        np.asarray(Image.open(here / "runs" / name / "samples" / "real.png").convert("L"))[40:60, 40:60].astype(int)
        for name in ("plain", "inverted")
    )
    np.testing.assert_allclose(inverted, 255 - plain, atol=1)
    config = json.loads((here / "runs" / "inverted" / "config.json").read_text())
    assert config["provenance"]["transforms"] == "mine:invert"
    message = medgan.fails("fit", "--resume", "runs/inverted", "--steps", 2)
    assert "was begun with --transforms mine:invert" in message
    medgan.works("fit", "--resume", "runs/inverted", "--steps", 2, "--transforms", "mine:invert")
    Path("evil.json").write_text(json.dumps({"transforms": "mine:invert"}))
    assert "'transforms' is unknown" in medgan.fails(*common, "--config", "evil.json")


def test_uncertain_labels_need_a_policy(medgan, here: Path, scans: Path) -> None:
    files = sorted(path.relative_to(here.parent) for path in scans.rglob("*.png"))
    rows = [f"{file},p{position},{(1, 0, -1)[position % 3]},{position % 2}" for position, file in enumerate(files)]
    table = here.parent / "scans.csv"
    table.write_text("\n".join(["path,patient_id,label:Edema,label:Effusion", *rows]) + "\n")
    message = medgan.fails("fit", "--data", table, *TINY)
    assert "Edema: 8" in message
    assert "--uncertain" in message
    result = medgan.works("fit", "--data", table, *TINY, "--uncertain", "mask", "--name", "masked")
    assert "multilabel Edema, Effusion" in result.stdout
    result = medgan.works("fit", "--data", table, *TINY, "--uncertain", "drop", "--labels", "Edema", "--name", "binary")
    assert "categorical no Edema, Edema" in result.stdout
    medgan.works("sample", "--model", "runs/masked", "-n", 3, "--label", "Effusion", "--out", "made")


def test_volumes_and_their_slices(medgan, here: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("A", "B"):
        Path("niftis", label).mkdir(parents=True)
        for number in range(4):
            values = rng.normal(size=(20, 24, 18)).astype(np.float32)
            image = nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0]))
            image.set_sform(image.affine, code=1)
            nibabel.save(image, Path("niftis", label, f"sub-{label}{number}.nii.gz"))
    common = ("fit", "--data", "niftis", "--preset", "tiny", "--steps", 1, "--pipeline", "mri")
    common = (*common, "--batch-size", 4, "--minibatch-std", 4)  # no more than there are volumes
    ids = ("--patient-regex", r"sub-(\w+)")
    result = medgan.works(*common, *ids, "--size", 16, "--depth", 16, "--name", "whole")
    assert "6 images (A 3, B 3), 2 held out for validation; 1×16×16×16" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("-n 64 --out samples --grid --format nifti")
    result = medgan.works(*common, *ids, "--size", 32, "--slices", "axial:0.2-0.8", "--name", "slices")
    held_out = {name.split("#")[0] for name in parts(here / "runs" / "slices")["validation"]}
    assert len(held_out) == 2
    assert not held_out & {name.split("#")[0] for name in parts(here / "runs" / "slices")["train"]}
    medgan.works("sample", "--model", "runs/whole", "-n", 2, "--format", "npz", "--out", "made")
    with np.load(here / "made" / "samples.npz") as arrays:
        assert arrays["train_images"].shape == (2, 16, 16, 16)
    assert "--format npz" in medgan.fails("sample", "--model", "runs/whole", "-n", 2, "--out", "other")
    assert "axial" in medgan.fails(*common, "--size", 32)


def test_copies_on_both_sides_are_told(medgan, here: Path, scans: Path) -> None:
    common = ("fit", "--data", scans, *TINY, "--patient-regex", r"p[AB]\d+", "--validation", 0.3)
    first = medgan.works(*common, "--name", "one")
    assert "both sides" not in first.stdout
    assert (here / "runs" / "one" / "data" / "duplicates.csv").read_text().count("\n") == 1
    train, held_out = (parts(here / "runs" / "one")[name][0] for name in ("train", "validation"))
    (scans / train).write_bytes((scans / held_out).read_bytes())
    second = medgan.works(*common, "--name", "two")
    assert "1 pairs of (nearly) the same picture are on both sides of the split" in second.stdout
    table = (here / "runs" / "two" / "data" / "duplicates.csv").read_text()
    assert train in table
    assert held_out in table
