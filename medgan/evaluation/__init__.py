"""Evaluations: what synthetic images are worth to those who train classifiers.

`DownstreamEvaluator` does a study, `run_report_protocol` repeats the experiment of the ACGAN report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.classifiers import classifier_names, make_classifier
    from medgan.evaluation.options import ReportConfig, StudyConfig
    from medgan.evaluation.records import ClassifierRun, Cohort, Study
    from medgan.evaluation.report_protocol import run_report_protocol
    from medgan.evaluation.study import DownstreamEvaluator
    from medgan.evaluation.summary import summarise

# Looked up on first use: the command line needs the options long before it needs torch.
_HOMES = {
    "ClassifierRun": "medgan.evaluation.records",
    "Cohort": "medgan.evaluation.records",
    "DownstreamEvaluator": "medgan.evaluation.study",
    "ReportConfig": "medgan.evaluation.options",
    "Study": "medgan.evaluation.records",
    "StudyConfig": "medgan.evaluation.options",
    "classifier_names": "medgan.classifiers",
    "make_classifier": "medgan.classifiers",
    "run_report_protocol": "medgan.evaluation.report_protocol",
    "summarise": "medgan.evaluation.summary",
}

__all__ = [
    "ClassifierRun",
    "Cohort",
    "DownstreamEvaluator",
    "ReportConfig",
    "Study",
    "StudyConfig",
    "classifier_names",
    "make_classifier",
    "run_report_protocol",
    "summarise",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
