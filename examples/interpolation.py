"""Between two images, and between two classes
===========================================

Latents between those of two images give images between them, if the generator has learnt a space and no list of
examples. The same latents under another label show what the label changes, and nothing else.

On normal latents the way goes along the sphere: on a straight line it would come near the origin, where the
generator has seen next to nothing.
"""

import argparse

import torch

from medgan.core import Batch
from medgan.data import open_dataset
from medgan.models import ACGAN
from medgan.pages import make_grid, save_image

parser = argparse.ArgumentParser(description="Walk between two latents, under each label.")
parser.add_argument("--steps", type=int, default=40, help="training steps; some thousand give good images")
arguments = parser.parse_args()

dataset = open_dataset("phantom://chest?n=200", size=32)
gan = ACGAN(dataset.spec).fit(dataset, steps=arguments.steps)

# %%
# Eight points on the way from one latent vector to another.

start, end = gan.generator.make_latents(2, torch.Generator().manual_seed(3))
cosine = torch.nn.functional.cosine_similarity(start, end, dim=0)
angle = torch.acos(cosine)
share = torch.linspace(0, 1, 8)[:, None]
latents = (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)

# %%
# Each point under each label: what changes from left to right is the patient, from one block to the other the finding.

names = dataset.spec.labels.names
labels = torch.arange(len(names)).repeat_interleave(len(latents))
with torch.inference_mode():
    images = gan.generator.generate(latents.repeat(len(names), 1), labels)
save_image(make_grid(Batch(images, labels), gan.data), "interpolation.png")

# %%
# How far apart are neighbours on the way, and how far apart are the two ends?

steps = (images[:7] - images[1:8]).square().mean(dim=(1, 2, 3)).sqrt()
ends = (images[0] - images[7]).square().mean().sqrt()
print(
    f"root mean square difference of neighbours: {steps.mean():.4f}, largest {steps.max():.4f}; of the ends: {ends:.4f}"
)
