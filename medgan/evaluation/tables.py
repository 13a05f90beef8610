"""The summary of a study as a table for a spreadsheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["as_table"]


def as_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the scores as a table, one row an arm and fraction.

    Args:
        summary: From `medgan.evaluation.summary.summarise`.

    Returns:
        Columns ``arm``, ``title``, ``fraction``, ``seeds`` (how many), ``real_images``, ``synthetic_images`` and
        ``real_patients``, and for each score its name and the name with ``_low`` and ``_high``. NaN where undefined.
    """
    rows = []
    for result in summary["results"]:
        row = {"arm": result["arm"], "title": result["title"], "fraction": result["fraction"]}
        row |= {"seeds": len(result["seeds"]), **result["counts"]}
        for name, estimate in result["scores"].items():
            row |= {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
        rows.append(row)
    table = pd.DataFrame(rows)
    numbers = table.columns[3:]
    return table.astype(dict.fromkeys(numbers, np.float64)).astype({"seeds": np.int64})
