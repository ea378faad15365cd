"""Records from the web are hostile: none stops a run, none is lost without being counted by a reason."""

import collections
import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from paligax import image as image_lib
from paligax.data import Data, records, shards
from paligax.data.ingest import admission
from paligax.vocabulary import ByteVocabulary

LENGTHS = {"image": 16, "inputs": 48, "targets": 48}
STREAMED, ADMITTED = 1_000, 10_000
NAN = float("nan")


def picture(kind="JPEG", mode="RGB", size=(40, 30), **options) -> bytes:
    pixels = np.random.default_rng(size[0]).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.BICUBIC).convert(mode).save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of some bytes that claims 50,000 × 50,000 pixels, checksums and all."""
    png = bytearray(picture("PNG"))
    png[16:24] = struct.pack(">II", 50_000, 50_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


GOOD = {
    "id": "good",
    "image": picture(),
    "text": "once upon a time there was a cat",
    "text_lang": "en",
    "alt_text": [{"lang": "en", "text": "a cat"}, {"lang": "de", "text": "eine Katze"}],
    "ocr": [{"lang": "en", "text": "stop", "bbox": [0.1, 0.1, 0.2, 0.3]}],
    "objects": [{"label": "cat", "bbox": [0.0, 0.0, 0.5, 0.5], "confidence": 1.0, "verified_absent": False}],
    "qa": [{"lang": "en", "question": "what?", "answer": "a cat"}],
}
# What the web sends as images → what ingest says of it ("" where it comes in as it is).
IMAGES = {
    "png": (picture("PNG"), ""),
    "grey": (picture(mode="L"), ""),
    "progressive": (picture(progressive=True), ""),
    "cmyk": (picture(mode="CMYK"), "converted from CMYK JPEG"),
    "webp": (picture("WebP"), "converted from WebP"),
    "transparent": (picture("PNG", "RGBA"), ""),
    "gif": (picture("GIF", "P"), "converted from GIF"),
    "bmp": (picture("BMP"), "converted from BMP"),
    "tiff": (picture("TIFF"), "converted from TIFF"),
    "animated gif": (animation("GIF"), "first frame of an animation"),
    "animated webp": (animation("WebP"), "first frame of an animation"),
    "truncated": (picture()[:-100], "broken image"),
    "truncated png": (picture("PNG")[:-30], "broken image"),
    "bomb": (bomb(), "image too large"),
    "page": (b"<!doctype html><p>404", "not an image"),
    "svg": (b"<svg onload=x>", "not an image"),
    "magic alone": (b"\xff\xd8\xff", "broken image"),
    "webp bomb": (b"RIFF\xff\xff\xff\xffWEBPVP8X\n\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff", "broken image"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_what_ingest_makes_of_an_image(name):
    data, expected = IMAGES[name]
    record, reasons = admission.admit({**GOOD, "image": data})
    assert (expected in reasons) if expected else not reasons
    if record["image"]:  # whatever came in can be decoded, by training's decoder too
        assert image_lib.problem(record["image"]) == "" and image_lib.components(record["image"]) != 4
    else:
        assert expected and record["text"] == GOOD["text"]


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"alt_text": [{"lang": "en", "text": "x" * (1 << 30)}]}, "text too long"),
        ({"alt_text": [{"lang": "en", "text": b"\xff\xfe\xfa"}]}, "invalid UTF-8"),
        ({"alt_text": [{"lang": "en", "text": "\ud800 lone"}]}, "invalid UTF-8"),
        ({"alt_text": [{"lang": "en", "text": " \n"}]}, "empty text"),
        ({"alt_text": [{"lang": "en", "text": "again"}] * 5000}, "too many items"),
        ({"objects": [{"label": "cat", "bbox": [NAN, 0, 1, 1]}]}, "bad box"),
        ({"objects": [{"label": "cat", "bbox": [0.6, 0, 0.5, 1]}]}, "bad box"),
        ({"objects": [{"label": "cat", "bbox": [0, 0, float("inf"), 1]}]}, "bad box"),
        ({"objects": [{"label": "cat", "bbox": [0, 0, 20, 30]}]}, "bad box"),
        ({"objects": [{"label": "cat", "bbox": "a box"}]}, "bad box"),
        ({"qa": {"lang": ["en"], "question": ["what?", "why?"], "answer": ["a", "b"]}}, "uneven groups"),
        ({"image": b"", "text": ""}, "empty record"),
    ],
)
def test_what_ingest_makes_of_texts_and_boxes(change, expected):
    record, reasons = admission.admit({**GOOD, **change})
    assert expected in reasons
    if record is not None:
        assert records.check(records.decode(records.encode(record))) == ""


def mutated(rng: random.Random) -> dict:
    """A record with some of its parts damaged."""
    record = dict(GOOD)
    for _ in range(rng.randint(1, 3)):
        which = rng.randrange(7)
        if which == 0:
            record["image"] = flipped(rng, rng.choice([data for data, _ in IMAGES.values()]))
        elif which == 1:
            data = rng.choice([data for data, _ in IMAGES.values()])
            record["image"] = data[: rng.randrange(len(data))]
        elif which == 2:
            record["image"] = rng.randbytes(rng.randrange(200))
        elif which == 3:
            texts = [rng.randbytes(rng.randrange(40)), "", "a" * rng.randrange(100_000), "\udcff", "\0\0"]
            record["alt_text"] = [{"lang": rng.choice(["en", "", b"\xff"]), "text": rng.choice(texts)}]
        elif which == 4:
            sides = [
                rng.choice([NAN, 1e30, -1e30, -0.005, 0.5, 1.004, None, "x"])
                for _ in range(rng.choice([3, 4, 4, 4, 5]))
            ]
            record["objects"] = [
                {"label": rng.choice(["cat", "", b"\xc3"]), "bbox": sides, "confidence": rng.choice([None, "y", 2.0])}
            ]
        elif which == 5:
            record["qa"] = {"lang": ["en"] * rng.randrange(3), "question": ["?"] * rng.randrange(3), "answer": []}
        else:
            record["score"] = rng.choice([NAN, 1e300, "high", None])
    return record


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_ten_thousand_mutated_records_come_in_whole_or_are_counted():
    rng, counts, in_number = random.Random(0), collections.Counter(), 0
    for _ in range(ADMITTED):
        given = mutated(rng)
        record, reasons = admission.admit(given)
        counts.update(reasons)
        if record is None:
            assert reasons
            continue
        in_number += 1
        again = records.decode(records.encode(record))
        if given["image"] and not record["image"]:
            assert reasons
        assert len(again["alt_text/text"]) == len(record["alt_text/text"])
        boxes = np.asarray(again["objects/bbox"])
        assert np.all(np.isnan(boxes) | ((boxes >= 0) & (boxes <= 1)))
        assert records.check({**again, "image": b"", "text": "any"}) == ""
    assert in_number > 9_000 and sum(counts.values()) > 8_000
    for reason in ("broken image", "not an image", "bad box", "invalid UTF-8", "text too long", "uneven groups"):
        assert counts[reason] > 20, (reason, counts)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Shards, half of whose records were damaged after they were made: protobufs cut and flipped, images exchanged."""
    rng = random.Random(1)
    directory = str(tmp_path_factory.mktemp("damaged"))
    good, written = records.encode(GOOD), []
    images = [data for data, _ in IMAGES.values()]
    for number in range(STREAMED):
        if number % 2 == 0:
            written.append(good)
        elif number % 8 == 1:
            written.append(flipped(rng, good))
        elif number % 8 == 3:
            written.append(good[: rng.randrange(len(good))])
        else:
            image = rng.choice(images)
            image = flipped(rng, image) if number % 8 == 5 else image
            written.append(records.encode({**GOOD, "image": image, "image_crc": zlib.crc32(GOOD["image"])}))
    shards.write_shards(directory, "train", [good] * STREAMED, num_shards=2)
    records.write_manifest(directory)
    shards.write_shards(directory, "train", written, num_shards=2)  # the manifest knows of nothing
    return directory


@pytest.mark.slow
def test_the_stream_gives_every_damaged_record_weight_zero_and_says_why(damaged):
    batch_size, counts, weights = 100, collections.Counter(), []
    rates = {name: 1 for name in ("captioning", "ocr", "vqa", "detection", "span_corruption")}
    data = Data("pali_pretrain", LENGTHS, batch_size, ByteVocabulary(), data_dir=damaged, rates=rates, shuffle=False)
    batches = data.stream().batches()
    for _ in range(len(rates) * STREAMED // batch_size):
        batch = next(batches)
        counts.update(batch.skipped)
        zero = batch.batch.weights.sum(axis=1) == 0
        assert zero.sum() == sum(batch.skipped.values())
        weights.append(batch.batch.weights[~zero])
        of_task = collections.Counter(name.split(":")[0] for name in np.array(batch.ids)[zero])
        assert of_task == collections.Counter(
            key.split("/")[0] for key in batch.skipped for _ in range(batch.skipped[key])
        )
    batches.close()
    skipped = sum(counts.values())
    reasons = {key.split("/")[1] for key in counts}
    # Of a flipped protobuf the damage may lie where the task doesn't look; nothing that is sound is left out.
    assert 0.25 < skipped / (len(rates) * STREAMED) < 0.5
    assert {"checksum differs", "broken record", "not a JPEG or PNG"} <= reasons, counts
    assert not any("failed once" in key or key.endswith("/") for key in counts)


def test_a_shard_with_flipped_bytes_costs_its_records_alone(damaged, tmp_path):
    directory = str(tmp_path / "data")
    shards.write_shards(directory, "train", [records.encode({**GOOD, "id": f"r{i}"}) for i in range(64)])
    records.write_manifest(directory)
    split = shards.read_manifest(directory)["train"]
    with open(split.paths[0], "r+b") as f:
        content = f.read()
        for at in (len(content) // 5, len(content) // 2):
            f.seek(at)
            f.write(bytes([content[at] ^ 4]))
    read = shards.Readers().read(split, np.arange(64))
    unreadable = [i for i, record in enumerate(read) if record is shards.UNREADABLE]
    assert 1 <= len(unreadable) <= 2
    assert [records.decode(r)["id"] for r in read if r is not shards.UNREADABLE] == [
        f"r{i}" for i in range(64) if i not in unreadable
    ]
