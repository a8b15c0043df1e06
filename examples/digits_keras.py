"""Cross-entropy against focal loss in Keras, on a long tail of small images; on any of its backends.

    KERAS_BACKEND=jax python examples/digits_keras.py [--data fashion] [--steps 400] [--seeds 6]

The last two lines that it prints say what focal loss changed.
"""

import keras
import long_tail
import numpy as np

import parfocal

# The loss takes class indices and logits.  At gamma 0 it is cross-entropy.
cross_entropy = parfocal.SparseCategoricalFocalCrossentropy(alpha=1, gamma=0, from_logits=True)
focal = parfocal.SparseCategoricalFocalCrossentropy(alpha=1, gamma=2, from_logits=True)


def train(loss: parfocal.Loss, data: long_tail.Data, steps: int, seed: int) -> np.ndarray:
    """Logits of the test images from a network with one hidden layer, trained with `loss`."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    model.compile(keras.optimizers.Adam(2e-3), loss=loss)
    rows = long_tail.batches(data, steps, seed).ravel()  # all steps as one epoch, in the order of the other examples
    model.fit(data.train_x[rows], data.train_y[rows], long_tail.BATCH, shuffle=False, verbose=0)
    return model.predict(data.test_x, verbose=0)


if __name__ == "__main__":
    long_tail.compare(train, cross_entropy, focal)
