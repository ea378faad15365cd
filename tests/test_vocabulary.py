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


def _of_size(words: int, sentinels: int) -> bytes:
    """A file like mT5's or T5's: control pieces, ``words`` pieces in all, then sentinels, the last of them number 0."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(_model(0))
    known = {piece.piece for piece in proto.pieces}
    for i in range(words - len(proto.pieces)):
        piece = proto.pieces.add()
        piece.piece, piece.score = f"w{i}", -100.0 - i
    assert len(proto.pieces) == words and len(known) < words
    for k in reversed(range(sentinels)):
        piece = proto.pieces.add()
        piece.piece, piece.type = f"▁<extra_id_{k}>", piece.USER_DEFINED
    return proto.SerializeToString()


def test_mt5s_and_t5s_files_at_their_full_sizes_fit_their_rows(tmp_path):
    (tmp_path / "mt5.model").write_bytes(_of_size(250_000, 100))
    (tmp_path / "t5.model").write_bytes(_of_size(32_000, 0))
    mt5 = SentencePieceVocabulary(str(tmp_path / "mt5.model"))
    t5 = SentencePieceVocabulary(str(tmp_path / "t5.model"), extra_ids=100)
    told = []
    for vocab, size, rows in ((mt5, 250_100, 250_112), (t5, 32_100, 32_128)):
        assert vocab.size == size and vocab.num_sentinels == 100
        assert [vocab.sentinel(0), vocab.sentinel(99)] == [size - 1, size - 100]
        ids = vocab.encode("the cat <extra_id_0>")
        assert ids[-1] == size - 1 and vocab.decode(ids) == "the cat <extra_id_0>"
        vocabulary.check_rows(vocab, rows, told.append)
    assert told == []
    vocabulary.check_rows(t5, 250_112, told.append)
    assert "250,112 rows for the 32,100 ids" in told[0]
    with pytest.raises(ValueError, match="250,100 ids; the model has rows for 32,128"):
        vocabulary.check_rows(mt5, 32_128)
    with pytest.raises(ValueError, match="adds 100 sentinels behind a file that has 100 inside"):
        vocabulary.check_rows(SentencePieceVocabulary(mt5.path, extra_ids=100), 250_240)


def test_sentinels_that_do_not_end_the_ids_are_refused(tmp_path):
    proto = sentencepiece_model_pb2.ModelProto.FromString(_model(3))
    piece = proto.pieces.add()
    piece.piece, piece.score = "behind", -100.0
    (tmp_path / "x.model").write_bytes(proto.SerializeToString())
    vocab = SentencePieceVocabulary(str(tmp_path / "x.model"))
    with pytest.raises(ValueError, match="expected .* down to"):
        vocabulary.check_rows(vocab, 1000)
