"""Captioning and SplitCap: prompts and targets, word for word."""

import dataclasses

import pytest

from tasks.captioning import captioning, split_cap

RECORD = {
    "alt_text": [
        {"lang": "en", "text": " a red cat "},
        {"lang": "de", "text": "eine rote Katze"},
        {"lang": "en", "text": "cat on a sofa"},
        {"lang": "ja", "text": "赤い猫"},
        {"lang": "en", "text": "  "},
    ]
}


def test_captioning(data, run, make):
    task = make(captioning, data)
    examples = run(task, data, RECORD, item=0)
    assert examples.pairs == [("Generate the alt_text in en at 0: <extra_id_0>", "a red cat")]
    assert examples.skips == [""]
    assert run(task, data, RECORD, item=1).pairs == [
        ("Generate the alt_text in de at 0: <extra_id_0>", "eine rote Katze")
    ]


def test_every_alt_text_of_the_language_is_a_right_answer(data, run, make):
    task = make(captioning, data)
    (references,) = run(task, data, RECORD, item=2).target_values(task)
    assert references == ["a red cat", "cat on a sofa"]
    (metric,) = task.metric_fns
    scores = metric([references, ["x"]], ["a red cat", "y"])
    assert list(scores) == ["token_f1", "cider"]
    assert scores["token_f1"] == 0.5


def test_split_cap_cuts_anywhere_but_leaves_something_to_say(data, run, make):
    pairs = run(make(split_cap, data), data, RECORD, item=0, seeds=60).pairs
    assert set(pairs) == {
        ("Generate the alt_text in en at 0: <extra_id_0>", "a red cat"),
        ("Generate the alt_text in en at 1: a <extra_id_0>", "red cat"),
        ("Generate the alt_text in en at 2: a red <extra_id_0>", "cat"),
    }
    for pair in set(pairs):
        assert 9 <= pairs.count(pair) <= 31  # 20 ± 3 sigma


def test_split_cap_in_a_script_without_spaces_counts_characters(data, run, make):
    assert set(run(make(split_cap, data), data, RECORD, item=3, seeds=30).pairs) == {
        ("Generate the alt_text in ja at 0: <extra_id_0>", "赤い猫"),
        ("Generate the alt_text in ja at 1: 赤 <extra_id_0>", "い猫"),
        ("Generate the alt_text in ja at 2: 赤い <extra_id_0>", "猫"),
    }


def test_a_language_that_nobody_knows(data, run, make):
    record = {"alt_text": [{"lang": "", "text": "kato"}, {"lang": "tlh", "text": "vIghro"}]}
    task = make(captioning, data)
    assert run(task, data, record, item=0).prompts == ["Generate the alt_text in und at 0: <extra_id_0>"]
    assert run(task, data, record, item=1).prompts == ["Generate the alt_text in tlh at 0: <extra_id_0>"]
    assert run(make(split_cap, data), data, record, item=0).prompts == [
        "Generate the alt_text in und at 0: <extra_id_0>"
    ]


def test_one_language_alone(data, run, make):
    task = make(captioning, data, languages=("en",))
    assert task.source.items == "alt_text:en"
    assert run(task, data, RECORD, item=1).targets == ["cat on a sofa"]  # the second English one
    assert run(task, data, RECORD, item=3).skips == ["no alt_text"]
    both = make(split_cap, data, languages=("de", "ja"))
    assert both.source.items == "alt_text:de+ja"
    assert {pair[1] for pair in run(both, data, RECORD, item=1, seeds=30).pairs} == {"赤い猫", "い猫", "猫"}


def test_split_cap_is_scored_against_the_true_continuation(data, run, make):
    task = make(split_cap, data)
    examples = run(task, data, RECORD, item=1, seeds=5)
    assert examples.target_values(task) == [[target] for target in examples.targets]


@pytest.mark.parametrize("factory", [captioning, split_cap])
def test_what_cannot_be_used_keeps_its_place(data, run, factory, make):
    task = make(factory, data)
    for record, item, reason in [
        (RECORD, 4, "empty alt_text"),
        (RECORD, 5, "no alt_text"),
        ({}, 0, "no alt_text"),
        (RECORD | {"image": b""}, 0, "no image"),
    ]:
        assert run(task, data, record, item=item).skips == [reason]


def test_a_beginning_too_long_loses_its_first_words(data, run, make):
    data = dataclasses.replace(data, feature_lengths={**data.feature_lengths, "inputs": 45})
    record = {"alt_text": [{"lang": "en", "text": "alpha beta gamma delta epsilon"}]}
    assert set(run(make(split_cap, data), data, record, seeds=40).pairs) == {
        ("Generate the alt_text in en at 0: <extra_id_0>", "alpha beta gamma delta epsilon"),
        ("Generate the alt_text in en at 1: alpha <extra_id_0>", "beta gamma delta epsilon"),
        ("Generate the alt_text in en at 2: lpha beta <extra_id_0>", "gamma delta epsilon"),
        ("Generate the alt_text in en at 3: eta gamma <extra_id_0>", "delta epsilon"),
        ("Generate the alt_text in en at 4: mma delta <extra_id_0>", "epsilon"),
    }
