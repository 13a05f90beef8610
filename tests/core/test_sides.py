"""Which lengths the sides of images may have, and how a model refuses others."""

from __future__ import annotations

from typing import Any

import pytest

from medgan.core import GAN, DataSpec, Sides
from medgan.errors import ConfigError
from medgan.models import ACGAN

POWERS = Sides.powers_of_two(32, 128)


def test_powers_of_two() -> None:
    assert POWERS.lengths == (32, 64, 128)
    assert Sides.powers_of_two(8, 8).lengths == (8,)


@pytest.mark.parametrize(
    ("sides", "size", "nearest"),
    [
        (Sides(), (7, 9), (7, 9)),
        (POWERS, (32, 128), (32, 128)),
        (POWERS, (1, 500), (32, 128)),
        (POWERS, (48, 49), (32, 64)),
        (Sides.powers_of_two(32, 128, equal=True), (32, 64), (64, 64)),
        (Sides(multiple_of=8), (36, 3, 61), (32, 8, 64)),
        (Sides(equal=True), (5, 9), (9, 9)),
    ],
)
def test_nearest(sides: Sides, size: tuple[int, ...], nearest: tuple[int, ...]) -> None:
    assert sides.nearest(size) == nearest
    assert sides.accept(size) == (size == nearest)
    assert sides.accept(nearest)


@pytest.mark.parametrize(
    ("sides", "dims", "text"),
    [
        (POWERS, 2, "images of 32, 64 or 128 pixels a side"),
        (Sides(lengths=(64,), equal=True), 2, "square images of 64 pixels a side"),
        (Sides.powers_of_two(16, 32, equal=True), 3, "cubes of 16 or 32 voxels a side"),
        (Sides(multiple_of=8), 3, "volumes with sides divisible by 8"),
        (Sides(equal=True), 2, "square images of any size"),
        (Sides(), 1, "1-D images of any size"),
    ],
)
def test_describe(sides: Sides, dims: int, text: str) -> None:
    assert sides.describe(dims) == text


@pytest.mark.parametrize("values", [{"multiple_of": 0}, {"lengths": (0, 8)}, {"lengths": (8, 12), "multiple_of": 8}])
def test_sides_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Sides must be of lengths of at least 1"):
        Sides(**values)


class Halves(ACGAN):
    """Of one length, but for the preset original."""

    name = "halves"

    @classmethod
    def get_sides(cls, config: Any, dims: int) -> Sides | None:
        if config.backbone == "report":
            return Sides(multiple_of=8) if dims == 2 else None
        return Sides(lengths=(32,), equal=True)


@pytest.mark.parametrize(
    ("architecture", "preset", "size", "message"),
    [
        (
            Halves,
            "tiny",
            (36, 36),
            r"halves \(from \w+\) makes square images of 32 pixels a side, got 36×36. Try --size 32\.$",
        ),
        (Halves, "tiny", (64, 32), r"got 64×32. Try --size 32, or --preset original\.$"),
        (Halves, "tiny", (8, 9, 10), r"makes cubes of 32 voxels a side, got 8×9×10. Try --depth 32 --size 32\.$"),
        (Halves, "original", (32, 32, 32), r"no volumes with these options, got 32×32×32. Try --preset modern\.$"),
        (Halves, "original", (40, 40, 40), r"no volumes with these options, got 40×40×40\.$"),
        (
            ACGAN,
            "modern",
            (48, 48),
            r"acgan \(from medgan\) makes images of 32, 64, 128 or 256 pixels a side, got 48×48",
        ),
    ],
)
def test_other_sizes_are_refused(architecture: type[GAN], preset: str, size: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        architecture(DataSpec(1, size), preset=preset)
