from __future__ import annotations

import inspect

import pytest

from medgan.data import DataConfig, open_configured, open_dataset
from medgan.data.layouts import LAYOUTS
from medgan.data.pairs import PAIR_LAYOUTS
from medgan.data.pipelines import PIPELINES
from medgan.errors import ConfigError


def test_every_option_is_one_of_open_dataset() -> None:
    options = {item.name: item for item in DataConfig.options()}
    parameters = inspect.signature(open_dataset).parameters
    renamed = {"data": "source", "depth": "size"}
    assert {renamed.get(name, name) for name in options} == set(parameters) - {"transforms", "cache_dir", "progress"}
    for name, option in options.items():
        if name not in ("data", "depth", "workers"):  # the command line starts processes by itself, a script must not
            assert option.default == parameters[name].default, name


def test_the_choices_are_those_that_there_are() -> None:
    options = {item.name: item for item in DataConfig.options()}
    assert set(options["layout"].choices) == {"auto", "folder", "medmnist", *LAYOUTS, *PAIR_LAYOUTS}
    assert list(options["pipeline"].choices) == list(PIPELINES)


def test_open_configured(make_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    root = make_folder(A=3, B=3, C=3)
    config = DataConfig(data=str(root), size=16, channels="3", labels="C, A", fit="pad", workers=0)
    dataset = open_configured(config)
    assert dataset.spec.channels == 3
    assert dataset.class_counts() == {"C": 3, "A": 3}


@pytest.mark.parametrize("text", ["x", "1,2", "1,2,3,4", "", "0", "-1", "1,1,0", "nan", "inf"])
def test_spacings_that_are_none(make_folder, text: str) -> None:
    with pytest.raises(ConfigError, match=r"spacing"):
        open_configured(DataConfig(data=str(make_folder()), spacing=text))
