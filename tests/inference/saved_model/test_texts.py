"""The SavedModel's ids and texts are those of paligax.vocabulary."""

import numpy as np
import pytest
import tensorflow as tf

from paligax.inference import rows
from paligax.inference.saved_model import texts
from paligax.vocabulary import ByteVocabulary

PROMPTS = [
    "answer in en: what is there? <extra_id_0>",
    "",
    "<extra_id_1><extra_id_0>",
    "  spaces \u3000 around\t<extra_id_2>\u00a0 and \x1f between <extra_id_007> <extra_id_99> ",
    "é ü 中文 \U0001f600 <extra_id_3>",
    "a red cat and a blue dog " * 9 + "<extra_id_0>",
    "a red cat and a blue dog " * 9,
    "\x85x\u2003",
]


@pytest.fixture(params=["bytes", "bytes without sentinels", "sentencepiece"])
def own(request, sentencepiece_vocabulary):
    chosen = {"bytes": ByteVocabulary(8), "bytes without sentinels": ByteVocabulary(0)}
    return chosen.get(request.param, sentencepiece_vocabulary)


@pytest.mark.parametrize("length", [6, 48])
def test_ids_of_prompts(own, length):
    found = texts.Texts(own).encode(tf.constant(PROMPTS), length)
    for prompt, ids in zip(PROMPTS, found.numpy(), strict=True):
        want = rows.prompt_ids(own, prompt, length)
        assert ids.tolist() == want + [0] * (length - len(want)), prompt


def test_texts_of_any_ids(own):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, own.size + 4, (400, 12), np.int32)
    tokens[::3, 7] = own.sentinel(1) if own.num_sentinels else 5
    tokens[1::3, 4:6] = 1
    if isinstance(own, ByteVocabulary):  # whole letters too, cut ones, and bytes that are none
        tokens[::5, :9] = np.frombuffer("é中\U0001f600".encode(), np.uint8) + 3
    found = [text.decode() for text in texts.Texts(own).decode(tf.constant(tokens)).numpy()]
    assert found == [own.decode(row) for row in tokens]


def test_a_vocabulary_that_tensorflow_has_not_is_refused():
    with pytest.raises(ValueError, match="int has no form in TensorFlow's operations"):
        texts.pieces_of(3)
