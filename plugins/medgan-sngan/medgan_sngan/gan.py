"""SNGAN: hinge loss, and a discriminator whose every layer is divided by its spectral norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from medgan import losses
from medgan.core import GAN, AdversarialTrainer, Batch, DataSpec, Discriminator, GANConfig, Generator, Sides
from medgan.core.config import option
from medgan_sngan.networks import Growth, SNGANDiscriminator, SNGANGenerator

__all__ = ["SNGAN", "SNGANConfig", "SNGANTrainer"]


@dataclass(frozen=True, kw_only=True)
class SNGANConfig(GANConfig):
    """Options of `SNGAN`."""

    beta2: float = option(0.9, "Adam's decay of the second moment.", ge=0, le=0.99999)
    generator_width: int = option(64, "Channels of the generator at full resolution.", ge=1)
    discriminator_width: int = option(64, "Channels of the discriminator after its first block.", ge=1)
    channel_growth: Growth = option(
        "doubling", "Channels: doubled at each halving of the resolution, or as many everywhere, for 32 pixels."
    )
    generator_norm: Literal["batch", "group"] = option(
        "group", "Normalisation of the generator: by batch as in the paper, or by groups of channels of each image."
    )


class SNGANTrainer(AdversarialTrainer[SNGANConfig]):
    """The hinge loss."""

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Hinge loss on real and generated images."""
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        self.log_by_class("discriminator/real", on_real, real.labels)
        self.log_by_class("discriminator/fake", on_fake, fake.labels)
        return {"adversarial": losses.hinge_discriminator(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Negative realness of generated images."""
        return {"adversarial": losses.hinge_generator(self.discriminator(*fake).realness)}


_SMALL = SNGANConfig(
    batch_size=16,
    generator_lr=2e-4,
    discriminator_lr=4e-4,
    beta2=0.99,
    generator_width=16,
    discriminator_width=16,
    augment="brightness,contrast,cutout",
    augment_probability=0.5,
    class_sampling="sqrt",
)
_PAPER = SNGANConfig(batch_size=64, discriminator_steps=5, lr_decay=0.11, ema_halflife=0, generator_norm="batch")
_CIFAR = _PAPER.replace(lr_decay=1.0, generator_width=256, discriminator_width=128, channel_growth="constant")
_TINY = SNGANConfig(batch_size=8, latent_dim=16, generator_width=2, discriminator_width=2, ema_halflife=500)


class SNGAN(GAN):
    """GAN with spectral normalisation and, where there are labels, a projection discriminator.

    Images of 32, 64, 128 or 256 pixels a side, without labels or with labels of any kind: the generator scales and
    shifts its normalised features by label, and the discriminator judges how real an image is as one of its label.
    Ordinal labels are learnt as classes, without their order. Continuous labels should be scaled to a mean near 0 and a
    spread near 1. What is not known of a label (NaN) counts as neutral, a finding as half present and a quantity as 0.

    Presets: ``small`` for small medical sets on small machines (narrow networks, group normalisation and averaged
    weights, a discriminator that learns twice as fast in place of more steps, augmentation without flips);
    ``paper``, networks and optimisation of the papers on ImageNet; ``cifar``, those of 32 pixels; ``tiny`` for tests.

    Example:
        >>> from medgan.core import DataSpec, LabelSpec
        >>> gan = SNGAN(DataSpec(1, (32, 32), LabelSpec(("NORMAL", "PNEUMONIA"))), preset="tiny")
        >>> gan.sample(2, labels="PNEUMONIA").images.shape
        torch.Size([2, 1, 32, 32])

    References:
        Miyato et al., 2018, arXiv:1802.05957; Miyato and Koyama, 2018, arXiv:1802.05637.
    """

    name = "sngan"
    api_version = 1
    summary = "Spectral normalisation, hinge loss and a projection discriminator"
    reference = "arXiv:1802.05957"
    Config = SNGANConfig
    Trainer = SNGANTrainer
    presets: ClassVar = {"small": _SMALL, "paper": _PAPER, "cifar": _CIFAR, "tiny": _TINY}
    default_preset = "small"
    sides = Sides.powers_of_two(32, 256)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")

    def make_generator(self, config: SNGANConfig, data: DataSpec) -> Generator:
        """Return the generator."""
        return SNGANGenerator(
            data, config.latent_dim, config.generator_width, config.channel_growth, config.generator_norm
        )

    def make_discriminator(self, config: SNGANConfig, data: DataSpec) -> Discriminator:
        """Return the discriminator."""
        return SNGANDiscriminator(data, config.discriminator_width, config.channel_growth)
