from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from medgan.core.card import CardWarning
from medgan.core.saving import read_model, read_state, versions, write_aside, write_model, write_state
from medgan.errors import CheckpointError

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}
FACTS: dict[str, Any] = {
    "architecture": "plain",
    "config": {"seed": 0},
    "data": {"channels": 1, "size": [8, 8], "labels": {"kind": "categorical", "names": ["a", "b"]}},
    "training": {"steps": 1200, "images_seen": 38400},
    "training_data": {"source": "noise", "licence": "CC0"},
    "reference": "arXiv:1610.09585",
}


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ------------------------------------------------------------------------------------- checkpoints


def test_state_round_trip(tmp_path: Path) -> None:
    state = {"step": 3, "weights": WEIGHTS, "nested": [{"x": torch.tensor(1.5)}, None, "text", 0.1]}
    path = tmp_path / "deep" / "state.pt"
    write_state(path, state)
    again = read_state(path)
    assert again["step"] == 3
    assert torch.equal(again["weights"]["a.weight"], WEIGHTS["a.weight"])
    assert again["nested"][1:] == [None, "text", 0.1]
    assert names(path.parent) == ["state.pt"]


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_state_that_would_run_code_is_refused(tmp_path: Path, writer: str) -> None:
    path, marker = tmp_path / "state.pt", tmp_path / "was here"
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"step": Payload(marker)}))
    else:
        torch.save({"step": Payload(marker)}, path)
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        read_state(path)
    assert not marker.exists()


def test_missing_damaged_and_other_states_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*state\.pt"):
        read_state(path)
    write_state(path, {"weights": WEIGHTS})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_state(path)


@pytest.mark.parametrize("broken", ["save", "flush", "rename"])
def test_failed_write_keeps_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "state.pt"
    write_state(path, {"step": 1})
    with monkeypatch.context() as patch:
        if broken == "save":
            patch.setattr(torch, "save", no_space)
        elif broken == "flush":
            patch.setattr(os, "fsync", no_space)
        else:
            patch.setattr(Path, "replace", no_space)
        with pytest.raises(CheckpointError, match=r"No space left on device.*untouched"):
            write_state(path, {"step": 2})
    assert read_state(path) == {"step": 1}
    assert names(tmp_path) == ["state.pt"]


def test_process_killed_while_writing_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted() -> None:
        with write_aside(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match="could not be written"):
        write_state(tmp_path / "file" / "state.pt", {"step": 1})
    with pytest.raises(CheckpointError, match="could not be written"):
        write_model(tmp_path / "file" / "model", WEIGHTS, FACTS)
    assert (tmp_path / "file").read_text() == "precious"


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be written"):
        write_model(tmp_path / "model", WEIGHTS, {**FACTS, "training_data": {"source": "K\udcf6ln"}})
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ models


def test_model_round_trip(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "deep" / "model", WEIGHTS, FACTS)
    assert names(folder) == ["README.md", "model.json", "model.safetensors"]
    assert names(folder.parent) == ["model"]
    weights, facts = read_model(folder)
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in weights)
    assert {key: facts[key] for key in FACTS} == FACTS
    assert facts["versions"] == versions()
    assert {"python", "medgan", "torch"} <= facts["versions"].keys()


def test_model_card_says_what_matters(tmp_path: Path) -> None:
    card = (write_model(tmp_path / "model", WEIGHTS, FACTS) / "README.md").read_text(encoding="utf-8")
    for text in ("plain", "arXiv:1610.09585", "1,200 steps", "8 × 8", "a, b", "CC0", "not for diagnosis"):
        assert text in card


def test_model_replaces_a_model_and_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for seed in (1, 2):
        write_model(folder, WEIGHTS, {**FACTS, "config": {"seed": seed}})
        assert read_model(folder)[1]["config"] == {"seed": seed}
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", ["file", "folder", "other model.json"])
def test_foreign_things_are_not_overwritten(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "thesis"
    precious = folder if kind == "file" else folder / "chapter1.txt"
    if kind != "file":
        folder.mkdir()
    if kind == "other model.json":
        (folder / "model.json").write_text("{}")
    precious.write_text("years of work")
    with pytest.raises(CheckpointError, match=r"something else .*Name another folder"):
        write_model(folder, WEIGHTS, FACTS)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_folder_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"folder of its own.*such as .*model"):
        write_model(Path(folder), WEIGHTS, FACTS)
    assert names(tmp_path) == []


@pytest.mark.parametrize("broken", ["write", "flush", "first rename", "second rename"])
def test_failed_write_keeps_the_previous_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    folder = write_model(tmp_path / "model", WEIGHTS, FACTS)
    replace = Path.replace
    calls: list[Path] = []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == (1 if broken == "first rename" else 2):
            no_space()
        return replace(self, target)

    with monkeypatch.context() as patch:
        if broken == "write":
            patch.setattr(Path, "write_bytes", no_space)
        elif broken == "flush":
            patch.setattr(os, "fsync", no_space)
        else:
            patch.setattr(Path, "replace", failing)
        with pytest.raises(CheckpointError, match="No space left on device"):
            write_model(folder, {"other": torch.zeros(1)}, {**FACTS, "config": {"seed": 9}})
    weights, facts = read_model(folder)
    assert facts["config"] == FACTS["config"]
    assert weights.keys() == WEIGHTS.keys()
    assert names(tmp_path) == ["model"]


def test_a_reader_between_the_two_renames_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model", WEIGHTS, FACTS)
    replace = Path.replace
    read: list[dict[str, object]] = []

    def slowly(self: Path, target: Path) -> Path:
        if self.name == ".model.tmp" and not read:
            read.append(read_model(folder)[1])
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", slowly)
        write_model(folder, {"other": torch.zeros(1)}, {**FACTS, "config": {"seed": 9}})
    assert read[0]["config"] == FACTS["config"]
    assert read_model(folder)[1]["config"] == {"seed": 9}
    assert names(tmp_path) == ["model"]


def test_missing_and_damaged_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no saved model: model\.safetensors and model\.json"):
        read_model(tmp_path)
    folder = write_model(tmp_path / "model", WEIGHTS, FACTS)
    facts_file, weights_file = folder / "model.json", folder / "model.safetensors"
    text, payload = facts_file.read_text(), weights_file.read_bytes()

    weights_file.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged: its checksum"):
        read_model(folder)
    weights_file.write_bytes(payload)

    for broken in (text[:50], "[]", "7", json.dumps({"architecture": "plain"})):
        facts_file.write_text(broken)
        with pytest.raises(CheckpointError, match=r"model\.json|cannot be read"):
            read_model(folder)

    facts = json.loads(text)
    garbage = b"not a safetensors file"
    weights_file.write_bytes(garbage)
    facts_file.write_text(json.dumps({**facts, "sha256": hashlib.sha256(garbage).hexdigest()}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_model(folder)


def test_own_text_of_a_card_survives_the_next_saving(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", WEIGHTS, FACTS)
    path = folder / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("*Nothing yet.", "Ask Ada."), encoding="utf-8")
    write_model(folder, WEIGHTS, {**FACTS, "training": {"steps": 7, "images_seen": 8}})
    text = path.read_text(encoding="utf-8")
    assert "Ask Ada." in text
    assert "| 7 steps" in text
    assert names(folder) == ["README.md", "model.json", "model.safetensors"]


def test_a_card_that_was_edited_elsewhere_is_set_aside(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", WEIGHTS, FACTS)
    for number, aside in enumerate(("README.edited.md", "README.edited-2.md")):
        (folder / "README.md").write_text(f"my own card {number}", encoding="utf-8")
        with pytest.warns(CardWarning, match=f"what you wrote is in {aside}"):
            write_model(folder, WEIGHTS, FACTS)
    assert (folder / "README.edited.md").read_text(encoding="utf-8") == "my own card 0"
    assert (folder / "README.edited-2.md").read_text(encoding="utf-8") == "my own card 1"
    write_model(folder, WEIGHTS, FACTS)
    assert len(names(folder)) == 5
    assert "# plain, trained on" in (folder / "README.md").read_text(encoding="utf-8")
