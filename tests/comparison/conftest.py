"""Three architectures of a third party: one without labels, one that fails, and one for volumes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGIN = """
from pathlib import Path

from medgan.models import ACGAN


class Plain(ACGAN):
    name = "plain"
    summary = "Without labels."
    api_version = 1
    label_kinds = ()
    presets = {"tiny": ACGAN.presets["tiny"]}
    default_preset = "tiny"


class BrokenTrainer(ACGAN.Trainer):
    def discriminator_loss(self, real, fake):
        if not Path(__file__).with_name("mended").exists():
            raise RuntimeError("the loss [is] broken")
        return super().discriminator_loss(real, fake)


class Broken(Plain):
    name = "broken"
    label_kinds = ("categorical",)
    Trainer = BrokenTrainer


class Volumes(Plain):
    name = "volumes"
    label_kinds = ("categorical",)
    spatial_dims = (3,)
"""


@pytest.fixture(scope="module")  # not longer: tests of other plugins may follow in this process
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the third party's module; a file called ``mended`` there mends what fails."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "rivals.py").write_text(PLUGIN, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        names = {"plain": "Plain", "broken": "Broken", "volumes": "Volumes"}
        patch.setenv("MEDGAN_PLUGINS", ",".join(f"{name}=rivals:{value}" for name, value in names.items()))
        yield folder
        sys.modules.pop("rivals", None)
