"""Built-in architectures, and the way back to any saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.models.acgan import ACGAN, ACGANConfig

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["ACGAN", "ACGANConfig", "load_model"]


def load_model(folder: str | Path) -> GAN:
    """Read a saved model of any installed architecture.

    Args:
        folder: The model's folder, or a run folder that holds one in ``model``.

    Returns:
        The model, on the CPU, ready to sample.

    Raises:
        CheckpointError: If there is none, or it is damaged.
        UnknownArchitectureError: If its architecture is not installed.
        PluginError: If its architecture is broken.
    """
    from medgan import registry
    from medgan.core.saving import read_model

    path = Path(folder)
    if (path / "config.json").is_file() or (path / "model").is_dir():
        path = path / "model"
    _, facts = read_model(path)
    return registry.get(facts["architecture"]).load(path)
