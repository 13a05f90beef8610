"""Heads that say which label an image shows, for discriminators of class-conditional GANs.

With C the head's answer and y the label, all heads share one form:

    discriminator:  image_loss(real)  + fake_loss(fake)
    generator:      image_loss(fake)  − fake_loss(fake)

The auxiliary head (AC) is a plain linear layer, its image loss the cross-entropy of y, and it has no fake loss: nothing
but the label counts, so that a generator drifts to the images that are easiest to name. The heads here mend that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan import losses
from medgan.core.spec import LabelKind, LabelSpec

__all__ = ["ADCHead", "D2DCEHead", "LabelHead", "TwinHead"]

Reduction = Literal["mean", "none"]


class LabelHead(nn.Module, ABC):
    """Says which label an image shows, from a discriminator's features.

    Attributes:
        kinds: Kinds of labels that it can learn.
    """

    kinds: ClassVar[tuple[LabelKind, ...]]

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return the label logits ``(N, K)`` of features ``(N, F)``; see `DiscriminatorOutput`."""

    @abstractmethod
    def image_loss(self, features: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss of images as such of their labels.

        Args:
            features: Shape ``(N, F)``.
            labels: As in `medgan.core.Batch`.
            reduction: ``mean`` for a scalar, ``none`` for the loss of each image, ``(N,)``, where labels are classes.
        """

    def fake_loss(self, features: Tensor, labels: Tensor) -> Tensor | None:
        """Return what the discriminator adds for generated images, and the generator takes away; None for nothing."""
        return None


class TwinHead(LabelHead):
    """Auxiliary classifier with a twin that learns generated images (TAC).

    The fake loss is the twin's cross-entropy. What it can name more easily than the real images' classifier, the
    generator gives up: together they make the generator's labels as spread as the real ones. For labels of any kind.

    Args:
        features: Length of the features.
        labels: What the labels are.

    References:
        Gong et al., 2019, arXiv:1907.02690.
    """

    kinds = ("categorical", "ordinal", "multilabel", "continuous")

    def __init__(self, features: int, labels: LabelSpec) -> None:
        """Create the two classifiers."""
        super().__init__()
        self.kind = labels.kind
        self.main = nn.Linear(features, len(labels))
        self.twin = nn.Linear(features, len(labels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the main classifier's logits."""
        logits: Tensor = self.main(features)
        return logits

    def image_loss(self, features: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss of the main classifier."""
        return losses.label_loss(self.main(features), labels, self.kind, reduction=reduction)

    def fake_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the twin."""
        return losses.label_loss(self.twin(features), labels, self.kind)


class ADCHead(LabelHead):
    """Auxiliary discriminative classifier: names the label together with whether the image is real (ADC).

    2K classes y⁺ (real) and y⁻ (generated); of findings, 4 for each of them. See `losses.adc`.

    Args:
        features: Length of the features.
        labels: What the labels are: classes or findings.

    References:
        Hou et al., 2021, arXiv:2107.10060.
    """

    kinds = ("categorical", "ordinal", "multilabel")

    def __init__(self, features: int, labels: LabelSpec) -> None:
        """Create the classifier."""
        super().__init__()
        self.shape = (2, 2, len(labels)) if labels.kind == "multilabel" else (2, len(labels))
        self.classifier = nn.Linear(features, int(torch.Size(self.shape).numel()))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of the labels whether or not the images are real."""
        logits = self._logits(features).logsumexp(dim=1)
        return logits if logits.ndim == 2 else logits[:, 1] - logits[:, 0]

    def image_loss(self, features: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """Return the cross-entropy of the label on a real image."""
        return losses.adc(self._logits(features), labels, generated=False, reduction=reduction)

    def fake_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the label on a generated image."""
        return losses.adc(self._logits(features), labels, generated=True)

    def _logits(self, features: Tensor) -> Tensor:
        """Return the logits ``(N, 2, K)``, or ``(N, 2, 2, K)`` of findings."""
        logits: Tensor = self.classifier(features)
        return logits.view(-1, *self.shape)


class D2DCEHead(LabelHead):
    """Data-to-data cross-entropy on the unit sphere (ReACGAN); for classes.

    An image is drawn to its class's proxy, and pushed from the batch's images of other classes; what is near or far
    enough already has no gradient, and unit vectors cannot grow. See `losses.data_to_data_cross_entropy`.

    Args:
        features: Length of the features.
        labels: What the labels are.
        width: Length of the embedding.

    References:
        Kang et al., 2021, arXiv:2111.01118.
    """

    kinds = ("categorical", "ordinal")

    def __init__(self, features: int, labels: LabelSpec, width: int = 128) -> None:
        """Create the embedding and the proxies."""
        super().__init__()
        self.embedding = nn.Linear(features, width)
        self.proxies = nn.Parameter(torch.randn(len(labels), width))

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines with the proxies, over the temperature."""
        cosines: Tensor = F.normalize(self.embedding(features)) @ F.normalize(self.proxies).to(features).T
        return cosines / losses.D2DCE_TEMPERATURE

    def image_loss(self, features: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """Return the data-to-data cross-entropy."""
        return losses.data_to_data_cross_entropy(self.embedding(features), self.proxies, labels, reduction=reduction)
