from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist

from medgan.data import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.evaluation.fidelity import FidelityReport, Score, measure_fidelity
from medgan.evaluation.fidelity.images import _partners
from medgan.evaluation.fidelity.metrics import DEFAULT_METRICS, METRICS
from medgan.evaluation.fidelity.replicates import divide
from medgan.evaluation.fidelity.result_cache import ResultCacheWarning
from medgan.export import _names_of
from medgan.metrics.extractors import Extractor, InputSpec, ModuleExtractor
from medgan.metrics.features import FeatureCacheWarning
from medgan.metrics.functional import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    kernel_distance_interval,
    kernel_permutation_test,
    pair_similarity,
    precision_recall,
)

Make = Callable[..., ImageDataset]


def pick(report: FidelityReport, metric: str, group: str = "all images") -> Score:
    """Return the only score of a metric and group."""
    (found,) = [score for score in report.scores if (score.metric, score.group) == (metric, group)]
    return found


def features_of(images: ImageDataset, extractor: Extractor) -> np.ndarray:
    return extractor(images.images_at(np.arange(len(images)))).double().numpy()


# ------------------------------------------------------------------------------ values


def test_values_are_those_of_the_functions(make_textures: Make, moments: Extractor) -> None:
    real, synthetic = make_textures(80, 0), make_textures(60, 1, shift=6)
    report = measure_fidelity(real, synthetic, extractors=[moments], per_class=True)
    x, y = features_of(real, moments), features_of(synthetic, moments)
    for group, a, b in (
        ("all images", x, y),
        ("NORMAL", x[real.labels == 0], y[synthetic.labels == 0]),
        ("PNEUMONIA", x[real.labels == 1], y[synthetic.labels == 1]),
    ):
        expected = {
            "frechet_distance": frechet_distance(a, b),
            "kernel_distance": kernel_distance(a, b),
            **precision_recall(a, b, k=3)._asdict(),
            **density_coverage(a, b, k=5)._asdict(),
        }
        for metric, value in expected.items():
            score = pick(report, metric, group)
            assert score.value == pytest.approx(value), metric
            assert (score.real_images, score.synthetic_images, score.samples) == (len(a), len(b), 1)
            assert score.extractor == "moments"


def test_floor_is_that_of_halves_of_patients_at_their_own_number(make_textures: Make, moments: Extractor) -> None:
    real, synthetic = make_textures(80, 0), make_textures(90, 1, shift=6)
    report = measure_fidelity(real, synthetic, extractors=[moments], metrics=["frechet"], halvings=4, seed=3)
    x, y = features_of(real, moments), features_of(synthetic, moments)
    patients = np.unique(real.index["patient_id"], return_inverse=True)[1]
    of_real, of_synthetic = [], []
    halves = [divide(patients, real.labels, 2, rng=np.random.default_rng([3, 1, number])) for number in range(4)]
    size = min(len(part) for half in halves for part in half)
    for number, (first, second) in enumerate(halves):
        assert not set(patients[first]) & set(patients[second])
        rng = np.random.default_rng([3, 2, number])
        one, other, some = (rng.choice(len(part), size, replace=False) for part in (first, second, y))
        of_real.append(frechet_distance(x[first[one]], x[second[other]]))
        of_synthetic.append(frechet_distance(x[first[one]], y[some]))
    score = pick(report, "frechet_distance")
    assert score.floor is not None
    assert (score.floor.images, score.floor.halvings) == (size, 4)
    assert score.floor.mean == pytest.approx(np.mean(of_real))
    assert score.floor.spread == pytest.approx(np.std(of_real, ddof=1))
    assert score.floor.synthetic == pytest.approx(np.mean(of_synthetic))
    assert score.relative == pytest.approx(np.mean(of_synthetic) / np.mean(of_real))


def test_the_value_its_interval_and_its_floor_have_one_bandwidth(make_textures: Make, moments: Extractor) -> None:
    """Far synthetic images would widen the kernel of the value, and not that of real against real."""
    real, synthetic = make_textures(80, 0), make_textures(80, 1, shift=40)
    report = measure_fidelity(real, synthetic, extractors=[moments], metrics=["kernel-rbf"], halvings=2, per_class=True)
    x, y = features_of(real, moments), features_of(synthetic, moments)
    ours = (real.labels == 0, synthetic.labels == 0)
    for group, a, b in (("all images", x, y), ("NORMAL", x[ours[0]], y[ours[1]])):
        bandwidth = float(np.median(pdist(a)))
        score = pick(report, "kernel_distance_rbf", group)
        assert score.value == pytest.approx(kernel_distance(a, b, kernel="rbf", bandwidth=bandwidth))
        assert score.value != pytest.approx(kernel_distance(a, b, kernel="rbf"), rel=0.05)
        patients = real.index["patient_id"].to_numpy()[ours[0] if group == "NORMAL" else slice(None)]
        expected = kernel_distance_interval(a, b, groups_real=patients, kernel="rbf", bandwidth=bandwidth).interval
        assert score.interval is not None
        assert (score.interval.low, score.interval.high) == pytest.approx(expected)
    floor = pick(report, "kernel_distance_rbf").floor
    assert floor is not None
    bandwidth, of_real, of_synthetic = float(np.median(pdist(x))), [], []
    patients = np.unique(real.index["patient_id"], return_inverse=True)[1]
    for number in range(2):
        halves = divide(patients, real.labels, 2, rng=np.random.default_rng([0, 1, number]))
        rng = np.random.default_rng([0, 2, number])
        one, other, some = (rng.choice(len(part), floor.images, replace=False) for part in (*halves, y))
        half = x[halves[0][one]]
        of_real.append(kernel_distance(half, x[halves[1][other]], kernel="rbf", bandwidth=bandwidth))
        of_synthetic.append(kernel_distance(half, y[some], kernel="rbf", bandwidth=bandwidth))
    assert (floor.mean, floor.synthetic) == pytest.approx((np.mean(of_real), np.mean(of_synthetic)))


def test_other_patients_are_at_the_floor_and_a_shift_is_not(make_textures: Make, moments: Extractor) -> None:
    real = make_textures(200, 0)
    same = measure_fidelity(real, make_textures(200, 1), extractors=[moments])
    for metric in ("frechet_distance", "monge_distance"):
        relative = pick(same, metric).relative
        assert relative is not None
        assert 0.5 < relative < 2, metric
    assert pick(same, "density").direction == "as real"
    for metric in ("precision", "recall", "density", "coverage"):
        relative = pick(same, metric).relative
        assert relative is not None
        assert 0.8 < relative < 1.25, metric
    p_value = pick(same, "kernel_distance").p_value
    assert p_value is not None
    assert p_value > 0.05
    assert pick(same, "kernel_distance").relative is None
    other = measure_fidelity(real, make_textures(200, 1, shift=40), extractors=[moments])
    assert (pick(other, "frechet_distance").relative or 0) > 3
    assert pick(other, "kernel_distance").p_value == pytest.approx(1 / 1001)
    assert (pick(other, "coverage").relative or 1) < 0.8


def test_p_values_are_corrected_for_the_extractors_and_kernels_of_a_group(
    make_textures: Make, moments: Extractor
) -> None:
    real, synthetic = make_textures(80, 0), make_textures(80, 1, shift=6)
    network = torch.nn.Sequential(torch.nn.AvgPool2d(6), torch.nn.Flatten(), torch.nn.Linear(48, 8))
    other = ModuleExtractor(network, name="network", layer="2")
    report = measure_fidelity(
        real, synthetic, extractors=[moments, other], metrics=["kernel", "kernel-rbf", "frechet"], per_class=True
    )
    assert len({score.group for score in report.scores}) == 3
    for group in {score.group for score in report.scores}:
        tested = [score for score in report.scores if score.group == group and score.p_value is not None]
        assert len(tested) == 4
        first, second, third, last = sorted(float(score.p_value or 0) for score in tested)
        expected = [4 * first, max(4 * first, 3 * second), max(4 * first, 3 * second, 2 * third)]
        expected.append(max(*expected, last))
        assert sorted(score.p_corrected or 0 for score in tested) == pytest.approx([min(1, each) for each in expected])
    assert all(score.p_corrected is None for score in report.scores if score.metric == "frechet_distance")
    alone = measure_fidelity(real, synthetic, extractors=[moments], metrics=["kernel"])
    assert pick(alone, "kernel_distance").p_corrected == pick(alone, "kernel_distance").p_value


def test_a_set_beside_itself(make_textures: Make, moments: Extractor) -> None:
    real = make_textures(60, 0)
    report = measure_fidelity(real, real, extractors=[moments])
    assert pick(report, "frechet_distance").value == pytest.approx(0, abs=1e-9)
    assert pick(report, "precision").value == 1
    assert any("are, pixel by pixel, real ones" in warning for warning in report.warnings)


# --------------------------------------------------------------------------- intervals


def test_interval_of_samples_is_students(make_textures: Make, moments: Extractor) -> None:
    real, samples = make_textures(60, 0), [make_textures(60, seed, shift=5) for seed in (1, 2, 3, 4)]
    report = measure_fidelity(real, samples, extractors=[moments], metrics=["frechet", "kernel"])
    x, ys = features_of(real, moments), [features_of(each, moments) for each in samples]
    values = [frechet_distance(x, y) for y in ys]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    score = pick(report, "frechet_distance")
    assert score.value == pytest.approx(np.mean(values))
    assert score.interval is not None
    assert (score.interval.low, score.interval.high) == pytest.approx((max(0, expected.low), expected.high))
    assert (score.interval.images, score.samples) == (60, 4)
    kernel = pick(report, "kernel_distance")
    assert kernel.interval is not None
    assert "jackknife over patients" in kernel.interval.method
    middle = (kernel.interval.low + kernel.interval.high) / 2
    assert middle == pytest.approx(kernel.value) == pytest.approx(np.mean([kernel_distance(x, y) for y in ys]))


def test_interval_of_one_set_is_that_of_its_disjoint_parts(make_textures: Make, moments: Extractor) -> None:
    real, synthetic = make_textures(60, 0), make_textures(150, 1, shift=5)
    score = pick(measure_fidelity(real, synthetic, extractors=[moments], metrics=["frechet"]), "frechet_distance")
    assert score.interval is not None
    assert 28 <= score.interval.images <= 30
    assert "5 disjoint parts" in score.interval.method
    assert "this number of synthetic ones" in score.interval.method
    few = measure_fidelity(real, make_textures(60, 1), extractors=[moments], metrics=["frechet"])
    assert pick(few, "frechet_distance").interval is None


def test_interval_over_samples_covers_the_expected_distance(moments: Extractor) -> None:
    """What it promises: the mean distance of this generator to these real images, at this number of images."""
    rng = np.random.default_rng(0)

    def make(shift: float, count: int = 24) -> ImageDataset:
        images = rng.normal(120 + shift, 20, (count, 1, 1)) + rng.normal(0, 20, (count, 8, 8))
        return ImageDataset.from_arrays(images.clip(0, 255).astype(np.uint8))

    real = make(0)
    x = features_of(real, moments)
    truth = np.mean([frechet_distance(x, features_of(make(8), moments)) for _ in range(300)])
    hits = 0
    for _ in range(80):
        samples = [make(8) for _ in range(4)]
        report = measure_fidelity(real, samples, extractors=[moments], metrics=["frechet"], halvings=2)
        interval = pick(report, "frechet_distance").interval
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert hits >= 70  # 95 % of 80 are 76


def test_equal_replicates_give_no_interval(make_textures: Make, moments: Extractor) -> None:
    real, far = make_textures(60, 0), [make_textures(40, seed, shift=110) for seed in (1, 2, 3)]
    score = pick(measure_fidelity(real, far, extractors=[moments], metrics=["precision-recall"]), "precision")
    assert score.value == 0
    assert score.interval is None


def test_the_test_scales_both_sides_alike(make_textures: Make) -> None:
    """Scaled by the reference, real and synthetic images would not be exchangeable."""

    class Own(Extractor):
        name, sha256, needs_standardizing, input = "own", "1" * 64, True, InputSpec(1)

        def extract(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, 0, ::6, ::6].flatten(1) * torch.arange(1, 17)

    real, synthetic = make_textures(40, 0), make_textures(40, 1, shift=4)
    report = measure_fidelity(real, synthetic, extractors=[Own()], metrics=["kernel"], permutations=200)
    x, y = features_of(real, Own()), features_of(synthetic, Own())
    both = np.concatenate([x, y])
    mean, deviation = both.mean(0), both.std(0)
    patients = np.unique(real.index["patient_id"], return_inverse=True)[1]
    expected = kernel_permutation_test(
        (x - mean) / deviation, (y - mean) / deviation, groups_real=patients, permutations=200
    )
    assert pick(report, "kernel_distance").p_value == expected.p_value
    own = (x.mean(0), x.std(0))
    assert pick(report, "kernel_distance").value == pytest.approx(
        kernel_distance((x - own[0]) / own[1], (y - own[0]) / own[1]), rel=1e-4
    )
    assert report.extractors[0]["standardised"] is True


# ------------------------------------------------------------------------------ images


def test_diversity_of_each_class_beside_that_of_real_ones(make_textures: Make) -> None:
    real, synthetic = make_textures(60, 0), make_textures(60, 1)
    report = measure_fidelity(real, synthetic, metrics=["diversity"])
    assert {score.group for score in report.scores} == {"NORMAL", "PNEUMONIA"}
    chosen = np.flatnonzero(real.labels == 1)
    expected = pair_similarity(
        real.images_at(chosen).numpy(),
        data_range=(-1, 1),
        scales=2,
        groups=real.index["patient_id"].to_numpy()[chosen],
    )
    score = pick(report, "pair_similarity", "PNEUMONIA")
    assert score.floor is not None
    assert (score.floor.mean, score.floor.spread) == pytest.approx((expected.mean, expected.standard_error))
    gap = pick(report, "pair_similarity_gap", "PNEUMONIA")
    assert gap.value == pytest.approx((score.value or 0) - expected.mean)
    assert gap.interval is not None
    assert gap.interval.low < gap.value < gap.interval.high
    assert (gap.direction, score.direction) == ("near 0", "as real")


def test_a_collapsed_class_varies_less(make_textures: Make) -> None:
    real, other = make_textures(60, 0), make_textures(60, 1)
    collapsed = other.subset([0] * 30 + list(np.flatnonzero(other.labels == 1)))
    report = measure_fidelity(real, collapsed, metrics=["diversity"])
    gap = pick(report, "pair_similarity_gap", "NORMAL")
    assert gap.interval is not None
    assert gap.interval.low > 0
    assert pick(report, "pair_similarity", "NORMAL").value == pytest.approx(1)
    interval = pick(report, "pair_similarity_gap", "PNEUMONIA").interval
    assert interval is not None
    assert interval.low < 0 < interval.high


def test_copies_of_training_images_are_nearer_than_new_patients(make_textures: Make) -> None:
    whole = make_textures(160, 0)
    training, real = whole.subset(range(100)), whole.subset(range(100, 160))
    honest = measure_fidelity(real, make_textures(60, 5), metrics=["nearest-real"], training=training)
    copying = measure_fidelity(real, training.subset(range(60)), metrics=["nearest-real"], training=training)
    assert pick(copying, "nearest_training").value == pytest.approx(1)
    assert abs(pick(honest, "nearest_training_gap").value or 1) < 0.05
    interval = pick(copying, "nearest_training_gap").interval
    assert interval is not None
    assert interval.low > 0.1
    level = pick(honest, "nearest_training").floor
    assert level is not None
    flat = [each.images_at(np.arange(len(each))).flatten(1).double().numpy() for each in (real, training)]
    expected = [max(np.corrcoef(one, other)[0, 1] for other in flat[1]) for one in flat[0]]
    assert level.mean == pytest.approx(np.mean(expected))


def test_large_images_are_compared_small(make_textures: Make) -> None:
    whole = make_textures(40, 0, size=160)
    report = measure_fidelity(
        whole.subset(range(20)),
        make_textures(20, 1, size=160),
        metrics=["nearest-real"],
        training=whole.subset(range(20, 40)),
    )
    assert 0 < (pick(report, "nearest_training").value or 0) < 1


def write_images(folder: Path, images: np.ndarray, suffix: str = "png") -> Path:
    from PIL import Image

    for number, image in enumerate(images):
        file = folder / "AB"[number % 2] / f"patient{number // 4}-{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


def test_translated_images_are_paired_by_name(tmp_path: Path) -> None:
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

    from medgan.data import open_dataset

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (24, 32, 32), dtype=np.uint8)
    noisy = (truth + rng.normal(0, 20, truth.shape)).clip(0, 255).round().astype(np.uint8)
    # The other way round, in another format: order and extension play no part.
    real = open_dataset(write_images(tmp_path / "real", truth), size=32, patient_regex=r"patient\d+")
    synthetic = open_dataset(write_images(tmp_path / "made", noisy, "bmp"), size=32)
    report = measure_fidelity(real, synthetic, metrics=["paired"])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [structural_similarity(a, b, data_range=255, **options) for a, b in zip(truth, noisy, strict=True)]
    assert pick(report, "ssim").value == pytest.approx(np.mean(expected), abs=1e-6)
    decibels = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(truth, noisy, strict=True)]
    assert pick(report, "psnr").value == pytest.approx(np.median(decibels), abs=1e-4)
    errors = [mean_squared_error(a / 255, b / 255) for a, b in zip(truth, noisy, strict=True)]
    assert pick(report, "mse").value == pytest.approx(np.mean(errors))
    interval = pick(report, "mse").interval
    assert interval is not None
    assert interval.low < np.mean(errors) < interval.high
    by_patient = np.array(errors).reshape(6, 4).mean(1)
    assert interval.high - interval.low == pytest.approx(
        2 * stats.t.ppf(0.975, 5) * by_patient.std(ddof=1) / np.sqrt(6), rel=1e-6
    )
    with pytest.raises(DataError, match="no real image of the same name"):
        measure_fidelity(real.subset(range(5)), synthetic, metrics=["paired"])


def test_translations_of_slices_and_of_dicom_files_are_paired_with_their_own(make_textures: Make) -> None:
    files = ["a/scan.nii.gz", "a/scan.nii.gz", "IM.0001", "IM.0002", "1.2.840.1", "1.2.840.2"]
    images = make_textures(len(files), seed=0)
    real = replace(images, index=images.index.assign(file=files, part=["axial 1", "axial 2", "", "", "", ""]))
    translated = [f"{name}.png" for name, _ in _names_of(real)]
    assert translated[:3] == ["a/scan axial 1.png", "a/scan axial 2.png", "IM.0001.png"]
    synthetic = replace(images, index=images.index.assign(file=translated[::-1]))
    assert _partners(real, synthetic).tolist() == [5, 4, 3, 2, 1, 0]
    twice = replace(images, index=images.index.assign(file=["a.png", "a.JPG", *files[2:]]))
    with pytest.raises(DataError, match="differ in nothing but the extension"):
        _partners(twice, synthetic)


def test_volumes_have_metrics_of_images_only(moments: Extractor) -> None:
    rng = np.random.default_rng(0)
    sets = [
        ImageDataset.from_arrays(rng.integers(0, 256, (6, 12, 12, 12, 1), dtype=np.uint8), name=str(number))
        for number in range(3)
    ]
    report = measure_fidelity(sets[0], sets[1], metrics=["diversity", "nearest-real"], training=sets[2])
    assert pick(report, "pair_similarity").value is not None
    assert pick(report, "nearest_training").value is not None
    with pytest.raises(DataError, match="Take slices of volumes first"):
        measure_fidelity(sets[0], sets[1], extractors=[moments])


# ----------------------------------------------------------------------------- scores


def test_the_score_of_classes_stands_beside_that_of_real_images(make_textures: Make) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.AvgPool2d(6), torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.Linear(8, 3)
    )
    extractor = ModuleExtractor(network, name="network", layer="2", head="3")
    report = measure_fidelity(
        make_textures(80, 0), make_textures(80, 1), extractors=[extractor], metrics=["inception-score"]
    )
    score = pick(report, "inception_score")
    assert score.title == "score of classes (network)"
    assert score.floor is not None
    assert 1 <= (score.value or 0) <= 3
    assert score.relative == pytest.approx(1, abs=0.05)


def test_published_names_are_for_published_weights_only(make_textures: Make, moments: Extractor) -> None:
    sets = make_textures(60, 0), make_textures(60, 1)
    names = list(METRICS[:5])
    titles = {score.title for score in measure_fidelity(*sets, extractors=[moments], metrics=names).scores}
    assert all(title.endswith("(moments)") for title in titles)
    assert not {"FID", "KID", "MIND"} & {word for title in titles for word in title.replace(",", "").split()}
    moments.is_fid = True
    titles = {score.title for score in measure_fidelity(*sets, extractors=[moments], metrics=names).scores}
    assert titles == {"FID", "FID∞", "KID", "KID, RBF", "MIND"}


# ------------------------------------------------------------------------------- cache


def test_a_second_run_computes_nothing(
    make_textures: Make, moments: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synthetic, training = make_textures(60, 0), make_textures(60, 1), make_textures(40, 2)

    def run(**options: object) -> FidelityReport:
        return measure_fidelity(
            real, synthetic, extractors=[moments], training=training, per_class=True, cache_dir=tmp_path, **options
        )

    first = run()
    assert moments.images == 120
    with monkeypatch.context() as patch:
        for name in ("frechet_distance", "kernel_distance", "monge_distance", "precision_recall", "density_coverage"):
            patch.setattr(f"medgan.evaluation.fidelity.metrics.{name}", None)
        for name in ("pair_similarity", "nearest_neighbours"):
            patch.setattr(f"medgan.evaluation.fidelity.images.{name}", None)
        assert run().to_dict() == first.to_dict()
    assert moments.images == 120
    assert run(seed=1).to_dict()["scores"] != first.to_dict()["scores"]
    assert moments.images == 120
    moments.sha256 = "2" * 64
    run()
    assert moments.images == 240


def test_a_cache_that_cannot_be_written_changes_nothing(
    make_textures: Make, moments: Extractor, tmp_path: Path
) -> None:
    real, synthetic = make_textures(40, 0), make_textures(40, 1)
    (tmp_path / "file").write_text("")
    with pytest.warns(FeatureCacheWarning), pytest.warns(ResultCacheWarning):
        report = measure_fidelity(real, synthetic, extractors=[moments], cache_dir=tmp_path / "file")
    assert report.to_dict()["scores"] == measure_fidelity(real, synthetic, extractors=[moments]).to_dict()["scores"]


def test_the_report_is_plain_json_without_nan(make_textures: Make, moments: Extractor, tmp_path: Path) -> None:
    report = measure_fidelity(
        make_textures(6, 0),
        make_textures(5, 1),
        extractors=[moments],
        metrics=METRICS[:-1],
        training=make_textures(9, 2),
        per_class=True,
        facts={"command": "medgan metrics", "nothing": math.nan},
    )
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text) == report.to_dict()
    assert report.to_dict()["settings"]["nothing"] is None
    few = pick(report, "recall", "NORMAL")
    assert few.value is None
    assert "needs at least 4" in few.note


# -------------------------------------------------------------------------------- input


def test_seeds_decide(make_textures: Make, moments: Extractor) -> None:
    sets = make_textures(40, 0), make_textures(40, 1)
    runs = [measure_fidelity(*sets, extractors=[moments], seed=seed).to_dict()["scores"] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_sixteen_bits_and_floats_are_read_by_their_range(moments: Extractor, make_textures: Make) -> None:
    grey = make_textures(40, 0)
    eight = np.stack([grey[position].images[0, 0].numpy() for position in range(40)]) * 127.5 + 127.5
    sixteen = ImageDataset.from_arrays((eight * 257).round().astype(np.uint16), data_range=(0, 65535))
    floats = ImageDataset.from_arrays((eight / 255).astype(np.float32), data_range=(0.0, 1.0))
    other = make_textures(40, 1, labelled=False, patients=False)
    values = [
        pick(measure_fidelity(real, other, extractors=[moments], metrics=["frechet"]), "frechet_distance").value
        for real in (ImageDataset.from_arrays(eight.round().astype(np.uint8)), sixteen, floats)
    ]
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert values[2] == pytest.approx(values[0], rel=1e-4)


def test_bad_input(make_textures: Make, moments: Extractor) -> None:
    real = make_textures(40, 0)
    colour = ImageDataset.from_arrays(np.zeros((4, 24, 24, 3), np.uint8))
    for synthetic, message in (
        (make_textures(40, 1, size=32), r"size \(24, 24\), the synthetic ones \(32, 32\)"),
        (colour, "the channels 1, the synthetic ones 3"),
        (real.subset([0]), "There is 1 synthetic image"),
        (real.subset([]), "There are 0 synthetic images"),
        ([], "No synthetic images"),
        ([make_textures(40, 1), make_textures(38, 2)], "must have one size"),
    ):
        with pytest.raises(DataError, match=message):
            measure_fidelity(real, synthetic, extractors=[moments])
    with pytest.raises(DataError, match="There is 1 real image"):
        measure_fidelity(real.subset([3]), real, extractors=[moments])
    with pytest.raises(DataError, match="the training ones"):
        measure_fidelity(real, real, training=make_textures(40, 1, size=32), extractors=[moments])
    other = ImageDataset.from_arrays(np.zeros((4, 24, 24), np.uint8), [0, 1, 0, 1], names=["a", "b"])
    for options, message in (
        ({"metrics": ["frechett"]}, "Did you mean 'frechet'"),
        ({"metrics": []}, "No metric was asked for"),
        ({"halvings": 1}, "needs at least 2"),
        ({"seed": -1}, "must be 0 or more"),
        ({"metrics": ["frechet"], "extractors": []}, "nothing to compute"),
        ({"metrics": ["nearest-real"]}, "nothing to compute"),
    ):
        with pytest.raises(ConfigError, match=message):
            measure_fidelity(real, make_textures(40, 1), **{"extractors": [moments], **options})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"have no classes\. Leave out --per-class"):
        measure_fidelity(make_textures(40, 0, labelled=False), real, extractors=[moments], per_class=True)
    with pytest.raises(ConfigError, match=r"the synthetic images of .* have no classes"):
        measure_fidelity(real, make_textures(40, 1, labelled=False), extractors=[moments], per_class=True)
    with pytest.raises(DataError, match="none is the same"):
        measure_fidelity(real, other, extractors=[moments], per_class=True)


def test_findings_are_compared_where_they_are_present(make_textures: Make, moments: Extractor) -> None:
    rng = np.random.default_rng(0)
    images = [
        np.stack([each[n].images[0, 0].numpy() for n in range(60)])
        for each in (make_textures(60, 0), make_textures(60, 1))
    ]
    sets = [
        ImageDataset.from_arrays(
            (pixels * 127.5 + 127.5).round().astype(np.uint8), rng.integers(0, 2, (60, 2)), names=["Edema", "Mass"]
        )
        for pixels in images
    ]
    report = measure_fidelity(*sets, extractors=[moments], metrics=["precision-recall"], per_class=True)
    assert {score.group for score in report.scores} == {"all images", "Edema", "Mass"}
    assert pick(report, "precision", "Mass").real_images == int((sets[0].labels[:, 1] > 0).sum())


def test_default_metrics_are_known() -> None:
    assert set(DEFAULT_METRICS) < set(METRICS)
    assert "paired" not in DEFAULT_METRICS
