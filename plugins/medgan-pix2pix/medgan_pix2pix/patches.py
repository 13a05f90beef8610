"""What both architectures share: the PatchGAN discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput
from medgan.nn import initialise_normal, label_planes, level_widths

__all__ = ["PatchDiscriminator", "PatchNetwork"]


class PatchNetwork(nn.Module):
    """Judges overlapping patches of an image: convolutions of 4×4, of which the last has one channel.

    Of three strided layers each patch is 70 pixels wide, of two 34 and of one 16. All but the first and the last have
    instance normalisation, so that an image's judgement does not depend on its batch.

    Args:
        channels: Channels of what is judged.
        width: Channels after the first layer; doubled at each layer, up to 8 times.
        layers: Number of layers of stride 2.

    References:
        Isola et al., 2017, arXiv:1611.07004, section 6.1.2.
    """

    def __init__(self, channels: int, width: int, layers: int) -> None:
        """Create the layers."""
        super().__init__()
        widths = [channels, *level_widths(width, layers + 1, most=8)]
        strides = [2] * layers + [1]
        self.blocks = nn.Sequential()
        for level, stride in enumerate(strides):
            inside, outside = widths[level], widths[level + 1]
            plain = level == 0
            parts: list[nn.Module] = [nn.Conv2d(inside, outside, 4, stride, 1, bias=plain)]
            parts += [] if plain else [nn.InstanceNorm2d(outside, affine=True)]
            self.blocks.append(nn.Sequential(*parts, nn.LeakyReLU(0.2)))
        self.realness = nn.Conv2d(widths[-1], 1, 4, 1, 1)
        self.apply(initialise_normal)

    def forward(self, images: Tensor) -> Tensor:
        """Judge each patch.

        Args:
            images: Shape ``(N, channels, height, width)``.

        Returns:
            The realness of each patch, ``(N, patches)``.
        """
        judged: Tensor = self.realness(self.blocks(images))
        return judged.flatten(1)


class PatchDiscriminator(Discriminator):
    """The discriminator of pix2pix: judges patches of source and image as channels of one image.

    The realness of an image is the mean of that of its patches; those are its ``features``. Labels come in as planes.

    Args:
        data: Facts of the data.
        width: As in `PatchNetwork`.
        layers: As in `PatchNetwork`.
    """

    def __init__(self, data: DataSpec, width: int, layers: int) -> None:
        """Create the layers."""
        super().__init__()
        self.labels = data.labels
        self.network = PatchNetwork(data.source_channels + data.channels + data.num_labels, width, layers)

    def forward(
        self, images: Tensor, labels: Tensor | None = None, sources: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Judge images as translations of their sources."""
        assert sources is not None
        judged = [sources, images]
        if self.labels is not None:
            judged.append(label_planes(labels, len(self.labels), self.labels.kind, like=images))
        patches = self.network(torch.cat(judged, dim=1))
        return DiscriminatorOutput(patches.mean(dim=1), None, patches)

    def stages(self) -> list[nn.Module]:
        """Return the blocks, one a layer; the last convolution comes after them."""
        return list(self.network.blocks)
