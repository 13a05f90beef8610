"""Doses that DICOM files tell: attributes of images, and dose reports (RDSR).

Decisions, for those who compare with another reader:

* Every value is converted to the one unit of its quantity, exactly. A unit that is absent, unknown, or of another kind
  (mGy for a dose-area product) is never guessed: the item is named among the problems and left out. So is a value that
  is zero, negative or not finite, and one that is larger than any exposure gives, which is a mistaken unit.
* An exposure counts once. Images of the same irradiation event repeat its dose, as do the slices of a CT scan, so the
  key of a value is the event's UID, else of a CT image its series and acquisition, else the image itself. Two files
  that give one exposure different doses are named, and both are left out.
* A report's totals belong to its scope of accumulation (a study or a step of it). Of several reports of one scope, the
  last counts. A total is read from the one item that means it; fluoroscopy and acquisition alone are parts of it.
* What is no dose to the patient is not read: kV, mAs, distances, detector exposure indices, activities, and free text.
* Patients and studies are replaced by hashes.

Reference: DICOM PS3.3, C.8.7.8 and C.8.15.3.8; PS3.16, TID 10001 to 10013; PS3.3, C.7.6.16.2.2.1.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from medgan.data.decoded import ReadError
from medgan.data.dicom import guard_reading, is_dicom, patient_key, read_elements
from medgan.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "QUANTITIES",
    "UNITS",
    "DoseProblem",
    "DoseReadings",
    "DoseValue",
    "ExposureImage",
    "Quantity",
    "Unit",
    "convert_dose",
    "find_unit",
    "read_doses",
]


class Quantity(NamedTuple):
    """A kind of dose.

    Attributes:
        title: Its name in words.
        unit: The unit of all its values here; one of `UNITS`.
        additive: Whether doses of several exposures may be added.
        largest: What no exposure and no examination exceeds; a value above it has another unit than it says.
    """

    title: str
    unit: str
    additive: bool
    largest: float


class Unit(NamedTuple):
    """A unit.

    Attributes:
        base: What it measures, as its unit without prefix: ``Gy``, ``Gy.cm2``, ``Gy.cm`` or ``Sv``.
        factor: How many of the base it is, exactly.
    """

    base: str
    factor: Fraction


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "dose_area_product": Quantity("dose-area product", "Gy.cm2", True, 5_000),
        "entrance_dose": Quantity("entrance dose", "mGy", False, 1_000),
        "reference_point_dose": Quantity("dose at the reference point", "mGy", False, 50_000),
        "organ_dose": Quantity("organ dose (of the breast: mean glandular dose)", "mGy", False, 200),
        "ctdi_vol": Quantity("CTDIvol", "mGy", False, 2_000),
        "dose_length_product": Quantity("dose-length product", "mGy.cm", True, 50_000),
        "effective_dose": Quantity("effective dose, as the report states it", "mSv", True, 500),
    }
)
"""Kinds of dose, by name."""


def _make_units() -> dict[str, Unit]:
    """Return the units by code: of UCUM, without the dot between gray and length."""
    prefixes = {"": Fraction(1)} | {
        prefix: Fraction(1, 10**power) for prefix, power in (("d", 1), ("c", 2), ("m", 3), ("u", 6))
    }
    lengths = {"m": Fraction(100), "cm": Fraction(1), "mm": Fraction(1, 10)}  # in cm
    units: dict[str, Unit] = {}
    for prefix, factor in prefixes.items():
        units[f"{prefix}Gy"] = Unit("Gy", factor)
        units[f"{prefix}Sv"] = Unit("Sv", factor)
        for name, length in lengths.items():
            units[f"{prefix}Gy{name}"] = Unit("Gy.cm", factor * length)
            units[f"{prefix}Gy{name}2"] = Unit("Gy.cm2", factor * length**2)
    return units


UNITS: Mapping[str, Unit] = MappingProxyType(_make_units())
"""Units that are understood, by their UCUM codes without the dot, as old reports write them, such as ``dGycm2``."""

# Attributes of images; the standard fixes their units.
_ATTRIBUTES = {
    "ImageAndFluoroscopyAreaDoseProduct": ("dose_area_product", "dGy.cm2"),
    "EntranceDoseInmGy": ("entrance_dose", "mGy"),
    "EntranceDose": ("entrance_dose", "dGy"),
    "OrganDose": ("organ_dose", "dGy"),
    "CTDIvol": ("ctdi_vol", "mGy"),
}
# Where they lie, beside the image itself.
_SEQUENCES = ("ExposureDoseSequence", "XRayAcquisitionDoseSequence", "CTExposureSequence")

_Level = Literal["exposure", "exam"]

# Numbers of reports, by their codes in the scheme DCM.
_ITEMS: dict[str, tuple[str, _Level]] = {
    "122130": ("dose_area_product", "exposure"),
    "113722": ("dose_area_product", "exam"),
    "113738": ("reference_point_dose", "exposure"),
    "113725": ("reference_point_dose", "exam"),
    "111631": ("organ_dose", "exposure"),
    "111637": ("organ_dose", "exam"),
    "113830": ("ctdi_vol", "exposure"),
    "113838": ("dose_length_product", "exposure"),
    "113813": ("dose_length_product", "exam"),
    "113839": ("effective_dose", "exposure"),
}
_REPORT = "113701"  # X-Ray Radiation Dose Report
_EVENTS = frozenset({"113706", "113819"})  # containers of one exposure: Irradiation Event X-Ray Data, CT Acquisition
_EVENT_UID, _SCOPE, _PLANE, _PHANTOM = "113769", "113705", "113764", "113835"
_SCHEMES = frozenset({"DCM", "SRT", "SCT"})
_LATERALITY = frozenset({"G-C171", "272741003"})
_PHANTOMS = {"113690": "16 cm head phantom", "113691": "32 cm body phantom"}


@dataclass(frozen=True)
class DoseValue:
    """A dose that a file tells.

    Attributes:
        file: The file, relative to what was read.
        origin: ``image`` for an attribute of an image, ``report`` for an item of a dose report.
        level: Of one ``exposure`` (an irradiation event, a CT scan), or of an ``exam``.
        quantity: One of `QUANTITIES`.
        value: In the unit of the quantity.
        given: The value and unit as they were found.
        exposure: Hash that stands for the exposure; "" for an exam.
        exam: Hash that stands for the study, or for a report's scope of accumulation; "" if unknown.
        patient: Hash that stands for the patient; "" if unknown.
        part: The breast or the plane of a total, where there are several.
        phantom: What a CT dose refers to; "" if unknown, or for other doses.
    """

    file: str
    origin: Literal["image", "report"]
    level: _Level
    quantity: str
    value: float
    given: str
    exposure: str
    exam: str
    patient: str
    part: str = ""
    phantom: str = ""


@dataclass(frozen=True)
class DoseProblem:
    """Something that was left out.

    Attributes:
        file: The file.
        item: The attribute or item; "" for the whole file.
        given: What was found there.
        reason: Why it is not used.
        repeated: Whether nothing is lost by that, as another file tells it.
        exam: Hash that stands for the study; "" if unknown.
        patient: Hash that stands for the patient; "" if unknown.
    """

    file: str
    item: str
    given: str
    reason: str
    repeated: bool = False
    exam: str = ""
    patient: str = ""


@dataclass(frozen=True)
class ExposureImage:
    """An image, whether or not it tells a dose.

    Attributes:
        file: The file.
        exposure: Hash that stands for its exposure.
        exam: Hash that stands for its study; "" if unknown.
        patient: Hash that stands for its patient; "" if unknown.
        says_exposure: Whether the file names its irradiation event.
    """

    file: str
    exposure: str
    exam: str
    patient: str
    says_exposure: bool


@dataclass(frozen=True)
class DoseReadings:
    """All doses of some files.

    Attributes:
        source: What was read.
        values: The doses, each exposure and each exam once for each origin and quantity.
        problems: What was left out, and why.
        images: All images.
        reports: Number of dose reports.
        others: Files that are neither, counted by extension; DICOM files that are neither by what they are.
    """

    source: str
    values: tuple[DoseValue, ...]
    problems: tuple[DoseProblem, ...]
    images: tuple[ExposureImage, ...]
    reports: int
    others: Mapping[str, int]


class _LeftOut(Exception):  # noqa: N818 - no error: it becomes a `DoseProblem`
    """Why a value is not used."""


def find_unit(code: str) -> Unit:
    """Return a unit by its UCUM code; the dot may be missing, or be a raised one.

    Args:
        code: Such as ``mGy.cm2``.

    Raises:
        DataError: If it is absent or unknown.
    """
    text = code.strip()
    if not text:
        raise DataError("No unit is given. Expected one such as mGy, Gy.m2 or mGy.cm.")
    plain = re.sub(r"(?<=Gy)[.*·]", "", text).replace("µ", "u").replace("μ", "u").replace("²", "2")
    if plain not in UNITS:
        raise DataError(f"The unit {text!r} is unknown. Expected one such as mGy, dGy.cm2, Gy.m2, mGy.cm or mSv.")
    return UNITS[plain]


def convert_dose(value: float, unit: str, to: str) -> float:
    """Convert a dose.

    Args:
        value: The dose.
        unit: Its unit, as `UNITS` has them; the dot may be there.
        to: The wanted unit.

    Returns:
        The dose in that unit.

    Raises:
        DataError: If a unit is absent, unknown, or of another kind.

    Examples:
        >>> convert_dose(1, "uGy.m2", to="cGy.cm2"), convert_dose(1, "uGy.m2", to="mGy.cm2")
        (1.0, 10.0)
    """
    found, wanted = find_unit(unit), find_unit(to)
    if found.base != wanted.base:
        raise DataError(f"{unit} is a unit of {found.base}, and cannot become {to}, which is one of {wanted.base}.")
    return float(Fraction(value) * found.factor / wanted.factor)


def read_doses(source: str | Path, *, progress: Callable[[int, int], None] | None = None) -> DoseReadings:
    """Read the doses of all DICOM files of a folder, or of one file.

    Args:
        source: A folder, which is searched with all folders under it, or a DICOM file.
        progress: Called with the numbers of files done and of all.

    Returns:
        The doses, in one unit a quantity, and what was left out.

    Raises:
        DataError: If there is no such source, or no file in it.
    """
    root = Path(source).expanduser()
    if not root.exists():
        raise DataError(f"There is no {root}. Give a folder of DICOM images and dose reports, or one such file.")
    files = sorted(_files(root)) if root.is_dir() else [root]
    if not files:
        raise DataError(f"{root} holds no file. Give a folder of DICOM images and dose reports.")
    reader = _Reader(root if root.is_dir() else root.parent)
    for number, path in enumerate(files, start=1):
        reader.read(path)
        if progress is not None:
            progress(number, len(files))
    return reader.finish(str(source))


def _files(root: Path) -> Iterator[Path]:
    """Yield the visible files of a folder; links to folders are not followed."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


class _Reader:
    """Collects what files tell."""

    def __init__(self, root: Path) -> None:
        """Begin with nothing."""
        self.root = root
        self.values: list[DoseValue] = []
        self.problems: list[DoseProblem] = []
        self.images: list[ExposureImage] = []
        self.reports = 0
        self.others: dict[str, int] = {}
        self._latest: dict[tuple[str, str], tuple[str, str]] = {}  # when and in which file a scope was told of last

    def read(self, path: Path) -> None:
        """Read a file."""
        file = path.relative_to(self.root).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve()):
            self.problems.append(DoseProblem(file, "", str(path.resolve()), "a link that leaves the folder"))
            return
        if not is_dicom(path):
            kind = path.suffix.lower() or "no extension"
            self.others[kind] = self.others.get(kind, 0) + 1
            return
        before = len(self.values)
        try:
            with guard_reading():  # elements are parsed when they are looked at
                self._take(file, read_elements(path))
        except ReadError as error:
            del self.values[before:]
            self.problems.append(DoseProblem(file, "", error.error, "the file cannot be read"))

    def _take(self, file: str, dataset: Dataset) -> None:
        """Read a data set as what it is."""
        concepts = dataset.get("ConceptNameCodeSequence") or []
        if concepts and _code(concepts[0])[0] == _REPORT:
            self.reports += 1
            self._read_report(file, dataset)
        elif "Rows" in dataset and "Columns" in dataset:
            self._read_image(file, dataset)
        else:
            uid = dataset.get("SOPClassUID")
            kind = "DICOM of unknown kind" if uid is None else uid.name
            self.others[kind] = self.others.get(kind, 0) + 1

    def finish(self, source: str) -> DoseReadings:
        """Return all of it, each exposure and exam once."""
        return DoseReadings(
            source,
            tuple(self._once()),
            tuple(sorted(self.problems, key=lambda problem: (problem.file, problem.item))),
            tuple(self.images),
            self.reports,
            dict(sorted(self.others.items())),
        )

    def _once(self) -> Iterator[DoseValue]:
        """Yield the values, the repeated ones once, those that contradict each other not at all."""
        groups: dict[tuple[str, ...], list[DoseValue]] = {}
        for value in self.values:
            if value.level == "exam" and self._latest[value.exam, value.origin][1] != value.file:
                last = self._latest[value.exam, value.origin][1]
                reason = f"{last} reports the same examination later"
                self.problems.append(DoseProblem(value.file, value.quantity, value.given, reason, repeated=True))
                continue
            key = (value.origin, value.level, value.quantity, value.exam, value.exposure, value.part, value.phantom)
            groups.setdefault(key, []).append(value)
        for found in groups.values():
            if all(math.isclose(value.value, found[0].value, rel_tol=1e-6) for value in found):
                yield found[0]
                continue
            for value in found:
                other = next(each for each in found if each.value != value.value)
                reason = f"{other.given} in {other.file} is said of the same {value.level}"
                problem = DoseProblem(value.file, value.quantity, value.given, reason)
                self.problems.append(replace(problem, exam=value.exam, patient=value.patient))

    # -------------------------------------------------------------------------------------------- images

    def _read_image(self, file: str, dataset: Dataset) -> None:
        """Read the attributes of an image."""
        kind = dataset.get("ImageType") or []
        if not isinstance(kind, str) and len(kind) > 1 and str(kind[1]).upper() == "SECONDARY":
            what = "image made from others, whose dose it would repeat"
            self.others[what] = self.others.get(what, 0) + 1
            return
        image = _image(file, dataset)
        self.images.append(image)
        found: dict[str, tuple[float, str]] = {}  # by attribute
        for keyword, (quantity, unit) in _ATTRIBUTES.items():
            try:
                number = _attribute(dataset, keyword)
                if number is not None:
                    found[keyword] = (_checked(number, quantity, unit), f"{number:g} {unit} ({keyword})")
            except _LeftOut as left_out:
                self.problems.append(DoseProblem(file, keyword, _shown(dataset, keyword, unit), str(left_out)))
        if {"EntranceDose", "EntranceDoseInmGy"} <= found.keys():
            coarse, fine = found.pop("EntranceDose"), found["EntranceDoseInmGy"]
            if abs(coarse[0] - fine[0]) > convert_dose(1, "dGy", to="mGy"):  # it is in whole dGy
                del found["EntranceDoseInmGy"]
                reason = "they contradict each other: one of them has another unit than it should"
                self.problems.append(DoseProblem(file, "EntranceDose", f"{coarse[1]}, {fine[1]}", reason))
        for keyword, (value, given) in found.items():
            quantity = _ATTRIBUTES[keyword][0]
            phantom = _phantom_of(dataset) if quantity == "ctdi_vol" else ""
            self.values.append(
                DoseValue(
                    *(file, "image", "exposure", quantity, value, given, image.exposure, image.exam, image.patient),
                    phantom=phantom,
                )
            )

    # ------------------------------------------------------------------------------------------- reports

    def _read_report(self, file: str, dataset: Dataset) -> None:
        """Read the numbers of a dose report."""
        patient = patient_key(dataset)
        study = _hash("e", _text(dataset, "StudyInstanceUID"))
        scope = _scope(dataset) or _text(dataset, "SOPInstanceUID") or file
        exam = _hash("e", scope)
        when = _text(dataset, "ContentDate") + _text(dataset, "ContentTime")
        key = (exam, "report")
        if key not in self._latest or (when, file) > self._latest[key]:
            self._latest[key] = (when, file)
        totals: dict[tuple[str, str], list[tuple[float, str]]] = {}
        for item, event, part, phantom in _numbers_of(dataset):
            code, meaning = _code((item.get("ConceptNameCodeSequence") or [None])[0])
            if code not in _ITEMS:
                continue
            quantity, level = _ITEMS[code]
            try:
                value, given = _measured(item, quantity)
                if level == "exposure" and not event:
                    raise _LeftOut("its exposure has no Irradiation Event UID, so that it might be counted twice")
            except _LeftOut as left_out:
                given = _shown_number(item)
                self.problems.append(DoseProblem(file, meaning, given, str(left_out), exam=study, patient=patient))
                continue
            if level == "exam":
                totals.setdefault((quantity, phantom), []).append((value, part))
                continue
            self.values.append(
                DoseValue(
                    file, "report", level, quantity, value, given, _hash("x", event), study, patient, part, phantom
                )
            )
        for (quantity, phantom), found in totals.items():
            for value, part, given in self._settle(file, quantity, found, study, patient):
                self.values.append(
                    DoseValue(file, "report", "exam", quantity, value, given, "", exam, patient, part, phantom)
                )

    def _settle(
        self, file: str, quantity: str, found: Sequence[tuple[float, str]], exam: str, patient: str
    ) -> list[tuple[float, str, str]]:
        """Return the total of an examination: planes are added, breasts are not."""
        unit = QUANTITIES[quantity].unit
        parts = [part for _, part in found]
        if len(set(parts)) < len(parts):
            given = ", ".join(f"{value:g} {unit}" for value, _ in found)
            reason = "several totals of the same plane or breast; which of them counts is not said"
            item = f"total {QUANTITIES[quantity].title}"
            self.problems.append(DoseProblem(file, item, given, reason, exam=exam, patient=patient))
            return []
        if QUANTITIES[quantity].additive:
            value = math.fsum(value for value, _ in found)
            return [(value, "", " + ".join(f"{value:g} {unit}" for value, _ in found))]
        return [(value, part, f"{value:g} {unit}") for value, part in found]


# ------------------------------------------------------------------------------------------ attributes of images


def _image(file: str, dataset: Dataset) -> ExposureImage:
    """Return who and which exposure an image is of."""
    event = _text(dataset, "IrradiationEventUID")
    series = _text(dataset, "SeriesInstanceUID")
    if event:
        exposure = event
    elif _text(dataset, "Modality") == "CT" and series:
        exposure = f"{series}/{_text(dataset, 'AcquisitionNumber')}"
    else:
        exposure = _text(dataset, "SOPInstanceUID") or file
    study = _hash("e", _text(dataset, "StudyInstanceUID"))
    return ExposureImage(file, _hash("x", exposure), study, patient_key(dataset), bool(event))


def _attribute(dataset: Dataset, keyword: str) -> float | None:
    """Return the one number of an attribute, in the image or its sequences; None if it is not there or empty."""
    groups = [dataset, *(dataset.get("SharedFunctionalGroupsSequence") or [])]
    groups += dataset.get("PerFrameFunctionalGroupsSequence") or []
    places = groups + [item for group in groups for name in _SEQUENCES for item in (group.get(name) or [])]
    numbers: set[float] = set()
    for place in places:
        if keyword not in place:
            continue
        try:
            value = place[keyword].value
            if value is None or str(value).strip() == "":
                continue
            if not isinstance(value, str) and isinstance(value, Sequence):
                raise _LeftOut("several values where one is due")
            numbers.add(float(value))
        except (TypeError, ValueError, OverflowError):
            raise _LeftOut("not a number") from None
    if len(numbers) > 1:
        raise _LeftOut(f"{len(numbers)} different values in one image, {min(numbers):g} to {max(numbers):g}")
    return numbers.pop() if numbers else None


def _checked(number: float, quantity: str, unit: str) -> float:
    """Return a number in the unit of its quantity, if it can be a dose."""
    if not math.isfinite(number):
        raise _LeftOut("not a finite number")
    if number < 0:
        raise _LeftOut("a dose is not negative")
    if number == 0:
        raise _LeftOut("0 stands for a dose that was not recorded, or that is below the resolution of its unit")
    known = QUANTITIES[quantity]
    try:
        value = convert_dose(number, unit, to=known.unit)
    except DataError as error:
        raise _LeftOut(str(error).rstrip(".")) from None
    if value > known.largest:
        raise _LeftOut(
            f"{value:g} {known.unit} is more than any exposure gives ({known.largest:g} {known.unit}): the unit is "
            "another one than it should be"
        )
    return value


def _shown(dataset: Dataset, keyword: str, unit: str) -> str:
    """Return what stands in an attribute."""
    try:
        return f"{dataset[keyword].value} {unit}" if keyword in dataset else unit
    except (TypeError, ValueError, OverflowError):  # what stands there has no value at all
        return f"{dataset.get_item(keyword).value!r}"


def _phantom_of(dataset: Dataset) -> str:
    """Return what the CT doses of an image refer to."""
    places = [dataset]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (dataset.get(name) or [])[:1]:
            places += group.get("CTExposureSequence") or []
    for place in places:
        for code in (place.get("CTDIPhantomTypeCodeSequence") or [])[:1]:
            return _phantom(code)
    return ""


def _phantom(item: Dataset) -> str:
    """Put the code of a phantom into words."""
    code, meaning = _code(item)
    return _PHANTOMS.get(code, meaning)


# -------------------------------------------------------------------------------------------------- content of reports


def _numbers_of(report: Dataset) -> Iterator[tuple[Dataset, str, str, str]]:
    """Yield the numeric items of a report, with their event's UID, their plane or breast, and their phantom."""
    stack: list[tuple[Dataset, str, str, str]] = [(report, "", "", "")]
    while stack:
        container, event, part, phantom = stack.pop()
        items = list(container.get("ContentSequence") or [])
        concept = _code((container.get("ConceptNameCodeSequence") or [None])[0])[0]
        told = {_code((item.get("ConceptNameCodeSequence") or [None])[0])[0]: item for item in items}
        if concept in _EVENTS:
            event = _text(told[_EVENT_UID], "UID") if _EVENT_UID in told else ""
        part = _meaning(told.get(_PLANE)) or part
        phantom = _meaning(told.get(_PHANTOM), phantom=True) or phantom
        for item in reversed(items):
            if _text(item, "ValueType") == "NUM":
                sides = [
                    _meaning(each)
                    for each in item.get("ContentSequence") or []
                    if _code((each.get("ConceptNameCodeSequence") or [None])[0])[0] in _LATERALITY
                ]
                yield item, event, sides[0] if sides else part, phantom
            elif "ContentSequence" in item:
                stack.append((item, event, part, phantom))


def _measured(item: Dataset, quantity: str) -> tuple[float, str]:
    """Return the number of an item in the unit of its quantity, and as it was found."""
    values = item.get("MeasuredValueSequence") or []
    if not values:
        raise _LeftOut("no value")
    units = values[0].get("MeasurementUnitsCodeSequence") or []
    if not units:
        raise _LeftOut("no unit")
    code, scheme = _text(units[0], "CodeValue"), _text(units[0], "CodingSchemeDesignator")
    if scheme.upper() != "UCUM":
        raise _LeftOut(f"the unit is of the coding scheme {scheme or 'without name'}, and not of UCUM")
    try:
        number = float(values[0]["NumericValue"].value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _LeftOut("no number, or several") from None
    return _checked(number, quantity, code), f"{number:g} {code}"


def _shown_number(item: Dataset) -> str:
    """Return the number and the unit of an item, as far as they are there."""
    for value in (item.get("MeasuredValueSequence") or [])[:1]:
        units = value.get("MeasurementUnitsCodeSequence") or []
        code = _text(units[0], "CodeValue") if units else ""
        return f"{_text(value, 'NumericValue') or 'no number'} {code}".strip()
    return ""


def _scope(report: Dataset) -> str:
    """Return the UID of what a report's totals are accumulated over; "" if it is not told."""
    for item in report.get("ContentSequence") or []:
        if _code((item.get("ConceptNameCodeSequence") or [None])[0])[0] == _SCOPE:
            for child in item.get("ContentSequence") or []:
                if uid := _text(child, "UID"):
                    return uid
    return ""


def _meaning(item: Dataset | None, *, phantom: bool = False) -> str:
    """Return the value of a coded item in words; "" if there is none."""
    for code in (item.get("ConceptCodeSequence") or [])[:1] if item is not None else []:
        return _phantom(code) if phantom else _code(code)[1]
    return ""


def _code(item: Dataset | None) -> tuple[str, str]:
    """Return a code's value and its meaning."""
    if item is None:
        return "", ""
    code = _text(item, "CodeValue")
    if _text(item, "CodingSchemeDesignator") not in _SCHEMES:
        code = ""  # somebody's own, which may use the same numbers
    return code, _text(item, "CodeMeaning") or code


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text on one line, "" where it is missing, empty or cannot be read."""
    try:
        value: Any = dataset.get(keyword)
    except (TypeError, ValueError, OverflowError):
        return ""
    return " ".join(str("" if value is None else value).replace("\0", " ").split())


def _hash(letter: str, text: str) -> str:
    """Return what stands for an identifier; "" for none."""
    return letter + hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""
