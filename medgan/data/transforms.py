"""The one way in which medgan brings an image to its size.

Training, evaluation and metrics must resize alike: a Fréchet distance between images of two resizers measures the
resizers. Whatever needs an image of another size takes `Resizer` from here.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError, nearest

__all__ = ["Aspect", "Resizer", "to_grey"]

Aspect = Literal["stretch", "pad", "crop"]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's convert("L")


def to_grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce an image to one channel by its luma (ITU-R BT.601).

    Args:
        image: Shape ``(3, height, width)`` or ``(1, height, width)``, any range.

    Returns:
        Shape ``(1, height, width)``, the same range; grey images come back unchanged.
    """
    if len(image) == 1:
        return image
    if (image[0] == image[1]).all() and (image[0] == image[2]).all():
        return image[:1]  # exactly, without the rounding of a weighted sum
    grey: NDArray[np.float32] = np.tensordot(_LUMA, image, axes=1)[None]
    return grey


class Resizer:
    """Bring images to one size: area averages when they shrink, linear interpolation when they grow.

    An image that shrinks along one axis and grows along the other is smoothed along the first (MONAI's
    ``anti_aliasing``) and interpolated. Plain bilinear shrinking, which skips pixels, is never used.
    """

    def __init__(self, size: tuple[int, int], aspect: Aspect = "stretch") -> None:
        """Choose the size.

        Args:
            size: Wanted ``(height, width)`` in pixels.
            aspect: ``stretch`` fills the size and may change the proportions; ``pad`` keeps the proportions and adds
                black borders (which a generator will learn to draw); ``crop`` keeps them and cuts what stands out.

        Raises:
            ConfigError: If `aspect` is unknown or a length is below 1.
        """
        if aspect not in get_args(Aspect):
            raise ConfigError(f"aspect={aspect!r} is unknown. {nearest(str(aspect), get_args(Aspect))}")
        if min(size) < 1:
            raise ConfigError(f"size must hold positive lengths such as (64, 64), got {size}.")
        self.size = size
        self.aspect = aspect
        self._resizers: dict[tuple[tuple[int, int], str], Any] = {}

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize one image.

        Args:
            image: Shape ``(channels, height, width)``, float32, any finite range.

        Returns:
            Shape ``(channels, *size)``, float32, within the range of the input (and 0, when padded).
        """
        height, width = image.shape[1:]
        if (height, width) == self.size:
            return image
        scales = (self.size[0] / height, self.size[1] / width)
        if self.aspect == "stretch":
            return self._resize(image, self.size)
        scale = min(scales) if self.aspect == "pad" else max(scales)
        resized = self._resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))
        return self._pad_or_crop(resized)

    def _resize(self, image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Stretch to `size` with MONAI."""
        if image.shape[1:] == size:
            return image
        shrinks = image.shape[1] >= size[0] and image.shape[2] >= size[1]
        mode = "area" if shrinks else "bilinear"
        if (size, mode) not in self._resizers:
            from monai.transforms.spatial.array import Resize  # takes seconds, so only where it is needed

            self._resizers[size, mode] = Resize(size, mode=mode, anti_aliasing=not shrinks)
        resized = self._resizers[size, mode](np.ascontiguousarray(image))
        # MONAI hands back its MetaTensor; only a plain array may leave. Rounding can leave the range by 1e-7.
        plain: NDArray[np.float32] = resized.as_tensor().numpy()
        return np.clip(plain, image.min(), image.max())

    def _pad_or_crop(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Centre the image in `size`: zeros where it is smaller, cut where it is larger."""
        from monai.transforms.croppad.array import ResizeWithPadOrCrop

        centre: Any = ResizeWithPadOrCrop(self.size, mode="constant")
        centred: NDArray[np.float32] = centre(image).as_tensor().numpy()
        return centred
