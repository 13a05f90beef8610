from __future__ import annotations

import pytest

from medgan import errors
from medgan.errors import MedganError, nearest


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("CheckpointError", RuntimeError),
        ("ConfigError", ValueError),
        ("DataError", ValueError),
        ("PluginError", RuntimeError),
        ("ProcessLostError", RuntimeError),
        ("TrainingDivergedError", ArithmeticError),
        ("UnknownArchitectureError", LookupError),
    ],
)
def test_errors_are_medgans_and_the_builtin_that_fits(name: str, builtin: type[Exception]) -> None:
    error = getattr(errors, name)
    assert issubclass(error, MedganError)
    assert issubclass(error, builtin)
    # A LookupError of the kind KeyError would print its message in quotes.
    assert str(error("A message.")) == "A message."


def test_all_errors_are_tested() -> None:
    kinds = {name for name in errors.__all__ if name.endswith("Error")} - {"MedganError"}
    assert len(kinds) == 7


def test_nearest() -> None:
    assert nearest("acgna", ["dcgan", "acgan"]) == "Did you mean 'acgan'? Known: acgan, dcgan."
    assert nearest("xyz", ["dcgan", "acgan"]) == "Known: acgan, dcgan."
    assert nearest("xyz", []) == "Known: none."
