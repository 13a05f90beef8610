"""The algorithm: `Trainer` moves two networks with batches; it knows no file, no logger, no epoch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from medgan.augment import DiffAugment
from medgan.core.config import GANConfig
from medgan.core.networks import Discriminator, Generator
from medgan.core.randomness import get_random_state, seeded, set_random_state
from medgan.core.spec import Batch, DataSpec
from medgan.errors import CheckpointError, ConfigError, DataError, TrainingDivergedError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["AdversarialTrainer", "Callback", "Metrics", "Trainer", "make_accelerator"]

C = TypeVar("C", bound=GANConfig)
# Named values of one step, 0-d tensors on the training device, detached.
Metrics = dict[str, Tensor]


class Callback:
    """Something that watches a training; override what is needed.

    A callback may be left out without changing a single weight: what must survive a resume belongs
    into `Trainer.state_dict`.
    """

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Before the first step of a `Trainer.fit`."""

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        """After each step; `trainer.step` already counts it."""

    def on_end(self, trainer: Trainer[Any]) -> None:
        """After the last step, when nothing went wrong."""


class Trainer(ABC, Generic[C]):
    """Moves a generator and a discriminator; a subclass says how in `train_step`.

    Args:
        generator: The generator; moved to the device, trained in place.
        discriminator: The discriminator; moved to the device, trained in place.
        config: The options.
        data: Facts of the data.
        accelerator: Device, precision and distribution; see `make_accelerator`. None for the
            best device there is, in float32.

    Attributes:
        device: Where the networks are.
        averaged_generator: Exponential moving average of the generator's weights (Polyak; half-life
            `GANConfig.ema_halflife`), the network to sample with.
        optimizers: One for each network, ``"generator"`` and ``"discriminator"``.
        step: Steps done.
        images_seen: Real images used, over all processes.
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
        self.averaged_generator = self.generator
        if config.ema_halflife > 0:
            self.averaged_generator = copy.deepcopy(self.generator).requires_grad_(False)
        self.augment = self._place(self.make_augmentation())
        self.optimizers = {
            name: self.accelerator.prepare_optimizer(optimizer) for name, optimizer in self.make_optimizers().items()
        }
        self.step = 0
        self.images_seen = 0
        # Each process draws its own latents; the stride keeps neighbouring seeds apart.
        with seeded(config.seed + 1_000_003 * self.accelerator.process_index, self.device):
            self._random_state = get_random_state(self.device)

    @abstractmethod
    def train_step(self, batch: Batch) -> Metrics:
        """Do one step (level 3 of customisation: replace it whole).

        Args:
            batch: ``batch_size × discriminator_steps`` real images with their labels, on the
                device.

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
        return DiffAugment(self.config.augment, self.config.augment_probability)

    def fit(self, batches: Iterable[Batch], steps: int, callbacks: Sequence[Callback] = ()) -> None:
        """Train.

        Args:
            batches: At least `steps` batches, on the training device.
            steps: Steps to do, beyond those done already.
            callbacks: Told of the start, of every step and of the end, in this order.

        Raises:
            ConfigError: If `steps` is negative.
            DataError: If the batches run out.
            TrainingDivergedError: If a loss is NaN or infinite.
        """
        if steps < 0:
            raise ConfigError(f"The number of steps must be at least 0, got {steps}.")
        final = self.step + steps
        for callback in callbacks:
            callback.on_start(self)
        for batch in islice(batches, steps):
            with self._own_randomness():
                metrics = self.train_step(batch)
            self.step += 1
            self.images_seen += len(batch.images) * self.accelerator.num_processes
            self._average()
            # Reading a value makes an accelerator wait, hence not at every step there.
            if self.device.type == "cpu" or self.step % 16 == 0:
                self.check_finite(metrics)
            for callback in callbacks:
                callback.on_step(self, metrics)
        if self.step < final:
            raise DataError(f"The batches ran out at step {self.step}; {final} were asked for. Pass an endless stream.")
        for callback in callbacks:
            callback.on_end(self)

    def update(self, network: str, terms: Mapping[str, Tensor]) -> Metrics:
        """Move one network down the gradient of the sum of some loss terms.

        The one seam for precision and distribution: scaling and unscaling, averaging of gradients
        over processes and clipping all happen here.

        Args:
            network: ``"generator"`` or ``"discriminator"``.
            terms: Named, already weighted scalars.

        Returns:
            The terms, detached, their names prefixed by the network's.
        """
        optimizer = self.optimizers[network]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(torch.stack([term.float() for term in terms.values()]).sum())
        self._average_gradients(parameters)
        if self.config.clip_norm is not None:
            self.accelerator.unscale_gradients(optimizer)
            nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        optimizer.step()
        return {f"{network}/{name}": term.detach() for name, term in terms.items()}

    def check_finite(self, metrics: Metrics | None = None) -> None:
        """Raise if something is NaN or infinite.

        Args:
            metrics: Values of a step; None to look through all weights instead.

        Raises:
            TrainingDivergedError: If so; it names what was.
        """
        if metrics is None:
            metrics = {
                f"{network}.{name}": value
                for network in ("generator", "discriminator", "averaged_generator")
                for name, value in getattr(self, network).state_dict().items()
            }
        finite = torch.stack([torch.isfinite(value).all().to(self.device) for value in metrics.values()])
        if not finite.all():
            names = [name for name, good in zip(metrics, finite.tolist(), strict=True) if not good]
            raise TrainingDivergedError(
                f"Training diverged at step {self.step:,}: {', '.join(names[:4])} became NaN or infinite. "
                "What was saved before is untouched. Train anew with a lower --generator-lr and "
                "--discriminator-lr, or with --clip-norm 10."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resume needs, as tensors and plain values.

        With several processes all of them have to call this.
        """
        random_states = [self._random_state]
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            random_states = gather_object(random_states)
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "images_seen": self.images_seen,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "averaged_generator": self.averaged_generator.state_dict(),
            "augment": self.augment.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": random_states,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Args:
            state: What `state_dict` returned.

        Raises:
            CheckpointError: If the state is of other networks, or of another number of processes.
        """
        missing = sorted({"step", "images_seen", "optimizers", "scaler", "random"} - state.keys())
        if missing:
            raise CheckpointError(f"This is not a checkpoint of a training: it lacks {', '.join(missing)}.")
        if len(state["random"]) != self.accelerator.num_processes:
            raise CheckpointError(
                f"This checkpoint was written by {len(state['random'])} process(es), now there are "
                f"{self.accelerator.num_processes}. Resume with the same number."
            )
        try:
            for name in ("generator", "discriminator", "averaged_generator", "augment"):
                getattr(self, name).load_state_dict(state[name])
            for name, optimizer in self.optimizers.items():
                # torch's optimizers keep the tensors that they load, and would train the caller's.
                optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"This checkpoint does not fit these networks: {reason}") from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self.images_seen = int(state["images_seen"])
        self._random_state = dict(state["random"][self.accelerator.process_index])

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
        halflife = float(self.config.ema_halflife)
        if self.config.ema_rampup is not None:
            halflife = min(halflife, self.config.ema_rampup * self.images_seen)
        images = self.images_seen / self.step
        weight = 1 - 0.5 ** (images / max(halflife, 1e-8))
        torch._foreach_lerp_(list(self.averaged_generator.parameters()), list(self.generator.parameters()), weight)
        for average, current in zip(self.averaged_generator.buffers(), self.generator.buffers(), strict=True):
            average.copy_(current)

    def _average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes.

        One flat all-reduce instead of DistributedDataParallel: that wrapper expects one forward and
        one backward of every parameter in turn, which alternating networks, frozen weights and
        gradient penalties all break.
        """
        if self.accelerator.num_processes == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        flat = self.accelerator.reduce(flat, reduction="mean")
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


class AdversarialTrainer(Trainer[C]):
    """Alternates discriminator and generator steps; a subclass gives the two losses.

    It makes the fakes and detaches them, freezes the discriminator in the generator's step, augments
    real and fake images alike, and draws the fakes' labels.
    """

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

    def make_labels(self, real: Batch) -> Tensor | None:
        """Return the labels to generate from; those of the real images unless overridden.

        Equal labels in both halves keep the discriminator from telling them apart by their class
        shares.
        """
        return real.labels

    def train_step(self, batch: Batch) -> Metrics:
        """Do `GANConfig.discriminator_steps` discriminator steps, then one generator step."""
        metrics: Metrics = {}
        for real in batch.chunk(self.config.discriminator_steps):
            labels = self.make_labels(real)
            latents = self.generator.make_latents(len(real.images))
            with self.accelerator.autocast():
                with torch.no_grad():
                    images = self.generator(latents, labels)
                terms = self.discriminator_loss(self._augmented(real), self._augmented(Batch(images, labels)))
            metrics |= self.update("discriminator", terms)
        # `labels` stay those of the last discriminator step; the latents are fresh.
        latents = self.generator.make_latents(len(real.images))
        with _frozen(self.discriminator):
            with self.accelerator.autocast():
                fake = Batch(self.generator(latents, labels), labels)
                terms = self.generator_loss(self._augmented(real), self._augmented(fake))
            metrics |= self.update("generator", terms)
        return metrics

    def _augmented(self, batch: Batch) -> Batch:
        """Distort the images, in float32."""
        return Batch(self.augment(batch.images.float()), batch.labels)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Take a module's weights out of the graph for a while; saves their gradients' cost."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


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
        ConfigError: If the device is absent, or the precision unknown or not possible there.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

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
    return Accelerator(cpu=device == "cpu", mixed_precision=modes[precision])
