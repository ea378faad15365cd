"""Foreign data → ArrayRecord shards: readers of many formats, stages that annotate, score, filter and deduplicate.

    from paligax.data import ingest
    from paligax.data.ingest.pipeline import build

    summary = build(ingest.make_reader("webdataset", path="crawl/*.tar"), "data/crawl", "train")

Needs ``pip install paligax[ingest]``.
"""

import dataclasses
import difflib
import importlib
import typing
from typing import Any

# Kind of source → its reader, "module:class" below paligax.data.ingest.readers.
READERS = {
    "webdataset": "webdataset:WebDataset",
    "parquet": "parquet:Parquet",
    "cc3m": "conceptual_captions:Cc3m",
    "cc12m": "conceptual_captions:Cc12m",
    "jsonl": "jsonl:JsonLines",
    "text": "plain_text:PlainText",
    "tfds": "tfds_source:Tfds",
    "records": "records_source:Records",
    "coco_captions": "coco:CocoCaptions",
    "coco_instances": "coco:CocoInstances",
    "objects365": "coco:Objects365",
    "coco_35l": "crossmodal:Coco35L",
    "xm3600": "crossmodal:Xm3600",
    "visual_genome": "visual_genome:VisualGenome",
    "open_images": "open_images:OpenImages",
    "vqav2": "vqa:Vqa2",
    "okvqa": "vqa:Vqa2",
    "textvqa": "vqa:TextVqa",
    "vizwiz_vqa": "vqa:VizWizVqa",
    "vq2a": "vq2a:Vq2a",
    "st_vqa": "st_vqa:StVqa",
    "gqa": "gqa:Gqa",
    "xgqa": "gqa:Gqa",
    "textcaps": "coco:CocoCaptions",
    "nocaps": "coco:CocoCaptions",
    "vizwiz_captions": "coco:CocoCaptions",
    "imagenet": "image_folders:ImageFolders",
    "xnli": "nli:Xnli",
    "squad": "squad:Squad",
    "xquad": "squad:Squad",
    "tydiqa": "squad:Squad",
    "super_glue": "super_glue:SuperGlue",
}


def reader_class(kind: str) -> type:
    """The reader of a kind of source. Raises ValueError with the nearest known kind."""
    if kind not in READERS:
        near = difflib.get_close_matches(kind, READERS, 1)
        raise ValueError(
            f"No kind of source {kind!r}{f'; did you mean {near[0]!r}?' if near else '.'} Known: {', '.join(READERS)}."
        )
    module, name = READERS[kind].split(":")
    return getattr(importlib.import_module(f"paligax.data.ingest.readers.{module}"), name)


def has_option(kind: str, name: str) -> bool:
    """Whether a kind of source has an option of this name."""
    return any(field.name == name for field in dataclasses.fields(reader_class(kind)))


def make_reader(kind: str, **fields: Any) -> Any:
    """A reader of its fields; texts of a command line become the fields' types.

    Raises ValueError for a kind or a field that isn't known, a missing field, or a value of another type.
    """
    cls = reader_class(kind)
    known = {field.name: field for field in dataclasses.fields(cls)}
    types = typing.get_type_hints(cls)
    if "source" in known:
        fields = {"source": kind, **fields}
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ValueError(
                f"Source {kind!r} has no option {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
                f"Options: {', '.join(known)}."
            )
    missing = [
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and name not in fields
    ]
    if missing:
        raise ValueError(f"Source {kind!r} needs {' and '.join(f'--{name}' for name in missing)}.")
    return cls(**{name: _typed(name, value, types[name]) for name, value in fields.items()})


def _typed(name: str, value: Any, wanted: Any) -> Any:
    if not isinstance(value, str) or wanted is str:
        return value
    choices = [t for t in (typing.get_args(wanted) or (wanted,)) if t is not type(None)]
    if bool in choices and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in choices:
        if kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    if str in choices:
        return value
    if any(typing.get_origin(kind) in (tuple, list) or kind in (tuple, list) for kind in [wanted, *choices]):
        return tuple(part for part in value.split(",") if part)
    raise ValueError(f"--{name}={value!r}: expected {getattr(wanted, '__name__', wanted)}.")
