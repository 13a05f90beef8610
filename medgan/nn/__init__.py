"""Blocks that two or more architectures can use."""

from medgan.nn.blocks import ChannelLayerNorm, FiLMNorm, MinibatchDiscrimination, MinibatchStdDev
from medgan.nn.labels import LabelEmbedding, fill_unknown, label_planes, label_vectors
from medgan.nn.pyramid import channels_at, halvings, initialise_normal, seed_size
from medgan.nn.residual import ConditionalBatchNorm, ResidualDecoder, ResidualDownBlock, ResidualUpBlock

__all__ = [
    "ChannelLayerNorm",
    "ConditionalBatchNorm",
    "FiLMNorm",
    "LabelEmbedding",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "ResidualDecoder",
    "ResidualDownBlock",
    "ResidualUpBlock",
    "channels_at",
    "fill_unknown",
    "halvings",
    "initialise_normal",
    "label_planes",
    "label_vectors",
    "seed_size",
]
