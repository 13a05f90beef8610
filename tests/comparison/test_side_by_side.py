"""Trainings in processes of their own, from the command line; two that work and one that fails at first."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click.testing
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from medgan.cli.main import main
from medgan.data import ImageDataset
from medgan.data.pixels import to_uint8
from medgan.evaluation.fidelity import measure_fidelity
from medgan.metrics.extractors import get_extractor
from medgan.models import load_model
from medgan.runs import reopen

pytestmark = pytest.mark.slow

QUICK = ("--metrics", "frechet,diversity", "--extractor", "random-conv", "--samples", "3", "--halvings", "2")
COMMAND = (
    *("compare", "--archs", "acgan:tiny,broken,plain", "--data", "phantom://chest?n=80&seed=1", "--size", "32"),
    *("--kimg", "0.05", "--validation", "0.2", "--test", "0.3", "--seed", "3", "--evaluate-every", "3"),
    *("--log-every", "2", "--device", "cpu", *QUICK),
)


class Done(NamedTuple):
    out: Path
    facts: dict[str, Any]
    result: click.testing.Result


def run(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def done(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The comparison after its first time, in which one training failed."""
    out = tmp_path_factory.mktemp("comparisons") / "first"
    result = run(*COMMAND, "--out", out)
    return Done(out, json.loads((out / "comparison.json").read_text(encoding="utf-8")), result)


def entry(facts: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in facts["trainings"] if each["name"] == name]
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_training_that_fails_is_named_and_the_others_go_on(done: Done) -> None:
    assert done.result.exit_code == 1
    broken = entry(done.facts, "broken")
    assert (broken["status"], broken["error"]) == ("failed", "RuntimeError: the loss [is] broken")
    assert "broken failed: RuntimeError: the loss [is] broken" in done.result.output
    assert [each["status"] for each in done.facts["trainings"]] == ["done", "failed", "done"]
    assert "the loss [is] broken" in (done.out / "index.html").read_text(encoding="utf-8")
    assert "the loss [is] broken" in (done.out / "table.md").read_text(encoding="utf-8")
    assert "Traceback" in json.loads((done.out / "outcomes" / "broken.json").read_text())["traceback"]


@pytest.mark.parametrize("name", ["acgan-tiny", "plain"])
def test_figures_are_those_of_the_run(done: Done, name: str) -> None:
    found, folder = entry(done.facts, name), done.out / name
    logged = rows(folder)
    assert (found["steps"], found["images_seen"]) == (logged[-1]["step"], logged[-1]["images"]) == (7, 56)
    trained = [row for row in logged if "images_per_second" in row]
    seen = np.diff([0, *(row["images"] for row in trained)])
    seconds = float((seen / [row["images_per_second"] for row in trained]).sum())
    assert found["seconds"] == pytest.approx(seconds)
    assert found["images_per_second"] == pytest.approx(56 / seconds)
    evaluated = [row for row in logged if "evaluation/score" in row]
    assert len(evaluated) == len(found["evaluations"]) >= 2
    for mine, theirs in zip(found["evaluations"], evaluated, strict=True):
        assert (mine["step"], mine["images"]) == (theirs["step"], theirs["images"])
        assert 0 < mine["seconds"] <= seconds * 1.000001
        for figure in ("score", "kernel_distance", "coverage"):
            assert mine[figure] == theirs[f"evaluation/{figure}"]
    model = json.loads((folder / "checkpoints" / "best" / "model.json").read_text())
    assert found["best"]["sha256"] == model["sha256"]
    assert found["best"]["steps"] == model["evaluation"]["step"]
    sizes = re.search(r"generator ([\d,]+) and discriminator ([\d,]+) parameters", (folder / "log.txt").read_text())
    assert sizes is not None
    assert list(found["parameters"].values()) == [int(text.replace(",", "")) for text in sizes.groups()]
    assert sum(value.numel() for value in load_model(folder).generator.parameters()) == found["parameters"]["generator"]
    assert 100 * 2**20 < found["peak_memory_bytes"] < 8 * 2**30
    outcome = json.loads((done.out / "outcomes" / f"{name}.json").read_text())
    assert outcome["peak_memory_bytes"] == found["peak_memory_bytes"]


def test_all_see_the_same_patients(done: Done) -> None:
    splits = [json.loads((done.out / name / "data" / "splits.json").read_text()) for name in ("acgan-tiny", "plain")]
    assert splits[0] == splits[1]
    opened = reopen(done.out / "plain")
    assert opened.whole.labels is None
    assert len(opened.parts["test"]) == done.facts["reference"]["images"]
    assert done.facts["reference"]["part"] == "test"
    assert "plain learns no labels: it does not see which images are NORMAL, PNEUMONIA" in (
        (done.out / "plain" / "log.txt").read_text()
    )


def test_all_are_looked_at_with_the_same_features(done: Done) -> None:
    features = {entry(done.facts, name)["best"]["features"] for name in ("acgan-tiny", "plain")}
    assert len(features) == 1
    assert None not in features
    assert "class_consistency" in entry(done.facts, "acgan-tiny")["evaluations"][0]
    assert "class_consistency" not in entry(done.facts, "plain")["evaluations"][0]


def test_the_floor_is_the_same_for_all(done: Done) -> None:
    found = [
        next(score for score in entry(done.facts, name)["scores"] if score["metric"] == "frechet_distance")
        for name in ("acgan-tiny", "plain")
    ]
    floors = [{key: score["floor"][key] for key in ("mean", "spread", "images")} for score in found]
    assert floors[0] == floors[1]
    assert all(score["interval"] is not None for score in found)
    assert done.facts["floors"][0] | floors[0] == done.facts["floors"][0]


def test_the_best_models_are_measured_beside_the_test_patients(done: Done) -> None:
    gan, reference = load_model(done.out / "acgan-tiny"), reopen(done.out / "acgan-tiny").parts["test"]
    assert reference.spec.labels is not None
    count = len(reference)
    labels = np.repeat([0, 1], list(reference.class_counts().values())).tolist()
    samples = [
        ImageDataset.from_arrays(
            to_uint8(gan.sample(count, labels=labels, seed=3 + number * count).images),
            labels,
            names=reference.spec.labels.names,
        )
        for number in range(3)
    ]
    extractor = get_extractor("random-conv")
    report = measure_fidelity(reference, samples, extractors=[extractor], metrics=["frechet"], halvings=2, seed=3)
    (expected,) = report.scores
    (found,) = [each for each in entry(done.facts, "acgan-tiny")["scores"] if each["metric"] == "frechet_distance"]
    assert found["value"] == pytest.approx(expected.value, rel=1e-6)
    assert expected.floor is not None
    assert found["floor"]["mean"] == pytest.approx(expected.floor.mean, rel=1e-6)


def test_tables(done: Done) -> None:
    table = pd.read_csv(done.out / "table.csv").set_index("name")
    assert list(table.index) == ["acgan-tiny", "broken", "plain", "real beside real"]
    for name in ("acgan-tiny", "plain"):
        found = entry(done.facts, name)
        (score,) = [each for each in found["scores"] if each["metric"] == "frechet_distance"]
        row = table.loc[name]
        assert row["frechet_distance"] == pytest.approx(score["value"])
        assert row["frechet_distance_low"] == pytest.approx(score["interval"]["low"])
        assert row["frechet_distance_relative"] == pytest.approx(score["relative"])
        assert row["images_seen"] == found["images_seen"]
        assert row["peak_memory_bytes"] == found["peak_memory_bytes"]
    floor = done.facts["floors"][0]
    assert table.loc["real beside real", "frechet_distance"] == pytest.approx(floor["mean"])
    assert table.loc["real beside real", "frechet_distance_spread"] == pytest.approx(floor["spread"])
    assert np.isnan(table.loc["broken", "frechet_distance"])
    text = (done.out / "table.md").read_text(encoding="utf-8")
    assert "| real beside real |" in text
    with (done.out / "table.csv").open(encoding="utf-8") as stream:
        assert len({len(row) for row in csv.reader(stream)}) == 1


def test_pictures(done: Done) -> None:
    names = {path.name for path in (done.out / "figures").iterdir()}
    assert names == {"quality.png", "metrics.png", "samples-acgan-tiny.png", "samples-plain.png", "real.png"}
    for name in names:
        with Image.open(done.out / "figures" / name) as picture:
            assert np.ptp(np.asarray(picture)) > 0
    page = (done.out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    assert "This page shows images of real patients" not in page  # nobody is in the phantom
    assert "plain makes images without labels" in page


def test_nothing_is_done_twice_and_what_failed_is_tried_again(done: Done, site: Path) -> None:
    weights = done.out / "plain" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (site / "mended").touch()
    sys.modules.pop("rivals", None)
    try:
        result = run(*COMMAND, "--out", done.out, "--no-real-images")
    finally:
        (site / "mended").unlink()
    assert result.exit_code == 0, result.output
    assert weights.stat().st_mtime_ns == before
    assert "acgan-tiny (1 of 3, preset tiny): done before" in result.output
    facts = json.loads((done.out / "comparison.json").read_text(encoding="utf-8"))
    assert [each["status"] for each in facts["trainings"]] == ["done"] * 3
    assert entry(facts, "broken")["scores"]
    assert entry(facts, "plain") == entry(done.facts, "plain")
    assert not (done.out / "figures" / "real.png").exists()


def test_another_plan_in_the_folder(done: Done) -> None:
    for change in (("--seed", "4"), ("--kimg", "0.06"), ("--archs", "acgan:tiny,plain"), ("--size", "64")):
        result = run(*COMMAND, *change, "--out", done.out)
        assert result.exit_code == 2
        assert "holds another comparison" in result.output


def test_one_at_a_time(done: Done) -> None:
    with FileLock(done.out / ".lock"):
        result = run(*COMMAND, "--out", done.out)
    assert result.exit_code == 2
    assert "Another medgan compare is at work" in result.output
