"""Fine-tuning and evaluation on published data sets, one file a family; a run names this module in Data.task_modules.

    captions    coco_captions, textcaps, nocaps, vizwiz_captions; coco_35l and xm3600 in many languages
    questions   vqav2, okvqa, textvqa, st_vqa, vizwiz_vqa; gqa and xgqa
    text        xnli, xquad, tydiqa, boolq, cb, copa, rte, wic; mixture super_glue; span_corruption as in pretraining
    imagenet    zero-shot classification

A task has its data set's name, and so does `paligax data build NAME --published=…` (tasks.finetuning.published).
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence

from paligax.data import Data
from tasks.finetuning.captions import captions
from tasks.finetuning.imagenet import imagenet
from tasks.finetuning.questions import questions
from tasks.finetuning.text import text_task
from tasks.parts import add_mixture
from tasks.pretrain import lines
from tasks.span_corruption import span_corruption

CAPTIONS = {
    "coco_captions": {},
    "textcaps": {"with_ocr": True},
    "nocaps": {},
    "vizwiz_captions": {"with_ocr": True},
    "coco_35l": {"many_languages": True},
    "xm3600": {"many_languages": True},
}
QUESTIONS = {
    "vqav2": {},
    "okvqa": {},
    "textvqa": {"with_ocr": True},
    "st_vqa": {"with_ocr": True, "metric": "anls"},
    "vizwiz_vqa": {"with_ocr": True, "metric": "vizwiz_accuracy"},
    "gqa": {"many_languages": True, "metric": "exact_match"},
    "xgqa": {"many_languages": True, "metric": "exact_match"},
}
TEXT = {
    "xnli": {"form": "xnli"},
    "xquad": {"form": "squad", "metric": "squad"},
    "tydiqa": {"form": "squad", "metric": "squad"},
    "boolq": {"form": "boolq"},
    "cb": {"form": "cb"},
    "copa": {"form": "copa"},
    "rte": {"form": "rte"},
    "wic": {"form": "wic"},
}
# Training examples of each (SuperGLUE, table 1): the mixture's proportions, as T5 mixed them.
SUPER_GLUE = {"boolq": 9427, "cb": 250, "copa": 400, "rte": 2500, "wic": 6000}
NAMES = (*CAPTIONS, *QUESTIONS, *TEXT, "imagenet", "span_corruption")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run may say in Data.options.

    Attributes:
      sources: task → directory of its records.
      root: directory in which each task's directory has the task's name; for tasks that `sources` doesn't name. Where
        neither says it, a task reads Data.data_dir.
      ocr: False leaves the images' strings out of the prompts of those tasks that have them there.
      answers: which of people's answers is the target: "drawn" or "most_frequent" (tasks.finetuning.questions).
      classes, class_names: of imagenet: labels as the records have them and what they are called, in the same order;
        lists, or paths of files with one a line.
    """

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    root: str = ""
    ocr: bool = True
    answers: str = "drawn"
    classes: Sequence[str] | str = ()
    class_names: Sequence[str] | str = ()


def register(data: Data) -> None:
    """Fills seqio's registries: every task whose directory is known, and the mixture super_glue."""
    options = read_options(data.options)
    where = {name: _directory(name, data, options) for name in NAMES}
    there = [name for name in NAMES if where[name] or name == data.mixture_or_task]
    for name in there:
        if name in CAPTIONS:
            captions(name, data, where[name], **_with_ocr(CAPTIONS[name], options))
        elif name in QUESTIONS:
            questions(name, data, where[name], answers=options.answers, **_with_ocr(QUESTIONS[name], options))
        elif name in TEXT:
            text_task(name, data, where[name], **TEXT[name])
    if "span_corruption" in there and data.vocabulary.num_sentinels:
        span_corruption("span_corruption", data, where["span_corruption"])
    if options.classes or data.mixture_or_task == "imagenet":
        imagenet("imagenet", data, where["imagenet"], lines(options.classes), lines(options.class_names))
    if all(name in there for name in SUPER_GLUE):
        add_mixture("super_glue", SUPER_GLUE)


def read_options(given: Mapping) -> Options:
    """Options of a dict. Raises ValueError with the nearest known name for an option or a task unknown."""
    fields = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        _known(name, fields, "Data.options has the key")
    options = Options(**given)
    for name in options.sources:
        _known(name, NAMES, "Data.options['sources'] names task")
    return options


def _directory(name: str, data: Data, options: Options) -> str | None:
    return options.sources.get(name) or (os.path.join(options.root, name) if options.root else data.data_dir)


def _with_ocr(arguments: Mapping, options: Options) -> dict:
    return {**arguments, **({"with_ocr": options.ocr} if "with_ocr" in arguments else {})}


def _known(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise ValueError(
            f"{what} {name!r}, which is not known{f'; did you mean {near[0]!r}?' if near else '.'} "
            f"Known: {', '.join(names)}."
        )
