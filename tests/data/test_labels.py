"""What becomes of uncertain and missing labels, and of labels as tables write them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medgan.data.labels import majority, parse_findings, parse_numbers, settle, spread
from medgan.errors import ConfigError, DataError

NAN = float("nan")
FINDINGS = np.array([[1, 0], [0, -1], [NAN, 1], [-1, NAN]])
NAMES = ("Edema", "Mass")


def _settled(form="findings", values=FINDINGS, names=NAMES, *, uncertain=None, missing=None):
    return settle(values, names, form, uncertain=uncertain, missing=missing)


@pytest.mark.parametrize(
    ("uncertain", "missing", "expected", "kept"),
    [
        ("drop", "drop", [[1, 0]], [0]),
        ("drop", "negative", [[1, 0], [0, 1]], [0, 2]),
        ("negative", "drop", [[1, 0], [0, 0]], [0, 1]),
        ("positive", "drop", [[1, 0], [0, 1]], [0, 1]),
        ("positive", "negative", [[1, 0], [0, 1], [0, 1], [1, 0]], [0, 1, 2, 3]),
        ("mask", "mask", [[1, 0], [0, NAN], [NAN, 1], [NAN, NAN]], [0, 1, 2, 3]),
        ("negative", "mask", [[1, 0], [0, 0], [NAN, 1], [0, NAN]], [0, 1, 2, 3]),
    ],
)
def test_policies(uncertain, missing, expected, kept) -> None:
    values, keep = _settled(uncertain=uncertain, missing=missing)
    assert values.dtype == np.float32
    assert list(np.flatnonzero(keep)) == kept
    np.testing.assert_array_equal(values[keep], np.array(expected, dtype=np.float32))


def test_the_given_values_stay_as_they_are() -> None:
    before = FINDINGS.copy()
    _settled(uncertain="positive", missing="negative")
    np.testing.assert_array_equal(FINDINGS, before)


def test_without_policies_both_problems_are_counted_at_once() -> None:
    with pytest.raises(DataError) as caught:
        _settled()
    message = str(caught.value)
    assert "2 of 4 images are uncertain (Edema: 1, Mass: 1)" in message
    assert "2 of 4 images are missing (Edema: 1, Mass: 1)" in message
    assert "Type --uncertain drop|negative|positive|mask." in message
    assert "Type --missing drop|negative|mask." in message


def test_the_most_concerned_findings_come_first_and_the_rest_is_counted() -> None:
    values = np.zeros((9, 7))
    for column in range(7):
        values[: column + 1, column] = -1
    with pytest.raises(DataError, match=r"\(g: 7, f: 6, e: 5, d: 4, c: 3 and 2 more\)"):
        _settled(values=values, names=tuple("abcdefg"))


def test_data_that_needs_no_policy_takes_any_and_none() -> None:
    values = np.array([[1.0, 0.0]])
    for uncertain, missing in ((None, None), ("drop", "drop"), ("mask", "mask")):
        settled, keep = _settled(values=values, uncertain=uncertain, missing=missing)
        np.testing.assert_array_equal(settled, values)
        assert keep.all()


def test_one_policy_does_not_excuse_the_other() -> None:
    with pytest.raises(DataError, match="--missing") as caught:
        _settled(uncertain="drop")
    assert "--uncertain" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "options", "advice"),
    [
        (
            "finding",
            {"uncertain": "mask", "missing": "drop"},
            r"'mask' does not fit.*--uncertain drop\|negative\|positive\.",
        ),
        ("finding", {"uncertain": "drop", "missing": "mask"}, r"'mask' does not fit.*--missing drop\|negative\."),
        ("classes", {"missing": "negative"}, r"'negative' does not fit.*--missing drop\."),
        ("classes", {"missing": "mask"}, r"'mask' does not fit.*--missing drop\."),
        ("numbers", {"missing": "negative"}, r"'negative' does not fit.*--missing drop\|mask\."),
    ],
)
def test_policies_that_do_not_fit_the_kind_of_label(form, options, advice) -> None:
    with pytest.raises(DataError, match=advice):
        _settled(form, FINDINGS[:, :1], NAMES[:1], **options)


def test_minus_one_is_an_ordinary_number_and_class() -> None:
    values = np.array([[-1.0], [2.5]])
    settled, keep = _settled("numbers", values, ("T-score",))
    assert settled[0, 0] == -1
    assert keep.all()


def test_unknown_policies() -> None:
    with pytest.raises(ConfigError, match=r"uncertain='ignore' is unknown.*Known: drop, mask, negative, positive"):
        _settled(uncertain="ignore")
    with pytest.raises(ConfigError, match=r"missing='positve' is unknown.*Known: drop, mask, negative"):
        _settled(missing="positve")


def test_findings_as_tables_write_them() -> None:
    texts = pd.Series(["1", "1.0", "0", "0.0", "-1", "-1.0", "", " ", "NaN", "True", "false"])
    expected = [1, 1, 0, 0, -1, -1, NAN, NAN, NAN, 1, 0]
    np.testing.assert_array_equal(parse_findings(texts, "column Edema"), expected)


def test_findings_of_other_values_are_refused() -> None:
    with pytest.raises(DataError, match=r"column Edema must be 1 .*got '2', '0\.5'\."):
        parse_findings(pd.Series(["1", "2", "2", "0.5"]), "column Edema")


def test_numbers() -> None:
    np.testing.assert_array_equal(parse_numbers(pd.Series(["61.5", "-2e3", ""]), "label"), [61.5, -2000, NAN])
    with pytest.raises(DataError, match=r"label must be a number.*'61,5', 'inf', 'high'"):
        parse_numbers(pd.Series(["61,5", "inf", "high"]), "label")


def test_lists_of_findings_become_columns() -> None:
    names, values = spread([["Mass", "Edema"], ["Edema", "Edema"], [], ["No Finding"]])
    assert names == ("Edema", "Mass", "No Finding")
    np.testing.assert_array_equal(values, [[1, 1, 0], [1, 0, 0], [NAN] * 3, [0, 0, 1]])


def test_a_majority_of_the_readers_decides() -> None:
    images = pd.Series(["b", "a", "b", "a", "b", "a", "c", "d", "d"])
    marks = np.array([[1, 0], [1, 1], [1, 1], [0, 1], [0, 0], [0, 1], [1, NAN], [1, 0], [0, 0]])
    found, values = majority(images, marks)
    assert found == ["b", "a", "c", "d"]
    np.testing.assert_array_equal(values, [[1, 0], [0, 1], [1, 0], [0, 0]])
