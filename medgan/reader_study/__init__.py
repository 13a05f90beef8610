"""Reader studies: whether radiologists can tell synthetic images from real ones, asked blind and analysed with care."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.reader_study.analysis import StudyAnalysis, analyze_study
    from medgan.reader_study.config import ReaderStudyConfig
    from medgan.reader_study.design import StudyDesignWarning, new_study
    from medgan.reader_study.folder import ReaderStudy, load_study

__all__ = [
    "ReaderStudy",
    "ReaderStudyConfig",
    "StudyAnalysis",
    "StudyDesignWarning",
    "analyze_study",
    "load_study",
    "new_study",
]

_PLACES = {
    "ReaderStudy": "folder",
    "StudyAnalysis": "analysis",
    "ReaderStudyConfig": "config",
    "StudyDesignWarning": "design",
    "analyze_study": "analysis",
    "load_study": "folder",
    "new_study": "design",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is used: the options alone, which a help page shows, need no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
