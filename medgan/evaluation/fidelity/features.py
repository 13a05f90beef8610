"""Numbers of features: values, floors, intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.data.dataset import ImageDataset
from medgan.errors import DataError
from medgan.evaluation.fidelity.groups import Group
from medgan.evaluation.fidelity.metrics import FEATURE_METRICS, FeatureMetric, at_scale_of
from medgan.evaluation.fidelity.records import Floor, Interval, Score
from medgan.evaluation.fidelity.replicates import divide, mean_interval
from medgan.evaluation.fidelity.result_cache import ResultCache
from medgan.metrics.extractors.base import Extractor
from medgan.metrics.features import Features, extract_features, standardize
from medgan.metrics.functional import kernel_distance_interval, kernel_permutation_test
from medgan.metrics.functional.kernel import KernelName

__all__ = ["Progress", "Settings", "Steps", "extract", "extractor_facts", "feature_scores"]

_PARTS = 5  # of a single synthetic set, for an interval
_FEWEST_IN_PART = 20
_FEWEST_REPLICATES = 3
_PERMUTED_IMAGES = 3_000  # a side; the memory grows with the square
_BATCH = 64

Progress = Callable[[int, int, str], None]
"""Called with the number of images done, of all, and the extractor."""

Floats = NDArray[np.float64]


class Settings(NamedTuple):
    """What all computations share."""

    halvings: int
    permutations: int
    seed: int


class Steps:
    """Adds up what is done over several extractions."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        """Begin with nothing done.

        Args:
            progress: Told of every step; None for nobody.
            total: Images in all.
        """
        self.progress = progress
        self.total = total
        self.before = 0

    def told(self, name: str) -> Callable[[int], None] | None:
        """Return what an extraction is to call."""
        progress = self.progress
        if progress is None:
            return None
        return lambda done: progress(self.before + done, self.total, name)


def extract(images: ImageDataset, extractor: Extractor, cache_dir: Path | None, steps: Steps) -> Features:
    """Extract the features of a data set."""

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), _BATCH):
            yield images.images_at(np.arange(start, min(start + _BATCH, len(images))))

    found = extract_features(
        batches(),
        extractor,
        batch_size=_BATCH,
        cache_dir=cache_dir,
        fingerprint=images.fingerprint,
        progress=steps.told(extractor.name),
    )
    steps.before += len(images)
    return found


def extractor_facts(features: Features) -> dict[str, Any]:
    """Return what a report says of an extractor."""
    return {
        "name": features.extractor,
        "sha256": features.sha256,
        "layer": features.layer,
        "features": features.values.shape[1],
        "resizer": features.resizer,
        "bits": features.bits,
        "device": features.device,
        "is_fid": features.is_fid,
        "standardised": features.needs_standardizing,
        "notes": list(features.notes),
    }


def feature_scores(
    extractor: Extractor,
    found: Sequence[Features],
    groups: Sequence[Group],
    metrics: Sequence[str],
    settings: Settings,
    cache: ResultCache,
) -> list[Score]:
    """Return the numbers of one extractor."""
    real = found[0]
    raw = [each.values for each in found]
    scaled = [standardize(each, raw[0]) if real.needs_standardizing else each.astype(np.float64) for each in raw]
    facts = [
        [each.fingerprint, each.extractor, each.sha256, each.layer, each.resizer, each.bits, each.device]
        for each in found
    ]
    logits = None
    scores = []
    for group in groups:
        for name in metrics:
            metric = FEATURE_METRICS[name]
            if metric.of_scores:
                if not extractor.classes:
                    continue
                logits = logits or [extractor.logits(torch.from_numpy(each)).cpu().double().numpy() for each in raw]
                values = logits
            else:
                values = scaled
            x = values[0][group.real.positions]
            ys = [each[side.positions] for each, side in zip(values[1:], group.samples, strict=True)]
            result = cache.get(
                {"features": facts, "group": group.digest(), "metric": name, **settings._asdict()},
                partial(_evaluate, metric, x, ys, group, settings, raw=raw if real.needs_standardizing else None),
            )
            scores += _scores(metric, result, group, real)
    return scores


def _evaluate(
    metric: FeatureMetric,
    x: Floats,
    ys: Sequence[Floats],
    group: Group,
    settings: Settings,
    *,
    raw: Sequence[NDArray[np.float32]] | None,
) -> dict[str, Any]:
    """Compute a metric with its floor, its interval and its test; plain JSON values.

    Args:
        metric: The metric.
        x: Features of the group's real images, ``(N, D)``.
        ys: Those of each sample of its synthetic images, ``(M, D)``.
        group: The group.
        settings: What all computations share.
        raw: Features of all images, as extracted, if `x` and `ys` were standardised; None if not.
    """
    metric = at_scale_of(metric, x)
    try:
        values = [list(map(float, metric.compute(x, y, settings.seed))) for y in ys]
    except DataError as error:
        return {"reason": str(error)}
    result = {"values": values, "floor": _halve(metric, x, ys, group, settings), "p_value": None}
    if metric.kernel is None:
        return result | {"interval": _replicate(metric, x, ys, values, group, settings.seed)}
    sides = [x, ys[0]]
    if raw is not None:
        # The test exchanges images of both sides, so that their scale must not know which side is real; nor must the
        # bandwidth, which it finds itself.
        extracted = [raw[0][group.real.positions], raw[1][group.samples[0].positions]]
        sides = [standardize(each, np.concatenate(extracted)) for each in extracted]
    return result | {
        "interval": _jackknife(metric, x, ys[0], float(np.mean(values)), group),
        "p_value": _test(metric.kernel, sides, group, settings),
    }


def _halve(
    metric: FeatureMetric, x: Floats, ys: Sequence[Floats], group: Group, settings: Settings
) -> dict[str, Any] | None:
    """Compare halves of the real images with each other and with as many synthetic ones."""
    halves = [
        divide(group.real.patients, group.real.strata, 2, rng=np.random.default_rng([settings.seed, 1, number]))
        for number in range(settings.halvings)
    ]
    size = min(len(part) for parts in (*halves, ys) for part in parts)
    real, synthetic = [], []
    for number, half in enumerate(halves):
        rng = np.random.default_rng([settings.seed, 2, number])
        y = ys[number % len(ys)]
        first, second, other = (rng.choice(len(part), size, replace=False) for part in (*half, y))
        try:
            real.append(list(map(float, metric.compute(x[half[0][first]], x[half[1][second]], settings.seed))))
            synthetic.append(list(map(float, metric.compute(x[half[0][first]], y[other], settings.seed))))
        except DataError:  # too few images for this metric: the report says that there is no floor
            return None
    return {"real": real, "synthetic": synthetic, "images": size}


def _replicate(
    metric: FeatureMetric,
    x: Floats,
    ys: Sequence[Floats],
    values: Sequence[Sequence[float]],
    group: Group,
    seed: int,
) -> dict[str, Any] | None:
    """Compute the metric for independent sets of images; None where there are too few."""
    if len(ys) >= _FEWEST_REPLICATES:
        method = (
            f"Student's t over {len(ys)} independent samples of synthetic images, each against all real images; it "
            "holds for these real images"
        )
        return _student(values, len(ys[0]), method)
    rng = np.random.default_rng([seed, 3])
    parts = divide(np.arange(len(ys[0])), group.samples[0].strata, _PARTS, rng=rng)
    size = min(map(len, parts))
    if size < _FEWEST_IN_PART:
        return None
    try:
        found = [list(metric.compute(x, ys[0][part[:size]], seed)) for part in parts]
    except DataError:  # as above
        return None
    method = (
        f"Student's t over {_PARTS} disjoint parts of the synthetic images, each against all real images; it holds for "
        "these real images and for this number of synthetic ones"
    )
    return _student(found, size, method)


def _student(values: Sequence[Sequence[float]], images: int, method: str) -> dict[str, Any]:
    """Return Student's intervals of the numbers of a metric from its replicates; equal ones say nothing."""
    columns = np.array(values).T
    bounds = [mean_interval(column) if np.ptp(column) > 0 else (math.nan, math.nan) for column in columns]
    return {"bounds": bounds, "images": images, "method": method}


def _jackknife(metric: FeatureMetric, x: Floats, y: Floats, value: float, group: Group) -> dict[str, Any] | None:
    """Return the interval of a kernel distance."""
    assert metric.kernel is not None
    patients = group.real.patients
    try:
        found = kernel_distance_interval(x, y, groups_real=patients, kernel=metric.kernel, bandwidth=metric.bandwidth)
    except DataError:  # one patient, or too few images
        return None
    # Of one sample: for the mean of several it is wide rather than narrow.
    low, high = (value - found.distance + bound for bound in found.interval)
    method = "jackknife over patients and over the synthetic images of a sample"
    return {"bounds": [(low, high)], "images": len(y), "method": method}


def _test(kernel: KernelName, sides: Sequence[Floats], group: Group, settings: Settings) -> float | None:
    """Return the p-value of the permutation test, in which whole patients change sides."""
    x, y = sides
    patients = group.real.patients
    rng = np.random.default_rng([settings.seed, 4])
    names, sizes = np.unique(patients, return_counts=True)
    order = rng.permutation(len(names))
    kept = names[order][np.cumsum(sizes[order]) <= _PERMUTED_IMAGES]
    chosen = np.flatnonzero(np.isin(patients, kept))
    some = np.sort(rng.permutation(len(y))[:_PERMUTED_IMAGES])
    if len(kept) < 2 or len(some) < 2:
        return None
    return kernel_permutation_test(
        x[chosen],
        y[some],
        groups_real=patients[chosen],
        kernel=kernel,
        permutations=settings.permutations,
        seed=settings.seed,
    ).p_value


def _scores(metric: FeatureMetric, result: Mapping[str, Any], group: Group, features: Features) -> list[Score]:
    """Turn the result of `_evaluate` into scores."""
    scores = []
    for place, number in enumerate(metric.numbers):
        title = number.known_as if features.is_fid else f"{number.title} ({features.extractor})"
        if "reason" in result:
            note = f"not computed: {result['reason']}"
            scores.append(group.score(number, title, extractor=features.extractor, value=None, note=note))
            continue
        floor, relative = None, None
        if result["floor"] is not None:
            real, synthetic = (np.array(result["floor"][side])[:, place] for side in ("real", "synthetic"))
            floor = Floor(
                float(real.mean()),
                float(real.std(ddof=1)),
                len(real),
                int(result["floor"]["images"]),
                float(synthetic.mean()),
            )
            if metric.ratio and floor.mean > 0:
                relative = floor.synthetic / floor.mean
        interval = None
        if result["interval"] is not None:
            low, high = (float(np.clip(bound, *number.bounds)) for bound in result["interval"]["bounds"][place])
            if not math.isnan(low):
                interval = Interval(low, high, int(result["interval"]["images"]), str(result["interval"]["method"]))
        scores.append(
            group.score(
                number,
                title,
                extractor=features.extractor,
                value=float(np.mean(np.array(result["values"])[:, place])),
                floor=floor,
                relative=relative,
                interval=interval,
                p_value=result["p_value"],
                note=metric.note,
            )
        )
    return scores
