"""The arms of a study: what a classifier is trained on. All of them are judged on the same real patients."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medgan.errors import ConfigError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ALL_ARMS", "DEFAULT_ARMS", "Arm", "parse_arms"]

DEFAULT_ARMS = "real,synthetic,real+synthetic,real-augmented"
"""What ``auto`` stands for: the smallest set that answers whether synthetic images help more than what is free.

Volumes have no ``real-augmented``, which distorts 2-D images only.
"""

ALL_ARMS = (
    "real,synthetic,synthetic-2x,real+synthetic-0.5x,real+synthetic,real+synthetic-2x,real-augmented,real-oversampled,"
    "real-duplicated,synthetic-then-real"
)
"""What ``all`` stands for: what every data set can do.

``synthetic-balanced`` and ``real+synthetic-balanced`` need classes of different sizes.
"""

Treatment = Literal["plain", "augmented", "oversampled", "duplicated", "pretrained", "balanced", "even"]

_KINDS: dict[str, tuple[bool, float, Treatment]] = {  # has real images, synthetic ones for each, treatment
    "real": (True, 0, "plain"),
    "synthetic": (False, 1, "plain"),
    "synthetic-balanced": (False, 1, "even"),
    "real+synthetic": (True, 1, "plain"),
    "real-augmented": (True, 0, "augmented"),
    "real-oversampled": (True, 0, "oversampled"),
    "real-duplicated": (True, 0, "duplicated"),
    "synthetic-then-real": (True, 1, "pretrained"),
    "real+synthetic-balanced": (True, 0, "balanced"),
}
_WITH_RATIO = ("synthetic", "synthetic-balanced", "real+synthetic", "real-duplicated", "synthetic-then-real")
_DUPLICATED = 2.0  # as many images as real+synthetic has


@dataclass(frozen=True)
class Arm:
    """What a classifier of a study is trained on.

    Attributes:
        name: As typed, such as ``real+synthetic-2x``.
        real: Whether there are real images.
        ratio: Synthetic images for each real training image, class by class unless ``even``.
        treatment: What else is done: ``augmented`` distorts the images as they come; ``oversampled`` draws classes
            equally often; ``duplicated`` repeats the real images to as many as ``real+synthetic`` has;
            ``pretrained`` takes the synthetic images in the first half of the steps and the real ones in the second;
            ``balanced`` fills every class up to the largest one with synthetic images; ``even`` takes equally many of
            each class.
        copies: How often each real image is there.
    """

    name: str
    real: bool
    ratio: float
    treatment: Treatment
    copies: float = 1.0

    @property
    def title(self) -> str:
        """A name for tables."""
        times = f"{self.ratio:g}×"
        titles = {
            "augmented": "real, classical augmentation",
            "oversampled": "real, classes equally often",
            "duplicated": f"real, repeated {self.copies:g}×",
            "pretrained": f"synthetic {times}, then real",
            "balanced": "real, classes filled up with synthetic",
            "even": f"synthetic {times}, classes equally many (TSTR)",
        }
        if self.treatment in titles:
            return titles[self.treatment]
        if not self.real:
            return f"synthetic {times} (TSTR)"
        return f"real + synthetic {times}" if self.ratio else "real (TRTR)"

    @property
    def synthetic(self) -> bool:
        """Whether there are synthetic images."""
        return self.ratio > 0 or self.treatment == "balanced"

    def synthetic_counts(self, real: NDArray[Any]) -> NDArray[Any]:
        """Return how many synthetic images of each class belong to so many real ones.

        Args:
            real: Real images of each class, ``(K,)``; or of all, ``(1,)``.
        """
        if self.treatment == "balanced":
            missing: NDArray[Any] = real.max() - real
            return missing
        if self.treatment == "even":
            return np.full(len(real), max(1, round(self.ratio * float(real.sum()) / len(real))))
        return (self.ratio * real).round().clip(min=1).astype("int64")  # a share of few images rounds to none


def parse_arms(text: str, *, spatial_dims: int = 2) -> tuple[Arm, ...]:
    """Read a list of arms.

    Args:
        text: Names joined by commas, ``auto`` or ``all``. ``synthetic``, ``synthetic-balanced``, ``real+synthetic``,
            ``real-duplicated`` and ``synthetic-then-real`` take a ratio, such as ``real+synthetic-0.5x``.
        spatial_dims: Of the images, for ``auto``.

    Returns:
        The arms, ``real`` among them, as all others are compared with it.

    Raises:
        ConfigError: If a name is unknown, twice there, or ``real`` is missing.

    Example:
        >>> [arm.title for arm in parse_arms("real,synthetic-2x")]
        ['real (TRTR)', 'synthetic 2× (TSTR)']
    """
    known = {"auto": DEFAULT_ARMS, "all": ALL_ARMS}
    names = [name.strip() for name in known.get(text.strip(), text).split(",")]
    if text.strip() == "auto" and spatial_dims != 2:
        names.remove("real-augmented")
    arms = tuple(_parse(name) for name in names)
    twice = next((arm.name for place, arm in enumerate(arms) if arm.name in names[:place]), None)
    if twice is not None:
        raise ConfigError(f"The arm {twice} is listed twice in {text!r}. Name each once.")
    if "real" not in names:
        raise ConfigError(f"The arms {text!r} lack real, which the others are compared with. Type real,{text}.")
    return arms


def _parse(name: str) -> Arm:
    """Read one arm."""
    match = re.fullmatch(r"(.+?)(?:-(\d+(?:\.\d+)?)x)?", name)
    kind, number = (match[1], match[2]) if match else (name, None)
    if kind not in _KINDS:
        raise ConfigError(f"The arm {name!r} is unknown. {nearest(kind, _KINDS)}")
    real, ratio, treatment = _KINDS[kind]
    if number is None:
        return Arm(name, real, ratio, treatment, _DUPLICATED if treatment == "duplicated" else 1.0)
    if kind not in _WITH_RATIO or float(number) <= 0:
        raise ConfigError(
            f"The arm {name!r} takes no ratio {number}; {', '.join(_WITH_RATIO)} take one above 0, such as "
            "real+synthetic-2x."
        )
    if treatment == "duplicated":
        if float(number) <= 1:
            raise ConfigError(f"The arm {name!r} repeats nothing. Give a ratio above 1, such as real-duplicated-2x.")
        return Arm(name, real, ratio, treatment, float(number))
    return Arm(name, real, float(number), treatment)
