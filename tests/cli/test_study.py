from __future__ import annotations

import json
import shutil
import sys

import pytest

from medgan.reader_study import load_study
from medgan.reader_study.store import Answer, AnswerStore


@pytest.fixture(scope="module")
def run(medgan, tmp_path_factory):
    """A run that has held half of its patients out."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return medgan.fit(folder, "--steps", 1, "--validation", 0.5, "--evaluate-every", 0)


@pytest.fixture
def drawn(medgan, run, here):
    medgan.works("study", "new", "study", "--model", run, "--num", 8, "--readers", 3, "--training", 0, "--seed", 1)
    return load_study(here / "study")


def read(study):
    with AnswerStore(study) as store:
        for reader in study.readers:
            for position in range(len(reader.presentations)):
                answer = Answer(position % 5 + 1, None, None, "", "", 2.0)
                store.save(reader, position, answer, submission=f"{position:08d}")


def test_new(medgan, run, here):
    texts = {"instructions": "Look.\n\nThen say.", "consent": "I agree."}
    for name, text in texts.items():
        (here / f"{name}.txt").write_text(text, encoding="utf-8")
    command = ["study", "new", "s", "--model", run, "--num", 8, "--reader", "ada", "--reader", "ben", "--realism"]
    own = ["--instructions", "instructions.txt", "--consent", "consent.txt"]
    output = medgan.works(*command, *own, "--title", "Mine", "--margin", 0.1).stdout
    assert "Study: s (8 images, half of them synthetic; 1 shown twice; 2 readers)" in output
    assert "with a chance of " in output
    assert "The answers are in s/key.json" in output
    study = load_study(here / "s")
    assert study.instructions == ("Look.", "Then say.")
    assert study.consent == ("I agree.",)
    assert (study.config.title, study.config.margin, study.config.realism) == ("Mine", 0.1, True)
    key = study.read_key()
    held_out = json.loads((run / "data" / "splits.json").read_text(encoding="utf-8"))["parts"]["validation"]
    files = [entry["file"] for entry in key["items"].values() if entry["kind"] == "real"]
    assert files
    assert set(files) <= set(held_out)


@pytest.mark.filterwarnings("default::medgan.reader_study.design.StudyDesignWarning")
def test_model_alone_needs_real_images(medgan, run, here):
    model = run / "model"
    (here / "copy").mkdir()
    for file in model.iterdir():
        (here / "copy" / file.name).write_bytes(file.read_bytes())
    command = ("study", "new", "s", "--model", "copy", "--num", 8, "--readers", 3)
    assert "--real is needed" in medgan.fails(*command)
    result = medgan.works(*command, "--real", "phantom://chest?n=40&seed=9")
    assert "Warning: Only a run folder says which real images its model has seen" in result.stderr


def test_what_an_initial_model_has_seen_is_left_out(medgan, run, here):
    """As if the run had begun from a model that was trained on all but ten of its held-out patients."""
    copy = here / "copy"
    shutil.copytree(run, copy)
    parts = json.loads((run / "data" / "splits.json").read_text(encoding="utf-8"))["parts"]
    seen = {"images": parts["validation"][10:]}
    (copy / "data" / "initial_images.json").write_text(json.dumps(seen), encoding="utf-8")
    command = ("study", "new", "s", "--model", copy, "--readers", 3, "--training", 0, "--num")
    assert "needs 10 real images" in medgan.fails(*command, 40)
    medgan.works(*command, 8)
    items = load_study(here / "s").read_key()["items"].values()
    assert {entry["file"] for entry in items if entry["kind"] == "real"} <= set(parts["validation"][:10])


def test_run_that_held_nobody_out(medgan, here):
    run = medgan.fit(here / "runs" / "all", "--steps", 1, "--validation", 0, "--evaluate-every", 0)
    assert "held nobody out" in medgan.fails("study", "new", "s", "--model", run, "--num", 8, "--readers", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --reader NAME, once for each, or --readers 5"),
        (["--readers", 2, "--reader", "ada"], "either --reader NAME"),
        (["--readers", 3, "--num", 9], "Give an even number"),
        (["--readers", 3, "--num", 2000], "Give a smaller --num, or hold more patients out"),
        (["--readers", 3, "--mode", "forced-choice", "--diagnosis"], "Use --mode rating"),
        (["--readers", 3, "--consent", "missing.txt"], "cannot be read as text"),
        (["--readers", 3, "--view", "PA"], "--view is not for a run"),
    ],
)
def test_new_with_bad_input(medgan, run, here, arguments, message):
    assert message in medgan.fails("study", "new", "s", "--model", run, *arguments)
    assert not (here / "s").exists()


def test_nothing_is_overwritten(medgan, run, drawn):
    again = ("study", "new", "study", "--model", run, "--num", 8, "--readers", 3)
    assert "is not an empty folder" in medgan.fails(*again)


def test_analyze(medgan, drawn, here):
    assert "no answers yet" in medgan.fails("study", "analyze", "study")
    read(drawn)
    output = medgan.works("study", "analyze", "study").stdout
    assert output.startswith("The mean area under the ROC curve of 3 readers was ")
    assert "  d′: " in output
    assert "Analysis: study/analysis/analysis.html" in output
    (here / "study" / "key.json").rename(here / "elsewhere.json")
    assert "name it with --key" in medgan.fails("study", "analyze", "study")
    medgan.works("study", "analyze", "study", "--key", "elsewhere.json", "--out", "out")
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "analysis.html",
        "analysis.json",
        "judgements.csv",
        "results.csv",
    ]


def test_bad_input(medgan, drawn, here):
    assert "is no reader study" in medgan.fails("study", "serve", "nowhere")
    assert "is no reader study" in medgan.fails("study", "analyze", ".")
    assert "Expected one such as sqlite" in medgan.fails("study", "serve", "study", "--port", 0, "--database", "x")
    assert "cannot listen at" in medgan.fails("study", "serve", "study", "--host", "256.0.0.1")
    (here / "study" / "answers.sqlite").write_text("no database at all, but long enough to be taken for one" * 20)
    assert "file is not a database" in medgan.fails("study", "serve", "study", "--port", 0)
    assert "file is not a database" in medgan.fails("study", "analyze", "study")


def test_serve_prints_links(medgan, drawn, monkeypatch):
    served = []
    monkeypatch.setattr("medgan.reader_study.application.run_server", lambda *arguments: served.append(arguments))
    (drawn.folder / "key.json").unlink()  # the server does without
    result = medgan.works("study", "serve", "study", "--port", 0, "--url", "https://study.example.org/")
    assert len(served) == 1
    for name, token in drawn.tokens().items():
        assert f"{name}  https://study.example.org/r/{token}\n" in result.stdout
    assert "Warning" not in result.stderr
    open_to_all = medgan.works("study", "serve", "study", "--port", 0, "--host", "0.0.0.0")
    assert "others on the network can read what is sent" in open_to_all.stderr


def test_missing_extra(medgan, drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for command in ("serve", "analyze"):
        assert "pip install 'medgan[study]'" in medgan.fails("study", command, "study")
