"""A study on the disk: its design, its readers, and what they judged."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import ConfigError, DataError
from medgan.reader_study.config import ReaderStudyConfig

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Presentation", "Reader", "ReaderStudy", "load_study", "require_extra"]

_NAME = re.compile(r"[0-9a-f]{16}")


def require_extra() -> None:
    """Raise if the packages of the extra ``study`` are not installed.

    Raises:
        ConfigError: If so; it says what to type.
    """
    missing = [name for name in ("sqlalchemy", "starlette", "uvicorn") if not _is_installed(name)]
    if missing:
        raise ConfigError(
            f"A reader study is served and stored with {', '.join(missing)}, which cannot be imported. Type: "
            "pip install 'medgan[study]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # somebody has put None in its place
        return False


@dataclass(frozen=True)
class Presentation:
    """One case as it is shown to one reader.

    Attributes:
        case: Number of the case, the same for all readers.
        items: Its images, from left to right: one, or two.
        repeat: Whether the reader has had the case before.
    """

    case: int
    items: tuple[str, ...]
    repeat: bool


@dataclass(frozen=True)
class Reader:
    """Someone who takes part.

    Attributes:
        name: As it stands in tables.
        id: Random, and no secret: what a page says of whom it belongs to.
        presentations: The cases, in this reader's order.
    """

    name: str
    id: str
    presentations: tuple[Presentation, ...]


@dataclass(frozen=True)
class ReaderStudy:
    """A study that `medgan.reader_study.new_study` has written; see `load_study`.

    Attributes:
        folder: Where it is.
        id: Random; what answers are stored under.
        config: Its options.
        created: When it was drawn, ISO 8601, UTC.
        instructions: Paragraphs.
        consent: Paragraphs.
        image: ``height``, ``width`` and ``channels``.
        classes: Names of the classes; empty where there are none.
        cases: Images of each case.
        training: For each training case its images, and which of them is synthetic.
        readers: Who takes part.
        design_sha256: Of study.json: what may not change once the study has begun.
    """

    folder: Path
    id: str
    config: ReaderStudyConfig
    created: str
    instructions: tuple[str, ...]
    consent: tuple[str, ...]
    image: dict[str, int]
    classes: tuple[str, ...]
    cases: tuple[tuple[str, ...], ...]
    training: tuple[tuple[tuple[str, ...], tuple[bool, ...]], ...]
    readers: tuple[Reader, ...]
    design_sha256: str
    _key_sha256: str

    @property
    def database(self) -> str:
        """Address of the database that is used unless another is given."""
        return f"sqlite:///{(self.folder / 'answers.sqlite').absolute()}"

    @property
    def consent_sha256(self) -> str:
        """Of the text that readers agree to."""
        return hashlib.sha256("\n\n".join(self.consent).encode()).hexdigest()

    def image_file(self, item: str) -> Path:
        """Return the file of an image.

        Args:
            item: Its name; nothing else becomes part of a path.

        Raises:
            DataError: If it is no name of an image.
        """
        if not _NAME.fullmatch(item):
            raise DataError(f"{item!r} is no image of the study.")
        return self.folder / "images" / f"{item}.png"

    def tokens(self) -> dict[str, str]:
        """Return the secret of each reader's link, by name.

        Raises:
            DataError: If readers.json is missing, damaged, or of another study.
        """
        file = self.folder / "readers.json"
        values = _read(file)
        found = values.get("tokens")
        names = [reader.name for reader in self.readers]
        if values.get("study") != self.id or not isinstance(found, dict) or sorted(found) != sorted(names):
            raise DataError(f"{file} is not that of this study. Put the file back that was written with it.")
        if any(not isinstance(token, str) or len(token) < 16 for token in found.values()):
            raise DataError(f"{file} is damaged: a link's secret is missing or too short.")
        return {name: str(found[name]) for name in names}

    def read_key(self, key: Path | None = None) -> dict[str, Any]:
        """Return the key: what is real and what is synthetic, and where it comes from.

        Args:
            key: The file, if it is kept elsewhere.

        Raises:
            DataError: If it is missing, damaged, or not the one that was written with the study.
        """
        file = key or self.folder / "key.json"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataError(
                f"The key {file} cannot be read ({error.strerror}); without it nothing can be said. If it is kept "
                "elsewhere, name it with --key."
            ) from error
        if not hmac.compare_digest(hashlib.sha256(content).hexdigest(), self._key_sha256):
            raise DataError(
                f"The key {file} is not the one that was written with the study: its checksum is another. Use the "
                "untouched file."
            )
        values: dict[str, Any] = json.loads(content)
        return values

    def judgements(self, database: str | None = None, *, key: Path | None = None) -> pd.DataFrame:
        """Return what readers judged, one row for each image that a reader saw; repeats too.

        Args:
            database: SQLAlchemy address of the answers; None for the study's own file.
            key: The key, if it is kept elsewhere.

        Returns:
            Columns ``reader``, ``position`` (in the reader's order, from 0), ``case``, ``repeat`` (whether it was the
            second time), ``item``, ``kind`` (``real`` or ``synthetic``), ``label`` (as `GAN.sample` takes it, ``""``
            for none), ``seed`` (of a synthetic image; with the label it makes the image again), ``confidence`` (1 for
            definitely real to 5 for definitely synthetic; missing for pairs), ``said_synthetic`` (whether the reader
            took it for synthetic; missing for a confidence of 3), ``realism`` (1 to 5), ``diagnosis``, ``comment``,
            ``seconds`` (that the case was in sight until its first answer), ``attempts`` (answers given, of which the
            last counts) and ``answered_at``. Of pairs there are two rows.

        Raises:
            ConfigError: If the extra ``study`` is not installed.
            DataError: If the key does not fit, or the answers cannot be read.
        """
        import pandas as pd

        require_extra()
        from medgan.reader_study.store import AnswerStore

        items = self.read_key(key)["items"]
        with AnswerStore.open(self, database) as store:
            answers = store.answers()
        rows = []
        readers = {reader.name: reader for reader in self.readers}
        for (name, position), attempts in answers.items():
            if name not in readers or position >= len(readers[name].presentations):
                raise DataError(
                    f"The database holds an answer that the study does not know: case {position} of {name}."
                )
            shown, last = readers[name].presentations[position], attempts[-1]
            for place, item in enumerate(shown.items):
                said: bool | None = None
                if last.choice is not None:
                    said = last.choice == place
                elif last.confidence != 3:
                    said = bool(last.confidence and last.confidence > 3)
                rows.append(
                    {
                        "reader": name,
                        "position": position,
                        "case": shown.case,
                        "repeat": shown.repeat,
                        "item": item,
                        **{column: items[item][column] for column in ("kind", "label", "seed")},
                        "confidence": last.confidence,
                        "said_synthetic": said,
                        "realism": last.realism,
                        "diagnosis": last.diagnosis,
                        "comment": last.comment,
                        "seconds": attempts[0].seconds,
                        "attempts": len(attempts),
                        "answered_at": last.answered_at,
                    }
                )
        columns = {
            "reader": "str",
            "position": "int64",
            "case": "int64",
            "repeat": "bool",
            "item": "str",
            "kind": "str",
            "label": "str",
            "seed": "Int64",
            "confidence": "Int64",
            "said_synthetic": "boolean",
            "realism": "Int64",
            "diagnosis": "str",
            "comment": "str",
            "seconds": "float64",
            "attempts": "int64",
            "answered_at": "str",
        }
        return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def load_study(folder: str | Path) -> ReaderStudy:
    """Open a study; its key stays closed.

    Args:
        folder: As `medgan.reader_study.new_study` wrote it.

    Raises:
        DataError: If it is no study, or damaged.

    Example:
        To go through what readers thought of the synthetic images::

            table = load_study("study").judgements()
            table[table.kind == "synthetic"].groupby(["label", "seed"]).realism.mean()
    """
    place = Path(folder)
    file = place / "study.json"
    if not file.is_file():
        raise DataError(f"{place} is no reader study: it holds no study.json. Draw one with: medgan study new")
    values = _read(file)
    try:
        if values["format"] != 1:
            raise DataError(f"{file} is of format {values['format']}, which this medgan does not know.")
        cases = tuple(tuple(str(item) for item in case) for case in values["cases"])
        readers = tuple(
            Reader(str(reader["name"]), str(reader["id"]), _presentations(reader["order"], cases))
            for reader in values["readers"]
        )
        return ReaderStudy(
            folder=place,
            id=str(values["id"]),
            config=ReaderStudyConfig.from_dict(values["options"]),
            created=str(values["created"]),
            instructions=tuple(map(str, values["instructions"])),
            consent=tuple(map(str, values["consent"])),
            image={name: int(values["image"][name]) for name in ("height", "width", "channels")},
            classes=tuple(map(str, values["classes"])),
            cases=cases,
            training=tuple(
                (tuple(map(str, case["items"])), tuple(map(bool, case["synthetic"]))) for case in values["training"]
            ),
            readers=readers,
            design_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            _key_sha256=str(values["key_sha256"]),
        )
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file} is damaged ({type(error).__name__}: {error}). Put it back as it was written."
        ) from error


def _presentations(order: Any, cases: tuple[tuple[str, ...], ...]) -> tuple[Presentation, ...]:
    """Return a reader's cases in order."""
    seen: set[int] = set()
    found = []
    for case, turned in order:
        items = cases[case][::-1] if turned else cases[case]
        found.append(Presentation(int(case), items, case in seen))
        seen.add(case)
    return tuple(found)


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise DataError(f"{file} cannot be read: {reason}.") from error
    if not isinstance(values, dict):
        raise DataError(f"{file} holds a {type(values).__name__}, expected an object.")
    return values
