"""The algorithm: `Trainer` moves two networks with batches; it knows no file, no logger, no epoch."""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan import losses
from medgan.augment import AdaptiveAugment, DiffAugment
from medgan.core.budget import Budget, format_duration
from medgan.core.config import GANConfig
from medgan.core.distribution import PATIENCE_OF_STEPS, broadcast_from_main, gather, mean_of_processes, together
from medgan.core.networks import Discriminator, Generator, frozen
from medgan.core.randomness import get_random_state, seeded, set_random_state
from medgan.core.spec import Batch, DataSpec
from medgan.errors import CheckpointError, ConfigError, DataError, PluginError, TrainingDivergedError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["AdversarialTrainer", "Callback", "Metrics", "Trainer", "make_accelerator"]

_LECAM_DECAY = 0.99  # of its running means, for each discriminator step
_WATCHED_EVERY = 10  # steps from one look at what the discriminator says to the next

C = TypeVar("C", bound=GANConfig)
T = TypeVar("T")
# Named values of one step, 0-d tensors on the training device, detached.
Metrics = dict[str, Tensor]


class Callback:
    """Something that watches a training; override what is needed.

    A callback may be left out without changing a single weight of a training in which nothing goes wrong. What must
    survive a resume belongs into `Trainer.state_dict`; `Trainer.memory` is part of it.
    """

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Before the first step of a `Trainer.fit`."""

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """After each step; `trainer.step` already counts it."""

    def on_end(self, trainer: Trainer[Any]) -> None:
        """After the last step, when nothing went wrong."""

    def on_diverged(self, trainer: Trainer[Any], error: TrainingDivergedError) -> bool:
        """A loss or weight became NaN or infinite; in all processes at the same step.

        Args:
            trainer: The training, with weights that are of no use any more.
            error: What is raised unless a callback helps.

        Returns:
            Whether the training can go on, as `Trainer.go_back` has given it other weights.
        """
        return False


class Trainer(ABC, Generic[C]):
    """Moves a generator and a discriminator; a subclass says how in `train_step`.

    Args:
        generator: The generator; moved to the device, trained in place.
        discriminator: The discriminator; moved to the device, trained in place.
        config: The options.
        data: Facts of the data.
        accelerator: Device, precision and distribution; see `make_accelerator`. None for the
            best device there is, in float32.

    Raises:
        ConfigError: If the discriminator has fewer blocks than `GANConfig.freeze_discriminator`.

    Attributes:
        device: Where the networks are.
        averaged_generator: Exponential moving average of the generator's weights (Polyak; half-life
            `GANConfig.ema_halflife`) and of the statistics of its batch normalisations, the network to sample with.
        optimizers: One for each network, ``"generator"`` and ``"discriminator"``.
        step: Steps done.
        images_seen: Real images used, over all processes.
        total_steps: Length of the whole training, which the decay of the learning rates ends with; None until `fit`
            knows it, and without such a decay or, with a budget, until that is over.
        budget: Time that the training may take, from `use_budget`; None if its length is said in steps.
        budget_before: State of the budget that a resumed training had; None if it had none.
        class_metrics: What `log_by_class` was told of in the last step: by name a figure of each class, shape ``(K,)``,
            NaN for a class without an image in the batch.
        factors: What loss terms, by their names, and learning rates, by those of their options such as
            ``discriminator_lr``, are multiplied by. Empty unless something that watches the training changes it; part
            of its state.
        gradient_norms: Norm of each network's gradient in its last update, 0-d, before it was clipped; empty without
            `GANConfig.clip_norm`.
        ended: Set by a callback to end the `fit` that is going on after the step at hand.
        memory: Plain values that callbacks have to know after a resume, by the callback's name; part of the state.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        config: C,
        data: DataSpec,
        *,
        accelerator: Accelerator | None = None,
    ) -> None:
        """Place the networks and create the optimizers."""
        self.accelerator = accelerator or make_accelerator()
        self.device = torch.device(self.accelerator.device)
        self.config = config
        self.data = data
        self.generator = self._place(generator)
        self.discriminator = self._place(discriminator)
        _freeze_stages(self.discriminator, config.freeze_discriminator)
        self.averaged_generator = self.generator
        if config.ema_halflife > 0:
            self.averaged_generator = copy.deepcopy(self.generator).requires_grad_(False)
        self.augment = self._place(self.make_augmentation())
        self.optimizers = {
            name: self.accelerator.prepare_optimizer(optimizer) for name, optimizer in self.make_optimizers().items()
        }
        if config.lr_decay:
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["initial_lr"] = group["lr"]
        self.step = 0
        self.images_seen = 0
        self.total_steps: int | None = None
        self.budget: Budget | None = None
        self.budget_before: dict[str, Any] | None = None
        self.class_metrics: Metrics = {}
        self.factors: dict[str, float] = {}
        self.ended = False
        self.memory: dict[str, Any] = {}
        self.gradient_norms: dict[str, Tensor] = {}
        self._class_totals: Metrics = {}
        # Which of how many batches whose gradients make one step is at hand.
        self._part, self._parts = 0, 1
        # What `draw` draws from is the same in all processes. What networks draw by themselves, as dropout does, is
        # each process's own; the stride keeps neighbouring seeds apart.
        self._shared_rng = torch.Generator(self.device).manual_seed(config.seed + 2)
        with seeded(config.seed + 1_000_003 * self.accelerator.process_index, self.device):
            self._random_state = get_random_state(self.device)

    @abstractmethod
    def train_step(self, batch: Batch) -> Metrics:
        """Do one step (level 3 of customisation: replace it whole).

        Args:
            batch: ``GANConfig.images_per_step`` real images with their labels, on the device.

        Returns:
            Named values, 0-d and detached; names become log keys such as ``discriminator/real``.
        """

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return a fresh optimizer for each network, keyed by the network's attribute name."""
        betas = (self.config.beta1, self.config.beta2)
        rates = {"generator": self.config.generator_lr, "discriminator": self.config.discriminator_lr}
        return {
            name: torch.optim.Adam(getattr(self, name).parameters(), rate, betas, foreach=True)
            for name, rate in rates.items()
        }

    def make_augmentation(self) -> nn.Module:
        """Return what distorts real and fake images before the discriminator sees them."""
        return make_augmentation(self.config)

    def schedule(self) -> None:
        """Set what changes as the training goes on, before each step; extend with ``super()``.

        Here that is the learning rates: at the end they fall in a straight line from their ``initial_lr``, with
        `GANConfig.lr_decay`, and `factors` count. What is set must follow from `step`, `images_seen`, `total_steps`,
        `factors` and the options alone, so that a resumed training finds it again.
        """
        total = self.total_steps
        decays = bool(self.config.lr_decay) and total is not None
        share = min(1.0, (total - self.step) / (self.config.lr_decay * total)) if decays and total else 1.0
        for name, optimizer in self.optimizers.items():
            factor = f"{name}_lr"
            if decays or factor in self.factors:
                for group in optimizer.param_groups:
                    rate = group.setdefault("initial_lr", group["lr"])
                    group["lr"] = rate * share * self.factors.get(factor, 1.0)

    def ema_halflife(self) -> float:
        """Return the half-life of the averaged generator's weights by now, in images; override for another schedule."""
        halflife = float(self.config.ema_halflife)
        if self.config.ema_rampup is not None:
            halflife = min(halflife, self.config.ema_rampup * self.images_seen)
        return halflife

    def use_budget(self, budget: Budget) -> None:
        """Give the training a time instead of a number of steps; `fit` without steps keeps to it.

        The number of steps is planned as the training goes on, the same in all processes. With `GANConfig.lr_decay` it
        is fixed when the learning rates have to begin to fall, as `total_steps`, and does not change any more.

        Args:
            budget: The time; what a resumed training had spent already is counted in.

        Raises:
            ConfigError: If the time is over, or the length of the training was fixed before by something else.
        """
        before = self.budget_before if self.budget is None else self.budget.state_dict()
        if before is not None:
            budget.load_state_dict(before)
        if self.total_steps is not None and (before is None or before["seconds"] != budget.seconds):
            if self.config.lr_decay:
                origin = "steps" if before is None else f"a budget of {format_duration(before['seconds'])}"
                raise ConfigError(
                    f"The length of this training, {self.total_steps:,} steps, was fixed before, by {origin}; another "
                    "budget would change how its learning rates fall. Leave --budget out, or begin a new training."
                )
            self.total_steps = None
        over = self.total_steps is None and budget.spent >= budget.seconds
        if self._from_main(int(over))[0]:
            budget.check()
            raise budget.too_short(self.step)  # in a process whose own clock is behind
        self.budget = budget

    def fit(
        self,
        batches: Iterable[Batch],
        steps: int | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        total_steps: int | None = None,
    ) -> None:
        """Train.

        Args:
            batches: At least `steps` batches, on the training device.
            steps: Steps to do, beyond those done already; None for as many as the budget allows, see `use_budget`.
            callbacks: Told of the start, of every step and of the end, in this order.
            total_steps: Length of the whole training, of which `steps` may be a part; with `GANConfig.lr_decay` the
                learning rates depend on it. None for what an earlier call said or implied, else the end of this one.

        Raises:
            ConfigError: If `steps` is negative, or missing without a budget; or, with a decay of the learning rates, if
                the training would go beyond `total_steps`, or another one was said when the decay began; or if the
                budget is too short to plan the training.
            DataError: If the batches run out.
            TrainingDivergedError: If a loss or weight is NaN or infinite, and no callback knows what to do.
        """
        final: int | None
        budget = self.budget if steps is None else None
        if steps is None:
            if budget is None:
                raise ConfigError("Say how long to train: a number of steps, or use_budget before.")
            final = self.total_steps
            budget.begin(self.step)
        else:
            if steps < 0:
                raise ConfigError(f"The number of steps must be at least 0, got {steps}.")
            final = self.step + steps
            if self.config.lr_decay:
                self._plan(final, total_steps)
        states = [getattr(self, name).state_dict() for name in self.stateful_modules()]
        broadcast_from_main(self.accelerator, [tensor for state in states for tensor in state.values()])
        watching = (lambda number: nullcontext()) if budget is None else budget.watching
        for number, callback in enumerate(callbacks):
            with watching(number):
                callback.on_start(self)
        stream = iter(batches)
        alone = self.accelerator.num_processes == 1
        self.ended = False
        while not self.ended and (final is None or self.step < final):
            batch = next(stream, None)
            if batch is None:
                wanted = "more" if final is None else str(final)
                raise DataError(
                    f"The batches ran out at step {self.step}; {wanted} were asked for. Pass an endless stream."
                )
            self.class_metrics = {}
            self._class_totals = {}
            self.schedule()
            with self._own_randomness():
                metrics = self.train_step(batch)
            self.step += 1
            self.images_seen += len(batch.images) * self.accelerator.num_processes
            self._average()
            if budget is not None and self.step == final:
                self.total_steps = final  # a checkpoint of the last step knows that it is the last
            try:
                # Reading a value makes an accelerator wait, hence not at every step there.
                if self.may_wait() or self.step == final:
                    self.check_finite(metrics)
                for number, callback in enumerate(callbacks):
                    with watching(number):
                        callback.on_step(self, metrics)
            except TrainingDivergedError as error:
                helped = [callback.on_diverged(self, error) for callback in callbacks]
                if not any(helped):
                    raise
            # So does asking other processes.
            if budget is not None and self.total_steps is None and (alone or self.may_wait()):
                final = self._plan_by(budget)
        for callback in callbacks:
            callback.on_end(self)

    def may_wait(self) -> bool:
        """Return whether a value may be read, or another process asked, after the step that was done.

        An accelerator works on while Python prepares the next steps, unless it is asked for something: there that is
        every 16th step. The same in all processes.
        """
        return self.device.type == "cpu" or self.step % 16 == 0

    def update(self, network: str, terms: Mapping[str, Tensor]) -> Metrics:
        """Move one network down the gradient of the sum of some loss terms.

        The one seam for precision and distribution: scaling and unscaling, averaging of gradients
        over processes and accumulated batches and clipping all happen here.

        Args:
            network: ``"generator"`` or ``"discriminator"``.
            terms: Named, already weighted scalars.

        Returns:
            The terms, detached, their names prefixed by the network's.
        """
        optimizer = self.optimizers[network]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self._part == 0:
            optimizer.zero_grad(set_to_none=True)
        if self.factors:
            terms = {name: self.factors.get(name, 1.0) * term for name, term in terms.items()}
        self.accelerator.backward(torch.stack([term.float() for term in terms.values()]).sum() / self._parts)
        if self._part == self._parts - 1:
            self._average_gradients(parameters)
            if self.config.clip_norm is not None:
                self.accelerator.unscale_gradients(optimizer)
                self.gradient_norms[network] = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            optimizer.step()
        return {f"{network}/{name}": term.detach() for name, term in terms.items()}

    def draw(self, n: int, make: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Draw something for each image of a step, and return what belongs to the images at hand.

        Every process draws for all images of the step, those of other processes and of other accumulated batches
        included, from the same state. So the numbers do not depend on how the images are divided: two processes with
        batches of 16 draw what one with a batch of 32 does.

        Args:
            n: Number of images at hand; the same in every process and accumulated batch.
            make: Draws for a number of images, from a generator on the training device; the first axis of its result
                has that length. `Generator.make_latents` is one.

        Returns:
            `n` rows of what was made.
        """
        processes = self.accelerator.num_processes
        first = n * (self._part * processes + self.accelerator.process_index)
        return make(n * self._parts * processes, self._shared_rng)[first : first + n]

    def log_by_class(self, name: str, values: Tensor, labels: Tensor | None) -> None:
        """Log the mean of a figure in each class; the one thing that a loss hook may do beside its losses.

        Args:
            name: What it is, such as ``discriminator/label``; the log adds the names of the classes.
            values: Shape ``(N,)``, one for each image.
            labels: The labels of the images; nothing is logged without labels, and of labels that are no classes.
        """
        if self.data.labels is None or labels is None or labels.ndim != 1:
            return
        members = F.one_hot(labels, len(self.data.labels)).float()
        # No matrix product: autocast would take its precision down.
        totals = torch.stack([(values.detach().float().unsqueeze(1) * members).sum(dim=0), members.sum(dim=0)])
        if self._part and name in self._class_totals:
            totals = totals + self._class_totals[name]
        self._class_totals[name] = totals
        self.class_metrics[name] = totals[0] / totals[1]

    def check_finite(self, metrics: Metrics | None = None) -> None:
        """Raise if something is NaN or infinite.

        Args:
            metrics: Values of a step, which are looked at in all processes: every one has to call this. None to look
                through all weights instead, which are the same in all.

        Raises:
            TrainingDivergedError: If so; it names what was.
        """
        of_step = metrics is not None
        if metrics is None:
            metrics = {
                f"{network}.{name}": value
                for network in ("generator", "discriminator", "averaged_generator")
                for name, value in getattr(self, network).state_dict().items()
            }
        finite = torch.stack([torch.isfinite(value).all().to(self.device) for value in metrics.values()])
        if of_step:  # a loss may be NaN in one process alone, and all of them have to stop at the same step
            finite = mean_of_processes(self.accelerator, finite.float()) == 1
        if not finite.all():
            names = [name for name, good in zip(metrics, finite.tolist(), strict=True) if not good]
            limit = self.config.clip_norm
            raise TrainingDivergedError(
                f"Training diverged at step {self.step:,}: {', '.join(names[:4])} became NaN or infinite. "
                "What was saved before is untouched. Train anew with a lower --generator-lr and "
                f"--discriminator-lr, or with --clip-norm {10 if limit is None else limit / 2:g}."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resume needs, as tensors and plain values.

        With several processes all of them have to call this.
        """
        return {
            **self.weights(),
            "images_seen": self.images_seen,
            "total_steps": self.total_steps,
            "budget": self.budget_before if self.budget is None else self.budget.state_dict(),
            "factors": dict(self.factors),
            "memory": copy.deepcopy(self.memory),
            "random": gather(self.accelerator, self._random_state),
            "shared_random": {self.device.type: self._shared_rng.get_state()},
        }

    def weights(self) -> dict[str, Any]:
        """Return what `go_back` takes, which is less than a resume needs; each process can have it by itself."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            **{name: getattr(self, name).state_dict() for name in self.stateful_modules()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Args:
            state: What `state_dict` returned.

        Raises:
            CheckpointError: If the state is of other networks, or of another number of processes.
        """
        missing = sorted({"step", "images_seen", "optimizers", "scaler", "random", "shared_random"} - state.keys())
        if missing:
            raise CheckpointError(f"This is not a checkpoint of a training: it lacks {', '.join(missing)}.")
        if len(state["random"]) != self.accelerator.num_processes:
            raise CheckpointError(
                f"This checkpoint was written by {len(state['random'])} process(es), now there are "
                f"{self.accelerator.num_processes}. Resume with the same number."
            )
        self._load_weights(state)
        self.factors = dict(state.get("factors", {}))
        self.memory = copy.deepcopy(state.get("memory", {}))
        self.step = int(state["step"])
        self.images_seen = int(state["images_seen"])
        self.total_steps = state.get("total_steps")
        self.budget_before = state.get("budget")
        self._random_state = dict(state["random"][self.accelerator.process_index])
        # Of another kind of device it is left out, as in `set_random_state`.
        if self.device.type in state["shared_random"]:
            self._shared_rng.set_state(state["shared_random"][self.device.type].cpu())

    def go_back(self, state: Mapping[str, Any]) -> None:
        """Take the weights of an earlier state of this training, with all that belongs to them, and go on from here.

        Steps and images are counted on, and the batches, the random numbers and the schedule of the learning rates are
        those that would have come anyway: a training that went wrong need not do so again, and ends when it was to end.
        With several processes all of them have to call this, with the same state.

        Args:
            state: What `weights` or `state_dict` returned before.

        Raises:
            CheckpointError: If the state is of other networks.
        """
        self._load_weights(state)

    def _load_weights(self, state: Mapping[str, Any]) -> None:
        """Load networks, optimizers and the scale of the gradients."""
        missing = sorted(set(self.stateful_modules()) - state.keys())
        if missing:
            raise CheckpointError(f"This checkpoint is of another architecture: it lacks {', '.join(missing)}.")
        try:
            for name in self.stateful_modules():
                getattr(self, name).load_state_dict(state[name])
            for name, optimizer in self.optimizers.items():
                # torch's optimizers keep the tensors that they load, and would train the caller's.
                optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"This checkpoint does not fit these networks: {reason}") from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def stateful_modules(self) -> tuple[str, ...]:
        """Return the names of the attributes whose state is part of the training's.

        They are in its checkpoints, are the same in all processes, and go back with the weights when a training goes
        back. A trainer that keeps more from step to step, such as a moving average or a pool of images, keeps it in
        buffers of a module, and adds the module's name.
        """
        return ("generator", "discriminator", "averaged_generator", "augment")

    def _plan(self, final: int, total_steps: int | None) -> None:
        """Fix the length of the whole training, or raise if that would change what was done already."""
        before = self.total_steps
        total = total_steps or before or final
        if total < final:
            raise ConfigError(
                f"The learning rates fall to 0 at step {total:,}, and the training is to go on to step {final:,}. Say "
                f"how long all of it is before it begins: fit(..., total_steps={final})."
            )
        # The first step whose learning rate was lowered is the one after `whole` steps.
        whole = (1 - self.config.lr_decay) * min(total, before or total)
        if before not in (None, total) and self.step - 1 > whole:
            raise ConfigError(
                f"This training was begun for {before:,} steps, and its learning rates have been falling since step "
                f"{int(whole):,}; {total:,} steps would be another training. Begin a new one of that length."
            )
        self.total_steps = total

    def _plan_by(self, budget: Budget) -> int | None:
        """Return the number of steps in all that a budget is enough for, None if unknown yet; fix it when due."""
        planned = budget.plan(self.step)
        decay = self.config.lr_decay
        due = decay > 0 and planned is not None and self.step >= (1 - decay) * planned and budget.may_fix()
        total, fixed = self._from_main(-1 if planned is None else planned, int(due))
        if total < 0:
            return None
        if total == 0:
            raise budget.too_short(self.step)
        budget.total_steps = total
        if fixed or total == self.step:
            self.total_steps = total
        return total

    def _from_main(self, *numbers: int) -> tuple[int, ...]:
        """Return what the main process says, in all processes."""
        if self.accelerator.num_processes == 1:
            return numbers
        told = torch.tensor(numbers, device=self.device)
        broadcast_from_main(self.accelerator, [told])
        return tuple(told.tolist())

    def _place(self, module: Any) -> Any:
        """Move a module to the device, in the memory format that convolutions prefer."""
        return module.to(device=self.device, memory_format=memory_format(self.data))

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Run a step on the trainer's random state, and leave the caller's as it was."""
        outer = get_random_state(self.device)
        set_random_state(self._random_state, self.device)
        try:
            yield
        finally:
            self._random_state = get_random_state(self.device)
            set_random_state(outer, self.device)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged generator towards the generator."""
        if self.averaged_generator is self.generator:
            return
        images = self.images_seen / self.step
        weight = 1 - 0.5 ** (images / max(self.ema_halflife(), 1e-8))
        torch._foreach_lerp_(list(self.averaged_generator.parameters()), list(self.generator.parameters()), weight)
        statistics = _batch_statistics(self.generator)
        for (name, average), current in zip(
            self.averaged_generator.named_buffers(), self.generator.buffers(), strict=True
        ):
            # What a batch normalisation measures belongs to the weights before it, and is averaged as they are.
            average.lerp_(current, weight) if name in statistics else average.copy_(current)

    def _average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes.

        One flat all-reduce instead of DistributedDataParallel: that wrapper expects one forward and
        one backward of every parameter in turn, which alternating networks, frozen weights and
        gradient penalties all break.
        """
        if self.accelerator.num_processes == 1:
            return
        # A weight may have a gradient in one process and none in another, such as the embedding of a class: there it
        # counts as zero. How many have one travels along, as a weight without any has to stay without.
        parameters = [weight for weight in parameters if weight.requires_grad]
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in parameters]
        present = torch.tensor([float(weight.grad is not None) for weight in parameters], device=self.device)
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), present])
        flat = mean_of_processes(self.accelerator, flat)
        sizes = [*(gradient.numel() for gradient in gradients), len(parameters)]
        *means, present = torch.split(flat, sizes)
        for number, (weight, gradient, mean) in enumerate(zip(parameters, gradients, means, strict=True)):
            if weight.grad is None and not present[number]:
                continue
            weight.grad = gradient.copy_(mean.view_as(gradient))


class AdversarialTrainer(Trainer[C]):
    """Alternates discriminator and generator steps; a subclass gives the two losses.

    It makes the fakes and detaches them, freezes the discriminator in the generator's step, augments
    real and fake images alike, and draws the fakes' labels. Its stabilisers work on the realness that
    the discriminator gives, whatever the losses: gradient penalties, LeCam, and the adaptive chance of
    the augmentation.

    Raises:
        ConfigError: If the discriminator cannot take the gradient penalty that the options ask for, or
            an augmentation of the architecture's own cannot be adaptive.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        config: C,
        data: DataSpec,
        *,
        accelerator: Accelerator | None = None,
    ) -> None:
        """Place the networks, create the optimizers and what the stabilisers need."""
        super().__init__(generator, discriminator, config, data, accelerator=accelerator)
        self._rejected: _Rejected | None = None
        self.anchors = self._place(_Anchors()) if config.lecam_weight else None
        if config.ada_target is not None and not isinstance(self.augment, AdaptiveAugment):
            raise ConfigError(
                "--ada-target steers medgan's augmentation, but this architecture brings its own. Leave it out."
            )
        if config.gradient_penalty != "none":
            self._check_gradient_penalty()

    @property
    def realness_is_relative(self) -> bool:
        """Whether the sign of the realness means nothing, because the losses see differences only or part elsewhere.

        An adaptive augmentation then goes by pairs of a real and a generated image, not by the sign on real images.
        """
        return False

    @abstractmethod
    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Return the discriminator's loss (level 2: override the losses).

        Args:
            real: Real images, augmented, and their labels.
            fake: Generated images, augmented and detached, and the labels that they were made from.

        Returns:
            Named scalars, weighted already. Call `self.discriminator`, and change nothing.
        """

    @abstractmethod
    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """Return the generator's loss.

        Args:
            real: Real images, augmented, and their labels.
            fake: Generated images, augmented, and the labels that they were made from.

        Returns:
            Named scalars, weighted already. Call `self.discriminator`, and change nothing.
        """

    def reject(self, images: Batch, *, share: float) -> None:
        """Show the discriminator images that the generator is not to make, as if they were generated ones.

        In each of its steps a generated image makes way for one of them, of the same class, with the chance `share`. At
        the optimum the generator then makes what is in the data, less the rejected images in that proportion (negative
        examples, as in Sinha et al., 2021, arXiv:2102.05113). They are no part of the training's state: say it again
        after a resume.

        Args:
            images: On any device; labels as the data has them, or None without.
            share: Chance, at least 0 and below 1.

        Raises:
            ConfigError: If the share is another, or the labels do not fit the data.
        """
        if self.data.source_channels:
            raise ConfigError("Rejected images have no sources; an architecture that translates cannot take them.")
        if not 0 <= share < 1:
            raise ConfigError(f"The share of rejected images must be at least 0 and below 1, got {share:g}.")
        if not len(images.images) or (images.labels is None) != (self.data.labels is None):
            raise ConfigError("Rejected images need labels where the data has them, and there has to be one at least.")
        self._rejected = _Rejected(images, self.data, share, self.device)

    def make_labels(self, real: Batch) -> Tensor | None:
        """Return the labels to generate from; those of the real images unless overridden.

        Equal labels in both halves keep the discriminator from telling them apart by their class
        shares.
        """
        return real.labels

    def gradient_penalty(self, real: Batch, fake: Batch) -> Tensor:
        """Return the weighted gradient penalty of `GANConfig.gradient_penalty`; in float32, outside autocast.

        ``r1`` is ``γ/2 E[‖∇D(T(x))‖²]`` on real images, T being the augmentation and the gradient that with respect to
        the image before it; ``r2`` is the same on generated images, and ``r1r2`` the sum. ``wgan-gp`` is
        ``γ E[(‖∇D(x̂)‖ − 1)²]`` at x̂ between augmented real and generated images, judged as of the real one's label.
        With `GANConfig.penalty_one_in` k the mean is that of one image, drawn anew, of each k that follow each other.

        Args:
            real: Real images, not augmented, and their labels.
            fake: Generated images, not augmented and detached, and their labels.

        Returns:
            Scalar, at least 0; add it to the discriminator's terms.
        """
        kind, weight = self.config.gradient_penalty, self.config.penalty_weight
        if self.config.penalty_one_in > 1:
            some = self._one_in(self.config.penalty_one_in, len(real.images))
            real, fake = real.select(some), fake.select(some)
        if kind == "wgan-gp":
            weight = 10.0 if weight is None else weight
            seen, fakes = self._augmented_halves(real, fake)
            on_real, on_fake = seen.images, fakes.images
            share = self.draw(len(on_real), _uniform).view(-1, *[1] * (on_real.ndim - 1))
            between = torch.lerp(on_fake, on_real, share).detach().requires_grad_()
            realness = self.discriminator(*replace(seen, images=between)).realness
            return weight * losses.one_centred_gradient_penalty(realness, between)
        weight = 1.0 if weight is None else weight
        halves = {"r1": [real], "r2": [fake], "r1r2": [real, fake]}[kind]
        squares = []
        for half in halves:
            images = half.images.detach().float().requires_grad_()
            realness = self.discriminator(*self._augmented(replace(half, images=images))).realness
            squares.append(losses.zero_centred_gradient_penalty(realness, images))
        return weight / 2 * torch.stack(squares).sum()

    def _one_in(self, k: int, n: int) -> Tensor:
        """Draw one place of each `k` that follow each other among `n`; shape ``(ceil(n / k),)``.

        Drawn, as the classes of a batch come in a fixed order: every k-th image may be one of the same class at each
        step. One of each k, as these are the images that a single process takes, where k divides a process's batch.
        """
        starts = torch.arange(0, n, k, device=self.device)
        shares = self.draw(len(starts), _uniform)
        return starts + (shares * (n - starts).clamp(max=k)).long()

    def train_step(self, batch: Batch) -> Metrics:
        """Do `GANConfig.discriminator_steps` discriminator steps, then one generator step.

        Each step is down the mean gradient of `GANConfig.gradient_accumulation_steps` batches.
        """
        metrics: Metrics = {}
        for number, images in enumerate(batch.chunk(self.config.discriminator_steps)):
            some = [(real, self.make_labels(real)) for real in self._parts_of(images)]
            due = (self.step * self.config.discriminator_steps + number) % self.config.penalty_every == 0
            watch = self.step % _WATCHED_EVERY == 0 and number == 0
            penalise = due and self.config.gradient_penalty != "none"
            metrics |= self._discriminator_step(some, penalise=penalise, watch=watch)
        # `some` are those of the last discriminator step; the latents are fresh.
        metrics |= self._generator_step(some)
        if isinstance(self.augment, AdaptiveAugment):
            metrics["augment/probability"] = self.augment.probability.clone()
        return metrics

    def _discriminator_step(
        self, some: Sequence[tuple[Batch, Tensor | None]], *, penalise: bool, watch: bool
    ) -> Metrics:
        """Move the discriminator, by batches of real images and the labels of their fakes; `watch` what it says."""
        config = self.config
        needed = bool(config.lecam_weight) or config.ada_target is not None
        logged: list[Metrics] = []
        unsaid: list[str] = []
        said: list[Tensor] = []
        for real, labels in self._accumulating(some):
            latents = self.draw(len(real.images), self.generator.make_latents)
            with self.accelerator.autocast():
                with torch.no_grad():
                    fake = self._make_fakes(latents, labels, real)
                if self._rejected is not None:
                    fake = self._rejected.mixed_into(fake, self.draw(len(fake.images), _uniform_pairs))
                seen = self._augmented_halves(real, fake)
                listening: AbstractContextManager[dict[str, Tensor]] = nullcontext({})
                if needed or watch:
                    listening = self._realness_of(*seen, needed=needed)
                with listening as realness:
                    terms = self.discriminator_loss(*seen)
                if needed:
                    said.append(self._means(realness))
                    terms = _joined(terms, self._lecam(realness, said))
            if watch:
                halves = {"real": real, "fake": fake}
                if self._part == 0:  # what the losses log of classes themselves is theirs to say
                    unsaid = [name for name in realness if f"discriminator/{name}" not in self.class_metrics]
                for name in unsaid:
                    self.log_by_class(f"discriminator/{name}", realness[name], halves[name].labels)
            if penalise:
                penalty = self.gradient_penalty(real, fake)
                terms = _joined(terms, {"gradient_penalty": config.penalty_every * penalty})
                metrics = self.update("discriminator", terms)
                metrics["discriminator/gradient_penalty"] = penalty.detach()
            else:
                metrics = self.update("discriminator", terms)
            if watch and len(realness) == 2:
                metrics["discriminator/accuracy"] = _accuracy(realness["real"], realness["fake"])
            logged.append(metrics)
        if said:
            self._follow(torch.stack(said).mean(dim=0), images=sum(len(real.images) for real, _ in some))
        return _mean(logged)

    def _generator_step(self, some: Sequence[tuple[Batch, Tensor | None]]) -> Metrics:
        """Move the generator, beside batches of real images and by the labels of their fakes."""
        logged: list[Metrics] = []
        with frozen(self.discriminator):
            for real, labels in self._accumulating(some):
                latents = self.draw(len(real.images), self.generator.make_latents)
                with self.accelerator.autocast():
                    fake = self._make_fakes(latents, labels, real)
                    terms = self.generator_loss(*self._augmented_halves(real, fake))
                logged.append(self.update("generator", terms))
        return _mean(logged)

    def _make_fakes(self, latents: Tensor, labels: Tensor | None, real: Batch) -> Batch:
        """Return generated images; where the architecture translates, from the sources of real ones."""
        conditions = (labels,) if real.sources is None else (labels, real.sources)
        return Batch(self.generator(latents, *conditions), labels, real.sources)

    def _parts_of(self, images: Batch) -> Iterator[Batch]:
        """Yield the batches that are passed through the networks one by one, as `_accumulating` does."""
        return self._accumulating(images.chunk(self.config.gradient_accumulation_steps))

    def _accumulating(self, batches: Sequence[T]) -> Iterator[T]:
        """Yield batches whose gradients `update` is to add up; all `draw` from the same state, each its own rows."""
        start = self._shared_rng.get_state()
        self._parts = len(batches)
        try:
            for self._part, batch in enumerate(batches):
                self._shared_rng.set_state(start)
                yield batch
        finally:
            self._part, self._parts = 0, 1

    def stateful_modules(self) -> tuple[str, ...]:
        """Return the attributes whose state is part of the training's."""
        return super().stateful_modules() + (("anchors",) if self.anchors is not None else ())

    @contextmanager
    def _realness_of(self, real: Batch, fake: Batch, *, needed: bool) -> Iterator[dict[str, Tensor]]:
        """Catch what the discriminator says of each half during a block, so that nobody has to ask it again.

        Args:
            real: The one half.
            fake: The other.
            needed: Whether to ask the discriminator for what it was not asked for in the block.

        Yields:
            Filled when the block ends: the realness of the ``real`` and of the ``fake`` half.
        """
        said: dict[str, Tensor] = {}

        def listen(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            images = inputs[0] if inputs else named.get("images")
            for name, half in (("real", real), ("fake", fake)):
                if images is half.images:
                    said[name] = output.realness

        handle = self.discriminator.register_forward_hook(listen, with_kwargs=True)
        try:
            yield said
        finally:
            handle.remove()
        # Losses that judge both halves as one batch, or other images than they are given.
        for name, half in (("real", real), ("fake", fake)):
            if needed and name not in said:
                said[name] = self.discriminator(*half).realness

    def _means(self, realness: Mapping[str, Tensor]) -> Tensor:
        """Return the mean realness of real and of generated images, and the mean sign that ADA goes by, ``(3,)``."""
        real, fake = realness["real"].float(), realness["fake"].float()
        judged = real - fake if self.realness_is_relative else real
        means = torch.stack([real.mean(), fake.mean(), judged.sign().mean()]).detach()
        return mean_of_processes(self.accelerator, means)

    def _lecam(self, realness: Mapping[str, Tensor], said: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return LeCam's term; `said` are the `_means` of the batches so far of those that make the step."""
        if self.anchors is None:
            return {}
        real_anchor, fake_anchor = self.anchors.after(torch.stack(list(said)).mean(dim=0)[:2]).unbind()
        penalty = losses.lecam(realness["real"], realness["fake"], real_anchor=real_anchor, fake_anchor=fake_anchor)
        return {"lecam": self.config.lecam_weight * penalty}

    def _follow(self, means: Tensor, *, images: int) -> None:
        """Tell the augmentation and LeCam's anchors of the `_means` of a step of so many images in this process."""
        if isinstance(self.augment, AdaptiveAugment):
            self.augment.observe(means[2], images * self.accelerator.num_processes)
        if self.anchors is not None:
            self.anchors.follow(means[:2])

    def _check_gradient_penalty(self) -> None:
        """Raise if the discriminator cannot take the gradient penalty, by trying one on a copy."""
        kind = self.config.gradient_penalty
        norms = [
            name
            for name, module in self.discriminator.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        ]
        if kind == "wgan-gp" and norms:
            raise ConfigError(
                f"--gradient-penalty wgan-gp bounds the slope at each image by itself, but the batch normalisation in "
                f"this architecture's discriminator ({norms[0]}) mixes images. Type --gradient-penalty r1, or none."
            )
        shape = (2, self.data.channels, *self.data.size)
        images = torch.zeros(shape, device=self.device, requires_grad=True)
        labels = None
        if self.data.labels is not None:
            classes = self.data.labels.kind in ("categorical", "ordinal")
            labels = torch.zeros(2, dtype=torch.int64) if classes else torch.zeros(2, len(self.data.labels))
            labels = labels.to(self.device)
        channels = self.data.source_channels
        sources = torch.zeros(2, channels, *self.data.size, device=self.device) if channels else None
        with seeded(self.config.seed, self.device):
            try:
                network = copy.deepcopy(self.discriminator)
                realness = network(*Batch(images, labels, sources)).realness
                slope = losses.zero_centred_gradient_penalty(realness, images)
                torch.autograd.backward(slope)
            except RuntimeError as error:  # which what torch says of missing derivatives is
                reason = str(error).splitlines()[0]
                raise ConfigError(
                    f"--gradient-penalty {kind} needs second derivatives, which this architecture's discriminator does "
                    f"not have ({reason}). Type --gradient-penalty none."
                ) from error

    def _augmented_halves(self, real: Batch, fake: Batch) -> tuple[Batch, Batch]:
        """Distort both halves; translations as the images that they are to become, so that the two can be compared."""
        start = self._shared_rng.get_state()
        seen = self._augmented(real)
        if real.sources is not None:
            self._shared_rng.set_state(start)
        return seen, self._augmented(fake)

    def _augmented(self, batch: Batch) -> Batch:
        """Distort the images, in float32; each together with its source, as if they were channels of one image."""
        if batch.sources is None:
            return Batch(self._distorted(batch.images.float()), batch.labels)
        channels = batch.images.shape[1]
        distorted = self._distorted(torch.cat([batch.images.float(), batch.sources.float()], dim=1))
        return Batch(distorted[:, :channels], batch.labels, distorted[:, channels:])

    def _distorted(self, images: Tensor) -> Tensor:
        """Distort images; by medgan's own augmentation as if they were a slice of the whole batch."""
        if isinstance(self.augment, DiffAugment):
            distorted: Tensor = self.augment(images, lambda: self.draw(len(images), _uniform))
        else:
            distorted = self.augment(images)
        return distorted


class _Rejected:
    """Images that the discriminator sees as generated ones; sorted by class, where there are classes."""

    def __init__(self, rejected: Batch, data: DataSpec, share: float, device: torch.device) -> None:
        self.share = share
        images, labels = rejected.images, rejected.labels
        self.by_class = labels is not None and labels.ndim == 1
        if labels is not None and self.by_class:
            order = labels.argsort(stable=True)
            images, labels = images[order], labels[order]
            self.counts = torch.bincount(labels, minlength=data.num_labels).to(device)
            self.starts = self.counts.cumsum(0) - self.counts
        self.images = images.to(device)
        self.labels = None if labels is None else labels.to(device)

    def mixed_into(self, fake: Batch, chances: Tensor) -> Batch:
        """Put some in the place of generated images.

        Args:
            fake: Generated images.
            chances: Uniform in [0, 1), ``(N, 2)``: whether, and which.
        """
        chosen = chances[:, 0] < self.share
        first = torch.zeros_like(chosen, dtype=torch.int64)
        count = torch.full_like(first, len(self.images))
        if self.by_class and fake.labels is not None:
            first, count = self.starts[fake.labels], self.counts[fake.labels]
            chosen &= count > 0
        within = torch.minimum((chances[:, 1] * count).long(), (count - 1).clamp(min=0))
        rows = (first + within).clamp(max=len(self.images) - 1)  # of a class without any, which is not chosen
        mask = chosen.view(-1, *[1] * (fake.images.ndim - 1))
        labels = fake.labels
        if labels is not None and self.labels is not None and not self.by_class:
            labels = torch.where(chosen[:, None], self.labels[rows], labels)
        return Batch(torch.where(mask, self.images[rows].to(fake.images.dtype), fake.images), labels)


class _Anchors(nn.Module):
    """LeCam's running means of the realness of real and of generated images.

    Exponential, and plain means of all steps before there are enough of them: there is no start to be forgotten.
    """

    means: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("steps", torch.zeros(()))

    def after(self, means: Tensor) -> Tensor:
        """Return the anchors as they would be after a step with such means, shape ``(2,)``."""
        return self.means.lerp(means, (1 / (self.steps + 1)).clamp(min=1 - _LECAM_DECAY))

    @torch.no_grad()
    def follow(self, means: Tensor) -> None:
        """Move towards the means of a step, shape ``(2,)``."""
        self.means.copy_(self.after(means))
        self.steps += 1


def _joined(terms: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an architecture's loss terms with those of the stabilisers."""
    both = sorted(terms.keys() & own.keys())
    if both:
        raise PluginError(f"The architecture's losses have a term {both[0]!r}, as a stabiliser has. Rename it.")
    return {**terms, **own}


def _freeze_stages(discriminator: Discriminator, count: int) -> None:
    """Let the first blocks keep their weights and statistics (FreezeD, Mo et al., 2020, arXiv:2002.10964)."""
    if not count:
        return
    stages = discriminator.stages()
    if not stages:
        raise ConfigError(
            f"--freeze-discriminator {count} keeps the first blocks of the discriminator, but this architecture does "
            "not say which they are (Discriminator.stages). Leave it out."
        )
    if count > len(stages):
        raise ConfigError(
            f"--freeze-discriminator {count} is more than the {len(stages)} blocks that the discriminator has for "
            f"images of this size. Type at most {len(stages)}."
        )
    for stage in stages[:count]:
        stage.requires_grad_(False).eval()


def _batch_statistics(network: nn.Module) -> set[str]:
    """Return the names of the running means and variances of a network's batch normalisations."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name in ("running_mean", "running_var")
    }


def _mean(logged: Sequence[Metrics]) -> Metrics:
    """Return the mean of what was logged of several batches, each name's over those that have it."""
    if len(logged) == 1:
        return logged[0]
    names = dict.fromkeys(name for metrics in logged for name in metrics)
    return {name: torch.stack([metrics[name] for metrics in logged if name in metrics]).mean() for name in names}


@torch.no_grad()
def _accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Return the share of pairs of a real and a generated image in which the real one looks more real; ties half.

    The pairs are one and one, so that the mean over the parts of a divided batch is that of the whole.
    """
    return ((real.float() - fake.float()).sign() + 1).mean() / 2


def _uniform(n: int, rng: torch.Generator) -> Tensor:
    """Return n numbers in [0, 1), on the generator's device."""
    return torch.rand(n, generator=rng, device=rng.device)


def _uniform_pairs(n: int, rng: torch.Generator) -> Tensor:
    """Return n pairs of numbers in [0, 1), on the generator's device."""
    return torch.rand(n, 2, generator=rng, device=rng.device)


def make_augmentation(config: GANConfig) -> DiffAugment:
    """Return the augmentation that the options ask for.

    Args:
        config: The options.

    Raises:
        ConfigError: If they do not fit each other.
    """
    if config.ada_target is None:
        return DiffAugment(config.augment, config.augment_probability)
    return AdaptiveAugment(
        config.augment,
        config.augment_probability,
        target=config.ada_target,
        kimg=config.ada_kimg,
        limit=config.ada_limit,
    )


def memory_format(data: DataSpec) -> torch.memory_format:
    """Return the memory format that convolutions of such images are fastest in.

    A network rounds differently in another one, so that training and sampling share it.
    """
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    return formats.get(len(data.size), torch.preserve_format)


def make_accelerator(device: str = "auto", precision: str = "fp32") -> Accelerator:
    """Return accelerate's handle for a device, a precision and, under its launcher, many processes.

    Args:
        device: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16`` (the latter on CUDA only).

    Returns:
        The accelerator.

    Raises:
        ConfigError: If the device is absent, the precision unknown or not possible there, there are more processes
            than CUDA devices, or the launcher was asked for what medgan does by itself or not at all.
        ProcessLostError: If the other processes do not come.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    present = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    modes = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
    if device not in present:
        raise ConfigError(f"Device {device!r} is unknown. Expected one of: {', '.join(present)}.")
    if precision not in modes:
        raise ConfigError(f"Precision {precision!r} is unknown. Expected one of: {', '.join(modes)}.")
    if not present[device]:
        found = ", ".join(name for name, here in present.items() if here)
        raise ConfigError(f"Device {device!r} was asked for, but torch finds none here. Expected one of: {found}.")
    if precision == "fp16" and (device in ("cpu", "mps") or not present["cuda"]):
        raise ConfigError("Precision fp16 needs a CUDA device. Use --precision fp32, or bf16.")
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    state = AcceleratorState._shared_state
    if state and (state["device"].type, state["_mixed_precision"]) != (device, modes[precision]):
        if state["num_processes"] > 1:
            raise ConfigError("All trainings of a distributed run have to share one device and one precision.")
        # accelerate keeps the first device and precision for the whole process and refuses others,
        # but a notebook may well train on the CPU first and in bf16 next.
        AcceleratorState._reset_state(reset_partial_state=True)
    if device == "cuda" and int(os.environ.get("LOCAL_RANK", "0")) >= torch.cuda.device_count():
        raise ConfigError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', 'More')} processes were started on this machine, but torch finds "
            f"{torch.cuda.device_count()} CUDA device(s) here. Type --nproc_per_node {torch.cuda.device_count()} for "
            "torchrun, --num_processes for accelerate launch, or --device cpu for medgan."
        )
    if os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") != "1":
        raise ConfigError(
            "accelerate launch was asked to accumulate gradients, which medgan does by itself: leave the option out "
            "there (and in accelerate's configuration), and give it to medgan, as --gradient-accumulation-steps 4."
        )
    with together() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else nullcontext():
        patience = InitProcessGroupKwargs(timeout=PATIENCE_OF_STEPS)
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision=modes[precision], kwargs_handlers=[patience])
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ConfigError(
            f"accelerate was asked for {kind}, but medgan keeps whole networks in each process. Type torchrun, or "
            "accelerate launch --multi_gpu."
        )
    return accelerator
