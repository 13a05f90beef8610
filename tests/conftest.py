"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before anything imports matplotlib: no test needs a screen.
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes one thread; more only get into each other's way.

    The processes that tests start get one too: weights are compared bit for bit, and another number of threads adds
    up in another order.
    """
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests, and the processes they start, out of the user's cache and the user's plugins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MEDGAN_PLUGINS", raising=False)
        yield
