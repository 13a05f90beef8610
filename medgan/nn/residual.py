"""Residual networks of generators and discriminators, as the papers on WGAN-GP and SNGAN have them.

Blocks of two 3×3 convolutions around which the image goes as it is, or through a 1×1 convolution where its size or the
number of channels changes. All are for images of two dimensions, ``(N, C, height, width)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.nn.blocks import FiLMNorm
from medgan.nn.pyramid import halvings, level_widths, seed_size

__all__ = ["ConditionalBatchNorm", "ResidualDecoder", "ResidualDownBlock", "ResidualUpBlock"]

Wrap = Callable[[nn.Module], nn.Module]


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose scale and shift are computed from a condition vector.

    With a one-hot vector as the condition each class has a scale and a shift of its own. They begin at 1 and 0.

    The statistics are those of the batch in training, and running means in evaluation.

    Args:
        channels: Number of channels C of the image.
        condition: Length of the condition vector.

    References:
        Dumoulin et al., 2017, arXiv:1610.07629; Miyato and Koyama, 2018, arXiv:1802.05637.
    """

    def __init__(self, channels: int, condition: int) -> None:
        """Create the statistics, and the linear map from the condition to scale and shift."""
        super().__init__()
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.affine = nn.Linear(condition, 2 * channels, bias=False)
        nn.init.zeros_(self.affine.weight)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """Normalise `images` ``(N, C, height, width)`` and modulate them by `condition` ``(N, condition)``."""
        scale, shift = self.affine(condition)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.normalise(images), 1 + scale)


class ResidualUpBlock(nn.Module):
    """Doubles the size of an image: normalise, ReLU, upsample, convolve, normalise, ReLU, convolve; add the image.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output, and between the two convolutions.
        make_norm: Returns a normalisation for a number of channels. It is given the condition too, if there is one.

    References:
        Gulrajani et al., 2017, arXiv:1704.00028; Miyato et al., 2018, arXiv:1802.05957.
    """

    def __init__(self, channels_in: int, channels_out: int, make_norm: Callable[[int], nn.Module]) -> None:
        """Create the layers."""
        super().__init__()
        self.norm1 = make_norm(channels_in)
        self.conv1 = _conv(channels_in, channels_out, 3)
        self.norm2 = make_norm(channels_out)
        self.conv2 = _conv(channels_out, channels_out, 3)
        self.shortcut = _conv(channels_in, channels_out, 1)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return images ``(N, channels_out, 2 height, 2 width)``.

        Args:
            images: Shape ``(N, channels_in, height, width)``.
            condition: What the normalisations are given beside the images, or None.
        """
        hidden: Tensor = self.conv1(_doubled(F.relu(_normalised(self.norm1, images, condition))))
        hidden = self.conv2(F.relu(_normalised(self.norm2, hidden, condition)))
        # A 1×1 convolution and nearest-neighbour upsampling commute; this order is the cheaper one.
        return hidden + _doubled(self.shortcut(images))


class ResidualDownBlock(nn.Module):
    """Divides the size of an image: ReLU, convolve, ReLU, convolve, take the mean; add the image.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        factor: What the size is divided by: 2, or 1 to keep it.
        first: Whether the input is the image itself, which no ReLU should cut; then it has `channels_out` channels
            between the convolutions, else `channels_in`.
        make_norm: Returns a normalisation for a number of channels, to stand before each ReLU; None for none.
        wrap: What each convolution is passed through, such as torch's ``spectral_norm``; None for nothing.

    References:
        Gulrajani et al., 2017, arXiv:1704.00028; Miyato et al., 2018, arXiv:1802.05957.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        factor: int = 2,
        first: bool = False,
        make_norm: Callable[[int], nn.Module] | None = None,
        wrap: Wrap | None = None,
    ) -> None:
        """Create the layers."""
        super().__init__()
        wrap = wrap or nn.Identity()
        make_norm = make_norm or (lambda _: nn.Identity())
        between = channels_out if first else channels_in
        self.factor = factor
        self.before = nn.Identity() if first else nn.Sequential(make_norm(channels_in), nn.ReLU())
        self.conv1 = wrap(_conv(channels_in, between, 3))
        self.norm = make_norm(between)
        self.conv2 = wrap(_conv(between, channels_out, 3))
        changed = factor > 1 or channels_in != channels_out
        self.shortcut = wrap(_conv(channels_in, channels_out, 1)) if changed else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return images ``(N, channels_out, height / factor, width / factor)`` of ``(N, channels_in, ...)``."""
        hidden = self.conv2(F.relu(self.norm(self.conv1(self.before(images)))))
        # A 1×1 convolution and the mean over pixels commute; this order is the cheaper one.
        shortcut: Tensor = self.shortcut(self._smaller(images))
        return self._smaller(hidden) + shortcut

    def _smaller(self, images: Tensor) -> Tensor:
        return images if self.factor == 1 else F.avg_pool2d(images, self.factor)


class ResidualDecoder(nn.Module):
    """Turns vectors into images: a dense layer, blocks that double the size, and a last convolution with tanh.

    The dense layer makes 4 pixels along the shorter side.

    Args:
        length: Length of a vector.
        size: Height and width of the images; each 4 times a power of two.
        channels: Channels of the images.
        width: Channels after the last block, at full resolution; doubled at each halving.
        most: The limit of the channels, in times of `width`; 1 for as many everywhere.
        norm: ``batch`` normalisation as the papers have it, or ``group`` normalisation, which treats each image by
            itself, in training as in sampling, and has no statistics.
        condition: Length of the condition vector that the blocks' normalisations are given; 0 for none. The last
            normalisation is given none.

    References:
        Gulrajani et al., 2017, arXiv:1704.00028; Miyato et al., 2018, arXiv:1802.05957.
    """

    def __init__(
        self,
        length: int,
        size: tuple[int, ...],
        channels: int,
        *,
        width: int,
        most: int,
        norm: Literal["batch", "group"] = "batch",
        condition: int = 0,
    ) -> None:
        """Create the layers."""
        super().__init__()
        widths = level_widths(width, halvings(size) + 1, most=most)[::-1]
        self.base = seed_size(size)
        self.dense = nn.Linear(length, widths[0] * math.prod(self.base))
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        make_norm = partial(_norm, norm, condition)
        self.blocks = nn.ModuleList(ResidualUpBlock(i, o, make_norm) for i, o in pairwise(widths))
        self.norm = _norm(norm, 0, widths[-1])
        self.to_image = _conv(widths[-1], channels, 3, gain=1)

    def forward(self, vectors: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return images in [-1, 1].

        Args:
            vectors: Shape ``(N, length)``.
            condition: Shape ``(N, condition)``, or None for none.

        Returns:
            Shape ``(N, channels, *size)``.
        """
        hidden = self.dense(vectors).view(len(vectors), -1, *self.base)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            hidden = block(hidden, condition)
        return torch.tanh(self.to_image(F.relu(self.norm(hidden))))


def _norm(kind: Literal["batch", "group"], condition: int, channels: int) -> nn.Module:
    """Return a normalisation that scales by 1 and shifts by 0 at first, whatever the condition."""
    if kind == "batch":
        return ConditionalBatchNorm(channels, condition) if condition else nn.BatchNorm2d(channels)
    if not condition:
        return nn.GroupNorm(math.gcd(8, channels), channels)
    norm = FiLMNorm(channels, condition)
    nn.init.zeros_(norm.affine.weight)
    nn.init.zeros_(norm.affine.bias)
    return norm


def _conv(channels_in: int, channels_out: int, kernel: int, *, gain: float | None = None) -> nn.Conv2d:
    """Return a convolution that keeps the size, its weights Glorot-uniform, by √2 larger before a ReLU's half."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight, gain=(math.sqrt(2) if kernel > 1 else 1) if gain is None else gain)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _doubled(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="nearest")


def _normalised(norm: nn.Module, images: Tensor, condition: Tensor | None) -> Tensor:
    """Normalise, conditionally where there is a condition."""
    result: Tensor = norm(images) if condition is None else norm(images, condition)
    return result
