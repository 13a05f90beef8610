"""How much synthetic images are like real ones: `measure_fidelity` compares them, `FidelityReport` is the result."""

from medgan.evaluation.fidelity.measure import measure_fidelity
from medgan.evaluation.fidelity.metrics import DEFAULT_METRICS, METRICS
from medgan.evaluation.fidelity.page import make_page, to_markdown, write_report
from medgan.evaluation.fidelity.records import FidelityReport, Floor, Interval, Score

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "FidelityReport",
    "Floor",
    "Interval",
    "Score",
    "make_page",
    "measure_fidelity",
    "to_markdown",
    "write_report",
]
