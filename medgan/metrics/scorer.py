"""A scorer of samples: how likely readers, or whoever judged some of them, are to accept an image."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from torch import Tensor

from medgan.core.saving import versions, write_aside
from medgan.errors import CheckpointError, ConfigError, DataError, nearest
from medgan.metrics.extractors.lookup import get_extractor

__all__ = ["SCORER_EXTRACTORS", "SampleScorer"]

# Only extractors without weights: a scorer's file must not name code or other files.
SCORER_EXTRACTORS = ("random-conv", "radiomics")
"""Extractors that a scorer may look through."""

_FILE, _WEIGHTS = "scorer.json", "scorer.safetensors"
_LEAST = 8  # images on either side
_FOLDS = 5
_STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # inverse of the penalty on the weights
_DRAWS = 1_000
_BATCH = 64


@dataclass(frozen=True, eq=False)
class SampleScorer:
    """A linear model on features of images: the chance that an image is accepted.

    Attributes:
        extractor: Name of the features' extractor, one of `SCORER_EXTRACTORS`.
        sha256: That of the extractor.
        mean: Mean of each feature, ``(D,)``, float64.
        scale: Their standard deviation, ``(D,)``.
        weights: Of the standardised features, ``(D,)``.
        bias: Log odds where all of these are 0.
        facts: What it was learned from, and how well it predicts: ``images``, ``judgements``, ``accepted`` (share of
            the judgements), ``auc`` with ``auc_low`` and ``auc_high`` (95 %, over images), from predictions for images
            that the model had not seen.
    """

    extractor: str
    sha256: str
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def learn(
        cls,
        images: Tensor,
        accepted: NDArray[np.float64],
        rejected: NDArray[np.float64],
        *,
        extractor: str = "random-conv",
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Learn from judged images: logistic regression with a penalty that cross-validation chooses.

        Args:
            images: Shape ``(N, C, height, width)``, float32 in [-1, 1].
            accepted: How many judgements accept each image, ``(N,)``, at least 0.
            rejected: How many reject it.
            extractor: One of `SCORER_EXTRACTORS`.
            seed: Of the folds and of the interval.
            device: Where to compute the features.

        Returns:
            The scorer.

        Raises:
            ConfigError: If there is no such extractor.
            DataError: If fewer than 8 images were accepted or rejected, or the judgements cannot be told from chance:
                the interval of the AUC on unseen images reaches down to 0.5.
        """
        if extractor not in SCORER_EXTRACTORS:
            raise ConfigError(f"A scorer cannot look through {extractor!r}. {nearest(extractor, SCORER_EXTRACTORS)}")
        sides = {"accepted": int((accepted > 0).sum()), "rejected": int((rejected > 0).sum())}
        for name, count in sides.items():
            if count < _LEAST:
                raise DataError(
                    f"Of {len(images):,} judged images {count} were {name} by anybody; a scorer needs {_LEAST} at "
                    "least. Have more samples judged."
                )
        network = get_extractor(extractor, device=device)
        features = _features(images, network)
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-9 * np.abs(mean).clip(min=1e-9), scale, np.inf)  # a constant tells nothing
        standard = (features - mean) / scale
        strength, predicted = _choose(standard, accepted, rejected, seed)
        auc, low, high = _auc(predicted, accepted, rejected, seed)
        if not low > 0.5:
            raise DataError(
                f"What was accepted cannot be told from the images: on images that it had not seen, a model of "
                f"{len(images):,} judged ones reaches an AUC of {auc:.2f} ({low:.2f} to {high:.2f}, 95 %), where 0.5 "
                "is chance. Have more samples judged, or by readers who agree with each other."
            )
        model = _fitted(standard, accepted, rejected, strength)
        facts = {
            "images": len(images),
            "judgements": int(accepted.sum() + rejected.sum()),
            "accepted": float(accepted.sum() / (accepted.sum() + rejected.sum())),
            "auc": auc,
            "auc_low": low,
            "auc_high": high,
            "size": list(images.shape[1:]),
            "strength": strength,
            "seed": seed,
        }
        return cls(extractor, network.sha256, mean, scale, model.coef_[0], float(model.intercept_[0]), facts)

    def score(self, images: Tensor, *, device: str | torch.device = "cpu") -> NDArray[np.float64]:
        """Return the chance of each image to be accepted.

        Args:
            images: Shape ``(N, C, height, width)``, float32 in [-1, 1], of the size that it was learned from.
            device: Where to compute the features.

        Returns:
            Shape ``(N,)``, in [0, 1].

        Raises:
            DataError: If the images are of another size.
        """
        learned = tuple(self.facts.get("size", ()))
        if learned and tuple(images.shape[1:]) != learned:
            given = tuple(images.shape[1:])
            raise DataError(f"The scorer was learned from images of shape {learned}, and these have {given}.")
        values = (_features(images, get_extractor(self.extractor, device=device)) - self.mean) / self.scale
        odds = values @ self.weights + self.bias
        return np.asarray(1 / (1 + np.exp(-odds.clip(-500, 500))), dtype=np.float64)

    def save(self, folder: Path) -> Path:
        """Write ``scorer.json`` and ``scorer.safetensors``.

        Args:
            folder: Folder to create, or to write into; a scorer that is there already is not replaced.

        Raises:
            ConfigError: If there is one.
            CheckpointError: If it cannot be written.
        """
        if (folder / _FILE).exists():
            raise ConfigError(f"{folder} holds a scorer already. Name another folder.")
        arrays = {name: getattr(self, name) for name in ("mean", "scale", "weights")}
        facts = {
            "extractor": self.extractor,
            "sha256": self.sha256,
            "bias": self.bias,
            "facts": dict(self.facts),
            "versions": versions(),
        }
        with write_aside(folder / _WEIGHTS) as temporary:
            temporary.write_bytes(save_safetensors(arrays))
        with write_aside(folder / _FILE) as temporary:
            temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The folder.

        Raises:
            CheckpointError: If it is missing or damaged, or the extractor gives other features by now.
        """
        try:
            facts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            arrays = load_safetensors((folder / _WEIGHTS).read_bytes())
            name, sha256, bias = str(facts["extractor"]), str(facts["sha256"]), float(facts["bias"])
            mean, scale, weights = (arrays[key].astype(np.float64) for key in ("mean", "scale", "weights"))
            learned_from = dict(facts["facts"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"There is no scorer in {folder}: {error}. Pass a folder that `medgan refine` wrote, such as "
                "refinement/scorer."
            ) from error
        if name not in SCORER_EXTRACTORS:
            raise CheckpointError(f"{folder} names the extractor {name!r}, through which no scorer looks.")
        if get_extractor(name).sha256 != sha256 or not mean.shape == scale.shape == weights.shape == (len(mean),):
            raise CheckpointError(f"{folder} was written for other features than {name} gives now. Learn it again.")
        return cls(name, sha256, mean, scale, weights, bias, learned_from)


def _features(images: Tensor, extractor: Any) -> NDArray[np.float64]:
    """Return the features of images, ``(N, D)``."""
    parts = [extractor(images[start : start + _BATCH].clamp(-1, 1)) for start in range(0, len(images), _BATCH)]
    return torch.cat(parts).double().cpu().numpy()


def _fitted(values: NDArray[np.float64], accepted: Any, rejected: Any, strength: float) -> Any:
    """Return a logistic regression in which each image counts as often as it was judged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([np.flatnonzero(accepted > 0), np.flatnonzero(rejected > 0)])
    targets = np.concatenate([np.ones(int((accepted > 0).sum())), np.zeros(int((rejected > 0).sum()))])
    counts = np.concatenate([accepted[accepted > 0], rejected[rejected > 0]])
    with warnings.catch_warnings():
        # Of a hundred images of separable classes it says so; the penalty keeps the weights finite all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=500).fit(values[rows], targets, sample_weight=counts)


def _choose(values: NDArray[np.float64], accepted: Any, rejected: Any, seed: int) -> tuple[float, NDArray[np.float64]]:
    """Return the strength with the least log loss on images of other folds, and the chances that it predicts there."""
    from sklearn.model_selection import KFold

    divisions = list(KFold(_FOLDS, shuffle=True, random_state=seed).split(values))
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for strength in _STRENGTHS:
        predicted = np.empty(len(values))
        for learned, tested in divisions:
            model = _fitted(values[learned], accepted[learned], rejected[learned], strength)
            predicted[tested] = model.predict_proba(values[tested])[:, 1]
        chances = predicted.clip(1e-9, 1 - 1e-9)
        loss = -float(accepted @ np.log(chances) + rejected @ np.log1p(-chances))
        if best is None or loss < best[0]:
            best = loss, strength, predicted
    assert best is not None
    return best[1], best[2]


def _auc(predicted: NDArray[np.float64], accepted: Any, rejected: Any, seed: int) -> tuple[float, float, float]:
    """Return the AUC of predictions for the judgements, and its interval over images (percentile bootstrap)."""
    from sklearn.metrics import roc_auc_score

    def of(rows: NDArray[np.int64]) -> float:
        counts = np.concatenate([accepted[rows], rejected[rows]])
        if not accepted[rows].any() or not rejected[rows].any():
            return np.nan
        targets = np.repeat([1, 0], len(rows))
        return float(roc_auc_score(targets, np.tile(predicted[rows], 2), sample_weight=counts))

    rng = np.random.default_rng(seed)
    everything = np.arange(len(predicted))
    draws = [of(rng.integers(len(predicted), size=len(predicted))) for _ in range(_DRAWS)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return of(everything), float(low), float(high)
