"""How data sets lie on disk: a manifest, or one of the large public sets, recognised by its own files.

Every layout gives a `TableSource`. What a set says of an image beside its label (view, age, sex, and the split that
its authors made) comes along as facts; nothing is left out for its split, so who wants to compare with published
figures holds out the images whose split says so.

Images without a known patient cannot be kept together when the data is split: the identifiers of RSNA and VinDr are
those of images, not of patients, and are not taken for more.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.core.spec import LabelKind, LabelSpec
from medgan.data.decoded import FACTS, DecodedImage, ReadError, Reading
from medgan.data.labels import LabelForm, Missing, Uncertain, majority, parse_findings, settle, spread
from medgan.data.manifest import Rows, check_files, check_names, read_manifest, read_table
from medgan.data.readers import read_file
from medgan.data.sources import Entry, file_identity, list_folder
from medgan.data.splits import find_patients
from medgan.errors import ConfigError, DataError, nearest

__all__ = ["LAYOUTS", "TableSource", "open_layout"]


@dataclass(frozen=True)
class TableSource:
    """Images that a table names, with their labels.

    Attributes:
        path: The table, or the folder that its files are relative to.
        layout: One of `LAYOUTS`.
        name: Short name of the data set.
        labels: What the labels mean, or None.
        entries: The images; those that cannot be used say why.
        ignored: Rows left out because of the view, the labels or the policies, counted by reason.
        licence: Terms, where known.
        citation: How to cite it, where known.
        reading: How files become images.
    """

    path: Path
    layout: str
    name: str
    labels: LabelSpec | None
    entries: tuple[Entry, ...]
    ignored: dict[str, int] = field(default_factory=dict)
    licence: str | None = None
    citation: str | None = None
    reading: Reading = field(default_factory=Reading)

    @property
    def root(self) -> Path:
        """The folder that the files of the entries are relative to."""
        return self.path.parent if self.layout == "manifest" else self.path

    @property
    def description(self) -> str:
        """The path."""
        return str(self.path)

    def identity(self) -> Iterator[Any]:
        """Yield all that the table says, and path, size and times of every file."""
        yield [self.layout, str(self.path), None if self.labels is None else [self.labels.kind, *self.labels.names]]
        for entry in self.entries:
            yield [entry.label, entry.patient_id, entry.values, dict(entry.facts)]
            if entry.refused is None:
                yield from file_identity(self.root / entry.file, entry.file)
            else:
                yield [entry.file, entry.refused.error]

    def read(self, position: int) -> Sequence[DecodedImage]:
        """Read the images of an entry; see `medgan.data.readers.read_file`."""
        return read_file(self.root / self.entries[position].file, self.reading)


class _Preset(NamedTuple):
    """A known data set: how it is told, found and licensed."""

    summary: str
    find: Callable[[Path, Sequence[str] | None, Reading], tuple[Path, Rows]]  # gives the root of the files as well
    licence: str
    citation: str


def open_layout(
    path: Path,
    layout: str,
    *,
    labels: tuple[str, ...] | None,
    label_kind: LabelKind | None,
    uncertain: Uncertain | None,
    missing: Missing | None,
    view: str | None,
    reading: Reading,
) -> TableSource:
    """List the images of a manifest or a known data set, without opening them.

    Args:
        path: The table of a manifest; else the folder of the data set.
        layout: One of `LAYOUTS`.
        labels: Labels to keep, in this order; None for all. A single finding gives two classes, without and with it.
            Images of other classes are left out; of other findings nothing is.
        label_kind: What the labels of a manifest are, where the table does not show it.
        uncertain: What to make of uncertain findings; see `medgan.data.labels.settle`.
        missing: What to make of missing labels; see `medgan.data.labels.settle`.
        view: Only images of this view, such as PA, in small or capital letters.
        reading: How files become images.

    Returns:
        The source. Rows that cannot be used, such as those of absent files, are entries that say why.

    Raises:
        ConfigError: If an option is unknown, or does not fit the layout.
        DataError: If the data is not there or not understood, a label or view does not exist, or labels are uncertain
            or missing and nothing says what to make of them.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is unknown. {nearest(layout, LAYOUTS)}")
    if layout == "manifest":
        if not path.is_file():
            raise DataError(f"There is no table {path}. A manifest is a .csv or .parquet file with a column path.")
        path = path.parent.resolve() / path.name
        rows, root = read_manifest(path, labels=labels, label_kind=label_kind), path.parent
        licence, citation = None, None
        name = re.sub(r"[^\w.-]+", "-", path.name.split(".")[0]).strip("-.") or "data"
    else:
        if not path.is_dir():
            raise DataError(f"There is no folder {path}. For --layout {layout}, give the folder of the data set.")
        if label_kind is not None:
            raise ConfigError(f"--label-kind is for manifests; the labels of {layout} are known. Leave it out.")
        preset = _PRESETS[layout]
        path, rows = preset.find(path.resolve(), labels, reading)
        root, licence, citation, name = path, preset.licence, preset.citation, layout
    ignored: dict[str, int] = {}
    if view is not None:
        rows = _only_view(rows, view, path, ignored)
    rows = _only_labels(rows, labels, path, ignored)
    files, absent = check_files(list(rows.frame["file"]), root)
    rows = _refuse_repeats(replace(rows, frame=rows.frame.assign(file=files)), root)
    spec, texts, values, keep = _settle(rows, uncertain, missing)
    if not keep.all():
        ignored["rows dropped for uncertain or missing labels"] = int((~keep).sum())
    entries = _entries(replace(rows, refused=absent | rows.refused), texts, values, keep)
    if not entries:
        raise DataError(f"No images found in the dataset. Given: {path}; left out: {ignored}. Keep more of the rows.")
    return TableSource(path, layout, name, spec, entries, ignored, licence, citation, reading)


def _take(rows: Rows, wanted: NDArray[np.bool_]) -> Rows:
    """Return some of the rows."""
    place = {int(old): new for new, old in enumerate(np.flatnonzero(wanted))}
    refused = {place[position]: error for position, error in rows.refused.items() if position in place}
    return replace(rows, frame=rows.frame[wanted], values=rows.values[wanted], refused=refused)


def _only_view(rows: Rows, view: str, path: Path, ignored: dict[str, int]) -> Rows:
    """Keep the images of a view."""
    columns = [name for name in ("view", "projection") if name in rows.frame]
    if not columns:
        raise DataError(
            f"{path} does not tell the view of its images, as a manifest does in a column view. Leave out --view."
        )
    wanted = np.zeros(len(rows.frame), dtype=bool)
    for name in columns:
        wanted |= (rows.frame[name].str.casefold() == view.strip().casefold()).to_numpy()
    if not wanted.any():
        told = rows.frame[columns]
        counts = {name: int((told == name).any(axis=1).sum()) for name in np.unique(told)}
        listed = ", ".join(f"{name or 'unknown'}: {count:,}" for name, count in counts.items())
        raise DataError(f"{path} has no image of the view {view!r}. Its views: {listed}.")
    if not wanted.all():
        ignored["rows of other views"] = int((~wanted).sum())
    return _take(rows, wanted)


def _only_labels(rows: Rows, labels: Sequence[str] | None, path: Path, ignored: dict[str, int]) -> Rows:
    """Keep the labels that are wanted, in their order; of classes, those that occur at all."""
    if rows.kind is None:
        return rows
    if labels is not None:
        check_names(labels, rows.names, f"label of {path}")
    if rows.kind in ("multilabel", "continuous"):
        columns = [rows.names.index(name) for name in labels or rows.names]
        return replace(rows, names=tuple(labels or rows.names), values=rows.values[:, columns])
    numbers = rows.values[:, 0]
    occurring = set(np.unique(numbers[~np.isnan(numbers)]).astype(int))
    names = labels or [name for number, name in enumerate(rows.names) if number in occurring]
    new = np.full(len(rows.names) + 1, -1.0)  # the last is that of missing labels
    new[-1] = np.nan
    for position, name in enumerate(names):
        new[rows.names.index(name)] = position
    numbers = new[np.nan_to_num(numbers, nan=len(rows.names)).astype(int)]
    wanted = ~(numbers == -1)
    if not wanted.all():
        ignored["rows of other labels"] = int((~wanted).sum())
    return _take(replace(rows, names=tuple(names), values=numbers[:, None]), wanted)


def _refuse_repeats(rows: Rows, root: Path) -> Rows:
    """Refuse rows that name a file again, and all rows of a file that contradict each other."""
    files = rows.frame["file"].reset_index(drop=True).str.removeprefix(f"{root}/")
    files = files[(files != "") & files.duplicated(keep=False)]
    if not len(files):
        return rows
    said = pd.DataFrame({"file": files, "patient": rows.frame["patient_id"].to_numpy()[files.index]})
    said["label"] = [row.tobytes() for row in rows.values[files.index] + 0.0]  # 0 and -0 are one value
    error = ReadError("list", "duplicate row", "delete it, as another row names the same file")
    refused = rows.refused | dict.fromkeys(files.index[files.duplicated()].tolist(), error)
    different = said.groupby("file")[["label", "patient"]].transform("nunique") > 1
    for _, group in said[different.any(axis=1)].groupby("file"):
        error = _contradiction(rows, list(group.index))
        refused.update(dict.fromkeys(group.index.tolist(), error))
    return replace(rows, refused=refused)


def _contradiction(rows: Rows, positions: Sequence[int]) -> ReadError:
    """Say how rows of one file contradict each other."""
    values = rows.values[positions]
    differing = [not np.array_equal(column, np.full_like(column, column[0]), equal_nan=True) for column in values.T]
    if any(differing):
        told = dict.fromkeys(_tell(rows, row, differing) for row in values)
        return ReadError("list", f"contradictory labels: {', '.join(told)}", "keep the row that is right")
    told = dict.fromkeys(patient or "none" for patient in rows.frame["patient_id"].iloc[list(positions)])
    return ReadError("list", f"contradictory patients: {', '.join(told)}", "keep the row that is right")


def _tell(rows: Rows, row: NDArray[np.float64], columns: Iterable[bool]) -> str:
    """Put the label of a row into words; only some of the columns, where there are several."""
    if rows.kind in ("categorical", "ordinal"):
        return "missing" if np.isnan(row[0]) else rows.names[int(row[0])]
    told = [f"{name} {value:g}" for name, value, wanted in zip(rows.names, row, columns, strict=True) if wanted]
    return " and ".join(told).replace("nan", "missing")


def _settle(
    rows: Rows, uncertain: Uncertain | None, missing: Missing | None
) -> tuple[LabelSpec | None, list[str], NDArray[np.float32], NDArray[np.bool_]]:
    """Apply the policies; return what labels mean, their texts, values (K = 0 for classes), and which rows to keep."""
    count = len(rows.frame)
    none = np.zeros((count, 0), np.float32)
    if rows.kind is None:
        return None, [""] * count, none, np.ones(count, dtype=bool)
    binary = rows.kind == "multilabel" and len(rows.names) == 1
    forms: dict[LabelKind, LabelForm] = {"multilabel": "findings", "continuous": "numbers"}
    form = "finding" if binary else forms.get(rows.kind, "classes")
    names = rows.names if form != "classes" else ("label",)
    refused = list(rows.refused)
    usable = rows.values.copy()
    usable[refused] = 0  # what cannot be used needs no policy
    values, keep = settle(usable, names, form, uncertain=uncertain, missing=missing)
    values[refused] = rows.values[refused]
    if form in ("findings", "numbers"):
        spec = LabelSpec(rows.names, rows.kind)
        told = {row: _tell_values(spec, row) for row in {row.tobytes() for row in values}}
        return spec, [told[row.tobytes()] for row in values], values, keep
    spec = LabelSpec((f"no {rows.names[0]}", rows.names[0])) if binary else LabelSpec(rows.names, rows.kind)
    texts = dict(enumerate(spec.names))
    return spec, [texts.get(number, "") for number in values[:, 0].tolist()], none, keep


def _tell_values(spec: LabelSpec, row: bytes) -> str:
    """Put the values of an image into words: the findings that it has, or the numbers."""
    values = np.frombuffer(row, dtype=np.float32)
    if spec.kind == "multilabel":
        return "|".join(name for name, value in zip(spec.names, values, strict=True) if value == 1)
    return "|".join("" if np.isnan(value) else f"{value:g}" for value in values)


def _entries(
    rows: Rows, texts: Sequence[str], values: NDArray[np.float32], keep: NDArray[np.bool_]
) -> tuple[Entry, ...]:
    """Make the entries of the rows to keep."""
    frame = rows.frame
    known = [name for name in FACTS if name in frame]
    told_of = list(zip(*(frame[name] for name in known), strict=True)) if known else [()] * len(frame)
    facts = {told: {name: fact for name, fact in zip(known, told, strict=True) if fact} for told in set(told_of)}
    files, patients, numbers = list(frame["file"]), list(frame["patient_id"]), values.tolist()
    return tuple(
        Entry(
            files[position] or f"row {frame.index[position] + 1}",
            texts[position],
            patients[position],
            tuple(numbers[position]),
            rows.refused.get(position),
            facts[told_of[position]],  # shared, as most images have the facts of others
            patient_in_file=rows.patients_in_files,
        )
        for position in np.flatnonzero(keep).tolist()
    )


# ------------------------------------------------------------------------------------------ finding files and columns


def _find(root: Path, *names: str) -> Path:
    """Return the first of some files that exists, perhaps gzipped."""
    for name in names:
        for path in (root / name, root / f"{name}.gz"):
            if path.is_file():
                return path
    found = sorted(path.name for path in root.glob("*.csv*"))
    raise DataError(
        f"{root} holds no {' or '.join(names)}. Give the folder of the data set that holds it; tables found: "
        f"{', '.join(found) or 'none'}."
    )


def _list_images(root: Path, *folders: str, stems: bool = False) -> dict[str, str]:
    """Return the files of folders by their names, or names without suffix, as posix paths relative to the root."""
    found: dict[str, str] = {}
    places = [place for pattern in folders for place in ([root] if pattern == "." else sorted(root.glob(pattern)))]
    there = [place for place in places if place.is_dir()]
    if not there:
        raise DataError(f"{root} has none of the folders {', '.join(folders)}, in which the images of the set lie.")
    for folder in there:
        prefix = folder.relative_to(root).as_posix()
        with os.scandir(folder) as files:
            for file in files:
                name = file.name.rpartition(".")[0] if stems else file.name
                if name and not file.name.startswith("."):
                    found.setdefault(name, file.name if prefix == "." else f"{prefix}/{file.name}")
    return found


def _findings(path: Path, table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """Read columns of findings."""
    return np.column_stack([parse_findings(table[name], f"{path}: column {name}") for name in names])


# -------------------------------------------------------------------------------------------------------- the presets


def _find_kermany(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """Chest X-rays of children: class folders, or train, test and val with class folders in each."""
    splits = [name for name in ("train", "test", "val") if (root / name).is_dir()]
    found: list[tuple[str, Entry]] = []
    names: set[str] = set()
    for split in splits or [""]:
        folder = list_folder(root / split, "kermany", reading)
        if folder.labels is None:
            raise DataError(f"{root / split} has no class folders. Give the folder that holds NORMAL and PNEUMONIA.")
        names |= set(folder.labels.names)
        found += [(split, entry) for entry in folder.entries]
    frame = pd.DataFrame({"file": [f"{split}/{entry.file}".lstrip("/") for split, entry in found]}, dtype=object)
    usable = [position for position, (_, entry) in enumerate(found) if entry.refused is None]
    patients = find_patients([frame["file"][position] for position in usable], "kermany")
    frame["patient_id"] = pd.Series(patients, index=usable, dtype="str").reindex(frame.index).fillna("")
    # Kaggle's val holds 16 images, too few to tell anything: they train.
    frame["split"] = ["train" if split == "val" else split for split, _ in found]
    order = sorted(names)
    values = np.array([[order.index(entry.label) if entry.label else np.nan] for _, entry in found])
    refused = {position: entry.refused for position, (_, entry) in enumerate(found) if entry.refused is not None}
    return root, Rows(frame, "categorical", tuple(order), values, refused)


def _find_nih(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """NIH ChestX-ray14: one table, images in one folder or in twelve."""
    path = _find(root, "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
    facts = {"View Position": "view", "Patient Age": "age", "Patient Gender": "sex", "Patient Sex": "sex"}
    table = read_table(path, ("Image Index", "Finding Labels", "Patient ID"), facts)
    images = _list_images(root, "images", "images_*", "images_*/images")
    frame = pd.DataFrame({"file": [images.get(name, f"images/{name}") for name in table["Image Index"]]})
    frame["patient_id"] = table["Patient ID"]
    for column, fact in facts.items():
        if column in table:
            frame[fact] = table[column]
    if (root / "test_list.txt").is_file():
        test = set((root / "test_list.txt").read_text(encoding="utf-8").split())
        frame["split"] = ["test" if name in test else "train" for name in table["Image Index"]]
    names, values = spread([[name for name in found.split("|") if name] for found in table["Finding Labels"]])
    return root, Rows(frame, "multilabel", names, values, {})


def _find_chexpert(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """CheXpert: train.csv and valid.csv, whose paths begin with the name that the folder had."""
    tables = ("train.csv", "valid.csv")
    places = [root, *sorted(path for path in root.glob("CheXpert*") if path.is_dir())]
    root = next((place for place in places if any((place / name).is_file() for name in tables)), root)
    facts = {"AP/PA": "view", "Frontal/Lateral": "projection", "Age": "age", "Sex": "sex"}
    frames: list[pd.DataFrame] = []
    names: list[str] = []
    values: list[NDArray[np.float64]] = []
    for path in [root / name for name in tables if (root / name).is_file()] or [_find(root, *tables)]:
        table = read_table(path, ("Path", *facts))
        names = names or [column for column in map(str, table) if column not in ("Path", *facts)]
        check_names(names, list(map(str, table)), f"column of {path}")
        frame = table[list(facts)].rename(columns=facts)
        frame.insert(0, "file", table["Path"].str.replace(r"^CheXpert[^/]*/", "", regex=True))
        frame["patient_id"] = table["Path"].str.extract(r"(patient\d+)", expand=False).fillna("")
        frame["view"] = frame["view"].where(frame["view"] != "", frame["projection"])
        frame["split"] = path.name.partition(".")[0]
        frames.append(frame)
        values.append(_findings(path, table, names))
    return root, Rows(pd.concat(frames, ignore_index=True), "multilabel", tuple(names), np.concatenate(values), {})


def _find_mimic(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """MIMIC-CXR-JPG: labels of studies, metadata and splits of images."""
    stem = "mimic-cxr-2.0.0"
    images = read_table(_find(root, f"{stem}-metadata.csv"), ("dicom_id", "subject_id", "study_id"), ("ViewPosition",))
    path = _find(root, f"{stem}-chexpert.csv")
    studies = read_table(path, ("subject_id", "study_id"))
    if studies["study_id"].duplicated().any():
        raise DataError(f"{path} has several rows for one study. Download it again.")
    if not (root / "files").is_dir():
        raise DataError(f"{root} has no folder files, in which the images of the set lie (files/p10/...).")
    patient, study, image = images["subject_id"], images["study_id"], images["dicom_id"]
    frame = pd.DataFrame({"file": "files/p" + patient.str[:2] + "/p" + patient + "/s" + study + "/" + image + ".jpg"})
    frame["patient_id"] = patient
    if "ViewPosition" in images:
        frame["view"] = images["ViewPosition"]
    if any((root / f"{stem}-split.csv{suffix}").is_file() for suffix in ("", ".gz")):
        splits = read_table(_find(root, f"{stem}-split.csv"), ("dicom_id", "split"), ())
        frame["split"] = image.map(dict(zip(splits["dicom_id"], splits["split"], strict=True))).fillna("")
    names = [name for name in map(str, studies) if name not in ("subject_id", "study_id")]
    row = pd.Index(studies["study_id"]).get_indexer(pd.Index(study))
    error = ReadError("list", f"its study is not in {path.name}", "leave it out: its report was not labelled")
    refused = dict.fromkeys(np.flatnonzero(row < 0).tolist(), error)
    return root, Rows(frame, "multilabel", tuple(names), _findings(path, studies, names)[row], refused)


def _find_rsna(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """RSNA pneumonia challenge: one row a box, and three classes in a table of their own.

    The patients of the table and of the files' headers are others for each image, so none is known.

    Without `labels`, whether there is an opacity; with several, the three classes, as those are exclusive.
    """
    path = _find(root, "stage_2_train_labels.csv")
    table = read_table(path, ("patientId", "Target"), ())
    target = pd.Series(_findings(path, table, ["Target"])[:, 0]).groupby(table["patientId"], sort=False).max()
    images = _list_images(root, "stage_2_train_images", stems=True)
    frame = pd.DataFrame({"file": [images.get(name, f"stage_2_train_images/{name}.dcm") for name in target.index]})
    frame["patient_id"] = ""
    opacity = "Lung Opacity"
    if labels is None or tuple(labels) == (opacity,):
        return root, Rows(
            frame, "multilabel", (opacity,), np.array(target, dtype=np.float64)[:, None], {}, patients_in_files=False
        )
    path = _find(root, "stage_2_detailed_class_info.csv")
    classes = read_table(path, ("patientId", "class")).drop_duplicates()
    if classes["patientId"].duplicated().any():
        raise DataError(f"{path} has several classes for one image. Download it again.")
    class_of = dict(zip(classes["patientId"], classes["class"], strict=True))
    names, values = spread([[class_of[name]] if name in class_of else [] for name in target.index])
    if len(labels) == 1:
        return root, Rows(frame, "multilabel", names, values, {}, patients_in_files=False)
    numbers = np.where(np.isnan(values[:, 0]), np.nan, values.argmax(axis=1)).astype(np.float64)
    return root, Rows(frame, "categorical", names, numbers[:, None], {}, patients_in_files=False)


def _find_vindr(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """VinDr-CXR, as PhysioNet or the challenge gives it; what most readers see is present, anything else absent."""
    tables = []
    for split in ("train", "test"):
        places = [root / folder / f"image_labels_{split}.csv" for folder in ("annotations", ".")]
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            table = read_table(path, ("image_id",)).rename(columns={"Other disease": "Other diseases"})
            names = [name for name in map(str, table) if name not in ("image_id", "rad_id")]
            found, votes = majority(table["image_id"], _findings(path, table, names))
            tables.append((split, found, pd.DataFrame(votes, columns=names)))
    if not tables:
        path = _find(root, "train.csv", "annotations/image_labels_train.csv")
        table = read_table(path, ("image_id", "class_name", "rad_id"), ())
        readings = table.groupby(["image_id", "rad_id"], sort=False)["class_name"].agg(list)
        found_names, marks = spread(list(readings))
        found, votes = majority(pd.Series(readings.index.get_level_values("image_id")), marks)
        tables.append(("train", found, pd.DataFrame(votes, columns=list(found_names))))
    images = _list_images(root, *(split for split, *_ in tables), stems=True)
    frame = pd.DataFrame(
        [(images.get(name, f"{split}/{name}.dicom"), "", split) for split, found, _ in tables for name in found],
        columns=["file", "patient_id", "split"],
    )
    voted = pd.concat([votes for *_, votes in tables])  # NaN where one of the tables lacks a finding
    return root, Rows(
        frame, "multilabel", tuple(map(str, voted)), voted.to_numpy(np.float64), {}, patients_in_files=False
    )


def _find_padchest(root: Path, labels: Sequence[str] | None, reading: Reading) -> tuple[Path, Rows]:
    """PadChest: one table, images in numbered folders or in one."""
    path = _find(root, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv")
    facts = {"Projection": "view", "PatientSex_DICOM": "sex"}
    needed = ("ImageID", "ImageDir", "Labels", "PatientID")
    table = read_table(path, needed, (*facts, "PatientBirth", "StudyDate_DICOM"))
    images = _list_images(root, "[0-9]", "[0-9][0-9]", "images*", ".")
    found = zip(table["ImageDir"], table["ImageID"], strict=True)
    frame = pd.DataFrame({"file": [images.get(name, f"{folder}/{name}") for folder, name in found]})
    frame["patient_id"] = table["PatientID"]
    for column, fact in facts.items():
        if column in table:
            frame[fact] = table[column]
    if "PatientBirth" in table and "StudyDate_DICOM" in table:  # the year of birth only, so up to a year too old
        ages = pd.to_numeric(table["StudyDate_DICOM"].str[:4], errors="coerce") - pd.to_numeric(
            table["PatientBirth"], errors="coerce"
        )
        frame["age"] = ages.map("{:.0f}".format, na_action="ignore").fillna("")
    lists = {text: _parse_list(text) for text in table["Labels"].unique()}
    error = ReadError("list", "its labels are no list of words", "mend the column Labels, or leave the image out")
    refused = {position: error for position, text in enumerate(table["Labels"]) if lists[text] is None}
    names, values = spread([lists[text] or [] for text in table["Labels"]])
    return root, Rows(frame, "multilabel", names, values, refused)


def _parse_list(text: str) -> list[str] | None:
    """Read words written as a Python list; none if there is nothing, None if it is something else."""
    try:
        words = ast.literal_eval(text or "[]")
    except (ValueError, SyntaxError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return [word.strip() for word in words if word.strip()]


_PRESETS: Mapping[str, _Preset] = MappingProxyType(
    {
        "kermany": _Preset(
            "Kermany chest X-rays of children: class folders, in train, test and val; val holds 16 images only.",
            _find_kermany,
            "CC BY 4.0",
            "Kermany et al., Cell 172(5), 1122-1131, 2018, doi:10.1016/j.cell.2018.02.010; data: "
            "doi:10.17632/rscbjbr9sj",
        ),
        "nih-chestxray14": _Preset(
            "NIH ChestX-ray14: Data_Entry_2017_v2020.csv, with images/ or images_001/ ... images_012/.",
            _find_nih,
            "no restrictions on use; acknowledge the NIH Clinical Center, and cite",
            "Wang et al., CVPR 2017, doi:10.1109/CVPR.2017.369",
        ),
        "chexpert": _Preset(
            "CheXpert: train.csv and valid.csv, with findings that are uncertain or not mentioned.",
            _find_chexpert,
            "research use only, by the agreement with Stanford University",
            "Irvin et al., AAAI 2019, doi:10.1609/aaai.v33i01.3301590",
        ),
        "mimic-cxr-jpg": _Preset(
            "MIMIC-CXR-JPG: mimic-cxr-2.0.0-{metadata,chexpert,split}.csv, with files/p10/...",
            _find_mimic,
            "PhysioNet credentialed data use agreement: no sharing of the data, nor of what may reveal it, as models "
            "and samples may",
            "Johnson et al., Scientific Data 6, 317, 2019, doi:10.1038/s41597-019-0322-0",
        ),
        "rsna-pneumonia": _Preset(
            "RSNA pneumonia challenge: stage_2_train_labels.csv, with stage_2_train_images/; no patients known.",
            _find_rsna,
            "terms of the RSNA challenge, research and education only",
            "Shih et al., Radiology: Artificial Intelligence 1(1), 2019, doi:10.1148/ryai.2019180041",
        ),
        "vindr-cxr": _Preset(
            "VinDr-CXR: image_labels_train.csv or train.csv, with train/; majority of the readers; no patients known.",
            _find_vindr,
            "research use only, by the agreement with PhysioNet or VinBigData",
            "Nguyen et al., Scientific Data 9, 429, 2022, doi:10.1038/s41597-022-01498-w",
        ),
        "padchest": _Preset(
            "PadChest: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, with images in folders 0, 1, ...",
            _find_padchest,
            "research use only, share alike",
            "Bustos et al., Medical Image Analysis 66, 101797, 2020, doi:10.1016/j.media.2020.101797",
        ),
    }
)

LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        "manifest": "A table with the columns path and label; perhaps patient_id, split, view, age, sex, source_path.",
        **{name: preset.summary for name, preset in _PRESETS.items()},
    }
)
"""Names of the layouts, each with a line about it."""
