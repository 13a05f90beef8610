"""Samples at the edges: rare ones, undecided ones, and the training images nearest to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medgan.errors import DataError
from medgan.exploration.contrasts import Contrast
from medgan.metrics.features import standardize
from medgan.metrics.functional import nearest_neighbours

if TYPE_CHECKING:
    from medgan.data import ImageDataset
    from medgan.training.frozen_features import FrozenFeatures

__all__ = ["Cases", "Neighbours", "Rarity", "find_cases", "nearest_training", "rarity"]

_NEIGHBOURS = 3
_SIDE = 32  # pixels along the longest side, in which neighbours are looked for
_AT_A_TIME = 256
_ROUNDED = 5


@dataclass(frozen=True, eq=False)
class Rarity:
    """How rare images are among real ones; see `rarity`.

    Attributes:
        scores: Shape ``(N,)``; NaN for images outside of all balls, which are no rare cases, but unlike all real ones.
        distances: To the nearest real image, ``(N,)``.
    """

    scores: NDArray[np.float64]
    distances: NDArray[np.float64]

    @property
    def outside(self) -> float:
        """Share of the images that lie in no ball."""
        return float(np.isnan(self.scores).mean())


def rarity(real: ArrayLike, others: ArrayLike, *, k: int = _NEIGHBOURS) -> Rarity:
    """Return rarity scores: the radius of the smallest ball around a real image that an image lies in.

    A ball reaches from a real image to its k-th nearest real neighbour: it is large where real images are few.

    Args:
        real: Features of real images, ``(R, D)``, R > k.
        others: Features of the images to score, ``(N, D)``.
        k: Which neighbour.

    Raises:
        DataError: If there are k real images or fewer.

    References:
        Han et al., 2022, arXiv:2206.08549.
    """
    from sklearn.neighbors import NearestNeighbors

    known, asked = np.asarray(real, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if len(known) <= k:
        raise DataError(f"Rarity needs more than {k} real images, got {len(known)}.")
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(known)
    radii = search.kneighbors(known)[0][:, k]  # the nearest is the image itself
    scores, distances = np.full(len(asked), np.nan), np.full(len(asked), np.nan)
    for start in range(0, len(asked), _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        apart, found = search.kneighbors(asked[rows], n_neighbors=len(known))
        inside = np.where(apart <= radii[found], radii[found], np.inf).min(axis=1)
        scores[rows] = np.where(np.isfinite(inside), inside, np.nan)
        distances[rows] = apart[:, 0]
    return Rarity(scores, distances)


@dataclass(frozen=True, eq=False)
class Cases:
    """Samples of one label, from the most typical to those that are unlike all real images.

    Attributes:
        name: The label; "" without labels.
        images: Shape ``(N, C, *size)``.
        seeds: Of the samples.
        rarity: Of the samples, among the training images of the label.
        held_out: Of held-out images of the label, among the same; None where there are none.
        training: Number of those training images.
        leaning: How far a classifier leans to the second label of the contrast, ``(N,)``; None without one.
    """

    name: str
    images: Tensor
    seeds: list[int]
    rarity: Rarity
    held_out: Rarity | None
    training: int
    leaning: NDArray[np.float64] | None

    def typical(self, n: int) -> NDArray[np.int64]:
        """Return which samples are the least rare."""
        return self._inside()[:n]

    def rare(self, n: int) -> NDArray[np.int64]:
        """Return which samples are the rarest within what training images look like, the rarest first."""
        return self._inside()[::-1][:n]

    def outside(self, n: int) -> NDArray[np.int64]:
        """Return which samples are unlike all training images, the farthest first."""
        rows = np.flatnonzero(np.isnan(self.rarity.scores))
        return rows[np.argsort(-self.rarity.distances[rows], kind="stable")][:n]

    def borderline(self, n: int) -> NDArray[np.int64]:
        """Return of which samples the classifier is the least sure."""
        assert self.leaning is not None
        return np.argsort(np.abs(self.leaning - 0.5), kind="stable")[:n]

    def _inside(self) -> NDArray[np.int64]:
        order = np.argsort(self.rarity.scores, kind="stable")  # NaN comes last
        return order[: int(np.isfinite(self.rarity.scores).sum())]

    def to_dict(self, shown: int) -> dict[str, Any]:
        """Return the figures as plain JSON values.

        Args:
            shown: How many cases of each kind are shown.
        """

        def seeds(rows: NDArray[np.int64]) -> list[int]:
            return [self.seeds[row] for row in rows]

        facts: dict[str, Any] = {
            "label": self.name,
            "samples": len(self.seeds),
            "first_seed": self.seeds[0],
            "training_images": self.training,
            "neighbours": _NEIGHBOURS,
            "share_outside": round(self.rarity.outside, _ROUNDED),
            "held_out_images": None if self.held_out is None else len(self.held_out.scores),
            "share_outside_held_out": None if self.held_out is None else round(self.held_out.outside, _ROUNDED),
            "typical": seeds(self.typical(shown)),
            "rare": seeds(self.rare(shown)),
            "outside": seeds(self.outside(shown)),
        }
        if self.leaning is not None:
            rows = self.borderline(shown)
            facts["borderline"] = seeds(rows)
            facts["borderline_leaning"] = np.round(self.leaning[rows], _ROUNDED).tolist()
        return facts


def find_cases(
    images: Tensor,
    seeds: list[int],
    *,
    name: str,
    features: FrozenFeatures,
    training: NDArray[np.float64],
    scale: NDArray[np.float64],
    held_out: NDArray[np.float64] | None = None,
    contrast: Contrast | None = None,
) -> Cases:
    """Sort samples of a label by how rare they are, and by how sure a classifier is.

    Args:
        images: The samples.
        seeds: Of the samples.
        name: Of the label.
        features: What images are compared by, and a classifier if there is one.
        training: Features of training images of the label, ``(R, D)``.
        scale: Features of all training images; all are standardised by these.
        held_out: Features of held-out ones; None or too few to say anything for none.
        contrast: What a classifier leans between; None for no classifier.

    Raises:
        DataError: If there are 3 training images of the label or fewer.
    """
    found = features.describe(images)
    known = standardize(training, scale)
    leaning = None
    if contrast is not None and found.probabilities is not None and contrast.spec.kind != "continuous":
        leaning = contrast.leaning(found.probabilities, features.thresholds)
    others = None if held_out is None or not len(held_out) else rarity(known, standardize(held_out, scale))
    scores = rarity(known, standardize(found.features, scale))
    return Cases(name, images, seeds, scores, others, len(training), leaning)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The training images nearest to samples, and how near they are to held-out images.

    Attributes:
        images: The samples that are shown, ``(E, C, *size)``.
        seeds: Of those.
        names: Their labels; "" without labels.
        by_pixels: Positions in the training set of their nearest images by pixels, ``(E,)``.
        by_features: The same by features.
        correlations: Of all samples with their nearest training image, by pixels, ``(N,)``.
        distances: Of all samples from their nearest training image, by features, ``(N,)``.
        held_out_correlations: Of held-out images, ``(H,)``; None where there are none.
        held_out_distances: The same by features.
        training: Number of training images that were looked through.
        side: Longest side of the images that were compared by pixels.
    """

    images: Tensor
    seeds: list[int]
    names: list[str]
    by_pixels: NDArray[np.int64]
    by_features: NDArray[np.int64]
    correlations: NDArray[np.float64]
    distances: NDArray[np.float64]
    held_out_correlations: NDArray[np.float64] | None
    held_out_distances: NDArray[np.float64] | None
    training: int
    side: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""

        def described(values: NDArray[np.float64] | None) -> dict[str, Any] | None:
            if values is None:
                return None
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            numbers = {"p5": low, "median": middle, "p95": high, "least": values.min(), "largest": values.max()}
            return {"images": len(values)} | {key: round(float(value), _ROUNDED) for key, value in numbers.items()}

        return {
            "training_images": self.training,
            "pixels_along_longest_side": self.side,
            "correlation_of_samples": described(self.correlations),
            "correlation_of_held_out": described(self.held_out_correlations),
            "feature_distance_of_samples": described(self.distances),
            "feature_distance_of_held_out": described(self.held_out_distances),
            "shown_seeds": self.seeds,
        }


def nearest_training(
    samples: Tensor,
    seeds: list[int],
    names: list[str],
    *,
    training: ImageDataset,
    held_out: ImageDataset | None,
    features: FrozenFeatures,
    known: NDArray[np.float64],
    shown: list[int],
) -> Neighbours:
    """Find the training images nearest to samples: by pixels (correlation), and by features.

    Args:
        samples: Shape ``(N, C, *size)``.
        seeds: Of the samples.
        names: Their labels.
        training: The training images.
        held_out: Images of other patients, to compare with; None for none.
        features: What images are compared by besides pixels.
        known: Features of the training images, ``(R, D)``.
        shown: Which samples to keep.
    """
    longest = max(training.spec.size)
    step = max(1, -(-longest // _SIDE))
    small = _shrunk(training, step)
    reference = standardize(known, known)
    pixels = nearest_neighbours(_pooled(samples, step).numpy(), small)
    apart = nearest_neighbours(standardize(features.describe(samples).features, known), reference, metric="euclidean")
    others: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    if held_out is not None and len(held_out):
        described = describe_dataset(held_out, features)[0]
        others = (
            nearest_neighbours(_shrunk(held_out, step), small).values[:, 0],
            nearest_neighbours(standardize(described, known), reference, metric="euclidean").values[:, 0],
        )
    return Neighbours(
        samples[shown],
        [seeds[row] for row in shown],
        [names[row] for row in shown],
        pixels.indices[shown, 0],
        apart.indices[shown, 0],
        pixels.values[:, 0],
        apart.values[:, 0],
        None if others is None else others[0],
        None if others is None else others[1],
        len(training),
        -(-longest // step),
    )


def describe_dataset(
    images: ImageDataset, features: FrozenFeatures
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return features and probabilities of all images, block by block."""
    found = [features.describe(images.images_at(rows)) for rows in blocks(len(images))]
    probabilities = [part.probabilities for part in found if part.probabilities is not None]
    return np.concatenate([part.features for part in found]), np.concatenate(probabilities) if probabilities else None


def blocks(n: int) -> list[range]:
    """Return positions from 0 to n - 1 in pieces that fit into memory."""
    return [range(start, min(start + _AT_A_TIME, n)) for start in range(0, n, _AT_A_TIME)]


def _shrunk(images: ImageDataset, step: int) -> NDArray[np.float32]:
    """Return images, averaged down."""
    return np.concatenate([_pooled(images.images_at(rows), step).numpy() for rows in blocks(len(images))])


def _pooled(images: Tensor, step: int) -> Tensor:
    pool: Any = F.avg_pool2d if images.ndim == 4 else F.avg_pool3d
    found: Tensor = images if step == 1 else pool(images, step, ceil_mode=True)
    return found.to(torch.float32).contiguous()
