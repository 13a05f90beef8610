"""Health of a training: what goes wrong with GANs, each measured, with a threshold, a plain sentence and a reaction.

At each evaluation of `KeepBest`, on its samples and the held-out images of the same labels:

- *collapse* of a class: S is the mean MS-SSIM of pairs of its samples, averaged to at most 256 pixels a side (64 of a
  volume), S' that of pairs of held-out images, and
  L = (S − S') / (1 − S') the share of the variety that is lost. Told from 0.15 on, acted on from 0.3 on, where S − S'
  is above two standard errors.
- *setback*: the score of `HeldOutScores` is less than half of the best one so far of a healthy model, where that is at
  least 0.3.
- *duplicates*: a sample has one if the nearest other sample is closer than a quarter of the first percentile of the
  distances of held-out images to their nearest. Acted on if more than 5 % and at least 3 samples have one.
- *memorisation*: an image's nearness is the distance to its nearest training image, divided by the mean distance to the
  next ten. A sample is a copy if that is below 0.6 of the first percentile of held-out images. Acted on if more than
  2 % and at least 3 samples are copies.

  Held-out images that have an exact copy, among each other or among the training images, are left out of these
  percentiles, which would be 0 otherwise.
- *overfitting* of the discriminator: r = (D(training) − D(held out)) / (D(training) − D(generated)), means of the
  realness without augmentation. Acted on if r > 0.5 in two evaluations in a row, and D(training) − D(held out) is above
  three standard errors.

Distances are √(2 − 2 ρ), ρ being the correlation of two images that are averaged to at most 16 pixels a side (8 of a
volume); the nearness divides two of them, as blurred images are near to all others. A generator that has just begun to
learn makes one image, and before that it made noise, which is more varied than anything: collapse and duplicates count
when the score is below that of the best model and they are worse than they have been since then (by 0.1 of the variety,
by 5 % of the samples). In the second half of the training they are told in any case.

In every training, from figures of every tenth step that are looked at every 100 steps:

- *dominance* of the discriminator: its accuracy (``discriminator/accuracy`` in the log) is the share of pairs, the
  first real and the first generated image of a batch and so on, augmented, in which it finds the real one more real.
  Acted on if the mean over 500 steps is above 0.98; the first 500 steps do not count. It is known of an
  `AdversarialTrainer` whose losses judge the images that they are given.
- *exploding*: at least 3 of the last 10 norms of a network's gradient, before it is clipped, are above 50 times the
  median of up to 100 before them, or not finite.
- *vanishing*: all of the last 10 norms are below a hundredth of it.
- *frozen*: no weight of a network has changed since the last look. Told only.

And *divergence*: a loss or weight is NaN or infinite.

The reactions, that to a divergence at once, all others at the next step that is a multiple of 20:

- setback: back to the weights of the best evaluation so far; both learning rates are halved.
- collapse, duplicates: the same, but the weight of the label loss is halved, where there is one.
- memorisation: the training ends, and stays so after a resume. The best model before it stays the best.
- exploding, divergence: back to the newest checkpoint, or to the best evaluation before there is one; both learning
  rates are halved.
- dominance, vanishing, overfitting: the discriminator's learning rate is halved.

There are at most three in a training, at least 1,000 images apart; a divergence sooner than that after another
reaction, or after the third, ends the training with its error.

References:
    - T. Karras et al., 2020, arXiv:2006.06676 (r), and A. Odena et al., 2017, arXiv:1610.09585 (MS-SSIM by class).
    - C. Meehan et al., 2020, arXiv:2004.05675 (copies: distances to training images against those of held-out ones).
    - S. Arora et al., 2018, https://openreview.net/forum?id=BJehNfW0- (duplicates among samples).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.augment import AdaptiveAugment
from medgan.core.distribution import gather
from medgan.core.networks import evaluating
from medgan.core.randomness import seeded
from medgan.core.saving import read_state, write_state
from medgan.core.spec import Batch
from medgan.core.trainer import Callback, Metrics, Trainer
from medgan.errors import CheckpointError, ConfigError, TrainingDivergedError
from medgan.metrics.functional.diversity import nearest_neighbours, pair_similarity
from medgan.training.callbacks import drop_rows

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = ["Finding", "HealthMonitor", "reason_of_end"]

_NETWORKS = ("generator", "discriminator")
_NORM_EVERY, _LOOK_EVERY, _ACT_EVERY = 10, 100, 20  # steps
_RECENT, _HISTORY, _LEAST = 10, 100, 20  # norms
_EXPLODED, _VANISHED = 50.0, 0.01
_DOMINANT, _DOMINANT_STEPS = 0.98, 500
_ACCURACIES = _DOMINANT_STEPS // _NORM_EVERY
_LOST, _LOST_MUCH, _LOST_WORSE = 0.15, 0.3, 0.1
_DUPLICATES, _DUPLICATE_DISTANCE = 0.05, 0.25
_COPIES, _COPY_NEARNESS = 0.02, 0.6
_OVERFIT = 0.5
_SETBACK, _GOOD = 0.5, 0.3  # of the best score; scores below are those of a model that has not learnt much yet
_PAIRS = 200  # of MS-SSIM, a class
_FINE = {4: 256, 5: 64}  # pixels a side, at most, of images whose MS-SSIM is computed, by the number of axes of a batch
_PIXELS = {4: 16, 5: 8}  # a side, of images that are compared by distance, by the number of axes of a batch
_NEIGHBOURS = 10
_SAME = 1e-4  # distance; that of an image to its exact copy is 0 but for rounding
_MOST_TRAINING = 5_000
_JUDGED = 128  # images of each kind that the discriminator is asked about,
_JUDGED_NUMBERS = 2**27  # and numbers in them, as they are kept for the whole training
_BLOCK = 2**24  # numbers of the images that are read at a time
_MOST_REACTIONS, _APART = 3, 1_000  # reactions; images between two of them


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        illness: ``collapse``, ``setback``, ``duplicates``, ``memorisation``, ``overfitting``, ``dominance``,
            ``exploding``, ``vanishing``, ``frozen`` or ``divergence``.
        of: The class or network; "" for all of it.
        value: What was measured; None where that is no number.
        threshold: What it went beyond.
        text: In words, without a full stop.
        act: Whether it is bad enough for a reaction.
    """

    illness: str
    of: str
    value: float | None
    threshold: float | None
    text: str
    act: bool = True


class _Reaction(NamedTuple):
    """What is to be done; the same in all processes.

    Attributes:
        illnesses: What it is against.
        back: File of the state to go back to; None to stay.
        factors: What terms and learning rates are multiplied by, by the names of `Trainer.factors`.
        end: Whether to end the training.
        text: In words.
    """

    illnesses: set[str]
    back: str | None
    factors: dict[str, float]
    end: bool
    text: str


class HealthMonitor(Callback):
    """Finds the illnesses of the module, says each when it begins, writes all to ``health.jsonl``, and reacts.

    With several processes each of them needs this callback, between `KeepBest` and `Checkpoint`; the main one looks and
    decides. What has to be known after a resume is in `Trainer.memory`. A healthy training has the same weights without
    it.

    Args:
        folder: The run folder; lines of its ``health.jsonl`` from beyond the step that a resume starts at are dropped,
            and ``checkpoints/healthy`` gets the states to go back to.
        react: Whether to react, and not only to say what is wrong.
        say: Takes each sentence for the user.

    Attributes:
        findings: Those since the start, with their steps.
    """

    def __init__(self, folder: Path, *, react: bool = True, say: Callable[[str], None] = print) -> None:
        """Store the arguments."""
        self.path = folder / "health.jsonl"
        self.react = react
        self.say = say
        self.findings: list[tuple[int, Finding]] = []
        self._healthy = folder / "checkpoints" / "healthy"
        self._latest = folder / "checkpoints" / "latest" / "trainer.pt"
        self._has_label_loss = False
        self._real: _Real | None = None
        # Step of the healthy state that the latest checkpoint knows of, and which checkpoint that is.
        self._needed: int | None = None
        self._seen: tuple[int, ...] | None = None

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Drop what a resume does again.

        Raises:
            ConfigError: If a reaction ended the training before, and this monitor reacts, too.
            CheckpointError: If files cannot be changed.
        """
        reason = reason_of_end(trainer.memory)
        if self.react and reason is not None:
            raise ConfigError(
                f"{reason} Begin a new training; to train this one on all the same, type --health warn, or react=False "
                "in Python."
            )
        if trainer.accelerator.is_main_process:
            if self.path.is_file():
                drop_rows(self.path, trainer.step)
            self._needed, self._seen = self._memory(trainer)["healthy"], _identity(self._latest)
            self._drop_states(self._needed)

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Measure, look at it when it is time, and react."""
        if trainer.accelerator.is_main_process:
            memory = self._memory(trainer)
            self._has_label_loss = any(name.endswith("/label") for name in metrics)
            if "discriminator/accuracy" in metrics and trainer.step > _DOMINANT_STEPS:
                accuracies = [*memory["accuracies"], float(metrics["discriminator/accuracy"])]
                memory["accuracies"] = accuracies[-_ACCURACIES:]
            if trainer.step % _NORM_EVERY == 0:
                norms = torch.stack([_norm(trainer, name) for name in _NETWORKS]).tolist()
                for name, norm in zip(_NETWORKS, norms, strict=True):
                    memory["norms"][name] = [*memory["norms"].get(name, []), norm][-_HISTORY - _RECENT :]
            if trainer.step % _LOOK_EVERY == 0:
                found = [*_dominance(memory), *_gradients(memory), *_frozen(trainer, memory)]
                self._note(trainer, "look", found)
        if trainer.step % _ACT_EVERY == 0:
            self._act(trainer)

    def on_end(self, trainer: Trainer[Any]) -> None:
        """Say what was found after the last step, when no reaction is of use any more."""
        self._record(trainer, None)

    def on_diverged(self, trainer: Trainer[Any], error: TrainingDivergedError) -> bool:
        """Go back to the newest weights that were saved, if there are any, with half the learning rates."""
        finding = Finding("divergence", "", None, None, str(error).split(". ")[0])
        self._memory(trainer)["pending"].append(asdict(finding) | {"new": True})
        reaction: _Reaction | None = gather(trainer.accelerator, self._choose(trainer))[0]
        back = reaction is not None and reaction.back is not None
        reaction = self._apply(trainer, reaction) if reaction is not None and back else None
        self._record(trainer, reaction)
        return reaction is not None

    def prepare(self, held_out: ImageDataset, training: ImageDataset, classes: Mapping[str, NDArray[np.bool_]]) -> None:
        """Learn what real images are like, before the first `examine`.

        Args:
            held_out: Images of patients that are not trained on.
            training: The training images.
            classes: Which of the held-out images are of each class or finding, by its name, ``(N,)`` of bool.
        """
        real = self._real = _Real(held_out, training, classes)
        count = len(held_out)
        copied = {"duplicates": (real.twins, "themselves"), "memorisation": (real.known, "the training images")}
        for illness, (copies, place) in copied.items():
            if copies:
                effect = f"the threshold of {illness} leaves them out"
                effect = f"{illness} cannot be looked for" if copies == count else effect
                self.say(f"Health: {copies:,} of {count:,} held-out images have an exact copy among {place}; {effect}.")

    def examine(
        self,
        trainer: Trainer[Any],
        samples: Tensor,
        *,
        late: bool,
        score: float,
        best: Mapping[str, Any] | None,
    ) -> tuple[dict[str, float], bool]:
        """Look at the samples of an evaluation; in the main process, after `prepare`.

        Args:
            trainer: The training.
            samples: One image for each held-out one, of its label and in the same order, ``(N, C, *size)`` on the CPU.
            late: Whether the second half of the training has begun.
            score: Score of the samples, from 0 to 1, as in `HeldOutScores`.
            best: ``score`` and ``step`` of the best evaluation of a healthy model before; None if there was none.

        Returns:
            Figures for the log, and whether the samples are those of a model that may be kept as the best.
        """
        assert self._real is not None
        memory, real = self._memory(trainer), self._real
        figures: dict[str, float] = {}
        rising = None if best is None else score >= best["score"]
        found = [
            *_setback(score, best),
            *_collapse(real, samples, memory, figures, late=late, rising=rising),
            *_duplicates(real, samples, memory, figures, late=late, rising=rising),
            *_memorisation(real, samples, figures),
        ]
        may_be_kept = not any(finding.act for finding in found)
        found += _overfitting(real, trainer, memory, figures)
        self._note(trainer, "evaluation", found)
        return {f"health/{name}": round(value, 6) for name, value in figures.items()}, may_be_kept

    @property
    def seconds(self) -> float:
        """How long the costliest part of `examine` is going to take, after `prepare`; else 0."""
        return 0.0 if self._real is None else self._real.seconds

    def note_best(self, trainer: Trainer[Any]) -> None:
        """Save the weights of the evaluation at hand, the best so far of a healthy model: they are those to go back to.

        In the main process, whose weights are those of all.

        Raises:
            CheckpointError: If they cannot be written.
        """
        memory = self._memory(trainer)
        memory["lowest"] = dict(memory["latest"])
        if not self.react:
            return
        latest = _identity(self._latest)
        if latest != self._seen:  # a checkpoint since the last time: it knows of the state at hand
            self._needed, self._seen = memory["healthy"], latest
        write_state(self._state_of(trainer.step), {"trainer": trainer.weights()})
        memory["healthy"] = trainer.step
        # A training that is killed begins again at the checkpoint, and may have to go back to what was healthy then.
        self._drop_states(self._needed, trainer.step)

    def _state_of(self, step: int) -> Path:
        """Return where the state of a healthy step is."""
        return self._healthy / f"{step:06d}.pt"

    def _drop_states(self, *kept: int | None) -> None:
        """Delete the states of all other steps: those of a training that was killed are nothing to go back to."""
        names = {self._state_of(step).name for step in kept if step is not None}
        for path in self._healthy.glob("*.pt"):
            if path.name not in names:
                try:
                    path.unlink()
                except OSError as error:
                    raise CheckpointError(f"{path} could not be deleted ({error}).") from error

    # ----------------------------------------------------------------------------- reactions

    def _act(self, trainer: Trainer[Any]) -> None:
        """Do in all processes what the main one decides, and write and say what was found."""
        reaction: _Reaction | None = gather(trainer.accelerator, self._choose(trainer))[0]
        if reaction is not None:
            reaction = self._apply(trainer, reaction)
        self._record(trainer, reaction)

    def _choose(self, trainer: Trainer[Any]) -> _Reaction | None:
        """Return, in the main process, what to do about the gravest of what was found; None for nothing."""
        if not trainer.accelerator.is_main_process:
            return None
        memory = self._memory(trainer)
        found = {finding["illness"] for finding in memory["pending"] if finding["act"]}
        too_soon = memory["reactions"] and trainer.images_seen - memory["last"] < _APART
        if not self.react or not found or memory["reactions"] >= _MOST_REACTIONS or too_soon:
            return None
        states = (None if memory["healthy"] is None else self._state_of(memory["healthy"]), self._latest)
        healthy, latest = (path if path is not None and path.is_file() else None for path in states)
        both = ("generator_lr", "discriminator_lr")
        if some := found & {"divergence", "exploding"}:
            return _reaction(some, latest or healthy, *both)
        if some := found & {"memorisation"}:
            return _Reaction(some, None, {}, True, "the training ends here")
        if some := found & {"setback"}:
            return _reaction(some | (found & {"collapse", "duplicates"}), healthy, *both)
        if some := found & {"collapse", "duplicates"}:
            return _reaction(some, healthy, *(("label",) if self._has_label_loss else both))
        return _reaction(found, None, "discriminator_lr")

    def _apply(self, trainer: Trainer[Any], reaction: _Reaction) -> _Reaction:
        """Do something, in all processes, and return it with what can be said only then."""
        if reaction.back is not None:
            state = read_state(Path(reaction.back))["trainer"]
            trainer.go_back(state)
            reaction = reaction._replace(text=f"went back to step {state['step']:,} and {reaction.text}")
        for name, factor in reaction.factors.items():
            trainer.factors[name] = trainer.factors.get(name, 1.0) * factor
        memory = self._memory(trainer)
        memory["reactions"] += 1
        memory["last"] = trainer.images_seen
        # What was measured is of weights that are gone, or of another pace.
        memory["norms"], memory["accuracies"], memory["streaks"] = {}, [], {}
        if reaction.end:
            trainer.ended = True
            memory["ended"] = {"step": trainer.step, "illnesses": sorted(reaction.illnesses)}
        return reaction

    def _record(self, trainer: Trainer[Any], reaction: _Reaction | None) -> None:
        """Write, in the main process, what was found since the last time, and say what of it is new."""
        if not trainer.accelerator.is_main_process:
            return
        memory = self._memory(trainer)
        told = False
        for row in memory["pending"]:
            finding, is_new = Finding(**{key: value for key, value in row.items() if key != "new"}), row["new"]
            done = reaction.text if reaction is not None and finding.illness in reaction.illnesses else None
            self.findings.append((trainer.step, finding))
            line = {
                "step": trainer.step,
                "images": trainer.images_seen,
                "illness": finding.illness,
                "of": finding.of,
                "value": None if finding.value is None else round(finding.value, 6),
                "threshold": finding.threshold,
                "text": finding.text,
                "reaction": done,
                "factors": dict(trainer.factors),
            }
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            except OSError as error:
                raise CheckpointError(f"{self.path} could not be written ({error}).") from error
            if is_new or (done is not None and not told):
                ending = f"; {done}." if done is not None and not told else "."
                self.say(f"Health, step {trainer.step:,}: {finding.text}{ending}")
                told = told or done is not None
        memory["pending"] = []

    def _note(self, trainer: Trainer[Any], when: str, found: Sequence[Finding]) -> None:
        """Keep findings until they are acted on, and whether they were there the last time."""
        memory = self._memory(trainer)
        before = memory["ill"].get(when, [])
        memory["ill"][when] = [[finding.illness, finding.of] for finding in found]
        memory["pending"] += [
            asdict(finding) | {"new": [finding.illness, finding.of] not in before} for finding in found
        ]

    @staticmethod
    def _memory(trainer: Trainer[Any]) -> dict[str, Any]:
        """Return what has to be known after a resume: the state of the monitor, but for what the run folder holds.

        ``reactions``, their number, and ``last``, the images seen at the last one; the ``latest`` figures, and the
        ``lowest`` ones since the best model; ``streaks`` of evaluations; what was ``ill`` the last time; ``norms`` and
        ``accuracies`` of late, and ``sums`` of the weights; ``pending`` findings; the step of the ``healthy`` state;
        and how a reaction ``ended`` it all.
        """
        memory: dict[str, Any] = trainer.memory.setdefault("health", {})
        for name in ("latest", "lowest", "streaks", "ill", "norms", "sums"):
            memory.setdefault(name, {})
        for name in ("pending", "accuracies"):
            memory.setdefault(name, [])
        for name, value in {"reactions": 0, "last": 0, "healthy": None, "ended": None}.items():
            memory.setdefault(name, value)
        return memory


def reason_of_end(memory: Mapping[str, Any]) -> str | None:
    """Return why a health monitor has ended a training, as a sentence; None if none has.

    Args:
        memory: `Trainer.memory`, as it is part of the state.
    """
    ended = memory.get("health", {}).get("ended")
    if ended is None:
        return None
    reason = ", ".join(ended["illnesses"])
    return f"A health monitor ended this training at step {ended['step']:,}, because of {reason}."


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what is another if a file has been replaced; None if there is none."""
    if not path.is_file():
        return None
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_ino, facts.st_size


# -------------------------------------------------------------------------------------- steps


def _dominance(memory: Mapping[str, Any]) -> list[Finding]:
    """Look at how often the discriminator is right."""
    accuracies = memory["accuracies"]
    mean = float(np.mean(accuracies)) if len(accuracies) == _ACCURACIES else 0.0
    if mean <= _DOMINANT:
        return []
    text = (
        f"The discriminator wins outright: for {_DOMINANT_STEPS} steps it has told real from generated images in "
        f"{mean:.1%} of pairs"
    )
    return [Finding("dominance", "discriminator", mean, _DOMINANT, text)]


def _gradients(memory: Mapping[str, Any]) -> list[Finding]:
    """Compare the last norms with those before."""
    found = []
    for name in _NETWORKS:
        norms = memory["norms"].get(name, [])
        recent, before = norms[-_RECENT:], [norm for norm in norms[:-_RECENT] if np.isfinite(norm)]
        middle = float(np.median(before)) if len(before) >= _LEAST else None
        exploded = [norm for norm in recent if not np.isfinite(norm) or (middle and norm > _EXPLODED * middle)]
        if middle and len(exploded) >= 3:
            times = float(np.median(exploded)) / middle
            size = f"{times:,.0f} times its usual size" if np.isfinite(times) else "not finite"
            value = times if np.isfinite(times) else None
            text = f"The {name}'s gradient explodes: it is {size}"
            found.append(Finding("exploding", name, value, _EXPLODED, text))
        elif middle and len(recent) == _RECENT and max(recent) < _VANISHED * middle:
            value = float(np.median(recent)) / middle
            text = f"The {name}'s gradient has vanished: it is {value:.1e} of its usual size"
            found.append(Finding("vanishing", name, value, _VANISHED, text))
    return found


def _frozen(trainer: Trainer[Any], memory: dict[str, Any]) -> list[Finding]:
    """Find networks without a single weight that has changed."""
    before, now = memory["sums"], torch.stack([_checksum(getattr(trainer, name)) for name in _NETWORKS]).tolist()
    memory["sums"] = dict(zip(_NETWORKS, now, strict=True))
    return [
        Finding(
            "frozen",
            name,
            None,
            None,
            f"The {name} does not learn: none of its weights has changed in {_LOOK_EVERY} steps",
            act=False,
        )
        for name in _NETWORKS
        if before.get(name) == memory["sums"][name]
    ]


# ------------------------------------------------------------------------------------ samples


class _Real:
    """What real images are like: computed once.

    Attributes:
        nearest: First percentile of the distances of held-out images to their nearest.
        twins: Number of held-out images that have an exact copy among them, which do not count there.
        nearness: First percentile of their nearness to training images.
        known: Number of held-out images that have an exact copy among those, which do not count there.
        seconds: How long the comparison of pairs took, which an evaluation does again with its samples.
    """

    def __init__(
        self, held_out: ImageDataset, training: ImageDataset, classes: Mapping[str, NDArray[np.bool_]]
    ) -> None:
        parts = [(_shrink(images), _vectors(images)) for images in _read(held_out, np.arange(len(held_out)))]
        images, vectors = torch.cat([part for part, _ in parts]), np.concatenate([part for _, part in parts])
        self.classes = dict(classes) or {"": np.ones(len(images), dtype=np.bool_)}
        self.scales = min(5, (min(images.shape[2:]) // 11).bit_length())  # 0: too small for MS-SSIM
        self.similarity: dict[str, tuple[float, float]] = {}
        begun = time.perf_counter()
        for name, mask in self.classes.items() if self.scales else ():
            self.similarity[name] = _similarity(images[torch.from_numpy(mask)], self.scales)
        self.seconds = time.perf_counter() - begun
        self.nearest, self.twins = _first_percentile(_to_nearest(vectors))
        rng = np.random.default_rng(43)
        rows = np.sort(rng.permutation(len(training))[:_MOST_TRAINING])
        self.vectors = np.concatenate([_vectors(images) for images in _read(training, rows)])
        self.nearness, self.known = _first_percentile(_nearness(vectors, self.vectors))
        # In a random order, as a discriminator may look at a whole batch.
        self.held_out = _some(held_out, rng.permutation(len(held_out)))
        rows = rng.permutation(len(training))
        labels, wanted = training.labels, held_out.labels
        if labels is not None and labels.ndim == 1 and wanted is not None:
            counts = np.bincount(wanted, minlength=int(labels.max()) + 1)
            rows = np.concatenate([rows[labels[rows] == label][:count] for label, count in enumerate(counts)])
            rows = rng.permutation(rows)
        self.training = _some(training, rows)


def _first_percentile(distances: NDArray[np.float64]) -> tuple[float, int]:
    """Return the first percentile of distances but for those of exact copies, and how many these are.

    It is 0 if there are only copies: nothing is nearer.
    """
    apart = distances[distances > _SAME]
    return float(np.quantile(apart, 0.01)) if len(apart) else 0.0, len(distances) - len(apart)


def _some(dataset: ImageDataset, rows: NDArray[np.int64]) -> Batch:
    """Return the first images of an order, for the discriminator."""
    return dataset.batch_at(rows[: max(2, min(_JUDGED, _JUDGED_NUMBERS // dataset.spec.numel))])


def _read(dataset: ImageDataset, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Read images, as many at a time as memory surely has room for."""
    count = max(1, min(256, _BLOCK // dataset.spec.numel))
    for start in range(0, len(rows), count):
        yield dataset.images_at(rows[start : start + count])


def _shrink(images: Tensor) -> Tensor:
    """Average large images to a size whose MS-SSIM can be computed in a training."""
    return images if max(images.shape[2:]) <= _FINE[images.ndim] else _average(images, _FINE[images.ndim])


def _average(images: Tensor, longest: int) -> Tensor:
    """Average pixels until no side is longer."""
    pool: Any = F.adaptive_avg_pool2d if images.ndim == 4 else F.adaptive_avg_pool3d
    averaged: Tensor = pool(images.float(), [min(longest, length) for length in images.shape[2:]])
    return averaged


def _setback(score: float, best: Mapping[str, Any] | None) -> list[Finding]:
    """Compare the score of an evaluation with the best one before."""
    if best is None or best["score"] < _GOOD or score >= _SETBACK * best["score"]:
        return []
    text = (
        f"The samples have become far worse: their score is {score:.2f} against {best['score']:.2f} at step "
        f"{best['step']:,}"
    )
    return [Finding("setback", "", score, _SETBACK * best["score"], text)]


def _collapse(
    real: _Real, samples: Tensor, memory: dict[str, Any], figures: dict[str, float], *, late: bool, rising: bool | None
) -> list[Finding]:
    """Compare the variety of each class with that of real images."""
    found = []
    for name, (similarity, error) in real.similarity.items():
        of_class = _shrink(samples[torch.from_numpy(real.classes[name])])
        of_samples, error_of_samples = _similarity(of_class, real.scales)
        lost = (of_samples - similarity) / max(1 - similarity, 1e-9)
        figures[f"lost_variety/{name}" if name else "lost_variety"] = lost
        worse = _is_worse(memory, f"collapse {name}", lost, _LOST_WORSE) and not rising
        noise = 2 * float(np.hypot(error, error_of_samples))
        if lost > _LOST and (worse or late) and of_samples - similarity > noise:
            text = (
                f"{name or 'The model'} is collapsing: pairwise MS-SSIM {of_samples:.2f} against {similarity:.2f} for "
                "real images"
            )
            act = lost > _LOST_MUCH and (worse or rising is None)
            found.append(Finding("collapse", name, lost, _LOST, text, act=act))
    return found


def _duplicates(
    real: _Real, samples: Tensor, memory: dict[str, Any], figures: dict[str, float], *, late: bool, rising: bool | None
) -> list[Finding]:
    """Count samples of other seeds that are the same picture."""
    same = _to_nearest(_vectors(samples)) < _DUPLICATE_DISTANCE * real.nearest
    share = figures["duplicates"] = float(same.mean())
    worse = _is_worse(memory, "duplicates", share, _DUPLICATES) and not rising
    if not (share > _DUPLICATES and same.sum() >= 3 and (worse or late)):
        return []
    text = (
        f"The model repeats itself: {same.sum()} of {len(same)} samples are the same picture as another one, though "
        "their seeds differ"
    )
    return [Finding("duplicates", "", share, _DUPLICATES, text, act=worse or rising is None)]


def _memorisation(real: _Real, samples: Tensor, figures: dict[str, float]) -> list[Finding]:
    """Count samples that are closer to a training image than new patients ever are."""
    copies = _nearness(_vectors(samples), real.vectors) < _COPY_NEARNESS * real.nearness
    share = figures["copies"] = float(copies.mean())
    if not (share > _COPIES and copies.sum() >= 3):
        return []
    text = (
        f"The model repeats training images: {copies.sum()} of {len(copies)} samples are far closer to one than images "
        "of held-out patients are. Do not share its samples"
    )
    return [Finding("memorisation", "", share, _COPIES, text)]


def _overfitting(
    real: _Real, trainer: Trainer[Any], memory: dict[str, Any], figures: dict[str, float]
) -> list[Finding]:
    """Compare what the discriminator says of training, held-out and new images."""
    said = _realness(trainer, real.training, real.held_out)
    if said is None:
        return []
    training, held_out, generated = said
    gap, whole = training.mean() - held_out.mean(), training.mean() - generated.mean()
    noise = 3 * float(np.hypot(training.std() / len(training) ** 0.5, held_out.std() / len(held_out) ** 0.5))
    overfit = figures["overfitting"] = float(gap / whole) if whole > 0 else 0.0
    streak = memory["streaks"].get("overfitting", 0) + 1 if overfit > _OVERFIT and gap > noise else 0
    memory["streaks"]["overfitting"] = streak
    if streak < 2:
        return []
    text = (
        f"The discriminator knows its training images by heart: it finds those of held-out patients {overfit:.0%} of "
        f"the way from real to generated. {_more_augmentation(trainer)}"
    )
    return [Finding("overfitting", "discriminator", overfit, _OVERFIT, text)]


def _more_augmentation(trainer: Trainer[Any]) -> str:
    """Return what postpones overfitting, beyond what the options do already; without a full stop."""
    config, augment = trainer.config, trainer.augment
    if config.ada_target is None:
        return "--ada-target 0.6, or more --augment, postpones that"
    if isinstance(augment, AdaptiveAugment) and float(augment.probability) >= config.ada_limit:
        return f"More --augment, or an --ada-limit above {config.ada_limit:g}, postpones that"
    return f"--ada-target {round(config.ada_target - 0.2, 2):g}, or more --augment, postpones that"


def _is_worse(memory: dict[str, Any], what: str, value: float, margin: float) -> bool:
    """Whether a figure is that much above the lowest that it has been since the best model, if there is one."""
    memory["latest"][what] = value
    lowest = memory["lowest"][what] = min(value, memory["lowest"].get(what, value))
    return bool(value > lowest + margin)


def _reaction(illnesses: set[str], back: Path | None, *halved: str) -> _Reaction:
    """Return a reaction, with its text."""
    names = {"label": "the label weight", "discriminator_lr": "the discriminator's learning rate"}
    text = f"halved {names[halved[0]] if len(halved) == 1 else 'both learning rates'}"
    return _Reaction(illnesses, None if back is None else str(back), dict.fromkeys(halved, 0.5), False, text)


def _similarity(images: Tensor, scales: int) -> tuple[float, float]:
    """Return the mean MS-SSIM of pairs of images, and its standard error."""
    found = pair_similarity(images.clamp(-1, 1).numpy(), data_range=(-1, 1), pairs=_PAIRS, scales=scales)
    return found.mean, found.standard_error


def _vectors(images: Tensor) -> NDArray[np.float64]:
    """Return images as rows, averaged to a few pixels a side."""
    return _average(images, _PIXELS[images.ndim]).flatten(1).double().numpy()


def _distances(queries: NDArray[Any], references: NDArray[Any], k: int) -> NDArray[np.float64]:
    """Return the distances to the k nearest references, ``(N, k)``."""
    correlations = nearest_neighbours(queries, references, k=min(k, len(references))).values
    return np.asarray(np.sqrt(np.maximum(0, 2 - 2 * correlations)))


def _to_nearest(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of each image to the nearest other one."""
    return _distances(vectors, vectors, 2)[:, 1]


def _nearness(vectors: NDArray[Any], training: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance to the nearest training image, in units of that to the next ten."""
    distances = _distances(vectors, training, _NEIGHBOURS + 1)
    return np.asarray(distances[:, 0] / np.maximum(distances[:, 1:].mean(axis=1), 1e-9))


def _realness(
    trainer: Trainer[Any], training: Batch, held_out: Batch
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Ask the discriminator about training, held-out and new images, in whole batches; None if there are none."""
    available = min(len(held_out.images), len(training.images))
    size = min(trainer.config.batch_size, available)
    if not size:
        return None
    count = available // size * size
    said: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    # Spectral normalisation moves its vectors, and dropout draws, in training mode only.
    with evaluating(trainer.generator, trainer.discriminator), torch.inference_mode(), seeded(0, trainer.device):
        latents = trainer.generator.make_latents(count, torch.Generator().manual_seed(0)).to(trainer.device)
        for start in range(0, count, size):
            rows = slice(start, start + size)
            seen, unseen = (_rows(batch, rows, trainer.device) for batch in (training, held_out))
            _, *conditions = unseen
            made = Batch(trainer.generator.generate(latents[rows], *conditions), *conditions)
            for part, batch in zip(said, (seen, unseen, made), strict=True):
                part.append(trainer.discriminator(*batch).realness.float().cpu())
    first, second, third = (torch.cat(part).double().numpy() for part in said)
    return first, second, third


def _rows(batch: Batch, rows: slice, device: torch.device) -> Batch:
    """Return some images of a batch, on a device."""
    parts: list[Any] = [None if part is None else part.to(device) for part in batch.select(rows)]
    return Batch(*parts)


def _norm(trainer: Trainer[Any], name: str) -> Tensor:
    """Return the norm of a network's last gradient, as it was before it was clipped."""
    if name in trainer.gradient_norms:
        return trainer.gradient_norms[name].float()
    network = getattr(trainer, name)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not gradients:
        return torch.zeros((), device=next(network.parameters()).device)
    norms = torch.stack(torch._foreach_norm(gradients)).float()
    return norms.square().sum().sqrt()


def _checksum(network: nn.Module) -> Tensor:
    """Return a number that changes with any bit of any weight."""
    sums = [parameter.detach().float().view(torch.int32).sum() for parameter in network.parameters()]
    return torch.stack(sums).sum()
