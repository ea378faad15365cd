"""English captions split into words as the COCO caption scorer does, without its Java.

The scorer runs Stanford's PTBTokenizer (CoreNLP 3.4.1, lower-casing), which follows the Penn Treebank, and drops the
tokens of `DROPPED`. Ours was written against that tokeniser's output, not after its source: at each place the longest
match of `_PATTERNS` is a token. Counted on text that it was not written against: of 1,000 generated COCO captions none
is split otherwise; of 839 paragraphs of Python's language reference, 6 (7 of 29,164 tokens; runs of asterisks were put
right after that). Known differences, all rare in captions: telephone numbers, tags with blanks inside, empty quotation
marks, single letters before some full stops, version numbers ("2.x"), a fraction before a unit ("5-1/2-inch").
"""

import re
import unicodedata

# What the scorer drops. Round brackets stay: it looks for "-LRB-", but the tokeniser has written "-lrb-".
DROPPED = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})

# Abbreviations that keep their full stop: always, where written with a capital, and before a number.
_ABBREVIATED = (
    "adm al ala apr ariz assn assoc aug ave bldg blvd bros calif capt cf cmdr co col colo conn corp cos cpl ct dec "
    "dept dr est etc ext feb fla fri ft ga gen gov hon inc ind insp intl jan jr jul jun kan kans ky lt ltd maj mar "
    "md messrs mfg mich minn mlle mme mo mon mont mr mrs ms mt natl neb nev nov oct okla penn ph plc pres prof pvt "
    "rd rep rev sen sep sept sgt sq sr st ste supt tel tenn thu thurs tue tues univ va vs vt wed wis wisc wyo"
)
_WITH_CAPITAL = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_NUMBERS = "art ca fig figs no nos pp"
_JOINED = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", "&nbsp;": "'"}

# Characters that are written otherwise. Below, whatever is no ASCII and still there is part of a word.
_REWRITTEN = {
    **dict.fromkeys("“”«»", " '' "),
    **dict.fromkeys("‘‹›", " ` "),
    **dict.fromkeys("–—―", " -- "),
    **dict.fromkeys("‐‒「」『』", " "),
    **{"…": " ... ", "£": " # ", "€": " $ ", "¢": " cents "},
    **{"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "},
}
_KEPT = "’\u2011"  # apostrophe and non-breaking hyphen: inside words

_L = "[A-Za-z\x80-\u2018\u201a-\uffff]"  # all but the apostrophe \u2019
_A = "[A-Za-z0-9\x80-\u2018\u201a-\uffff]"
_WORD = rf"{_A}+(?:_{_A}+)*(?:-{_A}+(?:_{_A}+)*)*"
_INITIALS = r"(?:[A-Za-z]\.)+"
_QUOTE = "['’]"  # also inside words
_PATTERNS = [
    rf"{_WORD}(?:/{_WORD}){{0,2}}",  # t-shirt, and/or
    rf"{_L}{_A}*(?:\.{_L}{_A}*)+",  # dog.com, and where a blank was forgotten: grass.the
    rf"{_L}+[!?]{_L}+",
    rf"(?:{_A}+-)?{_INITIALS}(?:-(?:{_INITIALS}|{_A}+))*",  # u.s., p.m., u.s.-based
    r"(?i:ph\.d\.)",
    rf"(?i:{_ABBREVIATED.replace(' ', '|')})\.",
    rf"(?:{_WITH_CAPITAL.replace(' ', '|')})\.",
    rf"(?i:{_BEFORE_NUMBERS.replace(' ', '|')})\.(?=\s?\d|[:,])",
    r"[-+]?(?:\d+(?:[.,:]\d+)*|\.\d+(?:[.,:]\d+)*)",  # 5:30, 1,000, -5
    rf"\d+(?:[.,]\d+)+(?:-{_A}+)+",  # 1.5-inch
    r"[A-Z]+(?:&[A-Z]+)+",  # AT&T
    r"[Cc]\+\+|[CcFf]#",
    r"(?:US|AU?|CA?|HK|NZ|S)\$",
    # Parts that begin with an apostrophe, and words that have one inside.
    rf"(?i:{_QUOTE}(?:s|m|d|re|ve|ll|n)|n{_QUOTE}t)(?!{_A})",
    r"(?i:'t)(?=(?i:is|was)(?![A-Za-z]))",
    rf"(?i:{_QUOTE}(?:em|till?|cause|\d\ds))(?!{_A})|{_QUOTE}[nN]{_QUOTE}",
    rf"{_QUOTE}\d\d(?![\w'’\"])",
    rf"(?i:[odlc]{_QUOTE}{_L}{{2,}}|[jy]{_QUOTE}|ol{_QUOTE}|somethin{_QUOTE}|(?:cap{_QUOTE}n|nat{_QUOTE}l)(?!{_A}))",
    rf"(?i:(?:ne?|e){_QUOTE}er|ev{_QUOTE}ry|s{_QUOTE}mores)",
    rf"(?i:{_L}*[aeiou]|{_L}+y){_QUOTE}(?i:[aeiou]){_L}*",  # ma'am
    # What is kept whole.
    r"(?:https?://|www\.)[^\s\"<>()|]*[A-Za-z0-9/]",
    r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*",
    r"@[A-Za-z_]\w*|#[A-Za-z]+",
    r"</?[A-Za-z]\w*/?>",
    rf"[<>]?[:;=][-o*']?[()DPdp\\{{@|\[\]](?!{_A})",  # :-)
    *(re.escape(entity) for entity in _ENTITIES),
    r"[?!]+|-+|\*+|_+|@+|#+|<<|>>|\.+|''|``",
]
_COMPILED = [re.compile(pattern) for pattern in _PATTERNS]
_PLAIN = re.compile(r"[A-Za-z]+(?=\s|$)")
_NOT = re.compile(rf"{_QUOTE}[tT](?!{_A})")


def _spread(text: str) -> str:
    """Sets symbols and punctuation beyond ASCII apart; emoji and invisible characters become blanks."""
    pieces = []
    for character in text:
        kind = unicodedata.category(character)
        if character < "\x80" or character in _KEPT:
            pieces.append(character)
        elif character in _REWRITTEN:
            pieces.append(_REWRITTEN[character])
        elif character > "\uffff" or kind[0] in "CZ" or "\ufe00" <= character <= "\ufe0f":
            pieces.append(" ")
        elif kind[0] in "PS" or kind == "No":
            pieces.append(f" {character} ")
        else:
            pieces.append(character)
    return "".join(pieces)


def _written(token: str) -> str:
    """A token as the tokeniser writes it."""
    if set(token) == {"-"}:
        return "--" if 2 <= len(token) <= 4 else token
    if set(token) == {"."}:
        return "."
    token = _ENTITIES.get(token, token)
    if len(token) <= 4 and not token.isalnum():
        if len(token) == 1:
            return _BRACKETS.get(token, "'" if token in '"’' else token)
        if token[0] in ":;=<>" and token[-1] in "()":  # a face
            return token[:-1] + _BRACKETS[token[-1]]
    token = token.lower()
    return token.replace("’", "'") if re.fullmatch(r"’(?:s|m|d|re|ve|ll)|n’t", token) else token


def _tokens(text: str) -> list[str]:
    """All tokens, lower-cased, also those that are dropped."""
    if not text.isascii():
        text = _spread(text)
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        if plain := _PLAIN.match(text, at):
            end = plain.end()
        else:
            end = max((match.end() for p in _COMPILED if (match := p.match(text, at))), default=at + 1)
            end = max(end, at + 1)
            if text[end - 1] in "nN" and end - at > 1 and _NOT.match(text, end):  # is|n't
                end -= 1
        token = text[at:end]
        at = end
        if token.lower() in _JOINED and text[at : at + 1] not in ("'", "’"):
            found += _JOINED[token.lower()]
        else:
            found.append(_written(token))
    return found


def ptb_words(text: str) -> list[str]:
    """Lower-cased tokens without punctuation.

    "A man's dog isn't on the (red) couch." → ["a", "man", "'s", "dog", "is", "n't", "on", "the", "-lrb-", "red",
    "-rrb-", "couch"].
    """
    return [token for token in _tokens(text) if token not in DROPPED]
