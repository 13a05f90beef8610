"""The two networks of a DCGAN: strided convolutions and batch normalisation, nothing else."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator
from medgan.nn import halvings, initialise_normal, label_planes, label_vectors, level_widths, seed_size

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]

_MOST = 8  # channels, in times of the width


class DCGANGenerator(Generator):
    """Projects latents to a seed, 4 pixels on its shorter side, and doubles it with transposed convolutions.

    Args:
        data: Facts of the data; each length a power of two, at least 8.
        latent_dim: Length of a latent vector.
        width: Channels at half the resolution of the image; doubled at each halving, up to 8 times.
    """

    mixes_classes = True

    def __init__(self, data: DataSpec, latent_dim: int, width: int) -> None:
        """Create the layers."""
        super().__init__(latent_dim)
        self.labels = data.labels
        widths = level_widths(width, halvings(data.size), most=_MOST)[::-1]
        self.base = seed_size(data.size)
        self.project = nn.Linear(latent_dim + data.num_labels, widths[0] * math.prod(self.base), bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(i, o, 5, stride=2, padding=2, output_padding=1, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                )
                for i, o in pairwise(widths)
            )
        )
        self.to_image = nn.ConvTranspose2d(widths[-1], data.channels, 5, stride=2, padding=2, output_padding=1)
        self.apply(initialise_normal)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; the labels are appended to the latents."""
        if self.labels is not None and labels is not None:
            latents = torch.cat([latents, label_vectors(labels, len(self.labels), self.labels.kind)], dim=1)
        seed = self.project(latents).view(len(latents), -1, *self.base)
        return torch.tanh(self.to_image(self.blocks(F.relu(self.norm(seed)))))

    def make_latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw latents from U(−1, 1); see `Generator.make_latents`."""
        return torch.rand(n, self.latent_dim, generator=rng, device=self._device(rng)) * 2 - 1


class DCGANDiscriminator(Discriminator):
    """Halves an image with strided convolutions, then weighs what is left.

    Args:
        data: Facts of the data; each length a power of two, at least 8.
        width: Channels after the first layer; doubled at each halving, up to 8 times.
    """

    def __init__(self, data: DataSpec, width: int) -> None:
        """Create the layers."""
        super().__init__()
        self.labels = data.labels
        widths = level_widths(width, halvings(data.size), most=_MOST)
        first = nn.Sequential(nn.Conv2d(data.channels + data.num_labels, width, 5, stride=2, padding=2), _leaky())
        self.blocks = nn.Sequential(
            first,
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, 5, stride=2, padding=2, bias=False),
                    nn.BatchNorm2d(o),
                    _leaky(),
                )
                for i, o in pairwise(widths)
            ),
        )
        pixels = math.prod(seed_size(data.size))
        self.realness = nn.Linear(widths[-1] * pixels, 1)
        self.apply(initialise_normal)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images; the labels are appended to their channels, one constant plane each."""
        if self.labels is not None:
            planes = label_planes(labels, len(self.labels), self.labels.kind, like=images)
            images = torch.cat([images, planes], dim=1)
        features = self.blocks(images).flatten(1)
        return DiscriminatorOutput(self.realness(features).squeeze(1), None, features)

    def stages(self) -> list[nn.Module]:
        """Return the blocks, one for each halving."""
        return list(self.blocks)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)
