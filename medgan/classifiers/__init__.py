"""Image classifiers by name, and their training: what a downstream evaluation and the metrics measure with.

`make_classifier` makes one, `train_classifier` trains it, `predict` asks it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.classifiers.augmentation import ClassicalAugmentation
    from medgan.classifiers.base import Classifier, Recipe
    from medgan.classifiers.lookup import classifier_names, make_classifier
    from medgan.classifiers.training import (
        LabelledImages,
        TrainingHistory,
        predict,
        shuffled_batches,
        train_classifier,
    )

# Looked up on first use: names can be listed without torch.
_HOMES = {
    "Classifier": "base",
    "ClassicalAugmentation": "augmentation",
    "LabelledImages": "training",
    "Recipe": "base",
    "TrainingHistory": "training",
    "classifier_names": "lookup",
    "make_classifier": "lookup",
    "predict": "training",
    "shuffled_batches": "training",
    "train_classifier": "training",
}

__all__ = [
    "ClassicalAugmentation",
    "Classifier",
    "LabelledImages",
    "Recipe",
    "TrainingHistory",
    "classifier_names",
    "make_classifier",
    "predict",
    "shuffled_batches",
    "train_classifier",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
