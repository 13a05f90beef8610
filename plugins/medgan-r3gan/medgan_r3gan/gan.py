"""R3GAN: its options, its training and the class that ties them together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medgan import losses
from medgan.augment import AdaptiveAugment, DiffAugment
from medgan.core import (
    GAN,
    AdversarialTrainer,
    Batch,
    DataSpec,
    Discriminator,
    GANConfig,
    Generator,
    Sides,
)
from medgan.core.config import ClassSampling, GradientPenalty, Idle, option
from medgan.errors import ConfigError
from medgan_r3gan.networks import R3GANDiscriminator, R3GANGenerator, Shape

__all__ = ["R3GAN", "R3GANConfig", "R3GANTrainer", "half_cosine"]


@dataclass(frozen=True, kw_only=True)
class R3GANConfig(GANConfig):
    """Options of `R3GAN`; the defaults are the paper's for faces of 64×64 pixels.

    Learning rates, `beta2`, `penalty_weight`, `ema_halflife` and `augment_probability` are what holds after the
    burn-in. During it they come from elsewhere: what is named ``burn_in_...`` says from where; the last two from 0.
    """

    batch_size: int = option(256, "Images that pass through the networks at once, in each process.", ge=1)
    latent_dim: int = option(64, "Length of a latent vector, and of a label's embedding.", ge=1)
    generator_lr: float = option(5e-5, "Learning rate of the generator after the burn-in.", ge=0)
    discriminator_lr: float = option(5e-5, "Learning rate of the discriminator after the burn-in.", ge=0)
    beta2: float = option(0.99, "Adam's decay of the second moment after the burn-in.", ge=0, le=0.99999)
    ema_halflife: int = option(
        500_000,
        "Images after which a weight counts half in the averaged generator, after the burn-in; 0 for none.",
        ge=0,
    )
    ema_rampup: float | None = option(
        None, "Limit the half-life to this share of the images seen so far, so that early weights are forgotten.", ge=0
    )
    gradient_penalty: GradientPenalty = option(
        "r1r2", "Penalty on the discriminator's slope at real images, generated ones, both, or between them."
    )
    augment: str = option(
        "brightness,contrast,translation,cutout",
        "Differentiable augmentation of real and fake images: none, or policies or a modality joined by commas.",
    )
    augment_probability: float = option(
        0.3, "Chance of each augmentation to be applied to an image, after the burn-in.", ge=0, le=1
    )
    class_sampling: ClassSampling = option(
        "sqrt", "How often each class is drawn: as it is, in proportion to the root of its size, or equally often."
    )
    burn_in_kimg: float = option(
        20_000.0, "Thousand images over which the schedules run, along a cosine; 0 begins at their ends.", ge=0
    )
    burn_in_lr: float = option(4.0, "Factor of the learning rates where the burn-in begins.", ge=0)
    burn_in_beta2: float = option(0.9, "Adam's decay of the second moment where the burn-in begins.", ge=0, le=0.99999)
    burn_in_penalty: float = option(10.0, "Factor of the gradient penalty's weight where the burn-in begins.", ge=0)
    width: int = option(768, "Channels of the coarse resolutions.", ge=1)
    full_width_size: int = option(
        32, "Largest resolution with all channels; beyond it they halve as the resolution doubles.", ge=4, le=256
    )
    blocks: int = option(2, "Residual blocks at each resolution, in each network.", ge=1)
    expansion: int = option(2, "Channels inside a residual block, as a multiple of those outside.", ge=1)
    group_size: int = option(
        16, "Channels in a group of a block's 3×3 convolution; 0 for a plain one, which CPUs are faster at.", ge=0
    )

    def idle(self) -> Iterator[Idle]:
        """Yield what acts on nothing; see `Config.idle`."""
        yield from super().idle()
        if self.gradient_penalty == "none":
            yield Idle(("burn_in_penalty",), "there is no gradient penalty. Add --gradient-penalty r1r2, for example.")
        if self.burn_in_kimg == 0:
            because = "there is no burn-in. Type --burn-in-kimg 10, for example."
            yield Idle(("burn_in_lr", "burn_in_beta2", "burn_in_penalty"), because)

    @property
    def shape(self) -> Shape:
        """What the networks are built from."""
        return Shape(self.width, self.full_width_size, self.blocks, self.expansion, self.group_size)


def half_cosine(start: float, end: float, progress: float) -> float:
    """Return a value on its way along half a cosine.

    Args:
        start: Where it begins.
        end: Where it ends, and stays.
        progress: Share of the way, at least 0; beyond 1 counts as 1.
    """
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


class R3GANTrainer(AdversarialTrainer[R3GANConfig]):
    """Relativistic loss on pairs; penalty, rates, averaging and augmentation follow the burn-in."""

    @property
    def realness_is_relative(self) -> bool:
        """True: the loss is on pairs."""
        return True

    def annealed(self, start: float, end: float) -> float:
        """Return a value on its way through the burn-in; it follows from the images seen alone."""
        length = 1000 * self.config.burn_in_kimg
        return half_cosine(start, end, self.images_seen / length if length else 1.0)

    def schedule(self) -> None:
        """Set learning rates, Adam's second decay and the augmentation's chance; `GANConfig.lr_decay` still acts."""
        config = self.config
        factor = self.annealed(config.burn_in_lr, 1.0)
        betas = (config.beta1, self.annealed(config.burn_in_beta2, config.beta2))
        for name, rate in (("generator", config.generator_lr), ("discriminator", config.discriminator_lr)):
            for group in self.optimizers[name].param_groups:
                group["lr"] = group["initial_lr"] = rate * factor
                group["betas"] = betas
        # An adaptive augmentation finds its chance by itself.
        if isinstance(self.augment, DiffAugment) and not isinstance(self.augment, AdaptiveAugment):
            self.augment.probability = self.annealed(0.0, config.augment_probability)
        super().schedule()

    def ema_halflife(self) -> float:
        """Return the half-life by now; it rises from 0."""
        return self.annealed(0.0, 1.0) * super().ema_halflife()

    def gradient_penalty(self, real: Batch, fake: Batch) -> Tensor:
        """Return the penalty of `AdversarialTrainer.gradient_penalty`, its weight as of now."""
        return self.annealed(self.config.burn_in_penalty, 1.0) * super().gradient_penalty(real, fake)

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Find the real image of each pair more real."""
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        self.log_by_class("discriminator/real", on_real, real.labels)
        self.log_by_class("discriminator/fake", on_fake, fake.labels)
        return {"adversarial": losses.relativistic_discriminator(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Make the generated image of each pair look more real."""
        on_fake = self.discriminator(*fake).realness
        with torch.no_grad():
            on_real = self.discriminator(*real).realness
        return {"adversarial": losses.relativistic_generator(on_real, on_fake)}


_PAPER = R3GANConfig(penalty_weight=0.2)
# Plain convolutions and a penalty on one image in four: what two CPU cores can do. The rest is scaled to a training of
# some ten thousand images, where the paper's are of ten millions and more: small batches for many steps, at high rates.
# The discriminator's is the higher one: with equal ones it hardly tells images apart, whatever the penalty, and no
# outlines of chests come.
_SMALL = R3GANConfig(
    batch_size=8,
    generator_lr=2e-4,
    discriminator_lr=7e-4,
    penalty_weight=0.5,
    penalty_one_in=4,
    ema_halflife=2_000,
    burn_in_kimg=10.0,
    burn_in_lr=1.5,
    burn_in_penalty=2.0,
    width=64,
    full_width_size=16,
    blocks=2,
    expansion=1,
    group_size=0,
)
_TINY = _SMALL.replace(
    latent_dim=16,
    ema_halflife=500,
    burn_in_kimg=0.1,
    width=16,
    full_width_size=8,
    blocks=1,
    expansion=2,
    group_size=2,
)


class R3GAN(GAN):
    """R3GAN: a relativistic loss with gradient penalties on both halves, and networks without normalisation.

    For square images of 32 to 256 pixels, without labels or with classes.

    Presets: ``paper``, the paper's networks and schedules, for a GPU; ``small``, narrower ones with plain convolutions
    and a penalty on one image of each four, for two CPU cores at 64×64; ``tiny`` for tests.

    Example:
        >>> from medgan.core import DataSpec, LabelSpec
        >>> gan = R3GAN(DataSpec(1, (32, 32), LabelSpec(("NORMAL", "PNEUMONIA"))), preset="tiny")
        >>> gan.sample(2, labels="PNEUMONIA").images.shape
        torch.Size([2, 1, 32, 32])

    References:
        Huang et al., 2024, arXiv:2501.05441.
    """

    name = "r3gan"
    summary = "Relativistic GAN with two gradient penalties and modern residual networks"
    reference = "arXiv:2501.05441"
    api_version = 1
    Config = R3GANConfig
    Trainer = R3GANTrainer
    presets: ClassVar = {"small": _SMALL, "paper": _PAPER, "tiny": _TINY}
    default_preset = "small"
    sides = Sides.powers_of_two(32, 256, equal=True)
    label_kinds = ("categorical", "ordinal")

    @classmethod
    def check(cls, config: R3GANConfig, data: DataSpec) -> None:  # type: ignore[override]
        """Raise if the widths do not fit; see `GAN.check`."""
        super().check(config, data)
        for width in config.shape.widths(data):
            inside = width * config.expansion
            if config.group_size and inside % config.group_size:
                raise ConfigError(
                    f"The {inside} channels inside a block of r3gan cannot be divided into groups of "
                    f"{config.group_size}. Type --group-size 0, or a --width that is a multiple of "
                    f"{config.group_size * max(1, data.size[0] // config.full_width_size)}."
                )

    def make_generator(self, config: R3GANConfig, data: DataSpec) -> Generator:
        """Return the generator."""
        return R3GANGenerator(data, config.latent_dim, config.shape)

    def make_discriminator(self, config: R3GANConfig, data: DataSpec) -> Discriminator:
        """Return the discriminator."""
        return R3GANDiscriminator(data, config.latent_dim, config.shape)
