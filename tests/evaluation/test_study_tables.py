from __future__ import annotations

from typing import Any

import pytest

from medgan.evaluation.study_tables import arms_table, cell, largest, p_cell, signed_cell


def estimate(value: float | None, low: float | None = None, high: float | None = None, share: float = 0.0) -> Any:
    return {"value": value, "low": low, "high": high, "undefined_share": share}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (estimate(0.9534, 0.9411, 0.9639), "0.953 [0.941, 0.964]"),
        (estimate(0.5), "0.500"),
        (estimate(None), "–"),
        (None, "–"),
        (estimate(0.8, 0.7, 0.9, share=0.06), "0.800 [0.700, 0.900]†"),
        (estimate(0.8, 0.7, 0.9, share=0.05), "0.800 [0.700, 0.900]"),
        (estimate(-0.0001, -1.5, 0.0), "0.000 [−1.500, 0.000]"),
    ],
)
def test_value_and_interval(given: Any, expected: str) -> None:
    assert cell(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (estimate(0.012, -0.003, 0.027), "+0.012 [−0.003, +0.027]"),
        (estimate(-0.0004, -0.1, 0.1), "+0.000 [−0.100, +0.100]"),
        (estimate(None), "–"),
    ],
)
def test_difference_and_interval(given: Any, expected: str) -> None:
    assert signed_cell(given) == expected


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.0004, "<0.001"), (0.001, "0.001"), (0.0456, "0.046"), (1.0, "1.000")]
)
def test_p_values(p: float | None, text: str) -> None:
    assert p_cell(p) == text


def summary(scores: dict[str, list[Any]], better: dict[str, str], fraction: float = 1.0) -> dict[str, Any]:
    """Return what a table of arms needs; scores by name, one an arm."""
    arms = len(next(iter(scores.values())))
    return {
        "scores": {name: {"title": name, "better": better[name]} for name in scores},
        "floor": {"class": "a", "scores": {name: estimate(0.1) for name in scores}},
        "results": [
            {
                "arm": f"arm{place}",
                "title": f"arm {place}",
                "fraction": fraction,
                "counts": {"real_images": 1234.0, "synthetic_images": None},
                "scores": {name: values[place] for name, values in scores.items()},
            }
            for place in range(arms)
        ],
    }


@pytest.mark.parametrize(
    ("better", "estimates", "strong"),
    [
        ("higher", [estimate(0.9, 0.85, 0.95), estimate(0.7, 0.6, 0.8)], [(0, 1)]),
        ("higher", [estimate(0.9, 0.79, 0.95), estimate(0.7, 0.6, 0.8)], []),  # they overlap
        ("higher", [estimate(0.9, 0.8, 0.95), estimate(0.7, 0.6, 0.8)], []),  # they touch
        ("lower", [estimate(0.9, 0.85, 0.95), estimate(0.7, 0.6, 0.8)], [(1, 1)]),
        ("one", [estimate(0.9, 0.85, 0.95), estimate(0.7, 0.6, 0.8)], []),
        ("higher", [estimate(0.9), estimate(0.7, 0.6, 0.8)], []),  # it is not known how sure the first is
        ("higher", [estimate(0.9, 0.85, 0.95)], []),  # nothing to be better than
        ("higher", [estimate(0.9, 0.8, 0.99), estimate(0.85, 0.82, 0.88), estimate(0.2, 0.1, 0.3)], []),
    ],
)
def test_bold_only_where_intervals_lie_apart(better: str, estimates: list[Any], strong: list[Any]) -> None:
    made = summary({"auroc": estimates}, {"auroc": better})
    table = arms_table(made, made["results"], ["auroc", "missing"], caption="x")
    assert list(table.strong) == strong
    assert table.columns == ["Arm", "auroc"]
    assert table.rows[-1] == ["no image: always a", "0.100"]


def test_arms_with_shares_and_counts() -> None:
    made = summary({"auroc": [estimate(0.9, 0.85, 0.95), estimate(0.7, 0.6, 0.8)]}, {"auroc": "higher"}, fraction=0.5)
    table = arms_table(made, made["results"], ["auroc"], caption="x", training=True)
    assert table.columns == ["Arm", "Share", "auroc", "Real images"]
    assert table.rows[0] == ["arm 0", "0.5", "0.900 [0.850, 0.950]", "1,234"]
    assert table.rows[-1] == ["no image: always a", "", "0.100", ""]
    assert not table.strong  # arms at several shares are not ranked


def test_largest_share_of_each_arm() -> None:
    results = [{"arm": arm, "fraction": fraction} for arm, fraction in (("a", 0.1), ("a", 1.0), ("b", 0.5), ("b", 0.2))]
    assert [(item["arm"], item["fraction"]) for item in largest({"results": results})] == [("a", 1.0), ("b", 0.5)]
