from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medgan.errors import ConfigError, DataError
from medgan.evaluation.privacy import class_weights, fewest_patients, measure_copies
from medgan.evaluation.privacy.copies import effective_number

Floats = NDArray[np.float64]


def nearest(queries: Floats, references: Floats) -> Floats:
    """Return distances to the nearest of the references."""
    squares = np.square(queries).sum(1)[:, None] - 2 * queries @ references.T + np.square(references).sum(1)
    found: Floats = np.sqrt(np.maximum(squares.min(1), 0))
    return found


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_so_many_patients_are_enough_and_one_less_is_not(level: float) -> None:
    least = fewest_patients(level)
    rng = np.random.default_rng(0)
    assert measure_copies(rng.uniform(size=50), rng.uniform(size=least), level=level).level <= level
    with pytest.raises(DataError, match=f"needs {least} held-out patients, and there are {least - 1}"):
        measure_copies(rng.uniform(size=50), rng.uniform(size=least - 1), level=level)


@pytest.mark.parametrize("level", [0, -0.1, 0.6, math.nan])
def test_a_level_that_is_none(level: float) -> None:
    with pytest.raises(ConfigError, match=r"0\.01 is usual"):
        measure_copies(np.ones(3), np.ones(300), level=level)


def test_distances_that_are_not_finite() -> None:
    with pytest.raises(DataError, match="Finite distances"):
        measure_copies([math.inf], np.ones(300))
    with pytest.raises(DataError, match="got 0"):
        measure_copies([], np.ones(300))


@pytest.mark.parametrize("ratio", [1, 4, 20])
def test_honest_images_are_flagged_as_often_as_the_level_says(ratio: int) -> None:
    """Whatever the ratio of training to held-out patients: new images from the very same distribution."""
    held_out, level, rounds, images = 60, 0.05, 150, 200
    flagged, wrong, levels = [], 0, []
    for number in range(rounds):
        rng = np.random.default_rng([ratio, number])
        training = rng.normal(size=(held_out * ratio, 5))
        null, fresh = (nearest(rng.normal(size=(count, 5)), training) for count in (held_out, images))
        found = measure_copies(fresh, null, level=level, seed=number)
        flagged.append(found.rate)
        levels.append(found.level)
        wrong += found.p_value <= 0.05
    assert len(set(levels)) == 1
    # Rounds are independent, and images of a round are not: they share a threshold.
    error = float(np.std(flagged, ddof=1)) / math.sqrt(rounds)
    assert np.mean(flagged) == pytest.approx(levels[0], abs=3 * error)
    assert error < 0.005
    # Of rounds that all are honest, no more than chance allows are called leaks.
    assert wrong <= stats.binom.ppf(0.999, rounds, 0.05)


def test_to_search_the_held_out_images_instead_would_flag_most_images_at_large_ratios() -> None:
    rng = np.random.default_rng(0)
    training, held_out, fresh = (rng.normal(size=(count, 5)) for count in (2000, 100, 500))
    wrong_null = nearest(training, held_out)  # of training images to the nearest held-out one
    naive = measure_copies(nearest(fresh, training), wrong_null, level=0.05)
    right = measure_copies(nearest(fresh, training), nearest(held_out, training), level=0.05)
    assert naive.rate > 0.3
    assert right.rate < 0.15


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5])
def test_planted_copies_are_counted(share: float) -> None:
    rng = np.random.default_rng(3)
    training, held_out, made = (rng.normal(size=(count, 8)) for count in (1500, 400, 1000))
    count = int(share * len(made))
    made[:count] = training[:count] + rng.normal(size=(count, 8)) * 0.05
    found = measure_copies(nearest(made, training), nearest(held_out, training))
    assert found.low <= share <= found.high
    assert found.excess == pytest.approx(share, abs=0.015)
    assert (found.p_value < 0.01) == (share > 0)


def test_the_p_value_is_that_of_the_exact_test() -> None:
    rng = np.random.default_rng(5)
    null = rng.uniform(size=199)
    made = rng.uniform(size=300)
    made[:6] = null.min() / 2
    found = measure_copies(made, null)
    # How often do so many of 300 come before the 2nd of 199, if their order is random?
    exact = stats.nhypergeom.sf(found.flagged - 1, 199 + 300, 300, 2)
    assert found.p_value == pytest.approx(exact, rel=0.1)


def test_the_interval_holds_the_chance_of_few_patients() -> None:
    rng = np.random.default_rng(7)
    made = rng.uniform(size=2000)
    few, many = (measure_copies(made, rng.uniform(size=count), level=0.05) for count in (60, 2000))
    assert few.high - few.low > 3 * (many.high - many.low)
    assert few.low <= 0 <= few.high
    assert many.low <= 0 <= many.high


def test_no_copy_has_an_upper_bound_all_the_same() -> None:
    found = measure_copies(np.ones(500), np.linspace(0, 0.5, 500))
    assert found.flagged == 0
    assert found.rate_low == 0
    assert found.rate_high == pytest.approx(stats.binomtest(0, 500).proportion_ci().high)
    assert found.high < 0.01


def test_classes_are_brought_to_the_shares_of_the_synthetic_images() -> None:
    held_out = np.array(["A"] * 300 + ["B"] * 100)
    weights = class_weights(held_out, ["A", "B"])
    assert weights[held_out == "A"].sum() == pytest.approx(weights[held_out == "B"].sum())
    assert weights.mean() == pytest.approx(1)
    assert effective_number(weights) == pytest.approx(300)
    with pytest.raises(DataError, match="class C and no held-out patient"):
        class_weights(held_out, ["A", "C"])


def test_with_weights_another_mixture_of_classes_is_no_leak() -> None:
    """Images of class B lie nearer to each other; a generator of B alone is as honest as any."""
    rates, plain = [], []
    for number in range(60):
        rng = np.random.default_rng(number)
        classes = rng.permutation(np.repeat(["A", "B"], [150, 150]))
        null = rng.uniform(size=300) * np.where(classes == "A", 3.0, 1.0)
        made = rng.uniform(size=300)
        weights = class_weights(classes, ["B"] * 300)
        rates.append(measure_copies(made, null, level=0.05, weights=weights, seed=number).rate)
        plain.append(measure_copies(made, null, level=0.05, seed=number).rate)
    assert np.mean(rates) == pytest.approx(0.05, abs=0.01)
    assert np.mean(plain) > 0.06


def test_held_out_images_of_a_class_that_nobody_made_change_nothing() -> None:
    rng = np.random.default_rng(11)
    made, null, others = (rng.uniform(size=count) for count in (500, 100, 900))
    alone = measure_copies(made, null)
    assert measure_copies(made, np.r_[others, null], weights=np.repeat([0.0, 10.0], [900, 100])) == alone


def test_unequal_weights_flag_no_more_honest_images_than_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eleven held-out images ten are of class A, of the synthetic ones half: one of B weighs ten times as much."""
    monkeypatch.setattr("medgan.evaluation.privacy.copies._DRAWS", 400)
    weights = class_weights(np.repeat(["A", "B"], [200, 20]), ["A", "B"])
    rates, levels, wrong = [], [], 0
    for number in range(300):
        rng = np.random.default_rng(number)
        found = measure_copies(rng.uniform(size=1000), rng.uniform(size=220), level=0.03, weights=weights, seed=number)
        rates.append(found.rate)
        levels.append(found.level)
        wrong += found.p_value <= 0.05
    error = float(np.std(rates, ddof=1)) / math.sqrt(len(rates))
    assert np.mean(rates) <= np.mean(levels) + 3 * error
    assert max(levels) <= 0.03
    assert wrong <= stats.binom.ppf(0.999, len(rates), 0.05)


def test_weights_that_are_too_unequal() -> None:
    """There are enough in effect, but a new image of the rare class weighs more than the level allows."""
    null = np.arange(130.0)
    weights = np.repeat([0.85, 1.6], [104, 26])
    for order in (weights, weights[::-1]):
        with pytest.raises(DataError, match="too unequal for a level"):
            measure_copies(np.ones(10), null, weights=order, level=0.01)
        assert measure_copies(np.ones(10), null, weights=order, level=0.02).level <= 0.02


def test_weights_that_leave_too_few() -> None:
    weights = np.r_[np.full(50, 1.0), np.full(300, 0.0)]
    with pytest.raises(DataError, match="there are 50 "):
        measure_copies(np.ones(10), np.arange(350), weights=weights)
