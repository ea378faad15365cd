"""Visual Genome: objects, region descriptions and questions of 108,077 images."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from paligax.data.ingest.reader import RECORD, Problem, Reader, Record, Unit
from paligax.data.ingest.readers import boxes, grouping, large_files, pictures
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows


@dataclasses.dataclass(frozen=True)
class VisualGenome(Reader):
    """The four published files, each a JSON list with an entry an image, of which any but the last may be left out:

      objects.json              {"image_id", "objects": [{"names": ["clock"], "x", "y", "w", "h"}]}, in pixels
      region_descriptions.json  {"id", "regions": [{"phrase", "image_id", "x", "y", "width", "height"}]}
      question_answers.json     {"id", "qas": [{"question", "answer", "image_id"}]}
      image_data.json           {"image_id", "width", "height", "url"}

    An object's first name stands with its box, further ones (few have any) without. Descriptions of regions, about
    fifty an image, become its alt-texts, without their boxes. Answers stay as published, with their full stop.

    Memory while reading: 37 bytes an object; 20 and the text for a region; 28 and the texts for a question: 0.6 GB.

    Attributes:
      images: folder of VG_100K and VG_100K_2, or of all their files together.
      path: folder of the annotation files; "": the same.
      objects, regions, qa: the files' names in that folder; "" leaves them out.
      image_data: the list of images, and their sizes.
      lang: language of descriptions and questions.
      source: written into the records.
      unit_size: images a unit.
    """

    images: str
    path: str = ""
    objects: str = "objects.json"
    regions: str = "region_descriptions.json"
    qa: str = "question_answers.json"
    image_data: str = "image_data.json"
    lang: str = "en"
    source: str = "visual_genome"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        large_files.require(*(self._file(name) for name in (self.objects, self.regions, self.qa) if name))
        keys, problems = Keys(), Problems()
        path = self._file(self.image_data)
        listed = Rows("tii")
        for _, place, value in large_files.json_items(path):
            value = value if isinstance(value, dict) else {}
            image = keys.number(value.get("image_id", value.get("id")))  # "id" in the first version
            if image < 0:
                problems.add("image without id", path, place, RECORD)
            else:
                # Of "https://…/VG_100K_2/1.jpg" the last two parts.
                url = value.get("url") if isinstance(value.get("url"), str) else f"VG_100K/{keys.keys[image]}.jpg"
                sides = (boxes.pixels(value.get(side)) for side in ("height", "width"))
                listed.add(image, "/".join(url.split("/")[-2:]), *sides)
        if not len(listed):
            raise ValueError(f"{path!r} has no images: expected a JSON list of objects with 'image_id', 'url', ….")
        objects, names = self._objects(keys, problems)
        phrases = self._texts(self.regions, "regions", ("phrase",), keys, problems)
        questions = self._texts(self.qa, "qas", ("question", "answer"), keys, problems)
        # Dealt only now: images that a later file alone names have numbers behind those that are listed.
        images = listed.deal(len(keys))
        objects_of, phrases_of, questions_of = (rows.deal(len(keys)) for rows in (objects, phrases, questions))
        for name, rows in ((self.objects, objects_of), (self.regions, phrases_of), (self.qa, questions_of)):
            grouping.note_strangers(problems, keys, images, rows, self._file(name))

        def entries() -> Iterator[dict[str, Any]]:
            for i in grouping.in_order(listed.image, len(keys), problems, path):
                name, height, width = images.rows(i)[0]
                phrases = [phrase for (phrase,) in phrases_of.rows(i)]
                entry = {"id": keys.keys[i], "name": name, "size": [height, width], "phrases": phrases}
                yield {**entry, "qa": questions_of.rows(i), **boxes.pack(objects_of, i, names)}

        yield from grouping.units(entries(), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for entry in unit["images"]:
            numbered = f"{entry['id']}.jpg"
            names = [entry["name"], entry["name"].split("/")[-1], f"VG_100K/{numbered}", f"VG_100K_2/{numbered}"]
            image = pictures.find_image(self.images, names)
            if isinstance(image, Problem):
                yield image
                continue
            size = tuple(entry["size"])
            objects, why = boxes.relative(entry, image, size, os.path.join(self.images, entry["name"]))
            yield from why
            record: Record = {"id": entry["id"], "image": image, "objects": objects, "source": self.source}
            record["alt_text"] = {"lang": [self.lang] * len(entry["phrases"]), "text": entry["phrases"]}
            record["qa"] = [{"lang": self.lang, "question": q, "answer": a} for q, a in entry["qa"]]
            yield record

    def _file(self, name: str) -> str:
        return os.path.join(self.path or self.images, name)

    def _objects(self, keys: Keys, problems: Problems) -> tuple[Rows, list[str]]:
        """Rows as boxes.object_rows, and the names of their classes."""
        rows, names = boxes.object_rows(), Keys()
        for where, image_id, value in self._entries(self.objects, "objects", problems):
            image = keys.number(value.get("image_id", image_id))
            called = value.get("names")
            called = called if isinstance(called, list) else [called]
            called = [name.strip() for name in called if isinstance(name, str)]
            numbers = [number for name in called if (number := names.number(name)) >= 0]
            if image < 0 or not numbers:
                problems.add("object without image or name", where)
                continue
            box = boxes.corners([value.get(side) for side in ("x", "y", "w", "h")])
            rows.add(image, numbers[0], *box, float("nan"), 0)
            for number in numbers[1:]:
                rows.add(image, number, *boxes.NO_BOX, float("nan"), 0)
        return rows, names.keys

    def _texts(self, file: str, group: str, fields: tuple[str, ...], keys: Keys, problems: Problems) -> Rows:
        rows = Rows("t" * len(fields))
        for where, image_id, value in self._entries(file, group, problems):
            image = keys.number(value.get("image_id", image_id))
            texts = [value.get(field) for field in fields]
            if image < 0 or not all(isinstance(text, str) for text in texts):
                problems.add(f"no image or {' or '.join(fields)}", where)
            else:
                rows.add(image, *texts)
        return rows

    def _entries(self, file: str, group: str, problems: Problems) -> Iterator[tuple[str, Any, dict]]:
        """(where, the image's id, one of its ``group``) of a file with an entry an image."""
        if not file:
            return
        path = self._file(file)
        for _, place, value in large_files.json_items(path):
            value = value if isinstance(value, dict) else {}
            members = value.get(group)
            where = f"{path}: {place}"
            if not isinstance(members, list):
                problems.add(f"entry without {group}", where)
                continue
            for member in members:
                if isinstance(member, dict):
                    yield where, value.get("image_id", value.get("id")), member
                else:
                    problems.add("entry is no object", where)
