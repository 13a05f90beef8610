"""Odd image files: each either reads right, or is refused with a reason."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from medgan.data.decoded import ReadError, Reading
from medgan.data.readers import looks_like_image, read_file, read_image

Picture = Callable[..., np.ndarray]


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_grey_images_come_back_exactly(tmp_path: Path, picture: Picture, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(picture()).save(path)
    found = read_image(path)
    assert found.pixels.dtype == np.uint8
    assert (found.mode, found.bits, *found.size) == ("L", 8, 20, 24)
    np.testing.assert_array_equal(found.pixels[..., 0], picture())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_range(tmp_path: Path, picture: Picture, suffix: str) -> None:
    deep = picture().astype(np.uint16) * 200 + 3
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(deep).save(path)
    found = read_image(path)
    assert found.bits == 16
    assert found.pixels.dtype == np.uint16
    np.testing.assert_array_equal(found.pixels[..., 0], deep)


def test_a_big_endian_tiff_of_sixteen_bits(tmp_path: Path, picture: Picture) -> None:
    deep = picture().astype(np.uint16) * 200
    Image.fromarray(deep.astype(">u2")).save(tmp_path / "image.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif").pixels[..., 0], deep)


def test_integers_of_32_bits_within_16_are_taken_and_others_refused(tmp_path: Path, picture: Picture) -> None:
    values = picture().astype(np.int32) * 200
    Image.fromarray(values).save(tmp_path / "good.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "good.tif").pixels[..., 0], values)
    Image.fromarray(values - 30000).save(tmp_path / "signed.tif")
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "signed.tif")
    assert "0...65535" in caught.value.error


def _tiff(path: Path, pixels: np.ndarray, *, bits: int, photometric: int, data: bytes) -> None:
    """Write an uncompressed grey TIFF by hand, as Pillow cannot write these kinds."""
    height, width = pixels.shape
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8)]
    entries += [(277, 1), (278, height), (279, len(data))]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4 if tag in {273, 279} else 3, 1, value) for tag, value in entries
    )
    offset = 8 + len(data) + len(data) % 2
    path.write_bytes(
        b"II*\0" + struct.pack("<I", offset) + data + b"\0" * (len(data) % 2) + directory + struct.pack("<I", 0)
    )


def test_white_is_zero_is_inverted_with_sixteen_bits_too(tmp_path: Path, picture: Picture) -> None:
    deep = picture().astype("<u2") * 200
    _tiff(tmp_path / "plain.tif", deep, bits=16, photometric=1, data=deep.tobytes())
    _tiff(tmp_path / "inverted.tif", deep, bits=16, photometric=0, data=deep.tobytes())
    plain, inverted = (read_image(tmp_path / name).pixels for name in ("plain.tif", "inverted.tif"))
    np.testing.assert_array_equal(plain[..., 0], deep)
    np.testing.assert_array_equal(inverted, 65535 - plain)


def test_twelve_bits_are_stretched_by_their_own_range(tmp_path: Path) -> None:
    values = np.array([[0, 4095], [2048, 1]], dtype=np.uint16)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in values.tolist())
    _tiff(tmp_path / "twelve.tif", values, bits=12, photometric=1, data=packed)
    found = read_image(tmp_path / "twelve.tif")
    assert found.bits == 12
    np.testing.assert_array_equal(found.pixels[..., 0], [[0, 65535], [round(2048 / 4095 * 65535), 16]])


def test_float_images_need_the_range_from_0_to_1(tmp_path: Path, picture: Picture) -> None:
    values = picture().astype(np.float32) / 255
    for name, image in {"good": values, "wide": values * 300, "nan": np.where(values > 0.5, np.nan, values)}.items():
        Image.fromarray(image.astype(np.float32)).save(tmp_path / f"{name}.tif")
    good = read_image(tmp_path / "good.tif")
    np.testing.assert_array_equal(good.pixels[..., 0], np.rint(values * 65535))
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "wide.tif")
    assert "0...1" in caught.value.error
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "nan.tif")
    assert "NaN" in caught.value.error


def test_an_rgb_file_with_grey_content_has_one_channel(tmp_path: Path, picture: Picture) -> None:
    Image.fromarray(picture()).convert("RGB").save(tmp_path / "grey.png")
    Image.fromarray(picture()).convert("RGB").save(tmp_path / "grey.jpg")
    Image.fromarray(np.stack([picture(k) for k in range(3)], axis=2)).save(tmp_path / "colour.png")
    assert read_image(tmp_path / "grey.png").pixels.shape == (20, 24, 1)
    assert read_image(tmp_path / "grey.jpg").pixels.shape == (20, 24, 1)
    assert read_image(tmp_path / "colour.png").pixels.shape == (20, 24, 3)


def test_a_palette_gives_its_colours_and_not_its_indices(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png").pixels, [[[10, 20, 30], [200, 100, 50]]])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_black(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1))
    full, hidden, half = ((200, a) if mode == "LA" else (200, 200, 200, a) for a in (255, 0, 128))
    image.putdata([full, hidden, half])
    image.save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png").pixels.tolist() == [[[200], [0], [100]]]


def test_a_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "image.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "image.png").pixels, [[[0, 0, 0], [200, 100, 50]]])


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 0))  # no ink
    image.paste((255, 255, 0, 0), (8, 0, 16, 16))  # blue
    image.save(tmp_path / "image.jpg", quality=95)
    found = read_image(tmp_path / "image.jpg")
    assert found.mode == "CMYK"
    np.testing.assert_allclose(found.pixels[4, 2], [255, 255, 255], atol=6)
    np.testing.assert_allclose(found.pixels[4, 13], [0, 0, 255], atol=12)


def test_one_bit_becomes_0_and_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).convert("1").save(tmp_path / "image.png")
    found = read_image(tmp_path / "image.png")
    assert found.bits == 1
    assert found.pixels.tolist() == [[[255], [0]]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_orientation_is_applied_once(tmp_path: Path, suffix: str) -> None:
    image = Image.new("L", (32, 16))
    image.paste(255, (0, 0, 8, 16))  # a bright left edge
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    image.save(tmp_path / f"image.{suffix}", exif=exif)
    pixels = read_image(tmp_path / f"image.{suffix}").pixels[..., 0]
    assert pixels.shape == (32, 16)
    assert pixels[:6].min() > 240
    assert pixels[10:].max() < 15


def test_the_content_decides_the_format(tmp_path: Path, picture: Picture) -> None:
    Image.fromarray(picture()).save(tmp_path / "image.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "image.jpg").pixels[..., 0], picture())


def test_damaged_files_are_refused_with_stage_and_hint(tmp_path: Path, picture: Picture) -> None:
    Image.fromarray(picture(height=200, width=200)).save(tmp_path / "whole.png")
    Image.fromarray(picture(height=200, width=200)).save(tmp_path / "whole.jpg")
    for name in ("whole.png", "whole.jpg"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(picture()).convert("P").save(tmp_path / "gif.png", format="GIF")
    stages = {}
    for name in ("cut-whole.png", "cut-whole.jpg", "empty.png", "text.png", "gif.png", "absent.png"):
        with pytest.raises(ReadError) as caught:
            read_image(tmp_path / name)
        stages[name] = caught.value.stage
        assert caught.value.error
        assert caught.value.hint
    assert stages["cut-whole.jpg"] == stages["cut-whole.png"] == "decode"
    assert stages["empty.png"] == stages["text.png"] == stages["absent.png"] == "open"


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_is_refused(tmp_path: Path, value: int) -> None:
    Image.new("L", (8, 8), value).save(tmp_path / "image.png")
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "image.png")
    assert "constant" in caught.value.error


def test_several_pages_are_refused(tmp_path: Path, picture: Picture) -> None:
    pages = [Image.fromarray(picture(number)) for number in range(3)]
    pages[0].save(tmp_path / "image.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "image.tif")
    assert "3 frames" in caught.value.error


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "bomb.png")
    assert "too large" in caught.value.error


def test_signatures(tmp_path: Path, picture: Picture) -> None:
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        Image.fromarray(picture()).save(tmp_path / kind, format=kind)
        assert looks_like_image(tmp_path / kind)
    (tmp_path / "notes").write_text("hello")
    assert not looks_like_image(tmp_path / "notes")
    assert not looks_like_image(tmp_path / "absent")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX only")
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.dcm").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.dcm"):
        with pytest.raises(ReadError) as caught:
            read_file(tmp_path / name, Reading())
        assert "pipe, a socket or a device" in caught.value.error
    assert not looks_like_image(tmp_path / "pipe")


def test_signed_bytes_are_refused(tmp_path: Path, picture: Picture) -> None:
    signed = TiffImagePlugin.ImageFileDirectory_v2()
    signed[339] = 2
    Image.fromarray(picture()).save(tmp_path / "signed.tif", tiffinfo=signed)
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "signed.tif")
    assert "signed 8-bit" in caught.value.error


def test_a_single_colour_is_constant(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "colour.png")
    with pytest.raises(ReadError) as caught:
        read_image(tmp_path / "colour.png")
    assert "every pixel is 1, 2, 3" in caught.value.error


@pytest.mark.parametrize("name", ["empty.nii.gz", "empty.dcm", "empty.png"])
def test_empty_files_are_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ReadError) as caught:
        read_file(tmp_path / name, Reading())
    assert caught.value.error == "empty file (0 bytes)"
