"""The best model of a training is kept, and not only the last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medgan.core.gan import GAN
from medgan.core.saving import read_model
from medgan.core.trainer import Callback, Metrics, Trainer
from medgan.errors import CheckpointError, ConfigError, TrainingDivergedError
from medgan.training.callbacks import MetricsLog
from medgan.training.frozen_features import (
    FrozenFeatures,
    RandomFeatures,
    can_classify,
    read_classifier,
    train_features,
    write_classifier,
)
from medgan.training.health import HealthMonitor
from medgan.training.held_out import HeldOutScorer, HeldOutScores
from medgan.training.translation import TranslationScorer, TranslationScores

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = ["KeepBest"]

_SHARE = 0.03  # of the training's time, for all evaluations
_SHARE_OF_CLASSIFIER = 0.01  # of the training's time, part of the former
_EVALUATIONS = 20  # at most, where nobody says how often
_SHORTEST = 0.5  # seconds; less cannot even train a classifier
_LEAST_IMAGES = 6
_REMEMBERED = ("step", "score", "features", "healthy")


class KeepBest(Callback):
    """Scores the generator against held-out patients every so often, and keeps the model with the highest score.

    See `HeldOutScores.score` for what is better; translations of pairs are compared with the true images instead, see
    `TranslationScores.score`. The features are those of a small classifier that is trained once, on
    the training images, in about 1 % of the training's time, and kept beside the run; of images without classes or
    findings, and where that time is too short, those of random convolutions. Nothing that is trained is touched: the
    weights are the same without it.

    If nobody says how often, there are up to 20 evaluations, the last after the last step, as many as 3 % of the time
    allow, all in all. The first comes after a twentieth of the steps, when it is known how long the training takes; if
    the time does not allow for two evaluations there are none.

    With a budget of time it goes by the number of steps that the trainer plans, once there is a plan, and the last
    evaluation comes at the end of the training: only then is it sure which step is the last.

    What later evaluations are compared with is in `Trainer.memory`, so that a resume goes on from what its checkpoint
    knew. A model from beyond it, of a training that was killed, stays in ``checkpoints/best`` until there is a better
    one, and counts for nothing else.

    For the main process only: no other one has to wait for it.

    Args:
        gan: The model in training.
        training: Its training images.
        validation: Images of patients held out from it; None if there are none.
        folder: The run folder; ``checkpoints/best`` becomes the model, ``evaluation/classifier.safetensors`` the
            classifier.
        health: What looks at the samples of each evaluation; a model that it finds ill never takes the place of a
            healthy one, which takes that of an ill one. None for nothing.
        steps: Length of the whole training; None for as long as the trainer's budget allows.
        every: Steps between evaluations, with one more after the last step; None for the rule above.
        log: Where the scores go, one line an evaluation.
        say: Takes lines for the user.

    Attributes:
        record: What is known of the model in ``checkpoints/best``: ``step``, ``score`` and the other figures, and
            ``healthy`` where a monitor looked at it; None while there is none.
        seconds: Time that evaluations took since the start, training of the classifier and saving included.
        evaluations: Their number since the start.

    Raises:
        ConfigError: If `every` is below 1; in a training, if its budget is too short for one evaluation and `every`
            asks for some.
    """

    def __init__(
        self,
        gan: GAN,
        training: ImageDataset,
        *,
        validation: ImageDataset | None,
        folder: Path,
        health: HealthMonitor | None = None,
        steps: int | None,
        every: int | None = None,
        log: MetricsLog | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Store the arguments."""
        if every is not None and every < 1:
            raise ConfigError(f"every is {every}, expected at least 1, or None.")
        self.gan = gan
        self.training = training
        self.validation = validation
        self.model = folder / "checkpoints" / "best"
        self.classifier = folder / "evaluation" / "classifier.safetensors"
        self.health = health
        self.steps = steps
        self.every = every
        self.log = log
        self.say = say
        self.record: dict[str, Any] | None = None
        self.seconds = 0.0
        self.evaluations = 0
        self._by_budget = steps is None
        self._scorer: HeldOutScorer | TranslationScorer | None = None
        self._possible = False
        self._last: int | None = None
        self._next: int | None = None

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Look for the best model so far, and start the clock.

        Raises:
            ConfigError: If no number of steps was given, and the trainer has no budget either.
        """
        if self._by_budget and trainer.budget is None:
            raise ConfigError("Say how long the training is: KeepBest(..., steps=1000), or Trainer.use_budget before.")
        # What lies there at the very start is of a training that was killed before its first checkpoint.
        self.record = _read_record(self.model) if trainer.step else None
        self._begun, self._first_step = time.perf_counter(), trainer.step
        if self.validation is None or len(self.validation) < _LEAST_IMAGES:
            found = 0 if self.validation is None else len(self.validation)
            self.say(
                f"{found} images are held out for validation, and {_LEAST_IMAGES} at least are needed to choose the "
                "best model: the latest is kept."
            )
            return
        self._possible = True
        if self.steps is not None:
            self._next = self._first(trainer.step, self.steps)

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """Evaluate when it is time."""
        if self._by_budget and self._possible:
            self._follow_plan(trainer)
        if self._next is not None and trainer.step >= self._next:
            self._take_turn(trainer)

    def on_end(self, trainer: Trainer[Any]) -> None:
        """Evaluate the last step of a training with a budget, unless that has been done."""
        if self._by_budget and self._possible and self._last != trainer.step:
            self.steps = trainer.step
            self._take_turn(trainer)

    def _follow_plan(self, trainer: Trainer[Any]) -> None:
        """Take over the number of steps that a budget is enough for, and begin when there first is one."""
        assert trainer.budget is not None
        known, self.steps = self.steps is not None, trainer.total_steps or trainer.budget.total_steps
        if known or self.steps is None:
            return
        if self.every is not None:
            if self._first_step == 0:
                self._check_room(trainer)
            self._next = self._first(trainer.step - 1, self.steps) if self._possible else None
        else:
            self._next = max(trainer.step, self._first(self._first_step, self.steps))

    def _check_room(self, trainer: Trainer[Any]) -> None:
        """Raise if a budget is too short for one of the evaluations that were asked for, as soon as that is known."""
        try:
            trainer.check_finite()
        except TrainingDivergedError:
            return
        begun = time.perf_counter()
        self._possible = self._prepare(trainer)
        if self._scorer is not None and trainer.budget is not None:
            seconds = self._expected_seconds(self._scorer)
            trainer.budget.check_room(seconds, what="evaluation", option=f"--evaluate-every {self.every}")
        self.seconds += time.perf_counter() - begun

    def _take_turn(self, trainer: Trainer[Any]) -> None:
        """Evaluate, if that is possible, and say when to do it next."""
        try:
            trainer.check_finite()
        except TrainingDivergedError:
            return  # the losses of the next step are not finite either, in all processes: the trainer will say so
        self._next = None
        begun = time.perf_counter()
        try:
            self._possible = self._prepare(trainer)
            if self._possible:
                self.evaluate(trainer)
        except torch.cuda.OutOfMemoryError:
            # It would come at each evaluation, and after each resume; the training itself has room.
            self._possible = False
            torch.cuda.empty_cache()
            self.say(
                f"There is no room in the memory of {trainer.device} to evaluate, beside the training: no model is "
                "chosen from here on. A smaller --batch-size makes room, with --gradient-accumulation-steps to match."
            )
        self.seconds += time.perf_counter() - begun
        if self._possible:
            self._next = self._following(trainer.step, self._left(trainer))

    def evaluate(self, trainer: Trainer[Any]) -> HeldOutScores | TranslationScores:
        """Score the generator as it is, log that, and keep the model if it is the best so far.

        Raises:
            DataError: If its images are not finite.
            CheckpointError: If the model or the log cannot be written.
        """
        begun = time.perf_counter()
        scorer = self._scorer or self._make_scorer(trainer)
        scores = scorer.score(self.gan)
        self.evaluations += 1
        self._last = trainer.step
        figures = scores.to_dict()
        record = {"step": trainer.step, **figures, "features": scorer.identity}
        best: dict[str, Any] | None = trainer.memory.get("best")
        health: dict[str, float] = {}
        if self.health is not None and scorer.samples is not None:
            health, record["healthy"] = self.health.examine(
                trainer,
                scorer.samples,
                late=trainer.step > self._length / 2,
                score=figures["score"],
                best=best if best is not None and _is_healthy(best) else None,
            )
        if _is_better(record, self.record):
            self.record = record
            self.gan.save(self.model, evaluation=record)
        if _is_better(record, best):
            best = trainer.memory["best"] = {key: record[key] for key in _REMEMBERED if key in record}
            if self.health is not None and _is_healthy(record):
                self.health.note_best(trainer)
        assert best is not None
        self._cost = time.perf_counter() - begun
        if self.log is not None:
            extra = {"seconds": round(self._cost, 3), "best_step": best["step"]}
            named = {f"evaluation/{name}": value for name, value in (figures | extra).items()}
            self.log.write(trainer, named | health)
        return scores

    def summary(self) -> str | None:
        """Say which step was kept and how good it is; None if there is none."""
        if self.record is None:
            return None
        record = self.record
        names = {"coverage": "coverage", "kernel_distance": "kernel distance", "class_consistency": "class consistency"}
        names |= {"ssim": "SSIM", "psnr": "PSNR"}
        figures = ", ".join(f"{name} {record[key]:.3f}" for key, name in names.items() if key in record)
        text = f"step {record['step']:,} in {self.model}, score {record['score']:.3f} ({figures})"
        if self.evaluations:
            share = self.seconds / max(time.perf_counter() - self._begun, 1e-9)
            times = "evaluation" if self.evaluations == 1 else "evaluations"
            text += f"; {self.evaluations} {times} took {self.seconds:.1f} s, {share:.1%} of the time"
        return text

    def _first(self, step: int, total: int) -> int:
        """Return the step of the first evaluation after a step."""
        if self.every is not None:
            first = step + self.every - step % self.every
        else:
            first = step + math.ceil((total - step) / _EVALUATIONS)
        # A budget may turn out to be enough for more steps; its last one is left to `on_end`.
        return first if self._by_budget else min(total, first)

    def _following(self, step: int, seconds_left: float) -> int | None:
        """Return the step of the next evaluation, which lets the last one fall on the last step."""
        total = self._length
        if step >= total:
            return None
        if self.every is not None:
            return self._first(step, total)
        spacing = max(1, (total - self._first_step) / _EVALUATIONS)
        affordable = int(seconds_left / max(self._cost, 1e-9))
        # The last model is always looked at: it is the one that would be used otherwise.
        number = max(1, min(affordable, round((total - step) / spacing)))
        if number == 1 and self._by_budget:
            return None
        return step + math.ceil((total - step) / number)

    def _left(self, trainer: Trainer[Any], share: float = _SHARE) -> float:
        """Return how many seconds of a share of the whole training's time are left."""
        trained = time.perf_counter() - self._begun - self.seconds
        a_step = trained / max(1, trainer.step - self._first_step)
        return share * a_step * (self._length - self._first_step) - self.seconds

    @property
    def _length(self) -> int:
        """The number of steps in all, as far as that is known when it is time for an evaluation."""
        assert self.steps is not None
        return self.steps

    def _prepare(self, trainer: Trainer[Any]) -> bool:
        """Make what scores, if there is not one yet; returns whether there is time for it."""
        if self._scorer is not None:
            return True
        begun, left = time.perf_counter(), self._left(trainer)
        short = f"This training is too short to choose its best model in {_SHARE:.0%} of its time: the latest is kept"
        if self.every is None and left < _SHORTEST:
            self.say(f"{short}. To choose one all the same, type --evaluate-every with a number of steps.")
            return False
        try:
            scorer = self._make_scorer(trainer)
        except ConfigError as error:
            self.say(f"{error} The latest model is kept.")
            return False
        if self.every is not None:
            return True
        expected = self._expected_seconds(scorer)
        if time.perf_counter() - begun + 2 * expected > left:
            self.say(f"{short}: one evaluation takes {expected:.1f} s. --evaluate-every N evaluates all the same.")
            return False
        return True

    def _expected_seconds(self, scorer: HeldOutScorer | TranslationScorer) -> float:
        """Return how long an evaluation is going to take, by that of a few samples."""
        begun = time.perf_counter()
        count = min(64, scorer.count)
        images = scorer.sample(self.gan, count)
        if isinstance(scorer, HeldOutScorer):
            scorer.features.describe(images)
        seconds = (time.perf_counter() - begun) * scorer.count / count
        return seconds + (0.0 if self.health is None else self.health.seconds)

    def _make_scorer(self, trainer: Trainer[Any]) -> HeldOutScorer | TranslationScorer:
        """Return what scores, with a classifier that is trained now unless the run has one, or none is needed."""
        assert self.validation is not None
        if self.validation.sources is not None and self.validation.spec.paired:
            self._scorer = TranslationScorer(self.validation)
        else:
            features = self._features(trainer, self._left(trainer, _SHARE_OF_CLASSIFIER))
            self._scorer = HeldOutScorer(self.validation, features)
        if self.health is not None:
            self.health.prepare(self._scorer.held_out, self.training, self._scorer.classes)
        records = (self.record, trainer.memory.get("best"))
        if any(record is not None and record["features"] != self._scorer.identity for record in records):
            self.say(f"The scores of {self.model} are of other features, and cannot be compared; it begins anew.")
            self.record = None
            trainer.memory.pop("best", None)
        return self._scorer

    def _features(self, trainer: Trainer[Any], seconds: float) -> FrozenFeatures:
        """Return the run's classifier, trained if there is none yet, or random convolutions."""
        device = trainer.device
        found = read_classifier(self.classifier, self.training, device=device)
        if found is not None:
            return found
        if can_classify(self.training):
            begun = time.perf_counter()
            try:
                trained = train_features(self.training, seconds=seconds, required=self.every is not None, device=device)
                reason = "there is no time for"
            except TrainingDivergedError:
                trained, reason = None, "there was a loss that was not finite in the training of"
            if trained is None:
                self.say(f"Random convolutions choose the best model: {reason} a classifier.")
            else:
                made, steps = trained
                write_classifier(self.classifier, made, self.training)
                self.say(
                    f"Trained {made.name} on {len(self.training):,} training images, {steps:,} steps in "
                    f"{time.perf_counter() - begun:.1f} s: its features choose the best model."
                )
                return made
        return RandomFeatures(self.training.spec, device=device)


def _is_healthy(record: Mapping[str, Any]) -> bool:
    """Whether a model was not found ill, by a monitor that looked at it."""
    return bool(record.get("healthy", True))


def _is_better(record: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether a model is better than another: a healthy one than an ill one, else that of the higher score.

    Scores of 0 say nothing, as those of noise: of two such models the later one is better, having been trained longer.
    """
    if other is None or _is_healthy(record) != _is_healthy(other):
        return other is None or _is_healthy(record)
    score, before = float(record["score"]), float(other["score"])
    return score > before or score == before == 0


def _read_record(model: Path) -> dict[str, Any] | None:
    """Return what a kept model says of its scores; None if there is none."""
    try:
        record = read_model(model)[1].get("evaluation")
    except CheckpointError:
        return None
    return dict(record) if isinstance(record, Mapping) and {"step", "score", "features"} <= record.keys() else None
