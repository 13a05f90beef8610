"""How different the images of one set are, and which images of another set they are nearest to."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional import diversity
from medgan.metrics.functional.diversity import Neighbours, nearest_neighbours, pair_similarity
from medgan.metrics.functional.images import multiscale_ssim, ssim


def _pictures(count: int, *, size: int = 24, seed: int = 0) -> np.ndarray:
    """Smooth pictures of a common anatomy, float32 (count, 1, size, size) within 0...1."""
    noise = np.random.default_rng(seed).standard_normal((count, 1, size, size))
    common = np.sin(np.arange(size) / 3) * np.sin(np.arange(size) / 4)[:, None]
    return (0.5 + 0.25 * common + 0.5 * gaussian_filter(noise, [0, 0, 2, 2])).clip(0, 1).astype(np.float32)


# ------------------------------------------------------------------------------------------ pairs


@pytest.mark.parametrize("shape", [(6, 1, 24, 24), (6, 3, 22, 23), (6, 1, 22, 22, 22)])
def test_few_images_give_all_pairs(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, shape)
    found = pair_similarity(images, data_range=(-1, 1), scales=2)
    first, second = map(list, zip(*itertools.combinations(range(6), 2), strict=True))
    values = multiscale_ssim(images[first], images[second], data_range=(-1, 1), scales=2)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert (found.pairs, found.images, found.groups, found.scales) == (15, 6, 6, 2)


def test_identical_images_are_wholly_alike() -> None:
    found = pair_similarity(np.full((5, 1, 24, 24), 7, dtype=np.uint8), data_range=255, scales=2)
    assert found.mean == 1
    assert found.standard_error == 0
    assert found.interval == (1, 1)


def test_a_repeated_image_shows() -> None:
    images = _pictures(40)
    repeated = images.copy()
    repeated[5:] = repeated[0]
    varied, poor = (pair_similarity(each, data_range=1, scales=2) for each in (images, repeated))
    assert poor.interval[0] > varied.interval[1]
    # There are 36 of it, so 630 of 780 pairs are identical.
    assert poor.mean == pytest.approx(630 / 780 + 150 / 780 * varied.mean, abs=0.03)


def test_interval_ends_at_one() -> None:
    images = np.repeat(_pictures(2), [1, 39], axis=0)
    found = pair_similarity(images, data_range=1, scales=2)
    assert found.mean < 1 < found.mean + 2 * found.standard_error
    assert found.interval[0] < found.mean
    assert found.interval[1] == 1


def test_one_scale_is_ssim() -> None:
    images = _pictures(2)
    found = pair_similarity(images, data_range=1, scales=1)
    assert found.mean == pytest.approx(ssim(images[:1], images[1:], data_range=1).item(), rel=1e-12)


@pytest.mark.parametrize("sizes", [(1,) * 9, (4, 1, 3, 1), (7, 1)])
def test_drawn_pairs_are_all_those_of_different_groups_and_no_other(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    members = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    expected = {
        frozenset(pair) for pair in itertools.combinations(range(sum(sizes)), 2) if len(set(members[list(pair)])) == 2
    }
    first, second = diversity._draw_pairs(members, 1000, rng)
    assert len(first) == len(expected)
    assert {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)} == expected
    first, second = diversity._draw_pairs(members, len(expected) - 1, rng)
    some = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert len(some) == len(first) == len(expected) - 1
    assert some < expected


def test_drawn_pairs_are_equally_likely() -> None:
    members = np.array([0, 0, 0, 1, 2, 2])
    rng = np.random.default_rng(0)
    counts: dict[tuple[int, int], int] = {}
    for _ in range(1100):
        (first,), (second,) = diversity._draw_pairs(members, 1, rng)
        counts[(first, second)] = counts.get((first, second), 0) + 1
    assert len(counts) == 11
    assert max(abs(count - 100) for count in counts.values()) < 40  # four standard deviations


def test_many_images_need_no_list_of_pairs() -> None:
    first, second = diversity._draw_pairs(np.arange(10**6), 1000, np.random.default_rng(0))
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 1000
    assert (first < second).all()
    assert second.max() < 10**6
    assert first.mean() == pytest.approx(10**6 / 3, rel=0.1)


def test_the_seed_decides_the_pairs() -> None:
    images = _pictures(30)
    options = {"data_range": 1, "pairs": 20, "scales": 1}
    assert pair_similarity(images, **options) == pair_similarity(images, **options)
    assert pair_similarity(images, **options).mean != pair_similarity(images, **options, seed=1).mean


def test_groups_keep_images_of_one_patient_apart() -> None:
    images = np.repeat(_pictures(4), 3, axis=0)  # each patient has one image three times
    patients = [f"patient {number}" for number in np.repeat(np.arange(4), 3)]
    once = pair_similarity(_pictures(4), data_range=1, scales=2)
    grouped = pair_similarity(images, data_range=1, scales=2, groups=patients)
    assert grouped.mean == pytest.approx(once.mean, rel=1e-12)
    assert grouped.standard_error == pytest.approx(once.standard_error, rel=1e-9)  # copies tell nothing new
    assert (grouped.pairs, grouped.images, grouped.groups) == (54, 12, 4)
    assert pair_similarity(images, data_range=1, scales=2).mean > grouped.mean


def test_standard_error_is_that_of_leaving_out_one_group_at_a_time() -> None:
    rng = np.random.default_rng(0)
    members = np.array([0, 0, 1, 2, 2, 2, 3, 4])
    first, second = diversity._draw_pairs(members, 12, rng)
    values = rng.random(12)
    means = [values[(members[first] != group) & (members[second] != group)].mean() for group in range(5)]
    expected = math.sqrt(4 / 5 * np.square(np.array(means) - np.mean(means)).sum())
    assert diversity._jackknife_error(values, members[first], members[second], 5) == pytest.approx(expected)


def test_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = 1 / math.sqrt(3)  # the mean of exp(-(x - y) ** 2 / 2) of normal x and y with variance 1
    covered, covered_by_plain = 0, 0
    for _ in range(400):
        points = rng.standard_normal(60)
        first, second = diversity._draw_pairs(np.arange(60), 500, rng)
        values = np.exp(-((points[first] - points[second]) ** 2) / 2)
        error = diversity._jackknife_error(values, first, second, 60)
        low, high = diversity._interval(values.mean(), error, 59)
        covered += low <= truth <= high
        covered_by_plain += abs(values.mean() - truth) <= 1.96 * values.std() / math.sqrt(500)
    assert 0.93 <= covered / 400 <= 0.99
    assert covered_by_plain / 400 < 0.8  # pairs share images


@pytest.mark.parametrize("groups", [None, ["a", "a", "b"]])
def test_uncertainty_is_unknown_where_one_group_is_in_all_pairs(groups: list[str] | None) -> None:
    images = _pictures(2 if groups is None else 3)
    found = pair_similarity(images, data_range=1, scales=2, groups=groups)
    assert 0 < found.mean < 1
    assert math.isnan(found.standard_error)
    assert [math.isnan(limit) for limit in found.interval] == [True, True]


def test_blocks_change_no_pair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = _pictures(12)
    whole = pair_similarity(images, data_range=1, scales=2)
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setattr(diversity, "_BLOCK_VALUES", 5 * 24 * 24)
    assert pair_similarity(np.load(tmp_path / "images.npy", mmap_mode="r"), data_range=1, scales=2) == whole


def test_pairs_that_cannot_be() -> None:
    images = _pictures(3)
    with pytest.raises(ConfigError, match="pairs is 0"):
        pair_similarity(images, data_range=1, pairs=0)
    for few in (images[:1], images[:0]):
        with pytest.raises(DataError, match=f"at least two images are needed, got {len(few)}"):
            pair_similarity(few, data_range=1, scales=2)
    with pytest.raises(DataError, match="images of different groups"):
        pair_similarity(images, data_range=1, scales=2, groups=["a"] * 3)
    with pytest.raises(DataError, match=r"each of 3 images, got the shape \(2,\)"):
        pair_similarity(images, data_range=1, scales=2, groups=["a", "b"])
    with pytest.raises(DataError, match="scales=2 or less"):
        pair_similarity(images, data_range=1)


def test_bad_values_are_named_by_their_image() -> None:
    images = _pictures(30)
    with pytest.raises(DataError, match=r"`images` has values from .*outside of data_range=\(0, 0\.1\)"):
        pair_similarity(images, data_range=0.1, scales=2)
    images[17, 0, 3, 3] = np.nan
    with pytest.raises(DataError, match="Image 17 of `images`"):
        pair_similarity(images, data_range=1, scales=2, pairs=1)


# ------------------------------------------------------------------------------- nearest neighbours


@pytest.mark.parametrize("block_values", [1, 4 * 24 * 24, 2**22])
@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_neighbours_are_those_of_all_distances(metric: str, block_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "_BLOCK_VALUES", block_values)
    queries, references = _pictures(7), _pictures(23, seed=1)
    distances = cdist(queries.reshape(7, -1).astype(float), references.reshape(23, -1).astype(float), metric)
    order = np.argsort(distances, axis=1)[:, :3]
    found = nearest_neighbours(queries, references, k=3, metric=metric)  # type: ignore[arg-type]
    assert isinstance(found, Neighbours)
    np.testing.assert_array_equal(found.indices, order)
    expected = np.take_along_axis(distances, order, axis=1)
    np.testing.assert_allclose(found.values, 1 - expected if metric == "correlation" else expected, rtol=1e-9)


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
@pytest.mark.parametrize("offset", [0, 3000, -(10**6)])
def test_copies_are_found_among_all(metric: str, offset: int) -> None:
    rng = np.random.default_rng(0)
    references = rng.integers(0, 256, (50, 1, 8, 8)) + offset
    found = nearest_neighbours(references[[40, 3]], references, metric=metric)  # type: ignore[arg-type]
    assert found.indices.tolist() == [[40], [3]]
    if metric == "euclidean":
        assert found.values.tolist() == [[0], [0]]
    else:
        np.testing.assert_allclose(found.values, 1, rtol=0, atol=1e-12)
        assert found.values.max() <= 1


def test_correlations_end_at_one() -> None:
    references = np.random.default_rng(0).standard_normal((300, 50))
    values = nearest_neighbours(references, references).values
    assert values.min() > 1 - 1e-12
    assert values.max() == 1


def test_an_offset_does_not_swamp_small_differences() -> None:
    references = 1e6 + 1e-3 * np.random.default_rng(0).standard_normal((50, 64))
    found = nearest_neighbours(references, references, metric="euclidean")
    assert found.indices[:, 0].tolist() == list(range(50))


def test_correlation_does_not_see_brightness_and_contrast() -> None:
    references = _pictures(10)
    changed = 20 + 180 * references[[4]]
    assert nearest_neighbours(changed, references).indices.item() == 4
    assert nearest_neighbours(changed, references).values.item() == pytest.approx(1)
    assert nearest_neighbours(-changed, references[[4]]).values.item() == pytest.approx(-1)


def test_distance_by_hand() -> None:
    queries, references = np.zeros((1, 2), dtype=np.uint8), np.array([[6, 8], [3, 4], [200, 0]], dtype=np.uint8)
    found = nearest_neighbours(queries, references, k=3, metric="euclidean")
    assert found.indices.tolist() == [[1, 0, 2]]
    assert found.values.tolist() == [[5, 10, 200]]


def test_constant_images_correlate_with_nothing() -> None:
    queries = np.full((1, 1, 8, 8), 0.1)  # of which the mean is not 0.1 in floating point
    references = np.concatenate([queries, _pictures(3, size=8)])
    found = nearest_neighbours(queries, references, k=4)
    assert found.values.tolist() == [[0, 0, 0, 0]]
    assert found.indices.tolist() == [[0, 1, 2, 3]]
    assert nearest_neighbours(queries, references, metric="euclidean").values.item() == 0


def test_of_equals_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    references = np.repeat(np.array([[5.0, 1.0], [0.0, 2.0]]), 3, axis=0)
    monkeypatch.setattr(diversity, "_BLOCK_VALUES", 4)
    found = nearest_neighbours(np.array([[0.0, 2.0]]), references, k=4, metric="euclidean")
    assert found.indices.tolist() == [[3, 4, 5, 0]]


def test_neighbours_can_be_compared_further() -> None:
    real = _pictures(20)
    synthetic = (real[[11, 2]] + 0.02 * np.random.default_rng(0).standard_normal((2, 1, 24, 24))).clip(0, 1)
    nearest = nearest_neighbours(synthetic, real).indices[:, 0]
    assert (ssim(synthetic, real[nearest], data_range=1) > 0.8).all()


def test_neighbours_that_cannot_be() -> None:
    queries, references = _pictures(2), _pictures(3, seed=1)
    with pytest.raises(ConfigError, match="Did you mean 'euclidean'"):
        nearest_neighbours(queries, references, metric="euclidian")  # type: ignore[arg-type]
    for k in (0, 4):
        with pytest.raises(ConfigError, match=f"k is {k}, it must be from 1 to the number of references, 3"):
            nearest_neighbours(queries, references, k=k)
    for bad in (references[..., :-1], references[:, 0], np.zeros(3)):
        with pytest.raises(DataError, match=r"\(N, \.\.\.\) and \(M, \.\.\.\)"):
            nearest_neighbours(queries, bad)
    with pytest.raises(DataError, match="nothing to compare"):
        nearest_neighbours(queries[:0], references)
    with pytest.raises(DataError, match="nothing to compare"):
        nearest_neighbours(queries, references[:0])


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_neighbours_of_values_that_are_not_finite(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "_BLOCK_VALUES", 1)
    images = _pictures(3)
    bad = images.copy()
    bad[2, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="Image 2 of `queries`"):
        nearest_neighbours(bad, images, metric=metric)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Image 2 of `references`"):
        nearest_neighbours(images, bad, metric=metric)  # type: ignore[arg-type]
