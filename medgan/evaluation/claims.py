"""What may be said of a difference between two arms, and what may not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medgan.errors import ConfigError

__all__ = ["SIGNIFICANCE", "Compared", "Outcome", "noninferiority_outcome", "sentences_of"]

Outcome = Literal["noninferior", "inferior", "not_shown", "undefined"]
"""What a test of non-inferiority shows. A difference that is not significant shows nothing of it."""

SIGNIFICANCE = 0.05
"""P-values below it are called significant."""


def noninferiority_outcome(low: float, high: float, *, margin: float) -> Outcome:
    """Compare the interval of a difference with the margin of non-inferiority.

    Args:
        low: Lower bound of the two-sided 95 % interval, so a one-sided bound of 97.5 %; positive is better. NaN if
            there is no interval.
        high: Upper bound.
        margin: Loss that would be accepted, said before the study; above 0.

    Returns:
        ``noninferior`` if the interval lies above −margin, ``inferior`` if it lies below, ``not_shown`` if it holds it,
        ``undefined`` if there is no interval.

    Raises:
        ConfigError: If the margin is not above 0.
    """
    if not 0 < margin < math.inf:
        raise ConfigError(f"The margin of non-inferiority is {margin:g}, expected above 0, for example 0.02.")
    if math.isnan(low) or math.isnan(high):
        return "undefined"
    if low > -margin:
        return "noninferior"
    return "inferior" if high < -margin else "not_shown"


@dataclass(frozen=True)
class Compared:
    """Two arms and their difference, as a reader is told of it.

    Attributes:
        arm: Title of the arm, with the share of the real patients that it was trained on where that is not all.
        reference: The same of what it is compared with.
        score: Title of the score.
        value: The score of the arm.
        reference_value: The score of the reference.
        difference: Arm minus reference.
        low: Lower bound of the 95 % interval of the difference; NaN if there is none.
        high: Upper bound.
        p_holm: P-value after Holm's correction; NaN if there is none.
        comparisons: For how many comparisons it was corrected.
        higher_is_better: Whether a positive difference is good.
        seeds: How many.
        patients: How many.
        unit: What they are: ``patient``, or ``file`` where patients are not known.
    """

    arm: str
    reference: str
    score: str
    value: float
    reference_value: float
    difference: float
    low: float
    high: float
    p_holm: float
    comparisons: int
    higher_is_better: bool
    seeds: int
    patients: int
    unit: str = "patient"

    def outcome(self, margin: float) -> Outcome:
        """Return what is shown of non-inferiority; see `noninferiority_outcome`."""
        low, high = (self.low, self.high) if self.higher_is_better else (-self.high, -self.low)
        return noninferiority_outcome(low, high, margin=margin)


def sentences_of(compared: Compared, *, margin: float) -> list[str]:
    """Return the sentences that may be claimed: the numbers, non-inferiority, and whether there is a difference.

    Args:
        compared: Two arms and their difference.
        margin: Of non-inferiority.

    Returns:
        Three sentences, or one if the score or its interval is undefined.

    Raises:
        ConfigError: If the margin is not above 0.
    """
    arm, reference, score = f"“{compared.arm}”", f"“{compared.reference}”", compared.score
    outcome = compared.outcome(margin)
    if math.isnan(compared.difference):
        return [f"{score} after training on {arm} and on {reference} cannot be compared: for one it is undefined."]
    numbers = (
        f"{score} was {compared.value:.3f} after training on {arm} and {compared.reference_value:.3f} on {reference}"
    )
    studied = f"{_counted(compared.seeds, 'seed')}, {_counted(compared.patients, compared.unit)}"
    if outcome == "undefined":
        return [f"{numbers} ({studied}); how sure the difference is cannot be said, as it is the same in every draw."]
    numbers += (
        f", a difference of {_signed(compared.difference)} (95 % interval {_signed(compared.low)} to "
        f"{_signed(compared.high)}; {studied})."
    )
    at_the_margin = f"margin of {margin:g}"
    judged = {
        "noninferior": f"{arm} is non-inferior to {reference} at the {at_the_margin}.",
        "inferior": f"{arm} is inferior to {reference} by more than the {at_the_margin}.",
        "not_shown": f"At the {at_the_margin}, neither is shown: that {arm} is non-inferior to {reference}, or that it "
        "is inferior by more.",
    }[outcome]
    corrected = _p_value(compared.p_holm)
    if compared.comparisons > 1:
        corrected += f" after Holm's correction for {compared.comparisons} comparisons"
    if compared.p_holm < SIGNIFICANCE:
        better = (compared.difference > 0) == compared.higher_is_better
        difference = f"{arm} is {'better' if better else 'worse'} than {reference} ({corrected})."
    else:
        difference = (
            f"A difference between {arm} and {reference} is not shown ({corrected}), which does not show that there is "
            "none."
        )
    return [numbers, judged, difference]


def _signed(value: float) -> str:
    """Write a number with its sign, the minus as long as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
