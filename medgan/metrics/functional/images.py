"""How alike two images are: mean squared error, PSNR, SSIM and MS-SSIM.

All functions take two arrays of the same shape ``(N, channels, height, width)``, or
``(N, channels, depth, height, width)`` for volumes, of any real dtype, compare the first image with the first, the
second with the second, and so on, and return float64 ``(N,)``. They compute in float64, so integers never overflow.

**Use.** These numbers compare an image with its own reference: a translated, reconstructed or denoised image with the
true one; a synthetic image with its nearest real one; two images of one set, for diversity
(`medgan.metrics.functional.diversity`). Between a sample and a real image picked at random they say nothing.

**The range of the values** decides SSIM and PSNR, so it has no default, and is never guessed from dtype or pixels:
the same 12-bit images have 50 dB in the range of uint16 and 26 dB in their own. ``data_range`` is the range that the
values *can* have, by bit depth, window or convention: ``(-1, 1)`` for images of medgan, ``255`` for 8 bits, ``4095``
for 12, ``(-1350, 150)`` for a lung window; one number means from 0 to that number. Never give the range of each image.
SSIM is defined for black at 0, so a lower limit other than 0 is first moved there. Values outside of the range are
refused.

**Definition of SSIM**, where others differ by up to 0.1: Gaussian window of 11 pixels along each side with a standard
deviation of 1.5 pixels, population covariance, K1 = 0.01, K2 = 0.03, the mean over all positions at which the window
lies within the image, the mean over channels. It agrees with ``skimage.metrics.structural_similarity`` with
``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``, and with ``monai.metrics.SSIMMetric`` but for the
float32 in which the latter computes. Wide black borders raise it: give a mask of the body.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from medgan.errors import ConfigError, DataError

__all__ = ["SCALE_WEIGHTS", "DataRange", "check_images", "mse", "multiscale_ssim", "psnr", "ssim"]

DataRange: TypeAlias = float | tuple[float, float]
"""The range that values can have, as lower and upper limit, or as the upper limit alone if the lower is 0."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales of MS-SSIM, the finest first (Wang et al. 2003)."""

_RADIUS = 5  # of the window, in pixels
_WINDOW = 2 * _RADIUS + 1
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for values from 0 to 1
_MOST_CHANNELS = 10
_ROUNDING = 1e-6  # of the range: what float32 may lie outside of it after a change of range
_BLOCK_VALUES = 2**18  # of each side at a time; a few arrays of this size fit the cache of a core

_Floats: TypeAlias = NDArray[np.float64]


def mse(first: NDArray[Any], second: NDArray[Any], *, mask: NDArray[np.bool_] | None = None) -> _Floats:
    """Return the mean squared error of each pair, over all pixels and channels.

    Args:
        first: Shape ``(N, channels, *size)`` with 2 or 3 axes of size, finite.
        second: The same shape.
        mask: Shape ``(N, *size)``; only pixels where it is True count. None for all pixels.

    Returns:
        Shape ``(N,)``, in squared units of the values; 0 for identical images.

    Raises:
        DataError: If shapes differ or do not fit, values are not finite, or a mask is empty.
    """
    first, second = _check_pair(first, second, mask)
    return _squared_errors(first, second, mask, None)


def psnr(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    data_range: DataRange,
    mask: NDArray[np.bool_] | None = None,
) -> _Floats:
    """Return the peak signal-to-noise ratio of each pair.

    That is ``10 * log10(width ** 2 / mse)`` with the width of the range and the `mse` over all pixels and channels.
    One pair of identical images makes the mean over pairs infinite: report the median, or the mean of `mse`.

    Args:
        first: Shape ``(N, channels, *size)`` with 2 or 3 axes of size, finite, within `data_range`.
        second: The same shape and range.
        data_range: The range that the values can have, see the module.
        mask: Shape ``(N, *size)``; only pixels where it is True count. None for all pixels.

    Returns:
        Shape ``(N,)``, in dB, 0 or more; infinite for identical images.

    Raises:
        ConfigError: If `data_range` is not a range.
        DataError: If shapes differ or do not fit, values are not finite or outside of the range, or a mask is empty.
    """
    limits = _limits(data_range)
    first, second = _check_pair(first, second, mask)
    with np.errstate(divide="ignore"):
        return np.asarray(-10 * np.log10(_squared_errors(first, second, mask, limits)))


def ssim(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    data_range: DataRange,
    mask: NDArray[np.bool_] | None = None,
) -> _Floats:
    """Return the structural similarity of each pair, as the module defines it.

    Args:
        first: Shape ``(N, channels, *size)`` with 2 or 3 axes of size, each at least 11, finite, within `data_range`.
        second: The same shape and range.
        data_range: The range that the values can have, see the module.
        mask: Shape ``(N, *size)``; only windows whose centre is in it count, though they may reach beyond it. None for
            all windows.

    Returns:
        Shape ``(N,)``, in [-1, 1]; 1 for identical images.

    Raises:
        ConfigError: If `data_range` is not a range.
        DataError: If shapes differ or do not fit, images are smaller than the window, values are not finite or outside
            of the range, or a mask is empty but for the border of 5 pixels.

    Reference: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility
    to structural similarity", 2004, https://doi.org/10.1109/TIP.2003.819861.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 32, 32))
        >>> ssim(images, images, data_range=(-1, 1))
        array([1., 1.])
    """
    limits = _limits(data_range)
    first, second = _check_pair(first, second, mask)
    if min(first.shape[2:]) < _WINDOW:
        raise DataError(
            f"SSIM needs images of at least {_WINDOW} pixels along each side, its window; got {_size(first)}. "
            "Type psnr or mse for smaller ones."
        )
    inner = None
    if mask is not None:
        inner = mask[:, *(slice(_RADIUS, -_RADIUS) for _ in first.shape[2:])]
        _check_not_empty(inner, f"inside the border of {_RADIUS} pixels ")
    values = np.empty(len(first))
    for rows, one, other in _blocks(first, second, limits):
        luminance, contrast = _similarity(one, other)
        values[rows] = _means(luminance * contrast, None if inner is None else inner[rows])
    return values


def multiscale_ssim(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    data_range: DataRange,
    scales: int = len(SCALE_WEIGHTS),
) -> _Floats:
    """Return the multi-scale structural similarity of each pair (MS-SSIM).

    The contrast and structure term of SSIM at every scale, and its luminance at the coarsest, each a mean over
    positions and channels, are multiplied with `SCALE_WEIGHTS` as exponents; a mean below 0 counts as 0. From one scale
    to the next, fields of 2 by 2 (by 2) pixels are averaged; an odd last row is left out.

    The five scales of the definition need 176 pixels along each side. Smaller images need fewer, said by `scales`: 4
    for 88 pixels, 3 for 44, 2 for 22. Then the weights of the finest scales are used, divided by their sum. Each number
    of scales is a metric of its own: report it, and compare like with like. One scale is `ssim`, which may be below 0.

    Args:
        first: Shape ``(N, channels, *size)`` with 2 or 3 axes of size, each at least ``11 * 2 ** (scales - 1)``,
            finite, within `data_range`.
        second: The same shape and range.
        data_range: The range that the values can have, see the module.
        scales: Number of scales, 1...5.

    Returns:
        Shape ``(N,)``, in [0, 1], or [-1, 1] for one scale; 1 for identical images.

    Raises:
        ConfigError: If `data_range` is not a range, or `scales` is not in 1...5.
        DataError: If shapes differ or do not fit, images are too small, or values are not finite or outside of the
            range.

    Reference: Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multiscale structural similarity for image quality assessment",
    2003, https://doi.org/10.1109/ACSSC.2003.1292216.
    """
    limits = _limits(data_range)
    first, second = _check_pair(first, second, None)
    _check_scales(scales, first)
    if scales == 1:
        return ssim(first, second, data_range=data_range)
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    values = np.ones(len(first))
    for rows, finest, finest_other in _blocks(first, second, limits):
        one, other = finest, finest_other
        for scale, weight in enumerate(weights, start=1):
            luminance, contrast = _similarity(one, other)
            if scale < scales:
                one, other = _halved(one), _halved(other)
            else:
                contrast *= luminance
            values[rows] *= _means(contrast, None).clip(0) ** weight
    return values


def check_images(images: NDArray[Any], name: str, *, start: int = 0, data_range: DataRange | None = None) -> _Floats:
    """Return images, or features, as float64.

    Args:
        images: Shape ``(N, ...)``, any real dtype.
        name: What to call them in an error.
        start: Number of the first of them, if they are a part of more.
        data_range: The range that the values must be in; None for any.

    Returns:
        The same shape, a copy, finite.

    Raises:
        ConfigError: If `data_range` is not a range.
        DataError: If they are not numbers, not finite or outside of the range.
    """
    if images.dtype.kind not in "buif":
        raise DataError(f"`{name}` must hold real numbers, got {images.dtype}.")
    floats = images.astype(np.float64)
    finite = np.isfinite(floats).reshape(len(floats), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"Image {start + int(np.argmin(finite))} of `{name}` has NaN or infinite values. Leave it out, and find "
            "where they come from: a diverged generator, or a file with gaps."
        )
    if data_range is not None:
        low, high = _limits(data_range)
        lowest, highest, rounding = floats.min(), floats.max(), _ROUNDING * (high - low)
        if lowest < low - rounding or highest > high + rounding:
            raise DataError(
                f"`{name}` has values from {lowest:g} to {highest:g}, outside of data_range=({low:g}, {high:g}). Give "
                "the range that values can have, such as data_range=(-1, 1), or cut off what lies outside: "
                f"images.clip({low:g}, {high:g})."
            )
    return floats


def _limits(data_range: DataRange) -> tuple[float, float]:
    """Return black and white."""
    found = np.asarray(data_range, dtype=np.float64)
    low, high = (0.0, float(found)) if found.ndim == 0 else (float(found[0]), float(found[-1]))
    if found.shape not in {(), (2,)} or not (math.isfinite(high - low) and low < high):
        raise ConfigError(
            f"data_range is {data_range!r}, which is no range. Type the lowest and the highest value that images can "
            "have, such as data_range=(-1, 1), or one number if the lowest is 0, such as data_range=255."
        )
    return low, high


def _check_pair(
    first: NDArray[Any], second: NDArray[Any], mask: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Refuse what does not fit together; the values are looked at block by block, as they are read."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise DataError(
            f"Images are compared one by one, so both sides must have the same shape; got {first.shape} and "
            f"{second.shape}."
        )
    shape = first.shape
    if len(shape) not in (4, 5):
        raise DataError(
            f"Images must have the shape (N, channels, height, width) or (N, channels, depth, height, width), got "
            f"{shape}. Type images[:, None] for grey images without an axis of channels, and images[None] for one "
            "image."
        )
    if 0 in shape:
        raise DataError(f"There is nothing to compare: images of shape {shape} are empty.")
    if shape[1] > _MOST_CHANNELS:
        raise DataError(
            f"Images of shape {shape} have {shape[1]} channels, {_MOST_CHANNELS} at most are expected. Type "
            "images[:, None] for volumes without an axis of channels, and np.moveaxis(images, -1, 1) for images whose "
            "last axis is the channels."
        )
    if mask is not None:
        expected = (shape[0], *shape[2:])
        if mask.shape != expected or mask.dtype != np.bool_:
            raise DataError(
                f"The mask of images of shape {shape} must be bool of shape {expected}, got {mask.dtype} of shape "
                f"{mask.shape}. Type mask.astype(bool), and np.broadcast_to(mask, {expected}) for one mask of all."
            )
        _check_not_empty(mask, "")
    return first, second


def _check_not_empty(mask: NDArray[np.bool_], where: str) -> None:
    """Refuse masks that leave nothing of an image."""
    some = mask.reshape(len(mask), -1).any(axis=1)
    if not some.all():
        raise DataError(f"The mask of image {int(np.argmin(some))} is empty {where}. Leave that image out.")


def _check_scales(scales: int, images: NDArray[Any]) -> None:
    """Refuse more scales than the images have."""
    if not 1 <= scales <= len(SCALE_WEIGHTS):
        raise ConfigError(f"scales is {scales}, it must be from 1 to {len(SCALE_WEIGHTS)}.")
    smallest = min(images.shape[2:])
    if smallest < _WINDOW << (scales - 1):
        possible = (smallest // _WINDOW).bit_length()
        advice = f"Type scales={possible} or less, and report it" if possible else "They are too small for any"
        raise DataError(
            f"{scales} scales need images of at least {_WINDOW << (scales - 1)} pixels along each side, got "
            f"{_size(images)}. {advice}."
        )


def _size(images: NDArray[Any]) -> str:
    """Return the size of images as text."""
    return " x ".join(str(length) for length in images.shape[2:])


def _blocks(
    first: NDArray[Any], second: NDArray[Any], limits: tuple[float, float] | None
) -> Iterator[tuple[slice, _Floats, _Floats]]:
    """Yield a few pairs at a time, in float64, the limits brought to 0 and 1 if there are any."""
    step = max(1, _BLOCK_VALUES // math.prod(first.shape[1:]))
    for start in range(0, len(first), step):
        rows = slice(start, start + step)
        one = check_images(first[rows], "first", start=start, data_range=limits)
        other = check_images(second[rows], "second", start=start, data_range=limits)
        if limits is not None:
            low, high = limits
            for images in (one, other):
                images -= low
                images /= high - low
        yield rows, one, other


def _squared_errors(
    first: NDArray[Any],
    second: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    limits: tuple[float, float] | None,
) -> _Floats:
    """Return the mean squared error of each pair."""
    values = np.empty(len(first))
    for rows, one, other in _blocks(first, second, limits):
        values[rows] = _means((one - other) ** 2, None if mask is None else mask[rows])
    return values


def _means(maps: _Floats, mask: NDArray[np.bool_] | None) -> _Floats:
    """Average maps ``(n, channels, *size)`` over channels and positions, those of the mask ``(n, *size)`` if any."""
    if mask is None:
        return np.asarray(maps.reshape(len(maps), -1).mean(axis=1))
    maps = maps.mean(axis=1).reshape(len(maps), -1)
    weights = mask.reshape(len(maps), -1)
    return np.asarray((maps * weights).sum(axis=1) / weights.sum(axis=1))


def _similarity(first: _Floats, second: _Floats) -> tuple[_Floats, _Floats]:
    """Return the maps of luminance, and of contrast and structure, of images from 0 to 1.

    Only the sum of the two variances is needed, so four images are smoothed and not five. Each numerator is the
    denominator exactly, if the images are identical.
    """
    mean, other_mean = _smoothed(first), _smoothed(second)
    products = mean * other_mean
    squares = mean * mean + other_mean * other_mean
    covariance = _smoothed(first * second) - products
    variances = _smoothed(first * first + second * second) - squares
    return (2 * products + _C1) / (squares + _C1), (2 * covariance + _C2) / (variances + _C2)


def _smoothed(images: _Floats) -> _Floats:
    """Average over the window, wherever it lies within the image."""
    window = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    window /= window.sum()
    for axis in range(images.ndim - 1, 1, -1):
        within = (slice(None),) * axis + (slice(_RADIUS, -_RADIUS),)
        # A copy, as sizes that are powers of two make columns collide in the cache: up to twice as fast.
        images = np.ascontiguousarray(correlate1d(images, window, axis=axis)[within])
    return images


def _halved(images: _Floats) -> _Floats:
    """Average fields of two pixels along each side."""
    for axis in range(2, images.ndim):
        before = (slice(None),) * axis
        even = images.shape[axis] // 2 * 2
        images = (images[(*before, slice(0, even, 2))] + images[(*before, slice(1, even, 2))]) / 2
    return images
