"""``medgan fit``: train a GAN."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from medgan.cli.options import given, make_options
from medgan.data.defaults import choose_data
from medgan.runs import LENGTHS, Run, RunConfig, find_run, get_architecture, read_config

__all__ = ["fit"]

_CONTROL = (
    click.Option(
        ["config", "--config"],
        type=click.Path(path_type=Path),
        help="JSON file of options, such as a run's config.json; flags win over it.",
    ),
    click.Option(
        ["resume", "--resume"],
        metavar="auto|PATH",
        help="Continue a run folder; auto: the newest one in --outdir, or a new run if there is none.",
    ),
    click.Option(
        ["transforms", "--transforms"],
        metavar="MODULE:OBJECT",
        help="Preprocessing of your own, a callable such as a MONAI Compose; never taken from a file.",
    ),
    click.Option(["dry_run", "--dry-run"], is_flag=True, help="Say what would be done, and stop."),
)


class _FitCommand(click.Command):
    """Has the options of the run and those of whichever architecture is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look at --arch, --preset, --config and --resume first: they decide which options there are."""
        run_options = make_options(RunConfig)
        peek = {option.name: option for option in (*run_options, *_CONTROL)}
        peeking = click.Command(
            "fit",
            params=[peek[name] for name in ("arch", "preset", "outdir", "name", "config", "resume")],
            add_help_option=False,
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
        seen = peeking.make_context("fit", list(args), resilient_parsing=True)
        resume = None
        file = {} if seen.params["config"] is None else read_config(seen.params["config"])
        first = _peek(file, given(seen, list(peek.values())))
        if seen.params["resume"] is not None:
            resume = find_run(seen.params["resume"], Path(first.outdir), first.name)
        if resume is not None:
            first = _peek(read_config(resume / "config.json"), {})  # another one is refused, by its own name
        architecture = get_architecture(first.arch)
        preset = architecture.get_preset(first.preset)
        for option in run_options:
            if option.name == "data":  # the help shows which phantom it is
                option.default = choose_data([(architecture, preset)], {})["data"]
        self.params = [*run_options, *make_options(preset), *_CONTROL]
        self.epilog = f"Presets of {architecture.name}: {', '.join(architecture.presets)}."
        ctx.obj = (resume, file)
        return super().parse_args(ctx, args)


def _peek(file: Mapping[str, Any], flags: Mapping[str, Any]) -> RunConfig:
    """Return what decides about the options, checked; the rest has its default."""
    named = {**file, **flags}
    return RunConfig.from_dict({name: named[name] for name in ("arch", "preset", "outdir", "name") if name in named})


@click.command(cls=_FitCommand)
@click.pass_context
def fit(context: click.Context, /, **_: Any) -> None:
    """Train a GAN, and write a run folder with samples, log, checkpoints and the model.

    Without --data it trains on an embedded phantom that the architecture can learn: of the chest,
    in pictures, pairs or volumes. The options below are those of the run, then those of the
    architecture: `medgan fit --arch NAME --help` shows another's.
    """
    from medgan.core.distribution import leave
    from medgan.training import TrainingStopped

    resume, file = context.obj
    options = [item for item in context.command.params if isinstance(item, click.Option)]
    flags = given(context, [item for item in options if item not in _CONTROL])
    if resume is not None and file:
        if context.params["resume"] != "auto":
            raise click.UsageError("--config and --resume exclude each other: a resumed run has its options already.")
        # A job that may be stopped types the same command each time: its file has to agree with the run.
        replaced = LENGTHS if any(name in flags for name in LENGTHS) else ()
        flags = {name: value for name, value in file.items() if name not in replaced} | flags
    run = Run(
        flags,
        file,
        resume=resume,
        begin_again=context.params["resume"] == "auto",
        transforms=context.params["transforms"],
        say=_say,
    )
    if context.params["dry_run"]:
        run.dry_run()
        return
    try:
        run.fit()
        leave()
    except TrainingStopped:
        folder = shlex.quote(str(run.folder))
        run.say(f"Stopped; everything is saved. Continue with: medgan fit --resume {folder}")
        sys.exit(130)


def _say(line: str) -> None:
    """Print a line for the user, and into the run's log."""
    click.echo(line)
    logging.getLogger("medgan").info(line)
