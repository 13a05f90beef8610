"""The options of a reader study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medgan.core.config import Config, option
from medgan.errors import ConfigError

__all__ = ["ReaderStudyConfig"]


@dataclass(frozen=True, kw_only=True)
class ReaderStudyConfig(Config):
    """Options of a reader study; fixed when it is drawn."""

    title: str = option("Reader study", "What readers see as its name.")
    mode: Literal["rating", "forced-choice"] = option(
        "rating", "One image and a five-point confidence, or two images of which one is synthetic."
    )
    num: int = option(100, "Cases: images, half of them synthetic, or pairs.", ge=8, le=5000)
    repeats: float = option(0.1, "Share of the cases that come a second time.", ge=0, le=0.5)
    training: int = option(4, "Training cases, with the answer after each, before the others.", ge=0, le=50)
    realism: bool = option(False, "Also ask how realistic the image is, from 1 to 5.")
    diagnosis: bool = option(False, "Also ask what the image shows, of the classes.")
    comment: bool = option(False, "Also offer a field for a comment.")
    margin: float = option(
        0.05, "Distance of the area under the curve from 0.5 that would still be called indistinguishable.", le=0.45
    )

    def __post_init__(self) -> None:
        """Check what concerns two options."""
        super().__post_init__()
        if not self.margin > 0:
            raise ConfigError(f"--margin is {self.margin:g}, expected above 0, for example 0.05.")
        if self.mode == "rating" and self.num % 2:
            raise ConfigError(f"Half of --num {self.num} images cannot be synthetic. Give an even number.")
        if self.mode == "forced-choice" and (self.realism or self.diagnosis):
            raise ConfigError("Realism and diagnosis are asked of single images. Use --mode rating for them.")
        if not self.title.strip() or len(self.title) > 200:
            raise ConfigError("--title must have 1 to 200 characters.")

    @property
    def images_per_case(self) -> int:
        """1, or 2 for pairs."""
        return 2 if self.mode == "forced-choice" else 1

    @property
    def real_images(self) -> int:
        """Real images, and as many synthetic ones, without those of the training."""
        return self.num if self.mode == "forced-choice" else self.num // 2
