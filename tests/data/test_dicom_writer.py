from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_windowing
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from medgan.data.dicom_writer import ModelIdentity, write_dicom
from medgan.errors import ConfigError

MODEL = ModelIdentity("acgan", "0123456789abcdef" * 4, "f" * 64, "CC BY 4.0")
KINDS = [(np.uint8, 1), (np.uint16, 1), (np.uint8, 3), (np.uint16, 3)]


def make(dtype=np.uint8, channels=1, shape=(33, 31)):
    """Return noise that reaches both ends of its type's range."""
    pixels = np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, (*shape, channels), dtype=dtype)
    pixels[0, 0], pixels[0, 1] = 0, np.iinfo(dtype).max
    return pixels


@pytest.fixture
def write(tmp_path):
    """A function that writes an image and returns its file."""

    def write(pixels=None, *, name="image.dcm", label="PNEUMONIA", seed=5, model=MODEL):
        write_dicom(tmp_path / name, make() if pixels is None else pixels, label=label, seed=seed, model=model)
        return tmp_path / name

    return write


@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_pixels_come_back(write, dtype, channels):
    pixels = make(dtype, channels)
    image = pydicom.dcmread(write(pixels))
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert image.PhotometricInterpretation == ("MONOCHROME2" if channels == 1 else "RGB")
    assert (image.BitsAllocated, image.BitsStored, image.HighBit) == (
        (8, 8, 7) if dtype == np.uint8 else (16, 16, 15)
    )  # fmt: skip
    assert image.pixel_array.dtype == dtype
    np.testing.assert_array_equal(image.pixel_array, pixels.squeeze(-1) if channels == 1 else pixels)
    assert ("PlanarConfiguration" in image) == (channels == 3)
    assert len(image.PixelData) % 2 == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_window_changes_nothing(write, dtype):
    """Neither polarity nor brightness: black stays 0, and nothing is cut off."""
    pixels = make(dtype)[..., 0]
    image = pydicom.dcmread(write(pixels[..., None]))
    np.testing.assert_allclose(apply_windowing(image.pixel_array, image), pixels, atol=1e-6)


# Secondary Capture Image IOD, PS3.3 table A.8-1: attributes of type 1 and of type 2 in its mandatory modules, with
# those of types 1C and 2C whose condition holds.
FILLED = [
    *("SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("ConversionType", "DeidentificationMethod", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
]
PRESENT = [
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *(
        "ReferringPhysicianName",
        "AccessionNumber",
        "SeriesNumber",
        "Laterality",
        "InstanceNumber",
        "PatientOrientation",
    ),
    "Manufacturer",
]


@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_what_the_standard_demands(write, dtype, channels):
    image = pydicom.dcmread(write(make(dtype, channels)))
    assert [name for name in FILLED if name not in image or image[name].is_empty] == []
    assert [name for name in PRESENT if name not in image] == []
    assert image.SOPClassUID == image.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID
    assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert image.ConversionType == "WSD"
    assert image.LossyImageCompression == "00"
    assert image.BurnedInAnnotation == "NO"
    assert ("WindowCenter" in image) == (channels == 1)  # only of grey images


def test_nothing_is_made_up(write):
    image = pydicom.dcmread(write())
    dates = [element.name for element in image.iterall() if element.VR in ("DA", "TM", "DT") and not element.is_empty]
    assert dates == []
    invented = {"PixelSpacing", "KVP", "ImagerPixelSpacing", "Exposure", "BodyPartExamined", "ImageOrientationPatient"}
    assert [name for name in invented if name in image] == []
    unknown = ("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "Laterality", "PatientOrientation")
    assert [name for name in unknown if not image[name].is_empty] == []


def test_marks(write):
    image = pydicom.dcmread(write())
    assert image["SyntheticData"].tag == 0x0008001C
    assert image.SyntheticData == "YES"
    assert image.PatientIdentityRemoved == "YES"
    assert str(image.PatientName).startswith("SYNTHETIC^")
    assert image.PatientID == "SYNTH-0123456789ab-5"
    assert "not for diagnosis" in image.StudyDescription
    assert image.SeriesDescription == "SYNTHETIC PNEUMONIA"
    assert "ynthetic" in image.DerivationDescription
    assert "Not for diagnosis. Label: PNEUMONIA" in image.ImageComments
    (equipment,) = image.ContributingEquipmentSequence
    (purpose,) = equipment.PurposeOfReferenceCodeSequence
    known = codes.DCM.SynthesizingEquipment
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == (known.value, known.scheme_designator)
    assert purpose.CodeMeaning == known.meaning
    assert equipment.DeviceSerialNumber == MODEL.weights
    for part in (MODEL.weights, MODEL.fingerprint, "CC BY 4.0", "Seed: 5", "Label: PNEUMONIA"):
        assert part in equipment.ContributionDescription


def test_marks_outlive_de_identification(write):
    """What remains when patient, UIDs and free text are gone, and the newest element with them."""
    image = pydicom.dcmread(write())
    for name in (
        *("PatientName", "PatientID", "StudyID", "StudyDescription", "SeriesDescription", "DerivationDescription"),
        *("ImageComments", "SyntheticData", "DeidentificationMethod", "StudyInstanceUID", "SOPInstanceUID"),
    ):
        del image[name]
    assert "SYNTHETIC" in image.ImageType
    assert image.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109100"


def test_same_image_same_bytes(write):
    assert write(name="a.dcm").read_bytes() == write(name="b.dcm").read_bytes()


def test_uids_tell_images_apart(write):
    pixels = make()
    other = pixels.copy()
    other[5, 5] ^= 1
    files = [
        write(name="0.dcm"),
        write(name="1.dcm", label="NORMAL"),
        write(name="2.dcm", seed=6),
        write(name="3.dcm", model=replace(MODEL, weights="f" * 64)),
        write(other, name="4.dcm"),
        write(pixels.reshape(31, 33, 1), name="5.dcm"),
    ]
    found = []
    for file in files:
        image = pydicom.dcmread(file, stop_before_pixels=True)
        found += [image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID]
    assert len(set(found)) == 3 * len(files)
    for uid in found:
        assert UID(uid).is_valid
        assert uid.startswith("2.25.")
        assert 0 < int(uid[5:]) < 2**128


def test_uids_stay_as_they_are(write):
    """An image made with a later version has to be the same one to an archive."""
    image = pydicom.dcmread(write(np.zeros((2, 3, 1), np.uint8), label="A", seed=1))
    assert image.SOPInstanceUID == "2.25.104852678224496317976652460253853590684"


def test_a_seed_is_a_patient(write):
    """A study belongs to one patient, and images of a seed, which resemble each other, to the same one."""
    one, same, other = (
        pydicom.dcmread(write(name=f"{number}.dcm", label=label, seed=seed))
        for number, (label, seed) in enumerate([("NORMAL", 5), ("PNEUMONIA", 5), ("NORMAL", 6)])
    )
    assert (one.PatientID, one.PatientName) == (same.PatientID, same.PatientName)
    assert one.PatientID != other.PatientID
    assert len({one.StudyInstanceUID, same.StudyInstanceUID, other.StudyInstanceUID}) == 3


@pytest.mark.parametrize(
    "label", ["", "a\\b", "two\nlines\0", "肺炎 é", "long " * 1000, '{"mass": 1.0}', "^=;"], ids=range(7)
)
def test_names_come_from_anybody(write, label):
    model = ModelIdentity(label or "a", "0" * 64, label, label)
    with pydicom.config.strict_reading():
        image = pydicom.dcmread(write(label=label, model=model))
        elements = list(image.iterall())
    for element in elements:
        if element.VR in ("LO", "ST", "LT", "SH"):
            assert element.VM <= 1
            assert len(element.value or "") <= (1024 if element.VR in ("ST", "LT") else 64)
    shown = label.replace("\\", " ").replace("\n", " ").replace("\0", " ").strip() or "none"
    assert shown[:500] in image.ImageComments
    assert image.SeriesDescription.startswith(f"SYNTHETIC {'' if shown == 'none' else shown[:40]}".strip())
    np.testing.assert_array_equal(image.pixel_array, make()[..., 0])


def test_what_is_not_known_is_called_so(write):
    image = pydicom.dcmread(write(model=ModelIdentity("acgan", "0" * 64)))
    text = image.ContributingEquipmentSequence[0].ContributionDescription
    assert "fingerprint unknown, licence unknown" in text


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 1), np.float32),
        np.zeros((4, 4, 1), np.int16),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4, 1), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}-{pixels.shape}",
)
def test_other_pixels_are_refused(write, tmp_path, pixels):
    with pytest.raises(ConfigError, match=f"got {pixels.dtype} of shape"):
        write(pixels)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_disk_stays_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_dicom(tmp_path / "missing" / "image.dcm", make(), label="", seed=0, model=MODEL)
    assert "Traceback" not in str(caught.value)


# What dciodvfy says of these files, and why it does not count. It ends with 0 whatever it finds.
KNOWN = {
    # An element of 2023, which this program does not know yet.
    "(0x0008,0x001c)  ?  - Warning - Unrecognized tag - assuming explicit value representation OK",
    "Error - Attribute with an even group number is not a recognized standard attribute - (0x0008,0x001c)  ?",
    "Warning - Attribute is not present in standard DICOM IOD - (0x0008,0x001c)  ?",
    "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - this is a Standard Extended SOP "
    "Class",
    # There is no date to give, and an empty one is allowed.
    "Warning - Missing attribute or value that would be needed to build DICOMDIR - Study Date",
    "Warning - Missing attribute or value that would be needed to build DICOMDIR - Study Time",
    # It is unknown indeed.
    "Warning - is only permitted to be empty when actually unknown; should be absent (not empty) if an unpaired body "
    "part, and have a value if a paired body part - attribute <Laterality>",
    "SCImage",
}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_dciodvfy(write, dtype, channels):
    file = write(make(dtype, channels), label="肺炎")
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=True)
    said = {line.strip() for line in (done.stdout + done.stderr).splitlines()}
    assert "SCImage" in said
    assert said - KNOWN == set()
