"""Trackers of experiments, through accelerate: what `MetricsLog` writes, in TensorBoard, W&B or MLflow as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["check_tracker", "tracking"]

# The modules that each of them needs, of which one is enough.
_MODULES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}
_PROJECT = "medgan"


def check_tracker(name: str) -> None:
    """Raise if a tracker is not installed; it is not imported.

    Args:
        name: ``tensorboard``, ``wandb`` or ``mlflow``.

    Raises:
        ConfigError: If so; it says what to install.
    """
    # The folder that a tracker keeps in the current one bears its name, and looks like a package without an origin.
    if not any((spec := find_spec(module)) and spec.origin for module in _MODULES[name]):
        raise ConfigError(
            f"--tracker {name} needs the package {name}, which is not installed. Type: pip install {name}"
        )


@contextmanager
def tracking(
    name: str,
    accelerator: Accelerator,
    *,
    folder: Path,
    config: Mapping[str, Any],
    step: int,
    say: Callable[[str], None],
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Send the lines of `MetricsLog` to a tracker; call it in the main process only.

    A tracker that fails on the way, as when its server is gone, is left out from then on: the training goes on, and
    ``metrics.jsonl`` is complete.

    Args:
        name: As in `check_tracker`.
        accelerator: Takes the tracker.
        folder: The run folder, after which the run is named; TensorBoard's files are in its ``tensorboard``.
        config: The options, plain values.
        step: Step at which the training starts; what TensorBoard has of later ones is hidden.
        say: Takes a line for the user if the tracker fails.

    Yields:
        A function that takes a line; text in it is left out.

    Raises:
        ConfigError: If the tracker does not start.
    """
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"purge_step": step + 1},
        "wandb": {"name": folder.name, "group": folder.name, "dir": str(folder)},
        "mlflow": {"run_name": folder.name},
    }
    accelerator.project_configuration.set_directories(str(folder))
    accelerator.log_with = [name]
    try:
        accelerator.init_trackers(name if name == "tensorboard" else _PROJECT, dict(config), {name: options[name]})
    except Exception as error:  # whatever a library makes of a missing account, or of a server that does not answer
        raise ConfigError(
            f"--tracker {name} did not start ({type(error).__name__}: {_first_line(error)}). Set it up as its own "
            "documentation says, or leave the option out."
        ) from error
    failed = False

    def send(row: Mapping[str, Any]) -> None:
        nonlocal failed
        if failed:
            return
        try:
            figures = {key: value for key, value in row.items() if key != "step" and isinstance(value, Real)}
            accelerator.log(figures, step=row["step"])
        except Exception as error:
            failed = True
            say(f"The tracker {name} failed ({type(error).__name__}: {_first_line(error)}); metrics.jsonl goes on.")

    try:
        yield send
    finally:
        try:
            for tracker in accelerator.trackers:
                tracker.finish()
        except Exception as error:
            say(f"The tracker {name} did not end well ({type(error).__name__}: {_first_line(error)}).")


def _first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), "no reason given")
