"""Volumes: however their files lie on disk, the same anatomy comes out the same way, or is refused with a reason."""

from __future__ import annotations

import errno
import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medgan.data.decoded import DecodedImage, PassingError, ReadError, Reading
from medgan.data.volumes import Slices, data_files, find_series, is_volume, parse_slices, read_volume
from medgan.data.window import Window
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

SPACING = (1.5, 2.0, 3.0)  # rightwards, forwards, upwards
LUNG = Window("fixed", -600, 1500)
WHOLE = Window("fixed", 0, 2000)  # shows -1000...1000 without a loss
VOLUME = Reading(WHOLE, volumes=True)


def _anatomy() -> np.ndarray:
    """Return integers in the order of RAS: axis 0 goes to the right, 1 forwards, 2 upwards."""
    anatomy = np.random.default_rng(5).integers(-900, 900, (5, 6, 7)).astype(np.int16)
    anatomy[-1, -1, -1] = 1000  # right, anterior, superior
    return anatomy


def _affine() -> np.ndarray:
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -20, -30, 40
    return affine


def _as_read(anatomy: np.ndarray) -> np.ndarray:
    """Return the anatomy as `read_volume` has it: depth downwards, height backwards, width to the left."""
    return anatomy[::-1, ::-1, ::-1].transpose(2, 1, 0)


def _shown(anatomy: np.ndarray) -> np.ndarray:
    """Return what is read with the window WHOLE."""
    return ((_as_read(anatomy) + 1000.0) / 2000)[..., None]


def _nifti(path: Path, anatomy: np.ndarray | None = None, axes: str = "RAS", affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file whose axes go to where `axes` says."""
    image = nibabel.Nifti1Image(_anatomy() if anatomy is None else anatomy, _affine() if affine is None else affine)
    if axes != "RAS":
        image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axes)))
    nibabel.save(image, path)
    return path


def _refused(path: Path, reading: Reading = VOLUME) -> ReadError:
    with pytest.raises(ReadError) as caught:
        read_volume(path, reading)
    assert caught.value.hint
    return caught.value


def _one(path: Path, reading: Reading = VOLUME) -> DecodedImage:
    (image,) = read_volume(path, reading)
    return image


# ------------------------------------------------------------------------------------------- names and ranges


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "a.b.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_names_of_volumes(name: str) -> None:
    assert is_volume(Path(name))


@pytest.mark.parametrize("name", ["a.gz", "nii", "a.nii.png", "a.dcm", "a.img"])
def test_other_names(name: str) -> None:
    assert not is_volume(Path(name))


def test_slices_from_text() -> None:
    assert parse_slices("axial") == Slices("axial", 0, 1)
    assert parse_slices("coronal:0.3-0.7") == Slices("coronal", 0.3, 0.7)
    assert parse_slices(" sagittal: .25 - 1 ") == Slices("sagittal", 0.25, 1)
    assert parse_slices("axial:0.5") == Slices("axial", 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axail", "Did you mean 'axial'"),
        ("", "Known: axial, coronal, sagittal"),
        ("axial:", "such as axial:0.3-0.7"),
        ("coronal:0.7-0.3", "such as coronal:0.3-0.7"),
        ("axial:0.5-1.5", "rise from 0 to 1"),
        ("axial:30-70", "rise from 0 to 1"),
        ("axial:a-b", "rise from 0 to 1"),
        ("axial:0.1-0.2-0.3", "rise from 0 to 1"),
    ],
)
def test_what_is_no_slices(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_slices(text)


def test_slices_lie_within_their_share() -> None:
    assert Slices("axial").indices(3) == [0, 1, 2]
    assert Slices("axial", 0.3, 0.7).indices(10) == [3, 4, 5, 6]
    assert Slices("axial", 0, 0).indices(4) == [0]
    assert Slices("axial", 0.5, 0.5).indices(4) == [2]
    assert Slices("axial", 1, 1).indices(4) == [3]
    assert Slices("axial", 0.4, 0.6).indices(2) == [1]  # no middle lies within


# -------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "IPL", "PIR", "ASL", "SRP"])
def test_nifti_of_any_orientation_reads_the_same(tmp_path: Path, axes: str) -> None:
    image = _one(_nifti(tmp_path / "scan.nii.gz", axes=axes))
    assert image.pixels.dtype == np.float32
    assert image.pixels[0, 0, 0] == 1  # superior, anterior, right
    np.testing.assert_allclose(image.pixels, _shown(_anatomy()), atol=1e-6)
    assert (image.mode, image.bits, image.part, image.size) == ("NIfTI", 16, "", (7, 6, 5))
    assert image.facts == {"spacing_mm": "3,2,1.5", "window": "0,2000"}


def _oblique() -> np.ndarray:
    """Return an affine that is turned by 20 degrees about the axis from left to right."""
    turned = _affine()
    sine, cosine = np.sin(np.radians(20)), np.cos(np.radians(20))
    turned[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ turned[:3, :3]
    return turned


def _monai(path: Path) -> MetaTensor:
    """Return what MONAI reads, shape (1, x, y, z)."""
    from monai.data.image_reader import NibabelReader
    from monai.data.meta_tensor import MetaTensor

    reader = NibabelReader()
    values, meta = reader.get_data(reader.read(path))
    return MetaTensor(values[None].astype(np.float32), affine=meta["affine"])


@pytest.mark.parametrize("axes", ["LPS", "ASL"])
def test_monai_orients_the_same(tmp_path: Path, axes: str) -> None:
    from monai.transforms.spatial.array import Orientation

    path = _nifti(tmp_path / "scan.nii", axes=axes, affine=_oblique())
    expected = Orientation("IPL", labels=(("L", "R"), ("P", "A"), ("I", "S")))(_monai(path))
    image = _one(path)
    np.testing.assert_allclose(image.pixels[..., 0], (expected[0].numpy() + 1000) / 2000, atol=1e-6)
    assert image.facts["spacing_mm"] == ",".join(f"{length:g}" for length in expected.pixdim.tolist())


def test_slices_look_as_a_radiologist_expects(tmp_path: Path) -> None:
    anatomy = _anatomy()
    path = _nifti(tmp_path / "scan.nii", axes="PIR")
    expected = {  # rows downwards, columns from left to right on the screen
        "axial": ([anatomy[::-1, ::-1, z].T for z in range(7)[::-1]], "2,1.5"),  # backwards, patient's right to left
        "coronal": ([anatomy[::-1, y, ::-1].T for y in range(6)[::-1]], "3,1.5"),  # downwards, right to left
        "sagittal": ([anatomy[x, ::-1, ::-1].T for x in range(5)[::-1]], "3,2"),  # downwards, front to back
    }
    for plane, (slices, spacing) in expected.items():
        images = read_volume(path, Reading(WHOLE, slices=plane))
        assert [image.part for image in images] == [f"{plane} {number + 1}" for number in range(len(slices))]
        for image, wanted in zip(images, slices, strict=True):
            np.testing.assert_allclose(image.pixels, (wanted[..., None] + 1000.0) / 2000, atol=1e-6)
            assert image.facts["spacing_mm"] == spacing


def test_some_slices(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "scan.nii")
    whole = _one(path).pixels
    images = read_volume(path, Reading(WHOLE, slices="axial:0.3-0.7"))
    assert [image.part for image in images] == ["axial 3", "axial 4", "axial 5"]
    np.testing.assert_array_equal(np.stack([image.pixels for image in images]), whole[2:5])
    assert _one(path, Reading(WHOLE, slices="axial:0.5")).part == "axial 4"
    with pytest.raises(ConfigError):
        read_volume(path, Reading(WHOLE, slices="axial:7"))


def test_the_window_is_that_of_the_whole_volume(tmp_path: Path) -> None:
    anatomy = np.arange(5 * 6 * 7, dtype=np.float32).reshape(7, 6, 5).transpose(2, 1, 0)  # rises upwards
    path = _nifti(tmp_path / "scan.nii", anatomy)
    percentile = Window("percentile")
    whole = _one(path, Reading(percentile, volumes=True))
    low, high = np.percentile(anatomy, [0.5, 99.5])
    np.testing.assert_allclose(whole.pixels[..., 0], ((_as_read(anatomy) - low) / (high - low)).clip(0, 1), atol=1e-5)
    assert whole.facts["window"] == f"percentile {low:.10g},{high:.10g}"
    images = read_volume(path, Reading(percentile, slices="axial"))
    np.testing.assert_array_equal(np.stack([image.pixels for image in images]), whole.pixels)


# ---------------------------------------------------------------------------------------------------- spacing


def test_resampling_keeps_the_extent_and_says_the_exact_spacing(tmp_path: Path) -> None:
    image = _one(_nifti(tmp_path / "scan.nii"), Reading(WHOLE, volumes=True, spacing_mm=(3, 1, 2)))
    assert image.size == (7, 12, 4)  # of 21, 12 and 7.5 mm
    assert image.facts["spacing_mm"] == "3,1,1.875"
    slices = read_volume(tmp_path / "scan.nii", Reading(WHOLE, slices="coronal", spacing_mm=(3, 1, 2)))
    assert len(slices) == 12
    assert slices[0].facts["spacing_mm"] == "3,1.875"
    np.testing.assert_array_equal(slices[4].pixels, image.pixels[:, 4])


def test_resampling_puts_things_where_they_are(tmp_path: Path) -> None:
    anatomy = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 8, 8)).astype(np.float32)  # a ramp to the right
    path = _nifti(tmp_path / "scan.nii", anatomy, affine=np.eye(4))
    image = _one(path, Reading(Window("fixed", 20, 40), volumes=True, spacing_mm=(1, 1, 2)))
    # The middle of a voxel of 2 mm is the border of two of 1 mm; width goes to the left.
    np.testing.assert_allclose(image.pixels[0, 0, :, 0] * 40, np.arange(38.5, 0, -2), atol=1e-4)


def test_resampling_averages_where_monai_aliases(tmp_path: Path) -> None:
    from monai.transforms.spatial.array import Spacing

    stripes = np.zeros((48, 8, 8), np.uint8)
    stripes[::3] = 255  # every third mm, so none is left at 2 mm
    path = _nifti(tmp_path / "scan.nii", stripes, affine=np.eye(4))
    image = _one(path, Reading(Window("none"), volumes=True, spacing_mm=(1, 1, 2)))
    assert image.size == (8, 8, 24)
    aliased = Spacing((2, 1, 1))(_monai(path))[0].numpy() / 255
    assert aliased[:24, 0, 0].std() > 0.45  # as strong as the stripes themselves, three times as wide
    assert image.pixels[0, 0, :, 0].std() < 0.55 * aliased[:24, 0, 0].std()


def test_too_many_voxels_are_refused(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "scan.nii")
    error = _refused(path, Reading(WHOLE, volumes=True, spacing_mm=(0.01, 0.01, 0.01)))
    assert error.error == "too large: 2100 x 1200 x 750 voxels"
    assert "wider --spacing" in error.hint


# ------------------------------------------------------------------------------------------------- intensities


def _with_header(header: nibabel.Nifti1Header) -> bytes:
    """Return a NIfTI file of the anatomy with just this header, which nibabel's writer would change."""
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return bytes(header.binaryblock + bytes(4) + _anatomy().tobytes(order="F"))


def test_values_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    header = nibabel.Nifti1Image(_anatomy(), _affine()).header
    header.set_slope_inter(2, -24)
    path = tmp_path / "scan.nii"
    path.write_bytes(_with_header(header))
    pixels = _one(path, Reading(Window("fixed", -24, 4000), volumes=True)).pixels
    np.testing.assert_allclose(pixels, _shown(_anatomy()), atol=1e-6)


def test_big_endian_and_float_files(tmp_path: Path) -> None:
    for dtype in (">i2", "<f4", "<f8", ">f8"):
        image = nibabel.Nifti1Image(_anatomy().astype(dtype), _affine())
        if dtype[0] == ">":
            header = image.header.as_byteswapped(">")
            image = nibabel.Nifti1Image(_anatomy().astype(dtype), _affine(), header)
        nibabel.save(image, tmp_path / "scan.nii")
        read = _one(tmp_path / "scan.nii")
        np.testing.assert_allclose(read.pixels, _shown(_anatomy()), atol=1e-6)
        assert read.bits == 8 * np.dtype(dtype).itemsize


def test_units_of_length(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(_anatomy(), np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "scan.nii")
    assert _one(tmp_path / "scan.nii").facts["spacing_mm"] == "3,2,1"


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_the_range_of_bytes_is_known_and_of_others_not(tmp_path: Path, kind: str) -> None:
    reading = Reading(Window(kind), volumes=True)
    small = (_anatomy() % 200).astype(np.uint8)
    image = _one(_nifti(tmp_path / "small.nii", small), reading)
    np.testing.assert_allclose(image.pixels[..., 0] * 255, _as_read(small), atol=1e-4)
    assert image.facts["window"] == "full range"
    error = _refused(_nifti(tmp_path / "deep.nii"), reading)
    assert (error.stage, "1000" in error.error) == ("check", True)
    for text in ("--window percentile", "--window -600,1500", "--pipeline ct", "--pipeline mri"):
        assert text in error.hint


def test_constant_slices_are_left_out(tmp_path: Path) -> None:
    anatomy = _anatomy()
    anatomy[:, :, 5:] = -1400  # black in the window of the lung
    anatomy[0, 0, 5] = -1390  # as is some noise
    path = _nifti(tmp_path / "scan.nii", anatomy)
    images = read_volume(path, Reading(LUNG, slices="axial"))
    assert [image.part for image in images] == [f"axial {number}" for number in range(3, 8)]
    error = _refused(path, Reading(LUNG, slices="axial:0-0.2"))
    assert (error.stage, "axial:0-0.2 are constant" in error.error) == ("check", True)


def test_constant_volumes_are_refused(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "scan.nii", np.full((3, 4, 5), 7, np.int16))
    assert _refused(path).error == "constant volume: every voxel is 7"
    nearly = np.zeros((10, 10, 10), np.int16)
    nearly[5, 5, 5] = 100
    path = _nifti(tmp_path / "scan.nii", nearly)
    assert "nearly constant" in _refused(path, Reading(Window("percentile"), volumes=True)).error
    error = _refused(path, Reading(Window("fixed", 1000, 10), volumes=True))
    assert error.error == "the volume is constant between black, 995, and white, 1005; values are 0...100"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    anatomy = _anatomy().astype(np.float32)
    anatomy[2, 2, 2] = value
    error = _refused(_nifti(tmp_path / "scan.nii", anatomy))
    assert (error.stage, error.error) == ("check", "NaN or infinite values")


# ------------------------------------------------------------------------------------------ files that are wrong


def test_no_orientation_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(_anatomy(), None)
    nibabel.save(image, tmp_path / "scan.nii")
    error = _refused(tmp_path / "scan.nii")
    assert (error.stage, "no orientation" in error.error, "set_sform" in error.hint) == ("check", True, True)


def test_axes_without_extent_are_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(_anatomy(), _affine())
    image.header["srow_z"] = 0
    path = tmp_path / "scan.nii"
    path.write_bytes(_with_header(image.header))
    error = _refused(path)
    assert (error.stage, error.error) == ("check", "its axes do not span a space")


def test_several_volumes_in_a_file_are_refused_and_one_is_not(tmp_path: Path) -> None:
    one = _nifti(tmp_path / "one.nii", _anatomy()[..., None])
    np.testing.assert_allclose(_one(one).pixels, _shown(_anatomy()), atol=1e-6)
    error = _refused(_nifti(tmp_path / "two.nii", np.stack([_anatomy()] * 2, axis=3)))
    assert error.error == "5 x 6 x 7 x 2 voxels: several volumes in one file"
    assert "four_to_three" in error.hint


def test_colour_and_complex_voxels_are_refused(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for anatomy in (colour, np.zeros((3, 4, 5), np.complex64)):
        assert "one number is wanted" in _refused(_nifti(tmp_path / "scan.nii", anatomy)).error


def test_a_picture_is_no_volume(tmp_path: Path) -> None:
    assert "no volume" in _refused(_nifti(tmp_path / "scan.nii", _anatomy()[:, :, 0])).error


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.dcm"])
def test_empty_missing_and_foreign_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert _refused(path).stage == "open"
    path.touch()
    assert _refused(path).error == "empty file (0 bytes)"
    path.write_text("no picture at all\n" * 100)
    assert _refused(path).stage in {"open", "decode", "check"}


def test_truncated_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-900, 900, (20, 20, 20)).astype(np.int16)
    for name in ("scan.nii", "scan.nii.gz"):
        path = _nifti(tmp_path / name, noise)
        path.write_bytes(path.read_bytes()[:-3000])
        assert _refused(path).stage == "decode"
    path = tmp_path / "packed.nii"
    path.write_bytes(gzip.compress(_nifti(tmp_path / "plain.nii").read_bytes()))
    assert _refused(path).stage == "decode"


# --------------------------------------------------------------------------------------------- MetaImage and NRRD


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_other_formats_read_as_nifti_does(tmp_path: Path, suffix: str, axes: str) -> None:
    itk = pytest.importorskip("SimpleITK")
    nifti = _nifti(tmp_path / "scan.nii", axes=axes, affine=_oblique())
    itk.WriteImage(itk.ReadImage(str(nifti)), str(tmp_path / f"scan.{suffix}"))
    image = _one(tmp_path / f"scan.{suffix}")
    np.testing.assert_allclose(image.pixels, _one(nifti).pixels, atol=1e-6)
    assert image.facts == _one(nifti).facts
    assert (image.mode, image.bits) == ("MetaImage" if suffix[0] == "m" else "NRRD", 16)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_other_formats_with_bytes_several_axes_and_colours(tmp_path: Path, suffix: str) -> None:
    itk = pytest.importorskip("SimpleITK")
    path = tmp_path / f"scan.{suffix}"
    small = (_anatomy() % 200).astype(np.uint8)
    itk.WriteImage(itk.GetImageFromArray(small), str(path))
    assert _one(path, Reading(volumes=True)).pixels.max() == np.float32(small.max() / 255)
    itk.WriteImage(itk.JoinSeries([itk.GetImageFromArray(small)] * 2), str(path))
    assert "several volumes" in _refused(path).error
    itk.WriteImage(itk.GetImageFromArray(small, isVector=True), str(path))
    assert _refused(path).stage == "open"
    itk.WriteImage(itk.GetImageFromArray(np.stack([small] * 3, axis=3), isVector=True), str(path))
    assert "3 numbers a voxel" in _refused(path).error


def _nrrd(path: Path, space: str | None) -> Path:
    anatomy = _anatomy()
    directions = f"space: {space}\nspace directions: (1.5,0,0) (0,2,0) (0,0,3)"
    orientation = "spacings: 1.5 2 3" if space is None else directions
    header = f"NRRD0004\ntype: int16\ndimension: 3\n{orientation}\nsizes: 5 6 7\nendian: little\nencoding: raw\n\n"
    path.write_bytes(header.encode() + anatomy.astype("<i2").tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    ("space", "flips"), [("RAS", ""), ("right-anterior-superior", ""), ("LPS", "xy"), ("left-anterior-superior", "x")]
)
def test_the_space_of_nrrd(tmp_path: Path, space: str, flips: str) -> None:
    pytest.importorskip("SimpleITK")
    anatomy = np.flip(_anatomy(), [("xyz".index(axis)) for axis in flips])
    np.testing.assert_allclose(_one(_nrrd(tmp_path / "scan.nrrd", space)).pixels, _shown(anatomy), atol=1e-6)


@pytest.mark.parametrize("space", [None, "scanner-xyz"])
def test_nrrd_without_a_space_of_the_patient_is_refused(tmp_path: Path, space: str | None) -> None:
    pytest.importorskip("SimpleITK")
    assert "no orientation" in _refused(_nrrd(tmp_path / "scan.nrrd", space)).error


def _voxels(folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    content = _anatomy().astype("<i2").tobytes(order="F")
    (folder / "voxels.raw").write_bytes(content)
    size = len(content) // 7
    for number in range(7):
        (folder / f"slice{number}.raw").write_bytes(content[number * size : (number + 1) * size])
    return content


def _detached(path: Path, data: str) -> Path:
    """Write a header without voxels."""
    if path.suffix in {".mhd", ".mha"}:
        path.write_text(
            "ObjectType = Image\nNDims = 3\nDimSize = 5 6 7\nElementSpacing = 1.5 2 3\nElementType = MET_SHORT\n"
            "TransformMatrix = -1 0 0 0 -1 0 0 0 1\nBinaryDataByteOrderMSB = False\n"
            f"ElementDataFile = {data}\n"
        )
    else:
        path.write_text(
            "NRRD0004\ntype: int16\ndimension: 3\nspace: RAS\nspace directions: (1.5,0,0) (0,2,0) (0,0,3)\n"
            f"sizes: 5 6 7\nendian: little\nencoding: raw\ndata file: {data}\n"
        )
    return path


HEADERS = ["scan.mhd", "scan.mha", "scan.nhdr", "scan.nrrd"]


@pytest.mark.parametrize("name", HEADERS)
def test_data_files_of_a_header(tmp_path: Path, name: str) -> None:
    pytest.importorskip("SimpleITK")
    folder = tmp_path / "data"
    _voxels(folder)
    _voxels(folder / "deep er")
    path = _detached(folder / name, "voxels.raw")
    assert data_files(path) == [folder / "voxels.raw"]
    np.testing.assert_allclose(_one(path).pixels, _shown(_anatomy()), atol=1e-6)
    path = _detached(folder / name, "deep er/voxels.raw")
    assert data_files(path) == [folder / "deep er/voxels.raw"]
    np.testing.assert_allclose(_one(path).pixels, _shown(_anatomy()), atol=1e-6)
    slices = [f"slice{number}.raw" for number in range(7)]
    path = _detached(folder / name, "\n".join(["LIST", *slices]))
    assert data_files(path) == [folder / name for name in slices]
    np.testing.assert_allclose(_one(path).pixels, _shown(_anatomy()), atol=1e-6)


@pytest.mark.parametrize("name", HEADERS)
def test_data_files_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """A data set must not make a picture of other files of the machine."""
    pytest.importorskip("SimpleITK")
    _voxels(tmp_path)
    folder = tmp_path / "data"
    _voxels(folder)
    (folder / "link.raw").symlink_to(tmp_path / "voxels.raw")
    listed = "\n".join(["LIST", *[f"slice{number}.raw" for number in range(6)], "../slice6.raw"])
    for data in (str(tmp_path / "voxels.raw"), "../voxels.raw", "link.raw", listed):
        error = _refused(_detached(folder / name, data))
        assert error.stage == "open"
        assert error.error.startswith("data file outside of the folder: ")
    path = _detached(folder / name, "slice%d.raw 0 6 1")
    assert "by a pattern, slice%d.raw" in _refused(path).error
    assert data_files(path) == []
    assert _refused(_detached(folder / name, "nowhere.raw")).error == "data file nowhere.raw is missing"
    assert "is missing" in _refused(_detached(folder / name, "")).error


def test_what_has_no_data_files(tmp_path: Path) -> None:
    path = _nrrd(tmp_path / "scan.nrrd", "RAS")
    path.write_bytes(path.read_bytes() + b"\ndata file: after/the/header\n")
    assert data_files(path) == []
    assert data_files(_nifti(tmp_path / "scan.nii")) == []
    assert data_files(_detached(tmp_path / "scan.mha", "LOCAL")) == []
    assert data_files(tmp_path) == []
    (tmp_path / "other.mhd").write_text("no header")
    assert data_files(tmp_path / "other.mhd") == []
    with pytest.raises(FileNotFoundError):
        data_files(tmp_path / "nowhere.mhd")


@pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd"])
def test_messages_name_no_places_in_memory(tmp_path: Path, name: str) -> None:
    """Else the quarantine would change from run to run."""
    pytest.importorskip("SimpleITK")
    _voxels(tmp_path)
    (tmp_path / "short.raw").write_bytes(b"12")
    for data in ("short.raw", "LOCAL"):
        error = _refused(_detached(tmp_path / name, data))
        assert "0x" not in error.error
    (tmp_path / name).write_text("hello\nElementDataFile = LOCAL\n")
    assert "0x" not in _refused(tmp_path / name).error


def test_what_to_install_for_other_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert 'pip install "medgan[volumes]"' in _refused(_nrrd(tmp_path / "scan.nrrd", "RAS")).hint


# -------------------------------------------------------------------------------------------------- DICOM


def _dicom(path: Path, stored: np.ndarray, **elements: object) -> Path:
    """Write a CT file; elements of None are left out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "PatientID": "Meyer",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": stored.shape[-2],
        "Columns": stored.shape[-1],
        "NumberOfFrames": stored.shape[0] if stored.ndim == 3 else None,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": stored.astype("<u2").tobytes(),
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _slice(plane: str, number: int) -> dict[str, object]:
    """Return stored pixels, position, directions and spacing of one slice of the anatomy."""
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    columns, rows = [(0, 1), (0, 2), (1, 2)][["axial", "coronal", "sagittal"].index(plane)]
    # The first pixel is that of right, anterior, superior; all axes go away from it.
    index = np.array([4, 5, 6])
    index[axis] = number
    position = _affine() @ [*index, 1]
    directions = np.eye(3)[[columns, rows]] * [-1, -1, -1] * [-1, -1, 1]  # away from RAS, then in LPS
    pixels = np.take(_anatomy()[::-1, ::-1, ::-1], [4, 5, 6][axis] - number, axis).T
    return {
        "stored": pixels + 1024,
        "ImagePositionPatient": [-position[0], -position[1], position[2]],
        "ImageOrientationPatient": directions.ravel().tolist(),
        "PixelSpacing": [SPACING[rows], SPACING[columns]],
    }


def _series(folder: Path, plane: str = "axial", **elements: object) -> Path:
    """Write the anatomy as a DICOM series, in an order of names that is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    count = {"axial": 7, "coronal": 6, "sagittal": 5}[plane]
    for number in range(count):
        values = _slice(plane, number)
        _dicom(folder / f"{plane}{number * 11 % count}.dcm", **{**values, **elements})  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_dicom_series_reads_as_nifti_does(tmp_path: Path, plane: str) -> None:
    image = _one(_series(tmp_path / "series", plane))
    np.testing.assert_allclose(image.pixels, _shown(_anatomy()), atol=1e-6)
    assert (image.mode, image.bits) == ("DICOM", 12)
    assert (image.facts["modality"], image.facts["spacing_mm"]) == ("CT", "3,2,1.5")
    assert "Meyer" not in str(image.facts)
    assert image.facts["patient_id"]


def test_the_window_of_dicom_files(tmp_path: Path) -> None:
    folder = _series(tmp_path / "none")
    image = _one(folder, Reading(volumes=True))  # 12 bits from -1024 on
    np.testing.assert_allclose(image.pixels, (_as_read(_anatomy())[..., None] + 1024) / 4095, atol=1e-6)
    assert image.facts["window"] == "full range"
    folder = _series(tmp_path / "own", WindowCenter=["40", "-600"], WindowWidth=["400", "1500"])
    image = _one(folder, Reading(volumes=True))
    expected = ((_as_read(_anatomy())[..., None] + 160) / 399).clip(0, 1)
    np.testing.assert_allclose(image.pixels, expected, atol=1e-6)
    assert image.facts["window"] == "40,400"
    folder = _series(tmp_path / "exact", WindowCenter=40, WindowWidth=400, VOILUTFunction="LINEAR_EXACT")
    expected = ((_as_read(_anatomy())[..., None] + 160) / 400).clip(0, 1)
    np.testing.assert_allclose(_one(folder, Reading(volumes=True)).pixels, expected, atol=1e-6)


def test_monochrome1_is_inverted_once(tmp_path: Path) -> None:
    image = _one(_series(tmp_path / "series", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(image.pixels, 1 - _shown(_anatomy()), atol=1e-6)
    assert image.facts["inverted"] == "yes"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_of_a_series_is_black_and_does_not_count(tmp_path: Path, photometric: str) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(7):
        values = _slice("axial", number)
        stored = np.array(values.pop("stored"), np.uint16)
        stored[0] = -2000 & 0xFFFF  # the row in front
        elements = {"PixelPaddingValue": -2000 & 0xFFFF, "PhotometricInterpretation": photometric}
        _dicom(folder / f"{number}.dcm", stored, **values, **elements)
    image = _one(folder, Reading(Window("percentile"), volumes=True))
    content = _as_read(_anatomy())[:, 1:]
    low, high = np.percentile(content, [0.5, 99.5])
    assert image.facts["window"] == f"percentile {low:.10g},{high:.10g}"
    expected = ((content - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(
        image.pixels[:, 1:, :, 0], 1 - expected if photometric == "MONOCHROME1" else expected, atol=1e-5
    )
    assert not image.pixels[:, 0].any()
    # Twice as wide rows: half padding is none
    wide = _one(folder, Reading(WHOLE, volumes=True, spacing_mm=(3.0, 4.0, 1.5)))
    assert wide.pixels.shape == (7, 3, 5, 1)
    dark = content.max() if photometric == "MONOCHROME1" else content.min()
    mean = (dark + content[:, 0].astype(float)) / 2
    expected = (mean + 1000) / 2000
    np.testing.assert_allclose(
        wide.pixels[:, 0, :, 0], 1 - expected if photometric == "MONOCHROME1" else expected, atol=1e-5
    )


@pytest.mark.parametrize("which", [0, 3])
def test_a_series_with_a_synthetic_slice_is_synthetic(tmp_path: Path, which: int) -> None:
    folder = _series(tmp_path / "series")
    assert "origin" not in _one(folder).facts
    path = sorted(folder.iterdir())[which]
    dataset = pydicom.dcmread(path)
    dataset.SyntheticData = "YES"
    dataset.save_as(path)
    assert _one(folder).facts["origin"] == "synthetic"


def test_find_series(tmp_path: Path) -> None:
    _series(tmp_path, "axial", SeriesInstanceUID="1.2.5")
    _series(tmp_path, "sagittal", SeriesInstanceUID="1.2.6")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "deeper").mkdir()
    found = find_series(tmp_path)
    assert sorted(found) == ["1.2.5", "1.2.6"]
    assert [path.name for path in found["1.2.5"]] == [f"axial{number * 4 % 7}.dcm" for number in range(7)]
    assert len(found["1.2.6"]) == 5
    error = _refused(tmp_path)
    assert error.error == "2 series in one folder, of 7, 5 slices"
    assert "folder of its own" in error.hint
    with pytest.raises(ReadError):
        find_series(tmp_path / "nowhere")


def test_overviews_copies_and_screenshots_are_left_out(tmp_path: Path) -> None:
    folder = _series(tmp_path / "series")
    flat = np.zeros((9, 9), np.uint16)
    coronal = {**_slice("coronal", 2), "stored": flat}
    _dicom(folder / "scout.dcm", **{**coronal, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    _dicom(folder / "screen.dcm", flat, SeriesInstanceUID="1.2.4")
    (folder / "copy.dcm").write_bytes((folder / "axial0.dcm").read_bytes())
    np.testing.assert_allclose(_one(folder).pixels, _shown(_anatomy()), atol=1e-6)


def test_several_orientations_in_a_series_are_refused(tmp_path: Path) -> None:
    folder = _series(_series(tmp_path / "series"), "coronal")
    assert _refused(folder).error == "a series with 6 images of another orientation, or none, beside 7 slices"


def test_a_stray_of_another_orientation_is_left_out(tmp_path: Path) -> None:
    for number in range(12):
        placed = {**_slice("axial", 0), "ImagePositionPatient": [0, 0, number]}
        _dicom(tmp_path / f"{number}.dcm", **{**placed, "stored": np.full((4, 4), 100 * number)})
    _dicom(tmp_path / "stray.dcm", **_slice("coronal", 2))
    assert _one(tmp_path).size == (12, 4, 4)


def test_missing_and_uneven_slices_are_refused(tmp_path: Path) -> None:
    folder = _series(tmp_path / "gap")
    (folder / "axial5.dcm").unlink()  # number 3
    error = _refused(folder)
    assert error.error == "slices 3...6 mm apart, farthest axial1.dcm and axial2.dcm: some are missing or shifted"
    folder = _series(tmp_path / "shifted")
    values = _slice("axial", 3)
    left, back, up = values["ImagePositionPatient"]  # type: ignore[misc]
    _dicom(folder / "axial5.dcm", **{**values, "ImagePositionPatient": [left + 2, back, up]})
    assert "some are missing or shifted" in _refused(folder).error
    _dicom(folder / "axial5.dcm", **{**values, "ImagePositionPatient": [left, back, up + 0.1]})  # rounding
    assert _one(folder).size == (7, 6, 5)


def test_several_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    folder = _series(tmp_path / "series")
    _dicom(folder / "phase2.dcm", **_slice("axial", 3))
    error = _refused(folder)
    assert "several slices at one place, such as axial5.dcm and phase2.dcm" in error.error
    everywhere = _slice("axial", 0)
    for number in range(3):
        _dicom(tmp_path / f"{number}.dcm", **everywhere)
    assert "several slices at one place" in _refused(tmp_path).error


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"stored": np.zeros((4, 5))}, "slices of different sizes: 4 x 5, 6 x 5"),
        ({"PixelSpacing": [1, 1]}, "different distances of pixels, 1...2 mm"),
        ({"PixelSpacing": None}, "without PixelSpacing"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "axial5.dcm: "),
        ({"PixelData": b"12"}, "axial5.dcm: "),
    ],
)
def test_slices_that_do_not_fit(tmp_path: Path, elements: dict[str, object], message: str) -> None:
    folder = _series(tmp_path / "series")
    _dicom(folder / "axial5.dcm", **{**_slice("axial", 3), **elements})  # type: ignore[arg-type]
    assert message in _refused(folder).error


@pytest.mark.parametrize("content", [b"", b"text", "half"])
@pytest.mark.parametrize("name", ["axial0.dcm", "axial0.IMA"])
def test_a_damaged_slice_is_not_left_out(tmp_path: Path, name: str, content: bytes | str) -> None:
    """Here it is the lowest, so that no gap would tell."""
    folder = _series(tmp_path / "series")
    whole = (folder / "axial0.dcm").read_bytes()
    (folder / "axial0.dcm").unlink()
    half = whole[: whole.index(b"Meyer") + 6]
    (folder / name).write_bytes(half if isinstance(content, str) else content)
    error = _refused(folder)
    assert error.stage == "open"
    assert error.error.startswith(f"{name}: ")
    with pytest.raises(ReadError, match=name):
        find_series(folder)


def test_a_fault_of_the_disk_is_none_of_the_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is the series refused for it, nor a slice taken for something else."""
    folder, real = _series(tmp_path / "series"), Path.open

    def away(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "axial6.dcm":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", away)
    with pytest.raises(PassingError, match="Input/output error"):
        read_volume(folder, VOLUME)


def test_other_objects_beside_a_series_are_left_out(tmp_path: Path) -> None:
    folder = _series(tmp_path / "series")
    _dicom(
        folder / "plan.dcm",
        np.zeros((2, 2)),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5",
        **dict.fromkeys(("Rows", "Columns", "PixelData")),
    )
    (folder / "notes.txt").write_text("nothing")
    assert _one(folder).size == (7, 6, 5)


def test_a_series_of_both_polarities_is_refused(tmp_path: Path) -> None:
    folder = _series(tmp_path / "series")
    _dicom(folder / "axial5.dcm", **{**_slice("axial", 3), "PhotometricInterpretation": "MONOCHROME1"})  # type: ignore[arg-type]
    error = _refused(folder)
    assert (error.stage, error.error[:52]) == ("check", "a series with slices of MONOCHROME1 and of MONOCHROM")


def test_what_is_no_series(tmp_path: Path) -> None:
    assert _refused(tmp_path).error == "no two slices with positions; DICOM images found: 0"
    single = _dicom(tmp_path / "one.dcm", **_slice("axial", 3))  # type: ignore[arg-type]
    assert "images found: 1" in _refused(single).error
    folder = _series(tmp_path / "bare", ImagePositionPatient=None)
    assert "images found: 7" in _refused(folder).error


def _enhanced(path: Path, change: Callable[[list[Dataset]], None] = lambda groups: None) -> Path:
    """Write the anatomy as one enhanced file whose frames are not in the order of their positions."""
    groups, frames = [], []
    for number in (4, 0, 6, 2, 5, 1, 3):
        values = _slice("axial", number)
        place, group = Dataset(), Dataset()
        place.ImagePositionPatient = values["ImagePositionPatient"]
        group.PlanePositionSequence = [place]
        groups.append(group)
        frames.append(values["stored"])
    change(groups)
    plane, measures, shared = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = values["ImageOrientationPatient"]
    measures.PixelSpacing = values["PixelSpacing"]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    return _dicom(
        path,
        np.stack(frames),
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )


def test_an_enhanced_file_is_a_volume(tmp_path: Path) -> None:
    path = _enhanced(tmp_path / "enhanced.dcm")
    np.testing.assert_allclose(_one(path).pixels, _shown(_anatomy()), atol=1e-6)
    np.testing.assert_allclose(_one(tmp_path).pixels, _shown(_anatomy()), atol=1e-6)
    assert find_series(tmp_path) == {"1.2.3": [path]}
    slices = read_volume(path, Reading(WHOLE, slices="coronal:0.5"))
    np.testing.assert_allclose(slices[0].pixels, _shown(_anatomy())[:, 3], atol=1e-6)


def test_phases_in_an_enhanced_file_are_refused(tmp_path: Path) -> None:
    def repeat(groups: list[Dataset]) -> None:
        groups[1].PlanePositionSequence = groups[2].PlanePositionSequence

    error = _refused(_enhanced(tmp_path / "enhanced.dcm", repeat))
    assert "several slices at one place, such as enhanced.dcm, frame 2 and enhanced.dcm, frame 3" in error.error
