"""Blocks that two or more architectures can use."""

from medgan.nn.blocks import ChannelLayerNorm, FiLMNorm, MinibatchStdDev

__all__ = ["ChannelLayerNorm", "FiLMNorm", "MinibatchStdDev"]
