from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.errors import CheckpointError
from medgan.pages import make_grid, save_image

GAP = 2
WHITE = 255


def levels(n):
    """Return images whose pixels all are 10, 20, 30, ..."""
    return torch.stack([torch.full((1, 4, 4), (10 * (i + 1)) / 127.5 - 1) for i in range(n)])


def tiles(picture, columns, side):
    """Return the pixels of a grid's tiles, row by row; a tile that is white throughout is none."""
    pixels = np.asarray(picture)[..., 0]
    pixels = pixels[:, pixels.shape[1] - columns * (side + GAP) - GAP :]
    rows = (len(pixels) - GAP) // (side + GAP)
    assert len(pixels) == rows * (side + GAP) + GAP
    found = [
        [
            pixels[GAP + y * (side + GAP) :, GAP + x * (side + GAP) :][:side, :side]
            for x in range(columns)
        ]
        for y in range(rows)
    ]  # fmt: skip
    assert (pixels[:GAP] == WHITE).all()
    assert (pixels[-GAP:] == WHITE).all()
    return [[int(tile[0, 0]) if (tile == tile[0, 0]).all() else -1 for tile in row] for row in found]


def test_grid_without_labels():
    picture = make_grid(Batch(levels(5)), DataSpec(1, (4, 4)), columns=3, scale=2)
    assert picture.mode == "RGB"
    assert picture.size == (3 * 10 + 2, 2 * 10 + 2)  # no margin for names
    assert tiles(picture, 3, 8) == [[10, 20, 30], [40, 50, WHITE]]


def test_grid_has_a_block_for_each_class():
    data = DataSpec(1, (4, 4), LabelSpec(("A", "B", "C")))
    labels = torch.tensor([2, 0, 2, 0, 2, 2])  # none of B
    picture = make_grid(Batch(levels(6), labels), data, columns=3, scale=8)
    assert tiles(picture, 3, 32) == [[20, 40, WHITE], [10, 30, 50], [60, WHITE, WHITE]]
    margin = np.asarray(picture)[:, : picture.width - 3 * 34 - GAP]
    inked = (margin < 128).any(axis=(1, 2))
    assert inked[:34].any()  # A beside the first row
    assert inked[34:68].any()  # C beside the second
    assert not inked[68:].any()
    assert not (np.asarray(picture)[:, :3] < 128).any()


def test_grid_is_wide_enough_for_names():
    names = ("a class with a long name", "B")
    data = DataSpec(1, (4, 4), LabelSpec(names))
    batch = Batch(levels(2), torch.tensor([0, 1]))
    short = make_grid(batch, DataSpec(1, (4, 4), LabelSpec(("A", "B"))))
    long = make_grid(batch, data)
    assert long.width > short.width + 100
    assert long.height == short.height
    assert tiles(long, 8, 96) == tiles(short, 8, 96)  # the names do not reach into the images


@pytest.mark.parametrize(("side", "scale"), [(32, 3), (64, 2), (96, 1), (100, 1), (256, 1), (28, 4)])
def test_small_images_are_enlarged_by_whole_numbers(side, scale):
    picture = make_grid(Batch(torch.zeros(1, 1, side, side)), DataSpec(1, (side, side)), columns=1)
    assert picture.size == (side * scale + 2 * GAP, side * scale + 2 * GAP)


def test_grid_in_colour():
    images = torch.full((1, 3, 4, 4), -1.0)
    images[:, 1] = 1
    picture = make_grid(Batch(images), DataSpec(3, (4, 4)), columns=1, scale=1)
    assert picture.getpixel((3, 3)) == (0, 255, 0)


def test_grid_of_other_channels_shows_the_first():
    images = torch.full((1, 2, 4, 4), -1.0)
    images[:, 0] = 1
    picture = make_grid(Batch(images), DataSpec(2, (4, 4)), columns=1, scale=1)
    assert picture.getpixel((3, 3)) == (255, 255, 255)


def test_grid_of_volumes_shows_the_middle():
    images = torch.full((1, 1, 5, 4, 4), -1.0)
    images[:, :, 2] = 0.5
    picture = make_grid(Batch(images), DataSpec(1, (5, 4, 4)), columns=1, scale=1)
    assert picture.getpixel((3, 3)) == (191, 191, 191)


def test_grid_of_findings_has_no_blocks():
    data = DataSpec(1, (4, 4), LabelSpec(("mass", "cyst"), "multilabel"))
    picture = make_grid(Batch(levels(2), torch.tensor([[0.0, 1.0], [1.0, 1.0]])), data, columns=2, scale=1)
    assert tiles(picture, 2, 4) == [[10, 20]]


def test_save_image(tmp_path):
    path = tmp_path / "a" / "b.png"
    save_image(Image.new("L", (3, 2), 7), path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (3, 2), 7)
    assert [item.name for item in path.parent.iterdir()] == ["b.png"]


def test_save_image_where_it_cannot(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_image(Image.new("L", (3, 2)), tmp_path / "file" / "b.png")
