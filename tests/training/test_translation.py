"""Translations of held-out sources beside their true images: the figures, and the model that they keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medgan.core import GAN
from medgan.data import DataWarning, ImageDataset
from medgan.errors import DataError
from medgan.training import HealthMonitor, KeepBest, MetricsLog, SampleGrid
from medgan.training.translation import TranslationScorer


@pytest.fixture(scope="module")
def parts() -> tuple[ImageDataset, ImageDataset]:
    """Smooth images; a source is its negative, with noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:16, 0:16]
    waves = [np.sin(rows * a + b) * np.cos(columns * c) for a, b, c in rng.uniform(0.2, 0.8, (40, 3))]
    images = ((np.stack(waves) + 1) * 100 + 20).astype(np.uint8)
    sources = (255 - images + rng.integers(-10, 10, images.shape)).clip(0, 255).astype(np.uint8)
    patients = [f"p{number // 2}" for number in range(40)]
    training, validation = ImageDataset.from_arrays(images, sources=sources, patient_ids=patients).split(0.3)
    return training, validation


def test_scores_are_those_of_scikit_image(plain_pairs: type[GAN], parts: tuple[ImageDataset, ...]) -> None:
    gan = plain_pairs(parts[0].spec)
    scorer = TranslationScorer(parts[1])
    before = torch.get_rng_state()
    scores = scorer.score(gan)
    assert torch.equal(torch.get_rng_state(), before)
    batch = parts[1].batch_at(range(len(parts[1])))
    made = gan.sample(sources=batch.sources).images
    assert torch.equal(made, scorer.samples)
    shifted = [(images[:, 0].double() + 1).numpy() for images in (batch.images, made)]  # skimage's values begin at 0
    pairs = list(zip(*shifted, strict=True))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2}
    assert scores.ssim == pytest.approx(np.mean([structural_similarity(*pair, **wang) for pair in pairs]), abs=1e-6)
    assert scores.psnr == pytest.approx(np.mean([peak_signal_noise_ratio(*pair, data_range=2) for pair in pairs]))
    assert scores.to_dict() == {
        "score": round(scores.ssim, 6),
        "ssim": round(scores.ssim, 6),
        "psnr": round(scores.psnr, 6),
    }


def test_a_perfect_translation_has_finite_scores(plain_pairs: type[GAN], parts: tuple[ImageDataset, ...]) -> None:
    scorer = TranslationScorer(parts[1])
    scorer.sample = lambda gan, n=None: parts[1].images_at(range(len(parts[1])))  # type: ignore[method-assign]
    scores = scorer.score(plain_pairs(parts[0].spec))
    assert scores.ssim == pytest.approx(1)
    assert scores.psnr == 100


def test_data_without_pairs(parts: tuple[ImageDataset, ...]) -> None:
    with pytest.raises(DataError, match="has no pairs"):
        TranslationScorer(ImageDataset.from_arrays(np.zeros((8, 16, 16), np.uint8)))


def test_the_best_translation_is_kept(plain_pairs: type[GAN], parts: tuple[ImageDataset, ...], tmp_path: Path) -> None:
    training, validation = parts
    alone = plain_pairs(training.spec).fit(training, steps=6, device="cpu")
    gan = plain_pairs(training.spec)
    log = MetricsLog(tmp_path / "metrics.jsonl", every=2)
    # Without the monitors: they may find so young a generator ill, whose model is then not kept.
    best = KeepBest(gan, training, validation=validation, folder=tmp_path, steps=6, every=2, log=log)
    grid = SampleGrid(gan, tmp_path / "samples", every=3, shown=validation.batch_at(range(5)))
    gan.fit(training, steps=6, device="cpu", callbacks=[log, grid, best])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "evaluation/score" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(row["evaluation/ssim"] == row["evaluation/score"] for row in rows)
    assert all(row["evaluation/psnr"] > 0 for row in rows)
    kept = json.loads((best.model / "model.json").read_text())["evaluation"]
    assert kept["score"] == max(row["evaluation/score"] for row in rows)
    assert "SSIM" in str(best.summary())
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"000000.png", "000003.png", "000006.png"}
    weights = gan.generator.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in alone.generator.state_dict().items())


def test_translations_without_pairs_are_compared_by_features(plain_pairs: type[GAN], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, sources = (rng.integers(0, 255, (count, 16, 16), dtype=np.uint8) for count in (30, 20))
    patients = [f"p{number}" for number in range(30)]
    whole = ImageDataset.from_arrays(images, patient_ids=patients, sources=sources, paired=False)
    with pytest.warns(DataWarning, match="20 of 50 images are of unknown patients"):  # the sources
        training, validation = whole.split(0.3)
    gan = plain_pairs(training.spec)
    log = MetricsLog(tmp_path / "metrics.jsonl", every=2)
    health = HealthMonitor(tmp_path, react=False, say=lambda line: None)
    best = KeepBest(gan, training, validation=validation, folder=tmp_path, health=health, steps=2, every=2, log=log)
    gan.fit(training, steps=2, device="cpu", callbacks=[log, best, health])
    (row,) = [json.loads(line) for line in log.path.read_text().splitlines() if "coverage" in line]
    assert "evaluation/ssim" not in row
    assert best.record is not None
