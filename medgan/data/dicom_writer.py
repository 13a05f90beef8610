"""Synthetic images as DICOM files: Secondary Capture images that say in several places what they are.

Decisions, for those who read the files:

* Secondary Capture, with the modality ``OT``: the modules of a radiograph or a CT want detector, position and dose,
  and a model knows none of them. For the same reason there is no pixel spacing, body part, orientation or date;
  what the standard wants present but may be empty (type 2) is empty.
* Marked as synthetic by ``SyntheticData``, by the equipment that made it (109100, DCM, "Synthesizing Equipment"), by
  the third value of ``ImageType``, by patient, study and series, and in words. De-identification removes the words and
  the patient, and some of it removes ``SyntheticData``: no single mark would do.
* Every image is a study of its own. The seed is the patient: images of one seed and several labels resemble each
  other, and belong on the same side of a split.
* UIDs are computed from the model's weights, the label, the seed and the pixels: the same image has the same UID
  wherever it is made, and no other image has it. The same call writes the same bytes.
* The grey window spans all values, so that viewers do not stretch each image by itself.

Reference: DICOM PS3.3, A.8.1 (Secondary Capture Image IOD), C.12.1 (SOP Common Module); PS3.5, B.2 (UIDs from UUIDs).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import ConfigError

__all__ = ["ModelIdentity", "write_dicom"]

_NAMESPACE = uuid.UUID("7ec6e619-5277-4d3b-b36d-338dc8dc16fb")  # changing it changes every UID
_SHORT, _LONG = 64, 1024  # characters in the representations LO and ST


@dataclass(frozen=True)
class ModelIdentity:
    """Which model made an image.

    Attributes:
        architecture: Name of its architecture, such as ``acgan``.
        weights: SHA-256 of its weights, 64 hexadecimal digits, as in ``model.json``.
        fingerprint: Fingerprint of its training data; "" if unknown.
        licence: Licence of its training data; "" if unknown.
    """

    architecture: str
    weights: str
    fingerprint: str = ""
    licence: str = ""


def write_dicom(path: Path, pixels: NDArray[Any], *, label: str, seed: int, model: ModelIdentity) -> None:
    """Write a synthetic image as a Secondary Capture image, in explicit VR little endian.

    Args:
        path: File to create or to replace.
        pixels: Shape ``(height, width, channels)``, with 1 channel (grey, 0 is black) or 3 (red, green, blue); uint8 or
            uint16, whose whole range is used.
        label: What the image shows, in words; "" if nothing is known.
        seed: Seed of the image.
        model: What made the image.

    Raises:
        ConfigError: If the pixels are of another shape or type.
        OSError: If the file cannot be written.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, SecondaryCaptureImageStorage

    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise ConfigError(
            f"A DICOM image needs uint8 or uint16 pixels of shape (height, width, 1 or 3), got {pixels.dtype} of shape "
            f"{pixels.shape}."
        )
    grey = pixels.shape[-1] == 1
    bits = 8 * pixels.itemsize
    release = version("medgan")
    made_by = f"medgan {release}"
    shown = label or "none"
    content = hashlib.sha256(pixels.tobytes()).hexdigest()
    identity = (model.architecture, model.weights, label, seed, pixels.shape, bits, content)

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.ImplementationClassUID = UID(_uid("implementation"))
    image.file_meta.ImplementationVersionName = f"MEDGAN {release}"[:16]

    image.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.SOPInstanceUID = _uid("image", *identity)
    image.SyntheticData = "YES"
    image.ContributingEquipmentSequence = [_equipment(shown, seed, model, made_by)]

    image.PatientName = f"SYNTHETIC^SEED {seed}"
    image.PatientID = f"SYNTH-{model.weights[:12]}-{seed}"
    image.PatientBirthDate = ""
    image.PatientSex = ""
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "Made by a generative model; anonymity is not proven"

    image.StudyInstanceUID = _uid("study", *identity)
    image.StudyID = "SYNTHETIC"
    image.StudyDescription = "SYNTHETIC, not for diagnosis"
    image.StudyDate = ""
    image.StudyTime = ""
    image.AccessionNumber = ""
    image.ReferringPhysicianName = ""

    image.SeriesInstanceUID = _uid("series", *identity)
    image.SeriesDescription = _text(f"SYNTHETIC {label}".strip(), _SHORT)
    image.SeriesNumber = 1
    image.Modality = "OT"
    image.Laterality = ""  # unknown, as is the part of the body

    image.ConversionType = "WSD"  # workstation
    image.Manufacturer = "medgan"
    image.ManufacturerModelName = _text(model.architecture, _SHORT)
    image.SoftwareVersions = made_by

    image.InstanceNumber = 1
    image.ImageType = ["DERIVED", "SECONDARY", "SYNTHETIC"]
    image.PatientOrientation = ""
    image.BurnedInAnnotation = "NO"
    image.LossyImageCompression = "00"
    image.DerivationDescription = _text(f"Synthetic image, made by {made_by} ({model.architecture})", _LONG)
    image.ImageComments = _text(f"SYNTHETIC, acquired from no patient. Not for diagnosis. Label: {shown}", _LONG)
    if grey:
        # By the standard's formula the limits are exactly 0 and the largest value.
        image.WindowCenter, image.WindowWidth = 2 ** (bits - 1), 2**bits
    image.set_pixel_data(
        np.ascontiguousarray(pixels[..., 0] if grey else pixels),
        "MONOCHROME2" if grey else "RGB",
        bits,
        generate_instance_uid=False,
    )
    # In memory first: pydicom turns an error of the disk into one of a data element, with a traceback for a message.
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    path.write_bytes(file.getvalue())


def _equipment(shown: str, seed: int, model: ModelIdentity, made_by: str) -> Any:
    """Return the item of the contributing equipment that says what made the image, and from what."""
    from pydicom.dataset import Dataset

    purpose = Dataset()
    purpose.CodeValue = "109100"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Synthesizing Equipment"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer = "medgan"
    equipment.ManufacturerModelName = _text(model.architecture, _SHORT)
    equipment.DeviceSerialNumber = _text(model.weights, _SHORT)
    equipment.SoftwareVersions = made_by
    equipment.ContributionDescription = _text(
        f"Synthetic image of a model whose weights have the SHA-256 {model.weights}. Training data: fingerprint "
        f"{model.fingerprint or 'unknown'}, licence {model.licence or 'unknown'}. Seed: {seed}. Label: {shown}",
        _LONG,
    )
    return equipment


def _uid(*parts: Any) -> str:
    """Return the UID that belongs to some plain values."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}"


def _text(text: str, limit: int) -> str:
    """Return text that an element can hold; names come with the model, so from anybody.

    A backslash would begin a second value, and control characters are not allowed.
    """
    clean = re.sub(r"[\x00-\x1f\x7f\\]", " ", text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
