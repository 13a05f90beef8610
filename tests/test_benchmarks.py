"""The benchmarks run, on a small scale: their numbers say nothing here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMANDS = {
    "engine_overhead": (("--steps", "1", "--repeats", "2", "--size", "32", "--threads", "1"), "medgan / bare loop"),
    "data_store": (("--images", "24", "--source-size", "40", "--size", "32", "--workers", "0"), "images/s"),
    "metrics_speed": (
        ("--width", "8", "--sizes", "30", "--images", "60", "--threads", "1"),
        "| Fréchet | 30 | medgan |",
    ),
}


def test_all_benchmarks_are_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_benchmark(name: str, tmp_path: Path) -> None:
    options, expected = COMMANDS[name]
    process = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MEDGAN_CACHE": str(tmp_path / "cache")},
    )
    assert process.returncode == 0, process.stderr
    assert expected in process.stdout
