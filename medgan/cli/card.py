"""``medgan card``: the model card, with the results that lie in a run folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medgan.cli.options import which_option

if TYPE_CHECKING:
    from medgan.models import Which

__all__ = ["card"]

_RESULTS = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@which_option
@click.option("--metrics", type=_RESULTS, help="Results of `medgan metrics`: a folder or a file.  [default: in RUN]")
@click.option("--evaluation", type=_RESULTS, help="Results of `medgan evaluate`.  [default: in RUN]")
@click.option("--study", type=_RESULTS, help="Results of `medgan study analyze`.  [default: in RUN]")
@click.option("--audit", type=_RESULTS, help="Results of `medgan audit`.  [default: in RUN]")
@click.option(
    "--licence", metavar="ID", help="Licence of the model, as the Hugging Face Hub names it, such as cc-by-4.0; kept."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File.  [default: the model's README.md]")
def card(
    run: Path,
    which: Which,
    metrics: Path | None,
    evaluation: Path | None,
    study: Path | None,
    audit: Path | None,
    licence: str | None,
    out: Path | None,
) -> None:
    """Write the model card of a run or a saved model, with all results that are found.

    RUN is a run folder, or a saved model's. Metrics, classifiers, readers and audit are looked up in the folders
    of the run; what was not run says so, with the command to type. Text of yours between the markers is kept.
    """
    from medgan.model_card import RESULTS, make_card, write_card

    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise click.UsageError(
            f"--licence {licence!r} is no name of a licence. Type one such as cc-by-4.0, cc-by-nc-4.0 or apache-2.0."
        )
    given = {"metrics": metrics, "evaluation": evaluation, "study": study, "audit": audit}
    results = {part: path for part, path in given.items() if path is not None}
    made = make_card(run, which=which, results=results, licence=licence, card=out)
    path = write_card(made, out)
    for part in RESULTS:
        if part in made.used:
            click.echo(f"{part}: {made.used[part]}")
        else:
            click.echo(f"{part}: not run" + (", but for other weights" if part in made.remarks else ""))
    click.echo(f"Model card: {path}")
