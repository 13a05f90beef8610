"""Two labels to compare, of any kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.core.spec import LabelSpec
from medgan.errors import ConfigError
from medgan.nn import label_vectors

__all__ = ["Contrast", "Label", "all_contrasts", "make_contrast"]

Label = str | Mapping[str, float]
"""As `LabelSpec.encode` takes it."""

_QUANTILES = (0.1, 0.9)  # of a quantity among the training images
_MOST = 6  # other labels that one is compared with


@dataclass(frozen=True)
class Contrast:
    """Two labels of which the second is compared with the first.

    Attributes:
        spec: What labels mean.
        reference: The first, ``()`` int64 of classes, else ``(K,)`` float32.
        target: The second.
        names: What they are called.
    """

    spec: LabelSpec
    reference: Tensor
    target: Tensor
    names: tuple[str, str]

    @property
    def classes(self) -> bool:
        """Whether labels are class indices."""
        return self.spec.kind in ("categorical", "ordinal")

    @property
    def columns(self) -> Tensor:
        """In which columns of label vectors the two differ, ``(K,)`` of bool."""
        first, second = self._vectors()
        return first != second

    @property
    def side_names(self) -> tuple[str, str]:
        """What real images on either side are called; see `sides`. They may show other findings besides."""
        columns = self.columns.nonzero().flatten().tolist()
        if self.spec.kind == "multilabel" and len(columns) == 1:
            name = self.spec.names[columns[0]]
            pair = (f"without {name}", f"with {name}")
            return pair if self.target[columns[0]] == 1 else pair[::-1]
        return self.names

    def references(self, n: int) -> Tensor:
        """Return the first label n times."""
        return self.reference.expand(n, *self.reference.shape).clone()

    def targets(self, n: int) -> Tensor:
        """Return the second label n times."""
        return self.target.expand(n, *self.target.shape).clone()

    def mix(self, weights: Tensor) -> Tensor:
        """Return labels between the two, as vectors.

        Args:
            weights: Shape ``(N,)``; 0 for the first, 1 for the second.

        Returns:
            Shape ``(N, K)``, float32; of classes weights that add up to 1.
        """
        first, second = self._vectors()
        return torch.lerp(first[None], second[None], weights[:, None].float())

    def sides(self, labels: Tensor | NDArray[Any]) -> NDArray[np.int64]:
        """Say which of the two each label is, or is nearer to in what they differ in.

        Args:
            labels: As in `medgan.core.Batch`.

        Returns:
            Shape ``(N,)``: 0 for the first, 1 for the second, -1 for neither or not known.
        """
        given = torch.as_tensor(labels)
        sides = np.full(len(given), -1, dtype=np.int64)
        if self.classes:
            sides[(given == self.reference).numpy()] = 0
            sides[(given == self.target).numpy()] = 1
            return sides
        columns = self.columns
        first, second = (vector[columns] for vector in self._vectors())
        values = given.float()[:, columns]
        if self.spec.kind == "multilabel":  # findings are there or not: nothing lies between
            sides[(values == first).all(dim=1).numpy()] = 0
            sides[(values == second).all(dim=1).numpy()] = 1
            return sides
        position = ((values - first) @ (second - first)) / ((second - first) @ (second - first))
        known = position.isfinite().numpy()
        sides[known] = (position.numpy()[known] > 0.5).astype(np.int64)
        return sides

    def counterparts(self, labels: Tensor | NDArray[Any]) -> Tensor:
        """Return each label with what the two differ in as on the other side, all else as it is.

        Args:
            labels: Of images on either side; see `sides`.
        """
        given, sides = torch.as_tensor(labels), torch.from_numpy(self.sides(labels))
        if self.classes:
            return torch.where(sides == 0, self.target, self.reference)
        others = torch.stack(self._vectors()[::-1])[sides.clamp_min(0)]
        return torch.where(self.columns, others, given.float())

    def leaning(
        self, probabilities: NDArray[np.float64], thresholds: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return how far a classifier leans to the second label, ``(N,)``: 0 to 1, 0.5 where it is undecided.

        Of classes that is the probability of the second beside the first. Of findings it is that of the first finding
        in which the two differ, moved so that its threshold becomes 0.5.

        Args:
            probabilities: Of each class or finding, ``(N, K)``.
            thresholds: Probability from which a finding counts as recognised, ``(K,)``; None of classes.
        """
        if self.classes:
            first, second = probabilities[:, int(self.reference)], probabilities[:, int(self.target)]
            return np.asarray(second / np.maximum(first + second, 1e-12))
        column = int(self.columns.nonzero()[0])
        chance = np.clip(probabilities[:, column], 1e-9, 1 - 1e-9)
        threshold = 0.5 if thresholds is None else float(np.clip(thresholds[column], 1e-6, 1 - 1e-6))
        odds = chance / (1 - chance) * (1 - threshold) / threshold
        leaning = odds / (1 + odds)
        return np.asarray(leaning if self._vectors()[1][column] > self._vectors()[0][column] else 1 - leaning)

    def to_dict(self) -> dict[str, Any]:
        """Return both labels as plain JSON values."""
        values = [
            [None if math.isnan(number) else number for number in label.reshape(-1).tolist()]
            for label in (self.reference, self.target)
        ]
        return {"kind": self.spec.kind, "names": list(self.names), "reference": values[0], "target": values[1]}

    def _vectors(self) -> tuple[Tensor, Tensor]:
        both = torch.stack([self.reference, self.target])
        first, second = label_vectors(both, len(self.spec), self.spec.kind)
        return first, second


def make_contrast(
    spec: LabelSpec,
    reference: Label | None = None,
    target: Label | None = None,
    *,
    labels: NDArray[Any] | None = None,
) -> Contrast | None:
    """Return the two labels to compare.

    Args:
        spec: What labels mean.
        reference: The first; None for the first class, for no finding, or for a low value of the first quantity.
        target: The second; None for the next class (of ordinal labels the last), for the commonest finding, or for a
            high value of the first quantity.
        labels: Those of the training images, if they are known: they say which finding is the commonest, and what is
            low and high: the 10 % and the 90 % quantile. Without them it is the first finding, and -1 and 1.

    Returns:
        Both; None if there is a single class, which nothing can be compared with.

    Raises:
        ConfigError: If a label does not fit, or both are the same.
    """
    if spec.kind in ("categorical", "ordinal"):
        if len(spec) < 2:
            return None
        first = 0 if reference is None else int(_index(spec, reference))
        if target is not None:
            second = int(_index(spec, target))
        else:
            rest = [number for number in range(len(spec)) if number != first]
            second = rest[-1] if spec.kind == "ordinal" else next((n for n in rest if n > first), rest[0])
        pair = (torch.tensor(first), torch.tensor(second))
        names = (spec.names[first], spec.names[second])
    else:
        first_end = _vector(spec, _low(spec, labels) if reference is None else reference)
        second_end = _high(spec, labels, first_end) if target is None else _vector(spec, target)
        pair = (first_end, second_end)
        names = (_called(spec, first_end), _called(spec, second_end))
    contrast = Contrast(spec, *pair, names)
    if not contrast.columns.any():
        raise ConfigError(f"Both labels are {names[0]}, so there is nothing to compare. Name another --to.")
    return contrast


def all_contrasts(main: Contrast) -> list[Contrast]:
    """Return a contrast and, of classes and findings, those of the other labels with the same reference, 6 in all.

    Args:
        main: The contrast, which comes first.
    """
    spec = main.spec
    found = [main]
    if spec.kind == "continuous":
        return found
    for name in spec.names:
        other = make_contrast_if_other(main, name)
        if other is not None and len(found) < _MOST:
            found.append(other)
    return found


def make_contrast_if_other(main: Contrast, name: str) -> Contrast | None:
    """Return the contrast of the same reference with a class or finding; None if it is one of the two."""
    label = torch.as_tensor(main.spec.encode(name)).to(main.reference.dtype)
    if torch.equal(label, main.reference) or torch.equal(label, main.target):
        return None
    return Contrast(main.spec, main.reference, label, (main.names[0], name))


def _index(spec: LabelSpec, label: Label) -> int:
    encoded = spec.encode(label)
    assert isinstance(encoded, int)
    return encoded


def _vector(spec: LabelSpec, label: Label) -> Tensor:
    return torch.tensor(spec.encode(label), dtype=torch.float32)


def _low(spec: LabelSpec, labels: NDArray[Any] | None) -> dict[str, float]:
    """Return what findings and quantities are compared with unless somebody says."""
    return {} if spec.kind == "multilabel" else {spec.names[0]: _quantiles(labels)[0]}


def _high(spec: LabelSpec, labels: NDArray[Any] | None, reference: Tensor) -> Tensor:
    """Return what is compared unless somebody says: the commonest finding that makes another label, or much."""
    if spec.kind == "continuous":
        return _vector(spec, {spec.names[0]: _quantiles(labels)[1]})
    counts = np.zeros(len(spec)) if labels is None else (labels == 1).sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    vectors = [_vector(spec, {spec.names[column]: 1.0}) for column in order]
    return next((vector for vector in vectors if not torch.equal(vector, reference)), torch.zeros(len(spec)))


def _quantiles(labels: NDArray[Any] | None) -> tuple[float, float]:
    """Return a low and a high value of the first quantity."""
    known = np.array([]) if labels is None else labels[:, 0][np.isfinite(labels[:, 0])]
    low, high = (-1.0, 1.0) if not len(known) else map(float, np.quantile(known, _QUANTILES))
    return (low, high) if low < high else (low - 1, high + 1)


def _called(spec: LabelSpec, label: Tensor) -> str:
    """Return a short name of findings or quantities."""
    if spec.kind == "multilabel":
        present = [name for name, value in zip(spec.names, label.tolist(), strict=True) if value == 1]
        return " + ".join(present) or "no finding"
    known = [f"{name}={value:.3g}" for name, value in zip(spec.names, label.tolist(), strict=True) if value == value]
    return ", ".join(known) or "not known"
