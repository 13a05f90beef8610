"""What a discriminator has learnt to see in images, as a table for other tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medgan.core.networks import Discriminator, evaluating
from medgan.core.saving import write_aside
from medgan.core.spec import DataSpec, LabelSpec
from medgan.core.trainer import make_accelerator
from medgan.data.splits import image_identities
from medgan.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = ["DiscriminatorFeatures", "check_output", "extract_discriminator_features"]

_FORMS = (".npz", ".csv", ".parquet")
# A prime: what compares images within groups, such as `MinibatchStdDev`, finds no groups to divide it into.
_BATCH = 31


@dataclass(frozen=True, eq=False)
class DiscriminatorFeatures:
    """Features of images, with what is known of each.

    Attributes:
        values: Shape ``(N, F)``, float32.
        names: Shape ``(N,)``, str, the file of each image, as in a run's ``splits.json``.
        patients: Shape ``(N,)``, str, "" where unknown.
        labels: Class indices ``(N,)``, int64, or values ``(N, K)``, float32; None without labels.
        label_spec: What the labels mean; None without.
        parts: Shape ``(N,)``, str, what each image was for in the discriminator's training: ``train``, ``validation``,
            ``test``, or "" if that is not known.
    """

    values: NDArray[np.float32]
    names: NDArray[Any]
    patients: NDArray[Any]
    labels: NDArray[np.int64] | NDArray[np.float32] | None
    label_spec: LabelSpec | None
    parts: NDArray[Any]

    def to_frame(self) -> pd.DataFrame:
        """Return one row an image: image, patient, part, label (or ``label:NAME`` for each), feature_000, ..."""

        def text(values: NDArray[Any]) -> pd.Series[Any]:
            return pd.Series(values, dtype=object)  # the type str of pandas takes no names that are not UTF-8

        columns: dict[str, object] = {
            "image": text(self.names),
            "patient": text(self.patients),
            "part": text(self.parts),
        }
        if self.labels is not None and self.label_spec is not None:
            names = self.label_spec.names
            if self.labels.ndim == 1:
                columns["label"] = text(np.array(names)[self.labels.astype(np.int64)])
            else:
                columns |= {f"label:{name}": self.labels[:, number] for number, name in enumerate(names)}
        digits = len(str(self.values.shape[1] - 1))
        columns |= {f"feature_{number:0{digits}d}": column for number, column in enumerate(self.values.T)}
        return pd.DataFrame(columns)

    def write(self, out: Path) -> None:
        """Write the table; the suffix says how.

        ``.npz``: arrays ``features``, ``images``, ``patients``, ``parts`` and, with labels, ``labels`` and
        ``label_names``, without pickled objects. ``.csv`` and ``.parquet``: the table of `to_frame`. File names that
        are not UTF-8 stay as they are; only in Parquet, which holds no such text, they are escaped.

        Args:
            out: File to create.

        Raises:
            ConfigError: If the file exists, or the suffix is another one, or Parquet is not installed.
            CheckpointError: If the file cannot be written.
        """
        form = check_output(out)
        with write_aside(out) as temporary:
            if form == ".npz":
                arrays = {
                    "features": self.values,
                    "images": self.names,
                    "patients": self.patients,
                    "parts": self.parts,
                }
                if self.labels is not None and self.label_spec is not None:
                    arrays |= {"labels": self.labels, "label_names": np.array(self.label_spec.names)}
                with temporary.open("wb") as stream:
                    np.savez(stream, allow_pickle=False, **arrays)
            elif form == ".csv":
                self.to_frame().to_csv(temporary, index=False, errors="surrogateescape")
            else:
                frame = self.to_frame()
                for name in [name for name, column in frame.items() if column.dtype == object]:
                    frame[name] = frame[name].map(_escape)
                frame.to_parquet(temporary, index=False)


def _escape(text: str) -> str:
    """Return a text as UTF-8 can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_output(out: Path) -> str:
    """Return the suffix of a file for features if `DiscriminatorFeatures.write` can write it.

    Args:
        out: File to create.

    Raises:
        ConfigError: If the file exists, or the suffix is another one, or Parquet is not installed.
    """
    form = out.suffix.lower()
    if form not in _FORMS:
        raise ConfigError(f"{out} does not say which form to write. Name a file that ends in {', '.join(_FORMS)}.")
    if out.exists():
        raise ConfigError(f"{out} exists already. Name another file.")
    if form == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError("Parquet files need pyarrow. Install medgan[parquet], or name a .csv.")
    return form


def extract_discriminator_features(
    discriminator: Discriminator,
    dataset: ImageDataset,
    *,
    data: DataSpec,
    parts: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Callable[[int, int, str], None] | None = None,
) -> DiscriminatorFeatures:
    """Return what a discriminator makes of images before it judges them: `DiscriminatorOutput.features`.

    The discriminator is given no labels, and an image's features do not depend on the others: where a discriminator
    compares the images of a batch, each is given to it alone.

    Args:
        discriminator: The network, such as `medgan.models.load_discriminator` reads; used in evaluation mode.
        dataset: The images; their labels may be others than those that the discriminator knows.
        data: Facts of the data that the discriminator was made for.
        parts: What each image was for in its training, by name; see `medgan.runs.read_parts`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: Told of the images done, of how many, and of what is done.

    Returns:
        The features, in the order of the data set.

    Raises:
        ConfigError: If the device is not to be had, or the discriminator has no features.
        DataError: If there are no images, or they have another size or number of channels.
    """
    spec = dataset.spec
    if (spec.channels, spec.size) != (data.channels, data.size):
        raise DataError(
            f"The discriminator looks at {data.channels} channel(s) of {_by(data.size)} pixels, but {dataset.name} has "
            f"{spec.channels} of {_by(spec.size)}. Open the images with that size and those channels."
        )
    if not len(dataset):
        raise DataError(f"{dataset.name} has no image.")
    if not data.source_channels:
        dataset = replace(dataset, sources=None)
    elif dataset.sources is None:
        raise DataError(
            f"The discriminator judges images beside their sources, but {dataset.name} has none. Give pairs, as for "
            "medgan fit."
        )
    place = make_accelerator(device).device
    before = next(discriminator.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(evaluating(discriminator))
        stack.callback(discriminator.to, before)
        discriminator.to(place)
        some = range(min(_BATCH, len(dataset)))
        together = _features(discriminator, dataset, some, place)
        alone = np.concatenate([_features(discriminator, dataset, [row], place) for row in some])
        # The same sums in another order differ in their last digits.
        size = _BATCH if np.allclose(together, alone, rtol=1e-3, atol=1e-4 * float(np.abs(alone).max())) else 1
        values = []
        for start in range(0, len(dataset), size):
            rows = range(start, min(start + size, len(dataset)))
            # A last batch of another number may have groups.
            step = size if len(rows) == size else 1
            values += [
                _features(discriminator, dataset, rows[at : at + step], place) for at in range(0, len(rows), step)
            ]
            if progress is not None:
                progress(rows.stop, len(dataset), "")
    names = image_identities(dataset.index)
    known = parts or {}
    return DiscriminatorFeatures(
        values=np.concatenate(values),
        names=np.array(names, dtype=np.str_),
        patients=dataset.index["patient_id"].to_numpy(dtype=np.str_),
        labels=dataset.labels,
        label_spec=spec.labels,
        parts=np.array([known.get(name, "") for name in names], dtype=np.str_),
    )


def _features(
    discriminator: Discriminator, dataset: ImageDataset, rows: range | list[int], device: torch.device
) -> NDArray[np.float32]:
    """Return the features of some images as one batch."""
    with torch.inference_mode():
        batch = dataset.batch_at(list(rows))
        inputs = [batch.images] if batch.sources is None else [batch.images, None, batch.sources]
        features = discriminator(*(None if part is None else part.to(device) for part in inputs)).features
    if features is None:
        raise ConfigError(
            "This architecture's discriminator gives no features. Return them in DiscriminatorOutput.features."
        )
    values: NDArray[np.float32] = features.float().cpu().numpy()
    return values


def _by(size: tuple[int, ...]) -> str:
    return " × ".join(map(str, size))
