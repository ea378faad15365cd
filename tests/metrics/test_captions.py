"""BLEU, ROUGE-L and CIDEr-D against pycocoevalcap's figures, which cases/captions.json holds."""

import json
import pathlib

import numpy as np
import pytest

from paligax.metrics import DocumentFrequency, bleu, cider, cider_scores, coco_captions, ptb_words, rouge_l
from paligax.metrics.captions import _common

CASE = json.loads((pathlib.Path(__file__).parent / "cases" / "captions.json").read_text(encoding="utf-8"))
REFERENCES, PREDICTIONS = CASE["references"], CASE["predictions"]


def test_the_whole_way_from_text_equals_the_official_scorer():
    found = coco_captions(REFERENCES, PREDICTIONS)
    assert found == {name: pytest.approx(value, rel=1e-9) for name, value in CASE["scores"].items()}
    assert list(found) == ["cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"]


def test_each_caption_has_the_official_cider():
    np.testing.assert_allclose(cider_scores(REFERENCES, PREDICTIONS, ptb_words), CASE["cider"], rtol=1e-9, atol=1e-12)


def test_document_frequencies_may_come_from_elsewhere():
    frequency = DocumentFrequency.of(REFERENCES, ptb_words)
    assert frequency.images == len(REFERENCES)
    assert frequency.counts[("a",)] == sum(any("a" in ptb_words(t) for t in texts) for texts in REFERENCES)
    # One image alone, with the whole set's frequencies: its figure in the whole set, and not 0.
    alone = cider_scores(REFERENCES[:1], PREDICTIONS[:1], ptb_words, frequency)
    np.testing.assert_allclose(alone, CASE["cider"][:1])
    assert cider(REFERENCES[:1], PREDICTIONS[:1], ptb_words) == 0 < alone[0]


def test_bleu_by_hand():
    # 4 of 5 words, 2 of 4 pairs, 1 of 3 triples; as long as its reference.
    found = bleu([["the cat sat on mats"]], ["the cat sat at mats"])
    expected = [4 / 5, (4 / 5 * 2 / 4) ** (1 / 2), (4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3), 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # Of equally near references the shorter one's length: no brevity penalty.
    np.testing.assert_allclose(bleu([["a b c d e", "a b c"]], ["a b c d"])[0], 1, atol=1e-6)
    np.testing.assert_allclose(bleu([["a b c d"]], ["a b"])[0], np.exp(1 - 4 / 2), atol=1e-6)
    # Clipped at the most that one reference has.
    np.testing.assert_allclose(bleu([["a a b", "a c d"]], ["a a a"])[0], 2 / 3, atol=1e-6)
    np.testing.assert_allclose(bleu([["a b"]], [""]), 0, atol=1e-6)


def test_rouge_l_by_hand():
    # Longest common subsequence "police the gunman"-like: 3 of 4 and 3 of 5 words.
    precision, recall = 3 / 4, 3 / 5
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l([["police killed the big gunman"]], ["police kill the gunman"]) == pytest.approx(expected)
    # Precision and recall of different references.
    assert rouge_l([["a b x y z", "a"]], ["a b"]) == 1.0
    assert rouge_l([["a b"]], ["c"]) == 0.0
    assert rouge_l([["a"], ["b"]], ["a", ""]) == 0.5


def test_longest_common_subsequence_agrees_with_the_plain_recurrence():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (rng.choice(list("abc"), rng.integers(1, 12)).tolist() for _ in range(2))
        plain = np.zeros((len(a) + 1, len(b) + 1), int)
        for i in range(len(a)):
            for j in range(len(b)):
                plain[i + 1, j + 1] = plain[i, j] + 1 if a[i] == b[j] else max(plain[i, j + 1], plain[i + 1, j])
        assert _common(a, b) == plain[-1, -1]


def test_captions_need_references():
    with pytest.raises(ValueError, match="Example 1 has no reference"):
        coco_captions([["a"], []], ["a", "b"])
