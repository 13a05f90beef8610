from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgan import __version__, registry
from medgan.core import API_VERSION, GAN
from medgan.errors import PluginError, UnknownArchitectureError
from medgan.models import ACGAN

GOOD = """
from medgan.models import ACGAN

class Good(ACGAN):
    '''A good one.'''
    name = "good"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install small distributions into a folder on the path, as pip does."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Install(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


class Install:
    def __init__(self, site: Path) -> None:
        self.site = site

    def __call__(self, distribution: str, entries: dict[str, str], **modules: str) -> None:
        folder = self.site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
        (folder / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}\n")
        for name, text in modules.items():
            (self.site / f"{name}.py").write_text(text)


def make(name: str, **attributes: object) -> type[GAN]:
    return type("Made", (ACGAN,), {"name": name, **attributes})


@pytest.fixture
def clean() -> Iterator[None]:
    yield
    for name in list(registry._registered):
        registry.unregister(name)


def test_acgan_arrives_through_its_entry_point() -> None:
    assert "acgan" in registry.names()
    plugin = registry.plugins()["acgan"]
    assert plugin.value == "medgan.models.acgan:ACGAN"
    assert plugin.origin.startswith("medgan ")
    assert registry.get("acgan") is ACGAN


def test_installed_distribution(installed: Install) -> None:
    installed("plugin-good", {"good": "plugin_good:Good"}, plugin_good=GOOD)
    assert registry.names() == sorted([*registry.names()])
    assert registry.plugins()["good"] == registry.Plugin(
        "good", "plugin_good:Good", "plugin-good 1.2", distribution="plugin-good", version="1.2"
    )
    assert "plugin_good" not in sys.modules
    assert registry.get("good").__name__ == "Good"


def test_broken_plugins_stop_nothing_else(installed: Install) -> None:
    installed(
        "plugin-bad",
        {
            "crash": "plugin_crash:Crash",
            "leave": "plugin_exit:Exit",
            "gone": "plugin_gone:Gone",
            "empty": "plugin_good:Missing",
            "number": "plugin_good:NUMBER",
            "abstract": "plugin_good:Abstract",
            "malformed": "no module at all",
        },
        plugin_crash="1 / 0",
        plugin_exit="raise SystemExit(3)",
        plugin_good="from medgan.core import GAN\nNUMBER = 3\nclass Abstract(GAN):\n    name = 'abstract'\n",
    )
    assert {"crash", "leave", "gone", "acgan"} <= set(registry.names())
    assert registry.get("acgan") is ACGAN
    for name, message in {
        "crash": r"'crash' \(plugin_crash:Crash, from plugin-bad 1.2\) cannot be imported: ZeroDivisionError: .* "
        r"Type pip install -U plugin-bad, .*, or pip uninstall plugin-bad\.",
        "leave": "cannot be imported: SystemExit: 3",
        "gone": "ModuleNotFoundError: No module named 'plugin_gone'",
        "empty": "has no attribute 'Missing'",
        "number": "plugin_good:NUMBER, from plugin-bad 1.2 is not a subclass of medgan.core.GAN",
        "abstract": "does not define summary, Trainer, presets, default_preset, make_discriminator, make_generator",
        "malformed": "cannot be imported",
    }.items():
        with pytest.raises(PluginError, match=message):
            registry.get(name)


def test_entry_point_of_another_name(installed: Install) -> None:
    installed("plugin-good", {"better": "plugin_good:Good"}, plugin_good=GOOD)
    with pytest.raises(PluginError, match="registered as 'better' but names itself 'good'"):
        registry.get("better")


def test_duplicate_names_both_distributions(installed: Install) -> None:
    installed("plugin-one", {"same": "plugin_one:A"})
    installed("plugin-two", {"same": "plugin_two:B"})
    message = r"'same' is declared twice: by plugin-(one|two) 1\.2 .* and plugin-(one|two) 1\.2 .*Uninstall one"
    with pytest.raises(PluginError, match=message) as caught:
        registry.get("same")
    assert "pip uninstall plugin-one" in str(caught.value)
    assert "pip uninstall plugin-two" in str(caught.value)
    assert "same" in registry.names()
    assert registry.get("acgan") is ACGAN  # a clash stops nothing else


def test_same_distribution_twice_on_the_path_is_one(
    installed: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("plugin-good", {"good": "plugin_good:Good"}, plugin_good=GOOD)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.syspath_prepend(other)
    Install(other)("plugin-good", {"good": "plugin_good:Good"})
    assert "good" in registry.names()


def test_what_is_left_of_an_installation(installed: Install, tmp_path: Path) -> None:
    """A folder without METADATA has no name that pip could uninstall."""
    installed("plugin-one", {"same": "plugin_one:A"})
    installed("plugin-two", {"same": "plugin_two:B", "lost": "plugin_gone:C"})
    (tmp_path / "plugin_two-1.2.dist-info" / "METADATA").unlink()
    place = re.escape(f"delete the .dist-info or .egg-info folder of a distribution without metadata in {tmp_path}")
    with pytest.raises(PluginError, match=f"Uninstall one of them: .*{place}") as caught:
        registry.get("same")
    assert "pip uninstall plugin-one" in str(caught.value)
    with pytest.raises(PluginError, match=f"'lost' .* cannot be imported: .* Mend it, or {place}"):
        registry.get("lost")


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownArchitectureError, match=r"'acgna' is not installed. Did you mean 'acgan'"):
        registry.get("acgna")
    with pytest.raises(LookupError, match=registry.VARIABLE):
        registry.get("stylegan")


# ------------------------------------------------------------------------------------ the variable


def test_variable_adds_without_installing(installed: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed.site / "plugin_good.py").write_text(GOOD + "\nclass Second(Good):\n    name = 'second'\n")
    monkeypatch.setenv(registry.VARIABLE, " good=plugin_good:Good, second = plugin_good:Second,, ")
    assert {"good", "second"} <= set(registry.names())
    assert registry.plugins()["good"].origin == registry.VARIABLE
    assert registry.get("second").name == "second"


@pytest.mark.parametrize("value", ["good", "good=plugin_good", "plugin_good:Good", "=plugin_good:Good", "a=b:C,oops"])
def test_malformed_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(registry.VARIABLE, value)
    with pytest.raises(PluginError, match=r"MEDGAN_PLUGINS holds .*expected name=module:Class"):
        registry.names()


def test_variable_cannot_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.VARIABLE, "acgan=plugin_other:ACGAN")
    with pytest.raises(PluginError, match=r"'acgan' is declared twice: by medgan .* and MEDGAN_PLUGINS"):
        registry.get("acgan")
    assert "acgan" in registry.names()


# ---------------------------------------------------------------------------------------- register


@pytest.mark.usefixtures("clean")
def test_register_and_unregister() -> None:
    made = make("made")
    assert registry.register(made) is made
    assert registry.get("made") is made
    assert registry.plugins()["made"].origin == "medgan.registry.register"
    again = registry.register(make("made"))
    assert registry.get("made") is again is not made
    registry.unregister("made")
    assert "made" not in registry.names()
    with pytest.raises(UnknownArchitectureError, match="'made' was not registered"):
        registry.unregister("made")


@pytest.mark.usefixtures("clean")
def test_register_as_a_decorator() -> None:
    @registry.register
    class Decorated(ACGAN):
        """Decorated."""

        name = "decorated"

    assert registry.get("decorated") is Decorated


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (dict, "is not a subclass of medgan.core.GAN"),
        (3, "is not a subclass of medgan.core.GAN"),
        (type("Abstract", (GAN,), {}), "does not define name"),
        (make("acgan"), r"'acgan' is declared already: .* by medgan .*. Choose another name"),
    ],
)
def test_register_refuses(architecture: type[GAN], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        registry.register(architecture)
    assert not registry._registered


# ------------------------------------------------------------------------- version of the interface

VERSIONS = """
from medgan.models import ACGAN

class Old(ACGAN):
    name = "old"
    api_version = 0

class New(ACGAN):
    name = "new"
    api_version = 7

class Odd(ACGAN):
    name = "odd"
    api_version = "1"
"""


def test_plugin_of_another_version(installed: Install) -> None:
    entries = {name: f"plugin_versions:{name.title()}" for name in ("old", "new", "odd")}
    installed("plugin-versions", entries, plugin_versions=VERSIONS)
    assert set(entries) <= set(registry.names())
    start = r"'{0}' \(plugin_versions:{1}, from plugin-versions 1.2\) was written for version {2} of .*"
    this = rf"this medgan \({re.escape(__version__)}\) has version {API_VERSION}\. "
    with pytest.raises(PluginError, match=start.format("old", "Old", 0) + this + "Type pip install -U plugin-versions"):
        registry.get("old")
    with pytest.raises(PluginError, match=start.format("new", "New", 7) + this + "Type pip install -U medgan"):
        registry.get("new")
    with pytest.raises(PluginError, match=r"plugin-versions 1\.2 has api_version = '1'; expected a number"):
        registry.get("odd")
    assert registry.get("acgan") is ACGAN


def test_variable_and_register_look_at_the_version(installed: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed.site / "plugin_versions.py").write_text(VERSIONS)
    monkeypatch.setenv(registry.VARIABLE, "old=plugin_versions:Old")
    with pytest.raises(PluginError, match=r"from MEDGAN_PLUGINS\) was written for version 0 .*write api_version = 1"):
        registry.get("old")
    with pytest.raises(PluginError, match=r"'made' .* was written for version 2 .*pip install -U medgan"):
        registry.register(make("made", api_version=2))
    assert not registry._registered


def test_version_of_a_class_that_does_not_say() -> None:
    """A plugin that subclasses ACGAN was not written for a later version because ACGAN was."""

    class Base(ACGAN):
        api_version = 3

    class Own(Base):
        pass

    silent = type("Silent", (ACGAN,), {"__module__": "plugin_silent"})
    foreign = type("Foreign", (Own,), {"__module__": "plugin_foreign"})
    assert [registry.api_version(each) for each in (GAN, ACGAN, Own, silent, foreign)] == [1, API_VERSION, 3, 1, 1]


# ------------------------------------------------------------------------------------------- speed


def test_listing_imports_neither_torch_nor_a_plugin() -> None:
    code = (
        "import sys\nfrom medgan import registry\nassert 'acgan' in registry.names()\n"
        "print([name for name in ('torch', 'medgan.models', 'medgan.core.gan', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
