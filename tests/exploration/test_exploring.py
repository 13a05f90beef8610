"""A run of the phantom, explored as a whole; and what is left out where something is missing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from medgan import registry
from medgan.core import DataSpec
from medgan.data import open_dataset
from medgan.errors import ConfigError, DataError
from medgan.exploration import explore
from medgan.runs import Run, read_parts

SOURCE = "phantom://chest?n=60&seed=1"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    flags = {
        "data": SOURCE,
        "size": 32,
        "preset": "tiny",
        "steps": 4,
        "evaluate_every": 4,
        "device": "cpu",
        "health": "off",
        "validation": 0.2,
        "test": 0.3,
        "outdir": str(tmp_path_factory.mktemp("runs")),
        "name": "explored",
    }
    return Run(flags, say=lambda line: None).fit().folder


@pytest.fixture(scope="session")
def found(run):
    told = []
    result = explore(run, inversions=3, device="cpu", progress=lambda *now: told.append(now))
    assert told[-1] == (8, 8, "done")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    return result


def test_all_parts_are_there(found, run):
    assert found.left_out == {}
    facts = found.to_dict()
    assert json.dumps(facts, allow_nan=False)
    assert facts["class_differences"][0]["labels"]["names"] == ["NORMAL", "PNEUMONIA"]
    assert facts["held_out"]["part"] == "test"
    assert [cases["label"] for cases in facts["cases"]] == ["NORMAL", "PNEUMONIA"]
    assert facts["features"]["what"].startswith("the classifier that the run trained")
    assert 0 <= facts["classifier_on_held_out"]["auroc"] <= 1
    assert sum(cases["training_images"] for cases in facts["cases"]) == facts["training_data"]["images"]


def test_real_images_are_of_other_patients(found, run):
    parts = read_parts(run)
    assert [parts[file] for file in found.real.files] == ["test"] * 3
    assert len(set(found.real.patients)) == 3
    assert found.real.names == [("NORMAL", "PNEUMONIA")] * 2 + [("PNEUMONIA", "NORMAL")]
    dataset = open_dataset(SOURCE, size=32)
    row = dataset.index["file"].tolist().index(found.real.files[0])
    assert np.array_equal(dataset.images_at([row])[0], found.real.images[0])
    assert found.real.readable.tolist() == (found.real.changes >= 2 * found.real.inversion.errors).tolist()


def test_the_difference_of_real_images(found):
    dataset = open_dataset(SOURCE, size=32)
    parts = found.facts["training_data"]["class_counts"]
    assert list(found.real_difference.images) == list(parts.values())
    assert found.real_difference.mean.shape == (1, 32, 32)
    assert -1 <= found.real_difference.correlation <= 1
    assert len(dataset) == 60


def test_the_page(found, tmp_path):
    page = found.write(tmp_path / "explore")
    text = page.read_text()
    assert ("does not show that nothing is memorised" in text) == (max(found.interpolation.unevenness) <= 3)
    names = {path.name for path in page.parent.iterdir()}
    assert {"explore.json", "arrays.npz", "class-difference-map.png", "inversion.png", "truncation.png"} <= names
    assert text.count("data:image/png") == sum(name.endswith(".png") for name in names)
    assert "no diagnosis" in text
    assert "images of patients" in text
    assert "no counterfactual of a patient" in text
    unreadable = int((~found.real.readable).sum())
    assert ("not to be read" in text) == (unreadable > 0)
    with np.load(page.parent / "arrays.npz") as arrays:
        assert np.array_equal(arrays["difference_0_mean"], found.differences[0].mean)
    assert json.loads((page.parent / "explore.json").read_text())["seed"] == 0
    with pytest.raises(ConfigError, match="not an empty folder"):
        found.write(page.parent)


def test_a_saved_model_by_itself(run, tmp_path):
    model = shutil.copytree(run / "model", tmp_path / "alone")
    found = explore(model, device="cpu", seed=3)
    assert {part: reason.split(";")[0] for part, reason in found.left_out.items()} == {
        "real images in the latent space": "it needs the run's data",
        "rare and borderline cases": "it needs the run's data",
        "nearest training images": "it needs the run's data",
    }
    text = found.write(tmp_path / "out").read_text()
    assert "images of patients" not in text
    assert "Left out" in text
    assert found.walk is not None
    assert found.walk.leaning is None


def test_a_saved_model_with_images(run, tmp_path):
    model = shutil.copytree(run / "model", tmp_path / "alone")
    found = explore(model, data=open_dataset(SOURCE, size=32), inversions=1, device="cpu")
    assert found.real.part == "given"
    assert "real images in the latent space" not in found.left_out
    assert "It is not known whether the model was trained on these images" in found.write(tmp_path / "o").read_text()
    with pytest.raises(DataError, match="This model makes images of 1×32×32"):
        explore(model, data=open_dataset(SOURCE, size=16), device="cpu")


def test_no_image_of_a_patient(run, tmp_path):
    found = explore(run, synthetic_only=True, device="cpu", reference="PNEUMONIA", target="NORMAL")
    assert found.real is None
    assert found.neighbour_images is None
    assert found.neighbours is not None
    assert found.contrast.names == ("PNEUMONIA", "NORMAL")
    page = found.write(tmp_path / "out")
    assert "images of patients" not in page.read_text()
    assert not {"inversion.png", "nearest-training.png"} & {path.name for path in page.parent.iterdir()}
    with np.load(page.parent / "arrays.npz") as arrays:
        assert "inversion_latents" not in arrays


def test_data_that_is_gone(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "run")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "gone")}))
    found = explore(moved, device="cpu")
    assert "the run's data cannot be read: There is no" in found.left_out["nearest training images"]
    again = explore(moved, data=SOURCE, inversions=0, device="cpu")
    assert set(again.left_out) == {"real images in the latent space"}
    with pytest.raises(DataError, match="There is no"):
        explore(moved, data=str(tmp_path / "gone"), device="cpu")


def test_translations_are_refused(plain_pairs, tmp_path):
    model = plain_pairs(DataSpec(1, (16, 16), source_channels=1)).save(tmp_path / "model")
    registry.register(plain_pairs)
    try:
        with pytest.raises(ConfigError, match="plain-pairs translates"):
            explore(model)
    finally:
        registry.unregister("plain-pairs")


def test_mistakes(run):
    with pytest.raises(ConfigError, match="Label 'FLU' is unknown"):
        explore(run, target="FLU")
    with pytest.raises(ConfigError, match="inversions is -1"):
        explore(run, inversions=-1)
    with pytest.raises(ConfigError, match="seed must be between"):
        explore(run, seed=-1)
