"""ACGAN: a GAN whose discriminator also says which label an image shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan import losses
from medgan.core.config import ClassSampling, GANConfig, Idle, option
from medgan.core.gan import GAN
from medgan.core.networks import Discriminator, DiscriminatorOutput, Generator
from medgan.core.sides import Sides
from medgan.core.spec import Batch, DataSpec, LabelSpec
from medgan.core.trainer import AdversarialTrainer, memory_format
from medgan.errors import ConfigError
from medgan.models.heads import ADCHead, D2DCEHead, LabelHead, TwinHead
from medgan.nn import (
    ChannelLayerNorm,
    FiLMNorm,
    LabelEmbedding,
    MinibatchDiscrimination,
    MinibatchStdDev,
    fill_unknown,
    label_vectors,
)

__all__ = ["ACGAN", "ACGANConfig", "ACGANTrainer"]

_CLASSES = ("categorical", "ordinal")  # kinds of labels that are class indices
# By the number of spatial dimensions.
_CONVS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_MODES = {2: "bilinear", 3: "trilinear"}
_SIDES = {2: Sides.powers_of_two(32, 256), 3: Sides.powers_of_two(16, 128)}
_HEADS: dict[str, type[LabelHead]] = {"tac": TwinHead, "adc": ADCHead, "d2dce": D2DCEHead}  # ac: a linear layer
_KERNEL_DIMS = 8  # numbers that a kernel of minibatch discrimination compares


@dataclass(frozen=True, kw_only=True)
class ACGANConfig(GANConfig):
    """Options of `ACGAN`; the preset ``modern`` has these defaults, and some stabilisers besides."""

    latent_dim: int = option(128, "Length of a latent vector.", ge=1)
    discriminator_lr: float = option(3e-4, "Learning rate of the discriminator.", ge=0)
    augment: str = option(
        "brightness,contrast,cutout",
        "Differentiable augmentation of real and fake images: none, or policies or a modality joined by commas.",
    )
    augment_probability: float = option(
        0.5, "Chance of each augmentation to be applied to an image; lower keeps more variety.", ge=0, le=1
    )
    class_sampling: ClassSampling = option(
        "sqrt", "How often each class is drawn: as it is, in proportion to the root of its size, or equally often."
    )
    backbone: Literal["residual", "report"] = option(
        "residual", "Networks: small residual ones, or the plain 5×5 convolutions of the preset original."
    )
    generator_width: int = option(16, "Channels of the residual generator at full resolution.", ge=1)
    discriminator_width: int = option(32, "Channels of the residual discriminator after its first layer.", ge=1)
    spectral_norm: bool = option(True, "Bound each layer of the residual discriminator by its spectral norm.")
    minibatch_std: int = option(
        8, "Images in a group whose spread the residual discriminator sees; 0 turns it off.", ge=0
    )
    minibatch_discrimination: int = option(
        0, "Kernels that compare the residual discriminator's features within a batch; 0 turns it off.", ge=0
    )
    projection: bool = option(
        True, "Let the residual discriminator judge how real an image is as one of its label (projection)."
    )
    head: Literal["ac", "tac", "adc", "d2dce", "projection"] = option(
        "ac", "Head that has to say the label, beside the projection; projection: that alone, without a head."
    )
    adversarial: Literal["hinge", "lsgan", "bce", "wgan", "relativistic"] = option("hinge", "Loss on the realness.")
    label_smoothing: float = option(
        0.0, "Lower the discriminator's target for real images from 1 by this much; for lsgan and bce.", ge=0, le=0.5
    )
    label_weight: float = option(0.2, "Weight of the head's loss on the label; 0 turns it off.", ge=0)
    label_ramp: int = option(0, "Images over which the label weight rises from 0 to its value; 0 for at once.", ge=0)
    label_on_fakes: bool = option(False, "Train the head to name generated images too.")
    fake_labels: Literal["real", "uniform"] = option(
        "real", "Labels to generate from: those of the real batch, or, for classes, uniform over them."
    )
    latents: Literal["normal", "uniform"] = option("normal", "Latents: standard normal, or uniform in [-1, 1].")
    optimizer: Literal["adam", "rmsprop"] = option("adam", "Optimizer of both networks.")
    generator_weight_decay: float = option(0.0, "Weight decay of the generator's optimizer.", ge=0)
    discriminator_weight_decay: float = option(0.0, "Weight decay of the discriminator's optimizer.", ge=0)
    l2: float = option(0.0, "L2 penalty on some kernels of the report's networks.", ge=0)

    def __post_init__(self) -> None:
        """Check what concerns two options."""
        super().__post_init__()
        if self.head == "projection" and not self.projection:
            raise ConfigError(
                "--head projection and --no-projection leave nothing that looks at the labels. Drop one of them."
            )
        if self.backbone != "report":
            self._check_group()
        bounded = self.gradient_penalty == "wgan-gp" or (self.backbone == "residual" and self.spectral_norm)
        if self.adversarial == "wgan" and not bounded:
            raise ConfigError(
                "--adversarial wgan needs a discriminator whose slope is bounded. Add --gradient-penalty wgan-gp, or, "
                "with the residual networks, --spectral-norm."
            )

    def idle(self) -> Iterator[Idle]:
        """Yield what acts on nothing; see `Config.idle`."""
        yield from super().idle()
        # First which networks there are: what follows depends on it.
        if self.backbone == "report":
            of_residual = ("generator_width", "discriminator_width", "spectral_norm", "minibatch_std", "projection")
            yield Idle(
                (*of_residual, "minibatch_discrimination", "head"),
                "the report's networks are as they are, with a linear head. Type --backbone residual.",
                {"spectral_norm": False, "minibatch_std": 0, "projection": False},
            )
        else:
            because = "it is for the report's networks. Type --generator-weight-decay or --discriminator-weight-decay."
            yield Idle(("l2",), because)
        if self.adversarial not in ("lsgan", "bce"):
            because = f"the loss {self.adversarial} has no target for real images. Add --adversarial bce or lsgan."
            yield Idle(("label_smoothing",), because)
        if self.head == "projection":
            because = "--head projection has no head to say the label. Type --head ac, for example."
            yield Idle(("label_weight", "label_ramp", "label_on_fakes"), because)
        elif self.label_weight == 0:
            yield Idle(("label_ramp", "label_on_fakes", "head"), "the label weight is 0. Raise --label-weight.")
        if self.head == "adc":
            because = "--head adc always learns generated images, as such. Leave it out."
            yield Idle(("label_on_fakes",), because)
        if self.optimizer == "rmsprop":
            yield Idle(("beta1", "beta2"), "rmsprop has no betas. Type --optimizer adam.")

    def _check_group(self) -> None:
        """Raise if a batch is smaller than what is compared within it."""
        self._check_minibatch_std(self.minibatch_std)
        if self.batch_size < 2 and (self.minibatch_discrimination or self.head == "d2dce"):
            kernels = f"--minibatch-discrimination {self.minibatch_discrimination}"
            which = kernels if self.minibatch_discrimination else "--head d2dce"
            raise ConfigError(f"{which} compares images, but a batch is a single one. Type a larger --batch-size.")


class _ACGANGenerator(Generator):
    """Latents, uniform or normal, for both kinds of networks."""

    mixes_classes = True

    def __init__(self, latent_dim: int, latents: str) -> None:
        """Store how latents are drawn."""
        super().__init__(latent_dim)
        self.latents = latents

    def make_latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw latents from N(0, 1) or U(−1, 1); see `Generator.make_latents`."""
        if self.latents == "normal":
            return super().make_latents(n, rng)
        return torch.rand(n, self.latent_dim, generator=rng, device=self._device(rng)) * 2 - 1


class ReportGenerator(_ACGANGenerator):
    """The report's generator: two dense layers, then five transposed 5×5 convolutions.

    Args:
        data: Facts of the data; each length divisible by 8.
        latent_dim: Length of a latent vector.
        latents: ``"uniform"`` for U(−1, 1), ``"normal"`` for N(0, 1).
    """

    def __init__(self, data: DataSpec, latent_dim: int, latents: str) -> None:
        """Create the layers, initialised as Keras does (Glorot uniform, zero bias)."""
        super().__init__(latent_dim, latents)
        self.num_labels = data.num_labels
        self.base = tuple(length // 8 for length in data.size)
        self.dense1 = nn.Linear(latent_dim + data.num_labels, 1024)
        self.dense2 = nn.Linear(1024, 256 * math.prod(self.base))
        widths = (256, 256, 128, 64, 32)
        self.norms = nn.ModuleList(ChannelLayerNorm(width) for width in widths[:-1])
        # TensorFlow's "same" padding crops one pixel before and two after, this the other way round:
        # the same networks, mirrored along both axes.
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 5, stride, padding=2, output_padding=stride - 1)
            for i, o, stride in zip(widths[:-1], widths[1:], (2, 2, 2, 1), strict=True)
        )
        self.to_image = nn.ConvTranspose2d(widths[-1], data.channels, 5, padding=2)
        self.apply(_init_like_keras)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; see `Generator.forward`."""
        if labels is not None:
            vectors = label_vectors(labels, self.num_labels, "categorical")
            latents = torch.cat([latents, vectors.to(latents)], dim=1)
        hidden = self.dense2(self.dense1(latents)).view(len(latents), 256, *self.base)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            hidden = conv(F.relu(norm(hidden)))
        return torch.sigmoid(self.to_image(hidden)) * 2 - 1

    def regularised(self) -> list[Tensor]:
        """Return the kernels that carry an L2 penalty."""
        return [self.dense2.weight]


class ReportDiscriminator(Discriminator):
    """The report's discriminator: four 5×5 convolutions, a tag head and a label head.

    Args:
        data: Facts of the data; each length divisible by 8.
    """

    def __init__(self, data: DataSpec) -> None:
        """Create the layers, initialised as Keras does (Glorot uniform, zero bias)."""
        super().__init__()
        widths = (data.channels, 32, 64, 128, 256)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 5, stride, padding=2)
            for i, o, stride in zip(widths[:-1], widths[1:], (2, 2, 2, 1), strict=True)
        )
        flat = 256 * math.prod(length // 8 for length in data.size)
        self.tag = nn.Linear(flat, 1)
        self.label_dense = nn.Linear(flat, 256) if data.labels else None
        self.dropout = nn.Dropout(0.3)
        self.label = nn.Linear(256, data.num_labels) if data.labels else None
        self.apply(_init_like_keras)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images; the labels are not looked at."""
        # The report's images, and so its initial losses and gradients, are in [0, 1].
        hidden = (images + 1) / 2
        for conv in self.convs:
            hidden = F.leaky_relu(conv(hidden), 0.2)
        features = hidden.flatten(1)
        logits = None
        if self.label is not None and self.label_dense is not None:
            logits = self.label(self.dropout(self.label_dense(features)))
        return DiscriminatorOutput(self.tag(features).squeeze(1), logits, features)

    def stages(self) -> list[nn.Module]:
        """Return the convolutions."""
        return list(self.convs)

    def regularised(self) -> list[Tensor]:
        """Return the kernels that carry an L2 penalty."""
        dense = [] if self.label_dense is None else [self.label_dense.weight]
        return [conv.weight for conv in self.convs if isinstance(conv, nn.Conv2d)] + dense


def _init_like_keras(module: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ResidualGenerator(_ACGANGenerator):
    """Small residual generator, conditioned by feature-wise modulation at every layer.

    A 4-pixel seed grows by convolution and bilinear (trilinear) upsampling: unlike transposed
    convolution that leaves no checkerboard, and the convolution runs at the smaller size.

    Args:
        data: Facts of the data, of two or three dimensions; each length a power of two.
        latent_dim: Length of a latent vector.
        width: Channels at full resolution; doubled at each halving, up to 256.
        latents: ``"uniform"`` for U(−1, 1), ``"normal"`` for N(0, 1).
    """

    def __init__(self, data: DataSpec, latent_dim: int, width: int, latents: str) -> None:
        """Create the layers."""
        super().__init__(latent_dim, latents)
        strides = _strides(data.size)[::-1]
        self.base = _seed_size(data.size)
        self.memory_format = memory_format(data)
        widths = [_width(width, level) for level in range(len(strides) + 1)][::-1]
        self.embed = _embedding(data.labels, 32) if data.labels else None
        condition = latent_dim + (32 if data.labels else 0)
        self.seed = nn.Linear(condition, widths[0] * math.prod(self.base))
        self.blocks = nn.ModuleList(
            _UpBlock(i, o, condition, stride) for (i, o), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.norm = FiLMNorm(widths[-1], condition)
        self.to_image = _CONVS[len(data.size)](widths[-1], data.channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images; see `Generator.forward`."""
        condition = latents
        if self.embed is not None and labels is not None:
            condition = torch.cat([latents, self.embed(labels)], dim=1)
        hidden = self.seed(condition).view(len(latents), -1, *self.base)
        hidden = hidden.contiguous(memory_format=self.memory_format)
        for block in self.blocks:
            hidden = block(hidden, condition)
        return torch.tanh(self.to_image(F.leaky_relu(self.norm(hidden, condition), 0.2)))


class _UpBlock(nn.Module):
    """Raises the resolution by a factor for each axis, then adds detail."""

    def __init__(self, channels_in: int, channels_out: int, condition: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        conv = _CONVS[len(stride)]
        self.stride = stride
        self.norm1 = FiLMNorm(channels_in, condition)
        self.conv1 = conv(channels_in, channels_out, 3, padding=1)
        self.norm2 = FiLMNorm(channels_out, condition)
        self.conv2 = conv(channels_out, channels_out, 3, padding=1)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        hidden = self.conv1(F.leaky_relu(self.norm1(hidden, condition), 0.2))
        hidden = F.interpolate(hidden, scale_factor=self.stride, mode=_MODES[len(self.stride)])
        detail: Tensor = self.conv2(F.leaky_relu(self.norm2(hidden, condition), 0.2))
        return hidden + detail


class ResidualDiscriminator(Discriminator):
    """Small residual discriminator with an auxiliary label head.

    Args:
        data: Facts of the data, of two or three dimensions; each length a power of two.
        width: Channels after the first layer; doubled at each halving, up to 256.
        minibatch_std: Images in a group of `MinibatchStdDev`; 0 for none.
        projection: Whether the realness depends on the label, through an inner product of features and
            the label's embedding (Miyato and Koyama, 2018, arXiv:1802.05637). Without it nothing but
            the label head ties an image to its class, and a class may collapse to whatever that head
            likes best while the other classes look real. It is the right form for vectors, too: the
            part of log p(label | image) that depends on both is linear in the label, for findings
            that are independent given the image as for quantities with normal errors.
        head: ``ac`` for a linear label head, ``tac``, ``adc`` or ``d2dce`` for one of `medgan.models.heads`,
            ``projection`` for none.
        minibatch_kernels: Kernels of `MinibatchDiscrimination` before the realness; 0 for none.
        spectral: Whether each layer but the label head is divided by its spectral norm. The label
            head is free: bounded like the rest it could not say anything with confidence.
    """

    def __init__(
        self,
        data: DataSpec,
        width: int,
        minibatch_std: int,
        *,
        projection: bool = True,
        head: str = "ac",
        minibatch_kernels: int = 0,
        spectral: bool = True,
    ) -> None:
        """Create the layers."""
        super().__init__()
        bounded = spectral_norm if spectral else nn.Identity()
        strides = _strides(data.size)
        widths = [data.channels, *(_width(width, level) for level in range(len(strides)))]
        self.blocks = nn.ModuleList(
            _DownBlock(i, o, bounded, stride, detail=level < len(strides))
            for level, ((i, o), stride) in enumerate(zip(pairwise(widths), strides, strict=True), start=1)
        )
        self.minibatch_std = MinibatchStdDev(minibatch_std, gain=4) if minibatch_std else None
        conv = _CONVS[len(data.size)]
        self.conv = bounded(conv(widths[-1] + (minibatch_std > 0), widths[-1], 3, padding=1))
        self.dense = bounded(nn.Linear(widths[-1] * math.prod(_seed_size(data.size)), 128))
        self.neighbours = None
        if minibatch_kernels:
            self.neighbours = MinibatchDiscrimination(128, minibatch_kernels, _KERNEL_DIMS)
            bounded(self.neighbours.projection)
        self.realness = bounded(nn.Linear(128 + minibatch_kernels, 1))
        self.embed = bounded(_embedding(data.labels, 128)) if data.labels and projection else None
        self.label = _label_head(head, 128, data.labels) if data.labels else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images.

        The labels count in the realness, and say which images' spread belongs together. The label head is not
        given them; of a batch's labels it sees that spread alone.
        """
        hidden = images
        for block in self.blocks:
            hidden = block(hidden)
        if self.minibatch_std is not None:
            classes = labels if labels is not None and labels.ndim == 1 else None
            hidden = self.minibatch_std(hidden, classes)
        features = _active(self.dense(_active(self.conv(hidden)).flatten(1)))
        judged = features if self.neighbours is None else self.neighbours(features)
        realness = self.realness(judged).squeeze(1)
        if self.embed is not None and labels is not None:
            realness = realness + (self.embed(labels) * features).sum(dim=1)
        logits = None if self.label is None else self.label(features)
        return DiscriminatorOutput(realness, logits, features)

    def stages(self) -> list[nn.Module]:
        """Return the residual blocks, one for each halving of the resolution."""
        return list(self.blocks)


def _label_head(head: str, features: int, labels: LabelSpec) -> nn.Module | None:
    """Return a head that says the label, if there is to be one."""
    if head == "projection":
        return None
    return nn.Linear(features, len(labels)) if head == "ac" else _HEADS[head](features, labels)


class _DownBlock(nn.Module):
    """Divides the resolution by a factor for each axis and, unless it is the last block, looks once more."""

    def __init__(
        self, channels_in: int, channels_out: int, bounded: Any, stride: tuple[int, ...], *, detail: bool
    ) -> None:
        super().__init__()
        conv = _CONVS[len(stride)]
        kernel = tuple(factor + 2 for factor in stride)  # with a padding of 1 exact for both factors, 1 and 2
        self.down = bounded(conv(channels_in, channels_out, kernel, stride, padding=1))
        self.detail = bounded(conv(channels_out, channels_out, 3, padding=1)) if detail else None

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = _active(self.down(hidden))
        return hidden if self.detail is None else hidden + _active(self.detail(hidden))


def _active(hidden: Tensor) -> Tensor:
    """Leaky ReLU with the gain that keeps the signal's size through layers of spectral norm 1."""
    return F.leaky_relu(hidden, 0.2) * math.sqrt(2)


def _width(width: int, level: int) -> int:
    """Channels `level` halvings below full resolution."""
    return min(width << level, max(width, 256))


def _strides(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Factor of each axis at each halving, from full resolution down to `_seed_size`."""
    halvings = [int(math.log2(length // seed)) for length, seed in zip(size, _seed_size(size), strict=True)]
    levels = max(halvings)
    # Fine levels halve the long axes alone: there the planes of a thick-sliced volume hold the detail.
    return [tuple(2 if levels - level <= own else 1 for own in halvings) for level in range(levels)]


def _seed_size(size: tuple[int, ...]) -> tuple[int, ...]:
    """Size of the coarsest level: 4 pixels along the shorter axis of an image, along each one of a volume.

    A volume may be long, and dense layers on what is left of it would outweigh all others.
    """
    return tuple(4 * length // min(size) for length in size) if len(size) == 2 else (4,) * len(size)


class _VectorEmbedding(nn.Linear):
    """Embedding of label vectors: for a vector with a single 1 what `nn.Embedding` is for an index.

    What is not known counts as neutral; see `fill_unknown`.
    """

    def __init__(self, labels: LabelSpec, width: int) -> None:
        super().__init__(len(labels), width, bias=False)
        self.kind: Literal["multilabel", "continuous"] = "multilabel" if labels.kind == "multilabel" else "continuous"
        nn.init.normal_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(fill_unknown(input, self.kind))


def _embedding(labels: LabelSpec, width: int) -> nn.Module:
    """Map from labels, as in `Batch`, to vectors ``(N, width)``."""
    return LabelEmbedding(len(labels), width) if labels.kind in _CLASSES else _VectorEmbedding(labels, width)


class ACGANTrainer(AdversarialTrainer[ACGANConfig]):
    """Realness and label losses of an auxiliary-classifier GAN."""

    @property
    def realness_is_relative(self) -> bool:
        """Whether the loss on the realness is one of differences, or parts real from fake elsewhere than at 0."""
        return self.config.adversarial in ("relativistic", "wgan", "lsgan")

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return Adam or RMSprop, each network with its own rate and weight decay."""
        config = self.config
        made: dict[str, torch.optim.Optimizer] = {}
        for name in ("generator", "discriminator"):
            weights = getattr(self, name).parameters()
            rate, decay = getattr(config, f"{name}_lr"), getattr(config, f"{name}_weight_decay")
            if config.optimizer == "rmsprop":
                made[name] = torch.optim.RMSprop(weights, rate, 0.9, 1e-7, weight_decay=decay, foreach=True)
            else:
                betas = (config.beta1, config.beta2)
                made[name] = torch.optim.AdamW(weights, rate, betas, weight_decay=decay, foreach=True)
        return made

    def make_labels(self, real: Batch) -> Tensor | None:
        """Return the real batch's labels, or uniform ones."""
        if real.labels is None or self.config.fake_labels == "real":
            return real.labels
        classes = self.data.num_labels
        return self.draw(
            len(real.labels), lambda n, rng: torch.randint(classes, (n,), generator=rng, device=rng.device)
        )

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Realness of both kinds of images, label of the real ones (and of the fakes, if asked or part of the head)."""
        on_real, on_fake = self.discriminator(*real), self.discriminator(*fake)
        self.log_by_class("discriminator/real", on_real.realness, real.labels)
        self.log_by_class("discriminator/fake", on_fake.realness, fake.labels)
        adversarial = self._discriminator_realness(on_real.realness, on_fake.realness)
        label = self._label_terms("discriminator", on_real, real.labels)
        if label and self.config.label_on_fakes:
            on_both = self._label_terms("", on_fake, fake.labels)
            label = {name: 0.5 * (term + on_both[name]) for name, term in label.items()}
        fake_loss = self._fake_loss(on_fake, fake.labels)
        if label and fake_loss is not None:
            label = {"label": label["label"] + fake_loss}
        return {"adversarial": adversarial} | label | self._l2_terms(self.discriminator)

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Pass as real, and as an image of the label that was asked for."""
        output = self.discriminator(*fake)
        adversarial = self._generator_realness(output.realness, real)
        label = self._label_terms("generator", output, fake.labels)
        fake_loss = self._fake_loss(output, fake.labels)
        if label and fake_loss is not None:
            label = {"label": label["label"] - fake_loss}
        return {"adversarial": adversarial} | label | self._l2_terms(self.generator)

    def _discriminator_realness(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss on the realness of real and of generated images."""
        smoothing = self.config.label_smoothing
        match self.config.adversarial:
            case "hinge":
                return losses.hinge_discriminator(real, fake)
            case "bce":
                return losses.non_saturating_discriminator(real, fake, smoothing=smoothing)
            case "wgan":
                return losses.wasserstein_discriminator(real, fake)
            case "relativistic":
                return losses.relativistic_discriminator(real, fake)
            case "lsgan":
                # Means over real and fake images together, as over one batch that holds both.
                return 0.5 * losses.least_squares(real, 1 - smoothing) + 0.5 * losses.least_squares(fake, 0)

    def _generator_realness(self, fake: Tensor, real: Batch) -> Tensor:
        """Return the generator's loss on the realness of its images; relativistic, on pairs with real ones."""
        match self.config.adversarial:
            case "hinge":
                return losses.hinge_generator(fake)
            case "bce":
                return losses.non_saturating_generator(fake)
            case "wgan":
                return losses.wasserstein_generator(fake)
            case "relativistic":
                with torch.no_grad():
                    on_real = self.discriminator(*real).realness
                return losses.relativistic_generator(on_real, fake)
            case "lsgan":
                return losses.least_squares(fake, 1)

    @property
    def _label_weight(self) -> float:
        """Weight of the label's loss by now."""
        weight, ramp = self.config.label_weight, self.config.label_ramp
        return weight * min(1.0, self.images_seen / ramp) if ramp else weight

    def _label_terms(self, network: str, output: DiscriminatorOutput, labels: Tensor | None) -> dict[str, Tensor]:
        """Return the weighted loss of a head on images as such of their labels, if there is one.

        Args:
            network: Whose term it is, to log it for each class; "" not to.
            output: What the discriminator says of the images.
            labels: Their labels.
        """
        spec, head = self.data.labels, self._head()
        if spec is None or labels is None or output.label_logits is None or self.config.label_weight == 0:
            return {}
        if head is not None and output.features is not None:
            loss = partial(head.image_loss, output.features, labels)
        else:
            loss = partial(losses.label_loss, output.label_logits, labels, spec.kind)
        weight = self._label_weight
        if network and spec.kind in _CLASSES:
            with torch.no_grad():
                logged = self.factors.get("label", 1.0) * weight  # as `update` logs the term
                self.log_by_class(f"{network}/label", logged * loss(reduction="none"), labels)
        return {"label": weight * loss()}

    def _fake_loss(self, output: DiscriminatorOutput, labels: Tensor | None) -> Tensor | None:
        """Return the weighted loss of a head that learns generated images as such; None for the others."""
        head = self._head()
        if head is None or labels is None or output.features is None or self.config.label_weight == 0:
            return None
        loss = head.fake_loss(output.features, labels)
        return None if loss is None else self._label_weight * loss

    def _head(self) -> LabelHead | None:
        """Return the discriminator's head, unless that is a linear layer or there is none."""
        head = getattr(self.discriminator, "label", None)
        return head if isinstance(head, LabelHead) else None

    def _l2_terms(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the L2 term of a network that has one."""
        if self.config.l2 == 0 or not isinstance(network, ReportGenerator | ReportDiscriminator):
            return {}
        return {"l2": losses.l2_penalty(network.regularised(), self.config.l2)}


# Chosen by what a classifier learns from its samples and by their variety: docs/explanation/acgan_recipe.md.
_MODERN = ACGANConfig(
    discriminator_lr=2e-4,
    clip_norm=2.0,
    head="projection",
    adversarial="relativistic",
    spectral_norm=False,
    gradient_penalty="r1r2",
    penalty_one_in=4,
    minibatch_std=4,
    ada_target=0.6,
    lr_decay=0.4,
)
_ORIGINAL = ACGANConfig(
    backbone="report",
    spectral_norm=False,
    minibatch_std=0,
    projection=False,
    batch_size=5,
    latent_dim=100,
    latents="uniform",
    generator_lr=5e-5,
    discriminator_lr=1e-4,
    optimizer="rmsprop",
    generator_weight_decay=3e-9,
    discriminator_weight_decay=6e-9,
    l2=1e-3,
    adversarial="lsgan",
    label_weight=1.0,
    label_on_fakes=True,
    fake_labels="uniform",
    augment="none",
    class_sampling="natural",
    ema_halflife=0,
)
_TINY = ACGANConfig(batch_size=8, latent_dim=16, generator_width=4, discriminator_width=4, ema_halflife=500)


class ACGAN(GAN):
    """Auxiliary-classifier GAN: the discriminator also names the label, the generator has to show it.

    How it does so is the option ``head``: a linear one, one of `medgan.models.heads`, or none, where the
    label counts in the realness alone.

    Images or volumes, without labels or with labels of any kind. Ordinal labels are learnt as classes,
    without their order. Continuous labels are used as they are: scale them to a mean near 0 and a
    spread near 1, or they drown all else in a condition. What is not known of a label (NaN in a
    multilabel or continuous one) counts as neutral, a finding as half present and a quantity as 0,
    and is left out of the auxiliary head's loss.

    Presets: ``modern`` for small medical sets on small machines (residual networks, the label in the
    realness by projection, relativistic loss with R1 and R2 on one image in four as in R3GAN,
    arXiv:2501.05441, minibatch standard deviation class by class, adaptive augmentation without
    flips, averaged weights, learning rates that fall, classes drawn by the root of their size);
    ``original``, the networks, losses and optimizers of a student report on chest X-rays (5×5
    convolutions, least squares, RMSprop);
    ``tiny`` for tests. The networks of ``original`` do images with categorical labels only.

    Example:
        >>> from medgan.core import DataSpec, LabelSpec
        >>> gan = ACGAN(DataSpec(1, (32, 32), LabelSpec(("NORMAL", "PNEUMONIA"))), preset="tiny")
        >>> gan.sample(2, labels="PNEUMONIA").images.shape
        torch.Size([2, 1, 32, 32])

    References:
        Odena et al., 2017, arXiv:1610.09585.
    """

    name = "acgan"
    summary = "Auxiliary-classifier GAN for images and volumes with labels"
    reference = "arXiv:1610.09585"
    api_version = 1
    Config = ACGANConfig
    Trainer = ACGANTrainer
    presets: ClassVar = {"modern": _MODERN, "original": _ORIGINAL, "tiny": _TINY}
    default_preset = "modern"
    spatial_dims = (2, 3)
    label_kinds = ("categorical", "ordinal", "multilabel", "continuous")

    @classmethod
    def get_sides(cls, config: ACGANConfig, dims: int) -> Sides | None:
        """Return powers of two; of the report's networks multiples of 8, for images alone. See `GAN.get_sides`."""
        if config.backbone == "report":
            return Sides(multiple_of=8) if dims == 2 else None
        return _SIDES[dims]

    @classmethod
    def check(cls, config: ACGANConfig, data: DataSpec) -> None:  # type: ignore[override]
        """Raise if the networks cannot learn such labels; see `GAN.check`."""
        super().check(config, data)
        if config.backbone == "report" and data.labels is not None and data.labels.kind != "categorical":
            raise ConfigError(
                f"acgan's report networks learn categorical labels, but the data's are {data.labels.kind}. "
                "Type --preset modern."
            )
        if config.fake_labels == "uniform" and data.labels is not None and data.labels.kind not in _CLASSES:
            raise ConfigError(
                f"fake_labels=uniform draws one of the classes, but {data.labels.kind} labels are no classes. "
                "Type --fake-labels real."
            )
        head = _HEADS.get(config.head)
        if head is not None and data.labels is not None and data.labels.kind not in head.kinds:
            raise ConfigError(
                f"--head {config.head} learns {' or '.join(head.kinds)} labels, but the data's are {data.labels.kind}. "
                "Type --head ac, tac or projection."
            )

    def make_generator(self, config: ACGANConfig, data: DataSpec) -> Generator:
        """Return the generator of the backbone."""
        if config.backbone == "report":
            return ReportGenerator(data, config.latent_dim, config.latents)
        return ResidualGenerator(data, config.latent_dim, config.generator_width, config.latents)

    def make_discriminator(self, config: ACGANConfig, data: DataSpec) -> Discriminator:
        """Return the discriminator of the backbone."""
        if config.backbone == "report":
            return ReportDiscriminator(data)
        return ResidualDiscriminator(
            data,
            config.discriminator_width,
            config.minibatch_std,
            projection=config.projection,
            head=config.head,
            minibatch_kernels=config.minibatch_discrimination,
            spectral=config.spectral_norm,
        )
