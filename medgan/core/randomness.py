"""Random states of torch, taken and put back, so that training owns its randomness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["get_random_state", "seeded", "set_random_state"]


def get_random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's generators on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `get_random_state` returned; a part for another kind of device is left out."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type in state and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[device.type].cpu())


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block with torch's generators seeded, and leave the caller's randomness as it was.

    Args:
        seed: Seed, at least 0.
        device: An accelerator whose generator is seeded too.
    """
    device = device or torch.device("cpu")
    outer = get_random_state(device)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(outer, device)
