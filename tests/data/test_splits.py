"""Patients, and splits that keep them apart."""

from __future__ import annotations

import numpy as np
import pytest

from medgan.data.splits import find_patients, split_groups
from medgan.errors import ConfigError, DataError

KERMANY = {
    "PNEUMONIA/person12_bacteria_47.jpeg": "person12_bacteria",
    "PNEUMONIA/person12_virus_47.jpeg": "person12_virus",
    "PNEUMONIA/person447_virus_921_1.jpeg": "person447_virus",
    "NORMAL/NORMAL2-IM-0383-0001.jpeg": "NORMAL2-IM-0383",
    "NORMAL/NORMAL2-IM-0383-0001-0002.jpeg": "NORMAL2-IM-0383",
    "NORMAL/IM-0115-0001.jpeg": "IM-0115",
    "IM-0429-0001-0002.jpeg": "IM-0429",
    "NORMAL/NORMAL-3464500-0002.jpeg": "NORMAL-3464500",
    "PNEUMONIA/BACTERIA-40699-0001.jpeg": "BACTERIA-40699",
    "PNEUMONIA/VIRUS-1980593-0003.jpeg": "VIRUS-1980593",
}


def test_kermany_patients() -> None:
    assert find_patients(list(KERMANY), "kermany") == list(KERMANY.values())


def test_own_expressions() -> None:
    files = ["patient7/study1/view1.png", "patient8/study2/view1.png"]
    assert find_patients(files, r"patient(\d+)") == ["7", "8"]
    assert find_patients(files, r"(patient\d+)/(study\d+)") == ["patient7_study1", "patient8_study2"]
    assert find_patients(files, r"patient\d+") == ["patient7", "patient8"]
    assert find_patients(files, r"patient(\d+)(x)?") == ["7", "8"]


def test_files_without_a_patient_are_counted_and_one_is_named() -> None:
    with pytest.raises(DataError, match=r"1 of 3 files, for example 'c\.png'.*--patient-regex"):
        find_patients(["p1.png", "p2.png", "c.png"], r"p(\d)")
    with pytest.raises(DataError, match="2 of 2 files"):
        find_patients(["p1.png", "p2.png"], r"p(x?)")  # matches, but with an empty id


def test_a_broken_expression_and_a_misspelt_preset() -> None:
    with pytest.raises(DataError, match=r"not a regular expression.*Type for example"):
        find_patients(["a"], "patient(")
    with pytest.raises(DataError, match="Did you mean 'kermany'"):
        find_patients(["NORMAL/IM-0115-0001.jpeg"], "kermani")


def _cohort(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(200), rng.integers(1, 8, 200))
    return groups, (groups % 4 == 0).astype(np.int64)


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_classes_keep_their_shares(seed: int) -> None:
    groups, strata = _cohort(seed)
    training, validation = split_groups(groups, strata, 0.2, seed)
    assert not set(groups[training]) & set(groups[validation])
    assert sorted([*training, *validation]) == list(range(len(groups)))
    for label in (0, 1):
        patients = len(set(groups[strata == label]))
        assert len(set(groups[validation][strata[validation] == label])) == round(0.2 * patients)
        share = (strata[validation] == label).sum() / (strata == label).sum()
        assert abs(share - 0.2) < 0.08  # of images: patients have one to seven


def test_same_seed_same_split_and_other_seed_other_split() -> None:
    groups, strata = _cohort(0)
    first, again, other = (split_groups(groups, strata, 0.2, seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_group_of_two_classes_counts_for_the_rarer() -> None:
    groups = np.repeat(np.arange(20), 10)
    strata = np.zeros(200, dtype=np.int64)
    strata[::100] = 1  # groups 0 and 10 have one rare image each
    training, validation = split_groups(groups, strata, 0.1, 0)
    assert (strata[training] == 1).sum() == (strata[validation] == 1).sum() == 1


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split_groups(np.arange(4), np.zeros(4, np.int64), 1.0, 0)
    with pytest.raises(DataError, match="cannot be split"):
        split_groups(np.zeros(4, np.int64), np.zeros(4, np.int64), 0.5, 0)


def test_a_class_of_few_groups_is_on_both_sides() -> None:
    groups, strata = np.array([0, 0, 1, 2, 3, 3, 3, 4]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    for validation in (0.01, 0.99):
        for side in split_groups(groups, strata, validation, 0):
            assert set(strata[side]) == {0, 1}
