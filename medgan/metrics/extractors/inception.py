"""Inception v3 as the Fréchet inception distance was published with, and torch-fidelity's other networks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError, nearest
from medgan.metrics.extractors.base import Extractor, InputSpec, module_sha256
from medgan.metrics.extractors.files import file_sha256, read_weights
from medgan.metrics.resizing import Resizer

__all__ = ["Inception", "TorchFidelity"]

_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
_SHA256_START = "6726825d"  # the file names end in it, as names of published weights do at PyTorch


class Inception(Extractor):
    """Inception v3 of 2015 with its 2,048 pooled features, whose Fréchet distance is the FID.

    The network is torch-fidelity's port (``inception-v3-compat``), for which it must be installed; the weights are a
    file of 95 MB, never downloaded unless asked for. Other weights are accepted, but then the name says so and `is_fid`
    is False. Heusel et al., arXiv:1706.08500; the logits without bias are those of the inception score (Salimans et
    al., arXiv:1606.03498).
    """

    layer = "2048"
    dim = 2048
    classes = 1008

    def __init__(
        self,
        weights: Path | None = None,
        *,
        device: str | torch.device = "cpu",
        resizer: Resizer = "clean",
        download: bool = False,
    ) -> None:
        """Load the network.

        Args:
            weights: State dict; None for the published one in the folder where PyTorch keeps downloads.
            device: Where to compute.
            resizer: ``clean`` keeps all bits of the images; ``torch-fidelity`` rounds them to 8 first and gives
                torch-fidelity's features, bit for bit on a CPU.
            download: Whether the published weights may be downloaded if they are not there.

        Raises:
            ConfigError: If the weights are not there, or do not fit.
        """
        if weights is None:
            weights = _published_weights(download=download)
        network = _torch_fidelity_network("inception-v3-compat", ["2048"], read_weights(weights, hint=_hint()))
        self.sha256 = file_sha256(weights)
        self.is_fid = self.sha256.startswith(_SHA256_START)
        self.name = "inception" if self.is_fid else "inception (custom weights)"
        self.device = torch.device(device)
        bits: Literal[8] | None = 8 if resizer == "torch-fidelity" else None
        # (x - 128) / 128 of 0...255, TensorFlow's normalisation: white becomes 127 / 128.
        self.input = InputSpec(3, (299, 299), -1.0, 127 / 128, bits, resizer)
        *body, head = network.children()  # in the order in which the network runs them
        self._body = nn.Sequential(*body, nn.Flatten()).to(self.device)
        self._head: Tensor = head.get_parameter("weight").T.to(self.device)

    def extract(self, images: Tensor) -> Tensor:
        """Compute the pooled features: shape ``(N, 2048)``."""
        features: Tensor = self._body(images)
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Compute the logits without bias: shape ``(N, 1008)``."""
        with torch.inference_mode():
            return features.to(self.device) @ self._head


class TorchFidelity(Extractor):
    """Any other extractor of torch-fidelity's registry, for example ``vgg16`` or ``clip-vit-b-32``.

    Images are rounded to 8 bits and resized by torch-fidelity itself.
    """

    def __init__(
        self, name: str, weights: Path | None = None, *, device: str | torch.device = "cpu", download: bool = False
    ) -> None:
        """Load the network.

        Args:
            name: Name in torch-fidelity's registry.
            weights: State dict (``vgg16``) or TorchScript (``clip-...``).
            device: Where to compute.
            download: Without `weights`, let torch-fidelity find them in its cache or download them.

        Raises:
            ConfigError: If there is no such extractor, or its weights are not there or do not fit.
        """
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

        if name not in FEATURE_EXTRACTORS_REGISTRY:
            raise ConfigError(f"torch-fidelity has no extractor {name!r}. {nearest(name, FEATURE_EXTRACTORS_REGISTRY)}")
        hint = f"Type --weights PATH with weights that torch-fidelity's {name} reads."
        if weights is None and not download:
            raise ConfigError(f"torch-fidelity:{name} needs weights, and nothing is downloaded unasked. {hint}")
        if weights is not None and not weights.is_file():
            raise ConfigError(f"There is no file of weights {weights}. {hint}")
        self.layer = FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric("fid")
        source = read_weights(weights, hint=hint) if weights is not None and name == "vgg16" else weights
        self.device = torch.device(device)
        self._network = _torch_fidelity_network(name, [self.layer], source).to(self.device)
        self.name = f"torch-fidelity:{name}"
        self.sha256 = module_sha256(self._network, name, self.layer)
        self.input = InputSpec(3, None, 0.0, 255.0, 8, "torch-fidelity")

    def extract(self, images: Tensor) -> Tensor:
        """Compute the features of the layer that torch-fidelity takes for Fréchet distances."""
        features: Tensor = self._network(images.to(torch.uint8))[0]
        return features


def _hint() -> str:
    """Say which file is wanted, and where to put it."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return (
        f"Fetch {URL_INCEPTION_V3} on a machine that is online, and put it into {_folder()}, or type "
        f"--weights PATH/{_NAMES[0]}. Without it, --extractor radiomics needs no weights."
    )


def _folder() -> Path:
    """Return the folder where PyTorch, torch-fidelity and pytorch-fid keep weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _published_weights(*, download: bool) -> Path:
    """Return the file of the published weights."""
    for name in _NAMES:
        path = _folder() / name
        if path.is_file():
            if file_sha256(path).startswith(_SHA256_START):
                return path
            raise ConfigError(
                f"{path} is damaged: its sha256 does not begin with {_SHA256_START}. Delete it. {_hint()}"
            )
    if not download:
        raise ConfigError(f"The weights of Inception v3 are not there, and nothing is downloaded unasked. {_hint()}")
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = _folder() / _NAMES[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=_SHA256_START, progress=False)
    except (OSError, RuntimeError) as error:  # no network; another content
        raise ConfigError(f"The weights of Inception v3 could not be downloaded ({error}). {_hint()}") from error
    return path


def _torch_fidelity_network(name: str, layers: list[str], weights: dict[str, Tensor] | Path | None) -> nn.Module:
    """Make a network of torch-fidelity's registry; raises ConfigError if the weights do not fit."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    source: Any = None if weights is None else str(weights)
    if isinstance(weights, dict):
        # torch-fidelity unpickles whatever is in the file that it is given. What was read safely is handed over in a
        # file that holds nothing else.
        source = io.BytesIO()
        torch.save(weights, source)
        source.seek(0)
    try:
        network: nn.Module = FEATURE_EXTRACTORS_REGISTRY[name](name, layers, feature_extractor_weights_path=source)
    except (RuntimeError, OSError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        hint = _hint() if name == "inception-v3-compat" else "Give the file that torch-fidelity names for it."
        raise ConfigError(f"torch-fidelity's {name} cannot take these weights ({reason}). {hint}") from error
    return network.requires_grad_(False).eval()
