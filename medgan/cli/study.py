"""``medgan study``: ask readers, blind, whether they can tell synthetic images from real ones."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import (
    data_options,
    device_option,
    given,
    make_options,
    open_as,
    truncation_option,
    which_option,
)
from medgan.errors import ConfigError
from medgan.reader_study.config import ReaderStudyConfig

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset
    from medgan.models import Which
    from medgan.reader_study import ReaderStudy

__all__ = ["study"]


_DESIGN = make_options(ReaderStudyConfig)
_DATA = data_options(shape=False)

_folder = click.argument("folder", type=click.Path(path_type=Path))
_database = click.option(
    "--database", metavar="URL", help="SQLAlchemy address of the answers.  [default: answers.sqlite in the study]"
)


@click.group()
def study() -> None:
    """Ask readers, blind, whether they can tell synthetic images from real ones."""


@study.command(params=[*_DESIGN, *_DATA])
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Run folder, or a saved model's folder.")
@which_option
@click.option(
    "--real", help="Where the run's data lies now; of a model without a run, the real images.  [default: the run's own]"
)
@click.option("--transforms", metavar="MODULE:OBJECT", help="Preprocessing of your own, as `medgan fit` was given it.")
@click.option("--reader", "names", multiple=True, help="Name of a reader, best a pseudonym; repeat it for several.")
@click.option("--readers", "count", type=click.IntRange(min=1, max=200), help="Or how many, as reader-1, reader-2, …")
@click.option("--instructions", type=click.Path(path_type=Path, dir_okay=False), help="Text file of your own.")
@click.option("--consent", type=click.Path(path_type=Path, dir_okay=False), help="Text file of your own.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Draws the same study again.  [default: one that nobody knows before]"
)
@truncation_option
@device_option
@click.pass_context
def new(
    context: click.Context,
    /,
    out: Path,
    model: Path,
    which: Which,
    real: str | None,
    transforms: str | None,
    names: tuple[str, ...],
    count: int | None,
    instructions: Path | None,
    consent: Path | None,
    seed: int | None,
    truncation: float,
    device: str,
    **_: Any,
) -> None:
    """Draw a study into the folder OUT: real images of patients that the run held out, and synthetic ones.

    Readers are told apart by names and get a personal link each. key.json holds the answers: nobody who
    reads, or speaks with readers, should see it. The margin cannot be changed later.
    """
    from medgan.models import load_model
    from medgan.reader_study import load_study, new_study
    from medgan.reader_study.statistics import equivalence_power

    if bool(names) == (count is not None):
        raise click.UsageError("Say who reads with either --reader NAME, once for each, or --readers 5.")
    readers = list(names) or [f"reader-{number}" for number in range(1, (count or 0) + 1)]
    config = ReaderStudyConfig.from_dict(given(context, _DESIGN))
    gan = load_model(model, which=which)
    folder = new_study(
        _open_real(model, real, gan, given(context, _DATA), transforms),
        gan,
        out,
        config,
        readers=readers,
        model=model.resolve().name,
        seed=seed,
        truncation=truncation,
        device=device,
        instructions=_read_paragraphs(instructions),
        consent=_read_paragraphs(consent),
    )
    made = load_study(folder)
    shown = len(made.readers[0].presentations)
    what = "pairs" if config.mode == "forced-choice" else "images, half of them synthetic"
    click.echo(
        f"Study: {folder} ({len(made.cases)} {what}; {shown - len(made.cases)} shown twice; "
        f"{len(readers)} {'reader' if len(readers) == 1 else 'readers'})"
    )
    power = equivalence_power(
        readers=len(readers),
        real=config.real_images,
        synthetic=0 if config.mode == "forced-choice" else config.real_images,
        margin=config.margin,
    )
    click.echo(
        f"If all readers purely guess, the margin of {config.margin:g} would be shown to hold with a chance of "
        f"{power:.0%} at most" + (". More readers or cases raise it." if power < 0.8 else ".")
    )
    click.echo(f"The answers are in {folder / 'key.json'}; keep it from all who read.")
    click.echo(f"Let them read with: medgan study serve {shlex.quote(str(folder))}")


@study.command()
@_folder
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any that is free.")
@click.option("--url", help="Address that readers use, for the links, such as https://study.example.org.")
@_database
def serve(folder: Path, host: str, port: int, url: str | None, database: str | None) -> None:
    """Serve a study to its readers, until it is stopped with Ctrl-C, and print their personal links.

    What a reader has answered is on the disk before the page says so; stop and start it as you like. The
    key is not read, and need not be there.
    """
    from medgan.reader_study import load_study
    from medgan.reader_study.folder import require_extra

    require_extra()
    from medgan.reader_study.application import make_application, open_socket, run_server
    from medgan.reader_study.store import AnswerStore

    opened = load_study(folder)
    listener = open_socket(host, port)
    with listener, AnswerStore(opened, database) as store:
        application = make_application(opened, store)
        bound = listener.getsockname()[1]
        named = f"[{host}]" if ":" in host else host
        address = (url or f"http://{named}:{bound}").rstrip("/")
        _print_links(opened, address)
        if host not in ("127.0.0.1", "localhost", "::1") and not address.startswith("https://"):
            click.echo(
                "Warning: others on the network can read what is sent, links included. Put a server with TLS before "
                "it, and name its address with --url https://…",
                err=True,
            )
        click.echo("Serving; stop with Ctrl-C.")
        run_server(application, listener)
    click.echo(f"Stopped. Analyse with: medgan study analyze {shlex.quote(str(folder))}")


@study.command()
@_folder
@_database
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), help="key.json, if it is kept elsewhere.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder.  [default: analysis in the study]"
)
def analyze(folder: Path, database: str | None, key: Path | None, out: Path | None) -> None:
    """Analyse what readers have answered, and write analysis.html, .json and two tables.

    Says what may be claimed, and what may not. Readers who have not finished are named, and left out.
    """
    from medgan.reader_study import load_study
    from medgan.reader_study.analysis import ALL, analyze_study
    from medgan.reader_study.analysis_page import write_analysis

    found = analyze_study(load_study(folder), database, key=key)
    written = write_analysis(found, out or folder / "analysis", command=shlex.join(["medgan", *sys.argv[1:]]))
    for sentence in found.claim:
        click.echo(sentence)
    for result in found.results:
        if result.who == ALL:
            interval = f" ({result.low:.3f} to {result.high:.3f})" if result.interval_for else ""
            click.echo(f"  {result.measure}: {result.value:.3f}{interval}")
    for sentence in found.limits:
        click.echo(f"Note: {sentence}")
    click.echo(f"Analysis: {written['analysis.html']}")


def _open_real(model: Path, real: str | None, gan: GAN, data: dict[str, Any], transforms: str | None) -> ImageDataset:
    """Return the real images: those of patients that the run held out; of a model alone, what was given."""
    from medgan.data import ImageDataset
    from medgan.data.splits import INITIAL, image_identities
    from medgan.reader_study import StudyDesignWarning
    from medgan.runs import find_run_of, is_run, read_parts, reopen

    run = find_run_of(model)
    if not is_run(run):
        if real is None:
            raise click.UsageError(f"--real is needed: {model} is a model alone, and knows no real images.")
        warnings.warn(
            f"Only a run folder says which real images its model has seen, and {model} is a model alone: see to it "
            f"that it was trained on no patient of {real}.",
            StudyDesignWarning,
            stacklevel=2,
        )
        return open_as(real, gan.data, data, transforms)
    if data:
        flag = next(iter(data)).replace("_", "-")
        raise click.UsageError(f"--{flag} is not for a run: its images are read as it was trained on them.")
    parts = reopen(run, data=real, transforms=transforms).parts
    held_out = [parts[name] for name in ("validation", "test") if name in parts]
    if not held_out:
        raise ConfigError(
            f"{run} held nobody out, so that there are no real images that its generator has not seen. Train it anew "
            "with --validation 0.1 --test 0.2."
        )
    joined = ImageDataset.join(held_out)
    # A model that the run began from may have seen some of them.
    known = read_parts(run)
    unseen = [row for row, name in enumerate(image_identities(joined.index)) if known.get(name) != INITIAL]
    return joined.subset(unseen)


def _read_paragraphs(path: Path | None) -> list[str] | None:
    """Return the paragraphs of a text file, which empty lines divide."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}.") from error
    return [paragraph for paragraph in text.replace("\r\n", "\n").split("\n\n") if paragraph.strip()]


def _print_links(opened: ReaderStudy, address: str) -> None:
    """Print each reader's link."""
    tokens = opened.tokens()
    width = max(len(name) for name in tokens)
    for name, token in tokens.items():
        click.echo(f"{name:{width}}  {address}/r/{token}")
