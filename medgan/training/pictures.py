"""Pictures of a training: labelled grids of images, curves of losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medgan.core.saving import write_aside
from medgan.core.spec import Batch, DataSpec

__all__ = ["make_grid", "plot_losses", "save_image", "to_uint8"]

_COLOURS = {"discriminator": "#c44e52", "generator": "#4c72b0"}


def to_uint8(images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Turn images into bytes.

    Args:
        images: Shape ``(N, C, *size)``, in [-1, 1]; values outside are clipped.

    Returns:
        Shape ``(N, *size, C)``, uint8; -1 becomes 0 and 1 becomes 255, rounded to the nearest;
        NaN becomes 0.
    """
    # NaN as a byte is whatever the machine makes of it; here it is black.
    scaled = torch.nan_to_num((images.detach().float().cpu() + 1) * 127.5)
    array: np.ndarray[Any, np.dtype[np.uint8]] = scaled.round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()
    return array


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
    images = batch.images if len(data.size) == 2 else batch.images[:, :, data.size[0] // 2]
    pixels = to_uint8(images)
    if data.channels not in (1, 3):
        pixels = pixels[..., :1]
    height, width = pixels.shape[1:3]
    scale = scale or max(1, -(-96 // width))
    blocks: list[tuple[str, np.ndarray[Any, np.dtype[np.uint8]]]] = [("", pixels)]
    if batch.labels is not None and data.labels is not None and batch.labels.ndim == 1:
        labels = batch.labels.cpu().numpy()
        blocks = [(name, pixels[labels == index]) for index, name in enumerate(data.labels.names)]
    blocks = [(name, part) for name, part in blocks if len(part)]

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


def plot_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw every loss term over the images seen; not those of single classes.

    Args:
        rows: Lines of ``metrics.jsonl``.
        path: PNG file to create or to replace.

    Raises:
        CheckpointError: If it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    terms = sorted({key for row in rows for key in row if key.count("/") == 1}, key=lambda key: key.split("/")[::-1])
    kinds = list(dict.fromkeys(key.split("/", 1)[1] for key in terms))
    figure = Figure(figsize=(7, 2.6 * max(1, len(kinds))), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(max(1, len(kinds)), 1, sharex=True, squeeze=False)[:, 0]
    for panel, kind in zip(panels, kinds, strict=False):
        for key in (key for key in terms if key.split("/", 1)[1] == kind):
            network = key.split("/", 1)[0]
            points = [(row["images"] / 1000, row[key]) for row in rows if key in row]
            panel.plot(*zip(*points, strict=True), color=_COLOURS.get(network), label=network, linewidth=1.2)
        panel.set_ylabel(kind)
        panel.grid(alpha=0.3)
        panel.legend(loc="upper right", frameon=False)
    panels[-1].set_xlabel("thousand images seen")
    with write_aside(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
