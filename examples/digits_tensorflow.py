"""Cross-entropy against focal loss in TensorFlow, on a long tail of small images; seconds on one core.

    python examples/digits_tensorflow.py [--data fashion] [--steps 400] [--seeds 6]

The last two lines that it prints say what focal loss changed.
"""

import long_tail
import tensorflow as tf

import parfocal

# The loss takes class indices and logits.  At gamma 0 it is cross-entropy.
cross_entropy = parfocal.SparseCategoricalFocalCrossentropy(alpha=1, gamma=0, from_logits=True)
focal = parfocal.SparseCategoricalFocalCrossentropy(alpha=1, gamma=2, from_logits=True)


def train(loss: parfocal.Loss, data: long_tail.Data, steps: int, seed: int) -> tf.Tensor:
    """Logits of the test images from a network with one hidden layer, trained with `loss` by momentum."""
    pixels, random = data.train_x.shape[1], tf.random.Generator.from_seed(seed)
    weights = [
        tf.Variable(random.normal((pixels, 64), stddev=(2 / pixels) ** 0.5)),
        tf.Variable(tf.zeros(64)),
        tf.Variable(random.normal((64, 10), stddev=(2 / 64) ** 0.5)),
        tf.Variable(tf.zeros(10)),
    ]
    speeds = [tf.Variable(tf.zeros_like(weight)) for weight in weights]

    def network(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(images @ weights[0] + weights[1]) @ weights[2] + weights[3]

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            mean = loss(labels, network(images))
        for weight, speed, slope in zip(weights, speeds, tape.gradient(mean, weights), strict=True):
            speed.assign(0.9 * speed - 0.03 * slope)
            weight.assign_add(speed)

    for rows in long_tail.batches(data, steps, seed):
        step(tf.constant(data.train_x[rows]), tf.constant(data.train_y[rows]))
    return network(tf.constant(data.test_x))


if __name__ == "__main__":
    long_tail.compare(train, cross_entropy, focal)
