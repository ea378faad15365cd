"""What `paligax infer` asks: the images of a folder, or the entries of a published question file.

Question files are read in the layouts in which they are published, told apart by what they hold:

    {"questions": [{"question_id", "image_id", "question"}], "data_subtype"}    VQAv2, OK-VQA
    {"data": [{"question_id", "image_id" or "file_path", "question"}]}          TextVQA, ST-VQA
    {"images": [{"id", "file_name"}]}                                           captions: COCO, VizWiz, NoCaps
    {"images": [{"cocoid", "filename", "filepath", "split"}]}                   captions: Karpathy's splits
    {question id: {"imageId", "question"}}                                      GQA
    [{"image", "question"}], or its columns {"image": {…}, "question": {…}}     VizWiz-VQA
    [{"id", "image", "question" or "prompt", …}], or such objects as lines      your own; without "image": text only
"""

import abc
import dataclasses
import difflib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_QUESTIONS_BYTES = 4 * 2**30
MAX_IMAGE_BYTES = 512 * 2**20
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_FIELD = re.compile(r"\{(\w+)\}")
_SUBSETS = ("val2014", "test2015", "train2014")


@dataclasses.dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
      id: the data set's.
      prompt: the encoder's text.
      image: bytes of a JPEG or PNG, not yet decoded; None where there is none.
      error: why it can't be asked, e.g. "image missing"; "": it can.
    """

    id: int | str
    prompt: str
    image: bytes | None = None
    error: str = ""


class Questions(abc.ABC):
    """Questions in a fixed order, read when asked."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, numbers: Sequence[int]) -> list[Asked]:
        """Those with these numbers. Called from several threads."""

    @abc.abstractmethod
    def digest(self) -> str:
        """Hash of what is asked: whether a job that is begun again is the same."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A question of a file: its id, its prompt, and the names that its image may have; none: text only."""

    id: int | str
    prompt: str
    names: tuple[str, ...] = ()


class FromFiles(Questions):
    """Questions whose images are files.

    Args:
      entries: in order.
      folder: of the images.
    """

    def __init__(self, entries: Sequence[Entry], folder: str | os.PathLike = ""):
        self.entries, self._folder = tuple(entries), pathlib.Path(folder).expanduser()

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, numbers: Sequence[int]) -> list[Asked]:
        return [self._one(self.entries[number]) for number in numbers]

    def _one(self, entry: Entry) -> Asked:
        if not entry.names:
            return Asked(entry.id, entry.prompt)
        found = read_image(self._folder, entry.names)
        return (
            Asked(entry.id, entry.prompt, found)
            if isinstance(found, bytes)
            else Asked(entry.id, entry.prompt, None, found)
        )

    def digest(self) -> str:
        hashed = hashlib.sha256()
        for entry in self.entries:
            hashed.update(json.dumps(dataclasses.astuple(entry)).encode() + b"\n")
        return hashed.hexdigest()[:32]


def fill(prompt: str, fields: Mapping[str, Any]) -> str:
    """Puts an entry's fields where the prompt has {name}. Raises ValueError for a name that the entry hasn't."""

    def value(match: re.Match) -> str:
        name = match.group(1)
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"nearest: {near[0]!r}" if near else f"known: {', '.join(map(str, fields)) or 'none'}"
            raise ValueError(f"--prompt has {{{name}}}, which the questions don't have ({known}).")
        return str(fields[name])

    return _FIELD.sub(value, prompt)


def read_image(folder: pathlib.Path, names: Sequence[str]) -> bytes | str:
    """The bytes of the first of these files that is there; or why there are none."""
    reason = "image missing"
    for name in names:
        parts = pathlib.PurePosixPath(name.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name or len(name) > 4096:
            reason = "bad file name"
            continue
        path = folder.joinpath(*parts)
        try:
            if not path.is_file():
                continue
            if path.stat().st_size > MAX_IMAGE_BYTES:
                return "image file too large"
            return path.read_bytes()
        except OSError:
            reason = "image can't be read"
    return reason


def of_folder(folder: str | os.PathLike, prompt: str) -> FromFiles:
    """Every JPEG and PNG below a folder, in the order of their names, with the same prompt.

    Raises:
      FileNotFoundError: where there is no folder, or no image in it.
    """
    place = pathlib.Path(folder).expanduser()
    if not place.is_dir():
        raise FileNotFoundError(f"No folder {str(place)!r}: --images names the folder of the images.")
    found = []
    for root, _, files in os.walk(place):
        below = pathlib.Path(root).relative_to(place)
        found += [(below / file).as_posix() for file in files if file.lower().endswith(IMAGE_ENDINGS)]
    if not found:
        raise FileNotFoundError(f"No image in {str(place)!r}: expected files ending in {', '.join(IMAGE_ENDINGS)}.")
    text = fill(prompt, {})
    return FromFiles([Entry(name, text, (name,)) for name in sorted(found)], place)


def of_file(path: str | os.PathLike, images: str | os.PathLike, prompt: str, split: str = "") -> FromFiles:
    """The entries of a question file, see the layouts above.

    Args:
      path: .json, or .jsonl.
      images: folder of the images; may be "" where no entry has one.
      prompt: with {name} for an entry's fields; "": the entries' own "prompt".
      split: of Karpathy's file, several with commas; "": all.

    Raises:
      FileNotFoundError, ValueError: where a file is missing, or holds something else; ids that stand twice are listed.
    """
    path = pathlib.Path(path).expanduser()
    entries, fields = [], None
    for place, (name, names, fields) in enumerate(_entries(path, split)):
        if name is None:
            raise ValueError(f"{str(path)!r}, entry {place}: no id: expected one of {', '.join(_IDS)}.")
        text = fill(prompt, fields) if prompt else fields.get("prompt")
        if not isinstance(text, str):
            raise ValueError(
                f"{str(path)!r}, entry {place} has no prompt: give one, e.g. "
                "--prompt='Answer in EN: {question} <extra_id_0>'."
            )
        entries.append(Entry(name, text, names))
    if not entries:
        raise ValueError(f"{str(path)!r} has no questions" + (f" of split {split!r}." if split else "."))
    seen: set[int | str] = set()
    if twice := [entry.id for entry in entries if entry.id in seen or seen.add(entry.id)]:
        raise ValueError(f"{str(path)!r}: {len(twice)} ids stand twice: {', '.join(map(str, twice[:5]))}.")
    if not images and any(entry.names for entry in entries):
        raise ValueError(f"The questions of {str(path)!r} are about images: give their folder, --images=FOLDER.")
    if images and not pathlib.Path(images).expanduser().is_dir():
        raise FileNotFoundError(f"No folder {str(images)!r}: --images names the folder of the images.")
    return FromFiles(entries, images)


# Fields that may hold an entry's id, the first that is there.
_IDS = ("question_id", "questionId", "qid", "id", "cocoid", "image", "image_id")
_Found = tuple[int | str | None, tuple[str, ...], Mapping[str, Any]]


def _entries(path: pathlib.Path, split: str) -> Iterator[_Found]:
    """(id, names of the image, fields) of each entry."""
    value = _read(path)
    subset, rows = "", value
    if isinstance(value, dict):
        subset = str(value.get("data_subtype", "")).replace("test-dev", "test")
        lists = [name for name in ("questions", "data", "images") if isinstance(value.get(name), list)]
        if lists:
            rows = value[lists[0]]
        elif isinstance(value.get("image"), dict):
            rows = [
                {name: column.get(key) for name, column in value.items() if isinstance(column, dict)}
                for key in value["image"]
            ]
        elif value and all(isinstance(row, dict) for row in value.values()):
            rows = [{"question_id": key, **row} for key, row in value.items()]
        else:
            raise ValueError(
                f"{str(path)!r} holds an object with {', '.join(list(value)[:10])}; expected 'questions', 'data' or "
                "'images', or a list."
            )
    if not isinstance(rows, list):
        raise ValueError(f"{str(path)!r} holds no list of questions.")
    wanted = set(split.split(",")) if split else set()
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{str(path)!r}, entry {place} is {type(row).__name__}; expected an object.")
        if wanted and row.get("split") not in wanted:
            continue
        name = next((row[key] for key in _IDS if isinstance(row.get(key), int | str)), None)
        yield name, image_names(row, subset), row


def _read(path: pathlib.Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"No file {str(path)!r}: --questions names a .json or .jsonl file.")
    if path.stat().st_size > MAX_QUESTIONS_BYTES:
        raise ValueError(f"{str(path)!r} has more than {MAX_QUESTIONS_BYTES >> 30} GiB: cut it into parts.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".jsonl":
            return json.loads(text)
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no valid {path.suffix.lstrip('.').upper() or 'JSON'}: {error}.") from error


def image_names(row: Mapping[str, Any], subset: str = "") -> tuple[str, ...]:
    """The names under which an entry's image may lie in the folder; none: it is about no image.

    Args:
      row: the entry.
      subset: of COCO, as "val2014", where the file says it.
    """
    for key in ("image", "file_name", "file_path", "filename"):
        if isinstance(row.get(key), str) and row[key]:
            name = row[key].replace("\\", "/")
            if key == "filename" and isinstance(row.get("filepath"), str):
                name = f"{row['filepath']}/{name}"
            parts = name.split("/")[-5:]
            return tuple(dict.fromkeys([name, *("/".join(parts[i:]) for i in range(len(parts)))]))
    known = row.get("image_id", row.get("imageId"))
    if isinstance(known, int) and not isinstance(known, bool):
        plain, subsets = f"{known:012d}.jpg", [subset] if subset else _SUBSETS
        names = [f"COCO_{one}_{plain}" for one in subsets]
        folders = [f"{one}/{name}" for one, name in zip(subsets, names, strict=True)]
        return (*names, *folders, plain, *(f"{one}/{plain}" for one in ("val2017", "test2017", "train2017")))
    if isinstance(known, str) and known:
        return tuple(f"{folder}{known}.jpg" for folder in ("", "train_images/", "test_images/", "images/"))
    return ()
