from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from medgan.data.dose import QUANTITIES, DoseProblem, DoseReadings, DoseValue, ExposureImage
from medgan.dose import (
    AVOIDED,
    COEFFICIENTS,
    NOT_FOR_INDIVIDUALS,
    PUBLISHED,
    make_coefficient,
    state_dose,
    summarise_doses,
    write_dose_report,
)
from medgan.errors import ConfigError

DOSES = [0.1, 0.2, 0.3, 0.4, 0.5]


def image(number, patient="", exam=""):
    return ExposureImage(f"{number}.dcm", f"x{number}", exam, patient, True)


def value(number, dose, patient="", exam="", quantity="dose_area_product", **more):
    known = {"file": f"{number}.dcm", "origin": "image", "level": "exposure", "given": "as it was"} | more
    return DoseValue(quantity=quantity, value=dose, exposure=f"x{number}", exam=exam, patient=patient, **known)


def readings(values=(), images=(), reports=0, problems=(), others=None):
    return DoseReadings("scans", tuple(values), tuple(problems), tuple(images), reports, others or {})


@pytest.fixture
def five():
    """Five exposures of two patients, in three exams."""
    who = [("p1", "e1"), ("p1", "e1"), ("p1", "e2"), ("p2", "e3"), ("p2", "e3")]
    return readings(
        [value(number, dose, *who[number]) for number, dose in enumerate(DOSES)],
        [image(number, *who[number]) for number in range(5)],
    )


# ----------------------------------------------------------------------------------------- summaries


def test_doses_are_summarised_by_exposure_exam_and_patient(five):
    exposures, exams, patients = summarise_doses(five)
    assert [summary.of for summary in (exposures, exams, patients)] == ["exposure", "exam", "patient"]
    assert (exposures.number, exposures.files, exposures.files_in_all, exposures.patients) == (5, 5, 5, 2)
    assert exposures.median == 0.3
    assert [exposures.lower_quartile, exposures.upper_quartile] == np.percentile(DOSES, [25, 75]).tolist()
    assert (exposures.lowest, exposures.highest, exposures.mean) == (0.1, 0.5, pytest.approx(0.3))
    assert (exams.number, exams.how) == (3, "sum of its exposures")
    assert exams.highest == pytest.approx(0.9)
    assert (patients.number, patients.lowest, patients.highest) == (2, pytest.approx(0.6), pytest.approx(0.9))


def test_incomplete_exams_are_left_out_of_sums(five):
    """A sum without one of its exposures is too small."""
    more = replace(five, images=(*five.images, image(9, "p2", "e3")))
    exposures, exams, patients = summarise_doses(more)
    assert (exposures.files, exposures.files_in_all) == (5, 6)
    assert (exams.number, exams.left_out, patients.number, patients.left_out) == (2, 1, 1, 1)
    assert any("left out of the sums" in note for note in state_dose(more).notes)


def test_reports_of_which_something_was_left_out_are_in_no_sum(five):
    values = tuple(replace(each, origin="report") for each in five.values)
    lost = DoseProblem("9.dcm", "DLP", "3", "no unit", exam="e1", patient="p1")
    told_elsewhere = DoseProblem("4.dcm", "DLP", "3", "reported later", repeated=True, patient="p2")
    found = replace(five, values=values, images=(), reports=5, problems=(lost, told_elsewhere))
    _, exams, patients = summarise_doses(found)
    assert (exams.number, exams.left_out) == (2, 1)
    assert (patients.number, patients.left_out, patients.median) == (1, 1, pytest.approx(0.9))


def test_doses_at_a_place_are_averaged_and_never_multiplied(five):
    values = [replace(each, quantity="entrance_dose") for each in five.values]
    statement = state_dose(replace(five, values=tuple(values)))
    assert [(summary.of, summary.how) for summary in statement.measured] == [
        ("exposure", "as recorded"),
        ("exam", "mean of its exposures"),
        ("patient", "mean of its exposures"),
    ]
    assert statement.measured[2].highest == pytest.approx(0.45)
    assert statement.equivalents == ()
    assert any("Not multiplied by the number of images: entrance dose" in note for note in statement.notes)


def test_phantoms_and_origins_are_kept_apart(five):
    ct = [
        replace(five.values[0], quantity="ctdi_vol", phantom="16 cm head phantom"),
        replace(five.values[1], quantity="ctdi_vol", phantom="32 cm body phantom"),
    ]
    total = replace(five.values[0], origin="report", level="exam", exposure="", value=7.0)
    summaries = summarise_doses(replace(five, values=(*five.values, *ct, total), reports=1))
    titles = {summary.title for summary in summaries if summary.quantity == "ctdi_vol"}
    assert titles == {"CTDIvol (16 cm head phantom)", "CTDIvol (32 cm body phantom)"}
    (report,) = (summary for summary in summaries if summary.origin == "report")
    assert (report.of, report.how, report.median, report.files_in_all) == ("exam", "total of the report", 7, 1)


# ---------------------------------------------------------------------------------------- statements


def test_measured_doses_of_a_number_of_images(five):
    statement = state_dose(five, images=1000)
    (found,) = statement.equivalents
    assert (found.kind, found.unit) == ("measured", "Gy.cm2")
    assert (found.low, found.expected, found.high) == (
        pytest.approx(200),  # p1 drawn twice
        pytest.approx(300),
        pytest.approx(450),  # p2 drawn twice
    )
    assert "takes a dose-area product of 300 Gy·cm² in all: 1,000 times the mean of 5 exposures" in found.sentence
    assert "95 % interval 200 to 450 Gy·cm²; a single one takes 0.2 to 0.4 Gy·cm², the middle half" in found.sentence
    assert NOT_FOR_INDIVIDUALS not in statement.notes


def test_a_total_of_skewed_doses_is_that_of_the_mean():
    values = [value(number, 20 if number == 6 else 1) for number in range(7)]
    found = state_dose(readings(values, [image(number) for number in range(7)]), images=1000).equivalents[0]
    assert found.expected == pytest.approx(26_000 / 7)
    assert found.low == pytest.approx(1000)
    assert found.low < found.expected < found.high < 20_000
    again = state_dose(readings(values[::-1], [image(number) for number in range(7)]), images=1000).equivalents[0]
    assert (again.low, again.high) == pytest.approx((found.low, found.high))


def test_avoided_dose_is_always_0(five):
    for statement in (state_dose(five), state_dose(readings()), state_dose(readings(), exam="ct-chest-adult")):
        assert statement.avoided == {"value": 0, "unless": AVOIDED}
        assert "would otherwise have been made" in statement.to_dict()["avoided"]["unless"]


def test_coefficients_of_the_user_need_a_unit_and_a_source(five):
    coefficient = make_coefficient("0.16-0.18", "mSv/(Gy.cm2)", "a report, Table 5")
    measured, found = state_dose(five, images=10, coefficient=coefficient).equivalents
    assert (measured.kind, found.kind, found.unit) == ("measured", "converted", "mSv")
    assert (found.low, found.high) == (pytest.approx(10 * 0.2 * 0.16), pytest.approx(10 * 0.45 * 0.18))
    assert "0.16 to 0.18 mSv/(Gy·cm²) (a report, Table 5)" in found.source
    assert NOT_FOR_INDIVIDUALS in state_dose(five, coefficient=coefficient).notes
    for unit, source, message in (
        (None, "a report", "has no unit"),
        ("mSv/(Gy.cm2)", None, "has no source"),
        ("mSv/(Gy.cm2)", "?", "has no source"),
        ("mSv/mGy", "a report", "cannot be told apart"),
        ("Gy/(Gy.cm2)", "a report", "no effective dose"),
        ("mSv/(mGy/cm2)", "a report", "unknown"),
        ("mSv", "a report", "No unit is given"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_coefficient("0.18", unit, source)


def test_units_of_coefficients_are_converted(five):
    same = [
        make_coefficient("0.2", "mSv/(Gy.cm2)", "a report"),
        make_coefficient("0.0002", "Sv/(Gy.cm2)", "a report"),
        make_coefficient("0.0002", "mSv / (mGy.cm2)", "a report"),
        make_coefficient("2", "mSv/(mGy.m2)", "a report"),
        make_coefficient("0.02", "mSv/(dGycm2)", "a report"),
    ]
    highs = [state_dose(five, images=1, coefficient=each).equivalents[1].high for each in same]
    assert highs == pytest.approx([0.09] * 5)


@pytest.mark.parametrize("text", ["", "0", "-1", "abc", "0.1-", "1e999", "1.2.3", "nan", "ct-chest-adlt"])
def test_coefficients_that_are_none(text):
    with pytest.raises(ConfigError, match="neither a number"):
        make_coefficient(text, "mSv/(Gy.cm2)", "a report")


def test_known_coefficients(five):
    scans = replace(five, values=tuple(replace(v, quantity="dose_length_product", value=400.0) for v in five.values))
    coefficient = make_coefficient("ct-chest-adult")
    found = state_dose(scans, images=100, coefficient=coefficient).equivalents[1]
    assert (found.low, found.high) == (pytest.approx(560), pytest.approx(840))
    assert "doi:10.1118/1.3693052" in found.source
    assert "100 such scans" in state_dose(scans, images=100).equivalents[0].sentence
    with pytest.raises(ConfigError, match="brings its unit"):
        make_coefficient("ct-chest-adult", "mSv/(mGy.cm)")
    with pytest.raises(ConfigError, match=r"nothing to be multiplied with.*mGy\.cm"):
        state_dose(five, coefficient=coefficient)


def test_published_doses_are_apart_from_measured_ones(five):
    statement = state_dose(five, images=1000, exam="chest-pa-adult")
    measured, published = statement.equivalents
    assert (measured.kind, published.kind) == ("measured", "published")
    assert (published.low, published.expected, published.high) == (7, 20, 50)
    assert published.sentence.startswith("Published, not measured here: acquiring 1,000 times a chest radiograph")
    assert "doi:10.1148/radiol.2481071451" in published.sentence
    child = state_dose(readings(), images=1000, exam="chest-ap-child-1-5").equivalents[0]
    assert (child.low, child.expected, child.high, child.unit) == (11, None, 30, "Gy.cm2")
    assert "takes a dose-area product of 11 to 30 Gy·cm²" in child.sentence


def test_everything_published_has_a_source():
    for name, dose in PUBLISHED.items():
        assert dose.low < dose.high, name
        assert dose.typical is None or dose.low <= dose.typical <= dose.high
        assert "doi:10." in dose.source
    for coefficient in COEFFICIENTS.values():
        assert 0 < coefficient.low <= coefficient.high
        assert "doi:10." in coefficient.source
        coefficient.factor(QUANTITIES["dose_length_product"].unit)


def test_too_few_doses_give_no_range(five):
    few = replace(five, values=five.values[:3])
    statement = state_dose(few, coefficient=make_coefficient("0.2", "mSv/(Gy.cm2)", "a report"))
    assert statement.equivalents == ()
    assert statement.measured[0].number == 3
    assert any("3 exposures are too few" in note for note in statement.notes)


def test_nothing_measured():
    statement = state_dose(readings(images=[image(1)], others={".png": 3}))
    assert (statement.measured, statement.equivalents) == ((), ())
    assert "No file of scans tells a dose that can be used" in statement.notes[0]
    assert statement.counts == {"images": 1, "dose reports": 0, ".png": 3}


def test_mistakes(five):
    with pytest.raises(ConfigError, match="at least 1"):
        state_dose(five, images=0)
    with pytest.raises(ConfigError, match=r"no published dose of 'chest-pa'.*Did you mean"):
        state_dose(five, exam="chest-pa")


# ------------------------------------------------------------------------------------------- reports


def test_report_is_written(five, tmp_path):
    problem = DoseProblem("<b>x</b>.dcm", "OrganDose", "1 dGy", "a <script>")
    found = replace(five, problems=(problem,))
    statement = state_dose(found, exam="chest-pa-adult")
    written = write_dose_report(found, statement, tmp_path / "out")
    assert set(written) == {"dose.json", "doses.csv", "problems.csv", "dose.html"}
    again = json.loads(written["dose.json"].read_text(encoding="utf-8"))
    assert again == json.loads(json.dumps(statement.to_dict()))
    assert again["problems"][0]["file"] == "<b>x</b>.dcm"
    with written["doses.csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["value"]) for row in rows] == DOSES
    page = written["dose.html"].read_text(encoding="utf-8")
    assert AVOIDED in page
    assert "Published, not measured here" in page
    assert "a <script>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;.dcm" in page


def test_report_without_doses(tmp_path):
    nothing = readings()
    written = write_dose_report(nothing, state_dose(nothing), tmp_path)
    assert "Nothing." in written["dose.html"].read_text(encoding="utf-8")
