"""Differentiable augmentation: the same random distortions for real and generated images.

A small data set lets the discriminator learn its images by heart. Distorting what it sees, real and
fake alike and differentiably, postpones that without teaching the generator the distortions
(Zhao et al., 2020, arXiv:2006.10738). No set of policies flips or rotates: in medicine left and
right, up and down carry meaning. `flip` has to be asked for by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from medgan.errors import ConfigError, nearest

__all__ = ["POLICY_SETS", "AdaptiveAugment", "DiffAugment", "policy_names"]

POLICY_SETS = {
    "xray": ("brightness", "contrast", "translation", "cutout"),
    "ct": ("translation", "cutout"),
    "mri": ("brightness", "contrast", "translation", "cutout"),
    "rgb": ("brightness", "saturation", "contrast", "translation", "cutout"),
}
"""Policies that are safe for a modality, by its name.

Exposure and window vary from radiograph to radiograph, and the units of MRI are arbitrary, so that both bear other
brightness and contrast. In CT a grey level is a number of Hounsfield units, which stays. In colour images of skin,
tissue and endoscopes light and stain vary. None of them flips: hearts are on the left, and livers on the right.
"""


class DiffAugment(nn.Module):
    """A chain of differentiable augmentations, drawn anew for every image.

    Policies: ``brightness`` (add up to ±0.25), ``contrast`` (scale about the image's mean by 0.5 to
    1.5), ``saturation`` (scale the channels about their mean in each pixel by 0 to 2), ``translation``
    (shift by up to an eighth of each side, black comes in), ``cutout`` (a black box of half of each
    side) and ``flip`` (mirror the last axis, left and right, of every other image). All but
    ``saturation`` work on any number of channels, and all on any number of spatial dimensions.
    A name of `POLICY_SETS`, such as ``xray``, stands for the policies that are safe for that modality.

    Args:
        policy: ``"none"``, or names joined by commas, applied in that order, each once.
        probability: Chance of each augmentation to be applied to an image. Below 1 the discriminator
            also sees images as they are, and notices when the generator's poses and exposures vary
            less than the real ones.

    Raises:
        ConfigError: If a name is unknown or repeated, or the probability is not between 0 and 1.

    Example:
        >>> DiffAugment("translation,cutout")(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, policy: str = "none", probability: float = 1.0) -> None:
        """Look the names up."""
        super().__init__()
        if not 0 <= probability <= 1:
            raise ConfigError(f"The probability of an augmentation must be between 0 and 1, got {probability}.")
        self.policy = policy
        self.probability: float | Tensor = probability
        self._steps = [_POLICIES[name] for name in policy_names(policy)]

    def forward(self, images: Tensor, draw: Callable[[], Tensor] | None = None) -> Tensor:
        """Distort images.

        Args:
            images: Shape ``(N, C, *size)``, in [-1, 1].
            draw: Returns a random number in [0, 1) for each image, ``(N,)`` on its device, anew at each call; None for
                torch's own random numbers.

        Returns:
            Images of the same shape; brightness and contrast may leave [-1, 1].
        """
        draw = draw or partial(torch.rand, len(images), device=images.device)
        for step in self._steps:
            chosen = _over(draw(), images) < self.probability
            images = torch.where(chosen, step(images, draw), images)
        return images

    def extra_repr(self) -> str:
        """Return the policy, for printing."""
        return f"{self.policy}, probability={float(self.probability):g}"


class AdaptiveAugment(DiffAugment):
    """`DiffAugment` whose probability follows how well the discriminator knows its images (ADA).

    Where it calls most of the training images real, r = E[sign D(x)] rises above a target, and the probability rises;
    below the target it falls: every 4 discriminator steps by ±(images since then) / (`kimg` × 1,000), within 0 and
    `limit`. With losses on differences r is E[sign(D(x) - D(G(z)))], over pairs. All state is in buffers, and nothing
    waits for an accelerator.

    Args:
        policy: As in `DiffAugment`, but not ``"none"``.
        probability: Where it starts.
        target: The r that it is steered to.
        kimg: Thousand images in which the probability can move by 1.
        limit: Largest probability; near 1 the generator would learn the distortions.

    Raises:
        ConfigError: If there is no policy, or a number is out of its range.

    References:
        Karras et al., 2020, arXiv:2006.06676.
    """

    probability: Tensor
    observed: Tensor

    def __init__(
        self, policy: str, probability: float = 0.0, *, target: float = 0.6, kimg: float = 100.0, limit: float = 0.8
    ) -> None:
        """Create the buffers."""
        super().__init__(policy, probability)
        if policy == "none":
            raise ConfigError("An adaptive augmentation needs policies. Type for example --augment xray.")
        if not 0 <= limit <= 1:
            raise ConfigError(f"An adaptive augmentation cannot have a limit of {limit:g}; it is a probability.")
        if probability > limit:
            raise ConfigError(
                f"An adaptive augmentation starts at a probability of {probability:g}, above its limit {limit:g}. Type "
                "--augment-probability 0 to start without."
            )
        if not kimg > 0:
            raise ConfigError(f"An adaptive augmentation moves in more than 0 thousand images, got {kimg:g}.")
        self.target = target
        self.kimg = kimg
        self.limit = limit
        del self.probability
        self.register_buffer("probability", torch.tensor(float(probability)))
        # Sum of the mean signs, number of steps and images, since the probability moved last.
        self.register_buffer("observed", torch.zeros(3))

    @torch.no_grad()
    def observe(self, sign: Tensor, images: int) -> None:
        """Take note of a discriminator step, and move the probability at every fourth one.

        Args:
            sign: Mean sign of the realness of the step's training images, or of its differences to that of generated
                ones, over all processes; a scalar.
            images: Their number.
        """
        sign = sign.float()
        self.observed += torch.stack([sign, torch.ones_like(sign), torch.full_like(sign, images)])
        total, steps, seen = self.observed.unbind()
        due = steps >= _ADA_INTERVAL
        moved = self.probability + torch.sign(total / steps - self.target) * seen / (1000 * self.kimg)
        self.probability.copy_(torch.where(due, moved.clamp(0, self.limit), self.probability))
        self.observed.mul_(~due)

    def extra_repr(self) -> str:
        """Return the policy and what it is steered by, for printing."""
        return f"{super().extra_repr()}, target={self.target:g}, kimg={self.kimg:g}, limit={self.limit:g}"


def policy_names(policy: str) -> tuple[str, ...]:
    """Return the single policies that a text stands for.

    Args:
        policy: ``"none"``, or names of policies and sets joined by commas.

    Raises:
        ConfigError: If a name is unknown, or one occurs twice.
    """
    if policy == "none":
        return ()
    names: list[str] = []
    for name in (part.strip() for part in policy.split(",")):
        if name not in POLICY_SETS and name not in _POLICIES:
            known = ["none", *POLICY_SETS, *_POLICIES]
            raise ConfigError(f"Augmentation {name!r} is unknown. {nearest(name, known)}")
        names += POLICY_SETS.get(name, (name,))
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        once = ",".join(dict.fromkeys(names))
        raise ConfigError(f"Augmentation {policy!r} holds {repeated} twice. Name it once: {once}")
    return tuple(names)


_Draw = Callable[[], Tensor]


def _over(numbers: Tensor, images: Tensor) -> Tensor:
    """Return a number for each image, ``(N,)``, in the images' type and broadcastable over them."""
    return numbers.to(images.dtype).view(-1, *[1] * (images.ndim - 1))


def _brightness(images: Tensor, draw: _Draw) -> Tensor:
    return images + (_over(draw(), images) - 0.5) * 0.5


def _contrast(images: Tensor, draw: _Draw) -> Tensor:
    mean = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    return (images - mean) * (_over(draw(), images) + 0.5) + mean


def _saturation(images: Tensor, draw: _Draw) -> Tensor:
    grey = images.mean(dim=1, keepdim=True)
    return (images - grey) * (_over(draw(), images) * 2) + grey


def _flip(images: Tensor, draw: _Draw) -> Tensor:
    return torch.where(_over(draw(), images) < 0.5, images.flip(-1), images)


def _translation(images: Tensor, draw: _Draw) -> Tensor:
    """Shift by gathering pixels, -1 where none is left: cheap forward, exact gradient, any dimension."""
    n, channels, *size = images.shape
    source = torch.zeros(n, *size, dtype=torch.int64, device=images.device)
    inside = torch.ones(n, *size, dtype=torch.bool, device=images.device)
    for axis, length in enumerate(size):
        reach = max(1, round(length / 8))
        shift = _whole(draw(), 2 * reach + 1) - reach
        position = torch.arange(length, device=images.device) + shift
        view = (n, *[length if other == axis else 1 for other in range(len(size))])
        inside = inside & ((position >= 0) & (position < length)).view(view)
        source = source * length + position.clamp(0, length - 1).view(view)
    index = source.view(n, 1, -1).expand(-1, channels, -1)
    moved = images.reshape(n, channels, -1).gather(2, index).view_as(images)
    return torch.where(inside.unsqueeze(1), moved, images.new_tensor(-1.0))


def _cutout(images: Tensor, draw: _Draw) -> Tensor:
    n, _, *size = images.shape
    hidden = torch.ones(n, *size, dtype=torch.bool, device=images.device)
    for axis, length in enumerate(size):
        box = length // 2
        centre = _whole(draw(), length + 1)
        position = torch.arange(length, device=images.device)
        view = (n, *[length if other == axis else 1 for other in range(len(size))])
        hidden = hidden & ((position >= centre - box // 2) & (position < centre - box // 2 + box)).view(view)
    return torch.where(hidden.unsqueeze(1), images.new_tensor(-1.0), images)


def _whole(numbers: Tensor, count: int) -> Tensor:
    """Turn numbers in [0, 1), ``(N,)``, into whole ones from 0 to count - 1, ``(N, 1)``."""
    return (numbers.float() * count).long().unsqueeze(1)


_POLICIES: dict[str, Callable[[Tensor, _Draw], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "translation": _translation,
    "cutout": _cutout,
    "flip": _flip,
}
_ADA_INTERVAL = 4  # discriminator steps
