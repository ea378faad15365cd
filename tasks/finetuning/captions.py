"""Captions of people: COCO, TextCaps, NoCaps, VizWiz-Captions in English; COCO-35L and XM3600 in many languages."""

import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.finetuning.languages import by_language, spoken
from tasks.finetuning.ocr_in_prompt import append_ocr
from tasks.parts import Example, add_task, draw, finish, non_empty, or_und, references, stripped


def captions(
    name: str, data: Data, data_dir: str | None = None, with_ocr: bool = False, many_languages: bool = False
) -> seqio.Task:
    """`Generate the alt_text in <lang> at 0: <extra_id_0>` → a caption; one example each image and language.

    The prompt is pretraining's. Each time that an image comes, one of its captions is drawn as the target. Held out,
    all captions of the image in that language are right, and each image is asked once.

    Args:
      with_ocr: whether the image's strings stand in the prompt (tasks.finetuning.ocr_in_prompt).
      many_languages: CIDEr of each language apart, and their mean ("mean_cider", "cider_de", …); words as
        paligax.metrics.words has them, also in scripts without blanks. Else English, scored as the COCO caption scorer
        does: cider, bleu_1 … bleu_4, rouge_l.
    """
    steps = [caption, *([append_ocr] if with_ocr else []), finish(data)]
    metric_fn = metrics.METRIC_FNS["coco_captions"]
    if many_languages:
        metric_fn = by_language(metrics.METRIC_FNS["cider"])
    postprocess = spoken if many_languages else references
    return add_task(name, data, data_dir, "alt_text_lang", steps, metric_fn, postprocess)


@seqio.map_over_dataset
def caption(example: Example) -> Example:
    example, lang = records.pick_language(example, "alt_text")
    texts = non_empty(tf.boolean_mask(stripped(example["alt_text/text"]), example["alt_text/lang"] == lang))
    count = tf.size(texts)
    target = tf.gather(tf.concat([texts, [""]], axis=0), draw(example, "caption", 0, count))
    return records.skip_if(
        {
            **example,
            "prompt": tf.strings.join(["Generate the alt_text in ", or_und(lang), " at 0:"]),
            "target": target,
            "eval/references": texts,
            "eval/lang": lang,
        },
        count == 0,
        "empty alt_text",
    )
