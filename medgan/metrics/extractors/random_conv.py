"""Features of a convolutional network with random weights: no file, no network, no training set to be biased by."""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.errors import DataError
from medgan.metrics.extractors.base import Extractor, InputSpec

__all__ = ["RandomConv"]

_VERSION = 1  # raise it whenever the same seed would give other features
_WIDTHS = (16, 32, 64, 128)


class RandomConv(Extractor):
    """Mean and standard deviation of every channel of four random convolutions: 480 features.

    Each stage is a 3 × 3 convolution without bias and a leaky rectifier, averaged to half its size for the next; half
    of the filters add up to 0. Random features tell distributions apart without what a training set deems important
    (Naeem et al., arXiv:2002.09797, use them for precision and recall); they know nothing of anatomy, so take them
    beside others. The weights are uniform numbers of PyTorch's generator on the CPU, the same on every machine but for
    rounding.

    Images are read at their own size, so both sides of a comparison need the same one. Channels have scales of their
    own: standardise them before any distance.
    """

    name = "random-conv"
    dim = 2 * sum(_WIDTHS)
    input = InputSpec(3)
    needs_standardizing = True

    def __init__(self, seed: int = 0, *, device: str | torch.device = "cpu") -> None:
        """Draw the weights.

        Args:
            seed: Another seed gives other features, and so a name of its own.
            device: Where to compute.
        """
        generator = torch.Generator().manual_seed(seed)
        weights = nn.ParameterList()
        for before, after in zip((3, *_WIDTHS), _WIDTHS, strict=False):
            # Uniform with the variance 2 / fan-in: the scale of the features does not fade from stage to stage.
            bound = math.sqrt(6 / (before * 9))
            weight = (2 * torch.rand(after, before, 3, 3, generator=generator) - 1) * bound
            # Half of the filters do not see brightness, which would outweigh everything else.
            weight[: after // 2] -= weight[: after // 2].mean((1, 2, 3), keepdim=True)
            weights.append(nn.Parameter(weight, requires_grad=False))
        self.device = torch.device(device)
        self.name = "random-conv" if seed == 0 else f"random-conv (seed {seed})"
        self._weights = weights.to(self.device)
        definition = f"random-conv {_VERSION}, seed {seed}, widths {_WIDTHS}"
        self.sha256 = hashlib.sha256(definition.encode()).hexdigest()

    def extract(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 480)``."""
        smallest = 2 ** len(_WIDTHS)
        if min(images.shape[2:]) < smallest:
            height, width = images.shape[2:]
            raise DataError(f"random-conv reads images of {smallest} pixels or more, got {height} × {width}.")
        features = []
        for weight in self._weights:
            # Leaky: a rectified channel whose weights are negative would be 0 for every image.
            images = F.leaky_relu(F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), weight), 0.2)
            features += [images.mean((2, 3)), images.std((2, 3), correction=0)]
            images = F.avg_pool2d(images, 2)
        return torch.cat(features, 1)
