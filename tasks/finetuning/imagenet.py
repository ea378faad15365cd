"""Zero-shot classification: which class's name is the most probable caption (PaLI, section 4.4)."""

from collections.abc import Sequence

import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.parts import Example, add_task, finish, references


def imagenet(
    name: str, data: Data, data_dir: str | None = None, classes: Sequence[str] = (), class_names: Sequence[str] = ()
) -> seqio.Task:
    """`Generate the alt_text in en at 0: <extra_id_0>` → the name of the image's class; one example each image.

    The image's class is the record's one label. With `Evaluator.candidates` for this task, the class names in the same
    order, answers are chosen by their probability, as the paper does; without, they are generated. Metrics then:
    exact_match.

    Args:
      classes: labels as the records have them (n01440764, …).
      class_names: what each is called, in the same order; the labels themselves where empty.

    Raises:
      ValueError: there are no classes, or not as many names as classes.
    """
    if not classes:
        raise ValueError(
            f"Task {name!r} has no classes: give Data.options the key 'classes', a list of the records' labels or a "
            "file with one a line (`paligax data build imagenet` writes classes.txt)."
        )
    named = tuple(class_names) or tuple(classes)
    if len(named) != len(classes):
        raise ValueError(
            f"Task {name!r} has {len(classes)} classes and {len(named)} class names; give one name each class, in the "
            "order of the classes (Data.options 'classes' and 'class_names')."
        )
    labels, names = tf.constant(list(classes), tf.string), tf.constant([*named, ""], tf.string)

    @seqio.map_over_dataset
    def classify(example: Example) -> Example:
        found = tf.where(labels == tf.concat([example["labels"], [""]], axis=0)[0])[:, 0]
        index = tf.concat([found, [tf.size(labels, tf.int64)]], axis=0)[0]
        target = tf.gather(names, index)
        example = records.skip_if(example, tf.size(found) == 0, "class is not listed")
        return {
            **example,
            "prompt": tf.constant("Generate the alt_text in en at 0:"),
            "target": target,
            "eval/references": target[None],
            "eval/class": tf.cast(index, tf.int32),
        }

    return add_task(
        name, data, data_dir, "labels", [classify, finish(data)], metrics.METRIC_FNS["exact_match"], references
    )
