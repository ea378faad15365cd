"""Runs single records through registered tasks, as the stream does."""

import dataclasses
import io

import numpy as np
import pytest
import seqio

from paligax.data import Data, check, records
from paligax.data.runtime import tf
from paligax.vocabulary import ByteVocabulary, SentencePieceVocabulary

RESOLUTION = 16
TEXTS = [
    "Generate the alt_text in en at 0:",
    "Generate the ocr_text in de:",
    "Generate a question in fr for yes:",
    "Answer in EN: List the objects present: what is in the image, how many are there?",
    "Which of cat, dog, bird, traffic light are in the image? Yes No detect cat and dog",
    "a red cat sits on a green sofa beside two dogs 0 1 2 3 4 5 6 7 8 9 10 250 500 999",
]


@pytest.fixture(scope="session")
def sentencepiece_files(tmp_path_factory):
    """(with sentinels inside, as mT5's; without, as T5's)."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    directory = tmp_path_factory.mktemp("vocabulary")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS * 3), model_writer=model, vocab_size=120, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, byte_fallback=False, minloglevel=2,
    )  # fmt: skip
    plain, inside = directory / "plain.model", directory / "inside.model"
    plain.write_bytes(model.getvalue())
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for k in reversed(range(100)):
        proto.pieces.add(
            piece=f"▁<extra_id_{k}>", score=0.0, type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
        )
    inside.write_bytes(proto.SerializeToString())
    return str(inside), str(plain)


@pytest.fixture(params=["bytes", "mt5", "t5"])
def vocabulary(request, sentencepiece_files):
    """Bytes; sentencepiece with its sentinels inside; sentencepiece with sentinels added."""
    inside, plain = sentencepiece_files
    return {
        "bytes": ByteVocabulary(),
        "mt5": SentencePieceVocabulary(inside),
        "t5": SentencePieceVocabulary(plain, extra_ids=100),
    }[request.param]


@pytest.fixture(scope="session")
def data():
    """A run with bytes and lengths that hold everything."""
    return Data(
        mixture_or_task="any",
        feature_lengths={"image": RESOLUTION, "inputs": 200, "targets": 200},
        batch_size=1,
        vocabulary=ByteVocabulary(),
        data_dir="/nowhere",
    )


@pytest.fixture(scope="session")
def image():
    return tf.io.encode_png(np.full((20, 30, 3), 128, np.uint8)).numpy()


@dataclasses.dataclass
class Examples:
    """What a task made of one record under many seeds: one entry each."""

    fields: list[dict]
    data: Data

    def _decoded(self, key):
        return [self.data.vocabulary.decode(f[key]) for f in self.fields]

    @property
    def prompts(self):
        return self._decoded("inputs")

    @property
    def targets(self):
        return self._decoded("targets")

    @property
    def pairs(self):
        return list(zip(self.prompts, self.targets, strict=True))

    @property
    def skips(self):
        return [f["skip"].decode() for f in self.fields]

    def host(self):
        """Each entry as metrics see it: host fields without their prefix, and the target's text."""
        return [
            {key.removeprefix("eval/"): value for key, value in f.items() if key.startswith("eval/")}
            | {"targets": target}
            for f, target in zip(self.fields, self.targets, strict=True)
        ]

    def target_values(self, task: seqio.Task):
        """What the metric function gets as targets."""
        return [
            task.postprocess_fn(text, example=h, is_target=True)
            for h, text in zip(self.host(), self.targets, strict=True)
        ]


@pytest.fixture(scope="session")
def make():
    """make(factory, data, **arguments) → the task, one for all tests that ask for the same."""
    made = {}

    def make_task(factory, data: Data, **arguments) -> seqio.Task:
        key = (factory, repr(data), repr(arguments))
        if key not in made:
            made[key] = factory(f"test_{factory.__name__}", data, **arguments)
        return made[key]

    return make_task


@pytest.fixture(scope="session")
def run(image):
    """run(task, data, record, item=0, seeds=1) → Examples; the record gets an image unless it names one."""
    traced = {}

    def run_task(task: seqio.Task, data: Data, record: dict, item: int = 0, seeds: int = 1) -> Examples:
        if task not in traced:
            traced[task] = check.trace(task, data.feature_lengths, for_evaluation=True)
        serialized = tf.constant(records.encode({"image": image, **record}))
        fields = []
        for seed in np.random.default_rng(0).integers(0, 2**31, (seeds, 2)).astype(np.int32):
            row = traced[task](serialized, tf.constant(item, tf.int64), tf.constant(seed))
            row = {key: value.numpy() for key, value in row.items()}
            fields.append(row | {key: row[key][row[key] != 0] for key in ("inputs", "targets") if key in row})
        return Examples(fields, data)

    return run_task
