"""`paligax data build | inspect | stats`: the verbs of those who bring data."""

import argparse
import dataclasses
import importlib
import pathlib
from collections.abc import Callable
from inspect import getdoc
from typing import Any

# name → module whose build(data_dir, **options) makes it
DATA_SETS = {"mini_webli": "tasks.mini.build"}
LANGUAGES = "tasks.languages"  # module whose LANGUAGES are those that tasks know
BUILD_OPTIONS = {
    "size": "number of training scenes",
    "seed": "of everything drawn",
    "scale": "multiplies the numbers of object classes and words",
    "image_size": "side of the pictures in pixels",
}
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
}


def build(arguments: argparse.Namespace) -> None:
    """Build the embedded data set, or turn foreign data into shards; prints the directory that DATA_DIR names.

    Foreign data: --source=KIND, the source's own options (--source=KIND --help lists them), then what the records go
    through, in this order: --identify_languages, --read_text, --score_with, --near_duplicates_of, --keep_top. A build
    that was stopped goes on where it was. The split's summary is written to ingest-SPLIT.json and ingest-SPLIT.html.
    """
    if bool(arguments.name) == bool(arguments.source):
        arguments.parser.error(f"give either a data set ({', '.join(DATA_SETS)}) or --source=KIND.")
    if arguments.name:
        _no_more(arguments)
        options = {name: value for name in BUILD_OPTIONS if (value := getattr(arguments, name)) is not None}
        print(importlib.import_module(DATA_SETS[arguments.name]).build(arguments.data_dir, **options))
        return
    _ingest(arguments)


def _ingest(arguments: argparse.Namespace) -> None:
    words, beam = [], list(arguments.beam)
    for word in arguments.unknown:
        (beam if word.startswith("--beam.") else words).append(word)
    fields = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals:
            arguments.parser.error(f"{word!r} is not known: options of a source are written --name=value.")
        fields[name] = value
    _require_ingest()
    from paligax.data import ingest
    from paligax.data.ingest import choosing, pipeline
    from paligax.reports.ingest_report import write_ingest_report

    split = arguments.from_split or arguments.split
    if split and ingest.has_option(arguments.source, "split"):
        fields.setdefault("split", split)
    reader = ingest.make_reader(arguments.source, **fields)
    beam = [f"--{word.removeprefix('--beam.')}" for word in beam]
    chosen = choosing.stages(
        reader,
        beam,
        arguments.data_dir,
        identify_languages=arguments.identify_languages,
        read_text=arguments.read_text,
        score_with=arguments.score_with,
        near_duplicates_of=arguments.near_duplicates_of,
        radius=arguments.radius,
        keep_top=arguments.keep_top,
        per_language=arguments.per_language,
    )
    languages = [code for code in (arguments.count_languages or "").split(",") if code]
    summary = pipeline.build(
        reader, arguments.data_dir, arguments.split or "train", chosen, beam, arguments.verify_images, languages
    )
    if summary["built_before"]:
        print("Built before from the same files: nothing was read.")
    report = write_ingest_report(pathlib.Path(arguments.data_dir, f"ingest-{summary['split']}.html"), summary)
    for title, key in (("Removed", "removed"), ("Left out or changed", "problems")):
        for reason, number in summary[key].items():
            print(f"{title}: {number:,} × {reason}")
    print(f"{summary['records']:,} records in {summary['shards']:,} shards; {report}")
    print(arguments.data_dir)


def _require_ingest() -> None:
    try:
        importlib.import_module("apache_beam")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Foreign data are read by Apache Beam, which isn't installed: pip install 'paligax[ingest]'."
        ) from error


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
    added.set_defaults(takes_unknown=True, beam=[])
    added.add_argument("-h", "--help", action=_Help, help="this; behind --source=KIND that source's own options")
    added.add_argument("name", nargs="?", choices=list(DATA_SETS), help="the embedded data set")
    added.add_argument("--data_dir", required=True, metavar="DIR")
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


class _Help(argparse._HelpAction):
    """--help; behind --source=KIND, that source's options."""

    def __call__(self, parser, namespace, values, option_string=None):
        if not namespace.source:
            super().__call__(parser, namespace, values, option_string)
        from paligax.data import ingest

        cls = ingest.reader_class(namespace.source)
        print(f"--source={namespace.source}: {getdoc(cls)}\n\noptions of the source:")
        for field in dataclasses.fields(cls):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            print(f"  --{field.name}={'…  (required)' if required else repr(field.default)}")
        parser.exit()


def _no_more(arguments: argparse.Namespace) -> None:
    if arguments.unknown:
        arguments.parser.error(f"{arguments.unknown[0]!r} is not known.")
