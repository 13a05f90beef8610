"""Images that are there twice: the same pixels under two names, or the same picture saved anew.

Copies on two sides of a split flatter every score, and a generator that repeats a training image is not caught by
a validation set that has the image as well. Patient ids do not help: the copies may bear different ones.

Candidates are found by hash, and confirmed by their pixels. The usual hash of 64 bits is useless here, as radiographs
of one view look alike: of the 13.6 million pairs of the 5,216 chest radiographs of Kermany et al. (training set, 224
pixels, brought to 64), 805 pairs of different patients have the very same one, and 286,000 differ in 4 bits or fewer.
Measured on the same images with the 256 bits used here, as number of bits that differ:

====================================  =======  ====  ===
400 images against a copy of each     median   99 %  max
====================================  =======  ====  ===
saved as JPEG of quality 50           2        7     11
saved as JPEG of quality 20           4        11    13
resized to 70 %                       2        7     11
contrast 30 % higher                  1        13    23
gamma 0.8                             1        4     6
1 % cut off on all sides              9        19    20
2 % cut off on all sides              18       32    37
====================================  =======  ====  ===

In 1,977 pairs of different patients up to 24 bits differ. None of them has a correlation of pixels above 0.971, and
copies have 0.993 and more, as long as nothing is cut off or turned. Both limits together, 24 bits and 0.98, gave no
false alarm, and found every copy that was saved anew, resized or of other contrast. Of those cut by 1 % on all sides or
turned by a degree 95 % were found; by 2 % or two degrees, 5 to 7 %.

Reference: N. Krawetz, "Kind of Like That", 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
(the difference hash).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.splits import image_identities
from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.data.dataset import ImageDataset

__all__ = ["duplicate_report", "find_duplicates", "perceptual_hashes"]

_ROWS, _COLUMNS = 16, 16  # of the differences
_BITS = _ROWS * _COLUMNS
_MAX_DISTANCE = 24
_MIN_CORRELATION = 0.98
_TILE = 2048  # hashes compared with as many at a time
_BLOCK_BYTES = 2**24  # of pixels looked at at a time, as float32

Confirm = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


def perceptual_hashes(images: NDArray[Any]) -> NDArray[np.uint64]:
    """Hash the look of images, so that copies of a picture have hashes that differ in few bits.

    Each image is averaged down to 16 rows and 17 columns; a bit says whether a field is darker than the one to its
    right. Brightness, contrast, size and compression change few of them.

    Args:
        images: Shape ``(N, height, width, channels)``, or ``(N, depth, height, width, channels)`` for volumes, which
            are averaged along their depth; numbers of any type. May be memory-mapped: it is read in blocks.

    Returns:
        Shape ``(N, 4)``, uint64: 256 bits an image, the upper left one first.
    """
    hashes = np.empty((len(images), _BITS // 64), dtype=np.uint64)
    step = max(1, _BLOCK_BYTES // (4 * max(1, int(np.prod(images.shape[1:])))))
    for start in range(0, len(images), step):
        grey = images[start : start + step].mean(axis=-1, dtype=np.float32)
        grey = (grey.mean(axis=1) if grey.ndim == 4 else grey).astype(np.float64)
        fields = _averages(grey.shape[1], _ROWS) @ grey @ _averages(grey.shape[2], _COLUMNS + 1).T
        noise = 1e-9 * np.abs(fields).max(axis=(1, 2), keepdims=True)  # of the sums: a flat background gives no bits
        bits = fields[:, :, 1:] - fields[:, :, :-1] > noise
        hashes[start : start + step] = np.packbits(bits.reshape(len(grey), _BITS), axis=1).view(">u8")
    return hashes


def _averages(length: int, count: int) -> NDArray[np.float64]:
    """Return the matrix ``(count, length)`` that averages a line of pixels over fields of equal width."""
    edges, pixels = np.linspace(0, length, count + 1), np.arange(length)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(covered.clip(0) * count / length)


def find_duplicates(
    hashes: NDArray[np.uint64],
    *,
    exact: NDArray[np.str_] | None = None,
    max_distance: int = _MAX_DISTANCE,
    confirm: Confirm | None = None,
) -> pd.DataFrame:
    """Find pairs of images with similar hashes.

    Every hash is compared with every other one, in tiles, so that memory grows with the pairs found and not with the
    pairs compared: 50,000 images take about 20 seconds on one core.

    Args:
        hashes: Shape ``(N, words)``, uint64, as of `perceptual_hashes`.
        exact: Shape ``(N,)``; images with the same text are known to be the same. Of these, each is paired with the
            first only, at distance 0, and the first stands for them in all other pairs: a thousand copies give 999
            pairs, not half a million.
        max_distance: Most bits in which the hashes of a pair may differ.
        confirm: Called with positions ``(i, j)`` of candidates, tile by tile; tells which to keep.

    Returns:
        One row a pair, with i, j (positions, i < j) and distance (bits), in the order of i and j.
    """
    firsts = np.arange(len(hashes))
    found: list[tuple[NDArray[np.int64], ...]] = []
    if exact is not None:
        _, first, inverse = np.unique(exact, return_index=True, return_inverse=True)
        stands_for = first[inverse.reshape(-1)]
        copies = np.flatnonzero(stands_for != firsts)
        found.append((stands_for[copies], copies, np.zeros(len(copies), dtype=np.int64)))
        firsts = np.sort(first)
    for near_i, near_j, distance in _close_pairs(hashes[firsts], max_distance):
        i, j = firsts[near_i], firsts[near_j]
        keep = np.ones(len(i), dtype=bool) if confirm is None else confirm(i, j)
        found.append((i[keep], j[keep], distance[keep]))
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)] or [np.zeros(0, np.int64)] * 3
    pairs = pd.DataFrame(dict(zip(("i", "j", "distance"), columns, strict=True)))
    return pairs.sort_values(["i", "j"], ignore_index=True)


def _close_pairs(
    hashes: NDArray[np.uint64], max_distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield positions i < j of similar hashes with their distances, tile by tile."""
    bits = 64 * hashes.shape[1]
    for top in range(0, len(hashes), _TILE):
        rows = _signs(hashes[top : top + _TILE])
        for left in range(top, len(hashes), _TILE):
            # Of vectors of 1 and -1, the product says how many agree; exact, as these are small whole numbers.
            agreement = rows @ _signs(hashes[left : left + _TILE]).T
            i, j = np.nonzero(agreement >= bits - 2 * max_distance)
            distance = ((bits - agreement[i, j]) / 2).astype(np.int64)
            above = i + top < j + left
            if above.any():
                yield i[above] + top, j[above] + left, distance[above]


def _signs(hashes: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Turn each bit into 1 or -1."""
    octets = np.ascontiguousarray(hashes).view(np.uint8).reshape(len(hashes), -1)
    return np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1


def duplicate_report(parts: Mapping[str, ImageDataset]) -> pd.DataFrame:
    """Find images that are there twice, in one part of a data set or in two.

    Reported are pairs with the same stored pixels, and pairs whose hashes differ in at most 24 of 256 bits and whose
    pixels have a correlation of at least 0.98; see above for what this was chosen from. Other kinds of images may need
    a look at what is found: neighbouring frames of a film are no mistake. The images of one file are not compared.

    Args:
        parts: Data sets of the same size by name, such as ``{"train": training, "validation": validation}``.

    Returns:
        One row a pair, those of two parts first, with file_a, split_a, file_b, split_b (name of the image, see
        `medgan.data.splits.image_identities`, and its part), distance (bits), same_patient (missing where one of them
        is unknown), correlation (of the pixels), identical (whether all stored pixels are the same). Of several
        identical images in one part, the first stands for the others in all other pairs.

    Raises:
        DataError: If the parts have images of different sizes.
    """
    names = list(parts)
    for one, other in combinations(names, 2):
        if parts[one].spec.size != parts[other].spec.size:
            raise DataError(
                f"The images of {one} are of the size {parts[one].spec.size}, those of {other} of "
                f"{parts[other].spec.size}. Open both with the same size."
            )
    images = _Images(list(parts.values()))
    split = np.repeat(np.arange(len(names)), [len(dataset) for dataset in parts.values()])
    index = pd.concat([dataset.index for dataset in parts.values()])
    files = np.unique(index["file"].to_numpy(dtype=object), return_inverse=True)[1].reshape(-1)
    digests, hashes = images.digests_and_hashes()

    def in_different_files(i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray((split[i] != split[j]) | (files[i] != files[j]))

    def confirm(i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.bool_]:
        keep = in_different_files(i, j)
        keep[keep] = images.correlations(i[keep], j[keep]) >= _MIN_CORRELATION
        return keep

    # Copies count as one within a part only, so that each image with a copy in another part is told.
    exact = np.array([f"{part} {digest}" for part, digest in zip(split, digests, strict=True)], dtype=np.str_)
    pairs = find_duplicates(hashes, exact=exact, confirm=confirm)
    pairs = pairs[in_different_files(pairs["i"].to_numpy(), pairs["j"].to_numpy())]
    i, j = pairs["i"].to_numpy(), pairs["j"].to_numpy()
    named = np.array([name for dataset in parts.values() for name in image_identities(dataset.index)], dtype=object)
    patients = index["patient_id"].to_numpy(dtype=object)
    same_patient = pd.array(patients[i] == patients[j], dtype="boolean")
    same_patient[(patients[i] == "") | (patients[j] == "")] = pd.NA
    report = pd.DataFrame(
        {
            # As plain objects: pandas' own strings, where it has pyarrow, cannot hold file names that are not UTF-8.
            "file_a": pd.Series(named[i], dtype=object),
            "split_a": np.array(names, dtype=object)[split[i]],
            "file_b": pd.Series(named[j], dtype=object),
            "split_b": np.array(names, dtype=object)[split[j]],
            "distance": pairs["distance"].to_numpy(),
            "same_patient": same_patient,
            "correlation": images.correlations(i, j).round(4),
            "identical": digests[i] == digests[j],
        }
    )
    order = np.lexsort((j, i, report["distance"], split[i] == split[j]))
    return report.iloc[order].reset_index(drop=True)


class _Images:
    """The stored images of several data sets, one after the other."""

    def __init__(self, datasets: list[ImageDataset]) -> None:
        """Remember where each one begins."""
        self.datasets = datasets
        self.starts = np.cumsum([0, *(len(dataset) for dataset in datasets)])
        size = datasets[0].spec.size if datasets else ()
        self.step = max(1, _BLOCK_BYTES // (4 * 3 * int(np.prod(size))))

    def digests_and_hashes(self) -> tuple[NDArray[np.str_], NDArray[np.uint64]]:
        """Return the sha256 of the pixels ``(N,)`` and `perceptual_hashes` of all images."""
        digests: list[str] = []
        hashes = [np.zeros((0, _BITS // 64), dtype=np.uint64)]
        for dataset in self.datasets:
            for start in range(0, len(dataset), self.step):
                pixels = np.take(dataset._pixels, dataset._rows[start : start + self.step], axis=0)
                digests.extend(hashlib.sha256(image.tobytes()).hexdigest() for image in pixels)
                hashes.append(perceptual_hashes(pixels))
        return np.array(digests, dtype=np.str_), np.concatenate(hashes)

    def correlations(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return Pearson's correlation of the pixels of pairs; 0 where an image is constant."""
        found = np.zeros(len(i))
        for start in range(0, len(i), self.step):
            block = slice(start, start + self.step)
            a, b = self._centred(i[block]), self._centred(j[block])
            lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            np.divide(np.einsum("ij,ij->i", a, b), lengths, out=found[block], where=lengths > 0)
        return found

    def _centred(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return grey values ``(n, pixels)`` with a mean of 0 in each image."""
        grey = np.empty((len(positions), int(np.prod(self.datasets[0].spec.size))), dtype=np.float32)
        which = np.searchsorted(self.starts, positions, side="right") - 1
        for number in np.unique(which):
            chosen = which == number
            dataset = self.datasets[number]
            pixels = np.take(dataset._pixels, dataset._rows[positions[chosen] - self.starts[number]], axis=0)
            grey[chosen] = pixels.mean(axis=-1, dtype=np.float32).reshape(len(pixels), -1)
        grey -= grey.mean(axis=1, keepdims=True)
        return grey
