"""Files of weights: read without running code, and named by their content."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.errors import ConfigError

__all__ = ["file_sha256", "read_weights"]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_weights(path: Path, *, hint: str) -> dict[str, Tensor]:
    """Read a state dict, from a file of torch or of safetensors, without running code from it.

    Args:
        path: The file. A state dict under the key ``state_dict`` or ``model`` is found too.
        hint: What to type to get the right file.

    Returns:
        Weights by name, on the CPU.

    Raises:
        ConfigError: If there is no such file, or it is no state dict.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigError(f"There is no file of weights {path}. {hint}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    # torch reports a damaged archive in many ways.
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{path} is no file of weights that can be read without running code ({reason}). {hint}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not (isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values())):
        raise ConfigError(f"{path} holds {type(content).__name__}, not a state dict: names with tensors. {hint}")
    return content
