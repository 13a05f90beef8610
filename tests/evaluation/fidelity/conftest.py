"""Small data sets of textures, of which features see what is changed, and an extractor that counts its calls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.data import ImageDataset
from medgan.metrics.extractors import Extractor, InputSpec

MakeImages = Callable[..., ImageDataset]


class Moments(Extractor):
    """Eight features that are quick to compute: means of the quarters, and their deviations."""

    name = "moments"
    sha256 = "0" * 64
    dim = 8
    input = InputSpec(1)

    def __init__(self) -> None:
        self.images = 0

    def extract(self, images: Tensor) -> Tensor:
        self.images += len(images)
        height, width = images.shape[2] // 2, images.shape[3] // 2
        quarters = [
            images[:, 0, :height, :width],
            images[:, 0, height:, :width],
            images[:, 0, :height, width:],
            images[:, 0, height:, width:],
        ]
        found = [each.flatten(1) for each in quarters]
        return torch.stack([*(each.mean(1) for each in found), *(each.std(1) for each in found)], 1)


@pytest.fixture
def moments() -> Moments:
    return Moments()


def pixels(count: int, seed: int, *, size: int = 24, shift: float = 0.0, per_patient: int = 1) -> NDArray[np.uint8]:
    """Return smooth random images, ``(count, size, size)``; those of a patient resemble each other."""
    rng = np.random.default_rng(seed)
    patients = rng.normal(128 + shift, 25, (-(-count // per_patient), 4, 4)).repeat(per_patient, 0)[:count]
    coarse = patients + rng.normal(0, 12, (count, 4, 4))
    images = np.kron(coarse, np.ones((1, size // 4, size // 4))) + rng.normal(0, 6, (count, size, size))
    found: NDArray[np.uint8] = images.clip(0, 255).round().astype(np.uint8)
    return found


@pytest.fixture
def make_textures() -> MakeImages:
    """Return a function that makes data sets of `pixels`, two images a patient, of two classes."""

    def make(
        count: int = 80,
        seed: int = 0,
        *,
        shift: float = 0.0,
        labelled: bool = True,
        patients: bool = True,
        size: int = 24,
        name: str = "textures",
    ) -> ImageDataset:
        labels = np.arange(count) // 2 % 2 if labelled else None
        return ImageDataset.from_arrays(
            pixels(count, seed, shift=shift, size=size, per_patient=2 if patients else 1),
            labels,
            names=["NORMAL", "PNEUMONIA"] if labelled else None,
            patient_ids=[f"{seed}-{number // 2}" for number in range(count)] if patients else None,
            name=name,
        )

    return make
