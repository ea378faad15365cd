"""Questions that people answered: VQAv2, OK-VQA, TextVQA, ST-VQA, VizWiz-VQA, GQA and xGQA."""

from collections.abc import Callable

import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.finetuning.languages import by_language, spoken
from tasks.finetuning.ocr_in_prompt import append_ocr
from tasks.parts import Example, add_task, draw, finish, non_empty, references, stripped

ANSWERS = ("drawn", "most_frequent")


def questions(
    name: str,
    data: Data,
    data_dir: str | None = None,
    metric: str = "vqa_accuracy",
    with_ocr: bool = False,
    many_languages: bool = False,
    answers: str = "drawn",
) -> seqio.Task:
    """`Answer in EN: <question> <extra_id_0>` → an answer; one example each question, however many answered it.

    Held out, the question is asked once, and the metric gets the answers of all people, repetitions kept.

    Args:
      metric: of paligax.metrics.METRIC_FNS, of (references, texts).
      with_ocr: whether the image's strings stand in the prompt (tasks.finetuning.ocr_in_prompt).
      many_languages: the metric of each language of the questions apart, and their mean.
      answers: "drawn": each time that a question comes, one person's answer is the target, so that answers are learnt
        as often as they were given; "most_frequent": always the one that most people gave, of several the first. The
        paper doesn't say.

    Raises:
      ValueError: for another choice of answers.
    """
    if answers not in ANSWERS:
        raise ValueError(f"answers={answers!r} is not known; choose one of {', '.join(ANSWERS)}.")
    steps = [answer(answers), *([append_ocr] if with_ocr else []), finish(data)]
    metric_fn = metrics.METRIC_FNS[metric]
    if many_languages:
        metric_fn = by_language(metric_fn)
    postprocess = spoken if many_languages else references
    return add_task(name, data, data_dir, "question", steps, metric_fn, postprocess)


def answer(answers: str) -> Callable:
    @seqio.map_over_dataset
    def step(example: Example) -> Example:
        example = records.pick_question(example)
        question, given = stripped(example["qa/question"]), non_empty(stripped(example["qa/answer"]))
        return records.skip_if(
            {
                **example,
                "prompt": tf.strings.join(["Answer in EN: ", question]),
                "target": one_of(example, given, answers),
                "eval/references": given,
                "eval/lang": example["qa/lang"],
            },
            (question == "") | (tf.size(given) == 0),
            "empty question or answer",
        )

    return step


def one_of(example: Example, given: tf.Tensor, answers: str) -> tf.Tensor:
    """string[n] → string scalar: one of people's answers, see ``questions``; "" where there is none."""
    if answers == "drawn":
        return tf.gather(tf.concat([given, [""]], axis=0), draw(example, "answer", 0, tf.size(given)))
    counted = tf.unique_with_counts(tf.concat([given, [""]], axis=0))
    count = counted.count - tf.cast(counted.y == "", tf.int32)
    return tf.gather(counted.y, tf.argmax(count))
