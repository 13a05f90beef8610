"""Images as whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.data.pixels import to_uint8, to_uint16


@pytest.mark.parametrize(
    ("value", "byte"),
    [
        (-1.0, 0),
        (1.0, 255),
        (0.0, 128),  # 127.5, to the even neighbour
        (-1.5, 0),
        (7.0, 255),
        (-1 + 0.49 / 127.5, 0),
        (-1 + 0.51 / 127.5, 1),
        (1 - 0.49 / 127.5, 255),
        (1 - 0.51 / 127.5, 254),
        (float("inf"), 255),
        (float("-inf"), 0),
        (float("nan"), 0),
    ],
)
def test_to_uint8(value, byte):
    array = to_uint8(torch.full((1, 1, 2, 2), value))
    assert array.dtype == np.uint8
    assert (array == byte).all()


def test_to_uint8_undoes_the_scaling_of_data():
    stored = torch.arange(256)
    images = (stored.float() / 127.5 - 1).view(1, 1, 16, 16)
    assert (to_uint8(images).reshape(-1) == stored.numpy()).all()


def test_to_uint8_shape():
    images = torch.zeros(2, 3, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    assert to_uint8(images).shape == (2, 4, 5, 3)
    assert to_uint8(torch.zeros(2, 1, 3, 4, 5)).shape == (2, 3, 4, 5, 1)


def test_to_uint16():
    images = torch.tensor([-1.0, 0.0, 1.0, 2.0, float("nan")]).view(1, 1, 1, 5)
    array = to_uint16(images)
    assert array.dtype == np.uint16
    assert array.reshape(-1).tolist() == [0, 32768, 65535, 65535, 0]
