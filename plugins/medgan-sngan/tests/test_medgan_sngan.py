"""SNGAN: the compliance kit, the hinge loss and the projection in numpy, spectral norms by SVD, the papers' tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import checks, parametrize_with_checks
from medgan_sngan import SNGAN
from medgan_sngan.networks import SNGANDiscriminator

GREY = DataSpec(1, (64, 64), LabelSpec(("NORMAL", "PNEUMONIA")))
SMALL_IMAGES = DataSpec(1, (32, 32), LabelSpec(("first", "second", "third")))


class BatchNormSNGAN(SNGAN):
    """The generator's normalisation of the paper, at the size of a test."""

    presets = {  # noqa: RUF012 - as in the class it replaces
        **SNGAN.presets,
        "tiny": SNGAN.presets["tiny"].replace(generator_norm="batch"),
    }


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def conv(channels_in, channels_out, kernel):
    return kernel**2 * channels_in * channels_out + channels_out


def batches(n):
    """Return a real and a generated batch, both of random numbers."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    return tuple(Batch(torch.rand(n, 1, 32, 32, generator=rng) * 2 - 1, labels) for _ in range(2))


@parametrize_with_checks([SNGAN])
def test_compliance(architecture, check):
    check(architecture)


@pytest.mark.parametrize("name", ["labels_matter", "sample_number", "save_load", "accumulation", "resume"])
def test_compliance_with_batch_normalisation(name):
    (check,) = [check for check in checks() if check.__name__ == f"check_{name}"]
    check(BatchNormSNGAN)


def test_losses_are_the_papers():
    """max(0, 1 − D(x)) + max(0, 1 + D(G(z))) and −D(G(z)), image by image."""
    trainer = SNGAN(SMALL_IMAGES, preset="tiny").make_trainer(device="cpu")
    trainer.discriminator.eval()
    with torch.no_grad():  # far enough that both hinges bend
        trainer.discriminator.realness.bias.add_(0.8)
    real, fake = batches(12)
    with torch.no_grad():
        found = {
            "discriminator": float(trainer.discriminator_loss(real, fake)["adversarial"]),
            "generator": float(trainer.generator_loss(real, fake)["adversarial"]),
        }
        on_real, on_fake = (trainer.discriminator(*half).realness.double().tolist() for half in (real, fake))
    expected = {
        "discriminator": sum(max(0, 1 - value) for value in on_real) / 12 + sum(max(0, 1 + v) for v in on_fake) / 12,
        "generator": -sum(on_fake) / 12,
    }
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["categorical", "multilabel"])
def test_realness_is_a_projection(kind):
    """ψ(φ(x)) + y·V φ(x), with the weights' spectral norms from singular values."""
    data = DataSpec(1, (32, 32), LabelSpec(("first", "second", "third"), kind))
    torch.manual_seed(0)
    discriminator = SNGANDiscriminator(data, 2, "doubling").eval()
    labels = torch.tensor([2, 0]) if kind == "categorical" else torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, torch.nan]])
    vectors = {"categorical": [[0, 0, 1], [1, 0, 0]], "multilabel": [[1, 0, 1], [0, 1, 0.5]]}[kind]
    with torch.no_grad():
        said = discriminator(batches(2)[0].images, labels)
        weight, embedding = (
            layer.parametrizations.weight.original.double().numpy()
            for layer in (discriminator.realness, discriminator.embed)
        )
        bias = discriminator.realness.bias.double().numpy()
    weight, embedding = (matrix / np.linalg.svd(matrix)[1][0] for matrix in (weight, embedding))
    features = said.features.double().numpy()
    expected = features @ weight[0] + bias + (np.array(vectors) @ embedding.T * features).sum(axis=1)
    np.testing.assert_allclose(said.realness.numpy(), expected, rtol=2e-3)
    assert np.abs(expected).min() > 0.01


def test_every_layer_is_divided_by_its_spectral_norm():
    """After some steps, and passes in which the estimate catches up; the embedding of labels is no exception."""
    trainer = SNGAN(SMALL_IMAGES, preset="tiny", discriminator_lr=1e-3).make_trainer(device="cpu")
    real, _ = batches(8)
    trainer.fit([real] * 10, 10)
    with torch.no_grad():
        for _ in range(100):  # as many as equal singular values, almost, need
            trainer.discriminator(*real)
    layers = [layer for layer in trainer.discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4 * 3 + 2  # of each block two convolutions and the shortcut; realness and embedding
    for layer in layers:
        values = np.linalg.svd(layer.weight.detach().flatten(1).double().numpy())[1]
        assert values[0] == pytest.approx(1, abs=0.02)
    originals = [layer.parametrizations.weight.original.detach().flatten(1).double().numpy() for layer in layers]
    assert max(np.linalg.svd(original)[1][0] for original in originals) > 1.2
    free = {name for name, _ in trainer.discriminator.named_parameters() if not name.endswith((".original", ".bias"))}
    assert free == set()


@pytest.mark.parametrize("classes", [0, 10])
def test_networks_of_cifar_are_those_of_the_table(classes):
    """Miyato et al., table 4; with classes, conditional batch normalisation and an embedding as in arXiv:1802.05637."""
    labels = LabelSpec(tuple("0123456789")) if classes else None
    gan = SNGAN(DataSpec(3, (32, 32), labels), preset="cifar")
    rows = max(classes, 1)  # pairs of a scale and a shift
    block = 2 * (2 * 256 * rows) + 2 * conv(256, 256, 3) + conv(256, 256, 1)
    generator = 128 * 4 * 4 * 256 + 4 * 4 * 256 + 3 * block + 2 * 256 + conv(256, 3, 3)
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    second = 2 * conv(128, 128, 3) + conv(128, 128, 1)
    discriminator = first + second + 2 * (2 * conv(128, 128, 3)) + 128 + 1 + 128 * classes
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, gan.data)) == discriminator
    if not classes:
        assert (generator, discriminator) == (4_276_739, 1_053_825)


def test_networks_of_imagenet_are_those_of_the_table():
    """Both papers, 128 pixels: ResBlocks of 1024, 512, 256, 128 and 64 channels, and back up to 1024 twice."""
    gan = SNGAN(DataSpec(3, (128, 128), LabelSpec(("first", "second"))), preset="paper")
    widths = [1024, 1024, 512, 256, 128, 64]
    generator = 128 * 4 * 4 * 1024 + 4 * 4 * 1024 + 2 * 64 + conv(64, 3, 3)
    for i, o in pairwise(widths):
        generator += 2 * 2 * (i + o) + conv(i, o, 3) + conv(o, o, 3) + conv(i, o, 1)
    discriminator = conv(3, 64, 3) + conv(64, 64, 3) + conv(3, 64, 1) + 2 * conv(1024, 1024, 3) + 1025 + 2 * 1024
    for i in (64, 128, 256, 512):
        discriminator += conv(i, i, 3) + conv(i, 2 * i, 3) + conv(i, 2 * i, 1)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, gan.data)) == discriminator


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator"),
    [
        ("tiny", 19_217, 10_169),
        ("small", 1_164_641, 635_521),
        ("paper", 12_225_281, 10_142_209),
        ("cifar", 5_523_201, 1_363_201),
    ],
)
def test_parameter_counts(preset, generator, discriminator):
    gan = SNGAN(GREY, preset=preset)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, GREY)) == discriminator


@pytest.mark.parametrize("preset", ["paper", "cifar"])
def test_optimisation_is_the_papers(preset):
    config = SNGAN.get_preset(preset)
    assert (config.generator_lr, config.discriminator_lr, config.beta1, config.beta2) == (2e-4, 2e-4, 0, 0.9)
    assert (config.discriminator_steps, config.batch_size, config.generator_norm) == (5, 64, "batch")


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (128, 128), (256, 256), (128, 64)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("growth", ["doubling", "constant"])
def test_sizes(size, channels, growth):
    gan = SNGAN(DataSpec(channels, size, GREY.labels), preset="tiny", channel_growth=growth)
    images = gan.sample(2).images
    assert images.shape == (2, channels, *size)
    assert gan.make_discriminator(gan.config, gan.data)(images, torch.tensor([0, 1])).realness.shape == (2,)


def test_without_labels():
    gan = SNGAN(DataSpec(1, (32, 32)), preset="tiny")
    discriminator = gan.make_discriminator(gan.config, gan.data)
    assert discriminator.embed is None
    assert discriminator(torch.zeros(2, 1, 32, 32)).realness.shape == (2,)


def test_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match=r"got 48×48\. Try --size 32"):
        SNGAN(DataSpec(1, (48, 48)), preset="tiny")
