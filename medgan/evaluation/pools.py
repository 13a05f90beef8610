"""Synthetic images of a study on disk: sampled once, shared by all processes."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.core.trainer import make_accelerator
from medgan.data import ImageDataset
from medgan.data.pixels import to_uint8, to_uint16
from medgan.errors import CheckpointError
from medgan.evaluation.run_store import StudyWarning, fingerprint

if TYPE_CHECKING:
    from medgan.core.gan import GAN

__all__ = ["PoolStore", "class_seeds"]

_SPAN = 2**24  # seeds of one pool; 255 pools and one to test on have their own


def class_seeds(seed: int | None) -> int:
    """Return the seed of the first image of a pool.

    Args:
        seed: Seed of the trainings that the pool is for; None for images that nothing is trained on.
    """
    return 255 * _SPAN if seed is None else (seed % 255) * _SPAN


@dataclass(frozen=True)
class PoolStore:
    """A folder of sampled images, one array file a pool.

    Attributes:
        folder: Where they are.
        truncation: As in `GAN.sample`.
        device: Where to sample.
    """

    folder: Path
    truncation: float
    device: str

    def open(self, gan: GAN, real: ImageDataset, counts: NDArray[np.int64], *, first_seed: int) -> ImageDataset:
        """Return synthetic images, sampled at the first call and mapped from the disk later.

        They are rounded to the bits of the images that the model was trained on, to 8 or 16; of a model that does not
        say which those were, to those of `real`. Files that are damaged are set aside, with a `StudyWarning`.

        Args:
            gan: The model.
            real: Real images, whose findings are repeated where an image has several.
            counts: Images of each class, ``(K,)``; or of all, ``(1,)``.
            first_seed: Seed of the first image.

        Raises:
            CheckpointError: If they cannot be written.
        """
        facts = {
            "weights": gan.weights_sha256,
            "architecture": gan.name,
            "bits": _bits(gan, real),
            "labels_like": None if gan.data.labels is None or _has_classes(gan) else real.fingerprint,
            "counts": counts.tolist(),
            "first_seed": first_seed,
            "truncation": self.truncation,
        }
        place = self.folder / fingerprint(facts)[:20]
        found = _load(place, gan)
        if found is None:
            self._sample(gan, _labels(gan, real, counts, first_seed), first_seed, int(counts.sum()), facts, place)
            found = _open(place, gan)
        return found

    def _sample(
        self, gan: GAN, labels: torch.Tensor | None, first_seed: int, count: int, facts: dict[str, Any], place: Path
    ) -> None:
        """Write a pool; its folder gets its name when everything is there."""
        gan.generator.to(make_accelerator(self.device).device)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".pool-", dir=self.folder))
            try:
                shape = (count, *gan.data.size, gan.data.channels)
                to_pixels = to_uint8 if facts["bits"] == 8 else to_uint16
                dtype = np.dtype(f"uint{facts['bits']}")
                images = np.lib.format.open_memmap(aside / "images.npy", mode="w+", dtype=dtype, shape=shape)
                start = 0
                seeds = range(first_seed, first_seed + count)
                for batch in gan.sample_batches(seeds, labels=labels, truncation=self.truncation):
                    images[start : start + len(batch.images)] = to_pixels(batch.images)
                    start += len(batch.images)
                images.flush()
                del images
                if labels is not None:
                    np.save(aside / "labels.npy", labels.numpy())
                whole = facts | {"fingerprint": _open(aside, gan).fingerprint}
                (aside / "pool.json").write_text(json.dumps(whole, indent=2), encoding="utf-8")
                if place.exists():  # begun by a process that was killed, so without pool.json
                    shutil.rmtree(place)
                aside.replace(place)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except OSError as error:
            raise CheckpointError(
                f"Synthetic images could not be written to {self.folder} ({error.strerror or error}). Name another "
                "--out."
            ) from error


def _has_classes(gan: GAN) -> bool:
    """Whether a model makes images of classes, of which there may be one."""
    return gan.data.labels is not None and gan.data.labels.kind in ("categorical", "ordinal")


def _bits(gan: GAN, real: ImageDataset) -> int:
    """Return with how many bits a model's images are kept: 8, or 16 if it was trained on images that had more.

    Only bytes have the range of bytes; others are integers of 12 or 16 bits, or floats.
    """
    bounds = gan.provenance.get("intensity_range", real.intensity_range)
    return 8 if tuple(bounds) == (0, 255) else 16


def _open(place: Path, gan: GAN) -> ImageDataset:
    """Return the images of a folder, mapped from the disk."""
    spec = gan.data.labels
    # A data set of arrays holds classes and findings only.
    known = None if spec is None or spec.kind == "continuous" else spec
    images = np.load(place / "images.npy", mmap_mode="r")
    found = ImageDataset.from_arrays(
        images,
        None if known is None else np.load(place / "labels.npy"),
        names=None if known is None else known.names,
        data_range=(0, np.iinfo(images.dtype).max),
        name="synthetic",
    )
    return found if known is None else replace(found, spec=replace(found.spec, labels=known))  # ordinal ones stay so


def _load(place: Path, gan: GAN) -> ImageDataset | None:
    """Return a finished pool; None if there is none. A damaged one is renamed, with a warning, and counts as none."""
    if not (place / "pool.json").is_file():
        return None
    try:
        facts = json.loads((place / "pool.json").read_text(encoding="utf-8"))
        found = _open(place, gan)
        if facts.get("fingerprint", found.fingerprint) != found.fingerprint:
            raise ValueError("its content has changed")
    except (OSError, ValueError, EOFError, AttributeError) as error:
        damaged = Path(tempfile.mkdtemp(prefix=f"{place.name}.damaged-", dir=place.parent))
        place.replace(damaged)
        warnings.warn(
            f"The synthetic images in {place} are damaged ({error}); they are now in {damaged.name}, and are sampled "
            "again.",
            StudyWarning,
            stacklevel=3,
        )
        return None
    return found


def _labels(gan: GAN, real: ImageDataset, counts: NDArray[np.int64], seed: int) -> torch.Tensor | None:
    """Return the labels to sample: so many of each class; or findings as real images have them together."""
    if gan.data.labels is None:
        return None
    if _has_classes(gan):
        return torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    known = np.nan_to_num(np.asarray(real.labels, dtype=np.float32))  # a finding that is unknown is not asked for
    chosen = np.random.default_rng([seed, 3_011]).integers(len(known), size=int(counts[0]))
    return torch.from_numpy(known[chosen])
