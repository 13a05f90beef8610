from __future__ import annotations

import json
import shutil

import numpy as np
import torch

from medgan.data import open_dataset
from medgan.data.splits import Splits
from medgan.models import load_discriminator

SOURCE = "phantom://chest?n=40&seed=1"


def test_features_of_the_runs_own_images(medgan, fitted, tmp_path):
    out = tmp_path / "features.npz"
    result = medgan.works("features", "--model", fitted, "--out", out, "--device", "cpu")
    dataset = open_dataset(SOURCE, size=32)
    parts = Splits.read(fitted / "data" / "splits.json").parts
    assert f"128 features of 40 images: {out}" in result.output
    assert f"trained on {len(parts['train'])} of these" in result.output
    with np.load(out, allow_pickle=False) as file:
        assert file["images"].tolist() == dataset.index["file"].tolist()
        assert {name for name, part in zip(file["images"], file["parts"], strict=True) if part == "train"} == set(
            parts["train"]
        )
        network = load_discriminator(fitted)
        with torch.no_grad():
            expected = torch.cat([network(dataset.images_at([row])).features for row in range(3)]).numpy()
        np.testing.assert_allclose(file["features"][:3], expected, rtol=1e-4, atol=1e-5)


def test_features_of_other_images(medgan, fitted, tmp_path):
    out = tmp_path / "features.csv"
    other = SOURCE.replace("seed=1", "seed=2")  # of the same file names
    result = medgan.works("features", "--model", fitted, "--data", other, "--out", out, "--device", "cpu")
    assert "not the run's images" in result.output
    header, first, *_ = out.read_text().splitlines()
    assert header.startswith("image,patient,part,label,feature_000,")
    assert first.split(",")[2] == ""


def test_bad_input(medgan, fitted, tmp_path):
    out = tmp_path / "features.npz"
    saved = medgan.fails("features", "--model", fitted / "model", "--data", SOURCE, "--out", out)
    assert "holds no discriminator" in saved
    assert "Pass the run folder" in saved
    assert "ends in .npz, .csv, .parquet" in medgan.fails("features", "--model", fitted, "--out", tmp_path / "a.txt")
    out.write_bytes(b"kept")
    assert "exists already" in medgan.fails("features", "--model", fitted, "--out", out)
    assert out.read_bytes() == b"kept"
    message = medgan.fails("features", "--model", fitted, "--layout", "folder", "--out", tmp_path / "b.npz")
    assert "--layout says how --data is read" in message
    gone = medgan.fails("features", "--model", fitted, "--data", tmp_path / "gone", "--out", tmp_path / "b.npz")
    assert "gone" in gone
    assert not (tmp_path / "b.npz").exists()


def test_a_damaged_or_foreign_checkpoint(medgan, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    path = run / "checkpoints" / "latest" / "trainer.pt"
    path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in medgan.fails("features", "--model", run, "--out", tmp_path / "a.npz")
    shutil.copy(fitted / "checkpoints" / "latest" / "trainer.pt", path)
    facts = json.loads((run / "model" / "model.json").read_text())
    facts["data"]["labels"]["names"] = ["A", "B"]
    (run / "model" / "model.json").write_text(json.dumps(facts))
    assert "the model beside it is of" in medgan.fails("features", "--model", run, "--out", tmp_path / "a.npz")
