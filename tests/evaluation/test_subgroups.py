"""Groups of images by a property."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medgan.evaluation.subgroups import UNKNOWN, Groups, groups_of


def _groups(values: list[str], name: str) -> Groups:
    groups = groups_of(pd.Series(values), name)
    assert isinstance(groups, Groups)
    return groups


def test_words_are_groups_and_unknown_is_one_of_its_own() -> None:
    groups = _groups(["F", "M", "", "F", " M "], "sex")
    assert not groups.numeric
    assert {name: np.flatnonzero(inside).tolist() for name, inside in groups.members.items()} == {
        "F": [0, 3],
        "M": [1, 4],
        UNKNOWN: [2],
    }
    joined = _groups(["F", "unknown", "", "F"], "sex")
    assert np.flatnonzero(joined.members[UNKNOWN]).tolist() == [1, 2]


def test_ages_are_cut_where_people_change() -> None:
    ages = ["0", "17.9", "18", "39", "40", "59", "60", "79", "80", "101", ""]
    groups = _groups(ages, "age")
    assert groups.numeric
    assert {name: int(inside.sum()) for name, inside in groups.members.items()} == {
        "below 18": 2,
        "18 to 39": 2,
        "40 to 59": 2,
        "60 to 79": 2,
        "80 and older": 2,
        UNKNOWN: 1,
    }
    assert list(_groups([str(age) for age in range(20, 60)], "Age").members) == ["18 to 39", "40 to 59"]


def test_other_numbers_are_cut_at_quartiles() -> None:
    groups = _groups([str(number) for number in range(100)], "dose_mgy")
    assert groups.numeric
    assert [int(inside.sum()) for inside in groups.members.values()] == [25, 25, 25, 25]
    assert list(groups.members) == ["up to 24.75", "above 24.75 up to 49.5", "above 49.5 up to 74.25", "above 74.25"]
    skewed = _groups(["0"] * 60 + [str(number) for number in range(1, 41)], "dose_mgy")
    assert [int(inside.sum()) for inside in skewed.members.values()] == [60, 15, 25]


def test_few_numbers_are_names() -> None:
    groups = _groups(["1", "2", "3", "1"], "site")
    assert not groups.numeric
    assert list(groups.members) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["", "", ""], "it is unknown for every image"),
        (["PA", "PA"], "it is the same for every image"),
        ([f"report {number}" for number in range(30)], "it has 30 values, more than 12"),
    ],
)
def test_columns_without_groups_say_why(values: list[str], reason: str) -> None:
    assert groups_of(pd.Series(values), "view") == reason
