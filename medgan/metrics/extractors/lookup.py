"""Extractors by name: medgan's own, those that installed packages declare, files and classes.

A third party's package declares, in its own ``pyproject.toml``::

    [project.entry-points."medgan.extractors"]
    mine = "mypackage:make_extractor"

where ``make_extractor`` is a class or function that returns an `medgan.metrics.extractors.base.Extractor`, called with
the keywords ``weights`` (a path or None), ``device`` and ``resizer`` (a name, or None for its own choice).
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from medgan.errors import ConfigError, PluginError, nearest
from medgan.metrics.resizing import Resizer, check_resizer

if TYPE_CHECKING:
    import torch

    from medgan.metrics.extractors.base import Extractor

__all__ = ["GROUP", "extractor_names", "get_extractor"]

GROUP = "medgan.extractors"
"""Entry-point group."""

_BuiltIn = Literal["inception", "radimagenet", "radiomics", "random-conv", "torchxrayvision"]
_BUILT_IN: tuple[_BuiltIn, ...] = get_args(_BuiltIn)
_FORMS = ("torch-fidelity:NAME", "torchscript:PATH", "module:Class")


def extractor_names() -> list[str]:
    """Return the names of all extractors, sorted, without importing any, and last the forms that take more."""
    return [*sorted({*_BUILT_IN, *_declared()}), *_FORMS]


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
    declared = _declared()
    if name in _BUILT_IN and name in declared:
        _clash(name, [*declared[name], EntryPoint(name, "medgan's own", GROUP)])
    kind, colon, rest = name.partition(":")
    if name in ("radiomics", "random-conv"):
        if path is not None:
            raise ConfigError(f"Extractor {name!r} has no weights, got {path}. Leave the weights out.")
        return _weightless(name, device)
    if name == "inception":
        from medgan.metrics.extractors.inception import Inception

        return Inception(path, device=device, resizer=chosen or "clean", download=download)
    if name in ("radimagenet", "torchxrayvision"):
        from medgan.metrics.extractors.modules import load_radimagenet, load_torchxrayvision

        load = load_radimagenet if name == "radimagenet" else load_torchxrayvision
        return load(path, device=device, resizer=chosen or "clean")
    if kind == "torch-fidelity" and colon:
        return _torch_fidelity(rest, path, device, chosen, download=download)
    if kind == "torchscript" and colon:
        from medgan.metrics.extractors.modules import load_torchscript

        if path is not None:
            raise ConfigError(f"A TorchScript file holds its weights, got {path} too. Leave the weights out.")
        return load_torchscript(Path(rest).expanduser(), device=device)
    if name in declared:
        if len(declared[name]) > 1:
            _clash(name, declared[name])
        return _load(declared[name][0], path, device, chosen)
    if colon and all(part.isidentifier() for part in (*kind.split("."), *rest.split("."))):
        here = str(Path.cwd())  # the command line does not look there by itself
        sys.path.insert(0, here)
        try:
            return _load(EntryPoint(name, name, GROUP), path, device, chosen)
        finally:
            sys.path.remove(here)
    raise ConfigError(f"Extractor {name!r} is unknown. {nearest(name, extractor_names())}")


def _declared() -> dict[str, list[EntryPoint]]:
    """Return what installed packages declare, by name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        same = found.setdefault(point.name, [])
        # The same distribution can be on the path twice, for example from its own source folder.
        if all((_origin(point), point.value) != (_origin(other), other.value) for other in same):
            same.append(point)
    return found


def _origin(point: EntryPoint) -> str:
    """Say which distribution declares an entry point."""
    return "medgan" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _clash(name: str, declared: list[EntryPoint]) -> None:
    """Raise because several declare a name."""
    places = " and ".join(f"{_origin(point)} ({point.value})" for point in declared)
    raise PluginError(f"Extractor {name!r} is declared twice: by {places}. Uninstall one of them.")


def _weightless(name: str, device: str | torch.device) -> Extractor:
    """Make one of the extractors that have no weights."""
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


def _load(point: EntryPoint, weights: Path | None, device: str | torch.device, resizer: Resizer | None) -> Extractor:
    """Import a third party's extractor and make it."""
    from medgan.metrics.extractors.base import Extractor

    place = f"Extractor {point.name!r} ({point.value}, from {_origin(point) if point.dist else 'the name itself'})"
    try:
        extractor = point.load()(weights=weights, device=device, resizer=resizer)
    except ConfigError:
        raise
    # A plugin may fail in any way at all; the error says which one it was.
    except Exception as error:
        raise PluginError(f"{place} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(extractor, Extractor):
        raise PluginError(f"{place} made {type(extractor).__name__}, not a medgan.metrics.extractors.Extractor.")
    missing = [attribute for attribute in ("name", "sha256", "input") if not hasattr(extractor, attribute)]
    if missing:
        raise PluginError(f"{place} does not define {', '.join(missing)}.")
    return extractor
