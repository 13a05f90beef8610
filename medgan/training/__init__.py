"""What surrounds the algorithm: log, progress, sample grids, checkpoints, a clean stop."""

from medgan.training.callbacks import (
    BudgetNotes,
    Checkpoint,
    MetricsLog,
    SampleGrid,
    StopOnSignal,
    TrainingStopped,
)
from medgan.training.curves import plot_losses
from medgan.training.progress import counting, make_progress, reading_progress

__all__ = [
    "BudgetNotes",
    "Checkpoint",
    "MetricsLog",
    "SampleGrid",
    "StopOnSignal",
    "TrainingStopped",
    "counting",
    "make_progress",
    "plot_losses",
    "reading_progress",
]
