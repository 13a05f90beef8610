"""What architectures are trained on where no data is named: the embedded phantom that fits what they declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medgan.data.config import PHANTOM

if TYPE_CHECKING:
    from medgan.core.config import GANConfig
    from medgan.core.gan import GAN

__all__ = ["choose_data", "is_phantom"]

_PAIRS, _VOLUMES = "phantom://chest-lowdose", "phantom://thorax"
_SMALLEST, _LARGEST = 32, 512  # sides that are tried


def is_phantom(data: str) -> bool:
    """Whether data is one of the embedded phantoms.

    Args:
        data: As `DataConfig.data`.
    """
    return data.startswith("phantom:")


def choose_data(models: Sequence[tuple[type[GAN], GANConfig]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the data that architectures can be trained on and that nobody has given.

    Without data it is the phantom of their kind: pairs for those that translate, volumes for those that make no
    images, or where volumes or slices of them are asked for, else chest radiographs. Of a phantom each side is the
    shortest from 32 that all of them make.

    Args:
        models: Architectures with their options.
        given: Options of `DataConfig` by name that were given.

    Returns:
        Values of ``data``, ``size`` and ``depth``; empty for data that is no phantom.
    """
    data = given.get("data")
    if data is None:
        if any(architecture.translates for architecture, _ in models):
            data = _PAIRS
        elif given.get("depth") or given.get("slices") or any(2 not in each.spatial_dims for each, _ in models):
            data = _VOLUMES
        else:
            data = PHANTOM
    if not is_phantom(data):
        return {}
    whole = urlsplit(data).netloc == urlsplit(_VOLUMES).netloc and not given.get("slices")
    if given.get("depth") or (whole and all(3 in architecture.spatial_dims for architecture, _ in models)):
        depth, size, _ = _choose_size(models, (given.get("depth"), given.get("size"), given.get("size")))
        return {"data": data, "depth": depth, "size": size}
    return {"data": data, "size": _choose_size(models, (given.get("size"), given.get("size")))[-1]}


def _choose_size(models: Sequence[tuple[type[GAN], GANConfig]], given: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the smallest size that all architectures make; sides that are given stay as they are."""
    dims = len(given)
    sides = [
        architecture.get_sides(config, dims) for architecture, config in models if dims in architecture.spatial_dims
    ]
    # As long as another side if that may be, then from short to long; shorter than 32 only where nothing else is made.
    lengths = (*filter(None, given), *range(_SMALLEST, _LARGEST + 1), *range(_SMALLEST - 1, 1, -1))
    for length in lengths:
        size = tuple(side or length for side in given)
        if all(each is not None and each.accept(size) for each in sides):
            return size
    return tuple(side or _SMALLEST for side in given)  # which `GAN.check` refuses, and says what would do
