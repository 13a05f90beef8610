from __future__ import annotations

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from medgan.classifiers import Classifier, make_classifier
from medgan.errors import ConfigError

WIDTHS = {"vgg16": 512, "resnet18": 512, "densenet121": 1024}


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_logits_and_gradients(name: str, channels: int) -> None:
    classifier = make_classifier(name, channels=channels, size=(32, 40), num_classes=3)
    found = classifier.features(images(2, channels, 32, 40))
    assert found.shape == (2, WIDTHS[name]) == (2, classifier.head.in_features)
    logits = classifier(images(2, channels, 32, 40))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_volumes(name: str, multilabel: bool) -> None:
    classifier = make_classifier(name, channels=1, size=(16, 20, 16), num_classes=2, multilabel=multilabel)
    logits = classifier(images(2, 1, 16, 20, 16))
    assert logits.shape == (2, 2 if multilabel else 1)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def last_map(classifier: Classifier, *shape: int) -> tuple[int, ...]:
    """Return the size of the last map before the mean over it."""
    seen: list[tuple[int, ...]] = []
    layers = [layer for layer in classifier.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    handles = [layer.register_forward_hook(lambda _, __, output: seen.append(output.shape[2:])) for layer in layers]
    with torch.no_grad():
        classifier.eval()(images(1, *shape))
    for handle in handles:
        handle.remove()
    return seen[-1]


@pytest.mark.parametrize(
    ("name", "side", "last"),
    [
        *((name, side, last) for name in ("resnet18", "densenet121") for side, last in ((16, 2), (32, 4), (63, 8))),
        *((name, side, last) for name in ("resnet18", "densenet121") for side, last in ((64, 4), (127, 8), (128, 4))),
        *(("vgg16", 32, 1), ("vgg16", 64, 2)),
    ],
)
def test_the_stem_fits_the_size(name: str, side: int, last: int) -> None:
    found = last_map(make_classifier(name, channels=1, size=(side, side), num_classes=2), 1, side, side)
    # DenseNet rounds odd sides down, ResNet up.
    assert set(found) <= {last, last - (side % 2)}


def test_the_shortest_side_decides_on_the_stem() -> None:
    assert last_map(make_classifier("resnet18", channels=1, size=(32, 128), num_classes=2), 1, 32, 128) == (4, 16)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_large_images_see_the_published_network(name: str) -> None:
    classifier = make_classifier(name, channels=3, size=(128, 128), num_classes=5).eval()
    published = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    head = "fc" if name == "resnet18" else "classifier"
    weights = {key.removeprefix("network."): value for key, value in classifier.state_dict().items()}
    weights = {key.replace("head.", f"{head}."): value for key, value in weights.items()}
    published.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images(2, 3, 128, 128)), published(images(2, 3, 128, 128)))


def test_vgg16_is_the_published_convolutions_averaged() -> None:
    classifier = make_classifier("vgg16", channels=3, size=(64, 64), num_classes=2).eval()
    with torch.device("meta"):
        network = torchvision.models.vgg16(weights=None, init_weights=False)
    published = network.features.to_empty(device="cpu")
    published.load_state_dict(classifier.convolutions.state_dict())
    found = images(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier.features(found), published(found).mean((2, 3)))
        assert classifier.features(found).std() > 0.01
    with pytest.raises(ConfigError, match=r"'vgg16' takes 2-D images.*Type small-cnn"):
        make_classifier("vgg16", channels=1, size=(32, 32, 32), num_classes=2)


def test_monais_networks_are_those_of_torchvision_in_3d() -> None:
    """As many weights as torchvision's, if each kernel had a third axis."""
    for name, kept in (("resnet18", "network."), ("densenet121", "network.")):
        flat, volume = (make_classifier(name, channels=1, size=(16,) * dims, num_classes=2) for dims in (2, 3))
        sizes = [
            sorted(
                parameter.numel() * (parameter.shape[-1] if parameter.ndim == 4 else 1)
                for key, parameter in classifier.named_parameters()
                if key.startswith(kept)
            )
            for classifier in (flat, volume)
        ]
        assert sizes[0] == sizes[1]
