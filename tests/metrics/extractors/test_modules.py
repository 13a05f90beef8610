from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet50

from medgan.errors import ConfigError, PluginError
from medgan.metrics.extractors import InputSpec, ModuleExtractor, get_extractor
from medgan.metrics.extractors.files import file_sha256


def images(count: int = 2, size: int = 32) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def make_classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_a_layer_of_any_module() -> None:
    module = make_classifier().eval()
    found = images()
    extractor = ModuleExtractor(module, name="classifier", layer="3", head="4", input=InputSpec(1))
    features = extractor(found)
    torch.testing.assert_close(features, module[:4](found))
    torch.testing.assert_close(extractor.logits(features), module(found))
    assert (extractor.dim, extractor.classes, extractor.layer) == (4, 2, "3")
    maps = ModuleExtractor(module, name="classifier", layer="1", input=InputSpec(1))
    torch.testing.assert_close(maps(found), module[:2](found).mean((2, 3)))
    assert maps.sha256 != extractor.sha256
    with pytest.raises(ConfigError, match="no classes"):
        maps.logits(features)


def test_what_follows_in_place_does_not_reach_the_features() -> None:
    module = nn.Sequential(nn.Identity(), nn.Flatten(), nn.ReLU(inplace=True))
    extractor = ModuleExtractor(module, name="module", layer="1", input=InputSpec(1))
    torch.testing.assert_close(extractor(images()), images().flatten(1))


def test_training_mode_is_left() -> None:
    module = make_classifier().train()
    extractor = ModuleExtractor(module, name="classifier", input=InputSpec(1))
    together = extractor(images(4))
    torch.testing.assert_close(together[:1], extractor(images(4)[:1]))
    assert not module.training


def test_unknown_layers_and_outputs() -> None:
    with pytest.raises(ConfigError, match=r"'classifier' has no layer '9'\. Known: 0, 1, 2, 3, 4"):
        ModuleExtractor(make_classifier(), name="classifier", layer="9")
    with pytest.raises(ConfigError, match="Layer '0' of 'classifier' is Conv2d; a head must be Linear"):
        ModuleExtractor(make_classifier(), name="classifier", head="0")
    recurrent = nn.Sequential(nn.Flatten(2), nn.LSTM(1024, 3))
    with pytest.raises(PluginError, match="Layer '1' of 'lstm' gave tuple; expected one tensor"):
        ModuleExtractor(recurrent, name="lstm", layer="1", input=InputSpec(1))(images())
    twice = nn.ReLU()
    with pytest.raises(PluginError, match="gave 2 outputs"):
        ModuleExtractor(nn.Sequential(twice, twice), name="twice", layer="0")(images())


class Brightness(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean((2, 3)), images.amax((2, 3))], 1)


def test_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "brightness.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Brightness()), path)
    extractor = get_extractor(f"torchscript:{path}")
    torch.testing.assert_close(extractor(images()), Brightness()(images().expand(-1, 3, -1, -1)))
    assert (extractor.name, extractor.sha256) == ("torchscript:brightness.pt", file_sha256(path))
    with pytest.raises(ConfigError, match="holds its weights"):
        get_extractor(f"torchscript:{path}", weights=path)
    with pytest.raises(ConfigError, match=r"There is no file .*gone\.pt"):
        get_extractor(f"torchscript:{tmp_path}/gone.pt")
    (tmp_path / "text.pt").write_text("no script")
    with pytest.raises(ConfigError, match=r"text\.pt is no TorchScript file"):
        get_extractor(f"torchscript:{tmp_path}/text.pt")


@pytest.mark.parametrize("naming", ["backbone", "torchvision"])
def test_radimagenet(tmp_path: Path, naming: str) -> None:
    torch.manual_seed(0)
    network = resnet50().eval()
    weights = network.state_dict()
    body = nn.Sequential(*list(network.children())[:9])
    if naming == "backbone":  # as its authors save it
        weights = {f"backbone.{name}": value for name, value in body.state_dict().items()}
    torch.save(weights, tmp_path / "ResNet50.pt")
    extractor = get_extractor("radimagenet", weights=tmp_path / "ResNet50.pt")
    found = images(2, 224)
    with torch.no_grad():
        expected = body(found.expand(-1, 3, -1, -1)).flatten(1)
    torch.testing.assert_close(extractor(found), expected, rtol=1e-4, atol=1e-5)
    assert (extractor.dim, extractor.is_fid, extractor.input.resizer) == (2048, False, "clean")


def test_torchxrayvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = densenet121(num_classes=18).eval()
    network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    torch.save({**network.state_dict(), "op_threshs": torch.zeros(18)}, tmp_path / "xrv.pt")
    extractor = get_extractor("torchxrayvision", weights=tmp_path / "xrv.pt", resizer="torch-fidelity")
    found = images(2, 224)
    with torch.no_grad():
        expected = network.features(found * 1024).relu().mean((2, 3))
    torch.testing.assert_close(extractor(found), expected, rtol=1e-4, atol=1e-4)
    assert (extractor.dim, extractor.input.resizer) == (1024, "torch-fidelity")


def test_weights_that_are_missing_or_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'radimagenet' needs weights.*ResNet50\.pt"):
        get_extractor("radimagenet")
    with pytest.raises(ConfigError, match=r"'torchxrayvision' needs weights.*state_dict"):
        get_extractor("torchxrayvision")
    torch.save({"backbone.0.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pt")
    with pytest.raises(ConfigError, match=r"part\.pt does not fit .*Missing key"):
        get_extractor("radimagenet", weights=tmp_path / "part.pt")
