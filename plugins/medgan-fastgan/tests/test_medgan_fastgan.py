"""FastGAN: the compliance kit, its losses against independent computations, and its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from medgan.core import GAN, Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import parametrize_with_checks
from medgan_fastgan import FastGAN, FastGANConfig
from medgan_fastgan.gan import FastGANTrainer
from medgan_fastgan.networks import FastGANDiscriminator, FastGANGenerator, Judgement, SkipLayerExcitation, quarter

CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))
GREY = DataSpec(1, (64, 64), CLASSES)


@parametrize_with_checks([FastGAN])
def test_compliance(architecture: type[GAN], check: Callable[[type[GAN]], None]) -> None:
    check(architecture)


def stream(data: DataSpec, n: int = 8, start: int = 0) -> Iterator[Batch]:
    while True:
        rng = torch.Generator().manual_seed(start)
        images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
        yield Batch(images, torch.randint(data.num_labels, (n,), generator=rng) if data.labels else None)
        start += 1


def begun(data: DataSpec = GREY, **options: Any) -> FastGANTrainer:
    trainer = FastGAN(data, preset="tiny", **options).make_trainer(device="cpu")
    assert isinstance(trainer, FastGANTrainer)
    return trainer


# --------------------------------------------------------------------------------------------- networks


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def expected(config: FastGANConfig, data: DataSpec) -> tuple[int, int]:
    """Weights of both networks, by arithmetic from the paper's description."""
    w, size, channels, classes = config.width, data.size[0], data.channels, data.num_labels
    table = {4: 16 * w, 8: 8 * w, 16: 4 * w, 32: 2 * w, 64: 2 * w, 128: w, 256: w // 2}
    condition = config.latent_dim * (2 if classes else 1)
    sizes = [s for s in table if s <= size]
    up = lambda i, o: i * 2 * o * 9 + 2 * 2 * o  # noqa: E731
    generator = condition * 32 * 16 * w + 4 * 16 * w + classes * config.latent_dim
    generator += sum(up(table[i], table[o]) for i, o in pairwise(sizes))
    for s in sizes:
        if s >= 64:  # a 4×4 and a 1×1 convolution, with biases, from the map a sixteenth of the size
            generator += table[s // 16] * table[s] * 16 + table[s] + table[s] ** 2 + table[s]
    generator += table[size] * channels * 9 + channels

    down = [s for s in reversed(sizes) if s >= 8]
    discriminator = channels * table[size] * 9 + table[size]
    for i, o in pairwise(down):
        a, b = table[i], table[o]
        discriminator += a * b * 16 + b * b * 9 + a * b + 3 * 2 * b
    a = table[8]
    discriminator += a * a + 2 * a + (a + bool(config.minibatch_std)) * 16 + 1 + classes * a
    half = {s: max(1, n // 2) for s, n in table.items()}
    for source, target in ((8, min(size, 128)), (16, min(size // 2, 128))):
        widths = [table[source], *(half[s] for s in (16, 32, 64, 128) if s <= target)]
        discriminator += sum(up(i, o) for i, o in pairwise(widths)) + widths[-1] * channels * 9 + channels
    return generator, discriminator


@pytest.mark.parametrize(
    ("preset", "data"),
    [
        ("tiny", GREY),
        ("small", DataSpec(3, (128, 128), CLASSES)),
        ("small", DataSpec(1, (256, 256))),
        ("paper", DataSpec(3, (256, 256))),
        ("paper", GREY),
    ],
    ids=str,
)
def test_numbers_of_parameters(preset: str, data: DataSpec) -> None:
    config = FastGAN.presets[preset]
    gan = object.__new__(FastGAN)  # without the networks' weights, which would take seconds
    with torch.device("meta"):
        found = count(gan.make_generator(config, data)), count(gan.make_discriminator(config, data))
    assert found == expected(config, data)


def test_numbers_of_parameters_in_the_readme() -> None:
    numbers = {name: expected(config, GREY) for name, config in FastGAN.presets.items()}
    assert numbers == {
        "tiny": (47_549, 8_999),
        "small": (1_281_201, 136_259),
        "paper": (31_582_081, 8_580_483),
    }


def test_excitation_weights_channels() -> None:
    torch.manual_seed(0)
    block = SkipLayerExcitation(3, 2).double()
    coarse, fine = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 2, 16, 16, dtype=torch.float64)
    pooled = coarse.view(2, 3, 4, 2, 4, 2).mean(dim=(3, 5)).numpy()
    first, second = block.weigh[1], block.weigh[3]
    read = np.einsum("nchw,ochw->no", pooled, first.weight.detach().numpy()) + first.bias.detach().numpy()
    read = np.where(read > 0, read, 0.1 * read)
    logits = read @ second.weight.detach().numpy()[:, :, 0, 0].T + second.bias.detach().numpy()
    weights = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(block(coarse, fine).detach().numpy(), weights[:, :, None, None] * fine.numpy())


@pytest.mark.parametrize(("size", "pairs"), [(64, [(4, 64)]), (256, [(4, 64), (8, 128), (16, 256)])])
def test_excitation_leaps_over_four_levels(size: int, pairs: list[tuple[int, int]]) -> None:
    generator = FastGANGenerator(DataSpec(1, (size, size)), 8, 4).eval()
    seen: list[tuple[int, int]] = []
    for block in generator.excitations:
        block.register_forward_hook(lambda _, inputs, __: seen.append((inputs[0].shape[-1], inputs[1].shape[-1])))
    with torch.no_grad():
        generator(torch.randn(1, 8))
    assert seen == pairs


@pytest.mark.parametrize(("size", "whole", "part"), [(64, 64, 32), (128, 128, 64), (256, 128, 128)])
def test_sizes_of_reconstructions(size: int, whole: int, part: int) -> None:
    discriminator = FastGANDiscriminator(DataSpec(3, (size, size)), 2).eval()
    with torch.no_grad():
        judgement: Judgement = discriminator(torch.zeros(2, 3, size, size))
        shapes = [images.shape for images in discriminator.reconstruct(judgement, torch.tensor([0, 3]))]
    assert shapes == [(2, 3, whole, whole), (2, 3, part, part)]
    assert judgement.patches.shape == (2, 5, 5)
    torch.testing.assert_close(judgement.realness, judgement.patches.flatten(1).mean(dim=1))


def test_quarters() -> None:
    images = torch.arange(4 * 16).float().view(4, 1, 4, 4)
    cut = quarter(images, torch.tensor([0, 1, 2, 3]))
    expected = [images[0, :, :2, :2], images[1, :, :2, 2:], images[2, :, 2:, :2], images[3, :, 2:, 2:]]
    torch.testing.assert_close(cut, torch.stack(expected), rtol=0, atol=0)


def test_label_is_added_to_each_patch() -> None:
    discriminator: Any = begun(minibatch_std=0).discriminator.eval()
    images, labels = next(stream(GREY))
    with torch.no_grad():
        judged, plain = discriminator(images, labels), discriminator(images)
        inner = (discriminator.embed.weight[labels] * judged.features).sum(dim=1)
    torch.testing.assert_close(judged.patches - plain.patches, inner.view(-1, 1, 1).expand(-1, 5, 5))


def test_spread_of_a_class_is_judged() -> None:
    torch.manual_seed(0)
    discriminator: Any = begun(minibatch_std=4).discriminator
    images, labels = torch.rand(8, 1, 64, 64) * 2 - 1, torch.tensor([0, 1] * 4)
    with torch.no_grad():
        for _ in range(50):  # statistics of these images, without which what is seen of them is all the same
            discriminator(images, labels)
        discriminator.eval()
        before = discriminator(images, labels).patches
        discriminator.realness.weight[:, :-1] = 0
        alone = discriminator(images, labels).patches
        # All images of class 1 are the same one now: it is these whose spread is gone, and they are judged otherwise.
        images[1::2] = images[1]
        alike = discriminator(images, labels).patches
        seen = discriminator.see(torch.nn.Sequential(discriminator.from_image, *discriminator.blocks)(images))
        spread = 4 * (seen[::2].var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=0)
        weight, bias = discriminator.realness.weight[0, -1], discriminator.realness.bias
        expected = (spread.unfold(0, 4, 1).unfold(1, 4, 1) * weight).sum(dim=(2, 3)) + bias
        inner = (discriminator.embed.weight[labels] * seen.mean(dim=(2, 3))).sum(dim=1).view(-1, 1, 1)
    assert not torch.allclose(before, alone)
    torch.testing.assert_close(alike[::2], alone[::2])
    torch.testing.assert_close(alike[::2] - inner[::2], expected.expand(4, 5, 5))
    assert not torch.allclose(alike[1::2], alone[1::2], atol=1e-3)
    torch.testing.assert_close(alike[1::2] - inner[1::2], bias.expand(4, 5, 5), rtol=0, atol=1e-3)


def test_a_group_larger_than_the_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch of 2 .* Type --minibatch-std 2"):
        FastGANConfig(batch_size=2, minibatch_std=4)


# ----------------------------------------------------------------------------------------------- losses


def test_losses_against_numpy() -> None:
    trainer = begun(reconstruction_weight=0.7)
    trainer.fit(stream(GREY), 2)
    trainer.discriminator.eval()
    real, labels = next(stream(GREY, start=5))
    fake = torch.rand(real.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    state = trainer.state_dict()["shared_random"]["cpu"].clone()
    with torch.no_grad():
        terms = trainer.discriminator_loss(Batch(real, labels), Batch(fake, labels))
        on_real, on_fake = trainer.discriminator(real, labels), trainer.discriminator(fake, labels)
        numbers = torch.randint(4, (8,), generator=_restored(state))
        whole, part = (images.numpy() for images in trainer.discriminator.reconstruct(on_real, numbers))
    assert set(numbers.tolist()) != {0}
    r, f = on_real.patches.double().numpy(), on_fake.patches.double().numpy()
    hinge = np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()
    assert float(terms["adversarial"]) == pytest.approx(hinge, rel=1e-5)
    errors = [
        np.abs(image - real[index, :, 32 * (number // 2) :, 32 * (number % 2) :][:, :32, :32].numpy()).mean()
        for index, (image, number) in enumerate(zip(part, numbers.tolist(), strict=True))
    ]
    assert float(terms["reconstruction"]) == pytest.approx(
        0.7 * (np.abs(whole - real.numpy()).mean() + np.mean(errors)), rel=1e-5
    )
    with torch.no_grad():
        terms = trainer.generator_loss(Batch(real, labels), Batch(fake, labels))
    assert terms.keys() == {"adversarial"}
    assert float(terms["adversarial"]) == pytest.approx(-f.mean(), rel=1e-5)


def _restored(state: torch.Tensor) -> torch.Generator:
    rng = torch.Generator()
    rng.set_state(state)
    return rng


def test_large_images_are_reconstructed_at_half_their_size() -> None:
    data = DataSpec(1, (256, 256))
    trainer = begun(data)
    images = next(stream(data, n=2)).images
    trainer.discriminator.eval()
    # A decoder that is right to the last pixel: no error is left but that of the quarter, which is black.
    smaller = images.view(2, 1, 128, 2, 128, 2).mean(dim=(3, 5))
    trainer.discriminator.reconstruct = lambda *_: (smaller, torch.zeros(2, 1, 128, 128))  # type: ignore[method-assign]
    numbers = torch.randint(4, (2,), generator=_restored(trainer.state_dict()["shared_random"]["cpu"].clone()))
    with torch.no_grad():
        terms = trainer.discriminator_loss(Batch(images, None), Batch(images, None))
    assert float(terms["reconstruction"]) == pytest.approx(float(quarter(images, numbers).abs().mean()), rel=1e-5)


def test_reconstruction_trains_the_discriminator_alone() -> None:
    trainer = begun(reconstruction_weight=0.0)
    before = {name: weight.detach().clone() for name, weight in trainer.discriminator.named_parameters()}
    trainer.fit(stream(GREY), 1)
    unmoved = {name for name, weight in trainer.discriminator.named_parameters() if torch.equal(weight, before[name])}
    assert unmoved == {name for name in before if name.startswith(("whole.", "part."))}


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("size", "hint"), [((32, 32), "Try --size 64"), ((128, 64), "square"), ((300, 300), "256")])
def test_what_cannot_be_is_refused(size: tuple[int, ...], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        FastGAN(DataSpec(1, size), preset="tiny")
