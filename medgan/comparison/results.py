"""The figures of a comparison: what the run folders say, and what the best models are like beside held-out patients."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medgan.comparison.options import MeasureConfig
from medgan.comparison.plan import Contender
from medgan.core.saving import read_model
from medgan.core.spec import Batch
from medgan.data import ImageDataset, default_cache_dir
from medgan.errors import ConfigError, DataError
from medgan.evaluation.fidelity import FidelityReport, measure_fidelity
from medgan.evaluation.fidelity.metrics import check_metrics
from medgan.evaluation.fidelity.samples import draw_samples
from medgan.metrics.extractors import get_extractor
from medgan.metrics.features import extract_features
from medgan.models import find_model, load_model

if TYPE_CHECKING:
    from medgan.metrics.extractors import Extractor
    from medgan.runs import OpenedData

__all__ = [
    "History",
    "Reference",
    "choose_reference",
    "make_extractor",
    "measure",
    "read_history",
    "show",
    "training_facts",
]

_EXTRACTOR = "radiomics"
_SHOWN, _MOST_SHOWN = 8, 48  # images of each class, and of all
_PREFIX = "evaluation/"
_EVALUATED = ("score", "kernel_distance", "coverage", "class_consistency", "real_class_consistency")

Progress = Callable[[int, int, str], None]


class History(NamedTuple):
    """What the log of a run says.

    Attributes:
        steps: Generator steps.
        images: Real images seen.
        seconds: Time of the training, evaluations, grids and checkpoints included, the reading of the data not.
        evaluations: Each evaluation on held-out patients: ``step``, ``images``, ``seconds`` and its figures.
    """

    steps: int
    images: int
    seconds: float
    evaluations: list[dict[str, float]]


def read_history(run: Path) -> History:
    """Read the log of a run, with the time that each line's speed tells.

    Args:
        run: The run folder.

    Raises:
        DataError: If ``metrics.jsonl`` is missing or damaged.
    """
    path = run / "metrics.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        trained = [row for row in rows if row.get("images_per_second")]
        images = np.array([0, *(row["images"] for row in trained)], dtype=np.float64)
        speeds = np.array([row["images_per_second"] for row in trained], dtype=np.float64)
        seconds = np.concatenate([[0.0], np.cumsum(np.diff(images) / speeds)])
        evaluations = [
            {
                "step": row["step"],
                "images": row["images"],
                "seconds": float(np.interp(row["images"], images, seconds)),
                **{name: row[_PREFIX + name] for name in _EVALUATED if _PREFIX + name in row},
            }
            for row in rows
            if f"{_PREFIX}score" in row
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}), so nobody knows how that training went.") from error
    last = trained[-1] if trained else {"step": 0, "images": 0}
    return History(int(last["step"]), int(last["images"]), float(seconds[-1]), evaluations)


def training_facts(contender: Contender, outcome: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return what is known of a training, as plain JSON values.

    Args:
        contender: The training.
        outcome: How it ended, from `medgan.comparison.worker.train`.
        sizes: Its numbers of parameters.
    """
    facts: dict[str, Any] = {
        "name": contender.name,
        "architecture": contender.arch,
        "preset": contender.preset,
        "status": outcome["status"],
        "error": outcome.get("error"),
        "run": contender.name,
        "parameters": dict(sizes),
        "peak_memory_bytes": outcome.get("peak_memory_bytes"),
        "peak_device_memory_bytes": outcome.get("peak_device_memory_bytes"),
        "machine": {name: outcome.get(name) for name in ("machine", "threads", "cores")},
        "options": contender.run.model_config.to_dict(),
        **dict.fromkeys(("steps", "images_seen", "seconds", "images_per_second", "best")),
        "evaluations": [],
        "scores": [],
        "warnings": [],
    }
    if (contender.folder / "metrics.jsonl").is_file():
        history = read_history(contender.folder)
        facts |= {
            "steps": history.steps,
            "images_seen": history.images,
            "seconds": history.seconds,
            "images_per_second": history.images / history.seconds if history.seconds else None,
            "evaluations": history.evaluations,
        }
    if outcome["status"] == "done":
        place = find_model(contender.folder)
        _, model = read_model(place)
        facts["best"] = {
            "model": place.relative_to(contender.folder.parent).as_posix(),
            "sha256": model["sha256"],
            "steps": model["training"]["steps"],
            "images_seen": model["training"]["images_seen"],
            "features": (model.get("evaluation") or {}).get("features"),
            "training_data": model["training_data"].get("whole_fingerprint"),
        }
    return facts


# ------------------------------------------------------------------------- beside real patients


class Reference(NamedTuple):
    """The real images that all models are measured by.

    Attributes:
        images: The images.
        part: ``test`` or ``validation``.
        training: The images that all were trained on.
    """

    images: ImageDataset
    part: str
    training: ImageDataset


def choose_reference(data: OpenedData) -> Reference:
    """Return the test patients, or, where there are none, those of the validation.

    Args:
        data: From `medgan.comparison.plan.open_shared`.

    Raises:
        ConfigError: If nobody is held out, or one image only.
    """
    for part in ("test", "validation"):
        if part in data.parts:
            if len(data.parts[part]) < 2:
                raise ConfigError(f"1 image is held out as {part}, and no set can be compared with it. Hold out more.")
            return Reference(data.parts[part], part, data.parts["train"])
    raise ConfigError(
        "Nobody is held out, so that there are no real images to measure all by. Type --validation 0.1 --test 0.2."
    )


def make_extractor(config: MeasureConfig, reference: ImageDataset, device: str) -> Extractor | None:
    """Return what features are computed with, tried on an image; None for none.

    Args:
        config: The options.
        reference: The real images.
        device: Where to compute, as PyTorch names it.

    Raises:
        ConfigError: If there is no such extractor or metric, or one that needs pairs of images.
        DataError: If it cannot read such images.
    """
    if "paired" in check_metrics(config.names):
        raise ConfigError("The metric 'paired' is for translated images; generators make new ones. Leave it out.")
    if config.extractor is None and len(reference.spec.size) != 2:
        return None
    extractor = get_extractor(config.extractor or _EXTRACTOR, weights=config.weights, device=device)
    extract_features(iter([reference.images_at([0])]), extractor)
    return extractor


def measure(
    contender: Contender,
    reference: Reference,
    extractor: Extractor | None,
    config: MeasureConfig,
    *,
    seed: int,
    device: str,
    progress: Progress | None = None,
) -> FidelityReport:
    """Compare the best model of a training with the held-out patients.

    Args:
        contender: The training.
        reference: The real images.
        extractor: From `make_extractor`.
        config: The options.
        seed: Of the samples and all random choices, the same for all models.
        device: Where to sample.
        progress: Told of extractions.

    Raises:
        MedganError: As `measure_fidelity`.
    """
    gan = load_model(contender.folder)
    count = config.num or len(reference.images)
    with contextlib.ExitStack() as stack:
        samples = draw_samples(
            gan,
            reference.images,
            count=count,
            samples=config.samples,
            seed=seed,
            device=device,
            cache_dir=default_cache_dir(),
            stack=stack,
        )
        return measure_fidelity(
            reference.images,
            samples,
            extractors=[] if extractor is None else [extractor],
            metrics=config.names,
            training=reference.training,
            trained_on=gan.provenance,
            per_class=config.per_class and gan.data.labels is not None,
            halvings=config.halvings,
            permutations=config.permutations,
            seed=seed,
            cache_dir=default_cache_dir(),
            facts={"reference": reference.part, "image_seeds": f"{seed}-{seed + config.samples * count - 1}"},
            progress=progress,
        )


def show(folders: Sequence[Path], reference: ImageDataset, *, seed: int) -> tuple[Batch, list[Batch]]:
    """Return some real images, and of each model as many of the same labels, of the same seeds for all.

    Args:
        folders: The run folders.
        reference: The real images.
        seed: Of the first image.
    """
    import torch

    labels = reference.labels
    rng = np.random.default_rng([seed, 5])
    if labels is not None and labels.ndim == 1:
        classes = reference.spec.num_labels
        each = max(1, min(_SHOWN, _MOST_SHOWN // classes))
        rows = np.concatenate([rng.permutation(np.flatnonzero(labels == number))[:each] for number in range(classes)])
    else:
        rows = rng.permutation(len(reference))[: 2 * _SHOWN]
    chosen = None if labels is None else torch.as_tensor(labels[rows])
    batches = []
    for folder in folders:
        gan = load_model(folder)
        batches.append(gan.sample(len(rows), labels=None if gan.data.labels is None else chosen, seed=seed))
    return Batch(reference.images_at(rows), chosen), batches
