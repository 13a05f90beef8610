from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan.data import ImageDataset
from medgan.errors import ConfigError
from medgan.evaluation.fidelity import FidelityReport, make_page, measure_fidelity
from medgan.evaluation.fidelity.page import summarise_report
from medgan.metrics.extractors import Extractor

Make = Callable[..., ImageDataset]


@pytest.fixture
def real(make_textures: Make) -> ImageDataset:
    """Images of 100 patients: the dark ones are A, the bright ones B, and four are C."""
    dark, bright = (make_textures(100, seed, shift=shift) for seed, shift in ((1, -45), (2, 45)))
    pixels = np.concatenate([each.images_at(range(100)).numpy()[:, 0] for each in (dark, bright)])
    ward = np.array(["A"] * 100 + ["B"] * 92 + ["C"] * 8)
    found = ImageDataset.from_arrays(
        (pixels * 127.5 + 127.5).round().astype(np.uint8), patient_ids=[f"p{number // 2}" for number in range(200)]
    )
    return replace(found, index=found.index.assign(ward=ward, all="same"))


def measure(real: ImageDataset, synthetic: ImageDataset, extractor: Extractor, **options: Any) -> FidelityReport:
    settings = {"subgroups": ["ward"], "metrics": ["precision-recall"], "halvings": 3, **options}
    return measure_fidelity(real, synthetic, extractors=[extractor], **settings)


def test_a_group_that_is_missing_is_named(real: ImageDataset, make_textures: Make, moments: Extractor) -> None:
    only_dark = make_textures(200, 3, shift=-45, labelled=False)
    report = measure(real, only_dark, moments)
    found = {(score.group, score.metric): score for score in report.scores if score.column == "ward"}
    assert {group for group, _ in found} == {"A", "B", "C"}
    represented, missing = found["A", "subgroup_coverage"], found["B", "subgroup_coverage"]
    assert represented.relative is not None
    assert missing.relative is not None
    assert represented.relative > 0.8
    assert missing.relative < 0.3
    assert missing.value is not None
    assert missing.interval is not None
    assert missing.interval.low <= missing.value <= missing.interval.high
    assert (missing.patients, missing.small) == (46, False)
    sentences = [each for each in summarise_report(report) if each.startswith("ward: the lowest coverage")]
    assert len(sentences) == 1
    assert "is that of B" in sentences[0]


def test_a_group_of_few_that_are_all_covered_is_not_certain(
    real: ImageDataset, make_textures: Make, moments: Extractor
) -> None:
    """The generator repeats every image, so all are covered; of C there are four patients."""
    report = measure(real, real, moments)
    (covered,) = [each for each in report.scores if (each.group, each.metric) == ("C", "subgroup_coverage")]
    assert covered.value == 1
    assert covered.interval is not None
    assert covered.interval.low == pytest.approx(0.025 ** (1 / 4))
    assert covered.interval.high == 1
    assert covered.interval.method.startswith("Clopper and Pearson over patients")


def test_all_groups_of_an_honest_generator_reach_their_floor(
    real: ImageDataset, make_textures: Make, moments: Extractor
) -> None:
    parts = [make_textures(150, seed, shift=shift, labelled=False) for seed, shift in ((5, -45), (6, 45))]
    pixels = np.concatenate([each.images_at(range(150)).numpy()[:, 0] for each in parts])
    both = ImageDataset.from_arrays((pixels * 127.5 + 127.5).round().astype(np.uint8))
    for score in measure(real, both, moments, halvings=6).scores:
        if score.column and not score.small:
            assert score.relative == pytest.approx(1, abs=0.2)


def test_a_small_group_is_marked_and_gets_no_verdict(
    real: ImageDataset, make_textures: Make, moments: Extractor
) -> None:
    report = measure(real, make_textures(200, 3, shift=-45, labelled=False), moments)
    assert all(score.small == (score.group == "C") for score in report.scores if score.column)
    page = make_page(report).html()
    assert "C (few patients)" in page
    assert not any("of C," in sentence for sentence in summarise_report(report))


def test_results_that_are_kept_are_those_of_the_same_patients(
    real: ImageDataset, make_textures: Make, moments: Extractor, tmp_path: Path
) -> None:
    """The first time nobody says of whom the images are; then it is known, and the pixels are the same."""
    synthetic = make_textures(60, 3, shift=-45, labelled=False)
    unknown = replace(real, index=real.index.assign(patient_id=""))
    before, after, expected = (
        [each for each in measure(images, synthetic, moments, cache_dir=folder).scores if each.column]
        for images, folder in ((unknown, tmp_path), (real, tmp_path), (real, None))
    )
    assert after == expected
    for one, other in zip(before, after, strict=True):
        assert one.value == other.value
    assert any(one.floor != other.floor for one, other in zip(before, after, strict=True))
    coverage = [[each for each in side if each.metric == "subgroup_coverage"] for side in (before, after)]
    assert any(one.interval != other.interval for one, other in zip(*coverage, strict=True))


def test_columns_that_are_not_there_or_divide_nothing(
    real: ImageDataset, make_textures: Make, moments: Extractor
) -> None:
    synthetic = make_textures(60, 3, labelled=False)
    with pytest.raises(ConfigError, match=r"no column 'sex'; they have .*ward"):
        measure(real, synthetic, moments, subgroups=["sex"])
    assert not any(score.column for score in measure(real, synthetic, moments, subgroups=["all"]).scores)
    assert not any(score.column for score in measure(real, synthetic, moments, subgroups=None).scores)
