"""Follows the pages as a reader does: pastes their commands and their Python one after the other, in an empty folder.

    python docs/follow.py                     # all, with trainings cut short
    python docs/follow.py tutorials/dicom guides/metrics
    python docs/follow.py dicom --full        # one as it stands, which may take half an hour
    python docs/follow.py quickstart --full --chest-xray path/to/chest_xray

The pages are those of the documentation, the README and the plugins'. Python blocks of a page share their names; one
that begins with a comment such as ``# plant.py`` is that file. What pages take for granted (a data set, a trained run)
is made from medgan's phantom first, each thing once, by `_WORLD`.

Pages that install something do so in a scratch environment that sees the packages of this one, so that it is gone
afterwards. Installing takes a package index. Exit code 1 if a command or a block fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PLACES = (
    "README.md",
    "docs/index.md",
    "docs/tutorials/*.md",
    "docs/guides/*.md",
    "docs/reference/*.md",
    "docs/explanation/*.md",
    "plugins/*/README.md",
)

# ------------------------------------------------------------------------------------ what is not run, and what instead

# Searched in "page: command"; of commands that `&&` joins, in each.
_LEFT_OUT = (
    (r": (python3 -m venv|\. \.venv/bin/activate)", "the environment is there"),
    (r": pip install \.$", "medgan is there"),
    (r": (pip install )?tox$", "runs all other checks, which take an hour"),
    (r": accelerate launch --multi_gpu|--device cuda", "needs GPUs"),
    (r": rsync", "needs another machine"),
    (r": medgan study serve .*--url", "serves until it is stopped"),
    (r": torchrun .*--resume", "needs a run that two processes began"),
    (r"--extractor (inception|radimagenet)", "needs published weights"),
    (r"^plugins/.*: medgan compare", "six architectures; guides/comparison has the same command"),
)

# What stands for something that only readers have.
_INSTEAD = (
    (r"^medgan study serve (?!.*--url)", "python docs/follow_world.py answers "),  # readers who answer
    (r"/elsewhere/", "elsewhere/"),
    (r"\bRUN\b", "runs/00000-acgan-chest_xray"),
    (r" OPTIONS$", ""),
)

# Enough to see that each command goes with those before it; the numbers that come out say nothing.
_SHORTER = (
    (r"--evaluate-every [1-9]\d*", "--evaluate-every 2"),
    (r"--log-every \d+", "--log-every 2"),
    (r"--steps \d+", "--steps 4"),
    (r"--seeds [3-9]\b", "--seeds 2"),
    (r"--images \d+", "--images 40"),
    (r"chest\?n=\d{4,}", "chest?n=600"),
    (r"phantom://thorax(?!\?)", "phantom://thorax?n=60"),
    (r"(audit .*)-n 1000", r"\1-n 200"),
    (r"(sample .*)-n \d{3,}", r"\1-n 40"),
    (r"acgan,wgan-gp,sngan,stylegan2,r3gan,fastgan", "wgan-gp,sngan"),  # the others are compared before
)
_ADDED = (  # where nothing of the kind was said
    (r"\bmedgan fit (?!.*--(kimg|steps|dry-run))", "--kimg 0.1"),
    (r"^medgan refine (?!.*--kimg)", "--kimg 0.1"),
    (r"^medgan refine ", "--samples 100"),
    (r"^medgan (metrics|compare) (?!.*--(halvings|metrics paired))", "--samples 2 --halvings 2 --permutations 20"),
    (r"^medgan evaluate (?!.*--(steps|protocol))", "--steps 4"),
    (r"^medgan evaluate (?!.*--(seeds|protocol))", "--seeds 2"),
    (r"^medgan evaluate .*--protocol report (?!.*--images)", "--images 40 --classifier small-cnn"),
    (r"^medgan audit (?!.*(-n |--synthetic))", "-n 200"),
    (r"^medgan explore (?!.*--synthetic-only)", "--inversions 2"),
)
_SHORTER_PYTHON = (
    (r"\bsteps=\d+", "steps=2"),
    (r"\bseeds=\d+", "seeds=2"),
    (r'"budget": "\d+m"', '"kimg": 0.1'),
    (r"StudyConfig\(", "StudyConfig(steps=2, "),
    (r"MeasureConfig\(", "MeasureConfig(samples=2, halvings=2, permutations=20, "),
)

# --------------------------------------------------------------------------------------- what pages take for granted

_CHESTS = "python docs/follow_world.py chests "
_RUN = "runs/00000-acgan-chest_xray"
_FIT = "medgan fit --size 64 --patient-regex kermany --validation 0.1 --test 0.2 --kimg 0.1 --lr-decay 0"  # can go on

# What a page names is made by its command, in a folder of all pages; what that names in its turn, before it.
_WORLD = {
    "chest_xray": _CHESTS + "chest_xray/train 600 NORMAL/IM-{:04}-0001.jpeg PNEUMONIA/person{}_bacteria_1.jpeg",
    "elsewhere": "mkdir elsewhere && cp -rL chest_xray elsewhere",
    "path/to/images": _CHESTS
    + "path/to/images 560 NORMAL/IM-{0:04}-1-patient{0}.png PNEUMONIA/person{0}_virus_1-patient{0}.png",
    "path/to/others": _CHESTS + "path/to/others 40 NORMAL/other{}.png PNEUMONIA/other{}.png --first 1000",
    "path/to/new/images": _CHESTS + "path/to/new/images 12 new{}.png --noise --first 2000",
    "path/to/pairs": f"{_CHESTS} path/to/pairs/target 60 pair{{}}.png && "
    f"{_CHESTS} path/to/pairs/source 60 pair{{}}.png --noise",
    "path/to/folders": f"{_CHESTS} path/to/folders/target 40 full{{}}.png && "
    f"{_CHESTS} path/to/folders/source 40 low{{}}.png --noise --first 1000",
    "path/to/dicom": "python docs/tutorials/make_hospital.py --patients 40 --out path/to/dicom",
    "path/to/ct": "python docs/follow_world.py slices path/to/ct 60",
    "path/to/mammograms": f"medgan sample --model {_RUN} -n 60 --format dicom --bits 16 --out path/to/mammograms",
    "path/to/niftis": "cp -r niftis path/to/niftis",
    "niftis": "python docs/follow_world.py volumes niftis 60",
    "nih": _CHESTS + "nih 120 NORMAL/nih{}.png PNEUMONIA/nih{}.png --first 1000",
    "mine": _CHESTS + "mine 60 NORMAL/mine{}.png PNEUMONIA/mine{}.png --first 2000",
    "hospital/train": _CHESTS + "hospital/train 200 NORMAL/p{}_0.png PNEUMONIA/p{}_0.png --first 1000",
    "hospital/test": _CHESTS + "hospital/test 120 NORMAL/p{}_0.png PNEUMONIA/p{}_0.png --first 2000",
    "scans": _CHESTS + "scans 12 scan{}.png --pixels 256",
    "translated": _CHESTS + "translated 12 scan{}.png --pixels 256 --noise",
    "CheXpert-v1.0-small": "python docs/follow_world.py chexpert CheXpert-v1.0-small 60",
    "findings.csv": "python docs/follow_world.py tables .",
    "severity.csv": "python docs/follow_world.py tables .",
    "measured.csv": "python docs/follow_world.py tables .",
    "radiographs.npy": "python docs/follow_world.py array radiographs.npy 20",
    "chest.safetensors": "python docs/follow_world.py weights chest.safetensors",
    _RUN: f"{_FIT} --data chest_xray/train --name {Path(_RUN).name}",
    "runs/00000-acgan-images": f"{_FIT} --data path/to/images --name 00000-acgan-images",
    "runs/best": f"cp -r {_RUN} runs/best",
    "runs/second": f"cp -r {_RUN} runs/second",
    "runs/before": f"cp -r {_RUN} runs/before",
    "path/to/model": f"cp -r {_RUN}/model path/to/model",
    "samples": f"medgan sample --model {_RUN} -n 120 --out samples",
    "somebody/elses/images": f"medgan sample --model {_RUN} -n 120 --seed 5000 --out somebody/elses/images",
    "ratings.csv": "medgan sample --model runs/before -n 200 --out rated && "
    "python docs/follow_world.py ratings rated ratings.csv",
}

# What a page makes itself, of the above.
_OWN = {
    "README": ("translated",),
    "tutorials/plugin": ("runs/before",),
    "guides/evaluation": (_RUN,),
    "guides/metrics": (_RUN,),
    "guides/privacy": (_RUN,),
    "guides/reader_study": ("ratings.csv",),
    "guides/resume_and_move": ("samples",),
    "explanation/acgan_recipe": (_RUN,),
    "explanation/results": ("runs/best", "runs/second"),
    "plugins/medgan-pix2pix": ("translated",),
}

# What a page tells its readers to have done, on other pages or in its sentences.
_BEFORE = {
    "guides/choose_architecture": ("pip install ./plugins/medgan-{stylegan2,r3gan,fastgan}",),
    "guides/comparison": ("pip install ./plugins/medgan-{dcgan,wgan-gp,sngan,stylegan2,r3gan,fastgan}",),
    "guides/data": ("pip install ./plugins/medgan-pix2pix",),
    "guides/refinement": (
        "medgan study new study --model runs/00000-acgan-images --num 200 --readers 3",
        "python docs/follow_world.py answers study",
    ),
    "reference/comparison": ("pip install ./plugins/medgan-stylegan2",),
    "plugins/medgan-dcgan": ("pip install ./plugins/medgan-dcgan",),
}

# ---------------------------------------------------------------------------------------------------- reading of pages

_BLOCK = re.compile(r"^ *```(console|python)\n(.*?)^ *```", re.M | re.S)
_FILE = re.compile(r"# (\w+\.py)\n")


class Step(NamedTuple):
    """A command, a block of Python, or a file that a page shows; and the line at which it begins."""

    kind: Literal["command", "python", "file"]
    text: str
    line: int


def steps_of(page: str) -> list[Step]:
    """Return what a page has to be followed, in order; a command that ends in a backslash goes on.

    Where a block has no prompt, as those of READMEs, from which prompts would be copied along, all its lines are typed.
    """
    found: list[Step] = []
    for block in _BLOCK.finditer(page):
        language, text = block.groups()
        first = page.count("\n", 0, block.start()) + 2
        if language == "python":
            text = textwrap.dedent(text)
            found.append(Step("file" if _FILE.match(text) else "python", text, first))
            continue
        prompt = re.search(r"^ *\$ ", text, re.M)
        lines = enumerate(text.splitlines(), first)
        for number, line in lines:
            command = line.strip()
            if prompt:
                if not command.startswith("$ "):  # what was printed
                    continue
                command = command[2:]
            if not command:
                continue
            while command.endswith("\\"):
                command = command[:-1] + next(lines)[1].strip()
            found.append(Step("command", re.sub(r"\s+# .*", "", command).rstrip(), number))
    return found


def commands_of(page: str) -> list[str]:
    """Return the commands of a page, in order."""
    return [step.text for step in steps_of(page) if step.kind == "command"]


def find_pages() -> dict[str, Path]:
    """Return the pages that have something to be followed, by name: README, index, guides/data, plugins/medgan-3d."""
    found = {}
    for path in (path for place in PLACES for path in sorted(ROOT.glob(place))):
        if steps_of(path.read_text(encoding="utf-8")):
            name = path.relative_to(ROOT).as_posix().removesuffix(".md").removeprefix("docs/")
            found[name.removesuffix("/README")] = path
    return found


def parts_of(commands: str) -> list[str]:
    """Return the commands that `&&` joins, of several lines."""
    return [part for line in commands.splitlines() for part in line.split(" && ")]


def left_out(command: str, *, page: str = "") -> str | None:
    """Return why a command is not run, or None if it is."""
    return next((reason for pattern, reason in _LEFT_OUT if re.search(pattern, f"{page}: {command}")), None)


def replace(text: str, table: tuple[tuple[str, str], ...]) -> str:
    """Return a text with the replacements of a table."""
    for pattern, other in table:
        text = re.sub(pattern, other, text)
    return text


def shorten(command: str, *, resumed: int = 0) -> str:
    """Return a command with its trainings cut short; a resumed one is the longer, the more were resumed before it."""
    length = f"--kimg {0.1 * (resumed + 1):.1f}"
    command = replace(re.sub(r"--(budget|kimg) \S+", length, command), _SHORTER)
    for pattern, options in _ADDED:
        if re.search(pattern, command):
            command += f" {options.replace('--kimg 0.1', length)}"
    return command


def names(text: str, thing: str) -> bool:
    """Return whether commands or Python name a file or folder."""
    return re.search(rf"(?<![\w./-]){re.escape(thing)}(?![\w.-])", text) is not None


def needed(text: str, own: tuple[str, ...] = ()) -> set[str]:
    """Return what commands or Python take for granted, of `_WORLD`, and what that is made of; not what is their own."""
    named = {thing for thing in _WORLD if thing not in own and names(text, thing)}
    return named.union(*(needed(_WORLD[thing], (*own, thing)) for thing in named))


# ---------------------------------------------------------------------------------------------------- running of steps


def make_environment(folder: Path) -> Path:
    """Make an environment that sees the packages of this one and has its commands; return the folder of commands."""
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    bases = {"base": str(folder), "platbase": str(folder)}
    # `addsitedir` also follows what was installed editable.
    (Path(sysconfig.get_path("purelib", "venv", bases)) / "outer.pth").write_text(
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


def run(command: str, folder: Path, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Run a command; return whether it went through, and what it printed."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode == 0, done.stdout


class Interpreter:
    """A Python that runs one block after the other, all with the same names."""

    _LOOP = """
import json as _json, sys as _sys, traceback as _traceback
for _block in _sys.stdin:
    _file, _line, _text = _json.loads(_block)
    try:
        exec(compile("\\n" * (_line - 1) + _text, _file, "exec"))
        _failed = ""
    except BaseException:
        _failed = _traceback.format_exc()
    print(f"{_failed}\\n\\0{'failed' if _failed else 'ok'}", flush=True)
"""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start it in a folder."""
        python = shutil.which("python", path=environment["PATH"]) or sys.executable
        self._process = subprocess.Popen(
            [python, "-c", self._LOOP],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, text: str, *, file: str, line: int) -> tuple[bool, str]:
        """Run a block that stands at a line of a file; return whether it went through, and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is seen below
            self._process.stdin.write(json.dumps([file, line, text]) + "\n")
            self._process.stdin.flush()
        printed = ""
        for said in self._process.stdout:
            if said.startswith("\0"):
                return said.strip() == "\0ok", printed
            printed += said
        return False, f"{printed}Python has ended.\n"

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def make(thing: str, world: Path, environment: Mapping[str, str]) -> Path:
    """Make something that pages take for granted, unless it is there; return where it is."""
    place = world / thing
    if place.exists():
        return place
    command = _WORLD[thing]
    for other in sorted(needed(command, (thing,))):
        make(other, world, environment)
    place.parent.mkdir(parents=True, exist_ok=True)
    good, printed = run(command, world, environment)
    if not good or not place.exists():
        raise SystemExit(f"{thing} could not be made by: {command}\n{printed}")
    return place


def follow(name: str, path: Path, *, full: bool, world: Path) -> int:
    """Do what a page says in a folder that has a clone, and what the page takes for granted; return how many failed."""
    title = path.relative_to(ROOT).as_posix()
    steps = [
        step._replace(text=replace(step.text, _INSTEAD)) if step.kind == "command" else step
        for step in (
            *(Step("command", command, 0) for command in _BEFORE.get(name, ())),
            *steps_of(path.read_text(encoding="utf-8")),
        )
    ]
    print(f"\n{title}", flush=True)
    failed = resumed = 0
    interpreter: Interpreter | None = None
    with tempfile.TemporaryDirectory(prefix="medgan-page-") as scratch:
        work = Path(scratch) / "clone"
        work.mkdir()
        link_clone(work)
        environment = {**os.environ, "MEDGAN_CACHE": str(world.parent / "cache")}
        scripts = sysconfig.get_path("scripts")
        environment["PATH"] = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        everything = "\n".join(step.text for step in steps)
        for thing in sorted(needed(everything, _OWN.get(name, ()))):
            made, place = make(thing, world, environment), work / thing
            place.parent.mkdir(parents=True, exist_ok=True)
            if thing.startswith("runs/"):  # is written into
                shutil.copytree(made, place)
            else:
                place.symlink_to(made)
        if any("pip install" in part and not left_out(part, page=name) for part in parts_of(everything)):
            scripts = str(make_environment(Path(scratch) / "environment"))
            environment["PATH"] = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        for step in steps:
            if step.kind == "file":
                (work / _FILE.match(step.text)[1]).write_text(step.text, encoding="utf-8")  # type: ignore[index]
        for step in steps:
            start = time.monotonic()
            if step.kind == "file":
                continue
            if step.kind == "python":
                told = f"Python at line {step.line}"
                interpreter = interpreter or Interpreter(work, environment)
                text = step.text if full else replace(step.text, _SHORTER_PYTHON)
                good, printed = interpreter.run(text, file=title, line=step.line)
            else:
                kept = []
                for part in parts_of(step.text):
                    if reason := left_out(part, page=name):
                        print(f"  left out        {part}  ({reason})", flush=True)
                    else:
                        kept.append(part)
                if not kept:
                    continue
                told = " && ".join(kept)
                resumed += "--resume" in told
                told = told if full else shorten(told, resumed=resumed if "--resume" in told else 0)
                good, printed = run(told, work, environment)
            print(f"  {'ok' if good else 'failed':6} {time.monotonic() - start:5.0f} s  {told}", flush=True)
            if not good:
                failed += 1
                for line in printed.splitlines()[-30:]:
                    print(f"      {line}", flush=True)
        if interpreter is not None:
            interpreter.close()
    return failed


def link_clone(folder: Path) -> None:
    """Put what a clone has into a folder."""
    for part in ("docs", "examples", "plugins"):
        (folder / part).symlink_to(ROOT / part)


def main() -> int:
    """Follow what the command line names; return the exit code."""
    pages = find_pages()
    parser = argparse.ArgumentParser(description="Paste the commands and the Python of pages one after the other.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"pages; all if none is named: {', '.join(pages)}")
    parser.add_argument("--full", action="store_true", help="as they stand, not cut short")
    parser.add_argument("--chest-xray", type=Path, metavar="FOLDER", help="the data set, in the place of phantoms")
    parser.add_argument("--world", type=Path, metavar="FOLDER", help="keep there what pages take for granted")
    arguments = parser.parse_args()
    chosen: list[str] = []
    for asked in arguments.names:
        found = [name for name in pages if name == asked or name.endswith(f"/{asked}")]
        if not found:
            parser.error(f"there is no page {asked}; there are {', '.join(pages)}")
        chosen += found
    if arguments.chest_xray is not None and not (arguments.chest_xray / "train").is_dir():
        parser.error(f"--chest-xray {arguments.chest_xray}: there is no folder train in it")
    with contextlib.ExitStack() as stack:
        kept = arguments.world or stack.enter_context(tempfile.TemporaryDirectory(prefix="medgan-world-"))
        world = Path(kept).resolve() / "world"
        if not world.exists():
            world.mkdir(parents=True)
            link_clone(world)
            if arguments.chest_xray is not None:
                (world / "chest_xray").symlink_to(arguments.chest_xray.resolve())
        failed = 0
        for name in dict.fromkeys(chosen or pages):
            failed += follow(name, pages[name], full=arguments.full, world=world)
    print(f"\n{failed} failed." if failed else "\nAll went through.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
