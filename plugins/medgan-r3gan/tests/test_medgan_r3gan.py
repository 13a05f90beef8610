"""R3GAN: the compliance kit, its losses against independent computations, and its schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from medgan.augment import AdaptiveAugment
from medgan.core import GAN, Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import parametrize_with_checks
from medgan_r3gan import R3GAN, R3GANConfig
from medgan_r3gan.gan import R3GANTrainer, half_cosine
from medgan_r3gan.networks import R3GANDiscriminator

CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))
SMALL = DataSpec(1, (32, 32), CLASSES)
GREY = DataSpec(1, (64, 64), CLASSES)


@parametrize_with_checks([R3GAN])
def test_compliance(architecture: type[GAN], check: Callable[[type[GAN]], None]) -> None:
    check(architecture)


def stream(data: DataSpec, n: int = 8, start: int = 0) -> Iterator[Batch]:
    while True:
        rng = torch.Generator().manual_seed(start)
        images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
        yield Batch(images, torch.randint(data.num_labels, (n,), generator=rng) if data.labels else None)
        start += 1


def begun(data: DataSpec = SMALL, **options: Any) -> R3GANTrainer:
    trainer = R3GAN(data, preset="tiny", **options).make_trainer(device="cpu")
    assert isinstance(trainer, R3GANTrainer)
    return trainer


# --------------------------------------------------------------------------------------------- networks


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def expected(config: R3GANConfig, data: DataSpec) -> tuple[int, int]:
    """Weights of both networks, by arithmetic from the paper's description."""
    sizes = [4, 8, 16, 32, 64, 128, 256]
    sizes = sizes[: sizes.index(data.size[0]) + 1]
    widths = [config.width if size <= config.full_width_size else config.width * config.full_width_size // size
              for size in sizes]  # fmt: skip
    both = 0
    for width in widths:
        inside = config.expansion * width
        group = config.group_size or inside
        both += config.blocks * (2 * width * inside + inside * group * 9 + 2 * inside)
    both += sum(i * o for i, o in pairwise(widths) if i != o)
    both += widths[-1] * data.channels
    latents, classes = config.latent_dim, data.num_labels
    generator = widths[0] * 16 + widths[0] * latents * (2 if classes else 1) + classes * latents
    discriminator = widths[0] * 16 + widths[0] * (latents if classes else 1) + classes * latents
    return both + generator, both + discriminator


@pytest.mark.parametrize(
    ("preset", "data"),
    [
        ("tiny", GREY),
        ("small", DataSpec(3, (32, 32), CLASSES)),
        ("small", DataSpec(3, (256, 256))),
        ("paper", DataSpec(1, (128, 128), CLASSES)),
        ("paper", DataSpec(3, (256, 256))),
    ],
    ids=str,
)
def test_numbers_of_parameters(preset: str, data: DataSpec) -> None:
    config = R3GAN.presets[preset]
    gan = object.__new__(R3GAN)  # without the networks' weights, which would take seconds
    with torch.device("meta"):
        found = count(gan.make_generator(config, data)), count(gan.make_discriminator(config, data))
    assert found == expected(config, data)


def test_numbers_of_parameters_in_the_readme() -> None:
    numbers = {name: expected(config, GREY) for name, config in R3GAN.presets.items()}
    assert numbers == {
        "tiny": (5_194, 4_938),
        "small": (311_376, 307_280),
        "paper": (22_478_336, 22_429_184),
    }
    # The paper's faces: RGB, without classes.
    assert expected(R3GAN.presets["paper"], DataSpec(3, (64, 64)))[0] == 22_429_824


def test_networks_begin_without_detail_and_at_unit_scale() -> None:
    """The blocks begin as the identity, and what passes through all layers keeps its size."""
    data = DataSpec(1, (64, 64), CLASSES)
    gan = R3GAN(data)
    discriminator = gan.make_discriminator(gan.config, data)
    assert isinstance(discriminator, R3GANDiscriminator)
    hidden = torch.randn(64, 32, 16, 16)
    assert any(stage[0].widen.in_channels == 32 for stage in discriminator.blocks)
    stage = next(stage for stage in discriminator.blocks if stage[0].widen.in_channels == 32)
    torch.testing.assert_close(stage(hidden), hidden)
    with torch.no_grad():
        realness = discriminator(torch.randn(64, 1, 64, 64), torch.randint(2, (64,))).realness
    assert 0.005 < realness.std() < 2  # noise, most of which the halvings average away


@pytest.mark.parametrize("blocks", [1, 3])
def test_blocks_are_scaled_by_the_depth(blocks: int) -> None:
    """Standard deviation √(2 / (1 + 0.2²)) / √(fan-in) · L^(−1/4), with L blocks in all."""
    config = R3GANConfig(width=96, full_width_size=64, blocks=blocks, group_size=16)
    gan = R3GAN(DataSpec(1, (32, 32)), config)
    depth = 4 * blocks
    for module in (gan.generator, gan.make_discriminator(gan.config, gan.data)):
        for name, fan_in in (("widen", 96), ("mix", 16 * 9)):
            drawn = torch.cat([w.flatten() for n, w in module.named_parameters() if n.endswith(f"{name}.weight")])
            assert float(drawn.detach().std()) == pytest.approx(math.sqrt(2 / 1.04 / fan_in) * depth**-0.25, rel=0.02)
        assert all(not w.any() for n, w in module.named_parameters() if n.endswith("narrow.weight"))


def test_label_counts_in_the_discriminator_by_an_inner_product() -> None:
    trainer = begun()
    network: Any = trainer.discriminator
    images, labels = next(stream(trainer.data))
    with torch.no_grad():
        output = network(images, labels)
        embedded = network.embed.weight[labels]
        inner = (output.features @ network.realness.weight.T * embedded).sum(dim=1)
    torch.testing.assert_close(output.realness, inner)
    assert output.label_logits is None


# ----------------------------------------------------------------------------------------------- losses


def test_losses_against_numpy() -> None:
    trainer = begun()
    trainer.fit(stream(trainer.data), 2)
    images, labels = next(stream(trainer.data, start=5))
    fake = torch.rand(images.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    real_half, fake_half = Batch(images, labels), Batch(fake, labels)
    with torch.no_grad():
        on_real = trainer.discriminator(images, labels).realness.double().numpy()
        on_fake = trainer.discriminator(fake, labels).realness.double().numpy()
        terms = trainer.discriminator_loss(real_half, fake_half)
    assert terms.keys() == {"adversarial"}
    assert float(terms["adversarial"]) == pytest.approx(np.log1p(np.exp(-(on_real - on_fake))).mean(), rel=1e-5)
    with torch.no_grad():
        terms = trainer.generator_loss(real_half, fake_half)
    assert float(terms["adversarial"]) == pytest.approx(np.log1p(np.exp(-(on_fake - on_real))).mean(), rel=1e-5)


def test_penalty_is_that_of_both_halves_with_a_weight_that_falls() -> None:
    """γ/2 (E‖∇D(x)‖² + E‖∇D(G(z))‖²), with the slope of each image by itself, in float64."""
    trainer = begun(augment="none", penalty_weight=0.5, penalty_one_in=1, burn_in_penalty=10.0, burn_in_kimg=0.064)
    trainer.fit(stream(trainer.data), 2)  # 16 images of 64: a quarter of the way
    real, labels = next(stream(trainer.data, n=3, start=5))
    fake = torch.rand(real.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    penalty = float(trainer.gradient_penalty(Batch(real, labels), Batch(fake, labels)).detach())
    network = trainer.discriminator.double()

    def realness(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = network(image[None], label[None]).realness[0]
        return said

    squares = 0.0
    for images in (real.double(), fake.double()):
        slopes = [torch.func.grad(realness)(image, label) for image, label in zip(images, labels, strict=True)]
        squares += np.mean([float(slope.detach().square().sum()) for slope in slopes])
        # The steepest way up, by a central difference.
        shift = 1e-6 * slopes[0].detach() / slopes[0].detach().norm()
        with torch.no_grad():
            rise = realness(images[0] + shift, labels[0]) - realness(images[0] - shift, labels[0])
        assert float(rise / 2e-6) == pytest.approx(float(slopes[0].detach().norm()), rel=1e-4)
    weight = 0.5 * (1 + 9 * (1 + math.cos(math.pi / 4)) / 2)
    assert penalty == pytest.approx(weight / 2 * squares, rel=1e-3)


# -------------------------------------------------------------------------------------------- schedules


def test_annealing_is_half_a_cosine() -> None:
    shares = np.linspace(0, 1, 11)
    found = [half_cosine(3.0, 1.0, share) for share in shares]
    np.testing.assert_allclose(found, 2 + np.cos(np.pi * shares), atol=1e-12)
    assert half_cosine(3.0, 1.0, 7.0) == 1.0


def test_everything_follows_the_burn_in() -> None:
    """What each step is done with, for 8 of 32 images at a step; and the averaged weights, by their equation."""
    trainer = begun(
        burn_in_kimg=0.032,
        generator_lr=1e-3,
        discriminator_lr=2e-3,
        burn_in_lr=3.0,
        beta2=0.95,
        burn_in_beta2=0.5,
        ema_halflife=40,
        augment_probability=0.6,
    )
    average = {name: weight.detach().double() for name, weight in trainer.generator.named_parameters()}
    batches = stream(trainer.data)
    for step in range(6):
        trainer.fit(batches, 1)
        begin = (1 + math.cos(math.pi * min(1, step / 4))) / 2  # the share of the start, before the step
        for name, rate in (("generator", 1e-3), ("discriminator", 2e-3)):
            group = trainer.optimizers[name].param_groups[0]
            assert group["lr"] == pytest.approx(rate * (1 + 2 * begin))
            assert group["betas"] == pytest.approx((0.0, 0.95 - 0.45 * begin))
        assert trainer.augment.probability == pytest.approx(0.6 * (1 - begin))
        after = (1 + math.cos(math.pi * min(1, (step + 1) / 4))) / 2
        keep = 0.5 ** (8 / (40 * (1 - after)))
        for name, weight in trainer.generator.named_parameters():
            average[name] = keep * average[name] + (1 - keep) * weight.detach().double()
    for name, weight in trainer.averaged_generator.named_parameters():
        torch.testing.assert_close(weight.double(), average[name], rtol=1e-4, atol=1e-6)


def test_what_presets_say_gives_way_where_there_is_no_penalty_or_burn_in() -> None:
    plain = R3GANConfig()
    for preset in ("small", "tiny"):
        config = R3GAN.get_preset(preset).replace(gradient_penalty="none")
        assert (config.burn_in_penalty, config.penalty_weight, config.burn_in_lr) == (plain.burn_in_penalty, None, 1.5)
        config = R3GAN.get_preset(preset).replace(burn_in_kimg=0)
        assert (config.burn_in_lr, config.burn_in_penalty) == (plain.burn_in_lr, plain.burn_in_penalty)


def test_without_a_burn_in_the_ends_hold_at_once() -> None:
    trainer = begun(burn_in_kimg=0, generator_lr=1e-3, augment_probability=0.4)
    trainer.fit(stream(trainer.data), 1)
    group = trainer.optimizers["generator"].param_groups[0]
    assert (group["lr"], group["betas"], trainer.augment.probability) == (1e-3, (0.0, 0.99), 0.4)
    assert trainer.ema_halflife() == 500


def test_learning_rates_can_fall_at_the_end_besides() -> None:
    trainer = begun(burn_in_kimg=0.032, burn_in_lr=3.0, generator_lr=1e-3, lr_decay=0.5)
    rates = []
    batches = stream(trainer.data)
    for _ in range(8):
        trainer.fit(batches, 1, total_steps=8)
        rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])
    steps = np.arange(8)
    factor = 1 + 2 * (1 + np.cos(np.pi * np.minimum(1, steps / 4))) / 2
    np.testing.assert_allclose(rates, 1e-3 * factor * np.minimum(1, (8 - steps) / 4), rtol=1e-6)


def test_an_adaptive_augmentation_keeps_its_chance() -> None:
    trainer = begun(ada_target=0.6, augment_probability=0.25)
    assert isinstance(trainer.augment, AdaptiveAugment)
    trainer.fit(stream(trainer.data), 2)
    assert float(trainer.augment.probability) == 0.25  # it moves at every fourth step


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("data", "options", "hint"),
    [
        (DataSpec(1, (48, 48)), {}, "Try --size 32"),
        (DataSpec(1, (64, 32)), {}, "square"),
        (DataSpec(1, (64, 64)), {"group_size": 5}, "--group-size 0"),
        (DataSpec(1, (64, 64)), {"gradient_penalty": "none", "burn_in_penalty": 2.0}, "--gradient-penalty r1r2"),
        (DataSpec(1, (64, 64)), {"burn_in_kimg": 0, "burn_in_lr": 3.0}, "there is no burn-in. Type --burn-in-kimg 10"),
    ],
)
def test_what_cannot_be_is_refused(data: DataSpec, options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        R3GAN(data, preset="tiny", **options)
