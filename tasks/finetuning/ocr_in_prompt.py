"""The strings that stand in an image, appended to what is asked about it.

PaLI does so for TextCaps, VizWiz-Captions, TextVQA, VizWiz-VQA and ST-VQA (section 4), with the strings of an automatic
service. The form is open; here it is

    Answer in EN: <question> OCR: <string> <string> … <extra_id_0>

in reading order (tasks.ocr). Nothing is appended where there are no strings, and the last ones go where the prompt is
too long.
"""

import seqio

from paligax.data.runtime import tf
from tasks.ocr import reading_order
from tasks.parts import Example, stripped

MARK = " OCR: "


@seqio.map_over_dataset
def append_ocr(example: Example) -> Example:
    """The step behind one that wrote "prompt"."""
    texts = stripped(example["ocr/text"])
    chosen = tf.where(texts != "")[:, 0]
    order = reading_order(tf.gather(example["ocr/bbox"], chosen))
    joined = tf.strings.reduce_join(tf.gather(tf.gather(texts, chosen), order), separator=" ")
    ending = tf.where(joined == "", "", tf.strings.join([MARK, joined]))
    return {**example, "prompt": tf.strings.join([example["prompt"], ending])}
