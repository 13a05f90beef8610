"""A classifier of one's own, in plain PyTorch, on whatever a manifest holds, for the tutorial on rare classes."""

import argparse
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score, roc_auc_score
from torch import nn

from medgan.data import open_dataset

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a classifier on the training part of a manifest, and test it.")
    parser.add_argument("manifest")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()

    # The manifest says who trains and who tests, so that no share is to be given.
    dataset = open_dataset(arguments.manifest, size=32)
    training, _, test = dataset.split(0.1, test=0.1)
    print(f"Trained on {training.class_counts()}, tested on {test.class_counts()}")

    scores = []
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(64 * 4 * 4, 2)),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for batch in islice(training.batches(32, seed=seed), arguments.steps):
            optimizer.zero_grad()
            F.cross_entropy(network(batch.images), batch.labels).backward()
            optimizer.step()
        with torch.no_grad():
            rare = network(test.images_at(range(len(test)))).softmax(dim=1)[:, 1].numpy()
        scores.append(
            (
                roc_auc_score(test.labels, rare),
                recall_score(test.labels, rare > 0.5),
                recall_score(test.labels, rare > 0.5, pos_label=0),
            )
        )
    for name, values in zip(("AUROC", "sensitivity", "specificity"), np.transpose(scores), strict=True):
        print(f"{name}: {values.mean():.3f}, from {values.min():.3f} to {values.max():.3f} in {len(values)} trainings")
