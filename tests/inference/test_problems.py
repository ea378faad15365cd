import dataclasses

import numpy as np

from paligax import metrics
from paligax.inference import problems
from paligax.inference.scoring import Answer
from paligax.inference.shown import Shown

LENGTHS = {"image": 16, "inputs": 8, "targets": 4}
ANSWER = Answer(0, Shown("1", "", "", ""), "", "", None, (), True)


def test_what_is_wrong_with_one_example():
    fine = {"input_length": 8, "target_length": 4}
    assert problems.of_example(fine, LENGTHS, "cat", True, "cat") == ()
    assert problems.of_example({}, LENGTHS, "cat", True, "cat") == ()  # a task that doesn't say its lengths
    long = {"input_length": 9, "target_length": 5}
    assert problems.of_example(long, LENGTHS, " ", False, " ") == (
        "targets_too_long",
        "prompts_too_long",
        "answers_cut_off",
        "empty_answers",
    )
    broken = metrics.parse_boxes("1 2 3 cat 10 20 30 40 dog")
    assert problems.of_example(fine, LENGTHS, "…", True, broken) == ("unreadable_boxes",)
    assert problems.of_example({}, {"image": 16, "labels": 3}, "", True, np.zeros(3)) == ()


def test_the_counts_of_a_task():
    boxes = metrics.parse_boxes("1 2 3 cat 10 20 5 40 dog 1 2")
    answers = [
        dataclasses.replace(ANSWER, problems=("unreadable_boxes", "answers_cut_off"), prediction=boxes),
        dataclasses.replace(ANSWER, problems=("answers_cut_off",)),
        dataclasses.replace(ANSWER, has_image=False),
    ]
    counted = problems.count(["broken image", "no image", "no image"])
    assert list(counted.items()) == [("no image", 2), ("broken image", 1)]
    found = problems.summary(answers, counted)
    assert found == {
        "skipped": {"no image": 2, "broken image": 1},
        "targets_too_long": 0,
        "prompts_too_long": 0,
        "answers_cut_off": 2,
        "empty_answers": 0,
        "unreadable_boxes": 1,
        "missing_images": 3,
        "unreadable_pieces": {"cut_off": 1, "reversed": 1, "too_few_coordinates": 1},
    }


def test_tasks_of_text_alone_miss_no_images():
    text = dataclasses.replace(ANSWER, has_image=False)
    assert problems.summary([text, text], {})["missing_images"] == 0
