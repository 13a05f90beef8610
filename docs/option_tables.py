"""Tables of options in the reference, made from the declarations that make flags and help pages, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from medgan.cli.options import make_options
from medgan.core import GAN
from medgan.core.config import Config, Option

__all__ = ["setup"]


class OptionsTable(SphinxDirective):
    """``{options-table} module:Class``: the options of a config, or of an architecture with those of its presets.

    Options that a base class declares alike are left to the table of that class. Of an architecture there is a column
    a preset, and an option is listed as well where a preset has another value than the base class.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module, _, name = self.arguments[0].partition(":")
        found = getattr(import_module(module), name)
        self.env.note_dependency(str(sys.modules[module].__file__))
        presets = dict(found.presets) if issubclass(found, GAN) else {}
        config: type[Config] = found.Config if presets else found
        flags = {option.name: option for option in make_options(config)}
        values = [*presets.values()] or [config()]
        columns = [name + (" (default)" if name == found.default_preset else "") for name in presets] or ["default"]
        rows = [
            [
                _code(flags[item.name].opts[0]),
                *_values(item, [getattr(value, item.name) for value in values]),
                _text(f"{item.help} [{_kind(item)}]"),
            ]
            for item in _own(config, values)
        ]
        return [_table(["option", *columns, "meaning and values"], rows)]


def _own(config: type[Config], values: Sequence[Config]) -> list[Option]:
    """Return the options that the table of no base class tells all of."""
    bases = {item.name: item for base in config.__bases__ if base is not Config for item in base.options()}
    return [
        item
        for item in config.options()
        if bases.get(item.name) != item or any(getattr(value, item.name) != item.default for value in values)
    ]


def _kind(item: Option) -> str:
    """Return what values an option takes."""
    if item.choices:
        listed = [*map(str, item.choices), *(["none"] if item.optional else [])]
        return ", ".join(f"`{choice}`" for choice in listed)
    words = {int: "whole number", float: "number", str: "text", bool: "yes or no"}[item.type]
    bounds = [f"{sign} {bound:g}" for sign, bound in (("≥", item.ge), ("≤", item.le)) if bound is not None]
    whole = [f"{words} {' and '.join(bounds)}".rstrip(), *(["`none`"] if item.optional else [])]
    return " or ".join(whole)


def _values(item: Option, values: Sequence[Any]) -> list[nodes.paragraph | int]:
    """Return a cell a value; equal ones share one, of which the number of columns that it takes is told before it."""
    if all(value == values[0] for value in values):
        return [len(values), _value(item, values[0])]
    return [_value(item, value) for value in values]


def _value(item: Option, value: Any) -> nodes.paragraph:
    """Return a value as it is typed."""
    if value is None:
        return _text("—")
    if item.type is bool:
        return _text("yes" if value else "no")
    return _code(f"{value:g}" if item.type is float else str(value))


def _code(text: str) -> nodes.paragraph:
    """Return a cell of code."""
    return nodes.paragraph("", "", nodes.literal(text, text))


def _text(text: str) -> nodes.paragraph:
    """Return a cell of text with code between backticks."""
    parts = text.strip().split("`")
    return nodes.paragraph(
        "", "", *(nodes.literal(part, part) if number % 2 else nodes.Text(part) for number, part in enumerate(parts))
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[nodes.paragraph | int]]) -> nodes.table:
    """Return a table; a number in a row says how many columns the next cell takes."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in columns), cols=len(columns))
    head = nodes.row("", *(nodes.entry("", nodes.paragraph("", column)) for column in columns))
    group += nodes.thead("", head)
    body = nodes.tbody()
    for row in rows:
        made, span = nodes.row(), 1
        for cell in row:
            if isinstance(cell, int):
                span = cell
                continue
            made += nodes.entry("", cell, **({"morecols": span - 1} if span > 1 else {}))
            span = 1
        body += made
    group += body
    return nodes.table("", group, classes=["options-table"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("options-table", OptionsTable)
    return {"parallel_read_safe": True}
