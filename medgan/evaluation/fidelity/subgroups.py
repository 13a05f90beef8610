"""Are all kinds of patients represented? Fidelity and coverage by a property of the real patients.

A synthetic image has no age and no sex, so the synthetic images cannot be divided into groups, and a distance between
all of them and one group of patients says how much the group differs from the others. What can be said is said image by
image (`medgan.metrics.functional.manifold_members`): how many real images of the group have a synthetic image among
their neighbours, and how many of the synthetic images that are nearest to the group lie among real ones. The floors
are what other real patients reach, at the same number of images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.dataset import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.evaluation.fidelity.features import Settings
from medgan.evaluation.fidelity.groups import patients_of
from medgan.evaluation.fidelity.metrics import Number
from medgan.evaluation.fidelity.records import Floor, Interval, Score
from medgan.evaluation.fidelity.replicates import divide, share_interval
from medgan.evaluation.fidelity.result_cache import ResultCache
from medgan.evaluation.options import SUBGROUPS
from medgan.evaluation.subgroups import SMALL_GROUP, groups_of
from medgan.metrics.features import Features, standardize
from medgan.metrics.functional import manifold_members

__all__ = ["subgroup_columns", "subgroup_scores"]

_K = 5
_COVERAGE = Number("subgroup_coverage", "coverage of the group", "", "higher", (0.0, 1.0))
_PRECISION = Number("subgroup_precision", "precision near the group", "", "higher", (0.0, 1.0))

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]


def subgroup_columns(real: ImageDataset, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns to report by.

    Args:
        real: The real images.
        wanted: Names; None for the usual ones that are there.

    Raises:
        ConfigError: If there is no column of a name.
    """
    if wanted is None:
        return tuple(name for name in SUBGROUPS if name in real.index)
    missing = [name for name in wanted if name not in real.index]
    if missing:
        raise ConfigError(
            f"--subgroups: the real images have no column {missing[0]!r}; they have {', '.join(real.index.columns)}."
        )
    return tuple(dict.fromkeys(wanted))


def subgroup_scores(
    real: ImageDataset, found: Sequence[Features], columns: Sequence[str], settings: Settings, cache: ResultCache
) -> list[Score]:
    """Return coverage and precision of each group.

    Args:
        real: The real images.
        found: Their features, and those of each sample of synthetic images, by one extractor.
        columns: Properties of the real images.
        settings: What all computations share.
        cache: Of results.

    Returns:
        Two scores a group; none for a column that does not divide the images.
    """
    name = found[0].extractor
    patients = patients_of(real)
    scores: list[Score] = []
    for column in columns:
        divided = groups_of(real.index[column], column)
        if isinstance(divided, str):
            continue
        members = np.stack(list(divided.members.values()))
        result = cache.get(
            {
                "subgroups": [[each.fingerprint, each.extractor, each.sha256, each.layer] for each in found],
                "members": members.astype(int).tolist(),
                "patients": patients.tolist(),
                **settings._asdict(),
            },
            partial(_compute, found, patients, members, settings),
        )
        for place, (group, inside) in enumerate(divided.members.items()):
            count = len(np.unique(patients[inside]))
            for number in (_COVERAGE, _PRECISION):
                entry = result[number.key][place]
                floor, relative = None, None
                if entry["floor"] is not None:
                    mean, spread, there = entry["floor"]
                    floor = Floor(mean, spread, settings.halvings, result["images"], there)
                    relative = there / mean if mean > 0 else None
                interval = None
                if entry["interval"] is not None:
                    method = f"{entry['method']}; it holds for these synthetic images"
                    low, high = entry["interval"]
                    interval = Interval(low, high, len(found[1]), method)
                scores.append(
                    Score(
                        metric=number.key,
                        title=f"{number.title} ({name})",
                        group=group,
                        extractor=name,
                        direction=number.direction,
                        value=entry["value"],
                        real_images=int(inside.sum()),
                        synthetic_images=len(found[1]),
                        samples=len(found) - 1,
                        floor=floor,
                        relative=relative,
                        interval=interval,
                        note=f"k = {_K}" if entry["value"] is not None else "not computed: there are too few images",
                        column=column,
                        patients=count,
                        small=count < SMALL_GROUP,
                    )
                )
    return scores


def _compute(
    found: Sequence[Features], patients: NDArray[np.int64], members: Members, settings: Settings
) -> dict[str, Any]:
    """Compute the shares of all groups, plain JSON values."""
    reference = found[0]
    x, *ys = (
        standardize(each.values, reference.values) if reference.needs_standardizing else each.values.astype(np.float64)
        for each in found
    )
    result: dict[str, Any] = {"images": 0, _COVERAGE.key: [], _PRECISION.key: []}
    try:
        whole = [manifold_members(x, y, k=_K) for y in ys]
        floors = _halve(x, ys, patients, members, settings)
    except DataError:  # too few images for a neighbour: the report says so
        empty = {"value": None, "interval": None, "method": "", "floor": None}
        return result | {key: [empty] * len(members) for key in (_COVERAGE.key, _PRECISION.key)}
    result["images"] = floors[0]
    for place, inside in enumerate(members):
        covered = [each.covered[inside] for each in whole]
        how, bounds = share_interval(np.mean(covered, axis=0), patients[inside])
        result[_COVERAGE.key].append(
            _entry(float(np.mean(covered)), bounds, f"{how} over patients", floors[1][:, :, 0, place])
        )
        precise = np.concatenate([each.inside[inside[each.nearest]] for each in whole])
        value, bounds = math.nan, (math.nan, math.nan)
        if len(precise):
            value = float(precise.mean())
            how, bounds = share_interval(precise, np.arange(len(precise)))
        result[_PRECISION.key].append(_entry(value, bounds, f"{how} over synthetic images", floors[1][:, :, 1, place]))
    return result


def _entry(value: float, bounds: tuple[float, float], method: str, halves: Floats) -> dict[str, Any]:
    """Return a share with what it takes to judge it; `halves` are the halvings' shares of real and synthetic images."""
    known = halves[np.isfinite(halves).all(axis=1)]
    floor = None
    if len(known) > 1:
        floor = [float(known[:, 0].mean()), float(known[:, 0].std(ddof=1)), float(known[:, 1].mean())]
    return {
        "value": None if math.isnan(value) else value,
        "interval": None if math.isnan(bounds[0]) else [max(0.0, bounds[0]), min(1.0, bounds[1])],
        "method": method,
        "floor": floor,
    }


def _halve(
    x: Floats, ys: Sequence[Floats], patients: NDArray[np.int64], members: Members, settings: Settings
) -> tuple[int, Floats]:
    """Compare halves of the real images with the other half, and with as many synthetic ones.

    Returns:
        Images, and the shares ``(halvings, 2, 2, groups)``: of real and synthetic images, coverage and precision.
    """
    halves = [
        divide(patients, np.zeros(len(x), np.int64), 2, rng=np.random.default_rng([settings.seed, 5, number]))
        for number in range(settings.halvings)
    ]
    size = min(len(part) for parts in (*halves, ys) for part in parts)
    shares = np.full((len(halves), 2, 2, len(members)), np.nan)
    for number, (first, second) in enumerate(halves):
        rng = np.random.default_rng([settings.seed, 6, number])
        y = ys[number % len(ys)]
        others = (x[rng.choice(second, size, replace=False)], y[rng.choice(len(y), size, replace=False)])
        for side, other in enumerate(others):
            found = manifold_members(x[first], other, k=_K)
            for place, inside in enumerate(members[:, first]):
                near = inside[found.nearest]
                if inside.any():
                    shares[number, side, 0, place] = found.covered[inside].mean()
                if near.any():
                    shares[number, side, 1, place] = found.inside[near].mean()
    return size, shares
