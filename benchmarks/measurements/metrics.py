"""Metrics beside those of torch-fidelity, torchmetrics, MONAI and pytorch-fid, on the same features.

Every library gets the same float32 features of 2,048 numbers, drawn with a spectrum that falls as that of Inception
features does, and begins from these: extraction is the same for all. torch-fidelity and torchmetrics take the
Fréchet distance by eigenvalues, pytorch-fid and MONAI by the root of a matrix, hence their own table.
torch-fidelity's kernel distance is a mean of 100 subsets of at most 1,000 images, medgan's is of all pairs. The
values stand beside the times; that of the kernel distance is an estimate where it is of subsets.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.protocol import Comparison, Settings, Side, Target
from benchmarks.worker import Work

TITLE = "Metrics"

_HERE = "benchmarks.measurements.metrics"


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return the comparisons with other libraries, then the cost of all of medgan's metrics."""
    width = 16 if settings.quick else 2_048
    small, large = (40, 80) if settings.quick else (1_000, 10_000)
    many = 60 if settings.quick else 5_000

    def make(metric: str, library: str, count: int, needs: str | None = None) -> Side:
        options = {"metric": metric, "library": library, "count": count, "width": width}
        return Side(name=library, work=f"{_HERE}:make_metric", options=options, needs=needs)

    def at_least(value: float) -> list[Target]:
        return [Target(side="torch-fidelity", of="ratio", bound="at least", value=value)]

    comparisons = []
    for count, ratio in ((small, 10.0), (large, 2.0)):
        comparisons.append(
            Comparison(
                title=f"Fréchet distance, {count:,} images against {count:,}",
                unit="value",
                sides=[
                    make("frechet", "medgan", count),
                    make("frechet", "torch-fidelity", count, "torch-fidelity"),
                    make("frechet", "torchmetrics", count, "torchmetrics"),
                ],
                targets=at_least(ratio),
                turns=3,
                rounds=2,
            )
        )
    comparisons.append(
        Comparison(
            title=f"Fréchet distance by the root of a matrix, {large:,} images against {large:,}",
            unit="value",
            sides=[
                make("frechet", "medgan", large),
                make("frechet", "pytorch-fid", large, "pytorch-fid"),
                make("frechet", "monai", large, "monai"),
            ],
            turns=2,
            rounds=1,
        )
    )
    comparisons.extend(
        Comparison(
            title=f"{title}, {small:,} images against {small:,}",
            unit="value",
            sides=[make(metric, "medgan", small), make(metric, "torch-fidelity", small, "torch-fidelity")],
            turns=4,
            rounds=2,
        )
        for metric, title in (("kernel", "Kernel distance"), ("precision", "Precision and recall"))
    )
    comparisons.append(
        Comparison(
            title=f"Each of medgan's metrics, {many:,} images against {many:,}",
            unit="value",
            sides=[
                Side(name=name, work=f"{_HERE}:make_own", options={"name": name, "count": many, "width": width})
                for name in _OWN
            ],
            turns=1,
            rounds=1,
        )
    )
    options = {"count": many, "width": width}
    comparisons.append(
        Comparison(
            title=f"A report with floors and intervals, {many:,} images against {many:,}",
            unit="report",
            sides=[
                Side(name=name, work=f"{_HERE}:make_report", options={**options, "again": again})
                for name, again in (("the first time", False), ("again, from the cache", True))
            ],
            turns=1,
            rounds=1,
        )
    )
    return comparisons


def draw(count: int, width: int, seed: int) -> Any:
    """Return positive, correlated features, float32 ``(count, width)``."""
    import numpy as np

    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).standard_normal((width, width)) / np.sqrt(width)
    spectrum = np.arange(1, width + 1) ** -0.5
    return np.abs(rng.standard_normal((count, width)) * spectrum @ mix + 0.02 * (seed + 1)).astype(np.float32)


def make_metric(metric: str, library: str, count: int, width: int) -> Work:
    """Return a function that takes one metric with one library."""
    measure = _METRICS[metric, library]
    measure(draw(20, 8, 0), draw(20, 8, 1))  # imports
    real, synthetic = draw(count, width, 0), draw(count, width, 1)
    return lambda: float(measure(real, synthetic))


def _frechet_by_medgan(real: Any, synthetic: Any) -> float:
    from medgan.metrics.functional.frechet import frechet_distance

    return frechet_distance(real, synthetic)


def _frechet_by_torch_fidelity(real: Any, synthetic: Any) -> float:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    sides = [fid_features_to_statistics(torch.from_numpy(side)) for side in (synthetic, real)]
    return float(fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"])


def _frechet_by_monai(real: Any, synthetic: Any) -> float:
    import torch
    from monai.metrics import FIDMetric

    return float(FIDMetric()(torch.from_numpy(synthetic), torch.from_numpy(real)))


def _frechet_by_pytorch_fid(real: Any, synthetic: Any) -> float:
    import numpy as np
    from pytorch_fid.fid_score import calculate_frechet_distance

    moments = [(side.mean(axis=0), np.cov(side, rowvar=False)) for side in (synthetic, real)]
    return float(calculate_frechet_distance(*moments[0], *moments[1]))


def _frechet_by_torchmetrics(real: Any, synthetic: Any) -> float:
    import torch
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


def _kernel_by_medgan(real: Any, synthetic: Any) -> float:
    from medgan.metrics.functional.kernel import kernel_distance

    return kernel_distance(real, synthetic)


def _kernel_by_torch_fidelity(real: Any, synthetic: Any) -> float:
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    sides = torch.from_numpy(synthetic), torch.from_numpy(real)
    found = kid_features_to_metric(*sides, kid_subsets=100, kid_subset_size=min(1000, len(real)), verbose=False)
    return float(found["kernel_inception_distance_mean"])


def _precision_by_medgan(real: Any, synthetic: Any) -> float:
    from medgan.metrics.functional.manifold import precision_recall

    return precision_recall(real, synthetic).precision


def _precision_by_torch_fidelity(real: Any, synthetic: Any) -> float:
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    sides = torch.from_numpy(synthetic), torch.from_numpy(real)
    return float(prc_features_to_metric(*sides, verbose=False)["precision"])


_METRICS: dict[tuple[str, str], Callable[[Any, Any], float]] = {
    ("frechet", "medgan"): _frechet_by_medgan,
    ("frechet", "torch-fidelity"): _frechet_by_torch_fidelity,
    ("frechet", "torchmetrics"): _frechet_by_torchmetrics,
    ("frechet", "pytorch-fid"): _frechet_by_pytorch_fid,
    ("frechet", "monai"): _frechet_by_monai,
    ("kernel", "medgan"): _kernel_by_medgan,
    ("kernel", "torch-fidelity"): _kernel_by_torch_fidelity,
    ("precision", "medgan"): _precision_by_medgan,
    ("precision", "torch-fidelity"): _precision_by_torch_fidelity,
}

_OWN = (
    "frechet_distance",
    "frechet_distance_infinity",
    "kernel_distance",
    "kernel_permutation_test",
    "monge_distance",
    "precision_recall",
    "density_coverage",
    "inception_score",
)


def make_own(name: str, count: int, width: int) -> Work:
    """Return a function that takes one of medgan's metrics."""
    import numpy as np

    from medgan.metrics import functional

    measure = getattr(functional, name)
    if name == "inception_score":
        logits = np.random.default_rng(0).standard_normal((count, 1008)).astype(np.float32)
        return lambda: measure(logits, kind="logits") and None
    real, synthetic = draw(count, width, 0), draw(count, width, 1)
    return lambda: measure(real, synthetic) and None


def make_report(count: int, width: int, again: bool) -> Work:
    """Return a function that measures all there is to a set of images, with or without what was measured before."""
    import numpy as np
    import torch

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

    real, synthetic = make(0), make(1)
    metrics = ("frechet", "kernel", "monge", "precision-recall", "density-coverage")

    def measure(folder: Path) -> None:
        measure_fidelity(real, synthetic, extractors=[Projection()], metrics=metrics, halvings=2, cache_dir=folder)

    if not again:

        def measure_first() -> None:
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder))

        return measure_first
    kept = tempfile.TemporaryDirectory()
    atexit.register(kept.cleanup)
    measure(Path(kept.name))
    return lambda: measure(Path(kept.name))
