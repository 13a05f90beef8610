from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan.models import load_model
from medgan.reader_study import load_study

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def run(path: Path, folder: Path) -> str:
    """Run an example as its reader would; all of them take --steps."""
    process = subprocess.run(
        [sys.executable, str(path), "--steps", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    return process.stdout


def check_quickstart(folder: Path, output: str) -> None:
    assert "32 images in quickstart.png" in output
    with Image.open(folder / "quickstart.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] == 2 * 2 * 98 + 2  # 16 images of each class, eight in a row
    assert pixels[:, -8 * 98 :].std() > 5
    assert load_model(folder / "quickstart-model").data.num_labels == 2


def check_linear_probe(folder: Path, output: str) -> None:
    assert "; 0 patients on both sides" in output
    scores = dict(re.findall(r"^AUROC of .*?(untrained|trained|guess).*: (\d\.\d+)$", output, re.MULTILINE))
    assert set(scores) == {"untrained", "trained", "guess"}
    assert float(scores["guess"]) == 0.5
    assert all(0.5 < float(scores[name]) <= 1 for name in ("untrained", "trained"))


def check_simulated_readers(folder: Path, output: str) -> None:
    truth = re.search(r"^The truth: an area under the curve of (\d\.\d+)\.$", output, re.MULTILINE)
    found = re.search(r"of 5 readers was (\d\.\d+) \(95 % interval (\d\.\d+) to (\d\.\d+)", output)
    assert truth
    assert found
    assert float(found[2]) < float(truth[1]) < float(found[3])
    assert load_study(folder / "simulated-study").judgements()["reader"].nunique() == 5


def check_interpolation(folder: Path, output: str) -> None:
    with Image.open(folder / "interpolation.png") as picture:
        assert picture.size[1] == 2 * 98 + 2  # one row of each class
    between, largest, ends = map(float, re.findall(r"\d\.\d{4}", output))
    assert 0 < between <= largest < ends


def check_honest_metrics(folder: Path, output: str) -> None:
    floors = re.findall(r": floor (\S+) ± \S+ with (\d+) images a side$", output, re.MULTILINE)
    found = re.findall(r"^  (.+): (\S+) at that number", output, re.MULTILINE)
    assert len(floors) == 2
    assert [name for name, _ in found] == ["other real patients", "GAN, 2 steps", "noise"] * 2
    for (floor, _), place in zip(floors, (0, 3), strict=True):
        real, gan, noise = (float(value) for _, value in found[place : place + 3])
        assert (
            abs(real - float(floor)) < min(gan, noise) / 3
        )  # other patients are at the floor, the rest is far from it


def check_augmentation_study(folder: Path, output: str) -> None:
    scores = re.findall(r"AUROC (\d\.\d+) \((\d\.\d+) to (\d\.\d+)\)$", output, re.MULTILINE)
    assert len(scores) == 3
    assert all(0 <= float(low) <= float(value) <= float(high) <= 1 for value, low, high in scores)


def check_replaced_loss(folder: Path, output: str) -> None:
    assert re.findall(r"^(\S+): the discriminator is right in \d+%", output, re.MULTILINE) == ["acgan", "lsq-acgan"]


# What an example leaves behind; those that are not here have to print something at least.
CHECKS = {
    "linear_probe": check_linear_probe,
    "quickstart": check_quickstart,
    "simulated_readers": check_simulated_readers,
    "augmentation_study": check_augmentation_study,
    "honest_metrics": check_honest_metrics,
    "interpolation": check_interpolation,
    "replaced_loss": check_replaced_loss,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    output = run(path, tmp_path)
    assert output.strip()
    assert (tmp_path / f"{path.stem}.png").is_file()
    for picture in tmp_path.glob("*.png"):
        with Image.open(picture) as opened:
            assert np.asarray(opened.convert("L")).std() > 5
    if path.stem in CHECKS:
        CHECKS[path.stem](tmp_path, output)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_as_the_gallery_needs_it(path):
    title, line, blank, *text = str(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=True)).split(
        "\n"
    )
    assert line == "=" * len(title), f"underline the title of {path.name}"
    assert blank == ""
    assert text


def test_every_check_has_its_example():
    assert set(CHECKS) <= {path.stem for path in EXAMPLES}
