"""Which images the batch of a step holds: a pure function of the step, so that resuming needs no saved state."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError, DataError, nearest

__all__ = ["ClassSampling", "Sampler"]

ClassSampling = Literal["natural", "sqrt", "uniform"]

_PATTERN_LENGTH = 1024


class Sampler:
    """The endless order of a data set's images.

    ``natural`` walks through one seeded permutation of all images after the other. ``sqrt`` and ``uniform`` repeat a
    fixed, evenly mixed pattern of classes, with shares proportional to the square root of their sizes (to about 0.1 %)
    or equal, and walk through permutations of each class on its own: every image is used as often as its classmates.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        class_sampling: ClassSampling = "natural",
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        """Plan the order.

        Args:
            count: Number of images.
            seed: Seed of the permutations.
            class_sampling: See above.
            labels: Class of each image, shape ``(count,)`` int64; needed unless ``natural``.

        Raises:
            ConfigError: If `class_sampling` is unknown.
            DataError: If it needs labels and there are none.
        """
        if class_sampling not in get_args(ClassSampling):
            raise ConfigError(f"class_sampling={class_sampling!r}: {nearest(class_sampling, get_args(ClassSampling))}")
        self._seed = seed
        self._permutations: dict[int, tuple[int, NDArray[np.int64]]] = {}  # of each class: the latest epoch's
        if class_sampling == "natural":
            self._members = [np.arange(count)]
            self._quotas = np.array([1])
        elif labels is None:
            raise DataError(
                f"class_sampling={class_sampling!r} needs images of known classes, and this data set has no class "
                "labels. Type class_sampling='natural', or give images in class folders."
            )
        else:
            self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
            sizes = np.array([len(members) for members in self._members])
            self._quotas = _quotas(sizes) if class_sampling == "sqrt" else np.ones_like(sizes)
        self._pattern, self._rank = _pattern(self._quotas)

    def positions(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the images at places `start` to `stop` of the endless order.

        Args:
            start: First place.
            stop: Place after the last one.

        Returns:
            Shape ``(stop - start,)``, int64, positions in the data set.
        """
        places = np.arange(start, stop)
        if len(self._members) == 1:  # as always with natural; a pattern of one class says nothing, and takes longer
            return self._walk(0, places)
        turns, within = np.divmod(places, len(self._pattern))
        classes = self._pattern[within]
        visits = turns * self._quotas[classes] + self._rank[within]
        chosen = np.empty(len(places), dtype=np.int64)
        for label in np.unique(classes):
            mask = classes == label
            chosen[mask] = self._walk(int(label), visits[mask])
        return chosen

    def _walk(self, label: int, visits: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of the given visits to a class; `visits` ascends."""
        size = len(self._members[label])
        epochs, within = np.divmod(visits, size)
        chosen = np.empty(len(visits), dtype=np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            mask = epochs == epoch
            chosen[mask] = self._permutation(label, epoch)[within[mask]]
        return chosen

    def _permutation(self, label: int, epoch: int) -> NDArray[np.int64]:
        """The order of one class in one epoch; the latest is kept, as it serves many batches."""
        if label not in self._permutations or self._permutations[label][0] != epoch:
            rng = np.random.default_rng([self._seed, label, epoch])
            self._permutations[label] = (epoch, rng.permutation(self._members[label]))
        return self._permutations[label][1]


def class_shares(sizes: NDArray[np.int64], class_sampling: ClassSampling) -> NDArray[np.float64]:
    """Return what part of the images that are drawn each class makes up.

    Args:
        sizes: Images of each class, at least 1, shape ``(K,)``.
        class_sampling: ``natural``, ``sqrt`` or ``uniform``.

    Returns:
        Shape ``(K,)``, with a sum of 1; of ``natural`` on average only.
    """
    weights = np.power(sizes, {"natural": 1.0, "sqrt": 0.5, "uniform": 0.0}[class_sampling])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _quotas(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of each class in the pattern, by the square root of its size; at least one."""
    length = max(_PATTERN_LENGTH, 8 * len(sizes))
    quotas: NDArray[np.int64] = np.maximum(1, np.rint(length * class_shares(sizes, "sqrt"))).astype(np.int64)
    return quotas


def _pattern(quotas: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Spread the classes evenly over a pattern.

    Returns:
        The class at each place, and how many places of that class come before it.
    """
    classes = np.repeat(np.arange(len(quotas)), quotas)
    ranks = np.concatenate([np.arange(quota) for quota in quotas])
    order = np.argsort((ranks + 0.5) / quotas[classes], kind="stable")
    return classes[order], ranks[order]
