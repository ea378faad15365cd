"""What transformers' SigLIP says of pictures and texts: the truth that ScorePairs is compared with.

    python tests/data/ingest/references.py

writes what is committed under tests/data/ingest/references/: a sentencepiece file for the committed model of
tests/interop/references/siglip, and what transformers' tokenizer and model make of ``TEXTS`` and ``pictures()``.
Needs torch and transformers.
"""

import io
import pathlib
import shutil

import numpy as np

HERE = pathlib.Path(__file__).parent / "references"
WEIGHTS = pathlib.Path(__file__).parents[2] / "interop" / "references" / "siglip"
SPIECE, EXPECTED = "spiece.model", "expected.npz"
TEXTS = [
    "a cat",
    "A CAT!",
    "the  hat -- is\non (the) mat?",
    "it's a mat, isn't it",
    "",
    "?!",
    "a hat on the mat is the hat that the cat is on",
    "ÖL naïve 日本 \u00a0 x",
]


SENTENCES = ("the cat is on the mat", "a hat that is the cat's", "on a mat it is")


def spiece(sentences: tuple[str, ...] = SENTENCES, size: int = 31) -> bytes:
    """A sentencepiece file as SigLIP's: pad and EOS are one piece, "</s>", with id 1; unknown is 2."""
    import sentencepiece

    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences] * 9),
        model_writer=buffer,
        vocab_size=size,
        model_type="unigram",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return buffer.getvalue()


def pictures() -> np.ndarray:
    """uint8[3, 21, 21, 3]"""
    return np.random.default_rng(0).integers(0, 256, (3, 21, 21, 3), np.uint8)


def directory(at: pathlib.Path) -> pathlib.Path:
    """The model with its tokenizer, as one directory of transformers."""
    at.mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS / "config.json", WEIGHTS / "model.safetensors", HERE / SPIECE):
        shutil.copy(file, at)
    return at


def by_transformers(at: pathlib.Path) -> dict[str, np.ndarray]:
    """ids int[n, L] of ``TEXTS``; cosines, logits float32[3, n] of ``pictures()`` with them."""
    import torch
    import transformers

    model = transformers.SiglipModel.from_pretrained(at).eval()
    length = model.config.text_config.max_position_embeddings
    tokenizer = transformers.SiglipTokenizer(str(at / SPIECE))
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length)["input_ids"]
    pixels = torch.tensor(pictures() / 127.5 - 1, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        out = model(input_ids=torch.tensor(ids), pixel_values=pixels)
    return {
        "ids": np.asarray(ids),
        "cosines": (out.image_embeds @ out.text_embeds.T).numpy(),
        "logits": out.logits_per_image.numpy(),
    }


if __name__ == "__main__":
    import tempfile

    HERE.mkdir(exist_ok=True)
    (HERE / SPIECE).write_bytes(spiece())
    with tempfile.TemporaryDirectory() as folder:
        np.savez(HERE / EXPECTED, **by_transformers(directory(pathlib.Path(folder) / "siglip")))
