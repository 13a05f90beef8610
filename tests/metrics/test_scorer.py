"""The scorer of samples: learned where there is something to learn, refused where there is not, and read safely."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from medgan.errors import CheckpointError, ConfigError, DataError
from medgan.metrics.scorer import SampleScorer


def images_with_squares(n: int, *, seed: int = 0) -> tuple[Tensor, NDArray[np.bool_]]:
    """Noise, of which a third has a bright square in a corner."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.3, (n, 1, 24, 24)).clip(-1, 1).astype(np.float32)
    planted = rng.random(n) < 1 / 3
    images[planted, :, 2:7, 2:7] = 1
    return torch.from_numpy(images), planted


@pytest.fixture(scope="module")
def judged() -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Three readers each, who are wrong about a tenth of the images."""
    images, planted = images_with_squares(120)
    rng = np.random.default_rng(1)
    answers = np.stack([np.where(rng.random(120) < 0.1, planted, ~planted) for _ in range(3)])
    return images, answers.sum(0).astype(np.float64), (~answers).sum(0).astype(np.float64), planted


@pytest.fixture(scope="module")
def scorer(judged: tuple[Tensor, NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]) -> SampleScorer:
    images, accepted, rejected, _ = judged
    return SampleScorer.learn(images, accepted, rejected)


def test_finds_what_readers_reject(scorer: SampleScorer) -> None:
    images, planted = images_with_squares(200, seed=9)
    scores = scorer.score(images)
    assert scores.shape == (200,)
    assert roc_auc_score(~planted, scores) > 0.98
    assert abs((scores < 0.5).mean() - planted.mean()) < 0.08
    assert scorer.facts["judgements"] == 360
    assert scorer.facts["auc_low"] < scorer.facts["auc"] < scorer.facts["auc_high"]
    # The readers' own mistakes bound what a model can agree with.
    assert 0.8 < scorer.facts["auc"] < 0.95


def test_an_image_that_was_judged_twice_counts_twice() -> None:
    images, planted = images_with_squares(60)
    once = SampleScorer.learn(images, (~planted).astype(float), planted.astype(float))
    twice = SampleScorer.learn(images, 2.0 * ~planted, 2.0 * planted)
    assert twice.facts["judgements"] == 2 * once.facts["judgements"]
    assert twice.facts["auc"] == pytest.approx(once.facts["auc"], abs=0.05)


def test_is_the_same_after_it_was_written(scorer: SampleScorer, tmp_path: Path) -> None:
    images, _ = images_with_squares(10, seed=2)
    again = SampleScorer.load(scorer.save(tmp_path / "scorer"))
    np.testing.assert_array_equal(again.score(images), scorer.score(images))
    assert again.facts == scorer.facts
    with pytest.raises(ConfigError, match="holds a scorer already"):
        scorer.save(tmp_path / "scorer")


def test_chance_is_not_learned() -> None:
    images, _ = images_with_squares(80)
    answers = np.random.default_rng(5).random(80) < 0.5
    with pytest.raises(DataError, match=r"cannot be told from the images.*where 0\.5\s+is chance"):
        SampleScorer.learn(images, answers.astype(float), (~answers).astype(float))


@pytest.mark.parametrize("side", ["accepted", "rejected"])
def test_too_few_of_a_side(side: str) -> None:
    images, _ = images_with_squares(40)
    many, few = np.ones(40), np.zeros(40)
    few[:7] = 1
    given = {"accepted": few, "rejected": many} if side == "accepted" else {"accepted": many, "rejected": few}
    with pytest.raises(DataError, match=f"7 were {side} by anybody; a scorer needs 8"):
        SampleScorer.learn(images, **given)


def test_other_extractors_are_refused(judged: tuple[Tensor, NDArray[np.float64], NDArray[np.float64], object]) -> None:
    images, accepted, rejected, _ = judged
    with pytest.raises(ConfigError, match="random-conv"):
        SampleScorer.learn(images, accepted, rejected, extractor="random-con")


def test_images_of_another_size_are_refused(scorer: SampleScorer) -> None:
    with pytest.raises(DataError, match=r"shape \(1, 24, 24\), and these have \(1, 32, 32\)"):
        scorer.score(torch.zeros(2, 1, 32, 32))


@pytest.mark.parametrize(
    "changed",
    [
        {"extractor": "torchscript:evil.pt"},
        {"extractor": "os:system"},
        {"sha256": "0" * 64},
        {"bias": "x"},
        {"facts": 3},
        None,
    ],
)
def test_files_that_are_no_scorer(scorer: SampleScorer, tmp_path: Path, changed: dict[str, object] | None) -> None:
    folder = scorer.save(tmp_path / "scorer")
    file = folder / "scorer.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    file.write_text("{" if changed is None else json.dumps({**facts, **changed}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="scorer"):
        SampleScorer.load(folder)


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no scorer in"):
        SampleScorer.load(tmp_path)
