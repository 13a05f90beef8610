"""Runs within a time, on a clock on which each step takes half a second."""

from __future__ import annotations

import json
import re

import pytest

import medgan.runs
from medgan.core import Budget
from medgan.core.saving import read_state
from medgan.models import ACGAN
from medgan.training import KeepBest

EVERY = ("--log-every", 1000, "--sample-every", 1000, "--checkpoint-every", 30)


@pytest.fixture(scope="module", autouse=True)
def clock():
    now = [0.0]
    step = ACGAN.Trainer.train_step

    def slow(self, batch):
        now[0] += 0.5
        return step(self, batch)

    def make_budget(seconds, *, started):
        budget = Budget(seconds, clock=lambda: now[0])
        now[0] += 5.0  # reading the data
        return budget

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ACGAN.Trainer, "train_step", slow)
        patch.setattr(medgan.runs, "Budget", make_budget)
        yield


@pytest.fixture(scope="module")
def within(medgan, clock, tmp_path_factory):
    """A run of half a minute, and what was printed."""
    folder = tmp_path_factory.mktemp("budget") / "run"
    place = ("--outdir", folder.parent, "--name", folder.name)
    result = medgan.works("fit", *medgan.small, "--budget", "30s", "--lr-decay", 0.5, *EVERY, *place)
    return folder, result.stdout


def test_a_run_says_what_it_plans_and_what_it_took(within):
    folder, output = within
    log = (folder / "log.txt").read_text()
    for line in (
        "Budget: 30s, of which 16s are gone and 2s are kept for the end. About 46 steps of 0.5 s; adjusted",
        "Budget: the learning rates begin to fall; the length is now fixed, 46 steps.",
        "Budget: 46 steps took 28s of 30s, all included.",
    ):
        assert line in output
        assert line in log


def test_the_learning_rates_end_at_zero(within):
    folder, _ = within
    state = read_state(folder / "checkpoints" / "latest" / "trainer.pt")["trainer"]
    assert state["step"] == state["total_steps"] == 46
    assert state["optimizers"]["generator"]["param_groups"][0]["lr"] == pytest.approx(2e-4 / 23)
    assert state["budget"] == {"seconds": 30, "spent": 28}
    assert json.loads((folder / "config.json").read_text())["budget"] == "30s"


def test_a_run_that_is_done(medgan, within):
    folder, _ = within
    message = medgan.fails("fit", "--resume", folder)
    assert "is done: 46 steps within 30s. Start a new run with a longer --budget" in message
    assert "46 steps, was fixed before, by a budget of 30s" in medgan.fails("fit", "--resume", folder, "--budget", "1h")


@pytest.mark.parametrize("budget", ["1s", "5s"])
def test_a_budget_that_is_over_before_the_first_step(medgan, tmp_path, budget):
    message = medgan.fails("fit", *medgan.small, "--budget", budget, "--outdir", tmp_path / "none")
    assert f"budget of {budget} is too short" in message
    assert "Type --budget 1m10s or more" in message
    assert not (tmp_path / "none").exists()


def test_a_budget_that_is_too_short(medgan, tmp_path):
    arguments = ("fit", *medgan.small, "--budget", "12s", *EVERY, "--outdir", tmp_path, "--name", "job")
    message = medgan.fails(*arguments)
    assert "budget of 12s is too short: reading the data, preparing and 10 steps took 10.0 s" in message
    # What it left is in nobody's way.
    assert (tmp_path / "job" / "config.json").is_file()
    assert medgan.fails(*arguments, "--resume", "auto") == message


def test_a_run_of_steps_takes_no_budget(medgan, fitted):
    assert "was begun for a number of steps" in medgan.fails("fit", "--resume", fitted, "--budget", "1h")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "45"), "--budget '45' is no duration"),
        (("--budget", "0s"), "--budget '0s' is no duration"),
        (("--budget", "45m", "--kimg", 1), "Both --kimg and --budget were given"),
        (("--budget", "45m", "--steps", 1), "Both --steps and --budget were given"),
    ],
)
def test_refused_options(medgan, here, options, message):
    assert message in medgan.fails("fit", *medgan.small, *options)


def test_the_best_model_of_a_run_within_a_budget(medgan, tmp_path):
    options = ("--evaluate-every", 25, *EVERY, "--outdir", tmp_path, "--name", "run")
    output = medgan.works("fit", *medgan.small, "--validation", 0.4, "--budget", "30s", *options).stdout
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "evaluation/score" in row]
    assert steps == [25, 46]
    assert "Best:   step" in output
    assert (tmp_path / "run" / "checkpoints" / "best" / "model.json").is_file()


def test_a_budget_that_is_too_short_for_an_evaluation(medgan, tmp_path, monkeypatch):
    monkeypatch.setattr(KeepBest, "_expected_seconds", lambda self, scorer: 60.0)
    options = ("--validation", 0.4, *EVERY, "--outdir", tmp_path)
    message = medgan.fails("fit", *medgan.small, "--budget", "30s", "--evaluate-every", 10, *options)
    assert "budget of 30s is too short for one evaluation, which --evaluate-every 10 asks for" in message
    assert "one evaluation takes about 60.0 s. Type --budget 1m37s or more, or leave --evaluate-every out." in message


def test_dry_run(medgan):
    output = medgan.works("fit", *medgan.small, "--budget", "90m", "--dry-run").stdout
    assert "Would train for 1h30m, all included." in output


def test_an_interrupted_run_goes_on(medgan, tmp_path, monkeypatch):
    """What was spent before counts, though no more than what was saved."""
    step = ACGAN.Trainer.train_step

    def fail(self, batch):
        if self.step == 35:
            raise RuntimeError("The plug was pulled.")
        return step(self, batch)

    monkeypatch.setattr(ACGAN.Trainer, "train_step", fail)
    with pytest.raises(RuntimeError, match="plug"):
        medgan("fit", *medgan.small, "--budget", "40s", *EVERY, "--outdir", tmp_path, "--name", "run")
    monkeypatch.setattr(ACGAN.Trainer, "train_step", step)
    checkpoint = tmp_path / "run" / "checkpoints" / "latest" / "trainer.pt"
    assert read_state(checkpoint)["trainer"]["budget"] == {"seconds": 40, "spent": 20}
    output = medgan.works("fit", "--resume", tmp_path / "run").stdout
    assert "Budget: 56 steps took 38s of 40s" in output  # 5 s to read again, 2 kept, and half a second a step
    assert re.search("continuing at step 30", output)
