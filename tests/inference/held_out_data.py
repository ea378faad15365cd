"""Records whose images tell a number that an oracle can read, for the real tasks."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from paligax.data import Data, records, shards
from paligax.vocabulary import ByteVocabulary

SIDE = 16
FIRST = 10  # record i says "10 + i", always two digits
CLASSES = ("cat", "dog", "red", "blue")


def picture(i: int) -> bytes:
    pixels = np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    pixels[0, 0, 0] = FIRST + i
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def record(i: int) -> dict:
    answer = str(FIRST + i)
    return {
        "id": f"https://example.org:80/{i}.png" if i % 2 else "",
        "image": picture(i),
        "alt_text": [{"lang": lang, "text": f"{lang} {answer}"} for lang in ("en", "de")],
        "qa": [{"lang": "en", "question": f"which number {j}?", "answer": answer} for j in range(1 + i % 3)],
        "ocr": [{"lang": "en", "text": answer, "bbox": [0.1, 0.1, 0.3, 0.5]}],
        "objects": [
            {"label": CLASSES[i % 2], "bbox": [0.1, 0.2, 0.5, 0.9], "confidence": 1.0, "verified_absent": False}
        ],
        "labels": [CLASSES[2 + i // 2 % 2]],
    }


def write(directory: str) -> None:
    good = [record(i) for i in range(11)]
    broken = {**record(11), "image": picture(11)[:60]}
    text = [{"id": f"t{i}", "text": f"once upon a time there were {i} numbers"} for i in range(5)]
    for split in ("train", "validation"):
        shards.write_shards(directory, split, [records.encode(r) for r in (*good, broken, *text)], num_shards=2)
    records.write_manifest(directory)


def data(directory: str, **other) -> Data:
    fields = dict(
        mixture_or_task="pali_pretrain",
        feature_lengths={"image": SIDE, "inputs": 64, "targets": 48},
        batch_size=8,
        vocabulary=ByteVocabulary(extra_ids=8),
        data_dir=directory,
        options={"classes": CLASSES},
    )
    return Data(**(fields | other))


class Oracle:
    """Reads the number in the image and says it: right exactly where it is shown the right image."""

    params = {"none": np.zeros(1, np.float32)}

    def apply(self, variables, *args, method):
        return getattr(self, method)(*args)

    def encode(self, image, inputs, image_mask):
        return image[:, :1, 0, 0].astype(jnp.int32)[..., None], jnp.ones((image.shape[0], 1), bool)

    def start_decoding(self, states, mask, max_length):
        return states[:, 0, 0], jnp.int32(0)

    def decode_step(self, last, cache):
        number, index = cache
        digit = jnp.where(index == 0, number // 10, number % 10) + ord("0") + 3
        return jax.nn.one_hot(jnp.where(index < 2, digit, 1), 400), (number, index + 1)
