"""ACGAN: the report's networks and steps to the last parameter, and the modern preset's parts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core import Batch, DataSpec, LabelSpec, Trainer
from medgan.errors import ConfigError
from medgan.models import ACGAN, ACGANConfig
from medgan.nn import ChannelLayerNorm, MinibatchStdDev
from medgan.testing import check_architecture

CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))
FINDINGS = LabelSpec(("effusion", "nodule", "mass"), "multilabel")
QUANTITIES = LabelSpec(("age", "dose", "weight"), "continuous")
REPORT = DataSpec(3, (64, 64), CLASSES)


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def make_batch(data: DataSpec, n: int, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
    if data.labels is None:
        return Batch(images)
    if data.labels.kind in ("categorical", "ordinal"):
        return Batch(images, torch.randint(data.num_labels, (n,), generator=rng))
    labels = torch.randn(n, data.num_labels, generator=rng)
    return Batch(images, (labels > 0).float() if data.labels.kind == "multilabel" else labels)


def masked(batch: Batch) -> Batch:
    """The same with some entries not known, in the last row none."""
    assert batch.labels is not None
    labels = batch.labels.clone()
    labels[0, 1] = labels[1, 0] = labels[-1] = math.nan
    return Batch(batch.images, labels)


# ------------------------------------------------------------------------ original: the layers' table


@pytest.fixture(scope="module")
def original() -> Trainer[Any]:
    """A training at 3×64×64 with two classes."""
    return ACGAN(REPORT, preset="original").make_trainer(device="cpu")


def layers(module: nn.Module, like: Tensor, *arguments: Any) -> list[tuple[str, int, tuple[int, ...]]]:
    """Kind, parameters and output shape of each layer, in the order in which they are called."""
    called: list[tuple[str, int, tuple[int, ...]]] = []
    hooks = [
        part.register_forward_hook(
            lambda part, _, output: called.append((type(part).__name__, count(part), tuple(output.shape[1:])))
        )
        for part in module.modules()
        if not list(part.children())
    ]
    with torch.no_grad():
        module(like, *arguments)
    for hook in hooks:
        hook.remove()
    return called


def test_original_generator_is_the_reports(original: Trainer[Any]) -> None:
    found = layers(original.generator, torch.zeros(1, 100), torch.zeros(1, dtype=torch.int64))
    assert found == [
        ("Linear", 105_472, (1024,)),
        ("Linear", 16_793_600, (16384,)),
        ("ChannelLayerNorm", 512, (256, 8, 8)),
        ("ConvTranspose2d", 1_638_656, (256, 16, 16)),
        ("ChannelLayerNorm", 512, (256, 16, 16)),
        ("ConvTranspose2d", 819_328, (128, 32, 32)),
        ("ChannelLayerNorm", 256, (128, 32, 32)),
        ("ConvTranspose2d", 204_864, (64, 64, 64)),
        ("ChannelLayerNorm", 128, (64, 64, 64)),
        ("ConvTranspose2d", 51_232, (32, 64, 64)),
        ("ConvTranspose2d", 2_403, (3, 64, 64)),
    ]
    assert count(original.generator) == 19_616_963


def test_original_discriminator_is_the_reports(original: Trainer[Any]) -> None:
    found = layers(original.discriminator, torch.zeros(1, 3, 64, 64))
    trunk = [
        ("Conv2d", 2_432, (32, 32, 32)),
        ("Conv2d", 51_264, (64, 16, 16)),
        ("Conv2d", 204_928, (128, 8, 8)),
        ("Conv2d", 819_456, (256, 8, 8)),
    ]
    tag = [("Linear", 16_385, (1,))]
    label = [("Linear", 4_194_560, (256,)), ("Dropout", 0, (256,)), ("Linear", 514, (2,))]
    assert found in (trunk + tag + label, trunk + label + tag)
    assert count(original.discriminator) == 5_289_539


def test_original_kernels_norms_and_dropout(original: Trainer[Any]) -> None:
    up = [part for part in original.generator.modules() if isinstance(part, nn.ConvTranspose2d)]
    down = [part for part in original.discriminator.modules() if isinstance(part, nn.Conv2d)]
    assert [part.stride for part in up] == [(2, 2), (2, 2), (2, 2), (1, 1), (1, 1)]
    assert [part.stride for part in down] == [(2, 2), (2, 2), (2, 2), (1, 1)]
    assert {part.kernel_size for part in (*up, *down)} == {(5, 5)}
    assert [part.eps for part in original.generator.modules() if isinstance(part, ChannelLayerNorm)] == [1e-3] * 4
    assert [part.p for part in original.discriminator.modules() if isinstance(part, nn.Dropout)] == [0.3]


def test_original_weights_start_as_in_keras(original: Trainer[Any]) -> None:
    """Glorot uniform kernels, zero biases."""
    for part in (*original.generator.modules(), *original.discriminator.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            area = math.prod(part.weight.shape[2:])
            limit = math.sqrt(6 / (area * (part.weight.shape[0] + part.weight.shape[1])))
            assert float(part.weight.detach().abs().max()) <= limit
            if part.weight.numel() > 2000:
                assert float(part.weight.detach().abs().max()) > 0.98 * limit
                assert float(part.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.03)
            assert part.bias is not None
            assert not part.bias.detach().any()


@pytest.mark.parametrize(("network", "rate", "decay"), [("discriminator", 1e-4, 6e-9), ("generator", 5e-5, 3e-9)])
def test_original_optimizers(original: Trainer[Any], network: str, rate: float, decay: float) -> None:
    optimizer = original.optimizers[network]
    assert isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.RMSprop)
    (group,) = optimizer.param_groups
    settings = {key: group[key] for key in ("lr", "weight_decay", "alpha", "eps", "momentum", "centered")}
    assert settings == {"lr": rate, "weight_decay": decay, "alpha": 0.9, "eps": 1e-7, "momentum": 0, "centered": False}
    assert {id(weight) for weight in group["params"]} == {
        id(weight) for weight in getattr(original, network).parameters()
    }


def test_original_options() -> None:
    config = ACGAN.get_preset("original")
    assert isinstance(config, ACGANConfig)
    assert (config.batch_size, config.latent_dim, config.ema_halflife) == (5, 100, 0)
    assert (config.augment, config.class_sampling, config.discriminator_steps) == ("none", "natural", 1)


def test_original_latents_are_uniform(original: Trainer[Any]) -> None:
    latents = original.generator.make_latents(2000, torch.Generator().manual_seed(0))
    assert latents.shape == (2000, 100)
    assert -1 <= latents.min() < -0.999
    assert 0.999 < latents.max() <= 1
    shares = torch.histc(latents, 10, -1, 1) / latents.numel()
    torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.005, rtol=0)


def test_original_fake_labels_are_uniform(original: Trainer[Any]) -> None:
    assert isinstance(original, ACGAN.Trainer)
    labels = original.make_labels(Batch(torch.zeros(3000, 0), torch.zeros(3000, dtype=torch.int64)))
    assert labels is not None
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) == {0, 1}
    assert float(labels.float().mean()) == pytest.approx(0.5, abs=0.05)


# --------------------------------------------------------------- original: one step, written out anew

# The report's networks, from its tables alone, on weights by name; images in [0, 1].


def down(images: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """5×5 convolution, "same"; TensorFlow's padding (1 before, 2 after at stride 2), mirrored."""
    padded = F.pad(images, (2, 1, 2, 1) if stride == 2 else (2, 2, 2, 2))
    return F.conv2d(padded, kernel, bias, stride)


def up(images: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """5×5 transposed convolution, "same", as a convolution of the pixels spread out among zeros."""
    n, channels, height, width = images.shape
    spread = images.new_zeros(n, channels, (height - 1) * stride + 1, (width - 1) * stride + 1)
    spread[..., ::stride, ::stride] = images
    whole = F.conv2d(spread, kernel.flip(2, 3).transpose(0, 1), bias, padding=4)
    return whole[..., 2 : 2 + height * stride, 2 : 2 + width * stride]


def pixel_norm(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    mean = images.mean(1, keepdim=True)
    variance = (images - mean).square().mean(1, keepdim=True)
    return (images - mean) / (variance + 1e-3).sqrt() * scale[:, None, None] + shift[:, None, None]


def report_generator(w: list[Tensor], latents: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    classes = torch.eye(w[0].shape[1] - latents.shape[1], dtype=latents.dtype)[labels]
    hidden = torch.cat([latents, classes], 1) @ w[0].T + w[1]
    hidden = (hidden @ w[2].T + w[3]).view(-1, 256, size[0] // 8, size[1] // 8)
    for layer, stride in enumerate((2, 2, 2, 1)):
        scale, shift, kernel, bias = w[4 + 4 * layer : 8 + 4 * layer]
        hidden = up(pixel_norm(hidden, scale, shift).clamp(min=0), kernel, bias, stride)
    return 1 / (1 + torch.exp(-up(hidden, w[20], w[21], 1)))


def report_discriminator(w: list[Tensor], images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    hidden = images
    for layer, stride in enumerate((2, 2, 2, 1)):
        hidden = down(hidden, w[2 * layer], w[2 * layer + 1], stride)
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    flat = hidden.flatten(1)
    tags = (flat @ w[8].T + w[9])[:, 0]
    logits = ((flat @ w[10].T + w[11]) * mask) @ w[12].T + w[13]
    return tags, logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of −log of the softmax's share for the label."""
    shares = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    return -torch.log(shares[torch.arange(len(labels)), labels]).mean()


def rmsprop(weights: list[Tensor], gradients: tuple[Tensor, ...], rate: float, decay: float) -> list[Tensor]:
    """The first step from a mean square of zero."""
    moved = []
    for weight, gradient in zip(weights, gradients, strict=True):
        total = gradient + decay * weight
        mean_square = 0.9 * 0 + 0.1 * total**2
        moved.append(weight - rate * total / (mean_square.sqrt() + 1e-7))
    return moved


def generator_weights(generator: Any) -> list[Tensor]:
    parts = [generator.dense1, generator.dense2]
    for norm, conv in zip(generator.norms, generator.convs, strict=True):
        parts += [norm, conv]
    return [weight.detach().clone() for part in [*parts, generator.to_image] for weight in (part.weight, part.bias)]


def discriminator_weights(discriminator: Any) -> list[Tensor]:
    parts = [*discriminator.convs, discriminator.tag, discriminator.label_dense, discriminator.label]
    return [weight.detach().clone() for part in parts for weight in (part.weight, part.bias)]


class FixedDropout(nn.Module):
    """The same elements left out each time."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * self.mask


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(REPORT, marks=pytest.mark.slow, id="report"),
        pytest.param(DataSpec(1, (24, 16), LabelSpec(("a", "b", "c"))), id="small"),
    ],
)
def test_original_step_is_the_reports(data: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, so that RMSprop, which looks at little but the sign, cannot blow up rounding."""
    gan = ACGAN(data, preset="original")
    trainer = gan.make_trainer(device="cpu")
    generator, discriminator = trainer.generator.double(), trainer.discriminator.double()
    rng = torch.Generator().manual_seed(1)
    mask = (torch.rand(5, 256, generator=rng) > 0.3).double() / 0.7
    batch = make_batch(data, 5)
    batch = Batch(batch.images.double(), batch.labels)
    assert batch.labels is not None
    latents = [torch.rand(5, 100, generator=rng).double() * 2 - 1 for _ in range(2)]
    fake_labels = torch.randint(data.num_labels, (5,), generator=rng)

    drawn = iter(latents)
    monkeypatch.setattr(generator, "make_latents", lambda n, rng: next(drawn))
    monkeypatch.setattr(trainer, "make_labels", lambda real: fake_labels)
    monkeypatch.setattr(trainer, "_augmented", lambda batch: batch)  # it makes float32
    monkeypatch.setattr(discriminator, "dropout", FixedDropout(mask))
    g = [weight.requires_grad_() for weight in generator_weights(generator)]
    d = [weight.requires_grad_() for weight in discriminator_weights(discriminator)]
    metrics = trainer.train_step(batch)

    # Discriminator: real and fake images in one batch, tags 1 and 0, labels for both.
    images = torch.cat([(batch.images + 1) / 2, report_generator(g, latents[0], fake_labels, data.size).detach()])
    tags, logits = report_discriminator(d, images, torch.cat([mask, mask]))
    targets = torch.tensor([1.0] * 5 + [0.0] * 5, dtype=torch.float64)
    tag_loss = (tags - targets).square().mean()
    label_loss = cross_entropy(logits, torch.cat([batch.labels, fake_labels]))
    l2 = 0.001 * sum((d[index] ** 2).sum() for index in (0, 2, 4, 6, 10))
    expected_d = rmsprop(d, torch.autograd.grad(tag_loss + label_loss + l2, d), 1e-4, 6e-9)
    logged = {"adversarial": tag_loss, "label": label_loss, "l2": l2}
    for name, value in logged.items():
        assert float(metrics[f"discriminator/{name}"]) == pytest.approx(value.item(), rel=1e-5), name

    # Generator: fresh latents, the same labels, against the discriminator that has just moved.
    start = d, g
    d = [weight.detach() for weight in expected_d]
    tags, logits = report_discriminator(d, report_generator(g, latents[1], fake_labels, data.size), mask)
    tag_loss, label_loss = (tags - 1).square().mean(), cross_entropy(logits, fake_labels)
    l2 = 0.001 * (g[2] ** 2).sum()
    expected_g = rmsprop(g, torch.autograd.grad(tag_loss + label_loss + l2, g), 5e-5, 3e-9)
    for name, value in {"adversarial": tag_loss, "label": label_loss, "l2": l2}.items():
        assert float(metrics[f"generator/{name}"]) == pytest.approx(value.item(), rel=1e-5), name
    assert len(metrics) == 7  # and the discriminator's accuracy

    for found, expected, before, rate in (
        (discriminator_weights(discriminator), expected_d, start[0], 1e-4),
        (generator_weights(generator), expected_g, start[1], 5e-5),
    ):
        for one, other, old in zip(found, expected, before, strict=True):
            torch.testing.assert_close(one, other.detach(), atol=0.005 * rate, rtol=0)
            assert float((one - old.detach()).abs().max()) > rate


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_are_tensorflows_mirrored(stride: int) -> None:
    """With kernels and images mirrored, TensorFlow's "same" padding gives the mirrored result."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 16, generator=rng)
    mirrored = images.flip(2, 3)
    before, after = (1, 2) if stride == 2 else (2, 2)

    conv = nn.Conv2d(3, 4, 5, stride, padding=2)
    padded = F.pad(mirrored, (before, after, before, after))
    tensorflow = F.conv2d(padded, conv.weight.flip(2, 3), conv.bias, stride)
    torch.testing.assert_close(conv(images), tensorflow.flip(2, 3))

    # Its transposed convolution is the gradient of that convolution.
    conv_up = nn.ConvTranspose2d(3, 4, 5, stride, padding=2, output_padding=stride - 1, bias=False)
    canvas = torch.zeros(2, 4, 8 * stride, 16 * stride, requires_grad=True)
    padded = F.pad(canvas, (before, after, before, after))
    forward = F.conv2d(padded, conv_up.weight.flip(2, 3), None, stride)
    (tensorflow,) = torch.autograd.grad(forward, canvas, mirrored)
    torch.testing.assert_close(conv_up(images), tensorflow.flip(2, 3))


@pytest.mark.parametrize(
    "data",
    [
        DataSpec(1, (48, 40), LabelSpec(("a", "b", "c"))),
        DataSpec(1, (8, 8), LabelSpec(("only",))),
        DataSpec(4, (16, 24)),
        DataSpec(3, (32, 32), CLASSES),
    ],
    ids=["three classes", "one class", "no labels", "report"],
)
def test_original_at_other_sizes(data: DataSpec) -> None:
    gan = ACGAN(data, preset="original")
    trainer = gan.make_trainer(device="cpu")
    trainer.fit([make_batch(data, 5)], 1)
    trainer.check_finite()
    images = gan.sample(2).images
    assert images.shape == (2, data.channels, *data.size)
    assert -1 <= images.min() < images.max() <= 1
    area = data.size[0] // 8 * (data.size[1] // 8)
    k = data.num_labels
    assert count(trainer.generator) == (
        (100 + k) * 1024 + 1024 + 1025 * 256 * area + 1408 + 1_638_656 + 819_328 + 204_864 + 51_232
        + 800 * data.channels + data.channels
    )  # fmt: skip
    label_head = 256 * (256 * area + 1) + k * 257 if k else 0
    assert count(trainer.discriminator) == (
        800 * data.channels + 32 + 51_264 + 204_928 + 819_456 + 256 * area + 1 + label_head
    )


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        *((preset, size) for preset in ("original", "modern") for size in ((60, 64), (28, 28), (7, 7), (64,))),
        *(("original", (64, 64, 64)), ("modern", (16, 16))),
        *(("modern", size) for size in ((8, 16, 16), (16, 20, 16), (16, 16, 256), (16, 16, 16, 16))),
    ],
)
def test_impossible_sizes_are_refused(preset: str, size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="acgan"):
        ACGAN(DataSpec(1, size), preset=preset)


def test_refusal_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"60×64. Try --size 64"):
        ACGAN(DataSpec(1, (60, 64)), preset="original")
    with pytest.raises(ConfigError, match=r"--preset original"):
        ACGAN(DataSpec(1, (48, 48)))
    with pytest.raises(ConfigError, match=r"16, 32, 64 or 128 voxels a side, got 8×48×48. Try --depth 16 --size 32"):
        ACGAN(DataSpec(1, (8, 48, 48)))
    with pytest.raises(ConfigError, match=r"no volumes with these options, got 16×16×16. Try --preset modern"):
        ACGAN(DataSpec(1, (16, 16, 16)), preset="original")


@pytest.mark.parametrize("kind", ["ordinal", "multilabel", "continuous"])
def test_original_learns_classes_only(kind: Any) -> None:
    data = DataSpec(1, (32, 32), LabelSpec(("a", "b"), kind))
    with pytest.raises(ConfigError, match=rf"categorical labels, but the data's are {kind}. Type --preset modern"):
        ACGAN(data, preset="original")


@pytest.mark.parametrize("labels", [FINDINGS, QUANTITIES], ids=["findings", "quantities"])
def test_uniform_labels_are_for_classes(labels: LabelSpec) -> None:
    with pytest.raises(ConfigError, match=rf"{labels.kind} labels are no classes. Type --fake-labels real"):
        ACGAN(DataSpec(1, (32, 32), labels), **SMALL, fake_labels="uniform")
    ordinal = DataSpec(1, (32, 32), LabelSpec(("low", "middle", "high"), "ordinal"))
    trainer: Any = ACGAN(ordinal, **SMALL, fake_labels="uniform").make_trainer(device="cpu")
    drawn = trainer.make_labels(Batch(torch.zeros(300, 0), torch.zeros(300, dtype=torch.int64)))
    assert set(drawn.tolist()) == {0, 1, 2}


# ------------------------------------------------------------------------------------------ modern


SMALL_MODERN = {"generator_width": 2, "discriminator_width": 2, "latent_dim": 8, "batch_size": 4, "minibatch_std": 4}
# Small residual networks with a linear label head.
SMALL = SMALL_MODERN | {"head": "ac", "adversarial": "hinge", "spectral_norm": True, "gradient_penalty": "none"}
SMALL |= {"penalty_one_in": 1}


def test_modern_is_the_default() -> None:
    assert ACGAN.default_preset == "modern"
    assert ACGAN(DataSpec(1, (32, 32), CLASSES), latent_dim=8).config.replace(latent_dim=128) == ACGAN.presets["modern"]


def test_modern_has_what_small_medical_sets_need() -> None:
    config = ACGAN.presets["modern"]
    assert config.gradient_penalty == "r1r2"
    assert not config.spectral_norm  # one bound is enough
    assert config.lecam_weight == 0
    assert config.ada_target is not None  # without, the discriminator learns a thousand images by heart
    assert config.lr_decay > 0
    assert config.adversarial == "relativistic"
    assert config.head == "projection"
    assert config.minibatch_std > 1
    assert config.ema_halflife > 0
    assert config.class_sampling != "natural"
    assert config.augment == "brightness,contrast,cutout"  # shifted images would hide how little the poses vary
    assert "flip" not in config.augment


@pytest.mark.parametrize("labels", [CLASSES, None], ids=["labels", "no labels"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("length", [32, 64, 128, 256])
def test_modern_trains_at_every_size(length: int, channels: int, labels: LabelSpec | None) -> None:
    data = DataSpec(channels, (length, length), labels)
    gan = ACGAN(data, **SMALL_MODERN)
    trainer = gan.make_trainer(device="cpu")
    trainer.fit([make_batch(data, 4)], 1)
    trainer.check_finite()
    batch = gan.sample(1)
    assert batch.images.shape == (1, channels, length, length)
    assert batch.images.abs().max() <= 1
    assert (batch.labels is None) == (labels is None)
    assert trainer.discriminator(batch.images).label_logits is None


def test_modern_does_other_aspect_ratios() -> None:
    data = DataSpec(1, (64, 32), CLASSES)
    gan = ACGAN(data, **SMALL_MODERN)
    gan.make_trainer(device="cpu").fit([make_batch(data, 4)], 1)
    assert gan.sample(1).images.shape == (1, 1, 64, 32)


@pytest.mark.parametrize(
    ("size", "generator_widths", "discriminator_widths"),
    [
        ((32, 32), (128, 64, 32, 16), (1, 32, 64, 128)),
        ((64, 32), (128, 64, 32, 16), (1, 32, 64, 128)),
        ((16, 16, 16), (64, 32, 16), (1, 32, 64)),
    ],
    ids=str,
)
@pytest.mark.parametrize("labels", [CLASSES, FINDINGS], ids=["classes", "findings"])
def test_modern_parameters(
    size: tuple[int, ...], generator_widths: Any, discriminator_widths: Any, labels: LabelSpec
) -> None:
    trainer = ACGAN(DataSpec(1, size, labels)).make_trainer(device="cpu")
    three, four = 3 ** len(size), 4 ** len(size)
    base = math.prod(size) // 2 ** (len(size) * (len(generator_widths) - 1))
    latents, embedded, k = 128, 32, len(labels)
    condition = latents + embedded + 1  # with the bias
    seed = condition * generator_widths[0] * base
    ups = sum(
        condition * 2 * i + (three * i + 1) * o + condition * 2 * o + (three * o + 1) * o
        for i, o in pairwise(generator_widths)
    )
    assert count(trainer.generator) == k * embedded + seed + ups + condition * 2 * 16 + three * 16 + 1
    last = discriminator_widths[-1]
    downs = sum((four * i + 1) * o + (three * o + 1) * o for i, o in pairwise(discriminator_widths))
    downs -= (three * last + 1) * last  # no detail in the last block
    heads = (last * base + 1) * 128 + 129 + k * 128  # dense, realness, projection
    assert count(trainer.discriminator) == downs + (three * (last + 1) + 1) * last + heads


def shapes(module: nn.Module, *arguments: Any) -> list[tuple[int, ...]]:
    """Spatial sizes of the blocks' results, in order."""
    seen: list[tuple[int, ...]] = []
    blocks: Any = module.blocks
    hooks = [block.register_forward_hook(lambda *call: seen.append(tuple(call[-1].shape[2:]))) for block in blocks]
    module(*arguments)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("size", "grown"),
    [
        ((32, 32), [(8, 8), (16, 16), (32, 32)]),
        ((64, 32), [(16, 8), (32, 16), (64, 32)]),
        ((16, 16, 16), [(8, 8, 8), (16, 16, 16)]),
        ((16, 32, 64), [(8, 8, 8), (16, 16, 16), (16, 32, 32), (16, 32, 64)]),
        ((64, 16, 32), [(8, 8, 8), (16, 16, 16), (32, 16, 32), (64, 16, 32)]),
    ],
    ids=str,
)
def test_long_axes_of_volumes_grow_last(size: tuple[int, ...], grown: list[tuple[int, ...]]) -> None:
    data = DataSpec(1, size, CLASSES)
    gan = ACGAN(data, **SMALL)
    trainer = gan.make_trainer(device="cpu")
    trainer.fit([make_batch(data, 4)], 1)
    trainer.check_finite()
    batch = gan.sample(2)
    assert batch.images.shape == (2, 1, *size)
    assert batch.images.abs().max() <= 1
    assert shapes(gan.generator, gan.generator.make_latents(2), batch.labels) == grown
    seed = tuple(length // 2 for length in grown[0])
    assert shapes(trainer.discriminator, batch.images) == [*grown[-2::-1], seed]


def test_volumes_are_in_the_memory_format_of_their_convolutions() -> None:
    data = DataSpec(2, (16, 16, 16), CLASSES)
    generator: Any = ACGAN(data, **SMALL).generator
    found = []
    generator.blocks[0].register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))
    )
    generator(generator.make_latents(2), torch.tensor([0, 1]))
    assert found == [True]


def test_largest_volumes_are_accepted() -> None:
    ACGAN.check(ACGANConfig(), DataSpec(1, (128, 128, 128)))


class Volumes(ACGAN):
    """Volumes with findings alone, so that every check looks at them."""

    spatial_dims = (3,)
    label_kinds = ("multilabel",)


class Quantities(ACGAN):
    """Images with quantities alone."""

    spatial_dims = (2,)
    label_kinds = ("continuous",)


@pytest.mark.parametrize("architecture", [Volumes, Quantities])
def test_kit_on_volumes_and_vectors(architecture: type[ACGAN]) -> None:
    check_architecture(architecture)


@pytest.mark.parametrize("labels", [CLASSES, FINDINGS], ids=["classes", "findings"])
def test_spectral_norm_bounds_each_layer(labels: LabelSpec) -> None:
    data = DataSpec(1, (32, 32), labels)
    discriminator = ACGAN(data, **SMALL).make_trainer(device="cpu").discriminator
    batch = make_batch(data, 4)
    for _ in range(60):
        discriminator(*batch)
    bounded = {name: part for name, part in discriminator.named_modules() if hasattr(part, "parametrizations")}
    kinds = nn.Linear | nn.Conv2d | nn.Embedding
    layered = {name for name, part in discriminator.named_modules() if isinstance(part, kinds)}
    assert set(bounded) == layered - {"label"}
    assert len(bounded) > 3
    discriminator.eval()
    for name, part in bounded.items():
        weight: Any = part.weight
        largest = np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)[0]
        assert largest == pytest.approx(1, rel=0.03), name


@pytest.mark.parametrize("projection", [True, False])
def test_projection_judges_images_as_of_their_class(projection: bool) -> None:
    data = DataSpec(1, (32, 32), CLASSES)
    network: Any = ACGAN(data, **SMALL, projection=projection).make_trainer(device="cpu").discriminator
    network.eval()
    images = make_batch(data, 4).images
    with torch.no_grad():
        plain, first, second = (
            network(images, labels) for labels in (None, *torch.arange(2).repeat_interleave(4).view(2, 4))
        )
        if projection:
            for index, output in enumerate((first, second)):
                inner = plain.features.double().numpy() @ network.embed.weight[index].double().numpy()
                added = (output.realness - plain.realness).numpy()
                np.testing.assert_allclose(added, inner, rtol=1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(first.realness, plain.realness, rtol=0, atol=0)
            torch.testing.assert_close(second.realness, plain.realness, rtol=0, atol=0)
    torch.testing.assert_close(first.label_logits, second.label_logits, rtol=0, atol=0)


def networks(data: DataSpec, **options: Any) -> tuple[Any, Any]:
    """Generator and discriminator in evaluation mode."""
    trainer = ACGAN(data, **{**SMALL, **options}).make_trainer(device="cpu")
    return trainer.generator.eval(), trainer.discriminator.eval()


def test_a_single_finding_is_learnt_like_a_class() -> None:
    """With the same weights a vector with one 1 does what that class's index does."""
    plain = {"spectral_norm": False}
    by_class = networks(DataSpec(1, (32, 32), LabelSpec(FINDINGS.names)), **plain)
    by_vector = networks(DataSpec(1, (32, 32), FINDINGS), **plain)
    for one, other in zip(by_class, by_vector, strict=True):
        weights = one.state_dict()
        other.load_state_dict({**weights, "embed.weight": weights["embed.weight"].T})
    classes = torch.arange(3)
    vectors = torch.eye(3)
    latents = by_class[0].make_latents(3, torch.Generator().manual_seed(0))
    images = make_batch(DataSpec(1, (32, 32)), 3).images
    with torch.no_grad():
        torch.testing.assert_close(by_vector[0](latents, vectors), by_class[0](latents, classes))
        found, expected = by_vector[1](images, vectors), by_class[1](images, classes)
    torch.testing.assert_close(found.realness, expected.realness)
    torch.testing.assert_close(found.label_logits, expected.label_logits)


@pytest.mark.parametrize(("labels", "neutral"), [(FINDINGS, 0.5), (QUANTITIES, 0.0)], ids=["findings", "quantities"])
@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)], ids=str)
def test_unknown_labels_are_neutral(size: tuple[int, ...], labels: LabelSpec, neutral: float) -> None:
    data = DataSpec(1, size, labels)
    generator, discriminator = networks(data)
    images, unknown = masked(make_batch(data, 4))
    assert unknown is not None
    filled = torch.from_numpy(np.nan_to_num(unknown.numpy(), nan=neutral))
    other = torch.from_numpy(np.nan_to_num(unknown.numpy(), nan=1.0))
    latents = generator.make_latents(4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = [generator(latents, labels) for labels in (unknown, filled, other)]
        judged = [discriminator(images, labels).realness for labels in (unknown, filled, other)]
    for one, same, different in (made, judged):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, same, rtol=0, atol=0)
        assert not torch.allclose(one[-1], different[-1], atol=1e-3)


def test_vectors_start_as_heard_as_classes() -> None:
    data = DataSpec(1, (32, 32), LabelSpec(tuple(f"finding {number}" for number in range(14)), "multilabel"))
    generator, _ = networks(data)
    assert float(generator.embed.weight.detach().std()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)], ids=str)
@pytest.mark.parametrize("labels", [FINDINGS, QUANTITIES], ids=["findings", "quantities"])
def test_training_on_unknown_labels_alone_stays_finite(labels: LabelSpec, size: tuple[int, ...]) -> None:
    data = DataSpec(1, size, labels)
    gan = ACGAN(data, **SMALL, label_on_fakes=True)
    trainer = gan.make_trainer(device="cpu")
    batch = Batch(make_batch(data, 4).images, torch.full((4, 3), math.nan))
    head: Any = trainer.discriminator.get_submodule("label")
    before = head.weight.detach().clone()
    trainer.fit([batch] * 2, 2)
    trainer.check_finite()
    torch.testing.assert_close(head.weight.detach(), before, rtol=0, atol=0)
    assert torch.isfinite(gan.sample(4, labels=batch.labels).images).all()


def adam(weights: list[Tensor], gradients: tuple[Tensor, ...], rate: float) -> list[Tensor]:
    """The first step: both running means, corrected, are those of the one gradient."""
    return [weight - rate * g / ((g**2).sqrt() + 1e-8) for weight, g in zip(weights, gradients, strict=True)]


def findings_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of −log of the probability of each known finding's value."""
    terms = []
    for row, truth in zip(logits, labels, strict=True):
        for logit, value in zip(row, truth, strict=True):
            if value == value:
                sigmoid = 1 / (1 + torch.exp(-logit))
                terms.append(-torch.log(sigmoid if value == 1 else 1 - sigmoid))
    return torch.stack(terms).mean()


def test_step_on_findings_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, as Adam's first step, too, looks at the sign of a gradient only."""
    data = DataSpec(1, (32, 32), FINDINGS)
    rates = {"generator_lr": 1e-3, "discriminator_lr": 2e-3}
    options = {
        "spectral_norm": False,
        "minibatch_std": 0,
        "label_weight": 0.3,
        "label_on_fakes": True,
        "augment": "none",
        "ada_target": None,
        "lecam_weight": 0.0,
        "clip_norm": None,  # Adam's epsilon would count beside clipped gradients
    }
    trainer: Any = ACGAN(data, **{**SMALL, **options}, **rates).make_trainer(device="cpu")
    generator, discriminator = trainer.generator.double(), trainer.discriminator.double()
    images, labels = masked(make_batch(data, 5, seed=3))
    assert labels is not None
    images, labels = images.double(), labels.double()
    rng = torch.Generator().manual_seed(1)
    latents = [torch.randn(5, 8, generator=rng).double() for _ in range(2)]
    drawn = iter(latents)
    monkeypatch.setattr(generator, "make_latents", lambda n, rng: next(drawn))
    monkeypatch.setattr(trainer, "_augmented", lambda batch: batch)  # it makes float32
    known = torch.where(labels == labels, labels, torch.full_like(labels, 0.5))
    names = {
        network: [name for name, _ in getattr(trainer, network).named_parameters()]
        for network in ("generator", "discriminator")
    }
    start = {
        network: [weight.detach().clone().requires_grad_() for weight in getattr(trainer, network).parameters()]
        for network in names
    }

    def make(weights: list[Tensor], latents: Tensor) -> Tensor:
        named = dict(zip(names["generator"], weights, strict=True))
        made: Tensor = torch.func.functional_call(generator, named, (latents, known))
        return made

    def judge(weights: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(names["discriminator"], weights, strict=True))
        output = torch.func.functional_call(discriminator, named, (images,))
        inner = torch.einsum("nk,fk,nf->n", known, named["embed.weight"], output.features)
        return output.realness + inner, output.label_logits

    # Before the step, as it moves the networks' own weights.
    d, g = start["discriminator"], start["generator"]
    (real, real_logits), (fake, fake_logits) = judge(d, images), judge(d, make(g, latents[0]).detach())
    adversarial = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    label = 0.3 * (findings_loss(real_logits, labels) + findings_loss(fake_logits, labels)) / 2
    expected_d = adam(d, torch.autograd.grad(adversarial + label, d), rates["discriminator_lr"])
    logged = {"discriminator/adversarial": adversarial, "discriminator/label": label}
    logged["discriminator/accuracy"] = (real > fake).double().mean()
    moved = [weight.detach() for weight in expected_d]
    realness, logits = judge(moved, make(g, latents[1]))
    adversarial, label = -realness.mean(), 0.3 * findings_loss(logits, labels)
    expected_g = adam(g, torch.autograd.grad(adversarial + label, g), rates["generator_lr"])
    logged |= {"generator/adversarial": adversarial, "generator/label": label}

    metrics = trainer.train_step(Batch(images, labels))
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(
        {name: value.item() for name, value in logged.items()}, rel=1e-5
    )
    for network, expected in (("discriminator", expected_d), ("generator", expected_g)):
        rate = rates[f"{network}_lr"]
        for name, weight, aim in zip(names[network], getattr(trainer, network).parameters(), expected, strict=True):
            torch.testing.assert_close(weight.detach(), aim.detach(), atol=0.01 * rate, rtol=0, msg=name)


def test_spectral_norm_and_minibatch_std_can_be_turned_off() -> None:
    data = DataSpec(1, (32, 32), CLASSES)
    for option, there in (({}, True), ({"spectral_norm": False, "minibatch_std": 0}, False)):
        trainer = ACGAN(data, **{**SMALL, **option}).make_trainer(device="cpu")
        parts = list(trainer.discriminator.modules())
        assert any(hasattr(part, "parametrizations") for part in parts) is there
        assert any(isinstance(part, MinibatchStdDev) for part in parts) is there
        trainer.fit([make_batch(data, 4)], 1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def softplus(values: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(values))


@pytest.mark.parametrize("kind", ["multilabel", "continuous"])
def test_losses_on_vectors_against_numpy(kind: Any) -> None:
    data = DataSpec(1, (32, 32), LabelSpec(("a", "b", "c"), kind))
    trainer: Any = ACGAN(data, **SMALL, label_weight=0.5).make_trainer(device="cpu")
    trainer.discriminator.eval()
    batches = masked(make_batch(data, 6, seed=1)), masked(make_batch(data, 6, seed=2))
    with torch.no_grad():
        found = trainer.discriminator_loss(*batches), trainer.generator_loss(*batches)
        outputs = [trainer.discriminator(*batch) for batch in batches]
    for terms, output, batch in zip(found, outputs, batches, strict=True):
        said, truth = output.label_logits.double().numpy(), batch.labels.double().numpy()
        errors = softplus(said) - truth * said if kind == "multilabel" else (said - truth) ** 2
        assert float(terms["label"]) == pytest.approx(0.5 * np.nanmean(errors), rel=1e-5)


@pytest.mark.parametrize("adversarial", ["hinge", "bce", "lsgan"])
@pytest.mark.parametrize(("label_on_fakes", "label_weight"), [(False, 0.0), (False, 0.5), (True, 0.5)])
def test_losses_against_numpy(adversarial: str, label_on_fakes: bool, label_weight: float) -> None:
    data = DataSpec(1, (32, 32), LabelSpec(("a", "b", "c")))
    losses = {"adversarial": adversarial, "label_on_fakes": label_on_fakes, "label_weight": label_weight}
    gan = ACGAN(data, **SMALL | losses)
    trainer = gan.make_trainer(device="cpu")
    assert isinstance(trainer, ACGAN.Trainer)
    trainer.discriminator.eval()
    real, fake = make_batch(data, 6, seed=1), make_batch(data, 6, seed=2)
    with torch.no_grad():
        found = trainer.discriminator_loss(real, fake), trainer.generator_loss(real, fake)
        on_real, on_fake = trainer.discriminator(*real), trainer.discriminator(*fake)
    r, f = (output.realness.double().numpy() for output in (on_real, on_fake))
    assert on_real.label_logits is not None
    assert on_fake.label_logits is not None
    assert real.labels is not None
    assert fake.labels is not None
    on_reals = -log_softmax(on_real.label_logits.double().numpy())[np.arange(6), real.labels.numpy()].mean()
    on_fakes = -log_softmax(on_fake.label_logits.double().numpy())[np.arange(6), fake.labels.numpy()].mean()
    expected_d, expected_g = {
        "hinge": (np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(), -f.mean()),
        "bce": (softplus(-r).mean() + softplus(f).mean(), softplus(-f).mean()),
        "lsgan": (((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2, ((f - 1) ** 2).mean()),
    }[adversarial]
    expected = {"adversarial": expected_d}, {"adversarial": expected_g}
    if label_weight:
        expected[0]["label"] = label_weight * ((on_reals + on_fakes) / 2 if label_on_fakes else on_reals)
        expected[1]["label"] = label_weight * on_fakes
    for terms, values in zip(found, expected, strict=True):
        assert {name: float(term) for name, term in terms.items()} == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize(
    ("adversarial", "by_pairs"),
    [("hinge", False), ("bce", False), ("lsgan", True), ("wgan", True), ("relativistic", True)],
)
def test_the_augmentation_goes_by_signs_only_where_zero_parts_real_from_generated(
    adversarial: str, by_pairs: bool
) -> None:
    trainer = ACGAN(DataSpec(1, (32, 32)), **SMALL | {"adversarial": adversarial}).make_trainer(device="cpu")
    assert isinstance(trainer, ACGAN.Trainer)
    assert trainer.realness_is_relative is by_pairs
    if adversarial in ("wgan", "relativistic"):
        return  # any number added to all realness leaves them as they are
    # The realness of a discriminator that cannot tell: where the loss on both kinds, judged alike, is least.
    said = torch.linspace(-3, 3, 601)
    found = torch.stack([trainer._discriminator_realness(value[None], value[None]) for value in said])
    least = said[found.isclose(found.min(), atol=1e-6)]
    assert bool((least.abs() < 0.02).any()) is not by_pairs


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)])
def test_optimizers_have_their_own_rates_and_decays(optimizer: str, kind: type[torch.optim.Optimizer]) -> None:
    rates = {"generator_lr": 1e-3, "discriminator_lr": 2e-3}
    decays = {"generator_weight_decay": 0.1, "discriminator_weight_decay": 0.2}
    betas = {"beta1": 0.3, "beta2": 0.8} if optimizer == "adam" else {}
    gan = ACGAN(DataSpec(1, (32, 32)), **SMALL, **rates, **decays, **betas, optimizer=optimizer)
    trainer = gan.make_trainer(device="cpu")
    for network in ("generator", "discriminator"):
        wrapped: Any = trainer.optimizers[network]
        assert isinstance(wrapped.optimizer, kind)
        (group,) = wrapped.param_groups
        assert group["lr"] == rates[f"{network}_lr"]
        assert group["weight_decay"] == decays[f"{network}_weight_decay"]
        if optimizer == "adam":
            assert group["betas"] == (0.3, 0.8)


def test_labels_of_the_fakes_are_the_real_ones_by_default() -> None:
    data = DataSpec(1, (32, 32), CLASSES)
    trainer = ACGAN(data, **SMALL).make_trainer(device="cpu")
    assert isinstance(trainer, ACGAN.Trainer)
    batch = make_batch(data, 4)
    assert trainer.make_labels(batch) is batch.labels
    assert trainer.make_labels(Batch(batch.images)) is None


def test_tiny_learns_to_tell_and_to_show_the_classes() -> None:
    """Bright squares on the left or on the right: after some steps the auxiliary head knows them."""
    data = DataSpec(1, (32, 32), LabelSpec(("left", "right")))

    def batch(step: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        labels = torch.randint(2, (8,), generator=rng)
        images = torch.rand(8, 1, 32, 32, generator=rng) * 0.2 - 1
        for image, label in zip(images, labels, strict=True):
            image[:, 8:24, 16 * int(label) : 16 * int(label) + 16] += 1.5
        return Batch(images, labels)

    gan = ACGAN(data, preset="tiny", generator_lr=1e-3, discriminator_lr=5e-3, augment="none")
    trainer = gan.make_trainer(device="cpu")
    trainer.fit((batch(step) for step in range(50)), 50)
    test = batch(1000)
    assert test.labels is not None
    logits = trainer.discriminator.eval()(test.images).label_logits
    assert logits is not None
    assert float((logits.argmax(1) == test.labels).float().mean()) > 0.8


@pytest.mark.parametrize(("size", "kind"), [((32, 32), "multilabel"), ((16, 16, 16), "continuous")], ids=str)
def test_tiny_learns_to_tell_and_to_show_vectors(size: tuple[int, ...], kind: Any) -> None:
    """Two halves, each as bright as its label says, where known: after some steps both networks know them."""
    data = DataSpec(1, size, LabelSpec(("left", "right"), kind))
    half = size[-1] // 2

    def batch(step: int, n: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        labels = torch.rand(n, 2, generator=rng)
        labels = labels.round() if kind == "multilabel" else labels * 2 - 1
        images = torch.rand(n, 1, *size, generator=rng) * 0.2 - 0.1
        bright = labels.view(n, 2, *[1] * len(size)) * 0.8
        images[..., :half] += bright[:, :1]
        images[..., half:] += bright[:, 1:]
        return Batch(images, labels)

    def some_unknown(step: int) -> Batch:
        images, labels = batch(step, 8)
        assert labels is not None
        rng = torch.Generator().manual_seed(step)
        return Batch(images, labels.masked_fill(torch.rand(8, 2, generator=rng) < 0.3, math.nan))

    rates = {"generator_lr": 1e-3, "discriminator_lr": 2e-3}
    gan = ACGAN(data, preset="tiny", **rates, augment="none", label_weight=3.0)
    trainer = gan.make_trainer(device="cpu")
    trainer.fit((some_unknown(step) for step in range(60)), 60)
    test = batch(1000, 48)
    assert test.labels is not None
    with torch.no_grad():
        said = trainer.discriminator.eval()(test.images).label_logits
        shown = trainer.generator(trainer.generator.make_latents(48, torch.Generator().manual_seed(0)), test.labels)
    assert said is not None
    for column, side in enumerate((shown[..., :half], shown[..., half:])):
        truth = test.labels[:, column].numpy()
        assert np.corrcoef(said[:, column].numpy(), truth)[0, 1] > 0.7
        assert np.corrcoef(side.flatten(1).mean(1).numpy(), truth)[0, 1] > 0.5
