"""`explore`: all views of one model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan.core.gan import GAN
from medgan.core.saving import versions
from medgan.core.trainer import make_accelerator
from medgan.data import ImageDataset, open_configured
from medgan.data.config import DataConfig, shape_options
from medgan.data.splits import image_identities
from medgan.errors import ConfigError, DataError
from medgan.exploration.cases import (
    Cases,
    Neighbours,
    blocks,
    describe_dataset,
    find_cases,
    nearest_training,
)
from medgan.exploration.contrasts import Contrast, Label, all_contrasts, make_contrast
from medgan.exploration.inversion import Inversion, compare, invert
from medgan.exploration.latent_space import LatentSpace
from medgan.exploration.parts import (
    ClassDifference,
    ClassWalk,
    Interpolation,
    Truncation,
    class_differences,
    interpolate,
    truncate,
    walk_classes,
)
from medgan.models import Which, find_model, load_model
from medgan.runs import find_run_of, is_run, read_parts, reopen
from medgan.training.frozen_features import (
    FrozenFeatures,
    RandomFeatures,
    can_classify,
    read_classifier,
    train_features,
)

__all__ = ["Exploration", "RealDifference", "RealImages", "explore"]

SHOWN = 8  # cases of a kind, and samples with their neighbours
READABLE = 2.0  # a change of so many errors is read
_POOL = 192  # samples of each label that cases are looked for among
_OWN = 4  # samples of the model itself that are inverted, to see how good the search is
_MOST_TRAINING, _MOST_OF_LABEL, _MOST_HELD_OUT = 20_000, 5_000, 1_000
_CLASSIFIER_SECONDS = 20.0
_CLASSIFIER = "evaluation/classifier.safetensors"
_ROUNDED = 5
# Far apart, so that no two parts look at the same latents by chance.
_POOL_SEED, _WALK_SEED, _STRIP_SEED, _SEARCH_SEED = 10_000, 20_000, 30_000, 40_000
_LAST_SEED = 2**32 - 100_000

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class RealDifference:
    """Mean of the training images of the second label less that of the first.

    Attributes:
        mean: Shape ``(C, *size)``.
        images: Number of images of both labels.
        correlation: Pearson's, over the pixels, with the model's own mean difference; NaN if one of them is constant.
    """

    mean: Tensor
    images: tuple[int, int]
    correlation: float


@dataclass(frozen=True, eq=False)
class RealImages:
    """Real images, each found again in the latent space, and shown under the other label.

    Attributes:
        images: Shape ``(K, C, *size)``.
        files: Their names in the data.
        patients: Of whom they are, "" where unknown.
        part: What they are: ``test``, ``validation``, or ``given`` if it is not known whether the model has seen them.
        names: Own and other label of each; None without labels to compare.
        inversion: Under their own labels.
        others: The same latents under the other labels, ``(K, C, *size)``; None without labels to compare.
        chance: PSNR of the nearest of 128 random samples, ``(K,)``: what no search at all finds.
        own_psnr: PSNR of the model's own samples when they are searched for alike, ``(S,)``: what the search could
            find at best.
    """

    images: Tensor
    files: list[str]
    patients: list[str]
    part: str
    names: list[tuple[str, str]] | None
    inversion: Inversion
    others: Tensor | None
    chance: NDArray[np.float64]
    own_psnr: NDArray[np.float64]

    @property
    def changes(self) -> NDArray[np.float64] | None:
        """Mean absolute difference of each pair of images under both labels, ``(K,)``."""
        if self.others is None:
            return None
        return (self.others - self.inversion.images).abs().flatten(1).mean(dim=1).double().numpy()

    @property
    def readable(self) -> NDArray[np.bool_] | None:
        """Whether what the label changes is at least twice the error of the reconstruction, ``(K,)``."""
        return None if self.changes is None else self.changes >= READABLE * self.inversion.errors

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; differences in percent of the range from black to white."""
        rows: list[dict[str, Any]] = []
        for row, file in enumerate(self.files):
            facts: dict[str, Any] = {"file": file, "patient": self.patients[row]}
            if self.names is not None:
                facts |= {"label": self.names[row][0], "other_label": self.names[row][1]}
            facts |= {
                "psnr_db": round(float(self.inversion.psnr[row]), _ROUNDED),
                "ssim": _number(self.inversion.ssim[row]),
                "error_percent": round(50 * float(self.inversion.errors[row]), _ROUNDED),
                "psnr_db_of_nearest_random_sample": round(float(self.chance[row]), _ROUNDED),
            }
            if self.changes is not None and self.readable is not None:
                facts |= {
                    "difference_percent": round(50 * float(self.changes[row]), _ROUNDED),
                    "readable": bool(self.readable[row]),
                }
            rows.append(facts)
        own = np.round(self.own_psnr, _ROUNDED).tolist()
        return {"part": self.part, "images": rows, "psnr_db_of_own_samples": own}


@dataclass(frozen=True, eq=False)
class Exploration:
    """What `explore` found; None for what was left out.

    Attributes:
        gan: The model.
        facts: Model, versions, seed and data, as plain JSON values.
        contrast: The two labels that are compared.
        interpolation: Ways between latents.
        differences: What changes with the label, of the contrast first, then of further labels.
        real_difference: The same of real training images.
        walk: Ways between the two labels.
        real: Real images found in the latent space.
        cases: Typical, rare and undecided samples, of each of the two labels.
        neighbours: The training images nearest to samples.
        neighbour_images: Those images by pixels and by features, ``(2, E, C, *size)``; None if no patient's image is to
            be shown.
        truncation: More and more typical samples.
        left_out: Reasons, by the name of the part.
    """

    gan: GAN
    facts: dict[str, Any]
    contrast: Contrast | None = None
    interpolation: Interpolation | None = None
    differences: list[ClassDifference] = field(default_factory=list)
    real_difference: RealDifference | None = None
    walk: ClassWalk | None = None
    real: RealImages | None = None
    cases: list[Cases] = field(default_factory=list)
    neighbours: Neighbours | None = None
    neighbour_images: Tensor | None = None
    truncation: Truncation | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain JSON values."""
        single = {
            "interpolation": self.interpolation,
            "class_walk": self.walk,
            "inversion": self.real,
            "nearest_training": self.neighbours,
            "truncation": self.truncation,
        }
        found: dict[str, Any] = {name: part.to_dict() for name, part in single.items() if part is not None}
        found["class_differences"] = [difference.to_dict() for difference in self.differences]
        if self.real_difference is not None:
            found["class_differences"][0]["of_training_images"] = {
                "images": list(self.real_difference.images),
                "correlation_with_the_models": _number(self.real_difference.correlation),
            }
        found["cases"] = [cases.to_dict(SHOWN) for cases in self.cases]
        return self.facts | found | {"left_out": self.left_out}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the maps, and the latents of the real images, by name."""
        found: dict[str, NDArray[Any]] = {}
        for number, difference in enumerate(self.differences):
            found[f"difference_{number}_mean"] = difference.mean.numpy()
            found[f"difference_{number}_spread"] = difference.spread.numpy()
        if self.real_difference is not None:
            found["difference_0_of_training_images"] = self.real_difference.mean.numpy()
        if self.real is not None:
            found["inversion_latents"] = self.real.inversion.latents.numpy()
        return found

    def write(self, out: Path) -> Path:
        """Write the page, its pictures, ``explore.json`` with the figures and ``arrays.npz`` with the maps.

        Args:
            out: Folder to create; it gets its name only when everything in it is written.

        Returns:
            The page, ``explore.html``.

        Raises:
            ConfigError: If the folder holds something already, or cannot be written.
        """
        from medgan.exploration.page import make_page, make_sheets
        from medgan.pages import save_image

        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
        sheets = make_sheets(self)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            try:
                aside.chmod(0o755)
                for name, sheet in sheets.items():
                    save_image(sheet.picture, aside / f"{name}.png")
                text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
                (aside / "explore.json").write_text(text + "\n", encoding="utf-8", errors="replace")
                with (aside / "arrays.npz").open("wb") as stream:
                    np.savez(stream, allow_pickle=False, **self.arrays())
                make_page(self, sheets).write(aside / "explore.html")
                if out.exists():
                    out.rmdir()
                aside.replace(out)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except OSError as error:
            raise ConfigError(f"Nothing could be written to {out}: {error.strerror or error}.") from error
        return out / "explore.html"


@dataclass(frozen=True)
class _Material:
    """Real images to explore with.

    Attributes:
        training: The model's training images.
        held_out: Images of other patients, or given ones.
        part: Of `held_out`.
        reason: Why there are none, if so.
    """

    training: ImageDataset | None = None
    held_out: ImageDataset | None = None
    part: str = ""
    reason: str = ""


def explore(
    model: str | Path,
    *,
    which: Which = "best",
    data: ImageDataset | str | Path | None = None,
    transforms: str | None = None,
    reference: Label | None = None,
    target: Label | None = None,
    inversions: int = 6,
    synthetic_only: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = lambda done, total, name: None,
) -> Exploration:
    """Look at what a generator has learnt.

    Args:
        model: A run folder, or a saved model's own. What compares with training images needs the run.
        which: As in `medgan.models.find_model`.
        data: Of a run, where its data lies now; None for where it lay. Of a saved model, images to look for in the
            latent space.
        transforms: ``module:object`` of the preprocessing that the run was given, if any.
        reference: Label to compare with, as `LabelSpec.encode` takes it; None for the first, see `make_contrast`.
        target: Label to compare; None for the next.
        inversions: Real images to look for in the latent space, of as many patients; 0 for none.
        synthetic_only: Whether no image of a patient, and nothing that is made to resemble one, may be in the result.
        seed: Decides everything random.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: Told of the parts done, of how many, and of which is next.

    Returns:
        What was found; `Exploration.write` writes it.

    Raises:
        CheckpointError: If there is no model, or it is damaged.
        ConfigError: If an option does not fit.
        DataError: If `data` was given and cannot be used.
    """
    if inversions < 0:
        raise ConfigError(f"inversions is {inversions}, expected 0 or more.")
    if not 0 <= seed <= _LAST_SEED:
        raise ConfigError(f"The seed must be between 0 and {_LAST_SEED:,}, got {seed:,}.")
    place = find_model(model, which=which)
    gan = load_model(place)
    if gan.translates:
        raise ConfigError(
            f"{gan.name} translates: its images are those of their sources, and its latents have little to show. Name "
            "a model that makes images from nothing."
        )
    spec = gan.data.labels
    if spec is None and (reference is not None or target is not None):
        raise ConfigError("This model was trained without labels, so there is nothing to compare. Leave labels out.")
    run = find_run_of(Path(model).resolve())
    if spec is not None:
        make_contrast(spec, reference, target)  # a wrong label is said before any image is read
    gan.generator.to(make_accelerator(device).device)
    explorer = _Explorer(gan, run if is_run(run) else None, seed, progress)
    explorer.open(data, transforms)
    labels = None if explorer.material.training is None else explorer.material.training.labels
    contrast = None if spec is None else make_contrast(spec, reference, target, labels=labels)
    return explorer.explore(
        contrast, inversions=inversions, synthetic_only=synthetic_only, model=str(model), place=str(place)
    )


class _Explorer:
    """One exploration in progress."""

    def __init__(self, gan: GAN, run: Path | None, seed: int, progress: Progress) -> None:
        self.gan, self.run, self.seed = gan, run, seed
        self.material = _Material()
        self.left_out: dict[str, str] = {}
        self._progress, self._done = progress, 0
        self._device = next(gan.generator.parameters()).device

    def _next(self, name: str) -> None:
        """Say what comes next."""
        self._progress(self._done, 8, name)
        self._done += 1

    # ------------------------------------------------------------------------------------ data

    def open(self, data: ImageDataset | str | Path | None, transforms: str | None) -> None:
        """Open the run's images, or given ones."""
        self._next("reading images")
        if self.run is not None and not isinstance(data, ImageDataset):
            try:
                parts = reopen(self.run, data=None if data is None else str(data), transforms=transforms).parts
            except DataError as error:
                if data is not None:
                    raise
                self.material = _Material(reason=f"the run's data cannot be read: {error}")
                return
            self.material = _held_out(parts, read_parts(self.run))
        elif data is None:
            self.material = _Material(reason="it needs the run's data; this is a saved model by itself")
        else:
            given = data if isinstance(data, ImageDataset) else _open_as(self.gan, str(data), transforms)
            if (given.spec.channels, given.spec.size) != (self.gan.data.channels, self.gan.data.size):
                raise DataError(f"This model makes images of {self.gan.data}; {given.name} has {given.spec}.")
            reason = "it needs the run, which knows the training images"
            self.material = _Material(held_out=given, part="given", reason=reason)

    def _features(self) -> tuple[FrozenFeatures | None, str]:
        """Return what images are compared by, and what it was trained on."""
        training = self.material.training
        if training is None or self.run is None:
            return None, ""
        if can_classify(training):
            kept = read_classifier(self.run / _CLASSIFIER, training, device=self._device)
            if kept is not None:
                return kept, "the classifier that the run trained on its training patients, to choose the best model"
            made = train_features(
                training, seconds=_CLASSIFIER_SECONDS, required=True, seed=self.seed, device=self._device
            )
            assert made is not None
            return made[0], f"a classifier, trained for {made[1]} steps on the run's training patients"
        try:
            return RandomFeatures(training.spec, device=self._device), "random convolutions"
        except ConfigError:
            return None, ""

    # ------------------------------------------------------------------------------------ parts

    def explore(
        self, contrast: Contrast | None, *, inversions: int, synthetic_only: bool, model: str, place: str
    ) -> Exploration:
        """Do one part after the other."""
        gan, seed = self.gan, self.seed
        named = (
            [] if contrast is None else [(contrast.names[0], contrast.reference), (contrast.names[1], contrast.target)]
        )
        if contrast is None and gan.data.labels is not None:  # a single class
            named = [(gan.data.labels.names[0], torch.tensor(0))]
        self._next("features")
        features, what = self._features()
        known = self._describe(features, contrast)

        self._next("class differences")
        differences: list[ClassDifference] = []
        real_difference = walk = None
        if contrast is None:
            self.left_out["class differences"] = "it needs two labels, and the model has not"
        else:
            differences = class_differences(gan, all_contrasts(contrast), seed=seed, features=features)
            real_difference = _real_difference(self.material.training, contrast, differences[0].mean)
        self._next("walk between labels")
        if contrast is not None:
            try:
                walk = walk_classes(gan, contrast, seed=seed + _WALK_SEED, features=features)
            except ConfigError as error:
                self.left_out["walk between the labels"] = str(error)
        self._next("real images in the latent space")
        real = None if synthetic_only else self._invert(contrast, inversions)
        if synthetic_only:
            self.left_out["real images in the latent space"] = "no image of a patient was to be shown"
        self._next("rare and borderline cases")
        pool = self._pool(named)
        cases = self._cases(pool, features, known, contrast)
        self._next("nearest training images")
        neighbours = self._neighbours(pool, features, known)
        self._next("interpolation and truncation")
        strips = interpolate(gan, labels=named, seed=seed + _STRIP_SEED)
        truncation = truncate(gan, labels=named, seed=seed)
        self._progress(8, 8, "done")
        searched = known.training
        shown = None
        if neighbours is not None and searched is not None and not synthetic_only:
            shown = torch.stack([searched.images_at(rows) for rows in (neighbours.by_pixels, neighbours.by_features)])
        facts = {
            "model": model,
            "weights": place,
            "architecture": gan.name,
            "weights_sha256": gan.weights_sha256,
            "images": gan.data.to_dict(),
            "seed": seed,
            "versions": versions(),
            "training_data": gan.provenance,
            "held_out": None
            if self.material.held_out is None
            else {"part": self.material.part, "images": len(self.material.held_out)},
            "features": None if features is None else {"name": features.name, "what": what, "sha256": features.sha256},
            "classifier_on_held_out": known.quality,
        }
        return Exploration(
            gan,
            facts,
            contrast,
            strips,
            differences,
            real_difference,
            walk,
            real,
            cases,
            neighbours,
            shown,
            truncation,
            self.left_out,
        )

    def _describe(self, features: FrozenFeatures | None, contrast: Contrast | None) -> _Known:
        """Compute the features of training and held-out images, and how good the classifier is."""
        training, held_out = self.material.training, self.material.held_out
        if features is None or training is None:
            return _Known()
        searched = training.subset(_evenly(len(training), _MOST_TRAINING))
        values, _ = describe_dataset(searched, features)
        if held_out is None:
            return _Known(searched, values)
        some = held_out.subset(_evenly(len(held_out), _MOST_HELD_OUT))
        others, probabilities = describe_dataset(some, features)
        quality = None
        if contrast is not None and probabilities is not None and some.labels is not None:
            sides = contrast.sides(some.labels)
            leaning = contrast.leaning(probabilities, features.thresholds)
            quality = _quality(sides, leaning, contrast, self.material.part)
        return _Known(searched, values, some, others, quality)

    def _pool(self, named: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor | None, Tensor, list[int]]]:
        """Make the samples that cases are looked for among: name, label, images and seeds of each label."""
        space, start = LatentSpace(self.gan), self.seed + _POOL_SEED
        groups: list[tuple[str, Tensor | None]] = [*named] or [("", None)]
        found = []
        for name, label in groups:
            seeds = list(range(start, start + _POOL))
            start += _POOL
            wanted = None if label is None else label.expand(_POOL, *label.shape)
            found.append((name, label, space.render(space.draw(seeds), wanted), seeds))
        return found

    def _cases(
        self,
        pool: list[tuple[str, Tensor | None, Tensor, list[int]]],
        features: FrozenFeatures | None,
        known: _Known,
        contrast: Contrast | None,
    ) -> list[Cases]:
        """Sort the samples of each label."""
        if features is None or known.training is None or known.values is None:
            self.left_out["rare and borderline cases"] = self.material.reason or "such images have no features"
            return []
        found = []
        for name, _, images, seeds in pool:
            side = None if contrast is None else int(name == contrast.names[1])
            rows, others = (_of_side(dataset, contrast, side) for dataset in (known.training, known.held_out))
            assert rows is not None
            rows = rows[_evenly(len(rows), _MOST_OF_LABEL)]
            try:
                cases = find_cases(
                    images,
                    seeds,
                    name=name,
                    features=features,
                    training=known.values[rows],
                    scale=known.values,
                    held_out=None if others is None or known.others is None else known.others[others],
                    contrast=contrast,
                )
            except DataError as error:
                self.left_out[f"rare and borderline cases of {name}"] = str(error)
                continue
            found.append(cases)
        return found

    def _neighbours(
        self,
        pool: list[tuple[str, Tensor | None, Tensor, list[int]]],
        features: FrozenFeatures | None,
        known: _Known,
    ) -> Neighbours | None:
        """Look for the training images nearest to the samples."""
        if features is None or known.training is None or known.values is None:
            self.left_out["nearest training images"] = self.material.reason or "such images have no features"
            return None
        each = SHOWN // len(pool)
        return nearest_training(
            torch.cat([images for _, _, images, _ in pool]),
            [seed for _, _, _, seeds in pool for seed in seeds],
            [name for name, _, _, seeds in pool for _ in seeds],
            training=known.training,
            held_out=known.held_out,
            features=features,
            known=known.values,
            shown=[group * _POOL + row for group in range(len(pool)) for row in range(each)],
        )

    def _invert(self, contrast: Contrast | None, number: int) -> RealImages | None:
        """Look for real images in the latent space, and show them under the other label."""
        held_out, name = self.material.held_out, "real images in the latent space"
        if number == 0:
            self.left_out[name] = "none were asked for"
            return None
        if held_out is None:
            self.left_out[name] = self.material.reason or "the run held no patient out"
            return None
        if held_out.spec.labels != self.gan.data.labels:
            self.left_out[name] = f"{held_out.name} has other labels than the model was trained with"
            return None
        rows = _choose(held_out, contrast, number, self.seed)
        if not len(rows):
            self.left_out[name] = "no image that may be looked for has one of the two labels"
            return None
        images = held_out.images_at(rows).contiguous()
        given = None if held_out.labels is None else torch.from_numpy(held_out.labels[rows])
        space = LatentSpace(self.gan)
        seeds = range(self.seed + _SEARCH_SEED, self.seed + _SEARCH_SEED + 128)

        def tell(done: int, total: int) -> None:
            self._progress(self._done - 1, 8, f"{name}, step {done:,} of {total:,}")

        # The model's own samples have latents that the search could find: what it misses there is its own fault.
        own = self.gan.sample(
            _OWN, labels=None if given is None else given[torch.arange(_OWN) % len(given)], seed=self.seed + 77_000
        )
        wanted = None if given is None or own.labels is None else torch.cat([given, own.labels])
        both = invert(self.gan, torch.cat([images, own.images]), wanted, seed=seeds.start, progress=tell)
        count = len(images)
        found = Inversion(
            both.latents[:count],
            given,
            both.images[:count],
            both.errors[:count],
            both.psnr[:count],
            both.ssim[:count],
        )
        chance = np.array([_best_psnr(space, images[row], given, row, seeds) for row in range(count)])
        names = others = None
        if contrast is not None and given is not None:
            sides = contrast.sides(given)
            called = contrast.side_names
            names = [(called[side], called[1 - side]) for side in sides]
            others = space.render(found.latents, contrast.counterparts(given))
        patients = held_out.index["patient_id"].to_numpy()[rows]
        files = image_identities(held_out.index.iloc[rows])
        return RealImages(
            images,
            files,
            [str(patient) for patient in patients],
            self.material.part,
            names,
            found,
            others,
            chance,
            both.psnr[count:],
        )


@dataclass(frozen=True)
class _Known:
    """Features of real images.

    Attributes:
        training: Training images that are looked through.
        values: Their features.
        held_out: Held-out images.
        others: Their features.
        quality: Of the classifier, on these.
    """

    training: ImageDataset | None = None
    values: NDArray[np.float64] | None = None
    held_out: ImageDataset | None = None
    others: NDArray[np.float64] | None = None
    quality: dict[str, Any] | None = None


def _held_out(parts: dict[str, ImageDataset], seen: dict[str, str]) -> _Material:
    """Return training images, and those of patients that neither the model nor one that it began from has seen."""
    for part in ("test", "validation"):
        dataset = parts.get(part)
        if dataset is None:
            continue
        names = image_identities(dataset.index)
        rows = [row for row, name in enumerate(names) if seen.get(name) == part]
        if rows:
            return _Material(parts["train"], dataset.subset(rows), part)
    return _Material(parts["train"])


def _open_as(gan: GAN, source: str, transforms: str | None) -> ImageDataset:
    """Open images at the size of a model's."""
    config = DataConfig.from_dict({**shape_options(gan.data), "data": source})
    return open_configured(config, transforms=transforms)


def _choose(dataset: ImageDataset, contrast: Contrast | None, number: int, seed: int) -> NDArray[np.int64]:
    """Return images of as many patients, half of each label, at random."""
    rng = np.random.default_rng([seed, 5])
    order = rng.permutation(len(dataset))
    groups = [order]
    if contrast is not None and dataset.labels is not None:
        sides = contrast.sides(dataset.labels)[order]
        groups = [order[sides == side] for side in (0, 1)]
    patients = dataset.index["patient_id"].to_numpy()
    seen: set[str] = set()
    found: list[list[int]] = [[] for _ in groups]
    for place, rows in enumerate(groups):
        wanted = number // len(groups) + (place < number % len(groups))
        for row in rows:
            patient = str(patients[row])
            if len(found[place]) < wanted and (not patient or patient not in seen):
                found[place].append(int(row))
                seen.add(patient)
    return np.array([row for rows in found for row in rows], dtype=np.int64)


def _best_psnr(space: LatentSpace, image: Tensor, labels: Tensor | None, row: int, seeds: range) -> float:
    """Return the PSNR of the random sample of an image's label that is the nearest to it."""
    label = None if labels is None else labels[row].expand(len(seeds), *labels.shape[1:])
    images = space.render(space.draw(seeds), label)
    return float(np.max(compare(images, image.expand_as(images))["psnr"]))


def _real_difference(training: ImageDataset | None, contrast: Contrast, own: Tensor) -> RealDifference | None:
    """Return the difference of the mean training images, if both labels are to be had there."""
    if training is None or training.labels is None or contrast.spec.kind == "continuous":
        return None
    means, counts = [], []
    for side in (0, 1):
        rows = np.flatnonzero(contrast.sides(training.labels) == side)
        if not len(rows):
            return None
        total = torch.zeros(own.shape, dtype=torch.float64)
        for part in blocks(len(rows)):
            total += training.images_at(rows[part.start : part.stop]).double().sum(dim=0)
        means.append(total / len(rows))
        counts.append(len(rows))
    mean = (means[1] - means[0]).float()
    pair = torch.stack([mean.flatten(), own.flatten()]).double()
    correlation = float(torch.corrcoef(pair)[0, 1]) if bool((pair.std(dim=1) > 0).all()) else float("nan")
    return RealDifference(mean, (counts[0], counts[1]), correlation)


def _quality(
    sides: NDArray[np.int64], leaning: NDArray[np.float64], contrast: Contrast, part: str
) -> dict[str, Any] | None:
    """Say how well the classifier tells real images of the two labels apart; None without images of both."""
    from sklearn.metrics import roc_auc_score

    counts = [int((sides == side).sum()) for side in (0, 1)]
    if not all(counts):
        return None
    known = sides >= 0
    shares = [float((leaning[sides == side] > 0.5).mean()) for side in (0, 1)]
    return {
        "part": part,
        "images": dict(zip(contrast.names, counts, strict=True)),
        "auroc": round(float(roc_auc_score(sides[known], leaning[known])), _ROUNDED),
        "share_taken_for_target": dict(zip(contrast.names, (round(share, _ROUNDED) for share in shares), strict=True)),
    }


def _of_side(dataset: ImageDataset | None, contrast: Contrast | None, side: int | None) -> NDArray[np.int64] | None:
    """Return which images have a label; all of them if there is nothing to tell them apart by."""
    if dataset is None:
        return None
    if contrast is None or side is None or dataset.labels is None:
        return np.arange(len(dataset))
    return np.flatnonzero(contrast.sides(dataset.labels) == side)


def _evenly(n: int, most: int) -> NDArray[np.int64]:
    """Return positions from 0 to n - 1, evenly spread if there are more than wanted."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def _number(value: float) -> float | None:
    """Return a rounded number for JSON, None for NaN."""
    return None if np.isnan(value) else round(float(value), _ROUNDED)
