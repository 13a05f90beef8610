from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medgan.core import LabelSpec
from medgan.errors import ConfigError
from medgan.exploration import class_differences, interpolate, make_contrast, truncate, walk_classes

PATCH = 0.4  # as in conftest.py


def contrast_of(gan):
    return make_contrast(gan.data.labels)


def test_the_difference_of_classes_is_what_the_label_paints(plain, patch_features):
    (found,) = class_differences(plain, [contrast_of(plain)], latents=40, examples=3, features=patch_features)
    expected = torch.zeros(1, 16, 16)
    expected[:, :8, :8] = PATCH
    assert torch.allclose(found.mean, expected, atol=1e-3)
    assert found.spread.max() < 0.05  # pixels that are cut off at the bounds
    assert found.size == pytest.approx(PATCH / 4, abs=1e-3)
    assert found.leaning[0] < 0.3 < 0.7 < found.leaning[1]
    again = plain.sample(3, labels="PNEUMONIA", seed=0)
    assert torch.allclose(found.examples[:, 1], again.images, atol=1e-6)
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_dict()["mean_absolute_difference_percent"] == pytest.approx(100 * PATCH / 8, abs=0.1)


def test_mean_and_spread_are_those_of_numpy(make_plain):
    gan = make_plain(LabelSpec(("A", "B", "C")))
    with torch.no_grad():
        gan.generator.basis *= 20  # so that many pixels are cut off, and the difference varies
    contrast = make_contrast(gan.data.labels, "A", "C")
    (found,) = class_differences(gan, [contrast], latents=37, seed=5)
    ones, others = (gan.sample(37, labels=name, seed=5).images.double().numpy() for name in ("A", "C"))
    assert found.leaning is None
    np.testing.assert_allclose(found.mean.numpy(), (others - ones).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.spread.numpy(), (others - ones).std(axis=0, ddof=1), atol=1e-5)
    assert found.size == pytest.approx(np.abs(others - ones).mean(), abs=1e-6)


def test_interpolation_ends_at_its_seeds(plain):
    labels = [(name, torch.tensor(number)) for number, name in enumerate(plain.data.labels.names)]
    found = interpolate(plain, labels=labels, strips=2, steps=5, seed=7)
    assert found.images.shape == (4, 5, 1, 16, 16)
    assert found.names == ["NORMAL"] * 2 + ["PNEUMONIA"] * 2
    assert found.seeds == [(7, 8), (9, 10), (11, 12), (13, 14)]
    ends = plain.sample(2, labels="PNEUMONIA", seed=13).images
    assert torch.allclose(found.images[3, [0, -1]], ends, atol=1e-5)
    assert all(1 <= uneven < 2.5 for uneven in found.unevenness)


def test_a_jump_is_seen(plain, monkeypatch):
    def forward(latents, labels=None):
        return (latents[:, 0].sign() * 0.5).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)

    monkeypatch.setattr(plain.generator, "forward", forward)
    found = interpolate(plain, strips=6, steps=9)
    crossing = [uneven for uneven, images in zip(found.unevenness, found.images, strict=True) if images.std() > 0]
    assert crossing
    assert crossing == pytest.approx([8.0] * len(crossing))


def test_a_walk_finds_the_border(plain, patch_features):
    found = walk_classes(plain, contrast_of(plain), latents=6, steps=5, tried=6, features=patch_features)
    assert found.images.shape == (6, 5, 1, 16, 16)
    assert (np.diff(found.leaning, axis=1) > 0).all()
    inside = found.images[:, 0, :, :8, :8].flatten(1).mean(dim=1).double().numpy()
    expected = (PATCH / 2 - inside) / PATCH  # where the patch is half as bright as it can be
    np.testing.assert_allclose(found.borders, expected, atol=2e-3)
    undecided = patch_features.describe(found.border_images).probabilities[:, 1]
    np.testing.assert_allclose(undecided, 0.5, atol=0.02)
    assert found.crossing == found.tried == 6


def test_latents_that_cross_the_border_come_first(plain, patch_features):
    with torch.no_grad():
        plain.generator.basis *= 6  # so that the latent often outweighs the label
    found = walk_classes(plain, contrast_of(plain), latents=30, steps=5, tried=30, features=patch_features)
    known = np.isfinite(found.borders)
    assert 0 < known.sum() < 30
    assert found.crossing == known.sum()
    assert (np.diff(known.astype(int)) <= 0).all()
    assert sorted(found.seeds) == list(range(30))
    facts = found.to_dict()
    assert json.dumps(facts, allow_nan=False)
    assert facts["undecided_at"].count(None) == 30 - known.sum()
    assert (facts["latents_tried"], facts["latents_that_cross"]) == (30, known.sum())


def test_a_walk_without_a_classifier(make_plain):
    gan = make_plain(LabelSpec(("age",), "continuous"))
    found = walk_classes(gan, contrast_of(gan), latents=2, steps=3)
    assert found.leaning is None
    assert "undecided_at" not in found.to_dict()
    change = found.images[:, -1] - found.images[:, 0]
    assert torch.allclose(change[:, :, :8, :8], torch.full((2, 1, 8, 8), 2 * PATCH), atol=0.1)


def test_classes_that_cannot_be_mixed(plain, monkeypatch):
    monkeypatch.setattr(type(plain.generator), "mixes_classes", False)
    with pytest.raises(ConfigError, match="takes a class or another, and nothing between"):
        walk_classes(plain, contrast_of(plain))


def test_truncation_draws_images_together(plain):
    labels = [(name, torch.tensor(number)) for number, name in enumerate(plain.data.labels.names)]
    found = truncate(plain, labels=labels, levels=(0.5, 0.0), examples=4, latents=20)
    assert found.levels == [0.0, 0.5, 1.0]
    assert found.variety == pytest.approx([0, 0.5, 1], abs=0.02)
    assert found.names == ["NORMAL"] * 2 + ["PNEUMONIA"] * 2
    assert found.seeds == [0, 1, 0, 1]
    again = plain.sample(2, labels="PNEUMONIA", truncation=0.5).images
    assert torch.allclose(found.images[1, 2:], again, atol=1e-6)
    assert torch.allclose(found.images[0, 0], found.images[0, 1])


def test_a_model_without_labels(make_plain):
    gan = make_plain(None)
    assert interpolate(gan, strips=1, steps=3).names == [""]
    assert truncate(gan, latents=4).images.shape[1] == 4


def test_too_few(plain):
    with pytest.raises(ConfigError, match="At least 2 latents"):
        class_differences(plain, [contrast_of(plain)], latents=1)
    with pytest.raises(ConfigError, match="At least 1 strip"):
        interpolate(plain, strips=0)
    with pytest.raises(ConfigError, match="At least 2 latents"):
        truncate(plain, latents=1)
