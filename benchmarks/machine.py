"""What a measurement was made with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.protocol import ROOT, Settings, installed

_PACKAGES = (
    "medgan",
    "torch",
    "numpy",
    "scipy",
    "monai",
    "torchvision",
    "torch-fidelity",
    "torchmetrics",
    "pytorch-fid",
)
_KERAS_PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "numpy")


def describe(settings: Settings) -> dict[str, Any]:
    """Return the machine, the versions, the commit and the load, as plain JSON values."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": settings.threads,
        "versions": {name: installed(name) for name in _PACKAGES},
        "keras_versions": _keras_versions(settings.keras_python),
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 1),
        "quick": settings.quick,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _keras_versions(python: Path | None) -> dict[str, str] | None:
    """Return the versions of what Keras's side runs on."""
    if python is None:
        return None
    code = (
        "import json, platform, sys; from importlib.metadata import distributions; "
        "found = {d.name: d.version for d in distributions()}; "
        "print(json.dumps({'Python': platform.python_version(), **{n: found[n] for n in sys.argv[1:] if n in found}}))"
    )
    said = subprocess.run([python, "-c", code, *_KERAS_PACKAGES], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(said.stdout)
    return versions


def _commit() -> str:
    """Return the commit that is measured, with a word if the files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", "medgan", "benchmarks", ":!benchmarks/results"
        )
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown: no git repository"
