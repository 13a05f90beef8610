"""Translation of images, for medgan: `medgan fit --arch pix2pix` and `medgan fit --arch cyclegan`."""

from medgan_pix2pix.cyclegan import CycleGAN, CycleGANConfig
from medgan_pix2pix.pix2pix import Pix2Pix, Pix2PixConfig

__all__ = ["CycleGAN", "CycleGANConfig", "Pix2Pix", "Pix2PixConfig"]
