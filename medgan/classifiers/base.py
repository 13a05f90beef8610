"""What a classifier is: images in, one row of logits an image out, and the recipe that trains it well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError

__all__ = ["Classifier", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """How to train a classifier.

    Attributes:
        optimizer: ``adam`` (Kingma and Ba, arXiv:1412.6980), or ``adamw``, whose weight decay is apart from the
            gradient (Loshchilov and Hutter, arXiv:1711.05101).
        learning_rate: Of the first step.
        weight_decay: Of the weights of convolutions and linear layers; biases and normalisations are left alone.
        batch_size: Images a step; a wish to whoever makes the batches.
        schedule: ``constant``, or ``cosine``: down to 0 at the last step (arXiv:1608.03983, without restarts).
        epsilon: Added to the root of the second moment.

    Raises:
        ConfigError: If a number is out of range, or a name unknown.
    """

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch_size: int = 64
    schedule: Literal["constant", "cosine"] = "cosine"
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.optimizer not in ("adam", "adamw"):
            raise ConfigError(f"Recipe.optimizer is {self.optimizer!r}, expected 'adam' or 'adamw'.")
        if self.schedule not in ("constant", "cosine"):
            raise ConfigError(f"Recipe.schedule is {self.schedule!r}, expected 'constant' or 'cosine'.")
        if not (self.learning_rate > 0 and self.epsilon > 0 and self.weight_decay >= 0 and self.batch_size >= 1):
            raise ConfigError(
                "A recipe needs a learning_rate and an epsilon above 0, a weight_decay of at least 0 and a batch_size "
                f"of at least 1; got {self.learning_rate}, {self.epsilon}, {self.weight_decay} and {self.batch_size}."
            )


class Classifier(nn.Module, ABC):
    """Says what images show; a subclass makes its layers in ``__init__`` and defines `features`.

    Two classes take one logit, which is that of class 1; K ≥ 3 classes take K logits, of which the softmax is meant;
    K findings that can come together take K logits, each of its own yes-or-no question.

    Args:
        channels: Image channels.
        size: Height and width, or depth, height and width, in pixels.
        num_classes: Number of classes, at least 2; or of findings, at least 1.
        multilabel: Whether an image can show several findings, or none.

    Attributes:
        name: What results are labelled with.
        head: The last layer, a linear one that turns the features into logits.
        recipe: How it is trained unless told otherwise.
        spatial_dims: Numbers of spatial dimensions that it takes.
        smallest: Shortest side that it takes, in pixels.
        num_logits: Length of a row of logits.

    Raises:
        ConfigError: If it takes no such images or labels.
    """

    name: ClassVar[str]
    recipe: ClassVar[Recipe] = Recipe()
    spatial_dims: ClassVar[tuple[int, ...]] = (2, 3)
    smallest: ClassVar[int] = 16
    head: nn.Linear

    def __init__(self, *, channels: int, size: tuple[int, ...], num_classes: int, multilabel: bool = False) -> None:
        """Check and store what the images and labels are like."""
        super().__init__()
        least = 1 if multilabel else 2
        if num_classes < least:
            what = "findings" if multilabel else "classes"
            raise ConfigError(f"A classifier needs at least {least} {what}, got {num_classes}.")
        if channels < 1:
            raise ConfigError(f"A classifier needs at least 1 channel, got {channels}.")
        if len(size) not in self.spatial_dims:
            takes = " or ".join(f"{dims}-D" for dims in self.spatial_dims)
            raise ConfigError(
                f"Classifier {self.name!r} takes {takes} images, got the size {tuple(size)}. "
                "Type small-cnn, resnet18 or densenet121, which take 2-D and 3-D ones."
            )
        if min(size) < self.smallest:
            raise ConfigError(
                f"Classifier {self.name!r} takes images whose sides have {self.smallest} pixels or more, "
                f"got the size {tuple(size)}. Prepare the data at a larger size, for example with --size 64."
            )
        self.channels = channels
        self.size = tuple(size)
        self.num_classes = num_classes
        self.multilabel = multilabel

    @property
    def num_logits(self) -> int:
        """Number of logits an image."""
        return 1 if self.num_classes == 2 and not self.multilabel else self.num_classes

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Compute what the head decides on.

        Args:
            images: Shape ``(N, channels, *size)``, float32 in [-1, 1].

        Returns:
            Shape ``(N, D)``, D being ``head.in_features``.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits: shape ``(N, num_logits)``.

        Args:
            images: As in `features`.
        """
        logits: Tensor = self.head(self.features(images))
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Compute the probability of each class or finding.

        Args:
            images: As in `features`.

        Returns:
            Shape ``(N, num_classes)``: rows that sum to 1, also for two classes; or for findings, each by itself.
        """
        logits = self(images)
        if self.multilabel:
            return torch.sigmoid(logits)
        if self.num_logits == 1:
            # Both from the logit: 1 - p would lose the digits of a small probability.
            return torch.sigmoid(torch.cat([-logits, logits], dim=1))
        return torch.softmax(logits, dim=1)

    def class_logits(self, logits: Tensor) -> Tensor:
        """Turn logits into one for each class or finding: a single logit z of two classes becomes 0 and z.

        Args:
            logits: Shape ``(N, num_logits)``.

        Returns:
            Shape ``(N, num_classes)``.
        """
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.num_logits < self.num_classes else logits
