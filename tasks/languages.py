"""The languages of alt-texts, questions and texts: codes, names, aliases, and what counts as a word in them.

The paper says that WebLI's texts are in 109 languages and does not publish the list. The table here holds 109: the 101
of mT5, the two of Crossmodal-3600 that mT5 lacks (hr, quz), and six more that automatic language services commonly tell
apart (bs, or, rw, tk, tt, ug). Codes are ISO 639-1 where there is one, in today's spelling (he, not iw), else 639-3.

A record's language stands in its prompts as it is. One outside the table is kept and trained on like any other: the
table serves what must name languages beforehand (index entries of one language, statistics), and loses no record.
"""

import dataclasses
import difflib
from collections.abc import Sequence

from paligax.data.ingest import language_codes
from paligax.data.ingest.language_codes import UNKNOWN  # noqa: F401  re-exported: "und", which nobody has determined
from paligax.metrics import text


@dataclasses.dataclass(frozen=True)
class Language:
    """A code, its English name, and whether blanks separate the words (where they don't: see WORD)."""

    code: str
    name: str
    spaced: bool = True


_SPACED = (
    "af Afrikaans, am Amharic, ar Arabic, az Azerbaijani, be Belarusian, bg Bulgarian, bn Bengali, bs Bosnian, "
    "ca Catalan, ceb Cebuano, co Corsican, cs Czech, cy Welsh, da Danish, de German, el Greek, en English, "
    "eo Esperanto, es Spanish, et Estonian, eu Basque, fa Persian, fi Finnish, fil Filipino, fr French, "
    "fy West Frisian, ga Irish, gd Scottish Gaelic, gl Galician, gu Gujarati, ha Hausa, haw Hawaiian, he Hebrew, "
    "hi Hindi, hmn Hmong, hr Croatian, ht Haitian Creole, hu Hungarian, hy Armenian, id Indonesian, ig Igbo, "
    "is Icelandic, it Italian, jv Javanese, ka Georgian, kk Kazakh, kn Kannada, ko Korean, ku Kurdish, ky Kyrgyz, "
    "la Latin, lb Luxembourgish, lt Lithuanian, lv Latvian, mg Malagasy, mi Maori, mk Macedonian, ml Malayalam, "
    "mn Mongolian, mr Marathi, ms Malay, mt Maltese, ne Nepali, nl Dutch, no Norwegian, ny Chichewa, or Odia, "
    "pa Punjabi, pl Polish, ps Pashto, pt Portuguese, quz Cusco Quechua, ro Romanian, ru Russian, rw Kinyarwanda, "
    "sd Sindhi, si Sinhala, sk Slovak, sl Slovenian, sm Samoan, sn Shona, so Somali, sq Albanian, sr Serbian, "
    "st Sotho, su Sundanese, sv Swedish, sw Swahili, ta Tamil, te Telugu, tg Tajik, tk Turkmen, tr Turkish, "
    "tt Tatar, ug Uyghur, uk Ukrainian, ur Urdu, uz Uzbek, vi Vietnamese, xh Xhosa, yi Yiddish, yo Yoruba, zu Zulu"
)
_UNSPACED = "ja Japanese, km Khmer, lo Lao, my Burmese, th Thai, zh Chinese"

LANGUAGES: dict[str, Language] = {
    code: Language(code, name, spaced)
    for names, spaced in ((_SPACED, True), (_UNSPACED, False))
    for code, _, name in (entry.partition(" ") for entry in names.split(", "))
}

# CC3M's English captions and their translations: the 36 languages of Crossmodal-3600 without Cusco Quechua.
CC3M_35L = tuple(
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt ro ru sv sw te th tr uk vi zh".split()
)
XM3600 = tuple(sorted((*CC3M_35L, "quz")))

# Lists that a configuration may name instead of writing them out.
LISTS = {"cc3m_35l": CC3M_35L, "xm3600": XM3600, "all": tuple(sorted(LANGUAGES))}

# Beside what paligax.data.ingest.language_codes brings to one form: the one Quechua of the table stands for all.
_ALIASES = {"qu": "quz"}


def normalise(code: str) -> str:
    """A code in the table's spelling, without region and script: "zh-CN" → "zh", "iw" → "he", "nb" → "no", "" → "und".

    Ingest writes codes into records in this form. Codes that the table doesn't know are brought to it likewise.
    """
    base = language_codes.normalise(code)
    return _ALIASES.get(base, base)


def language(code: str) -> Language:
    """The table's entry for a code in any spelling.

    Raises ValueError with the nearest known code, where the table has none: an English name counts too.
    """
    found = LANGUAGES.get(normalise(code))
    if found is None:
        names = {entry.name.lower(): entry.code for entry in LANGUAGES.values()} | {c: c for c in LANGUAGES}
        near = difflib.get_close_matches(code.strip().lower(), names, 1, cutoff=0.5)
        hint = f" Did you mean {names[near[0]]!r} ({LANGUAGES[names[near[0]]].name})?" if near else ""
        raise ValueError(
            f"No language {code!r} among the {len(LANGUAGES)} of tasks.languages.{hint} Expected a code such as "
            "'en', 'fil' or 'zh'."
        )
    return found


def codes(languages: Sequence[str] | str) -> tuple[str, ...]:
    """What a configuration says of languages → codes, each once, in that order.

    ("en", "iw") → ("en", "he"); "en" → ("en",); the name of one of `LISTS` → that list. Raises ValueError with the
    nearest known name for a language outside the table.
    """
    if isinstance(languages, str):
        languages = LISTS[languages] if languages in LISTS else (languages,)
    return tuple(dict.fromkeys(language(code).code for code in languages))


# ------------------------------------------------------------------------------------------------ what a word is

# Which characters stand in scripts without blanks between words is decided where texts are scored; beside them the
# narrow forms of kana, which scoring never sees.
_CHARACTER = "".join(rf"\x{{{ord(low):X}}}-\x{{{ord(high):X}}}" for low, high in (*text.UNSPACED, ("\uff66", "\uff9f")))
_BLANK = r"\s\p{Z}\x{200B}"  # Khmer, Burmese and Thai texts on the web often separate words by U+200B
_TSHEG = r"\x{F0B}\x{F0C}"
_TIBETAN = r"\x{F00}-\x{F0A}\x{F0D}-\x{FFF}"
# A character takes along its marks, what is written below it (Khmer, Burmese: a sign and a consonant), a Thai or Lao AM
# and the punctuation around it, as words between blanks do.
_CLUSTER = (
    rf"[\p{{Ps}}\p{{Pi}}]*[{_CHARACTER}]"
    rf"(?:[\x{{1039}}\x{{17D2}}][{_CHARACTER}]|\p{{M}}|[\x{{E33}}\x{{EB3}}\x{{200C}}\x{{200D}}])*"
    r"[\p{Po}\p{Pe}\p{Pf}]*"
)

# One word with the blanks behind it, for RE2. Words are what blanks separate. In Chinese, Japanese, Thai, Lao, Khmer
# and Burmese writing every character is one; in Tibetan every syllable, which a tsheg closes. The rule goes by script,
# not by the record's language: "赤い car" has three words. Korean and Vietnamese have blanks. The paper leaves it open.
WORD = rf"(?:{_CLUSTER}|[{_TIBETAN}]+[{_TSHEG}]*|[{_TSHEG}]+|[^{_BLANK}{_CHARACTER}{_TIBETAN}{_TSHEG}]+)[{_BLANK}]*"
