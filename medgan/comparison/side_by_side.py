"""A comparison from beginning to end, and what it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from medgan.comparison.options import MeasureConfig
from medgan.comparison.page import write_pictures, write_tables
from medgan.comparison.plan import (
    Contender,
    as_seen,
    check_contenders,
    check_per_class,
    keep_plan,
    make_contenders,
    make_plan,
    open_shared,
)
from medgan.comparison.results import choose_reference, make_extractor, measure, show, training_facts
from medgan.comparison.worker import DONE, FAILED, outcome_of, train
from medgan.core.budget import parse_duration
from medgan.core.saving import versions, write_aside
from medgan.core.trainer import make_accelerator
from medgan.errors import ConfigError, DataError, MedganError
from medgan.runs import OpenedData
from medgan.training import counting
from medgan.training.frozen_features import can_classify, read_classifier, train_features, write_classifier

__all__ = ["Comparison", "compare"]

_SHARE_OF_CLASSIFIER = 0.01  # of the time of all trainings
_SHARE_OF_IMAGES = 0.1  # of those of all trainings; a small classifier looks at ten in the time of one
_CLASSIFIER_BATCH = 64
_LEAST_STEPS, _MOST_STEPS = 30, 1_000


class Comparison(NamedTuple):
    """A finished comparison.

    Attributes:
        page: The page.
        facts: All its figures, as in ``comparison.json``.
    """

    page: Path
    facts: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        """Names of the trainings that failed."""
        return [entry["name"] for entry in self.facts["trainings"] if entry["status"] != DONE]


def compare(
    archs: Sequence[str],
    *,
    out: Path,
    options: Mapping[str, Any],
    config: MeasureConfig | None = None,
    transforms: str | None = None,
    real_images: bool = True,
    command: str = "",
    say: Callable[[str], None] = print,
) -> Comparison:
    """Train architectures one after the other on the same images, and compare their best models.

    Each training is an ordinary run folder in `out`, in a process of its own. What is finished there is not done again,
    what was stopped goes on. A training that fails is reported, and the others go on.

    In `out` come to lie ``plan.json``, the run folders, ``outcomes/NAME.json``, ``comparison.json``, ``table.csv``,
    ``table.md``, ``figures/*.png`` and ``index.html``.

    Args:
        archs: Architectures by name, at least two, with their default preset, or as ``name:preset``.
        out: Folder of the results.
        options: What all trainings share, options of `medgan.runs.RunConfig` and `medgan.core.GANConfig` by name; with
            ``budget`` or ``kimg``; ``seed`` is 0 unless given.
        config: How the best models are measured.
        transforms: ``module:object`` of the user's own preprocessing.
        real_images: Whether the page shows held-out real images beside the samples.
        command: What was typed, for the plan and the page.
        say: Takes lines for the user.

    Returns:
        The page and the figures.

    Raises:
        KeyboardInterrupt: If it was stopped; the training in progress has saved its state.
        ConfigError: If options do not fit, an architecture cannot be trained on the data, or `out` is of another plan.
        DataError: If the data cannot be used.
        MedganError: If files cannot be read or written.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("A comparison starts its trainings itself, one after the other. Type medgan compare alone.")
    config = config or MeasureConfig()
    options = {"seed": 0, **options}  # and not each preset's own
    contenders = make_contenders(archs, options, out=out, transforms=transforms, say=say)
    data = open_shared(contenders)
    if config.per_class:
        check_per_class(contenders, data)
    reference = choose_reference(data)
    device = make_accelerator(contenders[0].run.config.device).device.type
    extractor = make_extractor(config, reference.images, device)
    sizes = check_contenders(contenders, data)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made a folder: {error.strerror}. Name another --out.") from error
    try:
        with FileLock(out / ".lock", timeout=0):
            plan = make_plan(contenders, data)
            keep_plan(out, plan, command)
            _share_classifier(contenders, data, device, say)
            outcomes = [
                _train(contender, f"{number} of {len(contenders)}", sizes[contender.name], say)
                for number, contender in enumerate(contenders, start=1)
            ]
            trainings = [
                training_facts(contender, outcome, sizes[contender.name])
                for contender, outcome in zip(contenders, outcomes, strict=True)
            ]
            _check_same_images(trainings, data)
            seed = contenders[0].run.model_config.seed
            finished: list[Contender] = []
            settings: dict[str, Any] = {}
            for contender, entry in zip(contenders, trainings, strict=True):
                if entry["status"] != DONE:
                    continue
                say(f"Measuring {contender.name} beside {len(reference.images):,} {reference.part} images.")
                try:
                    with counting("images") as progress:
                        report = measure(
                            contender, reference, extractor, config, seed=seed, device=device, progress=progress
                        )
                except MedganError as error:
                    entry |= {"status": FAILED, "error": f"It was trained, and cannot be measured: {error}"}
                    continue
                found = report.to_dict()
                entry |= {"scores": found["scores"], "warnings": found["warnings"], "synthetic": found["synthetic"]}
                settings = {name: found[name] for name in ("settings", "extractors", "real", "training")}
                finished.append(contender)
            facts = {
                "protocol": "comparison",
                "command": command,
                "plan": plan,
                "data": data.whole.provenance() | {"source": data.whole.source},
                "parts": {part: images.provenance() for part, images in data.parts.items()},
                "reference": {"part": reference.part, **reference.images.provenance()},
                "trainings": trainings,
                "floors": _floors(trainings),
                "measured": settings,
                "versions": versions(),
            }
            with write_aside(out / "comparison.json") as aside:
                text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
                aside.write_text(text + "\n", encoding="utf-8")
            write_tables(facts, out)
            real, samples = show([contender.folder for contender in finished], reference.images, seed=seed)
            specs = [as_seen(contender, data).whole.spec for contender in finished]
            names = [contender.name for contender in finished]
            page = write_pictures(
                facts,
                out,
                samples=list(zip(names, samples, specs, strict=True)),
                real=(real, data.whole.spec) if real_images else None,
            )
    except Timeout:
        raise ConfigError(f"Another medgan compare is at work in {out}. Wait for it, or name another --out.") from None
    return Comparison(page, facts)


def _train(contender: Contender, place: str, sizes: Mapping[str, int], say: Callable[[str], None]) -> dict[str, Any]:
    """Train, unless that is done; say so."""
    about = f"{contender.name} ({place}, preset {contender.preset})"
    outcome = outcome_of(contender)
    if outcome.get("status") == DONE:
        say(f"{about}: done before, in {contender.folder}.")
        return outcome
    say(f"{about}: {sizes['generator']:,} and {sizes['discriminator']:,} parameters, in {contender.folder}.")
    outcome = train(contender)
    if outcome["status"] != DONE:
        say(f"{contender.name} failed: {outcome['error']} The others go on.")
    return outcome


def _share_classifier(
    contenders: Sequence[Contender], data: OpenedData, device: str, say: Callable[[str], None]
) -> None:
    """Train the classifier once that all trainings look at held-out patients with, and put it where each looks for it.

    Each would train one of its own, for a share of its time, and figures of different features cannot be compared.
    """
    training, out = data.parts["train"], contenders[0].folder.parent
    if "validation" not in data.parts or contenders[0].run.config.evaluate_every == 0 or not can_classify(training):
        return  # then all of them look with the same random convolutions, or not at all
    path = out / "classifier.safetensors"
    features = read_classifier(path, training, device=device)
    if features is None:
        config = contenders[0].run.config
        if config.budget is not None:
            seconds = _SHARE_OF_CLASSIFIER * parse_duration(config.budget) * len(contenders)
            how: dict[str, Any] = {"seconds": seconds}
        else:
            images = _SHARE_OF_IMAGES * 1000 * (config.kimg or 0) * len(contenders)
            how = {"steps": min(_MOST_STEPS, max(_LEAST_STEPS, round(images / _CLASSIFIER_BATCH)))}
        trained = train_features(training, required=True, device=device, **how)
        assert trained is not None
        features, steps = trained
        write_classifier(path, features, training)
        say(
            f"Trained {features.name} on {len(training):,} training images, {steps:,} steps: all trainings are looked "
            "at with its features."
        )
    for contender in contenders:
        place = contender.folder / "evaluation" / path.name
        if not place.is_file():
            write_classifier(place, features, as_seen(contender, data).parts["train"])


def _check_same_images(trainings: Sequence[Mapping[str, Any]], data: OpenedData) -> None:
    """Raise if a run folder is of other images than the comparison."""
    for entry in trainings:
        if entry["best"] and entry["best"]["training_data"] != data.whole.whole_fingerprint:
            raise DataError(f"{entry['run']} was trained on other images than this comparison. Name another --out.")


def _floors(trainings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what real images give for each number, beside real ones; it is the same for all trainings."""
    floors: dict[tuple[str, str, str], dict[str, Any]] = {}
    for score in (score for entry in trainings for score in entry["scores"] if score["floor"] is not None):
        kept = ("metric", "title", "column", "group", "direction")
        floor = {name: score["floor"][name] for name in ("mean", "spread", "halvings", "images")}
        which = (score["metric"], score["column"], score["group"])
        floors.setdefault(which, {name: score[name] for name in kept} | floor)
    return list(floors.values())
