"""``medgan features``: what a discriminator sees in images, for other tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medgan.cli.options import data_options, device_option, given, open_as

__all__ = ["features"]

_OPTIONS = data_options(shape=False)


@click.command(params=[*_OPTIONS])
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder; it has the discriminator.")
@click.option("--data", "source", metavar="SOURCE", help="Images, as for `medgan fit`.  [default: the run's own]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to create: .npz (no pickle), .csv or .parquet.",
)
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as the run had it.")
@device_option
@click.pass_context
def features(
    context: click.Context, /, model: Path, source: str | None, out: Path, transforms: str | None, device: str, **_: Any
) -> None:
    """Write the discriminator's features of images, with their names, labels and patients.

    The images are brought to the model's size and channels. Each row says whether the discriminator was trained on its
    image: judge whatever you build on the features by patients of another part.
    """
    from medgan.discriminator_features import check_output, extract_discriminator_features
    from medgan.models import load_discriminator, load_model
    from medgan.runs import is_run, read_parts, reopen
    from medgan.training import counting

    options = given(context, _OPTIONS)
    if source is None and options:
        first = next(iter(options)).replace("_", "-")
        raise click.UsageError(f"--{first} says how --data is read; the run's own images are read as they were.")
    check_output(out)
    discriminator = load_discriminator(model)
    gan = load_model(model)
    spec = gan.data
    if source is None:
        dataset = reopen(model, transforms=transforms).whole
    else:
        dataset = open_as(source, spec, options, transforms, run=model if is_run(model) else None)
    # Names say nothing about another data set, where they may stand for other images.
    own = gan.provenance.get("whole_fingerprint") == dataset.whole_fingerprint
    parts = read_parts(model) if own else None
    with counting("images") as progress:
        found = extract_discriminator_features(
            discriminator,
            dataset,
            data=spec,
            parts=parts,
            device=device,
            progress=progress,
        )
    found.write(out)
    click.echo(f"{found.values.shape[1]} features of {len(dataset):,} images: {out}")
    if own:
        trained = int((found.parts == "train").sum())
        click.echo(f"The discriminator was trained on {trained:,} of these images; `part` says on which.")
    else:
        click.echo("These are not the run's images as it read them, so that `part` is empty.")
