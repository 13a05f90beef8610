"""``medgan augment``: add synthetic images to a real data set, in a table that tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import data_options, device_option, given, truncation_option, which_option
from medgan.data.config import DataConfig

if TYPE_CHECKING:
    from medgan.models import Which

__all__ = ["augment"]

_OPTIONS = data_options()


@click.command(params=[*_OPTIONS])
@click.option("--real", required=True, help="Real images: what `medgan fit` takes as --data.")
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder, or a saved model's folder.")
@which_option
@click.option("--balance", is_flag=True, help="Fill every class up to the largest one.")
@click.option("--ratio", type=float, help="Synthetic images for each real one, class by class.")
@click.option("--per-class", type=int, help="Synthetic images of every class.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first image.")
@truncation_option
@click.option("--out", type=click.Path(path_type=Path), default="mixture", show_default=True, help="Folder to create.")
@device_option
@click.pass_context
def augment(
    context: click.Context,
    /,
    real: str,
    model: Path,
    which: Which,
    balance: bool,
    ratio: float | None,
    per_class: int | None,
    seed: int,
    truncation: float,
    out: Path,
    device: str,
    **_: Any,
) -> None:
    """Mix real images, by reference, with synthetic ones: a manifest.csv that marks each row.

    Each row says whether its image is real or synthetic, and of which model and seed. Synthetic
    images only ever train. Real images that the model's run held out stay held out.
    """
    from medgan.data import open_configured
    from medgan.mixture import write_mixture
    from medgan.models import load_model
    from medgan.runs import find_run_of, read_parts
    from medgan.training import reading_progress

    gan = load_model(model, which=which)
    config = DataConfig.from_dict({**given(context, _OPTIONS), "data": real, "size": gan.data.size[-1]})
    with reading_progress() as progress:
        dataset = open_configured(config, progress=progress)
    manifest = write_mixture(
        dataset,
        gan,
        out,
        model=model.resolve().name,
        splits=read_parts(find_run_of(model)),
        balance=balance,
        ratio=ratio,
        per_class=per_class,
        seed=seed,
        truncation=truncation,
        device=device,
    )
    click.echo(f"Mixed: {manifest}")
    click.echo(f"Train on it with: medgan fit --data {manifest}")
