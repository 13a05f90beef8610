"""Features of a set of images: computed once, kept in a cache that never gives an old feature for a new image."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_safetensors
from torch import Tensor

from medgan.core.saving import write_aside
from medgan.core.spec import Batch
from medgan.errors import CheckpointError, ConfigError, DataError
from medgan.metrics.extractors.base import Extractor, check_images

__all__ = ["FeatureCacheWarning", "Features", "Images", "check_comparable", "extract_features", "standardize"]

_CACHE_VERSION = 1  # raise it whenever the same key would stand for other features
_LIBRARIES = ("torch", "torch-fidelity", "torchvision", "scikit-image", "scipy")  # whose code is part of a feature

Images = Tensor | NDArray[np.float32] | Sequence[Any] | Iterable[Any]
"""A tensor or array ``(N, C, height, width)``; or a data set or list, whose items are images ``(C, height, width)``,
or batches, or tuples such as `medgan.core.Batch` of which the first is one of these; or an iterable of such items. All
float32 in [-1, 1]."""

Progress = Callable[[int], None]
"""Called with the number of images done."""


class FeatureCacheWarning(UserWarning):
    """A cache of features that was damaged or cannot be written, and so was not used."""


@dataclass(frozen=True, eq=False)
class Features:
    """Features of a set of images, with all that says which features they are.

    Attributes:
        values: Shape ``(N, D)``, float32.
        extractor: The extractor's name.
        sha256: Of its weights or definition.
        layer: Its layer; "" if there is but one.
        resizer: ``clean``, ``torch-fidelity``, or ``none`` for images at their own size.
        bits: ``8`` if the extractor rounded the images, else ``all``.
        device: Kind of device that computed them, such as ``cpu``.
        channels: Channels of the images, before the extractor.
        size: Height and width of the images, before the extractor.
        fingerprint: What the cache knows the images by.
        is_fid: Whether a Fréchet distance of these is the published FID.
        needs_standardizing: Whether `standardize` comes before any distance.
        notes: What a report must say of them, such as "grey replicated to RGB".
        cached: Whether they came out of the cache.
    """

    values: NDArray[np.float32]
    extractor: str
    sha256: str
    layer: str
    resizer: str
    bits: str
    device: str
    channels: int
    size: tuple[int, int]
    fingerprint: str
    is_fid: bool
    needs_standardizing: bool
    notes: tuple[str, ...]
    cached: bool

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.values)


def extract_features(
    images: Images,
    extractor: Extractor,
    *,
    batch_size: int = 64,
    cache_dir: Path | None = None,
    fingerprint: str | None = None,
    progress: Progress | None = None,
) -> Features:
    """Compute the features of images, or take them out of the cache.

    The cache is one file a set of images, ``<cache_dir>/features/<key>.safetensors``. Its key is a sha256 over what the
    images are known by, the extractor's name, weights, layer and input, the kind of device, and the versions of the
    libraries; so another pixel, weight or resizer never finds an old feature.

    Args:
        images: See `Images`. All of one size, float32 in [-1, 1].
        extractor: What to compute.
        batch_size: Images at a time, however they come; at least 1.
        cache_dir: Folder of the cache; None for no cache. A cache that is damaged or cannot be written is not used,
            with a `FeatureCacheWarning`.
        fingerprint: What tells these images, in this order, from all others; then a second run does not even read them.
            If None, the pixels themselves are hashed, for which they are read one time more.
        progress: Told of the extraction, if there is any.

    Returns:
        The features, in the images' order.

    Raises:
        DataError: If there are no images, or they are not like that.
        ConfigError: If `batch_size` is not positive, or a cache is wanted for an iterator, which can be read only once,
            without a fingerprint.

    Examples:
        >>> import torch
        >>> from medgan.metrics.extractors import get_extractor
        >>> images = torch.rand(4, 1, 32, 32) * 2 - 1
        >>> extract_features(images, get_extractor("random-conv")).values.shape
        (4, 480)
    """
    if batch_size < 1:
        raise ConfigError(f"The batch size must be 1 or more, got {batch_size}.")
    path = None
    if cache_dir is not None:
        if fingerprint is None:
            if isinstance(images, Iterator):
                raise ConfigError(
                    "An iterator can be read only once, so its features cannot be looked up by its pixels. Pass "
                    "fingerprint=, a list or a data set, or cache_dir=None."
                )
            fingerprint = _content_sha256(images, batch_size)
        path = cache_dir.expanduser() / "features" / f"{_key(fingerprint, extractor)}.safetensors"
        found = _load(path, extractor)
        if found is not None:
            return found
    features = _extract(images, extractor, batch_size, fingerprint or "", progress)
    if path is not None:
        _save(path, features)
    return features


def check_comparable(first: Features, second: Features) -> None:
    """Check that features are of the same kind, so that a distance between them means something.

    Raises:
        DataError: If extractor, weights, layer, resizer, or, where nothing resizes, the size of the images differ.
    """
    names = ["extractor", "sha256", "layer", "resizer", "bits"]
    if first.resizer == "none":
        names.append("size")
    for name in names:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            raise DataError(
                f"Features of {len(first)} and of {len(second)} images cannot be compared: {name} is {one!r} here and "
                f"{other!r} there. Extract both with the same extractor, weights, resizer and image size."
            )


def standardize(features: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Bring features of different units to one scale: the reference's mean becomes 0, its standard deviation 1.

    Args:
        features: Shape ``(N, D)``.
        reference: Shape ``(M, D)``, of real images; the same for all that is compared.

    Returns:
        Shape ``(N, D)``, float64. A feature that is constant in the reference is only centred: it has no scale.

    Raises:
        DataError: If the shapes do not fit, or the reference is empty.
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1] or not len(reference):
        raise DataError(
            f"Features of shape (N, D) and a reference of shape (M, D), M at least 1, are expected, got "
            f"{features.shape} and {reference.shape}."
        )
    known = reference.astype(np.float64)
    mean, deviation = known.mean(0), known.std(0)
    # Equal float32 values have a deviation of rounding, no more.
    constant = deviation <= 1e-6 * np.abs(mean)
    scaled: NDArray[np.float64] = (features.astype(np.float64) - mean) / np.where(constant, 1.0, deviation)
    return scaled


def _extract(
    images: Images, extractor: Extractor, batch_size: int, fingerprint: str, progress: Progress | None
) -> Features:
    """Compute the features of all batches."""
    rows, done = [], 0
    shape: torch.Size | None = None
    for batch in _batches(images, batch_size):
        check_images(batch)
        if shape is not None and batch.shape[1:] != shape:
            raise DataError(f"Images of one size are expected, got {tuple(shape)} and {tuple(batch.shape[1:])}.")
        shape = batch.shape[1:]
        rows.append(extractor(batch).cpu().numpy())
        done += len(batch)
        if progress is not None:
            progress(done)
    if shape is None:
        raise DataError("There is no image to extract features of.")
    facts = {"channels": shape[0], "size": list(shape[1:]), "fingerprint": fingerprint}
    return _features(np.concatenate(rows), extractor, facts, cached=False)


def _features(values: NDArray[np.float32], extractor: Extractor, facts: dict[str, Any], *, cached: bool) -> Features:
    """Join values, what the extractor says, and facts of the images."""
    spec = extractor.input
    height, width = facts["size"]
    return Features(
        values=values,
        extractor=extractor.name,
        sha256=extractor.sha256,
        layer=extractor.layer,
        resizer=spec.resizer or "none",
        bits="all" if spec.bits is None else str(spec.bits),
        device=extractor.device.type,
        channels=int(facts["channels"]),
        size=(int(height), int(width)),
        fingerprint=str(facts["fingerprint"]),
        is_fid=extractor.is_fid,
        needs_standardizing=extractor.needs_standardizing,
        notes=(*extractor.notes, *spec.notes(int(facts["channels"]))),
        cached=cached,
    )


def _batches(images: Images, batch_size: int) -> Iterator[Tensor]:
    """Yield the images in batches of `batch_size`, the last one perhaps smaller."""
    waiting: list[Tensor] = []
    count = 0
    for item in _items(images):
        if waiting and item.shape[1:] != waiting[0].shape[1:]:
            raise DataError(
                f"Images of one size are expected, got {tuple(waiting[0].shape[1:])} and {tuple(item.shape[1:])}."
            )
        waiting.append(item)
        count += len(item)
        if count >= batch_size:
            joined = torch.cat(waiting)
            count = len(joined) % batch_size
            for start in range(0, len(joined) - count, batch_size):
                yield joined[start : start + batch_size]
            waiting = [joined[len(joined) - count :]] if count else []
    if count:
        yield torch.cat(waiting)


def _items(images: Images) -> Iterator[Tensor]:
    """Yield some images at a time, of shape ``(n, C, ...)``."""
    if isinstance(images, Tensor | np.ndarray):
        yield torch.as_tensor(images)
        return
    # Not every data set says where it ends when it is iterated over.
    indexable = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    items = (images[position] for position in range(len(images))) if indexable else iter(images)  # type: ignore[index, arg-type]
    for item in items:
        first = item.images if isinstance(item, Batch) else item
        first = first[0] if isinstance(first, tuple | list) else first
        if not isinstance(first, Tensor | np.ndarray):
            raise DataError(f"Images as tensors or arrays are expected, got {type(first).__name__}.")
        found = torch.as_tensor(first)
        yield found[None] if found.ndim == 3 else found


def _content_sha256(images: Images, batch_size: int) -> str:
    """Hash the pixels of all images, however they come in batches."""
    digest = hashlib.sha256()
    shape: torch.Size | None = None
    for batch in _batches(images, batch_size):
        if batch.shape[1:] != shape:
            shape = batch.shape[1:]
            digest.update(f"{batch.dtype} {tuple(shape)}\n".encode())
        digest.update(batch.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _key(fingerprint: str, extractor: Extractor) -> str:
    """Hash all that features depend on."""
    facts = [
        _CACHE_VERSION,
        fingerprint,
        extractor.name,
        extractor.sha256,
        extractor.layer,
        asdict(extractor.input),
        extractor.device.type,
        {library: version(library) for library in _LIBRARIES},
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _save(path: Path, features: Features) -> None:
    """Write a file of the cache; warns if that is not possible."""
    facts = {
        "channels": features.channels,
        "size": features.size,
        "fingerprint": features.fingerprint,
        "extractor": features.extractor,
        "checksum": hashlib.sha256(features.values.data).hexdigest(),
    }
    try:
        with write_aside(path) as aside:
            aside.write_bytes(save_safetensors({"features": features.values}, metadata={"facts": json.dumps(facts)}))
    except CheckpointError as error:
        warnings.warn(f"Features are not kept in a cache: {error}", FeatureCacheWarning, stacklevel=3)


def _load(path: Path, extractor: Extractor) -> Features | None:
    """Read a file of the cache; None if there is none, with a warning if it is damaged."""
    try:
        with safe_open(path, framework="numpy") as stored:
            facts = json.loads(stored.metadata()["facts"])
            values: NDArray[np.float32] = stored.get_tensor("features")
        if (
            values.ndim != 2
            or values.dtype != np.float32
            or hashlib.sha256(values.data).hexdigest() != facts["checksum"]
        ):
            raise ValueError("its content has changed")
        return _features(values, extractor, facts, cached=True)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"{path} is damaged ({error}); the features are computed again.", FeatureCacheWarning, stacklevel=3
        )
        return None
