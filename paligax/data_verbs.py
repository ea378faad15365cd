"""`paligax data build | inspect | stats`: the verbs of those who bring data."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import pathlib
from collections.abc import Callable, Iterator
from inspect import getdoc
from typing import Any

from paligax import configuration

# name → module whose build(data_dir, **options) makes it
DATA_SETS = {"mini_webli": "tasks.mini.build"}
# Published data sets, all their splits by one call: name → what of it is unpacked in the folder --published.
PUBLISHED_MODULE = "tasks.finetuning.published"
PUBLISHED = {
    "coco_captions": "dataset_coco.json (Karpathy's splits), train2014/, val2014/",
    "textcaps": "TextCaps_0.1_*.json, train_images/, TextVQA_Rosetta_OCR_v0.2_*.json",
    "nocaps": "nocaps_val_4500_captions.json, images/",
    "vizwiz_captions": "annotations/, train/, val/",
    "coco_35l": "coco_mt_*.jsonl, COCO's folders of images",
    "xm3600": "captions.jsonl, images/",
    "vqav2": "v2_OpenEnded_mscoco_*, v2_mscoco_*, COCO's folders of images",
    "okvqa": "OpenEnded_mscoco_*, mscoco_*, COCO's folders of images",
    "textvqa": "TextVQA_0.5.1_*.json, train_images/, TextVQA_Rosetta_OCR_v0.2_*.json",
    "st_vqa": "train_task_3.json, train/",
    "vizwiz_vqa": "annotations/, train/, val/",
    "gqa": "train_balanced_questions.json, testdev_balanced_questions.json, images/",
    "xgqa": "the same, and zero_shot/testdev_balanced_questions_*.json",
    "xnli": "multinli_1.0_train.txt, xnli.dev.tsv, xnli.test.tsv",
    "xquad": "train-v1.1.json, xquad.*.json",
    "tydiqa": "tydiqa-goldp-v1.1-train.json, …-dev.json",
    "boolq": "SuperGLUE's BoolQ/",
    "cb": "SuperGLUE's CB/",
    "copa": "SuperGLUE's COPA/",
    "rte": "SuperGLUE's RTE/",
    "wic": "SuperGLUE's WiC/",
    "imagenet": "val/, LOC_val_solution.csv, LOC_synset_mapping.txt",
}
MOST = 10_000_000  # of whatever an option of a data set counts
LANGUAGES = "tasks.languages"  # module whose LANGUAGES are those that tasks know
BUILD_OPTIONS = {
    "size": "number of training scenes",
    "seed": "of everything drawn",
    "scale": "multiplies the numbers of object classes and words",
    "image_size": "side of the pictures in pixels",
}
# What is asked of foreign data alone.
FOREIGN = (
    *("split", "from_split", "count_languages", "verify_images", "identify_languages", "read_text", "score_with"),
    *("near_duplicates_of", "radius", "keep_top", "per_language"),
)
# Kind of source: what it reads. The readers' own options are their fields: `paligax data build --source=KIND --help`.
SOURCES = {
    "webdataset": "tars of img2dataset's kind (.jpg .txt .json)",
    "parquet": "parquet with image bytes",
    "cc3m": "CC3M's TSV (caption, url) with local images",
    "cc12m": "CC12M's TSV (url, caption) with local images",
    "jsonl": "your own: a JSON object a line, and a folder of images",
    "text": "plain text for span corruption",
    "tfds": "any prepared TFDS data set",
    "records": "shards of this schema again: to score, filter, deduplicate them",
    "coco_captions": "captions_*.json, dataset_coco.json, VizWiz-Captions, TextCaps, NoCaps",
    "coco_instances": "instances_*.json: boxes",
    "objects365": "Objects365's JSON: boxes",
    "coco_35l": "coco_mt_*.jsonl",
    "xm3600": "Crossmodal-3600's captions.jsonl",
    "visual_genome": "objects, regions and questions",
    "open_images": "boxes and verified image-level labels of the CSVs",
    "vqav2": "VQAv2's questions and annotations",
    "okvqa": "OKVQA's questions and annotations",
    "textvqa": "TextVQA_*.json",
    "vizwiz_vqa": "VizWiz-VQA's JSON",
    "vq2a": "VQ²A's question-answer triplets",
    "st_vqa": "ST-VQA's train_task_3.json",
    "gqa": "GQA's *_questions.json (xgqa: xGQA's)",
    "xgqa": "testdev_balanced_questions_*.json",
    "textcaps": "TextCaps_*.json",
    "nocaps": "nocaps_val_4500_captions.json",
    "vizwiz_captions": "VizWiz-Captions' JSON",
    "imagenet": "a folder of pictures for each class",
    "xnli": "XNLI, MultiNLI and its translations: TSV",
    "squad": "SQuAD's JSON (xquad, tydiqa: theirs)",
    "xquad": "xquad.*.json",
    "tydiqa": "tydiqa-goldp-v1.1-*.json",
    "super_glue": "BoolQ, CB, COPA, RTE, WiC: JSON lines",
}


def build(arguments: argparse.Namespace) -> None:
    """Build the embedded data set, or turn foreign data into shards; prints the directory that DATA_DIR names.

    A published data set: NAME --published=FOLDER makes all splits whose files are in the folder (listed below).

    Foreign data: --source=KIND, the source's own options (--source=KIND --help lists them), then what the records go
    through, in this order: --identify_languages, --read_text, --score_with, --near_duplicates_of, --keep_top. A build
    that was stopped goes on where it was. The split's summary is written to ingest-SPLIT.json and ingest-SPLIT.html.
    """
    error = arguments.parser.error
    if arguments.help:
        print_options(arguments.source) if arguments.source else arguments.parser.print_help()
        return
    if arguments.name and arguments.name not in (*DATA_SETS, *PUBLISHED):
        near = configuration.nearest(arguments.name, (*DATA_SETS, *PUBLISHED))
        error(f"no data set {arguments.name!r}.{near} Options of a source are written --name=value.")
    if bool(arguments.name) == bool(arguments.source):
        error(f"give either a data set ({', '.join(DATA_SETS)}) or --source=KIND.")
    if not arguments.data_dir:
        error("give --data_dir=DIR, where the data set shall be.")
    if arguments.name in PUBLISHED:
        _published(arguments)
        return
    if arguments.name:
        if arguments.unknown or arguments.beam:
            error(f"{[*arguments.unknown, *arguments.beam][0]!r} is not known.")
        for name in FOREIGN:
            if getattr(arguments, name):
                error(f"--{name} is of foreign data (--source=KIND), not of {arguments.name}.")
        options = {name: value for name in BUILD_OPTIONS if (value := getattr(arguments, name)) is not None}
        for name, value in options.items():
            if not (0 if name == "seed" else 1) <= value <= MOST:
                error(f"--{name}={value}: expected a whole number from {int(name != 'seed')} to {MOST:,}.")
        print(importlib.import_module(DATA_SETS[arguments.name]).build(arguments.data_dir, **options))
        return
    _ingest(arguments)


def _published(arguments: argparse.Namespace) -> None:
    if not arguments.published:
        arguments.parser.error(f"{arguments.name} needs --published=FOLDER, which holds {PUBLISHED[arguments.name]}.")
    for name in (*BUILD_OPTIONS, *FOREIGN):
        if name != "read_text" and getattr(arguments, name):
            arguments.parser.error(f"--{name} is not of {arguments.name}: build from --source=KIND to say it.")
    words = [*arguments.beam, *(word.removeprefix("--beam.") for word in arguments.unknown)]
    for word in arguments.unknown:
        if not word.startswith("--beam."):
            arguments.parser.error(f"{word!r} is not known.")
    _require_ingest()
    module = importlib.import_module(PUBLISHED_MODULE)
    beam = [f"--{word}" for word in words]
    module.build(arguments.name, arguments.published, arguments.data_dir, arguments.read_text, beam)
    print(arguments.data_dir)


def _ingest(arguments: argparse.Namespace) -> None:
    for name in BUILD_OPTIONS:
        if getattr(arguments, name) is not None:
            arguments.parser.error(f"--{name} is of {', '.join(DATA_SETS)}, not of foreign data.")
    words, beam = [], list(arguments.beam)
    for word in arguments.unknown:
        (beam if word.startswith("--beam.") else words).append(word)
    fields = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals:
            arguments.parser.error(f"{word!r} is not known: options of a source are written --name=value.")
        fields[name] = value
    beam = [f"--{word.removeprefix('--beam.')}" for word in beam]
    languages = [code for code in (arguments.count_languages or "").split(",") if code]
    split = arguments.split or "train"
    with _mistakes(arguments.parser):  # all that can be told before anything is read
        from paligax.data import ingest

        if (arguments.from_split or arguments.split) and ingest.has_option(arguments.source, "split"):
            fields.setdefault("split", arguments.from_split or arguments.split)
        elif arguments.from_split:
            raise ValueError(f"--from_split={arguments.from_split}: source {arguments.source!r} has no splits.")
        reader = ingest.make_reader(arguments.source, **fields)
        if not split.replace("_", "").isalnum() or not split.isascii():
            raise ValueError(f"--split={split}: use letters, digits and underscores, like train or validation.")
        _require_ingest()
        from paligax.data import items
        from paligax.data.ingest import choosing
        from paligax.data.ingest.beam_options import options

        items.items(tuple(languages))
        options(beam)
        choice = choosing.Choice(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(choosing.Choice)})
    from paligax.data.ingest import pipeline
    from paligax.reports.ingest_report import page_path, write_ingest_report

    directory = arguments.data_dir
    chosen = choice.stages(reader, directory, beam)
    summary = pipeline.build(reader, directory, split, chosen, beam, arguments.verify_images, languages)
    if summary["built_before"]:
        print("Built before from the same files: nothing was read.")
    report = write_ingest_report(page_path(directory, summary["split"]), summary)
    for title, key in (("Removed", "removed"), ("Left out or changed", "problems")):
        for reason, number in summary[key].items():
            print(f"{title}: {number:,} × {reason}")
    dropped, removed = (sum(summary[key].values()) for key in ("dropped", "removed"))
    print(f"{summary['read']:,} records read, {dropped:,} left out, {removed:,} removed")
    print(f"{summary['records']:,} records in {summary['shards']:,} shards; {report}")
    print(directory)


@contextlib.contextmanager
def _mistakes(parser: argparse.ArgumentParser) -> Iterator[None]:
    """A ValueError in here is a mistake in the words of the command line."""
    try:
        yield
    except ValueError as error:
        if "PALIGAX_TRACEBACK" in os.environ:
            raise
        parser.exit(2, f"{parser.prog}: {error}\n")


def _require_ingest() -> None:
    from paligax.data.ingest import notices

    notices.leave_out()
    try:
        importlib.import_module("apache_beam")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Foreign data are read by Apache Beam, which isn't installed: pip install 'paligax[ingest]'."
        ) from error


def print_options(kind: str) -> None:
    """What a source reads, and its options."""
    from paligax.data import ingest

    try:
        cls = ingest.reader_class(kind)
    except ValueError as error:
        raise configuration.ConfigurationError([str(error)]) from error
    print(f"--source={kind}: {getdoc(cls)}\n\noptions of the source:")
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        choices = field.metadata.get("choices", ())
        one_of = f"  ({' | '.join(choices)})" if choices else ""
        print(f"  --{field.name}={'…  (required)' if required else repr(field.default)}{one_of}")
    print("\nOptions of all sources: paligax data build --help")


def hash_images(arguments: argparse.Namespace) -> None:
    """Hash the images of evaluation sets, for `data build --near_duplicates_of`."""
    from paligax.data.ingest import duplicates

    number, problems = duplicates.hash_images(arguments.images, arguments.out)
    for problem in problems[:20]:
        print(f"{problem.where}: {problem.reason}")
    print(f"{number:,} images hashed, {len(problems):,} not; {arguments.out}")


def inspect(arguments: argparse.Namespace) -> None:
    """Draw a contact sheet of what training is fed: image, prompt, target, task."""
    data = arguments.parse(arguments, ["Data"]).build("Data")
    from paligax.reports import contact_sheet

    stream = dataclasses.replace(data, batch_size=arguments.num).stream()
    batch = next(stream.batches()).batch
    if "labels" in data.feature_lengths:
        samples = [
            contact_sheet.Sample(stream.task_names[task], "labels", ", ".join(map(str, labels.nonzero()[0])), image)
            for task, labels, image in zip(batch.task, batch.labels, batch.image, strict=True)
        ]
    else:
        samples = contact_sheet.samples_of(batch, stream.task_names, data.vocabulary)
    credit = pathlib.Path(data.data_dir or "", "ATTRIBUTION")
    attribution = credit.read_text("utf-8") if credit.is_file() else ""
    for path in contact_sheet.write_contact_sheet(
        arguments.out, samples, title=data.mixture_or_task, attribution=attribution
    ):
        print(path)


def stats(arguments: argparse.Namespace) -> None:
    """Count what a mixture's tasks make of their data: lengths, truncation, languages, tokens, skipped examples."""
    data = arguments.parse(arguments, ["Data"]).build("Data")
    from paligax.data import statistics

    found = statistics.statistics(data, arguments.num, importlib.import_module(LANGUAGES).LANGUAGES)
    statistics.print_table(found)
    if arguments.json:
        statistics.write(found, arguments.json)


def add(verbs: Any, verb: Callable, style: dict[str, Any]) -> None:
    """Adds ``data`` and its verbs to the command line's."""
    data = verbs.add_parser("data", help="Build or inspect data.", **style)
    data.set_defaults(run=lambda arguments: data.print_help(), parser=data, takes_unknown=False)
    group = data.add_subparsers(metavar="VERB")

    added = verb(group, "build", build, takes_gin=False, add_help=False)
    added.epilog = "sources:\n" + "".join(f"  {kind:<16}{what}\n" for kind, what in SOURCES.items())
    added.epilog += "\npublished data sets (NAME --published=FOLDER):\n"
    added.epilog += "".join(f"  {name:<16}{what}\n" for name, what in PUBLISHED.items())
    added.set_defaults(takes_unknown=True, beam=[])
    added.add_argument("-h", "--help", action="store_true", help="this; with --source=KIND that source's own options")
    what = f"the embedded data set, {', '.join(DATA_SETS)}, or a published one"
    added.add_argument("name", nargs="?", metavar="NAME", help=what)
    added.add_argument("--published", metavar="FOLDER", help="where the files of a published data set were unpacked")
    added.add_argument("--data_dir", metavar="DIR", help="where it shall be (required)")
    for name, meaning in BUILD_OPTIONS.items():
        added.add_argument(f"--{name}", type=int, metavar="N", help=f"{meaning} (mini_webli)")
    added.add_argument("--source", metavar="KIND", help="foreign data, listed below")
    added.add_argument("--split", help="which split is built, others stay (train); of a source with splits, that one")
    added.add_argument("--from_split", metavar="NAME", help="which split of such a source, if called otherwise")
    added.add_argument(
        "--count_languages", metavar="CODES", help="languages whose own entries are counted beside English's: de,fr"
    )
    added.add_argument("--verify_images", action="store_true", help="decode every image, leave out those that fail")
    added.add_argument("--identify_languages", action="store_true", help="where the source doesn't say")
    added.add_argument("--read_text", action="store_true", help="optical character recognition")
    added.add_argument("--score_with", metavar="PATH", help="weights of a dual encoder (SigLIP): image-text similarity")
    added.add_argument("--near_duplicates_of", metavar="FILE", help="what `paligax data hash` wrote: removed from here")
    added.add_argument("--radius", type=int, metavar="BITS", help="Hamming distance up to which two hashes are alike")
    added.add_argument("--keep_top", type=float, metavar="SHARE", help="keep the best by score (0.1: a tenth, exactly)")
    added.add_argument("--per_language", action="store_true", help="the share is one of each language's records")
    added.add_argument(
        "--beam.runner",
        dest="beam",
        action="append",
        type=lambda value: f"runner={value}",
        metavar="NAME",
        help="Beam's runner; any other of its options likewise: --beam.direct_num_workers=8. Default: this machine",
    )
    added = verb(group, "hash", hash_images, takes_gin=False)
    added.add_argument("--images", required=True, metavar="PATH", help="a folder of images, or a pattern of shards")
    added.add_argument("--out", required=True, metavar="FILE")
    added = verb(group, "inspect", inspect)
    added.add_argument("--out", required=True, metavar="FILE", help="FILE.png and FILE.html are written")
    added.add_argument("--num", type=int, default=24, metavar="N", help="number of examples")
    added = verb(group, "stats", stats)
    added.add_argument("--num", type=int, default=1000, metavar="N", help="examples of each task, at most")
    added.add_argument("--json", metavar="FILE", help="write the figures there")
