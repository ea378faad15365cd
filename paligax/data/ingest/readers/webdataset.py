"""Tars of image, caption and metadata files, as img2dataset writes them and the WebDataset library reads them.

00000.tar holds 000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg, … The members of a sample lie beside each
other, in any order. Its key is the name up to the first dot behind the last slash, what follows is the suffix.
"""

import dataclasses
import hashlib
import json
import math
import os
import posixpath
from collections.abc import Iterator
from typing import Any

from paligax.data.ingest import files
from paligax.data.ingest.reader import PART, Problem, Reader, Record
from paligax.data.ingest.readers import streams, tar

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif")
MAX_TEXT_BYTES = 1 << 20
_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NO_CODES = ("", "nolang")  # the second is LAION's for what it could not tell


@dataclasses.dataclass(frozen=True)
class WebDataset(Reader):
    """One record a sample with an image: id ("00000/000000012": tar and key), image, one alt_text, score.

    The caption is the .txt member, or else the JSON's. Members that are none of image, text and JSON are counted as
    unused, and a second image of a sample as such. A tar is a unit; it may be packed with gzip.

    Attributes:
      path: tar, pattern or folder.
      caption: field of the JSON that holds the caption.
      score: fields of the JSON, of which the first that holds a number is the image-text similarity.
      language: fields of the JSON, of which the first that holds a text is the caption's language.
      lang: language of captions where the JSON says none.
      verify: leave out images whose sha256 or md5 isn't the one in the JSON. Only for tars that were made without
        re-encoding: img2dataset notes the checksum of what it downloaded, and stores a resized or re-encoded copy.
      source: what the records' ``source`` says.
    """

    path: str
    caption: str = "caption"
    score: str = "similarity,score"
    language: str = "lang,LANGUAGE"
    lang: str = ""
    verify: bool = False
    source: str = "webdataset"

    def units(self) -> Iterator[str]:
        yield from files.matching(self.path, _SUFFIXES)

    def read(self, unit: str) -> Iterator[Record | Problem]:
        shard = posixpath.basename(unit.replace(os.sep, "/"))
        for suffix in _SUFFIXES:
            shard = shard.removesuffix(suffix)
        current, sample, damaged = "", {}, False
        with streams.unpacked(unit) as stream:
            for member in tar.members(stream, unit, _limit):
                if isinstance(member, Problem):
                    damaged = member.reason == tar.DAMAGED
                    yield member
                    continue
                key, suffix = split(member.name)
                if key != current and sample:
                    yield from self._record(shard, current, sample, unit)
                    sample = {}
                current, kind = key, _kind(suffix)
                if kind in sample:
                    yield Problem(f"second {kind} of a sample", f"{unit}: {member.name}", PART)
                else:
                    sample[kind] = member.data
        if damaged and sample and "text" not in sample:  # what would follow is lost
            yield Problem("sample without its end", f"{unit}: {current}")
        elif sample:
            yield from self._record(shard, current, sample, unit)

    def _record(self, shard: str, key: str, sample: dict[str, bytes], unit: str) -> Iterator[Record | Problem]:
        where = f"{unit}: {key}"
        if not sample.get("image"):
            yield Problem("image empty" if "image" in sample else "image missing", where)
            return
        meta: dict[str, Any] = {}
        if "json" in sample:
            try:
                meta = json.loads(sample["json"])
            except (ValueError, RecursionError):
                meta = None
            if not isinstance(meta, dict):
                yield Problem("bad JSON", where, PART)
                meta = {}
        if self.verify and not _is_what_it_was(sample["image"], meta):
            yield Problem("checksum differs", where)
            return
        record: Record = {"id": f"{shard}/{key}", "image": sample["image"], "source": self.source}
        text, other = sample.get("text"), meta.get(self.caption)
        if isinstance(other, str) and not (text and text.strip()):
            text = other
        if text is None:
            yield Problem("caption missing", where, PART)
        else:
            langs = [meta.get(name) for name in self.language.split(",")]
            lang = next((lang for lang in langs if isinstance(lang, str) and lang.lower() not in _NO_CODES), self.lang)
            record["alt_text"] = [{"lang": lang, "text": text}]
        for name in self.score.split(","):
            score = meta.get(name)
            if type(score) in (int, float) and abs(score) < 1e30 and not math.isnan(score):
                record["score"] = float(score)
                break
        yield record


def split(name: str) -> tuple[str, str]:
    """ "imgs/a.b.JPG" → ("imgs/a", "b.jpg"); a name without a key or without a suffix gives ("", "")."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    key, _, suffix = base.partition(".")
    return (folder + slash + key, suffix.lower()) if key and suffix else ("", "")


def _kind(suffix: str) -> str:
    last = suffix.rpartition(".")[2]
    return "image" if last in IMAGES else {"txt": "text", "json": "json"}.get(last, "")


def _limit(name: str) -> int:
    return {"image": files.MAX_IMAGE_BYTES, "text": MAX_TEXT_BYTES, "json": MAX_TEXT_BYTES, "": 0}[
        _kind(split(name)[1])
    ]


def _is_what_it_was(image: bytes, meta: dict[str, Any]) -> bool:
    for name in ("sha256", "md5"):
        noted = meta.get(name)
        if isinstance(noted, str) and noted:
            return hashlib.new(name, image, usedforsecurity=False).hexdigest() == noted.lower()
    return True
