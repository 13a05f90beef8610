"""Differentiable augmentation: the same random distortions for real and generated images.

A small data set lets the discriminator learn its images by heart. Distorting what it sees, real and
fake alike and differentiably, postpones that without teaching the generator the distortions
(Zhao et al., 2020, arXiv:2006.10738). There are no flips and no rotations: in medicine left and
right, up and down carry meaning.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError, nearest

__all__ = ["DiffAugment"]


class DiffAugment(nn.Module):
    """A chain of differentiable augmentations, drawn anew for every image.

    Policies: ``brightness`` (add up to ±0.25), ``contrast`` (scale about the image's mean by 0.5 to
    1.5), ``translation`` (shift by up to an eighth of each side, black comes in) and ``cutout`` (a
    black box of half of each side). All work on any number of channels and spatial dimensions.

    Args:
        policy: ``"none"``, or names joined by commas, applied in that order.
        probability: Chance of each augmentation to be applied to an image. Below 1 the discriminator
            also sees images as they are, and notices when the generator's poses and exposures vary
            less than the real ones.

    Raises:
        ConfigError: If a name is unknown, or the probability is not between 0 and 1.

    Example:
        >>> DiffAugment("translation,cutout")(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, policy: str = "none", probability: float = 1.0) -> None:
        """Look the names up."""
        super().__init__()
        if not 0 <= probability <= 1:
            raise ConfigError(f"The probability of an augmentation must be between 0 and 1, got {probability}.")
        self.policy = policy
        self.probability = probability
        self._steps = [_get(name.strip()) for name in policy.split(",")] if policy != "none" else []

    def forward(self, images: Tensor) -> Tensor:
        """Distort images.

        Args:
            images: Shape ``(N, C, *size)``, in [-1, 1].

        Returns:
            Images of the same shape; brightness and contrast may leave [-1, 1].
        """
        for step in self._steps:
            images = torch.where(_random(images) < self.probability, step(images), images)
        return images

    def extra_repr(self) -> str:
        """Return the policy, for printing."""
        return f"{self.policy}, probability={self.probability:g}"


def _random(images: Tensor) -> Tensor:
    """Return one uniform number in [0, 1) for each image, broadcastable over it."""
    return torch.rand(len(images), *[1] * (images.ndim - 1), device=images.device, dtype=images.dtype)


def _brightness(images: Tensor) -> Tensor:
    return images + (_random(images) - 0.5) * 0.5


def _contrast(images: Tensor) -> Tensor:
    mean = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    return (images - mean) * (_random(images) + 0.5) + mean


def _translation(images: Tensor) -> Tensor:
    """Shift by gathering pixels, -1 where none is left: cheap forward, exact gradient, any dimension."""
    n, channels, *size = images.shape
    source = torch.zeros(n, *size, dtype=torch.int64, device=images.device)
    inside = torch.ones(n, *size, dtype=torch.bool, device=images.device)
    for axis, length in enumerate(size):
        reach = max(1, round(length / 8))
        shift = torch.randint(-reach, reach + 1, (n, 1), device=images.device)
        position = torch.arange(length, device=images.device) + shift
        view = (n, *[length if other == axis else 1 for other in range(len(size))])
        inside = inside & ((position >= 0) & (position < length)).view(view)
        source = source * length + position.clamp(0, length - 1).view(view)
    index = source.view(n, 1, -1).expand(-1, channels, -1)
    moved = images.reshape(n, channels, -1).gather(2, index).view_as(images)
    return torch.where(inside.unsqueeze(1), moved, images.new_tensor(-1.0))


def _cutout(images: Tensor) -> Tensor:
    n, _, *size = images.shape
    hidden = torch.ones(n, *size, dtype=torch.bool, device=images.device)
    for axis, length in enumerate(size):
        box = length // 2
        centre = torch.randint(0, length + 1, (n, 1), device=images.device)
        position = torch.arange(length, device=images.device)
        view = (n, *[length if other == axis else 1 for other in range(len(size))])
        hidden = hidden & ((position >= centre - box // 2) & (position < centre - box // 2 + box)).view(view)
    return torch.where(hidden.unsqueeze(1), images.new_tensor(-1.0), images)


_POLICIES: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "translation": _translation,
    "cutout": _cutout,
}


def _get(name: str) -> Callable[[Tensor], Tensor]:
    """Return a policy by name."""
    try:
        return _POLICIES[name]
    except KeyError:
        raise ConfigError(f"Augmentation {name!r} is unknown. {nearest(name, ['none', *_POLICIES])}") from None
