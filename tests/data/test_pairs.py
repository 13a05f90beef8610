"""Source images beside the images: which belongs to which, and what is made of them together."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.core import DataSpec
from medgan.data import DataWarning, ImageDataset, open_dataset
from medgan.errors import ConfigError, DataError

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Draw:
    """Return a function that saves pictures by name and seed; a source is the negative of its image."""

    def make(root: str = "data", /, **folders: dict[str, int]) -> Path:
        for folder, files in folders.items():
            for name, seed in files.items():
                path = tmp_path / root / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = picture(seed)
                Image.fromarray(255 - pixels if folder in ("source", "A") else pixels).save(path)
        return tmp_path / root

    return make


NAMES = {f"patient{number // 2}_{number}.png": number for number in range(8)}


def are_negatives(dataset: ImageDataset) -> bool:
    batch = dataset.batch_at(range(len(dataset)))
    assert batch.sources is not None
    return bool((batch.images + batch.sources).abs().max() < 0.02)


@pytest.mark.parametrize(("sources", "images"), [("source", "target"), ("A", "B")])
@pytest.mark.parametrize("layout", ["auto", "pairs"])
def test_files_of_one_name_are_a_pair(draw: Draw, sources: str, images: str, layout: str) -> None:
    other = {name.replace(".png", ".bmp"): seed for name, seed in NAMES.items()}  # the suffix does not matter
    dataset = open_dataset(draw(**{sources: other, images: NAMES}), size=16, layout=layout)
    assert dataset.spec == DataSpec(1, (16, 16), source_channels=1)
    assert len(dataset) == 8
    assert are_negatives(dataset)
    assert dataset.index["file"][0] == f"{images}/patient0_0.png"
    assert dataset.index["source_path"][0] == f"{sources}/patient0_0.bmp"
    assert dataset.provenance()["source_images"] == 8


def test_class_folders_called_a_and_b_stay_classes(draw: Draw) -> None:
    dataset = open_dataset(draw(A={"1.png": 1, "2.png": 2}, B={"3.png": 3, "4.png": 4}), size=16)
    assert dataset.sources is None
    assert dataset.class_counts() == {"A": 2, "B": 2}


def test_classes_within_pairs(draw: Draw) -> None:
    files = {f"{name}/{number}.png": number for number in range(4) for name in ("HEALTHY", "ILL")}
    dataset = open_dataset(draw(source=files, target=files), size=16)
    assert dataset.class_counts() == {"HEALTHY": 4, "ILL": 4}
    assert dataset.sources is not None
    assert dataset.sources.labels is None


def test_batches_splits_and_other_processes_keep_pairs_together(draw: Draw) -> None:
    dataset = open_dataset(draw(source=NAMES, target=NAMES), size=16, patient_regex=r"patient(\d+)")
    training, validation = dataset.split(0.3)
    assert not set(training.index["patient_id"]) & set(validation.index["patient_id"])
    for part in (training, validation, ImageDataset.join([training, validation]), pickle.loads(pickle.dumps(training))):
        assert are_negatives(part)
        assert len(part.sources or []) == len(part)
    batch = next(training.batches(3, seed=1, start_step=2))
    assert (batch.images + batch.sources).abs().max() < 0.02
    assert (dataset[3].images + dataset[3].sources).abs().max() < 0.02
    assert training.fingerprint != dataset.fingerprint == dataset.whole_fingerprint == training.whole_fingerprint


def test_side_by_side(tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    for number in range(3):
        pixels = picture(number)
        Image.fromarray(np.concatenate([255 - pixels, pixels], axis=1)).save(tmp_path / f"{number}.png")
    Image.fromarray(picture(9, width=25)).save(tmp_path / "odd.png")
    dataset = open_dataset(tmp_path, size=16, layout="side-by-side", max_bad=0.5)
    assert are_negatives(dataset)
    assert list(dataset.index["width"]) == [24] * 3
    assert "25 pixels wide has no two halves" in dataset.quarantine["error"][0]


def test_a_grey_half_beside_a_coloured_one_has_one_channel(tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    for number in range(3):
        grey, red = np.stack([picture(number)] * 3, axis=-1), np.stack([picture(5)] * 3, axis=-1)
        red[..., 1:] = 0
        Image.fromarray(np.concatenate([grey, red], axis=1)).save(tmp_path / f"{number}.png")
    spec = open_dataset(tmp_path, size=16, layout="side-by-side").spec
    assert (spec.source_channels, spec.channels) == (1, 3)


def test_unpaired_sources_are_drawn_by_themselves(draw: Draw) -> None:
    mine = {f"a{number}/x.png": number for number in range(10)}
    others = {f"b{number}/y.png": 50 + number for number in range(14)}
    root = draw(source=mine, target=others)
    dataset = open_dataset(root, size=16, layout="unpaired", patient_regex=r"([ab]\d+)")
    assert dataset.spec == DataSpec(1, (16, 16), source_channels=1, paired=False)
    assert (len(dataset), len(dataset.sources or [])) == (14, 10)
    parts = dataset.split(0.2)
    held = [set(part.sources.index["patient_id"]) for part in parts if part.sources is not None]
    assert not held[0] & held[1]
    assert len(held[0] | held[1]) == 10
    assert {part.whole_fingerprint for part in parts} == {dataset.whole_fingerprint}
    stream = parts[0].batches(4, seed=3)
    batches = [next(stream) for _ in range(12)]
    seen = {source.numpy().tobytes() for batch in batches for source in batch.sources}
    assert len(seen) == len(held[0])
    assert dataset[13].sources is not None
    again = next(parts[0].batches(4, seed=3, start_step=5))
    assert torch.equal(again.sources, batches[5].sources)


def test_a_part_without_sources_is_an_error(draw: Draw) -> None:
    root = draw(source={"a.png": 1}, target={f"{number}.png": number for number in range(9)})
    with pytest.warns(DataWarning), pytest.raises(DataError, match=r"needs some of\s+both|needs some of both"):
        open_dataset(root, size=16, layout="unpaired").split(0.3)


def test_manifest_names_sources(draw: Draw) -> None:
    root = draw(source={"x.png": 1, "y.png": 2}, target={"1.png": 1, "2.png": 2, "3.png": 1})
    rows = ["target/1.png,source/x.png,p1", "target/2.png,source/y.png,p2", "target/3.png,source/x.png,p1"]
    (root / "table.csv").write_text("\n".join(["path,source_path,patient_id", *rows]))
    dataset = open_dataset(root / "table.csv", size=16)
    assert dataset.spec.source_channels == 1
    assert are_negatives(dataset)
    assert list(dataset.index["patient_id"]) == ["p1", "p2", "p1"]


def test_manifest_with_sources_that_cannot_be_used(draw: Draw) -> None:
    root = draw(source={"x.png": 1}, target={f"{number}.png": number for number in range(5)})
    (root / "empty.png").write_bytes(b"")
    paths = ["source/x.png", "../../outside.png", "source/absent.png", "", "empty.png"]
    rows = [f"target/{number}.png,{path}" for number, path in enumerate(paths)]
    (root / "table.csv").write_text("\n".join(["path,source_path", *rows]))
    dataset = open_dataset(root / "table.csv", size=16, max_bad=1)
    assert list(dataset.index["file"]) == ["target/0.png"]
    errors = dict(zip(dataset.quarantine["file"], dataset.quarantine["error"], strict=True))
    assert "path that leaves" in errors["target/1.png"]
    assert "not found" in errors["target/2.png"]
    assert "source_path is empty" in errors["target/3.png"]
    assert "empty file" in errors["target/4.png"]


def test_what_does_not_pair_is_said(draw: Draw) -> None:
    root = draw(source={"1.png": 1, "alone.png": 4}, target={"1.png": 1, "2.png": 2})
    dataset = open_dataset(root, size=16, layout="pairs", max_bad=1)
    assert list(dataset.quarantine["error"]) == ["no source of the same name in source"]
    assert dataset.ignored == {"sources without an image": 1}
    with pytest.raises(DataError, match=r"No image of .* has the name of one of .*--layout unpaired"):
        open_dataset(draw("other", source={"1.png": 1}, target={"2.png": 2}), size=16, layout="pairs")
    with pytest.raises(DataError, match="several files called 1,"):
        open_dataset(draw("two", source={"1.png": 1, "1.bmp": 1}, target={"1.png": 2}), size=16, layout="pairs")
    with pytest.raises(DataError, match="has no folders source and target"):
        open_dataset(draw("none", x={"1.png": 1}), size=16, layout="pairs")
    with pytest.raises(ConfigError, match="Leave --crop-border out"):
        open_dataset(root, size=16, layout="pairs", crop_border=True, max_bad=1)


def test_a_source_that_is_added_later_is_found(draw: Draw, tmp_path: Path) -> None:
    root = draw(source={"1.png": 1}, target={"1.png": 1, "2.png": 2})
    options = {"size": 16, "layout": "pairs", "max_bad": None, "cache_dir": tmp_path / "cache"}
    assert len(open_dataset(root, **options)) == 1
    draw(source={"2.png": 2})
    dataset = open_dataset(root, **options)
    assert len(dataset) == 2
    assert dataset.quarantine.empty


@pytest.mark.parametrize("classes", ["", "HEALTHY/"])
def test_one_folder_may_be_opened_in_several_ways(draw: Draw, tmp_path: Path, classes: str) -> None:
    """The files are the same; what is said of them is not."""
    files = {f"{classes}{number}.png": number for number in range(4)}
    root = draw(source=files, target={**files, f"{classes}alone.png": 9})
    opened = {
        layout: open_dataset(root, size=16, layout=layout, max_bad=1, cache_dir=tmp_path / "cache")
        for layout in ("unpaired", "pairs", "folder")
    }
    assert {layout: len(dataset) for layout, dataset in opened.items()} == {"unpaired": 5, "pairs": 4, "folder": 9}
    assert are_negatives(opened["pairs"])
    assert opened["pairs"].class_counts() == ({"HEALTHY": 4} if classes else {})
    assert opened["unpaired"].class_counts() == {}
    assert opened["folder"].class_counts() == {"source": 4, "target": 5}
    again = open_dataset(root, size=16, layout="unpaired", cache_dir=tmp_path / "cache")
    assert again.fingerprint == opened["unpaired"].fingerprint


@pytest.mark.parametrize("first", ["unpaired", "folder"])
def test_classes_of_a_folder_without_classes(draw: Draw, tmp_path: Path, first: str) -> None:
    """Images whose only folder is that of their class, and the same ones without it."""
    root = draw(source={"1.png": 1, "2.png": 2}, target={"1.png": 1, "2.png": 2})
    options = {"size": 16, "cache_dir": tmp_path / "cache"}

    def open_once(layout: str) -> ImageDataset:
        return open_dataset(root, layout=layout, labels=["target"] if layout == "folder" else None, **options)

    opened = {layout: open_once(layout) for layout in (first, "unpaired", "folder")}
    assert opened["folder"].class_counts() == {"target": 2}
    assert set(opened["unpaired"].index["label"]) == {""}


def test_other_proportions_are_refused(tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    for folder, widths in (("source", (24, 24)), ("target", (48, 30))):
        (tmp_path / folder).mkdir()
        for number, width in enumerate(widths):
            height = 40 if width == 48 else 20
            Image.fromarray(picture(number, height=height, width=width)).save(tmp_path / folder / f"{number}.png")
    dataset = open_dataset(tmp_path, size=16, max_bad=1)
    assert list(dataset.index["file"]) == ["target/0.png"]  # twice as large is no other proportion
    assert "other proportions" in dataset.quarantine["error"][0]


def test_phantom_of_low_dose() -> None:
    pairs = open_dataset("phantom://chest-lowdose?n=8", size=32)
    clean = open_dataset("phantom://chest?n=8", size=32)
    batch = pairs.batch_at(range(8))
    assert torch.equal(batch.images, clean.images_at(range(8)))
    noise = (batch.images - batch.sources).flatten(1)
    assert 0.01 < noise.std() < 0.3
    assert noise.mean().abs() < 0.05
    unpaired = open_dataset("phantom://chest-lowdose?n=8", size=32, layout="unpaired")
    patients = [set(part.index["patient_id"]) for part in (unpaired, unpaired.sources) if part is not None]
    assert not patients[0] & patients[1]
    with pytest.raises(DataError, match="has no source images"):
        open_dataset("phantom://chest?n=8", size=32, layout="unpaired")


def test_arrays() -> None:
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    colours = np.repeat(images[..., None], 3, axis=-1)
    dataset = ImageDataset.from_arrays(images, sources=colours)
    assert dataset.spec == DataSpec(1, (8, 8), source_channels=3)
    assert torch.equal(dataset[2].sources, dataset[2].images.expand(1, 3, 8, 8))
    unpaired = ImageDataset.from_arrays(images, sources=colours[:2], paired=False)
    with pytest.warns(DataWarning):
        parts = unpaired.split(0.4)
    assert sum(len(part.sources or []) for part in parts) == 2
    with pytest.raises(DataError, match="type paired=False"):
        ImageDataset.from_arrays(images, sources=colours[:2])
