"""The exchange of training and held-out patients."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.privacy.exchange import exchange_patients, match_images
from medgan.evaluation.privacy.search import Nearest


def test_it_is_the_share_of_exchanges_that_find_as_much() -> None:
    """Four patients and three images, all exchanges done by hand."""
    near = Nearest(np.array([0.1, 0.2, 0.9]), np.array([0, 1, 1]))
    far = Nearest(np.array([0.5, 0.6, 0.3]), np.array([1, 0, 1]))
    owners = [0, 1, 3]  # of the nearest first: two of the training, then one who was held out
    order = [0, 1, 2]
    statistics = []
    for sides in permutations([1, 1, 0, 0]):
        of = [sides[owners[place]] for place in order]
        statistics.append([of[0], of[0] + of[1], sum(of)])
    table = np.array(statistics, np.float64)
    largest = ((table - table.mean(0)) / table.std(0)).max(1)
    expected = (largest >= largest[0] - 1e-9).mean()  # the first is as it is
    found = exchange_patients(near, far, training_patients=[0, 1], held_out_patients=[0, 1])
    assert found == pytest.approx(expected, abs=0.03)


def random_search(rng: np.random.Generator, shift: float) -> tuple[Nearest, Nearest]:
    """Return nearest images of 60 training and 20 held-out patients, of whom a few get most of the images."""
    points = np.concatenate([rng.standard_normal((60, 3)), rng.standard_normal((20, 3))])
    made = 0.1 * rng.standard_normal((80, 3))
    made[: round(80 * shift)] = points[rng.permutation(60)[: round(80 * shift)]] + 0.001
    distances = np.linalg.norm(made[:, None] - points, axis=2)
    sides = distances[:, :60], distances[:, 60:]
    first, second = (Nearest(side.min(1), side.argmin(1)) for side in sides)
    return first, second


def exchange(found: tuple[Nearest, Nearest], **how: Any) -> float:
    return exchange_patients(*found, training_patients=np.arange(60), held_out_patients=np.arange(20), **how)


def test_p_values_are_uniform_where_nobody_was_copied_and_small_where_many_were() -> None:
    p_values = np.array([exchange(random_search(np.random.default_rng(seed), 0)) for seed in range(100)])
    assert (p_values < 0.05).mean() <= 0.1
    assert 0.35 < np.median(p_values) < 0.75
    assert exchange(random_search(np.random.default_rng(0), 0.4)) < 0.01


def test_patients_change_sides_with_those_of_their_class_only() -> None:
    """The class of which all were trained on tells nothing, though all copies are of it."""
    found = random_search(np.random.default_rng(0), 0.4)
    classes = np.where(np.isin(np.arange(60), found[0].positions[:32]), "A", "B")
    assert exchange(found) < 0.01
    assert exchange(found, training_classes=classes, held_out_classes=np.full(20, "B")) > 0.05


def test_a_seed_decides() -> None:
    found = random_search(np.random.default_rng(1), 0.05)
    assert exchange(found, seed=3) == exchange(found, seed=3)


def test_nothing_to_compare() -> None:
    nothing = Nearest(np.empty(0), np.empty(0, np.int64))
    with pytest.raises(DataError, match="no synthetic image"):
        exchange((nothing, nothing))


def test_both_sides_have_as_many_images_a_patient() -> None:
    rng = np.random.default_rng(0)
    twice, once = np.repeat(np.arange(200), 2), np.arange(120)
    ours, theirs = match_images(twice, once, rng)
    assert sorted(twice[ours]) == list(range(200))
    assert len(np.unique(ours % 2)) == 2  # not always the first image
    assert theirs.tolist() == list(range(120))
    # Alike already: nothing is left out, in whatever order.
    mixed = rng.permutation(np.repeat(np.arange(10), np.arange(1, 11)))
    for kept in match_images(mixed, mixed + 50, rng):
        assert kept.tolist() == list(range(55))
    # The patient with the most images keeps as many as the other side's has.
    ours, theirs = match_images(np.array([0] * 9 + [1, 2]), np.array([5, 5, 5, 6, 7]), rng)
    assert np.bincount(np.array([0] * 9 + [1, 2])[ours]).tolist() == [3, 1, 1]
    assert theirs.tolist() == list(range(5))
