"""Detection: the boxes of the classes asked for, as text."""

from collections.abc import Callable, Sequence

import seqio

from paligax import metrics
from paligax.data import Data
from paligax.data.records import skip_if
from paligax.data.runtime import tf
from tasks.objects import Classes, absent, among, named, present
from tasks.ocr import reading_order
from tasks.parts import Example, Lengths, add_task, draw, finish, random_order, shuffled, text_of

BOX_ORDERS = ("shuffled", "reading", "size")


def detection(
    name: str,
    data: Data,
    data_dir: str | None = None,
    classes: Sequence[str] = (),
    num_negatives: tuple[int, int] = (1, 3),
    max_positives: int = 8,
    box_order: str = "shuffled",
    bins: int = 1000,
) -> seqio.Task:
    """`detect <class> and <class> and <class>` → `ymin xmin ymax xmax class …`; one example a record with boxes.

    Classes that are in the image and classes that are not stand mixed in the prompt; the target holds all boxes of the
    former, as far as they fit in whole. An example whose prompt doesn't fit is skipped: boxes of classes that it no
    longer asks for would be wrong.

    Args:
      classes: the class list to sample absent classes from, behind those that the record verifies as absent.
      num_negatives: least and greatest number of absent classes asked for, all numbers equally likely.
      max_positives: at most so many present classes are asked for, a random choice.
      box_order: "shuffled" anew for each example (what Pix2Seq found best; the paper leaves it open), "reading" (top to
        bottom, then left to right) or "size" (greatest area first).
      bins: coordinates are integers 0 … bins - 1: round(c · (bins - 1)).

    Metrics: ap50, ap (IoU 0.5 to 0.95), malformed (share of generated pieces that are no box) and that share by what is
    wrong with them (metrics.PROBLEMS). Generated boxes have no confidence: all are ranked as equals, in the order
    generated.
    """
    if box_order not in BOX_ORDERS:
        raise ValueError(f"box_order {box_order!r} is not known; choose one of {', '.join(BOX_ORDERS)}.")
    low, high = num_negatives
    if not 0 <= low <= high or max_positives < 1:
        raise ValueError(
            "Needed: num_negatives 0 ≤ least ≤ greatest, and max_positives ≥ 1; got num_negatives="
            f"{tuple(num_negatives)} and max_positives={max_positives}."
        )

    def boxes_in(output, example, is_target):
        if is_target:
            return metrics.Boxes(example["boxes"], tuple(text_of(label) for label in example["labels"]))
        return metrics.parse_boxes(output, bins)

    step = detect(Classes(classes), (low, high), max_positives, box_order, bins, Lengths(data))
    return add_task(
        name,
        data,
        data_dir,
        "detection",
        [step, finish(data, sentinel=False, whole_prompt=True)],
        detection_metrics,
        postprocess_fn=boxes_in,
    )


def detection_metrics(targets, predictions):
    return {**metrics.detection(targets, predictions), **metrics.box_problems(targets, predictions)}


def detect(
    classes: Classes, num_negatives: tuple[int, int], max_positives: int, box_order: str, bins: int, lengths: Lengths
) -> Callable:
    @seqio.map_over_dataset
    def step(example: Example) -> Example:
        labels, boxes = example["objects/label"], example["objects/bbox"]
        boxed = named(example) & ~example["objects/verified_absent"] & tf.reduce_all(tf.math.is_finite(boxes), axis=1)
        positives = tf.unique(tf.boolean_mask(labels, boxed)).y
        positives = shuffled(example, "positives", positives)[:max_positives]
        negatives = absent(example, present(example), classes, num_negatives[1])
        negatives = negatives[: draw(example, "negatives", num_negatives[0], num_negatives[1] + 1)]
        asked = shuffled(example, "asked", tf.concat([positives, negatives], axis=0))

        wanted = tf.where(boxed & among(labels, positives))[:, 0]
        labels, boxes = tf.gather(labels, wanted), tf.gather(boxes, wanted)
        if box_order == "reading":
            order = reading_order(boxes)
        elif box_order == "size":
            order = tf.argsort((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), direction="DESCENDING")
        else:
            order = random_order(example, "boxes", tf.size(labels))
        labels, boxes = tf.gather(labels, order), tf.gather(boxes, order)

        corners = tf.clip_by_value(tf.round(boxes * (bins - 1)), 0, bins - 1)
        corners = tf.strings.as_string(tf.cast(corners, tf.int32))
        pieces = tf.strings.reduce_join(tf.concat([corners, labels[:, None]], axis=1), axis=1, separator=" ")
        sizes = lengths.of(pieces)
        example = {
            **example,
            "prompt": tf.strings.join(["detect ", tf.strings.reduce_join(asked, separator=" and ")]),
            "target": tf.strings.reduce_join(pieces[: lengths.fitting(sizes)], separator=" "),
            "whole_length": lengths.whole(sizes),
            "eval/boxes": boxes,
            "eval/labels": labels,
        }
        example = skip_if(example, tf.size(labels) == 0, "no boxes")
        return skip_if(example, example["target"] == "", "box too long")

    return step
