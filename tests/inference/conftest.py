"""A tiny PaLI with random weights that ends its answers, and its byte vocabulary."""

import numpy as np
import pytest

from paligax import models
from paligax.interop import native
from paligax.vocabulary import ByteVocabulary, SentencePieceVocabulary

LENGTHS = {"image": 16, "inputs": 32, "targets": 12}


@pytest.fixture(scope="session")
def vocabulary():
    return ByteVocabulary(extra_ids=8)


@pytest.fixture(scope="session")
def module(vocabulary):
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    language = models.MT5(16, 32, 1, 2, num_heads=2, head_dim=8, vocab_size=vocabulary.size, num_buckets=8)
    return models.PaLI(vision=vision, language=language)


@pytest.fixture(scope="session")
def params(module):
    """Larger weights than a fresh model's, so that answers differ by image and prompt; a head that likes to end."""
    rng = np.random.default_rng(2)
    shapes = dict(native.flatten(models.abstract_params(module, LENGTHS)))
    params = native.unflatten(
        {
            name: np.ones(leaf.shape, np.float32)
            if name.endswith("scale")
            else rng.normal(0, 0.35, leaf.shape).astype(np.float32)
            for name, leaf in shapes.items()
        }
    )
    params["language"]["logits"]["kernel"][:, 1] *= 3.0
    return params


@pytest.fixture(scope="session")
def lengths():
    return dict(LENGTHS)


@pytest.fixture
def batch():
    """image uint8[6, 16, 16, 3], inputs int32[6, 32], image_mask bool[6]: the fourth row has no image."""
    rng = np.random.default_rng(1)
    inputs = rng.integers(3, 250, (6, LENGTHS["inputs"]), np.int32)
    for row, length in enumerate((32, 20, 9, 14, 3, 25)):
        inputs[row, length - 1 :] = 0
        inputs[row, length - 1] = 1
    image = rng.integers(0, 256, (6, LENGTHS["image"], LENGTHS["image"], 3), np.uint8)
    return image, inputs, np.arange(6) != 3


@pytest.fixture(scope="session")
def sentencepiece_vocabulary(tmp_path_factory):
    """Trained on a few lines; four sentinels are added behind its pieces."""
    import sentencepiece

    path = tmp_path_factory.mktemp("vocabulary") / "small.model"
    lines = [
        "answer in en: what is there",
        "a red cat and a blue dog",
        "where is the green house",
        "0 1 2 3 4 5 6 7 8 9",
    ]
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines * 4),
            model_writer=file,
            vocab_size=60,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    return SentencePieceVocabulary(str(path), extra_ids=4)
