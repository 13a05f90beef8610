"""The abstract interfaces that every architecture, built in or third party, is made of."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgan.core.version import API_VERSION

if TYPE_CHECKING:
    from medgan.core.budget import Budget
    from medgan.core.config import Config, GANConfig, Idle, Option, option
    from medgan.core.gan import GAN, TrainingData
    from medgan.core.networks import Discriminator, DiscriminatorOutput, Generator, Translator
    from medgan.core.sides import Sides
    from medgan.core.spec import Batch, DataSpec, LabelKind, LabelSpec
    from medgan.core.trainer import AdversarialTrainer, Callback, Metrics, Trainer, make_accelerator

# Looked up on first use: the command line needs `Config` long before it needs torch.
_HOMES = {
    "Budget": "budget",
    "Config": "config",
    "GANConfig": "config",
    "Idle": "config",
    "Option": "config",
    "option": "config",
    "GAN": "gan",
    "TrainingData": "gan",
    "Discriminator": "networks",
    "DiscriminatorOutput": "networks",
    "Generator": "networks",
    "Translator": "networks",
    "Sides": "sides",
    "Batch": "spec",
    "DataSpec": "spec",
    "LabelKind": "spec",
    "LabelSpec": "spec",
    "AdversarialTrainer": "trainer",
    "Callback": "trainer",
    "Metrics": "trainer",
    "Trainer": "trainer",
    "make_accelerator": "trainer",
}

__all__ = [
    "API_VERSION",
    "GAN",
    "AdversarialTrainer",
    "Batch",
    "Budget",
    "Callback",
    "Config",
    "DataSpec",
    "Discriminator",
    "DiscriminatorOutput",
    "GANConfig",
    "Generator",
    "Idle",
    "LabelKind",
    "LabelSpec",
    "Metrics",
    "Option",
    "Sides",
    "Trainer",
    "TrainingData",
    "Translator",
    "make_accelerator",
    "option",
]


def __getattr__(name: str) -> Any:
    """Import a name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
