"""One module a measurement: `TITLE`, a docstring that says what is done, and `make_comparisons(settings)`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def names() -> list[str]:
    """Return the names of all measurements, as on the command line."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def get(name: str) -> ModuleType:
    """Return the module of a measurement."""
    return import_module(f"{__name__}.{name}")
