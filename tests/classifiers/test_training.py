from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from torch import Tensor, nn

from medgan.classifiers import (
    ClassicalAugmentation,
    Classifier,
    LabelledImages,
    Recipe,
    TrainingHistory,
    make_classifier,
    predict,
    shuffled_batches,
    train_classifier,
)
from medgan.core import Batch
from medgan.data import ImageDataset
from medgan.errors import ConfigError, DataError, TrainingDivergedError

SIZE = (16, 16)


class Pictures:
    """Images and labels in memory."""

    def __init__(self, images: Tensor, labels: NDArray[Any] | None) -> None:
        self.images = images
        self.labels = labels
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def images_at(self, indices: Sequence[int] | NDArray[np.integer[Any]] | Tensor) -> Tensor:
        self.asked.append(len(indices))
        return self.images[torch.as_tensor(np.asarray(indices))]


class Pooled(Classifier):
    """Logistic regression on the mean and the range of an image, with dropout."""

    name = "pooled"
    recipe = Recipe("adam", 0.05, weight_decay=0.0, schedule="constant")

    def __init__(self, num_classes: int = 2, *, multilabel: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels=1, size=SIZE, num_classes=num_classes, multilabel=multilabel)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2, self.num_logits)
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-0.5, 0.5, 2 * self.num_logits).view(-1, 2))
            self.head.bias.zero_()

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.dropout(torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], 1))
        return features


def pictures(count: int = 60, classes: int = 2, *, seed: int = 0) -> Pictures:
    """Images whose class is their brightness, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    levels = np.linspace(-0.4, 0.4, classes)[labels] + 0.1 * rng.standard_normal(count)
    images = np.clip(levels[:, None, None, None] + 0.2 * rng.standard_normal((count, 1, *SIZE)), -1, 1)
    return Pictures(torch.from_numpy(images.astype(np.float32)), labels)


def train(classifier: Classifier, data: LabelledImages, **options: Any) -> TrainingHistory:
    settings = {"steps": 30, "validation": pictures(seed=1), "evaluate_every": 10, "device": "cpu", **options}
    return train_classifier(classifier, shuffled_batches(data, 16), **settings)


def weights(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in classifier.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def loss_of(classifier: Classifier, data: Pictures) -> float:
    """Cross-entropy of all known labels, computed anew."""
    classifier.eval()
    with torch.no_grad():
        logits = classifier(data.images).double().numpy()
    assert data.labels is not None
    if classifier.multilabel or classifier.num_classes == 2:
        labels = data.labels.reshape(logits.shape).astype(float)
        chances = expit(logits)
        return float(np.nanmean(-labels * np.log(chances) - (1 - labels) * np.log(1 - chances)))
    return float(np.mean(-log_softmax(logits, axis=1)[np.arange(len(data)), data.labels]))


# ------------------------------------------------------------------------------------------ learning


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_learnt(classes: int) -> None:
    classifier = make_classifier("small-cnn", channels=1, size=SIZE, num_classes=classes)
    validation = pictures(90, classes, seed=1)
    history = train(classifier, pictures(90, classes), steps=60, validation=validation)
    found = predict(classifier, validation, device="cpu")
    assert found.shape == (90, classes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert np.mean(found.argmax(1) == validation.labels) > 0.85
    assert history.rows[-1]["training_loss"] < history.rows[0]["training_loss"]


def test_findings_are_learnt_and_unknown_ones_teach_nothing() -> None:
    data, validation = pictures(120), pictures(60, seed=1)
    for part in (data, validation):
        assert part.labels is not None
        second = 1.0 - part.labels
        unknown = np.arange(len(part)) % 3 == 0
        part.labels = np.stack([part.labels, np.where(unknown, np.nan, second), np.full(len(part), np.nan)], 1)
        part.labels = part.labels.astype(np.float32)
    classifier = Pooled(3, multilabel=True)
    before = weights(classifier)
    history = train(classifier, data, steps=80, validation=validation)
    found = predict(classifier, validation, device="cpu")
    bright = np.asarray(validation.labels)[:, 0] == 1
    assert np.mean((found[:, 0] > 0.5) == bright) > 0.85
    assert np.mean((found[:, 1] < 0.5) == bright) > 0.85
    assert torch.equal(classifier.head.weight[2], before["head.weight"][2])
    best = next(row for row in history.rows if row["step"] == history.best_step)
    assert best["validation_loss"] == pytest.approx(loss_of(classifier, validation), rel=1e-5)


def test_a_batch_without_a_known_finding_moves_nothing() -> None:
    classifier = Pooled(2, multilabel=True)
    before = weights(classifier)
    validation = pictures(10)
    validation.labels = np.ones((10, 2), dtype=np.float32)
    batch = Batch(validation.images, torch.full((10, 2), torch.nan))
    history = train_classifier(classifier, [batch], steps=1, validation=validation, evaluate_every=1, device="cpu")
    assert equal(weights(classifier), before)
    assert history.rows[0]["training_loss"] == 0


@pytest.mark.parametrize("classes", [2, 4])
def test_losses_are_those_of_the_definition(classes: int) -> None:
    data, validation = pictures(16, classes), pictures(300, classes, seed=1)
    classifier = Pooled(classes)
    first = loss_of(classifier, data)
    history = train(classifier, data, steps=1, validation=validation)
    assert [row["step"] for row in history.rows] == [1]
    assert history.rows[0]["training_loss"] == pytest.approx(first, rel=1e-5)
    assert history.rows[0]["validation_loss"] == pytest.approx(loss_of(classifier, validation), rel=1e-5)


def test_the_training_loss_is_the_mean_since_the_last_evaluation() -> None:
    each = train(Pooled(), pictures(), steps=25, evaluate_every=1)
    some = train(Pooled(), pictures(), steps=25, evaluate_every=10)
    assert [row["step"] for row in some.rows] == [10, 20, 25]
    expected = [
        np.mean([row["training_loss"] for row in each.rows[start:stop]])
        for start, stop in ((0, 10), (10, 20), (20, 25))
    ]
    np.testing.assert_allclose([row["training_loss"] for row in some.rows], expected, rtol=1e-5)
    assert some.steps == 25


# ------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_steps_are_those_of_the_recipe(optimizer: Any, schedule: Any) -> None:
    """Adam by hand, in float64."""
    recipe = Recipe(optimizer, 0.03, weight_decay=0.5, schedule=schedule, epsilon=1e-2)
    data = pictures(16)
    classifier = Pooled()
    point = {name: value.double().numpy() for name, value in weights(classifier).items()}
    moments = {name: [np.zeros_like(value), np.zeros_like(value)] for name, value in point.items()}
    features = classifier.features(data.images).double().numpy()
    assert data.labels is not None
    for step in range(1, 6):
        rate = 0.03 * ((1 + math.cos(math.pi * (step - 1) / 5)) / 2 if schedule == "cosine" else 1)
        error = expit(features @ point["head.weight"].T + point["head.bias"])[:, 0] - data.labels
        gradients = {"head.weight": (error @ features)[None] / 16, "head.bias": np.array([error.mean()])}
        for name, gradient in gradients.items():
            decay = 0.5 if name == "head.weight" else 0.0
            if optimizer == "adamw":
                point[name] = point[name] * (1 - rate * decay)
            else:
                gradient = gradient + decay * point[name]
            first, second = moments[name]
            first[:] = 0.9 * first + 0.1 * gradient
            second[:] = 0.999 * second + 0.001 * gradient**2
            scale = np.sqrt(second / (1 - 0.999**step)) + 1e-2
            point[name] = point[name] - rate * first / (1 - 0.9**step) / scale
    batch = Batch(data.images, torch.from_numpy(data.labels))
    train_classifier(classifier, [batch] * 5, steps=5, validation=data, evaluate_every=5, device="cpu", recipe=recipe)
    for name, value in weights(classifier).items():
        np.testing.assert_allclose(value.numpy(), point[name], rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------- the best weights, stopping


def overfitting(**options: Any) -> tuple[Pooled, TrainingHistory, Pictures]:
    """The validation images contradict the training images, so that training makes things worse and worse."""
    data, validation = pictures(), pictures(seed=1)
    assert validation.labels is not None
    validation.labels = 1 - validation.labels
    classifier = Pooled()
    history = train(classifier, data, validation=validation, **options)
    return classifier, history, validation


def test_the_best_weights_are_kept() -> None:
    classifier, history, validation = overfitting(steps=50, evaluate_every=5)
    losses = [row["validation_loss"] for row in history.rows]
    assert len(losses) == 10
    assert history.best_step == history.rows[int(np.argmin(losses))]["step"] < 50
    assert loss_of(classifier, validation) == pytest.approx(min(losses), rel=1e-5)
    assert not classifier.training


def test_patience_counts_evaluations_without_a_lower_loss() -> None:
    _, full, _ = overfitting(steps=100, evaluate_every=5)
    best = [row["step"] for row in full.rows].index(full.best_step)
    for patience in (1, 3):
        _, history, _ = overfitting(steps=100, evaluate_every=5, patience=patience)
        assert history.rows == full.rows[: best + patience + 1]
        assert history.best_step == full.best_step
        assert history.steps == full.best_step + 5 * patience


# ---------------------------------------------------------------------------------------- randomness


def test_a_seed_decides_on_dropout_and_the_global_state_stays() -> None:
    found = []
    for outer, seed in ((1, 0), (2, 0), (1, 1)):
        classifier = Pooled(dropout=0.5)
        torch.manual_seed(outer)
        before = torch.get_rng_state()
        train(classifier, pictures(), seed=seed, augment=ClassicalAugmentation())
        assert torch.equal(torch.get_rng_state(), before)
        found.append(weights(classifier))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def test_batches_that_draw_do_so_from_the_callers_random_numbers() -> None:
    def drawing(data: Pictures) -> Iterator[Batch]:
        assert data.labels is not None
        while True:
            seen.append(float(torch.rand(())))
            yield Batch(data.images, torch.from_numpy(data.labels))

    seen: list[float] = []
    classifier = Pooled(dropout=0.5)
    torch.manual_seed(5)
    train_classifier(classifier, drawing(pictures()), steps=4, validation=pictures(), evaluate_every=2, device="cpu")
    torch.manual_seed(5)
    assert seen == [float(torch.rand(())) for _ in range(4)]


def test_dropout_goes_on_from_step_to_step() -> None:
    noise: list[Tensor] = []

    def keep(images: Tensor) -> Tensor:
        noise.append(torch.rand(3))
        return images

    train(Pooled(), pictures(), steps=3, augment=keep)
    assert len({tuple(each.tolist()) for each in noise}) == 3


def test_augmentation_is_for_training_images_only() -> None:
    seen: list[Tensor] = []

    def blacken(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.full_like(images, -1.0)

    data, validation = pictures(), pictures(seed=1)
    classifier = Pooled()
    history = train(classifier, data, steps=2, validation=validation, augment=blacken)
    assert [tuple(images.shape) for images in seen] == [(16, 1, *SIZE)] * 2
    mean, largest = classifier.head.weight.detach()[0].tolist()  # which are the same in a black image
    assert largest - mean == pytest.approx(1, abs=1e-4)
    assert history.rows[-1]["validation_loss"] == pytest.approx(loss_of(classifier, validation), rel=1e-5)


# ------------------------------------------------------------------------------------------ predicting


def test_predictions_do_not_depend_on_the_batch_size_and_leave_modes() -> None:
    data = pictures(23)
    classifier = make_classifier("small-cnn", channels=1, size=SIZE, num_classes=2).train()
    classifier.dropout.eval()  # type: ignore[union-attr]
    before = {name: module.training for name, module in classifier.named_modules()}
    whole = predict(classifier, data, device="cpu")
    data.asked.clear()
    parts = predict(classifier, data, batch_size=10, device="cpu")
    assert data.asked == [10, 10, 3]
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)
    assert {name: module.training for name, module in classifier.named_modules()} == before
    classifier.eval()
    np.testing.assert_allclose(whole, classifier.probabilities(data.images).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_predictions_need_no_labels_and_no_images() -> None:
    data = pictures(4)
    labelled = predict(Pooled(), data, device="cpu")
    data.labels = None
    np.testing.assert_array_equal(predict(Pooled(), data, device="cpu"), labelled)
    assert predict(Pooled(3), Pictures(torch.zeros(0, 1, *SIZE), None), device="cpu").shape == (0, 3)


# --------------------------------------------------------------------------------------------- batches


def test_shuffled_batches_take_every_image_once_an_epoch() -> None:
    data = pictures(10)
    data.images = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 1, *SIZE)
    data.labels = np.arange(10)
    found = list(islice(shuffled_batches(data, 4, seed=1), 5))
    numbers = torch.cat([batch.images[:, 0, 0, 0] for batch in found]).long()
    assert sorted(numbers[:10].tolist()) == sorted(numbers[10:].tolist()) == list(range(10))
    assert numbers[:10].tolist() != numbers[10:].tolist()
    assert torch.equal(torch.cat([batch.labels for batch in found if batch.labels is not None]), numbers)
    again, other = (next(shuffled_batches(data, 25, seed=seed)).labels for seed in (1, 2))
    assert again is not None
    assert other is not None
    assert torch.equal(again[:20], numbers)
    assert not torch.equal(again, other)


def test_a_data_set_is_labelled_images() -> None:
    data = pictures(40)
    assert data.labels is not None
    dataset = ImageDataset.from_arrays(
        data.images[:, 0].numpy(), data.labels, data_range=(-1, 1), names=["dark", "bright"]
    )
    images: LabelledImages = dataset
    classifier = Pooled()
    history = train_classifier(
        classifier, dataset.batches(8), steps=20, validation=images, evaluate_every=10, device="cpu"
    )
    assert history.rows[-1]["validation_loss"] < 0.6
    np.testing.assert_allclose(
        predict(classifier, dataset, device="cpu"), predict(classifier, data, device="cpu"), atol=1e-5
    )


def test_progress_is_told_of_each_step() -> None:
    seen: list[int] = []
    train(Pooled(), pictures(), steps=3, progress=seen.append)
    assert seen == [1, 2, 3]


# -------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"evaluate_every": 0}, {"patience": 0}, {"seed": -1}],
    ids=lambda options: next(iter(options)),
)
def test_numbers_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, seed at least 0"):
        train(Pooled(), pictures(), **options)
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        predict(Pooled(), pictures(), batch_size=0, device="cpu")
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        shuffled_batches(pictures(), 0)


def test_devices() -> None:
    with pytest.raises(ConfigError, match="Device 'gpu' is unknown"):
        train(Pooled(), pictures(), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"Device 'cuda:1' was asked for, but torch finds none here.*cpu"):
            predict(Pooled(), pictures(), device="cuda:1")


def test_batches_that_do_not_fit() -> None:
    good = pictures(8)
    images, labels = good.images, torch.arange(8) % 2

    def attempt(batch: Batch, classifier: Classifier | None = None, count: int = 1) -> None:
        classifier = classifier or Pooled()
        before = copy.deepcopy(classifier)
        validation = copy.copy(good)
        if classifier.multilabel:
            validation.labels = np.ones((8, 2), dtype=np.float32)
        with pytest.raises(DataError, match=message):
            train_classifier(
                classifier, [batch] * count, steps=2, validation=validation, evaluate_every=1, device="cpu"
            )
        assert count or equal(weights(classifier), weights(before))

    message = r"ran out after 1 of 2 steps\. Pass an endless stream"
    attempt(Batch(images, labels))
    message = "learns from labels, and the batches have none"
    attempt(Batch(images))
    message = r"made for images of shape \(1, 16, 16\), got \(1, 16, 15\)"
    attempt(Batch(images[..., :15], labels))
    message = "8 images and 7 labels"
    attempt(Batch(images, labels[:7]))
    message = "A label is 2; classifier 'pooled' expects 0 to 1"
    attempt(Batch(images, labels * 2))
    message = r"2 classes from int64 labels of shape \(N,\), got torch.float32"
    attempt(Batch(images, labels.float()))
    message = r"2 findings from float32 labels of shape \(N, 2\), got torch.int64 of shape \(8,\)"
    attempt(Batch(images, labels), Pooled(2, multilabel=True))
    message = "A label is 3; classifier 'pooled' expects 0 to 1, or NaN"
    attempt(Batch(images, torch.full((8, 2), 3.0)), Pooled(2, multilabel=True))


def test_validation_images_that_cannot_validate() -> None:
    empty = Pictures(torch.zeros(0, 1, *SIZE), np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match=r"0 validation images with labels .*dataset\.split"):
        train(Pooled(), pictures(), validation=empty)
    unlabelled = pictures(5)
    unlabelled.labels = None
    with pytest.raises(DataError, match="5 validation images without labels"):
        train(Pooled(), pictures(), validation=unlabelled)
    with pytest.raises(DataError, match="5 images without labels cannot train"):
        shuffled_batches(unlabelled, 2)
    with pytest.raises(DataError, match=r"A label is 2; .* expects 0 to 1"):
        train(Pooled(), pictures(), validation=pictures(30, 3))
    unknown = pictures(5)
    unknown.labels = np.full((5, 2), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="No label of the validation images is known"):
        train(Pooled(2, multilabel=True), pictures(), validation=unknown)


def test_a_loss_that_is_not_finite() -> None:
    classifier = make_classifier("small-cnn", channels=1, size=SIZE, num_classes=2)
    wild = replace(classifier.recipe, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"'small-cnn' diverged .*learning_rate=1e\+29"):
        train(classifier, pictures(), recipe=wild)
