"""Write DICOM files such as a hospital has, of patients who do not exist, for the tutorial on DICOM.

Two X-ray units: one writes 12 bits and MONOCHROME2, the other 16 bits and MONOCHROME1, where black and white are
exchanged. The headers hold names, identifiers and doses. Some images have text burnt in, and one file is cut off.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

from medgan.data.phantom import render_chest

SIDE = 128  # pixels


def draw_chest(patient, exposure, *, pneumonia, portable):
    """Return one radiograph, shape (SIDE, SIDE), from 0 to 1."""
    picture = render_chest([7, patient], exposure=exposure, pneumonia=pneumonia, size=SIDE)
    if portable:  # as some units write it into the pixels themselves
        stamp = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(stamp).text((4, 2), "AP PORTABLE", fill=255)
        picture = np.maximum(picture, np.asarray(stamp) / 255)
    return picture


def make_header(patient, exposure, rng, *, portable):
    """Return what stands in a file beside its pixels."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.SOPClassUID = DigitalXRayImageStorageForPresentation
    image.SOPInstanceUID = generate_uid(entropy_srcs=[f"image {patient} {exposure}"])
    image.StudyInstanceUID = generate_uid(entropy_srcs=[f"study {patient}"])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {patient} {exposure}"])
    image.IrradiationEventUID = generate_uid(entropy_srcs=[f"exposure {patient} {exposure}"])
    image.PatientID = f"H{4_000_000 + 37 * patient}"
    image.PatientName = f"NOBODY^{patient:04d}"
    image.PatientBirthDate = ""
    image.PatientSex = "FM"[patient % 2]
    image.PatientAge = f"{20 + patient * 7 % 65:03d}Y"
    image.PatientIdentityRemoved = "NO"
    image.Modality = "DX"
    image.BodyPartExamined = "CHEST"
    image.ViewPosition = "AP" if portable else "PA"
    image.PresentationIntentType = "FOR PRESENTATION"
    image.BurnedInAnnotation = "YES" if portable else "NO"
    image.ImagerPixelSpacing = [2.5, 2.5]
    image.ImageAndFluoroscopyAreaDoseProduct = f"{rng.lognormal(0.0, 0.35):.3f}"  # in dGy·cm²
    image.EntranceDoseInmGy = f"{rng.lognormal(-2.1, 0.35):.4f}"
    return image


def set_pixels(image, picture, *, second_unit):
    """Store a picture as the one or the other unit does."""
    if second_unit:
        image.WindowCenter, image.WindowWidth = 32_768, 56_000
        image.set_pixel_data(np.uint16(4_768 + 56_000 * (1 - picture)), "MONOCHROME1", 16)
    else:
        image.WindowCenter, image.WindowWidth = 2_048, 3_500
        image.set_pixel_data(np.uint16(298 + 3_500 * picture), "MONOCHROME2", 12)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write DICOM files of patients who do not exist.")
    parser.add_argument("--patients", type=int, default=400, help="how many; each has one to three images")
    parser.add_argument("--out", type=Path, default=Path("hospital"), help="folder to create")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    rows = ["path,label"]
    for patient in range(arguments.patients):
        label = "NORMAL" if patient % 5 < 2 else "PNEUMONIA"
        portable, second_unit = patient % 16 == 5, patient % 3 == 0
        for exposure in range(rng.choice(3, p=[0.7, 0.2, 0.1]) + 1):
            image = make_header(patient, exposure, rng, portable=portable)
            picture = draw_chest(patient, exposure, pneumonia=label == "PNEUMONIA", portable=portable)
            set_pixels(image, picture, second_unit=second_unit)
            path = arguments.out / f"study{patient:04d}" / f"image{exposure}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save_as(path, enforce_file_format=True)
            rows.append(f"{path.relative_to(arguments.out).as_posix()},{label}")
    path.write_bytes(path.read_bytes()[:5_000])  # the last one was not copied to its end
    (arguments.out / "labels.csv").write_text("\n".join(rows) + "\n")
    print(f"{len(rows) - 1} images of {arguments.patients} patients: {arguments.out}")
