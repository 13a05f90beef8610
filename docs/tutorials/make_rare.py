"""Write chest phantoms with a rare class, and a table that says who is for what, for the tutorial on rare classes."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from medgan.data.phantom import render_chest

# Patients of each class. A test with few rare cases tells nothing, so the rare class is rare in the training alone.
COUNTS = {
    "train": {"NORMAL": 600, "PNEUMONIA": 40},
    "validation": {"NORMAL": 100, "PNEUMONIA": 100},
    "test": {"NORMAL": 200, "PNEUMONIA": 200},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write chest phantoms with a rare class.")
    parser.add_argument("--share", type=float, default=1.0, help="share of the patients, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("rare"), help="folder to create")
    arguments = parser.parse_args()

    rows = ["path,label,patient_id,split"]
    for part, counts in COUNTS.items():
        for label, count in counts.items():
            folder = arguments.out / part / label
            folder.mkdir(parents=True)
            for _ in range(round(arguments.share * count)):
                patient = len(rows)
                picture = render_chest([11, patient], pneumonia=label == "PNEUMONIA", size=96)
                path = folder / f"patient{patient:04d}.png"
                Image.fromarray(np.uint8(255 * picture)).save(path)
                rows.append(f"{path.relative_to(arguments.out).as_posix()},{label},patient{patient:04d},{part}")
    (arguments.out / "manifest.csv").write_text("\n".join(rows) + "\n")
    print(f"{len(rows) - 1} images: {arguments.out / 'manifest.csv'}")
