"""One training of a comparison, in a process of its own, so that its memory is its own."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medgan.comparison.plan import Contender
from medgan.core.saving import write_aside
from medgan.errors import MedganError

__all__ = ["DONE", "FAILED", "STOPPED", "outcome_of", "peak_memory", "train", "work"]

DONE, FAILED, STOPPED = "done", "failed", "stopped"
"""How a training ended."""

# The new process takes its task from standard input, and the search path of this one before it imports anything else.
_START = (
    "import json, sys; task = json.loads(sys.stdin.readline()); sys.path[:] = task['path']; "
    "from medgan.comparison.worker import work; sys.exit(work(task))"
)


def outcome_of(contender: Contender) -> dict[str, Any]:
    """Return how a training ended, as its process wrote it: ``status``, ``error`` and more; empty if it has not.

    Args:
        contender: The training.
    """
    path = _outcome_file(contender)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: the training is looked at again
        return {}
    if not isinstance(found, dict):
        return {}
    if found.get("status") == DONE and not (contender.folder / "model" / "model.json").is_file():
        return {}  # somebody has removed the run
    return found


def train(contender: Contender) -> dict[str, Any]:
    """Train in a new process, or go on with a training that was stopped, and wait for its end.

    Interrupts and requests to terminate go to that process, which saves its state first.

    Args:
        contender: The training.

    Returns:
        What `outcome_of` does.

    Raises:
        KeyboardInterrupt: If the training was stopped.
        CheckpointError: If the outcome cannot be written.
    """
    checkpoint = contender.folder / "checkpoints" / "latest" / "trainer.pt"
    task = {
        "path": [place or str(Path.cwd()) for place in sys.path],
        "flags": contender.flags,
        "resume": str(contender.folder) if checkpoint.is_file() else None,
        "transforms": contender.run.transforms,
        "outcome": str(_outcome_file(contender)),
    }
    # Of a process group of its own, so that Ctrl-C in a terminal reaches it once, through this process.
    apart: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
    begun = _outcome_file(contender)
    before = outcome_of(contender)
    with suppress(OSError):
        begun.unlink()
    process = subprocess.Popen([sys.executable, "-c", _START], stdin=subprocess.PIPE, text=True, **apart)
    assert process.stdin is not None
    with _forwarding(process) as asked:
        try:
            with suppress(BrokenPipeError):  # it has ended already; its exit code tells
                process.stdin.write(json.dumps(task | {"before": before}) + "\n")
                process.stdin.flush()
            code = process.wait()
        finally:
            # It stops by itself when the pipe closes, however this process ends.
            with suppress(BrokenPipeError):
                process.stdin.close()
    outcome = outcome_of(contender)
    if not outcome:
        outcome = {"status": FAILED, "error": _unexplained(code)}
        if asked:
            outcome = {"status": STOPPED}
        _write(_outcome_file(contender), {**_peaks(before), **outcome})
    if asked or outcome["status"] == STOPPED:
        raise KeyboardInterrupt
    return outcome_of(contender)


def _outcome_file(contender: Contender) -> Path:
    """Return where the process of a training says how it ended."""
    return contender.folder.parent / "outcomes" / f"{contender.name}.json"


def _unexplained(code: int) -> str:
    """Say how a process ended that did not say so itself."""
    if code >= 0:
        return f"Its process ended with exit code {code} and said nothing; see its log.txt."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    more = ", as happens when there is not enough memory" if name == "SIGKILL" else ""
    return f"Its process was ended by {name}{more}."


@contextmanager
def _forwarding(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Pass signals on to a process for the duration of a block; yields those that came."""
    asked: list[int] = []

    def forward(number: int, frame: Any) -> None:
        asked.append(number)
        with suppress(ProcessLookupError):
            process.send_signal(number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    try:
        before = {number: signal.signal(number, forward) for number in numbers}
    except ValueError:
        before = {}  # only the main thread may set handlers
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------ in the new process


def work(task: Mapping[str, Any]) -> int:
    """Do a training, and write how it ended.

    Args:
        task: From `train`: ``flags`` of the run, the run folder to ``resume`` or None, ``transforms``, the file of the
            ``outcome`` and what that held ``before``.

    Returns:
        The exit code.
    """
    import click

    from medgan.runs import Run
    from medgan.training import TrainingStopped

    def say(line: str) -> None:
        click.echo(line)
        logging.getLogger("medgan").info(line)

    threading.Thread(target=_follow_parent, daemon=True).start()
    outcome: dict[str, Any] = {"status": DONE, "error": None}
    code = 0
    try:
        if task["resume"] is None:
            run = Run(task["flags"], begin_again=True, transforms=task["transforms"], say=say)
        else:
            moved = {name: task["flags"][name] for name in ("data", "workers", "tracker") if name in task["flags"]}
            run = Run(moved, resume=Path(task["resume"]), transforms=task["transforms"], say=say)
        # Killed between its last step and its outcome, it has nothing left to do.
        if not run.is_done():
            run.fit(count_preparation=False)
    except (TrainingStopped, KeyboardInterrupt):
        outcome, code = {"status": STOPPED, "error": None}, 130
    except MedganError as error:
        outcome, code = {"status": FAILED, "error": str(error)}, 2
        click.echo(f"Error: {error}", err=True)
    except Exception as error:
        # Whatever an architecture does wrong, it must not stop the others.
        text = traceback.format_exc()
        reason = str(error).strip().partition("\n")[0]
        outcome = {"status": FAILED, "error": f"{type(error).__name__}: {reason}", "traceback": text}
        code = 1
        click.echo(text, err=True)
    _write(Path(task["outcome"]), outcome | _facts() | _peaks(task["before"], peak_memory()))
    return code


def _follow_parent() -> None:
    """Stop the training, its state saved, when the process that started it is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def peak_memory() -> dict[str, int | None]:
    """Return the most memory that this process has had, in bytes.

    Returns:
        ``peak_memory_bytes`` of the computer, with the pages of files that were mapped, and
        ``peak_device_memory_bytes`` that PyTorch took of a CUDA device; None where that is not known.
    """
    import torch

    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"peak_memory_bytes": _resident_peak(), "peak_device_memory_bytes": device or None}


def _resident_peak() -> int | None:
    """Return the peak of the resident memory of this process; None where the system does not tell."""
    # On Linux ru_maxrss begins with what the process that started this one had, so it is not asked where VmHWM is.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _peaks(*found: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the highest peaks of several stretches of a training."""
    names = ("peak_memory_bytes", "peak_device_memory_bytes")
    known = {name: [each[name] for each in found if each.get(name) is not None] for name in names}
    return {name: max(values, default=None) for name, values in known.items()}


def _facts() -> dict[str, Any]:
    """Return what it was trained on."""
    import torch

    cuda = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    return {"machine": name, "threads": torch.get_num_threads(), "cores": os.cpu_count()}


def _write(path: Path, outcome: Mapping[str, Any]) -> None:
    """Write an outcome."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(outcome, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="replace")
