"""How fast examples are made: from JPEG records on disk, through a real task, to batches.

    python benchmarks/input.py --json=input.json

Pictures of 512×384 pixels with rendered words are written as records; the stream then reads them through the captioning
task (decode, antialiased resize to 224 px, prompt, sentencepiece) as training does. Keys of the JSON:

    images_per_second               the stream's, over the median round
    cpu_milliseconds_per_image      processor time it took
    small_images_per_second         the same from 128×128 pixels to 64 px, where the work around the pixels counts
    small_cpu_milliseconds_per_image
    decode_images_per_second        JPEG decoding alone, one thread a core: what the machine could do at best
    mean_difference                 grey levels between the batch's pixels and PIL's antialiased bilinear
    cores, seconds, jpeg_bytes      of the measurement
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paligax.data import Data

WORDS = (
    "the a quick brown fox jumps over lazy dog beside red old house under wide blue sky with many small birds".split()
)
# name → (height, width, resolution, batch size)
SIZES = {"": (384, 512, 224, 128), "small_": (128, 128, 64, 128)}


def picture(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A smooth ground with some texture, shapes, and words in several sizes."""
    from matplotlib import font_manager

    ground = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    grain = rng.normal(0, 4, (height, width, 1))
    ground = Image.fromarray(np.clip(np.asarray(ground) + grain, 0, 255).astype(np.uint8))
    draw, path = ImageDraw.Draw(ground), font_manager.findfont("DejaVu Sans")
    for _ in range(6):
        x, y, w, h = rng.integers(0, width), rng.integers(0, height), *rng.integers(20, width // 3, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x), int(y), int(x + w), int(y + h)), fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
    for line in range(height // 32):
        font = ImageFont.truetype(path, int(rng.integers(9, 26)))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        words = " ".join(rng.choice(WORDS, 4))
        draw.text((int(rng.integers(0, width // 3)), 32 * line), words, fill=colour, font=font)
    return ground


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def write(directory: str, height: int, width: int, count: int) -> list[bytes]:
    """Writes records of ``count`` pictures with a caption each; returns their JPEGs."""
    from paligax.data import records, shards

    rng = np.random.default_rng(0)
    pictures = [jpeg(picture(rng, height, width)) for _ in range(count)]
    captions = [[{"lang": "en", "text": " ".join(rng.choice(WORDS, 10))}] for _ in pictures]
    written = [
        records.encode({"id": str(i), "image": image, "alt_text": caption})
        for i, (image, caption) in enumerate(zip(pictures, captions, strict=True))
    ]
    shards.write_shards(directory, "train", written, num_shards=4)
    records.write_manifest(directory)
    return pictures


def vocabulary(directory: str):
    import sentencepiece

    from paligax.vocabulary import SentencePieceVocabulary

    rng = np.random.default_rng(0)
    text = pathlib.Path(directory, "text.txt")
    text.write_text(
        "\n".join("Generate the alt_text in en at 0: " + " ".join(rng.choice(WORDS, 10)) for _ in range(999))
    )
    sentencepiece.SentencePieceTrainer.Train(
        input=str(text),
        model_prefix=str(pathlib.Path(directory, "vocabulary")),
        vocab_size=400,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        byte_fallback=True,
        user_defined_symbols=[f"▁<extra_id_{k}>" for k in reversed(range(100))],
        minloglevel=2,
    )
    return SentencePieceVocabulary(str(pathlib.Path(directory, "vocabulary.model")))


def difference(batches, pictures: list[bytes], resolution: int) -> float:
    """Mean difference, in grey levels, of one batch's images from decoding and resizing with PIL."""
    batch = next(batches)
    differences = []
    for identity, fed in zip(batch.ids, batch.batch.image, strict=True):
        number = int(identity.split(":")[1])
        written = number // (len(pictures) // 4) + 4 * (number % (len(pictures) // 4))  # round-robin into four shards
        decoded = Image.open(io.BytesIO(pictures[written]))
        expected = np.asarray(decoded.resize((resolution, resolution), Image.BILINEAR))
        differences.append(np.abs(fed.astype(int) - expected).mean())
    return float(np.mean(differences))


def decoding_alone(pictures: list[bytes], seconds: float) -> float:
    """JPEGs decoded a second, one thread a core."""
    from paligax.data.runtime import tf

    function = tf.function(lambda data: tf.shape(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")))
    dataset = tf.data.Dataset.from_tensor_slices(pictures).repeat()
    dataset = dataset.map(function, num_parallel_calls=os.cpu_count(), deterministic=True).batch(64)
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    batches = iter(dataset.with_options(options))
    next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += 64
    return count / (time.perf_counter() - start)


def measure(height: int, width: int, resolution: int, batch_size: int, seconds: float, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        pictures = write(directory, height, width, count=256)
        lengths = {"image": resolution, "inputs": 32, "targets": 32}
        data = Data("captioning", lengths, batch_size, vocabulary(directory), data_dir=directory)
        batches = data.stream().batches()
        result = {"mean_difference": difference(batches, pictures, resolution)}
        rates, costs, alone = [], [], []
        for _ in range(rounds):
            for _ in range(4):
                next(batches)
            start, processor, count = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - start < seconds / rounds:
                next(batches)
                count += batch_size
            rates.append(count / (time.perf_counter() - start))
            costs.append((time.process_time() - processor) / count * 1e3)
        batches.close()
        for _ in range(rounds):
            alone.append(decoding_alone(pictures, seconds / rounds / 3))
    return result | {
        "images_per_second": statistics.median(rates),
        "cpu_milliseconds_per_image": statistics.median(costs),
        "decode_images_per_second": statistics.median(alone),
        "jpeg_bytes": statistics.mean(len(data) for data in pictures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--seconds", type=float, default=15.0, help="measured for each picture size")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    figures: dict[str, float] = {"cores": os.cpu_count() or 1, "seconds": arguments.seconds}
    for prefix, size in SIZES.items():
        for name, value in measure(*size, arguments.seconds, arguments.rounds).items():
            figures[prefix + name] = round(value, 3)
    for name, value in figures.items():
        print(f"{name:36} {value}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
