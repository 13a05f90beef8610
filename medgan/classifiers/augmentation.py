"""The usual distortions of radiographs, small enough to leave anatomy and findings as they are."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.errors import ConfigError, DataError

__all__ = ["ClassicalAugmentation"]


class ClassicalAugmentation:
    """Rotates, scales, shifts, brightens and stretches the contrast of 2-D images a little, each by its own amounts.

    These are differences that patients, positioning and exposure make as well. There are no flips: the heart is on one
    side, and a marker says which. All amounts are uniform within their bounds, drawn from torch's generator of the
    images' device. Contrast and brightness come first; what comes in from outside is black.

    Args:
        rotation_degrees: Largest rotation to either side, in degrees.
        scale: Largest change of the size to either side; 0.1 gives factors from 0.9 to 1.1.
        shift: Largest shift along each axis to either side, as a share of the side.
        brightness: Largest change of brightness to either side; the range from black to white is 2.
        contrast: Largest change of contrast, about the image's mean, to either side.

    Raises:
        ConfigError: If an amount is negative, or one but the rotation is 1 or more.

    Examples:
        >>> ClassicalAugmentation()(torch.zeros(4, 1, 64, 64)).shape
        torch.Size([4, 1, 64, 64])
    """

    def __init__(
        self,
        *,
        rotation_degrees: float = 7.0,
        scale: float = 0.1,
        shift: float = 0.05,
        brightness: float = 0.1,
        contrast: float = 0.1,
    ) -> None:
        """Store the amounts."""
        shares = {"scale": scale, "shift": shift, "brightness": brightness, "contrast": contrast}
        for name, amount in shares.items():
            if not 0 <= amount < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {amount}.")
        if not 0 <= rotation_degrees <= 180:
            raise ConfigError(f"rotation_degrees must lie between 0 and 180, got {rotation_degrees}.")
        self.rotation_degrees = rotation_degrees
        self.scale = scale
        self.shift = shift
        self.brightness = brightness
        self.contrast = contrast

    def __call__(self, images: Tensor) -> Tensor:
        """Distort images.

        Args:
            images: Shape ``(N, C, height, width)``, float32 in [-1, 1].

        Returns:
            The same shape and range.

        Raises:
            DataError: If the images are not 2-D ones.
        """
        if images.ndim != 4:
            raise DataError(
                f"ClassicalAugmentation takes images of shape (N, C, height, width), got {tuple(images.shape)}."
            )
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        factor = 1 + self.contrast * _uniform(images)
        images = (images - mean) * factor + mean + self.brightness * _uniform(images)
        images = images.clamp(-1, 1)
        grid = F.affine_grid(self._matrices(images), list(images.shape), align_corners=False)
        # grid_sample fills with 0, which is to be black here.
        return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1

    def _matrices(self, images: Tensor) -> Tensor:
        """Return where each output pixel comes from, ``(N, 2, 3)``, in coordinates that are -1 and 1 at the edges."""
        height, width = images.shape[2:]
        angle, scale, right, down = (_uniform(images).flatten() for _ in range(4))
        angle = math.radians(self.rotation_degrees) * angle
        scale = 1 / (1 + self.scale * scale)
        cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
        # Coordinates count in half sides, so that a rotation by pixels stretches where sides differ.
        rows = [
            torch.stack([cosine, -sine * (height / width), 2 * self.shift * right], dim=1),
            torch.stack([sine * (width / height), cosine, 2 * self.shift * down], dim=1),
        ]
        return torch.stack(rows, dim=1)


def _uniform(images: Tensor) -> Tensor:
    """Draw a number in [-1, 1) for each image, broadcastable over it."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) * 2 - 1
