"""Sheets: pictures in named rows and columns, with a word below each, and differences in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medgan.data.pixels import to_uint8
from medgan.pages.grids import visible

__all__ = ["Scale", "Tile", "make_sheet"]

_WIDTH = 1600  # pixels that a sheet is made to fill; a page shows it smaller
_LARGEST_TILE = 256
_FONT, _SMALL_FONT = 21, 18
_GAP = 6
_BAR = 360
_INK, _SOFT = (28, 33, 38), (89, 99, 110)
_LIMITS = (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 70, 100)


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet.

    Attributes:
        pixels: uint8, ``(height, width)`` or ``(height, width, 3)``.
        note: What stands below it; lines are divided by line breaks.
    """

    pixels: NDArray[np.uint8]
    note: str = ""

    @classmethod
    def of_images(cls, images: Tensor, notes: Sequence[str] = ()) -> list[Tile]:
        """Return one tile an image.

        Args:
            images: Shape ``(N, C, *size)``, in [-1, 1]; see `medgan.pages.visible`.
            notes: One for each; none at all for none.
        """
        pixels = to_uint8(visible(images))
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        return [cls(array, note) for array, note in zip(pixels, notes or [""] * len(pixels), strict=True)]


@dataclass(frozen=True)
class Scale:
    """Colours for numbers: from blue over white (0) to red, or, of numbers that have no sign, from black to yellow.

    Attributes:
        limit: Number from which colours are at their end, in percent of the range from black to white.
        meaning: What the numbers are, for the bar below a sheet.
        signed: Whether they have a sign.
    """

    limit: float
    meaning: str
    signed: bool = True

    @classmethod
    def for_values(cls, values: Sequence[NDArray[Any]], meaning: str, *, signed: bool = True) -> Scale:
        """Return the finest scale with a round limit that all but the last half percent of the values fit into.

        Args:
            values: Arrays of differences between images in [-1, 1]; their range is 2.
            meaning: As in `Scale`.
            signed: As in `Scale`.
        """
        high = max(float(np.quantile(np.abs(array), 0.995)) for array in values) * 50
        return cls(next((limit for limit in _LIMITS if high <= limit), _LIMITS[-1]), meaning, signed)

    def paint(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return numbers as colours.

        Args:
            values: Differences between images in [-1, 1], any shape.

        Returns:
            That shape with one more axis, of 3 colours.
        """
        from matplotlib import colormaps

        share = np.asarray(values, dtype=np.float64) * 50 / self.limit
        colours = colormaps["RdBu_r"]((share + 1) / 2) if self.signed else colormaps["inferno"](share)
        painted: NDArray[np.uint8] = (colours[..., :3] * 255).round().astype(np.uint8)
        return painted

    def tiles(self, differences: Tensor, notes: Sequence[str] = ()) -> list[Tile]:
        """Return one tile for each difference of two images, the mean over the channels of colour images.

        Args:
            differences: Shape ``(N, C, *size)``; see `medgan.pages.visible`.
            notes: As in `Tile.of_images`.
        """
        painted = self.paint(visible(differences).mean(dim=1).cpu().numpy())
        return [Tile(array, note) for array, note in zip(painted, notes or [""] * len(painted), strict=True)]


def make_sheet(
    rows: Sequence[Sequence[Tile | None]],
    *,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    scale: Scale | None = None,
    scales: Sequence[Scale] = (),
) -> Image.Image:
    """Lay tiles out in rows and columns; all tiles have the size of the first.

    Args:
        rows: Tiles, None for an empty place; rows may differ in length.
        row_names: What stands to the left of each row; lines are divided by line breaks.
        column_names: What stands above each column, likewise.
        scale: Colours that tiles were painted with; a bar below the sheet explains them.
        scales: The same, for several.

    Returns:
        An RGB picture about 1,600 pixels wide, on white.
    """
    bars = [*([] if scale is None else [scale]), *scales]
    first = next(tile for row in rows for tile in row if tile is not None)
    height, width = first.pixels.shape[:2]
    font, small = ImageFont.load_default(size=_FONT), ImageFont.load_default(size=_SMALL_FONT)
    columns = max(len(row) for row in rows)
    margin = 2 * _GAP + max((int(_width(name, font)) for name in row_names), default=0)
    room = (_WIDTH - margin) // columns - _GAP
    # Whole factors where they are to be had, so that each pixel has the same size.
    factor = max(1, min(room, _LARGEST_TILE) // width) if width <= room else room / width
    tile_width, tile_height = round(width * factor), round(height * factor)
    step = max(tile_width, *(int(_width(tile.note, small)) for row in rows for tile in row if tile), 0) + _GAP
    step = max(step, *(int(_width(name, font)) + 2 * _GAP for name in column_names), 0)
    head = _height(column_names, _FONT) + (2 if column_names else 1) * _GAP
    foots = [_height([tile.note for tile in row if tile], _SMALL_FONT) for row in rows]
    tops = np.cumsum([head, *(tile_height + foot + 2 * _GAP for foot in foots)]).tolist()
    broad = max([columns * step, *(_BAR + 3 * _GAP + int(_width(bar.meaning, small)) for bar in bars)])
    picture = Image.new("RGB", (margin + broad + _GAP, tops[-1] + 64 * len(bars) + _GAP), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for number, name in enumerate(column_names):
        draw.multiline_text((margin + number * step, _GAP), name, fill=_INK, font=font, spacing=3)
    for number, row in enumerate(rows):
        if number < len(row_names):
            draw.multiline_text((_GAP, tops[number] + 4), row_names[number], fill=_INK, font=font, spacing=3)
        for column, tile in enumerate(row):
            if tile is None:
                continue
            x, y = margin + column * step, tops[number]
            image = Image.fromarray(tile.pixels).resize((tile_width, tile_height), _resampling(factor))
            picture.paste(image, (x, y))
            draw.rectangle((x - 1, y - 1, x + tile_width, y + tile_height), outline=(200, 206, 212))
            place = (x, y + tile_height + 2)
            draw.multiline_text(place, tile.note, fill=_SOFT, font=small, spacing=2)
    for number, bar in enumerate(bars):
        _draw_bar(picture, draw, bar, (margin, tops[-1] + 64 * number + _GAP), small)
    return picture


def _resampling(factor: float) -> Image.Resampling:
    return Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX


def _width(text: str, font: Any) -> float:
    """Return the width of the widest line."""
    return max((float(font.getlength(line)) for line in text.split("\n")), default=0.0)


def _height(texts: Sequence[str], size: int) -> int:
    """Return the height of the highest text; 0 if all are empty."""
    lines = max((text.count("\n") + 1 for text in texts if text), default=0)
    return lines * (size + 5)


def _draw_bar(picture: Image.Image, draw: ImageDraw.ImageDraw, scale: Scale, place: tuple[int, int], font: Any) -> None:
    """Draw a bar of colours with its limits and its meaning."""
    x, y = place
    length, high = _BAR, 20
    low = -scale.limit if scale.signed else 0
    colours = scale.paint(np.linspace(low, scale.limit, length) / 50)
    picture.paste(Image.fromarray(np.repeat(colours[None], high, axis=0)), (x, y))
    draw.rectangle((x - 1, y - 1, x + length, y + high), outline=(200, 206, 212))
    ticks = [(0, f"{low:+g} %" if low else "0"), (length / 2, "0" if scale.signed else f"{scale.limit / 2:g} %")]
    for offset, text in [*ticks, (length, f"{scale.limit:+g} %" if scale.signed else f"{scale.limit:g} %")]:
        draw.text((x + offset - font.getlength(text) * offset / length, y + high + 3), text, fill=_SOFT, font=font)
    draw.text((x + length + 2 * _GAP, y), scale.meaning, fill=_INK, font=font)
