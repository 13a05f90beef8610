"""Another loss for an architecture that is there
==============================================

To try an idea about losses, write the losses: networks, data, training loop, averaging and the command line stay.
This one keeps what ACGAN learns of the label, here by a head that names it (``head="ac"``), and replaces the
adversarial part by that of a least-squares GAN (Mao et al., 2017, arXiv:1611.04076).

``medgan plugins new my-gan --from acgan`` begins a package in the same way.
"""

import argparse

from medgan import losses, registry
from medgan.core import Callback
from medgan.data import open_dataset
from medgan.models.acgan import ACGAN, ACGANTrainer
from medgan.pages import make_figure

parser = argparse.ArgumentParser(description="Train ACGAN with its own loss and with another one.")
parser.add_argument("--steps", type=int, default=30, help="training steps of each")
arguments = parser.parse_args()


class LeastSquaresTrainer(ACGANTrainer):
    """ACGAN's training with other adversarial terms; those of the label are kept."""

    @property
    def realness_is_relative(self):
        """Say that 0 means something: it lies between the targets, so the adaptive augmentation may go by the sign."""
        return False

    def discriminator_loss(self, real, fake):
        """Call real images 1 and generated ones -1."""
        terms = super().discriminator_loss(real, fake)
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        return terms | {"adversarial": (losses.least_squares(on_real, 1) + losses.least_squares(on_fake, -1)) / 2}

    def generator_loss(self, real, fake):
        """Be called 1."""
        terms = super().generator_loss(real, fake)
        return terms | {"adversarial": losses.least_squares(self.discriminator(*fake).realness, 1)}


class LeastSquaresACGAN(ACGAN):
    """ACGAN with the loss of a least-squares GAN."""

    name = "lsq-acgan"
    summary = "ACGAN with the loss of a least-squares GAN"
    Trainer = LeastSquaresTrainer


registry.register(LeastSquaresACGAN)  # an installed package declares an entry point instead

# %%
# A callback sees every step. Both trainings get the same images in the same order.


class Curve(Callback):
    """Keeps how often the discriminator is right, where that was looked at."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.steps, self.values = [], []

    def on_step(self, trainer, metrics):
        """Keep the value of a step that has one."""
        if "discriminator/accuracy" in metrics:
            self.steps.append(trainer.step)
            self.values.append(float(metrics["discriminator/accuracy"]))


dataset = open_dataset("phantom://chest?n=200", size=32)
figure, panels = make_figure()
(panel,) = panels.flat
for name in ("acgan", "lsq-acgan"):
    curve = Curve()
    gan = registry.get(name)(dataset.spec, head="ac").fit(dataset, steps=arguments.steps, callbacks=[curve])
    panel.plot(curve.steps, curve.values, marker="o", label=name)
    print(f"{name}: the discriminator is right in {curve.values[-1]:.0%} of the images at step {curve.steps[-1]}")
panel.set(xlabel="step", ylabel="share that the discriminator tells", ylim=(0, 1.05))
panel.legend()
figure.savefig("replaced_loss.png")
