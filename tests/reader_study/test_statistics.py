from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from medgan.errors import DataError
from medgan.reader_study.statistics import (
    area_interval,
    area_under_curve,
    equivalence,
    equivalence_power,
    fleiss_kappa,
    intraclass_correlation,
    mean_of_cases,
    pool_readers,
    sensitivity_and_bias,
    share_interval,
    weighted_kappa,
)

CUTS = np.array([-1.2, -0.4, 0.3, 1.2])


@pytest.fixture
def ratings():
    rng = np.random.default_rng(0)
    return rng.integers(1, 6, (3, 20)), np.clip(rng.integers(1, 6, (3, 25)) + rng.integers(0, 2, (3, 25)), 1, 5)


def test_area_agrees_with_sklearn(ratings):
    areas, _ = area_under_curve(*ratings)
    truth = np.repeat([0, 1], [20, 25])
    for real, synthetic, area in zip(*ratings, areas, strict=True):
        assert area == pytest.approx(roc_auc_score(truth, np.concatenate([real, synthetic])))


def test_covariance_agrees_with_a_jackknife_by_hand(ratings):
    """DeLong's covariances are those of a two-sample jackknife of the areas."""
    real, synthetic = ratings
    _, covariance = area_under_curve(real, synthetic)

    def spread(leave_out):
        left = np.stack(leave_out)
        count = len(left)
        return np.cov(left.T) * (count - 1) ** 2 / count

    truth = lambda a, b: np.repeat([0, 1], [a.shape[1], b.shape[1]])  # noqa: E731
    areas = lambda a, b: [roc_auc_score(truth(a, b), row) for row in np.hstack([a, b])]  # noqa: E731
    of_real = spread([areas(np.delete(real, place, axis=1), synthetic) for place in range(20)])
    of_synthetic = spread([areas(real, np.delete(synthetic, place, axis=1)) for place in range(25)])
    assert covariance == pytest.approx(of_real + of_synthetic)


def test_pooled_by_hand():
    covariance = np.array([[5, 2, 1], [2, 6, 3], [1, 3, 4]]) * 1e-3
    pooled = pool_readers([0.5, 0.6, 0.7], covariance)
    between, together = 0.01, 3 * 2e-3
    assert pooled.value == pytest.approx(0.6)
    assert (pooled.between, pooled.together) == (pytest.approx(between), pytest.approx(together))
    assert pooled.error == pytest.approx(math.sqrt(0.016 / 3))
    assert pooled.freedom == pytest.approx(0.016**2 / (0.01**2 / 2))
    quantile = (between * stats.t.ppf(0.975, 2) + together * stats.norm.ppf(0.975)) / 0.016
    assert pooled.high - pooled.value == pytest.approx(quantile * pooled.error)
    low, high = pooled.hillis_interval()
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, pooled.freedom) * pooled.error)


@pytest.mark.parametrize("null", [0.5, 0.35, 0.79, 0.6, -30.0])
def test_p_value_is_where_the_interval_ends(null):
    pooled = pool_readers([0.5, 0.6, 0.7, 0.62], np.full((4, 4), 1e-3))
    p_value = pooled.p_value(null)
    if null == 0.6:
        assert p_value > 0.8
    if null == -30:
        assert p_value < 1e-4
    low, high = pooled.interval(1 - p_value)
    assert min(abs(low - null), abs(high - null)) == pytest.approx(0, abs=1e-6)


def test_negative_covariance_counts_as_none():
    alike = pool_readers([0.5, 0.6], np.array([[1.0, -1], [-1, 1]]) * 1e-3)
    assert alike.together == 0
    assert alike.freedom == pytest.approx(1)


@pytest.mark.parametrize(("values", "covariance"), [([0.7], [[1e-3]]), ([1.0, 1.0, 1.0], np.zeros((3, 3)))])
def test_no_interval_without_variance(values, covariance):
    pooled = pool_readers(values, covariance)
    assert math.isnan(pooled.low)
    assert math.isnan(pooled.error)
    assert math.isnan(pooled.p_value(0.5))
    assert math.isnan(pooled.hillis_interval()[0])
    assert math.isnan(equivalence(pooled, 0.5, margin=0.05).p_value)


def test_equivalence_is_the_interval_within_the_margin():
    rng = np.random.default_rng(0)
    decided = set()
    for _ in range(200):
        pooled = pool_readers(0.5 + 0.05 * rng.standard_normal(4), np.full((4, 4), 1e-4))
        tested = equivalence(pooled, 0.5, margin=0.1)
        within = tested.low > 0.4 and tested.high < 0.6
        assert (tested.p_value < 0.05) == within
        decided.add(within)
    assert decided == {True, False}
    far = pool_readers([0.8, 0.9, 0.85], np.full((3, 3), 1e-4))
    assert equivalence(far, 0.5, margin=0.1).p_value > 0.9
    with pytest.raises(DataError, match="margin"):
        equivalence(far, 0.5, margin=0)


def simulate(rng, readers, images, skill, spread, shared):
    """Return ratings of readers whose skill varies, and who share some of what they see in an image."""

    def scores(shift):
        common = math.sqrt(shared) * rng.standard_normal(images)
        return common + math.sqrt(1 - shared) * rng.standard_normal((readers, images)) + shift

    skills = skill + spread * rng.standard_normal((readers, 1))
    return np.digitize(scores(0), CUTS) + 1, np.digitize(scores(skills), CUTS) + 1


def true_area(skill, spread):
    """Return the mean area of all readers there could be."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    steps = lambda shift: np.diff(np.concatenate([[0], stats.norm.cdf(CUTS - shift), [1]]))  # noqa: E731
    real = steps(0)
    below = np.concatenate([[0], np.cumsum(real)[:-1]]) + real / 2
    areas = [steps(skill + spread * node) @ below for node in nodes]
    return float(weights @ np.array(areas) / weights.sum())


@pytest.mark.parametrize(
    ("readers", "skill", "spread", "shared"), [(3, 0, 0, 0.4), (3, 0.8, 0.3, 0.4), (5, 0, 0.3, 0), (5, 0.8, 0.3, 0.4)]
)
def test_coverage_over_readers_and_cases(readers, skill, spread, shared):
    rng, truth, studies, covered = np.random.default_rng(0), true_area(skill, spread), 300, 0
    for _ in range(studies):
        pooled = pool_readers(*area_under_curve(*simulate(rng, readers, 40, skill, spread, shared)))
        covered += pooled.low <= truth <= pooled.high
    # 95 % less three binomial standard errors; not far above it either.
    assert 0.912 <= covered / studies <= 0.99


@pytest.mark.parametrize(("skill", "images"), [(0, 40), (1.2, 40)])
def test_coverage_for_one_reader(skill, images):
    rng, truth, studies, covered = np.random.default_rng(0), true_area(skill, 0), 400, 0
    for _ in range(studies):
        areas, covariance = area_under_curve(*simulate(rng, 1, images, skill, 0, 0))
        low, high = area_interval(float(areas[0]), float(covariance[0, 0]))
        covered += low <= truth <= high
    assert 0.92 <= covered / studies <= 0.98


def test_coverage_of_pairs():
    rng, studies, covered = np.random.default_rng(1), 400, 0
    for _ in range(studies):
        correct = rng.random((4, 60)) < 0.65
        pooled = pool_readers(*mean_of_cases(correct))
        covered += pooled.low <= 0.65 <= pooled.high
    assert 0.92 <= covered / studies <= 0.98


def test_size_of_the_equivalence_test():
    """At the edge of the margin, equivalence is claimed in at most 5 % of studies."""
    truth = 0.62
    skill = optimize.brentq(lambda value: true_area(value, 0.1) - truth, 0, 1)
    rng, studies, claimed = np.random.default_rng(2), 300, 0
    for _ in range(studies):
        pooled = pool_readers(*area_under_curve(*simulate(rng, 5, 60, skill, 0.1, 0.2)))
        claimed += equivalence(pooled, 0.5, margin=0.12).p_value < 0.05
    assert 0.01 <= claimed / studies <= 0.09


def test_power_is_what_a_simulation_finds():
    rng, studies, shown = np.random.default_rng(3), 200, 0
    for _ in range(studies):
        pooled = pool_readers(*area_under_curve(*simulate(rng, 5, 100, 0, 0, 0)))
        shown += equivalence(pooled, 0.5, margin=0.06).p_value < 0.05
    expected = equivalence_power(readers=5, real=100, synthetic=100, margin=0.06)
    assert 0.5 < expected < 0.9
    assert shown / studies == pytest.approx(expected, abs=0.1)


def test_power_grows():
    powers = [equivalence_power(readers=5, real=size, synthetic=size, margin=0.05) for size in (50, 100, 200, 1000)]
    assert powers == sorted(powers)
    assert powers[-1] > 0.99
    assert equivalence_power(readers=1, real=1000, synthetic=1000, margin=0.05) == 0
    assert equivalence_power(readers=5, real=1000, synthetic=0, margin=0.05) > 0.9


def test_sensitivity_and_bias_by_hand():
    # 8 of 10 hits, 3 of 10 false alarms; then one who is always unsure; then one who always says yes.
    signal = np.repeat([True, False], 10)
    said = np.zeros((3, 20))
    said[0, :8] = said[0, 10:13] = 1
    said[1] = 0.5
    said[2] = 1
    (sensitivity, covariance), (bias, _) = sensitivity_and_bias(said, signal)
    hits, alarms = stats.norm.ppf(8.5 / 11), stats.norm.ppf(3.5 / 11)
    assert sensitivity == pytest.approx([hits - alarms, 0, 0])
    assert bias == pytest.approx([-(hits + alarms) / 2, 0, -stats.norm.ppf(10.5 / 11)])
    assert covariance.shape == (3, 3)
    forced, _ = sensitivity_and_bias(said, signal, forced_choice=True)
    assert forced[0] == pytest.approx(sensitivity / math.sqrt(2))


def test_jackknife_by_hand():
    rng = np.random.default_rng(0)
    said, signal = (rng.random((2, 30)) < 0.6).astype(float), np.arange(30) % 2 == 0
    (_, covariance), _ = sensitivity_and_bias(said, signal)
    left = [sensitivity_and_bias(np.delete(said, place, axis=1), np.delete(signal, place))[0][0] for place in range(30)]
    assert covariance == pytest.approx(np.cov(np.array(left).T) * 29**2 / 30)


def test_fleiss_kappa_of_the_published_example():
    """Ten cases, fourteen readers, five categories; 0.210."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    answers = np.array([np.repeat(np.arange(5), row) for row in counts]).T
    found = fleiss_kappa(answers)
    assert found.value == pytest.approx(0.2099, abs=1e-4)
    assert found.low < found.value < found.high


def test_fleiss_kappa_of_two_readers_is_scotts_pi():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 3, (2, 50))
    agreement = (answers[0] == answers[1]).mean()
    chance = (np.bincount(answers.ravel(), minlength=3) / 100) @ (np.bincount(answers.ravel(), minlength=3) / 100)
    assert fleiss_kappa(answers).value == pytest.approx((agreement - chance) / (1 - chance))


def test_kappa_without_a_meaning():
    assert math.isnan(fleiss_kappa(np.ones((3, 10))).value)
    assert math.isnan(fleiss_kappa(np.arange(10)[None]).value)
    assert math.isnan(weighted_kappa(np.ones((1, 10)), np.ones((1, 10))).value)
    perfect = fleiss_kappa(np.tile([0, 1], (3, 5)))
    assert perfect.value == 1
    assert math.isnan(perfect.low)


def test_weighted_kappa_agrees_with_sklearn():
    rng = np.random.default_rng(0)
    first = rng.integers(1, 6, (3, 12))
    second = np.clip(first + rng.integers(-1, 2, (3, 12)), 1, 5)
    found = weighted_kappa(first, second)
    expected = cohen_kappa_score(first.ravel(), second.ravel(), weights="quadratic")
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_intraclass_correlation_of_shrout_and_fleiss():
    """Their table 2 and table 4: 0.29 and 0.62; intervals as McGraw and Wong's formulas give them."""
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    single, mean = intraclass_correlation(np.array(table).T)
    assert single.value == pytest.approx(0.2898, abs=1e-4)
    assert mean.value == pytest.approx(0.6201, abs=1e-4)
    assert (single.low, single.high) == (pytest.approx(0.0188, abs=1e-4), pytest.approx(0.7611, abs=1e-4))
    assert (mean.low, mean.high) == (pytest.approx(0.0711, abs=2e-3), pytest.approx(0.9272, abs=1e-3))


@pytest.mark.parametrize("readers", [3, 6])
def test_coverage_of_the_intraclass_correlation(readers):
    rng, studies = np.random.default_rng(0), 400
    covered = [0, 0]
    truth = 1 / (1 + 0.3 + 1), 1 / (1 + 1.3 / readers)
    for _ in range(studies):
        of_readers = math.sqrt(0.3) * rng.standard_normal((readers, 1))
        found = intraclass_correlation(rng.standard_normal(30) + of_readers + rng.standard_normal((readers, 30)))
        for place in (0, 1):
            covered[place] += found[place].low <= truth[place] <= found[place].high
    assert min(covered) / studies >= 0.92


def test_coverage_of_fleiss_kappa():
    """Readers share what an image looks like; the truth is that of very many images."""

    def answers(rng, images):
        return np.digitize(rng.standard_normal(images) + rng.standard_normal((5, images)), [-0.5, 0.5])

    truth = fleiss_kappa(answers(np.random.default_rng(9), 200_000), replicates=2).value
    rng, studies, covered = np.random.default_rng(0), 200, 0
    for _ in range(studies):
        found = fleiss_kappa(answers(rng, 60), replicates=300)
        covered += found.low <= truth <= found.high
    assert covered / studies >= 0.89


def test_shares():
    assert share_interval(5, 10) == (pytest.approx(0.187, abs=1e-3), pytest.approx(0.813, abs=1e-3))
    assert share_interval(10, 10)[1] == 1


def test_reader_without_a_mistake_has_no_interval():
    areas, covariance = area_under_curve([[1, 1, 2]], [[4, 5, 5]])
    assert areas.tolist() == [1]
    assert all(map(math.isnan, area_interval(1.0, float(covariance[0, 0]))))


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match="shape"):
        area_under_curve([[1, 2]], [[1, 2], [1, 2]])
    with pytest.raises(DataError, match="shape"):
        pool_readers([0.5, 0.6], [[1.0]])
    with pytest.raises(DataError, match="d′ needs"):
        sensitivity_and_bias([[1, 0]], [True, True])
    with pytest.raises(DataError, match="shape"):
        mean_of_cases([[1]])
