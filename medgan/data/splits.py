"""Dividing a data set so that no patient is on both sides."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError, DataError, nearest

__all__ = ["PATIENT_PRESETS", "find_patients", "split_groups"]

PATIENT_PRESETS = {
    "kermany": (
        r"(?:^|/)(?:(person\d+_(?:bacteria|virus))_\d+"  # Kaggle: bacteria and viruses are numbered independently
        r"|((?:NORMAL\d*-)?IM-\d+)-\d+"  # Kaggle: NORMAL2-IM-0383-0001, IM-0115-0001
        r"|((?:NORMAL|BACTERIA|VIRUS)-\d+)-\d+)[^/]*$"  # Mendeley: BACTERIA-40699-0001
    ),
}
"""Regular expressions for known data sets, by name."""


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
        hint = nearest(patient_regex, PATIENT_PRESETS)
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


def split_groups(
    groups: NDArray[np.int64], strata: NDArray[np.int64], validation: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a share of the groups (patients) of each stratum for validation, all their images with them.

    A group with images of several strata counts as of the rarest. Each stratum with at least two groups has at least
    one on either side.

    Args:
        groups: Shape ``(N,)``, the group of each image.
        strata: Shape ``(N,)``, the class of each image.
        validation: Share for validation, between 0 and 1.
        seed: Same seed, same split, on every machine; below 2**32.

    Returns:
        Sorted positions of the training and of the validation images.

    Raises:
        ConfigError: If `validation` is not between 0 and 1.
        DataError: If there are too few groups to fill both sides.
    """
    from sklearn.model_selection import train_test_split  # slow to import

    if not 0 < validation < 1:
        raise ConfigError(f"validation must lie between 0 and 1, for example 0.1, got {validation}.")
    _, groups = np.unique(groups, return_inverse=True)
    _, strata, counts = np.unique(strata, return_inverse=True, return_counts=True)
    sizes = np.bincount(groups)
    stratum_of_group = np.empty(len(sizes), dtype=np.int64)
    by_frequency = np.argsort(-counts[strata], kind="stable")  # the rarest is written last
    stratum_of_group[groups[by_frequency]] = strata[by_frequency]

    chosen = np.zeros(len(sizes), dtype=bool)
    for stratum in range(len(counts)):
        members = np.flatnonzero(stratum_of_group == stratum)
        if len(members) < 2:
            continue
        held_out = min(max(1, round(validation * len(members))), len(members) - 1)
        chosen[train_test_split(members, test_size=held_out, random_state=seed)[1]] = True
    in_validation = chosen[groups]
    if not in_validation.any():
        raise DataError(
            f"{len(groups)} images of {len(sizes)} patients cannot be split: every class has a single patient, who "
            "cannot be on both sides. Add patients, or hold none out (--validation 0)."
        )
    return np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
