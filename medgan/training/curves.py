"""Curves of a training: its losses, and its quality by the patients that were held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medgan.core.saving import write_aside
from medgan.pages import COLOURS, figure_png, make_figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["plot_losses", "plot_quality"]

_COLOURS = {"discriminator": COLOURS[1], "generator": COLOURS[0]}
_NOT_LOSSES = ("evaluation/", "health/")
_COLUMNS = 2

# What `plot_quality` draws: how the log names it, what the axis says, and what real images reach.
_QUALITY = (
    ("evaluation/score", "score ↑", None),
    ("evaluation/coverage", "coverage ↑", None),
    ("evaluation/kernel_distance", "kernel distance ↓", None),
    ("evaluation/class_consistency", "class consistency ↑", "evaluation/real_class_consistency"),
    ("health/lost_variety", "lost variety → 0", None),
    ("health/overfitting", "overfitting ↓", None),
    ("health/copies", "share of copies ↓", None),
    ("health/duplicates", "share of duplicates ↓", None),
)

_Rows = Sequence[Mapping[str, Any]]


def plot_losses(rows: _Rows, path: Path) -> None:
    """Draw every loss term, and what else is known of each step, over the images seen; not those of single classes.

    Where a term has spikes, its axis is logarithmic beyond its ordinary values, so that both can be seen.

    Args:
        rows: Lines of ``metrics.jsonl``.
        path: PNG file to create or to replace.

    Raises:
        CheckpointError: If it cannot be written.
    """
    names = {key for row in rows for key in row if key.count("/") == 1 and not key.startswith(_NOT_LOSSES)}
    terms = sorted(names, key=lambda key: key.split("/")[::-1])
    kinds = list(dict.fromkeys(key.split("/", 1)[1] for key in terms))
    figure, panels = _make_panels(len(kinds))
    for panel, kind in zip(panels, kinds, strict=False):
        shown = [key for key in terms if key.split("/", 1)[1] == kind]
        for key in shown:
            network = key.split("/", 1)[0]
            panel.plot(*_points(rows, key), color=_COLOURS.get(network), label=network, linewidth=1.2)
        _show_spikes(panel, np.concatenate([_points(rows, key)[1] for key in shown]))
        panel.set_ylabel(kind)
        panel.legend(loc="best", frameon=False)
    _write(figure, path)


def plot_quality(rows: _Rows, path: Path) -> bool:
    """Draw what the evaluations of a training found, over the images seen: as a whole, and for each class.

    The best score has a dot; dashed is what held-out real images reach.

    Args:
        rows: Lines of ``metrics.jsonl``.
        path: PNG file to create or to replace.

    Returns:
        Whether there was an evaluation to draw; without one, no file is written.

    Raises:
        CheckpointError: If it cannot be written.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    drawn = []
    for name, title, real in _QUALITY:
        shown = [key for key in keys if key == name or key.startswith(f"{name}/")]
        if shown and (not title.startswith("share") or any(_points(rows, key)[1].any() for key in shown)):
            drawn.append((name, title, real, shown))
    if not drawn:
        return False
    figure, panels = _make_panels(len(drawn))
    for panel, (name, title, real, shown) in zip(panels, drawn, strict=False):
        classes = [key for key in shown if key != name]
        legible = len(classes) < len(COLOURS)
        for number, key in enumerate([*classes, name] if name in shown else classes):
            images, values = _points(rows, key)
            label = key.removeprefix(name).lstrip("/") or "all"
            colour = "black" if label == "all" else COLOURS[number] if legible else "#bbbbbb"
            named = len(shown) > 1 and (legible or label == "all")
            panel.plot(images, values, color=colour, label=label if named else None, linewidth=1.2)
            if real is not None and len(found := _points(rows, key.replace(name, real, 1))[1]):
                panel.axhline(found[-1], color=colour, linestyle="--", linewidth=0.8)
            if name.endswith("/score") and np.isfinite(values).any():
                best = int(np.nanargmax(values))
                panel.plot(images[best], values[best], "o", color=colour, label=f"best, {values[best]:.3g}")
        _show_spikes(panel, np.concatenate([_points(rows, key)[1] for key in shown]))
        panel.set_ylabel(title)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(loc="best", frameon=False)
    _write(figure, path)
    return True


def _make_panels(number: int) -> tuple[Any, list[Any]]:
    """Return a figure with some panels in rows of two, the unused one hidden, and the lowest ones with their axis."""
    number = max(1, number)
    columns = min(_COLUMNS, number)
    figure, found = make_figure(-(-number // columns), columns, width=7.0 if columns == 1 else 11.0, height=2.6)
    panels = list(found.flat)
    for panel in panels[number:]:
        panel.set_visible(False)
    for panel in panels[:number][-columns:]:
        panel.set_xlabel("thousand images seen")
    return figure, panels


def _points(rows: _Rows, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return thousands of images seen, and the values of a term there."""
    points = [(row["images"] / 1000, row[key]) for row in rows if row.get(key) is not None]
    images, values = np.array(points, dtype=float).reshape(-1, 2).T
    return images, values


def _show_spikes(panel: Any, values: NDArray[np.float64]) -> None:
    """Make an axis logarithmic beyond the ordinary values if single ones would press all others to a line."""
    sizes = np.abs(values[np.isfinite(values)])
    ordinary = float(np.quantile(sizes, 0.9)) if len(sizes) else 0.0
    if ordinary and sizes.max() > 10 * ordinary:
        panel.set_yscale("symlog", linthresh=ordinary)


def _write(figure: Any, path: Path) -> None:
    with write_aside(path) as temporary:
        temporary.write_bytes(figure_png(figure))
