"""Image files as data sets name them, and pictures that lie on their side."""

import io
import re
from collections.abc import Sequence

import numpy as np

from paligax import image as image_lib
from paligax.data.ingest import files
from paligax.data.ingest.reader import Problem
from paligax.data.ingest.readers import large_files
from paligax.data.ingest.readers.grouping import Problems

COCO_FOLDERS = ("train2014", "val2014", "train2017", "val2017", "test2015", "test2017")
MAX_FOLDERS = 5
_COCO_2014, _COCO_2017 = re.compile(r"COCO_(\w+20\d\d)_\d{12}\.jpg$"), re.compile(r"\d{12}\.jpg$")


def find_image(folder: str, names: Sequence[str]) -> bytes | Problem:
    """The bytes of the first of the files that is there; a Problem where none is, or the one that is cannot be used."""
    found: bytes | Problem = Problem("bad file name", folder)
    for i, name in enumerate(names):
        one = files.image_of(folder, name)
        if not isinstance(one, Problem) or one.reason != "image missing":
            return one
        found = one if not i else found
    return found


def shorter(name: str) -> list[str]:
    """A file name as given, and without its first folders, one after the other: a user's may begin anywhere."""
    parts = name.replace("\\", "/").split("/")[-MAX_FOLDERS:]
    return list(dict.fromkeys([name, *("/".join(parts[i:]) for i in range(len(parts)))]))


def published_names(name: str) -> list[str]:
    """As ``shorter``, and COCO's files in the folders of the archives that they come in: train2014/, val2017/, …."""
    base = name.replace("\\", "/").split("/")[-1]
    folders = [_COCO_2014.match(base)[1]] if _COCO_2014.match(base) else []
    if _COCO_2017.match(base):
        folders = [folder for folder in COCO_FOLDERS if folder.endswith("2017")]
    return list(dict.fromkeys([*shorter(name), *(f"{folder}/{base}" for folder in folders)]))


def coco_names(image_id: int, subsets: Sequence[str] = ("train2014", "val2014")) -> list[str]:
    """The names under which COCO's image may lie in a folder of images: of 2014, of 2017, with or without subfolder."""
    plain = f"{image_id:012d}.jpg"
    names = [f"COCO_{subset}_{plain}" for subset in subsets]
    return [
        *names,
        *(f"{subset}/{name}" for subset, name in zip(subsets, names, strict=True)),
        plain,
        *(f"{folder}/{plain}" for folder in COCO_FOLDERS if folder.endswith("2017")),
    ]


def read_rotations(path: str, problems: Problems) -> dict[str, int]:
    """Open Images' table of images (image_ids_and_rotation.csv, *-images-with-rotation.csv): image → degrees.

    Degrees, counterclockwise, by which the image and its boxes must be turned to be upright: 90, 180 or 270; images
    that are upright, or of which that isn't known, are left out. "" as path: none.
    """
    turns: dict[str, int] = {}
    if not path:
        return turns
    for number, row in large_files.csv_rows(path, ["ImageID", "Rotation"]):
        if isinstance(row, Problem):
            problems.note(row)
            continue
        degrees = row[1].removesuffix(".0")
        if degrees in ("90", "180", "270"):
            turns[row[0]] = int(degrees)
        elif degrees.lower() not in ("0", "", "nan"):
            problems.add("rotation is not a right angle", f"{path}:{number}")
    return turns


def upright(data: bytes, degrees: int, where: str) -> bytes | Problem:
    """An image turned counterclockwise by 0, 90, 180 or 270 degrees; what was a JPEG is one again (quality 95)."""
    from PIL import Image

    if not degrees:
        return data
    try:
        pixels = np.rot90(image_lib.decode(data), degrees // 90)
    except (OSError, ValueError, SyntaxError):
        return Problem("broken image", where)
    out = io.BytesIO()
    if data.startswith(b"\x89PNG"):
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    else:
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()
