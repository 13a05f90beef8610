"""``medgan sample``: make images with a trained model."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import data_options, device_option, given, open_as, truncation_option, which_option

if TYPE_CHECKING:
    from torch import Tensor

    from medgan.core.gan import GAN
    from medgan.data import ImageDataset
    from medgan.models import Which

__all__ = ["find_labels", "open_sources", "parse_seeds", "sample"]

# What the images are to show is said by --label here.
_OPTIONS = [option for option in data_options(shape=False) if option.name != "labels"]
_LARGEST = 10_000_000  # images in a folder; beyond that it is a slip of the finger


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as ``0-35`` or ``1,5,7-9``.

    Args:
        text: Numbers and ranges, joined by commas; both ends of a range count.

    Returns:
        The seeds, in the order given.

    Raises:
        click.BadParameter: If the text is something else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise click.BadParameter(f"{text!r} is not a list of seeds. Type for example 0-35 or 1,5,7-9.")
        some = range(int(match[1]), int(match[2] or match[1]) + 1)
        if some.stop - some.start > _LARGEST - len(seeds):
            raise click.BadParameter(f"{text!r} is more than {_LARGEST:,} images. Sample them in several folders.")
        seeds += some
    return seeds


def open_sources(
    source: str, gan: GAN, model: Path, data: Mapping[str, Any], transforms: str | None = None
) -> ImageDataset:
    """Open images to translate, read as those were that a model was trained on.

    Args:
        source: The images.
        gan: The model.
        model: Its folder; if it is of a run, that says how images are read.
        data: Options of `medgan.data.config.DataConfig` that say otherwise.
        transforms: ``module:object`` of the preprocessing that the run was given, if any.

    Raises:
        ConfigError: If the model does not translate, or the run was given transforms and these are not.
        DataError: If the images cannot be used.
    """
    from medgan.errors import ConfigError
    from medgan.runs import find_run_of, is_run

    if not gan.translates:
        raise ConfigError(f"--source is for models that translate; {gan.name} makes images from nothing. Leave it out.")
    run = find_run_of(model.resolve())
    data = {"channels": str(gan.data.source_channels), **data}  # of the sources, whatever the targets have
    return open_as(source, gan.data, data, transforms, run=run if is_run(run) else None)


def find_labels(sources: ImageDataset, gan: GAN) -> Tensor | None:
    """Return the labels of images to translate, for a model that takes some; None for one that takes none.

    Args:
        sources: The images.
        gan: The model.

    Raises:
        ConfigError: If it takes labels, and the images have others or none.
    """
    import torch

    from medgan.errors import ConfigError

    if gan.data.labels is None:
        return None
    if sources.labels is None or sources.spec.labels != gan.data.labels:
        raise ConfigError(
            f"{gan.name} translates by labels, and the sources have none of {', '.join(gan.data.labels.names)}. Say "
            f"what the images are to show: --label {gan.data.labels.names[0]}."
        )
    return torch.from_numpy(sources.labels)


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder, or a saved model's folder.")
@which_option
@click.option("-n", "--num", type=click.IntRange(1, _LARGEST), help="Number of images.  [default: 64, or one a seed]")
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="Class to show, or values such as Effusion=1,Edema=0 or severity=2; repeat it for several in turn.  "
    "[default: balanced over all classes]",
)
@click.option(
    "--source",
    help="Images to translate, for a model that does so: a folder, or what else --data of medgan fit takes. They are "
    "read as those of the run were, unless an option says otherwise; of pairs the sources are taken. One image for "
    "each that can be used, called as its source; --max-bad says how many may be left out.",
)
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of --source of your own, as the run had it.")
@click.option(
    "--reverse",
    is_flag=True,
    help="Translate the other way, from target to source, with an architecture that learns both.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the first image; the next have those after it.")
@click.option("--seeds", help="Seeds such as 0-35 or 1,5,7-9, one image each.")
@truncation_option
@click.option(
    "--quality",
    type=click.Path(path_type=Path),
    metavar="SCORER",
    help="Only images that a scorer finds good enough: a folder that `medgan refine` wrote.",
)
@click.option(
    "--keep",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of each class's images that is good enough, with --quality.  [default: 0.8]",
)
@click.option("--out", type=click.Path(path_type=Path), default="samples", show_default=True, help="Folder to create.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "npz", "dicom", "nifti"]),
    default="png",
    show_default=True,
    help="Pictures; one array file; DICOM files (Secondary Capture) that are marked as synthetic; or NIfTI files of "
    "volumes.",
)
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    help="Bits per sample, for --format dicom. 16 keeps finer steps, but no detail that the training images had not.  "
    "[default: 8]",
)
@click.option("--grid", is_flag=True, help="Also write a labelled overview beside the folder, OUT-grid.png.")
@device_option
@click.pass_context
def sample(
    context: click.Context,
    /,
    model: Path,
    which: Which,
    num: int | None,
    labels: tuple[str, ...],
    source: str | None,
    transforms: str | None,
    reverse: bool,
    seed: int | None,
    seeds: str | None,
    truncation: float,
    quality: Path | None,
    keep: float | None,
    out: Path,
    form: str,
    bits: str | None,
    grid: bool,
    device: str,
    **_: Any,
) -> None:
    """Make images, in class folders, with a samples.csv: a data set in itself.

    Findings and quantities are in samples.csv alone; it is a manifest, which --data reads.

    A seed and a label always give the same image of a model; --quality leaves seeds out. Every file says that it is
    synthetic, and synthetic.json says where it comes from.
    """
    from medgan.export import write_samples
    from medgan.models import find_model, load_model

    if seeds is not None and (num is not None or seed is not None):
        raise click.UsageError("--seeds says which and how many; leave out -n and --seed.")
    if source is not None and (num is not None or seeds is not None):
        raise click.UsageError("--source says how many; leave out -n and --seeds.")
    data = given(context, _OPTIONS)
    if source is None and (data or transforms is not None):
        first = next(iter(data), "transforms").replace("_", "-")
        raise click.UsageError(f"--{first} says how --source is read, and there is none.")
    if bits is not None and form != "dicom":
        raise click.UsageError(f"--bits {bits} is for DICOM files; leave it out, or add --format dicom.")
    if quality is None and keep is not None:
        raise click.UsageError(f"--keep {keep:g} needs --quality SCORER, which says what is good enough.")
    if quality is not None and (seeds is not None or source is not None):
        raise click.UsageError("--quality chooses the seeds; leave out --seeds and --source, and give -n and --seed.")
    names: Sequence[str] | Tensor | None = None if labels in ((), ("balanced",)) else list(labels)
    place = find_model(model, which=which)
    gan = load_model(place)
    if reverse:
        gan = gan.reverse()
    sources = left_out = None
    if source is not None:
        opened = open_sources(source, gan, place, data, transforms)
        names = find_labels(opened, gan) if names is None else names
        sources = opened if opened.sources is None or reverse else opened.sources
        num = len(sources)
        left_out = (opened if opened.spec.paired else sources).quarantine
    start = seed or 0
    chosen: Sequence[int] = range(start, start + (num or 64)) if seeds is None else parse_seeds(seeds)
    if quality is not None:
        from medgan.metrics.scorer import SampleScorer
        from medgan.refinement import accepted_samples

        chosen, names = accepted_samples(
            gan,
            SampleScorer.load(quality),
            len(chosen),
            keep=0.8 if keep is None else keep,
            labels=None if labels in ((), ("balanced",)) else list(labels),
            seed=start,
            truncation=truncation,
            device=device,
        )
    written = write_samples(
        gan,
        out,
        seeds=chosen,
        labels=names,
        sources=sources,
        truncation=truncation,
        form=form,
        bits=int(bits or 8),
        grid=grid,
        device=device,
    )
    click.echo(f"{len(chosen):,} images: {written}")
    if left_out is not None and len(left_out):
        example = left_out.iloc[0]
        click.echo(
            f"Left out {len(left_out):,} of --source that cannot be used, for example {example['file']}: "
            f"{example['error']} ({example['hint']}).",
            err=True,
        )
    if place != model and place.name == "best":
        click.echo(f"Model: {place}")
    spec = gan.data.labels
    if form != "npz" and source is None and spec is not None and spec.kind in ("multilabel", "continuous"):
        kind = " --label-kind continuous" if spec.kind == "continuous" else ""
        click.echo(f"With their labels: medgan inspect {shlex.quote(str(written / 'samples.csv'))}{kind}")
    if grid:
        click.echo(f"Overview: {written.with_name(f'{written.name}-grid.png')}")


sample.params.extend(_OPTIONS)  # at the end of the help, as few need them
