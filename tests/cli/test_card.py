from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def run(fitted, here):
    """A run folder to write into."""
    return shutil.copytree(fitted, here / "run")


def test_every_saved_model_has_a_card_with_its_data(fitted):
    text = (fitted / "model" / "README.md").read_text(encoding="utf-8")
    assert "# acgan, trained on phantom-chest" in text
    assert "| Licence | Apache-2.0, procedural |" in text
    assert text.count("**Not run.**") == 5


def test_results_of_a_run_come_in(medgan, run):
    medgan.works(
        "metrics", "--synthetic", run, "--extractor", "random-conv", "--metrics", "frechet", "--samples", 1,
        "--halvings", 2, "--reference", "train", "--out", run / "metrics", "--which", "latest",
    )  # fmt: skip
    output = medgan.works("card", run, "--which", "latest", "--licence", "cc-by-4.0").stdout
    assert f"metrics: {run / 'metrics' / 'metrics.json'}" in output
    assert "audit: not run" in output
    assert output.endswith(f"Model card: {run / 'model' / 'README.md'}\n")
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "From metrics/metrics.json." in text
    assert "does not record" not in text
    assert "license: cc-by-4.0" in text
    facts = json.loads((run / "model" / "model.json").read_text())
    assert facts["sha256"] in text
    # the next weights are others
    medgan.works("fit", "--resume", run, "--steps", 8)
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in text
    assert "From metrics/metrics.json." not in text
    assert "metrics: not run, but for other weights" in medgan.works("card", run, "--which", "latest").stdout


def test_a_saved_model_alone_and_another_place(medgan, run, here):
    shutil.move(run / "model", here / "alone")
    medgan.works("card", here / "alone", "--out", "card.md")
    assert "unknown patients" not in (here / "card.md").read_text(encoding="utf-8")


def test_mistakes(medgan, run, here):
    assert "There is no folder" in medgan.fails("card", "nowhere")
    assert "no name of a licence" in medgan.fails("card", run, "--licence", "CC BY 4.0\nx: y")
    assert "cannot be read" in medgan.fails("card", run, "--audit", "nowhere.json")
    (run / "audit").mkdir()
    (run / "audit" / "audit.json").write_text("{")
    assert "is not what `medgan audit` writes" in medgan.fails("card", run)
    shutil.rmtree(run / "audit")
    (run / "model" / "README.md").write_text("mine")
    assert "was edited by hand" in medgan.fails("card", run, "--which", "latest")
    assert (run / "model" / "README.md").read_text() == "mine"


def test_terms_of_ones_own_data(medgan, here, tmp_path):
    medgan.fit(here / "run", "--steps", 1, "--licence", "CC BY 4.0", "--citation", "Doe et al., 2020")
    text = (here / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| Licence | CC BY 4.0 |" in text
    assert "The training data: Doe et al., 2020." in text
    assert "license: other" in text
