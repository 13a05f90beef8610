"""What networks share that halve or double the resolution step by step, down to 4 pixels along the shortest side."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["channels_at", "halvings", "initialise_normal", "seed_size"]

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


def channels_at(width: int, level: int, *, most: int) -> int:
    """Return the channels so many halvings below full resolution: twice as many at each, up to a limit.

    Args:
        width: Channels at full resolution.
        level: Number of halvings.
        most: The limit, in times of `width`.
    """
    return width * min(1 << level, most)


def initialise_normal(module: nn.Module) -> None:
    """Draw weights as DCGAN does: from N(0, 0.02), those of batch normalisation from N(1, 0.02); biases are 0.

    Args:
        module: A layer; one of another kind is left as it is. Pass this to `torch.nn.Module.apply`.

    References:
        Radford et al., 2016, arXiv:1511.06434.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Linear | nn.modules.conv._ConvNd):
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        nn.init.normal_(module.weight, 1.0 if norm else 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
