from __future__ import annotations

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


# What an example leaves behind; those that are not here have to print something at least.
CHECKS = {
    "linear_probe": check_linear_probe,
    "quickstart": check_quickstart,
    "simulated_readers": check_simulated_readers,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    output = run(path, tmp_path)
    assert output.strip()
    if path.stem in CHECKS:
        CHECKS[path.stem](tmp_path, output)


def test_every_check_has_its_example():
    assert set(CHECKS) <= {path.stem for path in EXAMPLES}
