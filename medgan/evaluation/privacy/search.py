"""The nearest images of others: in pixels, in whatever way they were shifted, cropped or mirrored; and in features.

Every query is compared with every reference, block by block: memory grows with their number, never with its square.
In pixels, half-size pictures find the candidates, which are then compared shift by shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

__all__ = ["Nearest", "coarse_vectors", "nearest_aligned", "nearest_vectors", "shrink", "variants"]

LARGEST = 32
"""Pixels along the longest side at which images are compared; larger ones are averaged down."""

_BLUR = 0.7  # pixels: what is finer is noise
_SLABS = 8  # of a volume, along its depth
_CANDIDATES = 20
_SHIFT = 0.1  # of the side, either way
_ZOOMS = (1.0, 0.92, 1.08)
_COMPONENTS = 64  # of the half-size pictures, by which candidates are found
_ROWS = 256
_ALIGNED_VALUES = 2**24  # windows of a block of queries

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Numbers = NDArray[np.int64]


class Nearest(NamedTuple):
    """The nearest reference of each query.

    Attributes:
        distances: ``(N,)``; infinite where there is none.
        positions: ``(N,)``; -1 where there is none.
    """

    distances: NDArray[np.float64]
    positions: NDArray[np.int64]


# -------------------------------------------------------------------------------------- vectors


def nearest_vectors(
    queries: Floats,
    references: Floats,
    *,
    k: int = 1,
    query_groups: Numbers | None = None,
    reference_groups: Numbers | None = None,
) -> Iterator[tuple[slice, NDArray[np.float64], Numbers]]:
    """Yield blocks of queries with their nearest references.

    Args:
        queries: Shape ``(V, N, D)``: V variants of each query, of which the nearest counts.
        references: Shape ``(M, D)``.
        k: Number of neighbours; fewer are returned where there are fewer references.
        query_groups: Shape ``(N,)``: a query is not compared with references of its own group.
        reference_groups: Shape ``(M,)``.

    Yields:
        The block, squared distances ``(n, k)``, and positions, the nearest first.
    """
    k = min(k, len(references))
    lengths = np.einsum("ij,ij->i", references, references) / 2
    for start in range(0, queries.shape[1], _ROWS):
        rows = slice(start, min(start + _ROWS, queries.shape[1]))
        best: Floats | None = None
        for variant in queries[:, rows]:
            scores = variant @ references.T - lengths  # the nearest has the highest
            scores -= (np.einsum("ij,ij->i", variant, variant) / 2)[:, None]
            best = scores if best is None else np.maximum(best, scores, out=best)
        assert best is not None
        if query_groups is not None and reference_groups is not None:
            best[query_groups[rows, None] == reference_groups[None]] = -np.inf
        found = np.argpartition(-best, k - 1, axis=1)[:, :k] if k < best.shape[1] else np.argsort(-best, axis=1)
        scores = np.take_along_axis(best, found, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores = np.take_along_axis(scores, order, axis=1)
        yield rows, np.maximum(-2 * scores.astype(np.float64), 0), np.take_along_axis(found, order, axis=1)


# --------------------------------------------------------------------------------------- pixels


def shrink(images: Tensor) -> Halves:
    """Return images as they are compared: small, and without their finest noise.

    Args:
        images: Shape ``(N, C, *size)``, in [-1, 1].

    Returns:
        ``(N, channels, height, width)``, at most 32 pixels along a side; the channels of a volume are those of up to 8
        slabs along its depth.
    """
    height, width = images.shape[-2:]
    scale = min(1.0, LARGEST / max(height, width))
    target = (max(1, round(height * scale)), max(1, round(width * scale)))
    if images.ndim == 5:
        images = F.adaptive_avg_pool3d(images, (min(_SLABS, images.shape[2]), *target)).flatten(1, 2)
    elif scale < 1:
        images = F.adaptive_avg_pool2d(images, target)
    small = images.contiguous().numpy()
    found: Halves = gaussian_filter(small, (0, 0, _BLUR, _BLUR)).astype(np.float16)
    return found


def coarse_vectors(images: Halves) -> Floats:
    """Return the middles of images at half their size, of length 1.

    Args:
        images: From `shrink`.

    Returns:
        ``(N, D)``; of a constant image 0.
    """
    margins, part = _middle(images)
    found = [
        _halve(block[..., margins[0] : margins[0] + part[0], margins[1] : margins[1] + part[1]])
        for block in _blocks(images)
    ]
    return np.concatenate(found)


def variants(images: Halves) -> Floats:
    """Return the parts of images that may be the middle of another, shifted or mirrored, at half their size.

    Args:
        images: From `shrink`.

    Returns:
        ``(V, N, D)``, of length 1.
    """
    margins, part = _middle(images)
    ys, xs = (_offsets(2 * margin + 1, margin) for margin in margins)
    found = [
        np.stack(
            [
                _halve(each[..., y : y + part[0], x : x + part[1]])
                for each in (block, block.flip(3))
                for y in ys
                for x in xs
            ]
        )
        for block in _blocks(images)
    ]
    return np.concatenate(found, axis=1)


def nearest_aligned(
    queries: Halves,
    references: Halves,
    *,
    coarse: Floats | None = None,
    query_groups: Numbers | None = None,
    reference_groups: Numbers | None = None,
) -> Nearest:
    """Find the most similar reference of each query, over shifts, crops and mirroring.

    The similarity is Pearson's correlation of the reference's middle with the best window of the query, which may be
    shifted by up to a tenth of its side, enlarged or reduced by 8 %, and mirrored; brightness and contrast do not
    change it. The distance is ``sqrt(2 (1 - correlation))``, from 0 to 2.

    Args:
        queries: From `shrink`, ``(N, C, height, width)``.
        references: The same, ``(M, C, height, width)``.
        coarse: `coarse_vectors` of the references, if they are known.
        query_groups: Shape ``(N,)``: a query is not compared with references of its own group.
        reference_groups: Shape ``(M,)``.
    """
    distances = np.full(len(queries), np.inf)
    positions = np.full(len(queries), -1, dtype=np.int64)
    if coarse is None:
        coarse = coarse_vectors(references)
    axes = _principal_axes(coarse)
    known = coarse @ axes
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, min(start + _ROWS, len(queries)))
        ((_, far, candidates),) = nearest_vectors(
            variants(queries[rows]) @ axes,
            known,
            k=_CANDIDATES,
            query_groups=None if query_groups is None else query_groups[rows],
            reference_groups=reference_groups,
        )
        similarity = _align(queries[rows], references, candidates)
        similarity[~np.isfinite(far)] = -np.inf
        best = similarity.argmax(axis=1)[:, None]
        found = np.take_along_axis(similarity, best, axis=1)[:, 0].astype(np.float64)
        there = np.isfinite(found)
        distances[rows] = np.where(there, np.sqrt(np.maximum(2 - 2 * np.where(there, found, 0), 0)), np.inf)
        positions[rows] = np.where(there, np.take_along_axis(candidates, best, axis=1)[:, 0], -1)
    return Nearest(distances, positions)


def _principal_axes(vectors: Floats) -> Floats:
    """Return the axes along which vectors differ most, ``(D, 64)``: most of a correlation at a fraction of the cost."""
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    found: Floats = np.ascontiguousarray(axes[:, ::-1][:, :_COMPONENTS])
    return found


def _middle(images: Halves) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how far images are shifted, down and right, and the size of their middle."""
    height, width = images.shape[2:]
    margins = (round(_SHIFT * height), round(_SHIFT * width))
    return margins, (height - 2 * margins[0], width - 2 * margins[1])


def _blocks(images: Halves) -> Iterator[Tensor]:
    """Yield blocks of images in single precision."""
    for start in range(0, len(images), _ROWS):
        yield torch.from_numpy(images[start : start + _ROWS].astype(np.float32))


def _halve(images: Tensor) -> Floats:
    """Return images at half their size, as vectors of length 1."""
    half = F.avg_pool2d(images, 2, ceil_mode=True) if min(images.shape[2:]) > 1 else images
    return _normalise(half.flatten(1)).numpy()


def _normalise(vectors: Tensor) -> Tensor:
    """Return rows with mean 0 and length 1; constant ones are 0."""
    centred = vectors - vectors.mean(-1, keepdim=True)
    lengths = centred.norm(dim=-1, keepdim=True)
    constant = lengths <= 1e-4 * vectors.shape[-1] ** 0.5  # rounding of half precision
    return torch.where(constant, torch.zeros_like(centred), centred / lengths.clamp_min(1e-12))


def _align(queries: Halves, references: Halves, candidates: Numbers) -> Floats:
    """Return the best correlation of each query with each of its candidates, ``(N, k)``."""
    height, width = queries.shape[2:]
    margins, part = _middle(queries)
    windows = (2 * margins[0] + 1) * (2 * margins[1] + 1)
    step = max(1, _ALIGNED_VALUES // (windows * queries.shape[1] * part[0] * part[1]))
    found = np.empty(candidates.shape, np.float32)
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        block = torch.from_numpy(queries[rows].astype(np.float32))
        others = torch.from_numpy(references[candidates[rows]].astype(np.float32))  # (n, k, C, height, width)
        middle = others[..., margins[0] : margins[0] + part[0], margins[1] : margins[1] + part[1]]
        # To mirror the few references is to mirror the many windows.
        both = _normalise(torch.cat([middle, middle.flip(4)], 1).flatten(2)).transpose(1, 2)
        best = torch.full((len(block), both.shape[2]), -1.0)
        for zoom in _ZOOMS:
            scaled = block
            if zoom != 1:
                target = (max(part[0], round(height * zoom)), max(part[1], round(width * zoom)))
                scaled = F.interpolate(block, target, mode="bilinear", align_corners=False)
            there = scaled.unfold(2, part[0], 1).unfold(3, part[1], 1)  # (n, C, y, x, part height, part width)
            ys, xs = (_offsets(there.shape[2 + axis], margins[axis]) for axis in (0, 1))
            chosen = there[:, :, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].permute(0, 2, 3, 1, 4, 5)
            similarity = _normalise(chosen.flatten(3).flatten(1, 2)) @ both
            best = torch.maximum(best, similarity.amax(1))
        found[rows] = torch.maximum(*best.chunk(2, 1)).numpy()
    return found


def _offsets(places: int, margin: int) -> range:
    """Return where windows begin along an axis: the middle, and up to `margin` either way."""
    middle = (places - 1) // 2
    return range(max(0, middle - margin), min(places - 1, middle + margin) + 1)
