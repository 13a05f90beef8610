from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.core import LabelSpec
from medgan.errors import DataError
from medgan.exploration import invert


def test_own_images_are_found_again(plain):
    space = plain.sample(3, labels=["NORMAL", "PNEUMONIA"], seed=900)
    told = []
    found = invert(
        plain, space.images, space.labels, steps=120, progress=lambda done, total: told.append((done, total))
    )
    chance = invert(plain, space.images, space.labels, steps=0, starts=1)
    assert (found.psnr > chance.psnr + 10).all()
    assert found.psnr.min() > 35
    batch = plain.generator(found.latents, found.labels)
    assert torch.allclose(batch, found.images, atol=1e-5)
    np.testing.assert_allclose(found.errors, (found.images - space.images).abs().flatten(1).mean(dim=1), rtol=1e-5)
    assert told[-1] == (120, 120)


def test_each_image_is_searched_for_by_itself(plain):
    batch = plain.sample(2, labels="NORMAL", seed=400)
    both = invert(plain, batch.images, batch.labels, steps=15, candidates=16)
    alone = invert(plain, batch.images[1:], batch.labels[1:], steps=15, candidates=16)
    assert torch.allclose(both.latents[1:], alone.latents, atol=1e-3)
    again = invert(plain, batch.images, batch.labels, steps=15, candidates=16)
    assert torch.equal(both.latents, again.latents)


def test_uniform_latents_stay_within_their_bounds(make_plain):
    gan = make_plain(uniform=True)
    batch = gan.sample(2, seed=900)
    found = invert(gan, batch.images, batch.labels, steps=60)
    assert found.latents.abs().max() <= 1
    assert found.psnr.min() > 30


def test_volumes_and_findings_that_are_not_known(make_plain):
    gan = make_plain(LabelSpec(("Effusion", "Edema"), "multilabel"), size=(8, 8, 8))
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    images = gan.sample(2, labels=labels, seed=900).images
    found = invert(gan, images, labels, steps=60, candidates=32)
    assert found.images.shape == (2, 1, 8, 8, 8)
    assert np.isnan(found.ssim).all()  # smaller than its window
    assert found.psnr.min() > 20


def test_no_gradient_is_left_behind(plain):
    batch = plain.sample(1)
    invert(plain, batch.images, batch.labels, steps=2, candidates=4)
    assert all(weight.grad is None for weight in plain.generator.parameters())


def test_images_of_another_size(plain):
    with pytest.raises(DataError, match="those to invert have the shape"):
        invert(plain, torch.zeros(1, 1, 8, 8), torch.tensor([0]))
