"""Questions about a passage of text, in SQuAD's JSON: SQuAD, XQuAD, TyDi QA's gold passage task, MLQA."""

import dataclasses
import os
import re
from collections.abc import Iterator

from paligax.data.ingest import files
from paligax.data.ingest.reader import RECORD, Problem, Reader, Record, Unit
from paligax.data.ingest.readers import grouping, large_files
from paligax.data.ingest.readers.grouping import Problems

_LANGUAGE = re.compile(r"[.-]([a-z]{2,3})(?:\.(?:dev|train|test))?\.json(?:\.gz)?$")
# TyDi QA's ids begin with their language's name.
_TYDI = {
    "arabic": "ar",
    "bengali": "bn",
    "english": "en",
    "finnish": "fi",
    "indonesian": "id",
    "japanese": "ja",
    "korean": "ko",
    "russian": "ru",
    "swahili": "sw",
    "telugu": "te",
    "thai": "th",
}
_NO_LANGUAGE = ("dev", "train", "test")


@dataclasses.dataclass(frozen=True)
class Squad(Reader):
    """{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text"}]}]}]}]}

    train-v1.1.json, xquad.de.json, tydiqa-goldp-v1.1-train.json, tydiqa.en.dev.json, test-context-de-question-de.json.
    A record is a question: its text is the passage, and it has an entry for each right answer. Questions without an
    answer (SQuAD 2's is_impossible) are counted and left out.

    Attributes:
      path: a file, a pattern (xquad.*.json), a folder, or several with commas.
      lang: "": as a question's id begins (TyDi QA: "finnish-…"), else as the file's name says, else "en".
      source: written into the records.
      unit_size: questions a unit.
    """

    path: str
    lang: str = ""
    source: str = "squad"
    unit_size: int = 5000

    def units(self) -> Iterator[Unit]:
        problems = Problems()
        found = files.matching(self.path, (".json", ".json.gz"))
        asked = (question for file in found for question in self._questions(file, problems))
        yield from grouping.units(asked, problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for identity, lang, context, question, answers in unit["images"]:
            qa = [{"lang": lang, "question": question, "answer": answer} for answer in answers]
            yield {"id": identity, "text": context, "text_lang": lang, "qa": qa, "source": self.source}

    def _questions(self, file: str, problems: Problems) -> Iterator[list]:
        named = _LANGUAGE.search(os.path.basename(file))
        of_file = named[1] if named and named[1] not in _NO_LANGUAGE else "en"
        names = set()
        for name, place, article in large_files.json_items(file):
            names.add(name)
            if name != "data":
                continue
            for context, entry in _entries(article, f"{file}: data {place}", problems):
                identity, where = str(entry.get("id", ""))[:200], f"{file}: {str(entry.get('id', place))[:100]}"
                lang = self.lang or _TYDI.get(identity.partition("-")[0]) or of_file
                question = entry.get("question")
                answers = _texts(entry.get("answers"))
                if not isinstance(question, str) or not question.strip():
                    problems.add("question without text", where, lost=RECORD)
                elif not answers:
                    problems.add("question without answers", where, lost=RECORD)
                else:
                    yield [identity, lang, context, question.strip(), answers]
        if "data" not in names:
            raise ValueError(f"{file!r} has no questions: expected an object with 'data', got {sorted(names)[:20]}.")


def _entries(article: object, where: str, problems: Problems) -> Iterator[tuple[str, dict]]:
    """(passage, question as it stands) of an article."""
    paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
    if not isinstance(paragraphs, list):
        problems.add("article without paragraphs", where, lost=RECORD)
        return
    for paragraph in paragraphs:
        context, asked = (paragraph.get(k) if isinstance(paragraph, dict) else None for k in ("context", "qas"))
        if not isinstance(context, str) or not context.strip() or not isinstance(asked, list):
            problems.add("paragraph without text or questions", where, lost=RECORD)
            continue
        for entry in asked:
            if isinstance(entry, dict):
                yield context, entry
            else:
                problems.add("question without text", where, lost=RECORD)


def _texts(answers: object) -> list[str]:
    """Texts of the right answers, each as often as people gave it."""
    given = [answers] if isinstance(answers, dict) else answers if isinstance(answers, list) else []
    texts = [answer.get("text") if isinstance(answer, dict) else answer for answer in given]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]
