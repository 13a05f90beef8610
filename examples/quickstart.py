"""Quickstart
==========

medgan in a notebook: open images, train a GAN, sample it. Less than a minute on two CPU cores.
"""

import argparse

from medgan.data import open_dataset
from medgan.models import ACGAN
from medgan.pages import make_grid, save_image

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Open images, train a GAN, sample it.")
    parser.add_argument("--steps", type=int, default=100, help="training steps; some thousand give good images")
    parser.add_argument("--out", default="quickstart.png", help="picture to write")
    arguments = parser.parse_args()

    # Or a folder with one folder of images a class: open_dataset("chest_xray/train", patient_regex="kermany")
    dataset = open_dataset("phantom://chest?n=200", size=32)
    training, validation = dataset.split(0.1)
    print(f"{training!r}, {training.class_counts()}; {len(validation)} held out")

    gan = ACGAN(training.spec, preset="modern")
    gan.fit(training, steps=arguments.steps)
    gan.save("quickstart-model")

    samples = gan.sample(32, seed=0)  # or gan.sample(8, labels="PNEUMONIA")
    save_image(make_grid(samples, gan.data), arguments.out)
    print(f"{len(samples.images)} images in {arguments.out}, the model in quickstart-model")
