"""The generator of pix2pix: a U-Net whose dropout is its noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core import DataSpec, Translator
from medgan.nn import initialise_normal, label_planes, level_widths

__all__ = ["UNet", "depth_of"]

_DEEPEST = 8  # halvings
_NOISY = 3  # decoder layers with dropout


class UNet(Translator):
    """Halves a source down to a few pixels and doubles it again, with a skip from each resolution to the same one.

    Its noise is the dropout of the first three layers of the decoder, as in the paper. The latents *are* what
    dropout multiplies activations by: 0 with the chance `dropout`, else ``1 / (1 - dropout)``, one number for each
    activation. So a seed makes the same translation always, and sampling keeps its noise, as in the paper. Truncation
    draws them to their mean, 1, where there is no dropout: the typical translation.

    Instance normalisation takes the place of batch normalisation, which is the same for the batches of one that the
    paper samples with. The innermost layer has none: there is a single pixel.

    Args:
        data: Facts of the data; both sides multiples of 16.
        width: Channels after the first halving; doubled at each one, up to 8 times.
        dropout: Chance of an activation to be dropped; 0 for a translation without noise.

    References:
        Isola et al., 2017, arXiv:1611.07004, section 6.1.1.
    """

    def __init__(self, data: DataSpec, width: int, dropout: float) -> None:
        """Create the layers."""
        depth = depth_of(data.size)
        widths = level_widths(width, depth, most=8)
        # Layer k of the decoder makes the resolution at which layer depth - 1 - k of the encoder starts.
        noisy = range(min(_NOISY, depth - 1)) if dropout else range(0)
        shapes = {
            level: (widths[depth - 2 - level], *(length >> (depth - 1 - level) for length in data.size))
            for level in noisy
        }
        super().__init__(sum(math.prod(shape) for shape in shapes.values()))
        self.labels = data.labels
        self.dropout = dropout
        self.shapes = shapes
        inside = [data.source_channels + data.num_labels, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(i, o, 4, 2, 1, bias=level in (0, depth - 1)),
                *([] if level in (0, depth - 1) else [nn.InstanceNorm2d(o, affine=True)]),
            )
            for level, (i, o) in enumerate(zip(inside, widths, strict=True))
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(
                    widths[level + 1] * (1 if level == depth - 2 else 2), widths[level], 4, 2, 1, bias=False
                ),
                nn.InstanceNorm2d(widths[level], affine=True),
            )
            for level in reversed(range(depth - 1))
        )
        self.to_image = nn.ConvTranspose2d(2 * widths[0], data.channels, 4, 2, 1)
        self.apply(initialise_normal)

    def make_latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw what dropout multiplies by: 0, or ``1 / (1 - dropout)``; see `Generator.make_latents`."""
        kept = torch.rand(n, self.latent_dim, generator=rng, device=self._device(rng)) >= self.dropout
        return kept / (1 - self.dropout)

    def truncate(self, latents: Tensor, truncation: float) -> Tensor:
        """Draw latents towards their mean, 1: less and less is dropped."""
        return 1 + truncation * (latents - 1)

    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        """Translate sources; the labels come in as planes beside them."""
        assert sources is not None
        hidden = sources
        if self.labels is not None:
            planes = label_planes(labels, len(self.labels), self.labels.kind, like=sources)
            hidden = torch.cat([sources, planes], dim=1)
        skips: list[Tensor] = []
        for layer in self.down:
            hidden = layer(F.leaky_relu(hidden, 0.2) if skips else hidden)
            skips.append(hidden)
        skips.pop()
        start = 0
        for level, layer in enumerate(self.up):
            hidden = layer(F.relu(hidden))
            if level in self.shapes:
                stop = start + math.prod(self.shapes[level])
                hidden = hidden * latents[:, start:stop].view(-1, *self.shapes[level]).to(hidden.dtype)
                start = stop
            hidden = torch.cat([hidden, skips.pop()], dim=1)
        return torch.tanh(self.to_image(F.relu(hidden)).float())


def depth_of(size: tuple[int, ...]) -> int:
    """Return how often both sides can be halved, at most 8 times.

    Args:
        size: Height and width.
    """
    common = math.gcd(*size)
    return min(_DEEPEST, (common & -common).bit_length() - 1)
