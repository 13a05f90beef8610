"""Makes what pages of the documentation take for granted, from medgan's phantoms, for `follow.py`.

Each command writes into a place that it is given; none needs data of anybody.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from medgan.data.phantom import render_chest
from medgan.data.thorax import render_thorax

CLASSES = ("NORMAL", "PNEUMONIA")


def draw_chest(patient, *, pneumonia, pixels=64, noise=False):
    """Return a radiograph, shape (pixels, pixels), from 0 to 1; with noise as of a low dose."""
    picture = render_chest([patient], pneumonia=pneumonia, size=pixels)
    if noise:
        picture = picture + np.random.default_rng(patient).normal(0, 0.1, picture.shape)
    return np.clip(picture, 0, 1)


def is_ill(number):
    """Return whether a patient has a pneumonia: four of nine have, so that there is something to balance."""
    return number % 9 % 2 == 1


def write_chests(out, number, names, *, pixels, first, noise):
    """Write radiographs, one a patient, under names in which a number stands for {}; two names are of two classes."""
    for patient in range(first, first + number):
        picture = draw_chest(patient, pneumonia=is_ill(patient), pixels=pixels, noise=noise)
        path = out / names[is_ill(patient) % len(names)].format(patient)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255 * picture)).save(path)


def write_volumes(out, number):
    """Write CT volumes in Hounsfield units as NIfTI files."""
    import nibabel

    for patient in range(number):
        volume = render_thorax([patient], pneumonia=is_ill(patient), size=(48, 48, 48))
        path = out / CLASSES[is_ill(patient)] / f"patient{patient:03d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        # NIfTI counts leftwards to rightwards, backwards to forwards, upwards.
        nibabel.Nifti1Image(np.int16(volume.transpose()), np.diag([-7.5, -7.5, -6.25, 1])).to_filename(path)


def write_slices(out, number):
    """Write axial CT slices in Hounsfield units as DICOM files, one a patient."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, generate_uid

    for patient in range(number):
        values = render_thorax([patient], pneumonia=is_ill(patient), size=(9, 64, 64))[4]
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.SOPClassUID = CTImageStorage
        for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            setattr(image, name, generate_uid(entropy_srcs=[f"{name} {patient}"]))
        image.PatientID, image.PatientName = f"H{patient:04d}", f"NOBODY^{patient:04d}"
        image.Modality, image.BodyPartExamined = "CT", "CHEST"
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, -1024, "HU"
        image.set_pixel_data(np.uint16(values + 1024), "MONOCHROME2", 12)
        path = out / CLASSES[is_ill(patient)] / f"slice{patient:03d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save_as(path, enforce_file_format=True)


def write_chexpert(out, number):
    """Write a folder as CheXpert has it, with findings that are uncertain or not mentioned."""
    for table, patients in (("train", range(number)), ("valid", range(number, number + number // 4))):
        rows = ["Path,Sex,Age,Frontal/Lateral,AP/PA,Edema,Pneumonia"]
        for patient in patients:
            path = Path(table, f"patient{patient:05d}", "study1", "view1_frontal.jpg")
            (out / path).parent.mkdir(parents=True)
            picture = draw_chest(patient, pneumonia=is_ill(patient))
            Image.fromarray(np.uint8(255 * picture)).save(out / path)
            pneumonia = "-1.0" if patient % 7 == 0 else "1.0" if is_ill(patient) else ""
            rows.append(f"{out.name}/{path.as_posix()},Female,{20 + patient % 60},Frontal,PA,,{pneumonia}")
        (out / f"{table}.csv").write_text("\n".join(rows) + "\n")


def write_tables(out, number=120):
    """Write manifests of findings, of severity and of measured quantities, beside their images."""
    write_chests(out / "manifest-images", number, ["{}.png"], pixels=64, first=0, noise=False)
    findings = ["path,label:Effusion,label:Edema,label:Mass,patient_id"]
    severity, measured = ["path,label,patient_id"], ["path,age,patient_id"]
    rng = np.random.default_rng(0)
    for patient in range(number):
        path = (out / "manifest-images" / f"{patient}.png").resolve()
        found = [["0", "1", "-1", ""][place] for place in rng.choice(4, 3, p=[0.5, 0.3, 0.1, 0.1])]
        findings.append(f"{path},{','.join(found)},p{patient}")
        severity.append(f"{path},{('mild', 'moderate', 'severe')[patient % 3]},p{patient}")
        measured.append(f"{path},{rng.integers(20, 90)},p{patient}")
    for name, rows in (("findings", findings), ("severity", severity), ("measured", measured)):
        (out / f"{name}.csv").write_text("\n".join(rows) + "\n")


def write_array(out, number):
    """Write radiographs of 12 bits as an array of numpy."""
    pictures = [draw_chest(patient, pneumonia=is_ill(patient), pixels=64) for patient in range(number)]
    np.save(out, np.uint16(4095 * np.stack(pictures)))


def write_weights(out):
    """Write random weights of the network that the page on extractors takes."""
    from safetensors.torch import save_file
    from torchvision.models import densenet121

    save_file(densenet121(num_classes=14).state_dict(), out)


def is_bright(pictures):
    """Return, of each picture, whether it is brighter than half of them: what simulated readers object to."""
    means = np.array([np.asarray(picture).mean() for picture in pictures])
    return means > np.median(means)


def answer_study(out):
    """Let readers answer a study, in the place of those at `medgan study serve`: they object to bright images."""
    from medgan.reader_study import load_study
    from medgan.reader_study.store import Answer, AnswerStore

    study = load_study(out)
    kinds = {item: facts["kind"] for item, facts in study.read_key()["items"].items()}
    bright = {}
    for kind in ("real", "synthetic"):
        items = [item for item in kinds if kinds[item] == kind]
        bright |= dict(zip(items, is_bright([Image.open(study.image_file(item)) for item in items]), strict=True))
    with AnswerStore(study) as store:
        for place, reader in enumerate(study.readers):
            rng = np.random.default_rng(place)
            store.record(reader, "consent", study.consent_sha256)
            for position, shown in enumerate(reader.presentations):
                objects = bright[shown.items[0]] != (rng.random() < 0.1)  # errs in one of ten
                confidence = int(rng.integers(4, 6) if objects else rng.integers(1, 3))
                realism = 6 - confidence if study.config.realism else None
                answer = Answer(confidence, None, realism, "", "", float(rng.gamma(4, 2)))
                store.save(reader, position, answer, submission=f"{position:08d}")


def write_ratings(samples, out):
    """Write what readers, who object to bright images, say of samples."""
    import pandas as pd

    table = pd.read_csv(samples / "samples.csv")
    table["accepted"] = (~is_bright([Image.open(samples / path) for path in table["path"]])).astype(int)
    table.assign(reader="A")[["reader", "seed", "label", "accepted"]].to_csv(out, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make what pages take for granted.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("chests", "volumes", "slices", "chexpert", "tables", "array", "weights", "answers", "ratings"):
        made = kinds.add_parser(kind)
        if kind == "ratings":
            made.add_argument("samples", type=Path)
        made.add_argument("out", type=Path, help="file or folder to write, or the study to answer")
        if kind not in ("tables", "weights", "answers", "ratings"):
            made.add_argument("number", type=int)
        if kind == "chests":
            made.add_argument("names", nargs="+")
            made.add_argument("--pixels", type=int, default=64)
            made.add_argument("--first", type=int, default=0, help="number of the first patient")
            made.add_argument("--noise", action="store_true")
    options = vars(parser.parse_args())
    write = {
        "chests": write_chests,
        "volumes": write_volumes,
        "slices": write_slices,
        "chexpert": write_chexpert,
        "tables": write_tables,
        "array": write_array,
        "weights": write_weights,
        "answers": answer_study,
        "ratings": write_ratings,
    }[options.pop("kind")]
    write(**options)
