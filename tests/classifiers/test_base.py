from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor, nn

from medgan.classifiers import Classifier, Recipe
from medgan.errors import ConfigError


class Pooled(Classifier):
    name = "pooled"

    def __init__(self, **facts: object) -> None:
        super().__init__(**facts)  # type: ignore[arg-type]
        self.head = nn.Linear(self.channels, self.num_logits)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(2).mean(2)


def make(num_classes: int, *, multilabel: bool = False) -> Pooled:
    torch.manual_seed(0)
    return Pooled(channels=3, size=(16, 16), num_classes=num_classes, multilabel=multilabel)


IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("num_classes", "multilabel", "logits"), [(2, False, 1), (3, False, 3), (1, True, 1), (2, True, 2)]
)
def test_logits_and_probabilities(num_classes: int, multilabel: bool, logits: int) -> None:
    classifier = make(num_classes, multilabel=multilabel)
    with torch.no_grad():
        found = classifier(IMAGES)
        probabilities = classifier.probabilities(IMAGES).numpy()
        both = classifier.class_logits(found).numpy()
    assert found.shape == (5, logits) == (5, classifier.num_logits)
    assert probabilities.shape == both.shape == (5, num_classes)
    expected = expit(both) if multilabel else softmax(both, axis=1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(both[:, -logits:], found.numpy())


def test_small_probabilities_of_two_classes_keep_their_digits() -> None:
    classifier = make(2)
    with torch.no_grad():
        classifier.head.weight.zero_()
        classifier.head.bias.fill_(40.0)
        probabilities = classifier.probabilities(IMAGES)
    np.testing.assert_allclose(probabilities[0].double().numpy(), [np.exp(-40), 1.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"num_classes": 1}, "at least 2 classes, got 1"),
        ({"num_classes": 0, "multilabel": True}, "at least 1 findings, got 0"),
        ({"channels": 0}, "at least 1 channel, got 0"),
        ({"size": (16,)}, r"'pooled' takes 2-D or 3-D images, got the size \(16,\)"),
        ({"size": (16, 15)}, r"16 pixels or more, got the size \(16, 15\).*--size 64"),
    ],
)
def test_what_no_classifier_takes(facts: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Pooled(**{"channels": 1, "size": (16, 16), "num_classes": 2, **facts})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"optimizer": "sgd"}, "'sgd', expected 'adam' or 'adamw'"),
        ({"schedule": "linear"}, "'linear', expected 'constant' or 'cosine'"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_recipes_that_cannot_be(facts: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**facts)  # type: ignore[arg-type]
