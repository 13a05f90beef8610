"""How alike two images are."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric, SSIMMetric
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean

from medgan.errors import ConfigError, DataError
from medgan.metrics.functional import images as module
from medgan.metrics.functional.images import SCALE_WEIGHTS, check_images, mse, multiscale_ssim, psnr, ssim


def _pairs(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures within 0...1, and the same with noise and less contrast."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal(shape), [0, 0, *(3.0,) * (len(shape) - 2)])
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return smooth, (0.1 + 0.8 * smooth + 0.08 * rng.standard_normal(shape)).clip(0, 1)


def _skimage_ssim(first: np.ndarray, second: np.ndarray, data_range: float = 1.0) -> list[float]:
    return [
        structural_similarity(
            one,
            other,
            data_range=data_range,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, other in zip(first, second, strict=True)
    ]


def _monai(metric: SSIMMetric | MultiScaleSSIMMetric, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return metric(torch.from_numpy(first), torch.from_numpy(second)).numpy()[:, 0]


def _plain_multiscale_ssim(first: np.ndarray, second: np.ndarray, scales: int) -> float:
    """MS-SSIM of two grey images within 0...1, window by window."""
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    product = 1.0
    for scale, weight in enumerate(weights / weights.sum(), start=1):
        one, other = (sliding_window_view(image, (11, 11)) for image in (first, second))
        mean, other_mean = (np.einsum("ijkl,kl", windows, kernel)[..., None, None] for windows in (one, other))
        variance, other_variance, covariance = (
            np.einsum("ijkl,kl", moments, kernel)
            for moments in ((one - mean) ** 2, (other - other_mean) ** 2, (one - mean) * (other - other_mean))
        )
        term = (2 * covariance + 0.03**2) / (variance + other_variance + 0.03**2)
        if scale == scales:
            luminance = (2 * mean * other_mean + 0.01**2) / (mean**2 + other_mean**2 + 0.01**2)
            term = term * luminance[..., 0, 0]
        product *= term.mean() ** weight
        height, width = (length // 2 * 2 for length in first.shape)
        first, second = (downscale_local_mean(image[:height, :width], (2, 2)) for image in (first, second))
    return product


# --------------------------------------------------------------------------------- parity and values


@pytest.mark.parametrize("shape", [(3, 1, 40, 33), (2, 3, 24, 40), (2, 1, 14, 16, 12), (1, 2, 11, 11)])
def test_ssim_is_that_of_scikit_image_and_monai(shape: tuple[int, ...]) -> None:
    first, second = _pairs(*shape)
    found = ssim(first, second, data_range=1)
    assert found.shape == shape[:1]
    assert found.dtype == np.float64
    assert (np.abs(found - 0.5) < 0.45).all()  # neither trivial
    np.testing.assert_allclose(found, _skimage_ssim(first, second), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found, _monai(SSIMMetric(len(shape) - 2), first, second), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 1, 177, 200), (2, 3, 176, 176)])
def test_multiscale_ssim_is_that_of_monai(shape: tuple[int, ...]) -> None:
    first, second = _pairs(*shape)
    found = multiscale_ssim(first, second, data_range=1)
    assert found.shape == shape[:1]
    assert (np.abs(found - 0.5) < 0.45).all()
    # MONAI computes in float32, which costs 1e-5 where coarse scales are smooth.
    np.testing.assert_allclose(found, _monai(MultiScaleSSIMMetric(2), first, second), rtol=0, atol=3e-5)


@pytest.mark.parametrize(("scales", "size"), [(5, (177, 180)), (3, (47, 60)), (2, (22, 23))])
def test_multiscale_ssim_window_by_window(scales: int, size: tuple[int, int]) -> None:
    first, second = _pairs(2, 1, *size)
    expected = [
        _plain_multiscale_ssim(one, other, scales) for one, other in zip(first[:, 0], second[:, 0], strict=True)
    ]
    found = multiscale_ssim(first, second, data_range=1, scales=scales)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("scales", "shape"), [(4, (2, 1, 99, 120)), (3, (2, 1, 46, 47, 45))])
def test_fewer_scales_are_weighted_to_one(scales: int, shape: tuple[int, ...]) -> None:
    first, second = _pairs(*shape)
    weights = [weight / sum(SCALE_WEIGHTS[:scales]) for weight in SCALE_WEIGHTS[:scales]]
    expected = _monai(MultiScaleSSIMMetric(len(shape) - 2, weights=weights), first, second)
    found = multiscale_ssim(first, second, data_range=1, scales=scales)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)


def test_one_scale_is_ssim() -> None:
    first, second = _pairs(2, 1, 32, 32)
    second[1] = 1 - first[1]
    found = multiscale_ssim(first, second, data_range=1, scales=1)
    assert found.tolist() == ssim(first, second, data_range=1).tolist()
    assert found[1] < 0


@pytest.mark.parametrize("shape", [(3, 1, 20, 30), (2, 3, 9, 8), (2, 1, 6, 5, 4)])
def test_mse_and_psnr_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    first, second = _pairs(*shape)
    errors = [mean_squared_error(one, other) for one, other in zip(first, second, strict=True)]
    ratios = [peak_signal_noise_ratio(one, other, data_range=1) for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(mse(first, second), errors, rtol=1e-12)
    np.testing.assert_allclose(psnr(first, second, data_range=1), ratios, rtol=1e-12)


def test_values_by_hand() -> None:
    first, second = np.zeros((2, 1, 12, 12)), np.zeros((2, 1, 12, 12))
    second[0] = 0.5
    second[1, 0, 0, 0] = 1.2
    np.testing.assert_allclose(mse(first, second), [0.25, 0.01])
    np.testing.assert_allclose(psnr(first, second, data_range=10), [10 * math.log10(400), 40])
    # Of two constant images only the luminance differs: C1 / (0.5 ** 2 + C1) with C1 = 0.01 ** 2.
    np.testing.assert_allclose(ssim(first[:1], second[:1], data_range=1), 0.0001 / 0.2501)


def test_black_against_white_and_an_inverted_image() -> None:
    black, white = np.zeros((1, 1, 16, 16)), np.full((1, 1, 16, 16), 255, dtype=np.uint8)
    assert psnr(black, white, data_range=255).item() == 0
    np.testing.assert_allclose(ssim(black, white, data_range=255), 0.0001 / 1.0001)
    noise = np.random.default_rng(0).uniform(size=(1, 1, 32, 32))
    assert ssim(noise, 1 - noise, data_range=1).item() < -0.9
    assert multiscale_ssim(noise, 1 - noise, data_range=1, scales=2).item() == 0


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("spatial", [(44, 47), (22, 23, 22)])
def test_identical_images(constant: bool, spatial: tuple[int, ...]) -> None:
    images = np.full((2, 1, *spatial), 0.3) if constant else _pairs(2, 1, *spatial)[0]
    assert mse(images, images).tolist() == [0, 0]
    assert psnr(images, images, data_range=1).tolist() == [math.inf, math.inf]
    assert ssim(images, images, data_range=1).tolist() == [1, 1]
    assert multiscale_ssim(images, images, data_range=1, scales=2).tolist() == [1, 1]


def test_order_of_the_two_sides_does_not_matter() -> None:
    first, second = _pairs(3, 2, 30, 30)
    for metric in (ssim, psnr):
        assert metric(first, second, data_range=1).tolist() == metric(second, first, data_range=1).tolist()
    forth, back = (multiscale_ssim(*pair, data_range=1, scales=2) for pair in ((first, second), (second, first)))
    assert forth.tolist() == back.tolist()
    assert mse(first, second).tolist() == mse(second, first).tolist()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _pairs(5, 1, 24, 24)
    mask = np.random.default_rng(1).random((5, 24, 24)) < 0.5

    def values() -> list[list[float]]:
        found = [function(first, second, data_range=1, mask=mask) for function in (ssim, psnr)]
        found += [mse(first, second, mask=mask), multiscale_ssim(first, second, data_range=1, scales=2)]
        return [value.tolist() for value in found]

    whole = values()
    monkeypatch.setattr(module, "_BLOCK_VALUES", 2 * 24 * 24)
    assert values() == whole


# ------------------------------------------------------------------------------- range and dtype


def test_range_has_no_default() -> None:
    first, second = _pairs(1, 1, 24, 24)
    for metric in (ssim, psnr, multiscale_ssim):
        with pytest.raises(TypeError, match="data_range"):
            metric(first, second)  # type: ignore[operator]


def test_twelve_bits_in_sixteen_need_their_own_range() -> None:
    first, second = (np.rint(images * 4095).astype(np.uint16) for images in _pairs(1, 1, 64, 64))
    right, wrong = psnr(first, second, data_range=4095).item(), psnr(first, second, data_range=65535).item()
    assert wrong - right == pytest.approx(20 * math.log10(65535 / 4095))  # 24 dB for nothing
    assert ssim(first, second, data_range=65535).item() - ssim(first, second, data_range=4095).item() > 0.1
    np.testing.assert_allclose(
        ssim(first, second, data_range=4095), _skimage_ssim(first.astype(float), second.astype(float), 4095), atol=1e-10
    )


def test_range_is_not_taken_from_the_images() -> None:
    first, second = _pairs(2, 1, 24, 24)
    dark = np.array([1, 0.25])[:, None, None, None]
    np.testing.assert_allclose(
        psnr(first * dark, second * dark, data_range=1) - psnr(first, second, data_range=1), [0, 20 * math.log10(4)]
    )


@pytest.mark.parametrize(
    ("scale", "offset"), [(2, -1), (1, 3000), (4000, -1000), (1, -1e9), (1e-6, 0)], ids=lambda value: f"{value:g}"
)
def test_unit_and_offset_of_the_values_do_not_matter(scale: float, offset: float) -> None:
    first, second = _pairs(2, 1, 44, 44)
    moved = first * scale + offset, second * scale + offset
    limits = (offset, offset + scale)
    close = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(ssim(*moved, data_range=limits), ssim(first, second, data_range=1), **close)
    np.testing.assert_allclose(psnr(*moved, data_range=limits), psnr(first, second, data_range=1), **close)
    np.testing.assert_allclose(
        multiscale_ssim(*moved, data_range=limits, scales=3),
        multiscale_ssim(first, second, data_range=1, scales=3),
        **close,
    )


def test_float32_with_an_offset() -> None:
    first, second = (images.astype(np.float32) + np.float32(3000) for images in _pairs(2, 1, 32, 32))
    expected = ssim(first.astype(np.float64) - 3000, second.astype(np.float64) - 3000, data_range=1)
    np.testing.assert_allclose(ssim(first, second, data_range=(3000, 3001)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int64, np.float16, np.float32])
def test_any_dtype_is_computed_in_float64(dtype: type) -> None:
    first, second = (np.rint(images * 100).astype(dtype) for images in _pairs(2, 1, 24, 24))
    floats = first.astype(np.float64), second.astype(np.float64)
    assert mse(first, second).tolist() == mse(*floats).tolist()
    for metric in (ssim, psnr):
        assert metric(first, second, data_range=100).tolist() == metric(*floats, data_range=100).tolist()


def test_bytes_do_not_wrap() -> None:
    first, second = np.full((1, 1, 4, 4), 10, dtype=np.uint8), np.full((1, 1, 4, 4), 250, dtype=np.uint8)
    assert mse(first, second).item() == 240**2


def test_inputs_are_left_as_they_are() -> None:
    first, second = _pairs(2, 1, 24, 24)
    before = first.copy(), second.copy()
    ssim(first, second, data_range=(0, 2))
    psnr(first, second, data_range=(0, 2))
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])


@pytest.mark.parametrize("data_range", [0, -1, math.nan, math.inf, (1, 1), (1, -1), (0, 1, 2), (5,), None])
def test_what_is_no_range(data_range: object) -> None:
    first, second = _pairs(1, 1, 24, 24)
    with pytest.raises(ConfigError, match=r"no range.*data_range=\(-1, 1\)"):
        ssim(first, second, data_range=data_range)  # type: ignore[arg-type]


def test_values_outside_of_the_range() -> None:
    first, second = _pairs(1, 1, 24, 24)
    with pytest.raises(DataError, match=r"`first` has values from -1 to 1, outside of data_range=\(0, 2\)"):
        ssim(first * 2 - 1, second, data_range=2)
    with pytest.raises(DataError, match=r"`second` .*images\.clip\(0, 1\)"):
        psnr(first, second * 255, data_range=1)
    with pytest.raises(DataError, match="outside"):
        multiscale_ssim(first, second + 1e-4 + (1 - second.max()), data_range=1, scales=1)
    # What a change of range leaves in float32 is no reason to stop.
    assert psnr(first, np.maximum(second, 1 + 1e-7), data_range=1).item() > 0


# ----------------------------------------------------------------------------------------- masks


def test_mask_takes_the_mean_of_its_pixels() -> None:
    first, second = _pairs(2, 3, 30, 26)
    mask = np.random.default_rng(1).random((2, 30, 26)) < 0.3
    channels_last = [np.moveaxis(images, 1, -1) for images in (first, second)]
    expected = [((one - other) ** 2)[inside].mean() for one, other, inside in zip(*channels_last, mask, strict=True)]
    np.testing.assert_allclose(mse(first, second, mask=mask), expected)
    np.testing.assert_allclose(psnr(first, second, data_range=1, mask=mask), -10 * np.log10(expected))
    everything = np.ones((2, 30, 26), dtype=bool)
    np.testing.assert_allclose(mse(first, second, mask=everything), mse(first, second))


@pytest.mark.parametrize("size", [(30, 26), (14, 13, 15)])
def test_mask_takes_the_windows_whose_centre_is_in_it(size: tuple[int, ...]) -> None:
    first, second = _pairs(2, 1, *size)
    mask = np.random.default_rng(1).random((2, *size)) < 0.3
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    inner = np.zeros(size, dtype=bool)
    inner[tuple(slice(5, -5) for _ in size)] = True
    expected = [
        structural_similarity(first[i, 0], second[i, 0], data_range=1, **options)[1][mask[i] & inner].mean()
        for i in range(2)
    ]
    np.testing.assert_allclose(ssim(first, second, data_range=1, mask=mask), expected, rtol=0, atol=1e-10)


def test_mask_removes_what_black_borders_add() -> None:
    first, second = (np.pad(images, [(0, 0), (0, 0), (20, 20), (20, 20)]) for images in _pairs(1, 1, 40, 40))
    mask = np.zeros((1, 80, 80), dtype=bool)
    mask[:, 25:-25, 25:-25] = True
    body = ssim(first, second, data_range=1, mask=mask)
    np.testing.assert_allclose(body, ssim(first[..., 20:-20, 20:-20], second[..., 20:-20, 20:-20], data_range=1))
    assert ssim(first, second, data_range=1).item() > body.item() + 0.1


def test_masks_that_do_not_fit() -> None:
    first, second = _pairs(2, 1, 24, 24)
    for mask in (np.ones((24, 24), dtype=bool), np.ones((2, 1, 24, 24), dtype=bool), np.ones((2, 24, 24), np.uint8)):
        with pytest.raises(DataError, match=r"bool of shape \(2, 24, 24\)"):
            mse(first, second, mask=mask)
    mask = np.ones((2, 24, 24), dtype=bool)
    mask[1] = False
    with pytest.raises(DataError, match="mask of image 1 is empty"):
        psnr(first, second, data_range=1, mask=mask)
    mask[1, :5] = True
    assert np.isfinite(psnr(first, second, data_range=1, mask=mask)).all()
    with pytest.raises(DataError, match="mask of image 1 is empty inside the border of 5"):
        ssim(first, second, data_range=1, mask=mask)


# -------------------------------------------------------------------------------------- bad input


def _every(first: np.ndarray, second: np.ndarray) -> list[Callable[[], np.ndarray]]:
    return [
        lambda: mse(first, second),
        lambda: psnr(first, second, data_range=1),
        lambda: ssim(first, second, data_range=1),
        lambda: multiscale_ssim(first, second, data_range=1, scales=2),
    ]


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ((2, 1, 24, 24), (2, 1, 24, 25), "same shape"),
        ((2, 1, 24, 24), (1, 1, 24, 24), "same shape"),
        ((2, 24, 24), (2, 24, 24), r"images\[:, None\]"),
        ((1, 1, 12, 12, 12, 12), (1, 1, 12, 12, 12, 12), "depth, height, width"),
        ((2, 24, 24, 24), (2, 24, 24, 24), "24 channels"),
        ((2, 24, 24, 3), (2, 24, 24, 3), "moveaxis"),
        ((0, 1, 24, 24), (0, 1, 24, 24), "empty"),
    ],
)
def test_shapes_that_do_not_fit(which: int, first: tuple[int, ...], second: tuple[int, ...], message: str) -> None:
    call = _every(np.zeros(first), np.zeros(second))[which]
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["first", "second"])
def test_values_that_are_not_finite(which: int, value: float, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_VALUES", 1)  # so that image 2 is not in the first block
    pairs = dict(zip(["first", "second"], _pairs(3, 1, 24, 24), strict=True))
    pairs[side][2, 0, 5, 5] = value
    call = _every(**pairs)[which]
    with pytest.raises(DataError, match=f"Image 2 of `{side}` has NaN or infinite"):
        call()


def test_values_that_are_no_numbers() -> None:
    images = np.full((1, 1, 24, 24), 1j)
    with pytest.raises(DataError, match="complex128"):
        mse(images, images)
    with pytest.raises(DataError, match="`features` must hold real numbers"):
        check_images(np.array([["a"]]), "features")


def test_images_smaller_than_the_window() -> None:
    for shape in ((1, 1, 10, 40), (1, 1, 20, 20, 10)):
        with pytest.raises(DataError, match="at least 11 pixels"):
            ssim(np.zeros(shape), np.zeros(shape), data_range=1)


@pytest.mark.parametrize(
    ("size", "scales", "message"),
    [
        (175, 5, "5 scales need images of at least 176 pixels.*175 x 175.*scales=4 or less"),
        (64, 5, "scales=3 or less"),
        (43, 3, "44 pixels.*scales=2 or less"),
        (10, 1, "too small for any"),
    ],
)
def test_images_too_small_for_the_scales(size: int, scales: int, message: str) -> None:
    images = np.zeros((1, 1, size, size))
    with pytest.raises(DataError, match=message):
        multiscale_ssim(images, images, data_range=1, scales=scales)


@pytest.mark.parametrize("scales", [0, 6])
def test_numbers_of_scales_that_there_are_not(scales: int) -> None:
    images = np.zeros((1, 1, 24, 24))
    with pytest.raises(ConfigError, match="from 1 to 5"):
        multiscale_ssim(images, images, data_range=1, scales=scales)
