"""Files are made on the spot; what they must look like is computed here, from the standard's own formulas."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import pickle
import sys
import types
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from medgan.data.decoded import FACTS, ReadError, Reading
from medgan.data.dicom import is_dicom, read_dicom, read_stored_values
from medgan.data.window import Window

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
RAMP_12 = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
RAMP_SIGNED = np.linspace(-32768, 32767, 256).astype(np.int16).reshape(16, 16)


@pytest.fixture
def write(tmp_path):
    """A function that writes a DICOM file: pixels, transfer syntax, and elements to set, or to leave out if None."""

    def write(pixels=RAMP, syntax=ExplicitVRLittleEndian, *, name="image.dcm", preamble=True, **elements):
        pixels = np.asarray(pixels)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = syntax
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset = Dataset()
        dataset.file_meta = meta
        dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
        colour = elements.get("SamplesPerPixel") == 3
        planes_first = elements.get("PlanarConfiguration") == 1
        height, width = pixels.shape[-2:] if not colour or planes_first else pixels.shape[-3:-1]
        dataset.Rows, dataset.Columns = height, width
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        if pixels.dtype.kind == "f":
            dataset.BitsAllocated = 8 * pixels.itemsize
            dataset.add_new("FloatPixelData", "OF", pixels.astype("<f4").tobytes())
        else:
            dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
            dataset.HighBit = dataset.BitsStored - 1
            dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
            little = syntax.is_little_endian
            content = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
            dataset.add_new("PixelData", "OB" if pixels.itemsize == 1 else "OW", content + bytes(len(content) % 2))
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            elif isinstance(value, tuple):
                dataset.add_new(keyword, *value)
            else:
                setattr(dataset, keyword, value)
        path = tmp_path / name
        if preamble:
            dataset.save_as(path, enforce_file_format=True)
        else:
            del dataset.file_meta
            dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        return path

    return write


def read(path, window="auto", frame=None):
    return read_dicom(path, Reading(window=Window.parse(window), frame=frame))


def read_one(path, window="auto"):
    """Return the pixels of the only image, as fractions of white where they are integers, and its facts."""
    (image,) = read(path, window)
    pixels = image.pixels
    if pixels.dtype.kind == "u":
        pixels = pixels / np.iinfo(pixels.dtype).max
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels, dict(image.facts)


def lut(first, bits, entries, vr="US", data=None):
    """Return a sequence of one lookup table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", vr, [int(entry) for entry in entries] if data is None else data)
    return Sequence([item])


def look_up(values, first, entries):
    return np.array([entries[min(max(int(value) - first, 0), len(entries) - 1)] for value in values.flat])


# ------------------------------------------------------------------------------------ types, polarity, full range


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_full_unsigned_types_come_out_as_they_are(write, dtype, syntax):
    pixels = np.linspace(0, np.iinfo(dtype).max, 256).astype(dtype).reshape(16, 16)
    (image,) = read(write(pixels, syntax))
    assert image.pixels.dtype == dtype
    assert image.pixels.dtype.isnative
    np.testing.assert_array_equal(image.pixels, pixels[..., None])
    assert (image.mode, image.bits, image.part, image.size) == ("DICOM", 8 * pixels.itemsize, "", (16, 16))
    assert image.facts["window"] == "full range"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [None, "INVERSE"])
def test_monochrome1_is_inverted_exactly_once(write, dtype, shape):
    pixels = np.linspace(0, np.iinfo(dtype).max, 256).astype(dtype).reshape(16, 16)
    elements = {} if shape is None else {"PresentationLUTShape": shape}
    (image,) = read(write(pixels, PhotometricInterpretation="MONOCHROME1", **elements))
    assert image.pixels.dtype == dtype
    np.testing.assert_array_equal(image.pixels[..., 0], np.iinfo(dtype).max - pixels)
    assert (image.facts["photometric"], image.facts["inverted"]) == ("MONOCHROME1", "yes")


def test_monochrome2_is_never_inverted(write):
    (image,) = read(write(PresentationLUTShape="INVERSE"))
    np.testing.assert_array_equal(image.pixels[..., 0], RAMP)
    assert image.facts["photometric"] == "MONOCHROME2"
    assert "inverted" not in image.facts


@pytest.mark.parametrize(("said", "origin"), [("YES", "synthetic"), ("YES ", "synthetic"), ("NO", None), (None, None)])
def test_files_that_say_that_they_are_synthetic(write, said, origin):
    path = write(**({} if said is None else {"SyntheticData": said}))
    _, facts = read_one(path)
    assert facts.get("origin") == read_stored_values(path).facts.get("origin") == origin


def test_12_bits_in_16_are_scaled_by_4095(write):
    """By the type, not by the brightest pixel."""
    pixels = RAMP_12 // 2
    found, _ = read_one(write(pixels, BitsStored=12, HighBit=11))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pixels / 4095, atol=1e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_high_bit_says_where_the_bits_are(write, syntax):
    found, _ = read_one(write(RAMP_12 << 4, syntax, BitsStored=12, HighBit=15))
    np.testing.assert_allclose(found, RAMP_12 / 4095, atol=1e-6)
    signed = (RAMP_12.astype(np.int16) - 2048) << 2
    stored = read_stored_values(write(signed, syntax, BitsStored=12, HighBit=13))
    np.testing.assert_array_equal(stored.values[0], RAMP_12 - 2048.0)


@pytest.mark.parametrize("elements", [{"HighBit": None}, {"HighBit": 7}, {"HighBit": 11}])
def test_high_bits_that_cannot_be_are_ignored(write, elements):
    found, _ = read_one(write(RAMP_12, BitsStored=12, **elements))
    np.testing.assert_allclose(found, RAMP_12 / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "bits", "high", "error"),
    [
        (RAMP_12 | 1, 8, 7, "bits 0...11, where BitsStored 8 and HighBit 7 say 0...7"),
        (RAMP_12 | 0xF000, 12, 11, "bits 0...15, where BitsStored 12 and HighBit 11 say 0...11"),
        (RAMP_12, 12, 15, "bits 0...11, where BitsStored 12 and HighBit 15 say 4...15"),
        (RAMP_12.astype(np.int16), 10, 9, "bits 0...11, where BitsStored 10 and HighBit 9 say 0...9"),
    ],
)
def test_pixels_of_more_bits_than_stored_are_refused(write, pixels, bits, high, error):
    """Dropping the others would make noise of them."""
    with pytest.raises(ReadError) as caught:
        read(write(pixels, BitsStored=bits, HighBit=high))
    assert caught.value.stage == "decode"
    assert error in caught.value.error


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_overlays_within_the_pixels_are_left_aside(write, kind):
    pixels = RAMP_12 // 2 | (np.arange(256, dtype=np.uint16).reshape(16, 16) % 2) << 14
    overlay = {"BitsStored": 12, "HighBit": 11}
    path = write(pixels.astype(kind), **overlay)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x60020102, "US", 14)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_stored_values(path).values[0], RAMP_12 // 2)
    dataset[0x60020102].value = 13
    dataset.save_as(path)
    with pytest.raises(ReadError, match="BitsStored 12"):
        read(path)


def test_overlays_beside_the_pixels_excuse_nothing(write):
    path = write(RAMP_12 | 0x1000, BitsStored=12, HighBit=11)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x60000102, "US", 12)
    dataset.add_new(0x60003000, "OW", bytes(32))
    dataset.save_as(path)
    with pytest.raises(ReadError, match="BitsStored 12"):
        read(path)


def test_signed_16_bit_ct(write):
    """The full range of rescaled values is as wide as the type: nothing is lost."""
    (image,) = read(write(RAMP_SIGNED, RescaleSlope="1", RescaleIntercept="-1024"))
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels[..., 0], RAMP_SIGNED.astype(np.int32) + 32768)


@pytest.mark.parametrize(
    ("elements", "slope", "intercept"),
    [
        ({"RescaleSlope": "2"}, 2, 0),
        ({"RescaleIntercept": "-1024"}, 1, -1024),
        ({"RescaleSlope": "0.5", "RescaleIntercept": "-3.25"}, 0.5, -3.25),
        ({"RescaleSlope": "-2", "RescaleIntercept": "10"}, -2, 10),
        ({"RescaleSlope": ("DS", ""), "RescaleIntercept": "5"}, 1, 5),
    ],
)
def test_rescaling_with_missing_halves(write, elements, slope, intercept):
    path = write(RAMP_12, BitsStored=12, HighBit=11, **elements)
    stored = read_stored_values(path)
    values = RAMP_12.astype(float) * slope + intercept
    np.testing.assert_allclose(stored.values[0], values)
    assert stored.known == tuple(sorted((intercept, 4095 * slope + intercept)))
    low, high = stored.known
    np.testing.assert_allclose(read_one(path)[0], (values - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("slope", ["0", "nan"])
def test_useless_slopes_are_refused(write, slope):
    path = write(RescaleSlope=("DS", "1"))
    path.write_bytes(path.read_bytes().replace(b"DS\x02\x001 ", b"DS\x04\x00" + slope.ljust(4).encode()))
    with pytest.raises(ReadError, match="rescale slope") as caught:
        read(path)
    assert caught.value.stage == "check"


def test_broken_numbers_are_named(write):
    path = write(RescaleSlope="1.5 ")
    path.write_bytes(path.read_bytes().replace(b"1.5 ", b"abc "))
    with pytest.raises(ReadError, match=r"RescaleSlope is not a number.*abc"):
        read(path)


# ----------------------------------------------------------------------------------------------------- windows


def linear(x, c, w):
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x, c, w):
    if x <= c - w / 2:
        return 0.0
    if x > c + w / 2:
        return 1.0
    return (x - c) / w + 0.5


def sigmoid(x, c, w):
    return 1 / (1 + math.exp(min(-4 * (x - c) / w, 700)))


@pytest.mark.parametrize(
    ("function", "formula", "note"),
    [
        (None, linear, ""),
        ("LINEAR", linear, ""),
        ("LINEAR_EXACT", linear_exact, " linear_exact"),
        ("SIGMOID", sigmoid, " sigmoid"),
    ],
)
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600.5, 1500.25), (0, 1), (10, 2)])
def test_windows_follow_the_standard(write, function, formula, note, centre, width):
    hounsfield = np.concatenate([np.arange(-2000, 2000, 37), np.arange(-10, 20)]).astype(np.int16)
    pixels = np.resize(hounsfield, (12, 12))
    elements = {} if function is None else {"VOILUTFunction": function}
    path = write(
        pixels, RescaleSlope="1", RescaleIntercept="-10", WindowCenter=str(centre), WindowWidth=str(width), **elements
    )
    found, facts = read_one(path)
    expected = [formula(float(value) - 10, centre, width) for value in pixels.flat]
    np.testing.assert_allclose(found.flat, expected, atol=1e-6)
    assert facts["window"] == f"{centre},{width}{note}"


def test_the_first_window_counts(write):
    path = write(WindowCenter=["50", "100"], WindowWidth=["20", "200"])
    found, facts = read_one(path)
    np.testing.assert_allclose(found.flat, [linear(value, 50, 20) for value in RAMP.flat], atol=1e-6)
    assert facts["window"] == "50,20"


@pytest.mark.parametrize(
    ("width", "function", "fact"),
    [
        ("0", "LINEAR", "50,0"),
        ("-20", "LINEAR", "50,-20"),
        ("0.5", "LINEAR", "50,0.5"),
        ("0", "LINEAR_EXACT", "50,0 linear_exact"),
        ("0", "SIGMOID", "50,0 sigmoid"),
        ("20", "LOGARITHM", "50,20 logarithm"),
    ],
)
def test_windows_that_cannot_be_applied_are_ignored_and_said_so(write, width, function, fact):
    found, facts = read_one(write(WindowCenter="50", WindowWidth=width, VOILUTFunction=function))
    np.testing.assert_allclose(found, RAMP / 255)
    assert facts["window"] == f"full range (window {fact} ignored)"


def test_half_a_window_is_none(write):
    found, facts = read_one(write(WindowCenter="50"))
    np.testing.assert_allclose(found, RAMP / 255)
    assert facts["window"] == "full range"


def test_windows_of_the_user(write):
    path = write(RAMP_SIGNED, RescaleIntercept="-24", RescaleSlope="1", WindowCenter="1", WindowWidth="2")
    values = RAMP_SIGNED.astype(float) - 24
    found, facts = read_one(path, "none")
    np.testing.assert_allclose(found, (values + 32768 + 24) / 65535, atol=1e-6)
    assert facts["window"] == "full range"
    found, facts = read_one(path, "100,4000")
    np.testing.assert_allclose(found, ((values + 1900) / 4000).clip(0, 1), atol=1e-6)
    assert facts["window"] == "100,4000"
    found, facts = read_one(path, "percentile")
    low, high = np.percentile(values, [0.5, 99.5])
    np.testing.assert_allclose(found, ((values - low) / (high - low)).clip(0, 1), atol=1e-6)
    assert facts["window"] == f"percentile {low:.10g},{high:.10g}"


def test_percentiles_of_an_almost_constant_image(write):
    pixels = np.zeros((40, 40), np.uint8)
    pixels[0, 0] = 200
    with pytest.raises(ReadError, match="constant image"):
        read(write(pixels), "percentile")


# ------------------------------------------------------------------------------------------------------ tables


def test_voi_table_of_8_bits_does_not_wrap(write):
    """Entries beyond the 256th are reached."""
    entries = np.rint(np.sqrt(np.arange(4096) / 4095) * 255).astype(int)
    found, facts = read_one(
        write(
            RAMP_12,
            BitsStored=12,
            HighBit=11,
            VOILUTSequence=lut(0, 8, entries),
            WindowCenter="5",
            WindowWidth="10",
        )
    )
    np.testing.assert_allclose(found.flat, look_up(RAMP_12, 0, entries) / 255, atol=1e-6)
    assert found.max() == 1
    assert facts["window"] == "voi-lut"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("stated_bits", [12, 16, 10])
def test_voi_table_scales_by_its_entries(write, syntax, vr, stated_bits):
    """Devices state 16 where the entries have 12 bits; the brightest entry is what is white."""
    entries = (np.arange(1000) * 4 + 99)[::-1].clip(0, 4095)
    order = "<u2" if syntax.is_little_endian else ">u2"
    data = entries.astype(order).tobytes() if vr == "OW" else None
    path = write(RAMP_12, syntax, BitsStored=12, HighBit=11, VOILUTSequence=lut(500, stated_bits, entries, vr, data))
    np.testing.assert_allclose(read_one(path)[0].flat, look_up(RAMP_12, 500, entries) / 4095, atol=1e-6)


def test_voi_table_of_packed_bytes(write):
    entries = np.arange(255, -1, -1, dtype=np.uint8)
    path = write(VOILUTSequence=lut(0, 8, entries, "OW", entries.tobytes()))
    np.testing.assert_array_equal(read(path)[0].pixels[..., 0], 255 - RAMP)


def test_voi_table_of_65536_entries_for_negative_values(write):
    entries = np.arange(65536)[::-1]
    path = write(RAMP_SIGNED, VOILUTSequence=lut(-32768, 16, entries, "OW", entries.astype("<u2").tobytes()))
    np.testing.assert_array_equal(read(path)[0].pixels[..., 0], 32767 - RAMP_SIGNED.astype(np.int32))


def test_voi_table_whose_first_value_lost_its_sign(write):
    sequence = lut(-100, 8, np.arange(201))
    sequence[0].add_new("LUTDescriptor", "US", [201, 65536 - 100, 8])
    pixels = np.arange(-128, 128, dtype=np.int16).reshape(16, 16)
    found = read(write(pixels, VOILUTSequence=sequence))[0].pixels
    np.testing.assert_array_equal(found[..., 0], (pixels + 100).clip(0, 200))


def test_voi_table_and_monochrome1(write):
    """The lowest output of the table is white."""
    entries = np.arange(256) // 2 * 2
    path = write(VOILUTSequence=lut(0, 8, entries), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(path)[0].pixels[..., 0], 255 - RAMP // 2 * 2)


def test_voi_table_after_rescaling(write):
    entries = np.arange(0, 512)
    path = write(RescaleSlope="2", RescaleIntercept="-100", VOILUTSequence=lut(-100, 9, entries))
    np.testing.assert_allclose(read_one(path)[0], RAMP.astype(int) * 2 / 511, atol=1e-6)


def test_tables_too_short_are_refused(write):
    sequence = lut(0, 8, np.arange(100))
    sequence[0].LUTDescriptor = [300, 0, 8]
    with pytest.raises(ReadError, match="LUTData holds 100 words where LUTDescriptor says 300") as caught:
        read(write(VOILUTSequence=sequence))
    assert caught.value.stage == "decode"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_modality_table_of_any_bits(write, syntax, bits):
    entries = np.linspace(2 ** (bits - 1) - 5, 3, 200).astype(int)  # the stated bits count, not the brightest entry
    path = write(syntax=syntax, ModalityLUTSequence=lut(20, bits, entries), RescaleSlope="7", RescaleIntercept="3")
    expected = look_up(RAMP, 20, entries)
    stored = read_stored_values(path)
    np.testing.assert_array_equal(stored.values.ravel(), expected)
    assert stored.known == (0, 2**bits - 1)
    np.testing.assert_allclose(read_one(path)[0].flat, expected / (2**bits - 1), atol=1e-6)


def test_modality_table_then_window(write):
    entries = np.arange(256) * 10
    path = write(ModalityLUTSequence=lut(0, 12, entries), WindowCenter="1000", WindowWidth="500")
    expected = [linear(float(value) * 10, 1000, 500) for value in RAMP.flat]
    np.testing.assert_allclose(read_one(path)[0].flat, expected, atol=1e-6)


# ----------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_becomes_black_and_does_not_count(write, photometric):
    pixels = np.full((20, 20), -2000, np.int16)
    pixels[4:16, 4:16] = np.arange(144).reshape(12, 12)
    # A negative value, written as the unsigned one with the same bits
    path = write(pixels, PixelPaddingValue=("US", 65536 - 2000), PhotometricInterpretation=photometric)
    found, facts = read_one(path, "percentile")
    low, high = np.percentile(np.arange(144), [0.5, 99.5])
    assert facts["window"] == f"percentile {low:.10g},{high:.10g}"
    inside = ((np.arange(144) - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(
        found[4:16, 4:16].flat, 1 - inside if photometric == "MONOCHROME1" else inside, atol=1e-6
    )
    found[4:16, 4:16] = 0
    assert not found.any()


def test_padding_range(write):
    path = write(PixelPaddingValue=("US", 250), PixelPaddingRangeLimit=("US", 240))
    expected = np.where((RAMP >= 240) & (RAMP <= 250), 0, RAMP)
    np.testing.assert_array_equal(read(path)[0].pixels[..., 0], expected)


@pytest.mark.parametrize("value", [-2000 & 0xFFFF, -2000 & 0xFFF])
def test_padding_of_fewer_bits(write, value):
    """Sign and unused bits are read as those of the pixels."""
    pixels = np.arange(-128, 128, dtype=np.int16).reshape(16, 16)
    pixels[0] = -2000 & 0xFFF
    path = write(pixels, BitsStored=12, HighBit=11, PixelPaddingValue=("US", value))
    found = read_one(path)[0]
    assert not found[0].any()
    np.testing.assert_allclose(found[1:], (pixels[1:] + 2048) / 4095, atol=1e-6)


def test_padding_beyond_the_stored_bits(write):
    """Old CT scanners write -2000 of 16 bits around a picture of 12."""
    pixels = RAMP_12.copy()
    pixels[0] = -2000 & 0xFFFF
    found = read_one(write(pixels, BitsStored=12, HighBit=11, PixelPaddingValue=("US", -2000 & 0xFFFF)))[0]
    assert not found[0].any()
    np.testing.assert_allclose(found[1:], RAMP_12[1:] / 4095, atol=1e-6)
    with pytest.raises(ReadError, match="pixels use the bits"):
        read(write(pixels, BitsStored=12, HighBit=11))


@pytest.mark.parametrize("rows_of_padding", [0, 1])
def test_pixels_like_the_lower_bits_of_padding_stay(write, rows_of_padding):
    """Of -2000, 12 bits are 2096, which may be bone."""
    pixels = np.full((16, 16), 2096, np.uint16)
    pixels[8:] = RAMP_12[8:]
    pixels[:rows_of_padding] = -2000 & 0xFFFF
    found = read_one(write(pixels, BitsStored=12, HighBit=11, PixelPaddingValue=("US", -2000 & 0xFFFF)))[0]
    assert not found[:rows_of_padding].any()
    np.testing.assert_allclose(found[rows_of_padding:], pixels[rows_of_padding:] / 4095, atol=1e-6)


def test_nothing_but_padding(write):
    with pytest.raises(ReadError, match="constant image"):
        read(write(np.full((4, 4), 7, np.uint8), PixelPaddingValue=("US", 7)), "percentile")


# ------------------------------------------------------------------------------------------------------ colour


def colours(height=6, width=8, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", [0, 1])
def test_rgb(write, planar, dtype):
    """Windows are for grey."""
    pixels = colours(dtype=dtype)
    written = pixels if planar == 0 else pixels.transpose(2, 0, 1)
    path = write(
        written,
        SamplesPerPixel=3,
        PlanarConfiguration=planar,
        PhotometricInterpretation="RGB",
        WindowCenter="5",
        WindowWidth="6",
    )
    for window in ("auto", "none", "percentile", "5,6"):
        (image,) = read(path, window)
        assert image.pixels.dtype == dtype
        np.testing.assert_array_equal(image.pixels, pixels)
        assert "window" not in image.facts


def test_rgb_of_12_bits(write):
    pixels = colours(dtype=np.uint16) >> 4
    path = write(
        pixels, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB", BitsStored=12, HighBit=11
    )
    np.testing.assert_allclose(read_one(path)[0], pixels / 4095, atol=1e-6)


def test_rgb_that_is_grey_has_one_channel(write):
    pixels = np.repeat(RAMP[..., None], 3, axis=-1)
    path = write(pixels, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB")
    np.testing.assert_array_equal(read(path)[0].pixels, RAMP[..., None])


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_frames_keep_their_order(write, planar):
    frames = np.stack([colours() // 4 + 60 * number for number in range(3)])
    path = write(
        frames if planar == 0 else frames.transpose(0, 3, 1, 2),
        SamplesPerPixel=3,
        PlanarConfiguration=planar,
        PhotometricInterpretation="RGB",
        NumberOfFrames=3,
    )
    images = read(path)
    assert [image.part for image in images] == ["frame 1", "frame 2", "frame 3"]
    np.testing.assert_array_equal(np.stack([image.pixels for image in images]), frames)


def ybr_to_rgb(ybr):
    y, b, r = (ybr[..., channel].astype(float) for channel in range(3))
    b, r = b - 128, r - 128
    rgb = np.stack([y + 1.402 * r, y - (0.114 * 1.772 * b + 0.299 * 1.402 * r) / 0.587, y + 1.772 * b], axis=-1)
    return rgb.clip(0, 255)


def test_ybr_full(write):
    pixels = colours()
    path = write(pixels, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL")
    (image,) = read(path)
    assert image.pixels.dtype == np.uint8
    np.testing.assert_allclose(image.pixels, ybr_to_rgb(pixels), atol=1)
    assert image.facts["photometric"] == "YBR_FULL"


def test_ybr_full_422(write):
    """Two pixels share their chroma: Y1 Y2 Cb Cr."""
    pixels = colours(4, 6)
    pixels[:, 1::2, 1:] = pixels[:, ::2, 1:]
    packed = np.stack([pixels[:, ::2, 0], pixels[:, 1::2, 0], pixels[:, ::2, 1], pixels[:, ::2, 2]], axis=-1)
    path = write(
        pixels,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=packed.tobytes(),
    )
    np.testing.assert_allclose(read(path)[0].pixels, ybr_to_rgb(pixels), atol=1)


def test_other_colour_spaces_are_refused(write):
    path = write(colours(), SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="HSV")
    with pytest.raises(ReadError, match="HSV"):
        read(path)
    path = write(colours(), SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="YBR_PARTIAL_420")
    with pytest.raises(ReadError, match=r"YBR_PARTIAL_420 with 3 sample"):
        read(path)


def palette(first, bits, table, syntax=ExplicitVRLittleEndian, dtype="u2"):
    order = "<" if syntax.is_little_endian else ">"
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, colour in enumerate(("Red", "Green", "Blue")):
        name = f"{colour}PaletteColorLookupTable"
        vr = "SS" if first < 0 else "US"
        elements[f"{name}Descriptor"] = (vr, [len(table) % 65536, first, bits])
        elements[f"{name}Data"] = ("OW", table[:, channel].astype(f"{order}{dtype}").tobytes())
    return elements


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_palette_of_16_bits(write, syntax):
    table = np.random.default_rng(1).integers(0, 65536, (200, 3))
    (image,) = read(write(RAMP, syntax, **palette(30, 16, table, syntax)))
    assert image.pixels.dtype == np.uint16
    expected = table[(RAMP.astype(int) - 30).clip(0, 199)]
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.bits, image.facts["photometric"]) == (8, "PALETTE COLOR")


@pytest.mark.parametrize(
    ("bits", "dtype", "shift"),
    [(8, "u1", 0), (8, "u2", 0), (8, "u2", 8), (16, "u2", 0)],
    ids=["bytes", "words", "upper halves of words", "words said to have 16 bits"],
)
def test_palette_of_8_bits(write, bits, dtype, shift):
    table = np.random.default_rng(1).integers(0, 256, (256, 3))
    (image,) = read(write(RAMP, **palette(0, bits, table << shift, dtype=dtype)))
    assert image.pixels.dtype == np.uint8
    np.testing.assert_array_equal(image.pixels, table[RAMP])


def test_palette_of_many_entries_does_not_wrap(write):
    table = np.random.default_rng(1).integers(0, 256, (4096, 3))
    path = write(RAMP_12, BitsStored=12, HighBit=11, **palette(0, 8, table, dtype="u1"))
    np.testing.assert_array_equal(read(path)[0].pixels, table[RAMP_12])


def test_palette_for_negative_values(write):
    table = np.random.default_rng(1).integers(0, 65536, (256, 3))
    pixels = np.arange(-128, 128, dtype=np.int16).reshape(16, 16)
    np.testing.assert_array_equal(read(write(pixels, **palette(-128, 16, table)))[0].pixels, table[pixels + 128])


def test_segmented_palette(write):
    """Four entries of 100, then a rise to 60000 over four, for red; others are constant."""
    elements = palette(0, 16, np.zeros((8, 3)))
    red = [0, 1, 100, 1, 3, 100, 1, 4, 60000]
    for colour, words in (("Red", red), ("Green", [0, 1, 7, 1, 7, 7]), ("Blue", [0, 1, 9, 1, 7, 9])):
        del elements[f"{colour}PaletteColorLookupTableData"]
        data = np.array(words, "<u2").tobytes()
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = ("OW", data)
    found = read(write(np.arange(8, dtype=np.uint8).reshape(2, 4), **elements))[0].pixels.reshape(8, 3)
    rise = 100 + (60000 - 100) * np.arange(1, 5) / 4
    np.testing.assert_array_equal(found, [[red, 7, 9] for red in (100, 100, 100, 100, *rise)])


# ------------------------------------------------------------------------------------------------------ frames


def group(**macros):
    """Return an item of functional groups: each macro is a sequence of one item with the given elements."""
    groups = Dataset()
    for name, elements in macros.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(groups, name, Sequence([item]))
    return groups


def test_frames_are_images_of_their_own(write):
    frames = np.stack([RAMP, RAMP[::-1], RAMP.T])
    path = write(frames, NumberOfFrames=3)
    images = read(path)
    assert [image.part for image in images] == ["frame 1", "frame 2", "frame 3"]
    np.testing.assert_array_equal(np.stack([image.pixels[..., 0] for image in images]), frames)
    (image,) = read(path, frame=2)
    assert image.part == "frame 2"
    np.testing.assert_array_equal(image.pixels[..., 0], frames[1])


@pytest.mark.parametrize(("count", "frame"), [(3, 4), (1, 2)])
def test_frames_that_do_not_exist(write, count, frame):
    path = write(np.stack([RAMP] * count), NumberOfFrames=count)
    with pytest.raises(ReadError, match=f"frame {frame} of a file of {count} frame") as caught:
        read(path, frame=frame)
    assert "--frame" in caught.value.hint


def test_the_only_frame_may_be_asked_for(write):
    (image,) = read(write(), frame=1)
    assert image.part == ""


def test_a_constant_frame_does_not_take_the_others_with_it(write):
    path = write(np.stack([np.zeros_like(RAMP), RAMP]), NumberOfFrames=2)
    assert [int(image.pixels.max()) for image in read(path)] == [0, 255]
    with pytest.raises(ReadError, match="constant image: every pixel is 0"):
        read(path, frame=1)


def test_functional_groups(write):
    """For window, rescaling and spacing alike: those of the frame, else the shared ones, else the file's."""
    own = group(
        FrameVOILUTSequence={"WindowCenter": "100", "WindowWidth": "50"},
        PixelValueTransformationSequence={"RescaleSlope": "2", "RescaleIntercept": "-7"},
        PixelMeasuresSequence={"PixelSpacing": ["0.1", "0.2"]},
    )
    shared = group(
        FrameVOILUTSequence={"WindowCenter": "30", "WindowWidth": "40", "VOILUTFunction": "LINEAR_EXACT"},
        PixelMeasuresSequence={"PixelSpacing": ["0.3", "0.4"]},
    )
    path = write(
        np.stack([RAMP] * 2),
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=Sequence([own, Dataset()]),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        WindowCenter="1",
        WindowWidth="2",
        RescaleSlope="3",
        RescaleIntercept="5",
        PixelSpacing=["7", "8"],
    )
    first, second = read(path)
    expected = [linear(value * 2.0 - 7, 100, 50) for value in RAMP.flat]
    np.testing.assert_allclose(first.pixels.ravel(), expected, atol=1e-6)
    assert (first.facts["window"], first.facts["spacing_mm"]) == ("100,50", "0.1,0.2")
    expected = [linear_exact(value * 3.0 + 5, 30, 40) for value in RAMP.flat]
    np.testing.assert_allclose(second.pixels.ravel(), expected, atol=1e-6)
    assert (second.facts["window"], second.facts["spacing_mm"]) == ("30,40 linear_exact", "0.3,0.4")
    assert read(path, frame=2)[0].facts == second.facts
    stored = read_stored_values(path)
    np.testing.assert_array_equal(stored.values, [RAMP * 2.0 - 7, RAMP * 3.0 + 5])
    assert stored.known == (-7, 255 * 3 + 5)


# ------------------------------------------------------------------------------------------------------- facts


def test_facts(write):
    path = write(
        SOPClassUID=CTImageStorage,
        Modality="DX",
        ViewPosition="AP",
        PresentationIntentType="FOR PRESENTATION",
        BurnedInAnnotation="NO",
        PatientIdentityRemoved="YES",
        PatientAge="045Y",
        PatientSex="F",
        PatientID="Müller-123",
        IssuerOfPatientID="St. Elsewhere",
        SpecificCharacterSet="ISO_IR 192",
        PixelSpacing=["0.2", "0.40"],
        ImagerPixelSpacing=["0.5", "0.5"],
    )
    facts = dict(read(path)[0].facts)
    assert facts == {
        "modality": "DX",
        "view": "AP",
        "photometric": "MONOCHROME2",
        "window": "full range",
        "spacing_mm": "0.2,0.4",
        "transfer_syntax": "Explicit VR Little Endian",
        "presentation_intent": "FOR PRESENTATION",
        "burned_in_annotation": "NO",
        "patient_identity_removed": "YES",
        "age": "045Y",
        "sex": "F",
        "patient_id": "p" + hashlib.sha256("St. Elsewhere/Müller-123".encode()).hexdigest()[:12],
    }
    assert set(facts) <= {*FACTS, "patient_id"}


def test_facts_that_are_not_known_are_left_out(write):
    facts = read(write(PatientID="", Modality=("CS", ""), ImagerPixelSpacing=["0.1", "0.2"]))[0].facts
    assert facts == {
        "photometric": "MONOCHROME2",
        "window": "full range",
        "transfer_syntax": "Explicit VR Little Endian",
        "spacing_mm": "0.1,0.2 at detector",
    }


def test_spacing_of_zero_is_none(write):
    facts = read(write(PixelSpacing=["0", "0"], ImagerPixelSpacing=["0.1", "0.2"]))[0].facts
    assert facts["spacing_mm"] == "0.1,0.2 at detector"


def test_patients_without_issuer(write):
    patient = read(write(PatientID="17"))[0].facts["patient_id"]
    assert patient == "p" + hashlib.sha256(b"/17").hexdigest()[:12]


# ---------------------------------------------------------------------------------------- files of other kinds


@pytest.mark.parametrize("name", ["notes.dcm", "notes.ima", "notes.txt"])
@pytest.mark.parametrize("content", [b"patient\n", b"A longer text about nothing in particular. " * 50, bytes(500)])
def test_what_is_no_dicom_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert not is_dicom(path)
    with pytest.raises(ReadError, match="not a DICOM file") as caught:
        read(path)
    assert caught.value.stage == "open"


def test_a_picture_named_dcm(tmp_path):
    path = tmp_path / "picture.dcm"
    Image.fromarray(RAMP).save(path, format="PNG")
    assert not is_dicom(path)


def test_missing_and_empty_files(tmp_path):
    path = tmp_path / "image.dcm"
    assert not is_dicom(path)
    with pytest.raises(ReadError, match="FileNotFoundError") as caught:
        read(path)
    assert caught.value.stage == "open"
    path.touch()
    assert not is_dicom(path)
    with pytest.raises(ReadError, match="empty file"):
        read(path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("kind", [SecondaryCaptureImageStorage, None])
def test_files_without_preamble(write, syntax, kind):
    """Recognised by what they hold, if they are named as DICOM files; older files name no kind."""
    path = write(RAMP_12, syntax, preamble=False, SOPClassUID=kind)
    assert path.read_bytes()[128:132] != b"DICM"
    assert is_dicom(path)
    np.testing.assert_array_equal(read(path)[0].pixels[..., 0], RAMP_12)
    assert read(path)[0].facts["transfer_syntax"] == syntax.name
    assert not is_dicom(path.rename(path.with_suffix(".png")))


def test_content_decides_whatever_the_name(write):
    assert is_dicom(write(name="image.png"))


@pytest.mark.parametrize("kind", [RTStructureSetStorage, UID("1.2.840.10008.5.1.4.1.1.104.1")])
def test_objects_without_pixels_are_named(write, kind):
    with pytest.raises(ReadError, match=f"no picture in it: {kind.name}") as caught:
        read(write(SOPClassUID=kind, PixelData=None))
    assert caught.value.stage == "open"


def test_a_directory_of_files_is_no_picture(tmp_path):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.FileSetID = "DISC"
    dataset.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    with pytest.raises(ReadError, match="no picture in it: Media Storage Directory"):
        read(tmp_path / "DICOMDIR")


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        ({"Rows": 65535, "Columns": 65535}, "too large: 65535 x 65535 pixels"),
        ({"Rows": 8000, "Columns": 8000, "NumberOfFrames": 30}, "too large: 30 frames of 8000 x 8000"),
        ({"Rows": 0}, "0 rows and 16 columns"),
        ({"Columns": None}, "16 rows and 0 columns"),
        ({"Rows": 17}, "less than expected"),
        ({"NumberOfFrames": 2}, "less than expected"),
        ({"BitsStored": 9}, "Bits Stored"),
        ({"PhotometricInterpretation": None}, "Photometric Interpretation"),
    ],
)
def test_headers_that_cannot_be(write, elements, error):
    with pytest.raises(ReadError, match=error):
        read(write(**elements))


def test_one_frame_of_too_many_may_be_asked_for(write):
    with pytest.raises(ReadError, match="less than expected"):  # only the pixels of this file are too few
        read(write(Rows=8000, Columns=8000, NumberOfFrames=30), frame=1)


def test_no_frames_means_one(write):
    (image,) = read(write(NumberOfFrames=0))
    assert (image.part, image.size) == ("", (16, 16))


def test_too_few_compressed_frames(tmp_path):
    path = tmp_path / "image.dcm"
    dataset = pydicom.dcmread(BUNDLED / "SC_rgb_rle_2frame.dcm")
    dataset.NumberOfFrames = 3
    dataset.save_as(path)
    with pytest.raises(ReadError, match="fewer frames than the 3 of the header") as caught:
        read(path)
    assert caught.value.stage == "decode"


@pytest.mark.parametrize(("syntax", "kind"), [(JPEGBaseline8Bit, "JPEG"), (JPEG2000Lossless, "JPEG2000")])
@pytest.mark.parametrize(
    ("shape", "stated"),
    [
        ((16, 16, 3), "16 x 16 pixels of 3 samples"),
        ((32, 16), "32 x 16 pixels of 1 samples"),
        ((8, 16), "8 x 16 pixels of 1 samples"),
    ],
)
@pytest.mark.usefixtures("codecs")
def test_compressed_frames_must_fit_the_header(write, syntax, kind, shape, stated):
    """A decoder may return the first bytes of such a frame, an enlarged fragment, or crash."""

    def encapsulated(pixels):
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
        return pydicom.encaps.encapsulate([stream.getvalue()])

    assert read(write(syntax=syntax, PixelData=encapsulated(RAMP)))[0].size == (16, 16)
    with pytest.raises(ReadError) as caught:
        read(write(syntax=syntax, PixelData=encapsulated(np.resize(RAMP, shape))))
    assert caught.value.stage == "decode"
    assert caught.value.error == f"compressed frame of {stated} where the header says 16 x 16 pixels of 1 samples"


@pytest.mark.usefixtures("codecs")
def test_messages_name_no_places_in_memory(write):
    with pytest.raises(ReadError) as caught:
        read(write(syntax=JPEGBaseline8Bit, PixelData=pydicom.encaps.encapsulate([b"no picture"])))
    assert "0x" not in caught.value.error


def test_more_pixels_than_frames(write):
    """The header counts."""
    (image,) = read(write(PixelData=RAMP.tobytes() * 2))
    np.testing.assert_array_equal(image.pixels[..., 0], RAMP)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, JPEGLSLossless, JPEGLosslessSV1])
def test_missing_codecs_are_named_with_their_remedy(write, syntax, monkeypatch):
    monkeypatch.setattr(get_decoder(syntax), "_available", {})
    with pytest.raises(ReadError, match="no codec for") as caught:
        read(write(syntax=syntax, PixelData=pydicom.encaps.encapsulate([b"\xff\xd8"])))
    assert syntax.name in caught.value.error
    assert caught.value.hint == 'type pip install "medgan[dicom-codecs]"'


def test_unknown_transfer_syntaxes_are_named(write):
    path = write()
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"))
    with pytest.raises(ReadError, match=r"transfer syntax 1\.2\.840\.99999\.1\.2\.1 is unknown"):
        read(path)


# ------------------------------------------------------------------------------------- floating-point, constants


def test_floating_point_pixels_need_a_window(write):
    pixels = np.linspace(-1, 3, 64, dtype=np.float32).reshape(8, 8)
    path = write(pixels)
    assert read_stored_values(path).known is None
    np.testing.assert_array_equal(read_stored_values(path).values[0], pixels)
    for window in ("auto", "none"):
        with pytest.raises(ReadError, match="floating-point pixels") as caught:
            read(path, window)
        assert "--window percentile" in caught.value.hint
    np.testing.assert_allclose(read_one(path, "1,2")[0], (pixels / 2).clip(0, 1), atol=1e-6)
    assert read(path, "1,2")[0].bits == 32
    found, facts = read_one(write(pixels, WindowCenter="1", WindowWidth="4", VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_allclose(found, (pixels + 1) / 4, atol=1e-6)
    assert facts["window"] == "1,4 linear_exact"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(write, value):
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    pixels[3, 3] = value
    with pytest.raises(ReadError, match="NaN or infinite") as caught:
        read(write(pixels), "0.5,1")
    assert caught.value.stage == "check"


@pytest.mark.parametrize("window", ["auto", "none", "percentile", "40,10"])
def test_constant_images_are_refused(write, window):
    with pytest.raises(ReadError, match="constant image") as caught:
        read(write(np.full((8, 8), 7, np.uint8)), window)
    assert caught.value.stage == "check"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_images_that_a_window_makes_constant_are_refused(write):
    with pytest.raises(ReadError, match="constant image: every pixel is 1"):
        read(write(), "-500,20")


# ----------------------------------------------------------------------------------------------- stored values


def test_stored_values_know_nothing_of_windows_and_polarity(write):
    path = write(
        RAMP_SIGNED,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter="40",
        WindowWidth="400",
        ImagePositionPatient=["1", "2", "3"],
    )
    stored = read_stored_values(path)
    assert stored.values.dtype == np.float32
    np.testing.assert_array_equal(stored.values, RAMP_SIGNED[None].astype(np.float32) - 1024)
    assert stored.known == (-32768 - 1024, 32767 - 1024)
    assert stored.dataset.ImagePositionPatient == [1, 2, 3]
    assert stored.facts == {"photometric": "MONOCHROME1", "transfer_syntax": "Explicit VR Little Endian"}
    assert "PixelData" not in stored.dataset


def test_stored_values_are_grey(write):
    path = write(colours(), SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB")
    with pytest.raises(ReadError, match="RGB where grey values are wanted"):
        read_stored_values(path)


# --------------------------------------------------------------------------------------------------- quietness


def test_odd_metadata_neither_warns_nor_logs(write, caplog):
    """Warnings are errors here, and pydicom both warns and logs of the pixels too many and the bad date."""
    path = write(PixelData=RAMP.tobytes() + bytes(8), StudyDate="20240101", Modality="DX")
    path.write_bytes(path.read_bytes().replace(b"20240101", b"yester!!"))
    logger = logging.getLogger("pydicom")
    before = logger.level
    with caplog.at_level(logging.DEBUG):
        read(path)
        with pytest.raises(ReadError, match="Unable to decode"):
            read(write(syntax=JPEGBaseline8Bit, PixelData=pydicom.encaps.encapsulate([b"no picture"])))
    assert not caplog.records
    assert logger.level == before


def test_itk_changes_nothing(write, monkeypatch):
    """Readers that take ITK where they find it turn the polarity of radiographs round."""
    path = write(RAMP_12, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    before = read(path)[0]

    class Trap(types.ModuleType):
        def __getattr__(self, name):
            raise AssertionError(f"itk.{name} was looked at")

    for name in ("itk", "SimpleITK"):
        monkeypatch.setitem(sys.modules, name, Trap(name))
    after = read(path)[0]
    np.testing.assert_array_equal(before.pixels, after.pixels)
    np.testing.assert_allclose(after.pixels[..., 0], 1 - RAMP_12 / 4095, atol=1e-6)
    assert before.facts == after.facts


# --------------------------------------------------------------------------------------- pydicom's own test files

BUNDLED = Path(pydicom.__path__[0]) / "data" / "test_files"

NO_PICTURE = {
    "ExplVR_BigEndNoMeta": "RT Ion Plan Storage",
    "ExplVR_LitEndNoMeta": "RT Ion Plan Storage",
    "UN_sequence": "CT Image Storage",
    "empty_charset_LEI": "an object of unknown kind",
    "no_meta_group_length": "RT Image Storage",
    "priv_SQ": "MR Image Storage",
    "reportsi": "Basic Text SR Storage",
    "reportsi_with_empty_number_tags": "Basic Text SR Storage",
    "rtplan": "RT Plan Storage",
    "rtplan_truncated": "RT Plan Storage",
    "rtstruct": "RT Structure Set Storage",
    "test-SR": "Comprehensive SR Storage",
    "waveform_ecg": "12-lead ECG Waveform Storage",
}
DAMAGED = {
    "JPEG2000-embedded-sequence-delimiter": "compressed frame of 1024 x 3722445056 pixels",
    "MR_truncated": "8130 vs 8192 bytes",
    "badVR": "NumberOfFrames is not a number",
    "meta_missing_tsyntax": "0 rows and 0 columns",
    "nested_priv_SQ": "0 rows and 0 columns",
    "no_meta": "not a DICOM file",
}
CODECS = {
    "JPEGLSNearLossless_08": JPEGLSNearLossless,
    "JPEGLSNearLossless_16": JPEGLSNearLossless,
    "MR_small_jpeg_ls_lossless": JPEGLSLossless,
    "SC_rgb_jls_lossy_line": JPEGLSNearLossless,
    "SC_rgb_jls_lossy_sample": JPEGLSNearLossless,
    "SC_rgb_jpeg_gdcm": JPEGLosslessSV1,
}
SAME_AS_MR_SMALL = (
    "MR_small_RLE",
    "MR_small_bigendian",
    "MR_small_expb",
    "MR_small_implicit",
    "MR_small_jp2klossless",
    "MR_small_jpeg_ls_lossless",
    "MR_small_padded",
)
OTHER_PICTURES = ("SC_rgb_jpeg", "SC_rgb_jpeg_app14_dcmd", "SC_rgb_jpeg_dcmd")


def plugins(syntax):
    return get_decoder(syntax).available_plugins


def expected_error(name):
    """Return what the error says of a bundled file that cannot be read in this environment, None if it can be."""
    if name in NO_PICTURE:
        return f"no picture in it: {NO_PICTURE[name]}"
    if name in DAMAGED:
        return DAMAGED[name]
    if name in CODECS and not get_decoder(CODECS[name]).is_available:
        return f"no codec for {CODECS[name].name}"
    if name in {"JPEG-lossy", "JPGExtended"} and "pylibjpeg" not in plugins(UID("1.2.840.10008.1.2.4.51")):
        return "no codec for JPEG Extended (Process 2 and 4) with 12 bits"
    if name == "GDCMJ2K_TextGBR" and plugins(UID("1.2.840.10008.1.2.4.90")) == ("pillow",):
        return "broken data stream"
    return None


def test_the_bundled_files_are_those_of_the_table():
    names = {path.stem for path in BUNDLED.glob("*.dcm")}
    assert len(names) == 78
    assert names >= {*NO_PICTURE, *DAMAGED, *CODECS, *SAME_AS_MR_SMALL}


@pytest.fixture(params=["as installed", "pydicom and Pillow alone"])
def codecs(request, monkeypatch):
    """The decoders of this environment, and those that a plain installation has."""
    if request.param == "as installed":
        return
    for syntax in AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError):  # video, which no decoder knows
            decoder = get_decoder(syntax)
            few = {name: plugin for name, plugin in decoder._available.items() if name in ("pillow", "pydicom")}
            monkeypatch.setattr(decoder, "_available", few)


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.dcm")), ids=lambda path: path.stem)
@pytest.mark.usefixtures("codecs")
def test_bundled_files_decode_or_say_why_not(path):
    expected = expected_error(path.stem)
    if expected is not None:
        with pytest.raises(ReadError) as caught:
            read(path)
        assert expected in caught.value.error
        assert caught.value.hint
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, stop_before_pixels=True)
    images = read(path)
    assert len(images) == int(header.get("NumberOfFrames") or 1)
    for image in images:
        assert image.size == (header.Rows, header.Columns)
        colour = header.SamplesPerPixel == 3 or header.PhotometricInterpretation == "PALETTE COLOR"
        assert image.pixels.shape[-1] == (3 if colour else 1)
        assert image.pixels.dtype in (np.uint8, np.uint16, np.float32)
        assert np.isfinite(image.pixels).all()
        if image.pixels.dtype == np.float32:
            assert image.pixels.min() >= 0
            assert image.pixels.max() <= 1


@pytest.mark.parametrize("name", SAME_AS_MR_SMALL)
def test_encodings_of_one_image_give_one_image(name):
    if expected_error(name) is not None:
        pytest.skip("its codec is not installed")
    np.testing.assert_array_equal(
        read(BUNDLED / f"{name}.dcm")[0].pixels, read(BUNDLED / "MR_small.dcm")[0].pixels, strict=True
    )


COLOUR_BARS = sorted(
    path
    for path in BUNDLED.glob("SC_rgb_*.dcm")
    if not path.stem.startswith("SC_rgb_small") and path.stem not in OTHER_PICTURES
)


@pytest.mark.parametrize("path", COLOUR_BARS, ids=lambda path: path.stem)
def test_colour_encodings_show_one_test_picture(path):
    """Bars of known colours, whatever the colour space of the file."""
    if expected_error(path.stem) is not None:
        pytest.skip("its codec is not installed")
    pixels = read(path)[0].pixels
    white = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    bars = pixels[5::10, 50] / white * 255
    expected = [
        (255, 0, 0),
        (255, 128, 128),
        (0, 255, 0),
        (128, 255, 128),
        (0, 0, 255),
        (128, 128, 255),
        (0, 0, 0),
        (64, 64, 64),
        (192, 192, 192),
        (255, 255, 255),
    ]
    np.testing.assert_allclose(bars, expected, atol=6)
