from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgan.data import ImageDataset
from medgan.evaluation.fidelity import measure_fidelity
from medgan.metrics.extractors import Extractor, InputSpec

Make = Callable[..., ImageDataset]


def said(real: ImageDataset, synthetic: Any, **options: Any) -> str:
    """Return what limits a report, as one text."""
    return "\n".join(
        measure_fidelity(real, synthetic, metrics=options.pop("metrics", ["diversity"]), **options).warnings
    )


def test_a_good_comparison_has_nothing_to_say(make_textures: Make, moments: Extractor) -> None:
    whole = make_textures(1100, 0)
    real, training = whole.subset(range(520)), whole.subset(range(520, 1100))
    assert (
        said(real, make_textures(520, 1), training=training, metrics=["kernel"], extractors=[moments], permutations=1)
        == ""
    )


def test_few_images_and_patients(make_textures: Make) -> None:
    text = said(make_textures(80, 0), make_textures(60, 1))
    assert "80 real images are few: below 500" in text
    assert "60 synthetic images are few" in text
    assert "40 real patients are few: below 50" in text
    assert "80 real and 60 synthetic images are compared" in text
    assert "patients of the real images are not known" in said(
        make_textures(80, 0, patients=False), make_textures(80, 1)
    )


def test_patients_of_some_images_are_not_known(make_textures: Make) -> None:
    real = make_textures(160, 0)
    named = real.index["patient_id"].where(np.arange(160) < 120, "")  # 60 patients are known
    text = said(replace(real, index=real.index.assign(patient_id=named)), make_textures(160, 1))
    assert "The patients of 40 of the 160 real images are not known" in text
    assert "real patients are few" not in text


def test_a_reference_that_the_generator_has_seen(make_textures: Make) -> None:
    whole = make_textures(100, 0)
    real, synthetic = whole.subset(range(40)), make_textures(40, 1)
    assert "20 of the 40 reference images are among the 60" in said(
        real, synthetic, training=whole.subset(range(20, 80))
    )
    siblings = said(whole.subset(range(0, 40, 2)), synthetic, training=whole.subset(range(1, 41, 2)))
    assert "20 patients have images in the reference and among the training images" in siblings
    elsewhere = replace(make_textures(100, 0), source="a copy elsewhere", whole_fingerprint="another")
    assert "40 of the 40 reference images are among" in said(real, synthetic, training=elsewhere)
    apart = said(real, synthetic, training=whole.subset(range(40, 100)))
    assert "A generator that copies" not in apart


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ({}, "It is not known what the generator was trained on"),
        ({"fingerprint": "real"}, "trained on these very images"),
        ({"fingerprint": "whole"}, "trained on all images of this data set"),
        (
            {"fingerprint": "x", "whole_fingerprint": "whole", "images": 60},
            "trained on 60 images of this very data set",
        ),
    ],
)
def test_what_a_model_says_of_its_training(make_textures: Make, known: dict[str, Any], sentence: str) -> None:
    whole = make_textures(100, 0)
    real = whole.subset(range(40))
    names = {"real": real.fingerprint, "whole": real.whole_fingerprint}
    facts = {key: names.get(str(value), value) for key, value in known.items()}
    assert sentence in said(real, make_textures(40, 1), trained_on=facts)
    other = said(real, make_textures(40, 1), trained_on={"fingerprint": "x", "whole_fingerprint": "y"})
    assert "trained on" not in other


def test_what_the_models_before_it_have_seen(make_textures: Make) -> None:
    whole = make_textures(100, 0)
    real, training, synthetic = whole.subset(range(40)), whole.subset(range(40, 100)), make_textures(40, 1)

    def after(first: ImageDataset) -> str:
        record = {"training_data": {"initial_model": {"training_data": first.provenance()}}}
        facts = {**training.provenance(), "initial_model": record}
        return said(real, synthetic, training=training, trained_on=facts)

    assert "A model that the generator began from was trained on 60 images of this" in after(whole.subset(range(60)))
    assert "began from" not in after(training)
    assert "began from" not in after(make_textures(50, 3))


def test_copies(make_textures: Make) -> None:
    real, synthetic, training = make_textures(40, 0), make_textures(40, 1), make_textures(40, 2)
    copied = replace(
        synthetic,
        _pixels=np.concatenate([training._pixels[:3], synthetic._pixels[3:38], synthetic._pixels[3:5]]),
        fingerprint="copied",
    )
    text = said(real, copied, training=training)
    assert "3 of 40 synthetic images are, pixel by pixel, real ones" in text
    assert "2 of 40 synthetic images are, pixel by pixel, copies of other synthetic ones" in text
    assert "pixel by pixel" not in said(real, synthetic, training=training)


def test_other_shares_bits_and_sizes(make_textures: Make) -> None:
    real, synthetic = make_textures(60, 0), make_textures(60, 1)
    skewed = synthetic.subset([*np.flatnonzero(synthetic.labels == 0), *np.flatnonzero(synthetic.labels == 1)[:5]])
    assert "50% of the real and 86% of the synthetic images are NORMAL" in said(real, skewed)
    sixteen = ImageDataset.from_arrays(
        synthetic._pixels.astype(np.uint16) * 257,
        synthetic.labels,
        names=["NORMAL", "PNEUMONIA"],
        data_range=(0, 65535),
    )
    assert "their grey levels are not equally fine" in said(real, sixteen)
    resized = replace(synthetic, index=synthetic.index.assign(width=64, height=48))
    assert "resized to 24 × 24, for example from 48 × 64" in said(real, resized)
    assert "resized" not in said(real, synthetic)
    assert "equally fine" not in said(real, synthetic)


def test_what_extractors_do(make_textures: Make, moments: Extractor) -> None:
    moments.input = InputSpec(3, bits=8)
    moments.extract = lambda images: images.flatten(1)[:, :50]  # type: ignore[method-assign]
    moments.dim, moments.needs_standardizing = 50, True
    text = said(make_textures(40, 0), make_textures(40, 1), metrics=["frechet"], extractors=[moments])
    assert "moments: 40 images are fewer than its 50 features" in text
    assert "moments: features have units of their own" in text
    assert "moments: grey replicated to RGB." in text
    assert "moments: rounded to 8 bits." in text
    kernel = said(make_textures(40, 0), make_textures(40, 1), metrics=["kernel"], extractors=[moments], permutations=1)
    assert "fewer than" not in kernel
    assert "nobody can say whether synthetic ones are copies" in said(
        make_textures(40, 0), make_textures(40, 1), metrics=["diversity", "nearest-real"]
    )
