"""SNGAN with a projection discriminator, an architecture for medgan."""

from medgan_sngan.gan import SNGAN, SNGANConfig, SNGANTrainer

__all__ = ["SNGAN", "SNGANConfig", "SNGANTrainer"]
