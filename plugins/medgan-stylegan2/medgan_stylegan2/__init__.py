"""StyleGAN2 for medgan, written from the papers' equations."""

from medgan_stylegan2.gan import StyleGAN2, StyleGAN2Config, StyleGAN2Trainer

__all__ = ["StyleGAN2", "StyleGAN2Config", "StyleGAN2Trainer"]
