"""Metrics as pure functions: features or images in, numbers out.

Features are arrays ``(N, D)``, one row an image; images are arrays ``(N, channels, *size)`` with their range said.
"""

from medgan.metrics.functional.diversity import Neighbours, PairSimilarity, nearest_neighbours, pair_similarity
from medgan.metrics.functional.frechet import (
    ExtrapolationResult,
    FeatureStatistics,
    frechet_distance,
    frechet_distance_from_statistics,
    frechet_distance_infinity,
)
from medgan.metrics.functional.images import mse, multiscale_ssim, psnr, ssim
from medgan.metrics.functional.inception_score import InceptionScoreResult, inception_score
from medgan.metrics.functional.kernel import (
    KernelEstimate,
    KernelTestResult,
    kernel_distance,
    kernel_distance_interval,
    kernel_permutation_test,
    median_distance,
)
from medgan.metrics.functional.manifold import (
    DensityCoverageResult,
    ManifoldMembers,
    PrecisionRecallResult,
    density_coverage,
    manifold_members,
    precision_recall,
)
from medgan.metrics.functional.wasserstein import monge_distance

__all__ = [
    "DensityCoverageResult",
    "ExtrapolationResult",
    "FeatureStatistics",
    "InceptionScoreResult",
    "KernelEstimate",
    "KernelTestResult",
    "ManifoldMembers",
    "Neighbours",
    "PairSimilarity",
    "PrecisionRecallResult",
    "density_coverage",
    "frechet_distance",
    "frechet_distance_from_statistics",
    "frechet_distance_infinity",
    "inception_score",
    "kernel_distance",
    "kernel_distance_interval",
    "kernel_permutation_test",
    "manifold_members",
    "median_distance",
    "monge_distance",
    "mse",
    "multiscale_ssim",
    "nearest_neighbours",
    "pair_similarity",
    "precision_recall",
    "psnr",
    "ssim",
]
