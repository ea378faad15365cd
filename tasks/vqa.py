"""Questions about images: answering them (VQA), and asking them for a given answer (VQG)."""

from collections.abc import Sequence

import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.parts import Example, add_task, finish, non_empty, or_und, references, stripped


def vqa(name: str, data: Data, data_dir: str | None = None, languages: Sequence[str] = ()) -> seqio.Task:
    """`Answer in EN: <question> <extra_id_0>` → the English answer; questions in any language, one example each.

    The answer is the record's, which is English whatever the question's language. Held out, every answer that the
    record gives to the same question is right. Metrics: exact_match, token_f1.

    Args:
      languages: as for tasks.parts.add_task; of the questions.
    """
    return add_task(name, data, data_dir, "qa", [answer, finish(data)], qa_metrics, references, languages=languages)


def vqg(name: str, data: Data, data_dir: str | None = None, languages: Sequence[str] = ()) -> seqio.Task:
    """`Generate a question in <lang> for <answer>: <extra_id_0>` → the question; one example each question.

    Held out, every question of the image in that language with that answer is right. Metrics: exact_match, token_f1.

    Args:
      languages: as for tasks.parts.add_task; of the questions.
    """
    return add_task(name, data, data_dir, "qa", [ask, finish(data)], qa_metrics, references, languages=languages)


def qa_metrics(targets, predictions):
    return {
        "exact_match": metrics.exact_match(targets, predictions),
        "token_f1": metrics.token_f1(targets, predictions),
    }


@seqio.map_over_dataset
def answer(example: Example) -> Example:
    questions, langs, answers = example["qa/question"], example["qa/lang"], stripped(example["qa/answer"])
    example = records.pick(example, "qa")
    question, target = stripped(example["qa/question"]), stripped(example["qa/answer"])
    same = (questions == example["qa/question"]) & (langs == example["qa/lang"])
    return records.skip_if(
        {
            **example,
            "prompt": tf.strings.join(["Answer in EN: ", question]),
            "target": target,
            "eval/references": non_empty(tf.boolean_mask(answers, same)),
        },
        (question == "") | (target == ""),
        "empty question or answer",
    )


@seqio.map_over_dataset
def ask(example: Example) -> Example:
    questions, langs, answers = stripped(example["qa/question"]), example["qa/lang"], example["qa/answer"]
    example = records.pick(example, "qa")
    lang = or_und(example["qa/lang"])
    question, given = stripped(example["qa/question"]), stripped(example["qa/answer"])
    same = (answers == example["qa/answer"]) & (langs == example["qa/lang"])
    return records.skip_if(
        {
            **example,
            "prompt": tf.strings.join(["Generate a question in ", lang, " for ", given, ":"]),
            "target": question,
            "eval/references": non_empty(tf.boolean_mask(questions, same)),
        },
        (question == "") | (given == ""),
        "empty question or answer",
    )
