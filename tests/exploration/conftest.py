"""A generator of which everything is known: a basis for the latents, and a patch for the second class."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan.core import GAN, AdversarialTrainer, DataSpec, Discriminator, GANConfig, Generator, LabelSpec
from medgan.nn import label_vectors
from medgan.training.frozen_features import Described

SIDE = 16
PATCH = 0.4  # what the second label adds, in the upper left quarter


class PlainGenerator(Generator):
    mixes_classes = True

    def __init__(self, data: DataSpec, latent_dim: int, kind: str) -> None:
        super().__init__(latent_dim)
        rng = torch.Generator().manual_seed(3)
        coarse = torch.randn(latent_dim, data.channels, *(4,) * len(data.size), generator=rng)
        size: Any = data.size
        self.basis = torch.nn.Parameter(torch.nn.functional.interpolate(coarse, size=size))
        patch = torch.zeros(1, data.channels, *data.size)
        patch[(..., *(slice(0, length // 2) for length in data.size))] = PATCH
        self.patch = torch.nn.Parameter(patch)
        self.labels = data.labels
        self.kind = kind

    def make_latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        drawn = super().make_latents(n, rng)
        return drawn if self.kind == "normal" else torch.erf(drawn / 2**0.5)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = 0.05 * torch.tensordot(latents, self.basis, dims=1)
        if labels is not None and self.labels is not None:
            vectors = label_vectors(labels, len(self.labels), self.labels.kind)
            column = -1 if self.labels.kind in ("categorical", "ordinal") else 0
            images = images + vectors[:, column].view(-1, *(1,) * (self.patch.ndim - 1)) * self.patch
        return images.clamp(-1, 1)


class PlainGAN(GAN):
    """Images of which everything is known."""

    name = "plain"
    summary = "Images of which everything is known"
    Trainer = AdversarialTrainer
    presets: ClassVar = {"tiny": GANConfig(latent_dim=8)}
    default_preset = "tiny"
    spatial_dims = (2, 3)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")
    latents: ClassVar[str] = "normal"

    def make_generator(self, config: GANConfig, data: DataSpec) -> Generator:
        return PlainGenerator(data, config.latent_dim, self.latents)

    def make_discriminator(self, config: GANConfig, data: DataSpec) -> Discriminator:
        raise NotImplementedError


class UniformGAN(PlainGAN):
    """The same with uniform latents."""

    latents = "uniform"


class PatchFeatures:
    """Sees how bright the patch is beside the rest, and takes an image for the second class where it is."""

    name = "patch"
    sha256 = "0" * 64
    thresholds = None

    def describe(self, images: Tensor) -> Described:
        lengths = images.shape[2:]
        inside = images[(..., *(slice(0, length // 2) for length in lengths))].flatten(1).mean(dim=1)
        share = torch.sigmoid(40 * (inside - PATCH / 2)).double().numpy()
        return Described(np.stack([inside.double().numpy(), images.flatten(1).std(dim=1).double().numpy()], axis=1),
                         np.stack([1 - share, share], axis=1))  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _few_samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medgan.exploration.exploring._POOL", 24)
        patch.setattr("medgan.exploration.exploring._CLASSIFIER_SECONDS", 0.2)
        yield


CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))


@pytest.fixture
def plain() -> PlainGAN:
    return PlainGAN(DataSpec(1, (SIDE, SIDE), CLASSES))


@pytest.fixture
def make_plain():
    def make(labels: LabelSpec | None = CLASSES, *, size=(SIDE, SIDE), channels=1, uniform=False) -> PlainGAN:
        return (UniformGAN if uniform else PlainGAN)(DataSpec(channels, size, labels))

    return make


@pytest.fixture
def patch_features() -> PatchFeatures:
    return PatchFeatures()
