"""Classifiers by name: medgan's own, those that installed packages declare, and classes.

A third party's package declares, in its own ``pyproject.toml``::

    [project.entry-points."medgan.classifiers"]
    mine = "mypackage:MyClassifier"

where ``MyClassifier`` is a class or function that returns a `medgan.classifiers.Classifier`, called with the keywords
``channels``, ``size``, ``num_classes`` and ``multilabel``, while PyTorch's random numbers are seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medgan.errors import ConfigError, PluginError
from medgan.plugin_lookup import PluginGroup

if TYPE_CHECKING:
    from medgan.classifiers.base import Classifier

__all__ = ["GROUP", "classifier_names", "make_classifier"]

GROUP = "medgan.classifiers"
"""Entry-point group."""

_CLASSIFIERS = PluginGroup(
    GROUP,
    noun="Classifier",
    product="medgan.classifiers.Classifier",
    built_in=("densenet121", "report-vgg16", "resnet18", "small-cnn", "vgg16"),
)


def classifier_names() -> list[str]:
    """Return the names of all classifiers, sorted, without importing any, and last the form ``module:Class``."""
    return _CLASSIFIERS.names()


def make_classifier(
    name: str, *, channels: int, size: Sequence[int], num_classes: int, multilabel: bool = False, seed: int = 0
) -> Classifier:
    """Make an untrained classifier.

    Args:
        name: ``small-cnn``, ``resnet18``, ``densenet121``, ``vgg16`` or ``report-vgg16``; a name that an installed
            package declares; or ``module:Class``, in the current directory or installed, that is called as such a
            package's. Classes run code: take only those that you trust, and from no file that others wrote.
        channels: Image channels, 1 or 3.
        size: Height and width, or depth, height and width, in pixels.
        num_classes: Number of classes, at least 2; or of findings, at least 1.
        multilabel: Whether an image can show several findings, or none.
        seed: Of the initial weights, which depend on nothing else; torch's global random state stays as it is.

    Returns:
        The classifier, on the CPU, in training mode.

    Raises:
        ConfigError: If there is no such classifier, or it takes no such images or labels.
        PluginError: If a third party's is there, but broken.

    Examples:
        >>> import torch
        >>> classifier = make_classifier("small-cnn", channels=1, size=(64, 64), num_classes=2)
        >>> classifier(torch.zeros(5, 1, 64, 64)).shape
        torch.Size([5, 1])
    """
    if channels not in (1, 3):
        raise ConfigError(f"Classifiers take images of 1 channel (grey) or 3 (colour), got {channels}.")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, got {seed}.")
    from medgan.classifiers.base import Classifier
    from medgan.core.randomness import seeded

    shape = tuple(int(length) for length in size)
    with seeded(seed):
        if _CLASSIFIERS.is_built_in(name):
            return _built_in(name)(channels=channels, size=shape, num_classes=num_classes, multilabel=multilabel)
        options = {"channels": channels, "size": shape, "num_classes": num_classes, "multilabel": multilabel}
        # The class is abstract, which is no matter: it is only compared with.
        made = _CLASSIFIERS.make(name, Classifier, options=options, required=("name", "head"))  # type: ignore[type-abstract]
    outputs = getattr(made.head, "out_features", None)
    if outputs != made.num_logits:
        raise PluginError(
            f"Classifier {name!r} has a head of {outputs} outputs; expected a torch.nn.Linear of {made.num_logits}."
        )
    return made


def _built_in(name: str) -> type[Classifier]:
    """Return one of medgan's own classes."""
    if name == "small-cnn":
        from medgan.classifiers.small_cnn import SmallCNN

        return SmallCNN
    if name == "report-vgg16":
        from medgan.classifiers.report_vgg16 import ReportVGG16

        return ReportVGG16
    from medgan.classifiers import backbones

    return {"densenet121": backbones.DenseNet121, "resnet18": backbones.ResNet18, "vgg16": backbones.VGG16}[name]
