"""The Monge distance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medgan.errors import ConfigError
from medgan.metrics.functional import wasserstein
from medgan.metrics.functional.wasserstein import monge_distance

Features = NDArray[np.float64]


def _sides(n: int, m: int, width: int = 5) -> tuple[Features, Features]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, width)), rng.standard_normal((m, width)) * 1.5 + 0.3


@pytest.mark.parametrize("block_bytes", [2**26, 1])
def test_equals_the_definition_for_sets_of_one_size(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasserstein, "_BLOCK_BYTES", block_bytes)
    real, synthetic = _sides(40, 40)
    directions = np.random.default_rng([wasserstein._STREAM, 3]).standard_normal((17, 5))
    directions /= np.sqrt((directions**2).sum(axis=1, keepdims=True))
    squared = [((np.sort(real @ line) - np.sort(synthetic @ line)) ** 2).mean() for line in directions]
    assert monge_distance(real, synthetic, projections=17, seed=3) == pytest.approx(15 * np.mean(squared), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(6, 4), (4, 6), (7, 3), (5, 1), (9, 3)])
def test_sets_of_other_sizes_are_those_in_which_each_image_is_repeated(n: int, m: int) -> None:
    real, synthetic = _sides(n, m)
    expected = monge_distance(np.repeat(real, m, axis=0), np.repeat(synthetic, n, axis=0), projections=20)
    assert monge_distance(real, synthetic, projections=20) == pytest.approx(expected, rel=1e-12)


def test_a_shift_has_a_known_distance() -> None:
    real = _sides(50, 1, width=64)[0]
    assert monge_distance(real, real + 0.5, projections=20_000) == pytest.approx(3 * 64 * 0.25, rel=0.03)
    assert monge_distance(real[:, :1], real[:, :1] + 0.5, projections=3) == pytest.approx(0.75, rel=1e-12)


def test_directions_are_not_those_of_features_drawn_with_the_same_seed() -> None:
    real = np.random.default_rng(0).standard_normal((50, 400))
    synthetic = np.random.default_rng(1).standard_normal((50, 400))
    values = [monge_distance(real, synthetic, projections=50, seed=seed) for seed in range(5)]
    assert values == pytest.approx([np.mean(values)] * 5, rel=0.3)


def test_a_set_has_no_distance_to_itself_in_any_order() -> None:
    real, synthetic = _sides(30, 20)
    assert monge_distance(real, real) == 0
    permuted = np.random.default_rng(1).permutation(real)
    assert monge_distance(real, permuted) < 1e-24
    value = monge_distance(real, synthetic)
    assert monge_distance(permuted, synthetic[::-1]) == pytest.approx(value, rel=1e-12)
    assert monge_distance(synthetic, real) == pytest.approx(value, rel=1e-12)
    assert monge_distance(np.ones((3, 2)), np.ones((4, 2))) == 0


def test_it_follows_its_seed() -> None:
    real, synthetic = _sides(30, 20)
    first = monge_distance(real, synthetic, projections=10, seed=1)
    assert first == monge_distance(real, synthetic, projections=10, seed=1)
    assert first != monge_distance(real, synthetic, projections=10, seed=2)
    with pytest.raises(ConfigError, match="projections is 0"):
        monge_distance(real, synthetic, projections=0)
