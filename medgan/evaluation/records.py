"""What a study leaves behind: predictions of every classifier it trained, on images that stay the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.core.spec import LabelSpec
from medgan.errors import DataError

__all__ = ["ClassifierRun", "Cohort", "Study"]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Real images that classifiers are judged on, always in the same order.

    Attributes:
        labels: Truth: ``(N,)`` int64 for classes; ``(N, K)`` float32 of 0 and 1 for several findings an image, NaN
            where unknown.
        patients: ``(N,)`` of str, who each image is of; every file its own where patients are unknown.
        files: ``(N,)`` of str, names of the images in their data set, by `medgan.data.splits.image_identities`.
        subgroups: One column a property of the images, such as sex, with N rows; "" where unknown.
        unknown_patients: Of how many images it is not known who they are of.
    """

    labels: NDArray[Any]
    patients: NDArray[Any]
    files: NDArray[Any]
    subgroups: pd.DataFrame
    unknown_patients: int = 0

    def __post_init__(self) -> None:
        """Check that everything has one row an image."""
        lengths = {len(self.labels), len(self.patients), len(self.files), len(self.subgroups)}
        if len(lengths) != 1:
            raise DataError(f"A cohort needs one row an image everywhere, got {sorted(lengths)} rows.")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def unit(self) -> str:
        """What `patients` are: ``patient``; ``file`` where it is known of no image who it is of."""
        return "file" if 0 < len(self) == self.unknown_patients else "patient"


@dataclass(frozen=True, eq=False)
class ClassifierRun:
    """One trained classifier and what it predicts.

    Attributes:
        arm: Name of the arm whose training set it had.
        fraction: Share of the real training patients that the arm had, in (0, 1].
        seed: Seed of the initial weights, the order of the images and the synthetic images.
        validation: Probabilities on the validation cohort, ``(N, K)`` float32: of the K classes, with rows that sum to
            1 (so K is 2 for a yes-or-no question), or of each of K findings.
        test: The same on the test cohort.
        history: Losses as the training went on: rows with ``step``, ``training_loss`` and ``validation_loss``.
        facts: Counts and settings: ``real_images``, ``synthetic_images``, ``real_patients``, ``steps``, ``best_step``,
            ``seconds`` and whatever else the report shows.
        synthetic: The same as `test` on the synthetic cohort; None where there is none.
    """

    arm: str
    fraction: float
    seed: int
    validation: NDArray[np.float32]
    test: NDArray[np.float32]
    history: list[dict[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)
    synthetic: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """All runs of a study, with what they were judged on.

    Attributes:
        labels: What the images show.
        validation: Cohort on which thresholds and stopping were chosen.
        test: Cohort of other patients, on which nothing was chosen.
        runs: One an arm, fraction and seed; the same seeds in every arm.
        facts: Settings and provenance, plain JSON values.
        synthetic: Synthetic images that no classifier was trained on, for classifiers trained on real ones (TRTS); None
            if there are none.
    """

    labels: LabelSpec
    validation: Cohort
    test: Cohort
    runs: list[ClassifierRun]
    facts: dict[str, Any]
    synthetic: Cohort | None = None
