"""Errors that medgan raises for mistakes its user can mend.

Every message says what was given, what was expected and what to type. The command line turns any
`MedganError` into one line on standard error and exit code 2; in Python the classes also derive
from the built-in exception that fits, so ordinary ``except ValueError`` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "MedganError",
    "PluginError",
    "ProcessLostError",
    "TrainingDivergedError",
    "UnknownArchitectureError",
    "nearest",
]


class MedganError(Exception):
    """Base of every error that a user's input can cause."""


class ConfigError(MedganError, ValueError):
    """An option, preset or data spec that cannot be used as given."""


class DataError(MedganError, ValueError):
    """A data source that cannot be read, is empty, or does not fit what was asked of it."""


class UnknownArchitectureError(MedganError, LookupError):
    """No architecture of that name is installed."""


class PluginError(MedganError, RuntimeError):
    """An architecture is registered but cannot be used: import failure, wrong type or name clash."""


class CheckpointError(MedganError, RuntimeError):
    """A checkpoint, saved model or run folder that is missing, damaged or of another kind."""


class ProcessLostError(MedganError, RuntimeError):
    """Another process of a distributed training has ended or cannot be reached."""


class TrainingDivergedError(MedganError, ArithmeticError):
    """A loss or a weight became NaN or infinite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest of `known` and lists them all.

    Args:
        name: What the user typed.
        known: What would have been accepted.

    Returns:
        For example ``"Did you mean 'acgan'? Known: acgan, dcgan."``.
    """
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(options) or 'none'}."
