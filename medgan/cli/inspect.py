"""``medgan inspect``: what is in a data set, before anyone trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medgan.cli.options import free_folder, given, make_options, report_option
from medgan.data.config import DataConfig

__all__ = ["inspect"]

_OPTIONS = [option for option in make_options(DataConfig) if option.name != "data"]


@click.command(params=[*_OPTIONS])
@click.argument("source")
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as for `medgan fit`.")
@report_option("inspection-NAME", "Folder for pictures and tables.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def inspect(
    context: click.Context, /, source: str, transforms: str | None, out: Path | None, as_json: bool, **_: Any
) -> None:
    """Look at images before training: counts, sizes, patients, duplicates, what cannot be used and why.

    SOURCE is what `medgan fit` takes as --data. Contact sheets, histograms and tables are written to
    a folder. Ends with exit code 2 if more images than --max-bad cannot be used.
    """
    from medgan.data import open_configured
    from medgan.inspection import check_folder, inspect_dataset
    from medgan.training import reading_progress

    config = DataConfig.from_dict({**given(context, _OPTIONS), "data": source})
    if out is not None:
        check_folder(out)  # before hours of reading
    with reading_progress() as progress:
        dataset = open_configured(config, transforms=transforms, progress=progress, check=False)
    out = out or free_folder(Path(f"inspection-{dataset.name}"))
    found = inspect_dataset(dataset, out)
    if as_json:
        click.echo(json.dumps({**found.facts, "concerns": found.concerns}, indent=2, ensure_ascii=False))
    else:
        _show(found.facts, found.concerns)
    click.echo(f"Pictures and tables: {out}", err=as_json)
    dataset.check_usable(config.max_bad, table=found.files["quarantine.csv"])


def _show(facts: dict[str, Any], concerns: list[str]) -> None:
    """Print the findings as a table."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, Text(text))  # as it is: file names may hold brackets

    row("source", facts["source"])
    row("images", f"{facts['images']:,} usable, {facts['unusable']['images']:,} not")
    for reason, count in facts["unusable"]["reasons"].items():
        row("", f"{count:,} × {reason}")
    if facts["ignored"]:
        row("left aside", _listed({suffix or "no extension": n for suffix, n in facts["ignored"].items()}))
    if facts["class_counts"]:
        row("classes", _listed(facts["class_counts"]))
    for name in ("depth", "height", "width"):
        if name in facts["sizes"]:
            size = facts["sizes"][name]
            row(name, f"{size['min']:,} to {size['max']:,} pixels, median {size['median']:,}")
    for name, counts in facts["values"].items():
        row(name.replace("_", " "), _listed(counts))
    patients = facts["patients"]
    if patients["known"]:
        per_patient = patients["images_per_patient"]
        text = f"{patients['known']:,}; {per_patient['mean']} images each, at most {per_patient['max']:,}; "
        text += f"{patients['share_of_images_with_siblings']:.0%} of the images share their patient with another"
        row("patients", text)
    else:
        row("patients", "unknown")
    same = facts["duplicates"]
    row(
        "duplicates",
        f"{same['identical_copies']:,} copies of another image, {same['near_pairs']:,} pairs nearly identical",
    )
    for name, found in facts["intensities"].items():
        row(
            f"grey of {name}",
            f"mean {found['mean']:.3f}, standard deviation {found['std']:.3f} ({found['images']:,} images)",
        )
    for concern in concerns:
        row("look at", concern)
    Console(width=max(Console().width, 100), highlight=False).print(table)


def _listed(counts: dict[str, int]) -> str:
    """Return counts in one line."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
