"""R3GAN, an architecture for medgan."""

from __future__ import annotations

from medgan_r3gan.gan import R3GAN, R3GANConfig

__all__ = ["R3GAN", "R3GANConfig"]
