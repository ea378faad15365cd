"""Questions that people asked and answered: VQAv2, OK-VQA, TextVQA, VizWiz-VQA.

Each question has ten answers by ten people. A record's qa entry has one; what `answers` chooses:

    mode   one entry a question, with its most frequent answer (of equally frequent ones the first given): to train
    all    an entry for each answer, in order: the question stands ten times. Held out, the task takes every answer that
           the record gives to a question as right, with its multiplicity: to score. Each entry is asked, but not
           of a task that takes items "question".

A question of a test set, which has no answers, has one entry with the answer "": it can be asked, and training skips
it. In a file with answers, a question that has none is left out and counted.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from paligax.data.ingest.reader import Problem, Reader, Record, Unit, option
from paligax.data.ingest.readers import grouping, large_files, pictures
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows

ANSWERS = ("mode", "all")


def chosen(question: str, answers: Sequence[str] | None, keep: str) -> list[list[str]]:
    """[[question, answer]], by the choice above; None: a test set's question."""
    if answers is None:
        return [[question, ""]]
    if keep == "all":
        return [[question, answer] for answer in answers]
    return [[question, answer] for answer, _ in collections.Counter(answers).most_common(1)]


def texts_of(answers: Any, field: str, problems: Problems, where: str) -> list[str]:
    """The answers' texts, of a list of texts or of objects with that field; notes those that are empty or have none."""
    found = []
    for answer in answers if isinstance(answers, list) else [answers]:
        text = answer.get(field) if isinstance(answer, dict) else answer
        if isinstance(text, str) and text.strip():
            found.append(text)
        else:
            problems.add("empty answer" if isinstance(text, str) else "answer is no text", where)
    return found


def records(unit: Unit, folder: str, names: Any, lang: str, source: str) -> Iterator[Record | Problem]:
    """The records of [[key, turn, [[question, answer]]]]; ``names``: key → names that its file may have."""
    yield from grouping.problems_of(unit)
    for key, turn, pairs in unit["images"]:
        image = pictures.find_image(folder, names(key))
        if not isinstance(image, Problem):
            image = pictures.upright(image, turn, f"{folder}/{key}")
        if isinstance(image, Problem):
            yield image
            continue
        qa = [{"lang": lang, "question": question, "answer": answer} for question, answer in pairs]
        yield {"id": key, "image": image, "qa": qa, "source": source}


def entries(keys: Keys, pairs: Rows, turns: dict[str, int]) -> Iterator[list[Any]]:
    dealt = pairs.deal(len(keys))
    for i, key in enumerate(keys.keys):
        yield [key, turns.get(key, 0), dealt.rows(i)]


@dataclasses.dataclass(frozen=True)
class Vqa2(Reader):
    """VQAv2 and OK-VQA, whose layout is the same: a file of questions and, but for test sets, a file of annotations.

    v2_OpenEnded_mscoco_train2014_questions.json: {"data_subtype": "train2014", "questions": [{"image_id", "question",
    "question_id"}]}; v2_mscoco_train2014_annotations.json: {"annotations": [{"question_id", "image_id",
    "multiple_choice_answer", "answers": [{"answer", "answer_confidence", "answer_id"}]}]}. Images are COCO's:
    COCO_train2014_000000000009.jpg.

    Memory while reading: about 400 bytes a question with its ten answers.

    Attributes:
      questions: the questions' file.
      images: folder of the images, or of the folder train2014 (val2014, test2015) that holds them.
      annotations: the annotations' file; "": a test set.
      answers: "mode" or "all", see above.
      answer_field: "answer", or "raw_answer": in OK-VQA the answers are stemmed ("surf") and these aren't ("surfing").
      subset: the part of COCO that the images are of; "": as the questions' file says (test-dev2015 is test2015).
      lang: language of the questions.
      source: written into the records.
      unit_size: images a unit.
    """

    questions: str
    images: str
    annotations: str = ""
    answers: str = option("mode", choices=ANSWERS)
    answer_field: str = "answer"
    subset: str = ""
    lang: str = "en"
    source: str = "vqav2"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        large_files.require(self.questions, self.annotations)
        keys, problems, pairs = Keys(), Problems(), Rows("tt")
        answers = self._answers(problems) if self.annotations else {}
        subset, asked = self.subset, 0
        for name, place, value in large_files.json_items(self.questions):
            if name == "data_subtype" and isinstance(value, str):
                subset = subset or value.replace("test-dev", "test")
            if name != "questions":
                continue
            asked += 1
            value = value if isinstance(value, dict) else {}
            question, image_id, where = value.get("question"), value.get("image_id"), f"{self.questions}: {name}"
            image = keys.number(image_id) if str(image_id).isdecimal() and len(str(image_id)) <= 12 else -1
            if image < 0 or not isinstance(question, str):
                problems.add("question without image or text", where, place)
                continue
            given = answers.pop(str(value.get("question_id")), ()) if self.annotations else None
            if given == ():
                problems.add("question without answers", where, place)
                continue
            for pair in chosen(question, given, self.answers):
                pairs.add(image, *pair)
        if not asked:
            raise ValueError(f"{self.questions!r} has no questions: expected a JSON object with 'questions'.")
        if not subset:
            raise ValueError(f"{self.questions!r} doesn't say its data_subtype: give subset, like train2014.")
        for question in answers:
            problems.add("answers without question", f"{self.annotations}: question_id {question}")
        for unit in grouping.units(entries(keys, pairs, {}), problems, self.unit_size):
            yield {**unit, "subset": subset}

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        def names(key: str) -> list[str]:
            return pictures.coco_names(int(key), [unit["subset"]])

        yield from records(unit, self.images, names, self.lang, self.source)

    def _answers(self, problems: Problems) -> dict[str, tuple[str, ...]]:
        """question_id → answers, equal texts being one object."""
        found: dict[str, tuple[str, ...]] = {}
        same: dict[str, str] = {}
        names = set()
        for name, place, value in large_files.json_items(self.annotations):
            names.add(name)
            if name != "annotations":
                continue
            where = f"{self.annotations}: {name} {place}"
            if not isinstance(value, dict) or not isinstance(value.get("question_id"), (int, str)):
                problems.add("answers without question", where)
                continue
            given = value.get("answers")
            if given is None and "multiple_choice_answer" in value:  # all that some copies keep
                given = [value["multiple_choice_answer"]]
            texts = texts_of(given, self.answer_field, problems, where)
            found[str(value["question_id"])] = tuple(same.setdefault(text, text) for text in texts)
        if "annotations" not in names:
            raise ValueError(f"{self.annotations!r} has no answers: expected a JSON object with 'annotations'.")
        return found


@dataclasses.dataclass(frozen=True)
class TextVqa(Reader):
    """TextVQA (TextVQA_0.5.1_train.json): {"data": [{"question", "question_id", "image_id", "answers": [10 texts]}]}.

    Files are <image_id>.jpg, Open Images' names; those of val lie with train's. Test rows have no answers.

    Attributes:
      path: the annotation file.
      images: folder of the images, or of the folders train_images and test_images.
      answers: "mode" or "all", see above.
      rotations: Open Images' table with the column Rotation (train-images-boxable-with-rotation.csv, …): images that
        lie on their side, whose text cannot be read, are turned upright and compressed anew. "": they stay.
      lang: language of the questions.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    answers: str = option("mode", choices=ANSWERS)
    rotations: str = ""
    lang: str = "en"
    source: str = "textvqa"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        large_files.require(self.path, self.rotations)
        keys, problems, pairs = Keys(), Problems(), Rows("tt")
        names = set()
        for name, place, value in large_files.json_items(self.path):
            names.add(name)
            if name == "data":
                _add(value, "image_id", f"{self.path}: {place}", self.answers, keys, pairs, problems)
        if "data" not in names:
            raise ValueError(f"{self.path!r} has no questions: expected a JSON object with 'data'.")
        turns = pictures.read_rotations(self.rotations, problems)
        yield from grouping.units(entries(keys, pairs, turns), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        def names(key: str) -> list[str]:
            return [f"{key}.jpg", f"train_images/{key}.jpg", f"test_images/{key}.jpg"]

        yield from records(unit, self.images, names, self.lang, self.source)


@dataclasses.dataclass(frozen=True)
class VizWizVqa(Reader):
    """VizWiz-VQA (train.json): a list of {"image", "question", "answers": [{"answer", "answer_confidence"}], …}.

    Also read: the same in columns, as pandas writes it ({"image": {"0": "train_00000.jpg"}, "question": {"0": …},
    "answers": {"0": [...]}}). Rows of test have no answers. The few empty answers of train are left out and counted.
    "unanswerable" is an answer like others.

    Attributes:
      path: the annotation file.
      images: folder of the images.
      answers: "mode" or "all", see above.
      lang: language of the questions.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    answers: str = option("mode", choices=ANSWERS)
    lang: str = "en"
    source: str = "vizwiz_vqa"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        keys, problems, pairs = Keys(), Problems(), Rows("tt")
        columns: dict[str, dict[int | str, Any]] = {"image": {}, "question": {}, "answers": {}}
        for name, place, value in large_files.json_items(self.path):
            if not name:
                _add(value, "image", f"{self.path}: {place}", self.answers, keys, pairs, problems)
            elif name in columns:
                columns[name][place] = value
        for place in columns["image"] | columns["question"]:
            value = {name: column[place] for name, column in columns.items() if place in column}
            _add(value, "image", f"{self.path}: {place}", self.answers, keys, pairs, problems)
        if not len(keys):
            raise ValueError(
                f"{self.path!r} has no questions: expected a JSON list of objects with 'image', 'question', 'answers', "
                "or an object of these three columns."
            )
        yield from grouping.units(entries(keys, pairs, {}), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from records(unit, self.images, lambda key: [key], self.lang, self.source)


def _add(value: Any, image_field: str, where: str, keep: str, keys: Keys, pairs: Rows, problems: Problems) -> None:
    """A row that is a question with its answers."""
    value = value if isinstance(value, dict) else {}
    question = value.get("question")
    image = keys.number(value.get(image_field)) if isinstance(question, str) else -1
    if image < 0:
        problems.add("question without image or text", where)
        return
    given = texts_of(value["answers"], "answer", problems, where) if value.get("answers") is not None else None
    if given == []:
        problems.add("question without answers", where)
        return
    for pair in chosen(question, given, keep):
        pairs.add(image, *pair)
