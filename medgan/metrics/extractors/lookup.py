"""Extractors by name: medgan's own, those that installed packages declare, files and classes.

A third party's package declares, in its own ``pyproject.toml``::

    [project.entry-points."medgan.extractors"]
    mine = "mypackage:make_extractor"

where ``make_extractor`` is a class or function that returns an `medgan.metrics.extractors.base.Extractor`, called with
the keywords ``weights`` (a path or None), ``device`` and ``resizer`` (a name, or None for its own choice).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import ConfigError
from medgan.metrics.resizing import Resizer, check_resizer
from medgan.plugin_lookup import PluginGroup

if TYPE_CHECKING:
    import torch

    from medgan.metrics.extractors.base import Extractor

__all__ = ["GROUP", "extractor_names", "get_extractor"]

GROUP = "medgan.extractors"
"""Entry-point group."""

_EXTRACTORS = PluginGroup(
    GROUP,
    noun="Extractor",
    product="medgan.metrics.extractors.Extractor",
    built_in=("classifier", "inception", "radimagenet", "radiomics", "random-conv", "torchxrayvision"),
    forms=("torch-fidelity:NAME", "torchscript:PATH", "module:Class"),
)


def extractor_names() -> list[str]:
    """Return the names of all extractors, sorted, without importing any, and last the forms that take more."""
    return _EXTRACTORS.names()


def get_extractor(
    name: str,
    *,
    weights: Path | str | None = None,
    device: str | torch.device = "cpu",
    resizer: str | None = None,
    download: bool = False,
) -> Extractor:
    """Return an extractor, ready to run.

    Args:
        name: ``inception``; ``radiomics``; ``random-conv``; ``radimagenet``; ``torchxrayvision``;
            ``torch-fidelity:NAME`` for a name of torch-fidelity's registry; ``torchscript:PATH``; a name that an
            installed package declares; or ``module:Class``, in the current directory or installed, that is called as
            such a package's.
            Files and classes run code: take only those that you trust.
        weights: File of weights.
        device: Where to compute, for example ``cuda``. Radiomics are computed on the CPU anyway.
        resizer: ``clean`` or ``torch-fidelity``; None for the extractor's own: ``clean``, save for
            ``torch-fidelity:NAME``. Extractors that read images at their own size have no use for it.
        download: Whether ``inception`` and ``torch-fidelity:NAME`` may download published weights.

    Raises:
        ConfigError: If there is no such extractor, or its weights are not there or do not fit.
        PluginError: If a third party's is there, but broken.
    """
    path = None if weights is None else Path(weights).expanduser()
    chosen = None if resizer is None else check_resizer(resizer)
    if _EXTRACTORS.is_built_in(name):
        return _built_in(name, path, device, chosen, download=download)
    kind, colon, rest = name.partition(":")
    if kind == "torch-fidelity" and colon:
        return _torch_fidelity(rest, path, device, chosen, download=download)
    if kind == "torchscript" and colon:
        from medgan.metrics.extractors.modules import load_torchscript

        if path is not None:
            raise ConfigError(f"A TorchScript file holds its weights, got {path} too. Leave the weights out.")
        return load_torchscript(Path(rest).expanduser(), device=device)
    from medgan.metrics.extractors.base import Extractor

    options = {"weights": path, "device": device, "resizer": chosen}
    # The class is abstract, which is no matter: it is only compared with.
    return _EXTRACTORS.make(name, Extractor, options=options, required=("name", "sha256", "input"))  # type: ignore[type-abstract]


def _built_in(
    name: str, weights: Path | None, device: str | torch.device, resizer: Resizer | None, *, download: bool
) -> Extractor:
    """Make one of medgan's own extractors."""
    if name == "classifier":
        raise ConfigError(
            "Extractor 'classifier' has no weights of its own: it is trained on the real training data first. On the "
            "command line `medgan metrics --extractor classifier` does that; in Python type "
            "medgan.metrics.extractors.train_classifier_extractor(training, validation, class_names=...)."
        )
    if name == "inception":
        from medgan.metrics.extractors.inception import Inception

        return Inception(weights, device=device, resizer=resizer or "clean", download=download)
    if name in ("radimagenet", "torchxrayvision"):
        from medgan.metrics.extractors.modules import load_radimagenet, load_torchxrayvision

        load = load_radimagenet if name == "radimagenet" else load_torchxrayvision
        return load(weights, device=device, resizer=resizer or "clean")
    if weights is not None:
        raise ConfigError(f"Extractor {name!r} has no weights, got {weights}. Leave the weights out.")
    if name == "radiomics":
        from medgan.metrics.extractors.radiomics import Radiomics

        return Radiomics()
    from medgan.metrics.extractors.random_conv import RandomConv

    return RandomConv(device=device)


def _torch_fidelity(
    name: str, weights: Path | None, device: str | torch.device, resizer: Resizer | None, *, download: bool
) -> Extractor:
    """Make an extractor of torch-fidelity's registry."""
    from medgan.metrics.extractors.inception import TorchFidelity

    if name == "inception-v3-compat":
        raise ConfigError("Type --extractor inception: it is torch-fidelity's inception-v3-compat, checked by sha256.")
    if resizer == "clean":
        raise ConfigError(f"torch-fidelity:{name} resizes by itself. Leave the resizer out, or type torch-fidelity.")
    return TorchFidelity(name, weights, device=device, download=download)
