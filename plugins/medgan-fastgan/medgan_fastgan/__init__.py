"""FastGAN, an architecture for medgan."""

from __future__ import annotations

from medgan_fastgan.gan import FastGAN, FastGANConfig

__all__ = ["FastGAN", "FastGANConfig"]
