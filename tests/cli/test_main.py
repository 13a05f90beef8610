from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import numpy as np
import pytest
from PIL import Image

import medgan as package
from medgan.cli.main import main
from medgan.cli.options import free_folder, given, make_options, open_as
from medgan.core import DataSpec
from medgan.core.config import Config, option
from medgan.data import DataConfig, DataWarning, open_dataset


@dataclass(frozen=True, kw_only=True)
class Options(Config):
    number: int = option(3, "A number.", ge=1, le=9)
    rate: float | None = option(None, "A rate.")
    kind: Literal["a", "b"] = option("a", "A kind.")
    fast: bool = option(True, "Whether it is fast.")


@pytest.fixture
def parse():
    options = make_options(Options(number=5), short={"number": "-n"})

    def run(*arguments):
        context = click.Command("x", params=list(options)).make_context("x", list(arguments))
        return context.params, given(context, options), context.get_help()

    return run


def test_only_what_was_typed_is_given(parse):
    values, typed, _ = parse()
    assert values == {"number": 5, "rate": None, "kind": "a", "fast": True}
    assert typed == {}
    assert parse("-n", "5", "--no-fast")[1] == {"number": 5, "fast": False}
    assert parse("--rate", "1e-4", "--kind", "b")[1] == {"rate": 1e-4, "kind": "b"}


def test_help_of_options(parse):
    text = " ".join(parse()[2].split())
    assert "-n, --number INTEGER A number. (at least 1, at most 9) [default: 5]" in text
    assert "--kind [a|b] A kind. [default: a]" in text
    assert "--fast / --no-fast" in text
    assert "--rate FLOAT|NONE A rate." in text


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(medgan, flag):
    text = medgan.works(flag).stdout
    for command in ("archs", "fit", "sample"):
        assert command in text
        assert medgan.works(command, flag).stdout.startswith(f"Usage: medgan {command}")


def test_version(medgan):
    assert medgan.works("--version").stdout == f"medgan, version {package.__version__}\n"


def test_warnings_are_lines(medgan, monkeypatch):
    """Those of medgan without the code that raised them; those of libraries not at all."""

    @click.command()
    def warn():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("Look here.", DataWarning, stacklevel=1)
            warnings.warn("Nobody can mend this.", FutureWarning, stacklevel=1)

    monkeypatch.setattr(type(main), "get_command", lambda *_: warn)
    result = medgan.works("warn")
    assert result.stderr == "Warning: Look here.\n"


def test_a_path_that_one_may_not_enter(medgan, monkeypatch):
    """Even to look whether there is anything raises then, wherever that is."""

    @click.command()
    def enter():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/closed/scans")

    @click.command()
    def other():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(type(main), "get_command", lambda *_: enter)
    assert "/closed/scans cannot be used: Permission denied." in medgan.fails("enter")
    monkeypatch.setattr(type(main), "get_command", lambda *_: other)
    with pytest.raises(OSError, match="Input/output error"):
        medgan("other")


def test_mistake_in_a_process_of_its_own(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "medgan", "fit", "--data", "missing"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("Error: There is no missing (looked in ")
    assert process.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_commands_that_read_images_have_the_options_that_messages_name():
    """What to type when an image cannot be read can be typed; what a model says is not asked for."""
    folder = Path(package.__file__).parent / "data"
    flags = {flag for path in folder.glob("*.py") for flag in re.findall(r"--([a-z][a-z-]+)", path.read_text("utf-8"))}
    named = {flag.replace("-", "_") for flag in flags} & {item.name for item in DataConfig.options()}
    assert named >= {"slices", "spacing", "frame", "window", "depth", "mask_markers", "max_bad"}
    commands = {name: main.get_command(None, name) for name in main.list_commands(None)}
    commands["study"] = commands["study"].commands["new"]
    shape = {"size", "depth", "channels"}
    lacking = dict.fromkeys(("augment", "explore", "features", "study"), shape) | {"sample": {*shape, "labels"}}
    for name in ("audit", "augment", "evaluate", "explore", "features", "inspect", "metrics", "sample", "study"):
        has = {param.name for param in commands[name].params if f"--{param.name}".replace("_", "-") in param.opts}
        assert named - has <= lacking.get(name, set()), name


def test_images_get_the_channels_of_others(tmp_path):
    """Grey ones stay as they are, so that their fingerprint is that of a training on them."""
    for name, shape in (("grey", (32, 32)), ("colour", (32, 32, 3))):
        for number in range(4):
            file = tmp_path / name / "AB"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(file)
    opened = {name: open_as(str(tmp_path / name), DataSpec(1, (16, 16)), {}) for name in ("grey", "colour")}
    assert [dataset.spec.channels for dataset in opened.values()] == [1, 1]
    assert opened["grey"].fingerprint == open_dataset(tmp_path / "grey", size=16).fingerprint
    assert open_as(str(tmp_path / "colour"), DataSpec(1, (16, 16)), {"channels": "3"}).spec.channels == 3


def test_free_folder(tmp_path):
    assert free_folder(tmp_path / "report") == tmp_path / "report"
    (tmp_path / "report").mkdir()
    (tmp_path / "report-2").mkdir()
    assert free_folder(tmp_path / "report") == tmp_path / "report-3"


def test_none_unsets_an_optional_flag(medgan):
    assert medgan.options(*medgan.small, "--ema-rampup", "none")["ema_rampup"] is None
    assert medgan.options(*medgan.small, "--ema-rampup", "0.2")["ema_rampup"] == 0.2
    assert "'fast' is not a valid float" in medgan.fails("fit", "--ema-rampup", "fast")
