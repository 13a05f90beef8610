"""Curves of the losses of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgan.core.saving import write_aside
from medgan.pages import COLOURS, figure_png, make_figure

__all__ = ["plot_losses"]

_COLOURS = {"discriminator": COLOURS[1], "generator": COLOURS[0]}


def plot_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw every loss term over the images seen; not those of single classes.

    Args:
        rows: Lines of ``metrics.jsonl``.
        path: PNG file to create or to replace.

    Raises:
        CheckpointError: If it cannot be written.
    """
    names = {key for row in rows for key in row if key.count("/") == 1 and not key.startswith("evaluation/")}
    terms = sorted(names, key=lambda key: key.split("/")[::-1])
    kinds = list(dict.fromkeys(key.split("/", 1)[1] for key in terms))
    figure, panels = make_figure(max(1, len(kinds)), height=2.6)
    for panel, kind in zip(panels[:, 0], kinds, strict=False):
        for key in (key for key in terms if key.split("/", 1)[1] == kind):
            network = key.split("/", 1)[0]
            points = [(row["images"] / 1000, row[key]) for row in rows if key in row]
            panel.plot(*zip(*points, strict=True), color=_COLOURS.get(network), label=network, linewidth=1.2)
        panel.set_ylabel(kind)
        panel.legend(loc="upper right", frameon=False)
    panels[-1, 0].set_xlabel("thousand images seen")
    with write_aside(path) as temporary:
        temporary.write_bytes(figure_png(figure))
