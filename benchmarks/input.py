"""How fast examples are made, beside torch: from JPEG records on disk, through a real task, to batches.

    pip install -e .[parity]
    python benchmarks/input.py --json=input.json

Pictures with rendered words are written as records; the stream then reads them through the captioning task (decode,
antialiased resize to 224 px, prompt, sentencepiece) as training does. Beside it, in turns: torch's DataLoader with a
worker a core, PIL (decode, BILINEAR, which is antialiased) and the same sentencepiece model, its JPEGs in memory. Keys
of the JSON, each for "512x384" and "1024x768" pixels:

    images_per_second               the stream's, over the median round
    torch_images_per_second         torch's; null where it isn't installed
    ratio                           the first by the second
    grey_levels                     mean difference between the batch's pixels and PIL's antialiased bilinear
    decode_images_per_second        JPEG decoding alone, whole, one thread a core
    cpu_milliseconds_per_image      processor time of the stream
    jpeg_bytes                      mean size

The keys of "512x384" stand at the top, too; "small_…" are those from 128×128 pixels to 64 px, where the work around the
pixels counts; cores and seconds are the measurement's.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paligax.data import Data

WORDS = (
    "the a quick brown fox jumps over lazy dog beside red old house under wide blue sky with many small birds".split()
)
LENGTH = 32
BATCH_SIZE = 128
# name → (height, width, resolution)
SIZES = {"512x384": (384, 512, 224), "1024x768": (768, 1024, 224), "small": (128, 128, 64)}


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


def write(directory: str, height: int, width: int, count: int) -> tuple[list[bytes], list[str]]:
    """Writes records of ``count`` pictures with a caption each; returns their JPEGs and captions."""
    from paligax.data import records, shards

    rng = np.random.default_rng(0)
    pictures = [jpeg(picture(rng, height, width)) for _ in range(count)]
    captions = [" ".join(rng.choice(WORDS, 10)) for _ in pictures]
    written = [
        records.encode({"id": str(i), "image": image, "alt_text": [{"lang": "en", "text": caption}]})
        for i, (image, caption) in enumerate(zip(pictures, captions, strict=True))
    ]
    shards.write_shards(directory, "train", written, num_shards=4)
    records.write_manifest(directory)
    return pictures, captions


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


class TorchExamples:
    """A map-style data set of torch's: the same examples, made by PIL and sentencepiece."""

    def __init__(self, pictures: list[bytes], captions: list[str], model: str, resolution: int):
        self._pictures, self._captions, self._model, self._resolution = pictures, captions, model, resolution
        self._processor = None

    def __len__(self) -> int:
        return 1 << 30

    def _ids(self, text: str) -> np.ndarray:
        if self._processor is None:  # in each worker
            import sentencepiece

            self._processor = sentencepiece.SentencePieceProcessor(model_file=self._model)
        ids = np.zeros(LENGTH, np.int32)
        found = self._processor.encode(text)[: LENGTH - 1]
        ids[: len(found) + 1] = [*found, 1]
        return ids

    def __getitem__(self, index: int):
        number = index * 7919 % len(self._pictures)
        opened = Image.open(io.BytesIO(self._pictures[number])).convert("RGB")
        pixels = np.asarray(opened.resize((self._resolution, self._resolution), Image.BILINEAR))
        prompt = "Generate the alt_text in en at 0: <extra_id_0>"
        return {"image": pixels, "inputs": self._ids(prompt), "targets": self._ids(self._captions[number])}


def torch_batches(examples: TorchExamples):
    """Endless batches, or None where torch isn't installed."""
    try:
        from torch.utils import data
    except ModuleNotFoundError:
        print("torch isn't installed: nothing to compare with (pip install -e .[parity]).")
        return None
    return iter(data.DataLoader(examples, BATCH_SIZE, num_workers=os.cpu_count() or 1, multiprocessing_context="fork"))


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


def decoding_alone(pictures: list[bytes]) -> Callable[[], None]:
    """Decodes a batch's worth of JPEGs, one thread a core."""
    from paligax.data.runtime import tf

    function = tf.function(lambda data: tf.shape(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")))
    dataset = tf.data.Dataset.from_tensor_slices(pictures).repeat()
    dataset = dataset.map(function, num_parallel_calls=os.cpu_count(), deterministic=True).batch(BATCH_SIZE)
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    batches = iter(dataset.with_options(options))
    return lambda: next(batches)


def rate(make_batch: Callable[[], object], seconds: float) -> tuple[float, float]:
    """(images a second, processor milliseconds an image in this process)."""
    for _ in range(6):  # what was prefetched while others were measured
        make_batch()
    start, processor, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        make_batch()
        count += BATCH_SIZE
    return count / (time.perf_counter() - start), (time.process_time() - processor) / count * 1e3


def measure(height: int, width: int, resolution: int, seconds: float, rounds: int) -> dict[str, float | None]:
    with tempfile.TemporaryDirectory() as directory:
        pictures, captions = write(directory, height, width, count=256)
        vocab = vocabulary(directory)
        # Its workers are forked before TensorFlow's threads are there.
        theirs = torch_batches(TorchExamples(pictures, captions, str(vocab.path), resolution))
        lengths = {"image": resolution, "inputs": LENGTH, "targets": LENGTH}
        batches = Data("captioning", lengths, BATCH_SIZE, vocab, data_dir=directory).stream().batches()
        result: dict[str, float | None] = {"grey_levels": difference(batches, pictures, resolution)}
        decode = decoding_alone(pictures)
        rates, costs, others, alone = [], [], [], []
        for _ in range(rounds):
            found, cost = rate(lambda: next(batches), seconds / rounds)
            rates.append(found)
            costs.append(cost)
            if theirs is not None:
                others.append(rate(lambda: next(theirs), seconds / rounds)[0])
            alone.append(rate(decode, seconds / rounds / 3)[0])
        batches.close()
    torch_rate = statistics.median(others) if others else None
    return result | {
        "images_per_second": statistics.median(rates),
        "torch_images_per_second": torch_rate,
        "ratio": statistics.median(rates) / torch_rate if torch_rate else None,
        "decode_images_per_second": statistics.median(alone),
        "cpu_milliseconds_per_image": statistics.median(costs),
        "jpeg_bytes": statistics.mean(len(data) for data in pictures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured for each picture size and side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default=",".join(SIZES), help="which of them")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"cores": os.cpu_count() or 1, "seconds": arguments.seconds}
    for name in arguments.sizes.split(","):
        found = measure(*SIZES[name], arguments.seconds, arguments.rounds)
        found = {key: value if value is None else round(value, 3) for key, value in found.items()}
        if name == "small":
            figures |= {f"small_{key}": value for key, value in found.items()}
            continue
        figures[name] = found
        if name == "512x384":
            figures |= found
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    for key, value in figures.items():
        if not isinstance(value, dict):
            print(f"{key:36} {value}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
