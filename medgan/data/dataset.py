"""A data set: images of one size in one array, with their labels and patients, and the endless stream of batches."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medgan.core.spec import Batch, DataSpec, LabelSpec
from medgan.data.npz import open_npz
from medgan.data.phantom import open_phantom
from medgan.data.sampling import ClassSampling, Sampler
from medgan.data.sources import Source, list_folder
from medgan.data.splits import find_patients, split_groups
from medgan.data.store import Preprocessing, Progress, Store, open_store
from medgan.data.transforms import Aspect, Resizer
from medgan.errors import ConfigError, DataError

__all__ = ["DataWarning", "ImageDataset", "open_dataset"]

_SHOWN = 5  # bad files named in a message


class DataWarning(UserWarning):
    """Data that can be used, but may not mean what its user thinks."""


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
        licence: Licence of the images where known.
        intensity_range: What the images' -1 and 1 were in the stored array, for example ``(0, 255)``.
        labels: int64 of shape ``(N,)`` for categorical labels, float32 of shape ``(N, K)`` for multi-label ones,
            or None.
        ignored: Files that are no images, counted by extension.
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
    _pixels: NDArray[Any] = field(kw_only=True)  # (all images, height, width, channels)
    _rows: NDArray[np.int64] = field(kw_only=True)  # this data set's images in _pixels

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
            Images of shape ``(1, channels, height, width)``, float32 in [-1, 1], with labels ``(1,)``, ``(1, K)``
            or None.

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
            Shape ``(len(indices), channels, height, width)``, float32 in [-1, 1], channels_last, on the CPU.

        Raises:
            IndexError: If there is no such image.
        """
        return self._batch(self._checked(indices), torch.device("cpu")).images

    def class_counts(self) -> dict[str, int]:
        """Return the number of images of each class or finding, by name; empty without labels."""
        if self.labels is None or self.spec.labels is None:
            return {}
        if self.labels.ndim == 2:
            counts = (self.labels > 0).sum(axis=0)
        else:
            counts = np.bincount(self.labels, minlength=len(self.spec.labels))
        return dict(zip(self.spec.labels.names, map(int, counts), strict=True))

    def provenance(self) -> dict[str, Any]:
        """Return where the images come from, as plain JSON values; saved with every model trained on them."""
        patients = self.index["patient_id"]
        known = patients[patients != ""]
        return {
            "name": self.name,
            "images": len(self),
            "patients": int(known.nunique()) if len(known) else None,
            "class_counts": self.class_counts(),
            "intensity_range": list(self.intensity_range),
            "licence": self.licence,
            "fingerprint": self.fingerprint,
        }

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
        return replace(
            self,
            index=self.index.iloc[chosen].reset_index(drop=True),
            fingerprint=digest.hexdigest(),
            labels=None if self.labels is None else self.labels[chosen],
            _rows=self._rows[chosen],
        )

    def split(
        self, validation: float = 0.1, *, seed: int = 0, by: Literal["auto", "patient", "image"] = "auto"
    ) -> tuple[ImageDataset, ImageDataset]:
        """Split into training and validation data, with all images of a patient on one side.

        Classes keep their shares as far as whole patients allow. Warns (`DataWarning`) when images are split without
        regard to patients, as the validation then meets patients of the training.

        Args:
            validation: Share of the patients (or images) for validation, between 0 and 1.
            seed: Same seed, same split, on every machine.
            by: ``patient``, ``image``, or ``auto``: by patient where patients are known.

        Returns:
            The training and the validation data.

        Raises:
            ConfigError: If `validation` or `by` is not usable.
            DataError: If patients are asked for but unknown, or there are too few of them.
        """
        if by not in {"auto", "patient", "image"}:
            raise ConfigError(f"by={by!r} is unknown; type 'auto', 'patient' or 'image'.")
        patients = self.index["patient_id"].to_numpy(dtype=object)
        known = bool((patients != "").any())
        if by == "patient" and not known:
            raise DataError(
                f"No patient is known for the images of {self.source}. Say how file names tell the patient, for "
                r"example --patient-regex 'patient(\d+)', or accept patients on both sides with by=" + '"image".'
            )
        groups = np.arange(len(self))
        if known and by != "image":
            unknown = [f"\0{position}" for position in range(len(self))]  # an unknown patient is one of their own
            names = [str(patient) or own for patient, own in zip(patients, unknown, strict=True)]
            groups = np.unique(np.array(names, dtype=object), return_inverse=True)[1]
        else:
            reason = "as by='image' asks" if by == "image" else "as no patient ids are known"
            warnings.warn(
                f"{self.name} is split image by image, {reason}: images of one patient may be on both sides, and the "
                r"validation flatters. Give patient ids, for example --patient-regex 'patient(\d+)'.",
                DataWarning,
                stacklevel=2,
            )
        strata = self.labels if self.labels is not None and self.labels.ndim == 1 else np.zeros(len(self), np.int64)
        training, held_out = split_groups(groups, strata, validation, seed)
        assert not set(groups[training]) & set(groups[held_out]), "a patient is on both sides"
        return self.subset(training), self.subset(held_out)

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
        return self._stream(sampler, start_step * world_size + rank, batch_size, world_size, torch.device(device))

    def _stream(
        self, sampler: Sampler, first: int, batch_size: int, step: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield batches number `first`, `first + step`, ... of the endless order."""
        number = first
        while True:
            yield self._batch(sampler.positions(number * batch_size, (number + 1) * batch_size), device)
            number += step

    def _batch(self, positions: NDArray[np.int64], device: torch.device) -> Batch:
        """Gather images with their labels, and scale them to [-1, 1] on the device."""
        images = self._to_device(self._pixels, self._rows[positions], device)
        images = images.permute(0, 3, 1, 2).to(torch.float32)  # keeps the strides: channels_last
        low, high = self.intensity_range
        images = images.sub_(low).div_((high - low) / 2).sub_(1)
        if self._pixels.dtype.kind == "f":
            images = images.clamp_(-1, 1)  # rounding only: the values were checked
        labels = None if self.labels is None else self._to_device(self.labels, positions, device)
        return Batch(images, labels)

    @staticmethod
    def _to_device(array: NDArray[Any], rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """Gather rows of an array, in its own type; through pinned memory, without waiting, if the device is CUDA."""
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
    ) -> ImageDataset:
        """Make a data set of arrays in memory, for notebooks and tests.

        Args:
            images: Shape ``(N, height, width)`` or ``(N, height, width, channels)`` of uint8, uint16 or floats. Not
                copied unless it must be.
            labels: Shape ``(N,)``, class indices from 0; or ``(N, K)`` of 0 and 1 for several findings an image; or
                None.
            names: Class or finding names; ``class 0``, ... if None.
            data_range: The values that become -1 and 1. Needed for all but uint8, whose range is (0, 255).
            patient_ids: One id an image, or None if unknown.
            name: Short name, fit for a folder.
            licence: Licence of the images, for model cards.

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
        height, width, channels = pixels.shape[1:]
        index = pd.DataFrame(
            {
                "file": [f"{position:06d}" for position in range(count)],
                "label": words,
                "patient_id": list(map(str, patient_ids)) if patient_ids is not None else [""] * count,
                "width": width,
                "height": height,
                "mode": str(pixels.dtype),
                "bits": pixels.dtype.itemsize * 8,
            }
        )
        digest = hashlib.sha256(repr((pixels.shape, str(pixels.dtype), bounds, spec_labels)).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        digest.update(b"" if values is None else values.tobytes())
        return cls(
            spec=DataSpec(channels, (height, width), spec_labels),
            name=name,
            source="arrays in memory",
            index=index,
            quarantine=pd.DataFrame(columns=["file", "label", "stage", "error", "hint"]),
            fingerprint=digest.hexdigest(),
            licence=licence,
            intensity_range=bounds,
            labels=values,
            _pixels=pixels,
            _rows=np.arange(count),
        )


def _checked_images(
    images: NDArray[Any], data_range: tuple[float, float] | None
) -> tuple[NDArray[Any], tuple[float, float]]:
    """Check images of `ImageDataset.from_arrays`; returns them as (N, height, width, channels) with their range."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"images must have the shape (N, height, width) or (N, height, width, channels), got {images.shape}."
        )
    if images.shape[1] in {1, 3} and images.shape[3] not in {1, 3}:
        raise DataError(
            f"images of shape {images.shape} have their channels first. "
            "Type images.transpose(0, 2, 3, 1) to have them last."
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
    size: int | tuple[int, int] = 64,
    channels: int | Literal["auto"] = "auto",
    aspect: Aspect = "stretch",
    patient_regex: str | None = None,
    max_bad: float = 0.01,
    cache_dir: Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> ImageDataset:
    r"""Open images as a data set of one size.

    The first opening decodes every image and keeps the result in a cache; the next ones take a moment. Files that
    cannot be used are listed in ``quarantine`` and stop nothing, until they are too many.

    Args:
        source: A folder with one folder of PNG, JPEG, TIFF or BMP images a class, such as ``train/NORMAL`` and
            ``train/PNEUMONIA``; a folder of images without classes; a MedMNIST-style file, ``pneumoniamnist.npz``, or
            one of its other splits, ``pneumoniamnist.npz#val``; or the simulated ``phantom://chest``, optionally
            ``phantom://chest?n=2000&seed=0``.
        size: Height and width in pixels; one number for square images.
        channels: 1, 3, or ``auto``: 1 if all images are grey in content, whatever their files say, else 3.
        aspect: How images of other proportions fit: ``stretch``, ``pad`` or ``crop``.
        patient_regex: How file names tell the patient: a preset (``kermany``), or a regular expression whose groups are
            the patient id, such as ``patient(\d+)``.
        max_bad: Accepted share of unusable files.
        cache_dir: Where to keep decoded images; ``$MEDGAN_CACHE`` or the user's cache folder if None.
        workers: Number of processes that decode at the first opening; 0 decodes in this one. A script that asks for
            more needs ``if __name__ == "__main__":``.
        progress: Called with the numbers of images done and of all, during the first opening.

    Returns:
        The data set.

    Raises:
        ConfigError: If an option is not usable.
        DataError: If there is no such source, it holds no images, too many are bad, a class has none, or the patients
            cannot be read off the file names.

    Examples:
        >>> dataset = open_dataset("chest_xray/train", size=64, patient_regex="kermany")  # doctest: +SKIP
        >>> training, validation = dataset.split(0.1)  # doctest: +SKIP
    """
    preprocessing = _checked_preprocessing(size, channels, aspect)
    if not 0 <= max_bad <= 1:
        raise ConfigError(f"max_bad must lie between 0 and 1, for example 0.01, got {max_bad}.")
    if workers < 0:
        raise ConfigError(f"workers must be at least 0, got {workers}.")
    found = _find_source(source, preprocessing.size)
    store = open_store(found, preprocessing, cache_dir=cache_dir, workers=workers, progress=progress)
    _check_bad(found, store, max_bad)
    index = store.index
    if patient_regex is not None:
        index = index.assign(patient_id=find_patients(list(index["file"]), patient_regex))
    labels: NDArray[Any] | None = store.values
    if found.labels is not None and labels is None:
        numbers = {label: number for number, label in enumerate(found.labels.names)}
        labels = np.array([numbers[label] for label in index["label"]], dtype=np.int64)
    return ImageDataset(
        spec=DataSpec(store.images.shape[3], preprocessing.size, found.labels),
        name=found.name,
        source=found.description,
        index=index,
        quarantine=store.quarantine,
        fingerprint=store.fingerprint,
        licence=found.licence,
        intensity_range=(0.0, float(np.iinfo(store.images.dtype).max)),
        labels=labels,
        ignored=found.ignored,
        _pixels=store.images,
        _rows=np.arange(len(store.images)),
    )


def _checked_preprocessing(
    size: int | tuple[int, int], channels: int | Literal["auto"], aspect: Aspect
) -> Preprocessing:
    """Check the options that shape pixels."""
    lengths = (size, size) if isinstance(size, int) else tuple(size)
    if len(lengths) != 2 or min(lengths) < 2:
        raise ConfigError(f"size must be a number of pixels such as 64, or (height, width), got {size!r}.")
    if channels not in {1, 3, "auto"}:
        raise ConfigError(f"channels must be 1, 3 or 'auto', got {channels!r}.")
    Resizer(lengths, aspect)  # checks the aspect
    return Preprocessing(lengths, channels, aspect)


def _find_source(source: str | Path, size: tuple[int, int]) -> Source:
    """Find out what kind of source was given."""
    if str(source).startswith("phantom:"):
        return open_phantom(str(source), size)
    root = Path(source).expanduser()
    if ".npz" in root.name and not root.is_dir():
        return open_npz(str(root))
    if not root.exists():
        raise DataError(
            f"There is no {root} (looked in {Path.cwd()}). Give a folder of images, such as path/to/chest_xray/train, "
            "a MedMNIST file, such as pneumoniamnist.npz, or phantom://chest, which needs no data."
        )
    if not root.is_dir():
        raise DataError(
            f"{root} is a file, and not a .npz file. Give the folder that holds the images: {root.resolve().parent}"
        )
    root = root.resolve()
    return list_folder(root, _folder_name(root))


def _folder_name(root: Path) -> str:
    """Name a data set after its folder, or the parent's if the folder is only a split."""
    folder = root.parent if root.name.lower() in {"train", "val", "test", "training", "validation"} else root
    return re.sub(r"[^\w.-]+", "-", folder.name).strip("-.") or "data"


def _check_bad(source: Source, store: Store, max_bad: float) -> None:
    """Raise if too many images are bad, or a class has no good one."""
    good, bad = len(store.index), len(store.quarantine)
    names = source.labels.names if source.labels is not None and source.labels.kind != "multilabel" else ()
    good_of, bad_of = (table["label"].value_counts().to_dict() for table in (store.index, store.quarantine))
    empty = [name for name in names if not good_of.get(name)]
    if good and not empty and bad <= max_bad * (good + bad):
        return
    counts = "; ".join(f"{name}: {good_of.get(name, 0)} good, {bad_of.get(name, 0)} bad" for name in names)
    examples = [
        f"{row.file} ({row.error}; {row.hint})" for row in store.quarantine.head(_SHOWN).itertuples(index=False)
    ]
    if empty:
        problem = f"No usable image in {', '.join(empty)}"
        advice = "Put images into each class folder, or delete the empty ones."
    else:
        problem = f"{bad} of {good + bad} images cannot be used ({bad / (good + bad):.1%}; max_bad is {max_bad:.1%})"
        advice = f"Mend or delete them, or accept them with --max-bad {min(1.0, bad / (good + bad) + 0.005):.2f}."
    raise DataError(
        f"{problem}. Source: {source.description}. Counts: {counts or f'{good} good, {bad} bad'}. "
        + (f"Bad: {'; '.join(examples)}. All of them: {store.folder / 'quarantine.csv'}. " if bad else "")
        + advice
    )
