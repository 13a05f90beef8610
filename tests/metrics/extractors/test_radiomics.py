from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops
from torch import Tensor

from medgan.errors import DataError
from medgan.metrics.extractors import RADIOMICS_NAMES, get_extractor
from medgan.metrics.extractors.radiomics import Radiomics


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1)[None, None]


def named(images: Tensor) -> dict[str, float]:
    return dict(zip(RADIOMICS_NAMES, Radiomics()(images)[0].tolist(), strict=True))


NOISE = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)


def test_names_and_sizes() -> None:
    assert len(RADIOMICS_NAMES) == len(set(RADIOMICS_NAMES)) == Radiomics.dim == 174
    extractor = get_extractor("radiomics")
    assert extractor.needs_standardizing
    assert extractor(as_images(NOISE)).shape == (1, 174)
    with pytest.raises(DataError, match="16 pixels or more, got 24 × 15"):
        extractor(as_images(NOISE[:, :15]))


def test_intensities() -> None:
    values = NOISE / 255
    found = named(as_images(NOISE))
    assert found["original_mean"] == pytest.approx(values.mean(), rel=1e-6)
    assert found["original_deviation"] == pytest.approx(values.std(), rel=1e-6)
    centred = (values - values.mean()) / values.std()
    assert found["original_skewness"] == pytest.approx((centred**3).mean(), rel=1e-4)
    assert found["original_kurtosis"] == pytest.approx((centred**4).mean(), rel=1e-5)
    assert found["original_percentile_90"] == pytest.approx(np.percentile(values, 90), rel=1e-6)
    share = np.histogram(NOISE, bins=32, range=(0, 256))[0] / NOISE.size
    assert found["original_entropy"] == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-6)
    assert found["original_uniformity"] == pytest.approx((share**2).sum(), rel=1e-6)


def test_cooccurrence_agrees_with_scikit_image() -> None:
    found = named(as_images(NOISE))
    matrices = graycomatrix(NOISE // 8, [1, 2, 4], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 32, True, True)
    for name, theirs in (
        *(("contrast", "contrast"), ("dissimilarity", "dissimilarity"), ("homogeneity", "homogeneity")),
        *(("energy", "ASM"), ("correlation", "correlation")),
    ):
        for distance, value in zip((1, 2, 4), graycoprops(matrices, theirs).mean(1), strict=True):
            assert found[f"glcm_{name}_{distance}"] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_runs_of_stripes() -> None:
    stripes = np.zeros((16, 32), np.uint8)
    stripes[::2] = 255
    found = named(as_images(stripes))
    # Along the rows 16 runs of 32; along the other three directions 512 runs of 1.
    assert found["glrlm_short_emphasis"] == pytest.approx((1 / 32**2 + 3) / 4)
    assert found["glrlm_long_emphasis"] == pytest.approx((1 + 1 / 16**2 + 2 / 16**2) / 4)
    assert found["glrlm_percentage"] == pytest.approx((16 / 512 + 3) / 4)
    assert found["glrlm_grey_non_uniformity"] == pytest.approx(0.5)
    assert found["glrlm_length_non_uniformity"] == pytest.approx(1.0)
    assert found["glrlm_length_variance"] == 0
    assert found["glrlm_high_grey_emphasis"] == pytest.approx((1 + 1 / 32**2) / 2)
    # 16 zones of 32 pixels.
    assert found["glszm_percentage"] == pytest.approx(16 / 512)
    assert found["glszm_long_emphasis"] == pytest.approx((32 / 512) ** 2)
    assert found["glszm_entropy"] == pytest.approx(1.0)


def test_runs_against_a_loop() -> None:
    levels = NOISE // 64  # four levels: long runs
    found = named(as_images(levels * 64))
    height, width = levels.shape
    shares, means = [], []
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
        lengths = []
        for row in range(height):
            for column in range(width):
                before = (row - rows, column - columns)
                inside = 0 <= before[0] < height and 0 <= before[1] < width
                if inside and levels[before] == levels[row, column]:
                    continue  # not the first of its run
                length, place = 1, (row + rows, column + columns)
                while 0 <= place[0] < height and 0 <= place[1] < width and levels[place] == levels[row, column]:
                    length, place = length + 1, (place[0] + rows, place[1] + columns)
                lengths.append(length)
        shares.append(len(lengths) / levels.size)
        means.append(np.mean(1 / np.array(lengths) ** 2))
    assert found["glrlm_percentage"] == pytest.approx(np.mean(shares), rel=1e-6)
    assert found["glrlm_short_emphasis"] == pytest.approx(np.mean(means), rel=1e-6)


def test_binary_patterns() -> None:
    flat = named(as_images(np.full((16, 16), 77, np.uint8)))
    assert flat["lbp_8_of_8_1"] == flat["lbp_8_of_8_2"] == 1
    point = np.zeros((16, 16), np.uint8)
    point[8, 8] = 200
    found = named(as_images(point))
    assert found["lbp_0_of_8_1"] == pytest.approx(1 / 256)
    assert found["lbp_8_of_8_1"] == pytest.approx(255 / 256)


def test_filters_answer_to_what_they_are_for() -> None:
    rows = np.zeros((32, 32), np.uint8)
    rows[::2] = 255
    stripes, turned = named(as_images(rows)), named(as_images(rows.T))
    assert stripes["wavelet_hl_1_root_mean_square"] == pytest.approx(0.5, rel=0.05)
    assert stripes["wavelet_lh_1_root_mean_square"] == 0
    assert turned["wavelet_lh_1_root_mean_square"] == pytest.approx(0.5, rel=0.05)
    assert turned["wavelet_hl_1_root_mean_square"] == 0
    ramp = named(as_images(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))))
    assert ramp["gradient_median"] == pytest.approx(8 / 255, rel=1e-4)
    assert abs(ramp["log_2_median"]) < 1e-3


def test_constant_images_are_finite() -> None:
    for value in (0, 128, 255):
        found = named(as_images(np.full((16, 16), value, np.uint8)))
        assert np.isfinite(list(found.values())).all()
        assert found["original_mean"] == pytest.approx(value / 255)
        assert found["original_deviation"] < 1e-9
        assert found["original_skewness"] == 0
        assert found["glcm_correlation_1"] == 1
        assert found["glszm_percentage"] == pytest.approx(1 / 256)


def test_sixteen_bits_count_and_batches_do_not() -> None:
    image = as_images(NOISE // 2)
    finer = image + 1 / 32767.5
    assert named(finer)["original_mean"] > named(image)["original_mean"]
    extractor = Radiomics()
    both = extractor(torch.cat([image, finer]))
    assert torch.equal(both, torch.cat([extractor(image), extractor(finer)]))


def test_the_definition_has_a_hash() -> None:
    assert Radiomics().sha256 == "c2117e41dabbd9fcbda4eccef3da0afc00d60d79653b380c408cb5c2160e9745"
