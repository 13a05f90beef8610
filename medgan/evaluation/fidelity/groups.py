"""Which images are compared with which: all of them, and those of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan.data.dataset import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.evaluation.fidelity.metrics import Number
from medgan.evaluation.fidelity.records import Score
from medgan.evaluation.mixing import patients_of as name_patients

__all__ = ["ALL", "Group", "Positions", "Side", "check_alike", "class_groups", "patients_of", "whole_group"]

Positions = NDArray[np.int64]

ALL = "all images"
"""Name of the group of all images."""


class Side(NamedTuple):
    """The images of a group on one side: their positions, who they are of, and what they show."""

    positions: Positions
    patients: NDArray[np.int64]
    strata: NDArray[np.int64]


class Group(NamedTuple):
    """Images that are compared with each other: all, or those of a class."""

    name: str
    real: Side
    samples: list[Side]

    def score(self, number: Number, title: str, **rest: Any) -> Score:
        """Return a score of these images."""
        return Score(
            metric=number.key,
            title=title,
            group=self.name,
            direction=number.direction,
            real_images=len(self.real.positions),
            synthetic_images=len(self.samples[0].positions),
            samples=len(self.samples),
            **rest,
        )

    def digest(self) -> list[Any]:
        """Return what tells these images, in the order of their data sets, from others."""
        return [[part.tolist() for part in side] for side in (self.real, *self.samples)]


def check_alike(real: ImageDataset, others: Sequence[ImageDataset], what: str = "synthetic") -> None:
    """Refuse what cannot be compared."""
    for name, images in (("real", real), *((what, each) for each in others)):
        if len(images) < 2:
            raise DataError(
                f"There {'is' if len(images) == 1 else 'are'} {len(images)} {name} image{'s' * (len(images) != 1)} in "
                f"{images.source}, and no set can be compared with fewer than 2. Give more."
            )
    if not others:
        raise DataError("No synthetic images were given.")
    for images in others:
        for fact, one, other in (
            ("size", real.spec.size, images.spec.size),
            ("channels", real.spec.channels, images.spec.channels),
        ):
            if one != other:
                raise DataError(
                    f"The real images have the {fact} {one}, the {what} ones {other}. Open both alike, for example "
                    f"with --size {real.spec.size[-1]} --channels {real.spec.channels}."
                )
        if what == "synthetic" and len(images) != len(others[0]):
            raise DataError(
                f"Samples of synthetic images must have one size, got {len(others[0])} and {len(images)} images."
            )


def side_of(images: ImageDataset, chosen: Positions) -> Side:
    """Return some images with their patients and strata."""
    labels = images.labels
    strata = labels if labels is not None and labels.ndim == 1 else np.zeros(len(images), np.int64)
    return Side(chosen, patients_of(images)[chosen], np.asarray(strata, np.int64)[chosen])


def whole_group(real: ImageDataset, samples: Sequence[ImageDataset]) -> Group:
    """Return the group of all images."""
    return Group(ALL, side_of(real, np.arange(len(real))), [side_of(each, np.arange(len(each))) for each in samples])


def class_groups(real: ImageDataset, samples: Sequence[ImageDataset], *, required: bool) -> list[Group]:
    """Return a group for each class or finding of the real images; none if labels do not name any."""
    spec = real.spec.labels
    problem = ""
    if spec is None or real.labels is None or spec.kind == "continuous":
        problem = f"the real images of {real.source} have no classes"
    elif any(each.labels is None or each.spec.labels is None for each in samples):
        problem = f"the synthetic images of {samples[0].source} have no classes; put them into class folders"
    if problem:
        if required:
            raise ConfigError(f"Classes cannot be compared: {problem}. Leave out --per-class.")
        return []
    groups = []
    assert spec is not None
    for name in spec.names:
        sides = []
        for images in (real, *samples):
            assert images.spec.labels is not None and images.labels is not None  # noqa: PT018 - for the type checker
            names = images.spec.labels.names
            number = names.index(name) if name in names else -1
            there = images.labels == number if images.labels.ndim == 1 else images.labels[:, number] > 0
            sides.append(side_of(images, np.flatnonzero(there) if number >= 0 else np.arange(0)))
        if len(sides[0].positions):
            groups.append(Group(name, sides[0], sides[1:]))
    if required and not any(len(group.samples[0].positions) for group in groups):
        known = samples[0].spec.labels
        raise DataError(
            f"The real classes are {', '.join(spec.names)}, the synthetic ones "
            f"{', '.join(known.names if known else ())}: none is the same. Name the folders of synthetic images as "
            "those of real ones."
        )
    return groups


def patients_of(images: ImageDataset) -> NDArray[np.int64]:
    """Number the patients of images; where one is unknown, the file is a patient of its own, with all its slices.

    Args:
        images: The images.

    Returns:
        Shape ``(N,)``.
    """
    return np.unique(name_patients(images), return_inverse=True)[1].reshape(-1).astype(np.int64)
