"""`GAN`: a class is an architecture, an instance is a model."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import packages_distributions
from itertools import islice
from numbers import Integral
from operator import index
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from medgan.augment import policy_names
from medgan.core.budget import Budget
from medgan.core.config import ClassSampling, GANConfig
from medgan.core.networks import Discriminator, Generator, evaluating
from medgan.core.randomness import seeded
from medgan.core.saving import pack_weights, read_model, write_model
from medgan.core.sides import Sides, plural
from medgan.core.spec import Batch, DataSpec, LabelKind
from medgan.core.trainer import (
    AdversarialTrainer,
    Callback,
    Trainer,
    make_accelerator,
    make_augmentation,
    memory_format,
)
from medgan.core.transfer import Transfer, label_axes, transfer_weights
from medgan.errors import CheckpointError, ConfigError, DataError, nearest

__all__ = ["GAN", "TrainingData"]

# Images are sampled in blocks of this size, each in the row `seed % _BLOCK`, the free rows filled:
# convolution libraries choose another algorithm, with other rounding, for another number of images,
# and some matrix products round a row by its place in memory; a seed has to give the same image always.
_BLOCK = 16

_SHORT_SIDE = 32  # of volumes that are suggested, in voxels; larger ones take hours
_SEEDS = 2**32  # torch's generator on the CPU looks at no more than 32 bits of a seed

# As `LabelSpec.encode` takes them, or class indices, or a tensor of labels; None for all classes in turn.
_Label = str | Mapping[str, float]
Labels = _Label | int | Sequence[_Label] | Sequence[int] | Tensor | None

_AnyTrainer = Trainer[Any]  # inside the class the name means its attribute


class TrainingData(Protocol):
    """What `GAN.fit` needs of a data set; `medgan.data.ImageDataset` is one."""

    @property
    def spec(self) -> DataSpec:
        """Facts of the data."""

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int,
        class_sampling: ClassSampling,
        device: torch.device | str,
        rank: int,
        world_size: int,
    ) -> Iterator[Batch]:
        """Return an endless stream whose batch at each step depends on nothing but the arguments.

        Args:
            batch_size: Images in a batch, for each process.
            seed: Seed of the order.
            start_step: Step to begin at, so that a resumed training sees what it would have seen.
            class_sampling: As `GANConfig.class_sampling`.
            device: Where the batches go.
            rank: Number of this process.
            world_size: Number of processes.
        """

    def provenance(self) -> dict[str, Any]:
        """Return where the images come from, as plain JSON values; saved with the model."""


class GAN(ABC):
    """An architecture; subclass it, name the parts, and register the class.

    Args:
        data: Facts of the data: channels, size and labels.
        config: The options; None for those of the preset.
        preset: Name of a preset; None for `default_preset`.
        **options: Options by name, over those of `config` or the preset.

    Attributes:
        name: Name on the command line; equal to the entry point's.
        summary: One line that says what it is.
        reference: DOI or arXiv number of the paper.
        api_version: `medgan.core.API_VERSION` for which the class was written; of one that does not say, the first.
        Config: Subclass of `GANConfig` with the options.
        Trainer: Subclass of `Trainer`, the algorithm.
        presets: Named configs; has to hold ``tiny``, which trains in seconds on a CPU.
        default_preset: The preset that is used when none is named.
        spatial_dims: Numbers of spatial dimensions that it can do.
        sides: Lengths that the sides of an image may have; `get_sides` where that depends on the options.
        label_kinds: Kinds of labels that it can learn.
        needs_labels: Whether it cannot do without labels.
        translates: Whether it turns source images into others; its generator is a `Translator` then.
        generator: The network to sample with.
        trainer: The training, once `fit` or `make_trainer` has begun one, else None.
        provenance: Where the training images come from.
        initial_model: What the training began from, if that was another model: its architecture, the checksum of its
            weights and its provenance, which may name a model before it; None if it began from nothing.

    Raises:
        ConfigError: If an option or preset is unknown or does not fit, or the architecture cannot
            do such data.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str] = ""
    api_version: ClassVar[int] = 1
    Config: ClassVar[type[GANConfig]] = GANConfig
    Trainer: ClassVar[type[Trainer[Any]]]
    presets: ClassVar[Mapping[str, GANConfig]]
    default_preset: ClassVar[str]
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    sides: ClassVar[Sides] = Sides()
    label_kinds: ClassVar[tuple[LabelKind, ...]] = ("categorical",)
    needs_labels: ClassVar[bool] = False
    translates: ClassVar[bool] = False

    def __init__(
        self, data: DataSpec, config: GANConfig | None = None, *, preset: str | None = None, **options: Any
    ) -> None:
        """Resolve the options, check the data and create the generator."""
        if not isinstance(data, DataSpec):
            raise ConfigError(
                f"{self.name} needs a DataSpec, got {type(data).__name__}. Pass dataset.spec, for example."
            )
        if config is not None and preset is not None:
            raise ConfigError("Both config and preset were given. Pass one of them.")
        base = config or self.get_preset(preset)
        if not isinstance(base, self.Config):
            raise ConfigError(f"{self.name} takes a {self.Config.__name__}, got {type(base).__name__}.")
        self.config = base.replace(**options)
        self.data = data
        self.check(self.config, data)
        with seeded(self.config.seed):
            self.generator = self.make_generator(self.config, data)
        self.generator.to(memory_format=memory_format(data))
        self.generator.requires_grad_(False).eval()
        self.trainer: _AnyTrainer | None = None
        self.provenance: dict[str, Any] = {}
        self.initial_model: dict[str, Any] | None = None

    @classmethod
    def get_preset(cls, name: str | None = None) -> GANConfig:
        """Return a preset.

        Args:
            name: Its name; None for the default one.

        Raises:
            ConfigError: If there is no such preset.
        """
        name = cls.default_preset if name is None else name
        try:
            return cls.presets[name]
        except KeyError:
            raise ConfigError(f"Preset {name!r} is unknown to {cls.name}. {nearest(name, cls.presets)}") from None

    @classmethod
    def get_sides(cls, config: Any, dims: int) -> Sides | None:
        """Return which lengths the sides of an image may have; `sides`, unless a subclass knows better.

        Args:
            config: The options.
            dims: Number of spatial dimensions, one of `spatial_dims`.

        Returns:
            The sides; None if there are no images of so many dimensions with such options.
        """
        return cls.sides

    @classmethod
    def check(cls, config: GANConfig, data: DataSpec) -> None:
        """Raise if this architecture cannot do such data with such options; extend with ``super()``.

        Args:
            config: The options.
            data: Facts of the data.

        Raises:
            ConfigError: If so; it says what would do.
        """
        cls._check_dims(config, data.size)
        cls._check_size(config, data.size)
        make_augmentation(config)
        if data.channels == 1 and "saturation" in policy_names(config.augment):
            raise ConfigError(
                f"--augment {config.augment} changes the saturation of colours, but the images are grey. Type "
                "--augment xray, ct or mri, for example."
            )
        if not issubclass(cls.Trainer, AdversarialTrainer):
            because = f"{cls.name} has a training step of its own, without stabilisers. Leave it out."
            config._refuse("gradient_penalty", "lecam_weight", "ada_target", because=because)
        if getattr(cls.Trainer, "train_step", None) is not AdversarialTrainer.train_step:
            because = f"{cls.name} has a training step of its own, which takes a batch at once. Leave it out."
            config._refuse("gradient_accumulation_steps", because=because)
        if cls.translates and not data.source_channels:
            raise ConfigError(
                f"{cls._who()} translates source images, but the data has none. Give pairs: folders source and target "
                "whose files have the same names, with --layout pairs, or a manifest with a column source_path. "
                "phantom://chest-lowdose needs no data."
            )
        if data.source_channels and not cls.translates:
            raise ConfigError(
                f"{cls._who()} makes images from nothing, but the data has source images to translate from. Type "
                "another --arch, one that translates (medgan archs marks them), or give the images alone, as --data "
                "path/to/target."
            )
        if data.labels is None and cls.needs_labels:
            raise ConfigError(f"{cls._who()} needs labels, but the data has none. Sort the images into class folders.")
        if data.labels is not None and data.labels.kind not in cls.label_kinds:
            learns = f"learns {' or '.join(cls.label_kinds)} labels" if cls.label_kinds else "learns no labels"
            way_out = "Type another --arch (medgan archs NAME says what labels it learns)"
            if data.labels.kind == "multilabel" and "categorical" in cls.label_kinds:
                way_out += f", or --labels {data.labels.names[0]!r}: a single finding is a class, yes or no"
            elif not cls.label_kinds:
                way_out = "Leave them out, as dataset.without_labels() does"
            elif data.labels.kind in ("categorical", "ordinal"):
                # Whether classes have an order is for their owner to say.
                way_out += "".join(
                    f", or --label-kind {kind} for a manifest or class folders"
                    for kind in ("categorical", "ordinal")
                    if kind in cls.label_kinds
                )
            raise ConfigError(f"{cls._who()} {learns}, but the data's are {data.labels.kind}. {way_out}.")

    @classmethod
    def _who(cls) -> str:
        """Return the architecture's name and where it is from, for messages."""
        return f"{cls.name} (from {_distribution(cls.__module__.partition('.')[0])})"

    @classmethod
    def _check_dims(cls, config: GANConfig, size: tuple[int, ...]) -> None:
        """Raise if images may not have so many dimensions."""
        dims = len(size)
        if dims in cls.spatial_dims:
            return
        wanted = " or ".join(plural(number) for number in cls.spatial_dims)
        ways_out = ["another --arch (medgan archs NAME says what it makes)"]
        if dims == 3 and 2 in cls.spatial_dims:
            ways_out.insert(0, "--slices axial in place of --depth, which makes images of the volumes' slices")
        sides = cls.get_sides(config, 3) if 3 in cls.spatial_dims else None
        if dims == 2 and sides is not None:
            depth, _, width = sides.nearest((_SHORT_SIDE,) * 3)
            ways_out.insert(0, f"--depth {depth} --size {width}, where the data is volumes")
        given = "×".join(map(str, size))
        raise ConfigError(
            f"{cls._who()} makes {wanted}, but the data's are {plural(dims)} of {given}. Type {', or '.join(ways_out)}."
        )

    @classmethod
    def _check_size(cls, config: GANConfig, size: tuple[int, ...]) -> None:
        """Raise if the sides of an image may not be of such lengths."""
        dims = len(size)
        sides = cls.get_sides(config, dims)
        if sides is not None and sides.accept(size):
            return
        who = cls._who()
        given = "×".join(map(str, size))
        presets = {name: cls.get_sides(preset, dims) for name, preset in cls.presets.items()}
        hints = [f"--preset {name}" for name, others in presets.items() if others is not None and others.accept(size)][
            :1
        ]
        if sides is None:
            hint = f" Try {hints[0]}." if hints else ""
            raise ConfigError(f"{who} makes no {plural(dims)} with these options, got {given}.{hint}")
        *_, depth, _, width = (1, 1, *sides.nearest(size))
        hints.insert(0, f"--depth {depth} --size {width}" if dims == 3 else f"--size {width}")
        raise ConfigError(f"{who} makes {sides.describe(dims)}, got {given}. Try {', or '.join(hints)}.")

    @abstractmethod
    def make_generator(self, config: Any, data: DataSpec) -> Generator:
        """Return a fresh generator (level 1: override the networks).

        Args:
            config: The options, an instance of `Config`.
            data: Facts of the data.
        """

    @abstractmethod
    def make_discriminator(self, config: Any, data: DataSpec) -> Discriminator:
        """Return a fresh discriminator.

        Args:
            config: The options, an instance of `Config`.
            data: Facts of the data.
        """

    def make_trainer(self, *, device: str = "auto", precision: str = "fp32") -> _AnyTrainer:
        """Begin a new training from the weights that the generator has now.

        Args:
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            precision: ``fp32``, ``bf16`` or ``fp16``.

        Returns:
            The trainer, also kept as `trainer`; `generator` becomes its averaged generator.

        Raises:
            ConfigError: If device or precision is not to be had here.
        """
        accelerator = make_accelerator(device, precision)
        if self.provenance:
            self.initial_model = self._as_initial()
        generator = copy.deepcopy(self.generator).requires_grad_(True).train()
        with seeded(self.config.seed + 1):
            discriminator = self.make_discriminator(self.config, self.data)
        self.trainer = self.Trainer(generator, discriminator, self.config, self.data, accelerator=accelerator)
        self.generator = self.trainer.averaged_generator
        return self.trainer

    def fit(
        self,
        dataset: TrainingData,
        *,
        steps: int | None = None,
        total_steps: int | None = None,
        budget: Budget | None = None,
        callbacks: Sequence[Callback] = (),
        device: str = "auto",
        precision: str = "fp32",
    ) -> Self:
        """Train, or train on: a second call continues where the first ended.

        Args:
            dataset: The training images.
            steps: Generator steps to do, beyond those done already; or give a budget.
            total_steps: Length of the whole training, where `steps` is a part of it; see `Trainer.fit`.
            budget: Time to train for, in place of steps; see `Trainer.use_budget`.
            callbacks: Told of every step.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``; only for the first call.
            precision: ``fp32``, ``bf16`` or ``fp16``; only for the first call.

        Returns:
            This model.

        Raises:
            ConfigError: If not one of steps and budget was given, the budget is too short, or the learning rates fall
                and the training does not fit `total_steps`.
            DataError: If the data set is not of this model's kind.
            TrainingDivergedError: If a loss becomes NaN or infinite.
        """
        if (steps is None) == (budget is None):
            raise ConfigError("Say how long to train: fit(dataset, steps=1000), or a budget instead.")
        if dataset.spec != self.data:
            raise DataError(f"This model was made for {self.data}; the data set has {dataset.spec}.")
        trainer = self.trainer or self.make_trainer(device=device, precision=precision)
        if budget is not None and trainer.budget is not budget:
            trainer.use_budget(budget)
        self.provenance = dataset.provenance()
        if self.initial_model is not None:
            self.provenance["initial_model"] = self.initial_model
        has_classes = self.data.labels is not None and self.data.labels.kind in ("categorical", "ordinal")
        # Batch by batch, so that several processes divide each of them between them, as one with larger ones would.
        number = self.config.batches_per_step
        batches = dataset.batches(
            self.config.batch_size,
            seed=self.config.seed,
            start_step=trainer.step * number,
            class_sampling=self.config.class_sampling if has_classes else "natural",
            device=trainer.device,
            rank=trainer.accelerator.process_index,
            world_size=trainer.accelerator.num_processes,
        )
        trainer.fit(_joined(batches, number), steps, callbacks, total_steps=total_steps)
        return self

    def take_weights(self, model: GAN, *, discriminator: Mapping[str, Tensor] | None = None) -> dict[str, Transfer]:
        """Begin from another model of the same architecture: take the weights that fit by name and shape.

        Classes of equal names are taken by their names where the structure says which numbers belong to which class.
        What the other model was trained on is kept in `initial_model`.

        Args:
            model: The other model.
            discriminator: ``state_dict`` of its discriminator, for a training that `make_trainer` has begun; None to
                leave that as it is.

        Returns:
            What the ``generator`` took and, if it was to, the ``discriminator``.

        Raises:
            ConfigError: If the model is of another architecture, nothing fits, or the training has begun.
        """
        trainer = self.trainer
        if model.name != self.name:
            raise ConfigError(
                f"A model of {model.name} has no weights for one of {self.name}. Name a model of {self.name}, or train "
                f"with --arch {model.name}."
            )
        if trainer is not None and trainer.step:
            raise ConfigError(f"This training has done {trainer.step:,} steps already. Begin a new one.")
        if discriminator is not None and trainer is None:
            raise ConfigError("There is no discriminator yet. Call make_trainer first.")
        done: dict[str, Transfer] = {}
        labels, source_labels = self.data.labels, model.data.labels

        def take(name: str, make: Callable[[Any, DataSpec], nn.Module], weights: Any, *networks: nn.Module) -> None:
            axes: dict[str, int | None] = {}
            if labels != source_labels:
                with seeded(0):
                    axes = label_axes(partial(make, self.config), self.data)
            for network in networks:
                done[name] = transfer_weights(network, weights, labels=labels, source_labels=source_labels, axes=axes)

        generators = [self.generator] if trainer is None else [self.generator, trainer.generator]
        take("generator", self.make_generator, model.generator.state_dict(), *generators)
        if trainer is not None and discriminator is not None:
            take("discriminator", self.make_discriminator, discriminator, trainer.discriminator)
        if not any(transfer.share for transfer in done.values()):
            raise ConfigError(
                f"No weight of that model fits this one by name and shape: {done['generator'].describe()} Use the "
                "options that it was trained with, which its model.json lists."
            )
        self.initial_model = model._as_initial()
        return done

    def _as_initial(self) -> dict[str, Any]:
        """Return what a model that begins from this one has to know of it."""
        return {
            "architecture": self.name,
            "sha256": self.weights_sha256,
            "training_data": self.provenance,
        }

    def sample(
        self,
        n: int | None = None,
        *,
        labels: Labels = None,
        sources: Tensor | None = None,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> Batch:
        """Make images.

        Args:
            n: Number of images; may be left out where there are sources.
            labels: A class name or index for all, several names taken in turn, one index for each
                image, a tensor of labels as in `Batch`, or None for all classes in turn. In place of a
                name, values by name as in `LabelSpec.encode`: ``{"Effusion": 1, "Edema": 0}``.
            sources: Images to translate, as in `Batch`, for an architecture that does so, and only for such.
            seed: Seed of the first image; the next ones have the seeds after it. A seed, a label and a source
                make the same image whatever else is sampled.
            truncation: Below 1 for more typical and less varied images; see `Generator.generate`.

        Returns:
            Images, labels and sources, on the CPU.

        Raises:
            ConfigError: If a label is unknown, or labels or sources do not fit the data or the number.
        """
        n = len(sources) if n is None and sources is not None else n
        try:
            n, seed = index(n), index(seed)  # type: ignore[arg-type]
        except TypeError:
            raise ConfigError(f"n and seed must be whole numbers, got {n!r} and {seed!r}.") from None
        seeds = range(seed, seed + n)
        parts = list(self.sample_batches(seeds, labels=labels, sources=sources, truncation=truncation))
        if not parts:
            raise ConfigError(f"n must be at least 1, got {n}.")
        return Batch.join(parts)

    def sample_batches(
        self,
        seeds: Sequence[int],
        *,
        labels: Labels = None,
        sources: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Iterator[Batch]:
        """Make any number of images in constant memory.

        Args:
            seeds: Seed of each image, from 0 to 4,294,967,295.
            labels: As in `sample`; names are taken in turn along `seeds`.
            sources: As in `sample`, one for each seed.
            truncation: As in `sample`.

        Yields:
            Some images, their labels and their sources, on the CPU, in the order of `seeds`.

        Raises:
            ConfigError: As in `sample`.
        """
        if not (math.isfinite(truncation) and truncation >= 0):
            raise ConfigError(f"Truncation must be a number of at least 0, got {truncation}.")
        if len(seeds) and not 0 <= min(seeds) <= max(seeds) < _SEEDS:
            raise ConfigError(f"Seeds must be between 0 and {_SEEDS - 1:,}, got {min(seeds):,} to {max(seeds):,}.")
        self._check_sources(len(seeds), sources)
        wanted = self.make_labels(len(seeds), labels)
        generator: Any = self.generator
        device = next(generator.parameters()).device
        with evaluating(generator):
            start = 0
            for block in _blocks(seeds):
                stop = start + len(block)
                some = None if wanted is None else wanted[start:stop]
                conditions = [some] if sources is None else [some, sources[start:stop].float()]
                start = stop
                rows = torch.tensor(block) % _BLOCK
                filled = torch.zeros(_BLOCK, dtype=torch.int64)
                filled[rows] = torch.arange(len(block))
                with torch.inference_mode():
                    latents = torch.cat(
                        [generator.make_latents(1, torch.Generator().manual_seed(seed)) for seed in block]
                    )
                    images = generator.generate(
                        latents[filled].to(device),
                        *(None if each is None else each[filled.to(each.device)].to(device) for each in conditions),
                        truncation=truncation,
                    )
                yield Batch(images.float().cpu()[rows], *(None if each is None else each.cpu() for each in conditions))

    def _check_sources(self, n: int, sources: Tensor | None) -> None:
        """Raise if there are no sources where they are needed, or others than can be translated."""
        if not self.translates:
            if sources is not None:
                raise ConfigError(f"{self.name} makes images from nothing; it takes no sources.")
            return
        if sources is None:
            raise ConfigError(
                f"{self.name} translates source images and needs some. Type medgan sample --model RUN --source FOLDER, "
                "whose result is a folder of images for every other command; in Python, sample(sources=images)."
            )
        wanted = (n, self.data.source_channels, *self.data.size)
        if tuple(sources.shape) != wanted:
            raise ConfigError(f"Sources must have the shape {wanted}, got {tuple(sources.shape)}.")

    def reverse(self) -> Self:
        """Return the model that translates the other way, from images to sources, if the architecture learns both.

        Raises:
            ConfigError: If it does not.
        """
        raise ConfigError(
            f"{self.name} translates one way only. Train another model with sources and images exchanged."
            if self.translates
            else f"{self.name} does not translate."
        )

    def make_labels(self, n: int, labels: Labels = None) -> Tensor | None:
        """Return the labels to sample n images from; see `sample`.

        Args:
            n: Number of images.
            labels: As in `sample`.

        Raises:
            ConfigError: As in `sample`.
        """
        spec = self.data.labels
        if spec is None:
            if labels is not None:
                raise ConfigError(f"This model was trained without labels, but labels={labels!r} was given.")
            return None
        names: list[_Label] = list(spec.names)
        if isinstance(labels, str | Mapping):
            names = [labels]
        elif isinstance(labels, int):
            labels = torch.full((n,), labels)
        elif labels is not None and not isinstance(labels, Tensor):
            items: list[Any] = list(labels)
            if items and all(isinstance(item, Integral) for item in items):
                labels = torch.tensor([int(item) for item in items])
            elif all(isinstance(item, str | Mapping) for item in items):
                names = items
            else:
                raise ConfigError(f"Labels must be names, or an integer for each image, got {labels!r}.")
        if isinstance(labels, Tensor):
            if len(labels) != n:
                raise ConfigError(f"Got {len(labels)} labels for {n} images.")
            given = f"got {labels.dtype} of shape {tuple(labels.shape)}"
            if spec.kind in ("multilabel", "continuous"):
                if labels.shape != (n, len(spec)):
                    raise ConfigError(f"{spec.kind} labels must be numbers of shape {(n, len(spec))}, {given}.")
                return labels.float().cpu()
            if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
                raise ConfigError(f"{spec.kind} labels must be integers of shape {(n,)}, {given}.")
            if n and not 0 <= labels.min() <= labels.max() < len(spec):
                raise ConfigError(f"Labels must be 0 to {len(spec) - 1}, got {labels.min()} to {labels.max()}.")
            return labels.long().cpu()
        if not names:
            raise ConfigError(f"No label was given. Known: {', '.join(spec.names)}.")
        encoded = torch.tensor([spec.encode(name) for name in names])
        return encoded[torch.arange(n) % len(names)]

    @property
    def weights_sha256(self) -> str:
        """Checksum of the weights as the saved model's facts state it, which tells this model from all others."""
        return pack_weights(self.generator.state_dict())[1]

    def save(self, folder: str | Path, *, evaluation: Mapping[str, Any] | None = None) -> Path:
        """Write the model: ``model.safetensors``, ``model.json`` and a model card ``README.md``.

        The folder is written aside and renamed, so that an earlier model survives a failure.

        Args:
            folder: Folder to create or to replace; one that holds something else is refused.
            evaluation: What is known of how good it is, plain JSON values; ``model.json`` has it.

        Returns:
            The folder.

        Raises:
            CheckpointError: If the folder holds something else, or cannot be written.
        """
        facts = {
            "architecture": self.name,
            "config": self.config.to_dict(),
            "data": self.data.to_dict(),
            "training": {
                "steps": 0 if self.trainer is None else self.trainer.step,
                "images_seen": 0 if self.trainer is None else self.trainer.images_seen,
            },
            "training_data": self.provenance,
            "reference": self.reference,
            **({} if evaluation is None else {"evaluation": dict(evaluation)}),
        }
        return write_model(Path(folder), self.generator.state_dict(), facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote.

        Args:
            folder: The folder.

        Returns:
            The model, on the CPU, ready to sample; `fit` trains on from its generator.

        Raises:
            CheckpointError: If it is missing, damaged, or of another architecture.
        """
        weights, facts = read_model(Path(folder))
        if facts["architecture"] != cls.name:
            raise CheckpointError(
                f"{folder} holds a model of {facts['architecture']!r}, not of {cls.name!r}. "
                "Use medgan.models.load_model, which finds the architecture by itself."
            )
        model = cls(DataSpec.from_dict(facts["data"]), cls.Config.from_dict(facts["config"]))
        try:
            model.generator.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"The weights in {folder} do not fit {cls.name}: {reason}") from error
        model.provenance = dict(facts["training_data"])
        return model


@cache  # reads the metadata of all that is installed
def _distribution(package: str) -> str:
    """Return the name of the distribution that a package is from; the package's own where that is not known."""
    return packages_distributions().get(package, [package])[0]


def _joined(batches: Iterator[Batch], number: int) -> Iterator[Batch]:
    """Join every so many batches into one, until they run out."""
    while len(some := list(islice(batches, number))) == number:
        yield some[0] if number == 1 else Batch.join(some)


def _blocks(seeds: Sequence[int]) -> Iterator[list[int]]:
    """Cut seeds, in order, into blocks in which no two want the same row; consecutive seeds fill them."""
    block: dict[int, int] = {}
    for seed in seeds:
        if seed % _BLOCK in block:
            yield list(block.values())
            block = {}
        block[seed % _BLOCK] = seed
    if block:
        yield list(block.values())
