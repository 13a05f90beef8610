from __future__ import annotations

import csv
import json
import resource
import weakref
from contextlib import contextmanager

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.data import open_dataset
from medgan.errors import ConfigError
from medgan.export import write_samples
from medgan.models import ACGAN

FORMS = ["png", "npz", "dicom"]
VOLUMES = DataSpec(1, (16, 16, 16), LabelSpec(("A", "B")))


def make(names=("A", "B"), channels=1):
    labels = None if names is None else LabelSpec(tuple(names))
    return ACGAN(DataSpec(channels, (32, 32), labels), preset="tiny")


def table(folder):
    return list(csv.DictReader((folder / "samples.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize(
    "names",
    [
        ("../outside", "/etc/passwd"),
        ("..", "."),
        ("a/b", "a\\b"),
        ("A", "a"),
        ("", " "),
        ("C:\\x", "nul\0byte"),
        ("é ü", "肺炎"),
        (".hidden", "samples.csv"),
        ("Synthetic.json", "B"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_class_names_stay_in_the_folder(tmp_path, names, form):
    """Class names come with the model, so from anybody."""
    out = tmp_path / "a" / "out"
    write_samples(make(names), out, seeds=range(4), form=form, grid=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["out", "out-grid.png"]
    if form == "npz":
        with np.load(out / "samples.npz", allow_pickle=False) as arrays:
            assert len(arrays["label_names"]) == 2
        return
    rows = table(out)
    assert [row["label"] for row in rows] == [*names, *names]
    folders = {(out / row["path"]).resolve().parent for row in rows}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {out.resolve()}
    assert all((out / row["path"]).is_file() for row in rows)
    assert open_dataset(out, size=32).spec.num_labels == 2


def test_unlabelled(tmp_path):
    write_samples(make(None), tmp_path / "out", seeds=[4, 2], grid=True)
    rows = table(tmp_path / "out")
    assert [list(row) for row in rows] == [["path", "seed"]] * 2
    assert [row["seed"] for row in rows] == ["4", "2"]
    assert open_dataset(tmp_path / "out", size=32).labels is None
    assert open_dataset(tmp_path / "out" / "samples.csv", size=32).labels is None
    assert (tmp_path / "out-grid.png").is_file()
    write_samples(make(None), tmp_path / "npz", seeds=[4, 2], form="npz")
    with np.load(tmp_path / "npz" / "samples.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["comment", "seeds", "train_images"]


LABELS = {
    "categorical": ["Edema, mild", "Effusion", 'a "mass"'],
    "ordinal": ["2", "severity=1", "3"],
    "multilabel": ["Effusion=1", {"Effusion": 1, 'a "mass"': 1}, {"Edema, mild": float("nan")}],
    "continuous": [{"Effusion": 64, "Edema, mild": -0.125, 'a "mass"': 1 / 3}, "Effusion=1e-7", "Effusion"],
}


def make_of(kind):
    names = ("1", "2", "3") if kind == "ordinal" else ("Effusion", "Edema, mild", 'a "mass"')
    return ACGAN(DataSpec(1, (32, 32), LabelSpec(names, kind)), preset="tiny")


@pytest.mark.parametrize("form", ["png", "dicom"])
@pytest.mark.parametrize("kind", list(LABELS))
def test_table_is_a_manifest_that_holds_the_labels(tmp_path, form, kind):
    gan, labels = make_of(kind), LABELS[kind]
    names = gan.data.labels.names
    out = write_samples(gan, tmp_path / "out", seeds=range(3), labels=labels, form=form)
    options = {"multilabel": {"missing": "mask"}, "continuous": {"missing": "mask"}}.get(kind, {})
    options |= {} if kind in ("categorical", "multilabel") else {"label_kind": kind}
    dataset = open_dataset(out / "samples.csv", size=32, **options)
    assert len(dataset) == 3
    expected = gan.make_labels(3, labels)
    assert dataset.spec.labels.kind == kind
    order = [dataset.spec.labels.names.index(name) for name in names]
    read = torch.as_tensor(dataset.labels)
    read = read[:, order] if read.ndim == 2 else torch.tensor([order.index(int(value)) for value in read])
    torch.testing.assert_close(read.to(expected), expected, rtol=1e-7, atol=0, equal_nan=True)
    cells = table(out)[0]
    assert [name for name in cells if name.startswith("label")] == (
        ["label"] if kind in ("categorical", "ordinal") else [f"label:{name}" for name in names]
    )
    if kind == "multilabel":
        assert [list(row.values())[1:4] for row in table(out)] == [["1", "0", "0"], ["1", "0", "1"], ["0", "", "0"]]


@pytest.mark.parametrize("kind", list(LABELS))
def test_an_array_file_holds_the_labels(tmp_path, kind):
    gan = make_of(kind)
    out = write_samples(gan, tmp_path / "out", seeds=range(3), labels=LABELS[kind], form="npz")
    dataset = open_dataset(out / "samples.npz", size=32)
    assert dataset.spec.labels == gan.data.labels
    expected = gan.make_labels(3, LABELS[kind])
    torch.testing.assert_close(torch.as_tensor(dataset.labels), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("form", FORMS)
def test_colour(tmp_path, form):
    gan = make(channels=3)
    write_samples(gan, tmp_path / "out", seeds=range(3), form=form)
    expected = (gan.sample(3).images.permute(0, 2, 3, 1) + 1) * 127.5
    if form == "npz":
        with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as arrays:
            written = arrays["train_images"]
    elif form == "dicom":
        written = np.stack(
            [pydicom.dcmread(tmp_path / "out" / row["path"]).pixel_array for row in table(tmp_path / "out")]
        )
    else:
        written = np.stack([np.asarray(Image.open(tmp_path / "out" / row["path"])) for row in table(tmp_path / "out")])
    assert written.shape == (3, 32, 32, 3)
    assert np.abs(written - expected.numpy()).max() <= 0.5001


@pytest.mark.parametrize("form", ["png", "dicom"])
def test_same_label_and_seed_twice(tmp_path, form):
    write_samples(make(), tmp_path / "out", seeds=[7, 7], labels=["A"], form=form)
    rows = table(tmp_path / "out")
    assert len({row["path"] for row in rows}) == 2
    first, second = ((tmp_path / "out" / row["path"]).read_bytes() for row in rows)
    assert first == second


class Factory:
    """Takes the place of a model's sampling: makes batches of nothing, and counts those that are alive."""

    def __init__(self, gan):
        self.alive = 0
        self.most = 0
        gan.sample_batches = self.sample_batches

    def sample_batches(self, seeds, *, labels, truncation, sources=None):
        for _ in range(0, len(seeds), 16):
            images = torch.zeros(16, 1, 32, 32)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(images, self.forget)
            yield Batch(images, torch.zeros(16, dtype=torch.int64))

    def forget(self):
        self.alive -= 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grid", [False, True])
def test_memory_does_not_grow_with_the_number(tmp_path, form, grid):
    most = []
    for count in (96, 320):
        gan = make()
        factory = Factory(gan)
        write_samples(gan, tmp_path / f"{count}", seeds=range(count), form=form, grid=grid)
        most.append(factory.most)
    assert most[0] == most[1]
    assert most[0] <= 4 + 3  # 64 images for the overview, and a few in work


@contextmanager
def disk_of(size):
    """Let this process write no file that is larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", FORMS)
def test_full_disk(tmp_path, form):
    (tmp_path / "out").mkdir()
    with disk_of(500), pytest.raises(ConfigError, match="could not be written to"):
        write_samples(make(), tmp_path / "out", seeds=range(4), form=form)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_failure_leaves_nothing(tmp_path, form, monkeypatch):
    gan = make()

    def fail(seeds, **_):
        yield Batch(torch.zeros(1, 1, 32, 32), torch.zeros(1, dtype=torch.int64))
        raise KeyboardInterrupt

    monkeypatch.setattr(gan, "sample_batches", fail)
    with pytest.raises(KeyboardInterrupt):
        write_samples(gan, tmp_path / "out", seeds=range(4), form=form)
    assert list(tmp_path.iterdir()) == []


def test_wrong_labels_and_seeds(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'A'"):
        write_samples(make(), tmp_path / "out", seeds=range(4), labels=["AA"])
    with pytest.raises(ConfigError, match="Seeds must be between 0"):
        write_samples(make(), tmp_path / "out", seeds=[-1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "data", "other"),
    [
        ("png", DataSpec(2, (32, 32)), "--format npz"),
        ("dicom", DataSpec(2, (32, 32)), "--format npz"),
        ("png", DataSpec(1, (8, 32, 32)), "--format nifti or --format npz"),
        ("dicom", DataSpec(3, (8, 32, 32)), "--format npz"),
        ("nifti", DataSpec(3, (8, 32, 32)), "--format npz"),
        ("nifti", DataSpec(1, (32, 32)), "--format png"),
    ],
    ids=str,
)
def test_images_that_files_cannot_hold(tmp_path, form, data, other):
    gan = make()
    gan.data = data
    with pytest.raises(ConfigError, match=other):
        write_samples(gan, tmp_path / "out", seeds=range(4), form=form)
    assert list(tmp_path.iterdir()) == []


def test_images_that_only_an_array_can_hold(tmp_path):
    gan = make(channels=2)
    write_samples(gan, tmp_path / "out", seeds=range(4), form="npz", grid=True)
    with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["train_images"].shape == (4, 32, 32, 2)


def test_findings(tmp_path, monkeypatch):
    """Labels of several findings an image are written as a table, not as folders."""
    gan = make()
    gan.data = DataSpec(1, (32, 32), LabelSpec(("mass", "cyst"), "multilabel"))

    def batches(seeds, **_):
        yield Batch(torch.zeros(2, 1, 32, 32), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))

    monkeypatch.setattr(gan, "sample_batches", batches)
    write_samples(gan, tmp_path / "png", seeds=range(2))
    assert [(row["label:mass"], row["label:cyst"]) for row in table(tmp_path / "png")] == [("1", "0"), ("1", "1")]
    write_samples(gan, tmp_path / "npz", seeds=range(2), form="npz")
    with np.load(tmp_path / "npz" / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["train_labels"].tolist() == [[1, 0], [1, 1]]
        assert arrays["train_labels"].dtype == np.uint8  # as those of MedMNIST


def test_an_array_file_keeps_the_names_of_its_classes(tmp_path):
    gan = ACGAN(DataSpec(1, (32, 32), LabelSpec(("A", "B"))), preset="tiny")
    out = write_samples(gan, tmp_path / "out", seeds=range(4), labels=["A", "B"], form="npz", device="cpu")
    dataset = open_dataset(out / "samples.npz", size=32)
    assert dataset.class_counts() == {"A": 2, "B": 2}


def test_unknown_format(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'dicom'"):
        write_samples(make(), tmp_path / "out", seeds=range(4), form="dicm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("form", "bits"), [("png", 16), ("npz", 16), ("dicom", 12), ("png", 12)])
def test_bits_that_a_format_has_not(tmp_path, form, bits):
    with pytest.raises(ConfigError, match=f"{form} cannot have {bits} bits"):
        write_samples(make(), tmp_path / "out", seeds=range(4), form=form, bits=bits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [8, 16])
def test_dicom_holds_the_images_of_the_model(tmp_path, bits):
    gan = make()
    write_samples(gan, tmp_path / "out", seeds=range(4), form="dicom", bits=bits)
    images = gan.sample(4).images.double().numpy()[:, 0]
    for row, image in zip(table(tmp_path / "out"), images, strict=True):
        written = pydicom.dcmread(tmp_path / "out" / row["path"])
        assert written.BitsStored == bits
        assert row["path"].startswith(f"{row['label']}/synthetic-")
        assert row["label"] in written.SeriesDescription
        assert f"Seed: {row['seed']}." in written.ContributingEquipmentSequence[0].ContributionDescription
        steps = 2**bits - 1
        assert np.abs(written.pixel_array - (image + 1) / 2 * steps).max() <= 0.5001
        assert len(np.unique(written.pixel_array)) > 20


@pytest.mark.parametrize("bits", [8, 16])
def test_values_beyond_the_range(tmp_path, monkeypatch, bits):
    gan = make(None)
    wild = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0, float("nan")]).view(1, 1, 2, 3)
    monkeypatch.setattr(gan, "sample_batches", lambda seeds, **_: iter([Batch(wild)]))
    write_samples(gan, tmp_path / "out", seeds=[0], form="dicom", bits=bits)
    (row,) = table(tmp_path / "out")
    most = 2**bits - 1
    pixels = pydicom.dcmread(tmp_path / "out" / row["path"]).pixel_array
    assert pixels.tolist() == [[0, 0, 2 ** (bits - 1)], [most, most, 0]]


@pytest.mark.parametrize("form", FORMS)
def test_where_they_come_from(tmp_path, form):
    gan = make()
    gan.provenance = {"name": "scans", "licence": "CC BY 4.0", "fingerprint": "abc"}
    gan.save(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    for model, name in ((gan, "a"), (ACGAN.load(tmp_path / "model"), "b")):
        write_samples(model, tmp_path / name, seeds=range(3), truncation=0.7, form=form)
        facts = json.loads((tmp_path / name / "synthetic.json").read_text(encoding="utf-8"))
        assert facts["synthetic"] is True
        assert "not for diagnosis" in facts["comment"]
        assert facts["architecture"] == "acgan"
        assert facts["weights_sha256"] == saved["sha256"]
        assert facts["training_data"] == gan.provenance
        assert (facts["images"], facts["truncation"], facts["bits"]) == (3, 0.7, 8)
        if form == "dicom":
            (*_, file) = (tmp_path / name).rglob("*.dcm")
            (equipment,) = pydicom.dcmread(file).ContributingEquipmentSequence
            assert equipment.DeviceSerialNumber == saved["sha256"]
            assert "fingerprint abc, licence CC BY 4.0" in equipment.ContributionDescription


def test_dicom_is_a_data_set(tmp_path):
    write_samples(make(), tmp_path / "dicom", seeds=range(6), form="dicom")
    write_samples(make(), tmp_path / "png", seeds=range(6))
    dicom, png = (open_dataset(tmp_path / name, size=32) for name in ("dicom", "png"))
    assert dicom.spec == png.spec
    assert dicom.class_counts() == {"A": 3, "B": 3}
    torch.testing.assert_close(dicom.images_at(range(6)), png.images_at(range(6)), rtol=0, atol=0.5 / 127.5)
    assert dicom.index["patient_id"].nunique() == 6


def test_volumes_become_a_data_set_of_nifti_files(tmp_path):
    """Training volumes of 4 × 1 × 0.5 mm, resized: the samples lie in the same extent, and are read as they were."""
    rng = np.random.default_rng(0)
    for number in range(4):
        folder = tmp_path / "real" / "AB"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti1Image(rng.integers(0, 256, (32, 24, 8), np.uint8), np.diag([0.5, 1.0, 4.0, 1.0]))
        nibabel.save(image, folder / f"{number}.nii.gz")
    real = open_dataset(tmp_path / "real", size=VOLUMES.size, cache_dir=tmp_path / "cache")
    assert real.provenance()["spacing_mm"] == pytest.approx(
        [4 * 8 / 16, 1 * 24 / 16, 0.5 * 32 / 16]
    )  # depth, height, width
    gan = ACGAN(VOLUMES, preset="tiny", batch_size=2, minibatch_std=0).fit(real, steps=1, device="cpu")
    gan.save(tmp_path / "model")
    out = write_samples(ACGAN.load(tmp_path / "model"), tmp_path / "out", seeds=range(4), form="nifti", device="cpu")
    for row in table(out):
        header = nibabel.load(out / row["path"]).header
        assert row["path"].startswith(f"{row['label']}/synthetic-")
        assert header.get_zooms() == pytest.approx((1.0, 1.5, 2.0))  # width, height, depth
        assert header["descrip"].item().startswith(b"Synthetic image made by medgan (acgan)")
    again = open_dataset(out, size=VOLUMES.size, cache_dir=tmp_path / "cache")
    assert again.spec == VOLUMES
    assert again.class_counts() == {"A": 2, "B": 2}
    assert again.provenance()["spacing_mm"] == pytest.approx([2.0, 1.5, 1.0])
    seeds = [int(file.partition("-seed")[2].partition(".")[0]) for file in again.index["file"]]
    torch.testing.assert_close(again.images_at(range(4)), gan.sample(4).images[seeds], rtol=0, atol=0.5001 / 127.5)


@pytest.mark.parametrize("options", [{"fit": "pad"}, {"crop_border": True}], ids=str)
def test_no_spacing_where_the_extent_is_not_known(tmp_path, options):
    (tmp_path / "real").mkdir()
    voxels = np.random.default_rng(0).integers(0, 256, (32, 24, 8), np.uint8)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "real" / "0.nii.gz")
    dataset = open_dataset(tmp_path / "real", size=(8, 16, 16), cache_dir=tmp_path / "cache", **options)
    assert dataset.provenance()["spacing_mm"] is None
