"""Natural language inference in many languages: XNLI (arXiv 1809.05053), MultiNLI and its translations."""

import dataclasses
import os
import re
from collections.abc import Iterator

from paligax.data.ingest import files
from paligax.data.ingest.reader import RECORD, Problem, Reader, Record, Unit
from paligax.data.ingest.readers import grouping, large_files
from paligax.data.ingest.readers.grouping import Problems

LABELS = ("entailment", "neutral", "contradiction")
_ALIASES = {"contradictory": "contradiction"}  # so the translations of MultiNLI have it
_UNDECIDED = "-"  # annotators found no common label
_LANGUAGE = re.compile(r"[.-]([a-z]{2,3})\.(?:tsv|txt)(?:\.gz)?$")
# Names that the columns have: of XNLI and MultiNLI, and of MultiNLI's translations.
_COLUMNS = (("sentence1", "sentence2", "gold_label"), ("premise", "hypo", "label"))


@dataclasses.dataclass(frozen=True)
class Xnli(Reader):
    """Tables of sentence pairs, separated by tabs and told apart by their first line:

      XNLI (xnli.dev.tsv, xnli.test.tsv): columns language, gold_label, sentence1, sentence2, pairID among others.
      MultiNLI (multinli_1.0_train.txt): the same without language.
      MultiNLI translated (multinli.train.de.tsv): premise, hypo, label.
      without names (XTREME's train-en.tsv): premise, hypothesis, label.

    A record is a pair: text is the premise, its question the hypothesis, the answer one of entailment, neutral and
    contradiction. Pairs on which the annotators didn't agree ("-") are counted and left out.

    Attributes:
      path: a file, a pattern, a folder, or several with commas.
      lang: language of files that don't say it in a column; "": as their names say, else "en".
      source: written into the records.
      unit_size: pairs a unit.
    """

    path: str
    lang: str = ""
    source: str = "xnli"
    unit_size: int = 10_000

    def units(self) -> Iterator[Unit]:
        problems = Problems()
        found = files.matching(self.path, (".tsv", ".txt", ".tsv.gz", ".txt.gz"))
        pairs = (pair for file in found for pair in self._pairs(file, problems))
        yield from grouping.units(pairs, problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for identity, lang, premise, hypothesis, label in unit["images"]:
            qa = [{"lang": lang, "question": hypothesis, "answer": label}]
            yield {"id": identity, "text": premise, "text_lang": lang, "qa": qa, "source": self.source}

    def _pairs(self, file: str, problems: Problems) -> Iterator[list[str]]:
        named = _LANGUAGE.search(os.path.basename(file))
        own = self.lang or (named[1] if named else "en")
        places: list[int] | None = None
        width = 0
        for number, row in large_files.table(file, tabs=True):
            if isinstance(row, Problem):
                problems.note(row, RECORD)
                continue
            if places is None:
                places, width, is_header = _layout(row, file)
                if is_header:
                    continue
            if len(row) != width:
                problems.add("table row of another length", f"{file}:{number}", lost=RECORD)
                continue
            lang, identity, premise, hypothesis, label = ("" if place < 0 else row[place] for place in places)
            label = _ALIASES.get(label, label)
            if label == _UNDECIDED:
                problems.add("annotators disagree", f"{file}:{number}", lost=RECORD)
            elif label not in LABELS or not premise or not hypothesis:
                problems.add("pair without sentence or label", f"{file}:{number}", lost=RECORD)
            else:
                yield [identity or f"{os.path.basename(file)}:{number}", lang or own, premise, hypothesis, label]


def _layout(first: list[str], file: str) -> tuple[list[int], int, bool]:
    """Columns of (language, id, premise, hypothesis, label), -1: none; number of columns; whether this line names them.

    Raises ValueError where the line is none of the layouts'.
    """
    for names in _COLUMNS:
        if all(name in first for name in names):
            optional = [first.index(name) if name in first else -1 for name in ("language", "pairID")]
            return optional + [first.index(name) for name in names], len(first), True
    if len(first) == 3 and _ALIASES.get(first[2], first[2]) in LABELS:
        return [-1, -1, 0, 1, 2], 3, False
    raise ValueError(
        f"{file!r} holds no pairs: expected columns sentence1, sentence2, gold_label or premise, hypo, label; or "
        f"three without names. Its first line is {', '.join(first)[:300]!r}."
    )
