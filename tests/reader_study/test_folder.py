from __future__ import annotations

import json

import pytest

from medgan.errors import ConfigError, DataError
from medgan.reader_study import load_study
from medgan.reader_study.store import AnswerStore


def test_judgements(study, key_of, fill):
    fill(study, skill=1)
    table = study.judgements()
    assert len(table) == 4 * 30
    assert table["repeat"].sum() == 4 * 6
    key = key_of(study)
    synthetic = table[table["kind"] == "synthetic"]
    assert len(synthetic) == 4 * 15
    for row in synthetic.itertuples():
        assert key[row.item] | {"kind": "synthetic", "label": row.label, "seed": row.seed} == key[row.item]
    assert table.loc[table["kind"] == "real", "seed"].isna().all()
    assert table["confidence"].between(1, 5).all()
    assert (table.loc[table["confidence"] == 3, "said_synthetic"].isna()).all()
    assert (table.loc[table["confidence"] > 3, "said_synthetic"]).all()
    assert table["seconds"].between(2, 9).all()
    assert set(table["attempts"]) == {1}


def test_judgements_of_pairs(pair_study, fill):
    fill(pair_study, skill=5)
    table = pair_study.judgements()
    assert len(table) == 2 * 4 * 30
    assert table["confidence"].isna().all()
    assert (table["said_synthetic"] == (table["kind"] == "synthetic")).mean() > 0.95
    assert (table.groupby(["reader", "position"])["said_synthetic"].sum() == 1).all()


def test_the_last_answer_counts_and_the_first_time(study, an_answer):
    reader = study.readers[0]
    with AnswerStore(study) as store:
        store.save(reader, 0, an_answer(confidence=1, seconds=7), submission="first-one")
        store.save(reader, 0, an_answer(confidence=5, seconds=1), submission="second-one")
    (row,) = study.judgements().itertuples()
    assert (row.confidence, row.seconds, row.attempts) == (5, 7, 2)


def test_key_kept_elsewhere(study, tmp_path, fill):
    fill(study, skill=0, readers=1)
    elsewhere = (study.folder / "key.json").rename(tmp_path / "key.json")
    with pytest.raises(DataError, match=r"key.json cannot be read .*name it with --key"):
        study.judgements()
    assert len(study.judgements(key=elsewhere)) == 30
    elsewhere.write_text(elsewhere.read_text(encoding="utf-8").replace('"real"', '"synthetic"', 1), encoding="utf-8")
    with pytest.raises(DataError, match="its checksum is another"):
        study.judgements(key=elsewhere)


def test_design_cannot_change_once_begun(study, fill):
    fill(study, skill=0, readers=1)
    file = study.folder / "study.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["options"]["margin"] = 0.3
    file.write_text(json.dumps(values), encoding="utf-8")
    changed = load_study(study.folder)
    with pytest.raises(DataError, match="changed after the study had begun"):
        changed.judgements()
    with pytest.raises(DataError, match="changed after the study had begun"):
        AnswerStore(changed)


def test_no_answers_yet(study):
    with pytest.raises(DataError, match="no answers yet"):
        study.judgements()
    assert not (study.folder / "answers.sqlite").exists()


@pytest.mark.parametrize("item", ["../key.json", "key", "", "0123456789abcdeF", "0123456789abcdef0", "a/b"])
def test_only_names_of_images_become_paths(study, item):
    with pytest.raises(DataError, match="no image of the study"):
        study.image_file(item)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("study.json", "{", "cannot be read"),
        ("study.json", "[]", "expected an object"),
        ("study.json", "{}", "damaged"),
        ("study.json", '{"format": 2}', "format 2"),
        ("readers.json", "{}", "not that of this study"),
    ],
)
def test_damaged_files(study, file, content, message):
    (study.folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_study(study.folder).tokens()


def test_short_secrets_are_refused(study):
    values = {"study": study.id, "tokens": dict.fromkeys([reader.name for reader in study.readers], "short")}
    (study.folder / "readers.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match="too short"):
        study.tokens()


def test_no_study(tmp_path):
    with pytest.raises(DataError, match="no reader study"):
        load_study(tmp_path)


def test_missing_extra(study, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    with pytest.raises(ConfigError, match=r"uvicorn, which cannot be imported. Type: pip install 'medgan\[study\]'"):
        study.judgements()
