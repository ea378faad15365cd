"""What cannot be asked keeps its place; the forms themselves are in test_published.py."""

from tasks.finetuning.text import text_task

SAID = {"text": "He fell.", "text_lang": "de", "image": b""}


def asked(question, answer):
    return {"qa": [{"lang": "de", "question": question, "answer": answer}]}


def test_no_image_and_no_sentinel(data, run, make):
    task = make(text_task, data, form="xnli")
    examples = run(task, data, {**SAID, **asked("He stood.", "contradiction")})
    assert examples.pairs == [("xnli: premise: He fell. hypothesis: He stood.", "contradiction")]
    assert not examples.fields[0]["image"].any() and not examples.fields[0]["image_mask"]
    assert examples.target_values(task) == [("de", ["contradiction"])] and examples.skips == [""]


def test_what_cannot_be_asked(data, run, make):
    nli, copa = make(text_task, data, form="xnli"), make(text_task, data, form="copa")
    for task, record in [
        (nli, {**SAID, **asked(" ", "neutral")}),
        (nli, {**SAID, **asked("He stood.", "")}),
        (nli, SAID),
        (copa, {**SAID, **asked("cause", "choice1"), "labels": ["one"]}),
    ]:
        assert run(task, data, record).skips == ["empty question or answer"]
    assert run(copa, data, {**SAID, **asked("cause", "choice1"), "labels": ["one", "two"]}).skips == [""]
