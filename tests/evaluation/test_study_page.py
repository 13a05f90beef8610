from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medgan.core.spec import LabelSpec
from medgan.errors import CheckpointError
from medgan.evaluation import study_figures
from medgan.evaluation.records import ClassifierRun, Cohort, Study
from medgan.evaluation.study_page import write_study_report
from medgan.evaluation.summary import summarise

ARMS = {
    "real": ("real (TRTR)", 1.6),
    "synthetic": ("synthetic 1× (TSTR)", 0.8),
    "real+synthetic": ("real + synthetic 1×", 1.7),
}
CLASSES = {
    "binary": LabelSpec(("NORMAL", "PNEUMONIA")),
    "multiclass": LabelSpec(("normal", "bacterial pneumonia", "viral pneumonia")),
    "multilabel": LabelSpec(("mass", "effusion", "cardiomegaly"), "multilabel"),
}


def make_cohort(spec: LabelSpec, images: int, *, prefix: str, rng: np.random.Generator) -> Cohort:
    """Draw images of patients, a few each."""
    people = rng.integers(0, max(2, images // 2), images)
    if spec.kind == "multilabel":
        labels = (rng.random((images, len(spec))) < [0.4, 0.25, 0.5]).astype(np.float32)
        labels[rng.random(labels.shape) < 0.05] = np.nan
    else:
        labels = rng.choice(len(spec), images, p=[0.35, 0.65] if len(spec) == 2 else [0.4, 0.35, 0.25])
    return Cohort(
        labels=labels,
        patients=np.array([f"{prefix}{person}" for person in people]),
        files=np.array([f"{prefix}/<b>{i}</b> & co_{i:04}.png" for i in range(images)]),
        subgroups=pd.DataFrame(
            {
                "sex": np.array(["F", "M", ""])[people % 7 % 3],
                "age": [str(18 + person * 7 % 70) for person in people],
            }
        ),
    )


def make_predictions(cohort: Cohort, spec: LabelSpec, skill: float, rng: np.random.Generator) -> Any:
    """Return probabilities that know the truth more or less."""
    if spec.kind == "multilabel":
        truth = np.nan_to_num(cohort.labels)
        logits = skill * (2 * truth - 1) + rng.normal(size=truth.shape)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)
    logits = skill * np.eye(len(spec))[cohort.labels] + 0.8 * rng.normal(size=(len(cohort), len(spec)))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def make_study(
    kind: str = "binary",
    *,
    images: int = 120,
    seeds: int = 2,
    fractions: tuple[float, ...] = (1.0,),
    arms: dict[str, tuple[str, float]] = ARMS,
    facts: dict[str, Any] | None = None,
) -> Study:
    """Return a study whose classifiers are made up."""
    rng = np.random.default_rng(0)
    spec = CLASSES[kind]
    validation = make_cohort(spec, images // 2, prefix="v", rng=rng)
    test = make_cohort(spec, images, prefix="t", rng=rng)
    runs = []
    for arm, (_, skill) in arms.items():
        for fraction in fractions if arm != "synthetic" else (1.0,):
            for seed in range(seeds):
                strength = skill * (0.6 + 0.4 * fraction**0.3)
                steps = np.arange(50, 1001, 50)
                training = 0.7 * np.exp(-steps / (200 + 20 * seed)) + 0.02
                gap = 0.15 + (steps - 400).clip(0) / 4000
                runs.append(
                    ClassifierRun(
                        arm=arm,
                        fraction=fraction,
                        seed=seed,
                        validation=make_predictions(validation, spec, strength, rng),
                        test=make_predictions(test, spec, strength, rng),
                        history=[
                            {"step": int(s), "training_loss": float(t), "validation_loss": float(t + g)}
                            for s, t, g in zip(steps, training, gap, strict=True)
                        ],
                        facts={
                            "real_images": 0 if arm == "synthetic" else int(4000 * fraction),
                            "real_patients": 0 if arm == "synthetic" else int(1500 * fraction),
                            "synthetic_images": 4000 if "synthetic" in arm else 0,
                            "best_step": 400 + 50 * seed,
                            "seconds": 12.5 + seed,
                        },
                    )
                )
    titles = {name: title for name, (title, _) in arms.items()}
    return Study(spec, validation, test, runs, {"titles": titles, **(facts or {})})


FACTS = {
    "title": "Synthetic chest X-rays for pneumonia",
    "real": {"name": "Kermany chest X-rays", "licence": "CC BY 4.0", "source": "/data/<chest>"},
    "image": {"channels": 1, "size": [64, 64]},
    "split": {"by": "patient", "seed": 0},
    "division": "As the generator's run divided them.",
    "parts": {
        name: {
            "images": images,
            "patients": images // 2,
            "class_counts": {"NORMAL": images // 3, "PNEUMONIA": images - images // 3},
            "fingerprint": "a1b2c3" * 10,
        }
        for name, images in (("train", 4000), ("validation", 60), ("test", 120))
    },
    "classifier": {"name": "small-cnn", "parameters": 288_554, "recipe": "Recipe(learning_rate=0.001)"},
    "steps": 1000,
    "batch_size": 32,
    "truncation": 1.0,
    "generators": [
        {
            "architecture": "acgan",
            "weights_sha256": "d4" * 32,
            "trained_on": {"name": "Kermany", "images": 4000, "whole_fingerprint": None},
        }
    ],
    "notes": ["It is not known which images the generator was trained on."],
    "versions": {"python": "3.11", "medgan": "0.1.0", "torch": None},
    "command": "medgan evaluate --model runs/00000 'chest <x>'",
}


BANNER = "Void: the generator was trained on <412> of the test images."


def images_at(positions: Any) -> torch.Tensor:
    """Return images whose grey values tell their positions."""
    levels = torch.as_tensor(np.asarray(positions) % 256) / 127.5 - 1
    return levels[:, None, None, None].expand(-1, 1, 64, 64)


class Report:
    """A report, written, with what a parser finds in it."""

    def __init__(self, study: Study, folder: Path, *, images: bool = True, replicates: int = 60) -> None:
        self.study = study
        self.summary = summarise(study, replicates=replicates)
        self.asked: list[list[int]] = []
        self.path = write_study_report(study, self.summary, folder, images_at=self.images_at if images else None)
        self.folder = folder
        self.html = self.path.read_text(encoding="utf-8")
        self.found = Parser()
        self.found.feed(self.html)

    def images_at(self, positions: Any) -> torch.Tensor:
        self.asked.append(list(positions))
        return images_at(positions)


class Parser(HTMLParser):
    """Collects what a page is made of, and fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []  # innermost tag and text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, *tags: str) -> str:
        """Return the text within some tags, or all that is shown."""
        return " ".join(
            text for tag, text in self.texts if (tag in tags if tags else tag not in {"style", "script", "title"})
        )


@pytest.fixture(scope="module", autouse=True)
def _coarse() -> Iterator[None]:
    """Draw with few pixels, as nobody looks at these pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_figures, "_DPI", 60)
        yield


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two classes, two shares of the real patients, all facts and a banner."""
    study = make_study(fractions=(0.25, 1.0), facts={**FACTS, "banners": [BANNER]})
    return Report(study, tmp_path_factory.mktemp("binary") / "report")


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three classes, and no fact."""
    study = make_study("multiclass")
    return Report(Study(study.labels, study.validation, study.test, study.runs, {}), tmp_path_factory.mktemp("multi"))


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Findings, of which some are unknown; one seed, and no images."""
    return Report(make_study("multilabel", seeds=1), tmp_path_factory.mktemp("findings"), images=False)


@pytest.fixture(params=["binary", "multiclass", "multilabel"])
def report(request: pytest.FixtureRequest) -> Report:
    """Each of them."""
    found: Report = request.getfixturevalue(request.param)
    return found


def numbers_of(value: Any) -> Iterator[float]:
    """Yield all numbers of plain JSON values."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_of(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


# ------------------------------------------------------------------------------------------ the page


def test_every_number_shown_is_in_the_summary(report: Report) -> None:
    known = [abs(number) for number in numbers_of(report.summary)]
    tables = report.found.text("td", "strong", "code").replace(FACTS["classifier"]["recipe"], "").replace("<0.001", "")
    shown = set(re.findall(r"(?<![\d.])\d+\.\d{3}(?![\d.])", tables))
    assert len(shown) > 100
    assert shown <= {f"{number:.3f}" for number in known}
    captions = set(re.findall(r"(?<![\d.])\d\.\d{2}(?![\d.])", report.found.text("figcaption")))
    assert bool(captions - {"0.02"}) == bool(report.asked)
    assert captions <= {f"{number:.2f}" for number in known}


def test_scores_stand_in_the_table_with_their_intervals(report: Report) -> None:
    cells = [text for tag, text in report.found.texts if tag in ("td", "strong")]
    for result in report.summary["results"]:
        for name in report.summary["scores"]:
            estimate = result["scores"][name]
            if name in ("auroc", "auprc", "balanced_accuracy") and estimate["low"] is not None:
                assert f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]" in cells


def test_page_is_well_formed_and_needs_no_other_file(report: Report) -> None:
    assert report.found.open == []
    addresses = [
        str(value)
        for _, attributes in report.found.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    ids = {f"#{attributes['id']}" for _, attributes in report.found.tags if "id" in attributes}
    assert {address for address in addresses if address.startswith("#")} <= ids
    assert not {tag for tag, _ in report.found.tags} & {"link", "iframe", "object", "b", "chest", "x"}
    assert sum(tag == "script" for tag, _ in report.found.tags) == 1
    for address in addresses:
        if address.startswith("data:"):
            with Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))) as picture:
                picture.verify()
    assert all(attributes.get("alt") for tag, attributes in report.found.tags if tag == "img")


def test_nothing_is_none(report: Report) -> None:
    text = report.found.text()
    assert not re.search(r"\b(None|nan|NaN|Undefined|inf)\b", text)


def test_verdict_is_first_and_names_what_may_be_claimed(binary: Report) -> None:
    assert binary.html.index(BANNER.replace("<", "&lt;").replace(">", "&gt;")) < binary.html.index(
        'class="note verdict"'
    )
    assert binary.html.index('class="note verdict"') < binary.html.index("<h2>")
    points = [text for tag, text in binary.found.texts if tag == "li"]
    for comparison in binary.summary["comparisons"]:
        assert " ".join(comparison["sentences"]) in points
    assert all(note in points for note in binary.summary["verdict"]["notes"] + FACTS["notes"])
    assert 'class="note danger"' in binary.html
    assert "Found, but void" in binary.found.text("p")


def test_files_of_unknown_patients_are_not_called_patients(binary: Report, tmp_path: Path) -> None:
    assert f"of {binary.summary['cohorts']['test']['patients']} patients, none of whom" in binary.found.text()
    parts = {name: part | {"unknown_patients": part["images"]} for name, part in FACTS["parts"].items()}
    arms = {name: ARMS[name] for name in ("real", "synthetic")}
    study = make_study(images=40, seeds=1, arms=arms, facts={"parts": parts})
    files = len(set(study.test.patients))
    unknown = replace(study, test=replace(study.test, unknown_patients=40))
    text = Report(unknown, tmp_path, images=False).found.text()
    assert f"of {files} files, none of which" in text
    assert f"; 1 seed, {files} files)" in text
    assert f"40 real images of {files} files." in text
    assert f"{files} patients" not in text
    assert "no patient is in two" not in text


def test_page_of_a_study_without_a_leak_is_not_void(multiclass: Report) -> None:
    assert 'class="note danger"' not in multiclass.html
    assert "void" not in multiclass.found.text()


def test_sections_of_all_that_was_asked_for(report: Report) -> None:
    titles = {text for tag, text in report.found.texts if tag == "h2"}
    assert {"Arms", "Comparisons", "ROC and precision–recall curves", "Calibration", "Subgroups"} <= titles
    assert {"Training and validation loss", "Settings and provenance", "Table for a paper", "Every training"} <= titles
    assert any(title.startswith("Scores of each") for title in titles)
    assert any(title.startswith("Decisions") for title in titles)
    several = len({result["fraction"] for result in report.summary["results"]}) > 1
    assert ("Gain against the share of real data" in titles) == several
    assert ("All shares of real data" in titles) == several
    assert ("Files of the examples that flip" in titles) == bool(report.asked)


def test_provenance_is_told(binary: Report) -> None:
    cells = binary.found.text("td", "dd", "code")
    for told in (
        "Kermany chest X-rays",
        "CC BY 4.0",
        "/data/<chest>",
        "small-cnn",
        "288,554",
        "acgan",
        "d4" * 32,
        FACTS["division"],
    ):
        assert told in cells
    assert FACTS["command"] in cells
    assert "0.1.0" in cells
    assert "torch" not in binary.found.text("dt")  # its version is not known


def test_p_values_and_outcomes_of_comparisons(binary: Report) -> None:
    cells = [text for tag, text in binary.found.texts if tag == "td"]
    for comparison in binary.summary["comparisons"]:
        start = cells.index(f"{comparison['title']} − {comparison['reference_title']}")
        score = comparison["scores"]["auroc"]
        difference, p, p_holm, outcome = cells[start + 1 : start + 5]
        assert difference.startswith(f"{score['value']:+.3f} [".replace("-", "−"))
        assert p == f"{score['p']:.3f}"
        assert p_holm == f"{score['p_holm']:.3f}"
        assert outcome == {"noninferior": "shown", "not_shown": "not shown"}.get(
            comparison["noninferiority"]["outcome"], comparison["noninferiority"]["outcome"]
        )


def test_worst_subgroup_is_named(report: Report) -> None:
    points = [text for tag, text in report.found.texts if tag == "li"]
    assert report.summary["subgroups"]["worst"]
    for worst in report.summary["subgroups"]["worst"]:
        start = f"{worst['title']}: {worst['column']} {worst['group']}, AUROC {worst['value']:.3f}"
        assert any(point.startswith(start) for point in points)


def test_floor_is_in_the_table(binary: Report) -> None:
    cells = [text for tag, text in binary.found.texts if tag == "td"]
    floor = binary.summary["floor"]
    assert f"no image: always {floor['class']}" in cells
    assert f"{floor['scores']['auroc']['value']:.3f}" in cells


def test_flips_show_the_images_of_their_files(binary: Report) -> None:
    assert len(binary.asked) == 1  # all at once
    files = list(binary.study.test.files)
    shown = [
        (image["file"], image["truth"])
        for flip in binary.summary["flips"]
        for images in (flip["images_mended"], flip["images_broken"])
        for image in images[:6]
    ]
    assert shown
    tiles = [attributes for tag, attributes in binary.found.tags if attributes.get("class") == "pixelated"]
    assert len(tiles) == len(shown)
    for tile, (file, truth) in zip(tiles, shown, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(str(tile["src"]).split(",", 1)[1]))) as picture:
            assert picture.size == (192, 192)
            assert picture.getextrema() == (files.index(file),) * 2
        assert f"truth {truth};" in str(tile["alt"])
        assert file not in str(tile["alt"])
    folded = binary.html.index("Files of the examples that flip</h2>")
    assert all(
        binary.html.index(file.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) > folded
        for file, _ in shown
    )


def test_without_images_flips_are_counted(multilabel: Report) -> None:
    assert "pixelated" not in multilabel.html.split("</style>")[1]
    for flip in multilabel.summary["flips"]:
        assert f"of {flip['judged']:,} image–finding pairs, {flip['changed']:,} changed" in multilabel.found.text("p")


def test_many_comparisons_are_told_by_what_they_show(tmp_path: Path) -> None:
    arms = {"real": ("real", 1.0), **{f"arm{i}": (f"arm {i}", 0.2 + 0.5 * i) for i in range(5)}}
    study = make_study(arms=arms, seeds=4)
    report = Report(study, tmp_path, images=False, replicates=300)
    points = [text for tag, text in report.found.texts if tag == "li"]
    outcomes: dict[str, list[str]] = {}
    for comparison in report.summary["comparisons"]:
        outcomes.setdefault(comparison["noninferiority"]["outcome"], []).append(comparison["title"])
    assert len(outcomes) > 1
    starts = {"noninferior": "Non-inferior to real", "inferior": "Inferior to real", "not_shown": "Neither"}
    for outcome, start in starts.items():
        point = next((point for point in points if point.startswith(start)), "")
        assert bool(point) == (outcome in outcomes)
        assert point.rstrip(".").endswith("; ".join(outcomes.get(outcome, [])))
    significant = {item["title"] for item in report.summary["comparisons"] if item["scores"]["auroc"]["p_holm"] < 0.05}
    told = [point.split(": ")[1].rstrip(".").split("; ") for point in points if point.startswith(("Better", "Worse"))]
    assert significant
    assert {title for titles in told for title in titles} == significant
    better = next(point for point in points if point.startswith("Better than real")).split(": ")[1]
    assert "arm 4" in better
    assert "arm 0" not in better


# ------------------------------------------------------------------------------------------ the files


def test_summary_is_kept_whole(report: Report) -> None:
    assert json.loads((report.folder / "summary.json").read_text(encoding="utf-8")) == report.summary
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_study_report(report.study, {**report.summary, "more": float("nan")}, report.folder)


def test_arms_as_csv(report: Report) -> None:
    table = pd.read_csv(report.folder / "arms.csv")
    assert list(table["arm"]) == [result["arm"] for result in report.summary["results"]]
    assert list(table["fraction"]) == [result["fraction"] for result in report.summary["results"]]
    for name in ("auroc", "brier"):
        for column, key in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
            expected = [result["scores"][name][key] for result in report.summary["results"]]
            np.testing.assert_allclose(table[column], expected)


def test_runs_as_csv(report: Report) -> None:
    table = pd.read_csv(report.folder / "runs.csv")
    assert len(table) == len(report.study.runs)
    for (_, row), run in zip(table.iterrows(), report.study.runs, strict=True):
        assert (row["arm"], row["fraction"], row["seed"]) == (run.arm, run.fraction, run.seed)
        assert row["best_step"] == run.facts["best_step"]
    result = report.summary["results"][0]
    np.testing.assert_allclose(table["auroc"][: len(result["runs"])].mean(), result["scores"]["auroc"]["value"])
    thresholds = {"binary": ["threshold"], "multiclass": []}.get(
        report.summary["kind"], [f"threshold/{name}" for name in report.study.labels.names]
    )
    assert [column for column in table if column.startswith("threshold")] == thresholds


def test_predictions_as_csv(report: Report) -> None:
    table = pd.read_csv(report.folder / "predictions.csv", dtype={"patient": str})
    test, names = report.study.test, report.study.labels.names
    assert list(table["file"]) == list(test.files)
    assert list(table["patient"]) == list(test.patients)
    if test.labels.ndim == 1:
        assert list(table["truth"]) == [names[label] for label in test.labels]
    else:
        np.testing.assert_array_equal(table[[f"truth/{name}" for name in names]], test.labels)
    runs = [run for run in report.study.runs if (run.arm, run.fraction) == ("real", 1.0)]
    shown = [1] if report.summary["kind"] == "binary" else range(len(names))
    for place in shown:
        expected = sum(run.test[:, place].astype(float) for run in runs) / len(runs)
        np.testing.assert_allclose(table[f"real@1/{names[place]}"], expected, rtol=1e-6)
    arms = {(run.arm, run.fraction) for run in report.study.runs}
    assert sum("@" in column for column in table) == len(arms) * len(shown)


def test_table_for_a_paper(binary: Report) -> None:
    lines = (binary.folder / "arms.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + len(ARMS)  # each arm at its largest share
    assert len({row.count("|") for row in rows}) == 1
    for row, (title, _) in zip(rows[1:], ARMS.values(), strict=True):
        assert row.startswith(f"| {title} |")
    assert "Positive class: PNEUMONIA." in lines[-1]
    assert "120 real images" in lines[-1]
    assert (binary.folder / "arms.md").read_text(encoding="utf-8") in binary.found.text("code")


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    study = make_study(images=40, arms={"real": ARMS["real"]}, seeds=1)
    strange = os.fsdecode(b"caf\xe9.png")
    files = np.array([strange, *study.test.files[1:]])
    test = Cohort(study.test.labels, study.test.patients, files, study.test.subgroups)
    study = Study(study.labels, study.validation, test, study.runs, study.facts)
    report = Report(study, tmp_path)
    assert b"caf\xe9.png" in (tmp_path / "predictions.csv").read_bytes()
    assert "Comparisons" not in report.found.text("h2")


def test_report_takes_the_place_of_an_earlier_one(binary: Report, tmp_path: Path) -> None:
    names = {"index.html", "summary.json", "arms.csv", "runs.csv", "predictions.csv", "arms.md"}
    assert {path.name for path in binary.folder.iterdir()} == names
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="could not be written"):
        write_study_report(binary.study, binary.summary, tmp_path / "file")


# ------------------------------------------------------------------------------------------ a real browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WRAPPER = """<!doctype html><body><iframe src="page.html" style="border:0; width:390px; height:844px"></iframe>
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const links = [...page.querySelectorAll("nav a")];
  const images = [...page.images].filter(image => !image.naturalWidth).length;
  document.body.innerHTML = `width ${page.documentElement.clientWidth} content ${page.documentElement.scrollWidth} `
    + `broken ${images} links ${links.length} style ${getComputedStyle(page.querySelector("h1")).fontSize}`;
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    """Path of a browser of the Chromium family."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    return found


def load(browser: str, page: Path, *options: str) -> tuple[str, str]:
    """Load a page; returns its document and the browser's log."""
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", "--allow-file-access-from-files", f"--user-data-dir={page.parent}/profile"]
    done = subprocess.run(
        [*command, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, done.stderr


def console(log: str) -> list[str]:
    """Return what a page said on its console."""
    return [line for line in log.splitlines() if "CONSOLE" in line]


def test_page_in_a_browser(report: Report, browser: str, tmp_path: Path) -> None:
    shutil.copy(report.path, tmp_path / "page.html")
    (tmp_path / "wrapper.html").write_text(WRAPPER)
    document, log = load(browser, tmp_path / "wrapper.html")
    found = re.search(r"width (\d+) content (\d+) broken (\d+) links (\d+) style (\d+)", document)
    assert found, document[:2000]
    width, content, broken, links, _ = map(int, found.groups())
    assert width == 390
    assert content <= width  # nothing makes a phone scroll sideways
    assert broken == 0
    assert links == sum(tag == "h2" for tag, _ in report.found.tags)
    assert console(log) == []


def test_the_browser_tells_what_is_wrong(browser: str, tmp_path: Path) -> None:
    wide = "<!doctype html><h1>x</h1><div style='width:900px'>x</div><img src='data:,x'><script>missing()</script>"
    (tmp_path / "page.html").write_text(wide)
    (tmp_path / "wrapper.html").write_text(WRAPPER)
    document, log = load(browser, tmp_path / "wrapper.html")
    assert re.search(r"width 390 content 9\d\d broken 1 ", document)
    assert any("missing is not defined" in line for line in console(log))
