"""The resizer, and the conversions between grey and colour."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import Resize, ResizeWithPadOrCrop

from medgan.data.transforms import Fit, Resizer, to_colour, to_grey
from medgan.errors import ConfigError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_shrinking_by_a_whole_factor_is_the_block_average(rng: np.random.Generator) -> None:
    image = rng.random((3, 32, 48), dtype=np.float32)
    expected = image.reshape(3, 8, 4, 12, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(Resizer((8, 12))(image), expected, atol=1e-6)
    volume = rng.random((1, 8, 12, 16), dtype=np.float32)
    expected = volume.reshape(1, 4, 2, 4, 3, 4, 4).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(Resizer((4, 4, 4))(volume), expected, atol=1e-6)


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((1, 64, 64), dtype=np.float32)
    stripes[..., ::2] = 1
    np.testing.assert_allclose(Resizer((10, 10))(stripes), 0.5, atol=0.08)
    np.testing.assert_allclose(Resizer((100, 10))(stripes), 0.5, atol=0.08)  # grows along one axis
    np.testing.assert_allclose(Resizer((10, 64, 8))(np.tile(stripes[:, None], (1, 5, 1, 1))), 0.5, atol=1e-6)


def test_growing_interpolates() -> None:
    ramp = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (1, 8, 1))
    for grown in (Resizer((32, 32))(ramp), Resizer((9, 32, 32))(np.tile(ramp[:, None], (1, 3, 1, 1)))):
        assert len(np.unique(grown.round(4))) > 20  # blocks would repeat 8 values
        assert grown.min() >= 0
        assert grown.max() <= 1


@pytest.mark.parametrize("size", [(16, 24), (70, 90)])
def test_pictures_are_those_of_monai(rng: np.random.Generator, size: tuple[int, int]) -> None:
    image = rng.random((3, 37, 53), dtype=np.float32)
    reference = Resize(size, mode="area" if size[0] < 37 else "bilinear")(image)
    np.testing.assert_allclose(Resizer(size)(image), reference.as_tensor().numpy(), atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 31), (21, 30), (9, 20, 31), (10, 21, 30)])
@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_padding_and_cropping_are_those_of_monai(rng: np.random.Generator, shape: tuple[int, ...], fit: Fit) -> None:
    image = rng.random((2, *shape), dtype=np.float32)
    for length in (15, 16, 40):
        size = (length,) * len(shape)
        scale = (min if fit == "pad" else max)(length / side for side in shape)
        stretched = Resizer(tuple(round(side * scale) for side in shape))(image)
        reference = ResizeWithPadOrCrop(size, mode="constant")(stretched)
        np.testing.assert_array_equal(Resizer(size, fit)(image), reference.as_tensor().numpy())


def test_nothing_but_plain_arrays_leaves(rng: np.random.Generator) -> None:
    for shape in ((1, 20, 30), (1, 10, 20, 30)):
        image = rng.random(shape, dtype=np.float32)
        image.setflags(write=False)
        for fit in ("stretch", "pad", "crop"):
            size = (16,) * (len(shape) - 1)
            resized = Resizer(size, fit)(image)
            assert type(resized) is np.ndarray
            assert resized.dtype == np.float32
            assert resized.shape == (1, *size)


def test_fits() -> None:
    image = np.ones((1, 20, 40), dtype=np.float32)
    image[..., :10] = 0.5  # a darker left quarter
    stretched, padded, cropped = (Resizer((20, 20), fit)(image)[0] for fit in ("stretch", "pad", "crop"))
    assert stretched[:, 0].tolist() == [0.5] * 20
    assert padded[:5].max() == padded[-5:].max() == 0
    np.testing.assert_allclose(padded[5:15, 0], 0.5)
    np.testing.assert_allclose(padded[5:15, -1], 1)
    assert cropped.min() == 1  # the left quarter is cut


def test_fits_of_volumes() -> None:
    volume = np.ones((1, 5, 10, 10), dtype=np.float32)
    volume[:, :, :, 0] = 0.5
    padded = Resizer((10, 10, 10), "pad")(volume)[0]
    assert padded.max(axis=(1, 2)).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert padded[2:7].min() == 0.5
    assert Resizer((5, 5, 5), "crop")(volume).min() == 1


def test_scales() -> None:
    found = (10, 40)
    assert Resizer((20, 20)).scales(found) == [2, 0.5]
    assert Resizer((20, 20), "pad").scales(found) == [0.5, 0.5]
    assert Resizer((20, 20), "crop").scales(found) == [2, 2]


def test_an_image_of_the_right_size_is_untouched(rng: np.random.Generator) -> None:
    image = rng.random((1, 16, 16), dtype=np.float32)
    assert Resizer((16, 16), "crop")(image) is image


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'stretch'"):
        Resizer((8, 8), "strech")  # type: ignore[arg-type]
    for size in ((0, 8), (8,), (8, 8, 8, 8)):
        with pytest.raises(ConfigError, match="two or three positive lengths"):
            Resizer(size)


def test_a_volume_is_no_picture() -> None:
    with pytest.raises(ValueError, match="cannot come to the size"):
        Resizer((8, 8))(np.zeros((1, 8, 8, 8), dtype=np.float32))


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_extreme_proportions_keep_at_least_one_pixel(rng: np.random.Generator, fit: Fit) -> None:
    assert Resizer((16, 16), fit)(rng.random((1, 2, 300), dtype=np.float32)).shape == (1, 16, 16)


def test_to_grey(rng: np.random.Generator) -> None:
    grey = rng.random((1, 4, 4), dtype=np.float32)
    assert to_grey(grey) is grey
    np.testing.assert_array_equal(to_grey(np.repeat(grey, 3, axis=0)), grey)
    red = np.zeros((3, 2, 2, 2), dtype=np.float32)
    red[0] = 1
    np.testing.assert_allclose(to_grey(red), np.full((1, 2, 2, 2), 0.299))


def test_to_grey_does_not_leave_the_range() -> None:
    almost_white = np.ones((3, 4, 4), dtype=np.float32)
    almost_white[0, 0, 0] = np.nextafter(np.float32(1), np.float32(0))  # else the channels are equal
    assert to_grey(almost_white).max() <= 1


def test_to_colour(rng: np.random.Generator) -> None:
    grey = rng.random((1, 2, 4, 4), dtype=np.float32)
    colour = to_colour(grey)
    assert colour.shape == (3, 2, 4, 4)
    assert (colour == grey).all()
    assert to_colour(colour) is colour
