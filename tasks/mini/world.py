"""What the embedded data set's scenes are made of: pictograms and their names, colours, places, questions, words.

Names of pictograms come from the Unicode names in the ``emoji`` package, in the languages of :data:`LANGUAGES`; the
words that are rendered for OCR are the short words of those names, in Latin and Cyrillic letters, and a list of Greek
ones, which the package has not.
"""

import collections
import dataclasses
import functools
import random
import re

LANGUAGES = ("en", "de", "ru")
OCR_LANGUAGES = ("en", "ru", "el")
MAX_WORD_LENGTH = 5  # letters

# One-word names in every language, told apart at 16 px. More are taken from the whole of Unicode by `scale`.
FIRST_PICTOGRAMS = "🍌🐟🌵🔑🏠🐈🔔🚌🍕👑🐧🥕🍇🦀🍅🌹"

# name in each language, sRGB; dark enough or light enough for either black or white letters to be read on them
COLOURS = {
    "red": (("rot", "красный"), (226, 106, 100)),
    "green": (("grün", "зеленый"), (122, 200, 122)),
    "blue": (("blau", "синий"), (112, 150, 232)),
    "yellow": (("gelb", "желтый"), (240, 224, 120)),
    "grey": (("grau", "серый"), (160, 160, 160)),
    "white": (("weiß", "белый"), (246, 246, 246)),
}
NUMBERS = {
    "en": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "de": ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"),
    "ru": ("один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять"),
}
PLACES = {
    "en": ("top left", "top right", "bottom left", "bottom right"),
    "de": ("oben links", "oben rechts", "unten links", "unten rechts"),
    "ru": ("вверху слева", "вверху справа", "внизу слева", "внизу справа"),
}
ON = {"en": "on", "de": "auf", "ru": "на"}
QUESTIONS = {
    "en": {
        "what": "what is at the {place}?",
        "where": "where is the {name}?",
        "how many": "how many objects are there?",
        "colour": "what colour is the background?",
    },
    "de": {
        "what": "was ist {place}?",
        "where": "wo ist {name}?",
        "how many": "wie viele dinge gibt es?",
        "colour": "welche farbe hat der hintergrund?",
    },
    "ru": {
        "what": "что {place}?",
        "where": "где {name}?",
        "how many": "сколько здесь предметов?",
        "colour": "какого цвета фон?",
    },
}
SENTENCES = {
    "en": "the {a} is at the {place}, the {b} is at the {opposite}.",
    "de": "{a} ist {place}, {b} ist {opposite}.",
    "ru": "{a} {place}, {b} {opposite}.",
}
DICTIONARY = {
    "en": "{en} is {de} in german and {ru} in russian.",
    "de": "{de} heißt auf englisch {en}, auf russisch {ru}.",
    "ru": "{ru} по-английски {en}, по-немецки {de}.",
}
GREEK_WORDS = (
    "ΑΕΡΑΣ ΑΛΑΤΙ ΑΛΦΑ ΑΝΘΟΣ ΑΡΝΙ ΑΣΤΡΟ ΑΥΓΟ ΑΥΤΙ ΒΑΖΟ ΒΗΤΑ ΒΙΒΛΙΟ ΒΟΔΙ ΒΟΥΝΟ ΓΑΛΑ ΓΑΜΑ ΓΑΤΑ ΓΕΛΙΟ ΓΗ ΔΑΣΟΣ ΔΕΚΑ "
    "ΔΕΝΤΡΟ ΔΥΟ ΔΩΡΟ ΕΛΑΤΟ ΕΛΙΑ ΕΝΑ ΕΞΙ ΕΠΤΑ ΖΕΣΤΗ ΖΩΗ ΖΩΟ ΗΛΙΟΣ ΗΧΟΣ ΘΕΑ ΘΗΤΑ ΘΟΛΟΣ ΙΔΕΑ ΙΠΠΟΣ ΚΑΦΕ ΚΗΠΟΣ ΚΟΡΗ "
    "ΚΟΤΑ ΚΥΜΑ ΛΑΔΙ ΛΕΞΗ ΛΙΜΝΗ ΛΟΓΟΣ ΛΥΚΟΣ ΜΑΤΙ ΜΕΛΙ ΜΕΡΑ ΜΗΛΟ ΜΗΝΑΣ ΜΥΛΟΣ ΜΥΤΗ ΝΕΡΟ ΝΗΣΙ ΝΟΤΟΣ ΝΥΧΤΑ ΞΥΛΟ ΟΔΟΣ "
    "ΟΚΤΩ ΟΡΟΣ ΟΥΡΑ ΠΑΓΟΣ ΠΑΠΙ ΠΕΝΤΕ ΠΗΓΗ ΠΙΑΤΟ ΠΛΟΙΟ ΠΟΔΙ ΠΟΛΗ ΠΟΡΤΑ ΡΑΔΙΟ ΡΙΖΑ ΡΟΔΑ ΣΑΛΑ ΣΕΙΡΑ ΣΙΤΟΣ ΣΚΥΛΟ ΣΠΙΤΙ "
    "ΣΤΟΜΑ ΣΥΚΟ ΤΑΞΗ ΤΕΧΝΗ ΤΟΞΟ ΤΡΕΝΟ ΤΡΙΑ ΤΥΡΙ ΥΛΗ ΥΠΝΟΣ ΦΙΔΙ ΦΙΛΟΣ ΦΩΣ ΦΩΤΙΑ ΧΑΡΑ ΧΕΡΙ ΧΙΟΝΙ ΧΡΩΜΑ ΧΩΡΑ ΨΑΡΙ ΨΩΜΙ "
    "ΩΡΑ"
)
# Letters of one shape in DejaVu: a picture can't tell them apart, only the language can.
LOOKALIKES = str.maketrans("АВЕКМНОРСТХΑΒΕΖΗΙΚΜΝΟΡΤΥΧΓΠΦ", "ABEKMHOPCTXABEZHIKMNOPTYXГПФ")
_LETTERS = {"en": "[a-z]+", "ru": "[а-я]+"}


@dataclasses.dataclass(frozen=True)
class Pictogram:
    """One object class.

    Attributes:
      emoji: the Unicode sequence.
      names: name by language.
    """

    emoji: str
    names: dict[str, str]

    @property
    def label(self) -> str:
        return self.names["en"]


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that a scene is drawn from.

    Attributes:
      pictograms: the object classes.
      held_out_pairs: pairs of labels that stand together in held-out scenes only.
      words: the OCR lexicon by language, in the order of drawing.
      unseen_words: those of its words that are rendered in held-out scenes only.
    """

    pictograms: tuple[Pictogram, ...]
    held_out_pairs: frozenset[frozenset[str]]
    words: dict[str, tuple[str, ...]]
    unseen_words: frozenset[str]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(p.label for p in self.pictograms)

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(sorted({letter for words in self.words.values() for word in words for letter in word}))


@functools.cache
def _unicode_names() -> dict[str, dict[str, str]]:
    """Emoji → name by language, fully qualified emojis only."""
    import emoji

    for language in LANGUAGES:
        emoji.config.load_language(language)
    names = {}
    for char, data in emoji.EMOJI_DATA.items():
        if data["status"] == emoji.STATUS["fully_qualified"] and all(language in data for language in LANGUAGES):
            names[char] = {lang: data[lang].strip(":").replace("_", " ").lower() for lang in LANGUAGES}
    return names


def _pictograms(count: int) -> tuple[Pictogram, ...]:
    names = _unicode_names()
    plain = [
        char
        for char, by_language in names.items()
        if all(re.fullmatch(r"[^\W\d_]{2,11}", name) for name in by_language.values())
    ]
    first = [char for char in names if char.rstrip("\ufe0f") in FIRST_PICTOGRAMS]
    first.sort(key=lambda char: FIRST_PICTOGRAMS.index(char[0]))
    rest = [char for char in plain if char not in first]
    random.Random("pictograms").shuffle(rest)
    chosen: list[Pictogram] = []
    used: set[str] = set()
    for char in first + rest:
        if len(chosen) < count and not used & set(names[char].values()):  # no two classes share a name
            chosen.append(Pictogram(char, names[char]))
            used |= set(names[char].values())
    if len(chosen) < count:
        raise ValueError(f"{count} pictograms asked for; Unicode has {len(chosen)} with one-word names. Lower `scale`.")
    return tuple(chosen)


def _lexicon(count: int, letters: int) -> dict[str, tuple[str, ...]]:
    """At most ``count`` words a language, spelt with its script's ``letters`` most frequent letters."""
    words: dict[str, tuple[str, ...]] = {"el": tuple(w for w in GREEK_WORDS.split() if 3 <= len(w) <= MAX_WORD_LENGTH)}
    for language, pattern in _LETTERS.items():
        found = {
            word.upper()
            for names in _unicode_names().values()
            for word in re.findall(pattern, names[language])
            if 3 <= len(word) <= MAX_WORD_LENGTH
        }
        words[language] = tuple(sorted(found))
    for language in OCR_LANGUAGES:
        frequency = collections.Counter("".join(words[language]))
        frequent = {letter for letter, _ in frequency.most_common(letters)}
        shuffled = [word for word in words[language] if set(word) <= frequent]
        random.Random(f"words {language}").shuffle(shuffled)
        words[language] = tuple(shuffled[:count])
    return words


@functools.cache
def world(scale: int = 1) -> World:
    """The world at a scale: 10 × scale pictograms, 480 × scale words a language (as far as there are so
    many that need no more than 16 × scale letters).

    One pair of pictograms in eight and one word in five are kept for held-out scenes.

    Raises:
      ValueError: where Unicode has too few one-word names for the scale.
    """
    if scale < 1:
        raise ValueError(f"scale={scale}: expected a whole number from 1.")
    pictograms = _pictograms(10 * scale)
    labels = [p.label for p in pictograms]
    pairs = [frozenset((a, b)) for i, a in enumerate(labels) for b in labels[:i]]
    random.Random("pairs").shuffle(pairs)
    words = _lexicon(480 * scale, 16 * scale)
    # In the order of a shuffled list; a letter that stands in no seen word couldn't be learnt, so its words stay seen.
    unseen: set[str] = set()
    for language in OCR_LANGUAGES:
        for word in words[language][::-1]:
            rest = set("".join(w for w in words[language] if w not in unseen and w != word))
            if len(unseen & set(words[language])) < len(words[language]) // 5 and set(word) <= rest:
                unseen.add(word)
    return World(pictograms, frozenset(pairs[: len(pairs) // 8]), words, frozenset(unseen))
