"""GQA (arXiv 1902.09506), and xGQA (arXiv 2109.06082): its questions in seven more languages, answers in English."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator

from paligax.data.ingest import files
from paligax.data.ingest.reader import Problem, Reader, Record, Unit
from paligax.data.ingest.readers import grouping, large_files, pictures
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows

_LANGUAGE = re.compile(r"_questions?_([a-z]{2,3})\.json(?:\.gz)?$")


@dataclasses.dataclass(frozen=True)
class Gqa(Reader):
    """GQA's files of questions: {"<question id>": {"imageId", "question", "answer", "fullAnswer", …}}.

    train_balanced_questions.json, the ten files of train_all_questions/, testdev_balanced_questions.json, and xGQA's
    testdev_balanced_questions_de.json (bn, de, en, id, ko, pt, ru, zh). The short answer is taken; rows of test sets
    without one are asked with the answer "". Questions about an image in several files come into one record, each with
    its language. Files of images are <imageId>.jpg.

    Memory while reading: about 100 bytes a question.

    Attributes:
      path: a file, a pattern (testdev_balanced_questions_*.json), a folder, or several with commas.
      images: folder of the images.
      lang: language of the questions; "": as the files' names say, "en" where one doesn't.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    lang: str = ""
    source: str = "gqa"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        keys, problems, pairs = Keys(), Problems(), Rows("ttt")
        for file in files.matching(self.path, (".json", ".json.gz")):
            named = _LANGUAGE.search(os.path.basename(file))
            lang = self.lang or (named[1] if named else "en")
            for number, fields in itertools.groupby(large_files.json_items(file), lambda item: item[0]):
                value = {place: field for _, place, field in fields if place in ("imageId", "question", "answer")}
                question, answer = value.get("question"), value.get("answer", "")
                image = keys.number(value.get("imageId")) if isinstance(question, str) else -1
                if image < 0 or not isinstance(answer, str):
                    problems.add("question without image or text", f"{file}: question {str(number)[:100]}")
                else:
                    pairs.add(image, lang, question, answer)
        if not len(keys):
            raise ValueError(
                f"{self.path!r} has no questions: expected JSON objects {{question id: {{'imageId', 'question', "
                "'answer'}}}."
            )
        dealt = pairs.deal(len(keys))
        yield from grouping.units(([key, dealt.rows(i)] for i, key in enumerate(keys.keys)), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for key, rows in unit["images"]:
            image = pictures.find_image(self.images, [f"{key}.jpg"])
            if isinstance(image, Problem):
                yield image
                continue
            qa = [{"lang": lang, "question": question, "answer": answer} for lang, question, answer in rows]
            yield {"id": key, "image": image, "qa": qa, "source": self.source}
