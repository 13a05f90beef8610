"""Things that are made by name: medgan's own, those that installed packages declare, and any ``module:Class``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NoReturn, TypeVar

from medgan.errors import ConfigError, PluginError, nearest

__all__ = ["PluginGroup"]

T = TypeVar("T")


@dataclass(frozen=True)
class PluginGroup:
    """One entry-point group, with the names that medgan itself fills.

    Attributes:
        group: Entry-point group, such as ``medgan.extractors``.
        noun: What its things are called in messages, such as ``Extractor``.
        product: Public name of the class that they are of.
        built_in: Names of medgan's own.
        forms: Names that take more, such as ``module:Class``; only for lists and messages.
    """

    group: str
    noun: str
    product: str
    built_in: tuple[str, ...]
    forms: tuple[str, ...] = ("module:Class",)

    def names(self) -> list[str]:
        """Return all names, sorted, without importing anything, and last the forms that take more."""
        return [*sorted({*self.built_in, *self._declared()}), *self.forms]

    def is_built_in(self, name: str) -> bool:
        """Say whether a name is medgan's own.

        Raises:
            PluginError: If an installed package declares the same name.
        """
        if name not in self.built_in:
            return False
        declared = self._declared()
        if name in declared:
            self._clash(name, [*declared[name], EntryPoint(name, "medgan's own", self.group)])
        return True

    def make(self, name: str, expected: type[T], *, options: Mapping[str, object], required: Sequence[str]) -> T:
        """Make a third party's thing.

        Args:
            name: What an installed package declares, or ``module:Class``, in the current directory or installed.
            expected: Class of which it must be.
            options: Keywords with which it is called.
            required: Attributes that it must have.

        Raises:
            ConfigError: If there is none of that name, the nearest is suggested; or as it raises itself.
            PluginError: If several packages declare it, or it is there but broken.
        """
        declared = self._declared()
        if name in declared:
            if len(declared[name]) > 1:
                self._clash(name, declared[name])
            return self._load(declared[name][0], expected, options, required)
        module, colon, attribute = name.partition(":")
        if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            here = str(Path.cwd())  # the command line does not look there by itself
            sys.path.insert(0, here)
            try:
                return self._load(EntryPoint(name, name, self.group), expected, options, required)
            finally:
                sys.path.remove(here)
        raise ConfigError(f"{self.noun} {name!r} is unknown. {nearest(name, self.names())}")

    def _declared(self) -> dict[str, list[EntryPoint]]:
        """Return what installed packages declare, by name."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            same = found.setdefault(point.name, [])
            # The same distribution can be on the path twice, for example from its own source folder.
            if all((_origin(point), point.value) != (_origin(other), other.value) for other in same):
                same.append(point)
        return found

    def _clash(self, name: str, declared: Sequence[EntryPoint]) -> NoReturn:
        """Raise because several declare a name."""
        places = " and ".join(f"{_origin(point)} ({point.value})" for point in declared)
        raise PluginError(f"{self.noun} {name!r} is declared twice: by {places}. Uninstall one of them.")

    def _load(self, point: EntryPoint, expected: type[T], options: Mapping[str, object], required: Sequence[str]) -> T:
        """Import what an entry point names, call it, and check what it made."""
        origin = _origin(point) if point.dist else "the name itself"
        place = f"{self.noun} {point.name!r} ({point.value}, from {origin})"
        try:
            made = point.load()(**options)
        except ConfigError:
            raise
        # A plugin may fail in any way at all; the error says which one it was.
        except Exception as error:
            raise PluginError(f"{place} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(made, expected):
            raise PluginError(f"{place} made {type(made).__name__}, not a {self.product}.")
        missing = [attribute for attribute in required if not hasattr(made, attribute)]
        if missing:
            raise PluginError(f"{place} does not define {', '.join(missing)}.")
        return made


def _origin(point: EntryPoint) -> str:
    """Say which distribution declares an entry point."""
    return "medgan" if point.dist is None else f"{point.dist.name} {point.dist.version}"
