"""SuperGLUE's classification tasks (arXiv 1905.00537), whose files are JSON lines."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from paligax.data.ingest.reader import RECORD, Problem, Reader, Record, Unit, option
from paligax.data.ingest.readers import grouping, large_files
from paligax.data.ingest.readers.grouping import Problems

_NLI = ("entailment", "neutral", "contradiction", "not_entailment")
_TRUTH = {True: "True", False: "False", "true": "True", "false": "False"}


@dataclasses.dataclass(frozen=True)
class Form:
    """Where a task's fields go in a record.

    Attributes:
      text: field that is the record's text.
      question: field that is its question.
      parts: further fields, the record's labels in this order.
      answer: a label as the file has it → the answer; raises KeyError for what is no label.
    """

    text: str
    question: str
    parts: tuple[str, ...]
    answer: Callable[[Any], str]


def _one_of(labels: Mapping[Any, str]) -> Callable[[Any], str]:
    return lambda label: labels[label]


FORMS = {
    "boolq": Form("passage", "question", (), _one_of(_TRUTH)),
    "cb": Form("premise", "hypothesis", (), _one_of({label: label for label in _NLI[:3]})),
    "copa": Form("premise", "question", ("choice1", "choice2"), _one_of({0: "choice1", 1: "choice2"})),
    "rte": Form("premise", "hypothesis", (), _one_of({label: label for label in (_NLI[0], _NLI[3])})),
    "wic": Form("sentence1", "word", ("sentence2",), _one_of(_TRUTH)),
}


@dataclasses.dataclass(frozen=True)
class SuperGlue(Reader):
    """A task's train.jsonl, val.jsonl or test.jsonl, as they lie in its folder (BoolQ/, CB/, COPA/, RTE/, WiC/):

        boolq  {"question", "passage", "label": true}
        cb     {"premise", "hypothesis", "label": "entailment" | "neutral" | "contradiction"}
        copa   {"premise", "choice1", "choice2", "question": "cause" | "effect", "label": 0 | 1}
        rte    {"premise", "hypothesis", "label": "entailment" | "not_entailment"}
        wic    {"word", "sentence1", "sentence2", "label": true}

    A record's text is the passage, the premise or the first sentence; its question is the question, the hypothesis or
    the word; COPA's choices and WiC's second sentence are its labels, in that order. Lines of a test set have no label
    and the answer "".

    Attributes:
      path: the file.
      task: one of the five.
      source: written into the records; "": super_glue_<task>.
      unit_size: lines a unit.
    """

    path: str
    task: str = option("boolq", choices=tuple(FORMS))
    source: str = ""
    unit_size: int = 10_000

    def units(self) -> Iterator[Unit]:
        large_files.require(self.path)
        problems = Problems()
        yield from grouping.units(self._rows(problems), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for identity, text, question, parts, answer in unit["images"]:
            yield {
                "id": identity,
                "text": text,
                "text_lang": "en",
                "qa": [{"lang": "en", "question": question, "answer": answer}],
                "labels": parts,
                "source": self.source or f"super_glue_{self.task}",
            }

    def _rows(self, problems: Problems) -> Iterator[list[Any]]:
        form = FORMS[self.task]
        for number, value in large_files.json_lines(self.path):
            where = f"{self.path}:{number}"
            if isinstance(value, Problem):
                problems.note(value, RECORD)
                continue
            value = value if isinstance(value, dict) else {}
            texts = [value.get(name) for name in (form.text, form.question, *form.parts)]
            if not all(isinstance(text, str) and text.strip() for text in texts):
                problems.add("line without its texts", where, lost=RECORD)
                continue
            label = value.get("label")
            try:
                answer = "" if label is None else form.answer(label)
            except (KeyError, TypeError):
                problems.add("label is not known", where, lost=RECORD)
                continue
            text, question, *parts = texts
            identity = value.get("idx", number)
            yield [f"{self.task}:{os.path.basename(self.path)}:{identity}", text, question, parts, answer]
