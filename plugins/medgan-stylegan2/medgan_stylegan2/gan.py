"""`StyleGAN2`: options, losses and presets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from medgan import losses
from medgan.core import GAN, AdversarialTrainer, Batch, DataSpec, Discriminator, GANConfig, Generator, Metrics, Sides
from medgan.core.config import GradientPenalty, Idle, option
from medgan.core.distribution import mean_of_processes
from medgan_stylegan2.networks import StyleDiscriminator, StyleGenerator

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["StyleGAN2", "StyleGAN2Config", "StyleGAN2Trainer", "path_lengths"]

_DECAY = 0.99  # of the running mean of path lengths, for each penalty
_MEAN = "mean_path_length"  # what `generator_loss` tells `update` beside the terms of the loss


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config(GANConfig):
    """Options of `StyleGAN2`; the preset ``small`` has these defaults."""

    batch_size: int = option(16, "Images that pass through the networks at once, in each process.", ge=1)
    latent_dim: int = option(128, "Length of a latent vector.", ge=1)
    style_dim: int = option(128, "Length of a style vector, which the mapping network makes of latents.", ge=1)
    mapping_layers: int = option(2, "Layers of the mapping networks.", ge=1)
    channel_base: int = option(1024, "Feature maps of a level times its side in pixels.", ge=1)
    channel_limit: int = option(128, "Largest number of feature maps.", ge=1)
    minibatch_std: int = option(4, "Images in a group whose spread the discriminator sees.", ge=1)
    style_mixing: float = option(0.9, "Chance that a training image mixes the styles of two latents.", ge=0, le=1)
    path_length_weight: float = option(2.0, "Weight of the path-length penalty; 0 turns it off.", ge=0)
    path_length_every: int = option(
        4, "Generator steps from one path-length penalty to the next, which then counts as many times.", ge=1
    )
    generator_lr: float = option(2.5e-3, "Learning rate of the generator.", ge=0)
    discriminator_lr: float = option(2.5e-3, "Learning rate of the discriminator.", ge=0)
    gradient_penalty: GradientPenalty = option(
        "r1", "Penalty on the discriminator's slope at real images, generated ones, both, or between them."
    )
    penalty_weight: float | None = option(
        0.1, "Weight of the gradient penalty; 1 for r1, r2 and r1r2, 10 for wgan-gp if not given.", ge=0
    )
    penalty_every: int = option(
        16, "Discriminator steps from one gradient penalty to the next, which then counts as many times.", ge=1
    )
    augment: str = option(
        "xray",
        "Differentiable augmentation of real and fake images: none, or policies or a modality joined by commas.",
    )
    augment_probability: float = option(
        0.0, "Chance of each augmentation to be applied to an image, at the start; ADA moves it.", ge=0, le=1
    )
    ada_target: float | None = option(
        0.6, "Mean sign of the realness of training images that the augmentation's chance is steered to (ADA).", le=1
    )

    def __post_init__(self) -> None:
        """Check what concerns two options."""
        super().__post_init__()
        self._check_minibatch_std(self.minibatch_std, least=1)

    def idle(self) -> Iterator[Idle]:
        """Yield what acts on nothing; see `Config.idle`."""
        yield from super().idle()
        if self.path_length_weight == 0:
            yield Idle(("path_length_every",), "there is no path-length penalty. Add --path-length-weight 2.")


def path_lengths(images: Tensor, styles: Tensor, directions: Tensor, *, layers: int) -> Tensor:
    """How far images move with their styles, in a random direction of the space of images.

    ``‖J_wᵀ y‖ / √(pixels · layers)``, with the Jacobian J_w of the image with respect to its style w and a standard
    normal y. The divisor makes the length comparable between sizes.

    Args:
        images: Shape ``(N, C, *size)``, computed from `styles`.
        styles: Shape ``(N, style_dim)``, with ``requires_grad`` or a graph; each image has one style for all layers.
        directions: The y, shape of `images`.
        layers: Number of layers that take the style.

    Returns:
        Shape ``(N,)``, with a graph: its gradient is a second derivative of the generator.

    References:
        Karras et al., 2020, arXiv:1912.04958, equation 4.
    """
    gradients: Tensor = torch.autograd.grad((images * directions).sum(), styles, create_graph=True)[0]
    pixels = math.prod(images.shape[2:])
    lengths: Tensor = torch.linalg.vector_norm(gradients, dim=1)
    return lengths / math.sqrt(pixels * layers)


class StyleGAN2Trainer(AdversarialTrainer[StyleGAN2Config]):
    """Non-saturating logistic loss, and the path-length penalty at every so many generator steps.

    Attributes:
        path_length: Running mean of path lengths, the a of the penalty.
    """

    generator: StyleGenerator

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        config: StyleGAN2Config,
        data: DataSpec,
        *,
        accelerator: Accelerator | None = None,
    ) -> None:
        """Place the networks, and begin without a mean of path lengths."""
        super().__init__(generator, discriminator, config, data, accelerator=accelerator)
        self.path_length = _RunningMean().to(self.device)
        self._lengths: list[Tensor] = []

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Tell real from generated images, each as such of its label."""
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        self.log_by_class("discriminator/real", on_real, real.labels)
        self.log_by_class("discriminator/fake", on_fake, fake.labels)
        return {"adversarial": losses.non_saturating_discriminator(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Pass as real; and, when it is due, move evenly with the styles.

        The penalty has latents of its own, half as many as there are images, with the label of one of each two images,
        drawn anew. It is 0 the first time, as there is no mean yet to be drawn to.
        """
        terms = {"adversarial": losses.non_saturating_generator(self.discriminator(*fake).realness)}
        config = self.config
        if config.path_length_weight and self.step % config.path_length_every == 0:
            # Second derivatives need the precision of float32.
            with torch.autocast(self.device.type, enabled=False):
                lengths = self._path_lengths(len(fake.images), fake.labels)
            squares = (lengths - self.path_length.anchor(lengths)).square()
            terms["path_length"] = config.path_length_weight * config.path_length_every * squares.mean()
            terms[_MEAN] = lengths.detach().mean()
        return terms

    def update(self, network: str, terms: Mapping[str, Tensor]) -> Metrics:
        """Move one network, and the running mean of path lengths when there are some; see `Trainer.update`."""
        length = terms.get(_MEAN)
        if length is None:
            return super().update(network, terms)
        # No loss, but what the hook, which changes nothing, has to tell.
        metrics = super().update(network, {name: term for name, term in terms.items() if name != _MEAN})
        self._lengths.append(length)
        # Moved once a step, when all accumulated batches have been compared with the same mean.
        if len(self._lengths) == self.config.gradient_accumulation_steps:
            self.path_length.follow(mean_of_processes(self.accelerator, torch.stack(self._lengths).mean()))
            self._lengths.clear()
        return {**metrics, f"{network}/{_MEAN}": length}

    def stateful_modules(self) -> tuple[str, ...]:
        """Return the names of the attributes whose state is part of the training's; see `Trainer.stateful_modules`."""
        return (*super().stateful_modules(), "path_length")

    def _path_lengths(self, images: int, labels: Tensor | None) -> Tensor:
        """Return the lengths at new latents, for a batch of so many images."""
        generator = self.generator
        n = math.ceil(images / 2)
        latents = self.draw(n, generator.make_latents)
        shape = (self.data.channels, *self.data.size)
        directions = self.draw(n, lambda count, rng: torch.randn(count, *shape, generator=rng, device=rng.device))
        # Drawn, as classes may come in turn, so that every second label would be of the same class at each step.
        styles = generator.mapping(latents, None if labels is None else labels[self._one_in(2, images)])
        layers = generator.synthesis.num_styles
        images_of = generator.synthesis(styles.unsqueeze(1).expand(-1, layers, -1), generator.make_noise(latents))
        return path_lengths(images_of, styles, directions, layers=layers)


class _RunningMean(nn.Module):
    """Exponential running mean, and the plain mean of all values before there are enough of them."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    def anchor(self, values: Tensor) -> Tensor:
        """Return the mean, of the shape of `values`; before there is one, `values` themselves, detached."""
        return torch.where(self.count > 0, self.mean, values.detach())

    @torch.no_grad()
    def follow(self, value: Tensor) -> None:
        """Move towards a value."""
        self.count += 1
        self.mean.lerp_(value, (1 / self.count).clamp(min=1 - _DECAY))


_SMALL = StyleGAN2Config()
_TINY = StyleGAN2Config(
    batch_size=8, latent_dim=16, style_dim=16, channel_base=128, channel_limit=16, ema_halflife=500, path_length_every=2
)
# The settings for 256² images in Karras et al., 2020, arXiv:2006.06676, on 8 GPUs; the augmentations are medgan's.
_PAPER = StyleGAN2Config(
    batch_size=8,
    latent_dim=512,
    style_dim=512,
    mapping_layers=8,
    channel_base=16_384,
    channel_limit=512,
    minibatch_std=8,
    penalty_weight=1.0,
    ema_halflife=20_000,
    ema_rampup=None,
    ada_kimg=500.0,
)


class StyleGAN2(GAN):
    """StyleGAN2 with adaptive discriminator augmentation.

    A mapping network turns latents and labels into styles, which scale the weights of every convolution of the
    generator. The discriminator is residual, and judges an image as such of its label.

    Square images of 32, 64, 128 or 256 pixels, without labels or with categorical, ordinal (learnt as classes, without
    their order) or multilabel ones.

    Presets: ``small`` for small sets and two CPU cores at 64×64; ``paper``, the networks and settings for 256×256
    images on eight GPUs; ``tiny`` for tests.

    Example:
        >>> from medgan.core import DataSpec, LabelSpec
        >>> gan = StyleGAN2(DataSpec(1, (32, 32), LabelSpec(("NORMAL", "PNEUMONIA"))), preset="tiny")
        >>> gan.sample(2, labels="PNEUMONIA", truncation=0.7).images.shape
        torch.Size([2, 1, 32, 32])

    References:
        Karras et al., 2020, arXiv:1912.04958; Karras et al., 2020, arXiv:2006.06676.
    """

    name = "stylegan2"
    summary = "StyleGAN2 with adaptive augmentation, with or without labels"
    reference = "arXiv:1912.04958"
    api_version = 1
    Config = StyleGAN2Config
    Trainer = StyleGAN2Trainer
    presets: ClassVar = {"small": _SMALL, "paper": _PAPER, "tiny": _TINY}
    default_preset = "small"
    sides = Sides.powers_of_two(32, 256, equal=True)
    label_kinds = ("categorical", "ordinal", "multilabel")

    def make_generator(self, config: StyleGAN2Config, data: DataSpec) -> Generator:
        """Return mapping and synthesis network."""
        return StyleGenerator(
            data,
            config.latent_dim,
            style_dim=config.style_dim,
            mapping_layers=config.mapping_layers,
            channel_base=config.channel_base,
            channel_limit=config.channel_limit,
            style_mixing=config.style_mixing,
        )

    def make_discriminator(self, config: StyleGAN2Config, data: DataSpec) -> Discriminator:
        """Return the residual discriminator."""
        return StyleDiscriminator(
            data,
            style_dim=config.style_dim,
            mapping_layers=config.mapping_layers,
            channel_base=config.channel_base,
            channel_limit=config.channel_limit,
            minibatch_std=config.minibatch_std,
        )
