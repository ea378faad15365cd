"""A SavedModel gives the texts of paligax.load of the same model, opened again by TensorFlow alone."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import paligax
from paligax.inference import export, exporting

ALONE = """
import json, pathlib, sys
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
asked = json.loads(pathlib.Path(sys.argv[2]).read_text())
images = tf.constant([bytes.fromhex(image) for image in asked["images"]])
found = model.signatures["serving_default"](image=images, prompt=tf.constant(asked["prompts"]))["text"].numpy()
print(json.dumps([[text.decode() for text in found], "paligax" in sys.modules]))
"""


@pytest.fixture
def asked():
    """Image bytes of several sizes, b"" for none, and prompts."""
    images = []
    for i in range(5):
        picture = np.random.default_rng(i).integers(0, 256, (16 + 20 * i, 30, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "png" if i % 2 else "jpeg")
        images.append(data.getvalue())
    return [*images, b""], [f"what is {i}? <extra_id_0>" for i in range(6)]


def written(place, module, params, vocabulary, lengths):
    """A SavedModel in bfloat16, and the texts that it should give."""
    export.export(place / "model", module, params, vocabulary, feature_lengths=lengths)
    (path,) = exporting.write(place / "model", place / "saved", "saved_model", dtype="bfloat16")
    (half,) = exporting.write(place / "model", place / "half", "paligax", dtype="bfloat16")
    return path, paligax.load(half)


@pytest.mark.slow
def test_texts_are_those_of_the_model(module, params, vocabulary, lengths, asked, tmp_path):
    import tensorflow as tf

    path, own = written(tmp_path, module, params, vocabulary, lengths)
    images, prompts = asked
    want = own.generate([image or None for image in images], prompts)
    assert len(set(want)) > 2
    model = tf.saved_model.load(str(path))
    for rows in (slice(0, 6), slice(2, 3)):
        found = model.serve(tf.constant(images[rows]), tf.constant(prompts[rows]))["text"].numpy()
        assert [text.decode() for text in found] == want[rows]
    assert "tf.saved_model.load" in (path / "README.md").read_text()
    with pytest.raises(ValueError, match="is a TensorFlow SavedModel: tf.saved_model.load opens it"):
        paligax.load(path)
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


@pytest.mark.slow
def test_tensorflow_alone_opens_it(module, params, sentencepiece_vocabulary, lengths, asked, tmp_path):
    path, own = written(tmp_path, module, params, sentencepiece_vocabulary, lengths)
    images, prompts = asked
    (tmp_path / "asked.json").write_text(json.dumps({"images": [i.hex() for i in images], "prompts": prompts}))
    command = [sys.executable, "-c", ALONE, str(path), str(tmp_path / "asked.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    want = own.generate([image or None for image in images], prompts)
    assert json.loads(done.stdout.splitlines()[-1]) == [want, False]


def test_a_full_disk_leaves_nothing(module, params, vocabulary, lengths, tmp_path, monkeypatch):
    import tensorflow as tf

    def full(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    export.export(tmp_path / "model", module, params, vocabulary, feature_lengths=lengths)
    with pytest.raises(OSError, match="No space left on device. Nothing is left of it"):
        exporting.write(tmp_path / "model", tmp_path / "saved", "saved_model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
