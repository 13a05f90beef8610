from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

QUICK = ("--seeds", 1, "--steps", 2, "--replicates", 100, "--jobs", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def run(medgan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that held patients out for validation and test."""
    folder = tmp_path_factory.mktemp("runs") / "held"
    return medgan.fit(folder, "--steps", 2, "--validation", 0.3, "--test", 0.3)


@pytest.fixture(scope="module")
def study(medgan, run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("studies") / "study"
    result = medgan.works("evaluate", "--model", run, "--arms", "real,synthetic", "--out", out, *QUICK)
    return out, result.stdout


def test_a_study(study: tuple[Path, str], run: Path) -> None:
    out, said = study
    assert {"index.html", "summary.json", "arms.csv", "runs.csv", "arms.md", "predictions.csv", "runs"} <= {
        path.name for path in out.iterdir()
    }
    summary = json.loads((out / "summary.json").read_text())
    assert [result["arm"] for result in summary["results"]] == ["real", "synthetic"]
    splits = json.loads((run / "data" / "splits.json").read_text())["parts"]
    predictions = pd.read_csv(out / "predictions.csv", dtype=str)
    assert sorted(predictions["file"]) == sorted(splits["test"])
    for sentence in summary["verdict"]["sentences"]:
        assert sentence in said
    assert summary["facts"]["command"].startswith("medgan")
    assert summary["facts"]["banners"] == summary["facts"]["notes"] == []
    assert summary["on_synthetic"][0]["arm"] == "real"


def test_going_on_with_more_arms(medgan, study: tuple[Path, str], run: Path, tmp_path: Path) -> None:
    out = study[0]
    before = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    message = medgan.fails("evaluate", "--model", run, "--out", out, *QUICK)
    assert "--resume" in message
    medgan.works(
        "evaluate", "--model", run, "--arms", "real,synthetic,real-augmented", "--out", out, "--resume", *QUICK
    )
    after = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    assert before.items() < after.items()
    assert len(after) == len(before) + 1


def test_a_saved_model_leads_to_its_run(medgan, run: Path, tmp_path: Path) -> None:
    result = medgan.works("evaluate", "--model", run / "model", "--arms", "real", "--out", tmp_path / "study", *QUICK)
    assert "not known" not in result.stdout


def test_one_part_held_out_is_divided(medgan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        file = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(file)
        patient = number // 2  # the source itself says which of them are for validation, as CheXpert does
        split = "valid" if patient >= 10 else "train"
        rows.append({"path": str(file), "label": "AB"[patient % 2], "patient_id": f"p{patient}", "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    medgan.works(
        "fit", "--data", tmp_path / "table.csv", "--size", 32, "--preset", "tiny", "--device", "cpu", "--steps", 1,
        "--outdir", tmp_path, "--name", "half",
    )  # fmt: skip
    model = ("--model", tmp_path / "half")
    result = medgan.works("evaluate", *model, "--arms", "real", "--out", tmp_path / "study", *QUICK)
    assert "held out one part only" in result.stdout
    assert "they are not wholly new to it" in result.stdout
    cohorts = json.loads((tmp_path / "study" / "summary.json").read_text())["cohorts"]
    assert {part: (found["images"], found["patients"]) for part, found in cohorts.items()} == {
        "validation": (8, 4),
        "test": (12, 6),
    }


def test_images_that_were_sampled_before(medgan, run: Path, tmp_path: Path) -> None:
    medgan.works("sample", "--model", run, "-n", 60, "--out", tmp_path / "made", "--device", "cpu")
    common = ("--synthetic", tmp_path / "made", "--arms", "real,synthetic-0.2x", "--size", 32, *QUICK)
    real = "phantom://chest?n=40&seed=9"
    result = medgan.works("evaluate", "--real", real, *common, "--out", tmp_path / "study")
    assert "It is not known which images the generator was trained on" in result.stdout
    # The very data of the generator, divided in another way.
    message = medgan.fails("evaluate", "--real", "phantom://chest?n=40&seed=1", *common, "--out", tmp_path / "leak")
    assert "divided in another way" in message
    assert not (tmp_path / "leak").exists()
    leaky = medgan.works(
        "evaluate", "--real", "phantom://chest?n=40&seed=1", *common, "--out", tmp_path / "leak", "--allow-leakage"
    )
    assert "Void:" in leaky.stdout
    assert "Void:" in (tmp_path / "leak" / "index.html").read_text(encoding="utf-8")


def test_samples_beside_the_patients_of_their_run(medgan, run: Path, tmp_path: Path) -> None:
    medgan.works("sample", "--model", run, "-n", 60, "--out", tmp_path / "made", "--device", "cpu")
    result = medgan.works(
        "evaluate", "--real", run, "--synthetic", tmp_path / "made", "--arms", "real,synthetic-0.2x", "--out",
        tmp_path / "study", *QUICK,
    )  # fmt: skip
    assert "not known" not in result.stdout
    parts = json.loads((run / "data" / "splits.json").read_text())["parts"]
    summary = json.loads((tmp_path / "study" / "summary.json").read_text())
    assert summary["cohorts"]["test"]["images"] == len(parts["test"])


@pytest.mark.filterwarnings("ignore:The data.*is split file by file")
def test_images_of_the_training_as_another_test_set(medgan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        file = tmp_path / "images" / "AB"[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(file)
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    common = (
        "evaluate",
        "--real",
        tmp_path / "images",
        "--size",
        16,
        "--arms",
        "real",
        "--test-set",
        tmp_path / "copy",
    )
    message = medgan.fails(*common, "--out", tmp_path / "study")
    assert "of the 40 test images are, pixel by pixel, training images too" in message
    assert not (tmp_path / "study").exists()
    result = medgan.works(*common, "--out", tmp_path / "study", "--allow-leakage", *QUICK)
    assert "Void:" in result.stdout


def test_another_test_set(medgan, run: Path, tmp_path: Path) -> None:
    result = medgan.works(
        "evaluate", "--model", run, "--arms", "real", "--test-set", "phantom://chest?n=30&seed=5", "--out",
        tmp_path / "study", *QUICK,
    )  # fmt: skip
    assert "all held-out patients choose" in result.stdout
    summary = json.loads((tmp_path / "study" / "summary.json").read_text())
    assert summary["cohorts"]["test"]["images"] == 30


@pytest.mark.filterwarnings("ignore:The data.*is split file by file")
def test_another_test_set_is_read_as_the_run_was(medgan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        file = tmp_path / "images" / "AB"[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(60, 160, (32, 32), dtype=np.uint8)).save(file)
    shutil.copytree(tmp_path / "images", tmp_path / "elsewhere")
    options = ("--contrast", "percentile", "--size", 32, "--preset", "tiny", "--device", "cpu", "--steps", 1)
    shares = ("--validation", 0.3, "--test", 0.3, "--outdir", tmp_path, "--name", "run")
    medgan.works("fit", "--data", tmp_path / "images", *options, *shares)
    common = ("evaluate", "--model", tmp_path / "run", "--arms", "real", "--test-set", tmp_path / "elsewhere", *QUICK)
    message = medgan.fails(*common, "--out", tmp_path / "study")
    assert "of the 40 test images are, pixel by pixel, training images too" in message
    # What is typed wins, and is of the test set: then they are other pixels, and the next mistake is found.
    message = medgan.fails(*common, "--contrast", "none", "--subgroups", "ward", "--out", tmp_path / "study")
    assert "no column 'ward'" in message


def test_the_report(medgan, run: Path, tmp_path: Path) -> None:
    result = medgan.works(
        "evaluate", "--model", run, "--protocol", "report", "--classifier", "small-cnn", "--images", 40, "--epochs", 1,
        "--out", tmp_path / "report", "--device", "cpu",
    )  # fmt: skip
    assert "held-out patients" in result.stdout
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    splits = json.loads((run / "data" / "splits.json").read_text())["parts"]
    seen, new = facts["results"]
    assert seen["count"] == len(splits["train"])
    assert new["count"] == len(splits["validation"]) + len(splits["test"])
    for entry in facts["results"]:
        confusion = np.array(entry["confusion"])
        assert confusion.sum() == entry["count"]
        assert entry["accuracy"] == pytest.approx(np.trace(confusion) / entry["count"])
        assert [row["support"] for row in entry["per_class"]] == confusion.sum(axis=1).tolist()  # rows are the truth
        assert entry["majority"]["accuracy"] == pytest.approx(confusion.sum(axis=1).max() / entry["count"])
    made = facts["synthetic"]
    assert made["held_out_for_stopping"] == {"NORMAL": 4, "PNEUMONIA": 4}
    assert made["training"] == {"NORMAL": 16, "PNEUMONIA": 16}
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "says nothing about new patients" in page


def test_mistakes(medgan, here: Path, run: Path) -> None:
    def fails(*arguments: object) -> str:
        message = medgan.fails("evaluate", *arguments)
        assert list(here.iterdir()) == []
        return message

    assert "--real is needed" in fails("--arms", "real")
    assert "no folder missing" in fails("--model", "missing")
    assert "Pass one of them" in fails("--model", run, "--synthetic", "made")
    assert "Did you mean 'synthetic'" in fails("--model", run, "--arms", "real,syntetic")
    assert "--fractions" in fails("--model", run, "--fractions", "2")
    assert "--epochs is not for --protocol study" in fails("--model", run, "--epochs", 3)
    assert "--arms is not for --protocol report" in fails("--model", run, "--protocol", "report", "--arms", "real")
    assert "needs one --model" in fails("--protocol", "report", "--real", "phantom://chest")
    for option in ("--resume", "--allow-leakage", ("--jobs", 2), ("--truncation", 0.5), ("--test-set", "other")):
        flag, *value = (option,) if isinstance(option, str) else option
        message = fails("--model", run, "--protocol", "report", flag, *value)
        assert f"{flag} is not for --protocol report" in message
    other = ("--real", "phantom://chest?n=40&seed=9", "--size", 32)
    assert "these are others" in fails("--model", run, *other, "--protocol", "report")
    assert "expected at least 0.001" in fails("--model", run, "--margin", 0)
    assert "--size is not for a run" in fails("--real", run, "--arms", "real", "--size", 32)
    assert "Did you mean 'small-cnn'" in fails("--model", run, "--classifier", "smallcnn")
    assert "need synthetic images" in fails("--real", "phantom://chest?n=40", "--size", 32)
    assert "--cv repeats the training of one run" in fails("--real", "phantom://chest", "--cv", 3)
    assert "no column 'ward'" in fails("--model", run, "--subgroups", "ward")


def test_a_run_that_held_nobody_out(medgan, tmp_path: Path) -> None:
    folder = medgan.fit(tmp_path / "all", "--steps", 1, "--validation", 0)
    for more in ((), ("--test-set", "phantom://chest?n=30&seed=5")):
        message = medgan.fails("evaluate", "--model", folder, *more, "--out", tmp_path / "study")
        assert "held nobody out" in message
        assert "--test-set" not in message


def test_a_class_without_test_patients(medgan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        file = tmp_path / "images" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(file)
        split = ("train", "val", "test")[number // 8]
        label = "A" if split == "test" or number % 2 else "B"
        rows.append({"path": str(file), "label": label, "patient_id": f"p{number}", "split": split})
    table = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    message = medgan.fails("evaluate", "--real", table, "--size", 16, "--arms", "real", "--out", tmp_path / "study")
    assert "The test part has no image of B" in message


@pytest.mark.slow
def test_cross_validation(medgan, run: Path, tmp_path: Path) -> None:
    how = ("evaluate", "--model", run, "--arms", "real,synthetic", "--cv", 2, "--out", tmp_path / "folds", *QUICK)
    medgan.works(*how)
    facts = json.loads((tmp_path / "folds" / "cross-validation.json").read_text())
    tested = [
        set(json.loads((tmp_path / "folds" / f"fold-{fold}" / "splits.json").read_text())["parts"]["test"])
        for fold in range(2)
    ]
    assert len(tested[0]) + len(tested[1]) == len(tested[0] | tested[1]) == 40
    for fold in range(2):
        seen = json.loads((tmp_path / "folds" / f"fold-{fold}" / "generator" / "data" / "splits.json").read_text())
        assert set(seen["parts"]["test"]) == tested[fold]
    values = facts["arms"][1]["scores"]["auroc"]["folds"]
    assert facts["arms"][1]["scores"]["auroc"]["value"] == pytest.approx(np.mean(values))
    assert (tmp_path / "folds" / "index.html").is_file()
    weights = tmp_path / "folds" / "fold-1" / "generator" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    medgan.works(*how, "--resume")
    assert weights.stat().st_mtime_ns == before
