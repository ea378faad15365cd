"""Text alone: XNLI, XQuAD, TyDi QA's gold passages and SuperGLUE, in the forms of T5 and mT5 (arXiv 1910.10683, D).

PaLI is asked these to see that mT5's ability is kept (the paper's section on language understanding). No image is
shown: the visual slot is masked.
"""

from collections.abc import Callable

import seqio

from paligax import metrics
from paligax.data import Data, records
from paligax.data.runtime import tf
from tasks.finetuning.languages import by_language, spoken
from tasks.finetuning.questions import one_of
from tasks.parts import Example, add_task, finish, non_empty, references, stripped

Asked = Callable[[Example], list[str | tf.Tensor]]

# SuperGLUE's forms have their fields in alphabetical order, as T5's. "labels" are a record's further texts.
FORMS: dict[str, Asked] = {
    "boolq": lambda e: ["boolq passage: ", e["text"], " question: ", e["qa/question"]],
    "cb": lambda e: ["cb hypothesis: ", e["qa/question"], " premise: ", e["text"]],
    "copa": lambda e: [
        *("copa choice1: ", e["labels"][0], " choice2: ", e["labels"][1]),
        *(" premise: ", e["text"], " question: ", e["qa/question"]),
    ],
    "rte": lambda e: ["rte hypothesis: ", e["qa/question"], " premise: ", e["text"]],
    "wic": lambda e: [
        *("wic sentence1: ", e["text"], " sentence2: ", e["labels"][0], " word: ", e["qa/question"]),
    ],
    "xnli": lambda e: ["xnli: premise: ", e["text"], " hypothesis: ", e["qa/question"]],
    "squad": lambda e: ["question: ", e["qa/question"], " context: ", e["text"]],
}
# How many "labels" a form speaks of.
PARTS = {"copa": 2, "wic": 1}


def text_task(
    name: str, data: Data, data_dir: str | None = None, form: str = "xnli", metric: str = "exact_match"
) -> seqio.Task:
    """A text with a question or a second text → the answer in words; one example each record.

    Args:
      form: what is asked, a name of FORMS.
      metric: of paligax.metrics.METRIC_FNS, of (references, texts). Where the form is one of many languages (xnli,
        squad), each language is scored apart, and their mean comes first.

    Of several answers to a question (SQuAD's have up to three, often equal), one is drawn as the target, and held out
    all are right. What is too long loses its last words.
    """
    many_languages = form in ("xnli", "squad")
    metric_fn = metrics.METRIC_FNS[metric]
    return add_task(
        name,
        data,
        data_dir,
        "text",
        [ask(form), finish(data, sentinel=False, has_image=False)],
        by_language(metric_fn) if many_languages else metric_fn,
        spoken if many_languages else references,
        has_image=False,
    )


def ask(form: str) -> Callable:
    """The step that writes a prompt of this form, without a sentinel at its end: mT5 met none in these tasks."""

    @seqio.map_over_dataset
    def step(example: Example) -> Example:
        questions = tf.concat([stripped(example["qa/question"]), [""]], axis=0)
        given = non_empty(stripped(example["qa/answer"]))
        parts = PARTS.get(form, 0)
        lacking = (tf.size(example["labels"]) < parts) | (questions[0] == "") | (tf.size(given) == 0)
        asked = {
            **example,
            "qa/question": questions[0],
            "labels": tf.concat([example["labels"], tf.fill([parts], "")], axis=0)[:parts],
        }
        return records.skip_if(
            {
                **example,
                "prompt": tf.strings.join(FORMS[form](asked)),
                "target": one_of(example, given, "drawn"),
                "eval/references": given,
                "eval/lang": example["text_lang"],
            },
            lacking,
            "empty question or answer",
        )

    return step
