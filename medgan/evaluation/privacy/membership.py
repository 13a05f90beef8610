"""Can somebody who has the synthetic images alone tell who was in the training?

The attacker has a candidate's image and asks how near it is to the synthetic images, compared with how near it is to
images of other patients of the same population: an image that every image is near to says nothing about membership
(D. Chen et al., "GAN-Leaks", 2020, doi:10.1145/3372297.3417238; B. van Breugel et al., "DOMIAS", 2023,
arXiv:2302.12580). The score of a candidate x is ``log d(x, reference) - log d(x, synthetic)``, high for members.

The **true-positive rate at few false positives** is what matters (N. Carlini et al., 2022, arXiv:2112.03570): an
attacker who is sure about a few patients has done harm, though the area under the curve is 0.51.

Two controls, without which the numbers mean nothing:

- **Members against members.** Random halves of the training patients are told from each other by the same score. Their
  area under the curve is 0.5 but for chance, and shows how far chance goes at these numbers of patients. An attack that
  does no better has found nothing.
- **Blind.** The score without the synthetic images, ``-log d(x, reference)``, cannot know the training. If it tells
  members from non-members all the same, the two groups differ in themselves (time, hospital, device), and so may the
  attack (D. Das, J. Zhang, F. Tramèr, 2024, arXiv:2406.16201).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from medgan.errors import DataError
from medgan.evaluation.privacy.copies import CONFIDENCE, CopyRate, fewest_patients, measure_copies

__all__ = ["Control", "Membership", "Separation", "infer_membership", "membership_scores", "separate"]

_SMALLEST = 1e-6  # a distance; that of identical images would have no logarithm
_HALVINGS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """How well a score tells two groups apart.

    Attributes:
        area: Area under the ROC curve.
        low: Lower bound of its interval (E. R. DeLong et al., 1988, doi:10.2307/2531595, on the logit).
        high: Upper bound.
        p_value: Of the hypothesis that the score is no higher in the first group (Mann and Whitney, one-sided).
    """

    area: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Control:
    """Members against members, over random halvings.

    Attributes:
        area: Mean area under the curve.
        area_low: Below it are 2.5 % of the halvings.
        area_high: Above it are 2.5 % of the halvings.
        rate: Mean true-positive rate at the level; None if there are too few patients for it.
        rate_high: Above it are 2.5 % of the halvings.
        patients: Patients on the smaller side.
    """

    area: float
    area_low: float
    area_high: float
    rate: float | None
    rate_high: float | None
    patients: int


@dataclass(frozen=True)
class Membership:
    """What `infer_membership` found.

    Attributes:
        members: Training patients, one image each.
        non_members: Held-out patients, one image each.
        attack: How well the attack tells them apart.
        caught: Members above the threshold that all but a `level` of the non-members are below, as a rate with
            interval and p-value; None if there are too few non-members.
        control: Members against members.
        blind: The attack without the synthetic images.
    """

    members: int
    non_members: int
    attack: Separation
    caught: CopyRate | None
    control: Control
    blind: Separation

    @property
    def comparable(self) -> bool:
        """Whether the blind attack does not tell the groups apart, so that the attack means something."""
        return self.blind.low <= 0.5 <= self.blind.high


def membership_scores(to_synthetic: ArrayLike, to_reference: ArrayLike) -> Floats:
    """Return the attack's score of candidates.

    Args:
        to_synthetic: Distance of each candidate to its nearest synthetic image, ``(n,)``.
        to_reference: Distance to the nearest image of a patient who is neither a member nor the candidate, ``(n,)``.

    Returns:
        ``(n,)``, high for members.
    """
    near, usual = (np.maximum(np.asarray(each, np.float64), _SMALLEST) for each in (to_synthetic, to_reference))
    return np.asarray(np.log(usual) - np.log(near))


def separate(first: ArrayLike, second: ArrayLike) -> Separation:
    """Return how often a score is higher in the first group than in the second.

    Args:
        first: Scores, ``(m,)``, one of each patient.
        second: Scores, ``(n,)``.

    Raises:
        DataError: If a group has fewer than 2.
    """
    ours, theirs = np.asarray(first, np.float64), np.asarray(second, np.float64)
    m, n = len(ours), len(theirs)
    if min(m, n) < 2:
        raise DataError(f"Groups of {m} and {n} patients cannot be told apart; 2 or more are needed.")
    ranks = stats.rankdata(np.concatenate([ours, theirs]))
    above = (ranks[:m] - stats.rankdata(ours)) / n  # share of the second group below each of the first
    below = 1 - (ranks[m:] - stats.rankdata(theirs)) / m
    area = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / m + float(below.var(ddof=1)) / n)
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    if 0 < area < 1:
        middle, width = float(special.logit(area)), z * error / (area * (1 - area))
        low, high = float(special.expit(middle - width)), float(special.expit(middle + width))
    else:  # told apart without an exception: the rule of three
        rest = 3 / min(m, n)
        low, high = (max(0.0, 1 - rest), 1.0) if area == 1 else (0.0, min(1.0, rest))
    p_value = float(stats.mannwhitneyu(ours, theirs, alternative="greater", method="asymptotic").pvalue)
    return Separation(area, low, high, p_value)


def infer_membership(
    members: ArrayLike,
    non_members: ArrayLike,
    *,
    blind_members: ArrayLike,
    blind_non_members: ArrayLike,
    level: float = 0.01,
    seed: int = 0,
) -> Membership:
    """Attack, with both controls.

    Args:
        members: Scores of training patients, ``(m,)``, one image each: see `membership_scores`.
        non_members: Scores of held-out patients, ``(n,)``, one image each.
        blind_members: Scores that know no synthetic image, ``(m,)``.
        blind_non_members: The same of held-out patients, ``(n,)``.
        level: False-positive rate at which members are caught.
        seed: Of the halvings.

    Raises:
        DataError: If there are fewer than 4 members or 2 non-members.
    """
    ours, theirs = np.asarray(members, np.float64), np.asarray(non_members, np.float64)
    if len(ours) < 4:
        raise DataError(f"{len(ours)} training patients cannot be halved for the control; 4 or more are needed.")
    enough = len(theirs) >= fewest_patients(level)
    return Membership(
        members=len(ours),
        non_members=len(theirs),
        attack=separate(ours, theirs),
        # The nearest are those with the highest score.
        caught=measure_copies(-ours, -theirs, level=level, seed=seed) if enough else None,
        control=_control(ours, min(len(theirs), len(ours) // 2), level, seed),
        blind=separate(blind_members, blind_non_members),
    )


def _control(members: Floats, size: int, level: float, seed: int) -> Control:
    """Tell random halves of the members apart."""
    rng = np.random.default_rng([seed, 31])
    place = math.floor(level * (size + 1) + 1e-9)
    areas, rates = [], []
    for _ in range(_HALVINGS):
        drawn = members[rng.permutation(len(members))]
        held, rest = drawn[:size], drawn[size:]
        ranks = stats.rankdata(np.concatenate([rest, held]))[: len(rest)]
        areas.append((float(ranks.sum()) - len(rest) * (len(rest) + 1) / 2) / (len(rest) * size))
        if place:
            rates.append(float((rest > np.sort(held)[-place]).mean()))
    tail = (1 - CONFIDENCE) / 2
    return Control(
        area=float(np.mean(areas)),
        area_low=float(np.quantile(areas, tail)),
        area_high=float(np.quantile(areas, 1 - tail)),
        rate=float(np.mean(rates)) if rates else None,
        rate_high=float(np.quantile(rates, 1 - tail)) if rates else None,
        patients=size,
    )
