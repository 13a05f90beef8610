from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from medgan import __version__
from medgan.errors import PluginError
from medgan.registry import Plugin
from medgan.runs import get_architecture
from medgan.testing import checks, declaration, networks

PLUGINS = '''
from dataclasses import dataclass

from medgan.core import option
from medgan.models import ACGAN, ACGANConfig
from medgan.models.acgan import ReportGenerator


class Old(ACGAN):
    """For an interface that is gone."""

    name = "old"
    api_version = 0


@dataclass(frozen=True, kw_only=True)
class ClashingConfig(ACGANConfig):
    steps: int = option(3, "Steps of something else.")


class Clashing(ACGAN):
    """An option of the run's."""

    name = "clashing"
    Config = ClashingConfig
    presets = {"tiny": ClashingConfig(**ACGAN.presets["tiny"].to_dict())}
    default_preset = "tiny"


class LoudGenerator(ReportGenerator):
    """Whose images do not stay in range."""

    def forward(self, latents, labels=None):
        return 2 * super().forward(latents, labels)


class Loud(ACGAN):
    """Breaks a promise."""

    name = "loud"

    def make_generator(self, config, data):
        return LoudGenerator(data, config.latent_dim, "normal")
'''
DECLARED = "old=plugin_three:Old,clashing=plugin_three:Clashing,loud=plugin_three:Loud,gone=nosuchmodule:X"


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Plugins that cannot be used, each in its way."""
    (tmp_path / "plugin_three.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEDGAN_PLUGINS", DECLARED)
    yield
    sys.modules.pop("plugin_three", None)


@pytest.fixture
def few(monkeypatch):
    """A kit of three checks only."""
    some = (declaration.check_name, declaration.check_option_names, networks.check_range)
    monkeypatch.setattr("medgan.testing.checks", lambda: iter(some))
    monkeypatch.setattr("medgan.testing.kit.checks", lambda: iter(some))


def test_new(medgan, here):
    text = medgan.works("plugins", "new", "my-gan").stdout
    assert (here / "medgan-my-gan" / "medgan_my_gan" / "networks.py").is_file()
    assert text.splitlines() == [
        "Plugin: medgan-my-gan",
        "Install it with: pip install -e ./medgan-my-gan",
        "Check it with: medgan plugins check my-gan",
        "Train it with: medgan fit --arch my-gan",
    ]


def test_new_from_another(medgan, here):
    medgan.works("plugins", "new", "my-gan", "--from", "acgan", "--out", "there/plugin")
    text = (here / "there" / "plugin" / "medgan_my_gan" / "gan.py").read_text(encoding="utf-8")
    assert "class MyGANTrainer(ACGANTrainer):" in text


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("acgan",), ["'acgan' is taken", "medgan.models.acgan:ACGAN", "Choose another name"]),
        (("My GAN",), ["'My GAN' is no name", "such as my-gan"]),
        (("mine", "--from", "acgna"), ["'acgna' is not installed", "Did you mean 'acgan'?"]),
        (("mine", "--out", "."), ["is not an empty folder", "--out"]),
        ((), ["Missing argument 'NAME'"]),
    ],
)
def test_new_refuses(medgan, here, arguments, parts):
    (here / "notes.txt").touch()
    message = medgan.fails("plugins", "new", *arguments)
    for part in parts:
        assert part in message
    assert [path.name for path in here.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("three")
def test_list(medgan, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = medgan.works("plugins", "list").stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:] if line}
    assert lines[0].split() == ["name", "distribution", "version", "API", "version", "declared", "by", "class"]
    assert rows["acgan"][0] == "medgan"
    assert rows["acgan"][2:] == ["1", "entry", "point", "medgan.models.acgan:ACGAN"]
    assert rows["loud"] == ["1", "MEDGAN_PLUGINS", "plugin_three:Loud"]
    assert rows["old"][:3] == ["broken,", "see", "below"]
    broken = [line for line in lines if line.startswith("Broken: ")]
    assert len(broken) == 2
    assert "'gone' (nosuchmodule:X, from MEDGAN_PLUGINS) cannot be imported: ModuleNotFoundError" in broken[0]
    assert "take it out of MEDGAN_PLUGINS" in broken[0]
    assert "'old' (plugin_three:Old, from MEDGAN_PLUGINS) was written for version 0" in broken[1]


def test_check(medgan):
    result = medgan("plugins", "check", "acgan")
    assert result.exit_code == 0, result.output
    first, *lines, last = result.stdout.splitlines()
    origin = f"acgan from medgan {version('medgan')}, for version 1 of medgan's interface; "
    assert first == f"{origin}this is medgan {__version__}, with version 1"
    assert [line.split()[3] for line in lines] == [check.__name__ for check in checks()]
    assert {line.split()[0] for line in lines} == {"passed"}
    assert last == f"acgan passes all {len(lines)} checks."


@pytest.mark.usefixtures("three", "few")
def test_check_of_one_that_fails(medgan):
    result = medgan("plugins", "check", "loud")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("loud from MEDGAN_PLUGINS, for version 1 of medgan's interface")
    assert [line.split()[3] for line in lines if line.startswith("FAILED")] == ["check_range"]
    assert [line.split()[3] for line in lines if line.startswith("passed")] == ["check_name", "check_option_names"]
    (reason,) = [line for line in lines if line.startswith("check_range: ")]
    assert "the pixels reach from" in reason
    assert "expected [-1, 1]" in reason
    assert lines[-1] == "loud fails 1 of 3 checks."


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("acgna", ["'acgna' is not installed", "Did you mean 'acgan'?"]),
        ("gone", ["'gone' (nosuchmodule:X, from MEDGAN_PLUGINS)", "No module named 'nosuchmodule'", "Mend it"]),
        ("old", ["'old'", "was written for version 0", "this medgan", "has version 1", "api_version = 1"]),
    ],
)
def test_check_of_what_cannot_be_used(medgan, name, parts):
    message = medgan.fails("plugins", "check", name)
    for part in parts:
        assert part in message


@pytest.mark.usefixtures("three")
def test_options_of_another_author_that_clash_with_those_of_a_run(monkeypatch):
    declared = Plugin("clashing", "plugin_three:Clashing", "medgan-clash 1.0", "medgan-clash", "1.0")
    monkeypatch.setattr("medgan.registry.plugins", lambda: {"clashing": declared})
    with pytest.raises(PluginError, match=r"ClashingConfig; if it is not yours, type pip install -U medgan-clash\.$"):
        get_architecture("clashing")


@pytest.mark.usefixtures("three", "few")
def test_options_that_clash_with_those_of_a_run(medgan, here):
    message = medgan.fails("fit", "--arch", "clashing", "--data", "phantom://chest?n=40", "--size", 32)
    for part in ("'clashing'", "plugin_three:Clashing", "`medgan fit`", "--steps", "Rename steps in ClashingConfig"):
        assert part in message
    assert "pip install" not in message  # of no distribution
    assert list(here.iterdir()) == []
    result = medgan("plugins", "check", "clashing")
    assert result.exit_code == 1
    assert "check_option_names: The option 'steps' has the name of an option of `medgan fit`" in result.stdout
