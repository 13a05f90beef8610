"""What may be claimed of a difference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from medgan.errors import ConfigError
from medgan.evaluation.claims import Compared, noninferiority_outcome, sentences_of

COMPARED = Compared(
    arm="synthetic images",
    reference="real images",
    score="AUROC",
    value=0.88,
    reference_value=0.89,
    difference=-0.01,
    low=-0.018,
    high=-0.002,
    p_holm=0.014,
    comparisons=4,
    higher_is_better=True,
    seeds=5,
    patients=312,
)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.019, 0.03, "noninferior"),
        (-0.019, -0.001, "noninferior"),  # worse, but by less than the margin
        (0.01, 0.03, "noninferior"),
        (-0.05, -0.021, "inferior"),
        (-0.05, -0.001, "not_shown"),
        (-0.05, 0.05, "not_shown"),
        (-0.02, 0.05, "not_shown"),
        (math.nan, math.nan, "undefined"),
    ],
)
def test_outcomes_of_non_inferiority(low: float, high: float, outcome: str) -> None:
    assert noninferiority_outcome(low, high, margin=0.02) == outcome


@pytest.mark.parametrize("margin", [0, -0.02, math.nan, math.inf])
def test_a_margin_is_above_0(margin: float) -> None:
    with pytest.raises(ConfigError, match="expected above 0"):
        noninferiority_outcome(-0.01, 0.01, margin=margin)


def test_worse_within_the_margin_says_both() -> None:
    assert sentences_of(COMPARED, margin=0.02) == [
        "AUROC was 0.880 after training on “synthetic images” and 0.890 on “real images”, a difference of −0.010 (95 % "
        "interval −0.018 to −0.002; 5 seeds, 312 patients).",
        "“synthetic images” is non-inferior to “real images” at the margin of 0.02.",
        "“synthetic images” is worse than “real images” (p = 0.014 after Holm's correction for 4 comparisons).",
    ]


def test_nothing_shown_claims_nothing() -> None:
    unsure = replace(COMPARED, low=-0.05, high=0.03, p_holm=0.6, comparisons=1, seeds=1)
    numbers, judged, difference = sentences_of(unsure, margin=0.02)
    assert "1 seed, 312 patients" in numbers
    assert judged == (
        "At the margin of 0.02, neither is shown: that “synthetic images” is non-inferior to "
        "“real images”, or that it is inferior by more."
    )
    assert difference == (
        "A difference between “synthetic images” and “real images” is not shown (p = 0.600), which does not show that "
        "there is none."
    )
    text = " ".join(sentences_of(unsure, margin=0.02)).lower()
    assert not any(word in text for word in ("equivalent", "as good", "no difference", "better", "worse"))


def test_superiority_only_with_a_corrected_p_value() -> None:
    better = replace(COMPARED, difference=0.02, low=0.001, high=0.039, p_holm=0.06)
    assert "is not shown (p = 0.060" in sentences_of(better, margin=0.02)[2]
    assert "is better than" in sentences_of(replace(better, p_holm=0.0004), margin=0.02)[2]
    assert "(p < 0.001 " in sentences_of(replace(better, p_holm=0.0004), margin=0.02)[2]


def test_a_lower_brier_score_is_better() -> None:
    brier = replace(COMPARED, score="Brier", higher_is_better=False)
    assert brier.outcome(0.02) == "noninferior"
    assert "is better than" in sentences_of(brier, margin=0.02)[2]
    worse = replace(brier, difference=0.05, low=0.03, high=0.07)
    assert worse.outcome(0.02) == "inferior"
    assert "is inferior to “real images” by more than the margin of 0.02" in sentences_of(worse, margin=0.02)[1]


def test_without_an_interval_there_is_one_sentence() -> None:
    still = replace(COMPARED, value=1, reference_value=1, difference=0, low=math.nan, high=math.nan, p_holm=1)
    (sentence,) = sentences_of(still, margin=0.02)
    assert "cannot be said" in sentence
    (sentence,) = sentences_of(replace(still, difference=math.nan), margin=0.02)
    assert sentence.endswith("cannot be compared: for one it is undefined.")
