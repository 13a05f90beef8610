"""StyleGAN2: the compliance kit, each equation against an independent computation, the published parameter counts."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.augment import AdaptiveAugment, DiffAugment
from medgan.core import Batch, Callback, DataSpec, LabelSpec, Metrics, Trainer
from medgan.errors import CheckpointError, ConfigError
from medgan.testing import parametrize_with_checks
from medgan.testing.probe import differences, make_batch, perturbed
from medgan_stylegan2 import StyleGAN2, StyleGAN2Config, StyleGAN2Trainer
from medgan_stylegan2.gan import _RunningMean, path_lengths
from medgan_stylegan2.layers import EqualConv, EqualLinear, ModulatedConv, Resample
from medgan_stylegan2.networks import MappingNetwork, StyleDiscriminator, StyleGenerator

CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))
DATA = DataSpec(1, (32, 32), CLASSES)


@parametrize_with_checks([StyleGAN2])
def test_compliance(architecture: Any, check: Any) -> None:
    check(architecture)


def make(data: DataSpec = DATA, **options: Any) -> StyleGAN2:
    return StyleGAN2(data, preset="tiny", **options)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------ layers


def filtered(image: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """The filter [1, 3, 3, 1] / 8 along both axes of one channel ``(H, W)``, one output pixel after the other."""
    padded = F.pad(image, (padding,) * 4)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    height, width = (length - 3 for length in padded.shape)
    rows = [[line @ padded[y : y + 4, x : x + 4] @ line for x in range(width)] for y in range(height)]
    return gain * torch.tensor(rows)


def with_zeros(image: Tensor) -> Tensor:
    """Put a zero after each pixel of ``(H, W)``, along both axes."""
    larger = torch.zeros(2 * image.shape[0], 2 * image.shape[1])
    larger[::2, ::2] = image
    return larger


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_convolution_has_weights_of_its_own_for_each_image(demodulate: bool, up: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(5, 3, 7, up=up, demodulate=demodulate)
    images, styles = randn(4, 5, 6, 6), randn(4, 7, seed=1)
    with torch.no_grad():
        found = layer(images, styles)
        for image, style, output in zip(images, styles, found, strict=True):
            scales = layer.affine.weight @ style / math.sqrt(7) + layer.affine.bias
            weights = layer.weight / math.sqrt(5 * 9) * scales.view(1, 5, 1, 1)
            if demodulate:
                weights = weights / weights.square().sum(dim=(1, 2, 3), keepdim=True).add(1e-8).sqrt()
            if up:
                # A transposed convolution is one of the image with zeros in between, its kernel turned by 180 degrees.
                spread = torch.stack([with_zeros(channel)[:-1, :-1] for channel in image])
                large = F.conv2d(spread.unsqueeze(0), weights.flip(2, 3), padding=2)[0]
                expected = torch.stack([filtered(channel, padding=1, gain=4) for channel in large])
            else:
                expected = F.conv2d(image.unsqueeze(0), weights, padding=1)[0]
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_demodulation_keeps_the_variance_whatever_the_style() -> None:
    torch.manual_seed(0)
    images = randn(8, 64, 32, 32)
    for size in (0.1, 1.0, 30.0):
        styles = size * randn(8, 16, seed=2)
        with torch.no_grad():
            demodulated = ModulatedConv(64, 32, 16)(images, styles)[..., 1:-1, 1:-1]
        # Of each image and output channel; the mean over 900 correlated pixels scatters by some percent.
        assert (demodulated.var(dim=(2, 3)) - 1).abs().mean() < 0.1
        assert demodulated.var() == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        modulated = ModulatedConv(64, 32, 16, demodulate=False)(images, styles)
    assert modulated.var() > 100


def test_resampling_is_a_filter_and_a_stride() -> None:
    images = randn(2, 3, 8, 8)
    up, down = Resample(gain=4, up=True)(images), Resample(down=True)(images)
    for image, larger, smaller in zip(images.flatten(0, 1), up.flatten(0, 1), down.flatten(0, 1), strict=True):
        # Between the last row and the border there is a row of zeros, of which padding by 2 leaves one too many.
        torch.testing.assert_close(larger, filtered(with_zeros(image), padding=2, gain=4)[:-1, :-1])
        torch.testing.assert_close(smaller, filtered(image, padding=1)[::2, ::2])


def test_resampling_keeps_a_ramp_where_it_was() -> None:
    """The two ways in a block of the discriminator have to lie upon each other, and so have image and detail."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16).contiguous()
    inner = slice(4, -4)
    up = Resample(gain=4, up=True)(ramp)[0, 0, inner, inner]
    torch.testing.assert_close(up, ((torch.arange(32.0) - 0.5) / 2)[inner].expand_as(up))
    halved = Resample(down=True)(ramp)[0, 0, 2:-2, 2:-2]
    torch.testing.assert_close(halved, (2 * torch.arange(8.0) + 0.5)[2:-2].expand_as(halved))
    conv = EqualConv(1, 1, 3, down=True)
    raised = ModulatedConv(1, 1, 1, up=True, demodulate=False)
    with torch.no_grad():
        for layer in (conv, raised):
            layer.weight.copy_(torch.tensor([[0.0, 0, 0], [0, 3, 0], [0, 0, 0]]).view(1, 1, 3, 3))
        raised.affine.weight.zero_()
        torch.testing.assert_close(conv(ramp)[0, 0, 2:-2, 2:-2], halved)
        torch.testing.assert_close(raised(ramp, torch.zeros(1, 1))[0, 0, inner, inner], up)


def test_equalised_layers_learn_equally_fast() -> None:
    """One step of Adam moves the weights that are used by lr × rate / √inputs, however large they are."""
    for layer, inputs, rate in (
        (EqualLinear(100, 4), 100, 1.0),
        (EqualLinear(25, 4, bias=1.0, rate=0.01), 25, 0.01),
        (EqualConv(4, 2, 3), 36, 1.0),
    ):
        images = randn(3, inputs) if isinstance(layer, EqualLinear) else randn(3, 4, 5, 5)
        before = layer.weight.detach() * layer.gain
        assert before.std() == pytest.approx(1 / math.sqrt(inputs), rel=0.2)
        optimizer = torch.optim.Adam(layer.parameters(), 0.002, (0.0, 0.99))
        layer(images).square().sum().backward()
        optimizer.step()
        moved = (layer.weight.detach() * layer.gain - before).abs()
        torch.testing.assert_close(
            moved, torch.full_like(moved, 0.002 * rate / math.sqrt(inputs)), rtol=0.01, atol=1e-7
        )
    assert torch.equal(EqualLinear(25, 4, bias=1.0, rate=0.01)(torch.zeros(1, 25)), torch.ones(1, 4))


def test_mapping_normalises_latents_and_labels() -> None:
    torch.manual_seed(0)
    latents, labels = randn(6, 8), torch.tensor([0, 1, 0, 1, 0, 1])
    mapping = MappingNetwork(8, 5, 2, CLASSES)
    torch.testing.assert_close(mapping(latents, labels), mapping(3 * latents, labels), rtol=1e-4, atol=1e-5)
    z = latents / latents.square().mean(dim=1, keepdim=True).sqrt()
    embedded = mapping.embed.weight.T[labels] / math.sqrt(2) + mapping.embed.bias
    embedded = embedded / embedded.square().mean(dim=1, keepdim=True).sqrt()
    hidden = torch.cat([z, embedded], dim=1)
    for layer, inputs in zip(mapping.layers, (13, 5), strict=True):
        hidden = hidden @ (0.01 / math.sqrt(inputs) * layer.weight.T) + 0.01 * layer.bias
        hidden = math.sqrt(2) * torch.where(hidden > 0, hidden, 0.2 * hidden)
    torch.testing.assert_close(mapping(latents, labels), hidden)


def test_unknown_findings_count_as_half_present() -> None:
    findings = LabelSpec(("Effusion", "Edema"), "multilabel")
    mapping = MappingNetwork(4, 4, 1, findings)
    unknown, half = (mapping(randn(1, 4), torch.tensor([[1.0, value]])) for value in (math.nan, 0.5))
    assert torch.equal(unknown, half)


# -------------------------------------------------------------------------------------- parameters


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def expected_counts(side: int, base: int, *, colours: int, layers: int) -> tuple[int, int]:
    """Numbers of trainable weights of the paper's networks without labels, added up from its tables."""
    widths = {2**power: min(512, base // 2**power) for power in range(2, int(math.log2(side)) + 1)}
    style = 512

    def convolution(narrow: int, wide: int) -> int:
        return (style * narrow + narrow) + 9 * narrow * wide + wide + 1  # style, kernel, bias, noise

    generator = layers * (style * style + style) + 16 * widths[4] + convolution(widths[4], widths[4])
    discriminator = (colours + 1) * widths[side]
    for half, full in pairwise(widths):
        generator += convolution(widths[half], widths[full]) + convolution(widths[full], widths[full])
        fine, coarse = widths[full], widths[half]
        discriminator += (9 * fine * fine + fine) + (9 * fine * coarse + coarse) + fine * coarse
    for width in widths.values():
        generator += (style * width + width) + width * colours + colours
    last = widths[4]
    discriminator += (9 * (last + 1) * last + last) + (16 * last * last + last) + (last + 1)
    return generator, discriminator


def networks(side: int, base: int, *, colours: int = 3) -> tuple[nn.Module, nn.Module]:
    data = DataSpec(colours, (side, side))
    shared = {"style_dim": 512, "mapping_layers": 8, "channel_base": base, "channel_limit": 512}
    with torch.device("meta"):
        generator = StyleGenerator(data, 512, **shared)
        return generator, StyleDiscriminator(data, **shared, minibatch_std=4)


@pytest.mark.parametrize(("side", "base"), [(256, 16_384), (256, 32_768), (64, 16_384), (1024, 16_384), (1024, 32_768)])
def test_parameter_counts(side: int, base: int) -> None:
    generator, discriminator = networks(side, base)
    assert (count(generator), count(discriminator)) == expected_counts(side, base, colours=3, layers=8)


def test_parameter_counts_are_the_published_ones() -> None:
    """25M and 24M in configuration E, 30M and 29M in F, 22% and 21% more (section 4.3 of the paper); ADA's at 256²."""
    (small_g, small_d), (large_g, large_d) = ([count(net) for net in networks(1024, base)] for base in (16_384, 32_768))
    assert [round(number / 1e6) for number in (small_g, small_d, large_g, large_d)] == [25, 24, 30, 29]
    assert round(100 * (large_g / small_g - 1)) == 22
    assert round(100 * (large_d / small_d - 1)) == 21
    assert [count(net) for net in networks(256, 16_384)] == [24_767_458, 24_001_089]


def test_preset_paper_has_the_papers_networks() -> None:
    config = StyleGAN2.presets["paper"]
    with torch.device("meta"):
        gan = StyleGAN2.__new__(StyleGAN2)
        data = DataSpec(3, (256, 256))
        found = gan.make_generator(config, data), gan.make_discriminator(config, data)
    assert [count(network) for network in found] == [24_767_458, 24_001_089]


# ----------------------------------------------------------------------------------------- sampling


def test_truncation_draws_styles_towards_the_mean_of_the_label() -> None:
    generator = perturbed(make().generator)
    latents, labels = randn(6, 16), torch.tensor([0, 1, 1, 0, 1, 0])
    many = torch.randn(1024, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        means = torch.stack([generator.mapping(many, torch.full((1024,), label)).mean(dim=0) for label in (0, 1)])
        styles = generator.mapping(latents, labels)
        truncated = means[labels] + 0.3 * (styles - means[labels])
        expected = generator.synthesis(truncated.unsqueeze(1).expand(-1, 8, -1), generator.make_noise(latents))
        found = generator.generate(latents, labels, truncation=0.3)
        torch.testing.assert_close(found, expected.clamp(-1, 1), rtol=1e-4, atol=1e-4)
        assert torch.equal(generator.generate(latents, labels), generator(latents, labels))
        assert not torch.allclose(means[0], means[1])


@pytest.mark.parametrize("labels", [None, CLASSES, LabelSpec(("a", "b", "c"), "multilabel")])
def test_truncated_images_do_not_depend_on_the_batch(labels: LabelSpec | None) -> None:
    gan = make(DataSpec(1, (32, 32), labels))
    gan.generator = perturbed(gan.generator)
    wanted = gan.make_labels(20)
    many = gan.sample(20, labels=wanted, truncation=0.5).images
    alone = gan.sample(1, labels=None if wanted is None else wanted[7:8], seed=7, truncation=0.5).images
    assert torch.equal(alone[0], many[7])
    spread = [gan.sample(20, labels=wanted, truncation=psi).images.var(dim=0).mean() for psi in (1.0, 0.5, 0.0)]
    assert spread[0] > spread[1] > spread[2]


def test_noise_is_of_the_latents_when_sampling_and_new_in_training() -> None:
    generator = make().generator
    latents = randn(5, 16)
    noise = generator.make_noise(latents)
    assert torch.equal(generator.make_noise(latents[2:3])[0], noise[2])
    assert noise.shape == (5, 16 + 2 * (64 + 256 + 1024))
    assert (noise.mean().item(), noise.std().item()) == pytest.approx((0, 1), abs=0.05)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.1
    generator.train()
    assert not torch.equal(generator.make_noise(latents), generator.make_noise(latents))


def test_noise_reaches_the_image() -> None:
    generator = perturbed(make().generator)
    with torch.no_grad():
        styles = generator.mapping(randn(1, 16), torch.tensor([0])).expand(2, -1).unsqueeze(1).expand(-1, 8, -1)
        one, other = generator.synthesis(styles, generator.make_noise(randn(2, 16)))
    assert not torch.allclose(one, other)


def test_mixed_styles_change_at_a_random_layer() -> None:
    generator = make(style_mixing=0.9).generator.train()
    torch.manual_seed(0)
    styles = torch.zeros(4000, 8, 16)
    with torch.no_grad():
        mixed = generator._mixed(styles, torch.zeros(4000, dtype=torch.int64)).abs().sum(dim=2) > 0
    assert mixed.any(dim=1).float().mean() == pytest.approx(0.9, abs=0.02)
    first = mixed[mixed.any(dim=1)]
    starts = 8 - first.sum(dim=1)
    assert torch.equal(first, torch.arange(8) >= starts.unsqueeze(1))
    torch.testing.assert_close(
        starts.bincount(minlength=8)[1:] / len(first), torch.full((7,), 1 / 7), rtol=0, atol=0.03
    )
    assert (starts >= 1).all()


# ----------------------------------------------------------------------------------------- training


def test_losses_are_logistic() -> None:
    trainer = make().make_trainer(device="cpu")
    trainer.step = 1  # no path length is due
    real, fake = make_batch(DATA, 8), make_batch(DATA, 8, seed=1)
    with torch.no_grad():
        on_real, on_fake = (trainer.discriminator(*half).realness.double().numpy() for half in (real, fake))
        discriminator, generator = trainer.discriminator_loss(real, fake), trainer.generator_loss(real, fake)
    sigmoid = [1 / (1 + np.exp(-realness)) for realness in (on_real, on_fake)]
    expected = -np.log(sigmoid[0]).mean() - np.log(1 - sigmoid[1]).mean()
    assert {name: term.item() for name, term in discriminator.items()} == pytest.approx({"adversarial": expected})
    expected = -np.log(sigmoid[1]).mean()
    assert {name: term.item() for name, term in generator.items()} == pytest.approx({"adversarial": expected})


def test_path_lengths_are_those_of_the_jacobian() -> None:
    """Against the whole Jacobian of a generator in float64, an image at a time."""
    torch.manual_seed(0)
    generator = perturbed(make(DataSpec(1, (32, 32)), style_dim=6).generator).double()
    synthesis = generator.synthesis
    noise, directions = generator.make_noise(randn(2, 16)).double(), randn(2, 1, 32, 32, seed=3).double()
    styles = randn(2, 6, seed=4).double().requires_grad_()

    def image(style: Tensor, number: int) -> Tensor:
        return synthesis(style.expand(1, 8, 6), noise[number : number + 1])[0]

    expected = []
    for number in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda style, n=number: image(style, n), styles[number].detach())
        product = torch.einsum("chws,chw->s", jacobian, directions[number])
        expected.append(product.square().sum().sqrt() / math.sqrt(32 * 32 * 8))
    images = synthesis(styles.unsqueeze(1).expand(-1, 8, -1), noise)
    found = path_lengths(images, styles, directions, layers=8)
    torch.testing.assert_close(found, torch.stack(expected))
    # Its slope by a weight, which is a second derivative, against a difference quotient.
    weight = synthesis.convolutions[2].conv.weight.requires_grad_()
    images = synthesis(styles.unsqueeze(1).expand(-1, 8, -1), noise)
    slope = torch.autograd.grad(path_lengths(images, styles, directions, layers=8).sum(), weight)[0][0, 0, 1, 1]
    values = []
    for shift in (1e-5, -1e-5):
        moved = copy.deepcopy(synthesis)
        moved.convolutions[2].conv.weight.data[0, 0, 1, 1] += shift
        images = moved(styles.unsqueeze(1).expand(-1, 8, -1), noise)
        values.append(path_lengths(images, styles, directions, layers=8).sum().item())
    assert slope.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("side", [32, 64, 256, 1024])
def test_weight_of_path_lengths_is_the_papers(side: int) -> None:
    """2 (l/√(pixels · layers) − a/√(…))² is γ (l − a)² with the paper's γ = ln 2 / (r² (ln r − ln 2)) at side r."""
    layers = networks(side, 16_384)[0].synthesis.num_styles
    paper = math.log(2) / (side**2 * (math.log(side) - math.log(2)))
    assert StyleGAN2Config().path_length_weight / (side**2 * layers) == pytest.approx(paper)


class Log(Callback):
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        self.rows.append({name: value.item() for name, value in metrics.items()})


def train(steps: int, **options: Any) -> tuple[StyleGAN2Trainer, list[dict[str, float]]]:
    gan = make(**options)
    trainer, log = gan.make_trainer(device="cpu"), Log()
    trainer.fit([make_batch(DATA, gan.config.images_per_step, seed=number) for number in range(steps)], steps, [log])
    return trainer, log.rows


def test_path_length_penalty_is_lazy_and_drawn_to_the_running_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log, the penalty is weight × interval × E[(l − a)²], with the a of the steps before."""
    seen: list[Tensor] = []
    lengths = StyleGAN2Trainer._path_lengths

    def watched(self: StyleGAN2Trainer, *arguments: Any) -> Tensor:
        seen.append(lengths(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(StyleGAN2Trainer, "_path_lengths", watched)
    trainer, rows = train(7, path_length_every=3, path_length_weight=0.7)
    due = [number for number, row in enumerate(rows) if "generator/path_length" in row]
    assert due == [0, 3, 6]
    first, second, third = (found.detach() for found in seen)
    assert first.shape == (4,)  # half of the batch
    expected = [0.0]
    expected += [0.7 * 3 * (second - first.mean()).square().mean().item()]
    expected += [0.7 * 3 * (third - (first.mean() + second.mean()) / 2).square().mean().item()]
    assert [rows[number]["generator/path_length"] for number in due] == pytest.approx(expected, rel=1e-4)
    means = [found.mean().item() for found in (first, second, third)]
    assert [rows[number]["generator/mean_path_length"] for number in due] == pytest.approx(means)
    assert trainer.path_length.mean.item() == pytest.approx(sum(means) / 3, rel=1e-5)


def test_running_mean_forgets() -> None:
    mean = _RunningMean()
    for value in (5.0, *[1.0] * 2000):
        mean.follow(torch.tensor(value))
    assert mean.mean.item() == pytest.approx(1, abs=1e-4)
    mean.follow(torch.tensor(2.0))
    assert mean.mean.item() == pytest.approx(1.01, abs=1e-4)


def test_mean_of_path_lengths_survives_a_resume() -> None:
    trainer, _ = train(3)
    other = make().make_trainer(device="cpu")
    other.load_state_dict(trainer.state_dict())
    assert other.path_length.count == 2
    assert not differences(trainer.state_dict(), other.state_dict())
    with pytest.raises(CheckpointError, match="path_length"):
        other.load_state_dict({name: part for name, part in trainer.state_dict().items() if name != "path_length"})


PLAIN: dict[str, Any] = {
    "path_length_every": 1,
    "style_mixing": 0.0,
    "minibatch_std": 1,
    "augment": "none",
    "ada_target": None,
    "penalty_every": 2,
}


def test_accumulated_batches_make_the_step_of_one_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise, which each batch draws by itself, is left out, as are groups within a batch."""
    monkeypatch.setattr(
        StyleGenerator, "make_noise", lambda self, latents: latents.new_zeros(len(latents), 16 + 2 * (64 + 256 + 1024))
    )
    whole, rows = train(3, batch_size=8, **PLAIN)
    parts, rows_of_parts = train(3, batch_size=4, gradient_accumulation_steps=2, **PLAIN)
    assert parts.path_length.count == whole.path_length.count == 3
    for one, other in zip(rows, rows_of_parts, strict=True):
        assert one == pytest.approx(other, rel=0.01, abs=1e-4)
    start = make(**PLAIN).make_trainer(device="cpu").generator.state_dict()
    way = sum((value - start[name]).square().sum() for name, value in whole.generator.state_dict().items())
    apart = [value - parts.generator.state_dict()[name] for name, value in whole.generator.state_dict().items()]
    assert sum(difference.square().sum() for difference in apart) < 0.01 * way


def test_processes_share_the_latents_and_directions_of_the_penalty() -> None:
    """What two processes find, each for its half of a batch, is what one finds for all of it."""
    labels = torch.tensor([0, 1, 1, 1, 0, 0, 1, 0])
    found = []
    for processes, rank in ((1, 0), (2, 0), (2, 1)):
        trainer = make(style_mixing=0.0).make_trainer(device="cpu")
        trainer.accelerator = SimpleNamespace(num_processes=processes, process_index=rank)
        n = 8 // processes
        found.append(trainer._path_lengths(n, labels[rank * n : rank * n + n]).detach())
    whole, first, second = found
    torch.testing.assert_close(torch.cat([first, second]), whole)
    assert whole.std() > 0


@pytest.mark.parametrize("images", [4, 5])
def test_paths_have_labels_of_all_classes_that_come_in_turn(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `--class-sampling uniform`: A B A B ..., where each second label is of one class."""
    trainer = make().make_trainer(device="cpu")
    seen: list[Tensor] = []

    def look(latents: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        raise InterruptedError  # the rest of the penalty takes long

    monkeypatch.setattr(trainer.generator.mapping, "forward", look)
    labels = torch.arange(images) % 2
    for _ in range(20):
        with pytest.raises(InterruptedError):
            trainer._path_lengths(images, labels)
    assert {len(some) for some in seen} == {math.ceil(images / 2)}
    assert torch.cat(seen).bincount().min() >= 8  # of 40 or 60
    assert any(len(some.unique()) == 2 for some in seen)


def test_path_lengths_of_a_training_in_mixed_precision() -> None:
    """The second penalty, the first with a slope, is that of float32 at the same weights, as is its gradient."""
    trainer = make().make_trainer(device="cpu", precision="bf16")
    log = Log()
    trainer.fit([make_batch(DATA, 8, seed=number) for number in range(3)], 3, [log])
    assert log.rows[2]["generator/path_length"] > 0
    exact = make().make_trainer(device="cpu")
    exact.load_state_dict(trainer.state_dict())
    found = []
    for each in (trainer, exact):
        each.step = 4  # the next at which it is due
        real = make_batch(DATA, 8, seed=5)
        with each.accelerator.autocast():
            fake = Batch(each.generator(each.draw(8, each.generator.make_latents), real.labels), real.labels)
            torch.manual_seed(0)  # the noise of the images is drawn anew
            term = each.generator_loss(real, fake)["path_length"]
        weights = dict(each.generator.named_parameters())
        slopes = torch.autograd.grad(term, list(weights.values()), allow_unused=True)
        found.append((term, {name: slope for name, slope in zip(weights, slopes, strict=True) if slope is not None}))
    (term, slopes), (expected, exact_slopes) = found
    assert term > 0
    torch.testing.assert_close(term, expected)
    assert any("mapping" in name for name in slopes)
    assert slopes.keys() == exact_slopes.keys()
    for name, slope in slopes.items():
        assert slope.dtype == torch.float32
        torch.testing.assert_close(slope, exact_slopes[name])
    assert all(slopes[name].abs().max() > 0 for name in slopes if "affine.weight" in name)


def test_r1_of_the_discriminator_is_cores() -> None:
    """Half the squared slope of the sum of what it says, by difference quotients in random directions."""
    trainer = make(gradient_penalty="r1", penalty_weight=3.0, minibatch_std=1).make_trainer(device="cpu")
    real = make_batch(DATA, 4)
    penalty = trainer.gradient_penalty(real, real).item()
    network = copy.deepcopy(trainer.discriminator).double()
    images = real.images.double()
    squares = []
    for number in range(100):
        direction = randn(*images.shape, seed=number).double()
        with torch.no_grad():
            up, down = (network(images + step * direction, real.labels).realness.double() for step in (1e-4, -1e-4))
        squares.append(((up - down) / 2e-4).square())
    assert penalty == pytest.approx(3 / 2 * torch.stack(squares).mean().item(), rel=0.25)


# ------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path_length_weight": 0.0, "path_length_every": 8}, "--path-length-every 8 acts on nothing"),
        ({"minibatch_std": 16}, "Type --minibatch-std 8, or a larger --batch-size"),
        ({"minibatch_std": 16, "batch_size": 1}, "Type --minibatch-std 1, or"),
        ({"ada_target": None}, "--augment xray acts on nothing: .* Type --augment-probability 1, .* --augment none"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize("size", [(16, 16), (48, 48), (64, 32), (512, 512)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"square images of 32, 64, 128 or 256 pixels a side.*Try --size"):
        make(DataSpec(1, size))


def test_augmentation_at_a_fixed_chance_and_none() -> None:
    fixed = make(ada_target=None, augment_probability=1.0).make_trainer(device="cpu").augment
    assert isinstance(fixed, DiffAugment)
    assert not isinstance(fixed, AdaptiveAugment)
    assert (fixed.policy, fixed.probability) == ("xray", 1.0)
    images = make_batch(DATA, 8).images
    assert not torch.equal(fixed(images), images)
    none = make(augment="none")
    assert none.config.ada_target is None
    assert torch.equal(none.make_trainer(device="cpu").augment(images), images)


def test_penalty_can_be_left_out() -> None:
    trainer, rows = train(1, path_length_weight=0.0)
    assert trainer.config.path_length_every == StyleGAN2Config().path_length_every
    assert not any("path_length" in name for name in rows[0])
    assert trainer.path_length.count == 0


@pytest.mark.parametrize("side", [64, 128, 256])
def test_larger_images(side: int) -> None:
    images = make(DataSpec(1, (side, side), LabelSpec(("a", "b", "c"), "multilabel"))).sample(1, truncation=0.7).images
    assert images.shape == (1, 1, side, side)
