from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from medgan.errors import ConfigError
from medgan.metrics.extractors import Extractor, get_extractor, inception
from medgan.metrics.extractors.files import file_sha256


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Two grey images of 8 bits."""
    return torch.randint(0, 256, (2, 1, 40, 48), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


@pytest.fixture(scope="module")
def reference(inception_file: Path) -> nn.Module:
    return FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_file)
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of PyTorch's downloads."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def clean(inception_file: Path) -> Extractor:
    return get_extractor("inception", weights=inception_file)


@pytest.fixture
def small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights that are quick to read, and a network that takes them."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Linear(2, 5))
    monkeypatch.setattr(inception, "_torch_fidelity_network", lambda *_: network)
    torch.save({"a": torch.zeros(3)}, tmp_path / "small.pth")
    return tmp_path / "small.pth"


def test_torch_fidelitys_features_bit_for_bit(inception_file: Path, pixels: Tensor, reference: nn.Module) -> None:
    expected, expected_logits = reference(pixels.expand(-1, 3, -1, -1))
    assert expected.std(0).mean() > 1e-3  # the images differ in their features
    extractor = get_extractor("inception", weights=inception_file, resizer="torch-fidelity")
    features = extractor(pixels / 127.5 - 1)
    assert torch.equal(features, expected)
    assert torch.equal(extractor.logits(features), expected_logits)
    assert (extractor.dim, extractor.classes, extractor.layer) == (2048, 1008, "2048")
    assert extractor.input.notes(1) == ("grey replicated to RGB", "rounded to 8 bits")


def test_clean_keeps_bits_and_filters(clean: Extractor, pixels: Tensor, reference: nn.Module) -> None:
    assert clean.input.resizer == "clean"
    assert clean.input.notes(3) == ()
    # At the network's own size nothing is resized, and both agree.
    large = nn.functional.interpolate(pixels[:1].float(), (299, 299)).to(torch.uint8)
    torch.testing.assert_close(clean(large / 127.5 - 1), reference(large.expand(-1, 3, -1, -1))[0])
    small = pixels[:1] / 127.5 - 1
    features = clean(small)
    assert not torch.allclose(features, reference(pixels[:1].expand(-1, 3, -1, -1))[0], rtol=1e-3)
    assert not torch.equal(features, clean(small * 0.9999))


def test_custom_weights_are_not_called_fid(clean: Extractor, inception_file: Path) -> None:
    assert clean.sha256 == file_sha256(inception_file)
    assert (clean.name, clean.is_fid) == ("inception (custom weights)", False)


def test_offline_says_which_file_goes_where(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    wanted = rf"weights-inception-2015-12-05-6726825d\.pth .*{re.escape(str(hub))}.*--weights PATH"
    with pytest.raises(ConfigError, match=f"not there, and nothing is downloaded unasked.*{wanted}"):
        get_extractor("inception")
    with pytest.raises(ConfigError, match=rf"could not be downloaded \(no route to host\).*{wanted}"):
        get_extractor("inception", download=True)


def test_the_published_file_is_found_and_checked(hub: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub / "pt_inception-2015-12-05-6726825d.pth"
    path.symlink_to(small_file)
    with pytest.raises(ConfigError, match=r"damaged: its sha256 does not begin with 6726825d\. Delete it"):
        get_extractor("inception")
    monkeypatch.setattr(inception, "_SHA256_START", file_sha256(small_file)[:8])
    extractor = get_extractor("inception")
    assert (extractor.name, extractor.is_fid) == ("inception", True)


def test_download_is_checked_by_its_hash(hub: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, target: str, *, hash_prefix: str, progress: bool) -> None:
        asked.append((url.rsplit("/", 1)[1], hash_prefix))
        Path(target).symlink_to(small_file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert get_extractor("inception", download=True).sha256 == file_sha256(small_file)
    assert asked == [("weights-inception-2015-12-05-6726825d.pth", "6726825d")]


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"cannot take these weights \(.*Missing key.*Fetch https"):
        get_extractor("inception", weights=tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"There is no file of weights .*gone\.pth"):
        get_extractor("inception", weights=tmp_path / "gone.pth")


class Small(nn.Module):
    """What torch-fidelity's registry holds, with weights from a file."""

    def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        if feature_extractor_weights_path is not None:
            self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8
        return (images.float().mean((2, 3)) * self.scale,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return {"fid": "mean"}[metric]


def test_other_extractors_of_torch_fidelity(tmp_path: Path, pixels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "small", Small)
    torch.save({"scale": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "small.pth")
    extractor = get_extractor("torch-fidelity:small", weights=tmp_path / "small.pth")
    mean = pixels.float().mean((2, 3))
    torch.testing.assert_close(extractor(pixels / 127.5 - 1), torch.cat([mean, 2 * mean, 3 * mean], 1))
    assert (extractor.name, extractor.layer, extractor.is_fid) == ("torch-fidelity:small", "mean", False)
    assert extractor.input.resizer == "torch-fidelity"
    other = get_extractor("torch-fidelity:small", download=True)
    assert other.sha256 != extractor.sha256
    with pytest.raises(ConfigError, match="torch-fidelity:small needs weights, and nothing is downloaded unasked"):
        get_extractor("torch-fidelity:small")
    with pytest.raises(ConfigError, match="resizes by itself"):
        get_extractor("torch-fidelity:small", weights=tmp_path / "small.pth", resizer="clean")


def test_refusals_of_torch_fidelity(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no extractor 'vgg61'\. Did you mean 'vgg16'"):
        get_extractor("torch-fidelity:vgg61")
    with pytest.raises(ConfigError, match="Type --extractor inception"):
        get_extractor("torch-fidelity:inception-v3-compat")
    (tmp_path / "weights.pth").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="without running code"):
        get_extractor("torch-fidelity:vgg16", weights=tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="dinov2-vit-s-14 cannot take these weights"):
        get_extractor("torch-fidelity:dinov2-vit-s-14", weights=tmp_path / "weights.pth")
