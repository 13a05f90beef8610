"""Follows tutorials as a reader does: pastes their commands one after the other, in an empty folder.

    python docs/follow.py                     # all of them, with trainings cut short
    python docs/follow.py dicom --full        # one as it stands, which may take half an hour
    python docs/follow.py quickstart --full --chest-xray path/to/chest_xray

Commands run in a scratch environment that sees the packages of this one, so that what a page installs is gone
afterwards. Installing takes a package index. Exit code 1 if a command fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"

_BLOCK = re.compile(r"^ *```console\n(.*?)^ *```", re.M | re.S)

# What is not run, and why.
_LEFT_OUT = {
    "python3 -m venv": "the environment is there",
    "pip install .": "medgan is there",
    "twine upload": "publishes",
}

# Enough to see that each command goes with those before it; the numbers that come out say nothing.
_SHORTER = (
    (r"--(budget|kimg) \S+", "--kimg 0.1"),
    (r"--evaluate-every \d+", "--evaluate-every 2"),
    (r"--log-every \d+", "--log-every 2"),
    (r"--steps \d+", "--steps 4"),
    (r"chest\?n=\d+", "chest?n=600"),
    (r"(audit .*)-n 1000", r"\1-n 200"),
)


def commands_of(page: str) -> list[str]:
    """Return the commands at the prompts of a page, in order; a line that ends in a backslash goes on."""
    found = []
    for block in _BLOCK.findall(page):
        lines = iter(block.splitlines())
        for line in lines:
            prompt, separator, command = line.partition("$ ")
            if not separator or prompt.strip():
                continue
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
            found.append(command)
    return found


def left_out(command: str, *, chest_xray: bool) -> str | None:
    """Return why a command is not run, or None if it is."""
    for start, reason in _LEFT_OUT.items():
        if command == start or command.startswith(f"{start} "):
            return reason
    return "needs the data set: --chest-xray FOLDER" if "chest_xray" in command and not chest_xray else None


def shorten(command: str) -> str:
    """Return a command with its trainings cut short."""
    for pattern, shorter in _SHORTER:
        command = re.sub(pattern, shorter, command)
    if command.startswith("medgan fit ") and "--kimg" not in command and "--steps" not in command:
        command += " --kimg 0.1"
    return command


def make_environment(folder: Path) -> Path:
    """Make an environment that sees the packages of this one and has its commands; return the folder of commands."""
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    names = {"base": str(folder), "platbase": str(folder)}
    # `addsitedir` also follows what was installed editable.
    (Path(sysconfig.get_path("purelib", "venv", names)) / "outer.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", encoding="utf-8"
    )
    for script in Path(sysconfig.get_path("scripts")).iterdir():
        target = commands / script.name
        if target.exists() or not script.is_file() or script.read_bytes()[:2] != b"#!":
            continue
        first, _, rest = script.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
        if "python" in first:
            target.write_text(f"#!{commands / 'python'}\n{rest}", encoding="utf-8", errors="surrogateescape")
            target.chmod(0o755)
    return commands


def follow(page: Path, *, full: bool, chest_xray: Path | None) -> int:
    """Run the commands of a page in a folder that has only what a clone has; return how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="medgan-pages-") as scratch:
        work = Path(scratch) / "clone"
        work.mkdir()
        for part in ("docs", "examples", "plugins"):
            (work / part).symlink_to(ROOT / part)
        if chest_xray is not None:
            (work / "chest_xray").symlink_to(chest_xray.resolve())
        scripts = make_environment(Path(scratch) / "environment")
        environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "MEDGAN_CACHE": str(Path(scratch) / "cache"),
        }
        print(f"\n{page.relative_to(ROOT)}", flush=True)
        for command in commands_of(page.read_text(encoding="utf-8")):
            if reason := left_out(command, chest_xray=chest_xray is not None):
                print(f"  left out  {command}  ({reason})", flush=True)
                continue
            command = command if full else shorten(command)
            start = time.monotonic()
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=work,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
            outcome = "failed" if done.returncode else "ok"
            print(f"  {outcome:6} {time.monotonic() - start:5.0f} s  {command}", flush=True)
            if done.returncode:
                failed += 1
                for line in done.stdout.splitlines()[-30:]:
                    print(f"      {line}", flush=True)
    return failed


def main() -> int:
    """Follow what the command line names; return the exit code."""
    pages = {path.stem: path for path in sorted(TUTORIALS.glob("*.md")) if commands_of(path.read_text("utf-8"))}
    parser = argparse.ArgumentParser(description="Paste the commands of tutorials one after the other.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"tutorials; all if none is named: {', '.join(pages)}")
    parser.add_argument("--full", action="store_true", help="as they stand, not cut short")
    parser.add_argument("--chest-xray", type=Path, metavar="FOLDER", help="the data set, for what needs it")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(pages))
    if unknown:
        parser.error(f"there is no tutorial {', '.join(unknown)}; there are {', '.join(pages)}")
    if arguments.chest_xray is not None and not (arguments.chest_xray / "train").is_dir():
        parser.error(f"--chest-xray {arguments.chest_xray}: there is no folder train in it")
    chosen = [pages[name] for name in arguments.names] or list(pages.values())
    failed = sum(follow(page, full=arguments.full, chest_xray=arguments.chest_xray) for page in chosen)
    print(f"\n{failed} failed." if failed else "\nAll went through.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
