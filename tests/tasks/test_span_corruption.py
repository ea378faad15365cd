"""Span corruption: what is left and what is asked for make the text again."""

import dataclasses
import re

import pytest

from tasks.span_corruption import longest_text, span_corruption

TEXT = "a red cat sits on a green sofa beside two dogs 0 1 2 3 4 5 6 7 8 9 10 250 500 999"


def _joined(inputs, targets, vocabulary):
    """The ids of the text before corruption: each sentinel of the inputs replaced by its span."""
    sentinels = {vocabulary.sentinel(k) for k in range(vocabulary.num_sentinels)}
    spans, current = {}, None
    for token in targets[:-1]:
        if token in sentinels:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [t for token in inputs[:-1] for t in (spans[token] if token in sentinels else [token])]


def test_inputs_and_targets_make_the_text(data, run, vocabulary, make):
    data = dataclasses.replace(data, vocabulary=vocabulary)
    task = make(span_corruption, data)
    examples = run(task, data, {"text": TEXT, "image": b""}, seeds=10)
    ids = vocabulary.encode(TEXT)
    holes = set()
    for fields in examples.fields:
        inputs, targets = fields["inputs"].tolist(), fields["targets"].tolist()
        assert fields["skip"] == b"" and not fields["image_mask"] and not fields["image"].any()
        assert inputs[-1] == targets[-1] == vocabulary.eos_id
        assert _joined(inputs, targets, vocabulary) == ids
        spans = round(round(len(ids) * 0.15) / 3)
        sentinels = [vocabulary.sentinel(k) for k in range(spans)]
        assert [t for t in inputs if t in sentinels] == [t for t in targets if t in sentinels] == sentinels
        assert len(targets) == round(len(ids) * 0.15) + spans + 1
        assert inputs[0] not in sentinels and inputs[-2] == sentinels[-1]  # text first, a hole last
        holes.add(tuple(targets))
    assert len(holes) == 10


def test_a_reader_sees(data, run, sentencepiece_files, make):
    from paligax.vocabulary import SentencePieceVocabulary

    data = dataclasses.replace(data, vocabulary=SentencePieceVocabulary(sentencepiece_files[0]))
    (pair,) = run(make(span_corruption, data), data, {"text": TEXT}).pairs
    assert re.fullmatch(r"a.*<extra_id_0>.*<extra_id_1>.*", pair[0])
    assert re.fullmatch(r"<extra_id_0> .* <extra_id_1> .*", pair[1])


def test_a_long_text_is_cut_to_the_lengths(data, run, make):
    data = dataclasses.replace(data, feature_lengths={"image": 16, "inputs": 40, "targets": 12})
    task = make(span_corruption, data)
    pieces = set()
    for fields in run(task, data, {"text": "0123456789" * 30}, seeds=10).fields:
        assert len(fields["inputs"]) <= 40 and len(fields["targets"]) <= 12
        assert fields["inputs"][-1] == fields["targets"][-1] == 1
        piece = _joined(fields["inputs"].tolist(), fields["targets"].tolist(), data.vocabulary)
        assert len(piece) == longest_text(40, 12, 0.15, 3.0)
        pieces.add(piece[0])
    assert len(pieces) > 3  # from anywhere in the text


def test_longest_text_as_in_t5():
    # T5: inputs 512 take raw text of 568 tokens and targets of 114 (random_spans_helper of t5.data.preprocessors)
    assert longest_text(512, 10_000, 0.15, 3.0) == 568
    assert longest_text(512, 114, 0.15, 3.0) == 568
    assert longest_text(512, 113, 0.15, 3.0) < 568


def test_what_cannot_be_used_keeps_its_place(data, run, make):
    task = make(span_corruption, data)
    assert run(task, data, {"text": "x"}).skips == ["text too short"]
    assert run(task, data, {"text": ""}).skips == ["text too short"]
    assert run(task, data, {"text": "xy"}).skips == [""]


def test_texts_of_one_language(data, run, make):
    task = make(span_corruption, data, languages=("en",))
    assert task.source.items == "text:en"
    for lang, reason in (("en", ""), ("de", "other language"), ("", "other language")):
        assert run(task, data, {"text": TEXT, "text_lang": lang}).skips == [reason]


def test_metrics(data, run, make):
    task = make(span_corruption, data)
    (metric,) = task.metric_fns
    examples = run(task, data, {"text": TEXT}, seeds=3)
    targets = examples.target_values(task)
    right = [task.postprocess_fn(text, example={}, is_target=False) for text in examples.targets]
    assert metric(targets, right) == {"token_accuracy": 1.0, "span_accuracy": 1.0}
    assert 0.6 < metric(targets, [[], *right[1:]])["token_accuracy"] < 0.7
    assert list(metric(targets, right)) == ["token_accuracy", "span_accuracy"]


def test_mistakes_are_told(data, make):
    with pytest.raises(ValueError, match="noise_density=0"):
        make(span_corruption, data, noise_density=0)
    none = dataclasses.replace(data, vocabulary=dataclasses.replace(data.vocabulary, extra_ids=0))
    with pytest.raises(ValueError, match="set its extra_ids to 100"):
        make(span_corruption, none)
