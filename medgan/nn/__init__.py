"""Blocks that two or more architectures can use."""

from medgan.nn.blocks import ChannelLayerNorm, FiLMNorm, MinibatchDiscrimination, MinibatchStdDev

__all__ = ["ChannelLayerNorm", "FiLMNorm", "MinibatchDiscrimination", "MinibatchStdDev"]
