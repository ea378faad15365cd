"""How a foreign record comes in: texts, boxes and images are made sound, or left out and counted.

Readers hand on what they found. Here it is decided, once for all of them, what a record may hold: UTF-8 of bounded
length, boxes inside the image, and a JPEG or PNG of bounded size that isn't cut short. Whether all of an image can be
decoded is not tried unless asked for (``verify``): that costs more than everything else of ingest, and the stream
gives such a row weight 0 anyway.
"""

import io
import math
import re
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data import records
from paligax.data.ingest.reader import Record
from paligax.data.items import UNKNOWN_LANGUAGE

MAX_TEXT_BYTES = 64 << 10
MAX_IMAGE_BYTES = 64 << 20
MAX_ITEMS = 4096  # captions, strings, boxes or questions of one record
BOX_SLACK = 0.01  # how far outside the image a box may reach and be cut at its edge: rounding, not a mistake
_CODE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,3}")
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_PNG, _JPEG, _END_OF_JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"
_OTHERS = {  # what else is an image, by its first bytes
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
# An item of a group is nothing without this field.
_MAIN = {"alt_text": "text", "ocr": "text", "objects": "label", "qa": "question"}


def admit(record: Record, verify: bool = False) -> tuple[dict[str, Any] | None, list[str]]:
    """A record of a reader → (flat record, or None where nothing usable is left; why parts of it were left out).

    Args:
      record: nested or flat, texts as str or bytes, image bytes of any format.
      verify: decode every image, and leave out those that fail.

    The reasons: "invalid UTF-8", "text too long", "empty text", "too many items", "uneven groups", "bad box",
    "not an image", "broken image", "image too large", "image file too large", "checksum differs", "not a language
    code", "empty record"; and what was changed:
    "converted from <format>", "first frame of an animation".
    """
    flat, reasons = records.flatten(record), []
    for key in ("id", "source", "text"):
        flat[key], why = _text(flat[key])
        reasons += why
    flat["text_lang"], why = _language(flat["text_lang"])
    reasons += why
    for group, names in records.GROUPS.items():
        reasons += _admit_group(flat, group, names)
    labels = [_text(label) for label in flat["labels"][:MAX_ITEMS]]
    flat["labels"] = [text for text, _ in labels if text]
    reasons += [reason for _, why in labels for reason in why]
    flat["score"] = _number(flat["score"])
    if flat["image"]:
        sound, why = sound_image(flat["image"], verify)
        if isinstance(flat["image_crc"], int) and 0 <= flat["image_crc"] != zlib.crc32(flat["image"]):
            sound, why = b"", ["checksum differs"]
        flat["image"], flat["image_crc"] = sound, -1  # of what comes in, it is taken anew
        reasons += why
    if not flat["image"] and not flat["text"]:
        return None, reasons or ["empty record"]
    return flat, reasons


def parts(record: Record) -> dict[str, int]:
    """How many captions (alt_text), strings (ocr), objects, questions (qa), labels, boxes there are, sound or not."""
    flat = records.flatten(record)
    found = {group: len(flat[f"{group}/{main}"]) for group, main in _MAIN.items()}
    boxes = [box for key in ("ocr/bbox", "objects/bbox") for box in flat[key]]
    return {**found, "labels": len(flat["labels"]), "boxes": sum(map(_is_given, boxes))}


def _is_given(box: Any) -> bool:
    """Whether it is a box at all: NaNs say that there is none."""
    try:
        return not all(map(math.isnan, box))
    except (TypeError, OverflowError):
        return True


def _admit_group(flat: dict[str, Any], group: str, names: Sequence[str]) -> list[str]:
    """Leaves the sound items of a group; returns why others went."""
    columns = {name: list(flat[f"{group}/{name}"]) for name in names}
    count = len(columns[_MAIN[group]])
    reasons = []
    for name, column in columns.items():
        if not column and count:  # not given at all
            dtype, shape = records.SEQUENCES[f"{group}/{name}"]
            columns[name] = [[math.nan] * 4 if shape else records.empty(dtype)] * count
        elif len(column) != count:
            reasons = ["uneven groups"]
    if reasons:
        count = 0
    if count > MAX_ITEMS:
        reasons.append("too many items")
    kept: list[int] = []
    for i in range(min(count, MAX_ITEMS)):
        why: list[str] = []
        for name in names:
            value = columns[name][i]
            if name == "bbox":
                columns[name][i], bad = _box(value)
            elif name == "confidence":
                columns[name][i], bad = _number(value), []
            elif name == "verified_absent":
                columns[name][i], bad = bool(value), []
            elif name == "lang":
                columns[name][i], bad = _language(value)
                if group == "ocr":  # its index entries are languages
                    columns[name][i] = columns[name][i] or UNKNOWN_LANGUAGE
            else:
                columns[name][i], bad = _text(value)
            why += bad
        if not columns[_MAIN[group]][i]:
            reasons += why or ["empty text"]
        else:
            reasons += why
            kept.append(i)
    for name in names:
        flat[f"{group}/{name}"] = [columns[name][i] for i in kept]
    return reasons


def _text(value: Any) -> tuple[str, list[str]]:
    """Text without blanks at its ends and without NUL; "" where it cannot be used."""
    if len(value) > MAX_TEXT_BYTES:  # before anything is copied
        return "", ["text too long"]
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
        if len(text.encode()) > MAX_TEXT_BYTES:
            return "", ["text too long"]
    except UnicodeError:  # lone surrogates of a JSON string among them
        return "", ["invalid UTF-8"]
    return text.replace("\0", "").strip(), []


def _language(value: Any) -> tuple[str, list[str]]:
    """A language's code, "" where it has not the form of one."""
    text, why = _text(value)
    if why or not text or _CODE.fullmatch(text):
        return text, why
    return "", ["not a language code"]


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= _MAX_FLOAT32 else math.nan


def _box(value: Any) -> tuple[list[float], list[str]]:
    """A box, cut at the image's edge; NaNs where there is none or it makes no sense."""
    none = [math.nan] * 4
    try:
        box = np.asarray(value, np.float64).reshape(4)
    except (TypeError, ValueError):
        return none, ["bad box"]
    if np.isnan(box).all():
        return none, []
    inside = np.isfinite(box).all() and (box >= -BOX_SLACK).all() and (box <= 1 + BOX_SLACK).all()
    if not inside or not (box[:2] <= box[2:]).all():
        return none, ["bad box"]
    return np.clip(box, 0, 1).tolist(), []


def sound_image(data: bytes, verify: bool = False) -> tuple[bytes, list[str]]:
    """Image bytes of any format → JPEG or PNG bytes that a decoder will take (b"": none), and what was wrong or done.

    JPEG and PNG stay as they came; CMYK JPEGs, WebP, GIF, BMP and TIFF become JPEGs (quality 95, no subsampling), of an
    animation its first picture. Nothing is decoded whose header claims more than image.MAX_PIXELS.
    """
    if len(data) > MAX_IMAGE_BYTES:
        return b"", ["image file too large"]
    kind = kind_of(data)
    if kind in ("JPEG", "PNG"):
        why = image_lib.problem(data, decode_it=verify)
        if not why and is_cut(data, kind):
            why = "broken image"
        if why:
            return b"", [why]
        if kind == "PNG" or image_lib.components(data) != 4:
            return bytes(data), []
        kind = "CMYK JPEG"
    return _converted(data, kind) if kind else (b"", ["not an image"])


def kind_of(data: bytes) -> str:
    """Format by the first bytes, whatever the file's name says: JPEG, PNG, WebP, GIF, BMP, TIFF or ""."""
    if data.startswith(_JPEG):
        return "JPEG"
    if data.startswith(_PNG):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for start, kind in _OTHERS.items() if data.startswith(start)), "")


def is_cut(data: bytes, kind: str) -> bool:
    """Whether a JPEG has no end marker or a PNG's chunks don't add up (their checksums included)."""
    if kind == "JPEG":
        return _END_OF_JPEG not in data[-4096:]  # cameras and web servers append a little
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data) or zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return True
        if data[position + 4 : position + 8] == b"IEND":
            return False
        position = end
    return True


def _converted(data: bytes, kind: str) -> tuple[bytes, list[str]]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful metadata
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
                if width * height > image_lib.MAX_PIXELS or max(width, height) > image_lib.MAX_SIDE:
                    return b"", ["image too large"]
                animated = getattr(opened, "n_frames", 1) > 1
                picture = opened.convert("RGBA" if "A" in opened.mode or "transparency" in opened.info else "RGB")
                if picture.mode == "RGBA":  # on white, as a page shows it
                    ground = Image.new("RGB", picture.size, "white")
                    ground.paste(picture, mask=picture.getchannel("A"))
                    picture = ground
                out = io.BytesIO()
                picture.save(out, "JPEG", quality=95, subsampling=0)
    except Exception:  # noqa: BLE001  (decoders of foreign bytes raise anything)
        return b"", ["broken image"]
    return out.getvalue(), [f"converted from {kind}"] + ["first frame of an animation"] * animated
