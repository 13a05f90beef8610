"""DCGAN: the compliance kit, its losses against an independent computation, and the layers of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import parametrize_with_checks
from medgan_dcgan import DCGAN, DCGANConfig
from medgan_dcgan.networks import DCGANDiscriminator, DCGANGenerator

GREY = DataSpec(1, (64, 64), LabelSpec(("NORMAL", "PNEUMONIA")))


def count(module):
    return sum(weight.numel() for weight in module.parameters())


@parametrize_with_checks([DCGAN])
def test_compliance(architecture, check):
    check(architecture)


def test_losses_are_the_papers():
    """−log D(x) − log(1 − D(G(z))) and −log D(G(z)), with D the sigmoid of the realness; in numpy."""
    gan = DCGAN(GREY, preset="tiny")
    trainer = gan.make_trainer(device="cpu")
    labels = torch.tensor([0, 1, 1, 0])
    real, fake = (Batch(torch.rand(4, 1, 64, 64) * 2 - 1, labels) for _ in range(2))
    with torch.no_grad():
        on_real, on_fake = (trainer.discriminator(*half).realness.double().numpy() for half in (real, fake))
        found = trainer.discriminator_loss(real, fake) | {
            "generator": trainer.generator_loss(real, fake)["adversarial"]
        }
    sigmoid_real, sigmoid_fake = 1 / (1 + np.exp(-on_real)), 1 / (1 + np.exp(-on_fake))
    expected = {
        "adversarial": -np.log(sigmoid_real).mean() - np.log(1 - sigmoid_fake).mean(),
        "generator": -np.log(sigmoid_fake).mean(),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator"),
    [("tiny", 26_237, 17_729), ("small", 1_494_753, 1_082_625), ("paper", 18_881_409, 17_232_897)],
)
def test_parameter_counts(preset, generator, discriminator):
    gan = DCGAN(GREY, preset=preset)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, GREY)) == discriminator


def test_networks_are_those_of_the_paper():
    """Figure 1: 100 latents, 4×4×1024, then 512, 256 and 128 channels by four transposed convolutions to 64×64×3."""
    generator = DCGANGenerator(DataSpec(3, (64, 64)), 100, 128)
    ups = [part for part in generator.modules() if isinstance(part, nn.ConvTranspose2d)]
    assert generator.project.weight.shape == (4 * 4 * 1024, 100)
    assert [part.in_channels for part in ups] == [1024, 512, 256, 128]
    assert {(part.kernel_size, part.stride) for part in ups} == {((5, 5), (2, 2))}
    discriminator = DCGANDiscriminator(DataSpec(3, (64, 64)), 128)
    downs = [part for part in discriminator.modules() if isinstance(part, nn.Conv2d)]
    assert [part.out_channels for part in downs] == [128, 256, 512, 1024]
    # No batch normalisation at the generator's output and at the discriminator's input.
    assert sum(isinstance(part, nn.BatchNorm2d) for part in generator.modules()) == 4
    assert [type(part) for part in discriminator.blocks[0]] == [nn.Conv2d, nn.LeakyReLU]


def test_weights_start_as_in_the_paper():
    gan = DCGAN(GREY, preset="small")
    for module in (*gan.generator.modules(), *gan.make_discriminator(gan.config, GREY).modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.weight.numel() > 10_000:
            assert float(module.weight.detach().mean()) == pytest.approx(0, abs=1e-3)
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.03)
        if isinstance(module, nn.BatchNorm2d):
            assert float(module.weight.detach().mean()) == pytest.approx(1, abs=0.02)
            assert not module.bias.detach().any()


def test_options_are_the_papers():
    config = DCGAN.get_preset("paper")
    assert (config.batch_size, config.latent_dim, config.beta1, config.ema_halflife) == (128, 100, 0.5, 0)
    assert config.generator_lr == config.discriminator_lr == 2e-4
    latents = DCGAN(GREY, preset="tiny").generator.make_latents(5000, torch.Generator().manual_seed(0))
    assert float(latents.std()) == pytest.approx(1 / math.sqrt(3), rel=0.01)  # U(−1, 1)
    assert float(latents.abs().max()) <= 1


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (256, 256), (128, 32)])
def test_sizes(size):
    gan = DCGAN(DataSpec(1, size), preset="tiny")
    images = gan.sample(1).images
    assert images.shape == (1, 1, *size)
    coarsest = gan.make_discriminator(gan.config, gan.data).eval().blocks(images)
    assert coarsest.shape[2:] == tuple(4 * length // min(size) for length in size)


@pytest.mark.parametrize(("size", "near"), [((48, 48), 32), ((512, 512), 256), ((64, 100), 128)])
def test_other_sizes_are_refused(size, near):
    with pytest.raises(ConfigError, match=f"32, 64, 128 or 256 pixels a side, got {size[0]}×{size[1]}.*--size {near}"):
        DCGAN(DataSpec(1, size))


def test_unknown_labels_count_as_neutral():
    data = DataSpec(1, (32, 32), LabelSpec(("effusion", "mass"), "multilabel"))
    discriminator = DCGANDiscriminator(data, 4).eval()
    images = torch.zeros(1, 1, 32, 32)
    unknown, half = (discriminator(images, torch.tensor([[value, 1.0]])).realness for value in (math.nan, 0.5))
    assert torch.equal(unknown, half)


@pytest.mark.parametrize("kind", ["categorical", "multilabel"])
def test_images_without_their_labels_are_of_no_class_and_of_unknown_findings(kind):
    data = DataSpec(1, (32, 32), LabelSpec(("effusion", "mass"), kind))
    discriminator = DCGANDiscriminator(data, 4).eval()
    images = torch.rand(3, 1, 32, 32)
    planes = torch.full((3, 2, 32, 32), 0.5 if kind == "multilabel" else 0.0)
    expected = discriminator.blocks(torch.cat([images, planes], dim=1)).flatten(1)
    assert torch.equal(discriminator(images).features, expected)


def test_names():
    assert DCGAN.Config is DCGANConfig
    assert set(DCGAN.presets) == {"tiny", "small", "paper"}
