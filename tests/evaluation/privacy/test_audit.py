from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgan.data import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.evaluation.privacy import (
    AuditReport,
    audit_privacy,
    exchange,
    infer_membership,
    make_page,
    summarise_audit,
    write_audit,
)
from medgan.evaluation.privacy.audit import _examine, _Exchanged, _judge, _Sides, _verdict, _with_classes
from medgan.evaluation.privacy.exchange import match_images
from medgan.evaluation.privacy.search import Nearest
from medgan.evaluation.privacy.spaces import Space

Real = tuple[ImageDataset, ImageDataset]
Make = Callable[..., ImageDataset]


@pytest.fixture(scope="session")
def honest(real: Real, make_synthetic: Make, small: Any) -> AuditReport:
    return audit_privacy(*real, make_synthetic(0), extractors=[small])


@pytest.fixture(scope="session")
def copier(real: Real, make_synthetic: Make, small: Any) -> AuditReport:
    return audit_privacy(*real, make_synthetic(0.1, "noisy", only=slice(2, None, 4)), extractors=[small], pairs=20)


def test_no_copies(honest: AuditReport) -> None:
    assert honest.verdict == "none"
    assert honest.identical == 0
    first = summarise_audit(honest)[0]
    assert first.startswith("No leakage detected under these tests.")
    for each in honest.spaces:
        assert each.copies.low <= 0 <= each.copies.high
        assert each.membership.attack.low <= 0.5 <= each.membership.attack.high


def test_nobody_is_called_anonymous(honest: AuditReport, copier: AuditReport) -> None:
    for report in (honest, copier):
        text = make_page(report).html() + json.dumps(report.to_dict())
        assert "anonym" not in text.lower()


@pytest.mark.parametrize(("share", "how"), [(0.1, "shifted"), (0.1, "mirrored"), (0.1, "cropped"), (0.5, "noisy")])
def test_planted_copies_are_found_in_pixels(real: Real, make_synthetic: Make, share: float, how: str) -> None:
    report = audit_privacy(*real, make_synthetic(share, how))
    assert report.verdict == "leakage"
    (pixels,) = report.spaces
    assert pixels.copies.low > 0
    assert pixels.copies.excess == pytest.approx(share, abs=0.03)
    assert pixels.copies.low <= share <= pixels.copies.high
    assert pixels.control is not None
    assert pixels.control.low <= 0
    closest = report.pairs[: round(share * 300 * 0.9)]
    assert all(pair.synthetic < round(share * 300) for pair in closest)


def test_two_percent_of_copies_are_counted_and_shown(real: Real, make_synthetic: Make) -> None:
    """With 120 held-out patients they are no proof, as the interval says; they are the first that a reader sees."""
    report = audit_privacy(*real, make_synthetic(0.02, "noisy", count=600))
    assert report.spaces[0].copies.excess == pytest.approx(0.02, abs=0.012)
    assert report.spaces[0].copies.low <= 0.02 <= report.spaces[0].copies.high
    assert {pair.synthetic for pair in report.pairs[:10]} <= set(range(12))


def test_copies_are_found_in_features_too(copier: AuditReport) -> None:
    assert copier.verdict == "leakage"
    for each in copier.spaces:
        assert each.copies.low > 0.02
        assert each.matched_patients >= 15
        assert each.membership.caught is not None
        assert each.membership.caught.rate > 0.04
    assert {each.test for each in copier.findings} == {
        "copies",
        "data copying, C_T",
        "authenticity",
        "membership, all patients",
        "membership, few false positives",
    }
    assert all(each.corrected >= each.p_value for each in copier.findings)


def test_copies_are_counted_for_the_group_of_the_patient(copier: AuditReport) -> None:
    """Only images of every other patient were copied: those of F."""
    groups = {(each.space, each.column, each.group): each for each in copier.subgroups}
    f, m = (groups["pixels", "sex", group] for group in "FM")
    assert (f.training_patients, m.training_patients) == (100, 100)
    assert f.small  # fewer than 99 held-out patients are nearest to one of them
    assert f.copies is None


def test_the_worst_group_is_named(real: Real, make_synthetic: Make) -> None:
    report = audit_privacy(*real, make_synthetic(0.1, only=slice(2, None, 4)), level=0.05, subgroups=["sex"])
    groups = {each.group: each for each in report.subgroups}
    assert groups["F"].copies is not None
    assert groups["M"].copies is not None
    assert groups["F"].worst
    assert not groups["M"].worst
    assert groups["F"].copies.low > 0
    assert groups["M"].copies.low <= 0
    assert any("sex F (pixels)" in sentence for sentence in summarise_audit(report))


def test_groups_are_weighted_as_all_images_are(real: Real, make_synthetic: Make) -> None:
    """All synthetic images are of PNEUMONIA, and so are those that held-out patients are asked about."""
    made = make_synthetic(0)
    ill = made.subset(np.flatnonzero(made.labels == 1))
    report = audit_privacy(*real, ill, level=0.1, subgroups=["sex"])
    whole = report.spaces[0].copies
    assert whole.patients == pytest.approx(60)
    groups = [each for each in report.subgroups if each.copies is not None]
    assert len(groups) == 2
    assert sum(each.copies.patients for each in groups if each.copies) == pytest.approx(60)
    assert sum(each.held_out for each in groups) == 120


def test_a_generator_without_variety_is_no_copier(real: Real, make_synthetic: Make) -> None:
    """Images near to what all patients have in common are near to everybody."""
    made = make_synthetic(0)
    mean = np.stack([made.images_at([number])[0, 0].numpy() for number in range(len(made))])
    blurred = ((0.25 * (mean - mean.mean(0)) + mean.mean(0)) * 127.5 + 127.5).round().astype(np.uint8)
    dull = ImageDataset.from_arrays(blurred, made.labels, names=["NORMAL", "PNEUMONIA"], name="dull")
    # At a level of 0.01 the second nearest of 200 patients would decide, which is chance.
    report = audit_privacy(*real, dull, level=0.05)
    found = {each.test: each for each in report.findings}
    for test in ("copies", "data copying, C_T", "authenticity"):
        assert found[test].detected
        assert not found[test].specific


def test_a_test_counts_where_an_exchange_of_patients_finds_it_too(honest: AuditReport) -> None:
    each = honest.spaces[0]
    assert each.membership.comparable
    assert each.data_copying is not None
    found = replace(
        each,
        copies=replace(each.copies, p_value=0.0),
        data_copying=replace(each.data_copying, p_value=0.001),
        authenticity=replace(each.authenticity, p_value=0.5),
    )
    for p_value, specific in ((0.001, True), (0.009, True), (0.02, False), (1.0, False)):
        copies, data_copying, authentic, *attacks = _judge([replace(found, exchange=p_value)])
        assert copies.detected
        assert data_copying.detected
        assert copies.specific == data_copying.specific == specific
        # Of five tests, the smallest p-value counts five times.
        assert copies.exchanged == pytest.approx(min(1, 5 * p_value))
        assert not authentic.specific
        assert not authentic.detected
        assert all(attack.exchanged >= attack.corrected for attack in attacks)


class Vectors(Space):
    """Images that are vectors already."""

    name = description = "vectors"

    def take(self, images: Any) -> Any:
        return images

    def vectors(self, taken: Any) -> Any:
        return taken

    def nearest(self, queries: Any, references: Any, *, query_groups: Any = None, reference_groups: Any = None) -> Any:
        squares = ((queries[:, None] - references) ** 2).sum(-1)
        if query_groups is not None:
            squares[query_groups[:, None] == reference_groups] = np.inf
        found = squares.argmin(1)
        return Nearest(np.sqrt(squares[np.arange(len(queries)), found]).astype(np.float64), found)


def judge_vectors(seed: int, spread: float, copied: int = 0) -> str:
    """Return the verdict on 100 images around the mean of 60 training and 40 held-out patients, some of them copies."""
    rng = np.random.default_rng(seed)
    training, held_out, made = (rng.standard_normal((count, 4)).astype(np.float32) for count in (60, 40, 100))
    made *= np.float32(spread)
    made[:copied] = training[rng.permutation(60)[:copied]] + 0.02 * made[:copied]
    ours, theirs = np.arange(60), np.arange(40)
    exchanged = _Exchanged(*match_images(ours, theirs, rng), None, None)
    sides = _Sides(ours, theirs, ours, theirs, rng.permutation(40) % 2, rng.permutation(60) % 2, None, exchanged)
    found, _, _ = _examine(Vectors(), training, held_out, made, sides, 0.05, None, seed)  # type: ignore[arg-type]
    return _verdict(_judge([found]), 0)


def test_generators_that_copy_nobody_are_not_called_copiers_more_often_than_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Least of all those without variety, who lie near to the same few patients; by the bounds alone 38 were."""
    monkeypatch.setattr(exchange, "_EXCHANGES", 500)
    verdicts = [judge_vectors(seed, 0.2) for seed in range(100)]
    assert verdicts.count("unclear") > 90
    assert verdicts.count("leakage") <= 9  # of 100 with a chance of 0.05; more in 3 of 100 such tests
    assert [judge_vectors(seed, 1, copied=30) for seed in range(10)].count("leakage") == 10


@pytest.mark.parametrize(("difference", "verdict"), [(0.0, "leakage"), (1.0, "unclear"), (-1.0, "unclear")])
def test_an_attack_on_groups_that_differ_in_themselves_is_not_clear(
    honest: AuditReport, difference: float, verdict: str
) -> None:
    rng = np.random.default_rng(0)
    membership = infer_membership(
        rng.normal(2, size=200),
        rng.normal(size=120),
        blind_members=rng.normal(difference, size=200),
        blind_non_members=rng.normal(size=120),
    )
    near = [replace(each.authenticity, p_value=1e-9) for each in honest.spaces]
    spaces = zip(honest.spaces, near, strict=True)
    findings = _judge([replace(each, membership=membership, authenticity=other) for each, other in spaces])
    assert {each.test for each in findings if each.detected} == {
        "authenticity",
        "membership, all patients",
        "membership, few false positives",
    }
    assert _verdict(findings, 0) == verdict
    assert _verdict(findings, 1) == "leakage"


def test_an_identical_image_is_a_leak_whatever_the_numbers_say(real: Real, make_synthetic: Make) -> None:
    report = audit_privacy(*real, make_synthetic(1 / 300, "exact"))
    assert report.identical == 1
    assert report.verdict == "leakage"
    assert report.pairs[0].synthetic == 0
    assert any("pixel by pixel, training" in sentence for sentence in summarise_audit(report))


def test_another_seed_draws_other_images_and_the_same_one_the_same(real: Real, make_synthetic: Make) -> None:
    first, again = (audit_privacy(*real, make_synthetic(0, count=60), seed=5).to_dict() for _ in range(2))
    assert first == again


def test_a_rare_class_is_drawn_though_its_patients_have_other_images() -> None:
    """Ten images a patient, of whom three show class C once: chance alone leaves C out in three draws of four."""
    patients = np.repeat(np.arange(30), 10)
    classes = np.where(np.isin(np.arange(300), [5, 104, 207]), "C", np.where(patients % 2, "A", "B"))
    wanted = np.array(["A", "B", "C"])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = np.arange(30) * 10 + rng.integers(10, size=30)
        found = _with_classes(drawn, patients, classes, wanted, rng)
        assert sorted(patients[found]) == list(range(30))
        assert set(classes[found]) == {"A", "B", "C"}
        assert np.count_nonzero(found != drawn) == ("C" not in classes[drawn])
        # Of some of the patients only: somebody else's place.
        some = drawn[patients[drawn] > 25]
        found = _with_classes(some, patients, classes, wanted, rng)
        assert set(classes[found]) == {"A", "B", "C"}
        assert len(set(patients[found])) == len(some)


def test_a_class_that_the_training_lacks_leaves_out_the_control_alone(real: Real, make_synthetic: Make) -> None:
    training, held_out = real
    normal = training.subset(np.flatnonzero(training.labels == 0))
    report = audit_privacy(normal, held_out, make_synthetic(0, count=60))
    assert report.spaces[0].control is None
    assert any("in all or of a class" in warning for warning in report.warnings)
    with pytest.raises(DataError, match="class PNEUMONIA and no held-out patient of it"):
        audit_privacy(training, held_out.subset(np.flatnonzero(held_out.labels == 0)), make_synthetic(0), level=0.05)


# ------------------------------------------------------------------------------------ bad input


def test_too_few_held_out_patients(real: Real, make_synthetic: Make) -> None:
    training, held_out = real
    with pytest.raises(DataError, match=r"needs 99 held-out patients, and .* has 80: .* or --level 0\.013"):
        audit_privacy(training, held_out.subset(range(80)), make_synthetic(0))
    with pytest.raises(DataError, match=r"has 3: nothing could be said with them. Give more held-out patients\.$"):
        audit_privacy(training, held_out.subset(range(3)), make_synthetic(0))


@pytest.mark.parametrize("count", [1, 3])
def test_a_high_level_needs_a_few_patients_all_the_same(real: Real, make_synthetic: Make, count: int) -> None:
    held_out = replace(real[1], index=real[1].index.assign(patient_id=[f"p{number % count}" for number in range(120)]))
    with pytest.raises(DataError, match=rf"A level of 0\.5 needs 4 held-out patients, and .* has {count}"):
        audit_privacy(real[0], held_out, make_synthetic(0, count=60), level=0.5)


def test_four_patients_are_enough_for_a_high_level(real: Real, make_synthetic: Make) -> None:
    report = audit_privacy(real[0], real[1].subset(range(4)), make_synthetic(0, count=60), level=0.5)
    assert report.spaces[0].membership.non_members == 4


def test_slices_of_a_volume_are_of_one_patient(real: Real, make_synthetic: Make, draw: Any) -> None:
    """Though nobody says of whom: 240 slices of 12 volumes are 12 patients, and too few."""
    slices = ImageDataset.from_arrays(draw(240, 2), np.arange(240) % 2, names=["NORMAL", "PNEUMONIA"], name="slices")
    numbers = np.arange(240)
    volumes = [f"scan{number // 20}.nii.gz" for number in numbers]
    parts = [f"axial {number % 20}" for number in numbers]
    held_out = replace(slices, index=slices.index.assign(file=volumes, part=parts))
    with pytest.raises(DataError, match=r"needs 99 held-out patients, and .* has 12"):
        audit_privacy(real[0], held_out, make_synthetic(0))


def test_patients_on_both_sides(real: Real, make_synthetic: Make) -> None:
    training, _ = real
    with pytest.raises(DataError, match=r"100 patients are among the training and the held-out .*'train-100'"):
        audit_privacy(training.subset(range(400)), training.subset(range(200, 400)), make_synthetic(0))


def test_images_on_both_sides(real: Real, make_synthetic: Make) -> None:
    training, held_out = real
    renamed = replace(
        training.subset(range(200, 320)),
        index=held_out.index,
    )
    with pytest.raises(DataError, match="120 of the 120 held-out images are, pixel by pixel, training images"):
        audit_privacy(training, renamed, make_synthetic(0))


def test_other_sizes(real: Real, make_synthetic: Make) -> None:
    other = ImageDataset.from_arrays(np.zeros((10, 16, 16), np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None])
    with pytest.raises(DataError, match=r"size \(24, 24\), the synthetic ones \(16, 16\)"):
        audit_privacy(*real, other)
    with pytest.raises(DataError, match=r"size \(24, 24\), the held-out ones \(16, 16\)"):
        audit_privacy(real[0], other, make_synthetic(0))


def test_a_generator_that_has_seen_the_held_out_patients(real: Real, make_synthetic: Make) -> None:
    with pytest.raises(DataError, match="Held-out patients must be new to it"):
        audit_privacy(*real, make_synthetic(0), trained_on={"fingerprint": real[1].fingerprint})


def test_a_column_that_is_not_there(real: Real, make_synthetic: Make) -> None:
    with pytest.raises(ConfigError, match="no column 'ward'"):
        audit_privacy(*real, make_synthetic(0), subgroups=["ward"])


def test_unknown_patients_are_a_limit(real: Real, make_synthetic: Make) -> None:
    held_out = replace(real[1], index=real[1].index.assign(patient_id=""))
    report = audit_privacy(real[0], held_out, make_synthetic(0, count=60))
    assert any("patients of 120 held-out images are not known" in warning for warning in report.warnings)


# ---------------------------------------------------------------------------------------- files


def test_the_files(copier: AuditReport, real: Real, make_synthetic: Make, tmp_path: Any) -> None:
    synthetic = make_synthetic(0.1, "noisy", only=slice(2, None, 4))
    written = write_audit(copier, tmp_path / "new", training=real[0], synthetic=synthetic)
    found = json.loads(written["audit.json"].read_text(encoding="utf-8"))
    assert found["verdict"] == "leakage"
    assert len(found["pairs"]) == 20
    assert found["sentences"][0].startswith("Leakage was detected")
    page = written["audit.html"].read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2 + 20
    assert "images of real patients" in page
    assert "few patients" in page


def test_without_pairs_there_is_no_patient_in_the_files(real: Real, make_synthetic: Make, tmp_path: Any) -> None:
    report = audit_privacy(*real, make_synthetic(0.1), pairs=0)
    written = write_audit(report, tmp_path)
    for path in written.values():
        text = path.read_text(encoding="utf-8")
        assert not any(patient in text for patient in real[0].index["patient_id"])
