"""Are synthetic images nearer to training patients than to held-out ones *because* the former were trained on?

A generator without variety lies near to whoever lies in the middle, and to some patients by chance more than to others.
Whether those were trained on does not matter to it: had chance held them out, its images would lie near them all the
same. So each synthetic image is given to the patient who is nearest to it, of the training or held out, and the share
of images that training patients get is compared with what they get when patients change sides at random, all their
images with them. Whatever the generator makes, and however unequal the two numbers of patients are, the p-value is
exact where it is chance who was held out (R. A. Fisher, "The Design of Experiments", 1935, chapter 3; B. Phipson and
G. K. Smyth, 2010, doi:10.2202/1544-6115.1585).

Copies are few and near. So the share is taken among the nearest 1 %, 2 %, 5 %, 10 %, 20 %, 50 % and all of the
synthetic images, each in standard deviations over the exchanges, and the largest counts (P. H. Westfall and S. S.
Young, "Resampling-Based Multiple Testing", 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import DataError
from medgan.evaluation.privacy.search import Nearest, Numbers

__all__ = ["exchange_patients", "match_images"]

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_EXCHANGES = 5_000
_BLOCK_VALUES = 2**22
_ROUNDING = 1e-9  # of standard deviations


def exchange_patients(
    to_training: Nearest,
    to_held_out: Nearest,
    *,
    training_patients: ArrayLike,
    held_out_patients: ArrayLike,
    training_classes: ArrayLike | None = None,
    held_out_classes: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    """Test whether synthetic images lie nearer to training patients than to held-out ones, beyond chance.

    Args:
        to_training: The nearest training image of each synthetic one, ``(m,)``.
        to_held_out: The nearest held-out image.
        training_patients: Who each training image is of, ``(n,)``, whole numbers.
        held_out_patients: The same of the held-out images; no patient is on both sides. Patients of both sides should
            have about as many images each, see `match_images`.
        training_classes: What each training image shows, ``(n,)``; patients change sides with those of their class,
            the one of their first image. None: with any.
        held_out_classes: The same of held-out images.
        seed: Of the exchanges.

    Returns:
        The one-sided p-value, in (0, 1].

    Raises:
        DataError: If there is no synthetic image.
    """
    if not len(to_training.distances):
        raise DataError("There is no synthetic image to compare.")
    owners, strata, counts = [], [], []
    for near, patients, classes in (
        (to_training, training_patients, training_classes),
        (to_held_out, held_out_patients, held_out_classes),
    ):
        _, first, numbers = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
        owners.append(numbers.reshape(-1)[near.positions])
        strata.append(np.zeros(len(first), np.str_) if classes is None else np.asarray(classes, np.str_)[first])
        counts.append(len(first))
    nearer = to_training.distances < to_held_out.distances
    owner = np.where(nearer, owners[0], counts[0] + owners[1])
    order = np.argsort(np.minimum(to_training.distances, to_held_out.distances), kind="stable")
    taken = sorted({int(np.ceil(share * len(order))) for share in _SHARES})
    images = np.stack([np.bincount(owner[order[:count]], minlength=sum(counts)) for count in taken], axis=1)
    trained = np.arange(sum(counts)) < counts[0]
    rng = np.random.default_rng([seed, 37])
    found = _exchange(trained, np.concatenate(strata), images.astype(np.float64), rng)
    spread = found.std(axis=0)
    scores = (found - found.mean(axis=0)) / np.where(spread > 0, spread, 1)
    largest = scores.max(axis=1)
    return float(np.count_nonzero(largest >= largest[0] - _ROUNDING) / len(largest))


def _exchange(
    trained: NDArray[np.bool_], strata: NDArray[np.str_], images: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return how many images training patients get: ``(1 + exchanges, K)``, the first as it is."""
    groups = [np.flatnonzero(strata == name) for name in np.unique(strata)]
    step = max(1, _BLOCK_VALUES // len(trained))
    found = [trained[None].astype(np.float64) @ images]
    for start in range(0, _EXCHANGES, step):
        sides = np.repeat(trained[None], min(step, _EXCHANGES - start), axis=0)
        for group in groups:
            sides[:, group] = rng.permuted(sides[:, group], axis=1)
        found.append(sides.astype(np.float64) @ images)
    return np.concatenate(found)


def match_images(first: Numbers, second: Numbers, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Choose images so that the patients of two sides have as many images each.

    A patient with ten images is near to more synthetic ones than one with a single image, whoever was trained on. Where
    the numbers differ, the patient with the most images of a side keeps as many as the one with the most of the other
    has, and so on down.

    Args:
        first: Who each image of a side is of, ``(n,)``, whole numbers.
        second: The same of the other side.
        rng: Decides which images.

    Returns:
        Positions of the images, rising, of both sides.
    """
    sizes = [np.unique(each, return_counts=True)[1] for each in (first, second)]
    kept = []
    for patients, own, other in ((first, *sizes), (second, *sizes[::-1])):
        ranks = np.empty(len(own))
        ranks[np.lexsort((rng.random(len(own)), own))] = (np.arange(len(own)) + 0.5) / len(own)
        allowed = np.quantile(other, ranks, method="inverted_cdf")
        order = rng.permutation(len(patients))
        numbers = np.unique(patients, return_inverse=True)[1].reshape(-1)[order]
        by_patient = np.argsort(numbers, kind="stable")
        place = np.empty(len(order), np.int64)  # of an image among those of its patient
        place[by_patient] = np.arange(len(order)) - np.repeat(np.cumsum(own) - own, own)
        kept.append(np.sort(order[place < allowed[numbers]]))
    return kept[0], kept[1]
