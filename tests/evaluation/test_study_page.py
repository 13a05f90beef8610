from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from medgan.core.spec import LabelSpec
from medgan.evaluation.records import ClassifierRun, Cohort, Study

ARMS = {
    "real": ("real (TRTR)", 1.6),
    "synthetic": ("synthetic 1× (TSTR)", 0.8),
    "real+synthetic": ("real + synthetic 1×", 1.7),
    "real-augmented": ("real, classical augmentation", 1.65),
}
CLASSES = {
    "binary": LabelSpec(("NORMAL", "PNEUMONIA")),
    "multiclass": LabelSpec(("normal", "bacterial pneumonia", "viral pneumonia")),
    "multilabel": LabelSpec(("mass", "effusion", "cardiomegaly"), "multilabel"),
}


def make_cohort(spec: LabelSpec, images: int, *, prefix: str, rng: np.random.Generator) -> Cohort:
    """Draw images of patients, a few each."""
    people = rng.integers(0, max(2, images // 2), images)
    if spec.kind == "multilabel":
        labels = (rng.random((images, len(spec))) < [0.4, 0.25, 0.5]).astype(np.float32)
        labels[rng.random(labels.shape) < 0.05] = np.nan
    else:
        labels = rng.choice(len(spec), images, p=[0.35, 0.65] if len(spec) == 2 else [0.4, 0.35, 0.25])
    return Cohort(
        labels=labels,
        patients=np.array([f"{prefix}{person}" for person in people]),
        files=np.array([f"{prefix}/<b>{i}</b> & co_{i:04}.png" for i in range(images)]),
        subgroups=pd.DataFrame(
            {
                "sex": np.array(["F", "M", ""])[people % 7 % 3],
                "age": [str(18 + person * 7 % 70) for person in people],
            }
        ),
    )


def make_predictions(cohort: Cohort, spec: LabelSpec, skill: float, rng: np.random.Generator) -> Any:
    """Return probabilities that know the truth more or less."""
    if spec.kind == "multilabel":
        truth = np.nan_to_num(cohort.labels)
        logits = skill * (2 * truth - 1) + rng.normal(size=truth.shape)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)
    logits = skill * np.eye(len(spec))[cohort.labels] + 0.8 * rng.normal(size=(len(cohort), len(spec)))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def make_study(
    kind: str = "binary",
    *,
    images: int = 120,
    seeds: int = 2,
    fractions: tuple[float, ...] = (1.0,),
    arms: dict[str, tuple[str, float]] = ARMS,
    facts: dict[str, Any] | None = None,
) -> Study:
    """Return a study whose classifiers are made up."""
    rng = np.random.default_rng(0)
    spec = CLASSES[kind]
    validation = make_cohort(spec, images // 2, prefix="v", rng=rng)
    test = make_cohort(spec, images, prefix="t", rng=rng)
    runs = []
    for arm, (_, skill) in arms.items():
        for fraction in fractions if arm != "synthetic" else (1.0,):
            for seed in range(seeds):
                strength = skill * (0.6 + 0.4 * fraction**0.3)
                steps = np.arange(50, 1001, 50)
                training = 0.7 * np.exp(-steps / (200 + 20 * seed)) + 0.02
                gap = 0.15 + (steps - 400).clip(0) / 4000
                runs.append(
                    ClassifierRun(
                        arm=arm,
                        fraction=fraction,
                        seed=seed,
                        validation=make_predictions(validation, spec, strength, rng),
                        test=make_predictions(test, spec, strength, rng),
                        history=[
                            {"step": int(s), "training_loss": float(t), "validation_loss": float(t + g)}
                            for s, t, g in zip(steps, training, gap, strict=True)
                        ],
                        facts={
                            "real_images": 0 if arm == "synthetic" else int(4000 * fraction),
                            "real_patients": 0 if arm == "synthetic" else int(1500 * fraction),
                            "synthetic_images": 4000 if "synthetic" in arm else 0,
                            "best_step": 400 + 50 * seed,
                            "seconds": 12.5 + seed,
                        },
                    )
                )
    titles = {name: title for name, (title, _) in arms.items()}
    return Study(spec, validation, test, runs, {"titles": titles, **(facts or {})})


FACTS = {
    "title": "Synthetic chest X-rays for pneumonia",
    "real": {"name": "Kermany chest X-rays", "licence": "CC BY 4.0", "source": "/data/<chest>"},
    "image": {"channels": 1, "size": [64, 64]},
    "split": {"by": "patient", "seed": 0},
    "parts": {
        name: {
            "images": images,
            "patients": images // 2,
            "class_counts": {"NORMAL": images // 3, "PNEUMONIA": images - images // 3},
            "fingerprint": "a1b2c3" * 10,
        }
        for name, images in (("train", 4000), ("validation", 60), ("test", 120))
    },
    "classifier": {"name": "small-cnn", "parameters": 288_554, "recipe": "Recipe(learning_rate=0.001)"},
    "steps": 1000,
    "batch_size": 32,
    "truncation": 1.0,
    "generators": [
        {
            "architecture": "acgan",
            "weights_sha256": "d4" * 32,
            "trained_on": {"name": "Kermany", "images": 4000, "whole_fingerprint": None},
        }
    ],
    "notes": ["It is not known which images the generator was trained on."],
    "versions": {"python": "3.11", "medgan": "0.1.0", "torch": None},
    "command": "medgan evaluate --model runs/00000 'chest <x>'",
}


def images_at(positions: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((len(positions), 1, 64, 64), generator=generator) * 2 - 1
