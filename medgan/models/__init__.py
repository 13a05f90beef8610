"""Built-in architectures, and the way back to any saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from medgan.errors import ConfigError
from medgan.models.acgan import ACGAN, ACGANConfig

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["ACGAN", "ACGANConfig", "Which", "find_model", "load_model"]

Which = Literal["best", "latest"]
"""Which model of a run; see `find_model`."""


def find_model(folder: str | Path, *, which: Which = "best") -> Path:
    """Return the folder of the model that a run folder stands for.

    Args:
        folder: A run folder, or a saved model's own folder, which is returned as it is.
        which: ``best``: the one with the best scores on held-out patients, ``checkpoints/best``, or the latest where
            the run kept none; ``latest``: the one at the end of the training so far, ``model``.

    Raises:
        ConfigError: If `which` is something else.
    """
    if which not in get_args(Which):
        raise ConfigError(f"which is {which!r}, expected 'best' or 'latest'.")
    path = Path(folder)
    if not ((path / "config.json").is_file() or (path / "model").is_dir()):
        return path
    best = path / "checkpoints" / "best"
    # The second is what a process leaves that was killed while it replaced the first; reading brings it back.
    if which == "best" and (best.is_dir() or best.with_name(f".{best.name}.previous").is_dir()):
        return best
    return path / "model"


def load_model(folder: str | Path, *, which: Which = "best") -> GAN:
    """Read a saved model of any installed architecture.

    Args:
        folder: The model's folder, or a run folder.
        which: Which model of a run, as in `find_model`.

    Returns:
        The model, on the CPU, ready to sample.

    Raises:
        ConfigError: If `which` is neither ``best`` nor ``latest``.
        CheckpointError: If there is none, or it is damaged.
        UnknownArchitectureError: If its architecture is not installed.
        PluginError: If its architecture is broken.
    """
    from medgan import registry
    from medgan.core.saving import read_model

    path = find_model(folder, which=which)
    _, facts = read_model(path)
    return registry.get(facts["architecture"]).load(path)
