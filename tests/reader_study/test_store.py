from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy

from medgan.errors import DataError
from medgan.reader_study.store import AnswerStore, ReaderProgress, StoreError, WrongCaseError


def test_only_the_turn_can_be_answered(study, store, an_answer):
    reader = study.readers[0]
    for position in (1, -1, 30, 10**30):
        with pytest.raises(WrongCaseError, match="that is case 1"):
            store.save(reader, position, an_answer(), submission=f"submission{position}")
    assert store.save(reader, 0, an_answer(), submission="a" * 8).answered == 1
    assert store.save(reader, 1, an_answer(), submission="b" * 8).answered == 2
    with pytest.raises(WrongCaseError):  # two back is gone
        store.save(reader, 0, an_answer(), submission="c" * 8)
    assert store.save(reader, 1, an_answer(confidence=1), submission="d" * 8).answered == 2
    answers = store.answers()
    assert [answer.confidence for answer in answers[reader.name, 1]] == [4, 1]
    assert len(answers[reader.name, 0]) == 1


def test_a_submission_is_stored_once(study, store, an_answer):
    reader = study.readers[0]
    for _ in range(3):
        assert store.save(reader, 0, an_answer(), submission="same-one").answered == 1
    assert len(store.answers()[reader.name, 0]) == 1
    # For another case it is not a repetition; acknowledging it would lose an answer.
    with pytest.raises(WrongCaseError, match="sent for case 2 was sent for case 1 already"):
        store.save(reader, 1, an_answer(), submission="same-one")
    assert store.progress(reader).answered == 1


def test_readers_do_not_meet(study, store, an_answer):
    first, second = study.readers[:2]
    store.record(first, "consent", study.consent_sha256)
    store.record(first, "training", "0")
    store.save(first, 0, an_answer(), submission="same-one")
    assert store.progress(first) == ReaderProgress(True, 1, 1)
    assert store.progress(second) == ReaderProgress(False, 0, 0)
    assert store.save(second, 0, an_answer(), submission="same-one").answered == 1
    assert store.consents() == {first.name: study.consent_sha256}


def test_several_studies_in_one_database(study, pair_study, an_answer):
    with AnswerStore(study) as one, AnswerStore(pair_study, study.database) as other:
        one.save(study.readers[0], 0, an_answer(), submission="a" * 8)
        assert other.answers() == {}
        assert other.progress(pair_study.readers[0]).answered == 0


def test_concurrent_answers_to_one_case(study, store, an_answer):
    """Two pages of one reader answer the same case: both are attempts at it, and none is lost."""
    reader = study.readers[0]

    def answer(number):
        try:
            return store.save(reader, 0, an_answer(), submission=f"submission{number}").answered
        except WrongCaseError:
            return None

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(answer, range(16)))
    assert results == [1] * 16
    assert len(store.answers()[reader.name, 0]) == 16


def test_it_is_on_the_disk_when_acknowledged(study, store):
    with store._engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2 is FULL


def test_killed_in_the_middle_of_answers(study):
    """What a process had been told is stored is there after it is killed; nothing is there twice."""
    code = """
import sys
from medgan.reader_study import load_study
from medgan.reader_study.store import Answer, AnswerStore
study = load_study(sys.argv[1])
store = AnswerStore(study)
answer = Answer(3, None, 3, "NORMAL", "", 1.0)
for position in range(29):
    store.save(study.readers[0], position, answer, submission=f"{position:08d}")
    print(position, flush=True)
store._engine.dispose = lambda: None
with store._begin() as connection:  # in the middle of a further one, which nobody was told of
    columns = "study, reader, kind, detail, at"
    connection.exec_driver_sql(f"INSERT INTO medgan_events ({columns}) VALUES ('x', 'x', 'x', 'x', 'x')")
    print("half", flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(study.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        told = []
        while (line := process.stdout.readline().strip()) != "half":
            told.append(int(line))
        process.kill()
    finally:
        process.kill()
        process.communicate()
    assert told == list(range(29))
    with AnswerStore(study) as store:
        answers = store.answers()
        assert sorted(position for _, position in answers) == told
        assert {len(attempts) for attempts in answers.values()} == {1}
        with store._reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM medgan_events").scalar() == 0
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_locked_database(study, an_answer):
    with AnswerStore(study, timeout=0.1) as store:
        other = sqlite3.connect(study.folder / "answers.sqlite", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            with pytest.raises(StoreError, match=r"cannot be written: database is locked. Another program holds it"):
                store.save(study.readers[0], 0, an_answer(), submission="a" * 8)
        finally:
            other.close()
        assert store.save(study.readers[0], 0, an_answer(), submission="a" * 8).answered == 1


def test_full_disk(study, store, an_answer):
    """Simulated by the largest number of pages: SQLite then says what it says on a full disk."""
    reader = study.readers[0]
    store.save(reader, 0, an_answer(), submission="a" * 8)

    @sqlalchemy.event.listens_for(store._engine, "begin")
    def limit(connection):
        connection.exec_driver_sql("PRAGMA max_page_count=1")

    def fill_up():
        for position in range(1, 29):
            store.save(reader, position, an_answer(comment="x" * 900), submission=f"{position:08d}")

    with pytest.raises(StoreError, match=r"disk is full. Make room on the disk"):
        fill_up()
    with AnswerStore.open(study) as again:
        assert (reader.name, 0) in again.answers()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written(study):
    study.folder.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="may be written"):
            AnswerStore(study)
    finally:
        study.folder.chmod(0o700)


def test_damaged_database(study):
    (study.folder / "answers.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        AnswerStore(study)
    with pytest.raises(StoreError, match="file is not a database"):
        study.judgements()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "Expected one such as sqlite"),
        ("sqlite://", "in memory"),
        ("oracle9://user:hidden@host/x", "Install its driver"),
        ("sqlite:////nowhere/at/all/answers.sqlite", "unable to open database file"),
    ],
)
def test_addresses_that_cannot_be_used(study, address, message):
    with pytest.raises(StoreError, match=message) as caught:
        AnswerStore(study, address)
    assert "hidden" not in str(caught.value)


def test_database_of_another_study(study, pair_study):
    AnswerStore(pair_study).close()
    with pytest.raises(StoreError, match="holds no answers of the study"):
        AnswerStore.open(study, pair_study.database)
    sqlite3.connect(study.folder / "empty.sqlite").close()
    (study.folder / "empty.sqlite").touch()
    with pytest.raises(StoreError, match="holds no answers of a reader study"):
        AnswerStore.open(study, f"sqlite:///{study.folder / 'empty.sqlite'}")


def test_answers_that_the_study_does_not_know(study, store, an_answer):
    stranger = replace(study.readers[0], name="nobody")
    store.save(stranger, 0, an_answer(), submission="a" * 8)
    with pytest.raises(DataError, match="case 0 of nobody"):
        study.judgements()
