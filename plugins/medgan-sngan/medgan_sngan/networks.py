"""The two residual networks of SNGAN."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator
from medgan.nn import Projection, ResidualDecoder, ResidualDownBlock, halvings, label_vectors, level_widths

__all__ = ["Growth", "SNGANDiscriminator", "SNGANGenerator"]

Growth = Literal["doubling", "constant"]

_MOST: dict[Growth, int] = {"doubling": 16, "constant": 1}  # channels, in times of the width


class SNGANGenerator(Generator):
    """Residual generator, whose normalisations are conditioned on the labels.

    Args:
        data: Facts of the data; each length 4 times a power of two.
        latent_dim: Length of a latent vector.
        width: Channels at full resolution.
        growth: ``doubling``: twice as many channels at each halving of the resolution, up to 16 times `width`, as the
            paper has it for 48 and 128 pixels; ``constant``: as many everywhere, as for 32.
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


class SNGANDiscriminator(Discriminator):
    """Residual projection discriminator, each layer divided by its spectral norm.

    Realness is ``ψ(φ(x)) + y·V φ(x)``: φ the features, summed over all positions, ψ linear, y the label's vector.

    Args:
        data: Facts of the data; each length 4 times a power of two.
        width: Channels after the first block.
        growth: ``doubling``: blocks that halve the resolution down to 4 pixels, each but the first with twice as many
            channels as the one before it, and one block more, up to 16 times `width`; ``constant``: down to 8 pixels,
            and two blocks more, `width` channels in all.
    """

    def __init__(self, data: DataSpec, width: int, growth: Growth) -> None:
        """Create the layers."""
        super().__init__()
        keeping = 1 if growth == "doubling" else 2
        factors = [2] * (halvings(data.size) - keeping + 1) + [1] * keeping
        widths = [data.channels, *level_widths(width, len(factors), most=_MOST[growth])]
        self.blocks = nn.ModuleList(
            ResidualDownBlock(widths[level], widths[level + 1], factor=factor, first=level == 0, wrap=spectral_norm)
            for level, factor in enumerate(factors)
        )
        self.realness = spectral_norm(_initialised(nn.Linear(widths[-1], 1)))
        self.embed = None
        if data.labels:
            self.embed = spectral_norm(_initialised(Projection(data.num_labels, widths[-1], data.labels.kind)))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images, as of their labels where there are some."""
        hidden = images
        for block in self.blocks:
            hidden = block(hidden)
        features = F.relu(hidden).sum(dim=(2, 3))
        realness = self.realness(features).squeeze(1)
        if self.embed is not None and labels is not None:
            realness = realness + self.embed(features, labels)
        return DiscriminatorOutput(realness, None, features)

    def stages(self) -> list[nn.Module]:
        """Return the residual blocks."""
        return list(self.blocks)


def _initialised(layer: nn.Linear) -> nn.Linear:
    """Return the dense layer, its weights Glorot-uniform and its biases 0."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
