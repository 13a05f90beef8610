"""Reading DICOM files: the grey values a viewer would show, in a known range, with the facts that matter.

Decisions, for those who compare with another reader:

* pydicom alone reads the file and decodes its pixels; no other reader steps in where it happens to be installed.
  Tables and windows are applied here: pydicom's own wrap around, fail, or depend on the brightest pixel of an image.
* Order: decode; modality table or rescaling (a missing slope is 1, a missing intercept 0); VOI table or window; invert
  MONOCHROME1; padding becomes black; scale. The range is what the file's type and tables allow, never what an image
  happens to hold, but for percentiles, where the user asks for just that.
* MONOCHROME1 alone decides on the inversion. The PresentationLUTShape INVERSE says the same thing a second time. The
  inversion comes after the VOI table, since a table's lowest output is what MONOCHROME1 shows as white.
* A window that cannot be applied is left aside, and the fact ``window`` says so.
* Colour comes out as RGB, taken to be sRGB; windows are for grey. Overlays and supplemental palettes are left aside.
* Frames are images of their own, with the window, rescaling and spacing of their functional groups.
* A file without preamble is a DICOM file if it is named so and what is parsed of it names a known kind of object, or
  describes pixels. Where it does not say how it is encoded, what the parser found is taken.
* PatientID is replaced by a hash, so that it is written nowhere.
* Pixels that use other bits than BitsStored and HighBit say are refused, but for overlays that the file declares there.
* A compressed frame must have the size and samples of the header; some decoders would return a part of it.

Reference: DICOM PS3.3, C.7.6.3 (Image Pixel), C.7.6.16 (Functional Groups), C.11.1 (Modality LUT), C.11.2 (VOI LUT).
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from medgan.data.decoded import (
    DecodedImage,
    PassingError,
    ReadError,
    Reading,
    raise_if_passing,
    without_equal_channels,
)
from medgan.data.readers import DICOM_SUFFIXES
from medgan.data.window import Window

__all__ = [
    "StoredValues",
    "guard_reading",
    "is_dicom",
    "patient_key",
    "read_dicom",
    "read_elements",
    "read_stored_values",
]

_PREAMBLE = 128  # bytes before the letters DICM
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_RGB = ("RGB", "YBR_RCT", "YBR_ICT")  # the latter two name JPEG 2000's inner colours; its decoders give RGB
# Of JPEG and JPEG-LS: the header of a frame
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_MOST_VALUES = 2**30  # of one file: 4 GiB of float32
_INTEGERS: dict[float, type[np.unsignedinteger[Any]]] = {255: np.uint8, 65535: np.uint16}  # by the width of the range
_DAMAGED = "the file is damaged: copy it again from its origin, or delete it"
_CODECS = 'type pip install "medgan[dicom-codecs]"'
_CODEC_12_BIT = (
    "12-bit JPEG needs pylibjpeg-libjpeg, which is under the GPLv3 and therefore in no extra of medgan: if that suits "
    "you, type pip install pylibjpeg pylibjpeg-libjpeg; else convert the file"
)
_TEXT_FACTS = {
    "modality": "Modality",
    "view": "ViewPosition",
    "photometric": "PhotometricInterpretation",
    "presentation_intent": "PresentationIntentType",
    "burned_in_annotation": "BurnedInAnnotation",
    "patient_identity_removed": "PatientIdentityRemoved",
    "age": "PatientAge",
    "sex": "PatientSex",
}


@dataclass(frozen=True)
class StoredValues:
    """Grey values of a file in the unit of its modality, such as Hounsfield units.

    Attributes:
        values: Shape ``(frames, height, width)``, float32, finite: after the modality table or rescaling, before any
            window and without inversion.
        padded: Where they are padding, shape as `values`; None where there is none.
        known: The range that the values can have, by the file's type and tables; None for floating-point pixels.
        dataset: The file's elements, without the pixels.
        facts: What is known of the file as a whole, by names of `medgan.data.decoded.FACTS` and ``patient_id``.
    """

    values: NDArray[np.float32]
    padded: NDArray[np.bool_] | None
    known: tuple[float, float] | None
    dataset: Dataset
    facts: dict[str, str]


def is_dicom(path: Path) -> bool:
    """Tell whether a file is a DICOM file, by its content.

    Args:
        path: A file.

    Returns:
        True if the letters DICM follow the preamble. Without preamble, True for files that are named as DICOM files
        and parse to a known kind of object, or to one that describes pixels. False for files that cannot be opened.

    Raises:
        PassingError: If it cannot be told, for no fault of the file.
    """
    try:
        with path.open("rb") as file:
            if file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM":
                return True
        if path.suffix.lower() not in DICOM_SUFFIXES:
            return False
        with guard_reading():
            _open(path)
    except OSError as exception:
        raise_if_passing(exception)
        return False
    except ReadError:
        return False
    return True


def read_elements(path: Path) -> Dataset:
    """Read the elements of a DICOM file of any kind, without its pixels.

    Args:
        path: The file.

    Raises:
        ReadError: If it is not a DICOM file, or cannot be read.
    """
    with guard_reading():
        return _open(path, pixels=False)


def patient_key(dataset: Dataset) -> str:
    """Return what stands for the patient of a file: a hash of the identifier and its issuer, "" where there is none."""
    patient = _text(dataset, "PatientID")
    if not patient:
        return ""
    identity = f"{_text(dataset, 'IssuerOfPatientID')}/{patient}"
    return "p" + hashlib.sha256(identity.encode()).hexdigest()[:12]


def read_dicom(path: Path, reading: Reading) -> list[DecodedImage]:
    """Read the pictures of a DICOM file.

    Args:
        path: The file.
        reading: Its `window` and `frame` are heeded.

    Returns:
        One image for each frame, or for the wanted one, grey or RGB. uint8 or uint16 where that loses
        nothing, else float32 in [0, 1]. One of several frames may be constant.

    Raises:
        ReadError: If the file cannot be read, holds no picture, or holds a single one that is constant.
    """
    with guard_reading():
        dataset = _open(path)
        count = _check_header(dataset, reading.frame)
        facts, bits = _facts(dataset), int(dataset.get("BitsStored") or dataset.BitsAllocated)
        decoded, padding, photometric = _decode(dataset, count, reading.frame)
        images = []
        for frame, (stored, padded) in enumerate(zip(decoded, padding, strict=True), start=reading.frame or 1):
            if photometric in _GREY and stored.ndim == 2:
                pixels, own = _read_grey(stored, padded, dataset, frame, reading.window)
            else:
                pixels, own = _read_colour(stored, dataset, photometric), {}
            if pixels.min() == pixels.max() and (count == 1 or reading.frame):
                error = f"constant image: every pixel is {pixels.min():g}"
                raise ReadError("check", error, "delete the file, or choose another window or frame")
            part = f"frame {frame}" if count > 1 else ""
            images.append(DecodedImage(pixels, "DICOM", bits, part, {**facts, **own, **_spacing(dataset, frame)}))
        return images


def read_stored_values(path: Path) -> StoredValues:
    """Read the grey values of a DICOM file in the unit of its modality, without a window.

    Args:
        path: The file.

    Returns:
        The values of all frames; MONOCHROME1 is not inverted.

    Raises:
        ReadError: If the file cannot be read, or holds no grey picture.
    """
    with guard_reading():
        dataset = _open(path)
        decoded, padding, photometric = _decode(dataset, _check_header(dataset, None), None)
        if photometric not in _GREY or decoded.ndim != 3:
            raise ReadError("check", f"{photometric} where grey values are wanted", "leave colour files out")
        ranges, frames = [], np.empty(decoded.shape, np.float32)
        for frame, stored in enumerate(decoded, start=1):
            frames[frame - 1], known = _to_modality_unit(stored, dataset, frame)
            ranges.append(known)
        for keyword in _PIXELS:
            dataset.pop(keyword, None)
        limits = [known for known in ranges if known is not None]
        whole = (min(low for low, _ in limits), max(high for _, high in limits)) if limits else None
        return StoredValues(frames, padding if padding.any() else None, whole, dataset, _facts(dataset))


# ------------------------------------------------------------------------------------ opening and decoding


@contextmanager
def guard_reading() -> Iterator[None]:
    """Turn whatever pydicom raises into a `ReadError`, and keep it from warning and logging about odd metadata.

    What is no fault of the file becomes a `PassingError`.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ReadError, PassingError):
        raise
    except OSError as exception:
        raise_if_passing(exception)
        if exception.errno is None:
            raise ReadError("decode", _describe(exception), _DAMAGED) from exception
        raise ReadError("open", _describe(exception), "see that the file is there and may be read") from exception
    except Exception as exception:  # pydicom and the codecs raise anything from KeyError to struct.error
        raise_if_passing(exception)
        raise ReadError("decode", _describe(exception), _DAMAGED) from exception
    finally:
        logger.setLevel(level)


def _open(path: Path, *, pixels: bool = True) -> Dataset:
    """Parse a file, and see to it that it says how it is encoded."""
    content = path.read_bytes()
    if not content:
        raise ReadError("open", "empty file (0 bytes)", "copy the file again from its origin, or delete it")
    # Forced, pydicom takes any bytes for a data set: what comes of a file without preamble is looked at
    bare = content[_PREAMBLE : _PREAMBLE + 4] != b"DICM"
    try:
        dataset = dcmread(BytesIO(content), force=bare, stop_before_pixels=not pixels)
        plausible = not bare or _is_plausible(dataset)
    except Exception as exception:
        raise_if_passing(exception)
        if not bare:
            raise ReadError("open", _describe(exception), _DAMAGED) from exception
        plausible = False
    if not plausible:
        raise ReadError("open", "not a DICOM file", "delete it, or give it the extension of what it is")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _is_plausible(dataset: Dataset) -> bool:
    """Whether parsed bytes were a DICOM file: they name a known kind of object, or describe pixels."""
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    known = isinstance(kind, UID) and kind.type == "SOP Class"
    return known or all(isinstance(dataset.get(name), int) for name in ("Rows", "Columns", "BitsAllocated"))


def _check_header(dataset: Dataset, wanted: int | None) -> int:
    """Check, before anything is decoded, that there are pixels and that they are not too many.

    Args:
        dataset: The parsed file.
        wanted: The only frame wanted, from 1; None for all.

    Returns:
        The number of frames in the file.
    """
    if not any(keyword in dataset for keyword in _PIXELS):
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or UID("")
        raise ReadError("open", f"no picture in it: {kind.name or 'an object of unknown kind'}", "leave it out")
    rows, columns, count, samples = (
        int(_number(dataset, name, default))
        for name, default in (("Rows", 0), ("Columns", 0), ("NumberOfFrames", 1), ("SamplesPerPixel", 1))
    )
    count = max(count, 1)  # some files say 0 and hold one
    if rows < 1 or columns < 1:
        raise ReadError("open", f"{rows} rows and {columns} columns", _DAMAGED)
    if wanted is not None and not 1 <= wanted <= count:
        frames = "1 frame" if count == 1 else f"{count} frames"
        raise ReadError("open", f"frame {wanted} of a file of {frames}", "choose another frame, such as --frame 1")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and rows * columns > 2 * limit:  # where Pillow draws the line as well
        error = f"too large: {rows} x {columns} pixels"
        raise ReadError("open", error, f"shrink the image below {2 * limit / 1e6:.0f} million pixels")
    if rows * columns * samples * (1 if wanted else count) > _MOST_VALUES:
        error = f"too large: {count} frames of {rows} x {columns} pixels"
        raise ReadError("open", error, "type --frame 1 for one of its frames, or split the file")
    return count


def _decode(dataset: Dataset, count: int, wanted: int | None) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """Decode the frames of a file.

    Args:
        dataset: The parsed file.
        count: The number of its frames.
        wanted: The only frame wanted, from 1; None for all.

    Returns:
        The stored values, shape ``(frames, height, width)`` or ``(frames, height, width, 3)``, in the machine's byte
        order; where they are padding, of the same shape; and their photometric interpretation, which is RGB where YCbCr
        has been converted.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax: UID = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as exception:
        hint = "convert the file to Explicit VR Little Endian, such as with gdcmconv --raw"
        raise ReadError("decode", f"transfer syntax {syntax.name} is unknown", hint) from exception
    if decoder.is_native and any(keyword in dataset and dataset[keyword].is_undefined_length for keyword in _PIXELS):
        raise ReadError("decode", f"compressed pixels in a file that says {syntax.name}", _DAMAGED)
    if not decoder.is_available:
        raise ReadError("decode", f"no codec for {syntax.name}", _CODECS)
    if syntax.is_encapsulated and syntax != RLELossless:
        _check_streams(dataset, count, wanted)
    # Unused bits are looked at below: pydicom 3.0 drops them, whatever they hold, and heeds no HighBit
    options: dict[str, Any] = {
        "number_of_frames": count,
        "allow_excess_frames": False,
        "correct_unused_bits": False,
    }
    try:
        # Not frame by frame: pydicom 3.0 cannot correct the sign of JPEG 2000 there, as its buffer is read-only
        stored, properties = decoder.as_array(dataset, index=None if wanted is None else wanted - 1, **options)
    except StopIteration as exception:
        raise ReadError("decode", f"fewer frames than the {count} of the header", _DAMAGED) from exception
    except RuntimeError as exception:  # every codec that is installed has failed
        if syntax == JPEGExtended12Bit and dataset.BitsStored > 8 and "pylibjpeg" not in decoder.available_plugins:
            raise ReadError("decode", f"no codec for {syntax.name} with 12 bits", _CODEC_12_BIT) from exception
        hint = f"{_DAMAGED}; or {_CODECS}" if decoder.missing_dependencies else _DAMAGED
        raise ReadError("decode", _describe(exception), hint) from exception
    raw = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    native = _stored_bits(raw, dataset, shifted=decoder.is_native or syntax == RLELossless)
    padded = _padding(raw, native, dataset)
    several = count > 1 and wanted is None
    frames, masks = (native, padded) if several else (native[None], padded[None])
    return frames, masks, str(properties["photometric_interpretation"])


def _check_streams(dataset: Dataset, count: int, wanted: int | None) -> None:
    """Refuse compressed frames of another size or number of samples than the header's.

    GDCM returns as many bytes of larger frames as the header asks for, and aborts the process on some smaller ones.
    """
    offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    extended = (offsets[0], offsets[1]) if offsets[0] and offsets[1] else None
    streams = generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=extended)
    expected = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    for frame, stream in enumerate(islice(streams, count), start=1):
        found = _stream_shape(stream) if wanted in {None, frame} else None
        if found is not None and found != expected:
            shapes = [f"{rows} x {columns} pixels of {samples} samples" for rows, columns, samples in (found, expected)]
            raise ReadError("decode", f"compressed frame of {shapes[0]} where the header says {shapes[1]}", _DAMAGED)


def _stream_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples that a JPEG, JPEG-LS or JPEG 2000 stream states; None if it states none."""
    start = stream.find(b"\xff\x4f\xff\x51")
    if stream[:2] != b"\xff\xd8" and start >= 0:  # JPEG 2000: the size follows the start, in a JP2 file or without
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        return bottom - top, right - left, struct.unpack_from(">H", stream, start + 40)[0]
    position = 2
    while position + 10 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF:  # filling
            position += 1
        elif marker in _FRAME_MARKERS:
            rows, columns, samples = struct.unpack_from(">HHB", stream, position + 5)
            return (rows, columns, samples) if rows else None  # 0: stated after the first scan
        else:
            position += 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
    return None


def _stored_bits(pixels: NDArray[Any], dataset: Dataset, *, shifted: bool) -> NDArray[Any]:
    """Bring pixels to their stored bits and their sign.

    Args:
        pixels: As decoded, of any shape.
        dataset: The parsed file.
        shifted: Whether HighBit tells where in a decoded value the stored bits are, as it does without compression.

    Returns:
        The values, of the same type.

    Raises:
        ReadError: If other bits are in use, but for those of overlays, what a negative value's sign fills, and padding.
    """
    width = 8 * pixels.itemsize
    bits = int(dataset.get("BitsStored") or width)
    if pixels.dtype.kind == "f" or bits >= width:
        return pixels
    # Files say a HighBit that leaves no room for the bits; whether it matters, the pixels tell
    high = int(_number(dataset, "HighBit", bits - 1)) if shifted else bits - 1
    low = min(max(high - bits + 1, 0), width - bits)
    used = (1 << bits) - 1 << low
    overlays = sum({1 << position for position in _overlay_bits(dataset) if 0 <= position < width}) & ~used
    below = (1 << low) - 1 & ~overlays
    above = (1 << width) - 1 & ~used & ~below & ~overlays
    raw = pixels.view(f"u{pixels.itemsize}")
    kind = raw.dtype.type
    strange = (raw & kind(below | above)) != 0
    if pixels.dtype.kind == "i" and strange.any():  # the sign of a negative value may fill what is above
        negative = (raw >> kind(low + bits - 1) & kind(1)) == 1
        strange &= ~(negative & ((raw & kind(below | above)) == kind(above)))
    if padding := _numbers(dataset, "PixelPaddingValue")[:1]:  # often beyond the stored bits
        strange &= raw != np.array(padding).astype(np.int64).astype(kind)
    if strange.any():
        content = int(np.bitwise_or.reduce(raw[strange])) & ~overlays
        found = f"{(content & -content).bit_length() - 1}...{content.bit_length() - 1}"
        error = f"pixels use the bits {found}, where BitsStored {bits} and HighBit {high} say {low}...{low + bits - 1}"
        raise ReadError("decode", error, "mend BitsStored and HighBit of the file, or leave it out")
    shifted_up: NDArray[Any] = pixels << (width - bits - low)
    return shifted_up >> (width - bits)


def _overlay_bits(dataset: Dataset) -> list[int]:
    """Bits of the pixels in which overlays lie: DICOM PS3.3 before 2004, C.9.2."""
    groups = (0x6000 + 2 * number for number in range(16))
    return [
        int(dataset[group, 0x0102].value)
        for group in groups
        if (group, 0x0102) in dataset and (group, 0x3000) not in dataset
    ]


# ------------------------------------------------------------------------------------------- grey values


def _read_grey(
    stored: NDArray[Any], padded: NDArray[np.bool_], dataset: Dataset, frame: int, window: Window
) -> tuple[NDArray[Any], dict[str, str]]:
    """Turn stored values, shape ``(height, width)``, into a picture of one channel; say what has been done."""
    values, known = _to_modality_unit(stored, dataset, frame)
    if window.kind == "auto":
        pixels, applied = _apply_own_window(values, known, dataset, frame)
    elif window.kind == "none":
        pixels, applied = _apply_full_range(values, known)
    else:
        content = values[~padded]
        low, high = window.limits(content, known) if content.size else (0.0, 0.0)
        # Equal percentiles leave nothing to see
        pixels = _scale(values, low, high) if low < high else np.zeros(values.shape, np.float32)
        applied = str(window) if window.kind == "fixed" else f"percentile {_join(low, high)}"
    facts = {"window": applied}
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        white = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
        pixels, facts["inverted"] = pixels.dtype.type(white) - pixels, "yes"
    pixels[padded] = 0
    return pixels[..., None], facts


def _to_modality_unit(
    stored: NDArray[Any], dataset: Dataset, frame: int
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Apply the modality table or the rescaling.

    Returns:
        The values, int64 where that is exact, else float64; and the range that they can have, None if unknown.
    """
    limits = _stored_range(stored, dataset)
    values: NDArray[Any] = stored.astype(np.float64 if limits is None else np.int64)
    if not np.isfinite(values).all():
        raise ReadError("check", "NaN or infinite values", "mend the program that wrote the file, or delete it")
    if limits is not None and (tables := dataset.get("ModalityLUTSequence")):
        # pydicom 3.0 makes the bits of an entry a numpy type, and there is none of 12 bits
        table, first, bits = _table(tables[0], "LUTDescriptor", "LUTData", dataset, signed=limits[0] < 0)
        return _look_up(values, table, first), (0, 2 ** max(bits, _bits_of(table)) - 1)
    group = _group(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope", "RescaleIntercept")
    slope, intercept = _number(group, "RescaleSlope", 1), _number(group, "RescaleIntercept", 0)
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        raise ReadError("check", f"rescale slope {slope:g} and intercept {intercept:g}", _DAMAGED)
    # pydicom 3.0 ignores a slope without intercept, and makes floats of integers that stay integers
    if slope == 1 and intercept.is_integer():
        slope, intercept = 1, int(intercept)
    values = values * slope + intercept
    if limits is None:
        return values, None
    low, high = sorted(limit * slope + intercept for limit in limits)
    return values, (low, high)


def _stored_range(stored: NDArray[Any], dataset: Dataset) -> tuple[int, int] | None:
    """Range of stored values by their type; None for floating-point pixels."""
    if stored.dtype.kind == "f":
        return None
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation == 1 else (0, 2**bits - 1)


def _padding(raw: NDArray[Any], stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_]:
    """Tell where pixels are padding.

    Args:
        raw: As decoded, of any shape.
        stored: The same, brought to their stored bits and their sign.
        dataset: The parsed file.

    Returns:
        Of the same shape.
    """
    value = _numbers(dataset, "PixelPaddingValue")
    if not value or stored.dtype.kind == "f":
        return np.broadcast_to(np.False_, stored.shape)
    both = np.array([value[0], *_numbers(dataset, "PixelPaddingRangeLimit")[:1]]).astype(np.int64).astype(stored.dtype)
    # A negative value may be written without its sign in the unused bits, and so may the pixels
    bits = int(dataset.BitsStored)
    unused = max(0, 8 * stored.itemsize - bits)
    cut = both << unused >> unused
    # With more than a sign in these bits, it is no value that a pixel can have, but what padding was left at
    beyond = ((both != cut) & (both >> bits != 0)).any()
    pixels, limits = (raw, both) if beyond else (stored, cut)
    padded: NDArray[np.bool_] = (pixels >= limits.min()) & (pixels <= limits.max())
    return padded


def _apply_own_window(
    values: NDArray[Any], known: tuple[float, float] | None, dataset: Dataset, frame: int
) -> tuple[NDArray[Any], str]:
    """Apply the file's own VOI table or first window, else its full range; say which."""
    if tables := dataset.get("VOILUTSequence"):
        signed = known is None or known[0] < 0
        # pydicom 3.0 indexes 8-bit tables by 8 bits: the 257th entry of a table would be the first again
        table, first, _ = _table(tables[0], "LUTDescriptor", "LUTData", dataset, signed=signed)
        shown = _look_up(np.rint(values).astype(np.int64), table, first)
        # Some devices give the size in memory for the bits of an entry; the entries themselves tell
        return _scale(shown, 0, 2 ** _bits_of(table) - 1), "voi-lut"
    group = _group(dataset, frame, "FrameVOILUTSequence", "WindowCenter", "WindowWidth")
    centres, widths = _numbers(group, "WindowCenter"), _numbers(group, "WindowWidth")
    if not (centres and widths):
        return _apply_full_range(values, known)
    centre, width = centres[0], widths[0]
    function = str(group.get("VOILUTFunction") or "LINEAR").upper()
    applied = _join(centre, width) + ("" if function == "LINEAR" else f" {function.lower()}")
    usable = math.isfinite(centre) and math.isfinite(width) and (width >= 1 if function == "LINEAR" else width > 0)
    if usable and function == "SIGMOID":
        return ((1 + np.tanh(2 * (values - centre) / width)) / 2).astype(np.float32), applied
    if usable and function == "LINEAR":
        centre, width = centre - 0.5, width - 1
        if width == 0:
            return (values > centre).astype(np.float32), applied
    if usable and function in {"LINEAR", "LINEAR_EXACT"}:
        return _scale(values, centre - width / 2, centre + width / 2), applied
    pixels, full_range = _apply_full_range(values, known)
    return pixels, f"{full_range} (window {applied} ignored)"


def _apply_full_range(values: NDArray[Any], known: tuple[float, float] | None) -> tuple[NDArray[Any], str]:
    """Show the lowest possible value black, and the highest white."""
    if known is None:
        hint = "type --window percentile, or centre and width such as --window 40,400"
        raise ReadError("check", "floating-point pixels, and no window that says which are black and white", hint)
    return _scale(values, *known), "full range"


def _scale(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Scale values between two limits: to uint8 or uint16 where this is exact, else to float32 in [0, 1]."""
    exact = _INTEGERS.get(high - low)
    if exact is not None and values.dtype.kind == "i" and float(low).is_integer():
        return (values.clip(int(low), int(high)) - int(low)).astype(exact)
    return Window.apply(values, low, high)


# ------------------------------------------------------------------------------------------------ colour


def _read_colour(stored: NDArray[Any], dataset: Dataset, photometric: str) -> NDArray[Any]:
    """Turn stored values into an RGB picture, of one channel if its content is grey."""
    if photometric == "PALETTE COLOR" and stored.ndim == 2:
        palette, first = _palette(dataset, stored)
        return without_equal_channels(_look_up(stored.astype(np.int64), palette, first))
    limits = _stored_range(stored, dataset)
    if photometric not in _RGB or stored.ndim != 3 or limits is None:
        error = f"{photometric} with {stored.shape[2] if stored.ndim == 3 else 1} sample(s) per pixel is not supported"
        raise ReadError("decode", error, "convert the file to RGB or MONOCHROME2")
    return without_equal_channels(_scale(stored.astype(np.int64), *limits))


def _palette(dataset: Dataset, stored: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the colours of a palette, shape ``(entries, 3)``, and the stored value of the first."""
    from pydicom.pixels.processing import apply_color_lut

    signed = stored.dtype.kind == "i"
    if "RedPaletteColorLookupTableData" in dataset:
        # pydicom 3.0 indexes 8-bit palettes by 8 bits, and takes big-endian entries for little-endian ones
        names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
        tables = [_table(dataset, f"{name}Descriptor", f"{name}Data", dataset, signed=signed) for name in names]
        colours = np.stack([table for table, _, _ in tables], axis=-1)
        _, first, bits = tables[0]
    else:
        size, first, bits = _descriptor(dataset, "RedPaletteColorLookupTableDescriptor", signed=signed)
        if bits == 8 and size > 256:
            hint = "convert the file to RGB"
            raise ReadError("decode", f"segmented palette of {size} colours of 8 bits is not supported", hint)
        colours = apply_color_lut(np.arange(first, first + size), dataset)[..., :3]
    if colours.max() <= 255:
        return colours.astype(np.uint8), first
    # Entries of 8 bits may lie in the upper half of 16
    return ((colours >> 8).astype(np.uint8) if bits <= 8 else colours.astype(np.uint16)), first


# ------------------------------------------------------------------------------------------ tables and elements


def _table(
    item: Dataset, descriptor: str, data: str, dataset: Dataset, *, signed: bool
) -> tuple[NDArray[np.int64], int, int]:
    """Read a lookup table.

    Args:
        item: Where the table is.
        descriptor: Name of the element that describes it.
        data: Name of the element that holds it.
        dataset: The whole file, which knows its byte order.
        signed: Whether the values looked up may be negative.

    Returns:
        The entries; the value that the first one is for; and the bits of an entry, as described.
    """
    size, first, bits = _descriptor(item, descriptor, signed=signed)
    raw = item.get(data)
    if isinstance(raw, bytes):
        order = "<u2" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
        words = np.frombuffer(raw + bytes(len(raw) % 2), order)
    else:
        words = np.array(_numbers(item, data)).astype(np.int64).astype(np.uint16)
    entries = words
    if words.size < size:  # two entries a word, the first in the lower half
        entries = words.astype("<u2").view(np.uint8)
    if entries.size < size:
        raise ReadError("decode", f"{data} holds {words.size} words where {descriptor} says {size} entries", _DAMAGED)
    return entries[:size].astype(np.int64), first, bits


def _descriptor(item: Dataset, keyword: str, *, signed: bool) -> tuple[int, int, int]:
    """Return a table's number of entries, the value that the first one is for, and the bits of an entry.

    All three share one type in the file, signed or not; the first and last are unsigned by definition.
    """
    numbers = _numbers(item, keyword)
    if len(numbers) != 3:
        raise ReadError("decode", f"{keyword} has {len(numbers)} values where 3 are due", _DAMAGED)
    size, first, bits = (int(number) % 2**16 for number in numbers)
    return size or 2**16, first - 2**16 if signed and first >= 2**15 else first, bits


def _look_up(values: NDArray[Any], table: NDArray[Any], first: int) -> NDArray[Any]:
    """Look integers up in a table; those before its begin get the first entry, those behind its end the last."""
    found: NDArray[Any] = table[(values - first).clip(0, len(table) - 1)]
    return found


def _bits_of(table: NDArray[np.int64]) -> int:
    """Bits that hold the largest entry of a table, at least 1."""
    return max(1, int(table.max()).bit_length())


def _group(dataset: Dataset, frame: int, name: str, *keywords: str) -> Dataset:
    """Return what holds any of the elements for a frame: its functional group, the shared one, or the file itself."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*frames[frame - 1 : frame], *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]):
        items = groups.get(name)
        if items and any(keyword in items[0] for keyword in keywords):
            item: Dataset = items[0]
            return item
    return dataset


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    """Return the first number of an element, or the default where it is missing or empty."""
    return next(iter(_numbers(dataset, keyword)), float(default))


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return the numbers of an element, none where it is missing or empty."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        many = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return [float(number) for number in (value if many else [value])]
    except (TypeError, ValueError, OverflowError) as exception:
        raise ReadError("decode", f"{keyword} is not a number: {exception}", _DAMAGED) from exception


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text without surplus blanks, "" where it is missing or empty."""
    value = dataset.get(keyword)
    many = isinstance(value, Sequence) and not isinstance(value, str)
    text = "\\".join(str(part) for part in value) if many else str("" if value is None else value)
    return " ".join(text.replace("\0", " ").split())


def _join(first: float, second: float) -> str:
    """Write two numbers with a comma between them."""
    return f"{first:.10g},{second:.10g}"


def _facts(dataset: Dataset) -> dict[str, str]:
    """What the file says of all its frames."""
    facts = {name: _text(dataset, keyword) for name, keyword in _TEXT_FACTS.items()}
    facts["transfer_syntax"] = dataset.file_meta.TransferSyntaxUID.name
    facts["patient_id"] = patient_key(dataset)
    if _text(dataset, "SyntheticData").upper() == "YES":  # "some or all of the content was made artificially"
        facts["origin"] = "synthetic"
    return {name: text for name, text in facts.items() if text}


def _spacing(dataset: Dataset, frame: int) -> dict[str, str]:
    """The distance of a frame's rows and columns, if the file tells it."""
    in_patient = _numbers(_group(dataset, frame, "PixelMeasuresSequence", "PixelSpacing"), "PixelSpacing")
    at_detector = _numbers(dataset, "ImagerPixelSpacing")
    for spacing, suffix in ((in_patient, ""), (at_detector, " at detector")):
        if len(spacing) == 2 and min(spacing) > 0:
            return {"spacing_mm": _join(*spacing) + suffix}
    return {}


def _describe(exception: Exception) -> str:
    """Return the exception's kind and text, on one line, without places in memory, which are new in every run."""
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(exception).__name__}: {exception}").split())
