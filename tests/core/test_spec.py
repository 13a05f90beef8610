from __future__ import annotations

import json
import math
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
        found = getattr(medgan.core, name)
        assert name in ("API_VERSION", "LabelKind", "Metrics") or found.__name__ == name
    with pytest.raises(AttributeError, match="Generater"):
        medgan.core.Generater  # noqa: B018


# --------------------------------------------------------------------------------- labels as people write them

FINDINGS = LabelSpec(("Effusion", "Edema", "Mass = large"), "multilabel")
QUANTITIES = LabelSpec(("age", "dose"), "continuous")
WORDS = LabelSpec(("mild", "moderate", "severe"), "ordinal")
GRADES = LabelSpec(("1", "2", "3"), "ordinal")


@pytest.mark.parametrize(
    ("spec", "label", "expected"),
    [
        (SPEC.labels, "PNEUMONIA", 1),
        (LabelSpec(("a", "b=1")), "b=1", 1),
        (WORDS, "severe", 2),
        (WORDS, "severity=2", 2),
        (WORDS, "severity=mild", 0),
        (WORDS, {"severity": 1}, 1),
        (GRADES, "2", 1),
        (GRADES, "severity=2", 1),
        (GRADES, {"severity": 3.0}, 2),
        (FINDINGS, "Edema", (0, 1, 0)),
        (FINDINGS, "Effusion=1,Edema=0", (1, 0, 0)),
        (FINDINGS, " Edema = 1 , Mass = large=1", (0, 1, 1)),
        (FINDINGS, {"Effusion": True, "Mass = large": 1.0}, (1, 0, 1)),
        (FINDINGS, "Mass = large", (0, 0, 1)),
        (FINDINGS, {}, (0, 0, 0)),
        (QUANTITIES, "age=64.5,dose=-2e-1", (64.5, -0.2)),
        (QUANTITIES, {"dose": 3}, (math.nan, 3)),
        (QUANTITIES, "dose", (0, 1)),
        (FINDINGS, "Edema=nan,Effusion=1", (1, math.nan, 0)),
    ],
)
def test_labels_are_encoded(spec: LabelSpec, label: Any, expected: Any) -> None:
    found = spec.encode(label)
    assert type(found) is type(expected)
    assert str(found) == str(tuple(map(float, expected)) if isinstance(expected, tuple) else expected)


@pytest.mark.parametrize(
    ("spec", "label", "message"),
    [
        (SPEC.labels, "NORMAL=1", "'NORMAL=1' is unknown"),
        (SPEC.labels, {"NORMAL": 1}, "categorical labels are one of NORMAL, PNEUMONIA, got .* Name one of them"),
        (FINDINGS, "Efusion=1", "'Efusion' is unknown. Did you mean 'Effusion'"),
        (FINDINGS, "Oedema", "Did you mean 'Edema'"),
        (FINDINGS, "Edema=2", r"Label Edema got '2', expected 0 \(absent\), 1 \(present\) or nan"),
        (FINDINGS, "Edema=yes", "got 'yes', expected 0"),
        (FINDINGS, {"Edema": None}, "got None, expected 0"),
        (FINDINGS, "Edema=1,Edema=0", "names something twice"),
        (FINDINGS, "Edema=1,Effusion", "'Effusion' has no value. Type NAME=1,OTHER=0"),
        (FINDINGS, "Edema=1,", "'' has no value"),
        (FINDINGS, "=1", "'=1' has no value"),
        (QUANTITIES, "age=old", "got 'old', expected a number or nan"),
        (QUANTITIES, "age=inf", "got 'inf', expected a number"),
        (WORDS, "severity=3", "is no class. Expected one of mild, moderate, severe, or 0 to 2"),
        (WORDS, "severity=-1", "is no class"),
        (WORDS, "severity=1,other=2", r"one of mild, moderate, severe, got .* its grade, such as severity=2"),
        (GRADES, "severity=0", r"is no class. Expected one of 1, 2, 3\."),
    ],
)
def test_labels_that_cannot_be_read(spec: LabelSpec, label: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec.encode(label)


# ------------------------------------------------------------------------------ sources


def test_spec_of_sources_survives_json() -> None:
    spec = DataSpec(1, (8, 8), source_channels=3, paired=False)
    assert DataSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert "unpaired sources of 3 channel(s)" in str(spec)


def test_spec_without_sources_is_as_it_was_before_there_were_any() -> None:
    spec = DataSpec(1, (8, 8))
    assert spec.to_dict() == {"channels": 1, "size": [8, 8], "labels": None}
    assert DataSpec.from_dict({"channels": 1, "size": [8, 8], "labels": None}) == spec
    assert DataSpec(1, (8, 8), paired=False) == spec  # of nothing
    assert "source" not in str(spec)
    with pytest.raises(ConfigError, match="source_channels must be at least 0, got -1"):
        DataSpec(1, (8, 8), source_channels=-1)


def test_batch_of_sources() -> None:
    images, labels, sources = torch.rand(6, 1, 4, 4), torch.arange(6), torch.rand(6, 3, 4, 4)
    batch = Batch(images, labels, sources)
    assert [part is whole for part, whole in zip(batch, (images, labels, sources), strict=True)] == [True] * 3
    assert torch.equal(Batch.join(batch.chunk(3)).sources, sources)
    assert torch.equal(batch.select([4, 1]).sources, sources[[4, 1]])
    assert Batch(images, None, sources).select(slice(2)).labels is None


def test_batch_without_sources_is_images_and_labels() -> None:
    images, labels = Batch(torch.zeros(2, 1, 4, 4))
    assert labels is None
    assert images.shape == (2, 1, 4, 4)
