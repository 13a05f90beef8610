from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from medgan.core.trainer import Callback, make_accelerator
from medgan.data import open_dataset
from medgan.errors import ConfigError
from medgan.models import ACGAN
from medgan.training import HealthMonitor, KeepBest, MetricsLog, check_tracker, tracking

CONFIG = {"arch": "acgan", "batch_size": 4, "lr_decay": 0.5, "splits": None, "spectral_norm": True}


class Recorder(GeneralTracker):
    """Stands for W&B, and keeps what it is told; `broken` names what does not work."""

    name = "wandb"
    requires_logging_directory = False
    broken = ""
    told: list[tuple] = []  # noqa: RUF012

    def __init__(self, project, **options):
        super().__init__()
        self.tell("init", project, options)

    @property
    def tracker(self):
        return None

    def tell(self, what, *values):
        if what == self.broken:
            raise ConnectionError("no answer\nfrom the server")
        self.told.append((what, *values))

    def start(self):
        self.tell("start")

    def store_init_configuration(self, values):
        self.tell("config", values)

    def log(self, values, step=None, **_):
        self.tell("log", step, values)

    def finish(self):
        self.tell("finish")


@pytest.fixture
def recorder(monkeypatch):
    kind = type("Kind", (Recorder,), {"told": []})
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", kind)
    return kind


def track(tmp_path, said, name="wandb", step=10):
    return tracking(name, make_accelerator("cpu"), folder=tmp_path / "run", config=CONFIG, step=step, say=said.append)


def test_what_a_tracker_is_told(tmp_path, recorder):
    said = []
    with track(tmp_path, said) as send:
        send({"step": 20, "images": 80, "generator/loss": 1.5})
        send({"step": 40, "images": 160, "generator/loss": 1.25})
    assert recorder.told == [
        ("init", "medgan", {"name": "run", "group": "run", "dir": str(tmp_path / "run")}),
        ("start",),
        ("config", CONFIG),
        ("log", 20, {"images": 80, "generator/loss": 1.5}),
        ("log", 40, {"images": 160, "generator/loss": 1.25}),
        ("finish",),
    ]
    assert said == []


def test_a_tracker_is_told_of_evaluations(tmp_path, recorder):
    """What another callback writes into the log is for trackers, too; text is not."""
    train, validation = open_dataset("phantom://chest?n=60&seed=3", size=32).split(0.4, seed=0)
    gan = ACGAN(train.spec, preset="tiny")
    health = HealthMonitor(tmp_path, react=False, say=lambda line: None)

    class Words(Callback):
        def on_step(self, trainer, metrics):
            log.write(trainer, {"words": "three words here", "evaluation/other": 2})

    with track(tmp_path, [], step=0) as send:
        log = MetricsLog(tmp_path / "metrics.jsonl", every=2, report=send)
        best = KeepBest(gan, train, validation=validation, folder=tmp_path, health=health, steps=2, every=2, log=log)
        gan.fit(train, steps=2, device="cpu", callbacks=[log, Words(), best, health])
    logged = [told[1:] for told in recorder.told if told[0] == "log"]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [{"step": step, **values} for step, values in logged] == [
        {name: value for name, value in row.items() if name != "words"} for row in rows
    ]
    assert {"words", "images", "step", "evaluation/other"} == set(rows[0])
    (scores,) = [values for _, values in logged if "evaluation/score" in values]
    assert {"images", "evaluation/coverage/PNEUMONIA", "evaluation/seconds"} <= set(scores)
    assert any(name.startswith("health/") for name in scores)


def test_a_tracker_ends_with_the_training(tmp_path, recorder):
    with pytest.raises(KeyError), track(tmp_path, []):
        raise KeyError
    assert recorder.told[-1] == ("finish",)


@pytest.mark.parametrize("what", ["init", "start", "config"])
def test_a_tracker_that_does_not_start(tmp_path, recorder, what):
    recorder.broken = what
    with (
        pytest.raises(ConfigError, match=r"--tracker wandb did not start \(ConnectionError: no answer\)"),
        track(tmp_path, []),
    ):
        raise AssertionError("never reached")


def test_a_tracker_that_fails_on_the_way(tmp_path, recorder):
    """It is left out from then on, said once, and the training goes on."""
    said = []
    with track(tmp_path, said) as send:
        send({"step": 20, "generator/loss": 1.0})
        recorder.broken = "log"
        send({"step": 40, "generator/loss": 1.0})
        recorder.broken = ""
        send({"step": 60, "generator/loss": 1.0})
    assert said == ["The tracker wandb failed (ConnectionError: no answer); metrics.jsonl goes on."]
    assert [step for what, step, *_ in (told for told in recorder.told if told[0] == "log")] == [20]


def test_a_tracker_that_fails_at_its_end(tmp_path, recorder):
    said = []
    recorder.broken = "finish"
    with track(tmp_path, said):
        pass
    assert said == ["The tracker wandb did not end well (ConnectionError: no answer)."]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_that_is_not_installed(monkeypatch, name):
    asked = []

    def find_spec(module):
        asked.append(module)

    monkeypatch.setattr("medgan.training.trackers.find_spec", find_spec)
    with pytest.raises(ConfigError, match=f"--tracker {name} .* not installed. Type: pip install {name}$"):
        check_tracker(name)
    assert name in asked
    monkeypatch.setattr("medgan.training.trackers.find_spec", lambda module: SimpleNamespace(origin="there.py"))
    check_tracker(name)


def test_the_folder_of_a_tracker_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with pytest.raises(ConfigError, match="pip install mlflow"):
        check_tracker("mlflow")


def test_tensorboard(tmp_path):
    """Its files say what it was told; of a resumed run the steps that are done again count once."""
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = []
    with track(tmp_path, said, "tensorboard", step=0) as send:
        for step in (1, 2, 3):
            send({"step": step, "images": 4 * step, "generator/loss": 1 / step})
    with track(tmp_path, said, "tensorboard", step=2) as send:
        send({"step": 3, "images": 12, "generator/loss": 0.25})
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"generator/loss", "images"} <= set(found.Tags()["scalars"])
    values = [(event.step, event.value) for event in found.Scalars("generator/loss")]
    assert [step for step, _ in values] == [1, 2, 3]
    assert all(math.isclose(value, expected) for (_, value), expected in zip(values, (1, 0.5, 0.25), strict=True))
    assert said == []
