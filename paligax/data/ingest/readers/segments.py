"""Long texts cut into segments at the ends of sentences or words, in scripts without spaces too."""

import re
import unicodedata
from collections.abc import Iterator

# Scripts whose words are not divided by spaces: Thai and Lao, Tibetan, Myanmar, Khmer, Tai Tham and its neighbours,
# kana, Han ideographs with their extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u3005-\u3007\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaadf\uf900-\ufaff\U00020000-\U0003ffff"
)
# A character of these, or up to 24 others without a blank: a longer "word" is a number, a URL or noise.
_UNIT = re.compile(f"([{_UNSPACED}])|[^\\s{_UNSPACED}]{{1,24}}")
_LETTER = re.compile(f"[{_UNSPACED}]")
_SENTENCE_END = re.compile(r"[.!?…。！？｡．।॥؟۔։።။៕༎༏]+[\"'”’»)\]」』）】]*$")
_MARKS = ("Mn", "Mc", "Me")
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


def cut(text: str, words: int) -> Iterator[str]:
    """Segments of about ``words`` words, together the whole text but for blanks at their ends.

    A segment has at most ``words`` of them, the last one up to a quarter more. Two characters of a script without
    spaces count as a word, and so do 24 of a long word. It ends with the last sentence that ends in its second half;
    if there is none, with a word. A letter stays with its combining marks.
    """
    start = 0
    while start < len(text):
        end = _end(text, start, words)
        if segment := text[start:end].strip():
            yield segment
        start = end


def _end(text: str, start: int, words: int) -> int:
    total, sentence, word, anywhere = 0.0, 0, 0, 0
    for unit in _UNIT.finditer(text, start):
        unspaced = unit[1] is not None
        total += 0.5 if unspaced else 1.0
        end = unit.end()
        if total <= words or not anywhere:
            anywhere = end
            after = text[end : end + 1]
            apart = after.isspace() or unspaced
            if apart or _is_unspaced(after):
                word = end
            if total >= words / 2 and (after in "\r\n" or _ends_sentence(unit[0], after)):
                sentence = end
        elif total > words * 1.25:
            return _behind_marks(text, sentence or word or anywhere)
    return len(text)


def _ends_sentence(unit: str, after: str) -> bool:
    """A dot within a number or an address ends none: a blank follows, or a letter of a script that has no blanks."""
    return (after.isspace() or _is_unspaced(after)) and _SENTENCE_END.search(unit) is not None


def _is_unspaced(character: str) -> bool:
    return _LETTER.match(character) is not None


def _behind_marks(text: str, end: int) -> int:
    for _ in range(32):  # a hostile text has millions of them
        joined = text[end - 1 : end] == "\u200d"
        mark = end < len(text) and (unicodedata.category(text[end]) in _MARKS or text[end] in _JOINERS)
        if not mark and not (joined and end < len(text)):
            return end
        end += 1
    return end
