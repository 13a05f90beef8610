from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError

SPEC = DataSpec(3, (64, 48), LabelSpec(("NORMAL", "PNEUMONIA")))


def test_label_spec_knows_its_names() -> None:
    assert len(SPEC.labels or ()) == SPEC.num_labels == 2
    assert SPEC.labels is not None
    assert SPEC.labels.index("PNEUMONIA") == 1
    with pytest.raises(ConfigError, match="Did you mean 'PNEUMONIA'"):
        SPEC.labels.index("PNEUMONA")


def test_sequences_become_tuples() -> None:
    assert DataSpec(1, [4, 5]).size == (4, 5)  # type: ignore[arg-type]
    assert LabelSpec(["a", "b"]).names == ("a", "b")  # type: ignore[arg-type]
    assert hash(SPEC) == hash(DataSpec.from_dict(SPEC.to_dict()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelSpec(()), "no names"),
        (lambda: LabelSpec(("a", "a")), "must differ"),
        (lambda: LabelSpec(("a",), "categoric"), "Did you mean 'categorical'"),  # type: ignore[arg-type]
        (lambda: DataSpec(0, (4, 4)), "channels must be at least 1, got 0"),
        (lambda: DataSpec(1, ()), "positive lengths"),
        (lambda: DataSpec(1, (4, 0)), "positive lengths"),
    ],
)
def test_impossible_facts_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("kind", ["categorical", "multilabel", "ordinal", "continuous"])
def test_round_trip_through_json(kind: Any) -> None:
    for spec in (DataSpec(1, (8, 8, 4), LabelSpec(("a", "b"), kind)), DataSpec(1, (8,))):
        assert DataSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"channels": 1, "size": [4, 4]},
        {"channels": "many", "size": [4, 4], "labels": None},
        {"channels": 1, "size": ["wide"], "labels": None},
        {"channels": 1, "size": 4, "labels": None},
        {"channels": 1, "size": [4, 4], "labels": {"names": ["a"]}},
    ],
)
def test_damaged_dict_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="channels, size and labels"):
        DataSpec.from_dict(values)


def test_text() -> None:
    assert str(SPEC) == "3×64×48, categorical NORMAL, PNEUMONIA"
    assert str(DataSpec(1, (8, 8, 8))) == "1×8×8×8, no labels"


def test_batch_chunks_in_order() -> None:
    batch = Batch(torch.arange(6.0).view(6, 1, 1, 1), torch.arange(6))
    parts = batch.chunk(3)
    assert [part.labels.tolist() for part in parts if part.labels is not None] == [[0, 1], [2, 3], [4, 5]]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert [part.labels for part in Batch(batch.images).chunk(2)] == [None, None]
    with pytest.raises(ConfigError, match="6 images cannot be split into 4"):
        batch.chunk(4)


def test_specs_and_options_do_not_import_torch() -> None:
    code = (
        "import sys\nfrom medgan.core import Config, DataSpec, GANConfig, LabelSpec, option\n"
        "GANConfig(), DataSpec(1, (4, 4))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_core_has_no_other_names() -> None:
    import medgan.core

    for name in medgan.core.__all__:
        assert getattr(medgan.core, name).__name__ == name or name in ("LabelKind", "Metrics")
    with pytest.raises(AttributeError, match="Generater"):
        medgan.core.Generater  # noqa: B018
