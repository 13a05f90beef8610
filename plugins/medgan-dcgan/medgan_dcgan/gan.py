"""DCGAN: its options, its losses and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from medgan import losses
from medgan.core import GAN, AdversarialTrainer, Batch, DataSpec, Discriminator, GANConfig, Generator, Sides, option
from medgan_dcgan.networks import DCGANDiscriminator, DCGANGenerator

__all__ = ["DCGAN", "DCGANConfig", "DCGANTrainer"]


@dataclass(frozen=True, kw_only=True)
class DCGANConfig(GANConfig):
    """Options of `DCGAN`; the defaults are the paper's."""

    batch_size: int = option(128, "Images that pass through the networks at once, in each process.", ge=1)
    latent_dim: int = option(100, "Length of a latent vector.", ge=1)
    width: int = option(128, "Channels of both networks at half the resolution of the image.", ge=1)
    beta1: float = option(0.5, "Adam's decay of the first moment.", ge=0, le=0.9999)
    beta2: float = option(0.999, "Adam's decay of the second moment.", ge=0, le=0.99999)
    ema_halflife: int = option(
        0, "Images after which a weight counts half in the averaged generator; 0 turns averaging off.", ge=0
    )


class DCGANTrainer(AdversarialTrainer[DCGANConfig]):
    """The losses of Goodfellow et al., 2014, arXiv:1406.2661; the generator's is the non-saturating one."""

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Cross-entropy of real against generated."""
        # Each half is normalised by its own statistics.
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        return {"adversarial": losses.non_saturating_discriminator(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Cross-entropy of generated images that are called real."""
        return {"adversarial": losses.non_saturating_generator(self.discriminator(*fake).realness)}


class DCGAN(GAN):
    """Deep convolutional GAN, conditional where there are labels.

    The generator gets the labels beside its latents, the discriminator as constant planes beside the image's channels
    (Mirza and Osindero, 2014, arXiv:1411.1784): classes as one-hot vectors, findings and quantities as they are.

    Presets: ``paper`` has the widths of the authors' networks, for GPUs; ``small`` a quarter of them, for two CPU
    cores; ``tiny`` is for tests.

    References:
        Radford et al., 2016, arXiv:1511.06434.
    """

    name = "dcgan"
    summary = "Deep convolutional GAN, the classic baseline; with and without labels"
    reference = "arXiv:1511.06434"
    api_version = 1
    Config = DCGANConfig
    Trainer = DCGANTrainer
    presets: ClassVar = {
        "paper": DCGANConfig(),
        "small": DCGANConfig(batch_size=32, width=32),
        "tiny": DCGANConfig(batch_size=8, latent_dim=16, width=4),
    }
    default_preset = "small"
    sides = Sides.powers_of_two(32, 256)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")

    def make_generator(self, config: DCGANConfig, data: DataSpec) -> Generator:
        """Return a fresh `DCGANGenerator`."""
        return DCGANGenerator(data, config.latent_dim, config.width)

    def make_discriminator(self, config: DCGANConfig, data: DataSpec) -> Discriminator:
        """Return a fresh `DCGANDiscriminator`."""
        return DCGANDiscriminator(data, config.width)
