import pathlib
import time

import numpy as np
import pytest

from paligax.data import counts, manifest, records, shards
from paligax.data.counts import BLOCK

KINDS = ["qa", "qa:de", "qa:fr", "image"]


def write(directory, given, sizes):
    """A manifest of shards of these sizes; given: uint16[kinds, records]."""
    writer = counts.CountsWriter(directory, "train", KINDS, sum(sizes))
    listed = []
    for index, (end, size) in enumerate(zip(np.cumsum(sizes), sizes, strict=True)):
        here = given[:, end - size : end]
        writer.append(here)
        totals = dict(zip(KINDS, here.sum(axis=1, dtype=np.int64).tolist(), strict=True))
        listed.append({"path": f"s{index}", "records": int(size), "bytes": 9, "items": totals})
    totals = dict(zip(KINDS, given.sum(axis=1, dtype=np.int64).tolist(), strict=True))
    manifest.add(directory, "train", {"shards": listed, "items": totals, "uniform": writer.close()})


def expected(given, kinds):
    """(record, item) of every entry, the long way."""
    each = sum(given[KINDS.index(kind)].astype(np.int64) for kind in kinds)
    record = np.repeat(np.arange(len(each)), each)
    return record, np.arange(len(record)) - np.repeat(np.cumsum(each) - each, each)


@pytest.fixture(params=["with sums", "without sums"])
def forget(request):
    """Makes a directory one that was built before there were sums, or leaves it."""

    def forget(directory):
        for path in pathlib.Path(directory, "manifest").glob("*.sums.npy"):
            if request.param == "without sums":
                path.unlink()

    return forget


@pytest.mark.parametrize(
    "sizes", [[1], [5, 0, 3], [BLOCK, BLOCK], [700] * 40, [0, 3 * BLOCK + 1, 17, 2 * BLOCK, 1, 0, 30_000]]
)
def test_every_entry_is_found_wherever_blocks_and_shards_end(tmp_path, forget, sizes):
    rng = np.random.default_rng(len(sizes))
    given = rng.integers(0, [[4], [2], [3], [2]], (4, sum(sizes))).astype(np.uint16)
    given[:, sum(sizes) // 3 : sum(sizes) // 2] = 0  # blocks and shards without entries
    given[0, 0], given[3] = 3, 1
    write(str(tmp_path), given, sizes)
    forget(tmp_path)
    for kinds in (["qa"], ["qa:de", "qa:fr"], ["image"]):
        entries = shards.Entries(shards.read_manifest(str(tmp_path))["train"], "+".join(kinds).replace("+qa:", "+"))
        record, item = expected(given, kinds)
        assert len(entries) == len(record)
        for some in (rng.permutation(len(record))[:50], np.arange(len(record))[::-1], np.arange(0)):
            found = entries.locate(some)
            np.testing.assert_array_equal(found[0], record[some])
            np.testing.assert_array_equal(found[1], item[some])


def test_kinds_of_languages(tmp_path):
    langs = [["en", "de"], ["de", "de", "fr"], [], ["fr", "en"]]
    written = [
        {"id": f"r{i}", "image": b"x", "qa": [{"lang": k, "question": "?"} for k in ls]} for i, ls in enumerate(langs)
    ]
    shards.write_shards(str(tmp_path), "train", [records.encode(r) for r in written], num_shards=2)
    records.write_manifest(str(tmp_path), languages=["de", "fr"])
    split = shards.read_manifest(str(tmp_path))["train"]  # shards: r0 r2 | r1 r3

    def entries(kind):
        found = shards.Entries(split, kind)
        return list(zip(*(a.tolist() for a in found.locate(np.arange(len(found)))), strict=True))

    assert entries("qa:en") == [(0, 0), (3, 0)]
    assert entries("qa:de") == [(0, 0), (2, 0), (2, 1)]
    assert entries("qa:de+fr") == [(0, 0), (2, 0), (2, 1), (2, 2), (3, 0)]
    with pytest.raises(ValueError, match=r"doesn't count 'qa:it'.*languages=\['it'\]"):
        shards.Entries(split, "qa:it")


def test_tasks_share_an_index(tmp_path):
    write(str(tmp_path), np.ones((4, 10), np.uint16), [10])
    one, other = (shards.read_manifest(str(tmp_path))["train"] for _ in range(2))
    assert one.entries("qa") is other.entries("qa")


def test_damage_is_told(tmp_path, forget):
    given = np.ones((4, 3 * BLOCK), np.uint16)
    given[0, 7] = 2
    write(str(tmp_path), given, [2 * BLOCK, BLOCK])
    forget(tmp_path)
    entries = shards.Entries(shards.read_manifest(str(tmp_path))["train"], "qa")
    for entry in (-1, len(entries)):
        with pytest.raises(IndexError, match=f"there are {len(entries):,}"):
            entries.locate(np.array([entry]))
    with open(tmp_path / "manifest" / "train.qa.npy", "r+b") as f:
        f.seek(-2, 2)  # the last record's
        f.write(b"\x05\x00")
    assert entries.locate(np.array([3, 9]))[0].tolist() == [3, 8]
    with pytest.raises(ValueError, match="counts of qa in split 'train' don't fit together.*write_manifest"):
        entries.locate(np.array([len(entries) - 1]))


def test_a_manifest_older_than_a_kind_says_so(tmp_path):
    write(str(tmp_path), np.ones((4, 2), np.uint16), [2])
    split = shards.read_manifest(str(tmp_path))["train"]
    with pytest.raises(ValueError, match="older than items 'question'.*write_manifest"):
        split.entries("question")


def test_a_wrong_sums_file_of_the_right_length_is_not_believed(tmp_path, caplog):
    given = np.ones((4, 2 * BLOCK), np.uint16)
    given[0, 0] = 3
    write(str(tmp_path), given, [2 * BLOCK])
    np.save(counts.sums_file(str(tmp_path), "train", "qa"), np.array([0, 5, 9]))
    entries = shards.Entries(shards.read_manifest(str(tmp_path))["train"], "qa")
    assert entries.locate(np.array([0, 5, len(entries) - 1]))[0].tolist() == [0, 3, 2 * BLOCK - 1]
    assert "older than its shards" in caplog.text


def test_a_hundred_million_records_are_not_held(tmp_path):
    """A sparse file: what is held and read doesn't grow with it. (10⁹: benchmarks/billion.py.)"""
    sizes, count = [1_000_000] * 100, 100_000_000
    path = pathlib.Path(counts.counts_file(str(tmp_path), "train", "qa"))
    path.parent.mkdir()
    with open(path, "wb") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<u2", "fortran_order": False, "shape": (count,)})
        start = f.tell()
        f.truncate(start + 2 * count)
        for shard in range(100):  # each shard's last record has the only entries
            f.seek(start + 2 * ((shard + 1) * 1_000_000 - 1))
            f.write(b"\x02\x00")
    listed = [{"path": f"s{i}", "records": size, "bytes": 9, "items": {"qa": 2}} for i, size in enumerate(sizes)]
    manifest.add(str(tmp_path), "train", {"shards": listed, "items": {"qa": 200}, "uniform": {}})
    entries = shards.read_manifest(str(tmp_path))["train"].entries("qa")
    began = time.perf_counter()
    record, item = entries.locate(np.array([0, 99, 199]))
    assert record.tolist() == [999_999, 49_999_999, 99_999_999] and item.tolist() == [0, 1, 1]
    assert int(entries._known.sum()) <= 6 and time.perf_counter() - began < 2
    assert entries._before.nbytes < 200_000
