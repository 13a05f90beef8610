"""Built-in architectures, and the way back to any saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from medgan.errors import CheckpointError, ConfigError
from medgan.models.acgan import ACGAN, ACGANConfig

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.core.networks import Discriminator

__all__ = ["ACGAN", "ACGANConfig", "Which", "find_model", "load_discriminator", "load_model"]

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


def load_discriminator(run: str | Path) -> Discriminator:
    """Read the discriminator of a run, which its checkpoint holds; a saved model has none.

    Args:
        run: The run folder.

    Returns:
        The discriminator as of the last checkpoint, on the CPU, in evaluation mode, its weights without gradients.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged or not of the model beside it.
        UnknownArchitectureError: If its architecture is not installed.
        PluginError: If its architecture is broken.
    """
    from medgan.core.randomness import seeded
    from medgan.core.saving import read_state
    from medgan.core.trainer import memory_format

    folder = Path(run)
    file = folder / "checkpoints" / "latest" / "trainer.pt"
    if not file.is_file():
        raise CheckpointError(
            f"{folder} holds no discriminator: only a run's checkpoints/latest/trainer.pt does, a saved model is a "
            "generator alone. Pass the run folder, such as runs/00000-acgan-chest_xray."
        )
    gan = load_model(folder, which="latest")
    state = read_state(file)
    for key, value in {"architecture": gan.name, "data": gan.data.to_dict()}.items():
        if state.get(key) != value:
            raise CheckpointError(f"{file} is of {key} {state.get(key)!r}, but the model beside it is of {value!r}.")
    with seeded(gan.config.seed):
        discriminator = gan.make_discriminator(gan.config, gan.data)
    try:
        discriminator.load_state_dict(state["trainer"]["discriminator"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"The discriminator in {file} does not fit {gan.name}: {reason}") from error
    return discriminator.to(memory_format=memory_format(gan.data)).requires_grad_(False).eval()
