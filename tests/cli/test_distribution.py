"""One command in several processes; in those of `run_processes` as under torchrun and accelerate launch."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from medgan.core.saving import read_state
from medgan.models import ACGAN, load_model


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict:
    return read_state(folder / "checkpoints" / "latest" / "trainer.pt")["trainer"]


def test_two_processes_leave_what_one_does(medgan, tmp_path, run_processes, contents):
    every = ("--log-every", 2, "--sample-every", 2, "--checkpoint-every", 2, "--minibatch-std", 0, "--steps", 4)
    command = ("-m", "medgan", "fit", *medgan.small, *every, "--outdir", tmp_path, "--name", "two", "--batch-size", 4)
    main, other = run_processes(command, folder=tmp_path)
    one = medgan.fit(tmp_path / "one", *every, "--batch-size", 8)
    two = tmp_path / "two"
    assert contents(one).keys() == contents(two).keys()
    assert "on 2 × cpu in fp32" in main
    assert f"Model:  {two / 'model'}" in main
    assert other == ""
    assert (two / "log.txt").read_text().count("Run folder:") == 1

    assert [(row["step"], row["images"]) for row in rows(two)] == [(2, 16), (4, 32)]
    for mine, theirs in zip(rows(two), rows(one), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"images_per_second"}:
            if name.count("/") < 2:  # those of a class are means of the steps' means, in each process
                assert mine[name] == pytest.approx(theirs[name], rel=1e-2, abs=1e-2), name
    gan = ACGAN(load_model(one).data, preset="tiny", minibatch_std=0)
    begin = gan.make_trainer(device="cpu").state_dict()
    for network in ("generator", "discriminator"):
        ends = [state(folder)[network] for folder in (one, two)]
        way = sum(float((ends[0][name] - value).square().sum()) for name, value in begin[network].items())
        apart = sum(float((ends[0][name] - ends[1][name]).square().sum()) for name in begin[network])
        assert way > 1e-3
        assert apart < 1e-3 * way
    assert len(state(two)["random"]) == 2
    assert load_model(two).sample(2).images.isfinite().all()

    message = medgan.fails("fit", "--resume", two, "--steps", 6)
    assert "written by 2 process(es), now there are 1" in message


def test_reason_of_the_main_process(tmp_path, start_processes):
    """What only the main process finds out is told by it; the other does not wait for ever."""
    (tmp_path / "scans").mkdir()
    command = ("-m", "medgan", "fit", "--data", tmp_path / "scans", "--device", "cpu", "--outdir", tmp_path / "runs")
    processes = start_processes(command, folder=tmp_path)
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], errors
    assert [error.count("Error: ") for error in errors] == [1, 1], errors
    assert str(tmp_path / "scans") in errors[0]
    assert "Another process of this training has ended" in errors[1]
    assert not any("Traceback" in error for error in errors)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_lost_process(medgan, tmp_path, start_processes):
    """Whichever is killed, the other says so and ends; the same command goes on from the last checkpoint."""
    run = tmp_path / "job"
    command = (
        "-m", "medgan", "fit", *medgan.small, "--steps", 100_000, "--checkpoint-every", 2, "--log-every", 1,
        "--outdir", tmp_path, "--name", "job", "--resume", "auto",
    )  # fmt: skip
    done = 0
    for lost in (1, 0):
        processes = start_processes(command, folder=tmp_path)
        deadline = time.monotonic() + 600
        while not (run / "metrics.jsonl").is_file() or (run / "metrics.jsonl").read_bytes().count(b"\n") < done + 6:
            assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        processes[lost].kill()
        errors = processes[1 - lost].communicate(timeout=600)[1]
        assert processes[1 - lost].returncode == 2, errors
        assert errors.count("Error: ") == 1
        assert "Another process of this training has ended" in errors
        assert "--resume auto" in errors
        assert "Traceback" not in errors
        before, done = done, state(run)["step"]
        assert done % 2 == 0
        assert done > before
        assert load_model(run).sample(1).images.isfinite().all()
