"""Training of a classifier, with the best weights kept, and its predictions."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from medgan.classifiers.base import Classifier, Recipe
from medgan.core.randomness import get_random_state, seeded, set_random_state
from medgan.core.spec import Batch, DataSpec
from medgan.core.trainer import memory_format
from medgan.errors import ConfigError, DataError, TrainingDivergedError

__all__ = ["LabelledImages", "TrainingHistory", "place_classifier", "predict", "shuffled_batches", "train_classifier"]

_EVALUATION_BATCH = 256


class LabelledImages(Protocol):
    """Images with labels, by position; a `medgan.data.ImageDataset` is one."""

    @property
    def labels(self) -> NDArray[Any] | None:
        """Class indices, ``(N,)`` integers; or findings, ``(N, K)`` of 0 and 1, NaN where unknown; or None."""

    def __len__(self) -> int:
        """Return the number of images."""

    def images_at(self, indices: Sequence[int] | NDArray[np.integer[Any]] | Tensor) -> Tensor:
        """Return some images: shape ``(len(indices), C, *size)``, float32 in [-1, 1]."""


@dataclass(frozen=True)
class TrainingHistory:
    """How a training went.

    Attributes:
        rows: One an evaluation: ``step``, ``training_loss`` (mean of the steps since the last one) and
            ``validation_loss``.
        best_step: Step with the lowest validation loss, whose weights the classifier has now.
    """

    rows: list[dict[str, float]]
    best_step: int

    @property
    def steps(self) -> int:
        """Steps done, fewer than asked for where the training stopped early."""
        return int(self.rows[-1]["step"])


def train_classifier(
    classifier: Classifier,
    batches: Iterable[Batch],
    *,
    steps: int,
    validation: LabelledImages,
    evaluate_every: int,
    patience: int | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    augment: Callable[[Tensor], Tensor] | None = None,
    recipe: Recipe | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrainingHistory:
    """Train a classifier, and leave it with the weights that had the lowest validation loss.

    The loss is the cross-entropy of classes, ordered ones too, or the binary one of two classes and of findings;
    findings that are not known are left out. On a CPU the same batches and the same seed give the same weights, for
    one number of threads. torch's global random state stays as it is, save for what `batches` draws from it.

    Args:
        classifier: Trained in place; moved to the device, where it stays, in evaluation mode.
        batches: At least `steps` batches, such as an `medgan.data.ImageDataset` makes; each with 2 images or more, and
            with labels.
        steps: Steps to do.
        validation: Images of other patients, on which the best weights are chosen.
        evaluate_every: Steps between two evaluations; there is one after the last step in any case.
        patience: Stop after as many evaluations in a row without a lower validation loss; None: never.
        seed: Of dropout and augmentation.
        device: ``auto`` (CUDA, else MPS, else CPU), or torch's name of one.
        augment: Applied to the images of each batch, on the device; draws from torch's generator.
        recipe: Optimizer and learning rate; the classifier's own if None.
        progress: Called with the number of steps done, after each.

    Returns:
        The losses, and the step whose weights were kept.

    Raises:
        ConfigError: If a number is out of range, or the device is absent.
        DataError: If images or labels do not fit the classifier, the batches run out, or there is no validation image.
        TrainingDivergedError: If a loss becomes NaN or infinite.
    """
    if steps < 1 or evaluate_every < 1 or (patience is not None and patience < 1) or seed < 0:
        raise ConfigError(
            "steps, evaluate_every and patience must be at least 1, seed at least 0; "
            f"got {steps}, {evaluate_every}, {patience} and {seed}."
        )
    recipe = recipe or classifier.recipe
    place = _find_device(device)
    truth = _validation_labels(classifier, validation)
    place_classifier(classifier, place)
    optimizer, schedule = _make_optimizer(classifier, recipe, steps)
    randomness = _Randomness(seed, place)
    stream = iter(batches)
    rows: list[dict[str, float]] = []
    best_step, best_loss, best_weights, evaluations_since = 0, math.inf, classifier.state_dict(), 0
    losses: list[Tensor] = []  # of the steps since the last evaluation, still on the device
    for step in range(1, steps + 1):
        # Outside of the training's own random numbers: a generator of batches may draw some itself.
        batch = next(stream, None)
        if batch is None:
            raise DataError(f"The batches ran out after {step - 1} of {steps} steps. Pass an endless stream.")
        images, labels = _checked(classifier, batch)
        with randomness():
            losses.append(_step(classifier, optimizer, images.to(place, non_blocking=True), labels, augment))
        schedule.step()
        if progress is not None:
            progress(step)
        if step % evaluate_every and step < steps:
            continue
        training_loss = float(torch.stack(losses).mean())
        losses.clear()
        validation_loss = _validation_loss(classifier, validation, truth)
        if not (math.isfinite(training_loss) and math.isfinite(validation_loss)):
            raise TrainingDivergedError(
                f"Classifier {classifier.name!r} diverged before step {step}: the training loss is {training_loss}, "
                f"the validation loss {validation_loss}. Make it anew, and train it with recipe=dataclasses.replace("
                f"classifier.recipe, learning_rate={recipe.learning_rate / 10:g})."
            )
        rows.append({"step": step, "training_loss": training_loss, "validation_loss": validation_loss})
        if validation_loss < best_loss:
            best_step, best_loss, evaluations_since = step, validation_loss, 0
            best_weights = copy.deepcopy(classifier.state_dict())
        else:
            evaluations_since += 1
            if evaluations_since == patience:
                break
    classifier.load_state_dict(best_weights)
    classifier.eval()
    return TrainingHistory(rows, best_step)


def predict(
    classifier: Classifier, images: LabelledImages, *, batch_size: int = 256, device: str | torch.device = "auto"
) -> NDArray[np.float32]:
    """Compute the probabilities of each class or finding.

    Args:
        classifier: Moved to the device, where it stays; its mode, training or evaluation, is left as it was.
        images: Images; their labels play no part.
        batch_size: Images at a time.
        device: As in `train_classifier`.

    Returns:
        Shape ``(N, K)``, float32: of K classes, two or more, with rows that sum to 1; or of K findings, each by itself.

    Raises:
        ConfigError: If the batch size is below 1, or the device is absent.
        DataError: If the images do not fit the classifier.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}; 256 is usual.")
    place_classifier(classifier, _find_device(device))
    rows = [np.zeros((0, classifier.num_classes), dtype=np.float32)]
    with _evaluating(classifier):
        for _, batch in _batches_in_order(classifier, images, batch_size):
            rows.append(classifier.probabilities(batch).float().cpu().numpy())
    return np.concatenate(rows)


def shuffled_batches(images: LabelledImages, batch_size: int, *, seed: int = 0) -> Iterator[Batch]:
    """Yield batches without end; every image comes once an epoch, and epochs join without a short batch.

    Args:
        images: Images with labels.
        batch_size: Images a batch; may exceed the number of images.
        seed: Same seed, same batches; torch's random numbers play no part.

    Raises:
        ConfigError: If the batch size is below 1.
        DataError: If there are no images, or no labels.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}; 64 is usual.")
    labels = images.labels
    if labels is None or not len(images):
        raise DataError(f"{len(images)} images with{'out' if labels is None else ''} labels cannot train a classifier.")
    return _shuffled(images, labels, batch_size, np.random.default_rng(seed))


def _shuffled(
    images: LabelledImages, labels: NDArray[Any], batch_size: int, rng: np.random.Generator
) -> Iterator[Batch]:
    waiting = np.zeros(0, dtype=np.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, rng.permutation(len(images))])
        chosen, waiting = waiting[:batch_size], waiting[batch_size:]
        yield Batch(images.images_at(chosen), torch.from_numpy(labels[chosen]))


def _step(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    augment: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Do one step; returns the mean loss, detached."""
    classifier.train()
    images = images.contiguous(memory_format=_memory_format(classifier))
    if augment is not None:
        with torch.no_grad():
            images = augment(images)
    losses, known = _losses(classifier, classifier(images), labels.to(images.device, non_blocking=True))
    loss = losses.sum() / known.clamp(min=1)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _losses(classifier: Classifier, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return a loss for each label, 0 where it is not known, and how many are known."""
    if classifier.num_logits == classifier.num_classes and not classifier.multilabel:
        losses = F.cross_entropy(logits, labels.long(), reduction="none")
        return losses, torch.tensor(len(labels), device=logits.device)
    labels = labels.float().view_as(logits)
    known = labels.isfinite()
    losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return losses * known, known.sum()


def _validation_loss(classifier: Classifier, validation: LabelledImages, truth: Tensor) -> float:
    """Return the mean loss over all known labels of the validation images."""
    total, known = 0.0, 0
    with _evaluating(classifier):
        for rows, images in _batches_in_order(classifier, validation, _EVALUATION_BATCH):
            losses, count = _losses(classifier, classifier(images), truth[rows].to(images.device))
            total += float(losses.sum())
            known += int(count)
    return total / known


def _batches_in_order(
    classifier: Classifier, images: LabelledImages, batch_size: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield which images come, and the images, where the classifier is."""
    device = next(classifier.parameters()).device
    for start in range(0, len(images), batch_size):
        stop = min(start + batch_size, len(images))
        found = images.images_at(range(start, stop))
        _check_shape(classifier, found)
        yield slice(start, stop), found.to(device).contiguous(memory_format=_memory_format(classifier))


@contextmanager
def _evaluating(classifier: Classifier) -> Iterator[None]:
    """Run a block in evaluation mode without gradients; puts the mode of every module back."""
    modes = [(module, module.training) for module in classifier.modules()]
    classifier.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _make_optimizer(classifier: Classifier, recipe: Recipe, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Return the recipe's optimizer and its learning rates; only weights with two axes or more decay."""
    parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    optimizer = kind(groups, lr=recipe.learning_rate, eps=recipe.epsilon, foreach=True)

    def factor(step: int) -> float:
        return (1 + math.cos(math.pi * step / steps)) / 2 if recipe.schedule == "cosine" else 1.0

    return optimizer, LambdaLR(optimizer, factor)


class _Randomness:
    """Random numbers of the training's own, which go on from block to block; the caller's stay as they are."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        with seeded(seed, device):
            self._state = get_random_state(device)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        outer = get_random_state(self._device)
        set_random_state(self._state, self._device)
        try:
            yield
        finally:
            self._state = get_random_state(self._device)
            set_random_state(outer, self._device)


def _checked(classifier: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return images and labels of a batch, if they fit."""
    _check_shape(classifier, batch.images)
    if batch.labels is None:
        raise DataError(f"Classifier {classifier.name!r} learns from labels, and the batches have none.")
    if len(batch.labels) != len(batch.images):
        raise DataError(f"A batch has {len(batch.images)} images and {len(batch.labels)} labels.")
    return batch.images, _check_labels(classifier, batch.labels)


def _validation_labels(classifier: Classifier, validation: LabelledImages) -> Tensor:
    """Return the labels of the validation images, if they fit."""
    labels = validation.labels
    if labels is None or not len(validation):
        raise DataError(
            f"{len(validation)} validation images with{'out' if labels is None else ''} labels cannot choose the best "
            "weights. Set aside some images of other patients, for example with dataset.split(0.1)."
        )
    if len(labels) != len(validation):
        raise DataError(f"There are {len(validation)} validation images and {len(labels)} labels.")
    truth = _check_labels(classifier, torch.from_numpy(np.array(labels)))
    if classifier.multilabel and not truth.isfinite().any():
        raise DataError("No label of the validation images is known. Set aside images whose findings are known.")
    return truth


def _check_labels(classifier: Classifier, labels: Tensor) -> Tensor:
    """Raise DataError unless labels are those that the classifier was made for."""
    count = classifier.num_classes
    if classifier.multilabel:
        if labels.ndim != 2 or labels.shape[1] != count or not labels.is_floating_point():
            raise DataError(
                f"Classifier {classifier.name!r} learns {count} findings from float32 labels of shape (N, {count}), "
                f"got {labels.dtype} of shape {tuple(labels.shape)}."
            )
        fit = ((labels >= 0) & (labels <= 1)) | labels.isnan()
    else:
        if labels.ndim != 1 or labels.is_floating_point():
            raise DataError(
                f"Classifier {classifier.name!r} learns {count} classes from int64 labels of shape (N,), got "
                f"{labels.dtype} of shape {tuple(labels.shape)}."
            )
        fit = (labels >= 0) & (labels < count)
    if not fit.all():
        wrong = labels[~fit][0].item()
        expected = "0 to 1, or NaN where unknown" if classifier.multilabel else f"0 to {count - 1}"
        raise DataError(f"A label is {wrong:g}; classifier {classifier.name!r} expects {expected}.")
    return labels


def _check_shape(classifier: Classifier, images: Tensor) -> None:
    """Raise DataError unless images have the channels and the size that the classifier was made for."""
    expected = (classifier.channels, *classifier.size)
    if images.shape[1:] != expected:
        raise DataError(
            f"Classifier {classifier.name!r} was made for images of shape {expected}, got {tuple(images.shape[1:])}."
        )


def place_classifier(classifier: Classifier, device: torch.device) -> None:
    """Move a classifier to a device, in the memory format that its convolutions prefer; in another it rounds otherwise.

    Args:
        classifier: Moved in place.
        device: Where to.
    """
    # torch's overloads know no device together with a memory format.
    nn.Module.to(classifier, device=device, memory_format=_memory_format(classifier))  # type: ignore[call-overload]


def _memory_format(classifier: Classifier) -> torch.memory_format:
    """Return the memory format that convolutions of such images are fastest in."""
    return memory_format(DataSpec(classifier.channels, classifier.size))


def _find_device(device: str | torch.device) -> torch.device:
    """Return a device that is there."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, here in present.items() if here))
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"Device {device!r} is unknown. Expected auto, cpu, cuda or mps.") from error
    if not present.get(found.type, True):
        here = ", ".join(name for name, usable in present.items() if usable)
        raise ConfigError(f"Device {str(device)!r} was asked for, but torch finds none here. Expected one of: {here}.")
    return found
