"""``medgan metrics``: how much synthetic images are like real ones."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from medgan.cli.options import (
    Names,
    data_options,
    device_option,
    free_folder,
    given,
    open_as,
    report_option,
    truncation_option,
    which_option,
)
from medgan.cli.synthetic import (
    OFFLINE,
    ExtractorOptions,
    extractor_options,
    find_model_folder,
    folder_name,
    open_some_like,
    read_provenance,
)
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset
    from medgan.evaluation.fidelity import FidelityReport
    from medgan.models import Which
    from medgan.runs import OpenedData

__all__ = ["metrics"]

_DATA = data_options()
_SAMPLES = 5
_REFERENCES = ("held-out", "train", "all")


class _Real(NamedTuple):
    """The reference, and what is known of the real training images."""

    reference: ImageDataset
    description: str
    training: ImageDataset | None
    warnings: tuple[str, ...] = ()


@click.command(params=[*_DATA])
@click.option(
    "--real", help="Real images: a run folder, or what `medgan fit` takes as --data.  [default: the run's own]"
)
@click.option(
    "--synthetic",
    required=True,
    help="Synthetic images: what `medgan sample` wrote, or any data; or a run or model to sample from.",
)
@which_option
@click.option(
    "--reference",
    type=click.Choice(_REFERENCES),
    help="Which real images of a run: those of held-out patients (validation and test), of the training, or all. With "
    "--real, that is where the run's data lies now.  [default: held-out]",
)
@click.option("--training", help="The real images that the generator was trained on, where no run says so.")
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as `medgan fit` was given it.")
@extractor_options(" and ".join(OFFLINE))
@click.option("--metrics", "wanted", type=Names(), help="Metrics, joined by commas.  [default: all but the rarer ones]")
@click.option("--per-class", is_flag=True, help="Compare each class as well.")
@click.option(
    "--subgroups",
    type=Names(),
    help="Columns of the real images' table to report by.  [default: age, sex, view and site, where they are there]",
)
@click.option("-n", "--num", type=click.IntRange(min=2), help="Synthetic images a sample.  [default: as many as real]")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=_SAMPLES,
    show_default=True,
    help="Independent samples of a model, for the intervals; of other synthetic images there is one.",
)
@click.option(
    "--halvings", type=click.IntRange(min=2), default=10, show_default=True, help="Random halvings, for floors."
)
@click.option(
    "--permutations", type=click.IntRange(min=1), default=1_000, show_default=True, help="Of the kernel's test."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random choices.")
@truncation_option
@device_option
@report_option("metrics-NAME", "Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def metrics(
    context: click.Context,
    /,
    real: str | None,
    synthetic: str,
    which: Which,
    reference: str | None,
    training: str | None,
    transforms: str | None,
    extractors: ExtractorOptions,
    wanted: list[str] | None,
    per_class: bool,
    subgroups: list[str] | None,
    num: int | None,
    samples: int,
    halvings: int,
    permutations: int,
    seed: int,
    truncation: float,
    device: str,
    out: Path | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Compare synthetic images with real ones, each number beside that of real against real.

    Of a run, the reference is the patients that it held out, and its model is sampled as often as the
    intervals need. Writes metrics.json, metrics.md and metrics.html.
    """
    from medgan.core.trainer import make_accelerator
    from medgan.data import default_cache_dir
    from medgan.evaluation.fidelity import measure_fidelity
    from medgan.evaluation.fidelity.metrics import check_metrics
    from medgan.evaluation.fidelity.page import write_report
    from medgan.evaluation.fidelity.samples import draw_samples
    from medgan.models import find_model, load_model
    from medgan.training import counting

    # Before anything is read.
    check_metrics(wanted)
    extractors.weights_of(extractors.names)
    model = find_model_folder(synthetic)
    place = None if model is None else find_model(Path(synthetic).expanduser(), which=which)
    gan = None if place is None else load_model(place)
    if gan is None and truncation != 1:
        raise click.UsageError(f"--truncation is for sampling a run or a model, and {synthetic} is neither.")
    data = given(context, _DATA)
    chosen = _open_real(real, synthetic, model, reference, training, data, transforms, gan)
    device_name = str(make_accelerator(device).device)
    names = extractors.names or (OFFLINE if len(chosen.reference.spec.size) == 2 else ())
    cache_dir = default_cache_dir()
    with contextlib.ExitStack() as stack:
        facts: dict[str, Any] = {"reference": chosen.description, "command": shlex.join(["medgan", *sys.argv[1:]])}
        if gan is not None:
            count = num or len(chosen.reference)
            opened = [
                replace(images, name=folder_name(synthetic), source=f"sampled from {place}")
                for images in draw_samples(
                    gan,
                    chosen.reference,
                    count=count,
                    samples=samples,
                    seed=seed,
                    truncation=truncation,
                    device=device,
                    cache_dir=cache_dir,
                    stack=stack,
                )
            ]
            last = seed + samples * count - 1
            facts |= {
                "model": str(place),
                "weights_sha256": gan.weights_sha256,
                "image_seeds": f"{seed}-{last}",
                "truncation": truncation,
            }
            trained_on = gan.provenance
        else:
            opened = [open_some_like(synthetic, chosen.reference, num, seed)]
            trained_on = read_provenance(Path(synthetic))
        progress = stack.enter_context(counting("images"))
        made = extractors.make(names, chosen.training, seed=seed, device=device_name, progress=progress)
        report = measure_fidelity(
            chosen.reference,
            opened,
            extractors=made,
            metrics=wanted,
            training=chosen.training,
            trained_on=trained_on,
            per_class=per_class,
            subgroups=subgroups,
            halvings=halvings,
            permutations=permutations,
            seed=seed,
            cache_dir=cache_dir,
            facts=facts,
            progress=progress,
        )
        report = replace(report, warnings=(*chosen.warnings, *report.warnings))
    folder = out or free_folder(Path(f"metrics-{folder_name(synthetic)}"))
    written = write_report(report, folder)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(report)
    click.echo(f"Report: {written['metrics.html']}", err=as_json)


# ---------------------------------------------------------------------------------- real images


def _open_real(
    real: str | None,
    synthetic: str,
    model: Path | None,
    reference: str | None,
    training: str | None,
    data: dict[str, Any],
    transforms: str | None,
    gan: GAN | None,
) -> _Real:
    """Open the reference, and the real training images where they are known."""
    from medgan.runs import is_run, reopen

    run, moved = None, None
    if real is not None and is_run(Path(real).expanduser()):
        run = Path(real).expanduser()
    elif model is not None and is_run(model) and (real is None or reference is not None):
        run, moved = model, real
    if run is not None:
        if data:
            flag = next(iter(data)).replace("_", "-")
            raise click.UsageError(f"--{flag} is not for a run: its images are read as it was trained on them.")
        if training is not None:
            raise click.UsageError("--training is known from the run; leave it out.")
        return _choose(reopen(run, data=moved, transforms=transforms), run, reference or "held-out")
    if real is None:
        if model is None and not Path(synthetic).expanduser().exists():
            raise click.UsageError(f"There is no {synthetic}. Give a run folder, or images with --real beside them.")
        raise click.UsageError("--real is needed: only a run folder knows its real images.")
    if reference is not None:
        raise click.UsageError(
            f"--reference {reference} is for a run, whose parts are known; {real} is taken as it is."
        )
    beside = model if model is not None and is_run(model) else None
    found = open_as(real, None if gan is None else gan.data, data, transforms, run=beside)
    seen = None if training is None else open_as(training, found.spec, data, transforms, run=beside)
    return _Real(found, f"all images of {real}", seen)


def _choose(opened: OpenedData, run: Path, reference: str) -> _Real:
    """Return the wanted part of a run's images."""
    from medgan.data import ImageDataset

    training = opened.parts["train"]
    if reference == "train":
        return _Real(training, f"the training images of {run}", training)
    if reference == "all":
        return _Real(opened.whole, f"all images of {run}, those of the training included", training)
    names = [name for name in ("validation", "test") if name in opened.parts]
    if not names:
        raise ConfigError(
            f"{run} held nobody out, so that there are no real images that its generator has not seen. Train it anew "
            "with --validation 0.1 --test 0.2, give other --real images, or accept --reference train."
        )
    held_out = ImageDataset.join([opened.parts[name] for name in names])
    warnings: tuple[str, ...] = ()
    if "validation" in names:
        warnings = (
            f"{len(opened.parts['validation']):,} of the {len(held_out):,} reference images are of the validation "
            "patients, by whom the run may have chosen its best model: they are not wholly new to it.",
        )
    return _Real(held_out, f"held-out patients of {run} ({' and '.join(names)})", training, warnings)


# --------------------------------------------------------------------------------------- output


def _show(report: FidelityReport) -> None:
    """Print the numbers, and what limits them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medgan.evaluation.fidelity.page import COLUMNS, group_caption, group_rows, groups_of, summarise_report

    console = Console(width=max(Console().width, 150), highlight=False)
    for group in groups_of(report):
        console.print(Text.assemble((group, "bold"), ": ", group_caption(report, group)))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in COLUMNS:
            table.add_column(column, overflow="fold")
        for row in group_rows(report, group):
            table.add_row(*map(Text, row))  # as it is: class names may hold brackets
        console.print(table)
        console.print()
    for sentence in summarise_report(report):
        click.echo(sentence)
    for sentence in report.warnings:
        click.echo(f"Note: {sentence}")
