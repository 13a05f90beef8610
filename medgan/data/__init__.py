"""Data sources: folders of medical images, DICOM files, volumes and tables become a stream of batches.

`open_dataset` opens a source, `ImageDataset` is what it gives.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.data.cache import default_cache_dir
    from medgan.data.config import DataConfig
    from medgan.data.dataset import DataWarning, ImageDataset, open_configured, open_dataset
    from medgan.data.sampling import ClassSampling
    from medgan.data.splits import PATIENT_PRESETS
    from medgan.data.store import Progress
    from medgan.data.transforms import Fit, Resizer

# Looked up on first use: the command line needs `DataConfig` long before it needs torch.
_HOMES = {
    "PATIENT_PRESETS": "splits",
    "ClassSampling": "sampling",
    "DataConfig": "config",
    "DataWarning": "dataset",
    "Fit": "transforms",
    "ImageDataset": "dataset",
    "Progress": "store",
    "Resizer": "transforms",
    "default_cache_dir": "cache",
    "open_configured": "dataset",
    "open_dataset": "dataset",
}

__all__ = [
    "PATIENT_PRESETS",
    "ClassSampling",
    "DataConfig",
    "DataWarning",
    "Fit",
    "ImageDataset",
    "Progress",
    "Resizer",
    "default_cache_dir",
    "open_configured",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
