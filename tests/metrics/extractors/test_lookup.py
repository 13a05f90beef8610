from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from medgan.errors import ConfigError, PluginError
from medgan.metrics.extractors import extractor_names, get_extractor
from medgan.metrics.extractors.lookup import GROUP

MINE = """
from medgan.errors import ConfigError
from medgan.metrics.extractors import Extractor, InputSpec

class Mine(Extractor):
    name = "mine"
    sha256 = "1" * 64
    input = InputSpec(1)

    def __init__(self, *, weights, device, resizer):
        self.given = (weights, device, resizer)

    def extract(self, images):
        return images.mean((2, 3))

class Nameless(Extractor):
    sha256 = "2" * 64
    input = InputSpec(1)

    def __init__(self, **_):
        pass

    def extract(self, images):
        return images.mean((2, 3))

class Asking(Mine):
    def __init__(self, **_):
        raise ConfigError("Type --weights.")

def number(**_):
    return 3

def crash(**_):
    return 1 / 0
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install small distributions into a folder on the path, as pip does."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "extractor_of_mine.py").write_text(MINE)

    def make(distribution: str, **entries: str) -> None:
        folder = tmp_path / f"{distribution}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}\n")

    yield make
    sys.modules.pop("extractor_of_mine", None)


def test_names() -> None:
    assert extractor_names() == [
        *("classifier", "inception", "radimagenet", "radiomics", "random-conv", "torchxrayvision"),
        *("torch-fidelity:NAME", "torchscript:PATH", "module:Class"),
    ]


def test_an_installed_package(install: Callable[..., None], tmp_path: Path) -> None:
    install("others", mine="extractor_of_mine:Mine")
    assert "mine" in extractor_names()
    assert "extractor_of_mine" not in sys.modules
    extractor = get_extractor("mine", weights=str(tmp_path / "w"), device="cpu", resizer="clean")
    assert extractor.given == (tmp_path / "w", "cpu", "clean")
    assert extractor(torch.zeros(2, 3, 8, 8)).shape == (2, 1)
    assert get_extractor("mine").given == (None, "cpu", None)


def test_module_and_class(install: Callable[..., None]) -> None:
    assert get_extractor("extractor_of_mine:Mine").name == "mine"
    with pytest.raises(PluginError, match=r"'gone_module:Mine' .* cannot be made: ModuleNotFoundError"):
        get_extractor("gone_module:Mine")


def test_a_module_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "extractor_of_mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        assert get_extractor("extractor_of_mine:Mine").name == "mine"
    finally:
        sys.modules.pop("extractor_of_mine", None)
    assert sys.path == before


def test_broken_ones_say_where_they_come_from(install: Callable[..., None]) -> None:
    names = {"crash": "crash", "number": "number", "nameless": "Nameless", "gone": "Gone", "asking": "Asking"}
    install("others", **{name: f"extractor_of_mine:{value}" for name, value in names.items()})
    for name, message in {
        "crash": r"'crash' \(extractor_of_mine:crash, from others 1.2\) cannot be made: ZeroDivisionError",
        "number": "made int, not a medgan.metrics.extractors.Extractor",
        "nameless": "does not define name",
        "gone": "has no attribute 'Gone'",
    }.items():
        with pytest.raises(PluginError, match=message):
            get_extractor(name)
    with pytest.raises(ConfigError, match="Type --weights"):
        get_extractor("asking")
    assert get_extractor("random-conv").name == "random-conv"


def test_two_of_one_name(install: Callable[..., None]) -> None:
    install("one", same="extractor_of_mine:Mine", radiomics="extractor_of_mine:Mine")
    install("two", same="extractor_of_mine:number")
    with pytest.raises(PluginError, match=r"'same' is declared twice: by (one|two) 1\.2 .* and (one|two) 1\.2"):
        get_extractor("same")
    with pytest.raises(PluginError, match=r"'radiomics' is declared twice: by one 1\.2 .* and medgan"):
        get_extractor("radiomics")


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"'inceptoin' is unknown\. Did you mean 'inception'"):
        get_extractor("inceptoin")
    with pytest.raises(ConfigError, match=r"'C:/weights\.pt' is unknown"):
        get_extractor("C:/weights.pt")
    with pytest.raises(ConfigError, match="'radiomics' has no weights"):
        get_extractor("radiomics", weights="w.pt")
    with pytest.raises(ConfigError, match="Resizer 'bilinear' is unknown"):
        get_extractor("radiomics", resizer="bilinear")
