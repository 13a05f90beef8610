"""The networks of HA-GAN: a low-resolution whole and a high-resolution sub-volume, made from the same features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator
from medgan.nn import ChannelLayerNorm, Projection, halvings, label_vectors, level_widths, seed_size

__all__ = ["FACTOR", "HAGANDiscriminator", "HAGANEncoder", "HAGANGenerator", "Judgement", "Views", "thickness"]

FACTOR = 4
"""How many times as large a side is at high resolution as at low."""


class Views(NamedTuple):
    """What is seen of N volumes in training.

    Attributes:
        high: Sub-volumes, shape ``(N, channels, 4 × thickness, height, width)``.
        low: Whole volumes at low resolution, shape ``(N, channels, depth / 4, height / 4, width / 4)``.
        position: Where the sub-volumes begin, from 0 (the first place) to 1 (the last), shape ``(N,)``.
    """

    high: Tensor
    low: Tensor
    position: Tensor

    @classmethod
    def of(cls, images: Tensor, starts: Sequence[int], slices: int) -> Views:
        """Return the views of whole volumes.

        Args:
            images: Shape ``(N, channels, depth, height, width)``.
            starts: First slice of each sub-volume, at low resolution.
            slices: Slices of a sub-volume, at low resolution.
        """
        pairs = zip(images, starts, strict=True)
        high = torch.stack([image[:, FACTOR * start : FACTOR * (start + slices)] for image, start in pairs])
        return cls(high, F.avg_pool3d(images, FACTOR), _position(images, starts, slices))


class HAGANGenerator(Generator):
    """Makes features at a quarter of the resolution, and from them the volume, whole or in part.

    The branch of high resolution normalises each voxel by itself, over its channels, and takes one slice of features
    more on both sides than it was asked for, which is as far as its convolutions see. So a sub-volume is exactly what
    the whole volume has there. (The paper's group normalisation and margins depend on the sub-volume.)

    Args:
        data: Facts of the data; each length a power of two, at least 16.
        latent_dim: Length of a latent vector.
        width: Channels of the features; doubled at each halving, up to 8 times.
    """

    mixes_classes = True

    def __init__(self, data: DataSpec, latent_dim: int, width: int) -> None:
        """Create the layers."""
        super().__init__(latent_dim)
        self.labels = data.labels
        low = _low_size(data)
        self.base = seed_size(low)
        widths = level_widths(width, halvings(low) + 1, most=8)[::-1]
        self.project = nn.Linear(latent_dim + data.num_labels, widths[0] * math.prod(self.base))
        self.trunk = nn.Sequential(
            _block(widths[0], widths[0]),
            *(nn.Sequential(nn.Upsample(scale_factor=2), _block(i, o)) for i, o in pairwise(widths)),
        )
        half, quarter = width // 2, width // 4
        self.low = nn.Sequential(
            _block(width, half), _block(half, quarter), nn.Conv3d(quarter, data.channels, 3, padding=1), nn.Tanh()
        )
        self.high = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv3d(width, half, 3, padding=1),
            ChannelLayerNorm(half),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv3d(half, data.channels, 3, padding=1),
            nn.Tanh(),
        )
        self.encoder = HAGANEncoder(data, latent_dim, width)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make whole volumes at high resolution; the labels are appended to the latents."""
        volumes: Tensor = self.high(self.features(latents, labels))
        return volumes

    def generate(self, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        """Make whole volumes one after the other, as several at once may not fit into memory."""
        each = [None] * len(latents) if labels is None else labels.chunk(len(latents))
        single = super().generate
        pairs = zip(latents.chunk(len(latents)), each, strict=True)
        return torch.cat([single(latent, label, truncation=truncation) for latent, label in pairs])

    def features(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the features from which both resolutions are made.

        Args:
            latents: As in `forward`.
            labels: As in `forward`.

        Returns:
            Shape ``(N, channels, depth / 4, height / 4, width / 4)``.
        """
        if self.labels is not None and labels is not None:
            latents = torch.cat([latents, label_vectors(labels, len(self.labels), self.labels.kind)], dim=1)
        features: Tensor = self.trunk(self.project(latents).view(len(latents), -1, *self.base))
        return features

    def make_part(self, features: Tensor, start: int, stop: int) -> Tensor:
        """Make some slices of volumes at high resolution.

        Args:
            features: From `features`; also of a part alone, whose ends are then taken for those of the volume.
            start: First slice, at low resolution.
            stop: The one after the last.

        Returns:
            The slices ``4 * start`` to ``4 * stop`` of what `forward` makes.
        """
        # Two convolutions, before and after the second doubling, see 3 voxels far, which is less than one slice here.
        first, last = max(start - 1, 0), min(stop + 1, features.shape[2])
        some: Tensor = self.high(features[:, :, first:last])
        return some[:, :, FACTOR * (start - first) : FACTOR * (stop - first)]

    def make_views(self, latents: Tensor, labels: Tensor | None, starts: Sequence[int], slices: int) -> Views:
        """Make what is seen in training, without the whole volume at high resolution.

        Args:
            latents: As in `forward`.
            labels: As in `forward`.
            starts: First slice of each sub-volume, at low resolution.
            slices: Slices of a sub-volume, at low resolution.
        """
        features = self.features(latents, labels)
        pairs = zip(features.chunk(len(features)), starts, strict=True)
        high = torch.cat([self.make_part(each, start, start + slices) for each, start in pairs])
        return Views(high, self.low(features), _position(features, starts, slices, factor=1))


class HAGANEncoder(nn.Module):
    """Turns volumes into latents: sub-volumes into features, and the features of all into a latent vector.

    Args:
        data: Facts of the data; each length a power of two, at least 16.
        latent_dim: Length of a latent vector.
        width: Channels of the features.
    """

    def __init__(self, data: DataSpec, latent_dim: int, width: int) -> None:
        """Create the layers."""
        super().__init__()
        half = width // 2
        self.of_parts = nn.Sequential(
            _block(data.channels, half, kernel=4, stride=2), _block(half, half), _block(half, width, kernel=4, stride=2)
        )
        low = _low_size(data)
        widths = [width, *(half << level for level in range(halvings(low)))]
        self.of_features = nn.Sequential(
            *(_block(i, o, kernel=4, stride=2) for i, o in pairwise(widths)),
            nn.Flatten(),
            nn.Linear(widths[-1] * math.prod(seed_size(low)), latent_dim),
        )

    def encode_part(self, high: Tensor) -> Tensor:
        """Return the features ``(N, channels, depth / 4, height / 4, width / 4)`` of sub-volumes."""
        features: Tensor = self.of_parts(high)
        return features

    def forward(self, images: Tensor, slices: int) -> Tensor:
        """Return latents of whole volumes; gradients reach what encodes features, and not what encodes sub-volumes.

        Args:
            images: Shape ``(N, channels, depth, height, width)``.
            slices: Slices of a sub-volume, at low resolution; one sub-volume is encoded after the other.

        Returns:
            Shape ``(N, latent_dim)``.
        """
        parts = images.shape[2] // (FACTOR * slices)
        with torch.no_grad():
            features = torch.cat([self.of_parts(part) for part in images.chunk(parts, dim=2)], dim=2)
        latents: Tensor = self.of_features(features)
        return latents


class Judgement(NamedTuple):
    """What the two halves of the discriminator say of N volumes.

    Attributes:
        high: Realness of the sub-volumes, shape ``(N,)``.
        low: Realness of the whole volumes at low resolution, shape ``(N,)``.
        features: Of both, shape ``(N, F)``.
    """

    high: Tensor
    low: Tensor
    features: Tensor


class HAGANDiscriminator(Discriminator):
    """Judges sub-volumes, knowing where they lie, and whole volumes at low resolution; spectrally normalised.

    Args:
        data: Facts of the data; each length a power of two, at least 16.
        width: Scale of the numbers of channels.
        parts: Sub-volumes in a volume, along its depth.
    """

    def __init__(self, data: DataSpec, width: int, parts: int) -> None:
        """Create the layers."""
        super().__init__()
        self.slices = thickness(data, parts)
        self.high_blocks, features = _downwards(data.channels, (FACTOR * self.slices, *data.size[1:]), width // 4)
        self.high_dense = spectral_norm(nn.Linear(features, 2 * width))
        self.high_placed = spectral_norm(nn.Linear(2 * width + 1, width))
        self.high_realness = spectral_norm(nn.Linear(width, 1))
        self.low_blocks, features = _downwards(data.channels, _low_size(data), width // 2)
        self.low_realness = spectral_norm(nn.Linear(features, 1))
        self.high_embed = self.low_embed = None
        if data.labels:
            kind = data.labels.kind
            self.high_embed = spectral_norm(Projection(data.num_labels, width, kind))
            self.low_embed = spectral_norm(Projection(data.num_labels, features, kind))

    def judge(self, views: Views, labels: Tensor | None = None) -> Judgement:
        """Judge what is seen in training.

        Args:
            views: Sub-volumes and whole volumes at low resolution.
            labels: As in `forward`; projected on the features of both halves.
        """
        high = F.leaky_relu(self.high_dense(self.high_blocks(views.high)), 0.2)
        placed = torch.cat([high, views.position[:, None].to(high.dtype)], dim=1)
        high = F.leaky_relu(self.high_placed(placed), 0.2)
        low = self.low_blocks(views.low)
        on_high, on_low = self.high_realness(high).squeeze(1), self.low_realness(low).squeeze(1)
        if self.high_embed is not None and self.low_embed is not None and labels is not None:
            on_high, on_low = on_high + self.high_embed(high, labels), on_low + self.low_embed(low, labels)
        return Judgement(on_high, on_low, torch.cat([high, low], dim=1))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge whole volumes: the mean of both halves' realness, and over all sub-volumes."""
        said = [
            self.judge(Views.of(images, [start] * len(images), self.slices), labels)
            for start in range(0, images.shape[2] // FACTOR, self.slices)
        ]
        realness = torch.stack([(each.high + each.low) / 2 for each in said]).mean(dim=0)
        return DiscriminatorOutput(realness, None, torch.stack([each.features for each in said]).mean(dim=0))


def thickness(data: DataSpec, parts: int) -> int:
    """Return the slices of a sub-volume at low resolution, at least 1.

    Args:
        data: Facts of the data.
        parts: Sub-volumes that a volume is to be cut into, a power of two.
    """
    return max(1, data.size[0] // FACTOR // parts)


def _low_size(data: DataSpec) -> tuple[int, ...]:
    """Size of volumes at low resolution."""
    return tuple(length // FACTOR for length in data.size)


def _position(volumes: Tensor, starts: Sequence[int], slices: int, *, factor: int = FACTOR) -> Tensor:
    """Return where sub-volumes begin, from 0 to 1."""
    last = max(1, volumes.shape[2] // factor - slices)
    return torch.tensor([start / last for start in starts], device=volumes.device)


def _block(channels_in: int, channels_out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution, group normalisation and ReLU."""
    conv = nn.Conv3d(channels_in, channels_out, kernel, stride, padding=1)
    return nn.Sequential(conv, nn.GroupNorm(math.gcd(8, channels_out), channels_out), nn.ReLU())


def _downwards(channels: int, size: tuple[int, ...], width: int) -> tuple[nn.Sequential, int]:
    """Return convolutions that halve volumes to at most 4 voxels a side, flattened, and how many numbers are left."""
    blocks: list[nn.Module] = []
    lengths = list(size)
    while max(lengths) > 4 or not blocks:
        kernel, stride, padding = (_per_side(lengths, *pair) for pair in ((4, 1), (2, 1), (1, 0)))
        conv = nn.Conv3d(channels, width << len(blocks), kernel, stride, padding)
        channels = conv.out_channels
        blocks.append(nn.Sequential(spectral_norm(conv), nn.LeakyReLU(0.2)))
        lengths = [max(1, length // 2) for length in lengths]
    return nn.Sequential(*blocks, nn.Flatten()), channels * math.prod(lengths)


def _per_side(lengths: Sequence[int], halved: int, whole: int) -> tuple[int, int, int]:
    """Return a number for each side: one that can be halved, or one of a single voxel."""
    depth, height, width = (halved if length > 1 else whole for length in lengths)
    return depth, height, width
