"""Numbers of the images themselves: diversity, nearest training images, and pairs of translated images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.data.dataset import ImageDataset
from medgan.data.pairs import stem_of
from medgan.data.splits import image_identities
from medgan.errors import DataError
from medgan.evaluation.fidelity.features import Settings
from medgan.evaluation.fidelity.groups import Group, Positions, patients_of
from medgan.evaluation.fidelity.metrics import Number
from medgan.evaluation.fidelity.records import Floor, Interval, Score
from medgan.evaluation.fidelity.replicates import difference_interval, grouped_mean_interval, median_interval
from medgan.evaluation.fidelity.result_cache import ResultCache
from medgan.metrics.functional import (
    mse,
    multiscale_ssim,
    nearest_neighbours,
    pair_similarity,
    psnr,
    ssim,
)

__all__ = ["diversity_scores", "nearest_scores", "paired_scores"]

_PAIRS, _PAIR_IMAGES = 1_000, 2_000
_QUERIES = 1_000
_NEAREST_SIZE = 64  # pixels along the longest side at most
_BATCH = 64
_RANGE = (-1.0, 1.0)

Floats = NDArray[np.float64]


_PAIR = Number("pair_similarity", "MS-SSIM of pairs", "", "as real", (-1.0, 1.0))
_PAIR_GAP = Number("pair_similarity_gap", "MS-SSIM of pairs, synthetic less real", "", "near 0", (-2.0, 2.0))
_NEAREST = Number("nearest_training", "correlation with the nearest training image", "", "as real", (-1.0, 1.0))
_NEAREST_GAP = Number(
    "nearest_training_gap", "nearest training image, synthetic less held-out", "", "near 0", (-2.0, 2.0)
)


def diversity_scores(
    real: ImageDataset, synthetic: ImageDataset, groups: Sequence[Group], settings: Settings, cache: ResultCache
) -> list[Score]:
    """Return the mean similarity of pairs of images of a class, beside that of real ones."""
    scales = _scales(real)
    scores: list[Score] = []
    for group in groups:
        sides = [
            _some(group.real.positions, _PAIR_IMAGES, settings.seed),
            _some(group.samples[0].positions, _PAIR_IMAGES, settings.seed),
        ]
        patients = group.real.patients[np.isin(group.real.positions, sides[0])]
        key = {"pairs": [real.fingerprint, synthetic.fingerprint], "group": group.digest(), **settings._asdict()}
        result = cache.get(key, partial(_compare_pairs, (real, synthetic), sides, patients, scales, settings.seed))
        if "reason" in result:
            note = f"not computed: {result['reason']}"
            scores.append(group.score(_PAIR, _PAIR.title, extractor="", value=None, note=note))
            continue
        (of_real, real_error, _, _, real_groups), (value, error, low, high, images) = result["sides"]
        note = f"{scales} scales, up to {_PAIRS:,} pairs; the lower, the more diverse"
        method = "jackknife over the images"
        floor = Floor(of_real, real_error, 0, len(sides[0]), value)
        interval = None if math.isnan(low) else Interval(low, high, len(sides[1]), method)
        scores.append(
            group.score(_PAIR, _PAIR.title, extractor="", value=value, floor=floor, interval=interval, note=note)
        )
        low, high = difference_interval(value - of_real, (error, images - 1), (real_error, real_groups - 1))
        method = "Welch's, of the jackknife's errors over images and over patients"
        interval = None if math.isnan(low) else Interval(low, high, len(sides[1]), method)
        note = "above 0: synthetic images vary less than real ones"
        scores.append(
            group.score(_PAIR_GAP, _PAIR_GAP.title, extractor="", value=value - of_real, interval=interval, note=note)
        )
    return scores


def _compare_pairs(
    datasets: Sequence[ImageDataset],
    sides: Sequence[Positions],
    patients: NDArray[np.int64],
    scales: int,
    seed: int,
) -> dict[str, Any]:
    """Compute the similarity of pairs of real and of synthetic images; plain JSON values."""
    if not scales:
        return {"reason": "SSIM needs images of 11 pixels or more along each side."}
    found = []
    for images, chosen, groups in zip(datasets, sides, (patients, None), strict=True):
        try:
            pairs = pair_similarity(
                _arrays(images, chosen), data_range=_RANGE, pairs=_PAIRS, scales=scales, groups=groups, seed=seed
            )
        except DataError as error:
            return {"reason": str(error)}
        found.append([pairs.mean, pairs.standard_error, *pairs.interval, pairs.groups])
    return {"sides": found}


def _scales(images: ImageDataset) -> int:
    """Return how many scales of MS-SSIM the images are large enough for; 0 if for none."""
    return min(5, (min(images.spec.size) // 11).bit_length())


def nearest_scores(
    real: ImageDataset,
    synthetic: ImageDataset,
    training: ImageDataset,
    groups: Sequence[Group],
    settings: Settings,
    cache: ResultCache,
) -> list[Score]:
    """Return how near synthetic images are to training images, beside how near held-out real images are."""
    queries = [
        (real, _some(np.arange(len(real)), _QUERIES, settings.seed)),
        (synthetic, _some(np.arange(len(synthetic)), _QUERIES, settings.seed)),
    ]

    def compute() -> dict[str, Any]:
        references = _small(training, np.arange(len(training)))
        return {
            "values": [
                nearest_neighbours(_small(images, chosen), references).values[:, 0].tolist()
                for images, chosen in queries
            ]
        }

    known = [real.fingerprint, synthetic.fingerprint, training.fingerprint]
    result = cache.get({"nearest": known, **settings._asdict()}, compute)
    of_real, of_synthetic = map(np.array, result["values"])
    scores = []
    for group in groups:
        inside = [
            np.isin(chosen, side.positions)
            for (_, chosen), side in zip(queries, (group.real, group.samples[0]), strict=True)
        ]
        level, values = of_real[inside[0]], of_synthetic[inside[1]]
        if len(level) < 2 or len(values) < 2:
            note = "not computed: there are fewer than 2 images on a side"
            scores.append(group.score(_NEAREST, _NEAREST.title, extractor="", value=None, note=note))
            continue
        patients = patients_of(real)[queries[0][1]][inside[0]]
        level_error, _ = grouped_mean_interval(level, patients)
        error, bounds = grouped_mean_interval(values, np.arange(len(values)))
        note = f"of pixels, at most {_NEAREST_SIZE} along a side; the floor is that of held-out real images"
        floor = Floor(float(level.mean()), level_error, 0, len(level), float(values.mean()))
        method = "Student's t over the images, for these training images"
        scores.append(
            group.score(
                _NEAREST,
                _NEAREST.title,
                extractor="",
                value=float(values.mean()),
                floor=floor,
                interval=Interval(*bounds, len(values), method),
                note=note,
            )
        )
        gap = float(values.mean() - level.mean())
        low, high = difference_interval(gap, (error, len(values) - 1), (level_error, len(np.unique(patients)) - 1))
        interval = None
        if not math.isnan(low):
            interval = Interval(low, high, len(values), "Welch's, over images and patients, for these training images")
        note = "above 0: nearer to training images than new patients are, as copies would be; single copies do not show"
        scores.append(
            group.score(_NEAREST_GAP, _NEAREST_GAP.title, extractor="", value=gap, interval=interval, note=note)
        )
    return scores


def _small(images: ImageDataset, chosen: Positions) -> NDArray[np.float32]:
    """Return images, averaged down where they are large."""
    found = []
    for start in range(0, len(chosen), _BATCH):
        block = images.images_at(chosen[start : start + _BATCH])
        step = -(-max(block.shape[2:]) // _NEAREST_SIZE)
        if step > 1:
            pool = torch.nn.functional.avg_pool2d if block.ndim == 4 else torch.nn.functional.avg_pool3d
            block = pool(block, step, ceil_mode=True)
        found.append(block.contiguous().numpy())
    return np.concatenate(found)


_PAIRED = (
    Number("ssim", "SSIM with its own real image", "", "higher", (-1.0, 1.0)),
    Number("multiscale_ssim", "MS-SSIM with its own real image", "", "higher", _RANGE),
    Number("psnr", "PSNR (dB), median", "", "higher"),
    Number("mse", "mean squared error, of the range 0 to 1", "", "lower"),
)


def paired_scores(
    real: ImageDataset, synthetic: ImageDataset, groups: Sequence[Group], settings: Settings
) -> list[Score]:
    """Compare each synthetic image with the real one of the same file name."""
    partners = _partners(real, synthetic)
    scales = _scales(real)
    found: dict[str, list[Floats]] = {number.key: [] for number in _PAIRED}
    for start in range(0, len(synthetic), _BATCH):
        chosen = np.arange(start, min(start + _BATCH, len(synthetic)))
        one, other = _arrays(synthetic, chosen), _arrays(real, partners[chosen])
        found["psnr"].append(psnr(one, other, data_range=_RANGE))
        found["mse"].append(mse(one, other) / 4)
        if scales:
            found["ssim"].append(ssim(one, other, data_range=_RANGE))
            found["multiscale_ssim"].append(multiscale_ssim(one, other, data_range=_RANGE, scales=scales))
    scores = []
    patients = patients_of(real)[partners]
    for group in groups:
        inside = group.samples[0].positions
        for number in _PAIRED:
            if not found[number.key] or len(inside) < 2:
                continue
            values = np.concatenate(found[number.key])[inside]
            if number.key == "psnr":
                value = float(np.median(values))
                low, high = median_interval(values, patients[inside], seed=settings.seed)
                method = "bootstrap of whole patients"
            else:
                value = float(values.mean())
                _, (low, high) = grouped_mean_interval(values, patients[inside])
                low, high = (float(np.clip(bound, *number.bounds)) for bound in (low, high))
                method = "Student's t over patients"
            interval = None if math.isnan(low) else Interval(low, high, len(values), method)
            note = f"{scales} scales" if number.key == "multiscale_ssim" else ""
            scores.append(group.score(number, number.title, extractor="", value=value, interval=interval, note=note))
    return scores


def _partners(real: ImageDataset, synthetic: ImageDataset) -> Positions:
    """Return the position of each synthetic image's real one, which has the same file name."""
    names = [_names(each) for each in (real, synthetic)]
    place = {name: number for number, name in enumerate(names[0])}
    if len(place) < len(names[0]):
        raise DataError(
            f"Images of {real.source} differ in nothing but the extension of their names, so they cannot be paired."
        )
    alone = [name for name in names[1] if name not in place]
    if alone:
        raise DataError(
            f"{len(alone)} of {len(names[1])} synthetic images have no real image of the same name, such as "
            f"{alone[0]!r}. The metric 'paired' is for translated images, which keep the name of their real one, in "
            "the same class folder."
        )
    return np.array([place[name] for name in names[1]], dtype=np.int64)


def _names(images: ImageDataset) -> list[str]:
    """Name images as `medgan.export.write_samples` names their translations, without an extension."""
    files = images.index["file"]
    parts = [name[len(file) + 1 :] for file, name in zip(files, image_identities(images.index), strict=True)]
    return [f"{stem_of(file)} {part}".rstrip() for file, part in zip(files, parts, strict=True)]


def _arrays(images: ImageDataset, chosen: Positions) -> NDArray[np.float32]:
    """Return some images as an array, in [-1, 1]."""
    return images.images_at(chosen).contiguous().numpy()


def _some(positions: Positions, most: int, seed: int) -> Positions:
    """Return some of the positions, at random."""
    if len(positions) <= most:
        return positions
    return np.sort(np.random.default_rng([seed, 71]).choice(positions, most, replace=False))
