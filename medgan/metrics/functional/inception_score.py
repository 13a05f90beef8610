"""The inception score: are single images classified clearly, and all images together into many classes?

It is exp of the mean Kullback-Leibler divergence between the class probabilities of an image and their mean over all
images. Real images have no part in it, and the classes are those of the classifier: with the 1,000 everyday objects
that Inception v3 knows, it says little about medical images. With a classifier of the data's own classes it tells at
least whether all of them are there; a score at the number of classes is the best, whatever the images look like.

References:
    - T. Salimans et al., "Improved Techniques for Training GANs", 2016, arXiv:1606.03498.
    - S. Barratt and R. Sharma, "A Note on the Inception Score", 2018, arXiv:1801.01973 (what is wrong with it).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, xlogy

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional.feature_checks import check_features

__all__ = ["InceptionScoreResult", "ScoreKind", "inception_score"]

ScoreKind = Literal["logits", "probabilities"]

_SUM_TOLERANCE = 1e-3  # float16 probabilities of 1,000 classes pass, logits do not


class InceptionScoreResult(NamedTuple):
    """Mean over the splits, and their standard deviation, which is no confidence interval."""

    mean: float
    standard_deviation: float


def inception_score(scores: ArrayLike, *, kind: ScoreKind, splits: int = 10, seed: int = 0) -> InceptionScoreResult:
    """Return the inception score of synthetic images.

    Args:
        scores: Shape ``(N, classes)``: what a classifier gave for each image.
        kind: ``logits``, of which the softmax is taken, or ``probabilities``, in [0, 1] with rows that sum to 1.
        splits: The images are shuffled and split into as many parts of nearly equal size, whose scores are averaged;
            10 is usual. The score grows with the size of a part, so the number of images and splits belong to it. Needs
            2 images a part, so for fewer than 20 images fewer splits must be given, if only splits=1.
        seed: Of the shuffling; with one split it plays no part, nor does the order of the images.

    Returns:
        Mean and standard deviation (dividing by the number of splits), the mean in [1, classes], higher is better.

    Raises:
        ConfigError: If `kind` is unknown or there is no split.
        DataError: If the shape does not fit, there are fewer than 2 images a split, a number is not finite, or
            probabilities are none.
    """
    if kind not in ("logits", "probabilities"):
        raise ConfigError(f"kind is {kind!r}, expected 'logits' or 'probabilities'.")
    if splits < 1:
        raise ConfigError(f"splits is {splits}, expected at least 1; 10 is usual.")
    values = check_features(scores, "classifier", at_least=2)
    if len(values) < 2 * splits:
        raise DataError(
            f"{len(values)} images are too few for {splits} splits, as a part needs at least 2. Give more images, or "
            f"splits={len(values) // 2} or fewer."
        )
    if kind == "probabilities":
        totals = values.sum(axis=1)
        wrong = (values < 0).any(axis=1) | (np.abs(totals - 1) > _SUM_TOLERANCE)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"Row {row} is no set of probabilities: it sums to {totals[row]:.4g}, with a minimum of "
                f"{values[row].min():.4g}. If these are logits, give kind='logits'."
            )
        probabilities = values / totals[:, None]
        negative_entropy = xlogy(probabilities, probabilities).sum(axis=1)
    else:
        logarithms = log_softmax(values, axis=1)
        probabilities = np.exp(logarithms)
        negative_entropy = (probabilities * logarithms).sum(axis=1)
    order = np.random.default_rng(seed).permutation(len(values))
    bounds = [number * len(values) // splits for number in range(splits + 1)]
    found = []
    for start, stop in pairwise(bounds):
        part = order[start:stop]
        mean = probabilities[part].mean(axis=0)
        # The mean divergence is the entropy of the mean less the mean of the entropies.
        found.append(np.exp(max(0.0, negative_entropy[part].mean() - xlogy(mean, mean).sum())))
    return InceptionScoreResult(float(np.mean(found)), float(np.std(found)))
