"""Patients, and splits that keep them apart."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medgan.data import DataWarning
from medgan.data.splits import Splits, find_patients, image_identities, make_folds, make_splits, whole_unit
from medgan.errors import ConfigError, DataError

KERMANY = {
    "PNEUMONIA/person12_bacteria_47.jpeg": "person12_bacteria",
    "PNEUMONIA/person12_virus_47.jpeg": "person12_virus",
    "PNEUMONIA/person447_virus_921_1.jpeg": "person447_virus",
    "NORMAL/NORMAL2-IM-0383-0001.jpeg": "NORMAL2-IM-0383",
    "NORMAL/NORMAL2-IM-0383-0001-0002.jpeg": "NORMAL2-IM-0383",
    "NORMAL/IM-0115-0001.jpeg": "IM-0115",
    "IM-0429-0001-0002.jpeg": "IM-0429",
    "NORMAL/NORMAL-3464500-0002.jpeg": "NORMAL-3464500",
    "PNEUMONIA/BACTERIA-40699-0001.jpeg": "BACTERIA-40699",
    "PNEUMONIA/VIRUS-1980593-0003.jpeg": "VIRUS-1980593",
}


def test_kermany_patients() -> None:
    assert find_patients(list(KERMANY), "kermany") == list(KERMANY.values())


def test_own_expressions() -> None:
    files = ["patient7/study1/view1.png", "patient8/study2/view1.png"]
    assert find_patients(files, r"patient(\d+)") == ["7", "8"]
    assert find_patients(files, r"(patient\d+)/(study\d+)") == ["patient7_study1", "patient8_study2"]
    assert find_patients(files, r"patient\d+") == ["patient7", "patient8"]
    assert find_patients(files, r"patient(\d+)(x)?") == ["7", "8"]


def test_files_without_a_patient_are_counted_and_one_is_named() -> None:
    with pytest.raises(DataError, match=r"1 of 3 files, for example 'c\.png'.*--patient-regex"):
        find_patients(["p1.png", "p2.png", "c.png"], r"p(\d)")
    with pytest.raises(DataError, match="2 of 2 files"):
        find_patients(["p1.png", "p2.png"], r"p(x?)")  # matches, but with an empty id


def test_a_broken_expression_and_a_misspelt_preset() -> None:
    with pytest.raises(DataError, match=r"not a regular expression.*Type for example"):
        find_patients(["a"], "patient(")
    with pytest.raises(DataError, match="Did you mean 'kermany'"):
        find_patients(["NORMAL/IM-0115-0001.jpeg"], "kermani")


def test_a_preset_that_does_not_fit_is_not_suggested_again() -> None:
    with pytest.raises(DataError, match=r"'kermany' finds no patient in 1 of 1 files") as caught:
        find_patients(["a.png"], "kermany")
    assert "Did you mean" not in str(caught.value)


def _index(patients: list[str], **columns: list[str]) -> pd.DataFrame:
    files = [f"{position:05d}.png" for position in range(len(patients))]
    return pd.DataFrame({"file": files, "label": "", "patient_id": patients} | columns)


def _cohort(seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """200 patients of one to seven images, a quarter of them ill."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(200), rng.integers(1, 8, 200))
    labels = (patients % 4 == 0).astype(np.int64)
    names = [("well", "ill")[label] for label in labels]
    return _index([f"p{patient}" for patient in patients], label=names), labels


def _patients(index: pd.DataFrame, positions: np.ndarray) -> set[str]:
    return set(index["patient_id"].iloc[positions])


# --------------------------------------------------------------------------------------- identities


def test_an_image_is_its_file_and_part() -> None:
    index = _index(["", "", ""]).assign(part=["", "frame 1", "axial 42"])
    assert image_identities(index) == ["00000.png", "00001.png#frame 1", "00002.png#axial 42"]
    assert image_identities(index.drop(columns="part")) == ["00000.png", "00001.png", "00002.png"]
    with pytest.raises(DataError, match=r"1 of 3 images are listed more than once, for example 'a\.png'"):
        image_identities(index.assign(file=["a.png", "a.png", "b.png"], part=""))


# ------------------------------------------------------------------------------------------ drawing


@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_whole_and_classes_keep_their_shares(seed: int) -> None:
    index, labels = _cohort(seed)
    splits = make_splits(index, labels, validation=0.2, test=0.1, seed=seed)
    parts = splits.positions(index)
    assert (splits.by, splits.seed, list(parts)) == ("patient", seed, ["train", "validation", "test"])
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(index)))
    for label, patients in ((0, 150), (1, 50)):
        for part, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
            positions = parts[part][labels[parts[part]] == label]
            assert len(_patients(index, positions)) == round(share * patients)
            assert abs(len(positions) / (labels == label).sum() - share) < 0.08  # of images: one to seven a patient


def test_same_seed_same_split_in_any_order() -> None:
    index, labels = _cohort(0)
    splits = make_splits(index, labels, validation=0.2, seed=3)
    order = np.random.default_rng(0).permutation(len(index))
    assert make_splits(index.iloc[order], labels[order], validation=0.2, seed=3) == splits
    assert make_splits(index, labels, validation=0.2, seed=4).parts != splits.parts
    assert (
        make_splits(index, labels, validation=0.2, test=0.3, seed=3).parts["validation"] == splits.parts["validation"]
    )
    folds = make_folds(index, labels, folds=4, seed=3)
    assert make_folds(index.iloc[order], labels[order], folds=4, seed=3) == folds
    assert make_folds(index, labels, folds=4, seed=4).parts != folds.parts


def test_a_split_is_the_same_today_and_tomorrow() -> None:
    index = _index([f"p{number // 2}" for number in range(40)])
    validation = make_splits(index, np.arange(40) // 20, validation=0.2, seed=0).parts["validation"]
    assert validation == tuple(f"{number:05d}.png" for number in (4, 5, 16, 17, 24, 25, 36, 37))


def test_a_patient_of_two_classes_counts_for_the_rarer() -> None:
    labels = np.zeros(200, dtype=np.int64)
    labels[::100] = 1  # patients 0 and 10 have one rare image each
    index = _index([f"p{number // 10}" for number in range(200)])
    parts = make_splits(index, labels, validation=0.1).positions(index)
    assert [labels[positions].sum() for positions in parts.values()] == [1, 1]


def test_a_class_of_few_patients_is_on_both_sides() -> None:
    index = _index(["a", "a", "b", "c", "d", "d", "d", "e"])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    for validation in (0.01, 0.99):
        for positions in make_splits(index, labels, validation=validation).positions(index).values():
            assert set(labels[positions]) == {0, 1}


def test_unknown_patients_are_each_their_own() -> None:
    index = _index(["a"] * 10 + [""] * 30)
    with pytest.warns(DataWarning, match="30 of 40 images are of unknown patients, and split file by file: "):
        parts = make_splits(index, None, validation=0.25).positions(index)
    assert len(parts["validation"]) in {8, 17}  # 8 of 31 patients, one of whom has ten images
    assert sum("a" in _patients(index, positions) for positions in parts.values()) == 1


def test_images_of_one_file_stay_together_even_by_image() -> None:
    index = _index([""] * 60).assign(
        file=[f"{number // 3}.nii.gz" for number in range(60)], part=[f"axial {number % 3}" for number in range(60)]
    )
    with pytest.warns(DataWarning):
        splits = make_splits(index, None, validation=0.3)
    parts = splits.positions(index)
    assert len(parts["validation"]) == 18
    assert not set(index["file"].iloc[parts["train"]]) & set(index["file"].iloc[parts["validation"]])
    torn = Splits("image", 0, {"train": splits.parts["train"][1:], "validation": splits.parts["train"][:1]})
    kept = index.iloc[parts["train"]]
    with pytest.raises(DataError, match=r"1 files with several images are on two sides \(.*: 1\)"):
        torn.positions(kept, allow_patient_overlap=True)


def test_pairs_of_one_source_stay_together() -> None:
    sources = [f"source/{number % 10}.png" for number in range(40)]
    index = _index([""] * 40, source_path=sources)
    with pytest.warns(DataWarning):
        splits = make_splits(index, None, validation=0.3)
    parts = splits.positions(index)
    assert len(parts["validation"]) == 12
    assert not {sources[number] for number in parts["train"]} & {sources[number] for number in parts["validation"]}
    torn = Splits("image", 0, {"train": splits.parts["train"][1:], "validation": splits.parts["train"][:1]})
    with pytest.raises(DataError, match=r"1 files of several images or pairs are on two sides"):
        torn.positions(index.iloc[parts["train"]])
    known = index.assign(patient_id=[f"p{number}" for number in range(40)])  # an atlas, say: the patients decide
    assert len(make_splits(known, None, validation=0.3).positions(known)["validation"]) == 12


def test_rare_combinations_of_findings_follow_their_rarest_finding() -> None:
    common = [[0] * 7] * 300 + [[1] + [0] * 6] * 200 + [[1] * 6 + [0]] * 100
    rare = [[1, *(number >> bit & 1 for bit in range(5)), 1] for number in range(30)]  # each combination once
    others = [[*row[:6], 0] for row in rare[1:]]  # without the finding that is the rarest of all
    labels = np.array(common + rare + others, dtype=np.float32)
    labels[:5, 1] = np.nan  # a masked finding counts as absent
    index = _index([f"p{number}" for number in range(659)])
    for seed in range(5):
        held = make_splits(index, labels, validation=0.1, seed=seed).positions(index)["validation"]
        assert np.histogram(held, [0, 300, 500, 600, 630])[0].tolist() == [30, 20, 10, 3]


def test_continuous_labels_are_spread_evenly() -> None:
    values = np.random.default_rng(0).exponential(size=(400, 1)).astype(np.float32)
    index = _index([f"p{number}" for number in range(400)])
    deciles = np.searchsorted(np.quantile(values, np.arange(1, 10) / 10), values[:, 0])
    for seed in range(3):
        held = make_splits(index, values, validation=0.1, seed=seed).positions(index)["validation"]
        assert np.bincount(deciles[held], minlength=10).tolist() == [4] * 10
    values[::4] = np.nan
    held = make_splits(index, values, validation=0.1).positions(index)["validation"]
    assert np.isnan(values[held]).sum() == 10


def test_synthetic_images_only_ever_train() -> None:
    index = _index(["a", "b", "c", "d", "", "d"], origin=["real"] * 4 + ["synthetic"] * 2)
    for seed in range(10):
        splits = make_splits(index, None, validation=0.5, seed=seed)
        assert {"00003.png", "00004.png", "00005.png"} < set(splits.parts["train"])  # with their patient
        folds = make_folds(index, None, folds=3, seed=seed)
        assert folds.parts["train"] == ("00003.png", "00004.png", "00005.png")
        assert [len(folds.parts[f"fold {number}"]) for number in range(3)] == [1, 1, 1]


def test_nothing_but_synthetic_images() -> None:
    index = _index([""] * 4, origin=["synthetic"] * 4)
    with pytest.raises(DataError, match=r"No image can be held out: all are synthetic.*--validation 0"):
        make_splits(index, None, validation=0.25)
    with pytest.raises(DataError, match="has 0 images, too few for 2 folds"):
        make_folds(index, None, folds=2)
    assert len(make_splits(index, None, validation=0).parts["train"]) == 4


# ------------------------------------------------------------------------------- the source's split


def test_the_source_s_own_split_is_kept() -> None:
    given = ["train"] * 6 + ["val"] * 2 + ["Test"] * 2
    index = _index([f"p{number}" for number in range(10)], split=given)
    splits = make_splits(index, None, validation=0.1)
    assert splits.by == "source"
    assert {part: len(images) for part, images in splits.parts.items()} == {"train": 6, "validation": 2, "test": 2}
    assert splits.parts["validation"] == ("00006.png", "00007.png")
    assert make_splits(index, None, validation=0.1, seed=0, by="patient").by == "patient"


def test_what_the_source_does_not_say_is_drawn_from_its_training_images() -> None:
    index = _index([f"p{number}" for number in range(20)], split=["train"] * 12 + [""] * 3 + ["test"] * 5)
    splits = make_splits(index, None, validation=0.2, test=0.5)
    assert {part: len(images) for part, images in splits.parts.items()} == {"train": 12, "validation": 3, "test": 5}
    assert splits.parts["test"] == tuple(f"{number:05d}.png" for number in range(15, 20))
    assert splits.by == "source"
    only_train = make_splits(index.assign(split="train"), None, validation=0.2)
    assert (only_train.by, len(only_train.parts["validation"])) == ("patient", 4)
    assert only_train == make_splits(index, None, validation=0.2, by="patient")


def test_patients_on_two_sides_of_the_source_s_split() -> None:
    index = _index(["a", "b", "c", "a", "b", "c"], split=["train", "train", "val", "val", "test", "val"])
    message = r"own split: 2 patients are on two sides \(train and validation: 1, train and test: 1\), for example 'a'"
    with pytest.raises(DataError, match=message):
        make_splits(index, None, validation=0.1)
    with pytest.raises(DataError, match="--allow-patient-overlap"):
        make_folds(index, None, folds=2)
    assert len(make_folds(index.drop(4), None, folds=3).parts["fold 0"]) == 2  # training and validation are one pool
    splits = make_splits(index, None, validation=0.1, allow_patient_overlap=True)
    assert splits.parts["test"] == ("00004.png",)
    with pytest.raises(DataError, match="2 patients are on two sides"):
        splits.positions(index)
    assert splits.positions(index, allow_patient_overlap=True)["train"].tolist() == [0, 1]
    assert make_splits(index, None, validation=0.4, by="patient").positions(index)  # divided anew


def test_a_source_that_is_all_held_out_or_speaks_another_language() -> None:
    index = _index(["a", "b"], split=["test", "test"])
    with pytest.raises(DataError, match="All 2 images are held out by the source"):
        make_splits(index, None, validation=0.5)
    with pytest.raises(DataError, match=r"has a split 'trian'.*Did you mean 'train'"):
        make_splits(index.assign(split="trian"), None, validation=0.5)


def test_a_held_out_part_is_divided_without_regard_to_the_source_s_split() -> None:
    index = _index(["a", "b", "", "c"], split=["test"] * 4)
    assert whole_unit(index) == "patient"
    with pytest.warns(DataWarning, match="1 of 4 images are of unknown patients"):
        assert len(make_splits(index, None, validation=0.5, by=whole_unit(index)).parts["validation"]) == 2
    unknown = index.assign(patient_id="")
    assert whole_unit(unknown) == "image"
    with pytest.warns(DataWarning, match="as no patient ids are known"):
        assert len(make_splits(unknown, None, validation=0.5, by=whole_unit(unknown)).parts["validation"]) == 2


# -------------------------------------------------------------------------------------------- folds


@pytest.mark.parametrize("seed", range(3))
def test_folds_hold_each_patient_once_with_all_classes(seed: int) -> None:
    index, labels = _cohort(seed)
    folds = make_folds(index, labels, folds=5, seed=seed)
    parts = folds.positions(index)
    assert list(parts) == [f"fold {number}" for number in range(5)]
    assert sum(len(_patients(index, positions)) for positions in parts.values()) == 200
    for positions in parts.values():
        assert abs(len(positions) - len(index) / 5) < 4
        assert abs(labels[positions].sum() - labels.sum() / 5) < 4


def test_a_fold_as_a_split() -> None:
    index = _index([f"p{number}" for number in range(9)], split=["train"] * 5 + ["val"] * 2 + ["test"] * 2)
    folds = make_folds(index, None, folds=3)
    splits = [folds.fold(number) for number in range(3)]
    assert sorted(image for split in splits for image in split.parts["validation"]) == [
        f"{number:05d}.png" for number in range(7)
    ]
    for split in splits:
        assert list(split.parts) == ["train", "validation", "test"]
        assert split.parts["test"] == ("00007.png", "00008.png")
        assert split.fingerprint == folds.fingerprint
    with pytest.raises(ConfigError, match=r"no fold 3\. The folds are 0 to 2"):
        folds.fold(3)
    with pytest.raises(ConfigError, match="There are no folds"):
        splits[0].fold(0)


def test_too_few_for_so_many_folds() -> None:
    index = _index(["a", "a", "a", "b", "c", "d"], label=["ill"] * 3 + ["well"] * 3)
    with pytest.raises(DataError, match="The class 'ill' has 1 patients, too few for 2 folds"):
        make_folds(index, np.array([0, 0, 0, 1, 1, 1]), folds=2)
    with pytest.raises(DataError, match="The data has 4 patients, too few for 5 folds"):
        make_folds(index, None, folds=5)
    with pytest.raises(ConfigError, match="at least 2"):
        make_folds(index, None, folds=1)


def test_folds_of_findings_too_rare_for_every_fold() -> None:
    labels = np.zeros((60, 3), dtype=np.float32)
    labels[:2, 0] = labels[1:3, 1] = 1
    index = _index([f"p{number}" for number in range(60)])
    folds = make_folds(index, labels, folds=5)
    assert [len(folds.parts[f"fold {number}"]) for number in range(5)] == [12] * 5
    assert len(make_folds(index.iloc[:3], labels[:3], folds=3).parts["fold 2"]) == 1


# ----------------------------------------------------------------------------------- by image or not


def test_without_patients_images_are_split_with_a_warning() -> None:
    index = _index([""] * 40)
    with pytest.warns(
        DataWarning, match=r"40 images\) is split file by file, as no patient ids are known.*--patient-r"
    ):
        splits = make_splits(index, None, validation=0.1)
    assert (splits.by, len(splits.parts["validation"])) == ("image", 4)
    with pytest.warns(DataWarning, match="as no patient ids are known"):
        assert make_folds(index, None, folds=4).by == "image"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is drawn: the source has decided
        make_splits(index.assign(split=["train"] * 20 + ["val"] * 20), None, validation=0.1)
        assert list(make_splits(index, None, validation=0).parts) == ["train"]
    with pytest.raises(DataError, match="--patient-regex"):
        make_splits(index, None, validation=0.1, by="patient")


def test_by_image_in_spite_of_patients_must_be_asked_for_twice() -> None:
    index = _index(["a"] * 15 + ["b"] * 15)
    with pytest.raises(DataError, match=r"30 images are of 2 patients.*--allow-patient-overlap"):
        make_splits(index, None, validation=0.2, by="image")
    with pytest.warns(DataWarning, match="as by='image' asks"):
        splits = make_splits(index, None, validation=0.2, by="image", allow_patient_overlap=True)
    assert (splits.by, len(splits.parts["validation"])) == ("image", 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.0}, "validation must be at least 0 and below 1"),
        ({"validation": -0.1}, "validation must be at least 0 and below 1"),
        ({"validation": 0.5, "test": 0.5}, "below 0.5 for validation=0.5"),
        ({"validation": 0.5, "test": -0.1}, "at least 0"),
        ({"validation": 0.5, "seed": -1}, "seed must lie between 0"),
        ({"validation": 0.5, "by": "person"}, "type 'auto', 'patient' or 'image'"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_splits(_index(["a", "b"]), None, **options)


def test_without_validation_only_what_the_source_sets_aside_is_held_out() -> None:
    index = _index(list("aabbccdd"))
    assert set(make_splits(index, None, validation=0).parts) == {"train"}
    own = index.assign(split=["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    parts = make_splits(own, None, validation=0).positions(own)
    assert {part: list(found) for part, found in parts.items()} == {
        "train": [0, 1, 2, 3],
        "validation": [4, 5],
        "test": [6, 7],
    }


def test_a_single_patient() -> None:
    with pytest.raises(DataError, match="cannot be split"):
        make_splits(_index(["a"] * 4), None, validation=0.5)


# ---------------------------------------------------------------------------------------- the file


def test_a_file_gives_the_split_back(tmp_path: Path) -> None:
    index = _index(list("abcdefgh")).assign(file=pd.Series(["Größe.png", "\udcff.png", *"cdefgh"], dtype=object))
    splits = make_splits(index, None, validation=0.3, seed=5)
    splits.write(tmp_path / "run" / "splits.json")
    assert Splits.read(tmp_path / "run" / "splits.json") == splits
    facts = json.loads((tmp_path / "run" / "splits.json").read_text(encoding="utf-8", errors="surrogateescape"))
    assert (facts["version"], facts["by"], facts["seed"]) == (1, "patient", 5)
    assert facts["fingerprint"] == splits.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: "[", "is not JSON"),
        (lambda facts: {"train": [], "validation": []}, "holds no splits"),
        (lambda facts: [], "holds no splits"),
        (lambda facts: facts | {"version": 2}, "version 2, this medgan reads 1"),
        (lambda facts: facts | {"seed": "0"}, "is damaged"),
        (lambda facts: facts | {"parts": {"train": [1]}}, "is damaged"),
        (lambda facts: facts | {"parts": facts["parts"] | {"train": ["x"]}}, "was changed after it was written"),
        (lambda facts: facts | {"parts": {"train": ["a"], "test": ["a"]}}, "'a' is in 'train' and in 'test'"),
    ],
)
def test_files_that_are_no_splits(tmp_path: Path, change, message: str) -> None:
    facts = json.loads(make_splits(_index(list("abcd")), None, validation=0.5).to_json())
    changed = change(facts)
    (tmp_path / "splits.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(DataError, match=message):
        Splits.read(tmp_path / "splits.json")


@pytest.mark.parametrize("part", ["foo", "val", "fold x", "fold 01", ""])
def test_parts_of_unknown_names(tmp_path: Path, part: str) -> None:
    Splits("image", 0, {"train": ("a",), part: ("b",)}).write(tmp_path / "splits.json")
    with pytest.raises(DataError, match=f"has a part '{part}'"):
        Splits.read(tmp_path / "splits.json")


def test_brackets_without_end(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON"):
        Splits.read(tmp_path / "splits.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json cannot be read"):
        Splits.read(tmp_path / "absent.json")


def test_a_split_of_other_data_is_refused() -> None:
    index = _index(list("abcdef"))
    splits = make_splits(index, None, validation=0.5)
    assert splits.positions(index.iloc[::-1])["train"].tolist() == sorted(5 - splits.positions(index)["train"])
    with pytest.raises(DataError, match=r"2 of 6 images of the split are not in the data \(for example '00004\.png'\)"):
        splits.positions(index.iloc[:4])
    message = (
        r"1 of 6 images of the split are .* '00000\.png'\) and 2 of 7 images of the data are not in .* '00006\.png'"
    )
    with pytest.raises(DataError, match=message):
        splits.positions(_index(list("abcdefgh")).iloc[1:])


def test_a_split_by_image_is_refused_once_patients_are_known() -> None:
    with pytest.warns(DataWarning):
        splits = make_splits(_index([""] * 20), None, validation=0.5)
    index = _index(["a"] * 10 + ["b"] * 10)
    with pytest.raises(
        DataError, match=r"2 patients are on two sides \(.*: 2\), for example 'a'.*--allow-patient-overlap"
    ):
        splits.positions(index)
    assert len(splits.positions(index, allow_patient_overlap=True)["validation"]) == 10
