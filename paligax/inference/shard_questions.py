"""What `paligax infer` asks of a data directory: its records, or the questions in them."""

import hashlib
from collections.abc import Sequence

import numpy as np

from paligax.inference.questions import Asked, Questions, fill


class FromShards(Questions):
    """Records of a data directory, one prompt each; with "{question}" in it one for each of their questions.

    Args:
      directory: with ArrayRecord shards and their manifest.
      split: of it.
      prompt: with {question} and {lang} of the question, where it has them.
    """

    def __init__(self, directory: str, split: str, prompt: str):
        from paligax.data import shards

        splits = shards.read_manifest(directory)
        if split not in splits:
            raise ValueError(f"{directory!r} has no split {split!r}; it has {', '.join(splits)}.")
        self._split, self._prompt = splits[split], prompt
        self._of_questions = "{question}" in prompt
        self._entries = shards.Entries(self._split, "qa" if self._of_questions else "record")
        self._readers = shards.Readers()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, numbers: Sequence[int]) -> list[Asked]:
        places, items = self._entries.locate(np.asarray(numbers, np.int64))
        stored = self._readers.read(self._split, places)
        return [self._one(*row) for row in zip(stored, places.tolist(), items.tolist(), strict=True)]

    def _one(self, serialized: bytes, place: int, item: int) -> Asked:
        from paligax.data import records

        name = f"record:{place}" + (f":{item}" if self._of_questions else "")
        try:
            record = records.decode(serialized)
        except Exception:  # noqa: BLE001  whatever the parser says of foreign bytes
            return Asked(name, "", None, "broken record")
        if record["id"]:
            name = record["id"] + (f":{item}" if self._of_questions else "")
        fields = {}
        if self._of_questions:
            if item >= len(record["qa/question"]):
                return Asked(name, "", None, "record has changed since the manifest was written")
            fields = {"question": record["qa/question"][item], "lang": record["qa/lang"][item]}
        return Asked(name, fill(self._prompt, fields), record["image"] or None)

    def digest(self) -> str:
        return f"{self._split.digest} {hashlib.sha256(self._prompt.encode()).hexdigest()[:16]}"
