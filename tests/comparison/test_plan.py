from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medgan import __version__, registry
from medgan.comparison import MeasureConfig, compare
from medgan.comparison.plan import (
    check_contenders,
    check_per_class,
    keep_plan,
    make_contenders,
    make_plan,
    open_shared,
)
from medgan.errors import CheckpointError, ConfigError, MedganError, UnknownArchitectureError
from medgan.models import ACGAN

OPTIONS = {"data": "phantom://chest?n=40&seed=1", "size": 32, "kimg": 0.05, "device": "cpu", "test": 0.3, "seed": 3}


def contenders(*archs: str, out: Path = Path("out"), **options: Any) -> Any:
    values = {**OPTIONS, **options}
    values = {name: value for name, value in values.items() if value is not None}
    return make_contenders(archs, values, out=out, transforms=None, say=lambda line: None)


def test_presets_and_names(site: Path) -> None:
    found = contenders("acgan", "acgan:tiny", " plain ")
    assert [each.name for each in found] == ["acgan", "acgan-tiny", "plain"]
    assert [each.preset for each in found] == ["modern", "tiny", "tiny"]
    assert {each.run.model_config.seed for each in found} == {3}
    assert found[1].folder == Path("out") / "acgan-tiny"


def test_without_data_all_share_a_phantom(site: Path) -> None:
    """A phantom, and a size of it, that each of them can learn."""

    def shared(*archs: str, **options: Any) -> list[tuple[str, int | None, int]]:
        runs = [each.run.config for each in contenders(*archs, **{"data": None, "size": None, **options})]
        return [(run.data, run.depth, run.size) for run in runs]

    assert shared("acgan", "plain") == [("phantom://chest", None, 32)] * 2
    assert shared("acgan", "volumes") == [("phantom://thorax", 32, 32)] * 2
    assert shared("acgan", "acgan:tiny", depth=16) == [("phantom://thorax", 16, 16)] * 2


@pytest.mark.parametrize(
    ("archs", "options", "error", "message"),
    [
        (["acgan"], {}, ConfigError, "needs two architectures or more, got only acgan"),
        ([""], {}, ConfigError, "got none"),
        (["acgan", "acgan"], {}, ConfigError, "acgan is there twice: acgan with the preset modern"),
        (["acgan", "acgan:modern"], {}, ConfigError, "acgan-modern is there twice, once as acgan,"),
        (["acgan", "acgam"], {}, UnknownArchitectureError, "Did you mean 'acgan'"),
        (
            ["acgan", "acgan:tini"],
            {},
            ConfigError,
            "acgan-tini: Preset 'tini' is unknown to acgan. Did you mean 'tiny'",
        ),
        (["acgan", "acgan:"], {}, ConfigError, "'acgan:' names no training"),
        (["acgan", "plain"], {"budget": "20m"}, ConfigError, "--budget or --kimg say, and both were given"),
        (["acgan", "plain"], {"kimg": None}, ConfigError, "and none was given"),
        (["acgan", "plain"], {"steps": 3}, ConfigError, "Option 'steps' is none that trainings can share"),
        (["acgan", "plain"], {"kimgs": 3}, ConfigError, "Did you mean 'kimg'"),
        (["acgan", "plain"], {"kimg": None, "budget": "soon"}, ConfigError, "'soon' is no duration"),
        (["acgan", "volumes"], {}, ConfigError, "as volumes cannot be. volumes: .* makes volumes, but the data"),
        (["acgan", "plain"], {"size": 33}, ConfigError, "acgan and plain cannot be. acgan: .*33.* plain: "),
    ],
)
def test_what_is_refused_before_anything_is_read(
    site: Path, tmp_path: Path, archs: list[str], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        contenders(*archs, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_architecture_of_this_process_only() -> None:
    class Local(ACGAN):
        name = "local"

    registry.register(Local)
    try:
        with pytest.raises(
            ConfigError, match=r"local was registered in this process.*MEDGAN_PLUGINS=local=module:Class"
        ):
            contenders("acgan:tiny", "local:tiny")
    finally:
        registry.unregister("local")


def test_what_the_images_do_not_allow(site: Path) -> None:
    found = contenders("acgan:tiny", "plain", batch_size=500)
    with pytest.raises(ConfigError, match=r"acgan-tiny and plain cannot be. acgan-tiny: A step takes 500 images"):
        check_contenders(found, open_shared(found))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 0.0, "validation": 0.0}, "Nobody is held out"),
        ({"metrics": "fid"}, "There is no metric 'fid'"),
        ({"metrics": "paired"}, "'paired' is for translated images"),
        ({"extractor": "radiomix"}, "radiomix"),
        ({"num": 1}, "expected at least 2"),
    ],
)
def test_measures_are_checked_before_anything_is_trained(
    site: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    measured = {item.name for item in MeasureConfig.options()}
    with pytest.raises(MedganError, match=message):
        compare(
            ["acgan:tiny", "plain"],
            out=tmp_path / "out",
            options={**OPTIONS, **{name: value for name, value in options.items() if name not in measured}},
            config=MeasureConfig.from_dict({name: value for name, value in options.items() if name in measured}),
        )
    assert not (tmp_path / "out").exists()


def test_plans(site: Path, tmp_path: Path) -> None:
    found = contenders("acgan:tiny", "plain")
    data = open_shared(found)
    plan = make_plan(found, data)
    keep_plan(tmp_path, plan, "medgan compare --this")
    keep_plan(tmp_path, plan, "medgan compare --that")
    assert json.loads((tmp_path / "plan.json").read_text())["command"] == "medgan compare --this"
    changed = {"archs": ["acgan:tiny"], "options": {**plan["options"], "kimg": 2.0}}
    for name, value in changed.items():
        with pytest.raises(ConfigError, match=r"holds another comparison: .*begun with: medgan compare --this"):
            keep_plan(tmp_path, plan | {name: value}, "")
    other = contenders("acgan:tiny", "plain", seed=4)
    with pytest.raises(ConfigError, match=r"other patients were held out|seed is 3 there, and 4 here"):
        keep_plan(tmp_path, make_plan(other, open_shared(other)), "")
    older = plan | {"versions": {**plan["versions"], "medgan": "0.0.9"}}
    here = re.escape(__version__)
    with pytest.raises(ConfigError, match=rf"other versions: medgan is {here} there, and 0\.0\.9 here"):
        keep_plan(tmp_path, older, "")
    (tmp_path / "plan.json").write_text("[1", encoding="utf-8")
    with pytest.raises(CheckpointError, match="Name another --out"):
        keep_plan(tmp_path, plan, "")


def test_versions_are_those_of_the_architectures_distributions(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = contenders("acgan:tiny", "plain")
    data = open_shared(found)
    assert make_plan(found, data)["versions"] == {"medgan": __version__}  # no distribution declares plain
    plugins = registry.plugins()
    plugins["plain"] = replace(plugins["plain"], distribution="medgan-rivals", version="2.1")
    monkeypatch.setattr(registry, "plugins", lambda: plugins)
    assert make_plan(found, data)["versions"] == {"medgan": __version__, "medgan-rivals": "2.1"}


def test_classes_that_nobody_learns_are_not_compared(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = contenders("acgan:tiny", "plain")
    data = open_shared(found)
    check_per_class(found, data)
    with pytest.raises(ConfigError, match=r"the images of phantom://.* have none\. Leave out --per-class"):
        check_per_class(found, data._replace(whole=data.whole.without_labels()))
    monkeypatch.setattr(ACGAN, "label_kinds", ())
    with pytest.raises(ConfigError, match=r"acgan-tiny and plain learn no labels\. Leave out --per-class"):
        compare(["acgan:tiny", "plain"], out=tmp_path / "out", options=OPTIONS, config=MeasureConfig(per_class=True))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty, and no comparison"):
        keep_plan(tmp_path, {"archs": []}, "")


def test_translations_are_refused(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ACGAN, "translates", True)
    with pytest.raises(ConfigError, match=r"acgan and plain cannot be\. acgan: It translates"):
        contenders("acgan", "plain", out=tmp_path / "out")
