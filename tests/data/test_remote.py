import os
import subprocess
import sys

import fsspec
import numpy as np
import pytest

from paligax.data import records, remote, shards

SHARDS = [f"x-train.array_record-{i:05}-of-00003" for i in range(3)]


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A data directory in fsspec's memory: three shards of 1,000 bytes and a manifest."""
    monkeypatch.setenv("PALIGAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(remote, "_stores", {})
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.0)
    files = fsspec.filesystem("memory")
    for i, name in enumerate(SHARDS):
        files.pipe(f"/bucket/webli/{name}", bytes([i]) * 1000)
    files.pipe("/bucket/webli/manifest.json", b"{}")
    yield files
    files.rm("/bucket", recursive=True)


def shards_in(directory):
    return sorted(name for name in os.listdir(directory) if name in SHARDS)


def test_what_can_be_read_directly_stays():
    for path in ("data/webli", "/data/webli", "gs://bucket/webli", "file:///data"):
        assert remote.local_directory(path) == path
    remote.fetch("/data/webli/x")
    assert remote.names("/data/webli") is None


def test_small_files_come_at_once_and_shards_when_they_are_needed(bucket):
    here = remote.local_directory("memory://bucket/webli/")
    assert os.listdir(here).count("manifest.json") == 1 and shards_in(here) == []
    assert remote.names(here) == {*SHARDS, "manifest.json"}
    remote.fetch(os.path.join(here, SHARDS[1]))
    with open(os.path.join(here, SHARDS[1]), "rb") as file:
        assert file.read() == b"\x01" * 1000
    assert remote.local_directory("memory://bucket/webli") == here


def test_the_cache_is_bounded_and_the_shards_opened_last_stay(bucket, monkeypatch):
    monkeypatch.setenv("PALIGAX_CACHE_GIB", str(2100 / 2**30))
    here = remote.local_directory("memory://bucket/webli")
    for number, age in ((0, 30), (1, 20), (0, 10)):
        remote.fetch(os.path.join(here, SHARDS[number]))
        then = os.stat(os.path.join(here, SHARDS[number])).st_mtime - age
        os.utime(os.path.join(here, SHARDS[number]), (then, then))
    remote.fetch(os.path.join(here, SHARDS[2]))
    assert shards_in(here) == [SHARDS[0], SHARDS[2]]


def test_a_data_set_in_a_store_is_read_as_one_on_disk_is(bucket, tmp_path):
    written = tmp_path / "written"
    asked = {"lang": "en", "question": "x", "answer": "y"}
    items = [{"id": str(i), "image": b"i", "qa": [asked] * (i % 3)} for i in range(20)]
    shards.write_shards(str(written), "train", map(records.encode, items), num_shards=3)
    records.write_manifest(str(written))
    assert (written / "manifest").is_dir()  # counts of the index, beside what lies at the top
    bucket.put(str(written), "/bucket/webli2", recursive=True)
    assert sorted(bucket.ls("/bucket/webli2", detail=False))[0] == "/bucket/webli2/manifest"
    here, there = (shards.read_manifest(d)["train"] for d in (str(written), "memory://bucket/webli2"))
    assert there.digest == here.digest
    there.require_shards()
    numbers = np.array([19, 0, 7])
    places = [split.entries("qa").locate(np.arange(19)) for split in (here, there)]
    np.testing.assert_array_equal(*places)
    assert not [name for name in os.listdir(there.directory) if "array_record" in name]  # nothing was read yet
    assert shards.Readers().read(there, numbers) == shards.Readers().read(here, numbers)


def test_a_shard_larger_than_the_cache_is_refused(bucket, monkeypatch):
    monkeypatch.setenv("PALIGAX_CACHE_GIB", str(900 / 2**30))
    here = remote.local_directory("memory://bucket/webli")
    with pytest.raises(OSError, match="raise PALIGAX_CACHE_GIB"):
        remote.fetch(os.path.join(here, SHARDS[0]))


def test_a_download_that_fails_is_tried_again_and_one_cut_short_never_stays(bucket, monkeypatch):
    here = remote.local_directory("memory://bucket/webli")
    store, calls = remote._stores[here], []
    get = store._files.get_file

    def flaky(path, target):
        calls.append(path)
        if len(calls) == 1:
            raise ConnectionError("reset by peer")
        get(path, target)
        if len(calls) == 2:
            os.truncate(target, 10)

    monkeypatch.setattr(store._files, "get_file", flaky)
    remote.fetch(os.path.join(here, SHARDS[0]))
    assert len(calls) == 3 and os.path.getsize(os.path.join(here, SHARDS[0])) == 1000
    assert not [name for name in os.listdir(here) if name.endswith(".part")]


def test_a_store_that_stays_away_is_told_without_secrets(bucket, monkeypatch, caplog):
    here = remote.local_directory("memory://bucket/webli")

    def refuse(path, target):
        raise PermissionError(
            "403 for https://me:pass@host/b/x?X-Amz-Signature=abc123 Authorization: Bearer-xyz AKIAABCDEFGH1234"
        )

    monkeypatch.setattr(remote._stores[here]._files, "get_file", refuse)
    with pytest.raises(OSError, match="tried 4 times: PermissionError: 403") as caught:
        remote.fetch(os.path.join(here, SHARDS[0]))
    for text in (str(caught.value), caplog.text):
        assert not any(secret in text for secret in ("pass@", "abc123", "Bearer-xyz", "AKIAABCDEFGH1234"))
    assert caught.value.__cause__ is None


def test_what_is_missing_is_named(bucket):
    here = remote.local_directory("memory://bucket/webli")
    with pytest.raises(
        FileNotFoundError, match="memory://bucket/webli/x-test.array_record-00000-of-00001 is not there"
    ):
        remote.fetch(os.path.join(here, "x-test.array_record-00000-of-00001"))
    with pytest.raises(FileNotFoundError, match="memory://bucket/nothing"):
        remote.local_directory("memory://bucket/nothing")


def test_a_driver_that_is_not_installed_is_named():
    with pytest.raises(ImportError, match="The driver for nonsense:// is an extra"):
        remote.local_directory("nonsense://bucket/x")


def test_s3(tmp_path, monkeypatch):
    """Against a local server that speaks S3."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setattr(remote, "_stores", {})
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "PALIGAX_CACHE_DIR": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="webli/manifest.json", Body=b"{}")
        client.put_object(Bucket="bucket", Key=f"webli/{SHARDS[0]}", Body=b"7" * 5000)
        here = remote.local_directory("s3://bucket/webli")
        remote.fetch(os.path.join(here, SHARDS[0]))
        assert open(os.path.join(here, SHARDS[0]), "rb").read() == b"7" * 5000
        assert remote.names(here) == {"manifest.json", SHARDS[0]}
    finally:
        server.stop()


def test_processes_of_one_machine_share_a_download(bucket, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / SHARDS[0]).write_bytes(b"1" * 1000)
    script = f"""
import os, time
from paligax.data import remote
remote._READ_DIRECTLY = ()
here = remote.local_directory("file://{source}")
store = remote._stores[here]
get = store._files.get_file
def slow(path, target):
    print("downloads", flush=True); time.sleep(1.0); get(path, target)
store._files.get_file = slow
remote.fetch(os.path.join(here, {SHARDS[0]!r}))
"""
    environment = os.environ | {"PALIGAX_CACHE_DIR": str(tmp_path / "cache")}
    started = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) for _ in "ab"]
    said = [process.communicate(timeout=100)[0] for process in started]
    assert sorted(said) == [b"", b"downloads\n"] and all(process.returncode == 0 for process in started)
