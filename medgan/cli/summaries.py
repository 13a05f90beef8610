"""What lists say of the architectures, kept from one command to the next: importing them takes torch, and seconds."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from medgan import __version__, registry
from medgan.data.cache import default_cache_dir
from medgan.errors import CheckpointError, PluginError
from medgan.registry import Plugin

__all__ = ["Summary", "summaries"]


@dataclass(frozen=True)
class Summary:
    """What a list says of an architecture that can be used.

    Attributes:
        summary: What it is.
        presets: Names of its presets, joined by commas.
        translates: Whether it makes images from source images.
        api_version: Version of the interface that it was written for.
    """

    summary: str
    presets: str
    translates: bool
    api_version: int


def summaries() -> Iterator[tuple[Plugin, Summary | PluginError]]:
    """Give each architecture, by name, with what it is, or with what is wrong with it.

    One that could be imported before is imported again only if something was installed, removed or edited since. Those
    that are broken are tried each time: what they lack need not be a package.
    """
    plugins = registry.plugins()
    path = default_cache_dir() / "architectures.json"
    state = _state(plugins)
    known = _read(path, state)
    found = {}
    for plugin in plugins.values():
        summary: Summary | PluginError
        if plugin.name in known:
            summary = known[plugin.name]
        else:
            try:
                summary = _summarise(plugin)
            except PluginError as error:
                summary = error
        if isinstance(summary, Summary) and _can_be_kept(plugin):
            found[plugin.name] = summary
        yield plugin, summary
    if found != known:
        _write(path, state, found)


def _summarise(plugin: Plugin) -> Summary:
    """Import an architecture and describe it."""
    architecture = plugin.load()
    return Summary(
        summary=architecture.summary,
        presets=", ".join(architecture.presets),
        translates=architecture.translates,
        api_version=registry.api_version(architecture),
    )


def _can_be_kept(plugin: Plugin) -> bool:
    """Return whether another process would find the same: what `registry.register` was given is of this one."""
    return plugin.distribution != "" or plugin.origin == registry.VARIABLE


def _state(plugins: dict[str, Plugin]) -> str:
    """Return a checksum of all that decides whether the architectures can be imported, and as what.

    Installing, upgrading or removing anything changes the folder that holds it; a package that is edited where it lies
    changes its files.
    """
    parts = [sys.version, __version__, *(repr(plugin) for plugin in plugins.values())]
    for entry in sys.path[1:]:  # the first is where the command lies, or the current folder: whatever it was called by
        folder = Path(entry)
        parts.append(f"{folder} {folder.stat().st_mtime_ns if folder.is_dir() else ''}")
    packages = {plugin.value.partition(":")[0].partition(".")[0] for plugin in plugins.values()}
    for package in sorted({"medgan", *packages}):
        for file in _files(package):
            facts = file.stat()
            parts.append(f"{file} {facts.st_size} {facts.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def _files(package: str) -> list[Path]:
    """Return a package's source files, without importing it; none if it is not there."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # a name that is none, or a module that was made by hand
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return sorted(file for folder in spec.submodule_search_locations for file in Path(folder).rglob("*.py"))
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _read(path: Path, state: str) -> dict[str, Summary]:
    """Return what was kept for this state; nothing if there is none, or the file is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["state"] != state:
            return {}
        return {name: Summary(**facts) for name, facts in kept["architectures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(path: Path, state: str, found: dict[str, Summary]) -> None:
    """Keep what was found; where that cannot be, the next command looks again."""
    from medgan.core.saving import write_aside

    facts = {name: asdict(summary) for name, summary in found.items()}
    try:
        with write_aside(path) as aside:
            aside.write_text(json.dumps({"state": state, "architectures": facts}, indent=1), encoding="utf-8")
    except CheckpointError:
        return
