"""Losses on realness, labels and images, and penalties: tensors in, a scalar out, nothing else.

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
    "D2DCE_TEMPERATURE",
    "adc",
    "data_to_data_cross_entropy",
    "hinge_discriminator",
    "hinge_generator",
    "l2_penalty",
    "label_loss",
    "least_squares",
    "lecam",
    "mean_absolute_error",
    "non_saturating_discriminator",
    "non_saturating_generator",
    "one_centred_gradient_penalty",
    "relativistic_discriminator",
    "relativistic_generator",
    "wasserstein_discriminator",
    "wasserstein_generator",
    "zero_centred_gradient_penalty",
]

D2DCE_TEMPERATURE = 0.5
"""Temperature of `data_to_data_cross_entropy`, as its authors have it."""


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


def non_saturating_discriminator(real: Tensor, fake: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the discriminator on logits, ``E[softplus(−D(x))] + E[softplus(D(G(z)))]``.

    With one-sided label smoothing s a real image is real with probability 1 − s only, and the first term becomes
    ``(1 − s) E[softplus(−D(x))] + s E[softplus(D(x))]``: beyond logit((1 − s) / s) more certainty costs.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of generated images, shape ``(M,)``.
        smoothing: The s above, in [0, 1].

    Returns:
        Scalar, at least 0; 2 log 2 when the discriminator says 0 of everything.

    References:
        Goodfellow et al., 2014, arXiv:1406.2661; Salimans et al., 2016, arXiv:1606.03498 (smoothing).
    """
    on_real = F.softplus(-real.float()).mean()
    if smoothing:
        on_real = (1 - smoothing) * on_real + smoothing * F.softplus(real.float()).mean()
    return on_real + F.softplus(fake.float()).mean()


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


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Negative estimate of the Wasserstein distance, ``E[D(G(z))] − E[D(x)]``.

    It is one only for a critic whose slope is bounded, by `one_centred_gradient_penalty` or spectral normalisation;
    without a bound it falls for ever.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of generated images, shape ``(M,)``.

    Returns:
        Scalar, unbounded.

    References:
        Arjovsky et al., 2017, arXiv:1701.07875.
    """
    return fake.float().mean() - real.float().mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """Loss of the generator against a Wasserstein critic, ``−E[D(G(z))]``.

    Args:
        fake: Realness of generated images, shape ``(N,)``.

    Returns:
        Scalar, unbounded.

    References:
        Arjovsky et al., 2017, arXiv:1701.07875.
    """
    return -fake.float().mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic loss on pairs, ``E[softplus(−(D(x) − D(G(z))))]``: the real one should look more real.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of the generated image of each pair, shape ``(N,)``; best of the same label.

    Returns:
        Scalar, at least 0; log 2 when both halves look alike.

    References:
        Jolicoeur-Martineau, 2018, arXiv:1807.00734; Huang et al., 2024, arXiv:2501.05441.
    """
    return F.softplus(fake.float() - real.float()).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic loss of the generator, ``E[softplus(−(D(G(z)) − D(x)))]``.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of the generated image of each pair, shape ``(N,)``.

    Returns:
        Scalar, at least 0; log 2 when both halves look alike.

    References:
        As `relativistic_discriminator`.
    """
    return F.softplus(real.float() - fake.float()).mean()


def lecam(real: Tensor, fake: Tensor, *, real_anchor: Tensor, fake_anchor: Tensor) -> Tensor:
    """LeCam regulariser, ``E[max(0, D(x) − α_F)²] + E[max(0, α_R − D(G(z)))²]``.

    Each half is drawn towards where the other one was of late, which bounds how far the discriminator can tell a small
    data set's images from generated ones.

    Args:
        real: Realness of real images, shape ``(N,)``.
        fake: Realness of generated images, shape ``(M,)``.
        real_anchor: α_R, running mean of the realness of real images, a scalar without a gradient.
        fake_anchor: α_F, the same of generated images.

    Returns:
        Scalar, at least 0.

    References:
        Tseng et al., 2021, arXiv:2104.03310; the one-sided squares are those of the authors' code.
    """
    on_real = F.relu(real.float() - fake_anchor).square().mean()
    return on_real + F.relu(real_anchor - fake.float()).square().mean()


def zero_centred_gradient_penalty(realness: Tensor, images: Tensor) -> Tensor:
    """Mean squared slope of the realness, ``E[‖∇D(x)‖²]``, the norm over all pixels of an image.

    Half of it, times a weight γ, is R1 on real images and R2 on generated ones. Compute the realness in float32.

    Args:
        realness: Shape ``(N,)``, computed from `images`; each entry from its own image.
        images: Shape ``(N, ...)``, with ``requires_grad``.

    Returns:
        Scalar, at least 0. It has a graph, and its gradient is a second derivative of the discriminator.

    References:
        Mescheder et al., 2018, arXiv:1801.04406.
    """
    return _slopes(realness, images).square().sum(dim=1).mean()


def one_centred_gradient_penalty(realness: Tensor, images: Tensor) -> Tensor:
    """Mean squared distance of the slope of the realness from 1, ``E[(‖∇D(x)‖ − 1)²]`` (WGAN-GP).

    Args:
        realness: Shape ``(N,)``, computed from `images`; each entry from its own image, hence no batch normalisation.
        images: Shape ``(N, ...)``, with ``requires_grad``: points between real and generated images.

    Returns:
        Scalar, at least 0. It has a graph, and its gradient is a second derivative of the discriminator.

    References:
        Gulrajani et al., 2017, arXiv:1704.00028.
    """
    norms: Tensor = torch.linalg.vector_norm(_slopes(realness, images), dim=1)
    return (norms - 1).square().mean()


def _slopes(realness: Tensor, images: Tensor) -> Tensor:
    """Gradient of the realness of each image with respect to its pixels, ``(N, pixels)``, float32."""
    slopes: Tensor = torch.autograd.grad(realness.float().sum(), images, create_graph=True)[0]
    return slopes.flatten(1).float()


def mean_absolute_error(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of each pixel from what it should be (L1), which blurs less than its square.

    Args:
        images: Any shape.
        targets: The same shape.

    Returns:
        Scalar, at least 0.

    References:
        Isola et al., 2017, arXiv:1611.07004, section 3.1.
    """
    return F.l1_loss(images.float(), targets.float())


def l2_penalty(weights: Iterable[Tensor], scale: float) -> Tensor:
    """Sum of squares of some weights, times a scale (an L2 kernel regulariser).

    Args:
        weights: Tensors of any shape; at least one.
        scale: Factor of the sum; there is no factor of one half.

    Returns:
        Scalar, at least 0.
    """
    # As norms: squares of all weights would be a tensor of their own, here and in the gradient. Of rows: the norm of
    # millions of weights at once is off by a thousandth on the CPU, where float32 is summed one after the other.
    rows = [weight.float().reshape(len(weight), -1) for weight in weights]
    return scale * torch.stack([torch.linalg.vector_norm(row, dim=1).square().sum() for row in rows]).sum()


def label_loss(
    logits: Tensor,
    labels: Tensor,
    kind: Literal["categorical", "ordinal", "multilabel", "continuous"],
    *,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Loss of an auxiliary head that has to say the label, its mean over all that is known.

    Classes, also ordinal ones, whose order it does not know: cross-entropy of the softmax. Findings:
    binary cross-entropy of each. Quantities: squared error, of the head's numbers as they are.

    Args:
        logits: What the head says, unnormalised, shape ``(N, K)``.
        labels: As in `medgan.core.Batch`. NaN in those of shape ``(N, K)`` means that an entry is not
            known: it counts neither in the sum nor in the number.
        kind: What the labels are, as in `medgan.core.LabelSpec`.
        reduction: ``mean``, or ``none`` for the loss of each image; its mean over what is known of it.

    Returns:
        Scalar, or shape ``(N,)``, at least 0; 0, with a gradient of zeros, if nothing is known.
    """
    logits = logits.float()
    if kind in ("categorical", "ordinal"):
        return F.cross_entropy(logits, labels, reduction=reduction)
    known = ~labels.isnan()
    # Filled before the loss: the gradient of NaN is NaN even where it is multiplied by zero.
    targets = labels.float().where(known, 0)
    loss = F.binary_cross_entropy_with_logits if kind == "multilabel" else F.mse_loss
    return _mean_of_known(loss(logits, targets, reduction="none"), known, reduction)


def adc(logits: Tensor, labels: Tensor, *, generated: bool, reduction: Literal["mean", "none"] = "mean") -> Tensor:
    """Cross-entropy of a classifier that tells labels and, in the same softmax, real from generated images (ADC).

    Of classes, ``−log C(y⁺|x)`` for real images and ``−log C(y⁻|x)`` for generated ones, over the 2K classes y⁺ and y⁻.
    Of findings the same for each of them, over its 4 combinations of absent or present, real or generated.

    Args:
        logits: Unnormalised; of classes ``(N, 2, K)``, first the real ones; of findings ``(N, 2, 2, K)``: real or
            generated, then absent or present.
        labels: Class indices ``(N,)``; or findings ``(N, K)``, 0 or 1, or NaN where not known.
        generated: Whether to take the images as generated.
        reduction: ``mean``, or ``none`` for the loss of each image; its mean over what is known of it.

    Returns:
        Scalar, or shape ``(N,)``, at least 0.

    References:
        Hou et al., 2021, arXiv:2107.10060.
    """
    logits = logits.float()
    if logits.ndim == 3:
        return F.cross_entropy(logits.flatten(1), labels + generated * logits.shape[2], reduction=reduction)
    known = ~labels.isnan()
    targets = labels.where(known, 0).round().long() + 2 * generated
    entropy = F.cross_entropy(logits.flatten(1, 2), targets, reduction="none")
    return _mean_of_known(entropy, known, reduction)


def data_to_data_cross_entropy(
    embeddings: Tensor,
    proxies: Tensor,
    labels: Tensor,
    *,
    temperature: float = D2DCE_TEMPERATURE,
    margin: float = 0.98,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Data-to-data cross-entropy of a batch (D2D-CE).

    With unit vectors f and proxies v, τ the temperature, m the margin, [·]₋ = min(0, ·) and [·]₊ = max(0, ·)::

        −log( exp([f·v_y − m]₋ / τ) / ( exp([f·v_y − m]₋ / τ) + Σ exp([f·fⱼ − (1 − m)]₊ / τ) ) )

    the sum over the batch's images j of other classes; 0 where there is none.

    Args:
        embeddings: Shape ``(N, E)``, of any length; they are normalised here.
        proxies: Shape ``(K, E)``, likewise.
        labels: Class indices, shape ``(N,)``.
        temperature: τ.
        margin: m of the proxies; that of the images is 1 − m.
        reduction: ``mean``, or ``none`` for the loss of each image.

    Returns:
        Scalar, or shape ``(N,)``, at least 0.

    References:
        Kang et al., 2021, arXiv:2111.01118.
    """
    units, centres = F.normalize(embeddings.float()), F.normalize(proxies.float())
    near = ((units * centres[labels]).sum(dim=1, keepdim=True) - margin).clamp(max=0) / temperature
    with torch.autocast(units.device.type, enabled=False):  # which would take the precision of the product down
        cosines = units @ units.T
    others = (cosines - (1 - margin)).clamp(min=0) / temperature
    others = others.masked_fill(labels.unsqueeze(1) == labels, -torch.inf)
    entropy = torch.cat([near, others], dim=1).logsumexp(dim=1) - near.squeeze(1)
    return entropy.mean() if reduction == "mean" else entropy


def _mean_of_known(values: Tensor, known: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
    """Mean of the values ``(N, K)`` that are known, over all of them or over those of each image."""
    if reduction == "none":
        return (values * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return (values * known).sum() / known.sum().clamp(min=1)
