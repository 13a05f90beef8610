"""WGAN-GP: the compliance kit, its losses in numpy and its penalty by finite differences, the authors' networks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import checks, parametrize_with_checks
from medgan_wgan_gp import WGANGP, WGANGPConfig
from medgan_wgan_gp.networks import WGANGPCritic

GREY = DataSpec(1, (64, 64), LabelSpec(("NORMAL", "PNEUMONIA")))
SMALL_IMAGES = DataSpec(1, (32, 32), LabelSpec(("first", "second", "third")))


class BatchNormWGANGP(WGANGP):
    """The generator's normalisation of the paper, at the size of a test."""

    presets = {  # noqa: RUF012 - as in the class it replaces
        **WGANGP.presets,
        "tiny": WGANGP.presets["tiny"].replace(generator_norm="batch"),
    }


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def conv(channels_in, channels_out, kernel):
    return kernel**2 * channels_in * channels_out + channels_out


def batches(n, data=SMALL_IMAGES):
    """Return a real and a generated batch, both of random numbers."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % len(data.labels)
    return tuple(Batch(torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1, labels) for _ in range(2))


@parametrize_with_checks([WGANGP])
def test_compliance(architecture, check):
    check(architecture)


@pytest.mark.parametrize("name", ["labels_matter", "sample_number", "save_load", "accumulation", "resume"])
def test_compliance_with_batch_normalisation(name):
    (check,) = [check for check in checks() if check.__name__ == f"check_{name}"]
    check(BatchNormWGANGP)


def test_losses_are_the_papers():
    """E D(G(z)) − E D(x) and −E D(G(z)); beside them the cross-entropy of the labels, by 1 and by 0.1; in numpy."""
    trainer = WGANGP(SMALL_IMAGES, preset="tiny").make_trainer(device="cpu")
    real, fake = batches(7)
    with torch.no_grad():
        on_real, on_fake = trainer.discriminator(*real), trainer.discriminator(*fake)
        found = {
            f"discriminator/{name}": float(value) for name, value in trainer.discriminator_loss(real, fake).items()
        }
        found |= {f"generator/{name}": float(value) for name, value in trainer.generator_loss(real, fake).items()}

    def entropy(logits):
        odds = np.exp(logits.double().numpy())
        return -np.log((odds / odds.sum(axis=1, keepdims=True))[np.arange(7), np.arange(7) % 3]).mean()

    realness, faked = (said.realness.double().numpy() for said in (on_real, on_fake))
    expected = {
        "discriminator/adversarial": faked.mean() - realness.mean(),
        "discriminator/label": entropy(on_real.label_logits),
        "generator/adversarial": -faked.mean(),
        "generator/label": 0.1 * entropy(on_fake.label_logits),
    }
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_penalty_by_finite_differences():
    """10 E(‖∇D(x̂)‖ − 1)², with x̂ = u x + (1 − u) G(z), each derivative a difference of two realnesses."""
    trainer = WGANGP(SMALL_IMAGES, preset="tiny").make_trainer(device="cpu")
    real, fake = batches(2)
    shares = torch.tensor([0.3, 0.8])
    trainer.draw = lambda n, make: shares
    found = float(trainer.gradient_penalty(real, fake).detach())
    critic = copy.deepcopy(trainer.discriminator).double()
    step, norms = 1e-6, []
    with torch.no_grad():
        for x, fx, u in zip(real.images.double(), fake.images.double(), shares.double(), strict=True):
            between = u * x + (1 - u) * fx
            moves = step * torch.eye(32 * 32, dtype=torch.float64).view(-1, 1, 32, 32)
            slope = (critic(between + moves).realness - critic(between - moves).realness) / (2 * step)
            norms.append(float(slope.square().sum().sqrt()))
    assert found == pytest.approx(10 * np.mean([(norm - 1) ** 2 for norm in norms]), rel=1e-3)


def test_step_adds_the_penalty():
    trainer = WGANGP(SMALL_IMAGES, preset="tiny").make_trainer(device="cpu")
    logged = trainer.train_step(batches(trainer.config.images_per_step)[0])
    assert float(logged["discriminator/gradient_penalty"]) > 0


@pytest.mark.parametrize("growth", ["doubling", "constant"])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_critic_judges_each_image_by_itself(growth, norm):
    """Without that, the slope at an image would not be that of its realness."""
    torch.manual_seed(0)
    critic = WGANGPCritic(SMALL_IMAGES, 4, growth, norm)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in critic.modules()) == (norm == "layer")
    images, labels = batches(5)[0]
    together = critic(images, labels)
    torch.testing.assert_close(critic(images[3:4], labels[3:4]).realness[0], together.realness[3])
    assert torch.equal(critic(images, labels.flip(0)).realness, together.realness)
    assert len(critic.stages()) == (3 if growth == "doubling" else 4)


@pytest.mark.parametrize("classes", [0, 10])
def test_networks_of_cifar_are_those_of_the_appendix(classes):
    """Gulrajani et al., appendix: four residual blocks of 128 channels each way; with classes a head, and 10 scales."""
    labels = LabelSpec(tuple("0123456789")) if classes else None
    gan = WGANGP(DataSpec(3, (32, 32), labels), preset="cifar")
    rows = max(classes, 1)  # pairs of a scale and a shift
    block = 2 * (2 * 128 * rows) + 2 * conv(128, 128, 3) + conv(128, 128, 1)
    generator = 128 * 4 * 4 * 128 + 4 * 4 * 128 + 3 * block + 2 * 128 + conv(128, 3, 3)
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    second = 2 * conv(128, 128, 3) + conv(128, 128, 1)
    critic = first + second + 2 * (2 * conv(128, 128, 3)) + 128 + 1 + (128 + 1) * classes
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, gan.data)) == critic
    if not classes:
        assert (generator, critic) == (1_204_483, 1_053_825)


def test_networks_of_64_pixels_are_the_authors():
    """4×4×512, blocks of 512, 256, 128 and 64 channels, and back; their first convolutions have no bias, these do."""
    gan = WGANGP(DataSpec(3, (64, 64)), preset="paper")
    generator = 128 * 4 * 4 * 512 + 4 * 4 * 512 + 2 * 64 + conv(64, 3, 3)
    for i, o in ((512, 512), (512, 256), (256, 128), (128, 64)):
        generator += 2 * (i + o) + conv(i, o, 3) + conv(o, o, 3) + conv(i, o, 1)
    critic = conv(3, 64, 3) + 4 * 4 * 512 + 1
    for i, o in ((64, 128), (128, 256), (256, 512), (512, 512)):
        critic += 2 * (i + i) + conv(i, i, 3) + conv(i, o, 3) + conv(i, o, 1)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, gan.data)) == critic


@pytest.mark.parametrize(
    ("preset", "generator", "critic"),
    [
        ("tiny", 12_209, 8_329),
        ("small", 735_841, 268_959),
        ("paper", 8_545_025, 7_508_035),
        ("cifar", 1_516_417, 1_363_203),
    ],
)
def test_parameter_counts(preset, generator, critic):
    gan = WGANGP(GREY, preset=preset)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, GREY)) == critic


def test_optimisation_is_the_papers():
    """Algorithm 1, and what the appendix has for CIFAR-10."""
    config = WGANGP.get_preset("paper")
    assert (config.generator_lr, config.discriminator_lr, config.beta1, config.beta2) == (1e-4, 1e-4, 0, 0.9)
    assert (config.discriminator_steps, config.batch_size, config.generator_norm) == (5, 64, "batch")
    cifar = WGANGP.get_preset("cifar")
    assert (cifar.generator_lr, cifar.discriminator_lr, cifar.lr_decay, cifar.critic_norm) == (2e-4, 2e-4, 1, "none")


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (128, 128), (256, 256), (128, 64)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("growth", ["doubling", "constant"])
def test_sizes(size, channels, growth):
    gan = WGANGP(DataSpec(channels, size, GREY.labels), preset="tiny", channel_growth=growth)
    images = gan.sample(2).images
    assert images.shape == (2, channels, *size)
    said = gan.make_discriminator(gan.config, gan.data)(images)
    assert said.realness.shape == (2,)
    assert said.label_logits.shape == (2, 2)


def test_without_labels_there_is_no_head():
    gan = WGANGP(DataSpec(1, (32, 32)), preset="tiny")
    trainer = gan.make_trainer(device="cpu")
    real, fake = (Batch(half.images, None) for half in batches(4))
    assert set(trainer.discriminator_loss(real, fake)) == set(trainer.generator_loss(real, fake)) == {"adversarial"}
    assert trainer.discriminator(real.images).label_logits is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_penalty": "none"}, "Type --gradient-penalty wgan-gp"),
        ({"gradient_penalty": "r1"}, "Type --gradient-penalty wgan-gp"),
        ({"penalty_weight": 0.0}, "--penalty-weight above 0"),
    ],
)
def test_refuses_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        WGANGPConfig(**options)


def test_refuses_other_sizes():
    with pytest.raises(ConfigError, match=r"got 48×48\. Try --size 32"):
        WGANGP(DataSpec(1, (48, 48)), preset="tiny")
