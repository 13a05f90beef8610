"""What images are compared by in a training: a small classifier that was trained once, or random convolutions."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from medgan.classifiers import Classifier, make_classifier, train_classifier
from medgan.classifiers.training import place_classifier
from medgan.core.saving import write_aside
from medgan.core.spec import DataSpec
from medgan.errors import ConfigError
from medgan.metrics.extractors.base import module_sha256
from medgan.metrics.extractors.random_conv import RandomConv

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = [
    "ClassifierFeatures",
    "Described",
    "FrozenFeatures",
    "RandomFeatures",
    "can_classify",
    "read_classifier",
    "train_features",
    "write_classifier",
]

_CLASSIFIER = "small-cnn"
_SMALLEST = 16  # pixels, of either kind of features
_IMAGES_AT_A_TIME = 256
_LEAST_STEPS, _MOST_STEPS = 30, 1_000
_TRIED_STEPS = 4
_WATCHED = 64  # images for the one loss that a training computes after its last step
_NUMBERS = 2**24  # of a batch; what a classifier keeps of large volumes for its gradients would fill the device
_LEAST_BATCH = 4


class Described(NamedTuple):
    """Features ``(N, D)``, and the probability of each class or finding ``(N, K)``, None without a classifier."""

    features: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None


class FrozenFeatures(Protocol):
    """Turns images into features that stay the same for a whole training.

    Attributes:
        name: For the log.
        sha256: Changes with the features: scores are comparable where it is the same.
        thresholds: Probability from which a finding counts as recognised, ``(K,)``; None of anything but findings.
    """

    name: str
    sha256: str
    thresholds: NDArray[np.float64] | None

    def describe(self, images: Tensor) -> Described:
        """Compute features, of images ``(N, C, *size)``, float32 in [-1, 1]."""


class ClassifierFeatures:
    """The features that a classifier decides on, and what it decides.

    Args:
        classifier: Trained; moved to the device, and frozen.
        thresholds: As in `FrozenFeatures`.
        device: Where to compute.
    """

    def __init__(
        self, classifier: Classifier, thresholds: NDArray[np.float64] | None, *, device: str | torch.device = "cpu"
    ) -> None:
        """Freeze the classifier."""
        # One that was trained here and the same one read from a file are to give the same last digits.
        place_classifier(classifier, torch.device(device))
        self.classifier = classifier.requires_grad_(False).eval()
        self.thresholds = thresholds
        self.name = classifier.name
        self.sha256 = module_sha256(classifier)
        self._device = torch.device(device)

    def describe(self, images: Tensor) -> Described:
        """Compute features and probabilities; see `FrozenFeatures.describe`."""
        features, probabilities = [], []
        with torch.inference_mode():
            for some in _blocks(images):
                found = self.classifier.features(some.to(self._device))
                logits = self.classifier.class_logits(self.classifier.head(found))
                chances = logits.sigmoid() if self.classifier.multilabel else logits.softmax(dim=1)
                features.append(found.cpu().double().numpy())
                probabilities.append(chances.cpu().double().numpy())
        return Described(np.concatenate(features), np.concatenate(probabilities))


class RandomFeatures:
    """Features of random convolutions, for images without classes; of volumes those of three slices.

    The slices are those at a quarter, a half and three quarters of the depth; their features stand side by side.

    Args:
        spec: Facts of the images.
        device: Where to compute.

    Raises:
        ConfigError: If the images have neither 1 nor 3 channels, or fewer than 16 pixels on a side of a slice.
    """

    thresholds: NDArray[np.float64] | None = None

    def __init__(self, spec: DataSpec, *, device: str | torch.device = "cpu") -> None:
        """Draw the weights."""
        if spec.channels not in (1, 3) or len(spec.size) not in (2, 3) or min(spec.size[-2:]) < _SMALLEST:
            raise ConfigError(
                f"Images of {spec} have no features to be compared by: 1 or 3 channels and at least {_SMALLEST} pixels "
                "are needed."
            )
        self._extractor = RandomConv(device=device)
        self.name = self._extractor.name
        self.sha256 = self._extractor.sha256

    def describe(self, images: Tensor) -> Described:
        """Compute features; see `FrozenFeatures.describe`."""
        rows = []
        for some in _blocks(images):
            depth = some.shape[2]
            slices = [some] if some.ndim == 4 else [some[:, :, depth * quarter // 4] for quarter in (1, 2, 3)]
            rows.append(torch.cat([self._extractor(part.clamp(-1, 1)) for part in slices], dim=1).cpu().double())
        return Described(torch.cat(rows).numpy(), None)


def can_classify(training: ImageDataset) -> bool:
    """Whether a classifier can learn from images: classes or findings, 1 or 3 channels, from 16 pixels a side.

    Args:
        training: The images.
    """
    spec, labels = training.spec, training.labels
    if spec.labels is None or labels is None or spec.channels not in (1, 3) or min(spec.size) < _SMALLEST:
        return False
    if spec.labels.kind == "multilabel":
        return bool(np.isfinite(labels).any())
    return spec.labels.kind != "continuous" and len(np.unique(labels)) > 1


def train_features(
    training: ImageDataset,
    *,
    seconds: float = 0.0,
    steps: int | None = None,
    required: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[ClassifierFeatures, int] | None:
    """Train a small classifier on real images, for about as long as one is ready to wait.

    Classes come equally often. The last weights are kept: so short a training does not learn images by heart, and
    nobody's images have to be set aside to choose others.

    Args:
        training: Images of the training patients; see `can_classify`.
        seconds: How long; no more than 1,000 steps are done.
        steps: How many steps, in place of a time.
        required: Whether to do 30 steps in any case; else nothing is trained where the time allows for fewer.
        seed: Of weights and order.
        device: Where to train, and then to compute.

    Returns:
        The features, and the number of steps done; None if there is not enough time.

    Raises:
        TrainingDivergedError: If a loss becomes NaN or infinite.
    """
    labels, spec = training.labels, training.spec
    assert labels is not None and spec.labels is not None  # noqa: PT018 - for the type checker
    names, multilabel = spec.labels.names, spec.labels.kind == "multilabel"
    findings = labels.ndim == 2
    sampling: Any = "natural" if findings or min(training.class_counts().values()) == 0 else "uniform"
    known = np.flatnonzero(np.isfinite(labels).any(axis=1)) if findings else np.arange(len(training))
    watched = training.subset(known[np.linspace(0, len(known) - 1, min(_WATCHED, len(known))).astype(np.int64)])

    def train(steps: int) -> tuple[Classifier, list[float]]:
        classifier = _make_classifier(spec, num_classes=len(names), multilabel=multilabel, seed=seed)
        fitting = max(_LEAST_BATCH, _NUMBERS // spec.numel)
        batch_size = min(classifier.recipe.batch_size, fitting)
        times: list[float] = []
        train_classifier(
            classifier,
            training.batches(batch_size, seed=seed, class_sampling=sampling),
            steps=steps,
            validation=watched,
            evaluate_every=steps,
            seed=seed,
            device=device,
            progress=lambda step: times.append(time.perf_counter()),
        )
        return classifier, times

    if steps is None:
        _, times = train(_TRIED_STEPS)
        a_step = statistics.median(np.diff(times))
        affordable = int(seconds / max(a_step, 1e-9)) - _TRIED_STEPS
        if affordable < _LEAST_STEPS and not required:
            return None
        steps = min(_MOST_STEPS, max(_LEAST_STEPS, affordable))
    classifier, _ = train(steps)
    thresholds = None
    if findings:
        # A finding is recognised where it is more likely than among the training images.
        counts = np.isfinite(labels).sum(axis=0)
        thresholds = np.nansum(labels, axis=0, dtype=np.float64) / np.maximum(counts, 1)
    return ClassifierFeatures(classifier, thresholds, device=device), steps


def write_classifier(path: Path, features: ClassifierFeatures, training: ImageDataset) -> None:
    """Keep a classifier for the rest of a run, as a safetensors file with what it is in its header.

    Args:
        path: File to create or to replace.
        features: The classifier.
        training: What it was trained on; or the same images without labels, to be looked at without them.

    Raises:
        CheckpointError: If it cannot be written.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in features.classifier.state_dict().items()}
    thresholds = None if features.thresholds is None else features.thresholds.tolist()
    outputs = {"num_classes": features.classifier.num_classes, "multilabel": features.classifier.multilabel}
    header = {
        "facts": json.dumps(_facts(training)),
        "outputs": json.dumps(outputs),
        "thresholds": json.dumps(thresholds),
    }
    with write_aside(path) as temporary:
        temporary.write_bytes(save_safetensors(weights, metadata=header))


def read_classifier(
    path: Path, training: ImageDataset, *, device: str | torch.device = "cpu"
) -> ClassifierFeatures | None:
    """Read what `write_classifier` wrote.

    Args:
        path: The file.
        training: Images of the training patients.
        device: Where to compute.

    Returns:
        The features; None if there are none, or they were not trained on these images.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if json.loads(header["facts"]) != _facts(training):
            return None
        thresholds = json.loads(header["thresholds"])
        spec = training.spec.labels  # what the outputs are of in a file that does not say it
        known = {"num_classes": training.spec.num_labels, "multilabel": spec is not None and spec.kind == "multilabel"}
        outputs = json.loads(header.get("outputs", json.dumps(known)))
        classifier = _make_classifier(
            training.spec, num_classes=int(outputs["num_classes"]), multilabel=bool(outputs["multilabel"])
        )
        classifier.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None  # damaged, or of another version: it can be trained again
    return ClassifierFeatures(
        classifier, None if thresholds is None else np.array(thresholds, dtype=np.float64), device=device
    )


def _make_classifier(spec: DataSpec, *, num_classes: int, multilabel: bool, seed: int = 0) -> Classifier:
    """Return a fresh classifier of so many classes or findings."""
    return make_classifier(
        _CLASSIFIER,
        channels=spec.channels,
        size=spec.size,
        num_classes=num_classes,
        multilabel=multilabel,
        seed=seed,
    )


def _facts(training: ImageDataset) -> dict[str, Any]:
    """Return what a classifier depends on."""
    return {"classifier": _CLASSIFIER, "data": training.spec.to_dict(), "fingerprint": training.fingerprint}


def _blocks(images: Tensor) -> Iterator[Tensor]:
    """Cut images into pieces that fit into memory; of volumes fewer at a time."""
    voxels = math.prod(images.shape[2:])
    count = max(1, min(_IMAGES_AT_A_TIME, _IMAGES_AT_A_TIME * 128**2 // voxels))
    for start in range(0, len(images), count):
        yield images[start : start + count]
