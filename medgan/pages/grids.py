"""Labelled grids of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medgan.core.saving import write_aside
from medgan.core.spec import Batch, DataSpec
from medgan.data.pixels import to_uint8

__all__ = ["make_comparison", "make_grid", "save_image", "visible"]


def visible(images: Tensor) -> Tensor:
    """Return what of images a picture can show: of volumes the middle slice, of other channels than 1 or 3 the first.

    Args:
        images: Shape ``(N, C, *size)``.

    Returns:
        Shape ``(N, 1 or 3, height, width)``.
    """
    slices = images if images.ndim == 4 else images[:, :, images.shape[2] // 2]
    return slices if slices.shape[1] in (1, 3) else slices[:, :1]


def make_grid(batch: Batch, data: DataSpec, *, columns: int = 8, scale: int | None = None) -> Image.Image:
    """Lay images out in rows, a block of rows for each class, its name beside it.

    Args:
        batch: Images and labels. Of volumes the middle slice is shown.
        data: What they are.
        columns: Images in a row.
        scale: Whole-number enlargement; None for one that makes an image at least 96 pixels wide.

    Returns:
        A grey or RGB picture.
    """
    pixels = to_uint8(visible(batch.images))
    scale = scale or max(1, -(-96 // pixels.shape[2]))
    blocks: list[tuple[str, np.ndarray[Any, np.dtype[np.uint8]]]] = [("", pixels)]
    if batch.labels is not None and data.labels is not None and batch.labels.ndim == 1:
        labels = batch.labels.cpu().numpy()
        blocks = [(name, pixels[labels == index]) for index, name in enumerate(data.labels.names)]
    return _lay_out([(name, part) for name, part in blocks if len(part)], columns=columns, scale=scale)


def make_comparison(rows: Mapping[str, Tensor], *, columns: int = 8, scale: int | None = None) -> Image.Image:
    """Lay sets of images that belong together out below each other, each with its name beside it.

    Args:
        rows: As many images in each, shape ``(N, C, height, width)`` or of volumes ``(N, C, depth, height, width)``, of
            which the middle slice is shown; in [-1, 1], all of one size.
        columns: Images in a row; what is left comes further down, in the same order.
        scale: As in `make_grid`.

    Returns:
        An RGB picture.
    """
    sets = {name: to_uint8(visible(images)) for name, images in rows.items()}
    count = min(map(len, sets.values()))
    columns = min(columns, count)
    scale = scale or max(1, -(-96 // next(iter(sets.values())).shape[2]))
    blocks = [
        (name, pixels[start : start + columns]) for start in range(0, count, columns) for name, pixels in sets.items()
    ]
    return _lay_out(blocks, columns=columns, scale=scale)


def _lay_out(
    blocks: Sequence[tuple[str, np.ndarray[Any, np.dtype[np.uint8]]]], *, columns: int, scale: int
) -> Image.Image:
    """Lay blocks of images, ``(N, height, width, channels)``, out below each other."""
    height, width = blocks[0][1].shape[1:3]
    gap = 2
    font = ImageFont.load_default(size=15)
    names = [name for name, _ in blocks if name]
    margin = 14 + max((int(font.getlength(name)) for name in names), default=0) if names else 0
    rows = sum(-(-len(part) // columns) for _, part in blocks)
    step_x, step_y = width * scale + gap, height * scale + gap
    picture = Image.new("RGB", (margin + columns * step_x + gap, rows * step_y + gap), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    row = 0
    for name, part in blocks:
        draw.text((7, row * step_y + step_y // 2 - 8), name, fill=(20, 20, 20), font=font)
        for place, array in enumerate(part):
            tile = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
            tile = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
            x, y = place % columns, row + place // columns
            picture.paste(tile, (margin + gap + x * step_x, gap + y * step_y))
        row += -(-len(part) // columns)
    return picture


def save_image(picture: Image.Image, path: str | Path) -> None:
    """Write a PNG, aside first.

    Args:
        picture: The picture.
        path: File to create or to replace.

    Raises:
        CheckpointError: If it cannot be written.
    """
    with write_aside(Path(path)) as temporary:
        picture.save(temporary, format="PNG")
