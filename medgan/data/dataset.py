"""A data set: images of one size in one array, with their labels and patients, and the endless stream of batches."""

from __future__ import annotations

import hashlib
import mmap
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medgan.core.spec import Batch, DataSpec, LabelKind, LabelSpec
from medgan.data.config import DataConfig
from medgan.data.decoded import Reading
from medgan.data.labels import sort_classes
from medgan.data.npz import NpzSource, open_npz
from medgan.data.pairs import PAIR_LAYOUTS, Found, are_pairs, find_translation, with_named_sources
from medgan.data.phantom import open_phantom
from medgan.data.pipelines import PIPELINES, Contrast, load_transforms
from medgan.data.sampling import ClassSampling, Sampler
from medgan.data.sources import FolderSource, Source, list_folder, open_file
from medgan.data.splits import SplitBy, Splits, find_patients, make_folds, make_splits
from medgan.data.store import Preprocessing, Progress, Store, open_store
from medgan.data.transforms import Fit
from medgan.data.window import Window
from medgan.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from medgan.data.labels import Missing, Uncertain

__all__ = ["DataWarning", "ImageDataset", "open_configured", "open_dataset"]

_SHOWN = 5  # bad files named in a message
_PROPORTIONS = 0.02  # by which those of a pair may differ, as those of images that were resized do


class DataWarning(UserWarning):
    """Data that can be used, but may not mean what its user thinks."""


@dataclass(frozen=True)
class _StoredPixels:
    """The file of an array, in the place of the array when a data set goes to another process."""

    path: Path


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images of one size, with labels and patients where known.

    Made by `open_dataset` or `from_arrays`. A data set is immutable; `subset` and `split` share its pixels.

    Attributes:
        spec: Channels, size and labels.
        name: Short name, fit for a folder.
        source: What was opened, as text.
        index: One row an image: file, label and patient_id ("" where unknown), width, height, mode and bits as found.
        quarantine: One row a refused file: file, label, stage, error, hint.
        fingerprint: sha256 of pixels, labels and preprocessing.
        whole_fingerprint: That of the data set of which this is a subset; its own if of none.
        spacing_mm: Of volumes, the distances of the voxels of `spec.size` in mm along depth, height and width, the
            median of all volumes that say it; None where unknown.
        licence: Licence of the images where known.
        citation: How to cite the images where known.
        intensity_range: What the images' -1 and 1 were in the stored array, for example ``(0, 255)``.
        labels: int64 of shape ``(N,)`` for categorical labels, float32 of shape ``(N, K)`` for multi-label ones,
            or None.
        sources: Source images to translate from, a data set of their own, or None. Where `spec` says ``paired`` the
            source of an image is at the same position; else there may be any number of them.
        ignored: What was left aside, counted: files that are no images, by extension; rows of a table, by reason.
    """

    spec: DataSpec
    name: str
    source: str
    index: pd.DataFrame
    quarantine: pd.DataFrame
    fingerprint: str
    licence: str | None
    intensity_range: tuple[float, float]
    labels: NDArray[Any] | None
    ignored: Mapping[str, int] = field(default_factory=dict)
    whole_fingerprint: str = ""
    spacing_mm: tuple[float, ...] | None = None
    citation: str | None = None
    sources: ImageDataset | None = None
    _pixels: NDArray[Any] = field(kw_only=True)  # (all images, *size, channels)
    _rows: NDArray[np.int64] = field(kw_only=True)  # this data set's images in _pixels

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        object.__setattr__(self, "whole_fingerprint", self.whole_fingerprint or self.fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: of pixels in a file, where they are."""
        state = dict(self.__dict__)
        base: Any = self._pixels.base
        if isinstance(self._pixels, np.memmap) and isinstance(base, mmap.mmap):  # a whole file, no view of one
            state["_pixels"] = _StoredPixels(Path(str(self._pixels.filename)))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the pixels again."""
        pixels = state["_pixels"]
        if isinstance(pixels, _StoredPixels):
            pixels = np.load(pixels.path, mmap_mode="r")
        self.__dict__.update(state | {"_pixels": pixels})

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def __repr__(self) -> str:
        """Return the name, count and spec."""
        return f"<ImageDataset {self.name}: {len(self)} images, {self.spec}>"

    def __getitem__(self, position: int) -> Batch:
        """Return one image as a batch.

        Args:
            position: 0 to ``len(self) - 1``; negative ones count from the end.

        Returns:
            Images of shape ``(1, channels, *size)``, float32 in [-1, 1], with labels ``(1,)``, ``(1, K)``
            or None, and with a source where there are any.

        Raises:
            IndexError: If there is no such image.
        """
        if not -len(self) <= position < len(self):
            raise IndexError(f"image {position} of a data set of {len(self)}")
        return self._batch(np.array([position % len(self)]), torch.device("cpu"))

    def images_at(self, indices: Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor) -> torch.Tensor:
        """Return some images.

        Args:
            indices: Positions, 0 to ``len(self) - 1``, in any order, with repetitions if wished.

        Returns:
            Shape ``(len(indices), channels, *size)``, float32 in [-1, 1], channels_last, on the CPU.

        Raises:
            IndexError: If there is no such image.
        """
        return self._batch(self._checked(indices), torch.device("cpu")).images

    def batch_at(self, indices: Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor) -> Batch:
        """Return some images with their labels and sources, on the CPU.

        Args:
            indices: As in `images_at`.

        Raises:
            IndexError: If there is no such image.
        """
        return self._batch(self._checked(indices), torch.device("cpu"))

    def class_counts(self) -> dict[str, int]:
        """Return the number of images of each class or finding, by name; empty without labels."""
        if self.labels is None or self.spec.labels is None:
            return {}
        if self.labels.ndim == 2:
            counts = (self.labels > 0).sum(axis=0)
        else:
            counts = np.bincount(self.labels, minlength=len(self.spec.labels))
        return dict(zip(self.spec.labels.names, map(int, counts), strict=True))

    def check_usable(self, max_bad: float, *, table: Path | None = None) -> None:
        """Raise if there are too many unusable images, or a class without a usable one.

        Where files hold several images, each file counts as one, and one of which a part is unusable by this part:
        a refused volume is as much as a good one, however many slices that gives.

        Args:
            max_bad: Accepted share of unusable images.
            table: Where the whole quarantine can be read, for the message.

        Raises:
            DataError: If so; it lists the counts.
        """
        good, bad = len(self.index), len(self.quarantine)
        spec = self.spec.labels
        names = spec.names if spec is not None and spec.kind in ("categorical", "ordinal") else ()
        good_of, bad_of = (rows["label"].value_counts().to_dict() for rows in (self.index, self.quarantine))
        empty = [name for name in names if not good_of.get(name)]
        share = self._unusable_share()
        if good and not empty and share <= max_bad:
            return
        counts = "; ".join(f"{name}: {good_of.get(name, 0)} good, {bad_of.get(name, 0)} bad" for name in names)
        examples = [
            f"{found['file'].iloc[0]} ({error}; {hint})" + (f" and {len(found) - 1} like it" if len(found) > 1 else "")
            for (error, hint), found in self.quarantine.groupby(["error", "hint"], sort=False)
        ][:_SHOWN]
        if empty:
            problem = f"No usable image in {', '.join(empty)}"
            advice = "Mend the images above." if bad else "Put images into each class, or leave the empty ones out."
        else:
            counted = f"{share:.1%} of the files" if "part" in self.index else f"{share:.1%}"
            problem = f"{bad} of {good + bad} images cannot be used ({counted}; max_bad is {max_bad:.1%})"
            advice = f"Mend or delete them, or accept them with --max-bad {min(1.0, share + 0.005):.2f}."
            if not good:  # of nothing no share is accepted
                advice = "Mend them, or give other images."
        raise DataError(
            f"{problem}. Source: {self.source}. Counts: {counts or f'{good} good, {bad} bad'}. "
            + (f"Bad: {'; '.join(examples)}. " if bad else "")
            + (f"All of them: {table}. " if bad and table is not None else "")
            + advice
        )

    def _unusable_share(self) -> float:
        """Return the share of what cannot be used, as `check_usable` counts it."""
        good, bad = len(self.index), len(self.quarantine)
        if "part" not in self.index:
            return bad / max(1, good + bad)
        files = pd.concat([self.index["file"], self.quarantine["file"]], ignore_index=True)
        return float(pd.Series(np.repeat([0.0, 1.0], [good, bad])).groupby(files).mean().mean())

    def provenance(self) -> dict[str, Any]:
        """Return where the images come from, as plain JSON values; saved with every model trained on them."""
        patients = self.index["patient_id"]
        known = patients[patients != ""]
        return {
            "name": self.name,
            "images": len(self),
            "patients": int(known.nunique()) if len(known) else None,
            "synthetic_images": int((self.index["origin"] == "synthetic").sum()) if "origin" in self.index else 0,
            "class_counts": self.class_counts(),
            "intensity_range": list(self.intensity_range),
            "licence": self.licence,
            "citation": self.citation,
            "fingerprint": self.fingerprint,
            "whole_fingerprint": self.whole_fingerprint,
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            **({} if self.sources is None else {"source_images": len(self.sources)}),
        }

    @property
    def everything(self) -> pd.DataFrame:
        """Index of all that has a patient, which is the images and, of unpaired data, the sources after them.

        A split is made of this, as the sources of a held-out patient are held out, too.
        """
        if self.sources is None or self.spec.paired:
            return self.index
        return pd.concat([self.index, self.sources.index], ignore_index=True).fillna("")

    @property
    def strata(self) -> NDArray[Any] | None:
        """The labels that a split keeps the shares of, a row for each of `everything`."""
        if self.sources is None or self.spec.paired:
            return self.labels
        return np.repeat([0, 1], [len(self), len(self.sources)])

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor) -> ImageDataset:
        """Return a data set of some of the images; it shares the pixels.

        Args:
            indices: Positions of the wanted images, in the wanted order.

        Returns:
            The smaller data set, with the same spec and a fingerprint of its own.

        Raises:
            IndexError: If there is no such image.
        """
        chosen = self._checked(indices)
        digest = hashlib.sha256(self.fingerprint.encode() + chosen.astype("<i8").tobytes())
        paired = self.sources is not None and self.spec.paired
        return replace(
            self,
            sources=self.sources.subset(chosen) if paired and self.sources is not None else self.sources,
            index=self.index.iloc[chosen].reset_index(drop=True),
            fingerprint=digest.hexdigest(),
            labels=None if self.labels is None else self.labels[chosen],
            _rows=self._rows[chosen],
        )

    def without_labels(self) -> ImageDataset:
        """Return the same images as data without labels, with a fingerprint of its own; it shares the pixels."""
        if self.labels is None:
            return self
        digest = hashlib.sha256(f"{self.fingerprint} without labels".encode())
        return replace(self, spec=replace(self.spec, labels=None), labels=None, fingerprint=digest.hexdigest())

    @staticmethod
    def join(parts: Sequence[ImageDataset]) -> ImageDataset:
        """Put parts of one data set together again; they share its pixels.

        Args:
            parts: Subsets of the same data set, at least one.

        Returns:
            All their images, in the order of the parts.

        Raises:
            DataError: If they are of different data sets.
        """
        first = parts[0]
        if any(part._pixels is not first._pixels or part.spec != first.spec for part in parts):
            raise DataError(
                f"Only parts of one data set can be joined, but these are of {', '.join(part.name for part in parts)}."
            )
        rows = np.concatenate([part._rows for part in parts])
        digest = hashlib.sha256(first.whole_fingerprint.encode() + rows.astype("<i8").tobytes())
        sources = [part.sources for part in parts if part.sources is not None]
        return replace(
            first,
            sources=ImageDataset.join(sources) if sources else None,
            index=pd.concat([part.index for part in parts], ignore_index=True),
            fingerprint=digest.hexdigest(),
            labels=None if first.labels is None else np.concatenate([np.asarray(part.labels) for part in parts]),
            _rows=rows,
        )

    @overload
    def split(
        self, validation: float = 0.1, *, seed: int = 0, by: SplitBy = "auto", allow_patient_overlap: bool = False
    ) -> tuple[ImageDataset, ImageDataset]: ...

    @overload
    def split(
        self,
        validation: float = 0.1,
        *,
        test: float,
        seed: int = 0,
        by: SplitBy = "auto",
        allow_patient_overlap: bool = False,
    ) -> tuple[ImageDataset, ...]: ...

    def split(
        self,
        validation: float = 0.1,
        *,
        test: float = 0.0,
        seed: int = 0,
        by: SplitBy = "auto",
        allow_patient_overlap: bool = False,
    ) -> tuple[ImageDataset, ...]:
        """Split into training and validation data, and test data if wanted, with all images of a patient on one side.

        Classes keep their shares as far as whole patients allow. Warns (`DataWarning`) when images are split without
        regard to patients, as the validation then meets patients of the training. To keep a split in a file, see
        `medgan.data.splits.make_splits` and `apply_splits`.

        Args:
            validation: Share of the patients (or images) for validation, between 0 and 1.
            test: Share for the test. The validation data is the same with and without.
            seed: Same seed, same split, on every machine.
            by: ``patient``, ``image``, or ``auto``: the source's own split where it has one, else by patient where
                patients are known.
            allow_patient_overlap: Accept patients on two sides.

        Returns:
            The training and the validation data; the test data as well if `test` is above 0. Without, images that the
            source sets aside for the test are in neither.

        Raises:
            ConfigError: If a share, the seed or `by` is not usable.
            DataError: If patients are asked for but unknown, there are too few of them, or they would be on two sides.
        """
        if not 0 < validation < 1:
            raise ConfigError(f"validation must lie between 0 and 1, for example 0.1, got {validation}.")
        splits = make_splits(
            self.everything,
            self.strata,
            validation=validation,
            test=test,
            seed=seed,
            by=by,
            allow_patient_overlap=allow_patient_overlap,
        )
        parts = self.apply_splits(splits, allow_patient_overlap=allow_patient_overlap)
        return tuple(parts[part] for part in ("train", "validation", *(("test",) if test else ())))

    def folds(
        self, count: int = 5, *, seed: int = 0, by: SplitBy = "auto", allow_patient_overlap: bool = False
    ) -> list[tuple[ImageDataset, ImageDataset]]:
        """Divide into folds for cross-validation, with all images of a patient in one.

        Args:
            count: Number of folds, at least 2.
            seed: Same seed, same folds, with one version of scikit-learn.
            by: As in `split`. Images that the source sets aside for the test are in no fold.
            allow_patient_overlap: Accept patients on two sides.

        Returns:
            Training and validation data of each fold; each image is validated once.

        Raises:
            ConfigError: If an option is not usable.
            DataError: If a class has fewer patients than there are folds, or as in `split`.
        """
        splits = make_folds(
            self.everything, self.strata, folds=count, seed=seed, by=by, allow_patient_overlap=allow_patient_overlap
        )
        pairs = []
        for number in range(count):
            parts = self.apply_splits(splits.fold(number), allow_patient_overlap=allow_patient_overlap)
            pairs.append((parts["train"], parts["validation"]))
        return pairs

    def apply_splits(self, splits: Splits, *, allow_patient_overlap: bool = False) -> dict[str, ImageDataset]:
        """Divide as was decided before, and kept in a file (`Splits.read`).

        Args:
            splits: Which images are for what.
            allow_patient_overlap: Accept patients on two sides.

        Returns:
            A data set for each part, by name.

        Raises:
            DataError: If the images are not exactly those of the split, or patients are on two sides.
        """
        positions = splits.positions(self.everything, allow_patient_overlap=allow_patient_overlap)
        parts = {part: self.subset(chosen[chosen < len(self)]) for part, chosen in positions.items()}
        if self.sources is None or self.spec.paired:
            return parts
        for part, chosen in positions.items():
            sources = self.sources.subset(chosen[chosen >= len(self)] - len(self))
            if not len(sources) or not len(parts[part]):
                raise DataError(
                    f"The part {part} has {len(parts[part])} images and {len(sources)} sources, and needs some of "
                    "both. Hold out more patients, or none."
                )
            parts[part] = _beside(parts[part], sources, paired=False, whole=self.whole_fingerprint)
        return parts

    def batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        start_step: int = 0,
        class_sampling: ClassSampling = "natural",
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[Batch]:
        """Return an endless stream of batches.

        The batch of a step depends on nothing but the arguments: a run that resumes at step k types
        ``start_step=k`` and goes on exactly, without replaying anything. The process of a rank gets its own slice of
        the global batch of ``batch_size * world_size`` images.

        Args:
            batch_size: Images a batch and process; may exceed the data set.
            seed: Seed of the order.
            start_step: Number of the first batch.
            class_sampling: ``natural``: every image once an epoch, and epochs join without a short batch. ``sqrt``,
                ``uniform``: classes in shares proportional to the square root of their sizes, or equal.
            device: Where the batches go.
            rank: Number of this process among `world_size`.
            world_size: Number of processes that train together.

        Returns:
            Batches of exactly `batch_size` images, float32 in [-1, 1], channels_last, with their labels.

        Raises:
            ConfigError: If an argument is not usable.
            DataError: If there is no image, or `class_sampling` needs classes and there are none.
        """
        if batch_size < 1 or start_step < 0 or seed < 0:
            raise ConfigError(
                "batch_size must be at least 1, seed and start_step at least 0; "
                f"got {batch_size}, {seed} and {start_step}."
            )
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must lie in 0...{world_size - 1} for world_size={world_size}, got {rank}.")
        if not len(self):
            raise DataError(f"{self.name} has no image to make batches of.")
        labels = self.labels if self.labels is not None and self.labels.ndim == 1 else None
        sampler = Sampler(len(self), seed=seed, class_sampling=class_sampling, labels=labels)
        others = None  # sources that do not belong to an image are in an order of their own
        if self.sources is not None and not self.spec.paired:
            others = Sampler(len(self.sources), seed=seed + 2**32)
        first = start_step * world_size + rank
        return self._stream(sampler, others, first, batch_size, world_size, torch.device(device))

    def _stream(
        self, sampler: Sampler, others: Sampler | None, first: int, batch_size: int, step: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield batches number `first`, `first + step`, ... of the endless order."""
        number = first
        while True:
            places = number * batch_size, (number + 1) * batch_size
            yield self._batch(sampler.positions(*places), device, None if others is None else others.positions(*places))
            number += step

    def _batch(
        self, positions: NDArray[np.int64], device: torch.device, of_sources: NDArray[np.int64] | None = None
    ) -> Batch:
        """Gather images with their labels and sources, and scale them to [-1, 1] on the device."""
        images = self._to_device(self._pixels, self._rows[positions], device)
        images = images.movedim(-1, 1).to(torch.float32)  # keeps the strides: channels_last
        low, high = self.intensity_range
        half = (high - low) / 2
        images = images.sub_(low + half).div_(half)  # ends at exactly -1 and 1, as times 1 / half need not
        if self._pixels.dtype.kind == "f":
            images = images.clamp_(-1, 1)  # rounding only: the values were checked
        labels = None if self.labels is None else self._to_device(self.labels, positions, device)
        if self.sources is None:
            return Batch(images, labels)
        if of_sources is None:
            of_sources = positions if self.spec.paired else positions % len(self.sources)
        return Batch(images, labels, self.sources._batch(of_sources, device).images)

    @staticmethod
    def _to_device(array: NDArray[Any], rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """Gather rows of an array, in its own type; through pinned memory, without waiting, if the device is CUDA."""
        array = np.asarray(array)  # no memmap, whose results numpy wraps slowly
        if device.type != "cuda":
            return torch.from_numpy(np.take(array, rows, axis=0)).to(device)
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        pinned = torch.empty((len(rows), *array.shape[1:]), dtype=dtype, pin_memory=True)
        np.take(array, rows, axis=0, out=pinned.numpy(), mode="clip")  # rows are valid; "raise" would copy twice
        return pinned.to(device, non_blocking=True)  # torch keeps the pinned block until the copy is done

    def _checked(self, indices: Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor) -> NDArray[np.int64]:
        """Turn indices into an array, or raise IndexError."""
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"images {chosen.min()} to {chosen.max()} of a data set of {len(self)}")
        return chosen

    @classmethod
    def from_arrays(
        cls,
        images: NDArray[Any],
        labels: Sequence[int] | NDArray[Any] | None = None,
        *,
        names: Sequence[str] | None = None,
        data_range: tuple[float, float] | None = None,
        patient_ids: Sequence[str] | None = None,
        name: str = "arrays",
        licence: str | None = None,
        citation: str | None = None,
        sources: NDArray[Any] | None = None,
        paired: bool = True,
    ) -> ImageDataset:
        """Make a data set of arrays in memory, for notebooks and tests.

        Args:
            images: Shape ``(N, height, width)``, ``(N, height, width, channels)`` or, for volumes, ``(N, depth, height,
                width, channels)``, of uint8, uint16 or floats. Not copied unless it must be.
            labels: Shape ``(N,)``, class indices from 0; or ``(N, K)`` of 0 and 1 for several findings an image; or
                None.
            names: Class or finding names; ``class 0``, ... if None.
            data_range: The values that become -1 and 1. Needed for all but uint8, whose range is (0, 255).
            patient_ids: One id an image, or None if unknown.
            name: Short name, fit for a folder.
            licence: Licence of the images, for model cards.
            citation: How to cite the images, for model cards.
            sources: Source images to translate from, as `images` but for the number of channels: the same number of
                them where they are paired.
            paired: Whether each image shows what the source at its position shows.

        Returns:
            The data set.

        Raises:
            DataError: If shapes, types, labels or values do not fit.

        Examples:
            >>> images = np.zeros((4, 32, 32), dtype=np.uint8)
            >>> ImageDataset.from_arrays(images, [0, 0, 1, 1], names=["NORMAL", "PNEUMONIA"]).class_counts()
            {'NORMAL': 2, 'PNEUMONIA': 2}
        """
        pixels, bounds = _checked_images(np.asarray(images), data_range)
        count = len(pixels)
        spec_labels, values = _checked_labels(labels, names, count)
        if patient_ids is not None and len(patient_ids) != count:
            raise DataError(f"patient_ids has {len(patient_ids)} entries for {count} images.")
        words = [""] * count
        if spec_labels is not None and values is not None and values.ndim == 1:
            words = [spec_labels.names[value] for value in values]
        *size, channels = pixels.shape[1:]
        index = pd.DataFrame(
            {
                "file": [f"{position:06d}" for position in range(count)],
                "label": words,
                "patient_id": list(map(str, patient_ids)) if patient_ids is not None else [""] * count,
                "width": size[-1],
                "height": size[-2],
                "mode": str(pixels.dtype),
                "bits": pixels.dtype.itemsize * 8,
            }
        )
        digest = hashlib.sha256(repr((pixels.shape, str(pixels.dtype), bounds, spec_labels)).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        digest.update(b"" if values is None else values.tobytes())
        dataset = cls(
            spec=DataSpec(channels, tuple(size), spec_labels),
            name=name,
            source="arrays in memory",
            index=index,
            quarantine=pd.DataFrame(columns=["file", "label", "stage", "error", "hint"]),
            fingerprint=digest.hexdigest(),
            licence=licence,
            citation=citation,
            intensity_range=bounds,
            labels=values,
            _pixels=pixels,
            _rows=np.arange(count),
        )
        if sources is None:
            return dataset
        others = cls.from_arrays(sources, data_range=data_range, name=f"{name}-sources")
        if others.spec.size != dataset.spec.size or (paired and len(others) != count):
            raise DataError(
                f"sources must be as many as the images and of their size, {count} of {dataset.spec.size}; got "
                f"{len(others)} of {others.spec.size}. For sources that belong to no image, type paired=False."
            )
        if not paired:
            others.index["file"] = "source/" + others.index["file"]
        return _beside(dataset, others, paired=paired)


def _beside(images: ImageDataset, sources: ImageDataset, *, paired: bool, whole: str = "") -> ImageDataset:
    """Return a data set of images with sources beside them; of pairs, at the same positions."""
    digest = hashlib.sha256(f"{images.fingerprint} {sources.fingerprint} {paired}".encode()).hexdigest()
    return replace(
        images,
        spec=replace(images.spec, source_channels=sources.spec.channels, paired=paired),
        fingerprint=digest,
        whole_fingerprint=whole or digest,
        sources=sources,
    )


def _pair(images: ImageDataset, sources: ImageDataset) -> ImageDataset:
    """Bring each image together with the source that it names; what cannot be is moved to the quarantine."""
    named, part = (_column(images.index, name) for name in ("source_path", "part"))
    place = {
        key: row for row, key in enumerate(zip(sources.index["file"], _column(sources.index, "part"), strict=True))
    }
    reasons = dict(zip(sources.quarantine["file"], sources.quarantine["error"], strict=True))
    ratios = [(data.index["height"] / data.index["width"]).to_numpy(np.float64) for data in (images, sources)]
    kept, partners, refused = [], [], []
    for row, key in enumerate(zip(named, part, strict=True)):
        partner = place.get(key)
        if partner is None:
            error = f"its source {key[0]} is not usable: {reasons.get(key[0], 'it has no such part')}"
            refused.append((row, error, "mend the source, or delete both"))
        elif abs(ratios[0][row] / ratios[1][partner] - 1) > _PROPORTIONS:
            refused.append((row, f"its source {key[0]} has other proportions", "cut both to what they share"))
        else:
            kept.append(row)
            partners.append(partner)
    rows = images.index.iloc[[row for row, *_ in refused]]
    bad = pd.DataFrame(
        {
            "file": rows["file"].to_list(),
            "part": _column(rows, "part"),
            "label": rows["label"].to_list(),
            "stage": ["pair"] * len(rows),
            "error": [error for _, error, _ in refused],
            "hint": [hint for *_, hint in refused],
        }
    )
    images, sources = images.subset(kept), sources.subset(partners)
    patients = images.index["patient_id"].where(images.index["patient_id"] != "", sources.index["patient_id"])
    quarantine = images.quarantine
    if len(bad):
        quarantine = pd.concat([quarantine, bad], ignore_index=True).fillna("")
    images = replace(images, index=images.index.assign(patient_id=patients), quarantine=quarantine)
    return _beside(images, sources, paired=True)


def _column(index: pd.DataFrame, name: str) -> list[str]:
    """Return a column of text; "" in each row where there is none."""
    return index[name].to_list() if name in index else [""] * len(index)


def _checked_images(
    images: NDArray[Any], data_range: tuple[float, float] | None
) -> tuple[NDArray[Any], tuple[float, float]]:
    """Check images of `ImageDataset.from_arrays`; returns them as (N, *size, channels) with their range."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim not in {4, 5} or 0 in images.shape:
        raise DataError(
            "images must have the shape (N, height, width), (N, height, width, channels) or (N, depth, height, width, "
            f"channels), got {images.shape}."
        )
    if images.shape[1] in {1, 3} and images.shape[-1] not in {1, 3}:
        raise DataError(
            f"images of shape {images.shape} have their channels first. "
            "Type numpy.moveaxis(images, 1, -1) to have them last."
        )
    if images.dtype == np.float64 or images.dtype == np.float16:
        images = images.astype(np.float32)
    if images.dtype not in (np.uint8, np.uint16, np.float32):
        raise DataError(f"images must be uint8, uint16 or float, got {images.dtype}. Type images.astype(...) first.")
    if data_range is None:
        if images.dtype != np.uint8:
            raise DataError(
                f"{images.dtype} images need data_range, the values that become black and white: for example "
                "data_range=(0, 65535) for 16-bit images, (0, 4095) for 12-bit ones in 16, (0.0, 1.0) for floats."
            )
        data_range = (0, 255)
    low, high = map(float, data_range)
    if not low < high:
        raise DataError(f"data_range must rise, for example (0, 255), got {data_range}.")
    if not (images.min() >= low and images.max() <= high):  # also false for NaN
        raise DataError(
            f"images hold values {images.min()}...{images.max()}, outside of data_range {data_range}. Give the range "
            "that the values can have, or clip them: np.clip(images, low, high)."
        )
    return images, (low, high)


def _checked_labels(
    labels: Sequence[int] | NDArray[Any] | None, names: Sequence[str] | None, count: int
) -> tuple[LabelSpec | None, NDArray[Any] | None]:
    """Check labels of `ImageDataset.from_arrays`."""
    if labels is None:
        if names is not None:
            raise DataError(f"names={list(names)} were given without labels. Give labels, one index an image, as well.")
        return None, None
    values = np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in {1, 2} or len(values) != count:
        raise DataError(f"labels must have the shape ({count},) or ({count}, findings), got {values.shape}.")
    if values.ndim == 2:
        if not np.isin(values, (0, 1)).all():
            raise DataError("labels of several findings an image must be 0 or 1; others would be a guess.")
        spec = LabelSpec(tuple(names or (f"finding {column}" for column in range(values.shape[1]))), "multilabel")
        if len(spec) != values.shape[1]:
            raise DataError(f"names has {len(spec)} entries for {values.shape[1]} columns of labels.")
        return spec, values.astype(np.float32)
    if values.dtype.kind not in "iu" or values.min() < 0:
        raise DataError(f"labels must be class indices 0, 1, 2, ..., got {values.dtype} values such as {values[:3]}.")
    spec = LabelSpec(tuple(names or (f"class {number}" for number in range(int(values.max()) + 1))))
    if values.max() >= len(spec):
        raise DataError(f"labels go up to {values.max()}, but names has {len(spec)} entries only: {spec.names}.")
    return spec, values.astype(np.int64)


def open_dataset(
    source: str | Path,
    *,
    layout: str = "auto",
    labels: Sequence[str] | None = None,
    label_kind: LabelKind | None = None,
    uncertain: Uncertain | None = None,
    missing: Missing | None = None,
    view: str | None = None,
    size: int | tuple[int, ...] = 64,
    slices: str | None = None,
    spacing: float | str | tuple[float, float, float] | None = None,
    frame: int | None = None,
    window: str | None = None,
    pipeline: str = "auto",
    channels: int | Literal["auto"] = "auto",
    fit: Fit = "stretch",
    contrast: Contrast = "none",
    crop_border: bool = False,
    mask_markers: bool = False,
    transforms: str | None = None,
    patient_regex: str | None = None,
    max_bad: float | None = 0.01,
    licence: str | None = None,
    citation: str | None = None,
    cache_dir: Path | None = None,
    workers: int | None = 0,
    progress: Progress | None = None,
) -> ImageDataset:
    r"""Open images as a data set of one size.

    The first opening decodes every image and keeps the result in a cache; the next ones take a moment. Files that
    cannot be used are listed in ``quarantine`` and stop nothing, until they are too many.

    Args:
        source: A folder with one folder of images a class, such as ``train/NORMAL`` and ``train/PNEUMONIA``; a folder
            of images without classes; a manifest, ``table.csv`` with the columns path, label and, if known, patient_id,
            split, view, age, sex and source_path; the folder of a known data set, with `layout`; a MedMNIST-style file,
            ``pneumoniamnist.npz``, or one of its other splits, ``pneumoniamnist.npz#val``; or the simulated
            ``phantom://chest``, optionally ``phantom://chest?n=2000&seed=0``, ``phantom://chest-lowdose``, which has
            source images, or ``phantom://thorax``, which has volumes. Images are PNG, JPEG, TIFF, BMP or DICOM
            files; volumes NIfTI, MHA, NRRD, or DICOM series, one in a folder.
        layout: ``auto``, ``folder``, ``medmnist``, a name of `medgan.data.layouts.LAYOUTS`, or, for source images to
            translate from, one of `medgan.data.pairs.PAIR_LAYOUTS`.
        labels: Labels to keep, in this order; None for all. A single finding of a multi-label set gives two classes,
            without and with.
        label_kind: What the labels are, where the source does not show it: of a manifest any kind; classes of folders
            and ``.npz`` files may be ordinal, in the order of `labels`, else of their numbers.
        uncertain: What to make of uncertain labels: ``drop`` the image, take them as ``negative`` or ``positive``, or
            ``mask`` them (NaN: not learnt). Needed where there are any.
        missing: What to make of missing labels: ``drop``, ``negative`` or ``mask``. Needed where there are any.
        view: Only images of this view, such as ``PA``, where a table says it.
        size: Height and width in pixels; one number for square images. Three numbers (depth, height, width) for
            volumes.
        slices: Slices of volumes to take as images: ``axial``, ``coronal`` or ``sagittal``, with the share of the
            extent that is wanted, such as ``axial:0.3-0.7``.
        spacing: Resample volumes to this spacing in mm, along all axes or along depth, height and width, such as 1.5,
            ``(3, 1, 1)`` or ``"3,1,1"``.
        frame: The only frame wanted of files with several, from 1.
        window: Which stored values of DICOM files and volumes become black and white: ``auto`` (the file's own window),
            ``none`` (the range of its type), ``percentile``, or centre and width such as ``"40,400"``; None for the
            pipeline's. Pictures and ``.npz`` files have none (`DataWarning`); for them there is `contrast`.
        pipeline: Named preprocessing, see `medgan.data.pipelines.PIPELINES`.
        channels: 1, 3, or ``auto``: 1 if all images are grey in content, whatever their files say, else 3.
        fit: How images of other proportions fit: ``stretch``, ``pad`` or ``crop``.
        contrast: ``none``, ``clahe`` or ``percentile``.
        crop_border: Cut off dark borders.
        mask_markers: Mask bright letters near the corners.
        transforms: Transforms of your own in the place of the pipeline's, as ``module:object``: a callable, such as a
            MONAI ``Compose``, of an image ``(channels, *size)``, float32 in [0, 1], that returns the same kind.
        patient_regex: How file names tell the patient: a preset (``kermany``), or a regular expression whose groups are
            the patient id, such as ``patient(\d+)``. None for what the source itself knows.
        max_bad: Accepted share of unusable files; None to open whatever is there, and look at it (`check_usable`).
        licence: Terms of the images, for the card of a model; None for what the source itself knows.
        citation: How to cite the images; None for what the source itself knows.
        cache_dir: Where to keep decoded images; ``$MEDGAN_CACHE`` or the user's cache folder if None.
        workers: Number of processes that decode at the first opening; 0 decodes in this one, None starts one for
            each core if that takes long. A script that asks for any needs ``if __name__ == "__main__":``.
        progress: Called with the numbers of files done and of all, during the first opening.

    Returns:
        The data set.

    Raises:
        ConfigError: If an option is not usable.
        DataError: If there is no such source, it holds no images, too many are bad, a class has none, labels are
            uncertain or missing and nothing says what to make of them, or the patients cannot be read off the file
            names.

    Examples:
        >>> dataset = open_dataset("chest_xray/train", size=64, patient_regex="kermany")  # doctest: +SKIP
        >>> training, validation = dataset.split(0.1)  # doctest: +SKIP
    """
    wanted: Sequence[Any] = size if isinstance(size, tuple | list) else (size, size)
    if len(wanted) not in (2, 3) or any(not isinstance(length, Integral) or int(length) < 2 for length in wanted):
        raise ConfigError(
            f"size must be a number of pixels such as 64, (height, width), or three for volumes, got {size!r}."
        )
    lengths = tuple(int(length) for length in wanted)
    if channels not in {1, 3, "auto"}:
        raise ConfigError(f"channels must be 1, 3 or 'auto', got {channels!r}.")
    if max_bad is not None and not 0 <= max_bad <= 1:
        raise ConfigError(f"max_bad must lie between 0 and 1, for example 0.01, got {max_bad}.")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers must be at least 0, got {workers}.")
    if pipeline not in PIPELINES:
        raise ConfigError(f"pipeline={pipeline!r} is unknown. {nearest(pipeline, PIPELINES)}")
    reading = Reading(
        window=PIPELINES[pipeline].window if window is None else Window.parse(window),
        frame=frame,
        slices=slices,
        volumes=len(lengths) == 3,
        spacing_mm=_checked_spacing(spacing),
    )
    if slices is not None:
        from medgan.data.volumes import parse_slices

        parse_slices(slices)
        if reading.volumes:
            raise ConfigError("Slices and volumes were both asked for. Leave out one of --slices and --depth.")
    elif spacing is not None and not reading.volumes:
        raise ConfigError(
            "The spacing is that of volumes. Type --depth 64 or --slices axial, too, or leave --spacing out."
        )
    preprocessing = Preprocessing(
        size=lengths,
        channels=channels,
        fit=fit,
        pipeline=pipeline,
        contrast=contrast,
        crop_border=crop_border,
        mask_markers=mask_markers,
        transforms=transforms,
        transforms_identity="" if transforms is None else load_transforms(transforms)[1],
        reading=reading,
    )
    preprocessing.make_pipeline()  # checks the rest of them
    found = _find_source(
        source,
        lengths,
        reading,
        layout,
        labels=labels,
        label_kind=label_kind,
        uncertain=uncertain,
        missing=missing,
        view=view,
    )
    if found.sources is not None and crop_border:
        raise ConfigError(
            "crop_border cuts each image by itself, so that it would not fit its source any more. Leave --crop-border "
            "out."
        )

    stores = [
        open_store(source, preprocessing, cache_dir=cache_dir, workers=workers, progress=progress)
        for source in (found.images, found.sources)
        if source is not None
    ]
    if len(stores[0].images) and "window" not in stores[0].index:
        origin = f"--pipeline {pipeline}" if window is None else "--window"
        _warn_of_window(found.images, reading.window, contrast, origin)
    dataset = _of_store(found.images, stores[0], preprocessing, patient_regex, licence=licence, citation=citation)
    if found.sources is not None:
        others = _of_store(found.sources, stores[1], preprocessing, patient_regex, licence=licence, citation=citation)
        dataset = _pair(dataset, others) if found.paired else _beside(dataset, others, paired=False)
        if max_bad is not None and not found.paired:
            others.check_usable(max_bad, table=stores[1].folder / "quarantine.csv")
    if max_bad is not None:
        # What is wrong with a pair is in no file of the cache.
        table = stores[0].folder / "quarantine.csv" if found.sources is None else None
        dataset.check_usable(max_bad, table=table)
    return dataset


def _warn_of_window(source: Source, window: Window, contrast: Contrast, origin: str) -> None:
    """Warn of a window of images that have none; `origin` is the option that asks for it."""
    if window.kind == "fixed" or (window.kind == "percentile" and contrast != "percentile"):
        warnings.warn(
            f"{origin} asks for the window {window}, but windows are for grey DICOM files and volumes, and "
            f"{source.description} has none: the black and white of its images are those of their type. To stretch "
            "each image by itself, type --contrast percentile.",
            DataWarning,
            stacklevel=3,
        )


def _of_store(
    found: Source,
    store: Store,
    preprocessing: Preprocessing,
    patient_regex: str | None,
    *,
    licence: str | None,
    citation: str | None,
) -> ImageDataset:
    """Return the images of a store as a data set; licence and citation are the source's own if not given."""
    lengths = preprocessing.size
    index = store.index
    if patient_regex is not None:
        index = index.assign(patient_id=find_patients(list(index["file"]), patient_regex))
    numbers: NDArray[Any] | None = store.values
    if found.labels is not None and numbers is None:
        number_of = {label: number for number, label in enumerate(found.labels.names)}
        numbers = np.array([number_of[label] for label in index["label"]], dtype=np.int64)
    plain = preprocessing.fit == "stretch" and not preprocessing.crop_border and preprocessing.transforms is None
    return ImageDataset(
        spec=DataSpec(store.images.shape[-1], lengths, found.labels),
        name=found.name,
        source=found.description,
        index=index,
        quarantine=store.quarantine,
        fingerprint=store.fingerprint,
        licence=found.licence if licence is None else licence,
        citation=found.citation if citation is None else citation,
        intensity_range=(0.0, float(np.iinfo(store.images.dtype).max)),
        labels=numbers,
        ignored=found.ignored,
        # What is cropped, padded or transformed otherwise has another extent than its file says.
        spacing_mm=_spacing_of(index, lengths) if plain else None,
        _pixels=store.images,
        _rows=np.arange(len(store.images)),
    )


def open_configured(
    config: DataConfig, *, transforms: str | None = None, progress: Progress | None = None, check: bool = True
) -> ImageDataset:
    """Open the data set that a configuration describes; see `open_dataset`.

    Args:
        config: The options.
        transforms: As in `open_dataset`; code, so that no configuration holds it.
        progress: As in `open_dataset`.
        check: Whether to raise where there are more unusable images than ``config.max_bad``.

    Returns:
        The data set.

    Raises:
        ConfigError: If an option is not usable.
        DataError: If the data is not.
    """
    names = config.labels.split(",") if config.labels else None
    return open_dataset(
        config.data,
        layout=config.layout,
        labels=None if names is None else [name.strip() for name in names],
        label_kind=config.label_kind,
        uncertain=config.uncertain,
        missing=config.missing,
        view=config.view,
        size=config.size if config.depth is None else (config.depth, config.size, config.size),
        slices=config.slices,
        spacing=config.spacing,
        frame=config.frame,
        window=config.window,
        pipeline=config.pipeline,
        channels="auto" if config.channels == "auto" else int(config.channels),
        fit=config.fit,
        contrast=config.contrast,
        crop_border=config.crop_border,
        mask_markers=config.mask_markers,
        transforms=transforms,
        patient_regex=config.patient_regex,
        max_bad=config.max_bad if check else None,
        licence=config.licence,
        citation=config.citation,
        workers=config.workers,
        progress=progress,
    )


def _spacing_of(index: pd.DataFrame, size: tuple[int, ...]) -> tuple[float, ...] | None:
    """Return the median distances, in mm, of the voxels of volumes that were stretched to a size; None if unknown."""
    if len(size) != 3 or "spacing_mm" not in index or "depth" not in index:
        return None
    known = index[index["spacing_mm"].str.count(",") == 2]
    if known.empty:
        return None
    spacings = known["spacing_mm"].str.split(",", expand=True).to_numpy(np.float64)
    lengths = known[["depth", "height", "width"]].to_numpy(np.float64)
    return tuple(map(float, np.median(spacings * lengths / size, axis=0)))


def _parse_spacing(text: str) -> float | tuple[float, float, float]:
    """Read a spacing of one or three numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == 1:
            return numbers[0]
        depth, height, width = numbers
    except ValueError:
        raise ConfigError(f"--spacing {text!r} is not usable. Type one length in mm, or three such as 3,1,1.") from None
    return depth, height, width


def _checked_spacing(spacing: float | str | tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    """Check a spacing, and repeat a single number for all axes."""
    if spacing is None:
        return None
    if isinstance(spacing, str):
        spacing = _parse_spacing(spacing)
    numbers = (spacing,) * 3 if isinstance(spacing, int | float) else tuple(spacing)
    if len(numbers) != 3 or not all(np.isfinite(number) and number > 0 for number in numbers):
        raise ConfigError(f"spacing must be one or three lengths in mm, such as 1.5 or (3, 1, 1), got {spacing!r}.")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _find_source(
    source: str | Path,
    size: tuple[int, ...],
    reading: Reading,
    layout: str,
    *,
    labels: Sequence[str] | None,
    label_kind: LabelKind | None,
    uncertain: Uncertain | None,
    missing: Missing | None,
    view: str | None,
) -> Found:
    """Find out what kind of source was given."""
    from medgan.data.layouts import LAYOUTS, open_layout

    known = ["auto", "folder", "medmnist", *LAYOUTS, *PAIR_LAYOUTS]
    if layout not in known:
        raise ConfigError(f"layout={layout!r} is unknown. {nearest(layout, known)}")
    other_kind = None if label_kind == "categorical" else label_kind
    if str(source).startswith("phantom:"):
        _refuse("A phantom is taken as it is", labels=labels, label_kind=other_kind, view=view)
        images, sources = open_phantom(str(source), size, reading=reading, unpaired=layout == "unpaired")
        return Found(images, sources, paired=layout != "unpaired")
    root = Path(source).expanduser()
    if not str(source).strip():
        raise DataError("The name of the data is empty. Give a folder of images, such as path/to/chest_xray/train.")
    if layout == "medmnist" or (".npz" in root.name and not root.is_dir()):
        _refuse("An .npz file does not say the view of its images, as a table does", view=view)
        return Found(_of_kind(open_npz(str(root), volumes=reading.volumes, labels=labels, missing=missing), label_kind))
    if not root.exists():
        raise DataError(
            f"There is no {root} (looked in {Path.cwd()}). Give a folder of images, such as path/to/chest_xray/train, "
            "a manifest, such as table.csv, a MedMNIST file, such as pneumoniamnist.npz, or phantom://chest, which "
            "needs no data."
        )
    if layout == "auto" and not root.is_dir() and root.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".parquet")):
        layout = "manifest"
    if layout in LAYOUTS:
        table = open_layout(
            root,  # not where a link to a manifest leads: its paths start from where the link lies
            layout,
            labels=None if labels is None else tuple(labels),
            label_kind=label_kind,
            uncertain=uncertain,
            missing=missing,
            view=view,
            reading=reading,
        )
        return with_named_sources(table)
    _refuse("Folders do not say the view of their images, as a table with a column view does", view=view)
    name = _folder_name(root.resolve())
    if layout in PAIR_LAYOUTS or (layout == "auto" and are_pairs(root, reading)):
        _refuse("Pairs take their classes from folders as they are", labels=labels, label_kind=other_kind)
        return find_translation(root.resolve(), name, "pairs" if layout == "auto" else layout, reading)
    folder = (list_folder if root.is_dir() else open_file)(root.resolve(), name, reading)
    if labels is not None:
        return Found(_of_kind(folder.with_labels(labels), label_kind))
    if label_kind == "ordinal" and folder.labels is not None:
        folder = folder.with_labels(sort_classes(folder.labels.names, f"The folders of {root}", ordinal=True))
    return Found(_of_kind(folder, label_kind))


def _refuse(why: str, **options: object) -> None:
    """Refuse options that a source cannot heed; those that are None were not given."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{why}. Leave {' and '.join(given)} out.")


def _of_kind(images: FolderSource | NpzSource, kind: LabelKind | None) -> FolderSource | NpzSource:
    """Return images whose labels are of a kind; classes may have an order or none."""
    found = images.labels
    if kind is None or kind == ("categorical" if found is None else found.kind):
        return images
    if found is None or {kind, found.kind} != {"categorical", "ordinal"}:
        has = "has no labels" if found is None else f"has {found.kind} labels"
        raise ConfigError(f"--label-kind {kind} does not fit {images.description}, which {has}. Leave it out.")
    return replace(images, labels=replace(found, kind=kind))


def _folder_name(root: Path) -> str:
    """Name a data set after its folder, or the parent's if the folder is only a split."""
    folder = root.parent if root.name.lower() in {"train", "val", "test", "training", "validation"} else root
    return re.sub(r"[^\w.-]+", "-", folder.name).strip("-.") or "data"
