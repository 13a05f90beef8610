"""Small patients of smooth random structure, an extractor that is quick, and generators that copy them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from medgan.data import ImageDataset
from medgan.metrics.extractors import Extractor, InputSpec

Pixels = NDArray[np.uint8]
SIDE = 24


def draw(count: int, seed: int) -> Pixels:
    """Return new images ``(count, 24, 24)``: broad brightness that all share, structure of their own, noise."""
    rng = np.random.default_rng(seed)
    broad = gaussian_filter(np.random.default_rng(99).normal(size=(SIDE, SIDE)), 5)
    own = gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, 1.5, 1.5))
    images = 128 + 35 * broad / broad.std() + 28 * own / own.std() + rng.normal(0, 4, (count, SIDE, SIDE))
    return images.clip(0, 255).round().astype(np.uint8)


def copy(images: Pixels, how: str, seed: int = 0) -> Pixels:
    """Return copies of images, changed a little."""
    found = images.astype(np.float64)
    if how == "shifted":
        found = np.roll(found, (1, -2), (1, 2))
    elif how == "noisy":
        found += np.random.default_rng(seed).normal(0, 8, found.shape)
    elif how == "mirrored":
        found = found[..., ::-1]
    elif how == "cropped":
        found = zoom(found[:, 1:-1, 1:-1], (1, SIDE / (SIDE - 2), SIDE / (SIDE - 2)), order=1)
    elif how == "brighter":
        found = 0.8 * found + 30
    return found.clip(0, 255).round().astype(np.uint8)


def images_of(pixels: Pixels, name: str, *, per_patient: int = 1, **columns: Any) -> ImageDataset:
    """Return a data set of some patients, of two classes."""
    found = ImageDataset.from_arrays(
        pixels,
        np.arange(len(pixels)) % 2,
        names=["NORMAL", "PNEUMONIA"],
        patient_ids=[f"{name}-{number // per_patient}" for number in range(len(pixels))],
        name=name,
    )
    return replace(found, index=found.index.assign(**columns))


class Small(Extractor):
    """The image itself, small."""

    name = "small"
    sha256 = "1" * 64
    dim = 64
    input = InputSpec(1)

    def extract(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 8).flatten(1)


@pytest.fixture(scope="session")
def small() -> Small:
    return Small()


@pytest.fixture(scope="session")
def real() -> tuple[ImageDataset, ImageDataset]:
    """Training images of 200 patients, two each, and of 120 held-out patients; `sex` is a column of the first."""
    sex = np.where(np.arange(400) // 2 % 2, "F", "M")
    return images_of(draw(400, 1), "train", per_patient=2, sex=sex), images_of(draw(120, 2), "held-out")


@pytest.fixture(scope="session")
def make_synthetic(real: tuple[ImageDataset, ImageDataset]) -> Callable[..., ImageDataset]:
    """Return a function that makes 300 images, some of them copies of training images."""
    training = draw(400, 1)

    def make(share: float = 0.0, how: str = "noisy", *, only: slice = slice(None), count: int = 300) -> ImageDataset:
        pixels = draw(count, 3)
        number = round(share * count)
        sources = np.random.default_rng(4).permutation(np.arange(400)[only])[:number]
        pixels[:number] = copy(training[sources], how)
        return images_of(pixels, "synthetic")

    return make


@pytest.fixture(scope="session", name="draw")
def _draw() -> Callable[[int, int], Pixels]:
    return draw


@pytest.fixture(scope="session", name="copy")
def _copy() -> Callable[..., Pixels]:
    return copy
