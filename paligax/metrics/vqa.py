"""VQA accuracy (Antol et al., arXiv 1505.00468): an answer is right as far as people gave it too.

The public scorers agree on that and differ in what they compare: whose texts are normalised, when, and whether each
person is left out in turn. `PROTOCOLS` names what each does. Values are shares in [0, 1]; the scorers print them times
100, rounded to two digits.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from paligax.metrics.labels import mean_average_precision
from paligax.metrics.text import check_pairs

_PUNCTUATION = frozenset('!"()+,-/;<=>?@[\\]_`{}')  # no apostrophe, no colon; full stops have a rule of their own
_NUMBERS = dict(zip("none zero one two three four five six seven eight nine ten".split(), [0, *range(11)], strict=True))
_ARTICLES = frozenset({"a", "an", "the"})

# What the scorers write apostrophes into. The official table also has entries that change nothing, and some with
# capitals, which no lower-cased word ever meets.
_CONTRACTED = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're "
    "there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're "
    "you've"
).split()
# Of these, the one that lacks any one of its apostrophes.
_DOUBLY_CONTRACTED = (
    "couldn't've hadn't've he'd've it'd've mightn't've 'ow's'at she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've"
).split()


def _contractions() -> dict[str, str]:
    table = {word.replace("'", ""): word for word in _CONTRACTED}
    for word in _DOUBLY_CONTRACTED:
        table |= {word[:i] + word[i + 1 :]: word for i, letter in enumerate(word) if letter == "'"}
    return table | {"somebody'd": "somebodyd"}  # the wrong way round, as in the official table


def _typographic(table: Mapping[str, str]) -> dict[str, str]:
    """The VizWiz scorer's table: a word processor has made most of its apostrophes curly, and so it writes them."""
    straight = {"couldn'tve", "hadn'tve"}
    straight_values = {"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"}
    return {
        key if key in straight else key.replace("'", "’"): word if word in straight_values else word.replace("'", "’")
        for key, word in table.items()
    }


CONTRACTIONS: Mapping[str, str] = _contractions()
VIZWIZ_CONTRACTIONS: Mapping[str, str] = _typographic(CONTRACTIONS)


def strip_punctuation(text: str) -> str:
    """Punctuation removed as the official scorer does, with its quirks.

    A mark is deleted where the text has it beside a blank anywhere, or a comma between two digits anywhere; else it
    becomes a blank: "t-shirt" → "t shirt", but "t-shirt - red" → "tshirt  red" and "a-b 1,000" → "ab 1000". Full stops
    go where no digit follows, the first 32 of them (the scorer passes a flag where a count is meant).
    """
    together = re.search(r"\d,\d", text) is not None
    marks = _PUNCTUATION & set(text)
    fate = {ord(p): "" if together or f"{p} " in text or f" {p}" in text else " " for p in marks}
    return re.sub(r"\.(?!\d)", "", text.translate(fate), count=32)


def strip_blanks(text: str) -> str:
    """Line breaks and tabs to blanks, and none at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalise_vqa(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """What the official scorer makes of a prediction: "The two dogs, isnt it?" → "2 dogs isn't it"."""
    words = strip_punctuation(strip_blanks(text)).lower().split()
    words = [str(_NUMBERS.get(word, word)) for word in words]
    return " ".join(contractions.get(word, word) for word in words if word not in _ARTICLES)


_COURSE_NUMBERS = tuple(word for word in _NUMBERS if word != "none")
_COURSE_CONTRACTIONS = ("don't", "isn't", "aren't", "won't", "can't", "wouldn't", "couldn't")


def normalise_course(text: str) -> str:
    """The normaliser of the University of Tokyo's deep learning course, which re-split VizWiz for its VQA competition.

    It replaces parts of words too, as that one does: "someone" → "some1", "kitten" → "kit10".
    """
    text = text.lower()
    for word in _COURSE_NUMBERS:
        text = text.replace(word, str(_NUMBERS[word]))
    text = re.sub(r"(?<!\d)\.(?!\d)", "", text)
    text = re.sub(r"\b(?:a|an|the)\b", "", text)
    for word in _COURSE_CONTRACTIONS:
        text = text.replace(word.replace("'", ""), word)
    return " ".join(re.sub(r"[^\w\s':]", " ", text).split())


def merge_unanswerable(text: str) -> str:
    """ "unanswerable" for a generated text that says so in any form ("it is unanswered"); others as they are."""
    return "unanswerable" if "unanswer" in text else text


def _each(function: Callable[[str], str], answers: list[str]) -> list[str]:
    done = {answer: function(answer) for answer in set(answers)}  # most of ten people say the same
    return [done[answer] for answer in answers]


def _raw(answers: list[str], prediction: str, normalise: Callable) -> tuple[list[str], str]:
    return answers, normalise(prediction)


def _punct_if_disagree(answers: list[str], prediction: str, normalise: Callable) -> tuple[list[str], str]:
    if len(set(answers)) > 1:
        answers = _each(strip_punctuation, answers)
    return answers, normalise(prediction)


def _full_if_disagree(answers: list[str], prediction: str, normalise: Callable) -> tuple[list[str], str]:
    answers, prediction = _each(strip_blanks, answers), strip_blanks(prediction)
    if len(set(answers)) > 1:
        return _each(normalise, answers), normalise(prediction)
    return answers, prediction


def _full(answers: list[str], prediction: str, normalise: Callable) -> tuple[list[str], str]:
    return _each(normalise, answers), normalise(prediction)


_GT_PROCESSING = {
    "raw": _raw,
    "punct_if_disagree": _punct_if_disagree,
    "full_if_disagree": _full_if_disagree,
    "full": _full,
}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How one scorer compares an answer with people's.

    Attributes:
      gt_processing: what becomes of the texts before they are compared.
        raw: the prediction is normalised, people's answers are as they are.
        punct_if_disagree: the prediction is normalised; people's answers lose punctuation unless all are equal.
        full_if_disagree: both are normalised unless all of people's answers are equal; blanks are stripped always.
        full: both are normalised.
      leave_one_out: mean, over the people, of min(n / 3, 1) for n others who gave the answer; else that of all people.
      normalise: text → text.
      people: each question's number of answers, by which the mean is divided; None: as many as there are.
    """

    gt_processing: str = "full_if_disagree"
    leave_one_out: bool = True
    normalise: Callable[[str], str] = normalise_vqa
    people: int | None = None

    def __post_init__(self):
        if self.gt_processing not in _GT_PROCESSING:
            raise ValueError(
                f"gt_processing is {self.gt_processing!r}; choose one of {', '.join(map(repr, _GT_PROCESSING))}."
            )

    def score(self, answers: Collection[str], prediction: str) -> float:
        """Accuracy of one prediction, in [0, 1]; NaN where nobody answered, as in a test split."""
        answers = list(answers)
        if not answers:
            return float("nan")
        answers, prediction = _GT_PROCESSING[self.gt_processing](answers, prediction, self.normalise)
        matches = answers.count(prediction)
        if not self.leave_one_out:
            return min(matches / 3, 1.0)
        left_in, left_out = min(max(matches - 1, 0) / 3, 1.0), min(matches / 3, 1.0)
        return (matches * left_in + (len(answers) - matches) * left_out) / (self.people or len(answers))


PROTOCOLS: Mapping[str, Protocol] = {
    "vqa_v2": Protocol("full_if_disagree"),  # the official scorer (GT-Vision-Lab/VQA) since March 2021; also big_vision
    "vqa_v2_2017": Protocol("punct_if_disagree"),  # the official scorer before
    "lavis": Protocol("full"),
    "vizwiz": Protocol("raw", normalise=functools.partial(normalise_vqa, contractions=VIZWIZ_CONTRACTIONS)),
    "simple": Protocol(
        "raw", leave_one_out=False, normalise=str
    ),  # PaliGemma's OKVQA, TextVQA, VizWiz: nothing altered
    "tokyo_course": Protocol("full", normalise=normalise_course, people=10),
}


@dataclasses.dataclass(frozen=True)
class Question:
    """What the answer to one question is scored against.

    Attributes:
      answers: of all people, one each; equal ones are repeated.
      answer_type: such as "yes/no", "number", "other", "unanswerable"; "" where it isn't known.
      question_type: its first words in VQAv2 ("what color is the"); "" where it isn't known.
    """

    answers: tuple[str, ...]
    answer_type: str = ""
    question_type: str = ""


def vqa_scores(
    references: Sequence[Collection[str]], predictions: Sequence[str], protocol: Protocol = PROTOCOLS["vqa_v2"]
) -> np.ndarray:
    """float64[N]: accuracy of each prediction, in [0, 1]; NaN where a question has no answers.

    Args:
      references: people's answers to each question, with repetitions. Left out in turn, a single person agrees with
        nobody: questions with one answer score 0, and other protocols than "simple" are of no use to them.
      predictions: one text each.
      protocol: see PROTOCOLS.
    """
    check_pairs(references, predictions)
    return np.array([protocol.score(r, p) for r, p in zip(references, predictions, strict=True)], np.float64)


def _mean(scores: np.ndarray) -> float:
    scores = scores[~np.isnan(scores)]
    return float(scores.mean()) if len(scores) else float("nan")


def vqa_accuracy(
    targets: Sequence[Collection[str]],
    predictions: Sequence[str],
    protocol: Protocol = PROTOCOLS["vqa_v2"],
    name: str = "vqa_accuracy",
) -> dict[str, float]:
    """{name: mean of `vqa_scores`} over the questions that have answers; NaN where none has."""
    return {name: _mean(vqa_scores(targets, predictions, protocol))}


def vqa_accuracy_by_type(
    targets: Sequence[Question],
    predictions: Sequence[str],
    protocol: Protocol = PROTOCOLS["vqa_v2"],
    name: str = "vqa_accuracy",
) -> dict[str, float]:
    """As `vqa_accuracy`, then the same apart for each type of answer and of question that occurs.

    Their names are "<name>_answer_yes_no", "<name>_question_what_color_is_the" and so on.
    """
    scores = vqa_scores([question.answers for question in targets], predictions, protocol)
    found = {name: _mean(scores)}
    for kind, types in (
        ("answer", [question.answer_type for question in targets]),
        ("question", [question.question_type for question in targets]),
    ):
        for each in sorted({each for each in types if each}):
            members = np.array([other == each for other in types])
            found[f"{name}_{kind}_{re.sub(r'[^a-z0-9]+', '_', each.lower()).strip('_')}"] = _mean(scores[members])
    return found


def answerable(prediction: str) -> float:
    """1.0 for a generated answer, 0.0 where it is "unanswerable"; what `answerability` takes."""
    return float(normalise_vqa(prediction) != "unanswerable")


def answerability(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """VizWiz' second task, where what is to be found are the questions that can NOT be answered from the image.

    Args:
      targets: 1 where a question is answerable, else 0.
      predictions: confidence that it is, in [0, 1]; of a generated answer, `answerable` of it.

    Returns:
      "answerability_average_precision": of ranking by 1 - prediction, step-wise, as scikit-learn computes it (NaN where
      every question is answerable); "answerability_f1": of the questions with 1 - prediction > 0.5.
    """
    check_pairs(targets, predictions)
    truth, confidence = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if not np.isin(truth, (0, 1)).all() or not np.isfinite(confidence).all():
        raise ValueError(
            "Answerability needs targets of 0 or 1 and finite predictions in [0, 1]; of generated text, give "
            "paligax.metrics.answerable(text)."
        )
    truth, confidence = 1 - truth, 1 - confidence
    found = confidence > 0.5
    right = float((truth * found).sum())
    return {
        "answerability_average_precision": mean_average_precision(truth[:, None], confidence[:, None]),
        "answerability_f1": 2 * right / max(truth.sum() + found.sum(), 1),
    }
