"""Blocks that two or more architectures can use."""

from medgan.nn.blocks import ChannelLayerNorm, FiLMNorm, MinibatchDiscrimination, MinibatchStdDev
from medgan.nn.labels import label_vectors

__all__ = ["ChannelLayerNorm", "FiLMNorm", "MinibatchDiscrimination", "MinibatchStdDev", "label_vectors"]
