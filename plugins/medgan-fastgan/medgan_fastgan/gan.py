"""FastGAN: its options, its training and the class that ties them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from medgan import losses
from medgan.core import GAN, AdversarialTrainer, Batch, DataSpec, Discriminator, GANConfig, Generator, Sides
from medgan.core.config import ClassSampling, option
from medgan_fastgan.networks import FastGANDiscriminator, FastGANGenerator, Judgement, quarter

__all__ = ["FastGAN", "FastGANConfig", "FastGANTrainer"]


@dataclass(frozen=True, kw_only=True)
class FastGANConfig(GANConfig):
    """Options of `FastGAN`; the defaults are the paper's."""

    batch_size: int = option(8, "Images that pass through the networks at once, in each process.", ge=1)
    latent_dim: int = option(256, "Length of a latent vector, and of a label's embedding.", ge=1)
    beta1: float = option(0.5, "Adam's decay of the first moment.", ge=0, le=0.9999)
    beta2: float = option(0.999, "Adam's decay of the second moment.", ge=0, le=0.99999)
    ema_halflife: int = option(
        5_500, "Images after which a weight counts half in the averaged generator; 0 turns averaging off.", ge=0
    )
    augment: str = option(
        "brightness,contrast,translation",
        "Differentiable augmentation of real and fake images: none, or policies or a modality joined by commas.",
    )
    class_sampling: ClassSampling = option(
        "sqrt", "How often each class is drawn: as it is, in proportion to the root of its size, or equally often."
    )
    width: int = option(64, "Channels at 128×128 pixels; 16 times as many at 4×4.", ge=2)
    minibatch_std: int = option(
        0, "Images in a group of one class whose spread the discriminator sees; 0 turns it off.", ge=0
    )
    reconstruction_weight: float = option(
        1.0, "Weight of the discriminator's reconstructions of real images; 0 turns them off.", ge=0
    )

    def __post_init__(self) -> None:
        """Check what concerns two options."""
        super().__post_init__()
        self._check_minibatch_std(self.minibatch_std)


class FastGANTrainer(AdversarialTrainer[FastGANConfig]):
    """Hinge loss on patches; the discriminator has to keep what real images can be reconstructed from."""

    discriminator: FastGANDiscriminator

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Tell patches of real images from those of generated ones, and reconstruct the real images."""
        on_real: Judgement = self.discriminator(*real)
        on_fake: Judgement = self.discriminator(*fake)
        self.log_by_class("discriminator/real", on_real.realness, real.labels)
        self.log_by_class("discriminator/fake", on_fake.realness, fake.labels)
        terms = {"adversarial": losses.hinge_discriminator(on_real.patches.flatten(), on_fake.patches.flatten())}
        if self.config.reconstruction_weight:
            terms["reconstruction"] = self.config.reconstruction_weight * self._reconstruction(real.images, on_real)
        return terms

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Pass as real in each patch."""
        on_fake: Judgement = self.discriminator(*fake)
        return {"adversarial": losses.hinge_generator(on_fake.patches.flatten())}

    def _reconstruction(self, images: Tensor, judgement: Judgement) -> Tensor:
        """Return the mean absolute error of the decoded images, and of a random quarter of each."""
        numbers = self.draw(len(images), _quarters)
        whole, part = self.discriminator.reconstruct(judgement, numbers)
        smaller = F.adaptive_avg_pool2d(images.float(), whole.shape[-1])
        distance = losses.mean_absolute_error
        return distance(whole, smaller) + distance(part, quarter(images, numbers))


def _quarters(n: int, rng: torch.Generator) -> Tensor:
    """Return n numbers of quarters, on the generator's device."""
    return torch.randint(4, (n,), generator=rng, device=rng.device)


_PAPER = FastGANConfig()
# Narrow networks take higher rates. What keeps the images of a class from becoming one is that the discriminator sees
# their spread; without it they become one, whatever the rates, the width, the augmentation or a gradient penalty.
_SMALL = FastGANConfig(
    latent_dim=128,
    generator_lr=4e-4,
    discriminator_lr=4e-4,
    ema_halflife=3_000,
    augment_probability=0.5,
    width=8,
    minibatch_std=4,
)
_TINY = FastGANConfig(latent_dim=16, width=2, ema_halflife=500, minibatch_std=2)


class FastGAN(GAN):
    """FastGAN: a light generator with skip-layer excitation, and a discriminator that learns to reconstruct.

    For few square images of 64, 128 or 256 pixels, without labels, as in the paper, or with classes.

    Presets: ``paper``, its widths, for a GPU; ``small``, an eighth of them with minibatch standard deviation, for two
    CPU cores at 64×64; ``tiny`` for tests.

    Example:
        >>> from medgan.core import DataSpec, LabelSpec
        >>> gan = FastGAN(DataSpec(1, (64, 64), LabelSpec(("NORMAL", "PNEUMONIA"))), preset="tiny")
        >>> gan.sample(2, labels="PNEUMONIA").images.shape
        torch.Size([2, 1, 64, 64])

    References:
        Liu et al., 2021, arXiv:2101.04775.
    """

    name = "fastgan"
    summary = "Light GAN with skip-layer excitation and a self-supervised discriminator, for few images"
    reference = "arXiv:2101.04775"
    api_version = 1
    Config = FastGANConfig
    Trainer = FastGANTrainer
    presets: ClassVar = {"small": _SMALL, "paper": _PAPER, "tiny": _TINY}
    default_preset = "small"
    sides = Sides.powers_of_two(64, 256, equal=True)
    label_kinds = ("categorical", "ordinal")

    def make_generator(self, config: FastGANConfig, data: DataSpec) -> Generator:
        """Return the generator."""
        return FastGANGenerator(data, config.latent_dim, config.width)

    def make_discriminator(self, config: FastGANConfig, data: DataSpec) -> Discriminator:
        """Return the discriminator."""
        return FastGANDiscriminator(data, config.width, config.minibatch_std)
