"""The ACGAN of the report on chest X-rays in Keras, as its layers, losses and optimizers are told there.

Runs in an environment of its own, with TensorFlow, and imports nothing of medgan; see
`benchmarks.measurements.keras_step`. 64 × 64 pixels, RGB, in [0, 1]; two classes; latents from U(−1, 1).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

LATENTS, CLASSES = 100, 2
PARAMETERS = {"generator": 19_616_963, "discriminator": 5_289_539}
_L2 = 1e-3


def make_generator(keras: Any) -> Any:
    """Return the generator: latents and a one-hot label in, images in [0, 1] out."""
    layers, l2 = keras.layers, keras.regularizers.L2
    latents, label = keras.Input((LATENTS,)), keras.Input((CLASSES,))
    hidden = layers.Dense(1024)(layers.Concatenate()([latents, label]))
    hidden = layers.Dense(8 * 8 * 256, kernel_regularizer=l2(_L2))(hidden)
    hidden = layers.Reshape((8, 8, 256))(hidden)
    for width, stride in ((256, 2), (128, 2), (64, 2), (32, 1)):
        hidden = layers.ReLU()(layers.LayerNormalization(epsilon=1e-3)(hidden))
        hidden = layers.Conv2DTranspose(width, 5, strides=stride, padding="same")(hidden)
    image = layers.Conv2DTranspose(3, 5, padding="same", activation="sigmoid")(hidden)
    return keras.Model([latents, label], image, name="generator")


def make_discriminator(keras: Any) -> Any:
    """Return the discriminator: images in, a tag (real 1, fake 0) and the probabilities of the classes out."""
    layers, l2 = keras.layers, keras.regularizers.L2
    image = hidden = keras.Input((64, 64, 3))
    for width, stride in ((32, 2), (64, 2), (128, 2), (256, 1)):
        hidden = layers.Conv2D(width, 5, strides=stride, padding="same", kernel_regularizer=l2(_L2))(hidden)
        hidden = layers.LeakyReLU(negative_slope=0.2)(hidden)
    hidden = layers.Flatten()(hidden)
    tag = layers.Dense(1, name="tag")(hidden)
    label = layers.Dropout(0.3)(layers.Dense(256, kernel_regularizer=l2(_L2))(hidden))
    label = layers.Dense(CLASSES, activation="softmax", name="label")(label)
    return keras.Model(image, [tag, label], name="discriminator")


def make_optimizers(keras: Any) -> tuple[Any, Any]:
    """Return those of the discriminator and of the generator."""
    make = keras.optimizers.RMSprop
    return (
        make(1e-4, rho=0.9, epsilon=1e-7, weight_decay=6e-9),
        make(5e-5, rho=0.9, epsilon=1e-7, weight_decay=3e-9),
    )


def make_steps(batch: int, steps: int, style: str, threads: int) -> Callable[[], float]:
    """Return a function that trains some steps.

    Args:
        batch: Real images a step, and as many fake ones.
        steps: Steps at a time.
        style: ``train_on_batch``, as most scripts train a GAN in Keras: two compiled models; or ``function``, the whole
            step as one graph, as TensorFlow's own tutorials have it.
        threads: Threads of TensorFlow.

    Returns:
        The function; it returns the last step's loss of the generator.
    """
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    generator, discriminator = make_generator(keras), make_discriminator(keras)
    for network in (generator, discriminator):
        if network.count_params() != PARAMETERS[network.name]:
            raise RuntimeError(f"{network.name}: {network.count_params():,} parameters are not those of the report")
    rng = np.random.default_rng(0)
    data = rng.random((1024, 64, 64, 3), dtype=np.float32)
    data_labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=len(data))]
    make = {"train_on_batch": _with_compiled_models, "function": _with_one_graph}[style]
    step = make(keras, tf, generator, discriminator, batch)
    targets = np.repeat(np.array([1, 0], dtype=np.float32), batch)[:, None]

    def train() -> float:
        loss = 0.0
        for _ in range(steps):
            rows = rng.integers(len(data), size=batch)
            labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=batch)]
            latents = [rng.uniform(-1, 1, (batch, LATENTS)).astype(np.float32) for _ in range(2)]
            loss = step(data[rows], data_labels[rows], labels, latents, targets)
        return loss

    return train


_Step = Callable[[Any, Any, Any, list[Any], Any], float]


def _with_compiled_models(keras: Any, tf: Any, generator: Any, discriminator: Any, batch: int) -> _Step:
    """Return a step of `train_on_batch`, once of the discriminator and once of both networks in a row."""
    losses = ["mse", "binary_crossentropy"]
    for_discriminator, for_generator = make_optimizers(keras)
    discriminator.compile(for_discriminator, loss=losses)
    inputs = [keras.Input((LATENTS,)), keras.Input((CLASSES,))]

    # What is trainable counts when a function is traced: at its first call with arrays of some shape. So these have the
    # shapes of all that follow, real and fake images in one batch for the discriminator.
    images = np.zeros((2 * batch, 64, 64, 3), np.float32)
    targets = [np.ones((2 * batch, 1), np.float32), np.eye(CLASSES, dtype=np.float32)[[0, 1] * batch]]
    latents, halves = np.ones((batch, LATENTS), np.float32), [target[:batch] for target in targets]

    def train_discriminator() -> None:
        discriminator.train_on_batch(images, targets)

    def train_generator() -> None:
        both.train_on_batch([latents, halves[1]], halves)

    train_discriminator()
    discriminator.trainable = False
    both = keras.Model(inputs, discriminator(generator(inputs)))
    both.compile(for_generator, loss=losses)
    train_generator()
    for train, moved in ((train_discriminator, [False, True]), (train_generator, [True, False])):
        if _moved_by(train, generator, discriminator) != moved:
            raise RuntimeError(f"{train.__name__} does not move its own network alone")

    def step(real: Any, real_labels: Any, labels: Any, latents: list[Any], targets: Any) -> float:
        fake = generator.predict_on_batch([latents[0], labels])
        images, named = np.concatenate([real, fake]), np.concatenate([real_labels, labels])
        discriminator.train_on_batch(images, [targets, named])
        loss = both.train_on_batch([latents[1], labels], [targets[: len(real)], labels])
        return float(np.ravel(loss)[0])

    return step


def _moved_by(train: Callable[[], None], *networks: Any) -> list[bool]:
    """Return which networks have other weights afterwards."""
    before = [[np.array(weight) for weight in network.weights] for network in networks]
    train()
    return [
        any((np.array(new) != old).any() for new, old in zip(network.weights, olds, strict=True))
        for network, olds in zip(networks, before, strict=True)
    ]


def _with_one_graph(keras: Any, tf: Any, generator: Any, discriminator: Any, batch: int) -> _Step:
    """Return a step that is one graph."""
    for_discriminator, for_generator = make_optimizers(keras)
    squares, entropy = keras.losses.MeanSquaredError(), keras.losses.BinaryCrossentropy()
    for optimizer, network in ((for_discriminator, discriminator), (for_generator, generator)):
        optimizer.build(network.trainable_variables)

    @tf.function
    def graph(real: Any, real_labels: Any, labels: Any, first: Any, second: Any, targets: Any) -> Any:
        images = tf.concat([real, generator([first, labels], training=True)], axis=0)
        with tf.GradientTape() as tape:
            tag, named = discriminator(images, training=True)
            loss = squares(targets, tag) + entropy(tf.concat([real_labels, labels], axis=0), named)
            loss += tf.add_n(discriminator.losses)
        weights = discriminator.trainable_variables
        for_discriminator.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            tag, named = discriminator(generator([second, labels], training=True), training=True)
            loss = squares(tf.ones_like(tag), tag) + entropy(labels, named) + tf.add_n(generator.losses)
        weights = generator.trainable_variables
        for_generator.apply(tape.gradient(loss, weights), weights)
        return loss

    def step(real: Any, real_labels: Any, labels: Any, latents: list[Any], targets: Any) -> float:
        arrays = [tf.constant(array) for array in (real, real_labels, labels, *latents, targets)]
        return float(graph(*arrays))

    return step
