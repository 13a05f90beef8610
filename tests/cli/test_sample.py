from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import click
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from medgan.cli.sample import parse_seeds
from medgan.core import DataSpec, LabelSpec
from medgan.data import open_dataset
from medgan.models import ACGAN

pytestmark = pytest.mark.filterwarnings("default:.*is split file by file")


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "samples.csv").read_text(encoding="utf-8").splitlines()))


def images(folder: Path) -> dict[tuple[str, int], bytes]:
    """Return the bytes of each image by label and seed."""
    rows = table(folder)
    found = {(row["label"], int(row["seed"])): (folder / row["path"]).read_bytes() for row in rows}
    assert len(found) == len(rows)
    return found


def test_which_model_of_a_run(medgan, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    gan = ACGAN.load(run / "model")
    with torch.no_grad():
        next(gan.generator.parameters()).add_(0.5)
    best = gan.save(run / "checkpoints" / "best")
    result = medgan.works("sample", "--model", run, "-n", 2, "--out", tmp_path / "best")
    assert result.stdout.splitlines()[1] == f"Model: {best}"
    medgan.works("sample", "--model", run, "--which", "latest", "-n", 2, "--out", tmp_path / "latest")
    medgan.works("sample", "--model", run / "model", "-n", 2, "--out", tmp_path / "model")
    assert images(tmp_path / "latest") == images(tmp_path / "model") != images(tmp_path / "best")


def test_class_folders(medgan, fitted, tmp_path):
    result = medgan.works("sample", "--model", fitted, "-n", 5, "--out", tmp_path / "out")
    assert result.stdout == f"5 images: {tmp_path / 'out'}\n"
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["path", "label", "seed"]
    assert [row["label"] for row in rows] == ["NORMAL", "PNEUMONIA", "NORMAL", "PNEUMONIA", "NORMAL"]
    assert [row["seed"] for row in rows] == list("01234")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {row["path"] for row in rows} | {"samples.csv", "synthetic.json"}
    for row in rows:
        assert Path(row["path"]).parts[0] == row["label"]
        with Image.open(tmp_path / "out" / row["path"]) as picture:
            assert (picture.mode, picture.size) == ("L", (32, 32))
            assert np.asarray(picture).std() > 0
            assert "Synthetic image made by medgan" in picture.text["Comment"]


def test_result_is_a_data_set(medgan, fitted, tmp_path):
    medgan.works("sample", "--model", fitted, "-n", 20, "--out", tmp_path / "out", "--grid")
    dataset = open_dataset(tmp_path / "out", size=32)
    assert dataset.spec.labels.names == ("NORMAL", "PNEUMONIA")
    assert dataset.spec.channels == 1
    assert dataset.class_counts() == {"NORMAL": 10, "PNEUMONIA": 10}
    assert dataset.ignored == {".csv": 1, ".json": 1}
    again = medgan.works(
        "fit", *medgan.small, "--data", tmp_path / "out", "--steps", 1, "--outdir", tmp_path / "runs"
    )  # fmt: skip
    assert "18 images (NORMAL 9, PNEUMONIA 9), 2 held out" in again.stdout


def test_a_seed_is_an_image(medgan, fitted, tmp_path):
    """Whatever the number of images, the order or the rest of the seeds: same label, same seed, same bytes."""
    runs = {
        "all": ("-n", 40),
        "few": ("-n", 3),
        "later": ("-n", 7, "--seed", 20),
        "list": ("--seeds", "39,4,17-21"),
        "one": ("--seeds", "5"),
    }
    whole: dict[tuple[str, int], bytes] = {}
    for label in ("NORMAL", "PNEUMONIA"):
        for name, arguments in runs.items():
            out = tmp_path / f"{name}-{label}"
            medgan.works("sample", "--model", fitted, "--label", label, "--out", out, *arguments)
            found = images(out)
            if name == "all":
                whole |= found
            assert {name for name, _ in found} == {label}
            assert found.items() <= whole.items()
    assert len(set(whole.values())) == 80
    medgan.works("sample", "--model", fitted, "-n", 33, "--out", tmp_path / "balanced")
    assert images(tmp_path / "balanced").items() <= whole.items()


def test_default_number(medgan, fitted, tmp_path):
    medgan.works("sample", "--model", fitted, "--out", tmp_path / "out")
    assert len(table(tmp_path / "out")) == 64


def test_labels_in_turn(medgan, fitted, tmp_path):
    labels = ("--label", "PNEUMONIA", "--label", "NORMAL", "--label", "PNEUMONIA")
    medgan.works("sample", "--model", fitted, "-n", 6, *labels, "--out", tmp_path / "out")
    assert [row["label"][0] for row in table(tmp_path / "out")] == list("PNPPNP")


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> Path:
    """A model of findings, as it starts."""
    data = DataSpec(1, (32, 32), LabelSpec(("Effusion", "Edema"), "multilabel"))
    return ACGAN(data, preset="tiny").save(tmp_path_factory.mktemp("models") / "findings")


def test_findings_by_value_are_read_back(medgan, findings, tmp_path):
    labels = ("--label", "Effusion=1,Edema=0", "--label", "Effusion=1,Edema=1", "--label", "Edema")
    out = tmp_path / "out"
    result = medgan.works("sample", "--model", findings, "-n", 24, *labels, "--out", out)
    assert result.stdout.endswith(f"With their labels: medgan inspect {out / 'samples.csv'}\n")
    rows = table(out)
    assert list(rows[0]) == ["path", "label:Effusion", "label:Edema", "seed"]
    assert [row["label:Effusion"] + row["label:Edema"] for row in rows[:4]] == ["10", "11", "01", "10"]
    options = ("--size", 32)
    output = medgan.works("inspect", out / "samples.csv", *options, "--out", tmp_path / "seen").stdout
    assert "Effusion 16" in output
    again = ("--preset", "tiny", "--device", "cpu", "--steps", 1, "--outdir", tmp_path / "runs")
    assert "multilabel Effusion, Edema" in medgan.works("fit", "--data", out / "samples.csv", *options, *again).stdout


def test_severity(medgan, tmp_path):
    data = DataSpec(1, (32, 32), LabelSpec(("mild", "moderate", "severe"), "ordinal"))
    model = ACGAN(data, preset="tiny").save(tmp_path / "model")
    for name, label in (("a", "severity=2"), ("b", "severe")):
        medgan.works("sample", "--model", model, "-n", 3, "--label", label, "--out", tmp_path / name)
        assert {row["label"] for row in table(tmp_path / name)} == {"severe"}
    message = medgan.fails("sample", "--model", model, "--label", "severity=3", "--out", tmp_path / "c")
    assert "mild, moderate, severe, or 0 to 2" in message
    assert not (tmp_path / "c").exists()


def test_quantities(medgan, tmp_path):
    data = DataSpec(1, (32, 32), LabelSpec(("severity",), "continuous"))
    model = ACGAN(data, preset="tiny").save(tmp_path / "model")
    out = tmp_path / "out"
    result = medgan.works("sample", "--model", model, "-n", 10, "--label", "severity=2", "--out", out)
    assert result.stdout.endswith("samples.csv --label-kind continuous\n")
    assert {row["label:severity"] for row in table(out)} == {"2"}
    options = ("--size", 32, "--label-kind", "continuous")
    assert "severity" in medgan.works("inspect", out / "samples.csv", *options, "--out", tmp_path / "seen").stdout


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("Efusion=1", ["'Efusion' is unknown", "Did you mean 'Effusion'?"]),
        ("Effusion=2", ["Effusion got '2'", "0 (absent), 1 (present)"]),
        ("Effusion=1,Edema", ["'Edema' has no value"]),
    ],
)
def test_findings_that_cannot_be(medgan, findings, tmp_path, label, parts):
    message = medgan.fails("sample", "--model", findings, "--label", label, "--out", tmp_path / "out")
    for part in parts:
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_balanced_is_the_default(medgan, fitted, tmp_path, contents):
    medgan.works("sample", "--model", fitted, "-n", 4, "--out", tmp_path / "a")
    medgan.works("sample", "--model", fitted, "-n", 4, "--label", "balanced", "--out", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_one_label_has_one_folder_with_images(medgan, fitted, tmp_path):
    """An empty class folder would not be a data set."""
    medgan.works("sample", "--model", fitted, "-n", 3, "--label", "NORMAL", "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["NORMAL", "samples.csv", "synthetic.json"]
    assert len(open_dataset(tmp_path / "out", size=32)) == 3


def test_run_and_model_are_the_same(medgan, fitted, tmp_path, contents):
    medgan.works("sample", "--model", fitted, "-n", 2, "--out", tmp_path / "a")
    medgan.works("sample", "--model", fitted / "model", "-n", 2, "--out", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_truncation(medgan, fitted, tmp_path):
    for truncation in (0, 0.5, 1):
        arguments = ("-n", 4, "--label", "NORMAL", "--truncation", truncation)
        medgan.works("sample", "--model", fitted, *arguments, "--out", tmp_path / str(truncation))
    made = {name: set(images(tmp_path / name).values()) for name in ("0", "0.5", "1")}
    assert len(made["0"]) == 1  # all are the mean
    assert len(made["0.5"]) == len(made["1"]) == 4
    assert made["0.5"].isdisjoint(made["1"])


def test_npz(medgan, fitted, tmp_path):
    options = ("--model", fitted, "-n", 19, "--seed", 3)
    medgan.works("sample", *options, "--format", "npz", "--out", tmp_path / "npz")
    medgan.works("sample", *options, "--out", tmp_path / "png")
    assert sorted(path.name for path in (tmp_path / "npz").iterdir()) == ["samples.npz", "synthetic.json"]
    with np.load(tmp_path / "npz" / "samples.npz", allow_pickle=False) as arrays:
        assert "Synthetic image made by medgan" in str(arrays["comment"])
        assert sorted(arrays.files) == ["comment", "label_kind", "label_names", "seeds", "train_images", "train_labels"]
        assert arrays["train_images"].dtype == np.uint8
        assert arrays["train_images"].shape == (19, 32, 32)
        assert arrays["train_labels"].shape == (19, 1)
        rows = table(tmp_path / "png")
        assert arrays["seeds"].tolist() == [int(row["seed"]) for row in rows] == list(range(3, 22))
        assert [str(arrays["label_names"][label]) for label in arrays["train_labels"][:, 0]] == [
            row["label"] for row in rows
        ]
        for array, row in zip(arrays["train_images"], rows, strict=True):
            with Image.open(tmp_path / "png" / row["path"]) as picture:
                assert (np.asarray(picture) == array).all()
    dataset = open_dataset(tmp_path / "npz" / "samples.npz", size=32)
    assert list(dataset.class_counts().values()) == [10, 9]


def test_dicom(medgan, fitted, tmp_path, contents):
    options = ("--model", fitted, "-n", 5)
    result = medgan.works("sample", *options, "--format", "dicom", "--out", tmp_path / "a", "--grid")
    assert f"5 images: {tmp_path / 'a'}\n" in result.stdout
    medgan.works("sample", *options, "--format", "dicom", "--bits", 8, "--out", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    medgan.works("sample", *options, "--out", tmp_path / "png")
    facts = json.loads((fitted / "model" / "model.json").read_text(encoding="utf-8"))
    rows = table(tmp_path / "a")
    assert [row["label"] for row in rows] == ["NORMAL", "PNEUMONIA", "NORMAL", "PNEUMONIA", "NORMAL"]
    for row, other in zip(rows, table(tmp_path / "png"), strict=True):
        image = pydicom.dcmread(tmp_path / "a" / row["path"])
        assert image.SyntheticData == "YES"
        (equipment,) = image.ContributingEquipmentSequence
        assert equipment.DeviceSerialNumber == facts["sha256"]
        with Image.open(tmp_path / "png" / other["path"]) as picture:
            assert (np.asarray(picture) == image.pixel_array).all()


def test_dicom_of_16_bits(medgan, fitted, tmp_path):
    for bits in (8, 16):
        out = tmp_path / str(bits)
        medgan.works("sample", "--model", fitted, "-n", 3, "--format", "dicom", "--bits", bits, "--out", out)
    for narrow, wide in zip(table(tmp_path / "8"), table(tmp_path / "16"), strict=True):
        coarse = pydicom.dcmread(tmp_path / "8" / narrow["path"])
        fine = pydicom.dcmread(tmp_path / "16" / wide["path"])
        assert (coarse.BitsStored, fine.BitsStored) == (8, 16)
        assert np.abs(fine.pixel_array / 257 - coarse.pixel_array).max() <= 0.51
        assert coarse.SOPInstanceUID != fine.SOPInstanceUID


@pytest.mark.parametrize("form", ["png", "npz"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bits_are_for_dicom(medgan, fitted, tmp_path, form, bits):
    message = medgan.fails("sample", "--model", fitted, "--format", form, "--bits", bits, "--out", tmp_path / "out")
    assert f"--bits {bits} is for DICOM files" in message
    assert "--format dicom" in message
    assert list(tmp_path.iterdir()) == []


def test_bits_that_there_are(medgan, fitted, tmp_path):
    message = medgan.fails("sample", "--model", fitted, "--format", "dicom", "--bits", 12, "--out", tmp_path / "out")
    assert "'8', '16'" in message


def test_grid(medgan, fitted, tmp_path):
    result = medgan.works("sample", "--model", fitted, "-n", 20, "--out", tmp_path / "out", "--grid")
    assert f"Overview: {tmp_path / 'out-grid.png'}" in result.stdout
    with Image.open(tmp_path / "out-grid.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[0] == 2 * 2 * 98 + 2  # ten images of each class, eight in a row
    assert pixels[:98, -98:].std() > 0
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".png"]


def test_help_says_where_the_grid_is(medgan):
    text = re.sub(r"\s+", " ", medgan.works("sample", "--help").stdout)
    assert "-grid.png" in text


def test_empty_folder_may_be_there(medgan, fitted, tmp_path):
    (tmp_path / "out").mkdir()
    medgan.works("sample", "--model", fitted, "-n", 2, "--out", tmp_path / "out")
    assert len(table(tmp_path / "out")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("0-3", [0, 1, 2, 3]),
        ("1,5,7-9", [1, 5, 7, 8, 9]),
        ("9, 2 ,2-2", [9, 2, 2]),
    ],
)
def test_parse_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "3-1", "1,,2", "1.5", "a", "1 2", "0x3"])
def test_parse_seeds_refuses(text):
    with pytest.raises(click.BadParameter, match="Type for example 0-35"):
        parse_seeds(text)


def test_nifti(medgan, tmp_path):
    """Volumes of findings: the table is a manifest of the files."""
    data = DataSpec(1, (16, 16, 16), LabelSpec(("nodule", "effusion"), "multilabel"))
    model = ACGAN(data, preset="tiny").save(tmp_path / "model")
    out = tmp_path / "out"
    medgan.works("sample", "--model", model, "-n", 3, "--label", "nodule=1", "--format", "nifti", "--out", out)
    dataset = open_dataset(out / "samples.csv", size=data.size, cache_dir=tmp_path / "cache")
    assert dataset.spec == data
    assert dataset.labels.tolist() == [[1, 0]] * 3
    assert {path.name.partition(".")[2] for path in out.glob("synthetic-*")} == {"nii.gz"}
    message = medgan.fails("sample", "--model", model, "--out", tmp_path / "png")
    assert "--format nifti" in message
