"""The downstream evaluation: classifiers trained on real, synthetic and mixed images, judged on other real patients."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medgan.classifiers import ClassicalAugmentation, make_classifier, predict, train_classifier
from medgan.core.saving import versions
from medgan.core.spec import LabelSpec
from medgan.data.splits import image_identities
from medgan.errors import ConfigError, DataError
from medgan.evaluation.arms import Arm, parse_arms
from medgan.evaluation.leakage import (
    check_leakage,
    check_shared_images,
    count_unknown_patients,
    note_unknown_patients,
)
from medgan.evaluation.mixing import (
    class_counts,
    joined_batches,
    patients_of,
    repeat,
    take_by_class,
    take_patients,
)
from medgan.evaluation.options import SUBGROUPS, StudyConfig
from medgan.evaluation.pools import PoolStore, class_seeds
from medgan.evaluation.records import ClassifierRun, Cohort, Study
from medgan.evaluation.run_store import RunStore, fingerprint
from medgan.evaluation.scores import choose_thresholds, problem_kind, score_table

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["DownstreamEvaluator"]

_FORMAT = 1  # raise it whenever the same key would stand for another run
_EVALUATIONS = 20  # of the validation loss, in a training


@dataclass(frozen=True)
class _Task:
    """One training to do."""

    arm: Arm
    fraction: float
    seed: int
    key: str


@dataclass(frozen=True, eq=False)
class _Context:
    """What all trainings share; goes to other processes."""

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    pools: Mapping[int, ImageDataset]  # synthetic images by seed
    probe: ImageDataset | None
    config: StudyConfig
    device: str
    store: RunStore


class DownstreamEvaluator:
    """Trains the same classifier on different images, and tests it on real patients that none of them shows.

    Every training gets the same number of optimizer steps, the same recipe, and keeps the weights with the lowest loss
    on the same real validation patients; thresholds come from these patients too. Nothing is chosen on the test
    patients. A run that is finished is kept in the folder, and found again by all that it depends on.

    Synthetic images have the class shares of the real training images. Of one generator each seed has synthetic images
    of its own, so that the spread over seeds contains that of the sampling; of several, each seed has one generator, so
    that it contains that of their training, too. Images that were given are shared out, each seed its own where there
    are enough; a note says where there are not.

    Args:
        train: Real training images, the same as the generators'.
        validation: Real images of other patients.
        test: Real images of yet others.
        out: Folder of the study.
        generators: Models to sample from: one, or one for each seed.
        synthetic: Synthetic images in the place of generators.
        config: Options.
        resume: Whether `out` may hold runs already, to go on from.
        allow_leakage: Accept synthetic images of generators that were, or may have been, trained on validation or test
            patients; the report then says that it is void.
        trained_on: For each generator the part of each real image in its training, by
            `medgan.data.splits.image_identities`; empty where that is not known.
        truncation: As in `GAN.sample`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        jobs: Trainings at a time; None for one a core, or one on an accelerator.
        facts: What the report shall say besides, plain JSON values.
        progress: Called with the runs done, the runs in all, and a name.

    Raises:
        ConfigError: If options do not fit each other or the images.
        DataError: If the images do not fit each other, a class is missing in a part, all test images are of one
            patient, patients or images are in two parts, or a generator has seen held-out patients.
    """

    def __init__(
        self,
        train: ImageDataset,
        validation: ImageDataset,
        test: ImageDataset,
        *,
        out: Path,
        generators: Sequence[GAN] = (),
        synthetic: ImageDataset | None = None,
        config: StudyConfig | None = None,
        resume: bool = False,
        allow_leakage: bool = False,
        trained_on: Sequence[Mapping[str, str]] = (),
        truncation: float = 1.0,
        device: str = "auto",
        jobs: int | None = None,
        facts: Mapping[str, Any] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        """Check everything that can be known before the first training."""
        self.config = config or StudyConfig()
        self.arms = parse_arms(self.config.arms, spatial_dims=len(train.spec.size))
        self.fractions = self.config.parsed_fractions()
        self.train, self.validation, self.test = train, validation, test
        self.generators, self.synthetic = list(generators), synthetic
        self.out, self.truncation, self.device, self.jobs = out, truncation, device, jobs
        self.facts, self.progress = dict(facts or {}), progress
        if jobs is not None and jobs < 1:
            raise ConfigError(f"--jobs must be at least 1, got {jobs}.")
        if synthetic is not None and self.generators:
            raise ConfigError("Both --model and --synthetic were given. Pass one of them.")
        if truncation != 1 and not self.generators:
            raise ConfigError(
                f"--truncation {truncation:g} is for sampling a --model, and there is none. Leave it out."
            )
        self.labels, shared = _check_parts(train, validation, test)
        _check_synthetic(self.arms, train, self.generators, synthetic)
        count = len(self.generators)
        if count > 1 and count != self.config.seeds and any(arm.synthetic for arm in self.arms):
            # Intervals take every seed for another training of the generator.
            raise ConfigError(
                f"There are {count} models and {self.config.seeds} seeds, but of several models each needs a seed of "
                f"its own. Give --seeds {count}, or one --model for each seed, or a single one."
            )
        sources = [gan.provenance for gan in self.generators] if synthetic is None else [_origin(synthetic)]
        self.banners, self.notes = check_leakage(
            sources if any(arm.synthetic for arm in self.arms) else [],
            train=train,
            held_out={"validation": validation, "test": test},
            trained_on=trained_on,
            allow=allow_leakage,
        )
        used = {} if synthetic is None or not any(arm.synthetic for arm in self.arms) else {"synthetic": synthetic}
        copies = check_shared_images(
            {"training": train, **used}, {"validation": validation, "test": test}, allow=allow_leakage
        )
        self.banners, self.notes = self.banners + copies[0], self.notes + copies[1] + shared
        self._subgroup_columns()
        # Whatever the classifier cannot do is said before anything is trained.
        self.classifier = _make_classifier(self.config.classifier, train, seed=0)
        if self.config.arms.strip() == "auto" and len(train.spec.size) != 2:
            self.notes.append("The arm real-augmented is left out, as it distorts 2-D images only.")
        if any(arm.treatment == "augmented" for arm in self.arms) and len(train.spec.size) != 2:
            raise ConfigError("The arm real-augmented is for 2-D images. Leave it out of --arms.")
        if any(arm.treatment == "oversampled" for arm in self.arms) and self.labels.kind == "multilabel":
            raise ConfigError("The arm real-oversampled needs classes, not findings. Leave it out of --arms.")
        if out.exists() and (not out.is_dir() or any(out.iterdir())) and not resume:
            raise ConfigError(f"{out} exists and is not an empty folder. Go on with --resume, or name another --out.")

    def run(self) -> Study:
        """Do all trainings that are not done yet.

        Returns:
            The study.

        Raises:
            KeyboardInterrupt: If Ctrl-C ended it; finished runs are kept.
            DataError: If there are fewer synthetic images than the arms need, or a held-out image is listed twice.
            MedganError: As the classifier's training.
        """
        validation, test = _cohort(self.validation, ()), _cohort(self.test, self._subgroup_columns())
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        pools, probe = self._pools(seeds)
        store = RunStore(self.out / "runs")
        context = _Context(self.train, self.validation, self.test, pools, probe, self.config, self.device, store)
        tasks = [
            _Task(arm, fraction, seed, self._key(arm, fraction, seed, pools, probe))
            for seed in seeds
            for arm in self.arms
            for fraction in (self.fractions if arm.real else (1.0,))
        ]
        done: dict[str, ClassifierRun] = {}
        for task in tasks:
            found = store.load(task.key, task.arm.name, task.fraction, task.seed)
            if found is not None:
                done[task.key] = found
        todo = [task for task in tasks if task.key not in done]
        self._tell(len(done), len(tasks), "")
        for task, run in self._execute(context, todo):
            done[task.key] = run
            self._tell(len(done), len(tasks), f"{task.arm.name}, seed {task.seed}")
        runs = [done[task.key] for task in tasks]
        return Study(
            labels=self.labels,
            validation=validation,
            test=test,
            runs=sorted(runs, key=lambda run: ([arm.name for arm in self.arms].index(run.arm), run.fraction, run.seed)),
            facts=self._describe(),
            synthetic=None if probe is None else _cohort(probe, ()),
        )

    def report(self, study: Study) -> tuple[Path, dict[str, Any]]:
        """Compute the numbers of a study, and write its report into the folder.

        Args:
            study: What `run` returned.

        Returns:
            The page, and the numbers; see `medgan.evaluation.summary.summarise`.
        """
        from medgan.evaluation.study_page import write_study_report  # what draws is not for the training processes
        from medgan.evaluation.summary import summarise

        summary = summarise(
            study,
            comparisons=_comparisons(self.arms, study),
            margin=self.config.margin,
            replicates=self.config.replicates,
            seed=self.config.seed,
        )
        return write_study_report(study, summary, self.out, images_at=self.test.images_at), summary

    def _pools(self, seeds: Sequence[int]) -> tuple[dict[int, ImageDataset], ImageDataset | None]:
        """Return the synthetic images of each seed, and some that no classifier is trained on."""
        arms = [arm for arm in self.arms if arm.synthetic]
        if not arms:
            return {}, None
        real = class_counts(self.train)
        # Of a share of the patients another class may be the largest one, to which the others are filled up.
        whole = self.config.parsed_fractions() == (1.0,)
        most = [
            arm.synthetic_counts(real) if whole or arm.treatment != "balanced" else np.full_like(real, real.max())
            for arm in arms
        ]
        wanted = np.maximum.reduce(most)
        shown = class_counts(self.test)
        if self.synthetic is not None:
            have = class_counts(self.synthetic)
            probe, rest = (
                take_by_class(self.synthetic, shown, seed=0)
                if (have >= wanted + shown).all()
                else (None, self.synthetic)
            )
            if probe is None:
                self.notes.append(
                    "There are too few synthetic images to keep some back, so classifiers that were trained on real "
                    "images are not tested on synthetic ones (TRTS)."
                )
            there = class_counts(rest)
            enough = (there >= len(seeds) * wanted).all()
            given = {}
            for seed in seeds:
                given[seed], others = take_by_class(rest, wanted, seed=seed)
                rest = others if enough else rest
            if len(seeds) > 1 and not enough:
                self.notes.append(
                    f"The seeds share synthetic images: each takes {int(wanted.sum()):,} of {int(there.sum()):,}. What "
                    "other synthetic images would change is in the intervals in part, or not at all."
                )
            return given, probe
        store = PoolStore(self.out / "synthetic", self.truncation, self.device)
        pools = {}
        for number, seed in enumerate(seeds):
            gan = self.generators[number if len(self.generators) > 1 else 0]
            self._tell(0, 0, f"sampling {int(wanted.sum()):,} images for seed {seed}")
            pools[seed] = store.open(gan, self.train, wanted, first_seed=class_seeds(seed))
        probe = store.open(self.generators[0], self.train, shown, first_seed=class_seeds(None))
        return pools, probe

    def _key(
        self,
        arm: Arm,
        fraction: float,
        seed: int,
        pools: Mapping[int, ImageDataset],
        probe: ImageDataset | None,
    ) -> str:
        """Hash what a run depends on."""
        # A share of the patients depends on who they are, too, which the fingerprint of images does not hold.
        train = take_patients(self.train, fraction, seed=seed)
        return fingerprint(
            {
                "format": _FORMAT,
                "medgan": versions()["medgan"],
                "classifier": self.config.classifier,
                "parameters": sum(weight.numel() for weight in self.classifier.parameters()),
                "recipe": str(self.classifier.recipe),
                "steps": self.config.steps,
                "arm": [arm.name, arm.ratio, arm.copies],
                "fraction": fraction,
                "seed": seed,
                "images": [part.fingerprint for part in (train, self.validation, self.test)],
                "synthetic": pools[seed].fingerprint if arm.synthetic else None,
                "probe": probe.fingerprint if probe is not None and arm.real and not arm.synthetic else None,
            }
        )

    def _execute(self, context: _Context, tasks: Sequence[_Task]) -> Iterator[tuple[_Task, ClassifierRun]]:
        """Yield runs as they are finished; each is stored by whoever did it."""
        jobs = min(self.jobs or _default_jobs(self.device), len(tasks))
        if jobs <= 1:
            for task in tasks:
                yield task, _train(context, task)
            return
        threads = max(1, (os.cpu_count() or 1) // jobs)
        executor = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(context, threads)
        )
        try:
            futures = {executor.submit(_train_in_worker, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise ConfigError(
                f"A process that trained a classifier was ended from outside, perhaps for want of memory ({error}). "
                "Finished runs are kept: go on with --resume and fewer --jobs."
            ) from error
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        executor.shutdown()

    def _subgroup_columns(self) -> tuple[str, ...]:
        """Return the columns to report separately.

        Raises:
            ConfigError: If one was asked for by name and is not there.
        """
        wanted = [name.strip() for name in self.config.subgroups.split(",") if name.strip()]
        missing = [name for name in wanted if name not in self.test.index and name not in SUBGROUPS]
        if missing:
            raise ConfigError(
                f"--subgroups {self.config.subgroups}: the data has no column {missing[0]!r}; it has "
                f"{', '.join(self.test.index.columns)}."
            )
        return tuple(name for name in wanted if name in self.test.index)

    def _describe(self) -> dict[str, Any]:
        """Return what the study was, as plain JSON values."""
        recipe = self.classifier.recipe
        return {
            "protocol": "study",
            **self.facts,
            "titles": {arm.name: arm.title for arm in self.arms},
            "real": {"name": self.train.name, "source": self.train.source, "licence": self.train.licence},
            "image": {"channels": self.train.spec.channels, "size": list(self.train.spec.size)},
            "parts": {
                name: {
                    "images": len(part),
                    "patients": len(np.unique(patients_of(part))),
                    "unknown_patients": count_unknown_patients(part),
                    "class_counts": part.class_counts(),
                    "fingerprint": part.fingerprint,
                }
                for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test))
            },
            "classifier": {
                "name": self.config.classifier,
                "parameters": sum(weight.numel() for weight in self.classifier.parameters()),
                "recipe": str(recipe),
            },
            "steps": self.config.steps,
            "batch_size": recipe.batch_size,
            "config": self.config.to_dict(),
            "truncation": self.truncation,
            "generators": [
                {
                    "architecture": gan.name,
                    "weights_sha256": gan.weights_sha256,
                    "trained_on": gan.provenance,
                }
                for gan in self.generators
            ],
            "synthetic": None if self.synthetic is None else _origin(self.synthetic),
            "banners": self.banners,
            "notes": self.notes,
            "versions": versions(),
        }

    def _tell(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, what)


def _check_parts(train: ImageDataset, validation: ImageDataset, test: ImageDataset) -> tuple[LabelSpec, list[str]]:
    """Check that the real images fit each other; returns what they show, and what a reader must know."""
    parts = {"train": train, "validation": validation, "test": test}
    labels = train.spec.labels
    if labels is None or labels.kind == "continuous":
        kind = "none" if labels is None else "continuous"
        raise DataError(f"A classifier learns classes or findings, but the labels of {train.name} are {kind}.")
    for name, part in parts.items():
        if part.spec != train.spec:
            raise DataError(f"The {name} images are {part.spec}, the training images {train.spec}. Open both alike.")
        empty = [label for label, count in part.class_counts().items() if not count]
        if empty or not len(part):
            raise DataError(
                f"The {name} part has no image of {', '.join(empty) or 'any class'}; its {len(part):,} images are "
                f"{part.class_counts()}. Divide the data anew, with a larger share for {name}."
            )
    if len(np.unique(patients_of(test))) < 2:
        raise DataError(
            f"All {len(test):,} test images are of one patient or file, and intervals are over patients. Divide the "
            "data anew, with a larger share for test."
        )
    notes = []
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        known = [set(parts[name].index["patient_id"]) - {""} for name in (one, other)]
        shared = sorted(known[0] & known[1])
        if not shared:
            continue
        found = f"{len(shared):,} patients, such as {shared[0]!r}, are in the {one} and in the {other} part."
        if parts[one].whole_fingerprint == parts[other].whole_fingerprint:
            raise DataError(f"{found} A study needs other patients in each; divide the data by patient.")
        notes.append(f"{found} These are of two data sets, so it may be the names alone; if not, the study is void.")
    return labels, notes + note_unknown_patients(parts)


def _check_synthetic(
    arms: Sequence[Arm], train: ImageDataset, generators: Sequence[GAN], synthetic: ImageDataset | None
) -> None:
    """Check that synthetic images can stand beside the real ones."""
    needed = [arm.name for arm in arms if arm.synthetic]
    if needed and not generators and synthetic is None:
        raise ConfigError(
            f"The arms {', '.join(needed)} need synthetic images. Give --model RUN or --synthetic SOURCE, or leave "
            "these arms out of --arms."
        )
    real = class_counts(train)
    for arm in arms:
        if arm.treatment == "even" and (len(real) == 1 or (real == real[0]).all()):
            what = "the classes are equally large" if len(real) > 1 else "there are no classes"
            raise ConfigError(f"The arm {arm.name} would be no other than synthetic, as {what}. Take that one instead.")
        if arm.synthetic and not arm.synthetic_counts(real).any():
            what = "the classes are equally large" if len(real) > 1 else "there are no classes to fill up"
            raise ConfigError(f"The arm {arm.name} would add nothing, as {what}. Take real+synthetic instead.")
    for what, spec in [("model", gan.data) for gan in generators] + (
        [("synthetic set", synthetic.spec)] if synthetic is not None else []
    ):
        if (spec.channels, spec.size) != (train.spec.channels, train.spec.size):
            raise DataError(f"The {what} has images {spec}, the real ones are {train.spec}. Give both the same --size.")
        if spec.labels != train.spec.labels:
            theirs = "no labels" if spec.labels is None else f"{spec.labels.kind} {', '.join(spec.labels.names)}"
            ours = train.spec.labels
            assert ours is not None
            raise DataError(
                f"The {what} knows {theirs}, the real images {ours.kind} {', '.join(ours.names)}. The names and their "
                "order must be the same."
            )


def _comparisons(arms: Sequence[Arm], study: Study) -> list[tuple[str, str]]:
    """Return which arms to compare with which.

    Each with ``real``; and those with real and synthetic images also with the best arm that needs no generator, as
    images that add no more than augmentation does are not worth one. The validation patients say which it is: chosen by
    the test, it would be as good as chance made it there.
    """
    pairs = [(arm.name, "real") for arm in arms if arm.name != "real"]
    free = [arm.name for arm in arms if arm.real and not arm.synthetic]
    best = max(free, key=lambda name: _validation_auroc(name, study))
    if best != "real":
        pairs += [(arm.name, best) for arm in arms if arm.real and arm.synthetic]
    return pairs


def _validation_auroc(arm: str, study: Study) -> float:
    """Return the mean AUROC of an arm's classifiers, at its largest fraction; −1 if it is undefined."""
    runs = [run for run in study.runs if run.arm == arm]
    largest = max(run.fraction for run in runs)
    kind, labels = problem_kind(study.labels), study.validation.labels
    values = [
        score_table(
            labels, run.validation, kind=kind, thresholds=choose_thresholds(labels, run.validation, kind=kind)
        ).overall["auroc"]
        for run in runs
        if run.fraction == largest
    ]
    return float(np.nan_to_num(np.mean(values), nan=-1))


def _origin(synthetic: ImageDataset) -> dict[str, Any]:
    """Return what a folder of `medgan sample` says of the training data of its model; nothing if it is no such one."""
    root = Path(synthetic.source.partition("#")[0])
    path = (root if root.is_dir() else root.parent) / "synthetic.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return dict(facts.get("training_data") or {})
    except (OSError, ValueError, AttributeError):
        return {}


def _make_classifier(name: str, images: ImageDataset, *, seed: int) -> Any:
    """Make a classifier for such images."""
    labels = images.spec.labels
    assert labels is not None
    return make_classifier(
        name,
        channels=images.spec.channels,
        size=images.spec.size,
        num_classes=len(labels),
        multilabel=labels.kind == "multilabel",
        seed=seed,
    )


def _cohort(images: ImageDataset, columns: Sequence[str]) -> Cohort:
    """Return what is known of images, without their pixels."""
    subgroups = images.index[list(columns)].reset_index(drop=True)
    return Cohort(
        labels=np.asarray(images.labels),
        patients=patients_of(images),
        files=np.array(image_identities(images.index)),
        subgroups=subgroups,
        unknown_patients=count_unknown_patients(images),
    )


def _default_jobs(device: str) -> int:
    """Return how many trainings to do at a time."""
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return (os.cpu_count() or 1) if device == "cpu" or not accelerated else 1


_worker_context: _Context | None = None


def _begin_worker(context: _Context, threads: int) -> None:
    """Prepare a process for trainings; Ctrl-C is for the one that started it."""
    global _worker_context
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _worker_context = context


def _train_in_worker(task: _Task) -> ClassifierRun:
    assert _worker_context is not None
    return _train(_worker_context, task)


def _train(context: _Context, task: _Task) -> ClassifierRun:
    """Train one classifier, let it judge the held-out images, and store what it says."""
    started = time.monotonic()
    arm, seed, config = task.arm, task.seed, context.config
    real = take_patients(context.train, task.fraction, seed=seed) if arm.real else None
    synthetic = None
    if arm.synthetic:
        counts = arm.synthetic_counts(class_counts(context.train if real is None else real))
        if counts.any():
            synthetic = take_by_class(context.pools[seed], counts, seed=seed)[0]
    shown = real if real is None else repeat(real, arm.copies)
    parts = [part for part in (shown, synthetic) if part is not None]
    classifier = _make_classifier(config.classifier, context.train, seed=seed)
    sampling: Any = "uniform" if arm.treatment == "oversampled" else "natural"
    size = classifier.recipe.batch_size
    if arm.treatment == "pretrained":
        batches = _one_after_the_other(parts[::-1], size, seed, config.steps // 2)
    else:
        batches = joined_batches(parts, size, seed=seed, class_sampling=sampling)
    history = train_classifier(
        classifier,
        batches,
        steps=config.steps,
        validation=context.validation,
        evaluate_every=max(1, math.ceil(config.steps / _EVALUATIONS)),
        seed=seed,
        device=context.device,
        augment=ClassicalAugmentation() if arm.treatment == "augmented" else None,
    )
    asked = context.probe if real is not None and synthetic is None else None
    run = ClassifierRun(
        arm=arm.name,
        fraction=task.fraction,
        seed=seed,
        validation=predict(classifier, context.validation, device=context.device),
        test=predict(classifier, context.test, device=context.device),
        history=history.rows,
        facts={
            "real_images": 0 if real is None else len(real),
            "real_patients": 0 if real is None else len(np.unique(patients_of(real))),
            "synthetic_images": 0 if synthetic is None else len(synthetic),
            "steps": history.steps,
            "best_step": history.best_step,
            "seconds": round(time.monotonic() - started, 1),
        },
        synthetic=None if asked is None else predict(classifier, asked, device=context.device),
    )
    context.store.save(task.key, run)
    return run


def _one_after_the_other(parts: Sequence[ImageDataset], batch_size: int, seed: int, first_steps: int) -> Iterator[Any]:
    """Yield batches of the first data set for some steps, then of the second one."""
    first, second = (joined_batches([part], batch_size, seed=seed) for part in parts)
    for _ in range(first_steps):
        yield next(first)
    yield from second
