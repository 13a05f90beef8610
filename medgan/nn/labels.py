"""Labels as what networks take."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LabelEmbedding", "fill_unknown", "label_vectors"]


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


class LabelEmbedding(nn.Embedding):
    """Embedding of classes, which takes weights of classes as well: see `medgan.core.Generator.mixes_classes`.

    Args:
        num_embeddings: Number K of classes.
        embedding_dim: Length of the vectors.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return vectors ``(N, embedding_dim)``, of class indices ``(N,)`` or as the mean by weights ``(N, K)``."""
        return input @ self.weight if input.is_floating_point() else super().forward(input)
