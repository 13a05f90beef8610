from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.nn import ChannelLayerNorm, FiLMNorm, MinibatchDiscrimination, MinibatchStdDev

SIZES = [(6,), (4, 6), (4, 2, 6)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 3 + 1


@pytest.mark.parametrize("size", SIZES)
def test_channel_layer_norm_normalises_each_pixel(size: tuple[int, ...]) -> None:
    images = noise(3, 5, *size)
    norm = ChannelLayerNorm(5)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 6.0))
        norm.bias.copy_(torch.arange(5.0))
    values = images.double().numpy()
    centred = values - values.mean(1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-3)
    shape = (1, 5, *[1] * len(size))
    expected = expected * np.arange(1, 6).reshape(shape) + np.arange(5).reshape(shape)
    np.testing.assert_allclose(norm(images).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert norm.eps == 1e-3
    assert sum(weight.numel() for weight in norm.parameters()) == 10


def test_channel_layer_norm_keeps_the_memory_format() -> None:
    images = noise(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    assert ChannelLayerNorm(4)(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 6), (7, 7), (4, 4), (11, 1), (1, 1)])
def test_film_norm(size: tuple[int, ...], channels: int, groups: int) -> None:
    images, condition = noise(3, channels, *size), noise(3, 5)
    norm = FiLMNorm(channels, 5)
    assert norm.groups == groups
    grouped = images.double().numpy().reshape(3, groups, -1)
    grouped = grouped - grouped.mean(2, keepdims=True)
    normal = (grouped / np.sqrt((grouped**2).mean(2, keepdims=True) + 1e-5)).reshape(images.shape)
    affine = condition.double().numpy() @ norm.affine.weight.detach().double().numpy().T
    affine = affine + norm.affine.bias.detach().double().numpy()
    shape = (3, channels, *[1] * len(size))
    expected = normal * (1 + affine[:, :channels].reshape(shape)) + affine[:, channels:].reshape(shape)
    np.testing.assert_allclose(norm(images, condition).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_film_norm_treats_each_image_by_itself() -> None:
    norm = FiLMNorm(8, 4)
    images, condition = noise(5, 8, 4, 4), noise(5, 4)
    together = norm(images, condition)
    for row in range(5):
        torch.testing.assert_close(norm(images[row : row + 1], condition[row : row + 1])[0], together[row])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("n", "group", "used"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (5, 8, 5), (1, 4, 1), (4, 1, 1)])
def test_minibatch_std_against_numpy(size: tuple[int, ...], n: int, group: int, used: int) -> None:
    images = noise(n, 3, *size)
    result = MinibatchStdDev(group)(images)
    assert result.shape == (n, 4, *size)
    assert torch.equal(result[:, :3], images)
    values = images.double().numpy()
    for row in range(n):
        # Every (n / used)-th image, counted from the row's place.
        members = values[row % (n // used) :: n // used]
        assert len(members) == used
        spread = np.sqrt(members.var(axis=0) + 1e-8).mean(axis=0)
        np.testing.assert_allclose(result[row, 3].numpy(), spread, rtol=1e-4)
    torch.testing.assert_close(MinibatchStdDev(group, gain=4)(images)[:, 3], 4 * result[:, 3])


def test_minibatch_std_finds_collapse() -> None:
    same = noise(1, 3, 4, 4).repeat(8, 1, 1, 1)
    assert MinibatchStdDev()(same)[:, 3].max() < 1e-3
    assert MinibatchStdDev()(noise(8, 3, 4, 4))[:, 3].mean() > 0.7


def test_minibatch_std_has_a_gradient_at_collapse() -> None:
    same = torch.ones(4, 2, 3, 3, requires_grad=True)
    MinibatchStdDev()(same).sum().backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_minibatch_std_keeps_half_precision() -> None:
    images = noise(4, 2, 3, 3).to(torch.bfloat16)
    assert MinibatchStdDev()(images).dtype == torch.bfloat16


@pytest.mark.parametrize(("n", "kernels", "dims"), [(5, 3, 2), (1, 4, 2), (2, 1, 1)])
def test_minibatch_discrimination_image_by_image(n: int, kernels: int, dims: int) -> None:
    features = noise(n, 6) * 0.2
    layer = MinibatchDiscrimination(6, kernels, dims)
    x, weight = features.double().numpy(), layer.projection.weight.detach().double().numpy()
    views = (x @ weight.T).reshape(n, kernels, dims)
    expected = np.zeros((n, kernels))
    for i in range(n):
        for j in range(n):
            if i != j:
                expected[i] += np.exp(-np.abs(views[i] - views[j]).sum(1))
    found = layer(features)
    assert torch.equal(found[:, :6], features)
    np.testing.assert_allclose(found[:, 6:].detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_minibatch_discrimination_finds_copies_out() -> None:
    layer = MinibatchDiscrimination(6, 4)
    copies = layer(noise(1, 6).repeat(8, 1))[:, 6:]
    torch.testing.assert_close(copies, torch.full_like(copies, 7.0))
    assert float(layer(noise(8, 6) * 5)[:, 6:].detach().max()) < 3
    half = layer.bfloat16()(noise(3, 6).bfloat16())
    assert half.dtype == torch.bfloat16


def test_spread_within_classes() -> None:
    """One class that is always the same image is seen, whatever the other class is like."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(12, 3, 4, 4, generator=rng)
    classes = torch.tensor([1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1])
    images[classes == 0] = images[1].clone()
    spread = MinibatchStdDev(4)(images, classes)[:, 3]
    assert torch.equal(MinibatchStdDev(4)(images, classes)[:, :3], images)
    assert spread[classes == 0].abs().max() < 1e-3
    assert spread[classes == 1].min() > 0.01
    expected = []
    ones = torch.where(classes == 1)[0]
    for group in (ones[:4], ones[4:]):
        expected.append(images[group].var(dim=0, unbiased=False).add(1e-8).sqrt().mean(dim=0))
        assert torch.allclose(spread[group], expected[-1].expand(4, 4, 4))
    # Together with the others, the class would have gone unseen.
    assert MinibatchStdDev(4)(images)[:, 3].min() > 0.01
