import json
import pickle

import numpy as np
import pytest

from paligax.data import records, shards
from paligax.data.ingest import duplicates
from paligax.data.ingest.duplicates import RemoveNearDuplicates, hash_images
from paligax.data.ingest.image_hash import VIEWS
from tests.data.ingest import pictures

REASON = "near-duplicate of an evaluation image"


@pytest.fixture(autouse=True)
def nothing_kept():
    for kept in (duplicates._known, duplicates._names, duplicates._report):
        kept.cache_clear()


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """A folder of 40 images, some below it, and files that are none; the hashes; the pictures."""
    rng = np.random.default_rng(0)
    known = [pictures.natural(rng) for _ in range(40)]
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "val" / "ä").mkdir(parents=True)
    for i, pixels in enumerate(known):
        kind, ending = [("PNG", "png"), ("JPEG", "JPG"), ("WEBP", "webp")][i % 3]
        below = folder / ("val/ä" if i % 2 else ".")
        (below / f"{i:03}.{ending}").write_bytes(pictures.encoded(pixels, kind))
    (folder / "broken.jpg").write_bytes(pictures.encoded(known[0], "JPEG")[:500])
    (folder / "empty.png").write_bytes(b"")
    (folder / "grey.png").write_bytes(pictures.encoded(np.full((50, 50, 3), 128, np.uint8)))
    (folder / "text.png").write_bytes(b"no image")
    (folder / "notes.txt").write_bytes(b"not asked")
    path = str(tmp_path_factory.mktemp("hashes") / "vqa-val.npy")
    number, problems = hash_images(str(folder), path)
    assert number == 40
    assert sorted((p.reason, p.where) for p in problems) == [
        ("broken image", "broken.jpg"),
        ("image empty", str(folder / "empty.png")),
        ("not an image", "text.png"),
        ("nothing to see in it", "grey.png"),
    ]
    return path, known


def flat(pixels, kind="PNG", **fields):
    return records.flatten({"image": pictures.encoded(np.ascontiguousarray(pixels), kind), **fields})


def test_the_files_are_of_a_stated_form(evaluation):
    path, known = evaluation
    hashes = np.load(path)
    assert hashes.shape == (40, VIEWS, 2) and hashes.dtype == np.uint64
    names = [json.loads(line) for line in open(path.replace(".npy", ".names"))]
    assert len(names) == 40 and {"000.png", "val/ä/001.JPG"} <= set(names)


def test_copies_are_removed_and_others_stay(evaluation, tmp_path):
    path, known = evaluation
    rng = np.random.default_rng(1)
    changed = [
        lambda p: p,
        lambda p: pictures.compressed(p, 40),
        lambda p: pictures.resized(p, 60, 60),
        lambda p: pictures.resized(p, 130, 90),
        lambda p: pictures.brightened(p, 20),
        lambda p: pictures.cropped(p, 0.03),
        lambda p: pictures.compressed(pictures.brightened(pictures.cropped(p, 0.06)), 70),
        lambda p: p[:, ::-1],
    ]
    copies = [flat(changed[i % 8](p), id=f"copy-{i}", source="web") for i, p in enumerate(known)]
    others = [flat(pictures.natural(rng), id=f"other-{i}") for i in range(60)]
    stage = RemoveNearDuplicates(path, report=str(tmp_path / "report"))
    stage.setup()
    assert stage.apply(copies + others) == [REASON] * 40 + [""] * 60
    (report,) = (tmp_path / "report").iterdir()
    matches = [json.loads(line) for line in report.read_text().splitlines()]
    assert [m["id"] for m in matches] == [f"copy-{i}" for i in range(40)]
    assert matches[0] == {"id": "copy-0", "source": "web", "image": "vqa-val/000.png", "distance": 0}
    assert matches[33]["image"] == "vqa-val/val/ä/033.png" and max(m["distance"] for m in matches) <= 6


def test_what_cannot_be_compared(evaluation):
    path, _ = evaluation
    made = [
        records.flatten({"text": "only text"}),
        records.flatten({"image": b"\xff\xd8\xff broken"}),
        flat(np.full((40, 40, 3), 7, np.uint8)),
    ]
    assert RemoveNearDuplicates(path).apply(made) == ["", "broken image", ""]


def test_several_sets_and_shards_of_records(evaluation, tmp_path):
    path, known = evaluation
    rng = np.random.default_rng(2)
    more = [pictures.natural(rng) for _ in range(5)]
    serialized = [records.encode(flat(p, id=f"record-{i}")) for i, p in enumerate(more)]
    serialized.insert(2, records.encode({"text": "no picture"}))
    shards.write_shards(str(tmp_path), "test", serialized, num_shards=2)
    assert hash_images(str(tmp_path / "*.array_record*"), str(tmp_path / "coco.npy")) == (5, [])
    stage = RemoveNearDuplicates(f"{path},{tmp_path}/coco.npy", report=str(tmp_path / "report"))
    made = [flat(more[4]), flat(known[7]), flat(pictures.natural(rng))]
    assert stage.apply(made) == [REASON, REASON, ""]
    (report,) = (tmp_path / "report").iterdir()
    images = [json.loads(line)["image"] for line in report.read_text().splitlines()]
    assert images == ["coco/record-4", "vqa-val/val/ä/007.JPG"]
    assert stage.apply([]) == []


def test_a_set_without_names_is_numbered(evaluation, tmp_path):
    path, known = evaluation
    np.save(tmp_path / "alone.npy", np.load(path))
    stage = RemoveNearDuplicates(str(tmp_path / "alone.npy"), report=str(tmp_path / "report"))
    assert stage.apply([flat(known[0])]) == [REASON]
    (report,) = (tmp_path / "report").iterdir()
    assert json.loads(report.read_text())["image"] == "alone/0"


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((3, VIEWS, 2), np.int64), r"it has int64\[3, 6, 2\], expected uint64\[n, 6, 2\]"),
        (np.zeros((3, 5, 2), np.uint64), "expected uint64"),
        (np.zeros((0, VIEWS, 2), np.uint64), "expected uint64"),
        (np.zeros(4, np.uint64), "expected uint64"),
        (np.asfortranarray(np.zeros((3, VIEWS, 2), np.uint64)), "expected uint64"),
        (np.array([{"a": 1}], object), "expected uint64"),
    ],
)
def test_files_of_another_form_are_told(tmp_path, array, message):
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        RemoveNearDuplicates(str(tmp_path / "bad.npy")).setup()


def test_damaged_and_missing_files_are_told(evaluation, tmp_path):
    data = open(evaluation[0], "rb").read()
    for cut in (0, 5, 60, len(data) - 1):
        (tmp_path / "cut.npy").write_bytes(data[:cut])
        with pytest.raises(ValueError, match="holds no hashes of images: .*Write it with hash_images"):
            RemoveNearDuplicates(str(tmp_path / "cut.npy")).setup()
    with pytest.raises(FileNotFoundError, match="Nothing matches"):
        RemoveNearDuplicates(str(tmp_path / "none*.npy")).setup()
    with pytest.raises(FileNotFoundError, match="Nothing matches"):
        hash_images(str(tmp_path / "none*"), str(tmp_path / "x.npy"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="has no image with something to see"):
        hash_images(str(tmp_path / "folder"), str(tmp_path / "x.npy"))
    with pytest.raises(ValueError, match="file NAME.npy, not"):
        hash_images(str(tmp_path), str(tmp_path / "x.bin"))


def test_it_pickles_small(evaluation, tmp_path):
    stage = RemoveNearDuplicates(evaluation[0], report=str(tmp_path / "r"))
    stage.apply([flat(evaluation[1][0])])
    assert len(pickle.dumps(stage)) < 500
