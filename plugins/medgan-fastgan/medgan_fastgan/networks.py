"""The networks of FastGAN: generator with skip-layer excitation, discriminator with decoders.

Written from the paper's description (Liu et al., 2021, arXiv:2101.04775, section 3).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator
from medgan.core.trainer import memory_format
from medgan.nn import LabelEmbedding, MinibatchStdDev

__all__ = ["FastGANDiscriminator", "FastGANGenerator", "Judgement", "SkipLayerExcitation", "quarter"]

_MULTIPLES = {4: 16.0, 8: 8.0, 16: 4.0, 32: 2.0, 64: 2.0, 128: 1.0, 256: 0.5}  # of the width, at each resolution
_LEAP = 16  # from the map that excites to the one that is excited, as a ratio of their sizes
_MIDDLE, _LAST = 16, 8  # pixels a side of the discriminator's maps that are decoded
_DECODED = 128  # largest size of a reconstruction


def _channels(width: float, size: int) -> int:
    """Return the channels at a resolution."""
    return max(1, int(width * _MULTIPLES[size]))


def _sizes(smallest: int, largest: int) -> list[int]:
    """Return the resolutions from one to another, each twice the one before."""
    return [smallest << level for level in range((largest // smallest).bit_length())]


def _up(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a block that doubles the size: a single convolution, batch normalisation, gated linear unit."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(channels_in, 2 * channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * channels_out),
        nn.GLU(dim=1),
    )


class SkipLayerExcitation(nn.Module):
    """Weights the channels of a fine map by what a coarse one holds, ``y = F(coarse) · fine``.

    F pools to 4×4, reads that with a 4×4 convolution, and ends in a sigmoid. Unlike a sum it joins maps of any two
    sizes, and costs next to nothing.

    Args:
        coarse: Channels of the coarse map.
        fine: Channels of the fine one.
    """

    def __init__(self, coarse: int, fine: int) -> None:
        """Create the layers."""
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(coarse, fine, 4),
            nn.LeakyReLU(0.1),
            nn.Conv2d(fine, fine, 1),
            nn.Sigmoid(),
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return the fine map ``(N, fine, *)``, each channel times a number in (0, 1)."""
        excited: Tensor = self.weigh(coarse) * fine
        return excited


class FastGANGenerator(Generator):
    """One convolution at each resolution, and skip-layer excitation over a factor of 16 in size.

    Args:
        data: Facts of the data; square, of 64, 128 or 256 pixels a side.
        latent_dim: Length of a latent vector, and of a label's embedding, which is joined to it.
        width: Channels at 128×128; 16 times as many at 4×4.
    """

    mixes_classes = True

    def __init__(self, data: DataSpec, latent_dim: int, width: int) -> None:
        """Create the layers."""
        super().__init__(latent_dim)
        sizes = _sizes(4, data.size[0])
        widths = [_channels(width, size) for size in sizes]
        self.memory_format = memory_format(data)
        self.embed = LabelEmbedding(data.num_labels, latent_dim) if data.labels else None
        self.seed = nn.Linear(latent_dim * (2 if data.labels else 1), 2 * widths[0] * 16, bias=False)
        self.seed_norm = nn.BatchNorm2d(2 * widths[0])
        self.blocks = nn.ModuleList(_up(i, o) for i, o in pairwise(widths))
        # The key is the index of the coarse map, the size of 4 << index.
        self.excitations = nn.ModuleList(
            SkipLayerExcitation(_channels(width, size), _channels(width, size * _LEAP))
            for size in sizes
            if size * _LEAP in sizes
        )
        self.to_image = nn.Conv2d(widths[-1], data.channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; see `Generator.forward`."""
        condition = latents
        if self.embed is not None and labels is not None:
            condition = torch.cat([latents, self.embed(labels)], dim=1)
        hidden = self.seed(condition).view(len(latents), -1, 4, 4).contiguous(memory_format=self.memory_format)
        hidden = F.glu(self.seed_norm(hidden), dim=1)
        maps = [hidden]
        leap = _LEAP.bit_length() - 1  # levels
        for block in self.blocks:
            hidden = block(hidden)
            if len(maps) >= leap:
                level = len(maps) - leap
                hidden = self.excitations[level](maps[level], hidden)
            maps.append(hidden)
        return torch.tanh(self.to_image(hidden))


class Judgement(DiscriminatorOutput):
    """What `FastGANDiscriminator` says of N images: `realness` is the mean of the patches.

    Attributes:
        patches: Realness of overlapping parts of each image, shape ``(N, 5, 5)``.
        middle: Feature map of 16×16, shape ``(N, C, 16, 16)``.
        last: Feature map of 8×8, shape ``(N, C, 8, 8)``.
    """

    patches: Tensor
    middle: Tensor
    last: Tensor


class FastGANDiscriminator(Discriminator):
    """Residual halvings to 8×8, realness in 5×5 patches, and two decoders that see its features.

    Of images with labels, the inner product of the mean features and an embedding of the label is added to each patch's
    realness (projection; Miyato and Koyama, 2018, arXiv:1802.05637).

    Args:
        data: Facts of the data; square, of 64, 128 or 256 pixels a side.
        width: Channels at 128×128; 8 times as many at 8×8.
        minibatch_std: Images in a group of `MinibatchStdDev`; 0 for none.
    """

    def __init__(self, data: DataSpec, width: int, minibatch_std: int = 0) -> None:
        """Create the layers."""
        super().__init__()
        sizes = _sizes(_LAST, data.size[0])[::-1]
        widths = [_channels(width, size) for size in sizes]
        self.from_image = nn.Sequential(nn.Conv2d(data.channels, widths[0], 3, padding=1), nn.LeakyReLU(0.2))
        self.blocks = nn.ModuleList(_DownBlock(i, o) for i, o in pairwise(widths))
        self.see = nn.Sequential(*_seen(nn.Conv2d(widths[-1], widths[-1], 1, bias=False)))
        # After the last normalisation, which would hide from a batch of images all alike that their spread is small.
        self.minibatch_std = MinibatchStdDev(minibatch_std, gain=4) if minibatch_std else None
        self.realness = nn.Conv2d(widths[-1] + (minibatch_std > 0), 1, 4)
        self.embed = nn.Embedding(data.num_labels, widths[-1]) if data.labels else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=widths[-1] ** -0.5)
        self.whole = _decoder(width, _LAST, min(data.size[0], _DECODED), data.channels)
        self.part = _decoder(width, _MIDDLE, min(data.size[0] // 2, _DECODED), data.channels)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Judgement:
        """Judge images as such of their labels; see `Discriminator.forward`."""
        hidden = self.from_image(images)
        middle = hidden
        for block in self.blocks:
            middle, hidden = hidden, block(hidden)
        seen = self.see(hidden)
        features = seen.mean(dim=(2, 3))
        judged = seen if self.minibatch_std is None else self.minibatch_std(seen, labels)
        patches = self.realness(judged).squeeze(1)
        if self.embed is not None and labels is not None:
            patches = patches + (self.embed(labels) * features).sum(dim=1).view(-1, 1, 1)
        judgement = Judgement(patches.mean(dim=(1, 2)), None, features)
        judgement.patches, judgement.middle, judgement.last = patches, middle, hidden
        return judgement

    def reconstruct(self, judgement: Judgement, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Decode images from what was seen of them.

        Args:
            judgement: What `forward` returned.
            numbers: Which `quarter` of each image to decode besides, shape ``(N,)``.

        Returns:
            The whole images, at most 128 pixels a side, and the quarters, at full resolution; in [-1, 1].
        """
        return self.whole(judgement.last), self.part(quarter(judgement.middle, numbers))

    def stages(self) -> list[nn.Module]:
        """Return the first convolution and the halvings."""
        return [self.from_image, *self.blocks]


def quarter(images: Tensor, numbers: Tensor) -> Tensor:
    """Cut one of four quarters out of each image.

    Args:
        images: Shape ``(N, C, H, W)``, of even height and width.
        numbers: Which one, shape ``(N,)``, int64: upper left 0, upper right 1, lower left 2, lower right 3.

    Returns:
        Shape ``(N, C, H / 2, W / 2)``.
    """
    n, channels, height, width = images.shape
    halves = images.reshape(n, channels, 2, height // 2, 2, width // 2)
    quarters = halves.permute(0, 2, 4, 1, 3, 5).reshape(n, 4, channels, height // 2, width // 2)
    return quarters[torch.arange(n, device=images.device), numbers]


def _seen(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
    """Return a convolution with what follows it in the discriminator."""
    return conv, nn.BatchNorm2d(conv.out_channels), nn.LeakyReLU(0.2)


class _DownBlock(nn.Module):
    """Halves the size: mean of a path of two convolutions and of one that pools."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_seen(nn.Conv2d(channels_in, channels_out, 4, 2, padding=1, bias=False)),
            *_seen(nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)),
        )
        self.direct = nn.Sequential(nn.AvgPool2d(2), *_seen(nn.Conv2d(channels_in, channels_out, 1, bias=False)))

    def forward(self, hidden: Tensor) -> Tensor:
        joined: Tensor = (self.main(hidden) + self.direct(hidden)) / 2
        return joined


def _decoder(width: int, source: int, size: int, channels: int) -> nn.Sequential:
    """Return a decoder from 8×8 features to images; half as wide as the generator.

    Args:
        width: That of the networks.
        source: Resolution whose features it sees, which gives their number.
        size: Pixels a side of the images.
        channels: Channels of the images.
    """
    widths = [_channels(width, source), *(_channels(width / 2, step) for step in _sizes(2 * _LAST, size))]
    blocks = [_up(i, o) for i, o in pairwise(widths)]
    return nn.Sequential(*blocks, nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())
