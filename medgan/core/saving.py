"""Files of models and checkpoints: written aside and renamed, read without running code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from medgan.core.card import CardWarning, read_card, render_card
from medgan.errors import CheckpointError

__all__ = ["pack_weights", "read_model", "read_state", "versions", "write_aside", "write_model", "write_state"]

_FILES = ("model.safetensors", "model.json", "README.md")
_SET_ASIDE = re.compile(r"README\.edited(-\d+)?\.md")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("medgan", "torch", "accelerate")}}


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it when the block succeeds.

    A process that is killed, or a disk that is full, leaves what was at `path` as it was.

    Args:
        path: File to create or to replace.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    # Always the same name: what a killed process left is overwritten by the next one.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    # torch reports a full disk as a RuntimeError of its archive writer.
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} could not be written ({error}). What was there before is untouched.") from error
    finally:
        with contextlib.suppress(OSError):  # not there, or not even a folder to hold it
            temporary.unlink()


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a `Trainer.state_dict`.

    Args:
        path: File to create or to replace.
        state: Tensors and plain values, in dicts and lists.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    with write_aside(path) as temporary:
        torch.save(dict(state), temporary)


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; only tensors and plain values are accepted.

    Args:
        path: The file.

    Returns:
        The state, on the CPU.

    Raises:
        CheckpointError: If it is missing, damaged, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # An empty file is an EOFError that says nothing.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is damaged or not a checkpoint of medgan: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of medgan.")
    return state


def pack_weights(weights: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Return weights as a safetensors file, with its sha256: what tells one model from all others.

    Args:
        weights: A ``state_dict``.
    """
    payload = save_safetensors({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    return payload, hashlib.sha256(payload).hexdigest()


def write_model(folder: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write a saved model; see `medgan.core.GAN.save`.

    Args:
        folder: Folder to create or to replace.
        weights: The generator's weights.
        facts: Plain JSON values that say what the weights are.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the folder holds something else, or cannot be written.
    """
    if folder.name in ("", ".."):  # replaced whole, which the current folder cannot be
        raise CheckpointError(f"A model needs a folder of its own, got {folder}. Name one, such as {folder / 'model'}.")
    if folder.exists() and not (folder.is_dir() and all(map(_belongs, folder.iterdir()))):
        raise CheckpointError(f"{folder} exists and holds something else than a model of medgan. Name another folder.")
    payload, checksum = pack_weights(weights)
    facts = {**facts, "versions": versions(), "sha256": checksum}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            (fresh / _FILES[0]).write_bytes(payload)
            (fresh / _FILES[1]).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            (fresh / _FILES[2]).write_text(_renew_card(facts, folder, fresh), encoding="utf-8")
            for entry in fresh.iterdir():
                _flush(entry)
            _swap(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except (OSError, UnicodeEncodeError) as error:  # the latter of names of labels that are no text
        raise CheckpointError(f"The model could not be written to {folder} ({error}).") from error
    return folder


def read_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_model` wrote.

    Args:
        folder: The folder.

    Returns:
        The weights and the facts.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    if not folder.exists():
        with contextlib.suppress(OSError):  # a process killed between the two renames of `_swap`
            folder.with_name(f".{folder.name}.previous").replace(folder)
    weights_file, facts_file = folder / _FILES[0], folder / _FILES[1]
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {folder}. Pass a run folder or a saved model's folder.")
    if not facts_file.is_file() or not weights_file.is_file():
        raise CheckpointError(f"{folder} holds no saved model: {_FILES[0]} and {_FILES[1]} are expected.")
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        payload = weights_file.read_bytes()
        missing = [key for key in ("architecture", "config", "data", "training_data", "sha256") if key not in facts]
        if missing:
            raise CheckpointError(f"{facts_file} lacks {', '.join(missing)}; it was not written by medgan.")
        if hashlib.sha256(payload).hexdigest() != facts["sha256"]:
            raise CheckpointError(f"{weights_file} is damaged: its checksum is not the one in {facts_file.name}.")
        return load_safetensors(payload), facts
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"The model in {folder} cannot be read: {error}") from error


def _belongs(entry: Path) -> bool:
    """Whether an entry of a folder is of a saved model."""
    return entry.name in (*_FILES, ".DS_Store") or _SET_ASIDE.fullmatch(entry.name) is not None


def _renew_card(facts: Mapping[str, Any], folder: Path, fresh: Path) -> str:
    """Return the card of a model, with its owner's text; put a card that was edited elsewhere beside it."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if _SET_ASIDE.fullmatch(entry.name):
                shutil.copyfile(entry, fresh / entry.name)
    before = read_card(folder / _FILES[2])
    if before is None:
        return render_card(facts)
    if before.edited:
        number = 1
        while (aside := fresh / f"README.edited{'' if number == 1 else f'-{number}'}.md").exists():
            number += 1
        shutil.copyfile(folder / _FILES[2], aside)
        warnings.warn(
            f"{folder / _FILES[2]} was edited by hand; what you wrote is in {aside.name} beside the new card. Text "
            "between the markers at the card's end is kept.",
            CardWarning,
            stacklevel=2,
        )
    return render_card(facts, licence=before.licence, own=before.own)


def _swap(fresh: Path, folder: Path) -> None:
    """Put a new folder in the place of an old one; the old one is gone only when the new one stands."""
    previous = folder.with_name(f".{folder.name}.previous")
    if folder.exists():
        if previous.exists():
            shutil.rmtree(previous)
        folder.replace(previous)
    try:
        fresh.replace(folder)
    except OSError:
        if folder.exists() and not previous.exists():
            # A reader that came between the two renames has given the old one its name back.
            _swap(fresh, folder)
            return
        if previous.exists():
            previous.replace(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk; a rename before that could survive a power cut without it."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
