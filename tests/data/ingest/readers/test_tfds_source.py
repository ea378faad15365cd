import io
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from paligax.data import records
from paligax.data.ingest.readers.tfds_source import Tfds, _folder
from paligax.data.runtime import tf  # noqa: F401  before tfds, which imports TensorFlow
from tests.data.ingest.readers.reading import read, reasons


def png(i):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), i, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def prepared(request, tmp_path_factory):
    """A small data set, prepared as tfds does it → its data_dir."""
    import tensorflow_datasets as tfds

    class TinyBoxes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "image/id": np.int64,
                "pixels": tfds.features.Tensor(shape=(2, 2, 3), dtype=np.uint8),
                "depth": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.float32),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
                "objects": tfds.features.Sequence(
                    {
                        "bbox": tfds.features.BBoxFeature(),
                        "label": tfds.features.ClassLabel(names=["ear", "tail"]),
                        "parts": tfds.features.Sequence(np.int64),
                        "mask": tfds.features.Image(shape=(None, None, 1)),
                    }
                ),
                "wrong": tfds.features.Sequence(tfds.features.BBoxFeature(bbox_format="XYWH")),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(25), "test": self._generate_examples(3)}

        def _generate_examples(self, count):
            for i in range(count):
                box = tfds.features.BBox(ymin=0.0, xmin=0.25, ymax=0.5, xmax=1.0)
                part = {"bbox": box, "label": "tail", "parts": [1] * i, "mask": np.zeros((2, 2, 1), np.uint8)}
                yield (
                    i,
                    {
                        "image": io.BytesIO(png(i)),
                        "image/id": 100 + i,
                        "pixels": np.full((2, 2, 3), i, np.uint8),
                        "depth": np.zeros((2, 2, 1), np.float32),
                        "label": -1 if i == 2 else i % 2,
                        "captions": [{"id": k, "text": f"caption {i} {k} ü"} for k in range(i % 3)],
                        "objects": [part] * (i % 2),
                        "wrong": [],
                    },
                )

    directory = str(tmp_path_factory.mktemp(request.param))
    TinyBoxes(data_dir=directory, file_format=request.param).download_and_prepare()
    return directory


def test_usual_names_are_found(prepared):
    found, problems = read(Tfds("tiny_boxes", "test", prepared, lang="en"))
    found = sorted(found, key=lambda r: r["id"])  # tfds shuffles when it writes
    assert problems == [] and [r["id"] for r in found] == ["100", "101", "102"]
    assert found[1] == {
        "id": "101",
        "image": png(1),
        "labels": ["dog"],
        "alt_text": [{"lang": "en", "text": "caption 1 0 ü".encode()}],
        "objects": [{"label": "tail", "bbox": [0.0, 0.25, 0.5, 1.0]}],
        "source": "tfds",
    }
    assert "objects" not in found[0] and found[2].get("labels", []) == [] and len(found[2]["alt_text"]) == 2


def test_named_fields_and_arrays(prepared):
    mapping = "pixels=image,captions.id=qa/question,captions.text=qa/answer,image/id=id"
    found, problems = read(Tfds("tiny_boxes", "train", prepared, mapping, source="mine"))
    assert len(found) == 25 and problems == []
    one = next(r for r in found if r["id"] == "105")
    assert np.array_equal(np.array(Image.open(io.BytesIO(one["image"]))), np.full((2, 2, 3), 5, np.uint8))
    assert [(i["question"], i["answer"]) for i in one["qa"]] == [
        ("0", "caption 5 0 ü".encode()),
        ("1", "caption 5 1 ü".encode()),
    ]
    assert one["source"] == "mine" and "labels" not in one


def test_units_together_are_the_split(prepared):
    whole = [r["id"] for r in read(Tfds("tiny_boxes", "train", prepared))[0]]
    assert sorted(whole) == [str(100 + i) for i in range(25)]
    reader = Tfds("tiny_boxes", "train", prepared, unit_size=10)
    assert list(reader.units()) == [["train", 0, 10], ["train", 10, 20], ["train", 20, 25]]
    assert [r["id"] for r in read(reader)[0]] == whole
    part = Tfds("tiny_boxes", "train[20%:60%]+test", prepared, unit_size=8)
    assert list(part.units()) == [["train", 5, 13], ["train", 13, 15], ["test", 0, 3]]
    assert [r["id"] for r in read(part)[0]][:10] == whole[5:15]


def test_the_folder_itself(prepared):
    assert len(read(Tfds(split="test", data_dir=f"{prepared}/tiny_boxes/1.0.0"))[0]) == 3


def test_configs_and_versions(prepared, tmp_path, monkeypatch):
    for folder in ("set/a/1.9.0", "set/a/1.10.0", "set/b/1.0.0"):
        shutil.copytree(f"{prepared}/tiny_boxes/1.0.0", tmp_path / folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert _folder(str(tmp_path), "set/a").endswith("set/a/1.10.0")
    assert _folder(str(tmp_path), "set/a:1.9.0").endswith("set/a/1.9.0")
    assert len(read(Tfds("set/b", "test"))[0]) == 3
    with pytest.raises(FileNotFoundError, match=r"name=set/a \(or \['b'\]\)"):
        list(Tfds("set").units())
    with pytest.raises(FileNotFoundError, match="'set/a' of version 3.0.0"):
        list(Tfds("set/a:3.0.0").units())
    with pytest.raises(FileNotFoundError, match="did you mean 'set'"):
        list(Tfds("sett").units())


def test_mistakes_are_told(prepared, tmp_path):
    with pytest.raises(ValueError, match="no split 'tran'; did you mean 'train'"):
        list(Tfds("tiny_boxes", "tran", prepared).units())
    with pytest.raises(ValueError, match=r"no 'objects\.lable'; did you mean 'objects/label'"):
        list(Tfds("tiny_boxes", "train", prepared, "objects.lable=objects/label").units())
    with pytest.raises(ValueError, match="'depth' is .*float32.*; expected one image"):
        list(Tfds("tiny_boxes", "train", prepared, "depth=image").units())
    with pytest.raises(ValueError, match="'wrong' are XYWH; expected REL_YXYX"):
        list(Tfds("tiny_boxes", "train", prepared, "wrong=objects/bbox").units())
    with pytest.raises(FileNotFoundError, match="No prepared data set 'tiny_boxen'"):
        list(Tfds("tiny_boxen", "train", prepared).units())
    with pytest.raises(FileNotFoundError, match="No prepared data set ''"):
        list(Tfds(data_dir=str(tmp_path)).units())


def test_damaged_files_are_counted(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    (file,) = pathlib.Path(tmp_path / "copy").glob("*/*/*-test.*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    file.write_bytes(data)
    found, problems = read(Tfds("tiny_boxes", "test", str(tmp_path / "copy")))
    assert len(found) < 3 and set(reasons(problems)) <= {"unreadable record", "damaged or cut file"}
    assert problems


def test_our_own_schema(tmp_path):
    """A builder with records.features() gives the records it was made of."""
    import tensorflow_datasets as tfds

    record = {
        "id": "a",
        "image": png(3),
        "alt_text": [{"lang": "de", "text": "eins"}],
        "objects": [
            {"label": "cat", "bbox": np.array([0, 0, 0.5, 1], np.float32), "confidence": 0.5, "verified_absent": True}
        ],
        "score": 0.25,
    }

    class Ours(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=records.features())

        def _split_generators(self, dl_manager):
            full = {"source": "", "text": "", "text_lang": "", "ocr": [], "qa": [], "labels": []}
            return {"train": [(0, {**full, **record, "image": io.BytesIO(record["image"])})]}

        def _generate_examples(self):
            raise NotImplementedError

    Ours(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    found, problems = read(Tfds("ours", data_dir=str(tmp_path)))
    assert problems == [] and found[0]["id"] == b"a" and found[0]["image"] == png(3)
    assert records.encode(found[0]) == records.encode({**record, "source": "tfds"})
