"""From judged samples to a better generator: a scorer, samples that it accepts, and a training against the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medgan.core.saving import write_aside
from medgan.core.trainer import make_accelerator
from medgan.data.manifest import read_table
from medgan.errors import ConfigError, DataError
from medgan.export import write_samples
from medgan.metrics.scorer import SampleScorer
from medgan.models import find_model, load_model
from medgan.runs import Run, is_run, read_config, reopen

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.models import Which
    from medgan.reader_study import ReaderStudy

__all__ = [
    "Refinement",
    "accepted_samples",
    "classifier_judgements",
    "learn_scorer",
    "read_ratings",
    "refine",
    "study_judgements",
]

# Seeds of the images that say which share is rejected: nobody samples or judges these.
_OTHER_SEEDS = 3_000_000_000
_CALIBRATION_SEEDS = 3_500_000_000
_CALIBRATED = 256  # images of each class for the score that a share of them reaches
_MOST_TRIED = 50  # candidates for each image wanted, until it is clear that there are none
_LEAST_REJECTED = 16
_REAL_IMAGES = 1_000
_COVERAGE_NEIGHBOURS = 5
_COVERAGE_FEATURES = "random-conv"  # whatever the scorer looks at


class _Candidates(NamedTuple):
    """Samples by their seeds, with their scores."""

    seeds: list[int]
    labels: list[str] | None
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Refinement:
    """What `refine` did.

    Attributes:
        scorer: Folder of the scorer.
        rejected: Folder of the samples that the training was to lead away from.
        run: The new run folder.
        report: File of the figures.
        before: Of the model that was refined: ``rejected``, the share of its samples that the scorer rejects, and
            ``coverage`` of held-out real images.
        after: The same of the new one.
    """

    scorer: Path
    rejected: Path
    run: Path
    report: Path
    before: dict[str, float]
    after: dict[str, float]


def read_ratings(file: Path) -> pd.DataFrame:
    """Read judgements of samples from a table.

    Args:
        file: A table as a manifest is (see `medgan.data.manifest.read_table`), with the columns ``seed``, ``label``
            (unless the model has none) and ``accepted`` (1 or 0); one row for each judgement, as many as there are of
            an image. ``reader`` and others may be there.

    Returns:
        The columns seed (int), label (str, "" without) and accepted (bool).

    Raises:
        DataError: If it cannot be read, or a column or value is missing or something else.
    """
    table = read_table(file, ("seed", "accepted"))
    words = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}
    accepted = table["accepted"].str.lower().map(words)
    wrong = accepted.isna() | ~table["seed"].str.fullmatch(r"\d{1,18}(\.0+)?")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0]) + 2
        raise DataError(
            f"Line {row} of {file} has no seed, a whole number, or an answer that is neither 1 nor 0 (yes, no, true, "
            "false)."
        )
    seeds = [int(text.partition(".")[0]) for text in table["seed"]]
    labels = table.get("label", "")
    return pd.DataFrame({"seed": np.array(seeds, np.int64), "label": labels, "accepted": accepted.astype(bool)})


def study_judgements(study: ReaderStudy, gan: GAN, *, database: str | None = None) -> pd.DataFrame:
    """Take the judgements of a reader study: a sample is rejected by who took it for synthetic.

    Answers that lean to neither side are left out, and so are those on real images.

    Args:
        study: The study, from `medgan.reader_study.load_study`.
        gan: The model whose samples were read.
        database: As in `ReaderStudy.judgements`.

    Returns:
        As `read_ratings`.

    Raises:
        DataError: If the samples are of another model, or nobody has answered.
    """
    key = study.read_key()
    if key["model"]["weights_sha256"] != gan.weights_sha256:
        raise DataError(
            f"The samples of the study {study.folder} were made by other weights than those of this model "
            f"({key['model']['name']}, sha256 {key['model']['weights_sha256'][:12]}). Pass the run that it was drawn "
            "from, and the --which that it was drawn with."
        )
    table = study.judgements(database)
    table = table[(table["kind"] == "synthetic") & table["said_synthetic"].notna()]
    if table.empty:
        raise DataError(f"Nobody has judged a sample of the study {study.folder} yet.")
    rejected = table["said_synthetic"].astype(bool)
    labels = table["label"].fillna("").astype(str)
    return pd.DataFrame({"seed": table["seed"].astype(np.int64), "label": labels, "accepted": ~rejected})


def classifier_judgements(
    gan: GAN,
    run: Path,
    *,
    images: int = 200,
    truncation: float = 1.0,
    data: str | None = None,
    transforms: str | None = None,
) -> pd.DataFrame:
    """Let the run's small classifier judge samples: it accepts an image whose class it recognises.

    The classifier was trained on the run's real training images; what it cannot name is a failure of the generator,
    or a hard case. So take this beside readers, who can tell these apart.

    Args:
        gan: A model of classes.
        run: Its run folder, with the classifier that its training kept.
        images: Samples to judge, in all, classes in turn.
        truncation: As in `GAN.sample`.
        data: Where the run's data lies now; None for where it lay.
        transforms: As in `medgan.runs.reopen`.

    Returns:
        As `read_ratings`.

    Raises:
        DataError: If the run kept no classifier, or the model has no classes.
    """
    from medgan.training.frozen_features import read_classifier

    if gan.data.labels is None or gan.data.labels.kind not in ("categorical", "ordinal"):
        raise DataError("A classifier can judge samples of classes only; this model has none. Give readers' ratings.")
    training = reopen(run, data=data, transforms=transforms).parts["train"]
    found = read_classifier(run / "evaluation" / "classifier.safetensors", training)
    if found is None:
        raise DataError(
            f"{run} kept no classifier, as its training was too short or had --evaluate-every 0. Give readers' ratings."
        )
    batch = gan.sample(images, seed=_OTHER_SEEDS + 1_000_000, truncation=truncation)
    chances = found.describe(batch.images).probabilities
    assert chances is not None and batch.labels is not None  # noqa: PT018 - for the type checker
    labels = batch.labels.numpy()
    names = np.array(gan.data.labels.names)
    seeds = np.arange(_OTHER_SEEDS + 1_000_000, _OTHER_SEEDS + 1_000_000 + images)
    return pd.DataFrame({"seed": seeds, "label": names[labels], "accepted": chances.argmax(axis=1) == labels})


def learn_scorer(
    gan: GAN, judgements: pd.DataFrame, *, extractor: str = "random-conv", truncation: float = 1.0, seed: int = 0
) -> SampleScorer:
    """Learn which samples of a model are accepted.

    Args:
        gan: The model; its samples are made again from their seeds and labels.
        judgements: As `read_ratings` returns them.
        extractor: One of `medgan.metrics.scorer.SCORER_EXTRACTORS`.
        truncation: That of the samples that were judged.
        seed: Of cross-validation and interval.

    Returns:
        The scorer.

    Raises:
        ConfigError: If a seed or label does not fit the model.
        DataError: If there are too few judgements, or they cannot be told from chance.
    """
    _check_pictures(gan)
    counted = judgements.groupby(["label", "seed"], sort=True)["accepted"].agg(["sum", "count"]).reset_index()
    seeds = [int(value) for value in counted["seed"]]
    labels = None if gan.data.labels is None else [str(name) for name in counted["label"]]
    images = torch.cat([part.images for part in gan.sample_batches(seeds, labels=labels, truncation=truncation)])
    accepted = counted["sum"].to_numpy(np.float64)
    rejected = counted["count"].to_numpy(np.float64) - accepted
    return SampleScorer.learn(images, accepted, rejected, extractor=extractor, seed=seed)


def accepted_samples(
    gan: GAN,
    scorer: SampleScorer,
    n: int,
    *,
    keep: float,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    device: str = "auto",
) -> tuple[list[int], list[str] | None]:
    """Choose seeds whose images score as the best of a model's samples do.

    The score that a share `keep` of 256 samples of a label reaches is what an image needs; it does not depend on `n`.
    Candidates have the seeds from `seed` on, so that a seed still makes the same image.

    Args:
        gan: The model.
        scorer: The scorer.
        n: Number of images.
        keep: Share of the samples that is good enough, above 0 and at most 1.
        labels: Class names, taken in turn; None for all.
        seed: First candidate.
        truncation: As in `GAN.sample`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        Seeds, and the label of each, None of a model without labels; in turn, as ``write_samples`` takes them.

    Raises:
        ConfigError: If `keep` is out of its range.
        DataError: If hardly any candidate is good enough.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"--keep is the share of samples that is good enough, above 0 and at most 1; got {keep:g}.")
    _check_pictures(gan)
    place = make_accelerator(device).device
    gan.generator.to(place)

    def scores(seeds: Sequence[int], label: str | None) -> NDArray[np.float64]:
        batches = gan.sample_batches(seeds, labels=label, truncation=truncation)
        return np.concatenate([scorer.score(batch.images) for batch in batches])

    names: Sequence[str | None] = [None] if gan.data.labels is None else list(labels or gan.data.labels.names)
    kept: list[list[int]] = []
    for turn, label in enumerate(names):
        wanted = len(range(turn, n, len(names)))
        threshold = np.quantile(scores(range(_CALIBRATION_SEEDS, _CALIBRATION_SEEDS + _CALIBRATED), label), 1 - keep)
        found: list[int] = []
        first = seed + turn
        while len(found) < wanted:
            if first >= seed + _MOST_TRIED * n * len(names):
                raise DataError(
                    f"Of {_MOST_TRIED * n:,} candidates {'' if label is None else f'of {label} '}{len(found)} were "
                    f"good enough for --keep {keep:g}, which takes a larger share elsewhere. Raise it."
                )
            some = range(first, first + len(names) * max(16, wanted - len(found)), len(names))
            good = scores(some, label) >= threshold
            found += [number for number, passes in zip(some, good, strict=True) if passes]
            first = some.stop
        kept.append(found[:wanted])
    seeds = [kept[position % len(names)][position // len(names)] for position in range(n)]
    chosen = None if gan.data.labels is None else [str(names[position % len(names)]) for position in range(n)]
    return seeds, chosen


def refine(
    model: Path,
    judgements: pd.DataFrame,
    out: Path,
    *,
    which: Which = "best",
    extractor: str = "random-conv",
    flags: Mapping[str, Any] | None = None,
    samples: int = 1_000,
    truncation: float = 1.0,
    data: str | None = None,
    transforms: str | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Refinement:
    """Train a model on, away from the samples that were rejected.

    A scorer is learned from the judgements; of `samples` fresh samples those that it rejects join what the
    discriminator takes for generated images, in the proportion in which it rejects them
    (`AdversarialTrainer.reject`). Data, patients held out, architecture and options are those of the model's run.

    Args:
        model: The run folder.
        judgements: As `read_ratings` returns them.
        out: Folder to create: ``scorer/``, ``rejected/`` and ``refinement.json``.
        which: Which model of the run was judged, and is trained on, as in `medgan.models.find_model`.
        extractor: What the scorer looks through.
        flags: Options of the new run, such as ``kimg`` and ``outdir``.
        samples: Fresh samples to find rejected ones among, and to compare the two models by.
        truncation: That of the samples that were judged.
        data: Where the run's data lies now; None for where it lay.
        transforms: As in `medgan.runs.reopen`.
        seed: Of the scorer.
        say: Takes each line for the user.

    Returns:
        Where everything is, and the figures of both models.

    Raises:
        ConfigError: If this is no run, the folder exists, or an option does not fit.
        DataError: If the judgements cannot be learned from, or hardly anything is rejected.
    """
    if not is_run(model):
        raise ConfigError(
            f"{model} is no run folder. Pass one, such as runs/00000-acgan-chest_xray: its data is needed."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    gan = load_model(model, which=which)
    scorer = learn_scorer(gan, judgements, extractor=extractor, truncation=truncation, seed=seed)
    facts = scorer.facts
    say(
        f"Scorer: learned from {facts['judgements']:,} judgements of {facts['images']:,} samples, of which "
        f"{facts['accepted']:.0%} accept; AUC on unseen samples {facts['auc']:.2f} ({facts['auc_low']:.2f} to "
        f"{facts['auc_high']:.2f}, 95 %)"
    )
    opened = reopen(model, data=data, transforms=transforms)
    held_out = opened.parts.get("test", opened.parts.get("validation"))
    real = None if held_out is None else held_out.images_at(_spread(len(held_out), _REAL_IMAGES))
    candidates = _score(gan, scorer, samples)
    wrong = candidates.scores < 0.5
    if wrong.sum() < _LEAST_REJECTED:
        raise DataError(
            f"The scorer rejects {wrong.sum()} of {samples:,} samples, too few to train against. Sample with it: "
            "medgan sample --quality SCORER, or raise --samples."
        )
    share = float(np.clip(wrong.mean(), 0.05, 0.5))
    before = _figures(gan, candidates, real)
    rows = np.flatnonzero(wrong)
    out.mkdir(parents=True, exist_ok=True)
    scorer_folder = scorer.save(out / "scorer")
    rejected = write_samples(
        gan,
        out / "rejected",
        seeds=[candidates.seeds[row] for row in rows],
        labels=None if candidates.labels is None else [candidates.labels[row] for row in rows],
    )
    say(f"Rejected: {len(rows):,} of {samples:,} fresh samples, see {rejected}")
    options = {
        "init_from": str(model if which == "best" else find_model(model, which=which)),
        "splits": str(model / "data" / "splits.json"),
        "rejected": str(rejected),
        "rejected_share": round(share, 4),
        "name": None,
        **({} if data is None else {"data": data}),
        **(flags or {}),
    }
    result = Run(options, read_config(model / "config.json"), transforms=transforms, say=say).fit()
    refined = load_model(result.folder)
    after = _figures(refined, _score(refined, scorer, samples), real)
    report = {
        "model": str(model),
        "which": which,
        "run": str(result.folder),
        "scorer": dict(facts),
        "samples": samples,
        "rejected_share": share,
        "coverage_of": None
        if real is None or "coverage" not in before
        else {"images": len(real), "features": _COVERAGE_FEATURES},
        "before": before,
        "after": after,
    }
    file = out / "refinement.json"
    with write_aside(file) as temporary:
        temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Refinement(scorer_folder, rejected, result.folder, file, before, after)


def _check_pictures(gan: GAN) -> None:
    """Raise if a scorer cannot look at the model's images."""
    if len(gan.data.size) != 2 or gan.data.channels not in (1, 3):
        raise ConfigError(f"A scorer looks at grey or RGB pictures, but this model makes {gan.data}.")
    if gan.data.labels is not None and gan.data.labels.kind not in ("categorical", "ordinal"):
        raise ConfigError(
            f"A scorer is for models of classes or without labels; this one has {gan.data.labels.kind} ones."
        )


def _score(gan: GAN, scorer: SampleScorer, n: int) -> _Candidates:
    """Score fresh samples, classes in turn."""
    seeds = list(range(_OTHER_SEEDS, _OTHER_SEEDS + n))
    labels = None
    if gan.data.labels is not None:
        labels = [gan.data.labels.names[position % len(gan.data.labels)] for position in range(n)]
    batches = gan.sample_batches(seeds, labels=labels)
    return _Candidates(seeds, labels, np.concatenate([scorer.score(batch.images) for batch in batches]))


def _figures(gan: GAN, candidates: _Candidates, real: torch.Tensor | None) -> dict[str, float]:
    """Return the share that is rejected, and the coverage of held-out real images."""
    from medgan.metrics.extractors import get_extractor
    from medgan.metrics.features import standardize
    from medgan.metrics.functional import density_coverage

    figures = {"rejected": float((candidates.scores < 0.5).mean())}
    if real is not None and len(real) > _COVERAGE_NEIGHBOURS:
        extractor = get_extractor(_COVERAGE_FEATURES)
        batches = gan.sample_batches(candidates.seeds, labels=candidates.labels)
        made = torch.cat([extractor(batch.images) for batch in batches]).numpy()
        known = torch.cat([extractor(part) for part in torch.split(real, 64)]).numpy()
        figures["coverage"] = float(
            density_coverage(standardize(known, known), standardize(made, known), k=_COVERAGE_NEIGHBOURS).coverage
        )
    return figures


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Return places of at most so many images, evenly over all."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
