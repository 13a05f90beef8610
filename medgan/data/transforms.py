"""The one way in which medgan brings an image to its size, and to its channels.

Training, evaluation and metrics must resize alike: a Fréchet distance between images of two resizers measures the
resizers. Whatever needs an image of another size takes `Resizer` from here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError, nearest

__all__ = ["Fit", "Resizer", "to_colour", "to_grey"]

Fit = Literal["stretch", "pad", "crop"]
"""How an image of other proportions comes to its size; see `Resizer`."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's convert("L")
_LINEAR = {2: "bilinear", 3: "trilinear"}  # torch's names, by number of axes


def to_grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce an image to one channel by its luma (ITU-R BT.601).

    Args:
        image: Shape ``(3, *spatial)`` or ``(1, *spatial)``, any range.

    Returns:
        Shape ``(1, *spatial)``, the same range; grey images come back unchanged.
    """
    if len(image) == 1:
        return image
    if (image[0] == image[1]).all() and (image[0] == image[2]).all():
        return image[:1]  # exactly, without the rounding of a weighted sum
    grey: NDArray[np.float32] = np.tensordot(_LUMA, image, axes=1)[None]
    # The rounding of the sum can leave the range by 1e-7.
    return np.clip(grey, image.min(), image.max())


def to_colour(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give an image three channels.

    Args:
        image: Shape ``(3, *spatial)`` or ``(1, *spatial)``, any range.

    Returns:
        Shape ``(3, *spatial)``, the same range; a grey image is repeated, one of three channels comes back unchanged.
    """
    return image if len(image) == 3 else np.repeat(image, 3, axis=0)


class Resizer:
    """Bring images to one size: averages along the axes that shrink, linear interpolation along those that grow.

    Pictures come out as those of MONAI's ``Resize(mode="area")`` or ``Resize(mode="bilinear")``, in a fifth of the
    time, as nothing is recorded of the image's history. Plain linear shrinking, which skips pixels, is never used.
    """

    def __init__(self, size: tuple[int, ...], fit: Fit = "stretch") -> None:
        """Choose the size.

        Args:
            size: Wanted ``(height, width)`` in pixels, or ``(depth, height, width)`` in voxels.
            fit: ``stretch`` fills the size and may change the proportions; ``pad`` keeps the proportions and adds
                black borders (which a generator will learn to draw); ``crop`` keeps them and cuts what stands out.
                The proportions of a volume are counted in voxels.

        Raises:
            ConfigError: If `fit` is unknown, a length is below 1, or there are not two or three of them.
        """
        if fit not in get_args(Fit):
            raise ConfigError(f"fit={fit!r} is unknown. {nearest(str(fit), get_args(Fit))}")
        if len(size) not in _LINEAR or min(size) < 1:
            raise ConfigError(f"size must hold two or three positive lengths such as (64, 64), got {size}.")
        self.size = size
        self.fit = fit

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Resizer({self.size}, {self.fit!r})"

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize one image.

        Args:
            image: Shape ``(channels, height, width)`` or ``(channels, depth, height, width)``, as the size has axes;
                float32, any finite range.

        Returns:
            Shape ``(channels, *size)``, float32, within the range of the input (and 0, when padded).

        Raises:
            ValueError: If image and size have different numbers of axes.
        """
        found = image.shape[1:]
        if len(found) != len(self.size):
            raise ValueError(f"an image of shape {image.shape}, channels first, cannot come to the size {self.size}")
        if found == self.size:
            return image
        sides = (max(1, round(length * scale)) for length, scale in zip(found, self.scales(found), strict=True))
        return _centre(_stretch(image, tuple(sides)), self.size)

    def scales(self, found: tuple[int, ...]) -> list[float]:
        """Return by how much an image is scaled along each axis, before padding or cropping.

        Args:
            found: The image's lengths, as many as the size has.

        Returns:
            One factor an axis, above 1 where the image grows.
        """
        scales = [wanted / length for wanted, length in zip(self.size, found, strict=True)]
        if self.fit == "stretch":
            return scales
        return [min(scales) if self.fit == "pad" else max(scales)] * len(scales)


def _stretch(image: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Resize without keeping the proportions."""
    import torch  # takes seconds, so only where it is needed

    found = image.shape[1:]
    if found == size:
        return image
    stretched = torch.from_numpy(np.require(image, np.float32, ["C", "W"]))[None]  # torch warns of read-only arrays
    shrunk = tuple(map(min, found, size))
    if shrunk != found:
        stretched = torch.nn.functional.interpolate(stretched, size=shrunk, mode="area")
    if shrunk != size:
        stretched = torch.nn.functional.interpolate(stretched, size=size, mode=_LINEAR[len(size)], align_corners=False)
    # Rounding can leave the range by 1e-7.
    resized: NDArray[np.float32] = stretched[0].numpy()
    return np.clip(resized, image.min(), image.max())


def _centre(image: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Centre the image in `size`: zeros where it is smaller, cut where it is larger."""
    if image.shape[1:] == size:
        return image
    centred = np.zeros((len(image), *size), dtype=image.dtype)
    source, target = [slice(None)], [slice(None)]
    for found, wanted in zip(image.shape[1:], size, strict=True):
        kept = min(found, wanted)
        source.append(slice(found // 2 - kept // 2, found // 2 - kept // 2 + kept))
        target.append(slice((wanted - kept) // 2, (wanted - kept) // 2 + kept))
    centred[tuple(target)] = image[tuple(source)]
    return centred
