from __future__ import annotations

import numpy as np
import pytest

from medgan.errors import ConfigError
from medgan.evaluation.arms import ALL_ARMS, DEFAULT_ARMS, Arm, parse_arms


def test_the_default_arms() -> None:
    assert parse_arms(DEFAULT_ARMS) == (
        Arm("real", True, 0, "plain"),
        Arm("synthetic", False, 1, "plain"),
        Arm("real+synthetic", True, 1, "plain"),
        Arm("real-augmented", True, 0, "augmented"),
    )


def test_volumes_have_no_distorted_images_unless_they_are_asked_for() -> None:
    assert parse_arms("auto") == parse_arms(DEFAULT_ARMS)
    assert [arm.name for arm in parse_arms("auto", spatial_dims=3)] == ["real", "synthetic", "real+synthetic"]
    assert parse_arms("real,real-augmented", spatial_dims=3)[1].treatment == "augmented"


def test_all_arms_have_titles_of_their_own() -> None:
    arms = parse_arms("all")
    assert arms == parse_arms(ALL_ARMS)
    assert len({arm.title for arm in arms}) == len(arms) == 10


def test_ratios() -> None:
    _, synthetic, mixed, twice, first = parse_arms(
        "real, synthetic-2.5x, real+synthetic-0.25x, real-duplicated-3x, synthetic-then-real-4x"
    )
    assert (synthetic.ratio, mixed.ratio, twice.ratio, first.ratio) == (2.5, 0.25, 0, 4)
    assert twice.copies == 3
    assert synthetic.title == "synthetic 2.5× (TSTR)"


def test_synthetic_counts() -> None:
    real = np.array([10, 3, 0])
    _, half, rest, even = parse_arms("real,real+synthetic-0.5x,real+synthetic-balanced,synthetic-balanced-2x")
    assert half.synthetic_counts(real).tolist() == [5, 2, 1]  # at least one of each
    assert rest.synthetic_counts(real).tolist() == [0, 7, 10]
    assert even.synthetic_counts(real).tolist() == [9, 9, 9]  # 26 images, as nearly as three classes can
    assert parse_arms("real,synthetic-balanced-0.01x")[1].synthetic_counts(real).tolist() == [1, 1, 1]
    assert even.title == "synthetic 2×, classes equally many (TSTR)"
    assert rest.synthetic
    assert even.synthetic
    assert not parse_arms("real")[0].synthetic


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("real,sinthetic", "Did you mean 'synthetic'"),
        ("synthetic", "Type real,synthetic"),
        ("real,real", "listed twice"),
        ("real,real-augmented-2x", "takes no ratio 2"),
        ("real,real+synthetic-balanced-2x", "takes no ratio 2"),
        ("real,synthetic-0x", "take one above 0"),
        ("real,real-duplicated-0.5x", "repeats nothing. Give a ratio above 1"),
        ("real,real-duplicated-1x", "repeats nothing"),
        ("", "unknown"),
        ("real,", "unknown"),
    ],
)
def test_arms_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arms(text)
