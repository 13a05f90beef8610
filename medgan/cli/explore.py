"""``medgan explore``: what a generator knows, as pictures and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import data_options, device_option, free_folder, given, open_as, which_option

if TYPE_CHECKING:
    from medgan.models import Which

__all__ = ["explore"]

_OPTIONS = data_options(shape=False)


@click.command(params=[*_OPTIONS])
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder, or a saved model's folder.")
@which_option
@click.option(
    "--data",
    "source",
    metavar="SOURCE",
    help="Of a run, where its data lies now; of a saved model, images to look for in the latent space.  "
    "[default: the run's own]",
)
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as the run had it.")
@click.option(
    "--from", "reference", metavar="LABEL", help="Label to compare with.  [default: the first, or no finding]"
)
@click.option("--to", "target", metavar="LABEL", help="Label that is compared.  [default: the next]")
@click.option(
    "--inversions",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="Held-out images to look for in the latent space.",
)
@click.option("--synthetic-only", is_flag=True, help="Show no image of a patient, so that the page can be passed on.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to create.  [default: explore in the run folder, or explore-NAME here; with a number if there is one]",
)
@device_option
@click.pass_context
def explore(
    context: click.Context,
    /,
    model: Path,
    which: Which,
    source: str | None,
    transforms: str | None,
    reference: str | None,
    target: str | None,
    inversions: int,
    synthetic_only: bool,
    seed: int,
    out: Path | None,
    device: str,
    **_: Any,
) -> None:
    """Look at what a generator has learnt, as pictures and one HTML page.

    What it paints for a label, walks between labels and latents, real images found in the latent space and shown under
    the other label, rare and borderline cases, the nearest training images, and truncation.

    What compares with real images needs the run; of a saved model by itself it is left out, and the page says so.
    """
    from medgan.errors import ConfigError
    from medgan.exploration import explore as explore_model
    from medgan.models import load_model
    from medgan.runs import find_run_of, is_run
    from medgan.training import counting

    run = find_run_of(model.resolve())
    own = is_run(run)
    options = given(context, _OPTIONS)
    if options and (own or source is None):
        first = next(iter(options)).replace("_", "-")
        raise click.UsageError(
            f"--{first} says how the --data of a saved model is read; a run's are read as they were."
        )
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    data: Any = source
    if source is not None and not own:
        data, transforms = open_as(source, load_model(model, which=which).data, options, transforms), None
    with counting("parts") as progress:
        found = explore_model(
            model,
            which=which,
            data=data,
            transforms=transforms,
            reference=reference,
            target=target,
            inversions=inversions,
            synthetic_only=synthetic_only,
            seed=seed,
            device=device,
            progress=progress,
        )
    place = out or free_folder(run / "explore" if own else Path(f"explore-{model.resolve().name}"))
    page = found.write(place)
    for part, reason in found.left_out.items():
        click.echo(f"Left out: {part}: {reason}")
    click.echo(f"Page: {page}")
