"""Builds `mini_webli` with tfds: records in ArrayRecord shards, and beside them what the tasks need.

labels.txt          labels of classification pretraining, one a line, in the order of the classifier's outputs
classes.txt         the object classes
unseen_words.txt    OCR words that no training image shows
vocabulary.model    sentencepiece model trained on the training texts, 100 sentinels inside
ATTRIBUTION         what the pictures' licence asks to be shown with them
manifest.json       counts of records and items; written last
"""

import concurrent.futures
import dataclasses
import functools
import io
import multiprocessing
import os
import pathlib
from collections.abc import Iterator
from typing import Any

# isort: split
import tensorflow_datasets as tfds

from paligax.data import records
from tasks.mini import scenes
from tasks.mini.world import LANGUAGES, OCR_LANGUAGES, World, world

ATTRIBUTION = (
    "All emojis designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA 4.0 "
    "(https://openmoji.org, https://creativecommons.org/licenses/by-sa/4.0/). The scenes of mini_webli are adaptations "
    "of them under the same licence. Words are set in DejaVu Sans Mono."
)
SENTINELS = 100


@dataclasses.dataclass
class MiniWebliConfig(tfds.core.BuilderConfig):
    """What decides the bytes of a build.

    Attributes:
      name: made of the other fields where it is not given.
      seed: of all drawing.
      size: number of training scenes; each held-out split has a tenth of it, and text-only records are an eighth more.
      scale: 10 × scale object classes and 480 × scale words a language.
      image_size: side of the pictures in pixels, a multiple of 32.
    """

    name: str = ""
    seed: int = 0
    size: int = 16_000
    scale: int = 1
    image_size: int = 96

    def __post_init__(self):
        self.name = self.name or f"seed{self.seed}_size{self.size}_scale{self.scale}_{self.image_size}px"


class MiniWebli(tfds.core.GeneratorBasedBuilder):
    """Scenes of one to four pictograms with words, alt-texts, boxes and questions; and text-only records."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [MiniWebliConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__ + " " + ATTRIBUTION,
            features=records.features(),
            license="CC BY-SA 4.0",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager
        return {split: self._generate_examples(split) for split in scenes.SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        size = config.size if split == scenes.TRAIN else max(config.size // 10, 1)
        # Processes of their own, started afresh: TensorFlow's threads don't survive a fork.
        starts = range(0, size, scenes.CHUNK)
        draw = functools.partial(scenes.records, config.scale, config.seed, split, size, config.image_size)
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
            made = (record for chunk in pool.map(draw, starts) for record in chunk)
            for index, record in enumerate(made):
                yield index, record | {"image": io.BytesIO(record["image"]) if record["image"] else b""}
        for index in range(max(size // 8, 1)):
            yield size + index, scenes.text_record(world(config.scale), config.seed, split, index)


def build(data_dir: str, **options: int) -> str:
    """Builds the data set below a directory, unless it is there already.

    Args:
      data_dir: tfds's data directory.
      **options: fields of MiniWebliConfig: seed, size, scale, image_size.

    Returns:
      The directory of the shards and the files beside them, ``data_dir/mini_webli/<config>/<version>``.
    """
    config = MiniWebliConfig(**options)
    listed = {config.name for config in MiniWebli.BUILDER_CONFIGS}
    builder = MiniWebli(data_dir=data_dir, config=config.name if config.name in listed else config)
    path = pathlib.Path(str(builder.data_path))
    if (path / "manifest.json").is_file():
        return str(path)
    tfds.disable_progress_bar()
    prepare = tfds.download.DownloadConfig(verify_ssl=True, num_shards=4)
    builder.download_and_prepare(download_config=prepare, file_format=tfds.core.FileFormat.ARRAY_RECORD)
    of = world(config.scale)
    _lines(path / "classes.txt", of.labels)
    _lines(path / "labels.txt", scenes.class_names(of))
    _lines(path / "unseen_words.txt", sorted(of.unseen_words))
    _lines(path / "ATTRIBUTION", [ATTRIBUTION])
    (path / "vocabulary.model").write_bytes(train_vocabulary(of, config.seed))
    records.write_manifest(str(path))
    return str(path)


def _lines(path: pathlib.Path, lines: Any) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _corpus(of: World, seed: int, size: int = 3000) -> Iterator[str]:
    """Training texts: prompts and targets as the tasks will write them."""
    for index in range(size):
        scene = scenes.draw(of, seed, scenes.TRAIN, index)
        rng = scenes.random.Random(f"{seed}/{scenes.TRAIN}/{index}/text")
        for language in LANGUAGES:
            yield f"Generate the alt_text in {language} at 0:"
            yield scenes.caption(scene, of, language)
        for qa in scenes.questions(scene, of, rng):
            yield f"Answer in EN: {qa['question']}"
            yield f"Generate a question in {qa['lang']} for {qa['answer']}:"
            yield qa["answer"]
        labels = [o.label for o in scene.objects]
        yield "Answer in EN: List the objects present:"
        yield f"Answer in EN: Is {', '.join(labels)} in the image?"
        yield f"Answer in EN: Which of {', '.join(labels)} are in the image?"
        yield f"detect {' and '.join(labels)}"
        yield " ".join(" ".join([*(str(round(side * 999)) for side in o.box), o.label]) for o in scene.objects)
        yield from ("Yes", "No", ", ".join(labels))
        yield scenes.text_record(of, seed, scenes.TRAIN, index)["text"]
    for language in OCR_LANGUAGES:
        yield f"Generate the ocr_text in {language}:"


def train_vocabulary(of: World, seed: int) -> bytes:
    """A sentencepiece model of the training texts, with its sentinels inside as mT5's file has them.

    Capital letters stand in rendered words only; each is a piece of its own, so that words never seen can be spelt.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_corpus(of, seed),
        model_writer=model,
        model_type="bpe",  # on so few different words the unigram model stops far below the size asked for
        vocab_size=700,
        hard_vocab_limit=False,
        character_coverage=1.0,
        user_defined_symbols=list(of.letters),
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for k in reversed(range(SENTINELS)):
        piece = proto.pieces.add()
        piece.piece, piece.score, piece.type = f"▁<extra_id_{k}>", 0.0, piece.USER_DEFINED
    return proto.SerializeToString(deterministic=True)
