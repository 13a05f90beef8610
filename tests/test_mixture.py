"""Real and synthetic images in one table: nobody can confuse them, and nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medgan.data import ImageDataset, open_dataset
from medgan.errors import ConfigError, DataError
from medgan.mixture import plan_mixture, write_mixture
from medgan.models import ACGAN


@pytest.fixture
def real(tmp_path: Path) -> ImageDataset:
    rng = np.random.default_rng(0)
    for label, count in (("NORMAL", 4), ("PNEUMONIA", 9)):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).resize((40, 40))
            image.save(tmp_path / "scans" / label / f"p{number // 2}{label}_{number}.png")
    return open_dataset(tmp_path / "scans", size=32, patient_regex=r"(p\d+[A-Z]+)", cache_dir=tmp_path / "cache")


@pytest.fixture
def gan(real: ImageDataset) -> ACGAN:
    return ACGAN(real.spec, preset="tiny")


def test_plans() -> None:
    counts = {"A": 3, "B": 10, "C": 0}
    assert plan_mixture(counts, balance=True) == {"A": 7, "B": 0, "C": 10}
    assert plan_mixture(counts, ratio=0.5) == {"A": 2, "B": 5, "C": 0}
    assert plan_mixture(counts, per_class=4) == {"A": 4, "B": 4, "C": 4}


@pytest.mark.parametrize(
    "plan", [{}, {"balance": True, "ratio": 1.0}, {"ratio": 0.0}, {"ratio": float("nan")}, {"per_class": 0}]
)
def test_plans_that_are_none(plan: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"--ratio|--per-class"):
        plan_mixture({"A": 1}, **plan)  # type: ignore[arg-type]


def test_the_table_tells_real_from_synthetic(real: ImageDataset, gan: ACGAN, tmp_path: Path) -> None:
    manifest = write_mixture(real, gan, tmp_path / "mixed", model="my-run", balance=True, seed=7)
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    assert table.groupby(["origin", "label"]).size().to_dict() == {
        ("real", "NORMAL"): 4,
        ("real", "PNEUMONIA"): 9,
        ("synthetic", "NORMAL"): 5,
    }
    made = table[table["origin"] == "synthetic"]
    assert sorted(made["seed"]) == ["10", "11", "7", "8", "9"]
    assert made["model"].str.fullmatch(r"my-run sha256:[0-9a-f]{12}").all()
    assert (made["split"] == "train").all()
    assert (made["patient_id"] == "").all()
    for row in made.itertuples():
        expected = gan.sample(1, labels="NORMAL", seed=int(row.seed)).images[0, 0].numpy()
        pixels = np.asarray(Image.open(tmp_path / "mixed" / row.path)).astype(float)
        np.testing.assert_allclose(pixels / 127.5 - 1, expected, atol=0.51 / 127.5)
    originals = table[table["origin"] == "real"]
    assert (originals[["model", "seed"]] == "").all(axis=None)
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in originals["path"])
    assert list(originals["patient_id"]) == list(real.index["patient_id"])
    facts = json.loads((tmp_path / "mixed" / "mixture.json").read_text())
    assert facts["synthetic_images"] == {"NORMAL": 5, "PNEUMONIA": 0}


def test_the_mixture_is_a_data_set(real: ImageDataset, gan: ACGAN, tmp_path: Path) -> None:
    manifest = write_mixture(real, gan, tmp_path / "mixed", model="my-run", per_class=3)
    mixed = open_dataset(manifest, size=32, cache_dir=tmp_path / "cache")
    assert mixed.class_counts() == {"NORMAL": 7, "PNEUMONIA": 12}
    assert mixed.index["origin"].value_counts().to_dict() == {"real": 13, "synthetic": 6}
    assert mixed.provenance()["synthetic_images"] == 6
    assert real.provenance()["synthetic_images"] == 0


def test_what_was_held_out_stays_held_out_and_does_not_count(real: ImageDataset, gan: ACGAN, tmp_path: Path) -> None:
    held_out = [file for file in real.index["file"] if "p0PNEUMONIA" in file]
    splits = {file: "validation" if file in held_out else "train" for file in real.index["file"]}
    manifest = write_mixture(real, gan, tmp_path / "mixed", model="m", splits=splits, balance=True)
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    assert sorted(Path(path).name for path in table.loc[table["split"] == "validation", "path"]) == sorted(
        Path(file).name for file in held_out
    )
    assert len(table[table["origin"] == "synthetic"]) == (9 - 2) - 4


def test_mistakes_write_nothing(real: ImageDataset, gan: ACGAN, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_mixture(real, gan, tmp_path / "taken", model="m", per_class=1)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["thesis.txt"]
    other = ACGAN(
        ImageDataset.from_arrays(np.zeros((2, 32, 32), np.uint8), [0, 1], names=["X", "Y"]).spec, preset="tiny"
    )
    with pytest.raises(ConfigError, match="the model knows X, Y"):
        write_mixture(real, other, tmp_path / "out", model="m", per_class=1)
    same = real.subset(np.r_[0:4, 4:8])
    with pytest.raises(ConfigError, match="Nothing is to be added"):
        write_mixture(same, gan, tmp_path / "out", model="m", balance=True)
    arrays = ImageDataset.from_arrays(np.zeros((2, 32, 32), np.uint8), [0, 1], names=["NORMAL", "PNEUMONIA"])
    with pytest.raises(DataError, match="not each a file of their own"):
        write_mixture(arrays, gan, tmp_path / "out", model="m", per_class=1)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))
