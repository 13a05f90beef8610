"""A small residual network for processors without an accelerator."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from medgan.classifiers.base import Classifier, Recipe

__all__ = ["SmallCNN"]

_WIDTHS = (16, 32, 64, 96)


class SmallCNN(Classifier):
    """A residual network of 0.34 million parameters (1 million for volumes), for images from 16 pixels a side.

    Four convolutions of stride 2 (16, 32, 64 and 96 channels), the last three followed by a residual block each, then
    the mean over the last map, dropout 0.2 and the head; BatchNorm and rectifiers throughout. An image of 64 × 64
    pixels ends as a map of 4 × 4, one of 16 × 16 as a single pixel. It is dense 3 × 3 convolutions of multiples of 16
    channels on maps that shrink at once, as that is what processors are good at: a training takes 64 × 64 grey images
    at some 900 a second on one thread.

    References:
        K. He et al., 2015, arXiv:1512.03385 (the residual block).
    """

    name = "small-cnn"
    recipe = Recipe("adamw", learning_rate=2e-3, weight_decay=0.05)
    smallest = 16

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Make the layers."""
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        dims = len(size)
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *_WIDTHS)):
            layers.append(_convolution(before, after, dims, stride=2))
            # None at the first width: there are most pixels, and so most of the time would go there.
            if after > _WIDTHS[0]:
                layers.append(_Residual(after, dims))
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(_WIDTHS[-1], self.num_logits)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 96)``."""
        features: Tensor = self.dropout(self.body(images).flatten(2).mean(2))
        return features


def _convolution(before: int, after: int, dims: int, *, stride: int = 1) -> nn.Sequential:
    """Return a 3 × 3 (× 3) convolution, normalised and rectified."""
    convolution, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    layer = convolution(before, after, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, norm(after), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, width: int, dims: int) -> None:
        super().__init__()
        first, second = _convolution(width, width, dims), _convolution(width, width, dims)
        self.residual = nn.Sequential(first, *second[:2])

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(images + self.residual(images), inplace=True)
