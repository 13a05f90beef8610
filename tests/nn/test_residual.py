from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.nn import ConditionalBatchNorm, ResidualDecoder, ResidualDownBlock, ResidualUpBlock, label_vectors


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


def stirred(module: nn.Module) -> Any:
    """Return a module all of whose weights and biases have moved."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=rng))
    return module


def convolved(images: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """Convolve in numpy, with as many zeros around as keep the size."""
    assert conv.bias is not None
    weight, bias = (value.detach().double().numpy() for value in (conv.weight, conv.bias))
    edge = weight.shape[-1] // 2
    padded = np.pad(images, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]


def relu(images: np.ndarray) -> np.ndarray:
    return np.maximum(images, 0)


def doubled(images: np.ndarray) -> np.ndarray:
    return images.repeat(2, axis=2).repeat(2, axis=3)


def halved(images: np.ndarray) -> np.ndarray:
    return (images[:, :, ::2, ::2] + images[:, :, 1::2, ::2] + images[:, :, ::2, 1::2] + images[:, :, 1::2, 1::2]) / 4


def normal(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    centred = images - images.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)


def test_conditional_batch_norm_against_numpy() -> None:
    images, condition = noise(5, 3, 4, 6), label_vectors(torch.tensor([0, 1, 1, 0, 1]), 2, "categorical")
    norm = ConditionalBatchNorm(3, 2)
    expected = normal(images.double().numpy(), (0, 2, 3))
    np.testing.assert_allclose(norm(images, condition).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    stirred(norm)
    scale, shift = norm.affine.weight.detach().double().numpy().reshape(2, 3, 2)
    for row, label in enumerate((0, 1, 1, 0, 1)):
        own = expected[row] * (1 + scale[:, label, None, None]) + shift[:, label, None, None]
        np.testing.assert_allclose(norm(images, condition)[row].detach().numpy(), own, rtol=1e-4, atol=1e-5)
    # A scale and a shift of each class, as the paper has it.
    assert sum(weight.numel() for weight in norm.parameters()) == 2 * 2 * 3


def test_conditional_batch_norm_in_evaluation_treats_each_image_by_itself() -> None:
    norm = stirred(ConditionalBatchNorm(3, 2))
    images, condition = noise(5, 3, 4, 4), noise(5, 2)
    norm(images, condition)
    norm.eval()
    together = norm(images, condition)
    torch.testing.assert_close(norm(images[2:3], condition[2:3])[0], together[2])
    mean, var = (value.view(-1, 1, 1) for value in (norm.normalise.running_mean, norm.normalise.running_var))
    scale, shift = norm.affine(condition[2]).view(2, 3, 1, 1)
    torch.testing.assert_close(together[2], (images[2] - mean) / (var + 1e-5).sqrt() * (1 + scale) + shift)


def test_up_block_against_numpy() -> None:
    """In the papers' order, in which the shortcut's convolution comes after the upsampling."""
    block = stirred(ResidualUpBlock(3, 5, lambda _: nn.Identity()))
    images = noise(2, 3, 4, 6)
    x = images.double().numpy()
    hidden = convolved(relu(convolved(doubled(relu(x)), block.conv1)), block.conv2)
    expected = hidden + convolved(doubled(x), block.shortcut)
    found = block(images)
    assert found.shape == (2, 5, 8, 12)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_up_block_normalises_before_each_relu() -> None:
    block = stirred(ResidualUpBlock(3, 5, lambda channels: ConditionalBatchNorm(channels, 2)))
    images, condition = noise(4, 3, 4, 4), noise(4, 2)
    with torch.no_grad():
        hidden = block.norm1(images, condition).double().numpy()
        hidden = convolved(doubled(relu(hidden)), block.conv1)
        hidden = block.norm2(torch.tensor(hidden, dtype=torch.float32), condition).double().numpy()
        expected = convolved(relu(hidden), block.conv2) + convolved(doubled(images.double().numpy()), block.shortcut)
        np.testing.assert_allclose(block(images, condition).numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("channels_in", "channels_out", "factor"), [(3, 5, 2), (4, 4, 2), (3, 5, 1), (4, 4, 1)])
def test_down_block_against_numpy(channels_in: int, channels_out: int, factor: int, first: bool) -> None:
    """In the papers' order, in which the shortcut's convolution comes before the mean."""
    block = stirred(ResidualDownBlock(channels_in, channels_out, factor=factor, first=first))
    images = noise(2, channels_in, 4, 6)
    x = images.double().numpy()
    smaller = halved if factor == 2 else lambda values: values
    hidden = convolved(x if first else relu(x), block.conv1)
    assert hidden.shape[1] == (channels_out if first else channels_in)
    plain = factor == 1 and channels_in == channels_out
    shortcut = x if plain else convolved(x, block.shortcut)
    expected = smaller(convolved(relu(hidden), block.conv2)) + smaller(shortcut)
    found = block(images)
    assert found.shape == (2, channels_out, 4 // factor, 6 // factor)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    kernels = 9 * channels_in * hidden.shape[1] + 9 * hidden.shape[1] * channels_out
    biases = hidden.shape[1] + channels_out
    one = 0 if plain else (channels_in + 1) * channels_out
    assert sum(weight.numel() for weight in block.parameters()) == kernels + biases + one


def test_down_block_with_layer_normalisation_against_numpy() -> None:
    block = ResidualDownBlock(4, 6, make_norm=lambda channels: nn.GroupNorm(1, channels))
    images = noise(2, 4, 4, 4)
    x = images.double().numpy()
    hidden = convolved(relu(normal(x, (1, 2, 3))), block.conv1)
    hidden = convolved(relu(normal(hidden, (1, 2, 3))), block.conv2)
    expected = halved(hidden) + halved(convolved(x, block.shortcut))
    np.testing.assert_allclose(block(images).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_down_block_leaves_its_input_alone() -> None:
    images = noise(2, 3, 4, 4)
    before = images.clone()
    ResidualDownBlock(3, 3, factor=1)(images)
    assert torch.equal(images, before)


def test_down_block_wraps_each_convolution() -> None:
    block = ResidualDownBlock(3, 5, wrap=spectral_norm).eval()
    for conv in (block.conv1, block.conv2, block.shortcut):
        assert float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("condition", [0, 2])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_decoder_counts(norm: Any, condition: int) -> None:
    decoder = ResidualDecoder(7, (32, 16), 2, width=3, most=3, norm=norm, condition=condition)
    # Scale and shift; of a condition, for each of its entries, and once more beside groups.
    rows = {("batch", 0): 1, ("batch", 2): 2, ("group", 0): 1, ("group", 2): 3}[norm, condition]
    expected = 7 * 9 * 8 * 4 + 9 * 8 * 4
    for i, o in ((9, 6), (6, 3)):
        expected += 2 * rows * (i + o) + 9 * i * o + o + 9 * o * o + o + i * o + o
    expected += 2 * 3 + 9 * 3 * 2 + 2
    assert sum(weight.numel() for weight in decoder.parameters()) == expected
    images = decoder(noise(3, 7), noise(3, condition) if condition else None)
    assert images.shape == (3, 2, 32, 16)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_decoder_learns_the_condition(norm: Any) -> None:
    """It makes no difference at first, has a gradient at once, and makes a difference when it has moved."""
    decoder = ResidualDecoder(7, (8, 8), 1, width=4, most=8, norm=norm, condition=2)
    vectors = noise(4, 7)
    one, other = torch.tensor([[1.0, 0.0]]).expand(4, 2), torch.tensor([[0.0, 1.0]]).expand(4, 2)
    assert torch.equal(decoder(vectors, one), decoder(vectors, other))
    decoder(vectors, one).square().sum().backward()
    for block in decoder.blocks:
        for layer in (block.norm1, block.norm2):
            assert layer.affine.weight.grad[:, 0].abs().max() > 0
            assert layer.affine.weight.grad[:, 1].abs().max() == 0
    stirred(decoder)
    assert (decoder(vectors, one) - decoder(vectors, other)).abs().max() > 1e-3


def test_decoder_with_groups_treats_each_image_by_itself() -> None:
    decoder = stirred(ResidualDecoder(7, (8, 8), 1, width=8, most=8, norm="group", condition=2))
    vectors, condition = noise(4, 7), noise(4, 2)
    torch.testing.assert_close(decoder(vectors[1:2], condition[1:2])[0], decoder(vectors, condition)[1])
    assert list(decoder.buffers()) == []
    mixing = stirred(ResidualDecoder(7, (8, 8), 1, width=8, most=8, norm="batch", condition=2))
    assert (mixing(vectors[:2], condition[:2]) - mixing(vectors, condition)[:2]).abs().max() > 1e-3


def test_initial_weights_keep_the_signal() -> None:
    """Glorot's bounds; by √2 larger where a ReLU comes before."""
    block = ResidualDownBlock(32, 64)
    assert float(block.conv1.weight.detach().abs().max()) == pytest.approx(np.sqrt(2 * 6 / (9 * (32 + 32))), rel=0.01)
    assert float(block.conv2.weight.detach().abs().max()) == pytest.approx(np.sqrt(2 * 6 / (9 * (32 + 64))), rel=0.01)
    assert float(block.shortcut.weight.detach().abs().max()) == pytest.approx(np.sqrt(6 / (32 + 64)), rel=0.01)
    assert not any(conv.bias.any() for conv in (block.conv1, block.conv2, block.shortcut))
