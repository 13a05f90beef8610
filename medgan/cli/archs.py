"""``medgan archs``: which architectures there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from medgan import registry
from medgan.cli.summaries import Summary, summaries
from medgan.errors import PluginError
from medgan.registry import Plugin

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["archs", "print_plugins"]


@click.command()
@click.argument("name", required=False)
def archs(name: str | None) -> None:
    """List the architectures, or show the options and presets of one.

    A plugin that cannot be imported is listed with its error.
    """
    if name is not None:
        _show(name)
        return

    def describe(plugin: Plugin, summary: Summary | None) -> Sequence[str]:
        if summary is None:
            return "broken, see below", "", plugin.origin
        return summary.summary + (" (translates)" if summary.translates else ""), summary.presets, plugin.origin

    print_plugins(("what it is", "presets", "from"), describe)


def print_plugins(columns: Sequence[str], describe: Callable[[Plugin, Summary | None], Sequence[str]]) -> None:
    """Print a row for each architecture, its name first, then the errors of those that are broken.

    Args:
        columns: Headings, after that of the name.
        describe: Returns the cells of an architecture; its summary is None if it is broken.
    """
    broken = []
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    for plugin, found in summaries():
        if isinstance(found, PluginError):
            broken.append(str(found))
        table.add_row(plugin.name, *describe(plugin, None if isinstance(found, PluginError) else found))
    _print(table)
    for message in broken:
        click.echo(f"Broken: {message}")


def _show(name: str) -> None:
    """Print one architecture's options with the values of each preset."""
    architecture = registry.get(name)
    console = Console(soft_wrap=True)
    console.print(f"[bold]{architecture.name}[/bold]: {architecture.summary}")
    if architecture.reference:
        console.print(f"Reference: {architecture.reference}")
    for line in _sides(architecture):
        console.print(line)
    if architecture.translates:
        console.print("Translates: it makes images from source images")
    needs = "needed" if architecture.needs_labels else "optional"
    kinds = ", ".join(architecture.label_kinds)
    console.print(f"Labels: {kinds} ({needs})" if kinds else "Labels: none")
    table = Table(box=None, pad_edge=False)
    table.add_column("option", no_wrap=True)
    for preset in architecture.presets:
        table.add_column(preset + (" (default)" if preset == architecture.default_preset else ""))
    table.add_column("meaning")
    for item in architecture.Config.options():
        values = [json.dumps(getattr(preset, item.name)).strip('"') for preset in architecture.presets.values()]
        choices = f" One of: {', '.join(map(str, item.choices))}." if item.choices else ""
        table.add_row("--" + item.name.replace("_", "-"), *values, item.help + choices)
    _print(table)


def _sides(architecture: type[GAN]) -> list[str]:
    """Return a line on the sizes of images for each preset, or one for all if they are alike."""
    made: dict[str, str] = {}
    for preset, config in architecture.presets.items():
        sides = {dims: architecture.get_sides(config, dims) for dims in architecture.spatial_dims}
        made[preset] = "; ".join(some.describe(dims) for dims, some in sides.items() if some is not None)
    if len(set(made.values())) == 1:
        return [f"Makes: {next(iter(made.values()))}"]
    return [f"Makes with --preset {preset}: {what}" for preset, what in made.items()]


def _print(table: Table) -> None:
    """Print a table that is not squeezed; a narrower terminal folds its lines."""
    Console(width=max(Console().width, 120)).print(table)
