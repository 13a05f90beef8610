"""Answers in a database: what is acknowledged is on the disk, and nothing is changed afterwards.

A row is only ever added. An answer that is given anew is a further row, and the last one counts. A file of SQLite is
used with write-ahead log and ``synchronous=FULL``: a commit returns when the disk has it, and a process that is killed
or a machine that loses power takes nothing with it that was acknowledged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sql
from sqlalchemy.engine import make_url

from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.reader_study.folder import Reader, ReaderStudy

__all__ = ["Answer", "AnswerStore", "ReaderProgress", "StoreError", "WrongCaseError"]

_tables = sql.MetaData()

_studies = sql.Table(
    "medgan_studies",
    _tables,
    sql.Column("study", sql.String(32), primary_key=True),
    sql.Column("design_sha256", sql.String(64), nullable=False),
    sql.Column("began_at", sql.String(40), nullable=False),
)

_events = sql.Table(
    "medgan_events",
    _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("study", sql.String(32), nullable=False),
    sql.Column("reader", sql.String(64), nullable=False),
    sql.Column("kind", sql.String(16), nullable=False),  # consent, training, pause, continue
    sql.Column("detail", sql.String(64), nullable=False),
    sql.Column("at", sql.String(40), nullable=False),
    sql.Index("medgan_events_of_reader", "study", "reader"),
)

_answers = sql.Table(
    "medgan_answers",
    _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("study", sql.String(32), nullable=False),
    sql.Column("reader", sql.String(64), nullable=False),
    sql.Column("position", sql.Integer, nullable=False),
    sql.Column("attempt", sql.Integer, nullable=False),
    sql.Column("submission", sql.String(64), nullable=False),  # chosen by the page, so that sending twice stores once
    sql.Column("confidence", sql.Integer),
    sql.Column("choice", sql.Integer),
    sql.Column("realism", sql.Integer),
    sql.Column("diagnosis", sql.String(200), nullable=False),
    sql.Column("comment", sql.Text, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("answered_at", sql.String(40), nullable=False),
    sql.UniqueConstraint("study", "reader", "position", "attempt"),
    sql.UniqueConstraint("study", "reader", "submission"),
)


class StoreError(DataError):
    """A database that cannot be opened, read or written: locked, full, or not there."""


class WrongCaseError(DataError):
    """An answer to a case that is not the reader's turn."""


@dataclass(frozen=True)
class Answer:
    """What a reader said of a case.

    Attributes:
        confidence: 1 (definitely real) to 5 (definitely synthetic); None for pairs.
        choice: Which of a pair is synthetic, 0 for the left one; None for single images.
        realism: 1 to 5; None if it was not asked.
        diagnosis: Class, or "" if it was not asked.
        comment: As it was typed.
        seconds: That the case was in sight.
        answered_at: When it was stored, ISO 8601, UTC; "" before.
    """

    confidence: int | None
    choice: int | None
    realism: int | None
    diagnosis: str
    comment: str
    seconds: float
    answered_at: str = ""


@dataclass(frozen=True)
class ReaderProgress:
    """How far a reader is.

    Attributes:
        consented: Whether the reader has agreed.
        trained: Training cases done.
        answered: Cases answered.
    """

    consented: bool
    trained: int
    answered: int


class AnswerStore:
    """The database of a study; safe to use from several threads, and processes.

    Args:
        study: The study.
        database: SQLAlchemy address; None for the study's own file.
        timeout: Seconds to wait for a file of SQLite that somebody else has locked.

    Raises:
        StoreError: If it cannot be opened or written.
        DataError: If the study was changed after it had begun.
    """

    def __init__(self, study: ReaderStudy, database: str | None = None, *, timeout: float = 10.0) -> None:
        """Open the database, and make its tables."""
        self._study = study
        self._address = database or study.database
        self._engine = _make_engine(self._address, timeout)
        try:
            with self._begin() as connection:
                _tables.create_all(connection)
                began = connection.scalar(sql.select(_studies.c.design_sha256).where(_studies.c.study == study.id))
                if began is None:
                    row = {"study": study.id, "design_sha256": study.design_sha256, "began_at": _now()}
                    connection.execute(_studies.insert().values(**row))
            self._check_design(began)
        except DataError:
            self.close()
            raise

    @classmethod
    def open(cls, study: ReaderStudy, database: str | None = None, *, timeout: float = 10.0) -> AnswerStore:
        """Open a database that is there already, to read it.

        Args:
            study: The study.
            database: SQLAlchemy address; None for the study's own file.
            timeout: See `AnswerStore`.

        Raises:
            StoreError: If there is none, or it cannot be read.
            DataError: If it holds nothing of this study, or the study was changed after it had begun.
        """
        self = cls.__new__(cls)
        self._study = study
        self._address = database or study.database
        url = _parse(self._address)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
            raise StoreError(
                f"There are no answers yet: {url.database} does not exist. Let readers read first, with: medgan study "
                f"serve {study.folder}"
            )
        self._engine = _make_engine(self._address, timeout)
        try:
            with self._reading() as connection:
                if not sql.inspect(connection).has_table(_answers.name):
                    raise StoreError(f"{self._shown} holds no answers of a reader study.")
                began = connection.scalar(sql.select(_studies.c.design_sha256).where(_studies.c.study == study.id))
            if began is None:
                raise StoreError(f"{self._shown} holds no answers of the study in {study.folder}.")
            self._check_design(began)
        except DataError:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # ------------------------------------------------------------------------------------ writing

    def record(self, reader: Reader, kind: str, detail: str = "") -> None:
        """Store what a reader did beside answering: ``consent``, ``training``, ``pause``, ``continue``.

        Args:
            reader: Who.
            kind: What.
            detail: For example the number of the training case.

        Raises:
            StoreError: If it could not be stored.
        """
        row = {"study": self._study.id, "reader": reader.name, "kind": kind, "detail": detail, "at": _now()}
        with self._begin() as connection:
            connection.execute(_events.insert().values(**row))

    def save(self, reader: Reader, position: int, answer: Answer, *, submission: str) -> ReaderProgress:
        """Store an answer; when this returns, it is on the disk.

        Args:
            reader: Who.
            position: Which case, in the reader's order: the next one, or the one just answered, to change it.
            answer: The answer.
            submission: Random text of at most 64 characters. The same one again for the same case stores nothing and is
                acknowledged.

        Returns:
            How far the reader is now.

        Raises:
            WrongCaseError: If another case is the reader's turn, or `submission` was used for another one.
            StoreError: If it could not be stored.
        """
        mine = (_answers.c.study == self._study.id) & (_answers.c.reader == reader.name)
        with self._begin() as connection:
            sent = connection.scalar(
                sql.select(_answers.c.position).where(mine & (_answers.c.submission == submission))
            )
            progress = self._progress(connection, reader)
            if sent == position:
                return progress
            if sent is not None:
                raise WrongCaseError(f"What was sent for case {position + 1} was sent for case {sent + 1} already.")
            expected = progress.answered
            if position not in (expected, expected - 1) or not 0 <= position < len(reader.presentations):
                raise WrongCaseError(f"Case {position + 1} is not the one to answer now; that is case {expected + 1}.")
            attempts = connection.scalar(
                sql.select(sql.func.count()).select_from(_answers).where(mine & (_answers.c.position == position))
            )
            row = {
                "study": self._study.id,
                "reader": reader.name,
                "position": position,
                "attempt": (attempts or 0) + 1,
                "submission": submission,
                "confidence": answer.confidence,
                "choice": answer.choice,
                "realism": answer.realism,
                "diagnosis": answer.diagnosis,
                "comment": answer.comment,
                "seconds": answer.seconds,
                "answered_at": _now(),
            }
            connection.execute(_answers.insert().values(**row))
        done = max(expected, position + 1)
        return ReaderProgress(progress.consented, progress.trained, done)

    # ------------------------------------------------------------------------------------ reading

    def progress(self, reader: Reader) -> ReaderProgress:
        """Say how far a reader is.

        Args:
            reader: Who.

        Raises:
            StoreError: If the database cannot be read.
        """
        with self._reading() as connection:
            return self._progress(connection, reader)

    def answers(self) -> dict[tuple[str, int], list[Answer]]:
        """Return all answers: by reader's name and position all attempts, the last of which counts.

        Raises:
            StoreError: If the database cannot be read.
        """
        columns = ("confidence", "choice", "realism", "diagnosis", "comment", "seconds", "answered_at")
        query = sql.select(_answers).where(_answers.c.study == self._study.id).order_by(_answers.c.number)
        found: dict[tuple[str, int], list[Answer]] = {}
        with self._reading() as connection:
            for row in connection.execute(query).mappings():
                place = (str(row["reader"]), int(row["position"]))
                found.setdefault(place, []).append(Answer(**{name: row[name] for name in columns}))
        return found

    def consents(self) -> dict[str, str]:
        """Return the checksum of the text that each reader agreed to, by name.

        Raises:
            StoreError: If the database cannot be read.
        """
        query = sql.select(_events.c.reader, _events.c.detail).where(
            (_events.c.study == self._study.id) & (_events.c.kind == "consent")
        )
        with self._reading() as connection:
            return {str(name): str(detail) for name, detail in connection.execute(query)}

    def _progress(self, connection: sql.Connection, reader: Reader) -> ReaderProgress:
        """Return how far a reader is, as this connection sees it."""
        mine = (_events.c.study == self._study.id) & (_events.c.reader == reader.name)
        done = {
            (str(kind), str(detail))
            for kind, detail in connection.execute(
                sql.select(_events.c.kind, _events.c.detail).where(mine & _events.c.kind.in_(["consent", "training"]))
            )
        }
        answered = connection.scalar(
            sql.select(sql.func.count(sql.distinct(_answers.c.position))).where(
                (_answers.c.study == self._study.id) & (_answers.c.reader == reader.name)
            )
        )
        trained = len({detail for kind, detail in done if kind == "training"})
        return ReaderProgress(any(kind == "consent" for kind, _ in done), trained, answered or 0)

    # ------------------------------------------------------------------------------------ inside

    def _check_design(self, began: str | None) -> None:
        """Raise if the study is not the one that was begun."""
        if began is not None and began != self._study.design_sha256:
            raise DataError(
                f"{self._study.folder / 'study.json'} was changed after the study had begun. What is tested, and with "
                "which margin, cannot be changed once answers are there: put the file back as it was, or draw a new "
                "study."
            )

    @property
    def _shown(self) -> str:
        """The address without its password."""
        return _parse(self._address).render_as_string(hide_password=True)

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sql.Connection]:
        """Write in one transaction, which is on the disk at the end."""
        with self._named("written"), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        """Read without a lock on writers."""
        with self._named("read"), self._engine.connect().execution_options(medgan_reads=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Turn errors of the database into ones that say what is wrong with it."""
        try:
            yield
        except sql.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            hint = ""
            if "locked" in cause or "busy" in cause:
                hint = " Another program holds it; close that, and try again."
            elif "full" in cause:
                hint = " Make room on the disk, and try again; what was acknowledged before is safe."
            elif "readonly" in cause or "unable to open" in cause:
                hint = " Check that the file and its folder may be written."
            raise StoreError(f"The answers in {self._shown} cannot be {what}: {cause}.{hint}") from error


def _parse(address: str) -> sql.URL:
    """Return a database's address."""
    try:
        return make_url(address)
    except sql.exc.ArgumentError as error:
        raise StoreError(
            "The address of the database cannot be read. Expected one such as sqlite:////data/answers.sqlite or "
            "postgresql+psycopg://user@host/name."
        ) from error


def _make_engine(address: str, timeout: float) -> sql.Engine:
    """Return an engine; SQLite's is set to be durable."""
    url = _parse(address)
    shown = url.render_as_string(hide_password=True)
    is_file = url.get_backend_name() == "sqlite"
    if is_file and url.database in (None, "", ":memory:"):
        raise StoreError(f"{shown} keeps answers in memory alone, where they would be lost. Name a file.")
    try:
        engine = sql.create_engine(
            url, **({"connect_args": {"timeout": timeout}} if is_file else {"pool_pre_ping": True})
        )
    except (sql.exc.ArgumentError, ImportError) as error:
        raise StoreError(
            f"The database {shown} cannot be used: {error}. Install its driver, such as psycopg for "
            "postgresql+psycopg://, or leave --database out."
        ) from error
    if is_file:

        @sql.event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions begin where they are said to, below
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}").close()

        @sql.event.listens_for(engine, "begin")
        def _begin(connection: sql.Connection) -> None:
            # A transaction that writes takes the lock first, so that what it has read is still so when it writes.
            reads = connection.get_execution_options().get("medgan_reads", False)
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
