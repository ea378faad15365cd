"""Conceptual Captions: CC3M (Sharma et al. 2018) and CC12M (Changpinyo et al. 2021), tables of captions and URLs.

The tables as they are published: UTF-8, a row a line, a tab between the columns, nothing quoted, no header.

    CC3M   Train_GCC-training.tsv, Validation_GCC-1.1.0-Validation.tsv      caption, URL
    CC3M   Image_Labels_Subset_Train_GCC-Labels-training.tsv                caption, URL, labels, their ids, confidences
    CC12M  cc12m.tsv                                                        URL, caption

Labels (made by machine, with commas between) become the record's labels.

Images are read from a folder, as a downloader left them. Tars of images are kind "webdataset".
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterator

from paligax.data.ingest import files
from paligax.data.ingest.reader import Problem, Reader, Record, option
from paligax.data.ingest.readers import lines, pictures

_SUFFIXES = (".jpg", ".png", ".webp", ".jpeg", "")
_ORDERS = ("caption,url", "url,caption")
_WITH_LABELS = 5  # columns
MAX_LINE = 1 << 20


def _hashed(name: str) -> Callable[[int, bytes], list[str]]:
    def stems(row: int, url: bytes) -> list[str]:
        digest = hashlib.new(name, url, usedforsecurity=False).hexdigest()
        return [digest, f"{digest[:2]}/{digest}"]

    return stems


# Rule → (row number from 0, URL) → names that the image may have, without suffix.
NAMES: dict[str, Callable[[int, bytes], list[str]]] = {
    "index": lambda row, url: [
        f"{row // 10_000:05}/{row:09}",  # img2dataset --output_format=files
        f"{row // 10_000:05}/{row % 10_000:04}",  # the same, in its first versions
        f"{row:09}",
    ],
    "number": lambda row, url: [str(row)],
    "md5": _hashed("md5"),
    "sha1": _hashed("sha1"),
    "sha256": _hashed("sha256"),
    "crc32": lambda row, url: [str(zlib.crc32(url))],
}


@dataclasses.dataclass(frozen=True)
class ConceptualCaptions(Reader):
    """One record a row whose image is there: id, image, one alt_text.

    A first line that reads "caption" and "url" is a header; it is no row, and says the columns' order itself.

    Attributes:
      path: table, pattern or folder of .tsv files; .gz too, which is one unit then.
      images: folder of the images.
      column_order: "caption,url" or "url,caption".
      names: how an image is named, each with .jpg, .png, .webp, .jpeg, or without a suffix, in this order:
        "index": by the row's number in its file, from 0, as img2dataset does without tars, ten thousand a folder
          (00000/000000012.jpg, or 00000/0012.jpg as its first versions did), or in one folder (000000012.jpg).
        "number": the row's number without zeros.
        "md5", "sha1", "sha256": hexadecimal hash of the URL, in one folder, or in folders of its first two digits.
        "crc32": that of the URL as a decimal number (the downloader of ViLBERT).
      lang: of the captions.
      unit_size: rows a unit.
      source: what the records' ``source`` says.
    """

    path: str
    images: str
    column_order: str = option("", choices=_ORDERS)
    names: str = option("index", choices=tuple(NAMES))
    lang: str = "en"
    unit_size: int = 10_000
    source: str = "conceptual_captions"

    def units(self) -> Iterator[list]:
        for file in files.matching(self.path, (".tsv", ".tsv.gz")):
            header = self._header(file)
            for start, end, number in lines.ranges(file, self.unit_size):
                yield [file, start, end, number, header]

    def _header(self, file: str) -> str:
        """The column names of a file that begins with them, else ""."""
        for line in lines.read(file, limit=MAX_LINE):
            names = "" if isinstance(line, Problem) else line.data.decode(errors="replace").lower().replace("\t", ",")
            return names if names in _ORDERS else ""
        return ""

    def read(self, unit: list) -> Iterator[Record | Problem]:
        file, start, end, number, header = unit
        stems = NAMES[self.names]
        for line in lines.read(file, start, end, number, MAX_LINE):
            if isinstance(line, Problem):
                yield line
                continue
            where = f"{file} line {line.number}"
            row = line.number - (2 if header else 1)
            if row < 0:
                continue
            columns = line.data.split(b"\t")
            if len(columns) not in (2, _WITH_LABELS) or not line.whole:
                if not line.part and line.data:
                    yield Problem("table row is not two columns", where)
                continue
            caption, url = columns[:2] if (header or self.column_order) == _ORDERS[0] else columns[1::-1]
            names = [stem + suffix for stem in stems(row, url.strip()) for suffix in _SUFFIXES]
            image = pictures.find_image(self.images, names)
            if isinstance(image, Problem):
                yield Problem(image.reason, f"{where}: {image.where}")
                continue
            record_id = f"{file.replace(chr(92), '/').rpartition('/')[2]}:{row}"
            alt_text = [{"lang": self.lang, "text": caption}]
            record: Record = {"id": record_id, "image": image, "alt_text": alt_text, "source": self.source}
            if len(columns) == _WITH_LABELS:
                record["labels"] = columns[2].split(b",")
            yield record


@dataclasses.dataclass(frozen=True)
class Cc3m(ConceptualCaptions):
    """CC3M's tables: see ConceptualCaptions."""

    column_order: str = option("caption,url", choices=_ORDERS)
    source: str = "cc3m"


@dataclasses.dataclass(frozen=True)
class Cc12m(ConceptualCaptions):
    """CC12M's table: see ConceptualCaptions."""

    column_order: str = option("url,caption", choices=_ORDERS)
    source: str = "cc12m"
