"""The GANs for volumes: the compliance kit, their losses and parameters by independent arithmetic, HA-GAN's parts."""

from __future__ import annotations

import pytest

from medgan.testing import parametrize_with_checks
from medgan_3d import DCGAN3D, HAGAN


@parametrize_with_checks([DCGAN3D, HAGAN])
def test_compliance(architecture, check):
    check(architecture)
