"""Challenge submissions: the answers of a question file in the form in which the evaluation servers take them."""

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Form:
    """One entry of a submission.

    Attributes:
      id_key: its name for the question's id.
      answer_key: its name for the answer.
      whole_number: whether ids are numbers; else they are texts.
      without_answer: what stands for a question that couldn't be asked: servers want every question answered.
    """

    id_key: str
    answer_key: str
    whole_number: bool = True
    without_answer: str = ""


_CAPTIONS = Form("image_id", "caption")
_ANSWERS = Form("question_id", "answer")
FORMS: Mapping[str, Form] = {
    "vqav2": _ANSWERS,
    "okvqa": _ANSWERS,
    "textvqa": _ANSWERS,
    "stvqa": _ANSWERS,
    "gqa": Form("questionId", "prediction", whole_number=False),
    "vizwiz_vqa": Form("image", "answer", whole_number=False, without_answer="unanswerable"),
    "coco_captions": _CAPTIONS,
    "vizwiz_captions": _CAPTIONS,
    "nocaps": _CAPTIONS,
}


def check_ids(ids: Iterable[int | str], name: str) -> None:
    """Whether questions can be answered in this form: to be known before the first is asked.

    Raises:
      ValueError: for a form that isn't known, or ids of another kind.
    """
    form = _form(name)
    for one in ids:
        _id(one, form, name)


def write(
    lines: Iterable[Mapping[str, Any]], ids: Iterable[int | str], name: str, path: str | os.PathLike
) -> collections.Counter[str]:
    """Writes a submission: every question once, in the order of the questions.

    Args:
      lines: of `paligax infer`: {"id", "prediction" or "predictions" or "error"}.
      ids: of the questions.
      name: of ``FORMS``.
      path: the .json file; it appears whole or not at all.

    Returns:
      reason → number of the questions that could not be asked and have the form's ``without_answer``.

    Raises:
      ValueError: where a question has no line, or two, or a line no question; nothing is written then.
    """
    form, path = _form(name), pathlib.Path(path)
    answers: dict[int | str, str] = {}
    problems: collections.Counter[str] = collections.Counter()
    for line in lines:
        if line["id"] in answers:
            raise ValueError(f"Question {line['id']!r} is answered twice: the answers are not of one run.")
        if "error" in line:
            problems[line["error"]] += 1
            answers[line["id"]] = form.without_answer
        else:
            answers[line["id"]] = line["predictions"][0] if "predictions" in line else line["prediction"]
    entries = [{form.id_key: _id(one, form, name), form.answer_key: answer} for one, answer in _matched(ids, answers)]
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, path)
    return problems


def _matched(ids: Iterable[int | str], answers: Mapping[int | str, str]) -> Iterator[tuple[int | str, str]]:
    wanted = list(ids)
    lacking = [one for one in wanted if one not in answers]
    strange = set(answers) - set(wanted)
    if lacking or strange or len(set(wanted)) != len(wanted):
        raise ValueError(
            f"{len(lacking)} questions have no answer ({', '.join(map(str, lacking[:3]))}), {len(strange)} answers no "
            f"question ({', '.join(map(str, list(strange)[:3]))}), {len(wanted) - len(set(wanted))} questions stand "
            "twice: answer this very file of questions."
        )
    return ((one, answers[one]) for one in wanted)


def _form(name: str) -> Form:
    if name not in FORMS:
        raise ValueError(f"Submission {name!r} is not known; known: {', '.join(FORMS)}.")
    return FORMS[name]


def _id(value: int | str, form: Form, name: str) -> int | str:
    if not form.whole_number:
        return str(value)
    if isinstance(value, bool) or not str(value).removeprefix("-").isdecimal():
        raise ValueError(
            f"A submission to {name} numbers its questions ({form.id_key}); here is the id {value!r}. Give the "
            "published question file by --questions."
        )
    return int(value)
