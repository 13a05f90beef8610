"""A step of medgan's preset `original` and of the report's model in Keras, which it reproduces.

The networks (19,616,963 and 5,289,539 parameters), losses, optimizers, latents and labels are the same, at 64 × 64
pixels in RGB; the images are noise, which takes as long as any. Keras trains once as scripts for GANs mostly do
(`train_on_batch` of two compiled models, with all defaults of Keras) and once with the whole step in one graph
(`tf.function`). medgan trains as its user does, with `GAN.fit`.
"""

from __future__ import annotations

from benchmarks.protocol import Comparison, Settings, Side, Target
from benchmarks.worker import Work

TITLE = "A training step, beside the report's model in Keras"

_STYLES = {"Keras, train_on_batch": "train_on_batch", "Keras, tf.function": "function"}


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return batches of 5, as in the report, and of 64."""
    missing = None
    if settings.keras_python is None:
        missing = "no environment with TensorFlow; add --make-keras, or --keras-python PYTHON"
    comparisons = []
    for batch, steps, ratio in ((5, 8, 3.0), (64, 2, 1.5)):
        if settings.quick:
            batch, steps = min(batch, 8), 1
        keras = {"batch": batch, "steps": steps, "threads": settings.threads}
        here = "benchmarks.keras_report:make_steps"
        comparisons.append(
            Comparison(
                title=f"Batch of {batch}",
                unit="step",
                sides=[
                    Side(
                        name="medgan, preset original",
                        work="benchmarks.measurements.keras_step:make_medgan",
                        options={"batch": batch, "steps": steps},
                        units=steps,
                    ),
                    *(
                        Side(
                            name=name,
                            work=here,
                            options={**keras, "style": style},
                            units=steps,
                            python=settings.keras_python,
                            missing=missing,
                        )
                        for name, style in _STYLES.items()
                    ),
                ],
                targets=[Target(side=name, of="ratio", bound="at least", value=ratio) for name in _STYLES],
                turns=5,
                rounds=2,
            )
        )
    return comparisons


def make_medgan(batch: int, steps: int) -> Work:
    """Return a function that trains some steps."""
    import numpy as np

    from medgan.data import ImageDataset
    from medgan.models import ACGAN

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1024, 64, 64, 3), dtype=np.uint8)
    dataset = ImageDataset.from_arrays(pixels, rng.integers(0, 2, len(pixels)), names=["NORMAL", "PNEUMONIA"])
    gan = ACGAN(dataset.spec, preset="original", batch_size=batch)
    trainer = gan.make_trainer(device="cpu")
    counts = [
        sum(weight.numel() for weight in part.parameters()) for part in (trainer.generator, trainer.discriminator)
    ]
    if counts != [19_616_963, 5_289_539]:
        raise RuntimeError(f"{counts} parameters are not those of the report")

    def train() -> None:
        gan.fit(dataset, steps=steps)

    return train
