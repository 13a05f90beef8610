"""Radiomics: numbers that describe intensities and texture, defined by formulas alone.

Fréchet distances on radiomic features were introduced by Konz, Osuala et al., arXiv:2412.01496 (FRD). These features
follow the same idea without pyradiomics, and the values are **not comparable with published FRD**:

- texture matrices are of the image itself, not of its filtered versions too; there are no NGTDM features, and local
  binary patterns and the gradient are added;
- grey levels are 32 of equal width between black and white, without a normalisation of each image: brightness counts;
- the wavelet is the undecimated Haar wavelet, where pyradiomics takes coiflets;
- the whole picture is the region; nothing is segmented, so there is no shape;
- the standardisation with the reference's mean and deviation is the caller's
  (`medgan.metrics.features.standardize`), as is a logarithm of the distance.

Texture features of run-length and zone matrices are divided by what the image's size makes of them at most, so that
they lie in [0, 1]. Definitions: van Griethuysen et al., doi:10.1158/0008-5472.CAN-17-0339, and the image biomarker
standardisation initiative, doi:10.1148/radiol.2020191145.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.errors import DataError
from medgan.metrics.extractors.base import Extractor, InputSpec

__all__ = ["RADIOMICS_NAMES", "Radiomics"]

_VERSION = 1  # raise it whenever the same image would give other features
_LEVELS = 32
_SMALLEST = 16
_DISTANCES = (1, 2, 4)
_SIGMAS = (1.0, 2.0, 4.0)
_WAVELET_STEPS = (1, 2)
_LBP_RADII = (1, 2)
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # a step in rows and columns

_INTENSITY = (
    *("mean", "deviation", "skewness", "kurtosis", "median", "percentile_10", "percentile_90"),
    *("interquartile_range", "mean_absolute_deviation", "root_mean_square"),
)
_HISTOGRAM = ("entropy", "uniformity")
_COOCCURRENCE = (
    *("contrast", "dissimilarity", "homogeneity", "energy", "entropy", "correlation"),
    *("cluster_shade", "cluster_prominence"),
)
_RUNS = (
    *("short_emphasis", "long_emphasis", "grey_non_uniformity", "length_non_uniformity", "percentage"),
    *("grey_variance", "length_variance", "low_grey_emphasis", "high_grey_emphasis", "entropy"),
)


def _filters() -> Iterator[str]:
    """Name the filtered images, in order."""
    yield "gradient"
    for sigma in _SIGMAS:
        yield f"log_{sigma:g}"
    for step in _WAVELET_STEPS:
        for band in ("lh", "hl", "hh"):
            yield f"wavelet_{band}_{step}"


RADIOMICS_NAMES: tuple[str, ...] = (
    *(f"original_{name}" for name in (*_INTENSITY, *_HISTOGRAM)),
    *(f"{image}_{name}" for image in _filters() for name in _INTENSITY),
    *(f"glcm_{name}_{distance}" for distance in _DISTANCES for name in _COOCCURRENCE),
    *(f"glrlm_{name}" for name in _RUNS),
    *(f"glszm_{name}" for name in _RUNS),
    *(f"lbp_{ones}_of_8_{radius}" for radius in _LBP_RADII for ones in range(9)),
)
"""Names of the features, in the order of their columns."""


class Radiomics(Extractor):
    """Radiomic features of a picture: weight-free, deterministic, on the CPU.

    - ``original_*``: statistics of the intensities in [0, 1], with entropy (bits) and uniformity of their histogram.
    - ``gradient_*``, ``log_SIGMA_*``, ``wavelet_BAND_STEP_*``: the same statistics of the gradient's magnitude, of the
      Laplacian of a Gaussian (times SIGMA², in pixels) and of three bands of the undecimated Haar wavelet.
    - ``glcm_*_DISTANCE``: grey-level co-occurrence, symmetric, mean over four directions.
    - ``glrlm_*``: runs of equal grey levels, mean over four directions. ``glszm_*``: zones of equal levels, where
      pixels touch by side or corner.
    - ``lbp_K_of_8_RADIUS``: share of pixels with a uniform local binary pattern of K neighbours that are not darker.

    Lengths are in pixels, so both sides of a comparison need one image size. Grey images are read with 16 bits; the
    channels of a colour image are averaged. The features have different units: standardise them before any distance.
    """

    name = "radiomics"
    dim = len(RADIOMICS_NAMES)
    input = InputSpec(1, None, 0.0, 65535.0)
    needs_standardizing = True

    def __init__(self) -> None:
        """Take note of the definition."""
        self.sha256 = hashlib.sha256("\n".join((f"radiomics {_VERSION}", *RADIOMICS_NAMES)).encode()).hexdigest()

    def extract(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 174)``, the columns named by `RADIOMICS_NAMES`."""
        if min(images.shape[2:]) < _SMALLEST:
            height, width = images.shape[2:]
            raise DataError(f"radiomics reads images of {_SMALLEST} pixels or more, got {height} × {width}.")
        # Whole numbers from here on: bins and comparisons do not hang on the last bit of a float.
        pixels = images[:, 0].round().clamp(0, 65535).to(torch.int32).numpy()
        return torch.from_numpy(np.stack([_features(image) for image in pixels]).astype(np.float32))


def _features(pixels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compute all features of one image of the range 0...65535."""
    levels = pixels // (65536 // _LEVELS)
    intensities = pixels / 65535
    share = np.bincount(levels.ravel(), minlength=_LEVELS) / levels.size
    values = [*_intensity(intensities), _entropy(share), float((share**2).sum())]
    for filtered in _filtered(intensities):
        values += _intensity(filtered)
    values += _cooccurrence(levels)
    runs = [_run_features(*_runs(levels, direction), pixels=levels.size) for direction in _DIRECTIONS]
    values += np.mean(runs, axis=0).tolist()
    values += _run_features(*_zones(levels), pixels=levels.size)
    for radius in _LBP_RADII:
        values += _binary_patterns(pixels, radius)
    return np.array(values)


def _entropy(share: NDArray[Any]) -> float:
    """Return the entropy of shares that add up to 1, in bits."""
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def _intensity(values: NDArray[np.float64]) -> list[float]:
    """Statistics of an image; those that a constant image leaves undefined are 0."""
    values = values.ravel()
    mean, deviation = values.mean(), values.std()
    centred = values - mean
    skewness = kurtosis = 0.0
    if deviation > 1e-9:
        scaled = centred / deviation
        square = scaled * scaled  # a power of a float is fifty times slower
        skewness, kurtosis = (square * scaled).mean(), (square * square).mean()
    low, quarter, median, three_quarters, high = np.percentile(values, (10, 25, 50, 75, 90))
    spread = np.abs(centred).mean()
    root_mean_square = np.sqrt((values * values).mean())
    statistics = (mean, deviation, skewness, kurtosis, median, low, high, three_quarters - quarter, spread)
    return [float(value) for value in (*statistics, root_mean_square)]


def _filtered(image: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the filtered images, in the order of `_filters`."""
    from scipy import ndimage

    yield ndimage.gaussian_gradient_magnitude(image, 1.0, mode="reflect")
    for sigma in _SIGMAS:
        yield sigma**2 * ndimage.gaussian_laplace(image, sigma, mode="reflect")
    smooth = image
    for step in _WAVELET_STEPS:
        # The undecimated transform spreads its two taps instead of taking every other pixel.
        low_rows, high_rows = _haar(smooth, step, axis=0)
        smooth, row_detail = _haar(low_rows, step, axis=1)
        yield row_detail
        yield from _haar(high_rows, step, axis=1)


def _haar(image: NDArray[np.float64], step: int, *, axis: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and half difference of each pixel and the one `step` further on; the border is mirrored."""
    width = [(0, 0), (0, 0)]
    width[axis] = (0, step)
    padded = np.pad(image, width, mode="symmetric")
    further = padded[step:] if axis == 0 else padded[:, step:]
    return (image + further) / 2, (image - further) / 2


def _cooccurrence(levels: NDArray[np.int32]) -> list[float]:
    """Features of the co-occurrence matrices, each the mean over four directions."""
    from skimage.feature import graycomatrix

    angles = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
    joint: NDArray[np.float64] = graycomatrix(  # type: ignore[no-untyped-call]
        levels.astype(np.uint8), _DISTANCES, angles, _LEVELS, symmetric=True, normed=True
    )
    first, second = np.meshgrid(np.arange(_LEVELS), np.arange(_LEVELS), indexing="ij")
    first, second = first[..., None, None], second[..., None, None]
    difference = first - second

    def expected(values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean of `values` under each matrix: shape (distances, angles)."""
        mean: NDArray[np.float64] = (joint * values).sum((0, 1))
        return mean

    mean = expected(first)  # the matrices are symmetric: of either pixel
    variance = expected((first - mean) ** 2)
    covariance = expected((first - mean) * (second - mean))
    # Equal grey levels everywhere agree perfectly.
    correlation = np.where(variance > 1e-12, covariance / np.maximum(variance, 1e-12), 1.0)
    cluster = first + second - 2 * mean
    logarithm = np.log2(joint, out=np.zeros_like(joint), where=joint > 0)
    features = np.stack(
        [
            expected(difference**2),
            expected(np.abs(difference)),
            expected(1 / (1 + difference**2)),
            expected(joint),
            -expected(logarithm),
            correlation,
            expected(cluster * cluster * cluster),
            expected((cluster * cluster) ** 2),
        ]
    )
    by_distance: list[float] = features.mean(2).T.ravel().tolist()
    return by_distance


def _runs(levels: NDArray[np.int32], direction: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Return the grey level and length of every run along a direction, and the greatest length possible."""
    rows, columns = direction
    if rows == 0:
        lines = levels
    elif columns == 0:
        lines = levels.T
    else:
        # Each row is shifted by one more pixel: the diagonals become columns.
        shifted = levels if columns == -1 else levels[:, ::-1]
        height, width = shifted.shape
        sheared = np.full((height, height + width - 1), -1, np.int32)
        row, column = np.indices((height, width))
        sheared[row, row + column] = shifted
        lines = sheared.T
    flat = np.pad(lines, ((0, 0), (0, 1)), constant_values=-1).ravel()  # no run goes on in the next line
    starts = np.flatnonzero(np.diff(flat, prepend=-2))
    lengths = np.diff(starts, append=flat.size)
    inside = flat[starts] >= 0
    longest = min(levels.shape) if rows and columns else levels.shape[0 if rows else 1]
    return flat[starts][inside], lengths[inside], longest


def _zones(levels: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Return the grey level and number of pixels of every connected zone, and the greatest number possible."""
    from skimage.measure import label

    zones = label(levels, background=-1, connectivity=2).ravel() - 1  # type: ignore[no-untyped-call]
    sizes = np.bincount(zones)
    values = np.empty(len(sizes), np.int64)
    values[zones] = levels.ravel()
    return values, sizes, levels.size


def _run_features(values: NDArray[Any], lengths: NDArray[Any], longest: int, *, pixels: int) -> list[float]:
    """Features of runs or zones, given by the grey level and length of each."""
    count = len(values)
    grey = (values + 1) / _LEVELS  # in (0, 1]: no division by zero
    length = lengths / longest
    by_grey = np.bincount(values) / count
    _, by_length = np.unique(lengths, return_counts=True)
    _, jointly = np.unique(lengths.astype(np.int64) * _LEVELS + values, return_counts=True)
    features = (
        (1 / lengths.astype(np.float64) ** 2).mean(),
        (length**2).mean(),
        (by_grey**2).sum(),
        ((by_length / count) ** 2).sum(),
        count / pixels,
        grey.var(),
        length.var(),
        (1 / (grey * _LEVELS) ** 2).mean(),
        (grey**2).mean(),
        _entropy(jointly / count),
    )
    return [float(feature) for feature in features]


def _binary_patterns(pixels: NDArray[np.int32], radius: int) -> list[float]:
    """Shares of the nine uniform patterns of eight neighbours on a square, whatever their rotation.

    Not scikit-image's: it interpolates between pixels, and in a flat area the last bit of that float decides.
    """
    height, width = pixels.shape
    padded = np.pad(pixels, radius, mode="symmetric")
    ring = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    brighter = np.stack(
        [padded[radius * (1 + row) :, radius * (1 + column) :][:height, :width] >= pixels for row, column in ring]
    )
    changes = (brighter != np.roll(brighter, 1, axis=0)).sum(0)
    ones = brighter.sum(0)[changes <= 2]
    shares: list[float] = (np.bincount(ones, minlength=9) / pixels.size).tolist()
    return shares
