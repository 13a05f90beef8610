from __future__ import annotations

import os
import subprocess
import sys

import pytest

from medgan import registry
from medgan.core.saving import read_state
from medgan.models import ACGAN, ACGANConfig, load_model

THIRD_PARTY = '''
"""A GAN of somebody else, written from the documentation."""

from dataclasses import dataclass

import torch
from torch import nn

from medgan.core import GAN, AdversarialTrainer, Discriminator, DiscriminatorOutput, GANConfig, Generator, option


@dataclass(frozen=True, kw_only=True)
class MarginConfig(GANConfig):
    margin: float = option(1.0, "Margin of the loss, unheard of elsewhere.", ge=0)
    norm: bool = option(False, "Whether to normalise.")


class MarginGenerator(Generator):
    def __init__(self, data, latent_dim):
        super().__init__(latent_dim)
        self.shape = (data.channels, *data.size)
        self.classes = data.num_labels
        self.dense = nn.Linear(latent_dim + self.classes, torch.Size(self.shape).numel())

    def forward(self, latents, labels=None):
        if labels is not None:
            latents = torch.cat([latents, nn.functional.one_hot(labels, self.classes).to(latents)], dim=1)
        return torch.tanh(self.dense(latents)).view(-1, *self.shape)


class MarginDiscriminator(Discriminator):
    def __init__(self, data):
        super().__init__()
        self.dense = nn.Linear(torch.Size((data.channels, *data.size)).numel(), 1)

    def forward(self, images, labels=None):
        return DiscriminatorOutput(self.dense(images.flatten(1)).squeeze(1))


class MarginTrainer(AdversarialTrainer[MarginConfig]):
    def discriminator_loss(self, real, fake):
        realness = self.discriminator(real.images).realness, self.discriminator(fake.images).realness
        return {"margin": (self.config.margin - realness[0] + realness[1]).relu().mean()}

    def generator_loss(self, real, fake):
        return {"margin": -self.discriminator(fake.images).realness.mean()}


class MarginGAN(GAN):
    name = "margin"
    summary = "A GAN with a margin"
    Config = MarginConfig
    Trainer = MarginTrainer
    presets = {"wide": MarginConfig(margin=3.0), "tiny": MarginConfig(batch_size=4, latent_dim=8)}
    default_preset = "wide"

    def make_generator(self, config, data):
        return MarginGenerator(data, config.latent_dim)

    def make_discriminator(self, config, data):
        return MarginDiscriminator(data)
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A third party's package, beside one that is broken."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "margingan.py").write_text(THIRD_PARTY)
    (folder / "exploding.py").write_text("raise SystemExit('boom')\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("MEDGAN_PLUGINS", "margin=margingan:MarginGAN, broken=nosuchmodule:X, exploding=exploding:X")
    yield
    sys.modules.pop("margingan", None)


def test_archs(medgan):
    text = medgan.works("archs").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("acgan")]
    assert ACGAN.summary in line
    assert "modern, original, tiny" in line
    assert "medgan 0" in line


def test_archs_say_which_translate(medgan, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    class Translating(ACGAN):
        name = "translating"
        translates = True

    registry.register(Translating)
    try:
        rows = {line.split()[0]: line for line in medgan.works("archs").stdout.splitlines() if line[:1].strip()}
        assert "(translates)" in rows["translating"]
        assert "(translates)" not in rows["acgan"]
        assert "Translates: " in medgan.works("archs", "translating").stdout
    finally:
        registry.unregister("translating")
    assert "Translates" not in medgan.works("archs", "acgan").stdout


def test_archs_of_one(medgan):
    text = medgan.works("archs", "acgan").stdout
    assert "arXiv:1610.09585" in text
    assert "modern (default)" in text
    words = " ".join(text.split())
    for item in ACGANConfig.options():
        assert "--" + item.name.replace("_", "-") in words
    (line,) = [line for line in text.splitlines() if line.startswith("--latent-dim")]
    assert line.split()[1:4] == ["128", "100", "16"]  # of modern, original and tiny


@pytest.mark.parametrize("width", ["40", "80", "300"])
def test_archs_on_any_width(medgan, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    assert ACGAN.summary in medgan.works("archs").stdout
    assert "--latent-dim" in medgan.works("archs", "acgan").stdout


@pytest.mark.usefixtures("plugin")
def test_archs_lists_broken_plugins(medgan):
    result = medgan.works("archs")
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines[1:5]} == {"acgan", "broken", "exploding", "margin"}
    assert "A GAN with a margin" in result.stdout
    (broken,) = [line for line in lines if line.startswith("Broken: Architecture 'broken'")]
    assert "nosuchmodule:X, from MEDGAN_PLUGINS" in broken
    assert "ModuleNotFoundError: No module named 'nosuchmodule'" in broken
    assert any("SystemExit: boom" in line for line in lines)


@pytest.mark.usefixtures("plugin")
def test_lists_are_kept_until_something_changes(medgan, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    loads = []
    load = registry.Plugin.load
    monkeypatch.setattr(registry.Plugin, "load", lambda self: loads.append(self.name) or load(self))
    first = medgan.works("archs").stdout
    assert sorted(loads) == ["acgan", "broken", "exploding", "margin"]
    loads.clear()
    assert medgan.works("archs").stdout == first
    assert loads == ["broken", "exploding"]

    (tmp_path / "site" / "margingan.py").write_text(THIRD_PARTY.replace("with a margin", "with a wide margin"))
    sys.modules.pop("margingan")
    loads.clear()
    assert "A GAN with a wide margin" in medgan.works("archs").stdout
    assert "margin" in loads

    (tmp_path / "cache" / "architectures.json").write_text("{")
    assert "A GAN with a wide margin" in medgan.works("archs").stdout


@pytest.mark.usefixtures("plugin")
def test_lists_need_no_cache(medgan, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "file" / "cache"))
    assert "A GAN with a margin" in medgan.works("archs").stdout


@pytest.mark.usefixtures("plugin")
def test_broken_plugin_stops_nothing_else(medgan, tmp_path):
    folder = medgan.fit(tmp_path / "run", "--arch", "acgan", "--steps", 1)
    medgan.works("sample", "--model", folder, "-n", 1, "--out", tmp_path / "out")
    message = medgan.fails("fit", *medgan.small, "--arch", "broken", "--outdir", tmp_path / "runs")
    assert "No module named 'nosuchmodule'" in message
    assert "No module named 'nosuchmodule'" in medgan.fails("archs", "broken")
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("plugin")
def test_architecture_of_a_third_party(medgan, tmp_path):
    help_text = " ".join(medgan.works("fit", "--arch", "margin", "--help").stdout.split())
    assert "--margin FLOAT Margin of the loss, unheard of elsewhere. (at least 0) [default: 3.0]" in help_text
    assert "--norm / --no-norm" in help_text
    assert "--generator-width" not in help_text
    assert "Presets of margin: wide, tiny." in help_text
    assert "--margin" not in medgan.works("fit", "--help").stdout
    assert "--margin" in medgan.works("archs", "margin").stdout

    folder = medgan.fit(tmp_path / "run", "--arch", "margin", "--margin", 2, "--norm", "--steps", 2)
    model = load_model(folder)
    assert type(model).__name__ == "MarginGAN"
    assert (model.config.margin, model.config.norm, model.config.batch_size) == (2.0, True, 4)
    assert '"discriminator/margin"' in (folder / "metrics.jsonl").read_text()
    medgan.works("fit", "--resume", folder, "--steps", 3)
    assert read_state(folder / "checkpoints" / "latest" / "trainer.pt")["trainer"]["step"] == 3

    medgan.works("sample", "--model", folder, "-n", 2, "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    assert "Option 'margin' got -1.0" in medgan.fails("fit", *medgan.small, "--arch", "margin", "--margin", -1)
    assert "--generator-width" in medgan.fails("fit", *medgan.small, "--arch", "margin", "--generator-width", 4)


@pytest.mark.usefixtures("plugin")
def test_model_whose_architecture_is_gone(medgan, tmp_path, monkeypatch):
    folder = medgan.fit(tmp_path / "run", "--arch", "margin", "--steps", 1)
    monkeypatch.delenv("MEDGAN_PLUGINS")
    message = medgan.fails("sample", "--model", folder, "--out", tmp_path / "out")
    assert "'margin' is not installed" in message
    assert "pip install" in message
    assert "'margin' is not installed" in medgan.fails("fit", "--resume", folder, "--steps", 2)


def test_two_architectures_of_one_name(medgan, monkeypatch):
    monkeypatch.setenv("MEDGAN_PLUGINS", "acgan=margingan:MarginGAN")
    listed = medgan.works("archs").stdout
    assert "broken, see below" in listed
    message = medgan.fails("fit")
    assert message in listed
    assert "'acgan' is declared twice" in message
    assert "medgan.models.acgan:ACGAN" in message
    assert "margingan:MarginGAN" in message


def test_variable_that_cannot_be_read(medgan, monkeypatch):
    monkeypatch.setenv("MEDGAN_PLUGINS", "margingan")
    assert "expected name=module:Class" in medgan.fails("archs")


def test_registered_architecture(medgan):
    class Notebook(ACGAN):
        name = "notebook"

    registry.register(Notebook)
    try:
        assert "notebook" in medgan.works("archs").stdout
    finally:
        registry.unregister("notebook")


def test_in_a_process_of_its_own(tmp_path):
    (tmp_path / "margingan.py").write_text(THIRD_PARTY)
    plugins = {"PYTHONPATH": str(tmp_path), "MEDGAN_PLUGINS": "margin=margingan:MarginGAN,broken=nosuchmodule:X"}
    process = subprocess.run(
        [sys.executable, "-m", "medgan", "archs"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **plugins},
    )
    assert process.returncode == 0, process.stderr
    assert "A GAN with a margin" in process.stdout
    assert "No module named 'nosuchmodule'" in process.stdout
    assert process.stderr == ""
