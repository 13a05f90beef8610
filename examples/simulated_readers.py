"""What could a reader study show?
===============================

Let simulated readers of known skill read one, before you ask radiologists. A reader sees in each image how suspect it
is: more so in synthetic ones, by the reader's own skill, with chance that readers share (the image) and chance of their
own. With ``--skill 0`` they guess.

The study is left in ``--out``, so that ``medgan study serve`` shows it and ``medgan study analyze`` analyses it. It
needs ``pip install 'medgan[study]'``.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from medgan.data import open_dataset
from medgan.models import ACGAN
from medgan.pages import figure_png, make_figure
from medgan.reader_study import ReaderStudy, ReaderStudyConfig, analyze_study, load_study, new_study
from medgan.reader_study.store import Answer, AnswerStore

CUTS = (-1.0, -0.2, 0.6, 1.4)


def simulate(study: ReaderStudy, *, skill: float, spread: float, shared: float, seed: int) -> float:
    """Answer all cases of all readers; return the area under the curve of all readers there could be."""
    rng = np.random.default_rng(seed)
    items = study.read_key()["items"]
    common = {item: rng.standard_normal() for item in sorted(items)}
    with AnswerStore(study) as store:
        for reader in study.readers:
            own_skill = skill + spread * rng.standard_normal()
            store.record(reader, "consent", study.consent_sha256)
            for position, shown in enumerate(reader.presentations):
                (item,) = shown.items
                suspect = own_skill * (items[item]["kind"] == "synthetic") + np.sqrt(shared) * common[item]
                suspect += np.sqrt(1 - shared) * rng.standard_normal()
                confidence = int(np.digitize(suspect, CUTS)) + 1
                answer = Answer(confidence, None, None, "", "", float(rng.gamma(4, 2)))
                store.save(reader, position, answer, submission=f"{position:08d}")
    skills = skill + spread * stats.norm.ppf((np.arange(999) + 0.5) / 999)
    of_real = np.diff(np.concatenate([[0], stats.norm.cdf(CUTS), [1]]))
    below = np.cumsum(of_real) - of_real / 2
    steps = [np.diff(np.concatenate([[0], stats.norm.cdf(np.array(CUTS) - each), [1]])) for each in skills]
    return float(np.mean(np.array(steps) @ below))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Let simulated readers of known skill read a study.")
    parser.add_argument("--steps", type=int, default=100, help="of the GAN whose images are drawn")
    parser.add_argument("--readers", type=int, default=5)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--skill", type=float, default=0.5, help="standard deviations between real and synthetic")
    parser.add_argument("--spread", type=float, default=0.2, help="of the skill between readers")
    parser.add_argument("--shared", type=float, default=0.3, help="share of the chance that readers have in common")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("simulated-study"))
    options = parser.parse_args()

    dataset = open_dataset("phantom://chest?n=300&seed=1", size=32)
    train, held_out = dataset.split(0.5)
    gan = ACGAN(dataset.spec, preset="tiny").fit(train, steps=options.steps)
    names = [f"reader-{number}" for number in range(1, options.readers + 1)]
    config = ReaderStudyConfig(num=options.cases, training=0)
    study = load_study(new_study(held_out, gan, options.out, config, readers=names, model="example", seed=options.seed))
    truth = simulate(study, skill=options.skill, spread=options.spread, shared=options.shared, seed=options.seed)
    print(f"The truth: an area under the curve of {truth:.3f}.")
    found = analyze_study(study)
    for sentence in found.claim:
        print(sentence)
    figure, panels = make_figure(width=5.2)
    for place, name in enumerate([*reversed(names), "all readers"]):
        result = found.of("area under the curve", name)
        if result is not None:
            panels[0, 0].plot([result.low, result.high], [place, place], color="black")
            panels[0, 0].plot([result.value], [place], "o")
    panels[0, 0].axvline(truth, linestyle="--", label="the truth")
    panels[0, 0].set(xlim=(0, 1), xlabel="area under the curve of each reader, and of all at the top", yticks=[])
    panels[0, 0].legend()
    Path("simulated_readers.png").write_bytes(figure_png(figure))
    print(f"More: medgan study analyze {options.out}")
