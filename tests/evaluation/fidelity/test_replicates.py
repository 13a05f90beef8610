from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medgan.errors import ConfigError
from medgan.evaluation.fidelity.replicates import (
    difference_interval,
    divide,
    grouped_mean_interval,
    mean_interval,
    median_interval,
    share_interval,
)


def test_parts_share_no_group_and_keep_the_strata() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(90), rng.integers(1, 5, 90))
    strata = (groups % 3 == 0).astype(int)
    for parts in (2, 5):
        divided = divide(groups, strata, parts, rng=rng)
        assert np.array_equal(np.sort(np.concatenate(divided)), np.arange(len(groups)))
        of = [set(groups[part]) for part in divided]
        assert sum(map(len, of)) == 90
        assert max(map(len, divided)) - min(map(len, divided)) <= 8
        shares = [strata[part].mean() for part in divided]
        assert max(shares) - min(shares) < 0.1
        assert all(np.all(np.diff(part) > 0) for part in divided)


def test_each_division_is_another_one_and_none_is_favoured() -> None:
    rng = np.random.default_rng(1)
    groups, strata = np.arange(9), np.zeros(9, int)
    halves = [divide(groups, strata, 2, rng=rng) for _ in range(400)]
    first = np.mean([[image in half[0] for image in range(9)] for half in halves], axis=0)
    assert np.all(np.abs(first - 0.5) < 0.12)
    assert 0.4 < np.mean([len(half[0]) == 5 for half in halves]) < 0.6


def test_one_group_leaves_a_part_empty() -> None:
    sizes = sorted(len(part) for part in divide(np.zeros(4), np.zeros(4), 2, rng=np.random.default_rng(0)))
    assert sizes == [0, 4]
    with pytest.raises(ConfigError, match="2 or more are needed"):
        divide(np.zeros(4), np.zeros(4), 1, rng=np.random.default_rng(0))


def test_mean_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(3, 2, 7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((expected.low, expected.high))
    assert all(math.isnan(bound) for bound in mean_interval([1.0]))


def test_an_interval_of_single_images_is_students() -> None:
    values = np.random.default_rng(0).normal(3, 2, 40)
    error, bounds = grouped_mean_interval(values, np.arange(40))
    assert error == pytest.approx(stats.sem(values))
    assert bounds == pytest.approx(mean_interval(values))


def test_interval_of_grouped_images_by_hand() -> None:
    values, groups = np.array([1.0, 2.0, 6.0]), np.array(["a", "a", "b"])
    # Mean 3; the groups' sums of deviations are -3 and 3: 2 / 1 * 18 = 36, of which the root, over 3 images, is 2.
    error, _ = grouped_mean_interval(values, groups)
    assert error == pytest.approx(2)
    assert math.isnan(grouped_mean_interval(values, np.zeros(3))[0])


def test_interval_of_grouped_images_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        sizes = rng.integers(1, 6, 30)
        groups = np.repeat(np.arange(30), sizes)
        values = rng.normal(0, 1, 30)[groups] + rng.normal(0, 0.5, len(groups))
        low, high = grouped_mean_interval(values, groups)[1]
        hits += low <= 0 <= high
    assert 0.91 < hits / 400 < 0.985


def test_a_share_of_all_has_an_interval_all_the_same() -> None:
    """Three patients of three say little, however many images each has; nor are equal shares of each a certainty."""
    groups = np.repeat([0, 1, 2], [5, 1, 3])
    exact = stats.binomtest(3, 3).proportion_ci()
    assert share_interval(np.ones(9), groups) == ("Clopper and Pearson", pytest.approx((exact.low, 1)))
    assert share_interval(np.zeros(9), groups)[1] == pytest.approx((0, 1 - exact.low))
    low, high = share_interval(np.tile([0.0, 1.0], 20), np.repeat(np.arange(20), 2))[1]
    assert (low, high) == pytest.approx(tuple(stats.binomtest(10, 20).proportion_ci()))
    assert all(math.isnan(bound) for bound in share_interval(np.ones(4), np.zeros(4))[1])


def test_a_share_of_some_has_students_interval() -> None:
    values, groups = np.array([0.0, 1.0, 1.0, 0.4]), np.array([0, 0, 1, 2])
    assert share_interval(values, groups) == ("Student's t", grouped_mean_interval(values, groups)[1])


def test_difference_is_welchs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 12), rng.normal(1, 3, 30)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = difference_interval(a.mean() - b.mean(), (stats.sem(a), 11), (stats.sem(b), 29))
    assert found == pytest.approx((expected.low, expected.high))
    assert difference_interval(2.0, (0.0, 3), (0.0, 3)) == (2.0, 2.0)
    assert math.isnan(difference_interval(2.0, (math.nan, 3), (1.0, 3))[0])


def test_median_interval() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for number in range(60):
        groups = np.repeat(np.arange(40), 2)
        values = rng.exponential(1, 40)[groups] + rng.normal(0, 0.01, 80)
        low, high = median_interval(values, groups, seed=number)
        hits += low <= np.log(2) <= high
    assert hits >= 52
    identical = np.append(np.arange(5.0), [np.inf] * 20)  # PSNR of identical images
    assert median_interval(identical, np.arange(25), seed=0)[1] == np.inf
    assert math.isnan(median_interval(identical, np.zeros(25), seed=0)[0])
