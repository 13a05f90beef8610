from __future__ import annotations

import json
import stat
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from medgan.data import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.models import ACGAN
from medgan.reader_study import ReaderStudyConfig, StudyDesignWarning, load_study, new_study


def test_half_is_synthetic_in_each_class(drawn, key_of):
    key = key_of(drawn)
    counts = Counter((key[item]["kind"], key[item]["label"]) for case in drawn.cases for item in case)
    assert counts == dict.fromkeys([(kind, name) for kind in ("real", "synthetic") for name in drawn.classes], 6)


def test_one_image_a_patient(drawn, pairs, key_of):
    for study in (drawn, pairs):
        patients = [entry["patient_id"] for entry in key_of(study).values() if entry["kind"] == "real"]
        assert len(set(patients)) == len(patients)
        assert "" not in patients


def test_synthetic_images_can_be_made_again(drawn, gan, key_of):
    from medgan.data.pixels import to_uint8

    for item, entry in list(key_of(drawn).items())[:6]:
        if entry["kind"] == "synthetic":
            again = to_uint8(gan.sample(1, labels=entry["label"], seed=entry["seed"]).images)[0, ..., 0]
            assert (np.asarray(Image.open(drawn.image_file(item))) == again).all()


def test_real_images_are_those_of_the_key(drawn, real, key_of):
    files = list(real.index["file"])
    names = real.spec.labels.names
    checked = 0
    for item, entry in key_of(drawn).items():
        if entry["kind"] == "real":
            row = files.index(entry["file"])
            pixels = np.asarray(Image.open(drawn.image_file(item)))
            assert (pixels == np.rint((real[row].images[0, 0].numpy() + 1) * 127.5)).all()
            assert entry["label"] == names[int(real.labels[row])]
            checked += 1
    assert checked == 13


def test_pairs_hold_one_of_each_of_one_class(pairs, key_of):
    key = key_of(pairs)
    assert len(pairs.cases) == 24
    for case in pairs.cases:
        assert sorted(key[item]["kind"] for item in case) == ["real", "synthetic"]
        assert len({key[item]["label"] for item in case}) == 1
    for reader in pairs.readers:
        left = [key[shown.items[0]]["kind"] for shown in reader.presentations]
        assert 0.2 < left.count("synthetic") / len(left) < 0.8


@pytest.mark.parametrize("which", ["drawn", "pairs"])
def test_repeats_come_late_and_for_all_readers(which, request):
    study = request.getfixturevalue(which)
    repeated = []
    for reader in study.readers:
        order = [shown.case for shown in reader.presentations]
        assert sorted(set(order)) == list(range(24))
        twice = sorted(case for case, count in Counter(order).items() if count == 2)
        assert len(order) == 30
        assert len(twice) == 6
        for case in twice:
            first = order.index(case)
            assert order.index(case, first + 1) - first >= 6
            assert [shown.repeat for shown in reader.presentations if shown.case == case] == [False, True]
        repeated.append(twice)
    assert all(twice == repeated[0] for twice in repeated)
    assert len({tuple(shown.case for shown in reader.presentations) for reader in study.readers}) == 4


def test_repeats_are_half_synthetic(drawn, key_of):
    key = key_of(drawn)
    twice = [shown.items[0] for shown in drawn.readers[0].presentations if shown.repeat]
    assert Counter(key[item]["kind"] for item in twice) == {"real": 3, "synthetic": 3}


def test_training_cases_are_no_cases(drawn, pairs, key_of):
    for study in (drawn, pairs):
        training = {item for items, _ in study.training for item in items}
        assert len(study.training) == 2
        assert not training & {item for case in study.cases for item in case}
        key = key_of(study)
        for items, synthetic in study.training:
            assert [key[item]["kind"] == "synthetic" for item in items] == list(synthetic)


def test_nothing_on_the_disk_tells_them_apart(drawn, pairs, key_of):
    for study in (drawn, pairs):
        key = key_of(study)
        files = sorted((study.folder / "images").iterdir())
        assert sorted(path.stem for path in files) == sorted(key)
        assert len({path.stat().st_size for path in files}) == 1
        assert {path.stat().st_mtime for path in files} == {0}
        for path in files:
            with Image.open(path) as picture:
                assert (picture.mode, picture.size, picture.info) == ("L", (32, 32), {})
            assert path.read_bytes()[12:16] == b"IHDR"
            assert path.read_bytes()[37:41] == b"IDAT"  # nothing lies between, such as a note or a date
        text = (study.folder / "study.json").read_text(encoding="utf-8")
        shown = json.loads(text)
        assert not {"seed", "items", "model", "real"} & set(shown)
        for training in shown["training"]:
            del training["synthetic"]
        for word in ("synthetic", "noise", *(str(entry["seed"]) for entry in key.values() if entry["seed"])):
            assert word not in json.dumps({**shown, "instructions": "", "consent": ""}), word


def test_names_and_order_of_files_say_nothing(drawn, key_of):
    """Sorted by name, kinds are as mixed as by chance: a rank test over all images."""
    from scipy.stats import mannwhitneyu

    key = key_of(drawn)
    kinds = ("real", "synthetic")
    ranks = {kind: [place for place, item in enumerate(sorted(key)) if key[item]["kind"] == kind] for kind in kinds}
    assert mannwhitneyu(ranks["real"], ranks["synthetic"]).pvalue > 0.01
    cases = {kind: [place for place, case in enumerate(drawn.cases) if key[case[0]]["kind"] == kind] for kind in ranks}
    assert mannwhitneyu(cases["real"], cases["synthetic"]).pvalue > 0.01


def test_secrets_are_for_the_owner_alone(drawn):
    assert stat.S_IMODE(drawn.folder.stat().st_mode) == 0o700
    for name in ("key.json", "readers.json"):
        assert stat.S_IMODE((drawn.folder / name).stat().st_mode) == 0o600
    tokens = drawn.tokens()
    assert set(tokens) == {"ada", "ben", "cleo", "dan"}
    assert len(set(tokens.values())) == 4
    assert min(map(len, tokens.values())) >= 32


def test_same_seed_same_study_but_other_links(draw, drawn, tmp_path):
    options = {"repeats": 0.25, "realism": True, "diagnosis": True, "comment": True}
    again = draw(tmp_path / "again", **options)
    other = draw(tmp_path / "other", seed=2, **options)
    assert (again.cases, again.readers, again.training) == (drawn.cases, drawn.readers, drawn.training)
    assert (again.folder / "key.json").read_bytes() == (drawn.folder / "key.json").read_bytes()
    assert not set(again.tokens().values()) & set(drawn.tokens().values())
    assert other.cases != drawn.cases
    assert other.id != drawn.id


def test_without_seed_nobody_knows(real, gan, tmp_path):
    config = ReaderStudyConfig(num=8, training=0)
    folders = [new_study(real, gan, tmp_path / name, config, readers=["a"], model="m") for name in ("one", "two")]
    assert load_study(folders[0]).id != load_study(folders[1]).id
    assert load_study(folders[0]).cases != load_study(folders[1]).cases


def test_findings(tmp_path, key_of):
    """They are sampled together as real images have them."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), rng.integers(0, 2, (40, 3))
    patients = [str(number) for number in range(40)]
    real = ImageDataset.from_arrays(images, labels, names=["Edema", "Mass", "Nodule"], patient_ids=patients)
    gan = ACGAN(real.spec, preset="tiny")
    study = load_study(
        new_study(real, gan, tmp_path / "s", ReaderStudyConfig(num=12), readers=["a"], model="m", seed=0)
    )
    counts = Counter((entry["label"], entry["kind"]) for entry in key_of(study).values())
    for label, _ in list(counts):
        assert counts[label, "real"] == counts[label, "synthetic"] > 0
        assert label.startswith("Edema=")
    assert study.classes == ()
    assert study.image == {"height": 32, "width": 32, "channels": 3}
    with pytest.raises(ConfigError, match="asked of classes only"):
        new_study(real, gan, tmp_path / "t", ReaderStudyConfig(num=12, diagnosis=True), readers=["a"], model="m")


def test_unknown_patients_are_said(gan, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32), dtype=np.uint8)
    real = ImageDataset.from_arrays(images, np.arange(60) % 2, names=["NORMAL", "PNEUMONIA"])
    with pytest.warns(StudyDesignWarning, match="Patients are not known"):
        new_study(real, gan, tmp_path / "s", ReaderStudyConfig(num=8), readers=["a"], model="m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 25}, "Give an even number"),
        ({"num": 4}, "at least 8"),
        ({"margin": 0}, "--margin is 0, expected above 0"),
        ({"margin": 0.5}, "at most 0.45"),
        ({"mode": "forced-choice", "realism": True}, "asked of single images"),
        ({"title": " "}, "--title"),
        ({"reapeats": 0.1}, "Did you mean 'repeats'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        ReaderStudyConfig.from_dict(options)


def test_too_few_patients(real, gan, tmp_path):
    with pytest.raises(DataError, match=r"needs 152 real images of (NORMAL|PNEUMONIA).*there are 60 in noise"):
        new_study(real, gan, tmp_path / "s", ReaderStudyConfig(num=600, training=8), readers=["a"], model="m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        (["a", "A"], "same name"),
        (["../x"], "not usable"),
        (["a\nb"], "not usable"),
        ([""], "not usable"),
        ([], "0 readers"),
    ],
)
def test_names_of_readers(real, gan, tmp_path, readers, message):
    with pytest.raises(ConfigError, match=message):
        new_study(real, gan, tmp_path / "s", ReaderStudyConfig(num=8), readers=readers, model="m")


def test_images_that_do_not_fit(real, gan, tmp_path):
    small = ImageDataset.from_arrays(np.zeros((30, 16, 16), np.uint8), np.arange(30) % 2, names=["NORMAL", "PNEUMONIA"])
    with pytest.raises(ConfigError, match="one shape"):
        new_study(small, gan, tmp_path / "s", ReaderStudyConfig(num=8), readers=["a"], model="m")
    volumes = ImageDataset.from_arrays(np.zeros((30, 8, 32, 32, 1), np.uint8), np.arange(30) % 2, names=["a", "b"])
    with pytest.raises(ConfigError, match="slices of volumes"):
        new_study(volumes, gan, tmp_path / "s", ReaderStudyConfig(num=8), readers=["a"], model="m")
    others = ImageDataset.from_arrays(np.zeros((30, 32, 32), np.uint8), np.arange(30) % 2, names=["cat", "dog"])
    with pytest.raises(ConfigError, match="classes cat, dog, but the model knows NORMAL"):
        new_study(others, gan, tmp_path / "s", ReaderStudyConfig(num=8), readers=["a"], model="m")


def test_nothing_is_overwritten(real, gan, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="not an empty folder"):
        new_study(real, gan, tmp_path / "s", ReaderStudyConfig(num=8), readers=["a"], model="m")
    assert (tmp_path / "s" / "mine.txt").read_text() == "keep"
