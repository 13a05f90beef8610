"""Metrics that take features batch by batch, and can be merged across processes.

Each one gives what its function in `medgan.metrics.functional` gives for all features together::

    metric = FrechetDistance()
    for batch in batches:
        metric.update(real=features_of(batch))
        metric.update(synthetic=features_of(gan.sample(64)))
    metric.compute()

`FrechetDistance` keeps two means and two D × D matrices, however many images there are. The others compare image with
image, and keep all features. Metrics can be pickled, so each process may fill its own, and one `merge` them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional.feature_checks import check_features
from medgan.metrics.functional.frechet import FeatureStatistics, frechet_distance_from_statistics
from medgan.metrics.functional.inception_score import InceptionScoreResult, ScoreKind, inception_score
from medgan.metrics.functional.kernel import KernelName, kernel_distance
from medgan.metrics.functional.manifold import (
    DensityCoverageResult,
    PrecisionRecallResult,
    density_coverage,
    precision_recall,
)
from medgan.metrics.functional.wasserstein import monge_distance

__all__ = [
    "DensityCoverage",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "MongeDistance",
    "PrecisionRecall",
    "StreamingMetric",
]

Value = TypeVar("Value")
Summary = TypeVar("Summary")


class StreamingMetric(ABC, Generic[Summary, Value]):
    """A metric of features that arrive in parts.

    A subclass says how features are summed up, how two summaries become one, and what the metric of summaries is. Its
    options are its public attributes.
    """

    _sides: ClassVar[tuple[str, ...]] = ("real", "synthetic")

    def __init__(self) -> None:
        """Begin without features."""
        self._width: int | None = None
        self._summaries: dict[str, Summary] = {}

    def update(self, *, real: ArrayLike | None = None, synthetic: ArrayLike | None = None) -> None:
        """Take further features of either side, or of both.

        Args:
            real: Shape ``(n, D)``, n ≥ 1.
            synthetic: Shape ``(m, D)``, m ≥ 1.

        Raises:
            ConfigError: If nothing is given, or a side that has no part in the metric.
            DataError: If a shape does not fit, also to what came before, or a number is not finite. Nothing of the
                call is taken then.
        """
        given = {"real": real, "synthetic": synthetic}
        features = {side: np.array(each) for side, each in given.items() if each is not None}  # the caller's may change
        if not features or not set(features) <= set(self._sides):
            raise ConfigError(
                f"{type(self).__name__} was given {' and '.join(features) or 'no'} features. Type "
                f"update({', '.join(f'{side}=features' for side in self._sides)})."
            )
        for side, each in features.items():
            check_features(each, side, at_least=1)
        self._check_width({each.shape[1] for each in features.values()})
        for side, each in features.items():
            self._add(side, self._summarise(each))
            self._width = each.shape[1]

    def merge(self, other: StreamingMetric[Summary, Value]) -> None:
        """Take all that another metric of the same kind has taken.

        Args:
            other: Of the same class and options; remains as it is.

        Raises:
            ConfigError: If it is of another class, or has other options.
            DataError: If its features have another D.
        """
        if type(other) is not type(self) or other._options() != self._options():
            raise ConfigError(
                f"{type(other).__name__} with {other._options() or 'no options'} cannot be merged into "
                f"{type(self).__name__} with {self._options() or 'no options'}. Make both alike."
            )
        if other._width is not None:
            self._check_width({other._width})
            self._width = other._width
        for side, summary in other._summaries.items():
            self._add(side, summary)

    def compute(self) -> Value:
        """Return the metric of all features so far; more may follow.

        Returns:
            What the function of the same name returns for all features.

        Raises:
            DataError: If a side has no features, or too few.
        """
        for side in self._sides:
            if side not in self._summaries:
                raise DataError(
                    f"{type(self).__name__} has no {side} features yet. Call update({side}=features) first."
                )
        return self._value(*(self._summaries[side] for side in self._sides))

    def state_dict(self) -> dict[str, Any]:
        """Return what was taken, as a dictionary of arrays and whole numbers for each side."""
        return {side: self._pack(summary) for side, summary in self._summaries.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget everything, and take what `state_dict` returned.

        Args:
            state: From a metric of the same class; the options are not in it.

        Raises:
            DataError: If it is of another metric, or damaged.
        """
        try:
            summaries = {side: self._unpack(packed) for side, packed in state.items()}
            widths = {self._width_of(summary) for summary in summaries.values()}
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise DataError(
                f"This is no state of a {type(self).__name__}: {error!r}. Give what state_dict() returned."
            ) from error
        if not set(summaries) <= set(self._sides) or len(widths) > 1:
            raise DataError(
                f"This is no state of a {type(self).__name__}: it has the sides {sorted(summaries)} with "
                f"{sorted(widths)} features an image. Give what state_dict() returned."
            )
        self._summaries, self._width = summaries, next(iter(widths), None)

    @abstractmethod
    def _summarise(self, features: NDArray[Any]) -> Summary:
        """Sum up features ``(n, D)``, which are checked and a copy."""

    @abstractmethod
    def _join(self, first: Summary, second: Summary) -> Summary:
        """Return a new summary of the features of both."""

    @abstractmethod
    def _value(self, *summaries: Summary) -> Value:
        """Return the metric of one summary a side."""

    @abstractmethod
    def _pack(self, summary: Summary) -> dict[str, Any]:
        """Return a summary as arrays and whole numbers."""

    @abstractmethod
    def _unpack(self, packed: Mapping[str, Any]) -> Summary:
        """Do the reverse, with checks."""

    @abstractmethod
    def _width_of(self, summary: Summary) -> int:
        """Return D."""

    def _add(self, side: str, summary: Summary) -> None:
        known = self._summaries.get(side)
        self._summaries[side] = summary if known is None else self._join(known, summary)

    def _check_width(self, widths: set[int]) -> None:
        every = widths if self._width is None else widths | {self._width}
        if len(every) > 1:
            raise DataError(
                f"Features of {' and '.join(map(str, sorted(every)))} numbers an image do not fit together. Use the "
                "same extractor, with the same weights and layer, for all images."
            )

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class FrechetDistance(StreamingMetric[FeatureStatistics, float]):
    """`medgan.metrics.functional.frechet_distance` in constant memory.

    For fewer images than features the function works from the features, and the last digits differ.
    """

    def _summarise(self, features: NDArray[Any]) -> FeatureStatistics:
        return FeatureStatistics.from_features(features)

    def _join(self, first: FeatureStatistics, second: FeatureStatistics) -> FeatureStatistics:
        return first.merge(second)

    def _value(self, *summaries: FeatureStatistics) -> float:
        return frechet_distance_from_statistics(*summaries)

    def _pack(self, summary: FeatureStatistics) -> dict[str, Any]:
        return {"count": summary.count, "mean": summary.mean, "scatter": summary.scatter}

    def _unpack(self, packed: Mapping[str, Any]) -> FeatureStatistics:
        return FeatureStatistics(int(packed["count"]), np.asarray(packed["mean"]), np.asarray(packed["scatter"]))

    def _width_of(self, summary: FeatureStatistics) -> int:
        return len(summary.mean)


class _Collecting(StreamingMetric[tuple[NDArray[Any], ...], Value]):
    """Keeps all features, in the type in which they come."""

    @abstractmethod
    def _of_features(self, *features: NDArray[Any]) -> Value:
        """Return the metric of one array a side."""

    def _summarise(self, features: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (features,)

    def _join(self, first: tuple[NDArray[Any], ...], second: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        return first + second

    def _value(self, *summaries: tuple[NDArray[Any], ...]) -> Value:
        return self._of_features(*(np.concatenate(parts) for parts in summaries))

    def _pack(self, summary: tuple[NDArray[Any], ...]) -> dict[str, Any]:
        return {"features": np.concatenate(summary)}

    def _unpack(self, packed: Mapping[str, Any]) -> tuple[NDArray[Any], ...]:
        features = np.asarray(packed["features"])
        check_features(features, "saved", at_least=1)
        return (features,)

    def _width_of(self, summary: tuple[NDArray[Any], ...]) -> int:
        return int(summary[0].shape[1])


class KernelDistance(_Collecting[float]):
    """`medgan.metrics.functional.kernel_distance`, with its options."""

    def __init__(self, *, kernel: KernelName = "cubic", bandwidth: float | None = None) -> None:
        """Begin without features."""
        super().__init__()
        self.kernel: KernelName = kernel
        self.bandwidth = bandwidth

    def _of_features(self, *features: NDArray[Any]) -> float:
        return kernel_distance(*features, kernel=self.kernel, bandwidth=self.bandwidth)


class PrecisionRecall(_Collecting[PrecisionRecallResult]):
    """`medgan.metrics.functional.precision_recall`, with its options."""

    def __init__(self, *, k: int = 3) -> None:
        """Begin without features."""
        super().__init__()
        self.k = k

    def _of_features(self, *features: NDArray[Any]) -> PrecisionRecallResult:
        return precision_recall(*features, k=self.k)


class DensityCoverage(_Collecting[DensityCoverageResult]):
    """`medgan.metrics.functional.density_coverage`, with its options."""

    def __init__(self, *, k: int = 5) -> None:
        """Begin without features."""
        super().__init__()
        self.k = k

    def _of_features(self, *features: NDArray[Any]) -> DensityCoverageResult:
        return density_coverage(*features, k=self.k)


class MongeDistance(_Collecting[float]):
    """`medgan.metrics.functional.monge_distance`, with its options."""

    def __init__(self, *, projections: int = 1_000, seed: int = 0) -> None:
        """Begin without features."""
        super().__init__()
        self.projections = projections
        self.seed = seed

    def _of_features(self, *features: NDArray[Any]) -> float:
        return monge_distance(*features, projections=self.projections, seed=self.seed)


class InceptionScore(_Collecting[InceptionScoreResult]):
    """`medgan.metrics.functional.inception_score`, with its options; the scores are updated as `synthetic`."""

    _sides = ("synthetic",)

    def __init__(self, *, kind: ScoreKind, splits: int = 10, seed: int = 0) -> None:
        """Begin without scores."""
        super().__init__()
        self.kind: ScoreKind = kind
        self.splits = splits
        self.seed = seed

    def _of_features(self, *features: NDArray[Any]) -> InceptionScoreResult:
        return inception_score(*features, kind=self.kind, splits=self.splits, seed=self.seed)
