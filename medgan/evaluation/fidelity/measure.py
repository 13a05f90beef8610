"""How much synthetic images are like real ones: every number with what it takes to judge it.

A distance between two sets of images says nothing by itself: it depends on the extractor, the number of images, and the
patients. So each number comes with

- its **floor**: the same number between two halves of the real images, which share no patient, over several random
  halvings; and the synthetic images at that very number of images, as a distance shrinks as the number grows;
- its **relative distance**, the one divided by the other: 1 is as near as other real patients are;
- an **interval** that is valid for it. The Fréchet distance and others that depend on the number of images: Student's t
  over independent samples of synthetic images (several seeds, or disjoint parts of one set), each against all real
  images; it holds for this reference and that number of images. The kernel distance, which does not depend on it: a
  jackknife over patients and over synthetic images, and a p-value of a permutation test that exchanges whole patients,
  corrected for the number of extractors.
  Similarity of pairs: a jackknife over patients;
- the same for **subgroups** of the real patients, as far as images tell: see
  `medgan.evaluation.fidelity.subgroups`;
- who was compared, read how, by which extractor, and what limits it.

`measure_fidelity` computes all of it, `FidelityReport` is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medgan.core.saving import versions
from medgan.data.dataset import ImageDataset
from medgan.data.splits import image_identities
from medgan.errors import ConfigError
from medgan.evaluation.fidelity.features import Progress, Settings, Steps, extract, extractor_facts, feature_scores
from medgan.evaluation.fidelity.groups import check_alike, class_groups, whole_group
from medgan.evaluation.fidelity.images import diversity_scores, nearest_scores, paired_scores
from medgan.evaluation.fidelity.limits import find_warnings
from medgan.evaluation.fidelity.metrics import FEATURE_METRICS, check_metrics
from medgan.evaluation.fidelity.records import FidelityReport, Score
from medgan.evaluation.fidelity.replicates import CONFIDENCE
from medgan.evaluation.fidelity.result_cache import ResultCache
from medgan.evaluation.fidelity.subgroups import subgroup_columns, subgroup_scores
from medgan.evaluation.intervals import holm
from medgan.metrics import features as metrics_features
from medgan.metrics import functional
from medgan.metrics.extractors.base import Extractor
from medgan.metrics.features import Features, check_comparable

__all__ = ["measure_fidelity"]

# All code that numbers in the cache come from.
_CODE = (Path(__file__).parent, Path(metrics_features.__file__), Path(functional.__file__).parent)


def measure_fidelity(
    real: ImageDataset,
    synthetic: ImageDataset | Sequence[ImageDataset],
    *,
    extractors: Sequence[Extractor] = (),
    metrics: Sequence[str] | None = None,
    training: ImageDataset | None = None,
    trained_on: Mapping[str, Any] | None = None,
    per_class: bool = False,
    subgroups: Sequence[str] | None = None,
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
        metrics: Names of `medgan.evaluation.fidelity.metrics.METRICS`; None for its default ones.
        training: The real images that the generator was trained on, where known.
        trained_on: What is known of them otherwise: `GAN.provenance` of the generator.
        per_class: Whether to compare each class, or the images with each finding, as well.
        subgroups: Columns of the real images' index to report fidelity and coverage by; None for the usual ones, age,
            sex, view and site, where they are there.
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
    check_alike(real, samples)
    if training is not None:
        check_alike(real, [training], what="training")
    settings = Settings(halvings, permutations, seed)
    columns = subgroup_columns(real, subgroups)
    classes = class_groups(real, samples, required=per_class)
    groups = [whole_group(real, samples), *(classes if per_class else ())]
    cache = ResultCache(None if cache_dir is None else cache_dir / "metrics", _CODE)
    of_features = [name for name in wanted if name in FEATURE_METRICS]

    scores: list[Score] = []
    known: list[Features] = []
    if of_features:
        steps = Steps(progress, len(extractors) * (len(real) + sum(map(len, samples))))
        for extractor in extractors:
            found = [extract(images, extractor, cache_dir, steps) for images in (real, *samples)]
            known.append(found[0])
            for each in found[1:]:
                check_comparable(found[0], each)
            scores += feature_scores(extractor, found, groups, of_features, settings, cache)
            if columns:
                scores += subgroup_scores(real, found, columns, settings, cache)
    if "diversity" in wanted:
        scores += diversity_scores(real, samples[0], classes or groups[:1], settings, cache)
    overlap_is_known = training is not None and not _shared(real, training)
    if "nearest-real" in wanted and training is not None and overlap_is_known:
        scores += nearest_scores(real, samples[0], training, groups, settings, cache)
    if "paired" in wanted:
        scores += paired_scores(real, samples[0], groups, settings)
    if not scores:
        raise ConfigError(
            "There is nothing to compute. Metrics of features need an extractor, such as radiomics; nearest-real needs "
            "the real training images, which the reference must not hold."
        )
    # Subgroups come last, as they are.
    order = {group.name: number for number, group in enumerate([groups[0], *classes])}
    return FidelityReport(
        scores=tuple(sorted(_correct(scores), key=lambda score: len(order) if score.column else order[score.group])),
        warnings=tuple(
            find_warnings(real, samples, training=training, trained_on=trained_on, features=known, metrics=wanted)
        ),
        extractors=tuple(extractor_facts(features) for features in known),
        real=_facts(real),
        synthetic={**_facts(samples[0]), "samples": len(samples)},
        training=None if training is None else _facts(training),
        settings={
            **settings._asdict(),
            "metrics": list(wanted),
            "per_class": per_class,
            "confidence": CONFIDENCE,
            **(facts or {}),
        },
        versions={
            **versions(),
            **{name: version(name) for name in ("numpy", "scipy", "scikit-image", "torch-fidelity", "torchvision")},
        },
    )


def _correct(scores: Sequence[Score]) -> list[Score]:
    """Correct the p-values of each group for their number: several extractors ask one question several times."""
    found = list(scores)
    for group in dict.fromkeys(score.group for score in scores):
        tested = [
            (place, score.p_value)
            for place, score in enumerate(scores)
            if score.group == group and not score.column and score.p_value is not None
        ]
        corrected = holm([p_value for _, p_value in tested])
        for (place, _), better in zip(tested, corrected, strict=True):
            found[place] = replace(found[place], p_corrected=float(better))
    return found


def _facts(images: ImageDataset) -> dict[str, Any]:
    """Return what a report says of a data set."""
    return {
        **images.provenance(),
        "source": images.source,
        "size": list(images.spec.size),
        "channels": images.spec.channels,
    }


def _shared(real: ImageDataset, training: ImageDataset) -> bool:
    """Whether the reference and the training images are, in part, the same files of one data set."""
    if real.whole_fingerprint != training.whole_fingerprint:
        return False
    return not set(image_identities(real.index)).isdisjoint(image_identities(training.index))
