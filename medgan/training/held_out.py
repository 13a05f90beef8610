"""How good a generator is in the middle of its training: its images beside those of held-out patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from medgan.errors import DataError
from medgan.metrics.features import standardize
from medgan.metrics.functional import density_coverage, kernel_distance

if TYPE_CHECKING:
    from torch import Tensor

    from medgan.core.gan import GAN
    from medgan.data import ImageDataset
    from medgan.training.frozen_features import FrozenFeatures

__all__ = ["GroupScores", "HeldOutScorer", "HeldOutScores", "choose_held_out"]

_NEIGHBOURS = 5  # the ball of a held-out image reaches to its fifth neighbour
_LEAST = _NEIGHBOURS + 1  # images of a group that can be scored
_MOST = 1_000  # images of all groups; more would cost time and change little
_NUMBERS = 2**29  # of all images together: volumes have to fit into memory, the samples beside the real ones
_MOST_FOR_BANDWIDTH = 500


class GroupScores(NamedTuple):
    """What the images of one class, or all of them, are like.

    Attributes:
        kernel_distance: To the held-out images, with the kernel ``rbf`` at their median distance; 0 for images of the
            same distribution, at most 2, and a little below 0 by chance. Lower is better.
        coverage: Share of the held-out images with a synthetic one among their neighbours; higher is better.
        class_consistency: Share of the synthetic images that the classifier recognises as what they were made as; None
            without a classifier.
        real_class_consistency: The same of the held-out images.
    """

    kernel_distance: float
    coverage: float
    class_consistency: float | None = None
    real_class_consistency: float | None = None

    @property
    def quality(self) -> float:
        """What becomes of the figures in `HeldOutScores.score`: between 0 and 1, higher is better."""
        closeness = 1 - min(1.0, max(0.0, self.kernel_distance) ** 0.5)
        factors = [(self.coverage, 2), (closeness, 1)]
        if self.class_consistency is not None and self.real_class_consistency:
            factors.append((min(1.0, self.class_consistency / self.real_class_consistency), 1))
        product = 1.0
        for value, weight in factors:
            product *= value**weight
        return float(product ** (1 / sum(weight for _, weight in factors)))


@dataclass(frozen=True)
class HeldOutScores:
    """The scores of a generator.

    Attributes:
        overall: Of all images.
        classes: Of each class or finding that enough held-out images show, by name; empty without such.
    """

    overall: GroupScores
    classes: Mapping[str, GroupScores]

    @property
    def score(self) -> float:
        """The one number that decides which generator is better, between 0 and 1; higher is better.

        A group's quality is the weighted geometric mean

            Q = (C² · (1 − MMD) · A)^(1/4),

        where C is the coverage; MMD the root of the kernel distance, kept between 0 and 1; and A the class consistency
        over that of real held-out images, at most 1, as nothing is gained from images that are easier to recognise
        than real ones. Coverage counts twice: images that differ from each other as real ones do are rarer than images
        that look real. Without a classifier A is left out, Q = (C² · (1 − MMD))^(1/3). The score is the mean of the
        mean and the least of Q over the classes, so that the worst class counts as much as all together; where there
        are no classes, it is Q of all images.
        """
        if not self.classes:
            return self.overall.quality
        qualities = [group.quality for group in self.classes.values()]
        return (sum(qualities) / len(qualities) + min(qualities)) / 2

    @property
    def worst_class(self) -> str | None:
        """Name of the class with the lowest quality; None where there are no classes."""
        return min(self.classes, key=lambda name: self.classes[name].quality, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the score and the figures as plain JSON values, those of classes as ``coverage/NORMAL``."""
        values: dict[str, Any] = {"score": round(self.score, 6)}
        for suffix, group in [("", self.overall), *((f"/{name}", group) for name, group in self.classes.items())]:
            for key, value in group._asdict().items():
                if value is not None:
                    values[key + suffix] = round(value, 6)
        return values


class HeldOutScorer:
    """Scores generators against held-out images, always the same ones, with samples of always the same seeds.

    For each held-out image one is made with its label: of classes as many as there are held-out images, 1,000 in all at
    most (see `choose_held_out`), evenly spread over the data set, and no class takes the place of another. Features are
    standardised by the held-out images.

    Args:
        validation: Images of patients that neither the generator nor the features were trained on.
        features: What images are compared by.

    Attributes:
        held_out: The images of `validation` that are looked at.
        labels: Their labels, as in `medgan.core.Batch`.
        classes: Which of them are of each class or finding that enough show, by its name; ``(N,)`` of bool.
        sources: Held-out source images to translate, one for each held-out image, where there are any.
        samples: The images that were scored last, in the order of the labels; None before.
        identity: What scores have to share to be compared.

    Raises:
        DataError: If there are fewer than 6 images.
    """

    def __init__(self, validation: ImageDataset, features: FrozenFeatures) -> None:
        """Compute the features of the held-out images."""
        if len(validation) < _LEAST:
            raise DataError(f"{len(validation)} held-out images cannot score a generator; at least {_LEAST} can.")
        rows = choose_held_out(validation)
        self.features = features
        labels = None if validation.labels is None else validation.labels[rows]
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.count = len(rows)
        self.held_out = validation.subset(rows)
        self.sources = validation.batch_at(rows).sources
        self.samples: Tensor | None = None
        self.identity = features.sha256
        real = features.describe(validation.images_at(rows))
        self._reference = real.features
        self._real = standardize(real.features, real.features)
        self._recognised = _recognised(real.probabilities, labels, features.thresholds)
        spec = validation.spec.labels
        masks: dict[str, NDArray[np.bool_]] = {}
        if labels is not None and spec is not None and spec.kind != "continuous":
            of_name = labels.T == 1 if labels.ndim == 2 else np.arange(len(spec))[:, None] == labels
            masks = dict(zip(spec.names, of_name, strict=True))
        self.classes = {name: mask for name, mask in masks.items() if mask.sum() >= _LEAST}
        self._columns = {
            name: number if spec and spec.kind == "multilabel" else None for number, name in enumerate(masks)
        }
        self._bandwidths: dict[str | None, float] = {}

    def sample(self, gan: GAN, n: int | None = None) -> Tensor:
        """Make images with the labels, and of the sources, of the first `n` held-out images; of all if None."""
        labels, sources = (None if part is None else part[:n] for part in (self.labels, self.sources))
        return gan.sample(self.count if n is None else n, labels=labels, sources=sources).images

    def score(self, gan: GAN) -> HeldOutScores:
        """Sample a generator and score it; changes no weight and no random state.

        Args:
            gan: The model.

        Raises:
            DataError: If its images are not finite.
        """
        images = self.samples = self.sample(gan)
        found = self.features.describe(images)
        synthetic = standardize(found.features, self._reference)
        labels = None if self.labels is None else self.labels.numpy()
        recognised = _recognised(found.probabilities, labels, self.features.thresholds)
        everything = np.ones(self.count, dtype=np.bool_)
        return HeldOutScores(
            self._group(None, everything, synthetic, recognised),
            {name: self._group(name, mask, synthetic, recognised) for name, mask in self.classes.items()},
        )

    def _group(
        self,
        name: str | None,
        mask: NDArray[np.bool_],
        synthetic: NDArray[np.float64],
        recognised: NDArray[np.float64] | None,
    ) -> GroupScores:
        """Score the images of one class or finding, or all."""
        real, fake = self._real[mask], synthetic[mask]
        if name not in self._bandwidths:
            few = real[np.linspace(0, len(real) - 1, min(len(real), _MOST_FOR_BANDWIDTH)).astype(np.int64)]
            self._bandwidths[name] = float(np.median(pdist(few))) or 1.0
        column = None if name is None else self._columns[name]
        return GroupScores(
            kernel_distance(real, fake, kernel="rbf", bandwidth=self._bandwidths[name]),
            density_coverage(real, fake, k=_NEIGHBOURS).coverage,
            _share(recognised, mask, column),
            _share(self._recognised, mask, column),
        )


def choose_held_out(validation: ImageDataset) -> NDArray[np.int64]:
    """Return which held-out images are looked at: all, or equally many of each class, evenly spread.

    Args:
        validation: The held-out images.

    Returns:
        Positions, about 1,000 at most, and of large volumes about as many as have 2²⁹ numbers.
    """
    labels = validation.labels
    most = max(_LEAST, min(_MOST, _NUMBERS // validation.spec.numel))
    if len(validation) <= most:
        return np.arange(len(validation))
    if labels is None or labels.ndim != 1:
        return np.linspace(0, len(validation) - 1, most).astype(np.int64)
    members = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    limit = max(_LEAST, most // len(members))
    return np.concatenate(
        [rows[np.linspace(0, len(rows) - 1, min(len(rows), limit)).astype(np.int64)] for rows in members]
    )


def _recognised(
    probabilities: NDArray[np.float64] | None, labels: NDArray[Any] | None, thresholds: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return whether each label is recognised, ``(N,)`` or of findings ``(N, K)``: 1, 0, or NaN where not known."""
    if probabilities is None or labels is None:
        return None
    if thresholds is None:
        return np.asarray(probabilities.argmax(axis=1) == labels, dtype=np.float64)
    right = (probabilities >= thresholds) == (labels == 1)
    return np.where(np.isnan(labels), np.nan, right.astype(np.float64))


def _share(recognised: NDArray[np.float64] | None, mask: NDArray[np.bool_], column: int | None) -> float | None:
    """Return the share of known labels that were recognised, of one finding or of all; None if none is known."""
    if recognised is None:
        return None
    values = recognised[mask] if column is None else recognised[mask, column]
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
