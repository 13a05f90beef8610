from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medgan.comparison.page import _FLOORS, make_table, narrow_tables, summarise
from medgan.comparison.results import read_history
from medgan.comparison.side_by_side import _floors
from medgan.errors import DataError
from medgan.evaluation.fidelity.page import FLOOR_OF_ALL


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_times_of_evaluations_follow_from_the_speeds(tmp_path: Path) -> None:
    found = read_history(
        write(
            tmp_path,
            {"step": 10, "images": 100, "images_per_second": 50.0, "discriminator/x": 1},
            {
                "step": 15,
                "images": 150,
                "evaluation/score": 0.1,
                "evaluation/coverage": 0.2,
                "evaluation/coverage/A": 1,
            },
            {"step": 20, "images": 200, "images_per_second": 10.0},
            {"step": 20, "images": 200, "evaluation/score": 0.3, "evaluation/kernel_distance": 0.4},
            {"step": 25, "images": 250, "images_per_second": 100.0},
        )
    )
    assert found[:3] == (25, 250, 2 + 10 + 0.5)
    assert found.evaluations == [
        {"step": 15, "images": 150, "seconds": 2 + 5, "score": 0.1, "coverage": 0.2},
        {"step": 20, "images": 200, "seconds": 2 + 10, "score": 0.3, "kernel_distance": 0.4},
    ]


def test_a_log_without_a_line_and_one_that_is_damaged(tmp_path: Path) -> None:
    assert read_history(write(tmp_path)) == (0, 0, 0.0, [])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "images')
    with pytest.raises(DataError, match="cannot be read"):
        read_history(tmp_path)
    with pytest.raises(DataError, match="nobody knows how that training went"):
        read_history(tmp_path / "nowhere")


def facts(*values: float | None, direction: str = "lower", width: float = 0.5) -> dict[str, Any]:
    """Return the facts of trainings called A, B, ..., with one number each; of None they failed."""
    trainings = []
    for name, value in zip("ABC", values, strict=False):
        score = {
            "metric": "frechet_distance",
            "title": "Fréchet distance",
            "column": "",
            "group": "all images",
            "small": False,
            "direction": direction,
            "value": value,
            "interval": None if value is None else {"low": value - width, "high": value + width, "images": 20},
            "floor": {"mean": 2.0, "spread": 0.5, "halvings": 3, "images": 10, "synthetic": 4.0},
            "relative": 2.0,
            "real_images": 20,
            "synthetic_images": 20,
            "samples": 3,
        }
        trainings.append(
            {
                "name": name,
                "architecture": name.lower(),
                "preset": "tiny",
                "status": "failed" if value is None else "done",
                "error": "no [luck]" if value is None else None,
                "parameters": {"generator": 1_000, "discriminator": 2_000},
                "best": None if value is None else {"steps": 5, "images_seen": 50},
                "machine": {"machine": "abacus", "threads": 1, "cores": 2},
                "peak_memory_bytes": 3 * 2**29,
                "scores": [] if value is None else [score],
                "options": {"seed": 0},
                **dict.fromkeys(
                    ("steps", "images_seen", "images_per_second", "seconds", "peak_device_memory_bytes"), None
                ),
            }
        )
    floor = {"metric": "frechet_distance", "column": "", "group": "all images"}
    floor |= {"title": "Fréchet distance", "direction": direction}
    return {
        "trainings": trainings,
        "floors": [floor | {"mean": 2.0, "spread": 0.5, "halvings": 3, "images": 10}],
        "plan": {"options": {"budget": "20m", "kimg": None}},
        "reference": {"part": "test", "images": 20, "patients": 9},
    }


@pytest.mark.parametrize(
    ("values", "direction", "said"),
    [
        ((3.0, 9.0), "lower", "A is ahead with 3 (2.5 to 3.5), 2 × floor; B follows with 9"),
        ((3.0, 9.0), "higher", "B is ahead with 9 (8.5 to 9.5), 2 × floor; A follows with 3"),
        ((3.0, None, 3.5), "lower", "A is ahead with 3 (2.5 to 3.5), 2 × floor; C follows with 3.5"),
    ],
)
def test_who_is_ahead(values: tuple[float | None, ...], direction: str, said: str) -> None:
    (sentence,) = summarise(facts(*values, direction=direction))
    assert said in sentence
    assert ("this shows no difference" in sentence) == (len(values) == 3)


@pytest.mark.parametrize("values", [(3.0, 3.0), (3.0, None), (None, None)])
def test_nobody_is_ahead(values: tuple[float | None, ...]) -> None:
    assert summarise(facts(*values)) == []
    if None not in values:
        assert narrow_tables(facts(*values))[1].strong == set()


def test_cells() -> None:
    costs, quality = narrow_tables(facts(3.0, None, 9.0))
    assert costs.rows[0][-2:] == ["1.50 GiB", "50 images"]
    assert costs.rows[1][-1] == "failed"
    assert "20m, on abacus, 1 thread" in costs.caption
    assert list(quality.columns) == ["number", "A", "C", "real beside real"]
    assert quality.rows == [
        ["Fréchet distance ↓", "3 (2.5 to 3.5)", "9 (8.5 to 9.5)", "2 ± 0.5, N = 10"],
        ["× floor, at N = 10", "2", "2", "1"],
    ]
    assert quality.strong == {(0, 1)}
    assert len(narrow_tables(facts(None, None))) == 1
    assert FLOOR_OF_ALL in _FLOORS


def test_rows() -> None:
    a, b, floor = make_table(facts(3.0, None))
    assert (a["frechet_distance"], a["frechet_distance_high"], a["frechet_distance_at_floor_n"]) == (3.0, 3.5, 4.0)
    assert (b["status"], b["error"], b["frechet_distance"]) == ("failed", "no [luck]", None)
    assert (floor["frechet_distance"], floor["frechet_distance_spread"], floor["seconds"]) == (2.0, 0.5, None)


def test_density_above_that_of_real_images_is_not_ahead() -> None:
    """Of two numbers that are best as real images have them, the nearer one is; a collapsed generator is denser."""
    found = facts(2.6, 0.9, direction="as real")
    for entry, at_floor in zip(found["trainings"], (2.5, 0.8), strict=True):
        entry["scores"][0] |= {"metric": "density", "title": "density"}
        entry["scores"][0]["floor"] = {"mean": 1.0, "spread": 0.1, "halvings": 3, "images": 10, "synthetic": at_floor}
    assert summarise(found)[0].startswith("density: B is ahead with 0.9")


def test_subgroups_of_two_columns_are_told_apart() -> None:
    found = facts(3.0, 9.0)
    groups = [("age", "unknown", 0.1, False), ("sex", "unknown", 0.2, True)]
    for entry, more in zip(found["trainings"], (0, 0.5), strict=True):
        (whole,) = entry["scores"]
        of_group = whole | {"metric": "coverage", "title": "coverage of the group", "direction": "higher"}
        for column, group, value, small in groups:
            floor = {"mean": 1 - value, "spread": 0.1, "halvings": 3, "images": 10, "synthetic": value}
            which = {"column": column, "group": group, "small": small}
            entry["scores"].append(of_group | which | {"value": value + more, "interval": None, "floor": floor})
    found["floors"] = _floors(found["trainings"])
    quality = narrow_tables(found)[1]
    assert quality.rows[2::2] == [
        ["coverage of the group, age unknown ↑", "0.1", "0.6", "0.9 ± 0.1, N = 10"],
        ["coverage of the group, sex unknown (few patients) ↑", "0.2", "0.7", "0.8 ± 0.1, N = 10"],
    ]
    assert quality.strong == {(0, 1), (2, 2)}  # few patients give no verdict
    a, _, floor = make_table(found)
    assert (a["coverage/age/unknown"], a["coverage/sex/unknown"]) == (0.1, 0.2)
    assert (floor["coverage/age/unknown"], floor["coverage/sex/unknown"]) == pytest.approx((0.9, 0.8))
    assert len(summarise(found)) == 1  # of all images alone
