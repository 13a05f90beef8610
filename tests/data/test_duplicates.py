"""Images that are there twice."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medgan.data import ImageDataset
from medgan.data.duplicates import duplicate_report, find_duplicates, perceptual_hashes
from medgan.errors import DataError


def _pictures(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth pictures of a common anatomy, each a little different; uint8 (count, size, size)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / size
    common = np.sin(7 * rows) + np.cos(9 * columns)
    phases = rng.uniform(0, 6, (count, 2, 6, 1, 1))
    waves = np.arange(2, 8)[:, None, None]
    own = (np.sin(waves * 3 * rows + phases[:, 0]) * np.sin(waves * 3 * columns + phases[:, 1])).sum(axis=1)
    return np.rint(110 + 35 * common + 16 * own).clip(0, 255).astype(np.uint8)


def _saved_anew(picture: np.ndarray, quality: int = 50) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("L"))


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    bits = [np.unpackbits(perceptual_hashes(images[..., None]).view(np.uint8), axis=1) for images in (first, second)]
    return (bits[0] != bits[1]).sum(axis=1)


# ------------------------------------------------------------------------------------------- hashes


def test_a_bit_says_that_it_gets_brighter_to_the_right() -> None:
    brighter = np.tile(np.arange(34, dtype=np.uint8), (2, 32, 1))[..., None]
    brighter[1] = brighter[1, :, ::-1]
    brighter[1, :2, 2:4] = 200  # a bright field in the upper row
    hashes = perceptual_hashes(brighter)
    assert hashes.shape == (2, 4)
    assert hashes.dtype == np.uint64
    assert hashes[0].tolist() == [2**64 - 1] * 4
    assert hashes[1].tolist() == [2**63, 0, 0, 0]


def test_copies_are_near_and_others_far() -> None:
    pictures = _pictures(40)
    copies = np.stack([_saved_anew(picture) for picture in pictures])
    assert (copies != pictures).any(axis=(1, 2)).all()
    assert _distances(pictures, copies).max() <= 24
    assert _distances(pictures, np.roll(pictures, 1, axis=0)).min() > 24


def test_size_depth_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = _pictures(20)
    hashes = perceptual_hashes(pictures[..., None])
    larger = np.repeat(np.repeat(pictures.astype(np.uint16) * 257, 3, axis=1), 2, axis=2)
    np.testing.assert_array_equal(perceptual_hashes(np.stack([larger] * 3, axis=-1)), hashes)
    np.testing.assert_array_equal(perceptual_hashes(np.stack([pictures] * 2, axis=1)[..., None]), hashes)  # volumes
    monkeypatch.setattr("medgan.data.duplicates._BLOCK_BYTES", 4 * 64 * 64 * 3)
    np.testing.assert_array_equal(perceptual_hashes(pictures[..., None]), hashes)


def test_a_flat_background_gives_no_bits() -> None:
    for size in (9, 16, 31, 100):
        for value in (0, 17, 255):
            assert not perceptual_hashes(np.full((1, size, size + 1, 1), value, dtype=np.uint8)).any()


# -------------------------------------------------------------------------------------------- pairs


def _near_hashes(count: int, flips: int) -> np.ndarray:
    """Random hashes; every tenth is a copy of the one before with `flips` bits flipped."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (count, 256), dtype=np.uint8)
    bits[9::10] = bits[8::10]
    for row in bits[9::10]:
        row[rng.permutation(256)[:flips]] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


@pytest.mark.parametrize("flips", [0, 1, 24])
def test_all_pairs_are_found_across_tiles(flips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.data.duplicates._TILE", 70)  # no divisor of the 300, nor of ten
    pairs = find_duplicates(_near_hashes(300, flips), max_distance=24)
    assert pairs["i"].tolist() == list(range(8, 300, 10))
    assert pairs["j"].tolist() == list(range(9, 300, 10))
    assert set(pairs["distance"]) == {flips}


def test_no_pair_beyond_the_limit() -> None:
    assert find_duplicates(_near_hashes(100, 25), max_distance=24).empty
    assert len(find_duplicates(_near_hashes(100, 25), max_distance=25)) == 10
    nothing = find_duplicates(np.zeros((0, 4), dtype=np.uint64))
    assert list(nothing.columns) == ["i", "j", "distance"]
    assert nothing.empty


def test_many_copies_of_one_image_are_each_told_once() -> None:
    hashes = np.zeros((1001, 4), dtype=np.uint64)
    hashes[1000] = 1  # one bit in each of four words
    pairs = find_duplicates(hashes, exact=np.array(["same"] * 1000 + ["other"]))
    assert len(pairs) == 1000
    assert (pairs["i"] == 0).all()
    assert pairs["distance"].tolist() == [0] * 999 + [4]


def test_candidates_must_be_confirmed() -> None:
    asked = []

    def confirm(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        asked.extend(zip(i.tolist(), j.tolist(), strict=True))
        return i > 50

    pairs = find_duplicates(_near_hashes(100, 5), confirm=confirm)
    assert sorted(asked) == [(first, first + 1) for first in range(8, 100, 10)]
    assert pairs["i"].tolist() == [58, 68, 78, 88, 98]


# ------------------------------------------------------------------------------------------- report


def _dataset(images: np.ndarray, patients: list[str] | None = None, **columns: list[str]) -> ImageDataset:
    dataset = ImageDataset.from_arrays(images, patient_ids=patients)
    dataset.index[list(columns)] = pd.DataFrame(columns)
    return dataset


def test_copies_in_two_parts_come_first() -> None:
    pictures = _pictures(30)
    training = np.concatenate([pictures[:20], pictures[3:4]])
    validation = np.concatenate([pictures[20:], pictures[5:6], _saved_anew(pictures[7])[None]])
    patients = [f"p{number}" for number in range(20)] + ["p3"]
    parts = {
        "train": _dataset(training, patients),
        "validation": _dataset(validation, [""] * 10 + ["p5", "q"]),
    }
    report = duplicate_report(parts)
    names = ["file_a", "split_a", "file_b", "split_b", "identical"]
    assert list(report.columns[:6]) == ["file_a", "split_a", "file_b", "split_b", "distance", "same_patient"]
    assert report[names].to_numpy().tolist() == [
        ["000005", "train", "000010", "validation", True],
        ["000007", "train", "000011", "validation", False],
        ["000003", "train", "000020", "train", True],
    ]
    assert report["distance"].tolist()[::2] == [0, 0]
    assert 0 < report["distance"][1] <= 24
    assert report["same_patient"].tolist() == [True, False, True]
    assert report["correlation"][0] == report["correlation"][2] == 1
    assert 0.98 <= report["correlation"][1] < 1


def test_pictures_that_only_look_alike_are_no_duplicates() -> None:
    pictures = _pictures(2)
    darker_corner = pictures[:1].copy()
    darker_corner[:, 40:, 40:] //= 6
    alike = np.concatenate([pictures[:1], darker_corner])
    assert len(find_duplicates(perceptual_hashes(alike[..., None]))) == 1  # by hash alone
    assert duplicate_report({"all": _dataset(alike)}).empty


def test_unknown_patients_are_neither_the_same_nor_others() -> None:
    report = duplicate_report({"all": _dataset(np.repeat(_pictures(1), 2, axis=0), ["", "a"])})
    assert report["same_patient"].isna().tolist() == [True]


def test_images_of_one_file_are_not_compared() -> None:
    pictures = np.repeat(_pictures(2), 2, axis=0)
    parts = {"all": _dataset(pictures, file=["a.dcm", "a.dcm", "b.dcm", "c.dcm"], part=["frame 1", "frame 2", "", ""])}
    report = duplicate_report(parts)
    assert report[["file_a", "file_b"]].to_numpy().tolist() == [["b.dcm", "c.dcm"]]
    torn = {"train": parts["all"].subset([0]), "test": parts["all"].subset([1])}
    report = duplicate_report(torn)
    assert report[["file_a", "file_b"]].to_numpy().tolist() == [["a.dcm#frame 1", "a.dcm#frame 2"]]


def test_every_part_with_a_copy_is_told() -> None:
    one = np.repeat(_pictures(1), 3, axis=0)
    report = duplicate_report({"train": _dataset(one), "validation": _dataset(one[:1]), "test": _dataset(one[:1])})
    pairs = report[["split_a", "split_b"]].to_numpy().tolist()
    assert pairs == [["train", "validation"], ["train", "test"], ["validation", "test"], *[["train", "train"]] * 2]


def test_a_subset_knows_its_own_images_only() -> None:
    pictures = _pictures(10)
    dataset = _dataset(np.concatenate([pictures, pictures[::-1]]))
    report = duplicate_report({"all": dataset.subset([12, 4, 7, 1])})
    assert report[["file_a", "file_b"]].to_numpy().tolist() == [["000012", "000007"]]


def test_nothing_to_compare() -> None:
    empty = _dataset(_pictures(3)).subset([])
    for parts in ({"all": empty}, {"train": empty, "test": _dataset(_pictures(5, seed=1))}):
        report = duplicate_report(parts)
        assert report.empty
        assert "identical" in report.columns


def test_parts_of_different_sizes() -> None:
    parts = {"train": _dataset(_pictures(3)), "test": _dataset(_pictures(3, size=32))}
    with pytest.raises(DataError, match=r"train are of the size \(64, 64\), those of test of \(32, 32\)"):
        duplicate_report(parts)


def test_a_constant_image_is_like_no_other() -> None:
    images = np.concatenate([np.full((1, 64, 64), value, dtype=np.uint8) for value in (3, 4)])
    assert duplicate_report({"all": _dataset(images)}).empty
