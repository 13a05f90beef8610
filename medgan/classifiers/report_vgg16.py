"""The classifier of the study that medgan's ACGAN began with, layer by layer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from medgan.classifiers.backbones import empty_vgg16
from medgan.classifiers.base import Classifier, Recipe
from medgan.errors import ConfigError

__all__ = ["ReportVGG16"]


class ReportVGG16(Classifier):
    """VGG16's convolutions and a small head, for two classes; 14,785,153 parameters, BatchNorm's statistics counted.

    The 13 convolutions without weights, the maximum over the last map (512) → Dropout 0.4 → Dense 128 → BatchNorm →
    LeakyReLU 0.2 → Dropout 0.4 → Dense 32 → BatchNorm → LeakyReLU 0.2 → Dropout 0.4 → Dense 1.

    It was built with Keras, whose ways are kept: weights from Glorot's uniform distribution and biases of 0, also those
    of the convolutions; BatchNorm with momentum 0.99 (0.01 in PyTorch's terms) and epsilon 0.001; images in [0, 1], of
    three equal channels where they are grey; Adam at the constant rate 1e-5 with epsilon 1e-7. What differs is below
    any effect of a seed: PyTorch's running variance is the unbiased one (64/63 at a batch of 64), and its Adam adds
    epsilon after correcting the second moment's bias.

    It trains slowly, as the rate is low and nothing is normalised before the head: thousands of steps are needed.

    References:
        K. Simonyan and A. Zisserman, 2014, arXiv:1409.1556.
    """

    name = "report-vgg16"
    recipe = Recipe("adam", learning_rate=1e-5, weight_decay=0.0, batch_size=64, schedule="constant", epsilon=1e-7)
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    smallest = 32

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Make the layers."""
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        if multilabel or num_classes != 2:
            got = f"{num_classes} findings" if multilabel else f"{num_classes} classes"
            raise ConfigError(
                f"Classifier 'report-vgg16' tells two classes apart, got {got}. Type vgg16, or another of: "
                "small-cnn, resnet18, densenet121."
            )
        if channels not in (1, 3):
            raise ConfigError(f"Classifier 'report-vgg16' takes 1 or 3 channels, got {channels}.")
        self.convolutions = empty_vgg16()
        self.hidden = nn.Sequential(
            nn.Dropout(0.4),
            *(nn.Linear(512, 128), nn.BatchNorm1d(128, eps=1e-3, momentum=0.01), nn.LeakyReLU(0.2), nn.Dropout(0.4)),
            *(nn.Linear(128, 32), nn.BatchNorm1d(32, eps=1e-3, momentum=0.01), nn.LeakyReLU(0.2), nn.Dropout(0.4)),
        )
        self.head = nn.Linear(32, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features, shape ``(N, 32)``, of images ``(N, 1 or 3, height, width)`` in [-1, 1]."""
        scaled = ((images + 1) / 2).expand(-1, 3, -1, -1)
        features: Tensor = self.hidden(self.convolutions(scaled).amax(dim=(2, 3)))
        return features
