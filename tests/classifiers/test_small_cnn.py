from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medgan.classifiers import make_classifier, predict, train_classifier
from medgan.data import open_dataset

REAL = Path(__file__).parents[3] / "shared" / "data" / "chest_xray" / "train"


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (64, 64), (16, 16, 16)])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_shapes_and_gradients(size: tuple[int, ...], num_classes: int) -> None:
    classifier = make_classifier("small-cnn", channels=1, size=size, num_classes=num_classes)
    images = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert classifier.features(images).shape == (3, 96)
    logits = classifier(images)
    assert logits.shape == (3, 1 if num_classes == 2 else 4)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in classifier.parameters())


def test_size() -> None:
    for size, low, high in (((64, 64), 0.3e6, 0.4e6), ((32, 32, 32), 0.9e6, 1.1e6)):
        classifier = make_classifier("small-cnn", channels=1, size=size, num_classes=2)
        assert low < sum(parameter.numel() for parameter in classifier.parameters()) < high


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the chest X-rays of Kermany et al. in {REAL}")
def test_it_learns_pneumonia_on_real_chest_x_rays() -> None:
    dataset = open_dataset(REAL, size=64, patient_regex="kermany")
    training, validation = dataset.split(0.15, by="patient")
    classifier = make_classifier("small-cnn", channels=1, size=(64, 64), num_classes=2)
    train_classifier(
        classifier, training.batches(64), steps=150, validation=validation, evaluate_every=50, device="cpu"
    )
    found = predict(classifier, validation, device="cpu")
    assert validation.labels is not None
    assert roc_auc_score(validation.labels, found[:, 1]) > 0.97
    assert np.mean(found.argmax(1) == validation.labels) > 0.93
