from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan.comparison import worker
from medgan.comparison.plan import Contender, make_contenders


@pytest.fixture
def contender(tmp_path: Path) -> Contender:
    options = {"data": "phantom://chest?n=40&seed=1", "size": 32, "kimg": 0.05, "device": "cpu"}
    return make_contenders(["acgan:tiny", "acgan"], options, out=tmp_path, transforms=None, say=lambda line: None)[0]


def write(contender: Contender, **outcome: Any) -> None:
    path = contender.folder.parent / "outcomes" / "acgan-tiny.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(outcome))


def test_outcomes(contender: Contender) -> None:
    assert worker.outcome_of(contender) == {}
    write(contender, status="failed", error="no")
    assert worker.outcome_of(contender)["error"] == "no"
    write(contender, status="done")
    assert worker.outcome_of(contender) == {}  # there is no model
    (contender.folder / "model").mkdir(parents=True)
    (contender.folder / "model" / "model.json").write_text("{}")
    assert worker.outcome_of(contender)["status"] == "done"
    (contender.folder.parent / "outcomes" / "acgan-tiny.json").write_text("[1")
    assert worker.outcome_of(contender) == {}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL, as happens when there is not"),
        ("import sys; sys.exit(3)", "exit code 3 and said nothing"),
    ],
)
def test_a_process_that_says_nothing(
    contender: Contender, monkeypatch: pytest.MonkeyPatch, code: str, error: str
) -> None:
    write(contender, status="stopped", peak_memory_bytes=7)
    monkeypatch.setattr(worker, "_START", code)
    found = worker.train(contender)
    assert found["status"] == "failed"
    assert error in found["error"]
    assert found["peak_memory_bytes"] == 7


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_signal_goes_to_the_training_which_ends_first(
    contender: Contender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other process notes the signal; this one goes on only when that has ended."""
    code = (
        "import os, signal, sys, time, pathlib; "
        f"place = pathlib.Path({str(tmp_path)!r}); "
        "signal.signal(signal.SIGTERM, lambda *_: (place.joinpath('asked').touch(), sys.exit(0))); "
        "sys.stdin.readline(); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    monkeypatch.setattr(worker, "_START", code)
    with pytest.raises(KeyboardInterrupt):
        worker.train(contender)
    assert (tmp_path / "asked").exists()
    assert worker.outcome_of(contender)["status"] == "stopped"


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_training_stops_when_nobody_waits_for_it() -> None:
    code = (
        "import time; from medgan.comparison.worker import _follow_parent; print('up', flush=True); "
        "_follow_parent(); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None  # noqa: PT018
    assert process.stdout.readline() == "up\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=60) == -signal.SIGTERM
    process.stdout.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux tells")
def test_peak_memory_is_that_of_the_process_itself() -> None:
    """A process begins with the peak of the one that started it in ru_maxrss, and must not."""
    ballast = np.ones(60 * 2**20)  # 480 MB
    code = "from medgan.comparison.worker import _resident_peak as p; a = p(); b = b'x' * (200 * 2**20); print(a, p())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    before, after = map(int, text.stdout.split())
    assert after - before > 150 * 2**20
    mine = worker._resident_peak()
    assert mine is not None
    assert mine > ballast.nbytes
