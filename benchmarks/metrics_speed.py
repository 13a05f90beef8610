"""How fast the metrics of features are, beside those of other libraries, and how much memory they take.

    python benchmarks/metrics_speed.py
    python benchmarks/metrics_speed.py --threads 1 --skip-all

Every library gets the same float32 features, drawn anew with a spectrum that falls as that of Inception features does,
and begins from these: extraction is the same for all. Peers that are not installed are named and left out. medgan and
its peers take turns, so that a machine that is busy for a while slows all of them down, and each timing is the fastest
of its turns: ratios of one run can be compared, seconds of two runs cannot.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg  # noqa: F401 - it brings a BLAS of its own, whose threads are to be limited with the others
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Features = NDArray[np.float32]

_TURNS = 3


def draw(count: int, width: int, seed: int) -> Features:
    """Return positive, correlated features, float32 ``(count, width)``."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).standard_normal((width, width)) / np.sqrt(width)
    spectrum = np.arange(1, width + 1) ** -0.5
    return np.abs(rng.standard_normal((count, width)) * spectrum @ mix + 0.02 * (seed + 1)).astype(np.float32)


class Timing(NamedTuple):
    """Seconds on the clock, and of all threads together."""

    wall: float
    cpu: float


def timed(works: Sequence[Callable[[], object]]) -> list[Timing]:
    """Return the smallest times of each piece of work, over turns of all of them."""
    turns: list[list[Timing]] = []
    while len(turns) < _TURNS:
        turn = []
        for work in works:
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            turn.append(Timing(time.perf_counter() - wall, time.process_time() - cpu))
        turns.append(turn)
    return [Timing(min(each.wall for each in own), min(each.cpu for each in own)) for own in zip(*turns, strict=True)]


class PeakMemory:
    """Watches the memory that this process holds (Linux)."""

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
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._look()

    def _look(self) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        self.peak = max(self.peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")))


def frechet_by_torch_fidelity(real: Features, synthetic: Features) -> float:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.from_numpy(side)) for side in (synthetic, real)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"])


def frechet_by_monai(real: Features, synthetic: Features) -> float:
    from monai.metrics import FIDMetric

    return float(FIDMetric()(torch.from_numpy(synthetic), torch.from_numpy(real)))


def frechet_by_pytorch_fid(real: Features, synthetic: Features) -> float:
    from pytorch_fid.fid_score import calculate_frechet_distance

    moments = [(side.mean(axis=0), np.cov(side, rowvar=False)) for side in (synthetic, real)]
    return float(calculate_frechet_distance(*moments[0], *moments[1]))


def frechet_by_torchmetrics(real: Features, synthetic: Features) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Through(torch.nn.Module):
        """Takes features for images."""

        num_features = real.shape[1]

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features

    metric = FrechetInceptionDistance(feature=Through(), input_img_size=(real.shape[1],))
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(synthetic), real=False)
    return float(metric.compute())


def kernel_by_torch_fidelity(real: Features, synthetic: Features) -> float:
    from torch_fidelity.metric_kid import kid_features_to_metric

    sides = torch.from_numpy(synthetic), torch.from_numpy(real)
    found = kid_features_to_metric(*sides, kid_subsets=100, kid_subset_size=min(1000, len(real)), verbose=False)
    return float(found["kernel_inception_distance_mean"])


def neighbours_by_torch_fidelity(real: Features, synthetic: Features) -> float:
    from torch_fidelity.metric_prc import prc_features_to_metric

    return float(
        prc_features_to_metric(torch.from_numpy(synthetic), torch.from_numpy(real), verbose=False)["precision"]
    )


Peer = tuple[str, str, Callable[[Features, Features], float]]

FRECHET_PEERS: list[Peer] = [
    ("torch-fidelity", "eigvals", frechet_by_torch_fidelity),
    ("torchmetrics", "eigvals", frechet_by_torchmetrics),
    ("pytorch-fid", "sqrtm", frechet_by_pytorch_fid),
    ("monai", "sqrtm", frechet_by_monai),
]


def installed(package: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def compare(width: int, sizes: list[int], slow_peers: bool) -> None:
    """Print the ratios."""
    from medgan.metrics.functional.frechet import frechet_distance
    from medgan.metrics.functional.kernel import kernel_distance
    from medgan.metrics.functional.manifold import precision_recall

    print("| metric | N | library | value | s | CPU s | medgan is faster by | in CPU time |")
    print("|---|---|---|---|---|---|---|---|")
    warm = draw(20, 8, 0), draw(20, 8, 1)
    for count in sizes:
        real, synthetic = draw(count, width, 0), draw(count, width, 1)

        def row(
            metric: str,
            ours: Callable[[Features, Features], float],
            peers: list[Peer],
            real: Features = real,
            synthetic: Features = synthetic,
            count: int = count,
        ) -> None:
            there = [peer for peer in peers if installed(peer[0]) and (slow_peers or peer[1] != "sqrtm")]
            works = [ours, *(work for _, _, work in there)]
            for work in works:
                work(*warm)  # imports
            values: dict[int, float] = {}

            def run(place: int) -> None:
                values[place] = works[place](real, synthetic)

            own, *others = timed([partial(run, place) for place in range(len(works))])
            print(f"| {metric} | {count:,} | medgan | {values[0]:.6g} | {own.wall:.2f} | {own.cpu:.2f} | | |")
            for place, ((package, how, _), taken) in enumerate(zip(there, others, strict=True), start=1):
                ratios = f"{taken.wall / own.wall:.1f} | {taken.cpu / own.cpu:.1f}"
                print(
                    f"| {metric} | {count:,} | {package}, {how} | {values[place]:.6g} | {taken.wall:.2f} "
                    f"| {taken.cpu:.2f} | {ratios} |",
                    flush=True,
                )

        row("Fréchet", frechet_distance, FRECHET_PEERS)
        if count >= width:
            compare_moments(real, synthetic)
        if count <= 5_000:
            kernel_peers: list[Peer] = [("torch-fidelity", "100 subsets of 1,000", kernel_by_torch_fidelity)]
            row("kernel, cubic", kernel_distance, kernel_peers)
            row(
                "precision and recall",
                lambda real, synthetic: precision_recall(real, synthetic).precision,
                [("torch-fidelity", "full matrices", neighbours_by_torch_fidelity)],
            )


def compare_moments(real: Features, synthetic: Features) -> None:
    """Print the ratio without the covariances, which take most of the time for many images, and everywhere the same."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    from medgan.metrics.functional.frechet import FeatureStatistics, frechet_distance_from_statistics

    own_moments = [FeatureStatistics.from_features(side) for side in (real, synthetic)]
    peers_moments = [fid_features_to_statistics(torch.from_numpy(side)) for side in (real, synthetic)]
    own, peer = timed(
        [
            lambda: frechet_distance_from_statistics(*own_moments),
            lambda: fid_statistics_to_metric(*peers_moments, verbose=False),
        ]
    )
    print(f"| Fréchet, of moments | {len(real):,} | medgan | | {own.wall:.2f} | {own.cpu:.2f} | | |")
    ratios = f"{peer.wall / own.wall:.1f} | {peer.cpu / own.cpu:.1f}"
    print(
        f"| Fréchet, of moments | {len(real):,} | torch-fidelity | | {peer.wall:.2f} | {peer.cpu:.2f} | {ratios} |",
        flush=True,
    )


def run_all(width: int, count: int) -> None:
    """Print the time and the memory of every metric."""
    from medgan.metrics.functional.frechet import frechet_distance, frechet_distance_infinity
    from medgan.metrics.functional.inception_score import inception_score
    from medgan.metrics.functional.kernel import kernel_distance, kernel_permutation_test
    from medgan.metrics.functional.manifold import density_coverage, precision_recall
    from medgan.metrics.functional.wasserstein import monge_distance

    real, synthetic = draw(count, width, 0), draw(count, width, 1)
    logits = np.random.default_rng(0).standard_normal((count, 1008)).astype(np.float32)
    work: dict[str, Callable[[], object]] = {
        "frechet_distance": lambda: frechet_distance(real, synthetic),
        "frechet_distance_infinity": lambda: frechet_distance_infinity(real, synthetic),
        "kernel_distance, cubic": lambda: kernel_distance(real, synthetic),
        "kernel_distance, rbf": lambda: kernel_distance(real, synthetic, kernel="rbf"),
        "kernel_permutation_test, 1,000 permutations": lambda: kernel_permutation_test(real, synthetic),
        "monge_distance, 1,000 projections": lambda: monge_distance(real, synthetic),
        "precision_recall": lambda: precision_recall(real, synthetic),
        "density_coverage": lambda: density_coverage(real, synthetic),
        "inception_score, 1,008 classes": lambda: inception_score(logits, kind="logits"),
    }
    print(f"\n| {count:,} against {count:,} | s | CPU s | peak of memory, MiB |\n|---|---|---|---|")
    total, total_cpu, peak = 0.0, 0.0, 0
    for name, each in work.items():
        with PeakMemory() as memory:
            wall, cpu = time.perf_counter(), time.process_time()
            each()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        total, total_cpu, peak = total + wall, total_cpu + cpu, max(peak, memory.peak)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {memory.peak / 2**20:,.0f} |", flush=True)
    print(f"| all | {total:.2f} | {total_cpu:.2f} | {peak / 2**20:,.0f} |")


def run_twice(width: int, count: int) -> None:
    """Print the time of a whole report, with floors and intervals, and of a second one from the cache."""
    from medgan.data import ImageDataset
    from medgan.evaluation.fidelity import measure_fidelity
    from medgan.metrics.extractors import Extractor, InputSpec

    class Projection(Extractor):
        """Random features that take no time, so that only the metrics do."""

        name, sha256, input = "projection", "0" * 64, InputSpec(1)

        def __init__(self) -> None:
            mix = np.random.default_rng(1).standard_normal((256, width)) * np.arange(1, width + 1) ** -0.5
            self.mix = torch.from_numpy(mix).float()

        def extract(self, images: torch.Tensor) -> torch.Tensor:
            return (images.flatten(1) @ self.mix).relu()

    def make(seed: int) -> ImageDataset:
        pixels = np.random.default_rng(seed).integers(seed, 256, (count, 16, 16), dtype=np.uint8)
        return ImageDataset.from_arrays(pixels, patient_ids=[str(image // 2) for image in range(count)])

    print(f"\n| report of {count:,} against {count:,} | s | CPU s | peak of memory, MiB |\n|---|---|---|---|")
    metrics = ("frechet", "kernel", "monge", "precision-recall", "density-coverage")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first run, with floors and intervals", "second run, from the cache"):
            with PeakMemory() as memory:
                wall, cpu = time.perf_counter(), time.process_time()
                measure_fidelity(
                    make(0), make(1), extractors=[Projection()], metrics=metrics, halvings=2, cache_dir=Path(folder)
                )
                taken = f"{time.perf_counter() - wall:.2f} | {time.process_time() - cpu:.2f}"
            print(f"| {name} | {taken} | {memory.peak / 2**20:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2_048, help="features an image")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000], help="images on each side, to compare")
    parser.add_argument("--images", type=int, default=5_000, help="images on each side, to run all metrics with")
    parser.add_argument("--threads", type=int, default=None, help="threads; all cores if not given")
    parser.add_argument("--slow-peers", action="store_true", help="also those that take the root of a matrix: minutes")
    parser.add_argument("--skip-all", action="store_true", help="only compare")
    arguments = parser.parse_args()
    threads = arguments.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    packages = ["numpy", "scipy", "torch", *(package for package, _, _ in FRECHET_PEERS)]
    print(", ".join(f"{package} {installed(package) or 'missing'}" for package in packages))
    print(f"Python {platform.python_version()}, {threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"D = {arguments.width:,}\n")
    with threadpool_limits(threads):
        compare(arguments.width, arguments.sizes, arguments.slow_peers)
        if not arguments.skip_all:
            run_all(arguments.width, arguments.images)
            run_twice(arguments.width, arguments.images)


if __name__ == "__main__":
    main()
