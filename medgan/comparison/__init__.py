"""Architectures side by side: each trained for the same time or images on the same patients, and one page of figures.

`compare` does it; what it writes is described there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.comparison.options import MeasureConfig
    from medgan.comparison.side_by_side import Comparison, compare

# Looked up on first use: the command line needs the options long before it needs torch.
_HOMES = {
    "Comparison": "medgan.comparison.side_by_side",
    "MeasureConfig": "medgan.comparison.options",
    "compare": "medgan.comparison.side_by_side",
}

__all__ = ["Comparison", "MeasureConfig", "compare"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
