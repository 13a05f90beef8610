from __future__ import annotations

import json

import pytest


@pytest.fixture
def scans(write_exposure, write_dose_sr, tmp_path):
    """Six images of three patients, one of them without a dose, and a report with a unit that is none."""
    for number in range(5):
        write_exposure(
            f"{number}.dcm",
            patient=f"P{number // 2}",
            study=f"S{number // 2}",
            IrradiationEventUID=f"1.2.{number}",
            ImageAndFluoroscopyAreaDoseProduct=str(number + 1),
        )
    write_exposure("5.dcm", patient="P2", study="S2")
    write_dose_sr("report.dcm", [("113702", [("113722", 1e-6, "Gy/m2"), ("113725", 1e-4, "Gy")])])
    (tmp_path / "scans" / "note.txt").write_text("x")
    return tmp_path / "scans"


def test_states_what_was_measured_and_what_was_published(medgan, here, scans):
    result = medgan.works(
        "dose", scans, "-n", 1000, "--exam", "chest-pa-adult",
        "--coefficient", "0.16-0.18", "--coefficient-unit", "mSv/(Gy.cm2)", "--citation", "a report, Table 5",
    )  # fmt: skip
    assert "Measured on these files" in result.stdout
    assert "5 of 6 images" in result.stdout
    assert "Acquiring 1,000 such exposures takes a dose-area product of 300 Gy·cm² in all: " in result.stdout
    assert "As effective dose that is 51 mSv summed over 1,000" in result.stdout
    assert "(a report, Table 5)" in result.stdout
    assert "Published, not measured here" in result.stdout
    assert "Avoided dose: 0." in result.stdout
    assert "Left out: report.dcm, the code 113722: " in result.stdout
    assert "'Gy/m2' is unknown" in result.stdout
    assert "P0" not in result.stdout
    folder = here / "dose-scans"
    assert {path.name for path in folder.iterdir()} == {"dose.json", "dose.html", "doses.csv", "problems.csv"}
    assert b"P0" not in b"".join(path.read_bytes() for path in folder.iterdir())
    before = (folder / "dose.json").read_bytes()
    result = medgan.works("dose", scans, "--json")
    facts = json.loads(result.stdout)
    assert "Report: dose-scans-2" in result.stderr
    assert facts == json.loads((here / "dose-scans-2" / "dose.json").read_text(encoding="utf-8"))
    assert (folder / "dose.json").read_bytes() == before
    assert facts["avoided"]["value"] == 0
    assert [each["kind"] for each in facts["equivalents"]] == ["measured"]
    assert facts["problems"][0]["item"] == "the code 113722"


def test_what_is_published_is_listed(medgan, here):
    assert "doi:10.1148/radiol.2481071451" in medgan.works("dose", "x", "--exam", "list").stdout.replace("\n", "")
    found = json.loads(medgan.works("dose", "x", "--coefficient", "list", "--json").stdout)
    assert found["exams"]["chest-pa-adult"]["typical"] == 0.02
    assert found["coefficients"]["ct-chest-adult"]["unit"] == "mSv/(mGy.cm)"
    assert not list(here.iterdir())


def test_images_that_tell_no_dose(medgan, here, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    message = medgan.fails("dose", tmp_path / "pictures")
    assert "holds no DICOM image and no dose report (other files: 1 x .png)" in message
    assert "chest-pa-adult" in message
    output = medgan.works("dose", tmp_path / "pictures", "-n", 10, "--exam", "chest-pa-adult", "--out", "o").stdout
    assert "0.07 to 0.5 mSv" in output
    assert "No file of" in output
    assert "Measured on these files" not in output


def test_a_dicom_image_without_dose_says_so(medgan, here, write_exposure, tmp_path):
    write_exposure("a.dcm")
    output = medgan.works("dose", tmp_path / "scans").stdout
    assert "No dose equivalent can be stated" in output
    assert "Avoided dose: 0." in output


def test_a_run_stands_for_its_data(medgan, here, scans):
    run = here / "run"
    (run / "data").mkdir(parents=True)
    (run / "data" / "splits.json").write_text("{}")
    (run / "config.json").write_text(json.dumps({"data": str(scans)}))
    assert "5 of 6 images" in medgan.works("dose", run).stdout
    (run / "config.json").write_text(json.dumps({"data": "phantom://chest"}))
    assert "was trained on phantom://chest, which is no folder here" in medgan.fails("dose", run)


def test_mistakes(medgan, here, scans):
    assert "There is no" in medgan.fails("dose", "nowhere")
    assert "has no unit" in medgan.fails("dose", scans, "--coefficient", "0.18")
    assert "has no source" in medgan.fails("dose", scans, "--coefficient", "0.18", "--coefficient-unit", "mSv/Gy.cm2")
    assert "there is none" in medgan.fails("dose", scans, "--citation", "a report")
    assert "no published dose" in medgan.fails("dose", scans, "--exam", "chest")
    assert "0 is not in the range" in medgan.fails("dose", scans, "-n", 0)
    assert not list(here.iterdir())
