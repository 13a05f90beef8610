from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medgan.data import ImageDataset
from medgan.evaluation.fidelity.samples import count_classes
from medgan.models import load_model

FEW = ("--samples", 3, "-n", 24, "--halvings", 2, "--permutations", 20)
QUICK = (*FEW, "--extractor", "random-conv", "--metrics", "frechet,kernel")


@pytest.fixture(scope="module")
def run(medgan: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that held patients out; look, but do not write."""
    root = tmp_path_factory.mktemp("data")
    write_scans(root / "scans")
    options = ("--size", 32, "--preset", "tiny", "--steps", 1, "--device", "cpu", "--patient-regex", r"patient\d+")
    shares = ("--validation", 0.2, "--test", 0.2)
    medgan.works("fit", "--data", root / "scans", *options, *shares, "--outdir", root / "runs", "--name", "first")
    return root / "runs" / "first"


def write_scans(folder: Path, count: int = 80, seed: int = 0, bits: int = 8) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(count):
        label = "NORMAL" if number // 2 % 4 else "PNEUMONIA"
        image = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).resize((32, 32))
        if bits == 16:
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        file = folder / label / f"patient{number // 2}-{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    return folder


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def test_a_run_beside_its_held_out_patients(medgan: Any, here: Path, run: Path) -> None:
    result = medgan.works("metrics", "--synthetic", run, "--per-class", *FEW)
    folder = here / "metrics-first"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "metrics.md", "metrics.html"}
    found = report(folder)
    index = pd.read_csv(run / "data" / "index.csv")
    parts = json.loads((run / "data" / "splits.json").read_text())["parts"]
    held_out = [*parts["validation"], *parts["test"]]
    assert found["real"]["images"] == len(held_out)
    assert found["real"]["patients"] == index[index["file"].isin(held_out)]["patient_id"].nunique()
    assert found["training"]["images"] == len(parts["train"])
    assert "held-out patients of" in found["settings"]["reference"]
    assert "validation and test" in found["settings"]["reference"]
    validation = f"{len(parts['validation'])} of the {len(held_out)} reference images are of the validation patients"
    assert found["warnings"][0].startswith(validation)
    assert not any("reference images are among" in warning for warning in found["warnings"])
    assert found["synthetic"]["images"] == 24
    assert found["settings"]["image_seeds"] == "0-71"
    shares = [found[side]["class_counts"]["NORMAL"] / found[side]["images"] for side in ("real", "synthetic")]
    assert shares[1] == pytest.approx(shares[0], abs=1 / 24)
    assert {each["name"] for each in found["extractors"]} == {"radiomics", "random-conv"}
    assert {score["group"] for score in found["scores"]} == {"all images", "NORMAL", "PNEUMONIA"}
    metrics = {score["metric"] for score in found["scores"]}
    assert {
        "frechet_distance",
        "kernel_distance",
        "recall",
        "coverage",
        "pair_similarity",
        "nearest_training",
    } <= metrics
    assert "Fréchet distance (radiomics)" in result.stdout
    assert "FID" not in result.stdout.replace("FIDELITY", "")
    assert "Report: " in result.stdout
    assert "\x1b" not in result.stdout  # plain, as this is no terminal


def test_json_is_all_that_is_printed(medgan: Any, here: Path, run: Path) -> None:
    result = medgan.works("metrics", "--synthetic", run, *QUICK, "--json", "--out", "new")
    assert json.loads(result.stdout) == report(here / "new")


def test_a_second_run_reads_the_cache(medgan: Any, here: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = medgan.works("metrics", "--synthetic", run, *QUICK, "--json")
    monkeypatch.setattr("medgan.metrics.extractors.random_conv.RandomConv.extract", None)
    monkeypatch.setattr("medgan.core.gan.GAN.sample_batches", None)
    monkeypatch.setattr("medgan.evaluation.fidelity.metrics.frechet_distance", None)
    second = medgan.works("metrics", "--synthetic", run, *QUICK, "--json")
    assert json.loads(second.stdout)["scores"] == json.loads(first.stdout)["scores"]
    assert {path.name for path in here.iterdir()} == {"metrics-first", "metrics-first-2"}


@pytest.mark.filterwarnings("default::medgan.evaluation.fidelity.samples.SamplingCacheWarning")
@pytest.mark.filterwarnings("default::medgan.metrics.features.FeatureCacheWarning")
@pytest.mark.filterwarnings("default::medgan.evaluation.fidelity.result_cache.ResultCacheWarning")
def test_a_cache_that_is_no_folder(medgan: Any, here: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = json.loads(medgan.works("metrics", "--synthetic", run, *QUICK, "--json").stdout)
    (here / "file").write_text("")
    # The images themselves need a cache; features, results and samples do without.
    monkeypatch.setattr("medgan.data.default_cache_dir", lambda: here / "file")
    result = medgan("metrics", "--synthetic", run, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert "sampled images are not kept" in result.stderr
    assert "Features are not kept in a cache" in result.stderr
    assert json.loads(result.stdout)["scores"] == expected["scores"]


@pytest.mark.parametrize("form", ["png", "npz"])
def test_a_folder_of_samples(medgan: Any, here: Path, run: Path, form: str) -> None:
    medgan.works("sample", "--model", run, "-n", 40, "--out", "samples", "--format", form)
    source = "samples" if form == "png" else "samples/samples.npz"
    medgan.works("metrics", "--real", run, "--synthetic", source, *QUICK[4:], "--out", "new")
    found = report(here / "new")
    assert found["synthetic"]["images"] == 40
    assert found["synthetic"]["samples"] == 1
    assert found["training"]["images"] > 0
    medgan.works("metrics", "--real", run, "--synthetic", source, *QUICK[4:], "-n", 10, "--out", "fewer")
    assert report(here / "fewer")["synthetic"]["images"] == 10
    message = medgan.fails("metrics", "--real", run, "--synthetic", source, *QUICK[4:], "-n", 50)
    assert "has 40 images, and -n 50 were asked for" in message


def test_other_references(medgan: Any, here: Path, run: Path) -> None:
    counts = {}
    for reference in ("held-out", "train", "all"):
        medgan.works("metrics", "--synthetic", run, *QUICK, "--reference", reference, "--out", reference)
        found = report(here / reference)
        counts[reference] = found["real"]["images"]
        overlap = any("reference images are among" in warning for warning in found["warnings"])
        assert overlap == (reference != "held-out")
    assert counts["held-out"] + counts["train"] == counts["all"] == 80


def test_data_that_has_moved_and_data_of_another_hospital(medgan: Any, here: Path, run: Path) -> None:
    shutil.copytree(run.parents[1] / "scans", here / "moved")
    medgan.works(
        "metrics", "--synthetic", run, "--real", here / "moved", "--reference", "held-out", *QUICK, "--out", "a"
    )
    assert report(here / "a")["training"] is not None
    write_scans(here / "other", seed=9)
    medgan.works("metrics", "--synthetic", run, "--real", here / "other", *QUICK, "--out", "b")
    found = report(here / "b")
    assert found["training"] is None
    assert found["real"]["images"] == 80
    assert not any("trained on" in warning for warning in found["warnings"])
    message = medgan.fails("metrics", "--synthetic", run, "--real", here / "other", "--reference", "train", *QUICK)
    assert "are not those that" in message


def test_a_model_alone_needs_real_images(medgan: Any, here: Path, run: Path) -> None:
    shutil.copytree(run / "model", here / "model")
    assert "--real is needed" in medgan.fails("metrics", "--synthetic", here / "model", *QUICK)
    medgan.works("metrics", "--synthetic", here / "model", "--real", run.parents[1] / "scans", *QUICK, "--out", "new")
    assert any("trained on" in warning for warning in report(here / "new")["warnings"])


def test_a_run_that_held_nobody_out(medgan: Any, here: Path, fitted: Path) -> None:
    medgan.fit(here / "runs" / "alone", "--steps", 1, "--validation", 0)
    assert "held nobody out" in medgan.fails("metrics", "--synthetic", here / "runs" / "alone", *QUICK)
    medgan.works("metrics", "--synthetic", here / "runs" / "alone", *QUICK, "--reference", "train")


def test_sixteen_bits_are_not_lost(medgan: Any, here: Path) -> None:
    write_scans(here / "eight")
    write_scans(here / "sixteen", bits=16)
    write_scans(here / "made", seed=5)
    values = []
    for real in ("eight", "sixteen"):
        medgan.works("metrics", "--real", real, "--synthetic", "made", "--size", 32, *QUICK[4:], "--out", f"of-{real}")
        values.append([score["value"] for score in report(here / f"of-{real}")["scores"]])
    assert values[1] == pytest.approx(values[0], rel=1e-3)


@pytest.mark.slow
def test_inception_by_its_weights(medgan: Any, here: Path, run: Path, inception_file: Path) -> None:
    """Weights that are not the published ones go all the way, and are not called FID."""
    options = ("--extractor", "inception", "--weights", inception_file, "--metrics", "frechet,kernel,inception-score")
    few = ("--samples", 1, "-n", 24, "--halvings", 2, "--permutations", 9)
    result = medgan.works("metrics", "--synthetic", run, *options, *few, "--resizer", "torch-fidelity", "--out", "new")
    (extractor,) = report(here / "new")["extractors"]
    assert (extractor["features"], extractor["resizer"], extractor["bits"]) == (2048, "torch-fidelity", "8")
    assert extractor["sha256"].isalnum()
    assert "Fréchet distance (inception (custom weights))" in result.stdout
    warnings = report(here / "new")["warnings"]
    assert any("fewer than its 2,048 features" in warning for warning in warnings)
    assert any("grey replicated to RGB" in warning for warning in warnings)
    values = {score["metric"]: score["value"] for score in report(here / "new")["scores"]}
    assert values["frechet_distance"] > 0
    assert values["inception_score"] >= 1


@pytest.mark.slow
def test_a_classifier_is_trained_on_the_training_images(
    medgan: Any, here: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    from medgan.metrics.extractors import train_classifier_extractor as train

    def few_steps(training: ImageDataset, validation: ImageDataset, **options: Any) -> Any:
        seen["patients"] = {*training.index["patient_id"], *validation.index["patient_id"]}
        return train(training, validation, **{**options, "steps": 3})

    monkeypatch.setattr("medgan.metrics.extractors.train_classifier_extractor", few_steps)
    options = (*FEW, "--extractor", "classifier", "--metrics", "frechet,inception-score")
    medgan.works("metrics", "--synthetic", run, *options, "--out", "new")
    found = report(here / "new")
    assert any("not comparable with published FID" in warning for warning in found["warnings"])
    assert {score["metric"] for score in found["scores"]} == {"frechet_distance", "inception_score"}
    index = pd.read_csv(run / "data" / "index.csv")
    parts = json.loads((run / "data" / "splits.json").read_text())["parts"]
    assert seen["patients"] == set(index[index["file"].isin(parts["train"])]["patient_id"])


def test_mistakes(medgan: Any, here: Path, run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--synthetic", "nowhere"), "There is no nowhere. Give a run folder"),
        (("--synthetic", run.parents[1] / "scans"), "--real is needed"),
        (("--synthetic", "nowhere", "--real", run), "There is no nowhere"),
        (("--synthetic", run, "--real", "nowhere"), "There is no nowhere"),
        (("--synthetic", run, "--metrics", "frechet,recal"), "There is no metric 'recal'"),
        (("--synthetic", run, "--metrics", ","), "No metric was asked for"),
        (("--synthetic", run, "--extractor", "inceptionn"), "Did you mean 'inception'"),
        (("--synthetic", run, "--extractor", "inception", "--weights", "no.pth"), "There is no file of weights no.pth"),
        (("--synthetic", run, "--weights", "no.pth"), "does not say of which extractor"),
        (("--synthetic", run, "--extractor", "radimagenet"), "needs weights"),
        (("--synthetic", run, "--size", 64), "--size is not for a run"),
        (("--synthetic", run, "--training", run), "--training is known from the run"),
        (("--synthetic", run, "--extractor", "inception", "--weights", "a", "--weights", "b"), "given twice"),
        (("--synthetic", run, "--real", run.parents[1] / "scans", "--extractor", "classifier"), "are not known"),
        (("--synthetic", run.parents[1] / "scans", "--real", run, "--truncation", 0.5), "--truncation is for sampling"),
        (("--synthetic", run, "--metrics", "nearest-real", "--reference", "train"), "nothing to compute"),
        (("--synthetic", run.parents[1] / "scans", "--real", run, "--metrics", "paired"), "no real image of the same"),
    ):
        assert message in medgan.fails("metrics", *arguments, "--samples", 1), message
    assert not list(here.iterdir())


def test_weights_that_are_damaged(medgan: Any, here: Path, run: Path) -> None:
    (here / "bad.pth").write_bytes(b"PK\3\4nothing")
    message = medgan.fails("metrics", "--synthetic", run, "--extractor", "inception", "--weights", here / "bad.pth")
    assert "can be read without running code" in message


def test_inception_without_weights_says_where_they_go(
    medgan: Any, here: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub._hub_dir", str(here / "hub"))
    message = medgan.fails("metrics", "--synthetic", run, "--extractor", "inception")
    assert "nothing is downloaded unasked" in message
    assert "--extractor radiomics needs no weights" in message


def test_counts_keep_the_shares(run: Path) -> None:
    gan = load_model(run)
    labels = np.repeat([0, 1], [7, 3])
    like = ImageDataset.from_arrays(np.zeros((10, 32, 32), np.uint8), labels, names=["NORMAL", "PNEUMONIA"])
    assert count_classes(gan, like, 10).tolist() == [7, 3]
    assert count_classes(gan, like, 4).tolist() == [3, 1]
    assert count_classes(gan, like, 1001).tolist() == [701, 300]
    turned = ImageDataset.from_arrays(np.zeros((10, 32, 32), np.uint8), 1 - labels, names=["PNEUMONIA", "NORMAL"])
    assert count_classes(gan, turned, 10).tolist() == [7, 3]
    unlabelled = ImageDataset.from_arrays(np.zeros((10, 32, 32), np.uint8))
    assert count_classes(gan, unlabelled, 10).tolist() == [5, 5]
