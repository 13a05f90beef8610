from __future__ import annotations

import math

import pytest
import torch

from medgan.errors import ConfigError
from medgan.exploration import LatentSpace
from medgan.exploration.latent_space import check_seed


def test_images_of_seeds_are_those_that_sampling_makes(plain):
    space = LatentSpace(plain)
    batch = plain.sample(5, seed=3)
    assert torch.allclose(space.render(space.draw(range(3, 8)), batch.labels), batch.images, atol=1e-6)
    truncated = plain.sample(5, seed=3, truncation=0.5).images
    found = space.render(space.draw(range(3, 8)), batch.labels, truncation=0.5)
    assert torch.allclose(found, truncated, atol=1e-6)


def test_normal_latents_go_along_a_great_circle(plain):
    space = LatentSpace(plain)
    assert space.normal
    one = torch.tensor([3.0, 0, 0, 0])
    other = torch.tensor([0, 5.0, 0, 0])
    way = space.interpolate(one, other, torch.linspace(0, 1, 5))
    assert torch.allclose(way[[0, -1]], torch.stack([one, other]), atol=1e-5)
    assert torch.allclose(way.norm(dim=1), torch.linspace(3, 5, 5), atol=1e-5)
    angles = torch.atan2(way[:, 1], way[:, 0])
    assert torch.allclose(angles, torch.linspace(0, math.pi / 2, 5), atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_ends_in_one_line_need_no_circle(plain, factor):
    one = torch.tensor([1.0, 2.0, 0, 0])
    way = LatentSpace(plain).interpolate(one, factor * one, torch.linspace(0, 1, 3))
    assert way.isfinite().all()
    assert torch.allclose(way[1], (1 + factor) / 2 * one, atol=1e-5)


def test_uniform_latents_go_straight_and_stay_inside(make_plain):
    space = LatentSpace(make_plain(uniform=True))
    assert not space.normal
    one, other = torch.full((8,), -1.0), torch.full((8,), 0.5)
    assert torch.allclose(space.interpolate(one, other, torch.tensor([0.5]))[0], torch.full((8,), -0.25))
    back = space.bring_back(torch.full((1, 8), 7.0))
    assert (back <= 1).all()
    assert (back > 0.9).all()


def test_normal_latents_are_brought_back_to_lengths_that_occur(plain):
    given = torch.tensor([[0.1] * 8, [9.0] + [0.0] * 7, [1.0] * 8])
    back = LatentSpace(plain).bring_back(given)
    lengths = back.norm(dim=1)
    # The quantiles of the root of a chi-squared with 8 degrees of freedom: 1.28 and 4.48.
    assert lengths[:2].tolist() == pytest.approx([1.28, 4.48], abs=0.3)
    assert torch.allclose(back[2], given[2])
    assert torch.allclose(torch.nn.functional.cosine_similarity(back, given), torch.ones(3))


def test_seeds_beyond_32_bits_are_refused():
    check_seed(2**32 - 4, 4)
    with pytest.raises(ConfigError, match=r"between 0 and 4,294,967,292"):
        check_seed(2**32 - 3, 4)
