"""What all trainings of a comparison share, and how they are measured at the end. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from medgan.core.config import Config, option

__all__ = ["OF_ONE_TRAINING", "MeasureConfig"]

OF_ONE_TRAINING = frozenset(
    {
        *("arch", "preset", "steps", "init_from", "freeze_discriminator", "rejected", "rejected_share"),
        *("outdir", "name"),
    }
)
"""Options of `medgan fit` that trainings cannot share: what is compared, and where it lies; steps differ in images."""


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(Config):
    """Options of the last comparison, of the best model of each training with held-out patients."""

    metrics: str | None = option(
        None,
        "Metrics of the best models, joined by commas, as for `medgan metrics`; all but the rarer ones if not given.",
    )
    extractor: str | None = option(
        None, "What their features are computed with, as for `medgan metrics`; radiomics if not given, none of volumes."
    )
    weights: str | None = option(None, "File of weights of the extractor.")
    per_class: bool = option(False, "Compare each class as well, of the models that learn labels.")
    num: int | None = option(None, "Synthetic images a sample; as many as real ones if not given.", ge=2)
    samples: int = option(5, "Independent samples of each model, for the intervals.", ge=1)
    halvings: int = option(10, "Random halvings of the real patients, for the floors.", ge=2)
    permutations: int = option(1_000, "Permutations of the kernel's test.", ge=1)

    @property
    def names(self) -> list[str] | None:
        """The metrics that were asked for; None for the default ones."""
        return None if self.metrics is None else [name.strip() for name in self.metrics.split(",") if name.strip()]
