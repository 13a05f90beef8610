from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from medgan.core import DataSpec, LabelSpec
from medgan.errors import CheckpointError, ConfigError, PluginError, UnknownArchitectureError
from medgan.models import ACGAN, find_model, load_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gan = ACGAN(DataSpec(1, (32, 32), LabelSpec(("a", "b"))), preset="tiny", seed=3)
    return gan.save(tmp_path_factory.mktemp("run") / "model")


def test_any_model_by_its_folder_or_its_runs(saved: Path) -> None:
    reference = ACGAN.load(saved).sample(2).images
    for folder in (saved, str(saved), saved.parent):
        model = load_model(folder)
        assert type(model) is ACGAN
        assert torch.equal(model.sample(2).images, reference)


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no saved model"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="There is no folder"):
        load_model(tmp_path / "nowhere")


def test_architecture_that_is_not_installed(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(saved, tmp_path / "model")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, "architecture": "acgam"}))
    with pytest.raises(UnknownArchitectureError, match="'acgam' is not installed"):
        load_model(folder)
    monkeypatch.setenv("MEDGAN_PLUGINS", "acgam=nowhere_to_be_found:ACGAM")
    with pytest.raises(PluginError, match=r"'acgam' .*cannot be imported"):
        load_model(folder)


def test_which_model_of_a_run(tmp_path):
    """The best, unless there is none or the latest is asked for; a model's own folder is itself."""
    gan = ACGAN(DataSpec(1, (32, 32), LabelSpec(("A", "B"))), preset="tiny")
    latest = gan.save(tmp_path / "model")
    assert find_model(tmp_path) == latest
    with torch.no_grad():
        next(gan.generator.parameters()).add_(0.5)
    best = gan.save(tmp_path / "checkpoints" / "best", evaluation={"step": 3, "score": 0.5})
    assert find_model(tmp_path) == best
    assert find_model(tmp_path, which="latest") == latest
    assert find_model(latest) == latest
    assert torch.equal(load_model(tmp_path).sample(2).images, gan.sample(2).images)
    assert not torch.equal(load_model(tmp_path, which="latest").sample(2).images, gan.sample(2).images)
    best.rename(best.with_name(".best.previous"))  # as a process leaves it that is killed between two renames
    assert torch.equal(load_model(tmp_path).sample(2).images, gan.sample(2).images)
    with pytest.raises(ConfigError, match="expected 'best' or 'latest'"):
        find_model(tmp_path, which="last")
