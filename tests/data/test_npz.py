"""MedMNIST-style files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgan.core import LabelSpec
from medgan.data import open_dataset
from medgan.errors import DataError


def _write(path: Path, count: int = 12, shape: tuple[int, ...] = (28, 28), labels: np.ndarray | None = None) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, n in (("train", count), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    if labels is not None:
        arrays["train_labels"] = labels
    np.savez(path, **arrays)
    return path


def test_medmnist_classes_have_their_names(tmp_path: Path) -> None:
    path = _write(tmp_path / "pneumoniamnist.npz")
    dataset = open_dataset(path, size=28, cache_dir=tmp_path)
    assert dataset.name == "pneumoniamnist"
    assert dataset.class_counts() == {"normal": 6, "pneumonia": 6}
    with np.load(path) as arrays:
        pixels = (dataset.images_at(range(12))[:, 0].numpy() + 1) * 127.5
        np.testing.assert_allclose(pixels, arrays["train_images"], atol=1e-4)
        np.testing.assert_array_equal(dataset.labels, arrays["train_labels"][:, 0])


def test_larger_versions_and_other_names(tmp_path: Path) -> None:
    breast = open_dataset(_write(tmp_path / "breastmnist_64.npz", shape=(64, 64)), size=32, cache_dir=tmp_path)
    assert breast.spec.labels.names == ("malignant", "normal, benign")
    assert breast.spec.size == (32, 32)
    other = open_dataset(_write(tmp_path / "mine.npz"), size=28, cache_dir=tmp_path)
    assert other.spec.labels.names == ("class 0", "class 1")
    grades = open_dataset(
        _write(tmp_path / "retinamnist.npz", labels=(np.arange(12) % 5)[:, None]), size=28, cache_dir=tmp_path
    )
    assert grades.spec.labels.kind == "ordinal"


def test_other_splits(tmp_path: Path) -> None:
    path = _write(tmp_path / "pneumoniamnist.npz")
    assert len(open_dataset(f"{path}#val", cache_dir=tmp_path)) == 4
    assert len(open_dataset(f"{path}#test", cache_dir=tmp_path)) == 6
    with pytest.raises(DataError, match="Did you mean 'val'"):
        open_dataset(f"{path}#vall", cache_dir=tmp_path)


def test_colour(tmp_path: Path) -> None:
    dataset = open_dataset(_write(tmp_path / "x.npz", shape=(28, 28, 3)), size=28, cache_dir=tmp_path)
    assert dataset.spec.channels == 3
    grey = open_dataset(tmp_path / "x.npz", size=28, channels=1, cache_dir=tmp_path)
    assert grey.spec.channels == 1


def test_several_findings_an_image(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (12, 14))
    path = _write(tmp_path / "chestmnist.npz", labels=labels)
    for _ in range(2):  # the second time from the store
        dataset = open_dataset(path, size=28, cache_dir=tmp_path)
        assert dataset.spec.labels.kind == "multilabel"
        assert dataset.spec.labels.names[:2] == ("atelectasis", "cardiomegaly")
        assert dataset.labels.dtype == np.float32
        np.testing.assert_array_equal(dataset.labels, labels)
        assert next(dataset.batches(5)).labels.shape == (5, 14)
        assert dataset.class_counts()["hernia"] == labels[:, 13].sum()
    with pytest.raises(DataError, match="class_sampling"):
        dataset.batches(4, class_sampling="uniform")


def test_some_of_the_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (12, 14))
    path = _write(tmp_path / "chestmnist.npz", labels=labels)
    two = open_dataset(path, size=28, labels=["hernia", "mass"], cache_dir=tmp_path)
    assert two.spec.labels == LabelSpec(("hernia", "mass"), "multilabel")
    np.testing.assert_array_equal(two.labels, labels[:, [13, 4]])
    one = open_dataset(path, size=28, labels=["pneumonia"], cache_dir=tmp_path)
    assert one.spec.labels == LabelSpec(("no pneumonia", "pneumonia"))
    np.testing.assert_array_equal(one.labels, labels[:, 6])
    with pytest.raises(DataError, match=r"no label of .*chestmnist.npz called 'pneumona'. Did you mean 'pneumonia'"):
        open_dataset(path, size=28, labels=["pneumona"], cache_dir=tmp_path)


def test_some_of_the_classes(tmp_path: Path) -> None:
    path = _write(tmp_path / "mine.npz", labels=(np.arange(12) % 3)[:, None])
    whole = open_dataset(path, size=28, cache_dir=tmp_path)
    some = open_dataset(path, size=28, labels=["class 2", "class 0"], cache_dir=tmp_path)
    assert some.class_counts() == {"class 2": 4, "class 0": 4}
    rows = [row for row in range(12) if row % 3 != 1]
    assert some.index["file"].tolist() == [f"train/{row:06d}" for row in rows]
    assert some.images_at(range(8)).equal(whole.images_at(rows))
    graded = open_dataset(path, size=28, label_kind="ordinal", cache_dir=tmp_path)
    assert graded.spec.labels == LabelSpec(("class 0", "class 1", "class 2"), "ordinal")


def test_labels_that_are_not_known(tmp_path: Path) -> None:
    labels = np.array([[1, 0], [0, np.nan], [1, 1]] * 4)
    path = _write(tmp_path / "mine.npz", labels=labels)
    options = {"size": 28, "cache_dir": tmp_path}
    np.testing.assert_array_equal(open_dataset(path, **options).labels, labels)
    assert open_dataset(path, missing="drop", **options).labels.shape == (8, 2)
    assert open_dataset(path, missing="negative", **options).class_counts() == {"finding 0": 8, "finding 1": 4}
    with pytest.raises(DataError, match=r"4 of 12 images are missing \(finding 1: 4\).*Type --missing drop\|negative"):
        open_dataset(path, labels=["finding 1"], **options)
    one = open_dataset(path, labels=["finding 1"], missing="drop", **options)
    assert one.class_counts() == {"no finding 1": 4, "finding 1": 4}


def test_labels_of_a_kind(tmp_path: Path) -> None:
    path = _write(tmp_path / "mine.npz", labels=np.linspace(-1, 1, 12)[:, None])
    with pytest.raises(DataError, match=r"train_labels holds -1\. Expected class indices"):
        open_dataset(path, cache_dir=tmp_path)
    with np.load(path) as arrays:
        changed = dict(arrays)
    np.savez(path, **changed, label_kind="continuous")
    dataset = open_dataset(path, size=28, cache_dir=tmp_path)
    assert dataset.spec.labels == LabelSpec(("quantity 0",), "continuous")
    np.testing.assert_allclose(dataset.labels, np.linspace(-1, 1, 12)[:, None], rtol=1e-6)
    np.savez(path, **changed, label_kind="multilabel")
    with pytest.raises(DataError, match=r"train_labels holds -1\. Expected 0 and 1, or NaN"):
        open_dataset(path, cache_dir=tmp_path)
    np.savez(path, **changed, label_kind="continous")
    with pytest.raises(DataError, match=r"label_kind is 'continous'\. Did you mean 'continuous'"):
        open_dataset(path, cache_dir=tmp_path)


def test_a_bad_image_is_quarantined_with_its_label(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.npz")
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["train_images"][3] = 9
    np.savez(path, **changed)
    dataset = open_dataset(path, size=28, max_bad=0.1, cache_dir=tmp_path)
    assert dataset.quarantine["file"].tolist() == ["train/000003"]
    np.testing.assert_array_equal(dataset.labels, np.delete(np.arange(12) % 2, 3))


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        open_dataset(tmp_path / "absent.npz", cache_dir=tmp_path)
    (tmp_path / "text.npz").write_text("not a file of arrays")
    with pytest.raises(DataError, match="cannot be read as a"):
        open_dataset(tmp_path / "text.npz", cache_dir=tmp_path)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"No images found in the dataset\..*arrays are x.*train_images"):
        open_dataset(tmp_path / "other.npz", cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"holds volumes of the shape .*Type --depth 28 --size 28"):
        open_dataset(_write(tmp_path / "volumes.npz", shape=(28, 28, 28)), cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"holds pictures of the shape .*Leave out --depth"):
        open_dataset(_write(tmp_path / "pictures.npz"), size=(16, 16, 16), cache_dir=tmp_path)
    np.save(tmp_path / "plain.npy", np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "plain.npy").rename(tmp_path / "plain.npz")
    with pytest.raises(DataError, match="cannot be read as a"):
        open_dataset(tmp_path / "plain.npz", cache_dir=tmp_path)
    with pytest.raises(DataError, match="labels go up to 1,000,000 for 12 images"):
        open_dataset(_write(tmp_path / "gap.npz", labels=np.full((12, 1), 10**6)), cache_dir=tmp_path)
    with pytest.raises(DataError, match="Expected class indices"):
        open_dataset(_write(tmp_path / "short.npz", labels=np.zeros((3, 1), np.uint8)), cache_dir=tmp_path)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        open_dataset(tmp_path / "evil.npz", cache_dir=tmp_path)


def test_volumes(tmp_path: Path) -> None:
    path = _write(tmp_path / "nodulemnist3d.npz", shape=(28, 28, 28))
    dataset = open_dataset(path, size=(28, 28, 28), cache_dir=tmp_path)
    with np.load(path) as arrays:
        expected = arrays["train_images"]
    np.testing.assert_allclose(dataset.images_at([3]).numpy()[0, 0], expected[3] / 127.5 - 1, atol=1e-6)
    assert dataset.spec.labels is not None
    assert dataset.spec.labels.names == ("benign", "malignant")
    assert dataset.licence == "CC BY 4.0"
    assert next(dataset.batches(4)).images.shape == (4, 1, 28, 28, 28)
    small = open_dataset(path, size=(14, 16, 20), layout="medmnist", cache_dir=tmp_path)
    assert small.images_at([0]).shape == (1, 1, 14, 16, 20)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="There is no file"):
        open_dataset(tmp_path / "folder", layout="medmnist")
