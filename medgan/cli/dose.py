"""``medgan dose``: what the images took, and what acquiring others like them would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medgan.cli.options import free_folder, report_option
from medgan.cli.synthetic import folder_name
from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.dose import DoseStatement

__all__ = ["dose"]

_SHOWN = 10  # problems that are printed


@click.command()
@click.argument("source")
@click.option("-n", "--num", type=click.IntRange(min=1), default=1000, show_default=True, help="How many images.")
@click.option("--exam", metavar="NAME", help="State a published dose, too, such as chest-pa-adult; `list` shows them.")
@click.option(
    "--coefficient",
    metavar="X|LOW-HIGH|NAME",
    help="Turns a measured product into an effective dose: a number of yours, or a published one; `list` shows these.",
)
@click.option("--coefficient-unit", metavar="UNIT", help="Unit of your number, such as 'mSv/(Gy.cm2)'.")
@click.option("--citation", metavar="TEXT", help="Who published your number: a DOI, or the number of a report.")
@report_option("dose-NAME", "Folder of the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the statement as JSON.")
def dose(
    source: str,
    num: int,
    exam: str | None,
    coefficient: str | None,
    coefficient_unit: str | None,
    citation: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Read the doses of DICOM files, and state what acquiring N such images would take.

    SOURCE is a folder of DICOM images and dose reports, or a run folder, whose data is read. What is measured on these
    files stands apart from what is published. The avoided dose is 0, unless the exposures would otherwise have been
    made. Writes dose.json, dose.html, doses.csv and problems.csv.
    """
    from medgan.data.dose import read_doses
    from medgan.dose import PUBLISHED, make_coefficient, state_dose, write_dose_report
    from medgan.runs import is_run, read_config
    from medgan.training import counting

    if "list" in (exam, coefficient):
        _list(as_json=as_json)
        return
    if coefficient is None and (coefficient_unit is not None or citation is not None):
        raise click.UsageError("--coefficient-unit and --citation are for a --coefficient, and there is none.")
    factor = None if coefficient is None else make_coefficient(coefficient, coefficient_unit, citation)
    place = source
    if is_run(Path(source).expanduser()):
        place = str(read_config(Path(source).expanduser() / "config.json").get("data"))
        if not Path(place).expanduser().is_dir():
            raise DataError(f"{source} was trained on {place}, which is no folder here. Give the folder of its images.")
    with counting("files") as progress:
        readings = read_doses(place, progress=lambda done, total: progress(done, total, ""))
    if exam is None and not readings.values and not readings.problems and not readings.images:
        others = ", ".join(f"{count:,} x {name}" for name, count in readings.others.items()) or "none"
        raise DataError(
            f"{place} holds no DICOM image and no dose report (other files: {others}), so nothing can be measured. To "
            f"state a published dose, add --exam: {', '.join(PUBLISHED)}."
        )
    statement = state_dose(readings, images=num, exam=exam, coefficient=factor)
    written = write_dose_report(readings, statement, out or free_folder(Path(f"dose-{folder_name(source)}")))
    if as_json:
        click.echo(json.dumps(statement.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(statement)
        if not statement.equivalents:
            click.echo(f"No dose equivalent can be stated. A published one needs --exam: {', '.join(PUBLISHED)}.")
    click.echo(f"Report: {written['dose.html']}", err=as_json)


def _list(*, as_json: bool) -> None:
    """Print the published doses and coefficients, with their sources."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medgan.dose import COEFFICIENTS, PUBLISHED

    if as_json:
        found = {
            "exams": {name: asdict(dose) for name, dose in PUBLISHED.items()},
            "coefficients": {name: asdict(known) for name, known in COEFFICIENTS.items()},
        }
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "for", "what", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for name, dose in PUBLISHED.items():
        typical = "" if dose.typical is None else f"{dose.typical:g}, "
        what = f"{dose.quantity} {typical}{dose.low:g} to {dose.high:g} {dose.unit}"
        table.add_row(name, "--exam", what, Text(f"{dose.exam}: {dose.source}"))
    for name, known in COEFFICIENTS.items():
        table.add_row(name, "--coefficient", f"{known.low:g} to {known.high:g} {known.unit}", Text(known.source))
    Console(width=max(Console().width, 140), highlight=False).print(table)


def _show(statement: DoseStatement) -> None:
    """Print the statement."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medgan.dose import AVOIDED, COLUMNS, measured_rows

    console = Console(width=max(Console().width, 150), highlight=False)
    if statement.measured:
        console.print(Text("Measured on these files", style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in COLUMNS:
            table.add_column(column, overflow="fold")
        for row in measured_rows(statement):
            table.add_row(*map(Text, row))  # as it is: meanings of codes may hold brackets
        console.print(table)
        console.print()
    for problem in statement.problems[:_SHOWN]:
        item = f", {problem['item']}" if problem["item"] else ""
        click.echo(f"Left out: {problem['file']}{item}: {problem['given']}: {problem['reason']}.")
    if len(statement.problems) > _SHOWN:
        click.echo(f"Left out: {len(statement.problems) - _SHOWN:,} more; see problems.csv.")
    for each in statement.equivalents:
        click.echo(each.sentence)
    click.echo(AVOIDED)
    for note in statement.notes:
        click.echo(f"Note: {note}")
