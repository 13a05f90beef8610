"""The command line, in this process, and one short run that many tests look at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import click.testing
import pytest

from medgan.cli.main import main

PHANTOM = "phantom://chest?n=40&seed=1"
SMALL = ("--data", PHANTOM, "--size", "32", "--preset", "tiny", "--device", "cpu")


class CommandLine:
    """Runs `medgan` with the given arguments."""

    small = SMALL

    def __call__(self, *arguments: object) -> click.testing.Result:
        """Return the result, whatever it is; an exception that medgan does not know is raised here."""
        texts = [str(argument) for argument in arguments]
        return click.testing.CliRunner().invoke(main, texts, prog_name="medgan", catch_exceptions=False)

    def works(self, *arguments: object) -> click.testing.Result:
        """Return the result of a command that has to succeed."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result

    def fails(self, *arguments: object) -> str:
        """Return the one message of a command that has to end with exit code 2."""
        result = self(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        before, *messages = re.split(r"^Error: ", result.stderr, flags=re.MULTILINE)
        (message,) = messages
        # Warnings, progress and click's two lines on usage may come before it, nothing after it.
        assert message.strip().count("\n") <= 1, message
        assert "Exception" not in before
        return message.strip()

    def fit(self, folder: Path, *arguments: object) -> Path:
        """Train shortly, and return the run folder."""
        self.works("fit", *SMALL, "--outdir", folder.parent, "--name", folder.name, *arguments)
        return folder

    def options(self, *arguments: object) -> dict[str, object]:
        """Return the resolved configuration that a dry run prints."""
        text = self.works("fit", *arguments, "--dry-run").stdout
        values: dict[str, object] = json.JSONDecoder().raw_decode(text)[0]
        return values


@pytest.fixture(scope="session")
def medgan() -> CommandLine:
    return CommandLine()


@pytest.fixture(scope="session")
def fitted(medgan, tmp_path_factory) -> Path:
    """A run folder of six steps; look, but do not write."""
    folder = tmp_path_factory.mktemp("runs") / "fitted"
    return medgan.fit(folder, "--steps", 6, "--log-every", 2, "--sample-every", 3, "--checkpoint-every", 3)


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """A function that returns the files of a folder, to compare them."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
