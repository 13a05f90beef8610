"""Synthetic images, extractors and names of folders, for commands that compare synthetic images with real ones."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medgan.cli.options import open_as
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.data import ImageDataset
    from medgan.metrics.extractors import Extractor

__all__ = [
    "OFFLINE",
    "ExtractorOptions",
    "extractor_options",
    "find_model_folder",
    "folder_name",
    "open_some_like",
    "read_provenance",
]

OFFLINE = ("radiomics", "random-conv")
"""Extractors that need no weights."""


def find_model_folder(synthetic: str) -> Path | None:
    """Return the run or model folder that was meant; None if it is data."""
    from medgan.runs import find_run_of, is_run

    folder = find_run_of(Path(synthetic).expanduser())
    is_model = is_run(folder) or (folder / "model.json").is_file() or (folder / "model" / "model.json").is_file()
    return folder if is_model else None


def open_some_like(source: str, like: ImageDataset, num: int | None, seed: int) -> ImageDataset:
    """Open synthetic images, or a random choice of them."""
    import numpy as np

    found = open_as(source, like.spec, {})
    if num is None:
        return found
    if num > len(found):
        raise ConfigError(f"{source} has {len(found):,} images, and -n {num} were asked for. Leave -n out.")
    return found.subset(np.sort(np.random.default_rng([seed, 17]).choice(len(found), num, replace=False)))


def read_provenance(source: Path) -> dict[str, Any]:
    """Return what `medgan sample` wrote of the training data of its model; empty if nothing."""
    folder = source if source.is_dir() else source.parent
    try:
        found = json.loads((folder / "synthetic.json").read_text(encoding="utf-8"))["training_data"]
    except (OSError, ValueError, KeyError, TypeError):  # other images have no such file, and need none
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True)
class ExtractorOptions:
    """What the user said of extractors: see `extractor_options`."""

    names: tuple[str, ...]
    weights: tuple[str, ...]
    resizer: str | None
    download: bool

    def make(
        self,
        names: Sequence[str],
        training: ImageDataset | None,
        *,
        seed: int,
        device: str,
        progress: Callable[[int, int, str], None],
    ) -> list[Extractor]:
        """Return extractors, each once and with its weights; a classifier is trained first."""
        files = self.weights_of(names)
        return [self._make(name, files.get(name), training, seed, device, progress) for name in dict.fromkeys(names)]

    def weights_of(self, names: Sequence[str]) -> dict[str, str]:
        """Return the file of weights of each extractor that has one; raises where it is open whose one is."""
        found: dict[str, str] = {}
        takers = [name for name in dict.fromkeys(names) if name not in (*OFFLINE, "classifier")]
        for text in self.weights:
            name, equals, path = text.partition("=")
            if not equals or name not in names:
                if len(takers) != 1:
                    known = " or ".join(f"{taker}={text}" for taker in takers) or "--extractor inception"
                    raise click.UsageError(f"--weights {text} does not say of which extractor. Type {known}.")
                name, path = takers[0], text
            if name in found:
                raise click.UsageError(f"--weights were given twice for {name}.")
            found[name] = path
        return found

    def _make(
        self,
        name: str,
        weights: str | None,
        training: ImageDataset | None,
        seed: int,
        device: str,
        progress: Callable[[int, int, str], None],
    ) -> Extractor:
        """Return one extractor."""
        from medgan.metrics.extractors import get_extractor, train_classifier_extractor

        if name != "classifier":
            return get_extractor(name, weights=weights, device=device, resizer=self.resizer, download=self.download)
        if training is None:
            raise ConfigError(
                "The extractor 'classifier' is trained on the real training images, which are not known. Give a run as "
                "--real or --synthetic, or --training."
            )
        if training.spec.labels is None:
            raise ConfigError("The extractor 'classifier' needs labels, and the real training images have none.")
        learning, choosing = training.split(0.15, seed=seed, by="auto")
        steps = 1_000
        return train_classifier_extractor(
            learning,
            choosing,
            class_names=training.spec.labels.names,
            steps=steps,
            seed=seed,
            device=device,
            progress=lambda done: progress(0, 0, f"training the classifier: {done:,}/{steps:,} steps"),
        )


def extractor_options(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say what features are computed with; the command gets `ExtractorOptions` as `extractors`.

    Args:
        default: End of the help text of ``--extractor``: what is taken if it is not given.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--extractor",
            "extractors",
            multiple=True,
            help="What features are computed with: inception, radiomics, random-conv, classifier, radimagenet, "
            "torchxrayvision, torch-fidelity:NAME, torchscript:PATH, module:Class; repeat it for several.  "
            f"[default: {default}]",
        )
        @click.option("--weights", multiple=True, metavar="[EXTRACTOR=]PATH", help="Weights of an extractor.")
        @click.option(
            "--resizer",
            type=click.Choice(["clean", "torch-fidelity"]),
            help="How images come to the size of an extractor that has one.  [default: the extractor's, mostly clean]",
        )
        @click.option("--download", is_flag=True, help="Allow published weights to be downloaded.")
        @functools.wraps(command)
        def gathered(
            *arguments: Any,
            extractors: tuple[str, ...],
            weights: tuple[str, ...],
            resizer: str | None,
            download: bool,
            **options: Any,
        ) -> None:
            chosen = ExtractorOptions(names=extractors, weights=weights, resizer=resizer, download=download)
            command(*arguments, extractors=chosen, **options)

        return gathered

    return decorate


def folder_name(source: str) -> str:
    """Return a short name for the folder of the report; of a run's model the run's."""
    path = (find_model_folder(source) or Path(source).expanduser()).resolve()
    return re.sub(r"[^\w.-]+", "-", path.stem if path.is_file() else path.name).strip("-.") or "images"
