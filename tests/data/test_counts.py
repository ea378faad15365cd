import numpy as np
import pytest

from paligax.data import counts
from paligax.data.counts import BLOCK


def test_kinds_that_every_record_has_equally_often_need_no_file(tmp_path):
    writer = counts.CountsWriter(str(tmp_path), "train", ["one", "some", "none"], 5)
    writer.append(np.array([[1, 1], [2, 0], [0, 0]], np.uint16))
    writer.append(np.zeros((3, 0), np.uint16))  # a shard without records
    writer.append(np.array([[1, 1, 1], [3, 3, 3], [0, 0, 0]], np.uint16))
    assert writer.close() == {"one": 1, "none": 0}
    read = counts.Counts(str(tmp_path), "train", "some", 5)
    assert read.read(0, 5).tolist() == [2, 0, 3, 3, 3] and read.read(1, 3).tolist() == [0, 3]
    assert counts.read_sums(str(tmp_path), "train", "some", 5).tolist() == [0, 11]
    assert sorted(f.name for f in (tmp_path / "manifest").iterdir()) == ["train.some.npy", "train.some.sums.npy"]


@pytest.mark.parametrize("sizes", [[BLOCK], [1, 3 * BLOCK + 5, 0, 7, BLOCK - 13, 2], [10] * 900])
def test_sums_stand_before_every_block_wherever_shards_end(tmp_path, sizes):
    kinds, total = ["few", "many", "all"], sum(sizes)
    given = np.random.default_rng(0).integers(0, [[3], [65_536], [1]], (3, total)).astype(np.uint16)
    writer = counts.CountsWriter(str(tmp_path), "train", kinds, total)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        writer.append(given[:, end - size : end])
    assert writer.close() == {"all": 0}
    for row, kind in enumerate(kinds[:2]):
        expected = [int(given[row, :start].sum()) for start in [*range(0, total, BLOCK), total]]
        assert counts.read_sums(str(tmp_path), "train", kind, total).tolist() == expected


def test_blocks_are_read_by_number(tmp_path):
    given = np.arange(2 * BLOCK + 5, dtype=np.uint16)
    writer = counts.CountsWriter(str(tmp_path), "train", ["qa"], len(given))
    writer.append(given[None])
    writer.close()
    read = counts.Counts(str(tmp_path), "train", "qa", len(given))
    for numbers in ([0, 1], [1, 2], [2], [0, 0, 2]):
        blocks = read.blocks(np.array(numbers))
        read.release()
        for number, block in zip(numbers, blocks, strict=True):
            here = given[number * BLOCK : (number + 1) * BLOCK]
            assert block[: len(here)].tolist() == here.tolist() and not block[len(here) :].any()


def test_counts_in_use_can_be_written_again(tmp_path):
    """A run has them mapped: what it reads stays what it was."""
    for given in ([1, 2, 3], [7, 8, 9]):
        writer = counts.CountsWriter(str(tmp_path), "train", ["qa"], 3)
        writer.append(np.array([given], np.uint16))
        writer.close()
        if given[0] == 1:
            before = counts.Counts(str(tmp_path), "train", "qa", 3)
    before.release()
    assert before.read(0, 3).tolist() == [1, 2, 3]
    assert counts.Counts(str(tmp_path), "train", "qa", 3).read(0, 3).tolist() == [7, 8, 9]


def test_an_earlier_counts_sums_do_not_stay(tmp_path):
    for given in ([[1, 2]], [[5, 5]]):
        writer = counts.CountsWriter(str(tmp_path), "train", ["qa"], 2)
        writer.append(np.array(given, np.uint16))
        writer.close()
    assert not list((tmp_path / "manifest").iterdir())
    with pytest.raises(ValueError, match="2 records were counted; 3 were announced"):
        writer = counts.CountsWriter(str(tmp_path), "train", ["qa"], 3)
        writer.append(np.array([[1, 2]], np.uint16))
        writer.close()


def test_damaged_files_are_told(tmp_path):
    writer = counts.CountsWriter(str(tmp_path), "train", ["qa"], 3)
    writer.append(np.array([[1, 2, 3]], np.uint16))
    writer.close()
    path, sums = (tmp_path / "manifest" / f"train.qa{end}" for end in (".npy", ".sums.npy"))
    with pytest.raises(ValueError, match=r"train.qa.npy has uint16\[3\] in 6 bytes; expected uint16\[4\]"):
        counts.Counts(str(tmp_path), "train", "qa", 4)
    for content in (path.read_bytes()[:-1], b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="train.qa.npy.*rite the manifest anew"):
            counts.Counts(str(tmp_path), "train", "qa", 3)
    for content in (b"", sums.read_bytes()[:-3], sums.read_bytes().replace(b"\x06", b"\xff")):
        sums.write_bytes(content)
        with pytest.raises(ValueError, match="sums.npy is damaged or of another build"):
            counts.read_sums(str(tmp_path), "train", "qa", 10_000)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="train.qa.npy' isn't there.*Write the manifest anew"):
        counts.Counts(str(tmp_path), "train", "qa", 3)


def test_a_file_elsewhere_is_copied_once(tmp_path, monkeypatch):
    writer = counts.CountsWriter("ram://counts", "train", ["qa"], 3)
    writer.append(np.array([[1, 2, 3]], np.uint16))
    writer.close()
    assert counts.Counts("ram://counts", "train", "qa", 3).read(1, 3).tolist() == [2, 3]
    assert counts.read_sums("ram://counts", "train", "qa", 3).tolist() == [0, 6]
