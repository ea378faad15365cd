"""Classification pretraining of the ViT: image → which classes are there."""

from collections.abc import Sequence

import numpy as np
import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.objects import Classes, present
from tasks.parts import Example, add_task, carried, picture, random_part

CROPS = ("none", "inception")


def classification(
    name: str, data: Data, classes: Sequence[str], data_dir: str | None = None, crop: str = "none"
) -> seqio.Task:
    """Image → labels float32[C], 1 for every class among the record's object labels and its further labels.

    Args:
      classes: the class list; its order is that of the model's outputs.
      crop: "none" shows the whole image; "inception" in training a random part of it (paligax.image.inception_window).
        PaLI's ViT-e is cooled down once with each (section 3.1). Held-out images are always whole.

    Metrics: mean_average_precision, precision_at_1; predictions are float[C], logits or probabilities.

    Raises:
      ValueError: the class list is not as long as feature_lengths["labels"], or the crop is not known.
    """
    if crop not in CROPS:
        raise ValueError(f"Task {name!r}: crop={crop!r} is not known; known: {', '.join(CROPS)}.")
    shown = random_part if crop == "inception" and data.split == "train" else picture
    listed = Classes(classes)
    wanted = data.feature_lengths["labels"]
    if len(listed) != wanted:
        raise ValueError(
            f"Task {name!r} has {len(listed)} classes, but TASK_FEATURE_LENGTHS['labels'] is {wanted}; make them equal."
        )

    @seqio.map_over_dataset
    def classify(example: Example) -> Example:
        labels = listed.multi_hot(tf.concat([present(example), example["labels"]], axis=0))
        example = records.skip_if(example, example["image"] == "", "no image")
        image = shown(example, data.feature_lengths["image"])
        return {"image": image, "labels": labels, "eval/labels": labels, **carried(example)}

    return add_task(name, data, data_dir, "labels", [classify], label_metrics, labels_in)


def labels_in(output, example, is_target):
    return np.asarray(example["labels"] if is_target else output, np.float32)


def label_metrics(targets, predictions):
    targets, predictions = np.stack(targets), np.stack(predictions)
    return {
        "mean_average_precision": metrics.mean_average_precision(targets, predictions),
        "precision_at_1": metrics.precision_at_1(targets, predictions),
    }
