"""Options as frozen dataclasses: one declaration serves validation, flags, files and documentation.

Nothing here imports torch, so that the command line can start quickly.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from medgan.errors import ConfigError, nearest

__all__ = ["ClassSampling", "Config", "GANConfig", "GradientPenalty", "Idle", "Option", "option"]

_MISSING = dataclasses.MISSING

# How often each class is drawn: as it is, in proportion to the root of its size, or equally often.
ClassSampling = Literal["natural", "sqrt", "uniform"]

GradientPenalty = Literal["none", "r1", "r2", "r1r2", "wgan-gp"]
"""Where the discriminator's slope is penalised; see `AdversarialTrainer.gradient_penalty`."""


@dataclass(frozen=True)
class Option:
    """What is known of one field of a `Config`; `Config.options` returns them in order.

    Attributes:
        name: Field name; the flag is ``--name-with-dashes``.
        type: ``int``, ``float``, ``bool`` or ``str``.
        optional: Whether None is a value too.
        default: Default value.
        help: One sentence for the help page and the documentation.
        ge: Smallest value, or None.
        le: Largest value, or None.
        choices: The values that are allowed, or an empty tuple.
    """

    name: str
    type: type[int] | type[float] | type[bool] | type[str]
    optional: bool
    default: Any
    help: str
    ge: float | None = None
    le: float | None = None
    choices: tuple[Any, ...] = ()

    def typed(self, value: Any) -> str:
        """Return the flag that gives this option a value, as one types it.

        Args:
            value: One that `check` accepts.
        """
        flag = self.name.replace("_", "-")
        if self.type is bool and value is not None:
            return f"--{flag}" if value else f"--no-{flag}"
        return f"--{flag} {'none' if value is None else value}"

    def check(self, value: Any) -> Any:
        """Return `value` if it fits this option, an int as float where a float is wanted.

        Args:
            value: What was given.

        Returns:
            The value to store.

        Raises:
            ConfigError: If the type, a bound or the choice does not fit.
        """
        if value is None and self.optional:
            return None
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.type) or (self.type is not bool and isinstance(value, bool)):
            raise ConfigError(
                f"Option {self.name!r} got {value!r} ({type(value).__name__}), expected {self.type.__name__}."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"Option {self.name!r} got {value}, expected a finite number.")
        if self.choices and value not in self.choices:
            known = ", ".join(str(choice) for choice in self.choices)
            raise ConfigError(f"Option {self.name!r} got {value!r}, expected one of: {known}.")
        if isinstance(value, str):
            return value
        if self.ge is not None and value < self.ge:
            raise ConfigError(f"Option {self.name!r} got {value}, expected at least {self.ge:g}.")
        if self.le is not None and value > self.le:
            raise ConfigError(f"Option {self.name!r} got {value}, expected at most {self.le:g}.")
        return value


def option(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: Sequence[Any] = (),
) -> Any:
    """Declare a field of a `Config`.

    The annotation gives the type: ``int``, ``float``, ``bool``, ``str``, ``Literal[...]`` (whose
    values become the choices), or one of these ``| None``.

    Args:
        default: Default value; it has to satisfy the bounds.
        help: One sentence for the help page and the documentation.
        ge: Smallest value that is allowed.
        le: Largest value that is allowed.
        choices: The values that are allowed.

    Returns:
        A dataclass field.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class HingeConfig(GANConfig):
        ...     margin: float = option(1.0, "Margin of the hinge.", ge=0)
        >>> HingeConfig(margin=2).margin
        2.0
    """
    metadata = {"help": help, "ge": ge, "le": le, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Idle:
    """Options that act on nothing, as others are; a row of `Config.idle`.

    Attributes:
        names: The options.
        because: Why they act on nothing, and what to type, as the rest of a sentence.
        off: Values that say so, by name, of options whose default does not; the others' default does.
    """

    names: tuple[str, ...]
    because: str
    off: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every set of options: validated on creation, immutable, plain JSON values."""

    def __post_init__(self) -> None:
        """Check every field against its declaration, and that what was set acts on something."""
        for item in self.options():
            object.__setattr__(self, item.name, item.check(getattr(self, item.name)))
        # Nobody knows here what was given, so that a default passes.
        given = {item.name for item in self.options() if getattr(self, item.name) != item.default}
        for row in self.idle():
            self._refuse_idle(row, given)

    def idle(self) -> Iterator[Idle]:
        """Yield what acts on nothing, as the other options are; extend with ``yield from super().idle()``.

        An option that is given all the same is refused, in one message. What a preset says of it, and nobody gave, is
        set back by `replace`, before the next row is looked at: ``--augment none`` needs no second option beside it.
        """
        yield from ()

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Return the declarations of all fields, inherited ones first.

        Raises:
            ConfigError: If a field was not declared with `option`, or its type is not supported.
        """
        hints = get_type_hints(cls)
        return tuple(_describe(cls.__name__, field, hints[field.name]) for field in dataclasses.fields(cls))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create a config from plain values, such as a parsed JSON object.

        Args:
            values: Option names with their values; what is absent keeps its default.

        Returns:
            The config.

        Raises:
            ConfigError: If a name is unknown (the nearest is suggested) or a value does not fit.
        """
        return cls(**cls.check_names(values))

    @classmethod
    def check_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return `values` as a dict if each name is an option of this class.

        Args:
            values: Option names with their values.

        Raises:
            ConfigError: If a name is unknown; the nearest is suggested.
        """
        known = [item.name for item in cls.options()]
        for name in values:
            if name not in known:
                raise ConfigError(f"Option {name!r} is unknown to {cls.__name__}. {nearest(name, known)}")
        return dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Return all options as plain JSON values; the inverse of `from_dict`."""
        return {item.name: getattr(self, item.name) for item in self.options()}

    def replace(self, **values: Any) -> Self:
        """Return a copy with some options changed, and those set back that act on nothing then; see `idle`.

        Args:
            **values: Option names with their new values.

        Raises:
            ConfigError: If a name is unknown, or a value does not fit or acts on nothing.
        """
        given = self.check_names(values)
        changed = copy.copy(self)
        for item in self.options():
            if item.name in given:
                object.__setattr__(changed, item.name, item.check(given[item.name]))
        for row in changed.idle():
            changed._refuse_idle(row, given.keys())
            for item in self.options():
                if item.name in row.names and item.name not in given:
                    object.__setattr__(changed, item.name, row.off.get(item.name, item.default))
        return dataclasses.replace(changed)

    def _refuse(self, *names: str, because: str) -> None:
        """Raise if one of some options has another value than its default, though nothing would read it.

        Args:
            *names: The options.
            because: Why nothing would, and what to type, as the rest of a sentence.

        Raises:
            ConfigError: If so.
        """
        self._refuse_idle(Idle(names, because), names)

    def _refuse_idle(self, row: Idle, given: Collection[str]) -> None:
        """Raise if options that act on nothing were given, and do not say so themselves."""
        wrong, ways_back = [], []
        for item in self.options():
            off = row.off.get(item.name, item.default)
            value = getattr(self, item.name)
            if item.name in row.names and item.name in given and value != off:
                wrong.append(item.typed(value))
                ways_back.append(item.typed(off))
        if wrong:
            verb = "acts" if len(wrong) == 1 else "act"
            # A preset may have set it, so that leaving it out would not do.
            raise ConfigError(f"{', '.join(wrong)} {verb} on nothing: {row.because} Or type {' '.join(ways_back)}.")


def _describe(owner: str, field: dataclasses.Field[Any], hint: Any) -> Option:
    """Turn a dataclass field and its resolved annotation into an `Option`."""
    if "help" not in field.metadata or field.default is _MISSING:
        raise ConfigError(f"Declare {owner}.{field.name} as: {field.name}: type = option(default, 'help').")
    choices = tuple(field.metadata["choices"])
    members = [member for member in get_args(hint) if member is not type(None)] if _is_union(hint) else [hint]
    optional = _is_union(hint) and len(members) < len(get_args(hint))
    kind = members[0]
    if get_origin(kind) is Literal:
        choices = choices or get_args(kind)
        kind = type(choices[0])
    if len(members) != 1 or kind not in (int, float, bool, str):
        raise ConfigError(f"{owner}.{field.name} is {hint}; options are int, float, bool, str, Literal, or one | None.")
    return Option(
        name=field.name,
        type=kind,
        optional=optional,
        default=field.default,
        help=field.metadata["help"],
        ge=field.metadata["ge"],
        le=field.metadata["le"],
        choices=choices,
    )


def _is_union(hint: Any) -> bool:
    """Whether an annotation is ``X | Y`` or ``Union[X, Y]``."""
    return get_origin(hint) in (types.UnionType, Union)


@dataclass(frozen=True, kw_only=True)
class GANConfig(Config):
    """Options that every GAN shares; an architecture's ``Config`` subclasses it and adds its own.

    An architecture that wants another default redeclares the field.
    """

    seed: int = option(
        0, "Seed of the weights, the latents, the order of the images and the augmentation.", ge=0, le=2**32 - 1
    )
    batch_size: int = option(32, "Images that pass through the networks at once, in each process.", ge=1)
    gradient_accumulation_steps: int = option(
        1, "Batches in each process whose gradients make one step, as a batch so many times as large would.", ge=1
    )
    latent_dim: int = option(128, "Length of a latent vector.", ge=1)
    generator_lr: float = option(2e-4, "Learning rate of the generator.", ge=0)
    discriminator_lr: float = option(2e-4, "Learning rate of the discriminator.", ge=0)
    beta1: float = option(0.0, "Adam's decay of the first moment.", ge=0, le=0.9999)
    beta2: float = option(0.99, "Adam's decay of the second moment.", ge=0, le=0.99999)
    discriminator_steps: int = option(1, "Discriminator steps for each generator step, each on fresh images.", ge=1)
    clip_norm: float | None = option(
        None, "Largest norm of a network's gradient; larger ones are scaled down.", ge=1e-6
    )
    ema_halflife: int = option(
        10_000, "Images after which a weight counts half in the averaged generator; 0 turns averaging off.", ge=0
    )
    ema_rampup: float | None = option(
        0.05, "Limit the half-life to this share of the images seen so far, so that early weights are forgotten.", ge=0
    )
    lr_decay: float = option(
        0.0, "Share of the training, at its end, over which the learning rates fall linearly to 0.", ge=0, le=1
    )
    gradient_penalty: GradientPenalty = option(
        "none", "Penalty on the discriminator's slope at real images, generated ones, both, or between them."
    )
    penalty_weight: float | None = option(
        None, "Weight of the gradient penalty; 1 for r1, r2 and r1r2, 10 for wgan-gp if not given.", ge=0
    )
    penalty_every: int = option(
        1, "Discriminator steps from one gradient penalty to the next, which then counts as many times.", ge=1
    )
    penalty_one_in: int = option(
        1, "Penalise the slope at one in so many images of each batch, which costs less and leaves no step out.", ge=1
    )
    lecam_weight: float = option(
        0.0, "Weight of LeCam, which draws real and fake realness to each other's running means; 0 turns it off.", ge=0
    )
    augment: str = option(
        "none",
        "Differentiable augmentation of real and fake images: none, or policies or a modality joined by commas.",
    )
    augment_probability: float = option(
        1.0, "Chance of each augmentation to be applied to an image; lower keeps more variety.", ge=0, le=1
    )
    ada_target: float | None = option(
        None, "Mean sign of the realness of training images that the augmentation's chance is steered to (ADA).", le=1
    )
    ada_kimg: float = option(100.0, "Thousand images in which ADA can move the chance by 1.", ge=0.001)
    ada_limit: float = option(0.8, "Largest chance that ADA sets.", ge=0, le=1)
    freeze_discriminator: int = option(
        0, "Blocks of a pretrained discriminator, counted from the images, that keep their weights (FreezeD).", ge=0
    )
    class_sampling: ClassSampling = option(
        "natural", "How often each class is drawn: as it is, in proportion to the root of its size, or equally often."
    )

    def __post_init__(self) -> None:
        """Check each option, and that what is named as augmentation can ever be applied."""
        super().__post_init__()
        if self.augment != "none" and self.augment_probability == 0 and self.ada_target is None:
            raise ConfigError(
                f"--augment {self.augment} acts on nothing: its chance is 0, and nothing moves it. Type "
                "--augment-probability 1, --ada-target 0.6, or --augment none."
            )

    def idle(self) -> Iterator[Idle]:
        """Yield what acts on nothing; see `Config.idle`."""
        yield from super().idle()
        if self.gradient_penalty == "none":
            because = "there is no gradient penalty. Add --gradient-penalty r1, for example."
            yield Idle(("penalty_weight", "penalty_every", "penalty_one_in"), because)
        if self.augment == "none":
            because = "there is no augmentation. Add --augment xray, for example."
            yield Idle(("augment_probability", "ada_target"), because, {"ada_target": None})
        if self.ada_target is None:
            because = "the chance of the augmentation is fixed. Add --ada-target 0.6, for example."
            yield Idle(("ada_kimg", "ada_limit"), because)
        if self.ema_halflife == 0:
            yield Idle(("ema_rampup",), "no weights are averaged. Type --ema-halflife 10000, for example.")

    def _check_minibatch_std(self, group: int, *, least: int = 0) -> None:
        """Raise if a batch has no groups for `medgan.nn.MinibatchStdDev`; for an option ``minibatch_std``.

        Args:
            group: Images in a group.
            least: The smallest number that the option takes.

        Raises:
            ConfigError: If so.
        """
        if group > self.batch_size:
            fitting = max(self.batch_size if self.batch_size > 1 else 0, least)  # one image has no spread
            raise ConfigError(
                f"A batch of {self.batch_size} is smaller than the group of {group} images whose spread the "
                f"discriminator sees. Type --minibatch-std {fitting}, or a larger --batch-size."
            )
        if group == 1 and least < 1:
            raise ConfigError(
                "--minibatch-std 1 makes groups of one image, which has no spread. Type --minibatch-std 0, or 4, for "
                "example."
            )
        # The layer takes the largest divisor of the batch that is not above the group.
        if group > 1 and all(self.batch_size % size for size in range(2, group + 1)):
            raise ConfigError(
                f"A batch of {self.batch_size} has no equal groups of 2 to {group} images, whose spread the "
                f"discriminator would see. Type --batch-size {self.batch_size - 1}, or --minibatch-std {least}."
            )

    @property
    def images_per_step(self) -> int:
        """Real images that a generator step takes, per process."""
        return self.batch_size * self.batches_per_step

    @property
    def batches_per_step(self) -> int:
        """Batches of real images that a generator step takes, per process."""
        return self.discriminator_steps * self.gradient_accumulation_steps
