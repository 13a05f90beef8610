from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize(("trained_on", "bits"), [((0, 255), 8), ((0, 65535), 16), ((0, 4095), 16), ((0.0, 1.0), 16)])
def test_pools_have_the_bits_of_the_training_images(
    real: ImageDataset, tmp_path: Path, trained_on: tuple[float, float], bits: int
) -> None:
    """Whatever the real images beside them have; and a pool of fewer bits is not taken for one of more."""
    model = ACGAN(real.spec, preset="tiny")
    store = PoolStore(tmp_path, 1.0, "cpu")
    model.provenance = {"intensity_range": [0, 255]}
    store.open(model, real, COUNTS, first_seed=7)
    model.provenance = {"intensity_range": list(trained_on)}
    pool = store.open(model, real, COUNTS, first_seed=7)
    labels = torch.from_numpy(np.repeat([0, 1], COUNTS))
    exact = torch.cat([batch.images for batch in model.sample_batches(range(7, 15), labels=labels)])
    error = float((pool.images_at(np.arange(8)) - exact).abs().max())
    step = 2 / (2**bits - 1)
    assert step / 20 < error < step / 2 * 1.05
    assert pool.intensity_range == (0, 2**bits - 1)


def test_a_model_that_does_not_say_its_bits_gets_those_of_the_real_images(gan: ACGAN, tmp_path: Path) -> None:
    images = np.zeros((2, 32, 32), np.uint16)
    real = ImageDataset.from_arrays(images, [0, 1], names=["NORMAL", "PNEUMONIA"], data_range=(0, 65535))
    assert not gan.provenance
    assert PoolStore(tmp_path, 1.0, "cpu").open(gan, real, COUNTS, first_seed=7).intensity_range == (0, 65535)


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
