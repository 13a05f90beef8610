"""What a generator knows: views of its latents and labels, with and without real images."""

from medgan.exploration.cases import Cases, Neighbours, Rarity, find_cases, nearest_training, rarity
from medgan.exploration.contrasts import Contrast, Label, all_contrasts, make_contrast
from medgan.exploration.exploring import Exploration, RealDifference, RealImages, explore
from medgan.exploration.inversion import Inversion, invert
from medgan.exploration.latent_space import LatentSpace
from medgan.exploration.parts import (
    ClassDifference,
    ClassWalk,
    Interpolation,
    Truncation,
    class_differences,
    interpolate,
    truncate,
    walk_classes,
)

__all__ = [
    "Cases",
    "ClassDifference",
    "ClassWalk",
    "Contrast",
    "Exploration",
    "Interpolation",
    "Inversion",
    "Label",
    "LatentSpace",
    "Neighbours",
    "Rarity",
    "RealDifference",
    "RealImages",
    "Truncation",
    "all_contrasts",
    "class_differences",
    "explore",
    "find_cases",
    "interpolate",
    "invert",
    "make_contrast",
    "nearest_training",
    "rarity",
    "truncate",
    "walk_classes",
]
