"""Published data sets as they are unpacked → data directories, all their splits by one call.

    paligax data build textvqa --published=/downloads/textvqa --data_dir=data/textvqa

Where a file may lie in several places, the first that is there is taken. A split whose annotations aren't there is left
out, and said; of the optional files (OCR strings) too.
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from paligax.data.runtime import tf

Places = tuple[str, ...]  # below the published folder, the first that is there counts


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
      source: kind of source (paligax.data.ingest.READERS).
      files: option of the source → places of its file, pattern or folder. The first option names the annotations.
      options: other options of the source.
      strings: places of a file with OCR strings (paligax.data.ingest.ocr_file), which may be missing.
    """

    source: str
    files: Mapping[str, Places]
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    strings: Places = ()


def _in(name: str, *folders: str) -> Places:
    """A file's places: in one of the folders, or in the published folder itself."""
    return (*(f"{folder}/{name}" for folder in folders), name)


_ALL = {"answers": "all"}
_IMAGES = ("images", "Images", ".")


def _karpathy(split: str) -> Split:
    files = {"path": _in("dataset_coco.json", "annotations", "karpathy"), "images": _IMAGES}
    return Split("coco_captions", files, {"split": split})


def _textcaps(split: str) -> Split:
    folders = ("train_images", "train_val_images/train_images", *_IMAGES)
    files = {"path": _in(f"TextCaps_0.1_{split}.json", "annotations"), "images": folders}
    return Split("textcaps", files, strings=_rosetta(split))


def _rosetta(split: str) -> Places:
    return _in(f"TextVQA_Rosetta_OCR_v0.2_{split}.json", "annotations", "ocr")


def _textvqa(split: str) -> Split:
    folders = ("train_images", "train_val_images/train_images", *_IMAGES)  # val's pictures lie with train's
    files = {"path": _in(f"TextVQA_0.5.1_{split}.json", "annotations"), "images": folders}
    return Split("textvqa", files, _ALL, _rosetta(split))


def _vizwiz(source: str, split: str, options: Mapping[str, str]) -> Split:
    annotations = _in(f"{split}.json", "annotations", "Annotations", "Annotations/Annotations")
    images = (f"{split}/{split}", split, f"images/{split}", *_IMAGES)
    return Split(source, {"path": annotations, "images": images}, options)


def _vqa2(source: str, split: str, prefix: str, options: Mapping[str, str]) -> Split:
    files = {
        "questions": _in(f"{prefix}OpenEnded_mscoco_{split}_questions.json", "Questions", "questions", "annotations"),
        "annotations": _in(f"{prefix}mscoco_{split}_annotations.json", "Annotations", "annotations"),
        "images": ("Images/mscoco", *_IMAGES),
    }
    return Split(source, files, {**_ALL, **options})


def _st_vqa(part: str) -> Split:
    files = {"path": _in("train_task_3.json", "Annotations"), "images": ("train", "train_imgs", "Images/train", ".")}
    return Split("st_vqa", files, {**_ALL, "part": part})


def _gqa(name: str, source: str = "gqa") -> Split:
    return Split(source, {"path": _in(name, "questions", "questions1.2"), "images": _IMAGES})


def _super_glue(folder: str, task: str, file: str) -> Split:
    return Split("super_glue", {"path": (f"{folder}/{file}", file)}, {"task": task})


def _both(folder: str, task: str) -> dict[str, Split]:
    return {
        "train": _super_glue(folder, task, "train.jsonl"),
        "validation": _super_glue(folder, task, "val.jsonl"),
    }


_XGQA = "testdev_balanced_questions_*.json"
_VAL_FOLDERS = ("ILSVRC/Data/CLS-LOC/val", "val", "validation")

# name → split → where it comes from. Splits are train, validation and test; what has only one set to be scored on calls
# it validation, which is what evaluations read.
DATA_SETS: dict[str, dict[str, Split]] = {
    "coco_captions": {
        "train": _karpathy("train,restval"),
        "validation": _karpathy("val"),
        "test": _karpathy("test"),
    },
    "textcaps": {"train": _textcaps("train"), "validation": _textcaps("val")},
    "nocaps": {
        "validation": Split(
            "nocaps",
            {"path": _in("nocaps_val_4500_captions.json", "annotations"), "images": ("images", "val", "val_imgs", ".")},
        )
    },
    "vizwiz_captions": {
        "train": _vizwiz("vizwiz_captions", "train", {}),
        "validation": _vizwiz("vizwiz_captions", "val", {}),
    },
    "coco_35l": {
        split: Split("coco_35l", {"path": _in(f"coco_mt_{name}.jsonl", "annotations"), "images": _IMAGES})
        for split, name in (("train", "train"), ("validation", "dev"))
    },
    "xm3600": {"validation": Split("xm3600", {"path": _in("captions.jsonl", "annotations"), "images": _IMAGES})},
    "vqav2": {
        "train": _vqa2("vqav2", "train2014", "v2_", {}),
        "validation": _vqa2("vqav2", "val2014", "v2_", {}),
    },
    # OK-VQA's other field has the answers' stems ("surf"), which nobody would say.
    "okvqa": {
        "train": _vqa2("okvqa", "train2014", "", {"answer_field": "raw_answer"}),
        "validation": _vqa2("okvqa", "val2014", "", {"answer_field": "raw_answer"}),
    },
    "textvqa": {"train": _textvqa("train"), "validation": _textvqa("val")},
    "st_vqa": {"train": _st_vqa("train"), "validation": _st_vqa("validation")},
    "vizwiz_vqa": {
        "train": _vizwiz("vizwiz_vqa", "train", _ALL),
        "validation": _vizwiz("vizwiz_vqa", "val", _ALL),
    },
    "gqa": {
        "train": _gqa("train_balanced_questions.json"),
        "validation": _gqa("testdev_balanced_questions.json"),
    },
    "xgqa": {
        "train": _gqa("train_balanced_questions*.json", "xgqa"),  # translations of it, where there are any
        "validation": Split(
            "xgqa", {"path": _in(_XGQA, "annotations/zero_shot", "zero_shot", "questions"), "images": _IMAGES}
        ),
    },
    "xnli": {
        "train": Split("xnli", {"path": _in("multinli_1.0_train.txt", "multinli_1.0", "XNLI-MT-1.0/multinli")}),
        "validation": Split("xnli", {"path": _in("xnli.dev.tsv", "XNLI-1.0")}),
        "test": Split("xnli", {"path": _in("xnli.test.tsv", "XNLI-1.0")}),
    },
    "xquad": {
        "train": Split("squad", {"path": _in("train-v1.1.json", "squad")}),
        "validation": Split("xquad", {"path": _in("xquad.*.json", "xquad")}),
    },
    "tydiqa": {
        "train": Split("tydiqa", {"path": _in("tydiqa-goldp-v1.1-train.json", "tydiqa")}),
        "validation": Split("tydiqa", {"path": _in("tydiqa-goldp-v1.1-dev.json", "tydiqa")}),
    },
    "boolq": _both("BoolQ", "boolq"),
    "cb": _both("CB", "cb"),
    "copa": _both("COPA", "copa"),
    "rte": _both("RTE", "rte"),
    "wic": _both("WiC", "wic"),
    "imagenet": {
        "validation": Split("imagenet", {"path": _VAL_FOLDERS}),
    },
}
SYNSETS = "LOC_synset_mapping.txt"  # "n01440764 tench, Tinca tinca", a class a line
SOLUTION = "LOC_val_solution.csv"


def build(
    name: str, published: str, data_dir: str, read_text: bool = False, beam_arguments: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Builds the splits of a data set that are there; what was built before from the same files stays as it is.

    Args:
      name: one of DATA_SETS.
      published: folder in which the published files were unpacked.
      data_dir: directory of shards and manifest.
      read_text: read the strings of pictures that have none (paligax.data.ingest.ocr).
      beam_arguments: as Beam's own command lines take them.

    Returns:
      split → summary (paligax.data.ingest.pipeline.build).

    Raises:
      ValueError: for another name.
      FileNotFoundError: no split is there; says what was looked for.
    """
    if name not in DATA_SETS:
        near = difflib.get_close_matches(name, DATA_SETS, 1)
        raise ValueError(
            f"No published data set {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
            f"Known: {', '.join(DATA_SETS)}."
        )
    there = {split: plan for split, plan in DATA_SETS[name].items() if _found(published, _annotations(plan))}
    if not there:
        wanted = [f"  {split}: {' or '.join(_annotations(plan))}" for split, plan in DATA_SETS[name].items()]
        raise FileNotFoundError(f"{published!r} holds no split of {name}. Looked for:\n" + "\n".join(wanted))
    from paligax.data import ingest
    from paligax.data.ingest import pipeline

    summaries = {}
    for split, plan in DATA_SETS[name].items():
        if split not in there:
            print(f"{split}: left out, there is no {' or '.join(_annotations(plan))} in {published}")
            continue
        reader = ingest.make_reader(plan.source, **_options(name, published, plan))
        stages = _stages(published, plan, read_text)
        summaries[split] = pipeline.build(reader, data_dir, split, stages, beam_arguments)
        print(f"{split}: {summaries[split]['records']:,} records")
    if name == "imagenet":
        _write_classes(published, data_dir)
    return summaries


def _annotations(plan: Split) -> Places:
    return next(iter(plan.files.values()))


def _options(name: str, published: str, plan: Split) -> dict[str, str]:
    """The source's options: a file that isn't there is looked for at its first place, and missed by the reader."""
    files = {
        option: os.path.join(published, _found(published, places) or places[0]) for option, places in plan.files.items()
    }
    solution = os.path.join(published, SOLUTION)
    if name == "imagenet" and tf.io.gfile.exists(solution):
        files["solution"] = solution
    return {**files, **plan.options}


def _stages(published: str, plan: Split, read_text: bool) -> list[Any]:
    stages: list[Any] = []
    if plan.strings:
        if place := _found(published, plan.strings):
            from paligax.data.ingest.ocr_file import OcrOfFile

            stages.append(OcrOfFile(os.path.join(published, place)))
        elif not read_text:
            print(f"  without OCR strings: there is no {plan.strings[-1]}, and --read_text isn't given")
    if read_text:
        from paligax.data.ingest.ocr import ReadText

        stages.append(ReadText())
    return stages


def _found(published: str, places: Places) -> str:
    """The first place where something is; "" where nothing is at any."""
    for place in places:
        path = os.path.join(published, place)
        if tf.io.gfile.glob(path) if "*" in place else tf.io.gfile.exists(path):
            return place
    return ""


def _write_classes(published: str, data_dir: str) -> None:
    """classes.txt and class_names.txt, of which the task is told; each class by the first of its names."""
    path = os.path.join(published, SYNSETS)
    if not tf.io.gfile.exists(path):
        print(f"  no class names: there is no {SYNSETS}; write classes.txt (labels) and class_names.txt by hand")
        return
    with tf.io.gfile.GFile(path) as f:
        rows = [line.strip().partition(" ") for line in f.read().splitlines() if line.strip()]
    for file, column in (("classes.txt", [r[0] for r in rows]), ("class_names.txt", [_first(r[2]) for r in rows])):
        with tf.io.gfile.GFile(os.path.join(data_dir, file), "w") as f:
            f.write("".join(f"{value}\n" for value in column))


def _first(names: str) -> str:
    return names.split(",")[0].strip()
