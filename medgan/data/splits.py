"""Dividing a data set: patients apart, classes in their shares, the same on every machine, kept in a file."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.errors import ConfigError, DataError, nearest

__all__ = [
    "INITIAL",
    "PATIENT_PRESETS",
    "SplitBy",
    "Splits",
    "find_patients",
    "image_identities",
    "make_folds",
    "make_splits",
    "whole_unit",
]

INITIAL = "initial"
"""Stands for the part of an image that only the model was trained on which a training began from."""

SplitBy = Literal["auto", "patient", "image"]
"""What stays whole; see `make_splits`."""

PATIENT_PRESETS = {
    "kermany": (
        r"(?:^|/)(?:(person\d+_(?:bacteria|virus))_\d+"  # Kaggle: bacteria and viruses are numbered independently
        r"|((?:NORMAL\d*-)?IM-\d+)-\d+"  # Kaggle: NORMAL2-IM-0383-0001, IM-0115-0001
        r"|((?:NORMAL|BACTERIA|VIRUS)-\d+)-\d+)[^/]*$"  # Mendeley: BACTERIA-40699-0001
    ),
}
"""Regular expressions for known data sets, by name."""

_FORMAT, _VERSION = "medgan splits", 1
_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}  # what sources call their parts
_FREQUENT = 50  # images of a combination of findings that is a stratum of its own
_BINS, _BIN_IMAGES = 10, 20  # most bins of continuous labels, fewest images of a bin


def find_patients(files: Sequence[str], patient_regex: str) -> list[str]:
    """Read patient ids off file names.

    Args:
        files: Posix paths relative to the data set.
        patient_regex: Name of a preset of `PATIENT_PRESETS`, or a regular expression that is searched in the path. Its
            groups, joined by "_", are the patient id; without groups the whole match is.

    Returns:
        One id a file.

    Raises:
        DataError: If the expression is invalid, does not match every file, or yields an empty id.
    """
    try:
        pattern = re.compile(PATIENT_PRESETS.get(patient_regex, patient_regex))
    except re.error as error:
        raise DataError(
            f"patient_regex {patient_regex!r} is not a regular expression: {error}. Type for example "
            r"--patient-regex 'patient(\d+)', or a preset. " + nearest(patient_regex, PATIENT_PRESETS)
        ) from error
    patients = [_patient(pattern.search(file)) for file in files]
    missed = [file for file, patient in zip(files, patients, strict=True) if not patient]
    if missed:
        hint = nearest("" if patient_regex in PATIENT_PRESETS else patient_regex, PATIENT_PRESETS)
        raise DataError(
            f"patient_regex {patient_regex!r} finds no patient in {len(missed)} of {len(files)} files, for example "
            f"{missed[0]!r}. Give a regular expression whose groups are the patient id in every path, for example "
            rf"--patient-regex 'patient(\d+)', or a preset. {hint}"
        )
    return patients


def _patient(match: re.Match[str] | None) -> str:
    """Return the patient id of a match, or "" without one."""
    if match is None:
        return ""
    return "_".join(group for group in match.groups() if group) if match.re.groups else match.group()


def image_identities(index: pd.DataFrame) -> list[str]:
    """Name each image: its file, with the part where one file holds several images.

    Args:
        index: `ImageDataset.index`.

    Returns:
        One name an image, such as ``NORMAL/a.png`` or ``scan.nii.gz#axial 42``.

    Raises:
        DataError: If two images have the same name.
    """
    parts = index["part"] if "part" in index else [""] * len(index)
    names = [f"{file}#{part}" if part else str(file) for file, part in zip(index["file"], parts, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name, count in pd.Series(names).value_counts().items() if count > 1)
        raise DataError(
            f"{len(names) - len(set(names))} of {len(names)} images are listed more than once, for example {twice!r}. "
            "List each image once."
        )
    return names


@dataclass(frozen=True)
class Splits:
    """Which images of a data set are for what; made by `make_splits` or `make_folds`, kept in a file.

    Attributes:
        by: What was kept whole when it was drawn: ``patient`` or ``image``; ``source`` if the source itself says which
            images are held out.
        seed: What it was drawn with.
        parts: Names of images (`image_identities`), sorted, by part: ``train``, ``validation`` and, if there is one,
            ``test``. Or ``fold 0``, ``fold 1``, ..., with ``train`` for images that only ever train, and ``test`` for
            those that the source sets aside, where there are any.

    Raises:
        DataError: If an image is in two parts.
    """

    by: Literal["patient", "image", "source"]
    seed: int
    parts: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Check that no image is in two parts."""
        seen: dict[str, str] = {}
        for part, images in self.parts.items():
            for image in images:
                if image in seen:
                    raise DataError(f"The image {image!r} is in {seen[image]!r} and in {part!r}. Keep it in one.")
                seen[image] = part

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of the names of all images; it fits the same images at any size and with any labels."""
        names = sorted(image for images in self.parts.values() for image in images)
        return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()

    def to_json(self) -> str:
        """Return the text that `read` reads."""
        facts = {"format": _FORMAT, "version": _VERSION, "by": self.by, "seed": self.seed}
        parts = {part: list(images) for part, images in self.parts.items()}
        return (
            json.dumps({**facts, "fingerprint": self.fingerprint, "parts": parts}, indent=1, ensure_ascii=False) + "\n"
        )

    def write(self, path: Path) -> None:
        """Write a file for `read`; one that is there is replaced, whole or not at all.

        Args:
            path: The file, such as ``splits.json``.

        Raises:
            CheckpointError: If it cannot be written.
        """
        from medgan.core.saving import write_aside  # imports torch

        with write_aside(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8", errors="surrogateescape")

    @classmethod
    def read(cls, path: Path) -> Splits:
        """Read a file that `write` wrote.

        Args:
            path: The file.

        Returns:
            The splits.

        Raises:
            DataError: If there is no such file, or it holds something else.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror}). Give a splits.json of an earlier run."
            ) from error
        except (ValueError, RecursionError) as error:  # the latter of thousands of brackets
            raise DataError(f"{path} is not JSON ({error}). Give a splits.json of an earlier run.") from error
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise DataError(f'{path} holds no splits: expected "format": "{_FORMAT}". Give a splits.json of a run.')
        if facts.get("version") != _VERSION:
            raise DataError(
                f"{path} is of version {facts.get('version')!r}, this medgan reads {_VERSION}. Make the split anew, or "
                "install the medgan that wrote it."
            )
        by, seed, parts = facts.get("by"), facts.get("seed"), facts.get("parts")
        if by not in ("patient", "image", "source") or not isinstance(seed, int) or not _are_parts(parts):
            raise DataError(f"{path} is damaged: by, seed or parts are not what they must be. Make the split anew.")
        unknown = [part for part in parts if not re.fullmatch(r"train|validation|test|fold (0|[1-9][0-9]*)", part)]
        if unknown:
            raise DataError(
                f"{path} has a part {unknown[0]!r}. The parts are train, validation, test, fold 0, fold 1, ...: make "
                "the split anew."
            )
        splits = cls(by, seed, {part: tuple(images) for part, images in parts.items()})
        if splits.fingerprint != facts.get("fingerprint"):
            raise DataError(
                f"{path} was changed after it was written: its images do not give its fingerprint. Make the split anew."
            )
        return splits

    def positions(self, index: pd.DataFrame, *, allow_patient_overlap: bool = False) -> dict[str, NDArray[np.int64]]:
        """Find the images of each part in a data set.

        Args:
            index: `ImageDataset.index`.
            allow_patient_overlap: Accept patients in two parts.

        Returns:
            Positions in `index`, rising, by part.

        Raises:
            DataError: If the images are not exactly those of the split, or a patient, the parts of one file or pairs
                of one source are in two parts.
        """
        names = image_identities(index)
        part_of = {image: part for part, images in self.parts.items() for image in images}
        missing, extra = sorted(part_of.keys() - set(names)), sorted(set(names) - part_of.keys())
        if missing or extra:
            found = [
                f"{len(these)} of {total} images of {whole} (for example {these[0]!r})"
                for these, total, whole in (
                    (missing, len(part_of), "the split are not in the data"),
                    (extra, len(names), "the data are not in the split"),
                )
                if these
            ]
            raise DataError(
                f"The split is of other data: {' and '.join(found)}. Give the data that it was made for, or make a new "
                "split."
            )
        found_in = np.array([part_of[name] for name in names], dtype=object)
        what = "files with several images" if "source_path" not in index else "files of several images or pairs"
        _check_apart(_whole(index, by_patient=False), found_in, what, "")
        if not allow_patient_overlap:
            _check_apart(_whole(index, by_patient=True), found_in, "patients", _HOW_TO_ALLOW)
        return {part: np.flatnonzero(found_in == part) for part in self.parts}

    def fold(self, number: int) -> Splits:
        """Turn folds into the split that holds one of them out.

        Args:
            number: Which fold is for validation, from 0.

        Returns:
            ``train``, ``validation`` and, if the source has one, ``test``.

        Raises:
            ConfigError: If there is no such fold.
        """
        folds = [part for part in self.parts if part.startswith("fold ")]
        if f"fold {number}" not in folds:
            have = f"The folds are 0 to {len(folds) - 1}" if folds else "There are no folds"
            raise ConfigError(f"There is no fold {number}. {have}.")
        training = [part for part in (*folds, "train") if part in self.parts and part != f"fold {number}"]
        parts = {
            "train": tuple(sorted(image for part in training for image in self.parts[part])),
            "validation": self.parts[f"fold {number}"],
        }
        return Splits(self.by, self.seed, parts | {part: self.parts[part] for part in ("test",) if part in self.parts})


_HOW_TO_ALLOW = "accept it with --allow-patient-overlap (in Python, allow_patient_overlap=True)"


def _are_parts(value: Any) -> TypeGuard[dict[str, list[str]]]:
    """Whether a JSON value is lists of names by name."""
    return isinstance(value, dict) and all(
        isinstance(images, list) and all(isinstance(image, str) for image in images) for images in value.values()
    )


def whole_unit(index: pd.DataFrame) -> Literal["patient", "image"]:
    """Return what to divide images by where the source's own split does not count: patients if any is known.

    Args:
        index: `ImageDataset.index`.

    Returns:
        A value for ``by`` of `make_splits` and `make_folds`.
    """
    return "patient" if (index["patient_id"] != "").any() else "image"


def make_splits(
    index: pd.DataFrame,
    labels: NDArray[Any] | None,
    *,
    validation: float,
    test: float = 0.0,
    seed: int = 0,
    by: SplitBy = "auto",
    allow_patient_overlap: bool = False,
) -> Splits:
    """Draw images for validation and test, all images of a patient on one side, all classes in their shares.

    Patients count, and not their images: a share of the patients of each stratum is drawn. A stratum is a class. Of a
    multi-label set it is a combination of findings that at least 50 images have; other images belong to their rarest
    finding (a masked one counts as absent). Of continuous labels it is one of up to 10 bins of equally many images, by
    the first column. A patient of several strata counts as of the rarest. Each stratum with at least two patients has
    at least one on either side. A test set is drawn after the validation set, and does not change it.

    Images whose ``origin`` is ``synthetic``, and patients who have such, only ever train. The images of one file stay
    together, however it is split; so do pairs of one source whose patient is not known.

    Args:
        index: `ImageDataset.index`; its order does not matter.
        labels: `ImageDataset.labels`.
        validation: Share for validation, below 1; 0 for none but the source's own.
        test: Share for the test; 0 for none but the source's own.
        seed: Same seed, same split, on every machine; below 2**32.
        by: ``patient``, ``image``, or ``auto``: the source's own validation and test images (column ``split``) where it
            has them, the shares of the rest where it has not; by patient where patients are known, else by image, with
            a `medgan.data.DataWarning`. Images of unknown patients are each of a patient of their own, which is warned
            of, too.
        allow_patient_overlap: Accept patients on two sides.

    Returns:
        The split.

    Raises:
        ConfigError: If a share, the seed or `by` is not usable.
        DataError: If patients are wanted but unknown, there are too few of them, or a patient would be on two sides.
    """
    if not 0 <= validation < 1:
        raise ConfigError(f"validation must be at least 0 and below 1, for example 0.1, got {validation}.")
    if not 0 <= test < 1 - validation:
        raise ConfigError(
            f"test must be at least 0 and leave something to train on: below {1 - validation:g} for "
            f"validation={validation}, got {test}."
        )
    cohort = _Cohort.of(index, labels, seed, by, allow_patient_overlap)
    sides = np.where(cohort.source == "", "train", cohort.source).astype(object)
    own = [part for part in ("validation", "test") if (sides == part).any()]
    if own and not (sides == "train").any():
        raise DataError(
            f"All {len(sides)} images are held out by the source itself, and none is left to train on. Divide them "
            'anew with --split-by patient (in Python, by="patient"), or give the images for training as well.'
        )
    left = 1.0
    for part, share in (("validation", validation), ("test", test)):
        if share and part not in own:
            free = np.flatnonzero((sides == "train") & cohort.free)
            sides[free[_draw(cohort.groups[free], cohort.strata[free], share / left, seed)]] = part
            left -= share
    if left < 1:
        cohort.warn_of_images()
    parts = {part: cohort.names[sides == part] for part in ("train", "validation", "test")}
    return Splits(
        by="source" if own else cohort.by,
        seed=int(seed),
        parts={part: tuple(names) for part, names in parts.items() if len(names)},
    )


def make_folds(
    index: pd.DataFrame,
    labels: NDArray[Any] | None,
    *,
    folds: int,
    seed: int = 0,
    by: SplitBy = "auto",
    allow_patient_overlap: bool = False,
) -> Splits:
    """Divide all images into folds for cross-validation, each patient in one fold, all classes in their shares.

    See `make_splits` for strata, for files and for synthetic images: those are in the part ``train``. With ``auto``,
    images that the source sets aside for the test are in no fold, but in the part ``test``.

    Args:
        index: `ImageDataset.index`; its order does not matter.
        labels: `ImageDataset.labels`.
        folds: Number of folds, at least 2.
        seed: Same seed, same folds, with one version of scikit-learn; below 2**32.
        by: As in `make_splits`; the source's own validation images are divided with the rest.
        allow_patient_overlap: Accept patients on two sides.

    Returns:
        The folds; `Splits.fold` makes a split of each.

    Raises:
        ConfigError: If an option is not usable.
        DataError: If a class has fewer patients than there are folds, or as in `make_splits`.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    if folds < 2:
        raise ConfigError(f"folds must be at least 2, for example 5, got {folds}.")
    cohort = _Cohort.of(index, labels, seed, by, allow_patient_overlap, own=("test",))
    parts = {"train": ~cohort.free & (cohort.source != "test"), "test": cohort.source == "test"}
    free = np.flatnonzero(~parts["train"] & ~parts["test"])
    groups = np.unique(cohort.groups[free], return_inverse=True)[1]
    strata, sizes = np.unique(cohort.strata[free], return_inverse=True, return_counts=True)[1:]
    if labels is None or labels.ndim > 1:  # strata are a means only
        fewest, what = len(set(groups)), "The data"
    else:
        patients = [len(set(groups[strata == stratum])) for stratum in range(len(sizes))]
        fewest = min(patients, default=0)
        what = f"The class {cohort.labels[free[strata == patients.index(fewest)]][0]!r}" if patients else "The data"
    if fewest < folds:
        units = "patients" if cohort.by == "patient" else "images"
        raise DataError(
            f"{what} has {fewest} {units}, too few for {folds} folds. Type fewer folds, or leave the class out."
        )
    strata = np.where(sizes[strata] < folds, len(sizes), strata)  # scikit-learn wants an image a fold
    # Up to version 1.7 of scikit-learn, shuffle=True loses the strata: it deals out other groups than it has counted.
    shuffled = np.random.RandomState(seed).permutation(groups.max() + 1)[groups]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # of strata that are no classes
        dealt = [held for _, held in StratifiedGroupKFold(folds).split(strata, strata, shuffled)]
    cohort.warn_of_images()
    images = {f"fold {number}": cohort.names[free[held]] for number, held in enumerate(dealt)}
    images |= {part: cohort.names[chosen] for part, chosen in parts.items() if chosen.any()}
    return Splits(by=cohort.by, seed=int(seed), parts={part: tuple(names) for part, names in images.items()})


@dataclass(frozen=True, eq=False)
class _Cohort:
    """Images about to be divided, in the order of their names, so that the order of the index does not matter."""

    by: Literal["patient", "image"]
    reason: str  # for images that are divided one by one
    names: NDArray[np.object_]
    labels: NDArray[np.object_]  # class names
    groups: NDArray[np.int64]  # images of one group stay together
    strata: NDArray[np.int64]
    source: NDArray[np.object_]  # the source's own part, or ""
    free: NDArray[np.bool_]  # may be held out
    unknown: int  # images without a patient among those that may be held out, and on which the source has no say

    @classmethod
    def of(
        cls,
        index: pd.DataFrame,
        labels: NDArray[Any] | None,
        seed: int,
        by: SplitBy,
        allow_patient_overlap: bool,
        own: tuple[str, ...] = ("validation", "test"),
    ) -> _Cohort:
        """Sort the images and find out what stays together.

        Args:
            index: `ImageDataset.index`.
            labels: `ImageDataset.labels`.
            seed: Checked here.
            by: As in `make_splits`.
            allow_patient_overlap: As in `make_splits`.
            own: The source's parts that are kept.
        """
        if by not in ("auto", "patient", "image"):
            raise ConfigError(f"by={by!r} is unknown; type 'auto', 'patient' or 'image'.")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed must lie between 0 and {2**32 - 1}, got {seed}.")
        patients = int(index.loc[index["patient_id"] != "", "patient_id"].nunique())
        if by == "patient" and not patients:
            raise DataError(
                "No patient is known for the images. Say how file names tell the patient, for example "
                r"--patient-regex 'patient(\d+)', or accept patients on both sides with by=" + '"image".'
            )
        if by == "image" and patients and not allow_patient_overlap:
            raise DataError(
                f"by='image' would put images of one patient on both sides ({len(index)} images are of {patients} "
                f"patients), and the validation would flatter. Split by patient, or {_HOW_TO_ALLOW}."
            )
        names = np.array(image_identities(index), dtype=object)
        order = np.argsort(names, kind="stable")
        index = index.iloc[order]
        by_patient = bool(patients) and by != "image"
        whole = _whole(index, by_patient=by_patient)
        groups = np.unique(whole, return_inverse=True)[1].reshape(-1)
        source = np.full(len(index), "", dtype=object)
        if by == "auto" and "split" in index:
            source = _source_parts(index)
        source[~np.isin(source, own)] = ""
        if not allow_patient_overlap:
            advice = f'Divide them anew with --split-by patient (in Python, by="patient"), or {_HOW_TO_ALLOW}'
            sides = np.where(source == "", "train", source)
            _check_apart(_whole(index, by_patient=True), sides, "patients", advice, "The source's own split: ")
        synthetic = (index["origin"] == "synthetic").to_numpy() if "origin" in index else np.zeros(len(index), bool)
        free = ~np.isin(groups, groups[synthetic])
        return cls(
            by="patient" if by_patient else "image",
            reason="as by='image' asks" if by == "image" and patients else "as no patient ids are known",
            names=names[order],
            labels=index["label"].to_numpy(dtype=object),
            groups=groups,
            strata=_strata(labels, len(index))[order],
            source=source,
            free=free,
            unknown=int(((index["patient_id"] == "").to_numpy() & free & (source == "")).sum()),
        )

    def warn_of_images(self) -> None:
        """Warn if images were divided without regard to patients."""
        if self.by == "patient" and not self.unknown:
            return
        from medgan.data.dataset import DataWarning  # imports this module

        which = f"The data ({len(self.names):,} images) is split file by file, {self.reason}"
        if self.by == "patient":
            which = f"{self.unknown:,} of {len(self.names):,} images are of unknown patients, and split file by file"
        warnings.warn(
            f"{which}: images of one patient may be on both sides, and the validation flatters. Give patient ids, for "
            "example "
            r"--patient-regex 'patient(\d+)'.",
            DataWarning,
            stacklevel=3,
        )


def _whole(index: pd.DataFrame, *, by_patient: bool) -> NDArray[np.object_]:
    """Name what stays together: the patient if known, else the source of a pair, else the file.

    A file may hold several images, and several pairs may be of one source.
    """
    patients = index["patient_id"].to_numpy(dtype=object)
    files = index["file"].to_numpy(dtype=object)
    if "source_path" in index:
        sources = index["source_path"].to_numpy(dtype=object)
        files = np.where((sources != "") & (patients == ""), sources, files)
    files = np.array([f"\0{file}" for file in files], dtype=object)  # \0: no patient is called that
    return np.where((patients != "") & by_patient, patients, files)


def _source_parts(index: pd.DataFrame) -> NDArray[np.object_]:
    """Translate the source's names of its parts; "" where it does not say."""
    given = [str(name).strip().lower() for name in index["split"]]
    for name in given:
        if name and name not in _NAMES:
            raise DataError(
                f"The source has a split {name!r}. {nearest(name, _NAMES)} Rename it, or type --split-by patient."
            )
    return np.array([_NAMES.get(name, "") for name in given], dtype=object)


def _check_apart(
    whole: NDArray[np.object_], sides: NDArray[np.object_], what: str, advice: str, subject: str = ""
) -> None:
    """Raise if anything that should be whole is on two sides."""
    pairs = pd.DataFrame({"whole": whole, "side": sides}, dtype=object).drop_duplicates()
    several = pairs[pairs.duplicated("whole", keep=False)]
    if not len(several):
        return
    sides_of = several.groupby("whole")["side"].agg(frozenset)
    shown = [
        f"{first} and {second}: {count}"
        for first, second in combinations(pd.unique(sides), 2)
        if (count := sum({first, second} <= both for both in sides_of))
    ]
    example = str(sides_of.index[0]).removeprefix("\0")
    raise DataError(
        f"{subject}{len(sides_of)} {what} are on two sides ({', '.join(shown)}), for example {example!r}. "
        f"{advice[:1].upper() + advice[1:] if advice else 'Make a new split'}."
    )


def _strata(labels: NDArray[Any] | None, count: int) -> NDArray[np.int64]:
    """Number the strata of the images; see `make_splits`."""
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    if labels.ndim == 1:
        return labels.astype(np.int64)
    known = labels[~np.isnan(labels)]
    if np.isin(known, (0, 1)).all():
        positive = labels == 1
        _, combination, counts = np.unique(positive, axis=0, return_inverse=True, return_counts=True)
        combination = combination.reshape(-1)
        findings = labels.shape[1]
        rarest = np.where(positive, positive.sum(axis=0), count + 1).argmin(axis=1)
        rare = np.where(positive.any(axis=1), rarest, findings)
        return np.asarray(np.where(counts[combination] >= _FREQUENT, findings + 1 + combination, rare), np.int64)
    values = labels[:, 0]
    known = values[~np.isnan(values)]
    bins = min(max(count // _BIN_IMAGES, 1), _BINS)
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins)) if len(known) else known
    return np.asarray(np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="right")), np.int64)


def rarest_stratum(groups: NDArray[np.int64], strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the stratum that each group counts as of: of those of its images the one with the fewest images.

    Args:
        groups: Shape ``(N,)``, the group of each image, numbered from 0 without gaps.
        strata: Shape ``(N,)``, the stratum of each image, not below 0.
    """
    by_frequency = np.argsort(-np.bincount(strata)[strata], kind="stable")
    found = np.empty(int(groups.max(initial=-1)) + 1, dtype=np.int64)
    found[groups[by_frequency]] = strata[by_frequency]  # the rarest is written last
    return found


def _draw(groups: NDArray[np.int64], strata: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Draw a share of the groups of each stratum, with all their images.

    Args:
        groups: Shape ``(N,)``, the group of each image.
        strata: Shape ``(N,)``, the stratum of each image.
        share: Between 0 and 1.
        seed: Below 2**32.

    Returns:
        Positions of the images that are held out.

    Raises:
        DataError: If there are too few groups to fill both sides.
    """
    from sklearn.model_selection import train_test_split  # slow to import

    if not len(groups):
        raise DataError(
            "No image can be held out: all are synthetic, of a patient who has synthetic ones, or held out already. "
            "Add real images, or hold none out (--validation 0)."
        )
    _, groups = np.unique(groups, return_inverse=True)
    _, strata = np.unique(strata, return_inverse=True)
    sizes = np.bincount(groups)
    stratum_of_group = rarest_stratum(groups, strata)

    chosen = np.zeros(len(sizes), dtype=bool)
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(stratum_of_group == stratum)
        if len(members) < 2:
            continue
        held_out = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[train_test_split(members, test_size=held_out, random_state=seed)[1]] = True
    if not chosen.any():
        raise DataError(
            f"{len(groups)} images of {len(sizes)} patients cannot be split: every class, or the whole set, has a "
            "single patient, who cannot be on both sides. Add patients, or hold none out (--validation 0)."
        )
    return np.flatnonzero(chosen[groups])
