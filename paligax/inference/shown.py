"""Examples to be shown to people: what was asked, what was right, what the model said.

They outlive the process that evaluated: ``save`` puts them into a directory as JSON and PNG files, from which a report
can be drawn again.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Box:
    """A labelled box; edges as shares of the image's height and width, in [0, 1]."""

    label: str
    ymin: float
    xmin: float
    ymax: float
    xmax: float


@dataclasses.dataclass(frozen=True)
class Shown:
    """One held-out example with the model's answer.

    Attributes:
      id: the record's own id, or "task:record:item" where it has none.
      prompt: the encoder's text.
      target: the right text.
      prediction: the model's text.
      blind_prediction: its text with another record's image; None without a control.
      score: the task's headline metric on this example alone; None where it has no value on a single example.
      lower_is_better: whether the score is an error: 0 is perfect.
      image: uint8[H, W, 3] as the model saw it; None for text-only examples.
      true_boxes: boxes of the target.
      predicted_boxes: boxes of the prediction.
      worst: whether it is shown for its low score and not by chance.
      best: the perfect score, where the score isn't an error.
    """

    id: str
    prompt: str
    target: str
    prediction: str
    blind_prediction: str | None = None
    score: float | None = None
    lower_is_better: bool = False
    image: np.ndarray | None = None
    true_boxes: tuple[Box, ...] = ()
    predicted_boxes: tuple[Box, ...] = ()
    worst: bool = False
    best: float = 1.0

    @property
    def shortfall(self) -> float | None:
        """How far the score is from perfect, 0 where it is; None without a score."""
        if self.score is None:
            return None
        return self.score if self.lower_is_better else self.best - self.score


def png_bytes(image: np.ndarray) -> bytes:
    """PNG of uint8[H, W, 3]."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def save(directory: str | os.PathLike, examples: dict[str, Iterable[Shown]]) -> None:
    """Writes {task: examples} as examples.json and one PNG an image; what an earlier call wrote is replaced."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("image_*.png"):
        old.unlink()
    described: dict[str, list[dict[str, Any]]] = {}
    count = 0
    for task, shown in examples.items():
        described[task] = []
        for example in shown:
            fields = {f.name: getattr(example, f.name) for f in dataclasses.fields(Shown)}
            if example.image is not None:
                fields["image"] = f"image_{count:04d}.png"
                (directory / fields["image"]).write_bytes(png_bytes(example.image))
                count += 1
            for boxes in ("true_boxes", "predicted_boxes"):
                fields[boxes] = [dataclasses.astuple(box) for box in fields[boxes]]
            described[task].append(fields)
    partial = directory / "examples.json.partial"
    partial.write_text(json.dumps(described, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(partial, directory / "examples.json")


def load(directory: str | os.PathLike) -> dict[str, list[Shown]]:
    """Reads what ``save`` wrote. Raises FileNotFoundError where there is none."""
    from PIL import Image

    directory = pathlib.Path(directory)
    file = directory / "examples.json"
    if not file.is_file():
        raise FileNotFoundError(f"No examples in {str(directory)!r}: `paligax eval` writes examples.json there.")
    examples: dict[str, list[Shown]] = {}
    for task, described in json.loads(file.read_text(encoding="utf-8")).items():
        examples[task] = []
        for fields in described:
            if fields["image"] is not None:
                fields["image"] = np.asarray(Image.open(directory / fields["image"]).convert("RGB"))
            for boxes in ("true_boxes", "predicted_boxes"):
                fields[boxes] = tuple(Box(*box) for box in fields[boxes])
            examples[task].append(Shown(**fields))
    return examples
