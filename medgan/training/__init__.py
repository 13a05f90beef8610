"""What surrounds the algorithm: log, progress, sample grids, checkpoints, a clean stop."""

from medgan.training.callbacks import (
    BudgetNotes,
    Checkpoint,
    MetricsLog,
    SampleGrid,
    StopOnSignal,
    TrainingStopped,
)
from medgan.training.curves import plot_losses, plot_quality
from medgan.training.health import Finding, HealthMonitor
from medgan.training.held_out import GroupScores, HeldOutScorer, HeldOutScores
from medgan.training.keep_best import KeepBest
from medgan.training.progress import counting, make_progress, reading_progress
from medgan.training.trackers import check_tracker, tracking
from medgan.training.translation import TranslationScorer, TranslationScores

__all__ = [
    "BudgetNotes",
    "Checkpoint",
    "Finding",
    "GroupScores",
    "HealthMonitor",
    "HeldOutScorer",
    "HeldOutScores",
    "KeepBest",
    "MetricsLog",
    "SampleGrid",
    "StopOnSignal",
    "TrainingStopped",
    "TranslationScorer",
    "TranslationScores",
    "check_tracker",
    "counting",
    "make_progress",
    "plot_losses",
    "plot_quality",
    "reading_progress",
    "tracking",
]
