"""Captions and boxes in COCO's JSON, and in what others made of it.

    {"images": [{"id", "file_name", "height", "width", …}], "annotations": [{"image_id", …}], "categories": […]}

An image of the file becomes a record even where nothing is annotated: test sets have no captions.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from paligax.data.ingest.reader import PART, RECORD, Problem, Reader, Record, Unit, option
from paligax.data.ingest.readers import boxes, grouping, large_files, pictures
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows

CROWDS = ("label", "box")


@dataclasses.dataclass(frozen=True)
class CocoCaptions(Reader):
    """Image captions: COCO, NoCaps, VizWiz-Captions, TextCaps, and Karpathy's splits of COCO and Flickr.

    Layouts, told apart by what the file holds:
      COCO, NoCaps (captions_train2014.json, nocaps_val_4500_captions.json): "images" and "annotations"
        [{"image_id", "caption"}].
      VizWiz-Captions: the same; its annotations say is_precanned (the worker chose the ready sentence for pictures
        beyond recognition) and is_rejected (the data set's makers did).
      Karpathy (dataset_coco.json, dataset_flickr30k.json): "images" [{"filepath", "filename", "cocoid" or "imgid",
        "split", "sentences": [{"raw"}]}].
      TextCaps (TextCaps_0.1_train.json): "data" [{"image_id", "caption_str", "reference_strs"}], a row a caption with
        all captions of its image, files <image_id>.jpg.

    Memory while reading: 16 bytes and the text for a caption, about 250 bytes for an image.

    Attributes:
      path: the annotation file.
      images: folder of the images, or of COCO's folders (train2014, …). A file is looked for by the name given, and
        without its first folders.
      split: of Karpathy's file: train, restval, val, test, or several with commas ("train,restval" is what is usually
        trained on). "": all.
      lang: language of the captions.
      rejected: keep captions that are pre-canned or rejected.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    split: str = ""
    lang: str = "en"
    rejected: bool = False
    source: str = "coco_captions"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        keys, problems = Keys(), Problems()
        listed, captions = Rows("t"), Rows("t")
        splits, names, described = set(), set(), set()
        wanted = set(self.split.split(",")) if self.split else set()
        for name, place, value in large_files.json_items(self.path):
            names.add(name)
            if name not in ("images", "annotations", "data"):
                continue
            where = f"{self.path}: {name}"
            if not isinstance(value, dict) or not isinstance(place, int):
                problems.add("entry is no object", where, lost=PART if name == "annotations" else RECORD)
            elif name == "annotations":
                self._annotation(value, place, keys, captions, problems)
            elif name == "data":
                _textcaps(value, keys, listed, captions, described, problems, f"{where} {place}")
            else:
                its = value.get("split", "")
                splits |= {its} if its and isinstance(its, str) else set()
                if not wanted or (isinstance(its, str) and its in wanted):
                    _listing(value, place, keys, listed, captions, problems, self.path)
        if not names & {"images", "data"}:
            raise ValueError(
                f"{self.path!r} has no images: expected a JSON object with 'images' or 'data', got "
                f"{sorted(names)[:20]}."
            )
        if wanted - splits:
            raise ValueError(f"split={self.split!r}: {self.path!r} has the splits {sorted(splits) or 'none'}.")
        images, texts = listed.deal(len(keys)), captions.deal(len(keys))
        if not wanted:  # else most images are left out on purpose
            grouping.note_strangers(problems, keys, images, texts, self.path)
        # A caption of TextCaps lists its image again.
        repeats = Problems() if "data" in names else problems
        order = grouping.in_order(listed.image, len(keys), repeats, self.path)
        entries = ([keys.keys[i], images.rows(i)[0][0], [text for (text,) in texts.rows(i)]] for i in order)
        yield from grouping.units(entries, problems, self.unit_size)

    def _annotation(self, value: dict, place: int, keys: Keys, captions: Rows, problems: Problems) -> None:
        where, image = f"{self.path}: annotations", keys.number(value.get("image_id"))
        if image < 0 or not isinstance(value.get("caption"), str):
            problems.add("caption without image or text", where, place)
        elif not self.rejected and (value.get("is_precanned") or value.get("is_rejected")):
            problems.add("caption pre-canned" if value.get("is_precanned") else "caption rejected", where, place)
        else:
            captions.add(image, value["caption"])

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for key, name, captions in unit["images"]:
            image = pictures.find_image(self.images, pictures.published_names(name))
            if isinstance(image, Problem):
                yield image
                continue
            alt_text = {"lang": [self.lang] * len(captions), "text": captions}
            yield {"id": key, "image": image, "alt_text": alt_text, "source": self.source}


def _listing(value: dict, place: int, keys: Keys, listed: Rows, captions: Rows, problems: Problems, path: str) -> None:
    """An entry of "images", COCO's or Karpathy's, the latter with its captions."""
    name = value.get("file_name", value.get("filename"))
    key = next((value[k] for k in ("id", "cocoid", "imgid") if k in value), name)
    image = keys.number(key) if isinstance(name, str) else -1
    if image < 0:
        problems.add("image without id or file name", f"{path}: images", place, RECORD)
        return
    if isinstance(value.get("filepath"), str):
        name = f"{value['filepath']}/{name}"
    listed.add(image, name)
    sentences = value.get("sentences", [])
    for sentence in sentences if isinstance(sentences, list) else []:
        text = sentence.get("raw") if isinstance(sentence, dict) else None
        if isinstance(text, str):
            captions.add(image, text)
        else:
            problems.add("caption without image or text", f"{path}: images", place)


def _textcaps(
    value: dict, keys: Keys, listed: Rows, captions: Rows, described: set[int], problems: Problems, where: str
) -> None:
    """An entry of "data". All captions of an image come with its first entry that has any."""
    image = keys.number(value.get("image_id"))
    if image < 0:
        problems.add("caption without image or text", where)
        return
    listed.add(image, f"{keys.keys[image]}.jpg")
    texts = value.get("reference_strs") or value.get("caption_str") or []
    texts = texts if isinstance(texts, list) else [texts]
    if image in described and "reference_strs" in value:
        return
    for text in texts:
        if isinstance(text, str):
            captions.add(image, text)
            described.add(image)
        else:
            problems.add("caption without image or text", where)


# ------------------------------------------------------------------------------------------------------------ boxes


@dataclasses.dataclass(frozen=True)
class CocoInstances(Reader):
    """Boxes in COCO's layout (instances_train2017.json).

    "annotations" [{"image_id", "category_id", "bbox", "iscrowd"}], "categories" [{"id", "name"}].

    Boxes are [x, y, width, height] in pixels of the image's "width" and "height" (where these lack, of the file's
    header); labels are the categories' names.

    Memory while reading: 37 bytes for a box, about 250 for an image.

    Attributes:
      path: the annotation file.
      images: folder of the images, or of COCO's folders (train2014, …). A file is looked for by the name given, and
        without its first folders.
      crowds: what becomes of a crowd, one box around many (iscrowd 1). "label": its class is in the image, without a
        box, so that nobody learns the box as one object's, nor the class as absent; "box": it is a box like others.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    crowds: str = option("label", choices=CROWDS)
    source: str = "coco_instances"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        yield from _instance_units(self.path, self.crowds, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from _instance_records(unit, self.images, self.source)


@dataclasses.dataclass(frozen=True)
class Objects365(Reader):
    """Objects365 (zhiyuan_objv2_train.json): COCO's layout, with 365 categories and 27 million boxes.

    Its file names are of the kind "images/v1/patch8/objects365_v1_00420917.jpg"; ``images`` may hold that folder, or
    patch8/, or the files. Of its own marks, isfake (a picture of the thing) and isreflected stay as objects.

    The attributes are those of CocoInstances. It takes about 1.5 GB to read the training annotations.
    """

    path: str
    images: str
    crowds: str = option("label", choices=CROWDS)
    source: str = "objects365"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        yield from _instance_units(self.path, self.crowds, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from _instance_records(unit, self.images, self.source)


def _instance_units(path: str, crowds: str, unit_size: int) -> Iterator[Unit]:
    keys, categories, problems = Keys(), Keys(), Problems()
    listed, objects, names = Rows("tii"), boxes.object_rows(), {}
    found = set()
    for name, place, value in large_files.json_items(path):
        found.add(name)
        if name not in ("images", "annotations", "categories"):
            continue
        if not isinstance(value, dict) or not isinstance(place, int):
            problems.add("entry is no object", f"{path}: {name}", lost=RECORD if name == "images" else PART)
        elif name == "images":
            image = keys.number(value.get("id")) if isinstance(value.get("file_name"), str) else -1
            if image < 0:
                problems.add("image without id or file name", f"{path}: images", place, RECORD)
            else:
                sides = (boxes.pixels(value.get(side)) for side in ("height", "width"))
                listed.add(image, value["file_name"], *sides)
        elif name == "categories":
            category = categories.number(value.get("id"))
            if category >= 0 and isinstance(value.get("name"), str):
                names[category] = value["name"].strip()
            else:
                problems.add("category without id or name", f"{path}: categories", place)
        else:
            image, category = keys.number(value.get("image_id")), categories.number(value.get("category_id"))
            if image < 0 or category < 0:
                problems.add("box without image or category", f"{path}: annotations", place)
            else:
                crowd = value.get("iscrowd") and crowds == "label"
                box = boxes.NO_BOX if crowd else boxes.corners(value.get("bbox"))
                objects.add(image, category, *box, float("nan"), 0)
    if not found >= {"images", "categories", "annotations"}:
        raise ValueError(
            f"{path!r} has no boxes: expected a JSON object with 'images', 'annotations' and 'categories', got "
            f"{sorted(found)[:20]}."
        )
    images, dealt = listed.deal(len(keys)), objects.deal(len(keys))
    grouping.note_strangers(problems, keys, images, dealt, path)
    labels = [names.get(category, "") for category in range(len(categories))]
    boxes.note_nameless(problems, objects, categories, labels, path)

    def entries() -> Iterator[dict[str, Any]]:
        for i in grouping.in_order(listed.image, len(keys), problems, path):
            file_name, height, width = images.rows(i)[0]
            packed = boxes.pack(dealt, i, labels)
            yield {"id": keys.keys[i], "name": file_name, "size": [height, width], **packed}

    yield from grouping.units(entries(), problems, unit_size)


def _instance_records(unit: Unit, folder: str, source: str) -> Iterator[Record | Problem]:
    yield from grouping.problems_of(unit)
    for entry in unit["images"]:
        image = pictures.find_image(folder, pictures.published_names(entry["name"]))
        if isinstance(image, Problem):
            yield image
            continue
        objects, why = boxes.relative(entry, image, tuple(entry["size"]), f"{folder}/{entry['name']}")
        yield from why
        yield {"id": entry["id"], "image": image, "objects": objects, "source": source}
