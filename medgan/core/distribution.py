"""What the processes of a distributed training tell each other; a process that is lost ends the others by an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from medgan.errors import ProcessLostError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "PATIENCE_OF_STEPS",
    "broadcast_from_main",
    "gather",
    "gather_rows",
    "leave",
    "main_first",
    "mean_of_processes",
    "together",
]

_PATIENCE = timedelta(days=7)  # for the first process, which may have a large data set to read

PATIENCE_OF_STEPS = timedelta(hours=2)
"""How long processes wait for each other in a training, as the main one evaluates alone. With large volumes that may
take longer than the ten minutes that NCCL has by itself."""

T = TypeVar("T")


@contextmanager
def together() -> Iterator[None]:
    """Report the failure of what all processes do together; put nothing else into the block.

    Raises:
        ProcessLostError: If another process has ended, or cannot be reached any more.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:  # which all errors of torch.distributed are
        # gloo's begin with a line of its source, and end with advice to its developers.
        reason = re.sub(r"^\[\S+\] ", "", str(error) or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ProcessLostError(
            f"Another process of this training has ended or cannot be reached ({reason}). What it said tells why. What "
            "was saved before is whole: start all processes again, with --resume auto."
        ) from error


def mean_of_processes(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes; every one has to call this.

    Args:
        accelerator: The processes.
        values: Of the same shape in each.

    Raises:
        ProcessLostError: If another process has ended.
    """
    if accelerator.num_processes == 1:
        return values
    with together():
        mean: Tensor = accelerator.reduce(values, reduction="mean")
    return mean


def broadcast_from_main(accelerator: Accelerator, tensors: Iterable[Tensor]) -> None:
    """Fill tensors in every process with what they hold in the main one; every one has to call this.

    Args:
        accelerator: The processes.
        tensors: As many, of the same shapes, in each.

    Raises:
        ProcessLostError: If another process has ended.
    """
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast

    with together():
        for tensor in tensors:
            tensor.copy_(broadcast(tensor.contiguous()))


def gather(accelerator: Accelerator, value: T) -> list[T]:
    """Return what each process has, in their order; every one has to call this.

    Args:
        accelerator: The processes.
        value: What this one has, of any type that can be pickled.

    Raises:
        ProcessLostError: If another process has ended.
    """
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    with together():
        values: list[T] = gather_object([value])
    return values


def gather_rows(accelerator: Accelerator, rows: Tensor) -> Tensor:
    """Return the rows that all processes have, in their order; every one has to call this.

    Args:
        accelerator: The processes.
        rows: Of the same shape in each; gradients do not pass.

    Raises:
        ProcessLostError: If another process has ended.
    """
    if accelerator.num_processes == 1:
        return rows
    with together():
        everywhere: Tensor = accelerator.gather(rows)
    return everywhere


@contextmanager
def main_first(accelerator: Accelerator) -> Iterator[None]:
    """Let the main process do a block first, however long it takes, and the others after it.

    Args:
        accelerator: The processes.

    Raises:
        ProcessLostError: If the main process ends meanwhile.
    """
    if accelerator.num_processes == 1:
        yield
        return
    # A group of its own: NCCL's patience is ten minutes, and it does not notice when a process ends.
    with together():
        group: Any = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    if not accelerator.is_main_process:
        with together():
            torch.distributed.barrier(group)
    yield
    if accelerator.is_main_process:
        with together():
            torch.distributed.barrier(group)


def leave() -> None:
    """Take leave of the other processes, at the very end; nothing can be done together after it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
