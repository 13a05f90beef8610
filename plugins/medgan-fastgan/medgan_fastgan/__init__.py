"""FastGAN for medgan: `medgan fit --arch fastgan`."""

from medgan_fastgan.gan import FastGAN, FastGANConfig

__all__ = ["FastGAN", "FastGANConfig"]
