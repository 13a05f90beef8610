"""Labels as what networks take."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

__all__ = ["fill_unknown", "label_vectors"]


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

    What is not known counts as neutral; see `fill_unknown`.

    Args:
        labels: As in `medgan.core.Batch`.
        num_labels: Number K of classes, findings or quantities.
        kind: What the labels are, as in `medgan.core.LabelSpec`.

    Returns:
        Shape ``(N, K)``, float32.
    """
    if kind == "categorical" or kind == "ordinal":
        return F.one_hot(labels, num_labels).float()
    return fill_unknown(labels.float(), kind)
