"""Blocks that two or more architectures can use."""

from medgan.nn.blocks import ChannelLayerNorm, FiLMNorm, MinibatchDiscrimination, MinibatchStdDev
from medgan.nn.labels import label_vectors
from medgan.nn.residual import ConditionalBatchNorm, ResidualDecoder, ResidualDownBlock, ResidualUpBlock

__all__ = [
    "ChannelLayerNorm",
    "ConditionalBatchNorm",
    "FiLMNorm",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "ResidualDecoder",
    "ResidualDownBlock",
    "ResidualUpBlock",
    "label_vectors",
]
