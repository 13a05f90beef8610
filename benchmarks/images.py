"""JPEG files for measurements that read: patterns that no one's images are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_PATTERNS = 64


def write_class_folders(root: Path, *, images: int, size: int) -> None:
    """Write smooth noise as grey JPEG files in two class folders; a folder that is there is taken as it is.

    Args:
        root: Folder to create.
        images: Files in all.
        size: Their height and width in pixels.
    """
    if root.exists():
        return
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (_PATTERNS, max(1, size // 8), max(1, size // 8)), dtype=np.uint8)
    patterns = [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in coarse]
    for label in ("A", "B"):
        (root / label).mkdir(parents=True)
    for number in range(images):
        turned = np.roll(patterns[number % _PATTERNS], (number // _PATTERNS) % size, axis=0)
        Image.fromarray(turned).save(root / "AB"[number % 2] / f"{number:06d}.jpg", quality=85)


def list_images(root: Path) -> list[Path]:
    """Return the PNG and JPEG files below a folder."""
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
