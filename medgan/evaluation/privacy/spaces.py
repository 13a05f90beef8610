"""Where images are compared: as pixels, and as features."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medgan.data.dataset import ImageDataset
from medgan.evaluation.privacy.search import Nearest, Numbers, coarse_vectors, nearest_aligned, nearest_vectors, shrink
from medgan.metrics.extractors.base import Extractor
from medgan.metrics.features import Features, extract_features, standardize

__all__ = ["FeatureSpace", "PixelSpace", "Space"]

_BATCH = 64

Taken = NDArray[Any]
"""What a space keeps of images, one entry of the first axis each."""


class Space(ABC):
    """A way to say how near two images are.

    Attributes:
        name: In reports.
        description: How nearness is measured, a sentence.
        facts: Of the extractor, if any.
    """

    name: str
    description: str
    facts: dict[str, Any] | None = None

    @abstractmethod
    def take(self, images: ImageDataset) -> Taken:
        """Return what is kept of images, ``(N, ...)``."""

    @abstractmethod
    def vectors(self, taken: Taken) -> NDArray[np.float32]:
        """Return images as vectors, ``(N, D)``, for clusters."""

    @abstractmethod
    def nearest(
        self,
        queries: Taken,
        references: Taken,
        *,
        query_groups: Numbers | None = None,
        reference_groups: Numbers | None = None,
    ) -> Nearest:
        """Find the nearest reference of each query, of another group where groups are given."""


class PixelSpace(Space):
    """Correlation of pixels, over shifts, small crops and mirroring; see `medgan.evaluation.privacy.search`."""

    name = "pixels"
    description = (
        "correlation of the pixels at 32 along the longest side, a little blurred; the best over shifts of up to a "
        "tenth, crops and enlargements of 8 % and mirroring"
    )

    def take(self, images: ImageDataset) -> Taken:
        """Return small pictures."""
        return np.concatenate([shrink(batch) for batch in _batches(images)])

    def vectors(self, taken: Taken) -> NDArray[np.float32]:
        """Return smaller pictures."""
        return coarse_vectors(taken)

    def nearest(
        self,
        queries: Taken,
        references: Taken,
        *,
        query_groups: Numbers | None = None,
        reference_groups: Numbers | None = None,
    ) -> Nearest:
        """Find the most similar images."""
        return nearest_aligned(queries, references, query_groups=query_groups, reference_groups=reference_groups)


class FeatureSpace(Space):
    """Distance of features, of an image or of its mirror image, whichever is nearer.

    Features that need it are standardised with the training images alone: what held-out and synthetic images are
    compared by must not depend on either. They are not whitened: that raises what varies least, which is noise, and
    hides noisy copies.
    """

    def __init__(
        self,
        extractor: Extractor,
        training: ImageDataset,
        *,
        cache_dir: Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Extract the features of the training images.

        Args:
            extractor: What to compute.
            training: Real training images.
            cache_dir: Folder of features that are kept; None for no cache.
            progress: Told how many images of a data set are done.

        Raises:
            DataError: If the extractor cannot read the images.
        """
        self.name = extractor.name
        self._extractor, self._cache_dir, self._progress = extractor, cache_dir, progress
        found = self._extract(training, mirrored=False)
        self._reference = found.values if found.needs_standardizing else None
        scaled = "standardised features" if found.needs_standardizing else "features"
        self.description = (
            f"distance of {found.values.shape[1]:,} {scaled}, of an image or its mirror image, whichever is nearer"
        )
        self.facts = {
            "name": found.extractor,
            "sha256": found.sha256,
            "layer": found.layer,
            "resizer": found.resizer,
            "bits": found.bits,
            "device": found.device,
            "notes": list(found.notes),
        }

    def take(self, images: ImageDataset) -> Taken:
        """Return features of images and of their mirror images, ``(N, 2, D)``."""
        sides = [self._extract(images, mirrored=mirrored).values for mirrored in (False, True)]
        if self._reference is not None:
            sides = [standardize(each, self._reference).astype(np.float32) for each in sides]
        return np.stack(sides, axis=1)

    def vectors(self, taken: Taken) -> NDArray[np.float32]:
        """Return the features of the images themselves."""
        return np.ascontiguousarray(taken[:, 0])

    def nearest(
        self,
        queries: Taken,
        references: Taken,
        *,
        query_groups: Numbers | None = None,
        reference_groups: Numbers | None = None,
    ) -> Nearest:
        """Find the images with the nearest features."""
        known = self.vectors(references)
        distances, positions = np.empty(len(queries)), np.empty(len(queries), np.int64)
        blocks = nearest_vectors(
            np.ascontiguousarray(queries.transpose(1, 0, 2)),
            known,
            query_groups=query_groups,
            reference_groups=reference_groups,
        )
        for rows, squares, found in blocks:
            there = np.isfinite(squares[:, 0])
            positions[rows] = np.where(there, found[:, 0], -1)
            # Of the differences themselves: squares of single precision have no small distances.
            exact = np.linalg.norm(queries[rows].astype(np.float64) - known[found[:, 0], None], axis=2).min(axis=1)
            distances[rows] = np.where(there, exact, np.inf)
        return Nearest(distances, positions)

    def _extract(self, images: ImageDataset, *, mirrored: bool) -> Features:
        """Return the features of images, or of their mirror images."""
        known = images.fingerprint
        return extract_features(
            (batch.flip(-1) if mirrored else batch for batch in _batches(images)),
            self._extractor,
            batch_size=_BATCH,
            cache_dir=self._cache_dir,
            fingerprint=hashlib.sha256(f"mirrored {known}".encode()).hexdigest() if mirrored else known,
            progress=self._progress,
        )


def _batches(images: ImageDataset) -> Iterator[Tensor]:
    """Yield all images, some at a time."""
    for start in range(0, len(images), _BATCH):
        yield images.images_at(np.arange(start, min(start + _BATCH, len(images))))
