"""docs/follow.py: what it reads of pages, what it cuts short and leaves out, and how it runs the rest."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medgan.data import open_dataset

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def follow() -> dict[str, Any]:
    """Return what docs/follow.py defines."""
    return runpy.run_path(str(DOCS / "follow.py"))


PAGE = """# Title

```console
$ medgan fit --arch acgan \\
    --budget 45m   # so long
what it printed
```

1. Then

   ```console
   $ ls | grep "#"
   ```

   ```python
   a = 1
   ```

```text
$ nothing
```

```python
# plant.py
print("planted")
```
"""


def test_steps(follow: dict[str, Any]) -> None:
    assert [tuple(step) for step in follow["steps_of"](PAGE)] == [
        ("command", "medgan fit --arch acgan --budget 45m", 4),
        ("command", 'ls | grep "#"', 12),
        ("python", "a = 1\n", 16),
        ("file", '# plant.py\nprint("planted")\n', 24),
    ]
    assert follow["commands_of"](PAGE) == ["medgan fit --arch acgan --budget 45m", 'ls | grep "#"']


@pytest.mark.parametrize(
    ("command", "shorter"),
    [
        ("medgan fit --arch acgan --budget 45m", "medgan fit --arch acgan --kimg 0.1"),
        ("medgan fit --arch acgan --name longer", "medgan fit --arch acgan --name longer --kimg 0.1"),
        ("medgan fit --data a --steps 100 --evaluate-every 0", "medgan fit --data a --steps 4 --evaluate-every 0"),
        ("medgan evaluate --model a --steps 300 --seeds 3", "medgan evaluate --model a --steps 4 --seeds 2"),
        ("medgan audit --synthetic a -n 1000", "medgan audit --synthetic a -n 200"),
        ("medgan dose a -n 1000", "medgan dose a -n 1000"),
    ],
)
def test_commands_are_shortened(follow: dict[str, Any], command: str, shorter: str) -> None:
    assert follow["shorten"](command) == shorter


def test_resumed_trainings_go_on(follow: dict[str, Any]) -> None:
    assert follow["shorten"]("medgan fit --resume a", resumed=1) == "medgan fit --resume a --kimg 0.2"
    assert follow["shorten"]("medgan fit --resume a --kimg 300", resumed=2) == "medgan fit --resume a --kimg 0.3"


def test_what_is_left_out_says_why(follow: dict[str, Any]) -> None:
    left_out = follow["left_out"]
    assert left_out("pip install .") == "medgan is there"
    assert left_out("pip install ./plugins/medgan-dcgan") is None
    assert left_out("tox") is not None
    assert left_out("medgan compare --data a", page="plugins/medgan-dcgan") is not None
    assert left_out("medgan compare --data a", page="guides/comparison") is None


def test_every_page_is_followed(follow: dict[str, Any]) -> None:
    """Every page with a block of console or Python, and of each something is run; the tables name nothing else."""
    pages = {name: path.read_text(encoding="utf-8") for name, path in follow["find_pages"]().items()}
    expected = {"README", "index", "tutorials/dicom", "guides/data", "reference/evaluation", "plugins/medgan-3d"}
    assert expected <= set(pages)
    steps = {name: follow["steps_of"](text) for name, text in pages.items()}
    for name, found in steps.items():
        assert [step for step in found if step.kind != "command" or not follow["left_out"](step.text, page=name)], name
    assert set(follow["_OWN"]) | set(follow["_BEFORE"]) <= set(pages)
    said = [f"{name}: {part}" for name, found in steps.items() for step in found for part in step.text.split(" && ")]
    for pattern, _ in (*follow["_LEFT_OUT"], *follow["_SHORTER_PYTHON"]):
        assert [line for line in said if re.search(pattern, line)], pattern
    given = "\n".join([*said, *follow["_WORLD"].values()]).replace("/elsewhere/", "elsewhere/")
    assert [thing for thing in follow["_WORLD"] if not follow["names"](given, thing)] == []


def test_python_keeps_its_names(follow: dict[str, Any], tmp_path: Path) -> None:
    python = follow["Interpreter"](tmp_path, {"PATH": str(Path(sys.executable).parent)})
    assert python.run("a = 1\nprint(2)\n", file="page.md", line=7) == (True, "2\n\n")
    good, printed = python.run("b = a\nb / 0\n", file="page.md", line=11)
    assert not good
    assert re.search(r'File "page.md", line 12\b', printed)
    assert "ZeroDivisionError" in printed
    assert python.run("assert (a, b) == (1, 1)\n", file="page.md", line=20)[0]
    good, printed = python.run("import os\nos._exit(3)\n", file="page.md", line=30)
    assert not good
    assert "Python has ended." in printed
    assert not python.run("a\n", file="page.md", line=40)[0]
    python.close()


def follow_page(follow: dict[str, Any], text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Follow a page in an empty clone; return how many of its steps failed."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setitem(follow["follow"].__globals__, "ROOT", folder)
    for part in ("docs", "examples", "plugins", "world"):
        (folder / part).mkdir()
    failed: int = follow["follow"]("page", page, full=True, world=folder / "world")
    return failed


def test_following_a_page(
    follow: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands and Python in the order of the page and in one folder; what it takes for granted is made before."""
    monkeypatch.setitem(follow["_WORLD"], "path/to/thing", "echo made > path/to/thing")
    text = "```console\n$ python plant.py && ls docs examples\n$ ls planted | grep nothing\n```\n"
    text += "```python\nassert open('planted').read() == open('path/to/thing').read()\n```\n"
    text += "```console\n$ pip install .\n```\n```python\n# plant.py\nopen('planted', 'w').write('made\\n')\n```\n"
    assert follow_page(follow, text, tmp_path, monkeypatch) == 1
    lines = capsys.readouterr().out.splitlines()
    told = [line.split()[0] for line in lines[2:]]
    assert [word for word in told if word in ("ok", "failed", "left")] == ["ok", "failed", "ok", "left"]


@pytest.mark.slow
def test_what_a_page_installs_is_gone_afterwards(
    follow: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that installs something has an environment of its own, which sees this one's packages."""
    text = "```console\n$ python -c 'import medgan, sys; print(sys.prefix)' > made\n"
    text += f"$ grep -v {sys.prefix} made\n$ pip install ./no-such-folder\n```\n"
    assert follow_page(follow, text, tmp_path, monkeypatch) == 1
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert told[:3] == ["ok", "ok", "failed"]


def test_the_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is made for the pages is what they say it is."""
    monkeypatch.chdir(tmp_path)

    def make(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["follow_world.py", *words])
        runpy.run_path(str(DOCS / "follow_world.py"), run_name="__main__")

    make("chests", "chests", "10", "NORMAL/IM-{:04}-0001.jpeg", "PNEUMONIA/person{}_bacteria_1.jpeg", "--pixels", "32")
    dataset = open_dataset("chests", size=32, patient_regex="kermany")
    assert dataset.index["label"].value_counts().to_dict() == {"NORMAL": 6, "PNEUMONIA": 4}
    assert dataset.index["patient_id"].nunique() == 10
    make("slices", "ct", "3")
    values = pydicom.dcmread("ct/PNEUMONIA/slice001.dcm").pixel_array.astype(int) - 1024
    assert np.percentile(values, 1) < -900
    assert np.percentile(values, 90) > 0
    make("chexpert", "CheXpert-v1.0-small", "8")
    found = open_dataset(
        "CheXpert-v1.0-small", size=32, layout="chexpert", labels=("Pneumonia",), uncertain="drop", missing="negative"
    )
    assert len(found) == 8  # two of ten are uncertain
