from __future__ import annotations

import pytest
import torch

from medgan.core.randomness import get_random_state, seeded, set_random_state

CPU = torch.device("cpu")


def test_seeded_block_repeats_and_leaves_the_outer_randomness() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    drawn = [torch.rand(2)]
    blocks = []
    for _ in range(2):
        with seeded(7):
            blocks.append(torch.rand(3))
    drawn.append(torch.rand(2))
    assert torch.equal(torch.cat(drawn), expected)
    assert torch.equal(*blocks)


def test_seeded_block_restores_after_an_error() -> None:
    before = get_random_state(CPU)

    def broken() -> None:
        with seeded(1):
            torch.rand(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert torch.equal(before["cpu"], get_random_state(CPU)["cpu"])


def test_state_round_trip() -> None:
    state = get_random_state(CPU)
    one = torch.rand(3)
    set_random_state(state, CPU)
    assert torch.equal(one, torch.rand(3))
    set_random_state({**state, "cuda": torch.zeros(1)}, CPU)
    assert torch.equal(one, torch.rand(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_accelerator_is_seeded_and_restored() -> None:
    device = torch.device("cuda")
    before = get_random_state(device)
    with seeded(3, device):
        one = torch.rand(3, device=device)
    with seeded(3, device):
        again = torch.rand(3, device=device)
    assert torch.equal(one, again)
    after = get_random_state(device)
    assert all(torch.equal(before[name], after[name]) for name in ("cpu", "cuda"))
