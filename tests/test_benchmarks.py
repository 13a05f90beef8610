"""The benchmarks run, on a small scale: their numbers say nothing here."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measurements
from benchmarks.page import format_ratio, format_seconds, write_page
from benchmarks.protocol import ROOT, Comparison, Settings, Side, SideError, Target, environment, measure, summarise
from benchmarks.worker import load, timed

WORKS = "benchmarks_for_tests"
SOURCE = """
import sys, time

def make_sleep(seconds):
    print("on the standard output, which is not for the answers")
    return lambda: time.sleep(seconds) or seconds

def make_end(code):
    print("what went wrong", file=sys.stderr)
    return lambda: sys.exit(code)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / f"{WORKS}.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Settings(quick=True, threads=1, scratch=tmp_path)


def sleeping(name: str, seconds: float, **more: object) -> Side:
    return Side(name=name, work=f"{WORKS}:make_sleep", options={"seconds": seconds}, **more)


def quiet(_: str) -> None: ...


def test_sides_take_turns_and_ratios_are_of_their_times(settings):
    comparison = Comparison(
        title="Sleep",
        unit="second",
        sides=[sleeping("short", 0.05), sleeping("long", 0.2, units=2), sleeping("none", 1, needs="no-such-package")],
        targets=[
            Target(side="long", of="ratio", bound="at most", value=10),
            Target(side="short", of="seconds", bound="at least", value=10),
            Target(side="none", of="ratio", bound="at least", value=1),
        ],
    )
    found = measure(comparison, settings, quiet)
    short, long, none = found["sides"]
    assert 0.05 <= short["seconds"]["median"] < long["seconds"]["median"]
    assert long["seconds"]["median"] >= 0.1  # two units in a turn
    assert len(long["ratio"]["values"]) == 2
    assert short["cpu_seconds"]["median"] < short["seconds"]["median"]
    assert short["value"] == 0.05
    assert 1 < short["peak_mib"] < 1000
    assert none["missing"] == "no-such-package is not installed"
    assert "seconds" not in none
    assert [target["met"] for target in found["targets"]] == [True, False, None]


def test_memory_of_what_a_side_starts_counts(settings):
    arguments = ["-c", "held = b'x' * 300_000_000"]
    side = Side(name="start", work="benchmarks.measurements.startup:make_start", options={"arguments": arguments})
    (found,) = measure(Comparison(title="", unit="", sides=[side]), settings, quiet)["sides"]
    assert 286 < found["peak_mib"] < 600


def test_a_side_that_fails_says_why(settings):
    side = Side(name="broken", work=f"{WORKS}:make_end", options={"code": 3})
    with pytest.raises(SideError, match=r"broken: .* exit code 3.*\n.*what went wrong"):
        measure(Comparison(title="", unit="", sides=[side]), settings, quiet)


def test_an_aim_that_the_interval_crosses_is_not_beyond_chance():
    comparison = Comparison(
        title="",
        unit="",
        sides=[sleeping("a", 1), sleeping("b", 1)],
        targets=[Target(side="b", of="ratio", bound="at most", value=value) for value in (1.8, 2.1, 3, 0.5)],
    )
    ratios = [1.5, 1.6, 1.7, 1.9, 2.0, 2.1, 2.2, 2.3]
    found = {
        name: [{"wall": wall, "cpu": wall, "peak_mib": 1, "value": None} for wall in walls]
        for name, walls in (("a", [1] * 8), ("b", ratios))
    }
    targets = summarise(comparison, found, turns=4, rounds=2)["targets"]
    assert [(target["met"], target["beyond_chance"]) for target in targets] == [
        (False, False),
        (True, False),
        (True, True),
        (False, True),
    ]
    assert targets[0]["interval"][0] < 1.8 < targets[0]["interval"][1]


def test_ratios_are_paired():
    comparison = Comparison(title="", unit="", sides=[sleeping("a", 1), sleeping("b", 1)])
    walls = {"a": [1, 10, 1, 10, 1, 10, 1, 10], "b": [2, 20, 2, 20, 2, 20, 2, 20]}  # a machine that is busy at times
    found = {
        name: [{"wall": wall, "cpu": wall, "peak_mib": 1, "value": None} for wall in values]
        for name, values in walls.items()
    }
    ratio = summarise(comparison, found, turns=8, rounds=1)["sides"][1]["ratio"]
    assert ratio["median"] == 2
    assert ratio["quartiles"] == [2, 2]
    assert ratio["interval"] == [2, 2]


def test_threads_reach_every_library():
    found = environment(3)
    assert {found[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"3"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (0.01234, "12.3 ms"), (0.000001, "1.00 µs"), (1234.5, "1,234 s")]
)
def test_times_are_told_with_three_digits(seconds, text):
    assert format_seconds(seconds) == text


def test_ratios_are_told_with_three_digits():
    assert [format_ratio(value) for value in (0.1234, 1.018, 57.34)] == ["0.123", "1.02", "57.3"]


def test_every_measurement_says_what_it_is():
    assert set(measurements.names()) >= {"keras_step", "loader", "loop_overhead", "metrics", "sampling", "startup"}
    for name in measurements.names():
        module = measurements.get(name)
        assert module.TITLE
        assert module.__doc__


def _sides(settings: Settings, name: str) -> list[Side]:
    found = measurements.get(name).make_comparisons(settings)
    for comparison in found:
        names = [side.name for side in comparison.sides]
        assert len(set(names)) == len(names)
        assert {target.side for target in comparison.targets} <= set(names)
    return [side for comparison in found for side in comparison.sides]


@pytest.mark.parametrize("name", measurements.names())
@pytest.mark.filterwarnings("default")  # peers warn as they like
def test_every_side_does_its_work(name, settings, monkeypatch):
    """In this process, where everything is imported already; the processes have their tests above."""
    settings = dataclasses.replace(settings, scratch=settings.scratch / "files")
    for side in _sides(settings, name):
        if side.why_missing() is None and not side.options.get("workers"):
            answer = timed(load(side.work, dict(side.options)))
            assert answer["wall"] > 0, side


@pytest.mark.filterwarnings("default")
def test_libraries_agree_on_the_frechet_distance(settings):
    sides = [side for side in _sides(settings, "metrics") if side.options.get("metric") == "frechet"]
    same = [side for side in sides if side.options["count"] == 80 and side.why_missing() is None]
    values = [load(side.work, dict(side.options))() for side in same]
    assert len(values) >= 2
    assert values == pytest.approx([values[0]] * len(values), rel=1e-3)


def test_keras_is_left_out_by_name_without_its_environment(settings):
    missing = [side.why_missing() for side in _sides(settings, "keras_step") if side.name.startswith("Keras")]
    assert len(missing) == 4
    assert all("--make-keras" in str(reason) for reason in missing)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=ROOT,
    )


@pytest.mark.slow
def test_command_measures_and_writes_a_page(tmp_path):
    process = run("sampling", "--quick", "--threads", "1", "--out", str(tmp_path))
    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / "sampling.json").read_text(encoding="utf-8"))
    assert result["machine"]["threads"] == 1
    assert result["machine"]["versions"]["torch"]
    assert [side["value"] for side in result["comparisons"][0]["sides"]] == [64, 64]
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| medgan |" in page
    assert "these numbers say nothing" in page
    assert (tmp_path / "sampling-0.png").read_bytes().startswith(b"\x89PNG")


def test_page_has_figures_of_growth_and_what_is_left_out(tmp_path, settings):
    sides = [sleeping(f"{place}", 1, place=place) for place in (1, 10)]
    sides.append(sleeping("100", 1, place=100, needs="no-such-package"))
    answers = {
        side.name: [{"wall": float(side.place or 0), "cpu": 1, "peak_mib": 1, "value": None}] * 8 for side in sides[:2]
    }
    comparison = Comparison(title="Growth", unit="step", sides=sides, axis="images")
    machine = {"date": "", "commit": "", "processor": "", "cores": 2, "threads": 1, "memory_gib": 1, "system": ""}
    machine |= {"load_before": 0, "load_after": 0, "python": "", "versions": {}, "keras_versions": None, "quick": False}
    found = summarise(comparison, answers, turns=8, rounds=1)
    (tmp_path / "scaling.json").write_text(
        json.dumps({"name": "scaling", "machine": machine, "comparisons": [found]}), encoding="utf-8"
    )
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert "| 10 | 10.0 s (10.0 s to 10.0 s) | 1.00 s | 1 | 10.0 [10.0, 10.0] |" in page
    assert "Left out: 100 (no-such-package is not installed)." in page
    assert "![Growth: seconds per step, medians and quartiles](scaling-0.png)" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "there is no measurement no-such"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--data", "no-such-folder"], "no such folder"),
        (["startup", "--keras-python", "no-such-python"], "no such file"),
    ],
)
def test_mistakes_are_told(arguments, message, tmp_path, capsys, monkeypatch):
    from benchmarks.__main__ import main

    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_measurement_that_fails_stops_no_other(tmp_path, capsys, monkeypatch):
    from benchmarks import __main__ as command

    done = []

    def measure_all(name, settings, folder):
        if name == "keras_step":
            raise SideError("broken")
        done.append(name)

    monkeypatch.setattr(command, "measure_all", measure_all)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "keras_step", "startup", "--out", str(tmp_path)])
    assert command.main() == 1
    assert done == ["startup"]
    assert "Not measured: keras_step." in capsys.readouterr().err


def test_half_an_environment_for_keras_is_made_anew(tmp_path, monkeypatch):
    from benchmarks import __main__ as command

    own = tmp_path / "bin" / "python"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\nexit 1\n")  # there is a Python, which has no Keras
    own.chmod(0o755)
    installed = []
    monkeypatch.setattr(command, "_KERAS", tmp_path)
    monkeypatch.setattr(command.venv, "create", lambda folder, **options: installed.append((folder, options["clear"])))
    own_run = command.subprocess.run
    monkeypatch.setattr(
        command.subprocess,
        "run",
        lambda line, **options: own_run(line, **options) if "-c" in line else installed.append(line[-1]),
    )
    assert command.find_keras(None, make=True) == own
    assert installed == [(tmp_path, True), "tensorflow-cpu"]
    own.write_text("#!/bin/sh\nexit 0\n")
    installed.clear()
    assert command.find_keras(None, make=True) == own
    assert installed == []
