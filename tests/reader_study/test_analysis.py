from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from medgan.errors import DataError
from medgan.reader_study import analyze_study, load_study
from medgan.reader_study.analysis import ALL
from medgan.reader_study.analysis_page import make_page, write_analysis
from medgan.reader_study.store import AnswerStore

AREA = "area under the curve"


@pytest.fixture(scope="session")
def read(drawn, fill, tmp_path_factory):
    """A study with all questions that four readers of some skill have read; look, but do not write."""
    import shutil

    study = load_study(shutil.copytree(drawn.folder, tmp_path_factory.mktemp("read") / "study"))
    fill(study, skill=1.2, seed=3)
    return study


@pytest.fixture(scope="session")
def found(read):
    return analyze_study(read)


def test_readers_with_skill(found):
    first, second = found.claim
    assert first.startswith(f"The mean area under the ROC curve of 4 readers was {found.primary.value:.3f} (95 %")
    assert "12 real and 12 synthetic images, 32 × 32 pixels" in first
    assert second.startswith("Readers can tell the synthetic images from real ones (p ")
    # The skill that they were given: 1.2 standard deviations.
    assert found.primary.low < stats.norm.cdf(1.2 / math.sqrt(2)) < found.primary.high
    assert found.of(AREA).value == found.primary.value


def test_numbers_of_each_reader(found):
    """Each against the table of judgements, by other means."""
    table = found.judgements[~found.judgements["repeat"]]
    for name, mine in table.groupby("reader"):
        synthetic = mine["kind"] == "synthetic"
        assert found.of(AREA, name).value == pytest.approx(roc_auc_score(synthetic, mine["confidence"].astype(int)))
        right = mine["said_synthetic"].astype("Float64").fillna(0.5) == synthetic.astype(float)
        unsure = mine["said_synthetic"].isna()
        expected = (right.sum() + unsure.sum() / 2) / 24
        assert found.of("accuracy", name).value == pytest.approx(expected)
        real = mine.loc[~synthetic, "realism"].astype(float).mean()
        assert found.of("realism, real images", name).value == pytest.approx(real)
        assert found.of("diagnosis agrees with the label, real images", name).value == 1
        both = found.judgements[found.judgements["reader"] == name].groupby("case")["confidence"].agg(list)
        twice = [pair for pair in both if len(pair) == 2]
        assert found.of("repeats answered alike", name).value == np.mean([a == b for a, b in twice])
        median = found.judgements.loc[found.judgements["reader"] == name, "seconds"].median()
        assert found.of("median seconds a case", name).value == pytest.approx(median)


def test_numbers_of_all_readers(found):
    for measure in (
        AREA,
        "accuracy",
        "d′",
        "bias (above 0: towards real)",
        "Fleiss’ κ of real, unsure and synthetic",
        "ICC(2,1) of confidence",
        "ICC(2,k) of confidence",
        "ICC(2,1) of realism",
        "realism, synthetic less real",
        "weighted κ of repeats",
    ):
        result = found.of(measure)
        assert result.low <= result.value <= result.high, measure
        assert result.interval_for
    assert found.of("d′").value > 0.3
    assert found.of("diagnosis agrees with the label, synthetic less real").value == 0
    assert found.of(f"{AREA}, NORMAL") is None  # six images of each kind are too few
    assert any("Too few images for an area of their own: NORMAL, PNEUMONIA" in limit for limit in found.limits)


@pytest.mark.parametrize(
    ("skill", "margin", "sentence"),
    [
        (0, 0.2, "readers cannot tell the synthetic images from real ones, within the margin of 0.3 to 0.7"),
        (0, 0.01, "Neither is shown"),
        (0.35, 0.3, "better than by guessing"),
        (-2, 0.05, "take it for the opposite"),
    ],
)
def test_sentences(draw, fill, tmp_path, skill, margin, sentence):
    study = draw(tmp_path / "s", num=100, margin=margin, readers=("a", "b", "c", "d", "e"))
    fill(study, skill=skill, seed=5)
    found = analyze_study(study)
    assert sentence in " ".join(found.claim), found.claim
    assert found.of(f"{AREA}, NORMAL").count == 50
    assert any("even pure guessing" in limit for limit in found.limits) == (margin < 0.2)


def test_pairs(pair_study, fill):
    fill(pair_study, skill=1.5, seed=1)
    found = analyze_study(pair_study)
    assert "share of pairs in which the synthetic image was found" in found.claim[0]
    table = found.judgements[~found.judgements["repeat"] & (found.judgements["kind"] == "synthetic")]
    shares = table.groupby("reader")["said_synthetic"].mean()
    for name, share in shares.items():
        result = found.of("correct pairs", name)
        assert result.value == pytest.approx(share)
        assert result.low < share < result.high
    assert found.primary.value == pytest.approx(shares.mean())
    assert found.of("d′").value > 0.5
    assert found.of("accuracy") is None
    assert found.of("κ of repeats") is not None
    assert make_page(found).html()


def test_side_of_pairs(pair_study):
    """A reader who always takes the left one has no sensitivity but a bias, whatever is there."""
    from medgan.reader_study.store import Answer

    with AnswerStore(pair_study) as store:
        for reader in pair_study.readers:
            for position in range(len(reader.presentations)):
                answer = Answer(None, 0, None, "", "", 2.0)
                store.save(reader, position, answer, submission=f"{position:08d}")
    found = analyze_study(pair_study)
    for reader in pair_study.readers:
        assert found.of("bias (above 0: towards the right side)", reader.name).value < -1.5
        assert abs(found.of("d′", reader.name).value) < 0.3
    assert sum("no record that" in limit for limit in found.limits) == 4


@pytest.mark.parametrize("readers", [1, 2])
def test_too_few_readers(study, fill, readers):
    fill(study, skill=0.5, readers=readers)
    found = analyze_study(study)
    names = [reader.name for reader in study.readers]
    assert found.finished == tuple(names[:readers])
    assert found.equivalence is None
    (sentence,) = found.claim
    assert sentence.startswith("Nothing may be claimed")
    assert "Nothing can be said about readers in general" in found.limits[0]
    assert f"{names[3]} has answered 0 of 30" in found.limits[1]
    pooled = [result.measure for result in found.results if result.who == ALL]
    # What is left is of these readers' agreement with each other, or of each with itself.
    assert all(name.startswith(("Fleiss", "weighted")) for name in pooled)
    assert readers > 1 or pooled == []
    html = make_page(found).html()
    assert "<h2>The test</h2>" not in html
    assert "guessing gives 0.5" not in html
    assert found.of(AREA, names[0]).interval_for == "other images"


def test_missing_answers_are_named_and_left_out(study, fill):
    fill(study, skill=0.5, leave=1)
    found = analyze_study(study)
    last = study.readers[-1].name
    assert last not in found.finished
    assert len(found.finished) == 3
    assert f"{last} has answered 29 of 30" in found.limits[0]
    assert found.of(AREA, last) is None
    assert found.primary.readers == 3
    assert last in set(found.judgements["reader"])  # the answers are not thrown away


def test_nobody_has_finished(study, fill):
    fill(study, skill=0.5, readers=1, leave=3)
    first = study.readers[0].name
    with pytest.raises(DataError, match=rf"No reader has answered all cases.*{first} has answered 27 of 30"):
        analyze_study(study)


def test_same_answers_to_all(study, an_answer):
    with AnswerStore(study) as store:
        for reader in study.readers:
            for position in range(len(reader.presentations)):
                answer = an_answer(confidence=3, seconds=0.2)
                store.save(reader, position, answer, submission=f"{position:08d}")
    found = analyze_study(study)
    assert found.primary.value == 0.5
    assert math.isnan(found.primary.low)
    assert "it cannot be said how sure that is" in found.claim[0]
    limits = " ".join(found.limits)
    assert "gave the same answer to every image" in limits
    assert "took less than 1 s" in limits
    html = make_page(found).html()
    assert "nan" not in html.lower()
    assert found.of("Fleiss’ κ of real, unsure and synthetic") is None
    assert found.of("ICC(2,1) of confidence") is None
    assert found.of("weighted κ of repeats") is None


def test_perfect_readers(study, an_answer, key_of):
    key = key_of(study)
    with AnswerStore(study) as store:
        for reader in study.readers:
            for position, shown in enumerate(reader.presentations):
                said = 5 if key[shown.items[0]]["kind"] == "synthetic" else 1
                store.save(reader, position, an_answer(confidence=said), submission=f"{position:08d}")
    found = analyze_study(study)
    assert found.primary.value == 1
    assert "All 4 readers had the same area under the ROC curve, 1.000" in found.claim[0]
    assert "nan" not in make_page(found).html().lower()


def test_files(found, tmp_path):
    written = write_analysis(found, tmp_path / "out", command="medgan study analyze study")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(written)
    html = written["analysis.html"].read_text(encoding="utf-8")
    assert found.claim[1] in html.replace("&lt;", "<")
    assert html.count("data:image/png;base64,") == 2
    assert "medgan study analyze study" in html
    assert not [part for part in ('src="http', 'href="http', "nan ") if part in html]
    facts = json.loads(written["analysis.json"].read_text(encoding="utf-8"))
    assert facts["claim"] == list(found.claim)
    assert {result["who"] for result in facts["results"]} == {"all readers"}
    assert facts["results"][0]["value"] == found.primary.value
    assert len(facts["facts"]["weights_sha256"]) == 64
    with written["results.csv"].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found.results)
    assert float(rows[0]["value"]) == found.results[0].value
    with written["judgements.csv"].open(encoding="utf-8", newline="") as stream:
        judged = list(csv.DictReader(stream))
    assert len(judged) == 120
    assert {row["comment"] for row in judged} == {"", "'=1+1"}  # no spreadsheet takes it for a formula
    assert write_analysis(found, tmp_path / "out")  # again


def test_comments_become_no_markup(study, an_answer, fill):
    fill(study, skill=0, seed=1)
    with AnswerStore(study) as store:
        store.save(study.readers[0], 29, an_answer(comment="<script>alert(1)</script>"), submission="f" * 8)
    html = make_page(analyze_study(study)).html()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_changed_answers_are_counted(study, fill, an_answer):
    reader = study.readers[2]
    fill(study, skill=0)
    with AnswerStore(study) as store:
        store.save(reader, 29, an_answer(confidence=1), submission="changed-1".replace("-", ""))
    found = analyze_study(study)
    assert found.facts["answers changed"] == "1"
