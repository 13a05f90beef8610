"""WGAN-GP: a critic whose slope is drawn towards 1, which estimates the Wasserstein distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from medgan import losses
from medgan.core import GAN, AdversarialTrainer, Batch, DataSpec, Discriminator, GANConfig, Generator, Sides
from medgan.core.config import GradientPenalty, option
from medgan.errors import ConfigError
from medgan_wgan_gp.networks import Growth, WGANGPCritic, WGANGPGenerator

__all__ = ["WGANGP", "WGANGPConfig", "WGANGPTrainer"]


@dataclass(frozen=True, kw_only=True)
class WGANGPConfig(GANConfig):
    """Options of `WGANGP`."""

    generator_lr: float = option(1e-4, "Learning rate of the generator.", ge=0)
    discriminator_lr: float = option(1e-4, "Learning rate of the critic.", ge=0)
    beta2: float = option(0.9, "Adam's decay of the second moment.", ge=0, le=0.99999)
    discriminator_steps: int = option(5, "Critic steps for each generator step, each on fresh images.", ge=1)
    gradient_penalty: GradientPenalty = option(
        "wgan-gp", "Penalty on the critic's slope between real and generated images; it cannot do without."
    )
    generator_width: int = option(64, "Channels of the generator at full resolution.", ge=1)
    critic_width: int = option(64, "Channels of the critic at full resolution.", ge=1)
    channel_growth: Growth = option(
        "doubling", "Channels: doubled at each halving of the resolution, or as many everywhere, for 32 pixels."
    )
    generator_norm: Literal["batch", "group"] = option(
        "group", "Normalisation of the generator: by batch as in the paper, or by groups of channels of each image."
    )
    critic_norm: Literal["layer", "none"] = option(
        "layer", "Normalisation of the critic: of all features of an image, or none."
    )
    label_weight: float = option(1.0, "Weight of the critic's loss on the labels of real images.", ge=0)
    generator_label_weight: float = option(
        0.1, "Weight of the generator's loss on the labels that the critic reads from its images.", ge=0
    )

    def __post_init__(self) -> None:
        """Check what concerns two options."""
        super().__post_init__()
        if self.gradient_penalty != "wgan-gp" or self.penalty_weight == 0:
            raise ConfigError(
                "wgan-gp's critic measures a distance only while its slope is bounded. Type --gradient-penalty wgan-gp "
                "and a --penalty-weight above 0, such as 10."
            )


class WGANGPTrainer(AdversarialTrainer[WGANGPConfig]):
    """The Wasserstein loss, and that of the label head; the core adds the gradient penalty."""

    @property
    def realness_is_relative(self) -> bool:
        """True: a critic's loss is a difference of means."""
        return True

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Wasserstein loss of both kinds of images, and the label of the real ones."""
        on_real, on_fake = self.discriminator(*real), self.discriminator(*fake)
        self.log_by_class("discriminator/real", on_real.realness, real.labels)
        self.log_by_class("discriminator/fake", on_fake.realness, fake.labels)
        adversarial = losses.wasserstein_discriminator(on_real.realness, on_fake.realness)
        label = self._label_term(on_real.label_logits, real.labels, self.config.label_weight)
        return {"adversarial": adversarial, **label}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Negative realness of generated images, and their labels."""
        on_fake = self.discriminator(*fake)
        label = self._label_term(on_fake.label_logits, fake.labels, self.config.generator_label_weight)
        return {"adversarial": losses.wasserstein_generator(on_fake.realness), **label}

    def _label_term(self, logits: Tensor | None, labels: Tensor | None, weight: float) -> dict[str, Tensor]:
        """Return the weighted loss of the label head, if there is one."""
        if logits is None or labels is None or self.data.labels is None:
            return {}
        return {"label": weight * losses.label_loss(logits, labels, self.data.labels.kind)}


# For many steps in little time: small batches, one critic step in place of five, a penalty on two images of each eight.
_SMALL = WGANGPConfig(
    batch_size=8,
    generator_lr=5e-4,
    discriminator_lr=5e-4,
    discriminator_steps=1,
    penalty_one_in=4,
    generator_label_weight=0.5,
    generator_width=16,
    critic_width=12,
    class_sampling="sqrt",
)
_PAPER = WGANGPConfig(batch_size=64, ema_halflife=0, generator_norm="batch")
_CIFAR = _PAPER.replace(
    generator_lr=2e-4,
    discriminator_lr=2e-4,
    lr_decay=1.0,
    generator_width=128,
    critic_width=128,
    channel_growth="constant",
    critic_norm="none",
)
_TINY = WGANGPConfig(
    batch_size=4, latent_dim=16, discriminator_steps=2, generator_width=2, critic_width=2, ema_halflife=500
)


class WGANGP(GAN):
    """Wasserstein GAN with gradient penalty.

    Images of 32, 64, 128 or 256 pixels a side, without labels or with labels of any kind: the generator scales and
    shifts its normalised features by label, and a head of the critic has to say it. Ordinal labels are learnt as
    classes, without their order. Continuous labels should be scaled to a mean near 0 and a spread near 1. What is not
    known of a label (NaN) counts as neutral, a finding as half present and a quantity as 0, and is left out of the loss
    of the head.

    Presets: ``small`` for small medical sets on small machines (narrow networks, one critic step in place of five, a
    penalty on one image of each four, group normalisation and averaged weights); ``paper``, the authors' networks for
    64 pixels; ``cifar``, those of 32; ``tiny`` for tests.

    Example:
        >>> from medgan.core import DataSpec, LabelSpec
        >>> gan = WGANGP(DataSpec(1, (32, 32), LabelSpec(("NORMAL", "PNEUMONIA"))), preset="tiny")
        >>> gan.sample(2, labels="PNEUMONIA").images.shape
        torch.Size([2, 1, 32, 32])

    References:
        Gulrajani et al., 2017, arXiv:1704.00028.
    """

    name = "wgan-gp"
    api_version = 1
    summary = "Wasserstein loss with a penalty on the critic's slope"
    reference = "arXiv:1704.00028"
    Config = WGANGPConfig
    Trainer = WGANGPTrainer
    presets: ClassVar = {"small": _SMALL, "paper": _PAPER, "cifar": _CIFAR, "tiny": _TINY}
    default_preset = "small"
    sides = Sides.powers_of_two(32, 256)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")

    def make_generator(self, config: WGANGPConfig, data: DataSpec) -> Generator:
        """Return the generator."""
        return WGANGPGenerator(
            data, config.latent_dim, config.generator_width, config.channel_growth, config.generator_norm
        )

    def make_discriminator(self, config: WGANGPConfig, data: DataSpec) -> Discriminator:
        """Return the critic."""
        return WGANGPCritic(data, config.critic_width, config.channel_growth, config.critic_norm)
