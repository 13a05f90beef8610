"""The two networks of R3GAN, each the mirror of the other: residual blocks, without normalisation.

Written from the paper's description (Huang et al., 2024, arXiv:2501.05441, sections 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator
from medgan.core.trainer import memory_format
from medgan.nn import LabelEmbedding

__all__ = ["BASE", "R3GANDiscriminator", "R3GANGenerator", "Shape"]

BASE = 4
"""Pixels a side where the generator begins and the discriminator ends."""

_SLOPE = 0.2  # of the leaky ReLU


@dataclass(frozen=True)
class Shape:
    """What both networks are built from.

    Attributes:
        width: Channels of the coarse resolutions.
        full_width_size: Largest resolution, in pixels a side, with all of these channels; beyond it they halve as the
            resolution doubles.
        blocks: Residual blocks at each resolution.
        expansion: Channels inside a block, as a multiple of those outside.
        group_size: Channels in a group of a block's 3×3 convolution; 0 for a plain one.
    """

    width: int
    full_width_size: int
    blocks: int
    expansion: int
    group_size: int

    def widths(self, data: DataSpec) -> list[int]:
        """Return the channels at each resolution, from `BASE` to the images'."""
        sizes = [BASE << level for level in range((data.size[0] // BASE).bit_length())]
        return [max(1, self.width * self.full_width_size // max(size, self.full_width_size)) for size in sizes]


class _Block(nn.Module):
    """Residual block: 1×1 to more channels, grouped 3×3 among them, 1×1 back; without normalisation.

    Initialised so that a deep stack begins as the identity (Zhang et al., 2019, arXiv:1901.09321): the last convolution
    is zero, and the m − 1 = 2 before it are scaled by L^(−1 / (2m − 2)) with L the blocks of the network.

    Args:
        channels: Channels outside.
        shape: Of the network.
        depth: L.
    """

    def __init__(self, channels: int, shape: Shape, depth: int) -> None:
        super().__init__()
        inside = channels * shape.expansion
        groups = inside // shape.group_size if shape.group_size else 1
        self.widen = nn.Conv2d(channels, inside, 1)
        self.mix = nn.Conv2d(inside, inside, 3, padding=1, groups=groups)
        self.narrow = nn.Conv2d(inside, channels, 1, bias=False)
        for conv in (self.widen, self.mix):
            nn.init.kaiming_normal_(conv.weight, _SLOPE)
            with torch.no_grad():
                conv.weight.mul_(depth**-0.25)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        inside = F.leaky_relu(self.widen(hidden), _SLOPE)
        detail: Tensor = self.narrow(F.leaky_relu(self.mix(inside), _SLOPE))
        return hidden + detail


def _linear_conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return a 1×1 convolution that keeps the size of its input: no activation follows it."""
    conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    return conv


def _changed(channels_in: int, channels_out: int) -> nn.Module:
    """Return what changes the number of channels, nothing where it stays."""
    return nn.Identity() if channels_in == channels_out else _linear_conv(channels_in, channels_out)


def _stage(channels: int, shape: Shape, depth: int) -> nn.Sequential:
    """Return the blocks of a resolution."""
    return nn.Sequential(*(_Block(channels, shape, depth) for _ in range(shape.blocks)))


class R3GANGenerator(Generator):
    """Learnt 4×4 basis, weighted by latents and label, then residual stages between bilinear doublings.

    Args:
        data: Facts of the data; square, each length 4 times a power of two.
        latent_dim: Length of a latent vector, and of a label's embedding.
        shape: Widths and depths.
    """

    mixes_classes = True

    def __init__(self, data: DataSpec, latent_dim: int, shape: Shape) -> None:
        """Create the layers."""
        super().__init__(latent_dim)
        widths = shape.widths(data)
        depth = len(widths) * shape.blocks
        self.memory_format = memory_format(data)
        self.embed = LabelEmbedding(data.num_labels, latent_dim) if data.labels else None
        self.basis = nn.Parameter(torch.randn(widths[0], BASE, BASE))
        self.weights = nn.Linear(latent_dim * (2 if data.labels else 1), widths[0], bias=False)
        nn.init.kaiming_normal_(self.weights.weight, nonlinearity="linear")
        self.stages = nn.ModuleList(_stage(width, shape, depth) for width in widths)
        self.changes = nn.ModuleList(_changed(i, o) for i, o in pairwise(widths))
        self.to_image = _linear_conv(widths[-1], data.channels)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; see `Generator.forward`."""
        condition = latents
        if self.embed is not None and labels is not None:
            condition = torch.cat([latents, self.embed(labels)], dim=1)
        hidden = self.weights(condition)[:, :, None, None] * self.basis
        hidden = self.stages[0](hidden.contiguous(memory_format=self.memory_format))
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            # Channels first: a 1×1 convolution and the interpolation commute, and there are fewer pixels by then.
            hidden = stage(F.interpolate(change(hidden), scale_factor=2, mode="bilinear"))
        return torch.tanh(self.to_image(hidden))


class R3GANDiscriminator(Discriminator):
    """Residual stages between halvings, then a depthwise 4×4 convolution to a vector and a linear layer.

    Of images with labels the realness is the product of that layer's output with an embedding of the label (projection;
    Miyato and Koyama, 2018, arXiv:1802.05637).

    Args:
        data: Facts of the data; square, each length 4 times a power of two.
        embedding: Length of a label's embedding.
        shape: Widths and depths.
    """

    def __init__(self, data: DataSpec, embedding: int, shape: Shape) -> None:
        """Create the layers."""
        super().__init__()
        widths = shape.widths(data)[::-1]
        depth = len(widths) * shape.blocks
        self.from_image = _linear_conv(data.channels, widths[0])
        self.blocks = nn.ModuleList(_stage(width, shape, depth) for width in widths)
        self.changes = nn.ModuleList(_changed(i, o) for i, o in pairwise(widths))
        self.gather = nn.Conv2d(widths[-1], widths[-1], BASE, groups=widths[-1], bias=False)
        self.realness = nn.Linear(widths[-1], embedding if data.labels else 1, bias=False)
        for layer in (self.gather, self.realness):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        self.embed = nn.Embedding(data.num_labels, embedding) if data.labels else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=embedding**-0.5)  # the product is then as large as a factor

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images as such of their labels; see `Discriminator.forward`."""
        hidden = self.blocks[0](self.from_image(images))
        for change, stage in zip(self.changes, self.blocks[1:], strict=True):
            # To half the size, bilinear interpolation is the mean of four pixels.
            hidden = stage(change(F.avg_pool2d(hidden, 2)))
        features = self.gather(hidden).flatten(1)
        said = self.realness(features)
        if self.embed is not None and labels is not None:
            said = said * self.embed(labels)
        return DiscriminatorOutput(said.sum(dim=1), None, features)

    def stages(self) -> list[nn.Module]:
        """Return the residual stages, one for each resolution."""
        return list(self.blocks)
