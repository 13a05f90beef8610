"""The Fréchet distance: against other implementations, closed forms, and where others fail."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
import scipy.linalg
import torch
from numpy.typing import NDArray

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional import frechet
from medgan.metrics.functional.frechet import (
    FeatureStatistics,
    frechet_distance,
    frechet_distance_from_statistics,
    frechet_distance_infinity,
)

Features = NDArray[np.float64]


def _features(count: int, width: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> Features:
    """Correlated features with a spectrum that falls, as those of images have."""
    mix = np.random.default_rng(99).standard_normal((width, width)) * np.linspace(1, 0.05, width)
    return np.random.default_rng(seed).standard_normal((count, width)) @ mix * scale + shift


def _by_sqrtm(real: Features, synthetic: Features) -> float:
    """Compute the definition, with SciPy's square root of a matrix."""
    first, second = np.cov(real, rowvar=False), np.cov(synthetic, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second)
    difference = real.mean(axis=0) - synthetic.mean(axis=0)
    return float(difference @ difference + np.trace(first + second - 2 * root).real)


SIZES = [(300, 250, 16), (12, 20, 40), (300, 20, 40), (20, 300, 40), (40, 41, 40)]


@pytest.mark.parametrize(("n", "m", "width"), SIZES)
def test_equals_torch_fidelity(n: int, m: int, width: int) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real, synthetic = _features(n, width, seed=1), _features(m, width, seed=2, shift=0.3, scale=1.2)
    statistics = [fid_features_to_statistics(torch.from_numpy(side)) for side in (real, synthetic)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(real, synthetic) == pytest.approx(expected, rel=1e-6)
    both = FeatureStatistics.from_features(real), FeatureStatistics.from_features(synthetic)
    assert frechet_distance_from_statistics(*both) == pytest.approx(expected, rel=1e-6)


def test_equals_the_definition() -> None:
    real, synthetic = _features(200, 12, seed=1), _features(150, 12, seed=2, shift=0.3)
    expected = _by_sqrtm(real, synthetic)
    assert frechet_distance(real, synthetic) == pytest.approx(expected, rel=1e-9)


@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18), reason="MONAI calls sqrtm with disp, removed in 1.18"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_equals_monai() -> None:
    from monai.metrics import FIDMetric

    real, synthetic = _features(200, 12, seed=1), _features(150, 12, seed=2, shift=0.3)
    expected = float(FIDMetric()(torch.from_numpy(synthetic), torch.from_numpy(real)))
    assert frechet_distance(real, synthetic) == pytest.approx(expected, rel=1e-9)


def test_gaussians_with_known_moments() -> None:
    """Of centred unit samples, scaling and shifting give distances that are known exactly."""
    unit = np.random.default_rng(0).standard_normal((500, 4))
    unit -= unit.mean(axis=0)
    unit = unit @ np.linalg.inv(np.linalg.cholesky(np.cov(unit, rowvar=False))).T
    sigma, shift = np.array([1.0, 2.0, 3.0, 0.5]), np.array([0.0, 1.0, -2.0, 0.0])
    assert frechet_distance(unit, unit * sigma + shift) == pytest.approx(5 + ((sigma - 1) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize(("count", "width"), [(2, 5), (30, 64), (64, 64), (65, 64), (500, 64)])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_set_has_no_distance_to_itself_in_any_order(count: int, width: int, scale: float) -> None:
    features = _features(count, width, seed=3, scale=scale)
    permuted = np.random.default_rng(1).permutation(features)
    assert 0 <= frechet_distance(features, features) < 1e-9
    assert 0 <= frechet_distance(features, permuted) < 1e-9


@pytest.mark.parametrize(("n", "m", "width"), SIZES)
def test_neither_the_order_of_images_nor_that_of_the_sides_matters(n: int, m: int, width: int) -> None:
    real, synthetic = _features(n, width, seed=1), _features(m, width, seed=2, shift=0.3)
    value = frechet_distance(real, synthetic)
    assert frechet_distance(real[::-1], np.random.default_rng(0).permutation(synthetic)) == pytest.approx(
        value, rel=1e-9
    )
    assert frechet_distance(synthetic, real) == pytest.approx(value, rel=1e-9)


def test_sets_without_variance_have_the_distance_of_their_means() -> None:
    ones, threes = np.ones((6, 4)), np.full((9, 4), 3.0)
    assert frechet_distance(ones, threes) == 16
    assert frechet_distance(ones, ones) == 0
    spread = _features(50, 4, seed=1)
    expected = ((spread.mean(axis=0) - 1) ** 2).sum() + np.cov(spread, rowvar=False).trace()
    assert frechet_distance(np.ones((50, 4)), spread) == pytest.approx(expected, rel=1e-12)


def test_features_that_never_change_and_features_that_repeat_are_no_obstacle() -> None:
    real, synthetic = _features(80, 6, seed=1), _features(90, 6, seed=2, shift=0.5)
    expected = frechet_distance(real, synthetic)
    wide = [np.concatenate([side, np.full((len(side), 3), 7.0)], axis=1) for side in (real, synthetic)]
    assert frechet_distance(*wide) == pytest.approx(expected, rel=1e-9)
    twice = [np.concatenate([side, side], axis=1) for side in (real, synthetic)]
    assert frechet_distance(*twice) == pytest.approx(2 * expected, rel=1e-9)


@pytest.mark.parametrize("copies", [30, 200])
def test_repeated_images_give_no_noise_either(copies: int) -> None:
    """Ten images, each repeated, have nine directions, and the moments of the ten but for the factor of N - 1."""
    real, synthetic = _features(10, 50, seed=1), _features(10, 50, seed=2)
    again = [np.repeat(side, copies, axis=0) for side in (real, synthetic)]
    factor = copies * 9 / (copies * 10 - 1)
    means = ((real.mean(axis=0) - synthetic.mean(axis=0)) ** 2).sum()
    expected = means + factor * (frechet_distance(real, synthetic) - means)
    assert frechet_distance(*again) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(again[0], again[0]) < 1e-9


def test_small_singular_values_are_not_lost_where_they_decide() -> None:
    """Scales from 1 to 1e-9, and a distance that comes from the small ones."""
    scales = np.logspace(0, -9, 10)
    unit = np.random.default_rng(0).standard_normal((400, 10))
    unit -= unit.mean(axis=0)
    unit = unit @ np.linalg.inv(np.linalg.cholesky(np.cov(unit, rowvar=False))).T
    other = scales.copy()
    other[5:] *= 3
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((10, 10)))[0]
    expected = ((scales - other) ** 2).sum()
    assert frechet_distance(unit * scales @ turn, unit * other @ turn) == pytest.approx(expected, abs=1e-14)


def test_a_singular_covariance_whose_cholesky_factor_exists_by_rounding_gives_no_noise() -> None:
    """With N ≤ D, the statistics have no full rank, whatever rounding says."""
    real, synthetic = _features(30, 100, seed=1), _features(30, 100, seed=2)
    both = FeatureStatistics.from_features(real), FeatureStatistics.from_features(synthetic)
    assert frechet_distance_from_statistics(*both) == pytest.approx(frechet_distance(real, synthetic), rel=1e-9)
    assert frechet_distance_from_statistics(both[0], both[0]) < 1e-9 * both[0].covariance.trace()


def test_an_offset_that_is_large_beside_the_spread_costs_no_digits() -> None:
    real, synthetic = _features(200, 8, seed=1), _features(200, 8, seed=2, shift=0.2)
    expected = frechet_distance(real, synthetic)
    assert frechet_distance(real + 1e6, synthetic + 1e6) == pytest.approx(expected, rel=1e-6)


def test_float32_features_are_computed_in_float64() -> None:
    real, synthetic = _features(100, 8, seed=1).astype(np.float32), _features(100, 8, seed=2).astype(np.float32)
    assert frechet_distance(real, synthetic) == frechet_distance(real.astype(np.float64), synthetic.astype(np.float64))


# --------------------------------------------------------------------------------------- statistics


def test_merged_statistics_are_those_of_all_images() -> None:
    features = _features(100, 7, seed=1, shift=1e4)
    merged = FeatureStatistics.from_features(features[:1])
    for start, stop in ((1, 3), (3, 60), (60, 100)):
        merged = merged.merge(FeatureStatistics.from_features(features[start:stop]))
    assert merged.count == 100
    np.testing.assert_allclose(merged.mean, features.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(merged.covariance, np.cov(features, rowvar=False), rtol=1e-8, atol=1e-8)


def test_statistics_that_do_not_fit_are_refused() -> None:
    good = FeatureStatistics.from_features(np.eye(3))
    with pytest.raises(DataError, match="3 and of 2 features cannot be merged"):
        good.merge(FeatureStatistics.from_features(np.eye(2)))
    with pytest.raises(DataError, match="of 3 features, the synthetic ones of 2"):
        frechet_distance_from_statistics(good, FeatureStatistics.from_features(np.eye(2)))
    with pytest.raises(DataError, match="1 synthetic image"):
        frechet_distance_from_statistics(good, FeatureStatistics.from_features(np.eye(3)[:1]))
    with pytest.raises(DataError, match="do not fit"):
        FeatureStatistics(3, np.zeros(3), np.zeros((2, 2)))
    with pytest.raises(DataError, match="do not fit"):
        FeatureStatistics(0, np.zeros(3), np.zeros((3, 3)))
    with pytest.raises(DataError, match="NaN or infinite"):
        FeatureStatistics(3, np.zeros(3), np.full((3, 3), np.nan))


# ------------------------------------------------------------------------------------- extrapolation


def test_extrapolation_takes_the_bias_away() -> None:
    rng = np.random.default_rng(4)
    real, synthetic = rng.standard_normal((400, 32)), rng.standard_normal((600, 32))
    plain = frechet_distance(real, synthetic)
    result = frechet_distance_infinity(real, synthetic)
    assert plain > 1
    assert abs(result.value) < plain / 5
    assert 0 < result.standard_error < plain / 5
    shifted = frechet_distance_infinity(real, synthetic + 0.5)
    assert shifted.value == pytest.approx(32 * 0.25, rel=0.2)


def test_extrapolation_follows_a_line_to_infinitely_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """With distances that fall exactly as 5 + 3 N_all / N, the line meets 5 without an error."""
    monkeypatch.setattr(frechet, "_distance", lambda real, synthetic: 5 + 3 * 400 / len(real))
    features = np.random.default_rng(0).standard_normal((400, 2))
    value, error = frechet_distance_infinity(features, features, points=4)
    assert value == pytest.approx(5, abs=1e-9)
    assert error < 1e-9


def test_extrapolation_follows_its_seed() -> None:
    real, synthetic = _features(60, 4, seed=1), _features(70, 4, seed=2)
    first = frechet_distance_infinity(real, synthetic, seed=1)
    assert first == frechet_distance_infinity(real, synthetic, seed=1)
    assert first != frechet_distance_infinity(real, synthetic, seed=2)
    with pytest.raises(ConfigError, match="at least 3"):
        frechet_distance_infinity(real, synthetic, points=2)


@pytest.mark.parametrize("block_bytes", [1, 2**23])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_statistics_are_those_of_numpy(block_bytes: int, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(frechet, "_TILE", 4)  # the width is no multiple of it
    features = (np.random.default_rng(0).standard_normal((50, 11)) * 30).astype(dtype)
    found = FeatureStatistics.from_features(features)
    np.testing.assert_allclose(found.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12)
    np.testing.assert_array_equal(found.scatter, found.scatter.T)
    np.testing.assert_allclose(found.mean, features.astype(np.float64).mean(axis=0), rtol=1e-12)
