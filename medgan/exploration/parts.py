"""Views of a generator that need no real image: ways between latents, between labels, and truncation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.core.gan import GAN
from medgan.errors import ConfigError
from medgan.exploration.contrasts import Contrast
from medgan.exploration.latent_space import LatentSpace, check_seed

if TYPE_CHECKING:
    from medgan.training.frozen_features import FrozenFeatures

__all__ = [
    "ClassDifference",
    "ClassWalk",
    "Interpolation",
    "Truncation",
    "class_differences",
    "interpolate",
    "truncate",
    "walk_classes",
]

_HALVINGS = 10
_UNDECIDED = 0.5
_ROUNDED = 5


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Images on the way from one latent to another, the label staying the same.

    Attributes:
        images: Shape ``(R, S, C, *size)``, in [-1, 1]: R ways of S images.
        seeds: Of both ends of each way.
        names: Label of each way; "" without labels.
        spherical: Whether the ways are great circles; see `LatentSpace.interpolate`.
        unevenness: Of each way the largest step over the mean one, in pixels: 1 if all steps are alike.
    """

    images: Tensor
    seeds: list[tuple[int, int]]
    names: list[str]
    spherical: bool
    unevenness: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            "steps": self.images.shape[1],
            "way": "great circle" if self.spherical else "straight line",
            "strips": [
                {"seeds": list(seeds), "label": name, "largest_step_over_mean": round(uneven, _ROUNDED)}
                for seeds, name, uneven in zip(self.seeds, self.names, self.unevenness, strict=True)
            ],
        }


def interpolate(
    gan: GAN, *, labels: Sequence[tuple[str, Tensor]] = (), strips: int = 3, steps: int = 9, seed: int = 0
) -> Interpolation:
    """Make strips of images between latents.

    Args:
        gan: The model.
        labels: Name and label ``()`` or ``(K,)`` of each group of strips; none for a model without labels.
        strips: Strips of each label.
        steps: Images of a strip, both ends included.
        seed: Of the first end; the others have the seeds after it.

    Returns:
        The strips, those of a label together; those of the next label have other ends.
    """
    if strips < 1 or steps < 2:
        raise ConfigError(f"At least 1 strip of at least 2 steps is needed, got {strips} and {steps}.")
    groups: list[tuple[str, Tensor | None]] = [*labels] or [("", None)]
    check_seed(seed, 2 * strips * len(groups))
    space = LatentSpace(gan)
    weights = torch.linspace(0, 1, steps)
    found, seeds, names = [], [], []
    for number in range(strips * len(groups)):
        name, label = groups[number // strips]
        pair = (seed + 2 * number, seed + 2 * number + 1)
        first, second = space.draw(pair)
        latents = space.interpolate(first, second, weights)
        found.append(space.render(latents, None if label is None else label.expand(steps, *label.shape)))
        seeds.append(pair)
        names.append(name)
    images = torch.stack(found)
    lengths = images.diff(dim=1).flatten(2).norm(dim=2)
    uneven = (lengths.amax(dim=1) / lengths.mean(dim=1).clamp_min(1e-12)).tolist()
    return Interpolation(images, seeds, names, space.normal, uneven)


@dataclass(frozen=True, eq=False)
class ClassDifference:
    """What changes in images if nothing but their label does.

    Attributes:
        contrast: Both labels.
        latents: Number M of latents that each was shown under both labels.
        seeds: Of the first and the last latent.
        examples: Images of the first latents under both labels, ``(E, 2, C, *size)``.
        mean: Mean over the latents of image(z, target) - image(z, reference), ``(C, *size)``; both are in [-1, 1].
        spread: Standard deviation over the latents, of the same shape.
        size: Mean over latents and pixels of the absolute difference.
        leaning: Share of the images that a classifier takes for the target, under the reference and under the target;
            None without a classifier.
    """

    contrast: Contrast
    latents: int
    seeds: tuple[int, int]
    examples: Tensor
    mean: Tensor
    spread: Tensor
    size: float
    leaning: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; differences in percent of the range from black to white."""
        return {
            "labels": self.contrast.to_dict(),
            "latents": self.latents,
            "seeds": list(self.seeds),
            "mean_absolute_difference_percent": round(50 * self.size, _ROUNDED),
            "mean_absolute_value_of_mean_map_percent": round(50 * float(self.mean.abs().mean()), _ROUNDED),
            "share_taken_for_target": None
            if self.leaning is None
            else {name: round(share, _ROUNDED) for name, share in zip(self.contrast.names, self.leaning, strict=True)},
        }


def class_differences(
    gan: GAN,
    contrasts: Sequence[Contrast],
    *,
    latents: int = 256,
    examples: int = 6,
    seed: int = 0,
    features: FrozenFeatures | None = None,
) -> list[ClassDifference]:
    """Show the same latents under several labels, and take the differences.

    The map says what the generator paints for a label, no more: what the training images of one label have in common,
    and others have not, be it of the disease, of the device or of who is X-rayed how.

    Args:
        gan: The model.
        contrasts: Pairs of labels.
        latents: Number of latents.
        examples: How many of them to keep the images of.
        seed: Of the first latent.
        features: A classifier that says what images show; see `medgan.training.frozen_features`.

    Returns:
        One difference for each pair.
    """
    if latents < 2:
        raise ConfigError(f"At least 2 latents are needed for a mean and a spread, got {latents}.")
    check_seed(seed, latents)
    space = LatentSpace(gan)
    drawn = space.draw(range(seed, seed + latents))
    return [_difference(space, contrast, drawn, examples, seed, features) for contrast in contrasts]


def _difference(
    space: LatentSpace,
    contrast: Contrast,
    drawn: Tensor,
    examples: int,
    seed: int,
    features: FrozenFeatures | None,
) -> ClassDifference:
    """Compare both labels on all latents, batch by batch."""
    n = len(drawn)
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    size = 0.0
    kept: list[Tensor] = []
    leanings: list[list[NDArray[np.float64]]] = [[], []]
    both = zip(
        space.render_batches(drawn, contrast.references(n)),
        space.render_batches(drawn, contrast.targets(n)),
        strict=True,
    )
    for pair in both:
        change = (pair[1] - pair[0]).double()
        total = total + change.sum(dim=0)
        squares = squares + change.square().sum(dim=0)
        size += float(change.abs().flatten(1).mean(dim=1).sum())
        if sum(map(len, kept)) < examples:
            kept.append(torch.stack(pair, dim=1))
        for images, shares in zip(pair, leanings, strict=True):
            found = None if features is None else leaning_of(images, contrast, features)
            shares.extend([] if found is None else [found])
    mean = torch.as_tensor(total) / n
    spread = ((torch.as_tensor(squares) / n - mean.square()).clamp_min(0) * n / (n - 1)).sqrt()
    taken = [float((np.concatenate(shares) > _UNDECIDED).mean()) for shares in leanings if shares]
    return ClassDifference(
        contrast,
        n,
        (seed, seed + n - 1),
        torch.cat(kept)[:examples],
        mean.float(),
        spread.float(),
        size / n,
        (taken[0], taken[1]) if taken else None,
    )


def leaning_of(images: Tensor, contrast: Contrast, features: FrozenFeatures) -> NDArray[np.float64] | None:
    """Return how far a classifier leans to the second label, ``(N,)``; None if these features decide nothing."""
    probabilities = features.describe(images).probabilities
    if probabilities is None or contrast.spec.kind == "continuous":
        return None
    return contrast.leaning(probabilities, features.thresholds)


@dataclass(frozen=True, eq=False)
class ClassWalk:
    """The same latents on the way from one label to another.

    Attributes:
        contrast: Both labels.
        weights: Where each image lies, ``(S,)``: 0 at the first label, 1 at the second.
        images: Shape ``(R, S, C, *size)``.
        seeds: Of the latents.
        leaning: How far a classifier leans to the second label, ``(R, S)``; None without one.
        borders: The weight at which the classifier is undecided, ``(R,)``, NaN where it does not change its mind; None
            without one.
        border_images: The images there, ``(R, C, *size)``; those at the weight 0.5 where there is no border.
        tried: Number of latents of which the classifier was asked about both ends; 0 without one.
        crossing: Of how many of them it takes the two ends for different labels.
    """

    contrast: Contrast
    weights: Tensor
    images: Tensor
    seeds: list[int]
    leaning: NDArray[np.float64] | None
    borders: NDArray[np.float64] | None
    border_images: Tensor | None
    tried: int = 0
    crossing: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        facts: dict[str, Any] = {
            "labels": self.contrast.to_dict(),
            "seeds": self.seeds,
            "weights": [round(weight, _ROUNDED) for weight in self.weights.tolist()],
        }
        if self.leaning is not None and self.borders is not None:
            facts["leaning_to_target"] = np.round(self.leaning, _ROUNDED).tolist()
            facts |= {"latents_tried": self.tried, "latents_that_cross": self.crossing}
            facts["undecided_at"] = [None if np.isnan(at) else round(float(at), _ROUNDED) for at in self.borders]
        return facts


def walk_classes(
    gan: GAN,
    contrast: Contrast,
    *,
    latents: int = 5,
    steps: int = 9,
    tried: int = 48,
    seed: int = 0,
    features: FrozenFeatures | None = None,
) -> ClassWalk:
    """Walk from one label to another with each latent, and find where a classifier changes its mind.

    With a classifier those latents come first that it takes for the first label at the one end, and for the second at
    the other: between these ends lies a borderline case.

    Args:
        gan: The model; of classes its generator has to mix them: see `medgan.core.Generator.mixes_classes`.
        contrast: Both labels.
        latents: Number of latents.
        steps: Images on each way.
        tried: Latents to choose from, with a classifier.
        seed: Of the first latent.
        features: A classifier; see `class_differences`.

    Raises:
        ConfigError: If the generator takes no mixtures of classes.
    """
    if contrast.classes and not gan.generator.mixes_classes:
        raise ConfigError(
            f"The generator of {gan.name} takes a class or another, and nothing between them. An architecture says "
            "with Generator.mixes_classes that it takes mixtures."
        )
    tried = max(tried, latents)
    check_seed(seed, tried)
    space = LatentSpace(gan)
    drawn = space.draw(range(seed, seed + tried))
    crossing = np.zeros(tried, dtype=np.bool_)
    if features is not None:
        ends = [
            leaning_of(space.render(drawn, contrast.mix(torch.full((tried,), end))), contrast, features)
            for end in (0.0, 1.0)
        ]
        if ends[0] is not None and ends[1] is not None:
            crossing = (ends[0] < _UNDECIDED) & (ends[1] > _UNDECIDED)
    chosen = np.argsort(~crossing, kind="stable")[:latents]
    drawn = drawn[torch.from_numpy(chosen)]
    weights = torch.linspace(0, 1, steps)

    def render(at: Tensor) -> Tensor:
        return space.render(drawn, contrast.mix(at))

    images = torch.stack([render(weight.expand(latents)) for weight in weights], dim=1)
    leaning = None if features is None else leaning_of(images.flatten(0, 1), contrast, features)
    seeds = [seed + int(number) for number in chosen]
    if leaning is None or features is None:
        return ClassWalk(contrast, weights, images, seeds, None, None, None)
    leaning = leaning.reshape(latents, steps)
    above = leaning > _UNDECIDED
    changes = above[:, 1:] != above[:, :-1]
    first = changes.argmax(axis=1)
    low, high = weights[first].double().numpy(), weights[first + 1].double().numpy()
    starts_above = above[np.arange(latents), first]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = leaning_of(render(torch.from_numpy(middle)), contrast, features)
        assert found is not None
        same = (found > _UNDECIDED) == starts_above
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    borders = np.where(changes.any(axis=1), (low + high) / 2, np.nan)
    border_images = render(torch.from_numpy(np.where(np.isnan(borders), 0.5, borders)))
    return ClassWalk(contrast, weights, images, seeds, leaning, borders, border_images, tried, int(crossing.sum()))


@dataclass(frozen=True, eq=False)
class Truncation:
    """The same latents, more and more typical.

    Attributes:
        levels: As in `GAN.sample`; 1 is not truncated.
        images: Shape ``(T, E, C, *size)``.
        seeds: Of the images shown.
        names: Label of each image shown; "" without labels.
        variety: Of each level the standard deviation over the latents, its mean over pixels and labels, as a share of
            that without truncation.
        latents: Number of latents of each label that `variety` is computed from.
    """

    levels: list[float]
    images: Tensor
    seeds: list[int]
    names: list[str]
    variety: list[float]
    latents: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            "levels": self.levels,
            "seeds": self.seeds,
            "latents_of_each_label": self.latents,
            "pixel_deviation_over_that_without_truncation": [round(value, _ROUNDED) for value in self.variety],
        }


def truncate(
    gan: GAN,
    *,
    labels: Sequence[tuple[str, Tensor]] = (),
    levels: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    examples: int = 8,
    latents: int = 48,
    seed: int = 0,
) -> Truncation:
    """Make the same images with more and less truncation; see `medgan.core.Generator.generate`.

    Args:
        gan: The model.
        labels: Name and label ``()`` or ``(K,)`` that images are made for; none for a model without labels.
        levels: Truncations; 1 is added if it is missing.
        examples: Images to keep, divided among the labels.
        latents: Latents of each label whose variety is measured.
        seed: Of the first latent.
    """
    if latents < 2:
        raise ConfigError(f"At least 2 latents are needed to see their variety, got {latents}.")
    check_seed(seed, latents)
    space = LatentSpace(gan)
    groups: list[tuple[str, Tensor | None]] = [*labels] or [("", None)]
    each = min(latents, max(1, examples // len(groups)))
    drawn = space.draw(range(seed, seed + latents))
    chosen = sorted({*levels, 1.0})
    kept, variety = [], []
    for level in chosen:
        shown, deviation = [], 0.0
        for _, label in groups:
            wanted = None if label is None else label.expand(latents, *label.shape)
            total: Tensor | float = 0.0
            squares: Tensor | float = 0.0
            some: list[Tensor] = []
            for images in space.render_batches(drawn, wanted, truncation=level):
                total = total + images.double().sum(dim=0)
                squares = squares + images.double().square().sum(dim=0)
                some.extend(images[: max(0, each - len(some))])
            mean = torch.as_tensor(total) / latents
            deviation += float((torch.as_tensor(squares) / latents - mean.square()).clamp_min(0).sqrt().mean())
            shown.append(torch.stack(some))
        kept.append(torch.cat(shown))
        variety.append(deviation / len(groups))
    whole = max(variety[chosen.index(1.0)], 1e-12)
    return Truncation(
        chosen,
        torch.stack(kept),
        list(range(seed, seed + each)) * len(groups),
        [name for name, _ in groups for _ in range(each)],
        [value / whole for value in variety],
        latents,
    )
