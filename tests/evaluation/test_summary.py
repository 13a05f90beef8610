"""The summary of a study."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from medgan.core.spec import LabelSpec
from medgan.errors import ConfigError, DataError
from medgan.evaluation.intervals import interval_of_difference, interval_of_mean, patient_draws
from medgan.evaluation.records import ClassifierRun, Cohort, Study
from medgan.evaluation.scores import SCORES, choose_thresholds, predict, problem_kind, score_table
from medgan.evaluation.summary import summarise, summarise_runs
from medgan.evaluation.tables import as_table

Array = NDArray[Any]

BINARY = LabelSpec(("NORMAL", "PNEUMONIA"))
CLASSES = LabelSpec(("a", "b", "c"))
FINDINGS = LabelSpec(("effusion", "nodule"), "multilabel")


def _cohort(spec: LabelSpec, patients: int, rng: np.random.Generator) -> Cohort:
    number = np.repeat(np.arange(patients), 2)
    images = len(number)
    labels: Array
    if spec.kind == "multilabel":
        labels = (rng.random((images, len(spec))) < 0.4).astype(np.float32)
        labels[rng.random(labels.shape) < 0.1] = np.nan
    else:
        labels = rng.integers(0, len(spec), patients)[number]
    return Cohort(
        labels=labels,
        patients=np.array([f"p{value:03d}" for value in number]),
        files=np.array([f"image-{image}.png" for image in range(images)]),
        subgroups=pd.DataFrame(
            {
                "sex": np.array(["F", "M", ""])[rng.choice(3, patients, p=[0.5, 0.4, 0.1])][number],
                "age": rng.integers(5, 95, patients)[number].astype(str),
                "view": "PA",
            }
        ),
    )


def _probabilities(
    cohort: Cohort, spec: LabelSpec, separation: float, common: Array, rng: np.random.Generator
) -> Array:
    noise = 0.8 * common + 0.6 * rng.standard_normal(common.shape)
    if spec.kind == "multilabel":
        logits = noise + separation * (np.nan_to_num(cohort.labels) - 0.5)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)
    powers = np.exp(noise + separation * np.eye(len(spec))[cohort.labels])
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _study(
    spec: LabelSpec,
    arms: Iterable[tuple[str, float, float]],
    *,
    seeds: int = 3,
    patients: int = 60,
    random: int = 0,
    facts: dict[str, Any] | None = None,
) -> Study:
    """Make a study whose arms, given as name, fraction and separation, differ in how well they separate."""
    rng = np.random.default_rng(random)
    validation, test = _cohort(spec, 40, rng), _cohort(spec, patients, rng)
    common = {part: rng.standard_normal((len(cohort), len(spec))) for part, cohort in (("v", validation), ("t", test))}
    runs = [
        ClassifierRun(
            arm=name,
            fraction=fraction,
            seed=seed,
            validation=_probabilities(validation, spec, separation, common["v"], rng),
            test=_probabilities(test, spec, separation, common["t"], rng),
            history=[{"step": 1.0, "training_loss": 0.7, "validation_loss": float("nan")}],
            facts={"real_images": 100, "synthetic_images": 50 * seed, "note": "x"},
        )
        for name, fraction, separation in arms
        for seed in range(seeds)
    ]
    return Study(spec, validation, test, runs, facts if facts is not None else {"titles": {"real": "real images"}})


ARMS = (("real", 1.0, 2.0), ("synthetic", 1.0, 1.0), ("mixed", 1.0, 2.2))


@pytest.fixture(scope="module", params=[BINARY, CLASSES, FINDINGS], ids=["binary", "multiclass", "multilabel"])
def judged(request: pytest.FixtureRequest) -> tuple[Study, dict[str, Any]]:
    study = _study(request.param, ARMS)
    return study, summarise(study, replicates=80)


def test_it_is_plain_json_without_nan(judged: tuple[Study, dict[str, Any]]) -> None:
    _, summary = judged
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["results"][0]["runs"][0]["history"][0]["validation_loss"] is None


def test_scores_and_intervals_are_those_of_their_functions(judged: tuple[Study, dict[str, Any]]) -> None:
    study, summary = judged
    kind = summary["kind"]
    weights = patient_draws(study.test.patients, replicates=80, seed=0)
    assert [entry["arm"] for entry in summary["results"]] == ["real", "synthetic", "mixed"]
    for entry in summary["results"]:
        runs = [run for run in study.runs if run.arm == entry["arm"]]
        limits = [choose_thresholds(study.validation.labels, run.validation, kind=kind) for run in runs]
        assert [run["thresholds"] for run in entry["runs"]] == [values.tolist() for values in limits]
        exact, drawn = (
            [
                score_table(study.test.labels, run.test, kind=kind, thresholds=values, weights=given)
                for run, values in zip(runs, limits, strict=True)
            ]
            for given in (None, weights)
        )
        for name in SCORES:
            values = np.array([table.overall[name][0] for table in exact])
            assert [run["scores"][name] for run in entry["runs"]] == pytest.approx(values.tolist())
            assert entry["scores"][name]["value"] == pytest.approx(values.mean())
            interval = interval_of_mean(
                values,
                np.stack([table.overall[name] for table in drawn]),
                bounds=None if name == "calibration_slope" else (0, 1),
            )
            assert entry["scores"][name]["low"] == pytest.approx(float(interval.low))
            for column, label in enumerate(study.labels.names):
                of_class = np.mean([table.per_class[name][0, column] for table in exact])
                assert entry["per_class"][label][name]["value"] == pytest.approx(of_class)
    # Independent of the package's own scores:
    if kind == "binary":
        areas = [metrics.roc_auc_score(study.test.labels, run.test[:, 1]) for run in study.runs if run.arm == "real"]
        assert summary["results"][0]["scores"]["auroc"]["value"] == pytest.approx(np.mean(areas))


def test_confusion_is_summed_over_seeds(judged: tuple[Study, dict[str, Any]]) -> None:
    study, summary = judged
    kind = summary["kind"]
    runs = [run for run in study.runs if run.arm == "real"]
    found = [
        predict(run.test, kind=kind, thresholds=choose_thresholds(study.validation.labels, run.validation, kind=kind))
        for run in runs
    ]
    entries = summary["results"][0]["confusion"]
    if kind == "multilabel":
        assert [entry["class"] for entry in entries] == list(study.labels.names)
        known = ~np.isnan(study.test.labels[:, 1])
        pairs = [(study.test.labels[known, 1].astype(int), one[known, 1]) for one in found]
        entry = entries[1]
    else:
        (entry,) = entries
        assert entry["labels"] == list(study.labels.names)
        pairs = [(study.test.labels, one) for one in found]
    tables = [metrics.confusion_matrix(truth, one) for truth, one in pairs]
    assert entry["counts"] == np.sum(tables, axis=0).tolist()
    np.testing.assert_allclose(
        entry["shares"], np.mean([table / table.sum(axis=1, keepdims=True) for table in tables], axis=0)
    )


def test_cohorts_titles_and_counts(judged: tuple[Study, dict[str, Any]]) -> None:
    study, summary = judged
    test = summary["cohorts"]["test"]
    assert (test["images"], test["patients"]) == (120, 60)
    assert [entry["class"] for entry in test["classes"]] == list(study.labels.names)
    if summary["kind"] == "multilabel":
        known = ~np.isnan(study.test.labels[:, 0])
        assert test["classes"][0]["images"] == int(study.test.labels[known, 0].sum())
        assert test["classes"][0]["unknown"] == int((~known).sum())
    else:
        assert sum(entry["images"] for entry in test["classes"]) == 120
        assert sum(entry["patients"] for entry in test["classes"]) == 60
    assert summary["positive"] == ("PNEUMONIA" if summary["kind"] == "binary" else None)
    real = summary["results"][0]
    assert (real["title"], real["seeds"]) == ("real images", [0, 1, 2])
    assert real["counts"] == {"real_images": 100, "synthetic_images": 50, "real_patients": None}
    assert real["runs"][2]["facts"]["note"] == "x"


def test_comparisons_are_paired_and_corrected(judged: tuple[Study, dict[str, Any]]) -> None:
    study, summary = judged
    assert [(entry["arm"], entry["reference"]) for entry in summary["comparisons"]] == [
        ("synthetic", "real"),
        ("mixed", "real"),
    ]
    weights = patient_draws(study.test.patients, replicates=80, seed=0)
    tables: dict[str, list[Any]] = {}
    for run in study.runs:
        limits = choose_thresholds(study.validation.labels, run.validation, kind=summary["kind"])
        options = {"kind": summary["kind"], "thresholds": limits}
        tables.setdefault(run.arm, []).append(
            [
                score_table(study.test.labels, run.test, weights=given, **options).overall["f1"]
                for given in (None, weights)
            ]
        )
    of_arm = {
        name: (np.array([exact[0] for exact, _ in pairs]), np.stack([drawn for _, drawn in pairs]))
        for name, pairs in tables.items()
    }
    differences = [interval_of_difference(of_arm[name], of_arm["real"], width=1.0) for name in ("synthetic", "mixed")]
    for entry, difference in zip(summary["comparisons"], differences, strict=True):
        found = entry["scores"]["f1"]
        assert found["value"] == pytest.approx(float(difference.value))
        assert [found["low"], found["high"]] == pytest.approx([float(difference.low), float(difference.high)])
        assert found["p"] == pytest.approx(float(difference.p_value))
    small, large = sorted(entry["scores"]["f1"]["p"] for entry in summary["comparisons"])
    corrected = sorted(entry["scores"]["f1"]["p_holm"] for entry in summary["comparisons"])
    assert corrected == pytest.approx([min(1, 2 * small), min(1, max(2 * small, large))])
    sentences = [text for entry in summary["comparisons"] for text in entry["sentences"]]
    assert summary["verdict"]["sentences"] == sentences
    assert sentences[0].startswith("AUROC was ")


def test_tables_of_a_real_summary(judged: tuple[Study, dict[str, Any]]) -> None:
    _, summary = judged
    table = as_table(summary)
    assert table["arm"].tolist() == ["real", "synthetic", "mixed"]
    assert table["auroc"].tolist() == [entry["scores"]["auroc"]["value"] for entry in summary["results"]]


def test_real_classifiers_on_synthetic_images(judged: tuple[Study, dict[str, Any]]) -> None:
    study, _ = judged
    rng = np.random.default_rng(4)
    cohort = _cohort(study.labels, 50, rng)
    common = rng.standard_normal((len(cohort), len(study.labels)))
    runs = [
        replace(run, synthetic=_probabilities(cohort, study.labels, 3.0, common, rng)) if run.arm == "real" else run
        for run in study.runs
    ]
    assert summarise(study, replicates=80)["on_synthetic"] == []
    (entry,) = summarise(replace(study, runs=runs, synthetic=cohort), replicates=80)["on_synthetic"]
    asked = [run for run in runs if run.arm == "real"]
    kind = problem_kind(study.labels)
    by_hand = summarise_runs(
        cohort.labels,
        cohort.patients,
        spec=study.labels,
        probabilities=[run.synthetic for run in asked if run.synthetic is not None],
        thresholds=[choose_thresholds(study.validation.labels, run.validation, kind=kind) for run in asked],
        replicates=80,
    )
    assert entry["scores"] == by_hand["scores"]
    assert (entry["arm"], entry["title"], entry["images"]) == ("real", "real images", len(cohort))


def test_flips_by_hand(judged: tuple[Study, dict[str, Any]]) -> None:
    study, summary = judged
    kind, labels = summary["kind"], study.test.labels

    def majority(arm: str) -> tuple[Array, Array]:
        runs = [run for run in study.runs if run.arm == arm]
        votes = np.stack(
            [
                predict(
                    run.test,
                    kind=kind,
                    thresholds=choose_thresholds(study.validation.labels, run.validation, kind=kind),
                )
                for run in runs
            ]
        )
        mean = np.mean([run.test for run in runs], axis=0, dtype=np.float64)
        if kind != "multiclass":
            return (votes.sum(axis=0) >= 2).astype(int), mean  # three seeds
        chosen = []
        for image in range(len(labels)):
            counts = np.bincount(votes[:, image], minlength=3)
            best = np.flatnonzero(counts == counts.max())
            chosen.append(best[np.argmax(mean[image, best])])
        return np.array(chosen), mean

    (ours, our_mean), (theirs, their_mean) = majority("synthetic"), majority("real")
    flips = summary["flips"][0]
    mended, broken, changed = [], [], 0
    for place in np.ndindex(ours.shape):
        truth = labels[place]
        if np.isnan(truth):
            continue
        column = place[1] if kind == "multilabel" else 1 if kind == "binary" else int(truth)
        moved = abs(our_mean[place[0], column] - their_mean[place[0], column])
        changed += ours[place] != theirs[place]
        if ours[place] != theirs[place] and ours[place] == truth:
            mended.append((moved, f"image-{place[0]}.png", study.labels.names[column]))
        if ours[place] != theirs[place] and theirs[place] == truth:
            broken.append((moved, f"image-{place[0]}.png", study.labels.names[column]))
    assert flips["judged"] == int((~np.isnan(labels)).sum())
    assert (flips["changed"], flips["mended"], flips["broken"]) == (changed, len(mended), len(broken))
    assert broken  # the arm that separates less breaks some
    for listed, by_hand in ((flips["images_mended"], mended), (flips["images_broken"], broken)):
        by_hand.sort(reverse=True)
        assert [(entry["file"], entry["of"]) for entry in listed] == [entry[1:] for entry in by_hand[:24]]
        for entry, (moved, _, _) in zip(listed, by_hand, strict=False):
            assert abs(entry["probability"] - entry["probability_reference"]) == pytest.approx(moved)
    assert all(entry["predicted_reference"] == entry["truth"] for entry in flips["images_broken"])
    assert all(entry["predicted"] == entry["truth"] for entry in flips["images_mended"])


def test_divided_seeds_are_decided_by_the_mean_probability() -> None:
    study = _study(BINARY, [("real", 1.0, 2.0), ("other", 1.0, 2.0)], seeds=2)
    summary = summarise(study, replicates=20)
    runs = {name: [run for run in study.runs if run.arm == name] for name in ("real", "other")}

    def decided(name: str) -> Array:
        limits = [choose_thresholds(study.validation.labels, run.validation, kind="binary")[0] for run in runs[name]]
        votes = [run.test[:, 1].astype(np.float64) >= limit for run, limit in zip(runs[name], limits, strict=True)]
        mean = np.mean([run.test[:, 1] for run in runs[name]], axis=0, dtype=np.float64)
        assert (votes[0] != votes[1]).any()
        return np.where(votes[0] == votes[1], votes[0], mean >= np.mean(limits))

    assert summary["flips"][0]["changed"] == int((decided("other") != decided("real")).sum())


def test_subgroups_and_the_worst_of_them() -> None:
    study = _study(BINARY, [("real", 0.5, 1.0), ("real", 1.0, 2.0), ("mixed", 1.0, 2.5)], patients=120)
    female = study.test.subgroups["sex"].to_numpy() == "F"
    for run in study.runs:  # of women nothing is known: their probabilities go to others
        run.test[female] = run.test[female][::-1]
    subgroups = summarise(study, replicates=60)["subgroups"]
    assert [entry["column"] for entry in subgroups["columns"]] == ["sex", "age"]
    assert subgroups["left_out"] == [{"column": "view", "reason": "it is the same for every image"}]
    sex, age = subgroups["columns"]
    assert not sex["numeric"]
    assert age["numeric"]
    counts = {entry["group"]: entry for entry in sex["groups"]}
    assert counts["F"]["images"] == female.sum()
    assert counts["F"]["patients"] == len(np.unique(study.test.patients[female]))
    assert counts["unknown"]["patients"] < 20
    assert counts["unknown"]["small"]
    assert not counts["F"]["small"]
    assert [(entry["arm"], entry["fraction"]) for entry in sex["results"]] == [("real", 1.0), ("mixed", 1.0)]
    for result in sex["results"]:
        runs = [run for run in study.runs if (run.arm, run.fraction) == (result["arm"], 1.0)]
        areas = [metrics.roc_auc_score(study.test.labels[female], run.test[female, 1]) for run in runs]
        assert result["groups"]["F"]["auroc"]["value"] == pytest.approx(np.mean(areas))
        assert result["worst"]["group"] == "F"
        assert result["worst"]["low"] == result["groups"]["F"]["auroc"]["low"]
    for worst, column in itertools.product(subgroups["worst"], subgroups["columns"]):
        large = {entry["group"] for entry in column["groups"] if not entry["small"]}
        (of_arm,) = [result for result in column["results"] if result["arm"] == worst["arm"]]
        lowest = min(of_arm["groups"][group]["auroc"]["value"] for group in large if group != "unknown")
        assert worst["value"] <= lowest


def test_scores_by_fraction_with_the_difference_from_the_baseline() -> None:
    arms = [("real", 0.1, 0.5), ("real", 1.0, 2.0), ("mixed", 0.1, 1.5), ("mixed", 1.0, 2.0), ("synthetic", 1.0, 1.0)]
    study = _study(BINARY, arms)
    summary = summarise(study, replicates=60)
    real, mixed = summary["fractions"]
    assert [point["fraction"] for point in mixed["points"]] == [0.1, 1.0]
    assert all(point["difference"] is None for point in real["points"])
    by_place = {(entry["arm"], entry["fraction"]): entry["scores"]["auroc"] for entry in summary["results"]}
    for point in mixed["points"]:
        assert point["value"] == by_place["mixed", point["fraction"]]["value"]
        assert point["low"] == by_place["mixed", point["fraction"]]["low"]
        difference = point["value"] - by_place["real", point["fraction"]]["value"]
        assert point["difference"]["value"] == pytest.approx(difference)
    largest = summary["comparisons"][0]
    assert (largest["arm"], largest["fraction"], largest["reference_fraction"]) == ("mixed", 1.0, 1.0)
    assert largest["scores"]["auroc"]["low"] == pytest.approx(mixed["points"][1]["difference"]["low"])


def test_arms_without_a_common_fraction_are_compared_at_the_largest_of_each() -> None:
    study = _study(BINARY, [("real", 0.5, 2.0), ("real", 0.25, 2.0), ("synthetic", 1.0, 1.0)])
    (entry,) = summarise(study, replicates=20)["comparisons"]
    assert (entry["fraction"], entry["reference_fraction"]) == (1.0, 0.5)


def test_chosen_comparisons_and_only_the_seeds_in_common() -> None:
    study = _study(BINARY, ARMS)
    fewer = [run for run in study.runs if (run.arm, run.seed) != ("mixed", 1)]
    summary = summarise(replace(study, runs=fewer), comparisons=[("mixed", "synthetic")], replicates=20)
    (entry,) = summary["comparisons"]
    assert (entry["arm"], entry["reference"], entry["seeds"]) == ("mixed", "synthetic", [0, 2])
    assert "2 seeds" in entry["sentences"][0]
    apart = [run if run.arm != "mixed" else replace(run, seed=run.seed + 9) for run in study.runs]
    with pytest.raises(DataError, match="no seed in common"):
        summarise(replace(study, runs=apart), replicates=20)


def test_a_planted_difference_is_claimed_and_a_null_one_is_not() -> None:
    study = _study(BINARY, [("real", 1.0, 2.0), ("worse", 1.0, 0.8), ("same", 1.0, 2.0)], patients=300)
    worse, same = summarise(study, replicates=200)["comparisons"]
    assert worse["noninferiority"] == {"margin": 0.02, "outcome": "inferior"}
    assert worse["scores"]["auroc"]["p_holm"] < 0.05
    assert worse["sentences"][2].startswith("“worse” is worse than “real images” (p = 0.0")
    assert same["scores"]["auroc"]["p_holm"] > 0.05
    assert "is not shown" in same["sentences"][2]
    wide = summarise(study, comparisons=[("same", "real")], margin=0.3, replicates=50)["comparisons"][0]
    assert wide["noninferiority"] == {"margin": 0.3, "outcome": "noninferior"}


def test_the_floor_knows_only_the_shares() -> None:
    study = _study(BINARY, [("real", 1.0, 2.0)])
    study.validation.labels[:] = [0] * 50 + [1] * 30
    floor = summarise(study, replicates=50)["floor"]
    ill = study.test.labels.mean()
    assert floor["class"] == "NORMAL"
    assert floor["scores"]["auroc"] == {"value": 0.5, "low": None, "high": None, "undefined_share": 0}
    assert floor["scores"]["accuracy"]["value"] == pytest.approx(1 - ill)
    assert floor["scores"]["accuracy"]["low"] < 1 - ill < floor["scores"]["accuracy"]["high"]
    assert floor["scores"]["brier"]["value"] == pytest.approx(ill * (1 - 3 / 8) ** 2 + (1 - ill) * (3 / 8) ** 2)
    assert floor["scores"]["calibration_slope"]["value"] is None
    assert floor["scores"]["precision"]["undefined_share"] == 1


def test_notes_tell_what_a_reader_must_know() -> None:
    study = _study(FINDINGS, [("real", 1.0, 2.0)], seeds=1)
    study.validation.labels[:, 1] = 0
    notes = " ".join(summarise(study, replicates=20)["verdict"]["notes"])
    assert "There is one seed" in notes
    assert "not both kinds of images of nodule" in notes
    assert "Non-inferiority" not in notes
    several = " ".join(summarise(_study(BINARY, ARMS), replicates=20)["verdict"]["notes"])
    assert "There is one seed" not in several
    assert "Non-inferiority is judged for each comparison by itself" in several
    assert "the margin of 0.02, which counts if it was chosen before the study" in several
    assert "The generator is fixed" in several
    facts = {"generators": [{"weights_sha256": "0"}, {"weights_sha256": "1"}]}
    for other in (_study(BINARY, ARMS, facts=facts), _study(BINARY, ARMS[:1], seeds=1)):  # without synthetic images
        assert "generator" not in " ".join(summarise(other, replicates=20)["verdict"]["notes"])


def test_sentences_say_of_which_share_of_the_patients() -> None:
    arms = [("real", 0.1, 1.0), ("real", 0.25, 2.0), ("synthetic", 1.0, 1.0), ("mixed", 0.25, 2.0)]
    summary = summarise(_study(BINARY, arms), replicates=20)
    claimed = " ".join(summary["verdict"]["sentences"])
    assert "training on “synthetic” and 0." in claimed
    assert claimed.count("“mixed, 0.25 of the real patients”") >= 2
    for sentence in summary["verdict"]["sentences"]:
        assert "“real images, 0.25 of the real patients”" in sentence
    whole = summarise(_study(BINARY, ARMS), replicates=20)
    assert "of the real patients" not in " ".join(whole["verdict"]["sentences"])


def test_runs_on_another_cohort() -> None:
    study = _study(BINARY, [("real", 1.0, 2.0)])
    summary = summarise(study, replicates=50)
    limits = [run["thresholds"] for run in summary["results"][0]["runs"]]
    block = summarise_runs(
        study.test.labels,
        study.test.patients,
        spec=study.labels,
        probabilities=[run.test for run in study.runs],
        thresholds=limits,
        replicates=50,
    )
    assert block == {name: summary["results"][0][name] for name in ("scores", "per_class", "confusion", "curves")}
    with pytest.raises(DataError, match="probabilities of 0 seeds"):
        summarise_runs([0], ["a"], spec=study.labels, probabilities=[], thresholds=[])


def test_studies_that_cannot_be_summarised() -> None:
    study = _study(BINARY, ARMS, seeds=1)
    for options, message in (
        ({"baseline": "rael"}, "Did you mean 'real'"),
        ({"comparisons": [("mixt", "real")]}, "arm 'mixt' of a comparison is not in the study"),
        ({"comparisons": [("real", "real")]}, "compared with itself"),
        ({"primary": "auc"}, "'auc' is unknown"),
        ({"primary": "calibration_slope"}, "cannot be 'calibration_slope'"),
        ({"margin": 0.0}, "margin is 0, expected above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            summarise(study, replicates=20, **options)  # type: ignore[arg-type]
    first = study.runs[0]
    for runs, message in (
        ([], "has no runs"),
        ([first, first], "is there twice"),
        ([replace(first, test=first.test[:5])], r"test probabilities of the shape \(5, 2\), expected \(120, 2\)"),
    ):
        with pytest.raises(DataError, match=message):
            summarise(replace(study, runs=runs), replicates=20)
