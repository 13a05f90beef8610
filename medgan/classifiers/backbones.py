"""Three well-known networks, untrained, from torchvision and for volumes from MONAI; only their heads are ours."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18, vgg16

from medgan.classifiers.base import Classifier, Recipe

__all__ = ["VGG16", "DenseNet121", "ResNet18", "empty_vgg16"]

_CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


def empty_vgg16() -> nn.Sequential:
    """Return the 13 convolutions of VGG16, with rectifiers and pooling; whoever calls it draws the weights."""
    # Without memory behind it: torchvision makes the 124 million weights of its own head as well.
    with torch.device("meta"):
        network = vgg16(weights=None, init_weights=False)
    convolutions: nn.Sequential = network.features.to_empty(device="cpu")
    return convolutions


class VGG16(Classifier):
    """VGG16's convolutions, averaged over the last map, with dropout 0.5 before the head; 14.7 million parameters.

    There is no BatchNorm, and five poolings divide the sides by 32: an image of 64 × 64 pixels ends as a map of 2 × 2,
    one of 32 × 32, the smallest, as a single pixel. The stem is the same at all sizes.

    References:
        K. Simonyan and A. Zisserman, 2014, arXiv:1409.1556.
    """

    name = "vgg16"
    recipe = Recipe("adamw", learning_rate=1e-4, weight_decay=0.01)
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    smallest = 32

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Make the layers and draw their weights as torchvision does."""
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        self.convolutions = empty_vgg16()
        self.convolutions[0] = nn.Conv2d(channels, 64, 3, padding=1)
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(512, self.num_logits)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 512)``."""
        features: Tensor = self.dropout(self.convolutions(images).mean(dim=(2, 3)))
        return features


class ResNet18(Classifier):
    """ResNet-18, 11 million parameters (33 million for volumes): torchvision's, or MONAI's for volumes.

    The published stem divides the sides by 4 before the first block, and the blocks by 8 after it, so that small images
    would end as one pixel. Here the stem divides by 4 from sides of 128 pixels, by 2 (no pooling) from 64, and by 1 (no
    stride either) below: the last map has 4 pixels or more on a side of 32 or more. The shortest side counts.

    References:
        K. He et al., 2015, arXiv:1512.03385.
    """

    name = "resnet18"
    recipe = Recipe("adamw", learning_rate=1e-3, weight_decay=0.05)

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Make the layers."""
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        if len(size) == 2:
            self.network = resnet18(weights=None)
        else:
            from monai.networks.nets.resnet import resnet18 as volume_resnet18

            self.network = volume_resnet18(spatial_dims=3, shortcut_type="B", bias_downsample=False)
        stride, pooled = _stem(size)
        self.network.conv1 = _first_convolution(channels, len(size), stride)
        if not pooled:
            self.network.maxpool = nn.Identity()
        self.network.fc = nn.Identity()
        self.head = nn.Linear(512, self.num_logits)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 512)``."""
        features: Tensor = self.network(images)
        return features


class DenseNet121(Classifier):
    """DenseNet-121, 7 million parameters (11 million for volumes): torchvision's, or MONAI's for volumes.

    The stem divides the sides as that of `ResNet18` does: by 4 from 128 pixels, by 2 from 64, by 1 below.

    References:
        G. Huang et al., 2016, arXiv:1608.06993.
    """

    name = "densenet121"
    recipe = Recipe("adamw", learning_rate=1e-3, weight_decay=0.05)

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Make the layers."""
        super().__init__(channels=channels, size=size, num_classes=num_classes, multilabel=multilabel)
        if len(size) == 2:
            self.network = densenet121(weights=None)
            self.network.classifier = nn.Identity()
        else:
            from monai.networks.nets.densenet import DenseNet121 as VolumeDenseNet121

            self.network = VolumeDenseNet121(spatial_dims=3, in_channels=channels, out_channels=1)
            self.network.class_layers.out = nn.Identity()
        stride, pooled = _stem(size)
        self.network.features.conv0 = _first_convolution(channels, len(size), stride)
        if not pooled:
            self.network.features.pool0 = nn.Identity()
        self.head = nn.Linear(1024, self.num_logits)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features: shape ``(N, 1024)``."""
        features: Tensor = self.network(images)
        return features


def _stem(size: tuple[int, ...]) -> tuple[int, bool]:
    """Return the stride of the first convolution, and whether pooling follows."""
    shortest = min(size)
    return (2 if shortest >= 64 else 1), shortest >= 128


def _first_convolution(channels: int, dims: int, stride: int) -> nn.Module:
    """Return the published first convolution, for another number of channels and with another stride."""
    convolution = _CONVOLUTIONS[dims](channels, 64, 7, stride=stride, padding=3, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
