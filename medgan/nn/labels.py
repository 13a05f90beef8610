"""Labels as what networks take."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

__all__ = ["label_vectors"]


def label_vectors(
    labels: Tensor, num_labels: int, kind: Literal["categorical", "ordinal", "multilabel", "continuous"]
) -> Tensor:
    """Return labels as float vectors: classes one-hot, findings and quantities as they are.

    What is not known (NaN) counts as neutral: a finding as half present, a quantity as 0.

    Args:
        labels: As in `medgan.core.Batch`.
        num_labels: Number K of classes, findings or quantities.
        kind: What the labels are, as in `medgan.core.LabelSpec`.

    Returns:
        Shape ``(N, K)``, float32.
    """
    if kind in ("categorical", "ordinal"):
        return F.one_hot(labels, num_labels).float()
    return labels.float().masked_fill(labels.isnan(), 0.5 if kind == "multilabel" else 0.0)
