"""Layers for generators and discriminators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelLayerNorm", "FiLMNorm", "MinibatchDiscrimination", "MinibatchStdDev"]


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels, for images ``(N, C, *size)``.

    Args:
        channels: Number of channels C.
        eps: Added to the variance.

    References:
        Ba et al., 2016, arXiv:1607.06450.
    """

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        """Create scale (ones) and shift (zeros)."""
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the result has the shape and the memory format of the input."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class FiLMNorm(nn.Module):
    """Group normalisation whose scale and shift are computed from a condition vector.

    Unlike batch normalisation it treats each image by itself, in training as in sampling.

    Args:
        channels: Number of channels C of the image.
        condition: Length of the condition vector.
        groups: Largest number of groups; fewer where C is not divisible.

    References:
        Perez et al., 2018, arXiv:1709.07871; Wu and He, 2018, arXiv:1803.08494.
    """

    def __init__(self, channels: int, condition: int, groups: int = 8) -> None:
        """Create the linear map from the condition to scale and shift."""
        super().__init__()
        while channels % groups:
            groups -= 1
        self.groups = groups
        self.affine = nn.Linear(condition, 2 * channels)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """Normalise `images` ``(N, C, *size)`` and modulate them by `condition` ``(N, condition)``."""
        scale, shift = self.affine(condition).view(*condition.shape[:1], -1, *[1] * (images.ndim - 2)).chunk(2, dim=1)
        return torch.addcmul(shift, F.group_norm(images, self.groups), 1 + scale)


class MinibatchDiscrimination(nn.Module):
    """Appends, for some learnt views of an image's features, how near the other images of the batch are.

    Each of B kernels maps the features to C numbers; its output for image i is ``Σ exp(−‖Mᵢ − Mⱼ‖₁)`` over all other
    images j. Near copies add almost 1 each. Give it a batch of real or of generated images, never of both.

    Args:
        features: Length of the features.
        kernels: B, the number of outputs.
        dims: C, the numbers that a kernel compares.

    References:
        Salimans et al., 2016, arXiv:1606.03498.
    """

    def __init__(self, features: int, kernels: int = 16, dims: int = 8) -> None:
        """Create the linear map from the features to the kernels' numbers."""
        super().__init__()
        self.kernels = kernels
        self.projection = nn.Linear(features, kernels * dims, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return `features` ``(N, F)`` with `kernels` columns more, ``(N, F + kernels)``."""
        views = self.projection(features).float().view(len(features), self.kernels, -1)
        distances = (views.unsqueeze(0) - views.unsqueeze(1)).abs().sum(dim=3)
        near = torch.exp(-distances).sum(dim=1) - 1  # less the image itself
        return torch.cat([features, near.to(features.dtype)], dim=1)


class MinibatchStdDev(nn.Module):
    """Appends one feature map that holds the spread of features within small groups of images.

    A generator that gives the same image again and again is found out by it. The paper averages the spread over all
    positions; here each position keeps its own, as it is there that equal poses show: the outlines coincide.

    Args:
        group: Images in a group; the largest divisor of N not above it is used.
        gain: Factor of the spread, so that one map among many is heard.

    References:
        Karras et al., 2018, arXiv:1710.10196.
    """

    def __init__(self, group: int = 4, gain: float = 1.0) -> None:
        """Store the group's size and the gain."""
        super().__init__()
        self.group = group
        self.gain = gain

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return the images with the spread of their group.

        Args:
            images: Shape ``(N, C, *size)``.
            classes: Class of each image, ``(N,)``. Then groups are of one class, but for one at the border of two: the
                difference between classes would hide that the images within one are all alike.

        Returns:
            Shape ``(N, C + 1, *size)``.
        """
        n = len(images)
        group = max(size for size in range(1, min(self.group, n) + 1) if n % size == 0)
        # Every (n / group)-th image forms a group, as in the paper's code: neighbours stay apart.
        ordered = images
        if classes is not None:
            order = classes.argsort(stable=True).view(n // group, group).T.reshape(-1)
            ordered = images[order]
        grouped = ordered.reshape(group, n // group, *images.shape[1:]).float()
        spread = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1, keepdim=True) * self.gain
        spread = spread.repeat(group, *[1] * (images.ndim - 1)).to(images.dtype)
        if classes is not None:
            spread = spread[order.argsort()]
        return torch.cat([images, spread], dim=1)
