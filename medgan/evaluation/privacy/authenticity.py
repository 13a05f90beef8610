"""Authenticity (A. Alaa et al., 2022, arXiv:2102.08921), for the nearest training image of each synthetic one.

A synthetic image is authentic unless it lies nearer to its nearest training image than any *other training image*
does. Published code looks up the neighbours of training images by the numbers of synthetic images, and asks for the
synthetic image nearest to each training image; its result depends on the order of the rows. Here the definition is
computed: for each synthetic image, the nearest training image, and for that one the nearest training image of another
patient.

The share has no absolute meaning: images of new patients are not all authentic either, and how many are depends on the
number of training images. So it stands beside that of held-out patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from medgan.errors import DataError
from medgan.evaluation.privacy.copies import CONFIDENCE

__all__ = ["Authenticity", "authenticity"]


@dataclass(frozen=True)
class Authenticity:
    """Shares of authentic images.

    Attributes:
        synthetic: Of the synthetic images.
        held_out: Of images of held-out patients.
        difference: The first less the second; below 0 if synthetic images crowd around training images.
        low: Lower bound of its interval (R. G. Newcombe, 1998, method 10).
        high: Upper bound.
        p_value: Of the hypothesis that the first is not below the second (Fisher's exact test, one-sided).
    """

    synthetic: float
    held_out: float
    difference: float
    low: float
    high: float
    p_value: float


def authenticity(
    synthetic: ArrayLike, held_out: ArrayLike, *, reach_of_synthetic: ArrayLike, reach_of_held_out: ArrayLike
) -> Authenticity:
    """Return the share of authentic images, beside that of held-out patients.

    Args:
        synthetic: Distance of each synthetic image to its nearest training image, ``(m,)``.
        held_out: The same of held-out images, ``(n,)``, one of each patient.
        reach_of_synthetic: Distance of that training image to the nearest one of another patient, ``(m,)``.
        reach_of_held_out: The same for the held-out images, ``(n,)``.

    Raises:
        DataError: If a side is empty.

    Example:
        >>> found = authenticity([0.1, 0.5], [0.6], reach_of_synthetic=[0.4, 0.4], reach_of_held_out=[0.4])
        >>> found.synthetic, found.held_out
        (0.5, 1.0)
    """
    ours = np.asarray(synthetic, np.float64) > np.asarray(reach_of_synthetic, np.float64)
    null = np.asarray(held_out, np.float64) > np.asarray(reach_of_held_out, np.float64)
    if not len(ours) or not len(null):
        raise DataError("Authenticity compares synthetic images with held-out ones, and one side is empty.")
    share, usual = float(ours.mean()), float(null.mean())
    (low, high), (null_low, null_high) = _wilson(ours), _wilson(null)
    difference = share - usual
    table = [[int(ours.sum()), int((~ours).sum())], [int(null.sum()), int((~null).sum())]]
    return Authenticity(
        synthetic=share,
        held_out=usual,
        difference=difference,
        low=difference - float(np.hypot(share - low, null_high - usual)),
        high=difference + float(np.hypot(high - share, usual - null_low)),
        p_value=float(stats.fisher_exact(table, alternative="less")[1]),
    )


def _wilson(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """Return Wilson's interval of a share (1927, doi:10.1080/01621459.1927.10502953)."""
    n, share, z = len(hits), float(hits.mean()), float(special.ndtri((1 + CONFIDENCE) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    width = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return middle - width, middle + width
