from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import vgg16

from medgan.classifiers import Classifier, Recipe, make_classifier
from medgan.errors import ConfigError

NAMES = ("running_mean", "running_var")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return make_classifier("report-vgg16", channels=3, size=(64, 64), num_classes=2)


def test_parameters_are_the_reports(classifier: Classifier) -> None:
    trainable = sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)
    statistics = sum(value.numel() for name, value in classifier.named_buffers() if name.endswith(NAMES))
    assert trainable == 14_784_833
    assert trainable + statistics == 14_785_153


def test_layers_of_the_head_are_the_reports(classifier: Classifier) -> None:
    called: list[tuple[str, int, tuple[int, ...]]] = []
    handles = [
        layer.register_forward_hook(
            lambda layer, _, output: called.append(
                (
                    type(layer).__name__,
                    sum(each.numel() for each in layer.state_dict().values()),
                    tuple(output.shape[1:]),
                )
            )
        )
        for layer in classifier.modules()
        if not list(layer.children()) and not isinstance(layer, nn.ReLU)
    ]
    classifier.eval()(torch.zeros(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    convolutions = [kind for kind, _, _ in called if kind in ("Conv2d", "MaxPool2d")]
    assert convolutions == [
        *("Conv2d", "Conv2d", "MaxPool2d") * 2,
        *("Conv2d", "Conv2d", "Conv2d", "MaxPool2d") * 3,
    ]
    assert called[len(convolutions) :] == [
        ("Dropout", 0, (512,)),
        ("Linear", 65_664, (128,)),
        ("BatchNorm1d", 513, (128,)),  # with the count of batches, which Keras has not
        ("LeakyReLU", 0, (128,)),
        ("Dropout", 0, (128,)),
        ("Linear", 4_128, (32,)),
        ("BatchNorm1d", 129, (32,)),
        ("LeakyReLU", 0, (32,)),
        ("Dropout", 0, (32,)),
        ("Linear", 33, (1,)),
    ]
    assert [layer.p for layer in classifier.modules() if isinstance(layer, nn.Dropout)] == [0.4] * 3
    assert [layer.negative_slope for layer in classifier.modules() if isinstance(layer, nn.LeakyReLU)] == [0.2] * 2
    norms = [layer for layer in classifier.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.01)] * 2


def test_weights_start_as_in_keras(classifier: Classifier) -> None:
    """Glorot uniform kernels, zero biases."""
    for layer in classifier.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight = layer.weight.detach()
            area = math.prod(weight.shape[2:])
            limit = math.sqrt(6 / (area * (weight.shape[0] + weight.shape[1])))
            assert float(weight.abs().max()) <= limit
            if weight.numel() > 2000:
                assert float(weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.03)
            assert layer.bias is not None
            assert not layer.bias.detach().any()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_to_vgg16_as_rgb_from_0_to_1_and_leave_by_global_maxima(channels: int) -> None:
    classifier = make_classifier("report-vgg16", channels=channels, size=(32, 48), num_classes=2, seed=3).eval()
    pixels = torch.rand(2, channels, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):
        network = vgg16(weights=None, init_weights=False)
    published = network.features.to_empty(device="cpu")
    published.load_state_dict(classifier.convolutions.state_dict())
    with torch.no_grad():
        pooled = F.adaptive_max_pool2d(published(pixels.repeat(1, 3 // channels, 1, 1)), 1).flatten(1)
        expected = classifier.head(classifier.hidden(pooled))
        found = classifier(pixels * 2 - 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.std() > 0


def test_recipe_is_the_reports(classifier: Classifier) -> None:
    assert classifier.recipe == Recipe("adam", 1e-5, weight_decay=0.0, batch_size=64, schedule="constant", epsilon=1e-7)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"num_classes": 3}, "tells two classes apart, got 3 classes. Type vgg16"),
        ({"num_classes": 2, "multilabel": True}, "got 2 findings"),
        ({"size": (64, 31)}, "32 pixels or more"),
        ({"size": (64, 64, 64)}, r"takes 2-D images, got the size \(64, 64, 64\)\. Type small-cnn"),
    ],
)
def test_what_it_refuses(facts: dict[str, object], message: str) -> None:
    options = {"channels": 1, "size": (64, 64), "num_classes": 2, **facts}
    with pytest.raises(ConfigError, match=message):
        make_classifier("report-vgg16", **options)  # type: ignore[arg-type]
