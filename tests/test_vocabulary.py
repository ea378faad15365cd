import io

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from paligax import vocabulary
from paligax.vocabulary import ByteVocabulary, SentencePieceVocabulary


def _model(sentinels_inside: int) -> bytes:
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat is on the mat", "ein haus auf dem berg", "кошка дома"] * 5),
        model_writer=buffer,
        vocab_size=60,
        hard_vocab_limit=False,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(buffer.getvalue())
    for k in reversed(range(sentinels_inside)):
        piece = proto.pieces.add()
        piece.piece, piece.type = f"▁<extra_id_{k}>", piece.USER_DEFINED
    return proto.SerializeToString()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    for name, sentinels in (("inside", 100), ("without", 0)):
        (directory / f"{name}.model").write_bytes(_model(sentinels))
    return directory


def _all(files):
    return [
        SentencePieceVocabulary(str(files / "inside.model")),
        SentencePieceVocabulary(str(files / "without.model"), extra_ids=100),
        ByteVocabulary(extra_ids=100),
    ]


def test_sentinels_count_down_from_the_last_id(files):
    for vocab in _all(files):
        assert vocab.num_sentinels == 100
        assert [vocab.sentinel(k) for k in (0, 1, 99)] == [vocab.size - 1, vocab.size - 2, vocab.size - 100]


def test_sentinels_in_prompts_become_their_ids_and_come_back(files):
    for vocab in _all(files):
        ids = vocab.encode("the cat <extra_id_0> on <extra_id_12>")
        assert ids[-1] == vocab.sentinel(12) and vocab.sentinel(0) in ids
        assert vocab.decode(ids) == "the cat <extra_id_0> on <extra_id_12>"


def test_decoding_stops_at_eos_and_drops_padding(files):
    for vocab in _all(files):
        ids = vocab.encode("the cat")
        assert vocab.decode([*ids, 1, *vocab.encode("mat")]) == "the cat"
        assert vocab.decode([0, *ids, 0, 0]) == "the cat"


def test_bytes_are_offset_by_three():
    assert ByteVocabulary().encode("ab") == [100, 101]
    assert ByteVocabulary().decode(ByteVocabulary().encode("кошка é 漢")) == "кошка é 漢"


def test_a_sentinel_beyond_the_last_names_the_number_there_is():
    with pytest.raises(IndexError, match="<extra_id_5> .* 3 sentinels"):
        ByteVocabulary(extra_ids=3).sentinel(5)


def test_description_round_trip(files):
    for vocab in _all(files):
        assert vocabulary.from_dict(vocab.to_dict()) == vocab
    with pytest.raises(ValueError, match="'Wordpiece' is not known"):
        vocabulary.from_dict({"class": "Wordpiece"})


def test_missing_and_broken_files_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="No sentencepiece model"):
        SentencePieceVocabulary(str(tmp_path / "nothing.model")).encode("a")
    (tmp_path / "broken.model").write_bytes(b"\xff\x00 no model")
    with pytest.raises(ValueError, match="is not a sentencepiece model"):
        SentencePieceVocabulary(str(tmp_path / "broken.model")).encode("a")
