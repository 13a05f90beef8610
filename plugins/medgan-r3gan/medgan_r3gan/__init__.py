"""R3GAN for medgan: `medgan fit --arch r3gan`."""

from medgan_r3gan.gan import R3GAN, R3GANConfig

__all__ = ["R3GAN", "R3GANConfig"]
