"""A plain architecture that the core's tests train, and images for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    LabelSpec,
)


class PlainGenerator(Generator):
    def __init__(self, config: GANConfig, data: DataSpec) -> None:
        super().__init__(config.latent_dim)
        self.data = data
        self.hidden = nn.Linear(config.latent_dim + data.num_labels, 8)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.2)
        self.to_image = nn.Linear(8, data.channels * data.size[0] * data.size[1])

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            known = F.one_hot(labels, self.data.num_labels) if labels.ndim == 1 else labels
            latents = torch.cat([latents, known.to(latents)], dim=1)
        hidden = self.dropout(F.relu(self.norm(self.hidden(latents))))
        return torch.tanh(self.to_image(hidden)).view(-1, self.data.channels, *self.data.size)


class PlainDiscriminator(Discriminator):
    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(data.channels, 4, 3)
        self.realness = nn.Linear(4, 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        features = F.leaky_relu(self.conv(images), 0.2).mean((2, 3))
        return DiscriminatorOutput(self.realness(features).squeeze(1), None, features)


class PlainTrainer(AdversarialTrainer[GANConfig]):
    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_real, on_fake = self.discriminator(real.images), self.discriminator(fake.images)
        return {"hinge": losses.hinge_discriminator(on_real.realness, on_fake.realness)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        return {"hinge": losses.hinge_generator(self.discriminator(fake.images).realness)}


class Plain(GAN):
    """A plain architecture."""

    name = "plain"
    summary = "A plain architecture"
    Trainer = PlainTrainer
    presets: ClassVar[dict[str, GANConfig]] = {
        "tiny": GANConfig(latent_dim=4, batch_size=4, ema_halflife=20, generator_lr=1e-2, discriminator_lr=1e-2),
        "large": GANConfig(latent_dim=64),
    }
    default_preset = "tiny"
    label_kinds = ("categorical", "multilabel", "ordinal", "continuous")

    def make_generator(self, config: GANConfig, data: DataSpec) -> Generator:
        return PlainGenerator(config, data)

    def make_discriminator(self, config: GANConfig, data: DataSpec) -> Discriminator:
        return PlainDiscriminator(data)


class RandomImages:
    """A data set of noise whose batch at each step depends on its number alone."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.asked: list[dict[str, Any]] = []

    def batch(self, n: int, step: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        images = torch.rand(n, self.spec.channels, *self.spec.size, generator=rng) * 2 - 1
        labels = torch.randint(self.spec.num_labels, (n,), generator=rng) if self.spec.labels else None
        return Batch(images, labels)

    def batches(self, batch_size: int, *, start_step: int, **options: Any) -> Iterator[Batch]:
        self.asked.append({"batch_size": batch_size, "start_step": start_step, **options})
        step = start_step
        while True:
            yield self.batch(batch_size, step)
            step += 1

    def provenance(self) -> dict[str, Any]:
        return {"source": "noise", "licence": "CC0"}


@pytest.fixture
def data() -> DataSpec:
    return DataSpec(1, (8, 6), LabelSpec(("NORMAL", "PNEUMONIA", "OTHER")))


@pytest.fixture
def plain() -> type[GAN]:
    return Plain


@pytest.fixture
def gan(data: DataSpec) -> GAN:
    return Plain(data)


@pytest.fixture
def images(data: DataSpec) -> RandomImages:
    return RandomImages(data)


@pytest.fixture
def stream(images: RandomImages) -> Callable[..., Iterator[Batch]]:
    """Batches of four, from a step on."""
    return lambda start=0, n=4: images.batches(n, start_step=start)
