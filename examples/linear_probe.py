"""What has a discriminator learnt?
================================

A linear probe on its features, tested on other patients. Less than a minute.

Compare it with the untrained one: a few steps teach nothing that random filters do not show as well. For your own
run, on the command line: ``medgan features --model runs/00000-acgan-images --out features.npz``
"""

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medgan.data import ImageDataset, open_dataset
from medgan.discriminator_features import extract_discriminator_features
from medgan.models import ACGAN
from medgan.pages import make_figure


def without_labels(dataset: ImageDataset) -> ImageDataset:
    """Return the same images as a data set that does not say what they show."""
    pixels = (dataset.images_at(range(len(dataset))) + 1) / 2
    return ImageDataset.from_arrays(pixels.movedim(1, -1).numpy(), data_range=(0, 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Probe the features of a discriminator.")
    parser.add_argument("--steps", type=int, default=100, help="training steps of the GAN")
    parser.add_argument("--images", type=int, default=400, help="chest phantoms of two classes")
    arguments = parser.parse_args()

    dataset = open_dataset(f"phantom://chest?n={arguments.images}", size=32)
    known, unseen = dataset.split(0.4)
    shared = set(known.index["patient_id"]) & set(unseen.index["patient_id"])
    print(f"{len(known)} images to learn from, {len(unseen)} to test on; {len(shared)} patients on both sides")

    # The GAN sees no patient of the test either, and no label: what it learns is in the images themselves.
    images = without_labels(known)
    trainers = {
        "untrained": ACGAN(images.spec).make_trainer(),
        "trained": ACGAN(images.spec).fit(images, steps=arguments.steps).trainer,
    }
    scores = {}
    for name, trainer in trainers.items():
        features, others = (
            extract_discriminator_features(trainer.discriminator, part, data=images.spec).values
            for part in (known, unseen)
        )
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(features, known.labels)
        scores[name] = roc_auc_score(unseen.labels, probe.predict_proba(others)[:, 1])
        print(f"AUROC of {features.shape[1]} features of the {name} discriminator: {scores[name]:.3f}")
    scores["guess"] = roc_auc_score(unseen.labels, np.zeros(len(unseen)))
    print(f"AUROC of a guess: {scores['guess']:.3f}")

    figure, panels = make_figure(height=2)
    panels[0, 0].barh(list(scores), list(scores.values()))
    panels[0, 0].set(xlim=(0, 1), xlabel="AUROC on patients that are new to both networks")
    figure.savefig("linear_probe.png")
