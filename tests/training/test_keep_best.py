from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medgan.core import Batch, Budget
from medgan.core.budget import parse_duration
from medgan.core.trainer import Callback
from medgan.data import ImageDataset, open_dataset
from medgan.errors import ConfigError, TrainingDivergedError
from medgan.models import ACGAN, load_model
from medgan.training import GroupScores, HeldOutScorer, HeldOutScores, KeepBest, MetricsLog
from medgan.training.frozen_features import (
    RandomFeatures,
    can_classify,
    read_classifier,
    train_features,
    write_classifier,
)


@pytest.fixture(scope="module")
def parts():
    train, validation = open_dataset("phantom://chest?n=120&seed=3", size=32).split(0.4, seed=0)
    return train, validation


def make(parts, folder, *, steps=6, every=2, said=None, gan=None):
    """Return a tiny model and the callback."""
    train, validation = parts
    gan = gan or ACGAN(train.spec, preset="tiny")
    log = MetricsLog(folder / "metrics.jsonl", every=3)
    say = (lambda line: None) if said is None else said.append
    best = KeepBest(gan, train, validation=validation, folder=folder, steps=steps, every=every, log=log, say=say)
    return gan, best, [log, best]


def evaluations(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "evaluation/score" in row]


def plan_scores(monkeypatch, *coverages):
    """Let evaluations find these coverages, one after the other."""
    waiting = list(coverages)

    def score(self, gan):
        self.samples = torch.zeros(1)
        return HeldOutScores(GroupScores(0.0, waiting.pop(0)), {})

    monkeypatch.setattr(HeldOutScorer, "score", score)


# ------------------------------------------------------------------------------ keeping


def test_weights_are_those_of_a_training_without_it(parts, tmp_path):
    plain = ACGAN(parts[0].spec, preset="tiny").fit(parts[0], steps=4, device="cpu")
    before = torch.get_rng_state()
    gan, best, callbacks = make(parts, tmp_path, steps=4, every=1)
    gan.fit(parts[0], steps=4, device="cpu", callbacks=callbacks)
    assert best.evaluations == 4
    assert torch.equal(torch.get_rng_state(), before)
    for network in ("generator", "discriminator", "averaged_generator"):
        watched, alone = (getattr(model.trainer, network).state_dict() for model in (gan, plain))
        assert all(torch.equal(watched[name], value) for name, value in alone.items())
    names = set(plain.trainer.generator.state_dict())
    assert names  # something was compared


def test_scores_are_logged_and_written_with_the_model(parts, tmp_path):
    said = []
    gan, best, callbacks = make(parts, tmp_path, steps=5, said=said)
    gan.fit(parts[0], steps=5, device="cpu", callbacks=callbacks)
    rows = evaluations(tmp_path)
    assert [row["step"] for row in rows] == [2, 4, 5]  # and after the last step
    winner = max(rows, key=lambda row: row["evaluation/score"])
    facts = json.loads((best.model / "model.json").read_text())
    assert facts["evaluation"]["step"] == facts["training"]["steps"] == winner["step"] == best.record["step"]
    for key in ("score", "coverage", "kernel_distance/PNEUMONIA", "class_consistency/NORMAL"):
        assert facts["evaluation"][key] == winner[f"evaluation/{key}"]
    assert all(row["evaluation/seconds"] > 0 for row in rows)
    assert best.seconds >= sum(row["evaluation/seconds"] for row in rows)
    assert "Trained small-cnn on" in said[0]
    assert f"step {winner['step']}" in best.summary()
    assert "3 evaluations took" in best.summary()


def test_best_and_not_last(parts, tmp_path, monkeypatch):
    plan_scores(monkeypatch, 0.3, 0.8, 0.8)  # not replaced by one that is as good
    gan, best, callbacks = make(parts, tmp_path)
    images = {}

    class Remember(Callback):
        def on_step(self, trainer, metrics):
            images[trainer.step] = gan.sample(4).images

    gan.fit(parts[0], steps=6, device="cpu", callbacks=[*callbacks, Remember()])
    assert best.record["step"] == 4
    assert torch.equal(load_model(best.model).sample(4).images, images[4])
    assert not torch.equal(images[4], images[6])
    assert [row["evaluation/best_step"] for row in evaluations(tmp_path)] == [2, 4, 4]


def test_of_models_that_are_no_good_yet_the_last_is_kept(parts, tmp_path, monkeypatch):
    plan_scores(monkeypatch, 0.0, 0.0, 0.0)
    gan, best, callbacks = make(parts, tmp_path)
    gan.fit(parts[0], steps=6, device="cpu", callbacks=callbacks)
    assert best.record["step"] == json.loads((best.model / "model.json").read_text())["evaluation"]["step"] == 6


@pytest.mark.parametrize(("later", "kept"), [(0.5, 2), (0.9, 6)])
def test_resume_keeps_the_record(parts, tmp_path, monkeypatch, later, kept):
    plan_scores(monkeypatch, 0.8, 0.4, later)
    said = []
    gan, _, callbacks = make(parts, tmp_path)
    gan.fit(parts[0], steps=4, device="cpu", callbacks=callbacks)
    again = ACGAN(parts[0].spec, preset="tiny")
    again.make_trainer(device="cpu").load_state_dict(gan.trainer.state_dict())
    again, best, callbacks = make(parts, tmp_path, said=said, gan=again)
    again.fit(parts[0], steps=2, device="cpu", callbacks=callbacks)
    assert best.record["step"] == kept
    assert json.loads((best.model / "model.json").read_text())["evaluation"]["step"] == kept
    assert said == []  # the classifier is read, not trained again


def test_a_record_of_an_earlier_training_counts_for_nothing(parts, tmp_path, monkeypatch):
    plan_scores(monkeypatch, 0.8, 0.9, 0.8, 0.3, 0.4, 0.2)
    for kept in (4, 4):
        gan, best, callbacks = make(parts, tmp_path)
        gan.fit(parts[0], steps=6, device="cpu", callbacks=callbacks)
        assert best.record["step"] == kept
    assert best.record["score"] == pytest.approx(HeldOutScores(GroupScores(0.0, 0.4), {}).score)


class Doctor:
    """A health monitor with verdicts that are known before."""

    def __init__(self, *healthy):
        self.healthy = list(healthy)
        self.compared, self.noted = [], []

    def prepare(self, held_out, training, classes):
        pass

    def examine(self, trainer, samples, *, late, score, best):
        self.compared.append(None if best is None else best["step"])
        return {}, self.healthy.pop(0)

    def note_best(self, trainer):
        self.noted.append(trainer.step)


def test_a_healthy_model_is_better_than_an_ill_one(parts, tmp_path, monkeypatch):
    plan_scores(monkeypatch, 0.9, 0.3, 0.8, 0.4)
    gan, best, callbacks = make(parts, tmp_path, steps=4, every=1)
    best.health = Doctor(False, True, False, True)
    kept = []

    class Look(Callback):
        def on_step(self, trainer, metrics):
            evaluation = json.loads((best.model / "model.json").read_text())["evaluation"]
            kept.append((evaluation["step"], evaluation["healthy"]))

    gan.fit(parts[0], steps=4, device="cpu", callbacks=[*callbacks, Look()])
    assert kept == [(1, False), (2, True), (2, True), (4, True)]
    assert best.health.noted == [2, 4]
    assert best.health.compared == [None, None, 2, 2]


def test_a_record_of_other_features_counts_for_nothing(parts, tmp_path, monkeypatch):
    plan_scores(monkeypatch, 0.8, 0.4)
    said = []
    gan, best, callbacks = make(parts, tmp_path, steps=4)
    gan.fit(parts[0], steps=2, device="cpu", callbacks=callbacks)
    best.classifier.unlink()
    # Other labels, another classifier.
    train = parts[0]
    other = ImageDataset.from_arrays(
        ((train.images_at(range(len(train))) + 1) / 2).movedim(1, -1).numpy(),
        1 - train.labels,
        names=train.spec.labels.names,
        data_range=(0, 1),
    )
    gan, best, callbacks = make((other, parts[1]), tmp_path, steps=4, said=said, gan=gan)
    gan.fit(train, steps=2, device="cpu", callbacks=callbacks)
    assert best.record["step"] == 4
    assert any("cannot be compared" in line for line in said)


# ------------------------------------------------------------------------------ time


class Clock:
    """Time that passes only where a test says so."""

    latest: Clock

    def __init__(self):
        self.now = 0.0
        Clock.latest = self

    def __call__(self):
        return self.now


def train_by_the_clock(
    parts, folder, monkeypatch, *, steps=None, budget=None, every=None, step_seconds, evaluation_seconds
):
    """Train without training: steps and evaluations take the seconds given. Returns the steps evaluated at."""
    clock, said, done = Clock(), [], []
    monkeypatch.setattr("medgan.training.keep_best.time.perf_counter", clock)
    gan, best, _ = make(parts, folder, steps=steps, every=every, said=said)

    def pass_time(seconds):
        clock.now += seconds

    def score(self, gan):
        pass_time(evaluation_seconds)
        return HeldOutScores(GroupScores(0.0, 0.5), {})

    monkeypatch.setattr(HeldOutScorer, "score", score)

    def sample(n, *, labels=None, sources=None):
        pass_time(evaluation_seconds * n / best._scorer.count)
        return Batch(torch.zeros(n, 1, 32, 32), labels)

    monkeypatch.setattr(gan, "sample", sample)
    monkeypatch.setattr(gan, "save", lambda *arguments, **options: None)
    monkeypatch.setattr(KeepBest, "_features", lambda *arguments: RandomFeatures(parts[0].spec))
    best.log = type("Log", (), {"write": lambda self, trainer, figures: done.append(trainer.step)})()
    trainer = gan.make_trainer(device="cpu")

    def train_step(batch):
        pass_time(step_seconds(trainer.step) if callable(step_seconds) else step_seconds)
        return {"generator/loss": torch.zeros(())}

    monkeypatch.setattr(trainer, "train_step", train_step)
    if budget is not None:
        trainer.use_budget(Budget(budget, clock=clock))
    trainer.fit(iter(lambda: Batch(torch.zeros(1, 1, 32, 32)), None), steps, [best])
    return done, best, said


def test_as_often_as_the_time_allows(parts, tmp_path, monkeypatch):
    done, best, _ = train_by_the_clock(
        parts, tmp_path, monkeypatch, steps=400, step_seconds=1.0, evaluation_seconds=1.0
    )
    assert done[0] == 20
    assert done[-1] == 400
    assert 8 <= len(done) <= 12
    assert best.seconds <= 0.03 * 400 + 1e-6
    done, _, _ = train_by_the_clock(parts, tmp_path, monkeypatch, steps=400, step_seconds=1.0, evaluation_seconds=0.01)
    assert done == list(range(20, 401, 20))  # no more than 20


@pytest.mark.parametrize("later", [1.0, 0.5, 1.5])
def test_as_often_as_a_budget_allows(parts, tmp_path, monkeypatch, later):
    """Also where steps become faster or slower, so that the plan changes up to the end."""
    done, best, _ = train_by_the_clock(
        parts,
        tmp_path,
        monkeypatch,
        budget=400.0,
        step_seconds=lambda step: 1.0 if step < 100 else later,
        evaluation_seconds=1.0,
    )
    assert done[0] == 21  # the first step with a plan, and a twentieth of it
    assert done[-1] == best.gan.trainer.step
    assert len(set(done)) == len(done)
    assert 6 <= len(done) <= 14
    assert best.seconds <= 0.04 * 400
    assert 0.95 * 400 <= Clock.latest.now <= 400


def test_a_budget_and_evaluations_every_so_many_steps(parts, tmp_path, monkeypatch):
    options = {"budget": 102.0, "step_seconds": 1.0, "evaluation_seconds": 0.125}
    done, best, _ = train_by_the_clock(parts, tmp_path, monkeypatch, every=10, **options)
    assert done[:3] == [30, 40, 50]
    assert done[-1] == best.gan.trainer.step
    assert all(step % 10 == 0 for step in done[:-1])
    done, best, _ = train_by_the_clock(parts, tmp_path, monkeypatch, every=1000, **options)
    assert done == [best.gan.trainer.step]


def test_a_budget_too_short_for_an_evaluation_that_was_asked_for(parts, tmp_path, monkeypatch):
    """It is known when the budget is planned; the budget that the message names is long enough."""
    options = {"step_seconds": 1.0, "evaluation_seconds": 20.0, "every": 10}
    with pytest.raises(ConfigError, match="budget of 40s is too short for one evaluation") as refused:
        train_by_the_clock(parts, tmp_path, monkeypatch, budget=40.0, **options)
    assert Clock.latest.now < 50
    message = str(refused.value)
    assert "--evaluate-every 10 asks for" in message
    budget = parse_duration(message.partition("Type --budget ")[2].split()[0])
    done, best, _ = train_by_the_clock(parts, tmp_path, monkeypatch, budget=budget, **options)
    assert done[-1] == best.gan.trainer.step
    done, _, said = train_by_the_clock(parts, tmp_path, monkeypatch, budget=40.0, **options | {"every": None})
    assert done == []
    assert any("too short to choose" in line for line in said)


def test_neither_steps_nor_a_budget(parts, tmp_path):
    gan, _, callbacks = make(parts, tmp_path, steps=None)
    with pytest.raises(ConfigError, match="how long the training is"):
        gan.fit(parts[0], steps=2, device="cpu", callbacks=callbacks)


def test_too_short_a_training(parts, tmp_path, monkeypatch):
    done, best, said = train_by_the_clock(
        parts, tmp_path, monkeypatch, steps=400, step_seconds=1.0, evaluation_seconds=20.0
    )
    assert done == []
    assert best.summary() is None
    assert any("one evaluation takes" in line and "--evaluate-every" in line for line in said)
    done, _, said = train_by_the_clock(
        parts, tmp_path, monkeypatch, steps=10, step_seconds=1.0, evaluation_seconds=0.001
    )
    assert done == []
    assert any("too short" in line for line in said)


def test_without_held_out_patients(parts, tmp_path):
    said = []
    gan, best, callbacks = make((parts[0], None), tmp_path, said=said)
    gan.fit(parts[0], steps=2, device="cpu", callbacks=callbacks)
    assert not best.model.exists()
    assert "the latest is kept" in said[0]
    with pytest.raises(ConfigError, match="at least 1"):
        make(parts, tmp_path, every=0)


def test_a_diverged_training_keeps_nothing(parts, tmp_path):
    gan, best, callbacks = make(parts, tmp_path, every=1)

    class Break(Callback):
        def on_step(self, trainer, metrics):
            if trainer.step == 2:
                for network in (trainer.generator, trainer.averaged_generator):
                    next(network.parameters()).data.fill_(float("nan"))

    with pytest.raises(TrainingDivergedError):
        gan.fit(parts[0], steps=3, device="cpu", callbacks=[Break(), *callbacks])
    assert load_model(best.model).sample(2).images.isfinite().all()
    assert best.record["step"] == 1


# ------------------------------------------------------------------------------ features


def test_classifier_features(parts, tmp_path):
    train, validation = parts
    made, steps = train_features(train, seconds=0.0, required=True)
    assert steps == 30
    assert train_features(train, seconds=0.0) is None
    path = tmp_path / "classifier.safetensors"
    write_classifier(path, made, train)
    found = read_classifier(path, train)
    assert found.sha256 == made.sha256
    images = validation.images_at(range(len(validation)))
    first, second = made.describe(images), found.describe(images)
    assert np.array_equal(first.features, second.features)
    assert first.probabilities == pytest.approx(made.classifier.probabilities(images).detach().numpy(), abs=1e-6)
    assert read_classifier(path, validation) is None  # of other images
    path.write_bytes(path.read_bytes()[:-9])
    assert read_classifier(path, train) is None
    assert not any(parameter.requires_grad for parameter in made.classifier.parameters())


def test_a_classifier_that_looks_at_images_without_labels(parts, tmp_path):
    """One that is put there is used, whether the training sees labels or not."""
    train, validation = (part.without_labels() for part in parts)
    made, steps = train_features(parts[0], steps=3)
    assert steps == 3
    gan, best, callbacks = make((train, validation), tmp_path)
    write_classifier(best.classifier, made, train)
    assert read_classifier(best.classifier, parts[0]) is None
    gan.fit(train, steps=2, device="cpu", callbacks=callbacks)
    assert best.record["features"] == made.sha256
    assert "class_consistency" not in best.record


def arrays(size, labels=None, count=24, **options):
    pixels = np.random.default_rng(0).random((count, *size, 1), dtype=np.float32)
    known = None if labels is None else np.nan_to_num(labels)
    return dataclasses.replace(ImageDataset.from_arrays(pixels, known, data_range=(0, 1), **options), labels=labels)


def test_what_a_classifier_can_learn():
    classes = np.arange(24) % 2
    assert can_classify(arrays((16, 16), classes))
    assert can_classify(arrays((16, 16, 16), classes))
    assert not can_classify(arrays((16, 16)))
    assert not can_classify(arrays((8, 8), classes))
    assert not can_classify(arrays((8, 16, 16), classes))
    assert not can_classify(arrays((16, 16), np.full((24, 2), np.nan, dtype=np.float32)))


def test_findings_are_recognised_from_their_prevalence_on(tmp_path):
    labels = np.zeros((24, 2), dtype=np.float32)
    labels[:6, 0] = 1
    labels[::2, 1] = np.nan
    labels[1:7:2, 1] = 1
    train = arrays((32, 32), labels)
    made, _ = train_features(train, seconds=0.0, required=True)
    assert made.thresholds == pytest.approx([6 / 24, 3 / 12])
    write_classifier(tmp_path / "classifier.safetensors", made, train)
    assert read_classifier(tmp_path / "classifier.safetensors", train).thresholds == pytest.approx(made.thresholds)
    scores = HeldOutScorer(train, made).score(ACGAN(train.spec, preset="tiny"))
    assert set(scores.classes) == {"finding 0"}  # three images of the other finding are too few
    assert 0 <= scores.score <= 1


@pytest.mark.parametrize("size", [(16, 16), (8, 16, 16)])
def test_random_features(size):
    train = arrays(size)
    features = RandomFeatures(train.spec)
    found = features.describe(train.images_at(range(24)))
    assert found.features.shape == (24, 480 * (1 if len(size) == 2 else 3))
    assert found.probabilities is None
    scores = HeldOutScorer(train, features)
    images = train.images_at(range(24))

    class Copies:
        def sample(self, n, *, labels=None, sources=None):
            assert labels is None
            return type("Images", (), {"images": images})

    scored = scores.score(Copies())
    assert scored.overall.coverage == 1
    assert scored.classes == {}
    assert scored.overall.class_consistency is None


def test_images_too_small_for_any_features():
    with pytest.raises(ConfigError, match="at least 16 pixels"):
        RandomFeatures(arrays((8, 8)).spec)


def test_no_room_to_evaluate_ends_no_training(parts, tmp_path, monkeypatch):
    tried = []

    def score(self, gan):
        tried.append(gan)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(HeldOutScorer, "score", score)
    said = []
    gan, best, callbacks = make(parts, tmp_path, said=said)
    gan.fit(parts[0], steps=6, device="cpu", callbacks=callbacks)
    assert gan.trainer.step == 6
    assert len(tried) == 1
    assert best.record is None
    assert "no room in the memory of cpu to evaluate" in said[-1]
    assert "--batch-size" in said[-1]


def test_batches_of_a_classifier_shrink_with_the_size_of_images(parts, monkeypatch):
    taken = []
    batches = ImageDataset.batches

    def watch(self, batch_size, **options):
        taken.append(batch_size)
        return batches(self, batch_size, **options)

    monkeypatch.setattr(ImageDataset, "batches", watch)
    train_features(parts[0], steps=1)
    monkeypatch.setattr("medgan.training.frozen_features._NUMBERS", 10 * 32**2)
    train_features(parts[0], steps=1)
    monkeypatch.setattr("medgan.training.frozen_features._NUMBERS", 1)
    train_features(parts[0], steps=1)
    assert taken == [64, 10, 4]


def test_the_time_of_an_evaluation_holds_that_of_its_parts(parts, tmp_path):
    """Sampling, features, and the comparison of pairs by the health monitor."""
    gan, best, _ = make(parts, tmp_path)
    trainer = gan.make_trainer(device="cpu")
    best.on_start(trainer)
    scorer = best._make_scorer(trainer)
    alone = best._expected_seconds(scorer)
    best.health = SimpleNamespace(seconds=100.0)
    assert 100 < best._expected_seconds(scorer) < 100 + 10 * alone + 10
