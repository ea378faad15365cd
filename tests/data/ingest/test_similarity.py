import dataclasses
import importlib.util
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from paligax.data import records
from paligax.data.ingest import similarity
from paligax.data.ingest.similarity import ScorePairs, Tokenizer, tokenizer_beside
from tests.data.ingest import references

HAVE_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
TEXTS = references.TEXTS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return references.directory(tmp_path_factory.mktemp("similarity") / "siglip")


@pytest.fixture(scope="module", params=["committed", "fresh"])
def expected(request, checkpoint):
    """What transformers makes of the texts and pictures."""
    if request.param == "committed":
        with np.load(references.HERE / references.EXPECTED) as stored:
            return dict(stored)
    if not HAVE_TORCH:
        pytest.skip("torch and transformers are not installed (pip install -e .[parity])")
    return references.by_transformers(checkpoint)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pairs():
    """Three records with all texts each, the second's in another order."""
    orders = [range(len(TEXTS)), reversed(range(len(TEXTS))), range(len(TEXTS))]
    return [
        records.flatten(
            {"id": str(i), "image": png(pixels), "alt_text": [{"lang": "en", "text": TEXTS[t]} for t in order]}
        )
        for i, (pixels, order) in enumerate(zip(references.pictures(), orders, strict=True))
    ]


def test_texts_become_transformers_ids(checkpoint, expected):
    tokenizer = tokenizer_beside(str(checkpoint), expected["ids"].shape[1])
    np.testing.assert_array_equal(tokenizer(TEXTS), expected["ids"])


def test_scores_are_transformers_and_the_best_captions(checkpoint, expected):
    by_scale = {
        "cosine": expected["cosines"],
        "logit": expected["logits"],
        "probability": 1 / (1 + np.exp(-expected["logits"])),
    }
    for scale, scores in by_scale.items():
        made = pairs()
        assert ScorePairs(str(checkpoint), scale=scale, batch_size=4).apply(made) == [""] * 3
        np.testing.assert_allclose([r["score"] for r in made], scores.max(axis=1), rtol=0, atol=1e-5)
        assert [r["alt_text/text"] for r in made] == [r["alt_text/text"] for r in pairs()]


def test_captions_that_fit_worse_are_left_out(checkpoint, expected):
    cosines = expected["cosines"]
    least = float((np.sort(cosines.max(axis=1))[0] + np.sort(cosines.max(axis=1))[1]) / 2)  # none fits one picture
    made = pairs()
    reasons = ScorePairs(str(checkpoint), drop_below=least, batch_size=4).apply(made)
    assert sorted(reasons) == ["", "", "no caption fits the image"]
    orders = [list(range(len(TEXTS))), list(reversed(range(len(TEXTS)))), list(range(len(TEXTS)))]
    for record, order, row in zip(made, orders, cosines, strict=True):
        kept = [TEXTS[t] for t in order if row[t] >= least]
        assert record["alt_text/text"] == kept and record["alt_text/lang"] == ["en"] * len(kept)
        assert record["score"] == pytest.approx(row.max(), abs=1e-5)


def test_a_score_does_not_depend_on_what_else_is_in_the_batch(checkpoint):
    stage = ScorePairs(str(checkpoint), batch_size=4)
    together, alone = pairs(), pairs()
    stage.apply(together)
    for record in alone:
        stage.apply([record])
    assert [r["score"] for r in together] == [r["score"] for r in alone]


def test_records_that_cannot_be_scored(checkpoint):
    kept, text, broken, bare = (
        records.flatten(r)
        for r in (
            {"image": pairs()[0]["image"], "score": 0.125},
            {"text": "only text"},
            {"image": b"\xff\xd8\xff broken", "alt_text": [{"lang": "en", "text": "a cat"}]},
            {"image": pairs()[0]["image"]},
        )
    )
    assert ScorePairs(str(checkpoint), batch_size=4).apply([kept, text, broken, bare]) == ["", "", "broken image", ""]
    assert kept["score"] == 0.125 and np.isnan([r["score"] for r in (text, broken, bare)]).all()


def test_pictures_of_any_size_are_resized(checkpoint):
    large = np.repeat(np.repeat(references.pictures()[0], 8, 0), 4, 1)
    record = records.flatten({"image": png(large), "alt_text": [{"lang": "en", "text": "a cat"}]})
    assert ScorePairs(str(checkpoint), batch_size=4).apply([record]) == [""]
    assert -1 <= record["score"] <= 1


def test_a_caption_cannot_write_special_pieces(checkpoint):
    tokenizer = dataclasses.replace(tokenizer_beside(str(checkpoint), 9), keep_punctuation=True)
    (ids,) = tokenizer(["</s> <pad> cat"])
    assert 0 not in ids and ids.tolist().index(1) == 8  # the end alone


def test_siglip_2s_texts_keep_punctuation_and_are_filled_with_pad(checkpoint, tmp_path):
    said = {"tokenizer_class": "GemmaTokenizer", "pad_token": {"content": "<pad>"}, "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    (tmp_path / "tokenizer.model").write_bytes((references.HERE / references.SPIECE).read_bytes())
    made = tokenizer_beside(str(tmp_path), 6)
    assert (made.pad, made.eos, made.keep_punctuation) == ("<pad>", "</s>", True)
    with_stop, without, long = (ids.tolist() for ids in made(["CAT.", "cat", "cat cat cat cat cat cat cat"]))
    assert 2 in with_stop and 2 not in without  # the file has no full stop
    assert without == [10, 1, 0, 0, 0, 0] and long[-1] == 1


def test_the_tokenizer_may_lie_elsewhere_and_must_be_the_models(checkpoint, tmp_path):
    bare = references.directory(tmp_path / "bare")
    file = bare / references.SPIECE
    file.rename(tmp_path / "elsewhere.model")
    with pytest.raises(FileNotFoundError, match="has none of spiece.model"):
        ScorePairs(str(bare)).setup()
    with pytest.raises(FileNotFoundError, match="No sentencepiece file '/no/such'"):
        ScorePairs(str(bare), tokenizer="/no/such").setup()
    (tmp_path / "larger.model").write_bytes(
        references.spiece(("the quick brown fox jumps over", "lazy dogs, boxing wizards"), size=60)
    )
    with pytest.raises(ValueError, match="ids, .* rows for 31: is it the model's own tokenizer"):
        ScorePairs(str(bare), tokenizer=str(tmp_path / "larger.model")).setup()
    record = pairs()[0]
    assert ScorePairs(str(bare), tokenizer=str(tmp_path / "elsewhere.model"), batch_size=1).apply([record]) == [""]
    (tmp_path / "cut.model").write_bytes(b"cut")
    with pytest.raises(ValueError, match="is not a sentencepiece model"):
        Tokenizer(str(tmp_path / "cut.model"), 8)(["a"])
    with pytest.raises(ValueError, match="has no piece '<pad>"):
        Tokenizer(str(tmp_path / "elsewhere.model"), 8, pad="<pad>>")(["a"])


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="holds a ViT; pictures and captions are compared by a SigLIP"):
        ScorePairs(str(references.WEIGHTS.parent / "siglip_vision")).setup()


def test_it_pickles_small_and_names_its_scales(checkpoint):
    stage = ScorePairs(str(checkpoint), batch_size=4)
    stage.setup()
    assert len(pickle.dumps(stage)) < 500
    with pytest.raises(ValueError, match="scale = 'cos'; known: cosine, logit, probability"):
        ScorePairs("x", scale="cos")
    assert similarity._piece(None) == similarity._piece({"content": 1}) == ""
