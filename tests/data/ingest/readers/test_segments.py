import random
import time

import pytest

from paligax.data.ingest.readers import segments


def cut(text, words):
    return list(segments.cut(text, words))


def test_sentences_end_segments():
    text = "One two three four. Five six seven! Eight nine ten eleven twelve thirteen. Fourteen."
    assert cut(text, 8) == ["One two three four. Five six seven!", "Eight nine ten eleven twelve thirteen. Fourteen."]
    assert cut('He said "no way." Then he left the room at once.', 6) == [
        'He said "no way."',
        "Then he left the room at once.",
    ]


def test_words_end_segments_without_sentences():
    text = " ".join(str(i) for i in range(30))
    assert cut(text, 10) == [" ".join(str(i) for i in range(k, k + 10)) for k in (0, 10, 20)]
    assert cut(text, 12) == [" ".join(map(str, range(12))), " ".join(map(str, range(12, 24))), "24 25 26 27 28 29"]
    assert cut(text, 25) == [text]  # a quarter more is one segment


def test_dots_in_numbers_end_none():
    assert cut("it costs 3.5 or maybe 4.75 a piece today as of now", 6)[0] == "it costs 3.5 or maybe 4.75"


def test_lines_end_segments():
    assert cut("a b c\nd e f g h i", 4) == ["a b c", "d e f g", "h i"]


@pytest.mark.parametrize(
    "text, first",
    [
        ("今天天气很好。我们去公园散步。孩子们在草地上玩。" * 3, "今天天气很好。我们去公园散步。"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "吾輩は猫である。名前はまだ無い。"),
    ],
)
def test_scripts_without_spaces(text, first):
    found = cut(text, 10)
    assert found[0] == first and "".join(found) == text


@pytest.mark.parametrize(
    "text", ["ที่นี่มีน้ำดื่มสะอาดและอาหารอร่อยมาก" * 5, "မင်္ဂလာပါခင်ဗျာ" * 9, "ជំរាបសួរអ្នកទាំងអស់គ្នា" * 9, "e\u0301\u0302" * 200]
)
def test_letters_keep_their_marks(text):
    import unicodedata

    found = cut(text, 4)
    assert len(found) > 3 and "".join(found) == text
    assert not any(unicodedata.category(one[0]).startswith("M") for one in found)


def test_emoji_stay_together():
    family = "👨\u200d👩\u200d👧"
    found = cut(family * 40, 2)
    assert "".join(found) == family * 40 and all(one.startswith("👨") for one in found)


def test_nothing_is_lost_nor_too_long():
    random.seed(0)
    letters = "ab.!? \n\t\u3000。語ไ\u0e31🙂\u0301"
    for _ in range(300):
        text = "".join(random.choices(letters, k=random.randint(0, 400)))
        words = random.randint(1, 20)
        found = cut(text, words)
        assert "".join("".join(found).split()) == "".join(text.split())
        assert all(one == one.strip() != "" for one in found)


def test_hostile_texts_take_no_long():
    start = time.perf_counter()
    assert len(cut("x" * 1_000_000, 96)) == pytest.approx(1_000_000 / 24 / 96, abs=1)
    cut("\u0301" * 1_000_000, 96)
    cut("." * 1_000_000, 96)
    cut("!?" * 100_000 + "x", 96)
    cut(" " * 1_000_000, 96)
    assert time.perf_counter() - start < 5


def test_one_word_a_segment():
    assert cut("a bb ccc", 1) == ["a", "bb", "ccc"] and cut("", 1) == cut(" \n", 1) == []
