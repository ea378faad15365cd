import jax
import numpy as np

from paligax.batch import LabelBatch, TextBatch


def test_text_batch_abstract_shapes_and_dtypes():
    batch = TextBatch.abstract(batch_size=4, resolution=32, input_length=8, target_length=6)
    assert batch.size == 4
    assert {name: (getattr(batch, name).shape, getattr(batch, name).dtype) for name in batch.__dataclass_fields__} == {
        "image": ((4, 32, 32, 3), np.uint8),
        "image_mask": ((4,), np.bool_),
        "inputs": ((4, 8), np.int32),
        "targets": ((4, 6), np.int32),
        "weights": ((4, 6), np.float32),
        "task": ((4,), np.int32),
    }


def test_label_batch_abstract_shapes_and_dtypes():
    batch = LabelBatch.abstract(batch_size=2, resolution=16, num_classes=5)
    assert (batch.labels.shape, batch.labels.dtype) == ((2, 5), np.float32)
    assert (batch.weights.shape, batch.task.dtype) == ((2,), np.int32)


def test_batches_are_pytrees_that_keep_their_class():
    batch = TextBatch.abstract(batch_size=2, resolution=8, input_length=3, target_length=4)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), batch)
    assert isinstance(zeros, TextBatch) and len(jax.tree.leaves(zeros)) == 6
    assert jax.jit(lambda b: b.inputs.sum() + b.size)(zeros) == 2
