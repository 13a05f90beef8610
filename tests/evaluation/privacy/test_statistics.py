"""C_T, authenticity and the membership attack on points, of which everything is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medgan.errors import DataError
from medgan.evaluation.privacy import authenticity, data_copying, infer_membership, membership_scores
from medgan.evaluation.privacy.membership import separate

Floats = NDArray[np.float64]


def distances(queries: Floats, references: Floats) -> Floats:
    found: Floats = np.linalg.norm(queries[:, None] - references[None], axis=2)
    return found


# ------------------------------------------------------------------------------------------ C_T


def test_c_t_is_the_weighted_mean_of_the_cells_u() -> None:
    rng = np.random.default_rng(0)
    made, null = rng.uniform(size=80), rng.uniform(size=60)
    places, null_places = np.repeat([0, 1], [30, 50]), np.repeat([0, 1], [20, 40])
    found = data_copying(made, null, cells_of_synthetic=places, cells_of_held_out=null_places)
    expected = []
    for cell in (0, 1):
        ours, theirs = made[places == cell], null[null_places == cell]
        u = stats.mannwhitneyu(ours, theirs).statistic
        m, n = len(ours), len(theirs)
        expected.append((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))
    assert [cell.z for cell in found.cells] == pytest.approx(expected)
    assert found.value == pytest.approx((20 * expected[0] + 40 * expected[1]) / 60)
    assert found.z == pytest.approx((20 * expected[0] + 40 * expected[1]) / math.hypot(20, 40))


def test_honest_generators_are_called_copiers_as_often_as_chance_says() -> None:
    p_values = []
    for number in range(200):
        rng = np.random.default_rng(number)
        cells = rng.integers(0, 3, 200), rng.integers(0, 3, 100)
        made, null = rng.uniform(size=200), rng.uniform(size=100)
        p_values.append(data_copying(made, null, cells_of_synthetic=cells[0], cells_of_held_out=cells[1]).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_copies_in_one_cell_are_seen_though_the_rest_underfits() -> None:
    rng = np.random.default_rng(1)
    made = np.r_[rng.uniform(0, 0.3, 100), rng.uniform(0.5, 1.5, 300)]
    null = np.r_[rng.uniform(0.2, 1, 50), rng.uniform(0.2, 1, 150)]
    cells = np.repeat([0, 1], [100, 300]), np.repeat([0, 1], [50, 150])
    found = data_copying(made, null, cells_of_synthetic=cells[0], cells_of_held_out=cells[1])
    assert found.cells[0].z is not None
    assert found.cells[1].z is not None
    assert found.cells[0].z < -3
    assert found.cells[1].z > 3
    assert found.value > 0


def test_cells_with_too_few_images_count_for_nothing() -> None:
    made, null = np.arange(30.0), np.arange(30.0)
    found = data_copying(made, null, cells_of_synthetic=[0] * 25 + [1] * 5, cells_of_held_out=[0] * 10 + [1] * 20)
    assert found.cells[1].z is None
    assert found.left_out == 5
    with pytest.raises(DataError, match="No cell"):
        data_copying(made[:5], null, cells_of_synthetic=[0] * 5, cells_of_held_out=[0] * 30)


def test_equal_distances_are_no_difference() -> None:
    found = data_copying(np.ones(20), np.ones(30), cells_of_synthetic=[0] * 20, cells_of_held_out=[0] * 30)
    assert found.value == 0
    assert found.p_value == pytest.approx(0.5)


# --------------------------------------------------------------------------------- authenticity


def shares(made: Floats, null: Floats, training: Floats) -> tuple[float, float, float]:
    within = distances(training, training)
    np.fill_diagonal(within, np.inf)
    sides = []
    for side in (made, null):
        each = distances(side, training)
        sides.append((each.min(1), within.min(1)[each.argmin(1)]))
    found = authenticity(sides[0][0], sides[1][0], reach_of_synthetic=sides[0][1], reach_of_held_out=sides[1][1])
    return found.synthetic, found.held_out, found.p_value


def test_authenticity_does_not_depend_on_the_order_of_images() -> None:
    rng = np.random.default_rng(0)
    made, null, training = (rng.normal(size=(count, 3)) for count in (50, 40, 90))
    made[:10] = training[:10] + 0.001
    expected = shares(made, null, training)
    assert shares(rng.permutation(made), rng.permutation(null), rng.permutation(training)) == pytest.approx(expected)


def test_copies_are_not_authentic_and_new_patients_are_as_authentic_as_others() -> None:
    rng = np.random.default_rng(2)
    made, null, training = (rng.normal(size=(count, 3)) for count in (300, 300, 300))
    share, usual, p_value = shares(made, null, training)
    assert abs(share - usual) < 0.12
    assert p_value > 0.01
    share, usual, p_value = shares(training + 1e-3, null, training)
    assert share < 0.05
    assert 0.2 < usual < 0.8  # their share is no fixed number
    assert p_value < 1e-6


def test_the_interval_of_the_difference_holds_it() -> None:
    found = authenticity(
        [1.0] * 90 + [0.0] * 10, [1.0] * 50, reach_of_synthetic=[0.5] * 100, reach_of_held_out=[0.5] * 50
    )
    assert (found.synthetic, found.held_out) == (0.9, 1.0)
    assert found.low < found.difference < found.high
    assert found.low == pytest.approx(-0.1744, abs=1e-3)  # Newcombe's method 10, by hand
    with pytest.raises(DataError, match="one side is empty"):
        authenticity([], [1.0], reach_of_synthetic=[], reach_of_held_out=[1.0])


# ----------------------------------------------------------------------------------- membership


def attack(copied: int, seed: int = 0, shift: float = 0.0) -> object:
    """Attack a generator that repeats some of 600 members, with 400 non-members in two halves."""
    rng = np.random.default_rng(seed)
    members, others, made = (rng.normal(size=(count, 4)) for count in (600, 400, 800))
    others += shift
    made[:copied] = members[:copied] + rng.normal(size=(copied, 4)) * 0.01
    halves = others[:200], others[200:]
    member_halves = members[:300], members[300:]
    usual = [
        np.concatenate([distances(each[half], halves[1 - half]).min(1) for half in (0, 1)])
        for each in (member_halves, halves)
    ]
    near = [distances(each, made).min(1) for each in (members, others)]
    scores = [membership_scores(*both) for both in zip(near, usual, strict=True)]
    return infer_membership(scores[0], scores[1], blind_members=-usual[0], blind_non_members=-usual[1])


def test_without_copies_there_is_nothing_to_infer() -> None:
    found = attack(0)
    assert found.attack.low <= 0.5 <= found.attack.high
    assert found.caught.rate < 0.04
    assert found.caught.p_value > 0.01
    assert found.control.area_low < found.attack.area < found.control.area_high


def test_a_few_copies_are_caught_though_the_area_hardly_moves() -> None:
    found = attack(30)
    assert found.attack.area < 0.57
    assert found.caught.rate > 0.04
    assert found.caught.p_value < 0.001
    assert found.control.area == pytest.approx(0.5, abs=0.01)  # members against members: never more than chance
    assert found.blind.low <= 0.5 <= found.blind.high


def test_many_copies_move_the_area_beyond_the_control() -> None:
    found = attack(300)
    assert found.attack.low > found.control.area_high
    assert found.attack.p_value < 1e-6


def test_groups_that_differ_in_themselves_are_named_by_the_blind_attack() -> None:
    assert attack(0, shift=1.0).blind.low > 0.5 or attack(0, shift=1.0).blind.high < 0.5


def test_few_non_members_give_no_rate() -> None:
    rng = np.random.default_rng(0)
    found = infer_membership(
        rng.normal(size=50), rng.normal(size=40), blind_members=np.ones(50), blind_non_members=np.ones(40)
    )
    assert found.caught is None
    assert found.control.rate is None
    with pytest.raises(DataError, match="cannot be halved"):
        infer_membership([1, 2], [1, 2], blind_members=[1, 2], blind_non_members=[1, 2])


def test_area_and_interval() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.5, size=200), rng.normal(size=300)
    found = separate(ours, theirs)
    area = float((ours[:, None] > theirs[None]).mean())
    assert found.area == pytest.approx(area)
    assert found.low < area < found.high
    assert 0.08 < found.high - found.low < 0.12
    apart = separate([3.0, 4.0, 5.0], [1.0, 2.0])
    assert (apart.area, apart.high) == (1, 1)
    assert apart.low < 1


def test_areas_of_honest_attacks_lie_within_their_interval() -> None:
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = separate(rng.normal(size=60), rng.normal(size=40))
        hits += found.low <= 0.5 <= found.high
    assert hits >= stats.binom.ppf(0.001, 200, 0.95)


def test_an_identical_image_has_a_score_too() -> None:
    assert np.isfinite(membership_scores([0.0, 1.0], [1.0, 0.0])).all()
