"""Training sets of an arm: real and synthetic images, each counted, in one stream of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.core.spec import Batch
from medgan.data.sampling import ClassSampling, Sampler
from medgan.data.splits import rarest_stratum
from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = ["class_counts", "joined_batches", "patients_of", "repeat", "take_by_class", "take_patients"]


def joined_batches(
    parts: Sequence[ImageDataset], batch_size: int, *, seed: int, class_sampling: ClassSampling = "natural"
) -> Iterator[Batch]:
    """Yield batches, without end, of several data sets as if they were one.

    Args:
        parts: Data sets of the same spec.
        batch_size: Images a batch.
        seed: Seed of the order.
        class_sampling: As in `ImageDataset.batches`.
    """
    ends = np.cumsum([len(part) for part in parts])
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    classes = labels if labels.ndim == 1 else None
    sampler = Sampler(int(ends[-1]), seed=seed, class_sampling=class_sampling, labels=classes)
    number = 0
    while True:
        positions = sampler.positions(number * batch_size, (number + 1) * batch_size)
        images = torch.empty((batch_size, parts[0].spec.channels, *parts[0].spec.size))
        for part, end in zip(parts, ends, strict=True):
            mine = (positions >= end - len(part)) & (positions < end)
            if mine.any():
                images[torch.from_numpy(mine)] = part.images_at(positions[mine] - (end - len(part)))
        yield Batch(images, torch.from_numpy(labels[positions]))
        number += 1


def class_counts(dataset: ImageDataset) -> NDArray[np.int64]:
    """Return the number of images of each class, ``(K,)``; of other labels the number of all images, ``(1,)``."""
    if dataset.labels is None:
        raise DataError(f"{dataset.name} has no labels, and there is nothing for a classifier to learn.")
    if dataset.labels.ndim == 1:
        return np.bincount(dataset.labels, minlength=dataset.spec.num_labels)
    return np.array([len(dataset)])


def take_by_class(dataset: ImageDataset, counts: NDArray[np.int64], *, seed: int) -> tuple[ImageDataset, ImageDataset]:
    """Take so many images of each class, and return them and the rest.

    Args:
        dataset: The images.
        counts: How many, as `class_counts` has them.
        seed: Chooses which.

    Raises:
        DataError: If a class has fewer.
    """
    there = class_counts(dataset)
    if (there < counts).any():
        label = int(np.argmax(there < counts))
        spec = dataset.spec.labels
        name = spec.names[label] if spec is not None and len(there) > 1 else "all labels"
        share = np.floor(100 * (there / np.maximum(counts, 1)).min()) / 100
        raise DataError(
            f"{dataset.name} has {there[label]:,} synthetic images of {name}, but {counts[label]:,} are needed. Give "
            f"more, or arms with {share:g} times their ratio."
        )
    order = np.random.default_rng([seed, 1_409]).permutation(len(dataset))
    labels = dataset.labels
    classes = labels[order] if labels is not None and labels.ndim == 1 else np.zeros(len(order), dtype=np.int64)
    ranks = np.empty(len(order), dtype=np.int64)
    for label in range(len(counts)):
        of_class = np.flatnonzero(classes == label)
        ranks[of_class] = np.arange(len(of_class))
    chosen = ranks < counts[classes]
    return dataset.subset(np.sort(order[chosen])), dataset.subset(np.sort(order[~chosen]))


def repeat(dataset: ImageDataset, copies: float) -> ImageDataset:
    """Return a data set in which each image stands `copies` times, at least once.

    Args:
        dataset: The images.
        copies: Such as 2, or 1.5 for every other image twice.
    """
    count = max(len(dataset), round(copies * len(dataset)))
    return dataset.subset(np.arange(count) % len(dataset))


def patients_of(dataset: ImageDataset) -> NDArray[np.str_]:
    """Return who each image is of; where that is unknown, the file is a patient of its own, with all its slices."""
    patients = dataset.index["patient_id"].to_numpy(dtype=str)
    own = np.char.add("image ", dataset.index["file"].to_numpy(dtype=str))
    return np.asarray(np.where(patients == "", own, patients))


def take_patients(dataset: ImageDataset, fraction: float, *, seed: int) -> ImageDataset:
    """Keep a share of the patients; a smaller share is part of a larger one of the same seed.

    Args:
        dataset: The images.
        fraction: Share of the patients of each class, in (0, 1]; at least one patient a class. A patient of several
            classes counts as of the rarest, as in a split.
        seed: Chooses which.
    """
    if fraction == 1:
        return dataset
    names, patients = np.unique(patients_of(dataset), return_inverse=True)
    labels = dataset.labels
    shown = labels if labels is not None and labels.ndim == 1 else np.zeros(len(patients), dtype=np.int64)
    classes = rarest_stratum(patients, shown)
    kept: list[NDArray[np.str_]] = []
    for label in np.unique(shown):
        of_class = classes == label
        if of_class.any():
            count = max(1, round(fraction * int(of_class.sum())))
        else:  # all its patients count as of rarer classes, and those that are kept may not have it
            count = 1
            of_class[patients[shown == label]] = True
        kept.append(np.random.default_rng([seed, int(label), 2_213]).permutation(names[of_class])[:count])
    return dataset.subset(np.flatnonzero(np.isin(names[patients], np.concatenate(kept))))
