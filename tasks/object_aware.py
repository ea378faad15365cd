"""Object-aware VQA: questions about which objects are there, made from (automatic, non-exhaustive) object labels."""

from collections.abc import Callable, Sequence

import numpy as np
import seqio

from paligax import metrics
from paligax.data import Data
from paligax.data.records import skip_if
from paligax.data.runtime import tf
from tasks.objects import Classes, absent, present
from tasks.parts import Example, Lengths, add_task, between, dice, finish, random_order, shuffled, text_of

FORMS = ("list", "one", "all", "which")
_BEFORE = (
    "Answer in EN: List the objects present:",
    "Answer in EN: Is ",
    "Answer in EN: Is ",
    "Answer in EN: Which of ",
)
_BEHIND = ("", " in the image?", " in the image?", " are in the image?")


def object_aware(
    name: str,
    data: Data,
    data_dir: str | None = None,
    classes: Sequence[str] = (),
    form_rates: Sequence[float] = (1, 1, 1, 1),
    max_objects: int = 4,
) -> seqio.Task:
    """One of four forms, drawn for each record:

        list    Answer in EN: List the objects present: <extra_id_0>             → o1, …, oN   (in the record's order)
        one     Answer in EN: Is <o> in the image? <extra_id_0>                  → Yes | No
        all     Answer in EN: Is <o1>, …, <oN> in the image? <extra_id_0>        → Yes (all are) | No
        which   Answer in EN: Which of <o1>, …, <oN> are in the image? <extra_id_0>   → the present ones, in that order

    Yes and No are equally likely whatever the record holds, and the number of objects named says nothing about it.
    Absent objects are those that the record verifies as absent, then classes of the list (`objects.absent`).

    Args:
      classes: the class list to sample absent objects from.
      form_rates: how often each form is asked, in the order above. The paper leaves them open.
      max_objects: at most so many objects are named in a question.

    Metrics: exact_match (lists in any order), then exact_match_<form>.
    """
    rates = np.asarray(form_rates, np.float64)
    if rates.shape != (4,) or rates.min() < 0 or not rates.sum():
        raise ValueError(f"form_rates must be four numbers ≥ 0, for {', '.join(FORMS)}; got {form_rates!r}.")
    if max_objects < 2:
        raise ValueError(f"max_objects must be at least 2, one present and one absent; got {max_objects}.")
    step = object_question(Classes(classes), rates / rates.sum(), max_objects, Lengths(data))
    return add_task(
        name, data, data_dir, "objects", [step, finish(data, whole_prompt=True)], object_metrics, form_and_answer
    )


def form_and_answer(output, example, is_target):
    """The target as (form, answer)."""
    return (text_of(example["form"]), text_of(example["answer"])) if is_target else output


def object_metrics(targets, predictions):
    answers = [answer for _, answer in targets]
    found = {"exact_match": metrics.list_match(answers, predictions)}
    for form in FORMS:
        rows = [i for i, target in enumerate(targets) if target[0] == form]
        if rows:
            found[f"exact_match_{form}"] = metrics.list_match(
                [answers[i] for i in rows], [predictions[i] for i in rows]
            )
    return found


def object_question(classes: Classes, rates: np.ndarray, max_objects: int, lengths: Lengths) -> Callable:
    shares = np.cumsum(rates)[:3].astype(np.float32)

    @seqio.map_over_dataset
    def step(example: Example) -> Example:
        here = present(example)
        gone = absent(example, here, classes, max_objects)
        form_die, yes_die, size_die, wrong_die, some_die, others_die = dice(example, "question", 6)
        form = tf.reduce_sum(tf.cast(form_die >= shares, tf.int32))
        is_list, is_one, is_which = form == 0, form == 1, form == 3
        yes = yes_die < 0.5

        # How many present and how many absent objects the question names. "one" and "all" draw their size first, from
        # what the record has, so that it does not give the answer away; "which" draws both numbers.
        most = tf.minimum(tf.size(here), max_objects)
        size = tf.where(is_one, 1, between(size_die, tf.minimum(2, most), most))
        wrong = tf.where(yes, 0, between(wrong_die, 1, tf.minimum(size, tf.size(gone))))
        some = between(some_die, 1, tf.minimum(most, max_objects - 1))
        others = between(others_die, 1, tf.minimum(tf.size(gone), max_objects - some))
        right, wrong = tf.where(is_which, some, size - wrong), tf.where(is_which, others, wrong)

        chosen = shuffled(example, "present", here)[:right]
        named = tf.concat([chosen, gone[:wrong]], axis=0)
        order = random_order(example, "named", tf.size(named))
        named, is_there = tf.gather(named, order), tf.gather(tf.range(tf.size(named)) < tf.size(chosen), order)

        sizes = lengths.of(tf.strings.join([here, ","]))
        everything = join(here[: lengths.fitting(sizes)])
        answers = tf.stack([everything, "", "", join(tf.boolean_mask(named, is_there))])
        answer = tf.where(is_list | is_which, answers[form], tf.where(yes, "Yes", "No"))
        prompt = [tf.constant(_BEFORE)[form], tf.where(is_list, "", join(named)), tf.constant(_BEHIND)[form]]
        example = {
            **example,
            "prompt": tf.strings.join(prompt),
            "target": answer,
            "whole_length": tf.where(is_list, lengths.whole(sizes) - 1, 0),  # no comma behind the last
            "eval/answer": answer,
            "eval/form": tf.constant(FORMS)[form],
        }
        example = skip_if(example, tf.size(here) == 0, "no objects")
        return skip_if(example, (tf.size(gone) == 0) & ~is_list, "no absent classes")

    return step


def join(labels: tf.Tensor) -> tf.Tensor:
    return tf.strings.reduce_join(labels, separator=", ")
