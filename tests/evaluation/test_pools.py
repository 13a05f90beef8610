from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medgan.core.spec import LabelSpec
from medgan.data import ImageDataset, open_dataset
from medgan.evaluation.pools import PoolStore
from medgan.evaluation.run_store import StudyWarning
from medgan.models import ACGAN

COUNTS = np.array([3, 5])


@pytest.fixture(scope="module")
def real() -> ImageDataset:
    return open_dataset("phantom://chest?n=8", size=32)


@pytest.fixture(scope="module")
def gan(real: ImageDataset) -> ACGAN:
    return ACGAN(real.spec, preset="tiny")


def test_images_are_sampled_once(gan: ACGAN, real: ImageDataset, tmp_path: Path) -> None:
    store = PoolStore(tmp_path, 1.0, "cpu")
    first = store.open(gan, real, COUNTS, first_seed=7)
    (file,) = tmp_path.glob("*/images.npy")
    before = file.stat().st_mtime_ns
    again = store.open(gan, real, COUNTS, first_seed=7)
    assert file.stat().st_mtime_ns == before
    assert again.fingerprint == first.fingerprint
    assert list(first.class_counts().values()) == [3, 5]
    assert store.open(gan, real, COUNTS, first_seed=8).fingerprint != first.fingerprint


@pytest.mark.parametrize("labels", [LabelSpec(("PNEUMONIA",)), LabelSpec(("mild", "severe"), "ordinal")])
def test_pools_have_the_labels_of_the_model(gan: ACGAN, tmp_path: Path, labels: LabelSpec) -> None:
    """Also of a single class, which is no finding, and of grades."""
    images = np.zeros((len(labels), 32, 32), np.uint8)
    real = ImageDataset.from_arrays(images, np.arange(len(labels)), names=labels.names)
    counts = np.full(len(labels), 4)
    model = ACGAN(replace(gan.data, labels=labels), preset="tiny")
    pool = PoolStore(tmp_path, 1.0, "cpu").open(model, real, counts, first_seed=7)
    assert pool.labels is not None
    assert pool.labels.tolist() == np.repeat(np.arange(len(labels)), 4).tolist()
    assert pool.spec.labels == labels


def cut(place: Path) -> None:
    (place / "images.npy").write_bytes((place / "images.npy").read_bytes()[:-9])


def change(place: Path) -> None:
    content = bytearray((place / "images.npy").read_bytes())
    content[-1] ^= 255
    (place / "images.npy").write_bytes(content)


def lose_labels(place: Path) -> None:
    (place / "labels.npy").unlink()


def spoil_facts(place: Path) -> None:
    (place / "pool.json").write_text("[1", encoding="utf-8")


@pytest.mark.parametrize("damage", [cut, change, lose_labels, spoil_facts])
def test_a_damaged_pool_is_set_aside_and_sampled_again(
    gan: ACGAN, real: ImageDataset, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store = PoolStore(tmp_path, 1.0, "cpu")
    expected = store.open(gan, real, COUNTS, first_seed=7)
    fingerprint = expected.fingerprint
    del expected  # the file is mapped
    (place,) = tmp_path.iterdir()
    damage(place)
    with pytest.warns(StudyWarning, match="damaged.*sampled again"):
        found = store.open(gan, real, COUNTS, first_seed=7)
    assert found.fingerprint == fingerprint
    assert len(list(tmp_path.glob("*.damaged-*/pool.json"))) == 1
    store.open(gan, real, COUNTS, first_seed=7)  # without a warning
