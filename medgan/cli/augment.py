"""``medgan augment``: add synthetic images to a real data set, in a table that tells them apart."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import data_options, device_option, given, open_as, truncation_option, which_option
from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.data import ImageDataset
    from medgan.models import Which

__all__ = ["augment"]

_OPTIONS = data_options(shape=False)


@click.command(params=[*_OPTIONS])
@click.option("--real", required=True, help="Real images: what `medgan fit` takes as --data.")
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder, or a saved model's folder.")
@which_option
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as the run had it.")
@click.option(
    "--other-images",
    is_flag=True,
    help="The real images are none of those of the model's run: what it held out is not looked for among them.",
)
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
    transforms: str | None,
    other_images: bool,
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
    images only ever train. Real images that the model's run held out stay held out; they are recognised by their names,
    so --real is to be given as the run's --data was.
    """
    from medgan.mixture import write_mixture
    from medgan.models import load_model
    from medgan.runs import find_run_of, is_run

    gan = load_model(model, which=which)
    folder = find_run_of(model)
    run = folder if is_run(folder) else None
    dataset = open_as(real, gan.data, given(context, _OPTIONS), transforms, run=run)
    manifest = write_mixture(
        dataset,
        gan,
        out,
        model=model.resolve().name,
        splits=None if run is None or other_images else _parts_of(run, dataset),
        balance=balance,
        ratio=ratio,
        per_class=per_class,
        seed=seed,
        truncation=truncation,
        device=device,
    )
    click.echo(f"Mixed: {manifest}")
    labels, size = dataset.spec.labels, gan.data.size
    more = " --label-kind ordinal" if labels is not None and labels.kind == "ordinal" else ""
    more += f" --size {size[-1]} --depth {size[0]}" if len(size) == 3 else ""
    click.echo(f"Train on it with: medgan fit --data {shlex.quote(str(manifest))}{more}")


def _parts_of(run: Path, dataset: ImageDataset) -> dict[str, str]:
    """Return the parts of a run's images, unless those that it held out may be among the given ones by other names."""
    from medgan.data.splits import INITIAL, image_identities
    from medgan.runs import read_config, read_parts

    parts = read_parts(run)
    names = set(image_identities(dataset.index))
    held_out = {image for image, part in parts.items() if part not in ("train", INITIAL)}
    unknown, missing = sorted(names - parts.keys()), sorted(held_out - names)
    if unknown and missing:
        options = read_config(run / "config.json")
        layout = "" if options.get("layout") in (None, "auto") else f" --layout {options['layout']}"
        raise DataError(
            f"{len(missing):,} of {len(held_out):,} images that {run} held out, such as {missing[0]!r}, are not among "
            f"those of {dataset.source} by name, and {len(unknown):,} of these, such as {unknown[0]!r}, are unknown to "
            "it, so that nobody knows what is to be kept out of the training. Give the data as the run had it: --real "
            f"{shlex.quote(str(options.get('data')))}{layout}. If these are other images, add --other-images."
        )
    return parts
