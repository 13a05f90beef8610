"""The kernel distance and its test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist, pdist

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional import kernel as module
from medgan.metrics.functional.kernel import (
    KernelName,
    kernel_distance,
    kernel_distance_interval,
    kernel_permutation_test,
    median_distance,
)

Features = NDArray[np.float64]


def _sides(n: int = 60, m: int = 45, width: int = 8, shift: float = 0.4) -> tuple[Features, Features]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, width)), rng.standard_normal((m, width)) * 1.3 + shift


def _by_definition(real: Features, synthetic: Features, kernel: str, bandwidth: float) -> float:
    """Compute the three means over all pairs."""

    def values(a: Features, b: Features) -> Features:
        if kernel == "cubic":
            return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)
        return np.exp(-(cdist(a, b) ** 2) / (2 * bandwidth**2))

    def without_diagonal(a: Features) -> float:
        return float(values(a, a)[~np.eye(len(a), dtype=np.bool_)].mean())

    return without_diagonal(real) + without_diagonal(synthetic) - 2 * float(values(real, synthetic).mean())


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
@pytest.mark.parametrize("block_bytes", [2**26, 8 * 45 * 7])
def test_equals_the_definition_in_blocks_too(
    kernel: KernelName, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    real, synthetic = _sides()
    median = float(np.median(pdist(np.concatenate([real, synthetic]))))
    expected = _by_definition(real, synthetic, kernel, median)
    assert kernel_distance(real, synthetic, kernel=kernel) == pytest.approx(expected, rel=1e-10)
    assert kernel_permutation_test(real, synthetic, kernel=kernel, permutations=1).distance == pytest.approx(
        expected, rel=1e-10
    )
    if kernel == "rbf":
        expected = _by_definition(real, synthetic, kernel, 2.5)
        assert kernel_distance(real, synthetic, kernel="rbf", bandwidth=2.5) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_equals_torch_fidelity_where_its_subset_is_all_images(kernel: KernelName) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, synthetic = _sides(50, 50)
    options = {"kid_kernel": {"cubic": "poly", "rbf": "rbf"}[kernel], "kid_kernel_rbf_sigma": 3.0}
    expected = kid_features_to_metric(
        torch.from_numpy(synthetic),
        torch.from_numpy(real),
        kid_subsets=1,
        kid_subset_size=50,
        rng_seed=0,
        verbose=False,
        **options,
    )["kernel_inception_distance_mean"]
    value = kernel_distance(real, synthetic, kernel=kernel, bandwidth=3.0 if kernel == "rbf" else None)
    assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_no_bias_for_samples_of_one_distribution(kernel: KernelName) -> None:
    rng = np.random.default_rng(1)
    values = [
        kernel_distance(rng.standard_normal((12, 3)), rng.standard_normal((9, 3)), kernel=kernel) for _ in range(400)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert 0.2 < np.mean(np.array(values) < 0) < 0.8


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_the_order_of_images_does_not_matter(kernel: KernelName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEDIAN_IMAGES", 40)  # fewer than there are
    real, synthetic = _sides()
    value = kernel_distance(real, synthetic, kernel=kernel)
    permuted = np.random.default_rng(3).permutation(synthetic)
    assert kernel_distance(real[::-1], permuted, kernel=kernel) == pytest.approx(value, rel=1e-9)
    assert kernel_distance(synthetic, real, kernel=kernel) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_one_repeated_point_on_both_sides_gives_zero(kernel: KernelName) -> None:
    ones = np.ones((5, 4))
    assert kernel_distance(ones, ones, kernel=kernel) == pytest.approx(0, abs=1e-12)
    assert kernel_permutation_test(ones, ones, kernel=kernel, permutations=20).p_value == 1


def test_the_bandwidth_of_sets_that_mostly_repeat_one_image_is_the_mean_distance() -> None:
    features = np.zeros((10, 1))
    features[0] = 5
    real, synthetic = features[:5], features[5:]
    expected = _by_definition(real, synthetic, "rbf", float(pdist(features).mean()))
    assert kernel_distance(real, synthetic, kernel="rbf") == pytest.approx(expected, rel=1e-12)


def test_the_median_distance_is_always_a_bandwidth() -> None:
    features, _ = _sides()
    assert median_distance(features) == pytest.approx(float(np.median(pdist(features))))
    assert median_distance(np.ones((3, 2))) == median_distance(np.ones((1, 2))) == 1


def test_a_large_common_offset_costs_the_rbf_kernel_no_digits() -> None:
    real, synthetic = _sides()
    expected = kernel_distance(real, synthetic, kernel="rbf")
    assert kernel_distance(real + 1e7, synthetic + 1e7, kernel="rbf") == pytest.approx(expected, rel=1e-5)


def test_options_that_do_not_fit() -> None:
    real, synthetic = _sides()
    with pytest.raises(ConfigError, match="expected 'cubic' or 'rbf'"):
        kernel_distance(real, synthetic, kernel="linear")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="belongs to the kernel rbf"):
        kernel_distance(real, synthetic, bandwidth=1.0)
    for bandwidth in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="expected a positive number"):
            kernel_distance(real, synthetic, kernel="rbf", bandwidth=bandwidth)
    with pytest.raises(ConfigError, match="permutations is 0"):
        kernel_permutation_test(real, synthetic, permutations=0)


# -------------------------------------------------------------------------------------- the interval


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
@pytest.mark.parametrize("block_bytes", [2**26, 1])
def test_the_error_is_that_of_leaving_out_one_group_at_a_time(
    kernel: KernelName, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    real, synthetic = _sides(30, 24)
    groups = [np.random.default_rng(1).integers(0, 9, 30), np.arange(24) // 3]
    bandwidth = 2.0 if kernel == "rbf" else None
    options = {"kernel": kernel, "bandwidth": bandwidth}
    found = kernel_distance_interval(real, synthetic, groups_real=groups[0], groups_synthetic=groups[1], **options)
    assert found.distance == pytest.approx(kernel_distance(real, synthetic, **options))
    variance = 0.0
    for place, numbers in enumerate(groups):
        names = np.unique(numbers)
        without = []
        for name in names:
            sides = [real, synthetic]
            sides[place] = sides[place][numbers != name]
            without.append(kernel_distance(*sides, **options))
        variance += (len(names) - 1) * np.var(without)
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    width = stats.t.ppf(0.975, 7) * np.sqrt(variance)
    assert found.interval == pytest.approx((found.distance - width, found.distance + width))


def test_single_images_are_groups_unless_told_otherwise() -> None:
    real, synthetic = _sides(20, 15)
    numbered = kernel_distance_interval(
        real, synthetic, groups_real=np.arange(20), groups_synthetic=list("abcdefghijklmno")
    )
    alone = kernel_distance_interval(real, synthetic)
    assert alone.interval == pytest.approx(numbered.interval)
    assert alone.standard_error == pytest.approx(numbered.standard_error)


def test_intervals_cover_the_distance_between_two_distributions() -> None:
    rng = np.random.default_rng(2)
    shift, width = 0.5, 3
    # For normal features, E (x·y / D + 1)³ has closed terms; a large sample is simpler, and good enough.
    large = kernel_distance(rng.standard_normal((3_000, width)), rng.standard_normal((3_000, width)) + shift)
    hits = 0
    for _ in range(200):
        own = np.repeat(rng.standard_normal((30, width)) * np.sqrt(0.6), 2, axis=0)
        real = own + rng.standard_normal((60, width)) * np.sqrt(0.4)
        synthetic = rng.standard_normal((50, width)) + shift
        low, high = kernel_distance_interval(real, synthetic, groups_real=np.arange(60) // 2).interval
        hits += low <= large <= high
    assert 184 <= hits <= 200


def test_intervals_that_cannot_be() -> None:
    real, synthetic = _sides(10, 10)
    with pytest.raises(DataError, match="needs at least 3"):
        kernel_distance_interval(real[:2], synthetic)
    with pytest.raises(DataError, match="All real images are of the group a"):
        kernel_distance_interval(real, synthetic, groups_real=["a"] * 10)
    with pytest.raises(DataError, match="One group holds 9 of 10 synthetic images"):
        kernel_distance_interval(real, synthetic, groups_synthetic=["a"] * 9 + ["b"])


# ------------------------------------------------------------------------------------------ the test


def _patients(
    rng: np.random.Generator, patients: int, images: int, width: int = 4
) -> tuple[Features, NDArray[np.str_]]:
    """Several images of each patient, which resemble each other more than those of two patients."""
    own = np.repeat(rng.standard_normal((patients, width)), images, axis=0)
    names = np.array([f"{rng.integers(2**60)}" for _ in range(patients)])
    return own + 0.3 * rng.standard_normal(own.shape), np.repeat(names, images)


def test_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(5)
    p_values = [
        kernel_permutation_test(
            rng.standard_normal((14, 3)), rng.standard_normal((10, 3)), permutations=99, seed=trial
        ).p_value
        for trial in range(400)
    ]
    assert stats.kstest(p_values, stats.uniform(0.005, 1).cdf).pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=3.3 * np.sqrt(0.05 * 0.95 / 400))


def test_p_values_of_patients_are_uniform_only_if_patients_change_sides_as_a_whole() -> None:
    rng = np.random.default_rng(6)
    by_patient, by_image = [], []
    for trial in range(300):
        real, groups_real = _patients(rng, 8, 4)
        synthetic, groups_synthetic = _patients(rng, 10, 4)
        options = {"permutations": 99, "seed": trial}
        grouped = kernel_permutation_test(
            real, synthetic, groups_real=groups_real, groups_synthetic=groups_synthetic, **options
        )
        by_patient.append(grouped.p_value)
        by_image.append(kernel_permutation_test(real, synthetic, **options).p_value)
    assert stats.kstest(by_patient, stats.uniform(0.005, 1).cdf).pvalue > 0.01
    assert np.mean(np.array(by_image) <= 0.05) > 0.3


@pytest.mark.parametrize("grouped", [False, True])
def test_a_difference_gives_the_smallest_p_value(grouped: bool) -> None:
    rng = np.random.default_rng(7)
    real, groups = _patients(rng, 30, 2)
    synthetic = rng.standard_normal((50, 4)) + 2
    result = kernel_permutation_test(real, synthetic, groups_real=groups if grouped else None, permutations=199, seed=1)
    assert result.p_value == 1 / 200
    assert result.distance > 0


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_pairs_within_a_group_are_left_out(kernel: KernelName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 8 * 20 * 3)  # blocks that cut through groups
    rng = np.random.default_rng(8)
    real, synthetic = rng.standard_normal((12, 3)), rng.standard_normal((8, 3))
    first, second = np.array(list("aabbbcaddded")), np.array(list("zyxxwwzv"))
    pooled = np.concatenate([real, synthetic])
    if kernel == "cubic":
        values = (pooled @ pooled.T / 3 + 1) ** 3
    else:
        values = np.exp(-(cdist(pooled, pooled) ** 2) / (2 * np.median(pdist(pooled)) ** 2))
    names = np.concatenate([first, second])
    other = names[:, None] != names
    expected = (
        values[:12, :12][other[:12, :12]].mean()
        + values[12:, 12:][other[12:, 12:]].mean()
        - 2 * values[:12, 12:].mean()
    )
    result = kernel_permutation_test(
        real, synthetic, groups_real=first, groups_synthetic=second, kernel=kernel, permutations=5
    )
    assert result.distance == pytest.approx(expected, rel=1e-10)


def test_groups_of_one_image_are_no_groups() -> None:
    real, synthetic = _sides(20, 15)
    plain = kernel_permutation_test(real, synthetic, permutations=50, seed=3)
    grouped = kernel_permutation_test(
        real,
        synthetic,
        groups_real=np.arange(20),
        groups_synthetic=[f"s{number:02d}" for number in range(15)],
        permutations=50,
        seed=3,
    )
    assert grouped == plain


def test_groups_that_do_not_fit() -> None:
    real, synthetic = _sides(6, 6)
    good = list("aabbcc")
    for groups, message in (
        (list("aabb"), r"shape \(4,\), expected \(6,\)"),
        (list("aaaaaa"), "All real images are of the group a;"),
        (["a", "a", "b", "", "c", ""], "group of 2 of 6 real images is missing, first in row 3"),
        ([0, 0, 1, 1, np.nan, 2], "group of 1 of 6 real images is missing, first in row 4"),
        (np.array(["a", "a", "b", None, "c", "c"], dtype=object), "first in row 3"),
    ):
        with pytest.raises(DataError, match=message):
            kernel_permutation_test(real, synthetic, groups_real=groups, permutations=5)
    with pytest.raises(DataError, match="2 groups are on both sides, such as 'b'"):
        kernel_permutation_test(real, synthetic, groups_real=good, groups_synthetic=list("bbccdd"), permutations=5)
