"""What `GAN.sample` costs over the bare generator.

`sample` seeds every image by itself, so that a seed and a label make the same image whatever else is sampled, checks
and brings the images to the CPU. The bare generator gets the same number of latents and labels in batches of the
same size, without gradients.
"""

from __future__ import annotations

from benchmarks.protocol import Comparison, Settings, Side
from benchmarks.worker import Work

TITLE = "Sampling"

_HERE = "benchmarks.measurements.sampling"
_BATCH = 64


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return the two presets that are used."""
    count = 64 if settings.quick else 512
    comparisons = []
    for preset, size in (("modern", 32),) if settings.quick else (("modern", 64), ("original", 64)):
        options = {"preset": preset, "size": size, "count": count}
        comparisons.append(
            Comparison(
                title=f"{count} images of the preset {preset}, {size} × {size}",
                unit="image",
                sides=[
                    Side(name="bare generator", work=f"{_HERE}:make_bare", options=options, units=count),
                    Side(name="medgan", work=f"{_HERE}:make_medgan", options=options, units=count),
                ],
                turns=7,
                rounds=3,
            )
        )
    return comparisons


def _make_gan(preset: str, size: int):  # type: ignore[no-untyped-def]
    from medgan.core import DataSpec, LabelSpec
    from medgan.models import ACGAN

    return ACGAN(DataSpec(1, (size, size), LabelSpec(("NORMAL", "PNEUMONIA"))), preset=preset)


def make_medgan(preset: str, size: int, count: int) -> Work:
    """Return a function that samples as a user does."""
    gan = _make_gan(preset, size)
    return lambda: float(len(gan.sample(count).images))


def make_bare(preset: str, size: int, count: int) -> Work:
    """Return a function that calls the generator."""
    import torch

    gan = _make_gan(preset, size)
    labels = torch.arange(_BATCH) % 2

    def sample() -> float:
        with torch.inference_mode():
            latents = (gan.generator.make_latents(_BATCH) for _ in range(count // _BATCH))
            return float(len(torch.cat([gan.generator(some, labels) for some in latents])))

    return sample
