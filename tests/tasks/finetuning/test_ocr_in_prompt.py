import dataclasses

from tasks.finetuning.questions import questions

ASKED = {
    "qa": [{"lang": "en", "question": "What does it say?", "answer": answer} for answer in ("open", "open", "shut")]
}
STRINGS = [("below", 0.8, 0.0), ("right", 0.1, 0.6), (" ", 0.1, 0.3), ("left", 0.12, 0.0)]


def record(*strings):
    return {**ASKED, "ocr": [{"text": t, "bbox": [y, x, y + 0.1, x + 0.2]} for t, y, x in strings]}


def test_strings_stand_behind_the_question_in_reading_order(data, run, make):
    task = make(questions, data, with_ocr=True)
    (prompt,) = run(task, data, record(*STRINGS)).prompts
    assert prompt == "Answer in EN: What does it say? OCR: left right below <extra_id_0>"
    assert run(task, data, record()).prompts == ["Answer in EN: What does it say? <extra_id_0>"]
    assert run(make(questions, data), data, record(*STRINGS)).prompts == [
        "Answer in EN: What does it say? <extra_id_0>"
    ]


def test_the_last_strings_go_where_there_is_no_room(data, run, make):
    short = dataclasses.replace(data, feature_lengths={**data.feature_lengths, "inputs": 43})
    task = make(questions, short, with_ocr=True)
    assert run(task, short, record(*STRINGS)).prompts == ["Answer in EN: What does it say? OCR: left <extra_id_0>"]


def test_answers_are_weighed_as_people_gave_them(data, run, make):
    examples = run(make(questions, data), data, record(), seeds=200)
    share = examples.targets.count("open") / 200
    assert set(examples.targets) == {"open", "shut"} and 0.58 < share < 0.75
    assert examples.target_values(make(questions, data))[0] == ["open", "open", "shut"]
    assert set(run(make(questions, data, answers="most_frequent"), data, record(), seeds=5).targets) == {"open"}
