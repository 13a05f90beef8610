"""What the metrics say of generators whose fault is known: which of them move, and in which direction.

The real data are two kinds of images, and each generator but the perfect one has one fault.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from medgan.metrics.functional.frechet import frechet_distance
from medgan.metrics.functional.kernel import kernel_distance, kernel_permutation_test
from medgan.metrics.functional.manifold import density_coverage, precision_recall
from medgan.metrics.functional.wasserstein import monge_distance

Features = NDArray[np.float64]

_N, _WIDTH = 400, 16


class Scores(NamedTuple):
    """All metrics of one generator."""

    frechet: float
    cubic: float
    rbf: float
    monge: float
    precision: float
    recall: float
    density: float
    coverage: float


def _scores(real: Features, synthetic: Features) -> Scores:
    return Scores(
        frechet_distance(real, synthetic),
        kernel_distance(real, synthetic),
        kernel_distance(real, synthetic, kernel="rbf"),
        monge_distance(real, synthetic, projections=300),
        *precision_recall(real, synthetic),
        *density_coverage(real, synthetic),
    )


def _sample(seed: int, *, modes: tuple[float, ...] = (-2.0, 2.0), scale: float = 1.0) -> Features:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((_N, _WIDTH)) * scale
    features[:, 0] += np.resize(modes, _N)
    return features


REAL = _sample(0)


@pytest.fixture(scope="module")
def perfect() -> Scores:
    """Scores of a generator without a fault."""
    return _scores(REAL, _sample(1))


def _p_value(synthetic: Features) -> float:
    return kernel_permutation_test(REAL, synthetic, kernel="rbf", permutations=99).p_value


def _distances_rise(found: Scores, than: Scores) -> bool:
    return all(found[number] > 2 * abs(than[number]) for number in range(4))


def test_a_perfect_generator(perfect: Scores) -> None:
    assert abs(perfect.cubic) < 0.02
    assert abs(perfect.rbf) < 0.002
    assert min(perfect.precision, perfect.recall, perfect.coverage) > 0.6
    assert perfect.density == pytest.approx(1, abs=0.15)
    assert _p_value(_sample(1)) > 0.05


def test_a_shifted_mean(perfect: Scores) -> None:
    found = _scores(REAL, _sample(1) + 1)
    assert found.frechet == pytest.approx(_WIDTH, rel=0.25)
    assert _distances_rise(found, perfect)
    assert max(found.precision, found.recall, found.density, found.coverage) < 0.35
    assert _p_value(_sample(1) + 1) == 0.01


def test_a_fourfold_variance(perfect: Scores) -> None:
    """A linear kernel does not see it."""
    synthetic = _sample(1, scale=2.0)
    found = _scores(REAL, synthetic)
    assert _distances_rise(found, perfect)
    assert found.frechet == pytest.approx(_WIDTH, rel=0.25)  # (2 - 1)² in each direction
    assert found.precision < 0.3
    assert found.density < 0.3
    assert found.recall > perfect.recall
    assert _p_value(synthetic) == 0.01


def test_a_variance_that_is_too_small(perfect: Scores) -> None:
    found = _scores(REAL, _sample(1, scale=0.5))
    assert _distances_rise(found, perfect)
    assert found.precision > 0.95
    assert found.density > 1.5
    assert found.recall < 0.2


def test_a_dropped_mode(perfect: Scores) -> None:
    """Each image looks real, and half of the real ones are missing."""
    found = _scores(REAL, _sample(1, modes=(2.0,)))
    assert _distances_rise(found, perfect)
    assert found.precision == pytest.approx(perfect.precision, abs=0.1)
    assert found.recall < 0.7 * perfect.recall
    assert found.coverage < 0.7 * perfect.coverage
    assert found.density > 0.8


def test_one_image_repeated(perfect: Scores) -> None:
    """Precision alone is content with it."""
    found = _scores(REAL, np.tile(REAL[:1], (_N, 1)))
    assert _distances_rise(found, perfect)
    assert found.precision == 1
    assert found.recall == 1 / _N
    assert found.coverage < 0.05


def test_one_percent_outliers(perfect: Scores) -> None:
    """Moments are drawn away by a few images; neighbours and the rbf kernel hardly move."""
    synthetic = _sample(1)
    synthetic[:4] = 200
    found = _scores(REAL, synthetic)
    assert found.frechet > 100 * perfect.frechet
    assert found.cubic > 100 * abs(perfect.cubic)
    assert abs(found.rbf - perfect.rbf) < 0.002
    assert perfect.precision - 0.01 <= found.precision < perfect.precision
    assert found.density == pytest.approx(perfect.density, abs=0.02)
    assert found.coverage == pytest.approx(perfect.coverage, abs=0.02)


def test_a_real_outlier_opens_a_ball_for_precision_that_density_hardly_counts() -> None:
    real = REAL.copy()
    real[0] = 10
    beside = np.tile(np.where(np.arange(_WIDTH) < 8, 9.0, 6.0), (_N, 1)) + _sample(1, modes=(0.0,), scale=0.1)
    assert precision_recall(real, beside).precision == 1
    assert density_coverage(real, beside).density < 0.3


def test_copies_of_the_real_images_please_every_metric() -> None:
    """Of the images that it is compared with: so fidelity says nothing about privacy, and a copy is no fault to it."""
    faulty = _sample(1) + 0.5
    found = []
    for share in (0.0, 0.02, 0.1, 0.5, 1.0):
        synthetic = faulty.copy()
        synthetic[: round(share * _N)] = REAL[: round(share * _N)]
        found.append(_scores(REAL, synthetic))
    for worse, better in pairwise(found):
        assert all(worse[number] > better[number] for number in range(4))
        assert all(worse[number] < better[number] for number in (4, 5, 6))
        assert worse.coverage < better.coverage or worse.coverage == 1
    assert found[-1].frechet < 1e-9
    assert found[-1].monge == 0
    assert (found[-1].precision, found[-1].recall, found[-1].coverage) == (1, 1, 1)
    assert found[-1].density == pytest.approx(6 / 5)


def test_copies_of_other_real_images_are_as_good_as_new_ones(perfect: Scores) -> None:
    """Copies of training images, seen from held-out images, are samples of the real distribution."""
    training = _sample(2)
    synthetic = _sample(1)
    synthetic[: _N // 2] = training[: _N // 2]
    found = _scores(REAL, synthetic)
    assert found.frechet == pytest.approx(perfect.frechet, rel=0.15)
    assert found[4:] == pytest.approx(perfect[4:], abs=0.08)
    assert _p_value(synthetic) > 0.05
