"""The phantom that architectures are trained on where no data is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from medgan.core import Sides
from medgan.data.defaults import choose_data, is_phantom


def arch(dims: tuple[int, ...] = (2,), sides: Sides | None = None, *, translates: bool = False) -> Any:
    """What an architecture declares, with its options."""
    return SimpleNamespace(
        spatial_dims=dims, translates=translates, get_sides=lambda config, dims: Sides() if sides is None else sides
    ), None


CHEST, PAIRS, THORAX = "phantom://chest", "phantom://chest-lowdose", "phantom://thorax"
LARGE, CUBES = Sides.powers_of_two(64, 256, equal=True), Sides.powers_of_two(16, 128, equal=True)


@pytest.mark.parametrize(
    ("models", "given", "expected"),
    [
        ([arch()], {}, {"data": CHEST, "size": 32}),
        ([arch(sides=LARGE)], {}, {"data": CHEST, "size": 64}),
        ([arch(sides=Sides(multiple_of=12))], {}, {"data": CHEST, "size": 36}),
        ([arch(sides=Sides(lengths=(14, 28)))], {}, {"data": CHEST, "size": 28}),
        ([arch(translates=True)], {}, {"data": PAIRS, "size": 32}),
        ([arch((3,))], {}, {"data": THORAX, "depth": 32, "size": 32}),
        ([arch((2, 3))], {}, {"data": CHEST, "size": 32}),
        ([arch((2, 3))], {"depth": 16}, {"data": THORAX, "depth": 16, "size": 16}),
        ([arch((3,))], {"size": 64}, {"data": THORAX, "depth": 64, "size": 64}),
        ([arch((3,), LARGE)], {}, {"data": THORAX, "depth": 64, "size": 64}),
        ([arch((3,), CUBES)], {"depth": 16}, {"data": THORAX, "depth": 16, "size": 16}),
        ([arch((3,))], {"depth": 8, "size": 16}, {"data": THORAX, "depth": 8, "size": 16}),
        ([arch()], {"slices": "axial"}, {"data": THORAX, "size": 32}),
        # What is named stays.
        ([arch(sides=LARGE)], {"data": "phantom://chest?n=40"}, {"data": "phantom://chest?n=40", "size": 64}),
        ([arch(sides=LARGE)], {"size": 32}, {"data": CHEST, "size": 32}),
        ([arch((2, 3))], {"data": "phantom://thorax?n=9"}, {"data": "phantom://thorax?n=9", "depth": 32, "size": 32}),
        ([arch()], {"data": THORAX}, {"data": THORAX, "size": 32}),
        ([arch(sides=LARGE)], {"data": "chest_xray/train"}, {}),
        ([arch((3,))], {"data": "niftis", "size": 64}, {}),
        # Several, of which each has to make it.
        ([arch(), arch(sides=LARGE), arch(sides=Sides(multiple_of=48))], {}, {"data": CHEST, "size": 32}),
        ([arch(), arch(sides=LARGE)], {}, {"data": CHEST, "size": 64}),
        ([arch(sides=Sides(multiple_of=24)), arch(sides=Sides(multiple_of=16))], {}, {"data": CHEST, "size": 48}),
        ([arch((2, 3)), arch((3,))], {}, {"data": THORAX, "depth": 32, "size": 32}),
    ],
)
def test_choice(models: list[Any], given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert choose_data(models, given) == expected


def test_what_a_phantom_is() -> None:
    assert is_phantom("phantom://thorax?n=4")
    assert not is_phantom("phantoms/chest")
