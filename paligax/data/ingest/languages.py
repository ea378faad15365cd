"""Which language a text is in: two-letter codes where ISO 639-1 has one.

A script that one language is written in says it alone (Thai, kana, Hangul …). Other texts are given to a detector
(`paligax.data.ingest.language_detectors`, or one that is named by "module:function").
"""

import collections
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

from paligax.data.ingest import named
from paligax.data.ingest.language_codes import UNKNOWN, normalise
from paligax.data.ingest.reader import Record
from paligax.data.ingest.stage import Stage

# text without line breaks → (its language's code, how sure this is: 0 to 1)
Detector = Callable[[str], tuple[str, float]]
TWO_VOTES = "paligax.data.ingest.language_detectors:two_votes"
_MAX_CHARACTERS = 1000  # of a text that are looked at
# The first word of a letter's Unicode name → the one language of its script. Scripts of several aren't here.
_OF_SCRIPT = {
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "JAPANESE": "ja",
    "KANNADA": "kn",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAANA": "dv",
    "THAI": "th",
}
_JAPANESE = 20  # at least one kana in so many ideographs
_WIDE = 3  # an ideograph, kana or Hangul syllable says as much as so many letters
_WEB = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\S+")


@functools.lru_cache(maxsize=65_536)
def _script_of_letter(letter: str) -> str:
    """The first word of a letter's name: "LATIN", "CYRILLIC"; "" of what is no letter."""
    if not letter.isalpha() and unicodedata.category(letter) not in ("Mn", "Mc"):
        return ""
    word = unicodedata.name(letter, "").removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH ").split(" ")[0]
    return {"HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA", "COMBINING": ""}.get(word, word)


def script(text: str) -> str:
    """The script that most of a text's letters are of, "" where it has none.

    Kana and ideographs together are "JAPANESE", ideographs alone "CJK".
    """
    count = collections.Counter(name for letter in text if (name := _script_of_letter(letter)))
    kana = count.pop("KANA", 0)
    if kana * _JAPANESE >= count["CJK"] and kana:  # a の alone is fashion in Chinese
        count["JAPANESE"] = kana + count.pop("CJK", 0)
    return max(count, key=lambda name: (count[name], name), default="")


def letters(text: str) -> int:
    """How many letters a text has to be judged by; what stands for a syllable or a word counts as three."""
    return sum(_WIDE if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if c.isalpha())


@dataclasses.dataclass
class IdentifyLanguages(Stage):
    """Fills in the languages of captions, strings in pictures, questions and segments; removes nothing.

    Codes that are there are normalised ("iw", "eng", "zh-CN" → "he", "en", "zh"); what is no code counts as missing.
    The strings in a picture that share a script are identified together: a word alone says little.

    Attributes:
      only_missing: keep a code that is there; else all are found anew.
      min_characters: letters below which a text isn't given to the detector; a script may still say its language.
      min_confidence: the language is "und" (undetermined) where the detector is less sure.
      detector: "module:function" of a function text → (code, confidence from 0 to 1).
    """

    only_missing: bool = True
    min_characters: int = 8
    min_confidence: float = 0.4
    detector: str = TWO_VOTES
    batch_size: int = 256

    def setup(self) -> None:
        """Raises ValueError or ImportError where there is no such detector."""
        self._detect()("a text in English")

    def apply(self, records: list[Record]) -> list[str]:
        for record in records:
            self._each(record, "alt_text/lang", record["alt_text/text"])
            self._each(record, "qa/lang", record["qa/question"])
            missing = self._missing(record["ocr/lang"])
            found = self.of_together([record["ocr/text"][i] for i in missing])
            record["ocr/lang"] = self._filled(record["ocr/lang"], dict(zip(missing, found, strict=True)))
            if record["text"]:
                missing = self._missing([record["text_lang"]])
                found = {i: self.of(record["text"]) for i in missing}
                record["text_lang"] = self._filled([record["text_lang"]], found)[0]
        return [""] * len(records)

    def of(self, text: str) -> str:
        """The code of one text's language, "und" where nothing says it."""
        text = " ".join(_WEB.sub(" ", text[:_MAX_CHARACTERS]).split())
        written = script(text)
        if _OF_SCRIPT.get(written):
            return _OF_SCRIPT[written]
        if letters(text) < self.min_characters:
            return UNKNOWN
        code, confidence = self._detect()(text)
        # written so that a detector's NaN is unsure
        return normalise(code) if confidence >= self.min_confidence else UNKNOWN

    def of_together(self, texts: Sequence[str]) -> list[str]:
        """The codes of texts that stand in one picture."""
        scripts = [script(text[:_MAX_CHARACTERS]) for text in texts]
        if "JAPANESE" in scripts:  # a sign in ideographs alone, beside one with kana
            scripts = ["JAPANESE" if name == "CJK" else name for name in scripts]
        of_script = {
            name: self.of(" ".join(text for text, own in zip(texts, scripts, strict=True) if own == name))
            for name in dict.fromkeys(scripts)
        }
        return [of_script[name] for name in scripts]

    def _each(self, record: Record, key: str, texts: Sequence[str]) -> None:
        found = {i: self.of(texts[i]) for i in self._missing(record[key])}
        record[key] = self._filled(record[key], found)

    def _missing(self, codes: Sequence[str]) -> list[int]:
        return [i for i, code in enumerate(codes) if not self.only_missing or normalise(code) == UNKNOWN]

    def _filled(self, codes: Sequence[str], found: dict[int, str]) -> list[str]:
        return [found.get(i, normalise(code)) for i, code in enumerate(codes)]

    def _detect(self) -> Detector:
        return _detector(self.detector)


@functools.cache
def _detector(place: str) -> Detector:
    return named.function(place, "a language detector (text → code, confidence)")
