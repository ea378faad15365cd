import io

import numpy as np
import pytest
from PIL import Image

from paligax.data import records, shards
from paligax.inference.questions import Asked
from paligax.inference.shard_questions import FromShards


def png():
    data = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(data, "png")
    return data.getvalue()


def test_records_of_shards(tmp_path):
    image = png()
    qa = [{"lang": "en", "question": f"how {k}?", "answer": "1"} for k in "ab"]
    stored = [
        records.encode({"id": "x", "image": image, "qa": qa}),
        records.encode({"id": "", "image": image, "qa": []}),
    ]
    shards.write_shards(str(tmp_path), "validation", stored)
    shards.write_manifest(str(tmp_path))
    asked = FromShards(str(tmp_path), "validation", "in {lang}: {question}")
    assert asked.read(range(2)) == [
        Asked("x:0", "in en: how a?", image),
        Asked("x:1", "in en: how b?", image),
    ]
    asked = FromShards(str(tmp_path), "validation", "say")
    assert [(one.id, one.prompt) for one in asked.read([1, 0])] == [("record:1", "say"), ("x", "say")]
    with pytest.raises(ValueError, match="has no split 'tset'; it has validation"):
        FromShards(str(tmp_path), "tset", "say")


def test_a_record_that_cannot_be_read_is_one_error(tmp_path):
    shards.write_shards(str(tmp_path), "validation", [records.encode({"id": "x", "image": png()})])
    shards.write_manifest(str(tmp_path))
    asked = FromShards(str(tmp_path), "validation", "say")
    assert asked._one(shards.UNREADABLE, 4, 0) == Asked("record:4", "", None, "broken record")
    assert asked.digest() != FromShards(str(tmp_path), "validation", "tell").digest()
