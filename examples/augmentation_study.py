"""Do synthetic images help a classifier?
======================================

The question behind most GANs in medicine, asked in small: classifiers learn from real images, from as many synthetic
ones, and from both, with the same number of steps, and are tested on patients that neither they nor the GAN have
seen.

With a few seconds of training for the GAN and one classifier an arm the answer is worth nothing, and the intervals
say so. For your own run the same is ``medgan evaluate --model runs/00000-acgan-images``.
"""

import argparse
import tempfile
from pathlib import Path

from medgan.data import open_dataset
from medgan.evaluation import DownstreamEvaluator, StudyConfig, summarise
from medgan.models import ACGAN
from medgan.pages import make_figure

parser = argparse.ArgumentParser(
    description="Train classifiers on real and synthetic images; test them on real patients."
)
parser.add_argument("--steps", type=int, default=40, help="training steps of the GAN, and of each classifier")
arguments = parser.parse_args()

dataset = open_dataset("phantom://chest?n=400", size=32)
training, validation, test = dataset.split(0.2, test=0.3)
gan = ACGAN(training.spec).fit(training, steps=arguments.steps)

# %%
# The generator's provenance says which patients it has seen; one that has seen a test patient would be refused.

with tempfile.TemporaryDirectory() as folder:
    evaluator = DownstreamEvaluator(
        training,
        validation,
        test,
        out=Path(folder) / "study",
        generators=[gan],
        config=StudyConfig(arms="real,synthetic,real+synthetic", seeds=1, steps=arguments.steps),
        jobs=1,
    )
    summary = summarise(evaluator.run(), replicates=500)

# %%
# The mean of the trainings with a 95 % interval over patients.

results = summary["results"]
scores = [result["scores"]["auroc"] for result in results]
figure, panels = make_figure(height=2.2)
(panel,) = panels.flat
for place, (result, score) in enumerate(zip(results, scores, strict=True)):
    low, high = (score["value"] if score[end] is None else score[end] for end in ("low", "high"))
    panel.plot([low, high], [place, place], color="black", linewidth=1)
    panel.plot(score["value"], place, "o")
    print(f"{result['title']}: AUROC {score['value']:.3f} ({low:.3f} to {high:.3f})")
panel.set(
    yticks=range(len(results)), yticklabels=[result["title"] for result in results], xlabel="AUROC on test patients"
)
panel.set_ylim(len(results) - 0.5, -0.5)
figure.savefig("augmentation_study.png")
for sentence in summary["verdict"]["sentences"]:
    print(sentence)
