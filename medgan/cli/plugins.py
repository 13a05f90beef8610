"""``medgan plugins``: begin an architecture of one's own, see what is installed, and check it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from medgan import __version__, registry
from medgan.cli.archs import print_plugins
from medgan.cli.summaries import Summary
from medgan.core import API_VERSION
from medgan.registry import Plugin

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """Begin an architecture of your own, see what is installed, and check it."""


@plugins.command()
@click.argument("name")
@click.option("--from", "copy_of", metavar="ARCH", help="Begin with a copy of the losses of an installed architecture.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to create; medgan-NAME if not given.")
def new(name: str, copy_of: str | None, out: Path | None) -> None:
    """Write a package with an architecture called NAME, which trains as it stands.

    Without --from it has two networks and two losses of its own. With --from it is a subclass with a
    copy of the other's losses, and of its step if that is its own, to be changed. It has all else from
    there. The written README says what was copied.
    """
    from medgan.scaffold import write_plugin

    folder = write_plugin(name, out, copy_of=copy_of)
    click.echo(f"Plugin: {folder}")
    # Without the dot pip would look for a distribution of that name.
    place = str(folder) if folder.is_absolute() else f"./{folder}"
    click.echo(f"Install it with: pip install -e {shlex.quote(place)}")
    click.echo(f"Check it with: medgan plugins check {name}")
    click.echo(f"Train it with: medgan fit --arch {name}")


@plugins.command("list")
def list_() -> None:
    """List the architectures with the packages that they come from.

    One that cannot be used is listed with its error.
    """

    def describe(plugin: Plugin, summary: Summary | None) -> Sequence[str]:
        version = "broken, see below" if summary is None else str(summary.api_version)
        origin = "entry point" if plugin.distribution else plugin.origin
        return plugin.distribution, plugin.version, version, origin, plugin.value

    print_plugins(("distribution", "version", "API version", "declared by", "class"), describe)


@plugins.command()
@click.argument("name")
def check(name: str) -> None:
    """Check that the architecture NAME keeps the promises that the rest of medgan relies on.

    Says first which distribution and version it is from. Takes about half a minute. Exit code 1 if it
    breaks a promise.
    """
    from medgan.testing import checks, run_checks

    architecture = registry.get(name)
    click.echo(
        f"{name} from {registry.plugins()[name].origin}, for version {registry.api_version(architecture)} of medgan's "
        f"interface; this is medgan {__version__}, with version {API_VERSION}"
    )
    width = max(len(getattr(each, "__name__", "")) for each in checks())
    results = []
    for result in run_checks(architecture):
        outcome = "passed" if result.error is None else "FAILED"
        click.echo(f"{outcome}  {result.seconds:5.1f} s  {result.name:{width}}  {result.demand}")
        results.append(result)
    failed = [result for result in results if result.error is not None]
    for result in failed:
        click.echo(f"\n{result.name}: {result}")
    if failed:
        click.echo(f"\n{name} fails {len(failed)} of {len(results)} checks.")
        sys.exit(1)
    click.echo(f"{name} passes all {len(results)} checks.")
