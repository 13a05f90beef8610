from __future__ import annotations

import errno
import json
import os
import pickle
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from medgan.core.saving import read_state
from medgan.models import ACGAN, load_model
from medgan.runs import Run


def checkpoint(folder: Path) -> Path:
    return folder / "checkpoints" / "latest" / "trainer.pt"


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["evaluation/seconds" if "evaluation/score" in row else "images_per_second"]
    return rows


def leaves(value: object, name: str = "") -> dict[str, object]:
    """Return all tensors and plain values of a nested state, by their place."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        return {name: value}
    return {place: leaf for key, part in items for place, leaf in leaves(part, f"{name}/{key}").items()}


def assert_same_state(first: Path, second: Path) -> None:
    one, two = leaves(read_state(checkpoint(first))), leaves(read_state(checkpoint(second)))
    assert set(one) == set(two)
    assert sum(isinstance(leaf, torch.Tensor) for leaf in one.values()) > 50
    for name, leaf in one.items():
        if isinstance(leaf, torch.Tensor):
            assert leaf.dtype == two[name].dtype, name
            assert torch.equal(leaf, two[name]), name
        else:
            assert leaf == two[name], name


@pytest.fixture
def run(fitted, tmp_path) -> Path:
    """A copy of the short run, to change."""
    return shutil.copytree(fitted, tmp_path / "runs" / "run")


# ------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="tiny"),
        # Dropout, another optimizer with weight decay, no averaging, uniform labels.
        pytest.param(("--preset", "original", "--batch-size", 4, "--latent-dim", 7), id="original"),
        pytest.param(("--discriminator-steps", 2, "--batch-size", 9, "--clip-norm", 1), id="several"),
        pytest.param(
            (
                *("--gradient-penalty", "r1", "--penalty-every", 3, "--lecam-weight", 0.3, "--head", "adc"),
                *("--augment", "xray", "--ada-target", 0.2, "--ada-kimg", 0.1, "--lr-decay", 0.25, "--label-ramp", 30),
            ),
            id="stabilisers",
        ),
    ],
)
def test_resume_is_exact(medgan, tmp_path, contents, options):
    every = ("--log-every", 1, "--sample-every", 2, "--checkpoint-every", 2)
    whole = medgan.fit(tmp_path / "whole", *options, *every, "--steps", 4)
    parts = medgan.fit(tmp_path / "parts", *options, *every, "--steps", 2)
    half = checkpoint(parts).read_bytes()
    medgan.works("fit", "--resume", parts, "--steps", 4)

    assert checkpoint(parts).read_bytes() != half
    assert_same_state(whole, parts)
    assert metrics(whole) == metrics(parts)
    assert [row["step"] for row in metrics(parts)] == [1, 2, 3, 4]
    for folder in ("model", "samples"):
        assert contents(whole / folder) == contents(parts / folder)
    for folder in (whole, parts):
        medgan.works("sample", "--model", folder, "-n", 3, "--out", folder / "out")
    assert contents(whole / "out") == contents(parts / "out")


def test_the_state_holds_what_could_differ(fitted):
    """A comparison of states says nothing if they are empty."""
    state = read_state(checkpoint(fitted))["trainer"]
    assert (state["step"], state["images_seen"]) == (6, 48)
    different = [
        not torch.equal(value, state["averaged_generator"][name]) for name, value in state["generator"].items()
    ]
    assert any(different)
    moments = state["optimizers"]["discriminator"]["state"]
    # But for the bias of the realness, where real and generated images cancel each other within the hinge.
    assert all(moment["exp_avg_sq"].any() for moment in moments.values() if moment["exp_avg_sq"].numel() > 1)
    assert state["random"][0]["cpu"].dtype == torch.uint8


def test_callbacks_do_not_change_a_weight(medgan, fitted, tmp_path):
    """Samples, log and checkpoints at other steps leave the same weights."""
    folder = medgan.fit(tmp_path / "run", "--steps", 6, "--sample-every", 1, "--checkpoint-every", 4, "--log-every", 5)
    assert_same_state(fitted, folder)


# ------------------------------------------------------------------------------ which run


def test_auto_starts_a_run_if_there_is_none(medgan, here):
    medgan.works("fit", *medgan.small, "--steps", 1, "--resume", "auto")
    assert [path.name for path in (here / "runs").iterdir()] == ["00000-acgan-phantom-chest"]


def test_auto_takes_the_newest(medgan, fitted, tmp_path):
    for age, name in enumerate(("b", "c", "a")):
        shutil.copytree(fitted, tmp_path / name)
        then = time.time() - 1000 + age
        os.utime(checkpoint(tmp_path / name), (then, then))
    (tmp_path / "z").mkdir()  # began, but has no checkpoint
    result = medgan.works("fit", "--outdir", tmp_path, "--resume", "auto", "--steps", 7)
    assert f"Run folder: {tmp_path / 'a'}" in result.stdout
    assert [len(metrics(tmp_path / name)) for name in "abc"] == [4, 3, 3]

    result = medgan.works("fit", "--outdir", tmp_path, "--name", "b", "--resume", "auto", "--steps", 8)
    assert f"Run folder: {tmp_path / 'b'}" in result.stdout


def test_preempted_job_types_the_same_command_again(medgan, tmp_path):
    command = ("fit", *medgan.small, "--steps", 2, "--outdir", tmp_path, "--name", "job", "--resume", "auto")
    medgan.works(*command)
    command = (*command[:-1], "auto", "--steps", 4)
    medgan.works(*command)
    assert read_state(checkpoint(tmp_path / "job"))["trainer"]["step"] == 4


def test_job_that_was_killed_before_its_first_checkpoint(medgan, tmp_path):
    """What it left is its own, and the same command begins again."""
    job = medgan.fit(tmp_path / "job", "--steps", 2, "--log-every", 1, "--seed", 3)
    shutil.rmtree(job / "checkpoints")
    shutil.rmtree(job / "model")
    (job / ".config.json.tmp").write_text("{")
    (job / "evaluation").mkdir()  # where the classifier of --evaluate-every is kept
    (job / "health.jsonl").write_text('{"step": 1, "monitor": "look"}\n')
    command = ("fit", *medgan.small, "--steps", 2, "--log-every", 1, "--outdir", tmp_path, "--name", "job")
    assert "It holds no checkpoint to continue from" in medgan.fails(*command)
    medgan.works(*command, "--resume", "auto")
    assert_same_state(job, medgan.fit(tmp_path / "whole", "--steps", 2))
    assert [row["step"] for row in metrics(job)] == [1, 2]
    assert json.loads((job / "config.json").read_text())["seed"] == 0


def test_preempted_job_with_a_file(medgan, tmp_path):
    file = tmp_path / "options.json"
    options = {"data": "phantom://chest?n=40&seed=1", "size": 32, "preset": "tiny", "device": "cpu", "steps": 2}
    file.write_text(json.dumps(options | {"outdir": str(tmp_path / "runs"), "name": "job"}))
    command = ("fit", "--config", file, "--resume", "auto")
    medgan.works(*command)
    assert "has done 2 steps already" in medgan.fails(*command)
    medgan.works(*command, "--kimg", 0.024)
    assert read_state(checkpoint(tmp_path / "runs" / "job"))["trainer"]["step"] == 3

    file.write_text(json.dumps(options | {"outdir": str(tmp_path / "runs"), "name": "job", "seed": 3}))
    assert "was begun with seed 0; 3 cannot take its place" in medgan.fails(*command)


def test_resume_extends_the_log(medgan, run):
    before = (run / "log.txt").read_text()
    medgan.works("fit", "--resume", run, "--steps", 8)
    assert (run / "log.txt").read_text().startswith(before)
    assert [row["step"] for row in metrics(run)] == [2, 4, 6, 8]
    assert json.loads((run / "config.json").read_text())["steps"] == 8


def test_moved_run_and_free_options(medgan, run):
    medgan.works("fit", "--resume", run, "--steps", 8, "--sample-every", 1, "--log-every", 1, "--checkpoint-every", 1)
    assert (run / "samples" / "000007.png").is_file()
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]


# ------------------------------------------------------------------------------ what is refused


def test_a_training_that_is_at_work(medgan, run, contents):
    before = contents(run)
    command = ("fit", "--resume", run, "--steps", 8)
    with FileLock(run / ".lock"):
        message = medgan.fails(*command)
        assert f"Another process is training in {run}" in message
        assert medgan("sample", "--model", run, "-n", 1, "--out", run.parent / "out").exit_code == 0
        assert contents(run) == before
    medgan.works(*command)


def test_a_training_that_is_at_work_before_its_first_checkpoint(medgan, tmp_path):
    (tmp_path / "job").mkdir()
    command = ("fit", *medgan.small, "--steps", 1, "--outdir", tmp_path, "--name", "job", "--resume", "auto")
    with FileLock(tmp_path / "job" / ".lock"):
        assert "Another process is training in" in medgan.fails(*command)
        assert [path.name for path in (tmp_path / "job").iterdir()] == [".lock"]
    medgan.works(*command)


def test_finished_run(medgan, run, contents):
    before = contents(run)
    message = medgan.fails("fit", "--resume", run)
    assert "has done 6 steps already" in message
    assert "--steps 12" in message
    assert contents(run) == before


def test_run_that_a_health_monitor_ended(medgan, run, contents):
    state = read_state(checkpoint(run))
    state["trainer"]["memory"]["health"]["ended"] = {"step": 6, "illnesses": ["memorisation"]}
    torch.save(state, checkpoint(run))
    before = contents(run)
    message = medgan.fails("fit", "--resume", run, "--steps", 8)
    assert "is done. A health monitor ended this training at step 6, because of memorisation" in message
    assert "--health warn" in message
    assert contents(run) == before
    assert Run({"steps": 8}, resume=run).is_done()
    assert not Run({"steps": 8, "health": "warn"}, resume=run).is_done()
    medgan.works("fit", "--resume", run, "--steps", 8, "--health", "warn")


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--generator-lr", 1e-3), "generator_lr"),
        (("--batch-size", 9), "batch_size"),
        (("--lecam-weight", 1), "lecam_weight"),
        (("--seed", 1), "seed"),
        (("--size", 64), "size"),
        (("--preset", "modern"), "preset"),
        (("--validation", 0.2), "validation"),
        (("--adversarial", "bce"), "adversarial"),
        (("--arch", "dcgan"), "arch"),
        (("--preset", "original", "--backbone", "report"), "preset"),
    ],
)
def test_options_that_change_what_is_learnt(medgan, fitted, contents, flags, name):
    before = contents(fitted)
    message = medgan.fails("fit", "--resume", fitted, "--steps", 8, *flags)
    assert f"was begun with {name} " in message
    assert contents(fitted) == before


def test_an_option_that_does_not_go_with_the_runs_others(medgan, tmp_path):
    """What is said is that it cannot change, and not what else would have to."""
    run = medgan.fit(tmp_path / "run", "--gradient-penalty", "r1", "--penalty-every", 3, "--steps", 1)
    message = medgan.fails("fit", "--resume", run, "--steps", 2, "--gradient-penalty", "none")
    assert "was begun with gradient_penalty 'r1'; 'none' cannot take its place" in message


def test_length_of_a_run_whose_learning_rates_fall(medgan, tmp_path, contents):
    """A longer run is another one, once they have begun to fall."""
    options = ("--lr-decay", 0.8, "--checkpoint-every", 1)
    run = medgan.fit(tmp_path / "run", *options, "--steps", 3)
    weights = (run / "checkpoints" / "latest" / "trainer.pt").read_bytes()
    message = medgan.fails("fit", "--resume", run, "--steps", 6)
    assert "begun for 3 steps" in message
    assert "6 steps would be another training" in message
    assert (run / "checkpoints" / "latest" / "trainer.pt").read_bytes() == weights


def test_config_and_resume_exclude_each_other(medgan, fitted):
    message = medgan.fails("fit", "--resume", fitted, "--config", fitted / "config.json")
    assert "--config and --resume exclude each other" in message


@pytest.mark.parametrize("what", ["nothing", "empty", "no config", "file"])
def test_no_run_folder(medgan, run, tmp_path, what):
    folder = {"nothing": tmp_path / "missing", "empty": tmp_path, "no config": run, "file": run / "log.txt"}[what]
    (run / "config.json").unlink()
    message = medgan.fails("fit", "--resume", folder)
    assert f"{folder} cannot be resumed" in message
    assert "--resume auto" in message


def rewrite(run: Path, **changes: object) -> None:
    torch.save(read_state(checkpoint(run)) | changes, checkpoint(run))


def test_checkpoint_of_another_architecture(medgan, run):
    rewrite(run, architecture="dcgan")
    message = medgan.fails("fit", "--resume", run, "--steps", 8)
    assert "is of architecture 'dcgan', but this run is of 'acgan'" in message


def test_data_of_another_spec(medgan, run, contents):
    names = {"kind": "categorical", "names": ["A", "B"]}
    rewrite(run, data={"channels": 1, "size": [32, 32], "labels": names})
    before = contents(run)
    message = medgan.fails("fit", "--resume", run, "--steps", 8)
    assert "'names': ['A', 'B']" in message
    assert "'names': ['NORMAL', 'PNEUMONIA']" in message
    assert contents(run) == before


def test_other_images(medgan, run, contents):
    before = contents(run)
    message = medgan.fails("fit", "--resume", run, "--steps", 8, "--data", "phantom://chest?n=40&seed=2")
    assert "The images in phantom://chest?n=40&seed=2 are not those that" in message
    assert contents(run) == before


@pytest.mark.parametrize("key", ["trainer", "architecture"])
def test_checkpoint_that_lacks_something(medgan, run, key):
    state = read_state(checkpoint(run))
    del state[key]
    torch.save(state, checkpoint(run))
    assert key in medgan.fails("fit", "--resume", run, "--steps", 8)


@pytest.mark.parametrize("key", ["step", "random", "optimizers", "generator", "images_seen"])
def test_training_state_that_lacks_something(medgan, run, key):
    state = read_state(checkpoint(run))["trainer"]
    del state[key]
    rewrite(run, trainer=state)
    assert key in medgan.fails("fit", "--resume", run, "--steps", 8)


def test_checkpoint_of_other_networks(medgan, run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"generator_width": 8}))
    assert "does not fit these networks" in medgan.fails("fit", "--resume", run, "--steps", 8)


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "torch pickle", "list"])
def test_damaged_checkpoint(medgan, run, tmp_path, damage):
    path = checkpoint(run)
    trace = tmp_path / "executed"
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Evil(trace)))
    elif damage == "torch pickle":
        torch.save({"architecture": "acgan", "trainer": Evil(trace)}, path)
    else:
        torch.save([1, 2], path)
    before = path.read_bytes()
    message = medgan.fails("fit", "--resume", run, "--steps", 8)
    assert str(path) in message
    assert "not a checkpoint of medgan" in message
    assert not trace.exists()
    assert path.read_bytes() == before


def test_damaged_config(medgan, run):
    (run / "config.json").write_text("{")
    assert "is not JSON" in medgan.fails("fit", "--resume", run)


# ------------------------------------------------------------------------------ accidents


def test_full_disk_keeps_the_previous_checkpoint(medgan, tmp_path, monkeypatch):
    saved = []
    save = torch.save

    def fill(state, path):
        if saved:
            Path(path).write_bytes(b"half a file")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved.append(path)
        save(state, path)

    monkeypatch.setattr(torch, "save", fill)
    message = medgan.fails(
        "fit", *medgan.small, "--steps", 6, "--checkpoint-every", 2, "--outdir", tmp_path, "--name", "run"
    )  # fmt: skip
    monkeypatch.undo()
    run = tmp_path / "run"
    assert "No space left on device" in message
    assert "untouched" in message
    assert os.listdir(checkpoint(run).parent) == ["trainer.pt"]  # noqa: PTH208
    assert read_state(checkpoint(run))["trainer"]["step"] == 2
    assert load_model(run).sample(1).images.isfinite().all()

    medgan.works("fit", "--resume", run)
    assert_same_state(run, medgan.fit(tmp_path / "whole", "--steps", 6))


@pytest.mark.parametrize("place", ["metrics.jsonl", "samples", "plots", "model"])
def test_full_disk_elsewhere(medgan, run, tmp_path, monkeypatch, place):
    """Wherever the disk becomes full it is said in one message, and the checkpoint stays."""
    real_open, real_write = Path.open, Path.write_bytes

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if place == "metrics.jsonl":

        def open_(self, mode="r", *arguments, **options):
            return full() if self.name == place and "a" in mode else real_open(self, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_)
    elif place == "model":

        def write_bytes(self, data):
            return full() if self.name == "model.safetensors" else real_write(self, data)

        monkeypatch.setattr(Path, "write_bytes", write_bytes)
    else:
        replace = Path.replace

        def replace_(self, target):
            return full() if Path(target).parent.name == place else replace(self, target)

        monkeypatch.setattr(Path, "replace", replace_)
    message = medgan.fails("fit", "--resume", run, "--steps", 8)
    assert "No space left on device" in message
    assert place in message
    monkeypatch.undo()
    assert read_state(checkpoint(run))["trainer"]["step"] >= 6
    medgan.works("fit", "--resume", run, "--steps", 10)


@pytest.mark.parametrize("how", ["rate", "loss"])
def test_divergence_keeps_the_last_checkpoint(medgan, tmp_path, monkeypatch, how):
    rates = ()
    if how == "rate":
        rates = ("--generator-lr", 1e30, "--discriminator-lr", 1e30)
    else:
        loss = ACGAN.Trainer.generator_loss

        def diverge(self, real, fake):
            terms = loss(self, real, fake)
            return terms | {"label": terms["label"] * (float("nan") if self.step == 4 else 1)}

        monkeypatch.setattr(ACGAN.Trainer, "generator_loss", diverge)
    message = medgan.fails(
        "fit", *medgan.small, "--steps", 9, "--checkpoint-every", 2, "--log-every", 1, *rates,
        "--outdir", tmp_path, "--name", "run", "--health", "warn",
    )  # fmt: skip
    assert "Training diverged at step" in message
    assert "NaN or infinite" in message
    run = tmp_path / "run"
    if how == "loss":
        assert "at step 5: generator/label" in message
        assert all(torch.tensor(list(row.values())).isfinite().all() for row in metrics(run))
        state = read_state(checkpoint(run))
        assert state["trainer"]["step"] == 4
        tensors = [leaf for leaf in leaves(state).values() if isinstance(leaf, torch.Tensor)]
        assert all(tensor.isfinite().all() for tensor in tensors)
        assert load_model(run).sample(1).images.isfinite().all()
        monkeypatch.undo()
        medgan.works("fit", "--resume", run)
    else:
        assert not checkpoint(run).exists()  # weights that were infinite at once are not worth one


def test_advice_after_divergence_can_be_followed(medgan, tmp_path):
    rates = ("--generator-lr", 1e30, "--discriminator-lr", 1e30)
    message = medgan.fails("fit", *medgan.small, "--steps", 9, *rates, "--outdir", tmp_path)
    assert "--generator-lr" in message
    assert "Train anew" in message  # a resumed run refuses another rate


# ------------------------------------------------------------------------------ in a process of its own


def start(tmp_path: Path, name: str, *options: str, **settings: object) -> tuple[subprocess.Popen[str], Path]:
    command = [
        sys.executable, "-m", "medgan", "fit", "--data", "phantom://chest?n=40&seed=1", "--size", "32",
        "--preset", "tiny", "--device", "cpu", "--log-every", "1", "--sample-every", "100000",
        "--outdir", str(tmp_path), "--name", name, *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, **settings
    )
    return process, tmp_path / name


def wait_for_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    path = run / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not path.is_file() or path.read_bytes().count(b"\n") < steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed(medgan, tmp_path):
    process, run = start(tmp_path, "run", "--steps", "100000", "--checkpoint-every", "5")
    try:
        wait_for_steps(process, run, 8)
        assert "Another process is training in" in medgan.fails("fit", "--resume", run)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    state = read_state(checkpoint(run))["trainer"]
    assert state["step"] % 5 == 0
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 12345, "ima')  # as a kill in the middle of a line leaves it

    steps = state["step"] + 3
    medgan.works("fit", "--resume", run, "--steps", steps)
    assert [row["step"] for row in metrics(run)] == list(range(1, steps + 1))
    assert_same_state(run, medgan.fit(tmp_path / "whole", "--steps", steps))


@pytest.mark.slow
def test_killed_at_random_moments(medgan, tmp_path, contents):
    """Wherever kill -9 hits, the same command goes on, and ends with the weights, the best model and the evaluations of
    a run that nothing happened to.

    MEDGAN_KILLS says how often; 3 times if not.
    """
    moments = random.Random(0)
    evaluated = ("--validation", "0.3", "--evaluate-every", "5")
    options = (*evaluated, "--checkpoint-every", "4", "--resume", "auto")
    steps, kills, number, hit = 60, 0, 0, set()
    whole = medgan.fit(tmp_path / "whole", *evaluated, "--steps", steps, "--log-every", 1)
    wanted = int(os.environ.get("MEDGAN_KILLS", "3"))
    while True:
        process, run = start(tmp_path, f"run{number}", "--steps", str(steps), *options)
        try:
            if kills < wanted:
                # Anywhere in the start, or among the steps.
                if moments.random() < 0.3:
                    time.sleep(moments.uniform(0.5, 8))
                else:
                    log = run / "metrics.jsonl"
                    before = log.read_bytes().count(b"\n") if log.is_file() else 0
                    after = before + moments.randint(1, 8)
                    while process.poll() is None and (not log.is_file() or log.read_bytes().count(b"\n") < after):
                        time.sleep(0.005)
                    time.sleep(moments.uniform(0, 0.1))
                process.kill()
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
            process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            hit.add(checkpoint(run).is_file())
            continue
        assert process.returncode == 0, out + err
        assert_same_state(run, whole)
        assert metrics(run) == metrics(whole)
        assert contents(run / "checkpoints" / "best") == contents(whole / "checkpoints" / "best")
        assert load_model(run).sample(1).images.isfinite().all()
        if kills >= wanted:
            break
        number += 1
    assert kills == wanted
    assert True in hit


def test_interrupted(medgan, tmp_path):
    process, run = start(tmp_path, "run", "--steps", "100000", "--checkpoint-every", "100000")
    try:
        wait_for_steps(process, run, 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    step = read_state(checkpoint(run))["trainer"]["step"]
    assert step >= 3
    assert metrics(run)[-1]["step"] == step
    assert load_model(run).sample(1).images.isfinite().all()
    assert f"stopped by the user at step {step}" in (run / "log.txt").read_text()

    (command,) = [line.partition("Continue with: ")[2] for line in out.splitlines() if "Continue with: " in line]
    program, *arguments = shlex.split(command)
    assert program == "medgan"
    medgan.works(*arguments, "--steps", step + 1)
    assert read_state(checkpoint(run))["trainer"]["step"] == step + 1


def test_disk_that_is_really_too_small(tmp_path):
    """The largest file that the process may write is smaller than a checkpoint."""
    limit = 200_000

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process, run = start(tmp_path, "run", "--steps", "2", "--generator-width", "16", preexec_fn=restrict)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in out + err
    (message,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "trainer.pt could not be written" in message
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]
