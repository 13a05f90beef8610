"""Small data sets whose classes a classifier learns at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medgan.data import ImageDataset

MakeImages = Callable[..., ImageDataset]


@pytest.fixture(scope="session")
def make_images() -> MakeImages:
    """Return a function that makes grey 16 × 16 images, two of a patient; class 1 is brighter in the middle."""

    def make(count: int = 60, *, seed: int = 0, classes: int = 2, name: str = "scans") -> ImageDataset:
        rng = np.random.default_rng(seed)
        labels = np.arange(count) // 2 % classes  # a patient's images are of one class
        images = rng.integers(0, 120, size=(count, 16, 16)).astype(np.uint8)
        images[:, 4:12, 4:12] += (labels * (130 // max(1, classes - 1))).astype(np.uint8)[:, None, None]
        patients = [f"{name}-{number // 2}" for number in range(count)]
        names = ["NORMAL", "PNEUMONIA", "COVID"][:classes]
        return ImageDataset.from_arrays(images, labels, names=names, patient_ids=patients, name=name)

    return make


@pytest.fixture(scope="session")
def parts(make_images: MakeImages) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    """Training, validation and test images of one data set."""
    whole = make_images(120)
    return whole.subset(range(60)), whole.subset(range(60, 88)), whole.subset(range(88, 120))
