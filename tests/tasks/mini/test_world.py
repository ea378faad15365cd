import pytest

from tasks.mini.world import COLOURS, LANGUAGES, NUMBERS, OCR_LANGUAGES, PLACES, QUESTIONS, world


def test_every_pictogram_has_a_name_of_its_own_in_every_language():
    of = world()
    assert len(of.pictograms) == 10
    for language in LANGUAGES:
        names = [p.names[language] for p in of.pictograms]
        assert len(set(names)) == 10 and all(name.isalpha() for name in names)


def test_the_lexicon_has_hundreds_of_words_in_three_scripts_and_a_fifth_is_unseen():
    of = world()
    assert sum(map(len, of.words.values())) >= 400
    for language in OCR_LANGUAGES:
        words = set(of.words[language])
        assert len(words & of.unseen_words) == len(of.words[language]) // 5
        assert all(3 <= len(word) <= 5 and word.isupper() for word in words)
        # Every letter can be learnt from the seen words.
        assert set("".join(words)) == set("".join(words - of.unseen_words))
    assert {"И", "Ω", "D"} <= set(of.letters)


def test_scale_adds_pictograms_and_words_and_keeps_the_first_ones():
    small, large = world(1), world(3)
    assert large.pictograms[:10] == small.pictograms and len(large.pictograms) == 30
    assert len(large.words["ru"]) > len(small.words["ru"])
    with pytest.raises(ValueError, match="Lower `scale`"):
        world(100)
    with pytest.raises(ValueError, match="scale=0"):
        world(0)


def test_phrases_exist_in_every_language():
    for language in LANGUAGES:
        assert len(PLACES[language]) == 4 and len(NUMBERS[language]) == 10
        assert set(QUESTIONS[language]) == {"what", "where", "how many", "colour"}
    assert all(len(names) == len(LANGUAGES) - 1 for names, _ in COLOURS.values())
