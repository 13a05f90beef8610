"""Features of a classifier that was trained on the real images themselves: what tells their classes apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from medgan.classifiers import Classifier, LabelledImages, make_classifier, shuffled_batches, train_classifier
from medgan.errors import ConfigError, DataError
from medgan.metrics.extractors.base import Extractor, InputSpec, module_sha256

__all__ = ["ClassifierExtractor", "classifier_extractor", "train_classifier_extractor"]

_EVALUATIONS = 20  # in a training, of which the best is kept


class ClassifierExtractor(Extractor):
    """The features that a classifier decides on, with its logits for the inception score.

    Classes give scores; findings that can come together are no classes, so that there is no inception score.
    """

    layer = "features"

    def __init__(
        self, classifier: Classifier, *, class_names: Sequence[str] = (), device: str | torch.device = "cpu"
    ) -> None:
        """Copy a trained classifier.

        Args:
            classifier: For 2-D images of 1 or 3 channels. What happens to it later does not change the features.
            class_names: What it tells apart, for the notes.
            device: Where to compute.

        Raises:
            ConfigError: If it reads other images.
        """
        channels = classifier.channels
        if channels not in (1, 3) or len(classifier.size) != 2:
            raise ConfigError(
                "A classifier of 2-D images with 1 or 3 channels is expected, got one of images of shape "
                f"{(channels, *classifier.size)}. Train one on slices of the volumes."
            )
        known: Literal[1, 3] = 1 if channels == 1 else 3
        height, width = classifier.size
        self.device = torch.device(device)
        self._classifier = copy.deepcopy(classifier).to(self.device).requires_grad_(False).eval()
        self.name = f"classifier ({classifier.name})"
        self.dim = classifier.head.in_features
        self.classes = 0 if classifier.multilabel else classifier.num_classes
        self.input = InputSpec(known, (height, width), resizer="clean")
        self.sha256 = module_sha256(self._classifier, type(classifier).__qualname__, f"{(channels, height, width)}")
        purpose = f" to tell apart {', '.join(class_names)}" if class_names else ""
        self.notes = (
            f"features of {classifier.name}, trained by medgan on real images{purpose}: not comparable with published "
            "FID, nor between trainings",
        )

    def extract(self, images: Tensor) -> Tensor:
        """Compute the features before the head: shape ``(N, D)``."""
        return self._classifier.features(images)

    def logits(self, features: Tensor) -> Tensor:
        """Run the head: shape ``(N, classes)``; of two classes 0 and the single logit."""
        if not self.classes:
            return super().logits(features)
        with torch.inference_mode():
            return self._classifier.class_logits(self._classifier.head(features.to(self.device)))


def classifier_extractor(
    classifier: Classifier, *, class_names: Sequence[str] = (), device: str | torch.device = "cpu"
) -> ClassifierExtractor:
    """Make an extractor of a classifier that was trained on real images, see `medgan.classifiers`.

    Args:
        classifier: For 2-D images of 1 or 3 channels; copied. Images of another size are resized to its own.
        class_names: What it tells apart, for the notes.
        device: Where to compute.

    Raises:
        ConfigError: If it reads other images.
    """
    return ClassifierExtractor(classifier, class_names=class_names, device=device)


def train_classifier_extractor(
    training: LabelledImages,
    validation: LabelledImages,
    *,
    class_names: Sequence[str],
    name: str = "small-cnn",
    steps: int = 1_000,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: Callable[[int], None] | None = None,
) -> ClassifierExtractor:
    """Train a classifier on real images, and make an extractor of it.

    Train it on images that the synthetic ones are not compared with afterwards: of its own training images, a
    classifier has features apart. Nothing is kept in a file; the features of one seed are those of one training.

    Args:
        training: Real training images, 2-D, with classes or findings.
        validation: Real images of other patients, which choose the best weights.
        class_names: Names of the classes, or of the findings where labels are ``(N, K)``.
        name: As in `medgan.classifiers.make_classifier`.
        steps: Steps of the training.
        seed: Of the weights, the order of the images and dropout.
        device: Where to train and then to compute; ``auto``: CUDA, else MPS, else CPU.
        progress: Called with the number of steps done.

    Raises:
        ConfigError: If there is no such classifier, or it takes no such images or labels.
        DataError: If there are no images, or no labels.
        TrainingDivergedError: If the training diverges.
    """
    if training.labels is None or not len(training):
        raise DataError(
            f"The extractor 'classifier' learns from real images with labels, got {len(training)} images with"
            f"{'out' if training.labels is None else ''} labels. Without labels, random-conv needs no training."
        )
    _, channels, *size = training.images_at([0]).shape
    classifier = make_classifier(
        name,
        channels=channels,
        size=size,
        num_classes=len(class_names),
        multilabel=training.labels.ndim == 2,
        seed=seed,
    )
    train_classifier(
        classifier,
        shuffled_batches(training, classifier.recipe.batch_size, seed=seed),
        steps=steps,
        validation=validation,
        evaluate_every=max(1, steps // _EVALUATIONS),
        seed=seed,
        device=device,
        progress=progress,
    )
    return ClassifierExtractor(classifier, class_names=class_names, device=next(classifier.parameters()).device)
