"""``medgan refine``: a better generator from what was said of its samples."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import device_option, which_option

if TYPE_CHECKING:
    from medgan.models import Which

__all__ = ["refine"]


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder of the model.")
@which_option
@click.option(
    "--study",
    type=click.Path(path_type=Path, file_okay=False),
    help="Reader study of its samples: a folder of `medgan study new`.",
)
@click.option("--database", metavar="URL", help="Where the study's answers are.  [default: in the study]")
@click.option(
    "--ratings",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Judgements of its samples: CSV with the columns seed, label and accepted (1 or 0), a row for each.",
)
@click.option(
    "--failures", is_flag=True, help="Reject samples whose class the run's own classifier does not recognise."
)
@click.option(
    "--extractor",
    type=click.Choice(["random-conv", "radiomics"]),
    default="random-conv",
    show_default=True,
    help="Features that the scorer looks at.",
)
@click.option("--truncation", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of what was judged.")
@click.option(
    "--samples", type=click.IntRange(100, 100_000), default=1_000, show_default=True, help="Fresh samples to score."
)
@click.option("--kimg", type=click.FloatRange(0, min_open=True), help="Thousand images to train on.  [default: 20]")
@click.option("--budget", help="Wall-clock time to train instead, such as 15m.")
@click.option("--data", metavar="SOURCE", help="Where the run's data lies now.  [default: where it lay]")
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as the run had it.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the scorer.")
@click.option("--outdir", help="Folder that holds the run folders.  [default: that of the model's run]")
@click.option(
    "--out", type=click.Path(path_type=Path), default="refinement", show_default=True, help="Folder to create."
)
@device_option
def refine(
    model: Path,
    which: Which,
    study: Path | None,
    database: str | None,
    ratings: Path | None,
    failures: bool,
    extractor: str,
    truncation: float,
    samples: int,
    kimg: float | None,
    budget: str | None,
    data: str | None,
    transforms: str | None,
    seed: int,
    outdir: str | None,
    out: Path,
    device: str,
) -> None:
    """Turn judgements of a model's samples into a scorer, and into a model that makes fewer of the rejected kind.

    The scorer learns what was rejected; `medgan sample --quality OUT/scorer` leaves such images out at once. The new
    run begins from the model, and its discriminator is shown rejected samples as generated ones.
    """
    import pandas as pd

    from medgan.models import load_model
    from medgan.refinement import classifier_judgements, read_ratings, study_judgements
    from medgan.refinement import refine as refine_model

    if kimg is not None and budget is not None:
        raise click.UsageError("Both --kimg and --budget were given. Pass one of them.")
    if database is not None and study is None:
        raise click.UsageError("--database says where the answers of a --study are.")
    gan = load_model(model, which=which)
    tables = [] if ratings is None else [read_ratings(ratings)]
    if study is not None:
        from medgan.reader_study import load_study

        opened = load_study(study)
        found = study_judgements(opened, gan, database=database)
        if truncation != 1:
            raise click.UsageError("A study knows its truncation; leave --truncation out.")
        truncation = float(opened.read_key()["truncation"])
        tables.append(found)
    if failures:
        found = classifier_judgements(gan, model, truncation=truncation, data=data, transforms=transforms)
        tables.append(found)
    if not tables:
        raise click.UsageError("Say who judged: --study FOLDER, --ratings FILE, --failures, or several.")
    flags: dict[str, Any] = {"device": device}
    flags |= {"budget": budget} if budget is not None else {"kimg": 20.0 if kimg is None else kimg}
    flags |= {} if outdir is None else {"outdir": outdir}
    done = refine_model(
        model,
        pd.concat(tables, ignore_index=True),
        out,
        which=which,
        extractor=extractor,
        flags=flags,
        samples=samples,
        truncation=truncation,
        data=data,
        transforms=transforms,
        seed=seed,
        say=click.echo,
    )
    click.echo(
        f"The scorer rejects {done.before['rejected']:.1%} of samples before and {done.after['rejected']:.1%} after."
    )
    if "coverage" in done.before:
        click.echo(
            f"Coverage of held-out images: {done.before['coverage']:.2f} before, {done.after['coverage']:.2f} after."
        )
    click.echo(
        "The training went by the scorer itself: let readers judge samples of the new model before you believe it."
    )
    click.echo(f"Figures: {done.report}")
    click.echo(f"More:    medgan sample --model {shlex.quote(str(done.run))} --quality {shlex.quote(str(done.scorer))}")
