"""Data sources: folders of medical images and arrays become a stream of batches.

`open_dataset` opens a source, `ImageDataset` is what it gives.
"""

from medgan.data.dataset import DataWarning, ImageDataset, open_dataset
from medgan.data.sampling import ClassSampling
from medgan.data.splits import PATIENT_PRESETS
from medgan.data.store import Progress, default_cache_dir
from medgan.data.transforms import Aspect, Resizer

__all__ = [
    "PATIENT_PRESETS",
    "Aspect",
    "ClassSampling",
    "DataWarning",
    "ImageDataset",
    "Progress",
    "Resizer",
    "default_cache_dir",
    "open_dataset",
]
