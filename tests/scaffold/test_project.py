"""New plugins: what is written passes its own tests, the linter and the type checker, and mistakes are refused."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from medgan import registry
from medgan.core import API_VERSION, DataSpec, LabelSpec
from medgan.data.defaults import choose_data
from medgan.errors import ConfigError, UnknownArchitectureError
from medgan.models import ACGAN
from medgan.scaffold import write_plugin

ROOT = Path(__file__).parents[2]
KINDS = {"own": None, "copy": "acgan"}


@pytest.fixture(scope="module", params=KINDS)
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new plugin called my-gan; look, but do not write."""
    return write_plugin(
        "my-gan", tmp_path_factory.mktemp(request.param) / "medgan-my-gan", copy_of=KINDS[request.param]
    )


def run(*arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )


def test_it_is_a_whole_distribution(plugin: Path) -> None:
    names = {str(path.relative_to(plugin)) for path in plugin.rglob("*") if path.is_file()}
    assert names >= {
        *("pyproject.toml", "README.md", "LICENSE", "tox.ini", ".gitignore", ".github/workflows/tests.yml"),
        *("medgan_my_gan/__init__.py", "medgan_my_gan/gan.py", "medgan_my_gan/py.typed"),
        "tests/test_medgan_my_gan.py",
    }
    project = tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "medgan-my-gan"
    assert project["requires-python"] == ">=3.11"
    assert project["entry-points"]["medgan.architectures"] == {"my-gan": "medgan_my_gan:MyGAN"}
    assert [line.partition(">=")[0] for line in project["dependencies"]] == ["medgan", "torch"]
    for path in plugin.rglob("*"):
        assert not path.is_file() or "{{" not in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_passes_its_own_tests(plugin: Path) -> None:
    """All of them, the compliance kit included."""
    done = run("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=plugin)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert not {"failed", "skipped"} & set(done.stdout.split())


@pytest.mark.parametrize("tool", ["ruff check", "ruff format --check", "mypy --strict"])
def test_it_is_clean(plugin: Path, tool: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    name, *arguments = tool.split()
    if find_spec(name) is None:
        pytest.skip(f"needs {name}")
    config = "--config-file" if name == "mypy" else "--config"
    # What mypy learns of torch and medgan is the same for all of them, in whichever process.
    run_id = os.environ.get("PYTEST_XDIST_TESTRUNUID", "alone")
    cache = "--cache-dir", tmp_path_factory.getbasetemp().parent / f"medgan-{name}-{run_id}"
    where = plugin / "medgan_my_gan" if name == "mypy" else plugin
    done = run("-m", name, *arguments, config, ROOT / "pyproject.toml", *cache, where, folder=plugin)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_trains_from_the_command_line(plugin: Path, tmp_path: Path) -> None:
    declared = {"PYTHONPATH": os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")])}
    declared["MEDGAN_PLUGINS"] = "my-gan=medgan_my_gan:MyGAN"
    fit = ("fit", "--arch", "my-gan", "--data", "phantom://chest?n=40&seed=1", "--size", 32, "--preset", "tiny")
    done = run("-m", "medgan", *fit, "--steps", 2, "--device", "cpu", "--name", "one", folder=tmp_path, **declared)
    assert done.returncode == 0, done.stderr
    sampled = run("-m", "medgan", "sample", "--model", "runs/one", "-n", 2, folder=tmp_path, **declared)
    assert sampled.returncode == 0, sampled.stderr
    assert len(list((tmp_path / "samples").rglob("*.png"))) == 2


def apply(diff: str, folder: Path) -> None:
    """Make the edits of a unified diff; what each of its hunks changes has to be there just once."""
    for name, hunks in re.findall(r"^--- a/.*\n\+\+\+ b/(.*)\n((?:[@ +-].*\n|\n)*?)(?=^--- a/|\Z)", diff, re.MULTILINE):
        text = (folder / name).read_text(encoding="utf-8")
        for hunk in re.split(r"^@@.*\n", hunks, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_only_the_loss_is_changed(tmp_path: Path) -> None:
    """As docs/tutorials/plugin.md has it: new plugins train as they stand, then with the page's edit of the loss."""

    def medgan(*arguments: object, known: tuple[str, ...] = ("my-gan", "my-hinge")) -> None:
        classes = {"my-gan": "medgan_my_gan:MyGAN", "my-hinge": "medgan_my_hinge:MyHinge"}
        folders = [str(tmp_path / f"medgan-{name}") for name in known]
        declared = {
            "MEDGAN_PLUGINS": ",".join(f"{name}={classes[name]}" for name in known),
            "PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")]),
        }
        done = run(*arguments, folder=tmp_path, **declared)
        assert done.returncode == 0, done.stdout + done.stderr

    def losses(architecture: str, name: str) -> list[dict[str, float]]:
        data = ("--data", "phantom://chest?n=60&seed=1", "--size", 32, "--device", "cpu")
        short = ("--preset", "tiny", "--steps", 4, "--log-every", 1, "--evaluate-every", 0, "--health", "off")
        medgan("-m", "medgan", "fit", "--arch", architecture, *data, *short, "--name", name)
        lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        terms = ("discriminator/real", "discriminator/fake", "generator/adversarial")
        return [{term: row[term] for term in terms} for row in map(json.loads, lines)]

    medgan("-m", "medgan", "plugins", "new", "my-gan", known=())
    medgan("-m", "medgan", "plugins", "new", "my-hinge", "--from", "my-gan", known=("my-gan",))
    unchanged, before = losses("my-gan", "unchanged"), losses("my-hinge", "before")
    assert unchanged == before
    apply((ROOT / "docs" / "tutorials" / "hinge.diff").read_text(encoding="utf-8"), tmp_path / "medgan-my-hinge")
    hinge = losses("my-hinge", "hinge")
    assert len(hinge) == len(before) == 4
    assert all(one[term] != other[term] for one, other in zip(hinge, before, strict=True) for term in one)
    # The generator's hinge loss is what the discriminator says, of either sign; the other one is positive.
    assert hinge[0]["discriminator/real"] == pytest.approx(1, abs=0.5)
    assert before[0]["discriminator/real"] == pytest.approx(0.69, abs=0.3)

    relevant = "losses or check_metrics or check_training_moves_both or check_separate_updates or check_resume"
    tests = ("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "medgan-my-hinge", "-k", relevant)
    medgan(*tests)


def test_a_copy_holds_the_losses_word_for_word(tmp_path: Path) -> None:
    text = (write_plugin("mine", tmp_path / "mine", copy_of="acgan") / "medgan_mine" / "gan.py").read_text(
        encoding="utf-8"
    )
    assert "class MineTrainer(ACGANTrainer):" in text
    assert "adversarial = self._discriminator_realness(on_real.realness, on_fake.realness)" in text
    assert "adversarial = self._generator_realness(output.realness, real)" in text
    assert f"    api_version = {API_VERSION}\n" in text


def test_a_copy_of_a_step_and_of_a_method_that_calls_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin's own step is copied; its super() stays what it was, and what it names is imported."""
    (tmp_path / "plugin_stepping.py").write_text(
        '''
from math import tau as turn

from medgan.core import Batch
from medgan.models.acgan import ACGAN, ACGANTrainer

_HALF = 0.5


def halve(value):
    return value * _HALF


class SteppingTrainer(ACGANTrainer):
    def train_step(self, batch: Batch):
        """Do a step, and log something."""
        metrics = super().train_step(batch)
        return {name: halve(value) * turn * _HALF for name, value in metrics.items()}


class Stepping(ACGAN):
    """ACGAN with a step of its own."""

    name = "stepping"
    Trainer = SteppingTrainer
''',
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(registry.VARIABLE, "stepping=plugin_stepping:Stepping")
    folder = write_plugin("stepped", tmp_path / "stepped", copy_of="stepping")
    text = (folder / "medgan_stepped" / "gan.py").read_text(encoding="utf-8")
    assert "def train_step(self, batch: Batch):" in text
    assert "def discriminator_loss" not in text
    assert '    """The step, as in stepping so far' in text
    assert "super(SteppingTrainer, self).train_step(batch)" in text
    assert "from math import tau as turn\n" in text
    assert "from plugin_stepping import _HALF, Stepping, SteppingTrainer, halve\n" in text
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv(registry.VARIABLE, "stepping=plugin_stepping:Stepping,stepped=medgan_stepped:Stepped")
    assert registry.get("stepped").Trainer.__name__ == "SteppedTrainer"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All architectures, those of the plugins in the tree declared by the variable where they are not installed."""
    declared = []
    known = registry.names()
    for project in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        points = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"][registry.GROUP]
        declared += [f"{name}={value}" for name, value in points.items() if name not in known]
        monkeypatch.syspath_prepend(project.parent)
    monkeypatch.setenv(registry.VARIABLE, ",".join(declared))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return registry.names()


def test_copies_of_all_architectures(installed: list[str], tmp_path: Path) -> None:
    for name in installed:
        architecture = registry.get(name)
        folder = write_plugin("mine", tmp_path / name, copy_of=name)
        test = (folder / "tests" / "test_medgan_mine.py").read_text(encoding="utf-8")
        (line,) = [line for line in test.splitlines() if line.startswith("DATA = ")]
        data = eval(line.removeprefix("DATA = "), {"DataSpec": DataSpec, "LabelSpec": LabelSpec})
        architecture.check(architecture.get_preset("tiny"), data)
        readme = (folder / "README.md").read_text(encoding="utf-8")
        assert choose_data([(architecture, architecture.get_preset())], {})["data"] in readme
        # What the README says was copied is there, and what defines the losses is among it.
        (line,) = [line for line in readme.splitlines() if f"copied from `{name}`" in line]
        said = re.findall(r"`(\w+)`(?=,)", line)
        code = ast.parse((folder / "medgan_mine" / "gan.py").read_text(encoding="utf-8"))
        (trainer,) = [node for node in code.body if isinstance(node, ast.ClassDef) and node.name == "MineTrainer"]
        assert said == [node.name for node in trainer.body if isinstance(node, ast.FunctionDef)]
        assert {"cyclegan": 2, "ha-gan": 3}.get(name, 0) == len([hook for hook in said if hook.endswith("_terms")])
        assert {"discriminator_loss", "discriminator_terms"} & set(said)
        assert line.startswith("| the step and losses |" if "train_step" in said else "| the losses |")
        assert ("--source" in readme) == architecture.translates
        assert ("--format nifti" in readme) == (2 not in architecture.spatial_dims)
        if find_spec("ruff") is not None:
            done = run("-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "--no-cache", ".", folder=folder)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan", "dcgan-3d", "ha-gan"])
def test_a_copy_learns_what_the_original_does(
    installed: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the test that comes with it: of what translates with sources, of what makes volumes with those."""
    if name not in installed:
        pytest.skip("there are no plugins, as in the source distribution")
    folder = write_plugin(f"my-{name}", tmp_path / "plugin", copy_of=name)
    monkeypatch.syspath_prepend(folder)
    (path,) = (folder / "tests").glob("test_*.py")
    tests = {key: test for key, test in runpy.run_path(str(path)).items() if key.startswith("test_it_learns")}
    assert list(tests) == [f"test_it_learns_what_{name.replace('-', '_')}_does"]
    for test in tests.values():
        test()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pix2pix", "dcgan-3d"])
def test_a_copy_passes_its_own_tests(installed: list[str], name: str, tmp_path: Path) -> None:
    """All of them, the compliance kit included."""
    if name not in installed:
        pytest.skip("there are no plugins, as in the source distribution")
    folder = write_plugin("mine", tmp_path / "plugin", copy_of=name)
    done = run("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


# --------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "name",
    [
        *("MyGAN", "my_gan", "3d", "-gan", "gan-", "my--gan", "my gan", "", "größe", "ｍｙ-gan"),
        *("a/b", "../my-gan", "my-gan/..", "/my-gan", "my-gan\n", "my-gan\0", "my.gan"),
        *("{{ name }}", 'my-gan"', "my-gan; true", "$(true)", "--help"),
    ],
)
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no name for an architecture.*such as my-gan"):
        write_plugin(name, tmp_path / "plugin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acgan", r"'acgan' is taken: medgan .* declares medgan.models.acgan:ACGAN"),
        ("gan", "would give a class GAN, but"),
        ("adversarial", "would give a class AdversarialTrainer, but"),
        ("tensor", "would give a class Tensor, but .* such as my-tensor"),
        ("warning", "would give a class Warning, but"),
    ],
)
def test_names_that_are_taken(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        write_plugin(name, tmp_path / "plugin")
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "medgan_other.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="'other' is taken: there is a module medgan_other already"):
        write_plugin("other", tmp_path / "plugin")


def test_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not an empty folder\. Name another --out"):
        write_plugin("my-gan", tmp_path)
    with pytest.raises(ConfigError, match="Name another --out"):
        write_plugin("my-gan", tmp_path / "notes.txt" / "plugin")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    assert (write_plugin("my-gan", tmp_path / "plugin") / "pyproject.toml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["plugin"]


def test_copy_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitectureError, match="Did you mean 'acgan'"):
        write_plugin("mine", tmp_path / "plugin", copy_of="acgna")


def test_copy_of_what_has_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register(type("Made", (ACGAN,), {"name": "made", "__module__": "medgan.models.acgan"}))
    try:
        with pytest.raises(ConfigError, match=r"Made cannot be imported from medgan.models.acgan by its name"):
            write_plugin("mine", tmp_path / "plugin", copy_of="made")
    finally:
        registry.unregister("made")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling, which builds the plugin")
def test_it_can_be_installed(plugin: Path, tmp_path: Path) -> None:
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", tmp_path)
    installed = run(*pip, plugin, folder=plugin.parent)
    assert installed.returncode == 0, installed.stderr
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    listed = run("-m", "medgan", "plugins", "list", folder=tmp_path, PYTHONPATH=path, COLUMNS="160")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("my-gan")]
    assert line.split() == ["my-gan", "medgan-my-gan", "0.1.0", "1", "entry", "point", "medgan_my_gan:MyGAN"]
