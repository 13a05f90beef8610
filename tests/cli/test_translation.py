"""Translations on the command line: pairs are trained on, folders are translated, anything else says why not."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan import registry
from medgan.core import GAN
from medgan.data import phantom

PAIRS = "phantom://chest-lowdose?n=30"


@pytest.fixture(scope="module", autouse=True)
def _registered(plain_pairs: type[GAN]) -> Iterator[None]:
    registry.register(plain_pairs)
    yield
    registry.unregister("plain-pairs")


@pytest.fixture(scope="module")
def run(medgan, tmp_path_factory) -> Path:
    """A run folder of four steps; look, but do not write."""
    folder = tmp_path_factory.mktemp("runs") / "pairs"
    options = ("--arch", "plain-pairs", "--data", PAIRS, "--size", "32", "--device", "cpu", "--validation", "0.3")
    medgan.works("fit", *options, "--steps", 4, "--evaluate-every", 2, "--outdir", folder.parent, "--name", folder.name)
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_run_folder(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"evaluation/ssim", "evaluation/psnr"} <= {name for row in rows for name in row}
    assert (run / "checkpoints" / "best" / "model.json").is_file()
    assert (run / "samples" / "real.png").is_file()
    facts = json.loads((run / "model" / "model.json").read_text())
    assert facts["data"]["source_channels"] == 1
    header = (run / "data" / "index.csv").read_text().splitlines()[0]
    assert "source_path" in header


def test_without_data_there_are_pairs(medgan, tmp_path, monkeypatch):
    monkeypatch.setitem(phantom._COUNTS, "chest-lowdose", 20)
    options = ("--arch", "plain-pairs", "--device", "cpu", "--steps", 1, "--outdir", tmp_path)
    text = medgan.works("fit", *options).stdout
    assert text.startswith("Data: chest-lowdose (phantom://chest-lowdose, as there is no --data), ")
    assert "[default: phantom://chest-lowdose]" in " ".join(medgan.works("fit", *options[:2], "--help").stdout.split())


def test_resume_is_exact(medgan, run, tmp_path):
    options = ("--arch", "plain-pairs", "--data", PAIRS, "--size", "32", "--device", "cpu", "--validation", "0.3")
    again = (*options, "--evaluate-every", 0, "--outdir", tmp_path)
    medgan.works("fit", *again, "--steps", 2, "--name", "halves")
    medgan.works("fit", "--resume", tmp_path / "halves", "--steps", 4)
    whole, halves = (json.loads((folder / "model" / "model.json").read_text()) for folder in (run, tmp_path / "halves"))
    assert whole["sha256"] == halves["sha256"]


def test_folder_is_translated_file_by_file(medgan, run, tmp_path):
    rng = np.random.default_rng(0)
    odd = os.fsdecode(b"z\xf6.png")  # as an old share may have it
    for name in ("ward/scan.v2.png", "scan.bmp", "scan.png", odd):
        path = tmp_path / "in" / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(path)
    out = tmp_path / "out"
    medgan.works("sample", "--model", run, "--source", tmp_path / "in", "--out", out, "--seed", 7, "--grid")
    table = (out / "samples.csv").read_text(errors="surrogateescape")
    rows = list(csv.DictReader(table.splitlines()))
    assert {row["source"]: row["path"] for row in rows} == {
        "all/scan.bmp": "all/scan.png",
        "all/scan.png": "all/scan-2.png",
        "all/ward/scan.v2.png": "all/ward/scan.v2.png",
        f"all/{odd}": "all/z_.png",
    }
    assert [row["seed"] for row in rows] == ["7", "8", "9", "10"]
    assert {size_of(out / row["path"]) for row in rows} == {(32, 32)}
    assert size_of(tmp_path / "out-grid.png")[0] > 3 * 96
    medgan.works("sample", "--model", run, "--source", tmp_path / "in", "--out", tmp_path / "again", "--seed", 7)
    for row in rows:
        assert (out / row["path"]).read_bytes() == (tmp_path / "again" / row["path"]).read_bytes()


def test_what_is_not_translated_is_said(medgan, run, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.fromarray(np.eye(32, dtype=np.uint8) * (200 + number)).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "2.png").write_bytes(b"")
    command = ("sample", "--model", run, "--source", tmp_path / "in", "--out", tmp_path / "o")
    result = medgan.works(*command, "--max-bad", 0.5)
    assert f"2 images: {tmp_path / 'o'}" in result.stdout
    assert "Left out 1 of --source that cannot be used, for example 2.png: empty file (0 bytes) (" in result.stderr


def test_sources_of_pairs_are_translated_to_an_array(medgan, run, tmp_path):
    medgan.works("sample", "--model", run, "--source", PAIRS, "--out", tmp_path / "o", "--format", "npz")
    with np.load(tmp_path / "o" / "samples.npz") as arrays:
        assert arrays["train_images"].shape == (30, 32, 32)
        assert arrays["sources"][0].startswith("source/")


def test_sources_are_read_as_those_of_the_run(medgan, run, tmp_path, monkeypatch):
    (tmp_path / "dimming.py").write_text("def darker(image):\n    return image * 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = ("--arch", "plain-pairs", "--data", PAIRS, "--size", "32", "--device", "cpu", "--steps", 1)
    own = ("--transforms", "dimming:darker", "--outdir", tmp_path, "--name", "darker")
    medgan.works("fit", *options, "--evaluate-every", 0, *own)
    command = ("sample", "--model", tmp_path / "darker", "--source", PAIRS, "--out", tmp_path / "o")
    assert "was begun with --transforms dimming:darker, not None" in medgan.fails(*command)
    medgan.works(*command, "--transforms", "dimming:darker")
    typed = ("sample", "--model", run, "--source", PAIRS)
    for name, more in (("plain", ()), ("clahe", ("--contrast", "clahe"))):
        medgan.works(*typed, "--out", tmp_path / name, *more)
    first = next((tmp_path / "plain").rglob("*.png")).relative_to(tmp_path / "plain")
    assert (tmp_path / "plain" / first).read_bytes() != (tmp_path / "clahe" / first).read_bytes()
    assert "--contrast says how --source is read" in medgan.fails("sample", "--model", run, "--contrast", "clahe")


def test_paths_of_a_table_do_not_leave_the_folder(medgan, run, tmp_path):
    pictures = tmp_path / "elsewhere"
    pictures.mkdir()
    Image.fromarray(np.eye(32, dtype=np.uint8) * 200).save(pictures / "a.png")
    (tmp_path / "table.csv").write_text(f"path\n{pictures / 'a.png'}\n")
    medgan.works("sample", "--model", run, "--source", tmp_path / "table.csv", "--out", tmp_path / "o")
    assert (tmp_path / "o" / "a.png").is_file()


def test_what_cannot_be(medgan, run, fitted, tmp_path):
    out = ("--out", tmp_path / "o")
    assert "needs some. Type medgan sample --model RUN --source FOLDER" in medgan.fails("sample", "--model", run, *out)
    assert "acgan makes images from nothing" in medgan.fails("sample", "--model", fitted, "--source", PAIRS, *out)
    assert "leave out -n" in medgan.fails("sample", "--model", run, "--source", PAIRS, "-n", 3, *out)
    small = ("--size", "32", "--device", "cpu", "--steps", 1, "--outdir", tmp_path)
    assert "acgan (from medgan) makes images from nothing" in medgan.fails(
        "fit", "--data", PAIRS, "--batch-size", 8, *small
    )
    nothing = medgan.fails("fit", "--arch", "plain-pairs", "--data", "phantom://chest?n=20", *small)
    assert "--layout pairs" in nothing
    assert "phantom://chest-lowdose" in nothing


def test_reverse_is_for_those_that_learn_it(medgan, run, fitted, tmp_path):
    out = ("--out", tmp_path / "o", "--reverse")
    message = medgan.fails("sample", "--model", run, "--source", PAIRS, *out)
    assert "plain-pairs translates one way only" in message
    assert "acgan does not translate" in medgan.fails("sample", "--model", fitted, *out)
