"""VQA and VQG: prompts and targets, word for word."""

from tasks.vqa import vqa, vqg

RECORD = {
    "qa": [
        {"lang": "en", "question": "What is on the sofa?", "answer": "cat"},
        {"lang": "de", "question": "Was ist auf dem Sofa? ", "answer": "cat"},
        {"lang": "en", "question": "What animal is there?", "answer": "cat"},
        {"lang": "en", "question": "What is on the sofa?", "answer": "a red cat"},
        {"lang": "en", "question": "", "answer": "cat"},
        {"lang": "en", "question": "What else?", "answer": " "},
    ]
}


def test_vqa(data, run, make):
    task = make(vqa, data)
    examples = run(task, data, RECORD, item=0)
    assert examples.pairs == [("Answer in EN: What is on the sofa? <extra_id_0>", "cat")]
    assert examples.target_values(task) == [["cat", "a red cat"]]  # both answers to this question
    examples = run(task, data, RECORD, item=1)
    assert examples.pairs == [("Answer in EN: Was ist auf dem Sofa? <extra_id_0>", "cat")]
    assert examples.target_values(task) == [["cat"]]


def test_vqg(data, run, make):
    task = make(vqg, data)
    examples = run(task, data, RECORD, item=0)
    assert examples.pairs == [("Generate a question in en for cat: <extra_id_0>", "What is on the sofa?")]
    # every English question of the image with the answer "cat"
    assert examples.target_values(task)[0][:2] == ["What is on the sofa?", "What animal is there?"]
    assert run(task, data, RECORD, item=1).pairs == [
        ("Generate a question in de for cat: <extra_id_0>", "Was ist auf dem Sofa?")
    ]


def test_questions_of_one_language(data, run, make):
    for factory, target in ((vqa, "cat"), (vqg, "Was ist auf dem Sofa?")):
        task = make(factory, data, languages=("de",))
        assert task.source.items == "qa:de"
        assert run(task, data, RECORD, item=0).targets == [target]
        assert run(task, data, RECORD, item=1).skips == ["no qa"]


def test_metrics(data, make):
    (metric,) = make(vqa, data).metric_fns
    scores = metric([["cat", "a red cat"], ["two"]], ["A red cat", "three"])
    assert list(scores.items()) == [("exact_match", 0.5), ("token_f1", 0.5)]


def test_what_cannot_be_used_keeps_its_place(data, run, make):
    for task in (make(vqa, data), make(vqg, data)):
        for item, reason in [(3, ""), (4, "empty question or answer"), (5, "empty question or answer"), (6, "no qa")]:
            assert run(task, data, RECORD, item=item).skips == [reason]
        assert run(task, data, RECORD | {"image": b""}).skips == ["no image"]
