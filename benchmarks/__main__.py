"""The command: measures, writes one JSON file a measurement, then the page of all there are."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks import machine, measurements
from benchmarks.protocol import ROOT, Settings, SideError, measure

_KERAS = ROOT / ".venv-keras"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure medgan beside what else there is, and write a page with tables and figures.",
        epilog="Measurements: "
        + "; ".join(f"{name} ({measurements.get(name).TITLE})" for name in measurements.names()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="measurements to make; all if none is named")
    parser.add_argument("--quick", action="store_true", help="smallest sizes and two turns: to see that all runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder to write to")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of each side; all cores if not given"
    )
    parser.add_argument("--data", type=Path, help="for the loader: folder of class folders with images of your own")
    parser.add_argument("--keras-python", type=Path, help="Python of an environment with TensorFlow")
    parser.add_argument(
        "--make-keras", action="store_true", help=f"make such an environment in {_KERAS.name} if it is not there"
    )
    parser.add_argument("--page-only", action="store_true", help="measure nothing, write the page of what is there")
    arguments = parser.parse_args()
    names = arguments.names or measurements.names()
    unknown = sorted(set(names) - set(measurements.names()))
    if unknown:
        parser.error(f"there is no measurement {', '.join(unknown)}; there are {', '.join(measurements.names())}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, got {arguments.threads}")
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data {arguments.data}: there is no such folder")
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = []
    if not arguments.page_only:
        try:
            keras = find_keras(arguments.keras_python, make=arguments.make_keras)
        except FileNotFoundError as error:
            parser.error(str(error))
        with tempfile.TemporaryDirectory() as scratch:
            settings = Settings(
                quick=arguments.quick,
                threads=arguments.threads,
                scratch=Path(scratch),
                keras_python=keras,
                data=arguments.data and arguments.data.resolve(),
            )
            for name in names:
                try:
                    measure_all(name, settings, arguments.out)
                except SideError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    failed.append(name)
    from benchmarks.page import write_page

    print(f"{write_page(arguments.out)}")
    if failed:
        print(f"Not measured: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def measure_all(name: str, settings: Settings, folder: Path) -> None:
    """Make one measurement and write its JSON file."""
    facts = machine.describe(settings)
    found = []
    for comparison in measurements.get(name).make_comparisons(settings):
        label = f"{name}: {comparison.title}"
        print(label, file=sys.stderr, flush=True)
        found.append(measure(comparison, settings, lambda text: print(f"  {text}", file=sys.stderr, flush=True)))
    facts["load_after"] = round(os.getloadavg()[0], 1)
    text = json.dumps({"name": name, "machine": facts, "comparisons": found}, indent=1, ensure_ascii=False)
    aside = folder / f".{name}.json.part"
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(folder / f"{name}.json")


def find_keras(python: Path | None, *, make: bool) -> Path | None:
    """Return the Python of an environment with TensorFlow.

    Args:
        python: What the command line names.
        make: Whether to make one that is not there, which downloads TensorFlow.

    Returns:
        It, or None if none was named, made or found.

    Raises:
        FileNotFoundError: If the named one is not there.
    """
    if python is not None:
        if not python.exists():
            raise FileNotFoundError(f"--keras-python {python}: there is no such file")
        return python.absolute()
    own = _KERAS / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # What an interrupted download left has a Python, and no Keras.
    if make and not (own.exists() and subprocess.run([own, "-c", "import keras"], check=False).returncode == 0):
        venv.create(_KERAS, with_pip=True, clear=True)
        subprocess.run([own, "-m", "pip", "install", "tensorflow-cpu"], check=True)
    return own if own.exists() else None


if __name__ == "__main__":
    sys.exit(main())
