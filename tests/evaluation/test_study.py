from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medgan.classifiers import predict
from medgan.core.spec import Batch
from medgan.data import ImageDataset
from medgan.errors import ConfigError, DataError
from medgan.evaluation import DownstreamEvaluator, Study, StudyConfig
from medgan.evaluation.arms import DEFAULT_ARMS, parse_arms
from medgan.evaluation.leakage import pixel_hashes
from medgan.evaluation.records import ClassifierRun
from medgan.evaluation.run_store import StudyWarning

Parts = tuple[ImageDataset, ImageDataset, ImageDataset]

TINY = {"seeds": 2, "steps": 3, "replicates": 100}


class Copier:
    """A generator that makes noise, brighter in the middle for class 1, with the labels that it is asked for."""

    name = "copier"
    weights_sha256 = "0" * 64
    generator = torch.nn.Linear(1, 1)

    def __init__(self, train: ImageDataset) -> None:
        self.data, self.provenance = train.spec, train.provenance()

    def sample_batches(self, seeds, *, labels, truncation):
        rng = torch.Generator().manual_seed(int(seeds[0]) + round(1000 * truncation))
        images = torch.rand(len(seeds), 1, 16, 16, generator=rng) - 1
        if labels.ndim == 1:
            images[:, :, 4:12, 4:12] += labels.view(-1, 1, 1, 1)
        yield Batch(images, labels)


class Brighter(Copier):
    """Another training of it."""

    weights_sha256 = "1" * 64

    def sample_batches(self, seeds, *, labels, truncation):
        for batch in super().sample_batches(seeds, labels=labels, truncation=truncation):
            yield Batch(batch.images.clamp(max=0.5) + 0.5, labels)


def evaluator(parts: Parts, out: Path, arms: str, **options: object) -> DownstreamEvaluator:
    how = {name: options.pop(name) for name in ("resume", "jobs", "progress") if name in options}
    config = StudyConfig(**{**TINY, "arms": arms, **options})  # type: ignore[arg-type]
    generators: list[Any] = [Copier(parts[0])]
    return DownstreamEvaluator(
        *parts, out=out, generators=generators, config=config, device="cpu", **{"jobs": 1, **how}
    )


@pytest.fixture(scope="module")
def finished(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    out = tmp_path_factory.mktemp("studies") / "all"
    return evaluator(parts, out, "all", fractions="0.5,1").run(), out


def test_every_arm_fraction_and_seed_is_there_once(finished: tuple[Study, Path], parts: Parts) -> None:
    study, _ = finished
    found = [(run.arm, run.fraction, run.seed) for run in study.runs]
    real = [name for name in study.facts["titles"] if not name.startswith("synthetic") or name == "synthetic-then-real"]
    assert len(real) == 8
    expected = {(arm, fraction, seed) for arm in real for fraction in (0.5, 1.0) for seed in (0, 1)}
    expected |= {(arm, 1.0, seed) for arm in ("synthetic", "synthetic-2x") for seed in (0, 1)}
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected
    _, validation, test = parts
    for run in study.runs:
        assert run.test.shape == (len(test), 2)
        assert run.validation.shape == (len(validation), 2)
        assert np.allclose(run.test.sum(axis=1), 1, atol=1e-5)
        assert run.facts["steps"] == 3
        assert run.history[-1]["step"] == 3


def test_arms_have_the_images_that_they_say(finished: tuple[Study, Path], parts: Parts) -> None:
    study, _ = finished
    train = parts[0]
    counts = {
        (run.arm, run.fraction): (run.facts["real_images"], run.facts["synthetic_images"])
        for run in study.runs
        if run.seed == 0
    }
    n = len(train)
    assert counts["real", 1] == counts["real-augmented", 1] == counts["real-oversampled", 1] == (n, 0)
    assert counts["synthetic", 1] == (0, n)
    assert counts["synthetic-2x", 1] == (0, 2 * n)
    assert counts["real+synthetic", 1] == counts["synthetic-then-real", 1] == (n, n)
    half, made = counts["real+synthetic-2x", 0.5]
    assert half < n
    assert made == 2 * half
    assert counts["real+synthetic-0.5x", 1][1] == pytest.approx(n / 2, abs=1)


def test_only_classifiers_of_real_images_judge_synthetic_ones(finished: tuple[Study, Path], parts: Parts) -> None:
    study, _ = finished
    assert study.synthetic is not None
    assert np.bincount(study.synthetic.labels).tolist() == list(parts[2].class_counts().values())
    for run in study.runs:
        assert (run.synthetic is None) == ("synthetic" in run.arm)


@pytest.mark.parametrize("best", ["real", "real-oversampled"])
def test_arms_are_compared_with_the_best_that_needs_no_generator(
    best: str, finished: tuple[Study, Path], parts: Parts, tmp_path: Path
) -> None:
    """The validation patients say which it is, whatever the test says."""
    study, _ = finished
    right = np.eye(2, dtype=np.float32)[study.validation.labels]

    def judged(run: ClassifierRun) -> ClassifierRun:
        # The synthetic arm would be best, but is no rival that needs no generator.
        ahead = run.arm in (best, "synthetic") and run.fraction == 1
        return replace(run, validation=right if ahead else 1 - right)

    changed = replace(study, runs=[judged(run) for run in study.runs])
    _, summary = evaluator(parts, tmp_path / "study", "all").report(changed)
    found = [(item["arm"], item["reference"]) for item in summary["comparisons"]]
    others = [arm.name for arm in parse_arms("all") if arm.name != "real"]
    mixed = ["real+synthetic-0.5x", "real+synthetic", "real+synthetic-2x", "synthetic-then-real"]
    assert found == [(name, "real") for name in others] + [(name, best) for name in mixed if best != "real"]
    page = (tmp_path / "study" / "index.html").read_text(encoding="utf-8")
    assert ("Not comparable with real, classes equally often" in page) == (best != "real")


def test_a_study_of_volumes_needs_no_choice_of_arms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    volumes = rng.integers(0, 256, (36, 16, 16, 16, 1)).astype(np.uint8)
    whole = ImageDataset.from_arrays(volumes, np.arange(36) % 2, patient_ids=[str(number) for number in range(36)])
    parts = (whole.subset(range(16)), whole.subset(range(16, 24)), whole.subset(range(24, 36)))
    made = ImageDataset.from_arrays(255 - volumes, np.arange(36) % 2)

    def study(out: Path, **options: Any) -> DownstreamEvaluator:
        config = StudyConfig(**TINY, **options)
        return DownstreamEvaluator(*parts, out=out, synthetic=made, config=config, device="cpu", jobs=1)

    default = study(tmp_path / "study")
    assert any("real-augmented is left out" in note for note in default.notes)
    found = default.run()
    assert {run.arm for run in found.runs} == {"real", "synthetic", "real+synthetic"}
    page, _ = default.report(found)
    assert "real-augmented is left out" in page.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="real-augmented is for 2-D images"):
        study(tmp_path / "other", arms=DEFAULT_ARMS)


def test_an_arm_is_what_it_claims_to_be(finished: tuple[Study, Path], parts: Parts) -> None:
    """The arm real, done by hand."""
    from medgan.classifiers import make_classifier, train_classifier

    train, validation, test = parts
    classifier = make_classifier("small-cnn", channels=1, size=(16, 16), num_classes=2, seed=1)
    order = train.batches(classifier.recipe.batch_size, seed=1)
    train_classifier(classifier, order, steps=3, validation=validation, evaluate_every=1, seed=1, device="cpu")
    by_hand = predict(classifier, test, device="cpu")
    run = next(run for run in finished[0].runs if (run.arm, run.fraction, run.seed) == ("real", 1, 1))
    assert np.allclose(run.test, by_hand, atol=1e-6)


def test_finished_runs_are_not_done_again(parts: Parts, tmp_path: Path, monkeypatch) -> None:
    first = evaluator(parts, tmp_path / "study", "real,synthetic").run()
    told: list[tuple[int, int, str]] = []
    again = evaluator(
        parts, tmp_path / "study", "real,synthetic,real-oversampled", resume=True, progress=lambda *a: told.append(a)
    ).run()
    counted = [(done, total) for done, total, _ in told if total]
    assert counted == [(4, 6), (5, 6), (6, 6)]
    for run in first.runs:
        twin = next(other for other in again.runs if (other.arm, other.seed) == (run.arm, run.seed))
        assert np.array_equal(run.test, twin.test)


def test_runs_of_a_share_are_not_found_again_for_other_patients(parts: Parts, tmp_path: Path) -> None:
    """The same pixels, named otherwise: another half of the images; all of them are the same ones."""
    train, *held_out = parts
    names = [f"other-{number % 30}" for number in range(len(train))]
    renamed = replace(train, index=train.index.assign(patient_id=names))
    first = evaluator(parts, tmp_path / "study", "real", fractions="0.5,1", seeds=1).run()
    told: list[tuple[int, int, str]] = []
    again = evaluator(
        (renamed, *held_out),
        tmp_path / "study",
        "real",
        fractions="0.5,1",
        seeds=1,
        resume=True,
        progress=lambda *a: told.append(a),
    ).run()
    assert [(done, total) for done, total, _ in told if total] == [(1, 2), (2, 2)]
    assert np.array_equal(first.runs[1].test, again.runs[1].test)
    alone = evaluator((renamed, *held_out), tmp_path / "alone", "real", fractions="0.5,1", seeds=1).run()
    assert np.array_equal(again.runs[0].test, alone.runs[0].test)
    assert not np.array_equal(again.runs[0].test, first.runs[0].test)


def test_a_stop_keeps_what_is_finished(parts: Parts, tmp_path: Path) -> None:
    def stop(done: int, total: int, _: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator(parts, tmp_path / "study", "real,synthetic", progress=stop).run()
    assert len(list((tmp_path / "study" / "runs").glob("*.safetensors"))) == 3
    resumed = evaluator(parts, tmp_path / "study", "real,synthetic", resume=True).run()
    whole = evaluator(parts, tmp_path / "other", "real,synthetic").run()
    for one, other in zip(resumed.runs, whole.runs, strict=True):
        assert np.array_equal(one.test, other.test)


def test_a_damaged_run_is_done_again(parts: Parts, tmp_path: Path) -> None:
    before = evaluator(parts, tmp_path / "study", "real", seeds=1).run()
    file = next((tmp_path / "study" / "runs").iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(StudyWarning, match="is damaged"):
        after = evaluator(parts, tmp_path / "study", "real", seeds=1, resume=True).run()
    assert np.array_equal(before.runs[0].test, after.runs[0].test)


@pytest.mark.slow
def test_processes_do_what_one_does(parts: Parts, tmp_path: Path) -> None:
    one = evaluator(parts, tmp_path / "one", "real,synthetic").run()
    two = evaluator(parts, tmp_path / "two", "real,synthetic", jobs=2).run()
    for first, second in zip(one.runs, two.runs, strict=True):
        assert (first.arm, first.seed) == (second.arm, second.seed)
        assert np.allclose(first.test, second.test, atol=1e-3)  # another number of threads adds up in another order
    assert multiprocessing.active_children() == []


def test_a_folder_with_something_in_it_is_left_alone(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        evaluator(parts, tmp_path, "real")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_synthetic_images_from_a_folder(parts: Parts, make_images, tmp_path: Path) -> None:
    synthetic = make_images(100, seed=5, name="made")
    made = DownstreamEvaluator(
        *parts,
        out=tmp_path / "study",
        synthetic=synthetic,
        config=StudyConfig(**TINY, arms="real,synthetic"),
        device="cpu",
        jobs=1,
    )
    assert "not known which images" in made.notes[0]
    study = made.run()
    assert "The seeds share synthetic images: each takes 60 of 68." in study.facts["notes"][-1]
    assert study.synthetic is not None
    seen = [run.facts["synthetic_images"] for run in study.runs if run.arm == "synthetic"]
    assert seen == [60, 60]


def test_seeds_share_no_synthetic_image_where_there_are_enough(parts: Parts, make_images, tmp_path: Path) -> None:
    made = DownstreamEvaluator(
        *parts,
        out=tmp_path / "study",
        synthetic=make_images(152, seed=5, name="made"),
        config=StudyConfig(**TINY, arms="real,synthetic"),
    )
    pools, probe = made._pools(range(2))
    assert probe is not None
    taken = [set(pixel_hashes(images)) for images in (*pools.values(), probe)]
    assert [len(images) for images in taken] == [60, 60, 32]
    assert len(set().union(*taken)) == 152
    assert not any("share synthetic images" in note for note in made.notes)


def test_each_of_several_models_has_a_seed(parts: Parts, tmp_path: Path) -> None:
    def study(arms: str, seeds: int) -> DownstreamEvaluator:
        generators: list[Any] = [Copier(parts[0]), Brighter(parts[0])]
        config = StudyConfig(**{**TINY, "arms": arms, "seeds": seeds})
        return DownstreamEvaluator(*parts, out=tmp_path / "study", generators=generators, config=config, device="cpu")

    for seeds in (1, 3):
        with pytest.raises(ConfigError, match=f"2 models and {seeds} seeds.* Give --seeds 2"):
            study("real,synthetic", seeds)
    study("real", 3)  # samples nothing
    pools, _ = study("real,synthetic", 2)._pools(range(2))
    dark, bright = (float(pools[seed].images_at(range(60)).mean()) for seed in range(2))
    assert bright > dark + 0.3


def test_too_few_synthetic_images(parts: Parts, make_images, tmp_path: Path) -> None:
    made = DownstreamEvaluator(
        *parts,
        out=tmp_path / "study",
        synthetic=make_images(40, seed=5, name="made"),
        config=StudyConfig(**TINY, arms="real,synthetic"),
        jobs=1,
    )
    with pytest.raises(DataError, match="20 synthetic images of NORMAL, but 30 are needed"):
        made.run()


def test_a_small_share_of_few_images_is_one_a_class(parts: Parts, tmp_path: Path) -> None:
    arms = "real,synthetic-0.01x,real+synthetic-0.01x"
    study = evaluator(parts, tmp_path / "study", arms, fractions="0.1", seeds=1).run()
    assert [run.facts["synthetic_images"] for run in study.runs] == [0, 2, 2]


def test_a_rare_class_is_filled_up_or_made_as_large(parts: Parts, tmp_path: Path) -> None:
    train, validation, test = parts
    rare = train.subset(np.flatnonzero((train.labels == 0) | (np.arange(len(train)) < 12)))
    assert list(rare.class_counts().values()) == [30, 6]
    arms = "real,real+synthetic,real+synthetic-balanced,synthetic-balanced-2x"
    study = evaluator((rare, validation, test), tmp_path / "study", arms, fractions="0.5,1", seeds=1).run()
    counts = {(run.arm, run.fraction): (run.facts["real_images"], run.facts["synthetic_images"]) for run in study.runs}
    assert counts["real+synthetic-balanced", 1] == (36, 24)
    assert counts["synthetic-balanced-2x", 1] == (0, 72)
    half, added = counts["real+synthetic-balanced", 0.5]
    assert added == 16 - (half - 16)  # 8 of 15 patients, two images each
    runs = {run.arm: run for run in study.runs if run.fraction == 1}
    assert runs["real+synthetic-balanced"].synthetic is None
    assert not np.array_equal(runs["real+synthetic-balanced"].test, runs["real"].test)


def test_classes_that_need_no_filling_up(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"real\+synthetic-balanced would add nothing, as the classes are equal"):
        evaluator(parts, tmp_path / "study", "real,real+synthetic-balanced")
    with pytest.raises(ConfigError, match=r"synthetic-balanced would be no other than synthetic, as the classes are"):
        evaluator(parts, tmp_path / "study", "real,synthetic-balanced")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"config": {"arms": "real,synthetic"}}, ConfigError, "need synthetic images"),
        ({"config": {"classifier": "smal-cnn"}}, ConfigError, "small-cnn"),
        ({"truncation": 0.5}, ConfigError, "--truncation 0.5 is for sampling a --model"),
        ({"jobs": 0}, ConfigError, "--jobs must be at least 1"),
        ({"config": {"subgroups": "hospital"}}, ConfigError, "no column 'hospital'"),
    ],
)
def test_options_that_do_not_fit(
    parts: Parts, tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    config = StudyConfig(**{**TINY, "arms": "real", **changes.pop("config", {})})  # type: ignore[dict-item]
    with pytest.raises(error, match=message):
        DownstreamEvaluator(*parts, out=tmp_path / "study", config=config, **{"jobs": 1, **changes}).run()
    assert not (tmp_path / "study").exists()


def test_parts_that_do_not_fit(parts: Parts, make_images, tmp_path: Path) -> None:
    train, validation, test = parts

    def study(*images: ImageDataset) -> DownstreamEvaluator:
        return DownstreamEvaluator(*images, out=tmp_path / "study", config=StudyConfig(arms="real"))

    with pytest.raises(DataError, match=r"The test part has no image of PNEUMONIA"):
        study(train, validation, test.subset(np.flatnonzero(test.labels == 0)))
    with pytest.raises(DataError, match=r"2 patients, such as .*, are in the train and in the test part"):
        study(train, validation, ImageDataset.join([test, train.subset([0, 1, 2, 3])]))
    with pytest.raises(DataError, match="Open both alike"):
        study(train, validation, make_images(30, classes=3))
    with pytest.raises(DataError, match="All 32 test images are of one patient or file"):
        study(train, validation, replace(test, index=test.index.assign(patient_id="one")))
    plain = ImageDataset.from_arrays(np.zeros((4, 16, 16), np.uint8))
    with pytest.raises(DataError, match="the labels of arrays are none"):
        study(plain, plain, plain)
    elsewhere = make_images(40, seed=3)  # the same names in another data set
    assert "may be the names alone" in study(train, validation, elsewhere).notes[0]


def test_a_generator_that_does_not_fit(parts: Parts, make_images, tmp_path: Path) -> None:
    three = make_images(60, classes=3, name="other")
    with pytest.raises(DataError, match=r"The synthetic set knows categorical NORMAL, PNEUMONIA, COVID"):
        DownstreamEvaluator(*parts, out=tmp_path / "study", synthetic=three)


def test_a_generator_that_has_seen_the_test(parts: Parts, tmp_path: Path) -> None:
    train, validation, test = parts
    generators: list[Any] = [Copier(train)]
    with pytest.raises(DataError, match="--allow-leakage"):
        DownstreamEvaluator(test, validation, train, out=tmp_path / "study", generators=generators)
    void = DownstreamEvaluator(
        test, validation, train, out=tmp_path / "study", generators=generators, allow_leakage=True
    )
    assert void.banners[0].startswith("Void")


def test_subgroups_are_columns_of_the_table(parts: Parts, tmp_path: Path) -> None:
    train, validation, test = parts
    index = test.index.assign(sex=["F", "M"] * (len(test) // 2), ward="A")
    study = DownstreamEvaluator(
        train,
        validation,
        replace(test, index=index),
        out=tmp_path / "study",
        config=StudyConfig(**{**TINY, "seeds": 1}, arms="real", subgroups="sex,ward"),
        jobs=1,
    ).run()
    assert study.test.subgroups.equals(pd.DataFrame({"sex": index["sex"], "ward": index["ward"]}))


def test_patients_that_are_not_known_are_told(parts: Parts, tmp_path: Path) -> None:
    train, validation, test = parts
    known = DownstreamEvaluator(*parts, out=tmp_path / "study", config=StudyConfig(arms="real"))
    assert known.notes == []
    some = test.index.assign(patient_id=[""] * 4 + list(test.index["patient_id"][4:]))
    none = [replace(part, index=part.index.assign(patient_id="")) for part in parts]
    for given, told in (
        ((train, validation, replace(test, index=some)), "The patients of 4 test images are not known."),
        (none, "The patients of 60 train, 28 validation, 32 test images are not known."),
    ):
        study = DownstreamEvaluator(*given, out=tmp_path / "study", config=StudyConfig(arms="real"))
        (note,) = study.notes
        assert note.startswith(told)
    facts = study._describe()
    assert facts["notes"] == [note]
    assert facts["parts"]["test"]["unknown_patients"] == facts["parts"]["test"]["patients"] == 32


def test_images_of_one_file_are_told_apart(parts: Parts, tmp_path: Path) -> None:
    train, validation, test = parts
    slices = [f"axial {number % 2}" for number in range(len(test))]
    volumes = [f"scan{number // 2}.nii.gz" for number in range(len(test))]
    sliced = replace(test, index=test.index.assign(file=volumes, part=slices, patient_id=""))
    config = StudyConfig(**{**TINY, "seeds": 1, "steps": 1}, arms="real")
    study = DownstreamEvaluator(train, validation, sliced, out=tmp_path / "study", config=config, jobs=1).run()
    assert list(study.test.files[:3]) == ["scan0.nii.gz#axial 0", "scan0.nii.gz#axial 1", "scan1.nii.gz#axial 0"]
    assert len(set(study.test.patients)) == len(test) / 2
    twice = replace(sliced, index=sliced.index.assign(part="axial 0"))
    again = DownstreamEvaluator(train, validation, twice, out=tmp_path / "again", config=config, jobs=1)
    with pytest.raises(DataError, match="are listed more than once"):
        again.run()
    assert not (tmp_path / "again").exists()


def test_several_findings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=(80, 2))
    images = rng.integers(0, 99, size=(80, 16, 16)).astype(np.uint8)
    whole = ImageDataset.from_arrays(
        images, labels, names=["Edema", "Effusion"], patient_ids=[str(n) for n in range(80)]
    )
    train, validation, test = whole.subset(range(40)), whole.subset(range(40, 60)), whole.subset(range(60, 80))

    study = DownstreamEvaluator(
        train,
        validation,
        test,
        out=tmp_path / "study",
        generators=[Copier(train)],  # type: ignore[list-item]
        config=StudyConfig(**{**TINY, "seeds": 1}, arms="real,synthetic"),
        device="cpu",
        jobs=1,
    ).run()
    assert study.labels.kind == "multilabel"
    assert study.runs[0].test.shape == (20, 2)


@pytest.mark.parametrize("text", ["0", "1.5", "a", "", "-1,1"])
def test_fractions_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--fractions"):
        StudyConfig(fractions=text)


def test_fractions() -> None:
    assert StudyConfig(fractions="1,0.1, .5,1").parsed_fractions() == (0.1, 0.5, 1.0)
