"""Manifests and the known data sets, each on a small tree with the real names of its files and columns."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from medgan.data.config import DataConfig
from medgan.data.decoded import Reading
from medgan.data.layouts import LAYOUTS, TableSource, open_layout
from medgan.data.pairs import PAIR_LAYOUTS
from medgan.errors import ConfigError, DataError

NAN = float("nan")


def _open(path: Path, layout: str = "manifest", **options) -> TableSource:
    choices = {"labels": None, "label_kind": None, "uncertain": None, "missing": None, "view": None} | options
    return open_layout(path, layout, reading=Reading(), **choices)


def _labels(source: TableSource) -> dict[str, str]:
    return {entry.file: entry.label for entry in source.entries if entry.refused is None}


def _refused(source: TableSource) -> dict[str, str]:
    return {entry.file: entry.refused.error for entry in source.entries if entry.refused is not None}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "set"


@pytest.fixture
def draw(root: Path) -> Callable[..., None]:
    """Return a function that makes pictures of a suffix's kind under the root, each another one."""

    def make(*files: str, depth: type = np.uint8) -> None:
        for number, file in enumerate(files):
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = (np.arange(48).reshape(6, 8) * 5 + number).astype(depth)
            if path.suffix in {".dcm", ".dicom"}:
                _write_dicom(path, pixels)
            else:
                Image.fromarray(pixels).save(path)

    return make


def _write_dicom(path: Path, pixels: np.ndarray) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def table(root: Path) -> Callable[..., Path]:
    def make(text: str, name: str = "table.csv") -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_the_configuration_names_every_layout() -> None:
    choices = get_args(get_type_hints(DataConfig)["layout"])
    assert set(choices) == {"auto", "folder", "medmnist", *LAYOUTS, *PAIR_LAYOUTS}
    assert all(summary.endswith(".") for summary in (*LAYOUTS.values(), *PAIR_LAYOUTS.values()))


# ---------------------------------------------------------------------------------------------------------- manifests


def test_a_manifest(root: Path, draw, table) -> None:
    draw("scans/1.png", "scans/2.png", "3.png")
    outside = root.parent / "elsewhere.png"
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(outside)
    path = table(
        "path,label,patient_id,view,age,sex,split\n"
        "scans/1.png,NORMAL,p1,PA,61,F,train\n./scans//2.png,PNEUMONIA,p2,AP,,M,test\n"
        f"{outside},NORMAL,,PA,7,,\n3.png,PNEUMONIA,p2,AP,,M,test\n",
        "my table.csv",
    )
    source = _open(path)
    assert (source.name, source.layout, source.licence, source.ignored) == ("my-table", "manifest", None, {})
    assert (source.root, source.description) == (root, str(path))
    assert source.labels is not None
    assert (source.labels.names, source.labels.kind) == (("NORMAL", "PNEUMONIA"), "categorical")
    assert [entry.file for entry in source.entries] == ["scans/1.png", "scans/2.png", str(outside), "3.png"]
    assert [entry.label for entry in source.entries] == ["NORMAL", "PNEUMONIA", "NORMAL", "PNEUMONIA"]
    assert [entry.patient_id for entry in source.entries] == ["p1", "p2", "", "p2"]
    assert all(entry.values == () and entry.refused is None for entry in source.entries)
    assert source.entries[0].facts == {"view": "PA", "age": "61", "sex": "F", "split": "train"}
    assert source.entries[2].facts == {"view": "PA", "age": "7"}
    for position in range(4):
        (image,) = source.read(position)
        assert image.size == (6, 8)


def test_the_source_reaches_a_worker_process_and_knows_when_it_changed(root: Path, draw, table) -> None:
    draw("1.png", "2.png")

    def identity(text: str) -> str:
        return json.dumps(list(pickle.loads(pickle.dumps(_open(table(text)))).identity()))

    first = identity("path,label,patient_id,view\n1.png,A,p1,PA\n2.png,B,p2,PA\n")
    assert first == identity("path,label,patient_id,view\n1.png,A,p1,PA\n2.png,B,p2,PA\n")
    for changed in ("2.png,C,p2,PA", "2.png,B,p1,PA", "2.png,B,p2,AP", "no.png,B,p2,PA"):
        assert identity(f"path,label,patient_id,view\n1.png,A,p1,PA\n{changed}\n") != first
    draw("3.png", "2.png")
    assert identity("path,label,patient_id,view\n1.png,A,p1,PA\n2.png,B,p2,PA\n") != first


def test_bad_rows_are_refused_and_stop_nothing(root: Path, draw, table) -> None:
    draw("1.png", "2.png", "3.png", "4.png", "5.png")
    (root.parent / "outside.png").write_bytes(b"")
    source = _open(
        table(
            "path,label,patient_id\n1.png,A,p\n2.png,A,p\n./2.png,A,p\n3.png,A,p\nx/../3.png,B,p\n"
            f"4.png,B,p\n{root}/4.png,B,q\n,A,p\nno.png,A,p\n../outside.png,A,p\n5.png,B,p\n"
        )
    )
    assert _labels(source) == {"1.png": "A", "2.png": "A", "5.png": "B"}
    assert [(entry.file, entry.refused.error) for entry in source.entries if entry.refused] == [
        ("2.png", "duplicate row"),
        ("3.png", "contradictory labels: A, B"),
        ("3.png", "contradictory labels: A, B"),
        ("4.png", "contradictory patients: p, q"),
        (f"{root}/4.png", "contradictory patients: p, q"),
        ("row 8", "empty path"),
        ("no.png", "file not found"),
        ("../outside.png", f"path that leaves {root}"),
    ]
    assert {entry.refused.stage for entry in source.entries if entry.refused} == {"list"}


def test_contradictory_findings_are_named_even_where_a_policy_would_hide_them(draw, table) -> None:
    draw("1.png", "2.png")
    path = table("path,label:Edema,label:Mass,label:Rib\n1.png,1,-1,0\n1.png,-1,,0\n2.png,0,0,0\n2.png,0,0,0\n")
    source = _open(path, uncertain="drop", missing="drop")
    told = "contradictory labels: Edema 1 and Mass -1, Edema -1 and Mass missing"
    assert [(entry.file, entry.refused and entry.refused.error) for entry in source.entries] == [
        ("1.png", told),
        ("1.png", told),
        ("2.png", None),
        ("2.png", "duplicate row"),
    ]


def test_labels_to_keep_of_classes(draw, table) -> None:
    draw("1.png", "2.png", "3.png", "4.png")
    path = table("path,label\n1.png,A\n2.png,B\n3.png,C\n4.png,A\n")
    source = _open(path, labels=("C", "A"))
    assert source.labels is not None
    assert source.labels.names == ("C", "A")
    assert _labels(source) == {"1.png": "A", "3.png": "C", "4.png": "A"}
    assert source.ignored == {"rows of other labels": 1}
    with pytest.raises(DataError, match=r"There is no label of .*table\.csv called 'c'.*Known: A, B, C"):
        _open(path, labels=("A", "c"))


def test_missing_classes_can_only_be_dropped(draw, table) -> None:
    draw("1.png", "2.png", "3.png")
    path = table("path,label\n1.png,A\n2.png,\n3.png,B\n")
    with pytest.raises(DataError, match=r"1 of 3 images are missing \(label: 1\).*Type --missing drop\."):
        _open(path)
    with pytest.raises(DataError, match=r"'negative' does not fit"):
        _open(path, missing="negative")
    source = _open(path, missing="drop")
    assert _labels(source) == {"1.png": "A", "3.png": "B"}
    assert source.ignored == {"rows dropped for uncertain or missing labels": 1}


def test_ordinal_words_in_the_order_that_was_typed(draw, table) -> None:
    draw("1.png", "2.png", "3.png")
    path = table("path,label\n1.png,severe\n2.png,mild\n3.png,moderate\n")
    source = _open(path, labels=("mild", "moderate", "severe"), label_kind="ordinal")
    assert source.labels is not None
    assert (source.labels.names, source.labels.kind) == (("mild", "moderate", "severe"), "ordinal")
    assert _labels(source)["1.png"] == "severe"


def test_quantities(draw, table) -> None:
    draw("1.png", "2.png", "3.png")
    path = table("path,label\n1.png,61.5\n2.png,-1\n3.png,\n")
    with pytest.raises(DataError, match=r"Type --missing drop\|mask\."):
        _open(path)
    source = _open(path, missing="mask")
    assert source.labels is not None
    assert (source.labels.names, source.labels.kind) == (("label",), "continuous")
    np.testing.assert_array_equal([entry.values for entry in source.entries], [[61.5], [-1], [NAN]])
    assert [entry.label for entry in source.entries] == ["61.5", "-1", ""]


def test_several_findings(draw, table) -> None:
    draw("1.png", "2.png", "3.png")
    path = table("path,label:Edema,label:Mass\n1.png,1,1\n2.png,0,-1\n3.png,,0\n")
    with pytest.raises(DataError, match=r"\(Mass: 1\).*--uncertain.*\(Edema: 1\).*--missing"):
        _open(path)
    source = _open(path, uncertain="mask", missing="negative")
    assert source.labels is not None
    assert (source.labels.names, source.labels.kind) == (("Edema", "Mass"), "multilabel")
    np.testing.assert_array_equal([entry.values for entry in source.entries], [[1, 1], [0, NAN], [0, 0]])
    assert [entry.label for entry in source.entries] == ["Edema|Mass", "", ""]
    reordered = _open(path, labels=("Mass", "Edema"), uncertain="positive", missing="negative")
    np.testing.assert_array_equal([entry.values for entry in reordered.entries], [[1, 1], [1, 0], [0, 0]])


def test_a_single_finding_becomes_two_classes(draw, table) -> None:
    draw("1.png", "2.png", "3.png", "4.png")
    path = table("path,label:Edema,label:Mass\n1.png,1,1\n2.png,0,-1\n3.png,,0\n4.png,,0\n")
    source = _open(path, labels=("Mass",), uncertain="positive")
    assert source.labels is not None
    assert (source.labels.names, source.labels.kind) == (("no Mass", "Mass"), "categorical")
    assert _labels(source) == {"1.png": "Mass", "2.png": "Mass", "3.png": "no Mass", "4.png": "no Mass"}
    assert all(entry.values == () for entry in source.entries)
    assert list(_labels(_open(path, labels=("Mass",), uncertain="drop"))) == ["1.png", "3.png", "4.png"]
    with pytest.raises(DataError, match=r"'mask' does not fit.*--uncertain drop\|negative\|positive\."):
        _open(path, labels=("Mass",), uncertain="mask")


def test_images_without_labels(draw, table) -> None:
    draw("1.png")
    source = _open(table("path\n1.png\n"))
    assert source.labels is None
    assert [(entry.label, entry.values, entry.facts) for entry in source.entries] == [("", (), {})]


def test_views(draw, table) -> None:
    draw("1.png", "2.png", "3.png", "4.png")
    path = table("path,label,view\n1.png,A,PA\n2.png,B,pa\n3.png,A,AP\n4.png,C,\n")
    source = _open(path, view="Pa")
    assert list(_labels(source)) == ["1.png", "2.png"]
    assert source.labels is not None
    assert source.labels.names == ("A", "B")  # no C, of which nothing is left
    assert source.ignored == {"rows of other views": 2}
    with pytest.raises(
        DataError, match=r"no image of the view 'lateral'\. Its views: unknown: 1, AP: 1, PA: 1, pa: 1\."
    ):
        _open(path, view="lateral")
    with pytest.raises(DataError, match="does not tell the view of its images"):
        _open(table("path,label\n1.png,A\n"), view="PA")


def test_nothing_left(draw, table) -> None:
    draw("1.png")
    with pytest.raises(DataError, match=r"No images found in the dataset\..*left out"):
        _open(table("path,label:Edema,label:Mass\n1.png,-1,0\n"), uncertain="drop")


def test_layouts_that_do_not_exist(root: Path, table) -> None:
    with pytest.raises(ConfigError, match=r"layout='cheXpert' is unknown\. Did you mean 'chexpert'"):
        _open(root, "cheXpert")
    with pytest.raises(DataError, match="There is no table"):
        _open(root / "no.csv")
    with pytest.raises(DataError, match=r"There is no folder .*give the folder of the data set"):
        _open(table("path\n"), "chexpert")
    with pytest.raises(ConfigError, match="--label-kind is for manifests"):
        _open(root, "chexpert", label_kind="ordinal")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("manifest", "kermany")])
def test_a_folder_that_is_another_data_set(table, layout: str) -> None:
    with pytest.raises(DataError, match=r"holds no .*\.csv.*tables found: other\.csv"):
        _open(table("path\n", "other.csv").parent, layout)


# -------------------------------------------------------------------------------------------------------- the presets


def test_kermany(root: Path, draw) -> None:
    files = (
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0383-0001.jpeg",
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "train/PNEUMONIA/person1_virus_6.jpeg",
        "test/PNEUMONIA/person2_bacteria_4.jpeg",
        "test/NORMAL/IM-0001-0001.jpeg",
        "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
    )
    draw(*files)
    source = _open(root, "kermany")
    assert source.labels is not None
    assert source.labels.names == ("NORMAL", "PNEUMONIA")
    assert set(_labels(source)) == set(files)
    assert all(entry.label == entry.file.split("/")[1] for entry in source.entries)
    part_of = {"train": "train", "test": "test", "val": "train"}  # sixteen images are no validation
    assert all(entry.facts == {"split": part_of[entry.file.split("/")[0]]} for entry in source.entries)
    patients = {entry.file.rpartition("/")[2]: entry.patient_id for entry in source.entries}
    assert patients["person1_bacteria_1.jpeg"] == "person1_bacteria"
    assert patients["person1_virus_6.jpeg"] == "person1_virus"
    assert patients["NORMAL2-IM-0383-0001.jpeg"] == "NORMAL2-IM-0383"
    assert "CC BY 4.0" in str(source.licence)
    inner = _open(root / "train", "kermany")
    assert [entry.file for entry in inner.entries] == [file.removeprefix("train/") for file in files[:4]]
    assert inner.entries[0].facts == {}
    assert inner.read(0)[0].size == (6, 8)
    with pytest.raises(DataError, match="has no class folders"):
        _open(root / "train" / "NORMAL", "kermany")


def test_kermany_with_a_link_out_of_it(root: Path, draw) -> None:
    draw("NORMAL/IM-0115-0001.jpeg", "PNEUMONIA/person1_bacteria_1.jpeg", "../set2/x.jpeg")
    (root / "AWAY").symlink_to(root.parent / "set2")
    source = _open(root, "kermany")
    assert list(_refused(source)) == ["AWAY"]
    assert len(_labels(source)) == 2


NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,{sex},View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]{end}\n"
    "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143{end}\n"
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143{end}\n"
    "00000002_000.png,No Finding,0,2,80,F,AP,2500,2048,0.171,0.171{end}\n"
    "00000003_000.png,Hernia,0,3,81,F,PA,2582,2991,0.143,0.143{end}\n"
)


@pytest.mark.parametrize("folders", [("images", "images"), ("images_001/images", "images_012/images")])
@pytest.mark.parametrize(
    ("name", "sex", "end"),
    [("Data_Entry_2017_v2020.csv", "Patient Sex", ""), ("Data_Entry_2017.csv", "Patient Gender", ",")],
)
def test_nih(root: Path, draw, table, folders, name: str, sex: str, end: str) -> None:
    files = [f"{folders[0]}/00000001_000.png", f"{folders[1]}/00000001_001.png", f"{folders[1]}/00000002_000.png"]
    draw(*files)
    table(NIH.format(sex=sex, end=end), name)
    source = _open(root, "nih-chestxray14")
    assert source.labels is not None
    assert source.labels.names == ("Cardiomegaly", "Emphysema", "Hernia", "No Finding")
    assert source.labels.kind == "multilabel"
    assert [entry.file for entry in source.entries[:3]] == files
    assert [entry.values for entry in source.entries] == [(1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)]
    assert [entry.patient_id for entry in source.entries] == ["1", "1", "2", "3"]
    assert source.entries[0].facts == {"view": "PA", "age": "57", "sex": "M"}
    assert _refused(source) == {"images/00000003_000.png": "file not found"}
    assert "doi:10.1109/CVPR.2017.369" in str(source.citation)
    assert source.read(0)[0].size == (6, 8)
    hearts = _open(root, "nih-chestxray14", labels=("Cardiomegaly",), view="pa")
    assert list(_labels(hearts).values()) == ["Cardiomegaly", "Cardiomegaly"]
    assert [entry.label for entry in hearts.entries] == ["Cardiomegaly", "Cardiomegaly", "no Cardiomegaly"]
    with pytest.raises(DataError, match=r"called 'Cardiomegalie'\. Did you mean 'Cardiomegaly'"):
        _open(root, "nih-chestxray14", labels=("Cardiomegalie",))
    table("00000001_001.png\n00000003_000.png\n", "test_list.txt")
    splits = [entry.facts["split"] for entry in _open(root, "nih-chestxray14").entries]
    assert splits == ["train", "test", "train", "test"]


def test_nih_without_images(root: Path, table) -> None:
    table(NIH.format(sex="Patient Gender", end=""), "Data_Entry_2017_v2020.csv")
    with pytest.raises(DataError, match="has none of the folders images, images_"):
        _open(root, "nih-chestxray14")


CHEXPERT = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema\n"
STUDY = "{split}/patient{number}/study1/view{view}.jpg"


@pytest.mark.parametrize("given", [".", ".."])
@pytest.mark.parametrize("prefix", ["CheXpert-v1.0-small/", "CheXpert-v1.0/", ""])
def test_chexpert(root: Path, draw, table, given: str, prefix: str) -> None:
    folder = "CheXpert-v1.0-small"
    files = [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study2/view2_lateral.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
    ]
    draw(*(f"{folder}/{file}" for file in files))
    rows = [
        f"{prefix}{files[0]},Female,68,Frontal,AP,1.0,,",
        f"{prefix}{files[1]},Male,87,Frontal,PA,,-1.0,1.0",
        f"{prefix}{files[2]},Male,87,Lateral,,,-1.0,1.0",
    ]
    table(CHEXPERT + "\n".join(rows) + "\n", f"{folder}/train.csv")
    table(CHEXPERT + f"{prefix}{files[3]},Male,73,Frontal,AP,0.0,1.0,0.0\n", f"{folder}/valid.csv")
    place = root if given == ".." else root / folder

    with pytest.raises(DataError) as caught:
        _open(place, "chexpert")
    assert "2 of 4 images are uncertain (Cardiomegaly: 2)" in str(caught.value)
    assert "3 of 4 images are missing (No Finding: 2, Cardiomegaly: 1, Edema: 1)" in str(caught.value)

    source = _open(place, "chexpert", uncertain="mask", missing="negative")
    assert source.root == root / folder
    assert source.labels is not None
    assert source.labels.names == ("No Finding", "Cardiomegaly", "Edema")
    assert [entry.file for entry in source.entries] == files
    assert _refused(source) == {}
    values = [[1, 0, 0], [0, NAN, 1], [0, NAN, 1], [0, 1, 0]]
    np.testing.assert_array_equal([entry.values for entry in source.entries], values)
    assert [entry.patient_id for entry in source.entries] == [file.split("/")[1] for file in files]
    assert source.entries[1].facts == {"view": "PA", "age": "87", "sex": "Male", "split": "train"}
    assert [entry.facts["view"] for entry in source.entries] == ["AP", "PA", "Lateral", "AP"]
    assert source.entries[3].facts["split"] == "valid"
    assert "research use only" in str(source.licence)

    for view, count in (("frontal", 3), ("Lateral", 1), ("ap", 2)):
        assert len(_open(place, "chexpert", view=view, uncertain="mask", missing="negative").entries) == count
    with pytest.raises(DataError, match=r"Its views: AP: 2, Frontal: 3, Lateral: 1, PA: 1\."):
        _open(place, "chexpert", view="oblique")
    edema = _open(place, "chexpert", labels=("Edema",), missing="drop")
    assert list(_labels(edema).values()) == ["Edema", "Edema", "no Edema"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mimic(root: Path, draw, suffix: str) -> None:
    import gzip

    def write(name: str, text: str) -> None:
        content = text.encode()
        (root / f"mimic-cxr-2.0.0-{name}.csv{suffix}").write_bytes(gzip.compress(content) if suffix else content)

    files = ["files/p10/p10000032/s50414267/02aa804e.jpg", "files/p11/p11000001/s51000001/68b5c4b1.jpg"]
    draw(*files)
    metadata = (
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns\n"
        '02aa804e,10000032,50414267,"CHEST (PA, LAT)",PA,3056,2544\n'
        "68b5c4b1,11000001,51000001,CHEST,LATERAL,3056,2544\n"
        "77777777,11000001,59999999,CHEST,,3056,2544\n"
    )
    write("metadata", metadata)
    findings = "subject_id,study_id,Atelectasis,Edema\n11000001,51000001,-1.0,\n10000032,50414267,1.0,0.0\n"
    write("chexpert", findings)
    source = _open(root, "mimic-cxr-jpg", uncertain="positive", missing="mask")
    assert [entry.file for entry in source.entries[:2]] == files
    np.testing.assert_array_equal([entry.values for entry in source.entries[:2]], [[1, 0], [1, NAN]])
    assert [entry.patient_id for entry in source.entries] == ["10000032", "11000001", "11000001"]
    assert source.entries[0].facts == {"view": "PA"}
    unlabelled = "files/p11/p11000001/s59999999/77777777.jpg"
    assert _refused(source) == {unlabelled: f"its study is not in mimic-cxr-2.0.0-chexpert.csv{suffix}"}
    assert "data use agreement" in str(source.licence)
    write("split", "dicom_id,study_id,subject_id,split\n68b5c4b1,51000001,11000001,validate\n02aa804e,1,1,train\n")
    source = _open(root, "mimic-cxr-jpg", view="lateral", labels=("Atelectasis",), uncertain="negative")
    assert [(entry.file, entry.label) for entry in source.entries] == [(files[1], "no Atelectasis")]
    assert source.entries[0].facts == {"view": "LATERAL", "split": "validate"}
    write("chexpert", findings + "10000032,50414267,0.0,0.0\n")
    with pytest.raises(DataError, match="several rows for one study"):
        _open(root, "mimic-cxr-jpg", uncertain="positive", missing="mask")


def test_rsna(root: Path, draw, table) -> None:
    draw(*(f"stage_2_train_images/{name}.dcm" for name in "abc"))
    table("patientId,x,y,width,height,Target\na,,,,,0\nb,1,2,3,4,1\nb,5,6,7,8,1\nc,,,,,0\n", "stage_2_train_labels.csv")
    source = _open(root, "rsna-pneumonia")
    assert source.labels is not None
    assert source.labels.names == ("no Lung Opacity", "Lung Opacity")
    folder = "stage_2_train_images"
    labels = {
        f"{folder}/a.dcm": "no Lung Opacity",
        f"{folder}/b.dcm": "Lung Opacity",
        f"{folder}/c.dcm": "no Lung Opacity",
    }
    assert _labels(source) == labels
    assert _labels(_open(root, "rsna-pneumonia", labels=("Lung Opacity",))) == labels
    # The patients of table and headers are one for each image
    assert {(entry.patient_id, entry.patient_in_file) for entry in source.entries} == {("", False)}
    assert source.read(1)[0].size == (6, 8)
    with pytest.raises(DataError, match="stage_2_detailed_class_info"):
        _open(root, "rsna-pneumonia", labels=("Normal", "Lung Opacity"))
    table(
        "patientId,class\na,No Lung Opacity / Not Normal\nb,Lung Opacity\nb,Lung Opacity\nc,Normal\n",
        "stage_2_detailed_class_info.csv",
    )
    assert _labels(_open(root, "rsna-pneumonia")) == labels
    clear = _open(root, "rsna-pneumonia", labels=("Normal", "Lung Opacity"))
    assert clear.labels is not None
    assert clear.labels.names == ("Normal", "Lung Opacity")
    assert _labels(clear) == {f"{folder}/b.dcm": "Lung Opacity", f"{folder}/c.dcm": "Normal"}
    assert clear.ignored == {"rows of other labels": 1}
    normal = _open(root, "rsna-pneumonia", labels=("Normal",))
    assert list(_labels(normal).values()) == ["no Normal", "no Normal", "Normal"]
    with pytest.raises(DataError, match="does not tell the view"):
        _open(root, "rsna-pneumonia", view="PA")


def test_vindr_of_the_challenge(root: Path, draw, table) -> None:
    draw("train/a.dicom", "train/b.png")
    table(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "b,No finding,14,R1,,,,\nb,No finding,14,R2,,,,\nb,Nodule/Mass,8,R3,1,2,3,4\n"
        "a,Cardiomegaly,3,R1,1,2,3,4\na,Cardiomegaly,3,R2,1,2,3,4\na,No finding,14,R3,,,,\n"
        "a,Nodule/Mass,8,R1,1,2,3,4\na,Nodule/Mass,8,R1,5,6,7,8\nc,No finding,14,R1,,,,\n",
        "train.csv",
    )
    source = _open(root, "vindr-cxr")
    assert source.labels is not None
    assert source.labels.names == ("Cardiomegaly", "No finding", "Nodule/Mass")
    votes = {entry.file: entry.values for entry in source.entries}  # two boxes of one reader are one vote
    assert votes == {"train/b.png": (0, 1, 0), "train/a.dicom": (1, 0, 0), "train/c.dicom": (0, 1, 0)}
    assert _refused(source) == {"train/c.dicom": "file not found"}
    found = {(entry.patient_id, entry.patient_in_file, entry.facts["split"]) for entry in source.entries}
    assert found == {("", False, "train")}


@pytest.mark.parametrize("folder", ["annotations/", ""])
def test_vindr_of_physionet(root: Path, draw, table, folder: str) -> None:
    draw("train/a.dicom", "train/b.dicom", "test/c.dicom")
    readings = "a,R1,1,0,0\na,R2,1,1,0\na,R3,0,0,0\nb,R1,0,0,1\nb,R8,0,0,1\nb,R9,0,1,0\n"
    table(f"image_id,rad_id,Cardiomegaly,Other diseases,No finding\n{readings}", f"{folder}image_labels_train.csv")
    source = _open(root, "vindr-cxr")
    assert [entry.values for entry in source.entries] == [(1, 0, 0), (0, 0, 1)]
    table("image_id,Cardiomegaly,Other disease,No finding\nc,0,1,0\n", f"{folder}image_labels_test.csv")
    source = _open(root, "vindr-cxr")
    assert [(entry.file, entry.values, entry.facts["split"]) for entry in source.entries] == [
        ("train/a.dicom", (1, 0, 0), "train"),
        ("train/b.dicom", (0, 0, 1), "train"),
        ("test/c.dicom", (0, 1, 0), "test"),
    ]
    table("image_id,Cardiomegaly,No finding\nc,0,1\n", f"{folder}image_labels_test.csv")
    with pytest.raises(DataError, match=r"1 of 3 images are missing \(Other diseases: 1\)"):
        _open(root, "vindr-cxr")


@pytest.mark.parametrize("folders", [("0", "54"), ("", ""), ("images-224", "images-224")])
def test_padchest(root: Path, draw, table, folders) -> None:
    files = [re.sub("^/", "", f"{folder}/{name}.png") for folder, name in zip(folders, ("1_a", "2_b"), strict=True)]
    draw(*files, depth=np.uint16)
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    header = "ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Report,Labels"
    rows = [
        "1_a.png,0,20170124,12,839860488694292331637988235681460987,1953.0,F,PA,normal,\"['pneumonia', 'unchanged']\"",
        '2_b.png,54,20110102,13,7,,M,L,"one, two","[\'pneumonia\', \' mass\', \'\', ""a\'s b""]"',
        "3_c.png,3,20110102,13,7,1950,M,L,x,",
        "4_d.png,3,20110102,13,7,1950,M,L,x,pneumonia",
    ]
    table("\n".join([f",{header}", *(f"{number},{row}" for number, row in enumerate(rows))]), name)
    with pytest.raises(DataError, match=r"--missing drop\|negative\|mask"):
        _open(root, "padchest")
    source = _open(root, "padchest", missing="drop")
    assert list(_labels(source)) == files
    assert list(_refused(source).values()) == ["its labels are no list of words"]
    assert source.entries[0].label == "pneumonia|unchanged"
    assert source.entries[0].patient_id == "839860488694292331637988235681460987"
    assert source.entries[0].facts == {"view": "PA", "sex": "F", "age": "64"}
    assert source.entries[1].facts == {"view": "L", "sex": "M"}
    assert source.entries[1].label == "a's b|mass|pneumonia"
    assert source.read(0)[0].bits == 16
    pneumonia = _open(root, "padchest", labels=("pneumonia",), view="pa")
    assert _labels(pneumonia) == {files[0]: "pneumonia"}
    with pytest.raises(DataError, match="Did you mean 'pneumonia'"):
        _open(root, "padchest", labels=("neumonia",), missing="drop")
