from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medgan.core import GAN, DataSpec, Discriminator, DiscriminatorOutput, LabelSpec
from medgan.data import ImageDataset, open_dataset
from medgan.discriminator_features import DiscriminatorFeatures, check_output, extract_discriminator_features
from medgan.errors import ConfigError, DataError
from medgan.models import ACGAN


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return open_dataset("phantom://chest?n=35&seed=3", size=32)


def discriminator_of(data: DataSpec, **options: object) -> Discriminator:
    network = ACGAN(data, preset="tiny", **options).make_trainer(device="cpu").discriminator
    return network.eval()


@pytest.mark.parametrize("options", [{"minibatch_std": 4}, {"minibatch_std": 0}], ids=str)
def test_features_are_those_of_each_image_alone(dataset: ImageDataset, options: dict[str, int]) -> None:
    network = discriminator_of(dataset.spec, **options)
    found = extract_discriminator_features(network, dataset, data=dataset.spec, device="cpu")
    with torch.no_grad():
        rows = [network(dataset.images_at([row])).features for row in range(len(dataset))]
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, torch.cat(rows).numpy(), rtol=1e-4, atol=1e-5)
    chosen = [34, 2, 7]
    some = extract_discriminator_features(network, dataset.subset(chosen), data=dataset.spec, device="cpu")
    np.testing.assert_allclose(some.values, found.values[chosen], rtol=1e-4, atol=1e-5)


def test_a_discriminator_that_compares_images_gets_them_one_by_one(dataset: ImageDataset) -> None:
    class Comparing(Discriminator):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> DiscriminatorOutput:
            features = images.mean((2, 3)) + self.scale * images.mean()
            return DiscriminatorOutput(features[:, 0], None, features)

    found = extract_discriminator_features(Comparing(), dataset, data=dataset.spec, device="cpu")
    expected = 2 * dataset.images_at(range(len(dataset))).mean((2, 3)).numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)


def test_what_is_known_of_each_image(dataset: ImageDataset) -> None:
    network = discriminator_of(dataset.spec)
    first = str(dataset.index["file"].iloc[0])
    found = extract_discriminator_features(
        network, dataset, data=dataset.spec, parts={first: "train", "another": "test"}, device="cpu"
    )
    assert found.names.tolist() == dataset.index["file"].tolist()
    assert found.patients.tolist() == dataset.index["patient_id"].tolist()
    assert found.parts.tolist() == ["train"] + [""] * 34
    frame = found.to_frame()
    assert frame["label"].tolist() == dataset.index["label"].tolist()
    features = frame.filter(like="feature_")
    assert list(features.columns[:2]) == ["feature_000", "feature_001"]
    np.testing.assert_array_equal(features.to_numpy(), found.values)


def test_the_network_is_left_as_it_was(dataset: ImageDataset) -> None:
    network = discriminator_of(dataset.spec).train()
    network.get_submodule("blocks.0").eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    extract_discriminator_features(network, dataset, data=dataset.spec, device="cpu")
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_files_hold_the_same(dataset: ImageDataset, tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    found = extract_discriminator_features(discriminator_of(dataset.spec), dataset, data=dataset.spec, device="cpu")
    path = tmp_path / f"features{suffix}"
    found.write(path)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            assert set(file) == {"features", "images", "patients", "parts", "labels", "label_names"}
            np.testing.assert_array_equal(file["features"], found.values)
            assert file["label_names"][file["labels"]].tolist() == dataset.index["label"].tolist()
            assert file["patients"].tolist() == dataset.index["patient_id"].tolist()
    else:
        frame = pd.read_csv(path, keep_default_na=False) if suffix == ".csv" else pd.read_parquet(path)
        np.testing.assert_allclose(frame.filter(like="feature_").to_numpy(), found.values, rtol=1e-6)
        assert frame["image"].tolist() == dataset.index["file"].tolist()
    with pytest.raises(ConfigError, match="exists already"):
        found.write(path)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_names_that_are_not_utf8_are_kept(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    names, nobody = np.array([os.fsdecode(b"Gr\xf6\xdfe.png"), "größer.png"]), np.array(["", ""])
    values = np.zeros((2, 3), np.float32)
    found = DiscriminatorFeatures(values, names, nobody, np.array([1, 0]), LabelSpec(("ill", names[0])), nobody)
    path = tmp_path / f"features{suffix}"
    found.write(path)
    if suffix == ".npz":
        with np.load(path) as file:
            assert file["images"].tolist() == names.tolist()
    elif suffix == ".csv":
        rows = path.read_bytes().splitlines()
        assert rows[1].startswith(b"Gr\xf6\xdfe.png,,,Gr\xf6\xdfe.png,0")
        assert rows[2].decode().startswith("größer.png,,,ill,0")
    else:
        assert pd.read_parquet(path)["image"].tolist() == ["Gr\\xf6\\xdfe.png", "größer.png"]


def test_findings_and_images_without_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    findings = np.array([[0, 1], [1, 1], [0, 0]])
    several = ImageDataset.from_arrays(pixels, findings, names=["edema", "mass"])
    found = extract_discriminator_features(
        discriminator_of(DataSpec(1, (32, 32))), several, data=DataSpec(1, (32, 32)), device="cpu"
    )
    np.testing.assert_array_equal(found.to_frame()[["label:edema", "label:mass"]].to_numpy(), findings)
    none = ImageDataset.from_arrays(pixels)
    found = extract_discriminator_features(discriminator_of(none.spec), none, data=none.spec, device="cpu")
    found.write(tmp_path / "none.npz")
    with np.load(tmp_path / "none.npz") as file:
        assert set(file) == {"features", "images", "patients", "parts"}


def test_what_cannot_be(dataset: ImageDataset, tmp_path: Path) -> None:
    for data in (DataSpec(1, (64, 64)), DataSpec(3, (32, 32))):
        network = discriminator_of(data)
        with pytest.raises(DataError, match=r"looks at . channel\(s\) of .*Open the images with that size"):
            extract_discriminator_features(network, dataset, data=data, device="cpu")

    class Mute(Discriminator):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> DiscriminatorOutput:
            return DiscriminatorOutput(images.mean((1, 2, 3)))

    with pytest.raises(ConfigError, match="gives no features"):
        extract_discriminator_features(Mute(), dataset, data=dataset.spec, device="cpu")
    with pytest.raises(DataError, match="has no image"):
        extract_discriminator_features(Mute(), dataset.subset([]), data=dataset.spec, device="cpu")


def test_parquet_needs_pyarrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="need pyarrow"):
        check_output(tmp_path / "features.parquet")
    assert check_output(tmp_path / "features.csv") == ".csv"


def test_pairs_are_given_with_their_sources(plain_pairs: type[GAN]) -> None:
    pairs = open_dataset("phantom://chest-lowdose?n=10", size=32)
    network = plain_pairs(pairs.spec).make_trainer(device="cpu").discriminator.eval()
    found = extract_discriminator_features(network, pairs, data=pairs.spec, device="cpu")
    with torch.no_grad():
        expected = network(*pairs.batch_at(range(10))).features.numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-4)
    alone = open_dataset("phantom://chest?n=10", size=32)
    with pytest.raises(DataError, match=r"has none\. Give pairs"):
        extract_discriminator_features(network, alone, data=pairs.spec, device="cpu")
    plain = discriminator_of(alone.spec)
    assert len(extract_discriminator_features(plain, pairs, data=alone.spec, device="cpu").values) == 10
