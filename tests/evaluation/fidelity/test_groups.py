from __future__ import annotations

from dataclasses import replace

import numpy as np

from medgan.data import ImageDataset
from medgan.evaluation.fidelity.groups import patients_of


def test_slices_of_a_file_are_of_one_patient_unless_they_say_otherwise() -> None:
    images = ImageDataset.from_arrays(np.zeros((6, 4, 4), np.uint8))
    index = images.index.assign(file=[*"aabbcc"], part=[0, 1, 0, 1, 0, 1])
    patients = patients_of(replace(images, index=index))
    assert patients.tolist() == [0, 0, 1, 1, 2, 2]
    known = patients_of(replace(images, index=index.assign(patient_id=["p", "p", "p", "q", "", ""])))
    assert len({*known[:3]}) == len({*known[4:]}) == 1
    assert len({*known}) == 3
