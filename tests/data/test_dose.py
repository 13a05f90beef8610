from __future__ import annotations

import math

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.tag import Tag

from medgan.data import dose
from medgan.data.dose import QUANTITIES, UNITS, convert_dose, find_unit, read_doses
from medgan.errors import DataError


def told(readings):
    """Return what was read, by level and quantity."""
    return sorted((value.level, value.quantity, value.value) for value in readings.values)


def reasons(readings):
    return {(problem.file, problem.item): problem.reason for problem in readings.problems}


# ------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        # 1 uGy.m2 = 1 cGy.cm2 = 10 mGy.cm2 = 0.1 dGy.cm2
        (1, "uGy.m2", "cGy.cm2", 1),
        (1, "uGy.m2", "mGy.cm2", 10),
        (1, "uGy.m2", "dGy.cm2", 0.1),
        (1, "Gy.m2", "Gy.cm2", 10_000),
        (1, "dGy.cm2", "Gy.cm2", 0.1),
        (1, "mGy.m2", "Gy.cm2", 10),
        (250, "mGy.mm2", "mGy.cm2", 2.5),
        (1, "dGy", "mGy", 100),
        (1, "cGy", "mGy", 10),
        (1, "uGy", "mGy", 0.001),
        (1, "mGy.cm", "Gy.m", 1e-5),
        (3, "mGy.mm", "mGy.cm", 0.3),
        (0.02, "mSv", "uSv", 20),
    ],
)
def test_units_are_converted_exactly(value, unit, to, expected):
    assert convert_dose(value, unit, to=to) == pytest.approx(expected, rel=1e-15)
    assert convert_dose(expected, to, to=unit) == pytest.approx(value, rel=1e-15)


def test_every_unit_agrees_with_its_prefix_and_length():
    powers = {"": 0, "d": -1, "c": -2, "m": -3, "u": -6}
    lengths = {"m": 2, "cm": 0, "mm": -1}  # powers of ten of a cm
    assert len(UNITS) == 5 * (2 + 2 * 3)
    for prefix, power in powers.items():
        assert float(UNITS[f"{prefix}Gy"].factor) == pytest.approx(10.0**power)
        assert float(UNITS[f"{prefix}Sv"].factor) == pytest.approx(10.0**power)
        for name, length in lengths.items():
            assert float(UNITS[f"{prefix}Gy{name}"].factor) == pytest.approx(10.0 ** (power + length))
            assert float(UNITS[f"{prefix}Gy{name}2"].factor) == pytest.approx(10.0 ** (power + 2 * length))


@pytest.mark.parametrize("code", ["dGy.cm2", "dGycm2", "dGy*cm2", "dGy·cm²", " dGy.cm2 "])
def test_spellings_of_a_unit(code):
    assert find_unit(code) == UNITS["dGycm2"]


@pytest.mark.parametrize(
    "code", ["", "mGy/cm2", "mGy/cm", "MGy", "MGY", "gy", "m.Gy", "cm2.Gy", "rad", "mR", "Gy.cm3", "1", "mGy.cm2.s"]
)
def test_other_units_are_refused(code):
    with pytest.raises(DataError, match="unit"):
        find_unit(code)


def test_units_of_another_kind_are_refused():
    with pytest.raises(DataError, match=r"mGy is a unit of Gy, and cannot become Gy\.cm2"):
        convert_dose(1, "mGy", to="Gy.cm2")
    with pytest.raises(DataError, match="cannot become"):
        convert_dose(1, "Sv", to="Gy")


def test_codes_are_those_of_the_standard():
    names = {
        "122130": codes.DCM.DoseAreaProduct,
        "113722": codes.DCM.DoseAreaProductTotal,
        "113738": codes.DCM.DoseRP,
        "113725": codes.DCM.DoseRPTotal,
        "111631": codes.DCM.AverageGlandularDose,
        "111637": codes.DCM.AccumulatedAverageGlandularDose,
        "113830": codes.DCM.MeanCtdivol,
        "113838": codes.DCM.DLP,
        "113813": codes.DCM.CTDoseLengthProductTotal,
        "113839": codes.DCM.EffectiveDose,
    }
    assert dose._ITEMS.keys() == names.keys()
    assert all(code.value == value for value, code in names.items())
    assert codes.DCM.XRayRadiationDoseReport.value == dose._REPORT
    events = {codes.DCM.IrradiationEventXRayData.value, codes.DCM.CTAcquisition.value}
    assert events == dose._EVENTS
    assert all(quantity in QUANTITIES for quantity, _ in dose._ITEMS.values())


# ------------------------------------------------------------------------------------------ images


def test_attributes_of_images(write_exposure, tmp_path):
    write_exposure("a.dcm", patient="7", study="s", ImageAndFluoroscopyAreaDoseProduct="1.25", KVP="80")
    write_exposure("deep/b.dcm", patient="7", study="s", EntranceDoseInmGy="0.12", EntranceDose=0)
    write_exposure("c.dcm", patient="8", OrganDose="0.015", Modality="MG")
    write_exposure("d.dcm", EntranceDose=1)
    readings = read_doses(tmp_path / "scans")
    assert told(readings) == [
        ("exposure", "dose_area_product", 0.125),
        ("exposure", "entrance_dose", 0.12),
        ("exposure", "entrance_dose", 100),
        ("exposure", "organ_dose", pytest.approx(1.5)),
    ]
    first = next(value for value in readings.values if value.file == "a.dcm")
    assert (first.origin, first.given) == ("image", "1.25 dGy.cm2 (ImageAndFluoroscopyAreaDoseProduct)")
    assert first.patient.startswith("p")
    assert "7" not in {first.patient, first.exam}
    assert len(readings.images) == 4
    assert {image.patient for image in readings.images if image.exam} == {first.patient}
    # a whole number of dGy of a radiograph is 0, which measures nothing
    assert reasons(readings) == {
        ("deep/b.dcm", "EntranceDose"): "0 stands for a dose that was not recorded, or that is below the resolution "
        "of its unit"
    }


def test_a_single_file_and_progress(write_exposure):
    path = write_exposure("a.dcm", EntranceDoseInmGy="0.5")
    steps = []
    readings = read_doses(path, progress=lambda *counts: steps.append(counts))
    assert told(readings) == [("exposure", "entrance_dose", 0.5)]
    assert steps == [(1, 1)]


def test_an_exposure_counts_once(write_exposure, tmp_path):
    for name in ("raw.dcm", "shown.dcm"):  # for processing, and for presentation
        write_exposure(name, study="s", IrradiationEventUID="1.2.3", ImageAndFluoroscopyAreaDoseProduct="2")
    for number in range(5):  # slices of a CT scan
        write_exposure(
            f"ct{number}.dcm", study="t", Modality="CT", SeriesInstanceUID="1.2.9", AcquisitionNumber=1, CTDIvol=7.5
        )
    write_exposure("ct-b.dcm", study="t", Modality="CT", SeriesInstanceUID="1.2.9", AcquisitionNumber=2, CTDIvol=8.5)
    write_exposure("mpr.dcm", Modality="CT", ImageType=["DERIVED", "SECONDARY", "MPR"], CTDIvol=7.5)
    readings = read_doses(tmp_path / "scans")
    assert told(readings) == [
        ("exposure", "ctdi_vol", 7.5),
        ("exposure", "ctdi_vol", 8.5),
        ("exposure", "dose_area_product", 0.2),
    ]
    assert readings.others == {"image made from others, whose dose it would repeat": 1}
    assert not readings.problems


def test_contradictions_are_named_and_left_out(write_exposure, tmp_path):
    write_exposure("a.dcm", study="s", IrradiationEventUID="1.2.3", ImageAndFluoroscopyAreaDoseProduct="2")
    write_exposure("b.dcm", study="s", IrradiationEventUID="1.2.3", ImageAndFluoroscopyAreaDoseProduct="3")
    write_exposure("c.dcm", EntranceDoseInmGy="0.3", EntranceDose=5)
    readings = read_doses(tmp_path / "scans")
    assert readings.values == ()
    assert "3 dGy.cm2 (ImageAndFluoroscopyAreaDoseProduct) in b.dcm is said" in str(reasons(readings))
    assert "contradict each other" in reasons(readings)["c.dcm", "EntranceDose"]


def test_enhanced_images_and_phantoms(write_exposure, tmp_path):
    def group(**elements: object) -> Dataset:
        item, exposure = Dataset(), Dataset()
        for keyword, value in elements.items():
            setattr(exposure, keyword, value)
        item.CTExposureSequence = [exposure]
        return item

    head, body = Dataset(), Dataset()
    head.CodeValue, head.CodingSchemeDesignator, head.CodeMeaning = "113690", "DCM", "IEC Head Dosimetry Phantom"
    body.CodeValue, body.CodingSchemeDesignator, body.CodeMeaning = "113691", "DCM", "IEC Body Dosimetry Phantom"
    write_exposure("a.dcm", Modality="CT", SharedFunctionalGroupsSequence=[group(CTDIvol=5.0,
                   CTDIPhantomTypeCodeSequence=[body])])  # fmt: skip
    write_exposure("b.dcm", Modality="CT", PerFrameFunctionalGroupsSequence=[group(CTDIvol=5.0), group(CTDIvol=6.0)])
    write_exposure("c.dcm", Modality="CT", CTDIvol=40.0, CTDIPhantomTypeCodeSequence=[head])
    readings = read_doses(tmp_path / "scans")
    assert {(value.file, value.value, value.phantom) for value in readings.values} == {
        ("a.dcm", 5, "32 cm body phantom"),
        ("c.dcm", 40, "16 cm head phantom"),
    }
    assert reasons(readings) == {("b.dcm", "CTDIvol"): "2 different values in one image, 5 to 6"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-1", "not negative"),
        ("0", "not recorded"),
        (["1", "2"], "several values"),
        ("9999999", "1e+06 Gy.cm2 is more than any exposure gives"),
    ],
)
def test_values_that_are_no_dose(write_exposure, tmp_path, value, reason):
    write_exposure("a.dcm", ImageAndFluoroscopyAreaDoseProduct=value)
    readings = read_doses(tmp_path / "scans")
    assert readings.values == ()
    (problem,) = readings.problems
    assert (problem.file, problem.item) == ("a.dcm", "ImageAndFluoroscopyAreaDoseProduct")
    assert reason in problem.reason


@pytest.mark.parametrize("raw", [b"abc ", b"1,5 ", b"NaN ", b"1e999 ", b"0.5 mGy "])
def test_text_in_the_place_of_a_number(write_exposure, tmp_path, raw):
    path = write_exposure("a.dcm", EntranceDoseInmGy="0.5")
    dataset = dcmread(path)
    tag = Tag("EntranceDoseInmGy")
    dataset._dict[tag] = RawDataElement(tag, "DS", len(raw), raw, 0, False, True)
    dataset.save_as(path)
    readings = read_doses(tmp_path / "scans")
    assert readings.values == ()
    (problem,) = readings.problems
    assert problem.item == "EntranceDoseInmGy"
    assert "number" in problem.reason


def test_empty_attributes_are_absent(write_exposure, tmp_path):
    write_exposure("a.dcm", EntranceDoseInmGy=None, ImageAndFluoroscopyAreaDoseProduct="")
    readings = read_doses(tmp_path / "scans")
    assert (readings.values, readings.problems, len(readings.images)) == ((), (), 1)


# ----------------------------------------------------------------------------------------- reports

EVENTS = [
    ("113706", [("113769", "1.2.3.1"), ("122130", 2e-6, "Gy.m2"), ("113738", 1.5e-3, "Gy")]),
    ("113706", [("113769", "1.2.3.2"), ("122130", 40, "mGy.cm2")]),
]
CT = [
    ("113811", [("113813", 412.5, "mGycm")]),
    ("113819", [("113769", "1.2.5.1"), ("113829", [("113830", 8.25, "mGy"), ("113835", "113691"),
     ("113838", 400, "mGy.cm"), ("113839", 5.6, "mSv")])]),
]  # fmt: skip


def test_report_of_projections(write_dose_sr, tmp_path):
    totals = ("113702", [("113722", 2.4e-6, "Gy.m2"), ("113725", 0.0015, "Gy"), ("113726", 1e-6, "Gy.m2")])
    write_dose_sr("r.dcm", [totals, *EVENTS], patient="7", scope="study")
    readings = read_doses(tmp_path / "scans")
    assert told(readings) == [
        ("exam", "dose_area_product", pytest.approx(0.024)),
        ("exam", "reference_point_dose", 1.5),
        ("exposure", "dose_area_product", pytest.approx(0.02)),
        ("exposure", "dose_area_product", pytest.approx(0.04)),
        ("exposure", "reference_point_dose", 1.5),
    ]
    assert {value.origin for value in readings.values} == {"report"}
    assert (readings.reports, readings.images, readings.problems) == (1, (), ())


def test_report_of_ct(write_dose_sr, tmp_path):
    write_dose_sr("ct.dcm", CT)
    readings = read_doses(tmp_path / "scans")
    assert {(value.level, value.quantity, value.value, value.phantom) for value in readings.values} == {
        ("exam", "dose_length_product", 412.5, ""),
        ("exposure", "ctdi_vol", 8.25, "32 cm body phantom"),
        ("exposure", "dose_length_product", 400, "32 cm body phantom"),
        ("exposure", "effective_dose", 5.6, "32 cm body phantom"),
    }


def test_report_of_mammography(write_dose_sr, tmp_path):
    totals = [("111637", 0.02, "dGy", ("G-C171", "right")), ("111637", 0.03, "dGy", ("G-C171", "left"))]
    write_dose_sr("mg.dcm", [("113702", totals), ("113706", [("113769", "1.2.1"), ("111631", 0.01, "dGy")])])
    readings = read_doses(tmp_path / "scans")
    assert {(value.level, value.part, round(value.value, 9)) for value in readings.values} == {
        ("exam", "right", 2),
        ("exam", "left", 3),
        ("exposure", "", 1),
    }


def test_planes_are_added_and_ambiguous_totals_are_left_out(write_dose_sr, tmp_path):
    planes = [("113702", [("113764", name), ("113722", value, "Gy.m2")]) for name, value in (("A", 1e-4), ("B", 2e-4))]
    write_dose_sr("planes.dcm", planes)
    write_dose_sr("twice.dcm", [("113702", [("113722", 1e-4, "Gy.m2")]), ("113702", [("113722", 2e-4, "Gy.m2")])])
    readings = read_doses(tmp_path / "scans")
    (value,) = readings.values
    assert (value.file, value.value, value.given) == ("planes.dcm", pytest.approx(3), "1 Gy.cm2 + 2 Gy.cm2")
    assert "which of them counts is not said" in reasons(readings)["twice.dcm", "total dose-area product"]


@pytest.mark.parametrize(
    ("item", "given", "reason"),
    [
        (("122130", "3", None), "3", "no unit"),
        (("122130", None, "Gy.m2"), "no number Gy.m2", "no number"),
        (("122130", "3", "mGy/cm2"), "3 mGy/cm2", "'mGy/cm2' is unknown"),
        (("122130", "3", "mGy"), "3 mGy", "cannot become Gy.cm2"),
        (("122130", "3", "mR"), "3 mR", "unknown"),
        (("122130", "3", "99MAKER:Gy.m2"), "3 Gy.m2", "coding scheme 99MAKER"),
        (("122130", "3", "Gy.m2"), "3 Gy.m2", "30000 Gy.cm2 is more than any exposure gives"),
        (("122130", "-3", "Gy.m2"), "-3 Gy.m2", "not negative"),
        (("113838", "0", "mGy.cm"), "0 mGy.cm", "not recorded"),
    ],
)
def test_odd_and_absent_units_are_named(write_dose_sr, tmp_path, item, given, reason):
    write_dose_sr("r.dcm", [("113706", [("113769", "1.2.3.9"), item])])
    readings = read_doses(tmp_path / "scans")
    assert readings.values == ()
    (problem,) = readings.problems
    assert (problem.file, problem.given) == ("r.dcm", given)
    assert reason in problem.reason


def test_events_count_once_and_later_reports_replace_earlier_ones(write_dose_sr, tmp_path):
    write_dose_sr("early.dcm", [("113702", [("113722", 1e-6, "Gy.m2")]), EVENTS[0]], scope="s", study="s", time="0900")
    write_dose_sr("late.dcm", [("113702", [("113722", 3e-6, "Gy.m2")]), *EVENTS], scope="s", study="s", time="1000")
    write_dose_sr("nameless.dcm", [("113706", [("122130", 4e-6, "Gy.m2")])])
    readings = read_doses(tmp_path / "scans")
    products = [value for value in told(readings) if value[1] == "dose_area_product"]
    assert products == [
        ("exam", "dose_area_product", pytest.approx(0.03)),
        ("exposure", "dose_area_product", pytest.approx(0.02)),
        ("exposure", "dose_area_product", pytest.approx(0.04)),
    ]
    assert reasons(readings)["early.dcm", "dose_area_product"] == "late.dcm reports the same examination later"
    assert "no Irradiation Event UID" in reasons(readings)["nameless.dcm", "the code 122130"]


def test_other_reports_and_files_are_counted(write_dose_sr, tmp_path):
    write_dose_sr("r.dcm", EVENTS, root="113500")  # radiopharmaceuticals: activities, no doses
    (tmp_path / "scans" / "note.txt").write_text("x")
    (tmp_path / "scans" / ".hidden.dcm").write_text("x")
    readings = read_doses(tmp_path / "scans")
    assert readings.others == {".txt": 1, "X-Ray Radiation Dose SR Storage": 1}
    assert (readings.values, readings.problems, readings.reports) == ((), (), 0)


def test_codes_of_other_schemes_mean_something_else(write_dose_sr, tmp_path):
    path = write_dose_sr("r.dcm", EVENTS)
    dataset = dcmread(path)
    for event in dataset.ContentSequence:
        for item in event.ContentSequence:
            item.ConceptNameCodeSequence[0].CodingSchemeDesignator = "99MAKER"
    dataset.save_as(path)
    readings = read_doses(tmp_path / "scans")
    assert (readings.values, readings.problems) == ((), ())


# --------------------------------------------------------------------------------------- bad files


def test_damaged_files_and_links_are_named(write_exposure, write_dose_sr, tmp_path):
    good = write_exposure("a.dcm", EntranceDoseInmGy="0.5")
    report = write_dose_sr("r.dcm", EVENTS)
    report.write_bytes(report.read_bytes()[:-40])
    outside = tmp_path / "outside.dcm"
    outside.write_bytes(good.read_bytes())
    (tmp_path / "scans" / "link.dcm").symlink_to(outside)
    readings = read_doses(tmp_path / "scans")
    assert [value.file for value in readings.values if value.origin == "image"] == ["a.dcm"]
    assert reasons(readings)["link.dcm", ""] == "a link that leaves the folder"
    # what is cut off of a report is not made up for
    assert {value.value for value in readings.values if value.origin == "report"} <= {0.02, 1.5}
    assert all(math.isfinite(value.value) for value in readings.values)


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no"):
        read_doses(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no file"):
        read_doses(tmp_path)
