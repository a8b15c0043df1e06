"""Under a tf.distribute strategy a batch lies on several replicas, whose gradients TensorFlow adds up.

Keras divides each replica's mean by their number.  That is the mean of the whole batch where all replicas divide by the
same count: by the number of losses, in a full batch.  What leaves losses out, and "mean_over_positives", divides by
counts that differ: those are added up over the replicas here, and the sum of the losses is divided by the total.
"""

from __future__ import annotations

from typing import Any

import keras

from parfocal.core.batch import Batch


def context_of_replicas() -> Any:
    """The context of one of several replicas; None elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def over_replicas(batch: Batch, reduction: str | None) -> Batch | None:
    """The batch with a divisor that is counted over all replicas; None where each may divide by its own."""
    counts = batch.valid is not None or (batch.weight is not None and reduction == "mean_with_sample_weight")
    if reduction != "mean_over_positives" and not (counts and reduction not in ("sum", "none", None)):
        return None
    context = context_of_replicas()
    return None if context is None else batch._replace(backend=backend_of(batch, context))


def backend_of(batch: Batch, context: Any) -> Any:
    import tensorflow as tf

    def added(count: Any) -> Any:
        count = tf.cast(tf.convert_to_tensor(count), batch.backend.working_dtype(batch.scores))
        if context.strategy.extended._use_merge_call():  # there is no public name
            return context.merge_call(added_here, args=(count,))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, count)

    def added_here(strategy: Any, counts: Any) -> Any:
        """Without a collective operation, which TensorFlow 2.21 takes for one of those that add up the gradients."""
        values = strategy.experimental_local_results(counts)
        if len(values) == strategy.num_replicas_in_sync:
            return tf.add_n(values)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, counts, axis=None)  # some are on other machines

    class Replicated(type(batch.backend)):  # type: ignore[misc]  # TensorFlow's, which is known only now
        def positives(self, batch: Batch) -> Any:
            labels = self.cast(batch.labels, self.working_dtype(batch.scores))
            return tf.maximum(added(tf.reduce_sum(labels)), 1)

        def or_one(self, total: Any) -> Any:
            return super().or_one(added(total))

    return Replicated(batch.backend.xp)
