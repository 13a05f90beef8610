from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medgan import cross_validation
from medgan.cross_validation import corrected_mean
from medgan.data import ImageDataset, open_dataset
from medgan.errors import CheckpointError, ConfigError, DataError

SCORES = ("auroc", "auprc", "balanced_accuracy", "brier")
ARMS = (("real", 0.1), ("real", 1.0), ("synthetic", 1.0), ("real+synthetic", 0.1), ("real+synthetic", 1.0))


def test_against_the_formula() -> None:
    values = [0.91, 0.95, 0.90, 0.97, 0.93]
    found = corrected_mean(values, test_share=1 / 4)
    error = np.sqrt((1 / 5 + 1 / 4) * np.var(values, ddof=1))
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=error)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.p == pytest.approx(2 * stats.t.sf(np.mean(values) / error, 4))


def test_without_overlap_it_is_the_usual_test() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 12)
    assert corrected_mean(values, test_share=0).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_equal_values() -> None:
    assert corrected_mean([0.5, 0.5], test_share=1) == (0.5, 0.5, 0.5, 0.0)
    assert corrected_mean([0.0, 0.0], test_share=1).p == 1


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan], [[0.5, 0.6]]])
def test_values_that_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="at least 2 folds"):
        corrected_mean(values, test_share=1)


def join(values: Callable[[str, float, int], float | None]) -> dict[str, Any]:
    """Put together 3 folds in which an arm has these values of every score."""
    summaries = [
        {
            "results": [
                {
                    "arm": arm,
                    "title": arm,
                    "fraction": fraction,
                    "scores": {name: {"value": values(arm, fraction, fold)} for name in SCORES},
                }
                for arm, fraction in ARMS
            ],
            "scores": {name: {"title": name} for name in SCORES},
            "facts": {},
        }
        for fold in range(3)
    ]
    whole = open_dataset("phantom://chest?n=4", size=16)
    joined = cross_validation._join(summaries, 3, whole, Path("run"))
    return {(arm["arm"], arm["fraction"]): arm["scores"]["auroc"] for arm in joined["arms"]}


def test_arms_are_compared_with_as_many_real_patients() -> None:
    levels = {("real", 0.1): 0.6, ("real", 1.0): 0.9, ("synthetic", 1.0): 0.7}
    levels |= {("real+synthetic", 0.1): 0.65, ("real+synthetic", 1.0): 0.91}
    found = join(lambda arm, fraction, fold: levels[arm, fraction] + 0.01 * fold)
    assert found["real+synthetic", 0.1]["difference"]["folds"] == pytest.approx([0.05] * 3)
    assert found["real+synthetic", 1.0]["difference"]["folds"] == pytest.approx([0.01] * 3)
    assert found["synthetic", 1.0]["difference"]["folds"] == pytest.approx([-0.2] * 3)
    assert "difference" not in found["real", 0.1]


def test_patients_of_validation_do_not_count_as_training() -> None:
    found = join(lambda arm, fraction, fold: 0.5 + 0.1 * fold + 0.01 * fraction)
    # Of 3 folds one tests; of the others' patients 9 of 10 train.
    error = np.sqrt((1 / 3 + (1 / 3) / (2 / 3 * 0.9)) * 0.1**2)
    assert found["real", 1.0]["high"] - 0.61 == pytest.approx(stats.t.ppf(0.975, 2) * error)


def test_a_comparison_that_cannot_be_made_counts_all_the_same() -> None:
    rng = np.random.default_rng(0)

    def value(arm: str, fraction: float, fold: int) -> float | None:
        return None if (arm, fold) == ("synthetic", 1) else 0.8 * (arm == "real") + 0.01 * rng.random()

    found = join(value)
    assert found["synthetic", 1.0]["difference"]["p_holm"] is None
    known = [found["real+synthetic", fraction]["difference"] for fraction in (0.1, 1.0)]
    smallest = min(entry["p"] for entry in known)
    assert min(entry["p_holm"] for entry in known) == pytest.approx(3 * smallest)


def test_folds_of_a_source_with_a_division_of_its_own() -> None:
    patients = np.repeat(np.arange(40), 2)
    whole = ImageDataset.from_arrays(
        np.zeros((80, 8, 8), np.uint8), patients % 2, patient_ids=[f"p{patient}" for patient in patients]
    )
    own = np.array(["train", "val", "test"], dtype=object)[np.repeat([0, 1, 2], [48, 12, 20])]
    whole = replace(whole, index=whole.index.assign(split=own))
    tested: list[str] = []
    for splits in cross_validation._divide(whole, 4, 0):
        parts = whole.apply_splits(splits)  # the images of the split are those of the data
        assert {part: len(images) for part, images in parts.items()} == {"train": 52, "validation": 8, "test": 20}
        tested += splits.parts["test"]
    assert len(tested) == len(set(tested)) == 80


def test_generators_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    plan = {"folds": 3, "seed": 0, "options": {"steps": 10}}
    cross_validation._check_plan(tmp_path, plan)
    cross_validation._check_plan(tmp_path, plan)
    for change, message in (
        ({"folds": 5}, "of --cv 3. Go on with that"),
        ({"seed": 1}, "of --seed 0"),
        ({"options": {"steps": 20}}, "of another --model"),
    ):
        with pytest.raises(ConfigError, match=message):
            cross_validation._check_plan(tmp_path, plan | change)
    (tmp_path / "plan.json").write_text("[1", encoding="utf-8")
    with pytest.raises(CheckpointError, match="Name another --out"):
        cross_validation._check_plan(tmp_path, plan)
