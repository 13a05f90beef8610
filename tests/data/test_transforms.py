"""The resizer."""

from __future__ import annotations

import numpy as np
import pytest

from medgan.data.transforms import Aspect, Resizer, to_grey
from medgan.errors import ConfigError


def test_shrinking_by_a_whole_factor_is_the_block_average() -> None:
    image = np.random.default_rng(0).random((3, 32, 48), dtype=np.float32)
    expected = image.reshape(3, 8, 4, 12, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(Resizer((8, 12))(image), expected, atol=1e-6)


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((1, 64, 64), dtype=np.float32)
    stripes[..., ::2] = 1
    np.testing.assert_allclose(Resizer((10, 10))(stripes), 0.5, atol=0.08)
    mixed = Resizer((100, 10))(stripes)  # grows along one axis
    np.testing.assert_allclose(mixed[..., 1:-1], 0.5, atol=0.08)


def test_growing_interpolates() -> None:
    ramp = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (1, 8, 1))
    grown = Resizer((32, 32))(ramp)
    assert len(np.unique(grown.round(4))) > 20  # blocks would repeat 8 values
    assert grown.min() >= 0
    assert grown.max() <= 1


def test_nothing_but_plain_arrays_leaves() -> None:
    image = np.random.default_rng(0).random((1, 20, 30), dtype=np.float32)
    for aspect in ("stretch", "pad", "crop"):
        resized = Resizer((16, 16), aspect)(image)
        assert type(resized) is np.ndarray
        assert resized.dtype == np.float32
        assert resized.shape == (1, 16, 16)


def test_aspects() -> None:
    image = np.ones((1, 20, 40), dtype=np.float32)
    image[..., :10] = 0.5  # a darker left quarter
    stretched, padded, cropped = (Resizer((20, 20), aspect)(image)[0] for aspect in ("stretch", "pad", "crop"))
    assert stretched[:, 0].tolist() == [0.5] * 20
    assert padded[:5].max() == padded[-5:].max() == 0
    np.testing.assert_allclose(padded[5:15, 0], 0.5)
    np.testing.assert_allclose(padded[5:15, -1], 1)
    assert cropped.min() == 1  # the left quarter is cut


def test_an_image_of_the_right_size_is_untouched() -> None:
    image = np.random.default_rng(0).random((1, 16, 16), dtype=np.float32)
    assert Resizer((16, 16), "crop")(image) is image


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'stretch'"):
        Resizer((8, 8), "strech")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="positive"):
        Resizer((0, 8))


def test_to_grey() -> None:
    grey = np.random.default_rng(0).random((1, 4, 4), dtype=np.float32)
    assert to_grey(grey) is grey
    np.testing.assert_array_equal(to_grey(np.repeat(grey, 3, axis=0)), grey)
    red = np.zeros((3, 2, 2), dtype=np.float32)
    red[0] = 1
    np.testing.assert_allclose(to_grey(red), 0.299)


@pytest.mark.parametrize("aspect", ["pad", "crop"])
def test_extreme_proportions_keep_at_least_one_pixel(aspect: Aspect) -> None:
    image = np.random.default_rng(0).random((1, 2, 300), dtype=np.float32)
    assert Resizer((16, 16), aspect)(image).shape == (1, 16, 16)
