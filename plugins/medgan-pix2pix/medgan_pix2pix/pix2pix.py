"""Pix2pix: its options, its losses and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from medgan import losses
from medgan.core import GAN, AdversarialTrainer, Batch, DataSpec, Discriminator, GANConfig, Sides, Translator, option
from medgan.errors import ConfigError
from medgan_pix2pix.patches import PatchDiscriminator
from medgan_pix2pix.unet import UNet

__all__ = ["Pix2Pix", "Pix2PixConfig", "Pix2PixTrainer"]


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(GANConfig):
    """Options of `Pix2Pix`; the defaults are the paper's."""

    batch_size: int = option(1, "Pairs that pass through the networks at once, in each process.", ge=1)
    width: int = option(64, "Channels of both networks at half the resolution.", ge=1)
    dropout: float = option(
        0.5,
        "Chance of an activation in the decoder to be dropped, the noise of a translation; 0 for none.",
        ge=0,
        le=0.9,
    )
    patch_layers: int = option(
        3,
        "Layers of stride 2 in the discriminator, whose patches are 70 pixels with 3, 34 with 2, 16 with 1.",
        ge=1,
        le=5,
    )
    l1_weight: float = option(100.0, "Weight of the mean absolute difference from the true image.", ge=0)
    beta1: float = option(0.5, "Adam's decay of the first moment.", ge=0, le=0.9999)
    beta2: float = option(0.999, "Adam's decay of the second moment.", ge=0, le=0.99999)

    def __post_init__(self) -> None:
        """Refuse what acts on nothing."""
        super().__post_init__()
        self._refuse("latent_dim", because="the noise of pix2pix is its dropout. Leave it out.")


class Pix2PixTrainer(AdversarialTrainer[Pix2PixConfig]):
    """Cross-entropy of patches, halved for the discriminator, beside the distance from the true image."""

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Tell true pairs from translations, patch by patch, at half the pace: ``D`` is slowed as in the paper."""
        on_real, on_fake = self.discriminator(*real).features, self.discriminator(*fake).features
        return {"adversarial": losses.non_saturating_discriminator(on_real, on_fake) / 2}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Make translations whose patches pass as true, and that are near to the true images."""
        return {
            "adversarial": losses.non_saturating_generator(self.discriminator(*fake).features),
            "l1": self.config.l1_weight * losses.mean_absolute_error(fake.images, real.images),
        }


class Pix2Pix(GAN):
    """Translation learnt from pairs: a U-Net beside a discriminator of patches, conditional where there are labels.

    Presets: ``paper`` has the paper's widths, for GPUs and images of 256 pixels; ``small`` has a quarter of
    the channels, for two CPU cores at 64 pixels; ``tiny`` is for tests.

    References:
        Isola et al., 2017, arXiv:1611.07004.
    """

    name = "pix2pix"
    summary = "Translation of images learnt from pairs: U-Net, PatchGAN and L1; with and without labels"
    reference = "arXiv:1611.07004"
    api_version = 1
    Config = Pix2PixConfig
    Trainer = Pix2PixTrainer
    presets: ClassVar = {
        "paper": Pix2PixConfig(),
        "small": Pix2PixConfig(batch_size=4, width=16, patch_layers=2),
        "tiny": Pix2PixConfig(batch_size=2, width=4, patch_layers=1),
    }
    default_preset = "small"
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")
    translates = True

    @classmethod
    def get_sides(cls, config: Pix2PixConfig, dims: int) -> Sides:
        """Return sides that can be halved four times, and that hold a patch of the discriminator."""
        return Sides(multiple_of=max(16, 4 << config.patch_layers))

    @classmethod
    def check(cls, config: GANConfig, data: DataSpec) -> None:
        """Raise if the data is not of pairs; see `GAN.check`."""
        super().check(config, data)
        if not data.paired:
            raise ConfigError(
                "pix2pix learns from pairs, but sources and images of the data do not belong to each other. Type "
                "--arch cyclegan."
            )

    def make_generator(self, config: Pix2PixConfig, data: DataSpec) -> Translator:
        """Return a fresh `UNet`."""
        return UNet(data, config.width, config.dropout)

    def make_discriminator(self, config: Pix2PixConfig, data: DataSpec) -> Discriminator:
        """Return a fresh `PatchDiscriminator`."""
        return PatchDiscriminator(data, config.width, config.patch_layers)
