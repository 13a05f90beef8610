"""Figures for pages, drawn without a screen."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure
    from numpy.typing import NDArray

__all__ = ["COLOURS", "figure_png", "make_figure"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b5b5b", "#b8a400")
"""Colours that differ for colour-blind readers and in grey print (after Okabe and Ito, 2008)."""


def make_figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 3.2
) -> tuple[MatplotlibFigure, NDArray[Any]]:
    """Return an empty figure with its panels.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        width: Of the whole, in inches.
        height: Of one row, in inches.

    Returns:
        The figure and its panels, an object array of shape ``(rows, columns)``.
    """
    from cycler import cycler
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False))
    for panel in panels.flat:
        panel.set_prop_cycle(cycler(color=COLOURS))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def figure_png(figure: MatplotlibFigure, *, dpi: int = 130) -> bytes:
    """Return a figure as the bytes of a PNG file.

    Args:
        figure: From `make_figure`.
        dpi: Dots an inch.
    """
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, format="png")
    return stream.getvalue()
