from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.classifiers import Classifier, make_classifier, predict, shuffled_batches, train_classifier
from medgan.data import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.metrics.extractors import (
    classifier_extractor,
    extractor_names,
    get_extractor,
    module_sha256,
    train_classifier_extractor,
)
from medgan.metrics.features import check_comparable, extract_features
from medgan.metrics.functional import inception_score


def make(**facts: object) -> Classifier:
    options = {"channels": 1, "size": (16, 16), "num_classes": 2, **facts}
    return make_classifier("small-cnn", **options)  # type: ignore[arg-type]


def images(count: int = 4, channels: int = 1, size: int = 16) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def dataset(count: int = 120, seed: int = 0, *, findings: bool = False) -> ImageDataset:
    """Dark and bright noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    pixels = (60 + 80 * labels[:, None, None] + 30 * rng.standard_normal((count, 16, 16))).clip(0, 255)
    given = np.stack([labels, 1 - labels, labels], 1) if findings else labels
    names = ["bright", "dark", "light"] if findings else ["dark", "bright"]
    return ImageDataset.from_arrays(pixels.astype(np.uint8), given, names=names)


def test_features_and_logits_are_the_classifiers() -> None:
    for classes in (2, 3):
        classifier = make(num_classes=classes).eval()
        extractor = classifier_extractor(classifier)
        features = extractor(images())
        with torch.no_grad():
            torch.testing.assert_close(features, classifier.features(images()), rtol=1e-4, atol=1e-5)
            expected = classifier.class_logits(classifier(images()))
        logits = extractor.logits(features)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        assert (extractor.dim, extractor.classes, logits.shape) == (96, classes, (4, classes))
        probabilities = torch.softmax(logits, 1)
        torch.testing.assert_close(probabilities, classifier.probabilities(images()), rtol=1e-4, atol=1e-5)
        found = inception_score(logits.numpy(), kind="logits", splits=1)
        assert found == pytest.approx(inception_score(probabilities.numpy(), kind="probabilities", splits=1), abs=1e-5)


def test_what_is_said_of_its_numbers() -> None:
    extractor = classifier_extractor(make(), class_names=["NORMAL", "PNEUMONIA"])
    assert extractor.name == "classifier (small-cnn)"
    assert not extractor.is_fid
    features = extract_features(images(3, channels=3), extractor)
    assert not features.is_fid
    assert "not comparable with published FID" in features.notes[0]
    assert "NORMAL, PNEUMONIA" in features.notes[0]
    assert features.notes[1] == "colour averaged to grey"
    assert "tell apart" not in classifier_extractor(make()).notes[0]


def test_other_weights_are_another_extractor() -> None:
    one, again, other = (classifier_extractor(make(seed=seed)) for seed in (0, 0, 1))
    assert one.sha256 == again.sha256 != other.sha256
    assert one.sha256 != classifier_extractor(make(size=(32, 32))).sha256
    first, second = (extract_features(images(), extractor) for extractor in (one, other))
    with pytest.raises(DataError, match="cannot be compared: sha256"):
        check_comparable(first, second)


def test_the_classifier_is_copied() -> None:
    classifier = make().train()
    extractor = classifier_extractor(classifier)
    features, digest = extractor(images()), module_sha256(classifier)
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    with torch.no_grad():
        classifier.head.weight.add_(1)
        classifier(images())  # moves the statistics of BatchNorm
    assert module_sha256(classifier) != digest
    assert torch.equal(extractor(images()), features)


def test_images_of_another_size_come_to_that_of_the_classifier() -> None:
    extractor = classifier_extractor(make())
    smooth = torch.nn.functional.interpolate(images(), scale_factor=4, mode="bicubic").clamp(-1, 1)
    assert extractor(smooth).shape == (4, 96)
    assert extractor.input.size == (16, 16)


def test_findings_have_no_inception_score() -> None:
    extractor = classifier_extractor(make(num_classes=3, multilabel=True))
    assert extractor.classes == 0
    with pytest.raises(ConfigError, match="has no classes, so there is no inception score"):
        extractor.logits(extractor(images()))


def test_volumes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"2-D images .*got one of images of shape \(1, 16, 16, 16\)"):
        classifier_extractor(make(size=(16, 16, 16)))


def test_training_one() -> None:
    training, validation = dataset(), dataset(seed=1)
    extractor = train_classifier_extractor(
        training, validation, class_names=["dark", "bright"], steps=60, seed=3, device="cpu"
    )
    features = extract_features(validation, extractor)
    chances = torch.softmax(extractor.logits(torch.from_numpy(features.values)), 1).numpy()
    assert np.mean(chances.argmax(1) == validation.labels) > 0.9
    assert "dark, bright" in features.notes[0]

    classifier = make(seed=3)
    batches = shuffled_batches(training, 64, seed=3)
    train_classifier(classifier, batches, steps=60, validation=validation, evaluate_every=2, seed=3, device="cpu")
    assert classifier_extractor(classifier).sha256 == extractor.sha256
    np.testing.assert_allclose(chances, predict(classifier, validation, device="cpu"), rtol=1e-3, atol=1e-5)


def test_training_one_on_findings() -> None:
    seen: list[int] = []
    data = dataset(findings=True)
    names = ["bright", "dark", "light"]
    extractor = train_classifier_extractor(data, data, class_names=names, steps=3, device="cpu", progress=seen.append)
    assert extractor.classes == 0
    assert seen == [1, 2, 3]


def test_training_needs_labels_that_fit() -> None:
    labelled = dataset()
    unlabelled = ImageDataset.from_arrays(np.zeros((4, 16, 16), dtype=np.uint8))
    with pytest.raises(DataError, match="learns from real images with labels, got 4 images without labels"):
        train_classifier_extractor(unlabelled, labelled, class_names=["dark", "bright"])
    with pytest.raises(ConfigError, match="at least 2 classes, got 1"):
        train_classifier_extractor(labelled, labelled, class_names=["dark"], device="cpu")
    findings = dataset(findings=True)
    with pytest.raises(DataError, match=r"learns 2 findings from float32 labels of shape \(N, 2\)"):
        train_classifier_extractor(findings, findings, class_names=["dark", "bright"], device="cpu")


def test_it_is_listed_and_says_how_it_is_made() -> None:
    assert "classifier" in extractor_names()
    with pytest.raises(
        ConfigError, match=r"real training data.*medgan metrics --extractor classifier.*train_classifier"
    ):
        get_extractor("classifier")
