"""Finished classifier runs in files, so that an interrupted study goes on where it was."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_safetensors

from medgan.core.saving import write_aside
from medgan.evaluation.records import ClassifierRun

__all__ = ["RunStore", "StudyWarning", "fingerprint"]


class StudyWarning(UserWarning):
    """Something about a study that its reader must know, but that does not stop it."""


def fingerprint(facts: Any) -> str:
    """Return a sha256 over plain JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RunStore:
    """A folder of finished runs.

    A run is found again only by all that it depends on, its key; a file that is damaged is set aside, not deleted.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    def save(self, key: str, run: ClassifierRun) -> None:
        """Write a run, aside first.

        Args:
            key: What the run depends on, see `fingerprint`.
            run: The run.

        Raises:
            CheckpointError: If it cannot be written.
        """
        arrays = {"validation": run.validation, "test": run.test}
        if run.synthetic is not None:
            arrays["synthetic"] = run.synthetic
        arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
        facts = {
            "key": key,
            "arm": run.arm,
            "fraction": run.fraction,
            "seed": run.seed,
            "history": run.history,
            "facts": run.facts,
            "checksum": _checksum(arrays),
        }
        with write_aside(self.path(key, run.arm, run.fraction, run.seed)) as aside:
            aside.write_bytes(save_safetensors(arrays, metadata={"run": json.dumps(facts)}))

    def load(self, key: str, arm: str, fraction: float, seed: int) -> ClassifierRun | None:
        """Read a run.

        Args:
            key: What the run depends on.
            arm: Its arm.
            fraction: Its fraction.
            seed: Its seed.

        Returns:
            The run; None if there is none. A damaged file is renamed, with a `StudyWarning`, and counts as none.
        """
        path = self.path(key, arm, fraction, seed)
        try:
            with safe_open(path, framework="numpy") as stored:
                facts = json.loads(stored.metadata()["run"])
                arrays: dict[str, NDArray[np.float32]] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
            if facts["key"] != key or facts["checksum"] != _checksum(arrays):
                raise ValueError("its content has changed")
            return ClassifierRun(
                arm=facts["arm"],
                fraction=float(facts["fraction"]),
                seed=int(facts["seed"]),
                validation=arrays["validation"],
                test=arrays["test"],
                history=facts["history"],
                facts=facts["facts"],
                synthetic=arrays.get("synthetic"),
            )
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            damaged = path.with_name(f"{path.name}.damaged")
            path.replace(damaged)
            warnings.warn(
                f"{path} is damaged ({error}); it is now {damaged.name}, and the run is done again.",
                StudyWarning,
                stacklevel=2,
            )
            return None

    def path(self, key: str, arm: str, fraction: float, seed: int) -> Path:
        """Return the file of a run."""
        return self.folder / f"{arm}-{fraction:g}-seed{seed}-{key[:12]}.safetensors"


def _checksum(arrays: dict[str, NDArray[np.float32]]) -> str:
    """Hash arrays with their names and shapes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
