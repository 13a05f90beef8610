"""The two ways of bringing images to the size that a network reads: which of them is part of every number.

``clean`` filters before it samples, as Pillow's bicubic filter does on floats (Parmar et al., "On aliased resizing and
surprising subtleties in GAN evaluation", arXiv:2104.11222). ``torch-fidelity`` samples bilinearly without a filter, as
TensorFlow 1 did for the first published Fréchet inception distances; it aliases.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from medgan.errors import ConfigError, nearest

__all__ = ["RESIZERS", "Resizer", "check_resizer", "resize"]

Resizer = Literal["clean", "torch-fidelity"]

RESIZERS: tuple[Resizer, ...] = get_args(Resizer)
"""All resizers."""


def check_resizer(name: str) -> Resizer:
    """Return the resizer of a name.

    Raises:
        ConfigError: If there is none.
    """
    for resizer in RESIZERS:
        if name == resizer:
            return resizer
    raise ConfigError(f"Resizer {name!r} is unknown. {nearest(name, RESIZERS)}")


def resize(images: Tensor, size: tuple[int, int], resizer: Resizer) -> Tensor:
    """Resize images; nothing is rounded to 8 bits.

    Args:
        images: Shape ``(N, C, height, width)``, floating point, any range.
        size: Height and width to come to, in pixels.
        resizer: ``clean`` agrees with Pillow's bicubic filter on floats (1e-4 of the range), and like it can leave the
            range of the images at sharp edges; ``torch-fidelity`` is torch-fidelity's own function.

    Returns:
        Shape ``(N, C, *size)``.
    """
    if resizer == "clean":
        return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    resized: Tensor = interpolate_bilinear_2d_like_tensorflow1x(images, size=size, align_corners=False)
    return resized
