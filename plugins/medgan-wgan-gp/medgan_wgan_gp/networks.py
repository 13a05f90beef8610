"""The generator and the critic of WGAN-GP, both residual."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator
from medgan.nn import ResidualDecoder, ResidualDownBlock, halvings, label_vectors, level_widths, seed_size

__all__ = ["Growth", "WGANGPCritic", "WGANGPGenerator"]

Growth = Literal["doubling", "constant"]

_MOST: dict[Growth, int] = {"doubling": 8, "constant": 1}  # channels, in times of the width


class WGANGPGenerator(Generator):
    """Residual generator, whose normalisations are conditioned on the labels.

    Args:
        data: Facts of the data; each length 4 times a power of two.
        latent_dim: Length of a latent vector.
        width: Channels at full resolution.
        growth: ``doubling``: twice as many channels at each halving of the resolution, up to 8 times `width`, as the
            authors have it for 64 pixels; ``constant``: as many everywhere, as for 32.
        norm: Normalisation; see `ResidualDecoder`.
    """

    mixes_classes = True

    def __init__(
        self, data: DataSpec, latent_dim: int, width: int, growth: Growth, norm: Literal["batch", "group"]
    ) -> None:
        """Create the layers."""
        super().__init__(latent_dim)
        self.labels = data.labels
        self.decoder = ResidualDecoder(
            latent_dim, data.size, data.channels, width=width, most=_MOST[growth], norm=norm, condition=data.num_labels
        )

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; see `Generator.forward`."""
        condition = None
        if self.labels is not None and labels is not None:
            condition = label_vectors(labels, len(self.labels), self.labels.kind)
        images: Tensor = self.decoder(latents, condition)
        return images


class WGANGPCritic(Discriminator):
    """Residual critic without batch normalisation: the penalty is on the slope at each image by itself.

    Where there are labels, a linear head has to say them, as in the authors' conditional network for CIFAR-10; the
    realness does not depend on them.

    Args:
        data: Facts of the data; each length 4 times a power of two.
        width: Channels at full resolution.
        growth: ``doubling``: a convolution and blocks that halve the resolution down to 4 pixels, each with twice as
            many channels as the one before it, up to 8 times `width`, whose output is taken as it is; ``constant``:
            blocks down to 8 pixels and two more, `width` channels in all, and the mean over all positions.
        norm: ``layer`` normalisation over channels and positions of an image, with a scale and a shift of each channel;
            or ``none``.
    """

    def __init__(self, data: DataSpec, width: int, growth: Growth, norm: Literal["layer", "none"]) -> None:
        """Create the layers."""
        super().__init__()
        # One group of all channels: layer normalisation of the whole image.
        make_norm = partial(nn.GroupNorm, 1) if norm == "layer" else None
        levels = halvings(data.size)
        self.pooled = growth == "constant"
        if growth == "constant":
            self.stem: nn.Module = nn.Identity()
            factors = [2] * (levels - 1) + [1, 1]
            widths = [data.channels, *[width] * len(factors)]
        else:
            self.stem = nn.Conv2d(data.channels, width, 3, padding=1)
            factors = [2] * levels
            widths = level_widths(width, levels + 1, most=_MOST[growth])
        self.blocks = nn.ModuleList(
            ResidualDownBlock(
                widths[level],
                widths[level + 1],
                factor=factor,
                first=growth == "constant" and level == 0,
                make_norm=make_norm,
            )
            for level, factor in enumerate(factors)
        )
        features = widths[-1] if self.pooled else widths[-1] * math.prod(seed_size(data.size))
        self.realness = nn.Linear(features, 1)
        self.label = nn.Linear(features, data.num_labels) if data.labels else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images; the labels are not looked at."""
        hidden = self.stem(images)
        for block in self.blocks:
            hidden = block(hidden)
        features = F.relu(hidden).mean(dim=(2, 3)) if self.pooled else hidden.flatten(1)
        logits = None if self.label is None else self.label(features)
        return DiscriminatorOutput(self.realness(features).squeeze(1), logits, features)

    def stages(self) -> list[nn.Module]:
        """Return the residual blocks."""
        return list(self.blocks)
