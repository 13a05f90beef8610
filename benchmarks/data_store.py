"""How fast images get into the store and out of it, and how much memory that takes.

    python benchmarks/data_store.py --data path/to/class/folders
    python benchmarks/data_store.py --images 50000 --source-size 256 --size 256

The peer is what a notebook does: open each file with Pillow, convert it to grey, resize it to an array, in one process,
again in every epoch. Both sides read the same files in the same run, after one reading that warms the disk cache.
Without --data a folder of JPEG images is generated.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image


def generate(root: Path, images: int, size: int) -> None:
    """Write smooth noise as JPEG files in two class folders."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (64, size // 8, size // 8), dtype=np.uint8)
    patterns = [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in coarse]
    for label in ("A", "B"):
        (root / label).mkdir(parents=True)
    for number in range(images):
        turned = np.roll(patterns[number % 64], (number // 64) % size, axis=0)
        Image.fromarray(turned).save(root / "AB"[number % 2] / f"{number:06d}.jpg", quality=85)


def read_like_a_notebook(files: list[Path], size: int) -> float:
    """Return the images per second of a plain loop."""
    begin = time.perf_counter()
    for file in files:
        with Image.open(file) as image:
            np.asarray(image.convert("L").resize((size, size), Image.Resampling.BOX))
    return len(files) / (time.perf_counter() - begin)


class PeakMemory:
    """Watches the memory that belongs to this process and its workers, without the pages of mapped files."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.peak = max(self.peak, anonymous_memory())


def anonymous_memory() -> int:
    """Return the bytes of private memory of this process and its children (Linux), else of this process at its peak."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    total = 0
    for process in (str(os.getpid()), *children.read_text().split()):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of class folders with PNG or JPEG images")
    parser.add_argument("--images", type=int, default=5_000, help="images to generate without --data")
    parser.add_argument("--source-size", type=int, default=224, help="their height and width")
    parser.add_argument("--size", type=int, default=64, help="height and width in the store")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes that decode; as medgan chooses if not given"
    )
    arguments = parser.parse_args()

    from medgan.data import open_dataset

    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.data or Path(scratch) / "images"
        if arguments.data is None:
            generate(root, arguments.images, arguments.source_size)
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
        for file in files:
            file.read_bytes()
        some = files[:: max(1, len(files) // 5_000)]
        peer = read_like_a_notebook(some, arguments.size)
        cache = Path(scratch) / "cache"
        before = anonymous_memory()
        with PeakMemory() as memory:
            begin = time.perf_counter()
            dataset = open_dataset(root, size=arguments.size, cache_dir=cache, workers=arguments.workers)
            seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        open_dataset(root, size=arguments.size, cache_dir=cache, workers=arguments.workers)
        again = time.perf_counter() - begin
        stored = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        batches = dataset.batches(64)
        next(batches)
        count = max(64, min(20_000, 2**31 // (arguments.size**2 * 64)))
        begin = time.perf_counter()
        for _ in range(count // 64):
            next(batches)
        delivered = count // 64 * 64 / (time.perf_counter() - begin)

    built = len(files) / seconds
    print(
        f"{len(files):,} images to {arguments.size}×{arguments.size}; {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| | images/s | of the peer |\n|---|---|---|")
    print(f"| peer: decode and resize in a plain loop | {peer:,.0f} | 1 |")
    how = f"{seconds:.1f} s, {stored / 2**20:,.0f} MiB on disk"
    print(f"| medgan, first opening ({how}) | {built:,.0f} | {built / peer:.2f} |")
    print(f"| medgan, later epochs, float32 batches of 64 | {delivered:,.0f} | {delivered / peer:.1f} |\n")
    print(
        f"Second opening: {again:.2f} s. Private memory, all processes: {before / 2**20:,.0f} MiB before, "
        f"at most {memory.peak / 2**20:,.0f} MiB while building."
    )


if __name__ == "__main__":
    main()
