"""``medgan audit``: does a generator copy its training patients?"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
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
    from medgan.evaluation.privacy import AuditReport
    from medgan.models import Which

__all__ = ["audit"]

_DATA = data_options()
_IMAGES = 2_000


class _Real(NamedTuple):
    """The real images, and what is said of them."""

    training: ImageDataset
    held_out: ImageDataset
    description: str
    notes: tuple[str, ...]


@click.command(params=[*_DATA])
@click.option("--model", help="Run folder, or a saved model's folder: sampled, and a run knows its patients.")
@which_option
@click.option("--synthetic", help="Images that were made before, by whatever generator, in the place of samples.")
@click.option("--train", "training", help="Real images of the training.  [default: those of the run]")
@click.option("--holdout", "held_out", help="Real images of other patients.  [default: those that the run held out]")
@click.option("--data", metavar="PATH", help="Where a run's data lies now.  [default: where it lay]")
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as `medgan fit` was given it.")
@click.option(
    "--level",
    type=click.FloatRange(min=0, max=0.5, min_open=True),
    default=0.01,
    show_default=True,
    help="Share of honest images that is flagged, and of non-members that is suspected; 0.01 needs 99 held-out "
    "patients, 0.05 needs 19.",
)
@extractor_options("random-conv, beside the pixels; none for pixels alone")
@click.option(
    "--subgroups",
    type=Names(),
    help="Columns of the training images' table to report copies by.  [default: label, age, sex, view and site]",
)
@click.option("-n", "--num", type=click.IntRange(min=2), help=f"Synthetic images.  [default: {_IMAGES}, or all given]")
@click.option(
    "--pairs",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Closest pairs to show; 0 for a report without images and names of patients.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random choices.")
@truncation_option
@device_option
@report_option("audit-NAME", "Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def audit(
    context: click.Context,
    /,
    model: str | None,
    which: Which,
    synthetic: str | None,
    training: str | None,
    held_out: str | None,
    data: str | None,
    transforms: str | None,
    level: float,
    extractors: ExtractorOptions,
    subgroups: list[str] | None,
    num: int | None,
    pairs: int,
    seed: int,
    truncation: float,
    device: str,
    out: Path | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Look for copies of training patients among synthetic images.

    Of a run, its training patients and those that it held out are taken. The copy test, C_T, authenticity and a
    membership attack, all calibrated on held-out patients, in pixels and in features. Writes audit.json and audit.html.
    """
    from medgan.core.trainer import make_accelerator
    from medgan.data import default_cache_dir
    from medgan.evaluation.fidelity.samples import draw_samples
    from medgan.evaluation.privacy import audit_privacy, write_audit
    from medgan.models import find_model, load_model
    from medgan.runs import is_run, read_parts
    from medgan.training import counting

    if model is None and synthetic is None:
        raise click.UsageError("Give --model RUN, or --synthetic IMAGES with --train and --holdout.")
    names = extractors.names or ("random-conv",)
    if names == ("none",):
        names = ()
    if "none" in names:
        raise click.UsageError("--extractor none is for pixels alone; leave the others out.")
    extractors.weights_of(names)
    folder = None if model is None else find_model_folder(model)
    if model is not None and folder is None:
        raise ConfigError(f"{model} is no run and no model. Give a run folder, such as runs/00000-acgan-chest_xray.")
    place = None if model is None else find_model(Path(model).expanduser(), which=which)
    gan = None if place is None else load_model(place)
    if synthetic is not None and truncation != 1:
        raise click.UsageError("--truncation is for sampling a model, and --synthetic gives images.")
    run = folder if folder is not None and is_run(folder) else None
    real = _open_real(run, gan, training, held_out, given(context, _DATA), transforms, data)
    if len(real.training.spec.size) == 3 and not extractors.names:
        names = ()  # extractors read pictures
    cache_dir = default_cache_dir()
    source = synthetic or str(model)
    with contextlib.ExitStack() as stack:
        facts: dict[str, Any] = {"patients": real.description, "command": shlex.join(["medgan", *sys.argv[1:]])}
        if synthetic is None:
            assert gan is not None
            count = num or _IMAGES
            (images,) = draw_samples(
                gan,
                real.held_out,
                count=count,
                samples=1,
                seed=seed,
                truncation=truncation,
                device=device,
                cache_dir=cache_dir,
                stack=stack,
            )
            facts |= {
                "model": str(place),
                "weights_sha256": gan.weights_sha256,
                "image_seeds": f"{seed}-{seed + count - 1}",
                "truncation": truncation,
            }
        else:
            images = open_some_like(synthetic, real.training, num, seed)
        trained_on = gan.provenance if gan is not None else read_provenance(Path(source))
        progress = stack.enter_context(counting("spaces"))
        report = audit_privacy(
            real.training,
            real.held_out,
            images,
            extractors=extractors.make(
                names, real.training, seed=seed, device=str(make_accelerator(device).device), progress=progress
            ),
            level=level,
            subgroups=subgroups,
            pairs=pairs,
            trained_on=trained_on,
            parts={} if run is None else read_parts(run),
            notes=real.notes,
            seed=seed,
            cache_dir=cache_dir,
            facts=facts,
            progress=progress,
        )
    written = write_audit(
        report,
        out or free_folder(Path(f"audit-{folder_name(source)}")),
        training=real.training if pairs else None,
        synthetic=images if pairs else None,
    )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(report)
    click.echo(f"Report: {written['audit.html']}", err=as_json)


def _open_real(
    run: Path | None,
    gan: GAN | None,
    training: str | None,
    held_out: str | None,
    data: dict[str, Any],
    transforms: str | None,
    moved: str | None,
) -> _Real:
    """Open the training and the held-out images."""
    from medgan.runs import reopen

    if moved is not None and (run is None or training is not None):
        raise click.UsageError(
            "--data says where the images of a run lie now. Give that run as --model and no --train, or leave it out."
        )
    if training is None and held_out is None:
        if run is None:
            raise click.UsageError("--train and --holdout are needed: only a run folder knows its patients.")
        if data:
            flag = next(iter(data)).replace("_", "-")
            raise click.UsageError(f"--{flag} is not for a run: its images are read as it was trained on them.")
        parts = reopen(run, data=moved, transforms=transforms).parts
        name = next((part for part in ("test", "validation") if part in parts), None)
        if name is None:
            raise ConfigError(
                f"{run} held nobody out, so that there is nobody to compare with. Train it anew with --validation 0.1 "
                "--test 0.2, or give --holdout with --train."
            )
        notes: tuple[str, ...] = ()
        if name == "validation":
            notes = (
                "The held-out patients are those of the validation, by whom the run may have chosen its best model: it "
                "is not wholly new to them.",
            )
        return _Real(parts["train"], parts[name], f"{name} patients of {run} against its training patients", notes)
    if training is None or held_out is None:
        given_one, missing = ("--holdout", "--train") if training is None else ("--train", "--holdout")
        if run is None:
            raise click.UsageError(f"{given_one} was given without {missing}. Give both.")
        parts = reopen(run, data=moved, transforms=transforms).parts
        if training is None:
            assert held_out is not None
            found = parts["train"]
            others = open_as(held_out, found.spec, data, transforms, run=run)
            return _Real(found, others, f"{held_out} against {run}", ())
        raise click.UsageError("--train was given without --holdout. A run knows its training patients: leave it out.")
    found = open_as(training, None if gan is None else gan.data, data, transforms, run=run)
    others = open_as(held_out, found.spec, data, transforms, run=run)
    return _Real(found, others, f"{held_out} against {training}", ())


def _show(report: AuditReport) -> None:
    """Print what was found, and what limits it."""
    from medgan.evaluation.privacy import summarise_audit

    for sentence in summarise_audit(report):
        click.echo(sentence)
    for sentence in report.warnings:
        click.echo(f"Note: {sentence}")
