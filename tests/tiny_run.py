"""A run of seconds on real data: a gin file for the working directory, and the records it trains on."""

import io

import numpy as np

GIN = """
include 'runs/train.gin'

MODEL = @PaLI()
PaLI.vision = @ViT()
PaLI.language = @MT5()
ViT:
    width = 8
    depth = 1
    mlp_dim = 8
    num_heads = 1
    patch_size = 8
MT5:
    width = 8
    mlp_dim = 8
    encoder_depth = 1
    decoder_depth = 1
    num_heads = 1
    head_dim = 8
    vocab_size = 384

VOCABULARY = @ByteVocabulary()
MIXTURE_OR_TASK_NAME = 'vqa'
TASK_FEATURE_LENGTHS = {'image': 16, 'inputs': 48, 'targets': 8}
BATCH_SIZE = 8
TRAIN_STEPS = 2
DATA_DIR = 'data'
InverseSquareRoot.warmup_steps = 10
Trainer.compile_cache = ''
"""


def write_records() -> None:
    """A few records with questions, in data/."""
    from PIL import Image

    from paligax.data import records, shards

    rng = np.random.default_rng(0)
    for split, count in {"train": 20, "validation": 9}.items():
        written = []
        for i in range(count):
            png = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(png, "png")
            qa = [{"lang": "en", "question": f"how many are {k}?", "answer": str(i % 3)} for k in "ab"]
            written.append(records.encode({"id": f"{split}{i}", "image": png.getvalue(), "qa": qa}))
        shards.write_shards("data", split, written)
    shards.write_manifest("data")
