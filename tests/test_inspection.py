"""What `inspect_dataset` says of data whose every oddity is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan.data import ImageDataset, open_dataset
from medgan.inspection import inspect_dataset


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two classes; three images of one patient, one of them twice; one file that is no image, one of 16 bits."""
    rng = np.random.default_rng(0)
    root = tmp_path / "scans"
    for label, count in (("NORMAL", 3), ("PNEUMONIA", 12)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            coarse = rng.integers(0, 256, (9, 8), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC)
            image.save(root / label / f"p{number // 3}_{label}_{number}.png")
    twin = (root / "NORMAL" / "p0_NORMAL_0.png").read_bytes()
    (root / "PNEUMONIA" / "p9_PNEUMONIA_99.png").write_bytes(twin)
    deep = np.asarray(Image.open(root / "NORMAL" / "p0_NORMAL_1.png")).astype(np.uint16).T.copy() * 250
    Image.fromarray(deep).save(root / "NORMAL" / "p5_NORMAL_5.png")
    (root / "PNEUMONIA" / "p1_PNEUMONIA_bad.png").write_text("no image")
    (root / "PNEUMONIA" / "notes.txt").write_text("a file of another kind")
    return root


def test_the_facts(scans: Path, tmp_path: Path) -> None:
    dataset = open_dataset(scans, size=32, patient_regex=r"(p\d+_[A-Z]+)", max_bad=None, cache_dir=tmp_path / "cache")
    found = inspect_dataset(dataset, tmp_path / "out")
    facts = found.facts
    assert facts["images"] == 17
    assert facts["class_counts"] == {"NORMAL": 4, "PNEUMONIA": 13}
    assert facts["unusable"] == {"images": 1, "reasons": {"open: not a PNG, JPEG, TIFF or BMP image": 1}}
    assert facts["ignored"] == {".txt": 1}
    assert facts["sizes"]["width"] == {"min": 30, "median": 40, "max": 40}
    assert facts["sizes"]["aspect_ratio"] == {"min": 0.75, "max": 1.333}
    assert facts["values"]["bits"] == {"8": 16, "16": 1}
    assert facts["values"]["mode"] == {"L": 16, "I;16": 1}
    assert facts["patients"]["known"] == 7
    assert facts["patients"]["images_per_patient"] == {"mean": 2.43, "median": 3, "max": 3}
    assert facts["patients"]["share_of_images_with_siblings"] == pytest.approx(15 / 17, abs=1e-3)
    assert facts["duplicates"]["identical_copies"] == 1
    assert facts["duplicates"]["pairs_of_different_labels"] == 1
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["class_counts"] == facts["class_counts"]
    for name in ("index.csv", "quarantine.csv", "duplicates.csv", "histograms.png"):
        assert found.files[name].is_file()
    concerns = "\n".join(found.concerns)
    assert "Proportions differ (width / height from 0.75 to 1.333)" in concerns
    assert "1 pairs of (nearly) the same picture have different labels" in concerns
    assert "The largest class has 3.2 times the images of the smallest." in concerns


def test_intensities_are_counted_exactly(tmp_path: Path) -> None:
    images = np.zeros((6, 8, 8), np.uint8)
    images[:3, :4] = 255  # of the first class half is white
    images[3:, :, :2] = 51  # of the second a quarter is dark grey
    dataset = ImageDataset.from_arrays(images, [0, 0, 0, 1, 1, 1], names=["A", "B"], patient_ids=list("abcdef"))
    found = inspect_dataset(dataset, tmp_path).facts["intensities"]
    assert found["A"]["mean"] == pytest.approx(0.5)
    assert found["A"]["std"] == pytest.approx(0.5)
    assert found["A"]["histogram"][0] == found["A"]["histogram"][-1] == 0.5
    assert found["B"]["mean"] == pytest.approx(0.05)
    assert found["B"]["histogram"][12] == 0.25  # 51 / 255 = 0.2 lies in bin 12 of 64
    assert sum(found["B"]["histogram"]) == pytest.approx(1)


def test_what_dicom_headers_say_is_asked_about(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16), dtype=np.uint8)
    dataset = ImageDataset.from_arrays(images, patient_ids=["a", "a", "", "c"])
    dataset.index["presentation_intent"] = ["FOR PROCESSING", "FOR PRESENTATION", "", "FOR PROCESSING"]
    dataset.index["burned_in_annotation"] = ["NO", "YES", "", ""]
    dataset.index["view"] = ["PA", "LATERAL", "PA", "PA"]
    concerns = "\n".join(inspect_dataset(dataset, tmp_path).concerns)
    assert "2 images are raw detector data (FOR PROCESSING)" in concerns
    assert "1 images say that text is burned in" in concerns
    assert "There are several views: PA, LATERAL." in concerns
    assert "1 images are of unknown patients." in concerns


def test_data_without_a_usable_image(tmp_path: Path) -> None:
    (tmp_path / "scans" / "A").mkdir(parents=True)
    (tmp_path / "scans" / "A" / "0.png").write_text("no image")
    dataset = open_dataset(tmp_path / "scans", size=16, max_bad=None, cache_dir=tmp_path / "cache")
    found = inspect_dataset(dataset, tmp_path / "out")
    assert found.facts["images"] == 0
    assert found.facts["unusable"]["images"] == 1
    assert "quarantine.csv" in found.files
    assert not list((tmp_path / "out").glob("*.png"))
