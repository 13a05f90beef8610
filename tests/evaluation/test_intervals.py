"""Intervals over patients and seeds: their parts by hand, and their coverage by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medgan.errors import ConfigError, DataError
from medgan.evaluation.intervals import holm, interval_of_difference, interval_of_mean, patient_draws
from medgan.evaluation.scores import area_under_roc

Array = NDArray[Any]

# ------------------------------------------------------------------------------------------ patients and parts


def test_patients_are_drawn_with_all_their_images() -> None:
    patients = np.array(["b", "a", "c", "a", "b", "a", "d"])
    weights = patient_draws(patients, replicates=500, seed=0)
    assert weights.shape == (500, 7)
    for name in "abcd":
        own = weights[:, patients == name]
        assert (own == own[:, :1]).all()
    firsts = np.stack([weights[:, patients == name][:, 0] for name in "abcd"], axis=1)
    assert (firsts.sum(axis=1) == 4).all()
    np.testing.assert_allclose(firsts.mean(axis=0), 1, atol=0.15)
    np.testing.assert_allclose(firsts.var(axis=0), 0.75, atol=0.15)  # of a multinomial: 4 · 1/4 · 3/4


def test_draws_depend_on_names_and_seed_and_not_on_the_order_of_images() -> None:
    patients = np.array([str(number) for number in range(9)] * 2)
    order = np.random.default_rng(0).permutation(18)
    weights = patient_draws(patients, replicates=20, seed=3)
    assert (patient_draws(patients[order], replicates=20, seed=3) == weights[:, order]).all()
    assert (patient_draws(patients, replicates=20, seed=4) != weights).any()
    with pytest.raises(DataError, match="at least 2 patients"):
        patient_draws(["a", "a"], replicates=20, seed=0)
    with pytest.raises(ConfigError, match="replicates is 1"):
        patient_draws(["a", "b"], replicates=1, seed=0)


def _by_hand(values: Array, replicates: Array) -> tuple[float, float, float]:
    """Mean, squared standard error of the seeds, and covariance of pairs of seeds, in plain loops."""
    seeds = len(values)
    pairs = [
        np.cov(replicates[first], replicates[second])[0, 1]
        for first in range(seeds)
        for second in range(seeds)
        if first != second
    ]
    return float(values.mean()), float(values.var(ddof=1) / seeds), max(float(np.mean(pairs)), 0)


def _sample(seeds: int = 4, shared: float = 0.02, own: float = 0.01, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    values = 0.8 + 0.02 * rng.standard_normal(seeds)
    return values, values[:, None] + shared * rng.standard_normal(300) + own * rng.standard_normal((seeds, 300))


def test_the_interval_by_hand() -> None:
    values, replicates = _sample()
    mean, of_seeds, shared = _by_hand(values, replicates)
    variance = of_seeds + shared
    quantile = (of_seeds * stats.t.ppf(0.975, 3) + shared * stats.norm.ppf(0.975)) / variance
    interval = interval_of_mean(values, replicates)
    assert float(interval.value) == pytest.approx(mean)
    assert float(interval.low) == pytest.approx(mean - quantile * np.sqrt(variance))
    assert float(interval.high) == pytest.approx(mean + quantile * np.sqrt(variance))
    assert interval.undefined_share == 0
    bounded = interval_of_mean(values, replicates, bounds=(0, 1))
    reach = quantile * np.sqrt(variance) / (mean * (1 - mean))
    for bound, sign in ((bounded.low, -1), (bounded.high, 1)):
        assert np.log(bound / (1 - bound)) == pytest.approx(np.log(mean / (1 - mean)) + sign * reach)


def test_without_patients_it_is_the_t_test_and_without_seeds_the_normal_one() -> None:
    values, _ = _sample()
    still = np.repeat((values - 0.77)[:, None], 999, axis=1)
    nothing = np.zeros(4), np.zeros((4, 999))
    expected = stats.ttest_1samp(values - 0.77, 0)
    found = interval_of_difference((values - 0.77, still), nothing)
    assert float(found.p_value) == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval(0.95)
    assert [float(found.low), float(found.high)] == pytest.approx([low, high])

    noise = 0.01 * np.random.default_rng(1).standard_normal(999)
    same = np.full(4, 0.015)
    found = interval_of_difference((same, 0.015 + np.repeat(noise[None], 4, axis=0)), nothing)
    error = noise.std(ddof=1)
    assert float(found.p_value) == pytest.approx(2 * stats.norm.sf(0.015 / error), rel=1e-6)
    assert float(found.high) == pytest.approx(0.015 + stats.norm.ppf(0.975) * error)


def test_one_seed_or_equal_scores_leave_the_variance_over_patients() -> None:
    noise = 0.03 * np.random.default_rng(1).standard_normal((1, 400))
    interval = interval_of_mean([0.8], 0.8 + noise)
    assert float(interval.high - interval.value) == pytest.approx(stats.norm.ppf(0.975) * noise.std(ddof=1))
    own = 0.03 * np.random.default_rng(2).standard_normal((3, 400))
    interval = interval_of_mean([0.8] * 3, 0.8 + own)
    expected = stats.norm.ppf(0.975) * own.mean(axis=0).std(ddof=1)
    assert float(interval.high - interval.value) == pytest.approx(expected)


def test_the_p_value_is_below_5_percent_where_the_interval_leaves_out_0() -> None:
    values, replicates = _sample(3)
    zeros = np.zeros_like(values), np.zeros_like(replicates)
    found = interval_of_difference((values, replicates), zeros)
    margin = float(found.low)
    for shift, significant in ((margin - 1e-6, True), (margin + 1e-6, False)):
        shifted = interval_of_difference((values - shift, replicates - shift), zeros)
        assert (float(shifted.p_value) < 0.05) == significant
        assert (float(shifted.low) > 0) == significant
        assert float(shifted.p_value) == pytest.approx(0.05, abs=1e-3)


def test_a_p_value_is_never_smaller_than_the_draws_can_show() -> None:
    noise = 0.001 * np.random.default_rng(1).standard_normal((3, 99))
    found = interval_of_difference((np.full(3, 0.5), 0.5 + noise), (np.zeros(3), np.zeros((3, 99))))
    assert float(found.p_value) == 1 / 100


def test_a_difference_is_paired() -> None:
    ours, theirs = _sample(seed=1), _sample(seed=2)
    together = interval_of_difference(ours, theirs)
    alone = interval_of_mean(ours[0] - theirs[0], ours[1] - theirs[1])
    assert [together.value, together.low, together.high] == [alone.value, alone.low, alone.high]
    common = 0.5 * np.random.default_rng(3).standard_normal((4, 300))  # of seeds and draws, in both arms
    shifted = interval_of_difference(
        (ours[0] + common[:, 0], ours[1] + common), (theirs[0] + common[:, 0], theirs[1] + common)
    )
    assert float(shifted.low) == pytest.approx(float(together.low))
    cut = interval_of_difference(([0.9, -0.9], ours[1][:2]), ([0.0, 0.0], theirs[1][:2]), width=1.0)
    assert (float(cut.low), float(cut.high)) == (-1, 1)


def test_what_is_undefined_is_left_out_and_told() -> None:
    values, replicates = _sample()
    holes = replicates.copy()
    holes[0, :30] = np.nan
    holes[2, 20:60] = np.nan
    interval = interval_of_mean(values, holes)
    rest = interval_of_mean(values, replicates[:, 60:])
    assert float(interval.undefined_share) == pytest.approx(0.2)
    assert [float(interval.low), float(interval.high)] == pytest.approx([float(rest.low), float(rest.high)])

    values[1], replicates[1] = np.nan, np.nan  # a seed without the score
    without = interval_of_mean(values, replicates)
    others = interval_of_mean(values[[0, 2, 3]], replicates[[0, 2, 3]])
    assert float(without.undefined_share) == 0
    assert [float(without.value), float(without.low)] == pytest.approx([float(others.value), float(others.low)])

    nothing = interval_of_mean(np.full(3, np.nan), np.full((3, 5), np.nan))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert nothing.undefined_share == 1


def test_there_is_no_interval_where_nothing_varies() -> None:
    still = np.ones(3), np.ones((3, 50))
    interval = interval_of_mean(*still, bounds=(0, 1))
    assert float(interval.value) == 1
    assert np.isnan([interval.low, interval.high]).all()
    same = interval_of_difference(still, still)
    assert (float(same.value), float(same.p_value)) == (0, 1)
    assert np.isnan(same.low)
    assert np.isnan(interval_of_difference(still, (np.zeros(3), np.zeros((3, 50)))).p_value)


def test_many_scores_at_once_are_the_same_as_each_alone() -> None:
    both = [_sample(seed=seed) for seed in range(3)]
    both[1][1][:, :10] = np.nan
    both[2][0][0] = np.nan
    values, replicates = np.stack([v for v, _ in both], axis=1), np.stack([r for _, r in both], axis=2)
    together = interval_of_difference((values, replicates), (values * 0 + 0.79, replicates * 0 + 0.79))
    for place, (v, r) in enumerate(both):
        alone = interval_of_difference((v, r), (v * 0 + 0.79, r * 0 + 0.79))
        for name in ("value", "low", "high", "undefined_share", "p_value"):
            assert getattr(together, name)[place] == pytest.approx(float(getattr(alone, name)), rel=1e-9)


def test_shapes_that_do_not_fit() -> None:
    values, replicates = _sample()
    for arguments in ((values[:3], replicates), (values, replicates[0]), (0.5, replicates[0]), ([], [])):
        with pytest.raises(DataError, match=r"expected \(S, ...\) and \(S, B, ...\)"):
            interval_of_mean(*arguments)
    with pytest.raises(DataError, match="expected the same seeds"):
        interval_of_difference((values, replicates), (values[:3], replicates[:3]))


def test_holm_by_hand() -> None:
    # Sorted: .01·4 = .04, .02·3 = .06, .03·2 = .06 and .5·1 = .5; each at least as large as the one before.
    np.testing.assert_allclose(holm([0.5, 0.01, 0.03, 0.02]), [0.5, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.04, 0.04, 0.04]), [0.12, 0.12, 0.12])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    corrected = holm([0.01, np.nan, 0.04])  # what could not be tested was planned all the same
    np.testing.assert_allclose(corrected, [0.03, np.nan, 0.08])
    assert holm([]).shape == (0,)
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        holm([0.1, 1.1])


def test_holm_keeps_wrong_rejections_rare_where_some_differences_are_real() -> None:
    rng = np.random.default_rng(0)
    p_values = rng.random((2000, 5))
    p_values[:, 3:] = 1e-6
    wrong = np.mean([(holm(row)[:3] < 0.05).any() for row in p_values])
    assert wrong == pytest.approx(1 - (1 - 0.05 / 3) ** 3, abs=3.3 * np.sqrt(0.05 * 0.95 / 2000))


# -------------------------------------------------------------------------------------------------- simulations


@dataclass(frozen=True)
class Binormal:
    """Logits of classifiers: what all see of a patient, what one seed sees, and how good a seed is."""

    patients: int = 100
    images: int = 2
    seeds: int = 3
    separation: float = 1.6
    between_seeds: float = 0.0  # standard deviation of the separation
    own: float = 0.2  # share of the variance that each seed has for itself

    @property
    def area(self) -> float:
        """The true AUROC, mean over seeds."""
        return float(stats.norm.cdf(self.separation / np.sqrt(2 + self.between_seeds**2)))

    def noise(self, rng: np.random.Generator, count: int) -> Array:
        """Normal noise of variance 1, half of it the same for all images of a patient, ``(count, N)``."""
        of_patient = np.repeat(rng.standard_normal((count, self.patients)), self.images, axis=1)
        return (of_patient + rng.standard_normal((count, self.patients * self.images))) / np.sqrt(2)

    def draw(self, rng: np.random.Generator, *arms: float) -> tuple[Array, list[Array]]:
        """Return truth, and logits ``(S, N)`` for each arm, by what it adds to the separation."""
        truth = np.repeat(rng.random(self.patients) < 0.4, self.images)
        common = self.noise(rng, 1)
        logits = []
        for extra in arms:
            separation = self.separation + extra + self.between_seeds * rng.standard_normal((self.seeds, 1))
            own = np.sqrt(self.own) * self.noise(rng, self.seeds)
            logits.append(truth * separation + np.sqrt(1 - self.own) * common + own)
        return truth, logits


def _judge(truth: Array, logits: Array, weights: Array) -> tuple[Array, Array]:
    values = np.array([area_under_roc(truth, row)[0] for row in logits])
    return values, np.array([area_under_roc(truth, row, weights=weights) for row in logits])


def _simulate(
    model: Binormal, *arms: float, trials: int, seed: int, draws: int = 150
) -> list[list[tuple[Array, Array]]]:
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"{number:04d}" for number in range(model.patients)], model.images)
    studies = []
    for trial in range(trials):
        truth, logits = model.draw(rng, *arms)
        weights = patient_draws(patients, replicates=draws, seed=trial)
        studies.append([_judge(truth, arm, weights) for arm in logits])
    return studies


def _tolerance(share: float, trials: int) -> float:
    return 3.3 * float(np.sqrt(share * (1 - share) / trials))


def _percentiles(values: Array, replicates: Array, seed: int) -> tuple[float, float]:
    """Percentiles over draws of patients and of seeds, as is usual."""
    seeds = len(values)
    drawn = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates.shape[1])
    low, high = np.quantile((drawn.T * replicates).sum(axis=0) / seeds, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("between_seeds", [0.0, 0.1, 0.3])
def test_intervals_cover_the_truth(seeds: int, between_seeds: float) -> None:
    trials = 300
    model = Binormal(seeds=seeds, between_seeds=between_seeds)
    covered = []
    for ((values, replicates),) in _simulate(model, 0.0, trials=trials, seed=seeds):
        interval = interval_of_mean(values, replicates, bounds=(0, 1))
        covered.append(interval.low <= model.area <= interval.high)
    assert np.mean(covered) > 0.95 - _tolerance(0.95, trials)
    assert np.mean(covered) < 0.97 + _tolerance(0.97, trials)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("between_seeds", [0.0, 0.1])
def test_a_null_difference_is_rejected_in_5_percent(seeds: int, between_seeds: float) -> None:
    trials = 300
    model = Binormal(seeds=seeds, between_seeds=between_seeds)
    rejected = [
        float(interval_of_difference(ours, theirs).p_value) < 0.05
        for ours, theirs in _simulate(model, 0.0, 0.0, trials=trials, seed=10 + seeds)
    ]
    assert np.mean(rejected) < 0.05 + _tolerance(0.05, trials)
    assert np.mean(rejected) > 0.01


def test_a_planted_difference_is_found() -> None:
    model = Binormal(patients=300, seeds=5, separation=1.3, between_seeds=0.05)  # an AUROC of 0.82
    better = model.separation
    better = float(np.sqrt(2 + 0.05**2) * stats.norm.ppf(model.area + 0.05)) - better
    found = [
        interval_of_difference(ours, theirs)
        for ours, theirs in _simulate(model, better, 0.0, trials=40, seed=1, draws=200)
    ]
    assert np.mean([float(difference.p_value) < 0.05 for difference in found]) > 0.9
    assert np.mean([float(difference.value) for difference in found]) == pytest.approx(0.05, abs=0.01)
    assert min(float(difference.value) for difference in found) > 0


def test_percentiles_of_drawn_seeds_would_not_do() -> None:
    varied = Binormal(seeds=3, between_seeds=0.6)
    alike = Binormal(seeds=3, own=0.5)
    rejected, rejected_of_alike = (
        np.mean(
            [
                not low <= 0 <= high
                for trial, (ours, theirs) in enumerate(_simulate(model, 0.0, 0.0, trials=200, seed=2))
                for low, high in [_percentiles(ours[0] - theirs[0], ours[1] - theirs[1], trial)]
            ]
        )
        for model in (varied, alike)
    )
    assert rejected > 0.15  # three times too often where seeds differ
    assert rejected_of_alike < 0.02  # hardly ever where they differ only in what they see of these patients
