"""What counts as an image of a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from medgan.data.decoded import Reading
from medgan.data.sources import list_folder
from medgan.errors import DataError


def _files(root: Path) -> list[str]:
    return [entry.file for entry in list_folder(root.resolve(), "name", Reading()).entries if entry.refused is None]


def test_classes_are_the_top_folders_and_images_lie_at_any_depth(make_folder) -> None:
    root = make_folder(B=2, A=1)  # B is made first, and A's file is patient 1's
    (root / "A" / "2019" / "deep").mkdir(parents=True)
    (root / "A" / "patient1_0.png").rename(root / "A" / "2019" / "deep" / "x.png")
    found = list_folder(root.resolve(), "name", Reading())
    assert found.labels is not None
    assert found.labels.names == ("A", "B")
    assert [(entry.file, entry.label) for entry in found.entries] == [
        ("A/2019/deep/x.png", "A"),
        ("B/patient0_0.png", "B"),
        ("B/patient0_1.png", "B"),
    ]


def test_images_right_under_the_root_have_no_labels(make_folder) -> None:
    found = list_folder((make_folder(A=3) / "A").resolve(), "name", Reading())
    assert found.labels is None
    assert len(found.entries) == 3


def test_images_at_both_levels_are_refused(make_folder) -> None:
    root = make_folder(A=2, B=2)
    (root / "A" / "patient0_0.png").rename(root / "stray.png")
    with pytest.raises(DataError, match=r"1 images beside the class folders A, B.*stray\.png"):
        list_folder(root.resolve(), "name", Reading())


def test_hidden_files_are_skipped_and_others_counted(make_folder) -> None:
    root = make_folder(A=2)
    for name in (".hidden.png", "._patient0_0.png", "Thumbs.db"):
        (root / "A" / name).write_bytes(b"x")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        (root / "A" / folder).mkdir()
        (root / folder).mkdir()
        for parent in (root / "A" / folder, root / folder):
            (parent / "copy.png").write_bytes((root / "A" / "patient0_0.png").read_bytes())
    (root / "A" / "notes.txt").write_text("x")
    (root / "A" / "scan.doc").write_text("x")
    (root / "LICENSE").write_text("x")
    assert _files(root) == ["A/patient0_0.png", "A/patient0_1.png"]
    assert list_folder(root.resolve(), "name", Reading()).ignored == {".txt": 1, ".doc": 1, "": 1}


def test_files_without_extension_are_recognised_by_content(make_folder) -> None:
    root = make_folder(A=1)
    (root / "A" / "patient0_0.png").rename(root / "A" / "IM000001")
    (root / "A" / "README").write_text("x")
    assert _files(root) == ["A/IM000001"]


def test_dicom_files_called_by_their_uids_are_recognised_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "A"
    folder.mkdir()
    for name in ("1.2.840.113619.2.55.3", "CT.1.2.840.113619.2.55.41"):
        (folder / name).write_bytes(bytes(128) + b"DICM")
    (folder / "notes.2").write_text("x")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")  # the index of a medium
    assert _files(tmp_path) == ["A/1.2.840.113619.2.55.3", "A/CT.1.2.840.113619.2.55.41"]
    assert list_folder(tmp_path.resolve(), "name", Reading()).ignored == {".2": 1}
    series = list_folder(tmp_path.resolve(), "name", Reading(slices="axial"))
    assert [(entry.file, entry.label) for entry in series.entries] == [("A", "A")]


def test_links(make_folder, tmp_path: Path) -> None:
    root = make_folder(A=2, B=1)
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("L", (4, 4)).save(outside / "x.png")
    (root / "A" / "inside.png").symlink_to(root / "B" / "patient1_0.png")
    (root / "A" / "leaves.png").symlink_to(outside / "x.png")
    (root / "A" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (root / "A" / "loop").symlink_to(root)
    (root / "A" / "away").symlink_to(outside)
    (root / "C").symlink_to(outside)
    found = list_folder(root.resolve(), "name", Reading())
    refused = {entry.file: entry.refused.error for entry in found.entries if entry.refused}
    assert "A/inside.png" in _files(root)
    assert sorted(refused) == ["A/away", "A/broken.png", "A/leaves.png", "A/loop", "C"]
    assert "count twice" in refused["A/loop"]
    assert all("leaves the data set" in refused[name] for name in ("A/away", "A/leaves.png", "C"))
    assert "without a target" in refused["A/broken.png"]


def test_links_among_the_slices_of_a_series(tmp_path: Path) -> None:
    root, outside = tmp_path / "scans", tmp_path / "outside"
    names = [f"{number}.dcm" for number in range(3)]
    for folder in (outside, *(root / "A" / name for name in ("whole", "inside", "leaves", "broken", "one"))):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(bytes(200))
    for folder, target in (("inside", root / "A" / "whole"), ("leaves", outside), ("broken", tmp_path / "nowhere")):
        (root / "A" / folder / names[1]).unlink()
        (root / "A" / folder / names[1]).symlink_to(target / names[1])
    for name in names:
        (root / "A" / "one" / name).unlink()
    (root / "A" / "one" / names[0]).symlink_to(outside / names[0])
    found = list_folder(root.resolve(), "name", Reading(slices="axial"))
    refused = {entry.file: entry.refused and entry.refused.error for entry in found.entries}
    away = f"link that leaves the data set, to {outside.resolve()}"
    assert refused == {
        "A/broken": "1.dcm: link without a target",
        "A/inside": None,
        "A/leaves": f"1.dcm: {away}/1.dcm",
        "A/one/0.dcm": f"0.dcm: {away}/0.dcm",
        "A/whole": None,
    }


def test_no_images_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list_folder(tmp_path.resolve(), "name", Reading())
    message = str(caught.value)
    assert "No images found in the dataset." in message
    assert str(tmp_path) in message
    assert "DATA/NORMAL/1.png" in message
    (tmp_path / "scan.doc").write_text("x")
    with pytest.raises(DataError, match=r"No images found in the dataset\..*1 x \.doc.*DICOM"):
        list_folder(tmp_path.resolve(), "name", Reading())
    for number in range(10, 30):
        (tmp_path / f"run.{number}").touch()
    with pytest.raises(DataError, match=r"1 x \.10, .* 1 x \.19 and 11 more kinds\)"):
        list_folder(tmp_path.resolve(), "name", Reading())


def test_splits_are_not_classes(make_folder, tmp_path: Path) -> None:
    root = make_folder(train=1, val=1, test=1)
    with pytest.raises(DataError, match=r"are splits.*Give one of them: .*train"):
        list_folder(root.resolve(), "name", Reading())


def test_splits_beside_other_folders_are_not_classes(make_folder) -> None:
    root = make_folder(annotations=1, Train=1, Test=1)
    with pytest.raises(DataError, match=r"are splits \(Test, Train\), not classes.*Give one of them: .*Train"):
        list_folder(root.resolve(), "name", Reading())
    (root / "Test").rename(root / "NORMAL")  # a single one may be called so
    assert len(_files(root)) == 3


def test_what_medgan_wrote_beside_the_classes_is_none(make_folder) -> None:
    root = make_folder(A=2, B=1)
    for folder in ("samples", "runs/1/samples", "inspection-scans", "A/runs/2/samples"):
        (root / folder).mkdir(parents=True)
        (root / folder / "grid.png").write_bytes((root / "B" / "patient1_0.png").read_bytes())
    (root / "samples" / "synthetic.json").write_text("{}")
    (root / "inspection-scans" / "inspection.json").write_text("{}")
    for run in (root / "runs" / "1", root / "A" / "runs" / "2"):
        (run / "data").mkdir()
        (run / "data" / "splits.json").write_text("{}")
        (run / "config.json").write_text("{}")
    (root / "C").mkdir()  # an empty class is said elsewhere
    found = list_folder(root.resolve(), "name", Reading())
    assert found.labels is not None
    assert found.labels.names == ("A", "B", "C")
    assert len(found.entries) == 3
    assert found.ignored == {"folders that medgan wrote": 4}
    assert _files(root / "samples") == ["grid.png"]  # asked for


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_class_whose_name_is_not_utf8(make_folder) -> None:
    root = make_folder(A=1, B=1)
    (root / "B").rename(os.fsdecode(os.fsencode(root) + b"/K\xf6ln"))
    with pytest.raises(DataError, match=r"class folder 'K\\udcf6ln' of .* is not UTF-8.*Rename it"):
        list_folder(root.resolve(), "name", Reading())


def test_a_series_is_one_entry_where_volumes_are_wanted(tmp_path: Path) -> None:
    for folder, count in (("A/patient1/ct", 3), ("A/patient2/ct", 2), ("B/patient3", 1)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            (tmp_path / folder / f"{number}.dcm").touch()
    (tmp_path / "B" / "scan.nii.gz").touch()
    (tmp_path / "B" / "no-suffix").write_bytes(bytes(128) + b"DICM")
    pictures = list_folder(tmp_path.resolve(), "name", Reading())
    assert len(pictures.entries) == 8
    for reading in (Reading(volumes=True), Reading(slices="axial")):
        found = list_folder(tmp_path.resolve(), "name", reading)
        assert [(entry.file, entry.label) for entry in found.entries] == [
            ("A/patient1/ct", "A"),
            ("A/patient2/ct", "A"),
            ("B/patient3/0.dcm", "B"),
            ("B/scan.nii.gz", "B"),
            ("B/no-suffix", "B"),
        ]


def test_a_changed_slice_is_another_source(tmp_path: Path) -> None:
    (tmp_path / "A" / "ct").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "A" / "ct" / f"{number}.dcm").write_bytes(b"x")
    before = list(list_folder(tmp_path.resolve(), "name", Reading(volumes=True)).identity())
    assert before == list(list_folder(tmp_path.resolve(), "name", Reading(volumes=True)).identity())
    (tmp_path / "A" / "ct" / "1.dcm").write_bytes(b"xy")
    assert before != list(list_folder(tmp_path.resolve(), "name", Reading(volumes=True)).identity())


def test_a_plain_folder_is_known_by_its_files_alone(make_folder) -> None:
    """Its paths say all there is, so that nothing else makes another store of it."""
    root = make_folder(A=2, B=1)
    assert [value[0] for value in list_folder(root.resolve(), "name", Reading()).identity()] == [
        "folder",
        "A/patient0_0.png",
        "A/patient0_1.png",
        "B/patient1_0.png",
    ]
    flat = list(list_folder((root / "A").resolve(), "name", Reading()).identity())
    assert [value[0] for value in flat] == ["folder", "patient0_0.png", "patient0_1.png"]


def test_some_of_the_classes(make_folder) -> None:
    found = list_folder(make_folder(A=2, B=3, C=1).resolve(), "name", Reading())
    some = found.with_labels(["C", "A"])
    assert some.labels is not None
    assert some.labels.names == ("C", "A")
    assert [entry.label for entry in some.entries] == ["A", "A", "C"]
    with pytest.raises(DataError, match=r"no class folder 'D'.*Known: A, B, C"):
        found.with_labels(["D"])


def test_changed_voxels_beside_a_header_are_another_source(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "scan.mhd").write_text("ObjectType = Image\nNDims = 3\nElementDataFile = scan.raw\n")
    (tmp_path / "A" / "scan.raw").write_bytes(b"voxels")
    before = list(list_folder(tmp_path.resolve(), "name", Reading(volumes=True)).identity())
    assert before == list(list_folder(tmp_path.resolve(), "name", Reading(volumes=True)).identity())
    (tmp_path / "A" / "scan.raw").write_bytes(b"other voxels")
    assert before != list(list_folder(tmp_path.resolve(), "name", Reading(volumes=True)).identity())
