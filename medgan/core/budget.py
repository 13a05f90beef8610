"""A training's length from the time that it may take. Nothing here imports torch."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from medgan.errors import ConfigError

__all__ = ["Budget", "format_duration", "parse_duration"]

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")

_WARM_UP = 4  # steps whose time is not representative: memory is allocated, kernels are chosen
_CALIBRATION = 16  # steps after them that a first plan is made from
_SHARE = 0.05  # of the time, before which no plan is final
_AFTERWARDS = 2.0  # seconds kept for what no callback's calls tell of: a first checkpoint, figures


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``45m``, ``90s``, ``2h`` or ``1h30m``.

    Raises:
        ConfigError: If the text is something else, or no time at all.
    """
    match = _DURATION.fullmatch(text.strip())
    parts = match.groups() if match else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, _UNITS.values(), strict=False) if part)
    if seconds <= 0:
        raise ConfigError(f"{text!r} is no duration. Type for example 45m, 90s, 2h or 1h30m.")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration as `parse_duration` takes it, to a whole second."""
    rest = max(0, round(seconds))
    words = ""
    for unit, length in _UNITS.items():
        number, rest = divmod(rest, int(length))
        words += f"{number}{unit}" if number else ""
    return words or "0s"


class Budget:
    """Wall-clock time for a training, and the number of steps that it is enough for.

    The first steps are not looked at: they are slower. From some after them on, the number of steps in all is what has
    been done and what fits into the rest of the time at the mean pace so far, with the time of all callbacks, and what
    they will take at the end: each callback as long as the longest of its calls.

    Args:
        seconds: The time, more than 0.
        started: Reading of `clock` from which on the time counts; None for now.
        clock: Seconds that pass.

    Attributes:
        seconds: The time.
        total_steps: The number of steps that was planned last; None before the first plan.
        step_seconds: The mean time of a step that it was planned with; None before.

    Example:
        >>> now = [0.0]
        >>> budget = Budget(102.0, clock=lambda: now[0])
        >>> budget.begin(0)
        >>> for step in range(1, 21):
        ...     now[0] += 0.5
        ...     planned = budget.plan(step)
        >>> planned  # 102 s but for the 2 that are kept, at half a second each
        200
    """

    def __init__(
        self, seconds: float, *, started: float | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start the clock."""
        if not (math.isfinite(seconds) and seconds > 0):
            raise ConfigError(f"A budget must be some seconds, got {seconds}.")
        self.seconds = float(seconds)
        self.total_steps: int | None = None
        self.step_seconds: float | None = None
        self._clock = clock
        self._started = clock() if started is None else started
        self._before = 0.0
        self._longest: dict[int, float] = {}
        self._first = 0
        self._prepared = 0.0
        self._warm: tuple[int, float] | None = None  # the step from which the pace is measured, and when it was done

    @property
    def spent(self) -> float:
        """Seconds that are gone, with those before a resume."""
        return self._before + self._clock() - self._started

    @property
    def kept(self) -> float:
        """Seconds that are kept for the end."""
        return _AFTERWARDS + sum(self._longest.values())

    def state_dict(self) -> dict[str, float]:
        """Return what a resume needs."""
        return {"seconds": self.seconds, "spent": self.spent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count the time that was spent before, too."""
        self._before = float(state["spent"])

    def check(self) -> None:
        """Raise if no time is left to begin with.

        Raises:
            ConfigError: If so.
        """
        if self.spent < self.seconds:
            return
        if self._before:
            raise ConfigError(
                f"The budget of {format_duration(self.seconds)} is spent: the training before took "
                f"{format_duration(self._before)}. Type a longer --budget to train on."
            )
        raise self.too_short(0)

    def begin(self, step: int) -> None:
        """Say that the training goes on from a step."""
        self._first = step
        self._prepared = self.spent

    @contextmanager
    def watching(self, callback: int) -> Iterator[None]:
        """Measure a call of the callback of this number."""
        start = self._clock()
        try:
            yield
        finally:
            self._longest[callback] = max(self._longest.get(callback, 0.0), self._clock() - start)

    def plan(self, step: int) -> int | None:
        """Return the number of steps in all, as far as can be told after a step.

        Args:
            step: Steps done.

        Returns:
            At least `step`; None while it cannot be told yet; 0 if the time ran out before that.
        """
        # Several processes with accelerators ask only every some steps, and so perhaps not after this one.
        if self._warm is None and step - self._first >= _WARM_UP:
            self._warm = step, self._clock()
        left = self.seconds - self.spent - self.kept
        if self._warm is None or step - self._warm[0] < _CALIBRATION:
            if left > 0:
                return None
            return step if self._before else 0
        if self.total_steps is None and left <= 0 and not self._before:
            return 0
        self.step_seconds = max((self._clock() - self._warm[1]) / (step - self._warm[0]), 1e-9)
        return step + max(0, math.floor(left / self.step_seconds + 1e-6))

    def may_fix(self) -> bool:
        """Whether enough of the time has been seen to make the plan final."""
        return self.spent >= _SHARE * self.seconds

    def check_room(self, seconds: float, *, what: str, option: str) -> None:
        """Raise if something that was asked for does not fit into what is left.

        Args:
            seconds: How long it takes.
            what: What it is, such as ``evaluation``.
            option: What asks for it, as one types it.

        Raises:
            ConfigError: If so; it names a budget that is long enough.
        """
        needed = self.spent + self.kept + seconds
        if needed <= self.seconds:
            return
        raise ConfigError(
            f"The budget of {format_duration(self.seconds)} is too short for one {what}, which {option} asks for: "
            f"{self.spent:.1f} s are gone, {self.kept:.1f} s are kept for saving, and one {what} takes about "
            # A quarter more, as the next try may be slower.
            f"{seconds:.1f} s. Type --budget {format_duration(math.ceil(1.25 * needed))} or more, or leave "
            f"{option.split()[0]} out."
        )

    def too_short(self, step: int) -> ConfigError:
        """Return the error of a budget that is over before its training can be planned.

        Args:
            step: Steps done.
        """
        spent = self.spent
        needed = 2 * spent + 60
        if step:
            # What was prepared, and a call of each callback, is not done again with every step.
            steps = max(0.0, spent - self._prepared - sum(self._longest.values()))
            missing = max(0.0, (_WARM_UP + _CALIBRATION) / step - 1)
            # At the pace so far, which began slowly; half as much again for a training that outlasts its calibration.
            needed = 1.5 * (spent + missing * steps + self.kept)
        return ConfigError(
            f"The budget of {format_duration(self.seconds)} is too short: reading the data, preparing and {step} "
            f"{'step' if step == 1 else 'steps'} took {spent:.1f} s, {self.kept:.1f} s are kept for saving, and the "
            f"first {_WARM_UP + _CALIBRATION} steps are needed to plan the others. Type --budget "
            f"{format_duration(math.ceil(needed))} or more."
        )
