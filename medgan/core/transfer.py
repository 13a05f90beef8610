"""Weights of one network for another: what fits by name and shape, and classes by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medgan.core.spec import DataSpec, LabelSpec

__all__ = ["Transfer", "label_axes", "transfer_weights"]

_SHOWN = 6  # weights that a summary names


@dataclass(frozen=True)
class Transfer:
    """What a network took of another's weights.

    Attributes:
        taken: Names of the weights that were taken whole.
        by_class: Names of those of which the rows of some classes were taken, and the names of these classes.
        fresh: Names of those that kept their own values, and why.
        share: Share of the network's numbers that were taken.
    """

    taken: tuple[str, ...]
    by_class: Mapping[str, tuple[str, ...]]
    fresh: Mapping[str, str]
    share: float

    def describe(self) -> str:
        """Return a sentence or two for the user."""
        count = len(self.taken) + len(self.by_class)
        whole = count + len(self.fresh)
        text = f"{count} of {whole} weights taken, {100 * self.share:.1f}% of the numbers."
        if self.by_class:
            classes = sorted({name for names in self.by_class.values() for name in names})
            text += f" Of {_some(list(self.by_class))} the classes {', '.join(classes)}."
        if self.fresh:
            text += f" Fresh: {_some([f'{name} ({why})' for name, why in self.fresh.items()])}."
        return text


@torch.no_grad()
def transfer_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    labels: LabelSpec | None,
    source_labels: LabelSpec | None,
    axes: Mapping[str, int | None],
) -> Transfer:
    """Copy into a network what fits it by name and shape.

    A weight that depends on the classes is copied class by class, by their names, if one of its axes holds one entry
    for each of them and the labels of both are of one kind; else it is left fresh.

    Args:
        network: Changed in place.
        weights: ``state_dict`` of the other network.
        labels: What the network's labels mean.
        source_labels: What those of the other network mean.
        axes: Weights that depend on the number of classes, with the axis of the classes, or None where that is not
            known: see `label_axes`. Only looked at where the labels differ.
    """
    taken: list[str] = []
    by_class: dict[str, tuple[str, ...]] = {}
    fresh: dict[str, str] = {}
    numbers = copied = 0
    for name, own in network.state_dict().items():
        numbers += own.numel()
        other = weights.get(name)
        if other is None:
            fresh[name] = "new"
        elif labels != source_labels and name in axes:
            copied_here, classes = _copy_classes(own, other, labels, source_labels, axes[name])
            copied += copied_here
            if classes:
                by_class[name] = classes
            else:
                fresh[name] = "other classes"
        elif own.shape != other.shape:
            fresh[name] = f"{_by(own)}, was {_by(other)}"
        else:
            own.copy_(other)
            taken.append(name)
            copied += own.numel()
    return Transfer(tuple(taken), by_class, fresh, copied / max(numbers, 1))


def label_axes(make: Callable[[DataSpec], nn.Module], data: DataSpec) -> dict[str, int | None]:
    """Find the weights that depend on the number of classes, by making a network for one class more.

    Args:
        make: Returns a fresh network for some data.
        data: The data; without labels nothing depends on them.

    Returns:
        Names of the weights, with the axis that holds just one entry for each class; None where there is no such axis,
        as in a layer that takes latents and classes side by side.
    """
    if data.labels is None:
        return {}
    names = data.labels.names
    extra = next(name for name in (f"another{number}" for number in range(len(names) + 1)) if name not in names)
    shapes = {name: value.shape for name, value in make(data).state_dict().items()}
    larger = make(replace(data, labels=LabelSpec((*names, extra), data.labels.kind))).state_dict()
    found: dict[str, int | None] = {}
    for name, shape in shapes.items():
        more = larger[name].shape if name in larger else torch.Size()
        if shape == more:
            continue
        grown = [axis for axis, pair in enumerate(zip(shape, more, strict=False)) if pair[0] != pair[1]]
        alone = len(shape) == len(more) and len(grown) == 1 and shape[grown[0]] == len(names)
        found[name] = grown[0] if alone and more[grown[0]] == len(names) + 1 else None
    return found


def _copy_classes(
    own: Tensor, other: Tensor, labels: LabelSpec | None, source: LabelSpec | None, axis: int | None
) -> tuple[int, tuple[str, ...]]:
    """Copy the entries of the classes that both have; return how many numbers, and the names of the classes."""
    if axis is None or labels is None or source is None or labels.kind != source.kind or own.ndim != other.ndim:
        return 0, ()
    fits = [size for number, size in enumerate(own.shape) if number != axis]
    if fits != [size for number, size in enumerate(other.shape) if number != axis] or other.shape[axis] != len(source):
        return 0, ()
    classes = tuple(name for name in labels.names if name in source.names)
    for name in classes:
        own.select(axis, labels.names.index(name)).copy_(other.select(axis, source.names.index(name)))
    return len(classes) * own.numel() // max(own.shape[axis], 1), classes


def _by(weight: Tensor) -> str:
    return "×".join(map(str, weight.shape)) or "a number"


def _some(names: list[str]) -> str:
    """Join some names, and say how many more there are."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
