"""What all distributions under plugins/ have in common; a new folder there is tested without an edit here."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from medgan import registry
from medgan.core import GAN, DataSpec, LabelSpec
from medgan.testing.probe import main_spec, refusal, train

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
GROUND = {"medgan.augment", "medgan.core", "medgan.errors", "medgan.losses", "medgan.models", "medgan.nn"}


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def module_of(folder: Path) -> str:
    return folder.name.replace("-", "_")


def entry_points(folder: Path) -> dict[str, str]:
    """Return the architectures of a plugin in the tree, by name; at least one."""
    found: dict[str, str] = read(folder / "pyproject.toml")["project"]["entry-points"]["medgan.architectures"]
    return found


def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[type[GAN]]:
    """Return the classes that the entry points of a plugin in the tree name."""
    monkeypatch.syspath_prepend(folder)
    return [registry.Plugin(name, value, folder.name).load() for name, value in entry_points(folder).items()]


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, as ``medgan.core`` for ``from medgan import core``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "medgan":
            yield from (f"medgan.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_project(folder: Path) -> None:
    project, medgan = (read(path / "pyproject.toml")["project"] for path in (folder, ROOT))
    assert project["name"] == folder.name
    assert project["requires-python"] == medgan["requires-python"]
    assert {line for line in project["dependencies"] if not line.startswith("medgan>=")} <= set(medgan["dependencies"])
    assert {value.partition(":")[0] for value in entry_points(folder).values()} == {module_of(folder)}
    assert (folder / module_of(folder) / "py.typed").is_file()
    assert project["license-files"] == ["LICENSE"]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / "tests" / f"test_{module_of(folder)}.py").is_file()


def test_imports_what_plugins_may(folder: Path) -> None:
    others = {module_of(other) for other in FOLDERS} - {module_of(folder)}
    for path in folder.rglob("*.py"):
        ground = GROUND | {"medgan.testing"} if "tests" in path.relative_to(folder).parts else GROUND
        for name in imports(path):
            top, *rest = name.split(".")
            assert top not in others, f"{path}: {name}"
            assert top != "medgan" or ".".join([top, *rest[:1]]) in ground, f"{path}: {name}"


def test_architecture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for architecture in load(folder, monkeypatch):
        assert registry.api_version(architecture) == 1
        assert "api_version" in vars(architecture)
        assert {"tiny", "small", "paper"} <= set(architecture.presets)
        assert architecture.default_preset == "small"
        assert architecture.reference
        assert set(import_module(module_of(folder)).__all__) >= {architecture.__name__, architecture.Config.__name__}


def test_what_presets_say_beside_a_penalty_gives_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for architecture in load(folder, monkeypatch):
        for name in architecture.presets:
            error = refusal(partial(architecture.get_preset(name).replace, gradient_penalty="none"))
            # An architecture may need a penalty.
            assert error is None or "on nothing" not in str(error)


def test_classes_have_figures_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for architecture in load(folder, monkeypatch):
        data = main_spec(architecture)
        if data.labels is None:
            continue
        assert data.labels.kind == "categorical"
        figures = train(architecture(data, preset="tiny"), 1).class_metrics
        assert {"discriminator/real", "discriminator/fake"} <= figures.keys(), architecture.name


def test_readme_has_the_parameter_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of a table for each preset; counts at 64 pixels or voxels a side, grey, two classes where it has labels.

    The row's first cell is the preset's name; of several architectures, before it that of the architecture.
    """
    architectures = load(folder, monkeypatch)
    text = (folder / "README.md").read_text(encoding="utf-8")
    for architecture in architectures:
        assert str(architecture.reference) in text
        labels = LabelSpec(("NORMAL", "PNEUMONIA")) if architecture.label_kinds else None
        data = DataSpec(1, (64,) * min(architecture.spatial_dims), labels, int(architecture.translates))
        for preset in architecture.presets:
            gan = architecture(data, preset=preset)
            networks = gan.generator, gan.make_discriminator(gan.config, data)
            counts = [f"{sum(weight.numel() for weight in network.parameters()):,}" for network in networks]
            cell = f"`{preset}`" if len(architectures) == 1 else f"`{architecture.name}` `{preset}`"
            (row,) = re.findall(rf"^\| {cell} .*$", text, re.MULTILINE)
            assert [count for count in counts if count not in row] == [], row


# What a newcomer types, for each architecture in turn; in one process, as each start takes seconds.
FIRST_STEPS = """
import shlex
from click.testing import CliRunner
from medgan import registry
from medgan.cli.main import main
from medgan.data import phantom

for name in phantom._COUNTS:
    phantom._COUNTS[name] = 60  # images, which suffice for two steps

def medgan(*arguments):
    result = CliRunner().invoke(main, arguments, prog_name="medgan", catch_exceptions=False)
    assert result.exit_code == 0, (arguments, result.output)
    return result.stdout.splitlines()

for name, plugin in registry.plugins().items():
    architecture = plugin.load()
    lines = medgan("fit", "--arch", name, "--preset", "tiny", "--steps", "2")
    (hint,) = [line.removeprefix("More:   medgan ") for line in lines if line.startswith("More:")]
    hint = hint.replace("-n 64", "-n 2").replace("FOLDER", "'phantom://chest-lowdose?n=2&seed=9'")
    medgan(*shlex.split(hint.replace("--out samples", f"--out samples/{name}")))
    print(architecture.name, *architecture.spatial_dims)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling, which builds the plugins")
@pytest.mark.skipif(not FOLDERS, reason="there are no plugins, as in the source distribution")
def test_pip_installs_all(tmp_path: Path) -> None:
    """Each becomes a wheel and is found by its entry point, beside the others; trains without any data; and samples."""
    place, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", place, *FOLDERS], check=True, timeout=300)
    found = subprocess.run(
        [sys.executable, "-c", FIRST_STEPS],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=work,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])},
    )
    assert found.returncode == 0, found.stderr
    listed = [line.split() for line in found.stdout.splitlines()]
    for folder in FOLDERS:
        for name in entry_points(folder):
            (dims,) = [dims for listed_name, *dims in listed if listed_name == name]
            suffix = "*.png" if "2" in dims else "*.nii.gz"
            assert len(list((work / "samples" / name).rglob(suffix))) == 2
        installed = {str(path.relative_to(place)) for path in (place / module_of(folder)).rglob("*.*")}
        assert f"{module_of(folder)}/py.typed" in installed
