"""What doses the images of a data set took, and the dose equivalent of acquiring a number of such images.

Three kinds of numbers, which are never mixed:

- **measured**: read from these very files, with the number of files that tell it;
- **converted**: measured, times a coefficient that is published or that the user gives with its source;
- **published**: typical values of an examination from the literature, which nobody measured here.

None of them is a dose that synthetic images have avoided. That is 0, unless the exposures would otherwise have been
made for this very purpose. The training images were acquired for the care of their patients and cost no additional
dose.

Effective dose compares procedures, for a reference person; it is not for single patients, and no number of cancers is
to be computed from it for them or for small doses to many (ICRP Publication 103,
doi:10.1016/j.icrp.2007.10.003).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgan.core.saving import write_aside
from medgan.data.dose import QUANTITIES, DoseProblem, DoseReadings, DoseValue, convert_dose, find_unit
from medgan.errors import ConfigError, DataError, nearest
from medgan.pages import Note, Page, Section, Table, Text

__all__ = [
    "AVOIDED",
    "COEFFICIENTS",
    "COLUMNS",
    "NOT_FOR_INDIVIDUALS",
    "PUBLISHED",
    "Coefficient",
    "DoseEquivalent",
    "DoseStatement",
    "DoseSummary",
    "PublishedDose",
    "make_coefficient",
    "measured_rows",
    "state_dose",
    "summarise_doses",
    "write_dose_report",
]

_FEWEST = 4  # values that quartiles can be taken of
_DRAWS = 2_000  # of the bootstrap
_PROBLEM = ("file", "item", "given", "reason")

AVOIDED = (
    "Avoided dose: 0. Synthetic images avoid a dose only where the exposures would otherwise have been made for this "
    "very purpose. The images that a generator was trained on were acquired for other reasons and cost no additional "
    "dose, and clinical imaging is not replaced."
)
"""What every statement says."""

NOT_FOR_INDIVIDUALS = (
    "Effective dose compares procedures for a reference person. It is not for single patients, and no number of "
    "cancers follows from it (ICRP Publication 103, doi:10.1016/j.icrp.2007.10.003)."
)
"""What a statement with effective doses says."""


@dataclass(frozen=True)
class PublishedDose:
    """A typical dose of an examination, from the literature.

    Attributes:
        exam: The examination, and of whom.
        low: Lower end of the range.
        typical: The typical value; None where only a range is given.
        high: Upper end of the range.
        unit: Of all three.
        quantity: What it is a dose of.
        range_is: What the range means.
        source: Where it was published.
    """

    exam: str
    low: float
    typical: float | None
    high: float
    unit: str
    quantity: str
    range_is: str
    source: str


_METTLER = "Mettler et al., Radiology 248, 254-263, 2008, doi:10.1148/radiol.2481071451"
_REPORTED = "average, and values reported in the literature"
_GIESSEN = "Deutsches Ärzteblatt International 108(24), 407-414, 2011, doi:10.3238/arztebl.2011.0407, Table 2"
_REFERENCE = (
    "from what one department of paediatric radiology needed to the German diagnostic reference value, which most "
    "exposures stay below"
)


def _of_adults(exam: str, low: float, typical: float, high: float) -> PublishedDose:
    return PublishedDose(exam, low, typical, high, "mSv", "effective dose", _REPORTED, _METTLER)


PUBLISHED: Mapping[str, PublishedDose] = MappingProxyType(
    {
        "chest-pa-adult": _of_adults("chest radiograph of an adult, PA", 0.007, 0.02, 0.05),
        "chest-pa-lateral-adult": _of_adults("chest radiographs of an adult, PA and lateral", 0.05, 0.1, 0.24),
        "chest-ap-child-1-5": PublishedDose(
            "chest radiograph of a child of 1 to 5 years, AP",
            *(0.011, None, 0.03, "Gy.cm2", "dose-area product", _REFERENCE, _GIESSEN),
        ),
        "chest-ap-child-6-12": PublishedDose(
            "chest radiograph of a child of 6 to 12 years, AP",
            *(0.027, None, 0.04, "Gy.cm2", "dose-area product", _REFERENCE, _GIESSEN),
        ),
        "ct-head-adult": _of_adults("CT of the head of an adult", 0.9, 2, 4),
        "ct-chest-adult": _of_adults("CT of the chest of an adult", 4, 7, 18),
        "ct-abdomen-adult": _of_adults("CT of the abdomen of an adult", 3.5, 8, 25),
        "ct-pelvis-adult": _of_adults("CT of the pelvis of an adult", 3.3, 6, 10),
    }
)
"""Published doses, by name; each was checked against a copy of its table. Others are for the user to cite."""


@dataclass(frozen=True)
class Coefficient:
    """What turns a measured quantity into an effective dose.

    Attributes:
        low: Lower end.
        high: Upper end; the same for a single number.
        unit: Such as ``mSv/(Gy.cm2)``.
        source: Who published it.
    """

    low: float
    high: float
    unit: str
    source: str

    @property
    def measured_unit(self) -> str:
        """The unit of what it is multiplied with."""
        return self.unit.partition("/")[2].strip("()")

    def factor(self, unit: str) -> tuple[float, float]:
        """Return both ends for doses of a unit, in mSv."""
        effective = self.unit.partition("/")[0]
        scale = convert_dose(1, effective, to="mSv") * convert_dose(1, unit, to=self.measured_unit)
        return self.low * scale, self.high * scale


_LEE = (
    "Shrimpton et al. (ICRP 60) and the National Cancer Institute's phantoms (ICRP 103) at 120 kV, as compared in Lee "
    "et al., Medical Physics 39, 2129-2146, 2012, doi:10.1118/1.3693052, Table XII; for adults"
)

COEFFICIENTS: Mapping[str, Coefficient] = MappingProxyType(
    {
        "ct-head-adult": Coefficient(0.0017, 0.0021, "mSv/(mGy.cm)", _LEE),
        "ct-chest-adult": Coefficient(0.0140, 0.0210, "mSv/(mGy.cm)", _LEE),
        "ct-abdomen-pelvis-adult": Coefficient(0.0150, 0.0179, "mSv/(mGy.cm)", _LEE),
    }
)
"""Published coefficients, by name; of adults only, as dose-length products of children depend on the phantom."""


def make_coefficient(value: str, unit: str | None = None, source: str | None = None) -> Coefficient:
    """Return a coefficient that is known by its name, or one of the user's.

    Args:
        value: A name of `COEFFICIENTS`; a number, or two, such as ``0.16-0.18``.
        unit: Of a number: ``mSv/(Gy.cm2)``, ``mSv/(mGy.cm)`` or of other prefixes.
        source: Of a number: who published it, such as a DOI or the number of a report.

    Raises:
        ConfigError: If the name is unknown, the number is none or not above 0, or unit or source are missing.
    """
    if value in COEFFICIENTS:
        if unit is not None or source is not None:
            raise ConfigError(f"The coefficient {value!r} brings its unit and its source along. Leave both out.")
        return COEFFICIENTS[value]
    match = re.fullmatch(r"([\d.]+(?:[eE]-?\d+)?)(?:-([\d.]+(?:[eE]-?\d+)?))?", value.strip())
    try:
        numbers = [float(text) for text in match.groups() if text is not None] if match else []
    except ValueError:
        numbers = []
    if not numbers or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ConfigError(
            f"The coefficient {value!r} is neither a number such as 0.18, nor a range such as 0.16-0.18, nor known by "
            f"name. {nearest(value, COEFFICIENTS)}"
        )
    if unit is None or not unit.strip():
        raise ConfigError(f"The coefficient {value} has no unit. Add one, such as --coefficient-unit 'mSv/(Gy.cm2)'.")
    if source is None or not re.search(r"\w{3}", source):
        raise ConfigError(
            f"The coefficient {value} has no source. Say who published it: --citation with a DOI, or a report's number."
        )
    found = Coefficient(min(numbers), max(numbers), re.sub(r"\s", "", unit), " ".join(source.split()))
    try:
        if find_unit(found.unit.partition("/")[0]).base != "Sv":
            raise DataError("the first part is no effective dose.")
        base = find_unit(found.measured_unit).base
    except DataError as error:
        raise ConfigError(
            f"The unit {unit!r} cannot be used: {error} Expected one such as mSv/(Gy.cm2) or mSv/(mGy.cm)."
        ) from None
    if base not in ("Gy.cm2", "Gy.cm"):
        raise ConfigError(
            f"A coefficient in {unit} is for {base}, of which doses at different places cannot be told apart. Expected "
            "one for dose-area or dose-length products: mSv/(Gy.cm2) or mSv/(mGy.cm)."
        )
    return found


@dataclass(frozen=True)
class DoseSummary:
    """The doses of one quantity, from one kind of file.

    Attributes:
        origin: ``image`` for attributes of images, ``report`` for dose reports.
        quantity: One of `medgan.data.dose.QUANTITIES`.
        title: The quantity in words, with the phantom of CT doses.
        of: What one value is of: an ``exposure``, an ``exam`` or a ``patient``.
        how: How it comes from what was read.
        unit: Of the figures.
        number: Values.
        median: Of the values.
        lower_quartile: A quarter of the values is below.
        upper_quartile: A quarter of the values is above.
        lowest: The smallest.
        highest: The largest.
        mean: Of the values.
        mean_interval: 95 % interval of the mean of exposures, by a bootstrap over patients, or over exposures where not
            all patients are known or there is one only; None of exams and patients.
        files: Files that told them.
        files_in_all: Files that could have: all images, or all reports.
        patients: Patients they are of; None if unknown.
        left_out: Exams or patients that are left out, as not all of their exposures tell a dose.
    """

    origin: Literal["image", "report"]
    quantity: str
    title: str
    of: Literal["exposure", "exam", "patient"]
    how: str
    unit: str
    number: int
    median: float
    lower_quartile: float
    upper_quartile: float
    lowest: float
    highest: float
    mean: float
    mean_interval: tuple[float, float] | None
    files: int
    files_in_all: int
    patients: int | None
    left_out: int = 0


@dataclass(frozen=True)
class DoseEquivalent:
    """The dose equivalent of acquiring a number of images.

    Attributes:
        kind: ``measured``, ``converted`` (measured, times a coefficient) or ``published``.
        what: Which dose.
        low: Lower end for all images together: of the 95 % interval of the mean, or of the published range.
        expected: The number times the mean, or times the published typical value; None where there is none.
        high: Upper end.
        unit: Of the three.
        each: What one image is taken to be.
        source: Where it comes from.
        sentence: All of it in words.
    """

    kind: Literal["measured", "converted", "published"]
    what: str
    low: float
    expected: float | None
    high: float
    unit: str
    each: str
    source: str
    sentence: str


@dataclass(frozen=True)
class DoseStatement:
    """What `state_dose` returns.

    Attributes:
        images: The number that it is about.
        source: What was read.
        counts: Files by what they are.
        measured: Summaries of what the files tell.
        equivalents: Dose equivalents of acquiring that many images, measured, converted and published.
        notes: What limits them.
        problems: What was left out: file, item, what was given, and why.
        avoided: The avoided dose, 0, and the sentence about it.
        versions: Of what computed it.
    """

    images: int
    source: str
    counts: dict[str, int]
    measured: tuple[DoseSummary, ...]
    equivalents: tuple[DoseEquivalent, ...]
    notes: tuple[str, ...]
    problems: tuple[dict[str, str], ...]
    avoided: dict[str, Any] = field(default_factory=lambda: {"value": 0, "unless": AVOIDED})
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def summarise_doses(readings: DoseReadings) -> tuple[DoseSummary, ...]:
    """Summarise doses by exposure, by exam and by patient.

    Doses that may be added are added up over the exposures of an exam or a patient, if all of them tell one; of the
    others an exam and a patient have the mean.

    Args:
        readings: What was read.
    """
    found: list[DoseSummary] = []
    groups: dict[tuple[str, str, str], list[DoseValue]] = {}
    for value in readings.values:
        groups.setdefault((value.origin, value.quantity, value.phantom), []).append(value)
    for (_, quantity, _), values in sorted(groups.items()):
        exposures = [value for value in values if value.level == "exposure"]
        if exposures:
            found.append(_summary(readings, exposures, "exposure", [v.value for v in exposures], "as recorded"))
        totals = [value for value in values if value.level == "exam"]
        if totals:
            found.append(_summary(readings, totals, "exam", [v.value for v in totals], "total of the report"))
        add = QUANTITIES[quantity].additive
        how = ("sum" if add else "mean") + " of its exposures"
        parts: tuple[Literal["exam", "patient"], ...] = ("patient",) if totals else ("exam", "patient")
        for of in parts:
            sums, used, left_out = _by(readings, exposures, of, add=add)
            if sums:
                found.append(_summary(readings, used, of, sums, how, left_out))
    return tuple(found)


def _by(
    readings: DoseReadings, values: Sequence[DoseValue], of: Literal["exam", "patient"], *, add: bool
) -> tuple[list[float], list[DoseValue], int]:
    """Return the sum or the mean of each exam or patient, what they are of, and how many are left out.

    Left out of sums are those with an image that tells no dose, or with a report of which something was left out.
    """
    groups: dict[str, list[DoseValue]] = {}
    for value in values:
        if key := getattr(value, of):
            groups.setdefault(key, []).append(value)
    broken = {getattr(problem, of) for problem in readings.problems if not problem.repeated}
    wanted: dict[str, set[str]] = {}
    for image in readings.images:
        wanted.setdefault(getattr(image, of), set()).add(image.exposure)
    sums: list[float] = []
    used: list[DoseValue] = []
    for key, members in groups.items():
        if members[0].origin == "report":
            incomplete = key in broken
        else:
            incomplete = bool(wanted.get(key, set()) - {member.exposure for member in members})
        if not (add and incomplete):
            total = math.fsum(member.value for member in members)
            sums.append(total if add else total / len(members))
            used += members
    return sums, used, len(groups) - len(sums)


def _summary(
    readings: DoseReadings,
    values: Sequence[DoseValue],
    of: Literal["exposure", "exam", "patient"],
    numbers: Sequence[float],
    how: str,
    left_out: int = 0,
) -> DoseSummary:
    """Describe some doses."""
    first = values[0]
    known = QUANTITIES[first.quantity]
    array = np.asarray(numbers, dtype=np.float64)
    lower, median, upper = (float(number) for number in np.percentile(array, [25, 50, 75]))
    patients = {value.patient for value in values} - {""}
    return DoseSummary(
        origin=first.origin,
        quantity=first.quantity,
        title=f"{known.title} ({first.phantom})" if first.phantom else known.title,
        of=of,
        how=how,
        unit=known.unit,
        number=len(array),
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        lowest=float(array.min()),
        highest=float(array.max()),
        mean=float(array.mean()),
        mean_interval=_interval_of_mean(array, [value.patient for value in values]) if of == "exposure" else None,
        files=len({value.file for value in values}),
        files_in_all=len(readings.images) if first.origin == "image" else readings.reports,
        patients=len(patients) or None,
        left_out=left_out,
    )


def _interval_of_mean(doses: NDArray[np.float64], patients: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a mean, by draws of patients, each with all exposures; else of exposures."""
    members = np.arange(len(doses))
    if all(patients) and len(set(patients)) > 1:
        members = np.unique(patients, return_inverse=True)[1]
    counts, sums = np.bincount(members), np.bincount(members, weights=doses)
    # By what is drawn, and not by its order, so that the same files give the same interval.
    order = np.lexsort((counts, sums))
    number = len(counts)
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=_DRAWS)
    low, high = np.percentile(drawn @ sums[order] / (drawn @ counts[order]), [2.5, 97.5])
    return float(low), float(high)


def state_dose(
    readings: DoseReadings, *, images: int = 1000, exam: str | None = None, coefficient: Coefficient | None = None
) -> DoseStatement:
    """State the dose equivalent of acquiring a number of images.

    Args:
        readings: What was read from files; its values may be none.
        images: How many images.
        exam: Name of a published dose, one of `PUBLISHED`; None for none.
        coefficient: What turns a measured product into an effective dose; None for none.

    Returns:
        The statement, with what is measured, converted and published apart from each other.

    Raises:
        ConfigError: If the number is below 1, the examination is unknown, or nothing measured fits the coefficient.
    """
    if images < 1:
        raise ConfigError(f"The number of images is {images}, and must be at least 1.")
    if exam is not None and exam not in PUBLISHED:
        raise ConfigError(f"There is no published dose of {exam!r}. {nearest(exam, PUBLISHED)}")
    measured = summarise_doses(readings)
    notes = _notes(readings, measured)
    equivalents: list[DoseEquivalent] = []
    fitting = False
    for summary in measured:
        if summary.of != "exposure" or not QUANTITIES[summary.quantity].additive:
            continue
        fits = coefficient is not None and find_unit(summary.unit).base == find_unit(coefficient.measured_unit).base
        fitting |= fits
        if summary.number < _FEWEST:
            notes.append(
                f"{summary.title}: {summary.number} exposures are too few for a range ({_FEWEST} at least), so that "
                "no dose equivalent is stated."
            )
            continue
        equivalents.append(_measured(summary, images))
        if fits and coefficient is not None:
            equivalents.append(_converted(summary, images, coefficient))
    if coefficient is not None and not fitting:
        raise ConfigError(
            f"The coefficient in {coefficient.unit} has nothing to be multiplied with: no file tells a dose of an "
            f"exposure in {coefficient.measured_unit}. Leave --coefficient out, or give files that do."
        )
    if exam is not None:
        equivalents.append(_published(PUBLISHED[exam], images))
    if any(each.unit == "mSv" for each in equivalents):
        notes.append(NOT_FOR_INDIVIDUALS)
    return DoseStatement(
        images=images,
        source=readings.source,
        counts={"images": len(readings.images), "dose reports": readings.reports, **readings.others},
        measured=measured,
        equivalents=tuple(equivalents),
        notes=tuple(notes),
        problems=tuple(_told(problem) for problem in readings.problems),
        versions={name: version(name) for name in ("medgan", "pydicom")},
    )


def _told(problem: DoseProblem) -> dict[str, str]:
    """Return what is said of a problem."""
    return {name: getattr(problem, name) for name in _PROBLEM}


def _notes(readings: DoseReadings, measured: Sequence[DoseSummary]) -> list[str]:
    """Return what limits the measured doses."""
    notes = []
    if not measured:
        notes.append(
            f"No file of {readings.source} tells a dose that can be used, so nothing is measured "
            f"({len(readings.images):,} images, {readings.reports:,} dose reports, "
            f"{sum(readings.others.values()):,} other files)."
        )
    if any(summary.origin == "image" for summary in measured):
        silent = sum(not image.says_exposure for image in readings.images)
        if silent:
            notes.append(
                f"{silent:,} of {len(readings.images):,} images do not say which exposure they are of: two files of "
                "one exposure would count twice."
            )
    left_out = max((summary.left_out for summary in measured), default=0)
    if left_out:
        notes.append(
            f"Up to {left_out:,} exams or patients are left out of the sums, as some of their exposures tell no dose."
        )
    if {summary.origin for summary in measured} == {"image", "report"}:
        notes.append("Images and reports may tell of the same exposures; their figures are not to be added.")
    places = [s.title for s in measured if s.of == "exposure" and not QUANTITIES[s.quantity].additive]
    if places:
        notes.append(
            f"Not multiplied by the number of images: {', '.join(dict.fromkeys(places))}. These are doses at a place "
            "of one body or phantom, which do not add up over patients."
        )
    if readings.problems:
        notes.append(f"{len(readings.problems):,} items or files were left out; the list says which, and why.")
    return notes


def _measured(summary: DoseSummary, images: int) -> DoseEquivalent:
    """Return the dose equivalent of images like those that were read."""
    low, high = _total(summary, images)
    expected = images * summary.mean
    noun = "scans" if summary.quantity == "dose_length_product" else "exposures"
    each = f"{_range(summary.lower_quartile, summary.upper_quartile, summary.unit)}, the middle half"
    source = f"measured: {summary.number:,} {noun} of {summary.files:,} {_files(summary)}"
    sentence = (
        f"Acquiring {images:,} such {noun} takes a {summary.title} of {_number(expected)} {_pretty(summary.unit)} in "
        f"all: {images:,} times the mean of {summary.number:,} {noun} of these files (95 % interval "
        f"{_range(low, high, summary.unit)}; a single one takes {each})."
    )
    return DoseEquivalent("measured", summary.title, low, expected, high, summary.unit, each, source, sentence)


def _total(summary: DoseSummary, images: int) -> tuple[float, float]:
    """Return the interval of the dose of so many exposures: of their mean, as doses of single ones are skewed."""
    assert summary.mean_interval is not None
    low, high = summary.mean_interval
    return images * low, images * high


def _converted(summary: DoseSummary, images: int, coefficient: Coefficient) -> DoseEquivalent:
    """Return the effective dose of images like those that were read."""
    least, most = coefficient.factor(summary.unit)
    low, high = (total * factor for total, factor in zip(_total(summary, images), (least, most), strict=True))
    expected = images * summary.mean * (least + most) / 2
    span = _number(coefficient.low)
    if coefficient.high != coefficient.low:
        span += f" to {_number(coefficient.high)}"
    each = f"{_range(summary.lower_quartile * least, summary.upper_quartile * most, 'mSv')}, the middle half"
    source = f"measured {summary.title}, times {span} {_pretty(coefficient.unit)} ({coefficient.source})"
    sentence = (
        f"As effective dose that is {_number(expected)} mSv summed over {images:,} exposures of other people (95 % "
        f"interval, and the coefficient's range: {_range(low, high, 'mSv')}; a single one takes {each}): {source}."
    )
    return DoseEquivalent(
        "converted",
        "effective dose",
        low,
        expected,
        high,
        "mSv",
        each,
        source,
        sentence,
    )


def _published(dose: PublishedDose, images: int) -> DoseEquivalent:
    """Return the dose equivalent by the literature."""
    low, high = images * dose.low, images * dose.high
    expected = None if dose.typical is None else images * dose.typical
    each = _range(dose.low, dose.high, dose.unit)
    middle = "" if expected is None else f", {_number(expected)} {_pretty(dose.unit)} as typical"
    sentence = (
        f"Published, not measured here: acquiring {images:,} times a {dose.exam} takes an {dose.quantity} of "
        f"{_range(low, high, dose.unit)}{middle}, summed over as many exposures of other people ({each} each: "
        f"{dose.range_is}; {dose.source})."
    ).replace("an dose", "a dose")
    return DoseEquivalent("published", dose.quantity, low, expected, high, dose.unit, each, dose.source, sentence)


def _files(summary: DoseSummary) -> str:
    return "images" if summary.origin == "image" else "dose reports"


def _number(value: float) -> str:
    """Write a dose with three digits."""
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if "e+" in text or value >= 1000 else text


def _pretty(unit: str) -> str:
    """Write a unit as people read it."""
    return unit.replace(".", "·").replace("cm2", "cm²").replace("m2", "m²")


def _range(low: float, high: float, unit: str) -> str:
    """Write a range."""
    return f"{_number(low)} to {_number(high)} {_pretty(unit)}"


# ------------------------------------------------------------------------------------------------------ reports

COLUMNS = ("dose", "from", "of each", "N", "median", "middle half", "range", "files that tell it", "patients")
"""Headings of the table of measured doses."""


def measured_rows(statement: DoseStatement) -> list[list[str]]:
    """Return the measured doses as cells, in the order of `COLUMNS`.

    Args:
        statement: What `state_dose` returned.
    """
    return [
        [
            summary.title,
            _files(summary),
            f"{summary.of}: {summary.how}",
            f"{summary.number:,}",
            f"{_number(summary.median)} {_pretty(summary.unit)}",
            f"{_number(summary.lower_quartile)} to {_number(summary.upper_quartile)}",
            f"{_number(summary.lowest)} to {_number(summary.highest)}",
            f"{summary.files:,} of {summary.files_in_all:,} {_files(summary)}",
            "unknown" if summary.patients is None else f"{summary.patients:,}",
        ]
        for summary in statement.measured
    ]


def write_dose_report(readings: DoseReadings, statement: DoseStatement, folder: Path) -> dict[str, Path]:
    """Write a statement into a folder.

    Args:
        readings: What was read.
        statement: What `state_dose` made of it.
        folder: Folder for ``dose.json``, ``doses.csv`` (a row a dose), ``problems.csv`` and ``dose.html``. Files of an
            earlier statement are replaced.

    Returns:
        What was written, by name.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    import pandas as pd

    texts = {
        "dose.json": json.dumps(statement.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "doses.csv": pd.DataFrame([asdict(value) for value in readings.values]).to_csv(index=False),
        "problems.csv": pd.DataFrame([_told(problem) for problem in readings.problems], columns=list(_PROBLEM)).to_csv(
            index=False
        ),
        "dose.html": _page(statement).html(),
    }
    written = {}
    for name, text in texts.items():
        written[name] = folder / name
        with write_aside(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    return written


def _page(statement: DoseStatement) -> Page:
    """Return the statement as a page."""
    of = {
        kind: [each.sentence for each in statement.equivalents if each.kind == kind]
        for kind in ("measured", "converted", "published")
    }
    nothing = Text("Nothing.")
    problems = [[p["file"], p["item"], p["given"], p["reason"]] for p in statement.problems]
    return Page(
        title="Dose",
        lead=f"{statement.source}: {', '.join(f'{count:,} {name}' for name, count in statement.counts.items())}.",
        opening=[
            Note(AVOIDED, "verdict"),
            *([Note("What limits it:", points=statement.notes)] if statement.notes else []),
        ],
        sections=[
            Section(
                "Measured on these files",
                [
                    Table(COLUMNS, measured_rows(statement)) if statement.measured else nothing,
                    *map(Text, of["measured"]),
                ],
            ),
            Section("Measured, and converted", [*map(Text, of["converted"])] or [nothing]),
            Section("Published, not measured here", [*map(Text, of["published"])] or [nothing]),
            Section(
                "Left out",
                [Table(("file", "item", "given", "why"), problems) if problems else nothing],
                folded=len(problems) > 20,
            ),
        ],
        footer=statement.versions,
    )
