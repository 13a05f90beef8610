"""``medgan refine``, and ``medgan sample --quality``."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from medgan.models import load_model

pytestmark = pytest.mark.filterwarnings("default:.*is split file by file")


@pytest.fixture
def ratings(fitted, tmp_path):
    """One reader, who rejects what is brighter than most."""
    gan = load_model(fitted)
    batch = gan.sample(60)
    means = batch.images.flatten(1).mean(1).numpy()
    file = tmp_path / "ratings.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["seed", "label", "accepted"])
        for seed, (label, mean) in enumerate(zip(batch.labels.tolist(), means, strict=True)):
            table.writerow([seed, gan.data.labels.names[label], int(mean < np.median(means))])
    return file


def test_refines_and_samples_by_the_scorer(medgan, fitted, ratings, tmp_path):
    out = tmp_path / "refinement"
    result = medgan.works(
        *("refine", "--model", fitted, "--ratings", ratings, "--kimg", 0.016, "--samples", 100),
        *("--outdir", tmp_path / "runs", "--out", out, "--device", "cpu"),
    )
    assert "Scorer: learned from 60 judgements of 60 samples" in result.stdout
    assert "let readers judge samples of the new model" in result.stdout
    report = json.loads((out / "refinement.json").read_text(encoding="utf-8"))
    assert set(report["before"]) >= {"rejected"}
    medgan.works(
        *("sample", "--model", fitted, "-n", 6, "--quality", out / "scorer", "--keep", 0.5, "--out", tmp_path / "good")
    )
    rows = list(csv.DictReader((tmp_path / "good" / "samples.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    assert max(int(row["seed"]) for row in rows) > 5  # some were left out
    goes_on_with_rejected_images_that_moved(medgan, next((tmp_path / "runs").iterdir()), out / "rejected", tmp_path)


def goes_on_with_rejected_images_that_moved(medgan, run, rejected, tmp_path):
    rejected.rename(tmp_path / "moved")
    more = ("fit", "--resume", run, "--kimg", 0.032)
    assert str(rejected) in medgan.fails(*more)
    fewer = tmp_path / "fewer"
    shutil.copytree(tmp_path / "moved", fewer)
    next(fewer.rglob("*.png")).unlink()
    assert "are not those that" in medgan.fails(*more, "--rejected", fewer)
    medgan.works(*more, "--rejected", tmp_path / "moved")


def test_failures_where_the_data_has_moved(medgan, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        file = tmp_path / "scans" / "AB"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(file)
    how = ("--size", 32, "--preset", "tiny", "--steps", 1, "--evaluate-every", 0, "--device", "cpu")
    medgan.works("fit", "--data", tmp_path / "scans", *how, "--outdir", tmp_path, "--name", "run")
    (tmp_path / "scans").rename(tmp_path / "moved")
    command = ("refine", "--model", tmp_path / "run", "--failures", "--out", tmp_path / "refinement")
    assert "if that has moved, say where" in medgan.fails(*command)
    assert "kept no classifier" in medgan.fails(*command, "--data", tmp_path / "moved")  # found, so far as that goes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Say who judged"),
        (("--ratings", "ratings.csv", "--kimg", 1, "--budget", "1m"), "Pass one of them"),
        (("--database", "sqlite:///x"), "--study"),
        (("--ratings", "nothing.csv"), "cannot be read"),
    ],
)
def test_mistakes(medgan, fitted, ratings, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in medgan.fails("refine", "--model", fitted, *arguments)


def test_quality_and_keep_go_together(medgan, fitted, tmp_path):
    assert "--keep 0.5 needs --quality" in medgan.fails("sample", "--model", fitted, "--keep", 0.5)
    assert "leave out --seeds" in medgan.fails("sample", "--model", fitted, "--quality", tmp_path, "--seeds", "0-3")
    assert "There is no scorer in" in medgan.fails(
        "sample", "--model", fitted, "--quality", tmp_path, "--out", tmp_path / "x"
    )
