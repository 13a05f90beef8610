from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medgan.core import LabelSpec
from medgan.data import ImageDataset
from medgan.errors import DataError
from medgan.exploration import find_cases, make_contrast, nearest_training, rarity


def test_rarity_is_the_smallest_ball_that_holds_an_image():
    # Balls reach to the first neighbour: 0-1 have the radius 1, 10 and 14 have 4, 100 has 86.
    real = np.array([[0.0], [1.0], [10.0], [14.0], [100.0]])
    found = rarity(real, [[0.5], [12.0], [50.0], [500.0], [5.5], [0.0]], k=1)
    np.testing.assert_allclose(found.scores, [1, 4, 86, np.nan, np.nan, 1])
    np.testing.assert_allclose(found.distances, [0.5, 2, 36, 400, 4.5, 0])
    assert found.outside == pytest.approx(2 / 6)


def test_rarity_in_blocks_is_that_by_brute_force():
    rng = np.random.default_rng(0)
    real, others = rng.normal(size=(60, 3)), rng.normal(size=(300, 3)) * 1.5
    apart = np.linalg.norm(real[:, None] - real[None], axis=2)
    radii = np.sort(apart, axis=1)[:, 3]
    distances = np.linalg.norm(others[:, None] - real[None], axis=2)
    expected = np.where(distances <= radii, radii, np.inf).min(axis=1)
    found = rarity(real, others)
    np.testing.assert_allclose(found.scores, np.where(np.isinf(expected), np.nan, expected))
    with pytest.raises(DataError, match="more than 3 real images, got 3"):
        rarity(real[:3], others)


def test_cases_are_sorted(patch_features):
    rng = np.random.default_rng(0)
    brightness = torch.tensor([0.0, 0.05, 0.2, 0.9, -0.8])
    images = brightness.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    images += 0.01 * torch.from_numpy(rng.normal(size=images.shape)).float()
    training = torch.from_numpy(rng.normal(0, 0.1, size=(50, 1, 8, 8))).float()
    training += torch.from_numpy(rng.normal(0, 0.15, size=(50, 1, 1, 1))).float()
    values = patch_features.describe(training.clamp(-1, 1)).features
    contrast = make_contrast(LabelSpec(("A", "B")))
    values[:, 1] = np.linspace(0, 0.02, 50)  # as little texture as the samples have
    found = find_cases(images, [7, 8, 9, 10, 11], name="A", features=patch_features, training=values, scale=values,
                       held_out=values[:4], contrast=contrast)  # fmt: skip
    assert found.borderline(1).tolist() == [2]  # at half the brightness of the patch
    assert set(found.outside(5)[:2]) == {3, 4}
    assert found.outside(1).tolist() == [3] or found.outside(1).tolist() == [4]
    inside = [*found.typical(5)]
    assert inside == list(found.rare(5)[::-1])
    assert sorted([*inside, *found.outside(5)]) == [0, 1, 2, 3, 4]
    assert found.held_out.outside == 0
    facts = found.to_dict(2)
    assert json.dumps(facts, allow_nan=False)
    assert facts["borderline"][0] == 9
    assert facts["training_images"] == 50


def test_the_nearest_training_images(patch_features):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 48, 48), dtype=np.uint8)
    training = ImageDataset.from_arrays(images)
    others = ImageDataset.from_arrays(rng.integers(0, 256, (7, 48, 48), dtype=np.uint8))
    values = patch_features.describe(training.images_at(range(30))).features
    found = nearest_training(training.images_at([4, 21, 9]), [1, 2, 3], [""] * 3, training=training, held_out=others,
                             features=patch_features, known=values, shown=[0, 2])  # fmt: skip
    assert found.by_pixels.tolist() == [4, 9]
    assert found.by_features.tolist() == [4, 9]
    assert found.seeds == [1, 3]
    assert found.correlations == pytest.approx(np.ones(3))
    assert found.distances == pytest.approx(np.zeros(3), abs=1e-5)
    assert (found.held_out_correlations < 0.9).all()
    assert found.side == 24
    facts = found.to_dict()
    assert facts["correlation_of_held_out"]["images"] == 7
    assert facts["correlation_of_samples"]["least"] == pytest.approx(1)
