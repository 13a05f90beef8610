from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.pages import Scale, Tile, make_sheet, visible


def test_visible_parts():
    volume = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(2, 1, 4, 5, 6)
    assert visible(volume).shape == (2, 1, 5, 6)
    assert (visible(volume) == 2).all()
    assert visible(torch.zeros(2, 4, 5, 6)).shape == (2, 1, 5, 6)
    assert visible(torch.zeros(2, 3, 5, 6)).shape == (2, 3, 5, 6)


@pytest.mark.parametrize(("largest", "limit"), [(0.0, 1), (0.05, 3), (0.2, 10), (0.9, 50), (1.9, 100)])
def test_limits_are_round(largest, limit):
    values = np.linspace(-largest, largest, 1001)
    assert Scale.for_values([values], "x").limit == limit


def test_colours_say_the_sign():
    scale = Scale(10, "x")
    blue, white, red = scale.paint(np.array([-0.2, 0.0, 0.2])).astype(int)
    assert white.min() > 240
    assert blue[2] > blue[0] + 50
    assert red[0] > red[2] + 50
    assert np.array_equal(scale.paint(np.array([0.2])), scale.paint(np.array([1.0])))
    dark, light = Scale(10, "x", signed=False).paint(np.array([0.0, 0.2])).astype(int).sum(axis=-1)
    assert dark < 50 < 500 < light


def test_tiles_are_where_they_belong():
    images = torch.linspace(-1, 1, 4).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    tiles = Tile.of_images(images, ["a", "b", "c", "d"])
    assert [tile.note for tile in tiles] == ["a", "b", "c", "d"]
    sheet = np.asarray(make_sheet([tiles[:2], [None, tiles[3]]], row_names=["one", "two"], column_names=["x", "y\nz"]))
    assert sheet.shape[2] == 3
    assert sheet.shape[1] < 1700
    grey = sheet.min(axis=2)
    # A tile of black fills the first place; of white there is only the frame.
    assert (grey == 0).sum() >= 200**2
    below = sheet[sheet.shape[0] // 2 + 20 :]
    assert (below == 0).all(axis=2).sum() < 50


def test_large_images_are_shrunk_and_bars_explain_colours():
    tiles = Scale(5, "change").tiles(torch.full((9, 3, 300, 300), 0.2))
    scale = Scale(5, "change")
    with_bar, without = make_sheet([tiles], scale=scale), make_sheet([tiles])
    assert with_bar.width == without.width <= 1700
    assert with_bar.height == without.height + 64
    narrow = make_sheet([tiles[:1]], scale=Scale(5, "a meaning that is longer than one tile is broad"))
    text = np.asarray(narrow)[-64:, 420:].min(axis=2)
    assert (text[:, :-12] < 100).any()
    assert (text[:, -4:] > 200).all()
