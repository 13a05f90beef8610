from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgan.evaluation.privacy.search import nearest_aligned, nearest_vectors, shrink


def small(pixels: Any) -> Any:
    """Return 8-bit images as they are compared."""
    return shrink(torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1)[:, None])


@pytest.mark.parametrize("how", ["exact", "shifted", "noisy", "mirrored", "cropped", "brighter"])
def test_copies_find_their_original(draw: Any, copy: Any, how: str) -> None:
    references = draw(300, 1)
    found = nearest_aligned(small(copy(references[:40], how)), small(references))
    assert (found.positions == np.arange(40)).mean() >= 0.95
    others = nearest_aligned(small(draw(100, 2)), small(references)).distances
    assert (found.distances < np.quantile(others, 0.01)).mean() >= 0.9
    if how in ("exact", "mirrored"):
        assert found.distances.max() < 0.05


def test_images_of_the_same_group_are_left_out(draw: Any) -> None:
    references = small(draw(30, 1))
    groups = np.arange(30) // 2
    found = nearest_aligned(references, references, query_groups=groups, reference_groups=groups)
    assert (groups[found.positions] != groups).all()
    alone = nearest_aligned(references[:2], references[:2], query_groups=groups[:2], reference_groups=groups[:2])
    assert np.isinf(alone.distances).all()
    assert (alone.positions == -1).all()


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 40, 33), (1, 100, 64), (1, 12, 40, 40)])
def test_images_of_any_shape(shape: tuple[int, ...]) -> None:
    images = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (12, *shape)).astype(np.float32))
    found = shrink(images)
    assert found.shape[2:] <= (32, 32)
    near = nearest_aligned(found, found)
    assert near.positions.tolist() == list(range(12))
    assert near.distances.max() < 0.05


def test_a_constant_image_is_like_none() -> None:
    images = np.stack([np.full((24, 24), 90), *np.random.default_rng(0).integers(0, 256, (5, 24, 24))])
    found = nearest_aligned(small(images[:1]), small(images))
    assert found.distances[0] == pytest.approx(np.sqrt(2), abs=0.01)


def test_vectors_are_compared_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    queries, references = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 700, 5), (80, 5)))
    by_hand = np.square(queries[:, :, None] - references).sum(3).min(0)
    rows, squares, positions = zip(*nearest_vectors(queries, references, k=3), strict=True)
    assert [each.start for each in rows] == [0, 256, 512]
    assert np.concatenate(squares) == pytest.approx(np.sort(by_hand, 1)[:, :3], abs=1e-4)
    assert (np.concatenate(positions)[:, 0] == by_hand.argmin(1)).all()
