"""How long commands take to start, each time in a fresh process, beside Python itself and `import torch`."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.protocol import Comparison, Settings, Side, Target
from benchmarks.worker import Work

TITLE = "Start-up"

_STARTS = {
    "python -c pass": ("-c", "pass"),
    "python -c 'import medgan'": ("-c", "import medgan"),
    "medgan --help": ("-m", "medgan", "--help"),
    "medgan archs": ("-m", "medgan", "archs"),
    "python -c 'import torch'": ("-c", "import torch"),
    "medgan fit --help": ("-m", "medgan", "fit", "--help"),
    "python -c 'from medgan.models import ACGAN'": ("-c", "from medgan.models import ACGAN"),
}


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return one comparison of all starts."""
    work = "benchmarks.measurements.startup:make_start"
    names = list(_STARTS)[:4] if settings.quick else list(_STARTS)  # without those that take torch
    return [
        Comparison(
            title="A start",
            unit="start",
            sides=[Side(name=name, work=work, options={"arguments": list(_STARTS[name])}) for name in names],
            targets=[Target(side="medgan archs", of="seconds", bound="at most", value=0.5)],
            turns=7,
            rounds=2,
        )
    ]


def make_start(arguments: list[str]) -> Work:
    """Return a function that starts Python with some arguments and waits for its end."""

    def start() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return start
