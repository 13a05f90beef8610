"""Progress of a training: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["counting", "make_progress", "reading_progress"]

_SECONDS_BETWEEN_LINES = 10
_SPEED = "images_per_second"


class _StepColumn(ProgressColumn):
    """Steps done, of those in all as far as they are known."""

    def render(self, task: Task) -> Text:
        return Text(f"step {task.completed:,.0f}/" + ("?" if task.total is None else f"{task.total:,.0f}"))


@contextmanager
def make_progress(steps: int | Callable[[], int | None], start: int = 0) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show the lines of `MetricsLog` as they come.

    Args:
        steps: Step at which the training ends; of one whose plan changes, what returns it, or None while it is unknown.
        start: Step at which it starts.

    Yields:
        A function that takes a line; those without a speed, such as an evaluation's, are not shown.
    """
    console = Console(stderr=True)
    planned = steps if callable(steps) else lambda: steps
    if not console.is_terminal:
        last = -float("inf")

        def show_line(row: dict[str, Any]) -> None:
            nonlocal last
            if _SPEED not in row:
                return
            total = planned()
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES or row["step"] == total:
                last = time.monotonic()
                click.echo(
                    f"step {row['step']:,}/{'?' if total is None else f'{total:,}'}  {_describe(row, total)}", err=True
                )

        yield show_line
        return

    columns = (
        _StepColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=planned(), completed=start)

        def show_live(row: dict[str, Any]) -> None:
            if _SPEED not in row:
                return
            total = planned()
            progress.update(task, completed=row["step"], total=total, description=_describe(row, total))

        yield show_live


@contextmanager
def reading_progress() -> Iterator[Callable[[int, int], None]]:
    """Show how far a first reading of the data is; nothing if it takes no time.

    Yields:
        A function that takes the images read and the images in all.
    """
    console = Console(stderr=True)
    last = time.monotonic()
    if not console.is_terminal:

        def show_line(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                click.echo(f"reading images: {done:,}/{total:,}", err=True)

        yield show_line
        return

    with Progress(TextColumn("reading images"), BarColumn(bar_width=20), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task("reading", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show how many of some long pieces of work are done, and the time that the rest will take at that rate.

    Args:
        what: Name of the pieces, such as ``trainings``.

    Yields:
        A function that takes the number done, the number in all (0 where there is nothing to count yet), and a word on
        what has just been done.
    """
    console = Console(stderr=True)
    first: tuple[float, int] | None = None
    last = -float("inf")

    def describe(done: int, total: int, name: str) -> str:
        nonlocal first
        if not total:
            return name
        if first is None:
            first = (time.monotonic(), done)
        since, begun = first
        left = "" if done == begun else f"  {_clock((time.monotonic() - since) / (done - begun) * (total - done))} left"
        return f"{done:,}/{total:,} {what}{left}" + (f"  {name}" if name else "")

    if not console.is_terminal:

        def show_line(done: int, total: int, name: str) -> None:
            nonlocal last
            text = describe(done, total, name)
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES or done == total:
                last = time.monotonic()
                click.echo(text, err=True)

        yield show_line
        return

    with Progress(
        BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"), console=console
    ) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, name: bar.update(
            task, completed=done, total=total or None, description=describe(done, total, name)
        )


def _describe(row: dict[str, Any], steps: int | None) -> str:
    """Return speed, time left and losses in words; the figures of single classes are for the file."""
    speed = row[_SPEED]
    left = ""
    if steps is not None:
        left = f"{_clock((steps - row['step']) * row['images'] / max(row['step'], 1) / max(speed, 1e-9))} left  "
    losses = "  ".join(
        f"{network[0].upper()} {term} {value:.3f}"
        for (network, term), value in ((key.split("/"), value) for key, value in row.items() if key.count("/") == 1)
    )
    return f"{speed:.0f} images/s  {left}{losses}"


def _clock(seconds: float) -> str:
    """Return a time such as 1:05:09."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
