"""A DCGAN of volumes: strided convolutions in three dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan import losses
from medgan.core import (
    GAN,
    AdversarialTrainer,
    Batch,
    DataSpec,
    Discriminator,
    DiscriminatorOutput,
    GANConfig,
    Generator,
    Sides,
    option,
)
from medgan.nn import Projection, halvings, initialise_normal, label_vectors, level_widths, seed_size

__all__ = ["DCGAN3D", "DCGAN3DConfig", "DCGAN3DDiscriminator", "DCGAN3DGenerator", "DCGAN3DTrainer"]

_MOST = 8  # channels, in times of the width


@dataclass(frozen=True, kw_only=True)
class DCGAN3DConfig(GANConfig):
    """Options of `DCGAN3D`."""

    batch_size: int = option(16, "Volumes that pass through the networks at once, in each process.", ge=1)
    latent_dim: int = option(200, "Length of a latent vector.", ge=1)
    width: int = option(64, "Channels of both networks at half the resolution of the volume.", ge=1)
    loss: Literal["hinge", "non-saturating"] = option("hinge", "Loss of both networks.")
    beta1: float = option(0.5, "Adam's decay of the first moment.", ge=0, le=0.9999)
    beta2: float = option(0.999, "Adam's decay of the second moment.", ge=0, le=0.99999)


class DCGAN3DGenerator(Generator):
    """Projects latents to a seed, 4 voxels on its shortest side, and doubles it with transposed convolutions.

    Args:
        data: Facts of the data; each length a power of two, at least 8.
        latent_dim: Length of a latent vector.
        width: Channels at half the resolution of the volume; doubled at each halving, up to 8 times.
    """

    mixes_classes = True

    def __init__(self, data: DataSpec, latent_dim: int, width: int) -> None:
        """Create the layers."""
        super().__init__(latent_dim)
        self.labels = data.labels
        widths = level_widths(width, halvings(data.size), most=_MOST)[::-1]
        self.base = seed_size(data.size)
        self.project = nn.Linear(latent_dim + data.num_labels, widths[0] * math.prod(self.base), bias=False)
        self.norm = nn.BatchNorm3d(widths[0])
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose3d(i, o, 4, stride=2, padding=1, bias=False), nn.BatchNorm3d(o), nn.ReLU()
                )
                for i, o in pairwise(widths)
            )
        )
        self.to_volume = nn.ConvTranspose3d(widths[-1], data.channels, 4, stride=2, padding=1)
        self.apply(initialise_normal)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make volumes; the labels are appended to the latents."""
        if self.labels is not None and labels is not None:
            latents = torch.cat([latents, label_vectors(labels, len(self.labels), self.labels.kind)], dim=1)
        seed = self.project(latents).view(len(latents), -1, *self.base)
        return torch.tanh(self.to_volume(self.blocks(F.relu(self.norm(seed)))))


class DCGAN3DDiscriminator(Discriminator):
    """Halves a volume with strided convolutions, each divided by its spectral norm, then weighs what is left.

    Labels are projected on the features: ``D(x, y) = w·φ(x) + b + (V y)·φ(x)``.

    Args:
        data: Facts of the data; each length a power of two, at least 8.
        width: Channels after the first layer; doubled at each halving, up to 8 times.

    References:
        Miyato et al., 2018, arXiv:1802.05957; Miyato and Koyama, 2018, arXiv:1802.05637.
    """

    def __init__(self, data: DataSpec, width: int) -> None:
        """Create the layers."""
        super().__init__()
        widths = level_widths(width, halvings(data.size), most=_MOST)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(spectral_norm(_initialised(nn.Conv3d(i, o, 4, stride=2, padding=1))), nn.LeakyReLU(0.2))
                for i, o in pairwise([data.channels, *widths])
            )
        )
        features = widths[-1] * math.prod(seed_size(data.size))
        self.realness = spectral_norm(_initialised(nn.Linear(features, 1)))
        self.embed = None
        if data.labels:
            self.embed = spectral_norm(_initialised(Projection(data.num_labels, features, data.labels.kind)))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge volumes, as of their labels."""
        features = self.blocks(images).flatten(1)
        realness = self.realness(features).squeeze(1)
        if self.embed is not None and labels is not None:
            realness = realness + self.embed(features, labels)
        return DiscriminatorOutput(realness, None, features)

    def stages(self) -> list[nn.Module]:
        """Return the blocks, one for each halving."""
        return list(self.blocks)


class DCGAN3DTrainer(AdversarialTrainer[DCGAN3DConfig]):
    """The hinge loss, or that of Goodfellow et al., 2014, arXiv:1406.2661, with the non-saturating generator's."""

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Tell real volumes from generated ones."""
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        hinge = self.config.loss == "hinge"
        loss = losses.hinge_discriminator if hinge else losses.non_saturating_discriminator
        return {"adversarial": loss(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Make volumes that are called real."""
        loss = losses.hinge_generator if self.config.loss == "hinge" else losses.non_saturating_generator
        return {"adversarial": loss(self.discriminator(*fake).realness)}


class DCGAN3D(GAN):
    """DCGAN of volumes, conditional where there are labels, with a spectrally normalised discriminator.

    The networks are those of 3D-GAN (Wu et al., 2016, arXiv:1610.07584), whose discriminator has batch normalisation,
    in place of which each of its layers is divided by its spectral norm here, so that a batch may be small. Labels go
    to the generator beside its latents, and are projected on the features of the discriminator.

    Presets: ``paper`` has the widths of 3D-GAN, for GPUs; ``small`` a quarter of them, for two CPU cores at 32 or 64
    voxels a side; ``tiny`` is for tests.

    References:
        Wu et al., 2016, arXiv:1610.07584 (networks); Kwon et al., 2019, arXiv:1908.02498 (of brain volumes).
    """

    name = "dcgan-3d"
    summary = "DCGAN of volumes with spectral normalisation; with and without labels"
    reference = "arXiv:1610.07584"
    api_version = 1
    Config = DCGAN3DConfig
    Trainer = DCGAN3DTrainer
    presets: ClassVar = {
        "paper": DCGAN3DConfig(),
        "small": DCGAN3DConfig(batch_size=8, latent_dim=128, width=16),
        "tiny": DCGAN3DConfig(batch_size=4, latent_dim=16, width=4),
    }
    default_preset = "small"
    spatial_dims = (3,)
    sides = Sides.powers_of_two(16, 128)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")

    def make_generator(self, config: DCGAN3DConfig, data: DataSpec) -> Generator:
        """Return a fresh `DCGAN3DGenerator`."""
        return DCGAN3DGenerator(data, config.latent_dim, config.width)

    def make_discriminator(self, config: DCGAN3DConfig, data: DataSpec) -> Discriminator:
        """Return a fresh `DCGAN3DDiscriminator`."""
        return DCGAN3DDiscriminator(data, config.width)


def _initialised(module: nn.Module) -> nn.Module:
    """Return the module with weights as `initialise_normal` has them; before its spectral norm is taken."""
    initialise_normal(module)
    return module
