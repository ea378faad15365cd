import gzip
import io

import pytest

from paligax.data.ingest import files
from paligax.data.ingest.readers import streams
from paligax.data.runtime import tf


def test_plain_and_packed_files_whatever_their_names(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"plain")
    (tmp_path / "b.txt").write_bytes(gzip.compress(b"packed"))
    for name, content in (("a.gz", b"plain"), ("b.txt", b"packed")):
        with streams.unpacked(str(tmp_path / name)) as stream:
            assert stream.read() == content
    assert not streams.is_packed(str(tmp_path / "a.gz")) and streams.is_packed(str(tmp_path / "b.txt"))


def test_remote_files_seek_and_unpack(tmp_path, monkeypatch):
    """A TensorFlow file stands for one on a store."""
    (tmp_path / "a").write_bytes(bytes(range(256)) * 10_000)
    (tmp_path / "b").write_bytes(gzip.compress(b"packed" * 1000))
    monkeypatch.setattr(files, "open_file", lambda path: tf.io.gfile.GFile(path, "rb"))
    monkeypatch.setattr(streams.os.path, "exists", lambda path: False)
    with streams.open_stream(str(tmp_path / "a")) as stream:
        assert stream.read(3) == b"\0\1\2"
        stream.seek(1_000_001)
        assert stream.read(2) == bytes([65, 66]) and stream.tell() == 1_000_003
        stream.seek(-2, io.SEEK_END)
        assert stream.read() == b"\xfe\xff"
    with streams.unpacked(str(tmp_path / "b")) as stream:
        assert stream.read() == b"packed" * 1000
    with pytest.raises(ValueError):
        stream.read()


def test_skip(tmp_path):
    stream = io.BytesIO(bytes(3 << 20))
    assert streams.skip(stream, (2 << 20) + 1) and stream.tell() == (2 << 20) + 1
    assert not streams.skip(stream, 1 << 20)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), streams.unpacked(str(tmp_path / "nowhere")):
        pass


def test_chunks_come_up_to_the_damage(tmp_path):
    content = b"".join(b"%d\n" % (i * i) for i in range(100_000))
    packed = gzip.compress(content)
    (tmp_path / "a").write_bytes(packed[: len(packed) // 2])
    with streams.unpacked(str(tmp_path / "a")) as stream:
        chunks, found = streams.chunks(stream), b""
        with pytest.raises(streams.DAMAGED):
            for chunk in chunks:
                found += chunk
    assert content.startswith(found) and len(content) // 3 < len(found) < len(content)
    assert list(streams.chunks(io.BytesIO(bytes(5)), 3)) == [bytes(3)]
