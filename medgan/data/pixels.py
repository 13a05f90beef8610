"""Images as whole numbers, for files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["to_uint8", "to_uint16"]


def to_uint8(images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Turn images into bytes.

    Args:
        images: Shape ``(N, C, *size)``, in [-1, 1]; values outside are clipped.

    Returns:
        Shape ``(N, *size, C)``, uint8; -1 becomes 0 and 1 becomes 255, rounded to the nearest;
        NaN becomes 0.
    """
    # NaN as a byte is whatever the machine makes of it; here it is black.
    scaled = torch.nan_to_num((images.detach().float().cpu() + 1) * 127.5)
    array: np.ndarray[Any, np.dtype[np.uint8]] = scaled.round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()
    return array


def to_uint16(images: Tensor) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Turn images into 16-bit numbers, as `to_uint8` does into bytes."""
    scaled = torch.nan_to_num((images.detach().double().cpu() + 1) * 32767.5)
    array: np.ndarray[Any, np.dtype[np.uint16]] = (
        scaled.round().clamp(0, 65535).movedim(1, -1).numpy().astype(np.uint16)
    )
    return array
