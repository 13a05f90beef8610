"""A small residual network for processors without an accelerator."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medgan.classifiers.base import Classifier, Recipe

__all__ = ["SmallCNN"]

_WIDTHS = (24, 48, 96)


class SmallCNN(Classifier):
    """A residual network of some 0.3 million parameters, for images from 16 pixels and for volumes."""

    name = "small-cnn"
    recipe = Recipe("adamw", learning_rate=2e-3, weight_decay=0.05)
    smallest = 16

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Make the layers."""
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        dims = len(size)
        layers: list[nn.Module] = []
        before = channels
        for width in _WIDTHS:
            layers += [_convolution(before, width, dims, stride=2), _Residual(width, dims)]
            before = width
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(before, self.num_logits)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 128)``."""
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
