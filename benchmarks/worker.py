"""One side of a comparison, in a process of its own: prepares its work, then does it whenever it is told to.

    python -m benchmarks.worker MODULE:FUNCTION OPTIONS-AS-JSON

The function is called with the options and returns the work, which is called at each line of the standard input.
After each call a line of JSON says how long it took. This file and what it imports need nothing but Python: the
environment of a peer need not hold medgan.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Work = Callable[[], float | None]
"""What is timed; a value that it returns is kept, so that it can be seen that all sides did the same."""


def load(work: str, options: dict[str, Any]) -> Work:
    """Return the work that ``module:function`` makes of some options."""
    module, _, function = work.partition(":")
    made: Work = getattr(import_module(module), function)(**options)
    return made


def cpu_seconds() -> float:
    """Return the processor time of this process with all its threads, and of the children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory_mib() -> float:
    """Return the most memory that this process has held, or one of its children that have ended, in MiB.

    Pages of mapped files count.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():  # Linux; what getrusage says there of this process may be its parent's
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return max(children, int(line.split()[1])) / 2**10
    return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def timed(work: Work) -> dict[str, float | None]:
    """Do the work once; return its seconds on the clock and of the processor, its value and the memory by then."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    value = work()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {"wall": wall, "cpu": cpu, "value": value, "peak_mib": peak_memory_mib()}


def main() -> None:
    # Libraries print to the standard output as they like; the answers go where it was, and it goes to the errors.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = load(sys.argv[1], json.loads(sys.argv[2]))
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(work)), file=answers, flush=True)


if __name__ == "__main__":
    main()
