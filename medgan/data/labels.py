"""Labels as tables have them, and the explicit policies that turn them into what a model learns.

A finding of an image is present (1), absent (0), uncertain (-1) or not mentioned (NaN: missing). What a model learns
knows no -1, and NaN only as "not learnt". Which way the uncertain and the missing ones go changes every number that
follows, so nothing here decides it: without a policy, data that needs one is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.errors import ConfigError, DataError, nearest

__all__ = [
    "LabelForm",
    "Missing",
    "Uncertain",
    "majority",
    "parse_findings",
    "parse_numbers",
    "settle",
    "sort_classes",
    "spread",
]

Uncertain = Literal["drop", "negative", "positive", "mask"]
"""Policy for uncertain findings, to leave the image out, take them as absent or as present, or not to learn them."""

Missing = Literal["drop", "negative", "mask"]
"""Policy for missing labels, to leave the image out, take the finding as absent, or not to learn it."""

LabelForm = Literal["findings", "finding", "classes", "numbers"]
"""What the values of `settle` are: findings, a single one of them that becomes two classes, class indices, numbers."""

_FITTING: dict[LabelForm, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "findings": (("drop", "negative", "positive", "mask"), ("drop", "negative", "mask")),
    "finding": (("drop", "negative", "positive"), ("drop", "negative")),  # a class cannot be masked
    "classes": ((), ("drop",)),
    "numbers": ((), ("drop", "mask")),
}  # policies for uncertain and for missing labels
_VALUES = {"": math.nan, "nan": math.nan, "true": 1.0, "false": 0.0}
_SHOWN = 5  # values or findings named in a message


def settle(
    values: NDArray[np.float64],
    names: Sequence[str],
    form: LabelForm,
    *,
    uncertain: Uncertain | None,
    missing: Missing | None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Apply the policies for uncertain and missing labels.

    Args:
        values: Shape ``(N, K)``. Findings: 1, 0, -1 (uncertain) or NaN (missing). Class indices and numbers: any, NaN
            where missing; -1 means nothing special there.
        names: The K columns, for messages.
        form: What the values are.
        uncertain: Policy for uncertain findings; None refuses data that has any.
        missing: Policy for missing labels; None refuses data that has any.

    Returns:
        The values, shape ``(N, K)`` float32, with NaN where masked; and shape ``(N,)``, False for images to leave out.

    Raises:
        ConfigError: If a policy is unknown.
        DataError: If there are uncertain or missing labels without a policy that fits; it counts them.
    """
    for option, choice, known in (("uncertain", uncertain, Uncertain), ("missing", missing, Missing)):
        if choice is not None and choice not in get_args(known):
            raise ConfigError(f"{option}={choice!r} is unknown. {nearest(choice, get_args(known))}")
    is_missing = np.isnan(values)
    is_uncertain = (values == -1) if form in ("findings", "finding") else np.zeros_like(is_missing)
    problems = [
        _problem(word, marks, names, choice, fitting)
        for word, marks, choice, fitting in zip(
            ("uncertain", "missing"), (is_uncertain, is_missing), (uncertain, missing), _FITTING[form], strict=True
        )
        if marks.any() and choice not in fitting
    ]
    if problems:
        raise DataError(" ".join(problems))
    settled = values.astype(np.float32)
    keep = np.ones(len(values), dtype=bool)
    for marks, choice in ((is_uncertain, uncertain), (is_missing, missing)):
        if choice == "drop":
            keep &= ~marks.any(axis=1)
        elif choice is not None:
            settled[marks] = {"negative": 0.0, "positive": 1.0, "mask": math.nan}[choice]
    return settled, keep


def _problem(
    word: str, marks: NDArray[np.bool_], names: Sequence[str], choice: str | None, fitting: Sequence[str]
) -> str:
    """Say how many labels need a policy, and which there are."""
    counts = marks.sum(axis=0)
    order = [column for column in np.argsort(-counts, kind="stable") if counts[column]]
    listed = ", ".join(f"{names[column]}: {counts[column]:,}" for column in order[:_SHOWN])
    more = f" and {len(order) - _SHOWN} more" if len(order) > _SHOWN else ""
    images = f"{marks.any(axis=1).sum():,} of {len(marks):,} images"
    said = "nothing says what to make of them" if choice is None else f"{choice!r} does not fit such labels"
    return f"Labels of {images} are {word} ({listed}{more}), and {said}. Type --{word} {'|'.join(fitting)}."


def parse_findings(texts: pd.Series[str], where: str) -> NDArray[np.float64]:
    """Read a column of findings.

    Args:
        texts: 1, 0, -1 or nothing, with or without decimals; true and false are 1 and 0.
        where: What the column is, for messages.

    Returns:
        Shape ``(N,)``: 1, 0, -1, or NaN where there is nothing.

    Raises:
        DataError: If there is anything else.
    """
    values = _parse(texts)
    odd = ~(np.isnan(values) | np.isin(values, (-1, 0, 1)))
    if odd.any():
        raise DataError(
            f"{where} must be 1 (present), 0 (absent), -1 (uncertain) or empty, got {_listed(texts[odd])}. Mend the "
            "column; for classes or measurements, name it label, or give --label-kind."
        )
    return values


def parse_numbers(texts: pd.Series[str], where: str) -> NDArray[np.float64]:
    """Read a column of numbers.

    Args:
        texts: Numbers with a decimal point, or nothing; true and false are 1 and 0.
        where: What the column is, for messages.

    Returns:
        Shape ``(N,)``: finite numbers, NaN where there is nothing.

    Raises:
        DataError: If there is anything else.
    """
    values = _parse(texts)
    odd = np.isinf(values)
    if odd.any():
        raise DataError(f"{where} must be a number, with a decimal point, or empty; got {_listed(texts[odd])}.")
    return values


def _parse(texts: pd.Series[str]) -> NDArray[np.float64]:
    """Read numbers, each distinct text once; NaN stands for nothing, infinity for what is no number."""
    codes, distinct = pd.factorize(texts)
    values: NDArray[np.float64] = np.array([_number(text) for text in distinct], dtype=np.float64)[codes]
    return values


def _number(text: str) -> float:
    """Read one number."""
    text = text.strip().lower()
    try:
        return _VALUES[text] if text in _VALUES else float(text)
    except ValueError:
        return math.inf


def _listed(texts: pd.Series[str]) -> str:
    """Name some of the distinct values of a column."""
    distinct = list(pd.unique(texts))
    more = f" and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(map(repr, distinct[:_SHOWN])) + more


def sort_classes(names: Collection[str], where: str, *, ordinal: bool) -> list[str]:
    """Sort the names of classes, numbers by their values.

    Args:
        names: The names, each once.
        where: What has them, for messages.
        ordinal: Whether their order means something.

    Raises:
        DataError: If it does, and they are words.
    """
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    if ordinal:
        raise DataError(
            f"{where}: words, whose order is unknown: {', '.join(sorted(names)[:_SHOWN])}. Type them from low to high, "
            "such as --labels mild,moderate,severe."
        )
    return sorted(names)


def spread(lists: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Turn lists of present findings into columns.

    Args:
        lists: For each of N images the findings that it has; none at all means that its label is missing.

    Returns:
        The names of the K findings, sorted, and shape ``(N, K)``: 1 for those in the list, 0 for others, NaN in a row
        without any.
    """
    rows = np.repeat(np.arange(len(lists)), [len(found) for found in lists])
    codes, names = pd.factorize(np.array([name for found in lists for name in found], dtype=object), sort=True)
    values = np.zeros((len(lists), len(names)))
    values[rows, codes] = 1
    values[[not found for found in lists]] = math.nan
    return tuple(map(str, names)), values


def majority(images: pd.Series[str], marks: NDArray[Any]) -> tuple[list[str], NDArray[np.float64]]:
    """Let the readers of an image vote: a finding is present if more than half of them say so.

    Args:
        images: Shape ``(R,)``: the image of each reading, that is of one reader's view of one image.
        marks: Shape ``(R, K)``: 1 for the findings that the reader sees.

    Returns:
        The N images in order of their first reading, and shape ``(N, K)``: 1 or 0.
    """
    codes, distinct = pd.factorize(images)
    votes = np.zeros((len(distinct), marks.shape[1]))
    np.add.at(votes, codes, marks == 1)
    readers = np.bincount(codes, minlength=len(distinct))
    return [str(image) for image in distinct], (2 * votes > readers[:, None]).astype(np.float64)
