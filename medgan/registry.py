"""Which architectures there are: entry points of installed packages, an environment variable, `register`.

A third party's package declares, in its own ``pyproject.toml``::

    [project.entry-points."medgan.architectures"]
    mygan = "mypackage:MyGAN"

`names` reads metadata only; `get` imports the one plugin that was asked for, so that a broken one
stops nothing else. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from medgan import __version__
from medgan.core.version import API_VERSION
from medgan.errors import PluginError, UnknownArchitectureError, nearest

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["GROUP", "NAME", "VARIABLE", "Plugin", "api_version", "get", "names", "plugins", "register", "unregister"]

GROUP = "medgan.architectures"
"""Entry-point group."""

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""Pattern of a name, which is kebab-case, such as ``my-gan``."""

VARIABLE = "MEDGAN_PLUGINS"
"""Environment variable that adds architectures without installing, as ``name=module:Class``, joined by commas."""

_registered: dict[str, type[GAN]] = {}


@dataclass(frozen=True)
class Plugin:
    """An architecture by name, not imported yet.

    Attributes:
        name: Name on the command line.
        value: Where the class is, ``module:Class``.
        origin: What declares it: a distribution with its version, the variable, or `register`.
        distribution: The distribution as pip names it; "" if it is not one that declares it.
        version: Its version that is installed, or "".
        clash: What is wrong if several declare the name, else "".
    """

    name: str
    value: str
    origin: str
    distribution: str = ""
    version: str = ""
    clash: str = ""

    def load(self) -> type[GAN]:
        """Import the class and check that it is what it says.

        Raises:
            PluginError: If several declare the name, the import fails, or the object is no `GAN`
                subclass of that name, or one for another version of the interface.
        """
        if self.clash:
            raise PluginError(self.clash)
        if self.name in _registered:
            return _registered[self.name]
        try:
            found = EntryPoint(self.name, self.value, GROUP).load()
        # A plugin may fail in any way at all; none of them may stop another architecture.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise PluginError(
                f"Architecture {self.name!r} ({self.value}, from {self.origin}) cannot be imported: "
                f"{type(error).__name__}: {error}. {self._way_out()}"
            ) from error
        _check(found, self.name, f"{self.value}, from {self.origin}", self.distribution)
        architecture: type[GAN] = found
        return architecture

    def _way_out(self) -> str:
        """Say what to type when it cannot be imported."""
        if not self.distribution:
            return f"Mend it, or {self._removal()}."
        return f"Type pip install -U {self.distribution}, which also brings what it needs, or {self._removal()}."

    def _removal(self) -> str:
        """Say how it is taken away."""
        if self.distribution:
            return f"pip uninstall {self.distribution}"
        if self.origin == VARIABLE:
            return f"take it out of {VARIABLE}"
        return f"delete the .dist-info or .egg-info folder of {self.origin}"


def plugins() -> dict[str, Plugin]:
    """Return all architectures by name, in order, without importing any.

    Returns:
        Name to plugin.

    Raises:
        PluginError: If `VARIABLE` cannot be read.
    """
    found: dict[str, list[Plugin]] = {}
    for point in entry_points(group=GROUP):
        plugin = Plugin(point.name, point.value, "a distribution without metadata")
        if point.dist is not None:
            # What is left of an installation that was interrupted has no name, whatever the annotation says.
            name, version = point.dist.name or "", point.dist.version or ""
            origin = f"{name} {version}".strip() if name else f"{plugin.origin} in {point.dist.locate_file('')}"
            plugin = replace(plugin, origin=origin, distribution=name, version=version)
        # The same distribution can be on the path twice, for example from its own source folder.
        if plugin not in found.setdefault(point.name, []):
            found[point.name].append(plugin)
    for item in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        name, equals, value = item.partition("=")
        if not (name.strip() and equals and ":" in value):
            raise PluginError(f"{VARIABLE} holds {item!r}; expected name=module:Class, several joined by commas.")
        found.setdefault(name.strip(), []).append(Plugin(name.strip(), value.strip(), VARIABLE))
    for name, architecture in _registered.items():
        value = f"{architecture.__module__}:{architecture.__qualname__}"
        found[name] = [Plugin(name, value, "medgan.registry.register")]
    return {name: _single(found[name]) for name in sorted(found)}


def _single(declared: list[Plugin]) -> Plugin:
    """Return the plugin of a name; a clash makes that name unusable, and no other."""
    if len(declared) == 1:
        return declared[0]
    places = " and ".join(f"{plugin.origin} ({plugin.value})" for plugin in declared)
    ways_out = ", or ".join(plugin._removal() for plugin in declared)
    clash = f"Architecture {declared[0].name!r} is declared twice: by {places}. Uninstall one of them: {ways_out}."
    return replace(
        declared[0],
        value=", ".join(plugin.value for plugin in declared),
        origin=", ".join(plugin.origin for plugin in declared),
        distribution="",
        version="",
        clash=clash,
    )


def names() -> list[str]:
    """Return the names of all architectures, sorted, without importing any.

    Raises:
        PluginError: As in `plugins`.
    """
    return list(plugins())


def get(name: str) -> type[GAN]:
    """Return an architecture, importing it and no other.

    Args:
        name: Its name, for example ``"acgan"``.

    Returns:
        The class.

    Raises:
        UnknownArchitectureError: If there is none of that name; the nearest is suggested.
        PluginError: If it is there but broken.
    """
    known = plugins()
    if name not in known:
        raise UnknownArchitectureError(
            f"Architecture {name!r} is not installed. {nearest(name, known)} "
            f"Others come with `pip install` of a package that declares them, or with {VARIABLE}."
        )
    return known[name].load()


def register(architecture: type[GAN]) -> type[GAN]:
    """Add an architecture for this process, for example in a notebook; works as a decorator.

    Registering a class of the same name and origin again replaces it, as re-running a cell does.

    Args:
        architecture: A subclass of `medgan.core.GAN`.

    Returns:
        The class itself.

    Raises:
        PluginError: If it is no such class, one for another version of the interface, or its name belongs to an
            installed architecture.
    """
    name = getattr(architecture, "name", None)
    _check(architecture, name, repr(architecture))
    known = plugins()
    place = f"{architecture.__module__}:{architecture.__qualname__}"
    if name in known and (name not in _registered or known[name].value != place):
        raise PluginError(
            f"Architecture {name!r} is declared already: {known[name].value}, by {known[name].origin}. "
            "Choose another name."
        )
    _registered[architecture.name] = architecture
    return architecture


def unregister(name: str) -> None:
    """Take back a `register`.

    Args:
        name: The architecture's name.

    Raises:
        UnknownArchitectureError: If none of that name was registered.
    """
    if name not in _registered:
        raise UnknownArchitectureError(f"Architecture {name!r} was not registered. {nearest(name, _registered)}")
    del _registered[name]


def api_version(architecture: type[GAN]) -> int:
    """Return the version of the interface that an architecture was written for.

    Its own package says so: what a plugin's base class of another package says, such as ACGAN, need not hold for it.

    Args:
        architecture: The class.
    """
    package = architecture.__module__.partition(".")[0]
    own = (base for base in architecture.__mro__ if base.__module__.partition(".")[0] == package)
    said = (vars(base)["api_version"] for base in own if "api_version" in vars(base))
    return next(said, 1)


def _check(found: Any, name: str | None, place: str, distribution: str = "") -> None:
    """Raise unless `found` is a concrete GAN class, for this version of the interface, whose name is `name`."""
    from medgan.core.gan import GAN

    if not (isinstance(found, type) and issubclass(found, GAN)):
        raise PluginError(f"{place} is not a subclass of medgan.core.GAN.")
    written = api_version(found)
    if not isinstance(written, int):
        raise PluginError(f"{place} has api_version = {written!r}; expected a number such as {API_VERSION}.")
    if written != API_VERSION:
        way_out = f"Adapt it, and write api_version = {API_VERSION} into the class."
        if written > API_VERSION:
            way_out = "Type pip install -U medgan."
        elif distribution:
            way_out = f"Type pip install -U {distribution}."
        raise PluginError(
            f"Architecture {name!r} ({place}) was written for version {written} of medgan's interface, but this "
            f"medgan ({__version__}) has version {API_VERSION}. {way_out}"
        )
    missing = [part for part in ("name", "summary", "Trainer", "presets", "default_preset") if not hasattr(found, part)]
    missing += sorted(found.__abstractmethods__)
    if missing:
        raise PluginError(f"{place} does not define {', '.join(missing)}.")
    if found.name != name:
        raise PluginError(f"{place} is registered as {name!r} but names itself {found.name!r}; the two must agree.")
