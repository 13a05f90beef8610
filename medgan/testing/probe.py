"""What the checks probe an architecture with: data specs, models, batches, comparisons."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from medgan.core.gan import GAN
from medgan.core.spec import Batch, DataSpec, LabelSpec
from medgan.core.trainer import Trainer
from medgan.errors import ConfigError, MedganError

__all__ = [
    "ComplianceError",
    "accepts",
    "begin",
    "conditions",
    "copy_state",
    "differences",
    "label_options",
    "main_spec",
    "main_specs",
    "make",
    "make_batch",
    "make_if_possible",
    "make_labels",
    "make_sources",
    "perturbed",
    "refusal",
    "require",
    "sample",
    "sizes",
    "spec_of",
    "specs",
    "stream",
    "train",
]

M = TypeVar("M", bound=nn.Module)

_LENGTH = 8  # steps that every training of the kit is said to have in all, which falling learning rates depend on


class ComplianceError(MedganError, AssertionError):
    """An architecture that does not keep a promise; the message says what was found and expected."""


def require(condition: bool, found: str, expected: str) -> None:
    """Raise unless a condition holds.

    Args:
        condition: What has to hold.
        found: What was found instead, the start of a sentence.
        expected: What was expected, the rest of it.

    Raises:
        ComplianceError: If the condition does not hold.
    """
    if not condition:
        raise ComplianceError(f"{found}; expected {expected}.")


def sizes(dims: int) -> Iterator[tuple[int, ...]]:
    """Yield sizes that an architecture may be able to do, small ones first.

    Args:
        dims: Number of spatial dimensions.
    """
    lengths = (32, 64, 16, 8, 48, 28, 128, 256) if dims < 3 else (16, 8, 32, 64)
    yield (lengths[0],) * dims
    if dims > 1:
        yield (lengths[0] * 2,) + (lengths[0],) * (dims - 1)
    for length in lengths[1:]:
        yield (length,) * dims


def label_options(architecture: type[GAN]) -> Iterator[LabelSpec | None]:
    """Yield one label spec of each kind that an architecture can learn, then None if it can do without.

    Args:
        architecture: The class.
    """
    for kind in architecture.label_kinds:
        yield LabelSpec(("first", "second", "third"), kind)
    if not architecture.needs_labels:
        yield None


def specs(architecture: type[GAN]) -> list[DataSpec]:
    """Return data specs that an architecture accepts: every kind of labels, grey and RGB, two sizes.

    Args:
        architecture: The class.

    Returns:
        At least one spec, the one with labels and one channel first where that is possible.

    Raises:
        ComplianceError: If it accepts none.
    """
    found: list[DataSpec] = []
    for dims in architecture.spatial_dims:
        accepted = [size for size in sizes(dims) if _first(architecture, size) is not None][:2]
        for position, size in enumerate(accepted):
            first = _first(architecture, size)
            if first is None:
                continue
            others = [replace(first, channels=3)]
            others += [replace(first, labels=labels) for labels in label_options(architecture)]
            others = [spec for spec in others if spec != first and accepts(architecture, spec)]
            found += [first] if position else [first, *others]
    require(
        bool(found),
        f"check() refuses all of the sizes {', '.join(str(s) for d in architecture.spatial_dims for s in sizes(d))}",
        "the preset tiny to do at least one of them",
    )
    return found


def main_spec(architecture: type[GAN]) -> DataSpec:
    """Return the first of `specs`.

    Args:
        architecture: The class.
    """
    return specs(architecture)[0]


def main_specs(architecture: type[GAN]) -> list[DataSpec]:
    """Return the first of `specs` for each number of spatial dimensions: an image, a volume.

    Args:
        architecture: The class.
    """
    found: dict[int, DataSpec] = {}
    for data in specs(architecture):
        found.setdefault(len(data.size), data)
    return list(found.values())


def make(architecture: type[GAN], data: DataSpec | None = None, **options: Any) -> GAN:
    """Return a fresh model with the preset ``tiny``.

    Args:
        architecture: The class.
        data: Facts of the data; None for `main_spec`.
        **options: Options over those of the preset.
    """
    return architecture(data or main_spec(architecture), preset="tiny", **options)


def make_if_possible(architecture: type[GAN], **options: Any) -> GAN | None:
    """Return a fresh model whose training has begun, or None if the architecture refuses the options.

    Args:
        architecture: The class.
        **options: Options over those of the preset ``tiny``.
    """
    try:
        gan = make(architecture, **options)
        begin(gan)
    except ConfigError:
        return None
    return gan


def begin(gan: GAN) -> Trainer[Any]:
    """Begin a training on the CPU in float32.

    Args:
        gan: The model.
    """
    return gan.make_trainer(device="cpu")


def train(gan: GAN, steps: int, *, start: int = 0) -> Trainer[Any]:
    """Train a model for some steps on the CPU.

    Args:
        gan: The model; its training is continued if it has begun one.
        steps: Number of steps.
        start: Number of the first batch.

    Returns:
        The trainer; it may go on to 8 steps in all.
    """
    trainer = gan.trainer or begin(gan)
    trainer.fit(stream(gan, start=start), steps, total_steps=_LENGTH)
    return trainer


def stream(gan: GAN, *, start: int = 0) -> Iterator[Batch]:
    """Yield batches for a model, without end; each depends on its number alone.

    Args:
        gan: The model.
        start: Number of the first batch.
    """
    number = start
    while True:
        yield make_batch(gan.data, gan.config.images_per_step, seed=number)
        number += 1


def make_batch(data: DataSpec, n: int, *, seed: int = 0) -> Batch:
    """Return random images with random labels and, where the data has such, random sources.

    Args:
        data: Facts of the data.
        n: Number of images.
        seed: Seed of both.
    """
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
    return Batch(images, make_labels(data, n, rng), make_sources(data, n, seed=seed))


def make_sources(data: DataSpec, n: int, *, seed: int = 0) -> Tensor | None:
    """Return random source images; None for data without such.

    Args:
        data: Facts of the data.
        n: Number of images.
        seed: Their seed.
    """
    if not data.source_channels:
        return None
    rng = torch.Generator().manual_seed(1_000_003 + seed)
    return torch.rand(n, data.source_channels, *data.size, generator=rng) * 2 - 1


def conditions(data: DataSpec, n: int) -> list[Any]:
    """Return what a generator takes beside latents, always the same: random labels and, where there are such, sources.

    Args:
        data: Facts of the data.
        n: Number of images.
    """
    sources = make_sources(data, n)
    labels = make_labels(data, n, torch.Generator().manual_seed(0))
    return [labels] if sources is None else [labels, sources]


def sample(gan: GAN, n: int, *, seed: int = 0) -> Batch:
    """Sample images; of an architecture that translates, of random sources that depend on the seed.

    Args:
        gan: The model.
        n: Number of images.
        seed: Seed of the first image.
    """
    sources = make_sources(gan.data, n, seed=seed)
    given: dict[str, Any] = {} if sources is None else {"sources": sources}
    return gan.sample(n, seed=seed, **given)


def make_labels(data: DataSpec, n: int, rng: torch.Generator) -> Tensor | None:
    """Return random labels of the kind that the data has.

    Args:
        data: Facts of the data.
        n: Number of labels.
        rng: Source of randomness.
    """
    if data.labels is None:
        return None
    if data.labels.kind in ("categorical", "ordinal"):
        return torch.randint(len(data.labels), (n,), generator=rng)
    values = torch.rand(n, len(data.labels), generator=rng)
    return values.round() if data.labels.kind == "multilabel" else values


def perturbed(module: M, scale: float = 1.0) -> M:
    """Return a copy in evaluation mode with every weight scaled and moved a little.

    A fresh network may start with layers of zeros that hide what it will do once it is trained.

    Args:
        module: The network.
        scale: Factor of the weights.
    """
    other = copy.deepcopy(module).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.parameters():
            spread = 0.02 + 0.1 * float(weight.float().std(unbiased=False))
            noise = torch.randn(weight.shape, generator=rng)
            weight.copy_((weight + spread * noise.to(weight)) * scale)
    return other


def copy_state(state: Any) -> Any:
    """Return a copy of a state in which no tensor shares memory with the original.

    Args:
        state: Tensors and plain values in mappings and sequences.
    """
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: copy_state(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)([copy_state(value) for value in state])
    return copy.copy(state)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the places where two states differ in a single bit.

    Args:
        one: Tensors and plain values in mappings and sequences.
        other: The same, to be compared.
        path: Name of the place where both are.
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _differences(one, other, path)
    if _is_list(one) and _is_list(other):
        return _differences(dict(enumerate(one)), dict(enumerate(other)), path)
    return [] if type(one) is type(other) and one == other else [path]


def _differences(one: Mapping[Any, Any], other: Mapping[Any, Any], path: str) -> list[str]:
    """Compare two mappings key by key."""
    if one.keys() != other.keys():
        return [f"{path}.{key}".strip(".") for key in sorted(one.keys() ^ other.keys(), key=str)]
    return [place for key in one for place in differences(one[key], other[key], f"{path}.{key}".strip("."))]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _first(architecture: type[GAN], size: tuple[int, ...]) -> DataSpec | None:
    """Return the simplest spec of a size that an architecture accepts, or None."""
    tried = (
        spec_of(architecture, channels, size, labels) for labels in label_options(architecture) for channels in (1, 3)
    )
    return next((spec for spec in tried if accepts(architecture, spec)), None)


def spec_of(architecture: type[GAN], channels: int, size: tuple[int, ...], labels: LabelSpec | None) -> DataSpec:
    """Return a spec of the kind that an architecture needs: with sources, of as many channels, where it translates.

    Args:
        architecture: The class.
        channels: Number of channels.
        size: Spatial size.
        labels: What the labels mean.
    """
    return DataSpec(channels, size, labels, channels if architecture.translates else 0)


def accepts(architecture: type[GAN], data: DataSpec) -> bool:
    """Whether an architecture says that its preset ``tiny`` can do such data.

    Args:
        architecture: The class.
        data: Facts of the data.
    """
    return refusal(lambda: architecture.check(architecture.get_preset("tiny"), data)) is None


def refusal(call: Callable[[], object]) -> ConfigError | None:
    """Return the `ConfigError` that a call raises, or None if it raises nothing.

    Args:
        call: What to call.
    """
    try:
        call()
    except ConfigError as error:
        return error
    return None
