"""How the latents of a generator are distributed, and so how to move among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from medgan.core.gan import GAN
from medgan.errors import ConfigError

__all__ = ["LatentSpace"]

_DRAWN = 1_024
_TESTED = 20_000  # numbers that are compared with a normal distribution
_UNLIKE = 0.02  # their largest distance from its distribution function; of a uniform one it is above 0.1
_AT_A_TIME = 16
_SMALLEST_ANGLE = 1e-4


class LatentSpace:
    """The latents of a model: seeds, paths and images.

    Args:
        gan: The model; its generator is used as it is, on its device, in evaluation mode.

    Attributes:
        normal: Whether each number of a latent is standard normal, as far as 1,024 latents tell. Such latents lie near
            a sphere of the radius √D, and a straight line between two of them would leave it for where the generator
            was never trained.
    """

    def __init__(self, gan: GAN) -> None:
        """Draw latents, and look how they are distributed."""
        from scipy.stats import kstest

        self.gan = gan
        drawn = gan.generator.make_latents(_DRAWN, torch.Generator().manual_seed(0))
        numbers = drawn.flatten()[torch.linspace(0, drawn.numel() - 1, min(drawn.numel(), _TESTED)).long()]
        self.normal = bool(kstest(numbers.numpy(), "norm").statistic < _UNLIKE)
        self._low, self._high = drawn.amin(dim=0), drawn.amax(dim=0)
        self._lengths = torch.quantile(drawn.norm(dim=1), torch.tensor([0.01, 0.99])).tolist()

    def draw(self, seeds: Sequence[int]) -> Tensor:
        """Return the latents that `GAN.sample` makes images of.

        Args:
            seeds: Seed of each latent.

        Returns:
            Shape ``(N, latent_dim)``, on the CPU.
        """
        make = self.gan.generator.make_latents
        return torch.cat([make(1, torch.Generator().manual_seed(seed)) for seed in seeds])

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """Return latents on the way from one to another.

        Between normal latents the way is a great circle (White, 2016, arXiv:1609.04468), the length of the vectors
        changing evenly; between others a straight line.

        Args:
            first: Shape ``(D,)``.
            second: Shape ``(D,)``.
            weights: Shape ``(S,)``; 0 for the first, 1 for the second.

        Returns:
            Shape ``(S, D)``.
        """
        steps = weights.to(first)[:, None]
        straight = torch.lerp(first[None], second[None], steps)
        if not self.normal:
            return straight
        lengths = first.norm(), second.norm()
        cosine = (first @ second / (lengths[0] * lengths[1])).clamp(-1, 1)
        angle = torch.arccos(cosine)
        if angle.sin() < _SMALLEST_ANGLE:  # the same direction, or opposite ones, between which no way is the shortest
            return straight
        directions = [first / lengths[0], second / lengths[1]]
        mixed = ((1 - steps) * angle).sin() * directions[0] + (steps * angle).sin() * directions[1]
        way: Tensor = mixed / angle.sin() * torch.lerp(lengths[0], lengths[1], steps)
        return way

    def bring_back(self, latents: Tensor) -> Tensor:
        """Return the nearest latents that the generator may have been trained with.

        Normal ones get a length that the generator knows, within the 1 % and the 99 % quantile of 1,024: where there
        are many numbers that is near √D for all of them (Menon et al., 2020, arXiv:2003.03808). Others are cut off at
        the least and largest numbers drawn.

        Args:
            latents: Shape ``(N, D)``.
        """
        if self.normal:
            lengths = latents.norm(dim=1, keepdim=True).clamp_min(1e-12)
            known: Tensor = latents * (lengths.clamp(*self._lengths) / lengths)
            return known
        return torch.clamp(latents, self._low.to(latents), self._high.to(latents))

    def render(self, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        """Return the images of latents.

        Args:
            latents: Shape ``(N, D)``.
            labels: As in `medgan.core.Batch`, or weights of classes; None without labels.
            truncation: As in `GAN.sample`.

        Returns:
            Shape ``(N, C, *size)``, float32 in [-1, 1], on the CPU.
        """
        return torch.cat(list(self.render_batches(latents, labels, truncation=truncation)))

    def render_batches(
        self, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0
    ) -> Iterator[Tensor]:
        """Yield the images of `render`, 16 at a time, so that any number of them fits into memory."""
        generator = self.gan.generator
        device = next(generator.parameters()).device
        for start in range(0, len(latents), _AT_A_TIME):
            rows = slice(start, start + _AT_A_TIME)
            some = None if labels is None else labels[rows].to(device)
            with torch.inference_mode():
                images = generator.generate(latents[rows].to(device), some, truncation=truncation)
            yield images.float().cpu()


def check_seed(seed: int, number: int) -> None:
    """Raise unless seeds from one on can be drawn from.

    Raises:
        ConfigError: If one of them is outside of 32 bits.
    """
    if not 0 <= seed <= 2**32 - number:
        raise ConfigError(f"The seed must be between 0 and {2**32 - number:,}, got {seed:,}.")
