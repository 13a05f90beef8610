"""What an extractor is: images in, one row of features an image out, and enough facts to know which features."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError, DataError, PluginError
from medgan.metrics.resizing import Resizer, resize

__all__ = ["Extractor", "InputSpec", "check_images", "module_sha256"]

_SLACK = 1e-3  # beyond [-1, 1] that rounding explains


@dataclass(frozen=True)
class InputSpec:
    """What an extractor's `Extractor.extract` is given.

    Attributes:
        channels: 1 or 3. Grey images are repeated to three channels, colour ones are averaged to one.
        size: Height and width in pixels; None for images as they are.
        low: What black, -1 in medgan, becomes.
        high: What white, 1 in medgan, becomes.
        bits: 8 if images are rounded to 256 levels first; None if they keep their precision.
        resizer: How images come to `size`; without a size, how the extractor itself resizes; None if nothing does.
    """

    channels: Literal[1, 3] = 3
    size: tuple[int, int] | None = None
    low: float = -1.0
    high: float = 1.0
    bits: Literal[8] | None = None
    resizer: Resizer | None = None

    def __post_init__(self) -> None:
        """Check that the fields go together.

        Raises:
            ConfigError: If there is a size without a resizer.
        """
        if self.size is not None and self.resizer is None:
            raise ConfigError(f"Images come to the size {self.size} by a resizer: choose clean or torch-fidelity.")

    def prepare(self, images: Tensor) -> Tensor:
        """Bring images to what the extractor reads.

        Args:
            images: Shape ``(N, C, height, width)``, float32 in [-1, 1], with 1 or 3 channels.

        Returns:
            Shape ``(N, channels, *size)``, float32 in [low, high].
        """
        # 0...255 in between: there, 8 bits are whole numbers, and the values agree with torch-fidelity's bit for bit.
        prepared = (images + 1) * 127.5
        if self.bits == 8:
            prepared = prepared.round().clamp(0, 255)
        if prepared.shape[1] > self.channels:
            prepared = prepared.mean(1, keepdim=True)
        if self.size is not None and self.resizer is not None:
            # Grey is resized once and repeated afterwards. Bicubic weights overshoot, which is no intensity.
            prepared = resize(prepared, self.size, self.resizer).clamp(0, 255)
        if prepared.shape[1] < self.channels:
            prepared = prepared.expand(-1, self.channels, -1, -1)
        return prepared * ((self.high - self.low) / 255) + self.low

    def notes(self, channels: int) -> tuple[str, ...]:
        """Say what images of so many channels lose or gain on their way in, for the report."""
        notes = []
        if channels < self.channels:
            notes.append("grey replicated to RGB")
        if channels > self.channels:
            notes.append("colour averaged to grey")
        if self.bits is not None:
            notes.append(f"rounded to {self.bits} bits")
        return tuple(notes)


class Extractor(ABC):
    """Turns pictures into features; a subclass sets the attributes and defines `extract`.

    Attributes:
        name: What numbers from these features are labelled with.
        sha256: 64 hexadecimal digits that change with the weights, or with the definition where there are none.
        input: What `extract` is given.
        layer: Which of the network's layers the features come from, "" if there is but one.
        dim: Features an image; None where only the features tell.
        classes: Number of logits that `logits` returns; 0 if there are none, and so no inception score.
        is_fid: Whether a Fréchet distance on these features is the one that publications call FID.
        needs_standardizing: Whether the features have units of their own, so that distances need
            `medgan.metrics.features.standardize` first.
        notes: What a report must say of all numbers from these features.
        device: Where it computes.
    """

    name: str
    sha256: str
    input: InputSpec
    layer: str = ""
    dim: int | None = None
    classes: int = 0
    is_fid: bool = False
    needs_standardizing: bool = False
    notes: tuple[str, ...] = ()
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """Compute the features; called without gradients.

        Args:
            images: As `input` says, on `device`.

        Returns:
            Shape ``(N, D)``.
        """

    @final
    def __call__(self, images: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            images: Shape ``(N, C, height, width)``, float32 in [-1, 1], with 1 or 3 channels.

        Returns:
            Shape ``(N, D)``, float32, on `device`. An image's features do not depend on the others of its batch,
            save for rounding.

        Raises:
            DataError: If the images are not like that, or give features that are not finite.
            PluginError: If the extractor returns something else.
        """
        check_images(images)
        # TF32 keeps 10 bits of a factor: features would depend on the graphics card.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            features = self.extract(self.input.prepare(images.to(self.device))).float()
        if features.ndim != 2 or len(features) != len(images) or self.dim not in (None, features.shape[1]):
            wanted = f"({len(images)}, {self.dim or 'D'})"
            raise PluginError(f"Extractor {self.name!r} returned shape {tuple(features.shape)}; expected {wanted}.")
        finite = features.isfinite().all(1)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            raise DataError(f"Image {first} of its batch has features that are not finite under {self.name!r}.")
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Compute the logits that belong to features, for the inception score.

        Args:
            features: Shape ``(N, D)``, float32: what a call returned, or the same from the cache.

        Returns:
            Shape ``(N, classes)``, float32.

        Raises:
            ConfigError: If the extractor has none.
        """
        raise ConfigError(
            f"Extractor {self.name!r} has no classes, so there is no inception score; type --extractor inception."
        )


def check_images(images: Tensor) -> None:
    """Check that images are pictures as medgan keeps them.

    Raises:
        DataError: Unless the shape is ``(N, C, height, width)`` with 1 or 3 channels, the dtype float32 and all values
            lie in [-1, 1].
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        hint = " Take slices of volumes first." if images.ndim == 5 else ""
        raise DataError(f"Extractors read images of shape (N, 1 or 3, height, width), got {tuple(images.shape)}.{hint}")
    if images.dtype != torch.float32:
        raise DataError(
            f"Extractors read float32 images in [-1, 1], got {images.dtype}. Scale them: pixels / 127.5 - 1"
        )
    if not images.numel():
        raise DataError(f"There is no image to extract features of: the shape is {tuple(images.shape)}.")
    low, high = images.aminmax()
    if not (low >= -1 - _SLACK and high <= 1 + _SLACK):  # NaN fails both
        raise DataError(
            f"Extractors read images in [-1, 1], got values from {float(low):g} to {float(high):g}. "
            "Scale them by the range that they can have, such as pixels / 127.5 - 1"
        )


def module_sha256(module: nn.Module, *facts: str) -> str:
    """Hash a module's weights and buffers with their names.

    Args:
        module: Any module.
        facts: What else the features depend on, such as the layer.

    Returns:
        64 hexadecimal digits; the same on every machine for the same weights.
    """
    digest = hashlib.sha256("\n".join(facts).encode())
    for name, value in sorted(module.state_dict().items()):
        # BatchNorm counts its batches, which no feature depends on.
        if isinstance(value, Tensor) and not re.search(r"(^|\.)num_batches_tracked$", name):
            digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
