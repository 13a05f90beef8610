"""Opening, splitting and batching."""

from __future__ import annotations

import itertools
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medgan.core.spec import DataSpec, LabelSpec
from medgan.data import DataWarning, ImageDataset, open_dataset
from medgan.data.dicom_writer import ModelIdentity, write_dicom
from medgan.data.splits import Splits, make_splits
from medgan.errors import ConfigError, DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "chest_xray" / "train"

Numbered = Callable[..., ImageDataset]


def _values(images: torch.Tensor) -> list[int]:
    """Numbers of the images of `numbered`."""
    return torch.round((images[:, 0, 0, 0] + 1) * 32767.5).int().tolist()


def _take(dataset: ImageDataset, count: int, batch_size: int = 4, **options: object) -> list[list[int]]:
    return [_values(batch.images) for batch in itertools.islice(dataset.batches(batch_size, **options), count)]


# ------------------------------------------------------------------------------------------ opening


@pytest.mark.parametrize("as_table", [False, True])
def test_synthetic_dicom_files_among_real_images_only_train(make_folder, tmp_path: Path, as_table: bool) -> None:
    """Also where a table calls them real."""
    root = make_folder("chest_xray")
    model = ModelIdentity("acgan", "0123456789abcdef" * 4)
    pixels = np.arange(1024, dtype=np.uint8).reshape(32, 32, 1)
    for seed in range(9):
        write_dicom(root / "NORMAL" / f"patient9{seed}.dcm", pixels, label="NORMAL", seed=seed, model=model)
    source = root
    if as_table:
        files = sorted(path for path in root.rglob("*") if path.suffix in {".png", ".dcm"})
        source = tmp_path / "table.csv"
        pd.DataFrame({"path": files, "label": [file.parent.name for file in files], "origin": "real"}).to_csv(source)
    dataset = open_dataset(source, size=16, cache_dir=tmp_path / "cache", patient_regex=r"(patient\d+)")
    made = (dataset.index["origin"] == "synthetic").to_numpy()
    assert made.sum() == dataset.provenance()["synthetic_images"] == 9
    assert dataset.index["file"][made].str.endswith(".dcm").all()
    train, validation = dataset.split(0.4)
    assert train.provenance()["synthetic_images"] == 9
    assert (validation.index["origin"] != "synthetic").all()


def test_a_class_folder(make_folder, tmp_path: Path) -> None:
    root = make_folder("chest_xray")
    dataset = open_dataset(root, size=16, cache_dir=tmp_path / "cache", patient_regex=r"(patient\d+)")
    assert dataset.spec == DataSpec(1, (16, 16), LabelSpec(("NORMAL", "PNEUMONIA")))
    assert dataset.name == "chest_xray"
    assert dataset.source == str(root.resolve())
    assert len(dataset) == 15
    assert dataset.class_counts() == {"NORMAL": 6, "PNEUMONIA": 9}
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [0] * 6 + [1] * 9
    assert dataset.intensity_range == (0, 255)
    assert dataset.licence is None
    assert list(dataset.index.columns) == ["file", "label", "patient_id", "width", "height", "mode", "bits"]
    first = dataset.index.iloc[0]
    assert first["file"] == "NORMAL/patient0_0.png"
    assert (first["label"], first["patient_id"], first["width"], first["height"], first["bits"]) == (
        "NORMAL",
        "patient0",
        24,
        20,
        8,
    )
    assert re.fullmatch(r"[0-9a-f]{64}", dataset.fingerprint)


def test_unlabelled_images(make_folder, tmp_path: Path) -> None:
    dataset = open_dataset(make_folder() / "NORMAL", size=16, cache_dir=tmp_path / "cache")
    assert dataset.spec.labels is None
    assert dataset.labels is None
    assert dataset.class_counts() == {}
    assert dataset[0].labels is None
    assert next(dataset.batches(4)).labels is None


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_is_named_after_its_parent(make_folder, tmp_path: Path, split: str) -> None:
    root = make_folder(f"my scans/{split}")
    assert open_dataset(root, size=16, cache_dir=tmp_path / "cache").name == "my-scans"


def test_grey_content_decides_the_channels(make_folder, tmp_path: Path, picture) -> None:
    root = make_folder(A=3)
    Image.fromarray(picture(7)).convert("RGB").save(root / "A" / "grey.jpg")
    assert open_dataset(root, size=16, cache_dir=tmp_path / "cache").spec.channels == 1
    three = open_dataset(root, size=16, channels=3, cache_dir=tmp_path / "cache")
    assert three.spec.channels == 3
    image = three.images_at([0])[0]
    assert image[0].equal(image[1])
    assert image[0].equal(image[2])
    Image.fromarray(np.stack([picture(k) for k in range(3)], axis=2)).save(root / "A" / "zz.png")
    colour = open_dataset(root, size=16, cache_dir=tmp_path / "cache")
    assert colour.spec.channels == 3
    assert not colour.images_at([4])[0, 0].equal(colour.images_at([4])[0, 1])
    assert open_dataset(root, size=16, channels=1, cache_dir=tmp_path / "cache").spec.channels == 1


def test_sixteen_bits_survive_beside_eight(make_folder, tmp_path: Path, picture) -> None:
    root = make_folder(A=2)
    deep = picture(5).astype(np.uint16) * 100
    Image.fromarray(deep).save(root / "A" / "zz.png")
    dataset = open_dataset(root, size=(20, 24), cache_dir=tmp_path / "cache")
    assert dataset.intensity_range == (0, 65535)
    np.testing.assert_allclose((dataset.images_at([2])[0, 0] + 1) * 32767.5, deep, atol=0.01)
    np.testing.assert_allclose((dataset.images_at([0])[0, 0] + 1) * 127.5, picture(0), atol=1e-4)


def _damage(root: Path, label: str, count: int) -> None:
    for number in range(count):
        (root / label / f"bad{number}.png").write_bytes(b"" if number else b"not an image")


def test_bad_files_are_quarantined_and_stop_nothing(make_folder, tmp_path: Path) -> None:
    root = make_folder()
    _damage(root, "NORMAL", 2)
    Image.new("L", (9, 9), 4).save(root / "PNEUMONIA" / "flat.png")
    dataset = open_dataset(root, size=16, max_bad=0.2, cache_dir=tmp_path / "cache")
    assert len(dataset) == 15
    assert list(dataset.quarantine.columns) == ["file", "label", "stage", "error", "hint"]
    table = dataset.quarantine.set_index("file")
    assert sorted(table.index) == ["NORMAL/bad0.png", "NORMAL/bad1.png", "PNEUMONIA/flat.png"]
    assert "0 bytes" in table.loc["NORMAL/bad1.png", "error"]
    assert "constant" in table.loc["PNEUMONIA/flat.png", "error"]
    assert (table["hint"] != "").all()


def test_too_many_bad_files(make_folder, tmp_path: Path) -> None:
    root = make_folder()
    _damage(root, "NORMAL", 2)
    with pytest.raises(DataError) as caught:
        open_dataset(root, size=16, cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert "2 of 17 images cannot be used (11.8%; max_bad is 1.0%)" in message
    assert "NORMAL: 6 good, 2 bad; PNEUMONIA: 9 good, 0 bad" in message
    assert "NORMAL/bad1.png (empty file" in message
    listed = Path(re.search(r"All of them: (\S+quarantine\.csv)", message)[1])
    assert len(pd.read_csv(listed)) == 2
    advice = float(re.search(r"--max-bad (\S+)\.$", message)[1])
    assert len(open_dataset(root, size=16, max_bad=advice, cache_dir=tmp_path / "cache")) == 15


def test_a_manifest_that_is_a_link_names_files_beside_it(make_folder, tmp_path: Path) -> None:
    root = make_folder(A=2)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("path\nA/patient0_0.png\nA/patient0_1.png\n")
    (root / "t.csv").symlink_to(tmp_path / "tables" / "t.csv")
    assert len(open_dataset(root / "t.csv", size=16)) == 2


def test_an_empty_class(make_folder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "COVID").mkdir()
    with pytest.raises(DataError, match=r"No usable image in COVID.*COVID: 0 good, 0 bad; NORMAL: 6 good"):
        open_dataset(root, size=16, cache_dir=tmp_path / "cache")
    _damage(root, "COVID", 1)
    with pytest.raises(DataError, match=r"No usable image in COVID.*COVID: 0 good, 1 bad"):
        open_dataset(root, size=16, max_bad=0.5, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(("refused", "share"), [({"v3": [""]}, 1 / 4), ({"v2": ["5"]}, 1 / 15)])
def test_a_bad_volume_counts_as_a_good_one(numbered: Numbered, refused: dict[str, list[str]], share: float) -> None:
    """Whatever number of slices it would have given."""
    found = numbered(12)
    files = [f"v{number // 4}" for number in range(12)]
    index = found.index.assign(file=files, part=[str(number % 4 + 1) for number in range(12)])
    rows = [(file, part, "0", "open", "truncated", "mend") for file, parts in refused.items() for part in parts]
    quarantine = pd.DataFrame(rows, columns=["file", "part", "label", "stage", "error", "hint"])
    dataset = replace(found, index=index, quarantine=quarantine)
    dataset.check_usable(share + 0.001)
    with pytest.raises(DataError, match=rf"1 of 13 images cannot be used \({share:.1%} of the files; max_bad"):
        dataset.check_usable(share - 0.001)


def test_nothing_but_bad_files(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 1 images cannot be used.*Mend them") as caught:
        open_dataset(tmp_path / "scans", size=16, max_bad=1.0, cache_dir=tmp_path / "cache")
    assert "--max-bad" not in str(caught.value)  # which accepts no share of nothing


def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no .*absent.*phantom://chest"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "notes.txt").write_bytes(b"x")
    with pytest.raises(DataError, match="is a file"):
        open_dataset(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="The name of the data is empty"):
        open_dataset("")


def test_a_single_file(tmp_path: Path, picture) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "image.png")
    dataset = open_dataset(tmp_path / "image.png", size=16, cache_dir=tmp_path / "cache")
    assert len(dataset) == 1
    assert dataset.index["file"].tolist() == ["image.png"]


@pytest.mark.parametrize(
    "options",
    [
        *({"size": 0}, {"size": "64"}, {"size": 32.5}, {"size": (8, 8, 8, 8)}, {"channels": 2}, {"fit": "aspect"}),
        *(
            {"max_bad": 2},
            {"workers": -1},
            {"pipeline": "pet"},
            {"contrast": "more"},
            {"slices": "oblique"},
            {"spacing": 1},
        ),
        *({"window": "40"}, {"spacing": 0}, {"spacing": (1, 2)}, {"layout": "chest"}, {"view": "PA"}),
        {"transforms": "nowhere:nothing"},
    ],
)
def test_options_out_of_range(make_folder, options: dict) -> None:
    with pytest.raises(ConfigError):
        open_dataset(make_folder(), **options)


@pytest.mark.parametrize(
    ("source", "option", "value"),
    [
        ("phantom://chest?n=4", "labels", ["NORMAL"]),
        ("phantom://chest?n=4", "label_kind", "ordinal"),
        ("phantom://chest?n=4", "view", "PA"),
        ("x.npz", "view", "PA"),
        ("x.npz", "label_kind", "continuous"),
        ("scans", "view", "PA"),
        ("scans", "label_kind", "multilabel"),
        ("scans/A", "label_kind", "ordinal"),
        ("pairs", "labels", ["A"]),
        ("pairs", "label_kind", "ordinal"),
    ],
)
def test_options_that_a_source_cannot_heed(
    make_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, option: str, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(A=2, B=2)
    make_folder("pairs/source", A=2)
    make_folder("pairs/target", A=2)
    np.savez("x.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.zeros((2, 1), np.uint8))
    with pytest.raises(ConfigError, match=f"--{option.replace('_', '-')} "):
        open_dataset(source, size=16, **{option: value})


def test_classes_of_folders_may_have_an_order(make_folder, tmp_path: Path) -> None:
    grades = make_folder("grades", **{"10": 2, "2": 2, "0": 2})
    options = {"size": 16, "label_kind": "ordinal", "cache_dir": tmp_path / "cache"}
    dataset = open_dataset(grades, **options)
    assert dataset.spec.labels == LabelSpec(("0", "2", "10"), "ordinal")
    assert [dataset.spec.labels.names[label] for label in dataset.labels] == list(dataset.index["label"])
    words = make_folder("words", mild=2, severe=2)
    with pytest.raises(DataError, match=r"order is unknown: mild, severe\. Type them from low to high"):
        open_dataset(words, **options)
    ordered = open_dataset(words, labels=["severe", "mild"], **options)
    assert ordered.spec.labels == LabelSpec(("severe", "mild"), "ordinal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "40,400"}, "^--window asks for the window 40,400, "),
        ({"pipeline": "mri"}, "^--pipeline mri asks for the window percentile, .*type --contrast percentile"),
        ({"pipeline": "ct", "contrast": "percentile"}, "^--pipeline ct asks for the window 0,2000, "),
    ],
)
def test_a_window_of_pictures_is_warned_of(make_folder, tmp_path: Path, options: dict, message: str) -> None:
    root = make_folder()
    with pytest.warns(DataWarning, match=message):
        dataset = open_dataset(root, size=16, cache_dir=tmp_path / "cache", **options)
    assert len(dataset) == 15
    for fine in ({"window": "auto"}, {"pipeline": "mri", "contrast": "percentile"}, {"window": "none"}):
        open_dataset(root, size=16, cache_dir=tmp_path / "cache", **fine)  # a warning would be an error


def test_a_patient_regex_that_misses(make_folder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no patient in 15 of 15 files.*Known: kermany"):
        open_dataset(make_folder(), size=16, patient_regex="kermany", cache_dir=tmp_path / "cache")


# ----------------------------------------------------------------------------------------- reading


def test_items_and_images(numbered: Numbered) -> None:
    dataset = numbered(3, 4)
    assert [_values(batch.images) for batch in dataset] == [[number] for number in range(7)]
    assert dataset[-1].labels.tolist() == [1]
    assert dataset[2].images.shape == (1, 1, 4, 4)
    images = dataset.images_at([5, 0, 5])
    assert _values(images) == [5, 0, 5]
    assert images.dtype == torch.float32
    assert type(images) is torch.Tensor
    for wrong in (7, -8):
        with pytest.raises(IndexError):
            dataset[wrong]
    with pytest.raises(IndexError):
        dataset.images_at([-1])


def test_the_whole_range_is_used_and_never_left() -> None:
    for dtype, high in ((np.uint8, 255), (np.uint16, 65535)):
        values = np.arange(high + 1, dtype=dtype).reshape(1, -1, 1)
        images = ImageDataset.from_arrays(values, data_range=(0, high)).images_at([0])
        assert images.min() == -1
        assert images.max() == 1
        assert images.flatten().diff().min() > 0


def test_a_subset_is_independent_of_the_rest(numbered: Numbered) -> None:
    dataset = numbered(3, 4)
    part = dataset.subset([6, 1]).subset([1, 0])
    assert _values(part.images_at([0, 1])) == [1, 6]
    assert part.labels.tolist() == [0, 1]
    assert part.index["file"].tolist() == ["000001", "000006"]
    assert part.index.index.tolist() == [0, 1]
    assert part.spec == dataset.spec
    assert len({part.fingerprint, dataset.fingerprint, dataset.subset([1, 6]).fingerprint}) == 3
    assert dataset.subset([1, 6]).fingerprint == dataset.subset([1, 6]).fingerprint


# --------------------------------------------------------------------------------------- splitting


def test_a_split_by_patient_warns_of_nothing(make_folder, tmp_path: Path) -> None:
    root = make_folder(A=40, B=60)
    dataset = open_dataset(root, size=16, patient_regex=r"patient(\d+)", cache_dir=tmp_path / "cache")
    training, validation = dataset.split(0.2, seed=1)
    assert len(training) + len(validation) == 100
    assert not set(training.index["patient_id"]) & set(validation.index["patient_id"])
    assert validation.class_counts() == {"A": 8, "B": 12}
    assert dataset.split(0.2, seed=1)[1].fingerprint == validation.fingerprint
    assert dataset.split(0.2, seed=2)[1].fingerprint != validation.fingerprint


def test_a_split_without_patients_warns(numbered: Numbered) -> None:
    with pytest.warns(DataWarning, match=r"no patient ids are known.*--patient-regex"):
        training, validation = numbered(30, 10).split(0.1)
    assert (len(training), len(validation)) == (36, 4)
    assert validation.class_counts() == {"class 0": 3, "class 1": 1}
    with pytest.raises(DataError, match="--patient-regex"):
        numbered(30).split(by="patient")


def test_a_split_by_image_in_spite_of_patients(numbered: Numbered) -> None:
    dataset = numbered(30, patient_ids=["a"] * 15 + ["b"] * 15)
    with pytest.raises(DataError, match="--allow-patient-overlap"):
        dataset.split(0.2, by="image")
    with pytest.warns(DataWarning, match="as by='image' asks"):
        _, validation = dataset.split(0.2, by="image", allow_patient_overlap=True)
    assert len(validation) == 6
    with pytest.raises(ConfigError, match="'patient'"):
        dataset.split(by="person")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="between 0 and 1"):
        dataset.split(0)


def test_images_of_unknown_patients_are_not_one_patient(numbered: Numbered) -> None:
    dataset = numbered(40, patient_ids=["a"] * 10 + [""] * 30)
    with pytest.warns(DataWarning, match="30 of 40 images are of unknown patients"):
        training, validation = dataset.split(0.25)
    assert {"", "a"} >= set(validation.index["patient_id"])
    assert len(validation) in {8, 17}  # 8 of 31 patients, one of whom has ten images
    assert "" in set(training.index["patient_id"])


def test_a_test_set_leaves_the_validation_as_it_is(numbered: Numbered) -> None:
    dataset = numbered(30, 20, patient_ids=[f"p{number // 2}" for number in range(50)])
    training, validation, test = dataset.split(0.2, test=0.2)
    assert sorted(_values(torch.cat([part.images_at(range(len(part))) for part in (training, validation, test)]))) == [
        *range(50)
    ]
    assert test.class_counts() == validation.class_counts() == {"class 0": 6, "class 1": 4}
    assert len(set(test.index["patient_id"]) | set(validation.index["patient_id"])) == 10
    assert dataset.split(0.2)[1].fingerprint == validation.fingerprint


def test_the_source_s_test_images_are_never_trained_on(numbered: Numbered) -> None:
    dataset = numbered(10, patient_ids=[f"p{number}" for number in range(10)])
    dataset = replace(dataset, index=dataset.index.assign(split=["train"] * 6 + ["test"] * 4))
    training, validation = dataset.split(0.5)
    assert sorted(_values(torch.cat([part.images_at(range(3)) for part in (training, validation)]))) == [*range(6)]
    assert _values(dataset.split(0.5, test=0.1)[2].images_at(range(4))) == [6, 7, 8, 9]
    assert {len(training) + len(validation) for training, validation in dataset.folds(3)} == {6}


def test_folds_validate_each_image_once(numbered: Numbered) -> None:
    dataset = numbered(30, 20, patient_ids=[f"p{number // 2}" for number in range(50)])
    folds = dataset.folds(5, seed=2)
    assert sorted(value for _, held in folds for value in _values(held.images_at(range(len(held))))) == [*range(50)]
    for training, validation in folds:
        assert validation.class_counts() == {"class 0": 6, "class 1": 4}
        assert len(training) == 40
        assert not set(training.index["patient_id"]) & set(validation.index["patient_id"])


def test_a_split_from_a_file_is_the_very_same(numbered: Numbered, tmp_path: Path) -> None:
    dataset = numbered(30, 20, patient_ids=[f"p{number // 2}" for number in range(50)])
    make_splits(dataset.index, dataset.labels, validation=0.2, seed=7).write(tmp_path / "splits.json")
    parts = dataset.apply_splits(Splits.read(tmp_path / "splits.json"))
    assert list(parts) == ["train", "validation"]
    assert [part.fingerprint for part in parts.values()] == [part.fingerprint for part in dataset.split(0.2, seed=7)]
    with pytest.raises(DataError, match="10 of 50 images of the split are not in the data"):
        dataset.subset(range(40)).apply_splits(Splits.read(tmp_path / "splits.json"))


# ----------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("sampling", ["natural", "sqrt", "uniform"])
def test_a_resumed_stream_goes_on_exactly(numbered: Numbered, sampling: str) -> None:
    dataset = numbered(13, 5)
    whole = _take(dataset, 30, seed=3, class_sampling=sampling)
    for step in (1, 7, 29):
        assert _take(dataset, 30 - step, seed=3, class_sampling=sampling, start_step=step) == whole[step:]
    assert _take(dataset, 30, seed=4, class_sampling=sampling) != whole


def test_epochs_join_without_a_short_batch(numbered: Numbered) -> None:
    seen = [value for batch in _take(numbered(10), 10, batch_size=7) for value in batch]
    assert len(seen) == 70
    for epoch in range(7):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))


def test_a_batch_larger_than_the_data(numbered: Numbered) -> None:
    (batch,) = _take(numbered(3), 1, batch_size=8)
    assert [batch.count(value) for value in range(3)] in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


@pytest.mark.parametrize("sampling", ["natural", "sqrt", "uniform"])
def test_ranks_share_the_global_batch(numbered: Numbered, sampling: str) -> None:
    dataset = numbered(13, 5)
    whole = _take(dataset, 9, batch_size=6, class_sampling=sampling)
    ranks = [_take(dataset, 9, batch_size=2, class_sampling=sampling, rank=rank, world_size=3) for rank in range(3)]
    assert [a + b + c for a, b, c in zip(*ranks, strict=True)] == whole
    resumed = _take(dataset, 4, batch_size=2, class_sampling=sampling, rank=1, world_size=3, start_step=5)
    assert resumed == ranks[1][5:]


def test_batches_are_what_training_expects(make_folder, tmp_path: Path) -> None:
    dataset = open_dataset(make_folder(), size=16, channels=3, cache_dir=tmp_path / "cache")
    batch = next(dataset.batches(4))
    assert batch.images.shape == (4, 3, 16, 16)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert type(batch.images) is torch.Tensor
    assert batch.labels.dtype == torch.int64
    assert batch.labels.shape == (4,)
    assert batch.images.min() >= -1
    assert batch.images.max() <= 1
    batch.images.add_(1)  # a batch is the caller's own
    assert next(dataset.batches(4)).images.min() >= -1


def test_labels_go_with_their_images(numbered: Numbered) -> None:
    dataset = numbered(13, 5)
    for sampling in ("natural", "uniform"):
        for batch in itertools.islice(dataset.batches(6, class_sampling=sampling), 10):
            assert batch.labels.tolist() == [int(value >= 13) for value in _values(batch.images)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_batches(numbered: Numbered) -> None:
    dataset = numbered(13, 5)
    pairs = zip(dataset.batches(6), dataset.batches(6, device="cuda"), strict=False)
    for here, there in itertools.islice(pairs, 50):
        assert there.images.device.type == "cuda"
        assert there.images.is_contiguous(memory_format=torch.channels_last)
        assert there.images.cpu().equal(here.images)
        assert there.labels.cpu().equal(here.labels)


def test_wrong_batches(numbered: Numbered) -> None:
    dataset = numbered(4)
    for options in ({"batch_size": 0}, {"start_step": -1}, {"rank": 2, "world_size": 2}, {"class_sampling": "even"}):
        with pytest.raises(ConfigError):  # at once, and not at the first batch
            dataset.batches(**{"batch_size": 2, **options})
    with pytest.raises(DataError, match="no image"):
        dataset.subset([]).batches(2)
    with pytest.raises(DataError, match="class_sampling"):
        ImageDataset.from_arrays(np.zeros((3, 4, 4), np.uint8)).batches(2, class_sampling="sqrt")


# ------------------------------------------------------------------------------------- from_arrays


def test_arrays_of_every_type() -> None:
    rng = np.random.default_rng(0)
    colour = ImageDataset.from_arrays(rng.integers(0, 255, (5, 8, 6, 3), dtype=np.uint8), [0, 1, 0, 1, 2])
    assert colour.spec == DataSpec(3, (8, 6), LabelSpec(("class 0", "class 1", "class 2")))
    hounsfield = rng.uniform(-1000, 400, (5, 8, 6))
    dataset = ImageDataset.from_arrays(hounsfield, data_range=(-1000, 400), name="ct")
    assert dataset.spec == DataSpec(1, (8, 6), None)
    assert dataset.intensity_range == (-1000, 400)
    np.testing.assert_allclose(dataset.images_at([3])[0, 0], (hounsfield[3] + 1000) / 700 - 1, atol=1e-5)
    several = ImageDataset.from_arrays(np.zeros((2, 4, 4), np.uint8), [[0, 1], [1, 1]], names=["mass", "edema"])
    assert several.spec.labels == LabelSpec(("mass", "edema"), "multilabel")
    assert several.class_counts() == {"mass": 1, "edema": 2}


def test_arrays_have_a_fingerprint() -> None:
    images = np.zeros((2, 4, 4), np.uint8)
    prints = [
        ImageDataset.from_arrays(images, [0, 1]).fingerprint,
        ImageDataset.from_arrays(images, [1, 0]).fingerprint,
        ImageDataset.from_arrays(images + 1, [0, 1]).fingerprint,
        ImageDataset.from_arrays(images, [0, 1], data_range=(0, 1)).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert ImageDataset.from_arrays(images.copy(), [0, 1]).fingerprint == prints[0]


IMAGES = np.zeros((4, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0], {}, "must have the shape"),
        (IMAGES[:0], {}, "must have the shape"),
        (np.zeros((4, 3, 8, 8), np.uint8), {}, r"Type numpy\.moveaxis\(images, 1, -1\)"),
        (IMAGES.astype(np.uint16), {}, "need data_range"),
        (IMAGES.astype(np.float32), {}, "need data_range"),
        (IMAGES.astype(np.int64), {}, "must be uint8, uint16 or float"),
        (IMAGES + 0.5, {"data_range": (-1, 0)}, "outside of data_range"),
        (IMAGES * np.nan, {"data_range": (0, 1)}, "outside of data_range"),
        (IMAGES, {"data_range": (5, 5)}, "must rise"),
        (IMAGES, {"labels": [0, 1]}, r"shape \(4,\)"),
        (IMAGES, {"labels": [0.5, 1, 1, 1]}, "class indices"),
        (IMAGES, {"labels": [-1, 0, 1, 1]}, "class indices"),
        (IMAGES, {"labels": [0, 1, 2, 1], "names": ["a", "b"]}, "labels go up to 2"),
        (IMAGES, {"labels": [[0, 2]] * 4}, "0 or 1"),
        (IMAGES, {"names": ["a"]}, "without labels"),
        (IMAGES, {"patient_ids": ["a"]}, "patient_ids has 1"),
    ],
)
def test_wrong_arrays(images: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageDataset.from_arrays(images, **options)


# -------------------------------------------------------------------------------------- real life


def test_importing_does_not_import_monai() -> None:
    code = "import medgan.data, sys; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the Kermany chest X-rays are not in {REAL}")
def test_kermany_chest_xrays(tmp_path: Path) -> None:
    root = tmp_path / "chest_xray" / "train"
    for label in ("NORMAL", "PNEUMONIA"):
        (root / label).mkdir(parents=True)
        for path in sorted((REAL / label).iterdir())[:40]:
            (root / label / path.name).write_bytes(path.read_bytes())
    dataset = open_dataset(root, size=64, patient_regex="kermany", cache_dir=tmp_path / "cache")
    assert dataset.name == "chest_xray"
    assert dataset.spec.channels == 1  # stored as RGB
    assert set(dataset.index["mode"]) == {"RGB"}
    assert len(dataset.quarantine) == 0
    assert dataset.images_at(range(80)).std() > 0.2
    training, validation = dataset.split(0.2)
    assert not set(training.index["patient_id"]) & set(validation.index["patient_id"])


def test_a_data_set_goes_to_another_process_by_reference(make_folder, tmp_path: Path) -> None:
    dataset = open_dataset(make_folder("scans"), size=16, cache_dir=tmp_path / "cache")
    part = dataset.subset([3, 1, 4])
    sent = pickle.dumps(part)
    assert len(sent) < dataset._pixels.nbytes
    there = pickle.loads(sent)
    assert torch.equal(there.images_at(range(3)), part.images_at(range(3)))
    assert there.provenance() == part.provenance()
    assert there.index.equals(part.index)


def test_arrays_in_memory_go_along(numbered: Numbered) -> None:
    there = pickle.loads(pickle.dumps(numbered(3, 2).subset([4, 0])))
    assert _values(there.images_at(range(2))) == [4, 0]


def test_a_subset_knows_of_what(numbered: Numbered) -> None:
    whole = numbered(3, 2)
    part = whole.subset([0, 1, 4]).subset([2, 0])
    assert whole.whole_fingerprint == whole.fingerprint
    assert part.whole_fingerprint == whole.fingerprint != part.fingerprint
    assert part.provenance()["whole_fingerprint"] == whole.fingerprint


def test_without_labels():
    whole = open_dataset("phantom://chest?n=12&seed=1", size=16)
    plain = whole.without_labels()
    assert plain.spec == DataSpec(1, (16, 16))
    assert plain.labels is None
    assert plain.class_counts() == {}
    assert torch.equal(plain.images_at(range(12)), whole.images_at(range(12)))
    assert plain.fingerprint not in (whole.fingerprint, whole.without_labels().subset([0]).fingerprint)
    assert plain.fingerprint == whole.without_labels().fingerprint
    assert plain.whole_fingerprint == whole.whole_fingerprint
    assert next(plain.batches(4, seed=0)).labels is None
    assert plain.without_labels() is plain
