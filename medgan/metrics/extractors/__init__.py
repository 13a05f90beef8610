"""Extractors: what turns images into features that can be compared."""

from medgan.metrics.extractors.base import Extractor, InputSpec, module_sha256
from medgan.metrics.extractors.classifier import classifier_extractor, train_classifier_extractor
from medgan.metrics.extractors.lookup import extractor_names, get_extractor
from medgan.metrics.extractors.modules import ModuleExtractor
from medgan.metrics.extractors.radiomics import RADIOMICS_NAMES

__all__ = [
    "RADIOMICS_NAMES",
    "Extractor",
    "InputSpec",
    "ModuleExtractor",
    "classifier_extractor",
    "extractor_names",
    "get_extractor",
    "module_sha256",
    "train_classifier_extractor",
]
