"""Labels as what networks take."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LabelEmbedding", "Projection", "fill_unknown", "label_planes", "label_vectors"]


def fill_unknown(labels: Tensor, kind: Literal["multilabel", "continuous"]) -> Tensor:
    """Return findings or quantities with what is not known (NaN) as neutral: a finding half present, a quantity 0.

    Args:
        labels: Shape ``(N, K)``, as in `medgan.core.Batch`.
        kind: What they are.
    """
    return labels.masked_fill(labels.isnan(), 0.5 if kind == "multilabel" else 0.0)


def label_vectors(
    labels: Tensor, num_labels: int, kind: Literal["categorical", "ordinal", "multilabel", "continuous"]
) -> Tensor:
    """Return labels as float vectors: classes one-hot, findings and quantities as they are.

    What is not known counts as neutral; see `fill_unknown`. Weights of classes, float ``(N, K)``, are vectors already;
    see `medgan.core.Generator.mixes_classes`.

    Args:
        labels: As in `medgan.core.Batch`, or weights of classes.
        num_labels: Number K of classes, findings or quantities.
        kind: What the labels are, as in `medgan.core.LabelSpec`.

    Returns:
        Shape ``(N, K)``, float32.
    """
    if kind == "categorical" or kind == "ordinal":
        return labels.float() if labels.is_floating_point() else F.one_hot(labels, num_labels).float()
    return fill_unknown(labels.float(), kind)


def label_planes(
    labels: Tensor | None,
    num_labels: int,
    kind: Literal["categorical", "ordinal", "multilabel", "continuous"],
    *,
    like: Tensor,
) -> Tensor:
    """Return labels as channels that are the same everywhere, to be put beside those of images.

    Args:
        labels: As in `label_vectors`; None for images that are to be looked at without their labels: of no class, all
            findings and quantities not known.
        num_labels: Number K of classes, findings or quantities.
        kind: What the labels are, as in `medgan.core.LabelSpec`.
        like: The images, shape ``(N, channels, *size)``.

    Returns:
        Shape ``(N, K, *size)``, of the type and on the device of the images.
    """
    if labels is None:
        vectors = like.new_full((like.shape[0], num_labels), 0.5 if kind == "multilabel" else 0.0)
    else:
        vectors = label_vectors(labels, num_labels, kind).to(like)
    return vectors[:, :, *[None] * (like.ndim - 2)].expand(-1, -1, *like.shape[2:])


class LabelEmbedding(nn.Embedding):
    """Embedding of classes, which takes weights of classes as well: see `medgan.core.Generator.mixes_classes`.

    Args:
        num_embeddings: Number K of classes.
        embedding_dim: Length of the vectors.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return vectors ``(N, embedding_dim)``, of class indices ``(N,)`` or as the mean by weights ``(N, K)``."""
        return input @ self.weight if input.is_floating_point() else super().forward(input)


class Projection(nn.Linear):
    """What a projection discriminator adds to the realness: ``(V y)·φ(x)``, V this layer, y the label's vector.

    As a linear layer without a bias it can be initialised like any other, and divided by its spectral norm.

    Args:
        num_labels: Number K of classes, findings or quantities.
        features: Length F of the features φ.
        kind: What the labels are, as in `medgan.core.LabelSpec`.

    References:
        Miyato and Koyama, 2018, arXiv:1802.05637.
    """

    def __init__(
        self, num_labels: int, features: int, kind: Literal["categorical", "ordinal", "multilabel", "continuous"]
    ) -> None:
        """Draw the weights, shape ``(F, K)``, as `torch.nn.Linear` does."""
        super().__init__(num_labels, features, bias=False)
        self.kind = kind

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return how much features are like those of the labels.

        Args:
            features: Shape ``(N, F)``.
            labels: As in `label_vectors`; what is not known counts as neutral.

        Returns:
            Shape ``(N,)``, unbounded.
        """
        embedded = super().forward(label_vectors(labels, self.in_features, self.kind))
        return (embedded * features).sum(dim=1)
