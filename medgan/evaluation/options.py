"""Options of the evaluations; nothing here imports torch, so that the command line can start quickly."""

from __future__ import annotations

from dataclasses import dataclass

from medgan.core.config import Config, option
from medgan.errors import ConfigError
from medgan.evaluation.arms import parse_arms

__all__ = ["SUBGROUPS", "ReportConfig", "StudyConfig"]

SUBGROUPS = ("age", "sex", "view", "site")
"""Columns of a data set's table that are reported separately unless others are named."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Config):
    """Options of a study."""

    classifier: str = option(
        "small-cnn",
        "Classifier: small-cnn, resnet18, densenet121, vgg16, report-vgg16 (the default of --protocol report), one "
        "that an installed package declares, or module:Class.",
    )
    arms: str = option(
        "auto",
        "What classifiers are trained on, joined by commas, such as real,synthetic-2x; or all. auto: real, synthetic, "
        "real+synthetic and, of 2-D images, real-augmented.",
    )
    seeds: int = option(3, "Trainings of each arm; 5 or more for a publication.", ge=1, le=200)
    fractions: str = option("1", "Shares of the real training patients, such as 0.05,0.1,0.25,1.")
    steps: int = option(1000, "Optimizer steps of every training, whatever its arm.", ge=1)
    margin: float = option(
        0.02, "Loss of AUROC that still counts as no worse, fixed before the study.", ge=0.001, le=0.5
    )
    replicates: int = option(2000, "Bootstrap samples of the intervals.", ge=100)
    subgroups: str = option(
        ",".join(SUBGROUPS),
        "Columns of the table to report separately, joined by commas, where they are there.",
    )
    seed: int = option(0, "Seed of the first training; the others have those after it.", ge=0)

    def __post_init__(self) -> None:
        """Check what is written as text."""
        super().__post_init__()
        parse_arms(self.arms)
        self.parsed_fractions()

    def parsed_fractions(self) -> tuple[float, ...]:
        """Return the fractions as numbers, rising.

        Raises:
            ConfigError: If they are none.
        """
        try:
            numbers = sorted({float(part) for part in self.fractions.split(",")})
        except ValueError:
            numbers = []
        if not numbers or not all(0 < number <= 1 for number in numbers):
            raise ConfigError(
                f"--fractions {self.fractions!r}: numbers above 0 and up to 1 are expected, such as 0.05,0.1,0.25,1."
            )
        return tuple(numbers)


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Config):
    """Options of the report's protocol; the defaults are the report's."""

    classifier: str = option("report-vgg16", "Classifier; the report's is for two classes.")
    images: int = option(30_000, "Synthetic images, as many of each class.", ge=10)
    epochs: int = option(60, "Most epochs of the classifier.", ge=1)
    patience: int = option(2, "Epochs without a lower loss on held-out synthetic images, after which it stops.", ge=1)
    held_out: float = option(0.2, "Share of the synthetic images held out for stopping.", ge=0.01, le=0.9)
    seed: int = option(0, "Seed of the images and of the classifier.", ge=0)
