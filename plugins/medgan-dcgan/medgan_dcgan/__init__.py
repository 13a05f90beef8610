"""DCGAN for medgan: `medgan fit --arch dcgan`."""

from medgan_dcgan.gan import DCGAN, DCGANConfig

__all__ = ["DCGAN", "DCGANConfig"]
