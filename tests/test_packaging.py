from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points, files, metadata, version
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import medgan
from medgan.scaffold import project

ROOT = Path(__file__).parents[1]


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


PROJECT = read_project()["project"]

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


@pytest.mark.parametrize("command", ["archs", "plugins list"])
def test_a_list_of_architectures_is_quick_the_second_time(command, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    arguments = "-m", "medgan", *command.split()
    assert "torch" in imported(*arguments)
    assert imported(*arguments) & HEAVY == set()
    (tmp_path / "architectures.json").write_text("{}")
    assert "torch" in imported(*arguments)


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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution."""
    pytest.importorskip("hatchling", reason="needs hatchling, which builds medgan")
    folder = tmp_path_factory.mktemp("dist")
    process = python("-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    assert process.returncode == 0, process.stderr
    return folder


def files_below(folder: Path) -> set[str]:
    """Return the files that belong to a distribution, as paths from the root."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def test_wheel_holds_the_package_and_nothing_else(distributions):
    (wheel,) = distributions.glob("*.whl")
    assert wheel.name == f"medgan-{PROJECT['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        size = sum(member.file_size for member in opened.infolist())
    info = f"medgan-{PROJECT['version']}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert names == files_below(ROOT / "medgan") | about
    assert "medgan/scaffold/templates/gan.py.j2" in names
    assert {f"medgan/reader_study/pages/study.{kind}" for kind in ("css", "html.j2", "js")} <= names
    assert size < 4_000_000


def test_source_distribution_holds_what_the_checks_need(distributions):
    (archive,) = distributions.glob("*.tar.gz")
    assert archive.name == f"medgan-{PROJECT['version']}.tar.gz"
    with tarfile.open(archive) as opened:
        assert all(member.isfile() for member in opened.getmembers())
        names = {name.partition("/")[2] for name in opened.getnames()}
    files = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "PKG-INFO", "README.md"}
    files |= {".gitignore", "pyproject.toml", "tox.ini"}
    folders = {".ci", ".github", "benchmarks", "docs", "examples", "medgan", "plugins", "tests"}
    assert {name for name in names if "/" not in name} == files
    assert {name.partition("/")[0] for name in names if "/" in name} == folders
    assert files_below(ROOT / "medgan") <= names
    assert [name for name in names if name.startswith("plugins/")] == ["plugins/conftest.py"]
    made = ("docs/_build/", "docs/gallery/", "benchmarks/results/", ".venv")
    assert [name for name in names if name.startswith(made)] == []


def test_no_distribution_holds_images_that_may_be_patients(distributions):
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        pictures = {
            name.partition("/")[2]
            for name in opened.getnames()
            if name.lower().endswith((".dcm", ".jpg", ".jpeg", ".nii", ".nii.gz", ".npz", ".png", ".tif", ".tiff"))
        }
    assert {picture.rpartition("/")[0] for picture in pictures} <= {"docs/_static"}  # of synthetic images


@pytest.mark.skipif(find_spec("twine") is None, reason="needs twine")
def test_twine_has_nothing_against_the_distributions(distributions):
    process = python("-m", "twine", "check", "--strict", *map(str, distributions.iterdir()))
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("PASSED") == 2


def test_all_is_every_extra_for_users():
    extras = PROJECT["optional-dependencies"]
    (line,) = extras["all"]
    named = set(re.fullmatch(r"medgan\[(.*)\]", line)[1].split(","))
    assert named == set(extras) - {"all", "dev", "docs", "lint", "test"}


def test_version_is_written_once_in_the_package():
    found = [path for path in (ROOT / "medgan").rglob("*.py") if f'"{PROJECT["version"]}"' in path.read_text("utf-8")]
    assert found == []


# What conda-forge calls otherwise than PyPI.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}


def test_conda_recipe_asks_for_the_same():
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((ROOT / ".ci" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == PROJECT["version"]
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"
    wanted = [re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in PROJECT["dependencies"]]
    named = [f"{CONDA_NAMES.get(name, name)} {bound}" for name, bound in wanted]
    assert recipe["requirements"]["run"] == ["python >=${{ python_min }}", *named]
    host = {line.replace(" ", "") for line in recipe["requirements"]["host"]}
    assert set(read_project()["build-system"]["requires"]) <= host
    assert recipe["build"]["python"]["entry_points"] == [f"medgan = {PROJECT['scripts']['medgan']}"]
    assert recipe["about"]["license"] == PROJECT["license"]


def test_container_copies_what_the_wheel_is_built_of():
    folder = ROOT / ".ci" / "docker"
    (copied,) = re.findall(r"^COPY (pyproject.*) \./$", (folder / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    kept = {line[1:] for line in (folder / "Dockerfile.dockerignore").read_text("utf-8").split() if line[0] == "!"}
    assert kept == {*copied.split(), "medgan"}
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"} == set(copied.split())
    extras = re.findall(r"\[(\w+)\]\"", (folder / "Dockerfile").read_text("utf-8"))
    assert extras
    assert set(extras) <= set(PROJECT["optional-dependencies"])


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
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["tox"]
    assert job["steps"][-1] == {"run": command}
    versions = job["strategy"]["matrix"]["python"]
    assert f">={versions[0]}" == PROJECT["requires-python"]
    declared = [
        line for line in PROJECT["classifiers"] if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    assert [f"Programming Language :: Python :: {number}" for number in versions] == declared


def test_weekly_ci_runs_environments_of_tox_and_the_container():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["tox"]
    environments = re.findall(r"^\[testenv:(\w+)\]$", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)
    # All that tox does not do by itself.
    assert sorted(job["strategy"]["matrix"]["environment"]) == sorted({*environments} - {"check"})
    assert job["steps"][-1]["run"].endswith("tox -e ${{ matrix.environment }}")
    (file,) = {
        found
        for step in workflow["jobs"]["image"]["steps"]
        for found in re.findall(r"docker build -f (\S+)", step.get("run", ""))
    }
    assert (ROOT / file).is_file()
