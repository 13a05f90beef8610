"""What a fidelity report holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from medgan.evaluation.fidelity.metrics import Direction

__all__ = ["FidelityReport", "Floor", "Interval", "Score"]


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
        group: The class, or ``all images``.
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
        p_corrected: The same after Holm's correction for all tests of the group: of several extractors, or kernels.
        note: How it was computed, or why it was not.
        column: Property of the real images that the group is of, such as ``sex``; "" for all images and classes.
        patients: Real patients of a subgroup; None of other groups.
        small: Whether a subgroup has too few patients for a verdict.
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
    p_corrected: float | None = None
    note: str = ""
    column: str = ""
    patients: int | None = None
    small: bool = False


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


def _plain(value: Any) -> Any:
    """Turn numbers that JSON does not have into None, and tuples into lists."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
