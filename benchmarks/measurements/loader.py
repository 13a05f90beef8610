"""How fast images get from files into batches: medgan's store, MONAI's data sets and torchvision's ImageFolder.

All sides read the same JPEG files and give shuffled batches of 64 grey images of one size, float32, with labels. The
first comparison is an epoch after the first: CacheDataset and medgan have decoded all images by then,
PersistentDataset has them in files, ImageFolder and a plain loop decode them again. CacheDataset gives images with
metadata unless it is asked for plain tensors, which are collated faster: each is a side. Sides load in the process
itself and, some of them again, in as many processes as there are threads. The second comparison is the first time that
files are seen, one epoch with all that prepares it.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.images import list_images, write_class_folders
from benchmarks.protocol import Comparison, Settings, Side, Target
from benchmarks.worker import Work

TITLE = "From files to batches"

_HERE = "benchmarks.measurements.loader"
_BATCH = 64


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return later epochs and the first."""
    size, source = (32, 40) if settings.quick else (64, 224)
    root = settings.data
    if root is None:
        root = settings.scratch / "images"
        write_class_folders(root, images=128 if settings.quick else 5_000, size=source)
    images = len(list_images(root)) // _BATCH * _BATCH

    def make(name: str, kind: str, *, first: bool, workers: int | None = 0, needs: str | None = None) -> Side:
        options = {"kind": kind, "folder": str(root), "size": size, "workers": workers}
        # medgan gives thousands of images in no time: several epochs at a time, or the clock is what is measured.
        epochs = 10 if kind == "medgan" and not first else 1
        return Side(
            name=name,
            work=f"{_HERE}:{'make_first_epoch' if first else 'make_later_epochs'}",
            options=options if first else {**options, "epochs": epochs},
            units=epochs * images,
            needs=needs,
        )

    cache, plain = ("MONAI CacheDataset", "cache"), ("MONAI CacheDataset, plain tensors", "cache-plain")
    persistent, folder = ("MONAI PersistentDataset", "persistent"), ("torchvision ImageFolder", "folder")
    own = 0 if settings.quick else None  # processes that decode; medgan decides
    later = [make("medgan", "medgan", first=False, workers=own), make(*cache, first=False, needs="monai")]
    for name, kind in [plain, persistent, folder]:
        package = "torchvision" if kind == "folder" else "monai"
        later.append(make(name, kind, first=False, needs=package))
        if settings.threads > 1 or settings.quick:
            workers = max(1, settings.threads)
            later.append(make(f"{name}, {workers} processes", kind, first=False, workers=workers, needs=package))
    later.append(make("Pillow in a plain loop", "pillow", first=False))
    first = [
        make("medgan", "medgan", first=True, workers=own),
        *(make(*peer, first=True, needs="monai") for peer in (plain, persistent)),
        make(*folder, first=True, needs="torchvision"),
    ]
    what = f"{images:,} images from {'the given folder' if settings.data else f'{source} × {source} pixels'}"
    return [
        Comparison(
            title=f"A later epoch: {what} to {size} × {size}",
            unit="image",
            sides=later,
            targets=[Target(side=name, of="ratio", bound="at least", value=10) for name, _ in (cache, plain)],
            turns=3,
            rounds=3,
        ),
        Comparison(title=f"The first epoch: {what} to {size} × {size}", unit="image", sides=first, turns=2, rounds=3),
    ]


def make_later_epochs(kind: str, folder: str, size: int, workers: int | None, epochs: int) -> Work:
    """Return a function that goes through all batches some times; they have been gone through once before."""
    scratch = tempfile.TemporaryDirectory()
    atexit.register(scratch.cleanup)
    epoch = _LOADERS[kind](Path(folder), size, workers, Path(scratch.name))
    _count(epoch())
    return lambda: _count(batch for _ in range(epochs) for batch in epoch())


def make_first_epoch(kind: str, folder: str, size: int, workers: int | None) -> Work:
    """Return a function that prepares and goes through all batches once, with nothing kept from before."""

    def read() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            return _count(_LOADERS[kind](Path(folder), size, workers, Path(scratch))())

    return read


def _count(batches: Iterator[Any]) -> float:
    """Return how many images there are in batches, after a look at each batch."""
    count = 0
    for images, labels in batches:
        if len(images) != len(labels) or not -1.001 <= float(images[0].mean()) <= 1.001:
            raise RuntimeError("these are no images with labels")
        count += len(images)
    return float(count)


_Epoch = Callable[[], Iterator[Any]]


def _open_medgan(root: Path, size: int, workers: int | None, scratch: Path) -> _Epoch:
    from medgan.data import open_dataset

    dataset = open_dataset(root, size=size, channels=1, cache_dir=scratch, workers=workers)
    batches = dataset.batches(_BATCH)

    def epoch() -> Iterator[Any]:
        for _ in range(len(dataset) // _BATCH):
            yield next(batches)

    return epoch


def _labelled(root: Path) -> list[dict[str, Any]]:
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return [{"image": str(path), "label": number} for number, each in enumerate(folders) for path in list_images(each)]


def _monai_transforms(size: int, *, metadata: bool) -> Any:
    from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Resized, ScaleIntensityRanged

    return Compose(
        [
            LoadImaged("image", reader="PILReader", converter=lambda image: image.convert("L")),
            EnsureChannelFirstd("image", channel_dim="no_channel"),
            Resized("image", (size, size), mode="area"),
            ScaleIntensityRanged("image", 0, 255, -1, 1),
            # PersistentDataset gives plain tensors from its files anyway, and images with metadata the first time
            # unless they are refused here; a batch of both ends in an AttributeError (MONAI 1.6.1).
            EnsureTyped("image", track_meta=metadata),
        ]
    )


def _monai_epoch(dataset: Any, workers: int | None) -> _Epoch:
    from monai.data import DataLoader

    loader = DataLoader(
        dataset,
        batch_size=_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers or 0,
        persistent_workers=bool(workers),
    )
    return lambda: ((batch["image"], batch["label"]) for batch in loader)


def _open_cache(root: Path, size: int, workers: int | None, scratch: Path, *, metadata: bool = True) -> _Epoch:
    from monai.data import CacheDataset

    dataset = CacheDataset(_labelled(root), _monai_transforms(size, metadata=metadata), progress=False)
    return _monai_epoch(dataset, workers)


def _open_persistent(root: Path, size: int, workers: int | None, scratch: Path) -> _Epoch:
    from monai.data import PersistentDataset

    transforms = _monai_transforms(size, metadata=False)
    return _monai_epoch(PersistentDataset(_labelled(root), transforms, cache_dir=scratch), workers)


def _open_folder(root: Path, size: int, workers: int | None, scratch: Path) -> _Epoch:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Grayscale, Normalize, Resize, ToTensor

    steps = Compose([Grayscale(), Resize((size, size)), ToTensor(), Normalize(0.5, 0.5)])
    loader = DataLoader(
        ImageFolder(str(root), steps),
        batch_size=_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers or 0,
        persistent_workers=bool(workers),
    )
    return lambda: iter(loader)


def _open_pillow(root: Path, size: int, workers: int | None, scratch: Path) -> _Epoch:
    import numpy as np
    import torch
    from PIL import Image

    rows = _labelled(root)

    def read(path: str) -> Any:
        with Image.open(path) as image:
            return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BOX), dtype=np.float32)

    def epoch() -> Iterator[Any]:
        order = np.random.default_rng(0).permutation(len(rows))
        for start in range(0, len(rows) - _BATCH + 1, _BATCH):
            some = [rows[place] for place in order[start : start + _BATCH]]
            images = torch.from_numpy(np.stack([read(row["image"]) for row in some]))[:, None] / 127.5 - 1
            yield images, torch.tensor([row["label"] for row in some])

    return epoch


_LOADERS: Mapping[str, Callable[[Path, int, int | None, Path], _Epoch]] = {
    "medgan": _open_medgan,
    "cache": _open_cache,
    "cache-plain": partial(_open_cache, metadata=False),
    "persistent": _open_persistent,
    "folder": _open_folder,
    "pillow": _open_pillow,
}
