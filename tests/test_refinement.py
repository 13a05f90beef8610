"""Refinement: judgements of samples, samples that a scorer accepts, and a training away from the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from medgan.core import DataSpec, Generator, LabelSpec
from medgan.core.saving import pack_weights
from medgan.errors import ConfigError, DataError
from medgan.metrics.scorer import SampleScorer
from medgan.models import ACGAN
from medgan.refinement import accepted_samples, learn_scorer, read_ratings, refine, study_judgements

SIZE = 32
DATA = DataSpec(1, (SIZE, SIZE), LabelSpec(("NORMAL", "PNEUMONIA")))


class Painter(Generator):
    """Noise, with a bright square in a corner where the first latent is large: a third of all images."""

    def __init__(self) -> None:
        super().__init__(SIZE * SIZE)
        self.weight = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = (self.weight * latents).clamp(-1, 1).view(-1, 1, SIZE, SIZE).clone()
        images[latents[:, 0] > 0.43, :, 2:7, 2:7] = 1
        return images


class Painting(ACGAN):
    """An architecture whose samples are known."""

    name: ClassVar[str] = "painting"

    def make_generator(self, config: object, data: DataSpec) -> Generator:
        return Painter()


def has_square(images: Tensor) -> np.ndarray:
    return (images[:, 0, 2:7, 2:7].flatten(1).min(dim=1).values > 0.9).numpy()


def judge(gan: ACGAN, n: int = 100, *, readers: int = 2) -> pd.DataFrame:
    """Readers who reject squares, and are wrong in one of ten."""
    batch = gan.sample(n)
    planted, names = has_square(batch.images), np.array(gan.data.labels.names)
    rng = np.random.default_rng(0)
    parts = []
    for reader in range(readers):
        accepted = np.where(rng.random(n) < 0.1, planted, ~planted)
        parts.append(
            pd.DataFrame(
                {"reader": reader, "seed": np.arange(n), "label": names[batch.labels.numpy()], "accepted": accepted}
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def gan() -> Painting:
    return Painting(DATA, preset="tiny")


@pytest.fixture(scope="module")
def scorer(gan: Painting) -> SampleScorer:
    return learn_scorer(gan, judge(gan))


def test_ratings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("reader,seed,label,accepted\nA,3,NORMAL,1\nB,3,NORMAL,no\nA,4,PNEUMONIA,True\n", encoding="utf-8")
    found = read_ratings(file)
    assert found.to_dict("list") == {
        "seed": [3, 3, 4],
        "label": ["NORMAL", "NORMAL", "PNEUMONIA"],
        "accepted": [True, False, True],
    }


def test_ratings_are_read_as_manifests_are(tmp_path: Path) -> None:
    """With the semicolons and the mark that spreadsheets write, and a grade that pandas would take for nothing."""
    file = tmp_path / "ratings.csv"
    file.write_text("seed;label;accepted\n3;None;1\n4.0;NA;0\n", encoding="utf-8-sig")
    assert read_ratings(file).to_dict("list") == {"seed": [3, 4], "label": ["None", "NA"], "accepted": [True, False]}
    file.write_text("seed,accepted\n3,1\n", encoding="utf-8")
    assert read_ratings(file).to_dict("list") == {"seed": [3], "label": [""], "accepted": [True]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed,label\n1,NORMAL\n", "no column 'accepted'"),
        ("label,accepted\nNORMAL,1\n", "no column 'seed'"),
        ("seed,label,accepted\n1,NORMAL,1\n2,NORMAL,maybe\n", "Line 3 of"),
        ("seed,label,accepted\n1,NORMAL,1\n,NORMAL,0\n", "Line 3 of"),
        ("seed,label,accepted\none,NORMAL,1\n", "Line 2 of"),
        ("seed,label,accepted\n1.5,NORMAL,1\n", "Line 2 of"),
        ("", "is empty. Expected a header such as seed,accepted"),
    ],
)
def test_ratings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_ratings(file)


def test_a_scorer_leaves_out_what_was_rejected(gan: Painting, scorer: SampleScorer) -> None:
    seeds, labels = accepted_samples(gan, scorer, 60, keep=0.6)
    assert labels == ["NORMAL", "PNEUMONIA"] * 30
    assert len(set(zip(seeds, labels, strict=True))) == 60
    kept = torch.cat([part.images for part in gan.sample_batches(seeds, labels=labels)])
    share = has_square(gan.sample(300).images).mean()
    assert 0.25 < share < 0.45
    assert has_square(kept).mean() < share / 4


def test_fewer_images_are_the_first_of_more(gan: Painting, scorer: SampleScorer) -> None:
    few, _ = accepted_samples(gan, scorer, 10, keep=0.6, seed=7)
    many, _ = accepted_samples(gan, scorer, 40, keep=0.6, seed=7)
    assert many[:10] == few
    assert min(few) >= 7


def test_keeping_all_leaves_nothing_typical_out(gan: Painting, scorer: SampleScorer) -> None:
    seeds, labels = accepted_samples(gan, scorer, 20, keep=1, labels=["PNEUMONIA"])
    assert labels == ["PNEUMONIA"] * 20
    assert len(set(range(20)) - set(seeds)) <= 2  # below the least of 256 others


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan")])
def test_shares_to_keep_that_are_none(gan: Painting, scorer: SampleScorer, keep: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        accepted_samples(gan, scorer, 4, keep=keep)


def test_judgements_of_other_models_are_refused(gan: Painting) -> None:
    table = judge(gan)
    table["label"] = table["label"].replace("PNEUMONIA", "TUBERCULOSIS")
    with pytest.raises(ConfigError, match="TUBERCULOSIS"):
        learn_scorer(gan, table)


def test_findings_are_refused() -> None:
    other = ACGAN(DataSpec(1, (32, 32), LabelSpec(("Edema", "Effusion"), "multilabel")), preset="tiny")
    with pytest.raises(ConfigError, match="models of classes or without labels"):
        learn_scorer(other, pd.DataFrame({"seed": [1], "label": [""], "accepted": [True]}))


class Study:
    """A reader study as far as refinement looks at it."""

    folder = Path("study")

    def __init__(self, gan: ACGAN, table: pd.DataFrame) -> None:
        self.weights = pack_weights(gan.generator.state_dict())[1]
        self.table = table

    def read_key(self) -> dict[str, object]:
        return {"model": {"name": "a-run", "weights_sha256": self.weights}, "truncation": 1.0}

    def judgements(self, database: str | None = None) -> pd.DataFrame:
        return self.table


ANSWERS = pd.DataFrame(
    {
        "kind": ["synthetic", "real", "synthetic", "synthetic"],
        "label": ["NORMAL", "NORMAL", "PNEUMONIA", "NORMAL"],
        "seed": [3, pd.NA, 4, 5],
        "said_synthetic": [True, True, False, pd.NA],
    }
)


def test_a_study_says_who_rejected_what(gan: Painting) -> None:
    found = study_judgements(Study(gan, ANSWERS), gan)
    assert found.to_dict("list") == {"seed": [3, 4], "label": ["NORMAL", "PNEUMONIA"], "accepted": [False, True]}


def test_studies_of_other_models_or_without_answers(gan: Painting) -> None:
    other = ACGAN(DATA, preset="tiny")
    with pytest.raises(DataError, match=r"other weights.*a-run"):
        study_judgements(Study(other, ANSWERS), gan)
    with pytest.raises(DataError, match="Nobody has judged"):
        study_judgements(Study(gan, ANSWERS[1:2]), gan)


def bright(gan: ACGAN, n: int) -> pd.DataFrame:
    """One reader, who rejects what is brighter than the median."""
    batch = gan.sample(n)
    means = batch.images.flatten(1).mean(1).numpy()
    names = np.array(gan.data.labels.names)[batch.labels.numpy()]
    return pd.DataFrame({"seed": np.arange(n), "label": names, "accepted": means < np.median(means)})


@pytest.mark.filterwarnings("default:.*is split file by file")
def test_refines_a_run(make_run: Callable[..., Path], tmp_path: Path) -> None:
    model = make_run()
    from medgan.models import load_model

    said: list[str] = []
    done = refine(
        model,
        bright(load_model(model), 60),
        tmp_path / "refined",
        which="latest",
        extractor="radiomics",
        flags={"steps": 4, "outdir": str(tmp_path / "runs"), "device": "cpu"},
        samples=100,
        say=said.append,
    )
    config = json.loads((done.run / "config.json").read_text(encoding="utf-8"))
    assert config["init_from"] == str(model / "model")
    assert config["rejected"] == str(done.rejected)
    report = json.loads(done.report.read_text(encoding="utf-8"))
    rejected = pd.read_csv(done.rejected / "samples.csv")
    assert len(rejected) == round(100 * report["before"]["rejected"])
    assert config["rejected_share"] == pytest.approx(min(0.5, report["before"]["rejected"]))
    assert 0 <= report["after"]["coverage"] <= 1
    assert report["coverage_of"]["features"] == "random-conv"  # whatever the scorer looks at
    splits = [json.loads((run / "data" / "splits.json").read_text(encoding="utf-8")) for run in (model, done.run)]
    assert splits[0]["parts"] == splits[1]["parts"]
    assert any("Generator begins from" in line for line in said)
    assert any(line.startswith("Rejected: ") for line in said)
    with pytest.raises(ConfigError, match="not an empty folder"):
        refine(model, bright(load_model(model), 60), tmp_path / "refined", samples=100)


def test_a_model_alone_is_no_run(tmp_path: Path, gan: Painting) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        refine(tmp_path, judge(gan), tmp_path / "out")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A short run on the phantom."""

    def make() -> Path:
        from medgan.runs import Run

        flags = {
            "data": "phantom://chest?n=60&seed=1",
            "size": 32,
            "preset": "tiny",
            "steps": 4,
            "validation": 0.3,
            "device": "cpu",
            "evaluate_every": 0,
            "outdir": str(tmp_path / "first"),
        }
        return Run(flags, say=lambda line: None).fit().folder

    return make
