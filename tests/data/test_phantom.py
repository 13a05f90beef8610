"""The simulated chest radiograph: anatomy where it belongs, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgan.data import open_dataset
from medgan.data.phantom import open_phantom, render_chest
from medgan.errors import DataError


def test_images_are_valid_and_differ() -> None:
    images = [render_chest([0, number], pneumonia=bool(number % 2), size=48) for number in range(8)]
    for image in images:
        assert image.shape == (48, 48)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std() > 0.1
    assert len({image.tobytes() for image in images}) == 8


def test_same_seed_same_image_and_other_exposure_other_image() -> None:
    first, again = (render_chest([3, 1], exposure=0, size=48) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, render_chest([3, 1], exposure=1, size=48))


def test_anatomy_is_where_it_belongs() -> None:
    mean = np.mean([render_chest([1, number], size=64) for number in range(24)], axis=0)
    right_lung, left_lung = mean[24:36, 14:22].mean(), mean[24:36, 43:50].mean()
    spine, heart, abdomen, corner = (
        mean[20:60, 31:33].mean(),
        mean[40:46, 34:40].mean(),
        mean[58:62, 20:44].mean(),
        mean[40:, :2].mean(),
    )
    assert corner < 0.1  # air outside is black
    assert max(right_lung, left_lung) + 0.15 < min(heart, spine, abdomen)
    assert mean[40:48, 36:44].mean() > mean[40:48, 20:28].mean() + 0.05  # the heart lies to the patient's left


def test_pneumonia_brightens_the_lungs_only() -> None:
    pairs = [[render_chest([2, n], pneumonia=sick, size=64) for sick in (False, True)] for n in range(24)]
    change = np.mean([sick - well for well, sick in pairs], axis=0)
    lungs = np.concatenate([change[24:40, 14:24].ravel(), change[24:40, 42:50].ravel()])
    assert lungs.mean() > 0.04
    assert abs(change[58:, :].mean()) < 0.02
    assert all(np.abs(sick - well).max() > 0.05 for well, sick in pairs)


@pytest.mark.parametrize("size", [32, 128])
def test_the_picture_does_not_depend_on_the_detector(size: int) -> None:
    fine, coarse = (render_chest([4, 4], size=side) for side in (2 * size, size))
    shrunk = fine.reshape(size, 2, size, 2).mean(axis=(1, 3))
    assert np.abs(shrunk - coarse).mean() < 0.03


def test_opening(tmp_path: Path) -> None:
    dataset = open_dataset("phantom://chest?n=30&seed=5", size=32, cache_dir=tmp_path)
    assert len(dataset) == 30
    assert dataset.name == "phantom-chest"
    assert dataset.licence == "Apache-2.0, procedural"
    assert dataset.spec.channels == 1
    assert dataset.spec.labels.names == ("NORMAL", "PNEUMONIA")
    assert dataset.intensity_range == (0, 255)
    patients = dataset.index.groupby("patient_id")
    assert patients["label"].nunique().max() == 1
    assert 1 < patients.size().max() <= 3
    training, validation = dataset.split(0.2)  # by patient: no warning
    assert not set(training.index["patient_id"]) & set(validation.index["patient_id"])
    other = open_dataset("phantom://chest?n=30&seed=6", size=32, cache_dir=tmp_path)
    assert other.fingerprint != dataset.fingerprint


def test_classes_are_imbalanced_like_life() -> None:
    few, _ = open_phantom("phantom://chest?n=2", (64, 64))
    assert [entry.label for entry in few.entries] == ["NORMAL", "PNEUMONIA"]
    labels = [entry.label for entry in open_phantom("phantom://chest?n=2000", (64, 64))[0].entries]
    assert len(labels) == 2000
    assert 0.35 < labels.count("NORMAL") / 2000 < 0.45


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("phantom://chst", "Did you mean 'chest'"),
        ("phantom:chest", "phantom://chest"),
        ("phantom://chest?count=3", "unknown option 'count'"),
        ("phantom://chest?n=many", "whole number"),
        ("phantom://chest?n=1", "at least 2"),
    ],
)
def test_mistakes(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(source)
