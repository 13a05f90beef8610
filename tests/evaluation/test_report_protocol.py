"""The report's protocol: what it says of the images; the protocol itself is run from the command line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medgan.evaluation import report_protocol


def test_files_of_unknown_patients_are_not_called_patients(make_images) -> None:
    known = make_images(20)
    unknown = replace(known, index=known.index.assign(patient_id=""))
    found = [
        report_protocol._judge(name, images, np.eye(2, dtype=np.float32)[images.labels], ("NORMAL", "PNEUMONIA"))
        for name, images in (("seen", known), ("new", unknown))
    ]
    assert [(each["patients"], each["unit"]) for each in found] == [(10, "patient"), (20, "file")]
    assert "on 20 images of 20 files that it has not seen" in report_protocol._verdict({"results": found}).text
    assert [row[2] for row in report_protocol._summary({"results": found})[1]] == ["10", "not known"]
