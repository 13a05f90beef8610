"""What the gallery of examples needs besides its settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

# From the first steps to the last; an example that is not named here follows these, by its name.
_ORDER = ("quickstart", "interpolation", "honest_metrics", "augmentation_study", "linear_probe")


def collect_pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Show the PNG files that an example has written since its last block."""
    shown = []
    folder = Path(block_vars["src_file"]).parent
    for made in folder.iterdir():
        if made.is_dir():  # a saved model has a README, which would make a section of the gallery of it
            shutil.rmtree(made)
    for picture in sorted(folder.glob("*.png")):
        target = next(block_vars["image_path_iterator"])
        shutil.move(picture, target)
        shown.append(target)
    return figure_rst(shown, gallery_conf["src_dir"]) if shown else ""


def order(name: str) -> tuple[int, str]:
    """Return what examples are sorted by."""
    stem = Path(name).stem
    return (_ORDER.index(stem) if stem in _ORDER else len(_ORDER), stem)
