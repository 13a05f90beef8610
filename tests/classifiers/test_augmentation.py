from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from medgan.classifiers import ClassicalAugmentation
from medgan.errors import ConfigError, DataError

STILL = {"rotation_degrees": 0.0, "scale": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_nothing_is_done_without_amounts() -> None:
    found = images(3, 2, 10, 14)
    torch.testing.assert_close(ClassicalAugmentation(**STILL)(found), found)


@pytest.mark.parametrize("size", [(24, 24), (20, 36)])
def test_geometry_agrees_with_torchvision(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One image at a time, by pixels, black outside."""
    amounts = {**STILL, "rotation_degrees": 30.0, "scale": 0.3, "shift": 0.2}
    found = images(6, 1, *size)
    torch.manual_seed(4)
    distorted = ClassicalAugmentation(**amounts)(found)
    torch.manual_seed(4)
    _, _, angle, scale, right, down = (torch.rand(6, 1, 1, 1).flatten() * 2 - 1 for _ in range(6))
    for number in range(6):
        # torchvision rotates and scales about the centre and moves then; here the image is moved before.
        degrees, factor = 30 * float(angle[number]), 1 + 0.3 * float(scale[number])
        move = torch.tensor([-0.2 * size[1] * float(right[number]), -0.2 * size[0] * float(down[number])])
        turn = math.radians(-degrees)
        rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        expected = (
            affine(
                found[number] + 1,
                angle=-degrees,
                translate=(factor * rotation @ move).tolist(),
                scale=factor,
                shear=[0.0, 0.0],
                interpolation=InterpolationMode.BILINEAR,
            )
            - 1
        )
        torch.testing.assert_close(distorted[number], expected, atol=2e-3, rtol=0)


def test_brightness_and_contrast_are_those_of_each_image() -> None:
    found = images(64, 1, 8, 8) * 0.5
    distorted = ClassicalAugmentation(**{**STILL, "brightness": 0.1, "contrast": 0.2})(found)
    before, after = found.mean((1, 2, 3)), distorted.mean((1, 2, 3))
    change = after - before
    assert 0.08 < float(change.abs().max()) <= 0.1 + 1e-6
    assert len(change.unique()) == 64
    factor = distorted.std((1, 2, 3)) / found.std((1, 2, 3))
    assert 0.15 < float((factor - 1).abs().max()) <= 0.2 + 1e-5
    shape = (distorted - after.view(-1, 1, 1, 1)) / factor.view(-1, 1, 1, 1)
    torch.testing.assert_close(shape, found - before.view(-1, 1, 1, 1))


def test_range_shape_and_outside() -> None:
    white = torch.ones(16, 3, 32, 32)
    distorted = ClassicalAugmentation(shift=0.5)(white)
    assert distorted.shape == white.shape
    assert float(distorted.min()) == -1.0
    assert float(distorted.max()) <= 1.0
    assert ClassicalAugmentation()(images(8, 1, 32, 32)).abs().max() <= 1 + 1e-6


def test_left_stays_left_and_up_stays_up() -> None:
    found = -torch.ones(200, 1, 32, 32)
    found[:, :, 6:10, 5:9] = 1
    distorted = ClassicalAugmentation(brightness=0.0, contrast=0.0)(found) + 1
    rows, columns = (distorted.sum(axes) for axes in ((1, 3), (1, 2)))
    middle = torch.arange(32.0)
    assert float(((rows * middle).sum(1) / rows.sum(1)).max()) < 14
    assert float(((columns * middle).sum(1) / columns.sum(1)).max()) < 14


def test_draws_come_from_torchs_generator() -> None:
    found = images(4, 1, 16, 16)
    augment = ClassicalAugmentation()
    torch.manual_seed(0)
    first = augment(found)
    other = augment(found)
    torch.manual_seed(0)
    assert torch.equal(augment(found), first)
    assert not torch.equal(first, other)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"shift must be at least 0 and below 1, got 1\.5"):
        ClassicalAugmentation(shift=1.5)
    with pytest.raises(ConfigError, match="rotation_degrees must lie between 0 and 180, got -7"):
        ClassicalAugmentation(rotation_degrees=-7)
    with pytest.raises(DataError, match=r"shape \(N, C, height, width\), got \(2, 1, 8, 8, 8\)"):
        ClassicalAugmentation()(images(2, 1, 8, 8, 8))
