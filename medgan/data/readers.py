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

import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medgan.data.decoded import (
    DecodedImage,
    PassingError,
    ReadError,
    Reading,
    is_constant,
    raise_if_passing,
    without_equal_channels,
)

__all__ = ["DICOM_SUFFIXES", "IMAGE_SUFFIXES", "check_regular", "looks_like_image", "read_file", "read_image"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
IMAGE_SUFFIXES = DICOM_SUFFIXES | {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib"}

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB")
_DICOM_PREAMBLE = 128  # bytes before the letters DICM
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"BM")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_SIGNED = 2
_WHITE_IS_ZERO = 0


def looks_like_image(path: Path) -> bool:
    """Tell from the first bytes whether a file, whatever it is called, is of one of the formats that medgan reads.

    Args:
        path: An existing file.

    Returns:
        True for PNG, JPEG, TIFF, BMP and DICOM; False for others and for files that cannot be opened.
    """
    try:
        if not path.is_file():  # a pipe would never end
            return False
        with path.open("rb") as file:
            head = file.read(_DICOM_PREAMBLE + 4)
            return head.startswith(_SIGNATURES) or head[_DICOM_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def read_file(path: Path, reading: Reading) -> list[DecodedImage]:
    """Read whatever a file holds: one picture, the frames of a DICOM file, a volume or its slices.

    Args:
        path: The file; its content says what it is. A folder is one DICOM series.
        reading: How files become images.

    Returns:
        The images, at least one.

    Raises:
        ReadError: If the file cannot be read, or holds no usable picture.
        PassingError: If that is no fault of the file.
    """
    from medgan.data.dicom import is_dicom, read_dicom
    from medgan.data.volumes import is_volume, read_volume

    check_regular(path)
    wants_volumes = reading.volumes or reading.slices is not None
    if path.is_dir() or is_volume(path):
        if not wants_volumes:
            raise ReadError("open", "a volume where a picture is wanted", "type --slices axial:0.3-0.7, or --depth 64")
        return read_volume(path, reading)
    # What is called DICOM and is no picture either is refused as what it was meant to be.
    if is_dicom(path) or (path.suffix.lower() in DICOM_SUFFIXES and not looks_like_image(path)):
        return read_volume(path, reading) if wants_volumes else read_dicom(path, reading)
    return [read_image(path)]


def check_regular(path: Path) -> None:
    """Raise if a path is a pipe, a socket or a device, which can be read without end; links are followed.

    Raises:
        ReadError: If so.
        PassingError: If it cannot be told, for no fault of the path.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise_if_passing(error)
        hint = "allow it, or copy the file again from its origin"
        raise ReadError("open", f"cannot be opened: {error.strerror}", hint) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ReadError("open", "not a file, but a pipe, a socket or a device", "leave it out")
    if stat.S_ISREG(mode) and path.stat().st_size == 0:
        raise ReadError("open", "empty file (0 bytes)", "copy the file again from its origin, or delete it")


def read_image(path: Path) -> DecodedImage:
    """Read a PNG, JPEG, TIFF or BMP file.

    Args:
        path: The file; its extension does not matter.

    Returns:
        The decoded image.

    Raises:
        ReadError: If the file cannot be read, or holds no usable picture.
        PassingError: If that is no fault of the file.
    """
    try:
        check_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; pixels that are wrong raise
            # By file, not by name: by name, Pillow 13.0 maps uncompressed TIFFs into memory and scrambles turned ones.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                return _decode(image)
    except (ReadError, PassingError):
        raise
    except UnidentifiedImageError:
        error, hint = "not a PNG, JPEG, TIFF or BMP image", "convert the file to PNG, or delete it"
        if looks_like_image(path):
            error = "a PNG, JPEG, TIFF or BMP image of a kind that cannot be read, such as a TIFF of 64-bit numbers"
        raise ReadError("open", error, hint) from None
    except Image.DecompressionBombError as exception:
        hint = "shrink the image below 179 million pixels"
        raise ReadError("open", f"too large: {exception}", hint) from exception
    except OSError as exception:
        raise_if_passing(exception)
        hint = "the file is truncated or damaged, or may not be read: copy it again from its origin, or delete it"
        stage = "open" if exception.errno is not None else "decode"
        raise ReadError(stage, _describe(exception), hint) from exception
    except Exception as exception:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        raise_if_passing(exception)
        hint = "the file is damaged: copy it again, or delete it"
        raise ReadError("decode", _describe(exception), hint) from exception


def _decode(image: Image.Image) -> DecodedImage:
    """Turn an opened image into an array; see the module's list of decisions."""
    mode = image.mode
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        hint = "save the frame that you want as a file of its own"
        raise ReadError("decode", f"{frames} frames in one file", hint)
    tags: Any = getattr(image, "tag_v2", {})
    bits = _bits(mode, tags)
    if bits == 8 and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        # Pillow reads them as if they had no sign.
        raise ReadError("decode", "signed 8-bit integers: of unknown range", "save the image as unsigned integers")
    white_is_zero = mode.startswith(("I", "F")) and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image.load()
    upright = ImageOps.exif_transpose(image)
    pixels = _deep_pixels(upright, bits) if mode.startswith(("I", "F")) else _byte_pixels(upright)
    if white_is_zero:
        pixels = 65535 - pixels
    if is_constant(pixels):
        error = f"constant image: every pixel is {', '.join(map(str, pixels[0, 0]))}"
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
