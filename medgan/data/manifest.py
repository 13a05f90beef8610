"""Tables of images: the manifest that anyone can write, and what every layout shares with it.

A manifest is a CSV or Parquet file with one row an image::

    path,label,patient_id,split,view,age,sex
    scans/1.png,NORMAL,p1,train,PA,61,F

Only ``path`` is needed. A column ``source_path`` names the image that the one of the row is to be translated from.
Relative paths start from the manifest's folder and stay inside; absolute ones go anywhere.
Columns of other names are left alone, as the tables of hospitals have many. Every value is text until something says
otherwise, so that a class called "NA" or "01" keeps its name; only a label nan (NaN, NAN), as programs write it, is a
missing one.

Where the labels are, first match wins:

* columns ``label:Edema``, ``label:Mass``, ...: findings, 1, 0, -1 (uncertain) or empty (missing);
* a column ``label``: findings if any row has several (``Edema|Mass``), classes if the values are words or whole
  numbers, quantities if they have decimals;
* columns that are asked for by name: findings;
* none: images without labels.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import os
import re
import stat
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.core.spec import LabelKind
from medgan.data.decoded import ReadError
from medgan.data.labels import parse_findings, parse_numbers, sort_classes, spread
from medgan.errors import ConfigError, DataError, nearest

__all__ = ["MANIFEST_COLUMNS", "Rows", "check_files", "check_names", "read_manifest", "read_table"]

MANIFEST_COLUMNS = ("path", "label", "patient_id", "split", "view", "age", "sex", "origin", "source_path")
"""Columns that mean something in a manifest, in small or capital letters."""

_FACTS = ("split", "view", "age", "sex", "origin", "source_path")
_SEPARATORS = ",;\t"  # which one, its header tells
_PATIENTS = ("patid", "subject", "subjectid")  # other words for patient_id, without blanks and the like
_HEAD = 4096  # bytes that show whether a file is text
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Rows:
    """Images of a table with their labels as found: nothing is decided and no file is looked for yet.

    Attributes:
        frame: One row an image, all text, "" where unknown: ``file``, a posix path relative to the root, or absolute;
            ``patient_id``; any facts (`medgan.data.decoded.FACTS`); and ``projection``, where a table has a coarser
            word for the view, such as Frontal. The index is the row of the table.
        kind: What the labels are; None for images without.
        names: The classes, findings or quantities.
        values: Shape ``(N, K)``: class indices for categorical and ordinal labels, with K = 1; else a column for each
            name, findings as in `medgan.data.labels.settle`. NaN where missing.
        refused: For some rows, by position, why the image cannot be used.
        patients_in_files: Whether the files' own headers may say the patient where the table does not.
    """

    frame: pd.DataFrame
    kind: LabelKind | None
    names: tuple[str, ...]
    values: NDArray[np.float64]
    refused: dict[int, ReadError]
    patients_in_files: bool = True


def read_table(path: Path, required: Sequence[str] = (), others: Collection[str] | None = None) -> pd.DataFrame:
    """Read a table, every value as text.

    Args:
        path: A CSV file (UTF-8; commas, semicolons or tabs; perhaps gzipped) or a Parquet file.
        required: Columns that must be there.
        others: Further columns that are wanted, if there; None for all.

    Returns:
        Text without surrounding blanks, "" where empty.

    Raises:
        DataError: If the file cannot be read, a row has too many or, where all columns are wanted, too few values, or a
            column is absent.
    """
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, required, others)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as 'CSV UTF-8' in the "
            f"spreadsheet, or type: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > new.csv"
        ) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        raise DataError(
            f"{path} is not a table: {str(error).strip().rstrip('.')}. Each row needs as many values as the header "
            'has names; a value with a comma in it goes in double quotes, such as "a,b.png".'
        ) from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}). Copy it again from its origin.") from error
    for column in required:
        if column not in table:
            raise DataError(f"{path} has no column {column!r}. {nearest(column, map(str, table))}")
    return pd.DataFrame({name: texts.str.strip() for name, texts in table.items()})


def _read_csv(path: Path, required: Sequence[str], others: Collection[str] | None) -> pd.DataFrame:
    """Read a CSV file."""
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as stream:
        _check_text(path, stream.read(_HEAD))
    with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
        header = stream.readline()
    if not header.strip():
        expected = ",".join(required) or "path,label"
        raise DataError(f"{path} is empty. Expected a header such as {expected} and a row for each image.")
    unquoted = re.sub(r'"[^"]*"', "", header)
    separator = max(_SEPARATORS, key=unquoted.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise DataError(
            f"{path} has several columns called {', '.join(sorted(repeated))}. Rename or delete all but one."
        )
    names = [name or f"unnamed {position}" for position, name in enumerate(names)]
    # Where pandas is told the columns it says nothing of rows that are too long, so a manifest is read whole.
    wanted = None if others is None else [name for name in names if name in required or name in others]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows that are too long, which pandas would cut
        table: pd.DataFrame = pd.read_csv(
            path,
            sep=separator,
            header=0,
            names=names,
            usecols=wanted,
            index_col=False,
            dtype=str,
            na_filter=False,
            encoding="utf-8-sig",
        )
    if wanted is None:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            _check_lengths(path, csv.reader(stream, delimiter=separator), len(names))
    return table


def _check_text(path: Path, head: bytes) -> None:
    """Refuse a file that is no text, or text of two bytes a character, by how it begins."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"{path} is not UTF-8 text, but UTF-16. Save it as 'CSV UTF-8' in the spreadsheet, or type: "
            f"iconv -f UTF-16 -t UTF-8 {path.name} > new.csv"
        )
    if b"\0" in head:
        raise DataError(
            f"{path} is not a text table: it holds NUL bytes, as images, workbooks and archives do. Give a CSV file; "
            "from a spreadsheet, save the table as 'CSV UTF-8'."
        )


def _check_lengths(path: Path, rows: Any, count: int) -> None:
    """Refuse rows that are too short, which pandas would fill up; `rows` is a csv.reader before the header."""
    number = -1  # the header is row 0
    for row in rows:
        if len(row) <= 1 and not "".join(row).strip():
            continue  # blank lines are no rows, to pandas neither
        number += 1
        if len(row) < count:
            raise DataError(
                f"{path}: row {number} (line {rows.line_num}) has {len(row)} of {count} values: "
                f"{', '.join(row)[:80]!r}. Fill it up; an empty value needs its separator, too."
            )


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file."""
    try:
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")  # whole numbers stay whole beside empty cells
    except ImportError as error:
        raise DataError(
            f'{path} needs a package to be read. Type: pip install "medgan[parquet]", or give the table as CSV.'
        ) from error
    except ValueError as error:  # of which all errors of pyarrow in a damaged file are
        raise DataError(f"{path} cannot be read as a Parquet file ({error}). Write it again.") from error
    texts = {
        str(name): [("" if empty else str(value)) for value, empty in zip(column, column.isna(), strict=True)]
        for name, column in table.items()
    }
    return pd.DataFrame(texts, dtype="str")


def read_manifest(path: Path, *, labels: Sequence[str] | None, label_kind: LabelKind | None) -> Rows:
    """Read a manifest; see the module for what it may hold.

    Args:
        path: The table.
        labels: Columns to take as findings, where the manifest does not mark any; and the order of ordinal words.
        label_kind: What the labels are, where the table does not show it.

    Returns:
        All rows, in order.

    Raises:
        ConfigError: If `label_kind` does not fit how the labels are written.
        DataError: If the table cannot be read or understood.
    """
    table = read_table(path)
    columns = [_spell(name) for name in map(str, table)]
    _check_columns(path, columns)
    table.columns = pd.Index(columns)
    if not len(table):
        raise DataError(f"No images found in the dataset. Given: {path}, which has a header only.")
    frame = pd.DataFrame({"file": table["path"]})
    frame["patient_id"] = table.get("patient_id", "")
    for name in _FACTS:
        if name in table:
            frame[name] = table[name]
    if "origin" in frame:
        frame["origin"] = frame["origin"].str.lower()  # a Synthetic image must not be held out either
    kind, names, values = _read_labels(path, table, labels, label_kind)
    return Rows(frame, kind, names, values, {})


def _spell(column: str) -> str:
    """Write the name of a column that means something in the one way that the rest knows."""
    if column.lower() in MANIFEST_COLUMNS:
        return column.lower()
    return f"label:{column[6:].strip()}" if column.lower().startswith("label:") else column


def _check_columns(path: Path, columns: list[str]) -> None:
    """Refuse a table without paths, and with columns whose names are nearly right."""
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise DataError(f"{path} has several columns called {repeated[0]}. Rename or delete all but one.")
    absent = [name for name in MANIFEST_COLUMNS if name not in columns]
    for column in columns:
        if column in MANIFEST_COLUMNS or column.startswith("label:"):
            continue
        spelling = re.sub(r"[\s.-]+", "_", column.lower())
        close = difflib.get_close_matches(spelling, absent, n=1, cutoff=0.8)
        if "patient_id" in absent and spelling.replace("_", "") in _PATIENTS:
            close = ["patient_id"]
        if close:
            raise DataError(
                f"{path} has a column {column!r}; did you mean {close[0]}? Rename it to {close[0]}, or to something "
                f"else if it means something else. Columns that are read: {', '.join(MANIFEST_COLUMNS)}, label:FINDING."
            )
    if "path" not in columns:
        raise DataError(
            f"{path} has no column path; it has {', '.join(columns)}. Rename the column with the image files to path."
        )


def _read_labels(
    path: Path, table: pd.DataFrame, labels: Sequence[str] | None, label_kind: LabelKind | None
) -> tuple[LabelKind | None, tuple[str, ...], NDArray[np.float64]]:
    """Find the labels of a manifest; kind, names and values of `Rows`."""
    columns = list(map(str, table))
    marked = {name.removeprefix("label:"): name for name in columns if name.startswith("label:")}
    if "label" in table and not marked:
        return _read_label_column(path, table["label"], labels, label_kind)
    if "label" in table:
        raise DataError(f"{path} has a column label and {len(marked)} like label:FINDING. Rename one kind of them.")
    if not marked and labels is not None:
        others = [name for name in columns if name not in MANIFEST_COLUMNS]
        check_names(labels, others, f"column of {path}")
        marked = {name: name for name in labels}
    if not marked:
        if label_kind is not None:
            raise DataError(f"{path} has no column label to take as {label_kind}; it has {', '.join(columns)}.")
        return None, (), np.zeros((len(table), 0))
    if label_kind not in (None, "multilabel", "continuous"):
        raise ConfigError(
            f"--label-kind {label_kind} does not fit {path}, which has columns for single findings. Leave it out, or "
            "type multilabel or continuous."
        )
    parse = parse_numbers if label_kind == "continuous" else parse_findings
    if labels is not None:  # what else there is may be anything
        check_names(labels, marked, f"label of {path}")
        marked = {name: marked[name] for name in labels}
    values = [parse(table[column], f"{path}: column {column}") for column in marked.values()]
    return label_kind or "multilabel", tuple(marked), np.column_stack(values)


def _read_label_column(
    path: Path, texts: pd.Series[str], labels: Sequence[str] | None, label_kind: LabelKind | None
) -> tuple[LabelKind, tuple[str, ...], NDArray[np.float64]]:
    """Read the labels of a column label; kind, names and values of `Rows`."""
    where = f"{path}: column label"
    texts = texts.mask(texts.str.lower() == "nan", "")
    distinct = [text for text in pd.unique(texts) if text]
    if not distinct:
        raise DataError(f"{where} is empty. Fill it, or delete it for images without labels.")
    kind = label_kind or _guess_kind(where, distinct)
    if kind == "continuous":
        return kind, ("label",), parse_numbers(texts, where)[:, None]
    if kind == "multilabel":
        lists = {text: [name.strip() for name in text.split("|") if name.strip()] for text in ("", *distinct)}
        return kind, *spread([lists[text] for text in texts])
    names = sort_classes(distinct, where, ordinal=kind == "ordinal" and labels is None)
    number: dict[str, Any] = {"": np.nan, **{name: float(position) for position, name in enumerate(names)}}
    return kind, tuple(names), texts.map(number).to_numpy(dtype=np.float64)[:, None]


def _guess_kind(where: str, distinct: Sequence[str]) -> LabelKind:
    """Say what the labels of a column are, by its distinct values."""
    if any("|" in text for text in distinct):
        return "multilabel"
    if all(re.fullmatch(r"[+-]?\d+", text) for text in distinct):
        if "-1" in distinct and set(distinct) <= {"-1", "0", "1"}:
            raise DataError(
                f"{where} has -1 beside 0 and 1. If it means uncertain, rename the column to label:FINDING, with the "
                "name of the finding; if it is a class, type --label-kind categorical."
            )
        return "categorical"
    infinite = [text for text in distinct if re.fullmatch(r"[+-]?inf(inity)?", text, re.IGNORECASE)]
    numbers = [text for text in distinct if text not in infinite]
    if numbers and all(_NUMBER.fullmatch(text) for text in numbers):
        if infinite:
            raise DataError(
                f"{where} has {', '.join(infinite)} beside numbers such as {numbers[0]}. Correct these values; or "
                "empty them and type --missing drop, which leaves their images out."
            )
        if all(float(text).is_integer() for text in distinct):
            raise DataError(
                f"{where} has numbers such as {distinct[0]}, which may be classes or quantities. Type --label-kind "
                "categorical, ordinal or continuous."
            )
        return "continuous"
    return "categorical"


def check_names(names: Sequence[str], known: Collection[str], what: str) -> None:
    """Check that labels exist, and that none is asked for twice.

    Args:
        names: What the user typed.
        known: What there is.
        what: What it should be, such as "label of table.csv".

    Raises:
        DataError: If not; it suggests the nearest.
    """
    for position, name in enumerate(names):
        if name not in known:
            raise DataError(f"There is no {what} called {name!r}. {nearest(name, known)}")
        if name in names[:position]:
            raise DataError(f"{name!r} was given twice. Name each label once.")
    if not names:
        raise DataError(f"No {what} was named. {nearest('', known)}")


def check_files(files: Sequence[str], root: Path) -> tuple[list[str], dict[int, ReadError]]:
    """Look for files, without opening them.

    Args:
        files: Paths, relative to `root` or absolute; "" is refused, and so are addresses such as https://...
        root: The folder, resolved. A relative path that leaves it, by ``..`` or a link, is refused.

    Returns:
        The paths in their simplest spelling; and by position, why a file cannot be used.
    """
    # Strings throughout: with Path objects the files of a large data set take several times as long.
    folder = str(root)

    @cache
    def stays_inside(path: str) -> bool:
        """Whether no link on the way to a folder under the root leaves it."""
        if path == folder:
            return True
        return stays_inside(path.rpartition("/")[0]) and (
            not stat.S_ISLNK(os.lstat(path).st_mode) or Path(path).resolve().is_relative_to(root)
        )

    def look(file: str) -> ReadError | None:
        """Return why a file cannot be used, None if it can."""
        if not file:
            return ReadError("list", "empty path", "fill in the path, or delete the row")
        if _ADDRESS.match(file):
            hint = (
                "write the path alone" if file.lower().startswith("file:") else "download the file, and give its path"
            )
            return ReadError("list", "address in place of a path; addresses are not opened", hint)
        relative = not os.path.isabs(file)  # noqa: PTH117
        if relative and (file == ".." or file.startswith("../")):
            return ReadError("list", f"path that leaves {root}", f"give a path under {root}, or an absolute one")
        path = f"{folder}/{file}" if relative else file
        try:
            linked = stat.S_ISLNK(os.lstat(path).st_mode)
            target = Path(path).resolve(strict=True) if linked else None
            inside = not relative or stays_inside(path.rpartition("/")[0])
        except (FileNotFoundError, NotADirectoryError):
            hint = (
                f"correct the path, which starts from {root}, or copy the file there"
                if relative
                else "correct the path"
            )
            hint = "write / in place of \\ in the paths" if "\\" in file else hint
            return ReadError("list", "file not found", hint)
        except (OSError, RuntimeError, ValueError) as error:  # no permission, links in a circle, odd characters
            return ReadError(
                "list", f"file cannot be looked at: {error}", "correct the path, or allow the file to be read"
            )
        if relative and target is not None and not target.is_relative_to(root):
            return ReadError(
                "list", f"link that leaves the data set, to {target}", "copy the file here in place of the link"
            )
        if not inside:
            problem = "link on the way to the file, which leaves the data set"
            return ReadError("list", problem, "write the absolute path, or copy the folder here in place of the link")
        return None

    simple = [
        os.path.normpath(file).replace(os.sep, "/") if file and not _ADDRESS.match(file) else file for file in files
    ]
    looked = ((position, look(file)) for position, file in enumerate(simple))
    return simple, {position: error for position, error in looked if error is not None}
