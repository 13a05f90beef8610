"""The two networks of a GAN: `Generator` or `Translator`, `Discriminator`, and what the latter returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError

__all__ = ["Discriminator", "DiscriminatorOutput", "Generator", "Translator", "evaluating", "frozen"]


class Generator(nn.Module, ABC):
    """Turns latents and labels into images.

    Args:
        latent_dim: Length of a latent vector.

    Attributes:
        mixes_classes: Whether `forward` takes class labels also as weights of the classes, float32 ``(N, K)`` that add
            up to 1, so that what lies between two classes can be looked at. A single 1 means its class.
            `medgan.nn.label_vectors` and `medgan.nn.LabelEmbedding` do. Findings and quantities are numbers anyway.
    """

    mixes_classes: ClassVar[bool] = False

    def __init__(self, latent_dim: int) -> None:
        """Store the length of a latent vector."""
        super().__init__()
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make one image from each latent vector.

        Args:
            latents: Shape ``(N, latent_dim)``, float32, as `make_latents` draws them.
            labels: Labels as in `medgan.core.Batch`, or None for data without labels; see also `mixes_classes`.

        Returns:
            Images, shape ``(N, channels, *size)``, in [-1, 1] whatever the latents.
        """

    def make_latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw latent vectors; standard normal unless a subclass draws otherwise.

        Args:
            n: Number of vectors.
            rng: Source of randomness, on the device where the vectors shall be; None for torch's
                own on the device of the weights.

        Returns:
            Shape ``(n, latent_dim)``, float32.
        """
        return torch.randn(n, self.latent_dim, generator=rng, device=self._device(rng))

    def truncate(self, latents: Tensor, truncation: float) -> Tensor:
        """Trade variety for typicality by drawing latents towards their mean.

        Args:
            latents: Shape ``(N, latent_dim)``.
            truncation: 1 changes nothing, 0 gives the mean.

        Returns:
            Latents of the same shape.
        """
        return latents * truncation

    def generate(self, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        """Make images to be looked at, which sampling does in evaluation mode and training never does.

        `truncate`, then `forward`, unless a subclass truncates elsewhere, as in a space between latents and images.

        Args:
            latents: As in `forward`.
            labels: As in `forward`.
            truncation: 1 changes nothing; the nearer to 0, the more typical and the less varied the images.

        Returns:
            Images, as from `forward`. Each depends on nothing but its own latents and label.
        """
        images: Tensor = self(self.truncate(latents, truncation), labels)
        return images

    def _device(self, rng: torch.Generator | None) -> torch.device:
        """Return where new latents belong."""
        return next(self.parameters()).device if rng is None else rng.device


class Translator(Generator):
    """Turns source images into other images, by latents and labels: the generator of an architecture that translates.

    Args:
        latent_dim: Length of a latent vector; 0 where a source has one translation only.
    """

    @abstractmethod
    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        """Translate each source image.

        Args:
            latents: Shape ``(N, latent_dim)``, float32, as `make_latents` draws them.
            labels: Labels as in `medgan.core.Batch`, or None for data without labels.
            sources: The images to translate, shape ``(N, source_channels, *size)``, in [-1, 1]; never None.

        Returns:
            Images, shape ``(N, channels, *size)``, in [-1, 1] whatever the latents.
        """

    def generate(
        self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None, *, truncation: float = 1.0
    ) -> Tensor:
        """Translate images to be looked at; see `Generator.generate`.

        Args:
            latents: As in `forward`.
            labels: As in `forward`.
            sources: As in `forward`.
            truncation: 1 changes nothing; the nearer to 0, the less the translations of a source vary.

        Returns:
            Images, as from `forward`. Each depends on nothing but its own latents, label and source.

        Raises:
            ConfigError: If there are no latents to truncate.
        """
        if truncation != 1 and not self.latent_dim:
            raise ConfigError(
                f"A truncation of {truncation:g} acts on nothing, as a source has one translation only. Leave it out."
            )
        images: Tensor = self(self.truncate(latents, truncation), labels, sources)
        return images


class DiscriminatorOutput(NamedTuple):
    """What a discriminator says of N images.

    Attributes:
        realness: Shape ``(N,)``, unbounded; higher is more real.
        label_logits: Shape ``(N, K)``, unnormalised, from an auxiliary head, or None.
        features: Shape ``(N, F)``, the last features before the heads, or None.
    """

    realness: Tensor
    label_logits: Tensor | None = None
    features: Tensor | None = None


class Discriminator(nn.Module, ABC):
    """Judges how real images look, and may say what they show."""

    @abstractmethod
    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Judge images.

        That of an architecture that translates takes a third argument, ``sources``, as a `Batch` has them; the
        realness may depend on them.

        Args:
            images: Shape ``(N, channels, *size)``, in [-1, 1].
            labels: Labels as in `medgan.core.Batch`, or None: for data without labels, and also where images of data
                with labels are judged without them, for their features. The realness may depend on them, an
                auxiliary head must not: they would tell it what it has to say.

        Returns:
            The judgement of each image.
        """

    def stages(self) -> Sequence[nn.Module]:
        """Return the blocks that images pass through, in that order; the first of them can be frozen.

        None unless overridden. What comes after the last block, such as the heads, is not among them.

        Returns:
            Parts of this network that share no weight with each other.
        """
        return ()


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Take the weights of some modules out of the graph for a while; saves their gradients' cost.

    Args:
        *modules: Networks or parts of them; what was frozen before stays so.
    """
    weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put some modules into evaluation mode for a while.

    Args:
        *modules: Networks; each part of them then has its own mode again, as `nn.Module.train` would not leave it to
            parts that were in evaluation mode before, such as frozen ones.
    """
    modes = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
