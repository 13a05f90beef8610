"""How much synthetic images are like real ones: every number with what it takes to judge it.

A distance between two sets of images says nothing by itself: it depends on the extractor, the number of images, and the
patients. So each number comes with

- its **floor**: the same number between two halves of the real images, which share no patient, over several random
  halvings; and the synthetic images at that very number of images, as a distance shrinks as the number grows;
- its **relative distance**, the one divided by the other: 1 is as near as other real patients are;
- an **interval** that is valid for it. The Fréchet distance and others that depend on the number of images: Student's t
  over independent samples of synthetic images (several seeds, or disjoint parts of one set), each against all real
  images; it holds for this reference and that number of images. The kernel distance, which does not depend on it:
  Student's t over disjoint blocks of patients and synthetic images (Zaremba et al., arXiv:1307.1954), and a p-value of a
  permutation test that exchanges whole patients. Similarity of pairs: a jackknife over patients;
- who was compared, read how, by which extractor, and what limits it.

`measure_fidelity` computes all of it, `FidelityReport` is the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.core.saving import versions
from medgan.data.dataset import ImageDataset
from medgan.data.splits import image_identities
from medgan.errors import ConfigError, DataError
from medgan.evaluation import fidelity_metrics, replicates
from medgan.evaluation.fidelity_metrics import FEATURE_METRICS, Direction, FeatureMetric, Number, check_metrics
from medgan.evaluation.fidelity_warnings import find_warnings, patients_of
from medgan.evaluation.replicates import difference_interval, divide, grouped_mean_interval, mean_interval
from medgan.evaluation.result_cache import ResultCache
from medgan.metrics import features as features_module
from medgan.metrics import functional
from medgan.metrics.extractors.base import Extractor
from medgan.metrics.features import Features, check_comparable, extract_features, standardize
from medgan.metrics.functional import (
    kernel_permutation_test,
    mse,
    multiscale_ssim,
    nearest_neighbours,
    pair_similarity,
    psnr,
    ssim,
)

__all__ = ["FidelityReport", "Floor", "Interval", "Score", "measure_fidelity"]

_PARTS = 5  # of a single synthetic set, for an interval
_FEWEST_IN_PART = 20
_BLOCKS = 10
_PERMUTED_IMAGES = 3_000  # a side; the memory grows with the square
_PAIRS, _PAIR_IMAGES = 1_000, 2_000
_QUERIES = 1_000
_NEAREST_SIZE = 64  # pixels along the longest side at most
_BATCH = 64
_RANGE = (-1.0, 1.0)

_CODE = (
    Path(__file__),
    Path(fidelity_metrics.__file__),
    Path(replicates.__file__),
    Path(features_module.__file__),
    Path(functional.__file__).parent,
)

Progress = Callable[[int, int, str], None]
"""Called with the number of images done, of all, and the extractor."""

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Floor:
    """What real images give when they are compared with real images.

    Attributes:
        mean: Mean over the halvings, or of all real images where nothing is halved.
        spread: Standard deviation over the halvings, or standard error. Halvings share images: it is no interval.
        halvings: Number of random halvings into patients; 0 where nothing is halved.
        images: Images on each side.
        synthetic: Mean value of synthetic images at this number of images, against the same halves.
    """

    mean: float
    spread: float
    halvings: int
    images: int
    synthetic: float


@dataclass(frozen=True)
class Interval:
    """A confidence interval of 95 %.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        images: Synthetic images of each replicate; the value of a metric that depends on it belongs to this number.
        method: How it was found, and what it holds for.
    """

    low: float
    high: float
    images: int
    method: str


@dataclass(frozen=True)
class Score:
    """One number of a report.

    Attributes:
        metric: Its name in files, such as ``frechet_distance``.
        title: Its name in words, with the extractor; published names, such as FID, only where it is just that.
        group: The class, or ``all``.
        extractor: The extractor's name; "" for metrics of images.
        direction: Which value is the best.
        value: Mean over the samples of synthetic images; None if it could not be computed, see `note`.
        real_images: Real images.
        synthetic_images: Synthetic images of a sample.
        samples: Samples of synthetic images.
        floor: What real images give; None where there is nothing to compare with.
        relative: The synthetic value divided by the floor, at the floor's number of images; None where that means
            nothing.
        interval: None where there are too few images for one.
        p_value: Of the hypothesis that both sides have one distribution; None where there is no test.
        note: How it was computed, or why it was not.
    """

    metric: str
    title: str
    group: str
    extractor: str
    direction: Direction
    value: float | None
    real_images: int
    synthetic_images: int
    samples: int
    floor: Floor | None = None
    relative: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class FidelityReport:
    """The result of `measure_fidelity`.

    Attributes:
        scores: All numbers, those of all images first.
        warnings: What limits them, a sentence each.
        extractors: Facts of each extractor: name, sha256, layer, features, resizer, bits, device, standardised, notes.
        real: Facts of the real images: name, source, images, patients, class_counts, size, channels, intensity_range,
            fingerprint.
        synthetic: The same of the synthetic images, of one sample, with the number of samples.
        training: The same of the real training images; None if they are not known.
        settings: Seed, halvings and the like, and whatever the caller adds.
        versions: Versions of what computed it.
    """

    scores: tuple[Score, ...]
    warnings: tuple[str, ...]
    extractors: tuple[dict[str, Any], ...]
    real: dict[str, Any]
    synthetic: dict[str, Any]
    training: dict[str, Any] | None
    settings: dict[str, Any]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what is not finite is None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


class _Side(NamedTuple):
    """The images of a group on one side: their positions, who they are of, and what they show."""

    positions: Positions
    patients: NDArray[np.int64]
    strata: NDArray[np.int64]


class _Group(NamedTuple):
    """Images that are compared with each other: all, or those of a class."""

    name: str
    real: _Side
    samples: list[_Side]

    def score(self, number: Number, title: str, **rest: Any) -> Score:
        """Return a score of these images."""
        return Score(
            metric=number.key,
            title=title,
            group=self.name,
            direction=number.direction,
            real_images=len(self.real.positions),
            synthetic_images=len(self.samples[0].positions),
            samples=len(self.samples),
            **rest,
        )


class _Settings(NamedTuple):
    """What all computations share."""

    halvings: int
    permutations: int
    seed: int


def measure_fidelity(
    real: ImageDataset,
    synthetic: ImageDataset | Sequence[ImageDataset],
    *,
    extractors: Sequence[Extractor] = (),
    metrics: Sequence[str] | None = None,
    training: ImageDataset | None = None,
    trained_on: Mapping[str, Any] | None = None,
    per_class: bool = False,
    halvings: int = 10,
    permutations: int = 1_000,
    seed: int = 0,
    cache_dir: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> FidelityReport:
    """Compare synthetic images with real ones.

    Args:
        real: The reference: real images that the generator has not seen, if possible with patients.
        synthetic: Synthetic images of the same size and channels; or several independent samples of as many, such as
            of several seeds, whose values are averaged and give the intervals. From a single set, intervals are those
            of its five disjoint parts, at their number of images.
        extractors: What features are computed with; none leaves only metrics of images.
        metrics: Names of `medgan.evaluation.fidelity_metrics.METRICS`; None for its default ones.
        training: The real images that the generator was trained on, where known.
        trained_on: What is known of them otherwise: `GAN.provenance` of the generator.
        per_class: Whether to compare each class, or the images with each finding, as well.
        halvings: Random halvings of the real images for the floor, at least 2.
        permutations: Of the test of the kernel distance.
        seed: Of all random choices.
        cache_dir: Folder of features and results that are kept; None for no cache.
        facts: What else the settings are to hold, plain JSON values.
        progress: Told of extractions.

    Returns:
        The report.

    Raises:
        ConfigError: If a metric is unknown, a number is too small, or classes were asked for and there are none.
        DataError: If sizes, channels or classes differ, a side has fewer than 2 images, or images cannot be read by an
            extractor.
    """
    samples = [synthetic] if isinstance(synthetic, ImageDataset) else list(synthetic)
    wanted = check_metrics(metrics)
    if halvings < 2:
        raise ConfigError(f"halvings is {halvings}, but a spread needs at least 2; 10 is usual.")
    if not seed >= 0:
        raise ConfigError(f"seed is {seed}, it must be 0 or more.")
    _check_alike(real, samples)
    if training is not None:
        _check_alike(real, [training], what="training")
    settings = _Settings(halvings, permutations, seed)
    classes = _class_groups(real, samples, required=per_class)
    groups = [_whole(real, samples), *(classes if per_class else ())]
    cache = ResultCache(None if cache_dir is None else cache_dir / "metrics", _CODE)
    of_features = [name for name in wanted if name in FEATURE_METRICS]

    scores: list[Score] = []
    known: list[Features] = []
    if of_features:
        steps = _Steps(progress, len(extractors) * (len(real) + sum(map(len, samples))))
        for extractor in extractors:
            found = [_features(images, extractor, cache_dir, steps) for images in (real, *samples)]
            known.append(found[0])
            for each in found[1:]:
                check_comparable(found[0], each)
            scores += _feature_scores(extractor, found, groups, of_features, settings, cache)
    if "diversity" in wanted:
        scores += _diversity(real, samples[0], classes or groups[:1], settings, cache)
    overlap_is_known = training is not None and not _shared(real, training)
    if "nearest-real" in wanted and training is not None and overlap_is_known:
        scores += _nearest(real, samples[0], training, groups, settings, cache)
    if "paired" in wanted:
        scores += _paired(real, samples[0], groups, settings)
    if not scores:
        raise ConfigError(
            "There is nothing to compute. Metrics of features need an extractor, such as radiomics; nearest-real needs "
            "the real training images, which the reference must not hold."
        )
    order = {group.name: number for number, group in enumerate([groups[0], *classes])}
    return FidelityReport(
        scores=tuple(sorted(scores, key=lambda score: order[score.group])),
        warnings=tuple(
            find_warnings(real, samples, training=training, trained_on=trained_on, features=known, metrics=wanted)
        ),
        extractors=tuple(_extractor_facts(features) for features in known),
        real=_facts(real),
        synthetic={**_facts(samples[0]), "samples": len(samples)},
        training=None if training is None else _facts(training),
        settings={
            **settings._asdict(),
            "metrics": list(wanted),
            "per_class": per_class,
            "confidence": replicates.CONFIDENCE,
            **(facts or {}),
        },
        versions={
            **versions(),
            **{name: version(name) for name in ("numpy", "scipy", "scikit-image", "torch-fidelity", "torchvision")},
        },
    )


# ------------------------------------------------------------------------------------ images


def _check_alike(real: ImageDataset, others: Sequence[ImageDataset], what: str = "synthetic") -> None:
    """Refuse what cannot be compared."""
    for name, images in (("real", real), *((what, each) for each in others)):
        if len(images) < 2:
            raise DataError(
                f"There {'is' if len(images) == 1 else 'are'} {len(images)} {name} image{'s' * (len(images) != 1)} in "
                f"{images.source}, and no set can be compared with fewer than 2. Give more."
            )
    if not others:
        raise DataError("No synthetic images were given.")
    for images in others:
        for fact, one, other in (
            ("size", real.spec.size, images.spec.size),
            ("channels", real.spec.channels, images.spec.channels),
        ):
            if one != other:
                raise DataError(
                    f"The real images have the {fact} {one}, the {what} ones {other}. Open both alike, for example "
                    f"with --size {real.spec.size[-1]} --channels {real.spec.channels}."
                )
        if what == "synthetic" and len(images) != len(others[0]):
            raise DataError(
                f"Samples of synthetic images must have one size, got {len(others[0])} and {len(images)} images."
            )


def _sides(images: ImageDataset, chosen: Positions) -> _Side:
    """Return some images with their patients and strata."""
    labels = images.labels
    strata = labels if labels is not None and labels.ndim == 1 else np.zeros(len(images), np.int64)
    return _Side(chosen, patients_of(images)[chosen], np.asarray(strata, np.int64)[chosen])


def _whole(real: ImageDataset, samples: Sequence[ImageDataset]) -> _Group:
    """Return the group of all images."""
    return _Group(
        "all", _sides(real, np.arange(len(real))), [_sides(each, np.arange(len(each))) for each in samples]
    )


def _class_groups(real: ImageDataset, samples: Sequence[ImageDataset], *, required: bool) -> list[_Group]:
    """Return a group for each class or finding of the real images; none if labels do not name any."""
    spec = real.spec.labels
    problem = ""
    if spec is None or real.labels is None or spec.kind == "continuous":
        problem = f"the real images of {real.source} have no classes"
    elif any(each.labels is None or each.spec.labels is None for each in samples):
        problem = f"the synthetic images of {samples[0].source} have no classes; put them into class folders"
    if problem:
        if required:
            raise ConfigError(f"Classes cannot be compared: {problem}. Leave out --per-class.")
        return []
    groups = []
    assert spec is not None
    for name in spec.names:
        sides = []
        for images in (real, *samples):
            assert images.spec.labels is not None and images.labels is not None  # noqa: PT018 - for the type checker
            names = images.spec.labels.names
            number = names.index(name) if name in names else -1
            there = images.labels == number if images.labels.ndim == 1 else images.labels[:, number] > 0
            sides.append(_sides(images, np.flatnonzero(there) if number >= 0 else np.arange(0)))
        if len(sides[0].positions):
            groups.append(_Group(name, sides[0], sides[1:]))
    if required and not any(len(group.samples[0].positions) for group in groups):
        known = samples[0].spec.labels
        raise DataError(
            f"The real classes are {', '.join(spec.names)}, the synthetic ones {', '.join(known.names if known else ())}"
            ": none is the same. Name the folders of synthetic images as the real ones."
        )
    return groups


def _facts(images: ImageDataset) -> dict[str, Any]:
    """Return what a report says of a data set."""
    return {
        **images.provenance(),
        "source": images.source,
        "size": list(images.spec.size),
        "channels": images.spec.channels,
    }


def _arrays(images: ImageDataset, chosen: Positions) -> NDArray[np.float32]:
    """Return some images as an array, in [-1, 1]."""
    return images.images_at(chosen).contiguous().numpy()


def _some(positions: Positions, most: int, seed: int) -> Positions:
    """Return some of the positions, at random."""
    if len(positions) <= most:
        return positions
    return np.sort(np.random.default_rng([seed, 71]).choice(positions, most, replace=False))


def _shared(real: ImageDataset, training: ImageDataset) -> bool:
    """Whether the reference and the training images are, in part, the same files of one data set."""
    if real.whole_fingerprint != training.whole_fingerprint:
        return False
    return not set(image_identities(real.index)).isdisjoint(image_identities(training.index))


# ---------------------------------------------------------------------------------- features


class _Steps:
    """Adds up what is done."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self.before = 0

    def told(self, name: str) -> Callable[[int], None] | None:
        """Return what an extraction is to call."""
        progress = self.progress
        if progress is None:
            return None
        return lambda done: progress(self.before + done, self.total, name)


def _features(images: ImageDataset, extractor: Extractor, cache_dir: Path | None, steps: _Steps) -> Features:
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


def _extractor_facts(features: Features) -> dict[str, Any]:
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


def _feature_scores(
    extractor: Extractor,
    found: Sequence[Features],
    groups: Sequence[_Group],
    metrics: Sequence[str],
    settings: _Settings,
    cache: ResultCache,
) -> list[Score]:
    """Return the numbers of one extractor."""
    real, *samples = found
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
            pooled = None
            if metric.permuted:
                # The test needs a scale that does not know which side is real.
                first = [raw[0][group.real.positions], raw[1][group.samples[0].positions]]
                both = np.concatenate(first)
                pooled = [standardize(each, both) if real.needs_standardizing else each for each in first]
            result = cache.get(
                {"features": facts, "group": _digest(group), "metric": name, **settings._asdict()},
                lambda metric=metric, x=x, ys=ys, group=group, pooled=pooled: _evaluate(  # type: ignore[misc]
                    metric, x, ys, group, pooled, settings
                ),
            )
            scores += _scores(metric, result, group, real)
    return scores


def _digest(group: _Group) -> list[Any]:
    """Return what tells a group's images, in the features of a data set, from others."""
    return [[part.tolist() for part in side] for side in (group.real, *group.samples)]


def _evaluate(
    metric: FeatureMetric,
    x: Floats,
    ys: Sequence[Floats],
    group: _Group,
    pooled: Sequence[Floats] | None,
    settings: _Settings,
) -> dict[str, Any]:
    """Compute a metric with its floor, its replicates and its test; plain JSON values."""
    seed = settings.seed
    try:
        values = [list(map(float, metric.compute(x, y, seed))) for y in ys]
    except DataError as error:
        return {"reason": str(error)}
    return {
        "values": values,
        "floor": _halve(metric, x, ys, group, settings),
        "replicates": _replicate(metric, x, ys, values, group, seed),
        "p_value": None if pooled is None or metric.permuted is None else _test(metric, pooled, group, settings),
    }


def _halve(
    metric: FeatureMetric, x: Floats, ys: Sequence[Floats], group: _Group, settings: _Settings
) -> dict[str, Any] | None:
    """Compare halves of the real images with each other and with as many synthetic ones."""
    halves = [
        divide(group.real.patients, group.real.strata, 2, rng=np.random.default_rng([settings.seed, 1, number]))
        for number in range(settings.halvings)
    ]
    size = min(min(len(part) for half in halves for part in half), len(ys[0]))
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
    group: _Group,
    seed: int,
) -> dict[str, Any] | None:
    """Compute the metric for independent sets of images; None where there are too few."""
    rng = np.random.default_rng([seed, 3])
    if metric.in_blocks:
        y = np.concatenate(ys)
        real = divide(group.real.patients, group.real.strata, _BLOCKS, rng=rng)
        strata = np.concatenate([side.strata for side in group.samples])
        other = divide(np.arange(len(y)), strata, _BLOCKS, rng=rng)
        smallest = min(map(len, (*real, *other)))
        if smallest < 2:
            return None
        found = [list(metric.compute(x[first], y[second], seed)) for first, second in zip(real, other, strict=True)]
        method = f"Student's t over {_BLOCKS} disjoint blocks of patients and of synthetic images"
        return {"values": found, "images": smallest, "method": method}
    if len(ys) > 1:
        method = (
            f"Student's t over {len(ys)} independent samples of synthetic images, each against all real images; it "
            "holds for these real images"
        )
        return {"values": list(values), "images": len(ys[0]), "method": method}
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
    return {"values": found, "images": size, "method": method}


def _test(metric: FeatureMetric, pooled: Sequence[Floats], group: _Group, settings: _Settings) -> float | None:
    """Return the p-value of the permutation test, in which whole patients change sides."""
    assert metric.permuted is not None
    x, y = pooled
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
        kernel=metric.permuted,
        permutations=settings.permutations,
        seed=settings.seed,
    ).p_value


def _scores(metric: FeatureMetric, result: Mapping[str, Any], group: _Group, features: Features) -> list[Score]:
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
        replicates = result["replicates"]
        if replicates is not None:
            low, high = (
                float(np.clip(bound, *number.bounds))
                for bound in mean_interval(np.array(replicates["values"])[:, place])
            )
            interval = Interval(low, high, int(replicates["images"]), str(replicates["method"]))
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


# ------------------------------------------------------------------------------ whole images

_PAIR = Number("pair_similarity", "MS-SSIM of pairs", "", "as real", (-1.0, 1.0))
_PAIR_GAP = Number("pair_similarity_gap", "MS-SSIM of pairs, synthetic less real", "", "near 0", (-2.0, 2.0))
_NEAREST = Number("nearest_training", "correlation with the nearest training image", "", "as real", (-1.0, 1.0))
_NEAREST_GAP = Number("nearest_training_gap", "the same, synthetic less held-out", "", "near 0", (-2.0, 2.0))


def _diversity(
    real: ImageDataset, synthetic: ImageDataset, groups: Sequence[_Group], settings: _Settings, cache: ResultCache
) -> list[Score]:
    """Return the mean similarity of pairs of images of a class, beside that of real ones."""
    scales = min(5, (min(real.spec.size) // 11).bit_length())
    scores: list[Score] = []
    for group in groups:
        sides = [
            _some(group.real.positions, _PAIR_IMAGES, settings.seed),
            _some(group.samples[0].positions, _PAIR_IMAGES, settings.seed),
        ]

        def compute(sides: list[Positions] = sides, group: _Group = group) -> dict[str, Any]:
            if not scales:
                return {"reason": "SSIM needs images of 11 pixels or more along each side."}
            chosen = np.isin(group.real.positions, sides[0])
            patients = [group.real.patients[chosen], None]
            try:
                found = [
                    pair_similarity(
                        _arrays(images, positions),
                        data_range=_RANGE,
                        pairs=_PAIRS,
                        scales=scales,
                        groups=groups,
                        seed=settings.seed,
                    )
                    for images, positions, groups in zip((real, synthetic), sides, patients, strict=True)
                ]
            except DataError as error:
                return {"reason": str(error)}
            return {"sides": [[each.mean, each.standard_error, *each.interval, each.groups] for each in found]}

        key = {"pairs": [real.fingerprint, synthetic.fingerprint], "group": _digest(group), **settings._asdict()}
        result = cache.get(key, compute)
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
            group.score(
                _PAIR_GAP, _PAIR_GAP.title, extractor="", value=value - of_real, interval=interval, note=note
            )
        )
    return scores


def _nearest(
    real: ImageDataset,
    synthetic: ImageDataset,
    training: ImageDataset,
    groups: Sequence[_Group],
    settings: _Settings,
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
        low, high = difference_interval(
            gap, (error, len(values) - 1), (level_error, len(np.unique(patients)) - 1)
        )
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


def _paired(
    real: ImageDataset, synthetic: ImageDataset, groups: Sequence[_Group], settings: _Settings
) -> list[Score]:
    """Compare each synthetic image with the real one of the same file name."""
    partners = _partners(real, synthetic)
    scales = min(5, (min(real.spec.size) // 11).bit_length())
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
                low, high = replicates.median_interval(values, patients[inside], seed=settings.seed)
                method = "bootstrap of whole patients"
            else:
                value = float(values.mean())
                _, (low, high) = grouped_mean_interval(values, patients[inside])
                low, high = (float(np.clip(bound, *number.bounds)) for bound in (low, high))
                method = "Student's t over patients"
            interval = None if math.isnan(low) else Interval(low, high, len(values), method)
            note = f"{scales} scales" if number.key == "multiscale_ssim" else ""
            scores.append(
                group.score(number, number.title, extractor="", value=value, interval=interval, note=note)
            )
    return scores


def _partners(real: ImageDataset, synthetic: ImageDataset) -> Positions:
    """Return the position of each synthetic image's real one, which has the same file name."""
    names = [[str(Path(name).with_suffix("")) for name in image_identities(each.index)] for each in (real, synthetic)]
    place = {name: number for number, name in enumerate(names[0])}
    if len(place) < len(names[0]):
        raise DataError(
            f"Images of {real.source} differ in nothing but the extension of their names, so they cannot be paired."
        )
    alone = [name for name in names[1] if name not in place]
    if alone:
        raise DataError(
            f"{len(alone)} of {len(names[1])} synthetic images have no real image of the same name, such as "
            f"{alone[0]!r}. The metric 'paired' is for translated images, which keep the name of their real one, in the "
            "same class folder."
        )
    return np.array([place[name] for name in names[1]], dtype=np.int64)


def _plain(value: Any) -> Any:
    """Turn numbers that JSON does not have into None, and tuples into lists."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
