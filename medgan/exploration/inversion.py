"""Looking for the latents of given images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from medgan.core.gan import GAN
from medgan.errors import DataError
from medgan.exploration.latent_space import LatentSpace, check_seed
from medgan.metrics.functional import psnr, ssim

__all__ = ["Inversion", "invert"]

_RANGE = (-1.0, 1.0)
_SMALLEST = 4  # pixels on the shorter side of the coarsest level
_LEVELS = 5
_LEAST_SSIM = 11  # pixels of its window
_VALUES_AT_A_TIME = 24 * 64 * 64  # of images whose gradients are computed together


@dataclass(frozen=True, eq=False)
class Inversion:
    """The latents whose images come nearest to given ones, as far as the search found.

    Attributes:
        latents: Shape ``(N, latent_dim)``.
        labels: Under which they are shown; None without labels.
        images: Their images, ``(N, C, *size)``.
        errors: Mean absolute difference to the given images, ``(N,)``, as both are in [-1, 1].
        psnr: Shape ``(N,)``, in dB.
        ssim: Shape ``(N,)``; NaN for images smaller than its window.
    """

    latents: Tensor
    labels: Tensor | None
    images: Tensor
    errors: NDArray[np.float64]
    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]


def invert(
    gan: GAN,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    starts: int = 3,
    steps: int = 150,
    candidates: int = 128,
    learning_rate: float = 0.1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Inversion:
    """Look for latents that the generator turns into given images, under their own labels.

    From the best few of some random latents the search goes downhill with Adam, its rate falling to 0 as a cosine;
    after every step the latents are brought back to where the generator was trained (`LatentSpace.bring_back`). The
    loss compares image and reconstruction on several scales, each the mean of 2 × 2 pixels of the one before: the mean
    absolute difference of the pixels, and that of the steps from each pixel to the next. The start that ends with the
    least loss counts.

    Args:
        gan: The model.
        images: Shape ``(N, C, *size)``, in [-1, 1].
        labels: As in `medgan.core.Batch`; None for a model without labels.
        starts: Searches for each image.
        steps: Steps of each.
        candidates: Random latents to begin from the best of.
        learning_rate: Of Adam, at first.
        seed: Of the first random latent.
        progress: Told of the steps done, of how many.

    Returns:
        The latents, in the order of the images. They say what the generator can show, not what it was trained on.

    Raises:
        DataError: If the images are not of the model's size.
    """
    if images.shape[1:] != (gan.data.channels, *gan.data.size) or not len(images):
        raise DataError(f"The model makes images of {gan.data}; those to invert have the shape {tuple(images.shape)}.")
    check_seed(seed, candidates)
    space = LatentSpace(gan)
    device = next(gan.generator.parameters()).device
    count = min(starts, candidates)
    begin = _best_candidates(space, images, labels, range(seed, seed + candidates), count)
    rows = torch.arange(len(images)).repeat_interleave(count)
    block = max(1, _VALUES_AT_A_TIME // math.prod(images.shape[1:]))
    blocks = [slice(start, start + block) for start in range(0, len(rows), block)]
    found, losses = [], []
    for number, place in enumerate(blocks):
        some = rows[place]
        target = images[some].to(device)
        label = None if labels is None else labels[some].to(device)
        latents = space.bring_back(begin[place].to(device)).requires_grad_(True)
        optimizer = torch.optim.Adam([latents], lr=learning_rate)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            optimizer.zero_grad()
            loss = _loss(gan.generator.generate(latents, label), target)
            (latents.grad,) = torch.autograd.grad(loss.sum(), latents)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                latents.copy_(space.bring_back(latents))
            if progress is not None:
                progress(number * steps + step + 1, len(blocks) * steps)
        with torch.no_grad():
            losses.append(_loss(gan.generator.generate(latents, label), target).cpu())
        found.append(latents.detach().cpu())
    best = torch.cat(losses).reshape(-1, count).argmin(dim=1)
    latents = torch.cat(found).reshape(len(images), count, -1)[torch.arange(len(images)), best]
    reconstructions = space.render(latents, labels)
    return Inversion(latents, labels, reconstructions, **compare(reconstructions, images))


def compare(ones: Tensor, others: Tensor) -> dict[str, Any]:
    """Return errors, PSNR and SSIM of pairs of images, by the names of `Inversion`."""
    first, second = ones.clamp(*_RANGE).numpy(), others.clamp(*_RANGE).contiguous().numpy()
    alike = np.full(len(first), np.nan)
    if min(first.shape[2:]) >= _LEAST_SSIM:
        alike = ssim(first, second, data_range=_RANGE)
    errors = (ones - others).abs().flatten(1).mean(dim=1).double().numpy()
    return {"errors": errors, "psnr": psnr(first, second, data_range=_RANGE), "ssim": alike}


def _best_candidates(space: LatentSpace, images: Tensor, labels: Tensor | None, seeds: range, count: int) -> Tensor:
    """Return the random latents whose images come nearest, ``(N · count, D)``."""
    drawn = space.draw(seeds)
    begin: list[Tensor] = []
    made: dict[tuple[float, ...], Tensor] = {}
    for row in range(len(images)):
        label = None if labels is None else labels[row]
        key = () if label is None else tuple(label.reshape(-1).nan_to_num(nan=math.inf).tolist())
        if key not in made:
            wanted = None if label is None else label.expand(len(drawn), *label.shape)
            made = {key: space.render(drawn, wanted)}  # of one label at a time: images of a label come together
        losses = _loss(made[key], images[row].expand_as(made[key]))
        begin.append(drawn[losses.argsort()[:count]])
    return torch.cat(begin)


def _loss(ones: Tensor, others: Tensor) -> Tensor:
    """Return how unlike each pair of images is, ``(N,)``."""
    pool: Any = F.avg_pool2d if ones.ndim == 4 else F.avg_pool3d
    total = torch.zeros(len(ones), device=ones.device)
    for level in range(_LEVELS):
        if level:
            if min(ones.shape[2:]) < 2 * _SMALLEST:
                break
            ones, others = pool(ones, 2), pool(others, 2)
        change = ones - others
        total = total + change.abs().flatten(1).mean(dim=1)
        for axis in range(2, ones.ndim):
            total = total + change.diff(dim=axis).abs().flatten(1).mean(dim=1)
    return total
