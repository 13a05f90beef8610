"""Precision, recall, density and coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional import manifold
from medgan.metrics.functional.manifold import density_coverage, manifold_members, precision_recall

Features = NDArray[np.float64]


def _sides(n: int = 90, m: int = 70, width: int = 6, shift: float = 1.0) -> tuple[Features, Features]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, width)), rng.standard_normal((m, width)) * 0.9 + shift


def _by_definition(real: Features, synthetic: Features, k: int) -> tuple[float, float, float, float]:
    """Compute all four with full matrices of distances; what is on the rim is outside, which no random image is."""
    real_radii = np.sort(cdist(real, real), axis=1)[:, k]
    synthetic_radii = np.sort(cdist(synthetic, synthetic), axis=1)[:, k]
    between = cdist(real, synthetic)
    inside = between < real_radii[:, None]
    return (
        float(inside.any(axis=0).mean()),
        float((between < synthetic_radii).any(axis=1).mean()),
        float(inside.sum(axis=0).mean() / k),
        float((between.min(axis=1) < real_radii).mean()),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block_bytes", [2**26, 8 * 90 * 7])
def test_all_four_equal_the_definition_in_blocks_too(k: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "_BLOCK_BYTES", block_bytes)
    real, synthetic = _sides()
    found = (*precision_recall(real, synthetic, k=k), *density_coverage(real, synthetic, k=k))
    assert found == pytest.approx(_by_definition(real, synthetic, k), rel=1e-12)
    assert 0.05 < min(found) < max(found) < 1


@pytest.mark.parametrize("low_memory", [False, True])
def test_precision_and_recall_equal_torch_fidelity(low_memory: bool) -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, synthetic = _sides()
    expected = prc_features_to_metric(
        torch.from_numpy(synthetic),
        torch.from_numpy(real),
        prc_neighborhood=3,
        prc_batch_size=1000,
        save_cpu_ram=low_memory,
        verbose=False,
    )
    found = precision_recall(real, synthetic)
    assert found.precision != found.recall
    assert found == pytest.approx((expected["precision"], expected["recall"]), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("k", [1, 4])
def test_a_set_and_itself(offset: float, k: int) -> None:
    """Copies lie on the rim of k balls on average, and in the middle of one."""
    features = _sides()[0] + offset
    permuted = np.random.default_rng(1).permutation(features)
    assert precision_recall(features, permuted, k=k) == (1, 1)
    assert density_coverage(features, permuted, k=k) == pytest.approx(((k + 1) / k, 1), rel=1e-12)


def test_neither_order_matters() -> None:
    real, synthetic = _sides()
    permuted = np.random.default_rng(1).permutation(synthetic)
    precision, recall = precision_recall(real, synthetic)
    assert precision_recall(real[::-1], permuted) == (precision, recall)
    assert precision_recall(synthetic, real) == (recall, precision)
    assert density_coverage(real[::-1], permuted) == density_coverage(real, synthetic)


def test_balls_without_a_radius_hold_the_copies_of_their_image() -> None:
    real = np.repeat(np.array([[0.1, 0.7], [5.3, 5.1], [9.9, 0.3]]), 6, axis=0)
    synthetic = np.repeat(np.array([[0.1, 0.7], [7.0, 7.0]]), 6, axis=0)
    assert precision_recall(real, synthetic, k=3) == (0.5, pytest.approx(1 / 3))
    # Half of the synthetic images lie in six balls each.
    assert density_coverage(real, synthetic, k=5) == pytest.approx((0.5 * 6 / 5, 1 / 3))


def test_sets_without_variance() -> None:
    ones, twos = np.full((8, 3), 0.1), np.full((8, 3), 0.2)
    assert precision_recall(ones, ones) == (1, 1)
    assert precision_recall(ones, twos) == (0, 0)
    assert density_coverage(ones, ones) == pytest.approx((8 / 5, 1))
    assert density_coverage(ones, twos) == (0, 0)


def test_the_rim_belongs_to_the_ball() -> None:
    """On a grid of whole numbers, whose distances are exact and often equal."""
    real = np.arange(6.0)[:, None]
    assert density_coverage(real, np.array([[-1.0], [6.0]]), k=1) == pytest.approx((1, 2 / 6))
    assert precision_recall(real, np.array([[-1.0], [6.0]]), k=1) == (1, 1)
    assert precision_recall(real, np.array([[-1.01], [6.01]]), k=1).precision == 0


def test_k_and_the_number_of_images() -> None:
    real, synthetic = _sides(6, 6)
    for metric in (precision_recall, density_coverage):
        with pytest.raises(ConfigError, match="k is 0"):
            metric(real, synthetic, k=0)
        with pytest.raises(DataError, match="6 real images, and this metric needs at least 7"):
            metric(real, synthetic, k=6)
    with pytest.raises(DataError, match="3 synthetic images, and this metric needs at least 4"):
        precision_recall(real, synthetic[:3])
    assert density_coverage(real, real[:1], k=5).coverage == 1


def test_members_add_up_to_precision_and_coverage() -> None:
    rng = np.random.default_rng(4)
    real, synthetic = rng.normal(size=(90, 3)), rng.normal(0.5, size=(70, 3))
    found = manifold_members(real, synthetic, k=5)
    assert found.inside.mean() == precision_recall(real, synthetic, k=5).precision
    assert found.covered.mean() == density_coverage(real, synthetic, k=5).coverage
    distances = np.linalg.norm(synthetic[:, None] - real, axis=2)
    assert (found.nearest == distances.argmin(axis=1)).all()
