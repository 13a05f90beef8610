from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from medgan.evaluation.fidelity import result_cache
from medgan.evaluation.fidelity.result_cache import ResultCache, ResultCacheWarning


def make(folder: Path | None, *code: Path) -> tuple[ResultCache, list[int]]:
    """Return a cache, and a list that grows with every computation."""
    return ResultCache(folder, code or (Path(__file__),)), []


def ask(cache: ResultCache, calls: list[int], **facts: object) -> dict[str, object]:
    def compute() -> dict[str, object]:
        calls.append(1)
        return {"value": 1 / 3, "nothing": math.nan, "list": [1, None]}

    return cache.get(facts, compute)


def test_a_result_is_computed_once(tmp_path: Path) -> None:
    cache, calls = make(tmp_path)
    first, second = ask(cache, calls, metric="a"), ask(cache, calls, metric="a")
    assert len(calls) == 1
    assert first["value"] == second["value"] == 1 / 3
    assert math.isnan(second["nothing"])  # type: ignore[arg-type]
    ask(cache, calls, metric="b")
    assert len(calls) == 2
    ask(make(None)[0], calls, metric="a")
    assert len(calls) == 3


def test_another_code_or_library_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code.py"
    code.write_text("a = 1")
    _, calls = make(tmp_path)
    ask(ResultCache(tmp_path, (code,)), calls)
    code.write_text("a = 2")
    result_cache._source_sha256.cache_clear()  # another process reads the files anew
    ask(ResultCache(tmp_path, (code,)), calls)
    assert len(calls) == 2
    monkeypatch.setattr(result_cache, "version", lambda name: "0")
    ask(ResultCache(tmp_path, (code,)), calls)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"result": {"value": 2}, "sha256": "0"}'])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str) -> None:
    cache, calls = make(tmp_path)
    ask(cache, calls)
    (file,) = tmp_path.glob("*.json")
    file.write_text(damage)
    with pytest.warns(ResultCacheWarning, match="is damaged"):
        assert ask(cache, calls)["value"] == 1 / 3
    assert json.loads(file.read_text())["result"]["value"] == 1 / 3
    ask(cache, calls)
    assert len(calls) == 2


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache, calls = make(tmp_path / "file" / "folder")
    with pytest.warns(ResultCacheWarning, match="are not kept"):
        assert ask(cache, calls)["value"] == 1 / 3
    assert ask(cache, calls, metric="b")["value"] == 1 / 3
