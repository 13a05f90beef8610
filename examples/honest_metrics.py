"""A distance means nothing without its floor
==========================================

Two groups of real patients do not have a distance of 0 either, and fewer images give larger distances. So medgan
puts beside every number what halves of the real patients give, at the same number of images.

Here three sets are measured against patients whom no training has seen: samples of a GAN that has learnt for a few
seconds, noise, and other real patients. The last are as good as it gets, and should be near the floor.
"""

import argparse

import numpy as np

from medgan.data import ImageDataset, open_dataset
from medgan.evaluation.fidelity import measure_fidelity
from medgan.metrics.extractors import get_extractor
from medgan.models import ACGAN
from medgan.pages import COLOURS, make_figure

parser = argparse.ArgumentParser(description="Measure samples, noise and real images against held-out patients.")
parser.add_argument("--steps", type=int, default=40, help="training steps of the GAN")
arguments = parser.parse_args()

dataset = open_dataset("phantom://chest?n=400", size=32)
training, real = dataset.split(0.4)
gan = ACGAN(training.spec).fit(training, steps=arguments.steps)

# %%
# All three sets have as many images of each class as the held-out patients.


def as_dataset(images: np.ndarray, labels: np.ndarray) -> ImageDataset:
    """Return images in [-1, 1], shape (N, 1, height, width), as a data set like the real one."""
    pixels = np.clip((images[:, 0] + 1) / 2, 0, 1)
    return ImageDataset.from_arrays(pixels, labels, names=real.spec.labels.names, data_range=(0, 1))


samples = gan.sample(len(real), labels=[int(label) for label in real.labels])
noise = np.random.default_rng(0).uniform(-1, 1, samples.images.shape)
others = np.concatenate(
    [np.flatnonzero(training.labels == label)[:count] for label, count in enumerate(np.bincount(real.labels))]
)
sets = {
    "other real patients": training.subset(others),
    f"GAN, {arguments.steps} steps": as_dataset(samples.images.numpy(), samples.labels.numpy()),
    "noise": as_dataset(noise, real.labels),
}

# %%
# Features of random convolutions need no download; ``inception`` gives the published FID and KID.

reports = {
    name: measure_fidelity(
        real,
        images,
        extractors=[get_extractor("random-conv")],
        metrics=("frechet", "kernel"),
        halvings=5,
        permutations=100,
    )
    for name, images in sets.items()
}
figure, panels = make_figure(columns=2)
for panel, place in zip(panels.flat, range(2), strict=True):
    scores = [report.scores[place] for report in reports.values()]
    floor = scores[0].floor
    print(f"{scores[0].title}: floor {floor.mean:.3g} ± {floor.spread:.2g} with {floor.images} images a side")
    for name, score in zip(reports, scores, strict=True):
        print(
            f"  {name}: {score.floor.synthetic:.3g} at that number, {score.value:.3g} with all {score.synthetic_images}"
        )
    panel.bar(list(reports), [score.floor.synthetic for score in scores], color=COLOURS[: len(scores)])
    panel.axhline(floor.mean, color="black", linestyle="--", linewidth=1, label="floor: real against real")
    panel.set(title=scores[0].title, yscale="symlog")  # an unbiased estimate may be below 0
    panel.tick_params("x", rotation=20)
figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", frameon=False)
figure.savefig("honest_metrics.png")
