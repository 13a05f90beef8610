from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from medgan.errors import ConfigError, DataError, PluginError
from medgan.metrics.extractors.base import Extractor, InputSpec, check_images, module_sha256


class Means(Extractor):
    name = "means"
    sha256 = "0" * 64
    input = InputSpec(3)

    def extract(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class Broken(Means):
    def extract(self, images: Tensor) -> Tensor:
        return images


class Infinite(Means):
    def extract(self, images: Tensor) -> Tensor:
        return super().extract(images).log()


def test_grey_is_repeated_and_colour_averaged() -> None:
    grey = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    torch.testing.assert_close(Means()(grey), torch.tensor([-1.0, 0.0, 1.0]).view(3, 1).expand(3, 3))
    colour = torch.tensor([-1.0, 0.0, 0.4]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(InputSpec(1).prepare(colour), torch.full((1, 1, 8, 8), -0.2))
    assert InputSpec(3).notes(1) == ("grey replicated to RGB",)
    assert InputSpec(1).notes(3) == ("colour averaged to grey",)
    assert InputSpec(3, bits=8).notes(3) == ("rounded to 8 bits",)
    assert InputSpec(1).notes(1) == ()


def test_eight_bits_come_through_exactly_and_sixteen_do_too() -> None:
    levels = torch.arange(256, dtype=torch.float32).view(1, 1, 16, 16)
    assert torch.equal(InputSpec(1, low=0, high=255, bits=8).prepare(levels / 127.5 - 1), levels)
    deep = torch.arange(65536, dtype=torch.float64).view(1, 1, 256, 256)
    prepared = InputSpec(1, low=0, high=65535).prepare((deep / 32767.5 - 1).float())
    assert torch.equal(prepared.round(), deep.float())
    rounded = InputSpec(1, low=0, high=255, bits=8).prepare((deep / 32767.5 - 1).float())
    assert len(rounded.unique()) == 256


def test_a_size_needs_a_resizer() -> None:
    with pytest.raises(ConfigError, match=r"the size \(8, 8\) by a resizer"):
        InputSpec(size=(8, 8))


def test_size_and_range() -> None:
    edge = -torch.ones(2, 1, 8, 8)
    edge[..., 4:] = 1
    prepared = InputSpec(3, (20, 30), low=-1024, high=1024, resizer="clean").prepare(edge)
    assert prepared.shape == (2, 3, 20, 30)
    assert prepared.min() == -1024  # bicubic weights overshoot: cut off
    assert prepared.max() == 1024


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 8, 8), "shape (N, 1 or 3, height, width), got (2, 8, 8)"),
        (torch.zeros(2, 2, 8, 8), "got (2, 2, 8, 8)"),
        (torch.zeros(1, 1, 8, 8, 8), "Take slices of volumes first"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "got torch.uint8. Scale them"),
        (torch.full((1, 1, 8, 8), 255.0), "got values from 255 to 255"),
        (torch.full((1, 1, 8, 8), torch.nan), "got values from nan"),
        (torch.zeros(0, 1, 8, 8), "There is no image"),
    ],
)
def test_other_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        check_images(images)
    with pytest.raises(DataError, match=re.escape(message)):
        Means()(images)


def test_what_an_extractor_returns_is_checked() -> None:
    with pytest.raises(PluginError, match=r"'means' returned shape \(2, 3, 8, 8\); expected \(2, D\)"):
        Broken()(torch.zeros(2, 1, 8, 8))
    narrow = Means()
    narrow.dim = 7
    with pytest.raises(PluginError, match=r"returned shape \(2, 3\); expected \(2, 7\)"):
        narrow(torch.zeros(2, 1, 8, 8))
    images = torch.ones(3, 1, 8, 8)
    images[1] = -1
    with pytest.raises(DataError, match="Image 1 of its batch has features that are not finite under 'means'"):
        Infinite()(images)
    with pytest.raises(ConfigError, match=r"'means' has no classes.*--extractor inception"):
        Means().logits(torch.zeros(2, 3))


def test_features_carry_no_gradient_and_are_float32() -> None:
    features = Means()(torch.zeros(2, 3, 8, 8, requires_grad=True))
    assert features.dtype == torch.float32
    assert not features.requires_grad


def test_module_sha256() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = module_sha256(module)
    assert re.fullmatch("[0-9a-f]{64}", before)
    module[1].num_batches_tracked += 5
    assert module_sha256(module) == before
    assert module_sha256(module, "layer 1") != before
    module[1].running_mean[0] = 1e-40
    assert module_sha256(module) != before
