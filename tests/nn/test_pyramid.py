"""Sizes and widths of networks that halve the resolution step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgan.nn.pyramid import halvings, initialise_normal, level_widths, seed_size


@pytest.mark.parametrize(
    ("size", "number", "seed"),
    [((4, 4), 0, (4, 4)), ((64, 64), 4, (4, 4)), ((32, 128), 3, (4, 16)), ((16, 32, 16), 2, (4, 8, 4))],
)
def test_sizes(size: tuple[int, ...], number: int, seed: tuple[int, ...]) -> None:
    assert halvings(size) == number
    assert seed_size(size) == seed
    assert tuple(length << number for length in seed) == size


def test_widths() -> None:
    assert level_widths(24, 6, most=8) == [24, 48, 96, 192, 192, 192]
    assert level_widths(24, 3, most=1) == [24, 24, 24]
    assert level_widths(5, 4, most=3) == [5, 10, 15, 15]


def test_weights_are_drawn_as_dcgan_does() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.ConvTranspose3d(8, 32, 3), nn.Linear(64, 128)),
        *(nn.InstanceNorm2d(64, affine=True), nn.GroupNorm(2, 8)),
        *(nn.InstanceNorm3d(8), nn.BatchNorm1d(8, affine=False)),
    )
    network.apply(initialise_normal)
    for layer, mean in zip(network, (0.0, 1.0, 0.0, 0.0, 1.0), strict=False):
        weight = layer.weight.detach()
        assert weight.mean().item() == pytest.approx(mean, abs=0.02 * 4 / weight.numel() ** 0.5)
        assert weight.std().item() == pytest.approx(0.02, rel=0.3)
        assert not layer.bias.any()
    assert torch.equal(network[5].weight, torch.ones(8))  # of another kind
    assert network[6].weight is network[7].weight is None
