"""The networks of StyleGAN2: mapping, synthesis and the residual discriminator."""

from __future__ import annotations

import math
import zlib
from itertools import pairwise

import torch
from torch import Tensor, nn

from medgan.core import DataSpec, Discriminator, DiscriminatorOutput, Generator, LabelSpec
from medgan.nn import MinibatchStdDev, label_vectors
from medgan_stylegan2.layers import EqualConv, EqualLinear, ModulatedConv, Resample, activate, pixel_norm

__all__ = ["MappingNetwork", "StyleDiscriminator", "StyleGenerator", "SynthesisNetwork", "channels"]

_MAPPING_RATE = 0.01  # factor of the learning rate in mapping networks
_MEAN_OF = 1024  # styles whose mean samples are truncated to


def channels(side: int, base: int, limit: int) -> int:
    """Return the number of feature maps of a level.

    Args:
        side: Length of its images in pixels.
        base: Feature maps times side, where the limit is not reached.
        limit: Largest number of feature maps.
    """
    return max(1, min(base // side, limit))


class MappingNetwork(nn.Module):
    """Fully connected layers that turn latents and labels into styles.

    Latents and the labels' embedding are normalised, each by itself, and put side by side.

    Args:
        latent_dim: Length of a latent vector; 0 for none, where styles are of labels alone.
        style_dim: Length of a style vector, of the embedding, and of the layers between them.
        layers: Number of layers.
        labels: What the labels mean; None without labels.

    References:
        Karras et al., 2019, arXiv:1812.04948; Karras et al., 2020, arXiv:2006.06676 (labels).
    """

    def __init__(self, latent_dim: int, style_dim: int, layers: int, labels: LabelSpec | None) -> None:
        """Draw the weights."""
        super().__init__()
        self.labels = labels
        self.embed = None if labels is None else EqualLinear(len(labels), style_dim)
        inputs = latent_dim + (0 if labels is None else style_dim)
        widths = [inputs, *[style_dim] * layers]
        self.layers = nn.ModuleList(EqualLinear(i, o, rate=_MAPPING_RATE) for i, o in pairwise(widths))

    def forward(self, latents: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Return styles.

        Args:
            latents: Shape ``(N, latent_dim)``, or None if there are none.
            labels: As in `medgan.core.Batch`, or None without labels. A finding that is not known (NaN) counts as half
                present.

        Returns:
            Shape ``(N, style_dim)``.
        """
        parts = [] if latents is None else [pixel_norm(latents)]
        if self.labels is not None and self.embed is not None and labels is not None:
            vectors = label_vectors(labels, len(self.labels), self.labels.kind)
            parts.append(pixel_norm(self.embed(vectors.to(self.embed.weight.dtype))))
        styles = torch.cat(parts, dim=1)
        for layer in self.layers:
            styles = activate(layer(styles))
        return styles


class SynthesisNetwork(nn.Module):
    """Modulated convolutions from a learnt constant to an image, with noise after each, and an image from each level.

    The images of all levels are added up, each doubled to the size of the next (output skips).

    Args:
        data: Facts of the data; square images, the side a power of two of at least 8.
        style_dim: Length of a style vector.
        channel_base: Feature maps times side, see `channels`.
        channel_limit: Largest number of feature maps.

    Attributes:
        num_styles: Number of layers that take a style: one of 4 pixels, two of each further level, and the last image.
        noise_sides: Length in pixels of the noise of each convolution.

    References:
        Karras et al., 2020, arXiv:1912.04958.
    """

    def __init__(self, data: DataSpec, style_dim: int, channel_base: int, channel_limit: int) -> None:
        """Draw the weights."""
        super().__init__()
        sides = [2**power for power in range(2, int(math.log2(data.size[0])) + 1)]
        widths = [channels(side, channel_base, channel_limit) for side in sides]
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        convolutions = [_NoisyConv(widths[0], widths[0], style_dim)]
        for narrow, wide in pairwise(widths):
            convolutions += [_NoisyConv(narrow, wide, style_dim, up=True), _NoisyConv(wide, wide, style_dim)]
        self.convolutions = nn.ModuleList(convolutions)
        self.to_image = nn.ModuleList(_ToImage(width, data.channels, style_dim) for width in widths)
        self.enlarge = Resample(gain=4.0, up=True)
        self.num_styles = 2 * len(sides)
        self.noise_sides = [sides[0], *(side for side in sides[1:] for _ in range(2))]

    def forward(self, styles: Tensor, noise: Tensor) -> Tensor:
        """Make images.

        Args:
            styles: Shape ``(N, num_styles, style_dim)``. The image of a level takes the style of the convolution after
                it.
            noise: Standard normal, shape ``(N, sum of the squares of noise_sides)``.

        Returns:
            Images ``(N, channels, *size)``, unbounded.
        """
        parts = torch.split(noise, [side**2 for side in self.noise_sides], dim=1)
        maps = [part.view(-1, 1, side, side) for part, side in zip(parts, self.noise_sides, strict=True)]
        hidden = self.constant.expand(len(styles), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        hidden = self.convolutions[0](hidden, styles[:, 0], maps[0])
        images: Tensor = self.to_image[0](hidden, styles[:, 1])
        for level, to_image in enumerate(self.to_image[1:], start=1):
            for position in (2 * level - 1, 2 * level):
                hidden = self.convolutions[position](hidden, styles[:, position], maps[position])
            images = self.enlarge(images) + to_image(hidden, styles[:, 2 * level + 1])
        return images


class _NoisyConv(nn.Module):
    """Modulated convolution, noise of a learnt strength, bias, activation."""

    def __init__(self, channels_in: int, channels_out: int, style_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels_in, channels_out, style_dim, up=up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, hidden: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
        hidden = self.conv(hidden, styles)
        shift = self.bias[:, None, None] + self.strength * noise
        return activate(hidden + shift.to(hidden.dtype))


class _ToImage(nn.Module):
    """Modulated 1×1 convolution, not demodulated: the style decides the contrast as well."""

    def __init__(self, channels_in: int, channels_out: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels_in, channels_out, style_dim, kernel=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, hidden: Tensor, styles: Tensor) -> Tensor:
        hidden = self.conv(hidden, styles)
        return hidden + self.bias.to(hidden.dtype)[:, None, None]


class StyleGenerator(Generator):
    """Mapping and synthesis network.

    In training mode noise is drawn anew each time, some images mix two styles, and images may leave [-1, 1]: a bound
    would take the gradient away there, and the discriminator knows that real images do not. In evaluation mode they are
    cut off at the bounds, there is no mixing, and the noise of an image is drawn from its own latents: from a random
    generator whose seed is their checksum.

    Args:
        data: Facts of the data; square images, the side a power of two of at least 8.
        latent_dim: Length of a latent vector.
        style_dim: Length of a style vector.
        mapping_layers: Layers of the mapping network.
        channel_base: Feature maps times side, see `channels`.
        channel_limit: Largest number of feature maps.
        style_mixing: Chance that an image has two styles in training, the second one from a random layer on.

    References:
        Karras et al., 2020, arXiv:1912.04958.
    """

    mixes_classes = True

    def __init__(
        self,
        data: DataSpec,
        latent_dim: int,
        *,
        style_dim: int,
        mapping_layers: int,
        channel_base: int,
        channel_limit: int,
        style_mixing: float = 0.0,
    ) -> None:
        """Draw the weights."""
        super().__init__(latent_dim)
        self.mapping = MappingNetwork(latent_dim, style_dim, mapping_layers, data.labels)
        self.synthesis = SynthesisNetwork(data, style_dim, channel_base, channel_limit)
        self.style_mixing = style_mixing

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; see `Generator.forward`."""
        styles = self._repeated(self.mapping(latents, labels))
        if self.training and self.style_mixing:
            styles = self._mixed(styles, labels)
        return self._bounded(self.synthesis(styles, self.make_noise(latents)))

    def generate(self, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        """Make images, the styles drawn towards the mean style of the label: ``w̄ + truncation · (w − w̄)``.

        The mean is that over 1,024 latents, always the same, for each label by itself, so that an image keeps what it
        is to show. Noise is not truncated. See `Generator.generate`.

        References:
            Karras et al., 2019, arXiv:1812.04948, appendix B.
        """
        if truncation == 1:
            return super().generate(latents, labels)
        styles = self.mapping(latents, labels)
        styles = self._repeated(torch.lerp(self.mean_styles(len(latents), labels), styles, truncation))
        return self._bounded(self.synthesis(styles, self.make_noise(latents)))

    def mean_styles(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Return the mean style of each image's label.

        Args:
            n: Number of images.
            labels: Their labels, as in `medgan.core.Batch`, or None without labels.

        Returns:
            Shape ``(n, style_dim)``.
        """
        many = self.make_latents(_MEAN_OF, torch.Generator().manual_seed(0))
        many = many.to(next(self.parameters()).device)
        if labels is None:
            mean: Tensor = self.mapping(many).mean(dim=0)
            return mean.expand(n, -1)
        # One label after the other, so that the mean of one does not depend on which others there are.
        kinds, places = torch.unique(labels, dim=0, return_inverse=True)
        means = [self.mapping(many, kind.expand(_MEAN_OF, *kind.shape)).mean(dim=0) for kind in kinds]
        return torch.stack(means)[places]

    def make_noise(self, latents: Tensor) -> Tensor:
        """Draw noise for the synthesis network, anew in training mode, from the latents in evaluation mode.

        Args:
            latents: Shape ``(N, latent_dim)``.

        Returns:
            Standard normal, as `SynthesisNetwork.forward` takes it, on the device of the latents.
        """
        length = sum(side**2 for side in self.synthesis.noise_sides)
        if self.training:
            return torch.randn(len(latents), length, device=latents.device)
        rows = latents.detach().float().cpu().numpy()
        rngs = [torch.Generator().manual_seed(zlib.crc32(row.tobytes())) for row in rows]
        return torch.stack([torch.randn(length, generator=rng) for rng in rngs]).to(latents.device)

    def _repeated(self, styles: Tensor) -> Tensor:
        """Give each layer the same style."""
        return styles.unsqueeze(1).expand(-1, self.synthesis.num_styles, -1)

    def _mixed(self, styles: Tensor, labels: Tensor | None) -> Tensor:
        """Put another style, of the same label, into the layers from a random one on."""
        n, layers, _ = styles.shape
        others = self._repeated(self.mapping(self.make_latents(n), labels))
        crossover = torch.randint(1, layers, (n, 1), device=styles.device)
        chosen = torch.rand(n, 1, device=styles.device) < self.style_mixing
        later = torch.arange(layers, device=styles.device) >= crossover
        return torch.where((chosen & later).unsqueeze(2), others, styles)

    def _bounded(self, images: Tensor) -> Tensor:
        """Cut images off at the bounds, in evaluation mode."""
        return images if self.training else images.clamp(-1, 1)


class StyleDiscriminator(Discriminator):
    """Residual discriminator; with labels, the realness is an inner product with what a mapping network makes of them.

    Args:
        data: Facts of the data; square images, the side a power of two of at least 8.
        style_dim: Length of the inner product, and width of the mapping network.
        mapping_layers: Layers of the mapping network.
        channel_base: Feature maps times side, see `channels`.
        channel_limit: Largest number of feature maps.
        minibatch_std: Images in a group whose spread is seen.

    References:
        Karras et al., 2020, arXiv:1912.04958; Karras et al., 2020, arXiv:2006.06676, and Miyato and Koyama, 2018,
        arXiv:1802.05637 (labels).
    """

    def __init__(
        self,
        data: DataSpec,
        *,
        style_dim: int,
        mapping_layers: int,
        channel_base: int,
        channel_limit: int,
        minibatch_std: int,
    ) -> None:
        """Draw the weights."""
        super().__init__()
        sides = [2**power for power in range(int(math.log2(data.size[0])), 1, -1)]
        widths = [channels(side, channel_base, channel_limit) for side in sides]
        blocks: list[nn.Module] = [_DownBlock(wide, narrow) for wide, narrow in pairwise(widths)]
        blocks[0] = nn.Sequential(_FromImage(data.channels, widths[0]), blocks[0])
        self.blocks = nn.ModuleList(blocks)
        self.minibatch_std = MinibatchStdDev(minibatch_std)
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.dense = EqualLinear(16 * widths[-1], widths[-1])
        self.mapping = None if data.labels is None else MappingNetwork(0, style_dim, mapping_layers, data.labels)
        self.realness = EqualLinear(widths[-1], 1 if data.labels is None else style_dim)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images as such of their labels; without labels, by what is common to all of them."""
        hidden = images
        for block in self.blocks:
            hidden = block(hidden)
        hidden = activate(self.conv(self.minibatch_std(hidden)))
        features = activate(self.dense(hidden.flatten(1)))
        judged = self.realness(features)
        if self.mapping is not None and labels is not None:
            judged = judged * self.mapping(None, labels)
        realness = judged.sum(dim=1) / math.sqrt(judged.shape[1])
        return DiscriminatorOutput(realness, None, features)

    def stages(self) -> list[nn.Module]:
        """Return the residual blocks, one for each halving of the resolution."""
        return list(self.blocks)


class _FromImage(nn.Module):
    """1×1 convolution and activation."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = EqualConv(channels_in, channels_out, 1)

    def forward(self, images: Tensor) -> Tensor:
        return activate(self.conv(images))


class _DownBlock(nn.Module):
    """Halves the resolution, on two ways whose sum has the variance of each."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(channels_in, channels_in, 3)
        self.conv2 = EqualConv(channels_in, channels_out, 3, down=True)
        self.halve = Resample(down=True)
        self.skip = EqualConv(channels_in, channels_out, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        skipped: Tensor = self.skip(self.halve(hidden))
        return (activate(self.conv2(activate(self.conv1(hidden)))) + skipped) / math.sqrt(2)
