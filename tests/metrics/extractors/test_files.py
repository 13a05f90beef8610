from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medgan.errors import ConfigError
from medgan.metrics.extractors.files import file_sha256, read_weights


def test_state_dicts_of_any_kind(tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0)}
    torch.save(weights, tmp_path / "plain.pt")
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "lightning.pt")
    torch.save({"model": weights}, tmp_path / "model.pt")
    save_file(weights, tmp_path / "weights.safetensors")
    for path in sorted(tmp_path.iterdir()):
        found = read_weights(path, hint="")
        assert list(found) == ["a"], path
        assert torch.equal(found["a"], weights["a"])


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.place),)

    def __init__(self, place: str) -> None:
        self.place = place


def test_no_code_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(str(mark)), protocol=2))
    torch.save({"a": Bomb(str(mark))}, tmp_path / "packed.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    for name in ("bomb.pt", "packed.pt", "module.pt"):
        with pytest.raises(ConfigError, match=r"cannot|without running code"):
            read_weights(tmp_path / name, hint="Type this.")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_damaged(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name} is no file of weights .* Type this\."):
        read_weights(tmp_path / name, hint="Type this.")


def test_missing_and_other_content(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no file of weights .*gone\.pt\. Type this\."):
        read_weights(tmp_path / "gone.pt", hint="Type this.")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(ConfigError, match="holds Tensor, not a state dict"):
        read_weights(tmp_path / "tensor.pt", hint="")


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
