"""Captions: the whole alt-text from the image (captioning), or its rest from image and beginning (SplitCap)."""

from collections.abc import Sequence

import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.languages import WORD
from tasks.parts import Example, add_task, draw, finish, non_empty, or_und, references, stripped


def captioning(name: str, data: Data, data_dir: str | None = None, languages: Sequence[str] = ()) -> seqio.Task:
    """`Generate the alt_text in <lang> at 0: <extra_id_0>` → the alt-text; one example each alt-text.

    Held out, every alt-text of the image in that language is a right answer. Metrics: token_f1, cider.

    Args:
      languages: as for tasks.parts.add_task.
    """
    steps = [caption, finish(data)]
    return add_task(name, data, data_dir, "alt_text", steps, caption_metrics, references, languages=languages)


def split_cap(name: str, data: Data, data_dir: str | None = None, languages: Sequence[str] = ()) -> seqio.Task:
    """`Generate the alt_text in <lang> at <pos>: <cap1> <extra_id_0>` → `<cap2>`; one example each alt-text.

    The alt-text is cut before one of its words, each equally likely; `<pos>` is the number of words in `<cap1>`, 0
    allowed. What a word is, also in scripts without blanks, stands at tasks.languages.WORD. A `<cap1>` too long for the
    input loses its first words. Metrics: token_f1, cider.

    Args:
      languages: as for tasks.parts.add_task.
    """
    steps = [split_caption, finish(data)]
    return add_task(name, data, data_dir, "alt_text", steps, caption_metrics, references, languages=languages)


def caption_metrics(targets, predictions):
    return {
        "token_f1": metrics.token_f1(targets, predictions),
        "cider": metrics.cider(targets, predictions),
    }


@seqio.map_over_dataset
def caption(example: Example) -> Example:
    all_texts, all_langs = stripped(example["alt_text/text"]), example["alt_text/lang"]
    example = records.pick(example, "alt_text")
    lang, target = example["alt_text/lang"], stripped(example["alt_text/text"])
    return records.skip_if(
        {
            **example,
            "prompt": tf.strings.join(["Generate the alt_text in ", or_und(lang), " at 0:"]),
            "target": target,
            "eval/references": non_empty(tf.boolean_mask(all_texts, all_langs == lang)),
        },
        target == "",
        "empty alt_text",
    )


@seqio.map_over_dataset
def split_caption(example: Example) -> Example:
    example = records.pick(example, "alt_text")
    words = words_of(stripped(example["alt_text/text"]))
    count = tf.size(words)
    position = draw(example, "split", 0, tf.maximum(count, 1))
    lang, place = or_und(example["alt_text/lang"]), tf.strings.as_string(position)
    target = stripped(tf.strings.reduce_join(words[position:]))
    return records.skip_if(
        {
            **example,
            "prompt_head": tf.strings.join(["Generate the alt_text in ", lang, " at ", place, ":"]),
            "prompt": stripped(tf.strings.reduce_join(words[:position])),
            "target": target,
            "eval/references": target[None],
        },
        count == 0,
        "empty alt_text",
    )


def words_of(caption: tf.Tensor) -> tf.Tensor:
    """string scalar → string[n]: its words (tasks.languages.WORD), each with the blanks behind it.

    Joined they are the caption again: "a red 赤い car" → ["a ", "red ", "赤", "い ", "car"].
    """
    marked = tf.strings.regex_replace(caption, WORD, "\\0\x1f")
    words = tf.strings.split(marked, "\x1f")
    return words[:-1]  # what follows the last mark is empty
