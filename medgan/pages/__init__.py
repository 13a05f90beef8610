"""Reports as pages: one self-contained HTML file, readable offline, on a phone, in the dark and on paper."""

from medgan.pages.figures import COLOURS, figure_png, make_figure
from medgan.pages.grids import make_comparison, make_grid, save_image, visible
from medgan.pages.page import Code, Figure, Gallery, Note, Page, Section, Table, Text, markdown_table
from medgan.pages.sheets import Scale, Tile, make_sheet

__all__ = [
    "COLOURS",
    "Code",
    "Figure",
    "Gallery",
    "Note",
    "Page",
    "Scale",
    "Section",
    "Table",
    "Text",
    "Tile",
    "figure_png",
    "make_comparison",
    "make_figure",
    "make_grid",
    "make_sheet",
    "markdown_table",
    "save_image",
    "visible",
]
