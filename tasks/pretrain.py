"""The pretraining mixtures of PaLI: `pali_pretrain`, `pali_high_res`, and the classification task of the ViT.

Every run names this module in Data.task_modules (the default); Data.options may hold any field of `Options`.
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Mapping, Sequence

from paligax.data import Data
from tasks.captioning import captioning, split_cap
from tasks.classification import classification
from tasks.detection import detection
from tasks.object_aware import object_aware
from tasks.ocr import ocr
from tasks.parts import add_mixture
from tasks.span_corruption import span_corruption
from tasks.vqa import vqa, vqg

# Millions of examples; the paper mixes in proportion to them (1,566 in all).
MILLIONS = {
    "span_corruption": 100,
    "split_cap": 1000,
    "captioning": 100,
    "ocr": 100,
    "vqa": 100,
    "vqg": 100,
    "object_aware": 50,
    "detection": 16,
}
# The high-resolution phase; its proportions are open, these follow the same counts.
HIGH_RES = ("captioning", "ocr", "vqa")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run may say in Data.options.

    Attributes:
      sources: task name → directory of its records; other tasks read Data.data_dir.
      classes: class names of the object tasks, or the path of a file with one a line: absent objects are sampled from
        it, and the classification task's labels stand in its order.
      unseen_words: words that no training image shows, or the path of a file with one a line.
      noise_density, mean_span_length: of span corruption.
      form_rates, max_objects: of object-aware VQA (tasks.object_aware).
      num_negatives, max_positives, box_order, bins: of detection (tasks.detection).
    """

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    classes: Sequence[str] | str = ()
    unseen_words: Sequence[str] | str = ()
    noise_density: float = 0.15
    mean_span_length: float = 3.0
    form_rates: Sequence[float] = (1, 1, 1, 1)
    max_objects: int = 4
    num_negatives: tuple[int, int] = (1, 3)
    max_positives: int = 8
    box_order: str = "shuffled"
    bins: int = 1000


def register(data: Data) -> None:
    """Fills seqio's registries: the eight tasks and both mixtures; or `classification`, where labels are asked for."""
    options = read_options(data.options)
    known = ("classification", *MILLIONS)
    for name in options.sources:
        _known(name, known, "Data.options['sources'] names task")
    if "labels" in data.feature_lengths:
        add_classification(data, options)
    else:
        add_tasks(data, options)
        add_mixture("pali_pretrain", MILLIONS)
        add_mixture("pali_high_res", {name: MILLIONS[name] for name in HIGH_RES})


def read_options(given: Mapping) -> Options:
    """Options of a dict. Raises ValueError with the nearest known name for an option that doesn't exist."""
    fields = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        _known(name, fields, "Data.options has the key")
    return Options(**given)


def add_classification(data: Data, options: Options) -> None:
    classification("classification", data, lines(options.classes), options.sources.get("classification"))


def add_tasks(data: Data, options: Options) -> None:
    """Registers the eight tasks."""
    where = {name: options.sources.get(name) for name in MILLIONS}
    classes = lines(options.classes)
    span_corruption("span_corruption", data, where["span_corruption"], options.noise_density, options.mean_span_length)
    split_cap("split_cap", data, where["split_cap"])
    captioning("captioning", data, where["captioning"])
    ocr("ocr", data, where["ocr"], lines(options.unseen_words))
    vqa("vqa", data, where["vqa"])
    vqg("vqg", data, where["vqg"])
    object_aware("object_aware", data, where["object_aware"], classes, options.form_rates, options.max_objects)
    detection(
        "detection",
        data,
        where["detection"],
        classes,
        num_negatives=options.num_negatives,
        max_positives=options.max_positives,
        box_order=options.box_order,
        bins=options.bins,
    )


def lines(names: Sequence[str] | str) -> tuple[str, ...]:
    """The names themselves, or those of a file with one a line. Raises FileNotFoundError without such a file."""
    if not isinstance(names, str):
        return tuple(names)
    file = pathlib.Path(names)
    if not file.is_file():
        raise FileNotFoundError(
            f"No file {names!r}: Data.options wants a list of names or a file with one name a line."
        )
    return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def _known(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise ValueError(
            f"{what} {name!r}, which is not known{f'; did you mean {near[0]!r}?' if near else '.'} "
            f"Known: {', '.join(names)}."
        )
