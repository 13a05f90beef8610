"""The run folder: the one place where a resolved configuration becomes objects, and where resume lives."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from medgan import registry
from medgan.core.budget import Budget, format_duration, parse_duration
from medgan.core.config import GANConfig, Idle, option
from medgan.core.spec import DataSpec, LabelSpec
from medgan.data.config import READING, DataConfig, shape_options
from medgan.data.defaults import choose_data, is_phantom
from medgan.errors import CheckpointError, ConfigError, DataError, PluginError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from medgan.core.gan import GAN
    from medgan.core.spec import Batch
    from medgan.core.trainer import Trainer
    from medgan.core.transfer import Transfer
    from medgan.data import ImageDataset
    from medgan.data.splits import Splits

__all__ = [
    "LENGTHS",
    "OpenedData",
    "Run",
    "RunConfig",
    "RunResult",
    "find_run",
    "find_run_of",
    "is_run",
    "read_config",
    "read_parts",
    "reading_of",
    "reopen",
    "resolve",
]

_logger = logging.getLogger("medgan")

_KIMG = 150.0

LENGTHS = ("steps", "kimg", "budget")
"""The options of a run that say how long it is, one of which is given."""

# As long is a training with a phantom unless told otherwise: chests, or volumes, within some minutes on two cores.
_PHANTOM_KIMG, _PHANTOM_VOLUMES_KIMG = 40.0, 4.0

# Images that are compared with each other before a training; the time grows with the square of their number.
_COMPARED = 20_000

# Training images of the model that a run began from, within the run folder.
_INITIAL_IMAGES = "data/initial_images.json"

# Held while a training is at work in the run folder.
_LOCK = ".lock"

# What may differ when a run is continued: where and how fast, not what is learnt.
_FREE = frozenset(
    {
        "data",
        "rejected",
        "steps",
        "kimg",
        "budget",
        "device",
        "precision",
        "sample_every",
        "checkpoint_every",
        "evaluate_every",
        "health",
        "log_every",
        "tracker",
        "licence",
        "citation",
        "workers",
        "outdir",
        "name",
    }
)


@dataclass(frozen=True, kw_only=True)
class RunConfig(DataConfig):
    """Options of a run, beside those of its architecture."""

    arch: str = option("acgan", "Architecture; `medgan archs` lists them.")
    preset: str | None = option(None, "Named settings of the architecture; its own default if not given.")
    validation: float = option(
        0.1, "Share of the patients held out for validation, where the data does not say who; 0 for none.", ge=0, le=0.9
    )
    test: float = option(0.0, "Share of the patients held out for a test.", ge=0, le=0.9)
    split_by: Literal["auto", "patient", "image"] = option(
        "auto", "What decides who is held out: the data's own split where it has one, else patients, else files."
    )
    splits: str | None = option(None, "A run's data/splits.json, to hold the same patients out again.")
    allow_patient_overlap: bool = option(False, "Accept images of one patient on both sides.")
    steps: int | None = option(None, "Generator steps in all.", ge=1)
    kimg: float | None = option(
        None,
        "Length in thousand images instead of steps; if neither is given 150, and 40 for phantoms, or 4 of volumes.",
        ge=0,
    )
    budget: str | None = option(
        None, "Length as wall-clock time instead, all included: 45m, 90s, 2h or 1h30m; the steps are fitted into it."
    )
    init_from: str | None = option(
        None, "Run folder or saved model to begin from: weights that fit by name and shape are taken."
    )
    rejected: str | None = option(
        None, "Images that the generator is not to make, such as samples that readers rejected; with --init-from."
    )
    rejected_share: float = option(
        0.2, "Share of the discriminator's generated images that make way for rejected ones.", ge=0.001, le=0.9
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Where to train.")
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Arithmetic of the networks.")
    log_every: int = option(20, "Steps between lines of metrics.jsonl.", ge=1)
    tracker: Literal["tensorboard", "wandb", "mlflow"] | None = option(
        None, "Where to send the figures of metrics.jsonl as well; to be installed, and set up, on its own."
    )
    sample_every: int = option(500, "Steps between grids of samples.", ge=1)
    checkpoint_every: int = option(500, "Steps between checkpoints.", ge=1)
    evaluate_every: int | None = option(
        None,
        "Steps between evaluations on held-out patients, of which the best model is kept; 0 for none. As often as 3 "
        "percent of the time allow if not given.",
        ge=0,
    )
    health: Literal["react", "warn", "off"] = option(
        "react", "What to do about a training that goes wrong: say so and react, only say so, or not look."
    )
    outdir: str = option("runs", "Folder that holds the run folders.")
    name: str | None = option(None, "Name of the run folder; a number, the architecture and the data if not given.")

    def __post_init__(self) -> None:
        """Check what concerns two options, or their text."""
        super().__post_init__()
        lengths = [f"--{unit}" for unit in LENGTHS if getattr(self, unit) is not None]
        if len(lengths) > 1:
            raise ConfigError(f"Both {lengths[0]} and {lengths[1]} were given. Pass one of them.")
        if self.budget is not None:
            try:
                parse_duration(self.budget)
            except ConfigError as error:
                raise ConfigError(f"--budget {error}") from None
        if self.rejected is not None and self.init_from is None:
            raise ConfigError(
                f"--rejected {self.rejected} corrects a model that makes such images. Add --init-from RUN, that model."
            )
        if self.name is not None and not re.fullmatch(r"[\w][\w.+-]*", self.name):
            raise ConfigError(f"--name {self.name!r} is not usable. Use letters, digits and . _ + - only.")

    def idle(self) -> Iterator[Idle]:
        """Yield what acts on nothing; see `Config.idle`."""
        yield from super().idle()
        if self.rejected is None:
            yield Idle(("rejected_share",), "there are no rejected images. Add --rejected FOLDER.")

    def total_steps(self, images_per_step: int) -> int:
        """Return the length of the run in generator steps, if it has no budget: that says how many as it goes.

        Args:
            images_per_step: Real images that a step takes, over all processes.
        """
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil((_KIMG if self.kimg is None else self.kimg) * 1000 / images_per_step))


def get_architecture(name: str) -> type[GAN]:
    """Return an architecture that can be trained in a run.

    Args:
        name: Its name.

    Raises:
        UnknownArchitectureError: If there is none of that name.
        PluginError: If it is broken, or has an option that a run has.
    """
    from medgan.testing import RESERVED

    architecture = registry.get(name)
    both = [item.name for item in architecture.Config.options() if item.name in RESERVED]
    if both:
        plugin = registry.plugins()[name]
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in both)
        raise PluginError(
            f"Architecture {name!r} ({plugin.value}, from {plugin.origin}) has options of its own that `medgan fit` "
            f"has, too: {flags}. Rename {', '.join(both)} in {architecture.Config.__name__}"
            + (f"; if it is not yours, type pip install -U {plugin.distribution}." if plugin.distribution else ".")
        )
    return architecture


def resolve(flags: Mapping[str, Any], file: Mapping[str, Any] | None = None) -> tuple[RunConfig, type[GAN], GANConfig]:
    """Resolve options: defaults < preset < file < flags. Without data, the phantom that fits the architecture is taken.

    Args:
        flags: Options that were given by name, of the run and of the architecture.
        file: Options from a file.

    Returns:
        The run's options, the architecture and its options.

    Raises:
        ConfigError: If an option is unknown (the nearest is suggested) or does not fit.
        UnknownArchitectureError: If there is no such architecture.
        PluginError: If the architecture is broken.
    """
    given = {**(file or {}), **flags}
    # A length given as a flag replaces one from the file, in whichever unit.
    if any(unit in flags for unit in LENGTHS):
        given |= {unit: flags.get(unit) for unit in LENGTHS}
    run_names = {item.name for item in RunConfig.options()}
    run = RunConfig.from_dict({name: value for name, value in given.items() if name in run_names})
    architecture = get_architecture(run.arch)
    model_names = {item.name for item in architecture.Config.options()}
    rest = {name: value for name, value in given.items() if name not in run_names}
    for name in rest:
        if name not in model_names:
            raise ConfigError(f"Option {name!r} is unknown to {run.arch}. {nearest(name, run_names | model_names)}")
    model = architecture.get_preset(run.preset).replace(**rest)
    run = run.replace(**choose_data([(architecture, model)], given))
    if all(getattr(run, unit) is None for unit in LENGTHS):
        phantom = _PHANTOM_KIMG if run.depth is None else _PHANTOM_VOLUMES_KIMG
        run = run.replace(kimg=phantom if is_phantom(run.data) else _KIMG)
    return run, architecture, model


def read_config(path: Path) -> dict[str, Any]:
    """Read options from a JSON file, for example a run's ``config.json``.

    Args:
        path: A JSON object of option names and values; ``provenance`` is left out.

    Returns:
        The options.

    Raises:
        ConfigError: If the file is missing or is no such thing.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path} holds a {type(values).__name__}; expected an object such as {{"size": 64}}.')
    values.pop("provenance", None)
    return values


def find_run(text: str, outdir: Path, name: str | None = None) -> Path | None:
    """Return the run folder that a ``--resume`` means.

    Args:
        text: A folder, or ``auto`` for the newest one in `outdir` that has a checkpoint.
        outdir: Folder that holds the run folders.
        name: Name of the run folder, for ``auto``; None for any.

    Returns:
        The folder; None if ``auto`` finds none.

    Raises:
        CheckpointError: If the named folder has no checkpoint.
    """
    if text == "auto":
        found = [path.parents[2] for path in outdir.glob("*/checkpoints/latest/trainer.pt")]
        found = [folder for folder in found if name is None or folder.name == name]
        return max(found, key=lambda folder: _checkpoint(folder).stat().st_mtime, default=None)
    folder = Path(text)
    if not _checkpoint(folder).is_file() or not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} cannot be resumed: it holds no checkpoints/latest/trainer.pt beside a config.json. "
            "Pass a run folder such as runs/00000-acgan-chest_xray, or --resume auto."
        )
    return folder


def _checkpoint(folder: Path) -> Path:
    """Return where a run keeps its state."""
    return folder / "checkpoints" / "latest" / "trainer.pt"


class _Initial(NamedTuple):
    """A model to begin from.

    Attributes:
        model: The model.
        discriminator: Weights of its discriminator, from its run's checkpoint; None if there is none.
        images: The training images of its run, and of those that it began from itself; None if they are not known.
    """

    model: GAN
    discriminator: dict[str, Any] | None
    images: list[str] | None


class OpenedData(NamedTuple):
    """The images of a run.

    Attributes:
        whole: All usable images.
        parts: The same, divided: ``train`` and what is held out.
        splits: Which images are for what.
    """

    whole: ImageDataset
    parts: dict[str, ImageDataset]
    splits: Splits


@dataclass(frozen=True)
class RunResult:
    """What a finished run left.

    Attributes:
        folder: The run folder.
        samples: The last grid of samples.
        model: The saved model.
        gan: The model itself.
    """

    folder: Path
    samples: Path
    model: Path
    gan: GAN


class Run:
    """A training with its files.

    Args:
        flags: Options that were given by name.
        file: Options from a file.
        resume: Run folder to continue; its options take the place of `file`.
        begin_again: Take a named run folder that was left before its first checkpoint as if it were not there yet.
        transforms: ``module:object`` of the user's own preprocessing; code, so that no file may name it.
        say: Takes each line for the user.

    Attributes:
        config: The run's options.
        model_config: The architecture's options.
        folder: The run folder; None until `fit` makes it.

    Raises:
        ConfigError: If options do not fit, or a resumed run's would change what it learns.
        UnknownArchitectureError: If there is no such architecture.
        PluginError: If the architecture is broken.
    """

    def __init__(
        self,
        flags: Mapping[str, Any],
        file: Mapping[str, Any] | None = None,
        *,
        resume: Path | None = None,
        begin_again: bool = False,
        transforms: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Resolve the options; nothing is written yet."""
        self.resume = resume
        self.begin_again = begin_again
        self.transforms = transforms
        self.say = say
        if resume is not None:
            file = read_config(resume / "config.json")
            _check_transforms(resume, transforms)
            # Before what was given is looked at beside the rest of the run's options, which may not go with it.
            _check_continues(resume, file, flags)
        else:
            _check_splits(flags)
        self.config, self.architecture, self.model_config = resolve(flags, file)
        self._chosen = "data" not in {**(file or {}), **flags}  # whether the data was left to medgan
        if self.model_config.freeze_discriminator and self.config.init_from is None:
            raise ConfigError(
                f"--freeze-discriminator {self.model_config.freeze_discriminator} would keep random weights. Add "
                "--init-from RUN, whose discriminator it keeps, or leave it out."
            )
        self.folder = resume
        self._initial_model: dict[str, Any] | None = None  # what the model that this one began from was trained on
        self._initial_images: list[str] | None = None
        self._rejected_images: str | None = None  # their fingerprint
        self._initial_summary: list[str] = []
        self._left_out: LabelSpec | None = None  # labels of the data that the architecture cannot learn any of
        if resume is not None and file is not None:
            self._initial_model = (_read_provenance(resume).get("training_data") or {}).get("initial_model")
            _check_continues(resume, file, self.config.to_dict() | self.model_config.to_dict())

    def open_data(self) -> OpenedData:
        """Open the data and hold some patients out.

        Raises:
            DataError: If the data cannot be used.
        """
        from medgan.data import open_configured
        from medgan.data.splits import Splits, make_splits
        from medgan.training import reading_progress

        config = self.config
        self.check_size()
        with reading_progress() as progress:
            dataset = open_configured(config, transforms=self.transforms, progress=progress)
        if config.splits is not None:
            # A run has a copy, and its folder may be on another machine by now.
            own = None if self.resume is None else self.resume / "data" / "splits.json"
            splits = Splits.read(own or Path(config.splits))
            if "train" not in splits.parts:
                raise ConfigError(
                    f"{config.splits} holds no images to train on, but {', '.join(splits.parts)}. "
                    "Give a file whose parts are train and, say, validation."
                )
        else:
            splits = make_splits(
                dataset.everything,
                dataset.strata,
                validation=config.validation,
                test=config.test,
                seed=self.model_config.seed,
                by=config.split_by,
                allow_patient_overlap=config.allow_patient_overlap,
            )
        if not self.architecture.label_kinds:
            self._left_out = dataset.spec.labels
            dataset = dataset.without_labels()
        parts = dataset.apply_splits(splits, allow_patient_overlap=config.allow_patient_overlap)
        return OpenedData(dataset, parts, splits)

    def check_size(self) -> None:
        """Look whether the architecture can make images of this size, before any image is read.

        Raises:
            ConfigError: If it cannot.
        """
        config = self.config
        channels = 1 if config.channels == "auto" else int(config.channels)
        size = (config.size, config.size) if config.depth is None else (config.depth, config.size, config.size)
        labels = (
            LabelSpec(("first", "second"), self.architecture.label_kinds[0]) if self.architecture.needs_labels else None
        )
        # Whether there really are sources is known when the data has been looked at.
        sources = channels if self.architecture.translates else 0
        data = DataSpec(channels, size, labels, sources, paired=config.layout != "unpaired")
        self.architecture.check(self.model_config, data)

    def describe(self, data: OpenedData) -> dict[str, Any]:
        """Return the resolved configuration with its provenance, as written to ``config.json``."""
        from medgan.core.saving import versions

        plugin = registry.plugins()[self.config.arch]
        return {
            **self.config.to_dict(),
            **self.model_config.to_dict(),
            "provenance": {
                "versions": versions(),
                "architecture": {"name": plugin.name, "value": plugin.value, "origin": plugin.origin},
                "data": data.whole.spec.to_dict(),
                "transforms": self.transforms,
                "training_data": data.parts["train"].provenance()
                | ({} if self._initial_model is None else {"initial_model": self._initial_model}),
                "held_out_images": {part: len(names) for part, names in data.splits.parts.items() if part != "train"},
                **({} if self._rejected_images is None else {"rejected_images": self._rejected_images}),
            },
        }

    def is_done(self) -> bool:
        """Whether this continues a run that has nothing left to do."""
        from medgan.core.saving import read_state
        from medgan.training.health import reason_of_end

        if self.resume is None:
            return False
        state = read_state(_checkpoint(self.resume))["trainer"]
        if self.config.health == "react" and reason_of_end(state.get("memory", {})) is not None:
            return True
        if self.config.budget is not None:
            return bool(state["step"] == state["total_steps"])
        processes = len(state["random"])
        return bool(state["step"] >= self.config.total_steps(self.model_config.images_per_step * processes))

    def make_model(self, data: OpenedData) -> GAN:
        """Return the model as it is before its first step, with its trainer.

        Args:
            data: From `open_data`.

        Raises:
            ConfigError: If the architecture cannot do such data with its options, there are too few images for a step,
                or device or precision are not to be had here.
        """
        gan = self.architecture(data.whole.spec, self.model_config)
        trainer = gan.make_trainer(device=self.config.device, precision=self.config.precision)
        _check_batch(self.model_config, data.parts["train"], trainer.accelerator.num_processes)
        return gan

    def dry_run(self) -> None:
        """Say what `fit` would do: options, data and networks; write nothing.

        Raises:
            MedganError: As `fit` would.
        """
        self._check_tracker()
        initial = self._open_initial()
        data = self.open_data()
        gan = self.make_model(data)
        assert gan.trainer is not None
        if initial is not None:
            self._take_weights(gan, initial)
        self.say(json.dumps(self.describe(data), indent=2, ensure_ascii=False))
        self._introduce(gan, data)
        if self.config.budget is not None:
            self.say(f"Would train for {format_duration(parse_duration(self.config.budget))}, all included.")
            return
        images = self.model_config.images_per_step * gan.trainer.accelerator.num_processes
        self.say(f"Would train {self.config.total_steps(images):,} steps.")

    def fit(self, *, count_preparation: bool = True) -> RunResult:
        """Train, and write the run folder.

        Args:
            count_preparation: Whether the time of a budget begins now, or when images and model are there.

        Returns:
            Where everything is.

        Raises:
            TrainingStopped: If Ctrl-C ended it; the state is saved.
            TrainingDivergedError: If a loss became NaN or infinite; the last checkpoint is untouched.
            ProcessLostError: If another process of a distributed training ended; the last checkpoint is untouched.
            ConfigError: If another training is at work in the run folder, or options do not fit.
            MedganError: If data or files do not fit.
        """
        started = time.perf_counter()
        with contextlib.ExitStack() as held:
            return self._fit(started if count_preparation else None, held)

    def _fit(self, started: float | None, held: contextlib.ExitStack) -> RunResult:
        """Train, with the run folder locked on `held`; a budget began at `started`, or begins with the first step."""
        from medgan.core.distribution import gather, main_first
        from medgan.core.trainer import make_accelerator
        from medgan.pages import save_image
        from medgan.training import (
            BudgetNotes,
            Checkpoint,
            HealthMonitor,
            KeepBest,
            MetricsLog,
            SampleGrid,
            StopOnSignal,
            make_progress,
            tracking,
        )
        from medgan.training.callbacks import TrainingStopped

        seconds = self.config.budget and parse_duration(self.config.budget)
        self._check_tracker()
        accelerator = make_accelerator(self.config.device, self.config.precision)
        main = accelerator.is_main_process
        if not main:
            self.say = lambda line: None
        elif self.resume is not None:
            held.enter_context(_locked(self.resume))
        initial = self._open_initial()
        # The main process decodes; the others then find everything in the cache.
        with main_first(accelerator):
            data = self.open_data()
        dataset = data.parts["train"]
        _check_batch(self.model_config, dataset, accelerator.num_processes)
        gan = self.architecture(dataset.spec, self.model_config)
        trainer = gan.make_trainer(device=self.config.device, precision=self.config.precision)
        if self.resume is not None:
            self._restore(gan, dataset)
            self._check_end(trainer)
            gan.initial_model = self._initial_model
        elif initial is not None:
            self._take_weights(gan, initial)
        if self.config.rejected is not None:
            self._reject(trainer, self.config.rejected)
        steps, budget = None, None
        if seconds:
            budget = Budget(seconds, started=time.perf_counter() if started is None else started)
            self._check_budget(trainer, budget)
        else:
            steps = self.config.total_steps(self.model_config.images_per_step * accelerator.num_processes)
        if steps is not None and steps <= trainer.step:
            raise ConfigError(
                f"{self.folder} has done {trainer.step:,} steps already, and {steps:,} were asked for. "
                f"Type --steps {trainer.step + steps} to train on."
            )

        if main:
            self.folder = self.folder or self._make_folder(dataset.name)
            if self.resume is None:
                held.enter_context(_locked(self.folder))
            self._write_facts(data)
        folder = self.folder = Path(gather(accelerator, str(self.folder))[0])
        with _log_file(folder / "log.txt" if main else None):
            self._introduce(gan, data)
            self.say(f"Run folder: {folder}" + (f", continuing at step {trainer.step:,}" if trainer.step else ""))
            stop = StopOnSignal()
            checkpoint = Checkpoint(gan, _checkpoint(folder), folder / "model", every=self.config.checkpoint_every)
            shown = _shown(data.parts.get("validation", dataset)) if gan.translates else None
            grid = SampleGrid(gan, folder / "samples", every=self.config.sample_every, shown=shown)
            with contextlib.ExitStack() as stack:
                stack.enter_context(stop.listening())
                best: KeepBest | None = None
                log = MetricsLog(folder / "metrics.jsonl", every=self.config.log_every)
                callbacks: list[Any] = [log, checkpoint, stop]
                health: HealthMonitor | None = None
                if self.config.health != "off":
                    health = HealthMonitor(folder, react=self.config.health == "react", say=self.say)
                if main:
                    if self.resume is None:
                        save_image(_real_picture(dataset), folder / "samples" / "real.png")
                    planned: Any = steps if budget is None else lambda: trainer.total_steps or budget.total_steps
                    reports = [stack.enter_context(make_progress(planned, trainer.step))]
                    if self.config.tracker is not None:
                        tracker = tracking(
                            self.config.tracker,
                            accelerator,
                            folder=folder,
                            config=self.config.to_dict() | self.model_config.to_dict(),
                            step=trainer.step,
                            say=self.say,
                        )
                        reports.append(stack.enter_context(tracker))
                    log.report = lambda row: _tell(reports, row)
                    callbacks = [log, grid, checkpoint, stop]
                    if self.config.evaluate_every != 0:
                        best = KeepBest(
                            gan,
                            dataset,
                            validation=data.parts.get("validation"),
                            folder=folder,
                            health=health,
                            steps=steps,
                            every=self.config.evaluate_every,
                            log=log,
                            say=self.say,
                        )
                        callbacks.insert(2, best)
                    if budget is not None:
                        callbacks.append(BudgetNotes(budget, self.say))
                if health is not None:
                    callbacks.insert(callbacks.index(checkpoint), health)
                try:
                    rest = None if steps is None else steps - trainer.step
                    gan.fit(dataset, steps=rest, total_steps=steps, budget=budget, callbacks=callbacks)
                except BaseException as reason:
                    if isinstance(reason, TrainingStopped):
                        checkpoint.write(trainer)
                        gather(accelerator, None)  # a launcher ends all processes as soon as one has ended
                        _logger.info("stopped by the user at step %d", trainer.step)
                    # The curves of a run that failed help, but must not take the place of the reason.
                    with contextlib.suppress(CheckpointError):
                        _plot(log.rows, folder)
                    raise
                _plot(log.rows, folder)
            gather(accelerator, None)  # the others wait until all is written
            if budget is not None:
                spent, whole = format_duration(budget.spent), format_duration(budget.seconds)
                self.say(f"Budget: {trainer.step:,} steps took {spent} of {whole}, all included.")
            self.say(f"Images: {grid.latest} (real ones: {folder / 'samples' / 'real.png'})")
            self.say(f"Model:  {folder / 'model'}")
            if best is not None and (kept := best.summary()) is not None:
                self.say(f"Best:   {kept}")
            form = ""
            if len(dataset.spec.size) == 3:
                form = f" --format {'nifti' if dataset.spec.channels == 1 else 'npz'}"
            what = "--source FOLDER" if gan.translates else "-n 64"
            self.say(f"More:   medgan sample --model {shlex.quote(str(folder))} {what} --out samples --grid{form}")
        return RunResult(folder, grid.latest or folder / "samples", folder / "model", gan)

    def _check_tracker(self) -> None:
        """Raise if the tracker that is asked for is not installed."""
        from medgan.training import check_tracker

        if self.config.tracker is not None:
            check_tracker(self.config.tracker)

    def _open_initial(self) -> _Initial | None:
        """Read the model to begin from; None if there is none, or a resumed run has its weights already."""
        from medgan.data.splits import INITIAL
        from medgan.models import load_discriminator, load_model

        if self.config.init_from is None or self.resume is not None:
            return None
        folder = Path(self.config.init_from)
        model = load_model(folder)
        if model.name != self.config.arch:
            raise ConfigError(
                f"--init-from {folder} is a model of {model.name}, and this run is of {self.config.arch}. Type --arch "
                f"{model.name}, or name another model."
            )
        run = find_run_of(folder.resolve())
        discriminator = load_discriminator(run).state_dict() if _checkpoint(run).is_file() else None
        images = None
        if is_run(run):
            images = sorted(name for name, part in read_parts(run).items() if part in ("train", INITIAL))
        return _Initial(model, discriminator, images)

    def _take_weights(self, gan: GAN, initial: _Initial) -> None:
        """Begin from another model, and remember what it was trained on."""
        done = gan.take_weights(initial.model, discriminator=initial.discriminator)
        self._check_frozen(gan, done.get("discriminator"))
        assert gan.initial_model is not None
        gan.initial_model |= {
            "images_listed": initial.images is not None,
            "taken": {name: round(transfer.share, 4) for name, transfer in done.items()},
        }
        self._initial_model, self._initial_images = gan.initial_model, initial.images
        source = self.config.init_from
        self._initial_summary = [
            f"{name.capitalize()} begins from {source}: {transfer.describe()}" for name, transfer in done.items()
        ]
        if initial.discriminator is None:
            self._initial_summary.append(
                f"Discriminator is fresh: {source} has no checkpoint of a training, which holds one. A run folder has."
            )

    def _reject(self, trainer: Trainer[Any], source: str) -> None:
        """Give a training the images that its generator is not to make."""
        import torch

        from medgan.core.spec import Batch
        from medgan.core.trainer import AdversarialTrainer
        from medgan.data import open_configured

        if not isinstance(trainer, AdversarialTrainer):
            raise ConfigError(
                f"--rejected joins the images that the discriminator takes for generated ones, but {self.config.arch} "
                "has a training of its own. Leave it out."
            )
        spec = trainer.data
        kind = None if spec.labels is None else spec.labels.kind
        if kind == "ordinal":
            kind = "categorical"  # classes are told by their names, whatever their order
        dataset = open_configured(DataConfig.from_dict({"data": source, "label_kind": kind, **shape_options(spec)}))
        before = None if self.resume is None else _read_provenance(self.resume).get("rejected_images")
        if before not in (None, dataset.fingerprint):
            raise DataError(
                f"The images in {source} are not those that {self.resume} was begun with as --rejected. Give those, or "
                "start a new run."
            )
        self._rejected_images = dataset.fingerprint
        labels = None
        if spec.labels is not None:
            if dataset.labels is None or dataset.spec.labels is None:
                raise DataError(f"--rejected {source} has no labels, but the data has. Sort the images by class.")
            found, known = dataset.spec.labels.names, spec.labels.names
            if set(found) - set(known) or (dataset.labels.ndim == 2 and found != known):
                raise DataError(
                    f"--rejected {source} has the labels {', '.join(found)}, but the data {', '.join(known)}. Give "
                    "images of the same."
                )
            labels = torch.as_tensor(dataset.labels)
            if labels.ndim == 1:
                labels = torch.tensor([known.index(name) for name in found])[labels]
        images = dataset.images_at(range(len(dataset)))
        trainer.reject(Batch(images, labels), share=self.config.rejected_share)
        self.say(f"Rejected: {len(dataset):,} images of {source}, {self.config.rejected_share:.0%} of a step's fakes")

    def _check_frozen(self, gan: GAN, taken: Transfer | None) -> None:
        """Raise if blocks of the discriminator would keep weights that nobody has trained."""
        number = self.model_config.freeze_discriminator
        if not number:
            return
        assert gan.trainer is not None
        discriminator = gan.trainer.discriminator
        held = {id(value) for block in discriminator.stages()[:number] for value in block.parameters()}
        names = [name for name, value in discriminator.named_parameters() if id(value) in held]
        fresh = names if taken is None else [name for name in names if name not in taken.taken]
        if fresh:
            reason = "it has no checkpoint" if taken is None else f"{fresh[0]}: {taken.fresh.get(fresh[0], 'in part')}"
            raise ConfigError(
                f"--freeze-discriminator {number} would keep random weights: of {self.config.init_from} they cannot be "
                f"taken ({reason}). Leave it out, or name a run of the same size, channels and networks."
            )

    def _check_budget(self, trainer: Trainer[Any], budget: Budget) -> None:
        """Begin to keep to a budget, unless that is over, or the run was begun without one."""
        length = format_duration(budget.seconds)
        if trainer.step and trainer.budget_before is None:
            raise ConfigError(
                f"{self.folder} was begun for a number of steps, and no budget can take its place. Leave --budget out; "
                "--steps or --kimg makes it longer."
            )
        trainer.use_budget(budget)
        if trainer.total_steps is not None and trainer.total_steps <= trainer.step:
            advice = "Start a new run with" if self.model_config.lr_decay else "To train on, type"
            raise ConfigError(
                f"{self.folder} is done: {trainer.step:,} steps within {length}. {advice} a longer --budget."
            )

    def _restore(self, gan: GAN, dataset: ImageDataset) -> None:
        """Load the run's checkpoint into the training, if it is of this architecture and these very images."""
        from medgan.core.saving import read_state

        assert self.folder is not None and gan.trainer is not None  # noqa: PT018 - for the type checker
        path = _checkpoint(self.folder)
        state = read_state(path)
        wanted = {"architecture": gan.name, "data": gan.data.to_dict()}
        for key, value in wanted.items():
            if state.get(key) != value:
                raise CheckpointError(
                    f"{path} is of {key} {state.get(key)!r}, but this run is of {value!r}. Start a new run instead."
                )
        if state.get("fingerprint") != dataset.fingerprint:
            raise CheckpointError(
                f"The images in {self.config.data} are not those that {self.folder} was begun with; its "
                "data/index.csv lists them. Put them back, or start a new run."
            )
        try:
            gan.trainer.load_state_dict(state["trainer"])
        except KeyError as error:
            raise CheckpointError(f"{path} lacks {error}; it was not written by this version of medgan.") from error

    def _check_end(self, trainer: Trainer[Any]) -> None:
        """Raise if a health monitor has ended the run, unless it is to go on all the same."""
        from medgan.training.health import reason_of_end

        assert self.folder is not None
        reason = reason_of_end(trainer.memory)
        if self.config.health == "react" and reason is not None:
            raise ConfigError(
                f"{self.folder} is done. {reason} {self.folder / 'health.jsonl'} says more. Start a new run, with more "
                "images or a stronger --augment; to train this one on all the same, type --health warn."
            )

    def _make_folder(self, data_name: str) -> Path:
        """Create the run folder; an existing one is never touched, unless a run left it before it had saved a state."""
        outdir = Path(self.config.outdir)
        if outdir.exists() and not outdir.is_dir():
            raise ConfigError(f"{outdir} is a file, not a folder for runs. Choose another --outdir.")
        try:
            outdir.mkdir(parents=True, exist_ok=True)
            if self.config.name is not None:
                folder = outdir / self.config.name
                folder.mkdir()
                return folder
            numbers = [int(path.name[:5]) for path in outdir.iterdir() if re.match(r"\d{5}-", path.name)]
            number = max(numbers, default=-1) + 1
            while True:
                folder = outdir / f"{number:05d}-{self.config.arch}-{data_name}"
                # Two runs may start at the same moment.
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                    return folder
                number += 1
        except FileExistsError:
            folder = outdir / str(self.config.name)
            if self.begin_again and _is_left(folder):
                return folder
            advice = f"Continue it with --resume {shlex.quote(str(folder))}, or choose"
            if not _checkpoint(folder).is_file():
                advice = "It holds no checkpoint to continue from: delete it, or choose"
            raise ConfigError(f"{folder} exists already. {advice} another --name.") from None
        except OSError as error:
            raise ConfigError(
                f"No run folder can be made in {outdir}: {error.strerror}. Choose another --outdir."
            ) from error

    def _write_facts(self, data: OpenedData) -> None:
        """Write the resolved configuration and what the data was, before the first step."""
        from medgan.core.saving import write_aside

        assert self.folder is not None
        data.splits.write(self.folder / "data" / "splits.json")
        duplicates = self._find_duplicates(data)
        texts = {
            "config.json": json.dumps(self.describe(data), indent=2, ensure_ascii=False) + "\n",
            "data/index.csv": data.whole.index.to_csv(index=False),
            "data/quarantine.csv": data.whole.quarantine.to_csv(index=False),
            **({} if duplicates is None else {"data/duplicates.csv": duplicates.to_csv(index=False)}),
        }
        if self._initial_images is not None:
            texts[_INITIAL_IMAGES] = json.dumps({"images": self._initial_images}, ensure_ascii=False) + "\n"
        for name, text in texts.items():
            with write_aside(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def _find_duplicates(self, data: OpenedData) -> pd.DataFrame | None:
        """Compare the images of different parts; None where there are too many, or nothing is held out."""
        from medgan.data.duplicates import duplicate_report

        if not len(data.splits.parts) > 1 or len(data.whole) > _COMPARED:
            return None
        report = duplicate_report(data.parts)
        across = report[report["split_a"] != report["split_b"]].reset_index(drop=True)
        if len(across):
            self.say(
                f"Look at: {len(across):,} pairs of (nearly) the same picture are on both sides of the split; see "
                "data/duplicates.csv in the run folder."
            )
        return across

    def _introduce(self, gan: GAN, data: OpenedData) -> None:
        """Say what is about to be trained on what."""
        assert gan.trainer is not None
        dataset = data.parts["train"]
        counts = ", ".join(f"{name} {count:,}" for name, count in dataset.class_counts().items())
        held_out = [
            f"{len(names):,} held out for {part}" for part, names in data.splits.parts.items() if part != "train"
        ]
        own = ", as the data itself says" if data.splits.by == "source" else ""
        chosen = f" ({self.config.data}, as there is no --data)" if self._chosen else ""
        self.say(
            f"Data: {dataset.name}{chosen}, {len(dataset):,} images ({counts or 'no labels'}), "
            f"{', '.join(held_out) or 'none held out'}{own}; {dataset.spec}"
        )
        if self._left_out is not None:
            names = ", ".join(self._left_out.names)
            self.say(f"{gan.name} learns no labels: it does not see which images are {names}.")
        if len(dataset.quarantine):
            self.say(
                f"Left out {len(dataset.quarantine):,} unreadable images; see data/quarantine.csv in the run folder."
            )
        sizes = [
            sum(parameter.numel() for parameter in network.parameters())
            for network in (gan.trainer.generator, gan.trainer.discriminator)
        ]
        self.say(
            f"Model: {gan.name}, generator {sizes[0]:,} and discriminator {sizes[1]:,} parameters, "
            f"on {gan.trainer.accelerator.num_processes} × {gan.trainer.device.type} in {self.config.precision}"
        )
        for line in self._initial_summary:
            self.say(line)


def _check_batch(config: GANConfig, dataset: ImageDataset, processes: int) -> None:
    """Raise if a step would see an image twice, as there are fewer than it takes, in all or of a class.

    The discriminator compares images within a batch, where copies of real ones look as a collapsed generator's do.
    """
    batches = config.gradient_accumulation_steps * processes
    batch = config.batch_size * batches
    count = len(dataset) if dataset.sources is None else min(len(dataset), len(dataset.sources))
    largest, lack = float(count), f"there are {count:,} to train on"
    shares = _class_shares(config, dataset)
    counts = dataset.class_counts() if shares else {}
    for name, share in shares.items():
        if counts[name] / share < min(largest, batch):
            largest = counts[name] / share
            lack = (
                f"--class-sampling {config.class_sampling} makes {share * batch:.3g} of them images of {name}, and "
                f"there are {counts[name]:,} to train on"
            )
    if batch <= largest:
        return
    divisions = {
        f"{config.gradient_accumulation_steps} accumulated batches": config.gradient_accumulation_steps > 1,
        f"{processes} processes": processes > 1,
    }
    times = "".join(f" in {name}" for name, there in divisions.items() if there)
    ways = (
        [f"--batch-size {_largest_batch(config, int(largest / batches))} or less"]
        if largest >= batches
        else ["fewer processes and accumulated batches"]
    )
    ways += ["--class-sampling natural"] if shares and batch <= len(dataset) else []
    raise ConfigError(
        f"A step takes {batch:,} images (--batch-size {config.batch_size}{times}), but {lack}, so that it would see "
        f"some of them twice. Type {', or '.join(ways)}."
    )


def _largest_batch(config: GANConfig, most: int) -> int:
    """Return the largest batch of up to `most` images that goes with the other options; `most` if none does."""
    for size in range(most, 0, -1):
        with contextlib.suppress(ConfigError):
            return config.replace(batch_size=size).batch_size
    return most


def _class_shares(config: GANConfig, dataset: ImageDataset) -> dict[str, float]:
    """Return what part of a batch each class makes up, if that is not left to chance."""
    import numpy as np

    from medgan.data.sampling import class_shares

    if dataset.labels is None or dataset.labels.ndim != 1 or config.class_sampling == "natural":
        return {}
    counts = {name: count for name, count in dataset.class_counts().items() if count}
    shares = class_shares(np.array(list(counts.values())), config.class_sampling)
    return dict(zip(counts, shares.tolist(), strict=True))


def _is_left(folder: Path) -> bool:
    """Whether a folder holds what a run makes before its first checkpoint, and nothing else."""
    made = {"config.json", "data", "log.txt", "metrics.jsonl", "checkpoints", "samples", "plots"}
    made |= {"evaluation", "health.jsonl", "tensorboard", "wandb", _LOCK}
    return not _checkpoint(folder).is_file() and all(
        entry.name in made or re.fullmatch(r"\..*\.tmp", entry.name) for entry in folder.iterdir()
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder for the duration of a block; a process that is killed frees it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"Another process is training in {folder}. Wait for its end, or choose another --name for a new run."
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written to ({error.strerror}). Allow it, or copy the run."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_continues(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise if options of a resumed run would change what it learns."""
    for name, value in now.items():
        fixed = name not in _FREE or (name == "rejected" and None in (before.get(name), value))
        if fixed and name in before and before[name] != value:
            raise ConfigError(
                f"{folder} was begun with {name} {before[name]!r}; {value!r} cannot take its place. "
                "Leave the flag out, or start a new run."
            )


def _check_splits(flags: Mapping[str, Any]) -> None:
    """Raise if a division was given, and beside it how to make one."""
    if flags.get("splits") is None:
        return
    named = ("validation", "test", "split_by")
    beside = [item.typed(flags[item.name]) for item in RunConfig.options() if item.name in named and item.name in flags]
    if beside:
        verb = "acts" if len(beside) == 1 else "act"
        raise ConfigError(
            f"{', '.join(beside)} {verb} on nothing: --splits {flags['splits']} says already who is held out. Leave "
            "out one or the other."
        )


def _check_transforms(folder: Path, transforms: str | None) -> None:
    """Raise if a run was begun with other transforms: they are code, which its configuration cannot bring along."""
    before = _read_provenance(folder).get("transforms")
    if before != transforms:
        advice = "Leave --transforms out" if before is None else f"Type --transforms {before}"
        raise ConfigError(f"{folder} was begun with --transforms {before}, not {transforms}. {advice}.")


def _read_provenance(folder: Path) -> dict[str, Any]:
    """Return what a run's ``config.json`` says beside the options; empty if nothing."""
    provenance = json.loads((folder / "config.json").read_text(encoding="utf-8", errors="surrogateescape")).get(
        "provenance"
    )
    return provenance if isinstance(provenance, dict) else {}


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, and not a saved model's alone."""
    return (folder / "config.json").is_file() and (folder / "data" / "splits.json").is_file()


def find_run_of(folder: Path) -> Path:
    """Return the run folder that one of its models belongs to; any other folder as it is."""
    runs = {"model": folder.parent, "best": folder.parent.parent}
    run = runs.get(folder.name)
    is_model = folder.name == "model" or folder.parent.name == "checkpoints"
    return run if run is not None and is_model and is_run(run) else folder


def reopen(run: Path, *, data: str | None = None, transforms: str | None = None) -> OpenedData:
    """Open the data of a run again, read and divided as it was trained on.

    Args:
        run: The run folder.
        data: Where the same data lies now; None for where it lay.
        transforms: ``module:object`` of the preprocessing that the run was given, if any; code, so that no file may
            name it.

    Returns:
        The same images in the same parts.

    Raises:
        ConfigError: If this is no run folder, or its options or `transforms` do not fit.
        DataError: If the data is not there, or its images are not those of the run.
    """
    from medgan.data import open_configured
    from medgan.data.splits import Splits
    from medgan.training import reading_progress

    if not is_run(run):
        raise ConfigError(
            f"{run} is no run folder: it holds no data/splits.json beside a config.json. Pass one, such as "
            "runs/00000-acgan-chest_xray."
        )
    options = read_config(run / "config.json")
    _check_transforms(run, transforms)
    names = {item.name for item in RunConfig.options()}
    config = RunConfig.from_dict({name: value for name, value in options.items() if name in names})
    if data is not None:
        config = config.replace(data=data)
    try:
        with reading_progress() as progress:
            dataset = open_configured(config, transforms=transforms, progress=progress)
    except DataError as error:
        raise DataError(f"{error} {run} was trained on {options.get('data')}; if that has moved, say where.") from error
    splits = Splits.read(run / "data" / "splits.json")
    if (_read_provenance(run).get("data") or {}).get("labels", True) is None:
        dataset = dataset.without_labels()
    parts = dataset.apply_splits(splits, allow_patient_overlap=config.allow_patient_overlap)
    trained_on = _read_provenance(run).get("training_data") or {}
    if "train" not in parts or parts["train"].fingerprint != trained_on.get("fingerprint"):
        raise DataError(
            f"The images in {config.data} are not those that {run} was trained on: their names are the same, but "
            "pixels, labels or the versions of what reads them differ. Give the data of the run; its data/index.csv "
            "lists it."
        )
    return OpenedData(dataset, parts, splits)


def reading_of(run: Path, *, transforms: str | None = None) -> dict[str, Any]:
    """Return the options by which a run's images were read, for others that are to be read as they were.

    Args:
        run: The run folder.
        transforms: ``module:object`` of the preprocessing for the others; code, so that no file may name it.

    Returns:
        Options of `medgan.data.config.DataConfig`, but for those of the size.

    Raises:
        ConfigError: If the run was given transforms, and the others are not.
    """
    if transforms is None:
        _check_transforms(run, None)
    options = read_config(run / "config.json")
    return {name: options[name] for name in READING if name in options}


def read_parts(model: Path) -> dict[str, str]:
    """Say which images a run held out.

    Args:
        model: A run folder; a model by itself does not know.

    Returns:
        The part of each image, ``train``, ``validation`` or ``test``, by its name in the data, or ``initial`` for one
        that only a model was trained on which the run began from; empty if unknown.

    Raises:
        DataError: If the run's ``splits.json`` is damaged.
    """
    from medgan.data.splits import INITIAL, Splits

    file = model / "data" / "splits.json"
    if not file.is_file():
        return {}
    parts = {image: part for part, images in Splits.read(file).parts.items() for image in images}
    for image in _read_initial_images(model):
        if parts.get(image) != "train":
            parts[image] = INITIAL
    return parts


def _read_initial_images(run: Path) -> list[str]:
    """Return the training images of the models that a run began from, as far as they are known."""
    file = run / _INITIAL_IMAGES
    if not file.is_file():
        return []
    try:
        return [
            str(image) for image in json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))["images"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is damaged: {error}. Without it nobody knows what the initial model has seen."
        ) from None


def _shown(dataset: ImageDataset) -> Batch:
    """Return some images with their sources, evenly spread."""
    import numpy as np

    return dataset.batch_at(np.linspace(0, len(dataset) - 1, min(16, len(dataset))).astype(np.int64))


def _real_picture(dataset: ImageDataset) -> Any:
    """Return a picture of real images, to compare generated ones with; of pairs with their sources."""
    from medgan.pages import make_comparison, make_grid

    if dataset.sources is None:
        return make_grid(_real_samples(dataset), dataset.spec)
    some = _shown(dataset)
    assert some.sources is not None
    return make_comparison({"source": some.sources, "truth" if dataset.spec.paired else "target": some.images})


def _real_samples(dataset: ImageDataset, per_class: int = 16) -> Any:
    """Return some real images of each class, for comparison."""
    import numpy as np
    import torch

    from medgan.core.spec import Batch

    labels = dataset.labels
    rng = np.random.default_rng(0)
    if labels is None or labels.ndim != 1:
        rows = rng.permutation(len(dataset))[: 4 * per_class]
        return Batch(dataset.images_at(rows))
    classes = [rng.permutation(np.flatnonzero(labels == index))[:per_class] for index in range(dataset.spec.num_labels)]
    rows = np.concatenate(classes)
    return Batch(dataset.images_at(rows), torch.as_tensor(labels[rows]))


def _tell(reports: Sequence[Callable[[dict[str, Any]], None]], row: dict[str, Any]) -> None:
    """Pass a line of the log on."""
    for report in reports:
        report(row)


def _plot(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draw the curves of a run, if there are any yet."""
    from medgan.training import plot_losses, plot_quality

    if rows:
        plot_losses(rows, folder / "plots" / "losses.png")
        plot_quality(rows, folder / "plots" / "quality.png")


@contextlib.contextmanager
def _log_file(path: Path | None) -> Iterator[None]:
    """Append medgan's log to a file for the duration of a block."""
    from medgan.training.callbacks import TrainingStopped

    if path is None:
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _logger.level
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    try:
        yield
    except TrainingStopped:
        raise
    except BaseException as error:
        _logger.error("%s: %s", type(error).__name__, error)
        raise
    finally:
        _logger.setLevel(level)
        _logger.removeHandler(handler)
        handler.close()
