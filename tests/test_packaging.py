from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points, files, metadata, version
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path

import pytest

import medgan
from medgan.scaffold import project

ROOT = Path(__file__).parents[1]

# What takes long to import, or is not needed to print a help page.
HEAVY = {"accelerate", "matplotlib", "monai", "pandas", "pydicom", "scipy", "skimage", "sklearn", "torch"}


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )


def imported(*arguments: str) -> set[str]:
    """Return the top-level packages that a Python process imports."""
    process = python("-X", "importtime", *arguments)
    assert process.returncode == 0, process.stderr
    names = re.findall(r"^import time:.*\|\s*([\w.]+)$", process.stderr, re.MULTILINE)
    assert "medgan" in names
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import medgan"),
        ("-c", "import medgan.core, medgan.errors, medgan.registry; medgan.registry.names()"),
        ("-c", "from medgan.core import DataSpec, GANConfig"),
        ("-c", "import medgan.scaffold"),
        ("-m", "medgan", "--help"),
        ("-m", "medgan", "--version"),
    ],
    ids=" ".join,
)
def test_what_must_be_quick_imports_nothing_heavy(arguments):
    assert imported(*arguments) & HEAVY == set()


def test_heavy_imports_would_be_seen():
    assert "torch" in imported("-c", "import medgan.core.networks")


def test_version():
    assert medgan.__version__ == version("medgan")
    assert python("-m", "medgan", "--version").stdout.strip().endswith(medgan.__version__)


def test_changelog_has_the_version():
    assert f"[{medgan.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_citation_has_the_version():
    assert f"version: {medgan.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_types_are_shipped():
    assert resources("medgan").joinpath("py.typed").is_file()


def test_templates_of_plugins_are_shipped():
    folder = resources("medgan.scaffold").joinpath("templates")
    used = {name for files in (project._FILES, project._FILES_OF_COPY) for name in files.values() if name}
    assert {path.name for path in folder.iterdir()} == used


@pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling, which builds medgan")
def test_distributions_hold_no_plugin(tmp_path):
    python("-m", "hatchling", "build", "-d", str(tmp_path), cwd=ROOT)
    (wheel,), (archive,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {name.split("/")[0] for name in names} == {"medgan", names[-1].split("/")[0]}
    assert "medgan/scaffold/templates/gan.py.j2" in names
    assert {f"medgan/reader_study/pages/study.{kind}" for kind in ("css", "html.j2", "js")} <= set(names)
    with tarfile.open(archive) as opened:
        paths = [name.partition("/")[2] for name in opened.getnames()]
    assert [path for path in paths if path.startswith("plugins")] == ["plugins/conftest.py"]


def test_acgan_is_declared_like_any_architecture():
    (point,) = entry_points(group="medgan.architectures", name="acgan")
    assert point.value == "medgan.models.acgan:ACGAN"
    assert point.dist.name == "medgan"
    assert point.load().name == "acgan"


def test_console_script():
    (point,) = entry_points(group="console_scripts", name="medgan")
    assert point.value == "medgan.cli.main:main"


def test_nothing_but_medgan_is_installed():
    installed = {path.parts[0] for path in files("medgan")}
    assert installed & {"tests", "docs", "examples", "benchmarks", "plugins"} == set()


def test_dependencies_have_no_upper_cap():
    required = [line for line in metadata("medgan").get_all("Requires-Dist") if "extra ==" not in line]
    assert required
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in required), required


def test_ci_runs_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^(?:\$ )?(.*&& tox)$", readme, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
