"""Features of any network: a layer of a module, a TorchScript file, and two published medical networks."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError, PluginError, nearest
from medgan.metrics.extractors.base import Extractor, InputSpec, module_sha256
from medgan.metrics.extractors.files import file_sha256, read_weights
from medgan.metrics.resizing import Resizer

__all__ = ["ModuleExtractor", "load_radimagenet", "load_torchscript", "load_torchxrayvision"]


class ModuleExtractor(Extractor):
    """Features of a layer of any module, such as the penultimate one of a classifier.

    Outputs with a height and a width are averaged over them.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        layer: str = "",
        head: str = "",
        input: InputSpec | None = None,
        device: str | torch.device = "cpu",
        sha256: str = "",
    ) -> None:
        """Wrap a module.

        Args:
            module: Takes images as `input` says. It is put into evaluation mode and moved to `device`.
            name: What numbers are labelled with.
            layer: Dotted name of the layer whose output is taken, such as ``avgpool``; "" for the module's own output.
            head: Dotted name of the linear layer that turns the features into logits; "" if there is none.
            input: What the module is given; three channels in [-1, 1], at their own size, if None.
            device: Where to compute.
            sha256: What tells these weights from others; taken of the weights if "".

        Raises:
            ConfigError: If the module has no such layer, or the head is not linear.
        """
        self._module = module.eval().to(device)
        self._layer = _find_layer(module, layer, name)
        self._head: nn.Linear | None = None
        if head:
            found = _find_layer(module, head, name)
            if not isinstance(found, nn.Linear):
                raise ConfigError(f"Layer {head!r} of {name!r} is {type(found).__name__}; a head must be Linear.")
            self._head, self.dim, self.classes = found, found.in_features, found.out_features
        self.name, self.layer = name, layer
        self.input = InputSpec() if input is None else input
        self.device = torch.device(device)
        self.sha256 = sha256 or module_sha256(module, type(module).__qualname__, layer)

    def extract(self, images: Tensor) -> Tensor:
        """Run the module and take the layer's output: shape ``(N, D)``."""
        outputs: list[object] = []

        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            # A copy: what follows may write into it, as rectifiers in place do.
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

        if self.layer:
            handle = self._layer.register_forward_hook(keep)
            try:
                self._module(images)
            finally:
                handle.remove()
        else:  # TorchScript takes no hooks
            outputs.append(self._module(images))
        if len(outputs) != 1 or not isinstance(outputs[0], Tensor):
            kind = type(outputs[0]).__name__ if len(outputs) == 1 else f"{len(outputs)} outputs"
            raise PluginError(f"Layer {self.layer!r} of {self.name!r} gave {kind}; expected one tensor, once a call.")
        features = outputs[0]
        return features.flatten(2).mean(2) if features.ndim > 2 else features

    def logits(self, features: Tensor) -> Tensor:
        """Run the head: shape ``(N, classes)``."""
        if self._head is None:
            return super().logits(features)
        with torch.inference_mode():
            logits: Tensor = self._head(features.to(self.device))
        return logits


def load_torchscript(path: Path, *, device: str | torch.device = "cpu") -> ModuleExtractor:
    """Load a TorchScript file as an extractor.

    Args:
        path: A module that takes ``(N, 3, height, width)`` float32 in [-1, 1], images at their own size, and returns
            features. Whatever else it needs, such as another size, range or one channel, it does itself.
        device: Where to compute.

    Raises:
        ConfigError: If it is no TorchScript file.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file {path}. Type --extractor torchscript:PATH with a file of torch.jit.save.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.load. is deprecated", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit.load. is deprecated", category=DeprecationWarning)
            module: nn.Module = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"{path} is no TorchScript file ({reason}). Write one with torch.jit.save.") from error
    return ModuleExtractor(module, name=f"torchscript:{path.name}", device=device, sha256=file_sha256(path))


def load_radimagenet(
    weights: Path | None, *, device: str | torch.device = "cpu", resizer: Resizer = "clean"
) -> ModuleExtractor:
    """Load RadImageNet's ResNet-50: 2,048 features of a network that was trained on radiological images only.

    Images are scaled to [-1, 1] and 224 × 224 pixels, as its authors' PyTorch example does. Mei et al., 2022,
    doi:10.1148/ryai.210315.

    Args:
        weights: ``ResNet50.pt`` of the authors' PyTorch weights, whose names begin with ``backbone.``; or the same
            under torchvision's names.
        device: Where to compute.
        resizer: How images come to 224 × 224.

    Raises:
        ConfigError: If the weights are not there, or do not fit.
    """
    from torchvision.models import resnet50

    hint = "Type --weights PATH/ResNet50.pt, from the PyTorch weights at https://github.com/BMEII-AI/RadImageNet"
    path = _required(weights, "radimagenet", hint)
    network = resnet50()
    network.fc = nn.Identity()
    # The authors saved a sequence of torchvision's children, by their positions.
    places = {f"backbone.{position}": name for position, (name, _) in enumerate(network.named_children())}
    found = {}
    for name, value in read_weights(path, hint=hint).items():
        start = ".".join(name.split(".")[:2])
        found[name.replace(start, places[start], 1) if start in places else name] = value
    _load(network, found, path, hint, ignored=("fc.",))
    spec = InputSpec(3, (224, 224), -1.0, 1.0, None, resizer)
    extractor = ModuleExtractor(network, name="radimagenet", input=spec, device=device, sha256=file_sha256(path))
    extractor.dim = 2048
    return extractor


def load_torchxrayvision(
    weights: Path | None, *, device: str | torch.device = "cpu", resizer: Resizer = "clean"
) -> ModuleExtractor:
    """Load a DenseNet-121 of TorchXRayVision: 1,024 features of a network that was trained on chest X-rays.

    Images are grey, in [-1024, 1024], 224 × 224 pixels. Cohen et al., MIDL 2022, arXiv:2111.00595.

    Args:
        weights: State dict of ``torchxrayvision.models.DenseNet``. The published files are pickled Python objects,
            which are code: save the state dict once, as the error says.
        device: Where to compute.
        resizer: How images come to 224 × 224.

    Raises:
        ConfigError: If the weights are not there, or do not fit.
    """
    from torchvision.models import densenet121

    hint = (
        'With torchxrayvision installed, type once: python -c "import torch, torchxrayvision as xrv; torch.save('
        "xrv.models.DenseNet(weights='densenet121-res224-all').state_dict(), 'xrv.pt')\" and then --weights xrv.pt"
    )
    path = _required(weights, "torchxrayvision", hint)
    network = densenet121()
    network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    network.classifier = nn.Identity()
    _load(network, read_weights(path, hint=hint), path, hint, ignored=("classifier.", "op_threshs"))
    spec = InputSpec(1, (224, 224), -1024.0, 1024.0, None, resizer)
    extractor = ModuleExtractor(network, name="torchxrayvision", input=spec, device=device, sha256=file_sha256(path))
    extractor.dim = 1024
    return extractor


def _required(weights: Path | None, name: str, hint: str) -> Path:
    """Return the path of the weights, which must be given."""
    if weights is None:
        raise ConfigError(f"Extractor {name!r} needs weights, and nothing is downloaded. {hint}")
    return weights


def _load(network: nn.Module, found: dict[str, Tensor], path: Path, hint: str, *, ignored: tuple[str, ...]) -> None:
    """Load weights, all of them and no others."""
    kept = {name: value for name, value in found.items() if not name.startswith(ignored)}
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} does not fit ({reason} ...). {hint}") from error


def _find_layer(module: nn.Module, layer: str, name: str) -> nn.Module:
    """Return a layer by its dotted name."""
    known: dict[str, nn.Module] = dict(module.named_modules())
    if layer not in known:
        raise ConfigError(f"{name!r} has no layer {layer!r}. {nearest(layer, filter(None, known))}")
    return known[layer]
