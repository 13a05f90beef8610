"""Losses on realness and labels, and penalties: tensors in, a scalar out, nothing else.

`realness` is what a discriminator says of each image, shape ``(N,)``, unbounded; higher is more
real. Everything is computed in float32, also under automatic mixed precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "hinge_discriminator",
    "hinge_generator",
    "l2_penalty",
    "label_loss",
    "least_squares",
    "non_saturating_discriminator",
    "non_saturating_generator",
]


def least_squares(realness: Tensor, target: float) -> Tensor:
    """Mean squared distance of the realness from a target (LSGAN).

    Args:
        realness: Shape ``(N,)``.
        target: 1 for images that shall pass as real, 0 for the others.

    Returns:
        Scalar, at least 0.

    References:
        Mao et al., 2017, arXiv:1611.04076.
    """
    return (realness.float() - target).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator, ``E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))]``.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of generated images, shape ``(M,)``.

    Returns:
        Scalar, at least 0; 2 when the discriminator says 0 of everything.

    References:
        Lim and Ye, 2017, arXiv:1705.02894; Miyato et al., 2018, arXiv:1802.05957.
    """
    return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Loss of the generator against a hinge discriminator, ``−E[D(G(z))]``.

    Args:
        fake: Realness of generated images, shape ``(N,)``.

    Returns:
        Scalar, unbounded.

    References:
        Lim and Ye, 2017, arXiv:1705.02894.
    """
    return -fake.float().mean()


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of the discriminator on logits, ``E[softplus(−D(x))] + E[softplus(D(G(z)))]``.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of generated images, shape ``(M,)``.

    Returns:
        Scalar, at least 0; 2 log 2 when the discriminator says 0 of everything.

    References:
        Goodfellow et al., 2014, arXiv:1406.2661.
    """
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """Non-saturating loss of the generator on logits, ``E[softplus(−D(G(z)))]``.

    Args:
        fake: Realness of generated images, shape ``(N,)``.

    Returns:
        Scalar, at least 0.

    References:
        Goodfellow et al., 2014, arXiv:1406.2661.
    """
    return F.softplus(-fake.float()).mean()


def l2_penalty(weights: Iterable[Tensor], scale: float) -> Tensor:
    """Sum of squares of some weights, times a scale (an L2 kernel regulariser).

    Args:
        weights: Tensors of any shape; at least one.
        scale: Factor of the sum; there is no factor of one half.

    Returns:
        Scalar, at least 0.
    """
    return scale * torch.stack([weight.float().square().sum() for weight in weights]).sum()


def label_loss(
    logits: Tensor, labels: Tensor, kind: Literal["categorical", "ordinal", "multilabel", "continuous"]
) -> Tensor:
    """Loss of an auxiliary head that has to say the label, its mean over all that is known.

    Classes, also ordinal ones, whose order it does not know: cross-entropy of the softmax. Findings:
    binary cross-entropy of each. Quantities: squared error, of the head's numbers as they are.

    Args:
        logits: What the head says, unnormalised, shape ``(N, K)``.
        labels: As in `medgan.core.Batch`. NaN in those of shape ``(N, K)`` means that an entry is not
            known: it counts neither in the sum nor in the number.
        kind: What the labels are, as in `medgan.core.LabelSpec`.

    Returns:
        Scalar, at least 0; 0, with a gradient of zeros, if nothing is known.
    """
    logits = logits.float()
    if kind in ("categorical", "ordinal"):
        return F.cross_entropy(logits, labels)
    known = ~labels.isnan()
    # Filled before the loss: the gradient of NaN is NaN even where it is multiplied by zero.
    targets = labels.float().where(known, 0)
    loss = F.binary_cross_entropy_with_logits if kind == "multilabel" else F.mse_loss
    return (loss(logits, targets, reduction="none") * known).sum() / known.sum().clamp(min=1)
