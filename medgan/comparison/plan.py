"""What is compared: the trainings, what they share, and the file that says so."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan import __version__, registry
from medgan.comparison.options import OF_ONE_TRAINING
from medgan.core.config import GANConfig
from medgan.core.saving import write_aside
from medgan.data.defaults import choose_data
from medgan.errors import CheckpointError, ConfigError, MedganError, UnknownArchitectureError, nearest
from medgan.runs import OpenedData, Run, RunConfig, resolve

__all__ = [
    "Contender",
    "as_seen",
    "check_contenders",
    "check_per_class",
    "keep_plan",
    "make_contenders",
    "make_plan",
    "open_shared",
]

# What may differ when a comparison is continued: where the same images lie, and what no training learns from.
_FREE = frozenset({"data", "workers", "tracker"})


@dataclass(frozen=True)
class Contender:
    """One of the trainings.

    Attributes:
        name: Name of its run folder: the architecture, and the preset where one was named.
        run: The training, resolved; it is done by another process.
        flags: The options that it was made of.
    """

    name: str
    run: Run
    flags: dict[str, Any]

    @property
    def arch(self) -> str:
        """Name of the architecture."""
        return self.run.config.arch

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return self.run.config.preset or self.run.architecture.default_preset

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.run.config.outdir) / self.name


def make_contenders(
    archs: Sequence[str], options: Mapping[str, Any], *, out: Path, transforms: str | None, say: Callable[[str], None]
) -> list[Contender]:
    """Return the trainings, their options resolved and their sizes checked; no image is read.

    Args:
        archs: Architectures, ``name`` or ``name:preset``.
        options: What they share: options of `RunConfig` and `GANConfig` by name.
        out: Folder of the run folders.
        transforms: ``module:object`` of the user's own preprocessing.
        say: Takes lines for the user.

    Raises:
        ConfigError: If there are fewer than two, one is there twice, or options do not fit.
        UnknownArchitectureError: If there is no such architecture.
        PluginError: If an architecture is broken.
    """
    named = [_parse(text) for text in archs if text.strip()]
    if len(named) < 2:
        given = f"only {named[0][0]}" if named else "none"
        raise ConfigError(
            f"A comparison needs two architectures or more, got {given}. Type two of those that medgan archs "
            "lists, joined by a comma, or two presets of one, such as --archs acgan:modern,acgan:original."
        )
    _check_options(options)
    options = {**options, **_choose_shared(named, options)}
    contenders: list[Contender] = []
    problems: dict[str, str] = {}
    for arch, preset in named:
        name = arch if preset is None else f"{arch}-{preset}"
        flags = {**options, "arch": arch, "preset": preset, "outdir": str(out), "name": name}
        try:
            if getattr(registry.plugins().get(arch), "origin", "") == "medgan.registry.register":
                raise ConfigError(
                    f"{arch} was registered in this process, and each training has one of its own. Declare it as an "
                    f"entry point, or type {registry.VARIABLE}={arch}=module:Class."
                )
            run = Run(flags, begin_again=True, transforms=transforms, say=say)
            run.check_size()
        except UnknownArchitectureError:
            raise
        except MedganError as error:
            problems[name] = str(error)
            continue
        if run.architecture.translates:
            problems[name] = (
                "It translates, and a translation is compared with its true image: train it with medgan fit."
            )
            continue
        contender = Contender(name, run, flags)
        twin = next((each for each in contenders if (each.arch, each.preset) == (arch, contender.preset)), None)
        if twin is not None or any(each.name == name for each in contenders):
            other = "" if twin is None or twin.name == name else f", once as {twin.name},"
            raise ConfigError(
                f"{name} is there twice{other}: {arch} with the preset {contender.preset}. Name each training once."
            )
        contenders.append(contender)
    _refuse(problems)
    return contenders


def _parse(text: str) -> tuple[str, str | None]:
    """Return the architecture and the preset of ``name`` or ``name:preset``."""
    arch, colon, preset = text.strip().partition(":")
    if not arch or (colon and not preset):
        raise ConfigError(f"{text.strip()!r} names no training. Type an architecture, or NAME:PRESET.")
    return arch, preset or None


def _choose_shared(named: Sequence[tuple[str, str | None]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data that all trainings share where none is given: a phantom, of a size that all of them make."""
    models = []
    for arch, preset in named:
        # What is wrong with a training is said when it is made.
        with contextlib.suppress(MedganError):
            _, architecture, config = resolve({**options, "arch": arch, "preset": preset})
            models.append((architecture, config))
    return choose_data([model for model in models if not model[0].translates], options)


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise if an option is not one that trainings can share, or there is not one length."""
    known = {item.name for config in (RunConfig, GANConfig) for item in config.options()} - OF_ONE_TRAINING
    for name in options:
        if name not in known:
            raise ConfigError(f"Option {name!r} is none that trainings can share. {nearest(name, known)}")
    lengths = [name for name in ("budget", "kimg") if options.get(name) is not None]
    if len(lengths) != 1:
        given = "both were given" if lengths else "none was given"
        raise ConfigError(
            f"Each training is as long as --budget or --kimg say, and {given}. Type --budget 20m for equal times, or "
            "--kimg 100 for equal numbers of images."
        )


def _refuse(problems: Mapping[str, str]) -> None:
    """Raise if there is a training that cannot be done."""
    if problems:
        lines = " ".join(f"{name}: {text}" for name, text in problems.items())
        raise ConfigError(f"Nothing was trained, as {' and '.join(problems)} cannot be. {lines}")


def open_shared(contenders: Sequence[Contender]) -> OpenedData:
    """Open the images of all trainings, with labels if one of them learns any.

    Args:
        contenders: The trainings; their options of the data are the same.

    Raises:
        DataError: If the data cannot be used.
    """
    learning = [contender for contender in contenders if contender.run.architecture.label_kinds]
    return (learning or list(contenders))[0].run.open_data()


def as_seen(contender: Contender, data: OpenedData) -> OpenedData:
    """Return the images as a training sees them: without labels if its architecture learns none.

    Args:
        contender: The training.
        data: From `open_shared`.
    """
    if contender.run.architecture.label_kinds or data.whole.labels is None:
        return data
    whole = data.whole.without_labels()
    parts = whole.apply_splits(data.splits, allow_patient_overlap=contender.run.config.allow_patient_overlap)
    return OpenedData(whole, parts, data.splits)


def check_contenders(contenders: Sequence[Contender], data: OpenedData) -> dict[str, dict[str, int]]:
    """Make each model once, to see that it can be trained.

    Args:
        contenders: The trainings.
        data: From `open_shared`.

    Returns:
        The number of parameters of ``generator`` and ``discriminator``, by the name of the training.

    Raises:
        ConfigError: If one cannot be trained; all such are named.
    """
    import torch

    sizes: dict[str, dict[str, int]] = {}
    problems: dict[str, str] = {}
    for contender in contenders:
        try:
            gan = contender.run.make_model(as_seen(contender, data))
        except MedganError as error:
            problems[contender.name] = str(error)
            continue
        assert gan.trainer is not None
        networks = {"generator": gan.trainer.generator, "discriminator": gan.trainer.discriminator}
        sizes[contender.name] = {
            name: sum(parameter.numel() for parameter in network.parameters()) for name, network in networks.items()
        }
        del gan, networks
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    _refuse(problems)
    return sizes


def check_per_class(contenders: Sequence[Contender], data: OpenedData) -> None:
    """Raise if classes are to be compared, and there are none in what any training makes.

    Args:
        contenders: The trainings.
        data: From `open_shared`.

    Raises:
        ConfigError: If so.
    """
    names = " and ".join(contender.name for contender in contenders)
    labels = data.whole.spec.labels
    if not any(contender.run.architecture.label_kinds for contender in contenders):
        raise ConfigError(f"Classes cannot be compared: {names} learn no labels. Leave out --per-class.")
    if labels is None or labels.kind == "continuous":
        raise ConfigError(
            f"Classes cannot be compared: the images of {data.whole.source} have none. Leave out --per-class."
        )


def make_plan(contenders: Sequence[Contender], data: OpenedData) -> dict[str, Any]:
    """Return what a comparison is of, as plain JSON values.

    Args:
        contenders: The trainings.
        data: From `open_shared`.
    """
    shared = contenders[0].run.config.to_dict()
    own = OF_ONE_TRAINING | _FREE
    return {
        "archs": [f"{contender.arch}:{contender.preset}" for contender in contenders],
        "options": {name: value for name, value in shared.items() if name not in own},
        "trainings": {contender.name: contender.run.model_config.to_dict() for contender in contenders},
        "images": {
            "fingerprint": data.whole.whole_fingerprint,
            "splits": hashlib.sha256(data.splits.to_json().encode("utf-8", "surrogateescape")).hexdigest(),
        },
        "transforms": contenders[0].run.transforms,
        "versions": _versions(contenders),
    }


def _versions(contenders: Sequence[Contender]) -> dict[str, str]:
    """Return the versions of medgan and of the distributions that the architectures are from, by name."""
    plugins = registry.plugins()
    declared = {plugins[contender.arch].distribution: plugins[contender.arch].version for contender in contenders}
    return {name: declared[name] for name in sorted(declared) if name} | {"medgan": __version__}


def keep_plan(out: Path, plan: Mapping[str, Any], command: str) -> None:
    """Write the plan of a comparison; refuse to go on with another one's.

    Args:
        out: Folder of the comparison.
        plan: From `make_plan`.
        command: What was typed.

    Raises:
        CheckpointError: If the file is damaged, or cannot be written.
        ConfigError: If the folder is of another plan, or holds something else.
    """
    path = out / "plan.json"
    wanted = json.loads(json.dumps(plan))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not wanted.keys() <= found.keys():
            raise ValueError("it is no plan")
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Name another --out.") from error
    if found is None:
        if any(entry.name != ".lock" for entry in out.iterdir()):
            raise ConfigError(f"{out} is not empty, and no comparison. Name another --out.")
        with write_aside(path) as aside:
            text = json.dumps({"command": command, **wanted}, indent=2, ensure_ascii=False)
            aside.write_text(text + "\n", encoding="utf-8")
        return
    differences = list(_differences({**found, "versions": None}, {**wanted, "versions": None}))
    if differences:
        raise ConfigError(
            f"{out} holds another comparison: {'; '.join(differences[:3])}. Name another --out, or go on with the "
            f"command that it was begun with: {found.get('command') or 'see its plan.json'}"
        )
    # What has a name in two versions may be two networks.
    differences = list(_differences(found["versions"], wanted["versions"], "versions"))
    if differences:
        raise ConfigError(
            f"{out} holds a comparison that was begun with other versions: {'; '.join(differences[:3])}. Name another "
            "--out, or install those again."
        )


def _differences(found: Any, wanted: Any, place: str = "") -> Iterator[str]:
    """Yield where two plans differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in {**wanted, **found}:
            if name == "command":
                continue
            yield from _differences(found.get(name), wanted.get(name), name)
    elif found != wanted:
        was, now = (", ".join(map(str, value)) if isinstance(value, list) else value for value in (found, wanted))
        if place in ("fingerprint", "splits") and len(str(was)) == 64:
            yield "its images are others" if place == "fingerprint" else "other patients were held out"
        else:
            yield f"{place} is {was} there, and {now} here"
