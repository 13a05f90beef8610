"""ACGAN: the report's networks and steps to the last parameter, and the modern preset's parts."""

from __future__ import annotations

import math
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

CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))
REPORT = DataSpec(3, (64, 64), CLASSES)


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def make_batch(data: DataSpec, n: int, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
    return Batch(images, torch.randint(data.num_labels, (n,), generator=rng) if data.labels else None)


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
    monkeypatch.setattr(generator, "make_latents", lambda n: next(drawn))
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
    assert len(metrics) == 6

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


@pytest.mark.parametrize("size", [(60, 64), (28, 28), (7, 7), (64,), (64, 64, 64)])
@pytest.mark.parametrize("preset", ["original", "modern"])
def test_impossible_sizes_are_refused(preset: str, size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="acgan"):
        ACGAN(DataSpec(1, size), preset=preset)


def test_refusal_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"60×64. Try --size 64"):
        ACGAN(DataSpec(1, (60, 64)), preset="original")
    with pytest.raises(ConfigError, match=r"--preset original"):
        ACGAN(DataSpec(1, (48, 48)))


# ------------------------------------------------------------------------------------------ modern


SMALL = {"generator_width": 2, "discriminator_width": 2, "latent_dim": 8, "batch_size": 4}


def test_modern_is_the_default() -> None:
    assert ACGAN.default_preset == "modern"
    assert ACGAN(DataSpec(1, (32, 32), CLASSES), latent_dim=8).config.replace(latent_dim=128) == ACGANConfig()


def test_modern_has_what_small_medical_sets_need() -> None:
    config = ACGANConfig()
    assert config.spectral_norm
    assert config.adversarial == "hinge"
    assert config.minibatch_std > 1
    assert config.ema_halflife > 0
    assert config.class_sampling != "natural"
    assert {"translation", "cutout"} <= set(config.augment.split(","))
    assert "flip" not in config.augment


@pytest.mark.parametrize("labels", [CLASSES, None], ids=["labels", "no labels"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("length", [32, 64, 128, 256])
def test_modern_trains_at_every_size(length: int, channels: int, labels: LabelSpec | None) -> None:
    data = DataSpec(channels, (length, length), labels)
    gan = ACGAN(data, **SMALL)
    trainer = gan.make_trainer(device="cpu")
    trainer.fit([make_batch(data, 4)], 1)
    trainer.check_finite()
    batch = gan.sample(1)
    assert batch.images.shape == (1, channels, length, length)
    assert batch.images.abs().max() <= 1
    assert (batch.labels is None) == (labels is None)
    logits = trainer.discriminator(batch.images).label_logits
    assert (logits is None) == (labels is None)


def test_modern_does_other_aspect_ratios() -> None:
    data = DataSpec(1, (64, 32), CLASSES)
    gan = ACGAN(data, **SMALL)
    gan.make_trainer(device="cpu").fit([make_batch(data, 4)], 1)
    assert gan.sample(1).images.shape == (1, 1, 64, 32)


def test_modern_bounds_each_layer_by_its_spectral_norm() -> None:
    data = DataSpec(1, (32, 32), CLASSES)
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


@pytest.mark.parametrize("adversarial", ["hinge", "bce", "lsgan"])
@pytest.mark.parametrize("label_on_fakes", [False, True])
@pytest.mark.parametrize("label_weight", [0.0, 0.5])
def test_losses_against_numpy(adversarial: str, label_on_fakes: bool, label_weight: float) -> None:
    data = DataSpec(1, (32, 32), LabelSpec(("a", "b", "c")))
    gan = ACGAN(data, **SMALL, adversarial=adversarial, label_on_fakes=label_on_fakes, label_weight=label_weight)
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


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)])
def test_optimizers_have_their_own_rates_and_decays(optimizer: str, kind: type[torch.optim.Optimizer]) -> None:
    rates = {"generator_lr": 1e-3, "discriminator_lr": 2e-3}
    decays = {"generator_weight_decay": 0.1, "discriminator_weight_decay": 0.2}
    gan = ACGAN(DataSpec(1, (32, 32)), **SMALL, **rates, **decays, optimizer=optimizer, beta1=0.3, beta2=0.8)
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
