"""Images made on the spot, for the tests of the data sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan.data import ImageDataset

MakeFolder = Callable[..., Path]


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Return a function that makes a smooth grey image, another for each seed."""

    def make(seed: int = 0, height: int = 20, width: int = 24) -> np.ndarray:
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[0:height, 0:width]
        waves = np.sin(rows * rng.uniform(0.1, 0.4)) + np.cos(columns * rng.uniform(0.1, 0.4))
        return np.rint((waves + 2) / 4 * 240 + rng.integers(0, 15)).clip(0, 255).astype(np.uint8)

    return make


@pytest.fixture
def make_folder(tmp_path: Path, picture: Callable[..., np.ndarray]) -> MakeFolder:
    """Return a function that makes class folders of grey PNG files with patient numbers."""

    def make(name: str = "scans", **classes: int) -> Path:
        root = tmp_path / name
        number = 0
        for label, count in (classes or {"NORMAL": 6, "PNEUMONIA": 9}).items():
            (root / label).mkdir(parents=True)
            for position in range(count):
                Image.fromarray(picture(number)).save(root / label / f"patient{number // 2}_{position}.png")
                number += 1
        return root

    return make


@pytest.fixture
def numbered() -> Callable[..., ImageDataset]:
    """Return a function that makes a data set whose image number i has the value i in its first two pixels."""

    def make(*counts: int, **options: object) -> ImageDataset:
        total = sum(counts)
        images = np.zeros((total, 4, 4), dtype=np.uint16)
        images[:, 0, 0] = np.arange(total)
        labels = np.repeat(np.arange(len(counts)), counts)
        return ImageDataset.from_arrays(images, labels, data_range=(0, 65535), **options)

    return make
