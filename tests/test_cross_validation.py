from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medgan.cross_validation import corrected_mean
from medgan.errors import DataError


def test_against_the_formula() -> None:
    values = [0.91, 0.95, 0.90, 0.97, 0.93]
    found = corrected_mean(values, test_share=1 / 4)
    error = np.sqrt((1 / 5 + 1 / 4) * np.var(values, ddof=1))
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=error)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.p == pytest.approx(2 * stats.t.sf(np.mean(values) / error, 4))


def test_without_overlap_it_is_the_usual_test() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 12)
    assert corrected_mean(values, test_share=0).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_equal_values() -> None:
    assert corrected_mean([0.5, 0.5], test_share=1) == (0.5, 0.5, 0.5, 0.0)
    assert corrected_mean([0.0, 0.0], test_share=1).p == 1


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan], [[0.5, 0.6]]])
def test_values_that_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="at least 2 folds"):
        corrected_mean(values, test_share=1)
