"""Reports as pages: one self-contained HTML file, readable offline, on a phone, in the dark and on paper."""

from medgan.pages.figures import COLOURS, figure_png, make_figure
from medgan.pages.grids import make_grid, save_image
from medgan.pages.page import Code, Figure, Gallery, Note, Page, Section, Table, Text, markdown_table

__all__ = [
    "COLOURS",
    "Code",
    "Figure",
    "Gallery",
    "Note",
    "Page",
    "Section",
    "Table",
    "Text",
    "figure_png",
    "make_figure",
    "make_grid",
    "markdown_table",
    "save_image",
]
