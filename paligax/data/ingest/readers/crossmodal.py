"""Captions in many languages: COCO-35L and Crossmodal-3600."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from paligax.data.ingest.reader import RECORD, Problem, Reader, Record, Unit
from paligax.data.ingest.readers import grouping, large_files, pictures
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows


@dataclasses.dataclass(frozen=True)
class Coco35L(Reader):
    """COCO's captions, translated by machine into 34 languages (coco_mt_train.jsonl, coco_mt_dev.jsonl, also packed).

    A line is a caption and one translation: {"image_id": "<COCO's id>_<caption>", "src_lang": "en",
    "caption_tokenized", "trg_lang": "de", "translation_tokenized", "backtranslation_tokenized"}. So each English
    caption comes 34 times and is taken once, with its first line. Texts are tokenised as published; the translation
    back is not used. Images are COCO's of 2014 (train has some of val2014, as in Karpathy's splits) or 2017.

    Memory while reading: 24 bytes and the text for a caption, about 120 for each English one besides: some 2.5 GB for
    the 20 million captions of train.

    Attributes:
      path: the annotation file.
      images: folder of COCO's images, or of the folders train2014 and val2014, or train2017 and val2017.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    source: str = "coco_35l"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        keys, languages, english, problems = Keys(), Keys(), set(), Problems()
        captions = Rows("it")
        for number, value in large_files.json_lines(self.path):
            if isinstance(value, Problem):
                problems.note(value)
                continue
            value = value if isinstance(value, dict) else {}
            caption, text = str(value.get("image_id", ""))[:100], value.get("translation_tokenized")
            image_id, lang = caption.split("_")[0], languages.number(value.get("trg_lang"))
            if not (image_id.isdecimal() and len(image_id) <= 12 and isinstance(text, str)) or lang < 0:
                problems.add("no image, language or translation", f"{self.path}:{number}")
                continue
            image = keys.number(image_id)
            original = value.get("caption_tokenized")
            if isinstance(original, str) and caption not in english:
                english.add(caption)
                captions.add(image, max(languages.number(value.get("src_lang") or "en"), 0), original)
            captions.add(image, lang, text)
        dealt, names = captions.deal(len(keys)), languages.keys
        entries = ([keys.keys[i], [[names[lang], text] for lang, text in dealt.rows(i)]] for i in range(len(keys)))
        yield from grouping.units(entries, problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for key, captions in unit["images"]:
            yield _captioned(key, self.images, pictures.coco_names(int(key)), captions, self.source)


@dataclasses.dataclass(frozen=True)
class Xm3600(Reader):
    """Crossmodal-3600 (captions.jsonl): 3,600 images with captions by people in 36 languages.

    A line is an image: {"image/key": "000411001ff7dd4f", "<language>": {"caption": [...], "caption/tokenized": [...],
    …}, …}; captions are taken as written, not tokenised. Files are <key>.jpg.

    Attributes:
      path: the annotation file.
      images: folder of the images.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    source: str = "xm3600"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        problems, keys = Problems(), Keys()

        def entries() -> Iterator[list[Any]]:
            for number, value in large_files.json_lines(self.path):
                if isinstance(value, Problem):
                    problems.note(value, RECORD)
                    continue
                key = value.get("image/key") if isinstance(value, dict) else None
                known = len(keys)
                if not isinstance(key, str) or keys.number(key) < 0:
                    problems.add("no image key", f"{self.path}:{number}", lost=RECORD)
                elif len(keys) == known:
                    problems.add("image listed twice", f"{self.path}:{number}", lost=RECORD)
                else:
                    yield [key, list(_by_language(value, problems, f"{self.path}:{number}"))]

        yield from grouping.units(entries(), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for key, captions in unit["images"]:
            yield _captioned(key, self.images, [f"{key}.jpg"], captions, self.source)


def _by_language(value: dict[str, Any], problems: Problems, where: str) -> Iterator[list[str]]:
    """[language, caption], in the line's order of languages."""
    for lang, texts in value.items():
        if not isinstance(texts, dict):
            continue  # the key, and the country that the image is from
        captions = texts.get("caption")
        for text in captions if isinstance(captions, list) else [None]:
            if isinstance(text, str):
                yield [lang, text]
            else:
                problems.add("caption is no text", where)


def _captioned(
    key: str, folder: str, names: list[str], captions: list[tuple[str, str]], source: str
) -> Record | Problem:
    image = pictures.find_image(folder, names)
    if isinstance(image, Problem):
        return image
    alt_text = {"lang": [lang for lang, _ in captions], "text": [text for _, text in captions]}
    return {"id": key, "image": image, "alt_text": alt_text, "source": source}
