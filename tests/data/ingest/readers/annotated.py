"""What the tests of annotated data sets make: small pictures and annotation files."""

import io
import json

import numpy as np
from PIL import Image

from paligax.data import records
from paligax.data.ingest import admission


def jpeg(width=8, height=4, kind="JPEG"):
    """A picture whose right half is white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, quality=95)
    return out.getvalue()


def put_images(folder, *names, width=8, height=4):
    """Files of those names; each one's bytes differ from the others'."""
    for i, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(width, height) + b"\0" * i)
    return [jpeg(width, height) + b"\0" * i for i in range(len(names))]


def put_json(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
    return str(file)


def put_lines(file, *values):
    """JSON lines; a text stands as it is."""
    file.write_text("".join((v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) + "\n" for v in values))
    return str(file)


def admitted(record):
    """(the fields of the record as it is stored that aren't empty; why parts of it were left out)"""
    flat, reasons = admission.admit(record)
    empty = records.flatten({})
    return {key: value for key, value in flat.items() if repr(value) != repr(empty[key])}, reasons


def boxes_of(record):
    """[(label, [four rounded numbers] or None)]"""
    objects = record["objects"]
    assert (
        len(objects["label"]) == len(objects["bbox"]) == len(objects["confidence"]) == len(objects["verified_absent"])
    )
    return [
        (label, None if np.isnan(box).all() else [round(float(c), 4) for c in box])
        for label, box in zip(objects["label"], objects["bbox"], strict=True)
    ]
