from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from medgan.core import Batch
from medgan.errors import ConfigError, DataError
from medgan.metrics.extractors import Extractor, InputSpec, ModuleExtractor
from medgan.metrics.features import (
    FeatureCacheWarning,
    Features,
    check_comparable,
    extract_features,
    standardize,
)
from medgan.metrics.resizing import Resizer

IMAGES = torch.rand(7, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Means(Extractor):
    """Means of quarters, and a count of its calls."""

    name = "means"
    sha256 = "a" * 64
    input = InputSpec(3, (4, 4), resizer="clean")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def extract(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def with_resizer(resizer: Resizer) -> Means:
    extractor = Means()
    extractor.input = dataclasses.replace(extractor.input, resizer=resizer)
    return extractor


def files(folder: Path) -> list[Path]:
    return sorted((folder / "features").iterdir())


class DataSet:
    """Items by position, and no end when it is iterated over."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, position: int) -> Batch:
        return Batch(IMAGES[position % 7][None], torch.tensor([0]))


class Again:
    """Something that can be iterated over, any number of times."""

    def __iter__(self) -> Iterator[Tensor]:
        yield from IMAGES.split(5)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.numpy(),
        list(IMAGES),
        [(image, 1) for image in IMAGES.numpy()],
        list(IMAGES.split(2)),
        DataSet(),
        Again(),
        torch.utils.data.DataLoader(list(IMAGES), batch_size=4),
    ],
    ids=["tensor", "array", "images", "tuples", "batches", "data set", "iterable", "loader"],
)
def test_images_however_they_come(images: Any, tmp_path: Path) -> None:
    extractor = Means()
    features = extract_features(images, extractor, batch_size=3, cache_dir=tmp_path)
    assert extractor.batches == [3, 3, 1]
    np.testing.assert_allclose(features.values, Means()(IMAGES), rtol=1e-6)
    assert features.values.dtype == np.float32
    # The same images have one place in the cache, however they come.
    assert extract_features(IMAGES, Means(), cache_dir=tmp_path).cached
    assert len(files(tmp_path)) == 1


def test_what_is_recorded() -> None:
    done: list[int] = []
    features = extract_features(iter(IMAGES), Means(), batch_size=4, progress=done.append)
    assert done == [4, 7]
    assert len(features) == 7
    assert (features.extractor, features.sha256, features.resizer) == ("means", "a" * 64, "clean")
    assert (features.channels, features.size, features.bits, features.device) == (1, (12, 12), "all", "cpu")
    assert features.notes == ("grey replicated to RGB",)
    assert (features.cached, features.is_fid, features.needs_standardizing) == (False, False, False)


def test_the_cache_gives_the_same_and_computes_nothing(tmp_path: Path) -> None:
    first = extract_features(IMAGES, Means(), cache_dir=tmp_path)
    idle = Means()
    second = extract_features(IMAGES.clone(), idle, batch_size=2, cache_dir=tmp_path)
    assert idle.batches == []
    assert second.cached
    np.testing.assert_array_equal(second.values, first.values)
    for field in dataclasses.fields(Features):
        if field.name not in ("values", "cached"):
            assert getattr(second, field.name) == getattr(first, field.name), field.name
    assert [path.suffix for path in files(tmp_path)] == [".safetensors"]


def test_a_fingerprint_spares_the_reading(tmp_path: Path) -> None:
    class Unreadable:
        def __iter__(self) -> Iterator[Tensor]:
            raise AssertionError("it was read")

    extract_features(IMAGES, Means(), cache_dir=tmp_path, fingerprint="these")
    assert len(extract_features(Unreadable(), Means(), cache_dir=tmp_path, fingerprint="these")) == 7
    with pytest.raises(AssertionError, match="it was read"):
        extract_features(Unreadable(), Means(), cache_dir=tmp_path, fingerprint="those")


def test_one_pixel_is_another_set(tmp_path: Path) -> None:
    first = extract_features(IMAGES, Means(), cache_dir=tmp_path)
    changed = IMAGES.clone()
    changed[3, 0, 5, 5] = torch.nextafter(changed[3, 0, 5, 5], torch.tensor(2.0))
    for images in (changed, IMAGES.flip(0), IMAGES[:6], IMAGES.reshape(7, 1, 9, 16)):
        assert not extract_features(images, Means(), cache_dir=tmp_path).cached
    assert extract_features(IMAGES, Means(), cache_dir=tmp_path).fingerprint == first.fingerprint
    assert len(files(tmp_path)) == 5


def test_another_weight_layer_or_resizer_is_another_feature(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())

    def extract(layer: str = "", spec: InputSpec | None = None) -> Features:
        extractor = ModuleExtractor(module, name="module", layer=layer, input=spec or InputSpec(1))
        return extract_features(IMAGES, extractor, cache_dir=tmp_path)

    first = extract()
    assert extract().cached
    assert not extract(layer="0").cached
    assert not extract(spec=InputSpec(1, high=2.0)).cached
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] += 1e-3
    other = extract()
    assert not other.cached
    assert not np.array_equal(other.values, first.values)
    clean = extract_features(IMAGES, with_resizer("clean"), cache_dir=tmp_path)
    sampled = extract_features(IMAGES, with_resizer("torch-fidelity"), cache_dir=tmp_path)
    assert not sampled.cached
    assert not np.allclose(sampled.values, clean.values)


def test_another_version_of_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract_features(IMAGES, Means(), cache_dir=tmp_path)
    monkeypatch.setattr("medgan.metrics.features.version", lambda name: "0.0")
    assert not extract_features(IMAGES, Means(), cache_dir=tmp_path).cached


@pytest.mark.parametrize("damage", ["empty", "cut", "value", "other"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    first = extract_features(IMAGES, Means(), cache_dir=tmp_path)
    (path,) = files(tmp_path)
    payload = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(payload[:-5])
    elif damage == "value":
        path.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    else:
        save_file({"other": np.zeros(3)}, path, metadata={"facts": json.dumps({})})
    with pytest.warns(FeatureCacheWarning, match=r"is damaged .* computed again"):
        again = extract_features(IMAGES, Means(), cache_dir=tmp_path)
    assert not again.cached
    np.testing.assert_array_equal(again.values, first.values)
    assert files(tmp_path) == [path]
    np.testing.assert_array_equal(load_file(path)["features"], first.values)
    assert extract_features(IMAGES, Means(), cache_dir=tmp_path).cached


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(FeatureCacheWarning, match="not kept in a cache"):
        features = extract_features(IMAGES, Means(), cache_dir=blocked)
    assert len(features) == 7
    assert blocked.read_text() == "in the way"


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no image"):
        extract_features([], Means())
    with pytest.raises(DataError, match="There is no image"):
        extract_features(IMAGES[:0], Means(), cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"Images of one size are expected, got \(1, 12, 12\) and \(1, 8, 12\)"):
        extract_features([IMAGES[0], IMAGES[0, :, :8]], Means())
    with pytest.raises(DataError, match=r"one size are expected, got \(1, 12, 12\) and \(3, 12, 12\)"):
        extract_features([IMAGES[:2], IMAGES[:2].expand(-1, 3, -1, -1)], Means(), batch_size=2)
    with pytest.raises(DataError, match="tensors or arrays are expected, got str"):
        extract_features(["image.png"], Means())
    with pytest.raises(ConfigError, match="batch size must be 1 or more, got 0"):
        extract_features(IMAGES, Means(), batch_size=0)
    with pytest.raises(ConfigError, match=r"only once.*fingerprint="):
        extract_features(iter(IMAGES), Means(), cache_dir=tmp_path)
    with pytest.raises(DataError, match="got values from 0 to 255"):
        extract_features(torch.tensor([0.0, 255.0]).view(1, 1, 1, 2), Means(), cache_dir=tmp_path)


def test_only_features_of_one_kind_are_compared() -> None:
    features = extract_features(IMAGES, Means())
    check_comparable(features, extract_features(IMAGES[:3, :, :8], Means()))  # resized anyway
    with pytest.raises(DataError, match="resizer is 'clean' here and 'torch-fidelity' there"):
        check_comparable(features, extract_features(IMAGES, with_resizer("torch-fidelity")))
    with pytest.raises(DataError, match="sha256 is"):
        check_comparable(features, dataclasses.replace(features, sha256="b" * 64))
    own_size = dataclasses.replace(features, resizer="none")
    with pytest.raises(DataError, match=r"size is \(12, 12\) here and \(8, 8\) there"):
        check_comparable(own_size, dataclasses.replace(own_size, size=(8, 8)))


def test_standardize() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal((3, -2, 1000), (0.1, 5, 1e-3), (50, 3)).astype(np.float32)
    np.testing.assert_allclose(standardize(reference, reference).mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(standardize(reference, reference)[:, :2].std(0), 1)
    other = np.array([[3, -2, 1000.0], [4, 3, 1000.0]])
    expected = (other - reference.mean(0, np.float64)) / reference.std(0, dtype=np.float64)
    np.testing.assert_allclose(standardize(other, reference)[:, :2], expected[:, :2])
    constant = np.full((4, 1), 0.1, np.float32)
    np.testing.assert_allclose(standardize(constant + 1, constant), 1, rtol=1e-6)
    with pytest.raises(DataError, match=r"got \(2, 3\) and \(4, 1\)"):
        standardize(other, constant)
    with pytest.raises(DataError, match="M at least 1"):
        standardize(other, other[:0])
