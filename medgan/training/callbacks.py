"""Callbacks of a training; each can be left out without changing a weight."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from medgan.core.budget import Budget, format_duration
from medgan.core.distribution import gather, mean_of_processes
from medgan.core.gan import GAN
from medgan.core.saving import write_aside, write_state
from medgan.core.spec import Batch
from medgan.core.trainer import Callback, Metrics, Trainer
from medgan.errors import CheckpointError, TrainingDivergedError
from medgan.pages import make_comparison, make_grid, save_image

__all__ = ["BudgetNotes", "Checkpoint", "MetricsLog", "SampleGrid", "StopOnSignal", "TrainingStopped", "drop_rows"]


class TrainingStopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user asked for an end, and the step in progress is done."""


class MetricsLog(Callback):
    """Appends the means of some steps to a file of JSON lines.

    A mean is over the steps that have the figure: not all have one of a lazy penalty, or an image of each class. The
    figures of `Trainer.class_metrics` are named ``discriminator/label/NORMAL``.

    With several processes each of them needs this callback: means are over all, and the main one writes.

    Args:
        path: The file; lines from beyond the step that a resume starts at are dropped.
        every: Steps in a mean.
        report: Called with each line, for example to show it; with those of `write`, too.

    Attributes:
        rows: All lines.
    """

    def __init__(self, path: Path, *, every: int = 20, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Store the arguments."""
        self.path = path
        self.every = every
        self.report = report
        self.rows: list[dict[str, Any]] = []

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Read what is there already, and start the clock."""
        if trainer.accelerator.is_main_process and self.path.is_file():
            self.rows = drop_rows(self.path, trainer.step)
        self._restart(trainer)

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Add to the mean, and write it when it is full."""
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1
        for name, values in trainer.class_metrics.items():
            known = values.isfinite()
            both = torch.stack([values.where(known, 0), known.to(values)])
            self._classes[name] = self._classes[name] + both if name in self._classes else both
        if trainer.step % self.every == 0:
            self._write(trainer)

    def on_end(self, trainer: Trainer[Any]) -> None:
        """Write what is left."""
        if self._counts:
            self._write(trainer)

    def on_diverged(self, trainer: Trainer[Any], error: TrainingDivergedError) -> bool:
        """Forget what is not finite, if the training goes on; that is for others to say."""
        self._restart(trainer)
        return False

    def write(self, trainer: Trainer[Any], figures: Mapping[str, float]) -> None:
        """Append a line of its own for figures that another callback computed.

        Args:
            trainer: The training.
            figures: By name, such as ``evaluation/score``.

        Raises:
            CheckpointError: If it cannot be written.
        """
        self._append({"step": trainer.step, "images": trainer.images_seen, **figures})

    def _write(self, trainer: Trainer[Any]) -> None:
        """Append a line; the only place where an accelerator has to be waited for.

        Raises:
            CheckpointError: If it cannot be written.
        """
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        for figures in gather(trainer.accelerator, self._figures(trainer)):
            for name, (total, count) in figures.items():
                totals[name] = totals.get(name, 0) + total
                counts[name] = counts.get(name, 0) + count
        if not trainer.accelerator.is_main_process:
            self._restart(trainer)
            return
        means = {name: total / counts[name] for name, total in totals.items()}
        seconds = time.perf_counter() - self._time
        row: dict[str, Any] = {
            "step": trainer.step,
            "images": trainer.images_seen,
            "images_per_second": round((trainer.images_seen - self._images) / max(seconds, 1e-9), 2),
            **{name: round(value, 6) for name, value in means.items()},
        }
        self._append(row)
        self._restart(trainer)

    def _append(self, row: dict[str, Any]) -> None:
        """Add a line to the file, and report it."""
        self.rows.append(row)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({name: _jsonable(value) for name, value in row.items()}) + "\n")
        except OSError as error:
            raise CheckpointError(f"{self.path} could not be written ({error}).") from error
        if self.report is not None:
            self.report(row)

    def _figures(self, trainer: Trainer[Any]) -> dict[str, tuple[float, float]]:
        """Return the sum and the number of each figure in this process; of each class, if it had an image."""
        sums = torch.stack(list(self._sums.values())).tolist()
        figures: dict[str, tuple[float, float]] = {
            name: (value, self._counts[name]) for name, value in zip(self._sums, sums, strict=True)
        }
        if not self._classes or trainer.data.labels is None:
            return figures
        sums, counts = torch.stack(list(self._classes.values()), dim=1).tolist()
        for figure, totals, numbers in zip(self._classes, sums, counts, strict=True):
            for name, total, count in zip(trainer.data.labels.names, totals, numbers, strict=True):
                if count:
                    figures[f"{figure}/{name}"] = (total, count)
        return figures

    def _restart(self, trainer: Trainer[Any]) -> None:
        """Begin a new mean."""
        self._sums: Metrics = {}
        self._counts: dict[str, int] = {}
        self._classes: Metrics = {}
        self._images = trainer.images_seen
        self._time = time.perf_counter()


def _jsonable(value: Any) -> Any:
    """Return a figure as JSON has it, which knows neither NaN nor infinity."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def drop_rows(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines of a log of JSON lines that are of later steps, which a resume does again.

    Half a line, as a killed process leaves it, is dropped, too.

    Args:
        path: The file.
        step: The last step whose lines stay.

    Returns:
        What stays.
    """
    rows, lines = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and "step" in row and row["step"] <= step:
                rows.append(row)
                lines.append(line + "\n")
    with write_aside(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return rows


class BudgetNotes(Callback):
    """Says what a budget is enough for: when that is known, and when it is fixed.

    Args:
        budget: The budget of the training.
        say: Takes each line.
    """

    def __init__(self, budget: Budget, say: Callable[[str], None]) -> None:
        """Store the arguments."""
        self.budget = budget
        self.say = say
        self._planned = False
        self._fixed = False

    def on_start(self, trainer: Trainer[Any]) -> None:
        """A resumed training may have a fixed length."""
        if trainer.total_steps is not None:
            self._planned = self._fixed = True
            self.say(f"Budget: the length was fixed before, {trainer.total_steps:,} steps.")

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Say what is new."""
        budget = self.budget
        if not self._planned and budget.total_steps is not None and budget.step_seconds is not None:
            self._planned = True
            self.say(
                f"Budget: {format_duration(budget.seconds)}, of which {format_duration(budget.spent)} are gone and "
                f"{format_duration(budget.kept)} are kept for the end. About {budget.total_steps:,} steps of "
                f"{budget.step_seconds:.3g} s; adjusted as the training goes on."
            )
        ended = trainer.step == trainer.total_steps
        if not self._fixed and trainer.total_steps is not None and trainer.config.lr_decay and not ended:
            self._fixed = True
            self.say(
                f"Budget: the learning rates begin to fall; the length is now fixed, {trainer.total_steps:,} steps."
            )


class SampleGrid(Callback):
    """Writes a labelled grid of samples, always of the same seeds.

    Args:
        gan: The model in training.
        folder: Folder of the pictures, ``000500.png`` for step 500.
        every: Steps between pictures.
        per_class: Images of each class; of data without labels four times as many.
        shown: Images with the sources that are translated, for an architecture that does so.
    """

    def __init__(self, gan: GAN, folder: Path, *, every: int, per_class: int = 16, shown: Batch | None = None) -> None:
        """Store the arguments."""
        self.gan = gan
        self.folder = folder
        self.every = every
        self.per_class = per_class
        self.shown = shown
        self.latest: Path | None = None

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Show where it starts from."""
        self.write(trainer.step)

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Write a picture when it is time."""
        if trainer.step % self.every == 0:
            self.write(trainer.step)

    def on_end(self, trainer: Trainer[Any]) -> None:
        """Show where it ended."""
        if trainer.step % self.every:
            self.write(trainer.step)

    def write(self, step: int) -> Path:
        """Write the picture of a step, and return its path."""
        self.latest = self.folder / f"{step:06d}.png"
        if self.shown is not None and self.shown.sources is not None:
            made = self.gan.sample(labels=self.shown.labels, sources=self.shown.sources)
            truth = {"truth": self.shown.images} if self.gan.data.paired else {}
            picture = make_comparison({"source": self.shown.sources, "translated": made.images, **truth})
        else:
            classes = self.gan.data.num_labels
            picture = make_grid(self.gan.sample(self.per_class * (classes or 4)), self.gan.data)
        save_image(picture, self.latest)
        return self.latest


class Checkpoint(Callback):
    """Writes all that a resume needs, and the model so far; never a broken one.

    With several processes each of them needs this callback; the main one writes.

    Args:
        gan: The model in training.
        path: File of the training's state.
        model: Folder of the model.
        every: Steps between checkpoints.
    """

    def __init__(self, gan: GAN, path: Path, model: Path, *, every: int) -> None:
        """Store the arguments."""
        self.gan = gan
        self.path = path
        self.model = model
        self.every = every
        self._written: tuple[int, int | None] | None = None

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Write when it is time."""
        if trainer.step % self.every == 0:
            self.write(trainer)

    def on_end(self, trainer: Trainer[Any]) -> None:
        """Write the last state."""
        self.write(trainer)

    def write(self, trainer: Trainer[Any]) -> None:
        """Write the state and the model, unless those of this step are there already.

        Raises:
            TrainingDivergedError: If a weight is NaN or infinite; nothing is written then.
            CheckpointError: If they cannot be written.
        """
        # With a budget it may be known only after a step that it was the last one.
        current = (trainer.step, trainer.total_steps)
        if self._written == current:
            return
        trainer.check_finite()
        state = trainer.state_dict()
        if trainer.accelerator.is_main_process:
            facts = {
                "architecture": self.gan.name,
                "data": self.gan.data.to_dict(),
                "fingerprint": self.gan.provenance.get("fingerprint"),
            }
            write_state(self.path, facts | {"trainer": state})
            self.gan.save(self.model)
        self._written = current


class StopOnSignal(Callback):
    """Ends a training after the step in progress when Ctrl-C or a termination request comes.

    A second Ctrl-C ends it at once. Use it as a context manager around the training as well.
    """

    def __init__(self) -> None:
        """Nothing came yet."""
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for the duration of a block."""
        signals = [signal.SIGINT, signal.SIGTERM]
        try:
            before = {number: signal.signal(number, self._ask) for number in signals}
        except ValueError:
            # Only the main thread may set handlers; elsewhere Ctrl-C is not ours to take.
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Raise `TrainingStopped` if a signal came; in several processes at the same step, see `Trainer.may_wait`."""
        asked = self.asked
        if trainer.accelerator.num_processes > 1:
            if not trainer.may_wait():
                return
            flag = torch.tensor([float(asked)], device=trainer.device)
            asked = bool(mean_of_processes(trainer.accelerator, flag).item())
        if asked:
            raise TrainingStopped

    def _ask(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
