"""How all measurements are made: sides in processes of their own that take turns, and ratios of their times.

Each side of a comparison prepares in a fresh process and waits. Then the sides take turns: one works while all
others sleep, and whoever is first in one turn is later in the next, so that a machine that becomes slower or faster
meanwhile treats all alike. After some turns all processes end, and fresh ones begin the next round. A ratio is
formed in each turn; what is told is its median over all turns, with quartiles and a 95 % interval of the median by
order statistics, which supposes no distribution.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]


class SideError(RuntimeError):
    """A side whose process ended before its work was done."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says.

    Attributes:
        quick: Smallest sizes and two turns, to see that all runs; the numbers say nothing.
        threads: Threads of each library.
        scratch: Folder for files that the sides read.
        keras_python: Python of an environment with TensorFlow; None if there is none.
        data: Folder of class folders with images; None for images that are made.
    """

    quick: bool
    threads: int
    scratch: Path
    keras_python: Path | None = None
    data: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those that are compared.

    Attributes:
        name: As it stands in the table.
        work: ``module:function``, which is called with the options and returns the work; see `benchmarks.worker`.
        options: Plain JSON values.
        units: How many units, such as steps or images, the work does at a time.
        needs: Distribution that has to be installed, or the side is named and left out.
        python: Interpreter of another environment; None for this one.
        missing: Why the side cannot take part; None if it can.
        place: Where it stands on the axis of a figure, for a comparison that has one.
    """

    name: str
    work: str
    options: Mapping[str, Any] = field(default_factory=dict)
    units: int = 1
    needs: str | None = None
    python: Path | None = None
    missing: str | None = None
    place: float | None = None

    def why_missing(self) -> str | None:
        """Return why the side cannot take part, or None."""
        if self.missing is None and self.needs is not None and installed(self.needs) is None:
            return f"{self.needs} is not installed"
        return self.missing


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is aimed at.

    Attributes:
        side: Name of the side.
        of: Its ``ratio`` to the first side, or its own ``seconds``.
        bound: ``at least`` or ``at most``.
        value: How much.
    """

    side: str
    of: Literal["ratio", "seconds"]
    bound: Literal["at least", "at most"]
    value: float

    def met_by(self, value: float) -> bool:
        """Whether a value is as aimed at."""
        return value >= self.value if self.bound == "at least" else value <= self.value


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Some sides that do the same, or the same in several sizes.

    Attributes:
        title: What is done, on what.
        sides: The first is the one that the others' times are divided by.
        unit: What a time is of: ``step``, ``image``, ``start``.
        targets: What is aimed at.
        turns: Turns in a round.
        rounds: Rounds, each with fresh processes.
        axis: What the sides differ by, if that is a number: the figure then has it as its axis.
    """

    title: str
    sides: Sequence[Side]
    unit: str
    targets: Sequence[Target] = ()
    turns: int = 7
    rounds: int = 3
    axis: str | None = None


def installed(package: str) -> str | None:
    """Return the version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a side's process, in which every library has so many threads."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths)}


class Process:
    """A side's process; a context that ends it."""

    def __init__(self, side: Side, threads: int) -> None:
        """Start it; it prepares meanwhile."""
        self.side = side
        python = sys.executable if side.python is None else str(side.python)
        self._errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", side.work, json.dumps(dict(side.options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(threads),
        )

    def wait_until_ready(self) -> None:
        """Wait until the side has prepared its work."""
        self._read()

    def turn(self) -> dict[str, float | None]:
        """Let the side do its work once; see `benchmarks.worker.timed`."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer: dict[str, float | None] = json.loads(self._read())
        return answer

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = "".join(self._errors.readlines()[-30:])
            raise SideError(f"{self.side.name}: the process ended with exit code {code}. It said:\n{said}")
        return line

    def close(self) -> None:
        """End the process: without input it ends by itself, and if it does not it is killed."""
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()


def measure(comparison: Comparison, settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return what a comparison gives, as plain JSON values.

    Args:
        comparison: What to compare.
        settings: How.
        tell: Is told how far the measurement is.

    Raises:
        SideError: If a side fails.
    """
    rounds, turns = (1, 2) if settings.quick else (comparison.rounds, comparison.turns)
    there = [side for side in comparison.sides if side.why_missing() is None]
    found: dict[str, list[dict[str, float | None]]] = {side.name: [] for side in there}
    for number in range(rounds):
        processes: list[Process] = []
        try:
            processes.extend(Process(side, settings.threads) for side in there)
            for process in processes:
                process.wait_until_ready()
            for process in processes:
                process.turn()  # the first takes memory, chooses algorithms and compiles
            for turn in range(turns):
                first = turn % len(processes)
                for process in processes[first:] + processes[:first]:
                    found[process.side.name].append(process.turn())
            tell(f"round {number + 1} of {rounds}")
        finally:
            for process in processes:
                process.close()
    return summarise(comparison, found, turns=turns, rounds=rounds)


def summarise(
    comparison: Comparison, found: Mapping[str, Sequence[Mapping[str, float | None]]], *, turns: int, rounds: int
) -> dict[str, Any]:
    """Return the figures of what the sides said, by side, as plain JSON values."""
    reference = next(iter(comparison.sides)).name
    sides = []
    for side in comparison.sides:
        row: dict[str, Any] = {"name": side.name, "missing": side.why_missing(), "place": side.place}
        if side.name in found:
            answers = found[side.name]
            walls, cpus = ([float(each[kind] or 0) / side.units for each in answers] for kind in ("wall", "cpu"))
            row |= {
                "seconds": spread(walls),
                "cpu_seconds": spread(cpus),
                "peak_mib": max(float(each["peak_mib"] or 0) for each in answers),
                "value": answers[-1]["value"],
            }
            if side.name != reference and reference in found:
                base = [float(each["wall"] or 0) / comparison.sides[0].units for each in found[reference]]
                row["ratio"] = spread([one / other for one, other in zip(walls, base, strict=True)])
        sides.append(row)
    by_name = {row["name"]: row for row in sides}
    targets = []
    for target in comparison.targets:
        measured = by_name[target.side].get(target.of, {})
        median, interval = measured.get("median"), measured.get("interval")
        met = None if median is None else target.met_by(median)
        targets.append(
            {
                "side": target.side,
                "of": target.of,
                "bound": target.bound,
                "value": target.value,
                "found": median,
                "interval": interval,
                "met": met,
                # Whether the whole interval is on the median's side of the bound.
                "beyond_chance": None if interval is None else all(target.met_by(end) == met for end in interval),
            }
        )
    return {
        "title": comparison.title,
        "unit": comparison.unit,
        "axis": comparison.axis,
        "turns": turns,
        "rounds": rounds,
        "sides": sides,
        "targets": targets,
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the quartiles and a 95 % interval of the median, which needs six values, with the values."""
    from scipy.stats import quantile_test

    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    interval = None
    if len(values) >= 6:
        found = quantile_test(values, q=quartiles[1], p=0.5).confidence_interval(0.95)
        interval = [float(found.low), float(found.high)]
    return {
        "median": quartiles[1],
        "quartiles": [quartiles[0], quartiles[2]],
        "interval": interval,
        "values": list(values),
    }
