"""Numbers that were computed before, found again only by all that they depend on, the code included."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medgan.core.saving import write_aside
from medgan.errors import CheckpointError

__all__ = ["ResultCache", "ResultCacheWarning"]

_LIBRARIES = ("medgan", "numpy", "scipy", "pandas", "torch")


class ResultCacheWarning(UserWarning):
    """A cache of results that was damaged or cannot be written, and so was not used."""


class ResultCache:
    """Results as JSON files, ``<folder>/<key>.json``.

    The key is a sha256 over what the caller says the result depends on, the source of `code`, and the versions of the
    libraries below: a change of the code never finds an old number.

    Args:
        folder: Where they are; None to keep nothing.
        code: Python files, or folders of them, that compute the results.
    """

    def __init__(self, folder: Path | None, code: tuple[Path, ...]) -> None:
        """Take note; nothing is read or written yet."""
        self.folder = folder
        self.code = code

    def get(self, facts: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a result, computed if it is not there.

        Args:
            facts: All that it depends on, plain JSON values.
            compute: Computes it: plain JSON values, NaN and infinity included.
        """
        if self.folder is None:
            return compute()
        known = [facts, _source_sha256(self.code), {library: version(library) for library in _LIBRARIES}]
        path = self.folder / f"{_sha256(known)}.json"
        found = self._read(path)
        if found is None:
            found = compute()
            self._write(path, found)
        return found

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        """Return what a file holds; None if there is none, with a warning if it is damaged."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            result: dict[str, Any] = content["result"]
            if content["sha256"] != _sha256(result):
                raise ValueError("its content has changed")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged ({error}); it is computed again.", ResultCacheWarning, stacklevel=3)
            return None
        return result

    def _write(self, path: Path, result: dict[str, Any]) -> None:
        """Write a file; warns if that is not possible, and then keeps nothing more."""
        text = json.dumps({"sha256": _sha256(result), "result": result})
        try:
            with write_aside(path) as aside:
                aside.write_text(text, encoding="utf-8")
        except CheckpointError as error:
            self.folder = None
            warnings.warn(f"Results are not kept in a cache: {error}", ResultCacheWarning, stacklevel=3)


def _sha256(value: Any) -> str:
    """Hash plain JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def _source_sha256(code: tuple[Path, ...]) -> str:
    """Hash source files."""
    files = [file for path in code for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    return _sha256([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files])
