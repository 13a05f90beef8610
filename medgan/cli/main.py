"""The group of commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from typing import Any

import click

from medgan import __version__
from medgan.errors import MedganError

__all__ = ["main"]

_COMMANDS = {
    "archs": "medgan.cli.archs:archs",
    "audit": "medgan.cli.audit:audit",
    "augment": "medgan.cli.augment:augment",
    "card": "medgan.cli.card:card",
    "compare": "medgan.cli.compare:compare",
    "dose": "medgan.cli.dose:dose",
    "evaluate": "medgan.cli.evaluate:evaluate",
    "explore": "medgan.cli.explore:explore",
    "features": "medgan.cli.features:features",
    "fit": "medgan.cli.fit:fit",
    "inspect": "medgan.cli.inspect:inspect",
    "metrics": "medgan.cli.metrics:metrics",
    "plugins": "medgan.cli.plugins:plugins",
    "refine": "medgan.cli.refine:refine",
    "sample": "medgan.cli.sample:sample",
    "study": "medgan.cli.study:study",
}


class _UserError(click.ClickException):
    """A mistake that the user can mend: one message, exit code 2."""

    exit_code = 2


class _Group(click.Group):
    """Imports a command when it is used, so that ``--help`` is quick; turns errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; its errors end as one line, its warnings as one line each."""
        logging.captureWarnings(False)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except MedganError as error:
                raise _UserError(str(error)) from error
            except OSError as error:
                if error.filename is None:  # none of the user's files
                    raise
                raise _UserError(
                    f"{error.filename} cannot be used: {error.strerror}. Name another path, or see to it that you may "
                    "use this one."
                ) from error
            except (MemoryError, RuntimeError) as error:
                if not (isinstance(error, MemoryError) or _is_out_of_memory(error)):
                    raise
                raise _UserError(
                    "There is not enough memory. Try a smaller --size or --batch-size; in a training, "
                    "--gradient-accumulation-steps 2 with half the batch gives the same gradients."
                ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch, which is not imported here, found no memory on an accelerator or on the CPU."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning of medgan's without the line of code that raised it; leave the others out.

    Warnings of libraries concern medgan's code, not its user; the tests turn them into errors.
    """
    if category.__module__.startswith("medgan"):
        click.echo(f"Warning: {message}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="medgan")
def main() -> None:
    """Generative adversarial networks for medical images."""
