"""``medgan compare``: architectures side by side, under one budget."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from medgan.cli.options import given, make_options
from medgan.comparison.options import OF_ONE_TRAINING, MeasureConfig
from medgan.core.config import GANConfig
from medgan.runs import RunConfig

__all__ = ["compare"]


def _shared_options() -> list[click.Option]:
    """Return the options that all trainings share; of those of architectures the presets have the defaults."""
    own = [option for option in make_options(GANConfig) if option.name != "seed"]
    for option in own:
        option.show_default = False
        option.help = f"{option.help}  [default: each preset's]"
    seed = [option for option in make_options(GANConfig) if option.name == "seed"]
    run = make_options(RunConfig)
    for option in run:
        if option.name == "kimg":
            option.help = "Length of each training in thousand images."
        elif option.name == "budget":
            option.help = "Length of each training as time, from the first step: 45m, 90s, 2h or 1h30m."
    return [option for option in (*run, *seed, *own) if option.name not in OF_ONE_TRAINING]


_SHARED = _shared_options()
_MEASURE = make_options(MeasureConfig, short={"num": "-n"})


_ARCHS = click.Option(
    ["--archs"], required=True, metavar="A,B,C", help="Architectures, joined by commas; acgan:original names a preset."
)


@click.command(params=[_ARCHS, *_SHARED, *_MEASURE])
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as for `medgan fit`.")
@click.option(
    "--real-images/--no-real-images",
    default=True,
    show_default=True,
    help="Show held-out real images beside the samples; then the page is under the rules of the data.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="comparison",
    show_default=True,
    help="Folder of the results; where it holds the same comparison, that goes on.",
)
@click.pass_context
def compare(
    context: click.Context, /, archs: str, transforms: str | None, real_images: bool, out: Path, **_: Any
) -> None:
    """Train several architectures for the same time or images, and compare them.

    Each is trained in a process and a run folder of its own, on the same patients, with --budget or
    --kimg. The best model of each is then measured beside the same held-out patients. The same
    command again goes on where it stopped. Exit code 1 if a training failed.
    """
    from medgan.comparison import compare as run_comparison

    command = shlex.join(["medgan", *sys.argv[1:]])
    try:
        comparison = run_comparison(
            archs.split(","),
            out=out,
            options=given(context, _SHARED),
            config=MeasureConfig.from_dict(given(context, _MEASURE)),
            transforms=transforms,
            real_images=real_images,
            command=command,
            say=click.echo,
        )
    except KeyboardInterrupt:
        click.echo(f"\nStopped; what is finished is kept. The same command goes on: {command}", err=True)
        sys.exit(130)
    _show(comparison.facts)
    click.echo(f"Report: {comparison.page}")
    for name in comparison.failed:
        click.echo(f"{name} failed.", err=True)
    if comparison.failed:
        sys.exit(1)


def _show(facts: dict[str, Any]) -> None:
    """Print the tables and what was found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medgan.comparison.page import narrow_tables, summarise

    console = Console(width=max(Console().width, 150), highlight=False)
    for found in narrow_tables(facts):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in found.columns:
            table.add_column(column, overflow="fold")
        for row in found.rows:
            table.add_row(*map(Text, row))  # as it is: class names may hold brackets
        console.print(table)
        console.print()
    for sentence in summarise(facts):
        click.echo(sentence)
