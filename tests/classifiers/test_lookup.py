from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from medgan.classifiers import classifier_names, make_classifier
from medgan.classifiers.lookup import GROUP
from medgan.errors import ConfigError, PluginError

MINE = """
import torch
from torch import nn
from medgan.classifiers import Classifier

class Mine(Classifier):
    name = "mine"
    outputs = None

    def __init__(self, *, channels, size, num_classes, multilabel):
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        self.head = nn.Linear(channels, self.outputs or self.num_logits)

    def features(self, images):
        return images.flatten(2).mean(2)

class Wrong(Mine):
    outputs = 7

class Headless(Mine):
    def __init__(self, **facts):
        Classifier.__init__(self, **facts)

def module(**_):
    return nn.Linear(2, 2)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a small distribution into a folder on the path, as pip does."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "classifier_of_mine.py").write_text(MINE)

    def make(distribution: str, **entries: str) -> None:
        folder = tmp_path / f"{distribution}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}\n")

    yield make
    sys.modules.pop("classifier_of_mine", None)


def make(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    return make_classifier(name, channels=1, size=(32, 32), num_classes=2, seed=seed).state_dict()


def test_names() -> None:
    assert classifier_names() == ["densenet121", "report-vgg16", "resnet18", "small-cnn", "vgg16", "module:Class"]


def test_names_do_not_import_torch() -> None:
    code = "from medgan.classifiers import classifier_names as n; n(); import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", classifier_names()[:-1])
def test_weights_depend_on_the_seed_only_and_leave_random_numbers_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make(name)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = make(name), make(name, seed=1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(value.isfinite().all() for value in first.values())
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_an_installed_package_and_a_class(install: Callable[..., None]) -> None:
    install("others", mine="classifier_of_mine:Mine")
    assert "mine" in classifier_names()
    for name in ("mine", "classifier_of_mine:Mine"):
        classifier = make_classifier(name, channels=3, size=[16, 16], num_classes=4)
        assert classifier.name == "mine"
        assert classifier(torch.zeros(2, 3, 16, 16)).shape == (2, 4)
        assert torch.equal(
            classifier.head.weight, make_classifier(name, channels=3, size=(16, 16), num_classes=4).head.weight
        )
    with pytest.raises(ConfigError, match="16 pixels or more"):
        make_classifier("mine", channels=3, size=(8, 8), num_classes=4)


def test_broken_ones(install: Callable[..., None]) -> None:
    install("others", wrong="classifier_of_mine:Wrong", headless="classifier_of_mine:Headless", vgg16="gone:Gone")
    for name, message in {
        "wrong": "'wrong' has a head of 7 outputs; expected a torch.nn.Linear of 1",
        "headless": r"from others 1\.2\) does not define head",
        "classifier_of_mine:module": "made Linear, not a medgan.classifiers.Classifier",
        "vgg16": "'vgg16' is declared twice",
    }.items():
        with pytest.raises(PluginError, match=message):
            make(name)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"Classifier 'resnet81' is unknown\. Did you mean 'resnet18'"):
        make("resnet81")
    with pytest.raises(ConfigError, match=r"1 channel .* or 3 .* got 2"):
        make_classifier("small-cnn", channels=2, size=(32, 32), num_classes=2)
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        make("small-cnn", seed=-1)
