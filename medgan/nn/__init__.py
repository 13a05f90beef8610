"""Blocks that two or more architectures can use."""

from medgan.nn.blocks import ChannelLayerNorm, FiLMNorm, MinibatchDiscrimination, MinibatchStdDev
from medgan.nn.labels import LabelEmbedding, Projection, fill_unknown, label_planes, label_vectors
from medgan.nn.pyramid import halvings, initialise_normal, level_widths, seed_size
from medgan.nn.residual import ConditionalBatchNorm, ResidualDecoder, ResidualDownBlock, ResidualUpBlock

__all__ = [
    "ChannelLayerNorm",
    "ConditionalBatchNorm",
    "FiLMNorm",
    "LabelEmbedding",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "Projection",
    "ResidualDecoder",
    "ResidualDownBlock",
    "ResidualUpBlock",
    "fill_unknown",
    "halvings",
    "initialise_normal",
    "label_planes",
    "label_vectors",
    "level_widths",
    "seed_size",
]
