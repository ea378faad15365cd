"""OCR: the texts that can be read in the image."""

from collections.abc import Callable, Collection, Sequence

import seqio

from paligax import metrics
from paligax.data import Data
from paligax.data.records import pick_language, skip_if
from paligax.data.runtime import tf
from tasks.parts import Example, Lengths, add_task, finish, random_order, references, stripped


def ocr(
    name: str,
    data: Data,
    data_dir: str | None = None,
    unseen_words: Collection[str] = frozenset(),
    languages: Sequence[str] = (),
) -> seqio.Task:
    """`Generate the ocr_text in <lang>: <extra_id_0>` → the strings in `<lang>`; one example each language of a record.

    Strings stand in reading order: lines from top to bottom, each from left to right (the paper leaves the order open).
    Where they don't all fit into the targets, whole strings are dropped at random. Strings without a language belong to
    no example: where it is unknown, ingest writes "und".

    Args:
      unseen_words: words that training never shows; their character error rate is told apart.
      languages: as for tasks.parts.add_task.

    Metrics: character_error_rate, then …_seen and …_unseen where `unseen_words` are given.
    """

    def ocr_metrics(targets, predictions):
        return metrics.character_error_rate([target for (target,) in targets], predictions, unseen_words)

    steps = [ocr_text(Lengths(data)), finish(data)]
    return add_task(name, data, data_dir, "ocr_lang", steps, ocr_metrics, references, languages=languages)


def ocr_text(lengths: Lengths) -> Callable:
    @seqio.map_over_dataset
    def step(example: Example) -> Example:
        example, lang = pick_language(example, "ocr")
        texts = stripped(example["ocr/text"])
        chosen = tf.where((example["ocr/lang"] == lang) & (texts != ""))[:, 0]
        order = reading_order(tf.gather(example["ocr/bbox"], chosen))
        texts = tf.gather(tf.gather(texts, chosen), order)
        sizes = lengths.of(texts)
        kept = lengths.fitting_by(random_order(example, "ocr", tf.size(texts)), sizes)
        target = tf.strings.reduce_join(tf.boolean_mask(texts, kept), separator=" ")
        example = {
            **example,
            "prompt": tf.strings.join(["Generate the ocr_text in ", lang, ":"]),
            "target": target,
            "whole_length": lengths.whole(sizes),
            "eval/references": target[None],
        }
        example = skip_if(example, tf.size(texts) == 0, "no ocr text")
        return skip_if(example, target == "", "ocr text too long")

    return step


def reading_order(boxes: tf.Tensor) -> tf.Tensor:
    """float32[n, 4] → int32[n]: order of reading, lines from top to bottom and each from left to right.

    Going down by the boxes' middles, a new line begins where the middle lies more than half a height (of the smaller
    box) below the one before.

        one   two          boxes 2, 1 and 3 make two lines although "two" is the highest:
           three           read "one two three"
    """
    boxes = tf.where(tf.math.is_nan(boxes), 0.0, boxes)  # no box: keeps its place at the start
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    height = boxes[:, 2] - boxes[:, 0]
    down = tf.argsort(middle, stable=True)
    middle, height = tf.gather(middle, down), tf.gather(height, down)
    breaks = middle[1:] - middle[:-1] > tf.minimum(height[1:], height[:-1]) / 2
    line = tf.concat([[0], tf.cumsum(tf.cast(breaks, tf.int32))], axis=0)[: tf.size(middle)]
    # xmin is in [0, 1], so that the line decides first.
    across = tf.argsort(2.0 * tf.cast(line, tf.float32) + tf.gather(boxes[:, 1], down), stable=True)
    return tf.gather(down, across)
