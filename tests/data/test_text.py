import numpy as np
import pytest

from paligax.data import text
from paligax.data.runtime import tf
from paligax.vocabulary import ByteVocabulary, SentencePieceVocabulary


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    import sentencepiece

    directory = tmp_path_factory.mktemp("vocabulary")
    words = "answer in en what is the question generate alt_text at red blue cat dog übergröße 赤い 猫 кот"
    lines = [" ".join(np.random.default_rng(i).permutation(words.split())) for i in range(200)]
    (directory / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.Train(
        input=str(directory / "text.txt"),
        model_prefix=str(directory / "pieces"),
        vocab_size=320,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        byte_fallback=True,
        hard_vocab_limit=False,
        user_defined_symbols=[f"▁<extra_id_{k}>" for k in reversed(range(20))],
        minloglevel=2,
    )
    return SentencePieceVocabulary(str(directory / "pieces.model"))


@pytest.fixture(params=["bytes", "pieces"])
def vocabulary(request):
    return ByteVocabulary(20) if request.param == "bytes" else request.getfixturevalue("pieces")


SENTENCES = [
    "what is the red cat",
    "Answer in EN: what is it? <extra_id_0>",
    "  spaced   out  ",
    "<extra_id_0> red <extra_id_1> cat<extra_id_2>dog <extra_id_3><extra_id_4>",
    "übergröße 赤い猫 кот",
    "",
    "<extra_id_0>",
    "no such <extra_id_99>",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_graph_and_host_give_the_same_ids(vocabulary, sentence):
    if "99" in sentence and isinstance(vocabulary, SentencePieceVocabulary):
        pytest.skip("a file's sentinels are its own")
    if sentence == "  spaced   out  " and isinstance(vocabulary, ByteVocabulary):
        assert vocabulary.encode(sentence) == vocabulary.encode("spaced   out")
    theirs = text.seqio_vocabulary(vocabulary)
    assert theirs.encode_tf(tf.constant(sentence)).numpy().tolist() == vocabulary.encode(sentence)
    assert theirs.encode(sentence) == vocabulary.encode(sentence)
    assert theirs.decode(vocabulary.encode(sentence)) == vocabulary.decode(vocabulary.encode(sentence))


def test_seqio_sees_size_and_special_ids(vocabulary):
    theirs = text.seqio_vocabulary(vocabulary)
    assert theirs.vocab_size == vocabulary.size and theirs.eos_id == 1 and theirs.pad_id == 0
    assert theirs is text.seqio_vocabulary(vocabulary)


def test_named_choices_are_independent_and_repeatable():
    seed = tf.constant([1, 2])
    assert (text.fold(seed, "a").numpy() == text.fold(seed, "a").numpy()).all()
    assert (text.fold(seed, "a").numpy() != text.fold(seed, "b").numpy()).any()
    indices = [int(text.random_index(tf.constant([i, 0]), 4)) for i in range(200)]
    assert set(indices) == {0, 1, 2, 3} and max(np.bincount(indices)) < 80
    assert int(text.random_index(seed, 0)) == 0
    assert sorted(text.random_order(seed, 9).numpy()) == list(range(9))
    assert 0 <= float(text.random_uniform(seed)) < 1


@pytest.mark.parametrize("length", [2, 3, 10, 64, 500])
def test_corrupted_spans_give_the_text_back(length):
    vocabulary = ByteVocabulary(20)
    ids = np.arange(3, 3 + length) % 256 + 3
    inputs, targets = text.corrupt_spans(tf.constant(ids, tf.int32), tf.constant([length, 7]), vocabulary)
    inputs, targets = inputs.numpy(), targets.numpy()
    sentinels = [i for i in inputs if i >= 259]
    assert sentinels == [vocabulary.sentinel(k) for k in range(len(sentinels))]
    spans, restored = {}, []
    for i in targets:
        if i >= 259:
            spans[i] = []
            last = i
        else:
            spans[last].append(i)
    for i in inputs:
        restored += spans[i] if i >= 259 else [i]
    assert restored == ids.tolist() and all(spans.values()) and list(spans) == sentinels
    noise = len(targets) - len(sentinels)
    assert noise == min(max(round(0.15 * length), 1), length - 1)
    assert len(sentinels) == min(max(round(noise / 3), 1), 20)


def test_span_corruption_follows_the_seed():
    ids = tf.range(3, 103)

    def corrupted(*seed):
        return text.corrupt_spans(ids, tf.constant(seed), ByteVocabulary())[0].numpy().tolist()

    assert corrupted(1, 1) == corrupted(1, 1) != corrupted(1, 2)


def test_too_little_text_is_left_alone():
    for n in (0, 1):
        inputs, targets = text.corrupt_spans(tf.range(5, 5 + n), tf.constant([0, 0]), ByteVocabulary())
        assert inputs.numpy().tolist() == list(range(5, 5 + n)) and targets.shape == (0,)
