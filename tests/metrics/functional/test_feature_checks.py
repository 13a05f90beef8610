"""Features that no metric can use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from medgan.errors import DataError
from medgan.metrics.functional.feature_checks import check_features, check_pair
from medgan.metrics.functional.frechet import FeatureStatistics, frechet_distance, frechet_distance_infinity
from medgan.metrics.functional.inception_score import inception_score
from medgan.metrics.functional.kernel import kernel_distance, kernel_distance_interval, kernel_permutation_test
from medgan.metrics.functional.manifold import density_coverage, precision_recall
from medgan.metrics.functional.wasserstein import monge_distance

GOOD = np.random.default_rng(0).standard_normal((20, 3))
PAIRED: list[Callable[..., Any]] = [
    frechet_distance,
    frechet_distance_infinity,
    kernel_distance,
    kernel_distance_interval,
    kernel_permutation_test,
    precision_recall,
    density_coverage,
    monge_distance,
]


def _with(value: float) -> np.ndarray:
    features = GOOD.copy()
    features[7, 1] = value
    return features


BAD = {
    "NaN": (_with(np.nan), "features of 1 of 20 images are NaN, infinite or above 1e.40, first in row 7"),
    "infinite": (_with(-np.inf), "first in row 7"),
    "huge": (_with(1e60), "first in row 7"),
    "one image, without its axis": (GOOD[0], r"shape \(3,\), expected \(N, D\)"),
    "feature maps": (np.zeros((20, 3, 2, 2)), "Average or flatten"),
    "no features": (np.zeros((20, 0)), "expected"),
    "empty": (GOOD[:0], "There are 0 .* images"),
    "texts": (np.full((20, 3), "a"), "expected real numbers"),
    "complex": (GOOD.astype(np.complex128), "expected real numbers"),
}


@pytest.mark.parametrize("metric", PAIRED, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize(("features", "message"), BAD.values(), ids=BAD)
def test_every_metric_names_the_side_and_the_row(
    metric: Callable[..., Any], features: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        metric(GOOD, features)
    assert "synthetic" in str(error.value)
    with pytest.raises(DataError, match=message) as error:
        metric(features, GOOD)
    assert "real" in str(error.value)


@pytest.mark.parametrize("features", [features for features, _ in BAD.values()], ids=BAD)
def test_scores_and_statistics_are_checked_too(features: np.ndarray) -> None:
    with pytest.raises(DataError):
        inception_score(features, kind="logits", splits=1)
    with pytest.raises(DataError):
        FeatureStatistics.from_features(features)


@pytest.mark.parametrize("metric", PAIRED, ids=lambda metric: metric.__name__)
def test_another_number_of_features_names_both(metric: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="real features have 3 numbers an image, the synthetic ones 2"):
        metric(GOOD, GOOD[:, :2])


@pytest.mark.parametrize(
    ("metric", "at_least"),
    [
        (frechet_distance, 2),
        (frechet_distance_infinity, 8),
        (kernel_distance, 2),
        (kernel_distance_interval, 3),
        (kernel_permutation_test, 2),
        (precision_recall, 4),
        (monge_distance, 1),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_too_few_images_on_either_side(metric: Callable[..., Any], at_least: int) -> None:
    metric(GOOD[:at_least], GOOD[:at_least])
    for real, synthetic in ((GOOD[: at_least - 1], GOOD), (GOOD, GOOD[: at_least - 1])):
        with pytest.raises(DataError, match=f"at least {at_least}"):
            metric(real, synthetic)


def test_other_types_of_numbers_become_float64() -> None:
    for given in (GOOD.astype(np.float16), (GOOD * 9).astype(np.int8), torch.from_numpy(GOOD).float(), GOOD.tolist()):
        checked = check_features(given, "real")
        assert checked.dtype == np.float64
        np.testing.assert_array_equal(checked, np.asarray(given))


def test_a_pair_may_need_fewer_synthetic_images() -> None:
    assert [len(side) for side in check_pair(GOOD, GOOD[:1], at_least=2, synthetic_at_least=1)] == [20, 1]
    with pytest.raises(DataError, match="1 real"):
        check_pair(GOOD[:1], GOOD[:1], at_least=2, synthetic_at_least=1)
