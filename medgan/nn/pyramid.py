"""What networks share that halve or double the resolution step by step, down to 4 pixels along the shortest side."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["halvings", "initialise_normal", "level_widths", "seed_size"]

_SEED = 4  # pixels along the shortest side of the coarsest level


def halvings(size: tuple[int, ...]) -> int:
    """Return how often the resolution is halved, from the full one to the coarsest level.

    Args:
        size: Size of the image; the shortest side 4 times a power of two.
    """
    return int(math.log2(min(size) // _SEED))


def seed_size(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of the coarsest level, which has the proportions of the image.

    Args:
        size: Size of the image; each side 4 times a power of two.
    """
    return tuple(_SEED * length // min(size) for length in size)


def level_widths(width: int, levels: int, *, most: int) -> list[int]:
    """Return the channels at each of some levels, the finest first: twice as many at each, up to a limit.

    Args:
        width: Channels at the finest level.
        levels: Number of levels, each of half the resolution of the one before it.
        most: The limit, in times of `width`; 1 for as many everywhere.
    """
    return [width * min(1 << level, most) for level in range(levels)]


def initialise_normal(module: nn.Module) -> None:
    """Draw weights as DCGAN does: from N(0, 0.02), the scales of normalisation from N(1, 0.02); biases are 0.

    Args:
        module: A linear layer, a convolution, or a batch or instance normalisation; one without weights or of another
            kind is left as it is. Pass this to `torch.nn.Module.apply`.

    References:
        Radford et al., 2016, arXiv:1511.06434; Isola et al., 2017, arXiv:1611.07004 (instance normalisation).
    """
    if isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:  # batch and instance normalisation
        mean = 1.0
    elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        mean = 0.0
    else:
        return
    nn.init.normal_(module.weight, mean, 0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
