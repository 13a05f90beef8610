from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgan.evaluation.records import ClassifierRun
from medgan.evaluation.run_store import RunStore, StudyWarning, fingerprint

KEY = fingerprint({"a": 1})


def make_run(synthetic: np.ndarray | None = None) -> ClassifierRun:
    rng = np.random.default_rng(0)
    return ClassifierRun(
        arm="real+synthetic-2x",
        fraction=0.25,
        seed=3,
        validation=rng.random((5, 2), dtype=np.float32),
        test=rng.random((7, 2), dtype=np.float32),
        history=[{"step": 1.0, "training_loss": 0.5, "validation_loss": 0.6}],
        facts={"real_images": 9},
        synthetic=synthetic,
    )


@pytest.mark.parametrize("synthetic", [None, np.ones((3, 2), dtype=np.float32)])
def test_a_run_comes_back(tmp_path: Path, synthetic: np.ndarray | None) -> None:
    store, run = RunStore(tmp_path), make_run(synthetic)
    store.save(KEY, run)
    found = store.load(KEY, run.arm, run.fraction, run.seed)
    assert found is not None
    for name in ("validation", "test", "synthetic"):
        one, other = getattr(run, name), getattr(found, name)
        assert (one is None and other is None) or np.array_equal(one, other)
    assert (found.arm, found.fraction, found.seed) == (run.arm, run.fraction, run.seed)
    assert (found.history, found.facts) == (run.history, run.facts)


def test_a_run_of_something_else_is_not_found(tmp_path: Path) -> None:
    store, run = RunStore(tmp_path), make_run()
    store.save(KEY, run)
    assert store.load(fingerprint({"a": 2}), run.arm, run.fraction, run.seed) is None
    assert store.load(KEY, run.arm, run.fraction, 4) is None


@pytest.mark.parametrize("damage", ["truncated", "changed", "text", "empty", "renamed"])
def test_a_damaged_run_is_set_aside(tmp_path: Path, damage: str) -> None:
    store, run = RunStore(tmp_path), make_run()
    store.save(KEY, run)
    path = store.path(KEY, run.arm, run.fraction, run.seed)
    content = path.read_bytes()
    key = KEY
    if damage == "renamed":  # a run of another key under the wanted name
        key = KEY[:12] + "0" * 52
    else:
        damaged = {
            "truncated": content[:-20],
            "changed": content[:-1] + bytes([content[-1] ^ 1]),
            "text": b"no run",
            "empty": b"",
        }
        path.write_bytes(damaged[damage])
    with pytest.warns(StudyWarning, match="is damaged"):
        assert store.load(key, run.arm, run.fraction, run.seed) is None
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").is_file()


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})
