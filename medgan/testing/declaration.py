"""Checks of what an architecture declares: its name, its options, its presets, its data."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import subprocess
import sys
from typing import Any, get_args

from medgan import registry
from medgan.core.config import Config, GANConfig
from medgan.core.gan import GAN
from medgan.core.sides import Sides
from medgan.core.spec import LabelKind, LabelSpec
from medgan.core.trainer import Trainer
from medgan.core.version import API_VERSION
from medgan.data.config import DataConfig
from medgan.errors import ConfigError
from medgan.testing.probe import (
    accepts,
    conditions,
    label_options,
    main_spec,
    make,
    refusal,
    require,
    sizes,
    spec_of,
)

__all__ = [
    "RESERVED",
    "check_api_version",
    "check_config",
    "check_config_json",
    "check_declared_sizes",
    "check_help",
    "check_import",
    "check_name",
    "check_option_names",
    "check_other_data",
    "check_other_sizes",
    "check_parts",
    "check_presets",
    "check_sizes",
    "check_summary",
]

_MOST_PIXELS = 256 * 256
RESERVED = frozenset(
    {
        *(item.name for item in DataConfig.options()),
        *("allow_patient_overlap", "arch", "budget", "checkpoint_every", "config", "device", "dry_run"),
        *(
            "evaluate_every",
            "health",
            "help",
            "init_from",
            "kimg",
            "log_every",
            "name",
            "outdir",
            "precision",
            "preset",
        ),
        *("rejected", "rejected_share", "resume", "sample_every", "split_by", "splits", "steps", "test", "tracker"),
        *("transforms", "validation"),
    }
)
"""Names of options that belong to a run (``medgan fit``); an architecture's own must differ from them."""


def check_name(architecture: type[GAN]) -> None:
    """The name is kebab-case and the one under which the class is registered."""
    name = getattr(architecture, "name", None)
    require(
        isinstance(name, str) and registry.NAME.fullmatch(name) is not None,
        f"{architecture.__name__}.name is {name!r}",
        "kebab-case: lower-case letters and digits, words joined by '-', such as 'my-gan'",
    )
    for plugin in registry.plugins().values():
        module, _, path = plugin.value.partition(":")
        found: Any = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is architecture:
            require(
                plugin.name == name,
                f"{plugin.origin} registers {plugin.value} as {plugin.name!r}, but its name is {name!r}",
                "the two to be equal",
            )


def check_summary(architecture: type[GAN]) -> None:
    """There is a one-line summary and a docstring."""
    summary = getattr(architecture, "summary", None)
    require(
        isinstance(summary, str) and bool(summary.strip()) and "\n" not in summary and len(summary) <= 100,
        f"{architecture.__name__}.summary is {summary!r}",
        "one line of 1 to 100 characters; `medgan archs` prints it",
    )
    require(
        bool((vars(architecture).get("__doc__") or "").strip()),
        f"{architecture.__name__} has no docstring",
        "one that says what the architecture is and which presets there are",
    )
    reference: Any = architecture.reference
    require(
        isinstance(reference, str),
        f"{architecture.__name__}.reference is {reference!r}",
        "the DOI or arXiv number of the paper, or ''",
    )


def check_api_version(architecture: type[GAN]) -> None:
    """It was written for this medgan's version of the interface."""
    version = registry.api_version(architecture)
    require(
        version == API_VERSION,
        f"{architecture.__name__}.api_version is {version!r}",
        f"{API_VERSION}, once the architecture fits this version of medgan",
    )


def check_parts(architecture: type[GAN]) -> None:
    """All parts are there and of the right type."""
    missing = sorted(architecture.__abstractmethods__)
    require(not missing, f"{architecture.__name__} does not define {', '.join(missing)}", "it to do so")
    trainer = getattr(architecture, "Trainer", None)
    require(
        isinstance(trainer, type) and issubclass(trainer, Trainer),
        f"{architecture.__name__}.Trainer is {trainer!r}",
        "a subclass of medgan.core.Trainer or AdversarialTrainer",
    )
    missing = sorted(getattr(trainer, "__abstractmethods__", ()))
    require(not missing, f"{architecture.__name__}.Trainer does not define {', '.join(missing)}", "it to do so")
    dims: Any = architecture.spatial_dims
    require(
        isinstance(dims, tuple) and bool(dims) and all(isinstance(number, int) and number > 0 for number in dims),
        f"{architecture.__name__}.spatial_dims is {dims!r}",
        "a tuple of numbers of dimensions, such as (2,)",
    )
    sides: Any = architecture.sides
    require(
        isinstance(sides, Sides),
        f"{architecture.__name__}.sides is {sides!r}",
        "medgan.core.Sides(...), or none at all",
    )
    kinds: Any = architecture.label_kinds
    require(
        isinstance(kinds, tuple) and set(kinds) <= set(get_args(LabelKind)),
        f"{architecture.__name__}.label_kinds is {kinds!r}",
        f"a tuple of some of {', '.join(get_args(LabelKind))}",
    )
    require(
        bool(kinds) or not architecture.needs_labels,
        f"{architecture.__name__} needs labels, but can learn no kind of them",
        "label_kinds to hold one",
    )


def check_config(architecture: type[GAN]) -> None:
    """The options are a frozen dataclass whose fields are declared with `option`."""
    config: Any = architecture.Config
    require(
        isinstance(config, type) and issubclass(config, GANConfig),
        f"{architecture.__name__}.Config is {config!r}",
        "a subclass of medgan.core.GANConfig",
    )
    for owner in config.__mro__:
        if not (issubclass(owner, Config) and vars(owner).get("__annotations__")):
            continue
        require(
            "__dataclass_params__" in vars(owner) and vars(owner)["__dataclass_params__"].frozen,
            f"{owner.__name__} has fields but is no frozen dataclass",
            "@dataclass(frozen=True, kw_only=True) above the class",
        )
    problem = refusal(config.options)
    require(problem is None, f"{config.__name__} has a field that is no option: {problem}", "none")
    problem = refusal(config)
    require(problem is None, f"The defaults of {config.__name__} do not fit: {problem}", "them to be valid")
    try:
        config().seed = 1
    except dataclasses.FrozenInstanceError:
        return
    require(False, f"An option of a {config.__name__} can be changed", "it to be immutable")


def check_help(architecture: type[GAN]) -> None:
    """Every option has a help text of one sentence."""
    for option in architecture.Config.options():
        text: Any = option.help
        require(
            isinstance(text, str) and len(text.split()) > 1 and text.endswith(".") and "\n" not in text,
            f"The help text of the option {option.name!r} is {text!r}",
            "one line, a sentence that ends with a full stop",
        )


def check_option_names(architecture: type[GAN]) -> None:
    """Option names can be flags, and none is one of the run's."""
    for option in architecture.Config.options():
        require(
            option.name not in RESERVED,
            f"The option {option.name!r} has the name of an option of `medgan fit`",
            f"a name that is none of {', '.join(sorted(RESERVED))}",
        )
        require(
            re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", option.name) is not None,
            f"The option {option.name!r} makes no good flag",
            "lower-case words joined by '_'",
        )


def check_config_json(architecture: type[GAN]) -> None:
    """The options survive a file: config → JSON → the same config."""
    config_type = architecture.Config
    for name, config in {"the defaults": config_type(), **architecture.presets}.items():
        again = config_type.from_dict(json.loads(json.dumps(config.to_dict())))
        require(
            again == config
            and {type(value) for value in again.to_dict().values()} <= {int, float, bool, str, type(None)},
            f"After a round trip through JSON, {name} is {again}",
            f"{config}, of plain values",
        )


def check_presets(architecture: type[GAN]) -> None:
    """There is a preset tiny, the default preset exists, and all of them are instances of Config."""
    presets = getattr(architecture, "presets", {})
    require("tiny" in presets, f"The presets are {sorted(presets)}", "one named 'tiny', for tests")
    default = getattr(architecture, "default_preset", None)
    require(default in presets, f"default_preset is {default!r}", f"one of {', '.join(presets)}")
    for name, config in presets.items():
        require(registry.NAME.fullmatch(name) is not None, f"A preset is named {name!r}", "a kebab-case name")
        require(
            type(config) is architecture.Config,
            f"The preset {name!r} is a {type(config).__name__}",
            f"a {architecture.Config.__name__}, the architecture's Config",
        )


def check_other_data(architecture: type[GAN]) -> None:
    """It says no to data that it declares not to know: other dimensions, labels or none, source images or none."""
    good = main_spec(architecture)
    dims = next(number for number in range(1, 9) if number not in architecture.spatial_dims)
    refused = {f"{dims} spatial dimension(s)": dataclasses.replace(good, size=(good.size[0],) * dims)}
    for kind in sorted(set(get_args(LabelKind)) - set(architecture.label_kinds)):
        refused[f"{kind} labels"] = dataclasses.replace(good, labels=LabelSpec(("first", "second", "third"), kind))
    if architecture.needs_labels:
        refused["no labels"] = dataclasses.replace(good, labels=None)
    sources = "no source images" if architecture.translates else "source images"
    refused[sources] = dataclasses.replace(good, source_channels=0 if architecture.translates else 1)
    for what, data in refused.items():
        require(
            not accepts(architecture, data),
            f"check() accepts data with {what}",
            "a ConfigError. Does your check() call super().check(config, data)",
        )


def check_other_sizes(architecture: type[GAN]) -> None:
    """A size either works or is refused with a ConfigError before any network is made."""
    for dims in architecture.spatial_dims:
        for size in ((7,) * dims, tuple(33 - 2 * axis for axis in range(dims)), (1,) * dims, (20,) * dims):
            _check_size(architecture, size)


def check_declared_sizes(architecture: type[GAN]) -> None:
    """Each length that its sides declare works: squares and cubes up to 65,536 pixels, to be quick."""
    for dims in architecture.spatial_dims:
        sides = architecture.get_sides(architecture.presets["tiny"], dims)
        if sides is None:
            continue
        for length in sides.lengths:
            size = (length,) * dims
            if math.prod(size) <= _MOST_PIXELS:
                refused = _check_size(architecture, size)
                require(
                    refused is None,
                    f"Its sides say that it makes {sides.describe(dims)}, but check() refuses {size}: {refused}",
                    "sides to hold what the preset tiny can do",
                )


def _check_size(architecture: type[GAN], size: tuple[int, ...]) -> ConfigError | None:
    """Raise if both networks fail at a size; return why it is refused, if it is."""
    import torch

    channels = main_spec(architecture).channels
    data = spec_of(architecture, channels, size, next(label_options(architecture)))
    try:
        gan = make(architecture, data)
        with torch.no_grad():
            shape = gan.generator(gan.generator.make_latents(2), *conditions(data, 2)).shape
            gan.make_discriminator(gan.config, data).eval()(torch.zeros(2, channels, *size), *conditions(data, 2))
    except ConfigError as error:
        return error
    except Exception as error:
        message = f"The size {size} fails with {type(error).__name__}: {error}"
        require(False, message, "check() to refuse it with a ConfigError that says what would do")
    require(
        shape == (2, channels, *size),
        f"Asked for the size {size}, the generator makes {tuple(shape[2:])}",
        "that size, or check() to refuse it with a ConfigError",
    )
    return None


def check_sizes(architecture: type[GAN]) -> None:
    """It can do at least one of the usual sizes, for each number of dimensions that it declares."""
    for dims in architecture.spatial_dims:
        tried = itertools.product(label_options(architecture), sizes(dims), (1, 3))
        require(
            any(
                accepts(architecture, spec_of(architecture, channels, size, labels)) for labels, size, channels in tried
            ),
            f"check() refuses all of the sizes {', '.join(str(size) for size in sizes(dims))}",
            "the preset tiny to do at least one of them, in grey or RGB",
        )


def check_import(architecture: type[GAN]) -> None:
    """Importing the module changes no global state: random numbers, warning filters, torch's defaults."""
    module = architecture.__module__
    command = _IMPORT.format(module=module)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=False)
    if "NOT FOUND" in done.stdout:  # a notebook's or a test's own class
        return
    require(
        done.returncode == 0,
        f"Importing {module} in a fresh Python fails: {(done.stderr.strip().splitlines() or ['?'])[-1]}",
        "it to be importable by itself",
    )
    changed = done.stdout.strip().removeprefix("CHANGED").split()
    require(not changed, f"Importing {module} changes {' and '.join(changed)}", "it to leave global state alone")


# medgan's own dependencies are imported first: what they change is not the plugin's doing.
_IMPORT = """
import importlib, importlib.util, random, sys, warnings
import numpy, torch
import medgan.core.gan, medgan.data, medgan.losses, medgan.nn
try:
    found = importlib.util.find_spec({module!r}) is not None
except (ImportError, ValueError):
    found = False
if not found:
    print("NOT FOUND")
    sys.exit()
def state():
    return dict(
        torch_random_state=torch.get_rng_state().tolist(),
        numpy_random_state=str(numpy.random.get_state()),
        python_random_state=random.getstate(),
        warning_filters=list(warnings.filters),
        default_dtype=torch.get_default_dtype(),
        threads=torch.get_num_threads(),
        deterministic_mode=torch.are_deterministic_algorithms_enabled(),
        gradient_mode=torch.is_grad_enabled(),
    )
before = state()
importlib.import_module({module!r})
after = state()
print("CHANGED", *[name for name in before if before[name] != after[name]])
"""
