"""Sizes and widths of networks that halve the resolution step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgan.nn.pyramid import channels_at, halvings, initialise_normal, seed_size


@pytest.mark.parametrize(
    ("size", "number", "seed"),
    [((4, 4), 0, (4, 4)), ((64, 64), 4, (4, 4)), ((32, 128), 3, (4, 16)), ((16, 32, 16), 2, (4, 8, 4))],
)
def test_sizes(size: tuple[int, ...], number: int, seed: tuple[int, ...]) -> None:
    assert halvings(size) == number
    assert seed_size(size) == seed
    assert tuple(length << number for length in seed) == size


def test_channels() -> None:
    assert [channels_at(24, level, most=8) for level in range(6)] == [24, 48, 96, 192, 192, 192]
    assert channels_at(24, 3, most=1) == 24


def test_weights_are_drawn_as_dcgan_does() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.ConvTranspose3d(8, 32, 3), nn.Linear(64, 128), nn.GroupNorm(2, 8)
    )
    network.apply(initialise_normal)
    for layer, mean in ((network[0], 0.0), (network[1], 1.0), (network[2], 0.0), (network[3], 0.0)):
        weight = layer.weight.detach()
        assert weight.mean().item() == pytest.approx(mean, abs=0.02 * 4 / weight.numel() ** 0.5)
        assert weight.std().item() == pytest.approx(0.02, rel=0.3)
        assert not layer.bias.any()
    assert torch.equal(network[4].weight, torch.ones(8))  # of another kind
