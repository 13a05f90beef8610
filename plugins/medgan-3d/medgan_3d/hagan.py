"""HA-GAN: its options, its step and its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medgan import losses
from medgan.core import GAN, Batch, DataSpec, Discriminator, GANConfig, Generator, Metrics, Sides, Trainer, option
from medgan.core.networks import frozen
from medgan.errors import ConfigError
from medgan_3d.hierarchy import FACTOR, HAGANDiscriminator, HAGANGenerator, Views, thickness

__all__ = ["HAGAN", "HAGANConfig", "HAGANTrainer"]


@dataclass(frozen=True, kw_only=True)
class HAGANConfig(GANConfig):
    """Options of `HAGAN`; the defaults are those of the authors' code."""

    batch_size: int = option(4, "Volumes that pass through the networks at once, in each process.", ge=1)
    latent_dim: int = option(1024, "Length of a latent vector.", ge=1)
    width: int = option(64, "Channels of the features that both resolutions are made from.", ge=4)
    sub_volumes: int = option(
        8,
        "Sub-volumes along the depth of a volume, of which a step makes and judges one; none is thinner than 4 voxels.",
        choices=(1, 2, 4, 8, 16),
    )
    generator_lr: float = option(1e-4, "Learning rate of the generator and the encoders.", ge=0)
    discriminator_lr: float = option(4e-4, "Learning rate of the discriminator.", ge=0)
    beta2: float = option(0.999, "Adam's decay of the second moment.", ge=0, le=0.99999)


class HAGANTrainer(Trainer[HAGANConfig]):
    """A step on sub-volumes at random places, beside whole volumes at low resolution.

    The generator learns from the discriminator alone, and the encoders from the reconstructions alone, as in the
    authors' code: what encodes sub-volumes from the sub-volume that is made from its features, what encodes features
    from the sub-volume and the low-resolution volume that are made from its latents.
    """

    generator: HAGANGenerator
    discriminator: HAGANDiscriminator

    def train_step(self, batch: Batch) -> Metrics:
        """Do `GANConfig.discriminator_steps` discriminator steps, then one step of the generator and its encoders."""
        metrics: Metrics = {}
        slices = thickness(self.data, self.config.sub_volumes)
        places = self.data.size[0] // FACTOR - slices + 1
        for real in batch.chunk(self.config.discriminator_steps):
            chosen = self.draw(len(real.images), lambda n, rng: torch.rand(n, generator=rng, device=rng.device))
            starts = [min(int(place * places), places - 1) for place in chosen.tolist()]
            views = Views.of(real.images, starts, slices)
            metrics |= self._discriminator_step(real, views, starts, slices)
        with frozen(self.discriminator):
            metrics |= self._generator_step(real, views, starts, slices)
        return metrics

    def discriminator_terms(self, real: Views, fake: Views, labels: Tensor | None) -> dict[str, Tensor]:
        """Return the discriminator's loss, of both resolutions.

        Args:
            real: Views of real volumes.
            fake: Views of generated ones, without a gradient.
            labels: Labels of both.
        """
        on_real, on_fake = self.discriminator.judge(real, labels), self.discriminator.judge(fake, labels)
        self.log_by_class("discriminator/real", (on_real.high + on_real.low) / 2, labels)
        self.log_by_class("discriminator/fake", (on_fake.high + on_fake.low) / 2, labels)
        return {
            "high": losses.non_saturating_discriminator(on_real.high, on_fake.high),
            "low": losses.non_saturating_discriminator(on_real.low, on_fake.low),
        }

    def generator_terms(self, fake: Views, labels: Tensor | None) -> dict[str, Tensor]:
        """Return the generator's loss, of both resolutions.

        Args:
            fake: Views of generated volumes.
            labels: Their labels.
        """
        on_fake = self.discriminator.judge(fake, labels)
        return {
            "high": losses.non_saturating_generator(on_fake.high),
            "low": losses.non_saturating_generator(on_fake.low),
        }

    def encoder_terms(self, real: Batch, views: Views, starts: Sequence[int]) -> dict[str, Tensor]:
        """Return the losses of the encoders; none reaches another weight of the generator.

        Args:
            real: Real volumes and their labels.
            views: Their views.
            starts: First slice of each sub-volume, at low resolution.
        """
        generator, encoder = self.generator, self.generator.encoder
        slices = views.high.shape[2] // FACTOR
        with frozen(generator.project, generator.trunk, generator.low, generator.high):
            part = generator.make_part(encoder.encode_part(views.high), 0, slices)
            again = generator.make_views(encoder(real.images, slices), real.labels, starts, slices)
        distance = losses.mean_absolute_error
        return {
            "reconstruction_high": distance(part, views.high),
            "reconstruction": (distance(again.high, views.high) + distance(again.low, views.low)) / 2,
        }

    def _discriminator_step(self, real: Batch, views: Views, starts: Sequence[int], slices: int) -> Metrics:
        """Move the discriminator."""
        latents = self.draw(len(real.images), self.generator.make_latents)
        with self.accelerator.autocast():
            with torch.no_grad():
                fake = self.generator.make_views(latents, real.labels, starts, slices)
            terms = self.discriminator_terms(views, fake, real.labels)
        return self.update("discriminator", terms)

    def _generator_step(self, real: Batch, views: Views, starts: Sequence[int], slices: int) -> Metrics:
        """Move the generator and the encoders."""
        latents = self.draw(len(real.images), self.generator.make_latents)
        with self.accelerator.autocast():
            fake = self.generator.make_views(latents, real.labels, starts, slices)
            terms = self.generator_terms(fake, real.labels) | self.encoder_terms(real, views, starts)
        return self.update("generator", terms)


class HAGAN(GAN):
    """Hierarchical amortised GAN for large volumes, conditional where there are labels.

    In training a step makes one sub-volume at full resolution, and the whole volume at a quarter of it, from the same
    features; a discriminator judges both. So the largest activations are those of a sub-volume. In sampling the same
    layers make the whole volume. Encoders learn to find the latents of a volume again: ``generator.encoder``.

    Labels go to the generator beside its latents, and are projected on the features of the discriminator, where the
    paper has a classifier.

    Presets: ``paper`` has the authors' widths, for GPUs and 128 or 256 voxels a side; ``small`` a quarter of them, for
    two CPU cores at 32 or 64 voxels a side; ``tiny`` is for tests.

    References:
        Sun et al., 2022, arXiv:2008.01910, doi:10.1109/JBHI.2022.3172976.
    """

    name = "ha-gan"
    summary = "Hierarchical amortised GAN: large volumes, trained by sub-volumes; with and without labels"
    reference = "arXiv:2008.01910"
    api_version = 1
    Config = HAGANConfig
    Trainer = HAGANTrainer
    presets: ClassVar = {
        "paper": HAGANConfig(),
        "small": HAGANConfig(batch_size=8, latent_dim=128, width=16),
        "tiny": HAGANConfig(batch_size=2, latent_dim=16, width=8),
    }
    default_preset = "small"
    spatial_dims = (3,)
    sides = Sides.powers_of_two(16, 256)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")

    @classmethod
    def check(cls, config: GANConfig, data: DataSpec) -> None:
        """Raise if there is an augmentation; see `GAN.check`."""
        super().check(config, data)
        if config.augment != "none":
            raise ConfigError(
                f"ha-gan judges a volume at two resolutions, which --augment {config.augment} would distort "
                "differently. Leave it out, or type --augment none."
            )

    def make_generator(self, config: HAGANConfig, data: DataSpec) -> Generator:
        """Return a fresh `HAGANGenerator`."""
        return HAGANGenerator(data, config.latent_dim, config.width)

    def make_discriminator(self, config: HAGANConfig, data: DataSpec) -> Discriminator:
        """Return a fresh `HAGANDiscriminator`."""
        return HAGANDiscriminator(data, config.width, config.sub_volumes)
