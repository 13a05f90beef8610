"""An architecture that translates: what its networks are given, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from medgan.core import GAN, Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.models import ACGAN
from medgan.testing import check_architecture

SPEC = DataSpec(1, (16, 16), source_channels=3)
LABELS = LabelSpec(("left", "right"))


def make_batch(n: int = 4, data: DataSpec = SPEC) -> Batch:
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
    labels = None if data.labels is None else torch.arange(n) % len(data.labels)
    return Batch(images, labels, torch.rand(n, data.source_channels, *data.size, generator=rng) * 2 - 1)


def test_passes_the_kit(plain_pairs: type[GAN]) -> None:
    check_architecture(plain_pairs)


@pytest.mark.parametrize("data", [SPEC, replace(SPEC, labels=LABELS)], ids=str)
def test_translation_of_a_seed_and_a_source(plain_pairs: type[GAN], data: DataSpec) -> None:
    gan = plain_pairs(data)
    batch = make_batch(20, data)
    many = gan.sample(labels=batch.labels, sources=batch.sources, seed=5)
    assert many.images.shape == batch.images.shape
    assert torch.equal(many.sources, batch.sources)
    one = batch.select(slice(7, 8))
    alone = gan.sample(labels=one.labels, sources=one.sources, seed=12)
    assert torch.equal(alone.images[0], many.images[7])
    other = gan.sample(labels=one.labels, sources=one.sources, seed=13)
    assert not torch.equal(alone.images, other.images)  # another noise
    with torch.inference_mode():
        latents = gan.generator.make_latents(1, torch.Generator().manual_seed(12))
        by_hand = gan.generator(latents, one.labels, one.sources)
    assert torch.allclose(by_hand, alone.images, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 4}, "plain-pairs translates source images and needs some. Type medgan sample --model RUN --source"),
        ({"sources": torch.zeros(4, 1, 16, 16)}, r"must have the shape \(4, 3, 16, 16\), got \(4, 1, 16, 16\)"),
        ({"n": 3, "sources": torch.zeros(4, 3, 16, 16)}, r"must have the shape \(3, 3, 16, 16\)"),
        ({}, "n and seed must be whole numbers, got None"),
    ],
)
def test_sources_that_do_not_fit(plain_pairs: type[GAN], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plain_pairs(SPEC).sample(**options)


def test_data_that_does_not_fit(plain_pairs: type[GAN]) -> None:
    with pytest.raises(ConfigError, match=r"plain-pairs \(from \w+\) translates source images, but the data has none"):
        plain_pairs(DataSpec(1, (16, 16)))
    message = r"acgan \(from medgan\) makes images from nothing, but .* --arch, one that translates \(medgan archs"
    with pytest.raises(ConfigError, match=message):
        ACGAN(DataSpec(1, (32, 32), LABELS, source_channels=1))
    with pytest.raises(ConfigError, match="acgan makes images from nothing; it takes no sources"):
        ACGAN(DataSpec(1, (32, 32), LABELS)).sample(1, sources=torch.zeros(1, 1, 32, 32))


def test_networks_see_the_sources_of_the_batch(plain_pairs: type[GAN]) -> None:
    gan = plain_pairs(SPEC)
    trainer = gan.make_trainer(device="cpu")
    batch, given = make_batch(), []
    trainer.generator.register_forward_pre_hook(lambda _, inputs: given.append(inputs[2]))
    trainer.discriminator.register_forward_pre_hook(lambda _, inputs: given.append(inputs[2]))
    trainer.fit([batch], 1)
    assert len(given) == 5  # a translation, two judgements of the discriminator's step; one each of the generator's
    assert all(torch.equal(sources, batch.sources) for sources in given)


@pytest.mark.parametrize("policy", ["translation", "flip", "brightness,cutout"])
def test_pairs_and_their_translations_are_distorted_alike(plain_pairs: type[GAN], policy: str) -> None:
    """A true translation stays one, and images that are equal stay equal."""
    data = DataSpec(1, (16, 16), source_channels=1)
    trainer = plain_pairs(data, augment=policy).make_trainer(device="cpu")
    images = make_batch(8, data).images
    real, fake = trainer._augmented_halves(Batch(images, None, images), Batch(images.clone(), None, images))
    assert torch.equal(real.images, real.sources)
    assert torch.equal(real.images, fake.images)
    assert torch.equal(real.sources, fake.sources)
    assert not torch.equal(real.images, images)


@pytest.mark.parametrize("penalty", ["r1", "r1r2", "wgan-gp"])
def test_gradient_penalties_know_the_sources(plain_pairs: type[GAN], penalty: str) -> None:
    trainer = plain_pairs(SPEC, gradient_penalty=penalty, augment="translation").make_trainer(device="cpu")
    metrics = trainer.train_step(make_batch())
    assert metrics["discriminator/gradient_penalty"] >= 0
