from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.core import LabelSpec
from medgan.errors import ConfigError
from medgan.exploration import all_contrasts, make_contrast

THREE = ("A", "B", "C")
FINDINGS = LabelSpec(("Effusion", "Edema"), "multilabel")


@pytest.mark.parametrize(
    ("kind", "given", "names"),
    [
        ("categorical", {}, ("A", "B")),
        ("ordinal", {}, ("A", "C")),
        ("categorical", {"reference": "C"}, ("C", "A")),
        ("categorical", {"reference": "B"}, ("B", "C")),
        ("categorical", {"target": "C"}, ("A", "C")),
    ],
)
def test_which_classes_are_compared(kind, given, names):
    contrast = make_contrast(LabelSpec(THREE, kind), **given)
    assert contrast.names == names
    assert torch.equal(contrast.references(2), torch.tensor([THREE.index(names[0])] * 2))
    assert torch.equal(contrast.targets(1), torch.tensor([THREE.index(names[1])]))


def test_classes_on_either_side():
    contrast = make_contrast(LabelSpec(THREE))
    assert contrast.sides(np.array([0, 1, 2, 1])).tolist() == [0, 1, -1, 1]
    assert contrast.counterparts(np.array([0, 1])).tolist() == [1, 0]
    assert torch.equal(contrast.mix(torch.tensor([0.25])), torch.tensor([[0.75, 0.25, 0.0]]))
    leaning = contrast.leaning(np.array([[0.1, 0.3, 0.6], [0.4, 0.4, 0.2]]))
    assert leaning.tolist() == pytest.approx([0.75, 0.5])


def test_every_other_class_is_compared_with_the_same_one():
    names = [contrast.names for contrast in all_contrasts(make_contrast(LabelSpec(THREE), "B", "A"))]
    assert names == [("B", "A"), ("B", "C")]


def test_findings():
    labels = np.array([[1, 0], [0, 1], [0, 1], [np.nan, 0]], dtype=np.float32)
    contrast = make_contrast(FINDINGS, labels=labels)
    assert contrast.names == ("no finding", "Edema")
    assert contrast.side_names == ("without Edema", "with Edema")
    assert contrast.sides(labels).tolist() == [0, 1, 1, 0]
    assert contrast.sides(np.array([[0, np.nan]], dtype=np.float32)).tolist() == [-1]
    turned = contrast.counterparts(labels)
    assert turned[:3].tolist() == [[1, 1], [0, 0], [0, 0]]  # what else is found stays
    assert turned[3, 0].isnan()
    assert turned[3, 1] == 1
    # At its threshold a finding is undecided.
    leaning = contrast.leaning(np.array([[0.9, 0.2], [0.0, 0.6]]), np.array([0.5, 0.2]))
    assert leaning[0] == pytest.approx(0.5)
    assert leaning[1] > 0.8


def test_a_finding_is_compared_with_another_one():
    assert make_contrast(FINDINGS, "Effusion").names == ("Effusion", "Edema")
    assert make_contrast(FINDINGS, "Edema").names == ("Edema", "Effusion")
    assert make_contrast(LabelSpec(("Mass",), "multilabel"), "Mass").names == ("Mass", "no finding")


def test_findings_that_vanish():
    contrast = make_contrast(FINDINGS, "Edema", {})
    assert contrast.names == ("Edema", "no finding")
    assert contrast.side_names == ("with Edema", "without Edema")
    assert contrast.leaning(np.array([[0.5, 0.9]])).tolist() == pytest.approx([0.1])


def test_quantities():
    spec = LabelSpec(("age", "dose"), "continuous")
    labels = np.stack([np.linspace(0, 10, 101), np.full(101, np.nan)], axis=1).astype(np.float32)
    contrast = make_contrast(spec, labels=labels)
    assert contrast.names == ("age=1", "age=9")
    assert contrast.sides(labels[[0, 40, 60, 100]]).tolist() == [0, 0, 1, 1]
    assert contrast.counterparts(labels[[0, 100]])[:, 0].tolist() == pytest.approx([9, 1])
    assert contrast.mix(torch.tensor([0.5]))[0, 0] == pytest.approx(5)
    assert make_contrast(spec).names == ("age=-1", "age=1")
    assert len(all_contrasts(contrast)) == 1


def test_nothing_to_compare():
    assert make_contrast(LabelSpec(("only",))) is None
    with pytest.raises(ConfigError, match="Both labels are A"):
        make_contrast(LabelSpec(THREE), "A", "A")
    with pytest.raises(ConfigError, match="Label 'D' is unknown"):
        make_contrast(LabelSpec(THREE), "D")


def test_facts_are_json():
    assert make_contrast(LabelSpec(THREE)).to_dict() == {
        "kind": "categorical",
        "names": ["A", "B"],
        "reference": [0],
        "target": [1],
    }
    low = make_contrast(LabelSpec(("age", "dose"), "continuous")).to_dict()["reference"]
    assert low == [-1.0, None]
