"""Version of the interface that an architecture is written against."""

from __future__ import annotations

__all__ = ["API_VERSION"]

API_VERSION = 1
"""Rises with a change of `medgan.core` that an architecture written before would not survive; see `GAN.api_version`."""
