"""Groups of images by a property of theirs, such as the age or the sex of the patient."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["SMALL_GROUP", "UNKNOWN", "Groups", "groups_of"]

SMALL_GROUP = 20
"""A subgroup of fewer patients is small, and gets no verdict."""

UNKNOWN = "unknown"
"""Name of the group of images of which the property is not known."""

_AGES = (18, 40, 60, 80)
_NUMERIC_VALUES = 6
_GROUPS_AT_MOST = 12


class Groups(NamedTuple):
    """Images divided by a property.

    Attributes:
        numeric: Whether the property is a number, cut into ranges.
        members: For each group, by name, which images are in it, ``(N,)`` bool.
    """

    numeric: bool
    members: dict[str, NDArray[np.bool_]]


def groups_of(column: pd.Series[Any], name: str) -> Groups | str:
    """Divide images into groups by a property.

    Args:
        column: One value an image; "" where unknown. It is numeric if all known values are numbers and there are more
            than 6 of them.
        name: Of the property. A numeric ``age``, in years, is cut at 18, 40, 60 and 80, others at their quartiles.

    Returns:
        The groups, or why there are none: nothing is known, all images are the same, or there are more than 12 groups.
    """
    text = column.fillna("").astype(str).str.strip().to_numpy(dtype=np.str_)
    known = text != ""
    if not known.any():
        return "it is unknown for every image"
    numbers = pd.to_numeric(pd.Series(text).where(known), errors="coerce").to_numpy(dtype=np.float64)
    numeric = bool(np.isfinite(numbers[known]).all()) and len(np.unique(numbers[known])) > _NUMERIC_VALUES
    groups: dict[str, NDArray[np.bool_]] = {}
    if numeric and name.lower() == "age":
        for low, high in itertools.pairwise((-math.inf, *_AGES, math.inf)):
            below = f"below {high:g}" if low == -math.inf else f"{low:g} to {high - 1:g}"
            groups[below if high < math.inf else f"{low:g} and older"] = known & (numbers >= low) & (numbers < high)
    elif numeric:
        edges = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75]))
        for low, high in itertools.pairwise((-math.inf, *edges, math.inf)):
            above = "" if low == -math.inf else f"above {low:g}"
            up_to = "" if high == math.inf else f"up to {high:g}"
            groups[f"{above} {up_to}".strip()] = known & (numbers > low) & (numbers <= high)
    else:
        groups = {str(value): text == value for value in np.unique(text[known])}
    groups = {group: inside for group, inside in groups.items() if inside.any()}
    if len(groups) > _GROUPS_AT_MOST:
        return f"it has {len(groups)} values, more than {_GROUPS_AT_MOST}"
    if len(groups) == 1 and known.all():
        return "it is the same for every image"
    if not known.all():
        groups[UNKNOWN] = ~known | groups.get(UNKNOWN, ~known)
    return Groups(numeric, groups)
