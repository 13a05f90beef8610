"""Two processes on the CPU: they learn what one with a batch twice as large does, and notice when one is gone."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.core.distribution import broadcast_from_main, gather, gather_rows, main_first, mean_of_processes, together
from medgan.core.trainer import Callback, Metrics, Trainer, make_accelerator
from medgan.data import open_dataset
from medgan.errors import ConfigError, DataError, ProcessLostError
from medgan.models import ACGAN

SPEC = DataSpec(1, (32, 32), LabelSpec(("a", "b")))
# All that draws numbers or averages. No groups within a batch, which are formed in each process by itself.
OPTIONS: dict[str, Any] = {
    "minibatch_std": 0,
    "clip_norm": 5.0,
    "gradient_penalty": "r1",
    "penalty_every": 2,
    "penalty_one_in": 3,
    "lecam_weight": 0.3,
    "ada_target": 0.1,
    "ada_kimg": 0.2,
    "augment": "brightness,translation,cutout",
    "fake_labels": "uniform",
    "class_sampling": "sqrt",
    "discriminator_steps": 2,
    "lr_decay": 0.5,
}


class Watch(Callback):
    """Keeps what each step logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        self.rows.append({name: float(value) for name, value in metrics.items()})


def train(batch_size: int, **changes: Any) -> tuple[Trainer[Any], list[dict[str, float]], dict[str, Tensor]]:
    """Train in this process; return the trainer, what it logged and the weights that it began with."""
    dataset = open_dataset("phantom://chest?n=24&seed=1", size=32)
    gan = ACGAN(dataset.spec, preset="tiny", batch_size=batch_size, **(OPTIONS | changes))
    trainer = gan.make_trainer(device="cpu")
    before = copy.deepcopy({**weights(trainer.state_dict())})
    watch = Watch()
    gan.fit(dataset, steps=4, total_steps=4, callbacks=[watch])
    return trainer, watch.rows, before


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of both networks, by name."""
    return {f"{part}.{name}": value for part in ("generator", "discriminator") for name, value in state[part].items()}


def assert_close(state: dict[str, Any], other: Trainer[Any], before: dict[str, Tensor]) -> None:
    """Check that two trainings went the same way, but for rounding, which Adam's first steps can blow up."""
    one, two = weights(state), weights(other.state_dict())
    assert one.keys() == two.keys() == before.keys()
    way = sum((two[name] - before[name]).double().square().sum() for name in before)
    apart = sum((two[name] - one[name]).double().square().sum() for name in before)
    assert way > 1e-3
    assert apart < 1e-4 * way
    for part in ("augment", "anchors"):
        for name, value in other.state_dict()[part].items():
            torch.testing.assert_close(state[part][name], value, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------ two processes


# What each process runs.
PROCESS = """
import json
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
from medgan.core.distribution import gather_rows
from medgan.core.saving import write_state
from medgan.core.trainer import Callback
from medgan.data import open_dataset
from medgan.errors import CheckpointError
from medgan.models import ACGAN

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
dataset = open_dataset("phantom://chest?n=24&seed=1", size=32)
gan = ACGAN(dataset.spec, preset="tiny", batch_size=3, **options)
trainer = gan.make_trainer(device="cpu")
accelerator = trainer.accelerator
rank = accelerator.process_index
assert accelerator.num_processes == 2, accelerator.num_processes
result = {"rows_of_all": gather_rows(accelerator, torch.tensor([[1.0, rank], [2.0, rank]]))}

# One update whose gradient is known, and of some weights is there in one process alone, or in none.
optimizer = torch.optim.SGD(trainer.generator.parameters(), 1.0)
trainer.optimizers["generator"], kept = accelerator.prepare_optimizer(optimizer), trainer.optimizers["generator"]
both = trainer.generator.to_image.weight
one, none, *_ = (weight for weight in trainer.generator.parameters() if weight is not both)
object.__setattr__(trainer.config, "clip_norm", None)
before = [weight.detach().clone() for weight in (both, one, none)]
trainer.update("generator", {"sum": (rank + 1.0) * both.sum() + (one.sum() if rank else 0)})
result["moved"] = [old - weight.detach() for old, weight in zip(before, (both, one, none))]
result["without"] = none.grad is None
object.__setattr__(trainer.config, "clip_norm", options["clip_norm"])
with torch.no_grad():
    for old, weight in zip(before, (both, one, none)):
        weight.copy_(old)
trainer.optimizers["generator"] = kept

class Watch(Callback):
    rows = []

    def on_step(self, trainer, metrics):
        self.rows.append({name: float(value) for name, value in metrics.items()})

with torch.no_grad():  # the main process's weights are everyone's
    both.add_(rank)
gan.fit(dataset, steps=4, total_steps=4, callbacks=[Watch()])
result["rows"], result["whole"] = Watch.rows, trainer.state_dict()

first = ACGAN(dataset.spec, preset="tiny", batch_size=3, **options)
first.make_trainer(device="cpu")
first.fit(dataset, steps=2, total_steps=4)
if rank == 0:
    write_state(folder / "half.pt", first.trainer.state_dict())
else:
    first.trainer.state_dict()
accelerator.wait_for_everyone()
second = ACGAN(dataset.spec, preset="tiny", batch_size=3, **options)
second.make_trainer(device="cpu").load_state_dict(torch.load(folder / "half.pt", weights_only=True))
second.fit(dataset, steps=2, total_steps=4)
result["resumed"] = second.trainer.state_dict()

try:
    second.trainer.load_state_dict({**result["resumed"], "random": result["resumed"]["random"][:1]})
except CheckpointError as error:
    result["refused"] = str(error)

write_state(folder / f"{rank}.pt", result)
accelerator.wait_for_everyone()
accelerator.end_training()
"""


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_two_processes(run_processes: Callable[..., list[str]], tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    run_processes([script, tmp_path, json.dumps(OPTIONS)])
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    # The mean of the gradients: of 1 and 2; of none and 1; and a weight without a gradient stays without.
    for rank in ranks:
        both, one, none = rank["moved"]
        torch.testing.assert_close(both, torch.full_like(both, 1.5))
        torch.testing.assert_close(one, torch.full_like(one, 0.5))
        assert not none.any()
        assert rank["without"]

        assert rank["rows_of_all"].tolist() == [[1, 0], [2, 0], [1, 1], [2, 1]]

    # Equal weights, averages and optimizers, although process 1 began with others.
    assert ranks[0]["whole"]["images_seen"] == 4 * 2 * 3 * 2
    for part in ("generator", "discriminator", "averaged_generator", "optimizers", "augment", "anchors"):
        assert same(ranks[0]["whole"][part], ranks[1]["whole"][part]), part

    # They are those of one process with a batch twice as large, and so is what it logged.
    trainer, rows, before = train(6)
    assert_close(ranks[0]["whole"], trainer, before)
    assert torch.equal(ranks[0]["whole"]["shared_random"]["cpu"], trainer.state_dict()["shared_random"]["cpu"])
    for one, two, whole in zip(ranks[0]["rows"], ranks[1]["rows"], rows, strict=True):
        assert one.keys() == whole.keys()
        for name, value in whole.items():
            # LeCam's anchors and the chance are of both processes' images, losses of its own ones.
            assert (one[name] + two[name]) / 2 == pytest.approx(value, rel=1e-2, abs=1e-3), name

    # Each process has random numbers of its own for what networks draw, and every checkpoint holds them all.
    states = ranks[0]["whole"]["random"]
    assert len(states) == 2
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])
    assert same(states, ranks[1]["whole"]["random"])

    # Half of it, saved by the main process and continued by both, is the same to the bit.
    for rank in ranks:
        assert same(rank["whole"], rank["resumed"])
        assert "written by 1 process(es), now there are 2" in rank["refused"]


# The clock of one process runs faster, and it has spent more; the other one, which is the main one, plans.
BUDGET = """
import sys
from pathlib import Path
import torch
from medgan.core import Batch, Budget, DataSpec, LabelSpec
from medgan.core.saving import write_state
from medgan.errors import ConfigError
from medgan.models import ACGAN

def train(seconds):
    data = DataSpec(1, (32, 32), LabelSpec(("a", "b")))
    gan = ACGAN(data, preset="tiny", batch_size=2, minibatch_std=2, lr_decay=0.5)
    trainer = gan.make_trainer(device="cpu")
    rank, now = trainer.accelerator.process_index, [0.0]
    budget = Budget(seconds, clock=lambda: now[0])
    def train_step(batch):
        now[0] += 1.0 + rank
        return {"generator/loss": torch.zeros(())}
    trainer.train_step = train_step
    trainer.may_wait = lambda: trainer.step % int(sys.argv[2]) == 0  # as on the CPU, and as on accelerators
    trainer.use_budget(budget)
    batch = Batch(torch.zeros(2, 1, 32, 32), torch.zeros(2, dtype=torch.int64))
    trainer.fit(iter(lambda: batch, None))
    return trainer

trainer = train(62.0)
rank = trainer.accelerator.process_index
try:
    train(10.0)
    refused = ""
except ConfigError as error:
    refused = str(error)
write_state(Path(sys.argv[1]) / f"{rank}.pt", {"step": trainer.step, "total": trainer.total_steps, "refused": refused})
trainer.accelerator.wait_for_everyone()
trainer.accelerator.end_training()
"""


@pytest.mark.parametrize("waits", [1, 16])
def test_two_processes_agree_on_what_a_budget_is_enough_for(
    run_processes: Callable[..., list[str]], tmp_path: Path, waits: int
) -> None:
    script = tmp_path / "process.py"
    script.write_text(BUDGET)
    run_processes([script, tmp_path, waits])
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert (found["step"], found["total"]) == (60, 60)
        assert "is too short" in found["refused"]


# ------------------------------------------------------------------------------ dividing a batch


@pytest.mark.parametrize(
    ("processes", "accumulated", "discriminator_steps"), [(1, 1, 1), (2, 1, 1), (2, 2, 3), (3, 4, 1)]
)
def test_each_image_comes_once_an_epoch(processes: int, accumulated: int, discriminator_steps: int) -> None:
    dataset = open_dataset("phantom://chest?n=24&seed=1", size=32)
    options = {"gradient_accumulation_steps": accumulated, "discriminator_steps": discriminator_steps}
    steps = 24 // (2 * processes * accumulated * discriminator_steps)
    whole = list(islice(dataset.batches(2, seed=5), 2 * 24 // 2))
    for epoch in (0, 1):
        seen: list[list[Tensor]] = []
        for rank in range(processes):
            gan = ACGAN(
                dataset.spec, preset="tiny", seed=5, batch_size=2, class_sampling="natural", minibatch_std=0, **options
            )
            given: list[Batch] = []
            gan.trainer = cast("Any", stand_in(rank, processes, epoch * steps, given))
            gan.fit(dataset, steps=steps)
            seen.append([images for batch in given for images in batch.images.split(2)])
        order = [part for parts in zip(*seen, strict=True) for part in parts]
        times = Counter(image.numpy().tobytes() for part in order for image in part)
        assert len(times) == 24
        assert set(times.values()) == {1}
        # In the order of one process: a step of several is one of one with a larger batch.
        expected = [batch.images for batch in whole[epoch * 12 : (epoch + 1) * 12]]
        assert all(torch.equal(*pair) for pair in zip(order, expected, strict=True))


def stand_in(rank: int, processes: int, step: int, given: list[Batch]) -> SimpleNamespace:
    """A trainer of one of several processes, that only keeps what it is given."""

    def fit(batches: Iterator[Batch], steps: int, *_: Any, **__: Any) -> None:
        given.extend(islice(batches, steps))

    accelerator = SimpleNamespace(process_index=rank, num_processes=processes)
    return SimpleNamespace(accelerator=accelerator, device=torch.device("cpu"), step=step, fit=fit)


def test_draws_do_not_depend_on_how_a_batch_is_divided() -> None:
    def make(n: int, rng: torch.Generator) -> Tensor:
        return torch.rand(n, 2, generator=rng)

    trainer = ACGAN(SPEC, preset="tiny", minibatch_std=0, batch_size=1).make_trainer(device="cpu")
    start = trainer._shared_rng.get_state()
    whole = trainer.draw(12, make)
    after = trainer._shared_rng.get_state()
    found = []
    for part in range(2):
        for rank in range(3):
            trainer._shared_rng.set_state(start)
            trainer._part, trainer._parts = part, 2
            trainer.accelerator = cast("Any", SimpleNamespace(process_index=rank, num_processes=3))
            found.append(trainer.draw(2, make))
            assert torch.equal(trainer._shared_rng.get_state(), after)
    assert torch.equal(torch.cat(found), whole)
    assert len(whole.unique()) == 24


# ------------------------------------------------------------------------------ one process


def test_a_process_by_itself_tells_nobody() -> None:
    accelerator = make_accelerator("cpu")
    value = torch.tensor([1.0, 2.0])
    assert mean_of_processes(accelerator, value) is value
    assert gather(accelerator, "mine") == ["mine"]
    assert gather_rows(accelerator, value) is value
    broadcast_from_main(accelerator, [value])
    with main_first(accelerator):
        value += 1
    assert value.tolist() == [2, 3]


def test_failures_of_others_and_own_ones() -> None:
    with (
        pytest.raises(ProcessLostError, match=r"has ended or cannot be reached \(Connection closed\).*--resume auto"),
        together(),
    ):
        raise RuntimeError("Connection closed\nby peer")
    of_gloo = (
        "[/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:3505: Connection reset by peer. Check the logs. GLHF!"
    )
    with (
        pytest.raises(ProcessLostError, match=r"\(Read error \[127.0.0.1\]:3505: Connection reset by peer\)\. What it"),
        together(),
    ):
        raise RuntimeError(of_gloo)
    with pytest.raises(ProcessLostError, match="RuntimeError"), together():
        raise RuntimeError
    with pytest.raises(torch.cuda.OutOfMemoryError), together():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(DataError), together():
        raise DataError("no")


def test_processes_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise torch.distributed.DistNetworkError("The server socket has failed")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.Accelerator", fail)
    with pytest.raises(ProcessLostError, match="server socket"):
        make_accelerator("cpu")


@pytest.mark.parametrize("kind", ["DEEPSPEED", "FSDP"])
def test_networks_in_pieces_are_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: SimpleNamespace(distributed_type=kind))
    with pytest.raises(ConfigError, match=f"asked for {kind}.*torchrun"):
        make_accelerator("cpu")


def test_accumulation_belongs_to_medgan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ConfigError, match="--gradient-accumulation-steps 4"):
        make_accelerator("cpu")


def test_more_processes_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"2 processes were started.*finds 1 CUDA.*--nproc_per_node 1"):
        make_accelerator("auto")
