from __future__ import annotations

import json
import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.core import Budget, DataSpec, LabelSpec
from medgan.core.saving import read_state
from medgan.core.trainer import Callback
from medgan.errors import CheckpointError, TrainingDivergedError
from medgan.models import ACGAN, load_model
from medgan.training import Checkpoint, MetricsLog, SampleGrid, StopOnSignal, TrainingStopped

SPEC = DataSpec(1, (32, 32), LabelSpec(("A", "B")))


def trainer_at(step, **class_metrics):
    """Return what a log looks at."""
    figures = {name.replace("_", "/"): torch.tensor(values) for name, values in class_metrics.items()}
    alone = SimpleNamespace(num_processes=1, is_main_process=True)
    return SimpleNamespace(step=step, images_seen=8 * step, data=SPEC, class_metrics=figures, accelerator=alone)


def train(log, start, values):
    """Tell a log of some steps with one term each."""
    log.on_start(trainer_at(start))
    for step, value in enumerate(values, start + 1):
        log.on_step(trainer_at(step), {"generator/loss": torch.tensor(float(value))})
    log.on_end(trainer_at(start + len(values)))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Images:
    """A data set of noise."""

    spec = SPEC

    def batches(self, batch_size, *, seed, start_step, class_sampling, device, rank, world_size):
        from medgan.core import Batch

        while True:
            rng = torch.Generator().manual_seed(start_step)
            images = torch.rand(batch_size, 1, 32, 32, generator=rng) * 2 - 1
            yield Batch(images, torch.arange(batch_size) % 2)
            start_step += 1

    def provenance(self):
        return {"name": "noise"}


@pytest.fixture
def gan():
    return ACGAN(SPEC, preset="tiny")


# ------------------------------------------------------------------------------ log


def test_log_writes_means(tmp_path):
    reported = []
    path = tmp_path / "logs" / "metrics.jsonl"
    log = MetricsLog(path, every=2, report=reported.append)
    train(log, 0, [1, 2, 5, 6, 7])
    rows = lines(path)
    assert [(row["step"], row["images"], row["generator/loss"]) for row in rows] == [
        (2, 16, 1.5),
        (4, 32, 5.5),
        (5, 40, 7),
    ]
    assert rows == reported == log.rows
    assert all(row["images_per_second"] > 0 for row in rows)


def test_log_reports_the_lines_of_others(tmp_path):
    reported = []
    log = MetricsLog(tmp_path / "metrics.jsonl", report=reported.append)
    log.on_start(trainer_at(0))
    log.write(trainer_at(3), {"evaluation/score": 0.5})
    assert reported == lines(tmp_path / "metrics.jsonl") == [{"step": 3, "images": 24, "evaluation/score": 0.5}]


def test_log_does_not_keep_the_tensors_it_is_given(tmp_path):
    """A trainer may use a metric's memory again in the next step."""
    log = MetricsLog(tmp_path / "metrics.jsonl", every=2)
    value = torch.tensor(1.0)
    log.on_start(trainer_at(0))
    for step in (1, 2):
        log.on_step(trainer_at(step), {"generator/loss": value.fill_(step)})
    assert log.rows[0]["generator/loss"] == 1.5
    assert value == 2


def test_log_has_the_mean_of_each_class_over_the_steps_that_had_it(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", every=3)
    log.on_start(trainer_at(0))
    nan = float("nan")
    steps = [[1.0, nan], [4.0, 2.0], [nan, nan], [nan, 3.0], [nan, 5.0], [nan, 7.0]]
    for step, figures in enumerate(steps, 1):
        log.on_step(trainer_at(step, generator_label=figures), {"generator/label": torch.tensor(1.0)})
    first, second = lines(tmp_path / "metrics.jsonl")
    assert (first["generator/label/A"], first["generator/label/B"], first["generator/label"]) == (2.5, 2.0, 1.0)
    assert second["generator/label/B"] == 5.0
    assert "generator/label/A" not in second


def test_log_has_the_mean_over_all_processes(tmp_path, monkeypatch):
    other = {"generator/loss": (9.0, 3), "generator/label/A": (8.0, 1), "generator/label/B": (5.0, 2)}
    monkeypatch.setattr("medgan.training.callbacks.gather", lambda accelerator, figures: [figures, other])
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1)
    log.on_start(trainer_at(0))
    log.on_step(trainer_at(1, generator_label=[2.0, float("nan")]), {"generator/loss": torch.tensor(3.0)})
    (row,) = lines(tmp_path / "metrics.jsonl")
    assert (row["generator/loss"], row["generator/label/A"], row["generator/label/B"]) == (3.0, 5.0, 2.5)


def test_log_of_what_is_not_finite_is_json(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1)
    train(log, 0, [float("nan"), float("inf"), 1.0])
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert [row["generator/loss"] for row in lines(tmp_path / "metrics.jsonl")] == [None, None, 1.0]


def test_log_of_another_process_is_not_written(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1)
    trainer = trainer_at(0)
    trainer.accelerator.is_main_process = False
    log.on_start(trainer)
    log.on_step(trainer, {"generator/loss": torch.tensor(1.0)})
    log.on_end(trainer)
    assert log.rows == []
    assert list(tmp_path.iterdir()) == []


def test_log_of_terms_that_not_every_step_has(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", every=4)
    log.on_start(trainer_at(0))
    for step in range(1, 9):
        metrics = {"generator/loss": torch.tensor(1.0)}
        if step in (1, 4):
            metrics["discriminator/gradient_penalty"] = torch.tensor(float(step))
        log.on_step(trainer_at(step), metrics)
    first, second = lines(tmp_path / "metrics.jsonl")
    assert first["discriminator/gradient_penalty"] == 2.5
    assert "discriminator/gradient_penalty" not in second


def test_log_continues(tmp_path):
    path = tmp_path / "metrics.jsonl"
    train(MetricsLog(path, every=1), 0, [1, 2, 3, 4])
    log = MetricsLog(path, every=1)
    train(log, 2, [30, 40, 50])
    assert [(row["step"], row["generator/loss"]) for row in lines(path)] == [(1, 1), (2, 2), (3, 30), (4, 40), (5, 50)]
    assert log.rows == lines(path)


@pytest.mark.parametrize("tail", ['{"step": 3, "ima', "{", '{"step": 3}garbage', "\n\n", '{"step": 3, "x": {}', "\0\0"])
def test_log_of_a_killed_process(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    train(MetricsLog(path, every=1), 0, [1, 2])
    with path.open("a") as stream:
        stream.write(tail)
    train(MetricsLog(path, every=1), 2, [3])
    assert [row["step"] for row in lines(path)] == [1, 2, 3]


def test_log_starts_empty(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("")
    log = MetricsLog(path)
    log.on_start(trainer_at(0))
    assert log.rows == []


def test_log_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    log = MetricsLog(tmp_path / "file" / "metrics.jsonl", every=1)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl could not be written"):
        train(log, 0, [1])


# ------------------------------------------------------------------------------ samples


def test_samples_of_the_same_seeds(tmp_path, gan):
    grid = SampleGrid(gan, tmp_path, every=2, per_class=3)
    gan.fit(Images(), steps=3, device="cpu", callbacks=[grid])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000002.png", "000003.png"]
    assert grid.latest == tmp_path / "000003.png"
    pictures = [np.asarray(Image.open(tmp_path / f"{step:06d}.png")) for step in (0, 2, 3)]
    assert pictures[0].shape[0] == 2 * 98 + 2  # a row for each class
    assert (pictures[0] != pictures[2]).any()
    before = grid.latest.read_bytes()
    grid.write(3)
    assert grid.latest.read_bytes() == before


def test_samples_at_the_end_are_written_once(tmp_path, gan, monkeypatch):
    written = []
    grid = SampleGrid(gan, tmp_path, every=2, per_class=1)
    monkeypatch.setattr(grid, "write", written.append)
    gan.fit(Images(), steps=4, device="cpu", callbacks=[grid])
    assert written == [0, 2, 4]


# ------------------------------------------------------------------------------ checkpoints


def test_checkpoint(tmp_path, gan):
    path, model = tmp_path / "latest" / "trainer.pt", tmp_path / "model"
    steps = []

    class Watch(Callback):
        def on_step(self, trainer, metrics):
            steps.append(read_state(path)["trainer"]["step"] if path.is_file() else None)

    gan.fit(Images(), steps=5, device="cpu", callbacks=[Checkpoint(gan, path, model, every=2), Watch()])
    assert steps == [None, 2, 2, 4, 4]
    state = read_state(path)
    assert (state["architecture"], state["data"], state["trainer"]["step"]) == ("acgan", SPEC.to_dict(), 5)
    assert torch.equal(load_model(model).sample(2).images, gan.sample(2).images)


def test_checkpoint_writes_a_step_once(tmp_path, gan, monkeypatch):
    written = []
    monkeypatch.setattr(
        "medgan.training.callbacks.write_state", lambda path, state: written.append(state["trainer"]["step"])
    )
    gan.fit(Images(), steps=4, device="cpu", callbacks=[Checkpoint(gan, tmp_path / "t", tmp_path / "m", every=2)])
    assert written == [2, 4]


def test_checkpoint_of_a_step_that_a_budget_makes_the_last(tmp_path, gan):
    """It takes the rest of the time, so that what it was told of the length is no longer true."""
    now = [0.0]

    class Pass(Callback):
        def on_step(self, trainer, metrics):
            now[0] += 100.0 if trainer.step == 30 else 1.0

    path = tmp_path / "trainer.pt"
    callbacks = [Checkpoint(gan, path, tmp_path / "model", every=30), Pass()]
    gan.fit(Images(), budget=Budget(100.0, clock=lambda: now[0]), device="cpu", callbacks=callbacks)
    state = read_state(path)["trainer"]
    assert state["step"] == state["total_steps"] == gan.trainer.step == 30


def test_checkpoint_is_never_broken(tmp_path, gan):
    checkpoint = Checkpoint(gan, tmp_path / "trainer.pt", tmp_path / "model", every=1)
    gan.fit(Images(), steps=1, device="cpu", callbacks=[checkpoint])
    before = (tmp_path / "trainer.pt").read_bytes()
    gan.trainer.step = 2
    with torch.no_grad():
        next(gan.trainer.discriminator.parameters())[0] = float("nan")
    with pytest.raises(TrainingDivergedError, match="at step 2"):
        checkpoint.write(gan.trainer)
    assert (tmp_path / "trainer.pt").read_bytes() == before


# ------------------------------------------------------------------------------ signals


class Interrupt(Callback):
    """Sends a signal to this process in a step."""

    def __init__(self, number, at, times=1):
        self.number, self.at, self.times = number, at, times

    def on_step(self, trainer, metrics):
        if trainer.step == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_after_the_step(gan, number):
    stop = StopOnSignal()
    before = signal.getsignal(number)
    with stop.listening():
        assert signal.getsignal(number) != before
        with pytest.raises(TrainingStopped):
            gan.fit(Images(), steps=5, device="cpu", callbacks=[Interrupt(number, 2), stop])
    assert gan.trainer.step == 2
    assert signal.getsignal(number) == before


def test_processes_on_accelerators_ask_each_other_now_and_then(gan, monkeypatch):
    """Each time, all of them would wait for what the device still has to do."""
    asked = []
    monkeypatch.setattr(
        "medgan.training.callbacks.mean_of_processes", lambda _, flag: asked.append(float(flag)) or flag
    )
    trainer = gan.make_trainer(device="cpu")
    several = SimpleNamespace(
        device=torch.device("cpu"), accelerator=SimpleNamespace(num_processes=2), may_wait=trainer.may_wait
    )
    stop = StopOnSignal()
    for trainer.step in range(1, 33):
        stop.on_step(several, {})
    assert len(asked) == 32
    asked.clear()
    trainer.device = torch.device("cuda")
    for trainer.step in range(1, 33):
        stop.on_step(several, {})
    assert len(asked) == 2
    stop.asked = True
    trainer.step = 33
    stop.on_step(several, {})
    trainer.step = 48
    with pytest.raises(TrainingStopped):
        stop.on_step(several, {})


def test_second_signal_ends_at_once(gan):
    stop = StopOnSignal()
    with stop.listening(), pytest.raises(KeyboardInterrupt):
        gan.fit(Images(), steps=5, device="cpu", callbacks=[Interrupt(signal.SIGINT, 2, times=2), stop])


def test_handlers_come_back_after_a_failure():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), StopOnSignal().listening():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) == before


def test_no_signals_outside_the_main_thread(gan):
    """A notebook may train in a thread."""
    failed = []

    def work():
        stop = StopOnSignal()
        try:
            with stop.listening():
                gan.fit(Images(), steps=1, device="cpu", callbacks=[stop])
        except BaseException as error:
            failed.append(error)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
    assert gan.trainer.step == 1
    assert signal.getsignal(signal.SIGINT) == before
