"""GANs for volumes, for medgan: `medgan fit --arch dcgan-3d` and `medgan fit --arch ha-gan`."""

from medgan_3d.dcgan import DCGAN3D, DCGAN3DConfig
from medgan_3d.hagan import HAGAN, HAGANConfig

__all__ = ["DCGAN3D", "HAGAN", "DCGAN3DConfig", "HAGANConfig"]
