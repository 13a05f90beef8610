"""From an image as read to an image of one size: named pipelines of MONAI transforms, and the user's own.

A pipeline has few steps, each a callable that maps an array ``(channels, *spatial)`` in [0, 1] to another one, held by
a plain ``monai.transforms.Compose``. Their order is not free:

1. Channels first, as all that follows is then done once rather than three times.
2. Borders are cut before markers are masked, as text on the border goes with it, and "near the corner" means the
   corner of the image proper.
3. Contrast after both, as a white letter and a black border are what most spoils a histogram.
4. The size last, as letters lose their sharp edges when an image shrinks. Contrast alone works on an image that is
   shrunk part of the way: large and small radiographs are then equalised alike, and the large ones in milliseconds.

Nothing here is random: an image is prepared once and kept. Augmentations belong to training.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medgan.data.decoded import ReadError, raise_if_passing
from medgan.data.transforms import Fit, Resizer, to_colour, to_grey
from medgan.data.window import Window
from medgan.errors import ConfigError, nearest

__all__ = ["PIPELINES", "Contrast", "Pipeline", "PipelineDefaults", "load_transforms", "make_pipeline"]

Contrast = Literal["none", "clahe", "percentile"]
"""What is done for the contrast; see `make_pipeline`."""


@dataclass(frozen=True)
class PipelineDefaults:
    """What a named pipeline stands for, unless the user says otherwise.

    Attributes:
        summary: One sentence.
        window: How stored values become black and white.
        channels: 1 for grey, 3 for colour, or ``auto`` for as found.
    """

    summary: str
    window: Window
    channels: Literal[1, 3, "auto"]


PIPELINES: Mapping[str, PipelineDefaults] = MappingProxyType(
    {
        "auto": PipelineDefaults("As each file says: its channels, and its window if it names one.", Window(), "auto"),
        "xray": PipelineDefaults("Radiographs: grey, by the window that each file names.", Window("auto"), 1),
        # Hounsfield units are calibrated, so one window keeps scanners comparable. This one spans air, lung, soft
        # tissue and all bone but the densest, and cuts no organ away; for one organ the user types a narrower one.
        "ct": PipelineDefaults(
            "Computed tomography: grey, -1000 to 1000 Hounsfield units.", Window("fixed", centre=0, width=2000), 1
        ),
        "mri": PipelineDefaults(
            "Magnetic resonance: grey, by percentiles of each image, as its units are arbitrary.",
            Window("percentile"),
            1,
        ),
        "rgb": PipelineDefaults("Colour pictures, such as of skin, eye or tissue: three channels.", Window("auto"), 3),
        "raw": PipelineDefaults("As stored: the file's channels and its whole range.", Window("none"), "auto"),
    }
)
"""The named pipelines, with their defaults."""

_Step = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_ROUNDING = 1e-4  # how far a step may leave [0, 1] and be clipped; far below one of 255 levels


class Pipeline:
    """Brings images to their size, channels and contrast; made by `make_pipeline`.

    Attributes:
        name: One of `PIPELINES`.
        size: Height and width, or depth, height and width.
        channels: Channels of the results: 1, 3, or ``auto`` for as found.
        compose: The steps, a ``monai.transforms.Compose``. Another one can be put in its place.
    """

    def __init__(self, name: str, size: tuple[int, ...], channels: Literal[1, 3, "auto"], steps: list[_Step]) -> None:
        """Take the steps; `make_pipeline` chooses them."""
        from monai.transforms.compose import Compose  # takes seconds, so only where it is needed

        self.name = name
        self.size = size
        self.channels = channels
        self.compose = Compose(steps)

    def __repr__(self) -> str:
        """Return the name and the steps."""
        return f"<Pipeline {self.name}: {' → '.join(map(_name, self.compose.transforms))}>"

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Bring one image into shape.

        Args:
            image: Shape ``(channels, *spatial)`` with 1 or 3 channels and as many axes as `size`, float32 in [0, 1];
                never changed in place.

        Returns:
            The image, shape ``(channels, *size)``, float32 in [0, 1]; and what is to be noted of it:
            ``masked_area``, the fraction of the image that was masked, where markers are masked.

        Raises:
            ReadError: If a step fails, or gives NaN or values outside of [0, 1]; it names the step.
        """
        facts: dict[str, str] = {}
        image = self._checked("the reader", image, image)
        # Step by step rather than by the Compose, which cannot say which of them was the first to go wrong.
        for step in self.compose.transforms:
            before = image
            image = self._run(step, before)
            if isinstance(step, MaskMarkers):
                facts["masked_area"] = f"{(image != before).any(axis=0).mean():.4f}"
        if image.shape[1:] != self.size or len(image) not in self._channels:
            error = f"{self} ends with the shape {image.shape}, wanted {(self.channels, *self.size)}"
            raise ReadError("check", error, "begin the steps with to_grey or to_colour, and end them with a Resizer")
        return image, facts

    @property
    def _channels(self) -> tuple[int, ...]:
        """Numbers of channels that may come out."""
        return (1, 3) if self.channels == "auto" else (self.channels,)

    def _run(self, step: _Step, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a step."""
        try:
            result = step(image)
        except Exception as exception:  # whatever a library makes of an odd image: this one fails, not all
            cause = exception.__cause__ or exception  # MONAI wraps what its transforms raise
            raise_if_passing(cause)
            error = f"{_name(step)}: {type(cause).__name__}: {cause}"
            raise ReadError("check", error, "mend the step, leave it out, or delete the file") from exception
        return image if result is image else self._checked(_name(step), result, image)

    def _checked(self, origin: str, result: Any, before: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a step gave as an array, if it is what a step promises."""
        array: NDArray[Any] = np.asarray(result.detach().cpu() if hasattr(result, "detach") else result)
        if array.dtype.kind not in "fiub":
            error = f"{origin} gave {type(result).__name__}, expected an array or tensor of numbers"
            raise ReadError("check", error, "return the image, float32 in 0...1")
        lost = len(before) in self._channels and array.ndim > 0 and len(array) not in self._channels
        if array.ndim != before.ndim or lost or not array.size:
            error = f"{origin} made the shape {array.shape} of {before.shape}"
            channels = " or ".join(map(str, self._channels))
            raise ReadError("check", error, f"keep the axes, channels first; channels wanted: {channels}")
        low, high = float(array.min()), float(array.max())
        if not (math.isfinite(low) and math.isfinite(high)):  # NaN anywhere is NaN here
            error = f"{origin} gave NaN or infinite values"
            raise ReadError("check", error, "mend it, or delete the file; an image that is flat may divide by zero")
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            hint = "end transforms of your own with monai.transforms.ScaleIntensityRange(low, high, 0, 1, clip=True)"
            raise ReadError("check", f"{origin} gave values {low:g}...{high:g}, expected 0...1", hint)
        array = array.astype(np.float32, copy=False)
        return array if low >= 0 and high <= 1 else array.clip(0, 1)


def make_pipeline(
    name: str,
    *,
    size: tuple[int, ...],
    fit: Fit = "stretch",
    channels: int | Literal["auto"] = "auto",
    contrast: Contrast = "none",
    crop_border: bool = False,
    mask_markers: bool = False,
    transforms: str | None = None,
) -> Pipeline:
    """Make a named pipeline.

    Args:
        name: One of `PIPELINES`.
        size: Wanted ``(height, width)`` or ``(depth, height, width)``.
        fit: How other proportions fit; see `medgan.data.transforms.Resizer`.
        channels: 1, 3, or ``auto`` for what the name stands for.
        contrast: ``none``; ``clahe``, contrast limited adaptive histogram equalisation
            (`skimage.exposure.equalize_adapthist`, on the brightest channel of colour images, which keeps their hue);
            ``percentile``, 0.5 and 99.5 % of the values become black and white.
        crop_border: Cut off the dark surroundings of what is largest in the image, such as collimation; the image is
            kept whole where less than a third of a side would be left.
        mask_markers: Paint over small, bright, sharply edged things near the border, such as the letters L and R or
            burned-in text, with their surroundings' median. What it finds may be a device of the patient.
        transforms: ``module:object`` of the user's own transforms in place of the steps above; see `load_transforms`.
            Channels are still brought to their number before, and the size after them. For what is not offered here,
            such as bias field correction (N4) of magnetic resonance images.

    Returns:
        The pipeline.

    Raises:
        ConfigError: If an option is unknown, or cannot be had together with another.
    """
    if name not in PIPELINES:
        raise ConfigError(f"Pipeline {name!r} is unknown. {nearest(str(name), PIPELINES)}")
    if channels not in {1, 3, "auto"}:
        raise ConfigError(f"channels must be 1, 3 or 'auto', got {channels!r}.")
    if contrast not in get_args(Contrast):
        raise ConfigError(f"contrast={contrast!r} is unknown. {nearest(str(contrast), get_args(Contrast))}")
    resizer = Resizer(size, fit)
    if mask_markers and len(size) == 3:
        raise ConfigError("mask_markers works on pictures, not on volumes. Leave --mask-markers out.")
    if transforms is not None and (crop_border or mask_markers or contrast != "none"):
        raise ConfigError(
            "transforms takes the place of contrast, crop_border and mask_markers. Leave these out, or --transforms."
        )
    chosen: Any = PIPELINES[name].channels if channels == "auto" else channels
    steps: list[_Step] = [] if chosen == "auto" else [to_grey if chosen == 1 else to_colour]
    if transforms is not None:
        steps.append(_UserTransforms(transforms, load_transforms(transforms)[0]))
    if crop_border:
        steps.append(CropBorder())
    if mask_markers:
        steps.append(MaskMarkers())
    if contrast != "none":
        steps += [Shrink(resizer), CLAHE() if contrast == "clahe" else Percentiles()]
    return Pipeline(name, size, chosen, [*steps, resizer])


def load_transforms(text: str) -> tuple[Callable[[NDArray[np.float32]], Any], str]:
    """Import the user's own transforms.

    The module is looked for in the current directory, then where Python looks. The object is a
    ``monai.transforms.Compose`` or any function. It takes a NumPy array ``(channels, *spatial)``, float32 in [0, 1],
    with 1 or 3 channels (functions of torch need ``torch.as_tensor`` first), and returns an array or tensor of the same
    kind, of any spatial size. It must do the same whenever it is called, as its results are kept; MONAI's random
    transforms are refused.

    Args:
        text: ``module:object``, for example ``mytransforms:prepare`` for ``prepare`` of ``mytransforms.py``.

    Returns:
        The object, and a text that changes with it, which is its name and the sha256 of the module's source file (not
        of the modules that this one imports).

    Raises:
        ConfigError: If there is no such module or object, it fails to import, it cannot be called, it is random, or
            its file was edited after it was imported.

    Examples:
        >>> transforms, identity = load_transforms("medgan.data.transforms:to_grey")
        >>> identity.split(" sha256:")[0]
        'medgan.data.transforms:to_grey'
    """
    name, colon, path = text.partition(":")
    parts = (*name.split("."), *path.split("."))
    if not (colon and all(part.isidentifier() for part in parts)) or name.endswith(".py"):
        raise ConfigError(
            f"transforms={text!r} is not module:object. Type for example --transforms mytransforms:prepare for the "
            "function prepare in mytransforms.py of the current directory."
        )
    module = _import(name)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ConfigError(f"There is no {path!r} in {module.__file__}. {nearest(path, known)}")
        found = getattr(found, part)
    if isinstance(found, type):
        raise ConfigError(f"{text} is a class. Make an object of it, prepare = {path}(), and type {name}:prepare.")
    if not callable(found):
        raise ConfigError(
            f"{text} is of type {type(found).__name__}, which cannot be called. Give a function or a Compose."
        )
    if random := _random_part(found):
        raise ConfigError(
            f"{text} holds {random}, which is random: an image is prepared once, so chance would strike once and be "
            "kept. Leave it out; augmentation is part of training (--augment)."
        )
    return found, f"{text} sha256:{_source_hashes[name]}"


_source_hashes: dict[str, str] = {}  # of the user's modules, at the time of their import


def _import(name: str) -> Any:
    """Import the user's module from the current directory or elsewhere, and note the hash of its source."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        invalidate_caches()  # the file may be younger than Python's list of the directory
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"The module {name!r} imports {error.name!r}, which is not installed.") from error
        raise ConfigError(
            f"There is no module {name!r}, neither in {here} nor installed. Save your transforms in "
            f"{name.replace('.', '/')}.py, and start medgan in the directory that holds it."
        ) from error
    except Exception as error:
        raise ConfigError(f"The module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    file = getattr(module, "__file__", None)
    if file is None:
        raise ConfigError(f"The module {name!r} has no file of its own. Save your transforms in a file.py.")
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    if _source_hashes.setdefault(name, digest) != digest:  # else new pixels would be said to come from the old code
        raise ConfigError(f"{file} was edited after Python imported it. Start Python again.")
    return module


def _random_part(transform: Any) -> str | None:
    """Return the name of the first of MONAI's random transforms in a transform, or None."""
    if "monai" not in sys.modules:  # then there is none, and no need to spend seconds on its import
        return None
    from monai.transforms.compose import Compose, OneOf, RandomOrder, SomeOf
    from monai.transforms.traits import RandomizableTrait

    # Every Compose is Randomizable, only to hand a seed to its parts.
    if isinstance(transform, Compose) and not isinstance(transform, OneOf | RandomOrder | SomeOf):
        return next(filter(None, map(_random_part, transform.transforms)), None)
    return type(transform).__name__ if isinstance(transform, RandomizableTrait) else None


def _name(step: Any) -> str:
    """Name a step: functions by their name, others by what they print."""
    name: str = getattr(step, "__name__", None) or repr(step)
    return name


# ---------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class _UserTransforms:
    """The user's own transforms."""

    text: str
    function: Callable[[NDArray[np.float32]], Any]

    def __repr__(self) -> str:
        return f"transforms {self.text}"

    def __call__(self, image: NDArray[np.float32]) -> Any:
        return self.function(image.copy())  # many a function works in place


_DARK = 0.05  # of the brightest value; collimation is black but for the noise of JPEG
_KEPT = 1 / 3  # of each side, at least
_BORDER_LENGTH = {2: 512, 3: 128}  # borders are searched on every n-th pixel of longer sides


@dataclass(frozen=True)
class CropBorder:
    """Cut the image down to its largest bright part, exact to 1/512 of a picture's sides, or 1/128 of a volume's.

    Everything but the largest connected part counts as border, so that text on a black border does not hold it back.
    """

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Crop ``(channels, *spatial)``; returns the image itself where there is no border."""
        from monai.transforms.utils import generate_spatial_bounding_box, get_largest_connected_component_mask

        lengths = image.shape[1:]
        steps = [max(1, length // _BORDER_LENGTH[len(lengths)]) for length in lengths]
        sparse = image[:, *(slice(None, None, step) for step in steps)].max(axis=0)
        largest = get_largest_connected_component_mask(sparse > _DARK * sparse.max(), connectivity=1)
        # Both are what MONAI's CropForeground stands on, which leaves no pixel of an image without foreground.
        box = zip(*generate_spatial_bounding_box(largest[None], allow_smaller=True), steps, lengths, strict=True)
        cropped = image[:, *(slice(first * step, min(last * step, length)) for first, last, step, length in box)]
        kept = np.divide(cropped.shape[1:], lengths)
        return image if kept.min() < _KEPT or kept.min() == 1 else cropped


_MARKER_VALUE = 0.75  # of the brightest value, at least
_MARKER_CONTRAST = 0.2  # of the brightest value, between a marker and what surrounds it
_MARKER_ZONE = 0.2  # of the sides: how far from the border a marker may reach
_MARKER_SIDE = 0.15  # of the sides, at most
_MARKER_AREA = 3e-6  # of the image, at least
_MARKER_EDGE = 1 / 256  # of the longest side: the width of a sharp edge


@dataclass(frozen=True)
class MaskMarkers:
    """Paint over small, bright, sharply edged things near the border with the median of what surrounds them.

    Bone and soft tissue fade over more pixels than a letter of lead or of a program does, which keeps them.
    """

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mask a picture ``(channels, height, width)``; returns the image itself where nothing was found."""
        from scipy import ndimage

        value, lengths = image.max(axis=0), np.array(image.shape[1:])
        peak = value.max()
        bright = value >= _MARKER_VALUE * peak
        edge = max(1, round(_MARKER_EDGE * lengths.max()))
        labels, _ = ndimage.label(bright, structure=np.ones((3, 3)))
        masked = image
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            start, stop = np.array([(side.start, side.stop) for side in box]).T
            near = (stop <= _MARKER_ZONE * lengths) | (start >= (1 - _MARKER_ZONE) * lengths)
            small = stop - start <= np.maximum(_MARKER_SIDE * lengths, 1)
            if not (near.any() and small.all()):
                continue
            window = tuple(slice(max(0, side.start - 3 * edge), side.stop + 3 * edge) for side in box)
            inside = labels[window] == number
            if inside.sum() < _MARKER_AREA * value.size:
                continue
            distance = ndimage.distance_transform_edt(~inside)
            around = (distance > edge) & (distance <= 3 * edge) & ~bright[window]
            if not around.any():
                continue
            if np.median(value[window][inside]) - np.median(value[window][around]) < _MARKER_CONTRAST * peak:
                continue
            if masked is image:
                masked = image.copy()
            # The whole box: filled in its own shape, a letter stays legible as a shadow of itself.
            filled = tuple(slice(max(0, side.start - edge), side.stop + edge) for side in box)
            for old, new in zip(image, masked, strict=True):
                new[filled] = np.median(old[window][around])
        return masked


# Contrast works on images of about this length, or the wanted one if that is larger: CLAHE's tiles are eighths of a
# side and hold 32 x 32, or 16 x 16 x 16, values. In fewer its limit on contrast, 1 % of the values, becomes coarse; at
# 2000 x 2000 it takes 220 ms, here 4.
_CONTRAST_LENGTH = {2: 256, 3: 128}


@dataclass(frozen=True)
class Shrink:
    """Shrink large images part of the way to their size, so that contrast takes milliseconds."""

    resizer: Resizer = field(repr=False)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shrink ``(channels, *spatial)``; sides that grow later, and small images, are left alone."""
        found = image.shape[1:]
        scales = self.resizer.scales(found)
        longest = max(length * scale for length, scale in zip(found, scales, strict=True))
        factor = max(1.0, _CONTRAST_LENGTH[len(found)] / longest)
        return Resizer(
            tuple(max(1, round(length * min(1.0, scale * factor))) for length, scale in zip(found, scales, strict=True))
        )(image)


_LEVEL = 1 / 65535  # scikit-image's resolution


@dataclass(frozen=True)
class CLAHE:
    """Contrast limited adaptive histogram equalisation; of colour images, the brightest channel leads."""

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Equalise ``(channels, *spatial)``; a flat image comes back unchanged."""
        from skimage.exposure import equalize_adapthist

        value = image.max(axis=0)
        if value.max() - value.min() < _LEVEL:  # scikit-image would make it white
            return image
        # scikit-image takes a volume that is 3 or 4 voxels wide for a colour picture, unless it has one more axis.
        flat = equalize_adapthist(value[None] if value.ndim == 3 else value)
        equalised: NDArray[np.float32] = flat.reshape(value.shape).astype(np.float32)
        if len(image) == 1:
            return equalised[None]
        # Value in HSV: scaling all channels alike keeps hue and saturation, and black has none.
        ratio = np.divide(equalised, value, out=np.zeros_like(value), where=value > 0)
        return np.where(value > 0, image * ratio, equalised).clip(0, 1)


@dataclass(frozen=True)
class Percentiles:
    """Stretch the values so that 0.5 and 99.5 % of them become 0 and 1; what lies outside is cut off."""

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Stretch ``(channels, *spatial)``; an image that is flat between these percentiles comes back unchanged."""
        low, high = Window("percentile").limits(image, None)
        return Window.apply(image, low, high) if low < high else image
