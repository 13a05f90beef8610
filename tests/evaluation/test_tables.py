"""Tables of a summary."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgan.evaluation.tables import as_table


def _estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "undefined_share": 0.0}


def _summary() -> dict[str, Any]:
    counts = {"real_images": 100.0, "synthetic_images": None, "real_patients": 40.0}
    return {
        "settings": {"confidence": 0.95, "primary": "auroc"},
        "scores": {"auroc": {"title": "AUROC"}, "precision": {"title": "Precision"}},
        "cohorts": {"test": {"images": 312, "patients": 150}},
        "results": [
            {
                "arm": "real",
                "title": "real | images",
                "fraction": 0.25,
                "seeds": [0, 1, 2],
                "counts": counts,
                "scores": {"auroc": _estimate(0.9, 0.85, 0.93), "precision": _estimate(None)},
            },
            {
                "arm": "synthetic",
                "title": "synthetic",
                "fraction": 1.0,
                "seeds": [0],
                "counts": counts,
                "scores": {"auroc": _estimate(0.8), "precision": _estimate(0.75, 0.7, 0.8)},
            },
        ],
        "floor": {"class": "a", "scores": {"auroc": _estimate(0.5), "precision": _estimate(None)}},
        "comparisons": [
            {
                "title": "synthetic",
                "reference_title": "real",
                "scores": {"auroc": {**_estimate(-0.1, -0.15, -0.05), "p": 0.01, "p_holm": 0.02}},
            },
            {
                "title": "mixed",
                "reference_title": "real",
                "scores": {"auroc": {**_estimate(None), "p": None, "p_holm": None}},
            },
        ],
        "verdict": {"sentences": ["One.", "Two."], "notes": ["Note."]},
    }


def test_the_table_has_a_row_an_arm_and_fraction() -> None:
    table = as_table(_summary())
    assert list(table.columns) == [
        "arm",
        "title",
        "fraction",
        "seeds",
        "real_images",
        "synthetic_images",
        "real_patients",
        "auroc",
        "auroc_low",
        "auroc_high",
        "precision",
        "precision_low",
        "precision_high",
    ]
    assert table["seeds"].tolist() == [3, 1]
    assert table["auroc_low"].tolist()[0] == 0.85
    assert np.isnan(table["auroc_low"][1])
    assert np.isnan(table["precision"][0])
    assert table["synthetic_images"].isna().all()
    assert "real | images,0.25,3,100.0,,40.0,0.9,0.85,0.93,,,\n" in table.to_csv(index=False)
