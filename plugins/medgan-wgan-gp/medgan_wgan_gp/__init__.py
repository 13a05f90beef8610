"""WGAN-GP, an architecture for medgan."""

from medgan_wgan_gp.gan import WGANGP, WGANGPConfig, WGANGPTrainer

__all__ = ["WGANGP", "WGANGPConfig", "WGANGPTrainer"]
