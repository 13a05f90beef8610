"""Two processes on the CPU: gradients are averaged, weights stay equal, resume is exact."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

# What each process runs. Its images differ from the other's; its weights may not.
PROCESS = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from medgan.core import Batch, DataSpec, LabelSpec
from medgan.core.saving import write_state
from medgan.errors import CheckpointError, ConfigError
from medgan.models import ACGAN

folder = Path(sys.argv[1])
data = DataSpec(1, (32, 32), LabelSpec(("a", "b")))

def batch(rank, step):
    rng = torch.Generator().manual_seed(100 * step + rank)
    return Batch(torch.rand(4, 1, 32, 32, generator=rng) * 2 - 1, torch.randint(2, (4,), generator=rng))

def make():
    gan = ACGAN(
        data, preset="tiny", batch_size=4, minibatch_std=4, clip_norm=5.0, gradient_penalty="r1", penalty_every=2,
        lecam_weight=0.3, ada_target=0.1, ada_kimg=0.2, augment="brightness,cutout", lr_decay=0.5,
    )
    return gan, gan.make_trainer(device="cpu")

gan, trainer = make()
accelerator = trainer.accelerator
rank = accelerator.process_index
assert accelerator.num_processes == 2, accelerator.num_processes

# One update whose gradient is known: that of rank + 1 times the sum of the weights.
optimizer = torch.optim.SGD(trainer.generator.parameters(), 1.0)
trainer.optimizers["generator"], kept = accelerator.prepare_optimizer(optimizer), trainer.optimizers["generator"]
weight = trainer.generator.to_image.weight
before = weight.detach().clone()
object.__setattr__(trainer.config, "clip_norm", None)
trainer.update("generator", {"sum": (rank + 1.0) * weight.sum()})
object.__setattr__(trainer.config, "clip_norm", 5.0)
moved = before - weight.detach()
with torch.no_grad():
    weight.copy_(before)
trainer.optimizers["generator"] = kept

trainer.fit([batch(rank, step) for step in range(4)], 4, total_steps=4)
whole = trainer.state_dict()

first = make()[1]
first.fit([batch(rank, step) for step in range(2)], 2, total_steps=4)
write_state(folder / f"half{rank}.pt", first.state_dict())
accelerator.wait_for_everyone()
second = make()[1]
second.load_state_dict(torch.load(folder / "half0.pt", weights_only=True))
second.fit([batch(rank, step) for step in range(2, 4)], 2)
resumed = second.state_dict()

try:
    second.load_state_dict({**resumed, "random": resumed["random"][:1]})
    refused = ""
except CheckpointError as error:
    refused = str(error)

write_state(folder / f"{rank}.pt", {"moved": moved, "whole": whole, "resumed": resumed, "refused": refused})
accelerator.wait_for_everyone()
accelerator.end_training()
"""


def run_two(script: Path, *arguments: str) -> None:
    """Run a script in two processes, as torchrun and accelerate launch do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in ("0", "1"):
        environment = {
            **os.environ,
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(script), *arguments]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = []
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    run_two(script, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    # The mean of the two gradients, 1 and 2.
    for rank in ranks:
        torch.testing.assert_close(rank["moved"], torch.full_like(rank["moved"], 1.5))

    # Equal weights, averages and optimizers after four steps on different images.
    assert ranks[0]["whole"]["images_seen"] == 4 * 4 * 2
    for part in ("generator", "discriminator", "averaged_generator", "optimizers", "augment", "anchors"):
        assert same(ranks[0]["whole"][part], ranks[1]["whole"][part]), part

    # Anchors and the augmentation's chance follow the images of both.
    assert float(ranks[0]["whole"]["anchors"]["steps"]) == 4
    moved = abs(float(ranks[0]["whole"]["augment"]["probability"]) - 0.5)
    assert moved == pytest.approx(4 * 8 / 200, abs=1e-6)  # four steps of eight images

    # Each process has random numbers of its own, and every checkpoint holds them all.
    states = ranks[0]["whole"]["random"]
    assert len(states) == 2
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])
    assert same(states, ranks[1]["whole"]["random"])

    for rank in ranks:
        assert same({**rank["whole"], "optimizers": None}, {**rank["resumed"], "optimizers": None})
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


def test_two_processes_agree_on_what_a_budget_is_enough_for(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(BUDGET)
    run_two(script, str(tmp_path))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert (found["step"], found["total"]) == (60, 60)
        assert "is too short" in found["refused"]
