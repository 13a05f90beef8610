"""How the cost grows: with the number of images, their size, and the number of classes.

Ratios are to the first row. Opening is the second one, from the store; a batch has 64 images; a training step is one
of the preset `modern` with a batch of 32.
"""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from benchmarks.images import write_class_folders
from benchmarks.protocol import Comparison, Settings, Side
from benchmarks.worker import Work

TITLE = "How the cost grows"

_HERE = "benchmarks.measurements.scaling"


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return the growth with images, size and classes."""
    counts = (32, 64) if settings.quick else (500, 2_000, 8_000, 32_000)
    sizes = (32, 64) if settings.quick else (32, 64, 128)
    classes = (2, 4) if settings.quick else (2, 10, 100, 1_000)
    for count in counts:
        write_class_folders(settings.scratch / f"images-{count}", images=count, size=64)
    workers = 0 if settings.quick else None  # processes that decode; medgan decides
    rows: list[dict[str, object]] = [
        {"folder": str(settings.scratch / f"images-{count}"), "workers": workers} for count in counts
    ]

    def make(what: str, places: tuple[int, ...], options: list[dict[str, object]], *, units: int = 1) -> list[Side]:
        return [
            Side(name=f"{place:,}", work=f"{_HERE}:{what}", options=each, units=units, place=place)
            for place, each in zip(places, options, strict=True)
        ]

    steps, batches = (1, 4) if settings.quick else (4, 200)
    by_size: list[dict[str, object]] = [{"size": size, "classes": 2, "steps": steps} for size in sizes]
    by_class: list[dict[str, object]] = [{"size": 32, "classes": number, "steps": steps} for number in classes]
    return [
        Comparison(
            title="The first opening, which decodes all files",
            unit="opening",
            sides=make("make_first_opening", counts, rows),
            axis="images",
            turns=1,
            rounds=3,
        ),
        Comparison(
            title="A later opening", unit="opening", sides=make("make_opening", counts, rows), axis="images", turns=5
        ),
        Comparison(
            title="A batch of 64",
            unit="batch",
            sides=make("make_batches", counts, [{**each, "batches": batches} for each in rows], units=batches),
            axis="images",
            turns=5,
        ),
        Comparison(
            title="A training step, by size",
            unit="step",
            sides=make("make_training", sizes, by_size, units=steps),
            axis="pixels a side",
            turns=4,
        ),
        Comparison(
            title="A training step at 32 × 32, by classes",
            unit="step",
            sides=make("make_training", classes, by_class, units=steps),
            axis="classes",
            turns=4,
        ),
    ]


def make_first_opening(folder: str, workers: int | None) -> Work:
    """Return a function that opens a folder which nothing is known of."""
    from medgan.data import open_dataset

    def open_first() -> float:
        with tempfile.TemporaryDirectory() as cache:
            return float(len(open_dataset(folder, size=32, cache_dir=Path(cache), workers=workers)))

    return open_first


def make_opening(folder: str, workers: int | None) -> Work:
    """Return a function that opens a folder which is in the store."""
    from medgan.data import open_dataset

    cache = tempfile.TemporaryDirectory()
    atexit.register(cache.cleanup)
    open_dataset(folder, size=32, cache_dir=Path(cache.name), workers=workers)
    return lambda: float(len(open_dataset(folder, size=32, cache_dir=Path(cache.name))))


def make_batches(folder: str, workers: int | None, batches: int) -> Work:
    """Return a function that draws some batches."""
    from medgan.data import open_dataset

    with tempfile.TemporaryDirectory() as cache:
        stream = open_dataset(folder, size=32, cache_dir=Path(cache), workers=workers).batches(64)
        next(stream)  # the pixels are open by now, and stay so

    def draw() -> None:
        for _ in range(batches):
            next(stream)

    return draw


def make_training(size: int, classes: int, steps: int) -> Work:
    """Return a function that trains some steps."""
    import numpy as np

    from medgan.data import ImageDataset
    from medgan.models import ACGAN

    rng = np.random.default_rng(0)
    count = max(256, classes)
    pixels = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
    dataset = ImageDataset.from_arrays(pixels, np.arange(count) % classes)
    gan = ACGAN(dataset.spec)
    gan.make_trainer(device="cpu")

    def train() -> None:
        gan.fit(dataset, steps=steps, total_steps=1_000_000)

    return train
