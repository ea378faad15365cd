"""Scores of generated text against values worked out by hand."""

import json
import pathlib

import numpy as np
import pytest

from paligax.metrics import (
    character_error_rate,
    edit_distance,
    exact_match,
    list_match,
    normalise,
    span_accuracy,
    token_accuracy,
    token_f1,
    word_error_rate,
    words,
)
from paligax.metrics.text import _distances, _errors_at


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Two dogs, 3.5 m", ["two", "dogs", "3", "5", "m"]),
        ("  A\u00a0Dog ", ["a", "dog"]),
        ("赤い car", ["赤", "い", "car"]),
        ("कुत्ता घास", ["कुत्ता", "घास"]),  # vowel signs stay with their letters
        ("two\N{NO-BREAK SPACE}ﬁsh", ["two", "fish"]),
        ("가방 개", ["가방", "개"]),  # Korean has spaces
        ("!?", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_exact_match_takes_any_reference_and_ignores_case_and_blanks():
    assert normalise("  A\u00a0Dog ") == "a dog"
    assert exact_match([["Yes"], ["two", "2"], ["cat"]], ["yes ", "2", "dog"]) == pytest.approx(2 / 3)
    assert exact_match([[]], ["x"]) == 0.0


def test_list_match_ignores_order_but_not_repetition():
    assert list_match(["cat, dog"], ["Dog,cat"]) == 1.0
    assert list_match(["cat, dog", "cat, cat", "cat"], ["dog, cat", "cat", ""]) == pytest.approx(1 / 3)


def test_token_f1_by_hand():
    # 2 of 3 predicted words are among 4 right ones: 2·2 / (3 + 4)
    assert token_f1([["a red cat sleeps"]], ["red cat runs"]) == pytest.approx(4 / 7)
    assert token_f1([["nothing", "a red cat"]], ["cat red a"]) == 1.0
    assert token_f1([[""], ["a"]], ["", ""]) == 0.5


def test_token_accuracy_counts_positions_of_the_target():
    assert token_accuracy([[5, 6, 7], [8]], [[5, 7, 7, 9], []]) == pytest.approx(2 / 4)


def test_span_accuracy_finds_spans_by_their_sentinels():
    target = [99, 5, 6, 98, 7]
    assert span_accuracy([target], [[98, 7, 99, 5, 6]], {99, 98, 97}) == 1.0
    assert span_accuracy([target], [[99, 5, 98, 7]], {99, 98, 97}) == 0.5
    assert span_accuracy([target], [[5, 6, 7]], {99, 98, 97}) == 0.0


def test_edit_distances_by_hand():
    assert _distances("kitten", "sitting")[-1, -1] == 3
    assert _distances("", "abc")[-1, -1] == 3
    assert _distances("abc", "")[-1, -1] == 3
    assert _errors_at("abc", "axc").tolist() == [0, 1, 0]
    assert _errors_at("abc", "ac").tolist() == [0, 1, 0]
    assert _errors_at("ab", "zab").tolist() == [1, 0]
    assert _errors_at("ab", "axxb").tolist() == [2, 0]


def test_edit_distance_agrees_with_the_plain_recurrence():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        plain = np.zeros((len(a) + 1, len(b) + 1), int)
        plain[0], plain[:, 0] = np.arange(len(b) + 1), np.arange(len(a) + 1)
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                plain[i, j] = min(
                    plain[i - 1, j] + 1, plain[i, j - 1] + 1, plain[i - 1, j - 1] + (a[i - 1] != b[j - 1])
                )
        np.testing.assert_array_equal(_distances(a, b), plain)
        if a:
            assert _errors_at(a, b).sum() == plain[-1, -1]


def test_character_error_rate_is_summed_over_the_set():
    # 1 of 3 and 0 of 5 characters
    assert character_error_rate(["cat", "horse"], ["cut", "horse"]) == {"character_error_rate": pytest.approx(1 / 8)}
    # all wrong, and two too many
    assert character_error_rate(["ab"], ["wxyz"])["character_error_rate"] == 2.0
    assert character_error_rate(["Cat"], ["cat"])["character_error_rate"] == pytest.approx(1 / 3)
    assert character_error_rate(["a  b"], [" a b "])["character_error_rate"] == 0.0


def test_character_error_rate_apart_for_words_seen_and_unseen():
    rates = character_error_rate(["cat horse"], ["cut horsy"], unseen_words={"horse"})
    assert rates == {
        "character_error_rate": pytest.approx(2 / 9),
        "character_error_rate_seen": pytest.approx(1 / 4),  # "cat " with its blank
        "character_error_rate_unseen": pytest.approx(1 / 5),
    }
    assert "character_error_rate_unseen" not in character_error_rate(["cat"], ["cat"], unseen_words={"dog"})


def test_mismatched_lengths_are_told():
    with pytest.raises(ValueError, match="2 targets and 1 predictions"):
        exact_match([["a"], ["b"]], ["a"])


def test_edit_distance_of_words():
    assert edit_distance("a red cat".split(), "a cat sleeps".split()) == 2
    assert edit_distance(["aa"], ["ab"]) == 1  # items are compared whole
    assert edit_distance([], ["a", "b"]) == 2


def test_word_error_rate_by_hand():
    # 1 of 3 words left out, and 0 of 1
    assert word_error_rate(["a red cat", "dog"], ["a  cat", "dog"]) == {"word_error_rate": pytest.approx(1 / 4)}
    assert word_error_rate(["Dog"], ["dog cat"]) == {"word_error_rate": 2.0}
    assert word_error_rate([""], ["dog"]) == {"word_error_rate": 1.0}


def test_word_error_rate_equals_jiwer():
    case = json.loads((pathlib.Path(__file__).parent / "cases" / "word_error_rate.json").read_text())
    targets, predictions = zip(*case["pairs"], strict=True)
    assert word_error_rate(targets, predictions)["word_error_rate"] == pytest.approx(case["word_error_rate"], abs=1e-12)
