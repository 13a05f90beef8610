"""Reading one image file: whatever its mode, bit depth and orientation, the same grey or RGB array comes out.

Decisions, for those who compare with another reader:

* The content decides the format, not the extension: a PNG called ``.jpg`` is read as PNG.
* 16-bit grey keeps its range and is never clipped to 255. Integers of 32 bits are accepted within 0...65535 and float
  images within 0...1, since any other range would be a guess; the rest is refused.
* Transparent pixels are laid over black, the background of a radiograph; dropping alpha would uncover hidden values.
* Colour other than RGB (palette, CMYK, YCbCr) is converted to RGB, 1-bit images to 0 and 255.
* A 16-bit TIFF that says "white is zero" is inverted, as Pillow does for its 8-bit kin but not for 16 bits.
* The EXIF and TIFF orientation is applied.
* An image of several frames or pages is refused: which of them is meant is not ours to guess.
* Pillow's protection from decompression bombs stays on (error above 179 million pixels).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["IMAGE_SUFFIXES", "DecodedImage", "ReadError", "looks_like_image", "read_image", "without_equal_channels"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib"})

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"BM")
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0


class ReadError(Exception):
    """One image that cannot be used; goes to the quarantine table and stops nothing.

    Attributes:
        stage: Where it failed: ``list``, ``open``, ``decode`` or ``check``.
        error: What is wrong.
        hint: What to do about it.
    """

    def __init__(self, stage: str, error: str, hint: str) -> None:
        """Say where it failed, what is wrong, and what to do."""
        super().__init__(stage, error, hint)  # all of them, so that the exception survives pickling
        self.stage, self.error, self.hint = stage, error, hint


@dataclass(frozen=True)
class DecodedImage:
    """One image as found.

    Attributes:
        pixels: Shape ``(height, width, channels)`` with 1 or 3 channels; uint8 with the range 0...255 or uint16 with
            the range 0...65535. An RGB image whose channels are equal has 1 channel.
        mode: Pillow's mode of the file, such as ``L``, ``RGB``, ``I;16``.
        bits: Bits per sample in the file.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    mode: str
    bits: int

    @property
    def width(self) -> int:
        """Width in pixels, after orientation."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels, after orientation."""
        return int(self.pixels.shape[0])


def looks_like_image(path: Path) -> bool:
    """Tell from the first bytes whether a file without extension is one of the formats that medgan reads.

    Args:
        path: An existing file.

    Returns:
        True for PNG, JPEG, TIFF and BMP; False for others and for files that cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return file.read(16).startswith(_SIGNATURES)
    except OSError:
        return False


def read_image(path: Path) -> DecodedImage:
    """Read a PNG, JPEG, TIFF or BMP file.

    Args:
        path: The file; its extension does not matter.

    Returns:
        The decoded image.

    Raises:
        ReadError: If the file cannot be read, or holds no usable picture.
    """
    try:
        if path.stat().st_size == 0:
            raise ReadError("open", "empty file (0 bytes)", "copy the file again from its origin, or delete it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; pixels that are wrong raise
            # By file, not by name: by name, Pillow 13.0 maps uncompressed TIFFs into memory and scrambles turned ones.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                return _decode(image)
    except ReadError:
        raise
    except UnidentifiedImageError:
        error, hint = "not a PNG, JPEG, TIFF or BMP image", "convert the file to PNG, or delete it"
        raise ReadError("open", error, hint) from None
    except Image.DecompressionBombError as exception:
        hint = "shrink the image below 179 million pixels"
        raise ReadError("open", f"too large: {exception}", hint) from exception
    except OSError as exception:
        hint = "the file is truncated or damaged, or may not be read: copy it again from its origin, or delete it"
        stage = "open" if exception.errno is not None else "decode"
        raise ReadError(stage, _describe(exception), hint) from exception
    except Exception as exception:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        hint = "the file is damaged: copy it again, or delete it"
        raise ReadError("decode", _describe(exception), hint) from exception


def without_equal_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Reduce an RGB image that is grey in content to one channel.

    Args:
        pixels: Shape ``(height, width, channels)``.

    Returns:
        Shape ``(height, width, 1)`` if all channels are equal, else the image unchanged.
    """
    grey = all(np.array_equal(pixels[..., 0], pixels[..., channel]) for channel in range(1, pixels.shape[2]))
    return pixels[..., :1] if grey else pixels


def _decode(image: Image.Image) -> DecodedImage:
    """Turn an opened image into an array; see the module's list of decisions."""
    mode = image.mode
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        hint = "save the frame that you want as a file of its own"
        raise ReadError("decode", f"{frames} frames in one file", hint)
    tags: Any = getattr(image, "tag_v2", {})
    bits = _bits(mode, tags)
    white_is_zero = mode.startswith(("I", "F")) and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image.load()
    upright = ImageOps.exif_transpose(image)
    pixels = _deep_pixels(upright, bits) if mode.startswith(("I", "F")) else _byte_pixels(upright)
    if white_is_zero:
        pixels = 65535 - pixels
    if pixels.min() == pixels.max():
        error = f"constant image: every pixel is {pixels.min()}"
        raise ReadError("check", error, "an image without content teaches nothing: delete it")
    return DecodedImage(without_equal_channels(pixels), mode, bits)


def _bits(mode: str, tags: Any) -> int:
    """Bits per sample of the file."""
    if _BITS_PER_SAMPLE in tags:
        return int(tags[_BITS_PER_SAMPLE][0])
    if mode == "1":
        return 1
    if mode.startswith("I;16"):
        return 16
    return 32 if mode in {"I", "F"} else 8


def _byte_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of the modes with up to 8 bits, over black where transparent."""
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        grey = image.mode in {"L", "LA", "1"}
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        image = image.convert("RGB").getchannel(0) if grey else image.convert("RGB")
    elif image.mode not in {"L", "RGB"}:
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _deep_pixels(image: Image.Image, bits: int) -> NDArray[np.uint16]:
    """Pixels of the modes with more than 8 bits, stretched to 0...65535 by the range of their type."""
    values = np.asarray(image)[..., None]
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise ReadError("check", "NaN or infinite values", "mend the program that wrote the file, or delete it")
        if values.min() < 0 or values.max() > 1:
            error = f"float values {values.min():g}...{values.max():g}: of unknown range, only 0...1 is accepted"
            raise ReadError("check", error, "scale the image to 0...1, or save it as 16-bit integers")
        return np.rint(values * 65535.0).astype(np.uint16)
    if values.min() < 0 or values.max() > 65535:
        error = f"integers {values.min()}...{values.max()}: of unknown range, only 0...65535 is accepted"
        raise ReadError("check", error, "save the image as unsigned 16-bit integers")
    if bits < 16:  # 12-bit TIFF
        values = np.rint(values * (65535 / (2**bits - 1)))
    deep: NDArray[np.uint16] = values.astype(np.uint16)
    return deep


def _describe(exception: Exception) -> str:
    """Return the exception's kind and text."""
    return f"{type(exception).__name__}: {exception}"
