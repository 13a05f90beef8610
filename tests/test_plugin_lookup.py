from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medgan.errors import ConfigError, PluginError
from medgan.plugin_lookup import PluginGroup

CUPS = PluginGroup(
    "medgan.test_cups", noun="Cup", product="test.Cup", built_in=("mug", "bowl"), forms=("module:Class",)
)

MODULE = """
from medgan.errors import ConfigError

class Cup(dict):
    colour = "blue"

def number(**_):
    return 3

def crash(**_):
    return 1 / 0

def asking(**_):
    raise ConfigError("Type --colour.")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install small distributions into a folder on the path, as pip does."""

    def make(distribution: str, folder: str = "site", **entries: str) -> None:
        site = tmp_path / folder
        info = site / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / "module_of_cups.py").write_text(MODULE)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[{CUPS.group}]\n{lines}\n")
        monkeypatch.syspath_prepend(site)

    yield make
    sys.modules.pop("module_of_cups", None)


def make(name: str) -> dict[str, object]:
    return CUPS.make(name, dict, options={"size": 2}, required=("colour",))


def test_names_import_nothing(install: Callable[..., None]) -> None:
    install("others", glass="module_of_cups:Cup")
    assert CUPS.names() == ["bowl", "glass", "mug", "module:Class"]
    assert "module_of_cups" not in sys.modules


def test_what_a_package_declares_is_called_with_the_options(install: Callable[..., None]) -> None:
    install("others", glass="module_of_cups:Cup")
    assert make("glass") == {"size": 2}
    assert make("module_of_cups:Cup") == {"size": 2}
    assert not CUPS.is_built_in("glass")
    assert CUPS.is_built_in("mug")


def test_a_class_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_cups.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        assert make("module_of_cups:Cup") == {"size": 2}
    finally:
        sys.modules.pop("module_of_cups", None)
    assert sys.path == before


def test_a_name_that_two_packages_declare(install: Callable[..., None]) -> None:
    install("one", glass="module_of_cups:Cup", mug="module_of_cups:Cup")
    install("two", glass="module_of_cups:number")
    with pytest.raises(PluginError, match=r"Cup 'glass' is declared twice: by (one|two) 1\.2 .* and (one|two) 1\.2"):
        make("glass")
    with pytest.raises(PluginError, match=r"Cup 'mug' is declared twice: by one 1\.2 .* and medgan \(medgan's own\)"):
        CUPS.is_built_in("mug")


def test_a_distribution_that_is_on_the_path_twice_is_one(install: Callable[..., None]) -> None:
    install("one", folder="first", glass="module_of_cups:Cup")
    install("one", folder="second", glass="module_of_cups:Cup")
    assert make("glass") == {"size": 2}


def test_broken_ones_say_where_they_come_from(install: Callable[..., None]) -> None:
    install("others", **{name: f"module_of_cups:{name}" for name in ("number", "crash", "gone", "asking")})
    for name, message in {
        "crash": r"Cup 'crash' \(module_of_cups:crash, from others 1\.2\) cannot be made: ZeroDivisionError",
        "number": r"made int, not a test\.Cup",
        "gone": "has no attribute 'gone'",
    }.items():
        with pytest.raises(PluginError, match=message):
            make(name)
    with pytest.raises(ConfigError, match="Type --colour"):
        make("asking")
    with pytest.raises(PluginError, match="from the name itself\\) does not define taste"):
        CUPS.make("module_of_cups:Cup", dict, options={}, required=("colour", "taste"))


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"Cup 'mgu' is unknown\. Did you mean 'mug'\?"):
        make("mgu")
    with pytest.raises(ConfigError, match=r"Cup 'C:/cup\.py' is unknown"):
        make("C:/cup.py")
