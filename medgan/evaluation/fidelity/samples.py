"""Samples of a model to compare with real images: as many, of the same classes, several times."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgan.data import ImageDataset
from medgan.errors import CheckpointError, ConfigError
from medgan.evaluation.pools import PoolStore

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["SamplingCacheWarning", "count_classes", "draw_samples"]


class SamplingCacheWarning(UserWarning):
    """Sampled images that cannot be kept."""


def draw_samples(
    gan: GAN,
    like: ImageDataset,
    *,
    count: int,
    samples: int,
    seed: int,
    truncation: float = 1.0,
    device: str = "auto",
    cache_dir: Path,
    stack: contextlib.ExitStack,
) -> list[ImageDataset]:
    """Sample a model, with the labels of real images; samples that are in the cache are not made again.

    Args:
        gan: The model.
        like: The real images.
        count: Images of a sample.
        samples: Number of independent samples.
        seed: Seed of the first image; the others have those after it.
        truncation: As in `GAN.sample`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        cache_dir: Folder of the cache. One that cannot be written is not used, with a `SamplingCacheWarning`.
        stack: Ends when the images are not needed any more.

    Raises:
        ConfigError: If the model makes images of labels that the real ones do not have.
    """
    counts = count_classes(gan, like, count)

    def draw(folder: Path) -> list[ImageDataset]:
        store = PoolStore(folder, truncation, device)
        return [store.open(gan, like, counts, first_seed=seed + number * count) for number in range(samples)]

    folder = cache_dir / "samples"
    try:
        return draw(folder)
    except CheckpointError:
        warnings.warn(f"{folder} cannot be written: sampled images are not kept.", SamplingCacheWarning, stacklevel=2)
        return draw(Path(stack.enter_context(tempfile.TemporaryDirectory())))


def count_classes(gan: GAN, like: ImageDataset, count: int) -> NDArray[np.int64]:
    """Return how many images of each class to make, in the shares of real images; or of all, where there are none.

    Args:
        gan: The model.
        like: The real images.
        count: Images in all.

    Returns:
        Shape ``(K,)``, or ``(1,)`` without classes.

    Raises:
        ConfigError: If the model makes images of labels that the real ones do not have, or does not know theirs.
    """
    spec = gan.data.labels
    if spec is None or spec.kind not in ("categorical", "ordinal"):
        if spec is not None and (like.labels is None or like.spec.labels != spec):
            raise ConfigError(
                f"The model makes images of {', '.join(spec.names)}, which the real images have no labels of. Give "
                "real images with these labels, or a folder that `medgan sample` wrote."
            )
        return np.array([count])
    shares = like.class_counts() or dict.fromkeys(spec.names, 1)
    unknown = [name for name, number in shares.items() if number and name not in spec.names]
    if unknown:
        raise ConfigError(
            f"The real images have the class {unknown[0]}, but the model knows {', '.join(spec.names)}. Give real "
            "images of these classes."
        )
    exact = np.array([shares.get(name, 0) for name in spec.names]) * count / sum(shares.values())
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: count - counts.sum()]] += 1
    return counts
