from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medgan.core.saving import read_model, write_model
from medgan.core.spec import LabelSpec
from medgan.data.splits import Splits
from medgan.errors import CheckpointError, ConfigError, DataError
from medgan.evaluation.fidelity.records import FidelityReport, Floor, Interval, Score
from medgan.evaluation.records import ClassifierRun, Cohort, Study
from medgan.evaluation.summary import summarise
from medgan.model_card import RESULTS, make_card, write_card

FACTS: dict[str, Any] = {
    "architecture": "acgan",
    "config": {"seed": 0},
    "data": {"channels": 1, "size": [8, 8], "labels": {"kind": "categorical", "names": ["NORMAL", "PNEUMONIA"]}},
    "training": {"steps": 10, "images_seen": 80},
    "training_data": {
        "name": "scans",
        "images": 4,
        "patients": 2,
        "licence": "CC BY 4.0",
        "citation": "Doe et al., 2020",
        "class_counts": {"NORMAL": 2, "PNEUMONIA": 2},
        "fingerprint": "f" * 64,
    },
    "reference": "arXiv:1610.09585",
}
EVIL = "<img src=x onerror=alert(1)>|[a](http://evil)"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a latest and a best model."""
    folder = tmp_path / "run"
    for place, step in (("model", 10), ("checkpoints/best", 7)):
        facts = FACTS | ({"evaluation": {"step": 7, "score": 0.5}} if step == 7 else {})
        write_model(folder / place, {"w": torch.full((2,), float(step))}, facts)
    options = {"data": "/home/ada/scans", "device": "cpu", "precision": "fp32", "pipeline": "xray"}
    (folder / "config.json").write_text(json.dumps(options))
    parts = {"train": tuple("abcd"), "validation": ("e", "f"), "test": ("g",)}
    Splits("patient", 5, parts).write(folder / "data" / "splits.json")
    index = pd.DataFrame({"file": list("abcdefg"), "patient_id": ["1", "1", "2", "2", "3", "3", ""]})
    index.to_csv(folder / "data" / "index.csv", index=False)
    return folder


def weights(run: Path, place: str = "checkpoints/best") -> str:
    return str(read_model(run / place)[1]["sha256"])


def put(path: Path, values: Any, *, age: int = 0) -> Path:
    """Write results, so many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def fidelity(sha256: str | None, *, label: str = "NORMAL") -> dict[str, Any]:
    """Results as `medgan metrics` writes them."""
    score = Score(
        *("frechet_distance", "Fréchet distance (random-conv)", "all images", "random-conv", "lower", 12.345),
        real_images=612,
        synthetic_images=600,
        samples=5,
        floor=Floor(3.21, 0.12, 10, 306, 14.5),
        relative=4.52,
        interval=Interval(11.5, 13.5, 600, "t over samples"),
        p_value=0.001,
        p_corrected=0.002,
    )
    by_class = Score("kernel_distance", "kernel distance", label, "random-conv", "lower", None, 300, 300, 5, note="few")
    settings = {"seed": 0, "halvings": 10, "reference": "held-out patients of /home/ada/run (test)"}
    if sha256 is not None:
        settings["weights_sha256"] = sha256
    return FidelityReport(
        scores=(score, by_class),
        warnings=("The reference is small.",),
        extractors=({"name": "random-conv", "sha256": "c" * 64},),
        real={"name": "scans", "images": 612, "patients": 431},
        synthetic={"name": "run", "images": 600, "samples": 5},
        training=None,
        settings=settings,
        versions={},
    ).to_dict()


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """Results as `medgan evaluate` writes them."""
    rng = np.random.default_rng(0)

    def cohort(count: int, prefix: str) -> Cohort:
        people = np.arange(count) // 2
        sexes = pd.DataFrame({"sex": np.array(["F", "M"])[people % 2]})
        names = np.array([f"{prefix}{number}" for number in people])
        return Cohort(rng.integers(0, 2, count), names, np.array([f"{prefix}{i}.png" for i in range(count)]), sexes)

    def judge(judged: Cohort) -> Any:
        chances = 1 / (1 + np.exp(-(2 * judged.labels - 1 + rng.normal(size=len(judged)))))
        return np.stack([1 - chances, chances], axis=1).astype(np.float32)

    validation, test = cohort(60, "v"), cohort(120, "t")
    counts = {"real_images": 400, "real_patients": 200, "synthetic_images": 0}
    runs = [
        ClassifierRun(arm, 1.0, seed, judge(validation), judge(test), [], counts)
        for arm in ("real", "synthetic")
        for seed in (0, 1)
    ]
    facts = {
        "titles": {"real": "real (TRTR)", "synthetic": "synthetic 1× (TSTR)"},
        "real": {"name": "scans"},
        "classifier": {"name": "small-cnn"},
        "steps": 100,
        "banners": [],
        "notes": ["One training of the generator."],
    }
    return summarise(Study(LabelSpec(("a", "b")), validation, test, runs, facts), replicates=40)


def of(summary: dict[str, Any], sha256: str, **facts: Any) -> dict[str, Any]:
    return {**summary, "facts": {**summary["facts"], "generators": [{"weights_sha256": sha256}], **facts}}


COPIES = {"images": 2000, "flagged": 21, "excess": 0.0005, "low": -0.002, "high": 0.004}
AUDIT: dict[str, Any] = {
    "verdict": "none",
    "sentences": ["No leakage detected under these tests."],
    "identical": 0,
    "findings": [{"test": "copies", "space": "pixels", "corrected": 0.4, "detected": False, "specific": True}],
    "spaces": [
        {
            "space": "pixels",
            "copies": COPIES,
            "control": None,
            "membership": {"attack": {"area": 0.51, "low": 0.48, "high": 0.54}, "caught": COPIES | {"excess": 0.01}},
        }
    ],
    "subgroups": [
        {"column": "sex", "group": "F", "space": "pixels", "training_patients": 900, "synthetic": 800, "copies": COPIES}
    ],
    "pairs": [{"training_file": "NORMAL/person1.png", "patient": "person1"}],
    "warnings": ["Few held-out patients."],
    "training": {"images": 3632, "patients": 2711},
    "held_out": {"images": 1584, "patients": 1100},
    "synthetic": {"images": 2000},
    "settings": {"level": 0.01, "seed": 0},
}
STUDY = {
    "claim": ["Readers told them apart."],
    "results": [
        {"measure": "AUC", "who": "all readers", "value": 0.61, "low": 0.52, "high": 0.7, "count": 200,
         "interval_for": "other images and readers"},
        {"measure": "kappa", "value": None},
    ],
    "facts": {"images": 200},
    "limits": ["Three readers."],
}  # fmt: skip


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


# ------------------------------------------------------------------------------------------- golden


def test_card_of_a_run_without_results(run: Path):
    card = make_card(run)
    assert card.model == run / "checkpoints" / "best"
    assert (card.used, card.remarks) == ({}, {})
    assert card.text.count("**Not run.**") == 5
    assert "medgan metrics --synthetic RUN --per-class --out RUN/metrics" in card.text
    data = section(card.text, "Training data")
    assert "| Held out for validation | 2 images of 1 patients |" in data
    assert "| Held out for test | 1 images of unknown patients |" in data
    assert "| Division | by patient, seed 5 |" in data
    assert "| Device | cpu |\n| Precision | fp32 |\n| Preprocessing | xray |" in card.text
    assert "best score on validation patients, 0.500 at step 7" in card.text
    assert "Chosen as" not in make_card(run, which="latest").text


def test_commands_can_be_typed_and_name_no_folder_of_this_machine(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(run.parent)
    for place in ("run", run):
        assert "medgan metrics --synthetic run --per-class --out run/metrics" in make_card(place).text
    monkeypatch.chdir(run / "data")
    assert str(run.parent) not in make_card(run).text


def test_card_with_all_results(run: Path, summary: dict[str, Any]):
    sha256 = weights(run)
    put(run / "metrics" / "metrics.json", fidelity(sha256))
    put(run / "downstream" / "summary.json", of(summary, sha256))
    put(run / "audit" / "audit.json", AUDIT | {"weights_sha256": sha256})
    put(run / "study" / "analysis" / "analysis.json", STUDY)
    card = make_card(run)
    assert set(card.used) == set(RESULTS)
    assert "Not run" not in card.text
    metrics = section(card.text, "Likeness to real images")
    assert (
        "612 real images of 431 patients (held-out patients of scans) beside 5 × 600 synthetic ones; seed 0" in metrics
    )
    assert (
        "| Fréchet distance (random-conv) | 12.3 | 11.5 to 13.5 | 612 / 600 | 3.21 ± 0.12 | 306 | 14.5 | 4.52 | 0.002 |"
    ) in metrics
    assert "Features: random-conv (SHA-256 cccccccccccc)." in metrics
    assert "- The reference is small." in metrics
    assert "From metrics/metrics.json." in metrics
    worth = section(card.text, "Worth for training classifiers")
    assert summary["verdict"]["sentences"][0].split(",")[0][:30] in worth
    real = next(result for result in summary["results"] if result["arm"] == "real")
    assert f"| real (TRTR) | 100% | 400 | 0 | 2 | {real['scores']['auroc']['value']:.3g} (" in worth
    assert "Classifier small-cnn, 100 steps each; 120 test images of 60 patients and 60 validation images" in worth
    assert "One training of the generator." in worth
    privacy = section(card.text, "Privacy")
    assert "- No leakage detected under these tests." in privacy
    assert "2,000 synthetic images beside 3,632 images of 2,711 patients of the training and 1,584 images" in privacy
    assert (
        "| pixels | 21 of 2,000 | 0.0005 (-0.002 to 0.004) | too few patients | 0.01 (-0.002 to 0.004) "
        "| 0.51 (0.48 to 0.54) |"
    ) in privacy
    assert "| copies | pixels | 0.4 | no | yes |" in privacy
    assert "- Few held-out patients." in privacy
    assert "person1" not in card.text
    readers = section(card.text, "Judgement of readers")
    assert "- Readers told them apart." in readers
    assert "| AUC | all readers | 0.61 | 0.52 to 0.7 | 200 | other images and readers |" in readers
    assert "| kappa |  |  |  | unknown |  |" in readers
    assert "- Three readers." in readers
    groups = section(card.text, "Subgroups")
    assert "Likeness by class:" in groups
    assert "| NORMAL | kernel distance | few |" in groups
    assert "Classifiers by sex:" in groups
    assert "| F | 60 | 30 | real (TRTR) | " in groups
    assert "| sex | F | pixels | 900 | 800 | 0.0005 (-0.002 to 0.004) |" in groups
    # what leaves the house with the model does not name this machine
    assert "/home/ada" not in card.text


def test_results_of_other_weights_are_out_of_date(run: Path, summary: dict[str, Any]):
    put(run / "metrics" / "metrics.json", fidelity("0" * 64))
    put(run / "downstream" / "summary.json", of(summary, weights(run, "model")))
    card = make_card(run)
    assert set(card.remarks) == {"metrics", "evaluation"}
    text = section(card.text, "Likeness to real images")
    assert "**Out of date.** metrics/metrics.json is of other weights than this model" in text
    assert "**Not run.**" in text
    assert "12.3" not in card.text
    assert set(make_card(run, which="latest").used) == {"evaluation"}
    with pytest.raises(ConfigError, match="is of other weights than this model"):
        make_card(run, results={"metrics": run / "metrics"})


def test_the_newest_that_fits_counts(run: Path):
    old, new = fidelity(weights(run)), fidelity(weights(run))
    new["scores"][0]["value"] = 99.9
    put(run / "metrics" / "metrics.json", old, age=10)
    put(run / "metrics-2" / "metrics.json", new)
    put(run / "metrics-3" / "metrics.json", fidelity("0" * 64), age=-10)
    card = make_card(run)
    assert card.used["metrics"] == run / "metrics-2" / "metrics.json"
    assert "| 99.9 |" in card.text
    assert not card.remarks


def test_results_elsewhere_and_of_unknown_weights(run: Path, tmp_path: Path):
    place = put(tmp_path / "elsewhere" / "metrics.json", fidelity(None))
    for given in (place, place.parent):
        card = make_card(run / "model", results={"metrics": given})
        assert card.used == {"metrics": place}
        assert "From metrics.json. It does not record which weights it is of." in card.text
    with pytest.raises(DataError, match=r"holds no audit\.json of `medgan audit`"):
        make_card(run, results={"audit": place.parent})
    with pytest.raises(DataError, match="cannot be read"):
        make_card(run, results={"audit": tmp_path / "missing.json"})
    with pytest.raises(ConfigError, match="no results named 'fid'"):
        make_card(run, results={"fid": place})


def test_cross_validation_is_of_the_method(run: Path):
    estimate = {"value": 0.9, "low": 0.85, "high": 0.95}
    arm = {"arm": "synthetic", "title": "synthetic", "fraction": 1.0}
    scores = {"auroc": estimate | {"difference": estimate | {"value": -0.02, "p_holm": 0.3}}, "brier": estimate}
    values = {
        "folds": 5,
        "real": {"name": "scans", "images": 700},
        "arms": [arm | {"scores": scores}],
        "studies": [{"generators": [{"weights_sha256": "9" * 64}]}],
    }
    put(run / "cv" / "cross-validation.json", values)
    worth = section(make_card(run).text, "Worth for training classifiers")
    assert "5 folds by patient of 700 images of scans" in worth
    assert "results of the method, not of these weights" in worth
    assert "| synthetic | 100% | 0.9 (0.85 to 0.95) |  | 0.9 (0.85 to 0.95) | -0.02 (0.85 to 0.95) | 0.3 |" in worth


# ------------------------------------------------------------------------------------------ hostile


def test_text_of_results_is_no_markup(run: Path, summary: dict[str, Any]):
    sha256 = weights(run)
    metrics = fidelity(sha256, label=EVIL)
    metrics["warnings"], metrics["real"]["name"] = [EVIL], EVIL
    metrics["extractors"][0]["name"] = metrics["scores"][0]["title"] = EVIL
    put(run / "metrics" / "metrics.json", metrics)
    values = of(summary, sha256, notes=[EVIL], real={"name": EVIL})
    values["verdict"] = {"sentences": [EVIL], "notes": [EVIL]}
    put(run / "downstream" / "summary.json", values)
    evil = {"claim": [EVIL], "limits": EVIL, "facts": {EVIL: EVIL}, "results": [{"measure": EVIL, "who": EVIL}]}
    put(run / f"{'x' * 20}|<b>" / "analysis.json", evil)
    put(run / "audit" / "audit.json", {"verdict": EVIL, "warnings": [EVIL], "spaces": [{"space": EVIL}]})
    text = make_card(run).text
    assert "<img" not in text
    assert "<b>" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    for line in text.splitlines():
        assert not line.startswith("|") or "\\|[" not in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "holds a list"),
        ("null", "holds a NoneType"),
        ('{"scores": NaN}', "NaN is no number"),
        ('{"scores": {}}', "scores is a dict"),
        ('{"scores": [3]}', "scores holds a int"),
        ('{"scores": [{"group": 3}]}', "group is a int"),
        ('{"scores": [{"group": "all images", "value": "12"}]}', "value is a str"),
        ('{"scores": [{"group": "all images", "value": true}]}', "value is a bool"),
        ('{"scores": [{"group": "all images", "value": 1e999}]}', "no number that was measured"),
        ('{"scores": [{"group": "all images", "value": 1' + "0" * 400 + "}]}", "no number that was measured"),
        ('{"scores": [{"group": "all images", "floor": []}]}', "floor is a list"),
        ('{"settings": [], "scores": []}', "not where it should be"),
        ('{"real": {"images": "many"}, "scores": []}', "real.images is a str"),
        ('{"warnings": [3], "scores": []}', "warnings holds a int"),
        ('{"settings": {"weights_sha256": 3}}', "settings.weights_sha256 is a int"),
        ("[" * 100_000, "no JSON|is no JSON|recursion"),
    ],
)
def test_damaged_results_are_named(run: Path, text: str, reason: str):
    path = put(run / "metrics" / "metrics.json", text)
    with pytest.raises(DataError, match=reason) as caught:
        make_card(run)
    assert str(path) in str(caught.value)
    assert "Run it again, or move the file out of the run." in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"verdict": "good"}', '{"claim": []}'])
def test_results_that_say_nothing_are_named(run: Path, text: str):
    path = put(run / "study" / "analysis.json", text)
    with pytest.raises(DataError, match="holds none of claim, results, facts and limits"):
        make_card(run)
    path.unlink()
    put(run / "audit" / "audit.json", {"sentences": ["Fine."]})
    with pytest.raises(DataError, match="holds no verdict"):
        make_card(run)


def test_results_that_lead_out_of_the_run_are_not_read(run: Path, tmp_path: Path):
    put(tmp_path / "outside" / "metrics.json", fidelity(weights(run)))
    (run / "metrics").symlink_to(tmp_path / "outside")
    assert make_card(run).used == {}


def test_a_hostile_model_is_named(run: Path):
    path = run / "model" / "model.json"
    facts = json.loads(path.read_text())
    for damage in ({"data": []}, {"training_data": {"initial_model": 3}}, {"config": []}, {"versions": None}):
        path.write_text(json.dumps(facts | damage))
        with pytest.raises(CheckpointError, match=r"model\.json was not written by medgan"):
            make_card(run, which="latest")


def test_missing_models_and_damaged_tables(run: Path, tmp_path: Path):
    with pytest.raises(CheckpointError):
        make_card(tmp_path / "nowhere")
    (run / "data" / "index.csv").write_text("name\nx\n")
    with pytest.raises(DataError, match=r"index\.csv is damaged"):
        make_card(run)
    (run / "data" / "splits.json").write_text("{}")
    with pytest.raises(DataError):
        make_card(run)


# ------------------------------------------------------------------------------------------ writing


def test_own_text_and_licence_survive(run: Path):
    path = write_card(make_card(run, licence="cc-by-4.0"))
    assert path == run / "checkpoints" / "best" / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("*Nothing yet.", "Ask Ada."), encoding="utf-8")
    put(run / "audit" / "audit.json", AUDIT)
    write_card(make_card(run))
    text = path.read_text(encoding="utf-8")
    assert "Ask Ada." in text
    assert "license: cc-by-4.0\n" in text
    assert "No leakage detected" in text
    assert {entry.name for entry in path.parent.iterdir()} == {"README.md", "model.json", "model.safetensors"}


def test_cards_that_were_edited_elsewhere_are_left_alone(run: Path, tmp_path: Path):
    path = run / "checkpoints" / "best" / "README.md"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"was edited by hand.*README\.edited\.md.*--out"):
        write_card(make_card(run))
    assert path.read_text(encoding="utf-8") == "mine"
    other = tmp_path / "card.md"
    assert write_card(make_card(run), other) == other
    assert write_card(make_card(run, card=other), other) == other
    other.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="was edited by hand"):
        write_card(make_card(run), other)
