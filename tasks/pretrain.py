"""The pretraining mixtures of PaLI: `pali_pretrain`, `pali_high_res`, the ablations, and the ViT's classification.

    pali_pretrain                           the eight tasks, in the paper's proportions
    pali_high_res                           captioning, OCR and VQA
    pali_pretrain_without_split_cap         ablations: the other tasks keep their proportions to each other
    pali_pretrain_without_object_aware      neither object-aware VQA nor detection: both ask for objects by their names,
                                            and the paper speaks of object-aware tasks in the plural
    pali_pretrain_english                   what is in English alone: task "captioning_en" reads English alt-texts, …;
                                            the object tasks, which are English, are the same

and every task by its own name. Every run names this module in Data.task_modules (the default); Data.options may hold
any field of `Options`.
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Mapping, Sequence

from paligax.data import Data
from tasks.captioning import captioning, split_cap
from tasks.classification import classification
from tasks.detection import detection
from tasks.languages import codes
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
# pali_pretrain_without_<name> → the tasks left out.
ABLATIONS = {"split_cap": ("split_cap",), "object_aware": ("object_aware", "detection")}
# Tasks whose examples have a language.
MULTILINGUAL = ("span_corruption", "split_cap", "captioning", "ocr", "vqa", "vqg")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run may say in Data.options.

    Attributes:
      sources: task name → directory of its records; other tasks read Data.data_dir.
      languages: task name → the languages that its examples are limited to, {"captioning": "cc3m_35l"}: codes or the
        name of a list (tasks.languages.LISTS). The manifest must count them
        (paligax.data.records.write_manifest(directory, languages=…)). Tasks not named take every language.
      classes: class names of the object tasks, or the path of a file with one a line: absent objects are sampled from
        it, and the classification task's labels stand in its order.
      crop: "none" or "inception": what of an image the classification task shows in training (tasks.classification).
      unseen_words: words that no training image shows, or the path of a file with one a line.
      noise_density, mean_span_length: of span corruption.
      form_rates, max_objects: of object-aware VQA (tasks.object_aware).
      num_negatives, max_positives, box_order, bins: of detection (tasks.detection).
    """

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    languages: Mapping[str, Sequence[str] | str] = dataclasses.field(default_factory=dict)
    classes: Sequence[str] | str = ()
    crop: str = "none"
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
    """Fills seqio's registries: the tasks and the mixtures; or `classification`, where labels are asked for."""
    options = read_options(data.options)
    if "labels" in data.feature_lengths:
        add_classification(data, options)
        return
    add_tasks(data, options)
    add_english_tasks(data, options)
    add_mixture("pali_pretrain", MILLIONS)
    add_mixture("pali_high_res", {name: MILLIONS[name] for name in HIGH_RES})
    for ablation, without in ABLATIONS.items():
        rest = {name: rate for name, rate in MILLIONS.items() if name not in without}
        add_mixture(f"pali_pretrain_without_{ablation}", rest)
    english = {f"{name}_en" if name in MULTILINGUAL else name: rate for name, rate in MILLIONS.items()}
    add_mixture("pali_pretrain_english", english)


def read_options(given: Mapping) -> Options:
    """Options of a dict. Raises ValueError with the nearest known name for an option, task or language unknown."""
    fields = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        _known(name, fields, "Data.options has the key")
    options = Options(**given)
    for name in options.sources:
        _known(name, ("classification", *MILLIONS), "Data.options['sources'] names task")
    for name, languages in options.languages.items():
        _known(name, MULTILINGUAL, "Data.options['languages'] names task")
        codes(languages)
    return options


def add_classification(data: Data, options: Options) -> None:
    where = options.sources.get("classification")
    classification("classification", data, lines(options.classes), where, options.crop)


def add_tasks(data: Data, options: Options) -> None:
    """Registers the eight tasks."""
    _add_multilingual(data, options, {name: codes(chosen) for name, chosen in options.languages.items()})
    where = {name: options.sources.get(name) for name in MILLIONS}
    classes = lines(options.classes)
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


def add_english_tasks(data: Data, options: Options) -> None:
    """Registers "span_corruption_en", "split_cap_en", "captioning_en", "ocr_en", "vqa_en" and "vqg_en"."""
    _add_multilingual(data, options, dict.fromkeys(MULTILINGUAL, ("en",)), "_en")


def _add_multilingual(data: Data, options: Options, languages: Mapping[str, Sequence[str]], ending: str = "") -> None:
    where = {name: options.sources.get(name) for name in MULTILINGUAL}
    of = {name: tuple(languages.get(name, ())) for name in MULTILINGUAL}
    span_corruption(
        f"span_corruption{ending}",
        data,
        where["span_corruption"],
        options.noise_density,
        options.mean_span_length,
        languages=of["span_corruption"],
    )
    split_cap(f"split_cap{ending}", data, where["split_cap"], languages=of["split_cap"])
    captioning(f"captioning{ending}", data, where["captioning"], languages=of["captioning"])
    ocr(f"ocr{ending}", data, where["ocr"], lines(options.unseen_words), languages=of["ocr"])
    vqa(f"vqa{ending}", data, where["vqa"], languages=of["vqa"])
    vqg(f"vqg{ending}", data, where["vqg"], languages=of["vqg"])


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
