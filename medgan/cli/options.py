"""Config dataclasses as click options: the declaration of an option is its flag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from medgan.core.config import Config, Option
from medgan.data.config import DataConfig, shape_options

if TYPE_CHECKING:
    from medgan.core.spec import DataSpec
    from medgan.data import ImageDataset

__all__ = [
    "Names",
    "data_options",
    "device_option",
    "free_folder",
    "given",
    "make_options",
    "open_as",
    "report_option",
    "truncation_option",
    "which_option",
]

# What every command that makes images takes.
truncation_option = click.option(
    "--truncation", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Below 1: more typical."
)
which_option = click.option(
    "--which",
    type=click.Choice(["best", "latest"]),
    default="best",
    show_default=True,
    help="Model of a run: the best on held-out patients, or the latest; the latest also where no best was kept.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to run.",
)


def make_options(config: Config | type[Config], *, short: dict[str, str] | None = None) -> list[click.Option]:
    """Return one click option for each option of a config.

    Args:
        config: The class, or an instance whose values are shown as defaults.
        short: Short flags by option name, for example ``{"num": "-n"}``.

    Returns:
        The options; their values are None or the default unless the user gave them: see `given`.
    """
    short = short or {}
    shown = config.to_dict() if isinstance(config, Config) else {}
    return [_make(item, shown.get(item.name, item.default), short.get(item.name)) for item in config.options()]


def data_options(*, shape: bool = True) -> list[click.Option]:
    """Return the options that say which real images there are, and how they are read.

    Args:
        shape: Whether also what size and how many channels they get; else that is known, as of a model's images.
    """
    left_out = ("data", "licence", "citation", *(() if shape else ("size", "depth", "channels")))
    return [option for option in make_options(DataConfig) if option.name not in left_out]


def given(context: click.Context, options: Sequence[click.Option]) -> dict[str, Any]:
    """Return the values that the user typed, by option name.

    Args:
        context: The command's context.
        options: Which options to look at.
    """
    typed = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    names = [option.name for option in options if option.name]
    return {name: context.params[name] for name in names if context.get_parameter_source(name) in typed}


def open_as(
    source: str,
    spec: DataSpec | None,
    data: Mapping[str, Any],
    transforms: str | None = None,
    *,
    run: Path | None = None,
) -> ImageDataset:
    """Open images to be put beside others, or beside a model's: as those are, where `data` does not say otherwise.

    Args:
        source: The images, as for `medgan fit`.
        spec: Facts of the others, whose size and channels are wanted; None for none.
        data: Further options of `DataConfig`, such as those that were `given`; they win.
        transforms: ``module:object`` of the user's own preprocessing.
        run: Folder of the run that the others, or the model, are of: its images say how these are read.
    """
    from medgan.data import open_configured
    from medgan.runs import reading_of
    from medgan.training import reading_progress

    reading = {} if run is None else reading_of(run, transforms=transforms)
    shape = {} if spec is None else shape_options(spec)
    options = {**reading, **shape, **data, "data": source}
    # First with as many channels as they have or the run asked for: only so are the images of a training recognised.
    first = {**options, "channels": {"channels": "auto", **reading, **data}["channels"]}
    with reading_progress() as progress:
        opened = open_configured(DataConfig.from_dict(first), transforms=transforms, progress=progress)
    if spec is None or "channels" in data or opened.spec.channels == spec.channels:
        return opened
    with reading_progress() as progress:
        return open_configured(DataConfig.from_dict(options), transforms=transforms, progress=progress)


def report_option(default: str, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option ``--out`` of a command that writes a report, into a `free_folder` if it is not given.

    Args:
        default: What the folder is called then, for the help.
        text: What is in it, for the help.
    """
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"{text}  [default: {default}; with a number if there is one]",
    )


def free_folder(folder: Path) -> Path:
    """Return a folder that is not there yet: the given one, or one with the next number behind its name."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


class Names(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """Names that are joined by commas, as a list."""

    name = "A,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Cut the text, and leave out what is empty."""
        return value if isinstance(value, list) else [name.strip() for name in value.split(",") if name.strip()]


class _Optional(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """A value of another type, or ``none``."""

    def __init__(self, kind: Any) -> None:
        """Take the other type."""
        self.kind = click.types.convert_type(kind)
        self.name = f"{self.kind.name}|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn ``none`` into None, and leave the rest to the other type."""
        return None if value == "none" else self.kind.convert(value, param, ctx)


def _make(item: Option, default: Any, short: str | None) -> click.Option:
    """Return the click option of a declaration; bounds are left to `Config`, the one validator."""
    flag = "--" + item.name.replace("_", "-")
    names = [item.name, *([short] if short else []), flag]
    kind: Any = click.Choice([str(choice) for choice in item.choices]) if item.choices else item.type
    if item.type is bool:
        names[-1] = f"{flag}/--no-{flag[2:]}"
        kind = None
    bounds = [
        text for text, bound in ((f"at least {item.ge}", item.ge), (f"at most {item.le}", item.le)) if bound is not None
    ]
    help_text = f"{item.help} ({', '.join(bounds)})" if bounds else item.help
    if item.optional:
        kind = _Optional(kind)
    return click.Option(names, type=kind, default=default, help=help_text, show_default=default is not None)
