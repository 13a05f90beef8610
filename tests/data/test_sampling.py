"""The endless order."""

from __future__ import annotations

import numpy as np
import pytest

from medgan.data.sampling import ClassSampling, Sampler
from medgan.errors import ConfigError, DataError

LABELS = np.repeat([0, 1, 2], [40, 10, 3])


def test_natural_order_uses_every_image_once_an_epoch() -> None:
    sampler = Sampler(53, seed=1)
    for epoch in range(3):
        assert sorted(sampler.positions(53 * epoch, 53 * (epoch + 1))) == list(range(53))
    first, second = sampler.positions(0, 53), sampler.positions(53, 106)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(53))


@pytest.mark.parametrize("mode", ["natural", "sqrt", "uniform"])
def test_the_order_is_a_pure_function_of_the_place(mode: ClassSampling) -> None:
    whole = Sampler(53, seed=4, class_sampling=mode, labels=LABELS).positions(0, 5000)
    other = Sampler(53, seed=4, class_sampling=mode, labels=LABELS)
    for start in (4000, 17, 1023, 0, 52, 2500):  # in no order, as a resumed run would
        np.testing.assert_array_equal(other.positions(start, start + 200), whole[start : start + 200])
    assert not np.array_equal(Sampler(53, seed=5, class_sampling=mode, labels=LABELS).positions(0, 5000), whole)


def test_far_steps_need_no_replay() -> None:
    positions = Sampler(53, seed=0, class_sampling="sqrt", labels=LABELS).positions(10**12, 10**12 + 64)
    assert positions.min() >= 0
    assert positions.max() < 53


def test_uniform_shares_are_equal_in_every_stretch() -> None:
    positions = Sampler(53, seed=0, class_sampling="uniform", labels=LABELS).positions(0, 3000)
    for start in range(0, 3000, 30):
        assert np.bincount(LABELS[positions[start : start + 30]]).tolist() == [10, 10, 10]


def test_sqrt_shares() -> None:
    positions = Sampler(53, seed=0, class_sampling="sqrt", labels=LABELS).positions(0, 100_000)
    shares = np.bincount(LABELS[positions]) / 100_000
    roots = np.sqrt([40, 10, 3])
    np.testing.assert_allclose(shares, roots / roots.sum(), atol=1e-3)
    first = np.bincount(LABELS[positions[:64]])  # evenly mixed, not only in the long run
    np.testing.assert_allclose(first / 64, roots / roots.sum(), atol=0.03)


@pytest.mark.parametrize("mode", ["sqrt", "uniform"])
def test_each_class_walks_through_all_its_images(mode: ClassSampling) -> None:
    positions = Sampler(53, seed=0, class_sampling=mode, labels=LABELS).positions(0, 4000)
    for label in range(3):
        counts = np.bincount(positions[LABELS[positions] == label], minlength=53)[label == LABELS]
        assert counts.max() - counts.min() <= 1


def test_a_class_without_images_gets_no_place() -> None:
    labels = np.array([0, 0, 2, 2])
    positions = Sampler(4, seed=0, class_sampling="uniform", labels=labels).positions(0, 100)
    assert np.bincount(positions).tolist() == [25] * 4


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'uniform'"):
        Sampler(4, seed=0, class_sampling="uniforn")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="natural"):
        Sampler(4, seed=0, class_sampling="sqrt")
