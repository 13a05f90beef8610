"""How good a translation is in the middle of its training: held-out sources translated, beside their true images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medgan.errors import DataError
from medgan.metrics.functional.images import psnr, ssim
from medgan.training.held_out import choose_held_out

if TYPE_CHECKING:
    from torch import Tensor

    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["TranslationScorer", "TranslationScores"]

_RANGE = (-1.0, 1.0)
_HIGHEST = 100.0  # dB; a single identical image would make the mean infinite


@dataclass(frozen=True)
class TranslationScores:
    """The scores of a translation, means over the held-out pairs.

    Attributes:
        ssim: Structural similarity to the true images, in [-1, 1]; higher is better.
        psnr: Peak signal-to-noise ratio in dB, that of an image being 100 at most; higher is better.
    """

    ssim: float
    psnr: float

    @property
    def score(self) -> float:
        """The one number that decides which generator is better, which is the structural similarity."""
        return self.ssim

    def to_dict(self) -> dict[str, Any]:
        """Return the score and the figures as plain JSON values."""
        return {
            name: round(value, 6) for name, value in (("score", self.score), ("ssim", self.ssim), ("psnr", self.psnr))
        }


class TranslationScorer:
    """Scores translations of held-out sources against the true images, always the same ones, with the same seeds.

    Args:
        validation: Pairs of patients that the generator was not trained on.

    Attributes:
        held_out: The pairs of `validation` that are looked at: at most 1,000.
        classes: Which of them are of each class, as in `HeldOutScorer`; here always empty.
        samples: The translations that were scored last; None before.
        identity: What scores have to share to be compared.

    Raises:
        DataError: If the data is not paired.
    """

    identity: ClassVar[str] = "ssim"

    def __init__(self, validation: ImageDataset) -> None:
        """Choose the pairs."""
        if validation.sources is None or not validation.spec.paired:
            raise DataError(f"{validation.name} has no pairs to compare translations with.")
        self.held_out = validation.subset(choose_held_out(validation))
        self.count = len(self.held_out)
        self.classes: Mapping[str, NDArray[np.bool_]] = {}
        self.samples: Tensor | None = None
        self._pairs = self.held_out.batch_at(range(self.count))

    def sample(self, gan: GAN, n: int | None = None) -> Tensor:
        """Translate the first `n` of the held-out sources; all if None."""
        chosen = self._pairs.select(slice(n))
        return gan.sample(labels=chosen.labels, sources=chosen.sources).images

    def score(self, gan: GAN) -> TranslationScores:
        """Translate the held-out sources and score that; changes no weight and no random state.

        Args:
            gan: The model.

        Raises:
            DataError: If its images are not finite.
        """
        self.samples = self.sample(gan)
        found, wanted = (np.clip(images.double().numpy(), *_RANGE) for images in (self.samples, self._pairs.images))
        ratios = np.minimum(psnr(wanted, found, data_range=_RANGE), _HIGHEST)
        return TranslationScores(float(ssim(wanted, found, data_range=_RANGE).mean()), float(ratios.mean()))
